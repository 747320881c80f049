//! Parameters and results of the ledger's methods, `era_...V1`.
//!
//! Amounts have up to 96 bits and are decimal digits in strings, for a JSON number ends at 2^53. Times are seconds of Unix
//! time, as the ledger counts them. Every command carries an id that its sender chose: sent again with
//! the same parameters it changes nothing and answers where its record is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::methods::{Address, Digest};

/// Units; decimal digits on the wire, without a sign or a zero before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Amount(pub u128);

/// A change of a balance; as an [`Amount`], with a minus before what is less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Change(pub i128);

/// Names a command, and what it makes; `0x` and 32 lower-case hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EraId(pub u128);

/// A node's public key (Ed25519, RFC 8032); 64 lower-case hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey(pub [u8; 32]);

/// Names a node, and its box in a fleet: the first 16 bytes of the SHA-256 of its public key; 32 lower-case hexadecimal digits
/// on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(pub u128);

/// A signature by a node's key; 128 lower-case hexadecimal digits on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signature(pub [u8; 64]);

/// A string that is not what its field holds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected {expected}, got other text of length {got}")]
pub struct FormError {
    /// What it should be.
    pub expected: &'static str,
    /// Characters that were there.
    pub got: usize,
}

/// What a party is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EraRole {
    /// Proves.
    Node,
    /// Has made a rollup.
    Developer,
    /// Asks for proofs, and pays.
    User,
}

/// Of what an amount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EraAsset {
    /// ERA.
    Era,
    /// Wei of the chain on which rollups settle.
    Gas,
}

macro_rules! parameters {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
        }
    )*};
}

parameters! {
    /// Parameters of `era_accountV1`.
    AccountQuery {
        /// Which; without it all that the caller may see.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party: Option<u32>,
    }
    /// Parameters of `era_statementV1`.
    StatementQuery {
        /// Whose.
        party: u32,
        /// From which record on; the first, without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u64>,
    }
    /// Parameters of `era_explainV1`.
    ExplainQuery {
        /// Whose payout.
        party: u32,
        /// Of which epoch.
        epoch: u32,
    }
    /// Parameters of `era_policyV1`: none.
    PolicyQuery {}
    /// Parameters of `era_epochV1`.
    EpochQuery {
        /// Only epochs before this one; the newest, without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<u32>,
    }
    /// Parameters of `era_retentionV1`: none.
    RetentionQuery {}
    /// Parameters of `era_claimV1`: payouts, or what a stake has earned, or an unbonding that is due.
    Claim {
        /// Names the command.
        id: EraId,
        /// For whom.
        party: u32,
        /// The last epoch of which payouts are claimed; all, without it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        up_to: Option<u32>,
        /// In place of payouts: what this stake has earned.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stake: Option<EraId>,
        /// In place of payouts: this unbonding.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unbonding: Option<EraId>,
    }
    /// Parameters of `era_stakeV1`: an amount, or a standing order.
    Stake {
        /// Names the command.
        id: EraId,
        /// For whom.
        party: u32,
        /// How much.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        amount: Option<Amount>,
        /// In place of an amount: whether a part of every claim is staked from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        standing: Option<bool>,
    }
    /// Parameters of `era_unstakeV1`.
    Unstake {
        /// Names the command.
        id: EraId,
        /// For whom.
        party: u32,
        /// Of which stake.
        stake: EraId,
        /// How much.
        amount: Amount,
    }
    /// Parameters of `era_offsetV1`.
    Offset {
        /// Names the command.
        id: EraId,
        /// Who sent the transaction, and pays in ERA.
        party: u32,
        /// So much ERA at most.
        era_max: Amount,
        /// The hash of the transaction whose receipt it is.
        receipt: Digest,
        /// What the receipt says.
        gas_used: u64,
        /// Wei for a unit of gas, as the receipt says.
        gas_price: Amount,
    }
    /// Parameters of `era_registerV1`.
    RegisterParty {
        /// Names the command.
        id: EraId,
        /// The tenant that it is; of a node none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// `user`: it pays for the tenant's jobs. `developer`: it has made the rollup that asks for them. `node`: a box that proves for
        /// tenants of this one.
        role: EraRole,
        /// The public key of a node; of nobody else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<PublicKey>,
        /// Who is behind it. Owners have numbers that the operator gives.
        owner: u32,
        /// Whether it is known who the owner is; without it that stays as it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        verified: Option<bool>,
        /// Where it is paid on the chain.
        address: Address,
    }
    /// Parameters of `era_verifyV1`.
    VerifyOwner {
        /// Names the command.
        id: EraId,
        /// Which.
        owner: u32,
        /// Whether it is known who that is.
        verified: bool,
    }
    /// Parameters of `era_transferV1`.
    Transfer {
        /// Names the command.
        id: EraId,
        /// 1 to 16, one after the other, all or none.
        legs: Vec<EraLeg>,
    }
    /// Parameters of `era_adoptV1`.
    Adopt {
        /// Names the command.
        id: EraId,
        /// From which epoch on.
        epoch: u32,
        /// The text of the policy, in TOML.
        policy: String,
    }
    /// Parameters of `era_clawBackV1`.
    ClawBack {
        /// Names the command.
        id: EraId,
        /// Whose payout is taken back.
        party: u32,
        /// Of which epoch.
        epoch: u32,
        /// The node of the event that has earned it and should not have.
        node: u32,
        /// That node's number of the event.
        sequence: u64,
        /// Why, in words: 1 to 1,024 bytes. The record has their digest.
        reason: String,
    }
    /// Parameters of `era_closeV1`.
    CloseEpoch {
        /// Which.
        epoch: u32,
    }
    /// Parameters of `era_settleV1`.
    Settle {
        /// Names the command.
        id: EraId,
        /// Which.
        epoch: u32,
    }
}

/// One leg of a transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EraLeg {
    /// Of what.
    pub asset: EraAsset,
    /// From where: `outside`, `treasury`, `gasFloat`, or the number of a party.
    pub from: String,
    /// To where: one of those, `stakingPool`, `storageFund` or `budget`.
    pub to: String,
    /// How much.
    pub amount: Amount,
}

macro_rules! results {
    ($($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
        }
    )*};
}

results! {
    /// Where a command's record is, and what came of it.
    EraReceipt {
        /// The number of the record.
        record: u64,
        /// Whether it had been there before.
        repeated: bool,
        /// What was moved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        moved: Option<Amount>,
        /// What of that was staked by a standing order.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        staked: Option<Amount>,
        /// ERA that was charged for gas.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        charged: Option<Amount>,
        /// Wei that were reimbursed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reimbursed: Option<Amount>,
        /// The party that was registered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        party: Option<u32>,
        /// The root of what was closed or settled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<Digest>,
        /// What stands in the record of a claw-back: SHA-256 of `caldera claw back`, the node (4 bytes), the event's number (8)
        /// and the reason.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Digest>,
    }
    /// A party.
    EraAccount {
        /// Its number.
        party: u32,
        /// The tenant that it is; none is the box's own node.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tenant: Option<String>,
        /// What it is.
        role: EraRole,
        /// Who is behind it.
        owner: u32,
        /// Whether it is known who that is.
        verified: bool,
        /// Where it is paid on the chain.
        address: Address,
        /// Whether a part of every claim is staked.
        standing: bool,
        /// ERA that it can use.
        free: Amount,
        /// ERA that is set aside for jobs.
        held: Amount,
        /// ERA in stakes.
        staked: Amount,
        /// ERA of stakes that have ended and are not due.
        unbonding: Amount,
        /// ERA paid by epochs and not claimed.
        payable: Amount,
        /// Wei.
        gas: Amount,
        /// What `payable` is made of.
        payouts: Vec<EraPayout>,
        /// What `staked` is made of.
        stakes: Vec<EraStake>,
        /// What `unbonding` is made of.
        unbondings: Vec<EraUnbonding>,
    }
    /// What an epoch pays a party.
    EraPayout {
        /// Which epoch.
        epoch: u32,
        /// How much.
        amount: Amount,
        /// From when on it can be claimed.
        matures_at: u64,
    }
    /// A stake.
    EraStake {
        /// Its id.
        id: EraId,
        /// How much.
        amount: Amount,
        /// What it has earned and not given.
        earned: Amount,
        /// It cannot end before.
        locked_until: u64,
    }
    /// A stake, or a part of one, that has ended.
    EraUnbonding {
        /// Its id.
        id: EraId,
        /// How much.
        amount: Amount,
        /// When it is free.
        due_at: u64,
    }
    /// What happened to a party.
    EraStatement {
        /// Whose.
        party: u32,
        /// What changed.
        lines: Vec<EraLine>,
        /// From which record on there is more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<u64>,
    }
    /// A change of one balance.
    EraLine {
        /// The record.
        record: u64,
        /// Its time.
        at: u64,
        /// What was asked.
        what: String,
        /// `free`, `held`, `staked`, `unbonding`, `payable` or `gas`.
        purse: String,
        /// What it changed by.
        change: Change,
        /// What it is afterwards.
        balance: Change,
    }
    /// Why a payout is what it is.
    EraExplanation {
        /// Whose.
        party: u32,
        /// Of which epoch.
        epoch: u32,
        /// By which policy.
        policy: Digest,
        /// What it is in all.
        amount: Amount,
        /// Nodes, developers, users, storage.
        streams: Vec<EraStream>,
        /// The events that it came from.
        events: Vec<EraEvent>,
        /// The record that closed the epoch.
        closed_by: u64,
        /// The root over all payouts that stands in it.
        root: Digest,
        /// The payout's place among them; none is nothing paid.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        index: Option<u32>,
        /// The path that leads from the payout to the root, from the bottom up.
        path: Vec<Digest>,
    }
    /// One of the four things that an epoch pays for: a party gets `paid * weight / weights`, to one unit.
    EraStream {
        /// `nodes`, `developers`, `users` or `storage`.
        stream: String,
        /// What there was for it.
        budget: Amount,
        /// What it paid.
        paid: Amount,
        /// The sum of all weights.
        weights: Amount,
        /// The party's weight: `work * factor`.
        weight: Amount,
        /// What it did in the epoch, times the coefficients of classes.
        work: Amount,
        /// Of nodes by their success, of developers by their tier, in basis points; of others 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        factor: Option<u32>,
        /// Proofs and reuses of the nodes of its owner, in the two windows that count.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        successes: Option<u64>,
        /// Failures that were theirs, in the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failures: Option<u64>,
        /// Of a developer, the different scenarios of verified owners in the last month.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scenarios: Option<u32>,
        /// What the party got.
        amount: Amount,
    }
    /// Something that a node did.
    EraEvent {
        /// The record.
        record: u64,
        /// Who.
        node: u32,
        /// Its own number of the event.
        sequence: u64,
        /// When, by its own clock.
        observed_at: u64,
        /// `proof`, `reuse`, `release` or `failure`.
        what: String,
        /// What the job cost.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fee: Option<Amount>,
        /// The class of the job.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<String>,
    }
    /// What is paid for what.
    EraPolicy {
        /// The open epoch.
        epoch: u32,
        /// The policy's name.
        hash: Digest,
        /// Its figures, as in deploy/era.toml.
        policy: Value,
    }
    /// How epochs went.
    EraEpochs {
        /// The open one.
        open: u32,
        /// When it can be closed.
        closes_at: u64,
        /// Fees in it so far.
        fees: Amount,
        /// What there is for rewards besides.
        budget: Amount,
        /// Those that were closed, the newest last: 64 at most.
        closed: Vec<EraEpoch>,
    }
    /// A closed epoch.
    EraEpoch {
        /// Which.
        epoch: u32,
        /// When it was closed.
        at: u64,
        /// By which policy.
        policy: Digest,
        /// Its first record.
        first: u64,
        /// The record of the close.
        last: u64,
        /// The root over all payouts.
        root: Digest,
        /// How many there are.
        payouts: u32,
        /// Fees that were divided.
        fees: Amount,
        /// Units that were issued.
        issued: Amount,
        /// The budget before payouts.
        budget: Amount,
        /// Paid to nodes.
        nodes: Amount,
        /// Paid to developers.
        developers: Amount,
        /// Paid to users.
        users: Amount,
        /// Left by the division.
        dust: Amount,
        /// The budget after payouts.
        carried: Amount,
        /// Paid for storage.
        storage: Amount,
        /// Earned by stakes.
        staking: Amount,
        /// What the pool could not pay to stakes.
        shortfall: Amount,
        /// The hash of the state after it.
        state: Digest,
    }
    /// Who comes back.
    EraRetention {
        /// The month of the newest record, which is not over.
        month: u32,
        /// What is counted, cohort by cohort.
        groups: Vec<EraKept>,
    }
    /// Of those who were active in a month, how many are in the next.
    EraKept {
        /// The month of their first activity.
        cohort: u32,
        /// The month.
        month: u32,
        /// Whether they had claimed something in it.
        rewarded: bool,
        /// How many were active: n.
        active: u64,
        /// How many of them were active in the next, too.
        kept: u64,
        /// The rate's interval of 95 %, from.
        low: f64,
        /// To.
        high: f64,
    }
}

impl EraStatement {
    /// As comma-separated values, with a line of names. No value has a comma in it.
    pub fn csv(&self) -> String {
        let mut out = "record,at,what,purse,change,balance\n".to_owned();
        for line in &self.lines {
            let EraLine {
                record,
                at,
                what,
                purse,
                change,
                balance,
            } = line;
            out += &format!("{record},{at},{what},{purse},{change},{balance}\n");
        }
        out
    }
}

macro_rules! strings {
    ($($name:ident $expected:literal $parse:expr, $write:expr;)*) => {$(
        impl FromStr for $name {
            type Err = FormError;

            fn from_str(text: &str) -> Result<$name, FormError> {
                let parse: fn(&str) -> Option<$name> = $parse;
                // One value has one spelling.
                parse(text).filter(|value| value.to_string() == text).ok_or(FormError {
                    expected: $expected,
                    got: text.chars().count(),
                })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                let write: fn(&$name, &mut fmt::Formatter<'_>) -> fmt::Result = $write;
                write(self, out)
            }
        }

        impl TryFrom<String> for $name {
            type Error = FormError;

            fn try_from(text: String) -> Result<$name, FormError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        }
    )*};
}

strings! {
    Amount "a whole number of units in a string" |text| text.parse().ok().map(Amount),
        |value, out| write!(out, "{}", value.0);
    Change "a whole number of units in a string" |text| text.parse().ok().map(Change),
        |value, out| write!(out, "{}", value.0);
    EraId "0x and 32 lower-case hexadecimal digits"
        |text| u128::from_str_radix(text.strip_prefix("0x")?, 16).ok().map(EraId),
        |value, out| write!(out, "{:#034x}", value.0);
    PublicKey "64 lower-case hexadecimal digits"
        |text| bytes(text).map(PublicKey),
        |value, out| out.write_str(&hex::encode(value.0));
    NodeName "32 lower-case hexadecimal digits"
        |text| bytes(text).map(u128::from_be_bytes).map(NodeName),
        |value, out| write!(out, "{:032x}", value.0);
    Signature "128 lower-case hexadecimal digits"
        |text| bytes(text).map(Signature),
        |value, out| out.write_str(&hex::encode(value.0));
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl PublicKey {
    /// How its node is named.
    pub fn name(&self) -> NodeName {
        let [hash @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _]: [u8; 32] =
            Sha256::digest(self.0).into();
        NodeName(u128::from_be_bytes(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_spelling() {
        let id = format!("0x{}", "0a".repeat(16));
        assert_eq!(id.parse::<EraId>().unwrap().to_string(), id);
        assert_eq!("-5".parse(), Ok(Change(-5)));
        assert_eq!(u128::MAX.to_string().parse(), Ok(Amount(u128::MAX)));
        for bad in ["", "05", "+5", "-5", "5 ", "1_000", "1e3", "5.0"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad:?}");
        }
        let upper = format!("0x{}", "0A".repeat(16));
        for bad in ["0x1", &id[2..], &upper, &(id.clone() + "0")] {
            assert!(bad.parse::<EraId>().is_err(), "{bad:?}");
        }
        let key = "0a".repeat(32);
        assert_eq!(key.parse::<PublicKey>().unwrap().to_string(), key);
        for bad in [&key[1..], &key[2..], &key.to_uppercase()] {
            assert!(bad.parse::<PublicKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_node_is_named_by_the_first_half_of_a_hash() {
        // NIST's example of SHA-256 of nothing is of no key; this one is coreutils' sha256sum of 32 zeros.
        let name = PublicKey([0; 32]).name().to_string();
        assert_eq!(name, "66687aadf862bd776c8fc18b8e9f8e20");
    }
}
