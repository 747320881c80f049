//! State units at the edge: from the names and texts in which a box and its callers speak to the numbers of
//! `caldera_prover::units` and the words of `caldera_scheduler::registry`.
//!
//! The prover knows no names and the registry no requests; the command line and the node need both, and must
//! compute the same, or a grant that was given at home is another one on the box. So it is done here once.
//!
//! **A party** on a box is a tenant: its address is the last 20 bytes of the Keccak-256 hash of
//! `caldera tenant v1 NAME`, so a holder can name one without asking the box.
//!
//! **Files** ([`UnitFile`] and others) are what stays at home: only [`GrantTerms`] and openings leave it.
//!
//! **Schemas** ([`Schemas`]) say which claim is which. A box knows those of `docs/schemas`, and further ones from a folder
//! that its operator names.

#![forbid(unsafe_code)]

mod file;
mod schema;

use ark_bn254::Fr;
use ark_ff::{BigInt, BigInteger, PrimeField};
use caldera_prover::units::{self, Bounds, UnitError, ValueSet, claim};
use caldera_rpc::error::{RpcError, StateRule};
use caldera_rpc::methods::{Address, GrantTerms, RequestTerms, Word};
use caldera_scheduler::registry;
use thiserror::Error;

pub use file::{
    GrantFile, IssuerFile, PointFile, RevokedFile, SignatureFile, UnitFile, claims, issuer_tree,
    revocation_tree,
};
pub use schema::{Claim, Schema, SchemaError, Schemas};

/// Why terms are none.
#[derive(Debug, Error)]
pub enum TermsError {
    /// Nobody has said what the claims of this schema are.
    #[error("schema {got:?}: expected one of {expected}")]
    Schema {
        /// Those that are known.
        expected: String,
        /// The one that was named.
        got: String,
    },
    /// The schema has no claim of that name.
    #[error("schema {schema}: expected a claim of {expected}, got {got:?}")]
    Claim {
        /// Which schema.
        schema: String,
        /// Its claims.
        expected: String,
        /// The name.
        got: String,
    },
    /// More bounds than a request has.
    #[error("bounds: expected at most {max}, got {got}")]
    Bounds {
        /// So many it has.
        max: usize,
        /// So many there are.
        got: usize,
    },
    /// A number that is not below the modulus.
    #[error("{what}: expected a number below the modulus of BN254's scalars, got {got}")]
    Element {
        /// Which number.
        what: &'static str,
        /// The number.
        got: Word,
    },
    /// Something that the protocol does not allow.
    #[error(transparent)]
    Unit(#[from] UnitError),
}

impl TermsError {
    /// The rule that is broken.
    pub fn rule(&self) -> StateRule {
        match self {
            TermsError::Schema { .. } => StateRule::SchemaUnknown,
            TermsError::Claim { .. } => StateRule::ClaimUnknown,
            TermsError::Unit(UnitError::Claim { .. }) => StateRule::ClaimRange,
            _ => StateRule::RequestTerms,
        }
    }
}

impl From<TermsError> for RpcError {
    fn from(error: TermsError) -> RpcError {
        RpcError::StateRefused {
            rule: error.rule(),
            detail: error.to_string(),
        }
    }
}

/// The address of a tenant.
pub fn address(tenant: &str) -> Address {
    let hash = units::ScopeName::part(&format!("caldera tenant v1 {tenant}"));
    let mut address = Address([0; 20]);
    address.0.copy_from_slice(&hash[12..]);
    address
}

/// The request that terms describe, of this verifier.
pub fn request(
    terms: &RequestTerms,
    verifier: &Address,
    schemas: &Schemas,
) -> Result<units::Request, TermsError> {
    let schema = schemas.find(&terms.schema)?;
    if terms.bounds.len() > units::BOUNDS {
        return Err(TermsError::Bounds {
            max: units::BOUNDS,
            got: terms.bounds.len(),
        });
    }
    let mut bounds = [Bounds::OPEN; units::BOUNDS];
    for (bound, terms) in bounds.iter_mut().zip(&terms.bounds) {
        let index = schema.claim(&terms.claim)?;
        let value = |text: &Option<String>, open| match text {
            Some(text) => claim(index.into(), text),
            None => Ok(open),
        };
        *bound = Bounds::between(
            index,
            value(&terms.least, 0)?,
            value(&terms.greatest, u64::MAX)?,
        );
    }
    let set = match &terms.set {
        None => None,
        Some(terms) => {
            let index = schema.claim(&terms.claim)?;
            let values = terms.values.iter().map(|text| claim(index.into(), text));
            let values = values.collect::<Result<Vec<u64>, _>>()?;
            Some(ValueSet::new(index, &values)?)
        }
    };
    let mut party = [0; 32];
    party[12..].copy_from_slice(&verifier.0);
    Ok(units::Request {
        schema: schema.element(),
        scope: units::ScopeName {
            scenario: units::ScopeName::part(&terms.scope.scenario),
            verifier: party,
            purpose: units::ScopeName::part(&terms.scope.purpose),
            epoch: terms.scope.epoch,
        }
        .element(),
        valid_through: terms.valid_through,
        presentations: terms.presentations,
        bounds,
        set,
    })
}

/// A grant as the prover has it.
pub fn grant(terms: &GrantTerms, domain: &Word) -> Result<units::Grant, TermsError> {
    Ok(units::Grant {
        domain: domain.0,
        verifier: terms.verifier.0,
        sender: terms.sender.0,
        request: element("request", &terms.request)?,
        tip: terms.tip.0,
        uses: terms.uses,
        expiry: terms.expiry,
        challenge: terms.challenge.0,
    })
}

/// A grant as the registry has it.
pub fn registry_grant(terms: &GrantTerms) -> registry::Grant {
    registry::Grant {
        verifier: party(&terms.verifier),
        sender: party(&terms.sender),
        request: registry::Word(terms.request.0),
        tip: registry::Link(terms.tip.0),
        uses: terms.uses,
        expiry: registry::Seconds(terms.expiry),
        challenge: registry::Word(terms.challenge.0),
    }
}

/// A party as the registry has it.
pub fn party(address: &Address) -> registry::Word {
    registry::Word::right(&address.0)
}

/// A field element from a number.
pub fn element(what: &'static str, word: &Word) -> Result<Fr, TermsError> {
    let mut limbs = [0; 4];
    for (limb, bytes) in limbs.iter_mut().zip(word.0.rchunks_exact(8)) {
        *limb = bytes
            .iter()
            .fold(0, |limb, byte| limb << 8 | u64::from(*byte));
    }
    let got = *word;
    Fr::from_bigint(BigInt::new(limbs)).ok_or(TermsError::Element { what, got })
}

/// A field element as a number.
pub fn word(element: &Fr) -> Word {
    let mut word = Word([0; 32]);
    word.0.copy_from_slice(&element.into_bigint().to_bytes_be());
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_words_are_the_same_numbers() {
        let element_of = |text: &str| element("test", &text.parse().unwrap());
        let small = format!("0x{:064x}", 0x0102_0304_0506_0708_090a_u128);
        let element = element_of(&small).unwrap();
        assert_eq!(element, Fr::from(0x0102_0304_0506_0708_090a_u128));
        assert_eq!(word(&element).to_string(), small);
        let r = "0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
        assert!(matches!(element_of(r), Err(TermsError::Element { .. })));
        let last = "0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000000";
        assert_eq!(word(&element_of(last).unwrap()).to_string(), last);
    }

    #[test]
    fn no_two_tenants_have_one_address() {
        assert_ne!(address("rollup-a"), address("rollup-b"));
        assert_eq!(address("rollup-a"), address("rollup-a"));
    }
}
