//! Accepts or refuses a box: what it is, whether its clocks, memory and cores are fit for the
//! work, and whether it computes what it should. Each check ends as PASS, WARN, FAIL or SKIP with
//! a reason; the exit code is 0 OK, 1 WARN, 2 CRITICAL (also when a check could not run at all),
//! as monitoring systems read it. Usage errors exit with 2 as well: a box that was not looked at
//! has not been accepted.
//!
//! The levels are those of data-centre GPU diagnostics: 1 takes seconds and fits before a service
//! starts, 2 takes about two minutes, 3 a quarter of an hour, 4 hours of steady work with faults. A level
//! has the checks of those below it, longer, and some of its own; see [`CHECKS`] and [`Level`].
//!
//! What is read of a machine is read under a root folder, so that captures of other machines, and boxes
//! that are wrong on purpose, can be looked at (`--root`). What must be tried cannot be tried there, and is
//! reported as skipped: nothing passes that was not looked at.

mod clock;
mod device;
mod disk;
mod expected;
mod figures;
mod gpu;
mod heat;
mod host;
mod html;
mod inventory;
mod jitter;
mod kernel_log;
mod memory;
mod pci;
mod programs;
mod proof;
mod report;
mod take_over;
mod thread;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caldera_devices::{Options, Wanted};
use caldera_kernels::CurveId;
use caldera_kernels::conformance::Effort;
use clap::{CommandFactory, Parser};
use serde::Deserialize;

use crate::device::Opened;
use crate::expected::{Bounds, Expected};
use crate::figures::Amount;
use crate::host::Host;
use crate::programs::Programs;
use crate::proof::{QUANTUM, Subject};
use crate::report::{Finding, Report};
use crate::thread::Policy;

/// Accepts or refuses a box for proving. Exit codes: 0 OK, 1 WARN, 2 CRITICAL.
#[derive(Debug, Parser)]
#[command(name = "caldera-hwtest", version, after_long_help = notes())]
struct Arguments {
    /// 1: seconds; 2: two minutes; 3: a quarter of an hour; 4: hours.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    level: u8,
    /// How long level 4 goes on.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    hours: u32,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Write the report as JSON, beside what is printed.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the report as a page of HTML, to be kept or sent.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// What the box should have in it (TOML).
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Write what the box has in it, and from level 2 on what was measured, with a margin, as bounds.
    #[arg(long, value_name = "FILE")]
    write_expected: Option<PathBuf>,
    /// The data folder; by default the configuration's, else /var/lib/caldera.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration of calderad: its devices and its data folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What computes beside the processor: cuda:N (or cuda:GPU-8a2c, cuda:0000:3b:00.0), wgpu, wgpu:NAME or icicle:KIND:N;
    /// cpu: nothing.
    #[arg(
        long,
        value_name = "NAME,...",
        env = "CALDERA_DEVICES",
        value_delimiter = ','
    )]
    devices: Vec<String>,
    /// Where caldera-bench, calderad and caldera are; by default beside this program.
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// Look at another machine's /proc, /sys and /dev, as they lie below this folder; nothing is measured.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Run these checks alone, by their names; such a run accepts nothing.
    #[arg(long, value_name = "CHECK,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Divide all times, to try the program itself; such a run accepts nothing.
    #[arg(long, value_name = "TIMES", value_parser = clap::value_parser!(u32).range(2..))]
    shorten: Option<u32>,
    /// Print the manual page, for installers.
    #[arg(long, hide = true)]
    manual: bool,
}

/// What `--help` and the manual page say beside the options.
fn notes() -> String {
    let mut text = "Levels, each with the checks of those before it, longer:\n".to_owned();
    for (level, takes) in LEVELS {
        let own = CHECKS.iter().filter(|(_, its)| *its == level);
        let own: Vec<&str> = own.map(|(name, _)| *name).collect();
        text.push_str(&format!("  {level}  {takes}: {}\n", own.join(", ")));
    }
    text.push_str(
        "\nEach check ends as PASS, WARN, FAIL, or SKIP with the reason why it could not be made.\n\n\
         Environment:\n  CALDERA_DEVICES  as --devices\n\n\
         Exit codes:\n  \
         0  OK\n  \
         1  WARN\n  \
         2  CRITICAL, a check that could not run, or a command line that cannot be understood",
    );
    text
}

fn print_manual() -> ExitCode {
    let page = clap_mangen::Man::new(Arguments::command());
    match page.render(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("caldera-hwtest: writing the manual page: {error}");
            ExitCode::from(2)
        }
    }
}

/// What matters here of a configuration of calderad's; it is checked by calderad.
#[derive(Debug, Default, Deserialize)]
struct Config {
    data: Option<PathBuf>,
    #[serde(default)]
    devices: Vec<String>,
    icicle_folder: Option<PathBuf>,
}

impl Config {
    /// With paths as calderad takes them: relative to the file's folder.
    fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the configuration {}", path.display()))?;
        let mut config: Config = toml::from_str(&text)
            .with_context(|| format!("the configuration {}", path.display()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        for path in [&mut config.data, &mut config.icicle_folder] {
            *path = path.take().map(|path| folder.join(path));
        }
        Ok(config)
    }
}

fn main() -> ExitCode {
    // ICICLE lives in a child process, which is this program again.
    if let Some(code) = caldera_devices::child() {
        return code;
    }
    let arguments = Arguments::parse();
    if arguments.manual {
        return print_manual();
    }
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("caldera-hwtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<u8> {
    let host = Host::at(&arguments.root);
    for name in &arguments.only {
        let known = CHECKS.iter().find(|it| it.0 == name);
        let level = known
            .with_context(|| format!("--only: no check has the name {name:?}"))?
            .1;
        anyhow::ensure!(
            level <= arguments.level,
            "--only: {name} belongs to level {level}, got --level {}",
            arguments.level
        );
    }
    let config = match &arguments.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    let expected = arguments.expected.as_deref().map(Expected::read);
    let expected = expected.transpose()?;
    let cpus = if host.is_here() {
        thread::take_all();
        thread::allowed()?
    } else {
        host.online()
    };
    let names = if arguments.devices.is_empty() {
        &config.devices
    } else {
        &arguments.devices
    };
    let wanted = caldera_devices::choose(names)?;
    let mut options = Options::new(QUANTUM, cpus.len());
    options.icicle_folder = (config.icicle_folder).unwrap_or_else(caldera_devices::icicle_folder);
    let devices = if host.is_here() {
        device::open(wanted, &options)
    } else {
        Vec::new()
    };
    let data = arguments.data.clone().or(config.data);
    let mut run = Run {
        cpus,
        devices,
        bounds: expected
            .as_ref()
            .map(|it| it.bounds.clone())
            .unwrap_or_default(),
        expected,
        data: data.unwrap_or_else(|| "/var/lib/caldera".into()),
        programs: Programs::new(arguments.programs.clone()),
        only: arguments.only.clone(),
        level: Level::of(arguments.level, arguments.hours, arguments.shorten),
        report: Report::new(arguments.level),
        table: !arguments.json,
        colour: std::io::stdout().is_terminal(),
        progress: std::io::stderr().is_terminal(),
        host,
    };
    run.report.machine = inventory::machine(&run.host);
    run.inventory();
    run.measure();
    if let Some(path) = &arguments.write_expected {
        write_expected(&run, path, arguments.shorten.is_none())?;
    }
    if let Some(path) = &arguments.html {
        std::fs::write(path, html::page(&run.report))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    let json = serde_json::to_string_pretty(&run.report).context("the report as JSON")?;
    if let Some(path) = &arguments.output {
        std::fs::write(path, &json).with_context(|| format!("writing {}", path.display()))?;
    }
    if arguments.json {
        println!("{json}");
    } else {
        println!("{}", run.report.summary());
    }
    Ok(run.report.exit_code())
}

/// The box as it is now, with bounds that a good day and a bad one lie within.
fn write_expected(run: &Run, path: &Path, measured: bool) -> Result<()> {
    let mut expected = Expected::of(&run.host);
    let figure = |check: &str, name: &str| -> Option<f64> {
        let mut checks = run.report.checks.iter().filter(|_| measured);
        let check = checks.find(|it| it.name == check)?;
        check.finding.figures.get(name)?.as_f64()
    };
    expected.bounds = Bounds {
        memory_copy_bytes_per_second_min: figure("memory.copy", "bytes_per_second")
            .map(|rate| (rate * 0.8) as u64),
        disk_sync_p99_us_max: figure("disk.sync", "p99_us").map(|us| (us * 3.0) as u64),
        ..Bounds::default()
    };
    let checks = run.report.checks.iter().filter(|_| measured);
    for check in checks.filter(|it| [FIGURES, TAKE_OVER].contains(&it.name)) {
        for part in &check.finding.parts {
            expected.bounds.learn(part);
        }
    }
    expected.write(path)
}

/// Whether the run is one that can accept a box.
const WHOLE: &str = "run.whole";

/// What each device costs, and how long it takes until it works for somebody else.
const FIGURES: &str = "device.figures";
const TAKE_OVER: &str = "device.take-over";

/// Every check, in order, with the lowest level that has it.
const CHECKS: [(&str, u8); 43] = [
    (WHOLE, 1),
    ("system.kernel", 1),
    ("system.inventory", 1),
    ("system.faults", 1),
    ("system.limits", 1),
    ("cpu.cores", 1),
    ("cpu.threads", 1),
    ("cpu.features", 1),
    ("cpu.governor", 1),
    ("cpu.throttle", 1),
    ("cpu.isolation", 1),
    ("memory.numa", 1),
    ("memory.size", 1),
    ("memory.errors", 1),
    ("memory.pages", 1),
    ("pci.driver", 1),
    ("pci.permission", 1),
    ("pci.link", 1),
    ("pci.errors", 1),
    ("gpu.health", 1),
    ("disk.space", 1),
    ("schedule.realtime", 1),
    ("clock.source", 1),
    ("clock.wall", 1),
    ("clock.monotonic", 1),
    ("schedule.normal", 1),
    ("schedule.fifo", 1),
    ("memory.pattern", 1),
    ("memory.copy", 2),
    ("disk.sync", 2),
    ("device.conformance", 1),
    ("device.named", 1),
    ("device.others", 1),
    (FIGURES, 1),
    (TAKE_OVER, 2),
    ("proof.whole", 1),
    ("proof.devices", 3),
    ("proof.together", 3),
    ("proof.moved", 3),
    ("proof.quanta", 1),
    ("power.heat", 3),
    ("service.reallocate", 3),
    ("service.kills", 4),
];

/// What a level takes.
const LEVELS: [(u8, &str); 4] = [
    (1, "seconds to a minute"),
    (2, "minutes"),
    (3, "a quarter of an hour"),
    (4, "--hours"),
];

/// How long each check goes on.
#[derive(Debug, Clone, Copy)]
struct Level {
    number: u8,
    /// All times are divided by this: 1 for a run that counts.
    shorten: u32,
    /// Readings of the clock on each processor.
    readings: u64,
    /// Wake-ups under each policy.
    jitter: Duration,
    /// Bytes of memory to fill, and the share of what is available that it may not exceed.
    memory: (u64, u64),
    /// Copies of memory, and syncs of the disk.
    copies: Duration,
    /// The conformance suite.
    effort: Effort,
    /// How many seeds of it.
    passes: u64,
    /// Work on each device.
    figures: Amount,
    /// How often each is taken over, and log2 of the sums meanwhile.
    take_overs: (usize, u32),
    /// log2 of the key.
    log2: u32,
    /// Proofs on every processor.
    proofs: Duration,
    /// How often demand flips.
    flips: u64,
    /// Kills of the service.
    kills: Duration,
}

impl Level {
    fn of(level: u8, hours: u32, shorten: Option<u32>) -> Level {
        let minute = Duration::from_secs(60);
        let hours = minute * 60 * hours;
        let usual = Level {
            number: level,
            shorten: 1,
            readings: 20_000,
            jitter: minute / 120,
            memory: (64 << 20, 8),
            copies: minute / 6,
            effort: Effort::Quick,
            passes: 1,
            figures: Amount {
                curves: &[CurveId::Bn254],
                log2_max: 10,
                span: minute / 240,
                bytes: 16 << 20,
            },
            take_overs: (20, 10),
            log2: 10,
            proofs: Duration::ZERO,
            flips: 0,
            kills: Duration::ZERO,
        };
        let thorough = Amount {
            curves: &[CurveId::Bn254, CurveId::Bls12_381],
            log2_max: 22,
            span: minute / 20,
            bytes: 256 << 20,
        };
        let level = match level {
            1 => usual,
            2 => Level {
                readings: 1_000_000,
                jitter: minute / 4,
                memory: (u64::MAX, 8),
                effort: Effort::Full,
                figures: Amount {
                    log2_max: 16,
                    span: minute / 60,
                    bytes: 64 << 20,
                    ..usual.figures
                },
                take_overs: (200, 14),
                log2: 14,
                proofs: minute / 2,
                ..usual
            },
            3 => Level {
                readings: 10_000_000,
                jitter: minute * 2,
                memory: (u64::MAX, 2),
                copies: minute / 2,
                effort: Effort::Full,
                passes: 4,
                figures: thorough,
                take_overs: (1000, 20),
                log2: 16,
                proofs: minute * 5,
                flips: 10_000,
                ..usual
            },
            _ => Level {
                readings: 100_000_000,
                jitter: hours / 16,
                memory: (u64::MAX, 2),
                copies: hours / 32,
                effort: Effort::Full,
                passes: 16,
                figures: thorough,
                take_overs: (1000, 20),
                log2: 16,
                proofs: hours / 2,
                flips: 100_000,
                kills: hours / 4,
                ..usual
            },
        };
        let Some(times) = shorten else { return level };
        Level {
            shorten: times,
            readings: usual.readings,
            jitter: (level.jitter / times).max(usual.jitter),
            memory: usual.memory,
            copies: level.copies / times,
            effort: Effort::Quick,
            passes: 1,
            figures: Amount {
                log2_max: 8,
                bytes: 1 << 20,
                ..usual.figures
            },
            take_overs: (5, 8),
            log2: if times > TRIAL { 8 } else { usual.log2 },
            proofs: level.proofs / times,
            flips: (level.flips / u64::from(times)).max(1),
            kills: level.kills / times,
            ..level
        }
    }
}

struct Run {
    host: Host,
    cpus: Vec<usize>,
    devices: Vec<Opened>,
    expected: Option<Expected>,
    bounds: Bounds,
    data: PathBuf,
    programs: Programs,
    only: Vec<String>,
    level: Level,
    report: Report,
    table: bool,
    colour: bool,
    progress: bool,
}

impl Run {
    /// What can be read.
    fn inventory(&mut self) {
        use inventory::{
            cores, features, governor, hugepages, isolation, memory, memory_errors, numa, realtime,
            smt, system, throttle,
        };
        self.check(WHOLE, |run| {
            let mut less = Vec::new();
            if run.level.shorten > 1 {
                less.push(format!("times divided by {}", run.level.shorten));
            }
            if !run.only.is_empty() {
                less.push(format!("only {}", run.only.join(", ")));
            }
            Ok(if less.is_empty() {
                Finding::pass("all checks of the level, each for its whole time")
            } else {
                Finding::warn(format!("{}: this run accepts nothing", less.join("; ")))
            })
        });
        self.check("system.kernel", |run| Ok(system(&run.host)));
        self.check("system.inventory", |run| {
            Ok(match &run.expected {
                Some(expected) => expected.compare(&run.host),
                None => Finding::skip(
                    "no expected file (--expected; --write-expected writes one on a box that is right)",
                ),
            })
        });
        self.check("system.faults", |run| Ok(kernel_log::faults(&run.host)));
        self.here("system.limits", |_| Ok(inventory::limits()));
        self.check("cpu.cores", |run| Ok(cores(&run.host, &run.cpus)));
        self.check("cpu.threads", |run| Ok(smt(&run.host)));
        self.check("cpu.features", |run| Ok(features(&run.host)));
        self.check("cpu.governor", |run| Ok(governor(&run.host)));
        self.check("cpu.throttle", |run| Ok(throttle(&run.host)));
        self.check("cpu.isolation", |run| Ok(isolation(&run.host)));
        self.check("memory.numa", |run| Ok(numa(&run.host)));
        self.check("memory.size", |run| Ok(memory(&run.host)));
        self.check("memory.errors", |run| Ok(memory_errors(&run.host)));
        self.check("memory.pages", |run| Ok(hugepages(&run.host)));
        self.check("pci.driver", |run| Ok(pci::drivers(&run.host)));
        self.check("pci.permission", |run| Ok(pci::permissions(&run.host)));
        self.check("pci.link", |run| Ok(pci::links(&run.host)));
        self.check("pci.errors", |run| Ok(pci::errors(&run.host)));
        self.here("gpu.health", |run| Ok(gpu::health(&run.host)));
        self.here("disk.space", |run| disk::space(&run.data));
        self.here("schedule.realtime", |run| {
            Ok(realtime(&run.host, thread::fifo_allowed()))
        });
        self.check("clock.source", |run| Ok(clock::source(&run.host)));
        self.here("clock.wall", |_| Ok(clock::wall()));
    }

    /// What must be tried.
    fn measure(&mut self) {
        let level = self.level;
        self.here("clock.monotonic", |run| {
            clock::monotonic(&run.cpus, level.readings)
        });
        self.here("schedule.normal", |run| {
            jitter::jitter(&run.host, &run.cpus, Policy::Normal, level.jitter)
        });
        self.here("schedule.fifo", |run| match thread::fifo_allowed() {
            Ok(()) => jitter::jitter(&run.host, &run.cpus, Policy::Fifo, level.jitter),
            Err(why) => Ok(Finding::skip(format!("SCHED_FIFO is refused: {why}"))),
        });
        self.here("memory.pattern", |run| match run.memory_bytes() {
            Some(bytes) => memory::pattern(&run.cpus, bytes),
            None => Ok(Finding::skip(NO_MEMORY)),
        });
        self.here("memory.copy", |run| match run.memory_bytes() {
            Some(bytes) => {
                let least = run.bounds.memory_copy_bytes_per_second_min;
                memory::copy(&run.cpus, bytes.min(COPY_BYTES), level.copies, least)
            }
            None => Ok(Finding::skip(NO_MEMORY)),
        });
        self.here("disk.sync", |run| {
            disk::sync(&run.data, level.copies, run.bounds.disk_sync_p99_us_max)
        });
        self.here("device.conformance", |run| {
            device::conformance(&run.cpus, level.effort, level.passes)
        });
        self.here("device.named", |run| {
            Ok(device::named(&pci::gpus(&run.host), &run.devices))
        });
        self.here("device.others", |run| {
            Ok(device::others(&run.devices, level.effort, level.passes))
        });
        self.here(FIGURES, |run| {
            // The processor, and what was asked for beside it.
            let mut devices = vec![device::processor(run.cpus.len())];
            let others = run.devices.iter().filter(|it| it.wanted != Wanted::Cpu);
            devices.extend(others.cloned());
            Ok(figures::figures(&devices, level.figures, &run.bounds))
        });
        self.here(TAKE_OVER, |run| {
            let (times, log2) = level.take_overs;
            let devices = &run.devices;
            Ok(take_over::take_overs(devices, log2, times, &run.bounds))
        });
        let proves = self.only.is_empty() || self.only.iter().any(|it| it.starts_with("proof."));
        let subject = if self.host.is_here() && proves {
            Subject::new(level.log2, self.cpus.len()).context("a key to prove with")
        } else {
            Err(anyhow::anyhow!(ELSEWHERE))
        };
        self.here("proof.whole", |run| match &subject {
            Ok(subject) => proof::whole(subject, run.cpus.len()),
            Err(error) => Ok(Finding::fail(format!("{error:#}"))),
        });
        self.here("proof.devices", |run| match &subject {
            Ok(subject) => proof::devices(subject, &run.devices),
            Err(_) => Ok(Finding::skip("there is no key")),
        });
        self.here("proof.together", |run| match &subject {
            Ok(subject) => proof::together(subject, &run.devices, run.cpus.len()),
            Err(_) => Ok(Finding::skip("there is no key")),
        });
        self.here("proof.moved", |run| match &subject {
            Ok(subject) => proof::moved(subject, &run.devices),
            Err(_) => Ok(Finding::skip("there is no key")),
        });
        let mut heat = None;
        self.here("proof.quanta", |run| match &subject {
            Ok(subject) => {
                let work = || proof::quanta(subject, &run.cpus, level.proofs);
                let (finding, sensors) = heat::beside(&run.host, work);
                heat = Some(sensors);
                finding
            }
            Err(_) => Ok(Finding::skip("there is no key")),
        });
        self.here("power.heat", |_| {
            heat.unwrap_or_else(|| Ok(Finding::skip("no proofs were made to grow warm by")))
        });
        self.here("service.reallocate", |run| {
            programs::reallocate(&run.programs, level.flips)
        });
        self.here("service.kills", |run| {
            programs::kills(&run.programs, &run.data, level.kills)
        });
    }

    /// How much memory to look at, if the kernel says how much is free.
    fn memory_bytes(&self) -> Option<u64> {
        let (bytes, share) = self.level.memory;
        Some(bytes.min(self.host.memory_bytes("MemAvailable")? / share))
    }

    /// A check of this machine itself.
    fn here(&mut self, name: &'static str, check: impl FnOnce(&Run) -> Result<Finding>) {
        if self.host.is_here() {
            self.check(name, check);
        } else {
            self.check(name, |_| Ok(Finding::skip(ELSEWHERE)));
        }
    }

    /// Runs one check, if the level has it. One that cannot be carried out has failed: the box has not
    /// shown that it is fit.
    fn check(&mut self, name: &'static str, check: impl FnOnce(&Run) -> Result<Finding>) {
        let asked = |name: &str| self.only.is_empty() || self.only.iter().any(|it| it == name);
        let mut has = CHECKS
            .iter()
            .filter(|it| it.1 <= self.level.number && (asked(it.0) || it.0 == WHOLE));
        let Some(place) = has.position(|it| it.0 == name) else {
            return;
        };
        if self.progress {
            let count = place + 1 + has.count();
            let spans = [
                ("schedule.normal", self.level.jitter),
                ("schedule.fifo", self.level.jitter),
                ("memory.copy", self.level.copies),
                ("disk.sync", self.level.copies),
                ("proof.quanta", self.level.proofs),
                ("service.kills", self.level.kills),
            ];
            let span = spans.iter().find(|it| it.0 == name);
            let span = span.map_or(String::new(), |(_, span)| {
                format!(", {:.0} s", span.as_secs_f64())
            });
            eprint!("\r\x1b[K[{}/{count}] {name}{span} ...", place + 1);
        }
        let start = Instant::now();
        let finding = check(self).unwrap_or_else(|error| Finding::fail(format!("{error:#}")));
        if self.progress {
            eprint!("\r\x1b[K");
        }
        let check = self.report.add(name, finding, start.elapsed());
        if self.table {
            println!("{}", check.line(self.colour));
        }
    }
}

const ELSEWHERE: &str = "only this machine can be tried, not one that is a folder (--root)";
const NO_MEMORY: &str = "the kernel does not say how much memory is free";

/// Whoever divides times by more than this tries the program, not a box: keys are as small as they come.
const TRIAL: u32 = 10_000;

/// More than all caches of a large box.
const COPY_BYTES: u64 = 4 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_be_carried_out_has_failed() {
        let mut run = Run {
            host: Host::at("/nowhere"),
            cpus: Vec::new(),
            devices: Vec::new(),
            expected: None,
            bounds: Bounds::default(),
            data: PathBuf::new(),
            programs: Programs::new(None),
            only: Vec::new(),
            level: Level::of(1, 1, None),
            report: Report::new(1),
            table: false,
            colour: false,
            progress: false,
        };
        run.check("cpu.cores", |_| anyhow::bail!("no such thing"));
        assert_eq!(run.report.exit_code(), 2);
        assert_eq!(run.report.checks[0].finding.reason, "no such thing");
    }

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["caldera-hwtest", "--level", "5"]).is_err());
    }
}
