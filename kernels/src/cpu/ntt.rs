//! Number-theoretic transforms in passes that fit the cache.
//!
//! A transform of 2^m elements has m levels of 2^(m-1) butterflies. Decimation in frequency takes
//! natural order to bit-reversed order, its levels' distances falling from 2^(m-1) to 1;
//! decimation in time takes bit-reversed order to natural order, the distances rising. Levels are
//! grouped into passes of at most [`LEVELS_MAX`]. A pass over levels of distances 2^low up to
//! 2^(high-1) falls apart into independent units: the elements of one block of 2^high whose index
//! agrees in the low bits. A unit (or [`COLUMNS`] neighbouring ones, so that whole cache lines
//! are used) is copied into the lane's own memory, all levels of the pass are done there, and it
//! is copied back: the powers of two between its elements in the vector, which would make them
//! compete for few sets of the cache, are met only twice a pass. Units are what lanes share out
//! and what a quantum counts.
//!
//! [`Transform::Shift`] needs no bit reversal at all: decimation in frequency with the inverse
//! root, multiplication by v^i / n in bit-reversed order, decimation in time with the root. Its
//! two inner passes work on the same contiguous blocks, so they and the multiplication are one
//! pass. Forward and Inverse, which proofs do not use, take a pass of bit reversal; the factor 1/n of
//! an inverse belongs to the pass before.
//!
//! Twiddle factors lie level by level: w_(2h)^j at h + j for j < h, w_(2h) being the root of
//! order 2h. Those of the inverse are the same read backwards: w_(2h)^-j = -w_(2h)^(h - j).

mod levels;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use zeroize::Zeroize;

use crate::device::{DeviceError, Plan, Progress, Transform};
use crate::field::PrimeField;
use crate::lanes::{Engine, Laned, Line};

use super::Staged;
use super::calibration::CurveRates;
use super::plan::{Kernel, room, share};
use super::vector::Vector;
use levels::Tables;

/// The factors for one size of transform, for the engine that the device has.
pub(crate) struct Domain<F> {
    twiddles: OnceLock<Twiddles<F>>,
    /// v^rev(j) / n at j: made when the first shift is planned.
    scales: OnceLock<Scales<F>>,
}

enum Twiddles<F> {
    Scalar(Vec<F>),
    Lanes(Tables<F>),
}

enum Scales<F> {
    Scalar(Vec<F>),
    /// In blocks that are turned.
    Lanes(Vec<Line>),
}

impl<F> Default for Domain<F> {
    fn default() -> Self {
        Self {
            twiddles: OnceLock::new(),
            scales: OnceLock::new(),
        }
    }
}

/// log2 of the length of a vector to be transformed.
pub(crate) fn domain_log2<F: PrimeField>(
    len: usize,
    transform: Transform,
) -> Result<u32, DeviceError> {
    // A shift needs the root of twice the order.
    let max_log2 = F::TWO_ADICITY - u32::from(transform == Transform::Shift);
    if len < 2 || !len.is_power_of_two() || len.ilog2() > max_log2 {
        return Err(DeviceError::Domain { got: len, max_log2 });
    }
    Ok(len.ilog2())
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Domain<F> {
    /// Makes the factors that a transform of 2^log2 elements needs, if they are not there yet.
    /// The engine is the same for all transforms of a device.
    pub(crate) fn prepare(&self, log2: u32, transform: Transform, engine: Option<Engine>) {
        let engine = engine.filter(|_| log2 >= levels::LOG2_MIN);
        self.twiddles.get_or_init(|| {
            let twiddles = twiddles(log2);
            match engine {
                None => Twiddles::Scalar(twiddles),
                Some(engine) => Twiddles::Lanes(Tables::new(engine, &twiddles)),
            }
        });
        if transform == Transform::Shift {
            self.scales.get_or_init(|| {
                let scales = scales(log2);
                match engine {
                    None => Scales::Scalar(scales),
                    Some(engine) => Scales::Lanes(levels::turned(engine, &scales)),
                }
            });
        }
    }

    fn twiddles(&self) -> &Twiddles<F> {
        self.twiddles.get().expect("made before the plan was")
    }

    /// Whether these factors are for an engine, and for which.
    fn engine(&self) -> Option<Engine> {
        match self.twiddles() {
            Twiddles::Scalar(_) => None,
            Twiddles::Lanes(tables) => Some(tables.engine()),
        }
    }
}

fn root<F: PrimeField>(log2: u32) -> F {
    F::root_of_unity(log2).expect("the size was held against the two-adicity")
}

fn twiddles<F: PrimeField>(log2: u32) -> Vec<F> {
    let n = 1usize << log2;
    let mut twiddles = vec![F::ONE; n];
    let root = root::<F>(log2);
    let half = n / 2;
    let mut power = F::ONE;
    for place in &mut twiddles[half..] {
        *place = power;
        power *= root;
    }
    for i in (1..half).rev() {
        twiddles[i] = twiddles[2 * i];
    }
    // The loop takes w_(2h)^j from w_(4h)^(2j): place h + j from place 2h + 2j.
    twiddles
}

/// 1 / n for n = 2^log2.
fn inverse_of_size<F: PrimeField>(log2: u32) -> F {
    F::from(1u64 << log2)
        .inverse()
        .expect("a power of two is not zero")
}

fn scales<F: PrimeField>(log2: u32) -> Vec<F> {
    let n = 1usize << log2;
    let mut scales = vec![F::ONE; n];
    scales[0] = inverse_of_size(log2);
    // Place j + 2^k has, in reverse, the bit log2 - 1 - k more than place j.
    let mut step: F = root(log2 + 1);
    let steps: Vec<F> = (0..log2)
        .map(|_| {
            let power = step;
            step = step.square();
            power
        })
        .collect();
    for k in 0..log2 {
        let (known, next) = scales.split_at_mut(1 << k);
        let factor = steps[(log2 - 1 - k) as usize];
        for (next, known) in next.iter_mut().zip(&*known) {
            *next = *known * factor;
        }
    }
    scales
}

/// A plan of one transform.
pub(crate) struct Ntt<F> {
    domain: Arc<Domain<F>>,
    vector: Arc<Vector>,
    passes: Vec<Pass>,
    /// 1/n, by which an inverse multiplies behind its smallest levels, while they are at hand.
    scale: Option<F>,
    /// Elements of the largest unit, and the lines that they take.
    unit_max: usize,
    lines_max: usize,
    lanes: usize,
    butterfly_ns: f64,
    budget_ns: f64,
}

/// What one stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Levels of decimation in frequency, with the root or its inverse.
    Frequency { levels: Levels, inverse: bool },
    /// Levels of decimation in time, with the root.
    Time { levels: Levels },
    /// On contiguous blocks: the last levels of decimation in frequency with the inverse root,
    /// the scaling, the first levels of decimation in time with the root.
    Turn { levels: Levels },
    /// Bit reversal.
    Reverse,
}

/// Levels with distances 2^low up to 2^(high - 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Levels {
    low: u32,
    high: u32,
}

impl Levels {
    fn count(self) -> u32 {
        self.high - self.low
    }

    /// Neighbouring columns in a unit.
    fn columns(self) -> usize {
        COLUMNS.min(1 << self.low)
    }

    /// Whether the levels of distance 1 and 2 are among them. They are done together, four
    /// elements at a time: their factors are 1 and one fourth root, so three products in four
    /// fall away.
    fn ends_in_quads(self) -> bool {
        self.low == 0 && self.high >= 2
    }

    /// Elements of a unit.
    fn unit(self) -> usize {
        self.columns() << self.count()
    }
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Ntt<F> {
    /// A plan; the domain has been prepared for the vector's length and the transform.
    pub(crate) fn plan(
        domain: Arc<Domain<F>>,
        vector: Arc<Vector>,
        transform: Transform,
        lanes: usize,
        rates: &CurveRates,
    ) -> Arc<dyn Plan> {
        let log2 = vector.len().ilog2();
        // From the largest distances down, in groups as equal as possible.
        let groups = match log2 {
            0..=LEVELS_ALONE => 1,
            _ => log2.div_ceil(LEVELS_MAX).max(2),
        };
        let engine = domain.engine();
        // The innermost group on an engine has at least the levels of a turned block.
        let bound = |i: u32| {
            let bound = log2 - log2 * i / groups;
            if engine.is_some() && i == groups - 1 {
                bound.max(levels::LOG2_MIN)
            } else {
                bound
            }
        };
        let levels: Vec<Levels> = (0..groups)
            .map(|i| Levels {
                low: if i + 1 == groups { 0 } else { bound(i + 1) },
                high: if i == 0 { log2 } else { bound(i) },
            })
            .collect();
        let frequency = |inverse| {
            levels
                .iter()
                .map(move |&levels| Pass::Frequency { levels, inverse })
        };
        let passes: Vec<Pass> = match transform {
            Transform::Forward => frequency(false).chain([Pass::Reverse]).collect(),
            Transform::Inverse => frequency(true).chain([Pass::Reverse]).collect(),
            Transform::Shift => {
                let outer = &levels[..levels.len() - 1];
                let inner = levels[levels.len() - 1];
                frequency(true)
                    .take(outer.len())
                    .chain([Pass::Turn { levels: inner }])
                    .chain(outer.iter().rev().map(|&levels| Pass::Time { levels }))
                    .collect()
            }
        };
        let unit_max = levels.iter().map(|levels| levels.unit()).max().unwrap_or(0);
        let lines_max = engine.map_or(0, |e| levels::lines::<F>(e, unit_max));
        let kernel = Self {
            domain,
            vector,
            lanes,
            butterfly_ns: rates.butterfly_ns,
            budget_ns: rates.budget_ns,
            passes,
            scale: (transform == Transform::Inverse).then(|| inverse_of_size(log2)),
            unit_max,
            lines_max,
        };
        // Set aside here and first touched by the lane's own thread, for pages are zeroed by whoever
        // touches them, and lanes do so side by side.
        let states = (0..passes_lanes(&kernel)).map(|_| Units {
            left: 0..0,
            elements: Vec::with_capacity(unit_max),
            lines: Vec::with_capacity(lines_max),
        });
        let states: Vec<_> = states.collect();
        Staged::new(kernel, states)
    }

    /// Units of a pass.
    fn units(&self, pass: Pass) -> usize {
        let n = self.vector.len();
        match pass {
            Pass::Frequency { levels, .. } | Pass::Time { levels } | Pass::Turn { levels } => {
                n / levels.unit()
            }
            Pass::Reverse => n.div_ceil(REVERSE_UNIT),
        }
    }

    /// What a unit costs.
    fn unit_ns(&self, pass: Pass) -> f64 {
        let butterflies = |levels: Levels| {
            levels.unit() as f64 * (f64::from(levels.count()) / 2.0 * self.butterfly_ns + MOVE_NS)
        };
        match pass {
            Pass::Frequency { levels, .. } | Pass::Time { levels } => butterflies(levels),
            Pass::Turn { levels } => {
                2.0 * butterflies(levels) + levels.unit() as f64 * self.butterfly_ns
            }
            Pass::Reverse => REVERSE_UNIT as f64 * REVERSE_NS,
        }
    }

    /// Where in the vector the first element of a unit is.
    fn unit_start(levels: Levels, unit: usize) -> usize {
        let units_per_block = (1usize << levels.low) / levels.columns();
        let (block, part) = (unit / units_per_block, unit % units_per_block);
        (block << levels.high) + part * levels.columns()
    }

    fn load(&self, levels: Levels, start: usize, elements: &mut [F]) {
        for (row, elements) in elements.chunks_exact_mut(levels.columns()).enumerate() {
            for (column, element) in elements.iter_mut().enumerate() {
                *element = self.vector.element(start + (row << levels.low) + column);
            }
        }
    }

    fn store(&self, levels: Levels, start: usize, elements: &[F]) {
        for (row, elements) in elements.chunks_exact(levels.columns()).enumerate() {
            for (column, element) in elements.iter().enumerate() {
                self.vector
                    .set_element(start + (row << levels.low) + column, *element);
            }
        }
    }

    fn run_unit(&self, pass: Pass, unit: usize, state: &mut Units<F>) {
        let (Pass::Frequency { levels, .. } | Pass::Time { levels } | Pass::Turn { levels }) = pass
        else {
            return self.reverse(unit);
        };
        let elements = &mut state.elements[..levels.unit()];
        let start = Self::unit_start(levels, unit);
        self.load(levels, start, elements);
        match self.domain.twiddles() {
            Twiddles::Lanes(tables) => {
                let scales = match self.domain.scales.get() {
                    Some(Scales::Lanes(lines)) => &lines[..],
                    _ => &[],
                };
                tables.run_unit(pass, start, scales, self.scale, elements, &mut state.lines);
            }
            Twiddles::Scalar(twiddles) => match pass {
                Pass::Frequency { inverse, .. } => {
                    frequency_levels(levels, start, inverse, twiddles, elements);
                    if let Some(scale) = self.scale.filter(|_| levels.low == 0) {
                        for element in &mut *elements {
                            *element *= scale;
                        }
                    }
                }
                Pass::Time { .. } => time_levels(levels, start, twiddles, elements),
                Pass::Turn { .. } => {
                    let Some(Scales::Scalar(scales)) = self.domain.scales.get() else {
                        unreachable!("made before the plan was, for the same engine")
                    };
                    frequency_levels(levels, start, true, twiddles, elements);
                    for (element, scale) in elements.iter_mut().zip(&scales[start..]) {
                        *element *= *scale;
                    }
                    time_levels(levels, start, twiddles, elements);
                }
                Pass::Reverse => unreachable!("done above"),
            },
        }
        self.store(levels, start, elements);
    }

    /// Swaps the pairs whose smaller index is in the unit. A pair belongs to one unit alone.
    fn reverse(&self, unit: usize) {
        let n = self.vector.len();
        let shift = usize::BITS - n.ilog2();
        for i in unit * REVERSE_UNIT..((unit + 1) * REVERSE_UNIT).min(n) {
            let j = i.reverse_bits() >> shift;
            if j < i {
                continue;
            }
            let (x, y) = (self.vector.words(i), self.vector.words(j));
            self.vector.set_words(i, y);
            self.vector.set_words(j, x);
        }
    }
}

/// The most lanes that any pass has.
fn passes_lanes<F: PrimeField<Words = [u64; 4]> + Laned>(ntt: &Ntt<F>) -> usize {
    ntt.passes
        .iter()
        .map(|&pass| ntt.units(pass).min(ntt.lanes))
        .max()
        .unwrap_or(1)
}

/// What a lane keeps between quanta.
pub(crate) struct Units<F: Zeroize> {
    /// Units not yet done.
    left: Range<usize>,
    /// Room for one unit; holds nothing of value between quanta.
    elements: Vec<F>,
    /// The same for an engine's vectors.
    lines: Vec<Line>,
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Kernel for Ntt<F> {
    type Lane = Units<F>;

    fn lane_bytes(state: &Units<F>) -> usize {
        room(&state.elements) + room(&state.lines)
    }

    fn stages(&self) -> usize {
        self.passes.len()
    }

    fn name(&self, stage: usize) -> &'static str {
        match self.passes[stage] {
            Pass::Frequency { inverse: true, .. } => "ntt.inverse",
            Pass::Frequency { inverse: false, .. } | Pass::Time { .. } => "ntt.forward",
            Pass::Turn { .. } => "ntt.shift",
            Pass::Reverse => "ntt.reverse",
        }
    }

    fn open(&self, stage: usize) -> usize {
        self.units(self.passes[stage]).min(self.lanes)
    }

    fn begin(&self, stage: usize, lane: usize, state: &mut Units<F>) {
        state.elements.resize(self.unit_max, F::ZERO);
        state.lines.resize(self.lines_max, Line::EMPTY);
        state.left = share(self.units(self.passes[stage]), self.open(stage), lane);
    }

    fn run(&self, stage: usize, _: usize, state: &mut Units<F>) -> Result<Progress, &'static str> {
        let pass = self.passes[stage];
        let units = ((self.budget_ns / self.unit_ns(pass)) as usize).max(1);
        let end = state.left.end.min(state.left.start.saturating_add(units));
        for unit in state.left.start..end {
            self.run_unit(pass, unit, state);
        }
        state.left.start = end;
        Ok(if Range::is_empty(&state.left) {
            Progress::Done
        } else {
            Progress::More
        })
    }
}

/// The unit holds parts of a witness's polynomials.
impl<F: Zeroize> Drop for Units<F> {
    fn drop(&mut self) {
        self.elements.zeroize();
        self.lines.zeroize();
    }
}

/// Splits one level of a unit into runs whose twiddle factors are neighbours, and calls `run`
/// with the run's upper and lower elements, h, and the first j.
#[inline(always)]
fn each_run<F>(
    levels: Levels,
    level: u32,
    start: usize,
    elements: &mut [F],
    mut run: impl FnMut(&mut [F], &mut [F], usize, usize),
) {
    let columns = levels.columns();
    // Rows at this level's distance, and the distance in the vector.
    let rows = 1usize << (level - levels.low);
    let h = 1usize << level;
    let first = start & ((1 << levels.low) - 1);
    for block in elements.chunks_exact_mut(2 * rows * columns) {
        let (upper, lower) = block.split_at_mut(rows * columns);
        if levels.low == 0 {
            // One column: the rows themselves are neighbours.
            run(upper, lower, h, 0);
        } else {
            let pairs = upper
                .chunks_exact_mut(columns)
                .zip(lower.chunks_exact_mut(columns));
            for (row, (upper, lower)) in pairs.enumerate() {
                run(upper, lower, h, (row << levels.low) + first);
            }
        }
    }
}

fn frequency_levels<F: PrimeField>(
    levels: Levels,
    start: usize,
    inverse: bool,
    twiddles: &[F],
    elements: &mut [F],
) {
    let quads = levels.ends_in_quads();
    let low = if quads { 2 } else { levels.low };
    for level in (low..levels.high).rev() {
        each_run(levels, level, start, elements, |upper, lower, h, j| {
            if inverse {
                decimate_frequency_inverse(upper, lower, h, j, twiddles);
            } else {
                decimate_frequency(upper, lower, &twiddles[h + j..]);
            }
        });
    }
    if quads {
        // w_4, or its inverse, which is its negative.
        let w = if inverse { -twiddles[3] } else { twiddles[3] };
        for quad in elements.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *quad;
            let (even, odd) = (a + c, b + d);
            let (even_turned, odd_turned) = (a - c, (b - d) * w);
            *quad = [
                even + odd,
                even - odd,
                even_turned + odd_turned,
                even_turned - odd_turned,
            ];
        }
    }
}

fn time_levels<F: PrimeField>(levels: Levels, start: usize, twiddles: &[F], elements: &mut [F]) {
    let quads = levels.ends_in_quads();
    if quads {
        let w = twiddles[3];
        for quad in elements.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *quad;
            let (first, second) = (a + b, c + d);
            let (first_turned, second_turned) = (a - b, (c - d) * w);
            *quad = [
                first + second,
                first_turned + second_turned,
                first - second,
                first_turned - second_turned,
            ];
        }
    }
    let low = if quads { 2 } else { levels.low };
    for level in low..levels.high {
        each_run(levels, level, start, elements, |upper, lower, h, j| {
            for ((a, b), w) in upper.iter_mut().zip(lower).zip(&twiddles[h + j..]) {
                let t = *b * *w;
                *b = *a - t;
                *a += t;
            }
        });
    }
}

/// (a, b) becomes (a + b, (a - b) w).
#[inline]
pub(crate) fn decimate_frequency<F: PrimeField>(upper: &mut [F], lower: &mut [F], twiddles: &[F]) {
    for ((a, b), w) in upper.iter_mut().zip(lower).zip(twiddles) {
        let t = *a - *b;
        *a += *b;
        *b = t * *w;
    }
}

/// (a, b) becomes (a + b, (a - b) w^-1) = (a + b, (b - a) w_(2h)^(h - j)).
#[inline]
fn decimate_frequency_inverse<F: PrimeField>(
    upper: &mut [F],
    lower: &mut [F],
    h: usize,
    j: usize,
    twiddles: &[F],
) {
    let (mut upper, mut lower, mut j) = (upper, lower, j);
    if j == 0 {
        let (a, rest_upper) = upper.split_first_mut().expect("runs are not empty");
        let (b, rest_lower) = lower.split_first_mut().expect("runs are not empty");
        (*a, *b) = (*a + *b, *a - *b);
        (upper, lower, j) = (rest_upper, rest_lower, 1);
    }
    let backwards = twiddles[..=2 * h - j].iter().rev();
    for ((a, b), w) in upper.iter_mut().zip(lower).zip(backwards) {
        let t = *b - *a;
        *a += *b;
        *b = t * *w;
    }
}

/// A unit's levels on an engine, to be timed: how many butterflies it has, and one run of it.
pub(crate) fn trial<F: PrimeField + Laned>(engine: Engine) -> (usize, impl FnMut()) {
    let log2 = LEVELS_ALONE;
    let tables = Tables::new(engine, &twiddles::<F>(log2));
    let mut elements = vec![F::ONE; 1 << log2];
    let mut lines = vec![Line::EMPTY; levels::lines::<F>(engine, 1 << log2)];
    let levels = Levels { low: 0, high: log2 };
    let pass = Pass::Frequency {
        levels,
        inverse: true,
    };
    let run = move || tables.run_unit(pass, 0, &[], None, &mut elements, &mut lines);
    ((log2 as usize) << (log2 - 1), run)
}

/// The most levels of one pass: a unit of 2^10 rows of eight is 256 KiB, within a second-level
/// cache, and takes about 1.3 ms.
const LEVELS_MAX: u32 = 10;

/// Up to this size a transform is one unit: two passes would not pay for a second lane.
const LEVELS_ALONE: u32 = 9;

/// Neighbouring elements taken together: four cache lines, and runs long enough for their loop.
const COLUMNS: usize = 8;

/// Elements of a unit of bit reversal.
const REVERSE_UNIT: usize = 512;

/// Copying an element in and out of a unit.
const MOVE_NS: f64 = 8.0;

/// Fetching an element that is nowhere near, twice.
const REVERSE_NS: f64 = 30.0;
