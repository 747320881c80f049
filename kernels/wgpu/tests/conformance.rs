//! The WebGPU device against arkworks, on lavapipe, an emulation; `caldera hwtest` does the same on
//! a real GPU. What the suite tries is in the kernels' own `src/conformance.rs`. A driver that is
//! missing fails here.
//!
//! Shaders run with all checks in BN254 and without in BLS12-381.

use std::time::{Duration, Instant};

use bytes::Bytes;
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::curve::{Affine, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::{
    CurveId, Device, DeviceError, Form, Group, Progress, Transform, VectorId, Work,
};
use caldera_wgpu::{Choice, Open, Variant, WgpuConfig, WgpuDevice};

/// `make soak` sets this: everything the suite has, with and without the shaders' checks.
const SOAK: &str = "CALDERA_WGPU_SOAK";
/// A part of the name that lavapipe gives its device.
const EMULATION: &str = "llvmpipe";

fn conforms(config: WgpuConfig, curve: CurveId, effort: Effort, seed: u64) {
    let (modes, effort) = if std::env::var_os(SOAK).is_some() {
        (vec![true, false], Effort::Full)
    } else {
        (vec![config.checked], effort)
    };
    for checked in modes {
        let config = WgpuConfig {
            checked,
            ..config.clone()
        };
        let device = WgpuDevice::open(config.clone())
            .expect("a Vulkan driver; `.ci/tools vulkan` brings one, `make test-wgpu` uses it");
        if let Err(failure) = run(&*device, curve, effort, seed) {
            panic!(
                "{} with {config:?}, seed {seed}: {failure}",
                device.identity()
            );
        }
    }
}

fn checked(variant: Variant) -> WgpuConfig {
    WgpuConfig {
        adapter: Some(EMULATION.to_owned()),
        checked: true,
        choice: Choice::Fixed(variant),
        ..WgpuConfig::default()
    }
}

fn unchecked(variant: Variant) -> WgpuConfig {
    WgpuConfig {
        checked: false,
        ..checked(variant)
    }
}

#[test]
fn bn254_with_64_bit_integers() {
    let config = checked(Variant::Int64);
    conforms(config, CurveId::Bn254, Effort::Emulated, 1);
}

#[test]
fn bn254_portable() {
    let config = checked(Variant::Portable);
    conforms(config, CurveId::Bn254, Effort::Emulated, 2);
}

#[test]
fn bls12_381() {
    let config = unchecked(Variant::Portable);
    conforms(config, CurveId::Bls12_381, Effort::Emulated, 3);
}

/// What both this device and the CPU make of the same work, which must be the same.
fn same_as_cpu(device: &dyn Device, what: &str, work: impl Fn(&dyn Device) -> Vec<u8>) {
    let cpu = CpuDevice::new(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: 2,
    });
    assert!(
        work(device) == work(&*cpu),
        "{what} is not what the CPU says"
    );
}

fn finish(device: &dyn Device, work: &Work) -> Vec<u8> {
    let plan = device.plan(work).expect("work that fits");
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage).expect("the next stage") {
            while plan.run(stage, lane).expect("an open lane") == Progress::More {}
        }
    }
    plan.point().unwrap_or_default()
}

/// SplitMix64, for bytes that mean nothing; scalars and coordinates of them are below both moduli.
fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let word = |_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    let mut bytes: Vec<u8> = (0..count.div_ceil(8))
        .map(word)
        .flat_map(u64::to_le_bytes)
        .collect();
    bytes.truncate(count);
    for element in bytes.chunks_mut(32) {
        if let Some(top) = element.get_mut(31) {
            *top &= 0x0f;
        }
    }
    bytes
}

fn vector(device: &dyn Device, scalars: &[u8]) -> VectorId {
    let id = device
        .vector(CurveId::Bn254, scalars.len() / 32)
        .expect("room for a vector");
    device.vector_write(id, 0, scalars).expect("it fits");
    id
}

fn contents(device: &dyn Device, id: VectorId, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; 32 * count];
    device.vector_read(id, 0, &mut bytes).expect("it fits");
    bytes
}

/// The first multiples of a group's generator.
fn multiples(group: Group, count: usize) -> Bytes {
    fn all<F: Coordinate>(generator: Affine<F>, count: usize) -> Bytes {
        let mut points = Vec::new();
        let mut sum = Projective::from(generator);
        for _ in 0..count {
            points.push(sum);
            sum = sum.add_affine(&generator);
        }
        let mut bytes = vec![0; count * Affine::<F>::BYTES];
        let places = bytes.chunks_exact_mut(Affine::<F>::BYTES);
        for (point, place) in Projective::batch_to_affine(&points).iter().zip(places) {
            point.to_bytes(place);
        }
        bytes.into()
    }
    match group {
        Group::G1 => all(Bn254::g1(), count),
        Group::G2 => all(Bn254::g2(), count),
    }
}

/// With a limit of 64 KiB, as 2^20 and more elements meet one of 128 MiB: vectors, tables of roots,
/// points, digits, segments, rows, columns and entries are all bound in parts.
#[test]
fn what_is_bound_in_parts() {
    let limited = WgpuDevice::open(WgpuConfig {
        binding_max: 1 << 16,
        ..checked(Variant::Int64)
    })
    .expect("a Vulkan driver");
    for log2 in [11, 12, 14] {
        let n = 1 << log2;
        let values = bytes(32 * n, log2);
        for transform in [Transform::Forward, Transform::Inverse, Transform::Shift] {
            same_as_cpu(&*limited, &format!("{transform:?} of 2^{log2}"), |device| {
                let vector = vector(device, &values);
                finish(device, &Work::Ntt { vector, transform });
                contents(device, vector, n)
            });
        }
    }
    for (group, count) in [(Group::G1, 3000), (Group::G2, 700)] {
        let points = multiples(group, count);
        let scalars = bytes(32 * (count + 3), 4);
        same_as_cpu(&*limited, &format!("a sum in {group:?}"), |device| {
            let bases = device
                .bases(CurveId::Bn254, group, points.clone())
                .expect("whole points");
            let work = Work::Msm {
                bases,
                scalars: vector(device, &scalars),
                offset: 3,
                form: Form::Montgomery,
            };
            finish(device, &work)
        });
    }
    let (rows, columns, count) = (5000, 6000, 9000);
    let mut entries = bytes(44 * count, 5);
    for (i, entry) in entries.chunks_exact_mut(44).enumerate() {
        // Every third entry in one row, which is cut into runs.
        let row = if i % 3 == 0 { 77 } else { i * 7919 % rows };
        let words = [i % 2, row, i * 104_729 % columns];
        for (place, word) in entry.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&(word as u32).to_le_bytes());
        }
        entry[43] &= 0x0f;
    }
    let entries = Bytes::from(entries);
    let witness = bytes(32 * columns, 6);
    same_as_cpu(&*limited, "a product", |device| {
        let matrix = device
            .matrix(CurveId::Bn254, rows, columns, entries.clone())
            .expect("entries within the matrix");
        let [a, b] = [0; 2].map(|_| vector(device, &vec![1; 32 * 8192]));
        let work = Work::Product {
            matrix,
            witness: vector(device, &witness),
            a,
            b,
        };
        finish(device, &work);
        [contents(device, a, 8192), contents(device, b, 8192)].concat()
    });
}

/// Nobody checks the range of scalars and coordinates here. Canonical scalars beyond the modulus
/// count mod r; anything else out of range may give any result, but gives one, and the device
/// stands.
#[test]
fn input_out_of_range_is_harmless() {
    let device = WgpuDevice::open(unchecked(Variant::Int64)).expect("a Vulkan driver");
    let n = 64;
    let points = multiples(Group::G1, n);
    let ones = vec![0xff; 32 * n];
    let sum = |points: &Bytes| {
        let ones = &ones;
        let points = points.clone();
        move |device: &dyn Device| {
            let bases = device
                .bases(CurveId::Bn254, Group::G1, points.clone())
                .expect("whole points");
            let work = Work::Msm {
                bases,
                scalars: vector(device, ones),
                offset: 0,
                form: Form::Canonical,
            };
            finish(device, &work)
        }
    };
    same_as_cpu(&*device, "a sum with scalars beyond r", sum(&points));
    let beyond = Bytes::from(vec![0xff; 64 * n]);
    assert_eq!(sum(&beyond)(&*device).len(), 64);
    let vector = vector(&*device, &ones);
    let transform = Transform::Shift;
    finish(&*device, &Work::Ntt { vector, transform });
    // One vector in all places.
    finish(
        &*device,
        &Work::MultiplySubtract {
            a: vector,
            b: vector,
            c: vector,
        },
    );
    same_as_cpu(&*device, "a sum after all that", sum(&points));
}

#[test]
fn what_is_not_there_is_an_error() {
    let name = "a card that nobody makes".to_owned();
    let config = WgpuConfig {
        adapter: Some(name.clone()),
        ..checked(Variant::Portable)
    };
    match WgpuDevice::open(config).map(|_| ()) {
        Err(Open::NotThere { name: got, found }) => {
            assert_eq!(got, name);
            assert!(!found.is_empty());
        }
        other => panic!("expected an adapter that is not there, got {other:?}"),
    }
    // `make test-wgpu` shows no driver but the emulation's.
    match WgpuDevice::open(WgpuConfig::default()).map(|_| ()) {
        Err(Open::Emulated { found }) => assert!(found.contains(EMULATION), "{found}"),
        other => panic!("expected no GPU, got {other:?}"),
    }
    let device = WgpuDevice::open(checked(Variant::Portable)).expect("a Vulkan driver");
    for len in [1 << 40, usize::MAX] {
        match device.vector(CurveId::Bn254, len) {
            Err(DeviceError::Memory { .. }) => {}
            other => panic!("expected no room for {len} scalars, got {other:?}"),
        }
    }
}

/// What is allowed is counted in buffers; beyond it nothing is made, and the device stands. What it
/// keeps for later makes room.
#[test]
fn memory_beyond_what_is_allowed_is_refused() {
    let allowed = 64 << 20;
    let device = WgpuDevice::open(WgpuConfig {
        memory: Some(allowed),
        ..checked(Variant::Int64)
    })
    .expect("a Vulkan driver");
    assert_eq!(device.site(0).memory, Some(allowed));
    let scalars = |bytes: u64| device.vector(CurveId::Bn254, (bytes / 32) as usize);
    let refused = |result: Result<VectorId, DeviceError>| match result {
        Err(DeviceError::Memory { bytes, .. }) => bytes as u64,
        other => panic!("expected no room, got {other:?}"),
    };
    assert_eq!(refused(scalars(allowed)), allowed);
    let large = scalars(8 << 20).expect("room");
    let transform = Transform::Shift;
    let planned = |vector| device.plan(&Work::Ntt { vector, transform }).map(|_| ());
    // It keeps a table as large as the vector.
    planned(large).expect("room for a table");
    let mut small = Vec::new();
    while let Ok(vector) = scalars(1 << 20) {
        small.push(vector);
        assert!(small.len() < 64, "{} MiB in 64", small.len());
    }
    // The table had to go for them, and none of the larger vector's fits now.
    assert!(small.len() > 32, "{} MiB", small.len());
    assert!(matches!(planned(large), Err(DeviceError::Memory { .. })));
    for vector in small.drain(..2) {
        device.vector_free(vector);
    }
    planned(small[0]).expect("room for a small table");
    let values = bytes(1 << 20, 8);
    same_as_cpu(&*device, "a transform in what is left", |on| {
        let vector = vector(on, &values[..32 << 10]);
        finish(on, &Work::Ntt { vector, transform });
        let result = contents(on, vector, 1 << 10);
        on.vector_free(vector);
        result
    });
}

/// A range that does not begin and end where workgroups do would be a sum of other points.
#[test]
fn sums_are_narrowed_to_whole_workgroups() {
    let device = WgpuDevice::open(checked(Variant::Int64)).expect("a Vulkan driver");
    let count = 200;
    let bases = device.bases(CurveId::Bn254, Group::G1, multiples(Group::G1, count));
    let work = Work::Msm {
        bases: bases.expect("whole points"),
        scalars: vector(&*device, &bytes(32 * count, 9)),
        offset: 0,
        form: Form::Canonical,
    };
    let plan = device.plan(&work).expect("work that fits");
    assert_eq!(plan.grain(), Some(64));
    for (points, expected, got) in [(10..64, 0, 10), (64..130, 128, 130), (64..256, 200, 256)] {
        match plan.narrow(points) {
            Err(DeviceError::Length {
                expected: should,
                got: is,
                ..
            }) => assert_eq!((should, is), (expected, got)),
            other => panic!("expected a bound that is none, got {other:?}"),
        }
    }
    plan.narrow(64..count)
        .expect("whole workgroups and the end");
}

/// What was measured is kept, and kept files that are damaged are measured again.
#[test]
fn the_choice_of_a_variant_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        let device = WgpuDevice::open(WgpuConfig {
            adapter: Some(EMULATION.to_owned()),
            choice: Choice::Measured {
                folder: Some(folder.path().to_owned()),
            },
            ..WgpuConfig::default()
        })
        .expect("a Vulkan driver");
        let files: Vec<_> = std::fs::read_dir(folder.path())
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        let [file] = &files[..] else {
            panic!("expected one file, got {files:?}");
        };
        let text = std::fs::read_to_string(file).expect("a text");
        (device.variant(), file.clone(), text)
    };
    let (variant, file, text) = open();
    // Times differ from one measurement to the next: the same text is the one that was kept.
    assert_eq!(open(), (variant, file.clone(), text.clone()));
    std::fs::write(&file, &text[..text.len() / 2]).expect("room for a text");
    let (_, file_after, text_after) = open();
    assert_eq!(file_after, file);
    assert_eq!(text_after.lines().next(), text.lines().next());
    assert_eq!(text_after.lines().count(), text.lines().count());
}

/// The device's own clock runs while kernels do, which is within the quantum by the host's, and is not read unless
/// somebody asks.
#[test]
fn the_devices_own_clock_is_read_where_it_is_asked_for() {
    for timestamps in [true, false] {
        let config = WgpuConfig {
            timestamps,
            ..checked(Variant::Int64)
        };
        let device = WgpuDevice::open(config).expect("a Vulkan driver");
        let scalars = bytes(32 << 10, 77);
        let (a, b) = (vector(&*device, &scalars), vector(&*device, &scalars));
        let work = Work::Multiply { a, b, out: a };
        let plan = device.plan(&work).expect("work that fits");
        let at_first = timestamps.then_some(Duration::ZERO);
        assert_eq!(plan.device_time(), at_first);
        let mut last = Duration::ZERO;
        for stage in 0..plan.stages() {
            plan.open(stage).expect("the next stage");
            loop {
                let before = Instant::now();
                let progress = plan.run(stage, 0).expect("an open lane");
                let after = Instant::now();
                let now = plan.device_time();
                let began = plan.device_began();
                assert_eq!(began.is_some(), timestamps);
                assert_eq!(now.is_some(), timestamps);
                if let Some(now) = now {
                    assert!(now > last, "{now:?} after {last:?}");
                    let span = now - last;
                    let within = |began| began >= before && began + span <= after;
                    assert!(
                        began.is_some_and(within),
                        "{span:?} of {:?}",
                        after - before
                    );
                    last = now;
                }
                if progress == Progress::Done {
                    break;
                }
            }
        }
    }
}
