//! How long cores take to change hands on a box that proves: a whole node in this process, spoken
//! to over its socket, two tenants, real proofs.
//!
//! One tenant has proofs under way all the time and holds every core when nobody else wants any.
//! The other makes them change hands, at moments drawn beforehand from a seed: the next demand does
//! not wait for the last one to be met. Every core that changes hands is a sample, from the kernel's
//! receive stamp of the demand to the first look of the core's worker at the new owner's work, as the
//! arbiter's own records have it.
//!
//! - **Declared**: the other declares that it wants all cores (`pool_demandV1`) and withdraws, in
//!   turn. Going to it, cores find nothing to run yet; going back they find a proof.
//! - **Measured**: the other asks for as many small proofs as make a peak of its class. Until the
//!   last of them it gets next to nothing; with it, all cores. When they are done the cores go back.
//!
//! With a device, that is one more unit that changes hands, by jobs; its samples stand apart. How long it takes from a demand until
//! the new owner's work runs there is in `takeover.rs`.
//!
//! With synthetic quanta each quantum lasts a given time, whatever it computes. Under stress the
//! machine is shared with so many processes of stress-ng. A sample above the limit is exempt if the
//! kernel says that the machine, not the box, took the time: the time that the threads on the path
//! waited in run queues, or that the hypervisor stole, must cover what is above the limit, in a span that
//! holds the sample. Exempt samples are counted and shown, and nothing is taken out of a histogram.

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use caldera_devices::{Options, Wanted, alone};
use caldera_kernels::Device;
use caldera_rpc::methods::{PoolStatus, Reallocation};
use hdrhistogram::Histogram;

use crate::bench::Bench;
use crate::live::{Client, Feed, Setup, World, small_key};
use crate::record::Record;
use crate::table::{figure, met, table};

/// What is to be measured.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// How often demand flips.
    #[arg(long, default_value_t = FLIPS)]
    pub(crate) flips: u64,
    /// What makes it flip.
    #[arg(long, value_enum, default_value = "declared")]
    pub(crate) trigger: Trigger,
    /// Each quantum lasts this long, in microseconds, whatever it computes.
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) synthetic: Option<u64>,
    /// Beside so many processes of stress-ng that compute all the time.
    #[arg(long, value_name = "PROCESSES", default_value_t = 0)]
    pub(crate) stress: u32,
    /// Which threads stand above other programs, in place of the box's default.
    #[arg(long, value_enum)]
    pub(crate) realtime: Option<RealtimeName>,
    /// Workers of the box, in place of its default.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
    /// A device beside the cores, which changes hands as well, by jobs: cuda:N (or cuda:GPU-8a2c,
    /// cuda:0000:3b:00.0), wgpu:NAME, icicle:KIND:N or cpu.
    #[arg(long)]
    pub(crate) device: Option<String>,
}

/// As calderad's configuration has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RealtimeName {
    None,
    Arbiter,
    Workers,
}

impl RealtimeName {
    fn as_str(self) -> &'static str {
        match self {
            RealtimeName::None => "none",
            RealtimeName::Arbiter => "arbiter",
            RealtimeName::Workers => "workers",
        }
    }
}

/// What makes cores change hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Trigger {
    /// A demand that is declared.
    Declared,
    /// Jobs that make a peak.
    Measured,
}

/// What came of it.
pub(crate) struct Moved {
    plan: Plan,
    /// By cause.
    samples: BTreeMap<String, Samples>,
    /// By the box's own count.
    counted: u64,
    pub(crate) missed: u64,
    /// Those of the missed for which the machine answers.
    pub(crate) exempt: u64,
    /// Proofs of the tenant that always works.
    proofs: u64,
    /// How long whoever declared waited for the answer, in nanoseconds.
    pub(crate) calls: Histogram<u64>,
}

struct Samples {
    ns: Histogram<u64>,
    detect: Histogram<u64>,
    longest: Option<Reallocation>,
}

impl Moved {
    /// Nothing yet.
    pub(crate) fn new(plan: &Plan) -> Moved {
        Moved {
            plan: plan.clone(),
            samples: BTreeMap::new(),
            counted: 0,
            missed: 0,
            exempt: 0,
            proofs: 0,
            calls: histogram(),
        }
    }

    /// The samples of all causes, in nanoseconds.
    pub(crate) fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for samples in self.samples.values() {
            all.add(&samples.ns).expect("of the same bounds");
        }
        all
    }

    /// Adds what came of another time.
    pub(crate) fn take(&mut self, other: Moved) -> Result<()> {
        for (cause, samples) in other.samples {
            match self.samples.entry(cause) {
                Entry::Vacant(place) => {
                    place.insert(samples);
                }
                Entry::Occupied(mut held) => held.get_mut().take(samples)?,
            }
        }
        self.counted += other.counted;
        self.missed += other.missed;
        self.exempt += other.exempt;
        self.proofs += other.proofs;
        Ok(self.calls.add(&other.calls)?)
    }

    /// Whether no core took longer than it may, but for those that the machine answers for.
    pub(crate) fn is_in_time(&self) -> bool {
        self.missed == self.exempt
    }

    /// That, and of quanta that prove on a machine that is left alone, whether most were as quick as is promised.
    pub(crate) fn holds(&self) -> bool {
        self.is_in_time() && self.bars().iter().skip(1).all(|(_, held)| *held)
    }

    /// What is promised, and whether it holds. Of the first it is told whether it holds without anything being
    /// exempt, which only a busy machine excuses.
    fn bars(&self) -> Vec<(String, bool)> {
        let limit = if self.plan.stress > 0 { self.exempt } else { 0 };
        let mut bars = vec![("none over 100 ms".to_owned(), self.missed <= limit)];
        let plan = &self.plan;
        let proves = plan.trigger == Trigger::Declared && plan.synthetic.is_none();
        let by_default = plan.realtime.is_none() && plan.workers.is_none() && plan.stress == 0;
        if proves && by_default && plan.flips >= MANY {
            let all = self.all();
            for (quantile, ms) in [(0.5, 2), (0.99, 5)] {
                let held = all.value_at_quantile(quantile) <= ms * 1_000_000;
                bars.push((format!("p{} at most {ms} ms", quantile * 100.0), held));
            }
        }
        bars
    }
}

impl Samples {
    fn take(&mut self, other: Samples) -> Result<()> {
        self.ns.add(&other.ns)?;
        self.detect.add(&other.detect)?;
        let us = |it: &Option<Reallocation>| it.as_ref().map_or(0.0, |it| it.total_us);
        if us(&other.longest) > us(&self.longest) {
            self.longest = other.longest;
        }
        Ok(())
    }
}

/// Flips demand on a box of its own.
pub(crate) fn reallocate(bench: &mut Bench, plan: Plan) -> Result<Moved> {
    ensure!(plan.flips > 0, "no flips to measure");
    ensure!(
        plan.device.is_none() || plan.trigger == Trigger::Measured,
        "what is declared are cores: a device changes hands by jobs (--trigger measured)"
    );
    let padded = plan.synthetic.map(Duration::from_micros);
    let policy = match plan.trigger {
        Trigger::Declared => DECLARED,
        Trigger::Measured => MEASURED,
    };
    let world = World::new(&Setup {
        padded,
        realtime: plan.realtime.map(RealtimeName::as_str),
        workers: plan.workers,
        device: plan.device.as_deref().map(opened).transpose()?,
        ..Setup::usual(policy, &TENANTS)
    })?;
    let (busy, other) = (world.client(TENANTS[0])?, world.client(TENANTS[1])?);
    let mut moved = Moved::new(&plan);
    let mut flipper = Flipper::new(&plan, &busy, &other, std::process::id())?;
    let _stress = Stress::new(plan.stress)?;
    let begun = Instant::now();
    flipper.flip(bench, &mut moved)?;
    let wall = begun.elapsed();
    for (cause, samples) in &moved.samples {
        bench.keep(record(bench, &moved, cause, samples, flipper.units, wall))?;
    }
    world.stop();
    Ok(moved)
}

/// A device by its name.
fn opened(name: &str) -> Result<Arc<dyn Device>> {
    let wanted: Wanted = name.parse()?;
    let options = Options::new(QUANTUM, 1);
    let device = alone(&wanted, &options);
    device.with_context(|| format!("the device {name}"))
}

/// Two tenants between whom cores change hands.
pub(crate) struct Flipper<'a> {
    plan: Plan,
    other: &'a Client,
    /// Proofs of the tenant that always works.
    feed: Feed<'a>,
    /// Proofs that make a peak.
    burst: Option<Feed<'a>>,
    units: u32,
    /// The box's process.
    process: u32,
    random: u64,
}

impl<'a> Flipper<'a> {
    /// Of a box in which the busy tenant is given to do from now on.
    pub(crate) fn new(
        plan: &Plan,
        busy: &'a Client,
        other: &'a Client,
        process: u32,
    ) -> Result<Flipper<'a>> {
        let (zkey, witness) = small_key(if plan.synthetic.is_some() { 4 } else { 13 })?;
        let mut feed = Feed::new(busy, &zkey, &witness)?;
        let (zkey, witness) = small_key(4)?;
        let burst = match plan.trigger {
            Trigger::Declared => None,
            Trigger::Measured => Some(Feed::new(other, &zkey, &witness)?),
        };
        feed.fill(WAITING)?;
        let pool = other.pool()?;
        Ok(Flipper {
            plan: plan.clone(),
            other,
            feed,
            burst,
            // Cores are what is declared.
            units: (pool.units.len() - devices(&pool).len()) as u32,
            process,
            random: SEED,
        })
    }

    /// The cores of the box.
    pub(crate) fn units(&self) -> u32 {
        self.units
    }

    /// Makes them change hands as often as was planned, and adds what came of it.
    pub(crate) fn flip(&mut self, bench: &Bench, moved: &mut Moved) -> Result<()> {
        let plan = self.plan.clone();
        let gap = match (plan.trigger, plan.synthetic) {
            (Trigger::Measured, _) => MEASURED_GAP,
            (Trigger::Declared, Some(us)) => Duration::from_micros(us) * 3 / 2,
            (Trigger::Declared, None) => GAP,
        };
        let proved = self.feed.proved;
        let mut seen = Seen::new(&self.other.pool()?, self.process)?;
        let random = &mut self.random;
        let mut due = Instant::now();
        for flip in 0..plan.flips {
            // Xorshift: the same moments each time.
            *random ^= *random << 13;
            *random ^= *random >> 7;
            *random ^= *random << 17;
            // From one gap to two, for a fixed time could fall into step with quanta.
            due += gap + Duration::from_micros(*random % (gap.as_micros() as u64));
            if flip % LOOK == 0 {
                seen.look(&self.other.pool()?, moved)?;
                self.feed.fill(WAITING)?;
                if flip % (64 * LOOK) == 0 {
                    bench.say(&format!("reallocate: {flip} of {} flips", plan.flips));
                }
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            match &mut self.burst {
                None => {
                    let units = if flip % 2 == 0 { self.units } else { 0 };
                    let asked = Instant::now();
                    self.other.declare(units)?;
                    let span = asked.elapsed().as_nanos() as u64;
                    moved.calls.saturating_record(span);
                }
                Some(burst) => {
                    burst.look()?;
                    // The last of them crosses the mark.
                    burst.fill(PEAK)?;
                }
            }
        }
        std::thread::sleep(2 * MEASURED_GAP);
        seen.look(&self.other.pool()?, moved)?;
        ensure!(
            seen.lost == 0,
            "{} hand-overs were not seen: looked at too seldom",
            seen.lost
        );
        moved.proofs += self.feed.proved - proved;
        Ok(())
    }
}

/// The samples of one cause as a line.
fn record(
    bench: &Bench,
    moved: &Moved,
    cause: &str,
    samples: &Samples,
    units: u32,
    wall: Duration,
) -> Record {
    let ms = |ns: &Histogram<u64>, quantile| ns.value_at_quantile(quantile) as f64 / 1e6;
    let of = |quantile| ms(&samples.ns, quantile);
    Record {
        size: u64::from(units),
        threads: units as usize,
        wall_s: wall.as_secs_f64(),
        inside: Some(format!(
            "from the receipt of the demand to the worker's first look; p99 {:.3} ms, p99.9 {:.3} ms, longest {:.3} ms; detected after {:.3} ms, p99 {:.3} ms; of all samples {} over the limit, {} of them exempt",
            of(0.99),
            of(0.999),
            samples.ns.max() as f64 / 1e6,
            ms(&samples.detect, 0.5),
            ms(&samples.detect, 0.99),
            moved.missed,
            moved.exempt,
        )),
        ..bench.times(
            "reallocate",
            format!("{}, {cause}", moved.plan.name()),
            &samples.ns,
        )
    }
}

impl Plan {
    /// On a quiet machine, so many flips where demand is declared: minutes.
    pub(crate) fn usual(trigger: Trigger, flips: u64) -> Plan {
        Plan {
            flips: match trigger {
                Trigger::Declared => flips,
                Trigger::Measured => flips.div_ceil(20),
            },
            trigger,
            synthetic: None,
            stress: 0,
            realtime: None,
            workers: None,
            device: None,
        }
    }

    /// What sets its samples apart from those of others.
    fn name(&self) -> String {
        let mut name = match self.trigger {
            Trigger::Declared => "live".to_owned(),
            Trigger::Measured => "live, by measured demand".to_owned(),
        };
        if let Some(us) = self.synthetic {
            name += &format!(", quanta of {us} us");
        }
        if let Some(realtime) = self.realtime {
            name += &format!(", realtime {}", realtime.as_str());
        }
        if let Some(workers) = self.workers {
            name += &format!(", {workers} workers");
        }
        if let Some(device) = &self.device {
            name += &format!(", with {device}");
        }
        if self.stress > 0 {
            name += &format!(", beside {} of stress-ng", self.stress);
        }
        name
    }
}

/// The samples as a table, with what the longest were made of.
pub(crate) fn of_moved(moved: &Moved) -> String {
    let rows: Vec<Vec<String>> = moved
        .samples
        .iter()
        .map(|(cause, samples)| {
            let ms =
                |ns: &Histogram<u64>, quantile| figure(ns.value_at_quantile(quantile) as f64 / 1e6);
            let longest = samples.longest.as_ref().map_or(String::new(), |it| {
                let parts = [it.detect_us, it.decide_us, it.drain_us, it.first_us];
                parts.map(|us| figure(us / 1e3)).join(" + ")
            });
            vec![
                cause.clone(),
                samples.ns.len().to_string(),
                ms(&samples.ns, 0.5),
                ms(&samples.ns, 0.99),
                ms(&samples.ns, 0.999),
                figure(samples.ns.max() as f64 / 1e6),
                longest,
                ms(&samples.detect, 0.5),
                ms(&samples.detect, 0.99),
            ]
        })
        .collect();
    let head = [
        "cause, and what was found",
        "cores",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
        "detect + decide + drain + first",
        "detect p50",
        "p99",
    ];
    format!(
        "{}: {} flips, {} hand-overs by the box's count, {} over its limit, {} of them exempt, {} proofs meanwhile\n{}",
        moved.plan.name(),
        moved.plan.flips,
        moved.counted,
        moved.missed,
        moved.exempt,
        moved.proofs,
        table(&head, &rows)
    ) + &met(&moved.bars())
}

/// What has been seen of the box's newest hand-overs.
struct Seen {
    /// How many there were at the last look, and how many of them were over the limit.
    count: u64,
    missed: u64,
    lost: u64,
    /// The units that are devices.
    devices: Vec<u16>,
    /// Threads between a demand and a first quantum.
    path: Vec<String>,
    /// What the machine took, at each look of the last while.
    taken: VecDeque<(Instant, Taken)>,
}

/// Where the kernel tells of the threads between a demand and a first quantum.
pub(crate) fn path(pool: &PoolStatus, process: u32) -> Result<Vec<String>> {
    let tasks = format!("/proc/{process}/task");
    let mut path: Vec<String> = pool
        .units
        .iter()
        .map(|unit| format!("{tasks}/{}/schedstat", unit.thread_id))
        .collect();
    for task in std::fs::read_dir(&tasks).context("the threads of the box")? {
        let task = task?.path();
        let name = std::fs::read_to_string(task.join("comm"))?;
        if matches!(name.trim(), "arbiter" | "rpc") {
            path.push(format!("{}/schedstat", task.display()));
        }
    }
    Ok(path)
}

/// The units of a pool that are devices.
pub(crate) fn devices(pool: &PoolStatus) -> Vec<u16> {
    let devices = pool.units.iter().filter(|unit| unit.device.is_some());
    devices.map(|unit| unit.unit).collect()
}

/// What the machine has taken from the threads on the path since they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Their time in run queues.
    waited: Duration,
    /// What the hypervisor gave to others, on all processors.
    stolen: Duration,
}

impl Seen {
    fn new(pool: &PoolStatus, process: u32) -> Result<Seen> {
        Ok(Seen {
            count: pool.reallocations.count,
            missed: pool.reallocations.missed,
            lost: 0,
            devices: devices(pool),
            path: path(pool, process)?,
            taken: VecDeque::new(),
        })
    }

    fn look(&mut self, pool: &PoolStatus, moved: &mut Moved) -> Result<()> {
        let all = &pool.reallocations;
        let new = all.count - self.count;
        let recent = &all.recent;
        let at = recent.len().saturating_sub(usize::try_from(new)?);
        self.lost += new - (recent.len() - at) as u64;
        moved.counted += new;
        moved.missed += all.missed - self.missed;
        (self.count, self.missed) = (all.count, all.missed);
        let now = Instant::now();
        while self.taken.len() > 1 && now - self.taken[0].0 > MEMORY {
            self.taken.pop_front();
        }
        let taken = Taken::by(&self.path)?;
        for it in &recent[at..] {
            let found = if it.empty { "nothing" } else { "a proof" };
            let resource = match self.devices.contains(&it.unit) {
                true => "device, ",
                false => "",
            };
            let samples = moved
                .samples
                .entry(format!("{resource}{}, {found}", it.cause))
                .or_insert_with(|| Samples {
                    ns: histogram(),
                    detect: histogram(),
                    longest: None,
                });
            samples.ns.saturating_record((it.total_us * 1e3) as u64);
            samples
                .detect
                .saturating_record((it.detect_us * 1e3) as u64);
            if samples
                .longest
                .as_ref()
                .is_none_or(|longest| it.total_us > longest.total_us)
            {
                samples.longest = Some(it.clone());
            }
            if it.total_us > LIMIT.as_secs_f64() * 1e6 {
                // The newest state that is older than the sample: it ended before this look.
                let total = Duration::from_secs_f64(it.total_us / 1e6);
                let before = self
                    .taken
                    .iter()
                    .rev()
                    .find(|(at, _)| now - *at > total + LOOK_SPAN);
                let excess = total.saturating_sub(LIMIT);
                moved.exempt += u64::from(before.is_some_and(|(_, b)| taken.covers(b, excess)));
            }
        }
        self.taken.push_back((now, taken));
        Ok(())
    }
}

impl Taken {
    /// Up to now.
    pub(crate) fn by(path: &[String]) -> Result<Taken> {
        let mut waited = Duration::ZERO;
        for file in path {
            // Time on a processor, time in a run queue, and how often.
            let text = std::fs::read_to_string(file).with_context(|| file.clone())?;
            let ns = text
                .split_whitespace()
                .nth(1)
                .and_then(|it| it.parse().ok());
            waited += Duration::from_nanos(ns.with_context(|| text.clone())?);
        }
        let text = std::fs::read_to_string("/proc/stat").context("/proc/stat")?;
        // "cpu user nice system idle iowait irq softirq steal", in hundredths of a second.
        let steal = text
            .split_whitespace()
            .nth(8)
            .and_then(|it| it.parse::<u64>().ok());
        Ok(Taken {
            waited,
            stolen: Duration::from_millis(10 * steal.context("no steal in /proc/stat")?),
        })
    }

    /// Whether it has taken so much since then.
    pub(crate) fn covers(&self, before: &Taken, excess: Duration) -> bool {
        self.waited - before.waited >= excess || self.stolen - before.stolen >= excess
    }
}

/// For times in nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // Up to a minute, in nanoseconds.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("in order")
}

/// Processes that compute all the time, until this is dropped.
struct Stress(Option<Child>);

impl Stress {
    fn new(processes: u32) -> Result<Stress> {
        if processes == 0 {
            return Ok(Stress(None));
        }
        let child = Command::new("stress-ng")
            .args(["--quiet", "--cpu", &processes.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .context("starting stress-ng (Debian: apt-get install stress-ng)")?;
        Ok(Stress(Some(child)))
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // By TERM, so that it takes its own children with it.
            let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
            let _ = child.wait();
        }
    }
}

/// The tenant that always works, and the other, by the names of their classes.
pub(crate) const TENANTS: [&str; 2] = ["steady", "burst"];

/// Whoever declares is promised the whole box, so that each flip moves every core.
pub(crate) const DECLARED: &str = "
[classes.burst]
value = 1000
guarantee_percent = 100
[classes.steady]
value = 1
guarantee_percent = 0
ageing_max_ms = 60000
";

/// Next to nothing below its peak, and at it the whole box.
const MEASURED: &str = "
[classes.burst]
value = 1
guarantee_percent = 0
ageing_max_ms = 60000
[classes.burst.peak]
value = 1000
queue = { high = 4, low = 0 }
hold_ms = 0
[classes.steady]
value = 30
guarantee_percent = 0
ageing_max_ms = 60000
";

/// Flips of demand: ten minutes.
pub(crate) const FLIPS: u64 = 100_000;

/// As calderad has it where no policy says otherwise.
const QUANTUM: Duration = Duration::from_millis(2);

/// The moments of the flips are drawn from it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Between two flips, at least: longer than a hand-over usually takes.
const GAP: Duration = Duration::from_millis(4);
/// The same where small proofs have to end in between.
const MEASURED_GAP: Duration = Duration::from_millis(16);

/// Flips between two looks. The box keeps its newest 64 hand-overs.
const LOOK: u64 = 10;
/// So many flips say what is usual.
const MANY: u64 = 10_000;
/// A look takes less.
const LOOK_SPAN: Duration = Duration::from_millis(5);
/// What the machine took is remembered for so long.
const MEMORY: Duration = Duration::from_secs(5);

/// The hard bound.
const LIMIT: Duration = Duration::from_millis(100);

/// Jobs of the busy tenant that are not ended.
const WAITING: usize = 6;

/// Jobs that make a peak.
const PEAK: usize = 4;
