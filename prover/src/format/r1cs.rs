//! `.r1cs`: a rank-1 constraint system, as circom writes it.
//!
//! Section 1 names the scalar field and counts wires, inputs, outputs and constraints; section 2
//! has the constraints, each three linear combinations A, B and C with A w * B w - C w = 0;
//! section 3 (labels) is for debuggers and is skipped; sections 4 and 5 (custom gates) are
//! refused unless they are empty, for dropping a gate would make a key for another circuit.
//!
//! The wires are the constant 1, the public outputs, the public inputs, then the private ones.
//!
//! [`R1cs::parse`] walks over all constraints once and checks every term, so that the iterators
//! afterwards have nothing left to refuse.

mod satisfaction;

use std::fmt;

use bytes::Bytes;
use caldera_kernels::CurveId;

pub use satisfaction::{Satisfaction, Unsatisfied};

use super::prime::{is_below, scalar_field, scalar_modulus};
use super::section::{Container, Fields};
use super::{File, FormatError};

/// A constraint system, as it lies in its file.
#[derive(Clone)]
pub struct R1cs {
    curve: CurveId,
    wires: u32,
    public_outputs: u32,
    public_inputs: u32,
    private_inputs: u32,
    count: u32,
    constraints: Bytes,
}

impl R1cs {
    /// Reads a whole file and checks every constraint.
    pub fn parse(bytes: Bytes) -> Result<R1cs, FormatError> {
        let container = Container::parse(File::R1cs, bytes)?;
        for kind in [CUSTOM_GATES, CUSTOM_GATE_USES] {
            if let Some(gates) = container.find(kind) {
                no_gates(gates)?;
            }
        }
        let mut header = container.need(HEADER, "header")?;
        let curve = scalar_field(&mut header)?;
        let wires = header.u32("the count of wires")?;
        let public_outputs = header.u32("the count of public outputs")?;
        let public_inputs = header.u32("the count of public inputs")?;
        let private_inputs = header.u32("the count of private inputs")?;
        header.u64("the count of labels")?;
        let count = header.u32("the count of constraints")?;
        header.end()?;
        let expected_min = 1 + u64::from(public_outputs) + u64::from(public_inputs);
        if u64::from(wires) < expected_min {
            let (what, got) = ("the count of wires", wires.into());
            return Err(FormatError::Count {
                file: File::R1cs,
                what,
                expected_min,
                got,
            });
        }
        let mut fields = container.need(CONSTRAINTS, "constraints")?;
        let constraints = fields.clone().take(fields.left(), "constraints")?;
        for constraint in 0..count {
            for what in ["the terms of A", "the terms of B", "the terms of C"] {
                check_combination(&mut fields, constraint, what, curve, wires)?;
            }
        }
        fields.end()?;
        Ok(R1cs {
            curve,
            wires,
            public_outputs,
            public_inputs,
            private_inputs,
            count,
            constraints,
        })
    }

    /// The curve whose scalars the coefficients are.
    pub fn curve(&self) -> CurveId {
        self.curve
    }

    /// How many wires there are, the constant 1 included; at least one.
    pub fn wires(&self) -> u32 {
        self.wires
    }

    /// How many wires after the constant 1 are public: outputs first, then inputs. Fewer than
    /// there are wires.
    pub fn public_count(&self) -> u32 {
        self.public_outputs + self.public_inputs
    }

    /// How many of the public wires are outputs.
    pub fn public_outputs(&self) -> u32 {
        self.public_outputs
    }

    /// How many of the public wires are inputs.
    pub fn public_inputs(&self) -> u32 {
        self.public_inputs
    }

    /// How many private inputs the circuit says it has; nothing depends on it.
    pub fn private_inputs(&self) -> u32 {
        self.private_inputs
    }

    /// How many constraints there are.
    pub fn constraint_count(&self) -> u32 {
        self.count
    }

    /// The constraints, in the order of the file.
    pub fn constraints(&self) -> impl Iterator<Item = Constraint<'_>> {
        let mut rest = &self.constraints[..];
        let term_len = WIRE_LEN + self.curve.scalar_bytes();
        (0..self.count).map(move |_| {
            let mut combination = || {
                let (count, after) = rest.split_at(4);
                let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]);
                let (terms, after) = after.split_at(count as usize * term_len);
                rest = after;
                LinearCombination { terms, term_len }
            };
            Constraint {
                a: combination(),
                b: combination(),
                c: combination(),
            }
        })
    }
}

impl fmt::Debug for R1cs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("R1cs")
            .field("curve", &self.curve)
            .field("wires", &self.wires)
            .field("constraints", &self.count)
            .finish_non_exhaustive()
    }
}

/// Writes a file: a constraint system that was made here instead of by circom.
pub struct R1csBuilder {
    curve: CurveId,
    wires: u32,
    public_inputs: u32,
    count: u32,
    constraints: Vec<u8>,
}

impl R1csBuilder {
    /// For so many wires, the constant 1 included, of which so many after it are public inputs.
    pub fn new(curve: CurveId, wires: u32, public_inputs: u32) -> R1csBuilder {
        R1csBuilder {
            curve,
            wires,
            public_inputs,
            count: 0,
            constraints: Vec::new(),
        }
    }

    /// Adds a constraint: the terms of A, B and C, each a wire and a canonical little-endian
    /// coefficient, by rising wire. What is wrong with them the reader says.
    pub fn constraint(&mut self, sides: [&[(u32, [u8; 32])]; 3]) {
        self.count += 1;
        for side in sides {
            let count = side.len() as u32;
            self.constraints.extend_from_slice(&count.to_le_bytes());
            for (wire, coefficient) in side {
                self.constraints.extend_from_slice(&wire.to_le_bytes());
                self.constraints.extend_from_slice(coefficient);
            }
        }
    }

    /// The whole file. All wires that are not public are called auxiliary ones, and the label of
    /// each is its own number.
    pub fn finish(self) -> Vec<u8> {
        let modulus = scalar_modulus(self.curve);
        let mut header = Vec::new();
        header.extend_from_slice(&(modulus.len() as u32).to_le_bytes());
        header.extend_from_slice(modulus);
        for number in [self.wires, 0, self.public_inputs, 0] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        header.extend_from_slice(&u64::from(self.wires).to_le_bytes());
        header.extend_from_slice(&self.count.to_le_bytes());
        let labels = (0..u64::from(self.wires))
            .flat_map(u64::to_le_bytes)
            .collect();
        let mut file = b"r1cs".to_vec();
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(&3u32.to_le_bytes());
        let sections = [
            (HEADER, header),
            (CONSTRAINTS, self.constraints),
            (LABELS, labels),
        ];
        for (kind, content) in sections {
            file.extend_from_slice(&kind.to_le_bytes());
            file.extend_from_slice(&(content.len() as u64).to_le_bytes());
            file.extend_from_slice(&content);
        }
        file
    }
}

/// One constraint: A w * B w = C w.
#[derive(Debug, Clone, Copy)]
pub struct Constraint<'a> {
    /// The left factor.
    pub a: LinearCombination<'a>,
    /// The right factor.
    pub b: LinearCombination<'a>,
    /// The product.
    pub c: LinearCombination<'a>,
}

/// A sum of wires, each times a coefficient. The specification puts wires in rising order; a
/// wire that occurs twice counts twice, as in the keys that snarkjs makes.
#[derive(Debug, Clone, Copy)]
pub struct LinearCombination<'a> {
    terms: &'a [u8],
    term_len: usize,
}

impl<'a> LinearCombination<'a> {
    /// How many terms there are.
    pub fn len(&self) -> usize {
        self.terms.len() / self.term_len
    }

    /// Whether the combination is zero for want of terms.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The terms: a wire, and its coefficient as a canonical little-endian scalar.
    pub fn terms(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        self.terms.chunks_exact(self.term_len).map(|term| {
            let (wire, coefficient) = term.split_at(WIRE_LEN);
            (
                u32::from_le_bytes([wire[0], wire[1], wire[2], wire[3]]),
                coefficient,
            )
        })
    }
}

/// Reads one linear combination and checks every term of it.
fn check_combination(
    fields: &mut Fields,
    constraint: u32,
    what: &'static str,
    curve: CurveId,
    wires: u32,
) -> Result<(), FormatError> {
    let modulus = scalar_modulus(curve);
    let term_len = WIRE_LEN + modulus.len();
    let count = fields.u32(what)?;
    let start = fields.offset();
    let terms = fields.take(u64::from(count) * term_len as u64, what)?;
    let combination = LinearCombination {
        terms: &terms,
        term_len,
    };
    for (i, (wire, coefficient)) in combination.terms().enumerate() {
        let offset = start + (i * term_len) as u64;
        if wire >= wires {
            let (expected, got) = (wires, wire);
            return Err(FormatError::ConstraintWire {
                constraint,
                offset,
                expected,
                got,
            });
        }
        if !is_below(coefficient, modulus) {
            let offset = offset + WIRE_LEN as u64;
            return Err(FormatError::ConstraintValue { constraint, offset });
        }
    }
    Ok(())
}

/// circom once wrote sections 4 and 5 into every file, with a count of zero.
fn no_gates(mut gates: Fields) -> Result<(), FormatError> {
    let (section, offset) = (gates.section(), gates.offset());
    if gates.left() == 0 || (gates.left() == 4 && gates.u32("the count of gates")? == 0) {
        return Ok(());
    }
    Err(FormatError::CustomGates { section, offset })
}

const HEADER: u32 = 1;
const CONSTRAINTS: u32 = 2;
const LABELS: u32 = 3;
const CUSTOM_GATES: u32 = 4;
const CUSTOM_GATE_USES: u32 = 5;
const WIRE_LEN: usize = 4;
