//! A box of the arbiter and modelled workers, run by a queue of events in invented time.
//!
//! A worker does what the node's does: between two quanta it reads its owner word, answers to a new
//! epoch, takes its next quantum from the first job in its owner's run order that has room for one
//! more, and otherwise sleeps until it is woken. A job is an amount of core time that at most
//! `parallelism` cores can serve at once.
//!
//! **Devices.** A part of a job's work may be such that a device can do it as well, so many times as
//! fast as a core; at most `devices` of them serve a job at once. Its cores do what only they can
//! first, and then help with the rest, so every job ends without a device too. When a device begins
//! with a tenant's job, the tables of that tenant are brought to it, as far as there is room, and they
//! stay until the arbiter asks for them.
//!
//! **Quanta are a grid, not events.** A day of 256 cores has ten thousand million quanta. What they
//! decide is only *when* a worker looks up: so a worker that runs keeps the instant at which its
//! first quantum began, its job flows at as many cores as serve it, and when something new is to be
//! seen the worker sees it at the next point of the grid. A job ends when it has flowed out; then
//! all its workers look up at once, where real ones would end within one quantum of each other.
//!
//! **Faults.** A worker can stall: it does nothing for a span, and the job whose quantum it holds
//! cannot end before. A unit can be lost: its quantum is run again by another worker, and it
//! answers nothing until it is mended. A core that is lost says nothing; that a device is, its host
//! says. The clock that the arbiter is told can jump.

use std::collections::{BTreeMap, BinaryHeap};

use crate::arbiter::{Counters, Outcome, Reallocation};
use crate::eviction::{Piece, Victim, choose};
use crate::mailbox::{Entry, Found, Ownership};
use crate::pool::{Core, Device, KINDS, Kind, Pool, UNITS_MAX};
use crate::queue::{Refusal, Work};
use crate::scenario::PolicyError;
use crate::sim::properties::{Property, Violation, Watch};
use crate::{Action, Arbiter, Epoch, Event, JobId, Nanos, Policy, TenantId, UnitId};

/// The longest quantum of a worker that behaves.
pub const QUANTUM: Nanos = Nanos::from_millis(2);
/// From a worker to the arbiter, or from the arbiter to a worker that sleeps.
pub const WIRE: Nanos = Nanos::from_micros(20);

/// What a simulated box has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inventory {
    /// How many cores.
    pub cores: u32,
    /// How many devices.
    pub devices: u32,
    /// As many cores' work one of them does, of what it can do.
    pub device_speed: u32,
    /// Bytes of tables that each of them has room for.
    pub device_memory: u64,
    /// Bytes for witnesses; [`u64::MAX`] if nobody counts them.
    pub host_memory: u64,
}

/// One box. The lists grow until their reader empties them.
#[derive(Debug)]
pub struct SimulatedBox {
    /// The code under simulation.
    pub arbiter: Arbiter,
    /// True time, which the arbiter is told unless its clock has jumped.
    pub now: Nanos,
    /// How long it takes to bring a witness into memory.
    pub preparation: Nanos,
    /// The shortest time between two ticks, where the arbiter would have them more often. Zero
    /// gives it all that it asks for.
    pub tick_gap: Nanos,
    /// Records of complete hand-overs.
    pub reallocations: Vec<Reallocation>,
    /// Jobs that found no place, why, and when it is worth trying again.
    pub refused: Vec<(JobId, Refusal, Option<Nanos>)>,
    /// Units that were fenced off.
    pub overruns: Vec<UnitId>,
    /// Jobs whose first quantum has begun, and when.
    pub started: Vec<(JobId, Nanos)>,
    /// Jobs in the order in which they ended.
    pub finished: Vec<JobId>,
    /// When the last of them ended.
    pub last_end: Nanos,
    /// All actions, each with its time; empty for a box that keeps no log.
    pub log: Vec<(Nanos, Action)>,
    /// Core time that each tenant has had.
    pub had: BTreeMap<TenantId, Nanos>,
    /// Core time that devices have saved: the work that was done on them.
    pub on_devices: u128,
    /// Device time that this took.
    pub device_time: u128,
    /// The longest that each tenant has had a ready job and owned no unit; of a box that keeps a
    /// log.
    pub waited: BTreeMap<TenantId, Nanos>,
    keeps_log: bool,
    /// What the arbiter's clock is ahead of true time, in nanoseconds.
    ahead: i64,
    /// The latest time that the arbiter has been told.
    highest_told: Nanos,
    waiting: BTreeMap<TenantId, Nanos>,
    inventory: Inventory,
    /// Host memory that witnesses take.
    host_memory: u64,
    /// Bytes of each tenant's tables on each device.
    resident: BTreeMap<(usize, TenantId), u64>,
    pub(super) workers: Vec<Worker>,
    pub(super) jobs: BTreeMap<JobId, Job>,
    events: BinaryHeap<Scheduled>,
    sequence: u64,
    /// When the arbiter wants the next tick, in true time.
    tick: Option<Nanos>,
    last_tick: Nanos,
    actions: Vec<Action>,
    watch: Option<Box<Watch>>,
}

#[derive(Debug, Clone, Copy)]
enum Happening {
    Told(Event),
    Woken(usize),
    Boundary(usize),
    Ended(JobId),
    Thawed(usize),
}

/// Earlier goes first, then what was scheduled first; the heap wants the greatest at its top.
#[derive(Debug, Clone, Copy)]
struct Scheduled {
    at: Nanos,
    sequence: u64,
    happening: Happening,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Worker {
    pub(super) word: Ownership,
    entered: Epoch,
    found: Found,
    pub(super) running: Option<Running>,
    /// When it will look up at the end of a quantum.
    looks_up: Option<Nanos>,
    pub(super) frozen: bool,
    frozen_until: Nanos,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    job: JobId,
    /// When the first of its quanta began: the origin of the grid.
    since: Nanos,
}

#[derive(Debug, Clone)]
pub(super) struct Job {
    tenant: TenantId,
    work: Work,
    left: Nanos,
    /// What of that devices can do as well.
    left_for_devices: Nanos,
    /// See [`Inventory`].
    device_speed: u32,
    /// Whether its witness is in memory, or on its way there.
    prepared: bool,
    /// Units of each kind whose workers hold a quantum of it.
    units: [Vec<usize>; KINDS],
    /// How many of these are frozen.
    frozen: [u32; KINDS],
    /// `left` was right then.
    at: Nanos,
    /// When its end is scheduled.
    ends: Nanos,
    started: bool,
}

impl SimulatedBox {
    /// A box of so many cores that keeps a log of all actions and panics when a property is broken,
    /// as tests want it.
    ///
    /// # Panics
    /// If there is no unit, or more than a pool may have.
    pub fn new(units: u32, policy: Policy) -> SimulatedBox {
        SimulatedBox::of(Inventory::cores(units), policy)
    }

    /// The same with devices.
    ///
    /// # Panics
    /// If no pool has such an inventory.
    pub fn of(inventory: Inventory, policy: Policy) -> SimulatedBox {
        let node = Some(0);
        let core = |number| Core { number, node };
        let cores: Vec<Core> = (0..inventory.cores).map(core).collect();
        let memory = inventory.device_memory;
        let device = |number| Device {
            number,
            node,
            memory,
        };
        let devices: Vec<Device> = (0..inventory.devices).map(device).collect();
        let pool = match Pool::of(&cores, &devices, inventory.host_memory) {
            Ok(pool) => pool,
            Err(why) => panic!("{inventory:?}: {why}; a pool has at most {UNITS_MAX} units"),
        };
        let units = pool.units().len();
        let asleep = Worker {
            word: Ownership::default(),
            entered: Epoch(0),
            found: Found::NoOwner,
            running: None,
            looks_up: None,
            frozen: false,
            frozen_until: Nanos::ZERO,
        };
        let watch = Watch::new(&policy);
        SimulatedBox {
            arbiter: Arbiter::new(pool, policy),
            now: Nanos::ZERO,
            preparation: Nanos::from_millis(1),
            tick_gap: Nanos::ZERO,
            reallocations: vec![],
            refused: vec![],
            overruns: vec![],
            started: vec![],
            finished: vec![],
            last_end: Nanos::ZERO,
            log: vec![],
            had: BTreeMap::new(),
            on_devices: 0,
            device_time: 0,
            waited: BTreeMap::new(),
            keeps_log: true,
            ahead: 0,
            highest_told: Nanos::ZERO,
            waiting: BTreeMap::new(),
            inventory,
            host_memory: 0,
            resident: BTreeMap::new(),
            workers: vec![asleep; units],
            jobs: BTreeMap::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            tick: None,
            last_tick: Nanos::ZERO,
            actions: vec![],
            watch: Some(Box::new(watch)),
        }
    }

    /// The same box without a log, for long runs. A broken property is kept for
    /// [`SimulatedBox::violation`]; without `checks` none is looked for.
    pub fn for_long_runs(inventory: Inventory, policy: Policy, checks: bool) -> SimulatedBox {
        let mut simulated = SimulatedBox::of(inventory, policy);
        simulated.keeps_log = false;
        simulated.watch = simulated.watch.filter(|_| checks);
        simulated
    }

    /// A tenant of a class of the policy joins.
    ///
    /// # Panics
    /// If the policy has no such class.
    pub fn join(&mut self, tenant: u32, class: &str) {
        let Some(class) = self.arbiter.policy().find(class) else {
            panic!("the policy has no class {class}");
        };
        self.tell(Event::TenantJoined {
            tenant: TenantId(tenant),
            class,
        });
    }

    /// A tenant leaves, and its jobs with it.
    pub fn leave(&mut self, tenant: u32) {
        self.tell(Event::TenantLeft {
            tenant: TenantId(tenant),
        });
    }

    /// Submits a job without a deadline.
    pub fn submit(&mut self, job: u64, tenant: u32, core: Nanos, parallelism: u32) -> bool {
        self.submit_due(job, tenant, core, parallelism, None)
    }

    /// Submits a job that reached the box [`WIRE`] ago; whether it was admitted.
    pub fn submit_due(
        &mut self,
        job: u64,
        tenant: u32,
        core: Nanos,
        parallelism: u32,
        deadline: Option<Nanos>,
    ) -> bool {
        let work = Work {
            core,
            parallelism,
            ..Work::default()
        };
        self.submit_work(job, tenant, work, Nanos::ZERO, deadline)
    }

    /// The same for a job of which devices can do a part.
    pub fn submit_work(
        &mut self,
        job: u64,
        tenant: u32,
        work: Work,
        for_devices: Nanos,
        deadline: Option<Nanos>,
    ) -> bool {
        let (job, tenant) = (JobId(job), TenantId(tenant));
        let received = Nanos(self.told().0.saturating_sub(WIRE.0));
        let fits = work.device_memory <= self.inventory.device_memory;
        // The job must be there before the arbiter admits it: workers may look at once.
        let new = Job {
            tenant,
            work: Work {
                devices: if fits { work.devices } else { 0 },
                ..work
            },
            left: work.core,
            left_for_devices: for_devices.min(work.core),
            device_speed: self.inventory.device_speed,
            prepared: false,
            units: [vec![], vec![]],
            frozen: [0; KINDS],
            at: self.now,
            ends: Nanos::MAX,
            started: false,
        };
        let before = self.jobs.insert(job, new);
        let refused = self.refused.len();
        self.tell(Event::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
        });
        let admitted = self.refused.len() == refused;
        if !admitted {
            self.jobs.remove(&job);
            self.jobs.extend(before.map(|before| (job, before)));
        }
        admitted
    }

    /// A job is not wanted any more.
    pub fn cancel(&mut self, job: u64) {
        self.forget(JobId(job));
        self.tell(Event::Cancelled { job: JobId(job) });
    }

    /// The unit's worker does nothing for so long from now.
    pub fn stall(&mut self, unit: usize, span: Nanos) {
        self.disturb_for_overrun();
        self.freeze(unit, self.now.plus(span));
    }

    /// The unit is lost until it is mended. Another worker runs its quantum again.
    pub fn lose(&mut self, unit: usize) {
        self.disturb_for_overrun();
        self.thaw_job(unit);
        if let Some(running) = self.workers[unit].running.take() {
            let again = self.now.since(running.since).min(QUANTUM);
            self.quit(unit, running.job, again);
        }
        self.freeze(unit, Nanos::MAX);
        if self.kind(unit) == Kind::Device {
            // With all that was there.
            self.resident.retain(|(on, _), _| *on != unit);
            let unit = UnitId(unit as u16);
            let lost = Happening::Told(Event::Lost { unit });
            self.schedule(self.now.plus(WIRE), lost);
        }
    }

    /// A lost or stalled unit is back, at once.
    pub fn mend(&mut self, unit: usize) {
        self.workers[unit].frozen_until = self.now;
        self.thaw(unit);
    }

    /// The clock that the arbiter and the workers read jumps so many nanoseconds ahead, or back.
    pub fn jump_clock(&mut self, by: i64) {
        // It says no time before its zero.
        let zero = -i64::try_from(self.now.0).unwrap_or(i64::MAX);
        self.ahead = self.ahead.saturating_add(by).max(zero);
        self.tick = self.arbiter.wake_at().map(|at| self.in_true_time(at));
        // After a jump back the arbiter's clock stands still until the other has caught up.
        let behind = self.highest_told.since(self.told());
        self.disturb(self.now.plus(behind));
    }

    /// Puts another policy in the place of the present one, which comes back, or says why not.
    pub fn adopt(&mut self, policy: Policy) -> Result<Policy, PolicyError> {
        let told = self.told();
        self.highest_told = self.highest_told.max(told);
        let answer = self.arbiter.adopt(policy, told);
        self.tell(Event::Tick);
        answer
    }

    /// Who owns each unit by the newest decision.
    pub fn owners(&self) -> Vec<Option<u32>> {
        let units = self.arbiter.pool().units().iter();
        units.map(|unit| unit.owner().map(|t| t.0)).collect()
    }

    /// The arbiter's counts.
    pub fn counters(&self) -> Counters {
        self.arbiter.counters()
    }

    /// Jobs that are on the box and have not ended.
    pub fn unfinished(&self) -> usize {
        self.jobs.len()
    }

    /// The first property that was found broken.
    pub fn violation(&self) -> Option<&Violation> {
        self.watch.as_ref()?.violation()
    }

    /// Lets so much time pass, and brings [`SimulatedBox::had`] up to date.
    pub fn run(&mut self, span: Nanos) {
        self.advance(self.now.plus(span));
        let ids: Vec<JobId> = self.jobs.keys().copied().collect();
        for id in ids {
            self.settle(id);
        }
    }

    /// Lets time pass until then, all of what is to happen by then included.
    pub fn advance(&mut self, until: Nanos) {
        loop {
            let next = self.events.peek().map(|scheduled| scheduled.at);
            let tick = self.next_tick();
            match (next, tick) {
                (Some(next), tick) if next <= until && tick.is_none_or(|tick| next <= tick) => {
                    self.now = self.now.max(next);
                    if let Some(scheduled) = self.events.pop() {
                        self.happen(scheduled.happening);
                    }
                }
                (_, Some(tick)) if tick <= until => {
                    self.now = self.now.max(tick);
                    self.last_tick = self.now;
                    self.tell(Event::Tick);
                }
                _ => break,
            }
        }
        self.now = self.now.max(until);
    }

    /// Gives an event to the arbiter, checks what must hold, and carries its actions out.
    pub fn tell(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        let told = self.told();
        self.highest_told = self.highest_told.max(told);
        self.arbiter.handle(event, told, &mut actions);
        if !actions.is_empty() {
            let max = self.arbiter.actions_max();
            assert!(actions.len() <= max, "{} actions of {max}", actions.len());
            self.arbiter.handle(Event::Decided, told, &mut actions);
        }
        for &action in &actions {
            if self.keeps_log {
                self.log.push((self.now, action));
            }
            self.carry_out(action);
        }
        actions.clear();
        self.actions = actions;
        self.tick = self.arbiter.wake_at().map(|at| self.in_true_time(at));
        if self.keeps_log {
            self.watch_waiting();
        }
        if let Some(mut watch) = self.watch.take() {
            watch.look(self);
            assert!(
                !self.keeps_log || watch.violation().is_none(),
                "{:?}",
                watch.violation()
            );
            self.watch = Some(watch);
        }
    }

    /// What the clock of the box says.
    pub(super) fn told(&self) -> Nanos {
        Nanos(self.now.0.saturating_add_signed(self.ahead))
    }

    fn in_true_time(&self, told: Nanos) -> Nanos {
        Nanos(told.0.saturating_add_signed(self.ahead.saturating_neg()))
    }

    /// When the arbiter is to be told that time has passed.
    fn next_tick(&self) -> Option<Nanos> {
        let wanted = self.tick?;
        Some(wanted.max(self.last_tick.plus(self.tick_gap)).max(self.now))
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Refuse {
                job,
                reason,
                retry_after,
            } => self.refused.push((job, reason, retry_after)),
            Action::Drop { job } => self.forget(job),
            Action::Prepare { job } => {
                self.take_memory(job);
                let at = self.now.plus(self.preparation);
                self.schedule(at, Happening::Told(Event::Ready { job }));
            }
            Action::RunOrder { tenant } => self.reorder(tenant),
            Action::Own { unit, ownership } => {
                let index = usize::from(unit.0);
                let worker = &mut self.workers[index];
                let expected = worker.word.epoch.next();
                assert_eq!(ownership.epoch, expected, "{unit} skipped an epoch");
                worker.word = ownership;
                self.ask_to_look(index);
            }
            Action::Reallocated(record) => {
                let t0 = self.in_true_time(record.t0);
                if let Some(watch) = &mut self.watch {
                    watch.reallocated(&record, t0, self.now);
                }
                self.reallocations.push(record);
            }
            Action::Overrun { unit, .. } => self.overruns.push(unit),
            Action::Evict { unit, bytes, .. } => self.make_room(unit, bytes),
            // The rest is for somebody else's eyes.
            _ => {}
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Told(event) => self.tell(event),
            Happening::Woken(unit) if self.workers[unit].running.is_none() => self.look(unit),
            Happening::Woken(_) => {}
            Happening::Boundary(unit) => {
                // A worker that stopped and began again since has another grid.
                if self.workers[unit].looks_up == Some(self.now) {
                    self.look(unit);
                }
            }
            Happening::Ended(job) => self.flowed_out(job),
            Happening::Thawed(unit) => self.thaw(unit),
        }
    }

    /// Between two quanta: what the worker's loop does.
    fn look(&mut self, unit: usize) {
        if self.workers[unit].frozen {
            return;
        }
        self.workers[unit].looks_up = None;
        if let Some(running) = self.workers[unit].running.take() {
            self.quit(unit, running.job, Nanos::ZERO);
        }
        if self.workers[unit].running.is_some() {
            // The job ended with this quantum, and the worker has looked up already.
            return;
        }
        let word = self.workers[unit].word;
        let took = word.owner.is_some_and(|tenant| self.take(tenant, unit));
        let found = match (word.owner, took) {
            (None, _) => Found::NoOwner,
            (Some(_), false) => Found::Nothing,
            (Some(_), true) => Found::Work,
        };
        let (epoch, told) = (word.epoch, self.told());
        let id = UnitId(unit as u16);
        let worker = &mut self.workers[unit];
        let news = if epoch != worker.entered {
            let entry = Entry {
                epoch,
                drained: told,
                first: told,
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
                    at: told,
                }),
                Found::NoOwner => None,
            }
        };
        worker.entered = epoch;
        worker.found = found;
        if let Some(event) = news {
            self.schedule(self.now.plus(WIRE), Happening::Told(event));
        }
    }

    fn kind(&self, unit: usize) -> Kind {
        match unit < self.inventory.cores as usize {
            true => Kind::Core,
            false => Kind::Device,
        }
    }

    /// A job's witness goes into memory.
    fn take_memory(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.prepared = true;
        self.host_memory = self.host_memory.saturating_add(job.work.host_memory);
        let there = self.inventory.host_memory;
        if self.host_memory > there {
            let detail = format!("{} of {there} bytes are held with {id}", self.host_memory);
            self.report(Property::Bytes, detail);
        }
    }

    /// Takes a job out, and its witness out of memory.
    fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        if job.prepared {
            self.host_memory = self.host_memory.saturating_sub(job.work.host_memory);
        }
        Some(job)
    }

    /// Brings so many bytes of a tenant's tables to a device, as far as there is room.
    fn bring_tables(&mut self, unit: usize, tenant: TenantId, bytes: u64) {
        let on = self
            .resident
            .range((unit, TenantId(0))..=(unit, TenantId(u32::MAX)));
        let used: u64 = on.map(|(_, bytes)| bytes).sum();
        let free = self.inventory.device_memory.saturating_sub(used);
        let held = self.resident.entry((unit, tenant)).or_default();
        let more = bytes.saturating_sub(*held).min(free);
        *held += more;
        if more > 0 {
            self.say_resident(unit, tenant);
        }
    }

    /// Lets whole tables go from a device, as many as are needed, or none.
    fn make_room(&mut self, unit: UnitId, bytes: u64) {
        let on = usize::from(unit.0);
        let victims: Vec<Victim> = self.arbiter.victims(unit).collect();
        let there = self
            .resident
            .range((on, TenantId(0))..=(on, TenantId(u32::MAX)));
        let pieces: Vec<Piece> = there
            .map(|(&(_, tenant), &bytes)| Piece { tenant, bytes })
            .collect();
        let held = |tenant: TenantId| -> u64 {
            let own = self.resident.iter().filter(|((_, of), _)| *of == tenant);
            own.map(|(_, bytes)| bytes).sum()
        };
        let chosen = choose(bytes, &victims, held, &pieces);
        let made = chosen.is_some();
        for at in chosen.into_iter().flatten() {
            let tenant = pieces[at].tenant;
            self.resident.insert((on, tenant), 0);
            self.say_resident(on, tenant);
        }
        let evicted = Event::Evicted { unit, made };
        self.schedule(self.now.plus(WIRE), Happening::Told(evicted));
    }

    fn say_resident(&mut self, unit: usize, tenant: TenantId) {
        let bytes = self.resident.get(&(unit, tenant)).copied().unwrap_or(0);
        let unit = UnitId(unit as u16);
        let resident = Event::Resident {
            tenant,
            unit,
            bytes,
        };
        self.schedule(self.now.plus(WIRE), Happening::Told(resident));
    }

    /// Puts the worker to the first job of the tenant's order that has room; whether there is one.
    fn take(&mut self, tenant: TenantId, unit: usize) -> bool {
        let (jobs, kind) = (&self.jobs, self.kind(unit));
        let mut order = self.arbiter.run_order(tenant).iter();
        let found = order.find(|&id| jobs.get(id).is_some_and(|job| job.has_room(kind)));
        let Some(&id) = found else {
            return false;
        };
        self.settle(id);
        let now = self.now;
        let Some(job) = self.jobs.get_mut(&id) else {
            return false;
        };
        job.units[kind.index()].push(unit);
        let tables = job.work.device_memory;
        if !std::mem::replace(&mut job.started, true) {
            self.started.push((id, now));
        }
        if kind == Kind::Device {
            self.bring_tables(unit, tenant, tables);
        }
        self.workers[unit].running = Some(Running {
            job: id,
            since: now,
        });
        self.schedule_end(id);
        true
    }

    /// The worker gives its quantum of the job back; so much of it must be run again.
    fn quit(&mut self, unit: usize, id: JobId, again: Nanos) {
        self.settle(id);
        let kind = self.kind(unit);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let units = &mut job.units[kind.index()];
        // Not there: the job was cancelled meanwhile, and this is another of the same name.
        let Some(at) = units.iter().position(|&held| held == unit) else {
            return;
        };
        units.remove(at);
        match kind {
            Kind::Core => job.left = job.left.plus(again),
            Kind::Device => {
                let again = Nanos(again.0 * u64::from(job.device_speed));
                job.left = job.left.plus(again);
                job.left_for_devices = job.left_for_devices.plus(again);
            }
        }
        if job.left > Nanos::ZERO {
            // Whoever sleeps beside it may go on with it.
            let tenant = job.tenant;
            self.wake_workers_of(tenant);
        } else if job.units.iter().all(Vec::is_empty) {
            self.end(id);
        }
    }

    /// Lets a job flow until now.
    fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        let span = self.now.since(std::mem::replace(&mut job.at, self.now));
        let [cores, devices] = job.flow();
        let saved = Nanos(span.0.saturating_mul(devices)).min(job.left_for_devices);
        let flowed = Nanos(span.0.saturating_mul(cores)).min(job.left.since(saved));
        job.left = job.left.since(saved).since(flowed);
        // Cores do what only they can do first.
        job.left_for_devices = job.left_for_devices.since(saved).min(job.left);
        if saved > Nanos::ZERO {
            self.on_devices += u128::from(saved.0);
            self.device_time += u128::from(saved.0 / u64::from(job.device_speed.max(1)));
        }
        if flowed > Nanos::ZERO {
            let had = self.had.entry(job.tenant).or_default();
            *had = had.plus(flowed);
        }
    }

    fn schedule_end(&mut self, id: JobId) {
        let Some((job, span)) = self.jobs.get_mut(&id).and_then(|job| {
            let span = job.steady()?;
            Some((job, span))
        }) else {
            return;
        };
        let at = self.now.plus(span);
        // A later end is found out when the earlier comes.
        if at < job.ends {
            job.ends = at;
            self.schedule(at, Happening::Ended(id));
        }
    }

    fn flowed_out(&mut self, id: JobId) {
        if self.jobs.get(&id).is_none_or(|job| job.ends != self.now) {
            return;
        }
        self.settle(id);
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.ends = Nanos::MAX;
        if job.left > Nanos::ZERO {
            if job.left_for_devices == Nanos::ZERO {
                // Devices have nothing more to do for it.
                for unit in job.units[Kind::Device.index()].clone() {
                    self.look(unit);
                }
            }
            self.schedule_end(id);
        } else if job.frozen == [0; KINDS] {
            self.end(id);
        } else {
            // Its other workers have nothing more to do for it.
            for unit in job.units.concat() {
                self.look(unit);
            }
        }
    }

    /// The last quantum of a job has ended.
    fn end(&mut self, id: JobId) {
        let Some(job) = self.remove(id) else {
            return;
        };
        let units = job.units.concat();
        for &unit in &units {
            self.workers[unit].running = None;
            self.workers[unit].looks_up = None;
        }
        self.finished.push(id);
        self.last_end = self.now;
        // At once, for the order must not name a job that is no more.
        self.tell(Event::Finished {
            job: id,
            outcome: Outcome::Proved,
            at: self.told(),
        });
        for unit in units {
            if self.workers[unit].running.is_none() {
                self.look(unit);
            }
        }
    }

    /// A job is gone before its end; the quanta of it that are under way end as they will.
    fn forget(&mut self, id: JobId) {
        self.settle(id);
        if let Some(job) = self.remove(id) {
            for unit in job.units.concat() {
                self.ask_to_look(unit);
            }
        }
    }

    /// The run order of a tenant has changed: whoever sleeps looks, and whoever serves a job behind
    /// one that has room looks up at the end of his quantum.
    fn reorder(&mut self, tenant: TenantId) {
        self.wake_workers_of(tenant);
        for kind in Kind::ALL {
            let mut room = 0;
            let mut behind = vec![];
            for id in self.arbiter.run_order(tenant) {
                let Some(job) = self.jobs.get(id) else {
                    continue;
                };
                if room > 0 {
                    behind.extend_from_slice(&job.units[kind.index()]);
                }
                room += job.room(kind);
            }
            for unit in behind.into_iter().rev().take(room) {
                self.ask_to_look(unit);
            }
        }
    }

    fn wake_workers_of(&mut self, tenant: TenantId) {
        for unit in 0..self.workers.len() {
            let worker = &self.workers[unit];
            if worker.word.owner == Some(tenant) && worker.running.is_none() {
                self.ask_to_look(unit);
            }
        }
    }

    /// A worker that sleeps is woken, one that runs will look at the end of its quantum, one that
    /// is frozen looks when it thaws.
    fn ask_to_look(&mut self, unit: usize) {
        let worker = &mut self.workers[unit];
        if worker.frozen {
            return;
        }
        let Some(running) = worker.running else {
            self.schedule(self.now.plus(WIRE), Happening::Woken(unit));
            return;
        };
        if worker.looks_up.is_none() {
            let quanta = self.now.since(running.since).0.div_ceil(QUANTUM.0).max(1);
            let at = running.since.plus(Nanos(quanta * QUANTUM.0));
            worker.looks_up = Some(at);
            self.schedule(at, Happening::Boundary(unit));
        }
    }

    fn freeze(&mut self, unit: usize, until: Nanos) {
        let worker = &mut self.workers[unit];
        let thawed = !std::mem::replace(&mut worker.frozen, true);
        worker.frozen_until = worker.frozen_until.max(until);
        worker.looks_up = None;
        let (until, running) = (worker.frozen_until, worker.running);
        let kind = self.kind(unit).index();
        if let Some(running) = running.filter(|_| thawed) {
            self.settle(running.job);
            if let Some(job) = self.jobs.get_mut(&running.job) {
                // Not there: the job was cancelled, and this is another of the same name.
                job.frozen[kind] += u32::from(job.units[kind].contains(&unit));
            }
        }
        self.schedule(until, Happening::Thawed(unit));
    }

    fn thaw(&mut self, unit: usize) {
        if self.workers[unit].frozen && self.workers[unit].frozen_until <= self.now {
            self.thaw_job(unit);
            self.workers[unit].frozen = false;
            self.look(unit);
        }
    }

    /// The job of a frozen worker flows through it again.
    fn thaw_job(&mut self, unit: usize) {
        let (worker, kind) = (self.workers[unit], self.kind(unit).index());
        if let Some(running) = worker.running.filter(|_| worker.frozen) {
            self.settle(running.job);
            if let Some(job) = self.jobs.get_mut(&running.job) {
                job.frozen[kind] -= u32::from(job.units[kind].contains(&unit));
            }
        }
    }

    fn schedule(&mut self, at: Nanos, happening: Happening) {
        self.sequence += 1;
        self.events.push(Scheduled {
            at,
            sequence: self.sequence,
            happening,
        });
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

    /// Promises of time are not looked at until then, nor for a slice afterwards: something that
    /// no arbiter could help is going on.
    fn disturb(&mut self, until: Nanos) {
        let slice = self.arbiter.policy().limits().slice;
        if let Some(watch) = &mut self.watch {
            watch.disturb(until.plus(slice));
        }
    }

    /// The arbiter finds out about a silent worker when it overruns, and not before.
    fn disturb_for_overrun(&mut self) {
        let overrun = self.arbiter.policy().limits().overrun();
        self.disturb(self.now.plus(overrun).plus(self.tick_gap));
    }

    /// A broken property that the driver of the box has found.
    pub(super) fn report(&mut self, property: Property, detail: String) {
        if let Some(watch) = &mut self.watch {
            watch.report(property, self.now, detail);
        }
    }
}

impl Inventory {
    /// Of so many cores, no device, and bytes that nobody counts.
    pub fn cores(cores: u32) -> Inventory {
        Inventory {
            cores,
            devices: 0,
            device_speed: 1,
            device_memory: 0,
            host_memory: u64::MAX,
        }
    }

    /// How many units it has of both kinds.
    pub fn units(&self) -> u32 {
        self.cores + self.devices
    }
}

impl Job {
    /// How many more units of a kind could serve it.
    fn room(&self, kind: Kind) -> usize {
        let (most, left) = match kind {
            Kind::Core => (self.work.parallelism, self.left),
            Kind::Device => (self.work.devices, self.left_for_devices),
        };
        match left {
            Nanos::ZERO => 0,
            _ => (most as usize).saturating_sub(self.units[kind.index()].len()),
        }
    }

    pub(super) fn has_room(&self, kind: Kind) -> bool {
        self.room(kind) > 0
    }

    /// Whether a quantum of it is on a worker that does nothing.
    pub(super) fn is_stuck(&self) -> bool {
        self.frozen != [0; KINDS]
    }

    /// Nanoseconds of work that units of each kind do for it in one.
    fn flow(&self) -> [u64; KINDS] {
        let flow = |kind: Kind| {
            self.units[kind.index()].len() as u64 - u64::from(self.frozen[kind.index()])
        };
        [
            flow(Kind::Core),
            flow(Kind::Device) * u64::from(self.device_speed),
        ]
    }

    /// How long it flows as it does now: to its end, or until what only one kind does is done. `None`
    /// if it stands still.
    fn steady(&self) -> Option<Nanos> {
        let [cores, devices] = self.flow();
        let over = |work: u64, flow: u64| (flow > 0).then(|| Nanos(work.div_ceil(flow)));
        let only_cores = self.left.since(self.left_for_devices).0;
        let both = self.left_for_devices.0;
        match (only_cores, both) {
            (0, both) => over(both, cores + devices),
            (only, 0) => over(only, cores),
            (only, both) => over(only, cores)
                .into_iter()
                .chain(over(both, devices))
                .min(),
        }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> std::cmp::Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
