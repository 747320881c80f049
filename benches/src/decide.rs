//! How long the arbiter takes to decide, alone: no threads, no sockets, the largest box that a pool
//! can be (1,024 units) and as many tenants as a policy may allow (256).
//!
//! The box is full: tenants of the four standard classes want half as much again as there is, so
//! every decision pours, counts turns and places. Once all units are cores; once as many as may be are devices,
//! short of memory for the keys of all, and one job in four comes with a deadline. Time is invented and goes on by tens of microseconds
//! between events; what is measured is each call of `Arbiter::handle` with an event that may move
//! units, the stamp after it, and the question when to be woken, which the arbiter's thread asks
//! each time. Workers answer a millisecond after their word was written; one in two hundred does so
//! after sixty, so that units are fenced off and come back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Entry, Found, Ownership};
use caldera_scheduler::pool::{Core, DEVICES_MAX, Device};
use caldera_scheduler::queue::Work;
use caldera_scheduler::scenario::Limits;
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId};
use hdrhistogram::Histogram;

use crate::bench::Bench;
use crate::record::Record;
use crate::table::{figure, met, table};

/// How long decisions took, by the kind of event, in nanoseconds; under `ALL` all of them.
pub(crate) struct Decided {
    box_of: String,
    kinds: BTreeMap<&'static str, Histogram<u64>>,
    moved: u64,
}

/// Whether the 99th percentile is within the bar, on every box.
pub(crate) fn holds(decided: &[Decided]) -> bool {
    let within = |it: &Decided| it.kinds[ALL].value_at_quantile(0.99) <= BAR_NS;
    decided.iter().all(within)
}

/// Lets arbiters of so many units and tenants handle so many events, without devices and with as many as may be.
pub(crate) fn decide(
    bench: &mut Bench,
    units: u32,
    tenants: u32,
    events: u64,
) -> Result<Vec<Decided>> {
    let devices = (DEVICES_MAX as u32).min(units / 2);
    let each = [0, devices].map(|devices| one(bench, units, devices, tenants, events));
    each.into_iter().collect()
}

fn one(bench: &mut Bench, units: u32, devices: u32, tenants: u32, events: u64) -> Result<Decided> {
    let begun = Instant::now();
    let mut world = World::new(units, devices, tenants)?;
    for _ in 0..events {
        world.step();
    }
    let beside = match devices {
        0 => String::new(),
        _ => format!(", {devices} of them devices, and deadlines"),
    };
    let decided = Decided {
        box_of: format!("{units} units, {tenants} tenants{beside}"),
        kinds: world.kinds,
        moved: world.arbiter.counters().reallocated,
    };
    ensure!(decided.moved > 0, "no unit changed hands");
    let wall = begun.elapsed().as_secs_f64();
    for (kind, ns) in &decided.kinds {
        let us = |quantile| ns.value_at_quantile(quantile) as f64 / 1e3;
        bench.keep(Record {
            size: u64::from(units),
            threads: 1,
            value: us(0.5),
            unit: "wall us".to_owned(),
            spread: [us(0.25), us(0.75)],
            wall_s: wall,
            rounds: usize::try_from(ns.len()).unwrap_or(usize::MAX),
            inside: Some(format!(
                "the event, the stamp, the next waking; p99 {:.1} us, p99.9 {:.1} us, longest {:.1} us",
                us(0.99),
                us(0.999),
                ns.max() as f64 / 1e3,
            )),
            ..bench.ours("decide", format!("{}, {kind}", decided.box_of))
        })?;
    }
    Ok(decided)
}

/// The kinds as tables, box by box.
pub(crate) fn of_decided(decided: &[Decided]) -> String {
    let bar = format!("p99 at most {} us", BAR_NS / 1_000);
    let tables: String = decided.iter().map(of_one).collect();
    tables + &met(&[(bar, holds(decided))])
}

fn of_one(decided: &Decided) -> String {
    let rows: Vec<Vec<String>> = decided
        .kinds
        .iter()
        .map(|(kind, ns)| {
            let us = |quantile| figure(ns.value_at_quantile(quantile) as f64 / 1e3);
            vec![
                (*kind).to_owned(),
                ns.len().to_string(),
                us(0.5),
                us(0.99),
                us(0.999),
                figure(ns.max() as f64 / 1e3),
            ]
        })
        .collect();
    let head = [
        "event",
        "decisions",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "longest us",
    ];
    format!(
        "deciding for {}; {} units changed hands\n{}",
        decided.box_of,
        decided.moved,
        table(&head, &rows)
    )
}

struct World {
    arbiter: Arbiter,
    actions: Vec<Action>,
    now: Nanos,
    dice: u64,
    tenants: u32,
    devices: u32,
    /// Jobs that can run, in no order.
    ready: Vec<JobId>,
    /// Jobs that are being prepared.
    preparing: VecDeque<(Nanos, JobId)>,
    /// Words that workers have not answered yet, by when they will.
    words: VecDeque<(Nanos, UnitId, Ownership)>,
    slow: VecDeque<(Nanos, UnitId, Ownership)>,
    /// Orders to make room that are not answered yet.
    orders: VecDeque<(Nanos, UnitId)>,
    jobs: u64,
    kinds: BTreeMap<&'static str, Histogram<u64>>,
}

impl World {
    fn new(units: u32, devices: u32, tenants: u32) -> Result<World> {
        let limits = Limits {
            tenants_max: tenants,
            ..Limits::STANDARD
        };
        let policy = Policy::new(Policy::standard().classes().to_vec(), limits)?;
        let core = |number| Core {
            number,
            node: Some((number % NODES) as u8),
        };
        let device = |number| Device {
            number,
            node: Some((number % NODES) as u8),
            memory: DEVICE_MEMORY,
        };
        let cores: Vec<Core> = (0..units - devices).map(core).collect();
        let of_devices: Vec<Device> = (0..devices).map(device).collect();
        let arbiter = Arbiter::new(Pool::of(&cores, &of_devices, u64::MAX)?, policy);
        let mut world = World {
            actions: Vec::with_capacity(arbiter.actions_max()),
            arbiter,
            now: Nanos::ZERO,
            dice: 1,
            tenants,
            devices,
            orders: VecDeque::new(),
            ready: Vec::new(),
            preparing: VecDeque::new(),
            words: VecDeque::new(),
            slow: VecDeque::new(),
            jobs: 0,
            kinds: BTreeMap::new(),
        };
        let classes = world.arbiter.policy().classes().len();
        for tenant in 0..tenants {
            let class = &world.arbiter.policy().classes()[tenant as usize % classes];
            let class = world
                .arbiter
                .policy()
                .find(&class.name)
                .context("its class")?;
            let tenant = TenantId(tenant);
            world.handle(Event::TenantJoined { tenant, class });
            for device in 0..devices {
                // One in eight of all keys is on each device: more than the guarantees of those whose keys they are.
                if (tenant.0 + device).is_multiple_of(8) {
                    world.handle(Event::Resident {
                        tenant,
                        unit: UnitId((units - devices + device) as u16),
                        bytes: DEVICE_MEMORY / 32,
                    });
                }
            }
        }
        // As many cores as are wanted at half as much again as there are.
        while u64::from(units) * 3 / 2 > world.wanted() {
            world.submit();
            world.deliver();
            world.now = world.now.plus(STEP);
        }
        world.kinds.clear();
        Ok(world)
    }

    fn wanted(&self) -> u64 {
        self.arbiter.tenants().map(|it| u64::from(it.want)).sum()
    }

    fn roll(&mut self, sides: u64) -> u64 {
        // Knuth's multiplier for 64-bit linear congruence: the high bits are random enough.
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    /// One event of a client or a job, and what time has brought until then.
    fn step(&mut self) {
        self.now = self.now.plus(STEP);
        self.deliver();
        match self.roll(8) {
            0 => self.declare(),
            1..=3 => self.submit(),
            4..=6 => self.finish(),
            _ => self.timed("tick", Event::Tick),
        }
    }

    fn submit(&mut self) {
        let (tenant, parallelism) = (self.roll(self.tenants.into()), 1 + self.roll(8));
        let mut work = Work {
            core: Nanos::from_millis(40),
            parallelism: parallelism as u32,
            ..Work::default()
        };
        let mut deadline = None;
        if self.devices > 0 {
            work.devices = 1 + self.roll(2) as u32;
            work.device_memory = DEVICE_MEMORY / 32;
            let span = Nanos::from_millis(20 + self.roll(500));
            deadline = (self.roll(4) == 0).then(|| self.now.plus(span));
        }
        self.jobs += 1;
        let event = Event::Submitted {
            job: JobId(self.jobs),
            tenant: TenantId(tenant as u32),
            work,
            deadline,
            received: self.now,
        };
        self.timed("submitted", event);
    }

    fn finish(&mut self) {
        if self.ready.is_empty() {
            return;
        }
        let at = self.roll(self.ready.len() as u64) as usize;
        let job = self.ready.swap_remove(at);
        let (outcome, at) = (Outcome::Proved, self.now);
        self.timed("finished", Event::Finished { job, outcome, at });
    }

    fn declare(&mut self) {
        let (tenant, units) = (self.roll(self.tenants.into()), self.roll(64));
        let event = Event::Declared {
            ticket: 0,
            tenant: TenantId(tenant as u32),
            units: units as u32,
            span: Nanos::from_millis(20),
            received: self.now,
        };
        self.timed("declared", event);
    }

    /// What is due by now: witnesses, answers of workers, the arbiter's own time.
    fn deliver(&mut self) {
        while let Some((_, job)) = self.preparing.pop_front_if(|(at, _)| *at <= self.now) {
            self.ready.push(job);
            self.timed("ready", Event::Ready { job });
        }
        while let Some((unit, ownership)) = self.answered() {
            let found = match ownership.owner {
                Some(_) => Found::Work,
                None => Found::NoOwner,
            };
            let entry = Entry {
                epoch: ownership.epoch,
                drained: self.now,
                first: self.now,
                found,
            };
            self.handle(Event::Entered { unit, entry });
        }
        while let Some((_, unit)) = self.orders.pop_front_if(|(at, _)| *at <= self.now) {
            self.timed("evicted", Event::Evicted { unit, made: false });
        }
        if self.arbiter.wake_at().is_some_and(|at| at <= self.now) {
            self.timed("tick", Event::Tick);
        }
    }

    /// The next word that a worker answers by now.
    fn answered(&mut self) -> Option<(UnitId, Ownership)> {
        let due = |(at, _, _): &mut (Nanos, UnitId, Ownership)| *at <= self.now;
        let word = self.words.pop_front_if(due);
        let word = word.or_else(|| self.slow.pop_front_if(due));
        word.map(|(_, unit, ownership)| (unit, ownership))
    }

    fn timed(&mut self, kind: &'static str, event: Event) {
        let begun = Instant::now();
        self.arbiter.handle(event, self.now, &mut self.actions);
        self.arbiter
            .handle(Event::Decided, self.now, &mut self.actions);
        std::hint::black_box(self.arbiter.wake_at());
        let ns = begun.elapsed().as_nanos() as u64;
        for kind in [kind, ALL] {
            self.kinds
                .entry(kind)
                .or_insert_with(|| Histogram::new_with_bounds(1, 1 << 40, 3).expect("in order"))
                .saturating_record(ns);
        }
        self.act();
    }

    fn handle(&mut self, event: Event) {
        self.arbiter.handle(event, self.now, &mut self.actions);
        self.act();
    }

    fn act(&mut self) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Prepare { job } => {
                    let at = self.now.plus(Nanos::from_millis(1));
                    self.preparing.push_back((at, job));
                }
                Action::Own { unit, ownership } => {
                    if self.roll(200) == 0 {
                        let at = self.now.plus(Nanos::from_millis(60));
                        self.slow.push_back((at, unit, ownership));
                    } else {
                        let at = self.now.plus(Nanos::from_millis(1));
                        self.words.push_back((at, unit, ownership));
                    }
                }
                Action::Evict { unit, .. } => {
                    let at = self.now.plus(Nanos::from_millis(1));
                    self.orders.push_back((at, unit));
                }
                _ => {}
            }
        }
        self.actions = actions;
    }
}

/// Between two events.
const STEP: Nanos = Nanos::from_micros(50);

/// NUMA nodes of the box.
const NODES: u32 = 4;
/// Bytes of each device.
const DEVICE_MEMORY: u64 = 1 << 36;

/// All kinds together.
const ALL: &str = "all";

/// What a decision may take at the 99th percentile.
const BAR_NS: u64 = 200_000;
