//! What kernels cost, and how much of one fits into a quantum. There is no device here and no clock.
//!
//! What a kernel takes is a *latency*, however little it does, and a *rate* for each unit of its work.
//! The latency is what small work was seen to take, and no more than any: on a card that runs a thousand workgroups at
//! once, one takes as long as all of them, and says nothing of the rate. So work whose rate makes up
//! less than [`FLOOR`] of a quantum teaches the latency alone; whatever it takes, and if it does
//! nothing at all, what is next is cut as it would have been before. All other work teaches the rate:
//! what is more than was thought is believed at once, of what is less a half.

use std::ops::Range;

/// What one kernel has been seen to cost, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pace {
    latency: f64,
    rate: f64,
}

/// What a unit of work is taken to cost before anybody knows: so much that the first slice is
/// small on any device.
const FIRST_RATE: f64 = 250_000.0;
/// Less of a quantum than this teaches no rate.
const FLOOR: f64 = 0.125;
/// Workgroups in one dispatch, at most: the least that any adapter takes.
const DISPATCH: u32 = 65_535;

impl Pace {
    pub(crate) const NEW: Self = Self {
        latency: 0.0,
        rate: FIRST_RATE,
    };

    /// What so much work will take.
    pub(crate) fn expects(&self, units: f64) -> f64 {
        self.latency + self.rate * units
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

/// Teaches the kernels of one submission, each there once with all its work and in how many
/// dispatches, by what all took together. That tells of one kernel if it makes up most of it; else
/// only whether they took far longer than was thought.
pub(crate) fn learn(paces: &mut [(Pace, f64, u32)], took: f64, quantum: f64) {
    let expected = |&(pace, units, times): &(Pace, f64, u32)| {
        pace.expects(units) + pace.latency * f64::from(times - 1)
    };
    let all: f64 = paces.iter().map(expected).sum();
    for taught in paces {
        let own = expected(taught);
        let (pace, units, times) = taught;
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
                let count = pace.fitting(QUANTUM, &load, from..groups).max(1);
                let units = load.of(from..from + count);
                took.push(self.takes(units));
                pace.learn(units, self.takes(units), QUANTUM);
                from += count;
            }
            took
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
            latency: 0.0,
            rate: 1e-3,
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
        };
        // 10 for being there, 2 times 5 for each of the first.
        assert_eq!(pace.fitting(60.0, &load, 0..1000), 5);
        assert_eq!(pace.fitting(60.0, &load, 18..1000), 2 + 15);
        assert_eq!(pace.fitting(60.0, &load, 20..1000), 980);
    }

    /// Of several kernels in a submission the one learns that made up most of it.
    #[test]
    fn a_kernel_learns_nothing_from_others() {
        let pace = |rate| Pace { latency: 0.0, rate };
        let mut paces = [(pace(100.0), 10_000.0, 1), (pace(1.0), 10_000.0, 1)];
        learn(&mut paces, 2_010_000.0, QUANTUM);
        assert_eq!(paces.map(|(pace, ..)| pace.rate), [200.0, 1.0]);
        let mut paces = [(pace(10.0), 10_000.0, 1); 3];
        learn(&mut paces, 150_000.0, QUANTUM);
        assert_eq!(paces.map(|(pace, ..)| pace.rate), [10.0; 3]);
        // Where nobody knows who it was they all are taken to be slower.
        let mut paces = [(pace(40.0), 10_000.0, 1); 3];
        learn(&mut paces, 3_600_000.0, QUANTUM);
        assert_eq!(paces.map(|(pace, ..)| pace.rate), [120.0; 3]);
    }
}
