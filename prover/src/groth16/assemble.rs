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
//! r delta and s delta need no sum, so `mask` makes them while the sums are still running.

use std::sync::OnceLock;

use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::{Field, PrimeField};
use caldera_kernels::{CurveId, Group};
use zeroize::{Zeroize, Zeroizing};

use super::blinding::Blinding;
use crate::format::ZkeyHeader;
use crate::format::json::{Point, Proof};

/// The sums that a device made: affine points in the layout of keys. That over C is absent for
/// a circuit without private wires.
pub(super) struct Sums {
    pub(super) a: Option<Vec<u8>>,
    pub(super) b1: Option<Vec<u8>>,
    pub(super) b2: Option<Vec<u8>>,
    pub(super) c: Option<Vec<u8>>,
    pub(super) h: Option<Vec<u8>>,
}

/// Makes one proof, in two quanta.
pub(super) trait Assembly: Send + Sync {
    /// Computes what depends on the blinding alone.
    fn mask(&self, blinding: &Blinding);

    /// Computes the proof, after `mask`. The error names a sum that is no point.
    fn assemble(&self, sums: &Sums, blinding: &Blinding) -> Result<Proof, &'static str>;
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
}

/// alpha + r delta in G1, beta + s delta in G2. With these, a proof could be unmasked.
struct Masks<C: Curve> {
    a: Projective<C::Fq>,
    b: Projective<C::Fq2>,
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

    fn assemble(&self, sums: &Sums, blinding: &Blinding) -> Result<Proof, &'static str> {
        let masks = self.masks(blinding);
        let a = masks.a + sum::<C::Fq>("A", &sums.a)?;
        let b = masks.b + sum::<C::Fq2>("B2", &sums.b2)?;
        let b1 = Projective::from(sum::<C::Fq>("B1", &sums.b1)?) + self.beta_g1;
        let c = match &sums.c {
            Some(_) => sum::<C::Fq>("C", &sums.c)?,
            None => Affine::INFINITY,
        };
        let c = Projective::from(sum::<C::Fq>("H", &sums.h)?)
            + c
            + a.mul_canonical(&*words(blinding.s()))
            + b1.mul_canonical(&*words(blinding.r()));
        Ok(Proof {
            curve: C::ID,
            a: point(&a),
            b: point(&b),
            c: point(&c),
        })
    }
}

/// A sum as a point.
fn sum<F: Coordinate>(
    name: &'static str,
    bytes: &Option<Vec<u8>>,
) -> Result<Affine<F>, &'static str> {
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
