//! A series played on a simulated box, to the end of its last job.
//!
//! Each tenant of the series is a client that submits its jobs in order. One that is refused comes
//! again after the time that the refusal named, and what arrives meanwhile waits behind it.

use std::collections::{HashMap, VecDeque};

use crate::queue::{Refusal, Work};
use crate::scenario::Policy;
use crate::sim::fault::{Fault, Planned, reloaded};
use crate::sim::machine::{Inventory, SimulatedBox};
use crate::sim::outcome::Outcome;
use crate::sim::properties::{Property, Violation};
use crate::sim::trace::{Arrival, Trace};
use crate::{JobId, Nanos};

/// A box and what happens to it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// What it has.
    pub inventory: Inventory,
    /// Its policy. The classes of the series are indices of its classes.
    pub policy: Policy,
    /// How many cores one job can use at once.
    pub parallelism: u32,
    /// Bytes of tables that a job of each tenant needs on a device; none for who is not listed.
    pub tables: Vec<u64>,
    /// Bytes of host memory that each job's witness takes.
    pub witness: u64,
    /// How long it takes to bring a witness into memory.
    pub preparation: Nanos,
    /// See [`SimulatedBox::tick_gap`].
    pub tick_gap: Nanos,
    /// When within its step each job arrives depends on it.
    pub seed: u64,
    /// Whether properties are looked at after each event.
    pub checks: bool,
    /// What goes wrong, in order of time.
    pub faults: Vec<Planned>,
}

/// Plays the series. `progress` is told the time now and then. An error is the first property that
/// was found broken; without checks only that all jobs end.
pub fn play(
    trace: &Trace,
    setup: &Setup,
    progress: &mut dyn FnMut(Nanos),
) -> Result<Outcome, Violation> {
    let mut player = Player::new(trace, setup);
    let mut arrivals = trace.arrivals(setup.seed).peekable();
    let mut faults = setup.faults.iter().copied().peekable();
    let mut told = 0;
    loop {
        let arrival = arrivals.peek().map(|arrival| arrival.at);
        let fault = faults.peek().map(|planned| planned.at);
        let retry = player.clients.iter().filter_map(|client| client.retry_at);
        let Some(next) = arrival.into_iter().chain(fault).chain(retry).min() else {
            break;
        };
        player.advance(next)?;
        if fault == Some(next) {
            if let Some(planned) = faults.next() {
                player.strike(planned.fault);
            }
        } else if arrival == Some(next) {
            if let Some(arrival) = arrivals.next() {
                player.arrive(arrival);
            }
        } else {
            player.retry();
        }
        told += 1;
        if told % 4_096 == 0 {
            progress(next);
        }
    }
    player.finish()
}

struct Player<'a> {
    trace: &'a Trace,
    setup: &'a Setup,
    simulated: SimulatedBox,
    outcome: Outcome,
    clients: Vec<Client>,
    /// Jobs that are on the box.
    jobs: HashMap<JobId, Arrival>,
    submitted: u64,
    /// When a job ended last, or something happened that explains why none does.
    moved: Nanos,
    /// Longer than until some job ends, if one core is left and all tenants share it.
    patience: Nanos,
}

#[derive(Debug, Default)]
struct Client {
    /// Jobs that found no place yet.
    waiting: VecDeque<Arrival>,
    retry_at: Option<Nanos>,
}

impl<'a> Player<'a> {
    fn new(trace: &'a Trace, setup: &'a Setup) -> Player<'a> {
        let (inventory, policy) = (setup.inventory, &setup.policy);
        let mut simulated = SimulatedBox::for_long_runs(inventory, policy.clone(), setup.checks);
        simulated.preparation = setup.preparation;
        simulated.tick_gap = setup.tick_gap;
        for (id, tenant) in (0..).zip(trace.tenants()) {
            simulated.join(id, &policy.classes()[tenant.class].name);
        }
        let longest = trace
            .longest()
            .0
            .saturating_mul(2 * trace.tenants().len() as u64);
        Player {
            trace,
            setup,
            simulated,
            outcome: Outcome {
                devices: inventory.devices,
                ..Outcome::new(inventory.cores, policy)
            },
            clients: trace.tenants().iter().map(|_| Client::default()).collect(),
            jobs: HashMap::new(),
            submitted: 0,
            moved: Nanos::ZERO,
            patience: Nanos(longest).plus(Nanos::from_secs(60)),
        }
    }

    fn advance(&mut self, until: Nanos) -> Result<(), Violation> {
        self.simulated.advance(until);
        let jobs = self.jobs.len();
        self.collect();
        if self.jobs.len() < jobs || jobs == 0 {
            self.moved = self.simulated.now;
        }
        let still = self.simulated.now.since(self.moved);
        if still > self.patience {
            return Err(self.unfinished(&format!("none ended for {still}")));
        }
        match self.simulated.violation() {
            Some(violation) => Err(violation.clone()),
            None => Ok(()),
        }
    }

    /// Empties the box's lists into the outcome.
    fn collect(&mut self) {
        let simulated = &mut self.simulated;
        for (id, at) in simulated.started.drain(..) {
            if let Some(arrival) = self.jobs.get(&id) {
                let class = class(self.trace, arrival);
                self.outcome.classes[class].started(arrival.service, at.since(arrival.at));
            }
        }
        for id in std::mem::take(&mut simulated.finished) {
            match self.jobs.remove(&id) {
                Some(arrival) => {
                    let class = class(self.trace, &arrival);
                    self.outcome.classes[class].ended(arrival.service);
                }
                None => self
                    .simulated
                    .report(Property::EveryJobEnds, format!("{id} ended twice")),
            }
        }
        for record in self.simulated.reallocations.drain(..) {
            self.outcome.reallocations.record(&record);
        }
        self.simulated.overruns.clear();
    }

    fn arrive(&mut self, arrival: Arrival) {
        let tenant = usize::from(arrival.tenant);
        self.clients[tenant].waiting.push_back(arrival);
        if self.clients[tenant].retry_at.is_none() {
            self.submit(tenant);
        }
    }

    fn retry(&mut self) {
        let now = self.simulated.now;
        for tenant in 0..self.clients.len() {
            if self.clients[tenant].retry_at.is_some_and(|at| at <= now) {
                self.submit(tenant);
            }
        }
    }

    /// Submits what waits, until something is refused.
    fn submit(&mut self, tenant: usize) {
        self.clients[tenant].retry_at = None;
        while let Some(arrival) = self.clients[tenant].waiting.front().copied() {
            let id = self.submitted;
            self.submitted += 1;
            let for_devices = match self.setup.inventory.devices {
                0 => Nanos::ZERO,
                _ => arrival.for_devices,
            };
            let uses_devices = for_devices > Nanos::ZERO;
            let work = Work {
                core: arrival.service,
                parallelism: self.setup.parallelism,
                devices: match uses_devices {
                    true => self.setup.parallelism.min(self.setup.inventory.devices),
                    false => 0,
                },
                device_memory: self.setup.tables.get(tenant).copied().unwrap_or(0),
                host_memory: self.setup.witness,
            };
            self.jobs.insert(JobId(id), arrival);
            let (simulated, tenant_id) = (&mut self.simulated, tenant as u32);
            if !simulated.submit_work(id, tenant_id, work, for_devices, None) {
                self.jobs.remove(&JobId(id));
                self.refused(tenant);
                return;
            }
            self.clients[tenant].waiting.pop_front();
        }
    }

    fn refused(&mut self, tenant: usize) {
        self.outcome.reallocations.refusals += 1;
        for (job, reason, retry_after) in std::mem::take(&mut self.simulated.refused) {
            match (reason, retry_after) {
                (Refusal::TenantFull { .. } | Refusal::BoxFull { .. }, after) => {
                    // Without a time the box is full and nobody has a rate: all units are lost.
                    let after = after.unwrap_or(Nanos::from_secs(1));
                    self.clients[tenant].retry_at = Some(self.simulated.now.plus(after));
                }
                (reason, _) => self.simulated.report(
                    Property::EveryJobEnds,
                    format!("{job} is refused: {reason}"),
                ),
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        self.moved = self.simulated.now;
        match fault {
            Fault::Lose { unit } => self.simulated.lose(unit),
            Fault::Mend { unit } => self.simulated.mend(unit),
            Fault::Stall { unit, span } => self.simulated.stall(unit, span),
            Fault::JumpClock { by } => self.simulated.jump_clock(by),
            Fault::Reload { seed } => {
                let policy = reloaded(self.simulated.arbiter.policy(), seed);
                if let Err(why) = policy.and_then(|policy| self.simulated.adopt(policy)) {
                    let detail = format!("a policy is refused: {why}");
                    self.simulated.report(Property::EveryJobEnds, detail);
                }
            }
            Fault::Burst {
                tenant,
                jobs,
                service,
            } => {
                let at = self.simulated.now;
                for _ in 0..jobs {
                    self.arrive(Arrival {
                        at,
                        tenant,
                        service,
                        for_devices: Nanos(service.0 / 2),
                    });
                }
            }
        }
    }

    /// Lets the box work off what is left.
    fn finish(mut self) -> Result<Outcome, Violation> {
        while self.simulated.unfinished() > 0 {
            self.advance(self.simulated.now.plus(Nanos::from_secs(1)))?;
        }
        // The last answers of the workers are on their way.
        self.advance(self.simulated.now.plus(Nanos::from_secs(1)))?;
        let counters = self.simulated.counters();
        let ended = counters.proved + counters.failed + counters.cancelled;
        if !self.jobs.is_empty() || counters.admitted != ended {
            return Err(self.unfinished("the box is empty"));
        }
        self.outcome.horizon = self.simulated.last_end.max(self.trace.duration());
        self.outcome.on_devices = self.simulated.on_devices;
        self.outcome.device_time = self.simulated.device_time;
        self.outcome.reallocations.counters = counters;
        Ok(self.outcome)
    }

    fn unfinished(&self, why: &str) -> Violation {
        let counters = self.simulated.counters();
        let ended = counters.proved + counters.failed + counters.cancelled;
        Violation {
            property: Property::EveryJobEnds,
            at: self.simulated.now,
            detail: format!("{} were admitted, {ended} ended: {why}", counters.admitted),
        }
    }
}

fn class(trace: &Trace, arrival: &Arrival) -> usize {
    trace.tenants()[usize::from(arrival.tenant)].class
}
