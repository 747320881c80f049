//! The close of an epoch: what was earned is divided to the last unit, and written down as one
//! root. And what becomes of it afterwards: claimed, taken back, or settled on the chain.
//!
//! A division of an integer leaves units over, and whoever gets them must not depend on anything
//! that a party can choose. They go by largest remainder (Hamilton) to *owners*, and within an owner
//! to parties. So a payout is within one unit of its exact share, and an owner that splits into
//! more parties is given the same sum as before.
//!
//! [`State::reckon`] finds out everything and changes nothing; what cannot go wrong any more is then
//! done.

use std::cmp::Reverse;

use super::command::{
    Account, Address, Asset, ClassId, Close, EpochNumber, Hash, Outcome, Owner, Party, Role,
};
use super::error::Error;
use super::merkle::{self, Leaf};
use super::policy::{MONTH, WHOLE};
use super::state::{ClosedEpoch, OpenEpoch, PartyRow, Payout, State, Work};
use super::wide::mul_div;

/// One of the four things that an epoch pays for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// What there is for it.
    pub budget: u128,
    /// What it pays: less than the budget if ceilings or dues say so.
    pub paid: u128,
    /// The sum of all weights.
    pub weights: u128,
    /// The weights of parties that have one, and what each is paid, by party.
    pub parties: Vec<Portion>,
}

/// What one party is paid by a stream: `paid * weight / weights` of it, exact to one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portion {
    /// Who.
    pub party: Party,
    /// Whose.
    pub owner: Owner,
    /// What was done in the epoch, times the coefficients of classes; of storage what it is worth.
    pub work: u128,
    /// Of nodes by their success and of developers by their tier, in basis points; of users and storage 1.
    pub factor: u32,
    /// What the factor comes from.
    pub counted: Counted,
    /// `work * factor`.
    pub weight: u128,
    /// Units.
    pub amount: u128,
}

/// What a party's factor comes from, which may be older than the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Nothing.
    Nothing,
    /// What became of the jobs of the owner's nodes, in the two windows that count.
    Jobs {
        /// Paid for and verified.
        successes: u64,
        /// Without a proof, by the node's fault.
        failures: u64,
    },
    /// The different scenarios of verified owners in which the developer had work in the last month.
    Scenarios(u32),
}

/// What a close would do.
#[derive(Debug, Clone)]
pub(super) struct Reckoning {
    fees: u128,
    /// To the budget, the staking pool, the storage fund and the treasury.
    divided: [u128; 4],
    issued: u128,
    budget: u128,
    dust: u128,
    /// Nodes, developers, users, storage.
    pub(super) streams: [Stream; 4],
}

impl State {
    /// When the open epoch can be closed.
    pub(super) fn closes(&self) -> u64 {
        self.epoch.opened.saturating_add(self.policy.epoch.length_s)
    }

    /// Closes the open epoch, by the record of this number.
    pub(super) fn close(
        &mut self,
        epoch: EpochNumber,
        now: u64,
        sequence: u64,
        head: &Hash,
    ) -> Result<Outcome, Error> {
        let until = self.closes();
        if epoch != self.epoch.number || now < until {
            return Err(Error::EpochNotOver { epoch, until, now });
        }
        let next = epoch.checked_add(1).ok_or(Error::Overflow {
            what: "the number of epochs",
        })?;
        self.expire(now);
        let reckoning = self.reckon(now);
        let Reckoning {
            fees,
            divided,
            issued,
            budget,
            dust,
            ..
        } = reckoning;
        let [to_budget, to_pool, to_storage, to_treasury] = divided;
        self.must_shift(Account::Fees, Account::Budget, to_budget);
        self.must_shift(Account::Fees, Account::StakingPool, to_pool);
        self.must_shift(Account::Fees, Account::StorageFund, to_storage);
        self.must_shift(Account::Fees, Account::Treasury, to_treasury);
        self.must_shift(Account::Fees, Account::Dust, self.house.fees);
        self.must_shift(Account::Issuance, Account::Budget, issued);
        self.must_shift(Account::Budget, Account::Dust, dust);
        let [nodes, developers, users, storage] =
            [0, 1, 2, 3].map(|at: usize| reckoning.streams[at].paid);
        self.must_shift(
            Account::Budget,
            Account::Payable,
            nodes + developers + users,
        );
        self.must_shift(Account::StorageFund, Account::Payable, storage);

        let matures = now.saturating_add(self.policy.epoch.claim_delay_s);
        let payouts = reckoning.payouts();
        let leaves = self.leaves(&payouts);
        for &(party, amount) in &payouts {
            self.payouts
                .insert((party, epoch), Payout { amount, matures });
        }
        self.closed.insert(epoch, ClosedEpoch { matures });
        self.accrue(now);
        let staking = std::mem::take(&mut self.accrual.earned);
        let shortfall = std::mem::take(&mut self.accrual.short);
        let mut close = Close {
            epoch,
            policy: self.policy_hash,
            first: self.epoch.first,
            last: sequence,
            root: merkle::root(&leaves),
            payouts: leaves.len() as u32,
            fees,
            issued,
            budget,
            nodes,
            developers,
            users,
            dust,
            carried: self.house.budget,
            storage,
            staking,
            shortfall,
            state: [0; 32],
        };
        self.forget_work(now, &reckoning.streams[3]);
        self.epoch = OpenEpoch {
            number: next,
            opened: now,
            first: sequence + 1,
        };
        if let Some(policy) = self.upcoming.remove(&next) {
            self.policy_hash = policy.hash();
            self.policy = policy;
        }
        self.now = now;
        close.state = self.hash(head);
        Ok(Outcome::Closed {
            close: Box::new(close),
        })
    }

    /// What a close at this time would do.
    pub(super) fn reckon(&self, now: u64) -> Reckoning {
        let policy = &self.policy;
        let fees = self.house.fees;
        let rules = &policy.fees;
        let divided =
            [rules.budget, rules.staking, rules.storage, rules.treasury].map(|bp| part(fees, bp));
        let left = policy.issuance.total.saturating_sub(self.house.issued());
        let room = super::SUPPLY_MAX - self.supply(Asset::Era);
        let due = policy.issuance.per_epoch.min(left);
        let issued = if due <= room { due } else { 0 };
        let budget = self.house.budget + divided[0] + issued;
        let open = budget.min(policy.epoch.budget_max);
        let shares = [
            policy.shares.nodes,
            policy.shares.developers,
            policy.shares.users,
        ];
        let budgets = shares.map(|share| part(open, share));
        let dust = part(open, shares.iter().sum()) - budgets.iter().sum::<u128>();

        let window = self.window();
        let row = |&party| {
            (
                party,
                self.parties.find(party).expect("active parties exist"),
            )
        };
        let rows: Vec<_> = self.active.keys().map(row).collect();
        // Its factor is looked up for those alone that have done something.
        type Factor<'a> = &'a dyn Fn(Party, &PartyRow) -> (u32, Counted);
        let plain = |_: Party, _: &PartyRow| (1, Counted::Nothing);
        let weigh = |work: &dyn Fn(&PartyRow) -> u128, factor: Factor<'_>| -> Vec<Portion> {
            let portion = |&(party, row): &(Party, &PartyRow)| {
                let work = work(row);
                let (factor, counted) = match work {
                    0 => plain(party, row),
                    _ => factor(party, row),
                };
                Portion {
                    party,
                    owner: row.owner,
                    work,
                    factor,
                    counted,
                    weight: work * u128::from(factor),
                    amount: 0,
                }
            };
            let portions = rows.iter().map(portion);
            portions.filter(|portion| portion.weight > 0).collect()
        };
        let success = |_: Party, row: &PartyRow| {
            let owner = self.owners.find(row.owner);
            let (successes, failures) = owner.map_or((0, 0), |owner| owner.tally.sums(window));
            let counted = Counted::Jobs {
                successes,
                failures,
            };
            (policy.success_factor(successes, failures), counted)
        };
        let tier = |party: Party, _: &PartyRow| {
            let scenarios = self.scenarios_of(party, now);
            (policy.tier(scenarios), Counted::Scenarios(scenarios))
        };
        let nodes = weigh(&|row| row.work.proving, &success);
        let developers = weigh(&|row| row.work.developing, &tier);
        let users = weigh(&|row| row.work.using, &plain);
        let ceilings = [
            policy.ceilings.nodes,
            policy.ceilings.developers,
            policy.ceilings.users,
        ];
        let largest = policy.coefficients_max();
        let stream = |at: usize, parties: Vec<Portion>| {
            let weights: u128 = parties.iter().map(|portion| portion.weight).sum();
            let whole = u128::from(WHOLE) * largest[at];
            let (most, _) =
                mul_div(ceilings[at].into(), weights, whole).expect("a ceiling is below the whole");
            Stream::divided(budgets[at], budgets[at].min(most), parties)
        };

        let fund = self.house.storage_fund + divided[2];
        let due = |row: &PartyRow| {
            let due = policy.storage_price(row.work.byte_seconds);
            due.unwrap_or(u128::MAX)
                .min(part(row.work.backing, policy.ceilings.storage))
        };
        let dues = weigh(&due, &plain);
        let due: u128 = dues.iter().map(|portion| portion.weight).sum();
        let storage = Stream::divided(fund, fund.min(due), dues);
        let streams = [
            stream(0, nodes),
            stream(1, developers),
            stream(2, users),
            storage,
        ];
        Reckoning {
            fees,
            divided,
            issued,
            budget,
            dust,
            streams,
        }
    }

    /// The different scenarios of verified owners in which a developer had work in the last month.
    pub(super) fn scenarios_of(&self, developer: Party, now: u64) -> u32 {
        let all = self.scenario_counts.find(developer).copied().unwrap_or(0);
        // No more than all of them are old.
        all - self.old_scenarios(developer, now).count() as u32
    }

    /// Those in which it had none in the last month, each with the time of the last.
    fn old_scenarios(
        &self,
        developer: Party,
        now: u64,
    ) -> impl Iterator<Item = &(Party, u64, (Owner, ClassId))> {
        let until = now.checked_sub(MONTH).into_iter();
        until.flat_map(move |until| {
            let last = (Owner::MAX, ClassId::MAX);
            self.aging
                .range((developer, 0, (0, 0))..=(developer, until, last))
        })
    }

    /// The next epoch begins with nothing done, and without what no month will ask for again. What has been paid for jobs and has
    /// not paid for storage yet stays.
    fn forget_work(&mut self, now: u64, storage: &Stream) {
        let keeps = self.policy.keeps_backing();
        let ceiling = u128::from(self.policy.ceilings.storage);
        for party in self.active.drain() {
            let row = self.parties.edit(party).expect("active parties exist");
            let found = storage
                .parties
                .binary_search_by_key(&party, |portion| portion.party);
            let paid = found.map_or(0, |at| storage.parties[at].amount);
            // Rounded up, and not more than there is: what is paid is at most the ceiling's part of it.
            let backing = match (keeps, paid) {
                (false, _) => 0,
                (true, 0) => row.work.backing,
                (true, paid) => row.work.backing - (paid * u128::from(WHOLE)).div_ceil(ceiling),
            };
            row.work = Work {
                backing,
                ..Work::default()
            };
            if row.role != Role::Developer {
                continue;
            }
            let old: Vec<_> = self.old_scenarios(party, now).copied().collect();
            for (_, last, of) in &old {
                self.scenarios.remove((party, *of));
                self.aging.remove((party, *last, *of));
            }
            if let Some(&count) = self.scenario_counts.find(party) {
                self.scenario_counts.put(party, count - old.len() as u32);
            }
        }
    }

    pub(super) fn claim(
        &mut self,
        party: Party,
        up_to: EpochNumber,
        now: u64,
    ) -> Result<Outcome, Error> {
        let order = self.party(party)?.order;
        let (mut due, mut waits) = (Vec::new(), None);
        for ((_, epoch), payout) in self.payouts_of(party) {
            if epoch > up_to {
                break;
            }
            if payout.matures <= now {
                due.push((epoch, payout.amount));
            } else if waits.is_none_or(|until| payout.matures < until) {
                waits = Some(payout.matures);
            }
        }
        if due.is_empty() {
            return Err(match waits {
                Some(until) => Error::Locked { until, now },
                None => Error::NothingDue,
            });
        }
        for &(epoch, _) in &due {
            self.payouts.remove((party, epoch));
        }
        let amount = due.iter().map(|(_, amount)| amount).sum();
        self.must_shift(Account::Payable, Account::Free { party }, amount);
        let staked = match order {
            true => self.stake_standing(party, part(amount, self.policy.reinvest.split), now),
            false => 0,
        };
        Ok(Outcome::Moved { amount, staked })
    }

    pub(super) fn claw_back(
        &mut self,
        party: Party,
        epoch: EpochNumber,
        now: u64,
    ) -> Result<Outcome, Error> {
        self.party(party)?;
        let payout = self.payouts.find((party, epoch)).ok_or(Error::NothingDue)?;
        let since = payout.matures;
        if since <= now {
            return Err(Error::Matured { since, now });
        }
        let amount = payout.amount;
        self.payouts.remove((party, epoch));
        self.must_shift(Account::Payable, Account::Budget, amount);
        Ok(Outcome::Moved { amount, staked: 0 })
    }

    pub(super) fn settle(&mut self, epoch: EpochNumber, now: u64) -> Result<Outcome, Error> {
        let closed = self.closed.find(epoch).ok_or(Error::EpochNotOver {
            epoch,
            until: self.closes(),
            now,
        })?;
        if now < closed.matures {
            let until = closed.matures;
            return Err(Error::Locked { until, now });
        }
        let leaves = self.leaves_of(epoch);
        if leaves.is_empty() {
            return Err(Error::NothingDue);
        }
        let total = leaves.iter().map(|leaf| leaf.amount).sum();
        let parties: Vec<_> = self.parties.iter().map(|(party, _)| party).collect();
        for party in parties {
            self.payouts.remove((party, epoch));
        }
        self.must_shift(Account::Payable, Account::Outside, total);
        Ok(Outcome::Settled {
            root: merkle::root(&leaves),
            leaves: leaves.len() as u32,
            total,
        })
    }

    /// What is still to be claimed of an epoch, as leaves.
    pub(super) fn leaves_of(&self, epoch: EpochNumber) -> Vec<Leaf> {
        let payout = |(party, _)| Some((party, self.payouts.find((party, epoch))?.amount));
        let payouts: Vec<_> = self.parties.iter().filter_map(payout).collect();
        self.leaves(&payouts)
    }

    pub(super) fn payouts_of(
        &self,
        party: Party,
    ) -> impl Iterator<Item = ((Party, EpochNumber), &Payout)> {
        let from = self.payouts.from((party, 0));
        from.take_while(move |((of, _), _)| *of == party)
    }

    fn leaves(&self, payouts: &[(Party, u128)]) -> Vec<Leaf> {
        let address = |party| -> Address { self.parties.find(party).expect("was paid").address };
        let leaf = |(index, &(party, amount)): (usize, &(Party, u128))| Leaf {
            index: index as u32,
            account: address(party),
            amount,
        };
        payouts.iter().enumerate().map(leaf).collect()
    }
}

impl Stream {
    /// Divides what is paid by weight.
    fn divided(budget: u128, paid: u128, mut parties: Vec<Portion>) -> Stream {
        let weights = parties.iter().map(|portion| portion.weight).sum();
        parties.sort_by_key(|portion| (portion.owner, portion.party));
        let mut owners: Vec<&mut [Portion]> =
            parties.chunk_by_mut(|a, b| a.owner == b.owner).collect();
        let sums = owners
            .iter()
            .map(|of| of.iter().map(|portion| portion.weight).sum());
        let amounts = largest_remainder(paid, paid, &sums.collect::<Vec<_>>(), weights);
        for (of, amount) in owners.iter_mut().zip(amounts) {
            // Most owners have one party, and it has all.
            if let [only] = of {
                only.amount = amount;
                continue;
            }
            let each: Vec<_> = of.iter().map(|portion| portion.weight).collect();
            let amounts = largest_remainder(amount, paid, &each, weights);
            of.iter_mut()
                .zip(amounts)
                .for_each(|(portion, amount)| portion.amount = amount);
        }
        parties.sort_by_key(|portion| portion.party);
        Stream {
            budget,
            paid,
            weights,
            parties,
        }
    }
}

impl Reckoning {
    /// What each party gets in all, by party.
    fn payouts(&self) -> Vec<(Party, u128)> {
        let portions = self.streams.iter().flat_map(|stream| &stream.parties);
        let mut amounts: Vec<_> = portions
            .map(|portion| (portion.party, portion.amount))
            .collect();
        amounts.sort_by_key(|&(party, _)| party);
        let same = amounts.chunk_by(|a, b| a.0 == b.0);
        let sums = same.map(|of| (of[0].0, of.iter().map(|(_, amount)| amount).sum()));
        sums.filter(|&(_, amount)| amount > 0).collect()
    }
}

/// Divides `sum` in shares of `whole * weight / weights` each, rounded down, and one more for those
/// with the largest remainders, the first when equal, until all of it is gone.
///
/// `sum` is between the sum of all shares rounded down and that of all rounded up.
fn largest_remainder(sum: u128, whole: u128, each: &[u128], weights: u128) -> Vec<u128> {
    let share =
        |&weight: &u128| mul_div(whole, weight, weights).expect("a share is at most the whole");
    let shares: Vec<_> = each.iter().map(share).collect();
    let mut amounts: Vec<_> = shares.iter().map(|&(amount, _)| amount).collect();
    let mut left = sum - amounts.iter().sum::<u128>();
    if left == 0 {
        return amounts;
    }
    let mut order: Vec<_> = (0..each.len()).filter(|&at| shares[at].1 > 0).collect();
    order.sort_by_key(|&at| Reverse(shares[at].1));
    for at in order {
        if left == 0 {
            break;
        }
        amounts[at] += 1;
        left -= 1;
    }
    assert!(left == 0, "there are as many remainders as units left");
    amounts
}

/// So many basis points of an amount, rounded down. Amounts are at most the supply of 2^96.
fn part(amount: u128, basis_points: u32) -> u128 {
    amount * u128::from(basis_points) / u128::from(WHOLE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portion(owner: Owner, party: Party, weight: u128) -> Portion {
        Portion {
            party,
            owner,
            work: weight,
            factor: 1,
            counted: Counted::Nothing,
            weight,
            amount: 0,
        }
    }

    #[test]
    fn remainders_go_to_owners_first() {
        // 10 units over weights 1, 1, 1: 3.33 each. The first of equals has the unit.
        let one = Stream::divided(
            10,
            10,
            vec![portion(1, 1, 1), portion(2, 2, 1), portion(3, 3, 1)],
        );
        let amounts: Vec<_> = one.parties.iter().map(|portion| portion.amount).collect();
        assert_eq!(amounts, [4, 3, 3]);
        // The third owner splits: 0.2 + 0.8 of its third. It has 3 as before, and not 4.
        let split = vec![
            portion(1, 1, 5),
            portion(2, 2, 5),
            portion(3, 3, 1),
            portion(3, 4, 4),
        ];
        let split = Stream::divided(10, 10, split);
        let amounts: Vec<_> = split.parties.iter().map(|portion| portion.amount).collect();
        assert_eq!(amounts, [4, 3, 1, 2]);
    }
}
