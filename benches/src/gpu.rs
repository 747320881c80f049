//! A GPU, figure by figure: what the box is bought for, on each device that is named, in turns.
//!
//! | row | what is timed |
//! |---|---|
//! | `multiplications` | products in the scalar field, of elements in registers, by the device's own clock |
//! | `g1 msm`, `g2 msm` | a sum of full-size scalars: points and scalars on the device, no tables, its plan laid out; until the sum is with the host |
//! | `g1 msm, tables` | the same with tables of multiples, made before |
//! | `ntt` | a transform one way, in place, natural order to natural order |
//! | `proof` | a whole proof: the key on the device; the witness goes up, is checked, and the proof checks itself |
//! | `proof, tables` | the same with tables of the key's points on the device, of four times the key, made before |
//! | `proof, in the pool` | that as a box has it: the device beside the processor, opened and joined as by `calderad`, all cores and the device the tenant's, and what the device can do begun there alone ([`Plan::allow`](caldera_kernels::Plan::allow) before each quantum, as by a box's workers) |
//! | `take-over` | on a whole box: from the moment that another tenant wants the device, which sums, until that one's work begins there, and until the first stage of it has ended; see `takeover.rs` |
//!
//! The first device that is named is ours; the others, which may be the same card by another way (`wgpu`,
//! `icicle:CUDA:0`), are held against it in the same rounds, and must come to the same results. So are the peers
//! that `--peer` names (`peer/card.rs`), with their points and vectors on the card as ours are; ours over the best
//! of them stands in a table of its own (`best.rs`). Whoever cannot be used, fails or comes to something else says
//! why and is left out.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use caldera_devices::{FORWARD, ICICLE_FOLDER, KINDS, Options, Wanted, alone};
use caldera_kernels::{CurveId, Device, DeviceError, Plan as Planned};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{
    Blinding, Job, ProvingKey, Synthetic, prove, setup_synthetic_part, verify,
};

use crate::bench::{Bench, CurveName};
use crate::best;
use crate::drive;
use crate::duel::{Answer, Contender, Spread, duel_with_guests};
use crate::key::{self, Key};
use crate::peer::card::{self, Peer};
use crate::record::{Case, GPU, Record, Silicon, Unit, WALL, records};
use crate::table::{figure, table};
use crate::takeover::{self, Taken};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Which devices, the first one being ours: cuda:N (or cuda:GPU-8a2c, cuda:0000:3b:00.0), wgpu, wgpu:NAME,
    /// icicle:KIND:N or cpu.
    #[arg(long = "device", value_delimiter = ',', default_value = "cuda:0")]
    devices: Vec<String>,
    /// A peer on the same card: sppark, icicle, snarkrs-cuda or snarkrs-wgpu, and its library, as `make peers`
    /// makes it. May be given several times.
    #[arg(long = "peer", value_name = "NAME=LIBRARY")]
    peers: Vec<card::Wanted>,
    /// Which rows; all, if none is named.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Row>,
    /// The curve.
    #[arg(long, value_enum, default_value = "bn254")]
    curve: CurveName,
    /// All sizes smaller by so many powers of two: a trial, whose figures are of nothing.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=14))]
    smaller: u32,
    /// Constraints of the proof's circuit.
    #[arg(long, default_value_t = 3_200_000, value_parser = clap::value_parser!(u32).range(1 << 17..1 << 26))]
    constraints: u32,
    /// What tables may take, in bytes, at the full size.
    #[arg(long, default_value_t = 16 << 30)]
    tables: usize,
    /// How often the device is taken over.
    #[arg(long, default_value_t = 1000)]
    take_overs: u32,
    /// Where ICICLE is installed.
    #[arg(long, value_name = "DIR", default_value = ICICLE_FOLDER)]
    icicle: PathBuf,
    /// Where what is measured of devices is kept.
    #[arg(long, value_name = "DIR")]
    calibration: Option<PathBuf>,
}

/// A row of the table, or a few that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Row {
    Multiplications,
    Msm,
    MsmTables,
    MsmG2,
    Ntt,
    Proof,
    TakeOver,
}

impl Plan {
    /// Everything, on the processor, with sizes that say nothing.
    pub(crate) fn trial() -> Plan {
        Plan {
            devices: vec!["cpu".to_owned()],
            peers: Vec::new(),
            only: Vec::new(),
            curve: CurveName::Bn254,
            smaller: 14,
            constraints: 3_200_000,
            tables: 16 << 30,
            take_overs: 20,
            icicle: ICICLE_FOLDER.into(),
            calibration: None,
        }
    }

    fn has(&self, row: Row) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }
}

/// A device that was opened.
struct Opened {
    wanted: Wanted,
    device: Arc<dyn Device>,
    silicon: Silicon,
    /// Threads that run its lanes: all for the processor.
    threads: usize,
}

/// Measures all rows; for people, a table of them.
pub(crate) fn gpu(bench: &mut Bench, plan: &Plan) -> Result<String> {
    let devices = open(plan)?;
    let peers = open_peers(plan, &devices);
    let first = bench.records.len();
    let curve: CurveId = plan.curve.into();
    if plan.has(Row::Multiplications) {
        for device in &devices {
            multiplications(bench, device, curve)?;
        }
    }
    let sums = [
        (Row::Msm, "g1 msm", KINDS[3], 22, 0),
        (Row::Msm, "g1 msm", KINDS[3], 20, 0),
        (Row::MsmTables, "g1 msm, tables", KINDS[3], 22, plan.tables),
        (Row::MsmTables, "g1 msm, tables", KINDS[3], 20, plan.tables),
        (Row::MsmG2, "g2 msm", KINDS[4], 20, 0),
        (Row::Ntt, "ntt", FORWARD, 22, 0),
    ];
    for (row, name, kind, log2, tables) in sums {
        if plan.has(row) {
            let work = (kind, log2 - plan.smaller, tables >> plan.smaller);
            of_work(bench, &devices, &peers, plan, name, work)?;
        }
    }
    if plan.has(Row::Proof) {
        proofs(bench, &devices, &peers, plan)?;
    }
    if plan.has(Row::TakeOver) {
        for device in &devices {
            take_overs(bench, device, plan)?;
        }
    }
    for opened in &devices {
        if let Some(why) = opened.device.health().lost {
            return Err(anyhow!("{} was lost: {why}", opened.wanted));
        }
    }
    let lacking = bench.records[first..].iter().map(Record::is_traceable);
    if let Some(why) = lacking.filter_map(Result::err).next() {
        bench.say(&format!("such lines are not to be stored: {why}"));
    }
    let records = &bench.records[first..];
    let mut text = of_rows(records, plan.smaller == 0);
    let best = best::best(records);
    if !best.is_empty() {
        text.push('\n');
        text.push_str(&best::of_best(&best));
    }
    Ok(text)
}

/// Those that are of use to a row that is measured.
fn open_peers(plan: &Plan, devices: &[Opened]) -> Vec<Peer> {
    let is_cuda = |it: &&Opened| matches!(it.wanted, Wanted::Cuda { .. });
    let Some(opened) = devices.iter().find(is_cuda).or(devices.first()) else {
        return Vec::new();
    };
    let pci = opened.silicon.pci.as_deref().filter(|_| is_cuda(&opened));
    let cuda = pci.and_then(caldera_devices::cuda_number);
    let works = [Row::Msm, Row::MsmG2, Row::Ntt];
    let mut peers = Vec::new();
    for wanted in &plan.peers {
        let is_of_use = match wanted.proves() {
            true => plan.has(Row::Proof),
            false => works.iter().any(|&row| plan.has(row)),
        };
        if !is_of_use {
            continue;
        }
        match Peer::open(wanted, cuda, &opened.silicon) {
            Ok(peer) => peers.push(peer),
            Err(why) => left_out(wanted.name, &why),
        }
    }
    peers
}

/// For whoever watches, and for whoever reads afterwards what was written: a figure that is not there has a reason.
fn left_out(name: &str, why: &anyhow::Error) {
    eprintln!("caldera-bench: the peer {name} is left out: {why:#}");
}

fn options(plan: &Plan, workers: usize) -> Options {
    Options {
        icicle_folder: plan.icicle.clone(),
        calibration: plan.calibration.clone(),
        ..Options::new(QUANTUM, workers)
    }
}

fn open(plan: &Plan) -> Result<Vec<Opened>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut devices = Vec::new();
    for name in &plan.devices {
        let wanted: Wanted = name.parse()?;
        let threads = if wanted == Wanted::Cpu { cores } else { 1 };
        let device = alone(&wanted, &options(plan, threads))?;
        let site = device.site(0);
        let software = device.health().software.into_iter();
        let silicon = Silicon {
            device: wanted.to_string(),
            name: device.info().name.clone(),
            uuid: site.uuid,
            pci: site.pci,
            software: software
                .map(|it| format!("{} {}", it.name, it.version))
                .collect(),
            ..Silicon::default()
        };
        devices.push(Opened {
            wanted,
            device,
            silicon,
            threads,
        });
    }
    // Of a card whose driver says no UUID, where it lies says which one it is.
    let known: Vec<(Option<String>, Option<String>)> = devices
        .iter()
        .map(|it| (it.silicon.pci.clone(), it.silicon.uuid.clone()))
        .collect();
    for opened in &mut devices {
        let silicon = &mut opened.silicon;
        if silicon.uuid.is_none() && silicon.pci.is_some() {
            let same = known
                .iter()
                .find(|it| it.0 == silicon.pci && it.1.is_some());
            silicon.uuid = same.and_then(|it| it.1.clone());
        }
    }
    Ok(devices)
}

/// A line of one series of figures.
fn line(
    bench: &Bench,
    opened: &Opened,
    (case, size): (&str, u64),
    (samples, unit): (Vec<f64>, &str),
    inside: &str,
) -> Record {
    let spread = Spread::of(samples.iter().copied());
    Record {
        bench: GPU.to_owned(),
        case: case.to_owned(),
        size,
        threads: opened.threads,
        who: opened.silicon.device.clone(),
        ours: true,
        value: spread.median,
        unit: unit.to_owned(),
        spread: [spread.low, spread.high],
        cpu_s: 0.0,
        wall_s: 0.0,
        rounds: samples.len(),
        ratio: None,
        peer_build: None,
        inside: Some(inside.to_owned()),
        silicon: Some(Silicon {
            samples,
            ..opened.silicon.clone()
        }),
        origin: bench.origin.clone(),
    }
}

fn multiplications(bench: &mut Bench, opened: &Opened, curve: CurveId) -> Result<()> {
    bench.say(&format!("multiplications on {}", opened.wanted));
    let mut samples = Vec::new();
    for _ in 0..bench.rounds.min {
        let peak = opened.device.peak(curve);
        match peak.with_context(|| format!("multiplications on {}", opened.wanted))? {
            Some(rate) => samples.push(1e9 / rate),
            // The processor's is another bench's, and ICICLE has no such call.
            None => return Ok(()),
        }
    }
    let case = format!("{} multiplications", key::name(curve));
    let inside = "products in registers, all of the device, by its own clock";
    let record = line(bench, opened, (&case, 1), (samples, "ns/op"), inside);
    bench.keep(record)
}

/// Work on a device, laid out for the next round.
struct Laid<'a> {
    bench: caldera_devices::Bench<'a>,
    plan: RefCell<Arc<dyn Planned>>,
    threads: usize,
    /// By the device's own clock, of all rounds.
    computed: &'a RefCell<Vec<f64>>,
}

impl Laid<'_> {
    fn run(&self) -> Result<()> {
        drive::plan(&**self.plan.borrow(), self.threads).context("running")
    }

    /// What came out; and lays the next round out, outside of its time.
    fn answer(&self) -> Result<Answer> {
        let done = self.plan.replace(self.bench.plan()?);
        let clock = done.device_time().map(|it| it.as_secs_f64() * 1e3);
        self.computed.borrow_mut().extend(clock);
        let bytes = match done.point() {
            Some(point) => point,
            None => self.bench.vector()?,
        };
        Ok(Answer::Bytes(bytes))
    }
}

fn of_work(
    bench: &mut Bench,
    devices: &[Opened],
    peers: &[Peer],
    plan: &Plan,
    name: &str,
    (kind, log2, tables): (&str, u32, usize),
) -> Result<()> {
    let curve: CurveId = plan.curve.into();
    let case = Case {
        bench: GPU,
        case: format!("{} {name}", key::name(curve)),
        size: 1 << log2,
        threads: 1,
        unit: Unit::WallMilliseconds,
        inside: Some("all on the device and laid out; until the result is there"),
    };
    bench.say(&format!("{} of 2^{log2}", case.case));
    let clocks: Vec<RefCell<Vec<f64>>> = devices.iter().map(|_| RefCell::default()).collect();
    let mut contenders = Vec::new();
    let mut taking_part = Vec::new();
    for (opened, computed) in devices.iter().zip(&clocks) {
        let device = &*opened.device;
        let mut work = caldera_devices::Bench::new(device, curve, kind, log2, log2)
            .with_context(|| format!("{} on {}", case.case, opened.wanted))?;
        if tables > 0 {
            // They are made for what sums so far have been like.
            caldera_devices::run(&*work.plan()?, &mut |_| ())?;
            if work.tables(tables)? == 0 {
                bench.say(&format!("{} makes none", opened.wanted));
                continue;
            }
        }
        let laid = Laid {
            plan: RefCell::new(work.plan()?),
            bench: work,
            threads: opened.threads,
            computed,
        };
        let name = opened.silicon.device.clone();
        let contender = Contender::ours(name, laid, |laid| laid.run(), |laid| laid.answer());
        contenders.push(contender);
        taking_part.push((&opened.silicon, computed));
    }
    if contenders.is_empty() {
        return Ok(());
    }
    // No peer has tables of a key.
    if tables == 0 {
        contenders.extend(guests(peers, |peer| peer.work(curve, kind, log2)));
    }
    keep(bench, &case, contenders, &taking_part, peers)
}

/// Lets them take turns, and records how they did. The first of the contenders are ours, on these devices.
fn keep(
    bench: &mut Bench,
    case: &Case,
    contenders: Vec<Contender<'_>>,
    ours: &[(&Silicon, &RefCell<Vec<f64>>)],
    peers: &[Peer],
) -> Result<()> {
    let runs = duel_with_guests(contenders, bench.rounds, &mut left_out)?;
    for (index, (mut record, runs)) in records(case, &runs, &bench.origin)
        .into_iter()
        .zip(&runs)
        .enumerate()
    {
        let mut device_ms = Vec::new();
        let silicon = match ours.get(index) {
            Some((silicon, computed)) => {
                device_ms = computed.take();
                // The first round of a duel is not counted.
                device_ms.drain(..device_ms.len().saturating_sub(record.rounds));
                *silicon
            }
            None => {
                let peer = peers.iter().find(|it| it.name == record.who);
                &peer.context("a peer that is none of ours")?.silicon
            }
        };
        let samples = runs.times.iter().map(|it| it.wall.as_secs_f64() * 1e3);
        record.silicon = Some(Silicon {
            samples: samples.collect(),
            device_ms,
            ..silicon.clone()
        });
        bench.keep(record)?;
    }
    Ok(())
}

/// Those who take part in a case: of the others it is said why they do not.
fn guests<'a>(
    peers: &'a [Peer],
    laid: impl Fn(&'a Peer) -> Result<Option<Contender<'a>>>,
) -> Vec<Contender<'a>> {
    let mut contenders = Vec::new();
    for peer in peers {
        match laid(peer) {
            Ok(contender) => contenders.extend(contender),
            Err(why) => left_out(peer.name, &why),
        }
    }
    contenders
}

fn proofs(bench: &mut Bench, devices: &[Opened], peers: &[Peer], plan: &Plan) -> Result<()> {
    let curve: CurveId = plan.curve.into();
    let constraints = plan.constraints >> plan.smaller;
    bench.say(&format!("a key of {constraints} constraints"));
    let circuit = Synthetic {
        curve,
        // Three wires have no constraint of their own.
        domain_log2: (constraints + 3).next_power_of_two().ilog2(),
        dense: 0.3,
        seed: [0x67; 32],
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut file = Vec::new();
    let witness = setup_synthetic_part(&circuit, constraints, threads, &mut file, &mut |_| ())?;
    let file = Bytes::from(file);
    let key = Key {
        name: format!("{} proof", key::name(curve)),
        zkey: Zkey::parse(file.clone()).context("a key of our own")?,
        file,
        witness,
    };
    let kinds = [
        (
            "proof",
            "key on the device; from the witness on the host to the checked proof",
            false,
            false,
        ),
        (
            "proof, tables",
            "key and tables of it on the device; from the witness on the host to the checked proof",
            false,
            true,
        ),
        (
            "proof, in the pool",
            "key and tables of it on the device, which is one of a box's; from the witness on the host to the checked proof",
            true,
            true,
        ),
    ];
    for (name, inside, pooled, tables) in kinds {
        let case = Case {
            bench: GPU,
            case: format!("{} {name}", key::name(curve)),
            size: constraints.into(),
            threads: if pooled { threads } else { 1 },
            unit: Unit::WallMilliseconds,
            inside: Some(inside),
        };
        bench.say(&format!("{} of {constraints} constraints", case.case));
        let no_clock = RefCell::default();
        let mut contenders = Vec::new();
        let mut taking_part = Vec::new();
        for opened in devices {
            let device = match pooled {
                true => {
                    let wanted = [opened.wanted.clone()];
                    caldera_devices::open(&wanted, &options(plan, threads))?
                }
                false => Arc::clone(&opened.device),
            };
            let loaded = ProvingKey::load(&key.zkey, device)
                .with_context(|| format!("a key on {}", opened.wanted))?;
            let mut state = Proving {
                key: loaded,
                witness: key.witness.clone(),
                threads: if pooled { threads } else { opened.threads },
                pooled,
                verified: false,
            };
            if tables && !state.tables()? && !pooled {
                bench.say(&format!("{} makes none", opened.wanted));
                continue;
            }
            let name = opened.silicon.device.clone();
            let answer = |state: &Proving| {
                ensure!(state.verified, "a proof that does not verify");
                let lost = state.key.device().health().lost;
                ensure!(lost.is_none(), "a device was lost: {lost:?}");
                Ok(Answer::Verified)
            };
            contenders.push(Contender::ours(name, state, Proving::run, answer));
            taking_part.push((&opened.silicon, &no_clock));
        }
        // A peer's proof has no tables, and no pool to be made in.
        if !tables {
            contenders.extend(guests(peers, |peer| peer.proof(&key)));
        }
        keep(bench, &case, contenders, &taking_part, peers)?;
    }
    Ok(())
}

struct Proving {
    key: Arc<ProvingKey>,
    witness: Wtns,
    threads: usize,
    pooled: bool,
    verified: bool,
}

impl Proving {
    /// Makes tables of the key as a box does, after a proof: whether the device makes any.
    fn tables(&mut self) -> Result<bool> {
        self.run()?;
        let (key, bytes) = (&self.key, TABLE_TIMES * self.key.copy_len());
        let plan = match self.pooled {
            true => key.copy_tables(1, bytes),
            false => key.tables(bytes),
        };
        match plan {
            Ok(plan) => caldera_devices::run(&*plan, &mut |_| ())?,
            Err(DeviceError::Unfit { .. }) => return Ok(false),
            Err(error) => return Err(error).context("room for tables"),
        }
        let made = match self.pooled {
            true => key.copy_tables_bytes(1),
            false => key.tables_bytes(),
        };
        Ok(made > 0)
    }

    fn run(&mut self) -> Result<()> {
        let (key, witness) = (&self.key, self.witness.clone());
        let (proof, public) = match self.pooled {
            true => {
                let blinding = Blinding::random(key.curve())?;
                let job = Job::new(key, witness, blinding)?;
                drive::pooled(&job, self.threads)?;
                job.proof().context("no proof came out")?
            }
            false => prove(key, witness, self.threads, &mut |_, _| ())?,
        };
        self.verified = verify(self.key.verification_key(), &proof, &public).is_ok();
        Ok(())
    }
}

fn take_overs(bench: &mut Bench, opened: &Opened, plan: &Plan) -> Result<()> {
    let curve: CurveId = plan.curve.into();
    let log2 = TAKEN_LOG2 - plan.smaller;
    bench.say(&format!(
        "{} take-overs of {} while it sums 2^{log2}",
        plan.take_overs, opened.wanted
    ));
    let taken = takeover::taken(bench, &opened.device, (curve, log2), plan.take_overs)
        .with_context(|| format!("take-overs of {}", opened.wanted))?;
    let case = format!("{} take-over of a g1 msm", key::name(curve));
    let moved = Spread::of(taken.iter().map(|it| it.moved));
    let within: BTreeSet<&str> = taken.iter().map(|it| it.within).collect();
    let within = within.into_iter().collect::<Vec<_>>().join(", ");
    let begun = format!(
        "from the demand until the new owner's first quantum there begins; the hand-over of it {}; within {within}",
        figure(moved.median)
    );
    let ended = "from the demand until the new owner's first stage there has ended".to_owned();
    for (case, inside, of) in [
        (case.clone(), begun, (|it| it.begun) as fn(&Taken) -> f64),
        (format!("{case}, first stage"), ended, |it| it.ended),
    ] {
        let samples: Vec<f64> = taken.iter().map(of).collect();
        let record = line(bench, opened, (&case, 1 << log2), (samples, WALL), &inside);
        bench.keep(record)?;
    }
    Ok(())
}

/// For people: every row, beside what an H100 is meant to come to.
fn of_rows(all: &[Record], full_size: bool) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|it| {
            let silicon = it.silicon.as_ref();
            let sorted = {
                let mut samples = silicon.map(|it| it.samples.clone()).unwrap_or_default();
                samples.sort_by(f64::total_cmp);
                samples
            };
            let longest = sorted.last().copied().unwrap_or_default();
            let clock = silicon.map(|it| Spread::of(it.device_ms.iter().copied()).median);
            let (value, unit) = if it.unit == "ns/op" {
                (format!("{:.2e}", 1e9 / it.value), "a second")
            } else {
                (figure(it.value), "ms")
            };
            vec![
                it.case.clone(),
                it.size.to_string(),
                it.who.clone(),
                value,
                unit.to_owned(),
                figure(longest),
                clock
                    .filter(|&it| it > 0.0)
                    .map_or_else(|| "-".to_owned(), figure),
                it.ratio
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{:.3}", ratio.wall)),
                aim(it).filter(|_| full_size).unwrap_or("-").to_owned(),
            ]
        })
        .collect();
    let names: BTreeSet<String> = all
        .iter()
        .filter_map(|it| it.silicon.as_ref())
        .map(|it| {
            let uuid = it.uuid.as_deref().unwrap_or("no UUID");
            format!(
                "{}: {} ({uuid}), {}",
                it.device,
                it.name,
                it.software.join(", ")
            )
        })
        .collect();
    let head = [
        "what",
        "size",
        "device",
        "median",
        "unit",
        "longest",
        "by its clock",
        "first over it",
        "aim (H100)",
    ];
    let mut text = table(&head, &rows);
    for name in names {
        text.push_str(&name);
        text.push('\n');
    }
    text
}

/// What is meant to be reached on an H100; see docs/kernels.md for the bounds that these stand on.
fn aim(record: &Record) -> Option<&'static str> {
    let case = record.case.strip_prefix("bn254 ")?;
    Some(match (case, record.size) {
        ("multiplications", _) => ">= 5e10",
        ("g1 msm", size) if size == 1 << 22 => "<= 18",
        ("g1 msm", _) => "<= 5",
        ("g1 msm, tables", size) if size == 1 << 22 => "<= 13",
        ("g1 msm, tables", _) => "<= 4",
        ("g2 msm", _) => "<= 16",
        ("ntt", _) => "<= 1.2",
        ("proof" | "proof, tables" | "proof, in the pool", 3_200_000) => "<= 150",
        ("take-over of a g1 msm", _) => "<= 5, longest <= 20",
        _ => return None,
    })
}

/// As calderad has it where no policy says otherwise.
const QUANTUM: Duration = Duration::from_millis(2);

/// As calderad has it too, see `device_table_times`.
const TABLE_TIMES: usize = 4;

/// The sum that is taken over from has so many points.
const TAKEN_LOG2: u32 = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_measured_and_stands_in_the_table() {
        let mut bench = crate::all::trial();
        let plan = Plan {
            devices: vec!["cpu".to_owned(), "cpu".to_owned()],
            ..Plan::trial()
        };
        let text = gpu(&mut bench, &plan).expect("the processor");
        let rows: Vec<(&str, u64, usize)> = bench
            .records
            .iter()
            .map(|it| (&it.case[..], it.size, it.rounds))
            .collect();
        for (case, size) in [
            ("bn254 g1 msm", 1 << 8),
            ("bn254 g1 msm", 1 << 6),
            ("bn254 g1 msm, tables", 1 << 8),
            ("bn254 g2 msm", 1 << 6),
            ("bn254 ntt", 1 << 8),
            ("bn254 proof", 3_200_000 >> 14),
            ("bn254 proof, tables", 3_200_000 >> 14),
            ("bn254 proof, in the pool", 3_200_000 >> 14),
        ] {
            let found = rows.iter().filter(|it| (it.0, it.1) == (case, size));
            assert_eq!(found.count(), 2, "{case} {size}: {rows:?}");
            assert!(text.contains(case), "{text}");
        }
        let taken = rows.iter().find(|it| it.0.contains("take-over"));
        assert_eq!(taken.expect("{rows:?}").2, 20);
        for record in &bench.records {
            let silicon = record.silicon.as_ref().expect("every row has it");
            assert_eq!(silicon.samples.len(), record.rounds, "{}", record.case);
        }
    }
}
