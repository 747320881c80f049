//! The two random scalars of a proof.
//!
//! Groth16 is zero-knowledge because r and s are uniform, secret and used once. Who learns them
//! learns linear relations of the witness; who reuses them publishes the difference of two
//! witnesses' commitments. (A peer drew them from a generator with a 32-bit seed; its proofs
//! verify and hide nothing.) So they come from the operating system by default, are drawn by
//! rejection, which has no bias, and are overwritten when dropped.

use caldera_kernels::CurveId;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::format::scalar_modulus;

/// r and s: two scalars below the curve's group order, little-endian.
///
/// Not `Clone`: a pair is moved into the one proof that uses it.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Blinding {
    r: [u8; 32],
    s: [u8; 32],
}

/// The source of randomness failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntropyError {
    /// The operating system's generator could not be read.
    #[error("no randomness from the operating system: {0}")]
    Source(String),
    /// The source gave only values at or above the modulus: it is not random.
    #[error("{attempts} draws in a row were not below the group order: the source is not random")]
    Stuck {
        /// How many were tried.
        attempts: usize,
    },
}

impl Blinding {
    /// Draws a pair from the operating system. Blocks only before the kernel's generator has
    /// been seeded, early in boot.
    pub fn random(curve: CurveId) -> Result<Blinding, EntropyError> {
        Blinding::draw(curve, &mut |bytes| {
            getrandom::fill(bytes).map_err(|e| EntropyError::Source(e.to_string()))
        })
    }

    /// Draws a pair from `source`, which must fill what it is handed with uniform bytes that
    /// nobody else knows. [`Blinding::random`] is this with the operating system's generator;
    /// a reproducible proof for a test is this with a counter, and hides nothing.
    pub fn draw(
        curve: CurveId,
        source: &mut dyn FnMut(&mut [u8]) -> Result<(), EntropyError>,
    ) -> Result<Blinding, EntropyError> {
        let mut pair = Blinding {
            r: [0; 32],
            s: [0; 32],
        };
        draw_scalar(curve, &mut pair.r, source)?;
        draw_scalar(curve, &mut pair.s, source)?;
        Ok(pair)
    }

    /// r, little-endian.
    pub(super) fn r(&self) -> &[u8; 32] {
        &self.r
    }

    /// s, little-endian.
    pub(super) fn s(&self) -> &[u8; 32] {
        &self.s
    }
}

impl std::fmt::Debug for Blinding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blinding(secret)")
    }
}

/// Fills `out` with a uniform scalar below the order of `curve`: 32 bytes with the bits above
/// the order's length cleared, again while they are not below it.
pub(super) fn draw_scalar(
    curve: CurveId,
    out: &mut [u8; 32],
    source: &mut dyn FnMut(&mut [u8]) -> Result<(), EntropyError>,
) -> Result<(), EntropyError> {
    let order = scalar_modulus(curve);
    let mask = u8::MAX >> order[31].leading_zeros();
    for _ in 0..ATTEMPTS_MAX {
        source(out)?;
        out[31] &= mask;
        if out.iter().rev().lt(order.iter().rev()) {
            return Ok(());
        }
    }
    out.zeroize();
    Err(EntropyError::Stuck {
        attempts: ATTEMPTS_MAX,
    })
}

/// A draw is refused with a probability of at most 1/4 on BN254 and 1/10 on BLS12-381, so an
/// honest source fails this often in a row with a probability below 2^-256.
const ATTEMPTS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_below_the_order_and_rejection_takes_the_next() {
        for curve in [CurveId::Bn254, CurveId::Bls12_381] {
            // The first draw of each scalar is all ones and must be refused.
            let mut calls = 0u8;
            let pair = Blinding::draw(curve, &mut |bytes| {
                calls += 1;
                bytes.fill(if calls % 2 == 1 { 0xff } else { calls });
                Ok(())
            })
            .expect("the second draw is small");
            assert_eq!(calls, 4);
            assert_eq!(pair.r(), &[2; 32]);
            assert_eq!(pair.s(), &[4; 32]);
        }
    }

    #[test]
    fn a_stuck_source_ends() {
        let refused = Blinding::draw(CurveId::Bn254, &mut |bytes| {
            bytes.fill(0xff);
            Ok(())
        });
        assert_eq!(
            refused.expect_err("all draws are too large"),
            EntropyError::Stuck {
                attempts: ATTEMPTS_MAX
            }
        );
    }

    #[test]
    fn debug_shows_nothing() {
        let pair = Blinding::random(CurveId::Bn254).expect("this machine has a generator");
        assert_eq!(format!("{pair:?}"), "Blinding(secret)");
    }
}
