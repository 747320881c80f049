//! What kernels cost, and how much of one fits into a quantum. There is no device here and no clock.
//!
//! What a kernel takes is a *latency*, however little it does, and a *rate* for each unit of its work.
//! The latency is what small work was seen to take, and no more than any: on a card that runs a thousand workgroups at
//! once, one takes as long as all of them, and says nothing of the rate. So work whose rate makes up
//! less than [`FLOOR`] of a quantum teaches the latency alone; whatever it takes, and if it does
//! nothing at all, what is next is cut as it would have been before. All other work teaches the rate:
//! what is more than was thought is believed at once, of what is less a half.
//!
//! Where a single workgroup takes longer than a quantum (sums in G2 on most cards: a thread adds up to 32 points,
//! and each product waits for the one before), none would ever fit, and a card would do one at a time and idle
//! with the rest of itself. So after such a one two are run. If they take hardly longer, workgroups run beside each
//! other, and from then on as many go together as at most double what one takes; if they take twice as long,
//! the device does one after the other, and the next try is long after.

use std::ops::Range;

/// What one kernel has been seen to cost, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    latency: f64,
    rate: f64,
    /// The units of the last workgroup that was alone and took longer than a quantum, and how long.
    single: Option<(f64, f64)>,
    /// What one takes, where others run beside it.
    beside: Option<f64>,
    /// Quanta until that is looked at again, and how many it was the last time.
    wait: u32,
    waits: u32,
}

/// What a unit of work is taken to cost before anybody knows: so much that the first slice is
/// small on any device.
const FIRST_RATE: f64 = 250_000.0;
/// Less of a quantum than this teaches no rate.
const FLOOR: f64 = 0.125;
/// Quanta from one look whether workgroups run beside each other to the next, at first and at most.
const LOOK: u32 = 64;
const LOOK_MAX: u32 = 1024;
/// Workgroups in one dispatch, at most: the least that any adapter takes.
const DISPATCH: u32 = 65_535;

impl Pace {
    pub(crate) const NEW: Self = Self {
        latency: 0.0,
        rate: FIRST_RATE,
        single: None,
        beside: None,
        wait: 0,
        waits: 0,
    };

    /// What so much work will take.
    pub(crate) fn expects(&self, units: f64) -> f64 {
        self.latency + self.rate * units
    }

    /// What a quantum may take that has `quantum` and begins with this.
    pub(crate) fn budget(&self, quantum: f64) -> f64 {
        self.beside
            .map_or(quantum, |alone| quantum.max(2.0 * alone))
    }

    /// How many workgroups to run where none fits.
    pub(crate) fn least(&self) -> u32 {
        if self.single.is_some() && self.wait == 0 {
            2
        } else {
            1
        }
    }

    /// So many workgroups were all of a quantum. Whether that has taught all that it can.
    fn see(&mut self, groups: u32, units: f64, took: f64, quantum: f64) -> bool {
        if groups == 1 {
            let is_long = took > quantum;
            self.single = is_long.then_some((units, took));
            self.beside = self.beside.filter(|_| is_long);
            self.wait = self.wait.saturating_sub(1);
            return false;
        }
        if let Some(alone) = self.beside {
            self.beside = Some(alone.min(took)).filter(|_| self.wait > 1);
            self.wait = self.wait.saturating_sub(1);
            return false;
        }
        let Some((fewer, alone)) = self.single.take().filter(|_| groups == 2) else {
            return false;
        };
        if took - alone < alone / 2.0 {
            let one = alone.min(took);
            let more = (took - one) / (units - fewer).max(f64::MIN_POSITIVE);
            // From here on it grows by what quanta take.
            self.rate = more.clamp(self.rate / 2.0, self.rate);
            self.latency = one;
            self.beside = Some(one);
            (self.wait, self.waits) = (LOOK, 0);
            return true;
        }
        self.waits = (2 * self.waits).clamp(LOOK, LOOK_MAX);
        self.wait = self.waits;
        false
    }

    /// How many workgroups fit into what is left of a quantum, of those from `groups.start` on.
    pub(crate) fn fitting(&self, left: f64, load: &Load, groups: Range<u32>) -> u32 {
        let fits = |count: u32| {
            let units = load.of(groups.start..groups.start + count);
            self.expects(units) <= left
        };
        let (mut most, mut over) = (0, (groups.end - groups.start).min(DISPATCH) + 1);
        while over - most > 1 {
            let middle = most + (over - most) / 2;
            if fits(middle) {
                most = middle;
            } else {
                over = middle;
            }
        }
        most
    }

    /// So much work took so long, where a quantum may take `quantum`.
    pub(crate) fn learn(&mut self, units: f64, took: f64, quantum: f64) {
        self.latency = self.latency.min(took);
        let thought = self.rate * units;
        if thought < FLOOR * quantum {
            self.latency = (self.latency + (took - thought).max(0.0)) / 2.0;
            return;
        }
        let ratio = ((took - self.latency) / thought).clamp(0.125, 8.0);
        let believed = if ratio < 1.0 {
            (1.0 + ratio) / 2.0
        } else {
            ratio
        };
        self.rate = (self.rate * believed).max(1e-3);
    }
}

/// What the workgroups of a step have to do, in units of its kernel's own.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Load {
    /// From which workgroup on each has how much, in order; and how much all before have.
    parts: Vec<(u32, f64, f64)>,
}

impl Load {
    /// All the same.
    pub(crate) fn even(units: f64) -> Self {
        Self {
            parts: vec![(0, units, 0.0)],
        }
    }

    /// From which workgroup on each has how much, in order; the first is 0.
    pub(crate) fn new(from: impl IntoIterator<Item = (u32, f64)>) -> Self {
        let mut parts: Vec<(u32, f64, f64)> = Vec::new();
        for (at, units) in from {
            match parts.last() {
                Some(&(_, same, _)) if same == units => {}
                Some(&(last, each, before)) => {
                    parts.push((at, units, before + f64::from(at - last) * each));
                }
                None => parts.push((0, units, 0.0)),
            }
        }
        Self { parts }
    }

    pub(crate) fn of(&self, groups: Range<u32>) -> f64 {
        let before = |group: u32| {
            let next = self.parts.partition_point(|&(at, ..)| at <= group);
            let place = next.checked_sub(1).and_then(|place| self.parts.get(place));
            place.map_or(0.0, |&(at, each, before)| {
                before + f64::from(group - at) * each
            })
        };
        before(groups.end) - before(groups.start)
    }
}

/// What a kernel had to do in one submission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) pace: Pace,
    pub(crate) units: f64,
    /// In how many dispatches, of how many workgroups together.
    pub(crate) times: u32,
    pub(crate) groups: u32,
}

impl Share {
    fn expected(&self) -> f64 {
        self.pace.expects(self.units) + self.pace.latency * f64::from(self.times - 1)
    }
}

/// Teaches the kernels of one submission, each there once with all its work, by what all took together. That tells of one
/// kernel if it makes up most of it; else only whether they took far longer than was thought.
pub(crate) fn learn(shares: &mut [Share], took: f64, quantum: f64) {
    if let [
        Share {
            pace,
            units,
            times: 1,
            groups,
        },
    ] = shares
        && pace.see(*groups, *units, took, quantum)
    {
        return;
    }
    let all: f64 = shares.iter().map(Share::expected).sum();
    for taught in shares {
        let own = taught.expected();
        let Share {
            pace, units, times, ..
        } = taught;
        let took_by_it = if own >= all / 2.0 {
            took - (all - own)
        } else if took > 2.0 * all {
            own * took / all
        } else {
            continue;
        };
        let once = took_by_it - pace.latency * f64::from(*times - 1);
        pace.learn(*units, once.max(0.0), quantum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUANTUM: f64 = 1_500_000.0;

    /// A device whose clock is a sum.
    struct Card {
        latency: f64,
        rate: f64,
    }

    impl Card {
        fn takes(&self, units: f64) -> f64 {
            self.latency + self.rate * units
        }

        /// So many workgroups of a unit, in slices that fit; says what each took.
        fn run(&self, pace: &mut Pace, groups: u32) -> Vec<f64> {
            let load = Load::even(1.0);
            let (mut from, mut took) = (0, Vec::new());
            while from < groups {
                let left = pace.budget(QUANTUM);
                let count = match pace.fitting(left, &load, from..groups) {
                    0 => pace.least().min(groups - from),
                    some => some,
                };
                let units = load.of(from..from + count);
                took.push(self.takes(units));
                let mut share = [share(*pace, units, 1)];
                share[0].groups = count;
                learn(&mut share, self.takes(units), QUANTUM);
                *pace = share[0].pace;
                from += count;
            }
            took
        }
    }

    fn share(pace: Pace, units: f64, times: u32) -> Share {
        Share {
            pace,
            units,
            times,
            groups: units as u32,
        }
    }

    fn most(took: &[f64]) -> f64 {
        took.iter().copied().fold(0.0, f64::max)
    }

    const CARDS: [Card; 3] = [
        // One that runs all at once, one that runs one after the other, and what is between.
        Card {
            latency: 600_000.0,
            rate: 40.0,
        },
        Card {
            latency: 0.0,
            rate: 100_000.0,
        },
        Card {
            latency: 20_000.0,
            rate: 1_000.0,
        },
    ];

    #[test]
    fn slices_grow_to_a_quantum_and_never_far_beyond() {
        for card in CARDS {
            let mut pace = Pace::NEW;
            let first = card.run(&mut pace, 200_000);
            assert!(most(&first) <= 1.8 * QUANTUM, "{}", most(&first));
            let took = card.run(&mut pace, 200_000);
            assert!(most(&took) <= 1.2 * QUANTUM, "{}", most(&took));
            let whole = took.iter().filter(|&&took| took >= 0.5 * QUANTUM);
            assert!(whole.count() + 1 >= took.len(), "{:?}", &took[..8]);
        }
    }

    /// Neither small work, of which a card may take as long as of large, nor such that turns out to be
    /// nothing changes how large work is cut.
    #[test]
    fn small_work_says_nothing_of_large() {
        for card in CARDS {
            let mut pace = Pace::NEW;
            card.run(&mut pace, 200_000);
            let before = pace;
            let quanta = card.run(&mut pace, 200_000).len();
            let small = (FLOOR * QUANTUM / 2.0 / card.rate).floor().max(1.0);
            for _ in 0..100 {
                pace.learn(small, card.takes(small), QUANTUM);
                pace.learn(small, 0.0, QUANTUM);
            }
            assert!(pace.rate >= before.rate / 1.3, "{pace:?} after {before:?}");
            let took = card.run(&mut pace, 200_000);
            assert!(most(&took) <= 1.8 * QUANTUM, "{}", most(&took));
            assert!(
                took.len() <= quanta * 5 / 4 + 2,
                "{} after {quanta}",
                took.len()
            );
        }
    }

    /// Whatever else the machine does now and then costs some quanta, and is forgotten.
    #[test]
    fn an_interruption_is_forgotten() {
        for card in CARDS {
            let mut pace = Pace::NEW;
            card.run(&mut pace, 200_000);
            let quanta = card.run(&mut pace, 200_000).len();
            pace.learn(1.0, 20.0 * QUANTUM, QUANTUM);
            let units = f64::from(pace.fitting(QUANTUM, &Load::even(1.0), 0..60_000));
            pace.learn(units, 20.0 * QUANTUM, QUANTUM);
            let took = card.run(&mut pace, 200_000).len();
            assert!(took <= quanta + 12, "{took} quanta after {quanta}");
        }
    }

    #[test]
    fn no_dispatch_is_larger_than_adapters_take() {
        let pace = Pace {
            rate: 1e-3,
            ..Pace::NEW
        };
        let even = Load::even(1.0);
        assert_eq!(pace.fitting(QUANTUM, &even, 0..u32::MAX), 65_535);
        assert_eq!(pace.fitting(QUANTUM, &even, 7..100), 93);
        assert_eq!(pace.fitting(0.0, &even, 7..100), 0);
    }

    #[test]
    fn workgroups_count_for_what_they_have() {
        let load = Load::new([(0, 5.0), (10, 5.0), (20, 1.0), (40, 0.0)]);
        assert_eq!(load.of(0..20), 100.0);
        assert_eq!(load.of(19..21), 6.0);
        assert_eq!(load.of(30..1000), 10.0);
        let pace = Pace {
            latency: 10.0,
            rate: 2.0,
            ..Pace::NEW
        };
        // 10 for being there, 2 times 5 for each of the first.
        assert_eq!(pace.fitting(60.0, &load, 0..1000), 5);
        assert_eq!(pace.fitting(60.0, &load, 18..1000), 2 + 15);
        assert_eq!(pace.fitting(60.0, &load, 20..1000), 980);
    }

    /// One workgroup takes longer than a quantum, and a thousand hardly longer than one.
    #[test]
    fn a_card_that_has_long_threads_runs_many_beside_each_other() {
        for latency in [1.6, 2.5, 6.0] {
            let card = Card {
                latency: latency * 1e6,
                rate: 40.0,
            };
            let mut pace = Pace::NEW;
            card.run(&mut pace, 200_000);
            let took = card.run(&mut pace, 200_000);
            // Each look at one alone costs two quanta and what it takes to grow again.
            let bound = 2.0 * card.latency;
            assert!(most(&took) <= 1.1 * bound.max(QUANTUM), "{}", most(&took));
            assert!(took.len() <= 200, "{} quanta of {latency} ms", took.len());
        }
    }

    /// One after the other, each longer than a quantum: two together are a try, and tries are rare.
    #[test]
    fn a_device_that_does_one_at_a_time_is_given_one_at_a_time() {
        let card = Card {
            latency: 0.0,
            rate: 2.5e6,
        };
        let mut pace = Pace::NEW;
        card.run(&mut pace, 100);
        let took = card.run(&mut pace, 4_000);
        assert!(most(&took) <= 2.0 * card.rate, "{}", most(&took));
        let tries = took.iter().filter(|&&took| took > card.rate).count();
        assert!((1..=8).contains(&tries), "{tries} of {}", took.len());
    }

    /// Something else held the machine up while one workgroup was alone, or while two were.
    #[test]
    fn an_interruption_makes_no_long_quanta() {
        for (first, second) in [(50.0, 0.1), (2.0, 50.0), (50.0, 50.0)] {
            let card = &CARDS[2];
            let mut pace = Pace::NEW;
            for (groups, ms) in [(1, first), (2, second)] {
                let mut share = [share(pace, f64::from(groups), 1)];
                learn(&mut share, ms * 1e6, QUANTUM);
                pace = share[0].pace;
            }
            card.run(&mut pace, 200_000);
            let took = card.run(&mut pace, 200_000);
            assert!(most(&took) <= 1.8 * QUANTUM, "{}", most(&took));
        }
    }

    /// Of several kernels in a submission the one learns that made up most of it.
    #[test]
    fn a_kernel_learns_nothing_from_others() {
        let of = |rate| share(Pace { rate, ..Pace::NEW }, 10_000.0, 1);
        let mut shares = [of(100.0), of(1.0)];
        learn(&mut shares, 2_010_000.0, QUANTUM);
        assert_eq!(shares.map(|it| it.pace.rate), [200.0, 1.0]);
        let mut shares = [of(10.0); 3];
        learn(&mut shares, 150_000.0, QUANTUM);
        assert_eq!(shares.map(|it| it.pace.rate), [10.0; 3]);
        // Where nobody knows who it was they all are taken to be slower.
        let mut shares = [of(40.0); 3];
        learn(&mut shares, 3_600_000.0, QUANTUM);
        assert_eq!(shares.map(|it| it.pace.rate), [120.0; 3]);
    }
}
