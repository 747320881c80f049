//! What came of a series on a box: how much of the box was used, and how long each job waited.
//!
//! A job's wait goes from its arrival to its first quantum, whether it waited in the box's queue or
//! outside because it had been refused. A job is *late* if it waited for longer than its class's
//! ageing bound. The bound is a promise to tenants (not to be left without any core), so a job
//! that stands behind others of its own tenant may be late with the promise kept: lateness is the
//! stricter measure. It is weighed by core time, as utilisation is.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::Nanos;
use crate::arbiter::{Cause, Counters, Reallocation};
use crate::scenario::{Class, Policy};

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How many cores there were.
    pub units: u32,
    /// How many devices there were beside them.
    pub devices: u32,
    /// Core time that devices saved: the work that was done on them.
    pub on_devices: u128,
    /// Device time that this took.
    pub device_time: u128,
    /// From the start of the series to its end, or to the end of the last job if that is later.
    pub horizon: Nanos,
    /// By class, in the order of the policy.
    pub classes: Vec<ClassOutcome>,
    /// Hand-overs; none where there is no arbiter.
    pub reallocations: Reallocations,
}

/// The jobs of one class.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassOutcome {
    /// How many ended.
    pub jobs: u64,
    /// Their core time.
    pub work: u128,
    /// How many were late.
    pub late_jobs: u64,
    /// The core time of these.
    pub late_work: u128,
    /// Waits in microseconds.
    pub waits: Histogram<u64>,
    ageing_max: Nanos,
}

/// Hand-overs, from demand to first instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Reallocations {
    /// In microseconds.
    pub spans: Histogram<u64>,
    /// How many by cause.
    pub causes: BTreeMap<Cause, u64>,
    /// How many took longer than the policy's bound.
    pub over: u64,
    /// How often a client was told to come again later.
    pub refusals: u64,
    /// The arbiter's counts at the end.
    pub counters: Counters,
}

impl Outcome {
    /// Nothing yet.
    pub fn new(units: u32, policy: &Policy) -> Outcome {
        Outcome {
            units,
            devices: 0,
            on_devices: 0,
            device_time: 0,
            horizon: Nanos::ZERO,
            classes: policy.classes().iter().map(ClassOutcome::new).collect(),
            reallocations: Reallocations {
                spans: histogram(),
                causes: BTreeMap::new(),
                over: 0,
                refusals: 0,
                counters: Counters::default(),
            },
        }
    }

    /// The core time that cores served, as a part of what they could have served by the end.
    pub fn utilisation(&self) -> f64 {
        let work: u128 = self.classes.iter().map(|class| class.work).sum();
        let by_cores = work.saturating_sub(self.on_devices);
        by_cores as f64 / (f64::from(self.units) * self.horizon.0 as f64)
    }

    /// The part of the devices' time in which they worked; `None` without any.
    pub fn device_utilisation(&self) -> Option<f64> {
        let there = f64::from(self.devices) * self.horizon.0 as f64;
        (self.devices > 0).then(|| self.device_time as f64 / there)
    }

    /// The late part of the work of these classes; nothing of nothing.
    pub fn late_share(&self, of: impl Fn(usize) -> bool) -> f64 {
        let (mut late, mut all) = (0, 0);
        for (index, class) in self.classes.iter().enumerate() {
            if of(index) {
                late += class.late_work;
                all += class.work;
            }
        }
        late as f64 / (all.max(1)) as f64
    }

    /// Takes the jobs of another part of the same box in.
    pub fn add(&mut self, other: &Outcome) {
        self.units += other.units;
        self.horizon = self.horizon.max(other.horizon);
        for (mine, theirs) in self.classes.iter_mut().zip(&other.classes) {
            mine.jobs += theirs.jobs;
            mine.work += theirs.work;
            mine.late_jobs += theirs.late_jobs;
            mine.late_work += theirs.late_work;
            // Both resize themselves, so there is nothing to be too large for.
            let _ = mine.waits.add(&theirs.waits);
        }
    }
}

impl ClassOutcome {
    fn new(class: &Class) -> ClassOutcome {
        ClassOutcome {
            jobs: 0,
            work: 0,
            late_jobs: 0,
            late_work: 0,
            waits: histogram(),
            ageing_max: class.ageing_max,
        }
    }

    /// A job's first quantum has begun.
    pub fn started(&mut self, work: Nanos, waited: Nanos) {
        self.waits.saturating_record(waited.as_micros());
        if waited > self.ageing_max {
            self.late_jobs += 1;
            self.late_work += u128::from(work.0);
        }
    }

    /// A job has ended.
    pub fn ended(&mut self, work: Nanos) {
        self.jobs += 1;
        self.work += u128::from(work.0);
    }
}

impl Reallocations {
    /// A hand-over is complete.
    pub fn record(&mut self, record: &Reallocation) {
        self.spans.saturating_record(record.total().as_micros());
        *self.causes.entry(record.cause).or_default() += 1;
        self.over += u64::from(record.missed);
    }
}

fn histogram() -> Histogram<u64> {
    match Histogram::new_with_max(SPAN_MAX.as_micros(), 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("three digits are refused: {error}"),
    }
}

/// Longer spans are counted as this long: four months.
const SPAN_MAX: Nanos = Nanos::from_secs(10_000_000);
