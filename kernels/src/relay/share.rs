//! How many of a sum's points each member is to have, so that all end at the same time.
//!
//! A sum is a load that can be divided anywhere, and each member a machine whose time for a share never falls as
//! that grows: then shares are best when all that have one end together (divisible load theory; Bharadwaj et al., 1996). The time at
//! which they do is looked for by halving: by a given time each member has done so many points, and either these are
//! all or they are too few.
//!
//! It pays only if it ends clearly before the quickest member alone would: what is known of times is a
//! running mean, and each share folds its own buckets.

use super::SIZES;

/// What a member takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    /// Nanoseconds before it can begin, for what has to be copied to it.
    pub(super) start: u64,
    /// Nanoseconds for each power of two of points; none is below the one before it.
    pub(super) times: [u64; SIZES],
}

/// Points of each member, by its place.
pub(super) type Shares = [usize; super::MEMBERS_MAX];

impl Offer {
    /// When it has done so many points.
    pub(super) fn end(&self, points: usize) -> u64 {
        if points == 0 {
            return 0;
        }
        let log2 = (points.ilog2() as usize).min(SIZES - 2);
        let (from, to) = (self.times[log2], self.times[log2 + 1]);
        let beyond = (points - (1 << log2)) as u128;
        let more = (u128::from(to - from) * beyond) >> log2;
        self.start
            .saturating_add(from)
            .saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
    }

    /// How many of so many grains it has done by then.
    fn grains_by(&self, time: u64, grains: usize, points: usize) -> usize {
        let (mut done, mut beyond) = (0, grains + 1);
        while beyond - done > 1 {
            let middle = done + (beyond - done) / 2;
            match self.end((middle * GRAIN).min(points)) <= time {
                true => done = middle,
                false => beyond = middle,
            }
        }
        done
    }
}

/// The shares with which so many points are done soonest, if that is clearly sooner than by the quickest alone. All but
/// the last share are whole grains.
pub(super) fn share(points: usize, offers: &[Option<Offer>]) -> Option<Shares> {
    let grains = points.div_ceil(GRAIN);
    let all = || {
        offers
            .iter()
            .enumerate()
            .filter_map(|(at, it)| Some((at, it.as_ref()?)))
    };
    let alone = all().map(|(_, offer)| offer.end(points)).min()?;
    let is_enough = |time| {
        let done = all().map(|(_, offer)| offer.grains_by(time, grains, points));
        done.sum::<usize>() >= grains
    };
    let (mut too_soon, mut time) = (0, alone);
    // Finer than anything that is known.
    while time - too_soon > alone / 1024 + 1 {
        let middle = too_soon + (time - too_soon) / 2;
        match is_enough(middle) {
            true => time = middle,
            false => too_soon = middle,
        }
    }
    if time > alone - alone / GAIN {
        return None;
    }
    let mut shares = [0; super::MEMBERS_MAX];
    let mut left = grains;
    for (at, offer) in all() {
        let own = offer.grains_by(time, grains, points).min(left);
        left -= own;
        shares[at] = own * GRAIN;
    }
    // The last grain may not be whole.
    if let Some(last) = shares.iter_mut().rfind(|share| **share > 0) {
        *last -= grains * GRAIN - points;
    }
    let several = shares.iter().filter(|share| **share > 0).count() > 1;
    several.then_some(shares)
}

/// Points of the smallest share, and what shares are multiples of: the most that any plan's own grain may be.
pub(super) const GRAIN: usize = 1024;

/// A part of the time that has to be saved.
const GAIN: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::MEMBERS_MAX;

    /// A device with a cost for any sum, and one for each point.
    fn line(start: u64, fixed: u64, each: u64) -> Offer {
        Offer {
            start,
            times: std::array::from_fn(|log2| fixed + (each << log2)),
        }
    }

    fn makespan(shares: &[usize], offers: &[Option<Offer>]) -> u64 {
        let ends = shares.iter().zip(offers);
        let ends = ends.map(|(&share, offer)| offer.as_ref().map_or(0, |offer| offer.end(share)));
        ends.max().unwrap_or(0)
    }

    /// The best of all shares in whole grains.
    fn brute_force(points: usize, offers: &[Option<Offer>]) -> u64 {
        fn best(left: usize, points: usize, offers: &[Option<Offer>]) -> Option<u64> {
            let (first, rest) = offers.split_first()?;
            let shares = 0..=if first.is_some() { left } else { 0 };
            let with = shares.filter_map(|grains| {
                // The end of all is the end of the last grain, wherever that is: it costs no more than a whole one.
                let own = first
                    .as_ref()
                    .map_or(0, |it| it.end((grains * GRAIN).min(points)));
                match left - grains {
                    0 => Some(own),
                    left => Some(own.max(best(left, points, rest)?)),
                }
            });
            with.min()
        }
        best(points.div_ceil(GRAIN), points, offers).expect("somebody can do it")
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            // SplitMix64.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut x = self.0;
            x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (x ^ (x >> 31)) % bound
        }

        /// Any times that do not fall.
        fn offer(&mut self) -> Option<Offer> {
            if self.below(8) == 0 {
                return None;
            }
            let scale = 1 << (4 + self.below(4));
            let mut time = self.below(scale);
            let times = std::array::from_fn(|log2| {
                // Up to where sizes are, twice as much at each on average.
                if log2 < 20 {
                    time += self.below(2 * time + scale);
                }
                time
            });
            let start = self.below(4) / 3 * self.below(1000 * scale);
            Some(Offer { start, times })
        }
    }

    #[test]
    fn no_other_shares_end_sooner() {
        let (mut shared, mut whole) = (0, 0);
        for seed in 0..4000 {
            let mut random = Random(seed);
            let members = 1 + random.below(3) as usize;
            let offers: Vec<_> = (0..members).map(|_| random.offer()).collect();
            let points = 1 + random.below(24 * GRAIN as u64) as usize;
            let alone = offers.iter().flatten().map(|offer| offer.end(points)).min();
            let Some(alone) = alone else {
                assert!(share(points, &offers).is_none());
                continue;
            };
            let best = brute_force(points, &offers);
            let margin = alone / 1024 + 2;
            match share(points, &offers) {
                None => {
                    whole += 1;
                    assert!(
                        best + margin > alone - alone / GAIN,
                        "{seed}: {best} of {alone} and not shared"
                    );
                }
                Some(shares) => {
                    shared += 1;
                    let ends = makespan(&shares, &offers);
                    assert_eq!(shares.iter().sum::<usize>(), points, "{seed}");
                    assert!(ends <= best + margin, "{seed}: {ends}, not {best}");
                    assert!(ends <= alone - alone / GAIN, "{seed}: {ends} of {alone}");
                    let own = shares.iter().filter(|share| **share > 0);
                    let not_whole = own.rev().skip(1).filter(|share| **share % GRAIN != 0);
                    assert_eq!(not_whole.count(), 0, "{seed}: {:?}", &shares[..members]);
                }
            }
        }
        assert!(shared > 500 && whole > 500, "{shared} and {whole}");
    }

    #[test]
    fn equals_have_equal_shares_and_small_sums_stay_whole() {
        let equals = [Some(line(0, 0, 100)); 4];
        let shares = share(1 << 20, &equals).expect("four times as quick");
        for &own in &shares[..4] {
            assert!(own.abs_diff(1 << 18) <= 8 * GRAIN, "{own}");
        }
        // What a device costs for any sum at all is more than the other takes for this one.
        let far = [Some(line(0, 0, 100)), Some(line(0, 50_000_000, 30))];
        assert!(share(1 << 12, &far).is_none());
        let shares = share(1 << 22, &far).expect("it pays");
        assert!(shares[0] > GRAIN && shares[1] > shares[0], "{shares:?}");
        // A copy that takes as long as the whole sum does.
        let copied = [Some(line(0, 0, 100)), Some(line(200_000_000, 0, 10))];
        assert!(share(1 << 20, &copied).is_none());
        assert!(share(1 << 20, &[]).is_none());
        assert!(share(1 << 20, &[None; MEMBERS_MAX]).is_none());
        assert!(share(0, &equals).is_none());
    }
}
