//! Jobs: from submission to result.
//!
//! ```text
//! Arriving ─ Queued ─ Preparing ─ Prepared ─┬ Proved
//!     │         │          │          │     ├ Failed
//!     └ refused └──────────┴──────────┴─────┴ Cancelled
//! ```
//!
//! A submission is answered when the arbiter has given it a place, so a full queue is told to
//! the one who submits and not found out afterwards. Whoever ends a prepared job first (a worker
//! with its last quantum, or a cancellation) settles how it ended; the other finds it ended.

use std::collections::HashSet;
use std::sync::Arc;

use caldera_prover::groth16::{ProveError, solidity};
use caldera_rpc::error::{Full, RpcError};
use caldera_rpc::methods::{
    CoreShare, Digest, JobName, JobQuery, JobResult, JobState, JobStatus, StageTiming, Submit,
    Timings,
};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::queue::Refusal;
use caldera_scheduler::{JobId, Nanos, TenantId};
use serde_json::Value;

use super::circuits::job_error;
use super::{Caller, Flow, Question, RETRY_MS, Service, ms, value};
use crate::arbiter_thread::Command;
use crate::board::RunningJob;
use crate::clock::unix_time;
use crate::preparer::Preparation;

/// A job of one tenant.
pub(super) struct Entry {
    tenant: TenantId,
    request: Submit,
    received: Nanos,
    /// Unix time in milliseconds.
    submitted_ms: u64,
    phase: Phase,
    /// From its being laid out to its end.
    running: Option<Arc<RunningJob>>,
    prepared: Option<Nanos>,
    prepared_span: Nanos,
    first: Option<Nanos>,
    finished: Option<Nanos>,
    /// Calls that wait for the arbiter's answer.
    waiting: Vec<u64>,
}

enum Phase {
    Arriving,
    Queued,
    Preparing,
    Prepared,
    Proved(Box<Done>),
    Failed(RpcError),
    Cancelled,
}

/// What came out of a job.
struct Done {
    proof: Value,
    public_inputs: Vec<String>,
    calldata: String,
    timings: Timings,
}

/// What the jobs of a tenant that are known make of its circuits and blobs.
#[derive(Default)]
pub(super) struct Uses {
    /// Circuits of unfinished jobs.
    pub(super) circuits: HashSet<Digest>,
    /// Witnesses of unfinished jobs.
    pub(super) witnesses: HashSet<Digest>,
    /// Witnesses that have been proved.
    pub(super) proved: HashSet<Digest>,
}

impl Service {
    pub(super) fn submit(
        &mut self,
        tenant: TenantId,
        request: Submit,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        if let Some(key) = request.idempotency_key.clone()
            && let Some(job) = self.keys.get(&(tenant, key)).copied()
        {
            return self.submit_again(job, &request);
        }
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        let circuit = self.ready_circuit(tenant, request.circuit)?;
        let key = circuit.key();
        let work = self.work(circuit.cost(request.deadline_ms.is_some()));
        let tenant_name = self.tenant(tenant).name.clone();
        let witness = self.parts.blobs.length(&tenant_name, request.witness.0);
        let leaves = self.removing.contains(&(tenant, request.witness));
        match witness {
            Ok(Some(_)) if !leaves => {}
            Ok(_) => {
                return Err(RpcError::BlobUnknown {
                    digest: request.witness,
                });
            }
            Err(error) => {
                tracing::error!(tenant = %tenant_name, %error, "looking for a witness");
                return Err(RpcError::Internal);
            }
        }

        let job = JobId(self.next_job);
        let deadline = request
            .deadline_ms
            .map(|ms| received.plus(Nanos::from_millis(ms)));
        let away = key.is_none().then_some(request.circuit);
        self.parts.preparations.leave(
            job,
            Preparation {
                tenant,
                tenant_name,
                key,
                witness: request.witness,
            },
        );
        let sent = self.command(Command::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
        });
        if let Err(error) = sent {
            self.parts.preparations.withdraw(job);
            return Err(error);
        }
        self.next_job += 1;
        if let Some(key) = request.idempotency_key.clone() {
            self.keys.insert((tenant, key), job);
        }
        let ticket = self.ticket();
        let submitted_ms = unix_time().as_millis() as u64;
        self.jobs.insert(
            job,
            Entry {
                tenant,
                request,
                received,
                submitted_ms,
                phase: Phase::Arriving,
                running: None,
                prepared: None,
                prepared_span: Nanos::ZERO,
                first: None,
                finished: None,
                waiting: vec![ticket],
            },
        );
        self.tenants[tenant.0 as usize].watch.begin();
        if let Some(circuit) = away {
            self.await_key(tenant, circuit, job);
        }
        Ok(Flow::Wait(ticket, Question::Call))
    }

    /// A key that was used before: the same submission gets the same job.
    fn submit_again(&mut self, job: JobId, request: &Submit) -> Result<Flow, RpcError> {
        let ticket = self.ticket();
        let entry = self.jobs.get_mut(&job).ok_or(RpcError::Internal)?;
        if entry.request != *request {
            return Err(RpcError::IdempotencyConflict {
                job: JobName(job.0),
            });
        }
        if let Phase::Arriving = entry.phase {
            entry.waiting.push(ticket);
            return Ok(Flow::Wait(ticket, Question::Call));
        }
        Ok(Flow::Done(value(&entry.status(job))?))
    }

    pub(super) fn admitted(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        if let Phase::Arriving = entry.phase {
            entry.phase = Phase::Queued;
        }
        let status = value(&entry.status(job));
        let waiting = std::mem::take(&mut entry.waiting);
        self.settle_all(waiting, &status);
    }

    pub(super) fn refused(&mut self, job: JobId, reason: Refusal, retry_after: Option<Nanos>) {
        self.parts.preparations.withdraw(job);
        let Some(entry) = self.jobs.remove(&job) else {
            return;
        };
        if !entry.state().is_final() {
            let now = self.parts.clock.now();
            self.tenants[entry.tenant.0 as usize].watch.end(now);
        }
        if let Some(key) = entry.request.idempotency_key {
            self.keys.remove(&(entry.tenant, key));
        }
        let full = |full| RpcError::QueueFull {
            full,
            retry_after_ms: retry_after.map_or(RETRY_MS, |span| span.as_millis().max(1)),
        };
        let error = match reason {
            Refusal::TenantFull { .. } => full(Full::Tenant),
            Refusal::BoxFull { .. } => full(Full::Box),
            Refusal::DeadlineUnmeetable { earliest } => {
                let span = earliest.since(entry.received);
                // Rounded up, for what is named must be enough.
                let earliest_ms = span.0.div_ceil(Nanos::from_millis(1).0);
                RpcError::DeadlineUnmeetable { earliest_ms }
            }
            reason => {
                tracing::error!(job = %JobName(job.0), %reason, "the arbiter refused what it should know");
                RpcError::Internal
            }
        };
        self.settle_all(entry.waiting, &Err(error));
    }

    fn settle_all(&mut self, tickets: Vec<u64>, outcome: &Result<Value, RpcError>) {
        for ticket in tickets {
            if let Some(waiting) = self.waiting.remove(&ticket) {
                self.settle(waiting, outcome.clone());
            }
        }
    }

    pub(super) fn preparing(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job)
            && let Phase::Arriving | Phase::Queued = entry.phase
        {
            entry.phase = Phase::Preparing;
        }
    }

    pub(super) fn prepared(&mut self, job: Arc<RunningJob>, at: Nanos, span: Nanos) {
        let id = job.id();
        if let Some(entry) = self.jobs.get_mut(&id)
            && !entry.state().is_final()
        {
            entry.phase = Phase::Prepared;
            entry.prepared = Some(at);
            entry.prepared_span = span;
            self.profiles.open(id, job.job().stages());
            entry.running = Some(job);
            return;
        }
        // It was cancelled while it was prepared, and the arbiter may have given it a slot since;
        // or it has ended so soon that this message comes second.
        job.end();
        job.job().cancel();
        self.parts.inbox.send_waiting(Command::Cancel(id));
        self.bury(job);
    }

    pub(super) fn unprepared(&mut self, job: JobId, error: RpcError) {
        let now = self.parts.clock.now();
        if self.jobs.get(&job).is_some_and(|it| !it.state().is_final()) {
            self.finish(job, Phase::Failed(error), now);
        }
    }

    /// Workers have ended a job.
    pub(super) fn ended(&mut self, job: Arc<RunningJob>, outcome: Outcome, at: Nanos) {
        let id = job.id();
        if self.jobs.get(&id).is_none_or(|it| it.state().is_final()) {
            // It was cancelled before this thread knew that it was prepared.
            self.bury(job);
            return;
        }
        let proof = match outcome {
            Outcome::Proved => job.job().proof(),
            Outcome::Failed => None,
        };
        let phase = match (&proof, self.jobs.get(&id)) {
            (Some((proof, public)), Some(entry)) => {
                match entry.done(&job, proof, public, &self.parts.units) {
                    Ok(done) => Phase::Proved(Box::new(done)),
                    Err(error) => Phase::Failed(error),
                }
            }
            _ => Phase::Failed(why(&job)),
        };
        let first = job.first_quantum();
        self.profiles.open(id, job.job().stages());
        self.profiles.end(id, quanta_of(&job));
        if let Some(entry) = self.jobs.get_mut(&id) {
            entry.first = first;
            if let (Phase::Proved(_), tenant, circuit) =
                (&phase, entry.tenant, entry.request.circuit)
            {
                let ns = job.tallies().iter().flat_map(|tally| tally.kernels());
                let core = Nanos(ns.map(|(_, _, ns, _)| ns).sum());
                self.learn_cost(tenant, circuit, core);
            }
        }
        self.finish(id, phase, at);
        self.bury(job);
    }

    pub(super) fn cancel(&mut self, tenant: TenantId, query: JobQuery) -> Result<Flow, RpcError> {
        let job = self.job_of(tenant, query.job)?;
        let entry = self.jobs.get(&job).ok_or(RpcError::Internal)?;
        // A prepared job belongs to the one who ends it first: perhaps a worker just has.
        let ended = match &entry.running {
            Some(running) => !running.end(),
            None => false,
        };
        if !ended && !entry.state().is_final() {
            if let Some(running) = &entry.running {
                running.job().cancel();
            }
            self.parts.preparations.withdraw(job);
            self.parts.inbox.send_waiting(Command::Cancel(job));
            let now = self.parts.clock.now();
            self.finish(job, Phase::Cancelled, now);
        }
        self.status(tenant, query)
    }

    pub(super) fn status(&mut self, tenant: TenantId, query: JobQuery) -> Result<Flow, RpcError> {
        let job = self.job_of(tenant, query.job)?;
        let entry = self.jobs.get(&job).ok_or(RpcError::Internal)?;
        Ok(Flow::Done(value(&entry.status(job))?))
    }

    pub(super) fn result(&mut self, tenant: TenantId, query: JobQuery) -> Result<Flow, RpcError> {
        let id = self.job_of(tenant, query.job)?;
        let entry = self.jobs.get(&id).ok_or(RpcError::Internal)?;
        let job = query.job;
        match &entry.phase {
            Phase::Proved(done) => Ok(Flow::Done(value(&JobResult {
                job,
                proof: done.proof.clone(),
                public_inputs: done.public_inputs.clone(),
                calldata: done.calldata.clone(),
                timings: done.timings.clone(),
                late: entry.late().unwrap_or(false),
            })?)),
            Phase::Failed(error) => Err(error.clone()),
            Phase::Cancelled => Err(RpcError::JobCancelled { job }),
            _ => Err(RpcError::JobNotFinished {
                job,
                state: entry.state(),
            }),
        }
    }

    /// Ends a job that cannot be prepared.
    pub(super) fn fail(&mut self, job: JobId, error: RpcError) {
        if self.jobs.get(&job).is_some_and(|it| !it.state().is_final()) {
            self.parts.preparations.withdraw(job);
            self.parts.inbox.send_waiting(Command::Cancel(job));
            let now = self.parts.clock.now();
            self.finish(job, Phase::Failed(error), now);
        }
    }

    /// What a tenant's circuits and blobs are used for.
    pub(super) fn uses(&self, tenant: TenantId) -> Uses {
        let mut uses = Uses::default();
        for entry in self.jobs.values().filter(|it| it.tenant == tenant) {
            let (circuit, witness) = (entry.request.circuit, entry.request.witness);
            match entry.phase {
                Phase::Proved(_) => drop(uses.proved.insert(witness)),
                Phase::Failed(_) | Phase::Cancelled => {}
                _ => {
                    uses.circuits.insert(circuit);
                    uses.witnesses.insert(witness);
                }
            }
        }
        uses
    }

    /// How many jobs of a circuit have not ended.
    pub(super) fn unfinished(&self, tenant: TenantId, circuit: Digest) -> u64 {
        let of_it = |entry: &&Entry| {
            entry.tenant == tenant && entry.request.circuit == circuit && !entry.state().is_final()
        };
        self.jobs.values().filter(of_it).count() as u64
    }

    /// Whether a caller may know of a job.
    pub(super) fn may_see(&self, caller: Caller, job: JobId) -> bool {
        match caller {
            Caller::Operator => true,
            Caller::Tenant(tenant) => self.jobs.get(&job).is_some_and(|it| it.tenant == tenant),
        }
    }

    pub(super) fn job_of(&self, tenant: TenantId, name: JobName) -> Result<JobId, RpcError> {
        let job = JobId(name.0);
        let own = self.may_see(Caller::Tenant(tenant), job);
        own.then_some(job).ok_or(RpcError::JobUnknown { job: name })
    }

    fn finish(&mut self, job: JobId, phase: Phase, at: Nanos) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        let outcome = match &phase {
            Phase::Proved(_) => 0,
            Phase::Failed(_) => 1,
            _ => 2,
        };
        entry.phase = phase;
        entry.finished = Some(at);
        let running = entry.running.take();
        if let Some(running) = &running
            && entry.first.is_none()
        {
            entry.first = running.first_quantum();
        }
        self.tenants[entry.tenant.0 as usize].watch.end(at);
        self.telemetry.ended[outcome] += 1;
        let late = entry.late().unwrap_or(false);
        self.telemetry.late += u64::from(outcome == 0 && late);
        let status = value(&entry.status(job));
        let waiting = std::mem::take(&mut entry.waiting);
        let (tenant, state) = (entry.tenant, entry.state());
        let ms = super::ms(at.since(entry.received)) as u64;
        let error = match &entry.phase {
            Phase::Failed(error) => error.reason(),
            _ => "",
        };
        let (name, job_name) = (&self.tenant(tenant).name, JobName(job.0));
        tracing::info!(tenant = %name, job = %job_name, %state, ms, late, error, "job ended");
        self.settle_all(waiting, &status);
        if let Some(running) = running {
            self.profiles.end(job, quanta_of(&running));
            self.bury(running);
        }
        self.keep_few(tenant, job);
    }

    /// Notes a job as ended and forgets the oldest beyond what is kept.
    fn keep_few(&mut self, tenant: TenantId, job: JobId) {
        let kept = self.parts.config.limits.tenant_results;
        let ended = &mut self.tenants[tenant.0 as usize].ended;
        ended.push_back(job);
        if ended.len() > kept
            && let Some(oldest) = ended.pop_front()
            && let Some(entry) = self.jobs.remove(&oldest)
        {
            self.profiles.forget(oldest);
            if let Some(key) = entry.request.idempotency_key {
                self.keys.remove(&(tenant, key));
            }
        }
    }

    fn bury(&self, job: Arc<RunningJob>) {
        // A reaper that is gone leaves the job to be freed here; that happens only at the end.
        let _ = self.parts.grave.send(job);
    }
}

impl Entry {
    fn state(&self) -> JobState {
        match &self.phase {
            Phase::Arriving | Phase::Queued => JobState::Queued,
            Phase::Preparing => JobState::Preparing,
            Phase::Prepared => match &self.running {
                Some(running) if running.first_quantum().is_some() => JobState::Running,
                _ => JobState::Queued,
            },
            Phase::Proved(_) => JobState::Proved,
            Phase::Failed(_) => JobState::Failed,
            Phase::Cancelled => JobState::Cancelled,
        }
    }

    /// When it came.
    pub(super) fn received(&self) -> Nanos {
        self.received
    }

    /// From when to when it was laid out.
    pub(super) fn laid_out(&self) -> Option<(Nanos, Nanos)> {
        let end = self.prepared?;
        Some((end.since(self.prepared_span), end))
    }

    /// When it ended.
    pub(super) fn finished(&self) -> Option<Nanos> {
        self.finished
    }

    fn late(&self) -> Option<bool> {
        let took = self.finished?.since(self.received);
        Some(took > Nanos::from_millis(self.request.deadline_ms?))
    }

    pub(super) fn status(&self, job: JobId) -> JobStatus {
        let since = |at: Nanos| ms(at.since(self.received));
        let running = self.running.as_deref();
        let progress = match (&self.phase, running) {
            (Phase::Proved(_), _) => 1.0,
            (_, Some(running)) => {
                let job = running.job();
                job.nodes_done() as f64 / job.nodes().max(1) as f64
            }
            _ => 0.0,
        };
        let first = self.first.or_else(|| running?.first_quantum());
        JobStatus {
            job: JobName(job.0),
            circuit: self.request.circuit,
            state: self.state(),
            progress,
            submitted_ms: self.submitted_ms,
            deadline_ms: self.request.deadline_ms,
            started_ms: first.map(since),
            finished_ms: self.finished.map(since),
            late: self.late(),
            error: match &self.phase {
                Phase::Failed(error) => Some(job_error(error)),
                _ => None,
            },
        }
    }

    fn done(
        &self,
        job: &RunningJob,
        proof: &caldera_prover::format::json::Proof,
        public: &caldera_prover::format::json::PublicInputs,
        units: &[(usize, crate::pin::Standing)],
    ) -> Result<Done, RpcError> {
        let first = job.first_quantum().unwrap_or(self.received);
        let waited = first.since(self.received);
        let mut stages: Vec<StageTiming> = Vec::new();
        let mut cores = Vec::new();
        for (tally, (core, _)) in job.tallies().iter().zip(units) {
            let mut share = CoreShare {
                core: u32::try_from(*core).unwrap_or(u32::MAX),
                quanta: 0,
                cpu_ms: 0.0,
            };
            for (kernel, quanta, ns, ns_max) in tally.kernels() {
                share.quanta += quanta;
                share.cpu_ms += ns as f64 / 1e6;
                let at = match stages.iter().position(|stage| stage.kernel == kernel) {
                    Some(at) => at,
                    None => {
                        stages.push(StageTiming {
                            kernel: kernel.to_owned(),
                            quanta: 0,
                            cpu_ms: 0.0,
                            max_quantum_us: 0.0,
                        });
                        stages.len() - 1
                    }
                };
                let stage = &mut stages[at];
                stage.quanta += quanta;
                stage.cpu_ms += ns as f64 / 1e6;
                stage.max_quantum_us = stage.max_quantum_us.max(ns_max as f64 / 1e3);
            }
            if share.quanta > 0 {
                cores.push(share);
            }
        }
        Ok(Done {
            proof: value(proof)?,
            public_inputs: serde_json::from_value(value(public)?)
                .map_err(|_| RpcError::Internal)?,
            calldata: solidity::calldata(proof, public),
            timings: Timings {
                queued_ms: ms(waited.since(self.prepared_span)),
                prepared_ms: ms(self.prepared_span),
                proved_ms: ms(job.last_quantum().since(first)),
                stages,
                cores,
            },
        })
    }
}

/// How many quanta of a job workers have counted.
fn quanta_of(job: &RunningJob) -> u64 {
    let kernels = job.tallies().iter().flat_map(|tally| tally.kernels());
    kernels.map(|(_, quanta, _, _)| quanta).sum()
}

/// Why a job that workers ended has no proof.
fn why(job: &RunningJob) -> RpcError {
    let id = JobName(job.id().0);
    if job.panicked() {
        tracing::error!(job = %id, "a quantum panicked");
        return RpcError::Internal;
    }
    match job.job().error() {
        Some(ProveError::SelfCheck(_)) => RpcError::SelfCheckFailed,
        Some(error) => {
            tracing::error!(job = %id, %error, "proving failed");
            RpcError::Internal
        }
        None => {
            tracing::error!(job = %id, "a job ended with neither a proof nor an error");
            RpcError::Internal
        }
    }
}
