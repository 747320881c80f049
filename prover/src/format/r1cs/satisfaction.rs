//! Whether a witness satisfies a constraint system, found out in steps of any size.
//!
//! A proof says so too, but only that it does not, after all the work, and never which constraint is broken. Here
//! each constraint is looked at by itself, in the order of the file, and the first that does not hold is named
//! by its number, which is the one that circom's and snarkjs's tools give it.
//!
//! A step stops in the middle of a constraint if it must: one linear combination may have as many terms as there are
//! wires. Nothing is set aside but three sums.
//!
//! Both coefficients and wires lie in their files as plain integers, and the field computes in Montgomery form. Read
//! as if they were in that form already, a coefficient c stands for c / R and a wire w for w / R, so a sum comes to
//! A / R^2; and A B = C if and only if (A / R^2) (B / R^2) = (C / R^2) / R^2. So no number is ever converted.

use std::fmt;

use caldera_kernels::CurveId;
use caldera_kernels::field::{Field, FrBls12_381, FrBn254, PrimeField};
use thiserror::Error;
use zeroize::Zeroize;

use super::{R1cs, WIRE_LEN};
use crate::format::Wtns;

/// A witness on its way through a constraint system.
pub struct Satisfaction {
    r1cs: R1cs,
    witness: Wtns,
    sums: Sums,
}

/// Why a witness does not satisfy a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Unsatisfied {
    /// It is of another field.
    #[error("the witness: expected scalars of {expected:?}, got {got:?}")]
    Field {
        /// The system's.
        expected: CurveId,
        /// The witness's.
        got: CurveId,
    },
    /// It is longer or shorter.
    #[error("the witness: expected {expected} wires, got {got}")]
    Wires {
        /// The system's.
        expected: u32,
        /// The witness's.
        got: usize,
    },
    /// A constraint does not hold.
    #[error("constraint {constraint}, counted from 0, of {count} does not hold")]
    Constraint {
        /// Its number.
        constraint: u32,
        /// How many there are.
        count: u32,
    },
}

enum Sums {
    Bn254(Place<FrBn254>),
    Bls12_381(Place<FrBls12_381>),
}

/// How far one is.
struct Place<F: Field> {
    /// In the bytes of the constraints.
    offset: usize,
    constraint: u32,
    /// A, B or C.
    side: usize,
    /// Terms of that side that are left, once it is begun.
    terms: Option<usize>,
    /// Secret as the witness is.
    sums: [F; 3],
}

impl Satisfaction {
    /// Begins with the first constraint. Elements of the witness that are not below the modulus are not found
    /// here: see [`Wtns::check`].
    pub fn new(r1cs: &R1cs, witness: Wtns) -> Result<Satisfaction, Unsatisfied> {
        if r1cs.curve() != witness.curve() {
            return Err(Unsatisfied::Field {
                expected: r1cs.curve(),
                got: witness.curve(),
            });
        }
        if r1cs.wires() as usize != witness.len() {
            return Err(Unsatisfied::Wires {
                expected: r1cs.wires(),
                got: witness.len(),
            });
        }
        let sums = match r1cs.curve() {
            CurveId::Bn254 => Sums::Bn254(Place::first()),
            CurveId::Bls12_381 => Sums::Bls12_381(Place::first()),
        };
        Ok(Satisfaction {
            r1cs: r1cs.clone(),
            witness,
            sums,
        })
    }

    /// Goes on for so many terms, where each side of a constraint counts as one more. The witness, once all
    /// constraints are known to hold. Not to be called again after that, nor after an error.
    pub fn step(&mut self, terms: usize) -> Result<Option<Wtns>, Unsatisfied> {
        let (r1cs, witness) = (&self.r1cs, &self.witness);
        let step = match &mut self.sums {
            Sums::Bn254(place) => place.go_on(r1cs, witness, terms),
            Sums::Bls12_381(place) => place.go_on(r1cs, witness, terms),
        };
        match step {
            Ok(true) => Ok(Some(self.witness.clone())),
            Ok(false) => Ok(None),
            Err(constraint) => Err(Unsatisfied::Constraint {
                constraint,
                count: self.r1cs.count,
            }),
        }
    }
}

impl fmt::Debug for Satisfaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Satisfaction")
            .field("r1cs", &self.r1cs)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}

impl<F: PrimeField> Place<F> {
    fn first() -> Place<F> {
        Place {
            offset: 0,
            constraint: 0,
            side: 0,
            terms: None,
            sums: [F::ZERO; 3],
        }
    }

    /// Whether it has come to the end; or the number of the constraint that does not hold.
    fn go_on(&mut self, r1cs: &R1cs, witness: &Wtns, terms: usize) -> Result<bool, u32> {
        let bytes = &r1cs.constraints[..];
        let elements = &witness.elements()[..];
        let (term_len, element_len) = (WIRE_LEN + F::BYTES, F::BYTES);
        let word = |at: usize| {
            let it = &bytes[at..at + WIRE_LEN];
            u32::from_le_bytes([it[0], it[1], it[2], it[3]]) as usize
        };
        // Of a step of no terms nobody would see an end.
        let mut left = terms.max(1);
        while self.constraint < r1cs.count {
            if left == 0 {
                return Ok(false);
            }
            let there = match self.terms {
                Some(there) => there,
                None => {
                    left -= 1;
                    let there = word(self.offset);
                    self.offset += WIRE_LEN;
                    there
                }
            };
            let now = there.min(left);
            let mut sum = self.sums[self.side];
            for at in (0..now).map(|term| self.offset + term * term_len) {
                // The reader has held every wire and every coefficient against its bound.
                let wire = word(at) * element_len;
                let wire = F::from_montgomery_le_unchecked(&elements[wire..wire + element_len]);
                let coefficient = &bytes[at + WIRE_LEN..at + term_len];
                sum += wire * F::from_montgomery_le_unchecked(coefficient);
            }
            self.sums[self.side] = sum;
            self.offset += now * term_len;
            left -= now;
            self.terms = Some(there - now).filter(|left| *left > 0);
            if self.terms.is_none() {
                self.side += 1;
            }
            if self.side == 3 {
                let [a, b, c] = self.sums;
                if a * b != c * inverse_of_r_squared::<F>() {
                    return Err(self.constraint);
                }
                self.side = 0;
                self.constraint += 1;
                self.sums = [F::ZERO; 3];
            }
        }
        Ok(true)
    }
}

impl<F: Field> Drop for Place<F> {
    fn drop(&mut self) {
        self.sums.zeroize();
    }
}

/// 1 / R^2, where R is that of the Montgomery form.
fn inverse_of_r_squared<F: PrimeField>() -> F {
    let mut words = F::Words::default();
    words.as_mut()[0] = 1;
    F::from_montgomery_words(words).square()
}
