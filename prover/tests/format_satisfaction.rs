//! A witness is held against each constraint, in steps of any size, and the first that does not hold is named.

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::{R1cs, R1csBuilder, Satisfaction, Unsatisfied, Wtns, scalar_modulus};

fn number(value: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&value.to_le_bytes());
    bytes
}

/// r - 1, which is -1.
fn minus_one(curve: CurveId) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(scalar_modulus(curve));
    bytes[0] -= 1;
    bytes
}

/// x y = z; (x + 2 y)(1) = t, where the zero of an empty side is tried too: 0 (x) = 0.
fn system(curve: CurveId) -> R1cs {
    let one = number(1);
    let mut builder = R1csBuilder::new(curve, 5, 0);
    builder.constraint([&[(1, one)], &[(2, one)], &[(3, one)]]);
    builder.constraint([&[], &[(1, one)], &[]]);
    builder.constraint([&[(1, one), (2, number(2))], &[(0, one)], &[(4, one)]]);
    let back = [(0, minus_one(curve))];
    builder.constraint([&[(4, one)], &back, &[(4, minus_one(curve))]]);
    R1cs::parse(Bytes::from(builder.finish())).expect("a system")
}

fn witness(curve: CurveId, [x, y, z, t]: [u64; 4]) -> Wtns {
    let elements = [1, x, y, z, t].map(number).concat();
    Wtns::from_elements(curve, Bytes::from(elements)).expect("a witness")
}

fn judge(curve: CurveId, values: [u64; 4], terms: usize) -> (Result<(), Unsatisfied>, usize) {
    let it = Satisfaction::new(&system(curve), witness(curve, values));
    let mut it = it.expect("they fit");
    for steps in 1.. {
        match it.step(terms) {
            Ok(None) => {}
            Ok(Some(_)) => return (Ok(()), steps),
            Err(error) => return (Err(error), steps),
        }
    }
    unreachable!("a step of a term ends")
}

#[test]
fn a_failed_constraint_is_named_whatever_the_length_of_a_step() {
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        for terms in [0, 1, 2, 3, 5, 100] {
            let judge = |values| judge(curve, values, terms).0;
            assert_eq!(judge([3, 5, 15, 13]), Ok(()), "{curve:?} {terms}");
            assert_eq!(judge([0, 0, 0, 0]), Ok(()));
            let failed = |constraint| {
                Err(Unsatisfied::Constraint {
                    constraint,
                    count: 4,
                })
            };
            assert_eq!(judge([3, 5, 16, 13]), failed(0));
            assert_eq!(judge([3, 5, 15, 14]), failed(2));
        }
    }
    // 11 terms and 12 sides.
    let steps = |terms| judge(CurveId::Bn254, [3, 5, 15, 13], terms).1;
    assert_eq!(steps(1_000), 1);
    assert!(steps(2) >= 11, "{}", steps(2));
}

#[test]
fn what_does_not_fit_is_refused() {
    let [bn254, bls12_381] = [CurveId::Bn254, CurveId::Bls12_381];
    let refused = Satisfaction::new(&system(bn254), witness(bls12_381, [0; 4]));
    assert!(matches!(refused.err(), Some(Unsatisfied::Field { .. })));
    let short = Wtns::from_elements(bn254, Bytes::from(number(1).to_vec()));
    let refused = Satisfaction::new(&system(bn254), short.expect("the constant 1"));
    let (expected, got) = (5, 1);
    assert_eq!(refused.err(), Some(Unsatisfied::Wires { expected, got }));
}
