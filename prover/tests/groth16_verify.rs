//! The verifier accepts what `ark-groth16` accepts, and refuses everything that it takes on trust.
//!
//! Proofs here are made by knowing the key's secrets: a and b at random, and c such that the
//! equation holds. No prover and no curve code of ours is involved.

mod groth16_support;

use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, BigInteger, Field, PrimeField};
use ark_groth16::{Groth16, VerifyingKey, prepare_verifying_key};
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs, VerificationKey};
use caldera_prover::format::scalar_modulus;
use caldera_prover::groth16::{PointFault, VerifyError, verify};
use groth16_support::json_point;

const BN254: CurveId = CurveId::Bn254;

/// A key whose secrets are known, a statement, and a proof of it.
struct Forged {
    ark_key: VerifyingKey<Bn254>,
    ark_proof: ark_groth16::Proof<Bn254>,
    statement: Vec<Fr>,
}

impl Forged {
    fn new(inputs: u64) -> Forged {
        let [alpha, beta, gamma, delta, a, b] = [3, 5, 7, 11, 13, 17].map(|x: u64| {
            // Full-size and distinct.
            Fr::from(x).pow([1 << 20])
        });
        let statement: Vec<Fr> = (0..inputs).map(|i| Fr::from(i + 2).pow([100])).collect();
        let ic: Vec<Fr> = (0..=inputs).map(|i| Fr::from(i + 100).pow([77])).collect();
        let terms = statement.iter().zip(&ic[1..]);
        let public = ic[0] + terms.map(|(x, ic)| *x * ic).sum::<Fr>();
        let c = (a * b - alpha * beta - public * gamma) / delta;
        let g1 = |x: Fr| (G1Projective::generator() * x).into_affine();
        let g2 = |x: Fr| (G2Projective::generator() * x).into_affine();
        Forged {
            ark_key: VerifyingKey {
                alpha_g1: g1(alpha),
                beta_g2: g2(beta),
                gamma_g2: g2(gamma),
                delta_g2: g2(delta),
                gamma_abc_g1: ic.into_iter().map(g1).collect(),
            },
            ark_proof: ark_groth16::Proof {
                a: g1(a),
                b: g2(b),
                c: g1(c),
            },
            statement,
        }
    }

    fn key(&self) -> VerificationKey {
        let key = &self.ark_key;
        VerificationKey {
            curve: BN254,
            alpha_1: one(&key.alpha_g1),
            beta_2: two(&key.beta_g2),
            gamma_2: two(&key.gamma_g2),
            delta_2: two(&key.delta_g2),
            alpha_beta_12: None,
            ic: key.gamma_abc_g1.iter().map(one).collect(),
        }
    }

    fn proof(&self) -> Proof {
        Proof {
            curve: BN254,
            a: one(&self.ark_proof.a),
            b: two(&self.ark_proof.b),
            c: one(&self.ark_proof.c),
        }
    }

    fn inputs(&self) -> PublicInputs {
        let bytes = |x: &Fr| x.into_bigint().to_bytes_le().try_into().expect("32 bytes");
        PublicInputs::new(BN254, self.statement.iter().map(bytes).collect()).expect("below r")
    }

    /// Our verdict, which must be `ark-groth16`'s.
    fn verdict(&self) -> Result<(), VerifyError> {
        let prepared = prepare_verifying_key(&self.ark_key);
        let theirs = Groth16::<Bn254>::verify_proof(&prepared, &self.ark_proof, &self.statement);
        let ours = verify(&self.key(), &self.proof(), &self.inputs());
        assert_eq!(theirs.expect("ark gives a verdict"), ours.is_ok());
        ours
    }
}

fn one(point: &G1Affine) -> Point {
    json_point(BN254, Group::G1, point)
}

fn two(point: &G2Affine) -> Point {
    json_point(BN254, Group::G2, point)
}

#[test]
fn true_statements_are_accepted_and_any_change_is_refused() {
    // None, fewer, as many and more inputs than go into a quantum.
    for inputs in [0, 1, 8, 9, 20] {
        assert_eq!(Forged::new(inputs).verdict(), Ok(()), "{inputs} inputs");
    }
    let double_g1 = |point: G1Affine| (point + point).into_affine();
    type Change = fn(&mut Forged, &dyn Fn(G1Affine) -> G1Affine);
    let changes: [Change; 8] = [
        |forged, double| forged.ark_proof.a = double(forged.ark_proof.a),
        |forged, double| forged.ark_proof.c = double(forged.ark_proof.c),
        |forged, _| forged.ark_proof.b = (forged.ark_proof.b + forged.ark_proof.b).into_affine(),
        |forged, _| forged.ark_proof.a = -forged.ark_proof.a,
        |forged, _| forged.ark_proof.c = G1Affine::identity(),
        |forged, _| forged.statement[8] += Fr::ONE,
        |forged, _| forged.statement.swap(0, 1),
        |forged, double| {
            forged.ark_key.gamma_abc_g1[9] = double(forged.ark_key.gamma_abc_g1[9]);
        },
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut forged = Forged::new(9);
        change(&mut forged, &double_g1);
        assert_eq!(
            forged.verdict(),
            Err(VerifyError::Refused),
            "change {index}"
        );
    }
}

#[test]
fn a_proof_of_nothing_but_infinity_is_refused() {
    let mut forged = Forged::new(1);
    forged.ark_proof = ark_groth16::Proof {
        a: G1Affine::identity(),
        b: G2Affine::identity(),
        c: G1Affine::identity(),
    };
    assert_eq!(forged.verdict(), Err(VerifyError::Refused));
}

#[test]
fn inputs_of_another_number_or_size_are_refused() {
    let forged = Forged::new(3);
    let values: Vec<[u8; 32]> = forged.inputs().iter().copied().collect();
    for count in [0, 2, 4] {
        let mut values = values.clone();
        values.resize(count, [1; 32]);
        let inputs = PublicInputs::new(BN254, values).expect("below r");
        let refused = verify(&forged.key(), &forged.proof(), &inputs);
        assert_eq!(
            refused,
            Err(VerifyError::Inputs {
                expected: 3,
                got: count
            })
        );
    }
    // The same statement mod r, spelled in another way: it cannot even be held.
    let mut spelled = values;
    let mut carry = 0;
    for (byte, modulus) in spelled[0].iter_mut().zip(scalar_modulus(BN254)) {
        let sum = u16::from(*byte) + u16::from(*modulus) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert_eq!(PublicInputs::new(BN254, spelled), None);
}

#[test]
fn files_of_two_curves_are_not_mixed() {
    let forged = Forged::new(0);
    let empty = PublicInputs::new(CurveId::Bls12_381, Vec::new()).expect("nothing to refuse");
    let expected = BN254;
    let got = CurveId::Bls12_381;
    assert_eq!(
        verify(&forged.key(), &forged.proof(), &empty),
        Err(VerifyError::Curve {
            what: "public inputs",
            expected,
            got
        })
    );
    let mut proof = forged.proof();
    proof.curve = got;
    assert_eq!(
        verify(&forged.key(), &proof, &forged.inputs()),
        Err(VerifyError::Curve {
            what: "proof",
            expected,
            got
        })
    );
}

#[test]
fn points_off_the_curve_or_outside_the_subgroup_are_refused() {
    let forged = Forged::new(2);
    let mut off_bytes = forged.proof().a.bytes().to_vec();
    off_bytes[0] ^= 1;
    let off_g1 = Point::from_bytes(BN254, Group::G1, &off_bytes).expect("still below q");
    let outside = outside_the_subgroup();

    let refusal = |proof: &Proof| verify(&forged.key(), proof, &forged.inputs()).expect_err("bad");
    let point = |what, fault| VerifyError::Point { what, fault };
    let mut proof = forged.proof();
    proof.a = off_g1.clone();
    assert_eq!(refusal(&proof), point("pi_a", PointFault::Curve));
    let mut proof = forged.proof();
    proof.c = off_g1.clone();
    assert_eq!(refusal(&proof), point("pi_c", PointFault::Curve));
    let mut proof = forged.proof();
    proof.b = outside.clone();
    assert_eq!(refusal(&proof), point("pi_b", PointFault::Subgroup));

    let refusal =
        |key: &VerificationKey| verify(key, &forged.proof(), &forged.inputs()).expect_err("bad");
    let mut key = forged.key();
    key.ic[2] = off_g1;
    assert_eq!(refusal(&key), point("IC", PointFault::Curve));
    let mut key = forged.key();
    key.delta_2 = outside;
    assert_eq!(refusal(&key), point("vk_delta_2", PointFault::Subgroup));
    let mut key = forged.key();
    key.gamma_2 = two(&G2Affine::identity());
    assert_eq!(refusal(&key), point("vk_gamma_2", PointFault::Infinity));
    let mut key = forged.key();
    key.alpha_1 = one(&G1Affine::identity());
    assert_eq!(refusal(&key), point("vk_alpha_1", PointFault::Infinity));
}

/// A point of the twist that is not in the subgroup: almost any.
fn outside_the_subgroup() -> Point {
    let point = (1u64..)
        .filter_map(|x| {
            let x = Fq2::new(Fq::from(x), Fq::ZERO);
            let point = G2Affine::get_point_from_x_unchecked(x, true)?;
            (!point.is_in_correct_subgroup_assuming_on_curve()).then_some(point)
        })
        .next()
        .expect("every second x has a point");
    assert!(point.is_on_curve());
    two(&point)
}
