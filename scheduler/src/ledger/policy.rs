//! What is paid for what: a text in TOML that becomes a checked policy, or is refused with the sum
//! that shows why.
//!
//! A [`Policy`] can only be made by [`Policy::parse`] and by reading the bytes of one from the
//! journal, and both check it, so the rest of the ledger never asks whether a policy makes sense.
//! Two checks are about money. No sum of parts is more than the whole that it is a part of. And
//! what is paid because of one job is less than the job's fee, rounding included, so that whoever
//! is on every side of a job loses by it (docs/ledger.md has the inequality).
//!
//! Amounts are strings in the text, for TOML's own integers end at 2^63, which is nine tokens of
//! eighteen decimals. They may be written with `_` between digits.
//!
//! **Formats.** Policies have had three: the first had no prices, the second paid for storage and for stakes by rules that
//! the third has mended. A journal that began with one is read for ever, so what a later format adds stands after all that
//! was there before, and a policy whose bytes end there is of the earlier one; its bytes, its name and what it means stay
//! what they were. From the third on the number of the format is the last of the bytes. A text of another format than the
//! newest is refused with the edit that makes it one of the newest: what is adopted from now on is written by today's rules.

use std::collections::BTreeMap;
use std::ops::Deref;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::SUPPLY_MAX;
use super::command::{ClassId, Hash};
use super::encoding::{Coded, Malformed, Reader, coded_struct};
use super::wide::mul_div;

/// The newest format, in which all texts are.
pub const FORMAT: u32 = 3;
/// The longest text that is read.
pub const TEXT_MAX: usize = 1 << 20;
/// Most classes of a policy.
pub const CLASSES_MAX: usize = 64;
/// Most tiers of a policy, and most points of its curve.
pub const STEPS_MAX: usize = 64;
/// Most prices of a policy.
pub const PRICES_MAX: usize = 64;
/// The longest name of a scenario with a price, in bytes.
pub const SCENARIO_MAX: usize = 64;
/// The largest coefficient, in basis points.
pub const COEFFICIENT_MAX: u32 = 100_000;
/// The longest time in a policy, in seconds: ten years.
pub const TIME_MAX: u64 = 10 * YEAR;
/// Basis points of a whole.
pub const WHOLE: u32 = 10_000;
/// Seconds of a year.
pub const YEAR: u64 = 365 * 86_400;
/// Seconds of a developer's month.
pub const MONTH: u64 = 30 * 86_400;

/// Streams of payouts in which rounding can add up to a unit to what one job is worth.
const ROUNDED_STREAMS: u128 = 3;

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// It is too long to be one.
    #[error("expected at most {TEXT_MAX} bytes, got {got}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// It is not TOML, or a key is unknown, missing or of another type.
    #[error("{reason}")]
    Form {
        /// What TOML says, with line and key.
        reason: String,
    },
    /// It is of an earlier format.
    #[error("format: expected {FORMAT}, got {got}: {edit}")]
    Old {
        /// Its format.
        got: u32,
        /// What makes it one of the newest.
        edit: &'static str,
    },
    /// It is of a format that is not known here.
    #[error("format: expected {FORMAT}, got {got}: this caldera does not know it, a newer one may")]
    New {
        /// Its format.
        got: i64,
    },
    /// One figure is out of its range.
    #[error("{key}: expected {expected}, got {got}")]
    Range {
        /// Which.
        key: String,
        /// What it may be.
        expected: String,
        /// What it is.
        got: u128,
    },
    /// Parts make more, or less, than the whole that they are parts of.
    #[error("{key}: {sum}, expected {expected}")]
    Sum {
        /// Which table.
        key: &'static str,
        /// The sum, written out.
        sum: String,
        /// What it must be.
        expected: String,
    },
    /// One job could bring more than it costs.
    #[error(
        "ceilings: a job of {fee_min} units could bring {sum} basis points of its fee and {ROUNDED_STREAMS} \
         units of rounding: {paid}, expected at most the fee"
    )]
    Gain {
        /// The smallest fee that earns anything.
        fee_min: u128,
        /// The sum of ceilings, written out.
        sum: String,
        /// What would be paid.
        paid: String,
    },
}

/// What is paid for what, checked; it can be read and not changed. In a box, for a command may hold one, and
/// all the others are to be moved as what they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Box<Rules>);

/// The figures of a policy. Fields and their order are those of deploy/era.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Rules {
    #[serde(default = "newest")]
    pub format: u32,
    pub epoch: EpochRules,
    pub issuance: Issuance,
    pub fees: Fees,
    pub shares: Shares,
    pub ceilings: Ceilings,
    pub success: Success,
    pub tiers: Vec<Tier>,
    #[serde(deserialize_with = "classes")]
    pub classes: Vec<Class>,
    pub storage: Storage,
    pub staking: Staking,
    pub offset: Offset,
    pub reinvest: Reinvest,
    #[serde(deserialize_with = "prices")]
    pub prices: Vec<Price>,
}

/// How epochs go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochRules {
    /// The shortest epoch.
    pub length_s: u64,
    /// What nodes, developers and users get together in one epoch, at most.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub budget_max: u128,
    /// A payout can be taken back for so long, and claimed after it.
    pub claim_delay_s: u64,
}

/// What is issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuance {
    /// In each epoch.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub per_epoch: u128,
    /// Ever.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub total: u128,
}

/// Where fees go, in basis points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fees {
    /// To rewards.
    pub budget: u32,
    /// To the pool that stakes earn from.
    pub staking: u32,
    /// To compensation for storage.
    pub storage: u32,
    /// To the treasury.
    pub treasury: u32,
    /// A job that costs less earns nobody anything.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub min: u128,
}

/// How an epoch's budget is divided, in basis points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Shares {
    pub nodes: u32,
    pub developers: u32,
    pub users: u32,
}

/// What one job can bring, in basis points of its fee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ceilings {
    pub nodes: u32,
    pub developers: u32,
    pub users: u32,
    pub storage: u32,
}

/// What a node's success is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// Jobs below which there is no rate.
    pub sample_min: u64,
    /// The factor then, in basis points.
    pub neutral: u32,
    /// Epochs of a window; the two newest count.
    pub window_epochs: u32,
    /// Rate and factor, both in basis points.
    pub curve: Vec<(u32, u32)>,
}

/// What a developer's work is worth from so many monthly active scenarios on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// From so many.
    pub scenarios_min: u32,
    /// Basis points.
    pub weight: u32,
}

/// A class of scenarios, with coefficients in basis points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Class {
    /// Its number in events, which stays whatever else a policy changes.
    pub id: ClassId,
    /// Its name.
    pub name: String,
    /// For a node's proof.
    pub proof: u32,
    /// For a node's answer by a state unit that was proved before.
    pub reuse: u32,
    /// For the user.
    pub user: u32,
}

/// What released storage is worth.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storage {
    /// Of 2^30 bytes for an hour.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub price_gib_hour: u128,
    /// If it had been held for so long.
    pub age_min_s: u64,
}

/// What stakes earn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staking {
    /// In a year, in basis points.
    pub rate: u32,
    /// A stake cannot end before.
    pub lock_s: u64,
    /// From its end until it is free.
    pub unbonding_s: u64,
    /// All stakes together.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub stake_max: u128,
    /// What the operator puts into the pool in a year.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub pool_per_year: u128,
}

/// What of a transaction's gas is reimbursed, and what that costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// Basis points of the gas cost.
    pub ceiling: u32,
    /// So many units of ERA
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub era: u128,
    /// are worth so many wei.
    #[serde(deserialize_with = "amount", serialize_with = "digits")]
    pub wei: u128,
}

/// What standing orders do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reinvest {
    /// Basis points of a claim that are staked.
    pub split: u32,
}

/// What a job of a tenant of one scenario costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Price {
    /// The tenant's scenario, as the service calls it.
    pub scenario: String,
    /// The name of the class that such a job is of.
    pub class: String,
    /// For a proof.
    #[serde(serialize_with = "digits")]
    pub proof: u128,
    /// For the use of a state unit that was proved before; zero costs nothing, and earns nobody anything.
    #[serde(serialize_with = "digits")]
    pub reuse: u128,
}

impl Policy {
    /// Reads a policy.
    pub fn parse(text: &str) -> Result<Policy, PolicyError> {
        if text.len() > TEXT_MAX {
            return Err(PolicyError::TooLong { got: text.len() });
        }
        let form = |error: toml::de::Error| PolicyError::Form {
            reason: error.to_string().trim_end().replace('\n', " "),
        };
        check_format(&toml::from_str(text).map_err(form)?)?;
        let rules: Rules = toml::from_str(text).map_err(form)?;
        rules.check()?;
        Ok(Policy(Box::new(rules)))
    }

    /// Names the policy.
    pub fn hash(&self) -> Hash {
        let hash = Sha256::new_with_prefix(format!("caldera policy v{}", self.format));
        hash.chain_update(self.bytes()).finalize().into()
    }

    /// The class of this number.
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.iter().find(|class| class.id == id)
    }

    /// What a job of a scenario costs, and of which class it is; one that is not named costs nothing.
    pub fn price(&self, scenario: &str) -> Option<(&Price, &Class)> {
        let price = self.prices.iter().find(|it| it.scenario == scenario)?;
        let class = self.classes.iter().find(|it| it.name == price.class)?;
        Some((price, class))
    }

    /// The factor of a node with so many successes and failures, in basis points.
    pub fn success_factor(&self, successes: u64, failures: u64) -> u32 {
        let all = u128::from(successes) + u128::from(failures);
        if all < u128::from(self.success.sample_min) || all == 0 {
            return self.success.neutral;
        }
        // A rate is at most the whole.
        let rate = (u128::from(WHOLE) * u128::from(successes) / all) as u32;
        let steps = self.success.curve.windows(2);
        let mut steps = steps.map(|step| (step[0], step[1]));
        let ((r0, w0), (r1, w1)) = steps
            .find(|&(_, (until, _))| rate <= until)
            .expect("a checked curve ends at the whole");
        let rise = u64::from(rate - r0) * u64::from(w1 - w0) / u64::from(r1 - r0);
        // It rises to w1 at most.
        w0 + rise as u32
    }

    /// What a developer's work is worth with so many scenarios in the month, in basis points.
    pub fn tier(&self, scenarios: u32) -> u32 {
        let reached = |tier: &&Tier| tier.scenarios_min <= scenarios;
        let tier = self.tiers.iter().rev().find(reached);
        tier.expect("a checked policy's first tier begins at 0")
            .weight
    }

    /// Whether a fee backs compensation for storage until that is spent. Before it did in its own epoch alone, in which whoever
    /// gives storage back is quiet.
    pub(super) fn keeps_backing(&self) -> bool {
        self.format > 2
    }

    /// Whether a stake earns for the seconds that it was there. Before it earned for the whole of the epoch in which it came.
    pub(super) fn accrues_by_second(&self) -> bool {
        self.format > 2
    }

    /// The largest coefficients of nodes (with success), developers and users.
    pub(super) fn coefficients_max(&self) -> [u128; 3] {
        let largest = |of: &dyn Fn(&Class) -> u32| self.classes.iter().map(of).max();
        // A checked policy has classes and tiers.
        let nodes = largest(&|class| class.proof.max(class.reuse)).unwrap_or(0);
        let users = largest(&|class| class.user).unwrap_or(0);
        let developers = self.tiers.iter().map(|tier| tier.weight).max().unwrap_or(0);
        let whole = u128::from(WHOLE);
        [
            u128::from(nodes) * whole,
            u128::from(developers),
            u128::from(users),
        ]
    }

    /// Units of storage compensation for so many byte-seconds, rounded down.
    pub(super) fn storage_price(&self, byte_seconds: u128) -> Option<u128> {
        let whole = (1_u128 << 30) * 3_600;
        Some(mul_div(byte_seconds, self.storage.price_gib_hour, whole)?.0)
    }
}

impl Deref for Policy {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.0
    }
}

impl Rules {
    fn check(&self) -> Result<(), PolicyError> {
        self.check_ranges()?;
        let Fees {
            budget,
            staking,
            storage,
            treasury,
            min,
        } = self.fees;
        let fees = [budget, staking, storage, treasury];
        if sum(&fees) != u64::from(WHOLE) {
            return Err(PolicyError::Sum {
                key: "fees",
                sum: written(&fees),
                expected: format!("{WHOLE} basis points"),
            });
        }
        let Shares {
            nodes,
            developers,
            users,
        } = self.shares;
        let shares = [nodes, developers, users];
        if sum(&shares) > u64::from(WHOLE) {
            return Err(PolicyError::Sum {
                key: "shares",
                sum: written(&shares),
                expected: format!("at most {WHOLE} basis points of the budget"),
            });
        }
        if self.issuance.per_epoch > self.issuance.total {
            return Err(PolicyError::Sum {
                key: "issuance",
                sum: format!("{} units in one epoch", self.issuance.per_epoch),
                expected: format!("at most the total of {}", self.issuance.total),
            });
        }
        self.check_pool()?;
        // What a policy of an earlier format says was said before these were asked for.
        if self.format > 2 {
            self.check_bond()?;
            self.check_fund()?;
        }
        let Ceilings {
            nodes,
            developers,
            users,
            storage,
        } = self.ceilings;
        let ceilings = [nodes, developers, users, storage];
        let left = u64::from(WHOLE).saturating_sub(sum(&ceilings));
        // Both factors are bounded: 2^14 and 2^96.
        if u128::from(left) * min < ROUNDED_STREAMS * u128::from(WHOLE) {
            // In thousandths of a unit, for the sum is seldom whole.
            let paid = u128::from(sum(&ceilings)) * min / 10 + ROUNDED_STREAMS * 1_000;
            return Err(PolicyError::Gain {
                fee_min: min,
                sum: written(&ceilings),
                paid: format!("{}.{:03}", paid / 1_000, paid % 1_000),
            });
        }
        self.check_steps()
    }

    /// What stakes could earn in a year is what the operator has set aside for it.
    fn check_pool(&self) -> Result<(), PolicyError> {
        let Staking {
            rate,
            stake_max,
            pool_per_year,
            ..
        } = self.staking;
        let (mut year, rest) = mul_div(stake_max, u128::from(rate), u128::from(WHOLE))
            .expect("at most ten times the supply");
        year += u128::from(rest > 0);
        if year > pool_per_year {
            return Err(PolicyError::Sum {
                key: "staking",
                sum: format!("{stake_max} staked at {rate} basis points earn {year} units a year"),
                expected: format!("at most pool_per_year of {pool_per_year}"),
            });
        }
        Ok(())
    }

    /// What earns by the second is to be there for some: at least from one close to the next.
    fn check_bond(&self) -> Result<(), PolicyError> {
        let Staking {
            rate,
            lock_s,
            unbonding_s,
            ..
        } = self.staking;
        // Both are checked to be ten years at most.
        let bound = lock_s + unbonding_s;
        match rate == 0 || bound >= self.epoch.length_s {
            true => Ok(()),
            false => Err(PolicyError::Sum {
                key: "staking",
                sum: format!("lock_s of {lock_s} + unbonding_s of {unbonding_s} = {bound} seconds"),
                expected: format!("at least the {} of an epoch", self.epoch.length_s),
            }),
        }
    }

    /// What a fee promises to who gives storage back is there: the same fee brings as much into the fund.
    fn check_fund(&self) -> Result<(), PolicyError> {
        let (promised, brought) = (self.ceilings.storage, self.fees.storage);
        match promised <= brought {
            true => Ok(()),
            false => Err(PolicyError::Sum {
                key: "storage",
                sum: format!("ceilings.storage promises {promised} basis points of a fee"),
                expected: format!("at most the {brought} that fees.storage brings"),
            }),
        }
    }

    fn check_ranges(&self) -> Result<(), PolicyError> {
        let range = |key: &str, got: u128, from: u128, to: u128| match (from..=to).contains(&got) {
            true => Ok(()),
            false => Err(PolicyError::Range {
                key: key.to_owned(),
                expected: format!("{from} to {to}"),
                got,
            }),
        };
        let supply = SUPPLY_MAX;
        for (key, got, from) in [
            ("epoch.budget_max", self.epoch.budget_max, 0),
            ("issuance.per_epoch", self.issuance.per_epoch, 0),
            ("issuance.total", self.issuance.total, 0),
            ("fees.min", self.fees.min, 1),
            ("storage.price_gib_hour", self.storage.price_gib_hour, 0),
            ("staking.stake_max", self.staking.stake_max, 0),
            ("staking.pool_per_year", self.staking.pool_per_year, 0),
            ("offset.era", self.offset.era, 1),
            ("offset.wei", self.offset.wei, 1),
        ] {
            range(key, got, from, supply)?;
        }
        for (key, got, from) in [
            ("epoch.length_s", self.epoch.length_s, 1),
            ("epoch.claim_delay_s", self.epoch.claim_delay_s, 0),
            ("storage.age_min_s", self.storage.age_min_s, 0),
            ("staking.lock_s", self.staking.lock_s, 0),
            ("staking.unbonding_s", self.staking.unbonding_s, 0),
        ] {
            range(key, got.into(), from, TIME_MAX.into())?;
        }
        let whole = u128::from(WHOLE);
        for (key, got) in [
            ("fees.budget", self.fees.budget),
            ("fees.staking", self.fees.staking),
            ("fees.storage", self.fees.storage),
            ("fees.treasury", self.fees.treasury),
            ("shares.nodes", self.shares.nodes),
            ("shares.developers", self.shares.developers),
            ("shares.users", self.shares.users),
            ("ceilings.nodes", self.ceilings.nodes),
            ("ceilings.developers", self.ceilings.developers),
            ("ceilings.users", self.ceilings.users),
            ("ceilings.storage", self.ceilings.storage),
            ("success.neutral", self.success.neutral),
            ("offset.ceiling", self.offset.ceiling),
            ("reinvest.split", self.reinvest.split),
        ] {
            range(key, got.into(), 0, whole)?;
        }
        range(
            "staking.rate",
            self.staking.rate.into(),
            0,
            COEFFICIENT_MAX.into(),
        )?;
        range(
            "success.window_epochs",
            self.success.window_epochs.into(),
            1,
            u32::MAX.into(),
        )?;
        range(
            "classes",
            self.classes.len() as u128,
            1,
            CLASSES_MAX as u128,
        )?;
        range("tiers", self.tiers.len() as u128, 1, STEPS_MAX as u128)?;
        range(
            "success.curve",
            self.success.curve.len() as u128,
            2,
            STEPS_MAX as u128,
        )?;
        for (at, class) in self.classes.iter().enumerate() {
            let key = |what: &str| format!("classes.{}.{what}", class.name);
            for (what, got) in [
                ("proof", class.proof),
                ("reuse", class.reuse),
                ("user", class.user),
            ] {
                range(&key(what), got.into(), 1, COEFFICIENT_MAX.into())?;
            }
            let name = class
                .name
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
            range(
                &key("name"),
                class.name.len() as u128 * u128::from(name),
                1,
                32,
            )?;
            if at > 0 && self.classes[at - 1].id >= class.id {
                return Err(PolicyError::Range {
                    key: key("id"),
                    expected: "a number that no other class has".to_owned(),
                    got: class.id.into(),
                });
            }
        }
        self.check_prices()?;
        for (at, tier) in self.tiers.iter().enumerate() {
            range(
                &format!("tiers[{at}].weight"),
                tier.weight.into(),
                1,
                COEFFICIENT_MAX.into(),
            )?;
        }
        Ok(())
    }

    /// Prices are of scenarios with different names, and of classes that there are.
    fn check_prices(&self) -> Result<(), PolicyError> {
        let refuse = |key: String, expected: &str, got: u128| {
            Err(PolicyError::Range {
                key,
                expected: expected.to_owned(),
                got,
            })
        };
        if self.prices.len() > PRICES_MAX {
            let expected = format!("0 to {PRICES_MAX}");
            return refuse("prices".to_owned(), &expected, self.prices.len() as u128);
        }
        for (at, price) in self.prices.iter().enumerate() {
            let key = |what: &str| format!("prices.{}.{what}", price.scenario);
            if !(1..=SCENARIO_MAX).contains(&price.scenario.len()) {
                let expected = format!("a name of 1 to {SCENARIO_MAX} bytes");
                return refuse(key("name"), &expected, price.scenario.len() as u128);
            }
            if at > 0 && self.prices[at - 1].scenario >= price.scenario {
                return refuse(key("name"), "a name that no other price has", at as u128);
            }
            if !self.classes.iter().any(|it| it.name == price.class) {
                let expected = "the name of one of the classes";
                return refuse(key("class"), expected, price.class.len() as u128);
            }
            for (what, got, from) in [("proof", price.proof, 1), ("reuse", price.reuse, 0)] {
                if !(from..=SUPPLY_MAX).contains(&got) {
                    return refuse(key(what), &format!("{from} to {SUPPLY_MAX}"), got);
                }
            }
        }
        Ok(())
    }

    /// The curve and the tiers begin at 0, ascend, and never fall.
    fn check_steps(&self) -> Result<(), PolicyError> {
        let curve = &self.success.curve;
        let tiers: Vec<_> = self
            .tiers
            .iter()
            .map(|tier| (tier.scenarios_min, tier.weight))
            .collect();
        for (key, steps, last) in [
            ("success.curve", curve, Some(WHOLE)),
            ("tiers", &tiers, None),
        ] {
            let refuse = |at: usize, expected: String, got: u32| PolicyError::Range {
                key: format!("{key}[{at}]"),
                expected,
                got: got.into(),
            };
            if steps[0].0 != 0 {
                return Err(refuse(0, "to begin at 0".to_owned(), steps[0].0));
            }
            for (at, step) in steps.windows(2).enumerate() {
                if step[1].0 <= step[0].0 {
                    return Err(refuse(
                        at + 1,
                        format!("more than {}", step[0].0),
                        step[1].0,
                    ));
                }
                if step[1].1 < step[0].1 {
                    return Err(refuse(
                        at + 1,
                        format!("a weight of {} or more", step[0].1),
                        step[1].1,
                    ));
                }
            }
            let end = steps[steps.len() - 1];
            if let Some(last) = last {
                if end.0 != last {
                    return Err(refuse(steps.len() - 1, format!("to end at {last}"), end.0));
                }
                if end.1 > last {
                    return Err(refuse(
                        steps.len() - 1,
                        format!("a weight of at most {last}"),
                        end.1,
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Holds a text's format against the newest, before it is asked what else is in it. One that does not say which it is of is of
/// the second if it has prices, and of the first if not.
fn check_format(text: &toml::Table) -> Result<(), PolicyError> {
    let said = match text.get("format") {
        Some(toml::Value::Integer(said)) => *said,
        // That it is no number is said by who reads it.
        Some(_) => return Ok(()),
        None if text.contains_key("prices") => 2,
        None => 1,
    };
    match u32::try_from(said) {
        Ok(FORMAT) => Ok(()),
        Ok(got @ 1) => Err(PolicyError::Old {
            got,
            edit: "write `format = 3` in its first line and `[prices]` in its last; without a price in it jobs cost \
                   nothing, as before",
        }),
        Ok(got @ 2) => Err(PolicyError::Old {
            got,
            edit: "write `format = 3` in its first line; from then on a stake earns for its own seconds, and what a \
                   tenant has paid backs what it gets for storage until that is spent",
        }),
        _ => Err(PolicyError::New { got: said }),
    }
}

fn newest() -> u32 {
    FORMAT
}

fn sum(parts: &[u32]) -> u64 {
    parts.iter().map(|&part| u64::from(part)).sum()
}

/// `4,000 + 2,000 = 6,000`, without the commas.
fn written(parts: &[u32]) -> String {
    let terms: Vec<_> = parts.iter().map(u32::to_string).collect();
    format!("{} = {}", terms.join(" + "), sum(parts))
}

/// An amount: digits in a string, with `_` between them where it helps.
fn amount<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
    let text = String::deserialize(from)?;
    let digits: String = text.chars().filter(|&c| c != '_').collect();
    let plain = !text.starts_with('_') && digits.bytes().all(|byte| byte.is_ascii_digit());
    let expected = || {
        D::Error::custom(format!(
            "expected a whole number of units in a string, got {text:?}"
        ))
    };
    plain
        .then(|| digits.parse().ok())
        .flatten()
        .ok_or_else(expected)
}

/// As it is read, without `_`.
fn digits<S: Serializer>(amount: &u128, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(amount)
}

/// Classes are a table by name in the text, and a list by id in a policy.
fn classes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Class>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        id: ClassId,
        proof: u32,
        reuse: u32,
        user: u32,
    }
    let raw = BTreeMap::<String, Raw>::deserialize(from)?;
    let class = |(name, raw): (String, Raw)| Class {
        id: raw.id,
        name,
        proof: raw.proof,
        reuse: raw.reuse,
        user: raw.user,
    };
    let mut classes: Vec<_> = raw.into_iter().map(class).collect();
    classes.sort_by_key(|class| class.id);
    Ok(classes)
}

/// Prices are a table by scenario in the text, and a list by its name in a policy.
fn prices<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Price>, D::Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        class: String,
        #[serde(deserialize_with = "amount")]
        proof: u128,
        #[serde(deserialize_with = "amount")]
        reuse: u128,
    }
    let raw = BTreeMap::<String, Raw>::deserialize(from)?;
    let price = |(scenario, raw): (String, Raw)| Price {
        scenario,
        class: raw.class,
        proof: raw.proof,
        reuse: raw.reuse,
    };
    Ok(raw.into_iter().map(price).collect())
}

impl Coded for Policy {
    fn write(&self, out: &mut Vec<u8>) {
        self.epoch.write(out);
        self.issuance.write(out);
        self.fees.write(out);
        self.shares.write(out);
        self.ceilings.write(out);
        self.success.write(out);
        self.tiers.write(out);
        self.classes.write(out);
        self.storage.write(out);
        self.staking.write(out);
        self.offset.write(out);
        self.reinvest.write(out);
        if self.format > 1 {
            self.prices.write(out);
        }
        if self.format > 2 {
            self.format.write(out);
        }
    }
    /// A policy is the last field of each command that has one.
    fn read(from: &mut Reader<'_>) -> Result<Policy, Malformed> {
        let mut rules = Rules {
            format: 1,
            epoch: Coded::read(from)?,
            issuance: Coded::read(from)?,
            fees: Coded::read(from)?,
            shares: Coded::read(from)?,
            ceilings: Coded::read(from)?,
            success: Coded::read(from)?,
            tiers: Coded::read(from)?,
            classes: Coded::read(from)?,
            storage: Coded::read(from)?,
            staking: Coded::read(from)?,
            offset: Coded::read(from)?,
            reinvest: Coded::read(from)?,
            prices: Vec::new(),
        };
        if from.at < from.bytes.len() {
            rules.format = 2;
            rules.prices = Coded::read(from)?;
        }
        if from.at < from.bytes.len() {
            rules.format = Coded::read(from)?;
            if rules.format != FORMAT {
                return Err(from.meaning("format"));
            }
        }
        match rules.check() {
            Ok(()) => Ok(Policy(Box::new(rules))),
            Err(_) => Err(from.meaning("policy")),
        }
    }
}

impl Coded for Class {
    fn write(&self, out: &mut Vec<u8>) {
        self.id.write(out);
        write_text(&self.name, out);
        self.proof.write(out);
        self.reuse.write(out);
        self.user.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Class, Malformed> {
        Ok(Class {
            id: Coded::read(from)?,
            name: read_text(from)?,
            proof: Coded::read(from)?,
            reuse: Coded::read(from)?,
            user: Coded::read(from)?,
        })
    }
}

impl Coded for Price {
    fn write(&self, out: &mut Vec<u8>) {
        write_text(&self.scenario, out);
        write_text(&self.class, out);
        self.proof.write(out);
        self.reuse.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Price, Malformed> {
        Ok(Price {
            scenario: read_text(from)?,
            class: read_text(from)?,
            proof: Coded::read(from)?,
            reuse: Coded::read(from)?,
        })
    }
}

/// A text is a list of bytes.
fn write_text(text: &str, out: &mut Vec<u8>) {
    text.as_bytes().to_vec().write(out);
}

fn read_text(from: &mut Reader<'_>) -> Result<String, Malformed> {
    String::from_utf8(Coded::read(from)?).map_err(|_| from.meaning("name"))
}

coded_struct! {
    EpochRules { length_s, budget_max, claim_delay_s }
    Issuance { per_epoch, total }
    Fees { budget, staking, storage, treasury, min }
    Shares { nodes, developers, users }
    Ceilings { nodes, developers, users, storage }
    Success { sample_min, neutral, window_epochs, curve }
    Tier { scenarios_min, weight }
    Storage { price_gib_hour, age_min_s }
    Staking { rate, lock_s, unbonding_s, stake_max, pool_per_year }
    Offset { ceiling, era, wei }
    Reinvest { split }
}
