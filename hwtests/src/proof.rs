//! Whole proofs on a development key, and how long each quantum held its core.
//!
//! First one proof on all processors together, and one with a spoilt witness, which must be
//! refused. Then every processor proves by itself, pinned, all at once, so that a processor that
//! computes wrongly is named and every quantum is run on a box whose cores are all at work.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use caldera_devices::Wanted;
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::json::Proof;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{
    Blinding, Job, ProveError, ProvingKey, Step, Synthetic, prove, setup_synthetic, verify,
};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::device::Opened;
use crate::report::{Finding, Verdict};
use crate::thread::{Policy, on_each};

/// A key that is loaded, and its witness.
pub(crate) struct Subject {
    /// The key's file, to be loaded on further devices.
    file: Bytes,
    key: Arc<ProvingKey>,
    witness: Wtns,
    curve: CurveId,
    log2: u32,
}

impl Subject {
    /// Makes a key of 2^log2; most of its witness is full-size.
    pub(crate) fn new(log2: u32, threads: usize) -> Result<Subject> {
        let curve = CurveId::Bn254;
        let circuit = Synthetic {
            curve,
            domain_log2: log2,
            dense: 0.9,
            seed: [0x5a; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&circuit, threads, &mut file, &mut |_| ())
            .context("making a development key")?;
        let file = Bytes::from(file);
        let zkey = Zkey::parse(file.clone()).context("our own key")?;
        let device = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2 * threads,
        });
        let key = ProvingKey::load(&zkey, device).context("loading the key")?;
        Ok(Subject {
            file,
            key,
            witness,
            curve,
            log2,
        })
    }
}

/// One proof on all processors, verified; and a wrong witness, refused.
pub(crate) fn whole(subject: &Subject, threads: usize) -> Result<Finding> {
    let start = Instant::now();
    let (proof, public) = match prove(
        &subject.key,
        subject.witness.clone(),
        threads,
        &mut |_, _| (),
    ) {
        Ok(result) => result,
        Err(error) => {
            return Ok(Finding::fail(format!(
                "no proof: {:#}",
                anyhow::Error::from(error)
            )));
        }
    };
    let took = start.elapsed();
    if let Err(error) = verify(subject.key.verification_key(), &proof, &public) {
        return Ok(Finding::fail(format!("the proof does not verify: {error}")));
    }
    match prove(&subject.key, spoilt(subject)?, threads, &mut |_, _| ()) {
        Err(ProveError::SelfCheck(_)) => {}
        Err(error) => {
            return Ok(Finding::fail(format!(
                "a wrong witness ended in another error: {:#}",
                anyhow::Error::from(error)
            )));
        }
        Ok(_) => return Ok(Finding::fail("a wrong witness made a proof")),
    }
    Ok(Finding::pass(format!(
        "2^{} in {:.2} s on {threads} threads, verified; a wrong witness is refused",
        subject.log2,
        took.as_secs_f64()
    ))
    .figure("log2", subject.log2)
    .figure("proof_seconds", took.as_secs_f64()))
}

/// The same proof on each device and on the processor, with the same blinding: not only must each verify,
/// all must be the same three points.
pub(crate) fn devices(subject: &Subject, devices: &[Opened]) -> Result<Finding> {
    let others = devices.iter().filter(|it| it.wanted != Wanted::Cpu);
    let others: Vec<&Opened> = others.collect();
    if others.is_empty() {
        return Ok(Finding::skip(
            "no device beside the processor was asked for",
        ));
    }
    let expected = with_fixed_blinding(&subject.key, subject)?;
    let zkey = Zkey::parse(subject.file.clone()).context("our own key")?;
    let (mut bad, mut good) = (Vec::new(), Vec::new());
    for Opened { wanted, device } in others {
        let proved = device.as_ref().map_err(Clone::clone).and_then(|device| {
            let start = Instant::now();
            let prove = || -> Result<bool> {
                let key = ProvingKey::load(&zkey, Arc::clone(device)).context("loading the key")?;
                Ok(with_fixed_blinding(&key, subject)? == expected)
            };
            match prove() {
                Ok(true) => Ok(start.elapsed()),
                Ok(false) => Err("another proof than the processor's".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            }
        });
        match proved {
            Ok(took) => good.push(format!("{wanted} {:.2} s", took.as_secs_f64())),
            Err(error) => bad.push(format!("{wanted}: {error}")),
        }
    }
    Ok(if bad.is_empty() {
        Finding::pass(format!(
            "2^{}, the processor's proof to the bit, key loaded: {}",
            subject.log2,
            good.join(", ")
        ))
    } else {
        Finding::fail(bad.join("; "))
    })
}

/// A proof whose blinding everybody knows: it hides nothing, and the witness is a made-up one.
fn with_fixed_blinding(key: &Arc<ProvingKey>, subject: &Subject) -> Result<Proof> {
    let blinding = Blinding::draw(subject.curve, &mut |bytes| {
        bytes.fill(7);
        Ok(())
    })
    .context("blinding")?;
    let job = Job::new(key, subject.witness.clone(), blinding).context("a new proof")?;
    let mut lengths = Lengths::new()?;
    carry(&job, &mut lengths)?;
    let (proof, _) = job.proof().context("a proof that has ended")?;
    Ok(proof)
}

/// Proofs on every processor by itself until `lasting` has passed, at least one each, with a
/// histogram of quanta.
pub(crate) fn quanta(subject: &Subject, cpus: &[usize], lasting: Duration) -> Result<Finding> {
    let outcomes = on_each(cpus, Policy::Normal, |_| {
        let mut lengths = Lengths::new()?;
        let start = Instant::now();
        loop {
            if let Err(error) = prove_alone(subject, &mut lengths) {
                return Ok(Err(format!("{error:#}")));
            }
            if start.elapsed() >= lasting {
                return Ok(Ok(lengths));
            }
        }
    })?;
    let mut all = Lengths::new()?;
    for (cpu, outcome) in cpus.iter().zip(outcomes) {
        match outcome {
            Ok(lengths) => all.add(&lengths)?,
            Err(error) => return Ok(Finding::fail(format!("processor {cpu}: {error}"))),
        }
    }
    Ok(judge(&all))
}

/// One proof on the calling thread alone; its self-check has passed when this returns.
fn prove_alone(subject: &Subject, lengths: &mut Lengths) -> Result<()> {
    let blinding = Blinding::random(subject.curve).context("blinding")?;
    let job = Job::new(&subject.key, subject.witness.clone(), blinding).context("a new proof")?;
    carry(&job, lengths)
}

/// Carries a proof to its end on the calling thread alone.
fn carry(job: &Job, lengths: &mut Lengths) -> Result<()> {
    let mut queue = VecDeque::with_capacity(job.tasks_max());
    job.start(&mut |task| queue.push_back(task))
        .context("starting a proof")?;
    while let Some(task) = queue.pop_front() {
        let (wall, cpu) = (
            now(ClockId::CLOCK_MONOTONIC)?,
            now(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
        );
        let step = job.run(task, &mut |task| queue.push_back(task));
        let cpu = now(ClockId::CLOCK_THREAD_CPUTIME_ID)?.saturating_sub(cpu);
        let wall = now(ClockId::CLOCK_MONOTONIC)?.saturating_sub(wall);
        lengths.record(wall, cpu)?;
        match step.with_context(|| job.kernel(task).to_owned())? {
            Step::Again => queue.push_front(task),
            Step::LaneEnded => {}
            Step::Finished => {
                lengths.proofs += 1;
                return Ok(());
            }
        }
    }
    bail!("the tasks ran out before the proof was made")
}

/// How long quanta were, in microseconds.
struct Lengths {
    wall: Histogram<u64>,
    cpu: Histogram<u64>,
    proofs: u64,
}

impl Lengths {
    fn new() -> Result<Lengths> {
        let histogram = || Histogram::new(3).context("a histogram of quanta");
        Ok(Lengths {
            wall: histogram()?,
            cpu: histogram()?,
            proofs: 0,
        })
    }

    fn record(&mut self, wall: Duration, cpu: Duration) -> Result<()> {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.wall.record(us(wall)).context("recording a quantum")?;
        self.cpu.record(us(cpu)).context("recording a quantum")
    }

    fn add(&mut self, other: &Lengths) -> Result<()> {
        self.proofs += other.proofs;
        self.wall
            .add(&other.wall)
            .context("adding the processors up")?;
        self.cpu.add(&other.cpu).context("adding the processors up")
    }
}

/// A quantum's CPU time is what the cutting is answerable for; on the wall, other work and other
/// guests add to it.
fn judge(all: &Lengths) -> Finding {
    let bound = QUANTUM.as_micros() as u64;
    let over = |histogram: &Histogram<u64>| -> u64 {
        let longer = histogram
            .iter_recorded()
            .filter(|v| v.value_iterated_to() > bound);
        longer.map(|v| v.count_at_value()).sum()
    };
    let p99 = all.cpu.value_at_quantile(0.99);
    let reason = format!(
        "{} proofs, {} quanta, us of CPU: p50 {}, p99 {p99}, max {}; on the wall: p99 {}, max {}; over {bound} us: {} of CPU, {} on the wall",
        all.proofs,
        all.cpu.len(),
        all.cpu.value_at_quantile(0.5),
        all.cpu.max(),
        all.wall.value_at_quantile(0.99),
        all.wall.max(),
        over(&all.cpu),
        over(&all.wall),
    );
    let verdict = if p99 > bound {
        Verdict::Warn
    } else {
        Verdict::Pass
    };
    Finding::new(verdict, reason)
        .figure("proofs", all.proofs)
        .figure("quanta", all.cpu.len())
        .figure("cpu_p50_us", all.cpu.value_at_quantile(0.5))
        .figure("cpu_p99_us", p99)
        .figure("cpu_max_us", all.cpu.max())
        .figure("cpu_over_budget", over(&all.cpu))
        .figure("wall_p99_us", all.wall.value_at_quantile(0.99))
        .figure("wall_max_us", all.wall.max())
        .figure("wall_over_budget", over(&all.wall))
}

/// The witness with its last wire changed.
fn spoilt(subject: &Subject) -> Result<Wtns> {
    let mut elements = subject.witness.elements().to_vec();
    let last = elements.len() - 32;
    // Adding one to an even value or taking one from an odd one stays below the modulus.
    elements[last] ^= 1;
    Wtns::from_elements(subject.curve, Bytes::from(elements)).context("a spoilt witness")
}

fn now(clock: ClockId) -> Result<Duration> {
    clock_gettime(clock)
        .map(Duration::from)
        .context("reading a clock")
}

/// How long a quantum may hold a core.
pub(crate) const QUANTUM: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_key_is_proved_on_each_processor() {
        let subject = Subject::new(5, 2).expect("a small key");
        assert_eq!(whole(&subject, 2).expect("threads").verdict, Verdict::Pass);
        let cpus = crate::thread::allowed().expect("our own affinity");
        let finding = quanta(&subject, &cpus, Duration::ZERO).expect("threads");
        assert_ne!(finding.verdict, Verdict::Fail, "{}", finding.reason);
        assert_eq!(finding.figures["proofs"], cpus.len());
    }

    #[test]
    fn a_wrong_witness_fails_the_box_or_is_refused() {
        let mut subject = Subject::new(5, 2).expect("a small key");
        subject.witness = spoilt(&subject).expect("a witness of the same length");
        let finding = whole(&subject, 1).expect("threads");
        assert_eq!(finding.verdict, Verdict::Fail, "{}", finding.reason);
        let cpus = crate::thread::allowed().expect("our own affinity");
        let finding = quanta(&subject, &cpus[..1], Duration::ZERO).expect("one processor");
        assert_eq!(finding.verdict, Verdict::Fail, "{}", finding.reason);
    }

    #[test]
    fn quanta_are_judged_by_their_cpu_time() {
        let verdict = |wall_us: u64, cpu_us: u64| {
            let mut lengths = Lengths::new().expect("three digits");
            let us = Duration::from_micros;
            lengths
                .record(us(wall_us), us(cpu_us))
                .expect("a small value");
            judge(&lengths).verdict
        };
        assert_eq!(verdict(1000, 1000), Verdict::Pass);
        assert_eq!(verdict(50_000, 1000), Verdict::Pass);
        assert_eq!(verdict(2500, 2500), Verdict::Warn);
    }
}
