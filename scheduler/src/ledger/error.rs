//! Why the ledger refuses something. Whatever it refuses, nothing has changed.

use thiserror::Error;

use super::command::{Account, Asset, ClassId, EpochNumber, Hash, Id, Party};

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("the ledger has no policy yet")]
    NotOpen,
    #[error("the ledger is open already")]
    AlreadyOpen,
    #[error("{account:?} has {got} of {asset:?}, expected {needed}")]
    Insufficient {
        account: Account,
        asset: Asset,
        needed: u128,
        got: u128,
    },
    #[error("id {id:#034x} was used for something else, in record {sequence}")]
    Conflict { id: Id, sequence: u64 },
    #[error("party {party} is registered already")]
    PartyExists { party: Party },
    #[error("receipt {} was reimbursed already", hex(receipt))]
    ReceiptUsed { receipt: Hash },
    #[error("epoch {got} is closed or open, expected a later one than {open}")]
    ClosedEpoch { got: EpochNumber, open: EpochNumber },
    #[error("epoch {epoch} is not over before {until}, it is {now}")]
    EpochNotOver {
        epoch: EpochNumber,
        until: u64,
        now: u64,
    },
    #[error("locked until {until}, it is {now}")]
    Locked { until: u64, now: u64 },
    #[error("matured at {since}, it is {now}")]
    Matured { since: u64, now: u64 },
    #[error("expires at {expires}, it is {now}")]
    Expired { expires: u64, now: u64 },
    #[error("there is no party {party}")]
    UnknownParty { party: Party },
    #[error("there is no class {class} in the policy")]
    UnknownClass { class: ClassId },
    #[error("there is no {what} {id:#034x}")]
    Unknown { what: &'static str, id: Id },
    #[error("{what} {id:#034x} is resolved already")]
    Resolved { what: &'static str, id: Id },
    #[error("party {party} is no {expected}")]
    Role {
        party: Party,
        expected: &'static str,
    },
    #[error("a node has a key that is not zero, and nobody else has one")]
    Key,
    #[error("the signature is not party {node}'s")]
    Signature { node: Party },
    #[error("nothing moves {asset:?} from {from:?} to {to:?}")]
    Forbidden {
        asset: Asset,
        from: Account,
        to: Account,
    },
    #[error("an amount of zero")]
    Zero,
    #[error("{what}: expected {expected} at most, got {got}")]
    Limit {
        what: &'static str,
        expected: u128,
        got: u128,
    },
    #[error("{what} is more than can be counted")]
    Overflow { what: &'static str },
    #[error("the staking pool has {got}, expected {needed}")]
    PoolUnfunded { needed: u128, got: u128 },
    #[error("nothing is due")]
    NothingDue,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
