//! `caldera plan`: how many proofs an hour of which keys a box serves, at which deadlines.
//!
//! What a proof costs is the box's own figure: the core time of the proofs that it has made with a key, tables and devices and all, or until
//! there was one what it guesses from the key's size. A proof spreads over all cores that its tenant holds, and the most urgent of a tenant's
//! has all of them, so a tenant with `k` cores is one server that takes `core time / k` for each. Requests come at random,
//! independently of each other (a Poisson stream): a queue of the kind M/D/1 (D. G. Kendall, 1953). How long one waits in it is found by
//! following a hundred thousand requests with Lindley's recursion (D. V. Lindley, 1952), always the same ones; the rate is the highest at which
//! no more than the allowed part is late.
//!
//! Two lines for each key: on what the tenant's class is guaranteed, and on the whole box, which it has only while nobody else wants any.
//! Keys share the cores: each line says what there is of that key alone.

use caldera_rpc::methods::{
    CircuitInfo, CircuitState, Estimate, EstimateProof, ListCircuits, Method, PoolQuery, PoolStatus,
};
use serde_json::{Value, json};

use crate::Report;
use crate::service::Connection;
use crate::table::{Table, milliseconds};
use caldera_client::Client;

/// Say how many proofs an hour a box serves with a tenant's keys, at which deadlines
///
/// From what the box has measured of its own proofs; the box proves nothing for it. Rates are those at which requests may come at random
/// times; "at once" is how many may come in the same moment.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Deadlines, in milliseconds from a request
    #[arg(long, value_name = "MS,...", value_delimiter = ',', default_value = "1000,10000,60000", value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    deadline_ms: Vec<u64>,
    /// What part of the proofs may be late
    #[arg(long, value_name = "PERCENT", default_value = "1", value_parser = percent)]
    late: f64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let pool: PoolStatus = client.call(Method::Pool, &PoolQuery {})?;
    let all = pool.units.iter().filter(|unit| unit.device.is_none());
    let all = all.count() as f64;
    let own = pool.tenants.iter().find_map(|it| it.detail);
    let guaranteed = own.map_or(0.0, |it| all * it.guarantee_percent / 100.0);
    let mut shares = vec![("guaranteed", guaranteed), ("all", all)];
    // Less than a core is had in turns: a proof takes as much longer.
    shares.retain(|(_, cores)| *cores > 0.0);
    let circuits: Vec<CircuitInfo> = client.call(Method::ListCircuits, &ListCircuits {})?;
    let mut head = vec!["key", ">a proof", "from", "cores"];
    let deadlines: Vec<String> = arguments
        .deadline_ms
        .iter()
        .flat_map(|ms| {
            let deadline = milliseconds(*ms as f64 * 1e3);
            [format!(">in {deadline}, an hour"), ">at once".to_owned()]
        })
        .collect();
    head.extend(deadlines.iter().map(String::as_str));
    let mut table = Table::new(&head);
    let mut documents = Vec::new();
    for circuit in &circuits {
        if circuit.state != CircuitState::Ready {
            continue;
        }
        let estimate = estimate(&client, circuit)?;
        for (share, cores) in &shares {
            let service_ms = estimate.core_ms / cores;
            let answers: Vec<Answer> = arguments
                .deadline_ms
                .iter()
                .map(|ms| Answer::of(service_ms, *ms as f64, arguments.late / 100.0))
                .collect();
            let mut cells = vec![
                name(circuit),
                milliseconds(service_ms * 1e3),
                if estimate.measured {
                    "proofs"
                } else {
                    "its size"
                }
                .to_owned(),
                format!("{cores:.1} ({share})"),
            ];
            cells.extend(
                answers.iter().flat_map(|answer| {
                    [format!("{:.0}", answer.an_hour), answer.at_once.to_string()]
                }),
            );
            table.row(cells);
            documents.push(document(circuit, &estimate, share, *cores, &answers));
        }
    }
    let mut text = table.to_string();
    if documents.is_empty() {
        text = "no key of this tenant is ready: register one, and prove with it once\n".to_owned();
    }
    let late = arguments.late;
    Ok(Report::new(
        text,
        json!({ "latePercent": late, "plans": documents }),
    ))
}

fn estimate(client: &Client, circuit: &CircuitInfo) -> anyhow::Result<Estimate> {
    let circuit = circuit.circuit;
    Ok(client.call(Method::Estimate, &EstimateProof { circuit })?)
}

fn name(circuit: &CircuitInfo) -> String {
    match &circuit.name {
        Some(name) => name.as_str().to_owned(),
        None => circuit.circuit.to_string().chars().take(12).collect(),
    }
}

/// What there is of a key at a deadline.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Answer {
    deadline_ms: f64,
    /// Requests that may come in an hour.
    an_hour: f64,
    /// Requests that may come in one moment.
    at_once: u64,
}

impl Answer {
    fn of(service_ms: f64, deadline_ms: f64, late: f64) -> Answer {
        Answer {
            deadline_ms,
            an_hour: load(service_ms, deadline_ms, late) / service_ms * HOUR_MS,
            at_once: (deadline_ms / service_ms) as u64,
        }
    }
}

/// The highest part of a server's time that requests may take, so that no more than the part `late` of them is late.
fn load(service_ms: f64, deadline_ms: f64, late: f64) -> f64 {
    if service_ms > deadline_ms {
        return 0.0;
    }
    let (mut fits, mut exceeds) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let load = (fits + exceeds) / 2.0;
        if late_part(load, deadline_ms / service_ms) <= late {
            fits = load;
        } else {
            exceeds = load;
        }
    }
    fits
}

/// What part of the requests is late on a server that is so loaded. The deadline is in service times.
fn late_part(load: f64, deadline: f64) -> f64 {
    let late = waits(load).filter(|wait| wait + 1.0 > deadline).count();
    late as f64 / REQUESTS as f64
}

/// How long each of some requests waits, in service times: Lindley's recursion.
fn waits(load: f64) -> impl Iterator<Item = f64> {
    // xorshift64* (G. Marsaglia, 2003; S. Vigna, 2016), from a fixed seed: the same box gets the same answer.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut wait: f64 = 0.0;
    (0..REQUESTS).map(move |_| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let bits = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        // Above 0 and at most 1.
        let part = (bits + 1) as f64 / (1_u64 << 53) as f64;
        let gap = -part.ln() / load;
        wait = (wait + 1.0 - gap).max(0.0);
        wait
    })
}

fn document(
    circuit: &CircuitInfo,
    estimate: &Estimate,
    share: &str,
    cores: f64,
    answers: &[Answer],
) -> Value {
    let answers = answers.iter().map(|it| {
        json!({ "deadlineMs": it.deadline_ms, "proofsAnHour": it.an_hour, "atOnce": it.at_once })
    });
    json!({
        "circuit": circuit.circuit,
        "name": circuit.name,
        "coreMs": estimate.core_ms,
        "measured": estimate.measured,
        "share": share,
        "cores": cores,
        "deadlines": answers.collect::<Vec<_>>(),
    })
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let fits = percent > 0.0 && percent < 100.0;
    fits.then_some(percent)
        .ok_or_else(|| format!("expected more than 0 and less than 100, got {text}"))
}

const HOUR_MS: f64 = 3_600_000.0;
/// Their figures differ by a few percent from those of endlessly many, as does any box from a model.
const REQUESTS: u32 = 100_000;
/// To a thousandth of a load.
const HALVINGS: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// The mean wait is the one of Pollaczek and Khinchine: load / 2 (1 - load) service times.
    #[test]
    fn waits_are_those_of_the_theory() {
        for load in [0.1, 0.5, 0.8] {
            let mean = waits(load).sum::<f64>() / f64::from(REQUESTS);
            let expected = load / (2.0 * (1.0 - load));
            assert!(
                (mean / expected - 1.0).abs() < 0.05,
                "{load}: {mean}, {expected}"
            );
        }
        // Who comes to an idle server does not wait: one in two at a load of a half.
        let idle = waits(0.5).filter(|wait| *wait == 0.0).count() as f64;
        assert!((idle / f64::from(REQUESTS) - 0.5).abs() < 0.01, "{idle}");
    }

    #[test]
    fn a_longer_deadline_serves_more_and_one_below_a_proof_nothing() {
        let answer = |deadline| Answer::of(100.0, deadline, 0.01);
        assert_eq!(answer(99.0).an_hour, 0.0);
        assert_eq!(answer(99.0).at_once, 0);
        assert_eq!(answer(250.0).at_once, 2);
        let rates: Vec<f64> = [100.0, 200.0, 500.0, 2_000.0, 60_000.0]
            .map(|deadline| answer(deadline).an_hour)
            .to_vec();
        assert!(rates.is_sorted(), "{rates:?}");
        // With no slack at all one in a hundred may meet another: a load of about a hundredth.
        assert!((200.0..800.0).contains(&rates[0]), "{rates:?}");
        // 36,000 is all that the server can do.
        assert!((34_000.0..36_000.0).contains(&rates[4]), "{rates:?}");
        // More of them late, more served.
        assert!(Answer::of(100.0, 200.0, 0.1).an_hour > rates[1]);
    }
}
