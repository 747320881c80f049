//! What cutting costs: the same proof in quanta of 2 ms and not cut at all, taking turns.
//!
//! A core can change hands at any quantum boundary and no work is lost; this bench says what that
//! freedom costs when nobody uses it, and how long a core is really held. "Uncut" is a device that
//! is told that a quantum may last for ever and that there are as many lanes as threads.

use std::time::Duration;

use anyhow::{Context, Result};
use caldera_prover::groth16::ProvingKey;

use crate::bench::Bench;
use crate::drive::{Quanta, Trace};
use crate::duel::{Contender, Spread};
use crate::key::Key;
use crate::prove::Proved;
use crate::record::{Case, Unit};
use crate::table::{figure, table};

/// How long a quantum may hold a core.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);

/// One size on one number of threads.
pub(crate) struct Cut {
    /// What was proved, for a heading.
    pub(crate) name: String,
    /// CPU time cut over CPU time uncut.
    pub(crate) ratio: Spread,
    /// The quanta of all counted proofs.
    pub(crate) quanta: Quanta,
}

/// Measures a key.
pub(crate) fn quanta(bench: &mut Bench, key: &Key) -> Result<Vec<Cut>> {
    let mut cuts = Vec::new();
    for threads in bench.threads.clone() {
        let load = |quantum, lanes| {
            let device = bench.device(quantum, lanes)?;
            ProvingKey::load(&key.zkey, device).context("loading the key")
        };
        let cut_key = load(QUANTUM, 2 * threads)?;
        let uncut_key = load(Duration::MAX, threads)?;
        let case = Case {
            bench: "quanta",
            case: bench.named(key.name.clone()),
            size: key.domain(),
            threads,
            unit: Unit::Milliseconds,
            inside: None,
        };
        let mut all = Trace::default();
        let cut = Contender::ours(
            "caldera cut at 2 ms",
            Proved::default(),
            |proved: &mut Proved| {
                proved.run(&cut_key, &key.witness, threads)?;
                all.add(proved.trace())
            },
            Proved::answer,
        );
        let uncut = Contender::ours(
            "caldera uncut",
            Proved::default(),
            |proved: &mut Proved| proved.run(&uncut_key, &key.witness, threads),
            Proved::answer,
        );
        let runs = bench.case(&case, vec![cut, uncut])?;
        cuts.push(Cut {
            name: format!(
                "{}, 2^{}, {threads} thread(s)",
                case.case,
                key.domain().ilog2()
            ),
            ratio: runs[0].cpu_ratio(&runs[1]),
            quanta: all.total()?,
        });
    }
    Ok(cuts)
}

/// The cuts as a table: the ratio that the gate is on, and how long quanta were.
pub(crate) fn of_cuts(cuts: &[Cut]) -> String {
    let rows: Vec<Vec<String>> = cuts
        .iter()
        .flat_map(|cut| {
            let ratio = cut.ratio;
            let clocks = [("cpu", &cut.quanta.cpu_ns), ("wall", &cut.quanta.wall_ns)];
            clocks.map(|(clock, histogram)| {
                let us = |ns: u64| figure(ns as f64 / 1e3);
                vec![
                    cut.name.clone(),
                    format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.low, ratio.high),
                    clock.to_owned(),
                    histogram.len().to_string(),
                    us(histogram.value_at_quantile(0.5)),
                    us(histogram.value_at_quantile(0.99)),
                    us(histogram.max()),
                    over(histogram).to_string(),
                ]
            })
        })
        .collect();
    let head = [
        "case",
        "cut/uncut",
        "clock",
        "quanta",
        "p50 us",
        "p99 us",
        "max us",
        "over 2 ms",
    ];
    table(&head, &rows)
}

/// How many quanta were longer than they may be.
fn over(histogram: &hdrhistogram::Histogram<u64>) -> u64 {
    let bound = QUANTUM.as_nanos() as u64;
    histogram
        .iter_recorded()
        .filter(|v| v.value_iterated_to() > bound)
        .map(|v| v.count_at_value())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quanta_over_their_length_are_counted() {
        let mut histogram = hdrhistogram::Histogram::new(3).expect("three digits");
        for us in [10, 1_999, 2_100, 50_000] {
            histogram.record(us * 1000).expect("a small value");
        }
        assert_eq!(over(&histogram), 2);
    }
}
