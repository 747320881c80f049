//! What is kept of a measurement: one line of JSON for each contender of each case.
//!
//! A line is complete in itself. It says what was measured and how it came out, and beside it the
//! machine, the commit, the command, the compiler and the peer's version, so that a figure in a
//! document can be traced to one line, and a line to one build. Files are only ever appended to.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::duel::Runs;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Which bench: "msm".
    pub(crate) bench: String,
    /// Which case of it: "bn254 g1 uniform".
    pub(crate) case: String,
    /// Elements, points or constraints.
    pub(crate) size: u64,
    /// How many threads it was given.
    pub(crate) threads: usize,
    /// Who was measured: "caldera", or the peer's crate.
    pub(crate) who: String,
    /// Whether it is ours.
    pub(crate) ours: bool,
    /// The median, in `unit`: CPU time, per operation where the unit says so.
    pub(crate) value: f64,
    /// "ms", "ns/op".
    pub(crate) unit: String,
    /// The quartiles of `value`.
    pub(crate) spread: [f64; 2],
    /// Median CPU seconds of one run, all threads together.
    pub(crate) cpu_s: f64,
    /// Median wall seconds of one run.
    pub(crate) wall_s: f64,
    /// Runs that were counted.
    pub(crate) rounds: usize,
    /// Ours over this one, in the same rounds; absent on ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<Ratio>,
    /// The peer's version and features; absent on ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peer_build: Option<String>,
    /// What is inside the time, where the bench's name does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) inside: Option<String>,
    /// Which device it was measured on, where that is not the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) silicon: Option<Silicon>,
    /// Where and how.
    #[serde(flatten)]
    pub(crate) origin: Origin,
}

/// A device beside the processor, and each run on it: whoever doubts a median can look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Silicon {
    /// Its name in a configuration: "cuda:0".
    pub(crate) device: String,
    /// Its own name.
    pub(crate) name: String,
    /// What its maker's tools call this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<String>,
    /// Its address on the PCI bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pci: Option<String>,
    /// Its driver, and what else is below it, with versions.
    pub(crate) software: Vec<String>,
    /// Each run, in the record's unit, on the wall clock.
    pub(crate) samples: Vec<f64>,
    /// The same by the device's own clock, in milliseconds, where it has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) device_ms: Vec<f64>,
}

/// Ours over a peer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ratio {
    /// Median of the rounds' ratios of CPU time.
    pub(crate) cpu: f64,
    /// Their quartiles.
    pub(crate) spread: [f64; 2],
    /// Median of the rounds' ratios of wall time.
    pub(crate) wall: f64,
    /// Their quartiles; absent on lines from before they were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) wall_spread: Option<[f64; 2]>,
}

impl Record {
    /// Whether `value` is of the wall clock and not of CPU time.
    pub(crate) fn is_of_wall(&self) -> bool {
        self.unit == WALL
    }

    /// Whether a figure of a device can be traced to one device, one build and its runs. Of what is
    /// stored, every line must be so.
    pub(crate) fn is_traceable(&self) -> Result<()> {
        let Some(silicon) = &self.silicon else {
            ensure!(self.bench != GPU, "{}: no device is named", self.case);
            return Ok(());
        };
        let commit = &self.origin.commit;
        let is_clean = commit.len() >= 7 && commit.bytes().all(|it| it.is_ascii_hexdigit());
        for (is_there, what) in [
            (silicon.uuid.is_some(), "UUID"),
            (!silicon.software.is_empty(), "driver"),
            (is_clean, "commit without changes"),
            (
                silicon.samples.len() == self.rounds,
                "sample for each round",
            ),
        ] {
            ensure!(is_there, "{} on {}: no {what}", self.case, silicon.device);
        }
        Ok(())
    }

    /// Ours over this one and its quartiles, on the clock that `value` is of.
    pub(crate) fn ratio_and_spread(&self) -> Option<(f64, [f64; 2])> {
        let ratio = self.ratio?;
        if self.is_of_wall() {
            Some((ratio.wall, ratio.wall_spread?))
        } else {
            Some((ratio.cpu, ratio.spread))
        }
    }
}

/// The machine, the source and the build that a line comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// CPU model.
    pub(crate) cpu: String,
    /// What it can do of that which kernels choose by; empty on lines from before it was kept.
    #[serde(default)]
    pub(crate) features: String,
    /// Processors that the program may use.
    pub(crate) cores: usize,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Commit of the source, "-dirty" when the tree had changes.
    pub(crate) commit: String,
    /// Compiler, profile and flags.
    pub(crate) build: String,
    /// The command line.
    pub(crate) command: String,
    /// When, in UTC.
    pub(crate) date: String,
}

/// What a run is of.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) bench: &'static str,
    pub(crate) case: String,
    pub(crate) size: u64,
    pub(crate) threads: usize,
    pub(crate) unit: Unit,
    /// What is inside the time, where the bench's name does not say it.
    pub(crate) inside: Option<&'static str>,
}

/// How a median is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// CPU milliseconds of one run.
    Milliseconds,
    /// Milliseconds of one run on the wall clock.
    WallMilliseconds,
    /// CPU nanoseconds of one of the run's operations.
    NanosecondsPerOperation {
        /// How many a run does.
        operations: u64,
    },
}

impl Origin {
    /// This machine, now. What cannot be found out is "unknown": a bench without git is a bench.
    pub(crate) fn here() -> Origin {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs());
        Origin {
            cpu: cpu_model(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default()),
            features: cpu_features(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned()),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            build: env!("CALDERA_BENCH_BUILD").to_owned(),
            command: command_line(),
            date: utc(seconds),
        }
    }
}

/// The lines of one case: the first contender's ratio to each of the others stands on theirs.
pub(crate) fn records(case: &Case, runs: &[Runs], origin: &Origin) -> Vec<Record> {
    let factor = match case.unit {
        Unit::Milliseconds | Unit::WallMilliseconds => 1e3,
        Unit::NanosecondsPerOperation { operations } => 1e9 / operations.max(1) as f64,
    };
    let unit = match case.unit {
        Unit::Milliseconds => "ms",
        Unit::WallMilliseconds => WALL,
        Unit::NanosecondsPerOperation { .. } => "ns/op",
    };
    runs.iter()
        .enumerate()
        .map(|(index, contender)| {
            let (cpu, wall) = (contender.cpu(), contender.wall());
            let value = match case.unit {
                Unit::WallMilliseconds => wall,
                Unit::Milliseconds | Unit::NanosecondsPerOperation { .. } => cpu,
            };
            let ratio = (index > 0).then(|| {
                let cpu = runs[0].cpu_ratio(contender);
                let wall = runs[0].wall_ratio(contender);
                Ratio {
                    cpu: cpu.median,
                    spread: [cpu.low, cpu.high],
                    wall: wall.median,
                    wall_spread: Some([wall.low, wall.high]),
                }
            });
            Record {
                bench: case.bench.to_owned(),
                case: case.case.clone(),
                size: case.size,
                threads: case.threads,
                who: contender.name.clone(),
                ours: contender.build.is_none(),
                value: value.median * factor,
                unit: unit.to_owned(),
                spread: [value.low * factor, value.high * factor],
                cpu_s: cpu.median,
                wall_s: wall.median,
                rounds: contender.times.len(),
                ratio,
                peer_build: contender.build.clone(),
                inside: case.inside.map(str::to_owned),
                silicon: None,
                origin: origin.clone(),
            }
        })
        .collect()
}

/// A file of lines that is only appended to.
#[derive(Debug)]
pub(crate) struct Results {
    file: File,
    path: PathBuf,
}

impl Results {
    /// Opens or begins a file; its folder must be there.
    pub(crate) fn open(path: &Path) -> Result<Results> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("opening {}", path.display()))?;
        Ok(Results {
            file,
            path: path.to_owned(),
        })
    }

    /// Appends one line, in one write.
    pub(crate) fn append(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_string(record).context("a record as JSON")?;
        line.push('\n');
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("writing to {}", self.path.display()))
    }

    /// All lines of a file.
    pub(crate) fn read(path: &Path) -> Result<Vec<Record>> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(|(index, line)| {
                serde_json::from_str(line)
                    .with_context(|| format!("{}, line {}", path.display(), index + 1))
            })
            .collect()
    }
}

/// The file that results go to when none is named: benches/results/DATE-CPU.jsonl of the source
/// tree that this program was built from.
pub(crate) fn default_path(origin: &Origin) -> PathBuf {
    let day = origin.date.split('T').next().unwrap_or_default();
    let name = format!("{day}-{}.jsonl", slug(&origin.cpu));
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("results")
        .join(name)
}

/// The version of a crate that this program was built with, from the workspace's lock file.
pub(crate) fn version(name: &str) -> String {
    let lock = include_str!("../../Cargo.lock");
    locked_version(lock, name).unwrap_or("unknown").to_owned()
}

/// Where the lock file has several versions of a crate, this package's own list of dependencies
/// says which is meant: "ark-ec 0.6.0".
fn locked_version<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let packages = || lock.split("[[package]]\n");
    let ours = packages().find(|p| p.starts_with("name = \"caldera-benches\"\n"))?;
    let listed = ours.lines().find_map(|line| {
        let version = line.trim().strip_prefix('"')?.strip_prefix(name)?;
        version.strip_prefix(' ')?.strip_suffix("\",")
    });
    if listed.is_some() {
        return listed;
    }
    let wanted = format!("name = \"{name}\"\nversion = \"");
    let package = packages().find_map(|p| p.strip_prefix(wanted.as_str()))?;
    package.split('"').next()
}

fn cpu_model(cpuinfo: &str) -> String {
    cpuinfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == "model name")
        .map_or_else(
            || std::env::consts::ARCH.to_owned(),
            |(_, model)| model.trim().to_owned(),
        )
}

/// Those instructions of this processor that kernels, ours or a peer's, are chosen by.
#[cfg(target_arch = "x86_64")]
fn cpu_features() -> String {
    let has = [
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512ifma", is_x86_feature_detected!("avx512ifma")),
    ];
    let names: Vec<&str> = has
        .into_iter()
        .filter_map(|(name, has)| has.then_some(name))
        .collect();
    names.join(" ")
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_features() -> String {
    String::new()
}

/// Lower case, and a dash for each run of anything that is neither letter nor digit.
fn slug(text: &str) -> String {
    let words: Vec<String> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    words.join("-")
}

/// Of the sources that this program was built from, with `-dirty` if they were changed after it; `None` where they came
/// without their history.
fn commit() -> Option<String> {
    option_env!("CALDERA_BENCH_COMMIT").map(str::to_owned)
}

fn command_line() -> String {
    std::env::args()
        .map(|argument| without_folders(&argument))
        .collect::<Vec<_>>()
        .join(" ")
}

/// An argument with paths cut to the names of their files: where somebody keeps things says
/// nothing of a figure. What stands before a path, as in `name=/a/path`, stays.
fn without_folders(argument: &str) -> String {
    let (before, path) = match argument.split_once('=') {
        Some((before, path)) => (format!("{before}="), path),
        None => (String::new(), argument),
    };
    let name = Path::new(path).file_name().unwrap_or_default();
    format!("{before}{}", name.to_string_lossy())
}

/// RFC 3339 of seconds since 1970. The days are turned into a date as Howard Hinnant's
/// `civil_from_days` does it: years begin in March, so that the leap day is the last.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The bench of devices beside the processor.
pub(crate) const GPU: &str = "gpu";

/// The unit of milliseconds on the wall clock.
pub(crate) const WALL: &str = "ms wall";

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Times;

    #[test]
    fn commands_are_kept_without_folders() {
        for (argument, kept) in [
            ("/some/where/caldera-bench", "caldera-bench"),
            ("prove", "prove"),
            ("--zkey=keys/circuit.zkey", "--zkey=circuit.zkey"),
            ("rapidsnark=/opt/prover", "rapidsnark=prover"),
            ("--log2", "--log2"),
            ("14,16", "14,16"),
        ] {
            assert_eq!(without_folders(argument), kept);
        }
    }

    pub(crate) fn origin() -> Origin {
        Origin {
            cpu: "Some CPU (R) 3.0".to_owned(),
            features: "bmi2 adx".to_owned(),
            cores: 2,
            kernel: "6.1".to_owned(),
            commit: "0123456789ab".to_owned(),
            build: "rustc".to_owned(),
            command: "caldera-bench msm".to_owned(),
            date: "2026-11-23T09:00:00Z".to_owned(),
        }
    }

    fn runs(name: &str, ours: bool, cpu_ms: [u64; 3]) -> Runs {
        let times = cpu_ms.map(|ms| Times {
            cpu: Duration::from_millis(ms),
            wall: Duration::from_millis(2 * ms),
        });
        Runs {
            name: name.to_owned(),
            build: (!ours).then(|| "1.0".to_owned()),
            times: times.to_vec(),
        }
    }

    #[test]
    fn a_case_becomes_lines_with_the_ratio_on_the_peers() {
        let case = Case {
            bench: "msm",
            case: "g1".to_owned(),
            size: 4,
            threads: 1,
            unit: Unit::Milliseconds,
            inside: None,
        };
        let both = [
            runs("caldera", true, [10, 12, 11]),
            runs("peer", false, [20, 24, 22]),
        ];
        let lines = records(&case, &both, &origin());
        assert_eq!(
            (lines[0].value, lines[0].rounds, lines[0].ratio),
            (11.0, 3, None)
        );
        assert_eq!(lines[0].peer_build, None);
        let ratio = lines[1].ratio.expect("a peer has one");
        assert_eq!((ratio.cpu, ratio.wall), (0.5, 0.5));
        assert_eq!((lines[1].cpu_s, lines[1].wall_s), (0.022, 0.044));
        assert_eq!(lines[1].peer_build.as_deref(), Some("1.0"));

        let unit = Unit::NanosecondsPerOperation { operations: 1000 };
        let in_ns = Case {
            unit,
            ..case.clone()
        };
        let lines = records(&in_ns, &both, &origin());
        assert_eq!(
            (lines[0].value, lines[0].unit.as_str()),
            (11_000.0, "ns/op")
        );
        assert_eq!(lines[1].ratio_and_spread(), Some((0.5, [0.5, 0.5])));

        let unit = Unit::WallMilliseconds;
        let lines = records(&Case { unit, ..case }, &both, &origin());
        assert_eq!((lines[0].value, lines[0].cpu_s), (22.0, 0.011));
        assert!(lines[1].is_of_wall());
    }

    #[test]
    fn what_is_written_is_read_again_and_appended_to() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let path = folder.path().join("results.jsonl");
        let case = Case {
            bench: "ntt",
            case: "forward".to_owned(),
            size: 8,
            threads: 2,
            unit: Unit::Milliseconds,
            inside: Some("reading the key"),
        };
        let both = [
            runs("caldera", true, [1, 2, 3]),
            runs("peer", false, [4, 5, 6]),
        ];
        let lines = records(&case, &both, &origin());
        for line in &lines {
            // Opened anew each time: a second run of the program adds to the first.
            Results::open(&path)
                .expect("our folder")
                .append(line)
                .expect("our file");
        }
        assert_eq!(Results::read(&path).expect("our file"), lines);
        std::fs::write(&path, "{\"bench\": 5}\n").expect("our file");
        let error = Results::read(&path).expect_err("not a record");
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    /// Of this project's own results.
    #[test]
    fn every_stored_line_can_be_read_and_traced() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let mut lines = 0;
        for file in std::fs::read_dir(folder).expect("the results") {
            let path = file.expect("a file").path();
            if path.extension().is_none_or(|it| it != "jsonl") {
                continue;
            }
            for record in Results::read(&path).expect("records") {
                let traced = record.is_traceable();
                assert!(traced.is_ok(), "{}: {traced:?}", path.display());
                lines += 1;
            }
        }
        assert!(lines > 500, "{lines}");
    }

    #[test]
    fn a_device_s_figure_without_its_origin_is_none() {
        let case = Case {
            bench: GPU,
            case: "G1 MSM".to_owned(),
            size: 4,
            threads: 1,
            unit: Unit::WallMilliseconds,
            inside: None,
        };
        let mut record = records(&case, &[runs("caldera", true, [1, 2, 3])], &origin()).remove(0);
        let refused = |record: &Record, what: &str| {
            let error = record.is_traceable().expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        };
        refused(&record, "no device is named");
        let whole = Silicon {
            device: "cuda:0".to_owned(),
            name: "H100".to_owned(),
            uuid: Some("GPU-1".to_owned()),
            software: vec!["CUDA 13.0".to_owned()],
            samples: vec![2.0, 4.0, 6.0],
            ..Silicon::default()
        };
        record.silicon = Some(whole.clone());
        record.is_traceable().expect("all of it is there");
        record.silicon = Some(Silicon {
            uuid: None,
            ..whole.clone()
        });
        refused(&record, "no UUID");
        record.silicon = Some(Silicon {
            software: Vec::new(),
            ..whole.clone()
        });
        refused(&record, "no driver");
        record.silicon = Some(Silicon {
            samples: vec![2.0],
            ..whole.clone()
        });
        refused(&record, "no sample for each round");
        record.silicon = Some(whole);
        record.origin.commit = "0123456789ab-dirty".to_owned();
        refused(&record, "no commit without changes");
    }

    #[test]
    fn dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_795_425_845), "2026-11-23T09:24:05Z");
    }

    #[test]
    fn names_of_files_and_machines() {
        assert_eq!(
            cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n"),
            "AMD EPYC"
        );
        assert_eq!(slug("Some CPU (R) 3.0"), "some-cpu-r-3-0");
        let path = default_path(&origin());
        assert!(
            path.ends_with("results/2026-11-23-some-cpu-r-3-0.jsonl"),
            "{path:?}"
        );
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "[[package]]\nname = \"ark-ec\"\nversion = \"0.5.0\"\n\n\
                    [[package]]\nname = \"ark-ec\"\nversion = \"0.6.0\"\n\n\
                    [[package]]\nname = \"blst\"\nversion = \"0.3.9\"\n\n\
                    [[package]]\nname = \"caldera-benches\"\nversion = \"0.1.0\"\n\
                    dependencies = [\n \"ark-ec 0.6.0\",\n \"blst\",\n]\n";
        assert_eq!(locked_version(lock, "ark-ec"), Some("0.6.0"));
        assert_eq!(locked_version(lock, "blst"), Some("0.3.9"));
        assert_eq!(locked_version(lock, "ark"), None);
        assert!(
            version("ark-ec").starts_with("0.6"),
            "{}",
            version("ark-ec")
        );
    }
}
