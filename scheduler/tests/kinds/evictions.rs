//! Keys that go from devices: whole ones, never below a guarantee, never in vain, and not for ever to and fro.
//!
//! The choice among whole keys is held against all choices there are. The arbiter's orders are carried out by a
//! box of a few lines, with keys that come and go by themselves and answers that are late.

use std::collections::BTreeMap;

use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::eviction::{Piece, Victim, choose};
use caldera_scheduler::mailbox::{Entry, Found};
use caldera_scheduler::pool::{Core, Device};
use caldera_scheduler::queue::Work;
use caldera_scheduler::scenario::Share;
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId};
use proptest::prelude::*;

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn victims() -> impl Strategy<Value = Vec<Victim>> {
    let victim = (0u64..12, 0u64..8, 0u64..8);
    prop::collection::vec(victim, 0..4).prop_map(|victims| {
        let victims = (0..).zip(victims);
        victims
            .map(|(tenant, (spare, keeps, more))| Victim {
                tenant: TenantId(tenant),
                spare,
                part: keeps + more,
                keeps,
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_goes_is_enough_and_needed_and_spared(
        need in 1u64..16,
        victims in victims(),
        pieces in prop::collection::vec((0u32..5, 1u64..8), 0..7),
        elsewhere in prop::collection::vec(0u64..6, 5),
    ) {
        let pieces: Vec<Piece> = pieces
            .into_iter()
            .map(|(tenant, bytes)| Piece { tenant: TenantId(tenant), bytes })
            .collect();
        let of = |tenant: TenantId, set: usize| -> u64 {
            let picked = pieces.iter().enumerate().filter(|(at, piece)| {
                set >> at & 1 == 1 && piece.tenant == tenant
            });
            picked.map(|(_, piece)| piece.bytes).sum()
        };
        let all = (1 << pieces.len()) - 1;
        let held = |tenant: TenantId| of(tenant, all) + elsewhere[tenant.0 as usize];
        let sum = |set: usize| (0..5).map(|it| of(TenantId(it), set)).sum::<u64>();
        let may = |set: usize, bound: fn(&Victim, u64) -> u64| {
            (0..5).map(TenantId).all(|tenant| {
                let victim = victims.iter().find(|it| it.tenant == tenant);
                let most = victim.map_or(0, |victim| bound(victim, held(tenant)));
                of(tenant, set) <= most
            })
        };
        let enough = |bound| (0..=all).any(|set| may(set, bound) && sum(set) >= need);
        match choose(need, &victims, held, &pieces) {
            Some(chosen) => {
                let set = chosen.iter().fold(0, |set, at| set | 1 << at);
                prop_assert!(sum(set) >= need);
                prop_assert!(may(set, Victim::beyond_guarantee));
                for at in &chosen {
                    prop_assert!(sum(set & !(1 << at)) < need, "{at} went in vain");
                }
            }
            // Where all pieces are of one size the order does not matter, and what there is is found.
            None => {
                let same = pieces.windows(2).all(|pair| pair[0].bytes == pair[1].bytes);
                prop_assert!(!same || !enough(Victim::beyond_guarantee));
            }
        }
    }
}

#[test]
fn the_first_go_first_and_large_ones_where_they_must() {
    let victim = |tenant, spare, part| Victim {
        tenant: TenantId(tenant),
        spare,
        part,
        keeps: 0,
    };
    let piece = |tenant, bytes| Piece {
        tenant: TenantId(tenant),
        bytes,
    };
    let choose = |need, victims: &[Victim], pieces: &[Piece]| {
        let held = |tenant: TenantId| -> u64 {
            let own = pieces.iter().filter(|piece| piece.tenant == tenant);
            own.map(|piece| piece.bytes).sum()
        };
        choose(need, victims, held, pieces)
    };
    let pieces = [piece(0, 2), piece(1, 2), piece(0, 2), piece(1, 2)];
    let both = [victim(0, 4, 0), victim(1, 4, 0)];
    assert_eq!(choose(3, &both, &pieces), Some(vec![0, 2]));
    assert_eq!(choose(5, &both, &pieces), Some(vec![0, 2, 1]));
    assert_eq!(choose(9, &both, &pieces), None);
    // What is beyond its part goes first, though the other is worth less.
    let within = [victim(0, 4, 4), victim(1, 4, 2)];
    assert_eq!(choose(1, &within, &pieces), Some(vec![1]));
    assert_eq!(choose(3, &within, &pieces), Some(vec![1, 0]));
    // Three and three are six of seven; eight are more than may go.
    let sizes = [piece(0, 3), piece(0, 7), piece(0, 8), piece(0, 3)];
    assert_eq!(choose(6, &[victim(0, 7, 0)], &sizes), Some(vec![0, 3]));
    assert_eq!(choose(7, &[victim(0, 7, 0)], &sizes), Some(vec![1]));
    assert_eq!(choose(8, &[victim(0, 7, 0)], &sizes), None);
}

const DEVICES: usize = 2;
const MEMORY: u64 = 8;

/// An arbiter, and a box with whole keys that takes its time.
struct World {
    arbiter: Arbiter,
    now: Nanos,
    jobs: u64,
    ready: BTreeMap<JobId, (TenantId, Work)>,
    /// By device: keys in the order in which they came.
    keys: [Vec<Piece>; DEVICES],
    /// By device: the order that is to be carried out.
    open: [Option<(TenantId, Vec<Victim>)>; DEVICES],
    /// By device: what was asked last, and whether anything has happened since but ticks.
    last: [Option<(TenantId, u64, Vec<Victim>)>; DEVICES],
    still: bool,
    /// Which devices are lost.
    lost: [bool; DEVICES],
    /// By tenant and device: when something of it came there last, and for how long it had the device since.
    came: BTreeMap<(TenantId, usize), (Nanos, Nanos)>,
    orders: u64,
}

impl World {
    /// With so many devices, and so many more of which nobody knows how much memory they have.
    fn new(devices: u32, unknown: u32) -> World {
        let mut classes = Policy::standard().classes().to_vec();
        for class in &mut classes {
            class.peak = None;
        }
        // Two who are promised nothing push each other off, if anybody does.
        classes[2].guarantee = Share::NONE;
        classes[3].guarantee = Share::NONE;
        let policy = Policy::new(classes, *Policy::standard().limits()).expect("it can be kept");
        let core = |number| Core { number, node: None };
        let device = |number| Device {
            number,
            node: None,
            memory: MEMORY,
        };
        let counted = (0..devices).map(device);
        let more = (devices..devices + unknown).map(|number| Device {
            memory: u64::MAX,
            ..device(number)
        });
        let devices: Vec<Device> = counted.chain(more).collect();
        let pool = Pool::of(&[core(0), core(1)], &devices, u64::MAX);
        let mut world = World {
            arbiter: Arbiter::new(pool.expect("a pool"), policy),
            now: ms(1),
            jobs: 0,
            ready: BTreeMap::new(),
            keys: Default::default(),
            open: Default::default(),
            last: Default::default(),
            still: false,
            lost: [false; DEVICES],
            came: BTreeMap::new(),
            orders: 0,
        };
        let names = ["financial", "supply_chain", "retail", "social", "social"];
        for (tenant, class) in (0..).map(TenantId).zip(names) {
            let class = world.arbiter.policy().find(class).expect("standard");
            world.tell(Event::TenantJoined { tenant, class });
        }
        world
    }

    fn unit(device: usize) -> UnitId {
        UnitId(2 + device as u16)
    }

    fn owner(&self, device: usize) -> Option<TenantId> {
        self.arbiter.pool().unit(World::unit(device))?.owner()
    }

    fn value(&self, tenant: TenantId) -> u32 {
        let mut views = self.arbiter.tenants();
        let view = views.find(|view| view.tenant == tenant).expect("joined");
        let class = self.arbiter.policy().class(view.class);
        class.expect("a class").value
    }

    fn tell(&mut self, event: Event) {
        let mut events = vec![event];
        let mut at = 0;
        while let Some(&event) = events.get(at) {
            at += 1;
            let mut actions = vec![];
            let owners = [0, 1].map(|device| self.owner(device));
            self.arbiter.handle(event, self.now, &mut actions);
            assert_eq!(self.arbiter.check(), Ok(()));
            for (device, before) in owners.into_iter().enumerate() {
                if self.owner(device) != before {
                    // It is asked for somebody else, and then perhaps for the same one as before.
                    self.last[device] = None;
                }
            }
            for action in actions {
                match action {
                    Action::Prepare { job } => events.push(Event::Ready { job }),
                    Action::Own { unit, .. } if self.is_lost(unit) => {}
                    Action::Own { unit, ownership } => {
                        let entry = Entry {
                            epoch: ownership.epoch,
                            drained: self.now,
                            first: self.now,
                            found: Found::Work,
                        };
                        events.push(Event::Entered { unit, entry });
                    }
                    Action::Evict { unit, owner, bytes } => self.ordered(unit, owner, bytes),
                    _ => {}
                }
            }
        }
    }

    fn held(&self, tenant: TenantId) -> u64 {
        let keys = self.keys.iter().flatten();
        let own = keys.filter(|key| key.tenant == tenant);
        own.map(|key| key.bytes).sum()
    }

    fn is_lost(&self, unit: UnitId) -> bool {
        let device = usize::from(unit.0).checked_sub(2);
        device.is_some_and(|device| self.lost.get(device) == Some(&true))
    }

    /// Devices that are not lost and whose memory is known.
    fn there(&self) -> u64 {
        let known = self.arbiter.pool().units().len().min(2 + DEVICES) - 2;
        let lost = self.lost.iter().filter(|lost| **lost).count();
        (known - lost) as u64
    }

    /// What a tenant's jobs can use on all devices together, whether they are lent at the moment or not.
    fn wanted(&self, tenant: TenantId) -> u64 {
        let own = self.ready.values().filter(|(of, _)| *of == tenant);
        own.map(|(_, work)| work.device_memory * u64::from(work.devices).min(self.there()))
            .sum()
    }

    fn waits(&self, tenant: TenantId) -> bool {
        let mut own = self.ready.values();
        own.any(|(of, work)| *of == tenant && work.devices > 0)
    }

    /// What is promised to a tenant, as far as it can use that.
    fn promised(&self, tenant: TenantId) -> u64 {
        let views: Vec<_> = self.arbiter.tenants().collect();
        let view = views.iter().find(|it| it.tenant == tenant).expect("joined");
        let wanted = self.wanted(tenant);
        let of_class = views.iter().filter(|it| it.class == view.class);
        let sharers = of_class.filter(|it| self.wanted(it.tenant) > 0).count() as u64;
        let whole = view.guarantee.of_bytes(MEMORY * self.there());
        (whole / sharers.max(1)).min(wanted)
    }

    /// An order comes: it must be one that makes sense.
    fn ordered(&mut self, unit: UnitId, owner: TenantId, bytes: u64) {
        let device = usize::from(unit.0) - 2;
        self.orders += 1;
        assert_eq!(self.owner(device), Some(owner));
        assert!(self.open[device].is_none(), "two orders at a time");
        let victims: Vec<Victim> = self.arbiter.victims(unit).collect();
        let all: u64 = victims.iter().map(|victim| victim.spare).sum();
        assert!(all >= bytes, "in vain: {all} of {bytes}");
        let order = (owner, bytes, victims.clone());
        let again = self.last[device].replace(order.clone()) == Some(order);
        assert!(!again || !self.still, "asked again while nothing changed");
        let limits = *self.arbiter.policy().limits();
        for victim in &victims {
            assert_ne!(victim.tenant, owner);
            let promised = self.promised(victim.tenant);
            assert!(victim.keeps >= promised, "{victim:?}, {promised} promised");
            // Of what may go elsewhere some may have gone by itself.
            let asked: u64 = (0..DEVICES)
                .filter_map(|at| {
                    let (_, victims) = self.open[at].as_ref()?;
                    let other = victims.iter().find(|it| it.tenant == victim.tenant)?;
                    let own = self.keys[at]
                        .iter()
                        .filter(|key| key.tenant == other.tenant);
                    Some(other.spare.min(own.map(|key| key.bytes).sum()))
                })
                .sum();
            let left = self.held(victim.tenant) - (asked + victim.spare);
            assert!(left >= promised, "{left} left of {promised}");
            let came = self.came.get(&(victim.tenant, device));
            if self.waits(victim.tenant) && self.value(victim.tenant) >= self.value(owner) {
                let (came, served) = came.copied().unwrap_or_default();
                let waited = self.now.since(came);
                let may = served >= limits.quantum || waited >= Nanos(16 * limits.slice.0);
                assert!(may, "{victim:?} has served {served}, waited {waited}");
            }
        }
        self.open[device] = Some((owner, victims));
    }

    /// Carries an order out.
    fn answer(&mut self, device: usize) {
        let Some((owner, victims)) = self.open[device].take() else {
            return;
        };
        let unit = World::unit(device);
        let work = self.ready.values().filter(|(of, _)| *of == owner);
        let key = work.map(|(_, work)| work.device_memory).max();
        let is_owner = self.owner(device) == Some(owner);
        let own = self.keys[device].iter().filter(|key| key.tenant == owner);
        let there = own.map(|key| key.bytes).max().unwrap_or(0);
        let free = MEMORY - self.keys[device].iter().map(|key| key.bytes).sum::<u64>();
        let key = key.filter(|&key| is_owner && key > there && key <= MEMORY);
        let need = key.map_or(0, |key| key.saturating_sub(free));
        let chosen = match need {
            0 => Some(vec![]),
            _ => choose(need, &victims, |it| self.held(it), &self.keys[device]),
        };
        let made = chosen.is_some();
        for at in chosen.iter().flatten() {
            let tenant = self.keys[device][*at].tenant;
            self.keys[device][*at].bytes = 0;
            self.say(device, tenant);
        }
        self.keys[device].retain(|key| key.bytes > 0);
        if let Some(bytes) = key.filter(|_| made) {
            let tenant = owner;
            assert!(
                self.come(device, Piece { tenant, bytes }),
                "it went in vain"
            );
        }
        self.still |= !made;
        self.tell(Event::Evicted { unit, made });
    }

    /// A key comes to a device, if there is room.
    fn come(&mut self, device: usize, key: Piece) -> bool {
        let used: u64 = self.keys[device].iter().map(|key| key.bytes).sum();
        if self.lost[device] || used + key.bytes > MEMORY {
            return false;
        }
        self.keys[device].push(key);
        self.came
            .insert((key.tenant, device), (self.now, Nanos::ZERO));
        self.say(device, key.tenant);
        true
    }

    fn say(&mut self, device: usize, tenant: TenantId) {
        self.still = false;
        let own = self.keys[device].iter().filter(|key| key.tenant == tenant);
        let bytes = own.map(|key| key.bytes).sum();
        let unit = World::unit(device);
        self.tell(Event::Resident {
            tenant,
            unit,
            bytes,
        });
    }

    fn pass(&mut self, span: Nanos) {
        for device in 0..DEVICES {
            if let Some(owner) = self.owner(device) {
                let (_, served) = self.came.entry((owner, device)).or_default();
                *served = served.plus(span);
            }
        }
        self.now = self.now.plus(span);
        self.tell(Event::Tick);
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Submit {
        tenant: u32,
        devices: u32,
        key: u64,
    },
    Finish {
        which: usize,
    },
    Come {
        device: usize,
        tenant: u32,
        bytes: u64,
    },
    Go {
        device: usize,
        which: usize,
    },
    Answer {
        device: usize,
    },
    Pass {
        ms: u64,
    },
    Starve {
        device: usize,
    },
    Lose {
        device: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0u32..5, 0u32..3, 1u64..9)
            .prop_map(|(tenant, devices, key)| Step::Submit { tenant, devices, key }),
        3 => any::<usize>().prop_map(|which| Step::Finish { which }),
        4 => (0..DEVICES, 0u32..5, 1u64..5)
            .prop_map(|(device, tenant, bytes)| Step::Come { device, tenant, bytes }),
        1 => (0..DEVICES, any::<usize>()).prop_map(|(device, which)| Step::Go { device, which }),
        4 => (0..DEVICES).prop_map(|device| Step::Answer { device }),
        5 => (0u64..40).prop_map(|ms| Step::Pass { ms }),
        2 => (0..DEVICES).prop_map(|device| Step::Starve { device }),
        1 => (0..12 * DEVICES).prop_map(|device| Step::Lose { device }),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn orders_are_kept_from_harm_and_come_to_an_end(steps in steps(), unknown in 0u32..2) {
        let mut world = World::new(2, unknown);
        for step in steps {
            match step {
                Step::Submit { tenant, devices, key } => {
                    world.still = false;
                    world.jobs += 1;
                    let job = JobId(world.jobs);
                    let tenant = TenantId(tenant);
                    let work = Work {
                        core: ms(100),
                        parallelism: 1,
                        devices,
                        device_memory: key,
                        host_memory: 0,
                    };
                    let before = world.arbiter.counters().admitted;
                    // Before it is told: what is asked for it looks here.
                    let prepared = world.ready.values().filter(|(of, _)| *of == tenant).count();
                    if prepared == 4 {
                        continue;
                    }
                    world.ready.insert(job, (tenant, work));
                    let (deadline, received) = (None, world.now);
                    world.tell(Event::Submitted { job, tenant, work, deadline, received });
                    prop_assert_eq!(world.arbiter.counters().admitted, before + 1);
                }
                Step::Finish { which } => {
                    let at = which % world.ready.len().max(1);
                    if let Some(&job) = world.ready.keys().nth(at) {
                        world.still = false;
                        world.ready.remove(&job);
                        let (outcome, at) = (Outcome::Proved, world.now);
                        world.tell(Event::Finished { job, outcome, at });
                    }
                }
                Step::Come { device, tenant, bytes } => {
                    let tenant = TenantId(tenant);
                    world.come(device, Piece { tenant, bytes });
                }
                Step::Go { device, which } => {
                    let at = which % world.keys[device].len().max(1);
                    if at < world.keys[device].len() {
                        let key = world.keys[device].remove(at);
                        world.say(device, key.tenant);
                    }
                }
                Step::Answer { device } => world.answer(device),
                Step::Pass { ms } => {
                    world.still = true;
                    world.pass(Nanos::from_millis(ms));
                }
                Step::Starve { device } => {
                    let unit = World::unit(device);
                    let epoch = world.arbiter.pool().unit(unit).expect("a unit").epoch();
                    let at = world.now;
                    world.tell(Event::Idle { unit, epoch, at });
                    world.still = true;
                    world.pass(ms(3));
                }
                // Seldom, for one that is lost stays so.
                Step::Lose { device } if device < DEVICES && !world.lost[device] => {
                    world.still = false;
                    world.lost[device] = true;
                    world.keys[device].clear();
                    let unit = World::unit(device);
                    world.tell(Event::Lost { unit });
                }
                Step::Lose { .. } => {}
            }
        }
        // All that is asked is answered, and then nothing more is asked while nothing else happens.
        let before = world.orders;
        while world.open.iter().any(Option::is_some) {
            for device in 0..DEVICES {
                world.answer(device);
            }
            prop_assert!(world.orders < before + 40, "it goes on for ever");
        }
    }
}

/// Keys of two tenants that are promised nothing and take turns, and room for one of them: each serves before it
/// goes, so there is one order in a turn at most, and one in each for whoever has the device.
#[test]
fn two_keys_take_turns_and_do_not_push_each_other() {
    let mut world = World::new(1, 0);
    for tenant in [TenantId(3), TenantId(4)] {
        world.jobs += 1;
        let job = JobId(world.jobs);
        let work = Work {
            core: ms(100_000),
            parallelism: 1,
            devices: 1,
            device_memory: MEMORY,
            host_memory: 0,
        };
        world.ready.insert(job, (tenant, work));
        let (deadline, received) = (None, world.now);
        world.tell(Event::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
        });
    }
    let bytes = MEMORY;
    let tenant = TenantId(3);
    assert!(world.come(0, Piece { tenant, bytes }));
    for round in 1..=2_000 {
        world.pass(ms(1));
        // What is copied takes its time.
        if round % 3 == 0 {
            world.answer(0);
        }
        assert!(
            world.orders <= 1 + round / 25,
            "{} by {round}",
            world.orders
        );
    }
    assert!(world.orders > 40, "{}", world.orders);
}

/// A key that waits for a turn that its tenant does not need does not wait for ever: each of the two has a device.
#[test]
fn a_key_that_is_not_needed_where_it_came_goes_after_a_while() {
    let mut world = World::new(2, 0);
    for (number, tenant) in (1..).zip([TenantId(3), TenantId(4)]) {
        let bytes = MEMORY;
        if number == 1 {
            for device in 0..DEVICES {
                assert!(world.come(device, Piece { tenant, bytes }));
            }
        }
        let (job, deadline, received) = (JobId(number), None, world.now);
        let work = Work {
            core: ms(100_000),
            parallelism: 1,
            devices: 1,
            device_memory: bytes,
            host_memory: 0,
        };
        world.ready.insert(job, (tenant, work));
        world.tell(Event::Submitted {
            job,
            tenant,
            work,
            deadline,
            received,
        });
    }
    assert_eq!(world.orders, 0, "it has just come");
    let at = world.arbiter.wake_at().expect("it is not forgotten");
    assert_eq!(at, world.now.plus(ms(400)));
    world.pass(ms(400));
    assert_eq!(world.orders, 1);
}
