//! The endomorphism of both curves, and scalars that are cut in two by it.
//!
//! On y^2 = x^3 + b over a field with a cube root of one, beta, the map phi (x, y) -> (beta x, y)
//! keeps to the curve, and in the subgroup of order r it is multiplication by a cube root of one
//! modulo r, lambda. So k P = k1 P + k2 phi(P) for any integers with k1 + lambda k2 = k mod r, and
//! there are such of half the length of r: Gallant, Lambert and Vanstone, "Faster point
//! multiplication on elliptic curves with efficient endomorphisms" (CRYPTO 2001). Of a sum that is
//! half as many windows of twice as many points.
//!
//! The pairs (a, b) with a + lambda b = 0 mod r are a lattice with the two short vectors of a
//! [`Lattice`]. From (k, 0) the multiples of them that are nearest to it are taken off (Babai);
//! what is left is no longer than half of their sum.
//!
//! A point outside the subgroup, where phi is no multiplication by lambda, makes a wrong sum, as it
//! makes a sum without meaning in any case: keys are checked when they are loaded, or trusted, and
//! a proof that comes of a wrong point is refused by the check that follows it.

use crate::device::CurveId;

/// Two short vectors, (a0, -b0) and (a1, b1) with a0 b1 + a1 b0 = r, and what finds the nearest
/// multiples.
pub struct Lattice {
    a: [u128; 2],
    b: [u128; 2],
    /// The nearest integers to 2^[`SHIFT`] b1 / r and 2^[`SHIFT`] b0 / r.
    quotients: [[u64; 3]; 2],
}

impl Lattice {
    /// That of a curve.
    pub fn of(curve: CurveId) -> &'static Self {
        match curve {
            CurveId::Bn254 => &BN254,
            CurveId::Bls12_381 => &BLS12_381,
        }
    }

    /// Its numbers in words of 64 bits, for devices that split for themselves: a0, a1, b0, b1, and
    /// the quotients with a shift of 318 bits.
    pub fn words(&self) -> [u64; 14] {
        let mut words = [0; 14];
        for (pair, number) in words
            .as_chunks_mut::<2>()
            .0
            .iter_mut()
            .zip(self.a.iter().chain(&self.b))
        {
            *pair = [*number as u64, (*number >> 64) as u64];
        }
        words[8..].copy_from_slice(self.quotients.as_flattened());
        words
    }

    /// Cuts a magnitude of at most (r - 1) / 2 in two: k1 + 2^128 k2 in two's complement, both
    /// below 2^126.5 in magnitude.
    #[inline(always)]
    pub(crate) fn split(&self, k: &[u64; 4]) -> [u64; 4] {
        let multiples = [
            nearest(k, &self.quotients[0]),
            nearest(k, &self.quotients[1]),
        ];
        // What is left fits, so the words above need not be known.
        let low = u128::from(k[0]) | u128::from(k[1]) << 64;
        let k1 = low
            .wrapping_sub(multiples[0].wrapping_mul(self.a[0]))
            .wrapping_sub(multiples[1].wrapping_mul(self.a[1]));
        let k2 = multiples[0]
            .wrapping_mul(self.b[0])
            .wrapping_sub(multiples[1].wrapping_mul(self.b[1]));
        // A negative k1 borrows from above.
        let k2 = k2.wrapping_sub(k1 >> 127);
        [k1 as u64, (k1 >> 64) as u64, k2 as u64, (k2 >> 64) as u64]
    }
}

/// The nearest integer to k q / 2^[`SHIFT`], which is below 2^128.
#[inline(always)]
fn nearest(k: &[u64; 4], q: &[u64; 3]) -> u128 {
    let mut product = [0u64; 7];
    for (i, &q) in q.iter().enumerate() {
        let mut carry = 0;
        for (j, &k) in k.iter().enumerate() {
            let sum = u128::from(q) * u128::from(k) + u128::from(product[i + j]) + carry;
            product[i + j] = sum as u64;
            carry = sum >> 64;
        }
        product[i + 4] = carry as u64;
    }
    let [.., fourth, fifth, sixth] = product.map(u128::from);
    let floor = (fourth | fifth << 64) >> (SHIFT - 256) | sixth << (384 - SHIFT);
    floor + (fourth >> (SHIFT - 257) & 1)
}

/// So many that three words hold 2^318 b / r, and with scalars of four words what that leaves out
/// is nothing.
const SHIFT: usize = 318;

/// With x the curve's parameter: (2 x + 1, -(6 x^2 + 2 x)) and (6 x^2 + 4 x + 1, 2 x + 1).
const BN254: Lattice = Lattice {
    a: [0x89d3256894d213e3, 0x6f4d8248eeb859fd0be4e1541221250b],
    b: [0x6f4d8248eeb859fc8211bbeb7d4f1128, 0x89d3256894d213e3],
    quotients: [
        [0xdbae71c51dce9bbd, 0xb64748cbb1f82cf5, 0],
        [0x6978e33ed7aa89b6, 0xde9ef6750e47ac63, 0x9333bc0529dcf4b3],
    ],
};

/// With x the curve's parameter: (1, -(x^2 - 1)) and (x^2, 1).
const BLS12_381: Lattice = Lattice {
    a: [1, 0xac45a4010001a4020000000100000000],
    b: [0xac45a4010001a40200000000ffffffff, 1],
    quotients: [
        [0x8d54253b7fb78ddf, 0, 0],
        [0x80d3ad2e49eb700a, 0x58fdb948bdb3fb8b, 0x5f1afb3c7807eab7],
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
    use crate::field::{Field, PrimeField};

    /// The cube root of one modulo r that phi multiplies by: 36 x^3 + 18 x^2 + 6 x + 1 on BN254,
    /// -x^2 on BLS12-381.
    fn lambda<C: Curve>() -> C::Fr {
        C::Fr::from_canonical(match C::ID {
            CurveId::Bn254 => [
                0x8b17ea66b99c90dd,
                0x5bfc41088d8daaa7,
                0xb3c4d79d41a91758,
                0,
            ],
            CurveId::Bls12_381 => [
                0xfffffffe00000001,
                0xa7780001fffcb7fc,
                0x3339d80809a1d804,
                0x73eda753299d7d48,
            ],
        })
    }

    fn multiplies<C: Curve, F: Coordinate>() {
        let point = F::GENERATOR
            .mul_canonical(&[0x1234_5678_9abc_def1])
            .to_affine();
        let phi = Affine {
            x: point.x * F::CUBE_ROOT,
            y: point.y,
        };
        let multiple = point.mul_canonical(&lambda::<C>().to_canonical());
        assert_eq!(multiple.to_affine(), phi);
    }

    #[test]
    fn phi_multiplies_by_lambda_in_each_group() {
        multiplies::<Bn254, <Bn254 as Curve>::Fq>();
        multiplies::<Bn254, <Bn254 as Curve>::Fq2>();
        multiplies::<Bls12_381, <Bls12_381 as Curve>::Fq>();
        multiplies::<Bls12_381, <Bls12_381 as Curve>::Fq2>();
    }

    /// A half as a residue, its magnitude being held against the bound.
    fn part<S: PrimeField<Words = [u64; 4]>>(value: i128) -> S {
        // 2^126.5, rounded down.
        let bound = 0x5a82_7999_fcef_3242_0000_0000_0000_0000;
        let magnitude = value.unsigned_abs();
        assert!(magnitude < bound, "{value}");
        let x = S::from_canonical([magnitude as u64, (magnitude >> 64) as u64, 0, 0]);
        if value < 0 { -x } else { x }
    }

    fn splits<C: Curve>() {
        let recompose = |k: C::Fr| {
            // A magnitude, as sums have them.
            let half = (-C::Fr::ONE) * C::Fr::from(2).inverse().expect("two is not zero");
            let words = k.to_canonical();
            let above = |a: &[u64; 4], b: &[u64; 4]| a.iter().rev().gt(b.iter().rev());
            let k = if above(&words, &half.to_canonical()) {
                -k
            } else {
                k
            };
            let parts = Lattice::of(C::ID).split(&k.to_canonical());
            let half = |i: usize| (u128::from(parts[i]) | u128::from(parts[i + 1]) << 64) as i128;
            let (first, second) = (half(0), half(2) + i128::from(half(0) < 0));
            let sum = part::<C::Fr>(first) + lambda::<C>() * part::<C::Fr>(second);
            assert_eq!(sum, k, "{parts:x?}");
        };
        let lambda = lambda::<C>();
        let half = C::Fr::from(2).inverse().expect("two is not zero");
        let mut near = vec![C::Fr::ZERO, half, lambda, lambda.square(), lambda * half];
        // The last k that is nearest to a multiple: for the next one it is the multiple above.
        for q in &Lattice::of(C::ID).quotients {
            for multiple in [0, 1, 2, 1 << 31, u128::from(u64::MAX), 1 << 100, 1 << 125] {
                let mut k = [0u64; 4];
                for bit in (0..C::Fr::MODULUS_BITS as usize - 1).rev() {
                    let mut larger = k;
                    larger[bit / 64] |= 1 << (bit % 64);
                    if nearest(&larger, q) <= multiple {
                        k = larger;
                    }
                }
                near.push(C::Fr::from_canonical(k));
            }
        }
        let mut random = C::Fr::from(3);
        for _ in 0..10_000 {
            random = random.square() + C::Fr::ONE;
            near.push(random);
        }
        for k in near {
            for step in [C::Fr::ZERO, C::Fr::ONE, C::Fr::from(2)] {
                recompose(k + step);
                recompose(k - step);
                recompose(-k + step);
            }
        }
    }

    #[test]
    fn scalars_are_sums_of_halves_within_bounds() {
        splits::<Bn254>();
        splits::<Bls12_381>();
    }
}
