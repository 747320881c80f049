//! The fields of BN254 and BLS12-381: our own Montgomery arithmetic, with no curve code from
//! outside in a proof.
//!
//! An element is an array of 64-bit words in Montgomery form, x R mod p with R = 2^(64 N), always
//! reduced: that is also the byte layout of snarkjs's keys, so a coordinate is used as it lies in
//! the file. Products are made by x86-64 assembly where the processor has the instructions and by
//! portable Rust elsewhere (`path`); both give the same words. Time depends on values in
//! [`Field::inverse`] and [`Field::pow`] only; the rest has no branch on data.

#[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
mod assembly;
mod bls12_381;
mod bn254;
mod montgomery;
mod path;
mod quadratic;

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::ops::{Add, AddAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use zeroize::Zeroize;

pub use bls12_381::{FqBls12_381, FrBls12_381, ModulusFqBls12_381, ModulusFrBls12_381};
pub use bn254::{FqBn254, FrBn254, ModulusFqBn254, ModulusFrBn254};
use montgomery::Constants;
pub(crate) use montgomery::{add_words, negated_inverse, power_of_two, subtract_borrowing};
#[cfg(feature = "conformance")]
pub use path::{Path, on_path, paths};
pub use quadratic::Fq2;

/// What curves and transforms need of a field, prime or quadratic.
pub trait Field:
    Copy
    + Eq
    + Hash
    + Default
    + fmt::Debug
    + Send
    + Sync
    + Zeroize
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// The neutral element of addition; also `Default`.
    const ZERO: Self;
    /// The neutral element of multiplication.
    const ONE: Self;
    /// Bytes of an element in the layout of [`Field::from_montgomery_le`].
    const BYTES: usize;

    /// 2 x.
    fn double(&self) -> Self;
    /// x^2.
    fn square(&self) -> Self;
    /// 1 / x, `None` for zero.
    fn inverse(&self) -> Option<Self>;

    /// a b + c d: in a prime field with one reduction in place of two.
    #[inline(always)]
    fn product_sum(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        *a * *b + *c * *d
    }

    /// a b - c d, likewise.
    #[inline(always)]
    fn product_difference(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        *a * *b - *c * *d
    }

    /// Whether this is [`Field::ZERO`].
    #[inline(always)]
    fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// x^exponent, the exponent in little-endian words.
    fn pow(&self, exponent: &[u64]) -> Self {
        let mut x = Self::ONE;
        for i in (0..64 * exponent.len()).rev() {
            x = x.square();
            if exponent[i / 64] >> (i % 64) & 1 == 1 {
                x *= *self;
            }
        }
        x
    }

    /// Reads an element from its words in Montgomery form, little-endian, c0 before c1 in an
    /// extension. `None` if the length is not [`Field::BYTES`] or a coordinate is not below the
    /// modulus.
    fn from_montgomery_le(bytes: &[u8]) -> Option<Self>;

    /// The same without the check of range, for elements that were checked when their file was
    /// read. A coordinate that is not reduced makes later results wrong, nothing else.
    ///
    /// # Panics
    /// If there are fewer than [`Field::BYTES`] bytes.
    fn from_montgomery_le_unchecked(bytes: &[u8]) -> Self;

    /// Writes the words in Montgomery form.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`Field::BYTES`].
    fn to_montgomery_le(&self, bytes: &mut [u8]);
}

/// A field of integers mod a prime.
pub trait PrimeField: Field + Ord + From<u64> {
    /// The words of an element: `[u64; 4]` or `[u64; 6]`.
    type Words: AsRef<[u64]> + AsMut<[u64]> + Copy + Default + Send + Sync + fmt::Debug + 'static;

    /// The modulus.
    const MODULUS: Self::Words;
    /// Its length in bits.
    const MODULUS_BITS: u32;
    /// The largest s such that 2^s divides the modulus less one.
    const TWO_ADICITY: u32;
    /// The primitive 2^s-th root of unity that snarkjs (its ffjavascript) uses: the smallest
    /// quadratic non-residue to the power of (modulus - 1) / 2^s.
    const ROOT_OF_UNITY: Self;

    /// Reads a plain little-endian integer of exactly [`Field::BYTES`] bytes; `None` for another
    /// length and for integers that are not below the modulus.
    fn from_canonical_le(bytes: &[u8]) -> Option<Self>;

    /// Reads little-endian bytes of any length as an integer and reduces it.
    fn from_le_bytes_reduced(bytes: &[u8]) -> Self;

    /// The plain integer, little-endian, [`Field::BYTES`] long.
    ///
    /// # Panics
    /// If `bytes` is shorter.
    fn to_canonical_le(&self, bytes: &mut [u8]);

    /// The plain integer's words.
    fn to_canonical(&self) -> Self::Words;

    /// The element of an integer below the modulus, given by its words; larger ones are reduced.
    fn from_canonical(words: Self::Words) -> Self;

    /// The words of the Montgomery form, as they are.
    fn montgomery_words(&self) -> Self::Words;

    /// The element with these words as its Montgomery form; they must be below the modulus.
    fn from_montgomery_words(words: Self::Words) -> Self;

    /// The primitive root of unity of order 2^log2 that snarkjs uses; `None` beyond the
    /// two-adicity.
    fn root_of_unity(log2: u32) -> Option<Self> {
        let mut root = Self::ROOT_OF_UNITY;
        for _ in log2..Self::TWO_ADICITY {
            root = root.square();
        }
        (log2 <= Self::TWO_ADICITY).then_some(root)
    }
}

/// Inverts all elements with one inversion (Montgomery's trick); zeros stay zero.
pub fn batch_inverse<F: Field>(elements: &mut [F]) {
    batch_inverse_in(elements, &mut vec![F::ONE; elements.len()]);
}

/// The same in memory of the caller's.
///
/// # Panics
/// If there is less scratch than elements.
pub(crate) fn batch_inverse_in<F: Field>(elements: &mut [F], scratch: &mut [F]) {
    let prefixes = &mut scratch[..elements.len()];
    let mut product = F::ONE;
    for (x, prefix) in elements.iter().zip(&mut *prefixes) {
        *prefix = product;
        if !x.is_zero() {
            product *= *x;
        }
    }
    // A product of non-zero elements is not zero.
    let Some(mut inverse) = product.inverse() else {
        return;
    };
    for (x, prefix) in elements.iter_mut().zip(&*prefixes).rev() {
        if !x.is_zero() {
            let next = inverse * *x;
            *x = inverse * *prefix;
            inverse = next;
        }
    }
}

/// A modulus and what belongs to it: the parameter of [`Fp`].
pub trait Modulus<const N: usize>:
    Copy + Eq + Ord + Hash + Default + fmt::Debug + Send + Sync + 'static
{
    /// An odd prime below 2^(64 N - 1), in little-endian words.
    const MODULUS: [u64; N];
    /// The smallest positive integer that is not a square.
    const NON_RESIDUE: u64;
}

/// An integer mod M, in Montgomery form in N words. Ordered by its words, which is a total order
/// and not that of the integers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Fp<M, const N: usize>([u64; N], PhantomData<M>);

impl<M: Modulus<N>, const N: usize> Fp<M, N> {
    const INVERSE: u64 = montgomery::negated_inverse(M::MODULUS[0]);
    const CONSTANTS: &'static Constants<N> = &Constants {
        modulus: M::MODULUS,
        inverse: Self::INVERSE,
    };
    const R: [u64; N] = montgomery::power_of_two(&M::MODULUS, 64 * N);
    const R2: [u64; N] = montgomery::power_of_two(&M::MODULUS, 128 * N);
    const TWO_ADICITY: u32 = {
        let mut i = 1;
        while M::MODULUS[i as usize / 64] >> (i % 64) & 1 == 0 {
            i += 1;
        }
        i
    };
    const BITS: u32 = 64 * N as u32 - M::MODULUS[N - 1].leading_zeros();
    const ROOT: [u64; N] = {
        assert!(M::MODULUS[N - 1] >> 63 == 0);
        let mut base = [0; N];
        base[0] = M::NON_RESIDUE;
        let base = montgomery::multiply(&base, &Self::R2, &M::MODULUS, Self::INVERSE);
        // The shift also drops the modulus's lowest bit, which is the one that is less.
        let exponent = montgomery::shift_right(&M::MODULUS, Self::TWO_ADICITY);
        montgomery::power(&base, &exponent, &Self::R, &M::MODULUS, Self::INVERSE)
    };

    #[inline(always)]
    const fn new(words: [u64; N]) -> Self {
        Self(words, PhantomData)
    }

    /// 2^-exponent, at compile time.
    pub(crate) const fn power_of_half(exponent: usize) -> Self {
        let mut words = Self::R;
        let mut i = 0;
        while i < exponent {
            if words[0] & 1 == 1 {
                // The modulus is odd and has a bit to spare.
                words = montgomery::add_words(&words, &M::MODULUS);
            }
            words = montgomery::shift_right(&words, 1);
            i += 1;
        }
        Self::new(words)
    }

    /// The element of a plain integer below the modulus, at compile time.
    pub const fn constant(words: [u64; N]) -> Self {
        assert!(montgomery::less(&words, &M::MODULUS));
        Self::new(montgomery::multiply(
            &Self::R2,
            &words,
            &M::MODULUS,
            Self::INVERSE,
        ))
    }
}

impl<M: Modulus<N>, const N: usize> Field for Fp<M, N> {
    const ZERO: Self = Self::new([0; N]);
    const ONE: Self = Self::new(Self::R);
    const BYTES: usize = 8 * N;

    #[inline(always)]
    fn double(&self) -> Self {
        *self + *self
    }

    #[inline(always)]
    fn square(&self) -> Self {
        Self::new(path::square(&self.0, Self::CONSTANTS))
    }

    fn inverse(&self) -> Option<Self> {
        if self.is_zero() {
            return None;
        }
        // (x R)^-1 R^2 = x^-1 R.
        Some(Self::new(match N {
            0..=4 => montgomery::invert::<N, 5>(&self.0, &Self::R2, &M::MODULUS),
            5..=6 => montgomery::invert::<N, 7>(&self.0, &Self::R2, &M::MODULUS),
            _ => unreachable!("fields have at most six words"),
        }))
    }

    #[inline(always)]
    fn product_sum(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        let operands = [&a.0, &b.0, &c.0, &d.0];
        Self::new(path::product_sum(operands, Self::CONSTANTS))
    }

    #[inline(always)]
    fn product_difference(a: &Self, b: &Self, c: &Self, d: &Self) -> Self {
        let operands = [&a.0, &b.0, &c.0, &d.0];
        Self::new(path::product_difference(operands, Self::CONSTANTS))
    }

    #[inline(always)]
    fn from_montgomery_le(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let x = Self::from_montgomery_le_unchecked(bytes);
        montgomery::less(&x.0, &M::MODULUS).then_some(x)
    }

    #[inline(always)]
    fn from_montgomery_le_unchecked(bytes: &[u8]) -> Self {
        Self::new(read_words(bytes))
    }

    #[inline(always)]
    fn to_montgomery_le(&self, bytes: &mut [u8]) {
        write_words(&self.0, bytes);
    }
}

impl<M: Modulus<N>, const N: usize> PrimeField for Fp<M, N>
where
    [u64; N]: Default,
{
    type Words = [u64; N];

    const MODULUS: [u64; N] = M::MODULUS;
    const MODULUS_BITS: u32 = Self::BITS;
    const TWO_ADICITY: u32 = Self::TWO_ADICITY;
    const ROOT_OF_UNITY: Self = Self::new(Self::ROOT);

    fn from_canonical_le(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::BYTES {
            return None;
        }
        let words = read_words(bytes);
        montgomery::less(&words, &M::MODULUS).then(|| Self::from_canonical(words))
    }

    fn from_le_bytes_reduced(bytes: &[u8]) -> Self {
        // Horner in base R, from the most significant chunk down.
        let radix = Self::new(Self::R2);
        let mut sum = Self::ZERO;
        for chunk in bytes.chunks(Self::BYTES).rev() {
            let mut words = [0; N];
            for (i, &byte) in chunk.iter().enumerate() {
                words[i / 8] |= u64::from(byte) << (8 * (i % 8));
            }
            sum = sum * radix + Self::from_canonical(words);
            words.zeroize();
        }
        sum
    }

    fn to_canonical_le(&self, bytes: &mut [u8]) {
        write_words(&self.to_canonical(), bytes);
    }

    #[inline(always)]
    fn to_canonical(&self) -> [u64; N] {
        montgomery::reduce_wide(self.0, [0; N], &M::MODULUS, Self::INVERSE)
    }

    #[inline(always)]
    fn from_canonical(words: [u64; N]) -> Self {
        Self::new(path::multiply(&Self::R2, &words, Self::CONSTANTS))
    }

    #[inline(always)]
    fn montgomery_words(&self) -> [u64; N] {
        self.0
    }

    #[inline(always)]
    fn from_montgomery_words(words: [u64; N]) -> Self {
        Self::new(words)
    }
}

impl<M: Modulus<N>, const N: usize> From<u64> for Fp<M, N> {
    fn from(value: u64) -> Self {
        let mut words = [0; N];
        words[0] = value;
        Self::new(path::multiply(&Self::R2, &words, Self::CONSTANTS))
    }
}

impl<M: Modulus<N>, const N: usize> Add for Fp<M, N> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self::new(montgomery::add(&self.0, &other.0, &M::MODULUS))
    }
}

impl<M: Modulus<N>, const N: usize> Sub for Fp<M, N> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self::new(montgomery::subtract(&self.0, &other.0, &M::MODULUS))
    }
}

impl<M: Modulus<N>, const N: usize> Mul for Fp<M, N> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self::new(path::multiply(&self.0, &other.0, Self::CONSTANTS))
    }
}

impl<M: Modulus<N>, const N: usize> Neg for Fp<M, N> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self::ZERO - self
    }
}

impl<M: Modulus<N>, const N: usize> AddAssign for Fp<M, N> {
    #[inline(always)]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<M: Modulus<N>, const N: usize> SubAssign for Fp<M, N> {
    #[inline(always)]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl<M: Modulus<N>, const N: usize> MulAssign for Fp<M, N> {
    #[inline(always)]
    fn mul_assign(&mut self, other: Self) {
        *self = *self * other;
    }
}

impl<M: Modulus<N>, const N: usize> Default for Fp<M, N> {
    fn default() -> Self {
        Self::ZERO
    }
}

impl<M, const N: usize> Zeroize for Fp<M, N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// The plain integer in hexadecimal.
impl<M: Modulus<N>, const N: usize> fmt::Debug for Fp<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        let plain = montgomery::reduce_wide(self.0, [0; N], &M::MODULUS, Self::INVERSE);
        plain
            .iter()
            .rev()
            .try_for_each(|word| write!(f, "{word:016x}"))
    }
}

#[inline(always)]
fn read_words<const N: usize>(bytes: &[u8]) -> [u64; N] {
    let bytes = &bytes[..8 * N];
    let mut words = [0; N];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

#[inline(always)]
fn write_words<const N: usize>(words: &[u64; N], bytes: &mut [u8]) {
    let bytes = &mut bytes[..8 * N];
    for (word, chunk) in words.iter().zip(bytes.as_chunks_mut::<8>().0) {
        *chunk = word.to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ffjavascript's `Fr.w[Fr.s]` for both curves, printed by ffjavascript itself, and
    /// its `Fr.w[10]`.
    #[test]
    fn roots_are_those_of_snarkjs() {
        assert_eq!(
            FrBn254::ROOT_OF_UNITY,
            decimal(
                "19103219067921713944291392827692070036145651957329286315305642004821462161904"
            )
        );
        assert_eq!(
            FrBls12_381::ROOT_OF_UNITY,
            decimal("937917089079007706106976984802249742464848817460758522850752807661925904159")
        );
        assert_eq!(
            FrBn254::root_of_unity(10),
            Some(decimal(
                "3161067157621608152362653341354432744960400845131437947728257924963983317266"
            ))
        );
        assert_eq!(FrBn254::root_of_unity(29), None);
        assert_eq!((FrBn254::TWO_ADICITY, FrBls12_381::TWO_ADICITY), (28, 32));
    }

    #[test]
    fn declared_non_residues_are_the_smallest() {
        fn smallest<F: PrimeField>() -> u64 {
            let mut half = F::MODULUS;
            let words = half.as_mut();
            for i in 0..words.len() {
                let above = words.get(i + 1).map_or(0, |w| w << 63);
                words[i] = words[i] >> 1 | above;
            }
            (2..)
                .find(|&x| F::from(x).pow(half.as_ref()) != F::ONE)
                .expect("half of all residues are not squares")
        }
        assert_eq!(smallest::<FrBn254>(), ModulusFrBn254::NON_RESIDUE);
        assert_eq!(smallest::<FqBn254>(), ModulusFqBn254::NON_RESIDUE);
        assert_eq!(smallest::<FrBls12_381>(), ModulusFrBls12_381::NON_RESIDUE);
        assert_eq!(smallest::<FqBls12_381>(), ModulusFqBls12_381::NON_RESIDUE);
    }

    #[test]
    fn integers_at_the_modulus_are_refused() {
        fn try_one<F: PrimeField>() {
            let mut bytes = vec![0; F::BYTES];
            for (chunk, word) in bytes.chunks_mut(8).zip(F::MODULUS.as_ref()) {
                chunk.copy_from_slice(&word.to_le_bytes());
            }
            assert_eq!(F::from_canonical_le(&bytes), None);
            assert_eq!(F::from_montgomery_le(&bytes), None);
            assert_eq!(F::from_le_bytes_reduced(&bytes), F::ZERO);
            bytes[0] -= 1;
            assert_eq!(F::from_canonical_le(&bytes), Some(-F::ONE));
            assert_eq!(F::from_canonical_le(&bytes[1..]), None);
            let mut back = vec![0; F::BYTES];
            (-F::ONE).to_canonical_le(&mut back);
            assert_eq!(back, bytes);
        }
        try_one::<FrBn254>();
        try_one::<FqBn254>();
        try_one::<FrBls12_381>();
        try_one::<FqBls12_381>();
    }

    #[test]
    fn batch_inverse_leaves_zeros() {
        let mut x: Vec<_> = (0..9).map(FqBls12_381::from).collect();
        x[5] = FqBls12_381::ZERO;
        let original = x.clone();
        batch_inverse(&mut x);
        for (x, original) in x.iter().zip(&original) {
            assert_eq!(original.inverse().unwrap_or_default(), *x);
        }
    }

    fn decimal<F: PrimeField>(digits: &str) -> F {
        digits.bytes().fold(F::ZERO, |x, digit| {
            x * F::from(10) + F::from(u64::from(digit - b'0'))
        })
    }
}
