//! A box of the arbiter and modelled workers, run by a heap of events.
//!
//! A worker does what the node's does: between two quanta it reads its owner word, answers to a new
//! epoch, takes its next quantum from the first job in its owner's run order that has one, and
//! otherwise sleeps until it is woken. A job is an amount of core time that at most `parallelism`
//! workers can take quanta of at once. The model can stall a worker: its quantum then takes as long
//! as the test says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use caldera_scheduler::arbiter::{Counters, Outcome, Reallocation};
use caldera_scheduler::mailbox::{Entry, Found, Ownership};
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::{Action, Arbiter, Epoch, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId};

/// The longest quantum of a worker that behaves.
pub const QUANTUM: Nanos = Nanos::from_millis(2);
/// From a worker's answer, or the end of a job, to the arbiter; and from the arbiter to a worker.
pub const WIRE: Nanos = Nanos::from_micros(20);

pub struct SimulatedBox {
    pub arbiter: Arbiter,
    pub now: Nanos,
    /// How long it takes to bring a witness into memory.
    pub preparation: Nanos,
    pub reallocations: Vec<Reallocation>,
    pub refused: Vec<(JobId, Refusal, Option<Nanos>)>,
    pub dropped: Vec<JobId>,
    /// Jobs in the order in which they ended.
    pub finished: Vec<JobId>,
    /// All actions, each with its time.
    pub log: Vec<(Nanos, Action)>,
    /// Core time that each tenant has had.
    pub had: BTreeMap<TenantId, Nanos>,
    /// The longest that each tenant has had a ready job and owned no unit.
    pub waited: BTreeMap<TenantId, Nanos>,
    waiting: BTreeMap<TenantId, Nanos>,
    workers: Vec<Worker>,
    jobs: BTreeMap<JobId, Job>,
    events: BinaryHeap<Reverse<(Nanos, u64, Happening)>>,
    sequence: u64,
    next_tick: Option<Nanos>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// To the arbiter, by index into nothing: the event itself is kept beside.
    ToArbiter(usize),
    Wake(usize),
    QuantumEnds(usize),
    Tick,
}

#[derive(Debug, Clone, Copy)]
struct Worker {
    word: Ownership,
    entered: Epoch,
    running: Option<(JobId, Nanos)>,
    found: Found,
    stall: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    tenant: TenantId,
    left: Nanos,
    parallelism: u32,
    running: u32,
}

impl SimulatedBox {
    pub fn new(units: u32, policy: Policy) -> SimulatedBox {
        let cores: Vec<u32> = (0..units).collect();
        let pool = Pool::new(&cores).expect("a pool");
        let idle = Worker {
            word: Ownership::default(),
            entered: Epoch(0),
            running: None,
            found: Found::NoOwner,
            stall: Nanos::ZERO,
        };
        SimulatedBox {
            arbiter: Arbiter::new(pool, policy),
            now: Nanos::ZERO,
            preparation: Nanos::from_millis(1),
            reallocations: vec![],
            refused: vec![],
            dropped: vec![],
            finished: vec![],
            log: vec![],
            had: BTreeMap::new(),
            waited: BTreeMap::new(),
            waiting: BTreeMap::new(),
            workers: vec![idle; units as usize],
            jobs: BTreeMap::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            next_tick: None,
        }
    }

    pub fn join(&mut self, tenant: u32, class: &str) {
        let class = self.arbiter.policy().find(class).expect("a class of the policy");
        self.tell(Event::TenantJoined { tenant: TenantId(tenant), class });
    }

    pub fn leave(&mut self, tenant: u32) {
        self.tell(Event::TenantLeft { tenant: TenantId(tenant) });
    }

    pub fn submit(&mut self, job: u64, tenant: u32, core: Nanos, parallelism: u32) {
        self.submit_due(job, tenant, core, parallelism, None);
    }

    pub fn submit_due(
        &mut self,
        job: u64,
        tenant: u32,
        core: Nanos,
        parallelism: u32,
        deadline: Option<Nanos>,
    ) {
        let (job, tenant) = (JobId(job), TenantId(tenant));
        let before = self.refused.len();
        let work = Work { core, parallelism };
        let there = self.jobs.contains_key(&job);
        let received = Nanos(self.now.0.saturating_sub(WIRE.0));
        self.tell(Event::Submitted { job, tenant, work, deadline, received });
        if self.refused.len() == before {
            assert!(!there, "{job} was admitted twice");
            self.jobs.insert(job, Job { tenant, left: core, parallelism, running: 0 });
        }
    }

    pub fn cancel(&mut self, job: u64) {
        self.tell(Event::Cancelled { job: JobId(job) });
        self.jobs.remove(&JobId(job));
    }

    /// The next quantum that this unit's worker starts takes so long.
    pub fn stall(&mut self, unit: usize, span: Nanos) {
        self.workers[unit].stall = span;
    }

    pub fn owners(&self) -> Vec<Option<u32>> {
        self.arbiter.pool().units().iter().map(|unit| unit.owner().map(|t| t.0)).collect()
    }

    pub fn counters(&self) -> Counters {
        self.arbiter.counters()
    }

    /// Lets time pass up to this point.
    pub fn run_until(&mut self, until: Nanos, pending: &mut Pending) {
        while let Some(&Reverse((at, _, happening))) = self.events.peek() {
            if at > until {
                break;
            }
            self.events.pop();
            self.now = self.now.max(at);
            match happening {
                Happening::ToArbiter(index) => {
                    if let Some(event) = pending.0.remove(&index) {
                        self.tell(event);
                    }
                }
                Happening::Wake(unit) => self.look(unit, pending),
                Happening::QuantumEnds(unit) => self.quantum_ends(unit, pending),
                Happening::Tick => {
                    if self.next_tick == Some(at) {
                        self.next_tick = None;
                        self.tell(Event::Tick);
                    }
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn schedule(&mut self, at: Nanos, happening: Happening) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, happening)));
    }
}
