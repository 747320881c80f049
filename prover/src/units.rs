//! Trusted state units: a state that an issuer vouches for, proven where its holder allows it.
//!
//! An issuer signs a [`Unit`]: sixteen numbers of one schema about one subject. The holder, who
//! alone knows the subject's secret, proves to a verifier that an unexpired, unrevoked unit of an
//! accepted issuer satisfies the verifier's [`Request`], and tells nothing else but a nullifier,
//! by which one holder's presentations in one scope can be counted and nothing can be followed
//! from one scope to another. The protocol, its threats and the exact encodings are in
//! `docs/state-units.md`.
//!
//! | file | subject |
//! |---|---|
//! | `poseidon` | the hash, with circomlib's parameters |
//! | `baby_jubjub` | the curve and the issuers' signatures |
//! | `tree` | Merkle trees: two children for issuers, eight for what we chose ourselves |
//! | `revocation` | the gaps between revoked units |
//! | `unit` | what an issuer signs |
//! | `request` | what a verifier asks |
//! | `grant` | to whom a holder allows how much, and the chain that counts it |
//! | `presentation` | from a unit and a request to all that the circuit is given |
//! | `opening` | that, as bytes |
//! | `system` | a builder of constraint systems that also fills in witnesses |
//! | `curve` | Baby Jubjub within the circuit |
//! | `circuit` | the statement |
//!
//! The circuit is written on a builder of its own and not on ark-r1cs-std: a sum costs nothing
//! here until it is multiplied, a witness is filled in by the same code without building a
//! matrix, and what comes out is an `.r1cs` file, from which keys are made and ceremonies held.

mod baby_jubjub;
mod circuit;
mod curve;
mod grant;
mod opening;
pub mod poseidon;
mod presentation;
mod request;
mod revocation;
mod system;
mod tree;
mod unit;

use ark_bn254::Fr;
use ark_ff::PrimeField;
use sha3::{Digest, Keccak256};

pub use baby_jubjub::{IssuerKey, IssuerSecret, Point, Scalar, ScalarConfig, Signature};
pub use circuit::{PUBLIC, WIRES, circuit, constraints_by_part, witness};
pub use grant::{Grant, domain_native, link, seed, tip};
pub use presentation::{Opening, Presentation, Statement};
pub use request::{Bounds, Request, ScopeName, ValueSet};
pub use revocation::{Gap, RevocationTree};
pub use tree::{AcceptedIssuer, IssuerPath, IssuerTree};
pub use unit::{HolderSecret, Unit, UnitContent, claim};

/// How many claims a unit has.
pub const CLAIMS: usize = 16;
/// How many bounds a request has.
pub const BOUNDS: usize = 4;
/// How many values the set of a request can have.
pub const SET_MAX: usize = 512;
/// How many issuers a tree of them has room for.
pub const ISSUERS_MAX: usize = 1 << 16;
/// How many units can be revoked at a time.
pub const REVOKED_MAX: usize = (1 << 21) - 1;
/// The largest revocation nonce; the smallest is 1.
pub const NONCE_MAX: u64 = (1 << 48) - 2;
/// The latest time that can be named: seconds of Unix time in 40 bits.
pub const TIME_MAX: u64 = (1 << 40) - 1;

/// A rule of state units that was broken: by whom is for the caller to say. No variant carries
/// a holder's secret or a claim's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// A claim that is not a plain decimal number of 64 bits.
    #[error("claim {index}: expected a decimal number below 2^64")]
    Claim {
        /// Which claim.
        index: usize,
    },
    /// A number that does not fit its place.
    #[error("{what}: expected {expected_min} to {expected_max}, got {got}")]
    Range {
        /// Which number.
        what: &'static str,
        /// The least.
        expected_min: u64,
        /// The greatest.
        expected_max: u64,
        /// The number.
        got: u64,
    },
    /// A field element that is not below the modulus.
    #[error("{0}: expected 32 bytes below the modulus of BN254's scalars")]
    Element(&'static str),
    /// A key that no issuer can have.
    #[error("issuer key: expected {0}")]
    IssuerKey(&'static str),
    /// A unit whose signature is not its issuer's.
    #[error("the unit's signature is not its issuer's")]
    Signature,
    /// An issuer that is not among the accepted ones.
    #[error("the unit's issuer is not among the accepted issuers")]
    Issuer,
    /// An issuer that is accepted for other schemas than its unit's.
    #[error("the unit's issuer is accepted, but not for units of this schema")]
    IssuerSchema,
    /// An issuer that is to be accepted twice: its units could be revoked at one place and
    /// presented at the other.
    #[error("issuer {second} is issuer {first} again, for the same schema")]
    IssuerTwice {
        /// Where it stands.
        first: usize,
        /// Where it was to stand too.
        second: usize,
    },
    /// A secret that does not open the unit's subject.
    #[error("the secret is not that of the unit's subject")]
    Subject,
    /// A unit of another schema than was asked for.
    #[error("the unit is of another schema than the request asks for")]
    Schema,
    /// A unit that ends too soon.
    #[error("the unit is valid until {got}, the request asks for {expected_min}")]
    Expired {
        /// Until when it must be valid.
        expected_min: u64,
        /// Until when it is.
        got: u64,
    },
    /// A revoked unit.
    #[error("the unit of nonce {nonce} by issuer {issuer} is revoked")]
    Revoked {
        /// The issuer's place in the tree of issuers.
        issuer: u16,
        /// The unit's nonce.
        nonce: u64,
    },
    /// Bounds that the claim is not within.
    #[error("bounds {slot}: the unit's claim {claim} is not within them")]
    Bounds {
        /// Which bounds of the request.
        slot: usize,
        /// Which claim.
        claim: u8,
    },
    /// A set that the claim is not in.
    #[error("the unit's claim {claim} is not in the request's set")]
    Set {
        /// Which claim.
        claim: u8,
    },
    /// Bounds that no number is within.
    #[error("bounds of claim {claim}: the least is {least}, the greatest {greatest}")]
    BoundsEmpty {
        /// Which claim.
        claim: u8,
        /// The least.
        least: u64,
        /// The greatest.
        greatest: u64,
    },
    /// A grant for another request.
    #[error("the grant is for another request")]
    GrantRequest,
    /// Public inputs that are not a statement of this circuit.
    #[error("expected 5 public inputs of BN254, got {got}")]
    Statement {
        /// How many there are.
        got: usize,
    },
    /// Bytes that are no opening.
    #[error("an opening: expected {expected} bytes that begin with calopen1, got {got}")]
    Opening {
        /// How long it is.
        expected: usize,
        /// How long they are.
        got: usize,
    },
    /// No randomness from the operating system.
    #[error("no randomness from the operating system")]
    Entropy,
}

/// The first 248 bits of the Keccak-256 hash of `bytes`, which always are a field element: how
/// everything that the EVM must compute as well gets into the circuit.
pub fn keccak_element(bytes: &[u8]) -> Fr {
    let digest = keccak(bytes);
    Fr::from_be_bytes_mod_order(&digest[..31])
}

pub(crate) fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// Refuses a number outside of its range.
fn within(
    what: &'static str,
    range: std::ops::RangeInclusive<u64>,
    got: u64,
) -> Result<(), UnitError> {
    if range.contains(&got) {
        return Ok(());
    }
    Err(UnitError::Range {
        what,
        expected_min: *range.start(),
        expected_max: *range.end(),
        got,
    })
}
