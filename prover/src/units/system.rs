//! A rank-1 constraint system as it is written down, or a witness of it, by the same code.
//!
//! A [`Sum`] is a linear combination of wires together with its value. Adding and scaling sums
//! costs no constraint; [`System::product`] and [`System::enforce`] do. Two systems differ in
//! what they keep:
//!
//! - one that records keeps every constraint, and its values mean nothing;
//! - one that fills keeps values alone: its sums have no terms, so it allocates almost nothing
//!   and builds no matrix.
//!
//! A constant is known as such in both, so both go the same way. Nothing else may steer: the code
//! of a circuit never branches on a value, and a division by zero gives zero, so wrong inputs give
//! a wrong witness and not a panic.

use std::ops::{Add, Sub};

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, One, PrimeField, Zero};
use zeroize::Zeroize;

/// A linear combination of wires, by rising wire, and its value, which is overwritten when the sum is
/// dropped: it may be a secret, or tell of one.
#[derive(Debug, Clone)]
pub(super) struct Sum {
    value: Fr,
    terms: Vec<(u32, Fr)>,
    constant: bool,
}

impl Sum {
    pub(super) fn value(&self) -> Fr {
        self.value
    }

    pub(super) fn times(&self, factor: Fr) -> Sum {
        Sum {
            value: self.value * factor,
            terms: match factor.is_zero() {
                true => Vec::new(),
                false => self.terms.iter().map(|(w, c)| (*w, *c * factor)).collect(),
            },
            constant: self.constant,
        }
    }

    fn merged(&self, other: &Sum, value: Fr, sign: impl Fn(Fr) -> Fr) -> Sum {
        let mut terms = Vec::with_capacity(self.terms.len() + other.terms.len());
        let (mut left, mut right) = (&self.terms[..], &other.terms[..]);
        while let (Some(a), Some(b)) = (left.first(), right.first()) {
            if a.0 < b.0 {
                terms.push(*a);
                left = &left[1..];
            } else if b.0 < a.0 {
                terms.push((b.0, sign(b.1)));
                right = &right[1..];
            } else {
                let coefficient = a.1 + sign(b.1);
                if !coefficient.is_zero() {
                    terms.push((a.0, coefficient));
                }
                (left, right) = (&left[1..], &right[1..]);
            }
        }
        terms.extend_from_slice(left);
        terms.extend(right.iter().map(|(wire, c)| (*wire, sign(*c))));
        Sum {
            value,
            terms,
            constant: self.constant && other.constant,
        }
    }
}

impl Drop for Sum {
    fn drop(&mut self) {
        self.value.zeroize();
    }
}

impl Add for &Sum {
    type Output = Sum;
    fn add(self, other: &Sum) -> Sum {
        self.merged(other, self.value + other.value, |c| c)
    }
}

impl Sub for &Sum {
    type Output = Sum;
    fn sub(self, other: &Sum) -> Sum {
        self.merged(other, self.value - other.value, |c| -c)
    }
}

/// One constraint: a b = c.
pub(super) type Row = [Vec<(u32, Fr)>; 3];

/// A constraint system that records, or a witness that is filled in.
pub(super) struct System {
    recording: bool,
    values: Vec<Fr>,
    rows: Vec<Row>,
    count: u32,
    parts: Vec<(&'static str, u32)>,
}

impl System {
    /// One that keeps constraints.
    pub(super) fn recording() -> System {
        System::new(true, 0)
    }

    /// One that keeps values, with room for so many wires: growing would leave copies of secrets
    /// behind.
    pub(super) fn filling(wires: usize) -> System {
        System::new(false, wires)
    }

    fn new(recording: bool, wires: usize) -> System {
        let mut values = Vec::with_capacity(wires);
        values.push(Fr::one());
        System {
            recording,
            values,
            rows: Vec::new(),
            count: 0,
            parts: Vec::new(),
        }
    }

    /// Says that what follows belongs to a part of the circuit, for the table of its costs.
    pub(super) fn part(&mut self, name: &'static str) {
        self.parts.push((name, self.count));
    }

    /// A constant, which costs no wire.
    pub(super) fn constant(&self, value: Fr) -> Sum {
        Sum {
            value,
            terms: match self.recording && !value.is_zero() {
                true => vec![(0, value)],
                false => Vec::new(),
            },
            constant: true,
        }
    }

    /// A new wire.
    pub(super) fn wire(&mut self, value: Fr) -> Sum {
        let wire = self.values.len() as u32;
        self.values.push(value);
        Sum {
            value,
            terms: match self.recording {
                true => vec![(wire, Fr::one())],
                false => Vec::new(),
            },
            constant: false,
        }
    }

    /// Demands a b = c.
    pub(super) fn enforce(&mut self, a: &Sum, b: &Sum, c: &Sum) {
        self.count += 1;
        if self.recording {
            let row = [a, b, c].map(|side| side.terms.clone());
            self.rows.push(row);
        }
    }

    /// Demands a = b.
    pub(super) fn equal(&mut self, a: &Sum, b: &Sum) {
        let one = self.constant(Fr::one());
        self.enforce(a, &one, b);
    }

    /// a b: free if one of them is a constant, else a wire and a constraint.
    pub(super) fn product(&mut self, a: &Sum, b: &Sum) -> Sum {
        if a.constant {
            return b.times(a.value);
        }
        if b.constant {
            return a.times(b.value);
        }
        let product = self.wire(a.value * b.value);
        self.enforce(a, b, &product);
        product
    }

    /// The wire q with q b = a. Where b is zero this says nothing of q: whoever calls says why
    /// it is not, or why that does not matter.
    pub(super) fn quotient(&mut self, a: &Sum, b: &Sum) -> Sum {
        self.quotient_by(a, b, b.value.inverse().unwrap_or(Fr::ZERO))
    }

    /// The same, for one who has the inverse of b already.
    pub(super) fn quotient_by(&mut self, a: &Sum, b: &Sum, b_inverse: Fr) -> Sum {
        let quotient = self.wire(a.value * b_inverse);
        self.enforce(&quotient, b, a);
        quotient
    }

    /// A wire that is 0 or 1.
    pub(super) fn bit(&mut self, value: bool) -> Sum {
        let bit = self.wire(Fr::from(u64::from(value)));
        let other = &bit - &self.constant(Fr::one());
        let zero = self.constant(Fr::zero());
        self.enforce(&bit, &other, &zero);
        bit
    }

    /// So many new bits, the lowest first: those of `value`.
    pub(super) fn bits(&mut self, value: Fr, count: usize) -> Vec<Sum> {
        let integer = value.into_bigint();
        (0..count).map(|i| self.bit(integer.get_bit(i))).collect()
    }

    /// The number that bits stand for, the lowest first.
    pub(super) fn number(&self, bits: &[Sum]) -> Sum {
        let mut weight = Fr::one();
        let mut value = Fr::zero();
        let mut terms = Vec::new();
        for bit in bits {
            value += bit.value * weight;
            terms.extend(bit.terms.iter().map(|(wire, c)| (*wire, *c * weight)));
            weight.double_in_place();
        }
        // The bits need not have been made in this order.
        terms.sort_unstable_by_key(|term| term.0);
        Sum {
            value,
            terms,
            constant: false,
        }
    }

    /// A number of so many bits: the low ones of `value`, which the caller holds against it.
    pub(super) fn integer(&mut self, value: Fr, bits: usize) -> Sum {
        let bits = self.bits(value, bits);
        self.number(&bits)
    }

    /// `zero` if the bit is 0, `one` if it is 1.
    pub(super) fn choose(&mut self, bit: &Sum, zero: &Sum, one: &Sum) -> Sum {
        &self.product(bit, &(one - zero)) + zero
    }

    /// Demands that the value which the bits choose is `chosen`.
    pub(super) fn enforce_member(&mut self, bits: &[Sum], from: &[Sum], chosen: &Sum) {
        let (last, bits) = bits.split_last().expect("something to choose by");
        let (zero, one) = from.split_at(from.len() / 2);
        let zero = self.select(bits, zero);
        let one = self.select(bits, one);
        self.enforce(last, &(&one - &zero), &(chosen - &zero));
    }

    /// The sum of sums, each times a coefficient.
    pub(super) fn combination(&self, coefficients: &[Fr], sums: &[Sum]) -> Sum {
        assert_eq!(coefficients.len(), sums.len());
        let pairs = || coefficients.iter().zip(sums);
        let mut terms: Vec<(u32, Fr)> = Vec::new();
        if self.recording {
            let all = pairs().flat_map(|(c, sum)| sum.terms.iter().map(move |t| (t.0, t.1 * c)));
            let mut all: Vec<_> = all.collect();
            all.sort_by_key(|term| term.0);
            for (wire, coefficient) in all {
                match terms.last_mut() {
                    Some(last) if last.0 == wire => last.1 += coefficient,
                    _ => terms.push((wire, coefficient)),
                }
            }
            terms.retain(|term| !term.1.is_zero());
        }
        Sum {
            value: pairs().map(|(c, sum)| sum.value * c).sum(),
            terms,
            constant: sums.iter().all(|sum| sum.constant),
        }
    }

    /// One of 2^n values, by n bits, the lowest first.
    pub(super) fn select(&mut self, bits: &[Sum], from: &[Sum]) -> Sum {
        assert_eq!(from.len(), 1 << bits.len());
        let mut left = from.to_vec();
        for bit in bits {
            left = left
                .chunks(2)
                .map(|pair| self.choose(bit, &pair[0], &pair[1]))
                .collect();
        }
        left.remove(0)
    }

    /// How many wires there are, the constant 1 included.
    pub(super) fn wires(&self) -> usize {
        self.values.len()
    }

    /// The values of all wires.
    pub(super) fn values(&self) -> &[Fr] {
        &self.values
    }

    /// The constraints, of a system that records.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The constraints of each part.
    pub(super) fn parts(&self) -> Vec<(&'static str, u32)> {
        let ends = self.parts.iter().skip(1).map(|part| part.1);
        let ends = ends.chain([self.count]);
        let parts = self.parts.iter().zip(ends);
        parts
            .map(|((name, start), end)| (*name, end - start))
            .collect()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}
