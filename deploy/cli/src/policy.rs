//! `caldera policy check`: whether a policy file is one, before a box is asked to use it.
//!
//! The reader is the one that `calderad` has, so what passes here passes there; but a box that runs
//! also refuses what it could take only at its start, such as another length of a quantum.

use std::path::PathBuf;

use anyhow::Context;
use caldera_scheduler::scenario::file::parse;
use caldera_scheduler::scenario::{Class, Share};
use serde_json::{Value, json};

use crate::failure::Misconfigured;
use crate::table::Table;
use crate::{Report, files};

/// Look at a policy file of a calderad
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Check(CheckArguments),
}

/// Check a policy file
///
/// Shows the classes. If the file is refused, the message names the key and the reason, and the exit
/// code is 78.
#[derive(clap::Args)]
struct CheckArguments {
    /// The file (TOML)
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Command::Check(CheckArguments { file }) = &arguments.command;
    let bytes = files::read(file)?;
    let named = || file.display().to_string();
    let text = std::str::from_utf8(&bytes)
        .map_err(|error| Misconfigured(error.to_string()))
        .with_context(named)?;
    let policy = parse(text)
        .map_err(|error| Misconfigured(error.to_string()))
        .with_context(named)?;
    let mut classes = Table::new(&[
        "class",
        ">value",
        ">at a peak",
        ">guarantee",
        ">ceiling",
        ">ageing bound",
        "gives back when quiet",
        "off-peak, UTC",
    ]);
    for class in policy.classes() {
        let windows = class.off_peak.iter();
        let windows: Vec<_> = windows
            .map(|it| format!("{} to {}: {}", it.from, it.to, it.value))
            .collect();
        classes.row([
            class.name.clone(),
            class.value.to_string(),
            class
                .peak
                .map_or_else(|| "-".to_owned(), |peak| peak.value.to_string()),
            format!("{} %", percent(class.guarantee)),
            format!("{} %", percent(class.ceiling)),
            format!("{} ms", class.ageing_max.as_millis()),
            class.give_back.map_or_else(
                || "-".to_owned(),
                |it| {
                    format!(
                        "{} % after {} s",
                        percent(it.share),
                        it.quiet.as_millis() / 1_000
                    )
                },
            ),
            if windows.is_empty() {
                "-".to_owned()
            } else {
                windows.join(", ")
            },
        ]);
    }
    let list: Vec<Value> = policy.classes().iter().map(document).collect();
    Ok(Report::new(
        format!("{} is a policy.\n{classes}", file.display()),
        json!({ "file": file, "classes": list }),
    ))
}

fn document(class: &Class) -> Value {
    let windows = class.off_peak.iter();
    let windows: Vec<Value> = windows
        .map(
            |it| json!({ "from": it.from.to_string(), "to": it.to.to_string(), "value": it.value }),
        )
        .collect();
    json!({
        "name": class.name,
        "value": class.value,
        "peakValue": class.peak.map(|peak| peak.value),
        "guaranteePercent": percent(class.guarantee),
        "ceilingPercent": percent(class.ceiling),
        "ageingMaxMs": class.ageing_max.as_millis(),
        "queueMax": class.queue_max,
        "preparedMax": class.prepared_max,
        "deadlineImpliedMs": class.deadline_implied.as_millis(),
        "storageMaxBytes": class.storage_max,
        "declaredSpanMaxMs": class.declared_span_max.as_millis(),
        "declaredPatienceMs": class.declared_patience.as_millis(),
        "giveBack": class.give_back.map(|it| json!({
            "heldPercent": percent(it.share),
            "quietMs": it.quiet.as_millis(),
            "jobs": it.jobs,
            "arrivals": it.arrivals,
        })),
        "offPeak": windows,
    })
}

fn percent(share: Share) -> f64 {
    f64::from(share.millionths()) / 10_000.0
}
