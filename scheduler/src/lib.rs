//! Decides who may use which core or device of a box, and when.
//!
//! Nothing in this crate opens a socket or a file, starts a thread or reads a clock: time, demand
//! and the workers' answers come in through [`Arbiter::handle`], decisions go out as [`Action`]s.
//! So the same code runs a box and a test with invented time, and a list of events is a bug report.
//!
//! | file | subject |
//! |---|---|
//! | `scenario` | the policy as data: what each class of tenant is worth and is promised; and as a text |
//! | `pool` | the cores and devices of one box, who owns each, and the bytes that are divided |
//! | `matching` | demand to units of one kind, and of all kinds: a pure function |
//! | `queue` | admission and order of jobs |
//! | `demand` | when measured demand is a peak |
//! | `eviction` | which whole keys go from a device when its owner lacks room |
//! | `ledger` | who has what, who earned what and why: ERA, exact, from records alone |
//! | `storage` | when a tenant is quiet, and what of its storage it gives back |
//! | `registry` | trusted state units: what was presented to whom, and how often it may still be used |
//! | `mailbox` | the words and the ring between the arbiter and one worker; the only atomics |
//! | `arbiter` | one box as one state machine, made of the above; its head lists its own files |
//! | `sim` | the above in invented time, with modelled workers (feature `sim`) |

#![forbid(unsafe_code)]

use std::fmt;

pub mod arbiter;
pub mod demand;
pub mod eviction;
pub mod ledger;
pub mod mailbox;
pub mod matching;
pub mod pool;
pub mod queue;
pub mod registry;
pub mod scenario;
#[cfg(feature = "sim")]
pub mod sim;
pub mod storage;

pub use arbiter::{Action, Arbiter, Event};
pub use pool::Pool;
pub use scenario::Policy;

/// Names a tenant. `u32::MAX` is taken: it means "nobody" in an owner word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

/// Names a job. Whoever submits chooses it; it must not be that of an unfinished job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// Names a unit of the pool: cores in the order of the list that the pool was made of, then devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(pub u16);

/// Counts the hand-overs of one unit. Only equality means anything: it wraps after 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Epoch(pub u32);

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0.wrapping_add(1))
    }
}

/// Nanoseconds: a point of one monotonic clock, or a span between two such points. Arithmetic
/// saturates, for a clock that misbehaves must not stop a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// No time at all.
    pub const ZERO: Nanos = Nanos(0);
    /// Never.
    pub const MAX: Nanos = Nanos(u64::MAX);

    /// A span of microseconds.
    pub const fn from_micros(micros: u64) -> Nanos {
        Nanos(micros.saturating_mul(1_000))
    }

    /// A span of milliseconds.
    pub const fn from_millis(millis: u64) -> Nanos {
        Nanos(millis.saturating_mul(1_000_000))
    }

    /// A span of seconds.
    pub const fn from_secs(secs: u64) -> Nanos {
        Nanos(secs.saturating_mul(1_000_000_000))
    }

    /// Whole microseconds, rounded down.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This point and a span.
    #[must_use]
    pub const fn plus(self, span: Nanos) -> Nanos {
        Nanos(self.0.saturating_add(span.0))
    }

    /// The span since an earlier point; zero if that point is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000_000) {
            write!(f, "{} ms", self.as_millis())
        } else {
            write!(f, "{} us", self.as_micros())
        }
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenant {}", self.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {:#018x}", self.0)
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unit {}", self.0)
    }
}
