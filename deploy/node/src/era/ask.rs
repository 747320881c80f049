//! What can be asked of the ledger over the wire, and who may ask it.
//!
//! A tenant sees the parties that it is and commands for them; of all others the answer is the one that would be given if
//! they did not exist. The operator sees everything, and commands for parties that are no tenant's: the box's own
//! node. What only the operator may ask at all is held before (`service`).

use caldera_rpc::era::{
    AccountQuery, Adopt, Claim, ClawBack, CloseEpoch, EraAsset, EraLeg, EraReceipt, EraRole,
    ExplainQuery, Offset, RegisterParty, Settle, Stake, StatementQuery, Transfer, Unstake,
};
use caldera_rpc::error::{EraFault, RpcError};
use caldera_rpc::methods::Digest;
use caldera_scheduler::ledger::command::{Id, Leg, Party, Role, event_id};
use caldera_scheduler::ledger::{Account, Answer, Asset, Command, Outcome, Policy, Record};
use caldera_store::TenantName;
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
    /// Answers a question of a tenant, or of the operator.
    pub fn ask(
        &mut self,
        caller: Option<&TenantName>,
        ask: &Ask,
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
            Ask::ClawBack(it) => done(keeper.claw_back(it, now)),
            Ask::Close(it) => {
                let epoch = it.epoch;
                done(keeper.command(0, Command::Close { epoch }, now))
            }
            Ask::Settle(it) => {
                let epoch = it.epoch;
                done(keeper.command(it.id.0, Command::Settle { epoch }, now))
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
        let id = named(caller, it.id.0);
        let command = match (it.up_to, it.stake, it.unbonding) {
            (up_to, None, None) => Command::Claim {
                party: it.party,
                up_to: up_to.unwrap_or(u32::MAX),
            },
            (None, Some(stake), None) => {
                let own = self.ledger.stakes(it.party);
                self.own(id, stake.0, "stake", &own)?;
                Command::Harvest { stake: stake.0 }
            }
            (None, None, Some(unbonding)) => {
                let own = self.ledger.unbondings(it.party);
                self.own(id, unbonding.0, "unbonding", &own)?;
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
        self.command(id, command, now)
    }

    fn stake(
        &mut self,
        caller: Option<&TenantName>,
        it: &Stake,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        self.commanded(caller, it.party)?;
        let id = named(caller, it.id.0);
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
        self.command(id, command, now)
    }

    fn unstake(
        &mut self,
        caller: Option<&TenantName>,
        it: &Unstake,
        now: u64,
    ) -> Result<EraReceipt, RpcError> {
        self.commanded(caller, it.party)?;
        let id = named(caller, it.id.0);
        let own = self.ledger.stakes(it.party);
        self.own(id, it.stake.0, "stake", &own)?;
        let command = Command::Unstake {
            stake: it.stake.0,
            amount: it.amount.0,
        };
        self.command(id, command, now)
    }

    /// Reserves what a transaction may cost in ERA, and reimburses its gas from that; or neither.
    fn offset(&mut self, it: &Offset, now: u64) -> Result<EraReceipt, RpcError> {
        // The hold has the id that was given, and what is done with it one that follows from it.
        let (hold, id) = (it.id.0, follow(it.id.0, b"caldera offset"));
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
            let back = follow(it.id.0, b"caldera refund");
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
        let done = self.command(it.id.0, register, now)?;
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
            self.command(follow(it.id.0, b"caldera verify"), verify, now)?;
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
        self.command(it.id.0, Command::Transfer { legs }, now)
    }

    fn adopt(&mut self, it: &Adopt, now: u64) -> Result<EraReceipt, RpcError> {
        let policy = Policy::parse(&it.policy).map_err(|error| RpcError::Era {
            fault: EraFault::Policy,
            detail: error.to_string(),
        })?;
        let epoch = it.epoch;
        self.command(it.id.0, Command::Adopt { epoch, policy }, now)
    }

    /// Takes a payout back, for an event of its epoch that should not have been paid. The record has the digest of why.
    fn claw_back(&mut self, it: &ClawBack, now: u64) -> Result<EraReceipt, RpcError> {
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
        let event = self.ledger.record_of(event_id(it.node, it.sequence));
        let event = event.ok_or_else(|| RpcError::Era {
            fault: EraFault::Unknown,
            detail: format!("there is no event {} of node {}", it.sequence, it.node),
        })?;
        let epoch = usize::try_from(it.epoch).ok();
        if let Some((_, close)) = epoch.and_then(|epoch| self.closed.get(epoch))
            && !(close.first..=close.last).contains(&event)
        {
            let (first, last) = (close.first, close.last);
            return Err(RpcError::Era {
                fault: EraFault::Unknown,
                detail: format!(
                    "the event is in record {event}, and epoch {} has {first} to {last}",
                    it.epoch
                ),
            });
        }
        let command = Command::ClawBack {
            party: it.party,
            epoch: it.epoch,
            reason,
        };
        let done = self.command(it.id.0, command, now)?;
        Ok(EraReceipt {
            reason: Some(Digest(reason)),
            ..done
        })
    }

    /// Whether a thing is among those of a party. A command that was executed before may be about one that has gone.
    fn own(
        &self,
        command: Id,
        id: Id,
        what: &'static str,
        own: &[(Id, u128, u64)],
    ) -> Result<(), RpcError> {
        match own.iter().any(|(it, ..)| *it == id) || self.ledger.knows(command) {
            true => Ok(()),
            false => Err(gone(what, id)),
        }
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

/// The id of a tenant's command in the ledger: one of the tenant's own, whatever it has chosen. The box makes ids too, by rules
/// that anybody can follow: nobody shall use them up before it does.
fn named(caller: Option<&TenantName>, id: Id) -> Id {
    match caller {
        Some(tenant) => follow(id, format!("caldera command of {tenant}").as_bytes()),
        None => id,
    }
}

/// The id of a command that comes with another.
fn follow(id: Id, domain: &[u8]) -> Id {
    let [high, low] = [(id >> 64) as u64, id as u64];
    id_of(&[domain, high.to_be_bytes().as_slice()].concat(), low)
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
