//! One kind of work on one device, for whoever tunes it: the time, what it comes to in multiplications and
//! bytes a second, and how much that is of what the device could do at best (a roofline).
//!
//! **Multiplications** are counted by what the work cannot do without in its usual form, not by what the
//! kernel does: n log2 n and one scaling for a transform there and back; for a sum, signed digits in the best
//! window, 10 a mixed addition to a bucket and 28 for the two additions that a bucket costs at the end; an
//! element of G2's field is three. A kernel that saves some of them (tables, the endomorphism, additions that
//! share an inversion) comes out above what its multiplier does, which is what one wants to see. **Bytes** are
//! those that must cross: every input once, every output once.
//!
//! **The peak of the processor** is measured here, by products of elements that stay in the cache, on the vectors that
//! the kernels use. Another device is asked for its own (`Device::peak`), which is that of the scalar field and holds for
//! sums in G1 and G2 of BN254 too, whose coordinates are as long; where it knows none, and for sums on BLS12-381, it is given
//! (`--peak`) or the column stays empty. **The bandwidth** of the processor is that of copies of memory; another device's that of
//! products of long vectors, which no GPU's multiplier bounds.
//!
//! **The device's own clock** (CUDA's events, WebGPU's timestamp queries where the adapter has them) says how long
//! kernels ran, without the way there and back.
//!
//! `--trace` writes each quantum of the last round in the trace event format, which ui.perfetto.dev opens: a
//! track for each lane, and one of the device by its own clock.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use caldera_devices::{KINDS, Options, Quantum, Wanted, quanta};
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{Laned, Vectors, row};
use caldera_kernels::field::{FqBls12_381, FqBn254, FrBls12_381, FrBn254, PrimeField};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::{Value, json};

use crate::bench::CurveName;
use crate::duel::Spread;
use crate::key;
use crate::record::Origin;
use crate::table::{figure, table};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    /// Which device: cpu, cuda:N (or cuda:GPU-8a2c, cuda:0000:3b:00.0), wgpu, wgpu:NAME or icicle:KIND:N.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Which work; field is products of two vectors, spmv the matrices of a key, msm is in G1.
    #[arg(long, value_enum)]
    kernel: Kernel,
    /// The curve, or the one whose scalars are worked on.
    #[arg(long, value_enum, default_value = "bn254")]
    curve: CurveName,
    /// How many elements, such as 2^20.
    #[arg(long, value_name = "2^K", value_parser = log2)]
    size: u32,
    /// How often; the median is shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Multiplications a second that the device could do at best, such as 5.9e10.
    #[arg(long, value_name = "RATE")]
    peak: Option<f64>,
    /// Where to write the quanta of the last round, for ui.perfetto.dev.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// A file that the figures are appended to, as a line of JSON.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where ICICLE is installed.
    #[arg(long, value_name = "DIR", default_value_os_t = caldera_devices::icicle_folder())]
    icicle: PathBuf,
}

/// Kinds of work by the words of people who tune them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kernel {
    Msm,
    MsmG2,
    Ntt,
    Field,
    Spmv,
}

impl Kernel {
    fn kind(self) -> &'static str {
        match self {
            Kernel::Spmv => KINDS[0],
            Kernel::Field => KINDS[1],
            Kernel::Ntt => KINDS[2],
            Kernel::Msm => KINDS[3],
            Kernel::MsmG2 => KINDS[4],
        }
    }
}

/// "2^20".
fn log2(text: &str) -> Result<u32, String> {
    let power = text.strip_prefix("2^").and_then(|power| power.parse().ok());
    power
        .filter(|power| (1..=26).contains(power))
        .ok_or_else(|| format!("expected 2^1 to 2^26, got {text:?}"))
}

/// How close a kernel is to its device's bounds.
#[derive(Debug, Serialize)]
pub(crate) struct Roofline {
    device: String,
    name: String,
    kernel: &'static str,
    curve: &'static str,
    log2: u32,
    rounds: usize,
    /// Of a round, on one thread.
    median_ms: f64,
    fastest_ms: f64,
    /// The quartiles of a round.
    spread_ms: [f64; 2],
    /// Where the rounds were computed.
    bed: Bed,
    /// Of a round, by the device's own clock.
    device_median_ms: Option<f64>,
    quanta: usize,
    quantum_us_p50: f64,
    quantum_us_max: f64,
    /// Between quanta: what the caller's loop and the device's calls cost.
    gaps_share: f64,
    multiplications: f64,
    bytes: f64,
    multiplications_per_second: f64,
    bytes_per_second: f64,
    peak_multiplications_per_second: Option<f64>,
    peak_bytes_per_second: f64,
    /// Of the peak, and of the bandwidth.
    of_peak: Option<f64>,
    of_bandwidth: f64,
    /// What the time could be at best, over what it is.
    of_bound: Option<f64>,
    origin: Origin,
}

/// What else could have run where the rounds did.
#[derive(Debug, Clone, Serialize)]
struct Bed {
    /// How many processors this thread may use.
    processors: usize,
    /// Whether the kernel keeps everybody else off all of them (`isolcpus`).
    isolated: bool,
    /// How often the kernel gave the processor to somebody else while the rounds were computed.
    taken_away: u64,
}

impl Bed {
    /// Computes on it.
    fn under<T>(work: impl FnOnce() -> T) -> (T, Bed) {
        // Of all threads: a device's calls may have some of their own.
        let switches =
            || getrusage(UsageWho::RUSAGE_SELF).map_or(0, |it| it.involuntary_context_switches());
        let before = switches();
        let done = work();
        let taken_away = u64::try_from(switches() - before).unwrap_or(0);
        let set = sched_getaffinity(Pid::from_raw(0)).ok();
        let allowed: Vec<usize> = set.map_or_else(Vec::new, |set| {
            (0..CpuSet::count())
                .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
                .collect()
        });
        let alone = std::fs::read_to_string(ISOLATED).unwrap_or_default();
        let alone = processors(&alone);
        let bed = Bed {
            processors: allowed.len(),
            isolated: !allowed.is_empty() && allowed.iter().all(|cpu| alone.contains(cpu)),
            taken_away,
        };
        (done, bed)
    }
}

/// A list as the kernel writes it: `2-5,8`.
fn processors(list: &str) -> Vec<usize> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Measures it.
pub(crate) fn kernel(plan: &Plan) -> Result<Roofline> {
    if cfg!(debug_assertions) {
        eprintln!("caldera-bench: not a release build; figures say little");
    }
    ensure!(
        plan.peak.is_none_or(|peak| peak.is_finite() && peak > 0.0),
        "--peak: expected multiplications a second, got {:?}",
        plan.peak
    );
    let wanted: Wanted = plan.device.parse()?;
    let options = Options {
        icicle_folder: plan.icicle.clone(),
        timestamps: true,
        ..Options::new(QUANTUM, 1)
    };
    let device = caldera_devices::alone(&wanted, &options)?;
    let curve: CurveId = plan.curve.into();
    let kind = plan.kernel.kind();
    let rounds = usize::from(plan.rounds);
    let mut all: Vec<Quantum> = Vec::new();
    let (measured, bed) = Bed::under(|| {
        quanta(&*device, curve, kind, plan.size, rounds, &mut |it| {
            all.push(it);
        })
    });
    measured.with_context(|| format!("{kind} on {wanted}"))?;
    if let Some(why) = device.health().lost {
        anyhow::bail!("{wanted} was lost while it was measured: {why}");
    }

    let cost = Cost::of(plan.kernel, curve, plan.size);
    let (peak, bandwidth) = if wanted == Wanted::Cpu {
        (
            plan.peak.or_else(|| Some(peak_here(plan.kernel, curve))),
            copies_here(),
        )
    } else {
        let streamed = Cost::of(Kernel::Field, curve, STREAM_LOG2).bytes;
        let field = KINDS[1];
        let mut ends = vec![Duration::ZERO; STREAM_ROUNDS];
        quanta(
            &*device,
            curve,
            field,
            STREAM_LOG2,
            STREAM_ROUNDS,
            &mut |it| {
                ends[it.round - 1] = it.begin + it.span;
            },
        )
        .context("the bandwidth")?;
        let fastest = ends.into_iter().min().unwrap_or_default();
        let on_points = matches!(plan.kernel, Kernel::Msm | Kernel::MsmG2);
        let peak = match plan.peak {
            None if !on_points || curve == CurveId::Bn254 => {
                device.peak(curve).context("the peak")?
            }
            given => given,
        };
        (peak, streamed / fastest.as_secs_f64().max(1e-9))
    };
    if let Some(path) = &plan.trace {
        let last: Vec<Quantum> = all
            .iter()
            .copied()
            .filter(|it| it.round == rounds)
            .collect();
        let trace = serde_json::to_vec(&trace(&last, kind, &device.info().name))
            .context("a trace as JSON")?;
        std::fs::write(path, trace).with_context(|| format!("writing {}", path.display()))?;
    }
    let roofline = roofline(
        plan,
        &device.info().name,
        (&all, bed),
        cost,
        peak,
        bandwidth,
    );
    if let Some(path) = &plan.out {
        let line = serde_json::to_string(&roofline).context("a roofline as JSON")?;
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut file| writeln!(file, "{line}"))
            .with_context(|| format!("appending to {}", path.display()))?;
    }
    Ok(roofline)
}

fn roofline(
    plan: &Plan,
    name: &str,
    (all, bed): (&[Quantum], Bed),
    cost: Cost,
    peak: Option<f64>,
    bandwidth: f64,
) -> Roofline {
    let rounds = usize::from(plan.rounds);
    let (mut ends, mut busy) = (vec![Duration::ZERO; rounds], Duration::ZERO);
    for it in all {
        ends[it.round - 1] = it.begin + it.span;
        busy += it.span;
    }
    let whole: Duration = ends.iter().sum();
    ends.sort();
    let spread = Spread::of(ends.iter().map(|end| end.as_secs_f64() * 1e3));
    let mut device = vec![None; rounds];
    for it in all {
        if let Some(computed) = it.device {
            *device[it.round - 1].get_or_insert(Duration::ZERO) += computed;
        }
    }
    let mut device: Vec<Duration> = device.into_iter().flatten().collect();
    device.sort();
    let mut spans: Vec<Duration> = all.iter().map(|it| it.span).collect();
    spans.sort();
    let at = |index: usize| {
        spans
            .get(index)
            .map_or(0.0, |span| span.as_secs_f64() * 1e6)
    };
    let seconds = ends[rounds / 2].as_secs_f64().max(1e-9);
    let (multiplications, bytes) = (cost.multiplications / seconds, cost.bytes / seconds);
    let bound = |peak: f64| (cost.multiplications / peak).max(cost.bytes / bandwidth);
    Roofline {
        device: plan.device.clone(),
        name: name.to_owned(),
        kernel: plan.kernel.kind(),
        curve: key::name(plan.curve.into()),
        log2: plan.size,
        rounds,
        median_ms: seconds * 1e3,
        fastest_ms: ends[0].as_secs_f64() * 1e3,
        spread_ms: [spread.low, spread.high],
        bed,
        device_median_ms: device
            .get(device.len() / 2)
            .map(|computed| computed.as_secs_f64() * 1e3),
        quanta: spans.len() / rounds,
        quantum_us_p50: at(spans.len() / 2),
        quantum_us_max: at(spans.len().saturating_sub(1)),
        gaps_share: 1.0 - busy.as_secs_f64() / whole.as_secs_f64().max(1e-9),
        multiplications: cost.multiplications,
        bytes: cost.bytes,
        multiplications_per_second: multiplications,
        bytes_per_second: bytes,
        peak_multiplications_per_second: peak,
        peak_bytes_per_second: bandwidth,
        of_peak: peak.map(|peak| multiplications / peak),
        of_bandwidth: bytes / bandwidth,
        of_bound: peak.map(|peak| bound(peak) / seconds),
        origin: Origin::here(),
    }
}

/// What a kind of work cannot do without; see the head of this file.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    /// In the prime field that the kernel works in.
    multiplications: f64,
    bytes: f64,
}

impl Cost {
    fn of(kernel: Kernel, curve: CurveId, log2: u32) -> Cost {
        let n = 2f64.powi(log2 as i32);
        let scalar = 32.0;
        let coordinate = match curve {
            CurveId::Bn254 => 32.0,
            CurveId::Bls12_381 => 48.0,
        };
        match kernel {
            Kernel::Field => Cost {
                multiplications: n,
                bytes: 3.0 * scalar * n,
            },
            // Half of n products a level, one way and back, and the shift between.
            Kernel::Ntt => Cost {
                multiplications: n * f64::from(log2) + n,
                bytes: 2.0 * scalar * n,
            },
            // Three entries of a coefficient, a row and a column; one vector in, two out.
            Kernel::Spmv => Cost {
                multiplications: 3.0 * n,
                bytes: n * (3.0 * (scalar + 12.0) + 3.0 * scalar),
            },
            Kernel::Msm | Kernel::MsmG2 => {
                let (extension, product) = if kernel == Kernel::Msm {
                    (1.0, 1.0)
                } else {
                    (2.0, 3.0)
                };
                let windows = |bits: u32| f64::from(SCALAR_BITS.div_ceil(bits));
                let additions = |bits: u32| {
                    windows(bits) * (n * MIXED + 2f64.powi(bits as i32 - 1) * 2.0 * FULL)
                };
                let best = (2..=24).map(additions).fold(f64::MAX, f64::min);
                Cost {
                    multiplications: best * product,
                    bytes: n * (scalar + 2.0 * coordinate * extension),
                }
            }
        }
    }
}

/// Products a second of the processor on one thread, in the field that the kernel works in.
fn peak_here(kernel: Kernel, curve: CurveId) -> f64 {
    let on_points = matches!(kernel, Kernel::Msm | Kernel::MsmG2);
    match (curve, on_points) {
        (CurveId::Bn254, true) => products::<FqBn254>(),
        (CurveId::Bn254, false) => products::<FrBn254>(),
        (CurveId::Bls12_381, true) => products::<FqBls12_381>(),
        (CurveId::Bls12_381, false) => products::<FrBls12_381>(),
    }
}

fn products<F: PrimeField + Laned>() -> f64 {
    let mut a: Vec<F> = (0..ELEMENTS).map(|i| F::from(3 * i + 5)).collect();
    let b: Vec<F> = (0..ELEMENTS).map(|i| F::from(7 * i + 1)).collect();
    let scalars = fastest(|| {
        for (a, b) in a.iter_mut().zip(&b) {
            *a *= *b;
        }
        std::hint::black_box(&mut a);
    });
    let vectors = row(Vectors::Best, &a).zip(row(Vectors::Best, &b));
    let vectors = vectors.map_or(Duration::MAX, |(mut a, b)| fastest(|| a.multiply(&b)));
    ELEMENTS as f64 / scalars.min(vectors).as_secs_f64().max(1e-9)
}

/// Bytes a second, read and written, of copies on one thread.
fn copies_here() -> f64 {
    let from = vec![1_u64; COPY_BYTES / 8];
    let mut to = vec![0_u64; COPY_BYTES / 8];
    let took = fastest(|| {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    });
    2.0 * COPY_BYTES as f64 / took.as_secs_f64().max(1e-9)
}

/// The shortest time: whatever else the machine does can only slow one down.
fn fastest(mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    let mut fastest = Duration::MAX;
    let mut runs = 0;
    while runs < 3 || start.elapsed() < CALIBRATION {
        let begin = Instant::now();
        work();
        fastest = fastest.min(begin.elapsed());
        runs += 1;
    }
    fastest
}

/// The quanta of one round in the trace event format.
fn trace(quanta: &[Quantum], kind: &str, device: &str) -> Value {
    let us = |time: Duration| time.as_nanos() as f64 / 1e3;
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": { "name": device },
    })];
    let mut lanes: Vec<u32> = quanta.iter().map(|it| it.lane).collect();
    lanes.sort_unstable();
    lanes.dedup();
    events.extend(lanes.into_iter().map(|lane| {
        json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": lane + 1,
            "args": { "name": format!("lane {lane}") },
        })
    }));
    events.extend(quanta.iter().enumerate().map(|(number, it)| {
        json!({
            "ph": "X", "name": format!("{kind} stage {}", it.stage), "cat": "quantum", "pid": 1,
            "tid": it.lane + 1, "ts": us(it.begin), "dur": us(it.span), "args": { "quantum": number },
        })
    }));
    // Where its clock says only how long, the fence at the quantum's end came after it.
    let device = quanta.iter().enumerate();
    let device = device.filter_map(|(number, it)| Some((number, it, it.device?)));
    let mut device = device.filter(|(.., took)| !took.is_zero()).peekable();
    if device.peek().is_some() {
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": 0,
            "args": { "name": "the device's own clock" },
        }));
    }
    events.extend(device.map(|(number, it, took)| {
        let latest = (it.begin + it.span).saturating_sub(took);
        json!({
            "ph": "X", "name": format!("{kind} stage {}", it.stage), "cat": "device", "pid": 1,
            "tid": 0, "ts": us(it.device_begin.unwrap_or(latest)), "dur": us(took),
            "args": { "quantum": number },
        })
    }));
    json!({ "displayTimeUnit": "ms", "traceEvents": events })
}

/// For people.
pub(crate) fn of_roofline(it: &Roofline) -> String {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |it| format!("{it:.3}"));
    let rows = [
        vec![
            "multiplications".to_owned(),
            format!("{:.3e}", it.multiplications),
            format!("{:.3e}", it.multiplications_per_second),
            it.peak_multiplications_per_second
                .map_or_else(|| "-".to_owned(), |peak| format!("{peak:.3e}")),
            share(it.of_peak),
        ],
        vec![
            "bytes".to_owned(),
            format!("{:.3e}", it.bytes),
            format!("{:.3e}", it.bytes_per_second),
            format!("{:.3e}", it.peak_bytes_per_second),
            share(Some(it.of_bandwidth)),
        ],
    ];
    let head = ["what", "needed", "a second", "at best", "ratio"];
    let mut text = format!(
        "{} {} 2^{} on {} ({}), one thread: {} ms, quartiles {}..{}, {} at the fastest of {}\n{}{} quanta, us: p50 {}, longest {}; {:.1} % between them\n",
        it.kernel,
        it.curve,
        it.log2,
        it.device,
        it.name,
        figure(it.median_ms),
        figure(it.spread_ms[0]),
        figure(it.spread_ms[1]),
        figure(it.fastest_ms),
        it.rounds,
        doubts(it),
        it.quanta,
        figure(it.quantum_us_p50),
        figure(it.quantum_us_max),
        it.gaps_share * 100.0,
    );
    if let Some(ms) = it.device_median_ms {
        text.push_str(&format!("by the device's own clock: {} ms\n", figure(ms)));
    }
    text.push_str(&table(&head, &rows));
    text.push_str(&match it.of_bound {
        Some(ratio) => format!("bound over time: {ratio:.3}\n"),
        None => "no peak of this device is known: --peak gives one\n".to_owned(),
    });
    text
}

/// Where it was measured, and a warning where that shows in the figures.
fn doubts(it: &Roofline) -> String {
    let Bed {
        processors,
        isolated,
        taken_away,
    } = it.bed;
    let mut text = format!(
        "on {processors} {}, taken away {taken_away} times\n",
        match (isolated, processors) {
            (true, 1) => "isolated processor",
            (true, _) => "isolated processors",
            (false, 1) => "processor that others may use",
            (false, _) => "processors that others may use",
        }
    );
    let [low, high] = it.spread_ms;
    let (apart, over) = ((high - low) / it.median_ms, it.median_ms / it.fastest_ms);
    if apart > WIDE || over > 1.0 + WIDE {
        text.push_str(&format!(
            "WARNING: the quartiles are {:.0} % of the median apart, and the median is {over:.2} times the fastest: something \
             else ran, or the clocks changed. Measure on an isolated processor (taskset -c N), or believe the fastest alone\n",
            apart * 100.0
        ));
    }
    text
}

/// Of the median: whoever compares two kernels by it wants them closer.
const WIDE: f64 = 0.15;

const ISOLATED: &str = "/sys/devices/system/cpu/isolated";

/// As calderad has it where no policy says otherwise.
const QUANTUM: Duration = Duration::from_millis(2);

/// Of both curves' scalars, one more for the sign of the last digit.
const SCALAR_BITS: u32 = 256;

/// Products of an addition of an affine point to a bucket in XYZZ coordinates (8 and 2 squares), and of two
/// buckets (12 and 2).
const MIXED: f64 = 10.0;
const FULL: f64 = 14.0;

/// Two arrays of 48 bytes an element lie in the second-level cache of any processor.
const ELEMENTS: u64 = 1024;

/// More than any cache.
const COPY_BYTES: usize = 256 << 20;

/// Long enough for a clock to settle.
const CALIBRATION: Duration = Duration::from_millis(200);

/// 400 MB of traffic.
const STREAM_LOG2: u32 = 22;
const STREAM_ROUNDS: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(kernel: Kernel, size: u32) -> Plan {
        Plan {
            device: "cpu".to_owned(),
            kernel,
            curve: CurveName::Bn254,
            size,
            rounds: 2,
            peak: None,
            trace: None,
            out: None,
            icicle: caldera_devices::icicle_folder(),
        }
    }

    #[test]
    fn every_kernel_has_a_roofline_and_a_trace() {
        let folder = tempfile::tempdir().expect("a folder of our own");
        let path = folder.path().join("trace.json");
        let all = [
            Kernel::Msm,
            Kernel::MsmG2,
            Kernel::Ntt,
            Kernel::Field,
            Kernel::Spmv,
        ];
        for kernel in all {
            let plan = Plan {
                trace: Some(path.clone()),
                ..plan(kernel, 8)
            };
            let roofline = super::kernel(&plan).expect("the processor");
            assert!(roofline.quanta > 0);
            assert!(roofline.of_peak.is_some_and(|ratio| ratio > 0.0));
            assert!(of_roofline(&roofline).contains("bound over time"));
            let trace = std::fs::read(&path).expect("the trace that was asked for");
            let trace: Value = serde_json::from_slice(&trace).expect("JSON");
            let events = trace["traceEvents"].as_array().expect("a list");
            let quanta = events.iter().filter(|it| it["ph"] == "X").count();
            assert_eq!(quanta, roofline.quanta, "{kernel:?}");
        }
    }

    fn bed(taken_away: u64) -> Bed {
        Bed {
            processors: 1,
            isolated: true,
            taken_away,
        }
    }

    /// A median of 6 ms beside a fastest of 2 was once printed without a word.
    #[test]
    fn what_was_disturbed_says_so() {
        let of = |spans: &[u64], taken_away| {
            let quanta = spans.iter().zip(1..).map(|(span, round)| Quantum {
                round,
                stage: 0,
                lane: 0,
                begin: Duration::ZERO,
                span: Duration::from_micros(*span),
                device: None,
                device_begin: None,
            });
            let all: Vec<Quantum> = quanta.collect();
            let plan = Plan {
                rounds: spans.len() as u16,
                ..plan(Kernel::Ntt, 8)
            };
            let cost = Cost::of(Kernel::Ntt, CurveId::Bn254, 8);
            of_roofline(&roofline(
                &plan,
                "x",
                (&all, bed(taken_away)),
                cost,
                None,
                1e9,
            ))
        };
        let good = of(&[2000, 2010, 2020, 2030, 2040], 0);
        assert!(good.contains("quartiles 2.010..2.030"), "{good}");
        assert!(
            good.contains("on 1 isolated processor, taken away 0 times"),
            "{good}"
        );
        assert!(!good.contains("WARNING"), "{good}");
        for disturbed in [
            // Apart, and all but one slow.
            [2000, 2010, 2020, 6000, 9000],
            [1990, 6060, 6060, 6060, 6060],
        ] {
            let said = of(&disturbed, 7);
            assert!(said.contains("WARNING: the quartiles are"), "{said}");
            assert!(said.contains("taken away 7 times"), "{said}");
        }
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("2-4,8\n"), [2, 3, 4, 8]);
        assert_eq!(processors("\n"), [0_usize; 0]);
    }

    #[test]
    fn costs_follow_their_formulas() {
        let of = |kernel, log2| Cost::of(kernel, CurveId::Bn254, log2);
        assert_eq!(of(Kernel::Ntt, 10).multiplications, 11.0 * 1024.0);
        assert_eq!(of(Kernel::Field, 10).bytes, 96.0 * 1024.0);
        let (g1, g2) = (of(Kernel::Msm, 16), of(Kernel::MsmG2, 16));
        assert_eq!(g2.multiplications, 3.0 * g1.multiplications);
        // Twice the points are a little less than twice the work: the window may grow.
        let ratio = of(Kernel::Msm, 17).multiplications / g1.multiplications;
        assert!((1.7..2.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_roofline_is_the_larger_of_two_bounds() {
        let quantum = |round, begin, span| Quantum {
            round,
            stage: 0,
            lane: 0,
            begin: Duration::from_millis(begin),
            span: Duration::from_millis(span),
            device: None,
            device_begin: None,
        };
        let all = [quantum(1, 0, 5), quantum(1, 15, 5), quantum(2, 0, 20)];
        let cost = Cost {
            multiplications: 1e6,
            bytes: 1e6,
        };
        // 10 ms by the peak, 1 ms by the bandwidth, of 20 ms.
        let it = roofline(
            &plan(Kernel::Ntt, 8),
            "x",
            (&all, bed(0)),
            cost,
            Some(1e8),
            1e9,
        );
        assert_eq!(it.of_bound, Some(0.5));
        assert!((it.gaps_share - 0.25).abs() < 1e-9);
        let it = roofline(&plan(Kernel::Ntt, 8), "x", (&all, bed(0)), cost, None, 1e9);
        assert_eq!(it.of_bound, None);
        assert!(of_roofline(&it).contains("--peak"));
    }

    #[test]
    fn a_device_s_own_clock_has_a_column_and_a_track() {
        let quantum = |round, begin, device| Quantum {
            round,
            stage: 1,
            lane: 0,
            begin: Duration::from_millis(begin),
            span: Duration::from_millis(5),
            device: Some(Duration::from_millis(device)),
            device_begin: None,
        };
        let all = [quantum(1, 0, 3), quantum(1, 5, 0), quantum(2, 0, 4)];
        let cost = Cost {
            multiplications: 1e6,
            bytes: 1e6,
        };
        let it = roofline(&plan(Kernel::Ntt, 8), "x", (&all, bed(0)), cost, None, 1e9);
        assert_eq!(it.device_median_ms, Some(4.0));
        assert!(of_roofline(&it).contains("by the device's own clock: 4"));
        let trace = trace(&all[..2], "ntt", "x");
        let events = trace["traceEvents"].as_array().expect("a list");
        let of_device: Vec<&Value> = events.iter().filter(|it| it["cat"] == "device").collect();
        // One of the two quanta computed nothing that is known.
        assert_eq!(of_device.len(), 1);
        let span = (of_device[0]["ts"].as_f64(), of_device[0]["dur"].as_f64());
        assert_eq!(span, (Some(2000.0), Some(3000.0)));
        // Where the device's clock is held against the host's it says when, and whose quantum it was.
        let known = Quantum {
            device_begin: Some(Duration::from_micros(5700)),
            ..quantum(1, 5, 3)
        };
        let placed = super::trace(&[all[0], known], "ntt", "x");
        let events = placed["traceEvents"].as_array().expect("a list");
        let ours = |it: &&Value| it["args"]["quantum"] == 1;
        let ours: Vec<&Value> = events.iter().filter(ours).collect();
        let spans = ["quantum", "device"].map(|cat| {
            let found = ours
                .iter()
                .find(|it| it["cat"] == cat)
                .expect("one of each");
            (found["ts"].as_f64(), found["dur"].as_f64())
        });
        let ms = |begin, span| (Some(begin), Some(span));
        assert_eq!(spans, [ms(5000.0, 5000.0), ms(5700.0, 3000.0)]);
        let names = events
            .iter()
            .filter(|it| it["args"]["name"] == "the device's own clock");
        assert_eq!(names.count(), 1);
    }

    #[test]
    fn sizes_are_powers() {
        assert_eq!(log2("2^20"), Ok(20));
        for text in ["20", "2^0", "2^27", "2^x", ""] {
            assert!(log2(text).is_err(), "{text}");
        }
    }
}
