//! Circuits: registering, listing, taking off the list, and what a proof of one costs.

use std::sync::Arc;

use caldera_kernels::Device;
use caldera_prover::groth16::{Job, ProvingKey};
use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::{
    CircuitInfo, CircuitState, CurveName, Digest, Estimate, EstimateProof, JobError, ListCircuits,
    RegisterCircuit, UnregisterCircuit, Unregistered,
};
use caldera_scheduler::arbiter;
use caldera_scheduler::queue::Work;
use caldera_scheduler::{JobId, Nanos, TenantId};
use caldera_store::circuits::{Change, Check, CircuitRow, State};
use serde_json::Value;

use super::{Flow, Question, Service, as_json};
use crate::arbiter_thread::Command;
use crate::clerk::Task;
use crate::clock::unix_time;
use crate::registrar::{Examination, Request};
use crate::tables;

/// A circuit of one tenant.
pub(super) struct Circuit {
    pub(super) row: CircuitRow,
    /// There when it is ready, unless it is away.
    key: Option<Arc<ProvingKey>>,
    /// The verification key as it is shown, once it is known.
    verification_key: Option<String>,
    /// Where the key is while it is given back.
    pub(super) away: Option<Away>,
    /// Jobs that wait for the key to be read again.
    waiting: Vec<JobId>,
    failure: Option<JobError>,
    /// Whether it was registered before this process began.
    restored: bool,
    /// Core time of a proof: guessed from the size, then learnt from each proof.
    core: Nanos,
    /// The same, and nothing that was guessed: by this a deadline is refused.
    measured: Option<Nanos>,
    /// Bytes of memory that its newest job has held.
    job_bytes: Option<u64>,
}

/// What has become of a key that is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Away {
    /// Its file may be there still.
    Leaving,
    /// It is not there.
    Gone,
    /// It is being read.
    Returning,
}

impl Service {
    /// Takes the list of the store over and begins to load what was ready.
    pub(super) fn restore(&mut self, rows: Vec<CircuitRow>) {
        for row in rows {
            let named = self.tenants.iter().position(|t| t.name == row.tenant);
            let Some(tenant) = named.and_then(|at| u32::try_from(at).ok()).map(TenantId) else {
                tracing::warn!(tenant = %row.tenant, "a circuit of a tenant that is not configured");
                continue;
            };
            // A failure that is not written as it is written now is found out anew.
            let failure = row
                .failure
                .as_deref()
                .and_then(|text| serde_json::from_str::<JobError>(text).ok());
            match (row.state, failure) {
                (State::Failed, Some(failure)) => {
                    let key = (tenant, Digest(row.digest));
                    self.circuits.insert(key, Circuit::new(row, Some(failure)));
                }
                (State::Ready, _) if row.released.is_some() => {
                    let key = (tenant, Digest(row.digest));
                    let mut circuit = Circuit::new(row, None);
                    circuit.verification_key = circuit.row.released.take();
                    circuit.away = Some(Away::Gone);
                    self.circuits.insert(key, circuit);
                }
                (state, _) => {
                    let full = state != State::Ready && row.check == Check::Full;
                    let key = (tenant, Digest(row.digest));
                    self.examine(tenant, row, full);
                    if let Some(circuit) = self.circuits.get_mut(&key) {
                        circuit.restored = true;
                    }
                }
            }
        }
    }

    pub(super) fn register(
        &mut self,
        tenant: TenantId,
        request: RegisterCircuit,
    ) -> Result<Flow, RpcError> {
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        if let Some(circuit) = self.circuits.get(&(tenant, request.zkey))
            && circuit.state() != CircuitState::Failed
        {
            return Ok(Flow::Done(as_json(&circuit.info()?)?));
        }
        let max = self.parts.config.limits.tenant_circuits;
        let count = self.circuits.keys().filter(|(of, _)| *of == tenant).count();
        if count >= max {
            return Err(RpcError::QuotaExceeded {
                detail: format!("a tenant may register {max} circuits"),
            });
        }
        let ticket = self.ticket();
        self.tell_clerk(Task::Register {
            ticket,
            tenant,
            tenant_name: self.tenant(tenant).name.clone(),
            request,
        });
        Ok(Flow::Wait(ticket, Question::Call))
    }

    pub(super) fn registered(
        &mut self,
        ticket: u64,
        tenant: TenantId,
        circuit: Digest,
        registered: Result<CircuitRow, RpcError>,
    ) {
        let key = (tenant, circuit);
        let outcome = registered.and_then(|row| {
            // Another call may have registered it while this one waited.
            let begun = self
                .circuits
                .get(&key)
                .is_some_and(|it| it.state() != CircuitState::Failed);
            if !begun {
                let full = row.check == Check::Full;
                self.examine(tenant, row, full);
            }
            match self.circuits.get(&key) {
                Some(circuit) => as_json(&circuit.info()?),
                None => Err(RpcError::Internal),
            }
        });
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.settle(waiting, outcome);
        }
    }

    fn examine(&mut self, tenant: TenantId, row: CircuitRow, full: bool) {
        let request = examination(tenant, &row, full);
        let failure = match self.parts.registrar.send(request) {
            Ok(()) => None,
            Err(_) => Some(job_error(&RpcError::Internal)),
        };
        self.circuits
            .insert((tenant, Digest(row.digest)), Circuit::new(row, failure));
    }

    pub(super) fn examined(
        &mut self,
        tenant: TenantId,
        circuit: Digest,
        checked: bool,
        result: Result<Arc<ProvingKey>, RpcError>,
    ) {
        let Some(it) = self.circuits.get_mut(&(tenant, circuit)) else {
            // It was taken off the list meanwhile, perhaps before its program was put there.
            self.parts.programs.remove((tenant, circuit));
            return;
        };
        let mut failing = Vec::new();
        let change = match result {
            Ok(key) => {
                it.verification_key = Some(key.verification_key().print());
                for job in std::mem::take(&mut it.waiting) {
                    self.parts.preparations.bring(job, &key);
                }
                it.key = Some(key);
                (it.away, it.failure) = (None, None);
                it.row.state = State::Ready;
                Change::Ready {
                    checked_at: checked.then(|| unix_time().as_secs()),
                }
            }
            Err(error) if it.away.is_some() => {
                tracing::warn!(tenant = %it.row.tenant, %circuit, error = %chain(&error), "key not read again");
                // The next job tries again.
                it.away = Some(Away::Gone);
                it.failure = Some(job_error(&error));
                for job in std::mem::take(&mut it.waiting) {
                    self.fail(job, error.clone());
                }
                return;
            }
            Err(error) => {
                tracing::warn!(tenant = %it.row.tenant, %circuit, error = %chain(&error), "key refused");
                it.row.state = State::Failed;
                let failure = job_error(&error);
                let text = serde_json::to_string(&failure).unwrap_or_default();
                it.failure = Some(failure);
                for job in std::mem::take(&mut it.waiting) {
                    failing.push((job, error.clone()));
                }
                Change::Failed { failure: text }
            }
        };
        let tenant = it.row.tenant.clone();
        self.tell_clerk(Task::Note {
            tenant,
            circuit,
            change,
        });
        for (job, error) in failing {
            self.fail(job, error);
        }
    }

    pub(super) fn list_circuits(
        &mut self,
        tenant: TenantId,
        _: ListCircuits,
    ) -> Result<Flow, RpcError> {
        let mut infos = Vec::new();
        for ((of, _), circuit) in &self.circuits {
            if *of == tenant {
                infos.push(circuit.info()?);
            }
        }
        infos.sort_by_key(|info| info.circuit);
        Ok(Flow::Done(as_json(&infos)?))
    }

    pub(super) fn unregister(
        &mut self,
        tenant: TenantId,
        request: UnregisterCircuit,
    ) -> Result<Flow, RpcError> {
        let circuit = request.circuit;
        let jobs = self.unfinished(tenant, circuit);
        if jobs > 0 {
            return Err(RpcError::CircuitInUse { circuit, jobs });
        }
        if self.circuits.remove(&(tenant, circuit)).is_none() {
            return Ok(Flow::Done(as_json(&Unregistered { removed: false })?));
        }
        let _ = self.parts.tables.send(tables::Request::Gone {
            circuit: (tenant, circuit),
        });
        self.parts.programs.remove((tenant, circuit));
        let ticket = self.ticket();
        self.tell_clerk(Task::Unregister {
            ticket,
            tenant: self.tenant(tenant).name.clone(),
            circuit,
        });
        Ok(Flow::Wait(ticket, Question::Call))
    }

    pub(super) fn unregistered(&mut self, ticket: u64, removed: Result<bool, RpcError>) {
        let outcome = removed.and_then(|removed| as_json(&Unregistered { removed }));
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.settle(waiting, outcome);
        }
    }

    pub(super) fn estimate(
        &mut self,
        tenant: TenantId,
        request: EstimateProof,
    ) -> Result<Flow, RpcError> {
        let it = self.ready_circuit(tenant, request.circuit)?;
        let (core, measured) = (it.core, it.measured.is_some());
        let work = self.work(core, it);
        let ticket = self.ticket();
        self.command(Command::Estimate {
            ticket,
            tenant,
            work,
        })?;
        Ok(Flow::Wait(ticket, Question::Estimate { core, measured }))
    }

    pub(super) fn estimated(
        &mut self,
        ticket: u64,
        estimate: Option<arbiter::Estimate>,
        at: Nanos,
    ) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        let Question::Estimate { core, measured } = waiting.question else {
            return;
        };
        let outcome = estimate.ok_or(RpcError::Internal).and_then(|it| {
            as_json(&Estimate {
                proof_ms: super::ms(it.run),
                earliest_finish_ms: super::ms(it.finish.since(at)),
                queue_length: u64::from(it.ahead),
                core_ms: super::ms(core),
                measured,
            })
        });
        self.settle(waiting, outcome);
    }

    /// A circuit that can be proved with.
    pub(super) fn ready_circuit(
        &self,
        tenant: TenantId,
        circuit: Digest,
    ) -> Result<&Circuit, RpcError> {
        let it = self
            .circuits
            .get(&(tenant, circuit))
            .ok_or(RpcError::CircuitUnknown { circuit })?;
        match it.state() {
            CircuitState::Ready => Ok(it),
            state => Err(RpcError::CircuitNotReady { circuit, state }),
        }
    }

    /// The circuit that a blob is part of: its key, its witness program, or its constraints.
    pub(super) fn circuit_of(&self, tenant: TenantId, blob: Digest) -> Option<Digest> {
        if self.circuits.contains_key(&(tenant, blob)) {
            return Some(blob);
        }
        let mut own = self.circuits.iter().filter(|((of, _), _)| *of == tenant);
        own.find(|(_, circuit)| [circuit.row.program, circuit.row.r1cs].contains(&Some(blob.0)))
            .map(|((_, circuit), _)| *circuit)
    }

    /// What a proof of a circuit in so much core time asks of the box.
    pub(super) fn work(&self, core: Nanos, circuit: &Circuit) -> Work {
        let device = &self.parts.device;
        let members = (1..=device.beside().len()).filter(|member| !device.is_lost(*member));
        Work {
            core,
            parallelism: u32::try_from(self.cores()).unwrap_or(u32::MAX),
            // Its parts run beside each other, so it can use all that there are.
            devices: u32::try_from(members.count()).unwrap_or(u32::MAX),
            device_memory: circuit.copy_len(&**device),
            host_memory: self.job_bytes(circuit),
        }
    }

    /// Bytes of memory that a job of a circuit holds. As long as no job of it has been prepared that is a guess, by which
    /// nobody is refused: a job of which more is guessed than there is has to be alone.
    fn job_bytes(&self, circuit: &Circuit) -> u64 {
        circuit.job_bytes.unwrap_or_else(|| {
            let row = &circuit.row;
            let vectors = Job::vector_bytes(row.wires, row.domain_size);
            let lanes = row.domain_size / POINTS_A_LANE;
            let lanes = lanes.clamp(1, self.parts.device.info().lanes as u64);
            let guess = vectors.saturating_mul(VECTORS) + lanes * BYTES_A_LANE;
            guess.min(self.parts.job_bytes).max(vectors)
        })
    }

    /// Learns what a job holds.
    pub(super) fn learn_bytes(&mut self, tenant: TenantId, circuit: Digest, bytes: u64) {
        if let Some(it) = self.circuits.get_mut(&(tenant, circuit)) {
            it.job_bytes = Some(bytes);
        }
    }

    /// A job has to wait for its key.
    pub(super) fn await_key(&mut self, tenant: TenantId, circuit: Digest, job: JobId) {
        if let Some(it) = self.circuits.get_mut(&(tenant, circuit)) {
            it.waiting.push(job);
            self.bring_back(tenant, circuit);
        }
    }

    /// Has a key read again, if it is gone and somebody waits for it.
    pub(super) fn bring_back(&mut self, tenant: TenantId, circuit: Digest) {
        let Some(it) = self.circuits.get_mut(&(tenant, circuit)) else {
            return;
        };
        if it.away != Some(Away::Gone) || it.waiting.is_empty() {
            return;
        }
        it.away = Some(Away::Returning);
        let request = examination(tenant, &it.row, false);
        if self.parts.registrar.send(request).is_err() {
            tracing::error!("the registrar has ended");
        }
    }

    /// Learns from a proof what one costs, and lets its key have tables.
    pub(super) fn learn_cost(&mut self, tenant: TenantId, circuit: Digest, core: Nanos) {
        if let Some(it) = self.circuits.get_mut(&(tenant, circuit)) {
            // Proofs of one circuit differ little; a quarter of the newest follows a change
            // within a few proofs and does not jump at one outlier.
            let learnt = |known: Nanos| Nanos(known.0 / 4 * 3 + core.0 / 4);
            it.measured = Some(it.measured.map_or(core, learnt));
            it.core = learnt(it.core);
            if let Some(key) = &it.key {
                self.parts.residence.proved(key);
                // Without a maker the box is stopping.
                let _ = self.parts.tables.send(tables::Request::Proved {
                    circuit: (tenant, circuit),
                    key: Arc::clone(key),
                    bytes: it.row.bytes,
                });
            }
        }
    }
}

impl Circuit {
    fn new(row: CircuitRow, failure: Option<JobError>) -> Circuit {
        Circuit {
            core: Nanos(row.domain_size.saturating_mul(NS_A_POINT)),
            row,
            key: None,
            verification_key: None,
            away: None,
            waiting: Vec::new(),
            failure,
            restored: false,
            measured: None,
            job_bytes: None,
        }
    }

    /// The key, if it is there.
    pub(super) fn key(&self) -> Option<Arc<ProvingKey>> {
        self.key.clone()
    }

    /// Whether it was registered with a witness program, which is there when its key is.
    pub(super) fn has_program(&self) -> bool {
        self.row.program.is_some()
    }

    /// Why it cannot be proved with, if it is known that it cannot.
    pub(super) fn failed(&self) -> Option<&JobError> {
        let failed = self.state() == CircuitState::Failed;
        self.failure.as_ref().filter(|_| failed)
    }

    /// What a proof costs: as it was measured, if it was, and else as it is guessed. Where a deadline is
    /// asked for nothing is guessed, for nobody should be refused for what nobody knows.
    pub(super) fn cost(&self, deadline: bool) -> Nanos {
        let guess = if deadline { Nanos::ZERO } else { self.core };
        self.measured.unwrap_or(guess)
    }

    /// Whether its key is loaded, or only on its way; `None` where there is none to be had.
    pub(super) fn is_loaded(&self) -> Option<bool> {
        match (&self.key, self.away, &self.failure) {
            (Some(_), ..) => Some(true),
            (None, Some(Away::Gone), _) | (None, None, Some(_)) => None,
            (None, Some(Away::Leaving | Away::Returning), _) | (None, None, None) => Some(false),
        }
    }

    /// Bytes of the key on that of the devices which keeps most of it; of a key that is away, those of its file.
    pub(super) fn copy_len(&self, device: &dyn Device) -> u64 {
        let members = 1..=device.beside().len();
        let key = self.key.as_ref();
        key.map_or(self.row.bytes, |key| {
            let each = members.map(|member| key.copy_len_on(member) as u64);
            each.max().unwrap_or(0)
        })
    }

    /// Lets go of the key; the verification key, which stays known.
    pub(super) fn let_go(&mut self) -> String {
        self.key = None;
        self.away = Some(Away::Leaving);
        self.verification_key.clone().unwrap_or_default()
    }

    pub(super) fn state(&self) -> CircuitState {
        match (&self.key, self.away, &self.failure) {
            (Some(_), ..) | (_, Some(_), _) => CircuitState::Ready,
            (None, None, None) => CircuitState::Checking,
            (None, None, Some(_)) => CircuitState::Failed,
        }
    }

    /// Whether it was there before a restart and cannot be used yet.
    pub(super) fn is_restoring(&self) -> bool {
        self.restored && self.state() == CircuitState::Checking
    }

    pub(super) fn curve(&self) -> Result<CurveName, RpcError> {
        [CurveName::Bn128, CurveName::Bls12381]
            .into_iter()
            .find(|curve| curve.to_string() == self.row.curve)
            .ok_or(RpcError::Internal)
    }

    pub(super) fn info(&self) -> Result<CircuitInfo, RpcError> {
        let verification_key = self.verification_key.as_deref();
        let verification_key = verification_key
            .map(serde_json::from_str::<Value>)
            .transpose()
            .map_err(|_| RpcError::Internal)?;
        let curve = self.curve()?;
        Ok(CircuitInfo {
            circuit: Digest(self.row.digest),
            name: self.row.name.as_ref().and_then(|name| name.parse().ok()),
            curve,
            domain_size: self.row.domain_size,
            public_count: self.row.public_count,
            wires: self.row.wires,
            bytes: self.row.bytes,
            state: self.state(),
            resident: self.key.is_some(),
            source: self.row.source.clone(),
            witness_program: self.row.program.map(Digest),
            r1cs: self.row.r1cs.map(Digest),
            error: self.failure.clone(),
            development: self.row.development,
            verification_key,
        })
    }
}

/// To lay out a key of the list.
fn examination(tenant: TenantId, row: &CircuitRow, full: bool) -> Request {
    Request::Examine(Examination {
        tenant,
        tenant_name: row.tenant.clone(),
        circuit: Digest(row.digest),
        full,
        source: row.source.clone().map(|source| (row.bytes, source)),
        program: row.program.map(Digest),
        r1cs: row.r1cs.map(Digest),
    })
}

/// An error as a status shows it.
pub(super) fn job_error(error: &RpcError) -> JobError {
    JobError {
        code: error.code(),
        reason: error.reason().to_owned(),
        message: error.to_string(),
    }
}

/// A first guess for one point of the domain: a proof of a circuit of 2^14 takes about 0.6 s of a
/// core (measured on Zen 3).
const NS_A_POINT: u64 = 36_000;

/// What a job is guessed to hold: so many times its vectors, for what its sums sort out, and so much for each lane, of
/// which a circuit has one for so many points (`prover/tests/key_memory.rs` holds what is learnt against the allocator).
const VECTORS: u64 = 4;
const BYTES_A_LANE: u64 = 4 << 20;
const POINTS_A_LANE: u64 = 64;
