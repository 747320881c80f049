//! Baby Jubjub, the curve whose coordinates are BN254's scalars, and signatures on it.
//!
//! a x^2 + y^2 = 1 + d x^2 y^2 with a = 168700 and d = 168696 ([EIP-2494]); a is a square and d
//! is not, so the addition law has no exception and needs no cases. The group has 8 l elements,
//! l prime; everything here lives in the subgroup of order l, which [`Point::base`] generates.
//!
//! The signature is circomlib's EdDSA with Poseidon: for the challenge
//! h = Poseidon(R.x, R.y, A.x, A.y, M) it is valid if S B = R + 8 h A. Signatures made here
//! verify with circomlibjs and the other way round. What differs is how a key comes from its
//! seed and a nonce from the message, which no verifier can see: circomlibjs uses BLAKE-512 in
//! its version of 2008, which little else has; here it is SHA3-512. A key of circomlibjs is
//! taken over by its scalar.
//!
//! Scalars that are secret are multiplied by the same steps whatever their bits are, and are
//! overwritten after use.
//!
//! [EIP-2494]: https://eips.ethereum.org/EIPS/eip-2494

use std::fmt;

use ark_bn254::Fr;
use ark_ff::{BigInteger, Field, MontFp, One, PrimeField};
use sha3::{Digest, Sha3_512};
use zeroize::{Zeroize, Zeroizing};

use super::{UnitError, poseidon};

pub use scalar::{Scalar, ScalarConfig};

mod scalar {
    #![expect(
        unexpected_cfgs,
        reason = "the derive asks for a feature of another crate"
    )]

    use ark_ff::{Fp256, MontBackend, MontConfig};

    /// The configuration of [`Scalar`]: l, and a generator of its multiplicative group.
    #[derive(MontConfig)]
    #[modulus = "2736030358979909402780800718157159386076813972158567259200215660948447373041"]
    #[generator = "31"]
    pub struct ScalarConfig;

    /// Integers modulo the order of the subgroup.
    pub type Scalar = Fp256<MontBackend<ScalarConfig, 4>>;
}

/// A pair of coordinates; on the curve wherever this module has made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The first coordinate.
    pub x: Fr,
    /// The second coordinate.
    pub y: Fr,
}

impl Point {
    /// circomlib's Base8, which generates the subgroup.
    pub const fn base() -> Point {
        BASE
    }

    /// The neutral element.
    pub const fn neutral() -> Point {
        Point {
            x: MontFp!("0"),
            y: MontFp!("1"),
        }
    }

    /// Whether the coordinates satisfy the curve's equation.
    pub fn is_on_curve(&self) -> bool {
        let (xx, yy) = (self.x.square(), self.y.square());
        A * xx + yy == Fr::one() + D * xx * yy
    }

    /// The sum. No pair of points on the curve is an exception.
    pub fn plus(&self, other: &Point) -> Point {
        Projective::from(*self)
            .plus(&Projective::from(*other))
            .affine()
    }

    /// The multiple by a scalar.
    pub fn times(&self, scalar: &Scalar) -> Point {
        self.times_integer(&scalar.into_bigint().to_bits_le())
    }

    /// The point that has the same second coordinate.
    pub fn negated(&self) -> Point {
        Point {
            x: -self.x,
            y: self.y,
        }
    }

    fn is_in_subgroup(&self) -> bool {
        self.times_integer(&Scalar::MODULUS.to_bits_le()) == Point::neutral()
    }

    /// Doubles and adds at every bit, and keeps the sum by multiplication rather than by a
    /// branch.
    fn times_integer(&self, bits_le: &[bool]) -> Point {
        let point = Projective::from(*self);
        let mut result = Projective::from(Point::neutral());
        for &bit in bits_le.iter().rev() {
            result = result.plus(&result);
            result = result.chosen(&result.plus(&point), Fr::from(u64::from(bit)));
        }
        result.affine()
    }
}

/// X/Z and Y/Z are the coordinates.
#[derive(Clone, Copy)]
struct Projective {
    x: Fr,
    y: Fr,
    z: Fr,
}

impl From<Point> for Projective {
    fn from(point: Point) -> Projective {
        Projective {
            x: point.x,
            y: point.y,
            z: Fr::one(),
        }
    }
}

impl Projective {
    /// add-2008-bbjlp of the Explicit-Formulas Database.
    fn plus(&self, other: &Projective) -> Projective {
        let a = self.z * other.z;
        let b = a.square();
        let c = self.x * other.x;
        let d = self.y * other.y;
        let e = D * c * d;
        let (f, g) = (b - e, b + e);
        Projective {
            x: a * f * ((self.x + self.y) * (other.x + other.y) - c - d),
            y: a * g * (d - A * c),
            z: f * g,
        }
    }

    /// `self` for 0, `other` for 1.
    fn chosen(&self, other: &Projective, bit: Fr) -> Projective {
        Projective {
            x: self.x + bit * (other.x - self.x),
            y: self.y + bit * (other.y - self.y),
            z: self.z + bit * (other.z - self.z),
        }
    }

    fn affine(&self) -> Point {
        let inverse = self.z.inverse().expect("the addition law is complete");
        Point {
            x: self.x * inverse,
            y: self.y * inverse,
        }
    }
}

/// Who signs units: a point of the subgroup that is not neutral.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuerKey(Point);

impl IssuerKey {
    /// A key from coordinates that somebody else says are one.
    pub fn new(x: Fr, y: Fr) -> Result<IssuerKey, UnitError> {
        let point = Point { x, y };
        if !point.is_on_curve() {
            return Err(UnitError::IssuerKey("a point on Baby Jubjub"));
        }
        if point == Point::neutral() {
            return Err(UnitError::IssuerKey("a point that is not neutral"));
        }
        if !point.is_in_subgroup() {
            return Err(UnitError::IssuerKey("a point of the prime subgroup"));
        }
        Ok(IssuerKey(point))
    }

    /// The key's point.
    pub fn point(&self) -> Point {
        self.0
    }

    /// Whether a signature of `message` is this issuer's.
    pub fn verify(&self, message: Fr, signature: &Signature) -> bool {
        let challenge = challenge(&signature.r, &self.0, message);
        let right = self.0.times(&(challenge * Scalar::from(8u8)));
        signature.r.is_on_curve() && BASE.times(&signature.s) == signature.r.plus(&right)
    }
}

/// A signature: circomlib's R8 and S.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    /// The commitment.
    pub r: Point,
    /// The response.
    pub s: Scalar,
}

/// The secret half of an [`IssuerKey`]. Overwritten when dropped, and never shown.
pub struct IssuerSecret {
    scalar: Scalar,
    prefix: [u8; 32],
}

impl IssuerSecret {
    /// The key of a seed, which must be 32 bytes that nobody can guess.
    pub fn from_seed(seed: &[u8; 32]) -> IssuerSecret {
        let digest = |label: &[u8]| -> Zeroizing<[u8; 64]> {
            Zeroizing::new(
                Sha3_512::new()
                    .chain_update(label)
                    .chain_update(seed)
                    .finalize()
                    .into(),
            )
        };
        // Twice as many bits as l has, so that no residue is likelier than another.
        let scalar = Scalar::from_le_bytes_mod_order(&*digest(b"caldera issuer key v1"));
        let mut prefix = [0; 32];
        prefix.copy_from_slice(&digest(b"caldera issuer prefix v1")[..32]);
        IssuerSecret { scalar, prefix }
    }

    /// A key whose scalar comes from elsewhere: for one of circomlibjs, the pruned hash of its
    /// seed over 8. `prefix` is a second secret, from which nonces are made.
    pub fn from_scalar(scalar: Scalar, prefix: [u8; 32]) -> IssuerSecret {
        IssuerSecret { scalar, prefix }
    }

    /// The public half.
    pub fn key(&self) -> IssuerKey {
        IssuerKey(BASE.times(&self.scalar))
    }

    /// Signs a field element. The same message gives the same signature.
    pub fn sign(&self, message: Fr) -> Signature {
        let digest: Zeroizing<[u8; 64]> = Zeroizing::new(
            Sha3_512::new()
                .chain_update(b"caldera issuer nonce v1")
                .chain_update(self.prefix)
                .chain_update(message.into_bigint().to_bytes_le())
                .finalize()
                .into(),
        );
        let nonce = Zeroizing::new(Scalar::from_le_bytes_mod_order(&*digest));
        let r = BASE.times(&nonce);
        let challenge = challenge(&r, &self.key().0, message);
        Signature {
            r,
            s: *nonce + challenge * Scalar::from(8u8) * self.scalar,
        }
    }
}

impl Drop for IssuerSecret {
    fn drop(&mut self) {
        self.scalar.zeroize();
        self.prefix.zeroize();
    }
}

impl fmt::Debug for IssuerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerSecret").finish_non_exhaustive()
    }
}

fn challenge(r: &Point, key: &Point, message: Fr) -> Scalar {
    let hash = poseidon::hash(&[r.x, r.y, key.x, key.y, message]);
    Scalar::from_le_bytes_mod_order(&hash.into_bigint().to_bytes_le())
}

/// a of the curve.
pub(super) const A: Fr = MontFp!("168700");
/// d of the curve.
pub(super) const D: Fr = MontFp!("168696");
/// The coefficient of the Montgomery form v^2 = u^3 + 168698 u^2 + u: 2 (a + d) / (a - d).
pub(super) const MONTGOMERY_A: Fr = MontFp!("168698");

const BASE: Point = Point {
    x: MontFp!("5299619240641551281634865583518297030282874472190772894086521144482721001553"),
    y: MontFp!("16950150798460657717958625567821834550301663161624707787222815936182638968203"),
};
