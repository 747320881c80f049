//! The arbiter on a box of cores, devices and bounded memory, with workers that answer at once.
//!
//! Debug builds check after each event that no unit of any kind is owned twice or lies idle while it
//! is wanted, and that no more host memory is held than there is.

use std::collections::{BTreeMap, BTreeSet};

use caldera_scheduler::arbiter::{Cause, Outcome, Reallocation, TenantView};
use caldera_scheduler::eviction::Victim;
use caldera_scheduler::mailbox::{Entry, Found};
use caldera_scheduler::pool::{Core, Device, Kind, PoolError};
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::scenario::Share;
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId};
use proptest::prelude::*;

const FINANCIAL: TenantId = TenantId(1);
const SOCIAL: TenantId = TenantId(2);
const GIB: u64 = 1 << 30;

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn core(number: u32, node: u8) -> Core {
    let node = Some(node);
    Core { number, node }
}

fn device(number: u32, node: u8) -> Device {
    Device {
        number,
        node: Some(node),
        memory: 8 * GIB,
    }
}

/// Four cores and two devices on two nodes.
fn pool(host_memory: u64) -> Pool {
    let cores = [core(0, 0), core(1, 0), core(2, 1), core(3, 1)];
    Pool::of(&cores, &[device(0, 0), device(1, 1)], host_memory).expect("a pool")
}

fn work(parallelism: u32, devices: u32, host_memory: u64) -> Work {
    Work {
        core: ms(100),
        parallelism,
        devices,
        device_memory: GIB,
        host_memory,
    }
}

/// An arbiter, and what became of its actions.
struct World {
    arbiter: Arbiter,
    now: Nanos,
    /// A unit that does not answer.
    silent: Option<UnitId>,
    /// Devices that are lost, and do not answer either.
    lost: BTreeSet<UnitId>,
    jobs: u64,
    /// Those that can run, whose they are and what they hold.
    ready: BTreeMap<JobId, TenantId>,
    admitted: u64,
    refused: Vec<Refusal>,
    records: Vec<Reallocation>,
    overruns: Vec<UnitId>,
    returned: Vec<UnitId>,
    works: BTreeMap<JobId, Work>,
    /// What is on devices, as the box says it; tables that are to go are gone at once.
    tables: BTreeMap<(TenantId, UnitId), u64>,
    evicted: Vec<(TenantId, UnitId, u64)>,
}

impl World {
    fn new(pool: Pool) -> World {
        let mut world = World {
            arbiter: Arbiter::new(pool, Policy::standard()),
            now: ms(1),
            silent: None,
            lost: BTreeSet::new(),
            jobs: 0,
            ready: BTreeMap::new(),
            admitted: 0,
            refused: vec![],
            records: vec![],
            overruns: vec![],
            returned: vec![],
            works: BTreeMap::new(),
            tables: BTreeMap::new(),
            evicted: vec![],
        };
        for (tenant, class) in [(FINANCIAL, "financial"), (SOCIAL, "social")] {
            let class = world.arbiter.policy().find(class).expect("standard");
            world.tell(Event::TenantJoined { tenant, class });
        }
        world
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        let mut at = 0;
        while let Some(&event) = events.get(at) {
            at += 1;
            let mut actions = vec![];
            self.arbiter.handle(event, self.now, &mut actions);
            assert_eq!(self.arbiter.check(), Ok(()));
            for action in actions {
                match action {
                    Action::Admit { .. } => self.admitted += 1,
                    Action::Refuse { reason, .. } => self.refused.push(reason),
                    Action::Prepare { job } => {
                        let view = self.arbiter.job(job).expect("it is prepared");
                        self.ready.insert(job, view.tenant);
                        events.push(Event::Ready { job });
                    }
                    Action::Own { unit, ownership }
                        if Some(unit) != self.silent && !self.lost.contains(&unit) =>
                    {
                        let entry = Entry {
                            epoch: ownership.epoch,
                            drained: self.now,
                            first: self.now,
                            found: Found::Work,
                        };
                        events.push(Event::Entered { unit, entry });
                    }
                    Action::Reallocated(record) => self.records.push(record),
                    Action::Overrun { unit, .. } => self.overruns.push(unit),
                    Action::Returned { unit } => self.returned.push(unit),
                    Action::Evict { unit, bytes, .. } => events.extend(self.evict(unit, bytes)),
                    _ => {}
                }
            }
        }
    }

    fn submit(&mut self, tenant: TenantId, work: Work) -> JobId {
        self.jobs += 1;
        let job = JobId(self.jobs);
        let fits = self
            .devices()
            .all(|(_, memory)| work.device_memory <= memory);
        let devices = if fits { work.devices } else { 0 };
        self.works.insert(job, Work { devices, ..work });
        self.tell(Event::Submitted {
            job,
            tenant,
            work,
            deadline: None,
            received: self.now,
        });
        job
    }

    fn finish(&mut self, job: JobId) {
        self.ready.remove(&job);
        self.tell(Event::Finished {
            job,
            outcome: Outcome::Proved,
            at: self.now,
        });
    }

    /// Lets tables go, which have keys of a byte each here; what is told of it.
    fn evict(&mut self, unit: UnitId, bytes: u64) -> Vec<Event> {
        let pool = self.arbiter.pool();
        let owner = pool.unit(unit).expect("a unit").owner();
        let victims: Vec<Victim> = self.arbiter.victims(unit).collect();
        let mut short = bytes;
        let mut gone = BTreeMap::new();
        let rounds: [fn(&Victim, u64) -> u64; 2] = [Victim::beyond_part, Victim::beyond_guarantee];
        for may in rounds {
            for victim in &victims {
                let gone = gone.entry(victim.tenant).or_insert(0);
                let may = may(victim, self.held(victim.tenant)).min(short + *gone);
                short -= may - (*gone).min(may);
                *gone = may.max(*gone);
            }
        }
        assert_eq!(short, 0, "it was asked in vain: {victims:?}");
        let mut told = vec![];
        for victim in victims {
            let (tenant, bytes) = (victim.tenant, gone[&victim.tenant]);
            if bytes == 0 {
                continue;
            }
            assert_ne!(owner, Some(tenant), "an owner's own tables go");
            let keeps = self.promised(tenant);
            let held = self.held(tenant);
            assert!(
                held - bytes >= keeps,
                "{held} less {bytes}, {keeps} promised"
            );
            let left = self.tables.get_mut(&(tenant, unit)).expect("it is there");
            *left = left.checked_sub(bytes).expect("not more than there is");
            self.evicted.push((tenant, unit, bytes));
            let bytes = *left;
            told.push(Event::Resident {
                tenant,
                unit,
                bytes,
            });
        }
        told.push(Event::Evicted { unit, made: true });
        told
    }

    /// The devices that are not lost, and their memory.
    fn devices(&self) -> impl Iterator<Item = (UnitId, u64)> {
        let pool = self.arbiter.pool();
        let units = pool.units()[pool.range(Kind::Device)].iter();
        let units = units.filter(|unit| !self.lost.contains(&unit.id()));
        units.map(|unit| (unit.id(), unit.memory()))
    }

    /// What is guaranteed to a tenant of the memory that somebody counts, as far as its jobs can use that: whether its
    /// devices have anything to do at the moment or not.
    fn promised(&self, tenant: TenantId) -> u64 {
        let counted = self.devices().filter(|(_, memory)| *memory < u64::MAX);
        let (count, memory) = counted.fold((0, 0), |(n, sum), (_, it)| (n + 1, sum + it));
        let wanted = self.ready.iter().filter(|(_, of)| **of == tenant);
        let wanted: u64 = wanted
            .map(|(job, _)| &self.works[job])
            .map(|work| work.device_memory * u64::from(work.devices.min(count)))
            .sum();
        let guarantee = self.view(tenant).guarantee.of_bytes(memory);
        guarantee.min(wanted)
    }

    /// What a tenant has where somebody counts it.
    fn held(&self, tenant: TenantId) -> u64 {
        let counted = |unit: UnitId| {
            let mut devices = self.devices();
            devices.any(|(id, memory)| id == unit && memory < u64::MAX)
        };
        let held = self.tables.iter();
        let held = held.filter(|((of, unit), _)| *of == tenant && counted(*unit));
        held.map(|(_, bytes)| bytes).sum()
    }

    /// The workers of these units find nothing to run for longer than anybody waits for that.
    fn starve(&mut self, units: &[UnitId]) {
        for &unit in units {
            let epoch = self.arbiter.pool().unit(unit).expect("a unit").epoch();
            let at = self.now;
            self.tell(Event::Idle { unit, epoch, at });
        }
        self.pass(ms(3));
    }

    /// A device is lost, with all that was there.
    fn lose(&mut self, unit: UnitId) {
        self.lost.insert(unit);
        self.tables.retain(|(_, on), _| *on != unit);
        self.tell(Event::Lost { unit });
    }

    fn load(&mut self, tenant: TenantId, unit: UnitId, bytes: u64) {
        self.tables.insert((tenant, unit), bytes);
        self.tell(Event::Resident {
            tenant,
            unit,
            bytes,
        });
    }

    fn pass(&mut self, span: Nanos) {
        self.now = self.now.plus(span);
        self.tell(Event::Tick);
    }

    fn view(&self, tenant: TenantId) -> TenantView {
        let mut views = self.arbiter.tenants();
        views.find(|view| view.tenant == tenant).expect("joined")
    }

    fn owners(&self, kind: Kind) -> Vec<Option<TenantId>> {
        let pool = self.arbiter.pool();
        let units = pool.units()[pool.range(kind)].iter();
        units.map(|unit| unit.owner()).collect()
    }
}

#[test]
fn a_peak_takes_both_devices_in_one_decision() {
    let mut world = World::new(pool(u64::MAX));
    world.submit(SOCIAL, work(4, 2, 0));
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL); 2]);
    world.records.clear();
    world.submit(FINANCIAL, work(4, 2, 0));
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL); 2]);
    let moved: Vec<_> = world
        .records
        .iter()
        .filter(|record| {
            world
                .arbiter
                .pool()
                .range(Kind::Device)
                .contains(&record.unit.0.into())
        })
        .map(|record| (record.cause, record.from, record.to))
        .collect();
    assert_eq!(moved, [(Cause::Demand, Some(SOCIAL), FINANCIAL); 2]);
}

/// No kind waits for another: a tenant that uses no device leaves them to the one that does, though
/// that one holds no core.
#[test]
fn a_device_is_not_idle_because_cores_are_short() {
    let mut world = World::new(pool(u64::MAX));
    for _ in 0..4 {
        world.submit(FINANCIAL, work(4, 0, 0));
    }
    world.submit(SOCIAL, work(1, 2, 0));
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL); 2]);
    assert_eq!(world.view(SOCIAL).devices_held, 2);
}

/// Both want three of four devices. One of them wants all cores besides: that is its dominant share,
/// and in the devices it counts for three quarters of the other.
#[test]
fn what_is_wanted_of_one_kind_counts_in_another() {
    let cores = [core(0, 0), core(1, 0), core(2, 0), core(3, 0)];
    let devices = [0, 1, 2, 3].map(|number| device(number, 0));
    let mut world = World::new(Pool::of(&cores, &devices, u64::MAX).expect("a pool"));
    let class = world.arbiter.policy().find("social").expect("standard");
    let modest = TenantId(3);
    world.tell(Event::TenantJoined {
        tenant: modest,
        class,
    });
    world.submit(modest, work(1, 3, 0));
    world.submit(SOCIAL, work(4, 3, 0));
    let mut had = [0, 0];
    for _ in 0..400 {
        world.pass(ms(25));
        had[0] += world.view(modest).devices_held;
        had[1] += world.view(SOCIAL).devices_held;
    }
    assert_eq!(had[0] + had[1], 1_600);
    // A guarantee of 0.04 each; of the 3.92 over, four parts in seven: 2.28 devices on average.
    assert!((904..=920).contains(&had[0]), "{had:?}");
}

#[test]
fn a_tenant_gets_the_device_with_its_tables_and_cores_beside_it() {
    let mut world = World::new(pool(u64::MAX));
    let far = UnitId(5);
    world.tell(Event::Resident {
        tenant: SOCIAL,
        unit: far,
        bytes: GIB,
    });
    world.submit(SOCIAL, work(2, 1, 0));
    assert_eq!(world.owners(Kind::Device), [None, Some(SOCIAL)]);
    let cores = [None, None, Some(SOCIAL), Some(SOCIAL)];
    assert_eq!(world.owners(Kind::Core), cores);
    // Tables that are gone draw nobody.
    world.finish(JobId(1));
    world.tell(Event::Resident {
        tenant: SOCIAL,
        unit: far,
        bytes: 0,
    });
    world.submit(SOCIAL, work(2, 1, 0));
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL), None]);
    // A core has no tables, nor has a stranger any.
    let stray = world.arbiter.counters().stray;
    for (tenant, unit) in [(SOCIAL, UnitId(0)), (TenantId(9), far), (SOCIAL, UnitId(6))] {
        let bytes = GIB;
        world.tell(Event::Resident {
            tenant,
            unit,
            bytes,
        });
    }
    assert_eq!(world.arbiter.counters().stray, stray + 3);
}

/// The tables of a tenant that is quiet go from the devices of one that is not, as far as it needs
/// the room, and are asked for once.
#[test]
fn tables_make_room_for_those_of_the_owner() {
    let mut world = World::new(pool(u64::MAX));
    let devices = [UnitId(4), UnitId(5)];
    for unit in devices {
        world.load(SOCIAL, unit, 6 * GIB);
    }
    let large = Work {
        device_memory: 5 * GIB,
        ..work(1, 1, 0)
    };
    world.submit(FINANCIAL, large);
    assert_eq!(world.evicted, [(SOCIAL, UnitId(4), 3 * GIB)]);
    assert_eq!(world.view(SOCIAL).device_memory, 9 * GIB);
    world.load(FINANCIAL, UnitId(4), 5 * GIB);
    world.pass(ms(25));
    assert_eq!(world.evicted.len(), 1, "there is room now");
    // More than any device has is used on none.
    let huge = Work {
        device_memory: 9 * GIB,
        ..work(1, 2, 0)
    };
    world.finish(JobId(1));
    world.submit(FINANCIAL, huge);
    assert_eq!(world.view(FINANCIAL).devices_want, 0);
}

/// Of two whose tables stand in the way the less valuable lets go first, and only down to its guarantee
/// while it uses devices itself.
#[test]
fn victims_go_by_value_and_keep_their_guarantee() {
    let mut world = World::new(pool(u64::MAX));
    let retail = TenantId(3);
    let class = world.arbiter.policy().find("retail").expect("standard");
    world.tell(Event::TenantJoined {
        tenant: retail,
        class,
    });
    world.load(SOCIAL, UnitId(4), 2 * GIB);
    world.load(retail, UnitId(4), 6 * GIB);
    for tenant in [SOCIAL, retail] {
        world.submit(tenant, work(1, 2, 0));
    }
    // 2 % and 10 % of sixteen stay.
    let promised = |percent: u32| Share::from_percent(percent).of_bytes(16 * GIB);
    let most = 8 * GIB - promised(2) - promised(10);
    let of = |device_memory| Work {
        device_memory,
        ..work(4, 2, 0)
    };
    let too_much = world.submit(FINANCIAL, of(most + 1));
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL); 2]);
    assert_eq!(world.evicted, [], "nothing goes in vain");
    world.finish(too_much);
    world.submit(FINANCIAL, of(most));
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL); 2]);
    let order: Vec<_> = world.evicted.iter().map(|it| it.0).collect();
    assert_eq!(order.first(), Some(&SOCIAL));
    let left = |tenant: TenantId| world.view(tenant).device_memory;
    assert_eq!(left(SOCIAL), promised(2));
    assert_eq!(left(retail), promised(10));
}

/// A tenant's proof is on its cores for a while, and its devices are lent to another one meanwhile. They come back in a
/// slice, and what it had there must be there then.
#[test]
fn what_is_lent_for_a_slice_is_no_guarantee_lost() {
    let mut world = World::new(pool(u64::MAX));
    let devices = [UnitId(4), UnitId(5)];
    for unit in devices {
        world.load(FINANCIAL, unit, 3 * GIB);
    }
    let of = |device_memory| Work {
        device_memory,
        ..work(1, 2, 0)
    };
    world.submit(FINANCIAL, of(3 * GIB));
    world.submit(SOCIAL, of(6 * GIB));
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL); 2]);
    world.pass(ms(10));
    world.starve(&devices);
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL); 2]);
    assert_eq!(world.evicted, []);
    // Two fifths of sixteen are 6.4: what is beyond that is not promised.
    world.pass(ms(100));
    for unit in devices {
        world.load(FINANCIAL, unit, 4 * GIB);
        world.pass(ms(10));
    }
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL); 2]);
    world.submit(FINANCIAL, of(4 * GIB));
    world.starve(&devices);
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL); 2]);
    assert_eq!(
        world.evicted,
        [],
        "two and a half lack, less than one and a half may go"
    );
}

/// Beside a device of which nobody knows how much memory it has, that of another is divided as before.
#[test]
fn memory_that_nobody_counts_voids_no_guarantee() {
    let cores = [core(0, 0), core(1, 0)];
    let unknown = Device {
        memory: u64::MAX,
        ..device(1, 0)
    };
    let pool = Pool::of(&cores, &[device(0, 0), unknown], u64::MAX);
    let mut world = World::new(pool.expect("a pool"));
    let [counted, unknown] = [UnitId(4 - 2), UnitId(5 - 2)];
    world.load(FINANCIAL, counted, 2 * GIB);
    world.load(FINANCIAL, unknown, 2 * GIB);
    let of = |device_memory| Work {
        device_memory,
        ..work(1, 2, 0)
    };
    world.submit(FINANCIAL, of(2 * GIB));
    world.submit(SOCIAL, of(7 * GIB));
    world.pass(ms(10));
    world.starve(&[counted, unknown]);
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL); 2]);
    assert_eq!(world.evicted, []);
}

/// Guarantees are parts of the memory that is there, and are kept there: a copy that is lost with its device is no
/// reason to take the other one.
#[test]
fn a_lost_device_promises_nothing_and_keeps_nothing() {
    let mut world = World::new(pool(u64::MAX));
    let [live, dead] = [UnitId(4), UnitId(5)];
    for unit in [live, dead] {
        world.load(FINANCIAL, unit, 6 * GIB);
    }
    let of = |device_memory| Work {
        device_memory,
        ..work(1, 2, 0)
    };
    world.submit(FINANCIAL, of(6 * GIB));
    world.submit(SOCIAL, of(7 * GIB));
    world.pass(ms(10));
    world.lose(dead);
    assert_eq!(world.arbiter.pool().device_memory(), Some(8 * GIB));
    assert_eq!(world.view(FINANCIAL).device_memory, 6 * GIB);
    // News from before.
    world.tell(Event::Resident {
        tenant: FINANCIAL,
        unit: dead,
        bytes: 6 * GIB,
    });
    assert_eq!(world.view(FINANCIAL).device_memory, 6 * GIB);
    world.starve(&[live]);
    assert_eq!(world.owners(Kind::Device), [Some(SOCIAL), None]);
    assert_eq!(world.evicted, [], "five lack, and 2.8 may go");
    // It is told once, and a silent one may be found to be lost.
    let counters = world.arbiter.counters();
    assert_eq!((counters.lost, counters.stray), (1, 0));
    world.tell(Event::Lost { unit: dead });
    let counters = world.arbiter.counters();
    assert_eq!((counters.lost, counters.stray), (1, 1));
}

#[test]
fn a_silent_device_that_is_found_to_be_lost_has_no_memory() {
    let mut world = World::new(pool(u64::MAX));
    world.load(FINANCIAL, UnitId(4), GIB);
    world.silent = Some(UnitId(4));
    world.submit(FINANCIAL, work(1, 1, 0));
    world.pass(ms(50));
    assert_eq!(world.overruns, [UnitId(4)]);
    assert_eq!(
        world.view(FINANCIAL).device_memory,
        GIB,
        "it may answer yet"
    );
    world.lose(UnitId(4));
    assert_eq!(world.view(FINANCIAL).device_memory, 0);
    assert_eq!(world.arbiter.counters().lost, 1);
}

#[test]
fn a_silent_device_is_fenced_and_comes_back() {
    let mut world = World::new(pool(u64::MAX));
    world.silent = Some(UnitId(4));
    world.submit(FINANCIAL, work(1, 1, 0));
    assert_eq!(world.owners(Kind::Device), [Some(FINANCIAL), None]);
    world.pass(ms(50));
    assert_eq!(world.overruns, [UnitId(4)]);
    assert_eq!(world.owners(Kind::Device), [None, Some(FINANCIAL)]);
    let record = world.records.iter().find(|it| it.unit == UnitId(5));
    assert_eq!(record.map(|it| it.cause), Some(Cause::Overrun));
    let unit = world.arbiter.pool().unit(UnitId(4)).expect("a unit");
    let entry = Entry {
        epoch: unit.epoch(),
        drained: world.now,
        first: world.now,
        found: Found::NoOwner,
    };
    world.silent = None;
    world.tell(Event::Entered {
        unit: UnitId(4),
        entry,
    });
    assert_eq!(world.returned, [UnitId(4)]);
}

#[test]
fn witnesses_are_prepared_into_what_there_is() {
    let mut world = World::new(pool(10));
    world.submit(SOCIAL, work(1, 0, 11));
    assert_eq!(world.refused, [Refusal::HostMemory { max: 10, got: 11 }]);
    let jobs = [0; 4].map(|_| world.submit(SOCIAL, work(1, 0, 3)));
    assert_eq!(world.ready.len(), 3, "nine of ten bytes");
    assert_eq!(world.view(SOCIAL).host_memory, 9);
    // The other's guarantee is worth two of them, but what is in use is not taken away.
    let first = world.submit(FINANCIAL, work(1, 0, 4));
    assert!(!world.ready.contains_key(&first));
    world.finish(jobs[0]);
    assert!(
        world.ready.contains_key(&first),
        "the first room is for the valuable"
    );
    assert_eq!(world.view(SOCIAL).host_memory, 6);
    assert_eq!(
        world.view(SOCIAL).host_memory_max,
        6,
        "what the guarantee leaves"
    );
}

/// A job of nine bytes among jobs of two that come without end: there is never so much room by
/// itself.
#[test]
fn a_large_job_gets_its_memory_within_its_bound() {
    let mut world = World::new(pool(10));
    for _ in 0..5 {
        world.submit(FINANCIAL, work(1, 0, 2));
    }
    let large = world.submit(SOCIAL, work(1, 0, 9));
    let mut waited = Nanos::ZERO;
    while !world.ready.contains_key(&large) {
        world.submit(FINANCIAL, work(1, 0, 2));
        let oldest = *world.ready.keys().next().expect("one runs");
        world.finish(oldest);
        world.pass(ms(10));
        waited = waited.plus(ms(10));
        assert!(
            waited < ms(2_200),
            "two seconds, and the jobs that ran then"
        );
    }
    assert!(waited >= ms(1_900), "not before its turn: {waited}");
}

#[test]
fn an_inventory_is_checked() {
    let cores = [core(0, 0)];
    let of = |cores: &[Core], devices: &[Device]| Pool::of(cores, devices, 0).map(|_| ());
    assert_eq!(of(&[], &[]), Err(PoolError::Size { got: 0 }));
    let twice = PoolError::Twice {
        kind: Kind::Device,
        number: 7,
    };
    assert_eq!(of(&cores, &[device(7, 0), device(7, 0)]), Err(twice));
    assert_eq!(twice.to_string(), "device 7 is listed twice");
    let node = PoolError::Node {
        kind: Kind::Core,
        number: 0,
        got: 64,
    };
    assert_eq!(of(&[core(0, 64)], &[]), Err(node));
    let many: Vec<Device> = (0..65).map(|number| device(number, 0)).collect();
    assert_eq!(
        of(&cores, &many),
        Err(PoolError::Devices { max: 64, got: 65 })
    );
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Submit {
        social: bool,
        work: Work,
    },
    Finish {
        which: usize,
    },
    Pass {
        ms: u64,
    },
    Resident {
        social: bool,
        device: u16,
        bytes: u64,
    },
    Silence {
        unit: u16,
    },
    Answer,
    Starve {
        device: u16,
    },
    Lose {
        device: u16,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let work = (1u32..5, 0u32..3, 0u64..10).prop_map(|(a, b, c)| work(a, b, c));
    let step = prop_oneof![
        6 => (any::<bool>(), work).prop_map(|(social, work)| Step::Submit { social, work }),
        5 => any::<usize>().prop_map(|which| Step::Finish { which }),
        5 => (0u64..60).prop_map(|ms| Step::Pass { ms }),
        1 => (any::<bool>(), 0u16..2, 0u64..8)
            .prop_map(|(social, device, bytes)| Step::Resident { social, device, bytes }),
        1 => (0u16..6).prop_map(|unit| Step::Silence { unit }),
        1 => Just(Step::Answer),
        2 => (0u16..2).prop_map(|device| Step::Starve { device }),
        1 => (0u16..24).prop_map(|device| Step::Lose { device }),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_comes_nothing_is_lost(
        steps in steps(),
        host_memory in prop_oneof![Just(u64::MAX), 9u64..30],
        is_counted in any::<bool>(),
    ) {
        let cores = [core(0, 0), core(1, 0), core(2, 1), core(3, 1)];
        let memory = if is_counted { 8 * GIB } else { u64::MAX };
        let devices = [device(0, 0), Device { memory, ..device(1, 1) }];
        let mut world = World::new(Pool::of(&cores, &devices, host_memory).expect("a pool"));
        let who = |social| if social { SOCIAL } else { FINANCIAL };
        let answer = |world: &mut World| {
            let Some(unit) = world.silent.take().filter(|it| !world.lost.contains(it)) else {
                return;
            };
            let unit = world.arbiter.pool().unit(unit).expect("a unit");
            let found = Found::Work;
            let (drained, first) = (world.now, world.now);
            let entry = Entry { epoch: unit.epoch(), drained, first, found };
            let unit = unit.id();
            world.tell(Event::Entered { unit, entry });
        };
        for step in steps {
            match step {
                Step::Submit { social, work } => {
                    world.submit(who(social), work);
                }
                Step::Finish { which } => {
                    let at = which % world.ready.len().max(1);
                    if let Some(&job) = world.ready.keys().nth(at) {
                        world.finish(job);
                    }
                }
                Step::Pass { ms } => world.pass(Nanos::from_millis(ms)),
                Step::Resident { social, device, bytes } => {
                    let unit = UnitId(4 + device);
                    if !world.lost.contains(&unit) {
                        world.load(who(social), unit, bytes * GIB);
                    }
                }
                Step::Starve { device } => world.starve(&[UnitId(4 + device)]),
                // Seldom, for one that is lost stays so.
                Step::Lose { device } if device < 2 => world.lose(UnitId(4 + device)),
                Step::Lose { .. } => {}
                Step::Silence { unit } => {
                    answer(&mut world);
                    world.silent = Some(UnitId(unit));
                }
                Step::Answer => answer(&mut world),
            }
        }
        answer(&mut world);
        // Jobs end one by one, and each that was admitted comes to run.
        let mut ended = world.arbiter.counters().proved;
        while let Some(&job) = world.ready.keys().next() {
            world.finish(job);
            ended += 1;
            world.pass(ms(10));
        }
        prop_assert_eq!(ended, world.admitted);
        for kind in Kind::ALL {
            prop_assert!(world.owners(kind).iter().all(Option::is_none));
        }
        let held: u64 = world.arbiter.tenants().map(|view| view.host_memory).sum();
        prop_assert_eq!(held, 0);
    }
}
