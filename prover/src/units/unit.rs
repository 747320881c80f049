//! What an issuer signs.
//!
//! ```text
//! subject  = H(tag "subject", secret, blinding)
//! claims   = H(claim 0, .., claim 15)
//! validity = nonce + 2^48 valid_until
//! message  = H(tag "unit", schema, subject, claims, validity)
//! ```
//!
//! The subject binds one secret: two that open it are a collision of Poseidon. The blinding is
//! another for each unit, so that issuers who compare their lists cannot tell which units are one
//! holder's. A claim is a number of 64 bits; what it means is said by the schema alone.

use std::fmt;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use zeroize::{Zeroize, Zeroizing};

use super::baby_jubjub::{IssuerKey, IssuerSecret, Signature};
use super::{CLAIMS, NONCE_MAX, TIME_MAX, UnitError, keccak_element, poseidon, within};

/// What only the holder knows: one for all of the holder's units. Overwritten when dropped, and
/// never shown.
pub struct HolderSecret(Fr);

impl HolderSecret {
    /// A new secret from the operating system.
    pub fn random() -> Result<HolderSecret, UnitError> {
        Ok(HolderSecret(random_element()?))
    }

    /// A secret that was kept, as 32 little-endian bytes.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<HolderSecret, UnitError> {
        element("the holder's secret", bytes).map(HolderSecret)
    }

    /// The secret, to be kept.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        let integer = Zeroizing::new(self.0.into_bigint());
        for (bytes, limb) in bytes.chunks_exact_mut(8).zip(integer.0) {
            bytes.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }

    /// The commitment that goes into a unit. `blinding` is kept with the unit.
    pub fn subject(&self, blinding: Fr) -> Fr {
        poseidon::hash(&[tag("subject"), self.0, blinding])
    }

    /// The value by which a presentation is counted.
    pub fn nullifier(&self, scope: Fr, index: u16) -> Fr {
        poseidon::hash(&[tag("nullifier"), self.0, scope, Fr::from(index)])
    }

    pub(super) fn element(&self) -> Fr {
        self.0
    }
}

impl Drop for HolderSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for HolderSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HolderSecret").finish_non_exhaustive()
    }
}

/// What a unit says, before anybody has signed it.
#[derive(Clone, PartialEq, Eq)]
pub struct UnitContent {
    /// What the claims mean: [`keccak_element`] of the schema's name.
    pub schema: Fr,
    /// Whom it is about: [`HolderSecret::subject`], which the holder computes.
    pub subject: Fr,
    /// The claims; those that the schema does not use are zero.
    pub claims: [u64; CLAIMS],
    /// The last second at which it is valid.
    pub valid_until: u64,
    /// Its number among the issuer's units, by which it can be revoked: from 1, never twice.
    pub nonce: u64,
}

/// A claim from a decimal number.
pub fn claim(index: usize, digits: &str) -> Result<u64, UnitError> {
    // A plus sign, which `parse` allows, would make two texts of one claim.
    match digits.parse() {
        Ok(value) if !digits.starts_with('+') => Ok(value),
        _ => Err(UnitError::Claim { index }),
    }
}

impl UnitContent {
    /// The field element that is signed.
    pub fn message(&self) -> Result<Fr, UnitError> {
        within("valid_until", 0..=TIME_MAX, self.valid_until)?;
        within("a revocation nonce", 1..=NONCE_MAX, self.nonce)?;
        let claims = poseidon::hash(&self.claims.map(Fr::from));
        let validity = Fr::from(u128::from(self.nonce) | u128::from(self.valid_until) << 48);
        Ok(poseidon::hash(&[
            tag("unit"),
            self.schema,
            self.subject,
            claims,
            validity,
        ]))
    }

    /// Signs it.
    pub fn issue(self, issuer: &IssuerSecret) -> Result<Unit, UnitError> {
        let signature = issuer.sign(self.message()?);
        Ok(Unit {
            content: self,
            issuer: issuer.key(),
            signature,
        })
    }
}

impl fmt::Debug for UnitContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnitContent").finish_non_exhaustive()
    }
}

/// A trusted state unit. Who has it and the subject's secret can present it; the claims are
/// nobody else's business, so its `Debug` does not show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// What it says.
    pub content: UnitContent,
    /// Who says it.
    pub issuer: IssuerKey,
    /// The issuer's signature.
    pub signature: Signature,
}

impl Unit {
    /// Whether the issuer has signed it: what a holder asks when it is handed over.
    pub fn check(&self) -> Result<(), UnitError> {
        let message = self.content.message()?;
        if self.issuer.verify(message, &self.signature) {
            Ok(())
        } else {
            Err(UnitError::Signature)
        }
    }
}

/// What keeps the hashes of one purpose apart from those of all others.
pub(super) fn tag(purpose: &str) -> Fr {
    keccak_element(format!("caldera state unit v1 {purpose}").as_bytes())
}

/// A uniform element: for secrets and blindings.
pub(super) fn random_element() -> Result<Fr, UnitError> {
    let mut wide = Zeroizing::new([0; 64]);
    getrandom::fill(&mut *wide).map_err(|_| UnitError::Entropy)?;
    Ok(Fr::from_le_bytes_mod_order(&*wide))
}

/// An element from 32 little-endian bytes.
pub(super) fn element(what: &'static str, bytes: &[u8; 32]) -> Result<Fr, UnitError> {
    let mut integer = <Fr as PrimeField>::BigInt::default();
    for (limb, bytes) in integer.0.iter_mut().zip(bytes.chunks_exact(8)) {
        *limb = u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
    }
    Fr::from_bigint(integer).ok_or(UnitError::Element(what))
}

/// 32 little-endian bytes from an element.
pub(super) fn element_bytes(element: &Fr) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (bytes, limb) in bytes.chunks_exact_mut(8).zip(element.into_bigint().0) {
        bytes.copy_from_slice(&limb.to_le_bytes());
    }
    bytes
}
