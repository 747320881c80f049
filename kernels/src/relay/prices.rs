//! What one member takes for each kind of work, curve and size.
//!
//! **The first time does not count.** Kernels are compiled in it, tables of a domain made, memory is touched for the first time: it may take a
//! thousand times as long as the second, and a device that was judged by it would never be asked again.
//!
//! **What is known grows old.** A driver was updating, somebody else had the card: whoever was slow then may be quick now, and is
//! not asked any more. So each price counts for how long the others have done that work since it was last measured. When that is a hundred times
//! what the work would take here, it is done here once. Trying costs a hundredth of the time at most, however slow
//! the device is.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{Kind, SIZES};
use crate::device::CurveId;

/// By kind, curve and log2 of the size.
pub(super) struct Prices(Vec<Figure>);

#[derive(Default)]
struct Figure {
    /// 0: not known.
    nanoseconds: AtomicU64,
    /// Whether the work has been done once, or its price is known from before.
    is_tried: AtomicBool,
    /// Nanoseconds for which others have done such work since it was measured here.
    elsewhere: AtomicU64,
}

impl Default for Prices {
    fn default() -> Prices {
        let count = Kind::ALL.len() * 2 * SIZES;
        Prices((0..count).map(|_| Figure::default()).collect())
    }
}

impl Prices {
    fn at(&self, kind: Kind, curve: CurveId, log2: u32) -> &Figure {
        let curve = usize::from(curve == CurveId::Bls12_381);
        let row = kind as usize * 2 + curve;
        &self.0[row * SIZES + (log2 as usize).min(SIZES - 1)]
    }

    fn log2(size: usize) -> u32 {
        size.max(1).next_power_of_two().ilog2()
    }

    /// Takes what was measured before.
    pub(super) fn believe(&self, kind: Kind, curve: CurveId, log2: u32, nanoseconds: u64) {
        let price = self.at(kind, curve, log2);
        price.is_tried.store(true, Ordering::Relaxed);
        price.elsewhere.store(0, Ordering::Relaxed);
        price.nanoseconds.store(nanoseconds, Ordering::Relaxed);
    }

    /// What has been measured; 0: nothing.
    pub(super) fn known(&self, kind: Kind, curve: CurveId, log2: u32) -> u64 {
        self.at(kind, curve, log2)
            .nanoseconds
            .load(Ordering::Relaxed)
    }

    /// By the nearest size that is known, the larger of two, as if time grew with size. None: nothing is.
    pub(super) fn guess(&self, kind: Kind, curve: CurveId, size: usize) -> u64 {
        let wanted = Prices::log2(size);
        let known = |log2: u32| {
            let price = self.known(kind, curve, log2);
            (price > 0).then_some((log2, price))
        };
        let nearest = (0..SIZES as u32).find_map(|distance| {
            let above = Some(wanted + distance).filter(|&log2| (log2 as usize) < SIZES);
            let below = wanted.checked_sub(distance);
            above.and_then(known).or_else(|| below.and_then(known))
        });
        nearest.map_or(0, |(log2, price)| scaled(price, size, 1 << log2))
    }

    /// For each power of two, none below the one before it; `None` if nothing is known.
    pub(super) fn times(&self, kind: Kind, curve: CurveId) -> Option<[u64; SIZES]> {
        let mut times = [0; SIZES];
        let mut longest = 0;
        for (log2, time) in times.iter_mut().enumerate() {
            longest = self.guess(kind, curve, 1 << log2).max(longest);
            *time = longest;
        }
        (longest > 0).then_some(times)
    }

    /// The member took so long.
    pub(super) fn learn(&self, kind: Kind, curve: CurveId, size: usize, nanoseconds: u64) {
        let log2 = Prices::log2(size);
        let price = self.at(kind, curve, log2);
        if !price.is_tried.swap(true, Ordering::Relaxed) {
            // Where a guess stands for it meanwhile, it is tried again soon.
            price.elsewhere.store(u64::MAX / 2, Ordering::Relaxed);
            return;
        }
        price.elsewhere.store(0, Ordering::Relaxed);
        let nanoseconds = scaled(nanoseconds, 1 << log2, size.max(1));
        let new = match price.nanoseconds.load(Ordering::Relaxed) {
            // What it was no longer is. Should this be chance, it is asked again, and the mean comes back.
            old if nanoseconds < old / 2 => nanoseconds,
            0 => nanoseconds,
            old => old - old / 4 + nanoseconds / 4,
        };
        // Two threads that learn at once may lose one of the two: it is a mean of many.
        price.nanoseconds.store(new.max(1), Ordering::Relaxed);
    }

    /// Another member did such work, and took so long.
    pub(super) fn done_elsewhere(&self, kind: Kind, curve: CurveId, size: usize, nanoseconds: u64) {
        let price = self.at(kind, curve, Prices::log2(size));
        // Two threads at once may lose one of the two here too.
        let elsewhere = price.elsewhere.load(Ordering::Relaxed);
        let elsewhere = elsewhere.saturating_add(nanoseconds);
        price.elsewhere.store(elsewhere, Ordering::Relaxed);
    }

    /// Whether what is known is so old that it is time to try again.
    pub(super) fn is_old(&self, kind: Kind, curve: CurveId, size: usize) -> bool {
        let price = self.at(kind, curve, Prices::log2(size));
        let guess = self.guess(kind, curve, size);
        guess > 0 && price.elsewhere.load(Ordering::Relaxed) / RARELY >= guess
    }

    /// Somebody is about to try: nobody else need.
    pub(super) fn is_being_tried(&self, kind: Kind, curve: CurveId, size: usize) {
        let price = self.at(kind, curve, Prices::log2(size));
        price.elsewhere.store(0, Ordering::Relaxed);
    }
}

/// The time for `size`, if that for `of` is this.
fn scaled(nanoseconds: u64, size: usize, of: usize) -> u64 {
    let time = u128::from(nanoseconds) * size as u128 / of as u128;
    u64::try_from(time).unwrap_or(u64::MAX)
}

/// How much longer than a try others have to work before it.
const RARELY: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: Kind = Kind::MsmG1;
    const CURVE: CurveId = CurveId::Bn254;

    #[test]
    fn the_first_time_does_not_count() {
        let prices = Prices::default();
        prices.learn(KIND, CURVE, 1 << 10, 30_000_000_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 10), 0, "not known yet");
        prices.learn(KIND, CURVE, 1 << 10, 1_000_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 10), 1_000_000);
        // Neither that of another size, which is guessed meanwhile, and tried again soon.
        prices.learn(KIND, CURVE, 1 << 12, 30_000_000_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 12), 4_000_000);
        assert!(prices.is_old(KIND, CURVE, 1 << 12));
        assert!(!prices.is_old(KIND, CURVE, 1 << 10));
        // What was kept was measured before.
        prices.believe(KIND, CURVE, 11, 2_000_000);
        prices.learn(KIND, CURVE, 1 << 11, 4_000_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 11), 2_500_000);
    }

    #[test]
    fn what_was_slow_is_tried_again_for_a_hundredth_of_the_time() {
        let prices = Prices::default();
        assert!(!prices.is_old(KIND, CURVE, 1 << 10), "it is tried anyway");
        prices.believe(KIND, CURVE, 10, 1_000_000);
        let (mut tries, mut elsewhere) = (0, 0);
        for _ in 0..100_000 {
            match prices.is_old(KIND, CURVE, 1 << 10) {
                true => {
                    prices.is_being_tried(KIND, CURVE, 1 << 10);
                    assert!(!prices.is_old(KIND, CURVE, 1 << 10), "one tries");
                    prices.learn(KIND, CURVE, 1 << 10, 1_000_000);
                    tries += 1;
                }
                false => {
                    prices.done_elsewhere(KIND, CURVE, 1 << 10, 10_000);
                    elsewhere += 10_000;
                }
            }
        }
        assert!(tries > 5);
        assert!(tries * 1_000_000 * RARELY <= elsewhere, "{tries}");
        // Once it is quick it is known to be.
        prices.learn(KIND, CURVE, 1 << 10, 1_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 10), 1_000);
        prices.learn(KIND, CURVE, 1 << 10, 3_000);
        assert_eq!(prices.guess(KIND, CURVE, 1 << 10), 1_500);
    }
}
