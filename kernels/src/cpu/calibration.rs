//! What one unit of each kernel's work costs on this core, and how many make a quantum.
//!
//! Each kernel's inner operation is run a few hundred times on data in the first-level cache and
//! the fastest of several runs is taken, since whatever else the machine does can only slow one
//! down. To that comes what the quick run does not see, mostly memory: the figures stand for a line
//! or two fetched from the third-level cache at some 15 ns each, partly hidden by the work on
//! other elements. With them the median quantum of a sum of 2^16 points took 1.5 ms of 2.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::curve::accumulate::{Adder, Slot, Sources};
use crate::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use crate::device::{CurveId, Group};
use crate::field::{Field, PrimeField};
use crate::lanes::{Engine, Laned};

/// What a sum's choices cost beside additions to buckets, of which each is 1.
#[derive(Clone, Copy)]
pub(crate) struct Prices {
    /// An addition of one bucket to another: they lie together in the cache.
    pub(crate) fold: f64,
    /// What conflicts add to an addition where a batch is as large as the buckets are many.
    pub(crate) conflict: f64,
    /// What the endomorphism adds to an addition.
    pub(crate) turn: f64,
    /// Cutting a scalar in two.
    pub(crate) split: f64,
}

/// Costs for both curves.
pub(crate) struct Rates {
    pub(crate) bn254: CurveRates,
    pub(crate) bls12_381: CurveRates,
}

/// Costs for one curve, and the length of a quantum to hold against them.
pub(crate) struct CurveRates {
    /// What a quantum may cost; infinite if it is not to be cut.
    pub(crate) budget_ns: f64,
    /// An element of an element-wise product.
    pub(crate) element_ns: f64,
    /// A matrix entry.
    pub(crate) entry_ns: f64,
    /// A butterfly of a transform, its data at hand.
    pub(crate) butterfly_ns: f64,
    /// A look at a scalar, for the digit that one window has.
    pub(crate) look_ns: f64,
    /// Additions of points that are at hand.
    hot_g1_ns: f64,
    hot_g2_ns: f64,
}

impl Rates {
    /// The costs for one curve.
    pub(crate) fn of(&self, curve: CurveId) -> &CurveRates {
        match curve {
            CurveId::Bn254 => &self.bn254,
            CurveId::Bls12_381 => &self.bls12_381,
        }
    }

    /// Measures on the calling thread's core.
    pub(crate) fn measure(quantum: Duration, engine: Option<Engine>) -> Self {
        let budget_ns = if quantum == Duration::MAX {
            f64::INFINITY
        } else {
            quantum.as_nanos() as f64 * MARGIN
        };
        Self {
            bn254: CurveRates::measure::<Bn254>(budget_ns, engine),
            bls12_381: CurveRates::measure::<Bls12_381>(budget_ns, engine),
        }
    }
}

impl CurveRates {
    fn measure<C: Curve>(budget_ns: f64, engine: Option<Engine>) -> Self {
        let multiplication_ns = multiplication_ns::<C::Fr>();
        Self {
            budget_ns,
            element_ns: multiplication_ns + ELEMENT_MEMORY_NS,
            entry_ns: multiplication_ns + ENTRY_MEMORY_NS,
            butterfly_ns: butterfly_ns::<C::Fr>(engine),
            look_ns: LOOK_NS,
            hot_g1_ns: addition_ns::<C::Fq>(engine),
            hot_g2_ns: addition_ns::<C::Fq2>(engine),
        }
    }

    /// How many units of a cost make a quantum, at least one.
    pub(crate) fn units(&self, unit_ns: f64) -> usize {
        // A float beyond the integers, infinity too, becomes the largest of them.
        ((self.budget_ns / unit_ns) as usize).max(1)
    }

    /// An addition to a bucket.
    pub(crate) fn addition_ns(&self, group: Group) -> f64 {
        self.hot_ns(group) * ADDITION_FACTOR + ADDITION_MEMORY_NS
    }

    /// What sums are cut into windows by.
    pub(crate) fn prices(&self, group: Group, engine: Option<Engine>) -> Prices {
        // Scalar code multiplies by the cube root as often as it looks at a point, which is twice.
        let turn = if engine.is_some() { TURN } else { 2.0 * TURN };
        let hot_ns = self.hot_ns(group);
        let addition_ns = hot_ns + ADDITION_MEMORY_NS;
        Prices {
            fold: hot_ns / addition_ns,
            conflict: CONFLICT_NS / addition_ns,
            turn: turn * hot_ns / addition_ns,
            split: SPLIT_NS / addition_ns,
        }
    }

    fn hot_ns(&self, group: Group) -> f64 {
        match group {
            Group::G1 => self.hot_g1_ns,
            Group::G2 => self.hot_g2_ns,
        }
    }
}

fn elements<F: Field>(count: usize) -> Vec<F> {
    let mut x = F::ONE.double().double() + F::ONE;
    (0..count)
        .map(|_| {
            x = x.square() + F::ONE;
            x
        })
        .collect()
}

/// The fastest of several runs, for one of `count` operations.
fn fastest_ns(count: usize, mut run: impl FnMut()) -> f64 {
    let mut fastest = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        run();
        fastest = fastest.min(start.elapsed());
    }
    // A clock too coarse to see the run must not make quanta endless.
    (fastest.as_nanos() as f64 / count as f64).max(1.0)
}

fn multiplication_ns<F: PrimeField>() -> f64 {
    let factors = elements::<F>(COUNT);
    let mut products = factors.clone();
    fastest_ns(COUNT, || {
        for (product, factor) in products.iter_mut().zip(&factors) {
            *product *= *factor;
        }
        black_box(&mut products);
    })
}

fn butterfly_ns<F: PrimeField + Laned>(engine: Option<Engine>) -> f64 {
    if let Some(engine) = engine {
        let (butterflies, run) = super::ntt::trial::<F>(engine);
        return fastest_ns(butterflies, run);
    }
    let mut data = elements::<F>(3 * COUNT);
    let (values, twiddles) = data.split_at_mut(2 * COUNT);
    fastest_ns(COUNT, || {
        let (low, high) = values.split_at_mut(COUNT);
        super::ntt::decimate_frequency(low, high, twiddles);
        black_box(&mut *values);
    })
}

fn addition_ns<F: Coordinate>(engine: Option<Engine>) -> f64 {
    let coordinates = elements::<F>(4 * COUNT);
    // The formulas do not ask whether points are on the curve.
    let mut slots: Vec<Slot<F>> = coordinates
        .chunks_exact(2)
        .map(|pair| {
            let (x, y) = (pair[0], pair[1]);
            Slot::new(engine, &Affine { x, y })
        })
        .collect();
    let mut adder = Adder::new(engine, COUNT);
    fastest_ns(COUNT, || {
        for i in 0..COUNT as u32 {
            adder.push(i, COUNT as u32 + i);
        }
        adder.flush(&mut slots, Sources::Own);
    })
}

/// The part of a quantum that is planned for: what is left covers a clock that drops, a neighbour
/// on the same silicon, and the batch that is begun before the end and ended after it.
const MARGIN: f64 = 0.75;

const RUNS: usize = 4;
const COUNT: usize = 256;

const ELEMENT_MEMORY_NS: f64 = 8.0;
const ENTRY_MEMORY_NS: f64 = 20.0;
const ADDITION_MEMORY_NS: f64 = 25.0;

/// Scheduling, conflicts and part-filled batches, against the quick run's full ones.
const ADDITION_FACTOR: f64 = 1.4;

const LOOK_NS: f64 = 4.0;

/// What conflicts take of an addition's time where a batch is as large as the buckets are many, in
/// proportion to that: each is written to a queue and looked at again.
const CONFLICT_NS: f64 = 11.0;

/// One multiplication of an addition's six.
const TURN: f64 = 1.0 / 6.0;

/// Cutting a scalar in two: two dozen multiplications of words.
pub(super) const SPLIT_NS: f64 = 20.0;
