//! Stakes: one number says what a staked unit has earned, whoever staked it.
//!
//! The accumulator per share is that of Synthetix' StakingRewards and of MasterChef. What others lost
//! by it (UniStaker 83, gnoswap 863, tellor 265) are its roundings: here what a division leaves is
//! carried, in the accumulator and in each stake, and goes back when a stake ends; every rounding is
//! down, so no way of splitting a stake earns more; and the pool is paid from before a unit is
//! owed, so it cannot owe what it does not have.
//!
//! What is staked changes in the middle of an epoch, too. Whoever came a second before a close and earned for the whole
//! epoch would be paid for an hour that others have waited: so the accumulator is brought up to the moment before each change.

use super::ALL_STAKES;
use super::command::{Account, Asset, Id, Outcome, Party, standing_id};
use super::error::Error;
use super::policy::{WHOLE, YEAR};
use super::state::{Stake, State, Unbonding};
use super::wide::{mul_div, mul_shift, shift_div};

/// Basis points of a year's seconds.
const RATE_SCALE: u128 = WHOLE as u128 * YEAR as u128;

/// What stakes have earned and were not given yet.
struct Due {
    /// What of it the pool can give,
    paid: u128,
    /// and what it cannot.
    short: u128,
    /// What divisions leave.
    owed: u128,
}

impl State {
    pub(super) fn stake(
        &mut self,
        id: Id,
        party: Party,
        amount: u128,
        now: u64,
    ) -> Result<(), Error> {
        if amount == 0 {
            return Err(Error::Zero);
        }
        self.may_stake(amount, now)?;
        self.shift(
            Asset::Era,
            Account::Free { party },
            Account::Staked { party },
            amount,
        )?;
        self.accrue_within(now);
        self.add_stake(id, party, amount, now);
        Ok(())
    }

    /// Stakes a part of what is free by a standing order; what of it was staked.
    pub(super) fn stake_standing(&mut self, party: Party, amount: u128, now: u64) -> u128 {
        if amount == 0 || self.may_stake(amount, now).is_err() {
            return 0;
        }
        let id = standing_id(party);
        let there = self.stakes.find(id).map(|stake| stake.party);
        if there.is_some_and(|other| other != party) {
            // Somebody has staked under the id that this one would have.
            return 0;
        }
        self.accrue_within(now);
        self.must_shift(Account::Free { party }, Account::Staked { party }, amount);
        if there.is_none() {
            self.add_stake(id, party, amount, now);
            return amount;
        }
        self.settle_stake(id);
        let lock = now.saturating_add(self.policy.staking.lock_s);
        let stake = self.stakes.edit(id).expect("has just been found");
        stake.amount += amount;
        stake.locked_until = lock;
        self.staking.staked += amount;
        amount
    }

    pub(super) fn unstake(
        &mut self,
        id: Id,
        stake: Id,
        amount: u128,
        now: u64,
    ) -> Result<Outcome, Error> {
        let row = self.stakes.find(stake).expect("the caller has found it");
        let (party, has, until) = (row.party, row.amount, row.locked_until);
        if amount == 0 {
            return Err(Error::Zero);
        }
        if now < until {
            return Err(Error::Locked { until, now });
        }
        if amount > has {
            return Err(Error::Insufficient {
                account: Account::Staked { party },
                asset: Asset::Era,
                needed: amount,
                got: has,
            });
        }
        self.accrue_within(now);
        let harvested = self.take_earned(stake);
        self.must_shift(
            Account::Staked { party },
            Account::Unbonding { party },
            amount,
        );
        self.staking.staked -= amount;
        if amount == has {
            let row = self.stakes.remove(stake).expect("has just been found");
            self.staking.rest += u128::from(row.fraction);
        } else {
            self.stakes.edit(stake).expect("has just been found").amount -= amount;
        }
        let due = now.saturating_add(self.policy.staking.unbonding_s);
        self.unbondings.insert(id, Unbonding { party, amount, due });
        Ok(Outcome::Moved {
            amount: harvested,
            staked: 0,
        })
    }

    pub(super) fn withdraw(&mut self, unbonding: Id, now: u64) -> Result<Outcome, Error> {
        let row = self
            .unbondings
            .find(unbonding)
            .expect("the caller has found it");
        let (party, amount, until) = (row.party, row.amount, row.due);
        if now < until {
            return Err(Error::Locked { until, now });
        }
        self.unbondings.remove(unbonding);
        self.must_shift(
            Account::Unbonding { party },
            Account::Free { party },
            amount,
        );
        Ok(Outcome::Moved { amount, staked: 0 })
    }

    pub(super) fn harvest(&mut self, stake: Id) -> Result<Outcome, Error> {
        if self
            .earned(self.stakes.find(stake).expect("the caller has found it"))
            .0
            == 0
        {
            return Err(Error::NothingDue);
        }
        let amount = self.take_earned(stake);
        Ok(Outcome::Moved { amount, staked: 0 })
    }

    /// Stakes earn up to now. That is done before what is staked changes, so each earns for the seconds that it was there.
    pub(super) fn accrue(&mut self, now: u64) {
        if now == self.accrual.until {
            // What an ended stake has left stays until there is something to divide with it.
            return;
        }
        let Due { paid, short, owed } = self.due(now);
        self.accrual.until = now;
        let staked = self.staking.staked;
        if staked == 0 {
            return;
        }
        self.staking.owed = owed;
        let (more, rest) = shift_div(paid, self.staking.rest, staked)
            .expect("a stake earns at most ten times itself in a year");
        self.staking.acc += more;
        self.staking.rest = rest;
        self.accrual.earned += paid;
        self.accrual.short = self.accrual.short.saturating_add(short);
        self.must_shift(Account::StakingPool, Account::StakeRewards, paid);
    }

    /// The same in the middle of an epoch: by a policy of before only closes do it.
    fn accrue_within(&mut self, now: u64) {
        if self.policy.accrues_by_second() {
            self.accrue(now);
        }
    }

    /// What stakes have earned since the last time.
    fn due(&self, now: u64) -> Due {
        let rate = u128::from(self.policy.staking.rate) * u128::from(now - self.accrual.until);
        let pool = self.house.staking_pool;
        // More than can be counted is more than any pool has.
        let due = mul_div(self.staking.staked, rate, RATE_SCALE).map(|(due, rest)| {
            let rest = rest + self.staking.owed;
            (due + rest / RATE_SCALE, rest % RATE_SCALE)
        });
        let (due, owed) = due.unwrap_or((u128::MAX, 0));
        let paid = due.min(pool);
        Due {
            paid,
            short: due - paid,
            owed: if paid == due { owed } else { 0 },
        }
    }

    fn may_stake(&self, amount: u128, now: u64) -> Result<(), Error> {
        let rules = &self.policy.staking;
        let staked = self.staking.staked.checked_add(amount);
        let staked = staked.filter(|&staked| staked <= rules.stake_max);
        let staked = staked.ok_or(Error::Limit {
            what: ALL_STAKES,
            expected: rules.stake_max,
            got: self.staking.staked.saturating_add(amount),
        })?;
        let rate = u128::from(rules.rate) * u128::from(rules.lock_s);
        let (needed, rest) =
            mul_div(staked, rate, RATE_SCALE).expect("a policy's times are bounded");
        let needed = needed + u128::from(rest > 0);
        let spent = match self.policy.accrues_by_second() {
            true => self.due(now).paid,
            false => 0,
        };
        let got = self.house.staking_pool - spent;
        match needed <= got {
            true => Ok(()),
            false => Err(Error::PoolUnfunded { needed, got }),
        }
    }

    fn add_stake(&mut self, id: Id, party: Party, amount: u128, now: u64) {
        let stake = Stake {
            party,
            amount,
            acc: self.staking.acc,
            earned: 0,
            fraction: 0,
            locked_until: now.saturating_add(self.policy.staking.lock_s),
        };
        self.stakes.insert(id, stake);
        self.staking.staked += amount;
    }

    /// All that a stake has earned and not taken: units and the fraction after them.
    pub(super) fn earned(&self, stake: &Stake) -> (u128, u64) {
        let since = self.staking.acc - stake.acc;
        let (more, fraction) = mul_shift(stake.amount, since, stake.fraction)
            .expect("stakes earn no more than the pool had");
        (stake.earned + more, fraction)
    }

    fn settle_stake(&mut self, stake: Id) {
        let row = self.stakes.find(stake).expect("the caller has found it");
        let (earned, fraction) = self.earned(row);
        let acc = self.staking.acc;
        let row = self.stakes.edit(stake).expect("has just been found");
        (row.earned, row.fraction, row.acc) = (earned, fraction, acc);
    }

    fn take_earned(&mut self, stake: Id) -> u128 {
        self.settle_stake(stake);
        let row = self.stakes.edit(stake).expect("has just been settled");
        let (party, amount) = (row.party, std::mem::take(&mut row.earned));
        self.must_shift(Account::StakeRewards, Account::Free { party }, amount);
        amount
    }
}
