//! How long it takes until a device works for somebody else.
//!
//! One thread has the device, as a worker of a box has, and looks at one word between two quanta. A sum goes on
//! all the time. Somebody else asks at moments that have nothing to do with quanta, has a small transform
//! done, and leaves. What lies between is the rest of a quantum and the transform, told in microseconds and in
//! quanta of the sum. The sums must be what they are undisturbed: nothing is lost and nothing begins again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use caldera_devices::{Bench, FORWARD, Wanted, run};
use caldera_kernels::{CurveId, Device, DeviceError, Progress};

use crate::device::Opened;
use crate::expected::Bounds;
use crate::figures::{Lengths, identity};
use crate::report::{Finding, Limit, Part, Verdict, short};

/// Each device beside the processor is taken over so many times, while it sums 2^log2 points.
pub(crate) fn take_overs(devices: &[Opened], log2: u32, times: usize, bounds: &Bounds) -> Finding {
    let others = devices.iter().filter(|it| it.wanted != Wanted::Cpu);
    let parts = others.map(|Opened { wanted, device }| {
        let mut part = match device {
            Ok(device) => of_device(wanted, &**device, log2, times),
            Err(why) => Part::new(wanted, Verdict::Fail, why),
        };
        bounds.hold(&mut part);
        part
    });
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() {
        return Finding::skip("no device beside the processor was asked for");
    }
    let good = format!("each taken over {times} times within sums of 2^{log2}, no sum changed");
    Finding::of_parts(parts, good)
}

fn of_device(wanted: &Wanted, device: &dyn Device, log2: u32, times: usize) -> Part {
    let part = identity(wanted, device);
    let Taken { quanta, mut spans } = match take(device, log2, times) {
        Ok(taken) => taken,
        Err(why) => {
            return Part {
                verdict: Verdict::Fail,
                reason: why,
                ..part
            };
        }
    };
    spans.sort();
    let us = |span: Duration| span.as_secs_f64() * 1e6;
    let (p50, max) = (us(spans[spans.len() / 2]), us(spans[spans.len() - 1]));
    let quantum = us(quanta.median()).max(1.0);
    let reason = format!(
        "{times} take-overs, us: p50 {}, max {}; in quanta: p50 {}, max {}; {}",
        short(p50),
        short(max),
        short(p50 / quantum),
        short(max / quantum),
        quanta.told()
    );
    let mut part = Part { reason, ..part }
        .figure("take_overs", times)
        .figure("take_over_us_p50", p50)
        .figure("take_over_us_max", max)
        .figure("take_over_quanta_p50", p50 / quantum)
        .figure("take_over_quanta_max", max / quantum);
    for (name, us) in quanta.figures() {
        part = part.figure(name, us);
    }
    let limits = [(USUAL, Verdict::Warn), (PROMISE, Verdict::Fail)];
    for (most, otherwise) in limits {
        part.hold("take_over_us_max", Limit::AtMost(us(most)), otherwise);
    }
    part
}

/// What came of it.
struct Taken {
    /// Of the sums.
    quanta: Lengths,
    /// From asking until the transform was done.
    spans: Vec<Duration>,
}

fn take(device: &dyn Device, log2: u32, times: usize) -> Result<Taken, String> {
    let words = |error: DeviceError| error.to_string();
    let curve = CurveId::Bn254;
    let sums = Bench::new(device, curve, "msm-g1", log2, DISTINCT_LOG2).map_err(words)?;
    let tenant = Bench::new(device, curve, FORWARD, TENANT_LOG2, 0).map_err(words)?;
    // Kernels are compiled the first time.
    let undisturbed = sums.plan().map_err(words)?;
    run(&*undisturbed, &mut |_| ()).map_err(words)?;
    run(&*tenant.plan().map_err(words)?, &mut |_| ()).map_err(words)?;
    let asking = Asking {
        word: AtomicU64::new(CLOSED),
        start: Instant::now(),
    };
    let mut taken = Taken {
        quanta: Lengths::default(),
        spans: Vec::with_capacity(times),
    };
    thread::scope(|scope| {
        scope.spawn(|| asking.ask());
        // However this ends, nobody asks for ever.
        let _end = End(&asking);
        let mut summing = || -> Result<(), DeviceError> {
            let mut next = tenant.plan()?;
            let mut lend = |spans: &mut Vec<Duration>| -> Result<(), DeviceError> {
                run(&*next, &mut |_| ())?;
                spans.extend(asking.waited());
                next = tenant.plan()?;
                Ok(())
            };
            while taken.spans.len() < times {
                // A box lays out elsewhere, so nobody asks meanwhile.
                let sum = sums.plan()?;
                asking.open();
                for stage in 0..sum.stages() {
                    for lane in 0..sum.open(stage)? {
                        loop {
                            let begin = Instant::now();
                            let progress = sum.run(stage, lane)?;
                            taken.quanta.record(begin.elapsed());
                            if asking.is_wanted() {
                                lend(&mut taken.spans)?;
                                asking.open();
                            }
                            if progress == Progress::Done {
                                break;
                            }
                        }
                    }
                }
                if !asking.close() {
                    lend(&mut taken.spans)?;
                    asking.word.store(CLOSED, Ordering::Release);
                }
                if sum.point() != undisturbed.point() {
                    return Err(DeviceError::Lost {
                        device: device.info().name.clone(),
                        why: "a sum that was interrupted came out otherwise".to_owned(),
                    });
                }
            }
            Ok(())
        };
        summing().map_err(words)
    })?;
    taken.spans.truncate(times);
    Ok(taken)
}

/// The word between the two: nobody may ask, somebody may, or when somebody did.
struct Asking {
    word: AtomicU64,
    start: Instant,
}

impl Asking {
    fn open(&self) {
        self.word.store(OPEN, Ordering::Release);
    }

    /// Whether nobody had asked.
    fn close(&self) -> bool {
        let (is, to) = (Ordering::AcqRel, Ordering::Acquire);
        self.word.compare_exchange(OPEN, CLOSED, is, to).is_ok()
    }

    fn is_wanted(&self) -> bool {
        self.word.load(Ordering::Acquire) > OPEN
    }

    /// How long ago it was asked for, if it was.
    fn waited(&self) -> Option<Duration> {
        let asked = self.word.load(Ordering::Acquire).checked_sub(FIRST)?;
        Some(
            self.start
                .elapsed()
                .saturating_sub(Duration::from_nanos(asked)),
        )
    }

    /// Asks again and again, until the end.
    fn ask(&self) {
        // A linear congruence is chance enough for moments that have nothing to do with quanta.
        let mut chance = u64::from(std::process::id()) | 1;
        loop {
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            thread::sleep(Duration::from_micros(100 + (chance >> 33) % BETWEEN_US));
            loop {
                let now = self.start.elapsed().as_nanos() as u64 + FIRST;
                let (is, to) = (Ordering::AcqRel, Ordering::Acquire);
                match self.word.compare_exchange(OPEN, now, is, to) {
                    Ok(_) => break,
                    Err(ENDED) => return,
                    Err(_) => thread::yield_now(),
                }
            }
        }
    }
}

struct End<'a>(&'a Asking);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.word.store(ENDED, Ordering::Release);
    }
}

const CLOSED: u64 = 0;
const OPEN: u64 = 1;
/// What is more is a time, in nanoseconds.
const FIRST: u64 = 2;
const ENDED: u64 = u64::MAX;

/// Microseconds from one take-over to the next at most.
const BETWEEN_US: u64 = 10_000;
/// The points of the sum are these, again and again.
const DISTINCT_LOG2: u32 = 12;
/// What is done for who takes over.
const TENANT_LOG2: u32 = 8;
/// What a GPU is built for, and what a box promises.
const USUAL: Duration = Duration::from_millis(20);
const PROMISE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::QUANTUM;
    use caldera_kernels::Around;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};
    use std::sync::Arc;

    type Quantum<'a> = &'a mut dyn FnMut() -> Result<Progress, DeviceError>;

    /// The processor as a card, each quantum of which goes through this.
    fn card(
        around: impl Fn(&'static str, Quantum<'_>) -> Result<Progress, DeviceError>
        + Send
        + Sync
        + 'static,
    ) -> [Opened; 1] {
        let cpu = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2,
        });
        [Opened {
            wanted: "cuda:0".parse().expect("a device's name"),
            device: Ok(Around::new(cpu, Arc::new(around))),
        }]
    }

    #[test]
    fn a_device_is_taken_over_between_quanta() {
        let devices = card(|_, quantum| quantum());
        let finding = take_overs(&devices, 8, 5, &Bounds::default());
        let part = &finding.parts[0];
        // How long it took is this machine's.
        assert_eq!(part.figures["take_overs"], 5, "{}", part.reason);
        let figure = |name: &str| part.figures[name].as_f64().expect("a number");
        assert!(figure("take_over_us_max") >= figure("take_over_us_p50"));
        assert!(figure("take_over_us_p50") > 0.0);
        assert!(figure("quantum_us_max") >= figure("quantum_us_p50"));
        assert_eq!(part.limits["take_over_us_max"], 20_000.0);
    }

    /// A device that begins again, or leaves something out, when somebody else was there.
    #[test]
    fn a_sum_that_an_interruption_changes_fails() {
        let had_others = std::sync::atomic::AtomicBool::new(false);
        let devices = card(move |kernel, quantum| {
            let others = kernel.starts_with("ntt");
            let had = had_others.swap(others, Ordering::Relaxed);
            if had && !others && kernel == "msm.accumulate" {
                return Ok(Progress::Done);
            }
            quantum()
        });
        let finding = take_overs(&devices, 10, 50, &Bounds::default());
        assert_eq!(finding.verdict, Verdict::Fail);
        // The processor keeps count of its lanes, and says so first.
        assert!(finding.reason.contains("not ended"), "{}", finding.reason);
    }

    /// One quantum that holds the device longer than the promise is enough.
    #[test]
    fn a_take_over_beyond_the_promise_fails_the_box() {
        let devices = card(|kernel, quantum| {
            let begin = Instant::now();
            let hold = if kernel.starts_with("msm.accumulate") {
                2 * PROMISE
            } else {
                Duration::ZERO
            };
            let progress = quantum();
            while begin.elapsed() < hold {
                std::hint::spin_loop();
            }
            progress
        });
        let finding = take_overs(&devices, 8, 3, &Bounds::default());
        assert_eq!(finding.verdict, Verdict::Fail, "{}", finding.reason);
        assert!(
            finding.reason.contains("take_over_us_max"),
            "{}",
            finding.reason
        );
    }

    #[test]
    fn without_a_device_there_is_nothing_to_take_over() {
        let finding = take_overs(&[], 8, 1, &Bounds::default());
        assert_eq!(finding.verdict, Verdict::Skip);
    }
}
