//! The CPU device against arkworks, cut in several ways: what the suite tries is in
//! `src/conformance.rs`.

use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice, Vectors};
use caldera_kernels::curve::{Bls12_381, Bn254, Curve};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, Device, Form, Group, Progress, Transform, Work};

fn conforms(curve: CurveId, quantum: Duration, lanes: usize, effort: Effort, seed: u64) {
    conforms_with(Vectors::Best, curve, quantum, lanes, effort, seed);
}

fn conforms_with(
    vectors: Vectors,
    curve: CurveId,
    quantum: Duration,
    lanes: usize,
    effort: Effort,
    seed: u64,
) {
    // There is nothing to try where the processor lacks them.
    let Some(device) = CpuDevice::with_vectors(CpuConfig { quantum, lanes }, vectors) else {
        return;
    };
    if let Err(failure) = run(&*device, curve, effort, seed) {
        panic!("vectors {vectors:?}, {lanes} lanes of {quantum:?}, seed {seed}: {failure}");
    }
}

#[test]
fn bn254_as_shipped() {
    conforms(CurveId::Bn254, Duration::from_millis(2), 4, Effort::Full, 1);
}

#[test]
fn bls12_381_as_shipped() {
    conforms(
        CurveId::Bls12_381,
        Duration::from_millis(2),
        4,
        Effort::Full,
        2,
    );
}

#[test]
fn uncut() {
    conforms(CurveId::Bn254, Duration::MAX, 1, Effort::Quick, 3);
    conforms(CurveId::Bls12_381, Duration::MAX, 1, Effort::Quick, 4);
}

/// A quantum of one unit: every loop is left at every place where it can be left.
#[test]
fn cut_everywhere() {
    conforms(CurveId::Bn254, Duration::from_nanos(1), 3, Effort::Quick, 5);
    conforms(
        CurveId::Bls12_381,
        Duration::from_nanos(1),
        1,
        Effort::Quick,
        6,
    );
}

/// What runs on other processors: every kind of pass and large batches, and the smallest quanta.
fn conforms_with_other_vectors(vectors: Vectors) {
    let (two_ms, least) = (Duration::from_millis(2), Duration::from_nanos(1));
    conforms_with(vectors, CurveId::Bn254, two_ms, 4, Effort::Full, 9);
    conforms_with(vectors, CurveId::Bls12_381, least, 3, Effort::Quick, 10);
}

#[test]
fn without_vectors() {
    conforms_with_other_vectors(Vectors::None);
}

#[test]
fn with_avx2() {
    conforms_with_other_vectors(Vectors::Avx2);
}

/// More lanes than windows, so that windows are cut into slices.
#[test]
fn many_lanes() {
    conforms(
        CurveId::Bn254,
        Duration::from_micros(50),
        300,
        Effort::Full,
        7,
    );
    conforms(
        CurveId::Bls12_381,
        Duration::from_millis(1),
        100,
        Effort::Quick,
        8,
    );
}

/// Nobody checks the range of scalars and coordinates here. Canonical scalars beyond the modulus
/// count mod r; anything else out of range may give any result, but gives one.
#[test]
fn input_out_of_range_is_harmless() {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 2,
        });
        let (n, ones) = (512, |bytes: usize| Bytes::from(vec![0xff; bytes]));
        let vectors: Vec<_> = (0..3)
            .map(|_| {
                let id = device.vector(curve, n).expect("room for a vector");
                let scalars = ones(n * 32);
                device.vector_write(id, 0, &scalars).expect("it fits");
                id
            })
            .collect();
        let [a, b, c] = vectors[..] else {
            panic!("three vectors were made");
        };
        let mut entries = vec![0xff; 44 * n];
        for (i, entry) in entries.chunks_mut(44).enumerate() {
            entry[..12].fill(0);
            entry[4..8].copy_from_slice(&(i as u32).to_le_bytes());
        }
        let matrix = device
            .matrix(curve, n, n, Bytes::from(entries))
            .expect("entries within the matrix");
        let mut works = vec![
            Work::Product {
                matrix,
                witness: a,
                a: b,
                b: c,
            },
            Work::Multiply { a, b: a, out: b },
            Work::MultiplySubtract { a, b, c: a },
        ];
        for transform in [Transform::Forward, Transform::Inverse, Transform::Shift] {
            works.push(Work::Ntt {
                vector: c,
                transform,
            });
        }
        let scalars = device.vector(curve, n).expect("room for a vector");
        for group in [Group::G1, Group::G2] {
            let bases = device
                .bases(curve, group, ones(n * curve.point_bytes(group)))
                .expect("whole points");
            for form in [Form::Canonical, Form::Montgomery] {
                works.push(Work::Msm {
                    bases,
                    scalars,
                    offset: 0,
                    form,
                });
            }
        }
        // Scalars that leave their points in many buckets, some of them the same.
        let bytes: Vec<u8> = (0..n * 32).map(|i| (i * i / 7) as u8).collect();
        device.vector_write(scalars, 0, &bytes).expect("it fits");
        for work in works {
            point(&*device, &work);
        }
    }
}

#[test]
fn canonical_scalars_count_mod_r() {
    // 2^256 - 1 = r k + rest, so P times the one is P times the other.
    fn rest<C: Curve>() -> Vec<u8> {
        let mut bytes = vec![0; 32];
        C::Fr::from_le_bytes_reduced(&[0xff; 32]).to_canonical_le(&mut bytes);
        bytes
    }
    for (curve, rest) in [
        (CurveId::Bn254, rest::<Bn254>()),
        (CurveId::Bls12_381, rest::<Bls12_381>()),
    ] {
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 2,
        });
        let mut generator = vec![0; curve.point_bytes(Group::G1)];
        match curve {
            CurveId::Bn254 => Bn254::g1().to_bytes(&mut generator),
            CurveId::Bls12_381 => Bls12_381::g1().to_bytes(&mut generator),
        }
        let bases = device
            .bases(curve, Group::G1, Bytes::from(generator))
            .expect("one point");
        let points: Vec<_> = [vec![0xff; 32], rest]
            .iter()
            .map(|scalar| {
                let scalars = device.vector(curve, 1).expect("room for a vector");
                device.vector_write(scalars, 0, scalar).expect("it fits");
                point(
                    &*device,
                    &Work::Msm {
                        bases,
                        scalars,
                        offset: 0,
                        form: Form::Canonical,
                    },
                )
            })
            .collect();
        assert!(points[0].is_some());
        assert_eq!(points[0], points[1]);
    }
}

fn point(device: &dyn Device, work: &Work) -> Option<Vec<u8>> {
    let plan = device.plan(work).expect("work that fits");
    for stage in 0..plan.stages() {
        let lanes = plan.open(stage).expect("the next stage");
        for lane in 0..lanes {
            while plan.run(stage, lane).expect("an open lane") == Progress::More {}
        }
    }
    plan.point()
}
