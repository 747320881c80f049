//! The devices of this machine: which there are, what they take for what, and which one a command
//! computes on.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use caldera_devices::{Book, Candidate, Figures, Options, STEPS, measure, recalibrate, survey};
use caldera_kernels::{CurveId, Device};
use caldera_rpc::chain::chain;
use serde_json::{Value, json};

use crate::prove::threads;
use crate::table::{Table, milliseconds};
use crate::{Report, progress};

/// What a command is told about devices.
#[derive(clap::Args)]
pub(crate) struct Choice {
    /// What computes: cpu, cuda:N (or cuda:GPU-8a2c, cuda:0000:3b:00.0), wgpu, wgpu:NAME (or wgpu:0000:3b:00.0),
    /// or icicle:KIND:N such as icicle:CUDA:0
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
    #[arg(long, value_name = "DIR", default_value_os_t = caldera_devices::icicle_folder())]
    icicle: PathBuf,
    /// Where what was measured of devices is kept; calderad's is the folder calibration in its data folder
    #[arg(long, value_name = "DIR", env = "CALDERA_CALIBRATION")]
    calibration: Option<PathBuf>,
}

/// Show the devices of this machine
///
/// Those that can be used, with the names by which a configuration asks for them, and why the others
/// cannot. With --calibration also where what is known of their costs comes from, and when it was measured.
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
    /// Measure what devices cost anew, and keep that in the place of what is kept
    #[arg(long, requires = "calibration")]
    recalibrate: bool,
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
            calibration: self.calibration.clone(),
            warn,
            ..Options::new(quantum, threads)
        }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let options = arguments.places.options(QUANTUM, threads(None));
    let candidates = survey(&options);
    let folder = arguments.places.calibration.as_deref();
    let mut names = vec!["device", "what it is"];
    names.extend(folder.map(|_| "what it costs"));
    let mut table = Table::new(&names);
    let mut documents = Vec::new();
    for Candidate { wanted, device } in &candidates {
        let text = match device {
            Ok(device) => {
                let at = device.site(0).pci.map(|pci| format!(", at {pci}"));
                device.info().name.clone() + &at.unwrap_or_default()
            }
            // What it says first is the name of the device, which is in the first column already.
            Err(error) => format!("not usable: {}", chain(error.source().unwrap_or(error))),
        };
        let mut document = document(
            &wanted.to_string(),
            device.as_ref().map_err(|error| chain(error).to_string()),
        );
        let mut cells = vec![wanted.to_string(), text];
        if let Some(folder) = folder {
            let costs = match device {
                Ok(device) => {
                    let (costs, kept) = costs(&**device, folder, arguments.recalibrate)
                        .with_context(|| wanted.to_string())?;
                    document["calibration"] = kept;
                    costs
                }
                Err(_) => String::new(),
            };
            cells.push(costs);
        }
        table.row(cells);
        documents.push(document);
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
            for it in &measured {
                // The processor does everything.
                let Some(host) = host.iter().find(|host| host.kind == it.kind) else {
                    continue;
                };
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

fn warn(text: &str) {
    eprintln!("caldera: warning: {text}");
}

/// What is kept of a device's costs, measured now if that is asked for: in words, and as a document.
fn costs(
    device: &dyn Device,
    folder: &Path,
    measured_now: bool,
) -> anyhow::Result<(String, Value)> {
    let book = Book::of(folder, device);
    let figures = if measured_now {
        let bar = progress::bar("calibrating", STEPS as u64);
        let figures = recalibrate(device, folder, &mut || bar.inc(1));
        bar.finish_and_clear();
        Some(figures?)
    } else {
        book.read().unwrap_or_else(|unusable| {
            warn(&unusable.to_string());
            None
        })
    };
    let Some(figures) = figures else {
        return Ok(("nothing is known yet".into(), Value::Null));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let age = now
        .unwrap_or_default()
        .as_secs()
        .saturating_sub(figures.seconds);
    let Figures {
        from,
        seconds,
        prices,
    } = &figures;
    let text = format!(
        "{} figures from {}, {} ago",
        prices.len(),
        from.name(),
        rough(age)
    );
    let document = json!({
        "file": book.path(),
        "from": from.name(),
        "unixSeconds": seconds,
        "figures": prices.iter().map(|price| json!({
            "kind": price.kind,
            "curve": match price.curve {
                CurveId::Bn254 => "bn254",
                CurveId::Bls12_381 => "bls12-381",
            },
            "log2": price.log2,
            "us": price.nanoseconds as f64 / 1e3,
        })).collect::<Vec<_>>(),
    });
    Ok((text, document))
}

/// A time in the largest unit of which it is two or more.
fn rough(seconds: u64) -> String {
    for (unit, of) in [("days", 86_400), ("hours", 3600), ("minutes", 60)] {
        if seconds >= 2 * of {
            return format!("{} {unit}", seconds / of);
        }
    }
    format!("{seconds} seconds")
}

fn document(name: &str, device: Result<&Arc<dyn Device>, String>) -> Value {
    match device {
        Ok(device) => {
            let site = device.site(0);
            let software = device.health().software.into_iter();
            let software: Vec<Value> = software
                .map(|it| json!({ "name": it.name, "version": it.version }))
                .collect();
            json!({
                "device": name,
                "usable": true,
                "kind": device.info().kind,
                "name": device.info().name,
                "pci": site.pci,
                "uuid": site.uuid,
                "memoryBytes": site.memory,
                "software": software,
            })
        }
        Err(error) => json!({ "device": name, "usable": false, "error": error }),
    }
}

/// As calderad has it where no policy says otherwise.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_devices::Source;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};

    #[test]
    fn what_is_known_is_shown_with_its_age_and_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let cpu = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 1,
        });
        let (text, document) = costs(&*cpu, folder.path(), false).unwrap();
        assert_eq!(
            (text.as_str(), document),
            ("nothing is known yet", Value::Null)
        );
        let book = Book::of(folder.path(), &*cpu);
        let hours = |hours: u64| Duration::from_secs(3600 * hours);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        book.write(&Figures {
            from: Source::Work,
            seconds: (since - hours(50)).as_secs(),
            prices: Vec::new(),
        })
        .unwrap();
        let (text, document) = costs(&*cpu, folder.path(), false).unwrap();
        assert_eq!(text, "0 figures from work, 2 days ago");
        assert_eq!(document["file"], book.path().display().to_string());
        assert_eq!(document["from"], "work");
        std::fs::write(book.path(), "nonsense").unwrap();
        let (text, _) = costs(&*cpu, folder.path(), false).unwrap();
        assert_eq!(text, "nothing is known yet");
    }

    #[test]
    fn ages_are_in_their_largest_unit() {
        let ages = [0, 119, 120, 7199, 7200, 172_800].map(rough);
        let expected = [
            "0 seconds",
            "119 seconds",
            "2 minutes",
            "119 minutes",
            "2 hours",
            "2 days",
        ];
        assert_eq!(ages, expected);
    }
}
