//! Ours over the best of its peers on a GPU, case by case, from lines of `gpu`.
//!
//! A case is what took turns: the first line is ours, and the lines after it that have a ratio were held against it.
//! Where a case was measured more than once the last time counts. The best is who took the least time on the wall;
//! ours over it is the ratio of their rounds. Beside both stands what the processors spent meanwhile.

use serde::Serialize;

use crate::record::{GPU, Record};
use crate::table::{figure, table};

/// A case that a peer took part in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Best {
    case: String,
    size: u64,
    ours: Who,
    peer: Who,
    /// Who else took part.
    others: Vec<Who>,
    /// Ours over the best peer on the wall clock, and its quartiles.
    ratio: f64,
    spread: [f64; 2],
    /// What it may be.
    at_most: f64,
    holds: bool,
}

/// One who was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Who {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    build: Option<String>,
    wall_ms: f64,
    cpu_ms: f64,
}

/// Of each case, in order.
pub(crate) fn best(records: &[Record]) -> Vec<Best> {
    let mut all: Vec<Best> = Vec::new();
    let lines: Vec<&Record> = records.iter().filter(|it| it.bench == GPU).collect();
    for turns in lines.chunk_by(|_, next| next.ratio.is_some()) {
        let Some(best) = of_turns(turns) else {
            continue;
        };
        all.retain(|it| (&it.case, it.size) != (&best.case, best.size));
        all.push(best);
    }
    all
}

fn of_turns(turns: &[&Record]) -> Option<Best> {
    let (ours, rest) = turns.split_first()?;
    let mut peers: Vec<&Record> = rest.iter().copied().filter(|it| !it.ours).collect();
    peers.sort_by(|a, b| a.wall_s.total_cmp(&b.wall_s));
    let (peer, others) = peers.split_first()?;
    let (ratio, spread) = peer.ratio_and_spread()?;
    Some(Best {
        case: ours.case.clone(),
        size: ours.size,
        ours: Who::of(ours),
        peer: Who::of(peer),
        others: others.iter().map(|it| Who::of(it)).collect(),
        ratio,
        spread,
        at_most: AT_MOST,
        holds: ratio <= AT_MOST,
    })
}

impl Who {
    fn of(record: &Record) -> Who {
        Who {
            name: record.who.clone(),
            build: record.peer_build.clone(),
            wall_ms: record.wall_s * 1e3,
            cpu_ms: record.cpu_s * 1e3,
        }
    }
}

/// For people.
pub(crate) fn of_best(all: &[Best]) -> String {
    let times = |who: &Who| [figure(who.wall_ms), figure(who.cpu_ms)];
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|it| {
            let [low, high] = it.spread;
            let mut row = vec![it.case.clone(), it.size.to_string(), it.ours.name.clone()];
            row.extend(times(&it.ours));
            row.push(it.peer.name.clone());
            row.extend(times(&it.peer));
            row.push(format!("{:.3} ({low:.3}..{high:.3})", it.ratio));
            let verdict = if it.holds { "met" } else { "missed" };
            row.push(format!("<= {}: {verdict}", it.at_most));
            row
        })
        .collect();
    let head = [
        "what",
        "size",
        "ours",
        "wall ms",
        "cpu ms",
        "best peer",
        "wall ms",
        "cpu ms",
        "ours over it",
        "aim",
    ];
    table(&head, &rows)
}

/// Of the time of the best peer.
const AT_MOST: f64 = 0.7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::origin;
    use crate::record::{Ratio, WALL};

    fn line(case: &str, who: &str, ours: bool, ms: f64, over: Option<f64>) -> Record {
        Record {
            bench: GPU.to_owned(),
            case: case.to_owned(),
            size: 4,
            threads: 1,
            who: who.to_owned(),
            ours,
            value: ms,
            unit: WALL.to_owned(),
            spread: [ms; 2],
            cpu_s: 1e-3,
            wall_s: ms / 1e3,
            rounds: 3,
            ratio: over.map(|ours| Ratio {
                cpu: 9.0,
                spread: [9.0; 2],
                wall: ours / ms,
                wall_spread: Some([0.5, 0.75]),
            }),
            peer_build: (!ours).then(|| format!("{who} 1.0")),
            inside: None,
            silicon: None,
            origin: origin(),
        }
    }

    #[test]
    fn the_quickest_peer_of_the_last_time_counts_and_devices_are_no_peers() {
        let lines = [
            // An earlier time, and a case without peers.
            line("msm", "cuda:0", true, 50.0, None),
            line("msm", "sppark", false, 60.0, Some(50.0)),
            line("take-over", "cuda:0", true, 1.0, None),
            line("msm", "cuda:0", true, 10.0, None),
            line("msm", "wgpu", true, 5.0, Some(10.0)),
            line("msm", "icicle", false, 40.0, Some(10.0)),
            line("msm", "sppark", false, 12.5, Some(10.0)),
            line("ntt", "cuda:0", true, 1.0, None),
            line("ntt", "sppark", false, 2.0, Some(1.0)),
        ];
        let found = best(&lines);
        let rows: Vec<_> = found
            .iter()
            .map(|it| (&*it.case, &*it.peer.name, it.ratio, it.holds))
            .collect();
        assert_eq!(
            rows,
            [("msm", "sppark", 0.8, false), ("ntt", "sppark", 0.5, true)]
        );
        assert_eq!(found[0].others[0].name, "icicle");
        let text = of_best(&found);
        for part in ["0.800 (0.500..0.750)", "<= 0.7: missed", "<= 0.7: met"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(best(&lines[2..3]).is_empty());
    }
}
