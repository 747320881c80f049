//! Small boxes on which everything goes wrong, one for each seed.
//!
//! A seed makes a policy, a box of one to six cores and, every other one, one to three devices, a second or
//! two of demand that is at times far above what the box can do, and faults. The box is run to its end with every property looked at
//! after every event. A seed that fails says how to run it again; with the commit it is a whole bug
//! report.

use thiserror::Error;

use crate::Nanos;
use crate::scenario::{Limits, Policy, Share};
use crate::sim::fault::plan;
use crate::sim::machine::Inventory;
use crate::sim::outcome::Outcome;
use crate::sim::play::{Setup, play};
use crate::sim::properties::Violation;
use crate::sim::random::Random;
use crate::sim::trace::{Row, Tenant, Trace};

/// A seed for which a property is broken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("seed {seed}: {violation}\n{}", again(*.seed))]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What is broken.
    #[source]
    pub violation: Violation,
}

/// Runs the box of a seed to its end.
pub fn run(seed: u64) -> Result<Outcome, Failure> {
    let _named = Named(seed);
    let (trace, setup) = scene(seed);
    play(&trace, &setup, &mut |_| {}).map_err(|violation| Failure { seed, violation })
}

/// Says which seed it was if the arbiter's own assertions end the run.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} panicked\n{}", self.0, again(self.0));
        }
    }
}

fn again(seed: u64) -> String {
    format!(
        "to run it again: cargo run -p caldera-scheduler --bin sim -- seeds --from {seed} --count 1"
    )
}

/// What the seed says.
fn scene(seed: u64) -> (Trace, Setup) {
    let mut random = Random::new(seed);
    let policy = policy(&mut random.fork());
    let cores = random.between(1, 7) as u32;
    let trace = trace(&mut random.fork(), cores, policy.classes().len());
    let (inventory, tables, witness) = beside(&mut random.fork(), cores, trace.tenants().len());
    // Two seeds of three have faults; in the others promises of time are looked at throughout.
    let count = match random.between(0, 3) {
        0 => 0,
        _ => random.between(1, 8) as u32,
    };
    let tenants = trace.tenants().len() as u16;
    let (duration, units) = (trace.duration(), inventory.units());
    let faults = plan(random.bits(), count, duration, units, tenants);
    let setup = Setup {
        inventory,
        policy,
        tables,
        witness,
        parallelism: random.between(1, 5) as u32,
        preparation: Nanos::from_micros(random.between(0, 20_000)),
        tick_gap: Nanos::ZERO,
        seed: random.bits(),
        checks: true,
        faults,
    };
    (trace, setup)
}

/// What the box has beside its cores, the tables of each tenant and the bytes of a witness. What is
/// counted in bytes is a few units of one byte each, so that it is short at times.
fn beside(random: &mut Random, cores: u32, tenants: usize) -> (Inventory, Vec<u64>, u64) {
    let devices = match random.chance(0.5) {
        true => random.between(1, 4) as u32,
        false => 0,
    };
    let device_memory = random.between(1, 12);
    // Some do not fit, and are proved on cores.
    let tables = (0..tenants).map(|_| random.between(0, device_memory + 3));
    let tables = tables.collect();
    let witness = random.between(1, 5);
    let inventory = Inventory {
        cores,
        devices,
        device_speed: random.between(1, 9) as u32,
        device_memory,
        host_memory: match random.chance(0.4) {
            true => witness * random.between(1, 12),
            false => u64::MAX,
        },
    };
    (inventory, tables, witness)
}

/// The standard classes with other figures, such that they can be kept.
fn policy(random: &mut Random) -> Policy {
    let standard = Policy::standard();
    let mut classes = standard.classes().to_vec();
    let mut promised = 100;
    for class in &mut classes {
        let guarantee = random.between(0, promised / 2 + 1);
        promised -= guarantee;
        class.guarantee = Share::from_percent(guarantee as u32);
        class.value = random.between(1, 100) as u32;
        if let Some(peak) = &mut class.peak {
            peak.value = peak.value.max(class.value);
        }
        class.ageing_max = Nanos::from_millis(random.between(100, 1_500));
        class.queue_max = random.between(2, 40) as u32;
        class.prepared_max = random.between(1, 9) as u32;
        if random.chance(0.2) {
            let ceiling = random.between(guarantee.max(20), 101) as u32;
            class.ceiling = Share::from_percent(ceiling);
        }
    }
    let limits = Limits {
        jobs_max: random.between(40, 200) as u32,
        ..*standard.limits()
    };
    match Policy::new(classes, limits) {
        Ok(policy) => policy,
        Err(error) => unreachable!("a policy within its bounds is refused: {error}"),
    }
}

/// One to two seconds and a half in steps of 100 ms, with calm and with sieges.
fn trace(random: &mut Random, units: u32, classes: usize) -> Trace {
    let steps = random.between(10, 25) as u32;
    let tenants: Vec<Tenant> = (0..random.between(2, 7))
        .map(|number| Tenant {
            name: format!("t{number}"),
            class: random.between(0, classes as u64) as usize,
        })
        .collect();
    let step = Nanos::from_millis(100);
    let mut rows = vec![];
    for tenant in 0..tenants.len() as u16 {
        // A quantum at least. Smaller jobs than their witness takes to load keep a tenant's units
        // without work for moments that are each too short for the arbiter to lend them.
        let service = Nanos::from_micros(random.between(2_000, 80_000));
        // From none of it to all of it.
        let for_devices = Nanos(service.0 / 10 * random.between(0, 11));
        // Of what the box can do: next to nothing, or all of it and more.
        let part = random.fraction() * if random.chance(0.3) { 1.2 } else { 0.4 };
        let mut owed = 0.0;
        let mut siege = false;
        for number in 0..steps {
            if random.chance(0.1) {
                siege = !siege;
            }
            let factor = if siege { 2.0 } else { 0.5 };
            owed += factor * part * f64::from(units) * step.0 as f64 / service.0 as f64;
            let arrivals = owed as u32;
            owed -= f64::from(arrivals);
            if arrivals > 0 {
                rows.push(Row {
                    step: number,
                    tenant,
                    arrivals,
                    service,
                    for_devices,
                });
            }
        }
    }
    rows.sort_by_key(|row| row.step);
    Trace::of(step, steps, tenants, rows)
}
