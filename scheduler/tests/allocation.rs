//! `Arbiter::handle` does not allocate once tenants have joined: it stands on the path from a demand
//! to a new owner's first instruction, and an allocator may take a lock or fault a page.
//!
//! The allocator of this program counts what the thread of the test asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Entry, Found};
use caldera_scheduler::pool::{Core, Device, Kind};
use caldera_scheduler::queue::Work;
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged; counting does not allocate, because the
// cell is made at compile time and needs no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` by way of `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const UNITS: u16 = 8;
const TENANTS: u32 = 6;

/// Jobs come faster than they go for a while, until queues refuse; then they go faster than they
/// come, until units fall free. Units are entered at once, but for one that answers seldom.
#[test]
fn handling_events_allocates_nothing() {
    let cores: Vec<u32> = (0..u32::from(UNITS)).collect();
    play(Pool::new(&cores).expect("a pool"));
}

/// The same on a box whose last two units are devices, with less host memory than all witnesses need.
#[test]
fn nor_does_it_with_devices_and_bounded_memory() {
    let core = |number| Core {
        number,
        node: Some(0),
    };
    let cores = (0..u32::from(UNITS) - 2).map(core);
    let devices = [0, 1].map(|number| Device {
        number,
        node: Some(1),
        memory: 8,
    });
    play(Pool::of(&cores.collect::<Vec<_>>(), &devices, 60).expect("a pool"));
}

fn play(pool: Pool) {
    let mut arbiter = Arbiter::new(pool, Policy::standard());
    let mut actions = Vec::with_capacity(arbiter.actions_max());
    for tenant in 0..TENANTS {
        let class = ["financial", "retail", "social"][tenant as usize % 3];
        let class = arbiter.policy().find(class).expect("standard");
        let tenant = TenantId(tenant);
        let joined = Event::TenantJoined { tenant, class };
        arbiter.handle(joined, Nanos::ZERO, &mut actions);
    }
    assert!(actions.is_empty());

    let mut now = Nanos::ZERO;
    let mut next = Vec::with_capacity(4 * arbiter.actions_max());
    let mut live = Vec::with_capacity(4_096);
    let mut dice = 1u64;
    let before = ALLOCATIONS.with(Cell::get);
    for round in 0..32_000u64 {
        now = now.plus(Nanos::from_millis(1));
        // Knuth's multiplier for 64-bit linear congruence: the high bits are random enough.
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let roll = dice >> 33;
        let growing = round / 4_000 % 2 == 0;
        next.clear();
        next.push(Event::Tick);
        if growing || roll.is_multiple_of(4) {
            next.push(Event::Submitted {
                job: JobId(round),
                tenant: TenantId(roll as u32 % TENANTS),
                work: Work {
                    core: Nanos::from_millis(20),
                    parallelism: 3,
                    devices: 2,
                    device_memory: 1 + roll % 8,
                    host_memory: 1 + roll % 9,
                },
                deadline: roll
                    .is_multiple_of(3)
                    .then_some(now.plus(Nanos::from_millis(roll % 1_000))),
                received: now,
            });
        }
        if roll.is_multiple_of(16) {
            next.push(Event::Declared {
                ticket: round,
                tenant: TenantId(roll as u32 % (TENANTS + 1)),
                units: roll as u32 % 11,
                span: Nanos::from_millis(roll % 50),
                received: now,
            });
            next.push(Event::Resident {
                tenant: TenantId(roll as u32 % TENANTS),
                unit: UnitId(UNITS - 1 - (roll % 2) as u16),
                bytes: roll % 7,
            });
            let unix = Nanos::from_secs(roll % 86_400);
            next.push(Event::WallClock { unix });
        }
        for ended in 0..if growing { roll % 2 } else { 2 } {
            if !live.is_empty() {
                let job = live.swap_remove((roll as usize + ended as usize) % live.len());
                let outcome = Outcome::Proved;
                next.push(match roll % 5 {
                    0 => Event::Cancelled { job },
                    _ => Event::Finished {
                        job,
                        outcome,
                        at: now,
                    },
                });
            }
        }
        let mut done = 0;
        while done < next.len() {
            actions.clear();
            arbiter.handle(next[done], now, &mut actions);
            done += 1;
            for &action in &actions {
                match action {
                    Action::Admit { job } => live.push(job),
                    Action::Prepare { job } => next.push(Event::Ready { job }),
                    Action::Own { unit, ownership }
                        if unit != UnitId(3) || roll.is_multiple_of(50) =>
                    {
                        let epoch = ownership.epoch;
                        let found = Found::Nothing;
                        let entry = Entry {
                            epoch,
                            drained: now,
                            first: now,
                            found,
                        };
                        next.push(Event::Entered { unit, entry });
                    }
                    Action::Evict { unit, .. } => {
                        let made = roll.is_multiple_of(2);
                        next.push(Event::Evicted { unit, made });
                    }
                    _ => {}
                }
            }
        }
    }
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    let counters = arbiter.counters();
    assert!(counters.proved > 5_000, "{counters:?}");
    assert!(
        counters.refused > 0 && counters.overruns > 0,
        "{counters:?}"
    );
    assert!(counters.reallocated > 1_000, "{counters:?}");
    assert!(
        counters.declared > 500 && counters.peaks > 5,
        "{counters:?}"
    );
    let has_devices = arbiter.pool().count(Kind::Device) > 0;
    assert_eq!(has_devices, counters.evictions > 100, "{counters:?}");
    assert_eq!(has_devices, counters.unmade > 10, "{counters:?}");
    assert_eq!(allocated, 0);
}
