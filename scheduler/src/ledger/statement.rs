//! What happened to one party, line by line, and why a payout is what it is.
//!
//! Both are read from the journal alone, by executing it again, so that what they say is what
//! anybody else finds who has the records.

use serde::{Serialize, Serializer};
use thiserror::Error;

use super::command::{Account, Asset, Command, EpochNumber, Event, Hash, Outcome, Party};
use super::epoch::Stream;
use super::journal::{Audit, Bad, Fault, next, parts};
use super::merkle::{self, Leaf};
use super::{Ledger, Signatures};

/// A change of one of a party's balances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// The record.
    pub record: u64,
    /// Its time.
    pub at: u64,
    /// What was asked.
    pub what: &'static str,
    /// `free`, `held`, `staked`, `unbonding`, `payable` or `gas`.
    pub purse: &'static str,
    /// What it changed by.
    #[serde(serialize_with = "text")]
    pub change: i128,
    /// What it is afterwards.
    #[serde(serialize_with = "text")]
    pub balance: i128,
}

/// All of them, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Statement {
    /// Whose.
    pub party: Party,
    /// What changed.
    pub lines: Vec<Line>,
}

/// Why a payout is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The epoch.
    pub epoch: EpochNumber,
    /// Its policy.
    pub policy: Hash,
    /// Nodes, developers, users, storage, with this party's portion alone.
    pub streams: [Stream; 4],
    /// What the party is paid in all.
    pub amount: u128,
    /// The events of the epoch that name the party or a hold of its, each with its record.
    pub events: Vec<(u64, Event)>,
    /// The record that closed the epoch.
    pub closed_by: u64,
    /// The root over all payouts that stands in it.
    pub root: Hash,
    /// The payout as a leaf, and the path from it to the root; none if there is no payout.
    pub leaf: Option<(Leaf, Vec<Hash>)>,
}

/// What of an epoch is to be claimed on the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The record that settled it.
    pub record: u64,
    /// The root over all leaves.
    pub root: Hash,
    /// Their sum.
    pub total: u128,
    /// Who can claim what.
    pub leaves: Vec<Leaf>,
}

/// Why there is no explanation.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unexplained {
    /// The journal is wrong.
    #[error(transparent)]
    Bad(#[from] Bad),
    /// Nothing of the epoch was settled in this journal.
    #[error("epoch {epoch} is not settled in this journal")]
    NotSettled {
        /// Which.
        epoch: EpochNumber,
    },
    /// The epoch is not closed in this journal.
    #[error("epoch {epoch} is not closed in this journal")]
    NotClosed {
        /// Which.
        epoch: EpochNumber,
    },
}

impl Statement {
    /// Reads a journal.
    pub fn of(journal: &[u8], party: Party) -> Result<Statement, Bad> {
        let mut audit = Audit::new(Signatures::Checked);
        let mut lines = Vec::new();
        let (mut rest, mut before) = (journal, [0; 6]);
        while !rest.is_empty() {
            let bytes = take(&audit, journal, rest)?;
            let record = audit.take(bytes)?;
            let after = purses(audit.ledger(), party);
            for (at, purse) in PURSES.iter().enumerate() {
                if after[at] != before[at] {
                    lines.push(Line {
                        record: record.sequence,
                        at: record.at,
                        what: name(&record.command),
                        purse,
                        change: after[at] - before[at],
                        balance: after[at],
                    });
                }
            }
            before = after;
            rest = &rest[bytes.len()..];
        }
        Ok(Statement { party, lines })
    }
}

/// Explains what an epoch pays a party.
pub fn explain(
    journal: &[u8],
    epoch: EpochNumber,
    party: Party,
) -> Result<Explanation, Unexplained> {
    let mut audit = Audit::new(Signatures::Checked);
    let (mut rest, mut events) = (journal, Vec::new());
    while !rest.is_empty() {
        let bytes = take(&audit, journal, rest)?;
        let found = parts(bytes).map_err(|fault| place(&audit, journal, rest, fault))?;
        let ledger = audit.ledger();
        let open = ledger.epoch().map(|(open, _)| open);
        let mut streams = None;
        match found.command {
            Command::Meter { event, .. }
                if open == Ok(epoch) && concerns(ledger, &event, party) =>
            {
                events.push((found.sequence, event));
            }
            Command::Close { epoch: closed } if closed == epoch => {
                streams = ledger.streams(found.at).ok()
            }
            _ => {}
        }
        let record = audit.take(bytes)?;
        if let (Some(mut streams), Outcome::Closed { close }) = (streams, record.outcome) {
            for stream in &mut streams {
                stream.parties.retain(|portion| portion.party == party);
            }
            let portions = streams.iter().flat_map(|stream| &stream.parties);
            let amount = portions.map(|portion| portion.amount).sum();
            // Nothing of the epoch can have been claimed, taken back or settled yet.
            let ledger = audit.ledger();
            let leaves = ledger.leaves(epoch).unwrap_or_default();
            let at = ledger.leaf(epoch, party);
            let leaf = at.map(|at| (leaves[at], merkle::path(&leaves, at)));
            return Ok(Explanation {
                closed_by: record.sequence,
                root: close.root,
                leaf,
                epoch,
                policy: close.policy,
                streams,
                amount,
                events,
            });
        }
        rest = &rest[bytes.len()..];
    }
    Err(Unexplained::NotClosed { epoch })
}

/// What of an epoch is to be claimed on the chain, because it was settled: read from the journal, for the ledger
/// itself has it no more.
pub fn settlement(journal: &[u8], epoch: EpochNumber) -> Result<Settlement, Unexplained> {
    let mut audit = Audit::new(Signatures::Checked);
    let mut rest = journal;
    while !rest.is_empty() {
        let bytes = take(&audit, journal, rest)?;
        let found = parts(bytes).map_err(|fault| place(&audit, journal, rest, fault))?;
        let leaves = match found.command {
            Command::Settle { epoch: settled } if settled == epoch => {
                audit.ledger().leaves(epoch).ok()
            }
            _ => None,
        };
        let record = audit.take(bytes)?;
        if let (Some(leaves), Outcome::Settled { root, total, .. }) = (leaves, record.outcome) {
            return Ok(Settlement {
                record: record.sequence,
                root,
                total,
                leaves,
            });
        }
        rest = &rest[bytes.len()..];
    }
    Err(Unexplained::NotSettled { epoch })
}

/// Whether an event is about a party, before it is executed.
fn concerns(ledger: &Ledger, event: &Event, party: Party) -> bool {
    use super::command::Deed::{Failure, Proof, Release, Reuse};
    let payer = event
        .hold()
        .and_then(|id| Some(ledger.state.as_ref()?.holds.find(id)?.party));
    let named = match event.what {
        Proof { developer, .. } | Reuse { developer, .. } => developer,
        Release { party, .. } => Some(party),
        Failure { .. } => None,
    };
    [Some(event.node), payer, named].contains(&Some(party))
}

fn take<'a>(audit: &Audit, journal: &[u8], rest: &'a [u8]) -> Result<&'a [u8], Bad> {
    next(rest).map_err(|fault| place(audit, journal, rest, fault))
}

fn place(audit: &Audit, journal: &[u8], rest: &[u8], fault: Fault) -> Bad {
    Bad {
        record: audit.ledger().head().records,
        byte: (journal.len() - rest.len()) as u64,
        fault,
    }
}

const PURSES: [&str; 6] = ["free", "held", "staked", "unbonding", "payable", "gas"];

fn purses(ledger: &Ledger, party: Party) -> [i128; 6] {
    let balance = |asset, account| ledger.balance(asset, account).unwrap_or(0);
    let [free, held, staked, unbonding] =
        Account::purses(party).map(|account| balance(Asset::Era, account));
    let payable = ledger
        .party(party)
        .map_or(0, |view| view.payable.cast_signed());
    let gas = balance(Asset::Gas, Account::Free { party });
    [free, held, staked, unbonding, payable, gas]
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Open { .. } => "open",
        Command::Adopt { .. } => "adopt",
        Command::Register { .. } => "register",
        Command::Verify { .. } => "verify",
        Command::Transfer { .. } => "transfer",
        Command::Reserve { .. } => "reserve",
        Command::Charge { .. } => "charge",
        Command::Refund { .. } => "refund",
        Command::Meter { .. } => "meter",
        Command::OffsetGas { .. } => "offset_gas",
        Command::Stake { .. } => "stake",
        Command::Unstake { .. } => "unstake",
        Command::Withdraw { .. } => "withdraw",
        Command::Harvest { .. } => "harvest",
        Command::Order { .. } => "order",
        Command::Close { .. } => "close",
        Command::Claim { .. } => "claim",
        Command::ClawBack { .. } => "claw_back",
        Command::Settle { .. } => "settle",
    }
}

/// Amounts are strings in JSON, whose numbers end at 2^53.
fn text<S: Serializer>(amount: &i128, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(amount)
}
