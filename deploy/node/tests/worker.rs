//! A worker alone, with a device that can be told to break.
//!
//! The dangers: a panic in a kernel takes the thread with it, and with the thread a core of the
//! box, silently. So the worker must fail the job, say so once, and go on with the next. A core changes hands at the
//! moment in which it opens a task, and nobody else is told of that. What a tenant has begun on a device stays there for ever when
//! both the device and its cores are somebody else's. And what a tenant is said to have cost counts
//! the time in which a device's worker only waited.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Around, CurveId, Device, DeviceError};
use caldera_node::arbiter_thread::{Ended, Inbox};
use caldera_node::board::{Board, RunningJob, Tally};
use caldera_node::clock::{Clock, thread_time};
use caldera_node::worker::Worker;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey, Synthetic, setup_synthetic};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Found, Ownership, mailbox};
use caldera_scheduler::{Epoch, Event, JobId, TenantId, UnitId};

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
    let quanta: u64 = job.tallies()[0].kernels().map(|it| it.quanta).sum();
    assert!(
        quanta >= 16,
        "each part of a proof is at least one quantum, got {quanta}"
    );

    board.stop();
    thread.join().expect("the worker ended in order");
    assert!(inbox.take_ended().is_none(), "each job is reported once");
}

/// A worker that opens one task wakes nobody for it, for it is about to take that itself. It woke nobody either when its
/// core had gone to another tenant meanwhile: then the task lay there while another core of the old owner slept, until
/// something else woke that one.
#[test]
fn a_task_that_a_core_opens_when_it_changes_hands_wakes_another_core() {
    const OUTSIDE: u32 = 0;
    const INSIDE: u32 = 1;
    const ON: u32 = 2;
    let uncut = CpuDevice::new(CpuConfig {
        quantum: std::time::Duration::MAX,
        lanes: 1,
    });
    // It stops in the first quantum of a sum. That ends the only lane of its stage, and so opens one task.
    let gate = Arc::new(AtomicU32::new(OUTSIDE));
    let own = Arc::clone(&gate);
    let (key, witness) = small_key(Around::new(
        uncut,
        Arc::new(move |kernel, quantum| {
            if kernel.starts_with("msm.") && own.load(Ordering::Acquire) == OUTSIDE {
                own.store(INSIDE, Ordering::Release);
                while own.load(Ordering::Acquire) == INSIDE {
                    std::thread::yield_now();
                }
            }
            quantum()
        }),
    ));
    let (before, after, clock) = (TenantId(0), TenantId(1), Clock::start());
    let board = Arc::new(Board::new(2, 0, 2, 2));
    let inbox = Arc::new(Inbox::new(2));
    let (mut arbiter, side) = mailbox(UnitId(0), 1024);
    let own = |epoch, owner| Ownership {
        epoch: Epoch(epoch),
        owner: Some(owner),
    };
    arbiter.publish(own(1, before));
    board.reseat(0, Some(before));
    board.reseat(1, Some(before));
    let blinding = Blinding::random(key.curve()).expect("randomness");
    let job = Job::new(&key, witness, blinding).expect("it is laid out");
    let job = RunningJob::new(JobId(1), before, job, 2).expect("it starts");
    board.fill(0, Some(Arc::new(job)));
    board.publish(before, 0..=0);
    let worker = Worker::new(
        UnitId(0),
        Arc::clone(&board),
        side,
        Arc::clone(&inbox),
        clock,
    );
    let thread = std::thread::spawn(move || worker.run());
    while gate.load(Ordering::Acquire) != INSIDE {
        std::thread::yield_now();
    }

    // This thread is the other core, which rests.
    board.sit(1);
    let mut woken = false;
    board.rest(1, || {
        assert!(board.is_resting(1));
        arbiter.publish(own(2, after));
        board.reseat(0, Some(after));
        gate.store(ON, Ordering::Release);
        loop {
            let answer = arbiter.poll(clock.now());
            if matches!(answer, Some(Event::Entered { entry, .. }) if entry.epoch == Epoch(2)) {
                break;
            }
            std::thread::yield_now();
        }
        woken = !board.is_resting(1);
        true
    });
    assert!(woken, "the task that was opened waits, and a core sleeps");
    board.stop();
    thread.join().expect("the worker ended in order");
}

/// The device of a tenant that has begun a sum there goes to another one, and so does its core. The new owner has nothing to run, and
/// waits for the old one's key to make room: so the device's worker ends what has begun. Without that nobody did, until its tenant
/// had a core again that had nothing else to do.
#[test]
fn a_device_ends_what_was_begun_there_when_its_new_owner_has_nothing_to_run() {
    const OUTSIDE: u32 = 0;
    const INSIDE: u32 = 1;
    const ON: u32 = 2;
    let uncut = || {
        CpuDevice::new(CpuConfig {
            quantum: std::time::Duration::MAX,
            lanes: 1,
        })
    };
    // It stops in the first quantum of a sum, of which there are more stages then.
    let gate = Arc::new(AtomicU32::new(OUTSIDE));
    let own = Arc::clone(&gate);
    let beside = Around::new(
        uncut(),
        Arc::new(move |kernel, quantum| {
            if kernel.starts_with("msm.") && own.load(Ordering::Acquire) == OUTSIDE {
                own.store(INSIDE, Ordering::Release);
                while own.load(Ordering::Acquire) == INSIDE {
                    std::thread::yield_now();
                }
            }
            quantum()
        }),
    );
    let member = |device: Arc<dyn Device>| Member { device, width: 1 };
    let relay = Relay::new(vec![member(uncut()), member(beside)]);
    relay.allow(0b10);
    let (key, witness) = small_key(relay.clone());
    let (before, after, clock) = (TenantId(0), TenantId(1), Clock::start());
    let board = Arc::new(Board::new(1, 1, 2, 2));
    let inbox = Arc::new(Inbox::new(2));
    let mut arbiters = Vec::new();
    let mut threads = Vec::new();
    for number in 0..2u16 {
        let (arbiter, side) = mailbox(UnitId(number), 4096);
        arbiters.push(arbiter);
        let (own, inbox) = (Arc::clone(&board), Arc::clone(&inbox));
        let worker = Worker::new(UnitId(number), own, side, inbox, clock);
        let worker = match number {
            0 => worker,
            _ => worker.of_device(relay.clone()),
        };
        threads.push(std::thread::spawn(move || worker.run()));
    }
    let mut own = |number: usize, epoch, owner| {
        let owner = Some(owner);
        let epoch = Epoch(epoch);
        arbiters[number].publish(Ownership { epoch, owner });
        board.reseat(number, owner);
    };
    let blinding = Blinding::random(key.curve()).expect("randomness");
    let job = Job::new(&key, witness, blinding).expect("it is laid out");
    let job = Arc::new(RunningJob::new(JobId(1), before, job, 2).expect("it starts"));
    board.fill(0, Some(Arc::clone(&job)));
    board.publish(before, 0..=0);
    own(1, 1, before);
    own(0, 1, before);
    while gate.load(Ordering::Acquire) != INSIDE {
        std::thread::yield_now();
    }

    own(0, 2, after);
    while !board.is_resting(0) {
        std::thread::yield_now();
    }
    own(1, 2, after);
    gate.store(ON, Ordering::Release);
    // It says that it found nothing of its owner's, which has a claim to be lent then, and rests when nothing is left.
    let answer = loop {
        match arbiters[1].poll(clock.now()) {
            Some(Event::Entered { entry, .. }) if entry.epoch == Epoch(2) => break entry,
            _ => std::thread::yield_now(),
        }
    };
    assert_eq!(answer.found, Found::Nothing);
    while !board.is_resting(1) {
        std::thread::yield_now();
    }
    assert!(
        !job.has_ready(1),
        "what was begun there waits, and the device idles"
    );
    assert!(
        job.has_ready(0) && inbox.take_ended().is_none(),
        "the rest is for cores"
    );
    let on_device = |tally: &Tally| tally.kernels().map(|it| it.quanta).sum::<u64>();
    assert!(on_device(&job.tallies()[1]) > 1);

    let (epoch, owner) = (Epoch(3), Some(before));
    arbiters[0].publish(Ownership { epoch, owner });
    board.reseat(0, owner);
    while inbox.take_ended().is_none() {
        std::thread::yield_now();
    }
    assert!(job.job().proof().is_some());
    board.stop();
    for thread in threads {
        thread.join().expect("the worker ended in order");
    }
}

/// A device's worker waits for fences. That is the device's time and no core's: what is counted as a core's is no more
/// than its thread has run.
#[test]
fn what_a_devices_worker_waits_costs_no_core() {
    let uncut = || {
        CpuDevice::new(CpuConfig {
            quantum: std::time::Duration::MAX,
            lanes: 1,
        })
    };
    // The first quantum on the device waits until this thread has done something that takes a while.
    let fence = Arc::new(Barrier::new(2));
    let (own, first) = (Arc::clone(&fence), AtomicBool::new(true));
    let waiting = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        if first.swap(false, Ordering::Relaxed) {
            own.wait();
            own.wait();
        }
        quantum()
    };
    let member = |device: Arc<dyn Device>| Member { device, width: 1 };
    let beside = Around::new(uncut(), Arc::new(waiting));
    let relay = Relay::new(vec![member(uncut()), member(beside)]);
    relay.allow(0b10);
    let (key, witness) = small_key(relay.clone());
    let (tenant, clock) = (TenantId(0), Clock::start());
    let board = Arc::new(Board::new(1, 1, 1, 2));
    let inbox = Arc::new(Inbox::new(2));
    let mut threads = Vec::new();
    for number in 0..2 {
        let (mut arbiter, side) = mailbox(UnitId(number), 1024);
        arbiter.publish(Ownership {
            epoch: Epoch(1),
            owner: Some(tenant),
        });
        board.reseat(number.into(), Some(tenant));
        let worker = Worker::new(
            UnitId(number),
            Arc::clone(&board),
            side,
            Arc::clone(&inbox),
            clock,
        );
        let worker = match number {
            0 => worker,
            _ => worker.of_device(relay.clone()),
        };
        threads.push(std::thread::spawn(move || {
            worker.run();
            (arbiter, thread_time().0)
        }));
    }
    let blinding = Blinding::random(key.curve()).expect("randomness");
    let job = Job::new(&key, witness, blinding).expect("it is laid out");
    let job = Arc::new(RunningJob::new(JobId(1), tenant, job, 2).expect("it starts"));
    board.fill(0, Some(Arc::clone(&job)));
    board.publish(tenant, 0..=0);
    board.wake(tenant, 1);
    board.wake_devices(tenant);
    fence.wait();
    drop(small_key(uncut()));
    fence.wait();
    while inbox.take_ended().is_none() {
        std::thread::yield_now();
    }
    board.stop();
    let ran = threads.into_iter().map(|thread| {
        let (_, ran) = thread.join().expect("the worker ended in order");
        ran
    });
    let ran: Vec<u64> = ran.collect();
    let [of_core, of_device] = [0, 1].map(|worker: usize| {
        let counts = job.tallies()[worker].kernels();
        counts.fold([0; 3], |[quanta, ns, core_ns], it| {
            [quanta + it.quanta, ns + it.ns, core_ns + it.core_ns]
        })
    });
    assert_eq!(
        of_core[1], of_core[2],
        "a core is its worker's all the time"
    );
    let [quanta, _, core_ns] = of_device;
    assert!(quanta > 0);
    assert!(
        core_ns <= ran[1],
        "{core_ns}, and the thread has run {}",
        ran[1]
    );
}

/// A device is lost in the midst of a piece of work, which is done again: what it had done of it is charged to nobody, in
/// the records and in the job's tallies alike.
#[test]
fn what_a_lost_device_had_done_is_charged_to_nobody() {
    let device = || {
        CpuDevice::new(CpuConfig {
            quantum: std::time::Duration::from_micros(50),
            lanes: 1,
        })
    };
    // The third quantum of a sum finds it gone. How long the others took it says itself.
    let (sums, gone) = (AtomicU32::new(0), Arc::new(AtomicBool::new(false)));
    let is_gone = Arc::clone(&gone);
    let dying = move |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
        let of_sum = kernel.starts_with("msm.");
        if is_gone.load(Ordering::Relaxed) || of_sum && sums.fetch_add(1, Ordering::Relaxed) == 2 {
            is_gone.store(true, Ordering::Relaxed);
            return Err(DeviceError::Lost {
                device: "the second".into(),
                why: "its time had come".into(),
            });
        }
        quantum()
    };
    let member = |device: Arc<dyn Device>| Member { device, width: 1 };
    let beside = Around::new(device(), Arc::new(dying));
    let relay = Relay::new(vec![member(device()), member(beside)]);
    relay.allow(0b10);
    let (key, witness) = small_key(relay.clone());
    let (tenant, clock) = (TenantId(0), Clock::start());
    let board = Arc::new(Board::new(1, 1, 1, 2));
    let inbox = Arc::new(Inbox::new(2));
    let mut threads = Vec::new();
    for number in 0..2u16 {
        let (mut arbiter, side) = mailbox(UnitId(number), 4096);
        arbiter.publish(Ownership {
            epoch: Epoch(1),
            owner: Some(tenant),
        });
        board.reseat(number.into(), Some(tenant));
        let (own, inbox) = (Arc::clone(&board), Arc::clone(&inbox));
        let worker = Worker::new(UnitId(number), own, side, inbox, clock);
        let worker = match number {
            0 => worker,
            _ => worker.of_device(relay.clone()),
        };
        threads.push(std::thread::spawn(move || {
            worker.run();
            arbiter
        }));
    }
    let blinding = Blinding::random(key.curve()).expect("randomness");
    let job = Job::new(&key, witness, blinding).expect("it is laid out");
    let job = Arc::new(RunningJob::new(JobId(1), tenant, job, 2).expect("it starts"));
    board.fill(0, Some(Arc::clone(&job)));
    board.publish(tenant, 0..=0);
    board.wake(tenant, 1);
    board.wake_devices(tenant);
    // While the device's worker waits to be told that its unit is gone, its tenant's tasks there are the core's.
    while inbox.take_ended().is_none() {
        if gone.load(Ordering::Relaxed) {
            board.reseat(1, None);
        }
        std::thread::yield_now();
    }
    board.stop();
    let mut all = [0; 2];
    for (worker, thread) in threads.into_iter().enumerate() {
        let mut arbiter = thread.join().expect("the worker ended in order");
        let (mut span, mut void) = (0u64, 0u64);
        while let Some(record) = arbiter.record() {
            (span, void) = (span + record.span.0, void + record.void.0);
        }
        assert_eq!(arbiter.lost(), 0);
        // A core may be the one that finds out, of what the device's worker has done.
        let charged = Tally::charged(&job.tallies()[worker..=worker]).0;
        assert_eq!(charged, span.saturating_sub(void), "unit {worker}");
        all = [all[0] + span, all[1] + void];
    }
    let [span, void] = all;
    assert!(void > 0 && void <= span, "{void} of {span}");
}
