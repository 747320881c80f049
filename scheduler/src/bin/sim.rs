//! The simulator's program: it reads files, knows the command line and the clock of its progress bar;
//! all else is in `caldera_scheduler::sim`.
//!
//! Without a subcommand it runs the four-class mix that it generates itself.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use caldera_scheduler::ledger;
use caldera_scheduler::pool::{DEVICES_MAX, UNITS_MAX};
use caldera_scheduler::scenario::PREPARED_MAX;
use caldera_scheduler::sim::fault::plan;
use caldera_scheduler::sim::machine::Inventory;
use caldera_scheduler::sim::outcome::Outcome;
use caldera_scheduler::sim::pattern::{Mix, mixed, single};
use caldera_scheduler::sim::play::{Setup, play};
use caldera_scheduler::sim::plot::plot;
use caldera_scheduler::sim::report::{Bar, Line, Point, Report, TraceFacts, floor, units_at};
use caldera_scheduler::sim::trace::{Column, Trace};
use caldera_scheduler::sim::{baseline, chaos, economy};
use caldera_scheduler::{Nanos, Policy};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

/// The arbiter, its matching and its queue under invented time.
#[derive(Debug, Parser)]
#[command(name = "sim", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a series on boxes of several sizes (what happens without a subcommand, too)
    Run(Run),
    /// Write a series that looks like chains of one kind, or of all four
    Generate(Generate),
    /// Make a series of a file of time stamps and request counts
    Convert(Convert),
    /// Run small boxes on which everything goes wrong, and look at every property
    Seeds(Seeds),
    /// Run a year of epochs on the ledger of ERA, with agents, adversaries and honest twins
    Economy(Economy),
}

#[derive(Debug, Args)]
struct Run {
    /// A series (t_s,tenant,scenario,arrivals,service_s); without one, the mix is generated
    trace: Option<PathBuf>,
    #[command(flatten)]
    mix: MixArguments,
    /// Sizes of boxes, as parts of the joint peak
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "0.5,0.55,0.6,0.65,0.7,0.75,0.8,0.85,0.9,0.95,1"
    )]
    ratios: Vec<f64>,
    /// Stretch the work of each job so that the joint peak is so many cores
    #[arg(long, value_name = "CORES")]
    peak: Option<f64>,
    /// The classes whose lateness counts; by default all but the one of the lowest value
    #[arg(long, value_delimiter = ',', value_name = "CLASSES")]
    valuable: Vec<String>,
    /// How many cores one job can use at once, and devices beside them
    #[arg(long, default_value_t = 4)]
    parallelism: u32,
    /// How many devices each box has; what they can do is a column of the series, or --device-part
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=DEVICES_MAX as i64))]
    devices: u32,
    /// As many cores' work one device does
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    device_speed: u32,
    /// Jobs of one tenant that have their witness in memory, at most
    #[arg(long, default_value_t = PREPARED_MAX)]
    prepared_max: u32,
    /// How long it takes to bring a witness into memory
    #[arg(long, default_value_t = 1.0)]
    preparation_ms: f64,
    /// The shortest time between two ticks; by default as often as the arbiter asks, in long
    /// series two million times in all
    #[arg(long)]
    tick_ms: Option<f64>,
    /// When within its step each job arrives, and what goes wrong
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Look at every property after each event (slow)
    #[arg(long)]
    check: bool,
    /// How many faults hit each box: units lost, workers stalled, clock jumps, bursts, policies reloaded
    #[arg(long, default_value_t = 0)]
    faults: u32,
    /// Write all figures to a file; - for standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a drawing to a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// End with exit code 1 if a bar is reached at no size
    #[arg(long)]
    gate: bool,
}

#[derive(Debug, Args)]
struct MixArguments {
    /// The seed of a generated series
    #[arg(long, default_value_t = 1)]
    mix_seed: u64,
    /// How long its day is
    #[arg(long, default_value_t = 24.0)]
    hours: f64,
    /// How long its steps are
    #[arg(long, default_value_t = 10.0)]
    step_s: f64,
    /// Its mean demand
    #[arg(long, default_value_t = 78.0)]
    cores: f64,
    /// How many tenants each class has
    #[arg(long, default_value_t = 4)]
    tenants: u16,
    /// The part of each job's work that devices can do as well, from 0 to 1
    #[arg(long, default_value_t = 0.0)]
    device_part: f64,
}

#[derive(Debug, Args)]
struct Generate {
    /// mixed, financial, supply_chain, retail or social
    pattern: String,
    #[command(flatten)]
    mix: MixArguments,
    /// Where to; - for standard output
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Convert {
    /// A CSV file with a header
    input: PathBuf,
    /// The column of times, in seconds
    #[arg(long, default_value = "t_s")]
    time: String,
    /// A column of request counts, its scenario, and the core-seconds of one request
    #[arg(long, required = true, value_name = "COLUMN=SCENARIO:SERVICE_S")]
    series: Vec<String>,
    /// Where to; - for standard output
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
}

#[derive(Debug, Args)]
struct Seeds {
    /// The first
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many
    #[arg(long, default_value_t = 1_000)]
    count: u64,
}

#[derive(Debug, Args)]
struct Economy {
    /// A policy of the ledger; by default the one that is shipped
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one year each
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many epochs of an hour
    #[arg(long, default_value_t = 8_760, value_parser = clap::value_parser!(u32).range(1..=87_600))]
    epochs: u32,
    /// The mean demand, in cores
    #[arg(long, default_value_t = 0.1)]
    cores: f64,
    /// How many nodes
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    nodes: u32,
    /// How many rollups each of the four classes has
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=16))]
    rollups: u16,
    /// How many users at a time
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    users: u32,
    /// Write all figures to a file; - for standard output, in place of the tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a drawing of the first seed's year to a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => run(arguments.run),
        Some(Command::Run(arguments)) => run(arguments),
        Some(Command::Generate(arguments)) => generate(&arguments),
        Some(Command::Convert(arguments)) => convert(&arguments),
        Some(Command::Seeds(arguments)) => seeds(&arguments),
        Some(Command::Economy(arguments)) => economy(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Run) -> Result<()> {
    let policy = policy(arguments.prepared_max)?;
    let classes = names(&policy);
    let mut trace = match &arguments.trace {
        Some(path) => Trace::read(&read(path)?, &classes).with_context(|| shown(path))?,
        None => arguments.mix.mixed(&classes)?,
    };
    let ratio_max = arguments.ratios.iter().copied().fold(0.0, f64::max);
    let ratios_are_good = arguments.ratios.iter().all(|r| (0.01..=10.0).contains(r));
    ensure!(
        ratios_are_good,
        "--ratios: expected numbers from 0.01 to 10"
    );
    ensure!(
        arguments.parallelism > 0,
        "--parallelism: expected at least 1, got 0"
    );
    let peak = trace.peak(|_| true);
    if let Some(wanted) = arguments.peak {
        ensure!(wanted > 0.0, "--peak: expected more than 0, got {wanted}");
        trace = trace.scaled(wanted / peak);
    } else if peak * ratio_max > UNITS_MAX as f64 {
        trace = trace.scaled(PEAK_OF_LARGE / peak);
        eprintln!(
            "sim: the joint peak of {peak:.0} cores is beyond one box: scaled to {PEAK_OF_LARGE}"
        );
    }
    ensure!(
        trace.peak(|_| true) * ratio_max <= UNITS_MAX as f64,
        "expected a joint peak of at most {UNITS_MAX} cores at the largest ratio, got {:.0}",
        trace.peak(|_| true) * ratio_max
    );
    let valuable = valuable(&arguments.valuable, &policy)?;

    let seed = arguments.seed;
    let tick_gap = match arguments.tick_ms {
        Some(ms) => millis("--tick-ms", ms)?,
        None if trace.duration() < Nanos::from_secs(3_600 * 2) => Nanos::ZERO,
        None => Nanos(trace.duration().0 / TICKS_MAX),
    };
    let inventory = |cores| Inventory {
        devices: arguments.devices,
        device_speed: arguments.device_speed,
        ..Inventory::cores(cores)
    };
    let setup = |units| Setup {
        inventory: inventory(units),
        policy: policy.clone(),
        parallelism: arguments.parallelism,
        tables: vec![],
        witness: 0,
        preparation: Nanos::ZERO,
        tick_gap,
        seed,
        checks: arguments.check,
        faults: plan(
            seed,
            arguments.faults,
            trace.duration(),
            inventory(units).units(),
            trace.tenants().len() as u16,
        ),
    };
    let preparation = millis("--preparation-ms", arguments.preparation_ms)?;
    let bar = progress(trace.duration(), arguments.ratios.len());
    let points = in_parallel(&arguments.ratios, |&ratio| {
        let units = units_at(&trace, ratio);
        let setup = Setup {
            preparation,
            ..setup(units)
        };
        let mut last = Nanos::ZERO;
        let ours = play(&trace, &setup, &mut |now| {
            bar.inc(now.since(last).as_millis());
            last = now;
        })
        .with_context(|| format!("seed {seed}, ratio {ratio}: run it again with --seed {seed} --ratios {ratio} --check and the same other arguments"))?;
        let fifo = baseline::fifo(&trace, units, arguments.parallelism, seed, &policy);
        let line = |outcome: &Outcome| Line::of(outcome, &policy, &valuable);
        Ok(Point {
            ratio,
            floor: floor(&trace, units, &valuable),
            fifo: line(&fifo),
            ours: line(&ours),
        })
    });
    bar.finish_and_clear();
    let mut points = points.into_iter().collect::<Result<Vec<Point>>>()?;
    points.sort_by(|a, b| a.ratio.total_cmp(&b.ratio));
    let partition = baseline::partition(&trace, arguments.parallelism, seed, &policy);
    let report = Report {
        trace: TraceFacts::of(&trace, &policy),
        valuable: valuable.iter().map(|&at| classes[at].to_owned()).collect(),
        partition: Line::of(&partition, &policy, &valuable),
        bars: BARS
            .iter()
            .map(|&(used, unmet)| Bar::of(used, unmet, &points))
            .collect(),
        points,
    };

    if let Some(path) = &arguments.svg {
        write(path, &plot(&report))?;
    }
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&report).context("the report as JSON")?;
        text.push('\n');
        write(path, &text)?;
    }
    if !arguments.json.as_deref().is_some_and(is_standard) {
        write(Path::new("-"), &report.table())?;
    }
    let missed = report.bars.iter().find(|bar| bar.reached_at.is_empty());
    match missed.filter(|_| arguments.gate) {
        Some(bar) => bail!(
            "expected a size at which {:.0} % is used with at most {:.1} % unmet, got none of {:?}",
            bar.utilisation * 100.0,
            bar.unmet * 100.0,
            arguments.ratios
        ),
        None => Ok(()),
    }
}

fn generate(arguments: &Generate) -> Result<()> {
    let policy = Policy::standard();
    let classes = names(&policy);
    let trace = match arguments.pattern.as_str() {
        "mixed" => arguments.mix.mixed(&classes)?,
        class => {
            let trace = single(&arguments.mix.mix()?, class, &classes).with_context(|| {
                format!(
                    "pattern: expected mixed, {}, got {class}",
                    classes.join(", ")
                )
            })?;
            trace.for_devices(arguments.mix.device_part()?)
        }
    };
    write(&arguments.output, &trace.write(&classes))
}

fn convert(arguments: &Convert) -> Result<()> {
    let policy = Policy::standard();
    let classes = names(&policy);
    let columns = arguments.series.iter().map(|series| column(series));
    let columns: Vec<Column> = columns.collect::<Result<_>>()?;
    let text = read(&arguments.input)?;
    let trace = Trace::convert(&text, &arguments.time, &columns, &classes)
        .with_context(|| shown(&arguments.input))?;
    write(&arguments.output, &trace.write(&classes))
}

fn seeds(arguments: &Seeds) -> Result<()> {
    let seeds: Vec<u64> =
        (arguments.from..arguments.from.saturating_add(arguments.count)).collect();
    let bar = bar(seeds.len() as u64, "{pos} of {len} seeds");
    let failed = in_parallel(&seeds, |&seed| {
        bar.inc(1);
        chaos::run(seed).err()
    });
    bar.finish_and_clear();
    let failed: Vec<_> = failed.into_iter().flatten().collect();
    for failure in &failed {
        eprintln!("{failure}");
    }
    ensure!(
        failed.is_empty(),
        "{} of {} seeds failed",
        failed.len(),
        seeds.len()
    );
    println!("{} seeds, every property held", seeds.len());
    Ok(())
}

fn economy(arguments: &Economy) -> Result<()> {
    let policy = match &arguments.policy {
        Some(path) => ledger::Policy::parse(&read(path)?).with_context(|| shown(path))?,
        None => ledger::Policy::parse(SHIPPED).context("deploy/era.toml")?,
    };
    ensure!(
        policy.epoch.length_s <= 3_600,
        "--policy: expected epochs of at most 3600 seconds, got {}",
        policy.epoch.length_s
    );
    for class in 0..3 {
        ensure!(
            policy.class(class).is_some(),
            "--policy: expected classes 0 to 2, got none with the id {class}"
        );
    }
    ensure!(
        (0.01..=1_000.0).contains(&arguments.cores),
        "--cores: expected 0.01 to 1000, got {}",
        arguments.cores
    );
    let seeds: Vec<u64> =
        (arguments.seed..arguments.seed.saturating_add(arguments.seeds)).collect();
    let all = u64::from(arguments.epochs) * seeds.len() as u64;
    let bar = bar(all, "{pos} of {len} epochs, {eta} to go");
    let reports = in_parallel(&seeds, |&seed| {
        let setup = economy::Setup {
            policy: policy.clone(),
            seed,
            epochs: arguments.epochs,
            cores: arguments.cores,
            nodes: arguments.nodes,
            rollups: arguments.rollups,
            users: arguments.users,
        };
        economy::year(&setup, &mut |_| bar.inc(1)).with_context(|| format!("seed {seed}"))
    });
    bar.finish_and_clear();
    let reports = reports.into_iter().collect::<Result<Vec<_>>>()?;
    let gains = reports.iter().flat_map(|report| {
        let gains = report.players.iter().filter(|line| line.gain.0 > 0);
        gains.map(|line| {
            let (seed, name, gain) = (report.seed, line.name, line.gain.0);
            format!("seed {seed}: the {name} gains {gain} units")
        })
    });
    let gains: Vec<_> = gains.collect();
    if let (Some(path), Some(report)) = (&arguments.svg, reports.first()) {
        write(path, &economy::plot::plot(report))?;
    }
    if let Some(path) = &arguments.json {
        let mut text = serde_json::to_string_pretty(&reports).context("the reports as JSON")?;
        text.push('\n');
        write(path, &text)?;
    }
    if !arguments.json.as_deref().is_some_and(is_standard) {
        let tables: Vec<_> = reports.iter().map(economy::report::Report::table).collect();
        write(Path::new("-"), &tables.join("\n"))?;
    }
    // Who reads the figures has them; that somebody has gained by a trick is a failure all the same.
    ensure!(gains.is_empty(), "{}", gains.join("; "));
    Ok(())
}

impl MixArguments {
    fn mix(&self) -> Result<Mix> {
        let steps = (self.hours * 3_600.0 / self.step_s).round();
        ensure!(
            (100.0..=1e7).contains(&steps),
            "--hours, --step-s: expected 100 to 10000000 steps, got {steps}"
        );
        ensure!(
            (0.1..=1e6).contains(&self.cores),
            "--cores: expected 0.1 to 1000000, got {}",
            self.cores
        );
        ensure!(
            (1..=16).contains(&self.tenants),
            "--tenants: expected 1 to 16 for each class, got {}",
            self.tenants
        );
        Ok(Mix {
            seed: self.mix_seed,
            step: millis("--step-s", self.step_s * 1e3)?,
            steps: steps as u32,
            cores: self.cores,
            tenants: self.tenants,
        })
    }

    fn mixed(&self, classes: &[&str]) -> Result<Trace> {
        Ok(mixed(&self.mix()?, classes).for_devices(self.device_part()?))
    }

    fn device_part(&self) -> Result<f64> {
        let part = self.device_part;
        ensure!(
            (0.0..=1.0).contains(&part),
            "--device-part: expected 0 to 1, got {part}"
        );
        Ok(part)
    }
}

/// The standard policy with room for more witnesses: a box of a hundred cores has the memory.
fn policy(prepared_max: u32) -> Result<Policy> {
    let standard = Policy::standard();
    let mut classes = standard.classes().to_vec();
    for class in &mut classes {
        class.prepared_max = prepared_max;
    }
    // As many tenants as a series may have.
    let mut limits = *standard.limits();
    limits.tenants_max = caldera_scheduler::scenario::TENANTS_MAX;
    Policy::new(classes, limits).context("--prepared-max")
}

fn names(policy: &Policy) -> Vec<&str> {
    policy
        .classes()
        .iter()
        .map(|class| class.name.as_str())
        .collect()
}

fn valuable(wanted: &[String], policy: &Policy) -> Result<Vec<usize>> {
    let named = names(policy);
    if wanted.is_empty() {
        let lowest = policy.classes().iter().map(|class| class.value).min();
        let classes = policy.classes().iter().enumerate();
        let above = classes.filter(|(_, class)| Some(class.value) > lowest);
        return Ok(above.map(|(index, _)| index).collect());
    }
    let place = |name: &String| {
        let at = named.iter().position(|class| class == name);
        at.with_context(|| format!("--valuable: expected {}, got {name}", named.join(", ")))
    };
    wanted.iter().map(place).collect()
}

/// `COLUMN=SCENARIO:SERVICE_S`.
fn column(text: &str) -> Result<Column> {
    let parts = text.split_once('=').and_then(|(name, rest)| {
        let (scenario, service) = rest.rsplit_once(':')?;
        Some((name, scenario, service.parse::<f64>().ok()?))
    });
    let Some((name, scenario, service)) = parts else {
        bail!("--series: expected COLUMN=SCENARIO:SERVICE_S, got {text}");
    };
    Ok(Column {
        name: name.to_owned(),
        scenario: scenario.to_owned(),
        service: millis("--series", service * 1e3)?,
    })
}

/// A span that somebody typed.
fn millis(name: &str, ms: f64) -> Result<Nanos> {
    ensure!(
        (0.0..=1e9).contains(&ms),
        "{name}: expected 0 to 10^9 ms, got {ms}"
    );
    Ok(Nanos((ms * 1e6).round() as u64))
}

/// What each of these gives, in their order, on as many threads as there are cores.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(vec![]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                loop {
                    // Only a counter: nothing else is published with it.
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else {
                        break;
                    };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((at, result));
                    }
                }
            });
        }
    });
    // A thread that panicked has ended the scope with its panic.
    let mut done = done.into_inner().unwrap_or_default();
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A bar of simulated time. It draws on a terminal only.
fn progress(duration: Nanos, runs: usize) -> ProgressBar {
    let all = duration.as_millis() * runs as u64;
    bar(all, "{percent:>3} % simulated, {eta} to go")
}

fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("[{{bar:40}}] {template}"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn is_standard(path: &Path) -> bool {
    path == Path::new("-")
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn read(path: &Path) -> Result<String> {
    let size = fs::metadata(path).with_context(|| shown(path))?.len();
    ensure!(
        size <= FILE_MAX,
        "{}: expected at most {FILE_MAX} bytes, got {size}",
        path.display()
    );
    let bytes = fs::read(path).with_context(|| shown(path))?;
    String::from_utf8(bytes).with_context(|| format!("{}: expected UTF-8", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if !is_standard(path) {
        return fs::write(path, text).with_context(|| shown(path));
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Somebody has read as much as they wanted.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("standard output"),
    }
}

/// The policy of the ledger that a box is given.
const SHIPPED: &str = include_str!("../../../deploy/era.toml");
/// What is to be reached: so much used with at most so much unmet.
const BARS: [(f64, f64); 2] = [(0.80, 0.005), (0.82, 0.010)];
/// The joint peak of a series that is scaled to fit.
const PEAK_OF_LARGE: f64 = 256.0;
/// A longer run gets ticks less often than the arbiter asks.
const TICKS_MAX: u64 = 2_000_000;
/// Two gigabytes: more than the most jobs that a series may have, one a row.
const FILE_MAX: u64 = 2_000_000_000;
