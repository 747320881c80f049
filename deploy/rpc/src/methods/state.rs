//! Parameters and results of the methods of state units (`docs/state-units.md`).
//!
//! Numbers of 32 bytes, and addresses and links of 20, are hexadecimal text, as Ethereum has them. Values of claims have
//! 64 bits, more than a JSON number keeps, so they are decimal text. Times are seconds of Unix time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Digest, IdempotencyKey, NameError, WitnessData, lower_hex};

/// A field element, a digest or another number of 32 bytes, the highest first; `0x` and 64 lower-case
/// hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Word(pub [u8; 32]);

/// Who takes part: an account on a chain; on a box, a tenant. `0x` and 40 lower-case hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub [u8; 20]);

/// A link of a grant's chain; `0x` and 40 lower-case hexadecimal digits on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Link(pub [u8; 20]);

/// Parameters of `state_issueV1`. For the operator, who is the registry's authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublishIssuers {
    /// Root of the tree of accepted issuers.
    pub issuers_root: Word,
}

/// Parameters of `state_revokeV1`: one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Revoke {
    /// Root of the tree of revoked units. For the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_root: Option<Word>,
    /// A request that its verifier, the calling tenant, takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Word>,
}

/// Parameters of `state_grantV1`: what the calling tenant asks holders for. The same again with another end
/// takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenRequest {
    /// What is asked.
    pub request: RequestTerms,
    /// The first second at which nothing more is taken for it, grants included.
    pub closes: u64,
}

/// What a verifier asks. Its verifier is whoever opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestTerms {
    /// Name of the schema of the unit.
    pub schema: String,
    /// Where presentations are counted.
    pub scope: ScopeTerms,
    /// The second at which the unit must be valid.
    pub valid_through: u64,
    /// How many presentations one holder may make in the scope.
    pub presentations: u16,
    /// What claims have to be within; four at most.
    pub bounds: Vec<BoundTerms>,
    /// What one claim has to be one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SetTerms>,
}

/// Where presentations are counted, beside the verifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScopeTerms {
    /// Name of the scenario.
    pub scenario: String,
    /// For what.
    pub purpose: String,
    /// The period after which presentations are counted afresh.
    pub epoch: u64,
}

/// What a claim has to be within, both ends included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BoundTerms {
    /// Name of the claim in the schema.
    pub claim: String,
    /// The least, in decimal; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least: Option<String>,
    /// The greatest, in decimal; 2^64 - 1 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greatest: Option<String>,
}

/// What a claim has to be one of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetTerms {
    /// Name of the claim in the schema.
    pub claim: String,
    /// 1 to 512 values, in decimal.
    pub values: Vec<String>,
}

/// What a holder allows; the domain of the registry belongs to it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GrantTerms {
    /// To whom the state is presented.
    pub verifier: Address,
    /// Who may bring the presentation and its uses.
    pub sender: Address,
    /// The request that it answers.
    pub request: Word,
    /// The end of the chain of uses.
    pub tip: Link,
    /// How often it may be used after the presentation.
    pub uses: u16,
    /// The first second at which it is not good any more.
    pub expiry: u64,
    /// What the verifier wants to see in it; zero if nothing.
    pub challenge: Word,
}

/// Parameters of `state_presentV1`: a job whose proof is a presentation. Either an opening or a witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Present {
    /// The digest of the proving key of presentations, which the tenant has registered.
    pub circuit: Digest,
    /// What the holder allows.
    pub grant: GrantTerms,
    /// What the holder opens to the box, from which the box computes the witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<WitnessData>,
    /// The digest of a witness that was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<Digest>,
    /// When the proof is needed, in milliseconds from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Sending the same submission again with the same key answers with the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Parameters of `state_verifyV1`: a presentation, to be verified and recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VerifyPresentation {
    /// The proof as snarkjs writes it.
    pub proof: Value,
    /// Its five public inputs as decimal strings, as snarkjs writes them.
    pub public_inputs: Vec<String>,
    /// What the fifth of them is the digest of.
    pub grant: GrantTerms,
}

/// Parameters of `state_reuseV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Reuse {
    /// The presentation: the digest of its grant.
    pub grant: Word,
    /// The link before the one that was revealed last.
    pub link: Link,
}

/// Parameters of `state_getV1`; with none it tells of the registry alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateQuery {
    /// A presentation of which the caller is verifier or sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Word>,
    /// A request of the calling tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Word>,
}

/// Where the registry stands: result of `state_issueV1`, `state_revokeV1`, `state_grantV1` and `state_getV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateInfo {
    /// What tells this registry from all others.
    pub domain: Word,
    /// The calling tenant's address; absent for the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// The newest root of issuers; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuers_root: Option<Word>,
    /// The newest root of revoked units; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocation_root: Option<Word>,
    /// For how many seconds a root is taken after it was replaced.
    pub window_seconds: u64,
    /// The request that was asked for, or opened, while it is not taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<RequestInfo>,
    /// The presentation that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presentation: Option<PresentationInfo>,
}

/// A request that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestInfo {
    /// Its digest.
    pub request: Word,
    /// The first second at which nothing more is taken for it.
    pub closes: u64,
}

/// A presentation that is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PresentationInfo {
    /// Its name: the digest of its grant.
    pub grant: Word,
    /// To whom it was made.
    pub verifier: Address,
    /// Who may use it.
    pub sender: Address,
    /// The request that it answers.
    pub request: Word,
    /// The link that was revealed last, or the tip.
    pub link: Link,
    /// Uses that are left.
    pub remaining: u16,
    /// The first second at which it is not good any more.
    pub expiry: u64,
}

macro_rules! hexadecimal {
    ($($name:ident $bytes:literal,)*) => {$(
        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<$name, NameError> {
                let digits = text.strip_prefix("0x").and_then(lower_hex::<$bytes>);
                digits.map($name).ok_or(NameError::Hexadecimal {
                    expected: 2 * $bytes,
                    got: text.chars().count(),
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<$name, NameError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "0x{}", hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{self}")
            }
        }
    )*};
}
hexadecimal!(Word 32, Address 20, Link 20,);
