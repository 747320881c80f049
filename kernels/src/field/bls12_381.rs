//! The two prime fields of BLS12-381.

use super::{Fp, Modulus};

/// r, the order of the groups: the scalars.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ModulusFrBls12_381;

impl Modulus<4> for ModulusFrBls12_381 {
    const MODULUS: [u64; 4] = [
        0xffffffff00000001,
        0x53bda402fffe5bfe,
        0x3339d80809a1d805,
        0x73eda753299d7d48,
    ];
    const NON_RESIDUE: u64 = 5;
}

/// q, the field of the coordinates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ModulusFqBls12_381;

impl Modulus<6> for ModulusFqBls12_381 {
    const MODULUS: [u64; 6] = [
        0xb9feffffffffaaab,
        0x1eabfffeb153ffff,
        0x6730d2a0f6b0f624,
        0x64774b84f38512bf,
        0x4b1ba7b6434bacd7,
        0x1a0111ea397fe69a,
    ];
    const NON_RESIDUE: u64 = 2;
}

/// The scalar field of BLS12-381.
pub type FrBls12_381 = Fp<ModulusFrBls12_381, 4>;
/// The base field of BLS12-381.
pub type FqBls12_381 = Fp<ModulusFqBls12_381, 6>;
