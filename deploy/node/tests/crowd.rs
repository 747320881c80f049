//! The arbiter's thread in a crowd of commands: an owner's word does not wait until all of them are answered, and no memory is
//! asked for on the way.
//!
//! One tenant's refusals once held up everybody's hand-overs: the whole inbox was taken in before any owner's word was
//! written, and what was to be done about it grew until then. Now what follows from a command is carried out before the next.
//!
//! The thread is run round by round, by the test. The allocator of this program counts what the test's own thread asks for.
#![cfg(not(feature = "shuttle"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_node::arbiter_thread::{ArbiterThread, Command, Inbox, Notice, Outbox, Parts};
use caldera_node::board::Board;
use caldera_node::clock::Clock;
use caldera_node::preparer::Preparations;
use caldera_node::residence::Residence;
use caldera_node::telemetry::QuantumRecord;
use caldera_scheduler::mailbox::{Found, WorkerSide, mailbox};
use caldera_scheduler::queue::Work;
use caldera_scheduler::{Arbiter, JobId, Nanos, Policy, Pool, TenantId, UnitId};

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

/// So many that what a round's commands ask for is more than what one of them can.
const CORES: u16 = 16;

/// An arbiter's thread that nobody runs, with two tenants.
struct Scene {
    thread: ArbiterThread,
    workers: Vec<WorkerSide<QuantumRecord>>,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    clock: Clock,
}

impl Scene {
    fn new() -> Scene {
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 1,
        });
        let (mailboxes, workers) = (0..CORES).map(|unit| mailbox(UnitId(unit), 16)).unzip();
        let slots = 16;
        let pool = Pool::new(&(0..CORES.into()).collect::<Vec<u32>>()).expect("a pool");
        let policy = Policy::standard();
        let class = policy.find("retail").expect("standard");
        let board = Arc::new(Board::new(CORES.into(), 0, 2, slots));
        let inbox = Arc::new(Inbox::new(slots));
        let outbox = Arc::new(Outbox::new(Arc::new(|| {})));
        let (measured, _) = rtrb::RingBuffer::new(16);
        let clock = Clock::start();
        let residence = Residence::new(&pool, 2, Arc::clone(&board), Arc::clone(&inbox));
        let parts = Parts {
            residence: Arc::new(residence),
            arbiter: Arbiter::new(pool, policy),
            mailboxes,
            board,
            slots,
            inbox: Arc::clone(&inbox),
            outbox: Arc::clone(&outbox),
            preparations: Arc::new(Preparations::new(4_096)),
            device,
            measurements: measured,
            clock,
        };
        let thread = ArbiterThread::new(parts, &[(class, None), (class, None)]);
        Scene {
            thread: thread.expect("two tenants"),
            workers,
            inbox,
            outbox,
            clock,
        }
    }

    fn send(&self, command: Command) {
        assert!(self.inbox.send(command).is_ok(), "there is room");
    }

    /// All cores for a tenant, or none any more.
    fn declare(&self, tenant: u32, all: bool) {
        let units = if all { CORES.into() } else { 0 };
        self.send(Command::Declare {
            ticket: 1,
            tenant: TenantId(tenant),
            units,
            span: Nanos::from_secs(if all { 60 } else { 0 }),
            received: self.clock.now(),
        });
    }

    /// A job that nobody could be done with by then.
    fn hopeless(&self, job: u64) {
        self.send(Command::Submitted {
            job: JobId(job),
            tenant: TenantId(1),
            work: Work {
                core: Nanos::from_secs(1),
                parallelism: 1,
                ..Work::default()
            },
            deadline: Some(Nanos(1)),
            received: Nanos::ZERO,
            again: false,
        });
    }

    /// The workers look who has their cores, and answer. How often that has changed, of all together.
    fn look(&mut self) -> u64 {
        let now = self.clock.now();
        let looks = self.workers.iter_mut().map(|worker| {
            let ownership = worker.owner();
            let found = ownership.owner.map_or(Found::NoOwner, |_| Found::Work);
            worker.enter(now, now, found);
            u64::from(ownership.epoch.0)
        });
        looks.sum()
    }
}

/// The demand of one stands amid a crowd of another's commands. Its word is written before those behind it are answered.
#[test]
fn an_owner_does_not_wait_for_a_crowd() {
    let mut scene = Scene::new();
    for job in 0..50 {
        scene.hopeless(job);
    }
    scene.declare(0, true);
    for job in 50..5_000 {
        scene.hopeless(job);
    }
    assert!(scene.thread.round(), "there is more");
    assert!(scene.look() > 0, "its word is written");
    let outbox = Arc::clone(&scene.outbox);
    let refused = || {
        let notices = std::iter::from_fn(|| outbox.take());
        let refused = notices.filter(|it| matches!(it, Notice::Refused { .. }));
        refused.count()
    };
    let first = refused();
    assert!((50..200).contains(&first), "{first} were answered before");
    while scene.thread.round() {}
    assert_eq!(first + refused(), 5_000, "what is left is not slept over");
}

#[test]
fn a_crowd_takes_no_memory() {
    let mut scene = Scene::new();
    let outbox = Arc::clone(&scene.outbox);
    let (mut before, mut job, mut answers) = (0, 0, 0);
    for crowd in 0..4 {
        for _ in 0..1_300 {
            // Each of these is an answer and a hand-over.
            scene.declare(0, true);
            scene.declare(1, true);
            scene.declare(0, false);
            scene.declare(1, false);
            scene.hopeless(job);
            job += 1;
        }
        let mut more = true;
        while more {
            more = scene.thread.round();
            scene.look();
            while outbox.take().is_some() {
                answers += 1;
            }
        }
        // The first may wake what was asleep.
        if crowd == 0 {
            before = ALLOCATIONS.with(Cell::get);
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert!(answers >= 4 * 6_500, "{answers}");
    assert!(scene.look() > 5_000);
}
