//! How long a device takes to change hands while it sums: a whole node in this process, spoken to over its socket, two tenants,
//! real proofs.
//!
//! One tenant has proofs of a large circuit under way all the time, and all that the device can do of them is done there. The
//! other, who is promised the whole box, asks for a proof of a small one at moments that have nothing to do with quanta, while
//! the device sums for the first; so the arbiter has the device change hands. When that proof has ended the first has it back.
//! All proofs are those that they would have been, and none begins again.
//!
//! What is told is what the box has recorded (`prover_profileV1`): the hand-over of the device, from the kernel's receive stamp of
//! the demand to the first look of the device's worker at the new owner's work; and when the first quantum of that owner's job on the
//! device began and its first stage there had ended. The job is laid out meanwhile, and what the device lacks of its witness is
//! copied there, which is in both.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ark_std::rand::Rng as _;
use caldera_kernels::{Around, CurveId, Device};
use caldera_prover::groth16::{Synthetic, setup_synthetic_part};
use caldera_rpc::methods::JobProfile;
use serde_json::json;

use crate::bench::Bench;
use crate::live::{Client, Feed, Setup, World, small_key};
use crate::peer::ark::seeded;
use crate::reallocate::{DECLARED, TENANTS, devices};

/// One take-over, in milliseconds from the demand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Taken {
    /// Until the device's worker looked at the new owner's work.
    pub(crate) moved: f64,
    /// Until the new owner's first quantum there began.
    pub(crate) begun: f64,
    /// Until the first stage of it had ended.
    pub(crate) ended: f64,
    /// What the device was at when it was asked for.
    pub(crate) within: &'static str,
}

/// Has a device taken over so often while it sums as many points as the large circuit's domain has elements.
pub(crate) fn taken(
    bench: &Bench,
    device: &Arc<dyn Device>,
    (curve, log2): (CurveId, u32),
    count: u32,
) -> Result<Vec<Taken>> {
    let watch = Arc::new(Watch::default());
    let world = World::new(&Setup {
        device: Some(Watch::over(&watch, device)),
        ..Setup::usual(DECLARED, &TENANTS)
    })?;
    let (busy, other) = (world.client(TENANTS[0])?, world.client(TENANTS[1])?);
    let unit = *devices(&other.pool()?).first().context("a device's unit")?;
    bench.say(&format!("a key with a domain of 2^{log2}"));
    let (zkey, witness) = large_key(curve, log2)?;
    let mut feed = Feed::new(&busy, &zkey, &witness)?;
    drop((zkey, witness));
    let (zkey, witness) = small_key(TENANT_LOG2)?;
    let mut asking = Feed::new(&other, &zkey, &witness)?;
    let mut random = seeded();
    let mut taken = Vec::new();
    let mut tries = 0;
    while taken.len() < count as usize {
        thread::sleep(Duration::from_micros(random.gen_range(100..BETWEEN_US)));
        let within = watch.sums(&world, &mut feed, &other)?;
        let job = asking.submit()?;
        let profile = ended(&other, &job)?;
        asking.look()?;
        // Kernels are compiled with the first proofs.
        if feed.proved == 0 {
            continue;
        }
        taken.extend(of_profile(&profile, unit, within));
        tries += 1;
        ensure!(
            tries <= TRIES_MAX * (count as usize + 10),
            "{} take-overs in {tries} proofs: who asks does not get the device from who sums",
            taken.len()
        );
        if tries % 100 == 0 {
            bench.say(&format!("{} of {count} take-overs", taken.len()));
        }
    }
    // What was interrupted comes out right, too.
    while feed.waiting() > 0 {
        thread::sleep(Duration::from_millis(1));
        feed.look()?;
    }
    world.stop();
    Ok(taken)
}

/// What a device is doing.
#[derive(Default)]
struct Watch(Mutex<Option<&'static str>>);

impl Watch {
    /// The device, watched.
    fn over(watch: &Arc<Watch>, device: &Arc<dyn Device>) -> Arc<dyn Device> {
        let watch = Arc::clone(watch);
        let quantum = move |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
            watch.set(Some(kernel));
            let progress = quantum();
            watch.set(None);
            progress
        };
        Around::new(Arc::clone(device), Arc::new(quantum))
    }

    fn set(&self, kernel: Option<&'static str>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kernel;
    }

    /// Waits until it sums for who is fed; what of it. `other` is asked whether the device is still there.
    fn sums(&self, world: &World, feed: &mut Feed<'_>, other: &Client) -> Result<&'static str> {
        let since = Instant::now();
        loop {
            world.prefer_device();
            feed.fill(WAITING)?;
            let looked = Instant::now();
            while looked.elapsed() < LOOK_EVERY {
                let kernel = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(kernel) = kernel.filter(|it| it.contains("msm")) {
                    return Ok(kernel);
                }
                thread::sleep(Duration::from_micros(50));
            }
            let devices = other.pool()?.devices;
            if let Some(why) = devices.into_iter().find_map(|it| it.lost) {
                bail!("the device was lost: {why}");
            }
            ensure!(since.elapsed() < WITHIN, "the device does not sum");
        }
    }
}

/// A synthetic key with such a domain, of as few constraints as have it, and its witness.
fn large_key(curve: CurveId, log2: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let circuit = Synthetic {
        curve,
        domain_log2: log2,
        dense: 0.9,
        seed: [0x7a; 32],
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (mut zkey, mut witness) = (Vec::new(), Vec::new());
    setup_synthetic_part(&circuit, 1 << (log2 - 1), threads, &mut zkey, &mut |_| ())
        .context("a key")?
        .write(&mut witness)
        .context("a witness")?;
    Ok((zkey, witness))
}

/// Waits for the end of a job; what its quanta were.
fn ended(client: &Client, job: &str) -> Result<JobProfile> {
    let since = Instant::now();
    loop {
        let params = json!({ "job": job, "waitMs": 10_000 });
        let status = client.call("prover_statusV1", params)?;
        match status["state"].as_str() {
            Some("proved") => break,
            Some("failed" | "cancelled") | None => bail!("a proof did not come out: {status}"),
            Some(_) => ensure!(since.elapsed() < WITHIN, "a proof does not end: {status}"),
        }
    }
    let profile = client.call("prover_profileV1", json!({ "job": job }))?;
    serde_json::from_value(profile).context("a profile")
}

/// The take-over of a unit for a job; none if the unit did not come from the other tenant with it, or did nothing of it.
fn of_profile(profile: &JobProfile, unit: u16, within: &'static str) -> Option<Taken> {
    let mut moves = profile.reallocations.iter().map(|it| &it.reallocation);
    let moved = moves.find(|it| it.unit == unit && it.foreign && it.to.is_some())?;
    let here = || profile.quanta.iter().filter(|it| it.unit == unit);
    let first = here().min_by(|a, b| a.start_us.total_cmp(&b.start_us))?;
    let of_stage = here().filter(|it| it.stage == first.stage);
    let ended = of_stage
        .map(|it| it.start_us + it.span_us)
        .fold(0.0, f64::max);
    Some(Taken {
        moved: moved.total_us / 1e3,
        begun: first.start_us / 1e3,
        ended: ended / 1e3,
        within,
    })
}

/// Of who asks.
const TENANT_LOG2: u32 = 8;

/// Proofs of who sums that have not ended: one is under way, and one follows.
const WAITING: usize = 2;

/// Microseconds from one take-over to the next at most.
const BETWEEN_US: u64 = 20_000;

/// Proofs for each take-over at most: some ask when a sum has just ended.
const TRIES_MAX: usize = 20;

/// How often it is looked why a device does not sum.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A device that does nothing for so long will not.
const WITHIN: Duration = Duration::from_secs(600);
