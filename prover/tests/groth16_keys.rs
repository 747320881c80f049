//! Keys: what the set-up makes, and that the check finds every kind of fault in them.

mod groth16_support;

use bytes::Bytes;
use caldera_kernels::curve::check::Fault;
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::{FormatError, Part, Zkey, ZkeyHeader, ZkeyWriter, scalar_modulus};
use caldera_prover::groth16::{
    CheckError, Checks, DEVELOPMENT_MARK, KeyError, PartProgress, PointFault, ProvingKey,
    SetupError, Synthetic, VerifyError, check, setup_r1cs, setup_synthetic, verification_key,
};
use groth16_support::{Circuit, cpu};

const CURVES: [CurveId; 2] = [CurveId::Bn254, CurveId::Bls12_381];

const DEVELOPMENT: Checks = Checks {
    development: true,
    threads: 2,
};

fn checked(zkey: &Zkey) -> Result<(), CheckError> {
    check(zkey, &DEVELOPMENT, &mut |_| {})
}

#[test]
fn keys_of_the_set_up_pass_the_check_in_development_only() {
    for curve in CURVES {
        for circuit in [
            Circuit::products(curve, 5),
            Circuit::all_public(curve),
            Circuit::nothing_public(curve),
        ] {
            let zkey = circuit.zkey();
            assert_eq!(zkey.development(), Some(DEVELOPMENT_MARK));
            assert_eq!(zkey.contribution_count(), 0);
            assert_eq!(checked(&zkey), Ok(()));
            let strict = Checks {
                development: false,
                ..DEVELOPMENT
            };
            assert_eq!(
                check(&zkey, &strict, &mut |_| {}),
                Err(CheckError::Development)
            );
            // The mark can be cut off; then the key is one that nobody has contributed to.
            let unmarked = rewritten(&zkey, None, |_, _| {}, |_| {});
            assert_eq!(unmarked.development(), None);
            assert_eq!(
                check(&unmarked, &strict, &mut |_| {}),
                Err(CheckError::NoContribution)
            );
            assert_eq!(checked(&unmarked), Ok(()));
        }
    }
}

#[test]
fn keys_are_a_function_of_circuit_and_seed() {
    let circuit = Circuit::products(CurveId::Bn254, 5);
    let make = |seed: u8, threads| {
        let mut file = Vec::new();
        setup_r1cs(
            &circuit.r1cs(),
            &[seed; 32],
            threads,
            &mut file,
            &mut |_| {},
        )
        .expect("a key");
        file
    };
    assert_eq!(make(1, 1), make(1, 3));
    assert_ne!(make(1, 1), make(2, 1));
}

#[test]
fn the_domain_is_the_one_that_snarkjs_chooses() {
    // 2^(floor(log2(constraints + public)) + 1); a circuit has 2 n + 1 rows and 2 public wires.
    for (steps, expected) in [
        (1, 8),
        (2, 8),
        (3, 16),
        (6, 16),
        (7, 32),
        (14, 32),
        (15, 64),
    ] {
        let zkey = Circuit::products(CurveId::Bn254, steps).zkey();
        assert_eq!(zkey.header().domain, expected, "{steps} steps");
    }
    assert_eq!(
        Circuit::nothing_public(CurveId::Bn254)
            .zkey()
            .header()
            .domain,
        2
    );
}

#[test]
fn progress_reaches_the_end_of_every_part() {
    let circuit = Circuit::products(CurveId::Bn254, 9);
    let mut last = Vec::<PartProgress>::new();
    let mut seen = |progress: PartProgress| {
        last.retain(|other| other.part != progress.part);
        last.push(progress);
    };
    let mut file = Vec::new();
    setup_r1cs(&circuit.r1cs(), &[1; 32], 2, &mut file, &mut seen).expect("a key");
    assert_eq!(last.len(), Part::ALL.len());
    assert!(last.iter().all(|part| part.done == part.total));
    last.clear();
    let zkey = Zkey::parse(file.into()).expect("a good key");
    check(&zkey, &DEVELOPMENT, &mut |progress| {
        last.retain(|other| other.part != progress.part);
        last.push(progress);
    })
    .expect("a good key");
    assert_eq!(last.len(), Part::ALL.len());
    assert!(last.iter().all(|part| part.done == part.total));
}

#[test]
fn a_bad_point_in_any_part_is_found_and_named() {
    for curve in CURVES {
        let zkey = Circuit::products(curve, 5).zkey();
        for part in Part::ALL {
            let Some(group) = part.group() else { continue };
            let len = curve.point_bytes(group);
            let count = zkey.part(part).len() / len;
            let mut faults = vec![
                (off_curve(curve, group), Fault::OffCurve),
                (vec![0xff; len], Fault::NotReduced),
            ];
            if let Some(point) = outside_the_subgroup(curve, group) {
                faults.push((point, Fault::OutsideSubgroup));
            }
            for (point, fault) in faults {
                for index in [0, count - 1] {
                    let bad = rewritten(
                        &zkey,
                        None,
                        |other, bytes| {
                            if other == part {
                                bytes[index * len..(index + 1) * len].copy_from_slice(&point);
                            }
                        },
                        |_| {},
                    );
                    assert_eq!(checked(&bad), Err(CheckError::Point { part, index, fault }));
                }
            }
        }
    }
}

/// The fault in A is its last point, so other threads meet those in later parts before it.
#[test]
fn the_first_of_several_faults_is_named() {
    let zkey = Circuit::products(CurveId::Bn254, 500).zkey();
    let wires = zkey.header().wires as usize;
    let bad = rewritten(
        &zkey,
        None,
        |part, bytes| match part {
            Part::Ic | Part::Coefficients => {}
            Part::A => bytes[64 * (wires - 1)] ^= 1,
            _ => bytes[0] ^= 1,
        },
        |_| {},
    );
    for threads in [1, 2, 3, 4, 4, 4, 4, 4] {
        let checks = Checks {
            threads,
            ..DEVELOPMENT
        };
        let expected = CheckError::Point {
            part: Part::A,
            index: wires - 1,
            fault: Fault::OffCurve,
        };
        assert_eq!(check(&bad, &checks, &mut |_| {}), Err(expected));
    }
}

#[test]
fn a_bad_header_is_refused() {
    for curve in CURVES {
        let zkey = Circuit::products(curve, 2).zkey();
        type Place = for<'a> fn(&'a mut ZkeyHeader) -> &'a mut Bytes;
        let places: [(&str, Group, Place); 6] = [
            ("alpha in G1", Group::G1, |header| &mut header.alpha_g1),
            ("beta in G1", Group::G1, |header| &mut header.beta_g1),
            ("beta in G2", Group::G2, |header| &mut header.beta_g2),
            ("gamma in G2", Group::G2, |header| &mut header.gamma_g2),
            ("delta in G1", Group::G1, |header| &mut header.delta_g1),
            ("delta in G2", Group::G2, |header| &mut header.delta_g2),
        ];
        for (name, group, place) in places {
            let with = |point: Vec<u8>| {
                let change = |header: &mut ZkeyHeader| *place(header) = point.into();
                checked(&rewritten(&zkey, None, |_, _| {}, change)).expect_err("bad")
            };
            let refused = with(off_curve(curve, group));
            assert!(
                matches!(&refused, CheckError::HeaderPoint { what, .. } if *what == name),
                "{refused}"
            );
            let refused = with(vec![0; curve.point_bytes(group)]);
            assert_eq!(refused, CheckError::HeaderInfinity { what: name });
            if let Some(point) = outside_the_subgroup(curve, group) {
                assert!(
                    matches!(with(point), CheckError::HeaderPoint { what, .. } if what == name)
                );
            }
        }
        // A gamma that is a good point, and not the generator.
        let delta = zkey.header().delta_g2.clone();
        let other_gamma = |header: &mut ZkeyHeader| header.gamma_g2 = delta;
        let bad = rewritten(&zkey, None, |_, _| {}, other_gamma);
        assert_eq!(checked(&bad), Err(CheckError::Gamma));
    }
}

#[test]
fn bad_coefficients_are_refused() {
    let curve = CurveId::Bn254;
    let zkey = Circuit::products(curve, 5).zkey();
    let with = |at: usize, bytes: &[u8]| {
        let change = |part, content: &mut Vec<u8>| {
            if part == Part::Coefficients {
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
        };
        checked(&rewritten(&zkey, None, change, |_| {})).expect_err("bad")
    };
    for (at, what) in [(0, "matrix"), (4, "constraint"), (8, "signal")] {
        let refused = with(44 + at, &u32::MAX.to_le_bytes());
        assert!(
            matches!(
                &refused,
                CheckError::Coefficient(FormatError::Coefficient { index: 1, what: got, .. })
                    if *got == what
            ),
            "{refused}"
        );
    }
    let refused = with(44 + 12, scalar_modulus(curve));
    assert!(
        matches!(
            refused,
            CheckError::Coefficient(FormatError::CoefficientValue { index: 1, .. })
        ),
        "{refused}"
    );
}

#[test]
fn a_key_without_a_verification_key_is_not_loaded() {
    let curve = CurveId::Bn254;
    let zkey = Circuit::products(curve, 2).zkey();
    let bad = rewritten(
        &zkey,
        None,
        |_, _| {},
        |header| header.beta_g2 = off_curve(curve, Group::G2).into(),
    );
    let error = VerifyError::Point {
        what: "vk_beta_2",
        fault: PointFault::Curve,
    };
    assert_eq!(verification_key(&bad), Err(error.clone()));
    let refused = ProvingKey::load(&bad, cpu()).expect_err("bad");
    assert_eq!(refused, KeyError::VerificationKey(error));
}

#[test]
fn circuits_that_have_no_key_are_refused() {
    let empty = Circuit {
        constraints: Vec::new(),
        ..Circuit::nothing_public(CurveId::Bn254)
    };
    let refused = setup_r1cs(&empty.r1cs(), &[1; 32], 1, &mut Vec::new(), &mut |_| {});
    assert!(matches!(refused, Err(SetupError::Empty)));
    let some = Circuit::nothing_public(CurveId::Bn254);
    let refused = setup_r1cs(&some.r1cs(), &[1; 32], 0, &mut Vec::new(), &mut |_| {});
    assert!(matches!(refused, Err(SetupError::Threads)));
    let claim = some.r1cs_with_wires(u32::MAX);
    let refused = setup_r1cs(&claim, &[1; 32], 1, &mut Vec::new(), &mut |_| {});
    assert!(matches!(
        refused,
        Err(SetupError::Wires { got: u32::MAX, .. })
    ));
    let refused = check(
        &some.zkey(),
        &Checks {
            threads: 0,
            ..DEVELOPMENT
        },
        &mut |_| {},
    );
    assert_eq!(refused, Err(CheckError::Threads));

    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 4,
        dense: 0.5,
        seed: [1; 32],
    };
    let refusal = |synthetic: Synthetic| {
        setup_synthetic(&synthetic, 1, &mut Vec::new(), &mut |_| {}).expect_err("no such circuit")
    };
    for dense in [-0.1, 1.1, f64::NAN] {
        assert!(matches!(
            refusal(Synthetic { dense, ..synthetic }),
            SetupError::Dense { .. }
        ));
    }
    for domain_log2 in [0, 2] {
        let refused = refusal(Synthetic {
            domain_log2,
            ..synthetic
        });
        assert!(matches!(refused, SetupError::TooSmall { got, .. } if got == domain_log2));
    }
    for domain_log2 in [28, 31, 32, 64] {
        let refused = refusal(Synthetic {
            domain_log2,
            ..synthetic
        });
        assert!(matches!(refused, SetupError::TooLarge { got, .. } if got == domain_log2));
    }
}

/// An output that fails is an error, and not the end of the process.
#[test]
fn a_full_disk_is_an_error() {
    struct Full(usize);
    impl std::io::Write for Full {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(std::io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let circuit = Circuit::products(CurveId::Bn254, 5);
    let size = circuit.zkey_bytes().len();
    for room in (0..size).step_by(97) {
        let refused = setup_r1cs(&circuit.r1cs(), &[5; 32], 1, &mut Full(room), &mut |_| {});
        assert!(
            matches!(refused, Err(SetupError::Write(_))),
            "room for {room}"
        );
    }
    setup_r1cs(&circuit.r1cs(), &[5; 32], 1, &mut Full(size), &mut |_| {}).expect("just enough");
}

/// The same key with parts and header changed.
fn rewritten(
    zkey: &Zkey,
    mark: Option<&str>,
    change: impl Fn(Part, &mut Vec<u8>),
    change_header: impl FnOnce(&mut ZkeyHeader),
) -> Zkey {
    let mut header = zkey.header().clone();
    change_header(&mut header);
    let count = zkey.coefficient_count() as u32;
    let mut writer = ZkeyWriter::new(Vec::new(), header, count, mark).expect("a good header");
    for part in Part::ALL {
        let mut content = zkey.part(part).to_vec();
        change(part, &mut content);
        writer.write(part, &content).expect("the same lengths");
    }
    let file = writer.finish().expect("all parts are written");
    Zkey::parse(file.into()).expect("a well-formed key")
}

/// (0, 1/R): its y^2 is no b of ours.
fn off_curve(curve: CurveId, group: Group) -> Vec<u8> {
    let mut bytes = vec![0; curve.point_bytes(group)];
    bytes[curve.point_bytes(group) / 2] = 1;
    bytes
}

/// A point of the curve that is not in the subgroup of order r, in the layout of keys; there is
/// none in BN254's G1.
fn outside_the_subgroup(curve: CurveId, group: Group) -> Option<Vec<u8>> {
    use caldera_prover::format::base_modulus;
    use num_bigint::BigUint;

    let coordinates: Vec<u8> = match (curve, group) {
        (CurveId::Bn254, Group::G1) => return None,
        (CurveId::Bn254, Group::G2) => stray::<ark_bn254::g2::Config>(),
        (CurveId::Bls12_381, Group::G1) => stray::<ark_bls12_381::g1::Config>(),
        (CurveId::Bls12_381, Group::G2) => stray::<ark_bls12_381::g2::Config>(),
    };
    // Into Montgomery form.
    let q = BigUint::from_bytes_le(base_modulus(curve));
    let len = curve.base_bytes();
    let montgomery = |number: &[u8]| {
        let number = (BigUint::from_bytes_le(number) << (8 * len)) % &q;
        let mut bytes = number.to_bytes_le();
        bytes.resize(len, 0);
        bytes
    };
    Some(coordinates.chunks_exact(len).flat_map(montgomery).collect())
}

/// Canonical coordinates of a point outside the subgroup.
fn stray<P: ark_ec::short_weierstrass::SWCurveConfig>() -> Vec<u8> {
    use ark_ec::short_weierstrass::Affine;
    use ark_serialize::CanonicalSerialize;

    let point = (1u64..)
        .filter_map(|x| Affine::<P>::get_point_from_x_unchecked(P::BaseField::from(x), true))
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .expect("almost every point of the curve");
    let mut bytes = Vec::new();
    for coordinate in [point.x, point.y] {
        coordinate
            .serialize_uncompressed(&mut bytes)
            .expect("a vector takes all");
    }
    bytes
}
