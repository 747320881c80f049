//! The quadratic extension c0 + c1 u with u^2 = -1, the field of G2's coordinates on both curves.
//!
//! A product takes three double-width products (Karatsuba) and two reductions: the sums and
//! differences in between stay unreduced, as in Aranha, Karabina, Longa, Gebotys and Lopez,
//! "Faster explicit formulas for computing pairings over ordinary curves" (2010). That needs
//! 4 q < R, which a modulus with two spare bits grants.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use zeroize::Zeroize;

use super::montgomery::{add_words, reduce_wide, subtract_words, wide_product};
use super::{Field, Fp, Modulus};

/// c0 + c1 u, u^2 = -1.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Fq2<M, const N: usize> {
    /// The part without u.
    pub c0: Fp<M, N>,
    /// The factor of u.
    pub c1: Fp<M, N>,
}

impl<M: Modulus<N>, const N: usize> Fq2<M, N> {
    /// c0 + c1 u.
    #[inline(always)]
    pub const fn new(c0: Fp<M, N>, c1: Fp<M, N>) -> Self {
        const { assert!(M::MODULUS[N - 1] >> 62 == 0) }
        Self { c0, c1 }
    }

    /// c0 - c1 u, which is also the q-th power.
    #[inline(always)]
    pub fn conjugate(&self) -> Self {
        Self::new(self.c0, -self.c1)
    }

    /// The product with an element of the base field.
    #[inline(always)]
    pub fn scale(&self, factor: Fp<M, N>) -> Self {
        Self::new(self.c0 * factor, self.c1 * factor)
    }
}

impl<M: Modulus<N>, const N: usize> Field for Fq2<M, N> {
    const ZERO: Self = Self::new(Fp::ZERO, Fp::ZERO);
    const ONE: Self = Self::new(Fp::ONE, Fp::ZERO);
    const BYTES: usize = 16 * N;

    #[inline(always)]
    fn double(&self) -> Self {
        Self::new(self.c0.double(), self.c1.double())
    }

    #[inline(always)]
    fn square(&self) -> Self {
        // (c0 + c1)(c0 - c1) + 2 c0 c1 u; the sum may stay unreduced, since it is below R.
        let sum = Fp::new(add_words(&self.c0.0, &self.c1.0));
        let product = self.c0 * self.c1;
        Self::new(sum * (self.c0 - self.c1), product.double())
    }

    fn inverse(&self) -> Option<Self> {
        let norm = self.c0.square() + self.c1.square();
        norm.inverse()
            .map(|inverse| self.conjugate().scale(inverse))
    }

    #[inline(always)]
    fn from_montgomery_le(bytes: &[u8]) -> Option<Self> {
        let (c0, c1) = bytes.split_at_checked(8 * N)?;
        Some(Self::new(
            Fp::from_montgomery_le(c0)?,
            Fp::from_montgomery_le(c1)?,
        ))
    }

    #[inline(always)]
    fn from_montgomery_le_unchecked(bytes: &[u8]) -> Self {
        let (c0, c1) = bytes.split_at(8 * N);
        Self::new(
            Fp::from_montgomery_le_unchecked(c0),
            Fp::from_montgomery_le_unchecked(c1),
        )
    }

    #[inline(always)]
    fn to_montgomery_le(&self, bytes: &mut [u8]) {
        let (c0, c1) = bytes.split_at_mut(8 * N);
        self.c0.to_montgomery_le(c0);
        self.c1.to_montgomery_le(c1);
    }
}

impl<M: Modulus<N>, const N: usize> Mul for Fq2<M, N> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        let q = &M::MODULUS;
        let (low0, high0) = wide_product(&self.c0.0, &other.c0.0);
        let (low1, high1) = wide_product(&self.c1.0, &other.c1.0);
        let (low2, high2) = wide_product(
            &add_words(&self.c0.0, &self.c1.0),
            &add_words(&other.c0.0, &other.c1.0),
        );
        // c1 = (a0 + a1)(b0 + b1) - a0 b0 - a1 b1, below 2 q^2 and so below q R.
        let (low, high) = subtract_wide(low2, high2, &low0, &high0).0;
        let (low, high) = subtract_wide(low, high, &low1, &high1).0;
        let c1 = reduce_wide(low, high, q, Fp::<M, N>::INVERSE);
        // c0 = a0 b0 - a1 b1, made positive by q R.
        let ((low, high), borrow) = subtract_wide(low0, high0, &low1, &high1);
        let mask = (borrow as u64).wrapping_neg();
        let high = add_words(&high, &q.map(|word| word & mask));
        let c0 = reduce_wide(low, high, q, Fp::<M, N>::INVERSE);
        Self::new(Fp::new(c0), Fp::new(c1))
    }
}

/// A double-width difference and whether it borrowed.
#[inline(always)]
fn subtract_wide<const N: usize>(
    low: [u64; N],
    high: [u64; N],
    other_low: &[u64; N],
    other_high: &[u64; N],
) -> (([u64; N], [u64; N]), bool) {
    let (low, borrow) = subtract_words(&low, other_low);
    let mut words = [0; N];
    let mut borrow = borrow;
    for i in 0..N {
        let (x, b0) = high[i].overflowing_sub(other_high[i]);
        let (x, b1) = x.overflowing_sub(borrow as u64);
        words[i] = x;
        borrow = b0 | b1;
    }
    ((low, words), borrow)
}

impl<M: Modulus<N>, const N: usize> Add for Fq2<M, N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::new(self.c0 + other.c0, self.c1 + other.c1)
    }
}

impl<M: Modulus<N>, const N: usize> Sub for Fq2<M, N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::new(self.c0 - other.c0, self.c1 - other.c1)
    }
}

impl<M: Modulus<N>, const N: usize> Neg for Fq2<M, N> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::new(-self.c0, -self.c1)
    }
}

impl<M: Modulus<N>, const N: usize> AddAssign for Fq2<M, N> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<M: Modulus<N>, const N: usize> SubAssign for Fq2<M, N> {
    #[inline(always)]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl<M: Modulus<N>, const N: usize> MulAssign for Fq2<M, N> {
    #[inline(always)]
    fn mul_assign(&mut self, other: Self) {
        *self = *self * other;
    }
}

impl<M: Modulus<N>, const N: usize> Default for Fq2<M, N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<M, const N: usize> Zeroize for Fq2<M, N> {
    fn zeroize(&mut self) {
        self.c0.zeroize();
        self.c1.zeroize();
    }
}

impl<M: Modulus<N>, const N: usize> fmt::Debug for Fq2<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} + {:?} u", self.c0, self.c1)
    }
}
