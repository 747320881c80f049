//! From five sums to the three points of a proof.
//!
//! With A, B, C, H the sums over the witness and the quotient, and r, s the blinding:
//!
//! ```text
//! pi_a = alpha + A + r delta                       in G1
//! pi_b = beta + B + s delta                        in G2
//! pi_c = C + H + s pi_a + r (beta + B)             in G1
//! ```
//!
//! The paper, and snarkjs, write the end of pi_c as r (beta + B + s delta) - r s delta: the same
//! point for two multiplications more.
//!
//! r delta and s delta need no sum, so `mask` makes them while the sums are still running; pi_a,
//! pi_b and s pi_a need two of the five, so `assemble_ab` makes them while others run.

use std::sync::OnceLock;

use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::{Field, PrimeField};
use caldera_kernels::{CurveId, Group};
use zeroize::{Zeroize, Zeroizing};

use super::blinding::Blinding;
use crate::format::ZkeyHeader;
use crate::format::json::Point;

/// A sum that a device made: an affine point in the layout of keys. Absent is what a device made
/// no point of.
pub(super) type Sum = Option<Vec<u8>>;

/// Makes one proof, in three quanta. The errors name a sum that is no point.
pub(super) trait Assembly: Send + Sync {
    /// Computes what depends on the blinding alone.
    fn mask(&self, blinding: &Blinding);

    /// Computes pi_a and pi_b, after `mask`.
    fn assemble_ab(
        &self,
        a: &Sum,
        b2: &Sum,
        blinding: &Blinding,
    ) -> Result<(Point, Point), &'static str>;

    /// Computes pi_c, after `assemble_ab`. A circuit without private wires has no sum over C.
    fn assemble_c(
        &self,
        b1: &Sum,
        c: Option<&Sum>,
        h: &Sum,
        blinding: &Blinding,
    ) -> Result<Point, &'static str>;
}

/// An assembly for a key with this header, whose points must be points.
pub(super) fn assembly(header: &ZkeyHeader) -> Box<dyn Assembly> {
    match header.curve {
        CurveId::Bn254 => Box::new(Fixed::<Bn254>::new(header)),
        CurveId::Bls12_381 => Box::new(Fixed::<Bls12_381>::new(header)),
    }
}

/// The same point with canonical coordinates, as JSON has them, from Montgomery form, as keys
/// have them. `None` if the length is wrong or a coordinate is not below q.
pub(super) fn canonical(curve: CurveId, group: Group, bytes: &[u8]) -> Option<Point> {
    match curve {
        CurveId::Bn254 => canonical_of::<Bn254>(group, bytes),
        CurveId::Bls12_381 => canonical_of::<Bls12_381>(group, bytes),
    }
}

fn canonical_of<C: Curve>(group: Group, bytes: &[u8]) -> Option<Point> {
    let mut plain = vec![0; bytes.len()];
    let len = C::Fq::BYTES;
    for (from, to) in bytes.chunks(len).zip(plain.chunks_mut(len)) {
        C::Fq::from_montgomery_le(from)?.to_canonical_le(to);
    }
    Point::from_bytes(C::ID, group, &plain)
}

/// The points of a key's header that go into a proof, and the masks once they are made.
struct Fixed<C: Curve> {
    alpha_g1: Affine<C::Fq>,
    beta_g1: Affine<C::Fq>,
    beta_g2: Affine<C::Fq2>,
    delta_g1: Affine<C::Fq>,
    delta_g2: Affine<C::Fq2>,
    masks: OnceLock<Masks<C>>,
    turned: OnceLock<Turned<C>>,
}

/// alpha + r delta in G1, beta + s delta in G2. With these, a proof could be unmasked.
struct Masks<C: Curve> {
    a: Projective<C::Fq>,
    b: Projective<C::Fq2>,
}

/// s pi_a, from which s could be told.
struct Turned<C: Curve>(Projective<C::Fq>);

impl<C: Curve> Drop for Turned<C> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<C: Curve> Drop for Masks<C> {
    fn drop(&mut self) {
        self.a.zeroize();
        self.b.zeroize();
    }
}

impl<C: Curve> Fixed<C> {
    fn new(header: &ZkeyHeader) -> Fixed<C> {
        Fixed {
            alpha_g1: Affine::from_bytes_unchecked(&header.alpha_g1),
            beta_g1: Affine::from_bytes_unchecked(&header.beta_g1),
            beta_g2: Affine::from_bytes_unchecked(&header.beta_g2),
            delta_g1: Affine::from_bytes_unchecked(&header.delta_g1),
            delta_g2: Affine::from_bytes_unchecked(&header.delta_g2),
            masks: OnceLock::new(),
            turned: OnceLock::new(),
        }
    }

    fn masks(&self, blinding: &Blinding) -> &Masks<C> {
        self.masks.get_or_init(|| Masks {
            a: self.delta_g1.mul_canonical(&*words(blinding.r())) + self.alpha_g1,
            b: self.delta_g2.mul_canonical(&*words(blinding.s())) + self.beta_g2,
        })
    }
}

impl<C: Curve> Assembly for Fixed<C> {
    fn mask(&self, blinding: &Blinding) {
        self.masks(blinding);
    }

    fn assemble_ab(
        &self,
        a: &Sum,
        b2: &Sum,
        blinding: &Blinding,
    ) -> Result<(Point, Point), &'static str> {
        let masks = self.masks(blinding);
        let a = masks.a + sum::<C::Fq>("A", a)?;
        let b = masks.b + sum::<C::Fq2>("B2", b2)?;
        self.turned
            .get_or_init(|| Turned(a.mul_canonical(&*words(blinding.s()))));
        Ok((point(&a), point(&b)))
    }

    fn assemble_c(
        &self,
        b1: &Sum,
        c: Option<&Sum>,
        h: &Sum,
        blinding: &Blinding,
    ) -> Result<Point, &'static str> {
        let Some(Turned(turned)) = self.turned.get() else {
            unreachable!("assemble_c comes after assemble_ab");
        };
        let b1 = Projective::from(sum::<C::Fq>("B1", b1)?) + self.beta_g1;
        let c = c.map_or(Ok(Affine::INFINITY), |c| sum::<C::Fq>("C", c))?;
        let h = Projective::from(sum::<C::Fq>("H", h)?);
        Ok(point(
            &(h + c + *turned + b1.mul_canonical(&*words(blinding.r()))),
        ))
    }
}

/// A sum as a point.
fn sum<F: Coordinate>(name: &'static str, bytes: &Sum) -> Result<Affine<F>, &'static str> {
    let bytes = bytes.as_deref().unwrap_or_default();
    Affine::from_bytes(bytes).ok_or(name)
}

fn point<F: Coordinate>(point: &Projective<F>) -> Point {
    let mut bytes = vec![0; Affine::<F>::BYTES];
    point.to_affine().to_bytes(&mut bytes);
    canonical(F::CURVE, F::GROUP, &bytes).expect("our own field elements are reduced")
}

/// A scalar's words, for as long as they are needed.
fn words(scalar: &[u8; 32]) -> Zeroizing<[u64; 4]> {
    let mut words = Zeroizing::new([0; 4]);
    for (word, bytes) in words.iter_mut().zip(scalar.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}
