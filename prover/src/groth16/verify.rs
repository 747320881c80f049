//! The verifier: `ark-groth16`'s equation, with every check that it leaves to its caller.
//!
//! A proof (A, B, C) for public inputs x holds when
//!
//! ```text
//! e(A, B) = e(alpha, beta) * e(IC_0 + sum x_i IC_i, gamma) * e(C, delta)
//! ```
//!
//! The equation alone is not a verifier. Coordinates must be below q and points on the curve and
//! in the subgroup, or the pairing is not bilinear; there must be as many inputs as the key has
//! and each below r, or one statement has many spellings, which has let coins be spent twice
//! (snarkjs PR 480). Each of these is its own error: here, or, for numbers that are too large,
//! already where [`Proof`] and [`PublicInputs`] are read, which cannot hold them.
//!
//! `ark-groth16` and `ark-ec` do the mathematics and share no code with our prover, so the
//! self-check of a job is this very file. There it must not hold a core for long, so the
//! verifier is cut where the mathematics has joints: a few inputs at a time, the points, the
//! Miller loops, the final exponentiation. A Miller loop of several pairs is the product of their
//! loops, so what does not need C is multiplied while the sums that make C still run: after them
//! one loop of three is left, on a point that was prepared with the key. [`verify`] is the same
//! pieces in a row.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ark_ec::pairing::{MillerLoopOutput, Pairing};
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::PrimeField;
use ark_groth16::{PreparedVerifyingKey, VerifyingKey};
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use caldera_kernels::{CurveId, Progress};

use crate::format::json::{Point, Proof, PublicInputs, VerificationKey};

/// Why a proof was refused, or could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The proof or the inputs are over another curve than the key.
    #[error("{what}: expected curve {expected:?}, got {got:?}")]
    Curve {
        /// "proof" or "public inputs".
        what: &'static str,
        /// The key's curve.
        expected: CurveId,
        /// Its own.
        got: CurveId,
    },
    /// Another number of public inputs than the key has.
    #[error("expected {expected} public inputs, got {got}")]
    Inputs {
        /// What the key has.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// A point that no honest prover or ceremony makes.
    #[error("{what}: {fault}")]
    Point {
        /// "pi_a", "vk_delta_2", "IC".
        what: &'static str,
        /// What is wrong with it.
        fault: PointFault,
    },
    /// All is well-formed and the equation does not hold: the proof is not valid.
    #[error("the pairing equation does not hold")]
    Refused,
}

/// What is wrong with a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointFault {
    /// A coordinate is not below the base field's modulus.
    #[error("a coordinate is not below the field's modulus")]
    Range,
    /// The coordinates do not satisfy the curve's equation.
    #[error("the point is not on the curve")]
    Curve,
    /// The point is on the curve and outside the prime-order subgroup.
    #[error("the point is outside the subgroup")]
    Subgroup,
    /// The point at infinity, in a place of the key where it would void the equation.
    #[error("the point is at infinity")]
    Infinity,
}

/// Verifies one proof. `Ok` means valid; [`VerifyError::Refused`] means well-formed and not
/// valid; everything else means that there was nothing to judge.
pub fn verify(
    key: &VerificationKey,
    proof: &Proof,
    inputs: &PublicInputs,
) -> Result<(), VerifyError> {
    whole(&*prepare(key)?, proof, inputs)
}

/// All quanta of a verification in a row.
pub(super) fn whole(
    verifier: &dyn Verifier,
    proof: &Proof,
    inputs: &PublicInputs,
) -> Result<(), VerifyError> {
    let verification = verifier.begin(inputs)?;
    while verification.inputs()? == Progress::More {}
    while verification.pair_ab(&proof.a, &proof.b)? == Progress::More {}
    verification.pair_c(proof)?;
    verification.exponentiate()
}

/// A verification key made ready for many proofs: e(alpha, beta) computed, gamma and delta
/// prepared for the Miller loop.
pub(super) trait Verifier: Send + Sync {
    /// Begins to verify: checks the inputs, computes nothing.
    fn begin(&self, inputs: &PublicInputs) -> Result<Box<dyn Verification>, VerifyError>;

    /// e(alpha, beta), canonical little-endian coordinates in the order of the tower
    /// Fq12 / Fq6 / Fq2: what snarkjs prints as `vk_alphabeta_12`.
    fn alpha_beta(&self) -> Vec<u8>;
}

/// One verification in quanta: `inputs` and `pair_ab` until each says `Done`, then `pair_c`, then
/// `exponentiate`.
pub(super) trait Verification: Send + Sync {
    /// Adds a few public inputs to the sum over IC.
    fn inputs(&self) -> Result<Progress, VerifyError>;

    /// First quantum: checks A and B. Second: the Miller loop of what is paired with B and with
    /// gamma, after all inputs.
    fn pair_ab(&self, a: &Point, b: &Point) -> Result<Progress, VerifyError>;

    /// Checks C and multiplies by the Miller loop of what is paired with delta. A proof whose A
    /// and B are not those that `pair_ab` had is refused: nobody has judged it.
    fn pair_c(&self, proof: &Proof) -> Result<(), VerifyError>;

    /// The final exponentiation, and the verdict.
    fn exponentiate(&self) -> Result<(), VerifyError>;
}

/// Checks a verification key and prepares it.
pub(super) fn prepare(key: &VerificationKey) -> Result<Box<dyn Verifier>, VerifyError> {
    Ok(match key.curve {
        CurveId::Bn254 => Box::new(Prepared::<ark_bn254::Bn254>::new(key)?),
        CurveId::Bls12_381 => Box::new(Prepared::<ark_bls12_381::Bls12_381>::new(key)?),
    })
}

/// A pairing whose points can be made from bytes, with every check.
trait Suite: Pairing {
    const CURVE: CurveId;
    fn g1(what: &'static str, bytes: &[u8]) -> Result<Self::G1Affine, VerifyError>;
    fn g2(what: &'static str, bytes: &[u8]) -> Result<Self::G2Affine, VerifyError>;
}

impl Suite for ark_bn254::Bn254 {
    const CURVE: CurveId = CurveId::Bn254;
    fn g1(what: &'static str, bytes: &[u8]) -> Result<ark_bn254::G1Affine, VerifyError> {
        point::<ark_bn254::g1::Config>(what, bytes)
    }
    fn g2(what: &'static str, bytes: &[u8]) -> Result<ark_bn254::G2Affine, VerifyError> {
        point::<ark_bn254::g2::Config>(what, bytes)
    }
}

impl Suite for ark_bls12_381::Bls12_381 {
    const CURVE: CurveId = CurveId::Bls12_381;
    fn g1(what: &'static str, bytes: &[u8]) -> Result<ark_bls12_381::G1Affine, VerifyError> {
        point::<ark_bls12_381::g1::Config>(what, bytes)
    }
    fn g2(what: &'static str, bytes: &[u8]) -> Result<ark_bls12_381::G2Affine, VerifyError> {
        point::<ark_bls12_381::g2::Config>(what, bytes)
    }
}

/// A point from canonical little-endian coordinates x || y, all zero for infinity.
fn point<P: SWCurveConfig>(what: &'static str, bytes: &[u8]) -> Result<Affine<P>, VerifyError> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Affine::identity());
    }
    let refuse = |fault| VerifyError::Point { what, fault };
    let coordinate = |bytes: &[u8]| {
        P::BaseField::deserialize_uncompressed(bytes).map_err(|_| refuse(PointFault::Range))
    };
    let (x, y) = bytes.split_at(bytes.len() / 2);
    let point = Affine::<P>::new_unchecked(coordinate(x)?, coordinate(y)?);
    if !point.is_on_curve() {
        return Err(refuse(PointFault::Curve));
    }
    if !point.is_in_correct_subgroup_assuming_on_curve() {
        return Err(refuse(PointFault::Subgroup));
    }
    Ok(point)
}

/// A key whose fixed part of the equation has been computed.
struct Prepared<E: Pairing> {
    key: Arc<PreparedVerifyingKey<E>>,
}

impl<E: Suite> Prepared<E> {
    fn new(key: &VerificationKey) -> Result<Prepared<E>, VerifyError> {
        let fixed_g1 = |what, bytes| finite(what, E::g1(what, bytes)?);
        let fixed_g2 = |what, bytes| finite(what, E::g2(what, bytes)?);
        let ark = VerifyingKey::<E> {
            alpha_g1: fixed_g1("vk_alpha_1", key.alpha_1.bytes())?,
            beta_g2: fixed_g2("vk_beta_2", key.beta_2.bytes())?,
            gamma_g2: fixed_g2("vk_gamma_2", key.gamma_2.bytes())?,
            delta_g2: fixed_g2("vk_delta_2", key.delta_2.bytes())?,
            gamma_abc_g1: key
                .ic
                .iter()
                .map(|point| E::g1("IC", point.bytes()))
                .collect::<Result<_, _>>()?,
        };
        Ok(Prepared {
            key: Arc::new(ark_groth16::prepare_verifying_key(&ark)),
        })
    }
}

/// Refuses infinity where it would make the equation say less than it should.
fn finite<P: AffineRepr>(what: &'static str, point: P) -> Result<P, VerifyError> {
    let fault = PointFault::Infinity;
    match point.is_zero() {
        true => Err(VerifyError::Point { what, fault }),
        false => Ok(point),
    }
}

impl<E: Suite> Verifier for Prepared<E> {
    fn begin(&self, inputs: &PublicInputs) -> Result<Box<dyn Verification>, VerifyError> {
        curve_of("public inputs", E::CURVE, inputs.curve())?;
        let ic = &self.key.vk.gamma_abc_g1;
        if inputs.len() + 1 != ic.len() {
            return Err(VerifyError::Inputs {
                expected: ic.len() - 1,
                got: inputs.len(),
            });
        }
        let scalar = |bytes: &[u8; 32]| {
            E::ScalarField::deserialize_uncompressed(&bytes[..])
                .expect("public inputs hold only scalars below the r of their curve")
        };
        let inputs = inputs.iter().map(scalar).collect();
        Ok(Box::new(Equation {
            key: Arc::clone(&self.key),
            state: Mutex::new(State {
                sum: ic[0].into_group(),
                inputs_added: 0,
                judged: None,
                product: None,
            }),
            inputs,
        }))
    }

    fn alpha_beta(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.key
            .alpha_g1_beta_g2
            .serialize_uncompressed(&mut bytes)
            .expect("a vector takes all that is written to it");
        bytes
    }
}

/// One proof's equation, partly evaluated.
struct Equation<E: Pairing> {
    key: Arc<PreparedVerifyingKey<E>>,
    inputs: Vec<E::ScalarField>,
    state: Mutex<State<E>>,
}

struct State<E: Pairing> {
    /// IC_0 + sum of x_i IC_i over the inputs added.
    sum: E::G1,
    inputs_added: usize,
    /// A and B, once they have been checked.
    judged: Option<Judged<E>>,
    product: Option<MillerLoopOutput<E>>,
}

/// A and B as they were given, and as `ark` has them.
struct Judged<E: Pairing> {
    given: (Point, Point),
    a: E::G1Affine,
    b: E::G2Affine,
}

impl<E: Pairing> Equation<E> {
    /// Each quantum leaves the state whole, or does not change it.
    fn state(&self) -> MutexGuard<'_, State<E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E: Suite> Verification for Equation<E> {
    fn inputs(&self) -> Result<Progress, VerifyError> {
        let state = &mut *self.state();
        let from = state.inputs_added;
        let to = self.inputs.len().min(from + INPUTS_PER_QUANTUM);
        for i in from..to {
            // Base i + 1 belongs to input i: IC_0 is that of the constant.
            state.sum += self.key.vk.gamma_abc_g1[i + 1].mul_bigint(self.inputs[i].into_bigint());
        }
        state.inputs_added = to;
        Ok(match to == self.inputs.len() {
            true => Progress::Done,
            false => Progress::More,
        })
    }

    fn pair_ab(&self, a: &Point, b: &Point) -> Result<Progress, VerifyError> {
        let state = &mut *self.state();
        let Some(judged) = &state.judged else {
            curve_of("proof", E::CURVE, a.curve())?;
            state.judged = Some(Judged {
                a: E::g1("pi_a", a.bytes())?,
                b: E::g2("pi_b", b.bytes())?,
                given: (a.clone(), b.clone()),
            });
            return Ok(Progress::More);
        };
        // These pairs and that of `pair_c` are those that
        // ark_groth16::verify_proof_with_prepared_inputs multiplies.
        state.product = Some(E::multi_miller_loop(
            [
                E::G1Prepared::from(judged.a),
                E::G1Prepared::from(state.sum.into_affine()),
            ],
            [
                E::G2Prepared::from(judged.b),
                self.key.gamma_g2_neg_pc.clone(),
            ],
        ));
        Ok(Progress::Done)
    }

    fn pair_c(&self, proof: &Proof) -> Result<(), VerifyError> {
        let state = &mut *self.state();
        curve_of("proof", E::CURVE, proof.curve)?;
        let given = state.judged.as_ref().map(|judged| &judged.given);
        if given.is_none_or(|(a, b)| *a != proof.a || *b != proof.b) {
            return Err(VerifyError::Refused);
        }
        let c = E::g1("pi_c", proof.c.bytes())?;
        let delta = self.key.delta_g2_neg_pc.clone();
        let of_c = E::miller_loop(E::G1Prepared::from(c), delta);
        if let Some(product) = &mut state.product {
            product.0 *= of_c.0;
        }
        Ok(())
    }

    fn exponentiate(&self) -> Result<(), VerifyError> {
        // Without a Miller loop, or with a zero from one, there is nothing that could be valid.
        let value = self
            .state()
            .product
            .take()
            .and_then(E::final_exponentiation);
        match value {
            Some(value) if value.0 == self.key.alpha_g1_beta_g2 => Ok(()),
            _ => Err(VerifyError::Refused),
        }
    }
}

pub(super) fn curve_of(
    what: &'static str,
    expected: CurveId,
    got: CurveId,
) -> Result<(), VerifyError> {
    match expected == got {
        true => Ok(()),
        false => Err(VerifyError::Curve {
            what,
            expected,
            got,
        }),
    }
}

/// A multiplication by a public input takes 0.1 to 0.2 ms on a core of 2021, so eight stay
/// within a quantum of 2 ms.
const INPUTS_PER_QUANTUM: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use caldera_kernels::Group;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};

    use super::*;
    use crate::format::Zkey;
    use crate::groth16::{ProvingKey, Synthetic, prove, setup_synthetic};

    fn negative<P: SWCurveConfig>(what: &'static str, given: &Point) -> Point {
        let affine = -point::<P>(what, given.bytes()).expect("a point of a proof");
        let mut bytes = Vec::new();
        for coordinate in [affine.x, affine.y] {
            coordinate
                .serialize_uncompressed(&mut bytes)
                .expect("a vector takes all that is written to it");
        }
        Point::from_bytes(given.curve(), given.group(), &bytes).expect("a point again")
    }

    /// (-A, -B, C) is as valid a proof as (A, B, C), but not the one whose A and B were paired.
    #[test]
    fn only_the_proof_that_was_judged_is_accepted() {
        let circuit = Synthetic {
            curve: CurveId::Bn254,
            domain_log2: 3,
            dense: 0.5,
            seed: [7; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&circuit, 1, &mut file, &mut |_| ()).expect("a key");
        let zkey = Zkey::parse(Bytes::from(file)).expect("our own key");
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 1,
        });
        let key = ProvingKey::load(&zkey, device).expect("our own key");
        let (proof, inputs) = prove(&key, witness, 1, &mut |_, _| ()).expect("a proof");
        let twin = Proof {
            a: negative::<ark_bn254::g1::Config>("pi_a", &proof.a),
            b: negative::<ark_bn254::g2::Config>("pi_b", &proof.b),
            ..proof.clone()
        };
        assert_eq!(twin.b.group(), Group::G2);
        assert_ne!(twin, proof);
        let judge = |proof: &Proof| verify(key.verification_key(), proof, &inputs);
        assert_eq!((judge(&proof), judge(&twin)), (Ok(()), Ok(())));

        let verification = key.verifier().begin(&inputs).expect("its own inputs");
        while verification.inputs().expect("inputs") == Progress::More {}
        while verification.pair_ab(&proof.a, &proof.b).expect("points") == Progress::More {}
        assert_eq!(verification.pair_c(&twin), Err(VerifyError::Refused));
    }
}
