//! `caldera profile JOB`: the quanta of a job as a trace, for performance engineers.
//!
//! The file is in the trace event format of Chrome, which <https://ui.perfetto.dev> opens: plain
//! JSON with an object for each event. Perfetto's own protobuf would be smaller and would need a
//! crate more; a job of a minute is some ten megabytes of JSON, which is no burden, and any script
//! can read it.
//!
//! One process of the trace is the box, with a track for each worker: its quanta and the cores
//! that came and went. The other is the job: how long it waited for what, and a track for each
//! part of the proof with its stages, from the first quantum of each to its last. Times begin at the
//! job's receipt. Gaps on a worker's track are what it did for others, or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use caldera_client::{Client, ClientError};
use caldera_rpc::methods::{JobName, JobProfile, Method, ProfileQuery, ProfiledReallocation};
use serde_json::{Value, json};

use crate::files::Outputs;
use crate::service::Connection;
use crate::{Report, table};

/// Write what a job of a calderad did, quantum by quantum, as a trace
///
/// Open the file on ui.perfetto.dev or in chrome://tracing. A box keeps the quanta of recent jobs
/// only; the command says how many of this one are lost.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The job, as submit named it
    #[arg(value_name = "JOB")]
    job: JobName,
    #[command(flatten)]
    connection: Connection,
    /// Where to write the trace; JOB.json by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| format!("{}.json", arguments.job).into());
    Outputs::check(&path)?;
    let profile = fetch(&arguments.connection.client()?, arguments.job)?;
    let trace = trace(&profile);
    let mut outputs = Outputs::default();
    outputs.add(&path, |out| Ok(serde_json::to_writer(out, &trace)?))?;
    outputs.commit()?;

    let (count, cpu_us) = (
        profile.quanta.len(),
        profile.quanta.iter().map(|it| it.cpu_us),
    );
    let spans = profile.quanta.iter().map(|it| it.span_us);
    let (span_us, cpu_us) = (spans.sum::<f64>(), cpu_us.sum::<f64>());
    let mut text = format!(
        "wrote {count} quanta of job {} to {}: {} on cores, of which the threads ran {}\n",
        profile.status.job,
        path.display(),
        table::milliseconds(span_us),
        table::milliseconds(cpu_us),
    );
    if profile.lost > 0 {
        let (lost, total) = (profile.lost, profile.total);
        text.push_str(&format!(
            "{lost} of its {total} quanta are lost: newer ones have taken their place\n"
        ));
    }
    let json = json!({
        "job": profile.status.job,
        "file": path,
        "quanta": count,
        "lost": profile.lost,
        "spanUs": span_us,
        "cpuUs": cpu_us,
        "reallocations": profile.reallocations.len(),
    });
    Ok(Report::new(text, json))
}

/// All pages as one.
fn fetch(client: &Client, job: JobName) -> Result<JobProfile, ClientError> {
    let ask = |from| -> Result<JobProfile, ClientError> {
        client.call(Method::Profile, &ProfileQuery { job, from })
    };
    let mut profile = ask(None)?;
    let mut next = profile.next.take();
    while next.is_some() {
        let page = ask(next)?;
        profile.quanta.extend(page.quanta);
        (profile.status, profile.total) = (page.status, page.total);
        next = page.next;
    }
    // While pages were asked for, quanta may have been added and overwritten.
    profile.lost = profile.total.saturating_sub(profile.quanta.len() as u64);
    Ok(profile)
}

/// A profile in the trace event format. The same profile gives the same trace.
fn trace(profile: &JobProfile) -> Value {
    let mut events = Vec::new();
    let name = |events: &mut Vec<Value>, pid: u64, tid: Option<u64>, name: String| {
        let what = if tid.is_some() { "thread" } else { "process" };
        let (tid, args) = (tid.unwrap_or(0), json!({ "name": name }));
        events.push(json!({
            "ph": "M", "name": format!("{what}_name"), "pid": pid, "tid": tid, "args": args,
        }));
        let order = json!({ "sort_index": if what == "thread" { tid } else { pid } });
        events.push(json!({
            "ph": "M", "name": format!("{what}_sort_index"), "pid": pid, "tid": tid, "args": order,
        }));
    };
    let status = &profile.status;
    name(&mut events, JOB, None, format!("job {}", status.job));
    name(&mut events, JOB, Some(1), "waits and runs".to_owned());
    events.extend(waits(profile));

    let parts = parts(profile);
    for (tid, (part, stages)) in (2..).zip(&parts) {
        name(&mut events, JOB, Some(tid), (*part).to_owned());
        events.extend(stages.iter().map(|span| span.event(profile, tid)));
    }

    name(&mut events, BOX, None, "box".to_owned());
    for unit in &profile.units {
        let track = match &unit.device {
            None => format!("worker {} (core {})", unit.unit, unit.core),
            Some(device) => format!("worker {} ({device})", unit.unit),
        };
        name(&mut events, BOX, Some(track_of(unit.unit)), track);
    }
    for it in &profile.quanta {
        let Some(stage) = profile.stages.get(it.stage as usize) else {
            continue;
        };
        events.push(json!({
            "ph": "X", "name": stage.kernel, "cat": "quantum", "pid": BOX, "tid": track_of(it.unit),
            "ts": it.start_us, "dur": it.span_us,
            "args": {
                "part": stage.part, "lane": it.lane, "size": stage.size, "bytes": stage.bytes,
                "tableBytes": stage.table_bytes, "cpuUs": it.cpu_us,
            },
        }));
    }
    events.extend(profile.reallocations.iter().map(instant));
    json!({
        "displayTimeUnit": "ms",
        "traceEvents": events,
        "otherData": { "status": status, "total": profile.total, "lost": profile.lost },
    })
}

/// What the job waited for, one after the other, and that it ran.
fn waits(profile: &JobProfile) -> Vec<Value> {
    let status = &profile.status;
    let (started, finished) = (
        status.started_ms.map(|ms| ms * 1e3),
        status.finished_ms.map(|ms| ms * 1e3),
    );
    let steps = [
        ("waits for its turn", Some(0.0), profile.preparing_us),
        ("is laid out", profile.preparing_us, profile.prepared_us),
        ("waits for a core", profile.prepared_us, started),
        ("runs", started, finished),
    ];
    let mut events = vec![json!({
        "ph": "i", "s": "t", "name": "submitted", "cat": "job", "pid": JOB, "tid": 1, "ts": 0.0,
        "args": { "submittedMs": status.submitted_ms, "deadlineMs": status.deadline_ms },
    })];
    for (name, from, to) in steps {
        let Some((from, to)) = from.zip(to.or(finished)) else {
            continue;
        };
        events.push(json!({
            "ph": "X", "name": name, "cat": "job", "pid": JOB, "tid": 1, "ts": from, "dur": (to - from).max(0.0),
        }));
    }
    if let Some(at) = finished {
        events.push(json!({
            "ph": "i", "s": "t", "name": status.state.to_string(), "cat": "job", "pid": JOB, "tid": 1, "ts": at,
            "args": { "late": status.late },
        }));
    }
    events
}

/// A stage from its first quantum to its last.
struct Span {
    stage: usize,
    from: f64,
    to: f64,
    quanta: u64,
    cpu_us: f64,
}

impl Span {
    fn event(&self, profile: &JobProfile, tid: u64) -> Value {
        let stage = &profile.stages[self.stage];
        json!({
            "ph": "X", "name": stage.kernel, "cat": "stage", "pid": JOB, "tid": tid,
            "ts": self.from, "dur": self.to - self.from,
            "args": {
                "quanta": self.quanta, "cpuUs": self.cpu_us, "size": stage.size, "bytes": stage.bytes,
                "tableBytes": stage.table_bytes,
            },
        })
    }
}

/// The parts of the proof in the order in which they began, each with those of its stages that ran.
fn parts(profile: &JobProfile) -> Vec<(&str, Vec<Span>)> {
    let mut spans: BTreeMap<usize, Span> = BTreeMap::new();
    for it in &profile.quanta {
        let stage = it.stage as usize;
        if stage >= profile.stages.len() {
            continue;
        }
        let (from, to) = (it.start_us, it.start_us + it.span_us);
        let span = spans.entry(stage).or_insert(Span {
            stage,
            from,
            to,
            quanta: 0,
            cpu_us: 0.0,
        });
        (span.from, span.to) = (span.from.min(from), span.to.max(to));
        (span.quanta, span.cpu_us) = (span.quanta + 1, span.cpu_us + it.cpu_us);
    }
    let mut parts: Vec<(&str, Vec<Span>)> = Vec::new();
    for span in spans.into_values() {
        let part = profile.stages[span.stage].part.as_str();
        match parts.last_mut() {
            Some((last, stages)) if *last == part => {
                // The last quantum of a stage opens the next one before its own end is read from
                // the clock; on one track that would look like one inside the other.
                if let Some(before) = stages.last_mut() {
                    before.to = before.to.min(span.from);
                }
                stages.push(span);
            }
            _ => parts.push((part, vec![span])),
        }
    }
    parts.sort_by(|a, b| a.1[0].from.total_cmp(&b.1[0].from));
    parts
}

/// A core that changed hands, on its worker's track.
fn instant(it: &ProfiledReallocation) -> Value {
    let (at_us, it) = (it.at_us, &it.reallocation);
    let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
    json!({
        "ph": "i", "s": "t", "name": format!("reallocation: {}", it.cause), "cat": "reallocation",
        "pid": BOX, "tid": track_of(it.unit), "ts": at_us,
        "args": {
            "from": shown(&it.from), "to": shown(&it.to), "empty": it.empty, "detectUs": it.detect_us,
            "decideUs": it.decide_us, "drainUs": it.drain_us, "firstUs": it.first_us, "totalUs": it.total_us,
        },
    })
}

fn track_of(unit: u16) -> u64 {
    u64::from(unit) + 1
}

const JOB: u64 = 1;
const BOX: u64 = 2;
