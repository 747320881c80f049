//! A box of the arbiter and modelled workers, run by a queue of events.
//!
//! A worker does what the node's does: between two quanta it reads its owner word, answers to a new
//! epoch, takes its next quantum from the first job in its owner's run order that has one, and
//! otherwise sleeps until it is woken. A job is an amount of core time that at most `parallelism`
//! workers can take quanta of at once. The model can stall a worker: its next quantum, or its next
//! waking, then takes as long as the test says.

use std::collections::BTreeMap;

use caldera_scheduler::arbiter::{Counters, Outcome, Reallocation};
use caldera_scheduler::mailbox::{Entry, Found, Ownership};
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::{
    Action, Arbiter, Epoch, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId,
};

/// The longest quantum of a worker that behaves.
pub(crate) const QUANTUM: Nanos = Nanos::from_millis(2);
/// From a worker to the arbiter, or from the arbiter to a worker that sleeps.
pub(crate) const WIRE: Nanos = Nanos::from_micros(20);

pub(crate) struct SimulatedBox {
    pub(crate) arbiter: Arbiter,
    pub(crate) now: Nanos,
    /// How long it takes to bring a witness into memory.
    pub(crate) preparation: Nanos,
    pub(crate) reallocations: Vec<Reallocation>,
    pub(crate) refused: Vec<(JobId, Refusal, Option<Nanos>)>,
    pub(crate) overruns: Vec<UnitId>,
    /// Jobs in the order in which they ended.
    pub(crate) finished: Vec<JobId>,
    /// All actions, each with its time.
    pub(crate) log: Vec<(Nanos, Action)>,
    /// Core time that each tenant has had.
    pub(crate) had: BTreeMap<TenantId, Nanos>,
    /// The longest that each tenant has had a ready job and owned no unit.
    pub(crate) waited: BTreeMap<TenantId, Nanos>,
    waiting: BTreeMap<TenantId, Nanos>,
    workers: Vec<Worker>,
    jobs: BTreeMap<JobId, Job>,
    events: BTreeMap<(Nanos, u64), Happening>,
    sequence: u64,
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Told(Event),
    Woken(usize),
    QuantumEnded(usize),
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    word: Ownership,
    entered: Epoch,
    running: Option<Running>,
    found: Found,
    stall: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Running {
    job: JobId,
    tenant: TenantId,
    since: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    left: Nanos,
    parallelism: u32,
    running: u32,
}

impl SimulatedBox {
    pub(crate) fn new(units: u32, policy: Policy) -> SimulatedBox {
        let cores: Vec<u32> = (0..units).collect();
        let asleep = Worker {
            word: Ownership::default(),
            entered: Epoch(0),
            running: None,
            found: Found::NoOwner,
            stall: Nanos::ZERO,
        };
        SimulatedBox {
            arbiter: Arbiter::new(Pool::new(&cores).expect("a pool"), policy),
            now: Nanos::ZERO,
            preparation: Nanos::from_millis(1),
            reallocations: vec![],
            refused: vec![],
            overruns: vec![],
            finished: vec![],
            log: vec![],
            had: BTreeMap::new(),
            waited: BTreeMap::new(),
            waiting: BTreeMap::new(),
            workers: vec![asleep; units as usize],
            jobs: BTreeMap::new(),
            events: BTreeMap::new(),
            sequence: 0,
        }
    }

    pub(crate) fn join(&mut self, tenant: u32, class: &str) {
        let class = self
            .arbiter
            .policy()
            .find(class)
            .expect("a class of the policy");
        self.tell(Event::TenantJoined {
            tenant: TenantId(tenant),
            class,
        });
    }

    pub(crate) fn leave(&mut self, tenant: u32) {
        self.tell(Event::TenantLeft {
            tenant: TenantId(tenant),
        });
    }

    pub(crate) fn submit(&mut self, job: u64, tenant: u32, core: Nanos, parallelism: u32) {
        self.submit_due(job, tenant, core, parallelism, None);
    }

    /// Submits a job that reached the box [`WIRE`] ago.
    pub(crate) fn submit_due(
        &mut self,
        job: u64,
        tenant: u32,
        core: Nanos,
        parallelism: u32,
        deadline: Option<Nanos>,
    ) {
        let job = JobId(job);
        let received = Nanos(self.now.0.saturating_sub(WIRE.0));
        let work = Work { core, parallelism };
        // The job must be there before the arbiter admits it: workers may look at once.
        let before = self.jobs.insert(
            job,
            Job {
                left: core,
                parallelism,
                running: 0,
            },
        );
        let tenant = TenantId(tenant);
        let refused = self.refused.len();
        self.tell(Event::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
        });
        if self.refused.len() > refused {
            self.jobs.remove(&job);
            self.jobs.extend(before.map(|before| (job, before)));
        }
    }

    pub(crate) fn cancel(&mut self, job: u64) {
        self.jobs.remove(&JobId(job));
        self.tell(Event::Cancelled { job: JobId(job) });
    }

    /// The next quantum or waking of this unit's worker takes so much longer.
    pub(crate) fn stall(&mut self, unit: usize, span: Nanos) {
        self.workers[unit].stall = span;
    }

    pub(crate) fn owners(&self) -> Vec<Option<u32>> {
        self.arbiter
            .pool()
            .units()
            .iter()
            .map(|unit| unit.owner().map(|t| t.0))
            .collect()
    }

    pub(crate) fn counters(&self) -> Counters {
        self.arbiter.counters()
    }

    pub(crate) fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// Lets so much time pass.
    pub(crate) fn run(&mut self, span: Nanos) {
        let until = self.now.plus(span);
        loop {
            let next = self.events.first_key_value().map(|(&(at, _), _)| at);
            let tick = self.arbiter.wake_at();
            match (next, tick) {
                (Some(next), tick) if next <= until && tick.is_none_or(|tick| next <= tick) => {
                    self.now = self.now.max(next);
                    if let Some((_, happening)) = self.events.pop_first() {
                        self.happen(happening);
                    }
                }
                (_, Some(tick)) if tick <= until => {
                    self.now = self.now.max(tick);
                    self.tell(Event::Tick);
                }
                _ => break,
            }
        }
        self.now = until;
    }

    /// Gives an event to the arbiter, checks it, and carries its actions out.
    pub(crate) fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.arbiter.handle(event, self.now, &mut actions);
        self.arbiter.check().expect("the invariants");
        assert!(actions.len() <= self.arbiter.actions_max());
        self.arbiter.handle(Event::Decided, self.now, &mut actions);
        for action in actions {
            self.log.push((self.now, action));
            self.carry_out(action);
        }
        self.watch_waiting();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Admit { .. }
            | Action::RefuseTenant { .. }
            | Action::Declare { .. }
            | Action::RefuseDemand { .. }
            | Action::Returned { .. } => {}
            Action::Refuse {
                job,
                reason,
                retry_after,
            } => {
                self.refused.push((job, reason, retry_after));
            }
            Action::Drop { job } => {
                self.jobs.remove(&job);
            }
            Action::Prepare { job } => {
                let at = self.now.plus(self.preparation);
                self.schedule(at, Happening::Told(Event::Ready { job }));
            }
            Action::RunOrder { tenant } => self.wake_workers_of(tenant),
            Action::Own { unit, ownership } => {
                let index = usize::from(unit.0);
                let worker = &mut self.workers[index];
                assert_eq!(
                    ownership.epoch,
                    worker.word.epoch.next(),
                    "{unit} skipped an epoch"
                );
                worker.word = ownership;
                self.wake(index);
            }
            Action::Reallocated(record) => {
                let stamps = [
                    record.t0,
                    record.detected,
                    record.decided,
                    record.drained,
                    record.first,
                ];
                assert!(stamps.is_sorted(), "stamps go back: {record:?}");
                self.reallocations.push(record);
            }
            Action::Overrun { unit, .. } => self.overruns.push(unit),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told(event) => self.tell(event),
            Happening::Woken(unit) if self.workers[unit].running.is_none() => self.look(unit),
            Happening::Woken(_) => {}
            Happening::QuantumEnded(unit) => self.quantum_ended(unit),
        }
    }

    /// Between two quanta: what the worker's loop does.
    fn look(&mut self, unit: usize) {
        let worker = self.workers[unit];
        let id = UnitId(unit as u16);
        let next = worker
            .word
            .owner
            .and_then(|tenant| self.take_quantum(tenant));
        let found = match (worker.word.owner, next) {
            (None, _) => Found::NoOwner,
            (Some(_), None) => Found::Nothing,
            (Some(_), Some(_)) => Found::Work,
        };
        let epoch = worker.word.epoch;
        let told = if epoch != worker.entered {
            let entry = Entry {
                epoch,
                drained: self.now,
                first: self.now,
                found,
            };
            Some(Event::Entered { unit: id, entry })
        } else {
            match found {
                found if found == worker.found => None,
                Found::Work => Some(Event::Working { unit: id, epoch }),
                Found::Nothing => Some(Event::Idle {
                    unit: id,
                    epoch,
                    at: self.now,
                }),
                Found::NoOwner => None,
            }
        };
        if let Some(event) = told {
            self.schedule(self.now.plus(WIRE), Happening::Told(event));
        }
        let worker = &mut self.workers[unit];
        worker.entered = epoch;
        worker.found = found;
        if let Some((job, tenant, span)) = next {
            worker.running = Some(Running {
                job,
                tenant,
                since: self.now,
            });
            let span = span.plus(std::mem::take(&mut worker.stall));
            self.schedule(self.now.plus(span), Happening::QuantumEnded(unit));
        }
    }

    fn take_quantum(&mut self, tenant: TenantId) -> Option<(JobId, TenantId, Nanos)> {
        for &id in self.arbiter.run_order(tenant) {
            // A job that was cancelled leaves the order and the box together.
            let job = self
                .jobs
                .get_mut(&id)
                .expect("a job of the order is in the box");
            if job.running < job.parallelism && job.left > Nanos::ZERO {
                let span = job.left.min(QUANTUM);
                job.left = job.left.since(span);
                job.running += 1;
                return Some((id, tenant, span));
            }
        }
        None
    }

    fn quantum_ended(&mut self, unit: usize) {
        let Some(Running {
            job: id,
            tenant,
            since,
        }) = self.workers[unit].running
        else {
            return;
        };
        let had = self.had.entry(tenant).or_default();
        *had = had.plus(self.now.since(since));
        if let Some(job) = self.jobs.get_mut(&id) {
            job.running -= 1;
            if job.left == Nanos::ZERO && job.running == 0 {
                self.jobs.remove(&id);
                assert!(!self.finished.contains(&id), "{id} finished twice");
                self.finished.push(id);
                let at = self.now;
                // At once, for the order must not name a job that is no more.
                self.tell(Event::Finished {
                    job: id,
                    outcome: Outcome::Proved,
                    at,
                });
            } else {
                self.wake_workers_of(tenant);
            }
        }
        self.workers[unit].running = None;
        self.look(unit);
    }

    fn wake_workers_of(&mut self, tenant: TenantId) {
        for unit in 0..self.workers.len() {
            if self.workers[unit].word.owner == Some(tenant) {
                self.wake(unit);
            }
        }
    }

    fn wake(&mut self, unit: usize) {
        let asleep = self.workers[unit].running.is_none();
        let stall = if asleep {
            std::mem::take(&mut self.workers[unit].stall)
        } else {
            Nanos::ZERO
        };
        self.schedule(self.now.plus(WIRE).plus(stall), Happening::Woken(unit));
    }

    fn schedule(&mut self, at: Nanos, happening: Happening) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), happening);
    }

    fn watch_waiting(&mut self) {
        for view in self.arbiter.tenants() {
            if view.ready > 0 && view.held == 0 {
                let since = *self.waiting.entry(view.tenant).or_insert(self.now);
                let longest = self.waited.entry(view.tenant).or_default();
                *longest = (*longest).max(self.now.since(since));
            } else {
                self.waiting.remove(&view.tenant);
            }
        }
    }
}
