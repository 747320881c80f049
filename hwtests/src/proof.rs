//! Whole proofs on a development key, and how long each quantum held its core.
//!
//! First one proof on all processors together, and one with a spoilt witness, which must be
//! refused. Then every processor proves by itself, pinned, all at once, so that a processor that
//! computes wrongly is named and every quantum is run on a box whose cores are all at work.
//!
//! Devices prove each alone, then all together as one box, and one proof goes from each to the next and back, every
//! few quanta, in the midst of its sums and transforms. With the same blinding all of them must be the processor's
//! proof to the bit; and that one which moved had nothing done twice.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use caldera_devices::Wanted;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Around, CurveId, Device};
use caldera_prover::format::json::Proof;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{
    Blinding, Job, ProveError, ProvingKey, Step, Synthetic, Task, prove, setup_synthetic, verify,
};
use hdrhistogram::Histogram;
use nix::time::{ClockId, clock_gettime};

use crate::device::Opened;
use crate::figures::identity;
use crate::report::{Finding, Part, Verdict};
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
    let expected = with_fixed_blinding(&subject.key, subject)?.0;
    let zkey = Zkey::parse(subject.file.clone()).context("our own key")?;
    let parts = others.map(|Opened { wanted, device }| match device {
        Ok(device) => alone(subject, &zkey, &expected, wanted, device),
        Err(why) => Part::new(wanted, Verdict::Fail, why),
    });
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() {
        return Ok(Finding::skip(NO_OTHERS));
    }
    let good = format!("2^{}, the processor's proof to the bit", subject.log2);
    Ok(Finding::of_parts(parts, good).figure("log2", subject.log2))
}

/// One device, and how long it took with a key that is there.
fn alone(
    subject: &Subject,
    zkey: &Zkey,
    expected: &Proof,
    wanted: &Wanted,
    device: &Arc<dyn Device>,
) -> Part {
    let part = identity(wanted, &**device);
    let proved = || -> Result<Part> {
        let start = Instant::now();
        let key = ProvingKey::load(zkey, Arc::clone(device)).context("loading the key")?;
        let loaded = start.elapsed();
        // Shaders are compiled and tables made at first.
        let mut ends = [
            (Duration::ZERO, Lengths::new()?),
            (Duration::ZERO, Lengths::new()?),
        ];
        for end in &mut ends {
            let start = Instant::now();
            let (proof, lengths) = with_fixed_blinding(&key, subject)?;
            ensure!(proof == *expected, "another proof than the processor's");
            *end = (start.elapsed(), lengths);
        }
        if let Some(why) = device.health().lost {
            bail!("lost: {why}");
        }
        let [(first, _), (took, lengths)] = ends;
        let seconds = |span: Duration| span.as_secs_f64();
        let reason = format!(
            "{:.3} s on one thread ({:.3} s the first time, key loaded in {:.3} s); {} quanta, us: p50 {}, p99 {}, max {}",
            seconds(took),
            seconds(first),
            seconds(loaded),
            lengths.wall.len(),
            lengths.wall.value_at_quantile(0.5),
            lengths.wall.value_at_quantile(0.99),
            lengths.wall.max(),
        );
        Ok(Part {
            reason,
            ..part.clone()
        }
        .figure("proof_seconds", seconds(took))
        .figure("first_proof_seconds", seconds(first))
        .figure("key_seconds", seconds(loaded))
        .figure("quanta", lengths.wall.len())
        .figure("quantum_us_p50", lengths.wall.value_at_quantile(0.5))
        .figure("quantum_us_p99", lengths.wall.value_at_quantile(0.99))
        .figure("quantum_us_max", lengths.wall.max()))
    };
    proved().unwrap_or_else(|error| Part {
        verdict: Verdict::Fail,
        reason: format!("{error:#}"),
        ..part.clone()
    })
}

/// The processor and others as one device, as in a box, each of whose quanta is counted for its member.
struct Together {
    relay: Arc<Relay>,
    members: Vec<Visited>,
}

/// What was done by a member.
struct Visited {
    /// As it is asked for.
    name: String,
    quanta: Arc<AtomicU64>,
    kernels: Arc<Mutex<Vec<&'static str>>>,
}

impl Together {
    /// Of those that can be had; nothing if there is none.
    fn of(devices: &[Opened], threads: usize) -> Option<Together> {
        let host: Arc<dyn Device> = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2 * threads,
        });
        let others = devices.iter().filter(|it| it.wanted != Wanted::Cpu);
        let others = others.filter_map(|it| Some((it.wanted.to_string(), it.device.clone().ok()?)));
        let all: Vec<(String, Arc<dyn Device>)> = [("cpu".to_owned(), host)]
            .into_iter()
            .chain(others)
            .collect();
        if all.len() < 2 {
            return None;
        }
        let mut members = Vec::new();
        let mut around = Vec::new();
        for (place, (name, device)) in all.into_iter().enumerate() {
            let visited = Visited {
                name,
                quanta: Arc::default(),
                kernels: Arc::default(),
            };
            let (quanta, kernels) = (visited.quanta.clone(), visited.kernels.clone());
            let count = move |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
                quanta.fetch_add(1, Ordering::Relaxed);
                let mut kernels = kernels.lock().unwrap_or_else(PoisonError::into_inner);
                if !kernels.contains(&kernel) {
                    kernels.push(kernel);
                }
                drop(kernels);
                quantum()
            };
            around.push(Member {
                device: Around::new(device, Arc::new(count)),
                width: if place == 0 { threads } else { 1 },
            });
            members.push(visited);
        }
        let relay = Relay::new(around);
        Some(Together { relay, members })
    }

    /// A part for each member: what it did of the work, and how it is. One that was given up has failed, and so has
    /// one that did nothing though it had to.
    fn parts(&self, must: bool) -> Vec<Part> {
        let all: u64 = self
            .members
            .iter()
            .map(|it| it.quanta.load(Ordering::Relaxed))
            .sum();
        let health = self.relay.members();
        let each = self.members.iter().zip(health);
        each.map(|(it, (_, health))| {
            let quanta = it.quanta.load(Ordering::Relaxed);
            let kernels = it.kernels.lock().unwrap_or_else(PoisonError::into_inner);
            let (verdict, reason) = match &health.lost {
                Some(why) => (Verdict::Fail, format!("lost: {why}")),
                None if health.fallen_back > 0 => {
                    let again = health.fallen_back;
                    (
                        Verdict::Fail,
                        format!("{again} pieces of its work were done again"),
                    )
                }
                None if must && quanta == 0 => {
                    (Verdict::Fail, "nothing was begun there".to_owned())
                }
                None => {
                    let what = kernels.join(", ");
                    (Verdict::Pass, format!("{quanta} of {all} quanta: {what}"))
                }
            };
            Part::new(&it.name, verdict, reason)
                .figure("quanta", quanta)
                .figure("done_again", health.fallen_back)
                .figure("kernels", kernels.clone())
        })
        .collect()
    }
}

/// A proof on all devices and all processors at once, as a box makes it.
pub(crate) fn together(subject: &Subject, devices: &[Opened], threads: usize) -> Result<Finding> {
    let Some(together) = Together::of(devices, threads) else {
        return Ok(Finding::skip(NO_OTHERS));
    };
    let zkey = Zkey::parse(subject.file.clone()).context("our own key")?;
    let key = ProvingKey::load(&zkey, together.relay.clone()).context("loading the key")?;
    let mut seconds = Vec::new();
    // What a device takes for what is found out in the first ones.
    for _ in 0..TOGETHER {
        let start = Instant::now();
        let proved = prove(&key, subject.witness.clone(), threads, &mut |_, _| ());
        let (proof, public) = match proved {
            Ok(proved) => proved,
            Err(error) => return Ok(Finding::fail(format!("no proof: {error}"))),
        };
        seconds.push(start.elapsed().as_secs_f64());
        if let Err(error) = verify(key.verification_key(), &proof, &public) {
            return Ok(Finding::fail(format!("a proof does not verify: {error}")));
        }
    }
    let (first, last) = (seconds[0], seconds[seconds.len() - 1]);
    // Whatever a device is too slow for is done by others, and a small key may be all of that.
    let good = format!(
        "2^{}, {} proofs on {threads} threads and {} devices at once, all verified: {first:.3} s at first, {last:.3} s at last",
        subject.log2,
        seconds.len(),
        together.members.len() - 1,
    );
    let parts = together.parts(false);
    Ok(Finding::of_parts(parts, good)
        .figure("log2", subject.log2)
        .figure("proof_seconds", seconds))
}

/// A proof that goes from the processor to each device in turn and back, every few quanta, on one thread.
pub(crate) fn moved(subject: &Subject, devices: &[Opened]) -> Result<Finding> {
    let Some(together) = Together::of(devices, 1) else {
        return Ok(Finding::skip(NO_OTHERS));
    };
    let expected = with_fixed_blinding(&subject.key, subject)?.0;
    let zkey = Zkey::parse(subject.file.clone()).context("our own key")?;
    let key = ProvingKey::load(&zkey, together.relay.clone()).context("loading the key")?;
    let job = fixed_job(&key, subject)?;
    let mut path = Path::default();
    let ran = path.carry(&job, &together);
    let Path {
        quanta,
        done_twice,
        within,
        ..
    } = path;
    let moves = quanta.saturating_sub(1) / MOVE;
    let within: Vec<&str> = within.into_iter().collect();
    let good = format!(
        "2^{}, the processor's proof to the bit, moved {moves} times in {quanta} quanta, at every {MOVE} of them, and nothing done twice",
        subject.log2
    );
    let mut finding = Finding::of_parts(together.parts(true), good);
    let wrong = match (ran, job.proof()) {
        (Err(error), _) => Some(format!("{error:#}")),
        (_, None) => Some("the tasks ran out before the proof was made".to_owned()),
        (_, Some((proof, _))) if proof != expected => {
            Some("another proof than the processor's".to_owned())
        }
        _ if done_twice > 0 => Some(format!("{done_twice} lanes began again")),
        _ => None,
    };
    if let Some(wrong) = wrong {
        let others = match finding.verdict {
            Verdict::Fail => format!("; {}", finding.reason),
            _ => String::new(),
        };
        finding.reason =
            format!("{wrong}, {moves} moves and {quanta} quanta after the start{others}");
        finding.verdict = Verdict::Fail;
    }
    Ok(finding
        .figure("log2", subject.log2)
        .figure("moves", moves)
        .figure("quanta", quanta)
        .figure("done_twice", done_twice)
        .figure("within", within))
}

/// How a proof goes from one member to the next.
#[derive(Default)]
struct Path {
    quanta: u64,
    ended: HashSet<Task>,
    /// Lanes that had ended and were to be run again.
    done_twice: u64,
    /// The kernels before whose quanta it moved.
    within: BTreeSet<&'static str>,
}

impl Path {
    fn carry(&mut self, job: &Job, together: &Together) -> Result<()> {
        let count = together.members.len() as u64;
        let mut queue = VecDeque::with_capacity(job.tasks_max());
        job.start(&mut |task| queue.push_back(task))
            .context("starting a proof")?;
        while let Some(task) = queue.pop_front() {
            let kernel = job.kernel(task);
            together.relay.allow(1 << (self.quanta / MOVE % count));
            if self.quanta > 0 && self.quanta.is_multiple_of(MOVE) {
                self.within.insert(kernel);
            }
            self.quanta += 1;
            let step = job.run(task, &mut |task| queue.push_back(task));
            match step.with_context(|| kernel.to_owned())? {
                // Others have a turn, so that many pieces of work are under way where it moves.
                Step::Again => queue.push_back(task),
                Step::LaneEnded | Step::Finished => {
                    self.done_twice += u64::from(!self.ended.insert(task));
                }
            }
        }
        Ok(())
    }
}

const NO_OTHERS: &str = "no device beside the processor was asked for, or none can be had";
/// Proofs on all devices together.
const TOGETHER: usize = 3;
/// Quanta from one move to the next.
const MOVE: u64 = 3;

/// A proof whose blinding everybody knows: it hides nothing, and the witness is a made-up one.
fn with_fixed_blinding(key: &Arc<ProvingKey>, subject: &Subject) -> Result<(Proof, Lengths)> {
    let job = fixed_job(key, subject)?;
    let mut lengths = Lengths::new()?;
    carry(&job, &mut lengths)?;
    let (proof, _) = job.proof().context("a proof that has ended")?;
    Ok((proof, lengths))
}

fn fixed_job(key: &Arc<ProvingKey>, subject: &Subject) -> Result<Arc<Job>> {
    let blinding = Blinding::draw(subject.curve, &mut |bytes| {
        bytes.fill(7);
        Ok(())
    })
    .context("blinding")?;
    Job::new(key, subject.witness.clone(), blinding).context("a new proof")
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

    fn cpu() -> Arc<dyn Device> {
        CpuDevice::new(CpuConfig {
            quantum: Duration::from_micros(200),
            lanes: 2,
        })
    }

    fn others(devices: [Result<Arc<dyn Device>, String>; 2]) -> Vec<Opened> {
        let each = devices.into_iter().enumerate();
        each.map(|(place, device)| Opened {
            wanted: format!("cuda:{place}").parse().expect("a device's name"),
            device,
        })
        .collect()
    }

    /// On two devices beside the processor, which are processors too: alone, together, and from one to the next.
    #[test]
    fn devices_prove_alone_together_and_in_turns() {
        let subject = Subject::new(7, 2).expect("a small key");
        let two = others([Ok(cpu()), Ok(cpu())]);
        let alone = devices(&subject, &two).expect("our own key");
        assert_eq!(alone.verdict, Verdict::Pass, "{}", alone.reason);
        for part in &alone.parts {
            let seconds = part.figures["proof_seconds"].as_f64();
            assert!(seconds.is_some_and(|it| it > 0.0), "{part:?}");
        }
        let all = together(&subject, &two, 2).expect("our own key");
        assert_eq!(all.verdict, Verdict::Pass, "{}", all.reason);
        let moved = moved(&subject, &two).expect("our own key");
        assert_eq!(moved.verdict, Verdict::Pass, "{}", moved.reason);
        assert_eq!(moved.parts.len(), 3);
        for part in &moved.parts {
            assert!(part.figures["quanta"].as_u64() > Some(0), "{part:?}");
            assert_eq!(part.figures["done_again"], 0, "{part:?}");
        }
        assert!(moved.figures["moves"].as_u64() > Some(10), "{moved:?}");
    }

    /// The one that is lost is named, and those that are not there are; the others are well.
    #[test]
    fn a_device_that_fails_is_named_by_each_check() {
        let subject = Subject::new(7, 2).expect("a small key");
        let lost = || -> Arc<dyn Device> {
            let lose = |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
                if kernel == "msm.accumulate" {
                    return Err(caldera_kernels::DeviceError::Lost {
                        device: "A Card".to_owned(),
                        why: "XID 79".to_owned(),
                    });
                }
                quantum()
            };
            Around::new(cpu(), Arc::new(lose))
        };
        let named = |finding: Finding| {
            assert_eq!(finding.verdict, Verdict::Fail, "{}", finding.reason);
            assert!(finding.reason.contains("cuda:1: "), "{}", finding.reason);
            assert!(finding.reason.contains("XID 79"), "{}", finding.reason);
            assert!(!finding.reason.contains("cuda:0: "), "{}", finding.reason);
        };
        named(devices(&subject, &others([Ok(cpu()), Ok(lost())])).expect("our own key"));
        named(moved(&subject, &others([Ok(cpu()), Ok(lost())])).expect("our own key"));
        let absent = others([Ok(cpu()), Err("no driver".to_owned())]);
        let alone = devices(&subject, &absent).expect("our own key");
        assert_eq!(alone.reason, "cuda:1: no driver");
        for skipped in [together(&subject, &[], 2), moved(&subject, &[])] {
            assert_eq!(skipped.expect("no device").verdict, Verdict::Skip);
        }
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
