//! The files in which parties keep and hand over what stays at home: units, lists, grants.

use std::collections::BTreeMap;

use ark_ff::{BigInt, BigInteger, PrimeField};
use caldera_prover::units::{
    AcceptedIssuer, CLAIMS, IssuerKey, IssuerTree, Point, RevocationTree, Scalar, Signature, Unit,
    UnitContent, claim, keccak_element,
};
use caldera_rpc::methods::{GrantTerms, Word};
use serde::{Deserialize, Serialize};

use crate::{Schema, Schemas, TermsError, element, word};

/// A point of Baby Jubjub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointFile {
    /// The first coordinate.
    pub x: Word,
    /// The second coordinate.
    pub y: Word,
}

/// An issuer in the list of those that are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerFile {
    /// The first coordinate of its key.
    pub x: Word,
    /// The second coordinate.
    pub y: Word,
    /// Name of the schema that it is believed for: one that vouches for several stands in the list with each.
    pub schema: String,
}

/// An issuer's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignatureFile {
    /// The commitment.
    pub r: PointFile,
    /// The response.
    pub s: Word,
}

/// A unit: for its holder alone, for its claims are nobody else's business.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnitFile {
    /// Name of the schema.
    pub schema: String,
    /// What the holder has computed.
    pub subject: Word,
    /// Values by the names of the claims, in decimal; 0 where there is none.
    pub claims: BTreeMap<String, String>,
    /// The last second at which it is valid.
    pub valid_until: u64,
    /// Its number at the issuer.
    pub nonce: u64,
    /// Who vouches.
    pub issuer: PointFile,
    /// The issuer's signature.
    pub signature: SignatureFile,
}

/// A unit that is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedFile {
    /// The place of its issuer in the list of issuers.
    pub issuer: u16,
    /// Its number at the issuer.
    pub nonce: u64,
}

/// What a holder has granted, and what the holder needs to consent to each use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantFile {
    /// The registry that counts.
    pub domain: Word,
    /// What is allowed; this alone goes to the sender.
    pub grant: GrantTerms,
    /// From which, with the holder's secret, the chain comes.
    pub salt: Word,
    /// The number of the presentation in its scope that it is granted for, from 0.
    pub index: u16,
}

impl PointFile {
    /// A point as a file has it.
    pub fn new(point: &Point) -> PointFile {
        PointFile {
            x: word(&point.x),
            y: word(&point.y),
        }
    }

    /// The issuer's key at this point.
    pub fn issuer(&self) -> Result<IssuerKey, TermsError> {
        let (x, y) = (element("x", &self.x)?, element("y", &self.y)?);
        Ok(IssuerKey::new(x, y)?)
    }
}

/// The values of claims by their places.
pub fn claims(
    schema: &Schema,
    named: &BTreeMap<String, String>,
) -> Result<[u64; CLAIMS], TermsError> {
    let mut claims = [0; CLAIMS];
    for (name, value) in named {
        let at = usize::from(schema.claim(name)?);
        claims[at] = claim(at, value)?;
    }
    Ok(claims)
}

impl UnitFile {
    /// A unit as a file has it.
    pub fn new(unit: &Unit, schema: &Schema) -> UnitFile {
        let content = &unit.content;
        let named = schema.claims.iter().zip(content.claims);
        let named = named.map(|(claim, value)| (claim.name.clone(), value.to_string()));
        let mut s = Word([0; 32]);
        s.0.copy_from_slice(&unit.signature.s.into_bigint().to_bytes_be());
        UnitFile {
            schema: schema.schema.clone(),
            subject: word(&content.subject),
            claims: named.collect(),
            valid_until: content.valid_until,
            nonce: content.nonce,
            issuer: PointFile::new(&unit.issuer.point()),
            signature: SignatureFile {
                r: PointFile::new(&unit.signature.r),
                s,
            },
        }
    }

    /// The unit, whose signature is not looked at.
    pub fn unit(&self, schemas: &Schemas) -> Result<Unit, TermsError> {
        let schema = schemas.find(&self.schema)?;
        let SignatureFile { r, s } = self.signature;
        let mut limbs = [0; 4];
        for (limb, bytes) in limbs.iter_mut().zip(s.0.rchunks_exact(8)) {
            *limb = bytes
                .iter()
                .fold(0, |limb, byte| limb << 8 | u64::from(*byte));
        }
        let (what, got) = ("s of the signature", s);
        Ok(Unit {
            content: UnitContent {
                schema: schema.element(),
                subject: element("subject", &self.subject)?,
                claims: claims(schema, &self.claims)?,
                valid_until: self.valid_until,
                nonce: self.nonce,
            },
            issuer: self.issuer.issuer()?,
            signature: Signature {
                r: Point {
                    x: element("x of the signature", &r.x)?,
                    y: element("y of the signature", &r.y)?,
                },
                s: Scalar::from_bigint(BigInt::new(limbs))
                    .ok_or(TermsError::Element { what, got })?,
            },
        })
    }
}

/// The tree of a list of accepted issuers. Their schemas are names here, known to this box or not.
pub fn issuer_tree(list: &[IssuerFile]) -> Result<IssuerTree, TermsError> {
    let accepted = list.iter().map(|it| {
        let (x, y) = (it.x, it.y);
        Ok(AcceptedIssuer {
            key: PointFile { x, y }.issuer()?,
            schema: keccak_element(it.schema.as_bytes()),
        })
    });
    Ok(IssuerTree::new(
        &accepted.collect::<Result<Vec<_>, TermsError>>()?,
    )?)
}

/// The tree of a list of revoked units.
pub fn revocation_tree(list: &[RevokedFile]) -> Result<RevocationTree, TermsError> {
    let names: Vec<_> = list.iter().map(|it| (it.issuer, it.nonce)).collect();
    Ok(RevocationTree::new(&names)?)
}
