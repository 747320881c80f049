//! BN254 and BLS12-381: groups of short Weierstrass curves y^2 = x^3 + b over [`crate::field`].
//!
//! The field of a point's coordinates names its group: there is one [`Coordinate`] field for
//! each group of each curve, so [`Affine`] and [`Projective`] need no second parameter.
//!
//! [`Projective`] is Jacobian (x = X / Z^2, y = Y / Z^3); its formulas are those of the Explicit
//! Formulas Database for a = 0: dbl-2009-l, add-2007-bl, madd-2007-bl. Bulk work adds affine
//! points in batches that share an inversion instead (`accumulate.rs`).

pub(crate) mod accumulate;
// Points addressed by pointers that were checked all at once.
#[allow(unsafe_code)]
mod batch;
mod bls12_381;
pub(crate) mod bn254;
pub mod check;
pub mod endomorphism;
pub mod fixed_base;

use std::fmt;
use std::ops::{Add, AddAssign, Neg};

use zeroize::Zeroize;

use crate::device::{CurveId, Group};
use crate::field::PrimeField;
use crate::lanes::Laned;

use batch::Batched;

pub use bls12_381::Bls12_381;
pub use bn254::Bn254;

/// A pairing-friendly curve: its fields and the generators of its groups.
pub trait Curve: Copy + fmt::Debug + Send + Sync + 'static {
    /// Its name.
    const ID: CurveId;
    /// The scalars.
    type Fr: PrimeField<Words = [u64; 4]> + Laned;
    /// The coordinates of G1.
    type Fq: PrimeField + Coordinate;
    /// The coordinates of G2.
    type Fq2: Coordinate;

    /// The generator of G1.
    fn g1() -> Affine<Self::Fq> {
        Self::Fq::GENERATOR
    }

    /// The generator of G2.
    fn g2() -> Affine<Self::Fq2> {
        Self::Fq2::GENERATOR
    }
}

/// The field in which the points of one group of one curve have their coordinates.
pub trait Coordinate: Batched {
    /// The curve.
    const CURVE: CurveId;
    /// The group.
    const GROUP: Group;
    /// The constant of y^2 = x^3 + b.
    const B: Self;
    /// The generator of the subgroup of order r that everyone uses.
    const GENERATOR: Affine<Self>;
    /// beta, the cube root of one for which (x, y) -> (beta x, y) is multiplication by the curve's
    /// lambda (`endomorphism.rs`). In the prime field.
    const CUBE_ROOT: Self;

    /// Whether a point of the curve is in the subgroup of order r. Not asked of points off the
    /// curve.
    fn in_subgroup(point: &Affine<Self>) -> bool;
}

/// A point by its coordinates; infinity is (0, 0), which is on neither curve.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(C)]
pub struct Affine<F> {
    /// x.
    pub x: F,
    /// y.
    pub y: F,
}

/// A point in Jacobian coordinates; infinity has Z = 0.
#[derive(Clone, Copy, Debug)]
pub struct Projective<F> {
    x: F,
    y: F,
    z: F,
}

impl<F: Coordinate> Affine<F> {
    /// The neutral element.
    pub const INFINITY: Self = Self {
        x: F::ZERO,
        y: F::ZERO,
    };
    /// Bytes of a point in a snarkjs file.
    pub const BYTES: usize = 2 * F::BYTES;

    /// Whether this is the neutral element.
    #[inline(always)]
    pub fn is_infinity(&self) -> bool {
        self.x.is_zero() && self.y.is_zero()
    }

    /// Whether the coordinates satisfy the curve's equation; infinity does.
    pub fn is_on_curve(&self) -> bool {
        self.is_infinity() || self.y.square() == self.x.square() * self.x + F::B
    }

    /// Whether a point that is on the curve is in the subgroup of order r.
    pub fn is_in_subgroup(&self) -> bool {
        self.is_infinity() || F::in_subgroup(self)
    }

    /// The multiple by a plain integer in little-endian words. Takes a time that depends on the
    /// integer.
    pub fn mul_canonical(&self, scalar: &[u64]) -> Projective<F> {
        let mut sum = Projective::INFINITY;
        for i in (0..64 * scalar.len()).rev() {
            sum = sum.double();
            if scalar[i / 64] >> (i % 64) & 1 == 1 {
                sum = sum.add_affine(self);
            }
        }
        sum
    }

    /// Reads x || y in Montgomery form; all zero is infinity. `None` if the length is wrong or a
    /// coordinate is not below q. Whether the point is on the curve is not looked at.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (x, y) = bytes.split_at_checked(F::BYTES)?;
        Some(Self {
            x: F::from_montgomery_le(x)?,
            y: F::from_montgomery_le(y)?,
        })
    }

    /// The same without the check of range.
    ///
    /// # Panics
    /// If there are fewer than [`Affine::BYTES`] bytes.
    #[inline(always)]
    pub fn from_bytes_unchecked(bytes: &[u8]) -> Self {
        let (x, y) = bytes.split_at(F::BYTES);
        Self {
            x: F::from_montgomery_le_unchecked(x),
            y: F::from_montgomery_le_unchecked(y),
        }
    }

    /// Writes x || y in Montgomery form.
    ///
    /// # Panics
    /// If `bytes` is shorter than [`Affine::BYTES`].
    pub fn to_bytes(&self, bytes: &mut [u8]) {
        let (x, y) = bytes.split_at_mut(F::BYTES);
        self.x.to_montgomery_le(x);
        self.y.to_montgomery_le(y);
    }
}

impl<F: Coordinate> Projective<F> {
    /// The neutral element.
    pub const INFINITY: Self = Self {
        x: F::ONE,
        y: F::ONE,
        z: F::ZERO,
    };

    /// Whether this is the neutral element.
    pub fn is_infinity(&self) -> bool {
        self.z.is_zero()
    }

    /// 2 P.
    pub fn double(&self) -> Self {
        // No point of order two on these curves; and with Z = 0 the result has Z = 0.
        let a = self.x.square();
        let b = self.y.square();
        let c = b.square();
        let d = ((self.x + b).square() - a - c).double();
        let e = a.double() + a;
        let x = e.square() - d.double();
        Self {
            x,
            y: e * (d - x) - c.double().double().double(),
            z: (self.y * self.z).double(),
        }
    }

    /// P + Q with Q affine.
    pub fn add_affine(&self, other: &Affine<F>) -> Self {
        if other.is_infinity() {
            return *self;
        }
        if self.is_infinity() {
            return Self::from(*other);
        }
        let zz = self.z.square();
        let u = other.x * zz;
        let s = other.y * self.z * zz;
        let h = u - self.x;
        let r = (s - self.y).double();
        if h.is_zero() {
            return if r.is_zero() {
                self.double()
            } else {
                Self::INFINITY
            };
        }
        let hh = h.square();
        let i = hh.double().double();
        let j = h * i;
        let v = self.x * i;
        let x = r.square() - j - v.double();
        Self {
            x,
            y: r * (v - x) - (self.y * j).double(),
            z: (self.z + h).square() - zz - hh,
        }
    }

    /// The multiple by a plain integer in little-endian words.
    pub fn mul_canonical(&self, scalar: &[u64]) -> Self {
        self.to_affine().mul_canonical(scalar)
    }

    /// The coordinates; one inversion.
    pub fn to_affine(&self) -> Affine<F> {
        // Z = 0 is infinity and has no inverse.
        let Some(inverse) = self.z.inverse() else {
            return Affine::INFINITY;
        };
        let square = inverse.square();
        Affine {
            x: self.x * square,
            y: self.y * square * inverse,
        }
    }

    /// The point (x / z^2, y / z^3), which is for the caller to know to be one.
    pub(crate) fn from_jacobian(x: F, y: F, z: F) -> Self {
        Self { x, y, z }
    }

    /// The point (x / zz, y / zzz) with zz^3 = zzz^2, which is for the caller to know to be one; zz = 0 is
    /// infinity. No inversion: with Z = zz, Z^3 is zzz^2.
    pub fn from_xyzz(x: F, y: F, zz: F, zzz: F) -> Self {
        Self {
            x: x * zz,
            y: y * zzz,
            z: zz,
        }
    }

    /// The coordinates of a point whose Z is one.
    pub(crate) fn affine_with_z_one(&self) -> Affine<F> {
        debug_assert!(self.z == F::ONE);
        Affine {
            x: self.x,
            y: self.y,
        }
    }

    /// The coordinates of many points with one inversion.
    pub fn batch_to_affine(points: &[Self]) -> Vec<Affine<F>> {
        let mut inverses: Vec<F> = points.iter().map(|point| point.z).collect();
        crate::field::batch_inverse(&mut inverses);
        points
            .iter()
            .zip(&inverses)
            .map(|(point, inverse)| {
                // The inverse stays zero for infinity, and so do both coordinates.
                let square = inverse.square();
                Affine {
                    x: point.x * square,
                    y: point.y * square * *inverse,
                }
            })
            .collect()
    }
}

impl<F: Coordinate> From<Affine<F>> for Projective<F> {
    fn from(point: Affine<F>) -> Self {
        if point.is_infinity() {
            return Self::INFINITY;
        }
        Self {
            x: point.x,
            y: point.y,
            z: F::ONE,
        }
    }
}

impl<F: Coordinate> Default for Projective<F> {
    fn default() -> Self {
        Self::INFINITY
    }
}

/// Equal as points, whatever their coordinates.
impl<F: Coordinate> PartialEq for Projective<F> {
    fn eq(&self, other: &Self) -> bool {
        if self.is_infinity() || other.is_infinity() {
            return self.is_infinity() == other.is_infinity();
        }
        let (zz, other_zz) = (self.z.square(), other.z.square());
        self.x * other_zz == other.x * zz && self.y * other_zz * other.z == other.y * zz * self.z
    }
}

impl<F: Coordinate> Eq for Projective<F> {}

impl<F: Coordinate> Add for Projective<F> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        if self.is_infinity() {
            return other;
        }
        if other.is_infinity() {
            return self;
        }
        let (zz1, zz2) = (self.z.square(), other.z.square());
        let u1 = self.x * zz2;
        let u2 = other.x * zz1;
        let s1 = self.y * other.z * zz2;
        let s2 = other.y * self.z * zz1;
        let h = u2 - u1;
        let r = (s2 - s1).double();
        if h.is_zero() {
            return if r.is_zero() {
                self.double()
            } else {
                Self::INFINITY
            };
        }
        let i = h.double().square();
        let j = h * i;
        let v = u1 * i;
        let x = r.square() - j - v.double();
        Self {
            x,
            y: r * (v - x) - (s1 * j).double(),
            z: ((self.z + other.z).square() - zz1 - zz2) * h,
        }
    }
}

impl<F: Coordinate> Add<Affine<F>> for Projective<F> {
    type Output = Self;

    fn add(self, other: Affine<F>) -> Self {
        self.add_affine(&other)
    }
}

impl<F: Coordinate> AddAssign for Projective<F> {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl<F: Coordinate> AddAssign<Affine<F>> for Projective<F> {
    fn add_assign(&mut self, other: Affine<F>) {
        *self = self.add_affine(&other);
    }
}

impl<F: Coordinate> Neg for Projective<F> {
    type Output = Self;

    fn neg(self) -> Self {
        Self { y: -self.y, ..self }
    }
}

impl<F: Coordinate> Neg for Affine<F> {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self {
            x: self.x,
            y: -self.y,
        }
    }
}

impl<F: Zeroize> Zeroize for Affine<F> {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
    }
}

impl<F: Zeroize> Zeroize for Projective<F> {
    fn zeroize(&mut self) {
        self.x.zeroize();
        self.y.zeroize();
        self.z.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn laws<F: Coordinate>(order: &[u64]) {
        let g = F::GENERATOR;
        assert!(g.is_on_curve());
        assert!(g.is_in_subgroup());
        assert!(g.mul_canonical(order).is_infinity());
        let p = Projective::from(g);
        let five = g.mul_canonical(&[5]);
        assert_eq!(p.double().double() + p, five);
        assert_eq!(p + p, p.double());
        assert_eq!(p.add_affine(&g), p.double());
        assert_eq!(five + -five, Projective::INFINITY);
        assert_eq!(five.add_affine(&-five.to_affine()), Projective::INFINITY);
        assert_eq!(five + Projective::INFINITY, five);
        assert_eq!(Projective::INFINITY + g, p);
        assert_eq!(Projective::<F>::INFINITY.double(), Projective::INFINITY);
        let many = [five, Projective::INFINITY, p, p.double()];
        let affine = Projective::batch_to_affine(&many);
        for (point, affine) in many.iter().zip(&affine) {
            assert_eq!(point.to_affine(), *affine);
            assert!(affine.is_on_curve());
            let mut bytes = vec![0; Affine::<F>::BYTES];
            affine.to_bytes(&mut bytes);
            assert_eq!(Affine::from_bytes(&bytes), Some(*affine));
            assert_eq!(Affine::<F>::from_bytes(&bytes[1..]), None);
        }
        let off = Affine { x: g.y, y: g.x };
        assert!(!off.is_on_curve());
    }

    /// Twice BN254's generator as in the tests of Ethereum's precompile at address 6.
    #[test]
    fn published_double_agrees() {
        let words = |hex: [u64; 4]| {
            let mut words = hex;
            words.reverse();
            <Bn254 as Curve>::Fq::from_canonical(words)
        };
        let published = Affine {
            x: words([
                0x030644e72e131a02,
                0x9b85045b68181585,
                0xd97816a916871ca8,
                0xd3c208c16d87cfd3,
            ]),
            y: words([
                0x15ed738c0e0a7c92,
                0xe7845f96b2ae9c0a,
                0x68a6a449e3538fc7,
                0xff3ebf7a5a18a2c4,
            ]),
        };
        assert_eq!(Bn254::g1().mul_canonical(&[2]).to_affine(), published);
    }

    #[test]
    fn group_laws_hold() {
        laws::<<Bn254 as Curve>::Fq>(&<Bn254 as Curve>::Fr::MODULUS);
        laws::<<Bn254 as Curve>::Fq2>(&<Bn254 as Curve>::Fr::MODULUS);
        laws::<<Bls12_381 as Curve>::Fq>(&<Bls12_381 as Curve>::Fr::MODULUS);
        laws::<<Bls12_381 as Curve>::Fq2>(&<Bls12_381 as Curve>::Fr::MODULUS);
    }
}
