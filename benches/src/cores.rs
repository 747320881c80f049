//! What more cores buy: the same proof on many threads and on one, taking turns. The figure is of
//! the wall clock, for CPU time can only become more.
//!
//! Two cores are not twice one core: they share caches and memory, their clock falls when both are
//! busy, and a virtual machine's may be two threads of one core, which it cannot see. So a third
//! contender takes turns with the two: as many proofs as there are threads, one thread each, that
//! have nothing to do with each other. What one of them costs then, against a proof alone, is
//! what this machine gives to any program; what one proof on many threads takes beyond that is
//! what our cutting loses.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use caldera_prover::groth16::ProvingKey;

use crate::bench::Bench;
use crate::drive;
use crate::duel::{Contender, Runs, Spread};
use crate::key::Key;
use crate::prove::Proved;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};
use crate::table::table;

/// What one key came to on one number of threads.
pub(crate) struct Gain {
    /// What was proved, for a heading.
    name: String,
    /// Wall time of a proof on all threads, over that of one on one.
    together: Spread,
    /// Wall time for each of several proofs at once, over that of one alone.
    machine: Spread,
    /// The first over the second.
    loss: Spread,
}

impl Gain {
    /// From the runs on many threads, on one, and at once.
    fn of(name: String, runs: &[Runs], threads: usize) -> Gain {
        let [many, one, at_once] = runs else {
            unreachable!("three contenders, three accounts");
        };
        let scaled = |spread: Spread, factor: f64| Spread {
            low: spread.low * factor,
            median: spread.median * factor,
            high: spread.high * factor,
        };
        Gain {
            name,
            together: many.wall_ratio(one),
            machine: scaled(at_once.wall_ratio(one), 1.0 / threads as f64),
            loss: scaled(many.wall_ratio(at_once), threads as f64),
        }
    }
}

/// Measures a key on each number of threads above one against one.
pub(crate) fn cores(bench: &mut Bench, key: &Key) -> Result<Vec<Gain>> {
    let mut gains = Vec::new();
    for threads in bench.threads.clone() {
        if threads == 1 {
            continue;
        }
        let case = Case {
            bench: "cores",
            case: bench.named(key.name.clone()),
            size: key.domain(),
            threads,
            unit: Unit::WallMilliseconds,
            inside: None,
        };
        let contenders = vec![
            contender(bench, key, threads)?,
            contender(bench, key, 1)?,
            at_once(bench, key, threads)?,
        ];
        let runs = bench.case(&case, contenders)?;
        let name = format!(
            "{}, 2^{}, {threads} threads",
            case.case,
            key.domain().ilog2()
        );
        gains.push(Gain::of(name, &runs, threads));
    }
    Ok(gains)
}

fn contender<'a>(bench: &Bench, key: &'a Key, threads: usize) -> Result<Contender<'a>> {
    let proving = loaded(bench, key, threads)?;
    Ok(Contender::ours(
        format!("caldera on {threads}"),
        Proved::default(),
        move |proved: &mut Proved| proved.run(&proving, &key.witness, threads),
        Proved::answer,
    ))
}

/// So many proofs at once, each on one thread.
fn at_once<'a>(bench: &Bench, key: &'a Key, proofs: usize) -> Result<Contender<'a>> {
    let proving = loaded(bench, key, 1)?;
    let all: Vec<Mutex<Proved>> = (0..proofs).map(|_| Mutex::default()).collect();
    Ok(Contender::ours(
        format!("{proofs} proofs at once on 1"),
        all,
        move |all: &mut Vec<Mutex<Proved>>| {
            drive::together(proofs, |thread| {
                let mut proved = all[thread].lock().unwrap_or_else(PoisonError::into_inner);
                proved.run(&proving, &key.witness, 1)
            })
            .into_iter()
            .collect()
        },
        |all| {
            let mut answers = all.iter().map(|proved| {
                proved
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .answer()
            });
            let first = answers.next().context("no proofs")??;
            answers.try_fold(first, |_, answer| answer)
        },
    ))
}

fn loaded(bench: &Bench, key: &Key, threads: usize) -> Result<Arc<ProvingKey>> {
    let device = bench.device(QUANTUM, 2 * threads)?;
    ProvingKey::load(&key.zkey, device).context("loading the key")
}

/// The gains as a table.
pub(crate) fn of_gains(gains: &[Gain]) -> String {
    let ratio = |r: Spread| format!("{:.3} ({:.3}..{:.3})", r.median, r.low, r.high);
    let rows: Vec<Vec<String>> = gains
        .iter()
        .map(|gain| {
            vec![
                gain.name.clone(),
                ratio(gain.together),
                ratio(gain.machine),
                ratio(gain.loss),
            ]
        })
        .collect();
    let head = ["case", "wall, many/one", "the machine's own", "beyond that"];
    table(&head, &rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Times;

    #[test]
    fn what_the_machine_gives_is_told_from_what_cutting_loses() {
        let runs = [150, 240, 280].map(|wall_ms| Runs {
            name: String::new(),
            build: None,
            times: vec![Times {
                wall: Duration::from_millis(wall_ms),
                cpu: Duration::ZERO,
            }],
        });
        let gain = Gain::of("a key".to_owned(), &runs, 2);
        // Alone 240, two at once 280, so 140 each; one on two threads takes ten more than that.
        let close = |spread: Spread, expected: f64| (spread.median - expected).abs() < 1e-9;
        assert!(close(gain.together, 150.0 / 240.0));
        assert!(close(gain.machine, 140.0 / 240.0));
        assert!(close(gain.loss, 150.0 / 140.0));
        assert!(of_gains(&[gain]).contains("0.625 (0.625..0.625)  0.583 (0.583..0.583)"));
    }
}
