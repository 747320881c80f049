//! Verifying other people's proofs quickly: with our own pairing, one by one or many at once.
//!
//! What the self-check of a job asks is [`verify`](super::verify()), which shares no arithmetic
//! with the prover. Here that is no concern, as the proofs are others', and speed is:
//! [`PreparedKey`] has the key's points of G2 as lines, tables for the public inputs, and the
//! pairing of `caldera-kernels`. Its verdicts are those of `verify`, errors included.
//!
//! **Many at once.** With random r_i, all of n equations hold if this one does, but for a chance of
//! 2^-132 that the r_i take their one bad value:
//!
//! ```text
//! prod e(r_i A_i, B_i) = e(R alpha, beta) e(sum r_i S_i, gamma) e(sum r_i C_i, delta)
//! ```
//!
//! with R = sum r_i and S_i = IC_0 + sum x_ij IC_j. So a proof costs one Miller loop on vectors and
//! two short multiples; three loops over prepared lines and the final exponentiation are shared.
//! The r_i must be unknown to whoever makes the proofs when he makes them. They come from the
//! operating system: nobody has to repeat a verification with the same ones, and to hash all
//! proofs, keys and inputs into them would cost time and would have to be right.
//!
//! **If it does not hold,** halves are asked with r_i of their own, down to few, which are verified
//! one by one: each bad proof is named with its own error, and no good one is refused. If the first half
//! holds, the second does not, and is not asked as a whole. Malformed inputs and points off the curve
//! are named before anything is paired, points outside the subgroup at the end of the loop that would
//! have used them; neither takes part in an equation. Of n proofs all of which are bad, about
//! log2 n times the work of a good batch and n single verifications are made: who is afraid of
//! that verifies strangers' proofs in batches of their own.
//!
//! **BLS12-381** has no pairing of ours. There the verifier is that of `verify`, and a batch is its
//! proofs one by one: the same verdicts, nothing gained.

use caldera_kernels::CurveId;
use caldera_kernels::cpu::Vectors;
use caldera_kernels::curve::{Affine, Bn254, Curve, Projective};
use caldera_kernels::field::{Field, PrimeField};
use caldera_kernels::pairing::{Batch, Coefficient, Fq12, Lines, Windows, miller_loop, pairing};

use super::blinding::EntropyError;
use super::verify::{PointFault, Verifier, VerifyError, curve_of, prepare, whole};
use crate::format::json::{Point, Proof, PublicInputs, VerificationKey};

type Fq = <Bn254 as Curve>::Fq;
type Fr = <Bn254 as Curve>::Fr;
type G1 = Affine<Fq>;
type G2 = Affine<<Bn254 as Curve>::Fq2>;

/// A verification key made ready for many proofs. See the top of the module.
pub struct PreparedKey {
    suite: Suite,
}

enum Suite {
    /// By our pairing.
    Ours(Box<Equation>),
    /// By arkworks's, one by one.
    Theirs(Box<dyn Verifier>),
}

impl PreparedKey {
    /// Checks a key and prepares it, which takes some milliseconds.
    pub fn new(key: &VerificationKey) -> Result<PreparedKey, VerifyError> {
        PreparedKey::with_vectors(key, Vectors::Best)
    }

    /// The same with those vector instructions in batches; with none where the processor lacks
    /// them.
    pub fn with_vectors(
        key: &VerificationKey,
        vectors: Vectors,
    ) -> Result<PreparedKey, VerifyError> {
        let suite = match key.curve {
            CurveId::Bn254 => {
                let none = Batch::new(Vectors::None).expect("no instructions are needed for none");
                let batch = Batch::new(vectors).unwrap_or(none);
                Suite::Ours(Box::new(Equation::new(key, batch)?))
            }
            CurveId::Bls12_381 => Suite::Theirs(prepare(key)?),
        };
        Ok(PreparedKey { suite })
    }

    /// Verifies one proof; says what [`verify`](super::verify()) says.
    pub fn verify(&self, proof: &Proof, inputs: &PublicInputs) -> Result<(), VerifyError> {
        match &self.suite {
            Suite::Ours(equation) => equation.verify(&equation.statement(proof, inputs)?),
            Suite::Theirs(verifier) => whole(&**verifier, proof, inputs),
        }
    }

    /// Verifies many proofs, and gives each its verdict, in order: `Ok` means valid but for a
    /// chance of 2^-132, every error is exactly what [`PreparedKey::verify`] says of that proof.
    pub fn verify_batch(
        &self,
        statements: &[(&Proof, &PublicInputs)],
    ) -> Result<Vec<Result<(), VerifyError>>, EntropyError> {
        let source = &mut |bytes: &mut [u8]| {
            getrandom::fill(bytes).map_err(|error| EntropyError::Source(error.to_string()))
        };
        self.verify_batch_with(statements, source)
    }

    /// The same with coefficients from `source`, which must fill what it is handed with bytes that
    /// nobody who made a proof could foresee.
    pub fn verify_batch_with(
        &self,
        statements: &[(&Proof, &PublicInputs)],
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), EntropyError>,
    ) -> Result<Vec<Result<(), VerifyError>>, EntropyError> {
        let equation = match &self.suite {
            Suite::Ours(equation) => equation,
            Suite::Theirs(_) => {
                let one = |(proof, inputs): &(&Proof, &PublicInputs)| self.verify(proof, inputs);
                return Ok(statements.iter().map(one).collect());
            }
        };
        let mut verdicts = Vec::with_capacity(statements.len());
        let mut judged = Vec::with_capacity(statements.len());
        for (index, (proof, inputs)) in statements.iter().enumerate() {
            match equation.statement(proof, inputs) {
                Ok(statement) => {
                    judged.push((index, statement));
                    verdicts.push(Ok(()));
                }
                Err(error) => verdicts.push(Err(error)),
            }
        }
        let mut search = Search {
            equation,
            source,
            verdicts: &mut verdicts,
        };
        search.of(judged, false)?;
        Ok(verdicts)
    }
}

/// The bisection.
struct Search<'a> {
    equation: &'a Equation,
    source: &'a mut dyn FnMut(&mut [u8]) -> Result<(), EntropyError>,
    verdicts: &'a mut [Result<(), VerifyError>],
}

impl Search<'_> {
    /// Finds the bad ones among statements, of which it may be known that there are some, and says
    /// whether there are.
    fn of(
        &mut self,
        mut statements: Vec<(usize, Statement)>,
        known: bool,
    ) -> Result<bool, EntropyError> {
        if statements.len() < BATCH_MIN {
            let mut bad = false;
            for (index, statement) in &statements {
                self.verdicts[*index] = self.equation.verify(statement);
                bad |= self.verdicts[*index].is_err();
            }
            return Ok(bad);
        }
        if !known {
            match self.equation.verify_all(&statements, self.source)? {
                Ok(true) => return Ok(false),
                Ok(false) => {}
                Err(outside) => {
                    for &at in outside.iter().rev() {
                        let (index, _) = statements.remove(at);
                        self.verdicts[index] = Err(OUTSIDE);
                    }
                    self.of(statements, false)?;
                    return Ok(true);
                }
            }
        }
        let second = statements.split_off(statements.len() / 2);
        let bad = self.of(statements, false)?;
        self.of(second, !bad)?;
        Ok(true)
    }
}

/// A key as lines and tables, of BN254.
struct Equation {
    batch: Batch,
    alpha_beta: Fq12,
    /// alpha, and IC_0 and on, for coefficients and inputs.
    alpha: Windows,
    ic: Windows,
    ic_zero: G1,
    inputs: usize,
    /// Of -beta, -gamma and -delta.
    beta: Lines,
    gamma: Lines,
    delta: Lines,
}

/// A proof and its inputs, well-formed but for the subgroup of B.
struct Statement {
    a: G1,
    b: G2,
    c: G1,
    inputs: Vec<Fr>,
}

impl Equation {
    fn new(key: &VerificationKey, batch: Batch) -> Result<Equation, VerifyError> {
        let alpha = finite("vk_alpha_1", g1("vk_alpha_1", &key.alpha_1)?)?;
        let lines = |what, point: &Point| {
            let point = finite(what, g2(what, point)?)?;
            let fault = PointFault::Subgroup;
            Lines::of(&-point).ok_or(VerifyError::Point { what, fault })
        };
        let beta = lines("vk_beta_2", &key.beta_2)?;
        let gamma = lines("vk_gamma_2", &key.gamma_2)?;
        let delta = lines("vk_delta_2", &key.delta_2)?;
        let ic = key.ic.iter().map(|point| g1("IC", point));
        let ic = ic.collect::<Result<Vec<_>, _>>()?;
        // A key that was read has one; without it there is no statement.
        let (what, fault) = ("IC", PointFault::Infinity);
        let &ic_zero = ic.first().ok_or(VerifyError::Point { what, fault })?;
        Ok(Equation {
            batch,
            alpha_beta: pairing(&-alpha, &beta),
            alpha: Windows::new(&[alpha]),
            ic: Windows::new(&ic),
            ic_zero,
            inputs: ic.len() - 1,
            beta,
            gamma,
            delta,
        })
    }

    /// Checks all but the subgroup of B, in the order of [`super::verify()`].
    fn statement(&self, proof: &Proof, inputs: &PublicInputs) -> Result<Statement, VerifyError> {
        curve_of("public inputs", CurveId::Bn254, inputs.curve())?;
        if inputs.len() != self.inputs {
            return Err(VerifyError::Inputs {
                expected: self.inputs,
                got: inputs.len(),
            });
        }
        curve_of("proof", CurveId::Bn254, proof.curve)?;
        for point in [&proof.a, &proof.b, &proof.c] {
            curve_of("proof", CurveId::Bn254, point.curve())?;
        }
        let a = g1("pi_a", &proof.a)?;
        let b = g2("pi_b", &proof.b)?;
        let c = g1("pi_c", &proof.c).map_err(|error| match b.is_in_subgroup() {
            true => error,
            false => OUTSIDE,
        })?;
        let scalar = |bytes: &[u8; 32]| {
            Fr::from_canonical_le(bytes)
                .expect("public inputs hold only scalars below the r of their curve")
        };
        Ok(Statement {
            a,
            b,
            c,
            inputs: inputs.iter().map(scalar).collect(),
        })
    }

    fn verify(&self, statement: &Statement) -> Result<(), VerifyError> {
        let Some(b) = Lines::of(&statement.b) else {
            return Err(OUTSIDE);
        };
        let mut scalars = vec![Fr::ZERO];
        scalars.extend(&statement.inputs);
        let sum = self.ic.sum(&scalars).add_affine(&self.ic_zero).to_affine();
        let product = miller_loop(&[
            (statement.a, &b),
            (sum, &self.gamma),
            (statement.c, &self.delta),
        ]);
        match product.final_exponentiation() {
            Some(value) if value == self.alpha_beta => Ok(()),
            _ => Err(VerifyError::Refused),
        }
    }

    /// Whether the sum of all equations with random coefficients holds, or where B is outside the
    /// subgroup.
    fn verify_all(
        &self,
        statements: &[(usize, Statement)],
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), EntropyError>,
    ) -> Result<Result<bool, Vec<usize>>, EntropyError> {
        let mut bytes = vec![0; Coefficient::BYTES * statements.len()];
        source(&mut bytes)?;
        let coefficients: Vec<Coefficient> = bytes
            .as_chunks::<{ Coefficient::BYTES }>()
            .0
            .iter()
            .map(Coefficient::new)
            .collect();
        let mut scalars = vec![Fr::ZERO; self.inputs + 1];
        for ((_, statement), coefficient) in statements.iter().zip(&coefficients) {
            let coefficient = coefficient.scalar();
            scalars[0] += coefficient;
            for (sum, input) in scalars[1..].iter_mut().zip(&statement.inputs) {
                *sum += coefficient * *input;
            }
        }
        let points = |of: fn(&Statement) -> G1| {
            let points: Vec<G1> = statements
                .iter()
                .map(|(_, statement)| of(statement))
                .collect();
            self.batch.multiples(&points, &coefficients)
        };
        let a = Projective::batch_to_affine(&points(|statement| statement.a));
        let mut c = Projective::INFINITY;
        for multiple in points(|statement| statement.c) {
            c += multiple;
        }
        let pairs: Vec<_> = a
            .into_iter()
            .zip(statements.iter().map(|(_, s)| s.b))
            .collect();
        let product = match self.batch.miller_loop(&pairs) {
            Ok(product) => product,
            Err(outside) => return Ok(Err(outside)),
        };
        let fixed = [self.alpha.sum(&scalars[..1]), self.ic.sum(&scalars), c];
        let fixed = Projective::batch_to_affine(&fixed);
        let fixed = miller_loop(&[
            (fixed[0], &self.beta),
            (fixed[1], &self.gamma),
            (fixed[2], &self.delta),
        ]);
        let value = product.multiply(&fixed).final_exponentiation();
        Ok(Ok(value == Some(Fq12::ONE)))
    }
}

/// A point of the curve, which all is the subgroup.
fn g1(what: &'static str, point: &Point) -> Result<G1, VerifyError> {
    on_curve(what, point, Fq::from_canonical_le)
}

/// A point of the twist; the subgroup is left to the Miller loop.
fn g2(what: &'static str, point: &Point) -> Result<G2, VerifyError> {
    on_curve(what, point, |bytes| {
        let (c0, c1) = bytes.split_at(bytes.len() / 2);
        let c0 = Fq::from_canonical_le(c0)?;
        Some(<Bn254 as Curve>::Fq2::new(c0, Fq::from_canonical_le(c1)?))
    })
}

fn on_curve<F: caldera_kernels::curve::Coordinate>(
    what: &'static str,
    point: &Point,
    coordinate: impl Fn(&[u8]) -> Option<F>,
) -> Result<Affine<F>, VerifyError> {
    if point.is_infinity() {
        return Ok(Affine::INFINITY);
    }
    let refuse = |fault| VerifyError::Point { what, fault };
    let (x, y) = point.bytes().split_at(point.bytes().len() / 2);
    let read = |bytes| coordinate(bytes).ok_or(refuse(PointFault::Range));
    let point = Affine {
        x: read(x)?,
        y: read(y)?,
    };
    match point.is_on_curve() {
        true => Ok(point),
        false => Err(refuse(PointFault::Curve)),
    }
}

/// Refuses infinity where it would make the equation say less than it should.
fn finite<F: caldera_kernels::curve::Coordinate>(
    what: &'static str,
    point: Affine<F>,
) -> Result<Affine<F>, VerifyError> {
    let fault = PointFault::Infinity;
    match point.is_infinity() {
        true => Err(VerifyError::Point { what, fault }),
        false => Ok(point),
    }
}

/// What is said of a B outside the subgroup.
const OUTSIDE: VerifyError = VerifyError::Point {
    what: "pi_b",
    fault: PointFault::Subgroup,
};

/// Fewer are verified one by one: the three fixed loops of a batch, and lanes that are empty, cost
/// more than what is shared.
const BATCH_MIN: usize = 2;
