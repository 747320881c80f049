//! The arbiter's thread and one or two workers, the real ones with real proofs, interleaved as shuttle
//! likes. `make test-models` runs it; without the flag `--cfg shuttle` this file is empty.
//!
//! The dangers: a worker that sleeps while it could run what has just come, or an arbiter that
//! sleeps over an answer (a wake-up that is lost: then all threads are asleep, which shuttle reports); a
//! job that ends twice or never; a core that both tenants run on. Time passes for nobody: no
//! thread is woken by a timeout, so whatever goes on goes on because somebody woke somebody.
//!
//! A run that fails prints its schedule, and `shuttle::replay` runs that again.

#![cfg(shuttle)]

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_node::arbiter_thread::{ArbiterThread, Command, Inbox, Notice, Outbox, Parts};
use caldera_node::board::{Board, RunningJob};
use caldera_node::clock::Clock;
use caldera_node::preparer::Preparations;
use caldera_node::worker::Worker;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Synthetic, setup_synthetic};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::mailbox;
use caldera_scheduler::queue::Work;
use caldera_scheduler::{Arbiter, JobId, Nanos, Policy, Pool, TenantId, UnitId};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::thread;
use shuttle::{Config, Runner};

fn small_key() -> (Arc<ProvingKey>, Wtns) {
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 3,
        dense: 0.5,
        seed: [1; 32],
    };
    let mut zkey = Vec::new();
    let witness = setup_synthetic(&synthetic, 1, &mut zkey, &mut |_| ()).expect("a key");
    let zkey = Zkey::parse(Bytes::from(zkey)).expect("a key");
    let device = CpuDevice::new(CpuConfig {
        quantum: std::time::Duration::from_millis(2),
        lanes: 2,
    });
    (ProvingKey::load(&zkey, device).expect("it loads"), witness)
}

/// Two tenants, three jobs, a demand that is declared and withdrawn; the one who asks takes all
/// notices, as a box's RPC thread does, and prepares the jobs itself.
fn a_box(workers: u16, key: &Arc<ProvingKey>, witness: &Wtns) {
    let clock = Clock::start();
    let slots = 8;
    let board = Arc::new(Board::new(workers.into(), 2, slots));
    let inbox = Arc::new(Inbox::new(slots));
    let me = thread::current();
    let outbox = Arc::new(Outbox::new(Arc::new(move || me.unpark())));
    let policy = Policy::standard();
    let class = policy.find("retail").expect("standard");
    let (measured, _measurements) = rtrb::RingBuffer::new(4_096);
    let mut mailboxes = Vec::new();
    let mut threads = Vec::new();
    for number in 0..workers {
        let (arbiter_side, worker_side) = mailbox(UnitId(number), 1_024);
        mailboxes.push(arbiter_side);
        let worker = Worker::new(
            UnitId(number),
            Arc::clone(&board),
            worker_side,
            Arc::clone(&inbox),
            clock,
        );
        threads.push(thread::spawn(move || worker.run()));
    }
    let cores: Vec<u32> = (0..u32::from(workers)).collect();
    let parts = Parts {
        arbiter: Arbiter::new(Pool::new(&cores).expect("a pool"), policy),
        mailboxes,
        board: Arc::clone(&board),
        slots,
        inbox: Arc::clone(&inbox),
        outbox: Arc::clone(&outbox),
        preparations: Arc::new(Preparations::new(16)),
        measurements: measured,
        clock,
    };
    let arbiter = ArbiterThread::new(parts, &[class, class]).expect("two tenants");
    threads.push(thread::spawn(move || arbiter.run()));

    let tenant_of = |job: u64| TenantId(u32::from(job == 3));
    let submit = |job| {
        inbox.send_waiting(Command::Submitted {
            job: JobId(job),
            tenant: tenant_of(job),
            work: Work {
                core: Nanos::ZERO,
                parallelism: workers.into(),
            },
            deadline: None,
            received: clock.now(),
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
                let running = RunningJob::new(job, tenant_of(job.0), laid_out, workers.into());
                let running = Arc::new(running.expect("it starts"));
                inbox.send_waiting(Command::Ready(running));
            }
            Some(Notice::Ended { job, outcome, .. }) => {
                assert_eq!(outcome, Outcome::Proved);
                assert!(job.job().proof().is_some());
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
    for job in ended.values() {
        let quanta = job.tallies().iter().flat_map(|tally| tally.kernels());
        assert!(quanta.map(|(_, quanta, _, _)| quanta).sum::<u64>() >= 16);
    }
    board.stop();
    inbox.wake();
    for thread in threads {
        thread.join().expect("it ended in order");
    }
}

fn run(workers: u16, scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // The self-check of a proof computes pairings on its worker's stack.
    config.stack_size = 4 << 20;
    let (key, witness) = small_key();
    Runner::new(scheduler, config).run(move || a_box(workers, &key, &witness));
}

#[test]
fn no_wake_up_is_lost_whoever_is_slow() {
    for workers in [1, 2] {
        run(workers, RandomScheduler::new(RUNS));
    }
}

/// Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): few changes of priority, at
/// random places, find bugs that need as few with a known probability.
#[test]
fn no_wake_up_is_lost_when_threads_overtake_each_other() {
    for workers in [1, 2] {
        run(workers, PctScheduler::new(4, RUNS));
    }
}

const RUNS: usize = 100;
