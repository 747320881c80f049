//! What the records add up to: balances, and what else decides what may happen next.
//!
//! Money moves by [`State::shift`] and nothing else: from one account to another, so that of each asset
//! the sum never changes. Everything that is asked about by key is a row of a [`Table`], and so
//! part of the hash of the state.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::SUPPLY_MAX;
use super::command::{
    Account, Address, Asset, ClassId, EpochNumber, Hash, Id, Leg, Owner, Party, Role,
};
use super::encoding::{Coded, coded_struct};
use super::error::Error;
use super::policy::Policy;
use super::table::{Row, Table};
use super::undo::{Undoable, UndoableSet};

#[derive(Debug, Clone)]
pub(super) struct State {
    /// The time of the newest record.
    pub(super) now: u64,
    pub(super) policy: Policy,
    pub(super) policy_hash: Hash,
    /// By the epoch from which they hold.
    pub(super) upcoming: BTreeMap<EpochNumber, Policy>,
    pub(super) epoch: OpenEpoch,
    pub(super) house: House,
    pub(super) staking: Accumulator,
    pub(super) accrual: Accrual,
    pub(super) parties: Table<PartyRow>,
    pub(super) owners: Table<OwnerRow>,
    pub(super) holds: Table<Hold>,
    pub(super) stakes: Table<Stake>,
    pub(super) unbondings: Table<Unbonding>,
    pub(super) scenarios: Table<Scenario>,
    pub(super) payouts: Table<Payout>,
    pub(super) closed: Table<ClosedEpoch>,
    /// Parties with work in the open epoch: an index of `parties`.
    pub(super) active: UndoableSet<Party>,
    /// Scenarios by when they were last, and how many a developer has: indices of `scenarios`.
    pub(super) aging: UndoableSet<(Party, u64, (Owner, ClassId))>,
    pub(super) scenario_counts: Undoable<Party, u32>,
    /// When holds expire: an index of `holds`.
    pub(super) expiries: UndoableSet<(u64, Id)>,
    /// Transactions that were reimbursed. The journal says so, and the chain of records binds it.
    pub(super) receipts: UndoableSet<Hash>,
}

/// All of a state that is no table and no index, as it was at a mark.
#[derive(Debug, Clone)]
pub(super) struct Before {
    now: u64,
    policy: Policy,
    policy_hash: Hash,
    upcoming: BTreeMap<EpochNumber, Policy>,
    epoch: OpenEpoch,
    house: House,
    staking: Accumulator,
    accrual: Accrual,
}

/// Does the same to every table and every index.
macro_rules! each {
    ($state:ident . $do:ident) => {
        $state.parties.$do();
        $state.owners.$do();
        $state.holds.$do();
        $state.stakes.$do();
        $state.unbondings.$do();
        $state.scenarios.$do();
        $state.payouts.$do();
        $state.closed.$do();
        $state.active.$do();
        $state.aging.$do();
        $state.scenario_counts.$do();
        $state.expiries.$do();
        $state.receipts.$do();
    };
}

#[derive(Debug, Clone)]
pub(super) struct OpenEpoch {
    pub(super) number: EpochNumber,
    pub(super) opened: u64,
    /// The first record of it.
    pub(super) first: u64,
}

/// Accounts that are nobody's.
#[derive(Debug, Clone, Default)]
pub(super) struct House {
    outside: u128,
    outside_gas: u128,
    issuance: u128,
    pub(super) budget: u128,
    pub(super) fees: u128,
    treasury: u128,
    pub(super) staking_pool: u128,
    stake_rewards: u128,
    pub(super) storage_fund: u128,
    payable: u128,
    dust: u128,
    gas_float: u128,
}

/// What one staked unit has earned, and what divisions have left.
#[derive(Debug, Clone, Default)]
pub(super) struct Accumulator {
    pub(super) acc: u128,
    pub(super) rest: u128,
    pub(super) owed: u128,
    pub(super) staked: u128,
}

/// Until when stakes have earned, and what in the open epoch.
#[derive(Debug, Clone, Default)]
pub(super) struct Accrual {
    pub(super) until: u64,
    pub(super) earned: u128,
    /// What the pool could not give.
    pub(super) short: u128,
}

#[derive(Debug, Clone)]
pub(super) struct PartyRow {
    pub(super) role: Role,
    pub(super) owner: Owner,
    pub(super) address: Address,
    pub(super) key: Hash,
    pub(super) order: bool,
    pub(super) free: u128,
    pub(super) held: u128,
    pub(super) staked: u128,
    pub(super) unbonding: u128,
    pub(super) free_gas: u128,
    pub(super) work: Work,
}

/// What a party has done in the open epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Of a node: fees times coefficients.
    pub(super) proving: u128,
    /// Of a developer: fees.
    pub(super) developing: u128,
    /// Of a requester: fees times coefficients.
    pub(super) using: u128,
    /// Of a requester: fees that have not paid for released storage yet, its own of other epochs, too.
    pub(super) backing: u128,
    /// Of a tenant: bytes given back, times seconds.
    pub(super) byte_seconds: u128,
}

/// How the jobs of an owner's nodes went in the newest window in which it had any, and in the one before that.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    window: u32,
    successes: u64,
    failures: u64,
    successes_before: u64,
    failures_before: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct OwnerRow {
    pub(super) verified: bool,
    pub(super) tally: Tally,
}

#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) party: Party,
    pub(super) amount: u128,
    pub(super) expires: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Stake {
    pub(super) party: Party,
    pub(super) amount: u128,
    pub(super) acc: u128,
    pub(super) earned: u128,
    pub(super) fraction: u64,
    pub(super) locked_until: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Unbonding {
    pub(super) party: Party,
    pub(super) amount: u128,
    pub(super) due: u64,
}

/// When a developer had work in a scenario the last time.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub(super) last: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Payout {
    pub(super) amount: u128,
    pub(super) matures: u64,
}

#[derive(Debug, Clone)]
pub(super) struct ClosedEpoch {
    pub(super) matures: u64,
}

impl State {
    pub(super) fn open(policy: Policy, now: u64, first: u64) -> State {
        State {
            now,
            policy_hash: policy.hash(),
            policy,
            upcoming: BTreeMap::new(),
            epoch: OpenEpoch {
                number: 0,
                opened: now,
                first,
            },
            house: House::default(),
            staking: Accumulator::default(),
            accrual: Accrual {
                until: now,
                ..Accrual::default()
            },
            parties: Table::new(),
            owners: Table::new(),
            holds: Table::new(),
            stakes: Table::new(),
            unbondings: Table::new(),
            scenarios: Table::new(),
            payouts: Table::new(),
            closed: Table::new(),
            active: UndoableSet::new(),
            aging: UndoableSet::new(),
            scenario_counts: Undoable::new(),
            expiries: UndoableSet::new(),
            receipts: UndoableSet::new(),
        }
    }

    /// What changes from now on can be taken back, with what this gives.
    pub(super) fn mark(&mut self) -> Before {
        each!(self.mark);
        Before {
            now: self.now,
            policy: self.policy.clone(),
            policy_hash: self.policy_hash,
            upcoming: self.upcoming.clone(),
            epoch: self.epoch.clone(),
            house: self.house.clone(),
            staking: self.staking.clone(),
            accrual: self.accrual.clone(),
        }
    }

    /// What has changed since the mark stays.
    pub(super) fn confirm(&mut self) {
        each!(self.confirm);
    }

    /// What has changed since the mark has not.
    pub(super) fn undo(&mut self, before: Before) {
        each!(self.undo);
        Before {
            now: self.now,
            policy: self.policy,
            policy_hash: self.policy_hash,
            upcoming: self.upcoming,
            epoch: self.epoch,
            house: self.house,
            staking: self.staking,
            accrual: self.accrual,
        } = before;
    }

    /// Moves an amount, or nothing.
    pub(super) fn shift(
        &mut self,
        asset: Asset,
        from: Account,
        to: Account,
        amount: u128,
    ) -> Result<(), Error> {
        if let (Some(party), Some(other)) = (from.party(), to.party())
            && party == other
        {
            return self.shift_within(asset, party, (from, to), amount);
        }
        // Both are looked at before either is touched.
        let had = self.balance(asset, from)?;
        let has = self.balance(asset, to)?;
        if is_debit(from) {
            // What comes in counts against the supply, so no sum of balances can overflow.
            let supply = self.supply(asset).checked_add(amount);
            if supply.is_none_or(|supply| supply > SUPPLY_MAX) {
                return Err(Error::Overflow { what: "the supply" });
            }
        } else if had < amount {
            return Err(Error::Insufficient {
                account: from,
                asset,
                needed: amount,
                got: had,
            });
        }
        if from == to || amount == 0 {
            return Ok(());
        }
        // `Outside` may have either sign, in two's complement: what was issued can go out, too.
        let left = if is_debit(from) {
            had.wrapping_add(amount)
        } else {
            had - amount
        };
        let come = if is_debit(to) {
            has.wrapping_sub(amount)
        } else {
            has + amount
        };
        *self.place(asset, from) = left;
        *self.place(asset, to) = come;
        Ok(())
    }

    /// The same between two purses of one party, whose row is looked for once.
    fn shift_within(
        &mut self,
        asset: Asset,
        party: Party,
        (from, to): (Account, Account),
        amount: u128,
    ) -> Result<(), Error> {
        let entry = self
            .parties
            .entry(party)
            .ok_or(Error::UnknownParty { party })?;
        let got = entry.row().purse(asset, from);
        if got < amount {
            return Err(Error::Insufficient {
                account: from,
                asset,
                needed: amount,
                got,
            });
        }
        if from == to || amount == 0 {
            return Ok(());
        }
        let row = entry.edit();
        *row.place(asset, from) -= amount;
        *row.place(asset, to) += amount;
        Ok(())
    }

    /// Moves what is known to be there.
    pub(super) fn must_shift(&mut self, from: Account, to: Account, amount: u128) {
        let moved = self.shift(Asset::Era, from, to, amount);
        moved.unwrap_or_else(|error| panic!("what was checked has changed: {error}"));
    }

    /// All legs, or none.
    pub(super) fn transfer(&mut self, legs: &[Leg]) -> Result<(), Error> {
        if legs.is_empty() {
            return Err(Error::Zero);
        }
        for (at, leg) in legs.iter().enumerate() {
            let moved =
                check_leg(leg).and_then(|()| self.shift(leg.asset, leg.from, leg.to, leg.amount));
            if let Err(error) = moved {
                // Taken back in reverse each is possible, for it restores what was there before it.
                for leg in legs[..at].iter().rev() {
                    let back = self.shift(leg.asset, leg.to, leg.from, leg.amount);
                    back.expect("what has just moved can move back");
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// What is in circulation: what came in and was issued, less what went out.
    pub(super) fn supply(&self, asset: Asset) -> u128 {
        match asset {
            Asset::Era => self.house.outside.wrapping_add(self.house.issuance),
            Asset::Gas => self.house.outside_gas,
        }
    }

    /// As it is kept: of the two debit accounts the other way round.
    pub(super) fn balance(&self, asset: Asset, account: Account) -> Result<u128, Error> {
        if let Some(party) = account.party() {
            return Ok(self.party(party)?.purse(asset, account));
        }
        let house = &self.house;
        Ok(match (asset, account) {
            (Asset::Era, Account::Outside) => house.outside,
            (Asset::Gas, Account::Outside) => house.outside_gas,
            (Asset::Gas, Account::GasFloat) => house.gas_float,
            (Asset::Era, Account::Issuance) => house.issuance,
            (Asset::Era, Account::Budget) => house.budget,
            (Asset::Era, Account::Fees) => house.fees,
            (Asset::Era, Account::Treasury) => house.treasury,
            (Asset::Era, Account::StakingPool) => house.staking_pool,
            (Asset::Era, Account::StakeRewards) => house.stake_rewards,
            (Asset::Era, Account::StorageFund) => house.storage_fund,
            (Asset::Era, Account::Payable) => house.payable,
            (Asset::Era, Account::Dust) => house.dust,
            // No such account is ever given anything.
            _ => 0,
        })
    }

    /// Where the balance of an account that has been looked at is.
    fn place(&mut self, asset: Asset, account: Account) -> &mut u128 {
        let house = &mut self.house;
        let place = match (asset, account) {
            (Asset::Era, Account::Outside) => Some(&mut house.outside),
            (Asset::Gas, Account::Outside) => Some(&mut house.outside_gas),
            (Asset::Gas, Account::GasFloat) => Some(&mut house.gas_float),
            (Asset::Era, Account::Issuance) => Some(&mut house.issuance),
            (Asset::Era, Account::Budget) => Some(&mut house.budget),
            (Asset::Era, Account::Fees) => Some(&mut house.fees),
            (Asset::Era, Account::Treasury) => Some(&mut house.treasury),
            (Asset::Era, Account::StakingPool) => Some(&mut house.staking_pool),
            (Asset::Era, Account::StakeRewards) => Some(&mut house.stake_rewards),
            (Asset::Era, Account::StorageFund) => Some(&mut house.storage_fund),
            (Asset::Era, Account::Payable) => Some(&mut house.payable),
            (Asset::Era, Account::Dust) => Some(&mut house.dust),
            (asset, account) => account
                .party()
                .and_then(|party| self.parties.edit(party))
                .map(|row| row.place(asset, account)),
        };
        place.unwrap_or_else(|| panic!("{account:?} holds no {asset:?}"))
    }

    pub(super) fn party(&self, party: Party) -> Result<&PartyRow, Error> {
        self.parties
            .find(party)
            .ok_or(Error::UnknownParty { party })
    }

    /// The row of an owner, which is there from the first time on that anything is known of it.
    pub(super) fn owner(&mut self, owner: Owner) -> &mut OwnerRow {
        if self.owners.find(owner).is_none() {
            self.owners.insert(owner, OwnerRow::default());
        }
        self.owners.edit(owner).expect("is there now")
    }

    pub(super) fn is_verified(&self, owner: Owner) -> bool {
        self.owners.find(owner).is_some_and(|row| row.verified)
    }

    /// The hash of all this, after the record with that digest.
    pub(super) fn hash(&mut self, head: &Hash) -> Hash {
        let mut bytes = b"caldera state v1".to_vec();
        head.write(&mut bytes);
        self.now.write(&mut bytes);
        self.policy_hash.write(&mut bytes);
        for (epoch, policy) in &self.upcoming {
            epoch.write(&mut bytes);
            policy.hash().write(&mut bytes);
        }
        self.epoch.write(&mut bytes);
        self.house.write(&mut bytes);
        self.staking.write(&mut bytes);
        if self.policy.accrues_by_second() {
            self.accrual.write(&mut bytes);
        }
        self.parties.hash_into(&mut bytes);
        self.owners.hash_into(&mut bytes);
        self.holds.hash_into(&mut bytes);
        self.stakes.hash_into(&mut bytes);
        self.unbondings.hash_into(&mut bytes);
        self.scenarios.hash_into(&mut bytes);
        self.payouts.hash_into(&mut bytes);
        self.closed.hash_into(&mut bytes);
        Sha256::digest(&bytes).into()
    }
}

impl PartyRow {
    pub(super) fn new(role: Role, owner: Owner, address: Address, key: Hash) -> PartyRow {
        PartyRow {
            role,
            owner,
            address,
            key,
            order: false,
            free: 0,
            held: 0,
            staked: 0,
            unbonding: 0,
            free_gas: 0,
            work: Work::default(),
        }
    }

    /// What one of its purses has.
    fn purse(&self, asset: Asset, account: Account) -> u128 {
        match (asset, account) {
            (Asset::Era, Account::Free { .. }) => self.free,
            (Asset::Era, Account::Held { .. }) => self.held,
            (Asset::Era, Account::Staked { .. }) => self.staked,
            (Asset::Era, Account::Unbonding { .. }) => self.unbonding,
            (Asset::Gas, Account::Free { .. }) => self.free_gas,
            // No such purse is ever given anything.
            _ => 0,
        }
    }

    fn place(&mut self, asset: Asset, account: Account) -> &mut u128 {
        match (asset, account) {
            (Asset::Era, Account::Free { .. }) => &mut self.free,
            (Asset::Era, Account::Held { .. }) => &mut self.held,
            (Asset::Era, Account::Staked { .. }) => &mut self.staked,
            (Asset::Era, Account::Unbonding { .. }) => &mut self.unbonding,
            (Asset::Gas, Account::Free { .. }) => &mut self.free_gas,
            _ => panic!("{account:?} holds no {asset:?}"),
        }
    }
}

impl House {
    /// What was ever issued.
    pub(super) fn issued(&self) -> u128 {
        self.issuance
    }
}

impl Tally {
    /// Counts a job in this window.
    pub(super) fn count(&mut self, window: u32, success: bool) {
        *self = self.at(window);
        match success {
            true => self.successes += 1,
            false => self.failures += 1,
        }
    }

    /// Successes and failures in this window and the one before.
    pub(super) fn sums(&self, window: u32) -> (u64, u64) {
        let tally = self.at(window);
        (
            tally.successes + tally.successes_before,
            tally.failures + tally.failures_before,
        )
    }

    fn at(&self, window: u32) -> Tally {
        match window.checked_sub(self.window) {
            Some(0) => self.clone(),
            Some(1) => Tally {
                window,
                successes: 0,
                failures: 0,
                successes_before: self.successes,
                failures_before: self.failures,
            },
            // A policy with longer windows gives an epoch a smaller number: a new beginning, too.
            _ => Tally {
                window,
                ..Tally::default()
            },
        }
    }
}

impl Account {
    /// Whose it is.
    pub fn party(self) -> Option<Party> {
        match self {
            Account::Free { party }
            | Account::Held { party }
            | Account::Staked { party }
            | Account::Unbonding { party } => Some(party),
            _ => None,
        }
    }
}

pub(super) fn is_debit(account: Account) -> bool {
    matches!(account, Account::Outside | Account::Issuance)
}

/// Whether anybody may ask for such a movement.
fn check_leg(leg: &Leg) -> Result<(), Error> {
    use Account::{Budget, Free, GasFloat, Outside, StakingPool, StorageFund, Treasury};
    let Leg {
        asset,
        from,
        to,
        amount,
    } = *leg;
    let from_open = match asset {
        Asset::Era => matches!(from, Outside | Treasury | Free { .. }),
        Asset::Gas => matches!(from, Outside | GasFloat | Free { .. }),
    };
    let to_open = match asset {
        Asset::Era => matches!(
            to,
            Outside | Treasury | StakingPool | StorageFund | Budget | Free { .. }
        ),
        Asset::Gas => matches!(to, Outside | GasFloat | Free { .. }),
    };
    if !from_open || !to_open || from == to {
        return Err(Error::Forbidden { asset, from, to });
    }
    match amount {
        0 => Err(Error::Zero),
        _ => Ok(()),
    }
}

coded_struct! {
    OpenEpoch { number, opened, first }
    House {
        outside, outside_gas, issuance, budget, fees, treasury, staking_pool, stake_rewards,
        storage_fund, payable, dust, gas_float,
    }
    Accumulator { acc, rest, owed, staked }
    Accrual { until, earned, short }
    PartyRow {
        role, owner, address, key, order, free, held, staked, unbonding, free_gas, work,
    }
    Work { proving, developing, using, backing, byte_seconds }
    Tally { window, successes, failures, successes_before, failures_before }
    OwnerRow { verified, tally }
    Hold { party, amount, expires }
    Stake { party, amount, acc, earned, fraction, locked_until }
    Unbonding { party, amount, due }
    Scenario { last }
    Payout { amount, matures }
    ClosedEpoch { matures }
}

macro_rules! rows {
    ($($row:ident $table:literal $key:ty, final $final:literal;)*) => {$(
        impl Row for $row {
            const TABLE: u8 = $table;
            const FINAL: bool = $final;
            type Key = $key;
        }
    )*};
}

rows! {
    PartyRow 0 Party, final false;
    OwnerRow 1 Owner, final false;
    Hold 2 Id, final false;
    Stake 3 Id, final false;
    Unbonding 4 Id, final false;
    Scenario 5 (Party, (Owner, ClassId)), final false;
    Payout 6 (Party, EpochNumber), final true;
    ClosedEpoch 7 EpochNumber, final true;
}
