//! The two prime fields of BN254, also called bn128 and alt_bn128 (EIP-196).

use super::{Fp, Modulus};

/// r, the order of the groups: the scalars.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ModulusFrBn254;

impl Modulus<4> for ModulusFrBn254 {
    const MODULUS: [u64; 4] = [
        0x43e1f593f0000001,
        0x2833e84879b97091,
        0xb85045b68181585d,
        0x30644e72e131a029,
    ];
    const NON_RESIDUE: u64 = 5;
}

/// q, the field of the coordinates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct ModulusFqBn254;

impl Modulus<4> for ModulusFqBn254 {
    const MODULUS: [u64; 4] = [
        0x3c208c16d87cfd47,
        0x97816a916871ca8d,
        0xb85045b68181585d,
        0x30644e72e131a029,
    ];
    const NON_RESIDUE: u64 = 3;
}

/// The scalar field of BN254.
pub type FrBn254 = Fp<ModulusFrBn254, 4>;
/// The base field of BN254.
pub type FqBn254 = Fp<ModulusFqBn254, 4>;
