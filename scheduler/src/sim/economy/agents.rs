//! Those who do what the rules are made for: nodes, developers, users, tenants that give storage back, and
//! whoever runs it all.

use super::market::{Job, Market};
use super::{ERA, Fault, SCENARIOS, Setup, milli};
use crate::ledger::command::{Cause, ClassId, EpochNumber, Party, Role};
use crate::ledger::{Account, Asset, Command, Outcome};
use crate::sim::random::Random;

/// All of them.
pub(super) struct Agents {
    random: Random,
    nodes: Vec<Node>,
    /// In the order of the mix's tenants: the rollups of each class one after the other.
    rollups: Vec<Rollup>,
    users_max: u32,
    receipts: u64,
    pub(super) came: u64,
    pub(super) left: u64,
}

struct Node {
    party: Party,
    failing: f64,
}

struct Rollup {
    developer: Party,
    class: ClassId,
    users: Vec<User>,
}

struct User {
    party: Party,
    claims: bool,
}

impl Agents {
    pub(super) fn new(
        market: &mut Market,
        setup: &Setup,
        random: &mut Random,
    ) -> Result<Agents, Fault> {
        let mut agents = Agents {
            random: random.fork(),
            nodes: Vec::new(),
            rollups: Vec::new(),
            users_max: setup.users,
            receipts: 0,
            came: 0,
            left: 0,
        };
        for at in 0..setup.nodes {
            let party = market.newcomer(Role::Node)?;
            market.fund(party, STAKE + STAKE / 10)?;
            market.must(Command::Stake {
                party,
                amount: STAKE,
            })?;
            if at % 3 == 0 {
                market.must(Command::Order { party, on: true })?;
            }
            // Most fail seldom, some in one job of thirty.
            let failing = 0.03 * agents.random.fraction() * agents.random.fraction();
            agents.nodes.push(Node { party, failing });
        }
        for class in CLASSES {
            for at in 0..setup.rollups {
                let developer = market.newcomer(Role::Developer)?;
                market.fund(developer, 10 * ERA)?;
                if at % 4 == 0 {
                    let on = true;
                    market.must(Command::Order {
                        party: developer,
                        on,
                    })?;
                }
                let users = Vec::new();
                agents.rollups.push(Rollup {
                    developer,
                    class,
                    users,
                });
            }
        }
        agents.fill(market)?;
        Ok(agents)
    }

    /// The jobs of an hour: whose rollup, and how many seconds of a core.
    pub(super) fn work(&mut self, market: &mut Market, jobs: &[(u16, u64)]) -> Result<(), Fault> {
        for &(rollup, seconds) in jobs {
            let random = &mut self.random;
            let rollup = &self.rollups[usize::from(rollup)];
            let user = one_of(random, &rollup.users).party;
            let price = random.between(16_000, 24_000);
            let job = Job {
                developer: Some(rollup.developer),
                reused: random.chance(0.1),
                ..Job::proof(
                    0,
                    user,
                    rollup.class,
                    u128::from(seconds * price) * (ERA / 1_000_000),
                )
            };
            // A job that fails is done by another node; one whose input is wrong is not.
            loop {
                let node = one_of(random, &self.nodes);
                let job = Job {
                    node: node.party,
                    ..job.clone()
                };
                if random.chance(0.002) {
                    market.failure(&job, Cause::Input)?;
                    break;
                }
                if !random.chance(node.failing) {
                    market.job(&job)?;
                    break;
                }
                market.failure(&job, Cause::Node)?;
            }
        }
        Ok(())
    }

    /// What else is done in an hour.
    pub(super) fn live(&mut self, market: &mut Market, epoch: EpochNumber) -> Result<(), Fault> {
        let random = &mut self.random;
        // Quiet tenants give storage back at night, most of it where little is asked for.
        for _ in 0..4 {
            let rollup = one_of(random, &self.rollups);
            let user = one_of(random, &rollup.users).party;
            let node = one_of(random, &self.nodes).party;
            market.release(node, user, random.between(1, 200) << 30)?;
        }
        let mut day = epoch % 24;
        for rollup in &self.rollups {
            // Each once a day, at its own hour.
            if day == 0 {
                self.receipts += 1;
                pay_gas(market, rollup.developer, self.receipts)?;
            }
            day = (day + 1) % 24;
        }
        for node in &self.nodes {
            if weekly(node.party, epoch)
                && let Some(claimed) = market.claim(node.party)
            {
                let (party, cost) = (node.party, claimed * 3 / 10);
                let cost = cost.min(market.free(party));
                if cost > 0 {
                    market.transfer(Asset::Era, Account::Free { party }, Account::Outside, cost)?;
                }
            }
        }
        for rollup in &self.rollups {
            if weekly(rollup.developer, epoch) {
                market.claim(rollup.developer);
            }
            for user in rollup.users.iter().filter(|user| user.claims) {
                if weekly(user.party, epoch) {
                    market.claim(user.party);
                }
            }
        }
        market.withdraw_due()?;
        if epoch == 24 * 120 {
            // Every second node takes its first stake out.
            for node in self.nodes.iter().step_by(2) {
                let stake = market.known(node.party).stakes[0];
                market.must(Command::Unstake {
                    stake,
                    amount: STAKE,
                })?;
            }
        }
        if epoch % 720 == 719 {
            self.harvest(market);
            self.leave(market);
            self.fill(market)?;
        }
        match epoch.checked_sub(SETTLED_AFTER) {
            Some(old) => market.settle(old),
            None => Ok(()),
        }
    }

    /// Takes what stakes have earned; some have earned nothing yet.
    fn harvest(&self, market: &mut Market) {
        for node in &self.nodes {
            for stake in market.known(node.party).stakes.clone() {
                if market.ledger.earned(stake).is_ok_and(|earned| earned > 0) {
                    // It was looked for just now.
                    let _ = market.give(Command::Harvest { stake });
                }
            }
        }
    }

    /// At the end of a month some users go: an assumption, and labelled as one.
    fn leave(&mut self, market: &mut Market) {
        for rollup in &mut self.rollups {
            let before = rollup.users.len();
            rollup.users.retain(|user| {
                let stays = match market.take_claimed(user.party) {
                    true => 0.85,
                    false => 0.70,
                };
                self.random.chance(stays)
            });
            self.left += (before - rollup.users.len()) as u64;
        }
    }

    /// Others come in their place, as many to each rollup.
    fn fill(&mut self, market: &mut Market) -> Result<(), Fault> {
        let each = (self.users_max as usize).div_ceil(self.rollups.len());
        for rollup in &mut self.rollups {
            while rollup.users.len() < each {
                let party = market.newcomer(Role::User)?;
                let claims = self.random.chance(0.7);
                if claims && self.random.chance(0.2) {
                    market.must(Command::Order { party, on: true })?;
                }
                rollup.users.push(User { party, claims });
                self.came += 1;
            }
        }
        Ok(())
    }
}

/// A rollup settles: 300,000 gas at a tenth of a gwei, most of it paid in ERA, if there is enough.
fn pay_gas(market: &mut Market, developer: Party, receipt: u64) -> Result<(), Fault> {
    if market.free(developer) < milli(100) {
        return Ok(());
    }
    let hold = market.reserve(developer, milli(100))?;
    let mut digest = [0xec; 32];
    digest[..8].copy_from_slice(&receipt.to_be_bytes());
    let offset = market.must(Command::OffsetGas {
        hold,
        receipt: digest,
        gas_used: 300_000,
        price: 100_000_000,
    })?;
    if let Outcome::Offset { charged, .. } = offset.1 {
        market.spend_rewards(developer, charged);
    }
    // What was reimbursed was spent on the chain.
    let free = Account::Free { party: developer };
    let wei = market.ledger.balance(Asset::Gas, free);
    let wei = wei.map_or(0, i128::unsigned_abs);
    market.transfer(Asset::Gas, free, Account::Outside, wei)
}

/// Whether this is the party's hour of the week.
pub(super) fn weekly(party: Party, epoch: EpochNumber) -> bool {
    epoch % 168 == party % 168
}

fn one_of<'a, T>(random: &mut Random, list: &'a [T]) -> &'a T {
    &list[random.between(0, list.len() as u64) as usize]
}

/// The ledger's class of each scenario of the mix: retail and social are light interaction.
const CLASSES: [ClassId; SCENARIOS.len()] = [1, 2, 0, 0];
/// What a node stakes when it begins.
const STAKE: u128 = 500 * ERA;
/// Payouts that nobody has claimed for sixty days go to the chain.
const SETTLED_AFTER: EpochNumber = 60 * 24;
