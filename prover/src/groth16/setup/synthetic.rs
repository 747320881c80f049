//! A circuit of any size that looks like a real one to a prover, and its witness.
//!
//! What a proof costs depends on the shape of a circuit in three places: how many witness
//! elements are full-size (a multiplication each in every sum) and how many are 0 or 1 (nothing
//! and an addition), how many terms a row has, and how many wires are in no row of B (points at
//! infinity in that query). So:
//!
//! - A share of the wires, to choose, is a chain of products
//!   `x' = (x + k y + bit) * (p + k')` with full-size constants, as in a hash: x and y are the
//!   last two of the chain and p the last at an even place, so that every second wire of the
//!   chain is in no row of B.
//! - The others are bits, by turns free (`b (b - 1) = 0`) and the AND of the last two free ones
//!   (in no row of B), as in arithmetic on bits; three in eight are 1.
//! - The two are spread evenly through each other, and the last two rows make two public
//!   outputs.
//!
//! Nothing follows from such a proof. The witness is the prover's own choice.

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::field::PrimeField;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::{Circuit, Matrix, SetupError, Term, random};
use crate::format::Wtns;

/// A synthetic circuit. The same values give the same key and witness.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Synthetic {
    /// The curve of the key.
    pub curve: CurveId,
    /// log2 of the domain, which the circuit fills; it has as many wires.
    pub domain_log2: u32,
    /// The share of witness elements that are full-size, 0 to 1; the others are 0 or 1. Two
    /// inputs and two outputs are full-size at any share.
    pub dense: f64,
    /// What the constants, the witness and the key's secrets are drawn from.
    pub seed: [u8; 32],
}

/// A synthetic circuit of so many wires: as many as its domain has room for, or fewer.
pub(super) struct Sized<'a> {
    of: &'a Synthetic,
    wires: u32,
}

impl Synthetic {
    /// All of it.
    pub(super) fn whole(&self) -> Sized<'_> {
        let wires = 1 << self.domain_log2;
        Sized { of: self, wires }
    }

    /// Of it so much as makes so many constraints, if its domain is the smallest that has room for them.
    pub(super) fn part(&self, constraints: u32) -> Result<Sized<'_>, SetupError> {
        let outside = FIRST_GATE_WIRE - OUTPUTS.len() as u32;
        let wires = constraints.saturating_add(outside);
        let most = 1 << self.domain_log2;
        if wires > most || wires <= most / 2 {
            return Err(SetupError::Constraints {
                expected_min: (most / 2 + 1).saturating_sub(outside),
                expected_max: most - outside,
                got: constraints,
            });
        }
        Ok(Sized { of: self, wires })
    }

    /// Refuses what cannot be built.
    pub(super) fn check(&self) -> Result<(), SetupError> {
        if !(0.0..=1.0).contains(&self.dense) {
            return Err(SetupError::Dense { got: self.dense });
        }
        if self.domain_log2 < DOMAIN_LOG2_MIN {
            return Err(SetupError::TooSmall {
                expected_min: DOMAIN_LOG2_MIN,
                got: self.domain_log2,
            });
        }
        // The counts of the file are of 32 bits; which domain the field has is asked later.
        if self.domain_log2 >= 32 {
            return Err(SetupError::TooLarge {
                curve: self.curve,
                expected_max: 31,
                got: self.domain_log2,
            });
        }
        Ok(())
    }
}

impl Sized<'_> {
    /// A witness that satisfies the circuit.
    pub(super) fn witness<F: PrimeField>(&self) -> Wtns {
        let mut values = vec![F::ZERO; self.wires as usize];
        values[ONE as usize] = F::ONE;
        self.walk(&mut |step: Step<F>| match step {
            Step::Input(wire, value) => values[wire as usize] = value,
            Step::Gate(_, gate) => {
                let side = |row: &Row<F>| {
                    let terms = row.terms().iter();
                    terms.fold(F::ZERO, |sum, (wire, k)| sum + values[*wire as usize] * *k)
                };
                values[gate.output as usize] = match gate.bit {
                    Some(bit) => F::from(u64::from(bit)),
                    None => side(&gate.a) * side(&gate.b),
                };
            }
        });
        let mut elements = vec![0; 32 * values.len()];
        for (value, bytes) in values.iter().zip(elements.chunks_exact_mut(32)) {
            value.to_canonical_le(bytes);
        }
        Wtns::from_elements(self.of.curve, Bytes::from(elements))
            .expect("whole elements with the constant 1 first")
    }

    /// How many rows make a private wire.
    fn gates(&self) -> u32 {
        self.wires - FIRST_GATE_WIRE
    }

    /// Goes through the circuit from inputs to outputs.
    fn walk<F: PrimeField>(&self, visit: &mut dyn FnMut(Step<F>)) {
        let mut stream = ChaCha20Rng::from_seed(self.of.seed);
        // The secrets of the key are drawn from stream 0.
        stream.set_stream(1);
        let gates = u64::from(self.gates());
        let full_size = (self.of.dense * f64::from(self.wires)).round() as u64;
        let chain = full_size.saturating_sub(4).min(gates);

        // The chain's last wires, and the last two free bits; the constant until there are any.
        let (mut x, mut y, mut even) = (FIRST_INPUT + 1, FIRST_INPUT, FIRST_INPUT);
        let (mut bit, mut bit_before) = (ONE, ONE);
        let mut free = true;
        let mut placed = 0;
        for wire in [FIRST_INPUT, FIRST_INPUT + 1] {
            visit(Step::Input(wire, random(self.of.curve, &mut stream)));
        }
        for i in 0..gates {
            let row = i as u32;
            let output = FIRST_GATE_WIRE + row;
            let in_chain = (i + 1) * chain / gates > i * chain / gates;
            if in_chain {
                let k = random(self.of.curve, &mut stream);
                let k_b = random(self.of.curve, &mut stream);
                visit(Step::Gate(
                    row,
                    Gate {
                        a: Row::new(&[(x, F::ONE), (y, k), (bit, F::ONE)]),
                        b: Row::new(&[(even, F::ONE), (ONE, k_b)]),
                        c: Row::new(&[(output, F::ONE)]),
                        output,
                        bit: None,
                    },
                ));
                if placed % 2 == 1 {
                    even = output;
                }
                placed += 1;
                (x, y) = (output, x);
            } else if free {
                let value = stream.next_u32() & 1 == 1;
                visit(Step::Gate(
                    row,
                    Gate {
                        a: Row::new(&[(output, F::ONE)]),
                        b: Row::new(&[(output, F::ONE), (ONE, -F::ONE)]),
                        c: Row::new(&[]),
                        output,
                        bit: Some(value),
                    },
                ));
                (bit, bit_before) = (output, bit);
                free = false;
            } else {
                visit(Step::Gate(
                    row,
                    Gate {
                        a: Row::new(&[(bit, F::ONE)]),
                        b: Row::new(&[(bit_before, F::ONE)]),
                        c: Row::new(&[(output, F::ONE)]),
                        output,
                        bit: None,
                    },
                ));
                free = true;
            }
        }
        for output in OUTPUTS {
            let k = random(self.of.curve, &mut stream);
            visit(Step::Gate(
                self.gates() + output - 1,
                Gate {
                    a: Row::new(&[(x, F::ONE), (bit, k)]),
                    b: Row::new(&[(y, F::ONE), (ONE, k)]),
                    c: Row::new(&[(output, F::ONE)]),
                    output,
                    bit: None,
                },
            ));
        }
    }
}

impl<F: PrimeField> Circuit<F> for Sized<'_> {
    fn wires(&self) -> u32 {
        self.wires
    }

    fn public(&self) -> u32 {
        OUTPUTS.len() as u32
    }

    fn constraints(&self) -> u32 {
        self.gates() + OUTPUTS.len() as u32
    }

    fn terms(&self, visit: &mut dyn FnMut(Term<F>)) {
        self.walk(&mut |step: Step<F>| {
            let Step::Gate(row, gate) = step else {
                return;
            };
            for (matrix, side) in [
                (Matrix::A, &gate.a),
                (Matrix::B, &gate.b),
                (Matrix::C, &gate.c),
            ] {
                for &(wire, coefficient) in side.terms() {
                    visit(Term {
                        matrix,
                        row,
                        wire,
                        coefficient,
                    });
                }
            }
        });
    }
}

/// One thing on the way through the circuit.
enum Step<F> {
    /// A wire that nothing determines, and its value.
    Input(u32, F),
    /// A row.
    Gate(u32, Gate<F>),
}

struct Gate<F> {
    a: Row<F>,
    b: Row<F>,
    c: Row<F>,
    /// The wire whose value the row sets.
    output: u32,
    /// The value, where the row only narrows it down; otherwise it is A times B.
    bit: Option<bool>,
}

/// Up to three wires with their coefficients.
struct Row<F> {
    terms: [(u32, F); 3],
    len: usize,
}

impl<F: PrimeField> Row<F> {
    fn new(terms: &[(u32, F)]) -> Row<F> {
        let mut row = Row {
            terms: [(ONE, F::ZERO); 3],
            len: terms.len(),
        };
        row.terms[..terms.len()].copy_from_slice(terms);
        row
    }

    fn terms(&self) -> &[(u32, F)] {
        &self.terms[..self.len]
    }
}

/// The wires: the constant, two outputs, two inputs, one for each gate.
const ONE: u32 = 0;
const OUTPUTS: [u32; 2] = [1, 2];
const FIRST_INPUT: u32 = 3;
const FIRST_GATE_WIRE: u32 = 5;

/// The frame of five wires needs eight.
const DOMAIN_LOG2_MIN: u32 = 3;

#[cfg(test)]
mod tests {
    use caldera_kernels::field::{Field, FrBn254};

    use super::*;

    fn synthetic(dense: f64) -> Synthetic {
        Synthetic {
            curve: CurveId::Bn254,
            domain_log2: 10,
            dense,
            seed: [3; 32],
        }
    }

    #[test]
    fn the_witness_satisfies_every_row() {
        let circuits = [0.0, 0.4, 1.0].map(synthetic);
        let parts = circuits
            .iter()
            .map(|it| it.part(700).expect("more than half"));
        for circuit in circuits.iter().map(Synthetic::whole).chain(parts) {
            let witness = circuit.witness::<FrBn254>();
            let values: Vec<FrBn254> = witness
                .elements()
                .chunks_exact(32)
                .map(|bytes| FrBn254::from_canonical_le(bytes).expect("a scalar"))
                .collect();
            let mut sides =
                vec![[FrBn254::ZERO; 3]; Circuit::<FrBn254>::constraints(&circuit) as usize];
            circuit.terms(&mut |term: Term<FrBn254>| {
                sides[term.row as usize][term.matrix as usize] +=
                    term.coefficient * values[term.wire as usize];
            });
            for (row, [a, b, c]) in sides.iter().enumerate() {
                assert_eq!(*a * *b, *c, "row {row} of {} wires", circuit.wires);
            }
        }
    }

    #[test]
    fn a_part_has_as_many_constraints_as_were_asked_for() {
        let circuit = synthetic(0.5);
        for constraints in [510, 700, 1021] {
            let part = circuit.part(constraints).expect("within the domain");
            assert_eq!(Circuit::<FrBn254>::constraints(&part), constraints);
        }
        assert_eq!(Circuit::<FrBn254>::constraints(&circuit.whole()), 1021);
        for constraints in [0, 509, 1022, u32::MAX] {
            let refused = circuit.part(constraints).err();
            assert!(
                matches!(
                    refused,
                    Some(SetupError::Constraints {
                        expected_min: 510,
                        expected_max: 1021,
                        got,
                    }) if got == constraints
                ),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn the_share_of_full_size_elements_is_the_one_asked_for() {
        for dense in [0.0, 0.25, 0.9, 1.0] {
            let witness = synthetic(dense).whole().witness::<FrBn254>();
            let full = witness
                .elements()
                .chunks_exact(32)
                .filter(|bytes| bytes[1..].iter().any(|byte| *byte != 0))
                .count();
            let expected = (dense * 1024.0).clamp(4.0, 1023.0);
            assert!((full as f64 - expected).abs() <= 1.0, "{full} at {dense}");
        }
    }
}
