//! The primes of the known curves, as little-endian bytes, and comparison with them.
//!
//! A file names its curve by spelling out the primes of its fields, so the primes stand here as
//! the files have them. Comparison runs over 64-bit limbs from the top; it need not be constant
//! in time, because the position of the first differing limb of a number and the modulus says
//! next to nothing about the number: for all but one in 2^60 it is the top one.

use caldera_kernels::CurveId;
use caldera_kernels::field::{FqBls12_381, FqBn254, FrBls12_381, FrBn254, PrimeField};

use super::FormatError;
use super::section::Fields;

/// The curves that files may be of.
pub(super) const CURVES: [CurveId; 2] = [CurveId::Bn254, CurveId::Bls12_381];

/// The modulus q of a curve's base field, little-endian, as long as one coordinate.
pub const fn base_modulus(curve: CurveId) -> &'static [u8] {
    match curve {
        CurveId::Bn254 => &BN254_Q,
        CurveId::Bls12_381 => &BLS12_381_Q,
    }
}

/// The modulus r of a curve's scalar field, little-endian, as long as one scalar.
pub const fn scalar_modulus(curve: CurveId) -> &'static [u8; 32] {
    match curve {
        CurveId::Bn254 => &BN254_R,
        CurveId::Bls12_381 => &BLS12_381_R,
    }
}

/// log2 of the largest power of two that divides r - 1: how large a transform can be.
pub(super) const fn two_adicity(curve: CurveId) -> u32 {
    match curve {
        CurveId::Bn254 => FrBn254::TWO_ADICITY,
        CurveId::Bls12_381 => FrBls12_381::TWO_ADICITY,
    }
}

/// Whether `number` is below `modulus`; both little-endian and of one length, a multiple of 8.
pub(super) fn is_below(number: &[u8], modulus: &[u8]) -> bool {
    assert_eq!(number.len(), modulus.len());
    assert!(number.len().is_multiple_of(8));
    let limbs = |bytes: &[u8], i: usize| {
        let mut limb = [0; 8];
        limb.copy_from_slice(&bytes[8 * i..8 * i + 8]);
        u64::from_le_bytes(limb)
    };
    for i in (0..number.len() / 8).rev() {
        let (a, b) = (limbs(number, i), limbs(modulus, i));
        if a != b {
            return a < b;
        }
    }
    false
}

/// Reads a scalar field as a header has it, its size in bytes and then its prime, and says whose
/// it is.
pub(super) fn scalar_field(fields: &mut Fields) -> Result<CurveId, FormatError> {
    field(fields, 'r', &[32], "32", |curve| scalar_modulus(curve))
}

/// The same for a base field.
pub(super) fn base_field(fields: &mut Fields) -> Result<CurveId, FormatError> {
    field(fields, 'q', &[32, 48], "32 or 48", base_modulus)
}

fn field(
    fields: &mut Fields,
    field: char,
    sizes: &[u32],
    expected: &'static str,
    modulus: fn(CurveId) -> &'static [u8],
) -> Result<CurveId, FormatError> {
    let (file, section, offset) = (fields.file(), fields.section(), fields.offset());
    let size = fields.u32("the size of a field")?;
    if !sizes.contains(&size) {
        return Err(FormatError::FieldSize {
            file,
            section,
            offset,
            field,
            expected,
            got: size,
        });
    }
    let offset = fields.offset();
    let prime = fields.take(size.into(), "the prime of a field")?;
    CURVES
        .into_iter()
        .find(|&curve| modulus(curve) == prime)
        .ok_or_else(|| FormatError::Prime {
            file,
            section,
            offset,
            field,
            expected: "BN254 or BLS12-381",
            got: hexadecimal(&prime),
        })
}

/// A little-endian number in hexadecimal digits, most significant first.
pub(super) fn hexadecimal(number: &[u8]) -> String {
    number
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The words of a modulus as a file has them.
const fn little_endian<const WORDS: usize, const BYTES: usize>(words: [u64; WORDS]) -> [u8; BYTES] {
    assert!(BYTES == 8 * WORDS);
    let mut bytes = [0; BYTES];
    let mut i = 0;
    while i < BYTES {
        bytes[i] = words[i / 8].to_le_bytes()[i % 8];
        i += 1;
    }
    bytes
}

const BN254_Q: [u8; 32] = little_endian(FqBn254::MODULUS);
const BN254_R: [u8; 32] = little_endian(FrBn254::MODULUS);
const BLS12_381_Q: [u8; 48] = little_endian(FqBls12_381::MODULUS);
const BLS12_381_R: [u8; 32] = little_endian(FrBls12_381::MODULUS);

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;

    /// The primes as decimal numbers, as snarkjs's `curves.js` and EIP-2537 print them.
    #[test]
    fn primes_are_those_of_the_curves() {
        let decimal = |bytes: &[u8]| BigUint::from_bytes_le(bytes).to_string();
        assert_eq!(
            decimal(base_modulus(CurveId::Bn254)),
            "21888242871839275222246405745257275088696311157297823662689037894645226208583"
        );
        assert_eq!(
            decimal(scalar_modulus(CurveId::Bn254)),
            "21888242871839275222246405745257275088548364400416034343698204186575808495617"
        );
        assert_eq!(
            decimal(base_modulus(CurveId::Bls12_381)),
            "4002409555221667393417789825735904156556882819939007885332058136124031650490837864442687629129015664037894272559787"
        );
        assert_eq!(
            decimal(scalar_modulus(CurveId::Bls12_381)),
            "52435875175126190479447740508185965837690552500527637822603658699938581184513"
        );
        for curve in CURVES {
            let even = BigUint::from_bytes_le(scalar_modulus(curve)) - 1u32;
            assert_eq!(even.trailing_zeros(), Some(two_adicity(curve).into()));
            assert_eq!(base_modulus(curve).len(), curve.base_bytes());
        }
    }

    #[test]
    fn comparison_looks_at_every_limb() {
        let modulus = scalar_modulus(CurveId::Bn254);
        assert!(!is_below(modulus, modulus));
        for byte in 0..32 {
            let mut less = *modulus;
            let mut more = *modulus;
            let at = (byte..32)
                .find(|&i| modulus[i] != 0)
                .expect("the top byte is not zero");
            less[at] -= 1;
            assert!(is_below(&less, modulus), "less at byte {at}");
            if let Some(sum) = more[byte].checked_add(1) {
                more[byte] = sum;
                assert!(!is_below(&more, modulus), "more at byte {byte}");
            }
        }
    }
}
