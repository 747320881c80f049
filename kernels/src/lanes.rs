//! Engines: the ways to compute with several field elements at once.
//!
//! A sum of points spends its time in batches of independent additions, and a transform in rows
//! of independent butterflies. Both are the same few operations on many elements, so they are
//! written once over [`Lanes`] and run on whatever the processor has:
//!
//! | engine | elements | needs |
//! |---|---|---|
//! | [`Radix52`] over `words::Avx512` | 8 | AVX-512 with IFMA |
//! | [`Floating`] | 4 | AVX2 with FMA |
//! | [`Radix52`] over `words::Portable` | 8 | nothing: the twin that the first is tested against |
//!
//! The twin is no engine to choose: it is held against the scalar field by itself, operation by
//! operation, for what runs on engines would take minutes more to compile for it. Where a processor
//! has nothing better, the scalar code of `field` and `curve` does the work.
//!
//! Either engine does the arithmetic of prime fields and the products of their quadratic extensions; what else there is
//! of those is written once, in `pairs.rs`.
//!
//! An engine's value is a token: it exists only where the processor can run it. [`Engine`] is the
//! choice at run time; a [`Task`] is what is compiled once for each engine, inlined into an entry
//! function that has the processor's features enabled.

#[cfg(target_arch = "x86_64")]
mod floating;
mod pairs;
mod radix52;
mod row;
mod words;

use crate::field::{Field, Fp, Fq2, Modulus, PrimeField};

#[cfg(target_arch = "x86_64")]
use floating::Floating;
use pairs::Pairs;
use radix52::{Radix, each, unroll};
pub use row::Row;
use words::Words;

/// The most elements that any engine has side by side.
pub(crate) const WIDTH_MAX: usize = 8;

/// A piece of memory as large and as aligned as the widest register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Line([u64; 8]);

impl Line {
    pub(crate) const EMPTY: Self = Self([0; 8]);
}

impl zeroize::Zeroize for Line {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// What runs on an engine. Implementations are `#[inline(always)]`, as all that they call.
pub trait Task<F: Field> {
    /// What it comes to.
    type Output;

    /// Runs.
    fn run<L: Lanes<F>>(self, lanes: L) -> Self::Output;
}

/// An engine that this processor has.
#[derive(Clone, Copy, Debug)]
pub enum Engine {
    /// AVX-512 with IFMA.
    #[cfg(target_arch = "x86_64")]
    Avx512(words::Avx512),
    /// AVX2 with FMA.
    #[cfg(target_arch = "x86_64")]
    Floating(Floating),
}

impl Engine {
    /// The fastest engine here; `None` where scalar code is faster.
    pub fn best() -> Option<Self> {
        Self::avx512().or_else(Self::avx2)
    }

    /// The engine for AVX-512, where the processor has what it takes.
    fn avx512() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return words::Avx512::detect().map(Self::Avx512);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// The engine for AVX2, where the processor has what it takes.
    pub(crate) fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        return Floating::detect().map(Self::Floating);
        #[cfg(not(target_arch = "x86_64"))]
        None
    }

    /// All engines that this processor has, to be tested against each other.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Self> {
        Self::avx512().into_iter().chain(Self::avx2()).collect()
    }

    /// Whether it is worth to bring two factors into vectors and their product back, for this one
    /// multiplication. In doubles it takes longer than scalar code does: 18 ns against 14.
    pub(crate) fn pays_for_one_product(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => true,
            #[cfg(target_arch = "x86_64")]
            Self::Floating(_) => false,
        }
    }

    /// Engine form of an element, kept in the bytes of one.
    #[inline]
    pub(crate) fn store<F: Laned>(self, x: &F) -> F {
        self.run(Store(x))
    }

    /// The element of an engine form.
    #[inline]
    pub(crate) fn load<F: Laned>(self, stored: &F) -> F {
        self.run(Load(stored))
    }

    /// Runs a task on this engine.
    #[inline]
    pub fn run<F: Laned, T: Task<F>>(self, task: T) -> T::Output {
        F::run(self, task)
    }
}

struct Store<'a, F>(&'a F);

impl<F: Field> Task<F> for Store<'_, F> {
    type Output = F;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, _: L) -> F {
        L::store(self.0)
    }
}

struct Load<'a, F>(&'a F);

impl<F: Field> Task<F> for Load<'_, F> {
    type Output = F;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, _: L) -> F {
        L::load(self.0)
    }
}

/// A field that every engine computes in. Sealed: a supertrait that others cannot name.
pub trait Laned: Field {
    /// Runs a task on an engine.
    fn run<T: Task<Self>>(engine: Engine, task: T) -> T::Output;
}

/// One entry function for each engine.
macro_rules! laned {
    ($field:ident, $words:literal) => {
        impl<M: Modulus<$words>> Laned for $field<M, $words> {
            #[inline]
            fn run<T: Task<Self>>(engine: Engine, task: T) -> T::Output {
                match engine {
                    #[cfg(target_arch = "x86_64")]
                    Engine::Avx512(words) => {
                        #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512ifma")]
                        fn enter<F: Field, T: Task<F>>(words: words::Avx512, task: T) -> T::Output
                        where
                            Radix52<words::Avx512>: Lanes<F>,
                        {
                            task.run(Radix52(words))
                        }
                        // SAFETY: the token says that the processor has the features.
                        unsafe { enter::<Self, T>(words, task) }
                    }
                    #[cfg(target_arch = "x86_64")]
                    Engine::Floating(lanes) => {
                        #[target_feature(enable = "avx2,fma")]
                        fn enter<F: Field, T: Task<F>>(lanes: Floating, task: T) -> T::Output
                        where
                            Floating: Lanes<F>,
                        {
                            task.run(lanes)
                        }
                        // SAFETY: the token says that the processor has the features.
                        unsafe { enter::<Self, T>(lanes, task) }
                    }
                }
            }
        }
    };
}

laned!(Fp, 4);
laned!(Fp, 6);
laned!(Fq2, 4);
laned!(Fq2, 6);

/// An engine for a field: [`Lanes::WIDTH`] elements side by side.
///
/// Values are known up to a multiple of the modulus p; [c] stands for a value below c p. Memory
/// holds elements in "file form", x R with R = 2^(64 N) and below p, or in "engine form", in which
/// the engine itself stores them: as many words, any multiple of p that fits. All zero words mean
/// zero in both.
///
/// The bounds that a caller keeps to: factors of [`Lanes::mul`] are what these functions give, a
/// difference multiplied by no other difference.
pub trait Lanes<F: Field>: Copy + Send + Sync + 'static {
    /// How many elements; at most [`WIDTH_MAX`].
    const WIDTH: usize;
    /// That many elements.
    type Vector: Copy;

    /// Loads neighbouring elements as they are, without their form: x R stands for itself.
    ///
    /// # Panics
    /// If there are fewer than `WIDTH`.
    #[inline(always)]
    fn take(self, elements: &[F]) -> Self::Vector {
        let rows = rows(elements, Self::WIDTH);
        // SAFETY: the rows are elements, whose bytes are their words.
        unsafe { self.take_rows(&rows) }
    }

    /// Loads neighbouring elements in their form: x R as the x that it stands for. Such a factor's
    /// product with what [`Lanes::take`] gave is what the scalar field's is, in file form.
    ///
    /// # Panics
    /// If there are fewer than `WIDTH`.
    #[inline(always)]
    fn form(self, elements: &[F]) -> Self::Vector {
        let rows = rows(elements, Self::WIDTH);
        // SAFETY: the rows are elements, whose bytes are their words.
        unsafe { self.gather::<true>(&rows).0 }
    }

    /// Stores neighbouring elements as they are, reduced.
    ///
    /// # Panics
    /// If there is no room for `WIDTH`.
    #[inline(always)]
    fn put(self, x: Self::Vector, elements: &mut [F]) {
        let rows = rows_mut(&mut elements[..Self::WIDTH]);
        // SAFETY: the rows are elements, whose bytes are their words.
        unsafe { self.put_rows(&rows, x) }
    }

    /// Turns a block of `WIDTH` vectors: what was lane a of vector b is lane b of vector a.
    ///
    /// # Panics
    /// If it has another length.
    #[inline(always)]
    fn turn(self, block: &mut [Self::Vector]) {
        assert_eq!(block.len(), Self::WIDTH);
        let mut elements = [[F::ZERO; WIDTH_MAX]; WIDTH_MAX];
        for (vector, elements) in block.iter().zip(&mut elements) {
            // SAFETY: the rows are elements, whose bytes are their words.
            unsafe { self.scatter(&rows_mut(elements), self.reduced(*vector)) }
        }
        for (lane, vector) in block.iter_mut().enumerate() {
            let mut rows = [std::ptr::null(); WIDTH_MAX];
            for (row, elements) in rows.iter_mut().zip(&elements) {
                *row = std::ptr::from_ref(&elements[lane]).cast();
            }
            // SAFETY: the rows are elements, whose bytes are their words.
            *vector = unsafe { self.gather::<false>(&rows).0 };
        }
    }

    /// Lines that so many vectors fill.
    #[inline(always)]
    fn lines(vectors: usize) -> usize {
        (vectors * size_of::<Self::Vector>()).div_ceil(size_of::<Line>())
    }

    /// Lines as vectors.
    #[inline(always)]
    fn vectors(lines: &[Line]) -> &[Self::Vector] {
        const { assert!(align_of::<Self::Vector>() <= align_of::<Line>()) }
        let count = size_of_val(lines) / size_of::<Self::Vector>();
        // SAFETY: vectors are registers' worth of words, for which any bits are a value; so many
        // fit, aligned.
        unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), count) }
    }

    /// Lines as vectors to be written.
    #[inline(always)]
    fn vectors_mut(lines: &mut [Line]) -> &mut [Self::Vector] {
        const { assert!(align_of::<Self::Vector>() <= align_of::<Line>()) }
        let count = size_of_val(lines) / size_of::<Self::Vector>();
        // SAFETY: as in `vectors`; any vector is a value for lines too.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) }
    }

    /// Loads elements as they are, one from each of the first `WIDTH` rows.
    ///
    /// # Safety
    /// The first `WIDTH` pointers are valid for reads of [`Field::BYTES`] bytes.
    unsafe fn take_rows(self, rows: &[*const u64; WIDTH_MAX]) -> Self::Vector;

    /// Stores elements as they are, reduced.
    ///
    /// # Safety
    /// The first `WIDTH` pointers are valid for writes of [`Field::BYTES`] bytes.
    unsafe fn put_rows(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector);

    /// Loads elements, one from each of the first `WIDTH` rows, and says which are all zero
    /// words. `FILE` tells the form.
    ///
    /// # Safety
    /// The first `WIDTH` pointers are valid for reads of [`Field::BYTES`] bytes.
    unsafe fn gather<const FILE: bool>(self, rows: &[*const u64; WIDTH_MAX]) -> (Self::Vector, u8);

    /// Stores elements in engine form; they come from [`Lanes::fit`], [`Lanes::square_less`] or
    /// [`Lanes::chord`].
    ///
    /// # Safety
    /// The first `WIDTH` pointers are valid for writes of [`Field::BYTES`] bytes.
    unsafe fn scatter(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector);

    /// One in every lane.
    fn one(self) -> Self::Vector;

    /// a + b, not yet normal: a sum of at most four of what the other functions give.
    fn plus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// a - b, likewise; b a sum of at most two.
    fn minus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The same, fit for [`Lanes::mul`].
    fn normal(self, x: Self::Vector) -> Self::Vector;

    /// The same in the least multiple, or closely above, and fit for everything.
    fn reduced(self, x: Self::Vector) -> Self::Vector;

    /// a b.
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// a b for a as loaded and a b, also as loaded, that is in the prime field.
    fn scale(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The same elements, fit to be stored, those with a bit in the mask negated.
    fn fit(self, negative: u8, x: Self::Vector) -> Self::Vector;

    /// a - b, both as loaded, b in engine form.
    fn difference(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// (-1)^(bit of the mask) a - b, both as loaded, b in engine form.
    fn signed_difference(self, negative: u8, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// s^2 - 2 x - d: the new x of a chord of slope s through (x, y), d being what
    /// [`Lanes::difference`] gave for the other point.
    fn square_less(self, s: Self::Vector, x: Self::Vector, d: Self::Vector) -> Self::Vector;

    /// s (x - x3) - y: the new y of the chord, x3 being what [`Lanes::square_less`] gave.
    fn chord(
        self,
        s: Self::Vector,
        x: Self::Vector,
        x3: Self::Vector,
        y: Self::Vector,
    ) -> Self::Vector;

    /// 9 a, not yet normal, for a as the other functions give it.
    #[inline(always)]
    fn nine_times(self, a: Self::Vector) -> Self::Vector {
        let twice = self.plus(a, a);
        let four = self.reduced(self.plus(twice, twice));
        self.plus(self.plus(four, four), a)
    }

    /// (9 + u) a, reduced, for a as the other functions give it; a prime field has no u.
    #[inline(always)]
    fn residue(self, a: Self::Vector) -> Self::Vector {
        self.reduced(self.nine_times(a))
    }

    /// start + a0 b0 + a1 b1, reduced: factors and start as the other functions give them, no
    /// differences but reduced ones.
    #[inline(always)]
    fn sum_of_two(
        self,
        start: Self::Vector,
        [(a0, b0), (a1, b1)]: [(Self::Vector, Self::Vector); 2],
    ) -> Self::Vector {
        let products = self.plus(self.mul(a0, b0), self.mul(a1, b1));
        self.reduced(self.plus(start, products))
    }

    /// a0 b0 + a1 b1 + a2 b2, likewise.
    #[inline(always)]
    fn sum_of_three(
        self,
        [(a0, b0), (a1, b1), (a2, b2)]: [(Self::Vector, Self::Vector); 3],
    ) -> Self::Vector {
        let products = self.plus(self.mul(a0, b0), self.mul(a1, b1));
        self.reduced(self.plus(products, self.mul(a2, b2)))
    }

    /// The elements of the first `WIDTH` places. The others stay as they are.
    fn unpack(self, x: Self::Vector, elements: &mut [F; WIDTH_MAX]);

    /// The other way.
    fn pack(self, elements: &[F; WIDTH_MAX]) -> Self::Vector;

    /// Engine form of an element, kept in the bytes of one.
    fn store(x: &F) -> F;

    /// The element of an engine form.
    fn load(stored: &F) -> F;
}

/// The engine of `radix52.rs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Radix52<W>(pub(crate) W);

/// A pair of a prime field's vectors.
type Pair<W, const K: usize> = [[<W as Words>::V; K]; 2];

/// A prime field's vectors, and products of pairs of them.
macro_rules! prime_lanes {
    ($words:literal, $limbs:literal) => {
        impl<W: Words, M: Modulus<$words>> Lanes<Fp<M, $words>> for Radix52<W> {
            const WIDTH: usize = 8;
            type Vector = [W::V; $limbs];

            #[inline(always)]
            unsafe fn gather<const FILE: bool>(
                self,
                rows: &[*const u64; WIDTH_MAX],
            ) -> (Self::Vector, u8) {
                // SAFETY: the caller vouches for the words of an element at each pointer.
                let words = unsafe { gather_words::<W, $words>(self.0, rows) };
                let mut any = words[0];
                unroll!($words, i => any = self.0.or(any, words[i]));
                let shift = if FILE {
                    Radix::<M, $words, $limbs>::SHIFT
                } else {
                    0
                };
                (
                    Radix::<M, $words, $limbs>::cut(self.0, &words, shift),
                    self.0.zeros(any),
                )
            }

            #[inline(always)]
            unsafe fn scatter(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector) {
                let words = Radix::<M, $words, $limbs>::join(self.0, &x);
                // SAFETY: the caller vouches for the words of an element at each pointer.
                unsafe { scatter_words::<W, $words>(self.0, rows, &words) }
            }

            #[inline(always)]
            unsafe fn take_rows(self, rows: &[*const u64; WIDTH_MAX]) -> Self::Vector {
                // SAFETY: the caller vouches for the words of an element at each pointer.
                unsafe { Lanes::<Fp<M, $words>>::gather::<false>(self, rows).0 }
            }

            #[inline(always)]
            unsafe fn put_rows(self, rows: &[*mut u64; WIDTH_MAX], x: Self::Vector) {
                let x = Lanes::<Fp<M, $words>>::reduced(self, x);
                let x = Radix::<M, $words, $limbs>::canonical(self.0, &x);
                // SAFETY: the caller vouches for the words of an element at each pointer.
                unsafe { Lanes::<Fp<M, $words>>::scatter(self, rows, x) }
            }

            #[inline(always)]
            fn one(self) -> Self::Vector {
                each!(self.0, $limbs, i => self.0.splat(Radix::<M, $words, $limbs>::ONE[i]))
            }

            #[inline(always)]
            fn plus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                Radix::<M, $words, $limbs>::add(self.0, &a, &b)
            }

            /// [a], [4] -> [a + 4].
            #[inline(always)]
            fn minus(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                let constant = const { Radix::<M, $words, $limbs>::multiple(4) };
                Radix::<M, $words, $limbs>::sub_add(self.0, &a, &b, &constant)
            }

            #[inline(always)]
            fn normal(self, x: Self::Vector) -> Self::Vector {
                Radix::<M, $words, $limbs>::carry(self.0, x)
            }

            /// [R' / p - 1] -> [1 + 2^-12].
            #[inline(always)]
            fn reduced(self, x: Self::Vector) -> Self::Vector {
                let one = each!(self.0, $limbs, i => self.0.splat(Radix::<M, $words, $limbs>::P[i]));
                let columns = Radix::<M, $words, $limbs>::add(self.0, &x, &one);
                Radix::<M, $words, $limbs>::carry_reduced(self.0, columns)
            }

            /// [a], [b] with a b p <= R' -> [2].
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                let columns = Radix::<M, $words, $limbs>::product(self.0, &a, &b);
                let columns = Radix::<M, $words, $limbs>::reduce(self.0, columns);
                Radix::<M, $words, $limbs>::carry(self.0, columns)
            }

            /// [2^S], [2] -> [2].
            #[inline(always)]
            fn scale(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                Lanes::<Fp<M, $words>>::mul(self, a, b)
            }

            /// [2^S] -> [1 + 2^-12].
            #[inline(always)]
            fn fit(self, negative: u8, x: Self::Vector) -> Self::Vector {
                let constant = const {
                    let shift = Radix::<M, $words, $limbs>::SHIFT;
                    Radix::<M, $words, $limbs>::multiple((1 << shift) + 1)
                };
                let columns = Radix::<M, $words, $limbs>::negate_where(self.0, negative, &x);
                let columns =
                    each!(self.0, $limbs, i => self.0.add(columns[i], self.0.splat(constant[i])));
                Radix::<M, $words, $limbs>::carry_reduced(self.0, columns)
            }

            /// [2^S], [2] -> [2^S + 2], S being SHIFT.
            #[inline(always)]
            fn difference(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                let constant = const { Radix::<M, $words, $limbs>::multiple(2) };
                let columns = Radix::<M, $words, $limbs>::sub_add(self.0, &a, &b, &constant);
                Radix::<M, $words, $limbs>::carry(self.0, columns)
            }

            /// [2^S], [2] -> [2 2^S + 2].
            #[inline(always)]
            fn signed_difference(
                self,
                negative: u8,
                a: Self::Vector,
                b: Self::Vector,
            ) -> Self::Vector {
                let constant = const {
                    let shift = Radix::<M, $words, $limbs>::SHIFT;
                    Radix::<M, $words, $limbs>::multiple((1 << shift) + 2)
                };
                let a = Radix::<M, $words, $limbs>::negate_where(self.0, negative, &a);
                let columns = Radix::<M, $words, $limbs>::sub_add(self.0, &a, &b, &constant);
                Radix::<M, $words, $limbs>::carry(self.0, columns)
            }

            /// s [5], x [2], d [2^S + 2] -> [1 + 2^-12].
            #[inline(always)]
            fn square_less(
                self,
                s: Self::Vector,
                x: Self::Vector,
                d: Self::Vector,
            ) -> Self::Vector {
                let columns = Radix::<M, $words, $limbs>::square(self.0, &s);
                let columns = Radix::<M, $words, $limbs>::reduce(self.0, columns);
                less::<W, M, $words, $limbs>(self.0, columns, &x, &d)
            }

            /// s [2], x [2], x3 [2], y [2] -> [1 + 2^-12].
            #[inline(always)]
            fn chord(
                self,
                s: Self::Vector,
                x: Self::Vector,
                x3: Self::Vector,
                y: Self::Vector,
            ) -> Self::Vector {
                let across = Lanes::<Fp<M, $words>>::difference(self, x, x3);
                let columns = Radix::<M, $words, $limbs>::product(self.0, &s, &across);
                let columns = Radix::<M, $words, $limbs>::reduce(self.0, columns);
                let constant = const { Radix::<M, $words, $limbs>::multiple(3) };
                let columns = Radix::<M, $words, $limbs>::sub_add(self.0, &columns, &y, &constant);
                Radix::<M, $words, $limbs>::carry_reduced(self.0, columns)
            }

            #[inline(always)]
            fn unpack(self, x: Self::Vector, elements: &mut [Fp<M, $words>; WIDTH_MAX]) {
                let words = Radix::<M, $words, $limbs>::join(self.0, &x);
                let mut arrays = [[0; WIDTH_MAX]; $words];
                for j in 0..$words {
                    arrays[j] = self.0.unpack(words[j]);
                }
                for (lane, element) in elements.iter_mut().enumerate() {
                    let stored = Fp::from_montgomery_words(arrays.map(|word| word[lane]));
                    *element = <Self as Lanes<Fp<M, $words>>>::load(&stored);
                }
            }

            #[inline(always)]
            fn pack(self, elements: &[Fp<M, $words>; WIDTH_MAX]) -> Self::Vector {
                let stored = elements.map(|element| {
                    <Self as Lanes<Fp<M, $words>>>::store(&element).montgomery_words()
                });
                let words = each!(self.0, $words, j => {
                    let mut word = [0; WIDTH_MAX];
                    for (word, stored) in word.iter_mut().zip(&stored) {
                        *word = stored[j];
                    }
                    self.0.pack(word)
                });
                Radix::<M, $words, $limbs>::cut(self.0, &words, 0)
            }

            fn store(x: &Fp<M, $words>) -> Fp<M, $words> {
                *x * Fp::from(1u64 << Radix::<M, $words, $limbs>::SHIFT)
            }

            fn load(stored: &Fp<M, $words>) -> Fp<M, $words> {
                // Stored values may be a few times p.
                let mut words = stored.montgomery_words();
                loop {
                    let (difference, borrow) = crate::field::subtract_borrowing(&words, &M::MODULUS, false);
                    if borrow {
                        break;
                    }
                    words = difference;
                }
                Fp::from_montgomery_words(words) * Radix::<M, $words, $limbs>::UNSHIFT
            }
        }

        impl<W: Words, M: Modulus<$words>> Pairs<M, $words> for Radix52<W> {
            #[inline(always)]
            fn nought(self) -> [W::V; $limbs] {
                [self.0.splat(0); $limbs]
            }

            /// [a], [b] with a b p <= 1.6 R' -> [4.6]; with a b p <= 0.8 R' -> [3.8], so that
            /// products of products and one difference stay there.
            #[inline(always)]
            fn mul(self, a: Pair<W, $limbs>, b: Pair<W, $limbs>) -> Pair<W, $limbs> {
                let [c0, c1] = quadratic_product::<W, M, $words, $limbs>(self.0, &a, &b);
                [
                    Radix::<M, $words, $limbs>::carry(self.0, c0),
                    Radix::<M, $words, $limbs>::carry(self.0, c1),
                ]
            }

            #[inline(always)]
            fn square_less(
                self,
                s: Pair<W, $limbs>,
                x: Pair<W, $limbs>,
                d: Pair<W, $limbs>,
            ) -> Pair<W, $limbs> {
                // (s0 + s1)(s0 - s1) + 2 s0 s1 u; s is [4.6].
                let w = self.0;
                let constant = const { Radix::<M, $words, $limbs>::multiple(5) };
                let sum = Radix::<M, $words, $limbs>::add(w, &s[0], &s[1]);
                let sum = Radix::<M, $words, $limbs>::carry(w, sum);
                let difference = Radix::<M, $words, $limbs>::sub_add(w, &s[0], &s[1], &constant);
                let difference = Radix::<M, $words, $limbs>::carry(w, difference);
                let columns = Radix::<M, $words, $limbs>::product(w, &sum, &difference);
                let c0 = Radix::<M, $words, $limbs>::reduce(w, columns);
                let twice = Radix::<M, $words, $limbs>::add(w, &s[0], &s[0]);
                let twice = Radix::<M, $words, $limbs>::carry(w, twice);
                let columns = Radix::<M, $words, $limbs>::product(w, &twice, &s[1]);
                let c1 = Radix::<M, $words, $limbs>::reduce(w, columns);
                [
                    less::<W, M, $words, $limbs>(w, c0, &x[0], &d[0]),
                    less::<W, M, $words, $limbs>(w, c1, &x[1], &d[1]),
                ]
            }

            #[inline(always)]
            fn chord(
                self,
                s: Pair<W, $limbs>,
                x: Pair<W, $limbs>,
                x3: Pair<W, $limbs>,
                y: Pair<W, $limbs>,
            ) -> Pair<W, $limbs> {
                let across = Lanes::<Fq2<M, $words>>::difference(self, x, x3);
                let [c0, c1] = quadratic_product::<W, M, $words, $limbs>(self.0, &s, &across);
                let constant = const { Radix::<M, $words, $limbs>::multiple(3) };
                let c0 = Radix::<M, $words, $limbs>::sub_add(self.0, &c0, &y[0], &constant);
                let c1 = Radix::<M, $words, $limbs>::sub_add(self.0, &c1, &y[1], &constant);
                [
                    Radix::<M, $words, $limbs>::carry_reduced(self.0, c0),
                    Radix::<M, $words, $limbs>::carry_reduced(self.0, c1),
                ]
            }

            #[inline(always)]
            fn residue(self, a: Pair<W, $limbs>) -> Pair<W, $limbs> {
                let w = self.0;
                let nine0 = nine_columns::<W, M, $words, $limbs>(w, &a[0]);
                let nine1 = nine_columns::<W, M, $words, $limbs>(w, &a[1]);
                Lanes::<Fq2<M, $words>>::reduced(
                    self,
                    [
                        Lanes::<Fp<M, $words>>::minus(self, nine0, a[1]),
                        Lanes::<Fp<M, $words>>::plus(self, nine1, a[0]),
                    ],
                )
            }

            #[inline(always)]
            fn sum_of_two(
                self,
                start: Pair<W, $limbs>,
                [(a0, b0), (a1, b1)]: [(Pair<W, $limbs>, Pair<W, $limbs>); 2],
            ) -> Pair<W, $limbs> {
                let mut sums = Sums::<W, M, $words, $limbs>::new(self.0);
                sums.add(self.0, &a0, &b0);
                sums.add(self.0, &a1, &b1);
                sums.reduced(self.0, &start)
            }

            #[inline(always)]
            fn sum_of_three(
                self,
                [(a0, b0), (a1, b1), (a2, b2)]: [(Pair<W, $limbs>, Pair<W, $limbs>); 3],
            ) -> Pair<W, $limbs> {
                let mut sums = Sums::<W, M, $words, $limbs>::new(self.0);
                sums.add(self.0, &a0, &b0);
                sums.add(self.0, &a1, &b1);
                sums.add(self.0, &a2, &b2);
                sums.reduced(self.0, &[[self.0.splat(0); $limbs]; 2])
            }
        }
    };
}

prime_lanes!(4, 5);
prime_lanes!(6, 8);

/// Columns [3] less 2 x and d, x [2] and d [2^S + 2], reduced.
#[inline(always)]
fn less<W: Words, M: Modulus<N>, const N: usize, const K: usize>(
    w: W,
    columns: [W::V; K],
    x: &[W::V; K],
    d: &[W::V; K],
) -> [W::V; K] {
    let constant = const { Radix::<M, N, K>::multiple((1 << Radix::<M, N, K>::SHIFT) + 7) };
    let columns = Radix::<M, N, K>::sub(w, &columns, x);
    let columns = Radix::<M, N, K>::sub(w, &columns, x);
    let columns = Radix::<M, N, K>::sub_add(w, &columns, d, &constant);
    Radix::<M, N, K>::carry_reduced(w, columns)
}

/// The product in the quadratic extension plus 2 p, in columns: Karatsuba's three products and two
/// reductions. c0 is a0 b0 - a1 b1, which may be negative by as much as a b p^2, hence the 2 p.
#[inline(always)]
fn quadratic_product<W: Words, M: Modulus<N>, const N: usize, const K: usize>(
    w: W,
    a: &[[W::V; K]; 2],
    b: &[[W::V; K]; 2],
) -> [[W::V; K]; 2] {
    let (low0, high0) = Radix::<M, N, K>::product(w, &a[0], &b[0]);
    let (low1, high1) = Radix::<M, N, K>::product(w, &a[1], &b[1]);
    let sum_a = Radix::<M, N, K>::carry(w, Radix::<M, N, K>::add(w, &a[0], &a[1]));
    let sum_b = Radix::<M, N, K>::carry(w, Radix::<M, N, K>::add(w, &b[0], &b[1]));
    let (low, high) = Radix::<M, N, K>::product(w, &sum_a, &sum_b);
    let low = Radix::<M, N, K>::sub(w, &Radix::<M, N, K>::sub(w, &low, &low0), &low1);
    let high = Radix::<M, N, K>::sub(w, &Radix::<M, N, K>::sub(w, &high, &high0), &high1);
    let c1 = Radix::<M, N, K>::reduce(w, (low, high));
    let low = Radix::<M, N, K>::sub(w, &low0, &low1);
    let constant = const { Radix::<M, N, K>::multiple(2) };
    let high = Radix::<M, N, K>::sub_add(w, &high0, &high1, &constant);
    let c0 = Radix::<M, N, K>::reduce(w, (low, high));
    [c0, c1]
}

/// 9 x in columns.
#[inline(always)]
fn nine_columns<W: Words, M: Modulus<N>, const N: usize, const K: usize>(
    w: W,
    x: &[W::V; K],
) -> [W::V; K] {
    let mut columns = *x;
    for _ in 0..3 {
        columns = Radix::<M, N, K>::add(w, &columns, &columns);
    }
    Radix::<M, N, K>::add(w, &columns, x)
}

/// The columns of a product, low and high.
type Columns<W, const K: usize> = ([<W as Words>::V; K], [<W as Words>::V; K]);

/// A sum of products in the quadratic extension on its way: columns of the sums of a0 b0, of a1 b1
/// and of (a0 + a1)(b0 + b1), which three products of normalised factors do not fill (30 of the
/// 2^8 times 2^52 that a reduction takes). Reductions come once, at the end.
struct Sums<W: Words, M, const N: usize, const K: usize> {
    columns: [Columns<W, K>; 3],
    field: std::marker::PhantomData<M>,
}

impl<W: Words, M: Modulus<N>, const N: usize, const K: usize> Sums<W, M, N, K> {
    #[inline(always)]
    fn new(w: W) -> Self {
        let zero = [w.splat(0); K];
        Self {
            columns: [(zero, zero); 3],
            field: std::marker::PhantomData,
        }
    }

    #[inline(always)]
    fn add(&mut self, w: W, a: &[[W::V; K]; 2], b: &[[W::V; K]; 2]) {
        let sum_a = Radix::<M, N, K>::carry(w, Radix::<M, N, K>::add(w, &a[0], &a[1]));
        let sum_b = Radix::<M, N, K>::carry(w, Radix::<M, N, K>::add(w, &b[0], &b[1]));
        Radix::<M, N, K>::product_into(w, &mut self.columns[0], &a[0], &b[0]);
        Radix::<M, N, K>::product_into(w, &mut self.columns[1], &a[1], &b[1]);
        Radix::<M, N, K>::product_into(w, &mut self.columns[2], &sum_a, &sum_b);
    }

    /// The sum and `start`, reduced. With the factors' bounds a and b, the sum of their products at
    /// most R' / p: c1 then is [3] and not negative, c0 [2] or as much below zero as 1 p, hence the 2 p.
    #[inline(always)]
    fn reduced(self, w: W, start: &[[W::V; K]; 2]) -> [[W::V; K]; 2] {
        let [(low0, high0), (low1, high1), (low, high)] = self.columns;
        let low = Radix::<M, N, K>::sub(w, &Radix::<M, N, K>::sub(w, &low, &low0), &low1);
        let high = Radix::<M, N, K>::sub(w, &Radix::<M, N, K>::sub(w, &high, &high0), &high1);
        let c1 = Radix::<M, N, K>::reduce(w, (low, high));
        let low = Radix::<M, N, K>::sub(w, &low0, &low1);
        let high = Radix::<M, N, K>::sub(w, &high0, &high1);
        let c0 = Radix::<M, N, K>::reduce(w, (low, high));
        let constant = const { Radix::<M, N, K>::multiple(2) };
        let c0 = Radix::<M, N, K>::add(w, &c0, &start[0]);
        let c1 = Radix::<M, N, K>::add(w, &c1, &start[1]);
        let constant = each!(w, K, i => w.splat(constant[i]));
        [
            Radix::<M, N, K>::carry_reduced(w, Radix::<M, N, K>::add(w, &c0, &constant)),
            Radix::<M, N, K>::carry_reduced(w, Radix::<M, N, K>::add(w, &c1, &constant)),
        ]
    }
}

/// Neighbouring elements as rows.
///
/// # Panics
/// If there are fewer than `width`.
#[inline(always)]
fn rows<F>(elements: &[F], width: usize) -> [*const u64; WIDTH_MAX] {
    let mut rows = [std::ptr::null(); WIDTH_MAX];
    for (row, element) in rows.iter_mut().zip(&elements[..width]) {
        *row = std::ptr::from_ref(element).cast();
    }
    rows
}

/// The same to write to.
#[inline(always)]
fn rows_mut<F>(elements: &mut [F]) -> [*mut u64; WIDTH_MAX] {
    let mut rows = [std::ptr::null_mut(); WIDTH_MAX];
    for (row, element) in rows.iter_mut().zip(elements) {
        *row = std::ptr::from_mut(element).cast();
    }
    rows
}

/// The rows some words further on.
#[inline(always)]
pub(crate) fn forward(rows: &[*const u64; WIDTH_MAX], words: usize) -> [*const u64; WIDTH_MAX] {
    let mut rows = *rows;
    for row in &mut rows {
        *row = row.wrapping_add(words);
    }
    rows
}

/// The same to write to.
#[inline(always)]
pub(crate) fn forward_mut(rows: &[*mut u64; WIDTH_MAX], words: usize) -> [*mut u64; WIDTH_MAX] {
    let mut rows = *rows;
    for row in &mut rows {
        *row = row.wrapping_add(words);
    }
    rows
}

/// # Safety
/// The pointers are valid for reads of N words.
#[inline(always)]
unsafe fn gather_words<W: Words, const N: usize>(
    w: W,
    rows: &[*const u64; WIDTH_MAX],
) -> [W::V; N] {
    const { assert!(N >= 4) }
    // SAFETY: four words from the start, and four up to the end, are within N.
    let (first, last) = unsafe { (w.gather(rows), w.gather(&forward(rows, N - 4))) };
    each!(w, N, i => if i < 4 { first[i] } else { last[i + 4 - N] })
}

/// # Safety
/// The pointers are valid for writes of N words.
#[inline(always)]
unsafe fn scatter_words<W: Words, const N: usize>(
    w: W,
    rows: &[*mut u64; WIDTH_MAX],
    words: &[W::V; N],
) {
    const { assert!(N >= 4) }
    // SAFETY: four words up to the end, and four from the start, are within N.
    unsafe {
        if N > 4 {
            w.scatter(
                &forward_mut(rows, N - 4),
                each!(w, 4, i => words[N - 4 + i]),
            );
        }
        w.scatter(rows, each!(w, 4, i => words[i]));
    }
}

#[cfg(test)]
mod tests {
    use super::pairs::Factors;
    use super::words::Portable;
    use super::*;
    use crate::field::{FqBls12_381, FqBn254, FrBls12_381, FrBn254};

    /// A generator of test values: x -> x^2 + 1 and so on, with edge values in between.
    fn values<F: Field>(count: usize) -> Vec<F> {
        // Of an extension both parts.
        let mut x = F::from_montgomery_le(&vec![7; F::BYTES]).expect("below the modulus");
        (0..count)
            .map(|i| {
                x = x.square() + F::ONE;
                match i % 11 {
                    3 => F::ZERO,
                    5 => F::ONE,
                    7 => -F::ONE,
                    _ => x,
                }
            })
            .collect()
    }

    /// An engine whose operations are calls: inlined, thousands of calls of [`Portable`]'s make one function, which
    /// takes the compiler minutes.
    #[derive(Clone, Copy)]
    struct Called<L>(L);

    macro_rules! called {
        ($of:ty, $vector:ty: $($name:ident($($argument:ident: $type:ty),*);)*) => {
            $(#[inline(never)]
            fn $name(self, $($argument: $type),*) -> $vector {
                <L as $of>::$name(self.0, $($argument),*)
            })*
        };
    }

    impl<L: Lanes<Fp<M, N>>, M: Modulus<N>, const N: usize> Lanes<Fp<M, N>> for Called<L>
    where
        Fp<M, N>: Field,
    {
        const WIDTH: usize = L::WIDTH;
        type Vector = L::Vector;

        called! {
            Lanes<Fp<M, N>>, L::Vector:
            one();
            plus(a: L::Vector, b: L::Vector);
            minus(a: L::Vector, b: L::Vector);
            normal(x: L::Vector);
            reduced(x: L::Vector);
            mul(a: L::Vector, b: L::Vector);
            scale(a: L::Vector, b: L::Vector);
            fit(negative: u8, x: L::Vector);
            difference(a: L::Vector, b: L::Vector);
            signed_difference(negative: u8, a: L::Vector, b: L::Vector);
            square_less(s: L::Vector, x: L::Vector, d: L::Vector);
            chord(s: L::Vector, x: L::Vector, x3: L::Vector, y: L::Vector);
            nine_times(a: L::Vector);
            residue(a: L::Vector);
            sum_of_two(start: L::Vector, products: [(L::Vector, L::Vector); 2]);
            sum_of_three(products: [(L::Vector, L::Vector); 3]);
            pack(elements: &[Fp<M, N>; WIDTH_MAX]);
        }

        #[inline(never)]
        unsafe fn take_rows(self, rows: &[*const u64; WIDTH_MAX]) -> L::Vector {
            // SAFETY: as the caller promises.
            unsafe { self.0.take_rows(rows) }
        }

        #[inline(never)]
        unsafe fn put_rows(self, rows: &[*mut u64; WIDTH_MAX], x: L::Vector) {
            // SAFETY: as the caller promises.
            unsafe { self.0.put_rows(rows, x) }
        }

        #[inline(never)]
        unsafe fn gather<const FILE: bool>(
            self,
            rows: &[*const u64; WIDTH_MAX],
        ) -> (L::Vector, u8) {
            // SAFETY: as the caller promises.
            unsafe { self.0.gather::<FILE>(rows) }
        }

        #[inline(never)]
        unsafe fn scatter(self, rows: &[*mut u64; WIDTH_MAX], x: L::Vector) {
            // SAFETY: as the caller promises.
            unsafe { self.0.scatter(rows, x) }
        }

        #[inline(never)]
        fn unpack(self, x: L::Vector, elements: &mut [Fp<M, N>; WIDTH_MAX]) {
            self.0.unpack(x, elements);
        }

        fn store(x: &Fp<M, N>) -> Fp<M, N> {
            L::store(x)
        }

        fn load(stored: &Fp<M, N>) -> Fp<M, N> {
            L::load(stored)
        }
    }

    impl<L: Pairs<M, N>, M: Modulus<N>, const N: usize> Pairs<M, N> for Called<L>
    where
        Fp<M, N>: Field,
    {
        called! {
            Pairs<M, N>, [L::Vector; 2]:
            mul(a: [L::Vector; 2], b: [L::Vector; 2]);
            square_less(s: [L::Vector; 2], x: [L::Vector; 2], d: [L::Vector; 2]);
            chord(s: [L::Vector; 2], x: [L::Vector; 2], x3: [L::Vector; 2], y: [L::Vector; 2]);
            residue(a: [L::Vector; 2]);
            sum_of_two(start: [L::Vector; 2], terms: [Factors<L::Vector>; 2]);
            sum_of_three(terms: [Factors<L::Vector>; 3]);
        }

        fn nought(self) -> L::Vector {
            <L as Pairs<M, N>>::nought(self.0)
        }
    }

    /// Every operation on memory in both forms against the scalar field.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "lanes index several arrays")]
    fn agrees<F: Field, L: Lanes<F>>(lanes: L) {
        let words = F::BYTES / 8;
        let width = L::WIDTH;
        let v = values::<F>(64 * width);
        for chunk in v.chunks_exact(4 * width) {
            let part = |i: usize| -> [F; WIDTH_MAX] {
                std::array::from_fn(|lane| chunk[i * width + lane.min(width - 1)])
            };
            let (a, b, c, d) = (part(0), part(1), part(2), part(3));
            let mut stored = [[F::ZERO; WIDTH_MAX]; 4];
            let rows = |x: &[F; WIDTH_MAX]| -> [*const u64; WIDTH_MAX] {
                std::array::from_fn(|lane| (&raw const x[lane]).cast())
            };
            let check = |what: &str, x: L::Vector, expected: &dyn Fn(usize) -> F| {
                let mut got = [F::ZERO; WIDTH_MAX];
                lanes.unpack(x, &mut got);
                for lane in 0..width {
                    assert_eq!(
                        got[lane],
                        expected(lane),
                        "{what}, lane {lane} of {words} words"
                    );
                }
            };
            // SAFETY: the rows are elements in arrays that live on.
            let (file_a, zeros) = unsafe { lanes.gather::<true>(&rows(&a)) };
            for lane in 0..width {
                assert_eq!(zeros >> lane & 1 == 1, a[lane].is_zero());
            }
            for (stored, x) in stored.iter_mut().zip([&a, &b, &c, &d]) {
                *stored = x.map(|x| L::store(&x));
                for lane in 0..width {
                    assert_eq!(L::load(&stored[lane]), x[lane]);
                }
            }
            // SAFETY: as above.
            let [a_, b_, c_, d_] =
                std::array::from_fn(|i| unsafe { lanes.gather::<false>(&rows(&stored[i])).0 });
            check("gather", a_, &|i| a[i]);
            check("from elements", lanes.pack(&c), &|i| c[i]);
            check("one", lanes.one(), &|_| F::ONE);
            check("fit", lanes.fit(0b01010101, file_a), &|i| {
                if i % 2 == 0 { -a[i] } else { a[i] }
            });
            let sums = lanes.plus(lanes.minus(a_, b_), lanes.plus(c_, d_));
            let sums_of = |i: usize| a[i] - b[i] + c[i] + d[i];
            check("reduced sums", lanes.reduced(sums), &sums_of);
            check("product of sums", lanes.mul(lanes.normal(sums), b_), &|i| {
                sums_of(i) * b[i]
            });
            let mut same = [F::ZERO; WIDTH_MAX];
            let taken = lanes.minus(lanes.plus(lanes.take(&a), lanes.take(&b)), lanes.take(&c));
            lanes.put(taken, &mut same);
            for lane in 0..width {
                assert_eq!(same[lane], a[lane] + b[lane] - c[lane]);
            }
            lanes.put(lanes.mul(lanes.form(&a), lanes.take(&b)), &mut same);
            for lane in 0..width {
                assert_eq!(same[lane], a[lane] * b[lane]);
            }
            let mut block = [lanes.one(); WIDTH_MAX];
            let parts: [L::Vector; 4] = [a_, b_, c_, d_];
            for (b, vector) in block[..width].iter_mut().enumerate() {
                *vector = parts[b % 4];
            }
            lanes.turn(&mut block[..width]);
            for (turned, vector) in block[..width].iter().enumerate() {
                check("turned", *vector, &|lane| chunk[lane % 4 * width + turned]);
            }
            // Of the prime field.
            let mut base = F::ONE.double() + F::ONE;
            for _ in 0..20 {
                base = base.square() + F::ONE;
            }
            let stored_base = L::store(&base);
            let base_rows = [(&raw const stored_base).cast(); WIDTH_MAX];
            // SAFETY: each row is an element that lives on.
            let (base_, _) = unsafe { lanes.gather::<false>(&base_rows) };
            let scaled = lanes.scale(file_a, base_);
            check("scaled", scaled, &|i| a[i] * base);
            check(
                "product of a difference of scaled",
                lanes.mul(lanes.difference(scaled, b_), c_),
                &|i| (a[i] * base - b[i]) * c[i],
            );
            check("scaled, fit", lanes.fit(0b01010101, scaled), &|i| {
                let x = a[i] * base;
                if i % 2 == 0 { -x } else { x }
            });
            let difference = lanes.difference(file_a, b_);
            check("product of a difference", lanes.mul(difference, c_), &|i| {
                (a[i] - b[i]) * c[i]
            });
            let product = lanes.mul(lanes.mul(difference, c_), d_);
            check(
                "product of products",
                lanes.mul(product, difference),
                &|i| (a[i] - b[i]) * c[i] * d[i] * (a[i] - b[i]),
            );
            let slope = lanes.mul(product, lanes.signed_difference(0b10101010, file_a, d_));
            let slope_of = |i: usize| {
                let a_signed = if i % 2 == 1 { -a[i] } else { a[i] };
                (a[i] - b[i]) * c[i] * d[i] * (a_signed - d[i])
            };
            check("slope", slope, &slope_of);
            let x3 = lanes.square_less(slope, b_, difference);
            let x3_of = |i: usize| slope_of(i).square() - b[i] - b[i] - (a[i] - b[i]);
            check("new x", x3, &x3_of);
            let y3 = lanes.chord(slope, b_, x3, d_);
            let y3_of = |i: usize| slope_of(i) * (b[i] - x3_of(i)) - d[i];
            check("new y", y3, &y3_of);
            let mut out = [F::ZERO; WIDTH_MAX];
            let targets = std::array::from_fn(|lane| (&raw mut out[lane]).cast());
            // SAFETY: the rows are elements of an array that lives on.
            unsafe { lanes.scatter(&targets, y3) };
            for lane in 0..width {
                assert_eq!(L::load(&out[lane]), y3_of(lane));
            }
        }
    }

    /// The sums of products against the scalar field, of reduced differences and of products.
    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "lanes index several arrays")]
    fn sums_agree<F: Field, L: Lanes<F>>(lanes: L) {
        let v = values::<F>(32 * WIDTH_MAX);
        for chunk in v.as_chunks::<{ 4 * WIDTH_MAX }>().0 {
            let part = |i: usize| -> [F; WIDTH_MAX] {
                std::array::from_fn(|lane| chunk[i * WIDTH_MAX + lane])
            };
            let (a, b, c, d) = (part(0), part(1), part(2), part(3));
            let x = lanes.reduced(lanes.minus(lanes.pack(&a), lanes.pack(&b)));
            let y = lanes.mul(lanes.pack(&c), lanes.pack(&d));
            let two = lanes.sum_of_two(x, [(x, y), (y, y)]);
            let three = lanes.sum_of_three([(two, two), (x, two), (y, x)]);
            let nine = lanes.reduced(lanes.nine_times(y));
            let mut got = [[F::ZERO; WIDTH_MAX]; 3];
            for (got, vector) in got.iter_mut().zip([two, three, nine]) {
                lanes.unpack(vector, got);
            }
            for lane in 0..L::WIDTH {
                let (x, y) = (a[lane] - b[lane], c[lane] * d[lane]);
                let two = x + x * y + y * y;
                assert_eq!(got[0][lane], two);
                assert_eq!(got[1][lane], two * two + x * two + y * x);
                assert_eq!(got[2][lane], y.double().double().double() + y);
            }
        }
    }

    struct SumsAgree;

    impl<F: Field> Task<F> for SumsAgree {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes<F>>(self, lanes: L) {
            sums_agree(lanes);
        }
    }

    #[test]
    fn sums_of_products_agree_with_the_scalar_field() {
        sums_agree::<Fq2Bn254, _>(Called(Radix52(Portable)));
        for engine in Engine::all() {
            engine.run::<FqBn254, _>(SumsAgree);
            engine.run::<Fq2Bn254, _>(SumsAgree);
            engine.run::<Fq2Bls12_381, _>(SumsAgree);
        }
    }

    struct Agrees;

    impl<F: Field> Task<F> for Agrees {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes<F>>(self, lanes: L) {
            agrees(lanes);
        }
    }

    type Fq2Bn254 = Fq2<crate::field::ModulusFqBn254, 4>;
    type Fq2Bls12_381 = Fq2<crate::field::ModulusFqBls12_381, 6>;

    /// The twin is compiled for the two sizes of prime fields and one extension.
    #[test]
    fn portable_words_agree_with_the_scalar_field() {
        agrees::<FqBn254, _>(Called(Radix52(Portable)));
        agrees::<FqBls12_381, _>(Called(Radix52(Portable)));
        agrees::<Fq2Bn254, _>(Called(Radix52(Portable)));
    }

    #[test]
    fn every_engine_here_agrees_with_the_scalar_field() {
        for engine in Engine::all() {
            engine.run::<FqBn254, _>(Agrees);
            engine.run::<FrBn254, _>(Agrees);
            engine.run::<FqBls12_381, _>(Agrees);
            engine.run::<FrBls12_381, _>(Agrees);
            engine.run::<Fq2Bn254, _>(Agrees);
            engine.run::<Fq2Bls12_381, _>(Agrees);
        }
    }
}
