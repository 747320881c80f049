//! A year of epochs in which contribution, reward and reinvestment form one loop.
//!
//! The ledger is the one that `calderad` keeps, and everything that anybody has is in it: the agents of
//! this simulation hold no unit of their own, and each payment of theirs is a command that the ledger
//! takes or refuses. Demand is the four-class mix of `pattern`, a day after the other; its tenants are
//! the developers' rollups. Users pay for jobs with what they have, which is what they have earned first
//! and what comes in from outside only when that is spent; nodes, developers and users claim, and with a standing
//! order stake a part of it; developers pay for gas with ERA; tenants give storage back.
//!
//! At each close all balances must have the sum 0, what is paid must be what was divided, and no
//! job may have brought as much as it cost; the first epoch in which that is not so ends the run.
//!
//! How people behave is *assumed*, and each assumption is a line of the report ([`ASSUMPTIONS`]). What the
//! ledger does with it is not.
//!
//! | file | subject |
//! |---|---|
//! | `market` | the ledger, and the commands that agents give |
//! | `agents` | those who do what the rules are made for |
//! | `players` | probes, adversaries, and honest twins that have the same work |
//! | `report`, `plot` | the year as figures and a table, as a drawing |

use thiserror::Error;

use crate::Nanos;
use crate::ledger::command::{Close, EpochNumber};
use crate::ledger::policy::WHOLE;
use crate::ledger::{Asset, Policy, Stream};
use crate::sim::pattern::{Mix, mixed};
use crate::sim::random::Random;

mod agents;
mod market;
mod players;
pub mod plot;
pub mod report;

use agents::Agents;
use market::{Job, Market};
use players::Players;
use report::{Amount, Report};

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The rules.
    pub policy: Policy,
    /// All chance depends on it.
    pub seed: u64,
    /// How many epochs, of an hour each.
    pub epochs: EpochNumber,
    /// The mean demand, in cores.
    pub cores: f64,
    /// How many nodes there are.
    pub nodes: u32,
    /// How many rollups each of the four classes has.
    pub rollups: u16,
    /// How many users there are at a time.
    pub users: u32,
}

/// What must not happen.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("epoch {epoch}: {what}: expected {expected}, got {got}")]
pub struct Fault {
    /// The epoch that was open: after a close the next one.
    pub epoch: EpochNumber,
    /// Of what.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub got: String,
}

/// What is assumed of people, in words for whoever reads the figures.
pub const ASSUMPTIONS: [&str; 6] = [
    "a user who has claimed in a month stays with probability 0.85, another one with 0.70; nobody has measured that, and the \
     retention below shows only that the count finds what was put in",
    "seven users of ten claim, once a week; nodes and developers all do",
    "a third of the nodes, a quarter of the developers and a fifth of the users who claim have standing orders",
    "a node takes 30 % of what it claims out of the ledger, for power and machines",
    "a job costs 0.02 ERA a core-second, a fifth more or less; one in ten is answered by a state unit",
    "demand is generated, and does not answer to prices or rewards",
];

/// Runs a year, or as much as is asked for. `progress` is told each epoch that has been closed.
pub fn year(setup: &Setup, progress: &mut dyn FnMut(EpochNumber)) -> Result<Report, Fault> {
    let mut random = Random::new(setup.seed);
    let mut market = Market::open(&setup.policy)?;
    let mut agents = Agents::new(&mut market, setup, &mut random.fork())?;
    let mut players = Players::new(&mut market)?;
    let mut report = Report::new(setup);
    report.begin(&market);
    let mut hours: Vec<Vec<(u16, u64)>> = Vec::new();
    for epoch in 0..setup.epochs {
        let hour = (epoch % 24) as usize;
        if hour == 0 {
            hours = day(setup, random.bits());
        }
        agents.work(&mut market, &hours[hour])?;
        agents.live(&mut market, epoch)?;
        players.act(&mut market, epoch)?;
        close(&mut market, epoch, &mut players, &mut report)?;
        if hour == 23 {
            report.day(&market);
        }
        progress(epoch);
    }
    players.end(&mut market)?;
    report.end(&market, &agents, &players);
    Ok(report)
}

/// The jobs of each hour of a day: whose rollup, and how many seconds of a core.
fn day(setup: &Setup, seed: u64) -> Vec<Vec<(u16, u64)>> {
    let mix = Mix {
        seed,
        step: Nanos::from_secs(600),
        steps: 144,
        cores: setup.cores,
        tenants: setup.rollups,
    };
    let mut hours = vec![Vec::new(); 24];
    for arrival in mixed(&mix, &SCENARIOS).arrivals(seed) {
        let second = arrival.at.as_millis() / 1_000;
        let hour = &mut hours[(second / 3_600) as usize];
        hour.push((arrival.tenant, arrival.service.as_millis() / 1_000));
    }
    hours
}

/// Closes the epoch and looks at all that must be so.
fn close(
    market: &mut Market,
    epoch: EpochNumber,
    players: &mut Players,
    report: &mut Report,
) -> Result<(), Fault> {
    market.now += HOUR;
    let streams = market.streams();
    let close = market.close(epoch)?;
    for asset in [Asset::Era, Asset::Gas] {
        let sum = market.sum(asset);
        market.hold(sum == 0, &format!("the sum of all {asset:?}"), 0, sum)?;
    }
    let Close {
        nodes,
        developers,
        users,
        storage,
        ..
    } = close;
    let paid = [nodes, developers, users, storage];
    for (stream, paid) in streams.iter().zip(paid) {
        let divided: u128 = stream.parties.iter().map(|portion| portion.amount).sum();
        market.hold(divided == paid, "what a stream pays", divided, paid)?;
    }
    let out = close.nodes + close.developers + close.users + close.dust + close.carried;
    market.hold(out == close.budget, "the budget", close.budget, out)?;
    let jobs = market.take_jobs();
    let fees: u128 = jobs.iter().map(|job| job.fee).sum();
    market.hold(fees == close.fees, "the fees", fees, close.fees)?;
    for portion in &streams[3].parties {
        market.compensated(portion)?;
    }
    let storage = f64::from(market.policy().ceilings.storage) / f64::from(WHOLE);
    let dearest = dearest(&jobs, &streams, storage);
    let below = dearest < 1.0;
    market.hold(below, "paid for a job over its fee", "less than 1", dearest)?;
    players.closed(market, epoch, &streams)?;
    report.epoch(market, &close, dearest, jobs.len());
    Ok(())
}

/// The largest part of its fee that a job has brought to all whom it brought something.
///
/// What a party is paid by a stream is divided among its jobs by what each added to its weight, so
/// the sum over all jobs is what was paid, rounding included. For storage a job brings `storage` of its fee at most, in whatever
/// epoch that is paid, and is taken to bring as much.
fn dearest(jobs: &[Job], streams: &[Stream; 4], storage: f64) -> f64 {
    let mut weights = [const { std::collections::BTreeMap::new() }; 3];
    let parts = |job: &Job| {
        let fee = job.fee as f64;
        let earns = job.earns;
        [
            (Some(job.node), fee * f64::from(job.proving), earns.0),
            (job.developer, fee, earns.1),
            (Some(job.user), fee * f64::from(job.using), earns.1),
        ]
    };
    for job in jobs {
        for (weights, (party, weight, earns)) in weights.iter_mut().zip(parts(job)) {
            if let Some(party) = party.filter(|_| earns) {
                *weights.entry(party).or_insert(0.0) += weight;
            }
        }
    }
    let amounts = streams.each_ref().map(|stream| {
        let portions = stream.parties.iter();
        let amounts = portions.map(|portion| (portion.party, portion.amount as f64));
        amounts.collect::<std::collections::BTreeMap<_, _>>()
    });
    let brought = |job: &Job| {
        let each = parts(job).into_iter().enumerate();
        let each = each.filter_map(|(at, (party, weight, earns))| {
            let party = party.filter(|_| earns)?;
            Some(amounts[at].get(&party)? * weight / weights[at].get(&party)?)
        });
        let backed = if job.earns.1 { storage } else { 0.0 };
        each.sum::<f64>() / job.fee as f64 + backed
    };
    jobs.iter().map(brought).fold(0.0, f64::max)
}

/// Of the mix, in the order of its tenants.
const SCENARIOS: [&str; 4] = ["financial", "supply_chain", "retail", "social"];
/// An epoch.
const HOUR: u64 = 3_600;
/// Units of one ERA.
const ERA: u128 = 1_000_000_000_000_000_000;

/// So many thousandths of an ERA.
const fn milli(thousandths: u128) -> u128 {
    thousandths * (ERA / 1_000)
}

fn amount(units: u128) -> Amount {
    Amount(units.cast_signed())
}
