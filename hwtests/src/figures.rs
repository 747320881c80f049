//! What each device is, what its work costs, how quickly bytes come and go, and how finely it cuts.
//!
//! A card that computes rightly at half of its speed, because a link has trained down, power is short or a
//! driver has fallen back, passes every check of results. So each device is measured by itself: every kind of
//! work that it does, at growing sizes until one takes its share of time; copies of a vector, there and back, which
//! must be the same; and from all of that how long quanta were, for whoever takes the device over waits for the
//! end of one. A `--expected` file has what a good one came to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use caldera_devices::{Bench, KINDS, Wanted, run};
use caldera_kernels::{CurveId, Device, DeviceError, Held};
use hdrhistogram::Histogram;

use crate::device::Opened;
use crate::expected::Bounds;
use crate::proof::QUANTUM;
use crate::report::{Finding, Limit, Part, Verdict, short};

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    /// On which curves.
    pub(crate) curves: &'static [CurveId],
    /// log2 of the largest size.
    pub(crate) log2_max: u32,
    /// A size that takes longer is the last of its kind.
    pub(crate) span: Duration,
    /// Bytes that go there and back.
    pub(crate) bytes: usize,
}

/// Of each device, the processor first, on one thread.
pub(crate) fn figures(devices: &[Opened], amount: Amount, bounds: &Bounds) -> Finding {
    let parts = devices.iter().map(|opened| {
        let Opened { wanted, device } = opened;
        let mut part = match device {
            Ok(device) => of_device(wanted, device, amount),
            Err(why) => Part::new(wanted, Verdict::Fail, why),
        };
        bounds.hold(&mut part);
        part
    });
    let parts: Vec<Part> = parts.collect();
    let good = format!("{} devices, each measured by itself", parts.len());
    Finding::of_parts(parts, good)
}

/// What it is, as far as its driver says.
pub(crate) fn identity(wanted: &Wanted, device: &dyn Device) -> Part {
    let (info, site) = (device.info(), device.site(0));
    let software = device.health().software.into_iter();
    let software: Vec<String> = software
        .map(|it| format!("{} {}", it.name, it.version).trim().to_owned())
        .collect();
    let texts = [
        ("name", Some(info.name.clone())),
        ("kind", Some(info.kind.to_owned())),
        (
            "driver",
            Some(software.join(", ")).filter(|it| !it.is_empty()),
        ),
        ("pci", site.pci),
        ("uuid", site.uuid),
    ];
    let mut part = Part::new(wanted, Verdict::Pass, &info.name);
    for (name, text) in texts {
        if let Some(text) = text {
            part = part.figure(name, text);
        }
    }
    match site.memory {
        Some(bytes) => part.figure("memory_bytes", bytes),
        None => part,
    }
}

fn of_device(wanted: &Wanted, device: &Arc<dyn Device>, amount: Amount) -> Part {
    let mut part = identity(wanted, &**device);
    let mut told = vec![part.reason.clone()];
    let mut quanta = Lengths::default();
    let measured = measure(&**device, amount, &mut part, &mut told, &mut quanta);
    for (name, us) in quanta.figures() {
        part = part.figure(name, us);
    }
    if let Err(error) = measured {
        part.verdict = Verdict::Fail;
        told.push(error);
    }
    if let Some(why) = device.health().lost {
        part.verdict = Verdict::Fail;
        told.push(format!("lost: {why}"));
    }
    told.push(quanta.told());
    part.reason = told.join("; ");
    if *wanted != Wanted::Cpu {
        let budget = QUANTUM.as_micros() as f64;
        part.hold("quantum_us_p99", Limit::AtMost(budget), Verdict::Warn);
    }
    part
}

fn measure(
    device: &dyn Device,
    amount: Amount,
    part: &mut Part,
    told: &mut Vec<String>,
    quanta: &mut Lengths,
) -> Result<(), String> {
    let words = |error: DeviceError| error.to_string();
    for &curve in amount.curves {
        let curve_name = name(curve);
        if let Some(rate) = device.peak(curve).map_err(words)? {
            let figure = format!("{curve_name}.products_per_second");
            part.figures.insert(figure, rate.into());
            told.push(format!("{curve_name} products {}/s", short(rate)));
        }
        for kind in KINDS {
            let cost = cost(device, curve, kind, amount, quanta);
            let Some(Cost { log2, median }) = cost.map_err(|why| format!("{kind}: {why}"))? else {
                continue;
            };
            let rate = 2f64.powi(log2 as i32) / median.as_secs_f64().max(1e-9);
            let figure = format!("{curve_name}.{kind}.2^{log2}.per_second");
            part.figures.insert(figure, rate.into());
            told.push(format!("{curve_name} {kind} 2^{log2} {}/s", short(rate)));
        }
    }
    let [up, down] = copies(device, amount.bytes)?;
    for (way, rate) in [("upload", up), ("download", down)] {
        let figure = format!("{way}_bytes_per_second");
        part.figures.insert(figure, rate.into());
        told.push(format!("{way} {} B/s", short(rate)));
    }
    Ok(())
}

/// What a kind of work takes.
struct Cost {
    log2: u32,
    median: Duration,
}

/// At the largest size that its share of time allows; nothing, if the device leaves it to others.
fn cost(
    device: &dyn Device,
    curve: CurveId,
    kind: &str,
    amount: Amount,
    quanta: &mut Lengths,
) -> Result<Option<Cost>, DeviceError> {
    let mut cost = None;
    for log2 in (LOG2_MIN..=amount.log2_max).step_by(2) {
        let start = Instant::now();
        let bench = match Bench::new(device, curve, kind, log2, DISTINCT_LOG2) {
            // What has no room is another size's.
            Err(DeviceError::Memory { .. }) if cost.is_some() => break,
            other => other?,
        };
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..=ROUNDS {
            let plan = match bench.plan() {
                Err(DeviceError::Unfit { .. }) => return Ok(None),
                Err(DeviceError::Memory { .. }) if cost.is_some() => return Ok(cost),
                other => other?,
            };
            let begin = Instant::now();
            // The first one may compile shaders and fill caches.
            run(&*plan, &mut |it| {
                if round > 0 {
                    quanta.record(it.span);
                }
            })?;
            if round > 0 {
                times.push(begin.elapsed());
            }
        }
        times.sort();
        cost = Some(Cost {
            log2,
            median: times[times.len() / 2],
        });
        if start.elapsed() > amount.span {
            break;
        }
    }
    Ok(cost)
}

/// Bytes a second to the device and back. What comes back must be what went.
fn copies(device: &dyn Device, bytes: usize) -> Result<[f64; 2], String> {
    let curve = CurveId::Bn254;
    let scalar = curve.scalar_bytes();
    let mut held = Held::new(device);
    let mut bytes = bytes;
    // As much as there is room for.
    let vector = loop {
        match held.vector(curve, bytes / scalar) {
            Err(DeviceError::Memory { .. }) if bytes > COPY_MIN => bytes /= 2,
            other => break other.map_err(|error| error.to_string())?,
        }
    };
    let mut sent = vec![0; bytes / scalar * scalar];
    let mut got = vec![0; sent.len()];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..=ROUNDS as u64 {
        fill(&mut sent, round);
        let begin = Instant::now();
        let wrote = device.vector_write(vector, 0, &sent);
        let up = begin.elapsed();
        let begin = Instant::now();
        let read = device.vector_read(vector, 0, &mut got);
        let down = begin.elapsed();
        wrote.and(read).map_err(|error| error.to_string())?;
        if got != sent {
            return Err(format!(
                "of {} bytes that went there and back some came back otherwise",
                sent.len()
            ));
        }
        if round > 0 {
            times[0].push(up);
            times[1].push(down);
        }
    }
    Ok(times.map(|mut times| {
        times.sort();
        sent.len() as f64 / times[times.len() / 2].as_secs_f64().max(1e-9)
    }))
}

/// SplitMix64: bytes that mean nothing, others each time.
fn fill(bytes: &mut [u8], seed: u64) {
    let mut state = seed;
    for word in bytes.as_chunks_mut::<8>().0 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        *word = (x ^ (x >> 27))
            .wrapping_mul(0x94d0_49bb_1331_11eb)
            .to_le_bytes();
    }
}

/// How long quanta held their thread.
pub(crate) struct Lengths(Histogram<u64>);

impl Default for Lengths {
    fn default() -> Self {
        let hour_us = 3_600_000_000;
        let bounds = Histogram::new_with_max(hour_us, 3);
        Lengths(bounds.unwrap_or_else(|_| unreachable!("three digits of an hour")))
    }
}

impl Lengths {
    pub(crate) fn record(&mut self, span: Duration) {
        // What is longer counts as an hour.
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(us);
    }

    pub(crate) fn median(&self) -> Duration {
        Duration::from_micros(self.0.value_at_quantile(0.5))
    }

    pub(crate) fn figures(&self) -> [(&'static str, u64); 4] {
        [
            ("quanta", self.0.len()),
            ("quantum_us_p50", self.0.value_at_quantile(0.5)),
            ("quantum_us_p99", self.0.value_at_quantile(0.99)),
            ("quantum_us_max", self.0.max()),
        ]
    }

    pub(crate) fn told(&self) -> String {
        let [_, (_, p50), (_, p99), (_, max)] = self.figures();
        format!(
            "{} quanta, us: p50 {p50}, p99 {p99}, max {max}",
            self.0.len()
        )
    }
}

fn name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => "bn254",
        CurveId::Bls12_381 => "bls12-381",
    }
}

/// log2 of the smallest size.
const LOG2_MIN: u32 = 8;
/// The points of larger sums are these, again and again.
const DISTINCT_LOG2: u32 = 12;
/// Runs that are counted.
const ROUNDS: usize = 3;
/// Fewer bytes say nothing of a link.
const COPY_MIN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};
    use caldera_kernels::{Around, Progress};

    const SMALL: Amount = Amount {
        curves: &[CurveId::Bn254],
        log2_max: 8,
        span: Duration::ZERO,
        bytes: 1 << 16,
    };

    fn cpu() -> Arc<dyn Device> {
        CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2,
        })
    }

    fn opened(name: &str, device: Result<Arc<dyn Device>, String>) -> Opened {
        Opened {
            wanted: name.parse().expect("a device's name"),
            device,
        }
    }

    /// A figure for each kind of work, of each device, and those that cannot be had say why.
    #[test]
    fn each_device_has_its_own_figures() {
        let devices = [
            opened("cpu", Ok(cpu())),
            opened("cuda:3", Err("no driver".to_owned())),
        ];
        let finding = figures(&devices, SMALL, &Bounds::default());
        assert_eq!(finding.verdict, Verdict::Fail);
        assert_eq!(finding.reason, "cuda:3: no driver");
        let [cpu, _] = &finding.parts[..] else {
            panic!("one part each: {:?}", finding.parts);
        };
        assert_eq!(cpu.verdict, Verdict::Pass, "{}", cpu.reason);
        let names = KINDS.map(|kind| format!("bn254.{kind}.2^8.per_second"));
        let copies = ["upload_bytes_per_second", "download_bytes_per_second"];
        let copies = copies.map(str::to_owned);
        for name in names.iter().chain(&copies) {
            let rate = cpu.figures.get(name).and_then(serde_json::Value::as_f64);
            assert!(rate.is_some_and(|rate| rate > 0.0), "{name}: {cpu:?}");
        }
        assert_eq!(cpu.figures["kind"], "cpu");
        let count = cpu.figures["quanta"].as_u64().expect("a number");
        assert!(count >= (KINDS.len() * ROUNDS) as u64, "{count}");
    }

    /// A card that has become slow computes rightly; what a good one came to tells it apart.
    #[test]
    fn a_device_below_what_is_expected_of_it_fails_by_name() {
        let devices = [opened("cpu", Ok(cpu()))];
        let expected = |rate: f64| {
            let text = format!("[devices.cpu.least]\n\"bn254.ntt.2^8.per_second\" = {rate:e}\n");
            toml::from_str::<Bounds>(&text).expect("bounds")
        };
        let judged = |rate| figures(&devices, SMALL, &expected(rate));
        assert_eq!(judged(1e-3).verdict, Verdict::Pass);
        let slow = judged(1e18);
        assert_eq!(slow.verdict, Verdict::Fail);
        let why = "cpu: bn254.ntt.2^8.per_second: expected at least 1.00e18, got ";
        assert!(slow.reason.starts_with(why), "{}", slow.reason);
        assert_eq!(slow.parts[0].limits["bn254.ntt.2^8.per_second"], 1e18);
    }

    /// The budget of a quantum holds for devices: a quantum is what a take-over waits for.
    #[test]
    fn quanta_over_their_budget_are_a_warning() {
        let long = |_: &'static str, quantum: &mut dyn FnMut() -> Result<Progress, DeviceError>| {
            let begin = Instant::now();
            while begin.elapsed() < 2 * QUANTUM {
                std::hint::spin_loop();
            }
            quantum()
        };
        let devices = [opened("cuda:0", Ok(Around::new(cpu(), Arc::new(long))))];
        let finding = figures(&devices, SMALL, &Bounds::default());
        assert_eq!(finding.verdict, Verdict::Warn, "{}", finding.reason);
        let part = &finding.parts[0];
        assert!(part.reason.contains("quantum_us_p99"), "{}", part.reason);
    }
}
