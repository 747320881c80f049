//! Jobs: from submission to result.
//!
//! ```text
//!            ┌──Lent───────────────────────────┐
//! Arriving ─ Queued ─ Preparing ─ Prepared ─┬ Proved
//!     │         │          │          │     ├ Failed
//!     └ refused └──────────┴──────────┴─────┴ Cancelled
//! ```
//!
//! A submission is answered when the arbiter has given it a place, so a full queue is told to
//! the one who submits and not found out afterwards; and when the clerk has written it down, so what is
//! answered survives a power cut. The job runs meanwhile: no disk stands between a demand and its
//! cores. How a job ended is told when that is written down too, so no result is told twice with two
//! proofs. Until then the job looks as it did before.
//!
//! Whoever ends a prepared job first (a worker with its last quantum, or a cancellation) settles how
//! it ended; the other finds it ended.
//!
//! A start takes over what the store has: ended jobs with their results, and unfinished ones, which go
//! to the arbiter like any other and are never refused. One for which there is no place waits here.

mod fleet;

use std::collections::HashSet;
use std::sync::Arc;

use caldera_kernels::Device;
use caldera_prover::groth16::{ProveError, solidity};
use caldera_rpc::chain::chain;
use caldera_rpc::error::{Full, InputsFault, KeyFault, RpcError, WitnessFault};
use caldera_rpc::jsonrpc::Json;
use caldera_rpc::methods::{
    CoreShare, Digest, FleetDone, JobError, JobName, JobQuery, JobResult, JobState, JobStatus,
    JobWait, Metered, StageTiming, Submit, Timings,
};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::{JobId, Nanos, TenantId};
use caldera_store::jobs::{EndState, JobEnd, JobRow, JobWrite, WitnessBytes};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::circuits::job_error;
use super::era::cause;
use super::{Caller, Flow, Question, RETRY_MS, Service, Waiting, as_json, ms, value};
use crate::arbiter_thread::Command;
use crate::board::{RunningJob, Tally};
use crate::clerk::{Recorded, Task};
use crate::clock::unix_time;
use crate::era::WorkEnd;
use crate::preparer::{Computing, Preparation};
use crate::residence::{Doubt, lost_members};
use crate::witness;

pub(super) use fleet::Lent;

/// A job of one tenant.
pub(super) struct Entry {
    tenant: TenantId,
    /// Without the bytes of the witness.
    request: Submit,
    /// The witness, if it came with the submission; until the job ends.
    witness: Option<WitnessBytes>,
    /// Whether the witness is a blob that is to be erased with the job.
    blob_left: bool,
    received: Nanos,
    /// How long it had been here when another process stopped working on it.
    before: Nanos,
    /// Unix time in milliseconds.
    submitted_ms: u64,
    /// The attempt that this process may end; of what is lent its fence.
    attempt: u64,
    /// Whether it is not to be lent (again): nobody took it, or there is no time left.
    stays: bool,
    /// Whether silicon beside the host's could work for it when it came.
    was_mixed: bool,
    /// Members of the device that were lost when it came, a bit each.
    lost: u64,
    /// Why a first try failed for which silicon may be to blame; then it is proved once more, on the host alone.
    suspicion: Option<Suspicion>,
    phase: Phase,
    written: Written,
    /// As what it is shown until its end is written down.
    ending: Option<JobState>,
    /// From its being laid out to its end.
    running: Option<Arc<RunningJob>>,
    prepared: Option<Nanos>,
    prepared_span: Nanos,
    /// What its witness cost, where it brought inputs.
    computed: Option<Computing>,
    first: Option<Nanos>,
    finished: Option<Nanos>,
    /// When it ended, in Unix time in milliseconds.
    ended_ms: u64,
    /// By what the box is to be paid that has proved it, if it is another.
    metered: Option<Metered>,
    /// Calls that wait until it is accepted.
    waiting: Vec<u64>,
    /// Calls that wait until it has ended.
    watching: Vec<u64>,
}

/// Of a try that failed.
struct Suspicion {
    why: String,
    /// Whether it came out wrong, and was not only lost with a device.
    is_wrong: bool,
    /// What its tenant was charged for it: time on cores and on devices.
    spent: [Nanos; 2],
}

enum Phase {
    Arriving,
    Queued,
    Preparing,
    Prepared,
    /// Another box is to prove it, since when, or will once that is written down.
    Lent(Nanos, Written),
    Proved(Box<Done>),
    Failed(RpcError),
    Cancelled,
}

/// Whether a submission is in the store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    No,
    OnItsWay,
    Yes,
}

/// What came out of a job.
#[derive(Serialize, Deserialize)]
struct Done {
    proof: Value,
    public_inputs: Vec<String>,
    calldata: String,
    timings: Timings,
}

/// What the store keeps of a job's end, beside how and when. Times are counted from receipt.
#[derive(Serialize, Deserialize)]
struct Ended {
    started_ns: Option<u64>,
    finished_ns: u64,
    error: Option<JobError>,
    done: Option<Box<Done>>,
}

/// What is asked about a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Status,
    Result,
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
        mut request: Submit,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        let bytes = request.witness_data.take();
        if let Some(key) = request.idempotency_key.clone()
            && let Some(job) = self.keys.get(&(tenant, key)).copied()
        {
            return self.submit_again(job, &request);
        }
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        if self.fault.is_some() {
            return Err(RpcError::StorageUnavailable {
                retry_after_ms: STORAGE_RETRY_MS,
            });
        }
        self.hold_queue(tenant)?;
        let circuit = self.ready_circuit(tenant, request.circuit)?;
        let key = circuit.key();
        // As it is written down: the program itself comes back with the key.
        let has_program = circuit.has_program();
        let work = self.work(circuit.cost(request.deadline_ms.is_some()), circuit);
        let (max, got) = (self.parts.job_bytes, work.host_memory);
        if got > max {
            return Err(too_large(max, got));
        }
        let witness = match bytes {
            Some(bytes) => {
                if witness::are_inputs(bytes.bytes()) && !has_program {
                    return Err(RpcError::ProgramMissing {
                        circuit: request.circuit,
                    });
                }
                let got = Digest(Sha256::digest(bytes.bytes()).into());
                if got != request.witness {
                    let expected = request.witness;
                    let detail = format!("expected digest {expected}, got {got}");
                    return Err(RpcError::misfit("witnessData", detail));
                }
                Some(Arc::new(bytes.into_bytes()))
            }
            None => {
                self.look_for_witness(tenant, request.witness)?;
                None
            }
        };

        let job = JobId(self.next_job);
        let deadline = request
            .deadline_ms
            .map(|ms| received.plus(Nanos::from_millis(ms)));
        let away = key.is_none().then_some(request.circuit);
        let ticket = self.ticket();
        let entry = Entry {
            tenant,
            blob_left: witness.is_none() && !self.parts.config.keep_witnesses,
            request,
            witness,
            received,
            before: Nanos::ZERO,
            submitted_ms: unix_ms(),
            attempt: 1,
            stays: false,
            was_mixed: self.parts.device.is_mixed(),
            lost: lost_members(&*self.parts.device),
            suspicion: None,
            phase: Phase::Arriving,
            written: Written::No,
            ending: None,
            running: None,
            prepared: None,
            prepared_span: Nanos::ZERO,
            computed: None,
            first: None,
            finished: None,
            ended_ms: 0,
            waiting: vec![ticket],
            watching: Vec::new(),
            metered: None,
        };
        self.parts.preparations.leave(
            job,
            Preparation {
                tenant,
                tenant_name: self.tenant(tenant).name.clone(),
                circuit: entry.request.circuit,
                key,
                on_host: false,
                witness: entry.request.witness,
                witness_bytes: entry.witness.clone(),
            },
        );
        let sent = self.command(Command::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
            again: false,
        });
        if let Err(error) = sent {
            self.parts.preparations.withdraw(job);
            return Err(error);
        }
        self.next_job += 1;
        if let Some(key) = entry.request.idempotency_key.clone() {
            self.keys.insert((tenant, key), job);
        }
        self.jobs.insert(job, entry);
        self.tenants[tenant.0 as usize].watch.begin();
        if let Some(circuit) = away {
            self.await_key(tenant, circuit, job);
        }
        Ok(Flow::Wait(ticket, Question::Call))
    }

    /// Whether the blob of a witness is there, and stays.
    fn look_for_witness(&self, tenant: TenantId, digest: Digest) -> Result<(), RpcError> {
        let name = &self.tenant(tenant).name;
        match self.parts.blobs.length(name, digest.0) {
            Ok(Some(_)) if !self.leaves(tenant, digest) => Ok(()),
            Ok(_) => Err(RpcError::BlobUnknown { digest }),
            Err(error) => {
                tracing::error!(tenant = %name, error = %chain(&error), "looking for a witness");
                Err(RpcError::Internal)
            }
        }
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
        if entry.written != Written::Yes {
            entry.waiting.push(ticket);
            return Ok(Flow::Wait(ticket, Question::Call));
        }
        Ok(Flow::Done(as_json(&entry.status(job))?))
    }

    pub(super) fn admitted(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            if let Phase::Arriving = entry.phase {
                entry.phase = Phase::Queued;
            }
            self.write_down(job);
        }
    }

    /// Has a submission written down, if it is not.
    fn write_down(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        if entry.written != Written::No {
            return;
        }
        entry.written = Written::OnItsWay;
        let entry = &self.jobs[&job];
        let request = &entry.request;
        let key = request.idempotency_key.as_ref();
        let accept = JobWrite::Accept(Box::new(JobRow {
            job: job.0,
            tenant: self.tenant(entry.tenant).name.clone(),
            circuit: request.circuit.0,
            witness: request.witness.0,
            in_row: entry.witness.clone(),
            blob_left: entry.blob_left,
            deadline_ms: request.deadline_ms,
            key: key.map(|key| key.as_str().to_owned()),
            submitted_ms: entry.submitted_ms,
            attempt: entry.attempt,
            lent: false,
            end: None,
        }));
        self.tell_of_job(entry.tenant, accept, None);
    }

    /// The clerk has written changes down, or cannot.
    pub(super) fn recorded(&mut self, recorded: Vec<Recorded>) {
        for it in recorded {
            match it {
                Recorded::Accepted(job, Ok(())) => {
                    if let Some(entry) = self.jobs.get_mut(&job) {
                        entry.written = Written::Yes;
                        let status = as_json(&entry.status(job));
                        let waiting = std::mem::take(&mut entry.waiting);
                        self.settle_all(waiting, &status);
                    }
                }
                Recorded::Accepted(job, Err(error)) => self.disown(job, &error),
                Recorded::Ended(job) => self.told(job),
                Recorded::Lent(job) => self.lent_written(job),
                Recorded::Recalled(job) => self.recall_written(job),
            }
        }
    }

    /// Drops a job that nobody has been told of.
    fn disown(&mut self, job: JobId, error: &RpcError) {
        let Some(mut entry) = self.jobs.remove(&job) else {
            return;
        };
        if !entry.has_ended() {
            // A worker that has just ended it finds nobody who waits for that.
            let running = entry.running.take();
            if running.as_ref().is_none_or(|running| running.end()) {
                if let Some(running) = &running {
                    running.job().cancel();
                }
                self.parts.preparations.withdraw(job);
                self.parts.inbox.send_waiting(Command::Cancel(job));
            }
            if let Some(running) = running {
                self.profiles.end(job, quanta_of(&running));
                self.bury(running);
            }
            let now = self.parts.clock.now();
            self.tenants[entry.tenant.0 as usize].watch.end(now);
        }
        self.profiles.forget(job);
        if let Some(key) = entry.request.idempotency_key {
            self.keys.remove(&(entry.tenant, key));
        }
        self.settle_all(entry.waiting, &Err(error.clone()));
        self.settle_all(entry.watching, &Err(error.clone()));
    }

    /// How a job ended is written down, and may be told.
    fn told(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        entry.ending = None;
        let (tenant, witness) = (entry.tenant, entry.request.witness);
        for ticket in std::mem::take(&mut entry.watching) {
            self.tell(ticket);
        }
        self.erase_witness(job, tenant, witness);
        self.keep_few(tenant, job);
    }

    /// Has the blob of an ended job's witness erased, if no other job needs it.
    fn erase_witness(&mut self, job: JobId, tenant: TenantId, witness: Digest) {
        let left = self.jobs.get(&job).is_some_and(|entry| entry.blob_left);
        // A key or a program that somebody named as a witness is what it is.
        if !left
            || self.circuit_of(tenant, witness).is_some()
            || self.unfinished_on(tenant, witness) > 0
            || !self.erasing.insert((tenant, witness))
        {
            return;
        }
        self.tell_clerk(Task::Erase {
            tenant,
            tenant_name: self.tenant(tenant).name.clone(),
            witness,
        });
    }

    /// Takes over the jobs of before.
    pub(super) fn resume(&mut self, rows: Vec<JobRow>) {
        let now = self.parts.clock.now();
        let unix_ms = unix_ms();
        let mut ended = Vec::new();
        let (mut unfinished, mut out) = (Vec::new(), Vec::new());
        for row in rows {
            // The clock of the day may have been set back meanwhile.
            self.next_job = self.next_job.max(row.job + 1);
            let named = self.tenants.iter().position(|t| t.name == row.tenant);
            let Some(tenant) = named.and_then(|at| u32::try_from(at).ok()).map(TenantId) else {
                tracing::warn!(tenant = %row.tenant, "a job of a tenant that is not configured");
                continue;
            };
            let job = JobId(row.job);
            let entry = Entry::restored(tenant, row, now, unix_ms, &*self.parts.device);
            if let Some(key) = entry.request.idempotency_key.clone() {
                self.keys.insert((tenant, key), job);
            }
            if entry.has_ended() {
                ended.push((entry.ended_ms, job, tenant));
            } else {
                match entry.fence() {
                    Some(_) => out.push(job),
                    None => unfinished.push(job),
                }
                self.tenants[tenant.0 as usize].watch.begin();
            }
            self.jobs.insert(job, entry);
        }
        ended.sort_unstable();
        for (_, job, tenant) in ended {
            let witness = self.jobs[&job].request.witness;
            self.erase_witness(job, tenant, witness);
            self.keep_few(tenant, job);
        }
        if !unfinished.is_empty() {
            tracing::info!(count = unfinished.len(), "jobs of before go on");
        }
        for job in unfinished {
            self.offer(job);
        }
        self.resume_lent(out);
    }

    /// Offers a job of before, or one that has come home, to the arbiter.
    pub(super) fn offer(&mut self, job: JobId) {
        let Some(entry) = self.jobs.get(&job).filter(|entry| !entry.has_ended()) else {
            return;
        };
        let (tenant, request) = (entry.tenant, &entry.request);
        let Some(circuit) = self.circuits.get(&(tenant, request.circuit)) else {
            let circuit = request.circuit;
            return self.fail(job, RpcError::CircuitUnknown { circuit });
        };
        if let Some(error) = circuit.failed() {
            let error = error_of(error, request);
            return self.fail(job, error);
        }
        let (it, circuit) = (circuit, request.circuit);
        let key = it.key();
        let deadline = request.deadline_ms.map(|ms| {
            let left = Nanos::from_millis(ms).since(entry.before);
            entry.received.plus(left)
        });
        let received = entry.received;
        // Its deadline is not held against it any more, so a cost that is only reckoned will do.
        let mut work: Work = self.work(it.cost(false), it);
        let on_host = entry.suspicion.is_some();
        if on_host {
            // It touches none, so it should keep none from others, nor have them make room for its key.
            (work.devices, work.device_memory) = (0, 0);
        }
        let preparation = Preparation {
            tenant,
            tenant_name: self.tenant(tenant).name.clone(),
            circuit,
            key: key.clone(),
            on_host,
            witness: request.witness,
            witness_bytes: entry.witness.clone(),
        };
        self.parts.preparations.leave(job, preparation);
        self.parts.inbox.send_waiting(Command::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
            again: true,
        });
        if key.is_none() {
            self.await_key(tenant, circuit, job);
        }
    }

    /// Ends waits whose time has come, offers again what has waited for a place, and forgets what has been
    /// kept for long enough.
    pub(super) fn watch_jobs(&mut self, now: Nanos) {
        self.expire(now);
        if !self.parked.is_empty() && now >= self.parked_until {
            for job in std::mem::take(&mut self.parked) {
                self.offer(job);
            }
        }
        let keep_ms = self.parts.config.limits.result_seconds.saturating_mul(1000);
        let oldest_ms = unix_ms().saturating_sub(keep_ms);
        for at in 0..self.tenants.len() {
            while let Some(&job) = self.tenants[at].ended.front()
                && self.jobs.get(&job).is_none_or(|it| it.ended_ms < oldest_ms)
            {
                self.tenants[at].ended.pop_front();
                self.forget_job(job);
            }
        }
    }

    /// Answers the calls that have waited until now.
    pub(super) fn expire(&mut self, now: Nanos) {
        while let Some(&(until, ticket)) = self.due.first()
            && until <= now
        {
            self.due.remove(&(until, ticket));
            self.end_wait(ticket);
        }
    }

    /// Answers a call before its job has ended.
    pub(super) fn end_wait(&mut self, ticket: u64) {
        if let Some(Waiting {
            question: Question::Job { job, .. },
            ..
        }) = self.waiting.get(&ticket)
            && let Some(entry) = self.jobs.get_mut(job)
        {
            entry.watching.retain(|it| *it != ticket);
        }
        self.tell(ticket);
    }

    /// Answers a call that waits for the end of a job with an error.
    pub(super) fn break_wait(&mut self, ticket: u64, error: &RpcError) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        if let Question::Job { job, until, .. } = waiting.question {
            if let Some(until) = until {
                self.due.remove(&(until, ticket));
            }
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.watching.retain(|it| *it != ticket);
            }
        }
        self.settle(waiting, Err(error.clone()));
    }

    /// The calls of a request that wait for the end of a job, or for their time.
    pub(super) fn waits_of(&self, exchange: u64) -> Vec<(u64, JobId, Nanos)> {
        let all = self.waiting.iter().filter_map(|(ticket, waiting)| {
            let place = waiting.place.as_ref()?;
            match waiting.question {
                Question::Job {
                    job,
                    until: Some(until),
                    ..
                } if place.exchange == exchange => Some((*ticket, job, until)),
                _ => None,
            }
        });
        all.collect()
    }

    /// Forgets the calls of a client that has gone.
    pub(super) fn forget_waits(&mut self, exchange: u64) {
        for (ticket, job, until) in self.waits_of(exchange) {
            self.waiting.remove(&ticket);
            self.due.remove(&(until, ticket));
            if let Some(entry) = self.jobs.get_mut(&job) {
                entry.watching.retain(|it| *it != ticket);
            }
        }
    }

    /// Answers a call that has waited for the end of a job.
    fn tell(&mut self, ticket: u64) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        match waiting.question {
            Question::Job { job, asked, until } => {
                if let Some(until) = until {
                    self.due.remove(&(until, ticket));
                }
                let outcome = self.show(job, asked);
                self.settle(waiting, outcome);
            }
            Question::Lent { job, won } => {
                let job = JobName(job.0);
                let outcome = match won {
                    true => as_json(&FleetDone { job }),
                    false => Err(RpcError::JobNotLent { job }),
                };
                self.settle(waiting, outcome);
            }
            _ => {}
        }
    }

    pub(super) fn refused(&mut self, job: JobId, reason: Refusal, retry_after: Option<Nanos>) {
        self.parts.preparations.withdraw(job);
        if let Some(entry) = self.jobs.get(&job)
            && entry.written == Written::Yes
        {
            // It was accepted by an earlier process.
            if !entry.has_ended() {
                if let Refusal::HostMemory { max, got } = reason {
                    // Of one that gave more; it would be refused for ever.
                    return self.fail(job, too_large(max, got));
                }
                if self.parked.is_empty() {
                    self.parked_until = self.parts.clock.now().plus(PARKED);
                }
                self.parked.push_back(job);
            }
            return;
        }
        let Some(entry) = self.jobs.remove(&job) else {
            return;
        };
        if !entry.has_ended() {
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
            Refusal::HostMemory { max, got } => too_large(max, got),
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

    fn settle_all(&mut self, tickets: Vec<u64>, outcome: &Result<Json, RpcError>) {
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

    pub(super) fn prepared(
        &mut self,
        job: Arc<RunningJob>,
        at: Nanos,
        span: Nanos,
        computed: Option<Computing>,
    ) {
        let id = job.id();
        if let Some(entry) = self.jobs.get_mut(&id)
            && !entry.has_ended()
        {
            if entry.suspicion.is_some() && !job.wanted() {
                // It failed so soon that this message comes second; it is being tried again.
                self.bury(job);
                return;
            }
            let (tenant, circuit) = (entry.tenant, entry.request.circuit);
            let bytes = job.job().bytes() as u64;
            entry.phase = Phase::Prepared;
            entry.prepared = Some(at);
            entry.prepared_span = span;
            entry.computed = computed;
            self.profiles.open(id, job.job().stages());
            entry.running = Some(job);
            self.learn_bytes(tenant, circuit, bytes);
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
        if self.jobs.get(&job).is_some_and(|it| !it.has_ended()) {
            self.finish(job, Phase::Failed(error), now);
        }
    }

    /// Workers have ended a job.
    pub(super) fn ended(&mut self, job: Arc<RunningJob>, outcome: Outcome, at: Nanos) {
        let id = job.id();
        if self.jobs.get(&id).is_none_or(Entry::has_ended) {
            // It was cancelled before this thread knew that it was prepared.
            self.bury(job);
            return;
        }
        self.tell_losses();
        let proof = match outcome {
            Outcome::Proved => job.job().proof(),
            Outcome::Failed => None,
        };
        if proof.is_none() && self.suspect(id, &job) {
            self.bury(job);
            self.offer(id);
            return;
        }
        if let (Some(_), Some(it)) = (&proof, &self.jobs[&id].suspicion) {
            let (job, why) = (JobName(id.0), it.why.as_str());
            match (it.is_wrong, self.jobs[&id].was_mixed) {
                // A device is lost, and has left already; the others are none the worse for it.
                (false, _) => tracing::warn!(%job, why, "the host proves it"),
                (true, true) => {
                    tracing::error!(%job, why, "the host proves it: other silicon is to blame");
                    let doubt = Doubt {
                        why: why.to_owned(),
                        lost: self.jobs[&id].lost,
                    };
                    self.parts.residence.doubt(&*self.parts.device, doubt);
                }
                (true, false) => {
                    tracing::error!(%job, why, "the same processor proves it: it or its memory is not to be relied on");
                }
            }
            self.telemetry.disagreed += u64::from(it.is_wrong);
            // The run that went wrong was not its tenant's fault.
            self.telemetry.forgive(self.jobs[&id].tenant, it.spent);
        }
        let phase = match (&proof, self.jobs.get(&id)) {
            (Some((proof, public)), Some(entry)) => {
                match entry.done(&job, proof, public, &self.parts.units, self.cores()) {
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
                let counts = job.tallies().iter().flat_map(|tally| tally.kernels());
                let core = Nanos(counts.map(|it| it.core_ns).sum());
                self.learn_cost(tenant, circuit, core);
            }
        }
        self.finish(id, phase, at);
        self.bury(job);
    }

    /// Logs once of each device that is lost; most losses are found while a job runs.
    pub(super) fn tell_losses(&mut self) {
        for (member, (info, health)) in self.parts.device.members().iter().enumerate() {
            let is_told = self.losses_told >> member & 1 == 1;
            if let (Some(why), false) = (&health.lost, is_told) {
                let device = &info.name;
                tracing::error!(device, why, "a device is lost: others do its work");
                self.losses_told |= 1 << member;
            }
        }
    }

    /// Whether a job that failed is to be tried once more, on the host alone, for silicon may be to
    /// blame: that beside the host, or a bit that fell over in it. If the host fails (again) the witness is, and the silicon stays.
    fn suspect(&mut self, id: JobId, job: &RunningJob) -> bool {
        let cores = self.cores();
        let error = job.job().error().filter(|error| error.may_be_silicon());
        let (Some(entry), Some(error)) = (self.jobs.get_mut(&id), error) else {
            return false;
        };
        if entry.suspicion.is_some() {
            return false;
        }
        tracing::warn!(job = %JobName(id.0), error = %chain(&error), "failed; tried again on the host alone");
        let (of_cores, of_devices) = job.tallies().split_at(cores);
        let spent = [of_cores, of_devices].map(Tally::charged);
        entry.suspicion = Some(Suspicion {
            why: chain(error).to_string(),
            is_wrong: error.is_wrong_result(),
            spent,
        });
        entry.phase = Phase::Queued;
        entry.running = None;
        entry.prepared = None;
        true
    }

    pub(super) fn cancel(&mut self, tenant: TenantId, query: JobQuery) -> Result<Flow, RpcError> {
        let job = self.job_of(tenant, query.job)?;
        self.cancel_job(job)?;
        // The answer comes when it is written down how the job ended.
        self.look(job, Asked::Status, Some(None))
    }

    /// Ends all that a tenant has not had proved.
    pub(super) fn cancel_all(&mut self, tenant: TenantId) {
        let unfinished = self.jobs.iter();
        let unfinished = unfinished.filter(|(_, it)| it.tenant == tenant && !it.has_ended());
        let unfinished: Vec<JobId> = unfinished.map(|(job, _)| *job).collect();
        for job in unfinished {
            // They are there.
            let _ = self.cancel_job(job);
        }
    }

    fn cancel_job(&mut self, job: JobId) -> Result<(), RpcError> {
        let entry = self.jobs.get(&job).ok_or(RpcError::Internal)?;
        // A prepared job belongs to the one who ends it first: perhaps a worker just has.
        let ended = match &entry.running {
            Some(running) => !running.end(),
            None => false,
        };
        if !ended && !entry.has_ended() {
            if let Some(running) = &entry.running {
                running.job().cancel();
            }
            if entry.fence().is_none() {
                self.parts.preparations.withdraw(job);
                self.parts.inbox.send_waiting(Command::Cancel(job));
            }
            let now = self.parts.clock.now();
            self.finish(job, Phase::Cancelled, now);
        }
        Ok(())
    }

    /// Where a job stands, or what came of it; perhaps once it has ended.
    pub(super) fn ask(
        &mut self,
        tenant: TenantId,
        query: JobWait,
        asked: Asked,
    ) -> Result<Flow, RpcError> {
        let job = self.job_of(tenant, query.job)?;
        let wait_ms = query.wait_ms.unwrap_or(0);
        let wait_ms = wait_ms.min(self.parts.config.limits.wait_ms);
        let until = || self.parts.clock.now().plus(Nanos::from_millis(wait_ms));
        let wait = (wait_ms > 0 && !self.stopping).then(|| Some(until()));
        self.look(job, asked, wait)
    }

    /// Shows a job, or waits for its end first, and for no longer than is said.
    fn look(
        &mut self,
        job: JobId,
        asked: Asked,
        wait: Option<Option<Nanos>>,
    ) -> Result<Flow, RpcError> {
        let goes_on = |entry: &Entry| !entry.is_told();
        let Some(until) = wait.filter(|_| self.jobs.get(&job).is_some_and(goes_on)) else {
            return self.show(job, asked).map(Flow::Done);
        };
        let ticket = self.ticket();
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.watching.push(ticket);
        }
        self.due.extend(until.map(|until| (until, ticket)));
        Ok(Flow::Wait(ticket, Question::Job { job, asked, until }))
    }

    pub(super) fn show(&self, id: JobId, asked: Asked) -> Result<Json, RpcError> {
        let job = JobName(id.0);
        let entry = self.jobs.get(&id).ok_or(RpcError::JobUnknown { job })?;
        if asked == Asked::Status {
            return as_json(&entry.status(id));
        }
        match &entry.phase {
            Phase::Proved(done) if entry.is_told() => as_json(&JobResult {
                job,
                proof: done.proof.clone(),
                public_inputs: done.public_inputs.clone(),
                calldata: done.calldata.clone(),
                timings: done.timings.clone(),
                late: entry.late().unwrap_or(false),
            }),
            Phase::Failed(error) if entry.is_told() => Err(error.clone()),
            Phase::Cancelled if entry.is_told() => Err(RpcError::JobCancelled { job }),
            _ => Err(RpcError::JobNotFinished {
                job,
                state: entry.state(),
            }),
        }
    }

    /// Ends a job that cannot be prepared.
    pub(super) fn fail(&mut self, job: JobId, error: RpcError) {
        if self.jobs.get(&job).is_some_and(|it| !it.has_ended()) {
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
                // Until its end is written down a restart would prove it again.
                _ if !entry.is_told() => {
                    uses.circuits.insert(circuit);
                    uses.witnesses.insert(witness);
                }
                Phase::Proved(_) => drop(uses.proved.insert(witness)),
                _ => {}
            }
        }
        uses
    }

    /// How many unfinished jobs have a blob as their witness.
    pub(super) fn unfinished_on(&self, tenant: TenantId, witness: Digest) -> u64 {
        let on_it = |entry: &&Entry| {
            let own = entry.tenant == tenant && entry.request.witness == witness;
            own && entry.witness.is_none() && !entry.is_told()
        };
        self.jobs.values().filter(on_it).count() as u64
    }

    /// How many jobs of a tenant have not ended.
    pub(super) fn unfinished_of(&self, tenant: TenantId) -> u64 {
        let own = |entry: &&Entry| entry.tenant == tenant && !entry.has_ended();
        self.jobs.values().filter(own).count() as u64
    }

    /// How many jobs of a circuit have not ended.
    pub(super) fn unfinished(&self, tenant: TenantId, circuit: Digest) -> u64 {
        let of_it = |entry: &&Entry| {
            entry.tenant == tenant && entry.request.circuit == circuit && !entry.is_told()
        };
        self.jobs.values().filter(of_it).count() as u64
    }

    /// Whether a caller may know of a job.
    pub(super) fn may_see(&self, caller: Caller, job: JobId) -> bool {
        match caller {
            Caller::Operator => true,
            Caller::Fleet => false,
            Caller::Tenant(tenant) => self.jobs.get(&job).is_some_and(|it| it.tenant == tenant),
        }
    }

    pub(super) fn job_of(&self, tenant: TenantId, name: JobName) -> Result<JobId, RpcError> {
        let job = JobId(name.0);
        let own = self.may_see(Caller::Tenant(tenant), job);
        own.then_some(job).ok_or(RpcError::JobUnknown { job: name })
    }

    fn finish(&mut self, job: JobId, phase: Phase, at: Nanos) {
        self.write_down(job);
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        let state = match &phase {
            Phase::Proved(_) => EndState::Proved,
            Phase::Failed(_) => EndState::Failed,
            _ => EndState::Cancelled,
        };
        entry.ending = Some(entry.state());
        let fence = entry.fence();
        let metered = entry.metered.take();
        entry.phase = phase;
        entry.finished = Some(at);
        entry.ended_ms = unix_ms();
        let running = entry.running.take();
        if let Some(running) = &running
            && entry.first.is_none()
        {
            entry.first = running.first_quantum();
        }
        let outcome = match state {
            EndState::Proved => 0,
            EndState::Failed => 1,
            EndState::Cancelled => 2,
        };
        self.tenants[entry.tenant.0 as usize].watch.end(at);
        self.telemetry.ended[outcome] += 1;
        let first = entry.first.filter(|_| outcome == 0);
        let spans = first.map(|first| [entry.since(first), at.since(first)]);
        let scenario = &self.tenants[entry.tenant.0 as usize].scenario;
        self.telemetry.work.ended(scenario, outcome, spans);
        let late = entry.late().unwrap_or(false);
        self.telemetry.late += u64::from(outcome == 0 && late);
        let ms = super::ms(entry.since(at)) as u64;
        let error = match &entry.phase {
            Phase::Failed(error) => error.reason(),
            _ => "",
        };
        let work = match &entry.phase {
            Phase::Proved(done) if fence.is_some() => WorkEnd::Elsewhere {
                proof: done.digest(),
                metered,
            },
            Phase::Proved(done) => WorkEnd::Proved(done.digest()),
            Phase::Failed(error) => WorkEnd::Failed(cause(error)),
            _ => WorkEnd::Cancelled,
        };
        let end = JobWrite::End {
            job: job.0,
            attempt: entry.attempt,
            end: JobEnd {
                state,
                at_ms: entry.ended_ms,
                outcome: entry.outcome(),
            },
        };
        let tenant = entry.tenant;
        let (name, job_name) = (&self.tenant(tenant).name, JobName(job.0));
        tracing::info!(tenant = %name, job = %job_name, ?state, ms, late, error, "job ended");
        self.tell_of_job(tenant, end, Some(work));
        if let Some(fence) = fence {
            self.lent_ended(job, fence, state == EndState::Proved);
        }
        if let Some(running) = running {
            self.profiles.end(job, quanta_of(&running));
            self.bury(running);
        }
    }

    /// Notes a job as ended and forgets the oldest beyond what is kept.
    fn keep_few(&mut self, tenant: TenantId, job: JobId) {
        let kept = self.parts.config.limits.tenant_results;
        let ended = &mut self.tenants[tenant.0 as usize].ended;
        ended.push_back(job);
        if ended.len() > kept
            && let Some(oldest) = ended.pop_front()
        {
            self.forget_job(oldest);
        }
    }

    /// Forgets an ended job, here and in the store.
    fn forget_job(&mut self, job: JobId) {
        if let Some(entry) = self.jobs.remove(&job) {
            self.profiles.forget(job);
            if let Some(key) = entry.request.idempotency_key {
                self.keys.remove(&(entry.tenant, key));
            }
            self.tell_clerk(Task::Job(JobWrite::Forget { job: job.0 }));
        }
    }

    fn bury(&self, job: Arc<RunningJob>) {
        // A reaper that is gone leaves the job to be freed here; that happens only at the end.
        let _ = self.parts.grave.send(job);
    }
}

impl Done {
    /// Of what a client has of a proof, in one text.
    fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.calldata).into()
    }
}

impl Entry {
    /// A job as the store has it. It was received so long before `now` as the clock of the day says.
    fn restored(
        tenant: TenantId,
        row: JobRow,
        now: Nanos,
        unix_ms: u64,
        device: &dyn Device,
    ) -> Entry {
        let before = Nanos::from_millis(unix_ms.saturating_sub(row.submitted_ms));
        let mut entry = Entry {
            tenant,
            request: Submit {
                circuit: Digest(row.circuit),
                witness: Digest(row.witness),
                witness_data: None,
                deadline_ms: row.deadline_ms,
                idempotency_key: row.key.and_then(|key| key.parse().ok()),
            },
            witness: row.in_row,
            blob_left: row.blob_left,
            received: now,
            before,
            submitted_ms: row.submitted_ms,
            attempt: row.attempt,
            stays: false,
            was_mixed: device.is_mixed(),
            lost: lost_members(device),
            suspicion: None,
            phase: match row.lent {
                true => Phase::Lent(now, Written::Yes),
                false => Phase::Arriving,
            },
            written: Written::Yes,
            ending: None,
            running: None,
            prepared: None,
            prepared_span: Nanos::ZERO,
            computed: None,
            first: None,
            finished: None,
            ended_ms: 0,
            waiting: Vec::new(),
            watching: Vec::new(),
            metered: None,
        };
        if let Some(end) = row.end {
            // Its times are counted from receipt, which is at zero then.
            (entry.received, entry.before) = (Nanos::ZERO, Nanos::ZERO);
            entry.ended_ms = end.at_ms;
            // What this version cannot read was written by no version.
            let ended = serde_json::from_str(&end.outcome).unwrap_or_else(|error| {
                tracing::error!(job = %JobName(row.job), error = %chain(&error), "the outcome of a job");
                Ended {
                    started_ns: None,
                    finished_ns: 0,
                    error: None,
                    done: None,
                }
            });
            entry.first = ended.started_ns.map(Nanos);
            entry.finished = Some(Nanos(ended.finished_ns));
            entry.phase = match (end.state, ended.done, ended.error) {
                (EndState::Proved, Some(done), _) => Phase::Proved(done),
                (EndState::Failed, _, Some(error)) => {
                    Phase::Failed(error_of(&error, &entry.request))
                }
                (EndState::Cancelled, ..) => Phase::Cancelled,
                _ => Phase::Failed(RpcError::Internal),
            };
        }
        entry
    }

    /// What the store keeps of its end.
    fn outcome(&self) -> String {
        #[derive(Serialize)]
        struct Written<'a> {
            started_ns: Option<u64>,
            finished_ns: u64,
            error: Option<JobError>,
            done: Option<&'a Done>,
        }
        let since = |at: Nanos| self.since(at).0;
        let written = Written {
            started_ns: self.first.map(since),
            finished_ns: self.finished.map_or(0, since),
            error: match &self.phase {
                Phase::Failed(error) => Some(job_error(error)),
                _ => None,
            },
            done: match &self.phase {
                Phase::Proved(done) => Some(done),
                _ => None,
            },
        };
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Whether nothing will change any more.
    fn has_ended(&self) -> bool {
        matches!(
            self.phase,
            Phase::Proved(_) | Phase::Failed(_) | Phase::Cancelled
        )
    }

    /// If it is lent: under which fence.
    pub(super) fn fence(&self) -> Option<u64> {
        matches!(self.phase, Phase::Lent(..)).then_some(self.attempt)
    }

    /// Whether it has ended and that is written down.
    pub(super) fn is_told(&self) -> bool {
        self.has_ended() && self.ending.is_none()
    }

    /// How long after receipt that is.
    fn since(&self, at: Nanos) -> Nanos {
        self.before.plus(at.since(self.received))
    }

    fn state(&self) -> JobState {
        if let Some(shown) = self.ending {
            return shown;
        }
        match &self.phase {
            // Its tenant need not know where it waits.
            Phase::Arriving | Phase::Queued | Phase::Lent(..) => JobState::Queued,
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

    /// Whose it is.
    pub(super) fn tenant(&self) -> TenantId {
        self.tenant
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
        let took = self.since(self.finished?);
        Some(took > Nanos::from_millis(self.request.deadline_ms?))
    }

    pub(super) fn status(&self, job: JobId) -> JobStatus {
        let since = |at: Nanos| ms(self.since(at));
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
        let told = self.is_told();
        JobStatus {
            job: JobName(job.0),
            circuit: self.request.circuit,
            state: self.state(),
            progress,
            submitted_ms: self.submitted_ms,
            deadline_ms: self.request.deadline_ms,
            started_ms: first.map(since),
            finished_ms: self.finished.filter(|_| told).map(since),
            late: self.late().filter(|_| told),
            error: match &self.phase {
                Phase::Failed(error) if told => Some(job_error(error)),
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
        cores_there: usize,
    ) -> Result<Done, RpcError> {
        let first = job.first_quantum().unwrap_or(self.received);
        let waited = self.since(first);
        // It was no core of the pool, so it is among none of those.
        let witness = self.computed.map(|it| StageTiming {
            kernel: WITNESS.to_owned(),
            quanta: it.slices,
            cpu_ms: ms(it.spent),
            device_ms: None,
            max_quantum_us: it.longest.0 as f64 / 1e3,
        });
        let mut stages = Vec::from_iter(witness);
        let mut cores = Vec::new();
        for (unit, (tally, (core, _))) in job.tallies().iter().zip(units).enumerate() {
            let mut share = CoreShare {
                core: u32::try_from(*core).unwrap_or(u32::MAX),
                quanta: 0,
                cpu_ms: 0.0,
            };
            let is_core = unit < cores_there;
            for it in tally.kernels() {
                share.quanta += it.quanta;
                share.cpu_ms += it.core_ns as f64 / 1e6;
                let at = match stages.iter().position(|stage| stage.kernel == it.kernel) {
                    Some(at) => at,
                    None => {
                        stages.push(StageTiming {
                            kernel: it.kernel.to_owned(),
                            quanta: 0,
                            cpu_ms: 0.0,
                            device_ms: None,
                            max_quantum_us: 0.0,
                        });
                        stages.len() - 1
                    }
                };
                let stage = &mut stages[at];
                stage.quanta += it.quanta;
                stage.cpu_ms += it.core_ns as f64 / 1e6;
                if !is_core {
                    *stage.device_ms.get_or_insert(0.0) += it.ns as f64 / 1e6;
                }
                stage.max_quantum_us = stage.max_quantum_us.max(it.ns_max as f64 / 1e3);
            }
            if share.quanta > 0 && is_core {
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
                witness_ms: self.computed.map(|it| ms(it.spent)),
                proved_ms: ms(job.last_quantum().since(first)),
                stages,
                cores,
            },
        })
    }
}

/// The error that a job ended with, out of what is kept of it.
fn error_of(kept: &JobError, request: &Submit) -> RpcError {
    let detail = |before: &str| {
        let text = kept.message.strip_prefix(before);
        text.unwrap_or(&kept.message).to_owned()
    };
    let reason = kept.reason.as_str();
    if let Some(fault) = WitnessFault::from_reason(reason) {
        let detail = detail("witness refused: ");
        return RpcError::WitnessRefused { fault, detail };
    }
    if let Some(fault) = KeyFault::from_reason(reason) {
        let detail = detail("key refused: ");
        return RpcError::KeyRefused { fault, detail };
    }
    if let Some(fault) = InputsFault::from_reason(reason) {
        let detail = detail("inputs refused: ");
        return RpcError::InputsRefused { fault, detail };
    }
    let circuit = request.circuit;
    let errors = [
        RpcError::SelfCheckFailed,
        RpcError::DevelopmentKey,
        RpcError::StorageFull,
        RpcError::CircuitUnknown { circuit },
        RpcError::ProgramMissing { circuit },
        RpcError::ProgramRefused {
            detail: detail("witness program refused: "),
        },
        RpcError::BlobUnknown {
            digest: request.witness,
        },
        RpcError::KeySource {
            detail: detail("source: "),
        },
        RpcError::QuotaExceeded {
            detail: detail("quota reached: "),
        },
    ];
    let mut errors = errors.into_iter();
    let found = errors.find(|error| error.reason() == reason);
    found.unwrap_or(RpcError::Internal)
}

fn unix_ms() -> u64 {
    unix_time().as_millis() as u64
}

/// How many quanta of a job workers have counted.
fn quanta_of(job: &RunningJob) -> u64 {
    let kernels = job.tallies().iter().flat_map(|tally| tally.kernels());
    kernels.map(|it| it.quanta).sum()
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
            tracing::error!(job = %id, error = %chain(&error), "proving failed");
            RpcError::Internal
        }
        None => {
            tracing::error!(job = %id, "a job ended with neither a proof nor an error");
            RpcError::Internal
        }
    }
}

/// Among the kernels, what computes and checks witnesses.
const WITNESS: &str = "witness";
/// When to come back to a box whose disk takes no writes.
const STORAGE_RETRY_MS: u64 = 1_000;
/// How often a job of before is offered again that had no place.
const PARKED: Nanos = Nanos::from_millis(100);

/// The refusal of a circuit whose jobs need more memory than the box gives to all.
fn too_large(max: u64, got: u64) -> RpcError {
    RpcError::QuotaExceeded {
        detail: format!(
            "memory for jobs: expected a circuit that needs at most {max} bytes of it, got one that needs {got}"
        ),
    }
}
