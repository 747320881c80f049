//! How late a thread wakes: one thread a processor sleeps until a time on a 1 ms grid and notes by
//! how much it woke after it, as cyclictest does, first at normal priority and then as
//! SCHED_FIFO. All processors are tried at once, for a box whose cores are all at work is the case
//! that matters.
//!
//! The bounds follow from the promise that they serve: a core must be with its new owner within
//! 100 ms, and of that the kernel may take half. One late wake-up can be the hypervisor's; a core of
//! which one in a hundred is later than that is held by somebody else.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use crate::clock::now_ns;
use crate::disk::nines;
use crate::host::Host;
use crate::report::{Finding, Line, Plot, Verdict};
use crate::thread::{Policy, on_each};

/// Lateness of wake-ups on every processor of `cpus` for the time `lasting`.
pub(crate) fn jitter(
    host: &Host,
    cpus: &[usize],
    policy: Policy,
    lasting: Duration,
) -> Result<Finding> {
    let before = host.ticks();
    let late = on_each(cpus, policy, |_| lateness(lasting))?;
    let stolen = match (before, host.ticks()) {
        (Some(before), Some(after)) => after.stolen_share(before),
        _ => 0.0,
    };
    let mut all = Histogram::<u64>::new(3).context("a histogram of wake-ups")?;
    for one in &late {
        all.add(one).context("adding the processors up")?;
    }
    let lines = cpus.iter().zip(&late).map(|(cpu, late)| Line {
        name: format!("core {cpu}"),
        points: nines(late),
    });
    let plot = Plot {
        title: "lateness of wake-ups, core by core",
        x: "nines (2: 99 % are less late)",
        y: "us",
        log: true,
        bound: Some(LATE_US_MAX as f64),
        lines: lines.collect(),
    };
    let each: Vec<(usize, &Histogram<u64>)> = cpus.iter().copied().zip(&late).collect();
    let worst = each.iter().max_by_key(|(_, late)| late.max());
    let mut finding = judge(policy, &all, stolen);
    if let Some((cpu, late)) = worst.filter(|_| cpus.len() > 1) {
        finding.reason += &format!(
            "; core {cpu} was the latest, p99 {}",
            late.value_at_quantile(0.99)
        );
    }
    // By core: a core that nobody else disturbs must not make up for one that somebody holds.
    if late
        .iter()
        .any(|late| late.value_at_quantile(0.99) > LATE_US_MAX)
    {
        finding.verdict = Verdict::Fail;
    }
    let by_core = |of: fn(&Histogram<u64>) -> u64| -> Vec<u64> { late.iter().map(of).collect() };
    Ok(finding
        .figure("cpus", cpus.to_vec())
        .figure("p50_us_by_cpu", by_core(|it| it.value_at_quantile(0.5)))
        .figure("p99_us_by_cpu", by_core(|it| it.value_at_quantile(0.99)))
        .figure("max_us_by_cpu", by_core(Histogram::max))
        .plot(plot)
        .figure("seconds", lasting.as_secs_f64()))
}

/// Wake-ups of the calling thread, in microseconds late.
fn lateness(lasting: Duration) -> Result<Histogram<u64>> {
    let mut grid = Grid::new(now_ns()?, lasting)?;
    while let Some(wake) = grid.next_ns() {
        let at = TimeSpec::new((wake / 1_000_000_000) as i64, (wake % 1_000_000_000) as i64);
        // The time to wake is absolute: after a signal the same call sleeps on.
        while let Err(errno) = clock_nanosleep(
            ClockId::CLOCK_MONOTONIC,
            ClockNanosleepFlags::TIMER_ABSTIME,
            &at,
        ) {
            if errno != Errno::EINTR {
                return Err(errno).context("sleeping until a time");
            }
        }
        grid.woke(now_ns()?)?;
    }
    Ok(grid.late)
}

/// The times to wake at, and by how much each was missed.
struct Grid {
    last_ns: u64,
    end_ns: u64,
    late: Histogram<u64>,
}

impl Grid {
    fn new(start_ns: u64, lasting: Duration) -> Result<Grid> {
        let late = Histogram::new(3).context("a histogram of wake-ups")?;
        let end_ns = start_ns + lasting.as_nanos() as u64;
        Ok(Grid {
            last_ns: start_ns,
            end_ns,
            late,
        })
    }

    /// When to wake next; `None` at the end.
    fn next_ns(&self) -> Option<u64> {
        let next = self.last_ns + PERIOD_NS;
        (next <= self.end_ns).then_some(next)
    }

    /// Notes that the thread runs at `now_ns`. Times that were slept through count as late wake-ups
    /// of their own: a thread that is away for a second has missed a thousand of them.
    fn woke(&mut self, now_ns: u64) -> Result<()> {
        while let Some(next) = self.next_ns().filter(|&next| next <= now_ns) {
            self.late
                .record((now_ns - next) / 1000)
                .context("recording a wake-up")?;
            self.last_ns = next;
        }
        Ok(())
    }
}

fn judge(policy: Policy, late: &Histogram<u64>, stolen: f64) -> Finding {
    let (p50, p99, p999) = (
        late.value_at_quantile(0.5),
        late.value_at_quantile(0.99),
        late.value_at_quantile(0.999),
    );
    let max = late.max();
    let mut reason = format!(
        "{} wake-ups, us late: p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}",
        late.len()
    );
    if stolen > STOLEN_SHARE_MAX {
        reason += &format!("; {:.1} % of the time went to other guests", stolen * 100.0);
    }
    let verdict = match policy {
        Policy::Fifo if max > LATE_US_MAX => Verdict::Fail,
        Policy::Fifo if max > LATE_US_GOOD => Verdict::Warn,
        Policy::Normal if max > LATE_US_MAX => Verdict::Warn,
        _ if stolen > STOLEN_SHARE_MAX => Verdict::Warn,
        _ => Verdict::Pass,
    };
    Finding::new(verdict, reason)
        .figure("wakeups", late.len())
        .figure("p50_us", p50)
        .figure("p99_us", p99)
        .figure("p999_us", p999)
        .figure("max_us", max)
        .figure("stolen_share", stolen)
}

const PERIOD_NS: u64 = 1_000_000;

/// Half of the 100 ms within which a core must be with its new owner.
const LATE_US_MAX: u64 = 50_000;

/// Five quanta of 2 ms: what a real-time thread on a machine of its own never sees.
const LATE_US_GOOD: u64 = 10_000;

/// Above this a neighbour on the same host is felt in every proof.
const STOLEN_SHARE_MAX: f64 = 0.01;

#[cfg(test)]
mod tests {
    use super::*;

    fn late(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).expect("three digits");
        for &value in values {
            histogram.record(value).expect("a small value");
        }
        histogram
    }

    #[test]
    fn bounds_of_lateness() {
        let verdict = |policy, values: &[u64], stolen| judge(policy, &late(values), stolen).verdict;
        assert_eq!(verdict(Policy::Fifo, &[10, 200], 0.0), Verdict::Pass);
        assert_eq!(verdict(Policy::Fifo, &[10, 20_000], 0.0), Verdict::Warn);
        assert_eq!(verdict(Policy::Fifo, &[10, 90_000], 0.0), Verdict::Fail);
        assert_eq!(verdict(Policy::Normal, &[10, 20_000], 0.0), Verdict::Pass);
        assert_eq!(verdict(Policy::Normal, &[10, 90_000], 0.0), Verdict::Warn);
        assert_eq!(verdict(Policy::Normal, &[10], 0.05), Verdict::Warn);
    }

    #[test]
    fn times_slept_through_count_as_late() {
        let mut grid = Grid::new(5_000_000, Duration::from_millis(10)).expect("three digits");
        assert_eq!(grid.next_ns(), Some(6_000_000));
        grid.woke(6_100_000).expect("in range");
        assert_eq!((grid.late.len(), grid.late.max()), (1, 100));
        // Woken at 8.9 ms: the grid's 7 and 8 ms are 1.9 and 0.9 ms late.
        grid.woke(8_900_000).expect("in range");
        assert_eq!((grid.late.len(), grid.late.max()), (3, 1900));
        assert_eq!(grid.next_ns(), Some(9_000_000));
        // Nothing beyond the end is counted.
        grid.woke(99_000_000).expect("in range");
        assert_eq!(grid.late.len(), 10);
        assert_eq!(grid.next_ns(), None);
    }
}
