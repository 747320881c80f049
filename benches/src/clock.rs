//! Time, twice: what passed on the wall and what this process's threads spent on processors.
//!
//! On a machine that other work shares, wall time measures the neighbours. CPU time of the whole
//! process does not, and it cannot be improved by using more cores; so ratios are taken over it.
//! Where the work is done by another program, its CPU time is that of our child.

use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Both clocks at one moment, or the time between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Times {
    /// CLOCK_MONOTONIC.
    pub(crate) wall: Duration,
    /// CLOCK_PROCESS_CPUTIME_ID: all threads, those that have ended too. And all children that
    /// have ended and been waited for, in user and in kernel mode.
    pub(crate) cpu: Duration,
}

/// This moment, with the processor time of the whole process and its children.
pub(crate) fn process() -> Result<Times> {
    Ok(Times {
        wall: clock(ClockId::CLOCK_MONOTONIC)?,
        cpu: clock(ClockId::CLOCK_PROCESS_CPUTIME_ID)? + children()?,
    })
}

/// This moment, with the processor time of the calling thread.
pub(crate) fn thread() -> Result<Times> {
    Ok(Times {
        wall: clock(ClockId::CLOCK_MONOTONIC)?,
        cpu: clock(ClockId::CLOCK_THREAD_CPUTIME_ID)?,
    })
}

/// What all threads of another process have spent on processors, those that have ended too.
pub(crate) fn of_process(process: Pid) -> Result<Duration> {
    clock(clock_getcpuclockid(process).context("another process's clock")?)
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

/// What the children that have been waited for have spent.
fn children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("the children's usage")?;
    let time = |time: TimeVal| {
        let micros = u64::try_from(time.num_microseconds()).unwrap_or(0);
        Duration::from_micros(micros)
    };
    Ok(time(usage.user_time()) + time(usage.system_time()))
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
    fn what_a_child_has_worked_counts() {
        let before = children().expect("this process's children");
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done";
        let status = std::process::Command::new("sh")
            .args(["-c", script])
            .status();
        assert!(status.expect("a shell").success());
        let children = children().expect("this process's children");
        assert!(children > before);
        assert!(process().expect("clocks of this process").cpu > children);
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
