//! The devices of this machine: which there are, what they take for what, and which one a command
//! computes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use caldera_devices::{Candidate, ICICLE_FOLDER, Options, measure, survey};
use caldera_kernels::{CurveId, Device};
use serde_json::{Value, json};

use crate::prove::threads;
use crate::table::{Table, milliseconds};
use crate::{Report, progress};

/// What a command is told about devices.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// What computes: cpu, cuda:N, wgpu, wgpu:NAME, or icicle:KIND:N such as icicle:CUDA:0
    #[arg(
        long,
        value_name = "NAME,...",
        env = "CALDERA_DEVICES",
        value_delimiter = ','
    )]
    devices: Vec<String>,
    #[command(flatten)]
    places: Places,
}

/// Where devices find what they need.
#[derive(clap::Args)]
struct Places {
    /// Where ICICLE is installed
    #[arg(long, value_name = "DIR", default_value = ICICLE_FOLDER)]
    icicle: PathBuf,
}

/// Show the devices of this machine
///
/// Those that can be used, with the names by which a configuration asks for them, and why the others
/// cannot.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Measure each kind of work over 2^LOG2 elements on each device, on one thread
    #[arg(long, value_name = "LOG2", value_parser = clap::value_parser!(u32).range(4..=22))]
    measure: Option<u32>,
    /// On which curve
    #[arg(long, value_enum, default_value_t = Curve::Bn254, requires = "measure")]
    curve: Curve,
    /// How often; the medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000), requires = "measure")]
    rounds: u16,
    #[command(flatten)]
    places: Places,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Curve {
    Bn254,
    #[value(name = "bls12-381")]
    Bls12381,
}

impl Choice {
    /// Opens what was chosen, to be used by so many threads. To be called by a thread that lives as
    /// long as the device is used.
    pub(crate) fn open(
        &self,
        quantum: Duration,
        threads: usize,
    ) -> anyhow::Result<Arc<dyn Device>> {
        let wanted = caldera_devices::choose(&self.devices)?;
        let options = self.places.options(quantum, threads);
        Ok(caldera_devices::open(&wanted, &options)?)
    }
}

impl Places {
    fn options(&self, quantum: Duration, threads: usize) -> Options {
        Options {
            icicle_folder: self.icicle.clone(),
            ..Options::new(quantum, threads)
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let options = arguments.places.options(QUANTUM, threads(None));
    let candidates = survey(&options);
    let mut table = Table::new(&["device", "what it is"]);
    let mut documents = Vec::new();
    for Candidate { wanted, device } in &candidates {
        let text = match device {
            Ok(device) => device.info().name.clone(),
            // Its own name is in the first column already.
            Err(error) => {
                let error = error.to_string();
                let own = format!("device {wanted}: ");
                format!("not usable: {}", error.strip_prefix(&own).unwrap_or(&error))
            }
        };
        table.row([wanted.to_string(), text]);
        documents.push(document(
            &wanted.to_string(),
            device.as_ref().map_err(|e| e.to_string()),
        ));
    }
    let mut text = table.to_string();
    if let Some(log2) = arguments.measure {
        let curve = match arguments.curve {
            Curve::Bn254 => CurveId::Bn254,
            Curve::Bls12381 => CurveId::Bls12_381,
        };
        let names = [
            "work",
            "device",
            ">median",
            ">against cpu",
            ">quanta",
            ">longest",
        ];
        let mut table = Table::new(&names);
        let mut host = Vec::new();
        for (candidate, document) in candidates.iter().zip(&mut documents) {
            let Ok(device) = &candidate.device else {
                continue;
            };
            let bar = progress::bar("measuring", 5);
            let rounds = arguments.rounds.into();
            let measured = measure(&**device, curve, log2, rounds, &mut |_| bar.inc(1));
            bar.finish_and_clear();
            let measured = measured.with_context(|| candidate.wanted.to_string())?;
            let us = |time: Duration| time.as_secs_f64() * 1e6;
            document["measured"] = measured
                .iter()
                .map(|it| {
                    json!({
                        "kind": it.kind,
                        "log2": log2,
                        "medianUs": us(it.median),
                        "quanta": it.quanta,
                        "longestUs": us(it.longest),
                    })
                })
                .collect();
            if host.is_empty() {
                host.clone_from(&measured);
            }
            for (it, host) in measured.iter().zip(&host) {
                table.row([
                    it.kind.to_owned(),
                    candidate.wanted.to_string(),
                    milliseconds(us(it.median)),
                    format!("{:.2}", it.median.as_secs_f64() / host.median.as_secs_f64()),
                    it.quanta.to_string(),
                    milliseconds(us(it.longest)),
                ]);
            }
        }
        text.push_str(&format!(
            "\nover 2^{log2} elements of {curve:?}, on one thread:\n{table}"
        ));
    }
    Ok(Report::new(text, json!({ "devices": documents })))
}

fn document(name: &str, device: Result<&Arc<dyn Device>, String>) -> Value {
    match device {
        Ok(device) => {
            let software = device.health().software.into_iter();
            let software: Vec<Value> = software
                .map(|it| json!({ "name": it.name, "version": it.version }))
                .collect();
            json!({
                "device": name,
                "usable": true,
                "kind": device.info().kind,
                "name": device.info().name,
                "software": software,
            })
        }
        Err(error) => json!({ "device": name, "usable": false, "error": error }),
    }
}

/// As calderad has it where no policy says otherwise.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);
