//! What can be asked of the ledger over the wire, and who may ask it.
//!
//! A tenant sees the parties that it is and commands for them; of all others the answer is the one that would be given if
//! they did not exist. The operator sees everything, and commands for parties that are no tenant's: the box's own
//! node. What only the operator may ask at all is held before (`service`).
//!
//! Ids that callers choose are theirs alone: each tenant's, the operator's and the box's own are of different domains, so whatever
//! somebody chooses is in nobody's way.

use caldera_rpc::chain::chain;
use caldera_rpc::era::{
    AccountQuery, Adopt, Claim, ClawBack, CloseEpoch, EraAsset, EraLeg, EraReceipt, EraRole,
    ExplainQuery, NodeName, Offset, RegisterParty, Settle, Stake, StatementQuery, Transfer,
    Unstake, VerifyOwner,
};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::methods::{Bill, Digest, FleetBill, FleetMetered, JobName};
use caldera_scheduler::ledger::command::{Id, Leg, Party, Role, event_id};
use caldera_scheduler::ledger::journal::parts;
use caldera_scheduler::ledger::{Account, Answer, Asset, Command, Error, Outcome, Policy, Record};
use caldera_store::TenantName;
use caldera_store::database::{DatabaseError, Group};
use caldera_store::ledger::LedgerParty;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Era, Keeper, Work, answer, id_of, sign_for};

/// What is asked.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Ask {
    Account(AccountQuery),
    Statement(StatementQuery),
    Explain(ExplainQuery),
    Policy,
    Epoch {
        /// Only those before this one.
        before: Option<u32>,
    },
    Retention,
    Claim(Claim),
    Stake(Stake),
    Unstake(Unstake),
    Offset(Offset),
    Register(RegisterParty),
    Verify(VerifyOwner),
    Transfer(Transfer),
    Adopt(Adopt),
    ClawBack(ClawBack),
    Close(CloseEpoch),
    Settle(Settle),
    /// What a job of this box earns a box that proves it.
    Bill {
        job: JobName,
        work: Work,
        lender: NodeName,
    },
    /// That this box has made a proof of this digest, for the ledger of another.
    Meter {
        bill: Bill,
        proof: [u8; 32],
    },
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
        let key = &self.key;
        let keeper = self.keeper.sound()?;
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
            Ask::Epoch { before } => {
                json(&answer::epochs(&keeper.ledger, &keeper.closed, *before)?)
            }
            Ask::Retention => json(&answer::retention(&keeper.retention)),
            Ask::Claim(it) => done(keeper.claim(caller, it, now)),
            Ask::Stake(it) => done(keeper.stake(caller, it, now)),
            Ask::Unstake(it) => done(keeper.unstake(caller, it, now)),
            Ask::Offset(it) => done(keeper.offset(it, group, now)),
            Ask::Register(it) => done(keeper.register(it, now)),
            Ask::Verify(it) => {
                let (owner, verified) = (it.owner, it.verified);
                done(keeper.given(None, it.id.0, Command::Verify { owner, verified }, now))
            }
            Ask::Transfer(it) => done(keeper.transfer(it, now)),
            Ask::Adopt(it) => done(keeper.adopt(it, now)),
            Ask::ClawBack(it) => done(keeper.claw_back(it, group, now)),
            Ask::Close(it) => {
                let closed = keeper.close(key, it.epoch, group, now);
                done(closed.map_err(|error| unreadable(&error)).and_then(told))
            }
            Ask::Settle(it) => {
                let epoch = it.epoch;
                done(keeper.given(None, it.id.0, Command::Settle { epoch }, now))
            }
            Ask::Bill { job, work, lender } => json(&FleetBill {
                bill: keeper.bill(*job, work, *lender),
            }),
            Ask::Meter { bill, proof } => json(&FleetMetered {
                metered: Some(sign_for(key, bill, *proof, now)),
            }),
        };
        answer.map(Asked::Answer)
    }
}

impl Keeper {
    /// Executes a command and says where its record is.
    fn command(&mut self, id: Id, command: Command, now: u64) -> Result<EraReceipt, RpcError> {
        told(self.execute(id, command, now))
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
                return Err(RpcError::misfit(
                    "",
                    "expected one of upTo, stake and unbonding",
                ));
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
                return Err(RpcError::misfit("", "expected one of amount and standing"));
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
    fn offset(&mut self, it: &Offset, group: &Group<'_>, now: u64) -> Result<EraReceipt, RpcError> {
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
        let (party, amount) = (it.party, it.era_max.0);
        let gas = (it.gas_used, it.gas_price.0);
        let offset = Command::OffsetGas {
            hold,
            receipt: it.receipt.0,
            gas_used: gas.0,
            price: gas.1,
        };
        if self.ledger.knows(id) {
            // Whose gas it was, and what it might cost, stand in the record of the hold.
            if let Some(sequence) = self.ledger.record_of(hold) {
                let same = match self.recorded(sequence, group)? {
                    Command::Reserve {
                        party: of,
                        amount: most,
                        ..
                    } => (of, most) == (party, amount),
                    _ => false,
                };
                if !same {
                    let id = it.id.0;
                    return Err(answer::refused(&Error::Conflict { id, sequence }));
                }
            }
            return self.command(id, offset, now);
        }
        // What would be refused once the amount is set aside is refused before anything is.
        self.ledger
            .offset(amount, it.receipt.0, gas)
            .map_err(|error| answer::refused(&error))?;
        let reserve = Command::Reserve {
            party,
            amount,
            expires: now.max(self.ledger.now()).saturating_add(super::HOLD_S),
        };
        self.command(hold, reserve, now)?;
        self.command(id, offset, now)
    }

    fn register(&mut self, it: &RegisterParty, now: u64) -> Result<EraReceipt, RpcError> {
        let role = match it.role {
            EraRole::User => Role::User,
            EraRole::Developer => Role::Developer,
            EraRole::Node => Role::Node,
        };
        let developer = role == Role::Developer;
        let who = match (role, &it.tenant, it.key) {
            (Role::Node, None, Some(key)) => Err(key),
            (Role::Node, ..) => {
                return Err(RpcError::misfit(
                    "",
                    "of a node: expected key and no tenant",
                ));
            }
            (_, Some(tenant), None) => {
                let tenant = tenant.parse::<TenantName>();
                Ok(tenant.map_err(|error| RpcError::misfit("tenant", error.to_string()))?)
            }
            _ => {
                return Err(RpcError::misfit(
                    "",
                    "of a tenant: expected tenant and no key",
                ));
            }
        };
        // That an owner is known is not taken back by the way.
        let taken_back = it.verified == Some(false) && self.ledger.is_verified(it.owner);
        if taken_back && !self.has_given(None, it.id.0) {
            return Err(RpcError::Era {
                fault: EraFault::Conflict,
                detail: format!(
                    "owner {} is verified; only era_verifyV1 takes that back",
                    it.owner
                ),
            });
        }
        let before = match &who {
            Ok(tenant) => {
                let of = self.tenants.get(tenant);
                of.and_then(|of| of[usize::from(developer)])
            }
            Err(key) => self.nodes.get(&key.name()).copied(),
        };
        let party = before.unwrap_or_else(|| self.next_party());
        let register = Command::Register {
            party,
            role,
            owner: it.owner,
            address: it.address.0,
            key: who.as_ref().err().map_or([0; 32], |key| key.0),
        };
        // Who is somebody already is only told so again by the same command.
        let done = self.given(None, it.id.0, register, now)?;
        self.verify_with(it, &done, now)?;
        if let (None, Ok(tenant)) = (before, who) {
            let row = LedgerParty {
                tenant,
                developer,
                party,
            };
            self.name(&row);
            self.named.push(row);
        }
        Ok(EraReceipt {
            party: Some(party),
            ..done
        })
    }

    /// What a registration says of the owner, as a command of its own beside it. Sent again it is to say the same.
    fn verify_with(
        &mut self,
        it: &RegisterParty,
        done: &EraReceipt,
        now: u64,
    ) -> Result<(), RpcError> {
        let id = follow(named(None, it.id.0), b"caldera verify");
        let owner = it.owner;
        let verify = it
            .verified
            .map(|verified| Command::Verify { owner, verified });
        let same = match (&verify, self.ledger.knows(id)) {
            (Some(verify), true) => self.ledger.repeats(id, verify),
            (None, known) => !known,
            // Journals of before have no such command where it would have changed nothing.
            (Some(_), false) => !done.repeated || it.verified == Some(false),
        };
        if !same {
            return Err(answer::refused(&Error::Conflict {
                id: it.id.0,
                sequence: done.record,
            }));
        }
        match verify {
            Some(verify) if !done.repeated => self.command(id, verify, now).map(drop),
            _ => Ok(()),
        }
    }

    fn transfer(&mut self, it: &Transfer, now: u64) -> Result<EraReceipt, RpcError> {
        let legs = it.legs.iter().enumerate();
        let legs = legs.map(|(at, leg)| {
            read_leg(leg).ok_or_else(|| {
                RpcError::misfit(
                    format!("legs[{at}]"),
                    "expected outside, treasury, gasFloat, stakingPool, storageFund, budget or the number of a party",
                )
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
            let got = it.reason.len();
            let detail = format!("expected 1 to {REASON_MAX} bytes, got {got}");
            return Err(RpcError::misfit("reason", detail));
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
        let bytes = group.ledger_record(record);
        let bytes = bytes.map_err(|error| unreadable(&error))?;
        let read = bytes.and_then(|bytes| parts(&bytes).ok());
        read.map(|parts| parts.command)
            .ok_or_else(|| unread(record))
    }
}

/// What came of a command, as it is told.
fn told(answer: Result<Answer, Error>) -> Result<EraReceipt, RpcError> {
    match answer {
        Ok(Answer::New(record)) => Ok(receipt(&record)),
        Ok(Answer::Before { sequence }) => Ok(EraReceipt {
            record: sequence,
            repeated: true,
            ..nothing()
        }),
        Err(error) => Err(answer::refused(&error)),
    }
}

/// The file cannot be read.
fn unreadable(error: &DatabaseError) -> RpcError {
    tracing::error!(error = %chain(&error), "reading for the ledger");
    RpcError::StorageUnavailable {
        retry_after_ms: crate::clerk::TRY_AGAIN.as_millis() as u64,
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
        tracing::error!(error = %chain(&error), "a result that JSON cannot hold");
        RpcError::Internal
    })
}

/// The longest reason of a claw-back, in bytes.
const REASON_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use caldera_rpc::auth::Secret;
    use caldera_rpc::era::{Amount, EraId, PublicKey};
    use caldera_rpc::methods::{Address, Metered};
    use caldera_rpc::node_key::NodeKey;
    use caldera_scheduler::scenario::file;
    use caldera_store::database::Database;
    use caldera_store::releases::ReleaseRow;
    use serde_json::json;

    use super::*;
    use crate::era::{EraConfig, OpenError, Work, WorkEnd, hold_of};

    struct Desk {
        database: Database,
        era: Era,
        now: u64,
        _folder: tempfile::TempDir,
    }

    fn config() -> EraConfig {
        EraConfig {
            policy: Policy::parse(include_str!("../../../era.toml")).expect("is shipped"),
            node_key_file: PathBuf::new(),
            node_owner: 1,
            node_address: [1; 20],
        }
    }

    fn key() -> NodeKey {
        NodeKey::new(&Secret::from_bytes([7; 32]))
    }

    fn user(tenant: &str, owner: u32) -> RegisterParty {
        RegisterParty {
            id: EraId(owner.into()),
            tenant: Some(tenant.to_owned()),
            role: EraRole::User,
            key: None,
            owner,
            verified: None,
            address: Address([owner as u8; 20]),
        }
    }

    impl Desk {
        fn new() -> Desk {
            Desk::of(key())
        }

        fn of(key: NodeKey) -> Desk {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("caldera.sqlite");
            let mut database = Database::open(&path).expect("made");
            let era = Era::open(config(), key, &mut database, NOW).expect("a new journal");
            Desk {
                database,
                era,
                now: NOW,
                _folder: folder,
            }
        }

        fn ask(&mut self, ask: Ask) -> Result<Value, RpcError> {
            let now = self.now;
            match self.done(|era, group| era.ask(None, &ask, group, now))? {
                Asked::Answer(answer) => Ok(answer),
                Asked::Read(reading) => panic!("{reading:?}"),
            }
        }

        /// A group of one thing.
        fn done<T>(&mut self, what: impl FnOnce(&mut Era, &Group<'_>) -> T) -> T {
            let group = self.database.group().expect("begun");
            self.era.begin();
            let done = what(&mut self.era, &group);
            self.era.write(&group).expect("room");
            group.commit().expect("room");
            self.era.written();
            done
        }

        fn records(&self) -> u64 {
            self.era.gauges().records
        }

        /// Registers a tenant as a user, and gives it so much.
        fn user(&mut self, tenant: &str, owner: u32, units: u128) -> Party {
            let done = self.ask(Ask::Register(user(tenant, owner)));
            let party = done.expect("is taken")["party"].clone();
            let party: Party = serde_json::from_value(party).expect("a number");
            let to = party.to_string();
            self.ask(deposit_to(u128::from(owner) << 64, &to, units))
                .expect("is taken");
            party
        }

        fn account(&mut self, party: Party) -> Value {
            let party = Some(party);
            self.ask(Ask::Account(AccountQuery { party }))
                .expect("is there")[0]
                .clone()
        }

        fn treasury(&mut self) -> u128 {
            let ledger = &self.era.keeper.sound().expect("sound").ledger;
            let balance = ledger.balance(Asset::Era, Account::Treasury);
            balance.expect("open").unsigned_abs()
        }
    }

    fn deposit(id: Id, amount: u128) -> Ask {
        deposit_to(id, "treasury", amount)
    }

    fn deposit_to(id: Id, to: &str, amount: u128) -> Ask {
        transfer(id, EraAsset::Era, to, amount)
    }

    fn transfer(id: Id, asset: EraAsset, to: &str, amount: u128) -> Ask {
        Ask::Transfer(Transfer {
            id: EraId(id),
            legs: vec![EraLeg {
                asset,
                from: "outside".to_owned(),
                to: to.to_owned(),
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
            let keeper = desk.era.keeper.sound().expect("sound");
            assert!(!keeper.ledger.knows(id), "{id:#034x}");
        }
        assert_eq!(desk.treasury(), 4);
    }

    /// In a journal of before, the operator's ids stand as they were chosen: what was done then is not done again.
    #[test]
    fn a_command_from_before_ids_were_apart_is_done_once() {
        let mut desk = Desk::new();
        let keeper = desk.era.keeper.sound().expect("sound");
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

    /// It was charged, refused for want of wei, given back, and its id was used up: whoever had filled the float found a conflict for
    /// ever.
    #[test]
    fn gas_that_is_refused_leaves_nothing_and_can_be_asked_for_again() {
        let mut desk = Desk::new();
        let party = desk.user("exchange", 10, 1_000_000);
        let offset = Offset {
            id: EraId(7),
            party,
            era_max: Amount(100_000),
            receipt: Digest([3; 32]),
            gas_used: 21,
            gas_price: Amount(1),
        };
        let before = desk.records();
        let refused = desk.ask(Ask::Offset(offset.clone())).expect_err("no wei");
        assert_eq!(refused.reason(), "eraInsufficient");
        let poor = Offset {
            era_max: Amount(0),
            ..offset.clone()
        };
        let refused = desk.ask(Ask::Offset(poor)).expect_err("no ERA");
        assert_eq!(refused.reason(), "eraNothingDue");
        assert_eq!(desk.records(), before);
        desk.ask(transfer(8, EraAsset::Gas, "gasFloat", 1_000))
            .expect("is taken");
        // More than it has, which is refused when it is set aside.
        let rich = Offset {
            era_max: Amount(1_000_001),
            ..offset.clone()
        };
        let refused = desk.ask(Ask::Offset(rich)).expect_err("not so much");
        assert_eq!(refused.reason(), "eraInsufficient");
        // Later the same holds: nine tenths of 21 wei, at 2,000 units each.
        desk.now += 1;
        let done = desk.ask(Ask::Offset(offset.clone())).expect("is paid");
        assert_eq!(
            (&done["charged"], &done["reimbursed"]),
            (&json!("36000"), &json!("18"))
        );
        let account = desk.account(party);
        assert_eq!(
            (&account["free"], &account["held"], &account["gas"]),
            (&json!("964000"), &json!("0"), &json!("18"))
        );
        desk.now += 1;
        let again = desk.ask(Ask::Offset(offset.clone())).expect("is known");
        assert_eq!(
            (&again["record"], &again["repeated"]),
            (&done["record"], &json!(true))
        );
        // Under that id nothing else is answered as if it were the same, and under another the receipt counts once.
        let other = desk.user("plaza", 11, 1_000_000);
        for different in [
            Offset {
                era_max: Amount(99_999),
                ..offset.clone()
            },
            Offset {
                party: other,
                ..offset.clone()
            },
            Offset {
                gas_used: 22,
                ..offset.clone()
            },
            Offset {
                id: EraId(9),
                ..offset
            },
        ] {
            let told = format!("{different:?}");
            let refused = desk.ask(Ask::Offset(different)).expect_err(&told);
            assert_eq!(refused.reason(), "eraConflict", "{told}");
        }
    }

    /// That somebody is known is said by who knows it, and by nothing else that is said.
    #[test]
    fn an_owner_is_verified_on_purpose_and_only_so() {
        let mut desk = Desk::new();
        let verified = |desk: &Desk| match &desk.era.keeper {
            crate::era::Keep::Sound(keeper) => keeper.ledger.is_verified(10),
            crate::era::Keep::Damaged(why) => panic!("{why}"),
        };
        let register = |tenant: &str, id: u128, verified| RegisterParty {
            id: EraId(id),
            verified,
            ..user(tenant, 10)
        };
        let first = register("exchange", 1, Some(true));
        let done = desk.ask(Ask::Register(first.clone())).expect("is taken");
        assert!(verified(&desk));
        let again = desk.ask(Ask::Register(first.clone())).expect("is known");
        assert_eq!(
            (&again["party"], &again["repeated"]),
            (&done["party"], &json!(true))
        );
        // The same id says the same, or it is another command.
        let before = desk.records();
        for other in [None, Some(false)] {
            let other = register("exchange", 1, other);
            let refused = desk.ask(Ask::Register(other)).expect_err("another");
            assert_eq!(refused.reason(), "eraConflict");
        }
        // Another party of the owner's, of which nothing is said, and one of which the contrary is.
        let refused = desk.ask(Ask::Register(register("plaza", 2, Some(false))));
        assert_eq!(refused.expect_err("is verified").reason(), "eraConflict");
        assert_eq!(desk.records(), before);
        desk.ask(Ask::Register(register("plaza", 2, None)))
            .expect("is taken");
        assert!(verified(&desk));
        let refused = desk.ask(Ask::Register(register("plaza", 2, Some(true))));
        assert_eq!(refused.expect_err("says more").reason(), "eraConflict");
        // What takes it back says so, and what gives it again.
        for (id, to) in [(3, false), (4, true)] {
            let verify = VerifyOwner {
                id: EraId(id),
                owner: 10,
                verified: to,
            };
            for repeated in [false, true] {
                let done = desk.ask(Ask::Verify(verify.clone())).expect("is taken");
                assert_eq!(done["repeated"], repeated);
                assert_eq!(verified(&desk), to);
            }
            let other = VerifyOwner {
                verified: !to,
                ..verify
            };
            let refused = desk.ask(Ask::Verify(other)).expect_err("another");
            assert_eq!(refused.reason(), "eraConflict");
        }
    }

    /// A key is registered once. A configuration that pays its rewards elsewhere, or to another's account, is not heard in silence.
    #[test]
    fn a_node_is_who_it_was_registered_as() {
        let mut desk = Desk::new();
        let mut opened = |owner, address| {
            let config = EraConfig {
                node_owner: owner,
                node_address: address,
                ..config()
            };
            Era::open(config, key(), &mut desk.database, NOW).map(|era| era.gauges().parties)
        };
        assert_eq!(opened(1, [1; 20]).expect("is the same"), 1);
        for (owner, address) in [(2, [1; 20]), (1, [2; 20])] {
            let error = opened(owner, address).expect_err("is another");
            assert!(matches!(error, OpenError::Node { party: 1, .. }));
            let said = error.to_string();
            let expected = format!(
                "expected node_owner = 1 and node_address = \"0x{}\"",
                "01".repeat(20)
            );
            assert!(said.contains(&expected), "{said}");
            let got = format!("got node_owner = {owner} and");
            assert!(said.contains(&got), "{said}");
        }
    }

    /// Of the box that proves for this one.
    fn lenders_secret() -> NodeKey {
        NodeKey::new(&Secret::from_bytes([8; 32]))
    }

    fn lenders_key() -> PublicKey {
        PublicKey(lenders_secret().public())
    }

    fn lender(id: u128) -> RegisterParty {
        RegisterParty {
            id: EraId(id),
            tenant: None,
            role: EraRole::Node,
            key: Some(lenders_key()),
            owner: 20,
            verified: None,
            address: Address([20; 20]),
        }
    }

    #[test]
    fn a_node_is_registered_by_its_key_and_a_tenant_by_its_name() {
        let mut desk = Desk::new();
        let done = desk.ask(Ask::Register(lender(1))).expect("is taken");
        let again = desk.ask(Ask::Register(lender(1))).expect("is known");
        assert_eq!(
            (&again["party"], &again["repeated"]),
            (&done["party"], &json!(true))
        );
        let second = desk.ask(Ask::Register(lender(2)));
        assert_eq!(second.expect_err("it is one").reason(), "eraConflict");
        // This box's own key is that of a party already.
        let mine = RegisterParty {
            key: Some(PublicKey(key().public())),
            ..lender(3)
        };
        let mine = desk.ask(Ask::Register(mine));
        assert_eq!(mine.expect_err("it is one").reason(), "eraConflict");
        for wrong in [
            RegisterParty {
                key: None,
                ..lender(4)
            },
            RegisterParty {
                tenant: Some("exchange".to_owned()),
                ..lender(4)
            },
            RegisterParty {
                tenant: None,
                ..user("exchange", 4)
            },
            RegisterParty {
                key: Some(lenders_key()),
                ..user("exchange", 4)
            },
        ] {
            let refused = desk.ask(Ask::Register(wrong));
            assert_eq!(refused.expect_err("a lack").reason(), "invalidParams");
        }
    }

    /// The box that proves earns, and only by its own word for just this proof of just this job. Whatever it says or does not say,
    /// who has asked for the proof pays for it once.
    #[test]
    fn a_box_that_proves_for_this_one_is_paid_here() {
        let mut theirs = Desk::of(lenders_secret());
        let mut desk = Desk::new();
        let fee = config().policy.price("financial").expect("a price").0.proof;
        let payer = desk.user("exchange", 10, 100 * fee);
        let work = Work {
            tenant: "exchange".parse().expect("a name"),
            scenario: "financial".to_owned(),
            end: None,
        };
        let ask = |job, lender| Ask::Bill {
            job: JobName(job),
            work: work.clone(),
            lender,
        };
        let bill = |desk: &mut Desk, job, lender| -> Option<Bill> {
            let said = desk.ask(ask(job, lender)).expect("an answer");
            serde_json::from_value(said["bill"].clone()).expect("a bill, or none")
        };
        let submitted = |desk: &mut Desk, job| {
            let work = work.clone();
            desk.done(|era, _| era.submitted(job, &work, NOW))
                .expect("is paid for");
        };
        submitted(&mut desk, 1);
        let name = lenders_key().name();
        assert_eq!(bill(&mut desk, 1, name), None, "it is nobody here");
        // What could not be written down has not happened.
        let group = desk.database.group().expect("begun");
        desk.era.begin();
        let asked = desk
            .era
            .ask(None, &Ask::Register(lender(1)), &group, NOW)
            .map(drop);
        asked.expect("is taken");
        desk.era.forget();
        drop(group);
        let looked = desk.era.refresh(&mut desk.database, NOW);
        looked.expect("the journal says so too");
        assert_eq!(bill(&mut desk, 1, name), None, "it is nobody here");
        let done = desk.ask(Ask::Register(lender(1))).expect("is taken");
        let node = serde_json::from_value(done["party"].clone()).expect("a number");
        assert_eq!(bill(&mut desk, 2, name), None, "nothing is held for it");
        let own = PublicKey(key().public()).name();
        assert_eq!(bill(&mut desk, 1, own), None, "it says so itself");
        let due = bill(&mut desk, 1, name).expect("it earns something");
        assert_eq!((due.node, due.fee), (node, Amount(fee)));

        let first = due;
        type Says = Box<dyn Fn(Bill) -> Option<(Bill, [u8; 32])>>;
        let right = [5; 32];
        let cases: [(&str, Says); 8] = [
            ("right", Box::new(move |due| Some((due, right)))),
            ("silence", Box::new(|_| None)),
            ("another job", Box::new(move |_| Some((first, right)))),
            ("another proof", Box::new(|due| Some((due, [6; 32])))),
            (
                "another fee",
                Box::new(move |due| {
                    let fee = Amount(due.fee.0 + 1);
                    Some((Bill { fee, ..due }, right))
                }),
            ),
            (
                "another class",
                Box::new(move |due| {
                    let class = due.class + 1;
                    Some((Bill { class, ..due }, right))
                }),
            ),
            (
                "another party",
                Box::new(move |due| {
                    let node = payer;
                    Some((Bill { node, ..due }, right))
                }),
            ),
            (
                "this box",
                Box::new(move |due| Some((Bill { node: 1, ..due }, right))),
            ),
        ];
        let mut paid = 0;
        for (job, (what, says)) in (1..).zip(cases) {
            if job > 1 {
                submitted(&mut desk, job);
            }
            let due = bill(&mut desk, job, name).expect("it earns something");
            let metered: Option<Metered> = says(due).map(|(bill, proof)| {
                // What this box signs itself is right in all else.
                let signer = match what {
                    "this box" => &mut desk,
                    _ => &mut theirs,
                };
                let said = signer.ask(Ask::Meter { bill, proof }).expect("it signs");
                serde_json::from_value(said["metered"].clone()).expect("a signature")
            });
            let proof = right;
            let end = Some(WorkEnd::Elsewhere { proof, metered });
            let ended = Work {
                end,
                ..work.clone()
            };
            // Written once more, it is not charged once more.
            for _ in 0..2 {
                desk.done(|era, _| era.ended(job, &ended, NOW));
            }
            paid += u64::from(what == "right");
            assert_eq!(desk.era.gauges().events, [0, 0, 0, 0, paid], "{what}");
            let account = desk.account(payer);
            let left = (100 - u128::from(job)) * fee;
            assert_eq!(
                (&account["free"], &account["held"]),
                (&json!(left.to_string()), &json!("0")),
                "{what}"
            );
        }
        // The epoch pays it, and this box, which has proved nothing, not.
        desk.now += config().policy.epoch.length_s;
        let now = desk.now;
        desk.done(|era, group| era.close_due(group, now))
            .expect("is read");
        let payouts = |desk: &mut Desk, party| {
            let account = desk.account(party);
            account["payouts"].as_array().expect("a list").len()
        };
        assert_eq!((payouts(&mut desk, node), payouts(&mut desk, 1)), (1, 0));
        // Who reads the journal finds the same.
        let again = Era::open(config(), key(), &mut desk.database, desk.now).expect("is read");
        assert_eq!(again.gauges().damaged, None);
        desk.era = again;
        submitted(&mut desk, 9);
        let due = bill(&mut desk, 9, name).expect("it is known");
        assert_eq!(due.node, node);
    }

    /// By the files that are shipped: a tenant of light interaction that has gone quiet is paid for what it gave back, in each epoch for
    /// its part of it, until it takes it again.
    #[test]
    fn a_quiet_tenant_is_paid_for_its_storage_by_the_files_that_are_shipped() {
        let classes = file::parse(include_str!("../../../policy.toml")).expect("is shipped");
        let era = config().policy;
        let gives = classes.classes().iter().filter_map(|class| {
            let give_back = class.give_back?;
            Some((class.name.clone(), give_back.quiet.as_millis()))
        });
        let gives: Vec<_> = gives.collect();
        assert_eq!(gives.len(), 2, "retail and social");
        for (scenario, quiet_ms) in gives {
            let (price, class) = era.price(&scenario).expect("has a price");
            assert_eq!(class.name, "light");
            let fee = price.proof;
            let mut desk = Desk::new();
            let party = desk.user("plaza", 10, 10 * fee);
            let tenant: TenantName = "plaza".parse().expect("a name");
            // A proof, in the first epoch.
            let mut work = Work {
                tenant: tenant.clone(),
                scenario: scenario.clone(),
                end: None,
            };
            desk.done(|era, _| era.submitted(1, &work, NOW))
                .expect("is paid for");
            work.end = Some(WorkEnd::Proved([5; 32]));
            desk.done(|era, _| era.ended(1, &work, NOW));
            let close = |desk: &mut Desk| {
                desk.now += era.epoch.length_s;
                let now = desk.now;
                desk.done(|era, group| era.close_due(group, now))
                    .expect("is read");
                let account = desk.account(party);
                let payouts = account["payouts"].as_array().expect("a list").clone();
                let open = desk.era.gauges().epoch;
                let newest = payouts.iter().find(|it| it["epoch"] == open - 1);
                newest.map(|it| it["amount"].as_str().expect("units").to_owned())
            };
            assert!(close(&mut desk).is_some(), "the user's part of the epoch");
            // It gives a MiB back as soon as the class says that it is quiet.
            let quiet_since_ms = desk.now * 1000;
            let at_ms = quiet_since_ms + quiet_ms;
            let bytes = 1 << 20;
            let row = ReleaseRow {
                id: 0,
                tenant: tenant.clone(),
                class: scenario.clone(),
                at_ms,
                quiet_since_ms,
                held: bytes,
                tables: 0,
                keys: 0,
                blobs: bytes,
                short: 0,
                short_reason: None,
                taken_again_ms: None,
            };
            desk.database.insert_release(&row).expect("room");
            let units = |seconds: u64| {
                let all = u128::from(bytes) * u128::from(seconds) * era.storage.price_gib_hour;
                let most = fee * u128::from(era.ceilings.storage) / 10_000;
                let units = all / (3_600 << 30);
                assert!(0 < units && units < most, "{units} of {most}");
                units.to_string()
            };
            let rest = era.epoch.length_s - quiet_ms / 1000;
            assert_eq!(close(&mut desk), Some(units(rest)), "{scenario}");
            assert_eq!(close(&mut desk), Some(units(era.epoch.length_s)));
            // It takes it again, in the middle of an epoch.
            let (now, again) = (desk.now + 1_000, (desk.now + 1_000) * 1000);
            desk.done(|era, group| {
                let closed = group.close_release(&tenant, again).expect("room");
                era.taken_again(&closed.expect("is open"), now);
            });
            assert_eq!(close(&mut desk), Some(units(1_000)));
            assert_eq!(close(&mut desk), None);
            assert_eq!(desk.era.gauges().events, [1, 0, 3, 0, 0]);
            // The operator's word for it closes as the clock does.
            desk.database.insert_release(&row).expect("room");
            desk.now += era.epoch.length_s;
            let early = desk.ask(Ask::Close(CloseEpoch { epoch: 6 }));
            assert_eq!(early.expect_err("is not open").reason(), "eraEpochNotOver");
            desk.ask(Ask::Close(CloseEpoch { epoch: 5 }))
                .expect("is over");
            assert_eq!(desk.era.gauges().events, [1, 0, 4, 0, 0]);
            // What was written down comes to the same.
            let again = Era::open(config(), key(), &mut desk.database, desk.now);
            let (again, here) = (again.expect("is sound").gauges(), desk.era.gauges());
            assert_eq!((again.damaged, again.house), (None, here.house));
        }
    }

    /// Whoever looks for an old epoch finds it, page by page.
    #[test]
    fn all_epochs_that_were_closed_can_be_seen() {
        let mut desk = Desk::new();
        for _ in 0..70 {
            desk.now += 3_600;
            let now = desk.now;
            desk.done(|era, group| era.close_due(group, now))
                .expect("is read");
        }
        let mut page = |before| {
            let all = desk.ask(Ask::Epoch { before }).expect("is open");
            assert_eq!(all["open"], 70);
            let closed = all["closed"].as_array().expect("a list").iter();
            let numbers = closed.map(|it| it["epoch"].as_u64().expect("a number"));
            numbers.collect::<Vec<_>>()
        };
        assert_eq!(page(None), (6..70).collect::<Vec<_>>());
        assert_eq!(page(Some(6)), (0..6).collect::<Vec<_>>());
        assert_eq!(page(Some(0)), [0_u64; 0]);
        assert_eq!(page(Some(71)), page(None));
    }

    const NOW: u64 = 1_800_000_000;
}
