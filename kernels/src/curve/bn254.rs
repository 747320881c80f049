//! BN254: y^2 = x^3 + 3, and its sextic twist y^2 = x^3 + 3 / (9 + u). Parameter
//! x = 4965661367192848881.

use super::{Affine, Coordinate, Curve, Projective};
use crate::device::{CurveId, Group};
use crate::field::{Field, Fq2, FqBn254, FrBn254, ModulusFqBn254};

/// The curve of Ethereum's precompiles, also called bn128 and alt_bn128.
#[derive(Clone, Copy, Debug)]
pub struct Bn254;

impl Curve for Bn254 {
    const ID: CurveId = CurveId::Bn254;
    type Fr = FrBn254;
    type Fq = FqBn254;
    type Fq2 = Fq2<ModulusFqBn254, 4>;
}

impl Coordinate for FqBn254 {
    const CURVE: CurveId = CurveId::Bn254;
    const GROUP: Group = Group::G1;
    const B: Self = Self::constant([3, 0, 0, 0]);
    const GENERATOR: Affine<Self> = Affine {
        x: Self::constant([1, 0, 0, 0]),
        y: Self::constant([2, 0, 0, 0]),
    };
    const CUBE_ROOT: Self = Self::constant([
        0x5763473177fffffe,
        0xd4f263f1acdb5c4f,
        0x59e26bcea0d48bac,
        0x0000000000000000,
    ]);

    /// The whole curve has order r.
    fn in_subgroup(_: &Affine<Self>) -> bool {
        true
    }
}

impl Coordinate for Fq2<ModulusFqBn254, 4> {
    const CURVE: CurveId = CurveId::Bn254;
    const GROUP: Group = Group::G2;
    const B: Self = Self::new(
        FqBn254::constant([
            0x3267e6dc24a138e5,
            0xb5b4c5e559dbefa3,
            0x81be18991be06ac3,
            0x2b149d40ceb8aaae,
        ]),
        FqBn254::constant([
            0xe4a2bd0685c315d2,
            0xa74fa084e52d1852,
            0xcd2cafadeed8fdf4,
            0x009713b03af0fed4,
        ]),
    );
    const GENERATOR: Affine<Self> = Affine {
        x: Self::new(
            FqBn254::constant([
                0x46debd5cd992f6ed,
                0x674322d4f75edadd,
                0x426a00665e5c4479,
                0x1800deef121f1e76,
            ]),
            FqBn254::constant([
                0x97e485b7aef312c2,
                0xf1aa493335a9e712,
                0x7260bfb731fb5d25,
                0x198e9393920d483a,
            ]),
        ),
        y: Self::new(
            FqBn254::constant([
                0x4ce6cc0166fa7daa,
                0xe3d1e7690c43d37b,
                0x4aab71808dcb408f,
                0x12c85ea5db8c6deb,
            ]),
            FqBn254::constant([
                0x55acdadcd122975b,
                0xbc4b313370b38ef3,
                0xec9e99ad690c3395,
                0x090689d0585ff075,
            ]),
        ),
    };

    /// The square of G1's.
    const CUBE_ROOT: Self = Self::new(
        FqBn254::constant([
            0xe4bd44e5607cfd48,
            0xc28f069fbb966e3d,
            0x5e6dd9e7e0acccb0,
            0x30644e72e131a029,
        ]),
        FqBn254::ZERO,
    );

    /// `(x + 1) P + psi(x P) + psi^2(x P) = psi^3(2 x P)` holds exactly in the subgroup: El
    /// Housni, Guillevic and Piellard, "Co-factor clearing and subgroup membership testing on
    /// pairing-friendly curves" (eprint 2022/348).
    fn in_subgroup(point: &Affine<Self>) -> bool {
        let multiple = point.mul_canonical(&[X]);
        let first = psi(&multiple);
        let second = psi(&first);
        let third = psi(&second.double());
        multiple.add_affine(point) + first + second == third
    }
}

/// Untwist, Frobenius, twist: (x^q (9 + u)^((q - 1) / 3), y^q (9 + u)^((q - 1) / 2)).
pub(crate) fn psi(
    point: &Projective<Fq2<ModulusFqBn254, 4>>,
) -> Projective<Fq2<ModulusFqBn254, 4>> {
    Projective {
        x: point.x.conjugate() * PSI_X,
        y: point.y.conjugate() * PSI_Y,
        z: point.z.conjugate(),
    }
}

/// The curve's parameter.
pub(crate) const X: u64 = 4965661367192848881;

/// (9 + u)^((q - 1) / 3).
pub(crate) const PSI_X: Fq2<ModulusFqBn254, 4> = Fq2::new(
    FqBn254::constant([
        0x99e39557176f553d,
        0xb78cc310c2c3330c,
        0x4c0bec3cf559b143,
        0x2fb347984f7911f7,
    ]),
    FqBn254::constant([
        0x1665d51c640fcba2,
        0x32ae2a1d0b7c9dce,
        0x4ba4cc8bd75a0794,
        0x16c9e55061ebae20,
    ]),
);

/// (9 + u)^((q - 1) / 2).
pub(crate) const PSI_Y: Fq2<ModulusFqBn254, 4> = Fq2::new(
    FqBn254::constant([
        0xdc54014671a0135a,
        0xdbaae0eda9c95998,
        0xdc5ec698b6e2f9b9,
        0x063cf305489af5dc,
    ]),
    FqBn254::constant([
        0x82d37f632623b0e3,
        0x21807dc98fa25bd2,
        0x0704b5a7ec796f2b,
        0x07c03cbcac41049a,
    ]),
);
