//! How long things may take, and how the lengths must stand to each other.
//!
//! The one that matters is the time to live of a lease. It is counted against the longest that a broker is silent while
//! nothing is lost: electing a leader of a stream took three servers on two cores up to 8.2 s. Anything
//! shorter than twice that takes a pause for a death and proves twice.

use caldera_scheduler::Nanos;
use thiserror::Error;

/// See the top of this file. Equal on all boxes of a fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    beat: Nanos,
    lease: Nanos,
}

/// Terms under which living boxes would be taken for dead ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TermsError {
    /// The lease is short.
    #[error(
        "lease: expected at least {LEASE_MIN}, which outlives the election of a stream's leader, got {got}"
    )]
    Lease {
        /// What was given.
        got: Nanos,
    },
    /// There are few beats in a lease.
    #[error("beat: expected from 100 ms to a fifth of the lease ({lease}), got {got}")]
    Beat {
        /// What was given.
        got: Nanos,
        /// The lease.
        lease: Nanos,
    },
}

impl Terms {
    /// A box is heard once in `beat`; a placement that nobody has confirmed for `lease` is given up.
    pub fn new(beat: Nanos, lease: Nanos) -> Result<Terms, TermsError> {
        if lease < LEASE_MIN {
            return Err(TermsError::Lease { got: lease });
        }
        if beat < BEAT_MIN || beat.0 > lease.0 / 5 {
            return Err(TermsError::Beat { got: beat, lease });
        }
        Ok(Terms { beat, lease })
    }

    /// What a fleet has unless it is told otherwise.
    pub fn standard() -> Terms {
        Terms {
            beat: Nanos::from_secs(2),
            lease: LEASE_MIN,
        }
    }

    /// How often a box says that it is there.
    pub fn beat(&self) -> Nanos {
        self.beat
    }

    /// After so long without a word of it, a placement is given up.
    pub fn lease(&self) -> Nanos {
        self.lease
    }

    /// After so long a placement is given up whoever holds it, if the job should take so much of one core.
    pub fn bound(&self, work: Nanos) -> Nanos {
        self.lease.plus(Nanos(work.0.saturating_mul(OVERDUE)))
    }

    /// A box that has not been heard for so long is given nothing new; one that has not heard itself for so long may be
    /// cut off, and what it did not hear meanwhile proves nothing.
    pub fn gap(&self) -> Nanos {
        Nanos(self.beat.0 * 5 / 2)
    }

    /// How long a job waits for a box that takes it, before its own box proves it.
    pub fn patience(&self) -> Nanos {
        self.gap()
    }

    /// How long is waited before a publish is tried again that got no answer, and before a box is asked again
    /// that had no room.
    pub fn again(&self) -> Nanos {
        Nanos(self.beat.0 / 2)
    }

    /// How long a box is given nothing that has sent what is no proof; twice as long at each further time.
    pub fn avoidance(&self, strikes: u32) -> Nanos {
        Nanos(AVOIDANCE.0 << strikes.saturating_sub(1).min(DOUBLINGS_MAX))
    }
}

const LEASE_MIN: Nanos = Nanos::from_secs(15);
const BEAT_MIN: Nanos = Nanos::from_millis(100);
/// A box that takes eight times as long on all its cores as a job should take on one hangs.
const OVERDUE: u64 = 8;
const AVOIDANCE: Nanos = Nanos::from_secs(600);
/// Ten minutes become a week.
const DOUBLINGS_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_that_take_a_pause_for_a_death_are_refused() {
        let seconds = Nanos::from_secs;
        let short = Terms::new(seconds(2), seconds(14));
        assert_eq!(short, Err(TermsError::Lease { got: seconds(14) }));
        for beat in [Nanos(1), seconds(4)] {
            let refused = Terms::new(beat, seconds(15));
            let expected = TermsError::Beat {
                got: beat,
                lease: seconds(15),
            };
            assert_eq!(refused, Err(expected));
        }
        assert_eq!(Terms::new(seconds(2), seconds(15)), Ok(Terms::standard()));
    }

    #[test]
    fn who_sends_what_is_no_proof_is_avoided_for_longer_each_time() {
        let terms = Terms::standard();
        assert_eq!(terms.avoidance(1), AVOIDANCE);
        assert_eq!(terms.avoidance(2).0, 2 * AVOIDANCE.0);
        assert_eq!(terms.avoidance(u32::MAX), terms.avoidance(11));
    }
}
