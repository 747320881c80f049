//! A series on boxes of several sizes, against what needs no arbiter: as data, and as a table.
//!
//! A box of ratio 1 has as many cores as the classes want together in their highest step. The
//! *floor* is the part of the valuable work that no policy could serve in its step, because
//! there is more of it than cores.

use std::fmt::Write;

use serde::Serialize;

use crate::Nanos;
use crate::scenario::Policy;
use crate::sim::baseline::cores;
use crate::sim::outcome::Outcome;
use crate::sim::trace::Trace;

/// All that is said about one series.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The series.
    pub trace: TraceFacts,
    /// The classes whose lateness counts.
    pub valuable: Vec<String>,
    /// Each class on cores of its own, as many as its own peak.
    pub partition: Line,
    /// By ascending ratio.
    pub points: Vec<Point>,
    /// What was to be reached, and whether it was.
    pub bars: Vec<Bar>,
}

/// A series in figures.
#[derive(Debug, Clone, Serialize)]
pub struct TraceFacts {
    /// How many tenants.
    pub tenants: usize,
    /// How many steps.
    pub steps: u32,
    /// How long each is.
    pub step_s: f64,
    /// How many jobs.
    pub jobs: u64,
    /// Their core time.
    pub work_core_s: f64,
    /// The mean demand.
    pub mean_cores: f64,
    /// The highest demand of all classes together.
    pub joint_peak_cores: f64,
    /// By class of the policy.
    pub classes: Vec<ClassFacts>,
    /// Mean over the sum of the classes' own peaks: the use of a fixed partition, as arithmetic.
    pub partition_use: f64,
    /// Mean over joint peak: the use of a shared pool that serves all at once, as arithmetic.
    pub shared_use: f64,
}

/// A class of a series in figures.
#[derive(Debug, Clone, Serialize)]
pub struct ClassFacts {
    /// Its name.
    pub name: String,
    /// Its mean demand.
    pub mean_cores: f64,
    /// Its highest demand.
    pub peak_cores: f64,
}

/// A box of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Point {
    /// Its cores over the joint peak, as asked for.
    pub ratio: f64,
    /// The part of the valuable work that no policy could serve in its step.
    pub floor: f64,
    /// First come, first served.
    pub fifo: Line,
    /// The arbiter.
    pub ours: Line,
}

/// What came of the series on one box.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Its cores.
    pub units: u32,
    /// Work served by cores over cores and time, to the end of the last job.
    pub utilisation: f64,
    /// Its devices.
    pub devices: u32,
    /// Time in which devices worked over devices and time; nothing without any.
    pub device_utilisation: Option<f64>,
    /// The late part of the valuable work.
    pub unmet: f64,
    /// When the last job had ended.
    pub horizon_s: f64,
    /// By class of the policy.
    pub classes: Vec<ClassLine>,
    /// Of the arbiter only.
    pub reallocations: Option<ReallocationLine>,
}

/// The jobs of one class.
#[derive(Debug, Clone, Serialize)]
pub struct ClassLine {
    /// Its name.
    pub name: String,
    /// How many.
    pub jobs: u64,
    /// The late part, by core time.
    pub late: f64,
    /// Half of the jobs waited no longer.
    pub wait_p50_ms: f64,
    /// 95 of 100 waited no longer.
    pub wait_p95_ms: f64,
    /// 99 of 100 waited no longer.
    pub wait_p99_ms: f64,
    /// None waited longer.
    pub wait_max_ms: f64,
}

/// The hand-overs on one box.
#[derive(Debug, Clone, Serialize)]
pub struct ReallocationLine {
    /// How many.
    pub count: u64,
    /// Half took no longer.
    pub p50_us: u64,
    /// 99 of 100 took no longer.
    pub p99_us: u64,
    /// None took longer.
    pub max_us: u64,
    /// How many took longer than the policy allows.
    pub over: u64,
    /// The policy's bound.
    pub bound_us: u64,
    /// How many by cause.
    pub causes: Vec<(String, u64)>,
    /// How many took up to so many microseconds, and longer than the bucket before.
    pub buckets: Vec<(u64, u64)>,
    /// How often a client was told to come again later.
    pub refusals: u64,
}

/// Something to be reached by some point of the curve.
#[derive(Debug, Clone, Serialize)]
pub struct Bar {
    /// At least this utilisation
    pub utilisation: f64,
    /// with at most this part unmet.
    pub unmet: f64,
    /// The ratios at which it was.
    pub reached_at: Vec<f64>,
}

impl TraceFacts {
    /// The figures of a series.
    pub fn of(trace: &Trace, policy: &Policy) -> TraceFacts {
        let duration = trace.duration().0 as f64;
        let work = trace.work() as f64;
        let named = policy.classes().iter().enumerate();
        let classes: Vec<ClassFacts> = named
            .map(|(index, class)| {
                let demand = trace.demand(|c| c == index);
                ClassFacts {
                    name: class.name.clone(),
                    mean_cores: demand.iter().sum::<f64>() / demand.len() as f64,
                    peak_cores: demand.into_iter().fold(0.0, f64::max),
                }
            })
            .collect();
        let joint = trace.peak(|_| true);
        let peaks: f64 = classes.iter().map(|class| class.peak_cores).sum();
        TraceFacts {
            tenants: trace.tenants().len(),
            steps: trace.steps(),
            step_s: seconds(trace.step()),
            jobs: trace.jobs(),
            work_core_s: work / 1e9,
            mean_cores: work / duration,
            joint_peak_cores: joint,
            classes,
            partition_use: work / duration / peaks,
            shared_use: work / duration / joint,
        }
    }
}

impl Line {
    /// The figures of one box.
    pub fn of(outcome: &Outcome, policy: &Policy, valuable: &[usize]) -> Line {
        let bound = policy.limits().reallocation_max;
        let ms = |waits: &hdrhistogram::Histogram<u64>, q| waits.value_at_quantile(q) as f64 / 1e3;
        let classes = policy.classes().iter().zip(&outcome.classes);
        let classes = classes.map(|(class, outcome)| ClassLine {
            name: class.name.clone(),
            jobs: outcome.jobs,
            late: outcome.late_work as f64 / outcome.work.max(1) as f64,
            wait_p50_ms: ms(&outcome.waits, 0.50),
            wait_p95_ms: ms(&outcome.waits, 0.95),
            wait_p99_ms: ms(&outcome.waits, 0.99),
            wait_max_ms: outcome.waits.max() as f64 / 1e3,
        });
        let moved = &outcome.reallocations;
        let reallocations = (!moved.spans.is_empty()).then(|| ReallocationLine {
            count: moved.spans.len(),
            p50_us: moved.spans.value_at_quantile(0.50),
            p99_us: moved.spans.value_at_quantile(0.99),
            max_us: moved.spans.max(),
            over: moved.over,
            bound_us: bound.as_micros(),
            causes: moved
                .causes
                .iter()
                .map(|(cause, count)| (format!("{cause:?}"), *count))
                .collect(),
            buckets: moved
                .spans
                .iter_log(BUCKET_FIRST_US, 2.0)
                .map(|step| (step.value_iterated_to(), step.count_since_last_iteration()))
                .collect(),
            refusals: moved.refusals,
        });
        Line {
            units: outcome.units,
            utilisation: outcome.utilisation(),
            devices: outcome.devices,
            device_utilisation: outcome.device_utilisation(),
            unmet: outcome.late_share(|class| valuable.contains(&class)),
            horizon_s: seconds(outcome.horizon),
            classes: classes.collect(),
            reallocations,
        }
    }
}

impl Bar {
    /// Whether and where the points reach it.
    pub fn of(utilisation: f64, unmet: f64, points: &[Point]) -> Bar {
        let reached = points
            .iter()
            .filter(|point| point.ours.utilisation >= utilisation && point.ours.unmet <= unmet);
        Bar {
            utilisation,
            unmet,
            reached_at: reached.map(|point| point.ratio).collect(),
        }
    }
}

/// How many cores a box of this ratio has.
pub fn units_at(trace: &Trace, ratio: f64) -> u32 {
    cores(trace.peak(|_| true) * ratio)
}

/// See [`Point::floor`].
pub fn floor(trace: &Trace, units: u32, valuable: &[usize]) -> f64 {
    let demand = trace.demand(|class| valuable.contains(&class));
    let over: f64 = demand
        .iter()
        .map(|cores| (cores - f64::from(units)).max(0.0))
        .sum();
    over / demand.iter().sum::<f64>().max(f64::MIN_POSITIVE)
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_table(&mut out);
        out
    }

    fn write_table(&self, out: &mut String) -> std::fmt::Result {
        let trace = &self.trace;
        writeln!(
            out,
            "{} tenants, {} steps of {} s, {} jobs; mean {:.1} cores, joint peak {:.1}",
            trace.tenants,
            trace.steps,
            trace.step_s,
            trace.jobs,
            trace.mean_cores,
            trace.joint_peak_cores
        )?;
        for class in trace.classes.iter().filter(|class| class.peak_cores > 0.0) {
            writeln!(
                out,
                "  {:<14} mean {:>7.2}  peak {:>7.1}  peak over mean {:>5.1}",
                class.name,
                class.mean_cores,
                class.peak_cores,
                class.peak_cores / class.mean_cores
            )?;
        }
        writeln!(
            out,
            "as arithmetic: fixed partition {}, shared pool at the joint peak {}",
            percent(trace.partition_use),
            percent(trace.shared_use)
        )?;
        writeln!(
            out,
            "\nunmet: the part of the work of {} that began later than its class's ageing bound\n",
            self.valuable.join(", ")
        )?;
        writeln!(
            out,
            "{:>9} {:>6} | {:>8} {:>8} {:>8} | {:>8} {:>8}",
            "capacity", "cores", "ours", "unmet", "floor", "fifo", "unmet"
        )?;
        writeln!(
            out,
            "{:>9} {:>6} | {:>8} {:>8} {:>8} | {:>8} {:>8}",
            "partition",
            self.partition.units,
            percent(self.partition.utilisation),
            percent(self.partition.unmet),
            "",
            "",
            ""
        )?;
        for point in &self.points {
            writeln!(
                out,
                "{:>9.3} {:>6} | {:>8} {:>8} {:>8} | {:>8} {:>8}",
                point.ratio,
                point.ours.units,
                percent(point.ours.utilisation),
                percent(point.ours.unmet),
                percent(point.floor),
                percent(point.fifo.utilisation),
                percent(point.fifo.unmet)
            )?;
        }
        for point in &self.points {
            if let Some(used) = point.ours.device_utilisation {
                writeln!(
                    out,
                    "{:>9.3} {:>6} devices, used {} (ours alone: the others have cores only)",
                    point.ratio,
                    point.ours.devices,
                    percent(used)
                )?;
            }
        }
        writeln!(
            out,
            "\nwaits of ours, ms\n{:>9} {:<14} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "capacity", "class", "jobs", "late", "p50", "p95", "p99", "max"
        )?;
        for point in &self.points {
            for class in point.ours.classes.iter().filter(|class| class.jobs > 0) {
                writeln!(
                    out,
                    "{:>9.3} {:<14} {:>9} {:>8} {:>9.1} {:>9.1} {:>9.1} {:>9.1}",
                    point.ratio,
                    class.name,
                    class.jobs,
                    percent(class.late),
                    class.wait_p50_ms,
                    class.wait_p95_ms,
                    class.wait_p99_ms,
                    class.wait_max_ms
                )?;
            }
        }
        writeln!(
            out,
            "\nreallocations\n{:>9} {:>10} {:>8} {:>8} {:>8} {:>12} {:>9}",
            "capacity", "count", "p50 us", "p99 us", "max us", "over bound", "refusals"
        )?;
        for point in &self.points {
            let Some(moved) = &point.ours.reallocations else {
                continue;
            };
            writeln!(
                out,
                "{:>9.3} {:>10} {:>8} {:>8} {:>8} {:>12} {:>9}",
                point.ratio,
                moved.count,
                moved.p50_us,
                moved.p99_us,
                moved.max_us,
                moved.over,
                moved.refusals
            )?;
        }
        writeln!(out)?;
        for bar in &self.bars {
            let reached: Vec<String> = bar.reached_at.iter().map(f64::to_string).collect();
            writeln!(
                out,
                "at least {} used with at most {} unmet: {}",
                percent(bar.utilisation),
                percent(bar.unmet),
                match reached.is_empty() {
                    true => "not reached".to_owned(),
                    false => format!("reached at {}", reached.join(", ")),
                }
            )?;
        }
        Ok(())
    }
}

fn seconds(span: Nanos) -> f64 {
    span.0 as f64 / 1e9
}

fn percent(part: f64) -> String {
    let digits = if part < 0.0995 { 3 } else { 1 };
    format!("{:.*}%", digits, 100.0 * part)
}

/// The first bucket of hand-overs; each that follows is twice as long.
const BUCKET_FIRST_US: u64 = 64;
