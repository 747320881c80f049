//! The arbiter's thread and one or two workers, the real ones with real proofs, interleaved as shuttle
//! likes. `make test-models` runs it; without the feature `shuttle` this file is empty.
//!
//! The dangers: a worker that sleeps while it could run what has just come, or an arbiter that
//! sleeps over an answer (a wake-up that is lost: then all threads are asleep, which shuttle reports); a
//! job that ends twice or never; a core that both tenants run on; a task in a device's place that nobody
//! takes when the device has gone to somebody else, or is lost. Time passes for nobody: no
//! thread is woken by a timeout, so whatever goes on goes on because somebody woke somebody.
//!
//! A run that fails prints its schedule, and `shuttle::replay` runs that again.

#![cfg(feature = "shuttle")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Around, CurveId, Device, DeviceError};
use caldera_node::arbiter_thread::{ArbiterThread, Command, Inbox, Notice, Outbox, Parts};
use caldera_node::board::{Board, RunningJob};
use caldera_node::clock::Clock;
use caldera_node::preparer::Preparations;
use caldera_node::residence::Residence;
use caldera_node::worker::Worker;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProveError, ProvingKey, Synthetic, setup_synthetic};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::mailbox;
use caldera_scheduler::pool::{self, Core};
use caldera_scheduler::queue::Work;
use caldera_scheduler::{Arbiter, JobId, Nanos, Policy, Pool, TenantId, UnitId};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use shuttle::{Config, Runner};

/// A device beside the processor, or none.
#[derive(Clone, Copy)]
enum Beside {
    Nothing,
    /// Lost after so many quanta.
    Device(usize),
}

fn cpu() -> Arc<CpuDevice> {
    CpuDevice::new(CpuConfig {
        quantum: std::time::Duration::from_millis(2),
        lanes: 2,
    })
}

fn device(beside: Beside) -> Arc<dyn Device> {
    let Beside::Device(quanta) = beside else {
        return cpu();
    };
    let left = AtomicUsize::new(quanta);
    let quantum = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        let less = |left: usize| left.checked_sub(1);
        match left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => quantum(),
            Err(_) => Err(DeviceError::Lost {
                device: "the second".into(),
                why: "its time had come".into(),
            }),
        }
    };
    let member = |device| Member { device, width: 1 };
    let beside = Around::new(cpu(), Arc::new(quantum));
    Relay::new(vec![member(cpu()), member(beside)])
}

fn small_key() -> (Zkey, Wtns) {
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 3,
        dense: 0.5,
        seed: [1; 32],
    };
    let mut zkey = Vec::new();
    let witness = setup_synthetic(&synthetic, 1, &mut zkey, &mut |_| ()).expect("a key");
    (Zkey::parse(Bytes::from(zkey)).expect("a key"), witness)
}

/// Two tenants, three jobs, a demand that is declared and withdrawn; the one who asks takes all
/// notices, as a box's RPC thread does, and prepares the jobs itself.
fn a_box(workers: u16, beside: Beside, zkey: &Zkey, witness: &Wtns) {
    let key = &ProvingKey::load(zkey, device(beside)).expect("it loads");
    let devices = key.device().beside().len() as u16;
    let clock = Clock::start();
    let slots = 8;
    let board = Arc::new(Board::new(workers.into(), devices.into(), 2, slots));
    let inbox = Arc::new(Inbox::new(slots));
    let me = thread::current();
    let outbox = Arc::new(Outbox::new(Arc::new(move || me.unpark())));
    let policy = Policy::standard();
    let class = policy.find("retail").expect("standard");
    let (measured, _measurements) = rtrb::RingBuffer::new(4_096);
    let mut mailboxes = Vec::new();
    let mut threads = Vec::new();
    for number in 0..workers + devices {
        let (arbiter_side, worker_side) = mailbox(UnitId(number), 1_024);
        mailboxes.push(arbiter_side);
        let worker = Worker::new(
            UnitId(number),
            Arc::clone(&board),
            worker_side,
            Arc::clone(&inbox),
            clock,
        );
        let worker = match number < workers {
            true => worker,
            false => worker.of_device(Arc::clone(key.device())),
        };
        threads.push(thread::spawn(move || worker.run()));
    }
    let core = |number| Core { number, node: None };
    let unit = |number| pool::Device {
        number,
        node: None,
        memory: u64::MAX,
    };
    let cores: Vec<Core> = (0..u32::from(workers)).map(core).collect();
    let units: Vec<pool::Device> = (0..u32::from(devices)).map(unit).collect();
    let pool = Pool::of(&cores, &units, u64::MAX).expect("a pool");
    let residence = Residence::new(&pool, 2, Arc::clone(&board), Arc::clone(&inbox));
    let parts = Parts {
        residence: Arc::new(residence),
        arbiter: Arbiter::new(pool, policy),
        mailboxes,
        board: Arc::clone(&board),
        slots,
        inbox: Arc::clone(&inbox),
        outbox: Arc::clone(&outbox),
        preparations: Arc::new(Preparations::new(16)),
        device: Arc::clone(key.device()),
        measurements: measured,
        clock,
    };
    let arbiter = ArbiterThread::new(parts, &[(class, None), (class, None)]).expect("two tenants");
    threads.push(thread::spawn(move || arbiter.run()));

    let tenant_of = |job: u64| TenantId(u32::from(job == 3));
    let submit = |job| {
        inbox.send_waiting(Command::Submitted {
            job: JobId(job),
            tenant: tenant_of(job),
            work: Work {
                core: Nanos::ZERO,
                parallelism: workers.into(),
                devices: devices.into(),
                ..Work::default()
            },
            deadline: None,
            received: clock.now(),
            again: false,
        });
    };
    submit(1);
    submit(3);
    let declare = |units| Command::Declare {
        ticket: 1,
        tenant: TenantId(1),
        units,
        span: if units > 0 {
            Nanos::from_secs(60)
        } else {
            Nanos::ZERO
        },
        received: clock.now(),
    };
    inbox.send_waiting(declare(workers.into()));

    let mut ended = HashMap::new();
    let mut declared = 0;
    while ended.len() < 3 || declared < 2 {
        match outbox.take() {
            None => thread::park(),
            Some(Notice::Preparing(job)) => {
                let blinding = Blinding::random(key.curve()).expect("randomness");
                let laid_out = Job::new(key, witness.clone(), blinding).expect("it is laid out");
                let units = usize::from(workers + devices);
                let running = RunningJob::new(job, tenant_of(job.0), laid_out, units);
                let running = Arc::new(running.expect("it starts"));
                inbox.send_waiting(Command::Ready(running));
            }
            Some(Notice::Ended { job, outcome, .. }) => {
                // What was made on a lost device alone cannot be made again; a box tries that job once
                // more on the host.
                let lost = job.job().error().is_some_and(ProveError::may_be_silicon);
                assert_eq!(outcome == Outcome::Proved, !lost);
                assert_eq!(job.job().proof().is_some(), !lost);
                assert!(!lost || key.device().is_lost(1), "{:?}", job.job().error());
                // The second comes while workers are about to sleep, or do.
                if job.id() == JobId(1) {
                    submit(2);
                }
                assert!(ended.insert(job.id(), job).is_none(), "it ended twice");
            }
            Some(Notice::Declared { answer, .. }) => {
                assert!(answer.is_ok());
                declared += 1;
                if declared == 1 {
                    inbox.send_waiting(declare(0));
                }
            }
            Some(Notice::Refused { reason, .. }) => panic!("refused: {reason}"),
            Some(_) => {}
        }
    }
    // Every quantum of every job was run by a worker: as many as their kernels have.
    for job in ended.values().filter(|job| job.job().error().is_none()) {
        let quanta = job.tallies().iter().flat_map(|tally| tally.kernels());
        assert!(quanta.map(|it| it.quanta).sum::<u64>() >= 16);
    }
    board.stop();
    inbox.wake();
    for thread in threads {
        thread.join().expect("it ended in order");
    }
}

fn run(workers: u16, beside: Beside, scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // The self-check of a proof computes pairings on its worker's stack.
    config.stack_size = 4 << 20;
    let (zkey, witness) = small_key();
    Runner::new(scheduler, config).run(move || a_box(workers, beside, &zkey, &witness));
}

#[test]
fn no_wake_up_is_lost_whoever_is_slow() {
    for workers in [1, 2] {
        run(workers, Beside::Nothing, RandomScheduler::new(RUNS));
    }
}

#[test]
fn no_task_is_left_with_a_device_that_has_gone_or_is_lost() {
    for quanta in [usize::MAX, 0, 3] {
        run(1, Beside::Device(quanta), RandomScheduler::new(RUNS));
        run(1, Beside::Device(quanta), PctScheduler::new(4, RUNS));
    }
}

/// Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): few changes of priority, at
/// random places, find bugs that need as few with a known probability.
#[test]
fn no_wake_up_is_lost_when_threads_overtake_each_other() {
    for workers in [1, 2] {
        run(workers, Beside::Nothing, PctScheduler::new(4, RUNS));
    }
}

const RUNS: usize = 100;
