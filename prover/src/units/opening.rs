//! An opening as bytes: what a holder hands to whoever proves for them, and nobody else.
//!
//! ```text
//! "calopen1"  position u16  selectors u32  set_index u32  gap_index u32  s of the signature  elements
//! ```
//!
//! numbers little-endian, elements in the order of [`Opening`]'s fields, 32 bytes each, below the modulus; 4,566 bytes in
//! all. It is a hundredth of the witness that is made of it, so it fits where a witness does not, and who
//! gets it has no trees to build. Bytes that are read are taken for hostile: what the circuit would take for granted is
//! checked, and the rest is the circuit's to refuse.

use ark_bn254::Fr;
use ark_ff::PrimeField;
use zeroize::Zeroizing;

use super::baby_jubjub::{IssuerKey, Point, Scalar, Signature};
use super::presentation::{Opening, Statement};
use super::unit::{element, element_bytes};
use super::{BOUNDS, UnitError, within};

impl Opening {
    /// What an opening begins with.
    pub const MAGIC: [u8; 8] = *b"calopen1";
    /// How long it is.
    pub const BYTES: usize = HEAD + 32 * (1 + ELEMENTS);

    /// The bytes: as secret as the opening.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Opening::BYTES));
        bytes.extend_from_slice(&Opening::MAGIC);
        bytes.extend_from_slice(&self.position.to_le_bytes());
        for number in [self.selectors, self.set_index, self.gap_index] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for limb in self.signature.s.into_bigint().0 {
            bytes.extend_from_slice(&limb.to_le_bytes());
        }
        let mut copy = self.clone();
        copy.visit(&mut |element| bytes.extend_from_slice(&element_bytes(element)));
        assert_eq!(bytes.len(), Opening::BYTES);
        bytes
    }

    /// The opening that these bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Opening, UnitError> {
        let elements = parts(bytes)?;
        let number = |at: usize| {
            let bytes = bytes[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes)
        };
        let mut opening = Opening::blank();
        opening.position = u16::from_le_bytes([bytes[8], bytes[9]]);
        opening.selectors = number(10);
        opening.set_index = number(14);
        opening.gap_index = number(18);
        let selectors_max = (1 << (4 * (BOUNDS + 1))) - 1;
        within("selectors", 0..=selectors_max, opening.selectors.into())?;
        let s: &[u8; 32] = bytes[HEAD..HEAD + 32].try_into().expect("32 bytes");
        let mut limbs = <Scalar as PrimeField>::BigInt::default();
        for (limb, bytes) in limbs.0.iter_mut().zip(s.chunks_exact(8)) {
            *limb = u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
        }
        let s = Scalar::from_bigint(limbs).ok_or(UnitError::Element("s of the signature"))?;
        let mut values = elements.iter();
        let mut fault = Ok(());
        opening.visit(&mut |place| {
            let bytes = values.next().expect("the length was checked");
            match element("an element of the opening", bytes) {
                Ok(value) => *place = value,
                Err(error) => fault = Err(error),
            }
        });
        fault?;
        opening.signature.s = s;
        let Point { x, y } = opening.issuer;
        IssuerKey::new(x, y)?;
        if !opening.signature.r.is_on_curve() {
            return Err(UnitError::Signature);
        }
        Ok(opening)
    }

    /// The statement of an opening, without its secrets.
    pub fn statement_of(bytes: &[u8]) -> Result<Statement, UnitError> {
        let elements = parts(bytes)?;
        let value = |at: usize| element("a public value of the opening", &elements[at]);
        Ok(Statement {
            issuers_root: value(0)?,
            revocation_root: value(1)?,
            request: value(2)?,
            nullifier: value(3)?,
            grant: value(4)?,
        })
    }

    /// Every element, in the order of the bytes.
    pub(super) fn visit(&mut self, each: &mut dyn FnMut(&mut Fr)) {
        let Opening {
            statement,
            secret,
            blinding,
            scope,
            index,
            presentations,
            claims,
            selectors: _,
            bounds,
            set_root,
            set_index: _,
            set_families,
            schema,
            valid_through,
            valid_until,
            nonce,
            issuer,
            signature,
            position: _,
            siblings,
            gap_low,
            gap_next,
            gap_index: _,
            gap_families,
        } = self;
        let Statement {
            issuers_root,
            revocation_root,
            request,
            nullifier,
            grant,
        } = statement;
        let Signature { r, s: _ } = signature;
        for place in [issuers_root, revocation_root, request, nullifier, grant] {
            each(place);
        }
        for place in [secret, blinding, scope, index, presentations] {
            each(place);
        }
        claims.iter_mut().for_each(&mut *each);
        for (least, greatest) in bounds {
            each(least);
            each(greatest);
        }
        each(set_root);
        set_families.iter_mut().flatten().for_each(&mut *each);
        for place in [schema, valid_through, valid_until, nonce] {
            each(place);
        }
        for place in [&mut issuer.x, &mut issuer.y, &mut r.x, &mut r.y] {
            each(place);
        }
        siblings.iter_mut().for_each(&mut *each);
        each(gap_low);
        each(gap_next);
        gap_families.iter_mut().flatten().for_each(&mut *each);
    }
}

/// The elements' bytes, if it is an opening at all.
fn parts(bytes: &[u8]) -> Result<&[[u8; 32]], UnitError> {
    if bytes.len() != Opening::BYTES || !bytes.starts_with(&Opening::MAGIC) {
        return Err(UnitError::Opening {
            expected: Opening::BYTES,
            got: bytes.len(),
        });
    }
    Ok(bytes[HEAD + 32..].as_chunks().0)
}

/// Bytes before the scalar.
const HEAD: usize = 8 + 2 + 3 * 4;
/// Elements of an opening: statement, five more, claims, bounds, set, four more, two points, issuer, gap.
const ELEMENTS: usize = 5 + 5 + 16 + 2 * BOUNDS + 1 + 3 * 8 + 4 + 4 + 16 + 2 + 7 * 8;
