//! BLS12-381: y^2 = x^3 + 4, and its sextic twist y^2 = x^3 + 4 (1 + u). Parameter
//! x = -0xd201000000010000.

use super::{Affine, Coordinate, Curve, Projective};
use crate::device::{CurveId, Group};
use crate::field::{Field, Fq2, FqBls12_381, FrBls12_381, ModulusFqBls12_381};

/// The curve of Ethereum's consensus layer.
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)]
pub struct Bls12_381;

impl Curve for Bls12_381 {
    const ID: CurveId = CurveId::Bls12_381;
    type Fr = FrBls12_381;
    type Fq = FqBls12_381;
    type Fq2 = Fq2<ModulusFqBls12_381, 6>;
}

impl Coordinate for FqBls12_381 {
    const CURVE: CurveId = CurveId::Bls12_381;
    const GROUP: Group = Group::G1;
    const B: Self = Self::constant([4, 0, 0, 0, 0, 0]);
    const GENERATOR: Affine<Self> = Affine {
        x: Self::constant([
            0xfb3af00adb22c6bb,
            0x6c55e83ff97a1aef,
            0xa14e3a3f171bac58,
            0xc3688c4f9774b905,
            0x2695638c4fa9ac0f,
            0x17f1d3a73197d794,
        ]),
        y: Self::constant([
            0x0caa232946c5e7e1,
            0xd03cc744a2888ae4,
            0x00db18cb2c04b3ed,
            0xfcf5e095d5d00af6,
            0xa09e30ed741d8ae4,
            0x08b3f481e3aaa0f1,
        ]),
    };

    /// phi is multiplication by -x^2.
    const CUBE_ROOT: Self = Self::constant([
        0x2e01fffffffefffe,
        0xde17d813620a0002,
        0xddb3a93be6f89688,
        0xba69c6076a0f77ea,
        0x5f19672fdf76ce51,
        0x0000000000000000,
    ]);

    /// `phi(P) = -x^2 P` holds exactly in the subgroup, phi being (beta x, y): Scott, "A note on
    /// group membership tests for G1, G2 and GT on BLS pairing-friendly curves" (eprint
    /// 2021/1130).
    fn in_subgroup(point: &Affine<Self>) -> bool {
        let phi = Affine {
            x: point.x * Self::CUBE_ROOT,
            y: point.y,
        };
        -point.mul_canonical(&[X]).mul_canonical(&[X]) == Projective::from(phi)
    }
}

impl Coordinate for Fq2<ModulusFqBls12_381, 6> {
    const CURVE: CurveId = CurveId::Bls12_381;
    const GROUP: Group = Group::G2;
    const B: Self = Self::new(
        FqBls12_381::constant([4, 0, 0, 0, 0, 0]),
        FqBls12_381::constant([4, 0, 0, 0, 0, 0]),
    );
    const GENERATOR: Affine<Self> = Affine {
        x: Self::new(
            FqBls12_381::constant([
                0xd48056c8c121bdb8,
                0x0bac0326a805bbef,
                0xb4510b647ae3d177,
                0xc6e47ad4fa403b02,
                0x260805272dc51051,
                0x024aa2b2f08f0a91,
            ]),
            FqBls12_381::constant([
                0xe5ac7d055d042b7e,
                0x334cf11213945d57,
                0xb5da61bbdc7f5049,
                0x596bd0d09920b61a,
                0x7dacd3a088274f65,
                0x13e02b6052719f60,
            ]),
        ),
        y: Self::new(
            FqBls12_381::constant([
                0xe193548608b82801,
                0x923ac9cc3baca289,
                0x6d429a695160d12c,
                0xadfd9baa8cbdd3a7,
                0x8cc9cdc6da2e351a,
                0x0ce5d527727d6e11,
            ]),
            FqBls12_381::constant([
                0xaaa9075ff05f79be,
                0x3f370d275cec1da1,
                0x267492ab572e99ab,
                0xcb3e287e85a763af,
                0x32acd2b02bc28b99,
                0x0606c4a02ea734cc,
            ]),
        ),
    };

    /// The square of G1's.
    const CUBE_ROOT: Self = Self::new(
        FqBls12_381::constant([
            0x8bfd00000000aaac,
            0x409427eb4f49fffd,
            0x897d29650fb85f9b,
            0xaa0d857d89759ad4,
            0xec02408663d4de85,
            0x1a0111ea397fe699,
        ]),
        FqBls12_381::ZERO,
    );

    /// `psi(P) = x P` holds exactly in the subgroup: the same note.
    fn in_subgroup(point: &Affine<Self>) -> bool {
        let psi = Affine {
            x: point.x.conjugate() * PSI_X,
            y: point.y.conjugate() * PSI_Y,
        };
        -point.mul_canonical(&[X]) == Projective::from(psi)
    }
}

/// The absolute value of the parameter.
const X: u64 = 0xd201000000010000;

/// (1 + u)^-((q - 1) / 3).
const PSI_X: Fq2<ModulusFqBls12_381, 6> = Fq2::new(
    FqBls12_381::ZERO,
    FqBls12_381::constant([
        0x8bfd00000000aaad,
        0x409427eb4f49fffd,
        0x897d29650fb85f9b,
        0xaa0d857d89759ad4,
        0xec02408663d4de85,
        0x1a0111ea397fe699,
    ]),
);

/// (1 + u)^-((q - 1) / 2).
const PSI_Y: Fq2<ModulusFqBls12_381, 6> = Fq2::new(
    FqBls12_381::constant([
        0xf1ee7b04121bdea2,
        0x304466cf3e67fa0a,
        0xef396489f61eb45e,
        0x1c3dedd930b1cf60,
        0xe2e9c448d77a2cd9,
        0x135203e60180a68e,
    ]),
    FqBls12_381::constant([
        0xc81084fbede3cc09,
        0xee67992f72ec05f4,
        0x77f76e17009241c5,
        0x48395dabc2d3435e,
        0x6831e36d6bd17ffe,
        0x06af0e0437ff400b,
    ]),
);
