//! How many requests a second a caller may make: the generic cell rate algorithm (ITU-T I.371, 1996), which needs
//! one number a caller and no timer. A caller that was silent for a second may send a second's worth at once.

use std::time::Duration;

/// What one caller may still send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    /// When all that was sent would have been sent, had it come evenly.
    even: Duration,
}

impl Rate {
    /// So many a second; at least one.
    pub fn new(a_second: u32) -> Rate {
        Rate {
            interval: Duration::from_secs(1) / a_second.max(1),
            even: Duration::ZERO,
        }
    }

    /// Takes one request, or says after what time it could be taken. Time is counted from wherever the caller likes and
    /// does not go back.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let even = self.even.max(now) + self.interval;
        let ahead = even - now;
        if ahead > BURST {
            return Err(ahead - BURST);
        }
        self.even = even;
        Ok(())
    }
}

const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_at_once_and_then_evenly() {
        let mut rate = Rate::new(4);
        let at = |ms: u64| Duration::from_millis(10_000 + ms);
        for _ in 0..4 {
            assert_eq!(rate.take(at(0)), Ok(()));
        }
        assert_eq!(rate.take(at(0)), Err(Duration::from_millis(250)));
        assert_eq!(rate.take(at(100)), Err(Duration::from_millis(150)));
        // What was refused has cost nothing.
        assert_eq!(rate.take(at(250)), Ok(()));
        assert_eq!(rate.take(at(250)), Err(Duration::from_millis(250)));
        // Silence is not saved up beyond a second.
        for _ in 0..4 {
            assert_eq!(rate.take(at(60_000)), Ok(()));
        }
        assert!(rate.take(at(60_000)).is_err());
    }

    #[test]
    fn none_a_second_is_one() {
        let mut rate = Rate::new(0);
        assert_eq!(rate.take(Duration::ZERO), Ok(()));
        assert_eq!(rate.take(Duration::ZERO), Err(Duration::from_secs(1)));
    }
}
