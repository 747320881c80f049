//! A year in figures: as data, and as a table.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::{Serialize, Serializer};

use super::agents::Agents;
use super::market::Market;
use super::players::Players;
use super::{ASSUMPTIONS, ERA, Setup, amount};
use crate::ledger::command::{Close, Role};
use crate::ledger::policy::WHOLE;
use crate::ledger::retention::Kept;
use crate::ledger::{Account, Asset};

/// Units, as a string in JSON, whose numbers end at 2^53, and as ERA in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Amount(pub i128);

/// All that is said about a year.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// All chance depended on it.
    pub seed: u64,
    /// Epochs that were closed, each with all sums looked at.
    pub epochs: u32,
    /// What people do is assumed, and this is how.
    pub assumptions: Vec<&'static str>,
    /// Records of the journal.
    pub records: u64,
    /// Jobs that were paid.
    pub jobs: u64,
    /// Of these, answered by a state unit.
    pub reuses: u64,
    /// Jobs that did not come to a proof.
    pub failures: u64,
    /// Users that came in the year, and that left.
    pub users: (u64, u64),
    /// What was refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// By month of 30 days.
    pub months: Vec<MonthLine>,
    /// At the beginning and after each week.
    pub weeks: Vec<Week>,
    /// How what was earned came back.
    pub reinvestment: Reinvestment,
    /// What the rules promise, measured.
    pub figures: Figures,
    /// Adversaries and twins.
    pub players: Vec<PlayerLine>,
    /// Who came back, all months of which the next is over: rewarded, and not.
    pub retention: [RetentionLine; 2],
}

/// What a month's epochs moved.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct MonthLine {
    pub month: u32,
    pub fees: Amount,
    pub issued: Amount,
    pub nodes: Amount,
    pub developers: Amount,
    pub users: Amount,
    pub storage: Amount,
    /// Earned by stakes.
    pub stakes: Amount,
    /// Of what the three got: what the same epoch's fees had brought into the budget.
    pub from_fees: Amount,
    /// The rest: carried over, or issued.
    pub from_budget: Amount,
    /// In the budget at the end.
    pub carried: Amount,
}

/// Who has what, all purses, payouts to be claimed and what stakes have earned together.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs)]
pub struct Week {
    pub week: u32,
    pub nodes: Amount,
    pub developers: Amount,
    pub users: Amount,
    /// Of all three, staked.
    pub staked: Amount,
    pub budget: Amount,
    pub treasury: Amount,
    pub staking_pool: Amount,
    pub storage_fund: Amount,
}

/// How what was earned came back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reinvestment {
    /// Claimed by all.
    pub claimed: Amount,
    /// Of that, staked at once by standing orders.
    pub staked: Amount,
    /// Fees and ERA for gas that were paid with what had been claimed.
    pub paid: Amount,
    /// Both, of what was claimed.
    pub share: f64,
    /// Earned by stakes and taken.
    pub harvested: Amount,
    /// All fees.
    pub fees: Amount,
    /// What users brought from outside.
    pub brought: Amount,
    /// ERA paid for gas, and what was reimbursed for it, in wei.
    pub gas_charged: Amount,
    /// In wei.
    pub gas_reimbursed: Amount,
    /// Paid for storage.
    pub storage: Amount,
    /// What of it was given back, in bytes.
    pub released: u128,
    /// Taken out of the ledger by nodes.
    pub taken_out: Amount,
    /// Not claimed for 60 days, and settled on the chain.
    pub settled: Amount,
}

/// What the rules promise, measured.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Figures {
    /// Epochs with two nodes, and two users, of equal work; in each the weights were exactly as their classes say.
    pub probed: u32,
    /// What the financial node got over what the light one got, in all.
    pub node_ratio: f64,
    /// The same of users.
    pub user_ratio: f64,
    /// The most that one job has brought to all together, over its fee.
    pub job_most: f64,
    /// What a policy's ceilings allow.
    pub job_ceiling: f64,
}

/// An adversary and its twin.
#[derive(Debug, Clone, Serialize)]
pub struct PlayerLine {
    /// Which.
    pub name: &'static str,
    /// What it did.
    pub did: String,
    /// What it had more at the end than it had put in.
    pub profit: Amount,
    /// The same of its twin.
    pub honest: Amount,
    /// The difference: what the trick was worth.
    pub gain: Amount,
}

/// Who came back.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RetentionLine {
    /// Whether they had claimed something in the month.
    pub rewarded: bool,
    /// Active parties of all months.
    pub n: u64,
    /// Of these, active in the next month.
    pub kept: u64,
    /// Their part, and Wilson's interval of 95 %.
    pub rate: Option<f64>,
    /// From, to.
    pub interval: (f64, f64),
}

impl Amount {
    /// As a number of ERA, for drawing.
    pub fn era(self) -> f64 {
        self.0 as f64 / ERA as f64
    }

    fn add(&mut self, units: u128) {
        self.0 += units.cast_signed();
    }
}

impl Report {
    pub(super) fn new(setup: &Setup) -> Report {
        let ceilings = &setup.policy.ceilings;
        let sum = ceilings.nodes + ceilings.developers + ceilings.users + ceilings.storage;
        Report {
            seed: setup.seed,
            assumptions: ASSUMPTIONS.to_vec(),
            figures: Figures {
                job_ceiling: f64::from(sum) / f64::from(WHOLE),
                ..Figures::default()
            },
            ..Report::default()
        }
    }

    pub(super) fn begin(&mut self, market: &Market) {
        self.weeks.push(Week::of(market, 0));
    }

    pub(super) fn epoch(&mut self, market: &Market, close: &Close, most: f64, jobs: usize) {
        let month = close.epoch / 720;
        if self.months.last().is_none_or(|line| line.month != month) {
            self.months.push(MonthLine {
                month,
                ..MonthLine::default()
            });
        }
        let Some(line) = self.months.last_mut() else {
            return;
        };
        let paid = close.nodes + close.developers + close.users;
        let whole = u128::from(WHOLE);
        let brought = close.fees * u128::from(market.policy().fees.budget) / whole;
        line.fees.add(close.fees);
        line.issued.add(close.issued);
        line.nodes.add(close.nodes);
        line.developers.add(close.developers);
        line.users.add(close.users);
        line.storage.add(close.storage);
        line.stakes.add(close.staking);
        line.from_fees.add(paid.min(brought));
        line.from_budget.add(paid.saturating_sub(brought));
        line.carried = amount(close.carried);
        self.epochs += 1;
        self.jobs += jobs as u64;
        self.figures.job_most = self.figures.job_most.max(most);
    }

    pub(super) fn day(&mut self, market: &Market) {
        if self.epochs.is_multiple_of(168) {
            self.weeks.push(Week::of(market, self.epochs / 168));
        }
    }

    pub(super) fn end(&mut self, market: &Market, agents: &Agents, players: &Players) {
        let moved = &market.moved;
        self.records = market.records;
        self.reuses = moved.reuses;
        self.failures = moved.failures;
        self.users = (agents.came, agents.left);
        self.refused = market.refused.clone();
        let users = market
            .parties()
            .filter(|(_, known)| known.role == Role::User);
        self.reinvestment = Reinvestment {
            claimed: amount(moved.claimed),
            staked: amount(moved.reinvested),
            paid: amount(moved.paid_with_rewards),
            share: (moved.reinvested + moved.paid_with_rewards) as f64
                / (moved.claimed as f64).max(1.0),
            harvested: amount(moved.harvested),
            fees: amount(moved.fees),
            brought: amount(users.map(|(_, known)| known.came).sum()),
            gas_charged: amount(moved.gas_charged),
            gas_reimbursed: amount(moved.gas_reimbursed),
            storage: Amount(self.months.iter().map(|line| line.storage.0).sum()),
            released: moved.released,
            taken_out: amount(moved.to_outside),
            settled: amount(moved.settled),
        };
        let probes = players.probes();
        let ratio = |[more, less]: [u128; 2]| more as f64 / (less as f64).max(1.0);
        self.figures.probed = probes.epochs;
        self.figures.node_ratio = ratio(probes.nodes);
        self.figures.user_ratio = ratio(probes.users);
        let verdicts = players.verdicts(market).into_iter();
        self.players = verdicts
            .map(|verdict| PlayerLine {
                name: verdict.name,
                did: verdict.did,
                profit: Amount(verdict.profit),
                honest: Amount(verdict.honest),
                gain: Amount(verdict.profit - verdict.honest),
            })
            .collect();
        let over = market.retention.month().saturating_sub(1);
        self.retention = [true, false].map(|rewarded| {
            let kept = market
                .retention
                .sum(|group| group.rewarded == rewarded && group.month < over);
            RetentionLine::of(rewarded, kept)
        });
    }

    /// As a text of several tables.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.tables(&mut out);
        out
    }

    fn tables(&self, out: &mut String) -> fmt::Result {
        let (came, left) = self.users;
        writeln!(
            out,
            "seed {}: {} epochs, {} records; {} paid jobs ({} reuses), {} failures; {came} users came, {left} left",
            self.seed, self.epochs, self.records, self.jobs, self.reuses, self.failures
        )?;
        writeln!(out, "\nAssumed, not measured:")?;
        for assumption in &self.assumptions {
            writeln!(out, "- {assumption}")?;
        }
        writeln!(out, "\nERA by month")?;
        for head in MONTH_HEADS {
            write!(out, "{head:>11}")?;
        }
        for line in &self.months {
            write!(out, "\n{:>11}", line.month)?;
            for cell in line.cells() {
                write!(out, "{:>11.1}", cell.era())?;
            }
        }
        writeln!(
            out,
            "\n\nERA by role (purses, payouts and what stakes have earned)"
        )?;
        for head in WEEK_HEADS {
            write!(out, "{head:>11}")?;
        }
        let shown = self.weeks.iter().step_by(13);
        for week in shown {
            write!(out, "\n{:>11}", week.week)?;
            for cell in week.cells() {
                write!(out, "{:>11.1}", cell.era())?;
            }
        }
        let back = &self.reinvestment;
        writeln!(out, "\n\nThe loop")?;
        for (what, cell) in [
            ("claimed", back.claimed),
            ("of that staked by standing orders", back.staked),
            ("spent on fees and gas again", back.paid),
            ("earned by stakes and taken", back.harvested),
            ("all fees", back.fees),
            ("brought by users from outside", back.brought),
            ("paid in ERA for gas", back.gas_charged),
            ("paid for storage", back.storage),
            ("taken out by nodes", back.taken_out),
            ("settled on the chain", back.settled),
        ] {
            writeln!(out, "{what:<36}{:>12.3} ERA", cell.era())?;
        }
        writeln!(
            out,
            "reinvested share of claims          {:>12.3}",
            back.share
        )?;
        let figures = &self.figures;
        writeln!(out, "\nPromised, and looked at in each epoch")?;
        writeln!(
            out,
            "balances of both assets have the sum 0, budgets are exact: {} of {} epochs",
            self.epochs, self.epochs
        )?;
        writeln!(
            out,
            "financial over light for equal work: weights exactly as the classes say, payouts within a unit, in {} epochs; \
             nodes got {:.12} in all, users {:.12}",
            figures.probed, figures.node_ratio, figures.user_ratio
        )?;
        writeln!(
            out,
            "paid because of one job over its fee: {:.6} at most; the ceilings allow {}",
            figures.job_most, figures.job_ceiling
        )?;
        writeln!(
            out,
            "\n{:<28}{:>16}{:>16}{:>16}",
            "adversary", "profit", "honest twin", "gain"
        )?;
        for line in &self.players {
            writeln!(
                out,
                "{:<28}{:>16.6}{:>16.6}{:>16}  {}",
                line.name,
                line.profit.era(),
                line.honest.era(),
                line.gain,
                line.did
            )?;
        }
        let refused: Vec<_> = self
            .refused
            .iter()
            .map(|(why, n)| format!("{why} {n}"))
            .collect();
        writeln!(out, "refused or without effect: {}", refused.join(", "))?;
        writeln!(
            out,
            "\nActive in a month and in the next (what users do is assumed, see above)"
        )?;
        for line in &self.retention {
            writeln!(
                out,
                "{:<12}{:>8} of {:>8}: {:.3}, 95 % from {:.3} to {:.3}",
                if line.rewarded { "rewarded" } else { "others" },
                line.kept,
                line.n,
                line.rate.unwrap_or(0.0),
                line.interval.0,
                line.interval.1
            )?;
        }
        Ok(())
    }
}

impl MonthLine {
    fn cells(&self) -> [Amount; 10] {
        [
            self.fees,
            self.issued,
            self.nodes,
            self.developers,
            self.users,
            self.storage,
            self.stakes,
            self.from_fees,
            self.from_budget,
            self.carried,
        ]
    }
}

impl Week {
    fn of(market: &Market, week: u32) -> Week {
        let house = |account| Amount(market.ledger.balance(Asset::Era, account).unwrap_or(0));
        let mut line = Week {
            week,
            budget: house(Account::Budget),
            treasury: house(Account::Treasury),
            staking_pool: house(Account::StakingPool),
            storage_fund: house(Account::StorageFund),
            ..Week::default()
        };
        for (party, known) in market.parties() {
            let role = match known.role {
                Role::Node => &mut line.nodes,
                Role::Developer => &mut line.developers,
                Role::User => &mut line.users,
            };
            role.add(market.wealth(party) - known.on_chain);
            let staked = Account::Staked { party };
            line.staked.0 += market.ledger.balance(Asset::Era, staked).unwrap_or(0);
        }
        line
    }

    fn cells(&self) -> [Amount; 8] {
        [
            self.nodes,
            self.developers,
            self.users,
            self.staked,
            self.budget,
            self.treasury,
            self.staking_pool,
            self.storage_fund,
        ]
    }
}

impl RetentionLine {
    fn of(rewarded: bool, counted: Kept) -> RetentionLine {
        RetentionLine {
            rewarded,
            n: counted.active,
            kept: counted.kept,
            rate: counted.rate(),
            interval: counted.interval(),
        }
    }
}

/// Units, for what is small shows in them alone.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.unsigned_abs() < 1_000_000_000 {
            true => f.pad(&format!("{} units", self.0)),
            false => f.pad(&format!("{:.6}", self.era())),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

const MONTH_HEADS: [&str; 11] = [
    "month",
    "fees",
    "issued",
    "nodes",
    "developers",
    "users",
    "storage",
    "stakes",
    "by fees",
    "by budget",
    "carried",
];
const WEEK_HEADS: [&str; 9] = [
    "week",
    "nodes",
    "developers",
    "users",
    "staked",
    "budget",
    "treasury",
    "pool",
    "storage",
];
