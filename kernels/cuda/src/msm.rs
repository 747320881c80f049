//! Sums of multiples of points: how they are cut, and what a stage launches. The kernels are those
//! of `cuda/digits.cu`, `cuda/sort.cu` and `cuda/msm.cu`.
//!
//! Stage 0, `msm.count`, cuts the scalars into digits and counts how many fall into each bucket.
//! Stage 1, `msm.sort`, puts each digit's point number where its bucket's are. Stage 2,
//! `msm.accumulate`, adds the points of each bucket up, a part of a bucket to a thread. Stage 3,
//! `msm.fold`, adds the parts of heavy buckets, and the buckets of each set by their weights. The
//! host reads one point a set and does the last doublings. Besides, it reads once how many parts there are of each length,
//! while the device puts them in order: where it would need to know more, a launch is for as many as there may be.
//!
//! Zeros take no part, ones have a bucket of their own, and small scalars have few digits: a
//! witness, which is mostly such, costs what its few full-size scalars do.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, DeviceError, Form, Group};

use crate::driver::{Buffer, Driver, Kernel};
use crate::plan::{Steps, Sweep, Unit};
use crate::vector::Vector;

/// Points in the device's memory.
pub(crate) struct Bases {
    pub(crate) curve: CurveId,
    pub(crate) group: Group,
    count: usize,
    points: Buffer,
    /// A bit for each point that is not infinity.
    finite: Buffer,
    tables: Mutex<Option<Arc<Tables>>>,
    /// Bits of scalars that took part in the last sum, or none yet.
    seen: AtomicU64,
}

/// Points of further levels, behind each other.
pub(crate) struct Tables {
    pub(crate) cut: Cut,
    pub(crate) points: Buffer,
}

impl Bases {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        curve: CurveId,
        group: Group,
        points: &[u8],
    ) -> Result<Self, DeviceError> {
        let size = curve.point_bytes(group);
        let count = points.len() / size;
        let refuse = |expected, got| {
            Err(DeviceError::Length {
                what: "bytes of points",
                expected,
                got,
            })
        };
        if count * size != points.len() {
            return refuse(count * size, points.len());
        }
        if count > BASES_MAX {
            return refuse(BASES_MAX * size, points.len());
        }
        let mut finite = vec![0u8; count.div_ceil(32) * 4];
        for (i, point) in points.chunks_exact(size).enumerate() {
            finite[i / 8] |= u8::from(point.iter().any(|&byte| byte != 0)) << (i % 8);
        }
        Ok(Self {
            curve,
            group,
            count,
            points: Buffer::of(driver, points, "bases")?,
            finite: Buffer::of(driver, &finite, "bases")?,
            tables: Mutex::default(),
            seen: AtomicU64::new(u64::MAX),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn points(&self) -> u64 {
        self.points.at(0)
    }

    pub(crate) fn tables(&self) -> Option<Arc<Tables>> {
        self.lock().clone()
    }

    pub(crate) fn set_tables(&self, tables: Option<Arc<Tables>>) {
        // What was there is dropped after the lock.
        let _before = std::mem::replace(&mut *self.lock(), tables);
    }

    pub(crate) fn tables_bytes(&self) -> usize {
        self.tables().map_or(0, |tables| tables.points.bytes())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Tables>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As many scalars of full size as the last sum's were worth, all if there was none; and a few
    /// in any case, because there has to be room for the digits of all.
    pub(crate) fn full(&self) -> usize {
        let bits = self.seen.load(Ordering::Relaxed);
        let full = bits / u64::from(scalar_bits(self.curve));
        usize::try_from(full)
            .unwrap_or(usize::MAX)
            .clamp(self.count / 16, self.count)
    }
}

/// The magnitudes of scalars are below 2^bits: they are at most (r - 1) / 2.
pub(crate) fn scalar_bits(curve: CurveId) -> u32 {
    match curve {
        CurveId::Bn254 => <Bn254 as Curve>::Fr::MODULUS_BITS - 1,
        CurveId::Bls12_381 => <Bls12_381 as Curve>::Fr::MODULUS_BITS - 1,
    }
}

/// How scalars are cut: digits of `window` bits; `sets` of them, each with buckets of its own, to a
/// level; and levels, each of which has its own points, so many for the scalar or for each half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) window: u32,
    pub(crate) sets: u32,
    pub(crate) levels: u32,
    /// Whether scalars are cut in two halves, with points for each.
    pub(crate) halves: bool,
}

impl Cut {
    /// The cheapest for `full` scalars of full size, with so many levels of points in all.
    pub(crate) fn best(curve: CurveId, full: usize, levels: u32) -> Self {
        let whole = Self::of_bits(scalar_bits(curve), full, levels, false);
        if levels.is_multiple_of(2) {
            let halves = Self::of_bits(HALF_BITS, full, levels / 2, true);
            if halves.cost(full) <= whole.cost(full) {
                return halves;
            }
        }
        whole
    }

    fn of_bits(bits: u32, full: usize, levels: u32, halves: bool) -> Self {
        (WINDOW_MIN..=WINDOW_MAX)
            .map(|window| Self {
                window,
                // A bit more for the sign.
                sets: (bits + 1).div_ceil(window).div_ceil(levels),
                levels,
                halves,
            })
            .min_by(|a, b| a.cost(full).total_cmp(&b.cost(full)))
            .expect("there are windows to choose from")
    }

    /// Additions of points to buckets, and twice the buckets, which are folded with general
    /// additions: 14 products to 10.
    pub(crate) fn cost(&self, full: usize) -> f64 {
        let digits = self.sets * self.levels * if self.halves { 2 } else { 1 };
        full as f64 * f64::from(digits) + 2.8 * f64::from(self.sets) * self.buckets() as f64
    }

    /// Buckets of a set.
    fn buckets(&self) -> usize {
        1 << (self.window - 1)
    }

    /// How far the points of neighbouring levels are apart: 2^bits.
    pub(crate) fn level_bits(&self) -> u32 {
        self.sets * self.window
    }

    /// Levels of points, the bases themselves included.
    pub(crate) fn all_levels(&self) -> u32 {
        self.levels * if self.halves { 2 } else { 1 }
    }

    fn digits(&self) -> usize {
        (self.sets * self.all_levels()) as usize
    }
}

/// The kernels of one group of one curve.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    digits: Kernel,
    scan_blocks: Kernel,
    scan_sums: Kernel,
    scan_places: Kernel,
    part_lengths: Kernel,
    part_places: Kernel,
    part_order: Kernel,
    accumulate: Kernel,
    merge: Kernel,
    fold: Kernel,
    gather: Kernel,
}

impl Kernels {
    /// Those of units with these suffixes.
    pub(crate) fn find(driver: &dyn Driver, curve: &str, group: &str) -> Result<Self, DeviceError> {
        let sort = |name| driver.kernel("sort", name);
        let msm = |name| driver.kernel(&format!("msm_{curve}_{group}"), name);
        Ok(Self {
            digits: driver.kernel(&format!("digits_{curve}"), "digits")?,
            scan_blocks: sort("scan_blocks")?,
            scan_sums: sort("scan_sums")?,
            scan_places: sort("scan_places")?,
            part_lengths: sort("part_lengths")?,
            part_places: sort("part_places")?,
            part_order: sort("part_order")?,
            accumulate: msm("msm_accumulate")?,
            merge: msm("msm_merge")?,
            fold: msm("msm_fold")?,
            gather: msm("msm_gather")?,
        })
    }

    /// Those whose threads spill.
    pub(crate) fn spilling(&self) -> [Kernel; 4] {
        [self.accumulate, self.merge, self.fold, self.gather]
    }
}

/// A sum over all bases, in the group whose coordinates are in F.
pub(crate) struct Msm<F> {
    bases: Arc<Bases>,
    tables: Option<Arc<Tables>>,
    scalars: Arc<Vector>,
    offset: usize,
    form: Form,
    /// Those that are summed, if not all.
    points: OnceLock<Range<usize>>,
    lattice: Arc<Buffer>,
    kernels: Kernels,
    cut: Cut,
    /// The most entries of a part.
    part: usize,
    multiprocessors: u64,
    /// How many entries each bucket has; the last is that of ones.
    counts: Buffer,
    block_sums: Buffer,
    /// Where each bucket's entries and parts begin, and the ends.
    entry_starts: Buffer,
    part_starts: Buffer,
    cursors: Buffer,
    entries: Buffer,
    /// Of each part.
    part_bucket: Buffer,
    part_entry: Buffer,
    order: Buffer,
    /// How many there are of each length, and other figures of the sort; where those of each length begin.
    lengths: Buffer,
    places: Buffer,
    part_sums: Buffer,
    segment_sums: Buffer,
    sorted: OnceLock<Sorted>,
    sum: OnceLock<Affine<F>>,
}

/// What the host reads of the sort.
struct Sorted {
    parts: u32,
    /// The most that a bucket has.
    most: u32,
    /// The part of ones, if there is one.
    ones: Option<u32>,
}

impl<F: Coordinate> Msm<F> {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        kernels: Kernels,
        lattice: Arc<Buffer>,
        bases: Arc<Bases>,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
    ) -> Result<Self, DeviceError> {
        // The offset comes from outside: it may be anything.
        let available = scalars.len().saturating_sub(offset);
        if available < bases.count {
            return Err(DeviceError::Length {
                what: "scalars from the offset on",
                expected: bases.count,
                got: available,
            });
        }
        let tables = bases.tables();
        let plain = Cut::best(bases.curve, bases.full(), 1);
        let cut = match &tables {
            Some(tables) => tables.cut,
            None => plain,
        };
        let entries = bases.count * cut.digits();
        if u32::try_from(entries).is_err() {
            return Err(DeviceError::Memory {
                what: "digits of a sum",
                bytes: entries.saturating_mul(4),
            });
        }
        let buckets = cut.sets as usize * cut.buckets() + 1;
        // So many that most buckets are one part, and so few that a thread of a block that has
        // the device for itself is done within a quantum: the more the words of a coordinate, the
        // fewer.
        let part_max = (PART_WORDS / F::BYTES).clamp(PART_MIN, PART_MAX);
        let usual = 2 * entries / buckets;
        let part = usual.next_power_of_two().clamp(PART_MIN, part_max);
        let parts = buckets.min(entries) + entries / part;
        let words = |count: usize, what| Buffer::secret(driver, 4 * count, what);
        let zeros = |count: usize, what| Buffer::zeros(driver, 4 * count, what);
        let points = |count: usize, what| Buffer::secret(driver, POINT * F::BYTES * count, what);
        let this = Self {
            counts: zeros(buckets, "buckets")?,
            block_sums: words(2 * buckets.div_ceil(SCAN_BLOCK), "buckets")?,
            entry_starts: words(buckets + 1, "buckets")?,
            part_starts: words(buckets + 1, "buckets")?,
            cursors: words(buckets, "buckets")?,
            entries: words(entries, "digits of a sum")?,
            part_bucket: words(parts, "parts of buckets")?,
            part_entry: words(parts, "parts of buckets")?,
            order: words(parts, "parts of buckets")?,
            lengths: zeros(LENGTHS + FIGURES, "parts of buckets")?,
            places: words(LENGTHS, "parts of buckets")?,
            part_sums: points(parts, "parts of buckets")?,
            segment_sums: points(
                cut.sets as usize * Self::segments(&cut).1,
                "segments of buckets",
            )?,
            bases,
            tables,
            scalars,
            offset,
            form,
            points: OnceLock::new(),
            lattice,
            kernels,
            cut,
            part,
            multiprocessors: u64::from(driver.multiprocessors()),
            sorted: OnceLock::new(),
            sum: OnceLock::new(),
        };
        Ok(this)
    }

    /// Buckets of a segment, and segments of a set.
    fn segments(cut: &Cut) -> (usize, usize) {
        let length = SEGMENT.min(cut.buckets());
        (length, cut.buckets() / length)
    }

    fn buckets(&self) -> usize {
        self.cut.sets as usize * self.cut.buckets() + 1
    }

    fn points(&self) -> Range<usize> {
        self.points.get().cloned().unwrap_or(0..self.bases.count)
    }

    fn digits(&self, counters: &Buffer, entries: u64) -> Sweep {
        let lattice = if self.cut.halves {
            self.lattice.at(0)
        } else {
            0
        };
        let words = vec![
            self.scalars.at(self.offset),
            self.bases.finite.at(0),
            u64::from(self.form == Form::Montgomery),
            u64::from(self.cut.window),
            u64::from(self.cut.sets),
            u64::from(self.cut.levels),
            lattice,
            self.bases.count as u64,
            counters.at(0),
            entries,
        ];
        let points = self.points();
        Sweep {
            first: points.start as u64,
            most: (self.multiprocessors * DIGITS / self.cut.digits() as u64).max(1),
            ..Sweep::threads(self.kernels.digits, points.len(), words)
        }
    }

    /// Threads of a launch that all have so many additions to make.
    fn threads_at_most(&self, additions: u64) -> u64 {
        let slots = self.multiprocessors * SLOTS;
        (slots / (additions * addition_slots(F::CURVE, F::GROUP))).max(1)
    }

    fn count(&self) -> Vec<Sweep> {
        let words = || {
            vec![
                self.buckets() as u64,
                self.part as u64,
                self.counts.at(0),
                self.block_sums.at(0),
                self.entry_starts.at(0),
                self.part_starts.at(0),
                self.cursors.at(0),
            ]
        };
        let blocks = self.buckets().div_ceil(SCAN_BLOCK);
        vec![
            self.digits(&self.counts, 0),
            Sweep::blocks(self.kernels.scan_blocks, blocks, words()),
            Sweep::blocks(self.kernels.scan_sums, 1, words()),
            Sweep::blocks(self.kernels.scan_places, blocks, words()),
        ]
    }

    fn parts(&self) -> Vec<u64> {
        vec![
            self.buckets() as u64,
            self.part as u64,
            self.entry_starts.at(0),
            self.part_starts.at(0),
            self.part_bucket.at(0),
            self.part_entry.at(0),
            self.lengths.at(0),
            self.places.at(0),
            self.order.at(0),
        ]
    }

    fn sort(&self) -> Vec<Sweep> {
        // As many parts as there may be.
        let entries = self.points().len() * self.cut.digits();
        let parts = self.buckets().min(entries) + entries / self.part;
        let Kernels {
            part_lengths,
            part_places,
            part_order,
            ..
        } = self.kernels;
        vec![
            self.digits(&self.cursors, self.entries.at(0)),
            Sweep::threads(part_lengths, parts, self.parts()),
            Sweep::blocks(part_places, 1, self.parts()),
            Sweep::threads(part_order, parts, self.parts()),
        ]
    }

    fn accumulate(&self) -> Result<Vec<Sweep>, DeviceError> {
        let read: [u32; LENGTHS + FIGURES] = self.lengths.words(0)?;
        let (lengths, figures) = read.split_at(LENGTHS);
        let [most, entries, parts, ones] = [0, 1, 2, 3].map(|i| figures[i]);
        let bits = u64::from(entries) * u64::from(self.cut.window);
        // Those of the others are taken to be like them.
        let (part, all) = (self.points().len().max(1), self.bases.count);
        let bits = (u128::from(bits) * all as u128 / part as u128) as u64;
        self.bases.seen.store(bits, Ordering::Relaxed);
        let ones = (ones != parts).then_some(ones);
        self.sorted.get_or_init(|| Sorted { parts, most, ones });
        // How many parts there are of each length; the longest come first.
        let lengths = lengths.iter().enumerate().rev();
        let runs = lengths
            .filter(|(_, count)| **count != 0)
            .map(|(length, &count)| (u64::from(count), length as u64))
            .collect();
        let tables = self.tables.as_ref().map_or(0, |tables| tables.points.at(0));
        let words = vec![
            self.order.at(0),
            self.part_bucket.at(0),
            self.part_entry.at(0),
            self.entry_starts.at(0),
            self.part as u64,
            self.entries.at(0),
            self.bases.points.at(0),
            tables,
            self.bases.count as u64,
            self.part_sums.at(0),
        ];
        Ok(vec![Sweep {
            kernel: self.kernels.accumulate,
            unit: Unit::Thread,
            first: 0,
            words,
            runs,
            most: u64::MAX,
        }])
    }

    fn sorted(&self) -> &Sorted {
        self.sorted.get().expect("the stage before was opened")
    }

    fn fold(&self) -> Vec<Sweep> {
        let &Sorted { parts, most, .. } = self.sorted();
        let mut sweeps = Vec::new();
        let mut step = 1;
        while step < u64::from(most) {
            let words = vec![
                step,
                u64::from(parts),
                self.part_bucket.at(0),
                self.part_starts.at(0),
                self.part_sums.at(0),
            ];
            let threads = u64::from(parts).div_ceil(ROUND * step);
            let sweep = Sweep::threads(self.kernels.merge, threads as usize, words);
            // Groups of two buckets begin among a thread's parts at the worst.
            sweeps.push(sweep.at_most(self.threads_at_most(2 * ROUND - 1)));
            step *= ROUND;
        }
        let (length, segments) = Self::segments(&self.cut);
        let sets = self.cut.sets as usize;
        let words = vec![
            length as u64,
            segments as u64,
            sets as u64,
            self.part_starts.at(0),
            self.part_sums.at(0),
            self.segment_sums.at(0),
        ];
        let sweep = Sweep::threads(self.kernels.fold, sets * segments, words);
        // Two for each bucket, a double and a sum for each bit of the segment's start.
        let additions = 2 * (length as u64 + u64::from(self.cut.window - 1));
        sweeps.push(sweep.at_most(self.threads_at_most(additions)));
        let mut step = 1;
        while step < segments as u64 {
            let words = vec![step, segments as u64, sets as u64, self.segment_sums.at(0)];
            let threads = sets * segments.div_ceil((ROUND * step) as usize);
            let sweep = Sweep::threads(self.kernels.gather, threads, words);
            sweeps.push(sweep.at_most(self.threads_at_most(ROUND - 1)));
            step *= ROUND;
        }
        sweeps
    }

    /// The sum of what all sets came to, each by its weight, and of the ones.
    fn combine(&self) -> Result<Affine<F>, DeviceError> {
        let size = POINT * F::BYTES;
        let mut bytes = vec![0; self.cut.sets as usize * size];
        self.segment_sums.download(0, &mut bytes)?;
        let mut sum = Projective::INFINITY;
        for set in bytes.chunks_exact(size).rev() {
            for _ in 0..self.cut.window {
                sum = sum.double();
            }
            sum += point(set);
        }
        if let Some(ones) = self.sorted().ones {
            let mut bytes = vec![0; size];
            self.part_sums.download(ones as usize * size, &mut bytes)?;
            sum += point(&bytes);
        }
        Ok(sum.to_affine())
    }
}

/// A point in XYZZ.
fn point<F: Coordinate>(bytes: &[u8]) -> Projective<F> {
    let [x, y, zz, zzz] =
        [0, 1, 2, 3].map(|i| F::from_montgomery_le_unchecked(&bytes[i * F::BYTES..]));
    Projective::from_xyzz(x, y, zz, zzz)
}

/// Slots of the multipliers that a sum of two points takes.
fn addition_slots(curve: CurveId, group: Group) -> u64 {
    match (curve, group) {
        (CurveId::Bn254, Group::G1) => 3_448,
        (CurveId::Bn254, Group::G2) => 8_750,
        (CurveId::Bls12_381, Group::G1) => 7_668,
        (CurveId::Bls12_381, Group::G2) => 19_414,
    }
}

impl<F: Coordinate> Steps for Msm<F> {
    fn stages(&self) -> usize {
        4
    }

    fn name(&self, stage: usize) -> &'static str {
        ["msm.count", "msm.sort", "msm.accumulate", "msm.fold"][stage]
    }

    fn open(&self, stage: usize) -> Result<Vec<Sweep>, DeviceError> {
        match stage {
            0 => Ok(self.count()),
            1 => Ok(self.sort()),
            2 => self.accumulate(),
            _ => Ok(self.fold()),
        }
    }

    /// Only how long the parts are is read in between, and that is known before they are put in order.
    fn ahead(&self, stage: usize) -> usize {
        match stage {
            0 | 2 => usize::MAX,
            1 => 1,
            _ => 0,
        }
    }

    fn close(&self, stage: usize) -> Result<(), DeviceError> {
        if stage == 3 {
            let sum = self.combine()?;
            self.sum.get_or_init(|| sum);
        }
        Ok(())
    }

    fn point(&self) -> Option<Vec<u8>> {
        let sum = self.sum.get()?;
        let mut bytes = vec![0; Affine::<F>::BYTES];
        sum.to_bytes(&mut bytes);
        Some(bytes)
    }

    fn is_sum(&self) -> bool {
        true
    }

    fn narrow(&self, points: Range<usize>) -> bool {
        points.end <= self.bases.count && self.points.set(points).is_ok()
    }
}

/// The halves of scalars are below 2^126.5 in magnitude.
const HALF_BITS: u32 = 127;

const WINDOW_MIN: u32 = 3;
const WINDOW_MAX: u32 = 22;

/// Entries number points in 31 bits, those of all levels.
const BASES_MAX: usize = 1 << 26;

/// Coordinates of a point in XYZZ.
const POINT: usize = 4;

/// `cuda/sort.cu`: buckets of a block, and the lengths that parts may have, zero included, with the figures behind them.
const SCAN_BLOCK: usize = 1024;
const PART_MAX: usize = 256;
const LENGTHS: usize = PART_MAX + 1;
const FIGURES: usize = 4;

/// What a multiprocessor does in a slice of 1.5 ms: 64 slots a clock at 1.7 GHz; and digits that it counts, of 2^24 that an H100's 132
/// do, a third of a millisecond where they are spread and at worst, where all are in a few buckets, one.
const SLOTS: u64 = 64 * 1_500 * 1_700;
const DIGITS: u64 = (1 << 24) / 132;

/// Sums that are added to one at a time: `cuda/msm.cu`.
const ROUND: u64 = 8;

/// Buckets that one thread folds.
const SEGMENT: usize = 16;

const PART_MIN: usize = 16;
/// Bytes of coordinates in a part at most: 128 points in G1 of BN254, 42 in G2 of BLS12-381. An
/// addition there takes 35 us where nothing else runs (computed).
const PART_WORDS: usize = 4096;
