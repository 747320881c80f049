//! Tables: multiples of bases that are kept because the same bases are summed again and again.
//!
//! What a sum costs is its additions to buckets and the folding of the buckets. Two kinds of table
//! make it cheaper, for the two kinds of scalars that a witness has.
//!
//! **Levels** serve scalars of full size. Level l holds 2^(b l) P for every base P, so a scalar's
//! windows at b l and above are windows of the level's own base, and windows that lie alike in their
//! levels share one set of buckets. With L levels there are L times fewer sets to fold, and windows
//! can be wider, so that there are fewer additions too. This is the fixed-base form of Pippenger's
//! method (Brickell, Gordon, McCurley, Wilson, EUROCRYPT 1992).
//!
//! **Groups** serve scalars that are zero or one. The bases whose scalar has never been anything
//! else are put together by k, and all 2^k - 1 sums of each group are kept, so that the scalars of
//! a group cost one addition at most. This is the table of the method of Four Russians.
//!
//! Which bases these are, and how many scalars are of full size, a set of bases learns from the
//! sums that are made of it ([`Usage`]). What was learnt only decides what is fast: a scalar of any
//! size is summed rightly whatever tables there are.
//!
//! [`Build`] makes tables for several sets within a number of bytes, which it spends where most
//! time is saved for each; lanes are sets. Tables take effect for plans made later, and plans that
//! use tables keep them alive, so tables may come and go at any moment.
//!
//! Each table is a mapping of its own and not a piece of the heap: a heap keeps what is freed in it
//! for whoever allocates next, and tables are given up so that the box has their memory.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::curve::accumulate::{Adder, Doubler, NEGATIVE, Slot, Sources};
use crate::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use crate::device::{CurveId, DeviceError, Group, Plan, Progress};
use crate::field::PrimeField;
use crate::lanes::Engine;

use super::Staged;
use super::calibration::{Prices, Rates};
use super::msm::{self, Counts};
use super::plan::Kernel;

/// Points as they lie in a file, what is known of them, and their tables if there are any.
pub(crate) struct Bases {
    pub(crate) curve: CurveId,
    pub(crate) group: Group,
    pub(crate) points: Bytes,
    pub(crate) usage: Usage,
    tables: Mutex<Option<Arc<Tables>>>,
}

impl Bases {
    pub(crate) fn new(curve: CurveId, group: Group, points: Bytes) -> Result<Self, DeviceError> {
        let count = points.len() / curve.point_bytes(group);
        Ok(Self {
            curve,
            group,
            points,
            usage: Usage::new(count)?,
            tables: Mutex::default(),
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.points.len() / self.curve.point_bytes(self.group)
    }

    /// The tables that a plan made now uses.
    pub(crate) fn tables(&self) -> Option<Arc<Tables>> {
        self.lock().clone()
    }

    pub(crate) fn set_tables(&self, tables: Option<Arc<Tables>>) {
        let before = std::mem::replace(&mut *self.lock(), tables);
        // Freed after the lock is released: unmapping takes a while.
        drop(before);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Tables>>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What sums have shown of a set of bases: two bits for each base, and counts of scalars. Of a
/// witness nothing stays but whether it has ever been other than zero and one at a place.
pub(crate) struct Usage {
    /// The bases that are infinity; whole once `looked` is set.
    infinite: Box<[AtomicU64]>,
    looked: AtomicBool,
    /// The bases that have had a scalar other than zero and one.
    wide: Box<[AtomicU64]>,
    sums: AtomicU64,
    full: AtomicU64,
    small: AtomicU64,
    ones: AtomicU64,
}

impl Usage {
    fn new(count: usize) -> Result<Self, DeviceError> {
        let bits = || {
            let words = count.div_ceil(64);
            let mut bits = Vec::new();
            bits.try_reserve_exact(words)
                .map_err(|_| DeviceError::Memory {
                    what: "bitmap of bases",
                    bytes: 8 * words,
                })?;
            bits.resize_with(words, AtomicU64::default);
            Ok(bits.into_boxed_slice())
        };
        Ok(Self {
            infinite: bits()?,
            looked: AtomicBool::new(false),
            wide: bits()?,
            sums: AtomicU64::new(0),
            full: AtomicU64::new(0),
            small: AtomicU64::new(0),
            ones: AtomicU64::new(0),
        })
    }

    /// Whether all bases have been looked at for infinity.
    pub(crate) fn looked(&self) -> bool {
        // Pairs with the Release in `summed`: whoever sees it sees the bitmap.
        self.looked.load(Ordering::Acquire)
    }

    #[inline(always)]
    pub(crate) fn mark_infinite(&self, base: usize) {
        mark(&self.infinite, base);
    }

    #[inline(always)]
    pub(crate) fn is_infinite(&self, base: usize) -> bool {
        is_marked(&self.infinite, base)
    }

    #[inline(always)]
    pub(crate) fn mark_wide(&self, base: usize) {
        mark(&self.wide, base);
    }

    /// The scalars of a sum over `part` of all bases have been sorted out. The others are taken to be like them.
    pub(crate) fn summed(&self, counts: Counts, part: usize, all: usize) {
        if part == all {
            self.looked.store(true, Ordering::Release);
        }
        let whole = |count: usize| (count as u128 * all as u128 / part.max(1) as u128) as u64;
        // Averages are made of these: nothing hangs on the order.
        for (total, count) in [
            (&self.sums, 1),
            (&self.full, whole(counts.full)),
            (&self.small, whole(counts.small)),
            (&self.ones, whole(counts.ones)),
        ] {
            total.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// What a sum has had on average; before the first, all scalars are taken to be of full size.
    pub(crate) fn counts(&self, count: usize) -> Counts {
        let sums = self.sums.load(Ordering::Relaxed);
        if sums == 0 {
            return Counts {
                full: count,
                small: 0,
                ones: 0,
            };
        }
        let average = |total: &AtomicU64| total.load(Ordering::Relaxed).div_ceil(sums) as usize;
        Counts {
            full: average(&self.full),
            small: average(&self.small),
            ones: average(&self.ones),
        }
    }

    /// The bases that groups are made of, once that is known.
    fn narrow(&self, count: usize) -> Vec<u32> {
        if !self.looked() {
            return Vec::new();
        }
        (0..count)
            .filter(|&base| !is_marked(&self.wide, base) && !is_marked(&self.infinite, base))
            .map(|base| base as u32)
            .collect()
    }
}

#[inline(always)]
fn mark(bits: &[AtomicU64], at: usize) {
    // Most marks are there already; looking first leaves the line shared.
    if !is_marked(bits, at) {
        bits[at / 64].fetch_or(1 << (at % 64), Ordering::Relaxed);
    }
}

#[inline(always)]
fn is_marked(bits: &[AtomicU64], at: usize) -> bool {
    bits[at / 64].load(Ordering::Relaxed) >> (at % 64) & 1 == 1
}

/// The tables of one set of bases.
#[derive(Default)]
pub(crate) struct Tables {
    /// Bits that a level spans, and whether of halves.
    level_bits: u32,
    halves: bool,
    /// Level 1 and those above it, each as many points as there are bases.
    levels: Vec<MmapMut>,
    groups: Option<Groups>,
}

impl Tables {
    /// How scalars are cut into levels, if there is more than the bases themselves.
    pub(crate) fn levels(&self) -> Option<Levels> {
        (!self.levels.is_empty()).then(|| Levels {
            bits: self.level_bits,
            count: self.levels.len() as u32 + 1,
            halves: self.halves,
        })
    }

    /// The points of a level above 0.
    pub(crate) fn level(&self, level: usize) -> &[u8] {
        &self.levels[level - 1]
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        let groups = self
            .groups
            .as_ref()
            .map_or(0, |groups| groups.sums.len() + size_of_val(&*groups.places));
        self.levels.iter().map(|level| level.len()).sum::<usize>() + groups
    }
}

/// How scalars are cut into levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    pub(crate) bits: u32,
    /// The bases themselves included.
    pub(crate) count: u32,
    /// Whether they are levels of both halves of a scalar, which the endomorphism cuts in two.
    pub(crate) halves: bool,
}

impl Levels {
    /// Only the bases.
    pub(crate) fn none<S: PrimeField>(halves: bool) -> Self {
        let mut levels = Self {
            bits: 0,
            count: 1,
            halves,
        };
        levels.bits = levels.number_bits::<S>();
        levels
    }

    /// Bits of the last level of so many bits.
    pub(crate) fn last_bits(&self, number_bits: u32) -> u32 {
        number_bits - (self.count - 1) * self.bits
    }

    /// Bits of what is cut into levels: a scalar or a half of one.
    pub(crate) fn number_bits<S: PrimeField>(&self) -> u32 {
        if self.halves {
            // Below 2^126.5 in magnitude, a half has signed digits in 128 bits.
            128
        } else {
            // A magnitude has one bit less than r, and a carry may need one more.
            S::MODULUS_BITS
        }
    }
}

/// Groups of bases and the sums of their subsets.
pub(crate) struct Groups {
    /// Bases in a group.
    size: u32,
    /// For each base its group, and in the lowest three bits its place there; or [`NO_GROUP`].
    places: Vec<u32>,
    /// The bases in groups, in order; emptied when the sums have been made.
    members: Vec<u32>,
    /// 2^size - 1 points for each group, that of subset m at m - 1.
    sums: MmapMut,
}

const NO_GROUP: u32 = u32::MAX;

impl Groups {
    /// The group of a base and the bit that stands for it there.
    #[inline(always)]
    pub(crate) fn find(&self, base: usize) -> Option<(u32, u32)> {
        let place = self.places[base];
        (place != NO_GROUP).then_some((place >> 3, 1 << (place & 7)))
    }

    /// Where the sum of a group's subset is.
    #[inline(always)]
    pub(crate) fn index(&self, group: u32, subset: u32) -> u32 {
        group * ((1 << self.size) - 1) + subset - 1
    }

    pub(crate) fn sums(&self) -> &[u8] {
        &self.sums
    }

    pub(crate) fn size(&self) -> usize {
        self.size as usize
    }
}

/// One thing that bytes can buy for a set of bases.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Offer {
    bytes: usize,
    /// Additions that a sum takes then.
    additions: f64,
    what: Choice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Nothing,
    Levels(Levels),
    /// Groups of so many.
    Groups(u32),
}

/// What there is to choose from for scalars of full size, dearer and better from one to the next.
fn level_offers<S: PrimeField>(
    count: usize,
    counts: Counts,
    point: usize,
    lanes: usize,
    prices: Prices,
) -> Vec<Offer> {
    let nothing = Offer {
        bytes: 0,
        additions: msm::additions::<S>(counts, lanes, None, prices),
        what: Choice::Nothing,
    };
    let mut offers = vec![nothing];
    let mut all: Vec<Offer> = Vec::new();
    for halves in [false, true] {
        let bits = Levels::none::<S>(halves).bits;
        for window in LEVEL_WINDOWS {
            let windows = bits.div_ceil(window);
            for sets in 1..windows {
                let levels = Levels {
                    bits: window * sets,
                    count: windows.div_ceil(sets),
                    halves,
                };
                // Where the highest digits have signs, so short a level is no room for them.
                if levels.last_bits(bits) < 3 {
                    continue;
                }
                all.push(Offer {
                    bytes: (levels.count as usize - 1) * count * point,
                    additions: msm::additions::<S>(counts, lanes, Some(levels), prices),
                    what: Choice::Levels(levels),
                });
            }
        }
    }
    all.sort_by(|a, b| {
        (a.bytes, a.additions)
            .partial_cmp(&(b.bytes, b.additions))
            .expect("finite")
    });
    for offer in all {
        if offer.additions < offers.last().expect("nothing is there").additions {
            offers.push(offer);
        }
    }
    offers
}

/// The same for scalars that are zero or one.
fn group_offers(count: usize, narrow: usize, ones: usize, point: usize) -> Vec<Offer> {
    // Ones may lie among wide bases too; taken to be among the others, they promise no more.
    let share = (ones as f64 / narrow.max(1) as f64).min(1.0);
    let mut offers = vec![Offer {
        bytes: 0,
        additions: share * narrow as f64,
        what: Choice::Nothing,
    }];
    for size in GROUP_SIZES {
        let groups = narrow.div_ceil(size as usize);
        let sums = groups * ((1 << size) - 1);
        let additions = groups as f64 * (1.0 - (1.0 - share).powi(size as i32));
        if sums < NEGATIVE as usize && additions < offers.last().expect("one is there").additions {
            offers.push(Offer {
                bytes: sums * point + count * size_of::<u32>(),
                additions,
                what: Choice::Groups(size),
            });
        }
    }
    offers
}

/// Spends bytes: always on what saves most for each byte more, until nothing fits.
fn spend(lists: &[(Vec<Offer>, f64)], bytes: usize) -> Vec<Offer> {
    let mut chosen: Vec<Offer> = lists.iter().map(|(offers, _)| offers[0]).collect();
    let mut left = bytes;
    loop {
        let mut best: Option<(f64, usize, Offer)> = None;
        for (list, (offers, addition_ns)) in lists.iter().enumerate() {
            let now = chosen[list];
            for offer in offers.iter().filter(|offer| offer.bytes > now.bytes) {
                let more = offer.bytes - now.bytes;
                let value = (now.additions - offer.additions) * addition_ns / more as f64;
                if more <= left && value > best.map_or(0.0, |(best, ..)| best) {
                    best = Some((value, list, *offer));
                }
            }
        }
        let Some((_, list, offer)) = best else {
            return chosen;
        };
        left -= offer.bytes - chosen[list].bytes;
        chosen[list] = offer;
    }
}

/// The making of tables for several sets. One stage; each lane is a set.
pub(crate) struct Build {
    sets: Vec<Arc<Bases>>,
    budget_ns: f64,
    /// In the order of the sets.
    addition_ns: Vec<f64>,
}

impl Build {
    /// A plan that spends at most so many bytes. All memory is set aside here.
    pub(crate) fn plan(
        sets: Vec<Arc<Bases>>,
        bytes: usize,
        lanes: usize,
        engine: Option<Engine>,
        rates: &Rates,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        if sets.is_empty() {
            return Err(DeviceError::Length {
                what: "sets of bases",
                expected: 1,
                got: 0,
            });
        }
        let mut lists = Vec::new();
        let mut members = Vec::new();
        let mut addition_ns = Vec::new();
        for set in &sets {
            let count = set.count();
            let counts = set.usage.counts(count);
            let point = set.curve.point_bytes(set.group);
            let narrow = set.usage.narrow(count);
            let ns = rates.of(set.curve).addition_ns(set.group);
            let prices = rates.of(set.curve).prices(set.group, engine);
            let levels = match set.curve {
                CurveId::Bn254 => {
                    level_offers::<<Bn254 as Curve>::Fr>(count, counts, point, lanes, prices)
                }
                CurveId::Bls12_381 => {
                    level_offers::<<Bls12_381 as Curve>::Fr>(count, counts, point, lanes, prices)
                }
            };
            lists.push((levels, ns));
            lists.push((group_offers(count, narrow.len(), counts.ones, point), ns));
            members.push(narrow);
            addition_ns.push(ns);
        }
        let chosen = spend(&lists, bytes);
        let states: Vec<Making> = sets
            .iter()
            .zip(chosen.chunks_exact(2))
            .zip(members)
            .map(|((set, chosen), members)| Making::new(set, chosen, members, engine))
            .collect::<Result<_, _>>()?;
        let budget_ns = sets
            .first()
            .map_or(f64::INFINITY, |set| rates.of(set.curve).budget_ns);
        let kernel = Self {
            sets,
            budget_ns,
            addition_ns,
        };
        Ok(Staged::new(kernel, states))
    }
}

impl Kernel for Build {
    type Lane = Making;

    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        "msm.tables"
    }

    fn open(&self, _: usize) -> usize {
        self.sets.len()
    }

    fn begin(&self, _: usize, _: usize, _: &mut Making) {}

    fn run(&self, _: usize, lane: usize, state: &mut Making) -> Result<Progress, &'static str> {
        let set = &self.sets[lane];
        let limit = (self.budget_ns / self.addition_ns[lane]).max(1.0) as u64;
        if !state.run(set, limit) {
            return Ok(Progress::More);
        }
        let tables = std::mem::take(&mut state.tables);
        let any = tables.levels().is_some() || tables.groups().is_some();
        set.set_tables(any.then(|| Arc::new(tables)));
        Ok(Progress::Done)
    }
}

/// Tables of one set while they are made.
pub(crate) struct Making {
    tables: Tables,
    maker: Box<dyn Maker>,
}

impl Making {
    fn new(
        set: &Bases,
        chosen: &[Offer],
        members: Vec<u32>,
        engine: Option<Engine>,
    ) -> Result<Self, DeviceError> {
        let count = set.count();
        let point = set.curve.point_bytes(set.group);
        let mut tables = Tables::default();
        for offer in chosen {
            match offer.what {
                Choice::Nothing => {}
                Choice::Levels(levels) => {
                    tables.level_bits = levels.bits;
                    tables.halves = levels.halves;
                    for _ in 1..levels.count {
                        tables.levels.push(zeros(count * point)?);
                    }
                }
                Choice::Groups(size) => {
                    let mut places = Vec::new();
                    let no_memory = |_| DeviceError::Memory {
                        what: "groups of bases",
                        bytes: count * size_of::<u32>(),
                    };
                    places.try_reserve_exact(count).map_err(no_memory)?;
                    places.resize(count, NO_GROUP);
                    for (i, &member) in members.iter().enumerate() {
                        let (group, place) = (i as u32 / size, i as u32 % size);
                        places[member as usize] = group << 3 | place;
                    }
                    let groups = members.len().div_ceil(size as usize);
                    tables.groups = Some(Groups {
                        size,
                        places,
                        sums: zeros(groups * ((1 << size) - 1) * point)?,
                        // As large as it is: the rest of it is not kept.
                        members: members.clone(),
                    });
                }
            }
        }
        let maker: Box<dyn Maker> = match (set.curve, set.group) {
            (CurveId::Bn254, Group::G1) => Worker::<<Bn254 as Curve>::Fq>::boxed(engine),
            (CurveId::Bn254, Group::G2) => Worker::<<Bn254 as Curve>::Fq2>::boxed(engine),
            (CurveId::Bls12_381, Group::G1) => Worker::<<Bls12_381 as Curve>::Fq>::boxed(engine),
            (CurveId::Bls12_381, Group::G2) => Worker::<<Bls12_381 as Curve>::Fq2>::boxed(engine),
        };
        Ok(Self { tables, maker })
    }

    /// Goes on for about `limit` additions and says whether all is made.
    fn run(&mut self, set: &Bases, limit: u64) -> bool {
        self.maker.make(set, &mut self.tables, limit)
    }
}

/// Zero bytes, or the error that there is no room.
fn zeros(len: usize) -> Result<MmapMut, DeviceError> {
    MmapMut::map_anon(len).map_err(|_| DeviceError::Memory {
        what: "tables",
        bytes: len,
    })
}

/// A [`Worker`] of any group.
trait Maker: Send {
    fn make(&mut self, set: &Bases, tables: &mut Tables, limit: u64) -> bool;
}

/// Where the making stands, and its memory.
struct Worker<F> {
    engine: Option<Engine>,
    /// First base, or first group, of the chunk.
    start: usize,
    /// Whether the levels are made.
    levelled: bool,
    /// The level being doubled towards, and how often the chunk has been doubled for it.
    level: usize,
    doubled: u32,
    /// The bases of the chunk that are not infinity.
    finite: Vec<u32>,
    slots: Vec<Slot<F>>,
    doubler: Doubler<F>,
    adder: Adder<F>,
    field: PhantomData<F>,
}

impl<F: Coordinate> Worker<F> {
    fn boxed(engine: Option<Engine>) -> Box<dyn Maker> {
        Box::new(Self {
            engine,
            start: 0,
            levelled: false,
            level: 0,
            doubled: 0,
            finite: Vec::with_capacity(CHUNK),
            slots: Vec::with_capacity(CHUNK),
            doubler: Doubler::new(engine, CHUNK),
            adder: Adder::new(engine, CHUNK),
            field: PhantomData,
        })
    }

    /// Levels, for at most so many doublings.
    fn make_levels(&mut self, set: &Bases, tables: &mut Tables, mut left: u64) -> u64 {
        let count = set.count();
        let size = Affine::<F>::BYTES;
        while left > 0 && self.start < count {
            if self.level == 0 {
                let end = count.min(self.start + CHUNK);
                self.finite.clear();
                self.slots.clear();
                for base in self.start..end {
                    let point = Affine::<F>::from_bytes_unchecked(&set.points[base * size..]);
                    if !point.is_infinity() {
                        self.finite.push(base as u32);
                        self.slots.push(Slot::new(self.engine, &point));
                    }
                }
                self.level = 1;
                self.doubled = 0;
            }
            while self.level <= tables.levels.len() {
                while self.doubled < tables.level_bits {
                    if left == 0 {
                        return 0;
                    }
                    self.doubler.double(&mut self.slots);
                    self.doubled += 1;
                    left = left.saturating_sub(self.slots.len().max(1) as u64);
                }
                let level = &mut tables.levels[self.level - 1];
                for (&base, slot) in self.finite.iter().zip(&self.slots) {
                    slot.point(self.engine)
                        .to_bytes(&mut level[base as usize * size..][..size]);
                }
                self.level += 1;
                self.doubled = 0;
            }
            self.level = 0;
            self.start += CHUNK;
        }
        left
    }

    /// Groups, for at most so many additions.
    fn make_groups(&mut self, set: &Bases, groups: &mut Groups, mut left: u64) -> u64 {
        let size = Affine::<F>::BYTES;
        let subsets = 1usize << groups.size;
        let total = groups.members.len().div_ceil(groups.size as usize);
        let chunk = CHUNK / subsets;
        while left > 0 && self.start < total {
            let end = total.min(self.start + chunk);
            let members = |group: usize| {
                let first = group * groups.size as usize;
                &groups.members[first..groups.members.len().min(first + groups.size as usize)]
            };
            self.slots.clear();
            self.slots.resize(chunk * subsets, Slot::INFINITY);
            for place in 0..groups.size as usize {
                let half = 1 << place;
                for group in self.start..end {
                    let Some(&base) = members(group).get(place) else {
                        continue;
                    };
                    let first = (group - self.start) * subsets;
                    let point =
                        Affine::<F>::from_bytes_unchecked(&set.points[base as usize * size..]);
                    self.slots[first + half] = Slot::new(self.engine, &point);
                    for subset in 1..half {
                        self.slots[first + half + subset] = self.slots[first + subset];
                        self.adder.push((first + half + subset) as u32, base);
                    }
                }
                self.adder
                    .flush(&mut self.slots, Sources::File(&set.points));
            }
            for group in self.start..end {
                let first = (group - self.start) * subsets;
                // Subsets that name places beyond a last, shorter group are left out.
                for subset in 1..1usize << members(group).len() {
                    let at = (group * (subsets - 1) + subset - 1) * size;
                    self.slots[first + subset]
                        .point(self.engine)
                        .to_bytes(&mut groups.sums[at..at + size]);
                }
            }
            left = left.saturating_sub((chunk * subsets) as u64);
            self.start = end;
        }
        left
    }
}

impl<F: Coordinate> Maker for Worker<F> {
    fn make(&mut self, set: &Bases, tables: &mut Tables, limit: u64) -> bool {
        let mut left = limit;
        if !self.levelled {
            if !tables.levels.is_empty() {
                left = self.make_levels(set, tables, left);
                if self.start < set.count() {
                    return false;
                }
            }
            self.levelled = true;
            self.start = 0;
        }
        let Some(groups) = &mut tables.groups else {
            return true;
        };
        if self.start * (groups.size as usize) < groups.members.len() {
            self.make_groups(set, groups, left);
            if self.start * (groups.size as usize) < groups.members.len() {
                return false;
            }
        }
        groups.members = Vec::new();
        true
    }
}

/// Windows that levels are made for.
const LEVEL_WINDOWS: std::ops::RangeInclusive<u32> = 6..=16;

/// Bases that make a group; the size must fit the three bits of a place.
const GROUP_SIZES: std::ops::RangeInclusive<u32> = 2..=6;

/// Slots that are worked on together: their batch fits a core's second-level cache, and the
/// inversion is a small part.
const CHUNK: usize = 1024;
