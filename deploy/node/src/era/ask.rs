//! What can be asked of the ledger over the wire, and who may ask it.
//!
//! A tenant sees the parties that it is and commands for them; of all others the answer is the one that would be given if
//! they did not exist. The operator sees everything, and commands for parties that are no tenant's: the box's own
//! node. What only the operator may ask at all is held before (`service`).
//!
//! Ids that callers choose are theirs alone: each tenant's, the operator's and the box's own are of different domains, so whatever
//! somebody chooses is in nobody's way.

use caldera_rpc::era::{
    AccountQuery, Adopt, Claim, ClawBack, CloseEpoch, EraAsset, EraLeg, EraReceipt, EraRole,
    ExplainQuery, Offset, RegisterParty, Settle, Stake, StatementQuery, Transfer, Unstake,
};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::methods::Digest;
use caldera_scheduler::ledger::command::{Id, Leg, Party, Role, event_id};
use caldera_scheduler::ledger::journal::parts;
use caldera_scheduler::ledger::{Account, Answer, Asset, Command, Outcome, Policy, Record};
use caldera_store::TenantName;
use caldera_store::database::Group;
use caldera_store::ledger::LedgerParty;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Era, Keeper, answer, id_of};

/// What is asked.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Ask {
    Account(AccountQuery),
    Statement(StatementQuery),
    Explain(ExplainQuery),
    Policy,
    Epoch,
    Retention,
    Claim(Claim),
    Stake(Stake),
    Unstake(Unstake),
    Offset(Offset),
    Register(RegisterParty),
    Transfer(Transfer),
    Adopt(Adopt),
    ClawBack(ClawBack),
    Close(CloseEpoch),
    Settle(Settle),
}

/// What is to be read from the journal, by the thread that does nothing else.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Reading {
    Statement(StatementQuery),
    Explain(ExplainQuery),
}

/// What comes of a question.
#[derive(Debug)]
pub enum Asked {
    /// This, once all that was executed is written down.
    Answer(Value),
    /// It is to be read from the journal.
    Read(Reading),
}

impl Era {
    /// Answers a question of a tenant, or of the operator. What is to be known of older records is read from where this group
    /// is written to.
    pub fn ask(
        &mut self,
        caller: Option<&TenantName>,
        ask: &Ask,
        group: &Group<'_>,
        now: u64,
    ) -> Result<Asked, RpcError> {
        let keeper = self.keeper()?;
        let done = |receipt: Result<EraReceipt, RpcError>| receipt.and_then(|it| json(&it));
        let answer = match ask {
            Ask::Account(query) => json(&keeper.accounts(caller, query)?),
            Ask::Statement(query) => {
                keeper.seen(caller, query.party)?;
                return Ok(Asked::Read(Reading::Statement(query.clone())));
            }
            Ask::Explain(query) => {
                keeper.seen(caller, query.party)?;
                return Ok(Asked::Read(Reading::Explain(query.clone())));
            }
            Ask::Policy => json(&answer::policy(&keeper.ledger)?),
            Ask::Epoch => json(&answer::epochs(&keeper.ledger, &keeper.closed)?),
            Ask::Retention => json(&answer::retention(&keeper.retention)),
            Ask::Claim(it) => done(keeper.claim(caller, it, now)),
            Ask::Stake(it) => done(keeper.stake(caller, it, now)),
            Ask::Unstake(it) => done(keeper.unstake(caller, it, now)),
            Ask::Offset(it) => done(keeper.offset(it, now)),
            Ask::Register(it) => done(keeper.register(it, now)),
            Ask::Transfer(it) => done(keeper.transfer(it, now)),
            Ask::Adopt(it) => done(keeper.adopt(it, now)),
            Ask::ClawBack(it) => done(keeper.claw_back(it, group, now)),
            Ask::Close(it) => {
                let epoch = it.epoch;
                done(keeper.command(0, Command::Close { epoch }, now))
            }
            Ask::Settle(it) => {
                let epoch = it.epoch;
                done(keeper.given(None, it.id.0, Command::Settle { epoch }, now))
            }
        };
        answer.map(Asked::Answer)
    }
}

impl Keeper {
    /// Executes a command and says where its record is.
    fn command(&mut self, id: Id, command: Command, now: u64) -> Result<EraReceipt, RpcError> {
        let answer = self
            .execute(id, command, now)
            .map_err(|error| answer::refused(&error))?;
        Ok(match answer {
            Answer::New(record) => receipt(&record),
            Answer::Before { sequence } => EraReceipt {
                record: sequence,
                repeated: true,
                ..nothing()
            },
        })
    }

    /// Executes a command under an id that its sender has chosen.
    fn given(
        &mut self,
        caller: Option<&TenantName>,
        id: Id,
        command: Command,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        let id = match caller {
            // In older journals the operator's ids stand as they were chosen.
            None if self.ledger.repeats(id, &command) => id,
            _ => named(caller, id),
        };
        self.command(id, command, now)
    }

    /// Whether a sender has used an id.
    fn has_given(&self, caller: Option<&TenantName>, id: Id) -> bool {
        self.ledger.knows(named(caller, id)) || (caller.is_none() && self.ledger.knows(id))
    }

    /// Whether a caller may see a party.
    fn seen(&self, caller: Option<&TenantName>, party: Party) -> Result<(), RpcError> {
        let own = caller.is_none_or(|caller| self.parties.get(&party) == Some(caller));
        match own && self.ledger.party(party).is_ok() {
            true => Ok(()),
            false => Err(unknown(party)),
        }
    }

    /// Whether a caller commands for a party.
    fn commanded(&self, caller: Option<&TenantName>, party: Party) -> Result<(), RpcError> {
        match self.parties.get(&party) == caller {
            true => self.seen(caller, party),
            false => Err(unknown(party)),
        }
    }

    fn accounts(
        &self,
        caller: Option<&TenantName>,
        query: &AccountQuery,
    ) -> Result<Vec<caldera_rpc::era::EraAccount>, RpcError> {
        let parties: Vec<Party> = match query.party {
            Some(party) => vec![party],
            None => {
                let own = |party: &Party| self.seen(caller, *party).is_ok();
                self.ledger.parties().filter(own).collect()
            }
        };
        let account = |party: Party| {
            self.seen(caller, party)?;
            answer::account(&self.ledger, party, self.parties.get(&party))
        };
        parties.into_iter().map(account).collect()
    }

    fn claim(
        &mut self,
        caller: Option<&TenantName>,
        it: &Claim,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        self.commanded(caller, it.party)?;
        let again = self.has_given(caller, it.id.0);
        let command = match (it.up_to, it.stake, it.unbonding) {
            (up_to, None, None) => Command::Claim {
                party: it.party,
                up_to: up_to.unwrap_or(u32::MAX),
            },
            (None, Some(stake), None) => {
                let own = self.ledger.stakes(it.party);
                own_or(again, stake.0, "stake", &own)?;
                Command::Harvest { stake: stake.0 }
            }
            (None, None, Some(unbonding)) => {
                let own = self.ledger.unbondings(it.party);
                own_or(again, unbonding.0, "unbonding", &own)?;
                Command::Withdraw {
                    unbonding: unbonding.0,
                }
            }
            _ => {
                return Err(RpcError::InvalidParams {
                    detail: "expected one of upTo, stake and unbonding".into(),
                });
            }
        };
        self.given(caller, it.id.0, command, now)
    }

    fn stake(
        &mut self,
        caller: Option<&TenantName>,
        it: &Stake,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        self.commanded(caller, it.party)?;
        let party = it.party;
        let command = match (it.amount, it.standing) {
            (Some(amount), None) => Command::Stake {
                party,
                amount: amount.0,
            },
            (None, Some(on)) => Command::Order { party, on },
            _ => {
                return Err(RpcError::InvalidParams {
                    detail: "expected one of amount and standing".into(),
                });
            }
        };
        self.given(caller, it.id.0, command, now)
    }

    fn unstake(
        &mut self,
        caller: Option<&TenantName>,
        it: &Unstake,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        self.commanded(caller, it.party)?;
        let again = self.has_given(caller, it.id.0);
        own_or(again, it.stake.0, "stake", &self.ledger.stakes(it.party))?;
        let command = Command::Unstake {
            stake: it.stake.0,
            amount: it.amount.0,
        };
        self.given(caller, it.id.0, command, now)
    }

    /// Reserves what a transaction may cost in ERA, and reimburses its gas from that; or neither.
    fn offset(&mut self, it: &Offset, now: u64) -> Result<EraReceipt, RpcError> {
        // The hold has the id that was given, and what is done with it one that follows from it. In older journals that is so
        // of the id as it was chosen.
        let before = follow(it.id.0, b"caldera offset");
        let (hold, id) = match self.ledger.knows(before) {
            true => (it.id.0, before),
            false => {
                let hold = named(None, it.id.0);
                (hold, follow(hold, b"caldera offset"))
            }
        };
        let reserve = Command::Reserve {
            party: it.party,
            amount: it.era_max.0,
            expires: now.max(self.ledger.now()).saturating_add(super::HOLD_S),
        };
        let offset = Command::OffsetGas {
            hold,
            receipt: it.receipt.0,
            gas_used: it.gas_used,
            price: it.gas_price.0,
        };
        if self.ledger.knows(id) {
            return self.command(id, offset, now);
        }
        self.command(hold, reserve, now)?;
        let done = self.command(id, offset, now);
        if done.is_err() {
            let back = follow(hold, b"caldera refund");
            self.command(back, Command::Refund { hold }, now)?;
        }
        done
    }

    fn register(&mut self, it: &RegisterParty, now: u64) -> Result<EraReceipt, RpcError> {
        let invalid = |detail: String| RpcError::InvalidParams { detail };
        let tenant: TenantName = it
            .tenant
            .parse()
            .map_err(|error| invalid(format!("tenant: {error}")))?;
        let (role, developer) = match it.role {
            EraRole::User => (Role::User, false),
            EraRole::Developer => (Role::Developer, true),
            EraRole::Node => return Err(invalid("role: expected user or developer".into())),
        };
        let before = self.tenants.get(&tenant);
        let before = before.and_then(|of| of[usize::from(developer)]);
        let party = before.unwrap_or_else(|| self.next_party());
        let register = Command::Register {
            party,
            role,
            owner: it.owner,
            address: it.address.0,
            key: [0; 32],
        };
        // Who is somebody already is only told so again by the same command.
        let done = self.given(None, it.id.0, register, now)?;
        if before.is_none() {
            let row = LedgerParty {
                tenant,
                developer,
                party,
            };
            self.name(&row);
            self.named.push(row);
        }
        if !done.repeated && self.ledger.is_verified(it.owner) != it.verified {
            let verify = Command::Verify {
                owner: it.owner,
                verified: it.verified,
            };
            let id = follow(named(None, it.id.0), b"caldera verify");
            self.command(id, verify, now)?;
        }
        Ok(EraReceipt {
            party: Some(party),
            ..done
        })
    }

    fn transfer(&mut self, it: &Transfer, now: u64) -> Result<EraReceipt, RpcError> {
        let legs = it.legs.iter().enumerate();
        let legs = legs.map(|(at, leg)| {
            read_leg(leg).ok_or_else(|| RpcError::InvalidParams {
                detail: format!(
                    "legs[{at}]: expected outside, treasury, gasFloat, stakingPool, storageFund, budget or \
                     the number of a party"
                ),
            })
        });
        let legs = legs.collect::<Result<_, _>>()?;
        self.given(None, it.id.0, Command::Transfer { legs }, now)
    }

    fn adopt(&mut self, it: &Adopt, now: u64) -> Result<EraReceipt, RpcError> {
        let policy = Policy::parse(&it.policy).map_err(|error| RpcError::Era {
            fault: EraFault::Policy,
            detail: error.to_string(),
        })?;
        let epoch = it.epoch;
        self.given(None, it.id.0, Command::Adopt { epoch, policy }, now)
    }

    /// Takes a payout back, for an event that was paid by it and should not have been. The record has the digest of why. For how
    /// long that can be done, and that it is done once, is the ledger's to see to.
    fn claw_back(
        &mut self,
        it: &ClawBack,
        group: &Group<'_>,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        if !(1..=REASON_MAX).contains(&it.reason.len()) {
            return Err(RpcError::InvalidParams {
                detail: format!(
                    "reason: expected 1 to {REASON_MAX} bytes, got {}",
                    it.reason.len()
                ),
            });
        }
        let reason: [u8; 32] = Sha256::new()
            .chain_update(b"caldera claw back")
            .chain_update(it.node.to_be_bytes())
            .chain_update(it.sequence.to_be_bytes())
            .chain_update(&it.reason)
            .finalize()
            .into();
        self.has_earned(it, group)?;
        let command = Command::ClawBack {
            party: it.party,
            epoch: it.epoch,
            reason,
        };
        let done = self.given(None, it.id.0, command, now)?;
        Ok(EraReceipt {
            reason: Some(Digest(reason)),
            ..done
        })
    }

    /// Whether the event has earned the party something, in that epoch and by its policy: what was paid for other events cannot be
    /// taken back because of this one.
    fn has_earned(&self, it: &ClawBack, group: &Group<'_>) -> Result<(), RpcError> {
        let fault = |fault, detail| RpcError::Era { fault, detail };
        let epoch = usize::try_from(it.epoch).ok();
        let closed = epoch.and_then(|epoch| self.closed.get(epoch));
        let (_, close) = closed.ok_or_else(|| {
            let detail = format!("epoch {} is not closed", it.epoch);
            fault(EraFault::EpochNotOver, detail)
        })?;
        self.seen(None, it.party)?;
        let record = self.ledger.record_of(event_id(it.node, it.sequence));
        let record = record.ok_or_else(|| {
            let detail = format!("there is no event {} of node {}", it.sequence, it.node);
            fault(EraFault::Unknown, detail)
        })?;
        let (first, last) = (close.first, close.last);
        if !(first..=last).contains(&record) {
            let detail = format!(
                "the event is in record {record}, expected {first} to {last}, which are epoch {}",
                it.epoch
            );
            return Err(fault(EraFault::NotEarned, detail));
        }
        let Command::Meter { event, .. } = self.recorded(record, group)? else {
            return Err(unread(record));
        };
        let hold = event.hold().and_then(|hold| self.ledger.record_of(hold));
        let payer = match hold.map(|hold| self.recorded(hold, group)) {
            Some(Ok(Command::Reserve { party, .. })) => Some(party),
            Some(Err(error)) => return Err(error),
            Some(Ok(_)) | None => None,
        };
        let policy = self.policies.get(&close.policy);
        let policy = policy.ok_or_else(|| unread(close.last))?;
        match self.ledger.earners(&event, payer, policy).as_slice() {
            earners if earners.contains(&it.party) => Ok(()),
            earners => {
                let detail = format!(
                    "the event has earned party {} nothing, expected one of {earners:?}",
                    it.party
                );
                Err(fault(EraFault::NotEarned, detail))
            }
        }
    }

    /// The command of a record, which is in the journal or about to be.
    fn recorded(&self, record: u64, group: &Group<'_>) -> Result<Command, RpcError> {
        if let Some((.., command)) = self.fresh.iter().find(|(it, ..)| it.sequence == record) {
            return Ok(command.clone());
        }
        let bytes = group.ledger_record(record).map_err(|error| {
            tracing::error!(record, %error, "reading a record");
            RpcError::StorageUnavailable {
                retry_after_ms: crate::clerk::TRY_AGAIN.as_millis() as u64,
            }
        })?;
        let read = bytes.and_then(|bytes| parts(&bytes).ok());
        read.map(|parts| parts.command)
            .ok_or_else(|| unread(record))
    }
}

fn receipt(record: &Record) -> EraReceipt {
    use caldera_rpc::era::Amount;
    let mut receipt = EraReceipt {
        record: record.sequence,
        ..nothing()
    };
    match &record.outcome {
        Outcome::Done => {}
        Outcome::Closed { close } => receipt.root = Some(Digest(close.root)),
        Outcome::Moved { amount, staked } => {
            receipt.moved = Some(Amount(*amount));
            receipt.staked = Some(Amount(*staked));
        }
        Outcome::Offset {
            charged,
            reimbursed,
        } => {
            receipt.charged = Some(Amount(*charged));
            receipt.reimbursed = Some(Amount(*reimbursed));
        }
        Outcome::Settled { root, total, .. } => {
            receipt.root = Some(Digest(*root));
            receipt.moved = Some(Amount(*total));
        }
    }
    receipt
}

fn nothing() -> EraReceipt {
    EraReceipt {
        record: 0,
        repeated: false,
        moved: None,
        staked: None,
        charged: None,
        reimbursed: None,
        party: None,
        root: None,
        reason: None,
    }
}

fn read_leg(leg: &EraLeg) -> Option<Leg> {
    let account = |name: &str| match name {
        "outside" => Some(Account::Outside),
        "treasury" => Some(Account::Treasury),
        "gasFloat" => Some(Account::GasFloat),
        "stakingPool" => Some(Account::StakingPool),
        "storageFund" => Some(Account::StorageFund),
        "budget" => Some(Account::Budget),
        party => Some(Account::Free {
            party: party.parse().ok()?,
        }),
    };
    Some(Leg {
        asset: match leg.asset {
            EraAsset::Era => Asset::Era,
            EraAsset::Gas => Asset::Gas,
        },
        from: account(&leg.from)?,
        to: account(&leg.to)?,
        amount: leg.amount.0,
    })
}

/// The id of a command in the ledger: one of its sender's own, whatever that has chosen. The box makes ids too, by rules that
/// anybody can follow: nobody shall use them up before it does.
fn named(caller: Option<&TenantName>, id: Id) -> Id {
    match caller {
        Some(tenant) => follow(id, format!("caldera command of {tenant}").as_bytes()),
        None => follow(id, b"caldera command by the operator"),
    }
}

/// The id of a command that comes with another.
fn follow(id: Id, domain: &[u8]) -> Id {
    let [high, low] = [(id >> 64) as u64, id as u64];
    id_of(&[domain, high.to_be_bytes().as_slice()].concat(), low)
}

/// Whether a thing is among those of a party. A command that was executed before may be about one that has gone.
fn own_or(
    again: bool,
    id: Id,
    what: &'static str,
    own: &[(Id, u128, u64)],
) -> Result<(), RpcError> {
    match again || own.iter().any(|(it, ..)| *it == id) {
        true => Ok(()),
        false => Err(gone(what, id)),
    }
}

/// A record that the ledger knows is not in the journal, or is another.
fn unread(record: u64) -> RpcError {
    RpcError::Era {
        fault: EraFault::Damaged,
        detail: format!("record {record} is not the one that was written"),
    }
}

fn unknown(party: Party) -> RpcError {
    RpcError::Era {
        fault: EraFault::UnknownParty,
        detail: format!("there is no party {party}"),
    }
}

fn gone(what: &str, id: Id) -> RpcError {
    RpcError::Era {
        fault: EraFault::Unknown,
        detail: format!("there is no {what} {id:#034x}"),
    }
}

pub(crate) fn json(result: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(result).map_err(|error| {
        tracing::error!(%error, "a result that JSON cannot hold");
        RpcError::Internal
    })
}

/// The longest reason of a claw-back, in bytes.
const REASON_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use caldera_rpc::auth::Secret;
    use caldera_rpc::era::{Amount, EraId};
    use caldera_rpc::node_key::NodeKey;
    use caldera_store::database::Database;

    use super::*;
    use crate::era::{EraConfig, hold_of};

    struct Desk {
        database: Database,
        era: Era,
        _folder: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Desk {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("caldera.sqlite");
            let mut database = Database::open(&path).expect("made");
            let config = EraConfig {
                policy: Policy::parse(include_str!("../../../era.toml")).expect("is shipped"),
                node_key_file: PathBuf::new(),
                node_owner: 1,
                node_address: [1; 20],
            };
            let key = NodeKey::new(&Secret::from_bytes([7; 32]));
            let era = Era::open(config, key, &mut database, NOW).expect("a new journal");
            Desk {
                database,
                era,
                _folder: folder,
            }
        }

        fn ask(&mut self, ask: Ask) -> Result<Value, RpcError> {
            let group = self.database.group().expect("begun");
            let asked = self.era.ask(None, &ask, &group, NOW)?;
            self.era.write(&group).expect("room");
            group.commit().expect("room");
            self.era.written();
            match asked {
                Asked::Answer(answer) => Ok(answer),
                Asked::Read(reading) => panic!("{reading:?}"),
            }
        }

        fn treasury(&mut self) -> u128 {
            let ledger = &self.era.keeper().expect("sound").ledger;
            let balance = ledger.balance(Asset::Era, Account::Treasury);
            balance.expect("open").unsigned_abs()
        }
    }

    fn deposit(id: Id, amount: u128) -> Ask {
        Ask::Transfer(Transfer {
            id: EraId(id),
            legs: vec![EraLeg {
                asset: EraAsset::Era,
                from: "outside".to_owned(),
                to: "treasury".to_owned(),
                amount: Amount(amount),
            }],
        })
    }

    /// An operator may choose an id that the box is about to make, and must not be in the way of it.
    #[test]
    fn ids_of_the_operator_are_in_nobodys_way() {
        let mut desk = Desk::new();
        let tenant: TenantName = "exchange".parse().expect("a name");
        for id in [
            hold_of(1),
            named(Some(&tenant), 5),
            event_id(1, 0),
            id_of(b"caldera reuse", 1),
        ] {
            desk.ask(deposit(id, 1)).expect("is taken");
            let keeper = desk.era.keeper().expect("sound");
            assert!(!keeper.ledger.knows(id), "{id:#034x}");
        }
        assert_eq!(desk.treasury(), 4);
    }

    /// In a journal of before, the operator's ids stand as they were chosen: what was done then is not done again.
    #[test]
    fn a_command_from_before_ids_were_apart_is_done_once() {
        let mut desk = Desk::new();
        let keeper = desk.era.keeper().expect("sound");
        let legs = vec![Leg {
            asset: Asset::Era,
            from: Account::Outside,
            to: Account::Treasury,
            amount: 7,
        }];
        let command = Command::Transfer { legs };
        keeper.command(9, command, NOW).expect("is taken");
        let again = desk.ask(deposit(9, 7)).expect("is known");
        assert_eq!(again["repeated"], true);
        assert_eq!(desk.treasury(), 7);
        // Another one under the same id is another's, now as ever under the new ones.
        let other = desk.ask(deposit(9, 8)).expect("is taken");
        assert_eq!(other["repeated"], false);
        let conflict = desk.ask(deposit(9, 6)).expect_err("is used");
        assert_eq!(conflict.reason(), "eraConflict");
        assert_eq!(desk.treasury(), 15);
        let again = desk.ask(deposit(9, 7)).expect("is known");
        assert_eq!(again["repeated"], true);
    }

    const NOW: u64 = 1_800_000_000;
}
