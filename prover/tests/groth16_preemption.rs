//! A proof may be left at any quantum, for however long, and go on on another device: nothing is done
//! twice and the proof is the same.

mod groth16_support;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
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
    cut_to(Duration::from_micros(50), before)
}

fn cut_to(
    quantum: Duration,
    before: impl Fn(&'static str) + Send + Sync + 'static,
) -> Arc<dyn Device> {
    let cpu = CpuDevice::new(CpuConfig { quantum, lanes: 3 });
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

/// A quantum of an undisturbed proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    /// Of which stage and lane.
    task: Task,
    /// The how manieth of its lane.
    index: usize,
    /// For which device, if it computes.
    member: Option<usize>,
    /// It is of a sum or a transform, and neither its first quantum nor its last.
    is_inside: bool,
}

/// One of several proofs that share devices. What is drawn for it comes from its seed alone: in which order its tasks run, for lanes share a
/// stage out by that, and where each of its pieces is done.
struct Underway {
    job: Arc<Job>,
    seed: u64,
    order: ChaCha20Rng,
    places: HashMap<&'static str, usize>,
    tasks: Vec<Task>,
    lanes: HashMap<Task, usize>,
    ended: HashSet<Task>,
    /// How many quanta it has had.
    at: usize,
    /// After which of them it is left.
    left_after: HashSet<usize>,
}

/// The longest chain of a proof. It is begun on one device, goes on on another, comes back, leaves again, and ends where it began.
const CHAIN: [&str; 5] = ["product", "multiply", "shift-a", "quotient", "msm-h"];

impl Underway {
    fn begin(job: Arc<Job>, seed: u64) -> Underway {
        let mut order = ChaCha20Rng::seed_from_u64(seed);
        let mut draw = |below: u32| (order.next_u32() % below) as usize;
        let home = draw(DEVICES);
        let away = (home + 1 + draw(DEVICES - 1)) % DEVICES as usize;
        let mut places: HashMap<_, _> = CHAIN
            .into_iter()
            .zip([home, away].into_iter().cycle())
            .collect();
        for part in ["shift-b", "shift-c", "msm-a", "msm-b1", "msm-b2", "msm-c"] {
            places.insert(part, draw(DEVICES));
        }
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("it starts");
        Underway {
            job,
            seed,
            order,
            places,
            tasks,
            lanes: HashMap::new(),
            ended: HashSet::new(),
            at: 0,
            left_after: HashSet::new(),
        }
    }

    /// Runs the next quantum: what it was, and whether it was the last.
    fn quantum(&mut self) -> (Point, bool) {
        let next = self.order.next_u32() as usize % self.tasks.len();
        let task = self.tasks.swap_remove(next);
        let part = self.job.part(task);
        if let Some(place) = self.places.get(part) {
            self.job.allow(task, 1 << place);
        }
        let kernel = self.job.kernel(task);
        let computes = kernel.starts_with("msm.") || kernel.starts_with("ntt.");
        let index = self.lanes.entry(task).or_default();
        let point = Point {
            task,
            index: *index,
            member: computes.then(|| self.job.member(task)),
            is_inside: false,
        };
        *index += 1;
        self.at += 1;
        let (job, tasks) = (&self.job, &mut self.tasks);
        let step = job.run(task, &mut |task| tasks.push(task));
        match step.expect("a good witness") {
            Step::Again => self.tasks.push(task),
            Step::LaneEnded => assert!(self.ended.insert(task), "{kernel} began again"),
            Step::Finished => return (point, true),
        }
        (point, false)
    }

    /// All quanta of a proof that nobody disturbs.
    fn record(mut self) -> Vec<Point> {
        let mut points = Vec::new();
        loop {
            let (point, is_last) = self.quantum();
            points.push(point);
            if is_last {
                break;
            }
        }
        // Of each piece those strictly between its first quantum and its last.
        let mut pieces: HashMap<&str, Vec<usize>> = HashMap::new();
        for (at, point) in points.iter().enumerate() {
            if let Some(member) = point.member {
                let part = self.job.part(point.task);
                assert_eq!(member, self.places[part], "{part}");
                pieces.entry(part).or_default().push(at);
            }
        }
        assert_eq!(pieces.len(), 8, "three transforms and five sums");
        for (part, at) in pieces {
            let inside = at.get(1..at.len() - 1).unwrap_or_default();
            assert!(!inside.is_empty(), "{part} is not cut");
            for &at in inside {
                points[at].is_inside = true;
            }
        }
        points
    }
}

/// Ten thousand times a proof is left in the midst of its work for another one, and taken up by whichever of three threads comes by. The points are
/// drawn from records of undisturbed proofs: nineteen of twenty are strictly between the first and the last quantum of a sum
/// or a transform. All the while proofs move between three devices and back. Each proof that is so left takes the very quanta
/// that the undisturbed one took, so nothing is done twice, and is the same.
#[test]
fn ten_thousand_preemptions_restart_nothing() {
    // Smaller transforms are a quantum or two.
    let (zkey, witness) = material_of(CurveId::Bn254, 12);
    let key = ProvingKey::load(&zkey, cpu()).expect("a good key");
    let still = job(&key, witness.clone());
    run_in_random_order(&still, 1).expect("a good witness");
    let expected = still.proof().expect("it has finished");

    let members = (0..DEVICES).map(|_| Member {
        // Of a transform too there are many.
        device: cut_to(Duration::from_micros(1), |_| ()),
        width: 1,
    });
    let relay = Relay::new(members.collect());
    let key = ProvingKey::load(&zkey, relay.clone()).expect("a good key");
    let begin = |seed| Underway::begin(job(&key, witness.clone()), seed);
    for member in 0..DEVICES {
        // It measures once how finely it cuts.
        relay.allow(1 << member);
        let alone = job(&key, witness.clone());
        run_in_random_order(&alone, 1).expect("a good witness");
        assert_eq!(alone.proof().as_ref(), Some(&expected));
    }
    relay.allow(u64::MAX);
    let records: Vec<Vec<Point>> = (0..SEEDS)
        .map(|seed| {
            let it = begin(seed);
            let job = Arc::clone(&it.job);
            let points = it.record();
            assert_eq!(job.proof().as_ref(), Some(&expected));
            points
        })
        .collect();

    // Of a proof a twelfth of all quanta.
    let draw = |random: &mut ChaCha20Rng, seed: u64| {
        let points = &records[seed as usize];
        let all: Vec<usize> = (0..points.len() - 1).collect();
        let inside = all.iter().copied().filter(|&at| points[at].is_inside);
        let inside: Vec<usize> = inside.collect();
        let mut drawn = HashSet::new();
        while drawn.len() < points.len() / 12 {
            let from = if random.next_u32().is_multiple_of(20) {
                &all
            } else {
                &inside
            };
            drawn.insert(from[random.next_u32() as usize % from.len()]);
        }
        drawn
    };
    let begun = AtomicU64::new(0);
    let anew = |random: &mut ChaCha20Rng| {
        begun.fetch_add(1, Ordering::Relaxed);
        let mut it = begin(u64::from(random.next_u32()) % SEEDS);
        it.left_after = draw(random, it.seed);
        it
    };
    let random = &mut ChaCha20Rng::seed_from_u64(2);
    // Twice as many as threads, so that whoever leaves one finds another.
    let waiting: VecDeque<Underway> = (0..2 * THREADS).map(|_| anew(random)).collect();
    let waiting = Mutex::new(waiting);
    let [left, inside, proofs] = [(); 3].map(|()| AtomicU64::new(0));
    let take = || waiting.lock().expect("no panic").pop_front();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (anew, records, expected) = (&anew, &records, &expected);
            let (waiting, left, inside, proofs, take) = (&waiting, &left, &inside, &proofs, &take);
            scope.spawn(move || {
                let mut random = ChaCha20Rng::seed_from_u64(3 + thread);
                while let Some(mut it) = take() {
                    let record = &records[it.seed as usize];
                    let is_over = loop {
                        let at = it.at;
                        let (point, is_over) = it.quantum();
                        let recorded = record[at];
                        let is_inside = recorded.is_inside;
                        assert_eq!(Point { is_inside, ..point }, recorded, "quantum {at}");
                        if is_over || it.left_after.contains(&at) {
                            if !is_over {
                                left.fetch_add(1, Ordering::Relaxed);
                                inside.fetch_add(u64::from(is_inside), Ordering::Relaxed);
                            }
                            break is_over;
                        }
                    };
                    if is_over {
                        assert_eq!(it.at, record.len());
                        assert_eq!(it.job.proof().as_ref(), Some(expected));
                        proofs.fetch_add(1, Ordering::Relaxed);
                        if left.load(Ordering::Relaxed) >= 10_000 {
                            continue;
                        }
                        it = anew(&mut random);
                    }
                    waiting.lock().expect("no panic").push_back(it);
                }
            });
        }
    });
    let [left, inside, proofs] = [left, inside, proofs].map(AtomicU64::into_inner);
    assert!(left >= 10_000, "{left}");
    assert!(inside * 10 >= left * 9, "{inside} of {left}");
    // How many there are depends on how finely this machine cuts them.
    assert_eq!(proofs, begun.into_inner());
    assert_eq!(relay.health().fallen_back, 0);
}

const DEVICES: u32 = 3;
const THREADS: u64 = 3;
/// So many proofs are recorded, each with an order and places of its own.
const SEEDS: u64 = 8;
