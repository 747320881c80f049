//! The one clock of a box: nanoseconds since it started, and Unix time beside it.
//!
//! Deciders are told the time as [`Nanos`]; all threads read it here, so their stamps can be
//! compared. It is CLOCK_MONOTONIC, read without a system call, and it starts at one millisecond,
//! so that zero can stand for never.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use caldera_scheduler::Nanos;
use nix::time::{ClockId, clock_gettime};

/// A clock that started when it was made. Copies agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// The time now.
    pub fn now(self) -> Nanos {
        let ns = self.start.elapsed().as_nanos();
        // 2^64 ns are 584 years.
        Nanos(ns as u64).plus(FIRST)
    }

    /// Since the start, for machines that count in [`Duration`]s.
    pub fn elapsed(self) -> Duration {
        self.start.elapsed()
    }

    /// What [`Clock::elapsed`] was when [`Clock::now`] was that.
    pub fn elapsed_at(now: Nanos) -> Duration {
        Duration::from_nanos(now.since(FIRST).0)
    }
}

/// How long the calling thread has run. A system call.
pub fn thread_time() -> Nanos {
    // The clock of the calling thread is always there.
    let time =
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    Nanos(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Unix time. A clock set before 1970 reads as 1970.
pub fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

const FIRST: Nanos = Nanos::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_countings_are_of_one_moment() {
        let clock = Clock::start();
        let before = clock.elapsed();
        let between = Clock::elapsed_at(clock.now());
        let after = clock.elapsed();
        assert!(before <= between, "{before:?} {between:?}");
        assert!(between <= after, "{between:?} {after:?}");
        assert_eq!(Clock::elapsed_at(FIRST), Duration::ZERO);
    }
}
