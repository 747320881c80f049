//! Many multiples of one point, for making keys: one table, then about one batched addition for
//! each window of each scalar.
//!
//! The table holds d 2^(c j) P for every window j and every digit d up to 2^(c-1); digits are
//! signed, so half of them suffice. All products of a call advance window by window together,
//! which makes each window one batch of independent affine additions (`accumulate.rs`). A call is
//! independent of others: several threads may share a table, each with scalars of its own.

use crate::field::PrimeField;
use crate::lanes::Engine;

use super::accumulate::{Adder, NEGATIVE, Slot, Sources};
use super::{Affine, Coordinate, Projective};

/// A table of multiples of one point.
pub struct FixedBase<F> {
    /// Bits of a window, at least 2.
    window: u32,
    windows: usize,
    /// Window by window, 2^(window - 1) points each: d 2^(window j) P at d - 1.
    table: Vec<Slot<F>>,
    engine: Option<Engine>,
}

impl<F: Coordinate> FixedBase<F> {
    /// A table for about `count` products: more of them pay for a larger one, up to 14 bits a
    /// window (19 windows of 8192 points: 10 MiB of BN254 G1 points).
    pub fn new(base: &Affine<F>, count: usize) -> Self {
        // n products cost 255 / c additions each, the table 2^(c-1) for each window.
        let window = (2..=14)
            .min_by_key(|&c| (255usize.div_ceil(c) + 1) * (count + (1 << (c - 1))))
            .expect("the range is not empty") as u32;
        // One bit above the scalar's 255 for the last carry.
        let windows = 256usize.div_ceil(window as usize);
        let half = 1usize << (window - 1);
        let engine = Engine::best();
        let mut table = Vec::with_capacity(windows * half);
        let mut power = *base;
        for _ in 0..windows {
            let mut multiple = Projective::INFINITY;
            let multiples: Vec<_> = (0..half)
                .map(|_| {
                    multiple += power;
                    multiple
                })
                .collect();
            power = multiple.double().to_affine();
            let multiples = Projective::batch_to_affine(&multiples);
            table.extend(multiples.iter().map(|point| Slot::new(engine, point)));
        }
        Self {
            window,
            windows,
            table,
            engine,
        }
    }

    /// scalar * base for each scalar.
    pub fn multiply<S: PrimeField>(&self, scalars: &[S]) -> Vec<Affine<F>> {
        let mut products = vec![Affine::INFINITY; scalars.len()];
        self.multiply_into(scalars, &mut products);
        products
    }

    /// scalar * base for each scalar, into as many places.
    ///
    /// # Panics
    /// If there are not as many places as scalars.
    pub fn multiply_into<S: PrimeField>(&self, scalars: &[S], products: &mut [Affine<F>]) {
        assert_eq!(scalars.len(), products.len());
        for (scalars, products) in scalars.chunks(BATCH).zip(products.chunks_mut(BATCH)) {
            self.multiply_batch(scalars, products);
        }
    }

    fn multiply_batch<S: PrimeField>(&self, scalars: &[S], products: &mut [Affine<F>]) {
        let mut sums = vec![Slot::INFINITY; products.len()];
        let mut begun = vec![false; products.len()];
        let mut adder = Adder::new(self.engine, products.len().max(1));
        let half = 1u64 << (self.window - 1);
        let plain: Vec<S::Words> = scalars.iter().map(S::to_canonical).collect();
        let mut carries = vec![0u64; scalars.len()];
        for j in 0..self.windows {
            for (i, words) in plain.iter().enumerate() {
                let digit =
                    bits(words.as_ref(), j * self.window as usize, self.window) + carries[i];
                // A digit above half becomes negative and lends to the next window.
                let negative = digit > half;
                carries[i] = u64::from(negative);
                let magnitude = if negative { 2 * half - digit } else { digit };
                if magnitude == 0 {
                    continue;
                }
                let index = (j as u64 * half + magnitude - 1) as u32;
                if begun[i] || negative {
                    adder.push(i as u32, index | if negative { NEGATIVE } else { 0 });
                } else {
                    sums[i] = self.table[index as usize];
                }
                begun[i] = true;
            }
            adder.flush(&mut sums, Sources::Slots(&self.table));
        }
        for (product, sum) in products.iter_mut().zip(&sums) {
            *product = sum.point(self.engine);
        }
    }
}

/// Bits [from, from + count) of an integer; bits beyond its words are zero.
fn bits(words: &[u64], from: usize, count: u32) -> u64 {
    let (word, shift) = (from / 64, from % 64);
    let at = |i: usize| words.get(i).copied().unwrap_or(0);
    let mut x = at(word) >> shift;
    if shift + count as usize > 64 {
        x |= at(word + 1) << (64 - shift);
    }
    x & ((1 << count) - 1)
}

/// Products that advance together: the inversion's share of the cost is below one percent, and
/// the work space of a batch stays in a core's second-level cache.
const BATCH: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Bls12_381, Bn254, Curve};
    use crate::field::Field;

    fn agrees<C: Curve, F: Coordinate>() {
        let base = F::GENERATOR.mul_canonical(&[7]).to_affine();
        let mut scalars = vec![
            C::Fr::ZERO,
            C::Fr::ONE,
            -C::Fr::ONE,
            C::Fr::from(u64::MAX),
            C::Fr::from(1 << 13),
        ];
        let mut x = C::Fr::from(3);
        for _ in 0..40 {
            x = x.square() + C::Fr::ONE;
            scalars.push(x);
        }
        for count in [1, 100, 1 << 20] {
            let table = FixedBase::new(&base, count);
            let products = table.multiply(&scalars);
            for (scalar, product) in scalars.iter().zip(&products) {
                let expected = base.mul_canonical(&scalar.to_canonical());
                assert_eq!(*product, expected.to_affine());
            }
        }
    }

    #[test]
    fn products_agree_with_double_and_add() {
        agrees::<Bn254, <Bn254 as Curve>::Fq>();
        agrees::<Bn254, <Bn254 as Curve>::Fq2>();
        agrees::<Bls12_381, <Bls12_381 as Curve>::Fq>();
        agrees::<Bls12_381, <Bls12_381 as Curve>::Fq2>();
    }
}
