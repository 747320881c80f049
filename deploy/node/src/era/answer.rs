//! The ledger as the wire shows it.

use caldera_rpc::era::{
    Amount, Change, EraAccount, EraEpoch, EraEpochs, EraEvent, EraExplanation, EraId, EraKept,
    EraLine, EraPayout, EraPolicy, EraRetention, EraRole, EraStake, EraStatement, EraStream,
    EraUnbonding,
};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::methods::Address;
use caldera_rpc::methods::Digest;
use caldera_scheduler::ledger::command::{Close, Deed, Party, Role};
use caldera_scheduler::ledger::retention::Retention;
use caldera_scheduler::ledger::statement::{Explanation, Statement};
use caldera_scheduler::ledger::{ALL_STAKES, Account, Asset, Counted, Error, Event, Ledger};
use caldera_store::TenantName;

/// Why the ledger refuses something, as it is told.
pub(super) fn refused(error: &Error) -> RpcError {
    let fault = match error {
        Error::Insufficient { .. } | Error::PoolUnfunded { .. } => EraFault::Insufficient,
        Error::Conflict { .. } | Error::PartyExists { .. } | Error::ReceiptUsed { .. } => {
            EraFault::Conflict
        }
        Error::ClosedEpoch { .. } => EraFault::ClosedEpoch,
        Error::EpochNotOver { .. } => EraFault::EpochNotOver,
        Error::Locked { .. } | Error::Matured { .. } | Error::Expired { .. } => EraFault::Locked,
        Error::UnknownParty { .. } => EraFault::UnknownParty,
        Error::Unknown { .. } | Error::Resolved { .. } | Error::UnknownClass { .. } => {
            EraFault::Unknown
        }
        Error::Overflow { .. } | Error::Limit { .. } => EraFault::Overflow,
        Error::NothingDue | Error::Zero => EraFault::NothingDue,
        Error::NotOpen
        | Error::AlreadyOpen
        | Error::Role { .. }
        | Error::Key
        | Error::Signature { .. }
        | Error::Forbidden { .. } => EraFault::Forbidden,
    };
    let detail = match error {
        // What all stakes together are is the sum of what others have, and with two parties what the other has.
        Error::PoolUnfunded { .. } => {
            "the staking pool could not pay for so much more until its lock ends".to_owned()
        }
        Error::Limit { what, expected, .. } if *what == ALL_STAKES => {
            format!("{what}: expected {expected} at most")
        }
        error => error.to_string(),
    };
    RpcError::Era { fault, detail }
}

/// What accounts hold that are nobody's.
pub(super) fn house(ledger: &Ledger) -> Vec<(&'static str, u128)> {
    let accounts = [
        ("budget", Account::Budget),
        ("fees", Account::Fees),
        ("treasury", Account::Treasury),
        ("staking_pool", Account::StakingPool),
        ("stake_rewards", Account::StakeRewards),
        ("storage_fund", Account::StorageFund),
        ("payable", Account::Payable),
        ("dust", Account::Dust),
    ];
    let balance = |(name, account)| {
        let balance = ledger.balance(Asset::Era, account).unwrap_or(0);
        (name, balance.unsigned_abs())
    };
    accounts.map(balance).to_vec()
}

pub(super) fn account(
    ledger: &Ledger,
    party: Party,
    tenant: Option<&TenantName>,
) -> Result<EraAccount, RpcError> {
    let view = ledger.party(party).map_err(|error| refused(&error))?;
    let payouts = ledger.payouts(party).map_err(|error| refused(&error))?;
    let stakes = ledger.stakes(party);
    Ok(EraAccount {
        party,
        tenant: tenant.map(ToString::to_string),
        role: match view.role {
            Role::Node => EraRole::Node,
            Role::Developer => EraRole::Developer,
            Role::User => EraRole::User,
        },
        owner: view.owner,
        verified: ledger.is_verified(view.owner),
        address: Address(view.address),
        standing: view.order,
        free: Amount(view.free),
        held: Amount(view.held),
        staked: Amount(view.staked),
        unbonding: Amount(view.unbonding),
        payable: Amount(view.payable),
        gas: Amount(view.free_gas),
        payouts: payouts
            .into_iter()
            .map(|(epoch, amount, matures_at)| EraPayout {
                epoch,
                amount: Amount(amount),
                matures_at,
            })
            .collect(),
        stakes: stakes
            .into_iter()
            .map(|(id, amount, locked_until)| EraStake {
                id: EraId(id),
                amount: Amount(amount),
                // It has just been listed.
                earned: Amount(ledger.earned(id).unwrap_or(0)),
                locked_until,
            })
            .collect(),
        unbondings: ledger
            .unbondings(party)
            .into_iter()
            .map(|(id, amount, due_at)| EraUnbonding {
                id: EraId(id),
                amount: Amount(amount),
                due_at,
            })
            .collect(),
    })
}

pub(super) fn policy(ledger: &Ledger) -> Result<EraPolicy, RpcError> {
    let policy = ledger.policy().map_err(|error| refused(&error))?;
    let (epoch, _) = ledger.epoch().map_err(|error| refused(&error))?;
    Ok(EraPolicy {
        epoch,
        hash: Digest(policy.hash()),
        policy: super::ask::json(&**policy)?,
    })
}

pub(super) fn epochs(
    ledger: &Ledger,
    closed: &[(u64, Close)],
    before: Option<u32>,
) -> Result<EraEpochs, RpcError> {
    let (open, closes_at) = ledger.epoch().map_err(|error| refused(&error))?;
    let house = |account| {
        let balance = ledger.balance(Asset::Era, account).unwrap_or(0);
        Amount(balance.unsigned_abs())
    };
    // Epochs are numbered as they are closed.
    let end = before.map_or(closed.len(), |it| closed.len().min(it as usize));
    let shown = &closed[end.saturating_sub(CLOSED_SHOWN)..end];
    Ok(EraEpochs {
        open,
        closes_at,
        fees: house(Account::Fees),
        budget: house(Account::Budget),
        closed: shown.iter().map(|(at, close)| epoch(*at, close)).collect(),
    })
}

fn epoch(at: u64, close: &Close) -> EraEpoch {
    EraEpoch {
        epoch: close.epoch,
        at,
        policy: Digest(close.policy),
        first: close.first,
        last: close.last,
        root: Digest(close.root),
        payouts: close.payouts,
        fees: Amount(close.fees),
        issued: Amount(close.issued),
        budget: Amount(close.budget),
        nodes: Amount(close.nodes),
        developers: Amount(close.developers),
        users: Amount(close.users),
        dust: Amount(close.dust),
        carried: Amount(close.carried),
        storage: Amount(close.storage),
        staking: Amount(close.staking),
        shortfall: Amount(close.shortfall),
        state: Digest(close.state),
    }
}

pub(super) fn retention(retention: &Retention) -> EraRetention {
    let groups = retention.groups().map(|(group, kept)| {
        let (low, high) = kept.interval();
        EraKept {
            cohort: group.cohort,
            month: group.month,
            rewarded: group.rewarded,
            active: kept.active,
            kept: kept.kept,
            low,
            high,
        }
    });
    EraRetention {
        month: retention.month(),
        groups: groups.collect(),
    }
}

/// A statement from a record on, as much of it as fits into an answer. All lines of a record are in it, or none.
pub fn statement(all: Statement, from: u64) -> EraStatement {
    let lines = all.lines.into_iter().filter(|line| line.record >= from);
    let mut lines = lines.peekable();
    let mut shown: Vec<EraLine> = Vec::new();
    let mut next = None;
    while let Some(line) = lines.next_if(|line| {
        let more = shown.len() < LINES_SHOWN
            || shown.last().is_some_and(|last| last.record == line.record);
        if !more {
            next = Some(line.record);
        }
        more
    }) {
        shown.push(EraLine {
            record: line.record,
            at: line.at,
            what: line.what.to_owned(),
            purse: line.purse.to_owned(),
            change: Change(line.change),
            balance: Change(line.balance),
        });
    }
    EraStatement {
        party: all.party,
        lines: shown,
        next,
    }
}

/// Why a payout is what it is. Classes have the names that `class` gives them.
pub fn explanation(party: Party, all: Explanation, class: impl Fn(u8) -> String) -> EraExplanation {
    let names = ["nodes", "developers", "users", "storage"];
    let streams = names.into_iter().zip(all.streams).map(|(name, stream)| {
        let own = stream.parties.first();
        let jobs = own.and_then(|own| match own.counted {
            Counted::Jobs {
                successes,
                failures,
            } => Some((successes, failures)),
            _ => None,
        });
        let scenarios = own.and_then(|own| match own.counted {
            Counted::Scenarios(scenarios) => Some(scenarios),
            _ => None,
        });
        EraStream {
            stream: name.to_owned(),
            budget: Amount(stream.budget),
            paid: Amount(stream.paid),
            weights: Amount(stream.weights),
            weight: Amount(own.map_or(0, |own| own.weight)),
            work: Amount(own.map_or(0, |own| own.work)),
            factor: own.map(|own| own.factor),
            successes: jobs.map(|(successes, _)| successes),
            failures: jobs.map(|(_, failures)| failures),
            scenarios,
            amount: Amount(own.map_or(0, |own| own.amount)),
        }
    });
    let event = |(record, event): (u64, Event)| {
        let (what, fee, of) = match event.what {
            Deed::Proof { fee, class, .. } => ("proof", Some(fee), Some(class)),
            Deed::Reuse { fee, class, .. } => ("reuse", Some(fee), Some(class)),
            Deed::Release { .. } => ("release", None, None),
            Deed::Failure { .. } => ("failure", None, None),
        };
        EraEvent {
            record,
            node: event.node,
            sequence: event.sequence,
            observed_at: event.observed,
            what: what.to_owned(),
            fee: fee.map(Amount),
            class: of.map(&class),
        }
    };
    EraExplanation {
        party,
        epoch: all.epoch,
        policy: Digest(all.policy),
        amount: Amount(all.amount),
        streams: streams.collect(),
        events: all.events.into_iter().map(event).collect(),
        closed_by: all.closed_by,
        root: Digest(all.root),
        index: all.leaf.as_ref().map(|(leaf, _)| leaf.index),
        path: all
            .leaf
            .map(|(_, path)| path.into_iter().map(Digest).collect())
            .unwrap_or_default(),
    }
}

/// The newest closed epochs that are shown.
const CLOSED_SHOWN: usize = 64;
/// Lines of one answer: some hundred kilobytes.
const LINES_SHOWN: usize = 1_000;
