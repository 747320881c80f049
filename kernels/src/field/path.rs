//! Which arithmetic runs: assembly where the processor has the instructions, else portable Rust.
//!
//! The first product of the process asks the processor and a byte keeps the answer. Each later
//! product tests that byte: a load and a branch that is always predicted, of which nothing can be
//! measured (a BN254 product of an array took 12.0 ns with the test and without, on one core of a
//! Xeon at 3.4 GHz). What must not happen is that the way not taken wants operands or results in
//! memory, which would keep them there on the way taken and cost 1.5 ns; so portable functions
//! are called out of line, on copies, and results are put together word by word.
//!
//! A build with `-C target-feature=+bmi2,+adx` has no test and no second way. A processor without
//! the instructions pays a call for each product.

#[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
use super::assembly::Assembly;
use super::montgomery::{self, Constants, add_carrying, add_words, opaque, subtract_borrowing};

/// The products of a field whose modulus is handed in, by one way or another. What each computes
/// and asks of its operands is said at the function of [`montgomery`] of the same name.
pub(super) trait Arithmetic<const N: usize>: Copy {
    /// a b / R.
    fn multiply(self, a: &[u64; N], b: &[u64; N], constants: &Constants<N>) -> [u64; N];
    /// a^2 / R.
    fn square(self, a: &[u64; N], constants: &Constants<N>) -> [u64; N];
    /// a b, low words and high words.
    fn wide_product(self, a: &[u64; N], b: &[u64; N]) -> ([u64; N], [u64; N]);
    /// (low + R high) / R.
    fn reduce_wide(self, low: [u64; N], high: [u64; N], constants: &Constants<N>) -> [u64; N];
}

/// The arithmetic of [`montgomery`].
#[derive(Clone, Copy)]
struct Portable;

impl<const N: usize> Arithmetic<N> for Portable {
    #[inline(always)]
    fn multiply(self, a: &[u64; N], b: &[u64; N], constants: &Constants<N>) -> [u64; N] {
        montgomery::multiply(a, b, &constants.modulus, constants.inverse)
    }

    #[inline(always)]
    fn square(self, a: &[u64; N], constants: &Constants<N>) -> [u64; N] {
        montgomery::square(a, &constants.modulus, constants.inverse)
    }

    #[inline(always)]
    fn wide_product(self, a: &[u64; N], b: &[u64; N]) -> ([u64; N], [u64; N]) {
        montgomery::wide_product(a, b)
    }

    #[inline(always)]
    fn reduce_wide(self, low: [u64; N], high: [u64; N], constants: &Constants<N>) -> [u64; N] {
        montgomery::reduce_wide(low, high, &constants.modulus, constants.inverse)
    }
}

/// Something to compute from K operands by any [`Arithmetic`], with a result of L rows of words.
pub(super) trait Formula<const N: usize, const K: usize, const L: usize> {
    /// Computes it, operands and result reduced.
    fn compute(
        arithmetic: impl Arithmetic<N>,
        operands: [&[u64; N]; K],
        constants: &Constants<N>,
    ) -> [[u64; N]; L];
}

/// Computes F by the way that this processor has.
#[inline(always)]
pub(super) fn compute<F, const N: usize, const K: usize, const L: usize>(
    operands: [&[u64; N]; K],
    constants: &'static Constants<N>,
) -> [[u64; N]; L]
where
    F: Formula<N, K, L>,
{
    #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
    {
        if let Some(assembly) = Assembly::known() {
            return F::compute(assembly, operands, constants);
        }
        let result = elsewhere::<F, N, K, L>(operands.map(|words| *words), constants);
        std::array::from_fn(|i| std::array::from_fn(|j| result[i][j]))
    }
    #[cfg(not(all(target_arch = "x86_64", not(target_os = "windows"))))]
    F::compute(Portable, operands, constants)
}

/// The first time, and on a processor without the instructions.
#[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
#[cold]
#[inline(never)]
fn elsewhere<F, const N: usize, const K: usize, const L: usize>(
    operands: [[u64; N]; K],
    constants: &'static Constants<N>,
) -> [[u64; N]; L]
where
    F: Formula<N, K, L>,
{
    let operands = std::array::from_fn(|i| &operands[i]);
    match Assembly::settle() {
        Some(assembly) => F::compute(assembly, operands, constants),
        None => F::compute(Portable, operands, constants),
    }
}

/// a b.
struct Product;

impl<const N: usize> Formula<N, 2, 1> for Product {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a, b]: [&[u64; N]; 2],
        constants: &Constants<N>,
    ) -> [[u64; N]; 1] {
        [arithmetic.multiply(a, b, constants)]
    }
}

/// a b / R mod the modulus; `b` may be any number below R if `a` is reduced.
#[inline(always)]
pub(super) fn multiply<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    constants: &'static Constants<N>,
) -> [u64; N] {
    compute::<Product, N, 2, 1>([a, b], constants)[0]
}

/// a^2.
struct Square;

impl<const N: usize> Formula<N, 1, 1> for Square {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a]: [&[u64; N]; 1],
        constants: &Constants<N>,
    ) -> [[u64; N]; 1] {
        [arithmetic.square(a, constants)]
    }
}

/// a^2 / R mod the modulus.
#[inline(always)]
pub(super) fn square<const N: usize>(a: &[u64; N], constants: &'static Constants<N>) -> [u64; N] {
    compute::<Square, N, 1, 1>([a], constants)[0]
}

/// a b + c d and a b - c d, each with one reduction.
struct Sum;
struct Difference;

impl<const N: usize> Formula<N, 4, 1> for Sum {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a, b, c, d]: [&[u64; N]; 4],
        constants: &Constants<N>,
    ) -> [[u64; N]; 1] {
        // Below 2 p^2, and so below p R.
        let (low, high) = add_wide(arithmetic.wide_product(a, b), arithmetic.wide_product(c, d));
        [arithmetic.reduce_wide(low, high, constants)]
    }
}

impl<const N: usize> Formula<N, 4, 1> for Difference {
    #[inline(always)]
    fn compute(
        arithmetic: impl Arithmetic<N>,
        [a, b, c, d]: [&[u64; N]; 4],
        constants: &Constants<N>,
    ) -> [[u64; N]; 1] {
        let (low, high) = subtract_wide(
            arithmetic.wide_product(a, b),
            arithmetic.wide_product(c, d),
            &constants.modulus,
        );
        [arithmetic.reduce_wide(low, high, constants)]
    }
}

/// (a b + c d) / R mod the modulus.
#[inline(always)]
pub(super) fn product_sum<const N: usize>(
    operands: [&[u64; N]; 4],
    constants: &'static Constants<N>,
) -> [u64; N] {
    compute::<Sum, N, 4, 1>(operands, constants)[0]
}

/// (a b - c d) / R mod the modulus.
#[inline(always)]
pub(super) fn product_difference<const N: usize>(
    operands: [&[u64; N]; 4],
    constants: &'static Constants<N>,
) -> [u64; N] {
    compute::<Difference, N, 4, 1>(operands, constants)[0]
}

/// The double-width sum, which must fit.
#[inline(always)]
pub(super) fn add_wide<const N: usize>(
    (low, high): ([u64; N], [u64; N]),
    (other_low, other_high): ([u64; N], [u64; N]),
) -> ([u64; N], [u64; N]) {
    let (low, carry) = add_carrying(&low, &other_low, false);
    (low, add_carrying(&high, &other_high, carry).0)
}

/// The double-width difference; with p R added, p being the modulus, if it would be negative.
#[inline(always)]
pub(super) fn subtract_wide<const N: usize>(
    (low, high): ([u64; N], [u64; N]),
    (other_low, other_high): ([u64; N], [u64; N]),
    modulus: &[u64; N],
) -> ([u64; N], [u64; N]) {
    let (low, borrow) = subtract_borrowing(&low, &other_low, false);
    let (high, borrow) = subtract_borrowing(&high, &other_high, borrow);
    let mask = opaque((borrow as u64).wrapping_neg());
    (low, add_words(&high, &modulus.map(|word| word & mask)))
}

/// A way to compute products. All give the same words.
#[cfg(feature = "conformance")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Portable Rust.
    Portable,
    /// x86-64 assembly with BMI2 and ADX.
    Assembly,
}

/// For tests: which ways this build has on this processor.
#[cfg(feature = "conformance")]
pub fn paths() -> &'static [Path] {
    #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
    if Assembly::CERTAIN {
        return &[Path::Assembly];
    } else if Assembly::is_possible() {
        return &[Path::Portable, Path::Assembly];
    }
    &[Path::Portable]
}

/// For tests: computes with all products of the process on this path, whichever thread asks for
/// them. One caller at a time; the others wait. Afterwards the processor decides again.
///
/// # Panics
/// If the path is not among [`paths`].
#[cfg(feature = "conformance")]
pub fn on_path<T>(path: Path, compute: impl FnOnce() -> T) -> T {
    assert!(paths().contains(&path), "{path:?} is not possible here");
    #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
    let _forced = super::assembly::Forced::new(path == Path::Assembly);
    compute()
}
