//! Sums of multiples of points: Pippenger's method, cut into quanta.
//!
//! Stage 0, `msm.recode`, sorts the scalars out. Zeros, and scalars of points at infinity, are
//! dropped; a scalar above r/2 is replaced by its negative and the point's sign flipped; ones are
//! put apart, to be added with no windows at all; scalars below 2^64 are kept apart from the
//! others, so that they take part in their few windows only. A witness is mostly zeros, ones
//! and small numbers.
//!
//! Stage 1, `msm.accumulate`, is a number of tasks that lanes take in turn. When it opens, the
//! counts are known, and so is the best window of c bits. A task is one window for one slice of
//! the scalars (slices only where there are more lanes than windows): each point goes into the
//! bucket that its signed digit names, of 2^(c-1), in batches that share an inversion
//! (`curve/accumulate.rs`), and the buckets are folded in place. Ones are tasks too, their points
//! dealt out to buckets in turn. A lane keeps its buckets, batch and position between quanta, so
//! the additions are the same whether it is cut or not. Buckets are the lane's, not the task's,
//! which keeps them few enough for the cache.
//!
//! Stage 2, `msm.combine`, doubles and adds the windows' sums.
//!
//! Where it costs less, scalars of full size are cut in two by the curve's endomorphism
//! (`curve/endomorphism.rs`) as they are sorted out: half as many windows, so half as many sets to
//! fold, and wider ones. Their upper half is a level whose points are those of the bases with x
//! multiplied by a cube root of one, which an engine does as it gathers them for a batch: kept in
//! memory instead they took longer to fetch. Whether this is less, and which windows are, follows
//! from prices that the device measures when it is made (`calibration.rs`).
//!
//! Where the bases have tables (`tables.rs`), windows that lie alike in their levels are one task
//! and share its buckets, each level's points coming from the level; and of the bases that are in
//! groups those with scalar one are added as sums of subsets.
//!
//! Digits are made without carries from one to the next: 2^(c-1) is added to every digit but the
//! top one, all at once, and subtracted from the digit again when it is cut out. With magnitudes
//! below 2^t there are ceil((t + 1) / c) windows, so that the top digit, which only counts up,
//! stays within the buckets. The halves of a scalar have signs, so their top digits have one as
//! well.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use zeroize::Zeroize;

use crate::curve::accumulate::{
    Accumulator, Adder, Buckets, Folding, NEGATIVE, Sources, fold, folded_all, folded_bit,
};
use crate::curve::endomorphism::Lattice;
use crate::curve::{Affine, Coordinate, Projective};
use crate::device::{DeviceError, Form, Plan, Progress};
use crate::field::PrimeField;
use crate::lanes::Engine;

use super::Staged;
use super::calibration::{CurveRates, Prices, SPLIT_NS};
use super::plan::{Kernel, room, share};
use super::tables::{Bases, Groups, Levels, Tables};
use super::vector::Vector;

/// A sum over all bases.
pub(crate) struct Msm<S, F> {
    bases: Arc<Bases>,
    /// Those that there were when the plan was made.
    tables: Option<Arc<Tables>>,
    scalars: Arc<Vector>,
    offset: usize,
    form: Form,
    /// Those that are summed, if not all.
    points: OnceLock<Range<usize>>,
    /// Lanes of every stage at most.
    lanes: usize,
    rates: Costs,
    segments: Box<[RwLock<Segment>]>,
    levels: Levels,
    prices: Prices,
    /// The widest window whose buckets a lane has room for.
    window_max: u32,
    layout: OnceLock<Layout>,
    next_task: AtomicUsize,
    /// What each task came to.
    sums: Box<[Mutex<Projective<F>>]>,
    sum: OnceLock<Affine<F>>,
    field: std::marker::PhantomData<S>,
}

/// The parts of a quantum's budget.
#[derive(Clone, Copy)]
struct Costs {
    budget_ns: f64,
    addition_ns: f64,
    look_ns: f64,
    scalar_ns: f64,
}

/// The scalars of one lane of stage 0, sorted out. They are the witness: overwritten in the end.
struct Segment {
    /// Magnitudes: full-size ones, or their halves, from the front, small ones from the back.
    magnitudes: Vec<[u64; 4]>,
    /// The bases that they multiply, with a sign.
    sources: Vec<Source>,
    full: usize,
    small: usize,
    /// The bases whose scalar is one or minus one.
    ones: Vec<Source>,
    /// The subsets of groups of bases whose scalar is one.
    subsets: Vec<Source>,
    /// The group that the last one belongs to, and its subset so far.
    group: (u32, u32),
    /// Ones that went there.
    grouped: usize,
    /// Scalars looked at so far.
    done: usize,
}

/// The index of a base; the top bit says that it is to be subtracted.
type Source = u32;

/// What stage 1 consists of.
struct Layout {
    cut: Cut,
    /// Into how many slices the scalars of each set of buckets are cut.
    slices: usize,
    ones_tasks: usize,
    /// What is added to a magnitude to have all digits positive.
    bias: [u64; 4],
    /// Where the last window starts in which a small scalar may have a digit.
    small_reach: u32,
    counts: Counts,
    subsets: usize,
}

impl Layout {
    fn tasks(&self) -> usize {
        self.cut.sets() * self.slices + self.ones_tasks
    }
}

/// Scalars by kind, zeros left out.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) full: usize,
    /// Below 2^64.
    pub(crate) small: usize,
    /// One or minus one.
    pub(crate) ones: usize,
}

/// How scalars are cut into windows.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Bits of a window; of a level's last one fewer where the level ends before it.
    window: u32,
    levels: Levels,
    /// Bits of a scalar, or of each of its halves.
    bits: u32,
}

/// One window of a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    shift: u32,
    bits: u32,
    /// Nothing lies above it.
    top: bool,
}

impl Window {
    /// The digit that a biased magnitude has here.
    #[inline(always)]
    fn digit(&self, biased: &[u64; 4]) -> i64 {
        let (word, bit) = (self.shift as usize / 64, self.shift % 64);
        let mut digit = biased[word] >> bit;
        if bit + self.bits > 64 && word < 3 {
            digit |= biased[word + 1] << (64 - bit);
        }
        // The top digit has no bias.
        let half = if self.top { 0 } else { 1 << (self.bits - 1) };
        (digit & ((1 << self.bits) - 1)) as i64 - half
    }
}

impl Cut {
    fn new<S: PrimeField>(window: u32, levels: Levels) -> Self {
        Self {
            window,
            levels,
            bits: levels.number_bits::<S>(),
        }
    }

    /// Whether the digits of a half reach as far as halves do. The highest has a sign: one bit is
    /// too few for it, and two are unless a full window follows.
    fn reaches(&self) -> bool {
        let last = self.levels.last_bits(self.bits);
        !self.levels.halves || last % self.window != 1 && last > 2
    }

    /// Levels of both halves together.
    fn levels(&self) -> u32 {
        self.levels.count * if self.levels.halves { 2 } else { 1 }
    }

    /// Windows of a level, the last one perhaps apart.
    fn sets(&self) -> usize {
        let windows = |bits: u32| bits.div_ceil(self.window) as usize;
        let last = windows(self.levels.last_bits(self.bits));
        match self.levels.count {
            1 => last,
            _ => windows(self.levels.bits).max(last),
        }
    }

    fn windows(&self) -> usize {
        (0..self.levels())
            .map(|level| (0..).map_while(|set| self.window(level, set)).count())
            .sum()
    }

    /// A level's window, if it has so many.
    fn window(&self, level: u32, set: usize) -> Option<Window> {
        let (half, level) = (level / self.levels.count, level % self.levels.count);
        let start = half * self.bits + level * self.levels.bits;
        let last = level + 1 == self.levels.count;
        let end = if last {
            (half + 1) * self.bits
        } else {
            start + self.levels.bits
        };
        let shift = start + set as u32 * self.window;
        (shift < end).then(|| {
            let top = last && !self.levels.halves && shift + self.window >= end;
            Window {
                shift,
                // The top digit has no carry to make room for.
                bits: if top {
                    self.window
                } else {
                    self.window.min(end - shift)
                },
                top,
            }
        })
    }

    /// What is added to a magnitude to have all digits positive.
    fn bias(&self) -> [u64; 4] {
        let mut bias = [0; 4];
        for level in 0..self.levels() {
            let windows = (0..).map_while(|set| self.window(level, set));
            for window in windows.filter(|window| !window.top) {
                let bit = (window.shift + window.bits - 1) as usize;
                bias[bit / 64] |= 1 << (bit % 64);
            }
        }
        bias
    }

    /// Where the last window starts in which a scalar below 2^64 may have a digit: the largest has
    /// one wherever any has.
    fn small_reach(&self) -> u32 {
        let biased = add_bias(&[u64::MAX, 0, 0, 0], &self.bias());
        (0..self.levels())
            .flat_map(|level| (0..).map_while(move |set| self.window(level, set)))
            .filter(|window| window.shift < 64 || window.digit(&biased) != 0)
            .map(|window| window.shift)
            .max()
            .unwrap_or(0)
    }

    /// Slices that give each lane a task, for so many scalars.
    fn slices(&self, lanes: usize, count: usize) -> usize {
        let wanted = lanes.div_ceil(self.sets());
        wanted.clamp(1, count.div_ceil(SLICE_MIN).max(1))
    }

    /// What full-size and small scalars cost, in additions to buckets: each scalar one in each
    /// window that it reaches, each set's buckets two foldings, or as many as are not empty.
    fn cost(&self, counts: Counts, lanes: usize, prices: Prices) -> f64 {
        let slices = self.slices(lanes, counts.full + counts.small);
        let buckets = 1usize << (self.window - 1);
        let batch = (buckets / 2).clamp(BATCH_MIN, BATCH_USUAL);
        let addition = 1.0 + prices.conflict * batch as f64 / buckets as f64;
        let mut cost = 0.0;
        for set in 0..self.sets() {
            let mut scalars = 0;
            for level in 0..self.levels() {
                if let Some(window) = self.window(level, set) {
                    scalars += counts.full;
                    if level >= self.levels.count {
                        cost += prices.turn * counts.full as f64;
                    }
                    // Carries may reach a window more.
                    if window.shift < 64 {
                        scalars += counts.small;
                    }
                }
            }
            cost += addition * scalars as f64;
            cost += prices.fold * (2 * (slices * buckets).min(scalars)) as f64;
        }
        if self.levels.halves {
            cost += prices.split * counts.full as f64;
        }
        cost + (self.sets() * slices * (OVERHEAD + buckets / 16)) as f64
    }
}

/// What a sum costs in additions to buckets, ones left out, with the best levels and windows.
pub(crate) fn additions<S: PrimeField>(
    counts: Counts,
    lanes: usize,
    levels: Option<Levels>,
    prices: Prices,
) -> f64 {
    let levels = best_levels::<S>(counts, lanes, levels, prices);
    best_cut::<S>(counts, lanes, WINDOW_MAX, levels, prices).cost(counts, lanes, prices)
}

/// The levels for which scalars cost least: those of tables, if there are any, or only the bases,
/// with scalars whole or in halves.
fn best_levels<S: PrimeField>(
    counts: Counts,
    lanes: usize,
    levels: Option<Levels>,
    prices: Prices,
) -> Levels {
    let cost = |levels: &Levels| {
        best_cut::<S>(counts, lanes, WINDOW_MAX, *levels, prices).cost(counts, lanes, prices)
    };
    levels
        .into_iter()
        .chain([true, false].map(Levels::none::<S>))
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .expect("there are two at least")
}

/// The windows for which scalars cost least.
fn best_cut<S: PrimeField>(
    counts: Counts,
    lanes: usize,
    max: u32,
    levels: Levels,
    prices: Prices,
) -> Cut {
    let cost = |cut: &Cut| cut.cost(counts, lanes, prices);
    (WINDOW_MIN..=max)
        .map(|window| Cut::new::<S>(window, levels))
        .filter(Cut::reaches)
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .expect("the widest was chosen from these too")
}

/// No more bases than a [`Source`] can name.
pub(crate) fn check_count(count: usize) -> Result<(), DeviceError> {
    if count < NEGATIVE as usize {
        Ok(())
    } else {
        Err(DeviceError::Length {
            what: "bases",
            expected: NEGATIVE as usize - 1,
            got: count,
        })
    }
}

impl<S: PrimeField<Words = [u64; 4]>, F: Coordinate> Msm<S, F> {
    /// A plan; there are enough scalars from the offset on, and no more than 2^31 points.
    pub(crate) fn plan(
        bases: Arc<Bases>,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
        lanes: usize,
        engine: Option<Engine>,
        rates: &CurveRates,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let count = bases.count();
        let prices = rates.prices(F::GROUP, engine);
        let tables = bases.tables();
        let levels = tables.as_ref().and_then(|tables| tables.levels());
        let group = tables
            .as_ref()
            .and_then(|tables| tables.groups())
            .map(Groups::size);
        let parts = lanes.min(count.div_ceil(SEGMENT_MIN)).max(1);
        let all_full = Counts {
            full: count,
            ..Counts::default()
        };
        // By what such sums have had before: how many are of full size is not known before they are
        // cut, or not.
        let counts = bases.usage.counts(count);
        let levels = best_levels::<S>(counts, lanes, levels, prices);
        // The largest share: one of fewer points may be dealt out otherwise.
        let segments = (0..parts)
            .map(|_| Segment::new(count.div_ceil(parts), group).map(RwLock::new))
            .collect::<Result<_, _>>()?;
        let window_max = best_cut::<S>(all_full, lanes, WINDOW_MAX, levels, prices).window;
        let tasks_max = (WINDOW_MIN..=window_max)
            .map(|window| Cut::new::<S>(window, levels))
            .map(|cut| cut.sets() * cut.slices(lanes, count))
            .max()
            .unwrap_or(1)
            + lanes.min(count.div_ceil(ONES_TASK_MIN));
        // A lane without a task, or with next to nothing in it, needs no buckets.
        let additions = count.saturating_mul(Cut::new::<S>(window_max, levels).windows());
        let lanes = lanes
            .min(tasks_max)
            .min(additions.div_ceil(LANE_MIN))
            .max(parts);
        let addition_ns = rates.addition_ns(F::GROUP);
        let kernel = Self {
            bases,
            tables,
            scalars,
            offset,
            form,
            points: OnceLock::new(),
            lanes,
            rates: Costs {
                budget_ns: rates.budget_ns,
                addition_ns,
                look_ns: rates.look_ns,
                scalar_ns: rates.element_ns,
            },
            segments,
            levels,
            prices,
            window_max,
            layout: OnceLock::new(),
            next_task: AtomicUsize::new(0),
            sums: (0..tasks_max).map(|_| Mutex::default()).collect(),
            sum: OnceLock::new(),
            field: std::marker::PhantomData,
        };
        Ok(Staged::new(
            kernel,
            (0..lanes).map(|_| Lane::new(engine, window_max)),
        ))
    }

    fn points(&self) -> Range<usize> {
        let all = || 0..self.bases.count();
        self.points.get().cloned().unwrap_or_else(all)
    }

    fn layout(&self) -> &Layout {
        self.layout.get().expect("made when stage 1 was opened")
    }

    fn groups(&self) -> Option<&Groups> {
        self.tables.as_ref()?.groups()
    }

    /// Where the points of a level are.
    fn level(&self, level: u32) -> Sources<'_, F> {
        let points = match (level % self.levels.count, &self.tables) {
            (1.., Some(tables)) => tables.level((level % self.levels.count) as usize),
            _ => &self.bases.points,
        };
        if level < self.levels.count {
            Sources::File(points)
        } else {
            Sources::Endomorphism(points)
        }
    }

    /// Counts what stage 0 has found and settles how stage 1 does its work.
    fn lay_out(&self) -> Layout {
        let mut counts = Counts::default();
        let (mut subsets, mut grouped) = (0, 0);
        for segment in &self.segments {
            // Poisoned by a panic of a lane, which cannot have ended then.
            let segment = segment.try_read().expect("all lanes of stage 0 have ended");
            counts.full += segment.full;
            counts.small += segment.small;
            counts.ones += segment.ones.len();
            subsets += segment.subsets.len();
            grouped += segment.grouped;
        }
        let seen = Counts {
            ones: counts.ones + grouped,
            ..counts
        };
        let (part, all) = (self.points().len(), self.bases.count());
        self.bases.usage.summed(seen, part, all);
        let cut = best_cut::<S>(
            counts,
            self.lanes,
            self.window_max,
            self.levels,
            self.prices,
        );
        Layout {
            cut,
            slices: cut.slices(self.lanes, counts.full + counts.small),
            ones_tasks: (counts.ones + subsets)
                .div_ceil(ONES_TASK_MIN)
                .min(self.lanes),
            bias: cut.bias(),
            small_reach: cut.small_reach(),
            counts,
            subsets,
        }
    }

    /// One quantum of sorting out.
    fn recode(&self, lane: usize) -> Result<Progress, &'static str> {
        let mut segment = self.segments[lane].try_write().map_err(|_| POISONED)?;
        let segment = &mut *segment;
        let points = self.points();
        let part = share(points.len(), self.segments.len(), lane);
        let part = points.start + part.start..points.start + part.end;
        let mut scalar_ns = self.rates.scalar_ns;
        if self.levels.halves {
            scalar_ns += SPLIT_NS;
        }
        let units = ((self.rates.budget_ns / scalar_ns) as usize).max(1);
        let end = part.len().min(segment.done.saturating_add(units));
        let usage = &self.bases.usage;
        let looked = usage.looked();
        let groups = self.groups();
        let lattice = self.levels.halves.then(|| Lattice::of(F::CURVE));
        for i in segment.done..end {
            let base = part.start + i;
            if !looked && self.is_infinite(base) {
                usage.mark_infinite(base);
            }
            let mut magnitude = self.scalars.words(self.offset + base);
            if self.form == Form::Montgomery {
                magnitude = S::from_montgomery_words(magnitude).to_canonical();
            }
            let negative = reduce::<S>(&mut magnitude);
            if magnitude == [0; 4] || usage.is_infinite(base) {
                continue;
            }
            let one = magnitude == [1, 0, 0, 0];
            if one
                && !negative
                && let Some(groups) = groups
                && let Some((group, bit)) = groups.find(base)
            {
                segment.put_in_group(groups, group, bit);
                continue;
            }
            if !one || negative {
                usage.mark_wide(base);
            }
            let source = base as u32 | if negative { NEGATIVE } else { 0 };
            if one {
                segment.ones.push(source);
                continue;
            }
            let place = if magnitude[1..] == [0; 3] {
                segment.small += 1;
                segment.magnitudes.len() - segment.small
            } else {
                if let Some(lattice) = lattice {
                    magnitude = lattice.split(&magnitude);
                }
                segment.full += 1;
                segment.full - 1
            };
            segment.magnitudes[place] = magnitude;
            segment.sources[place] = source;
        }
        segment.done = end;
        Ok(if end == part.len() {
            if let Some(groups) = groups {
                segment.end_group(groups);
            }
            Progress::Done
        } else {
            Progress::More
        })
    }

    /// Whether a base is all zero bytes.
    fn is_infinite(&self, base: usize) -> bool {
        let at = base * Affine::<F>::BYTES;
        let point = &self.bases.points[at..at + Affine::<F>::BYTES];
        point.iter().all(|&byte| byte == 0)
    }

    /// One quantum of adding and folding.
    fn accumulate(&self, lane: &mut Lane<F>) -> Result<Progress, &'static str> {
        let mut left = Budget {
            left_ns: self.rates.budget_ns,
            costs: self.rates,
        };
        loop {
            match lane.step {
                Step::Idle => {
                    // Each number is given to one lane: nothing else hangs on the order.
                    let task = self.next_task.fetch_add(1, Ordering::Relaxed);
                    if task >= self.layout().tasks() {
                        return Ok(Progress::Done);
                    }
                    lane.begin(task, self.layout());
                }
                Step::Fill(task) => {
                    let filled = match task.checked_sub(self.layout().ones_tasks) {
                        None => self.fill_ones(task, lane, &mut left)?,
                        Some(task) => self.fill_set(task, lane, &mut left)?,
                    };
                    if filled {
                        lane.step = Step::Fold(task, Folding::new(lane.log2));
                    }
                }
                Step::Fold(task, mut folding) => {
                    let ended = left.fold(&mut folding, lane);
                    lane.step = Step::Fold(task, folding);
                    if ended {
                        *self.sums[task].try_lock().map_err(|_| POISONED)? =
                            self.task_sum(task, lane);
                        lane.step = Step::Idle;
                    }
                }
            }
            if left.left_ns <= 0.0 {
                return Ok(Progress::More);
            }
        }
    }

    /// Adds the points of a set's slice to buckets, level by level, until all are or the quantum
    /// ends.
    fn fill_set(
        &self,
        task: usize,
        lane: &mut Lane<F>,
        left: &mut Budget,
    ) -> Result<bool, &'static str> {
        let layout = self.layout();
        let (set, slice) = (task / layout.slices, task % layout.slices);
        while lane.level < layout.cut.levels() {
            if let Some(window) = layout.cut.window(lane.level, set) {
                let sources = self.level(lane.level);
                if !self.fill_window(window, slice, sources, lane, left)? {
                    return Ok(false);
                }
            }
            lane.level += 1;
            lane.kind = Scalars::Full;
            lane.cursor = Cursor::default();
        }
        Ok(true)
    }

    fn fill_window(
        &self,
        window: Window,
        slice: usize,
        sources: Sources<'_, F>,
        lane: &mut Lane<F>,
        left: &mut Budget,
    ) -> Result<bool, &'static str> {
        let layout = self.layout();
        let reached_by_small = window.shift <= layout.small_reach;
        for (kind, total, reached) in [
            (Scalars::Full, layout.counts.full, true),
            (Scalars::Small, layout.counts.small, reached_by_small),
        ] {
            if lane.kind > kind || !reached {
                continue;
            }
            lane.come_to(kind);
            let part = share(total, layout.slices, slice);
            while let Some(position) = self.find(&mut lane.cursor, kind, part.clone())? {
                let segment = self.segments[position.segment]
                    .try_read()
                    .map_err(|_| POISONED)?;
                let chunk = position.places;
                let before = lane.accumulator.additions();
                let entries = segment.magnitudes[chunk.clone()]
                    .iter()
                    .zip(&segment.sources[chunk.clone()]);
                for (magnitude, &source) in entries {
                    let digit = window.digit(&add_bias(magnitude, &layout.bias));
                    if digit == 0 {
                        continue;
                    }
                    let sign = if digit < 0 { NEGATIVE } else { 0 };
                    lane.accumulator.add(
                        &mut lane.buckets,
                        digit.unsigned_abs() as u32 - 1,
                        source ^ sign,
                        sources,
                    );
                }
                lane.cursor.done += chunk.len();
                if left.spend(lane.accumulator.additions() - before, chunk.len()) {
                    return Ok(false);
                }
            }
        }
        lane.finish(sources, left);
        Ok(true)
    }

    /// Adds points whose scalar is one or minus one, then sums of subsets, until all are or the
    /// quantum ends.
    fn fill_ones(
        &self,
        task: usize,
        lane: &mut Lane<F>,
        left: &mut Budget,
    ) -> Result<bool, &'static str> {
        let layout = self.layout();
        let subsets = self.groups().map_or(&[][..], Groups::sums);
        let mask = (1u32 << lane.log2) - 1;
        for (kind, total, sources) in [
            (Scalars::Ones, layout.counts.ones, self.level(0)),
            (Scalars::Subsets, layout.subsets, Sources::File(subsets)),
        ] {
            if lane.kind > kind {
                continue;
            }
            lane.come_to(kind);
            let part = share(total, layout.ones_tasks, task);
            while let Some(position) = self.find(&mut lane.cursor, kind, part.clone())? {
                let segment = self.segments[position.segment]
                    .try_read()
                    .map_err(|_| POISONED)?;
                let chunk = position.places;
                let before = lane.accumulator.additions();
                let points = match kind {
                    Scalars::Subsets => &segment.subsets,
                    _ => &segment.ones,
                };
                for (i, &source) in points[chunk.clone()].iter().enumerate() {
                    let bucket = (lane.cursor.done + i) as u32 & mask;
                    lane.accumulator
                        .add(&mut lane.buckets, bucket, source, sources);
                }
                lane.cursor.done += chunk.len();
                if left.spend(lane.accumulator.additions() - before, chunk.len()) {
                    return Ok(false);
                }
            }
            lane.finish(sources, left);
        }
        Ok(true)
    }

    /// Where the next scalars of a part are, the parts being counted over all segments: as many as
    /// are taken between looks at the budget, and lie together. Moves
    /// the cursor past segments that are finished.
    fn find(
        &self,
        cursor: &mut Cursor,
        kind: Scalars,
        part: std::ops::Range<usize>,
    ) -> Result<Option<Position>, &'static str> {
        let next = part.start + cursor.done;
        if next >= part.end {
            return Ok(None);
        }
        while let Some(segment) = self.segments.get(cursor.segment) {
            let segment = segment.try_read().map_err(|_| POISONED)?;
            let places = segment.places(kind);
            if next - cursor.before < places.len() {
                let start = places.start + (next - cursor.before);
                let end = places.end.min(start + (part.end - next).min(CHUNK));
                return Ok(Some(Position {
                    segment: cursor.segment,
                    places: start..end,
                }));
            }
            cursor.before += places.len();
            cursor.segment += 1;
        }
        Ok(None)
    }

    /// What the folded buckets of a task come to.
    fn task_sum(&self, task: usize, lane: &Lane<F>) -> Projective<F> {
        // Bucket b stands for digit b + 1, so the sum of all comes once more.
        let mut sum = Projective::INFINITY;
        if task >= self.layout().ones_tasks {
            for bit in (0..lane.log2).rev() {
                sum = sum.double().add_affine(&folded_bit(&lane.buckets, bit));
            }
        }
        sum.add_affine(&folded_all(&lane.buckets))
    }

    /// Horner's rule over the sets.
    fn combine(&self) -> Result<(), &'static str> {
        let layout = self.layout();
        let task = |task: usize| match self.sums[task].try_lock() {
            Ok(sum) => Ok(*sum),
            Err(_) => Err(POISONED),
        };
        let mut sum = Projective::INFINITY;
        for set in (0..layout.cut.sets()).rev() {
            for _ in 0..layout.cut.window {
                sum = sum.double();
            }
            for slice in 0..layout.slices {
                sum += task(layout.ones_tasks + set * layout.slices + slice)?;
            }
        }
        for ones in 0..layout.ones_tasks {
            sum += task(ones)?;
        }
        // Set once: a stage has one last quantum.
        let _ = self.sum.set(sum.to_affine());
        Ok(())
    }
}

impl<S: PrimeField<Words = [u64; 4]>, F: Coordinate> Kernel for Msm<S, F> {
    type Lane = Lane<F>;

    fn bytes(&self) -> usize {
        // Asked before any lane has begun.
        let segments = self.segments.iter().flat_map(RwLock::try_read);
        let segments: usize = segments.map(|it| it.bytes()).sum();
        segments + size_of_val(&*self.segments) + size_of_val(&*self.sums)
    }

    fn lane_bytes(lane: &Lane<F>) -> usize {
        lane.accumulator.bytes() + lane.adder.bytes() + lane.buckets.bytes()
    }

    fn stages(&self) -> usize {
        3
    }

    fn name(&self, stage: usize) -> &'static str {
        ["msm.recode", "msm.accumulate", "msm.combine"][stage]
    }

    fn open(&self, stage: usize) -> usize {
        match stage {
            0 => self.segments.len(),
            1 => {
                let layout = self.layout.get_or_init(|| self.lay_out());
                assert!(layout.tasks() <= self.sums.len());
                self.lanes.min(layout.tasks()).max(1)
            }
            _ => 1,
        }
    }

    fn begin(&self, _: usize, _: usize, lane: &mut Lane<F>) {
        lane.step = Step::Idle;
    }

    fn run(
        &self,
        stage: usize,
        index: usize,
        lane: &mut Lane<F>,
    ) -> Result<Progress, &'static str> {
        match stage {
            0 => self.recode(index),
            1 => self.accumulate(lane),
            _ => self.combine().map(|()| Progress::Done),
        }
    }

    fn point(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; Affine::<F>::BYTES];
        self.sum.get()?.to_bytes(&mut bytes);
        Some(bytes)
    }

    fn is_sum(&self) -> bool {
        true
    }

    fn narrow(&self, points: Range<usize>) -> bool {
        points.end <= self.bases.count() && self.points.set(points).is_ok()
    }
}

/// The kinds of scalars that take work, in the order in which they are taken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scalars {
    Full,
    Small,
    Ones,
    Subsets,
}

impl Segment {
    /// Bytes of its memory.
    fn bytes(&self) -> usize {
        let sources = [&self.sources, &self.ones, &self.subsets];
        room(&self.magnitudes) + sources.map(room).iter().sum::<usize>()
    }

    /// A segment of so many scalars, of which in groups of so many bases, if there are any.
    fn new(len: usize, group: Option<usize>) -> Result<Self, DeviceError> {
        // Two groups may be shared with neighbours.
        let subsets_max = group.map_or(0, |size| len.min(len / size + 2));
        let no_memory = |_| DeviceError::Memory {
            what: "sorted-out scalars",
            bytes: len.saturating_mul(size_of::<[u64; 4]>() + 2 * size_of::<Source>()),
        };
        let mut magnitudes = Vec::new();
        let mut sources = Vec::new();
        let mut ones = Vec::new();
        let mut subsets = Vec::new();
        magnitudes.try_reserve_exact(len).map_err(no_memory)?;
        sources.try_reserve_exact(len).map_err(no_memory)?;
        ones.try_reserve_exact(len).map_err(no_memory)?;
        subsets.try_reserve_exact(subsets_max).map_err(no_memory)?;
        magnitudes.resize(len, [0; 4]);
        sources.resize(len, 0);
        Ok(Self {
            magnitudes,
            sources,
            full: 0,
            small: 0,
            ones,
            subsets,
            group: (0, 0),
            grouped: 0,
            done: 0,
        })
    }

    /// Adds a base to the subset of its group. Groups come in order.
    #[inline(always)]
    fn put_in_group(&mut self, groups: &Groups, group: u32, bit: u32) {
        if group != self.group.0 {
            self.end_group(groups);
            self.group.0 = group;
        }
        self.group.1 |= bit;
        self.grouped += 1;
    }

    fn end_group(&mut self, groups: &Groups) {
        let (group, subset) = self.group;
        if subset != 0 {
            self.subsets.push(groups.index(group, subset));
            self.group.1 = 0;
        }
    }

    fn places(&self, kind: Scalars) -> std::ops::Range<usize> {
        match kind {
            Scalars::Full => 0..self.full,
            Scalars::Small => self.magnitudes.len() - self.small..self.magnitudes.len(),
            Scalars::Ones => 0..self.ones.len(),
            Scalars::Subsets => 0..self.subsets.len(),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.magnitudes.zeroize();
        self.sources.zeroize();
        self.ones.zeroize();
        self.subsets.zeroize();
        self.group.zeroize();
    }
}

/// What a lane keeps between quanta.
pub(crate) struct Lane<F> {
    step: Step,
    level: u32,
    kind: Scalars,
    cursor: Cursor,
    accumulator: Accumulator<F>,
    adder: Adder<F>,
    /// log2 of the buckets in use.
    log2: u32,
    buckets: Buckets<F>,
}

#[derive(Clone, Copy)]
enum Step {
    /// No task.
    Idle,
    /// Points of this task go into buckets.
    Fill(usize),
    /// The task's buckets are summed.
    Fold(usize, Folding),
}

/// How far a lane has come in its part of the scalars of one kind.
#[derive(Clone, Copy, Default)]
struct Cursor {
    /// Scalars of the part taken.
    done: usize,
    /// The segment that has the next one, or one before it.
    segment: usize,
    /// Scalars of the kind in the segments before that.
    before: usize,
}

/// A run of scalars in a segment.
struct Position {
    segment: usize,
    places: std::ops::Range<usize>,
}

impl<F: Coordinate> Lane<F> {
    fn new(engine: Option<Engine>, window_max: u32) -> Self {
        let batch = BATCH_BYTES / F::BYTES * if engine.is_some() { 4 } else { 1 };
        Self {
            step: Step::Idle,
            level: 0,
            kind: Scalars::Full,
            cursor: Cursor::default(),
            accumulator: Accumulator::new(engine, batch),
            adder: Adder::new(engine, batch),
            log2: 0,
            buckets: Buckets::new(engine, 1 << (window_max - 1)),
        }
    }

    fn begin(&mut self, task: usize, layout: &Layout) {
        self.log2 = layout.cut.window - 1;
        self.buckets.clear(1 << self.log2);
        // A batch of half of the buckets meets its own buckets 39 times in 100 additions; beyond
        // that, conflicts cost more than larger batches save.
        self.accumulator
            .limit((1usize << self.log2 >> 1).max(BATCH_MIN));
        self.level = 0;
        self.kind = Scalars::Full;
        self.cursor = Cursor::default();
        self.step = Step::Fill(task);
    }

    /// Begins with scalars of another kind, unless they have been begun with.
    fn come_to(&mut self, kind: Scalars) {
        if self.kind < kind {
            self.kind = kind;
            self.cursor = Cursor::default();
        }
    }

    /// Makes the additions that are waiting: what comes next has other sources.
    fn finish(&mut self, sources: Sources<'_, F>, left: &mut Budget) {
        let before = self.accumulator.additions();
        self.accumulator.finish(&mut self.buckets, sources);
        left.spend(self.accumulator.additions() - before, 0);
    }
}

/// What is left of a quantum.
struct Budget {
    left_ns: f64,
    costs: Costs,
}

impl Budget {
    /// Takes off what was done and says whether the quantum is over.
    fn spend(&mut self, additions: u64, looks: usize) -> bool {
        self.left_ns -= additions as f64 * self.costs.addition_ns;
        self.left_ns -= looks as f64 * self.costs.look_ns;
        self.left_ns <= 0.0
    }

    fn fold<F: Coordinate>(&mut self, folding: &mut Folding, lane: &mut Lane<F>) -> bool {
        let limit = (self.left_ns / self.costs.addition_ns).max(1.0) as u64;
        let before = lane.adder.additions();
        let ended = fold(folding, &mut lane.adder, &mut lane.buckets, limit);
        let additions = lane.adder.additions() - before;
        if ended {
            self.spend(additions, 0);
        } else {
            self.left_ns = 0.0;
        }
        ended
    }
}

/// Reduces an integer below 2^256 to its magnitude, at most (r - 1) / 2, and says whether it was
/// made negative.
#[inline(always)]
fn reduce<S: PrimeField<Words = [u64; 4]>>(x: &mut [u64; 4]) -> bool {
    // 2^256 is below 6 r on both curves: few rounds, and none for a scalar in range.
    loop {
        let (difference, borrow) = subtract(x, &S::MODULUS);
        if borrow {
            break;
        }
        *x = difference;
    }
    let (negated, _) = subtract(&S::MODULUS, x);
    let (_, borrow) = subtract(&negated, x);
    if borrow {
        *x = negated;
    }
    borrow
}

#[inline(always)]
fn subtract(a: &[u64; 4], b: &[u64; 4]) -> ([u64; 4], bool) {
    let mut borrow = false;
    let mut difference = [0; 4];
    for i in 0..4 {
        (difference[i], borrow) = a[i].borrowing_sub(b[i], borrow);
    }
    (difference, borrow)
}

#[inline(always)]
fn add_bias(a: &[u64; 4], bias: &[u64; 4]) -> [u64; 4] {
    let mut carry = false;
    let mut sum = [0; 4];
    for i in 0..4 {
        (sum[i], carry) = a[i].carrying_add(bias[i], carry);
    }
    sum
}

const POISONED: &str = "a lane of this plan has failed before";

/// Scalars taken between looks at the budget.
const CHUNK: usize = 256;

/// The narrowest window: below it there is little to add anyway.
const WINDOW_MIN: u32 = 4;

/// The widest window: 2^15 buckets are 2 MiB of BN254 G1 points and still mostly in the
/// third-level cache.
const WINDOW_MAX: u32 = 16;

/// Additions' worth of time that a task takes beside its additions: the inversions of the small
/// batches at the end of its folding.
const OVERHEAD: usize = 256;

/// Scalars below which a second slice of a window is not worth its buckets.
const SLICE_MIN: usize = 4096;

/// Scalars below which another lane of recoding is not worth its opening.
const SEGMENT_MIN: usize = 1024;

/// Additions below which another lane is not worth its buckets: about 0.3 ms in G1.
const LANE_MIN: usize = 2048;

/// Points with scalar one below which another task is not worth its buckets.
const ONES_TASK_MIN: usize = 8192;

/// Additions below which an inversion costs more than conflicts do.
const BATCH_MIN: usize = 256;

/// Additions of a batch on an engine in BN254's G1, for counting.
const BATCH_USUAL: usize = 2048;

/// Denominators of a batch: 512 additions in BN254's G1 for scalar code, whose inversion then costs
/// two percent, and four times as many on an engine, which is four times as fast.
const BATCH_BYTES: usize = 512 * 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::{FrBls12_381, FrBn254};

    /// A magnitude below 2^255 at least, times a sign, as digits of any cut.
    fn recomposes<S: PrimeField<Words = [u64; 4]>>(magnitude: [u64; 4]) {
        let small = magnitude[1..] == [0; 3];
        let tables = (1..=100).flat_map(|bits| {
            let counts = S::MODULUS_BITS.div_ceil(bits)..=S::MODULUS_BITS.div_ceil(bits);
            counts.chain(2..3).map(move |count| Levels {
                bits,
                count,
                halves: false,
            })
        });
        for levels in tables.chain([Levels::none::<S>(false)]) {
            for window in WINDOW_MIN..=WINDOW_MAX {
                let cut = Cut::new::<S>(window, levels);
                let biased = add_bias(&magnitude, &cut.bias());
                let small_reach = cut.small_reach();
                let mut sum = S::ZERO;
                for level in (0..cut.levels.count).rev() {
                    for set in (0..cut.sets()).rev() {
                        let Some(window) = cut.window(level, set) else {
                            continue;
                        };
                        let digit = window.digit(&biased);
                        assert!(digit.unsigned_abs() <= 1 << (cut.window - 1));
                        assert!(digit == 0 || !small || window.shift <= small_reach);
                        let mut weight = S::ONE;
                        for _ in 0..window.shift {
                            weight = weight.double();
                        }
                        let term = S::from(digit.unsigned_abs()) * weight;
                        sum = if digit < 0 { sum - term } else { sum + term };
                    }
                }
                assert_eq!(sum.to_canonical(), magnitude, "{levels:?}, {window} bits");
            }
        }
    }

    /// Digits of both halves, and of a small scalar that is not cut in two, are those numbers
    /// again.
    #[test]
    fn digits_of_halves_recompose() {
        // Further out than halves ever are.
        let edge = 0x5a82_7999_fcef_3242_ffff_ffff_ffff_ffff_i128;
        let halves = [
            0,
            1,
            -1,
            edge,
            -edge,
            1 << 126,
            -(1 << 126),
            0x5555_5555_5555_5555_5555_5555_5555_5555,
            -0x2aaa_aaaa_aaaa_aaaa_aaaa_aaaa_aaaa_aaaa,
            i128::from(u64::MAX),
        ];
        let tables = (4..128).flat_map(|bits| {
            [2, 128u32.div_ceil(bits)].map(|count| Levels {
                bits,
                count,
                halves: true,
            })
        });
        let mut cuts = 0;
        for levels in tables.chain([Levels::none::<FrBn254>(true)]) {
            for window in WINDOW_MIN..=WINDOW_MAX {
                let cut = Cut::new::<FrBn254>(window, levels);
                if !cut.reaches() {
                    continue;
                }
                cuts += 1;
                for first in halves {
                    for second in halves {
                        halves_recompose(&cut, first, second);
                    }
                }
            }
        }
        assert!(cuts > 2500, "only {cuts}");
    }

    fn halves_recompose(cut: &Cut, first: i128, second: i128) {
        // One number, from whose upper half a negative lower one borrows.
        let above = second - i128::from(first < 0);
        let parts = [
            first as u64,
            (first >> 64) as u64,
            above as u64,
            (above >> 64) as u64,
        ];
        let biased = add_bias(&parts, &cut.bias());
        let small = parts[1..] == [0; 3];
        let reach = cut.small_reach();
        let mut sums = [0; 2];
        for level in 0..cut.levels() {
            for window in (0..cut.sets()).map_while(|set| cut.window(level, set)) {
                let digit = window.digit(&biased);
                assert!(digit.unsigned_abs() <= 1 << (cut.window - 1));
                assert!(digit == 0 || !small || window.shift <= reach);
                sums[window.shift as usize / 128] += i128::from(digit) << (window.shift % 128);
            }
        }
        assert_eq!(sums, [first, second], "{cut:?}");
    }

    #[test]
    fn digits_recompose_in_any_cut() {
        fn all<S: PrimeField<Words = [u64; 4]>>() {
            // The largest magnitude is (r - 1) / 2.
            let mut half = S::MODULUS;
            for i in 0..4 {
                half[i] = half[i] >> 1 | half.get(i + 1).map_or(0, |word| word << 63);
            }
            for magnitude in [
                [1, 0, 0, 0],
                [u64::MAX, 0, 0, 0],
                [u64::MAX - (1 << 51), 0, 0, 0],
                [1 << 63, 0, 0, 0],
                [0, 1, 0, 0],
                [u64::MAX, u64::MAX, u64::MAX, half[3] - 1],
                [
                    0x5555_5555_5555_5555,
                    0xaaaa_aaaa_aaaa_aaaa,
                    1 << 63,
                    half[3] >> 1,
                ],
                half,
            ] {
                recomposes::<S>(magnitude);
            }
        }
        all::<FrBn254>();
        all::<FrBls12_381>();
    }
}
