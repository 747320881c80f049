//! ERA: who has what, who earned what, and why; exact, and for anyone to check.
//!
//! A command and the time go in; a [`Record`] comes out, or an error and nothing has changed.
//! Records carry the digest of the one before, and all that the ledger knows is what they say when
//! they are executed again from nothing ([`journal`]). No files, no clock, no sockets: who keeps the
//! records, and when they are safe on a disk, is not decided here, and a simulation of a year is
//! the same code. docs/ledger.md has the rules, precise enough to write them a second time.
//!
//! The ledger's shape is TigerBeetle's (immutable transfers with an id of the client's, linked legs,
//! two phases); what it pays for, and what it refuses to be fooled by, is this project's.
//!
//! | file | subject |
//! |---|---|
//! | `command` | what can be asked, as data with one encoding |
//! | `policy` | what is paid for what, and why that cannot be more than there is |
//! | `state` | balances and rows; money moves by one function |
//! | `hold` | reserve, then charge or refund; gas |
//! | `meter` | what nodes did, and what of it earns |
//! | `epoch` | closes, claims, settlement |
//! | `stake` | what stakes earn |
//! | `merkle` | the tree that a contract can check |
//! | `journal` | records as bytes; replay and audit |
//! | `statement` | what happened to one party, and why a payout is what it is |
//! | `retention` | who comes back from month to month |
//! | `undo` | what a group of commands has changed, taken back |
//! | `table`, `encoding`, `wide` | rows with a running hash, bytes, products of 256 bits |

use std::borrow::Borrow;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

pub mod command;
mod encoding;
mod epoch;
mod error;
mod hold;
pub mod journal;
pub mod merkle;
mod meter;
pub mod policy;
pub mod retention;
mod stake;
mod state;
pub mod statement;
mod table;
mod undo;
mod wide;

pub use command::{Account, Asset, Command, Event, Outcome};
pub use encoding::Malformed;
pub use epoch::{Counted, Portion, Stream};
pub use error::Error;
pub use journal::{Head, Record};
pub use policy::Policy;

use command::{Cause, Deed, EpochNumber, Hash, Id, Party, Role, close_id, short};
use journal::Draft;
use state::{Hold, PartyRow, State};

/// Most units of an asset that exist at a time: 79 thousand million tokens of 18 decimals. Times
/// two coefficients it still fits into 128 bits.
pub const SUPPLY_MAX: u128 = 1 << 96;
/// What the limit of all stakes together is called when it is met ([`Error::Limit`]).
pub const ALL_STAKES: &str = "all stakes";
/// Most legs of a transfer.
pub const LEGS_MAX: usize = 16;
/// The longest signature.
pub const SIGNATURE_MAX: usize = 128;

/// Whether a signature (third) of a message (second) is that of the owner of a key (first).
pub type Verify = fn(&Hash, &[u8], &[u8]) -> bool;

/// Who has seen to it that events are signed.
///
/// The ledger knows no curve. It is given a function and not a trait, for there is nothing to hold: a
/// signature is right or it is not.
#[derive(Debug, Clone, Copy)]
pub enum Signatures {
    /// This function does.
    Verify(Verify),
    /// It was done before: these are records of the owner's own journal, and their chain is held.
    Checked,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was executed, and this is to be kept.
    New(Record),
    /// It had been executed before, by the record of this number. Nothing has changed.
    Before {
        /// Its number.
        sequence: u64,
    },
}

/// What [`Ledger::perform`] has found.
enum Performed {
    New(Executed),
    Before { sequence: u64 },
}

/// A command that was executed, with all of its record but the digest.
struct Executed {
    id: Id,
    /// 16 bytes of the body's digest.
    body: u128,
    at: u64,
    outcome: Outcome,
    bytes: Vec<u8>,
}

/// The ledger.
#[derive(Debug, Clone)]
pub struct Ledger {
    signatures: Signatures,
    head: Head,
    /// What every id was used for: 16 bytes of the body's digest, and the record.
    seen: HashMap<Id, (u128, u64)>,
    state: Option<State>,
    /// To where it can be taken back.
    mark: Option<Box<Mark>>,
}

/// What a ledger was, beside what its tables know themselves.
#[derive(Debug, Clone)]
struct Mark {
    head: Head,
    /// Ids that were used since.
    used: Vec<Id>,
    state: Option<state::Before>,
}

/// What is known of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PartyView {
    pub role: Role,
    pub owner: command::Owner,
    pub address: command::Address,
    pub key: Hash,
    pub order: bool,
    pub free: u128,
    pub held: u128,
    pub staked: u128,
    pub unbonding: u128,
    pub free_gas: u128,
    /// Paid by epochs and not claimed.
    pub payable: u128,
}

impl Ledger {
    /// A ledger without any record.
    pub fn new(signatures: Signatures) -> Ledger {
        Ledger {
            signatures,
            head: Head::default(),
            seen: HashMap::new(),
            state: None,
            mark: None,
        }
    }

    /// The same ledger, which from now on sees to signatures in this way.
    #[must_use]
    pub fn with(mut self, signatures: Signatures) -> Ledger {
        self.signatures = signatures;
        self
    }

    /// Executes a command. An event's and a close's id are made of what they are about, and are
    /// taken from there (see [`Ledger::meter`] and [`Ledger::close`]).
    pub fn execute(
        &mut self,
        id: Id,
        command: impl Borrow<Command>,
        now: u64,
    ) -> Result<Answer, Error> {
        match self.perform(id, command.borrow(), now)? {
            Performed::Before { sequence } => Ok(Answer::Before { sequence }),
            Performed::New(executed) => {
                let digest = Sha256::digest(&executed.bytes).into();
                let sequence = self.keep(&executed, digest);
                let Executed {
                    at,
                    outcome,
                    mut bytes,
                    ..
                } = executed;
                bytes.extend_from_slice(&digest);
                Ok(Answer::New(Record {
                    sequence,
                    at,
                    digest,
                    outcome,
                    bytes,
                }))
            }
        }
    }

    /// Executes a command up to the digest of its record, which [`Ledger::keep`] is then to be given before anything
    /// else is asked. Whoever has the record already need not make the digest again.
    fn perform(&mut self, id: Id, command: &Command, now: u64) -> Result<Performed, Error> {
        let id = match command {
            Command::Meter { event, .. } => event.id(),
            Command::Close { epoch } => close_id(*epoch),
            _ => id,
        };
        // Before it is encoded, for an encoding has room for so much and no more.
        check_lengths(command)?;
        let now = self.state.as_ref().map_or(now, |state| now.max(state.now));
        let draft = Draft::new(&self.head, now, id, command);
        let body = short(Sha256::new_with_prefix(draft.body()));
        if let Some(&(before, sequence)) = self.seen.get(&id) {
            return match before == body {
                true => Ok(Performed::Before { sequence }),
                false => Err(Error::Conflict { id, sequence }),
            };
        }
        let outcome = self.apply(id, command, now)?;
        Ok(Performed::New(Executed {
            id,
            body,
            at: now,
            bytes: draft.finished(&outcome),
            outcome,
        }))
    }

    /// Takes the record of what was just executed as the newest; its number.
    fn keep(&mut self, executed: &Executed, digest: Hash) -> u64 {
        let sequence = self.head.records;
        let before = self.seen.insert(executed.id, (executed.body, sequence));
        assert!(before.is_none(), "was looked for when it was executed");
        if let Some(mark) = &mut self.mark {
            mark.used.push(executed.id);
        }
        self.head = Head {
            records: sequence + 1,
            digest,
        };
        sequence
    }

    /// Sets a mark: what is executed from now on can be taken back by [`Ledger::undo`], for as much as it has changed. What was
    /// executed before stays, whatever marks there were.
    pub fn mark(&mut self) {
        self.mark = Some(Box::new(Mark {
            head: self.head,
            used: Vec::new(),
            state: self.state.as_mut().map(State::mark),
        }));
    }

    /// What was executed since the mark stays, and there is no mark any more.
    pub fn confirm(&mut self) {
        self.mark = None;
        if let Some(state) = &mut self.state {
            state.confirm();
        }
    }

    /// Takes back what was executed since the mark, and the mark with it; without one nothing. What it costs depends on what
    /// has changed and not on what there is.
    pub fn undo(&mut self) {
        let Some(mark) = self.mark.take() else {
            return;
        };
        let Mark { head, used, state } = *mark;
        self.head = head;
        for id in used {
            self.seen.remove(&id);
        }
        match (&mut self.state, state) {
            (Some(state), Some(before)) => state.undo(before),
            // It was opened since.
            (state, _) => *state = None,
        }
    }

    /// Takes what a node says that it did.
    pub fn meter(&mut self, event: Event, signature: Vec<u8>, now: u64) -> Result<Answer, Error> {
        self.execute(0, Command::Meter { event, signature }, now)
    }

    /// Closes an epoch.
    pub fn close(&mut self, epoch: EpochNumber, now: u64) -> Result<Answer, Error> {
        self.execute(0, Command::Close { epoch }, now)
    }

    fn apply(&mut self, id: Id, command: &Command, now: u64) -> Result<Outcome, Error> {
        let Head { records, digest } = self.head;
        if let Command::Open { policy } = command {
            if self.state.is_some() {
                return Err(Error::AlreadyOpen);
            }
            self.state = Some(State::open(policy.clone(), now, records));
            return Ok(Outcome::Done {});
        }
        let signatures = self.signatures;
        let seen = &self.seen;
        let state = self.state.as_mut().ok_or(Error::NotOpen)?;
        // One that is not there any more was there if its id was used.
        let gone = |what, id: Id| match seen.contains_key(&id) {
            true => Error::Resolved { what, id },
            false => Error::Unknown { what, id },
        };
        let hold = |state: &State, id| state.holds.find(id).cloned().ok_or(gone("hold", id));
        let mut outcome = Outcome::Done {};
        match command {
            Command::Open { .. } => unreachable!("is handled above"),
            Command::Adopt { epoch, policy } => {
                let open = state.epoch.number;
                if *epoch <= open {
                    return Err(Error::ClosedEpoch { got: *epoch, open });
                }
                drop(state.upcoming.split_off(epoch));
                state.upcoming.insert(*epoch, policy.clone());
            }
            &Command::Register {
                party,
                role,
                owner,
                address,
                key,
            } => {
                if state.parties.find(party).is_some() {
                    return Err(Error::PartyExists { party });
                }
                if (role == Role::Node) != (key != [0; 32]) {
                    return Err(Error::Key);
                }
                state
                    .parties
                    .insert(party, PartyRow::new(role, owner, address, key));
            }
            &Command::Verify { owner, verified } => state.owner(owner).verified = verified,
            Command::Transfer { legs } => state.transfer(legs)?,
            &Command::Reserve {
                party,
                amount,
                expires,
            } => state.reserve(id, party, amount, expires, now)?,
            &Command::Charge { hold: held, amount } => {
                state.chargeable(&hold(state, held)?, amount, now)?;
                state.resolve(held, Account::Fees, amount);
            }
            &Command::Refund { hold: held } => {
                hold(state, held)?;
                state.resolve(held, Account::Fees, 0);
            }
            Command::Meter { event, signature } => {
                let node = event.node;
                let row = state.party(node)?;
                let owner = row.owner;
                meter::require(row, node, Role::Node)?;
                if let Signatures::Verify(verify) = signatures
                    && !verify(&row.key, &event.signed_bytes(), signature)
                {
                    return Err(Error::Signature { node });
                }
                let held: Option<Hold> = event.hold().map(|id| hold(state, id)).transpose()?;
                state.meter(event, owner, held, now)?;
            }
            &Command::OffsetGas {
                hold: held,
                receipt,
                gas_used,
                price,
            } => {
                let found = hold(state, held)?;
                outcome = state.offset_gas((held, found), receipt, (gas_used, price), now)?;
            }
            &Command::Stake { party, amount } => state.stake(id, party, amount, now)?,
            &Command::Unstake { stake, amount } => {
                state
                    .stakes
                    .find(stake)
                    .ok_or_else(|| gone("stake", stake))?;
                outcome = state.unstake(id, stake, amount, now)?;
            }
            &Command::Withdraw { unbonding } => {
                let found = state.unbondings.find(unbonding);
                found.ok_or_else(|| gone("unbonding", unbonding))?;
                outcome = state.withdraw(unbonding, now)?;
            }
            &Command::Harvest { stake } => {
                state
                    .stakes
                    .find(stake)
                    .ok_or_else(|| gone("stake", stake))?;
                outcome = state.harvest(stake)?;
            }
            &Command::Order { party, on } => {
                let row = state
                    .parties
                    .edit(party)
                    .ok_or(Error::UnknownParty { party })?;
                row.order = on;
            }
            &Command::Close { epoch } => outcome = state.close(epoch, now, records, &digest)?,
            &Command::Claim { party, up_to } => outcome = state.claim(party, up_to, now)?,
            &Command::ClawBack { party, epoch, .. } => {
                outcome = state.claw_back(party, epoch, now)?
            }
            &Command::Settle { epoch } => outcome = state.settle(epoch, now)?,
        }
        state.now = now;
        Ok(outcome)
    }

    /// How many records there are, and the digest of the last.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The time of the newest record; 0 before the first.
    pub fn now(&self) -> u64 {
        self.state.as_ref().map_or(0, |state| state.now)
    }

    /// What an account has. Of `Outside` and `Issuance` it is negative by what came in, so that the
    /// balances of an asset have the sum 0.
    pub fn balance(&self, asset: Asset, account: Account) -> Result<i128, Error> {
        let balance = self.opened()?.balance(asset, account)?;
        // Two's complement, and no more than the supply of 2^96 in either direction.
        let balance = balance.cast_signed();
        Ok(if state::is_debit(account) {
            -balance
        } else {
            balance
        })
    }

    /// The sum of all balances of an asset: zero, always. Looks at every party.
    pub fn sum(&self, asset: Asset) -> Result<i128, Error> {
        let house = Account::HOUSE.iter().copied();
        let parties = self.opened()?.parties.iter().map(|(party, _)| party);
        let purses = parties.flat_map(Account::purses);
        house
            .chain(purses)
            .map(|account| self.balance(asset, account))
            .sum()
    }

    /// What is known of a party.
    pub fn party(&self, party: Party) -> Result<PartyView, Error> {
        let state = self.opened()?;
        let row = state.party(party)?;
        let payable = state
            .payouts_of(party)
            .map(|(_, payout)| payout.amount)
            .sum();
        Ok(PartyView {
            role: row.role,
            owner: row.owner,
            address: row.address,
            key: row.key,
            order: row.order,
            free: row.free,
            held: row.held,
            staked: row.staked,
            unbonding: row.unbonding,
            free_gas: row.free_gas,
            payable,
        })
    }

    /// All parties, in order.
    pub fn parties(&self) -> impl Iterator<Item = Party> {
        let parties = self.state.iter().flat_map(|state| state.parties.iter());
        parties.map(|(party, _)| party)
    }

    /// The open epoch, and when it can be closed.
    pub fn epoch(&self) -> Result<(EpochNumber, u64), Error> {
        let state = self.opened()?;
        Ok((state.epoch.number, state.closes()))
    }

    /// When the open epoch was opened.
    pub fn opened_at(&self) -> Result<u64, Error> {
        Ok(self.opened()?.epoch.opened)
    }

    /// The policy of the open epoch.
    pub fn policy(&self) -> Result<&Policy, Error> {
        Ok(&self.opened()?.policy)
    }

    /// A hold: whose, how much, and from when on it pays nothing.
    pub fn hold(&self, id: Id) -> Option<(Party, u128, u64)> {
        let hold = self.state.as_ref()?.holds.find(id)?;
        Some((hold.party, hold.amount, hold.expires))
    }

    /// Whether an id is that of a command that was executed.
    pub fn knows(&self, id: Id) -> bool {
        self.seen.contains_key(&id)
    }

    /// The number of the record of the command that had an id.
    pub fn record_of(&self, id: Id) -> Option<u64> {
        self.seen.get(&id).map(|&(_, sequence)| sequence)
    }

    /// Whether an id was used for exactly this command.
    pub fn repeats(&self, id: Id, command: &Command) -> bool {
        let body = || {
            let draft = Draft::new(&Head::default(), 0, id, command);
            short(Sha256::new_with_prefix(draft.body()))
        };
        self.seen
            .get(&id)
            .is_some_and(|&(before, _)| check_lengths(command).is_ok() && before == body())
    }

    /// What a hold of so much could pay of the gas of a transaction, if it were made and charged now: ERA, and the wei for it. Refused
    /// for what `OffsetGas` would be refused for.
    pub fn offset(
        &self,
        era_max: u128,
        receipt: Hash,
        gas: (u64, u128),
    ) -> Result<(u128, u128), Error> {
        self.opened()?.reckon_gas(era_max, receipt, gas)
    }

    /// Whether it is known who an owner is.
    pub fn is_verified(&self, owner: command::Owner) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.is_verified(owner))
    }

    /// A party's stakes: id, amount, until when it is locked. Looks at all stakes.
    pub fn stakes(&self, party: Party) -> Vec<(Id, u128, u64)> {
        let stakes = self.state.iter().flat_map(|state| state.stakes.iter());
        let own = stakes.filter(|(_, stake)| stake.party == party);
        own.map(|(id, stake)| (id, stake.amount, stake.locked_until))
            .collect()
    }

    /// What a party has ended and not taken: id, amount, when it is due. Looks at all of them.
    pub fn unbondings(&self, party: Party) -> Vec<(Id, u128, u64)> {
        let all = self.state.iter().flat_map(|state| state.unbondings.iter());
        let own = all.filter(|(_, unbonding)| unbonding.party == party);
        own.map(|(id, unbonding)| (id, unbonding.amount, unbonding.due))
            .collect()
    }

    /// What a party has not claimed: epoch, amount, when it matures.
    pub fn payouts(&self, party: Party) -> Result<Vec<(EpochNumber, u128, u64)>, Error> {
        let payouts = self.opened()?.payouts_of(party);
        Ok(payouts
            .map(|((_, epoch), payout)| (epoch, payout.amount, payout.matures))
            .collect())
    }

    /// What of a stake can be harvested, in whole units.
    pub fn earned(&self, stake: Id) -> Result<u128, Error> {
        let state = self.opened()?;
        let row = state.stakes.find(stake).ok_or(Error::Unknown {
            what: "stake",
            id: stake,
        })?;
        Ok(state.earned(row).0)
    }

    /// What one staked unit has earned since the beginning, times 2^64; it never falls.
    pub fn accumulator(&self) -> Result<u128, Error> {
        Ok(self.opened()?.staking.acc)
    }

    /// Whom an event has earned something by this policy, if it was counted while that held; of a job with who had paid for it.
    pub fn earners(&self, event: &Event, payer: Option<Party>, policy: &Policy) -> Vec<Party> {
        let owner = |party: Party| self.party(party).ok().map(|view| view.owner);
        match (&event.what, payer) {
            (
                &(Deed::Proof { developer, fee, .. } | Deed::Reuse { developer, fee, .. }),
                Some(payer),
            ) => {
                let paid = owner(payer);
                if fee < policy.fees.min || owner(event.node) == paid {
                    return Vec::new();
                }
                match developer {
                    Some(developer) if owner(developer) == paid => vec![event.node],
                    developer => [event.node, payer].into_iter().chain(developer).collect(),
                }
            }
            (&Deed::Release { party, held_s, .. }, _)
                if owner(party) != owner(event.node) && held_s >= policy.storage.age_min_s =>
            {
                vec![party]
            }
            _ => Vec::new(),
        }
    }

    /// A developer's scenarios of the last month.
    pub fn scenarios(&self, developer: Party) -> Result<u32, Error> {
        let state = self.opened()?;
        Ok(state.scenarios_of(developer, state.now))
    }

    /// The place of a party's payout among those leaves.
    pub fn leaf(&self, epoch: EpochNumber, party: Party) -> Option<usize> {
        let state = self.state.as_ref()?;
        let parties = state.parties.iter().map(|(party, _)| party);
        let paid = |party: &Party| state.payouts.find((*party, epoch)).is_some();
        parties.filter(paid).position(|paid| paid == party)
    }

    /// What is still to be claimed of a closed epoch, as leaves of a tree: before `Settle` what it will
    /// put there.
    pub fn leaves(&self, epoch: EpochNumber) -> Result<Vec<merkle::Leaf>, Error> {
        Ok(self.opened()?.leaves_of(epoch))
    }

    /// How the open epoch would be divided if it were closed now: nodes, developers, users, storage.
    pub fn streams(&self, now: u64) -> Result<[Stream; 4], Error> {
        let state = self.opened()?;
        Ok(state.reckon(now.max(state.now)).streams)
    }

    /// The hash of the state: rows that have changed since the last time are hashed now.
    pub fn state_hash(&mut self) -> Result<Hash, Error> {
        let digest = self.head.digest;
        let state = self.state.as_mut().ok_or(Error::NotOpen)?;
        Ok(state.hash(&digest))
    }

    fn opened(&self) -> Result<&State, Error> {
        self.state.as_ref().ok_or(Error::NotOpen)
    }
}

/// Whether the lists of a command are as short as they may be.
fn check_lengths(command: &Command) -> Result<(), Error> {
    let (what, expected, got) = match command {
        Command::Transfer { legs } => ("legs", LEGS_MAX, legs.len()),
        Command::Meter { signature, .. } => {
            ("bytes of a signature", SIGNATURE_MAX, signature.len())
        }
        _ => return Ok(()),
    };
    match got <= expected {
        true => Ok(()),
        false => Err(Error::Limit {
            what,
            expected: expected as u128,
            got: got as u128,
        }),
    }
}

impl Event {
    /// The hold that it is about, if it is about a job.
    pub fn hold(&self) -> Option<Id> {
        match self.what {
            Deed::Proof { hold, .. } | Deed::Reuse { hold, .. } => Some(hold),
            Deed::Failure {
                hold,
                cause: Cause::Node | Cause::Input,
            } => Some(hold),
            Deed::Release { .. } => None,
        }
    }
}

impl Account {
    /// Those that are nobody's.
    pub const HOUSE: [Account; 11] = [
        Account::Outside,
        Account::Issuance,
        Account::Budget,
        Account::Fees,
        Account::Treasury,
        Account::StakingPool,
        Account::StakeRewards,
        Account::StorageFund,
        Account::Payable,
        Account::Dust,
        Account::GasFloat,
    ];

    /// Those of a party.
    pub fn purses(party: Party) -> [Account; 4] {
        [
            Account::Free { party },
            Account::Held { party },
            Account::Staked { party },
            Account::Unbonding { party },
        ]
    }
}
