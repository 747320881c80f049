//! The quadratic extension c0 + c1 u with u^2 = -1, the field of G2's coordinates on both curves.
//!
//! A product takes three double-width products (Karatsuba) and two reductions: the sums and
//! differences in between stay unreduced, as in Aranha, Karabina, Longa, Gebotys and Lopez,
//! "Faster explicit formulas for computing pairings over ordinary curves" (2010). That needs
//! 4 q < R, which a modulus with two spare bits grants.

use std::fmt;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use zeroize::Zeroize;

use super::montgomery::{Constants, add_words, reduce_once, subtract, subtract_borrowing};
use super::path::{Arithmetic, Formula, add_wide, compute, subtract_wide};
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

    /// a0 b0 + a1 b1, with two reductions in place of four.
    #[inline(always)]
    pub(crate) fn sum_of_two([(a0, b0), (a1, b1)]: [(&Self, &Self); 2]) -> Self {
        let operands = [
            &a0.c0.0, &a0.c1.0, &b0.c0.0, &b0.c1.0, &a1.c0.0, &a1.c1.0, &b1.c0.0, &b1.c1.0,
        ];
        let [c0, c1] = compute::<SumOfProducts, N, 8, 2>(operands, Fp::<M, N>::CONSTANTS);
        Self::new(Fp::new(c0), Fp::new(c1))
    }

    /// a0 b0 + a1 b1 + a2 b2, with two reductions in place of six.
    #[inline(always)]
    pub(crate) fn sum_of_three([(a0, b0), (a1, b1), (a2, b2)]: [(&Self, &Self); 3]) -> Self {
        let operands = [
            &a0.c0.0, &a0.c1.0, &b0.c0.0, &b0.c1.0, &a1.c0.0, &a1.c1.0, &b1.c0.0, &b1.c1.0,
            &a2.c0.0, &a2.c1.0, &b2.c0.0, &b2.c1.0,
        ];
        let [c0, c1] = compute::<SumOfProducts, N, 12, 2>(operands, Fp::<M, N>::CONSTANTS);
        Self::new(Fp::new(c0), Fp::new(c1))
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
        let operands = [&self.c0.0, &self.c1.0];
        let [c0, c1] = compute::<Square, N, 2, 2>(operands, Fp::<M, N>::CONSTANTS);
        Self::new(Fp::new(c0), Fp::new(c1))
    }

    fn inverse(&self) -> Option<Self> {
        let norm = Fp::product_sum(&self.c0, &self.c0, &self.c1, &self.c1);
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
        let operands = [&self.c0.0, &self.c1.0, &other.c0.0, &other.c1.0];
        let [c0, c1] = compute::<Product, N, 4, 2>(operands, Fp::<M, N>::CONSTANTS);
        Self::new(Fp::new(c0), Fp::new(c1))
    }
}

/// The product from a0, a1, b0, b1.
struct Product;

impl<const N: usize> Formula<N, 4, 2> for Product {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a0, a1, b0, b1]: [&[u64; N]; 4],
        constants: &Constants<N>,
    ) -> [[u64; N]; 2] {
        let first = arithmetic.wide_product(a0, b0);
        let second = arithmetic.wide_product(a1, b1);
        let both = arithmetic.wide_product(&add_words(a0, a1), &add_words(b0, b1));
        // c1 = (a0 + a1)(b0 + b1) - (a0 b0 + a1 b1), which is not negative and below 2 q^2, and
        // so below q R.
        let (low, high) = add_wide(first, second);
        let (low, borrow) = subtract_borrowing(&both.0, &low, false);
        let high = subtract_borrowing(&both.1, &high, borrow).0;
        let c1 = arithmetic.reduce_wide(low, high, constants);
        // c0 = a0 b0 - a1 b1.
        let (low, high) = subtract_wide(first, second, &constants.modulus);
        [arithmetic.reduce_wide(low, high, constants), c1]
    }
}

/// The sum of two or three products, each from a0, a1, b0, b1.
struct SumOfProducts;

impl<const N: usize, const O: usize> Formula<N, O, 2> for SumOfProducts {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        operands: [&[u64; N]; O],
        constants: &Constants<N>,
    ) -> [[u64; N]; 2] {
        const { assert!(O == 8 || O == 12) }
        let product = |at: usize| {
            let [a0, a1] = [operands[at], operands[at + 1]];
            let [b0, b1] = [operands[at + 2], operands[at + 3]];
            (
                arithmetic.wide_product(a0, b0),
                arithmetic.wide_product(a1, b1),
                arithmetic.wide_product(&add_words(a0, a1), &add_words(b0, b1)),
            )
        };
        let (mut first, mut second, mut both) = product(0);
        let mut at = 4;
        while at < O {
            let next = product(at);
            first = add_wide(first, next.0);
            second = add_wide(second, next.1);
            // At most 12 q^2, which is below R^2 since 4 q is below R.
            both = add_wide(both, next.2);
            at += 4;
        }
        let (low, high) = add_wide(first, second);
        let (low, borrow) = subtract_borrowing(&both.0, &low, false);
        let mut high = subtract_borrowing(&both.1, &high, borrow).0;
        if O == 12 {
            // Below 6 q^2, and so below 2 q R: once q R less makes it fit to be reduced.
            high = reduce_once(high, &constants.modulus);
        }
        let c1 = arithmetic.reduce_wide(low, high, constants);
        let (low, high) = subtract_wide(first, second, &constants.modulus);
        [arithmetic.reduce_wide(low, high, constants), c1]
    }
}

/// The square of a0 + a1 u.
struct Square;

impl<const N: usize> Formula<N, 2, 2> for Square {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a0, a1]: [&[u64; N]; 2],
        constants: &Constants<N>,
    ) -> [[u64; N]; 2] {
        // (a0 - a1)(a0 + a1) + a1 (2 a0) u; the second factors may stay unreduced, being below R.
        let difference = subtract(a0, a1, &constants.modulus);
        [
            arithmetic.multiply(&difference, &add_words(a0, a1), constants),
            arithmetic.multiply(a1, &add_words(a0, a0), constants),
        ]
    }
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
