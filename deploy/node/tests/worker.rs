//! A worker alone, with a device that can be told to break.
//!
//! The danger: a panic in a kernel takes the thread with it, and with the thread a core of the
//! box, silently. So the worker must fail the job, say so once, and go on with the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{Around, CurveId, Device};
use caldera_node::arbiter_thread::{Ended, Inbox};
use caldera_node::board::{Board, RunningJob};
use caldera_node::clock::Clock;
use caldera_node::worker::Worker;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Synthetic, setup_synthetic};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Ownership, mailbox};
use caldera_scheduler::{Epoch, JobId, TenantId, UnitId};

fn small_key(device: Arc<dyn Device>) -> (Arc<ProvingKey>, Wtns) {
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 6,
        dense: 0.5,
        seed: [1; 32],
    };
    let mut zkey = Vec::new();
    let witness = setup_synthetic(&synthetic, 1, &mut zkey, &mut |_| ()).expect("a key");
    let zkey = Zkey::parse(Bytes::from(zkey)).expect("a key");
    let key = ProvingKey::load(&zkey, device).expect("it loads");
    (key, witness)
}

#[test]
fn a_panic_in_a_quantum_fails_its_job_and_not_its_worker() {
    let broken = Arc::new(AtomicBool::new(true));
    let config = CpuConfig {
        quantum: std::time::Duration::from_millis(2),
        lanes: 2,
    };
    // Its sparse product panics while `broken` is set.
    let is_broken = Arc::clone(&broken);
    let (key, witness) = small_key(Around::new(
        CpuDevice::new(config),
        Arc::new(move |kernel, quantum| {
            let breaks = kernel.starts_with("spmv") && is_broken.load(Ordering::Acquire);
            assert!(!breaks, "this kernel is broken");
            quantum()
        }),
    ));
    let (tenant, clock) = (TenantId(0), Clock::start());
    let board = Arc::new(Board::new(1, 0, 1, 2));
    let inbox = Arc::new(Inbox::new(2));
    let (mut arbiter, side) = mailbox(UnitId(0), 1024);
    let worker = Worker::new(
        UnitId(0),
        Arc::clone(&board),
        side,
        Arc::clone(&inbox),
        clock,
    );
    let thread = std::thread::spawn(move || worker.run());
    let ownership = Ownership {
        epoch: Epoch(1),
        owner: Some(tenant),
    };
    arbiter.publish(ownership);
    board.reseat(0, Some(tenant));

    let run = |number: u64, slot: usize| {
        let blinding = Blinding::random(key.curve()).expect("randomness");
        let job = Job::new(&key, witness.clone(), blinding).expect("it is laid out");
        let job = RunningJob::new(JobId(number), tenant, job, 1).expect("it starts");
        let job = Arc::new(job);
        board.fill(slot, Some(Arc::clone(&job)));
        board.publish(tenant, 0..=slot);
        board.wake(tenant, 1);
        let ended: Ended = loop {
            match inbox.take_ended() {
                Some(ended) => break ended,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(ended.job, JobId(number));
        (job, ended.outcome)
    };

    let (job, outcome) = run(1, 0);
    assert_eq!(outcome, Outcome::Failed);
    assert!(job.panicked());
    assert!(job.job().proof().is_none());

    broken.store(false, Ordering::Release);
    let (job, outcome) = run(2, 1);
    assert_eq!(outcome, Outcome::Proved);
    assert!(!job.panicked());
    assert!(job.job().proof().is_some());
    let quanta: u64 = job.tallies()[0]
        .kernels()
        .map(|(_, quanta, _, _)| quanta)
        .sum();
    assert!(
        quanta >= 16,
        "each part of a proof is at least one quantum, got {quanta}"
    );

    board.stop();
    thread.join().expect("the worker ended in order");
    assert!(inbox.take_ended().is_none(), "each job is reported once");
}
