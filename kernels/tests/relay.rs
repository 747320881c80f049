//! Several devices as one: whatever moves and whatever is lost, what comes out is right.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::curve::{Affine, Bn254, Curve, Projective};
use caldera_kernels::relay::{Member, Price, Relay};
use caldera_kernels::{
    Around, BasesId, CurveId, Device, DeviceError, DeviceInfo, Form, Group, Health, MatrixId,
    Original, Plan, Progress, Site, Transform, VectorId, Work, forfeited,
};

fn cpu(lanes: usize) -> Arc<CpuDevice> {
    CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(200),
        lanes,
    })
}

fn alone(device: Arc<dyn Device>) -> Member {
    Member { device, width: 1 }
}

/// A seed is a test; shared by threads.
struct Random(AtomicU64);

impl Random {
    fn next(&self) -> u64 {
        // SplitMix64.
        let step = 0x9e37_79b9_7f4a_7c15;
        let mut x = self.0.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

/// Which kernels have run, on the device of so many lanes.
type Seen = Arc<Mutex<BTreeSet<(usize, &'static str)>>>;

/// Three devices that cut differently, and before every quantum of one it is drawn which of them
/// may begin what comes next.
fn restless(seed: u64, seen: &Seen) -> Arc<Relay> {
    let relay: Arc<OnceLock<Weak<Relay>>> = Arc::default();
    let random = Arc::new(Random(AtomicU64::new(seed)));
    let member = |lanes: usize| {
        let (relay, random) = (Arc::clone(&relay), Arc::clone(&random));
        let seen = Arc::clone(seen);
        let draw = move |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
            seen.lock().unwrap().insert((lanes, kernel));
            if let Some(relay) = relay.get().and_then(Weak::upgrade) {
                relay.allow(1 << (random.next() % 3));
            }
            quantum()
        };
        alone(Around::new(cpu(lanes), Arc::new(draw)))
    };
    let whole = Relay::new(vec![member(1), member(3), member(2)]);
    assert!(relay.set(Arc::downgrade(&whole)).is_ok());
    whole
}

#[test]
fn it_conforms_while_work_moves_all_the_time() {
    for (curve, seed) in [(CurveId::Bn254, 1), (CurveId::Bls12_381, 2)] {
        let seen = Seen::default();
        let relay = restless(seed, &seen);
        if let Err(failure) = run(&*relay, curve, Effort::Quick, seed) {
            panic!("{curve:?}, seed {seed}: {failure}");
        }
        for lanes in 1..=3 {
            for kernel in [
                "spmv.product",
                "vector.multiply",
                "ntt.shift",
                "msm.accumulate",
            ] {
                let is_seen = seen.lock().unwrap().contains(&(lanes, kernel));
                assert!(is_seen, "{kernel} never went to the one of {lanes} lanes");
            }
        }
        assert_eq!(relay.health().lost, None);
    }
}

/// A device that is lost at the end of its quantum with this number, counted from 0 and from `start` on.
struct Mortal {
    device: Arc<dyn Device>,
    left: Arc<AtomicUsize>,
    /// Nanoseconds of its quanta, that last one among them.
    spent: Arc<AtomicU64>,
}

impl Mortal {
    fn new() -> Mortal {
        Mortal::of(cpu(2))
    }

    fn of(device: Arc<CpuDevice>) -> Mortal {
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let spent = Arc::new(AtomicU64::new(0));
        let (count, sum) = (Arc::clone(&left), Arc::clone(&spent));
        let die = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
            let before = count.load(Ordering::Relaxed);
            count.store(before.saturating_sub(1), Ordering::Relaxed);
            let began = Instant::now();
            let done = quantum();
            let nanoseconds = began.elapsed().as_nanos() as u64;
            sum.fetch_add(nanoseconds, Ordering::Relaxed);
            match before {
                0 => Err(DeviceError::Lost {
                    device: "mortal".into(),
                    why: "its time had come".into(),
                }),
                _ => done,
            }
        };
        Mortal {
            device: Around::new(device, Arc::new(die)),
            left,
            spent,
        }
    }

    fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Ordering::Relaxed))
    }

    fn start(&self, quanta: usize) {
        self.left.store(quanta, Ordering::Relaxed);
    }
}

/// Runs a plan's lanes in turn, a quantum each; how many quanta it were.
fn finish(plan: &dyn Plan) -> Result<usize, DeviceError> {
    let mut quanta = 0;
    for stage in 0..plan.stages() {
        let mut lanes: Vec<usize> = (0..plan.open(stage)?).collect();
        while let Some(lane) = lanes.pop() {
            quanta += 1;
            if plan.run(stage, lane)? == Progress::More {
                lanes.insert(0, lane);
            }
        }
    }
    Ok(quanta)
}

fn points(count: usize) -> Bytes {
    let size = Affine::<<Bn254 as Curve>::Fq>::BYTES;
    let mut bytes = vec![0; count * size];
    let mut sum = Projective::<<Bn254 as Curve>::Fq>::INFINITY;
    for point in bytes.chunks_mut(size) {
        sum = sum.add_affine(&Bn254::g1());
        sum.to_affine().to_bytes(point);
    }
    Bytes::from(bytes)
}

fn scalars(count: usize, seed: u64) -> Vec<u8> {
    let random = Random(AtomicU64::new(seed));
    let mut bytes: Vec<u8> = (0..4 * count)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    for scalar in bytes.chunks_mut(32) {
        // Below the modulus.
        scalar[31] &= 0x1f;
    }
    bytes
}

const COUNT: usize = 3000;

/// The sum on a device, however many quanta it takes there.
fn sum(device: &dyn Device) -> Result<(Vec<u8>, usize), DeviceError> {
    let bases = device.bases(CurveId::Bn254, Group::G1, points(COUNT))?;
    let vector = device.vector(CurveId::Bn254, COUNT)?;
    device.vector_write(vector, 0, &scalars(COUNT, 5))?;
    let plan = device.plan(&Work::Msm {
        bases,
        scalars: vector,
        offset: 0,
        form: Form::Canonical,
    })?;
    device.vector_free(vector);
    device.bases_free(bases);
    let quanta = finish(&*plan)?;
    Ok((plan.point().expect("a sum"), quanta))
}

/// Lost at each of its quanta in turn: the sum is always the same.
#[test]
fn a_sum_whose_device_is_lost_begins_again_elsewhere() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    // One device behind all of them: it has measured once how finely it cuts, and cuts every sum
    // into as many quanta.
    let immortal = CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(100),
        lanes: 2,
    });
    let around = |mortal: &Mortal| {
        let relay = Relay::new(vec![alone(cpu(1)), alone(mortal.device.clone())]);
        relay.allow(0b10);
        relay
    };
    let relay = around(&Mortal::of(immortal.clone()));
    let (undisturbed, quanta) = sum(&*relay).unwrap();
    assert_eq!(undisturbed, expected);
    assert_eq!(relay.health().fallen_back, 0);
    // Two quanta are the relay's own copies.
    let own = quanta - 2;
    assert!(own > 10, "{own}");
    for quantum in 0..own {
        let mortal = Mortal::of(immortal.clone());
        let relay = around(&mortal);
        mortal.start(quantum);
        assert_eq!(forfeited(), Duration::ZERO);
        let began = Instant::now();
        let (point, _) = sum(&*relay).unwrap_or_else(|error| panic!("{quantum}: {error}"));
        assert_eq!(point, expected, "lost at quantum {quantum}");
        // What it had done is done again: all of it is forfeited, and only that, and once.
        let void = forfeited();
        assert!(void >= mortal.spent(), "{void:?} of {:?}", mortal.spent());
        assert!(void <= began.elapsed(), "{void:?}");
        assert!(
            relay.health().lost.is_some(),
            "not lost at {quantum} of {own}"
        );
        assert_eq!(relay.health().fallen_back, 1, "lost at quantum {quantum}");
        // It is not asked again, though nothing else is allowed.
        assert_eq!(sum(&*relay).unwrap().0, expected);
        assert_eq!(forfeited(), Duration::ZERO);
    }
}

/// What it had copied from another device is copied again to the one that takes over.
#[test]
fn a_sum_of_what_another_device_made_begins_again_on_a_third() {
    let run = |relay: &Relay, mortal: Option<&Mortal>| {
        let vector = |seed| {
            let id = relay.vector(CurveId::Bn254, COUNT).unwrap();
            relay.vector_write(id, 0, &scalars(COUNT, seed)).unwrap();
            id
        };
        let (a, b, out) = (vector(9), vector(10), vector(11));
        let bases = relay
            .bases(CurveId::Bn254, Group::G1, points(COUNT))
            .unwrap();
        relay.allow(0b010);
        finish(&*relay.plan(&Work::Multiply { a, b, out }).unwrap()).unwrap();
        relay.allow(0b100);
        let plan = relay.plan(&Work::Msm {
            bases,
            scalars: out,
            offset: 0,
            form: Form::Montgomery,
        });
        let plan = plan.unwrap();
        plan.open(0).unwrap();
        while plan.run(0, 0).unwrap() == Progress::More {}
        // It is on the third device now; what comes next may only be on the first.
        relay.allow(0b001);
        if let Some(mortal) = mortal {
            mortal.start(3);
        }
        for stage in 1..plan.stages() {
            for lane in 0..plan.open(stage).unwrap() {
                while plan.run(stage, lane).unwrap() == Progress::More {}
            }
        }
        plan.point().expect("a sum")
    };
    let three =
        |third: Arc<dyn Device>| Relay::new(vec![alone(cpu(1)), alone(cpu(1)), alone(third)]);
    let still = three(cpu(1));
    let expected = run(&still, None);
    assert_eq!(still.health().fallen_back, 0);
    let mortal = Mortal::new();
    let relay = three(mortal.device.clone());
    assert_eq!(run(&relay, Some(&mortal)), expected);
    assert_eq!(relay.health().fallen_back, 1);
}

/// A transform of what was written, on one device; how many quanta it takes.
fn transform(device: &dyn Device, input: &[u8]) -> Result<(Vec<u8>, usize), DeviceError> {
    let vector = device.vector(CurveId::Bn254, input.len() / 32)?;
    device.vector_write(vector, 0, input)?;
    let transform = Transform::Shift;
    let quanta = finish(&*device.plan(&Work::Ntt { vector, transform })?)?;
    let mut output = vec![0; input.len()];
    device.vector_read(vector, 0, &mut output)?;
    Ok((output, quanta))
}

/// The danger: it works in place, and half of it is done. Lost at each of its quanta in turn, it begins again elsewhere from what
/// was copied to the device.
#[test]
fn a_transform_whose_device_is_lost_begins_again_elsewhere() {
    let input = scalars(1 << 12, 6);
    let (expected, _) = transform(&*cpu(1), &input).unwrap();
    // It has measured once how finely it cuts.
    let immortal = CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(50),
        lanes: 2,
    });
    let around = |mortal: &Mortal, third: Arc<dyn Device>| {
        let members = [cpu(1), mortal.device.clone(), third];
        let relay = Relay::new(members.map(alone).into());
        // Of two that nobody knows the first; then the other.
        relay.allow(0b110);
        relay
    };
    let mortal = Mortal::of(immortal.clone());
    let relay = around(&mortal, cpu(1));
    mortal.start(1 << 20);
    assert_eq!(transform(&*relay, &input).unwrap().0, expected);
    let own = (1 << 20) - mortal.left.load(Ordering::Relaxed);
    assert!(own > 10, "{own}");
    for quantum in 0..own {
        let mortal = Mortal::of(immortal.clone());
        let second = Mortal::new();
        let relay = around(&mortal, second.device.clone());
        mortal.start(quantum);
        // Every other time the one that takes over is lost too.
        if quantum % 2 == 1 {
            second.start(quantum % 3);
        }
        assert_eq!(forfeited(), Duration::ZERO);
        let (output, _) =
            transform(&*relay, &input).unwrap_or_else(|error| panic!("{quantum}: {error}"));
        assert!(output == expected, "lost at quantum {quantum}");
        assert!(forfeited() >= mortal.spent());
        assert!(relay.is_lost(1), "not lost at {quantum} of {own}");
        assert_eq!(relay.is_lost(2), quantum % 2 == 1, "{quantum}");
        let fallen_back = 1 + quantum as u64 % 2;
        assert_eq!(relay.health().fallen_back, fallen_back, "{quantum}");
    }
}

/// It has ended on the device and nobody has fetched what it made: it is made again by whoever asks for it, for two sums at once
/// too, and once.
#[test]
fn a_transform_that_ended_on_a_lost_device_is_done_again_when_it_is_asked_for() {
    let input = scalars(1 << 11, 6);
    let (expected, _) = transform(&*cpu(1), &input).unwrap();
    let host = cpu(1);
    let sum_of = |device: &dyn Device, vector, bases| {
        let plan = device.plan(&Work::Msm {
            bases,
            scalars: vector,
            offset: 0,
            form: Form::Montgomery,
        });
        plan.unwrap()
    };
    let summed = {
        let vector = host.vector(CurveId::Bn254, 1 << 11).unwrap();
        host.vector_write(vector, 0, &expected).unwrap();
        let bases = host.bases(CurveId::Bn254, Group::G1, points(1 << 11));
        let plan = sum_of(&*host, vector, bases.unwrap());
        finish(&*plan).unwrap();
        plan.point()
    };
    for way in ["read", "write", "sum"] {
        let mortal = Mortal::new();
        let relay = Relay::new([cpu(1), mortal.device.clone()].map(alone).into());
        let bases = relay.bases(CurveId::Bn254, Group::G1, points(1 << 11));
        let bases = bases.unwrap();
        relay.allow(0b10);
        let vector = relay.vector(CurveId::Bn254, 1 << 11).unwrap();
        relay.vector_write(vector, 0, &input).unwrap();
        let transform = Transform::Shift;
        finish(&*relay.plan(&Work::Ntt { vector, transform }).unwrap()).unwrap();
        mortal.start(0);
        sum(&*relay).unwrap();
        assert!(relay.is_lost(1));
        let fallen_back = relay.health().fallen_back;
        let mut expected = expected.clone();
        match way {
            "write" => {
                relay.vector_write(vector, 5, &[7; 32]).unwrap();
                expected[160..192].fill(7);
            }
            "sum" => {
                let plans = [(); 2].map(|()| sum_of(&*relay, vector, bases));
                // Quanta of both in turn.
                let mut left: Vec<_> = plans.iter().collect();
                left.iter().for_each(|plan| assert_eq!(plan.open(0), Ok(1)));
                while !left.is_empty() {
                    left.retain(|plan| plan.run(0, 0).unwrap() == Progress::More);
                }
                for plan in &plans {
                    for stage in 1..plan.stages() {
                        for lane in 0..plan.open(stage).unwrap() {
                            while plan.run(stage, lane).unwrap() == Progress::More {}
                        }
                    }
                    assert_eq!(plan.point(), summed);
                }
            }
            _ => {}
        }
        let mut output = vec![0; expected.len()];
        relay.vector_read(vector, 0, &mut output).unwrap();
        assert!(output == expected, "{way}");
        assert_eq!(relay.health().fallen_back, fallen_back + 1, "{way}");
    }
}

/// What was made on the lost device alone, one step upon another, cannot begin again, and no other device is to blame for that; what
/// comes later can be done without it.
#[test]
fn what_only_a_lost_device_had_is_gone_and_says_so() {
    let mortal = Mortal::new();
    let members = [cpu(1), mortal.device.clone(), cpu(1)];
    let relay = Relay::new(members.map(alone).into());
    let input = scalars(1024, 6);
    let written = || {
        let id = relay.vector(CurveId::Bn254, 1024).unwrap();
        relay.vector_write(id, 0, &input).unwrap();
        id
    };
    let (a, b, vector) = (written(), written(), written());
    let work = Work::Ntt {
        vector,
        transform: Transform::Shift,
    };
    let is_lost = |result: Result<(), DeviceError>| {
        assert!(
            matches!(result, Err(DeviceError::Lost { .. })),
            "{result:?}"
        );
    };
    relay.allow(0b010);
    finish(&*relay.plan(&Work::Multiply { a, b, out: vector }).unwrap()).unwrap();
    mortal.start(0);
    is_lost(finish(&*relay.plan(&work).unwrap()).map(|_| ()));
    assert!(relay.is_lost(1));
    let mut output = vec![0; input.len()];
    is_lost(relay.vector_read(vector, 0, &mut output));
    is_lost(relay.vector_write(vector, 1, &input[..32]));
    relay.allow(0b100);
    is_lost(finish(&*relay.plan(&work).unwrap()).map(|_| ()));
    assert!(!relay.is_lost(2));

    relay.vector_write(vector, 0, &input).unwrap();
    finish(&*relay.plan(&work).unwrap()).unwrap();
    relay.vector_read(vector, 0, &mut output).unwrap();
    assert!(output == transform(&*cpu(1), &input).unwrap().0);
}

/// The danger: its device is lost while the result of a transform is fetched, which overwrites the copy that it was made from. What is half the one
/// and half the other is never used; who has an old copy that is whole makes it again.
#[test]
fn a_result_that_was_half_fetched_is_not_made_again_from_what_it_overwrote() {
    const LONG: usize = 1 << 17;
    let input = scalars(LONG, 6);
    let (expected, _) = transform(&*cpu(1), &input).unwrap();
    // It is fetched by the host, which had the old copy, or by a third one.
    for fetches in [0, 2] {
        let mortal = Mortal::new();
        let relay = Relay::new([cpu(1), mortal.device.clone(), cpu(1)].map(alone).into());
        let written = || {
            let id = relay.vector(CurveId::Bn254, LONG).unwrap();
            relay.vector_write(id, 0, &input).unwrap();
            id
        };
        let (vector, out) = (written(), written());
        relay.allow(0b10);
        let transform = Transform::Shift;
        finish(&*relay.plan(&Work::Ntt { vector, transform }).unwrap()).unwrap();
        let work = Work::Multiply {
            a: vector,
            b: vector,
            out,
        };
        let plan = relay.plan(&work).unwrap();
        relay.allow(1 << fetches);
        plan.open(0).unwrap();
        assert_eq!(plan.run(0, 0), Ok(Progress::More));
        mortal.start(0);
        relay.allow(0b10);
        sum(&*relay).unwrap();
        assert!(relay.is_lost(1));
        let last = loop {
            match plan.run(0, 0) {
                Ok(Progress::More) => {}
                other => break other,
            }
        };
        let mut output = vec![0; input.len()];
        let read = relay.vector_read(vector, 0, &mut output);
        if fetches == 0 {
            assert!(matches!(last, Err(DeviceError::Lost { .. })), "{last:?}");
            assert!(matches!(read, Err(DeviceError::Lost { .. })), "{read:?}");
        } else {
            assert_eq!((last, read), (Ok(Progress::Done), Ok(())));
            assert!(output == expected);
        }
    }
}

/// A sum that begins again on a device that has not got what it reads, and cannot get it: that one is not to blame.
#[test]
fn a_device_that_takes_over_is_not_lost_with_what_it_lacks() {
    let mortals = [Mortal::new(), Mortal::new()];
    let [first, second] = mortals.each_ref().map(|it| it.device.clone());
    let relay = Relay::new([cpu(1), first, second, cpu(1)].map(alone).into());
    let written = |seed| {
        let id = relay.vector(CurveId::Bn254, COUNT).unwrap();
        relay.vector_write(id, 0, &scalars(COUNT, seed)).unwrap();
        id
    };
    let (a, b, out) = (written(9), written(10), written(11));
    let bases = relay.bases(CurveId::Bn254, Group::G1, points(COUNT));
    relay.allow(0b0010);
    finish(&*relay.plan(&Work::Multiply { a, b, out }).unwrap()).unwrap();
    relay.allow(0b0100);
    let plan = relay.plan(&Work::Msm {
        bases: bases.unwrap(),
        scalars: out,
        offset: 0,
        form: Form::Montgomery,
    });
    let plan = plan.unwrap();
    plan.open(0).unwrap();
    while plan.run(0, 0).unwrap() == Progress::More {}
    // The one that made it is lost, and then the one that it was copied to.
    mortals[0].start(0);
    relay.allow(0b0010);
    sum(&*relay).unwrap();
    mortals[1].start(0);
    relay.allow(0b1000);
    plan.open(1).unwrap();
    let error = loop {
        match plan.run(1, 0) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, DeviceError::Lost { .. }), "{error}");
    assert_eq!([1, 2, 3].map(|it| relay.is_lost(it)), [true, true, false]);
}

/// A part of a vector can be written wherever the rest of it is.
#[test]
fn a_part_of_a_vector_is_written_where_the_rest_is() {
    let relay = Relay::new(vec![alone(cpu(1)), alone(cpu(1))]);
    relay.allow(0b10);
    let vector = |bytes: &[u8]| {
        let id = relay.vector(CurveId::Bn254, 64).unwrap();
        relay.vector_write(id, 0, bytes).unwrap();
        id
    };
    let (a, b) = (vector(&scalars(64, 7)), vector(&scalars(64, 8)));
    let out = relay.vector(CurveId::Bn254, 64).unwrap();
    finish(&*relay.plan(&Work::Multiply { a, b, out }).unwrap()).unwrap();
    let mut products = vec![0; 64 * 32];
    relay.vector_read(out, 0, &mut products).unwrap();
    relay.vector_write(out, 3, &[7; 32]).unwrap();
    products[96..128].fill(7);
    let mut found = vec![0; 64 * 32];
    relay.vector_read(out, 0, &mut found).unwrap();
    assert_eq!(found, products);
}

/// Once both are known, work goes to the one that is quicker, unless only the other may.
#[test]
fn work_goes_where_it_is_quicker() {
    let counted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&counted);
    let slow = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        count.fetch_add(1, Ordering::Relaxed);
        // As if its silicon were many times slower.
        for _ in 0..4 {
            std::hint::black_box(sum(&*cpu(1)).is_ok());
        }
        quantum()
    };
    let relay = Relay::new(vec![
        alone(cpu(1)),
        alone(Around::new(cpu(1), Arc::new(slow))),
    ]);
    // Each is tried, for what was never tried costs nothing, and once more, for the first time does not count.
    for _ in 0..4 {
        sum(&*relay).unwrap();
    }
    let tried = counted.load(Ordering::Relaxed);
    assert!(tried > 0);
    for _ in 0..3 {
        sum(&*relay).unwrap();
    }
    assert_eq!(counted.load(Ordering::Relaxed), tried);
    relay.allow(0b10);
    sum(&*relay).unwrap();
    assert!(counted.load(Ordering::Relaxed) > tried);
}

/// Who plans a piece of work for somebody says where it may be done, whatever others may; who runs it
/// learns for whom its lanes are, until that one is lost.
#[test]
fn a_piece_of_work_goes_where_it_may_and_says_where_that_is() {
    let mortal = Mortal::new();
    let relay = Relay::new(vec![alone(cpu(1)), alone(mortal.device.clone())]);
    assert_eq!(relay.beside().len(), 1);
    assert!(!relay.is_lost(0) && !relay.is_lost(1));
    let vector = |seed| {
        let id = relay.vector(CurveId::Bn254, COUNT).unwrap();
        relay.vector_write(id, 0, &scalars(COUNT, seed)).unwrap();
        id
    };
    let (a, b, out) = (vector(9), vector(10), vector(11));
    let plan = |members| {
        let plan = relay.plan(&Work::Multiply { a, b, out }).unwrap();
        plan.allow(members);
        plan.open(0).unwrap();
        assert_eq!(plan.member(0), 0, "copies are the host's");
        while plan.run(0, 0).unwrap() == Progress::More {}
        plan
    };
    for member in [1, 0, 1] {
        let plan = plan(1 << member);
        // It has begun: what is allowed now is for others.
        plan.allow(1 << (1 - member));
        for lane in 0..plan.open(1).unwrap() {
            assert_eq!(plan.member(1), member);
            while plan.run(1, lane).unwrap() == Progress::More {}
        }
    }
    let last = plan(0b10);
    mortal.start(0);
    last.open(1).unwrap();
    assert_eq!(last.member(1), 1);
    // Its first quantum is its last there.
    while last.run(1, 0).unwrap() == Progress::More {}
    assert!(relay.is_lost(1));
    assert_eq!(last.member(1), 0);
}

/// How many sets of points and pairs of matrices a device knows.
fn known(device: &CpuDevice) -> usize {
    let points = |id: &u64| device.tables_bytes(BasesId(*id)).is_ok();
    (0..100_000).filter(points).count()
}

/// A sum in quanta, one lane after another, before one of which something is done; how many there were.
fn interrupted(plan: &dyn Plan, at: usize, mut act: impl FnMut()) -> usize {
    let mut quanta = 0;
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage).unwrap() {
            loop {
                if quanta == at {
                    act();
                }
                quanta += 1;
                if plan.run(stage, lane).unwrap() == Progress::Done {
                    break;
                }
            }
        }
    }
    quanta
}

/// The danger: a device's memory is wanted for somebody else while a sum runs there. Given up before each of its
/// quanta in turn: the sum is always the same, the points are there as long as it needs them, and then
/// they are gone, though the plan is kept.
#[test]
fn a_copy_may_be_given_up_before_any_quantum_of_a_sum() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let second = cpu(2);
    let relay = Relay::new(vec![alone(cpu(1)), alone(second.clone())]);
    relay.allow(0b10);
    let points = points(COUNT);
    let bytes = points.len();
    let bases = relay.bases(CurveId::Bn254, Group::G1, points).unwrap();
    let of = Original::Bases(bases);
    let vector = relay.vector(CurveId::Bn254, COUNT).unwrap();
    relay.vector_write(vector, 0, &scalars(COUNT, 5)).unwrap();
    let plan = || {
        let work = Work::Msm {
            bases,
            scalars: vector,
            offset: 0,
            form: Form::Canonical,
        };
        relay.plan(&work).unwrap()
    };
    let quanta = interrupted(&*plan(), usize::MAX, || ());
    assert!(quanta > 10, "{quanta}");
    // A slow machine cuts finely.
    for at in (0..=quanta).step_by(quanta / 100 + 1) {
        assert_eq!((relay.copy_bytes(1, of), known(&second)), (bytes, 1));
        let (plan, waiting) = (plan(), plan());
        interrupted(&*plan, at, || {
            relay.copy_free(1, of);
            // The one that had not begun there has let it go.
            let left = if at == 0 { 0 } else { bytes };
            assert_eq!(relay.copy_bytes(1, of), left, "before quantum {at}");
        });
        assert_eq!(plan.point().as_ref(), Some(&expected), "quantum {at}");
        relay.copy_free(1, of);
        assert_eq!((relay.copy_bytes(1, of), known(&second)), (0, 0));
        assert_eq!(plan.point().as_ref(), Some(&expected), "quantum {at}");
        // It was laid out while the copy was there.
        finish(&*waiting).unwrap();
        assert_eq!(waiting.point().as_ref(), Some(&expected), "quantum {at}");
        assert_eq!(known(&second), 0, "the host has made it");
        relay.copy(1, of).unwrap();
    }
    // The host's stays whatever is asked, and what nobody knows has no copies.
    relay.copy_free(0, of);
    assert_eq!(relay.copy_bytes(0, of), bytes);
    assert_eq!(relay.copy_bytes(2, of), 0);
    let nothing = Original::Matrix(MatrixId(u64::MAX));
    assert_eq!(relay.copy_bytes(1, nothing), 0);
    relay.copy_free(1, nothing);
    assert!(matches!(
        relay.copy(1, nothing),
        Err(DeviceError::Unknown { what: "matrix", .. })
    ));
    relay.bases_free(bases);
    assert_eq!((relay.copy_bytes(1, of), known(&second)), (0, 0));
}

/// The danger: a device keeps memory that somebody else was told is free, or sums with what is gone.
#[test]
fn tables_of_a_copy_are_its_members_alone_and_go_with_it() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let second = cpu(2);
    let relay = Relay::new(vec![alone(cpu(1)), alone(second.clone())]);
    relay.allow(0b10);
    let points = points(COUNT);
    let bytes = points.len();
    let bases = relay.bases(CurveId::Bn254, Group::G1, points).unwrap();
    let of = Original::Bases(bases);
    let vector = relay.vector(CurveId::Bn254, COUNT).unwrap();
    relay.vector_write(vector, 0, &scalars(COUNT, 5)).unwrap();
    let plan = || sum_from(0, &*relay, vector, bases);
    let is_right = |plan: Arc<dyn Plan>| {
        finish(&*plan).unwrap();
        assert_eq!(plan.point().as_ref(), Some(&expected));
    };
    let make = || {
        let tables = relay.copy_tables(1, &[bases], 4 * bytes).unwrap();
        assert!((0..tables.stages()).all(|stage| tables.member(stage) == 1));
        finish(&*tables).unwrap();
        relay.copy_tables_bytes(1, bases)
    };
    let unplanned = plan();
    let took = make();
    assert!(0 < took && took <= 4 * bytes, "{took} of {bytes}");
    assert_eq!(
        relay.tables_bytes(bases),
        Ok(0),
        "the host's are made by Work::Tables"
    );
    assert_eq!(
        relay.copy_bytes(1, of),
        bytes,
        "they are no part of the copy"
    );
    let planned = plan();
    is_right(unplanned);
    is_right(plan());
    relay.copy_tables_free(1, bases);
    assert_eq!(relay.copy_tables_bytes(1, bases), 0);
    is_right(planned);
    is_right(plan());

    assert_eq!(make(), took);
    relay.copy_free(1, of);
    assert_eq!((relay.copy_bytes(1, of), known(&second)), (0, 0));
    assert_eq!(relay.copy_tables_bytes(1, bases), 0);
    relay.copy(1, of).unwrap();
    assert_eq!(relay.copy_tables_bytes(1, bases), 0, "the copy is another");

    // Work like any other: what it is done with stays until it is dropped.
    let tables = relay.copy_tables(1, &[bases], bytes).unwrap();
    relay.copy_free(1, of);
    assert_eq!((relay.copy_bytes(1, of), known(&second)), (bytes, 1));
    finish(&*tables).unwrap();
    drop(tables);
    relay.copy_free(1, of);
    assert_eq!((relay.copy_bytes(1, of), known(&second)), (0, 0));

    // Where there is no copy, no member or no such points.
    let refused = |member, id| relay.copy_tables(member, &[id], bytes).err().unwrap();
    assert!(matches!(refused(1, bases), DeviceError::Unfit { .. }));
    assert!(matches!(refused(2, bases), DeviceError::Lost { .. }));
    let nothing = BasesId(u64::MAX);
    assert!(matches!(
        refused(1, nothing),
        DeviceError::Unknown { what: "bases", .. }
    ));
    for (member, id) in [(1, bases), (2, bases), (1, nothing)] {
        assert_eq!(relay.copy_tables_bytes(member, id), 0);
        relay.copy_tables_free(member, id);
    }
}

/// Nobody makes them in its place.
#[test]
fn a_device_that_is_lost_while_tables_are_made_is_lost_to_all() {
    let mortal = Mortal::new();
    let relay = Relay::new(vec![alone(cpu(1)), alone(mortal.device.clone())]);
    let bases = relay
        .bases(CurveId::Bn254, Group::G1, points(COUNT))
        .unwrap();
    let make = || {
        relay
            .copy_tables(1, &[bases], 1 << 20)
            .and_then(|plan| finish(&*plan))
    };
    mortal.start(0);
    assert!(matches!(make(), Err(DeviceError::Lost { .. })));
    assert!(relay.is_lost(1));
    let spent = mortal.spent();
    assert!(matches!(make(), Err(DeviceError::Lost { .. })));
    assert_eq!(mortal.spent(), spent, "it is not asked again");
    assert!(sum(&*relay).is_ok());
}

/// One thread takes the copy away and brings it back all the time, others sum.
#[test]
fn sums_are_right_while_a_copy_comes_and_goes() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let relay = Relay::new(vec![alone(cpu(1)), alone(cpu(2))]);
    relay.allow(0b10);
    let bases = relay
        .bases(CurveId::Bn254, Group::G1, points(COUNT))
        .unwrap();
    std::thread::scope(|scope| {
        let sums = [(); 2].map(|()| {
            scope.spawn(|| {
                for _ in 0..20 {
                    let vector = relay.vector(CurveId::Bn254, COUNT).unwrap();
                    relay.vector_write(vector, 0, &scalars(COUNT, 5)).unwrap();
                    let work = Work::Msm {
                        bases,
                        scalars: vector,
                        offset: 0,
                        form: Form::Canonical,
                    };
                    let plan = relay.plan(&work).unwrap();
                    finish(&*plan).unwrap();
                    assert_eq!(plan.point().as_ref(), Some(&expected));
                    relay.vector_free(vector);
                }
            })
        });
        // Over too if one of them has failed.
        while sums.iter().any(|sum| !sum.is_finished()) {
            relay.copy_free(1, Original::Bases(bases));
            relay.copy(1, Original::Bases(bases)).unwrap();
        }
    });
}

#[test]
fn a_member_says_where_it_lies() {
    let site = Site {
        memory: Some(1 << 30),
        pci: Some("0000:3b:00.0".into()),
        uuid: None,
    };
    let plain = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
    let second = Around::at(site.clone(), cpu(1), Arc::new(plain));
    let relay = Relay::new(vec![alone(cpu(1)), alone(second)]);
    assert_eq!(relay.site(0), Site::default());
    assert_eq!(relay.site(1), site);
    assert_eq!(relay.site(2), Site::default());
}

/// A plan and those beside it, a quantum after another of any of them; how many there were. `before` is told how many there
/// have been.
fn carry(
    plan: &Arc<dyn Plan>,
    random: &Random,
    before: &mut dyn FnMut(usize),
) -> Result<usize, DeviceError> {
    struct Underway {
        plan: Arc<dyn Plan>,
        stage: usize,
        lanes: Vec<usize>,
    }
    let open = |plan: Arc<dyn Plan>| {
        let lanes = (0..plan.open(0)?).collect();
        let stage = 0;
        Ok::<_, DeviceError>(Underway { plan, stage, lanes })
    };
    let beside = Arc::clone(plan).beside();
    let all = std::iter::once(Arc::clone(plan)).chain(beside);
    let mut underway: Vec<Underway> = all.map(open).collect::<Result<_, _>>()?;
    let mut quanta = 0;
    while !underway.is_empty() {
        let at = random.next() as usize % underway.len();
        let it = &mut underway[at];
        let lane = random.next() as usize % it.lanes.len();
        before(quanta);
        quanta += 1;
        if it.plan.run(it.stage, it.lanes[lane])? == Progress::More {
            continue;
        }
        it.lanes.swap_remove(lane);
        if it.lanes.is_empty() {
            it.stage += 1;
            if it.stage < it.plan.stages() {
                it.lanes = (0..it.plan.open(it.stage)?).collect();
            } else {
                underway.swap_remove(at);
            }
        }
    }
    Ok(quanta)
}

/// What sums in G1 and G2 are to be taken to cost: so many nanoseconds a point.
fn believe(relay: &Relay, each: &[u64]) {
    let mut prices = Vec::new();
    for (member, each) in each.iter().enumerate() {
        for kind in ["msm-g1", "msm-g2"] {
            for log2 in 0..16 {
                prices.push(Price {
                    member,
                    kind,
                    curve: CurveId::Bn254,
                    log2,
                    nanoseconds: (each << log2).max(1),
                });
            }
        }
        if member > 0 {
            prices.push(Price {
                member,
                kind: "copy",
                curve: CurveId::Bn254,
                log2: 12,
                nanoseconds: 1,
            });
        }
    }
    relay.believe(&prices);
}

/// A sum laid out on a relay, over so many points.
fn laid_out(relay: &Relay, count: usize) -> (Arc<dyn Plan>, BasesId) {
    let bases = relay
        .bases(CurveId::Bn254, Group::G1, points(count))
        .unwrap();
    let vector = relay.vector(CurveId::Bn254, count).unwrap();
    relay.vector_write(vector, 0, &scalars(count, 5)).unwrap();
    let work = Work::Msm {
        bases,
        scalars: vector,
        offset: 0,
        form: Form::Canonical,
    };
    let plan = relay.plan(&work).unwrap();
    relay.vector_free(vector);
    (plan, bases)
}

/// A device that counts its quanta.
fn counted() -> (Arc<dyn Device>, Arc<AtomicUsize>) {
    let quanta = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&quanta);
    let counting = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        count.fetch_add(1, Ordering::Relaxed);
        quantum()
    };
    (Around::new(cpu(2), Arc::new(counting)), quanta)
}

/// Whatever members cost and whoever of them may, all quanta in any order.
#[test]
fn a_sum_that_is_shared_is_the_same_sum() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let members = [counted(), counted(), counted()];
    let relay = Relay::new(members.iter().map(|it| alone(it.0.clone())).collect());
    let mut shared = [0; 4];
    for seed in 0..60 {
        let random = Random(AtomicU64::new(seed));
        let each = [(); 3].map(|()| 1 << (random.next() % 2 * 10));
        let allowed = 1 + random.next() % 7;
        for (_, quanta) in &members {
            quanta.store(0, Ordering::Relaxed);
        }
        believe(&relay, &each);
        relay.allow(allowed);
        let (plan, bases) = laid_out(&relay, COUNT);
        carry(&plan, &random, &mut |_| ()).unwrap();
        assert_eq!(plan.point().as_ref(), Some(&expected), "seed {seed}");
        relay.bases_free(bases);
        let worked = |at: usize| members[at].1.load(Ordering::Relaxed) > 0;
        for at in 0..3 {
            let may = allowed >> at & 1 == 1;
            // Another that is as cheap takes a share, and has one.
            let cheapest = (0..3)
                .filter(|it| allowed >> it & 1 == 1)
                .map(|it| each[it])
                .min();
            let is_cheapest = Some(each[at]) == cheapest;
            assert_eq!(
                worked(at),
                may && is_cheapest,
                "seed {seed}: {at} of {each:?}"
            );
        }
        shared[(0..3).filter(|&at| worked(at)).count()] += 1;
    }
    assert!(
        shared[1] > 0 && shared[2] > 0 && shared[3] > 0,
        "{shared:?}"
    );
    assert_eq!(relay.health().fallen_back, 0);
}

#[test]
fn a_sum_stays_whole_where_sharing_does_not_pay() {
    let members = [counted(), counted()];
    let relay = Relay::new(members.iter().map(|it| alone(it.0.clone())).collect());
    // Too few points; a member that nobody knows; nobody who carries parts forward.
    for (count, each, beside) in [
        (500, &[1000, 1000][..], true),
        (COUNT, &[1000], true),
        (COUNT, &[1000, 1000], false),
    ] {
        let relay = if each.len() == 1 {
            Relay::new(members.iter().map(|it| alone(it.0.clone())).collect())
        } else {
            Arc::clone(&relay)
        };
        for (_, quanta) in &members {
            quanta.store(0, Ordering::Relaxed);
        }
        believe(&relay, each);
        let (plan, _) = laid_out(&relay, count);
        if beside {
            let random = Random(AtomicU64::new(3));
            carry(&plan, &random, &mut |_| ()).unwrap();
        } else {
            finish(&*plan).unwrap();
        }
        assert!(plan.point().is_some());
        let worked = members.iter().filter(|it| it.1.load(Ordering::Relaxed) > 0);
        assert_eq!(worked.count(), 1, "{count} at {each:?}");
    }
}

/// The danger: a device is lost in the midst of its share, or before it has begun. What it was to sum is summed elsewhere, once,
/// and nothing else is done again.
#[test]
fn a_share_whose_device_is_lost_is_summed_elsewhere() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    // It has measured once how finely it cuts.
    let immortal = cpu(2);
    let (host, hosted) = counted();
    let around = |mortal: &Mortal| {
        let third = alone(cpu(1));
        let relay = Relay::new(vec![
            alone(host.clone()),
            alone(mortal.device.clone()),
            third,
        ]);
        believe(&relay, &[1000; 3]);
        relay
    };
    let run = |relay: &Relay| {
        hosted.store(0, Ordering::Relaxed);
        let (plan, _) = laid_out(relay, COUNT);
        let quanta = carry(&plan, &Random(AtomicU64::new(8)), &mut |_| ()).unwrap();
        assert_eq!(plan.point().as_ref(), Some(&expected));
        quanta
    };
    let undisturbed = Mortal::of(immortal.clone());
    undisturbed.start(1 << 20);
    run(&around(&undisturbed));
    let own = (1 << 20) - undisturbed.left.load(Ordering::Relaxed);
    assert!(own > 3, "{own}");
    for quantum in 0..own {
        let mortal = Mortal::of(immortal.clone());
        let relay = around(&mortal);
        mortal.start(quantum);
        assert_eq!(forfeited(), Duration::ZERO);
        let began = Instant::now();
        run(&relay);
        // What it had done of its share is done again, the quantum that met the loss too.
        let void = forfeited();
        assert!(void >= mortal.spent(), "{void:?} of {:?}", mortal.spent());
        assert!(void <= began.elapsed(), "{void:?}");
        assert!(relay.is_lost(1), "not lost at {quantum} of {own}");
        assert!(hosted.load(Ordering::Relaxed) > 0);
        assert_eq!(relay.health().fallen_back, 1, "lost at quantum {quantum}");
        // And goes on without.
        believe(&relay, &[1000; 3]);
        run(&relay);
        assert_eq!(relay.health().fallen_back, 1);
    }
}

/// A device that finds no room in its quantum with this number, counted from 0, which leaves all as it was; it counts those that it
/// has begun.
fn full_at(quantum: usize) -> (Arc<dyn Device>, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let full = move |_: &'static str, run: &mut dyn FnMut() -> _| match count
        .fetch_add(1, Ordering::Relaxed)
    {
        at if at == quantum => Err(DeviceError::Memory {
            what: "a test",
            bytes: 1,
        }),
        _ => run(),
    };
    (Around::new(cpu(2), Arc::new(full)), begun)
}

/// It is full in the midst of a sum, of all of it or of a share. That is done elsewhere, and the device stays; nothing as large begins
/// there until something has gone.
#[test]
fn a_sum_that_finds_no_room_is_done_elsewhere_and_its_device_stays() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    for (quantum, is_shared) in [(0, false), (1, false), (0, true), (1, true)] {
        let (device, begun) = full_at(quantum);
        let relay = Relay::new(vec![alone(cpu(1)), alone(device)]);
        match is_shared {
            true => believe(&relay, &[1000; 2]),
            false => relay.allow(0b10),
        }
        let begun = || begun.load(Ordering::Relaxed);
        let random = Random(AtomicU64::new(8));
        // Vectors that stay: what is freed says that there may be room.
        let vector = relay.vector(CurveId::Bn254, COUNT).unwrap();
        relay.vector_write(vector, 0, &scalars(COUNT, 5)).unwrap();
        let bases = |count| {
            relay
                .bases(CurveId::Bn254, Group::G1, points(count))
                .unwrap()
        };
        let (all, few) = (bases(COUNT), bases(20));
        let of = |bases| {
            let work = Work::Msm {
                bases,
                scalars: vector,
                offset: 0,
                form: Form::Canonical,
            };
            let plan = relay.plan(&work).unwrap();
            carry(&plan, &random, &mut |_| ()).unwrap();
            plan.point().unwrap()
        };
        assert_eq!(of(all), expected, "{quantum}, {is_shared}");
        assert_eq!(begun(), quantum + 1);
        assert!(!relay.is_lost(1));
        assert_eq!(relay.health().fallen_back, 1);
        // Not tried again; what is smaller is, where it may go nowhere else.
        assert_eq!(of(all), expected);
        assert_eq!(begun(), quantum + 1, "{is_shared}");
        relay.allow(0b10);
        of(few);
        let before = begun();
        assert!(before > quantum + 1);
        assert_eq!(of(all), expected);
        assert_eq!(begun(), before);
        let gone = relay.vector(CurveId::Bn254, 1).unwrap();
        relay.vector_free(gone);
        assert_eq!(of(all), expected);
        assert!(begun() > before);
        assert_eq!(relay.health().fallen_back, 1);
    }
}

/// It is full in the midst of a transform of what it has made itself, and nobody else has: that is as it was, and is done
/// elsewhere.
#[test]
fn a_transform_that_finds_no_room_is_done_elsewhere_from_what_is_there() {
    let input = scalars(1 << 11, 6);
    let (once, _) = transform(&*cpu(1), &input).unwrap();
    let (expected, _) = transform(&*cpu(1), &once).unwrap();
    for full in 0..2 {
        const QUANTUM: usize = 1 << 20;
        let (device, begun) = full_at(QUANTUM);
        let relay = Relay::new(vec![alone(cpu(1)), alone(device)]);
        relay.allow(0b10);
        let vector = relay.vector(CurveId::Bn254, 1 << 11).unwrap();
        relay.vector_write(vector, 0, &input).unwrap();
        let transform = Transform::Shift;
        for at in 0..2 {
            if at == full {
                // At its first quantum: how many one takes depends on the machine, and in a later one it is no longer as it was.
                begun.store(QUANTUM, Ordering::Relaxed);
            }
            finish(&*relay.plan(&Work::Ntt { vector, transform }).unwrap()).unwrap();
        }
        let mut output = vec![0; input.len()];
        relay.vector_read(vector, 0, &mut output).unwrap();
        assert!(output == expected, "{full}");
        assert!(!relay.is_lost(1));
        assert_eq!(relay.health().fallen_back, 1, "{full}");
    }
}

/// Both that share a sum with the host are lost, one after the other.
#[test]
fn shares_of_all_others_come_to_the_host() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    for at in 0..12 {
        let mortals = [Mortal::new(), Mortal::new()];
        let [first, second] = mortals.each_ref().map(|it| alone(it.device.clone()));
        let relay = Relay::new(vec![alone(cpu(1)), first, second]);
        believe(&relay, &[1000; 3]);
        let (plan, _) = laid_out(&relay, COUNT);
        mortals[0].start(at / 4);
        mortals[1].start(at % 4);
        carry(&plan, &Random(AtomicU64::new(at as u64)), &mut |_| ()).unwrap();
        assert_eq!(plan.point().as_ref(), Some(&expected), "{at}");
        assert!(relay.is_lost(1) && relay.is_lost(2), "{at}");
        assert!(relay.health().fallen_back >= 2, "{at}");
    }
}

/// As for a sum by one: the copy is there as long as the share needs it.
#[test]
fn a_copy_may_be_given_up_before_any_quantum_of_a_share() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let second = cpu(2);
    let relay = Relay::new(vec![alone(cpu(1)), alone(second.clone())]);
    let run = |at: usize| {
        believe(&relay, &[1000, 1000]);
        let (plan, bases) = laid_out(&relay, COUNT);
        let of = Original::Bases(bases);
        assert!(relay.copy_bytes(1, of) > 0);
        let quanta = carry(&plan, &Random(AtomicU64::new(4)), &mut |quanta| {
            if quanta == at {
                relay.copy_free(1, of);
            }
        });
        let quanta = quanta.unwrap();
        assert_eq!(plan.point().as_ref(), Some(&expected), "quantum {at}");
        relay.copy_free(1, of);
        assert_eq!((relay.copy_bytes(1, of), known(&second)), (0, 0), "{at}");
        assert_eq!(plan.point().as_ref(), Some(&expected), "quantum {at}");
        relay.bases_free(bases);
        quanta
    };
    let quanta = run(usize::MAX);
    for at in (0..quanta).step_by(quanta / 60 + 1) {
        run(at);
    }
}

/// A device that has done its share long before the others let go of it holds the copy no longer than it computes with it: an
/// order for room does not wait for the host.
#[test]
fn a_copy_may_go_when_its_share_has_ended_and_the_others_have_not() {
    let (expected, _) = sum(&*cpu(1)).unwrap();
    let second = cpu(2);
    let mortal = Mortal::new();
    let third = alone(mortal.device.clone());
    let relay = Relay::new(vec![alone(cpu(1)), alone(second.clone()), third]);
    believe(&relay, &[1000; 3]);
    let (plan, bases) = laid_out(&relay, COUNT);
    let of = Original::Bases(bases);
    let bytes = points(COUNT).len();
    let beside = Arc::clone(&plan).beside();
    assert_eq!(beside.len(), 2);
    for share in &beside {
        assert_eq!(share.open(0), Ok(1));
        while share.run(0, 0).unwrap() == Progress::More {}
        assert_eq!(share.open(1), Ok(1));
        assert_eq!(share.run(1, 0), Ok(Progress::More));
    }
    for member in [1, 2] {
        assert!(relay.copy_is_used(member, of));
        relay.copy_free(member, of);
        assert_eq!(relay.copy_bytes(member, of), bytes, "{member} is at it");
    }
    while beside[0].run(1, 0).unwrap() == Progress::More {}
    for member in [1, 2] {
        relay.copy_free(member, of);
    }
    let left = [1, 2].map(|member| relay.copy_bytes(member, of));
    assert_eq!((left, known(&second)), ([0, bytes], 0));
    // The share of one that is lost now goes to another than the one that has nothing left to do it with.
    mortal.start(0);
    while beside[1].run(1, 0).unwrap() == Progress::More {}
    assert!(relay.is_lost(2));
    assert_eq!(relay.health().fallen_back, 1);
    assert_eq!(plan.point(), None);
    finish(&*plan).unwrap();
    assert_eq!(plan.point().as_ref(), Some(&expected));
    assert!(!relay.copy_is_used(1, of));
}

/// Who runs a share's lane learns for whom, until that one is lost.
#[test]
fn a_share_says_where_it_is_done() {
    let mortal = Mortal::new();
    let relay = Relay::new(vec![alone(cpu(1)), alone(mortal.device.clone())]);
    believe(&relay, &[1000, 1000]);
    let (plan, _) = laid_out(&relay, COUNT);
    let beside = Arc::clone(&plan).beside();
    assert_eq!(beside.len(), 1);
    let share = &beside[0];
    assert_eq!(share.open(0), Ok(1));
    assert_eq!((share.member(0), share.kernel(0)), (0, "relay.share"));
    let refused = |result: Result<Progress, DeviceError>| {
        assert!(
            matches!(result, Err(DeviceError::Lane { .. })),
            "{result:?}"
        );
    };
    refused(share.run(0, 1));
    // The host's threads bring it what it lacks.
    assert_eq!(share.run(0, 0), Ok(Progress::More));
    assert_eq!((share.member(0), share.kernel(0)), (0, "relay.copy"));
    assert_eq!(share.run(0, 0), Ok(Progress::Done));
    refused(share.run(0, 0));
    assert_eq!(share.open(1), Ok(1));
    assert_eq!((share.member(1), share.kernel(1)), (1, "msm.recode"));
    refused(share.run(0, 0));
    refused(share.run(1, 1));
    assert!(share.open(2).is_err());
    mortal.start(0);
    assert_eq!(share.run(1, 0), Ok(Progress::More));
    assert_eq!(share.member(1), 0);
    while share.run(1, 0).unwrap() == Progress::More {}
    refused(share.run(1, 0));
    // The other share is still to be done.
    assert_eq!(plan.point(), None);
    finish(&*plan).unwrap();
    assert_eq!(plan.point(), Some(sum(&*cpu(1)).unwrap().0));
}

/// Two pieces and a half.
const PIECES: usize = 3;
const SEVERAL: usize = 5 << 15;

/// What came to a device: of which vector, from which element on, how many bytes; nothing at the end.
type Brought = Arc<Mutex<Vec<(VectorId, usize, usize)>>>;

/// Plans of sums over one vector that begin together on a relay. Whenever a piece of the vector is brought to a member, quanta
/// of other plans run before it is: so one thread has them all at it at once, in an order that a seed draws.
#[derive(Default)]
struct Crowd {
    plans: Mutex<Vec<Option<Arc<dyn Plan>>>>,
    /// Of each plan whether all is there that it reads.
    arrived: Mutex<BTreeSet<usize>>,
    /// Whether plans are dropped in the midst of it, all but the first.
    drops: bool,
    random: Mutex<Option<Random>>,
}

impl Crowd {
    /// A quantum of any that none runs of.
    fn nudge(&self) {
        let mut plans = self.plans.lock().unwrap();
        let random = self.random.lock().unwrap();
        let Some(draw) = random.as_ref().map(Random::next) else {
            return;
        };
        drop(random);
        let at = draw as usize % plans.len();
        if self.drops && at > 0 && draw >> 32 & 3 == 0 {
            // One that a quantum runs of is dropped after that.
            let dropped = plans[at].take();
            drop(plans);
            drop(dropped);
            return;
        }
        let Some(plan) = plans[at].clone() else {
            return;
        };
        drop(plans);
        if self.arrived.lock().unwrap().contains(&at) {
            return;
        }
        match plan.run(0, 0) {
            Ok(Progress::Done) => {
                self.arrived.lock().unwrap().insert(at);
            }
            // It has none, or it is being run by who is asking.
            Ok(Progress::More) | Err(DeviceError::Lane { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn is_there(&self) -> bool {
        let plans = self.plans.lock().unwrap();
        let arrived = self.arrived.lock().unwrap();
        (0..plans.len()).all(|at| plans[at].is_none() || arrived.contains(&at))
    }
}

/// A device that nudges a crowd whenever something is brought to it, and fails from so many pieces on, the end of all being one.
fn nudging(crowd: &Arc<Crowd>, brought: &Brought, fails_at: usize) -> Arc<dyn Device> {
    let (crowd, brought) = (Arc::downgrade(crowd), Arc::clone(brought));
    let filling = move |id, at, bytes| {
        let count = {
            let mut brought = brought.lock().unwrap();
            brought.push((id, at, bytes));
            brought.len()
        };
        if let Some(crowd) = crowd.upgrade() {
            crowd.nudge();
            crowd.nudge();
        }
        match count > fails_at {
            true => Err(DeviceError::Lost {
                device: "nudging".into(),
                why: "its time had come".into(),
            }),
            false => Ok(()),
        }
    };
    Around::filled(cpu(1), Arc::new(filling))
}

/// A sum over a few elements of a vector of several pieces, from one of them on.
fn sum_from(offset: usize, device: &dyn Device, vector: VectorId, bases: BasesId) -> Arc<dyn Plan> {
    let plan = device.plan(&Work::Msm {
        bases,
        scalars: vector,
        offset,
        form: Form::Canonical,
    });
    plan.unwrap()
}

/// The last of them.
fn sum_of_the_end(device: &dyn Device, vector: VectorId, bases: BasesId) -> Arc<dyn Plan> {
    sum_from(SEVERAL - 100, device, vector, bases)
}

/// What all pieces of a vector are, and the end.
fn each_once(vector: VectorId) -> Vec<(VectorId, usize, usize)> {
    let piece = |at: usize| (vector, at << 16, (SEVERAL - (at << 16)).min(1 << 16) * 32);
    let mut all: Vec<_> = (0..PIECES).map(piece).collect();
    all.push((vector, 0, 0));
    all
}

/// The danger: five sums of a proof read one witness, and each makes a copy of its own. Whoever of them runs when, some dropped
/// in the midst of it: each piece comes once, and it counts once for what copies cost.
#[test]
fn one_copy_is_made_for_all_who_wait_for_it() {
    let scalars = scalars(SEVERAL, 5);
    let expected = {
        let host = cpu(1);
        let bases = host.bases(CurveId::Bn254, Group::G1, points(100)).unwrap();
        let vector = host.vector(CurveId::Bn254, SEVERAL).unwrap();
        host.vector_write(vector, 0, &scalars).unwrap();
        let plan = sum_of_the_end(&*host, vector, bases);
        finish(&*plan).unwrap();
        plan.point()
    };
    let mut together = 0;
    for seed in 0..40 {
        let crowd = Arc::new(Crowd {
            drops: seed % 4 == 1,
            ..Crowd::default()
        });
        let lost = seed % 4 >= 2;
        let (brought, elsewhere) = (Brought::default(), Brought::default());
        let fails_at = if lost {
            seed / 4 % (PIECES + 1)
        } else {
            usize::MAX
        };
        let first = nudging(&crowd, &brought, fails_at);
        let second = nudging(&crowd, &elsewhere, usize::MAX);
        let relay = Relay::new([cpu(1), first, second].map(alone).into());
        relay.allow(0b110);
        let bases = relay.bases(CurveId::Bn254, Group::G1, points(100)).unwrap();
        let vector = relay.vector(CurveId::Bn254, SEVERAL).unwrap();
        relay.vector_write(vector, 0, &scalars).unwrap();
        let plans = [(); 4].map(|()| sum_of_the_end(&*relay, vector, bases));
        plans
            .iter()
            .for_each(|plan| assert_eq!(plan.open(0), Ok(1)));
        *crowd.plans.lock().unwrap() = plans.map(Some).into();
        *crowd.random.lock().unwrap() = Some(Random(AtomicU64::new(seed as u64)));
        assert_eq!(forfeited(), Duration::ZERO);
        while !crowd.is_there() {
            crowd.nudge();
        }
        // Who found nothing to bring waited at nobody's cost.
        together += usize::from(forfeited() > Duration::ZERO);
        let copies = |brought: &Brought| {
            let mut brought = brought.lock().unwrap().clone();
            // Pieces begin at different times, and none ends before it has begun.
            let end = brought.pop();
            brought.sort_unstable_by_key(|it| it.1);
            brought.extend(end);
            brought
        };
        let (came, lost_with) = match lost {
            true => (&elsewhere, Some(&brought)),
            false => (&brought, None),
        };
        let id = came.lock().unwrap()[0].0;
        assert_eq!(copies(came), each_once(id), "seed {seed}");
        assert_eq!(relay.is_lost(1), lost, "seed {seed}");
        let price = |price: &Price| price.kind == "copy";
        // The first time does not count, and there was none but that.
        assert!(!relay.prices().iter().any(price), "seed {seed}");
        if lost_with.is_none() {
            assert!(elsewhere.lock().unwrap().is_empty(), "seed {seed}");
        }
        for plan in crowd.plans.lock().unwrap().iter().flatten() {
            for stage in 1..plan.stages() {
                for lane in 0..plan.open(stage).unwrap() {
                    while plan.run(stage, lane).unwrap() == Progress::More {}
                }
            }
            assert_eq!(plan.point(), expected, "seed {seed}");
        }
    }
    assert!(together > 0, "nobody ever waited for others");
}

/// A host with a member to its side, which may do all and tells what is brought to it, and a hundred points.
fn tells_what_comes(brought: &Brought) -> (Arc<Relay>, BasesId) {
    let told = Arc::clone(brought);
    let filling = move |id, at, bytes| {
        told.lock().unwrap().push((id, at, bytes));
        Ok(())
    };
    let second = Around::filled(cpu(1), Arc::new(filling));
    let relay = Relay::new([cpu(1) as Arc<dyn Device>, second].map(alone).into());
    relay.allow(0b10);
    let bases = relay.bases(CurveId::Bn254, Group::G1, points(100)).unwrap();
    (relay, bases)
}

/// The same on threads, again and again.
#[test]
fn threads_bring_each_piece_once() {
    let scalars = scalars(SEVERAL, 5);
    let brought = Brought::default();
    let (relay, bases) = tells_what_comes(&brought);
    let mut sums = BTreeSet::new();
    for _ in 0..20 {
        let vector = relay.vector(CurveId::Bn254, SEVERAL).unwrap();
        relay.vector_write(vector, 0, &scalars).unwrap();
        let plans = [(); 5].map(|()| sum_of_the_end(&*relay, vector, bases));
        std::thread::scope(|scope| {
            for plan in &plans {
                scope.spawn(|| finish(&**plan).unwrap());
            }
        });
        sums.extend(plans.iter().map(|plan| plan.point().unwrap()));
        let mut came = std::mem::take(&mut *brought.lock().unwrap());
        let end = came.pop();
        came.sort_unstable_by_key(|it| it.1);
        came.extend(end);
        assert_eq!(came, each_once(came[0].0));
        relay.vector_free(vector);
    }
    assert_eq!(sums.len(), 1);
}

/// What has come of a vector is not taken for a part of what that is later, and nothing of it arrives any more when a device begins
/// to overwrite it.
#[test]
fn a_copy_that_was_given_up_is_no_part_of_the_next_one() {
    let brought = Brought::default();
    let (relay, bases) = tells_what_comes(&brought);
    let written = |seed| {
        let id = relay.vector(CurveId::Bn254, SEVERAL).unwrap();
        relay.vector_write(id, 0, &scalars(SEVERAL, seed)).unwrap();
        id
    };
    let begun = |vector| {
        let plan = sum_of_the_end(&*relay, vector, bases);
        plan.open(0).unwrap();
        for _ in 0..PIECES - 1 {
            assert_eq!(plan.run(0, 0), Ok(Progress::More));
        }
    };
    let summed = |vector| {
        let plan = sum_from(0, &*relay, vector, bases);
        finish(&*plan).unwrap();
        plan.point()
    };
    let (vector, other) = (written(5), written(6));
    begun(vector);
    relay.vector_write(vector, 0, &scalars(SEVERAL, 6)).unwrap();
    assert_eq!(summed(vector), summed(other));
    // Given up, and made by that device.
    let out = written(7);
    begun(out);
    brought.lock().unwrap().clear();
    let work = Work::Multiply {
        a: vector,
        b: other,
        out,
    };
    let plan = relay.plan(&work).unwrap();
    plan.open(0).unwrap();
    assert_eq!(plan.run(0, 0), Ok(Progress::Done));
    let brought = brought.lock().unwrap();
    assert!(matches!(brought[..], [(_, 0, 0)]), "{brought:?}");
}

/// The points are wanted back on the device while the scalars of two sums are on their way to it, before any quantum of either.
#[test]
fn a_copy_of_points_may_be_given_up_while_scalars_are_on_their_way() {
    let relay = Relay::new(vec![alone(cpu(1)), alone(cpu(2))]);
    relay.allow(0b10);
    let bases = relay.bases(CurveId::Bn254, Group::G1, points(100)).unwrap();
    let of = Original::Bases(bases);
    let mut sums = BTreeSet::new();
    for at in 0..=2 * PIECES + 2 {
        let vector = relay.vector(CurveId::Bn254, SEVERAL).unwrap();
        relay.vector_write(vector, 0, &scalars(SEVERAL, 5)).unwrap();
        let plans = [(); 2].map(|()| sum_of_the_end(&*relay, vector, bases));
        plans
            .iter()
            .for_each(|plan| assert_eq!(plan.open(0), Ok(1)));
        let mut left: Vec<_> = plans.iter().collect();
        let mut quanta = 0;
        while !left.is_empty() {
            left.retain(|plan| {
                if quanta == at {
                    relay.copy_free(1, of);
                }
                quanta += 1;
                plan.run(0, 0).unwrap() == Progress::More
            });
        }
        for plan in &plans {
            for stage in 1..plan.stages() {
                for lane in 0..plan.open(stage).unwrap() {
                    while plan.run(stage, lane).unwrap() == Progress::More {}
                }
            }
            sums.insert(plan.point().unwrap());
        }
        drop(plans);
        relay.vector_free(vector);
        relay.copy_free(1, of);
        assert_eq!(relay.copy_bytes(1, of), 0, "quantum {at}");
        relay.copy(1, of).unwrap();
    }
    assert_eq!(sums.len(), 1);
}

/// A device whose quanta of a kernel may come out wrong: the first element that is then read, or the point.
struct Liar {
    inner: Arc<CpuDevice>,
    lies: AtomicUsize,
}

/// What a liar lies about.
const HONEST: usize = 0;
const SUMS: usize = 1;
const VECTORS: usize = 2;
const DEAD: usize = 3;

struct LiarPlan {
    inner: Arc<dyn Plan>,
    lies: usize,
}

impl Plan for LiarPlan {
    fn stages(&self) -> usize {
        self.inner.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.inner.kernel(stage)
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        self.inner.open(stage)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        match self.lies {
            DEAD => Err(DeviceError::Lost {
                device: "liar".into(),
                why: "it does not answer".into(),
            }),
            _ => self.inner.run(stage, lane),
        }
    }

    fn point(&self) -> Option<Vec<u8>> {
        let point = self.inner.point()?;
        Some(match self.lies {
            SUMS => {
                let sum = Affine::<<Bn254 as Curve>::Fq>::BYTES;
                // Of another curve or group none is made.
                if point.len() != sum {
                    return Some(point);
                }
                let mut wrong = vec![0; sum];
                Bn254::g1().to_bytes(&mut wrong);
                wrong
            }
            _ => point,
        })
    }
}

impl Device for Liar {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        self.inner.vector(curve, len)
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.inner.vector_write(id, at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.vector_read(id, at, scalars)?;
        if self.lies.load(Ordering::Relaxed) == VECTORS {
            scalars[0] ^= 1;
        }
        Ok(())
    }

    fn vector_free(&self, id: VectorId) {
        self.inner.vector_free(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        self.inner.bases(curve, group, points)
    }

    fn bases_free(&self, id: BasesId) {
        self.inner.bases_free(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.inner.tables_bytes(id)
    }

    fn tables_free(&self, id: BasesId) {
        self.inner.tables_free(id);
    }

    fn matrix(&self, _: CurveId, _: usize, _: usize, _: Bytes) -> Result<MatrixId, DeviceError> {
        // What it does not do is not held against it.
        Err(DeviceError::Unfit {
            device: "liar".into(),
            what: "products",
        })
    }

    fn matrix_free(&self, _: MatrixId) {}

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        Ok(Arc::new(LiarPlan {
            inner: self.inner.plan(work)?,
            lies: self.lies.load(Ordering::Relaxed),
        }))
    }
}

/// A proof came out wrong: who computes something else than the host goes, and nobody else. If nobody does, all go, unless
/// somebody has gone since who may have been to blame.
#[test]
fn the_one_that_computes_wrongly_is_found_by_a_try_of_each() {
    let liar = |lies| {
        Arc::new(Liar {
            inner: cpu(1),
            lies: AtomicUsize::new(lies),
        })
    };
    for (lies, why) in [
        (SUMS, "a sum in G1 on Bn254 is not what the host computes"),
        (VECTORS, "on Bn254 is not what the host computes"),
        (DEAD, "it does not answer"),
    ] {
        for guilty in [1, 2] {
            let mut members = [HONEST; 2];
            members[guilty - 1] = lies;
            let [first, second] = members.map(liar);
            let relay = Relay::new(vec![alone(cpu(1)), alone(first), alone(second)]);
            relay.distrust("a proof did not verify");
            assert!(relay.is_lost(guilty), "{lies}");
            assert!(!relay.is_lost(3 - guilty), "{lies}");
            let lost = relay.health().lost.unwrap();
            assert!(lost.contains(why), "{lost}");
            // Of a result that is older than that.
            assert_eq!(relay.examine("nor did another"), 0);
            assert!(!relay.is_lost(3 - guilty) && relay.is_mixed(), "{lies}");
            // And of one that is not.
            relay.distrust("nor did a third");
            assert!(relay.is_lost(3 - guilty) && !relay.is_mixed(), "{lies}");
            let lost = relay.health().lost.unwrap();
            assert!(lost.contains("nor did a third"), "{lost}");
        }
    }
}

/// Of two devices of one kind one goes while nobody uses it: it is seen, and of each it is known how it is.
#[test]
fn a_device_that_goes_while_nobody_uses_it_is_seen() {
    let plain = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
    let idle = Around::new(cpu(1), Arc::new(plain));
    let mortal = Mortal::new();
    let members = [cpu(1), mortal.device.clone(), idle.clone()];
    let relay = Relay::new(members.map(alone).into());
    assert_eq!(relay.probe(), Ok(()));
    assert_eq!([0, 1, 2].map(|it| relay.is_lost(it)), [false; 3]);
    idle.lose("it has gone");
    assert!(!relay.is_lost(2), "nobody has looked");
    assert_eq!(relay.probe(), Ok(()));
    assert_eq!([0, 1, 2].map(|it| relay.is_lost(it)), [false, false, true]);

    relay.allow(0b10);
    mortal.start(3);
    sum(&*relay).unwrap();
    let of = |(info, health): (DeviceInfo, Health)| (info.kind, health.lost, health.fallen_back);
    let [host, mortal, idle] = relay
        .members()
        .try_into()
        .map(|it: [_; 3]| it.map(of))
        .unwrap();
    assert_eq!(host, ("cpu", None, 0));
    assert_eq!((mortal.0, mortal.2), ("cpu", 1));
    assert!(
        mortal
            .1
            .is_some_and(|why| why.contains("its time had come"))
    );
    assert!(idle.1.is_some_and(|why| why.contains("it has gone")));
    assert_eq!(idle.2, 0);
    assert_eq!(relay.health().fallen_back, 1);
}

/// Kernels are compiled in it.
#[test]
fn the_first_time_of_a_kind_of_work_says_nothing_of_what_it_costs() {
    let relay = Relay::new(vec![alone(cpu(1)), alone(cpu(1))]);
    relay.allow(0b10);
    let known = || {
        let of_sums = |price: &Price| price.member == 1 && price.kind == "msm-g1";
        relay.prices().iter().any(of_sums)
    };
    sum(&*relay).unwrap();
    assert!(!known());
    sum(&*relay).unwrap();
    assert!(known());
}

/// It was slow once, and is known to have been: the others have it tried again when they have worked a hundred times as long.
#[test]
fn a_device_that_was_slow_once_is_tried_again() {
    let (second, quanta) = counted();
    let relay = Relay::new(vec![alone(cpu(1)), alone(second)]);
    // Nobody takes as little: so any sum is long enough for another try.
    believe(&relay, &[0, 0]);
    let price = |member, nanoseconds| Price {
        member,
        kind: "msm-g1",
        curve: CurveId::Bn254,
        log2: 12,
        nanoseconds,
    };
    relay.believe(&[price(0, 100), price(1, 1000)]);
    let mut sums = 0;
    while quanta.load(Ordering::Relaxed) == 0 {
        // However long it took.
        relay.believe(&[price(0, 100)]);
        sum(&*relay).unwrap();
        sums += 1;
        assert!(sums < 3, "it is not asked any more");
    }
    assert!(sums > 1, "nobody had worked yet");
}
