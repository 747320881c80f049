//! Many proofs at once: the verdicts are those of `verify`, each proof's own, whatever stands beside
//! it in the batch.
//!
//! Proofs are made by knowing the key's secrets, as in `groth16_verify.rs`, so that bad ones can be
//! made that a careless sum would let through.

mod groth16_support;

use ark_bn254::{Fq, Fq2, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::short_weierstrass::SWCurveConfig;
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField, Zero};
use caldera_kernels::cpu::Vectors;
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{EntropyError, PointFault, PreparedKey, VerifyError, verify};
use groth16_support::json_point;
use proptest::prelude::*;

const BN254: CurveId = CurveId::Bn254;

/// A key's secrets.
struct Secrets {
    alpha: Fr,
    beta: Fr,
    gamma: Fr,
    delta: Fr,
    ic: Vec<Fr>,
}

impl Secrets {
    fn new(inputs: u64) -> Secrets {
        let [alpha, beta, gamma, delta] = [3, 5, 7, 11].map(|x: u64| Fr::from(x).pow([1 << 20]));
        Secrets {
            alpha,
            beta,
            gamma,
            delta,
            ic: (0..=inputs).map(|i| Fr::from(i + 100).pow([77])).collect(),
        }
    }

    fn key(&self) -> VerificationKey {
        VerificationKey {
            curve: BN254,
            alpha_1: one(self.alpha),
            beta_2: two(self.beta),
            gamma_2: two(self.gamma),
            delta_2: two(self.delta),
            alpha_beta_12: None,
            ic: self.ic.iter().map(|x| one(*x)).collect(),
        }
    }

    /// A proof of the statement made of a number, whose C is too large by `error`.
    fn statement(&self, number: u64, error: Fr) -> Statement {
        let inputs: Vec<Fr> = (1..self.ic.len() as u64)
            .map(|i| Fr::from(number * 1000 + i).pow([99]))
            .collect();
        let a = Fr::from(number + 13).pow([1 << 10]);
        let b = Fr::from(number + 17).pow([1 << 11]);
        let terms = inputs.iter().zip(&self.ic[1..]);
        let public = self.ic[0] + terms.map(|(x, ic)| *x * ic).sum::<Fr>();
        let c = (a * b - self.alpha * self.beta - public * self.gamma) / self.delta + error;
        let bytes = |x: &Fr| x.into_bigint().to_bytes_le().try_into().expect("32 bytes");
        Statement {
            proof: Proof {
                curve: BN254,
                a: one(a),
                b: two(b),
                c: one(c),
            },
            inputs: PublicInputs::new(BN254, inputs.iter().map(bytes).collect()).expect("below r"),
        }
    }
}

#[derive(Clone)]
struct Statement {
    proof: Proof,
    inputs: PublicInputs,
}

fn one(x: Fr) -> Point {
    json_point(
        BN254,
        Group::G1,
        &(G1Projective::generator() * x).into_affine(),
    )
}

fn two(x: Fr) -> Point {
    json_point(
        BN254,
        Group::G2,
        &(G2Projective::generator() * x).into_affine(),
    )
}

/// The batch's verdicts, which must be those of `verify` and of the prepared key, on all engines.
fn verdicts(key: &VerificationKey, statements: &[Statement]) -> Vec<Result<(), VerifyError>> {
    let expected: Vec<_> = statements
        .iter()
        .map(|statement| verify(key, &statement.proof, &statement.inputs))
        .collect();
    let pairs: Vec<_> = statements
        .iter()
        .map(|statement| (&statement.proof, &statement.inputs))
        .collect();
    for vectors in [Vectors::Best, Vectors::Avx2, Vectors::None] {
        let prepared = PreparedKey::with_vectors(key, vectors).expect("a good key");
        let batch = prepared.verify_batch(&pairs).expect("randomness");
        assert_eq!(batch, expected, "{vectors:?}");
        let single: Vec<_> = pairs
            .iter()
            .map(|(proof, inputs)| prepared.verify(proof, inputs))
            .collect();
        assert_eq!(single, expected);
    }
    expected
}

/// A point of the twist outside the subgroup, of as large an order as there is.
fn outside(seed: u64) -> G2Affine {
    (0..)
        .find_map(|step| {
            let x = Fq2::new(Fq::from(seed), Fq::from(step));
            G2Affine::get_point_from_x_unchecked(x, step % 2 == 0)
        })
        .expect("every second x has a y")
}

/// What the cofactor holds of it.
fn torsion(seed: u64) -> G2Projective {
    ark_bn254::g2::Config::mul_affine(&outside(seed), &Fr::MODULUS.0)
}

#[test]
fn good_proofs_of_any_number_are_accepted() {
    for inputs in [0, 1, 3] {
        let secrets = Secrets::new(inputs);
        for count in [0, 1, 2, 3, 8, 17] {
            let statements: Vec<_> = (0..count)
                .map(|number| secrets.statement(number, Fr::ZERO))
                .collect();
            assert_eq!(
                verdicts(&secrets.key(), &statements),
                vec![Ok(()); count as usize]
            );
        }
    }
    // The same proof over and over.
    let secrets = Secrets::new(1);
    let statements = vec![secrets.statement(5, Fr::ZERO); 9];
    assert_eq!(verdicts(&secrets.key(), &statements), vec![Ok(()); 9]);
}

/// Errors that sum to zero, which is what equal coefficients would see; and errors that sum to zero
/// with the coefficients 1, 2, 3 and so on.
#[test]
fn bad_proofs_that_cancel_each_other_are_named() {
    let secrets = Secrets::new(2);
    let x = Fr::from(9).pow([1 << 12]);
    for (errors, weights) in [([x, -x], "equal"), ([x + x, -x], "counting")] {
        let mut statements: Vec<_> = (0..10)
            .map(|number| secrets.statement(number, Fr::ZERO))
            .collect();
        statements[0] = secrets.statement(100, errors[0]);
        statements[1] = secrets.statement(101, errors[1]);
        let mut expected = vec![Ok(()); 10];
        expected[0] = Err(VerifyError::Refused);
        expected[1] = Err(VerifyError::Refused);
        assert_eq!(verdicts(&secrets.key(), &statements), expected, "{weights}");
    }
}

/// Inputs that belong to each other's proofs, A and B that are swapped between proofs.
#[test]
fn parts_of_other_proofs_do_not_help() {
    let secrets = Secrets::new(1);
    let good = |number| secrets.statement(number, Fr::ZERO);
    let mut statements: Vec<_> = (0..8).map(good).collect();
    let (first, second) = (statements[2].inputs.clone(), statements[5].inputs.clone());
    statements[2].inputs = second;
    statements[5].inputs = first;
    let (first, second) = (statements[0].proof.b.clone(), statements[7].proof.b.clone());
    statements[0].proof.b = second;
    statements[7].proof.b = first;
    let refused: Vec<_> = verdicts(&secrets.key(), &statements)
        .iter()
        .map(|verdict| *verdict == Err(VerifyError::Refused))
        .collect();
    assert_eq!(
        refused,
        [true, false, true, false, false, true, false, true]
    );
}

#[test]
fn malformed_proofs_are_named_with_their_own_errors_and_harm_nobody() {
    let secrets = Secrets::new(2);
    let mut statements: Vec<_> = (0..14)
        .map(|number| secrets.statement(number, Fr::ZERO))
        .collect();
    let point = |what, fault| Err(VerifyError::Point { what, fault });
    let mut expected = vec![Ok(()); 14];
    let off_g1 = G1Affine::new_unchecked(Fq::ONE, Fq::ONE);
    let off_g2 = G2Affine::new_unchecked(Fq2::ONE, Fq2::ONE);
    let outside_g2 = json_point(BN254, Group::G2, &outside(1));
    statements[0].proof.a = json_point(BN254, Group::G1, &off_g1);
    expected[0] = point("pi_a", PointFault::Curve);
    statements[1].proof.b = json_point(BN254, Group::G2, &off_g2);
    expected[1] = point("pi_b", PointFault::Curve);
    statements[2].proof.c = json_point(BN254, Group::G1, &off_g1);
    expected[2] = point("pi_c", PointFault::Curve);
    statements[3].proof.b = outside_g2.clone();
    expected[3] = point("pi_b", PointFault::Subgroup);
    // A good B and something of the cofactor's order: pairs as the good one would.
    let b = secrets.statement(4, Fr::ZERO).proof.b;
    statements[4].proof.b = shifted(&b);
    expected[4] = point("pi_b", PointFault::Subgroup);
    // Two faults: the first that `verify` meets.
    statements[5].proof.b = outside_g2;
    statements[5].proof.c = json_point(BN254, Group::G1, &off_g1);
    expected[5] = point("pi_b", PointFault::Subgroup);
    statements[6].inputs = PublicInputs::new(BN254, vec![[1; 32]]).expect("below r");
    expected[6] = Err(VerifyError::Inputs {
        expected: 2,
        got: 1,
    });
    statements[7].inputs = PublicInputs::new(CurveId::Bls12_381, vec![]).expect("none");
    expected[7] = Err(VerifyError::Curve {
        what: "public inputs",
        expected: BN254,
        got: CurveId::Bls12_381,
    });
    statements[8].proof.curve = CurveId::Bls12_381;
    expected[8] = Err(VerifyError::Curve {
        what: "proof",
        expected: BN254,
        got: CurveId::Bls12_381,
    });
    // Infinity is a point of every group.
    let infinity = |group| Point::from_bytes(BN254, group, &vec![0; BN254.point_bytes(group)]);
    statements[9].proof.a = infinity(Group::G1).expect("infinity");
    statements[10].proof.b = infinity(Group::G2).expect("infinity");
    statements[11].proof.c = infinity(Group::G1).expect("infinity");
    for verdict in &mut expected[9..12] {
        *verdict = Err(VerifyError::Refused);
    }
    let got = verdicts_of_whole(&secrets.key(), &statements, 8);
    assert_eq!(got, expected);
}

/// `verdicts`, but for a proof whose declared curve is not that of its points, which `verify` takes
/// later than the points themselves and so by another error.
fn verdicts_of_whole(
    key: &VerificationKey,
    statements: &[Statement],
    except: usize,
) -> Vec<Result<(), VerifyError>> {
    let mut others = statements.to_vec();
    others.remove(except);
    let mut expected = verdicts(key, &others);
    let prepared = PreparedKey::new(key).expect("a good key");
    let pairs: Vec<_> = statements.iter().map(|s| (&s.proof, &s.inputs)).collect();
    let batch = prepared.verify_batch(&pairs).expect("randomness");
    expected.insert(except, batch[except].clone());
    assert_eq!(batch, expected);
    batch
}

/// The point of G2 with a point of the cofactor's order added.
fn shifted(point: &Point) -> Point {
    let coordinate = |i: usize| Fq::from_le_bytes_mod_order(&point.bytes()[32 * i..32 * (i + 1)]);
    let [x0, x1, y0, y1] = std::array::from_fn(coordinate);
    let affine = G2Affine::new_unchecked(Fq2::new(x0, x1), Fq2::new(y0, y1));
    assert!(affine.is_on_curve());
    let other = torsion(7);
    assert!(!other.is_zero());
    json_point(BN254, Group::G2, &(other + affine).into_affine())
}

/// A proof that is true only if A paired with a point of small order counts as one.
#[test]
fn a_true_proof_with_a_shifted_b_is_refused() {
    let secrets = Secrets::new(1);
    let mut statements = vec![secrets.statement(1, Fr::ZERO); 3];
    statements[1].proof.b = shifted(&statements[1].proof.b);
    let expected = VerifyError::Point {
        what: "pi_b",
        fault: PointFault::Subgroup,
    };
    assert_eq!(
        verdicts(&secrets.key(), &statements),
        [Ok(()), Err(expected), Ok(())]
    );
}

#[test]
fn keys_are_checked_as_verify_checks_them() {
    let secrets = Secrets::new(1);
    let statement = secrets.statement(1, Fr::ZERO);
    let infinity = |group| {
        Point::from_bytes(BN254, group, &vec![0; BN254.point_bytes(group)]).expect("infinity")
    };
    let outside_g2 = json_point(BN254, Group::G2, &outside(3));
    let off_g1 = json_point(BN254, Group::G1, &G1Affine::new_unchecked(Fq::ONE, Fq::ONE));
    let changes: [&dyn Fn(&mut VerificationKey); 8] = [
        &|key| key.alpha_1 = infinity(Group::G1),
        &|key| key.beta_2 = infinity(Group::G2),
        &|key| key.gamma_2 = infinity(Group::G2),
        &|key| key.delta_2 = infinity(Group::G2),
        &|key| key.beta_2 = outside_g2.clone(),
        &|key| key.gamma_2 = outside_g2.clone(),
        &|key| key.delta_2 = outside_g2.clone(),
        &|key| key.ic[1] = off_g1.clone(),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut key = secrets.key();
        change(&mut key);
        let expected = verify(&key, &statement.proof, &statement.inputs).expect_err("a bad key");
        let got = PreparedKey::new(&key).err();
        assert_eq!(got, Some(expected), "change {index}");
    }
    let mut key = secrets.key();
    key.ic.clear();
    assert!(PreparedKey::new(&key).is_err());
}

#[test]
fn without_randomness_there_is_no_verdict() {
    let secrets = Secrets::new(1);
    let statements = [1, 2, 3].map(|number| secrets.statement(number, Fr::ZERO));
    let pairs: Vec<_> = statements.iter().map(|s| (&s.proof, &s.inputs)).collect();
    let prepared = PreparedKey::new(&secrets.key()).expect("a good key");
    let failure = EntropyError::Source("closed".into());
    let got = prepared.verify_batch_with(&pairs, &mut |_| Err(failure.clone()));
    assert_eq!(got, Err(failure));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    /// Any mixture of good and bad ones.
    #[test]
    fn each_proof_has_its_own_verdict(bad in proptest::collection::vec(any::<bool>(), 1..24)) {
        let secrets = Secrets::new(1);
        let statements: Vec<_> = bad
            .iter()
            .zip(0..)
            .map(|(bad, number)| secrets.statement(number, Fr::from(u64::from(*bad))))
            .collect();
        let got = verdicts(&secrets.key(), &statements);
        for (bad, verdict) in bad.iter().zip(got) {
            prop_assert_eq!(verdict, match bad {
                true => Err(VerifyError::Refused),
                false => Ok(()),
            });
        }
    }
}
