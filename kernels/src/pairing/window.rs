//! Sums of multiples of a few fixed points, one scalar each: the public inputs of a statement
//! over the points that a verification key has for them.
//!
//! Each point has a table of d 2^(c j) P for each window j and each digit d up to 2^(c - 1), digits
//! being signed, so a multiple is one mixed addition a window and nothing is doubled. `fixed_base`
//! in `curve` is for the other case, of one point and many scalars.

use crate::curve::{Affine, Projective};
use crate::field::{FqBn254, FrBn254, PrimeField};

/// Tables of some points.
#[derive(Debug)]
pub struct Windows {
    window: usize,
    /// Point by point, window by window, 2^(window - 1) multiples each.
    table: Vec<Affine<FqBn254>>,
}

impl Windows {
    /// Makes the tables: 88 KiB a point for few points, 20 KiB for many.
    pub fn new(points: &[Affine<FqBn254>]) -> Self {
        let window = match points.len() <= FEW {
            true => 6,
            false => 3,
        };
        let mut table = Vec::new();
        for point in points {
            let mut multiples = Vec::with_capacity(windows(window) << (window - 1));
            let mut power = Projective::from(*point);
            for _ in 0..windows(window) {
                let mut multiple = Projective::INFINITY;
                for _ in 0..1 << (window - 1) {
                    multiple += power;
                    multiples.push(multiple);
                }
                power = multiple.double();
            }
            table.extend(Projective::batch_to_affine(&multiples));
        }
        Self { window, table }
    }

    /// The sum of the scalars' multiples of the points.
    ///
    /// # Panics
    /// If there are not as many scalars as points.
    pub fn sum(&self, scalars: &[FrBn254]) -> Projective<FqBn254> {
        let (windows, half) = (windows(self.window), 1 << (self.window - 1));
        assert_eq!(self.table.len(), scalars.len() * windows * half);
        let mut sum = Projective::INFINITY;
        for (scalar, table) in scalars.iter().zip(self.table.chunks_exact(windows * half)) {
            let words = scalar.to_canonical();
            let mut carry = 0;
            for (j, table) in table.chunks_exact(half).enumerate() {
                let digit = bits(&words, j * self.window, self.window) + carry;
                // A digit above half becomes negative and lends to the next window.
                carry = usize::from(digit > half);
                if digit > half {
                    let magnitude = 2 * half - digit;
                    if magnitude != 0 {
                        sum += -table[magnitude - 1];
                    }
                } else if digit != 0 {
                    sum += table[digit - 1];
                }
            }
        }
        sum
    }
}

/// Windows of a scalar below 2^254 and of the carry, which the last one has room for.
fn windows(window: usize) -> usize {
    256usize.div_ceil(window)
}

/// Bits [from, from + count) of an integer; beyond its words are zeros.
fn bits(words: &[u64; 4], from: usize, count: usize) -> usize {
    let at = |i: usize| words.get(i).copied().unwrap_or(0);
    let (word, shift) = (from / 64, from % 64);
    let mut x = at(word) >> shift;
    if shift + count > 64 {
        x |= at(word + 1) << (64 - shift);
    }
    (x & ((1 << count) - 1)) as usize
}

/// Up to so many points get the larger tables, 6 MiB together.
const FEW: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Bn254, Curve};
    use crate::field::Field;

    #[test]
    fn sums_are_those_of_multiples() {
        for count in [0, 1, 5, FEW + 1] {
            let points: Vec<_> = (0..count as u64)
                .map(|i| Bn254::g1().mul_canonical(&[i * 3]).to_affine())
                .collect();
            let windows = Windows::new(&points);
            let mut x = FrBn254::from(7);
            for round in 0..6 {
                let scalars: Vec<_> = (0..count)
                    .map(|i| {
                        x = x.square() + FrBn254::ONE;
                        match (i + round) % 5 {
                            0 => FrBn254::ZERO,
                            1 => -FrBn254::ONE,
                            2 => FrBn254::from(32),
                            _ => x,
                        }
                    })
                    .collect();
                let mut expected = Projective::INFINITY;
                for (point, scalar) in points.iter().zip(&scalars) {
                    expected += point.mul_canonical(&scalar.to_canonical());
                }
                assert_eq!(windows.sum(&scalars), expected);
            }
        }
    }
}
