//! What one status call costs the server: a real `calderad` against a server of jsonrpsee, both as processes of
//! their own, with the same tokens, the same method and the same jobs.
//!
//! In each round each of them answers so many calls on 64 connections that stay open, one call at a time on
//! each, and what its process spent on processors is taken. Then each answers calls that come at one rate, whatever
//! it does, and how late its answers are is taken (see `wire`). The rate is half of what the slower of
//! them did in the round that is not counted, so neither is at its end.
//!
//! `calderad` is all that it is: its workers, its arbiter and its telemetry run too. Its jobs have ended, are
//! looked up in its table, and are the rows of the table that the others have. Before each round all
//! must give the same results.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use caldera_rpc::methods::Method;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::bench::{Bench, OURS};
use crate::clock::Times;
use crate::daemon::{Daemon, Server};
use crate::duel::{Runs, Spread};
use crate::live::{Client, small_key};
use crate::reallocate::histogram;
use crate::record::{Case, Unit, records};
use crate::table::{figure, table};
use crate::wire::Wire;

/// What is to be measured.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Calls of one round.
    #[arg(long, default_value_t = CALLS)]
    pub(crate) calls: u64,
    /// Connections that stay open.
    #[arg(long, default_value_t = CONNECTIONS)]
    pub(crate) connections: usize,
    /// Calls a second of the open loop, in place of half of what the slower one can do.
    #[arg(long)]
    pub(crate) rate: Option<f64>,
}

impl Plan {
    /// What is asked for, with so many calls.
    pub(crate) fn of(calls: u64) -> Plan {
        Plan {
            calls,
            connections: CONNECTIONS,
            rate: None,
        }
    }
}

/// What came out; ours is the first of each list.
pub(crate) struct Called {
    calls: u64,
    rate: f64,
    /// Processor time of the servers.
    cpu: Vec<Runs>,
    /// The 99th percentile of latency, as the time on the wall.
    p99: Vec<Runs>,
    /// All latencies of the open loop.
    latency: Vec<Histogram<u64>>,
    /// How busy the thread was that called, in the closed loop and in the open one.
    caller: Vec<[Spread; 2]>,
}

impl Called {
    /// Whether ours costs at most four fifths and answers no later.
    pub(crate) fn holds(&self) -> bool {
        let others = 1..self.cpu.len();
        others.into_iter().all(|at| {
            self.cpu[0].cpu_ratio(&self.cpu[at]).median <= CPU_MAX
                && self.p99[0].wall_ratio(&self.p99[at]).median <= 1.0
        })
    }
}

/// One of the servers.
struct Contender<'a> {
    name: String,
    build: Option<String>,
    server: &'a Server,
    /// Calls one by one, to compare results.
    client: Client,
    wire: Wire,
    cpu: Vec<Times>,
    p99: Vec<Times>,
    latency: Histogram<u64>,
    busy: [Vec<f64>; 2],
}

/// Measures.
pub(crate) fn rpc(bench: &mut Bench, plan: Plan) -> Result<Called> {
    ensure!(plan.calls > 0, "calls: expected 1 or more, got 0");
    let daemon = Daemon::start(CONFIG, None, &[(TENANT, "financial")])?;
    let statuses = ended_jobs(&daemon.client(TENANT)?, plan.connections)?;
    let peers = peers(&daemon, &statuses)?;
    let mut contenders = vec![contender(
        &daemon,
        OURS.to_owned(),
        None,
        daemon.server()?,
        &statuses,
    )?];
    for (name, build, server) in &peers {
        let build = Some(build.clone());
        contenders.push(contender(&daemon, name.clone(), build, server, &statuses)?);
    }

    let mut rate = plan.rate;
    for round in 0..=bench.rounds.min {
        bench.say(&format!("rpc: round {round} of {}", bench.rounds.min));
        let mut slowest = f64::INFINITY;
        for it in &mut contenders {
            agrees(it, &statuses).with_context(|| it.name.clone())?;
            let before = it.server.cpu()?;
            let made = it
                .wire
                .closed(plan.calls)
                .with_context(|| it.name.clone())?;
            let wall = made.times.wall;
            slowest = slowest.min(plan.calls as f64 / wall.as_secs_f64());
            if round > 0 {
                let cpu = it.server.cpu()?.saturating_sub(before);
                it.cpu.push(Times { wall, cpu });
                it.busy[0].push(made.share());
            }
        }
        let rate = *rate.get_or_insert((slowest / 2.0).max(1.0));
        if round == 0 {
            continue;
        }
        // As many as take some seconds.
        let calls = plan.calls.min((OPEN.as_secs_f64() * rate) as u64).max(1);
        for it in &mut contenders {
            let mut latency = histogram();
            let made = it.wire.open(calls, rate, &mut latency);
            let made = made.with_context(|| it.name.clone())?;
            it.p99.push(Times {
                wall: Duration::from_nanos(latency.value_at_quantile(0.99)),
                cpu: Duration::ZERO,
            });
            it.latency.add(&latency)?;
            it.busy[1].push(made.share());
        }
    }

    let called = Called {
        calls: plan.calls,
        rate: rate.unwrap_or_default(),
        cpu: contenders.iter().map(|it| it.runs(&it.cpu)).collect(),
        p99: contenders.iter().map(|it| it.runs(&it.p99)).collect(),
        latency: contenders.iter().map(|it| it.latency.clone()).collect(),
        caller: contenders
            .iter()
            .map(|it| [0, 1].map(|at| Spread::of(it.busy[at].iter().copied())))
            .collect(),
    };
    drop(contenders);
    let (connections, rate) = (plan.connections, called.rate);
    let mut keep = |case: String, unit, inside, runs: &[Runs]| -> Result<()> {
        let case = Case {
            bench: "rpc",
            case,
            size: plan.calls,
            threads: bench.origin.cores,
            unit,
            inside: Some(inside),
        };
        let lines = records(&case, runs, &bench.origin);
        lines.into_iter().try_for_each(|line| bench.keep(line))
    };
    let status = format!("status calls on {connections} connections");
    keep(status.clone(), Unit::Milliseconds, OF_CPU, &called.cpu)?;
    let p99 = format!("p99 of {status}, {rate:.0} a second");
    keep(p99, Unit::WallMilliseconds, OF_LATENCY, &called.p99)?;
    daemon.stop()?;
    Ok(called)
}

/// The figures as a table.
pub(crate) fn of_called(called: &Called) -> String {
    let rows: Vec<Vec<String>> = (0..called.cpu.len())
        .map(|at| {
            let cpu = called.cpu[at].cpu();
            let ratio = |ours: &Runs, of: fn(&Runs, &Runs) -> Spread, other: &Runs| {
                if at == 0 {
                    return String::new();
                }
                let r = of(ours, other);
                format!("{:.2} ({:.2}..{:.2})", r.median, r.low, r.high)
            };
            let ms = |quantile| figure(called.latency[at].value_at_quantile(quantile) as f64 / 1e6);
            let busy = |at: Spread| format!("{:.0} %", at.median * 100.0);
            vec![
                called.cpu[at].name.clone(),
                format!("{:.2} ({:.2}..{:.2})", cpu.median, cpu.low, cpu.high),
                ratio(&called.cpu[0], Runs::cpu_ratio, &called.cpu[at]),
                busy(called.caller[at][0]),
                ms(0.5),
                ms(0.99),
                ms(0.999),
                figure(called.latency[at].max() as f64 / 1e6),
                ratio(&called.p99[0], Runs::wall_ratio, &called.p99[at]),
                busy(called.caller[at][1]),
            ]
        })
        .collect();
    let head = [
        "status calls",
        "server CPU s",
        "ours over it",
        "caller busy",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
        "p99, ours over it",
        "caller busy",
    ];
    let alone = match called.cpu.len() {
        1 => "; nobody to compare with: this program was built without the feature jsonrpsee",
        _ => "",
    };
    format!(
        "{} calls in a round as fast as they go; then {:.0} a second, late or not{alone}\n{}",
        called.calls,
        called.rate,
        table(&head, &rows)
    )
}

impl Contender<'_> {
    fn runs(&self, times: &[Times]) -> Runs {
        Runs {
            name: self.name.clone(),
            build: self.build.clone(),
            times: times.to_vec(),
        }
    }
}

fn contender<'a>(
    daemon: &Daemon,
    name: String,
    build: Option<String>,
    server: &'a Server,
    statuses: &[Value],
) -> Result<Contender<'a>> {
    let calls = statuses.iter().map(|status| {
        let params = json!({ "job": status["job"] });
        json!({ "jsonrpc": "2.0", "id": 1, "method": Method::Status.name(), "params": params })
    });
    let calls = calls.map(|call| call.to_string()).collect();
    let address = server.address();
    Ok(Contender {
        client: Client::new(format!("http://{address}"), TENANT, daemon.secret(TENANT)?),
        wire: Wire::connect(address, TENANT, daemon.secret(TENANT)?, calls)?,
        name,
        build,
        server,
        cpu: Vec::new(),
        p99: Vec::new(),
        latency: histogram(),
        busy: [Vec::new(), Vec::new()],
    })
}

/// As many jobs as there are connections, proved; what is told of them.
fn ended_jobs(client: &Client, jobs: usize) -> Result<Vec<Value>> {
    let (zkey, witness) = small_key(4)?;
    let (circuit, witness) = (client.circuit(&zkey)?, client.store(&witness)?);
    let submission = json!({ "circuit": circuit, "witness": witness });
    let mut statuses = Vec::with_capacity(jobs);
    for _ in 0..jobs {
        let job = client.call(Method::Submit.name(), submission.clone())?["job"].take();
        let wait = json!({ "job": job, "waitMs": 30_000 });
        let status = client.call(Method::Status.name(), wait)?;
        ensure!(status["state"] == "proved", "a job was to end: {status}");
        statuses.push(status);
    }
    Ok(statuses)
}

/// A server tells of each job what ours told when it ended.
fn agrees(contender: &Contender<'_>, statuses: &[Value]) -> Result<()> {
    for expected in statuses {
        let params = json!({ "job": expected["job"] });
        let got = contender.client.call(Method::Status.name(), params)?;
        ensure!(got == *expected, "refused: expected {expected}, got {got}");
    }
    Ok(())
}

/// The others: name, build and server. tokio with as many threads as there are processors is what such a
/// server is by default, and with one it is the cheapest.
#[cfg(feature = "jsonrpsee")]
fn peers(daemon: &Daemon, statuses: &[Value]) -> Result<Vec<(String, String, Server)>> {
    use std::process::Command;

    use crate::daemon::program;
    use crate::peer::jsonrpsee::{SERVE, build};

    let file = daemon.data().with_file_name("jobs.json");
    std::fs::write(&file, json!(statuses).to_string()).context("the table of jobs")?;
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let peer = |threads: usize| {
        let mut command = Command::new(program("caldera-bench")?);
        command.arg(SERVE).arg(&file).arg(TENANT);
        command
            .arg(daemon.secret_file(TENANT))
            .arg(threads.to_string());
        let name = match threads {
            0 => "jsonrpsee, one thread".to_owned(),
            threads => format!("jsonrpsee, {threads} workers"),
        };
        Ok::<_, anyhow::Error>((name, build(threads), Server::start(&mut command)?))
    };
    [all, 0].into_iter().map(peer).collect()
}

#[cfg(not(feature = "jsonrpsee"))]
fn peers(_: &Daemon, _: &[Value]) -> Result<Vec<(String, String, Server)>> {
    Ok(Vec::new())
}

/// What is asked for.
const CPU_MAX: f64 = 0.8;
pub(crate) const CALLS: u64 = 100_000;
const CONNECTIONS: usize = 64;
/// One open loop lasts so long at most.
const OPEN: Duration = Duration::from_secs(10);
const TENANT: &str = "only";
const OF_CPU: &str = "processor time of the server's process; HTTP/1.1 on loopback, HS256 checked, JSON-RPC, \
                      a job looked up; one call at a time on each connection";
const OF_LATENCY: &str = "from when a call was due to its whole answer, calls coming at one rate whatever \
                          the server does";

/// Results stay while they are asked for.
const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
[limits]
table_bytes = 0
";
