//! A proof may be left at any quantum, for however long, and go on on another device: nothing is done
//! twice and the proof is the same.

mod groth16_support;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Price, Relay};
use caldera_kernels::{Around, CurveId, Device, DeviceError};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Job, ProvingKey, Step, Synthetic, Task, setup_synthetic, verify};
use groth16_support::{cpu, job, run_in_random_order, run_on_threads};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn material(curve: CurveId) -> (Zkey, Wtns) {
    material_of(curve, 9)
}

fn material_of(curve: CurveId, domain_log2: u32) -> (Zkey, Wtns) {
    let synthetic = Synthetic {
        curve,
        domain_log2,
        dense: 0.6,
        seed: [3; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&synthetic, 2, &mut file, &mut |_| ()).expect("a key");
    (Zkey::parse(file.into()).expect("a good file"), witness)
}

/// A device whose quanta are short, before each of which `before` is called.
fn cut(before: impl Fn(&'static str) + Send + Sync + 'static) -> Arc<dyn Device> {
    let cpu = CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(50),
        lanes: 3,
    });
    Around::new(
        cpu,
        Arc::new(move |kernel, quantum| {
            before(kernel);
            quantum()
        }),
    )
}

/// Before every quantum it is drawn which of three devices may begin the next piece of work.
#[test]
fn a_proof_that_moves_between_devices_and_back_is_the_same() {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        let (zkey, witness) = material(curve);
        let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
        let still = job(&key, witness.clone());
        run_on_threads(&still, 1).expect("a good witness");
        let expected = still.proof().expect("it has finished");
        verify(key.verification_key(), &expected.0, &expected.1).expect("a good proof");

        let visits: Arc<[AtomicU64; 3]> = Arc::default();
        let members = (0..3).map(|member| {
            let visits = Arc::clone(&visits);
            let device = cut(move |_| {
                visits[member].fetch_add(1, Ordering::Relaxed);
            });
            Member { device, width: 1 }
        });
        let relay = Relay::new(members.collect());
        let key = ProvingKey::load(&zkey, relay.clone()).expect("a good key");
        let mut moves = 0;
        for seed in 0..6 {
            let moved = job(&key, witness.clone());
            let mut random = ChaCha20Rng::seed_from_u64(seed);
            let mut tasks = Vec::new();
            moved
                .start(&mut |task| tasks.push(task))
                .expect("it starts");
            let mut last = 0;
            while let Some(task) = tasks.pop() {
                let allowed = random.next_u32() % 3;
                relay.allow(1 << allowed);
                moves += u32::from(allowed != last);
                last = allowed;
                match moved.run(task, &mut |task| tasks.push(task)) {
                    Ok(Step::Again) => tasks.push(task),
                    Ok(_) => {}
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            assert_eq!(moved.proof(), Some(expected.clone()), "seed {seed}");
        }
        assert!(moves > 100, "{moves}");
        for visits in &*visits {
            assert!(visits.load(Ordering::Relaxed) > 100, "{visits:?}");
        }
    }
}

/// Before every quantum it is drawn whether a device gives its copy of the key up, or gets it again, and which of
/// three devices may begin the next piece of work.
#[test]
fn a_proof_is_the_same_while_copies_of_its_key_come_and_go() {
    let (zkey, witness) = material(CurveId::Bn254);
    let members = (0..3).map(|_| Member {
        device: cut(|_| ()),
        width: 1,
    });
    let relay = Relay::new(members.collect());
    let key = ProvingKey::load(&zkey, relay.clone()).expect("a good key");
    assert_eq!(key.copy_bytes(1), key.copy_len());
    let still = job(&key, witness.clone());
    run_on_threads(&still, 1).expect("a good witness");
    let expected = still.proof().expect("it has finished");
    verify(key.verification_key(), &expected.0, &expected.1).expect("a good proof");
    let mut given_up = 0;
    for seed in 0..6 {
        for member in 1..3 {
            key.copy(member).expect("there is room");
        }
        let moved = job(&key, witness.clone());
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut tasks = Vec::new();
        moved
            .start(&mut |task| tasks.push(task))
            .expect("it starts");
        while let Some(task) = tasks.pop() {
            relay.allow(1 << (random.next_u32() % 3));
            let member = 1 + random.next_u32() as usize % 2;
            match random.next_u32() % 16 {
                0 => {
                    key.copy_free(member);
                    given_up += 1;
                }
                1 => key.copy(member).expect("there is room"),
                _ => {}
            }
            match moved.run(task, &mut |task| tasks.push(task)) {
                Ok(Step::Again) => tasks.push(task),
                Ok(_) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(moved.proof(), Some(expected.clone()), "seed {seed}");
        // Nothing is left of it there, though the job is.
        for member in 1..3 {
            key.copy_free(member);
            assert_eq!(key.copy_bytes(member), 0, "seed {seed}");
        }
        assert_eq!(moved.proof(), Some(expected.clone()), "seed {seed}");
    }
    assert!(given_up > 0);
    assert_eq!(key.copy_bytes(0), key.copy_len(), "the host's stays");
}

/// Says what all kinds of work cost on each of so many devices: the same, so that whatever is large enough is shared.
fn equal_prices(curve: CurveId, members: usize) -> Vec<Price> {
    let kinds = ["product", "multiply", "ntt", "msm-g1", "msm-g2", "copy"];
    let mut prices = Vec::new();
    for member in 0..members {
        for kind in kinds {
            let each = if kind == "copy" { 1 } else { 1 << 10 };
            prices.extend((8..16).map(|log2| Price {
                member,
                kind,
                curve,
                log2,
                nanoseconds: each << log2,
            }));
        }
    }
    prices
}

/// Sums are shared between three devices, quanta run in any order, and one device of them is lost now and then: the proof is
/// the same, and it has more parts than one that nobody shares.
#[test]
fn a_proof_whose_sums_are_shared_is_the_same() {
    let curve = CurveId::Bn254;
    let (zkey, witness) = material_of(curve, 12);
    let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
    let still = job(&key, witness.clone());
    run_on_threads(&still, 2).expect("a good witness");
    let expected = still.proof().expect("it has finished");
    let alone = still.nodes();
    for seed in 0..4 {
        let lost = Arc::new(AtomicBool::new(false));
        let shares: Arc<AtomicU64> = Arc::default();
        let (breaks, counted) = (Arc::clone(&lost), Arc::clone(&shares));
        let mortal = Around::new(
            cut(|_| ()),
            Arc::new(move |kernel, quantum| {
                if kernel.starts_with("msm.") {
                    counted.fetch_add(1, Ordering::Relaxed);
                    if breaks.load(Ordering::Relaxed) {
                        return Err(DeviceError::Lost {
                            device: "the second".into(),
                            why: "its time had come".into(),
                        });
                    }
                }
                quantum()
            }),
        );
        let members = [cut(|_| ()), mortal, cut(|_| ())];
        let members = members.map(|device| Member { device, width: 1 });
        let relay = Relay::new(members.into());
        let key = ProvingKey::load(&zkey, relay.clone()).expect("a good key");
        let shared = job(&key, witness.clone());
        // A part for each of five sums and two devices, of two stages.
        assert!(shared.nodes() >= alone + 20, "{}", shared.nodes());
        let mut random = ChaCha20Rng::seed_from_u64(seed);
        let mut tasks = Vec::new();
        shared
            .start(&mut |task| tasks.push(task))
            .expect("it starts");
        let prices = equal_prices(curve, 3);
        while !tasks.is_empty() {
            assert!(tasks.len() <= shared.tasks_max());
            // Whatever was measured meanwhile.
            relay.believe(&prices);
            if seed > 0 && shares.load(Ordering::Relaxed) > 10 * seed {
                lost.store(true, Ordering::Relaxed);
            }
            let task = tasks.swap_remove(random.next_u32() as usize % tasks.len());
            match shared.run(task, &mut |task| tasks.push(task)) {
                Ok(Step::Again) => tasks.push(task),
                Ok(_) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert_eq!(shared.proof(), Some(expected.clone()), "seed {seed}");
        assert!(shares.load(Ordering::Relaxed) > 10 * seed, "seed {seed}");
        assert_eq!(relay.is_lost(1), seed > 0, "seed {seed}");
        assert_eq!(relay.health().fallen_back > 0, seed > 0, "seed {seed}");
    }
}

/// One of several proofs that share a device.
struct Underway {
    job: Arc<Job>,
    tasks: Vec<Task>,
    quanta: usize,
    ended: HashSet<Task>,
    /// Picks the next task. How lanes share a stage out, and with it how many quanta they take, depends on the
    /// order in which they run; so each proof draws its own, the same that an undisturbed one has.
    order: ChaCha20Rng,
}

/// Ten thousand times a proof is left for another one, nine times of ten in the midst of a lane of a
/// sum or a transform. None of them does a lane twice, and each takes exactly the quanta that a proof takes
/// which nobody disturbs and whose tasks run in the same order, on a device that has measured once how finely it cuts.
#[test]
fn ten_thousand_preemptions_restart_nothing() {
    let (zkey, witness) = material(CurveId::Bn254);
    let key = ProvingKey::load(&zkey, cut(|_| ())).expect("a good key");
    let still = job(&key, witness.clone());
    let undisturbed = run_in_random_order(&still, ORDER).expect("a good witness");
    let expected = still.proof().expect("it has finished");

    let mut random = ChaCha20Rng::seed_from_u64(2);
    let begin = || {
        let job = job(&key, witness.clone());
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("it starts");
        Underway {
            job,
            tasks,
            quanta: 0,
            ended: HashSet::new(),
            order: ChaCha20Rng::seed_from_u64(ORDER),
        }
    };
    let mut underway: Vec<Underway> = (0..5).map(|_| begin()).collect();
    let (mut preemptions, mut inside, mut proofs) = (0, 0, 0);
    let mut running = 0;
    while preemptions < 10_000 {
        let it = &mut underway[running];
        // Of a lane that was left half-way the next quantum comes last.
        let at = it.order.next_u32() as usize % it.tasks.len();
        let task = it.tasks.swap_remove(at);
        let kernel = it.job.kernel(task);
        it.quanta += 1;
        let step = it.job.run(task, &mut |task| it.tasks.push(task));
        match step.expect("a good witness") {
            Step::Again => {
                it.tasks.push(task);
                let is_inside = kernel.starts_with("msm.") || kernel.starts_with("ntt.");
                // Now and then elsewhere too.
                if is_inside || random.next_u32() % 8 == 0 {
                    preemptions += 1;
                    inside += u32::from(is_inside);
                    running = (running + 1 + random.next_u32() as usize % 4) % 5;
                }
            }
            Step::LaneEnded => {
                assert!(it.ended.insert(task), "{kernel} began again");
                if random.next_u32() % 32 == 0 {
                    preemptions += 1;
                    running = (running + 1 + random.next_u32() as usize % 4) % 5;
                }
            }
            Step::Finished => {
                assert_eq!(it.quanta, undisturbed);
                assert_eq!(it.job.proof().as_ref(), Some(&expected));
                *it = begin();
                proofs += 1;
            }
        }
    }
    assert!(inside >= 9_000, "{inside}");
    assert!(proofs > 5, "{proofs}");
}

/// The seed of the order in which each proof's tasks run.
const ORDER: u64 = 1;
