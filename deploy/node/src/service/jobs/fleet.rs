//! Jobs that another box is to prove, as the box's fleet process is told of them.
//!
//! ```text
//!                 Command::Lend        on the disk       fleet_takeV1
//! Queued ───────────────── let go ─────────────── untold ──────────── out ─┬ ended, by a proof that was verified here
//!   ▲                                                                      ├ ended, cancelled
//!   └── taken back, once that is on the disk ──────────────────────────────┘
//! ```
//!
//! **Which.** A job that waits and of which nothing is in memory, of a tenant whom the operator lists and who does not prove for
//! other boxes (`Service::meet_at_fleets`). Whether the box would reach it in time by itself the arbiter says
//! (`Arbiter::lend`), which lets it go in the same moment, so it is never begun here and elsewhere. A presentation of a
//! state unit never leaves, nor do inputs, whose program the other box has not. Those with deadlines are looked at first,
//! in their order; of the others the last first, as a thief takes from the far end of a deque (Blumofe and Leiserson,
//! 1999): it would wait longest here.
//!
//! **How it comes home.** The fleet returns it; or its deadline is so near that this box must begin now; or the fleet has been
//! silent for longer than the operator's patience. Not because cores are idle: what is being proved elsewhere would be
//! proved twice. What came home for the first two reasons is not lent again by this process.
//!
//! **What the fleet may rely on.** It hears of a job when that is on the disk, and so is what it is told of the end. Its list
//! (`fleet_heldV1`) is the truth; withdrawals are told once, by a number that rises, and only those of this process are known.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::groth16::solidity;
use caldera_prover::units::{PUBLIC, WIRES};
use caldera_rpc::chain::chain;
use caldera_rpc::error::{Full, RpcError};
use caldera_rpc::jsonrpc::{Json, Params};
use caldera_rpc::methods::{
    CircuitState, FleetBill, FleetBillQuery, FleetDone, FleetHeld, FleetHeldQuery, FleetMeter,
    FleetMetered, FleetResult, FleetReturn, FleetTake, FleetTaken, JobName, LentCircuit, LentJob,
    LentName, LentWitness, Metered, Method, TAKE_MAX, Timings,
};
use caldera_scheduler::{JobId, Nanos};
use caldera_store::blob::BlobError;
use caldera_store::jobs::JobWrite;
use serde_json::json;

use super::{Done, Entry, Phase, RETRY_MS, STORAGE_RETRY_MS, Written, unix_ms};
use crate::arbiter_thread::Command;
use crate::config::FleetConfig;
use crate::era::Ask;
use crate::lending::{self, Judging, NoPiece, Piece, Reading};
use crate::service::circuits::Circuit;
use crate::service::{Answer, Caller, Flow, Question, Service, Waiting, as_json, value};
use crate::witness;

/// What is with the fleet, and who waits for more of it.
pub(in crate::service) struct Lent {
    /// Jobs that are out, or will be once that is written down.
    out: BTreeSet<JobId>,
    /// When those with a deadline are taken back.
    back: BTreeSet<(Nanos, JobId)>,
    /// Jobs that are to be looked at.
    candidates: VecDeque<JobId>,
    /// Jobs of which the arbiter has not said whether it lets them go.
    asked: HashSet<JobId>,
    /// Jobs that it has let go and that are not written down as lent.
    unwritten: HashSet<JobId>,
    /// Jobs that are written down as lent and that no answer has told.
    untold: VecDeque<JobId>,
    /// What was withdrawn, oldest first, each with its number.
    withdrawn: VecDeque<(u64, LentName)>,
    /// The number of the last.
    cursor: u64,
    take: Option<Take>,
    /// Calls that wait until a return is written down.
    returning: HashMap<JobId, Vec<u64>>,
    /// Results that are being verified, with what their makers have signed.
    judging: HashMap<u64, (LentName, Option<Metered>)>,
    /// When the fleet was heard last.
    heard: Nanos,
    /// When candidates are looked for next.
    look_at: Nanos,
    counts: Counts,
}

/// A `fleet_takeV1` that waits.
struct Take {
    ticket: u64,
    max: usize,
    cursor: u64,
    until: Nanos,
}

/// What came of jobs that were lent, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    lent: u64,
    proved: u64,
    returned: u64,
    overdue: u64,
    silent: u64,
    refused: [u64; REFUSALS.len()],
}

/// Why a job comes home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    Returned,
    Overdue,
    Silent,
}

impl Lent {
    /// Nothing is lent, and the fleet has just been heard.
    pub(in crate::service) fn new(now: Nanos) -> Lent {
        Lent {
            out: BTreeSet::new(),
            back: BTreeSet::new(),
            candidates: VecDeque::new(),
            asked: HashSet::new(),
            unwritten: HashSet::new(),
            untold: VecDeque::new(),
            withdrawn: VecDeque::new(),
            // Numbers go on upwards after a restart, so that one of before is seen to be of before.
            cursor: unix_ms(),
            take: None,
            returning: HashMap::new(),
            judging: HashMap::new(),
            heard: now,
            look_at: now,
            counts: Counts::default(),
        }
    }

    /// How long until something is due though nothing happens.
    pub(in crate::service) fn due_in(&self, now: Nanos) -> Option<Duration> {
        let back = self.back.first().map(|(at, _)| *at);
        let take = self.take.as_ref();
        let take = take.map(|take| match (self.under_way(), take.max) {
            (_, 0) => take.until,
            (0, _) => take.until.min(self.look_at),
            // The arbiter and the clerk wake this thread.
            _ => take.until.plus(OVER_MAX),
        });
        let due = back.into_iter().chain(take).min()?;
        Some(Duration::from_nanos(due.since(now).0))
    }

    /// Of how many jobs it is not known yet whether they are lent.
    fn under_way(&self) -> usize {
        self.asked.len() + self.unwritten.len()
    }

    /// What `/metrics` says of it.
    pub(in crate::service) fn gauges(&self) -> crate::telemetry::FleetGauges {
        let counts = self.counts;
        crate::telemetry::FleetGauges {
            out: self.out.len() as u64,
            lent: counts.lent,
            proved: counts.proved,
            home: [
                ("returned", counts.returned),
                ("deadline", counts.overdue),
                ("silence", counts.silent),
            ],
            refused: std::array::from_fn(|at| (REFUSALS[at], counts.refused[at])),
        }
    }

    fn is_busy_with(&self, job: JobId) -> bool {
        self.asked.contains(&job) || self.out.contains(&job)
    }

    fn forget(&mut self, job: JobId) {
        self.out.remove(&job);
        self.back.retain(|(_, of)| *of != job);
        self.untold.retain(|of| *of != job);
    }

    fn withdraw(&mut self, name: LentName) {
        self.cursor += 1;
        self.withdrawn.push_back((self.cursor, name));
        if self.withdrawn.len() > WITHDRAWN_MAX {
            self.withdrawn.pop_front();
        }
    }

    /// After which number all withdrawals are known.
    fn oldest(&self) -> u64 {
        let first = self.withdrawn.front();
        first.map_or(self.cursor, |(number, _)| number - 1)
    }
}

impl Service {
    /// A method of the fleet's, or a call of the fleet.
    pub(in crate::service) fn fleet(
        &mut self,
        caller: Caller,
        method: Method,
        params: Params,
    ) -> Result<Flow, RpcError> {
        if caller != Caller::Fleet || !method.is_fleets() {
            return Err(RpcError::InvalidRequest {
                detail: "fleet_* is for the fleet of the box, and nothing else is".into(),
            });
        }
        self.lent.heard = self.parts.clock.now();
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        let done = match method {
            Method::FleetTake => self.take_lent(params.decode()?),
            Method::FleetHeld => {
                let FleetHeldQuery {} = params.decode()?;
                self.held_by_fleet()
            }
            Method::FleetResult => self.lent_result(params.decode()?),
            Method::FleetReturn => self.lent_return(params.decode()?),
            Method::FleetBill => self.lent_bill(params.decode()?),
            Method::FleetMeter => self.meter_guests(params.decode()?),
            _ => Err(RpcError::MethodNotFound),
        };
        if let Err(error) = &done {
            self.count_refusal(error);
        }
        done
    }

    fn take_lent(&mut self, asked: FleetTake) -> Result<Flow, RpcError> {
        if asked.max > TAKE_MAX {
            let detail = format!("expected 0 to {TAKE_MAX}, got {}", asked.max);
            return Err(RpcError::misfit("max", detail));
        }
        let (oldest, newest, got) = (self.lent.oldest(), self.lent.cursor, asked.cursor);
        if !(oldest..=newest).contains(&got) {
            return Err(RpcError::FleetCursor {
                oldest,
                newest,
                got,
            });
        }
        if self.fault.is_some() {
            return Err(RpcError::StorageUnavailable {
                retry_after_ms: STORAGE_RETRY_MS,
            });
        }
        self.end_take();
        let wait_ms = asked.wait_ms.unwrap_or(0);
        let wait_ms = wait_ms.min(self.parts.config.limits.wait_ms);
        let now = self.parts.clock.now();
        let ticket = self.ticket();
        self.lent.take = Some(Take {
            ticket,
            max: asked.max as usize,
            cursor: asked.cursor,
            until: now.plus(Nanos::from_millis(wait_ms)),
        });
        self.lent.look_at = now;
        Ok(Flow::Wait(ticket, Question::Call))
    }

    fn held_by_fleet(&mut self) -> Result<Flow, RpcError> {
        let mut jobs = Vec::with_capacity(self.lent.out.len());
        for job in &self.lent.out {
            if !self.lent.unwritten.contains(job) {
                jobs.extend(self.lent_job(*job));
            }
        }
        self.lent.untold.clear();
        let cursor = self.lent.cursor;
        Ok(Flow::Done(as_json(&FleetHeld { jobs, cursor })?))
    }

    fn lent_result(&mut self, result: FleetResult) -> Result<Flow, RpcError> {
        let FleetResult {
            job,
            fence,
            proof,
            metered,
        } = result;
        if let Some(flow) = self.over(job) {
            return Ok(flow);
        }
        let name = LentName { job, fence };
        let entry = self.lent_entry(name)?;
        let (tenant, circuit) = (entry.tenant, entry.request.circuit);
        let (witness, witness_bytes) = (entry.request.witness, entry.witness.clone());
        let key = self.circuits.get(&(tenant, circuit)).and_then(Circuit::key);
        let state = CircuitState::Checking;
        let key = key.ok_or(RpcError::CircuitNotReady { circuit, state })?;
        let ticket = self.ticket();
        self.ask_lender(lending::Task::Judge(Box::new(Judging {
            ticket,
            tenant: self.tenant(tenant).name.clone(),
            key,
            witness,
            witness_bytes,
            proof,
        })))?;
        self.lent.judging.insert(ticket, (name, metered));
        Ok(Flow::Wait(ticket, Question::Call))
    }

    /// A proof from another box was looked at.
    pub(in crate::service) fn fleet_judged(
        &mut self,
        ticket: u64,
        verdict: Result<(Proof, PublicInputs), RpcError>,
    ) {
        let Some((name, metered)) = self.lent.judging.remove(&ticket) else {
            return;
        };
        let job = JobId(name.job.0);
        let taken = match verdict {
            // Another may have come first, or it was cancelled: that must be on the disk before it is told.
            Ok(_) if self.jobs.get(&job).is_some_and(Entry::has_ended) => {
                if !self.watch_end(ticket, job, false) {
                    self.answer_judged(ticket, Err(RpcError::JobNotLent { job: name.job }));
                }
                return;
            }
            Ok((proof, inputs)) => self.lent_entry(name).and_then(|entry| {
                let done = entry.done_elsewhere(&proof, &inputs, self.parts.clock.now())?;
                Ok(Box::new(done))
            }),
            Err(error) => Err(error),
        };
        match taken {
            Ok(done) => {
                self.watch_end(ticket, job, true);
                self.lent.counts.proved += 1;
                if let Some(entry) = self.jobs.get_mut(&job) {
                    entry.metered = metered;
                }
                let now = self.parts.clock.now();
                self.finish(job, Phase::Proved(done), now);
            }
            Err(error) => {
                if let RpcError::LentProofWrong { detail } = &error {
                    let job = name.job;
                    tracing::warn!(%job, detail, "what the fleet brought is no proof");
                }
                self.count_refusal(&error);
                self.answer_judged(ticket, Err(error));
            }
        }
    }

    fn answer_judged(&mut self, ticket: u64, outcome: Result<Json, RpcError>) {
        if let Some(waiting) = self.waiting.remove(&ticket) {
            self.settle(waiting, outcome);
        }
    }

    /// What a job earns the box that is to prove it.
    fn lent_bill(&mut self, query: FleetBillQuery) -> Result<Flow, RpcError> {
        let FleetBillQuery { job, fence, lender } = query;
        let entry = self.lent_entry(LentName { job, fence })?;
        let work = self.means(entry.tenant, None);
        match self.parts.config.era {
            None => Ok(Flow::Done(as_json(&FleetBill { bill: None })?)),
            Some(_) => Ok(self.ask_ledger(None, Ask::Bill { job, work, lender })),
        }
    }

    /// Signs that this box has proved a job for another.
    fn meter_guests(&mut self, it: FleetMeter) -> Result<Flow, RpcError> {
        let FleetMeter { job, bill } = it;
        let entry = self.jobs.get(&JobId(job.0));
        let entry = entry.filter(|it| self.tenants[it.tenant.0 as usize].guest);
        let entry = entry.ok_or(RpcError::JobUnknown { job })?;
        let proof = match &entry.phase {
            Phase::Proved(done) => done.digest(),
            _ => {
                let state = entry.state();
                return Err(RpcError::JobNotFinished { job, state });
            }
        };
        match self.parts.config.era {
            None => Ok(Flow::Done(as_json(&FleetMetered { metered: None })?)),
            Some(_) => Ok(self.ask_ledger(None, Ask::Meter { bill, proof })),
        }
    }

    fn lent_return(&mut self, named: FleetReturn) -> Result<Flow, RpcError> {
        let FleetReturn { job, fence } = named;
        if let Some(flow) = self.over(job) {
            return Ok(flow);
        }
        self.lent_entry(LentName { job, fence })?;
        let ticket = self.ticket();
        let job = JobId(job.0);
        self.lent.returning.entry(job).or_default().push(ticket);
        self.come_home(job, Home::Returned);
        Ok(Flow::Wait(ticket, Question::Call))
    }

    /// The answer about a job that has ended, once that is on the disk, if it is not.
    fn over(&mut self, job: JobName) -> Option<Flow> {
        let id = JobId(job.0);
        let entry = self.jobs.get(&id)?;
        if !entry.has_ended() || entry.is_told() {
            return None;
        }
        let ticket = self.ticket();
        self.jobs.get_mut(&id)?.watching.push(ticket);
        let question = Question::Lent {
            job: id,
            won: false,
        };
        Some(Flow::Wait(ticket, question))
    }

    /// Has a call that waits answered when the end of its job is on the disk; `false` if it is already.
    fn watch_end(&mut self, ticket: u64, job: JobId, won: bool) -> bool {
        let Some(entry) = self.jobs.get_mut(&job).filter(|entry| !entry.is_told()) else {
            return false;
        };
        entry.watching.push(ticket);
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.question = Question::Lent { job, won };
        }
        true
    }

    /// A job that is lent under a fence, and written down as that.
    fn lent_entry(&self, name: LentName) -> Result<&Entry, RpcError> {
        let LentName { job, fence: got } = name;
        let id = JobId(job.0);
        let entry = self.jobs.get(&id);
        let entry = entry.filter(|_| !self.lent.unwritten.contains(&id));
        let entry = entry.ok_or(RpcError::JobNotLent { job })?;
        match entry.fence() {
            Some(expected) if expected == got => Ok(entry),
            Some(expected) => Err(RpcError::FenceStale { job, expected, got }),
            None => Err(RpcError::JobNotLent { job }),
        }
    }

    fn count_refusal(&mut self, error: &RpcError) {
        let at = REFUSALS.iter().position(|it| *it == error.reason());
        if let Some(at) = at {
            self.lent.counts.refused[at] += 1;
        }
    }

    fn ask_lender(&self, task: lending::Task) -> Result<(), RpcError> {
        let full = RpcError::QueueFull {
            full: Full::Box,
            retry_after_ms: RETRY_MS,
        };
        let lender = self.parts.lender.as_ref().ok_or(RpcError::Internal)?;
        lender.try_send(task).map_err(|_| full)
    }

    /// Looks for jobs to lend, answers who waits for them, and takes back what must be.
    pub(in crate::service) fn watch_fleet(&mut self, now: Nanos) {
        let Some(silence) = self.parts.config.fleet.as_ref().map(|it| it.silence) else {
            return;
        };
        if self.lent.take.is_some() {
            self.lent.heard = now;
        } else if now.since(self.lent.heard) > silence && !self.lent.out.is_empty() {
            let count = self.lent.out.len();
            tracing::warn!(count, "the fleet is silent: its jobs come home");
            self.all_come_home(Home::Silent);
        }
        while let Some(&(at, job)) = self.lent.back.first()
            && at <= now
        {
            self.lent.back.pop_first();
            self.come_home(job, Home::Overdue);
        }
        self.ask_for_more(now);
        self.answer_take(now);
    }

    /// Asks the arbiter for as many jobs as are wanted.
    fn ask_for_more(&mut self, now: Nanos) {
        let config = Arc::clone(&self.parts.config);
        let lent = &mut self.lent;
        let Some((fleet, take)) = config.fleet.as_ref().zip(lent.take.as_ref()) else {
            return;
        };
        let under_way = lent.under_way();
        let out = lent.out.len() + lent.asked.len();
        let wanted = take.max.saturating_sub(under_way + lent.untold.len());
        let mut wanted = match self.fault {
            None => wanted.min(fleet.jobs_max.saturating_sub(out)),
            Some(_) => 0,
        };
        if under_way == 0 && lent.candidates.is_empty() && now >= lent.look_at {
            lent.look_at = now.plus(LOOK_EVERY);
            if wanted > 0 {
                self.lent.candidates = self.candidates(fleet);
            }
        }
        while wanted > 0
            && let Some(job) = self.lent.candidates.pop_front()
        {
            let may = self.jobs.get(&job).is_some_and(|it| self.may_lend(it));
            if !may || self.lent.is_busy_with(job) {
                continue;
            }
            let after = fleet.after;
            if self.parts.inbox.send(Command::Lend { job, after }).is_err() {
                return;
            }
            self.lent.asked.insert(job);
            wanted -= 1;
        }
    }

    /// Jobs that may be lent, in the order in which they are looked at.
    fn candidates(&self, fleet: &FleetConfig) -> VecDeque<JobId> {
        let lendable: Vec<bool> = self
            .tenants
            .iter()
            .map(|tenant| fleet.lend.includes(&tenant.name) && !tenant.guest)
            .collect();
        let fits = |(_, entry): &(&JobId, &Entry)| {
            lendable[entry.tenant.0 as usize] && self.may_lend(entry)
        };
        let all = self.jobs.iter().filter(fits);
        let (mut urgent, mut others) = (Vec::new(), Vec::new());
        for (job, entry) in all {
            match entry.deadline() {
                Some(deadline) => urgent.push((deadline, *job)),
                None => others.push(*job),
            }
        }
        urgent.sort_unstable();
        others.sort_unstable_by(|a, b| b.cmp(a));
        let mut urgent = urgent.into_iter().map(|(_, job)| job);
        let mut others = others.into_iter();
        let mut chosen = VecDeque::new();
        while chosen.len() < LOOKS_MAX {
            let before = chosen.len();
            chosen.extend(urgent.next());
            chosen.extend(others.next());
            if chosen.len() == before {
                break;
            }
        }
        chosen
    }

    /// Whether a job waits that another box could prove.
    fn may_lend(&self, entry: &Entry) -> bool {
        let waits = matches!(entry.phase, Phase::Queued) && entry.running.is_none();
        if !waits || entry.written != Written::Yes || entry.stays || entry.suspicion.is_some() {
            return false;
        }
        let circuit = (entry.tenant, entry.request.circuit);
        let Some(circuit) = self.circuits.get(&circuit) else {
            return false;
        };
        let row = &circuit.row;
        let presents = row.public_count == u64::from(PUBLIC) && row.wires == WIRES as u64;
        let inputs = match &entry.witness {
            Some(bytes) => witness::are_inputs(bytes),
            // Which they are nobody knows before they are read.
            None => circuit.has_program(),
        };
        !presents && !inputs && circuit.failed().is_none()
    }

    /// The arbiter has let a job go, or keeps it.
    pub(in crate::service) fn let_go(&mut self, job: JobId, lent: bool) {
        self.lent.asked.remove(&job);
        let now = self.parts.clock.now();
        let entry = self.jobs.get_mut(&job).filter(|it| !it.has_ended());
        if lent && let Some(entry) = entry {
            self.parts.preparations.withdraw(job);
            entry.attempt += 1;
            entry.phase = Phase::Lent(now, Written::OnItsWay);
            let attempt = entry.attempt;
            let tenant = entry.tenant;
            self.lent.out.insert(job);
            self.lent.unwritten.insert(job);
            let job = job.0;
            self.tell_of_job(tenant, JobWrite::Lend { job, attempt }, None);
        }
        self.ask_for_more(now);
        self.answer_take(now);
    }

    /// That a job is lent is on the disk.
    pub(in crate::service) fn lent_written(&mut self, job: JobId) {
        let now = self.parts.clock.now();
        self.lent.unwritten.remove(&job);
        let lent = self.jobs.get_mut(&job);
        if let Some(entry) = lent
            && let Phase::Lent(since, written) = &mut entry.phase
        {
            *written = Written::Yes;
            let since = *since;
            self.lent.counts.lent += 1;
            self.lent.untold.push_back(job);
            self.note_back(job, since);
            let name = JobName(job.0);
            tracing::info!(job = %name, "a job is lent to the fleet");
        }
        self.answer_take(now);
    }

    /// Notes when a job that is lent must come home to be in time.
    fn note_back(&mut self, job: JobId, since: Nanos) {
        let Some(entry) = self.jobs.get(&job) else {
            return;
        };
        let Some(deadline) = entry.deadline() else {
            return;
        };
        let circuit = self.circuits.get(&(entry.tenant, entry.request.circuit));
        let core = circuit.map_or(Nanos::ZERO, |circuit| circuit.cost(true));
        let at = home_at(deadline, since, core);
        self.lent.back.extend(at.map(|at| (at, job)));
    }

    /// Takes over what was lent by a process before this one.
    pub(super) fn resume_lent(&mut self, jobs: Vec<JobId>) {
        let now = self.parts.clock.now();
        let count = jobs.len();
        for job in jobs {
            self.lent.out.insert(job);
            self.note_back(job, now);
        }
        if count > 0 && self.parts.config.fleet.is_none() {
            tracing::info!(count, "there is no fleet any more: its jobs come home");
            self.all_come_home(Home::Returned);
        } else if count > 0 {
            tracing::info!(count, "jobs of before are with the fleet");
        }
    }

    fn all_come_home(&mut self, why: Home) {
        let written = self.lent.out.iter();
        let written = written.filter(|job| !self.lent.unwritten.contains(job));
        for job in written.copied().collect::<Vec<_>>() {
            self.come_home(job, why);
        }
    }

    /// Puts a job that is lent, and written down as that, back into its tenant's line.
    fn come_home(&mut self, job: JobId, why: Home) {
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        let Some(fence) = entry.fence() else {
            return;
        };
        entry.attempt += 1;
        entry.phase = Phase::Arriving;
        entry.stays = why != Home::Silent;
        let (tenant, attempt) = (entry.tenant, entry.attempt);
        self.lent.forget(job);
        let counts = &mut self.lent.counts;
        *match why {
            Home::Returned => &mut counts.returned,
            Home::Overdue => &mut counts.overdue,
            Home::Silent => &mut counts.silent,
        } += 1;
        let name = JobName(job.0);
        tracing::info!(job = %name, ?why, "a job has come home from the fleet");
        if why != Home::Returned {
            self.lent.withdraw(LentName { job: name, fence });
        }
        let number = job.0;
        let recall = JobWrite::Recall {
            job: number,
            attempt,
        };
        self.tell_of_job(tenant, recall, None);
        self.offer(job);
    }

    /// That a job is at home again is on the disk.
    pub(in crate::service) fn recall_written(&mut self, job: JobId) {
        let tickets = self.lent.returning.remove(&job).unwrap_or_default();
        let name = JobName(job.0);
        self.settle_all(tickets, &as_json(&FleetDone { job: name }));
    }

    /// A job that was lent has ended, by what the fleet has brought or otherwise.
    pub(super) fn lent_ended(&mut self, job: JobId, fence: u64, proved: bool) {
        self.lent.forget(job);
        if !proved {
            let job = JobName(job.0);
            self.lent.withdraw(LentName { job, fence });
        }
    }

    /// Answers the take that waits, if there is something to tell or its time has come.
    fn answer_take(&mut self, now: Nanos) {
        let lent = &self.lent;
        let Some(take) = &lent.take else {
            return;
        };
        let under_way = lent.under_way();
        let told = !lent.untold.is_empty() && take.max > 0;
        let full = told && (under_way == 0 || lent.untold.len() >= take.max);
        let withdrawn = take.cursor < lent.cursor && (under_way == 0 || take.max == 0);
        // Who waits for nothing waits until the arbiter has said what there is.
        let looked = under_way == 0 && lent.look_at > now && lent.candidates.is_empty();
        let over =
            now >= take.until && (looked || take.max == 0 || now.since(take.until) > OVER_MAX);
        if full || withdrawn || over {
            self.end_take();
        }
    }

    /// Answers the take that waits with what there is.
    pub(in crate::service) fn end_take(&mut self) {
        let Some(take) = self.lent.take.take() else {
            return;
        };
        self.lent.candidates.clear();
        let mut jobs = Vec::new();
        while jobs.len() < take.max
            && let Some(job) = self.lent.untold.pop_front()
        {
            jobs.extend(self.lent_job(job));
        }
        let withdrawn = self.lent.withdrawn.iter();
        let withdrawn = withdrawn.filter(|(number, _)| *number > take.cursor);
        let taken = as_json(&FleetTaken {
            jobs,
            withdrawn: withdrawn.map(|(_, name)| *name).collect(),
            cursor: self.lent.cursor,
        });
        if let Some(waiting) = self.waiting.remove(&take.ticket) {
            self.settle(waiting, taken);
        }
    }

    /// Whether a request is the take that waits.
    pub(in crate::service) fn is_take(&self, exchange: u64) -> bool {
        let take = self.lent.take.as_ref();
        let waiting = take.and_then(|take| self.waiting.get(&take.ticket));
        let place = waiting.and_then(|waiting: &Waiting| waiting.place.as_ref());
        place.is_some_and(|place| place.exchange == exchange)
    }

    /// The client of a request has gone: what would be lent to it is not.
    pub(in crate::service) fn forget_take(&mut self, exchange: u64) {
        if self.is_take(exchange)
            && let Some(take) = self.lent.take.take()
        {
            self.lent.candidates.clear();
            self.waiting.remove(&take.ticket);
        }
    }

    /// A job as the fleet is told of it.
    fn lent_job(&self, job: JobId) -> Option<LentJob> {
        let entry = self.jobs.get(&job)?;
        let fence = entry.fence()?;
        let tenant = self.tenant(entry.tenant);
        let circuit = self.circuits.get(&(entry.tenant, entry.request.circuit))?;
        let witness = entry.request.witness;
        let bytes = match &entry.witness {
            Some(bytes) => bytes.len() as u64,
            None => {
                let length = self.parts.blobs.length(&tenant.name, witness.0);
                length.ok().flatten().unwrap_or(0)
            }
        };
        let core = circuit.cost(true);
        let left = |deadline: Nanos| deadline.since(self.parts.clock.now()).as_millis();
        Some(LentJob {
            job: JobName(job.0),
            fence,
            tenant_class: tenant.scenario.clone(),
            circuit: LentCircuit {
                digest: entry.request.circuit,
                bytes: circuit.row.bytes,
                curve: circuit.curve().ok()?,
            },
            witness: LentWitness {
                digest: witness,
                bytes,
            },
            work_ms: (core > Nanos::ZERO).then(|| super::ms(core)),
            due_ms: entry.deadline().map(left),
            price_max: self
                .parts
                .config
                .fleet
                .as_ref()
                .map_or(0, |it| it.price_max),
        })
    }

    /// Takes a `GET` of a piece of what a job that is lent needs. Answers through [`Service::outgoing`], unless it is
    /// refused at once.
    pub fn fleet_bytes(
        &mut self,
        exchange: u64,
        job: JobName,
        of_key: bool,
        range: Option<&str>,
    ) -> Result<(), Answer> {
        self.lent.heard = self.parts.clock.now();
        let (from, to) = range.and_then(read_range).ok_or_else(|| {
            let got = range.unwrap_or("none");
            Answer::text(
                400,
                format!("expected one Range: bytes=FIRST-LAST or bytes=FIRST-, got {got}\n"),
            )
        })?;
        let lent = self.jobs.get(&JobId(job.0)).filter(|entry| {
            let written = matches!(entry.phase, Phase::Lent(_, Written::Yes));
            written && entry.fence().is_some()
        });
        let entry = lent.ok_or_else(|| Answer::error(404, &RpcError::JobNotLent { job }))?;
        let digest = match of_key {
            true => entry.request.circuit,
            false => entry.request.witness,
        };
        if let (false, Some(bytes)) = (of_key, &entry.witness) {
            let piece = lending::cut(bytes, from, to);
            self.fleet_read(exchange, piece);
            return Ok(());
        }
        let reading = Reading {
            exchange,
            tenant: self.tenant(entry.tenant).name.clone(),
            digest,
            from,
            to,
        };
        self.ask_lender(lending::Task::Read(reading))
            .map_err(|error| Answer::error(503, &error))
    }

    /// A piece of what the fleet has asked for is here, or there is none.
    pub(in crate::service) fn fleet_read(&mut self, exchange: u64, piece: Result<Piece, NoPiece>) {
        let answer = match piece {
            Ok(Piece { from, bytes, all }) => {
                let last = from + bytes.len() as u64 - 1;
                Answer {
                    status: 206,
                    content_type: BYTES,
                    body: bytes,
                    content_range: Some(format!("bytes {from}-{last}/{all}")),
                    retry_after_s: None,
                }
            }
            Err(NoPiece::Beyond(all)) => Answer {
                content_range: Some(format!("bytes */{all}")),
                ..Answer::json(416, &json!({}))
            },
            Err(NoPiece::Blob(error @ BlobError::Unknown)) => {
                Answer::text(404, format!("{error}\n"))
            }
            Err(NoPiece::Blob(error)) => {
                tracing::error!(error = %chain(&error), "reading for the fleet");
                Answer::error(500, &RpcError::Internal)
            }
        };
        self.answer(exchange, answer);
    }
}

impl Entry {
    /// When it is due, by the clock of this process.
    fn deadline(&self) -> Option<Nanos> {
        let span = Nanos::from_millis(self.request.deadline_ms?);
        Some(self.received.plus(span.since(self.before)))
    }

    /// What another box has made of it.
    fn done_elsewhere(
        &self,
        proof: &Proof,
        inputs: &PublicInputs,
        now: Nanos,
    ) -> Result<Done, RpcError> {
        let lent = match self.phase {
            Phase::Lent(since, _) => since,
            _ => now,
        };
        Ok(Done {
            proof: value(proof)?,
            public_inputs: serde_json::from_value(value(inputs)?)
                .map_err(|_| RpcError::Internal)?,
            calldata: solidity::calldata(proof, inputs),
            // What it cost there is told there.
            timings: Timings {
                queued_ms: super::ms(self.since(lent)),
                prepared_ms: 0.0,
                witness_ms: None,
                proved_ms: super::ms(now.since(lent)),
                stages: Vec::new(),
                cores: Vec::new(),
            },
        })
    }
}

/// When a job that was lent at a time must come home to be in time: when no more is left than it takes on one core here twice over,
/// or, where nobody knows that or there was not so much, than half of what there was. One that is late anyway may stay out.
fn home_at(deadline: Nanos, lent: Nanos, core: Nanos) -> Option<Nanos> {
    let half = Nanos(deadline.since(lent).0 / 2);
    let left = match core {
        Nanos::ZERO => half,
        core => half.min(Nanos(core.0.saturating_mul(2))),
    };
    (left > Nanos::ZERO).then(|| Nanos(deadline.0 - left.0))
}

/// One range of bytes, with its last or without.
fn read_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (from, to) = text.strip_prefix("bytes=")?.split_once('-')?;
    let number = |digits: &str| {
        let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| digits.parse().ok()).flatten()
    };
    let from: u64 = number(from)?;
    match to {
        "" => Some((from, None)),
        to => {
            let to = number(to)?;
            (from <= to).then_some((from, Some(to)))
        }
    }
}

/// What results and returns are refused for.
pub(in crate::service) const REFUSALS: [&str; 3] = ["jobNotLent", "fenceStale", "lentProofWrong"];
const BYTES: &str = "application/octet-stream";
/// How often jobs are looked for while somebody waits for them.
const LOOK_EVERY: Nanos = Nanos::from_millis(200);
/// So many are looked at each time, half of them with deadlines where there are so many.
const LOOKS_MAX: usize = 64;
/// How long the answer to a call whose time is over waits for the disk.
const OVER_MAX: Nanos = Nanos::from_secs(1);
/// A fleet that has heard of none of the last so many asks for the whole list.
const WITHDRAWN_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_read_and_nothing_else() {
        assert_eq!(read_range("bytes=0-"), Some((0, None)));
        assert_eq!(read_range("bytes=7-7"), Some((7, Some(7))));
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=-5",
            "bytes=5-4",
            "bytes=1-2,4-5",
            "bytes=+1-",
            "bytes= 1-",
            "bits=1-2",
            "bytes=1-99999999999999999999",
        ] {
            assert_eq!(read_range(text), None, "{text}");
        }
    }

    #[test]
    fn a_job_comes_home_while_there_is_time_left_to_prove_it_here() {
        let ms = Nanos::from_millis;
        let at = |deadline, lent, core| home_at(ms(deadline), ms(lent), ms(core));
        assert_eq!(at(10_000, 2_000, 500), Some(ms(9_000)));
        // Never before half of the time is over.
        assert_eq!(at(10_000, 2_000, 7_000), Some(ms(6_000)));
        assert_eq!(at(10_000, 2_000, 0), Some(ms(6_000)));
        assert_eq!(at(10_000, 10_000, 500), None);
        assert_eq!(at(10_000, 12_000, 500), None);
    }

    #[test]
    fn withdrawals_have_rising_numbers_and_the_oldest_go() {
        let mut lent = Lent::new(Nanos::ZERO);
        let begun = lent.cursor;
        assert_eq!(lent.oldest(), begun);
        let name = |job| LentName {
            job: JobName(job),
            fence: 1,
        };
        (0..WITHDRAWN_MAX as u64).for_each(|job| lent.withdraw(name(job)));
        assert_eq!(lent.oldest(), begun);
        lent.withdraw(name(9));
        assert_eq!(lent.oldest(), begun + 1);
        assert_eq!(lent.cursor, begun + WITHDRAWN_MAX as u64 + 1);
    }
}
