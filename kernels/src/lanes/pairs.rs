//! Quadratic extensions on every engine: an element is the pair of the vectors of its parts.
//!
//! Nearly all of it is the prime field's, part by part, and is here. Products are not, for in them the parts
//! meet: an engine that does those has [`Pairs`], and with that is an engine for the extension. Bounds are those of
//! the parts.

use super::{Lanes, WIDTH_MAX, forward, forward_mut};
use crate::field::{Fp, Fq2, Modulus};

/// What an engine has of its own of quadratic extensions: products. What each is to give is said at the function of
/// [`Lanes`] that has its name.
pub trait Pairs<M: Modulus<N>, const N: usize>: Lanes<Fp<M, N>> {
    /// Zero in every lane of a part.
    fn nought(self) -> Self::Vector;

    /// See [`Lanes::mul`].
    fn mul(self, a: [Self::Vector; 2], b: [Self::Vector; 2]) -> [Self::Vector; 2];

    /// See [`Lanes::square_less`].
    fn square_less(
        self,
        s: [Self::Vector; 2],
        x: [Self::Vector; 2],
        d: [Self::Vector; 2],
    ) -> [Self::Vector; 2];

    /// See [`Lanes::chord`].
    fn chord(
        self,
        s: [Self::Vector; 2],
        x: [Self::Vector; 2],
        x3: [Self::Vector; 2],
        y: [Self::Vector; 2],
    ) -> [Self::Vector; 2];

    /// See [`Lanes::residue`].
    fn residue(self, a: [Self::Vector; 2]) -> [Self::Vector; 2];

    /// See [`Lanes::sum_of_two`].
    fn sum_of_two(
        self,
        start: [Self::Vector; 2],
        terms: [Factors<Self::Vector>; 2],
    ) -> [Self::Vector; 2];

    /// See [`Lanes::sum_of_three`].
    fn sum_of_three(self, terms: [Factors<Self::Vector>; 3]) -> [Self::Vector; 2];
}

/// Two elements of Fq2 that are to be multiplied, part by part.
pub(super) type Factors<V> = ([V; 2], [V; 2]);

impl<L: Pairs<M, N>, M: Modulus<N>, const N: usize> Lanes<Fq2<M, N>> for L {
    const WIDTH: usize = <L as Lanes<Fp<M, N>>>::WIDTH;
    type Vector = [<L as Lanes<Fp<M, N>>>::Vector; 2];

    #[inline(always)]
    unsafe fn take_rows(self, rows: &[*const u64; WIDTH_MAX]) -> Self::Vector {
        let second = forward(rows, N);
        // SAFETY: the caller vouches for the words of two elements at each pointer.
        unsafe {
            [
                Lanes::<Fp<M, N>>::take_rows(self, rows),
                Lanes::<Fp<M, N>>::take_rows(self, &second),
            ]
        }
    }

    #[inline(always)]
    unsafe fn put_rows(self, rows: &[*mut u64; WIDTH_MAX], [x0, x1]: Self::Vector) {
        let second = forward_mut(rows, N);
        // SAFETY: the caller vouches for the words of two elements at each pointer.
        unsafe {
            Lanes::<Fp<M, N>>::put_rows(self, rows, x0);
            Lanes::<Fp<M, N>>::put_rows(self, &second, x1);
        }
    }

    #[inline(always)]
    fn turn(self, block: &mut [Self::Vector]) {
        let width = <L as Lanes<Fp<M, N>>>::WIDTH;
        assert_eq!(block.len(), width);
        for part in 0..2 {
            let mut parts = [block[0][part]; WIDTH_MAX];
            for (vector, pair) in parts.iter_mut().zip(&*block) {
                *vector = pair[part];
            }
            Lanes::<Fp<M, N>>::turn(self, &mut parts[..width]);
            for (vector, pair) in parts.iter().zip(&mut *block) {
                pair[part] = *vector;
            }
        }
    }

    #[inline(always)]
    unsafe fn gather<const FILE: bool>(self, rows: &[*const u64; WIDTH_MAX]) -> (Self::Vector, u8) {
        let second = forward(rows, N);
        // SAFETY: the caller vouches for the words of two elements at each pointer.
        let ((c0, zero0), (c1, zero1)) = unsafe {
            (
                Lanes::<Fp<M, N>>::gather::<FILE>(self, rows),
                Lanes::<Fp<M, N>>::gather::<FILE>(self, &second),
            )
        };
        ([c0, c1], zero0 & zero1)
    }

    #[inline(always)]
    unsafe fn scatter(self, rows: &[*mut u64; WIDTH_MAX], [x0, x1]: Self::Vector) {
        let second = forward_mut(rows, N);
        // SAFETY: the caller vouches for the words of two elements at each pointer.
        unsafe {
            Lanes::<Fp<M, N>>::scatter(self, rows, x0);
            Lanes::<Fp<M, N>>::scatter(self, &second, x1);
        }
    }

    #[inline(always)]
    fn one(self) -> Self::Vector {
        [Lanes::<Fp<M, N>>::one(self), self.nought()]
    }

    #[inline(always)]
    fn plus(self, [a0, a1]: Self::Vector, [b0, b1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::plus(self, a0, b0),
            Lanes::<Fp<M, N>>::plus(self, a1, b1),
        ]
    }

    #[inline(always)]
    fn minus(self, [a0, a1]: Self::Vector, [b0, b1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::minus(self, a0, b0),
            Lanes::<Fp<M, N>>::minus(self, a1, b1),
        ]
    }

    #[inline(always)]
    fn normal(self, [x0, x1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::normal(self, x0),
            Lanes::<Fp<M, N>>::normal(self, x1),
        ]
    }

    #[inline(always)]
    fn reduced(self, [x0, x1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::reduced(self, x0),
            Lanes::<Fp<M, N>>::reduced(self, x1),
        ]
    }

    #[inline(always)]
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
        Pairs::mul(self, a, b)
    }

    #[inline(always)]
    fn scale(self, [a0, a1]: Self::Vector, [b, _]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::mul(self, a0, b),
            Lanes::<Fp<M, N>>::mul(self, a1, b),
        ]
    }

    #[inline(always)]
    fn fit(self, negative: u8, [x0, x1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::fit(self, negative, x0),
            Lanes::<Fp<M, N>>::fit(self, negative, x1),
        ]
    }

    #[inline(always)]
    fn difference(self, [a0, a1]: Self::Vector, [b0, b1]: Self::Vector) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::difference(self, a0, b0),
            Lanes::<Fp<M, N>>::difference(self, a1, b1),
        ]
    }

    #[inline(always)]
    fn signed_difference(
        self,
        negative: u8,
        [a0, a1]: Self::Vector,
        [b0, b1]: Self::Vector,
    ) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::signed_difference(self, negative, a0, b0),
            Lanes::<Fp<M, N>>::signed_difference(self, negative, a1, b1),
        ]
    }

    #[inline(always)]
    fn square_less(self, s: Self::Vector, x: Self::Vector, d: Self::Vector) -> Self::Vector {
        Pairs::square_less(self, s, x, d)
    }

    #[inline(always)]
    fn chord(
        self,
        s: Self::Vector,
        x: Self::Vector,
        x3: Self::Vector,
        y: Self::Vector,
    ) -> Self::Vector {
        Pairs::chord(self, s, x, x3, y)
    }

    #[inline(always)]
    fn residue(self, a: Self::Vector) -> Self::Vector {
        Pairs::residue(self, a)
    }

    #[inline(always)]
    fn sum_of_two(
        self,
        start: Self::Vector,
        terms: [(Self::Vector, Self::Vector); 2],
    ) -> Self::Vector {
        Pairs::sum_of_two(self, start, terms)
    }

    #[inline(always)]
    fn sum_of_three(self, terms: [(Self::Vector, Self::Vector); 3]) -> Self::Vector {
        Pairs::sum_of_three(self, terms)
    }

    #[inline(always)]
    fn unpack(self, [x0, x1]: Self::Vector, elements: &mut [Fq2<M, N>; WIDTH_MAX]) {
        let mut parts = [elements.map(|x| x.c0), elements.map(|x| x.c1)];
        Lanes::<Fp<M, N>>::unpack(self, x0, &mut parts[0]);
        Lanes::<Fp<M, N>>::unpack(self, x1, &mut parts[1]);
        for (lane, element) in elements.iter_mut().enumerate() {
            *element = Fq2::new(parts[0][lane], parts[1][lane]);
        }
    }

    #[inline(always)]
    fn pack(self, elements: &[Fq2<M, N>; WIDTH_MAX]) -> Self::Vector {
        [
            Lanes::<Fp<M, N>>::pack(self, &elements.map(|element| element.c0)),
            Lanes::<Fp<M, N>>::pack(self, &elements.map(|element| element.c1)),
        ]
    }

    fn store(x: &Fq2<M, N>) -> Fq2<M, N> {
        Fq2::new(
            <L as Lanes<Fp<M, N>>>::store(&x.c0),
            <L as Lanes<Fp<M, N>>>::store(&x.c1),
        )
    }

    fn load(stored: &Fq2<M, N>) -> Fq2<M, N> {
        Fq2::new(
            <L as Lanes<Fp<M, N>>>::load(&stored.c0),
            <L as Lanes<Fp<M, N>>>::load(&stored.c1),
        )
    }
}
