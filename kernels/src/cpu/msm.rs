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
//! Digits are made without carries from one to the next: 2^(c-1) is added to every digit but the
//! top one, all at once, and subtracted from the digit again when it is cut out. With magnitudes
//! below 2^t there are ceil((t + 1) / c) windows, so that the top digit, which only counts up,
//! stays within the buckets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use bytes::Bytes;
use zeroize::Zeroize;

use crate::curve::accumulate::{
    Accumulator, Adder, Buckets, Folding, NEGATIVE, Sources, fold, folded_all, folded_bit,
};
use crate::curve::{Affine, Coordinate, Projective};
use crate::device::{DeviceError, Form, Plan, Progress};
use crate::field::PrimeField;
use crate::lanes::Engine;

use super::Staged;
use super::calibration::CurveRates;
use super::plan::{Kernel, share};
use super::vector::Vector;

/// A sum over all bases.
pub(crate) struct Msm<S, F> {
    points: Bytes,
    scalars: Arc<Vector>,
    offset: usize,
    form: Form,
    /// Lanes of every stage at most.
    lanes: usize,
    rates: Costs,
    segments: Box<[RwLock<Segment>]>,
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
    /// Magnitudes: full-size ones from the front, small ones from the back.
    magnitudes: Vec<[u64; 4]>,
    /// The bases that they multiply, with a sign.
    sources: Vec<Source>,
    full: usize,
    small: usize,
    /// The bases whose scalar is one or minus one.
    ones: Vec<Source>,
    /// Scalars looked at so far.
    done: usize,
}

/// The index of a base; the top bit says that it is to be subtracted.
type Source = u32;

/// What stage 1 consists of.
struct Layout {
    /// Bits of a window.
    window: u32,
    windows: usize,
    /// How many of the windows small scalars reach.
    windows_small: usize,
    /// Into how many slices each window's scalars are cut.
    slices: usize,
    ones_tasks: usize,
    /// What is added to a magnitude to have all digits positive.
    bias: [u64; 4],
    full: usize,
    small: usize,
    ones: usize,
}

impl Layout {
    fn tasks(&self) -> usize {
        self.windows * self.slices + self.ones_tasks
    }
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
        points: Bytes,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
        lanes: usize,
        engine: Option<Engine>,
        rates: &CurveRates,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let count = points.len() / Affine::<F>::BYTES;
        let parts = lanes.min(count.div_ceil(SEGMENT_MIN)).max(1);
        let segments = (0..parts)
            .map(|part| Segment::new(share(count, parts, part).len()).map(RwLock::new))
            .collect::<Result<_, _>>()?;
        let (window_max, _) = best_window::<S>(count, 0, lanes, WINDOW_MAX);
        let tasks_max = (WINDOW_MIN..=window_max)
            .map(|window| windows::<S>(window) * slices::<S>(window, lanes, count))
            .max()
            .unwrap_or(1)
            + lanes.min(count.div_ceil(ONES_TASK_MIN));
        // A lane without a task, or with next to nothing in it, needs no buckets.
        let additions = count.saturating_mul(windows::<S>(window_max));
        let lanes = lanes
            .min(tasks_max)
            .min(additions.div_ceil(LANE_MIN))
            .max(parts);
        let addition_ns = rates.addition_ns(F::GROUP);
        let kernel = Self {
            points,
            scalars,
            offset,
            form,
            lanes,
            rates: Costs {
                budget_ns: rates.budget_ns,
                addition_ns,
                look_ns: rates.look_ns,
                scalar_ns: rates.element_ns,
            },
            segments,
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

    fn layout(&self) -> &Layout {
        self.layout.get().expect("made when stage 1 was opened")
    }

    /// Counts what stage 0 has found and settles how stage 1 does its work.
    fn lay_out(&self) -> Layout {
        let (mut full, mut small, mut ones) = (0, 0, 0);
        for segment in &self.segments {
            // Poisoned by a panic of a lane, which cannot have ended then.
            let segment = segment.try_read().expect("all lanes of stage 0 have ended");
            full += segment.full;
            small += segment.small;
            ones += segment.ones.len();
        }
        let (window, slices) = best_window::<S>(full, small, self.lanes, self.window_max);
        let windows = windows::<S>(window);
        let mut bias = [0; 4];
        for i in 1..windows {
            let bit = i * window as usize - 1;
            bias[bit / 64] |= 1 << (bit % 64);
        }
        Layout {
            window,
            windows,
            // A carry may reach bit 64.
            windows_small: windows.min(65usize.div_ceil(window as usize)),
            slices,
            ones_tasks: ones.div_ceil(ONES_TASK_MIN).min(self.lanes),
            bias,
            full,
            small,
            ones,
        }
    }

    /// One quantum of sorting out.
    fn recode(&self, lane: usize) -> Result<Progress, &'static str> {
        let mut segment = self.segments[lane].try_write().map_err(|_| POISONED)?;
        let segment = &mut *segment;
        let part = share(
            self.points.len() / Affine::<F>::BYTES,
            self.segments.len(),
            lane,
        );
        let units = ((self.rates.budget_ns / self.rates.scalar_ns) as usize).max(1);
        let end = part.len().min(segment.done.saturating_add(units));
        for i in segment.done..end {
            let base = part.start + i;
            let mut magnitude = self.scalars.words(self.offset + base);
            if self.form == Form::Montgomery {
                magnitude = S::from_montgomery_words(magnitude).to_canonical();
            }
            let negative = reduce::<S>(&mut magnitude);
            if magnitude == [0; 4] {
                continue;
            }
            let at = base * Affine::<F>::BYTES;
            if self.points[at..at + Affine::<F>::BYTES]
                .iter()
                .all(|&byte| byte == 0)
            {
                continue;
            }
            let source = base as u32 | if negative { NEGATIVE } else { 0 };
            if magnitude == [1, 0, 0, 0] {
                segment.ones.push(source);
                continue;
            }
            let place = if magnitude[1..] == [0; 3] {
                segment.small += 1;
                segment.magnitudes.len() - segment.small
            } else {
                segment.full += 1;
                segment.full - 1
            };
            segment.magnitudes[place] = magnitude;
            segment.sources[place] = source;
        }
        segment.done = end;
        Ok(if end == part.len() {
            Progress::Done
        } else {
            Progress::More
        })
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
                        Some(task) => self.fill_window(task, lane, &mut left)?,
                    };
                    if filled {
                        let sources = Sources::File(&self.points);
                        let before = lane.accumulator.additions();
                        lane.accumulator.finish(&mut lane.buckets, sources);
                        left.spend(lane.accumulator.additions() - before, 0);
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

    /// Adds the points of a window's slice to buckets, until all are or the quantum ends.
    fn fill_window(
        &self,
        task: usize,
        lane: &mut Lane<F>,
        left: &mut Budget,
    ) -> Result<bool, &'static str> {
        let layout = self.layout();
        let (window, slice) = (task / layout.slices, task % layout.slices);
        let sources = Sources::File(&self.points);
        let shift = window * layout.window as usize;
        let (word, bit) = (shift / 64, shift % 64);
        let mask = (1u64 << layout.window) - 1;
        // The top digit has no bias.
        let half = if window + 1 == layout.windows {
            0
        } else {
            1i64 << (layout.window - 1)
        };
        let reached_by_small = window < layout.windows_small;
        for (kind, total, reached) in [
            (Scalars::Full, layout.full, true),
            (Scalars::Small, layout.small, reached_by_small),
        ] {
            if lane.kind > kind || !reached {
                continue;
            }
            if lane.kind < kind {
                lane.kind = kind;
                lane.cursor = Cursor::default();
            }
            let part = share(total, layout.slices, slice);
            while let Some(position) = self.find(&mut lane.cursor, kind, part.clone())? {
                let segment = self.segments[position.segment]
                    .try_read()
                    .map_err(|_| POISONED)?;
                let chunk =
                    position.places.start..position.places.end.min(position.places.start + CHUNK);
                let before = lane.accumulator.additions();
                let entries = segment.magnitudes[chunk.clone()]
                    .iter()
                    .zip(&segment.sources[chunk.clone()]);
                for (magnitude, &source) in entries {
                    let biased = add_bias(magnitude, &layout.bias);
                    let mut digit = biased[word] >> bit;
                    if bit + layout.window as usize > 64 && word < 3 {
                        digit |= biased[word + 1] << (64 - bit);
                    }
                    let digit = (digit & mask) as i64 - half;
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
        Ok(true)
    }

    /// Adds points whose scalar is one or minus one, until all are or the quantum ends.
    fn fill_ones(
        &self,
        task: usize,
        lane: &mut Lane<F>,
        left: &mut Budget,
    ) -> Result<bool, &'static str> {
        let layout = self.layout();
        let sources = Sources::File(&self.points);
        let part = share(layout.ones, layout.ones_tasks, task);
        let mask = (1u32 << lane.log2) - 1;
        while let Some(position) = self.find(&mut lane.cursor, Scalars::Ones, part.clone())? {
            let segment = self.segments[position.segment]
                .try_read()
                .map_err(|_| POISONED)?;
            let chunk =
                position.places.start..position.places.end.min(position.places.start + CHUNK);
            let before = lane.accumulator.additions();
            for (i, &source) in segment.ones[chunk.clone()].iter().enumerate() {
                let bucket = (lane.cursor.done + i) as u32 & mask;
                lane.accumulator
                    .add(&mut lane.buckets, bucket, source, sources);
            }
            lane.cursor.done += chunk.len();
            if left.spend(lane.accumulator.additions() - before, chunk.len()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where the next scalars of a part are, the parts being counted over all segments. Moves
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
                let end = places.end.min(start + (part.end - next));
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

    /// Horner's rule over the windows.
    fn combine(&self) -> Result<(), &'static str> {
        let layout = self.layout();
        let task = |task: usize| match self.sums[task].try_lock() {
            Ok(sum) => Ok(*sum),
            Err(_) => Err(POISONED),
        };
        let mut sum = Projective::INFINITY;
        for window in (0..layout.windows).rev() {
            for _ in 0..layout.window {
                sum = sum.double();
            }
            for slice in 0..layout.slices {
                sum += task(layout.ones_tasks + window * layout.slices + slice)?;
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
}

/// The three kinds of scalars that take work, in the order in which a window takes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scalars {
    Full,
    Small,
    Ones,
}

impl Segment {
    fn new(len: usize) -> Result<Self, DeviceError> {
        let no_memory = |_| DeviceError::Memory {
            what: "sorted-out scalars",
            bytes: len.saturating_mul(size_of::<[u64; 4]>() + 2 * size_of::<Source>()),
        };
        let mut magnitudes = Vec::new();
        let mut sources = Vec::new();
        let mut ones = Vec::new();
        magnitudes.try_reserve_exact(len).map_err(no_memory)?;
        sources.try_reserve_exact(len).map_err(no_memory)?;
        ones.try_reserve_exact(len).map_err(no_memory)?;
        magnitudes.resize(len, [0; 4]);
        sources.resize(len, 0);
        Ok(Self {
            magnitudes,
            sources,
            full: 0,
            small: 0,
            ones,
            done: 0,
        })
    }

    fn places(&self, kind: Scalars) -> std::ops::Range<usize> {
        match kind {
            Scalars::Full => 0..self.full,
            Scalars::Small => self.magnitudes.len() - self.small..self.magnitudes.len(),
            Scalars::Ones => 0..self.ones.len(),
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.magnitudes.zeroize();
        self.sources.zeroize();
        self.ones.zeroize();
    }
}

/// What a lane keeps between quanta.
pub(crate) struct Lane<F> {
    step: Step,
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
            kind: Scalars::Full,
            cursor: Cursor::default(),
            accumulator: Accumulator::new(engine, batch),
            adder: Adder::new(engine, batch),
            log2: 0,
            buckets: Buckets::new(engine, 1 << (window_max - 1)),
        }
    }

    fn begin(&mut self, task: usize, layout: &Layout) {
        self.log2 = layout.window - 1;
        self.buckets.clear(1 << self.log2);
        // A batch of half of the buckets meets its own buckets 39 times in 100 additions; beyond
        // that, conflicts cost more than larger batches save.
        self.accumulator
            .limit((1usize << self.log2 >> 1).max(BATCH_MIN));
        self.kind = Scalars::Full;
        self.cursor = Cursor::default();
        self.step = Step::Fill(task);
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

/// Windows of c bits that a magnitude takes.
fn windows<S: PrimeField>(window: u32) -> usize {
    // A magnitude has one bit less than r, and a carry may need one more.
    S::MODULUS_BITS.div_ceil(window) as usize
}

/// Slices that give each lane a task, for so many scalars.
fn slices<S: PrimeField>(window: u32, lanes: usize, count: usize) -> usize {
    let wanted = lanes.div_ceil(windows::<S>(window));
    wanted.clamp(1, count.div_ceil(SLICE_MIN).max(1))
}

/// The window, and the slices, for which `full` scalars of full size and `small` ones cost the
/// fewest additions: each scalar one in each window that it reaches, each window's buckets two
/// when folded, or as many as are not empty.
fn best_window<S: PrimeField>(full: usize, small: usize, lanes: usize, max: u32) -> (u32, usize) {
    let cost = |window: u32| {
        let slices = slices::<S>(window, lanes, full + small);
        let buckets = 1usize << (window - 1);
        let windows = windows::<S>(window);
        let windows_small = windows.min(65usize.div_ceil(window as usize));
        let fold = |scalars: usize| 2 * (slices * buckets).min(scalars);
        // A bucket's first point costs no addition.
        windows_small * (full + small + fold(full + small))
            + (windows - windows_small) * (full + fold(full))
            + windows * slices * (OVERHEAD + buckets / 16)
    };
    let window = (WINDOW_MIN..=max.max(WINDOW_MIN))
        .min_by_key(|&window| cost(window))
        .expect("the range is not empty");
    (window, slices::<S>(window, lanes, full + small))
}

const POISONED: &str = "a lane of this plan has failed before";

/// Scalars taken between looks at the budget.
const CHUNK: usize = 32;

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

/// Denominators of a batch: 512 additions in BN254's G1 for scalar code, whose inversion then costs
/// two percent, and four times as many on an engine, which is four times as fast.
const BATCH_BYTES: usize = 512 * 32;
