//! How many points a slice of a sum has.
//!
//! A slice should take no longer than a quantum. But a call of ICICLE's costs something before it has
//! summed anything, and where that is much of a quantum, slices of a quantum would be little else: there a
//! slice may take twice what a call costs, and [`LONGEST`] at most. What a call costs is told apart from
//! what its points do by the times of two sizes.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Sizes are powers of two, counted from [`SLICE_MIN`]. Threads that ask and tell at the same time do no
/// harm.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    now: AtomicUsize,
    /// Nanoseconds that each size took, as a running mean; 0: not tried.
    times: [AtomicU64; SIZES],
    /// Slices that have taken longer than a quantum, since all sizes were tried anew.
    long: AtomicU32,
}

impl Slices {
    /// Points in the next slice, if there are so many.
    pub(crate) fn size(&self) -> usize {
        SLICE_MIN << self.now.load(Ordering::Relaxed)
    }

    /// So many points took so long. Of a slice that the end of its sum cuts short only that counts whether
    /// it was too long.
    pub(crate) fn took(&self, points: usize, time: Duration, quantum: Duration) {
        let now = self.now.load(Ordering::Relaxed);
        if points == SLICE_MIN << now {
            let time = match self.times[now].load(Ordering::Relaxed) {
                0 => nanoseconds(time).max(1),
                before => before / 2 + nanoseconds(time) / 2,
            };
            self.times[now].store(time, Ordering::Relaxed);
            let next = self.follows(now, time, nanoseconds(quantum));
            self.now.store(next, Ordering::Relaxed);
        }
        // Calls that seem to cost much may only have been slow for a while.
        if now > 0 && time > quantum && self.long.fetch_add(1, Ordering::Relaxed) + 1 == AGAIN {
            self.long.store(0, Ordering::Relaxed);
            for time in &self.times {
                time.store(0, Ordering::Relaxed);
            }
            self.now.store(0, Ordering::Relaxed);
        }
    }

    fn follows(&self, now: usize, time: u64, quantum: u64) -> usize {
        let longest = nanoseconds(LONGEST);
        let larger = (now + 1).min(SIZES - 1);
        let Some(call) = self.call() else {
            // A second size tells.
            return if time <= longest { larger } else { now };
        };
        let limit = quantum.max(longest.min(2 * call));
        let doubled = call + 2 * time.saturating_sub(call);
        match now {
            _ if time > limit => now.saturating_sub(1),
            _ if doubled <= limit => larger,
            _ => now,
        }
    }

    /// What a call costs without its points, by the smallest and the largest size that are known; never
    /// more than any took.
    fn call(&self) -> Option<u64> {
        let time = |size: &usize| self.times[*size].load(Ordering::Relaxed);
        let known = |size: &usize| time(size) > 0;
        let small = (0..SIZES).find(known)?;
        let large = (small + 1..SIZES).rfind(known)?;
        let times = (1u64 << (large - small)) - 1;
        let points = time(&large).saturating_sub(time(&small)) / times;
        let quickest = (0..SIZES).filter(known).map(|size| time(&size)).min()?;
        Some(time(&small).saturating_sub(points).min(quickest))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The fewest points of a slice: below, the way there and back is all that it costs.
const SLICE_MIN: usize = 1 << 10;

/// The most are 2^22: 128 MiB of scalars.
const SIZES: usize = 13;

/// The longest that a slice may take for what a call costs.
const LONGEST: Duration = Duration::from_millis(20);

/// After so many slices that took longer than a quantum, all sizes are tried anew.
const AGAIN: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: Duration = Duration::from_millis(2);

    /// A device whose calls cost `call` and whose points cost `point`, both in nanoseconds: the sizes of
    /// the slices of 2^20 points.
    fn sum(slices: &Slices, call: u64, point: u64) -> Vec<usize> {
        let (mut left, mut sizes) = (1 << 20, Vec::new());
        while left > 0 {
            let points = slices.size().min(left);
            sizes.push(points);
            let time = Duration::from_nanos(call + points as u64 * point);
            slices.took(points, time, QUANTUM);
            left -= points;
        }
        sizes
    }

    /// The longest slice of a second sum, and how many it has.
    fn settled(call: u64, point: u64) -> (Duration, usize) {
        let slices = Slices::default();
        sum(&slices, call, point);
        let sizes = sum(&slices, call, point);
        let points = sizes.iter().max().copied().unwrap_or_default() as u64;
        (Duration::from_nanos(call + points * point), sizes.len())
    }

    #[test]
    fn a_slice_takes_half_a_quantum_to_a_whole_one() {
        for point in [10, 30, 100, 900] {
            let (longest, _) = settled(0, point);
            let expected = QUANTUM / 2..=QUANTUM;
            assert!(expected.contains(&longest), "{point}: {longest:?}");
        }
    }

    #[test]
    fn calls_that_cost_much_have_points_enough() {
        let millisecond = 1_000_000;
        for (call, point, limit, most) in [
            (3 * millisecond, 100, 6, 80),
            (5 * millisecond, 10, 10, 12),
            (15 * millisecond, 10, 20, 12),
            // Nothing can be done about that.
            (50 * millisecond, 10, 51, 1024),
        ] {
            let (longest, slices) = settled(call, point);
            assert!(longest <= Duration::from_millis(limit), "{longest:?}");
            assert!(slices <= most, "{call}, {point}: {slices}");
        }
    }

    /// Its first call was slow, for whatever reason, or all were for a while: that is not held against it for
    /// good.
    #[test]
    fn calls_that_were_slow_once_are_tried_again() {
        let longest = |slices: &Slices, point: u64| {
            let points = sum(slices, 0, point).into_iter().max().unwrap_or_default();
            Duration::from_nanos(points as u64 * point)
        };
        let slices = Slices::default();
        slices.took(slices.size(), Duration::from_millis(9), QUANTUM);
        sum(&slices, 0, 100);
        assert!(longest(&slices, 100) <= QUANTUM);
        for point in [10, 100] {
            let slices = Slices::default();
            for _ in 0..10 {
                sum(&slices, 9_000_000, point);
            }
            for _ in 0..AGAIN {
                sum(&slices, 0, point);
            }
            let longest = longest(&slices, point);
            assert!(longest <= QUANTUM, "{point}: {longest:?}");
        }
    }
}
