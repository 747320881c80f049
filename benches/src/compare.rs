//! Two files of results side by side: what became faster, what slower, what cannot be told.
//!
//! Where a peer was measured in both, the ratios to it are compared, for a ratio is of one run and
//! travels between machines. Where there is no peer, times are compared, and only between equal
//! CPU models. A difference counts when the quartiles of old and new do not overlap; anything less
//! is called "same", whatever the medians say.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::record::Record;
use crate::table::{figure, size, table};

/// What became of one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Change {
    /// The quartiles lie below the old ones.
    Faster,
    /// They overlap.
    Same,
    /// The quartiles lie above the old ones.
    Slower,
    /// Times of different machines, or on different clocks.
    Incomparable,
}

/// One case in both files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Comparison {
    pub(crate) bench: String,
    pub(crate) case: String,
    pub(crate) size: u64,
    pub(crate) threads: usize,
    /// The peer whose ratio is compared; none where times are.
    pub(crate) peer: Option<String>,
    pub(crate) old: f64,
    pub(crate) old_spread: [f64; 2],
    pub(crate) new: f64,
    pub(crate) new_spread: [f64; 2],
    /// A unit of time, or "ratio".
    pub(crate) unit: String,
    pub(crate) change: Change,
    /// Of what cannot be compared: why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<String>,
}

/// All cases that are in both files, each by its last line there: files are appended to, and what
/// was measured last is what the commit at the end does.
pub(crate) fn compare(old: &[Record], new: &[Record]) -> Vec<Comparison> {
    let (old, new) = (last(old), last(new));
    let has_ratio: std::collections::BTreeSet<_> = new
        .iter()
        .filter(|(key, record)| record.ratio.is_some() && old.contains_key(*key))
        .map(|(key, _)| key.case())
        .collect();
    new.iter()
        .filter_map(|(key, new)| Some((key, *old.get(key)?, *new)))
        .filter_map(|(key, old, new)| match (old.ratio, new.ratio) {
            (Some(_), Some(_)) => {
                let side = [old.ratio_and_spread()?, new.ratio_and_spread()?];
                Some(comparison(
                    new,
                    Some(key.who.to_owned()),
                    side,
                    "ratio",
                    None,
                ))
            }
            // Ours, where no peer tells more.
            (None, None) if new.ours && !has_ratio.contains(&key.case()) => {
                let side = [(old.value, old.spread), (new.value, new.spread)];
                Some(comparison(new, None, side, &new.unit, against(old, new)))
            }
            _ => None,
        })
        .collect()
}

/// Why times are not held against each other, if they are not.
fn against(old: &Record, new: &Record) -> Option<String> {
    let differ = |what: &str, old: &str, new: &str| {
        (old != new).then(|| format!("{what}: {old:?} and {new:?}"))
    };
    let differences = [
        differ("the processors differ", &old.origin.cpu, &new.origin.cpu),
        differ("the units differ", &old.unit, &new.unit),
    ];
    let differences: Vec<String> = differences.into_iter().flatten().collect();
    (!differences.is_empty()).then(|| differences.join("; "))
}

/// The comparisons as a table.
pub(crate) fn of_comparisons(comparisons: &[Comparison]) -> String {
    let rows: Vec<Vec<String>> = comparisons
        .iter()
        .map(|c| {
            let quartiles = |[low, high]: [f64; 2]| format!("{}..{}", figure(low), figure(high));
            vec![
                c.bench.clone(),
                c.case.clone(),
                size(c.size),
                c.threads.to_string(),
                c.peer
                    .as_ref()
                    .map_or_else(|| c.unit.clone(), |peer| format!("ours/{peer}")),
                figure(c.old),
                quartiles(c.old_spread),
                figure(c.new),
                quartiles(c.new_spread),
                format!("{:+.1} %", (c.new / c.old - 1.0) * 100.0),
                format!("{:?}", c.change).to_lowercase(),
            ]
        })
        .collect();
    let head = [
        "bench",
        "case",
        "size",
        "threads",
        "of",
        "old",
        "quartiles",
        "new",
        "quartiles",
        "median",
        "change",
    ];
    let mut text = table(&head, &rows);
    // Mostly the same for all of a file.
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for reason in comparisons.iter().filter_map(|it| it.why.as_deref()) {
        *reasons.entry(reason).or_default() += 1;
    }
    for (reason, count) in reasons {
        text.push_str(&format!("incomparable ({count} of them): {reason}\n"));
    }
    text
}

/// What lines of the same figure have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key<'a> {
    bench: &'a str,
    name: &'a str,
    size: u64,
    threads: usize,
    who: &'a str,
}

impl<'a> Key<'a> {
    /// The same for all contenders of a case.
    fn case(self) -> (&'a str, &'a str, u64, usize) {
        (self.bench, self.name, self.size, self.threads)
    }
}

/// The last line of each figure.
pub(crate) fn last(records: &[Record]) -> BTreeMap<Key<'_>, &Record> {
    records
        .iter()
        .map(|r| {
            let key = Key {
                bench: &r.bench,
                name: &r.case,
                size: r.size,
                threads: r.threads,
                who: &r.who,
            };
            (key, r)
        })
        .collect()
}

fn comparison(
    record: &Record,
    peer: Option<String>,
    [(old, old_spread), (new, new_spread)]: [(f64, [f64; 2]); 2],
    unit: &str,
    why: Option<String>,
) -> Comparison {
    let change = if why.is_some() {
        Change::Incomparable
    } else if new_spread[1] < old_spread[0] {
        Change::Faster
    } else if new_spread[0] > old_spread[1] {
        Change::Slower
    } else {
        Change::Same
    };
    Comparison {
        bench: record.bench.clone(),
        case: record.case.clone(),
        size: record.size,
        threads: record.threads,
        peer,
        old,
        old_spread,
        new,
        new_spread,
        unit: unit.to_owned(),
        change,
        why,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::Ratio;
    use crate::record::tests::origin;

    pub(crate) fn ours(value: f64, spread: [f64; 2]) -> Record {
        Record {
            bench: "msm".to_owned(),
            case: "g1".to_owned(),
            size: 16,
            threads: 1,
            who: "caldera".to_owned(),
            ours: true,
            value,
            unit: "ms".to_owned(),
            spread,
            cpu_s: value / 1e3,
            wall_s: value / 1e3,
            rounds: 5,
            ratio: None,
            peer_build: None,
            inside: None,
            silicon: None,
            origin: origin(),
        }
    }

    pub(crate) fn peer(ratio: f64, spread: [f64; 2]) -> Record {
        let ratio = Some(Ratio {
            cpu: ratio,
            spread,
            wall: ratio,
            wall_spread: Some(spread),
        });
        Record {
            who: "peer".to_owned(),
            ours: false,
            ratio,
            ..ours(1.0, [1.0, 1.0])
        }
    }

    fn change(old: Record, new: Record) -> Change {
        let comparisons = compare(&[old], &[new]);
        assert_eq!(comparisons.len(), 1);
        comparisons[0].change
    }

    #[test]
    fn only_quartiles_that_do_not_overlap_are_a_change() {
        assert_eq!(
            change(ours(10.0, [9.0, 11.0]), ours(8.0, [7.0, 8.9])),
            Change::Faster
        );
        assert_eq!(
            change(ours(10.0, [9.0, 11.0]), ours(8.0, [7.0, 9.1])),
            Change::Same
        );
        assert_eq!(
            change(ours(10.0, [9.0, 11.0]), ours(12.0, [11.1, 13.0])),
            Change::Slower
        );
    }

    #[test]
    fn times_of_other_machines_are_not_compared_but_ratios_are() {
        let elsewhere = |mut record: Record| {
            record.origin.cpu = "another".to_owned();
            record
        };
        let (old, new) = (ours(10.0, [9.0, 11.0]), elsewhere(ours(1.0, [1.0, 1.0])));
        assert_eq!(change(old.clone(), new.clone()), Change::Incomparable);
        let mut walled = new.clone();
        walled.unit = "ms wall".to_owned();
        let said = of_comparisons(&compare(std::slice::from_ref(&old), &[new]));
        let cpus = format!(
            "the processors differ: {:?} and \"another\"",
            old.origin.cpu
        );
        assert!(
            said.contains(&format!("incomparable (1 of them): {cpus}\n")),
            "{said}"
        );
        let both = of_comparisons(&compare(&[old], &[walled]));
        let units = format!("{cpus}; the units differ: \"ms\" and \"ms wall\"\n");
        assert!(both.contains(&units), "{both}");
        let (old, new) = (peer(0.5, [0.49, 0.51]), elsewhere(peer(0.6, [0.59, 0.61])));
        assert_eq!(change(old, new), Change::Slower);
    }

    #[test]
    fn a_peer_in_both_speaks_for_the_case() {
        let old = [ours(10.0, [9.0, 11.0]), peer(0.5, [0.49, 0.51])];
        let new = [ours(99.0, [98.0, 99.0]), peer(0.5, [0.49, 0.51])];
        let comparisons = compare(&old, &new);
        assert_eq!(comparisons.len(), 1);
        assert_eq!(comparisons[0].peer.as_deref(), Some("peer"));
        assert_eq!(comparisons[0].change, Change::Same);
        // With the peer in one file only, the times are all there is.
        assert_eq!(compare(&old[..1], &new)[0].change, Change::Slower);
    }

    #[test]
    fn the_last_line_of_a_case_counts() {
        let old = [ours(99.0, [99.0, 99.0]), ours(10.0, [9.0, 11.0])];
        assert_eq!(
            compare(&old, &[ours(10.0, [9.0, 11.0])])[0].change,
            Change::Same
        );
    }
}
