//! Time, twice: what passed on the wall and what this process's threads spent on processors.
//!
//! On a machine that other work shares, wall time measures the neighbours. CPU time of the whole
//! process does not, and it cannot be improved by using more cores; so ratios are taken over it.

use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};

/// Both clocks at one moment, or the time between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    /// CLOCK_MONOTONIC.
    pub(crate) wall: Duration,
    /// CLOCK_PROCESS_CPUTIME_ID: all threads, those that have ended too.
    pub(crate) cpu: Duration,
}

/// This moment, with the processor time of the whole process.
pub(crate) fn process() -> Result<Times> {
    Ok(Times {
        wall: clock(ClockId::CLOCK_MONOTONIC)?,
        cpu: clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)?,
    })
}

/// This moment, with the processor time of the calling thread.
pub(crate) fn thread() -> Result<Times> {
    Ok(Times {
        wall: clock(ClockId::CLOCK_MONOTONIC)?,
        cpu: clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
    })
}

/// What `work` took, and what it returned.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Times, T)> {
    let before = process()?;
    let value = work()?;
    Ok((process()? - before, value))
}

impl Sub for Times {
    type Output = Times;

    /// The time from `before` to `self`. Neither clock goes back; if one did, nothing passed.
    fn sub(self, before: Times) -> Times {
        Times {
            wall: self.wall.saturating_sub(before.wall),
            cpu: self.cpu.saturating_sub(before.cpu),
        }
    }
}

fn clock(id: ClockId) -> Result<Duration> {
    clock_gettime(id)
        .map(Duration::from)
        .context("reading a clock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time_and_sleep_of_other_threads_is_not_work() {
        let (times, sum) = timed(|| Ok((0..1_000_000u64).fold(1, |x, y| x ^ (x << 7) ^ y)))
            .expect("clocks of this process");
        assert_ne!(sum, 0);
        assert!(times.cpu > Duration::ZERO);
        assert!(times.wall > Duration::ZERO);
    }

    #[test]
    fn differences_do_not_wrap() {
        let early = Times {
            wall: Duration::from_secs(1),
            cpu: Duration::from_secs(2),
        };
        let later = Times {
            wall: Duration::from_secs(3),
            cpu: Duration::from_secs(5),
        };
        assert_eq!(
            later - early,
            Times {
                wall: Duration::from_secs(2),
                cpu: Duration::from_secs(3)
            }
        );
        assert_eq!(early - later, Times::default());
    }
}
