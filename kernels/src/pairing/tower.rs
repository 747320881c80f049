//! The target field: Fq12 over Fq6 over Fq2, with v^3 = 9 + u and w^2 = v.
//!
//! Products are written as sums of two or three products in Fq2 with one reduction for each
//! coordinate, not by Karatsuba's rule on the upper floors: as many reductions as there are
//! coordinates, no additions but within Fq2, and on vectors no values that grow. A Fq6 product so
//! takes 27 double-width products and 6 reductions. The idea of reducing sums is that of Aranha,
//! Karabina, Longa, Gebotys and Lopez (2010).
//!
//! What a Miller loop does to its value, a squaring and a product by a line, is written once over
//! [`Quadratic`], for one value and for a value in each lane of a vector. After the easy part of
//! the final exponentiation values are in the cyclotomic subgroup, where squarings are those of
//! Granger and Scott, "Faster squaring in the cyclotomic subgroup of sixth degree extensions"
//! (PKC 2010).

use crate::curve::bn254::{PSI_X, PSI_Y};
use crate::field::{Field, Fq2, FqBn254, ModulusFqBn254};

/// Coordinates of G2 and of the tower.
pub(super) type Quad = Fq2<ModulusFqBn254, 4>;

/// c0 + c1 w, each of them three coefficients of 1, v, v^2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tower<E> {
    /// The part without w.
    pub c0: [E; 3],
    /// The factor of w.
    pub c1: [E; 3],
}

/// An element of the target field.
pub type Fq12 = Tower<Quad>;

/// A way to compute in Fq2; results are fit to be operands.
pub(super) trait Quadratic: Copy {
    /// One element, or one in each lane.
    type E: Copy;

    /// a + b.
    fn add(self, a: Self::E, b: Self::E) -> Self::E;
    /// a - b.
    fn subtract(self, a: Self::E, b: Self::E) -> Self::E;
    /// (9 + u) a.
    fn residue(self, a: Self::E) -> Self::E;
    /// start + a0 b0 + a1 b1.
    fn sum_of_two(self, start: Self::E, products: [(Self::E, Self::E); 2]) -> Self::E;
    /// a0 b0 + a1 b1 + a2 b2.
    fn sum_of_three(self, products: [(Self::E, Self::E); 3]) -> Self::E;

    /// a v.
    #[inline(always)]
    fn times_v(self, [a0, a1, a2]: [Self::E; 3]) -> [Self::E; 3] {
        [self.residue(a2), a0, a1]
    }

    /// a b in Fq6.
    #[inline(always)]
    fn cubic_product(self, a: [Self::E; 3], b: [Self::E; 3]) -> [Self::E; 3] {
        // c_i is the sum of a_j b_(i - j), b_-1 and b_-2 being (9 + u) b_2 and (9 + u) b_1. Loops
        // that stay loops: written out three times, vector code takes a compiler minutes.
        let b = [self.residue(b[1]), self.residue(b[2]), b[0], b[1], b[2]];
        let mut c = a;
        for (i, c) in c.iter_mut().enumerate() {
            *c = self.sum_of_three([(a[0], b[i + 2]), (a[1], b[i + 1]), (a[2], b[i])]);
        }
        c
    }

    /// f^2 by two products in Fq6: (f0 + f1)(f0 + v f1) is f0^2 + v f1^2 and f0 f1 (1 + v).
    #[inline(always)]
    fn square(self, f: &Tower<Self::E>) -> Tower<Self::E> {
        let product = self.cubic_product(f.c0, f.c1);
        let shifted = self.times_v(f.c1);
        let mut sum = f.c0;
        let mut other = f.c0;
        for i in 0..3 {
            sum[i] = self.add(sum[i], f.c1[i]);
            other[i] = self.add(other[i], shifted[i]);
        }
        let mut c0 = self.cubic_product(sum, other);
        let shifted = self.times_v(product);
        let mut c1 = product;
        for i in 0..3 {
            c0[i] = self.subtract(self.subtract(c0[i], product[i]), shifted[i]);
            c1[i] = self.add(product[i], product[i]);
        }
        Tower { c0, c1 }
    }

    /// f (1 + (a + b v) w).
    #[inline(always)]
    fn times_line(self, f: &Tower<Self::E>, a: Self::E, b: Self::E) -> Tower<Self::E> {
        // In powers of w: f_k + f_(k - 1) a + f_(k - 3) b, where w^6 = 9 + u. The line's factors
        // are as they are for k - 1 and k - 3 from zero up, and times 9 + u below.
        let a = [self.residue(a), a];
        let b = [self.residue(b), b];
        let old = [f.c0[0], f.c1[0], f.c0[1], f.c1[1], f.c0[2], f.c1[2]];
        let mut new = old;
        for (k, new) in new.iter_mut().enumerate() {
            let first = (old[(k + 5) % 6], a[usize::from(k >= 1)]);
            let second = (old[(k + 3) % 6], b[usize::from(k >= 3)]);
            *new = self.sum_of_two(*new, [first, second]);
        }
        Tower {
            c0: [new[0], new[2], new[4]],
            c1: [new[1], new[3], new[5]],
        }
    }
}

/// One element, by the scalar field.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Quadratic for Scalar {
    type E = Quad;

    #[inline(always)]
    fn add(self, a: Quad, b: Quad) -> Quad {
        a + b
    }

    #[inline(always)]
    fn subtract(self, a: Quad, b: Quad) -> Quad {
        a - b
    }

    #[inline(always)]
    fn residue(self, a: Quad) -> Quad {
        let nine = |x: FqBn254| x.double().double().double() + x;
        Quad::new(nine(a.c0) - a.c1, nine(a.c1) + a.c0)
    }

    #[inline(always)]
    fn sum_of_two(self, start: Quad, [(a0, b0), (a1, b1)]: [(Quad, Quad); 2]) -> Quad {
        start + Quad::sum_of_two([(&a0, &b0), (&a1, &b1)])
    }

    #[inline(always)]
    fn sum_of_three(self, [(a0, b0), (a1, b1), (a2, b2)]: [(Quad, Quad); 3]) -> Quad {
        Quad::sum_of_three([(&a0, &b0), (&a1, &b1), (&a2, &b2)])
    }
}

impl Fq12 {
    /// Zero, which no pairing gives.
    pub const ZERO: Self = Self {
        c0: [Quad::ZERO; 3],
        c1: [Quad::ZERO; 3],
    };
    /// One.
    pub const ONE: Self = Self {
        c0: [Quad::ONE, Quad::ZERO, Quad::ZERO],
        c1: [Quad::ZERO; 3],
    };

    /// a b.
    pub fn multiply(&self, other: &Self) -> Self {
        let first = Scalar.cubic_product(self.c0, other.c0);
        let second = Scalar.cubic_product(self.c1, other.c1);
        let shifted = Scalar.times_v(second);
        let sums = |f: &Self| std::array::from_fn(|i| f.c0[i] + f.c1[i]);
        let both = Scalar.cubic_product(sums(self), sums(other));
        Self {
            c0: std::array::from_fn(|i| first[i] + shifted[i]),
            c1: std::array::from_fn(|i| both[i] - first[i] - second[i]),
        }
    }

    /// a^2.
    pub fn square(&self) -> Self {
        Scalar.square(self)
    }

    /// f (1 + (a + b v) w).
    pub(super) fn times_line(&mut self, a: Quad, b: Quad) {
        *self = Scalar.times_line(self, a, b);
    }

    /// c0 - c1 w, the q^6-th power: the inverse in the cyclotomic subgroup.
    pub fn conjugate(&self) -> Self {
        Self {
            c0: self.c0,
            c1: self.c1.map(|c| -c),
        }
    }

    /// 1 / a; `None` for zero.
    pub fn inverse(&self) -> Option<Self> {
        // 1 / (c0^2 - v c1^2) is in Fq6.
        let first = Scalar.cubic_product(self.c0, self.c0);
        let second = Scalar.times_v(Scalar.cubic_product(self.c1, self.c1));
        let inverse = cubic_inverse(std::array::from_fn(|i| first[i] - second[i]))?;
        Some(Self {
            c0: Scalar.cubic_product(self.c0, inverse),
            c1: Scalar.cubic_product(self.c1, inverse).map(|c| -c),
        })
    }

    /// a^q.
    pub fn frobenius(&self) -> Self {
        let [a0, a1, a2] = self.c0.map(|c| c.conjugate());
        let [b0, b1, b2] = self.c1.map(|c| c.conjugate());
        Self {
            c0: [a0, a1 * PSI_X, a2 * GAMMA_4],
            c1: [b0 * GAMMA_1, b1 * PSI_Y, b2 * GAMMA_5],
        }
    }

    /// a^2 for a in the cyclotomic subgroup.
    fn cyclotomic_square(&self) -> Self {
        // Three squares in Fq4 = Fq2[s], s^2 = 9 + u.
        let square = |a: Quad, b: Quad| {
            let (first, second) = (a.square(), b.square());
            let both = (a + b).square() - first - second;
            (first + Scalar.residue(second), both)
        };
        let ([g0, g1, g2], [h0, h1, h2]) = (self.c0, self.c1);
        let (t0, t1) = square(g0, h1);
        let (t2, t3) = square(h0, g2);
        let (t4, t5) = square(g1, h2);
        let minus = |t: Quad, x: Quad| (t - x).double() + t;
        let plus = |t: Quad, x: Quad| (t + x).double() + t;
        Self {
            c0: [minus(t0, g0), minus(t2, g1), minus(t4, g2)],
            c1: [plus(Scalar.residue(t5), h0), plus(t1, h1), plus(t3, h2)],
        }
    }

    /// a^e for a in the cyclotomic subgroup and e by its digits, each odd or zero and below 8.
    fn cyclotomic_power(&self, digits: &[i8]) -> Self {
        let square = self.cyclotomic_square();
        let mut odd = [*self; 4];
        for i in 1..4 {
            odd[i] = odd[i - 1].multiply(&square);
        }
        let mut power = Self::ONE;
        for (i, &digit) in digits.iter().enumerate().rev() {
            if i + 1 != digits.len() {
                power = power.cyclotomic_square();
            }
            if digit != 0 {
                let factor = odd[usize::from(digit.unsigned_abs()) / 2];
                power = match digit > 0 {
                    true => power.multiply(&factor),
                    false => power.multiply(&factor.conjugate()),
                };
            }
        }
        power
    }

    /// The power of (q^12 - 1) / r times 2 x (6 x^2 + 3 x + 1), which has no factor r; `None` for
    /// zero. The cheapest exponent known: Fuentes-Castaneda, Knapp and Rodriguez-Henriquez,
    /// "Faster hashing to G2" (SAC 2011). `ark-ec` takes the same, so values are equal.
    pub fn final_exponentiation(&self) -> Option<Self> {
        let f = self.conjugate().multiply(&self.inverse()?);
        let f = f.frobenius().frobenius().multiply(&f);
        // Exponents of f, in q and the curve's x.
        let x2 = f
            .cyclotomic_power(&PARAMETER)
            .cyclotomic_square()
            .conjugate(); // -2 x
        let x4 = x2.cyclotomic_square(); // -4 x
        let x6 = x4.multiply(&x2); // -6 x
        let xx6 = x6.cyclotomic_power(&PARAMETER).conjugate(); // 6 x^2
        let xx12 = xx6.cyclotomic_square(); // 12 x^2
        let xxx12 = xx12.cyclotomic_power(&PARAMETER); // 12 x^3
        let sum = xxx12.multiply(&xx6).multiply(&x6.conjugate()); // 12 x^3 + 6 x^2 + 6 x
        let less = sum.multiply(&x2); // 12 x^3 + 6 x^2 + 4 x
        let rest = sum.multiply(&xx6).multiply(&f); // 12 x^3 + 12 x^2 + 6 x + 1
        // q^3 (less - 1) + q^2 sum + q less + rest.
        let value = less.multiply(&f.conjugate()).frobenius().multiply(&sum);
        let value = value.frobenius().multiply(&less);
        Some(value.frobenius().multiply(&rest))
    }
}

fn cubic_inverse([a0, a1, a2]: [Quad; 3]) -> Option<[Quad; 3]> {
    let t0 = a0.square() - Scalar.residue(a1 * a2);
    let t1 = Scalar.residue(a2.square()) - a0 * a1;
    let t2 = a1.square() - a0 * a2;
    let norm = Scalar.sum_of_three([(a0, t0), (Scalar.residue(a2), t1), (Scalar.residue(a1), t2)]);
    let inverse = norm.inverse()?;
    Some([t0 * inverse, t1 * inverse, t2 * inverse])
}

/// An integer as digits, the lowest first, each zero or odd and below 2^(window - 1) in magnitude;
/// with a window of 2 the non-adjacent form.
pub(super) const fn signed_digits<const D: usize>(integer: u128, window: u32) -> [i8; D] {
    let mut digits = [0; D];
    let mut rest = integer;
    let mut i = 0;
    while rest != 0 {
        if rest & 1 == 1 {
            let low = (rest & ((1 << window) - 1)) as i128;
            let digit = if low >> (window - 1) == 1 {
                low - (1 << window)
            } else {
                low
            };
            digits[i] = digit as i8;
            rest = rest.wrapping_sub(digit as u128);
        }
        rest >>= 1;
        i += 1;
    }
    digits
}

/// The curve's parameter x.
const PARAMETER: [i8; 63] = signed_digits(crate::curve::bn254::X as u128, 4);

/// (9 + u)^(k (q - 1) / 6).
const GAMMA_1: Quad = Quad::new(
    FqBn254::constant([
        0xd60b35dadcc9e470,
        0x5c521e08292f2176,
        0xe8b99fdd76e68b60,
        0x1284b71c2865a7df,
    ]),
    FqBn254::constant([
        0xca5cf05f80f362ac,
        0x747992778eeec7e5,
        0xa6327cfe12150b8e,
        0x246996f3b4fae7e6,
    ]),
);
const GAMMA_4: Quad = Quad::new(
    FqBn254::constant([
        0x848a1f55921ea762,
        0xd33365f7be94ec72,
        0x80f3c0b75a181e84,
        0x05b54f5e64eea801,
    ]),
    FqBn254::constant([
        0xc13b4711cd2b8126,
        0x3685d2ea1bdec763,
        0x9f3a80b03b0b1c92,
        0x2c145edbe7fd8aee,
    ]),
);
const GAMMA_5: Quad = Quad::new(
    FqBn254::constant([
        0x2ea2c810eab7692f,
        0x425c459b55aa1bd3,
        0xe93a3661a4353ff4,
        0x0183c1e74f798649,
    ]),
    FqBn254::constant([
        0x24c6b8ee6e0c2c4b,
        0xb080cb99678e2ac0,
        0xa27fb246c7729f7d,
        0x12acf2ca76fd0675,
    ]),
);
