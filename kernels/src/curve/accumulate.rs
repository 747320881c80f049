//! Many additions of affine points at the price of about six multiplications each.
//!
//! An affine addition needs one division; [`Adder`] makes a batch of them with a single inversion
//! (Montgomery's trick), 5 multiplications and a squaring an addition, where a Jacobian mixed
//! addition costs 11. The additions of a batch must not depend on each other.
//!
//! [`Accumulator`] feeds an adder with "add this point to that bucket". A bucket that is already
//! in the batch makes a conflict: the pair waits in a queue for the next batch. When the queue is
//! full, which happens when many points want few buckets (equal scalars, small windows), its
//! points are first added to each other in a tree, bucket by bucket, again in batches. So no
//! distribution of the buckets is bad: all points in one bucket cost some ten percent more than
//! all in different ones.
//!
//! [`fold`] sums buckets. For buckets B_0 .. B_(n-1), n = 2^k, the upper half is added onto the
//! lower one, then the upper half of what is left, and so on. What then stands in block
//! [2^i, 2^(i+1)) sums to U_i, the sum of all B_b whose index b has bit i; and place 0 holds the
//! sum of all. So sum b B_b = sum 2^i U_i, at two batched additions a bucket, in place, with no
//! running sums. That each U_i comes out by itself also serves the batched subgroup check.
//!
//! All state is plain data between calls, so whoever calls may stop anywhere and go on elsewhere.
//! Doublings, opposite points and infinity are handled, each by a test of the denominator.

use crate::field::batch_inverse_in;
use crate::lanes::{Engine, Line};

use super::batch;
use super::{Affine, Coordinate, Projective};

/// The top bit of a source: the point is to be subtracted.
pub(crate) const NEGATIVE: u32 = 1 << 31;

/// A point as an adder keeps it: in the form of its engine, or as it is where there is none.
/// All zero is infinity.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Slot<F>(Affine<F>);

impl<F: Coordinate> Slot<F> {
    pub(crate) const INFINITY: Self = Self(Affine::INFINITY);

    /// Keeps a point for an engine.
    #[inline(always)]
    pub(crate) fn new(engine: Option<Engine>, point: &Affine<F>) -> Self {
        Self(match engine {
            None => *point,
            Some(_) if point.is_infinity() => Affine::INFINITY,
            Some(engine) => Affine {
                x: engine.store(&point.x),
                y: engine.store(&point.y),
            },
        })
    }

    /// The point.
    #[inline(always)]
    pub(crate) fn point(&self, engine: Option<Engine>) -> Affine<F> {
        match engine {
            None => self.0,
            Some(engine) => Affine {
                x: engine.load(&self.0.x),
                y: engine.load(&self.0.y),
            },
        }
    }
}

/// Where the points are that are added to slots. A source is an index and perhaps [`NEGATIVE`].
#[derive(Clone, Copy)]
pub(crate) enum Sources<'a, F> {
    /// Whole points as they lie in a file.
    File(&'a [u8]),
    /// The same, each point P standing for phi(P) (`endomorphism.rs`).
    Endomorphism(&'a [u8]),
    /// Slots of the same engine.
    Slots(&'a [Slot<F>]),
    /// The slots that are added to.
    Own,
}

impl<F: Coordinate> Sources<'_, F> {
    /// A source's point, with its sign.
    #[inline(always)]
    fn load(&self, engine: Option<Engine>, own: &[Slot<F>], source: u32) -> Affine<F> {
        let index = (source & !NEGATIVE) as usize;
        let point = match self {
            Sources::File(bytes) => {
                Affine::from_bytes_unchecked(&bytes[index * Affine::<F>::BYTES..])
            }
            Sources::Endomorphism(bytes) => {
                let point = Affine::<F>::from_bytes_unchecked(&bytes[index * Affine::<F>::BYTES..]);
                Affine {
                    x: point.x * F::CUBE_ROOT,
                    y: point.y,
                }
            }
            Sources::Slots(slots) => slots[index].point(engine),
            Sources::Own => own[index].point(engine),
        };
        if source & NEGATIVE != 0 {
            -point
        } else {
            point
        }
    }
}

/// Slots with a word beside each that says whether it holds anything: 0 for an empty bucket,
/// otherwise the last batch that it took part in.
pub(crate) struct Buckets<F> {
    engine: Option<Engine>,
    slots: Vec<Slot<F>>,
    stamps: Vec<u32>,
}

impl<F: Coordinate> Buckets<F> {
    pub(crate) fn new(engine: Option<Engine>, count: usize) -> Self {
        Self {
            engine,
            slots: vec![Slot::INFINITY; count],
            stamps: vec![0; count],
        }
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.slots) + size_of_val(&*self.stamps)
    }

    /// Empties the first `count` buckets.
    pub(crate) fn clear(&mut self, count: usize) {
        self.stamps[..count].fill(0);
    }

    /// What a bucket holds.
    pub(crate) fn point(&self, bucket: u32) -> Affine<F> {
        if self.stamps[bucket as usize] == 0 {
            Affine::INFINITY
        } else {
            self.slots[bucket as usize].point(self.engine)
        }
    }
}

/// A batch of independent additions `slots[target] += source`.
pub(crate) struct Adder<F> {
    engine: Option<Engine>,
    capacity: usize,
    operations: Vec<Operation>,
    /// Sources that are the first of their slots, to be copied there before the additions.
    copies: Vec<Operation>,
    /// Additions made since the start: the measure of work.
    additions: u64,
    scratch: Scratch<F>,
}

/// One addition of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) target: u32,
    pub(crate) source: u32,
}

/// What a batch keeps between its two passes.
enum Scratch<F> {
    Scalar {
        kinds: Vec<Kind>,
        denominators: Vec<F>,
        prefixes: Vec<F>,
    },
    Lanes(Vec<Line>),
}

/// What a pair of points turned out to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Different x: the common case.
    Add,
    /// Equal points.
    Double,
    /// Opposite points: infinity.
    Cancel,
    /// The source is infinity.
    Keep,
    /// The target is infinity.
    Copy,
}

/// Running products that are carried side by side, since each alone would wait for its own last
/// multiplication.
const CHAINS: usize = 4;

/// Additions that settling one costs, about.
const SETTLING: u64 = 8;

impl<F: Coordinate> Adder<F> {
    pub(crate) fn new(engine: Option<Engine>, capacity: usize) -> Self {
        assert!(capacity > 0);
        Self {
            engine,
            capacity,
            operations: Vec::with_capacity(capacity),
            copies: Vec::with_capacity(capacity),
            additions: 0,
            scratch: match engine {
                None => Scratch::Scalar {
                    kinds: vec![Kind::Add; capacity],
                    denominators: vec![F::ONE; capacity],
                    prefixes: vec![F::ONE; capacity],
                },
                Some(engine) => {
                    let lines = batch::scratch_lines::<F>(engine, capacity);
                    Scratch::Lanes(vec![Line::EMPTY; lines])
                }
            },
        }
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        let scratch = match &self.scratch {
            Scratch::Scalar {
                kinds,
                denominators,
                prefixes,
            } => size_of_val(&**kinds) + size_of_val(&**denominators) + size_of_val(&**prefixes),
            Scratch::Lanes(lines) => size_of_val(&**lines),
        };
        scratch + 2 * self.capacity * size_of::<Operation>()
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.operations.len() == self.capacity || self.copies.len() == self.capacity
    }

    pub(crate) fn additions(&self) -> u64 {
        self.additions
    }

    /// Plans an addition. Within a batch no target may occur twice, nor be a source.
    ///
    /// # Panics
    /// If the batch is full.
    #[inline(always)]
    pub(crate) fn push(&mut self, target: u32, source: u32) {
        assert!(!self.is_full());
        self.operations.push(Operation { target, source });
    }

    /// Plans a copy, to be made before the additions of the batch. No slot is copied to twice in a
    /// batch, and no source of [`Sources::Own`] is one.
    ///
    /// # Panics
    /// If the batch is full.
    #[inline(always)]
    pub(crate) fn push_copy(&mut self, target: u32, source: u32) {
        assert!(!self.is_full());
        self.copies.push(Operation { target, source });
    }

    /// Makes the copies and the additions.
    ///
    /// # Panics
    /// If one names a point that is not there.
    pub(crate) fn flush(&mut self, slots: &mut [Slot<F>], sources: Sources<'_, F>) {
        if !self.copies.is_empty() {
            match self.engine {
                Some(engine) => batch::copy_all(engine, &self.copies, slots, sources),
                None => {
                    for copy in &self.copies {
                        slots[copy.target as usize] = Slot(sources.load(None, slots, copy.source));
                    }
                }
            }
            self.copies.clear();
        }
        if self.operations.is_empty() {
            return;
        }
        self.additions += self.operations.len() as u64;
        match (self.engine, &mut self.scratch) {
            (Some(engine), Scratch::Lanes(lines)) => {
                if !batch::add_all(engine, &self.operations, slots, sources, lines) {
                    // Part of the time has been spent, and settling costs more than adding.
                    self.additions += SETTLING * self.operations.len() as u64;
                    settle(engine, &mut self.operations, slots, sources);
                    // What hindered the batch has been settled, unless coordinates were never
                    // checked and are beyond the modulus: then the sum means nothing anyway.
                    batch::add_all(engine, &self.operations, slots, sources, lines);
                }
            }
            (
                None,
                Scratch::Scalar {
                    kinds,
                    denominators,
                    prefixes,
                },
            ) => add_scalar(
                &self.operations,
                slots,
                sources,
                kinds,
                denominators,
                prefixes,
            ),
            _ => unreachable!("the scratch was made for the engine"),
        }
        self.operations.clear();
    }
}

/// Doublings of many points that share an inversion.
pub(crate) struct Doubler<F> {
    engine: Option<Engine>,
    lines: Vec<Line>,
    denominators: Vec<F>,
    scratch: Vec<F>,
}

impl<F: Coordinate> Doubler<F> {
    /// A doubler of up to `capacity` points at a time.
    pub(crate) fn new(engine: Option<Engine>, capacity: usize) -> Self {
        let (lines, denominators) = match engine {
            Some(engine) => (batch::scratch_lines::<F>(engine, capacity), 0),
            None => (0, capacity),
        };
        Self {
            engine,
            lines: vec![Line::EMPTY; lines],
            denominators: Vec::with_capacity(denominators),
            scratch: vec![F::ONE; denominators],
        }
    }

    /// Doubles every slot. Infinity among them is allowed and slow.
    ///
    /// # Panics
    /// If there are more than the capacity.
    pub(crate) fn double(&mut self, slots: &mut [Slot<F>]) {
        match self.engine {
            Some(engine) => {
                if !batch::double_all(engine, slots, &mut self.lines) {
                    for slot in slots {
                        let double = Projective::from(slot.point(Some(engine))).double();
                        *slot = Slot::new(Some(engine), &double.to_affine());
                    }
                }
            }
            None => {
                assert!(slots.len() <= self.scratch.len());
                self.denominators.clear();
                self.denominators
                    .extend(slots.iter().map(|slot| slot.0.y.double()));
                batch_inverse_in(&mut self.denominators, &mut self.scratch);
                for (slot, &inverse) in slots.iter_mut().zip(&self.denominators) {
                    let Affine { x, y } = slot.0;
                    *slot = if inverse.is_zero() {
                        Slot::INFINITY
                    } else {
                        let square = x.square();
                        let slope = (square.double() + square) * inverse;
                        let x3 = slope.square() - x.double();
                        let y3 = slope * (x - x3) - y;
                        Slot(Affine { x: x3, y: y3 })
                    };
                }
            }
        }
    }
}

/// Makes those additions for themselves that a batch cannot hold, and leaves the others: points
/// with equal x, infinity, and points with x = 0, which look like it.
#[cold]
#[inline(never)]
fn settle<F: Coordinate>(
    engine: Engine,
    operations: &mut Vec<Operation>,
    slots: &mut [Slot<F>],
    sources: Sources<'_, F>,
) {
    operations.retain(|operation| {
        let target = slots[operation.target as usize].point(Some(engine));
        let source = sources.load(Some(engine), slots, operation.source);
        if target.x != source.x && !target.x.is_zero() && !source.x.is_zero() {
            return true;
        }
        let sum = (Projective::from(target) + source).to_affine();
        slots[operation.target as usize] = Slot::new(Some(engine), &sum);
        false
    });
}

/// A batch with no engine.
fn add_scalar<F: Coordinate>(
    operations: &[Operation],
    slots: &mut [Slot<F>],
    sources: Sources<'_, F>,
    kinds: &mut [Kind],
    denominators: &mut [F],
    prefixes: &mut [F],
) {
    // Apart, so that it is known within the loops where sources are.
    match sources {
        Sources::File(_) | Sources::Endomorphism(_) => add_scalar_from(
            operations,
            slots,
            |_, source| sources.load(None, &[], source),
            kinds,
            denominators,
            prefixes,
        ),
        Sources::Slots(_) | Sources::Own => add_scalar_from(
            operations,
            slots,
            |slots, source| sources.load(None, slots, source),
            kinds,
            denominators,
            prefixes,
        ),
    }
}

#[inline(always)]
fn add_scalar_from<F: Coordinate>(
    operations: &[Operation],
    slots: &mut [Slot<F>],
    load: impl Fn(&[Slot<F>], u32) -> Affine<F>,
    kinds: &mut [Kind],
    denominators: &mut [F],
    prefixes: &mut [F],
) {
    let mut products = [F::ONE; CHAINS];
    for (i, operation) in operations.iter().enumerate() {
        let target = slots[operation.target as usize].0;
        let source = load(slots, operation.source);
        let mut kind = Kind::Add;
        let mut denominator = source.x - target.x;
        // Infinity has x = 0, which few points have.
        if denominator.is_zero() || target.x.is_zero() || source.x.is_zero() {
            (kind, denominator) = classify_rare(&target, &source, denominator);
        }
        kinds[i] = kind;
        denominators[i] = denominator;
        let product = &mut products[i % CHAINS];
        prefixes[i] = *product;
        *product *= denominator;
    }

    let mut inverses = invert_all(products);
    for (i, operation) in operations.iter().enumerate().rev() {
        let running = &mut inverses[i % CHAINS];
        let inverse = *running * prefixes[i];
        *running *= denominators[i];
        let target = slots[operation.target as usize].0;
        let source = load(slots, operation.source);
        let slope = match kinds[i] {
            Kind::Add => (source.y - target.y) * inverse,
            Kind::Double => {
                let square = target.x.square();
                (square.double() + square) * inverse
            }
            Kind::Cancel => {
                slots[operation.target as usize] = Slot::INFINITY;
                continue;
            }
            Kind::Keep => continue,
            Kind::Copy => {
                slots[operation.target as usize] = Slot(source);
                continue;
            }
        };
        let x = slope.square() - target.x - source.x;
        let y = slope * (target.x - x) - target.y;
        slots[operation.target as usize] = Slot(Affine { x, y });
    }
}

/// What the sum of two points is, and what must be inverted for it (never zero).
#[cold]
fn classify_rare<F: Coordinate>(
    target: &Affine<F>,
    source: &Affine<F>,
    difference: F,
) -> (Kind, F) {
    if source.is_infinity() {
        (Kind::Keep, F::ONE)
    } else if target.is_infinity() {
        (Kind::Copy, F::ONE)
    } else if !difference.is_zero() {
        (Kind::Add, difference)
    } else if source.y == target.y && !target.y.is_zero() {
        (Kind::Double, target.y.double())
    } else {
        (Kind::Cancel, F::ONE)
    }
}

fn invert_all<F: Coordinate>(products: [F; CHAINS]) -> [F; CHAINS] {
    let mut prefixes = [F::ONE; CHAINS];
    let mut product = F::ONE;
    for (prefix, x) in prefixes.iter_mut().zip(&products) {
        *prefix = product;
        product *= *x;
    }
    // Denominators are not zero, so neither is their product. Points that were never checked and
    // whose coordinates are not below the modulus can break that; their sum means nothing anyway.
    let mut inverse = product.inverse().unwrap_or(F::ONE);
    let mut inverses = [F::ONE; CHAINS];
    for i in (0..CHAINS).rev() {
        inverses[i] = inverse * prefixes[i];
        inverse *= products[i];
    }
    inverses
}

/// Adds points to buckets in any order. See the top of this file.
pub(crate) struct Accumulator<F> {
    adder: Adder<F>,
    /// The number of the batch being filled; those below 2 are never used.
    batch: u32,
    /// Conflicts: bucket, then source.
    queue: Vec<(u32, u32)>,
    /// The queue's points while they are added to each other.
    spare: Vec<Slot<F>>,
}

impl<F: Coordinate> Accumulator<F> {
    /// An accumulator for batches of `capacity` additions.
    pub(crate) fn new(engine: Option<Engine>, capacity: usize) -> Self {
        Self {
            adder: Adder::new(engine, capacity),
            batch: 2,
            queue: Vec::with_capacity(capacity),
            spare: vec![Slot::INFINITY; capacity],
        }
    }

    /// Bytes of its memory.
    pub(crate) fn bytes(&self) -> usize {
        let queue = self.queue.capacity() * size_of::<(u32, u32)>();
        self.adder.bytes() + queue + size_of_val(&*self.spare)
    }

    /// Makes batches smaller from now on, or as large as they were made for. Nothing may be
    /// waiting.
    pub(crate) fn limit(&mut self, batch: usize) {
        assert!(self.queue.is_empty());
        self.adder.capacity = batch.clamp(1, self.spare.len());
    }

    /// Additions made since the start: the measure of work.
    #[inline(always)]
    pub(crate) fn additions(&self) -> u64 {
        self.adder.additions()
    }

    /// Adds a source to a bucket, now or in a batch to come. The sources must be the same until
    /// [`Accumulator::finish`].
    #[inline(always)]
    pub(crate) fn add(
        &mut self,
        buckets: &mut Buckets<F>,
        bucket: u32,
        source: u32,
        sources: Sources<'_, F>,
    ) {
        let stamp = buckets.stamps[bucket as usize];
        if stamp == self.batch {
            self.queue.push((bucket, source));
            if self.queue.len() == self.adder.capacity {
                self.flush(buckets, sources);
                self.collapse(buckets, sources);
            }
        } else if stamp == 0 {
            buckets.stamps[bucket as usize] = 1;
            self.adder.push_copy(bucket, source);
            self.flush_full(buckets, sources);
        } else {
            buckets.stamps[bucket as usize] = self.batch;
            self.adder.push(bucket, source);
            self.flush_full(buckets, sources);
        }
    }

    #[inline(always)]
    fn flush_full(&mut self, buckets: &mut Buckets<F>, sources: Sources<'_, F>) {
        if self.adder.is_full() {
            self.flush(buckets, sources);
            self.requeue(buckets);
        }
    }

    /// Makes all additions that are still waiting.
    pub(crate) fn finish(&mut self, buckets: &mut Buckets<F>, sources: Sources<'_, F>) {
        self.flush(buckets, sources);
        self.collapse(buckets, sources);
    }

    fn flush(&mut self, buckets: &mut Buckets<F>, sources: Sources<'_, F>) {
        self.adder.flush(&mut buckets.slots, sources);
        self.batch += 1;
    }

    /// Moves what fits from the queue to the empty batch. A queue is never longer than a batch.
    fn requeue(&mut self, buckets: &mut Buckets<F>) {
        let mut kept = 0;
        for i in 0..self.queue.len() {
            let (bucket, source) = self.queue[i];
            // The bucket is not empty: it was in a batch when its conflict arose.
            if buckets.stamps[bucket as usize] == self.batch || self.adder.is_full() {
                self.queue[kept] = (bucket, source);
                kept += 1;
            } else {
                buckets.stamps[bucket as usize] = self.batch;
                self.adder.push(bucket, source);
            }
        }
        self.queue.truncate(kept);
        debug_assert!(!self.adder.is_full() || kept == 0);
    }

    /// Adds the queue's points to each other until one is left for each bucket, then those to
    /// their buckets. The batch must be empty.
    fn collapse(&mut self, buckets: &mut Buckets<F>, sources: Sources<'_, F>) {
        if self.queue.is_empty() {
            return;
        }
        self.queue.sort_unstable();
        for (slot, entry) in self.queue.iter_mut().enumerate() {
            self.adder.push_copy(slot as u32, entry.1);
            entry.1 = slot as u32;
        }
        self.adder.flush(&mut self.spare, sources);
        loop {
            let mut kept = 0;
            let mut i = 0;
            while i < self.queue.len() {
                let (bucket, slot) = self.queue[i];
                self.queue[kept] = (bucket, slot);
                kept += 1;
                i += 1;
                if let Some(&(next, other)) = self.queue.get(i)
                    && next == bucket
                {
                    self.adder.push(slot, other);
                    i += 1;
                }
            }
            if kept == self.queue.len() {
                break;
            }
            self.queue.truncate(kept);
            self.adder.flush(&mut self.spare, Sources::Own);
        }
        for &(bucket, slot) in &self.queue {
            self.adder.push(bucket, slot);
        }
        self.adder
            .flush(&mut buckets.slots, Sources::Slots(&self.spare));
        self.queue.clear();
    }
}

/// Where a folding of buckets stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Folding {
    log2: u32,
    step: u32,
    position: u32,
}

impl Folding {
    /// The start of a folding of 2^log2 buckets.
    pub(crate) fn new(log2: u32) -> Self {
        Self {
            log2,
            step: 0,
            position: 0,
        }
    }
}

/// Carries a folding on until it has ended or about `limit` units of work are done, and says
/// whether it has ended. A unit is an addition or sixteen looks at empty buckets.
///
/// The first log2 steps fold: step s adds [h, 2 h) onto [0, h) for h = 2^(log2 - 1 - s). The
/// other steps sum within the blocks: step s of them adds the upper half onto the lower half of
/// what is left of each block [2^i, 2^(i+1)), that is 2^(i-1-s) additions in block i.
pub(crate) fn fold<F: Coordinate>(
    folding: &mut Folding,
    adder: &mut Adder<F>,
    buckets: &mut Buckets<F>,
    limit: u64,
) -> bool {
    let start = adder.additions();
    let mut looks = 0u64;
    let log2 = folding.log2;
    while folding.step < (2 * log2).saturating_sub(1) {
        let (pairs, sums) = if folding.step < log2 {
            (1u32 << (log2 - 1 - folding.step), false)
        } else {
            // All blocks together, the largest last: pairs p in [2^(i-1-s), 2^(i-s)) belong to
            // block i, so p = 0 belongs to none.
            (1u32 << (log2 - 1 - (folding.step - log2)), true)
        };
        while folding.position < pairs {
            if adder.is_full() {
                adder.flush(&mut buckets.slots, Sources::Own);
            }
            if (looks / 16).saturating_add(adder.additions() - start) >= limit {
                // What is in the batch stays there for the next call.
                return false;
            }
            let p = folding.position;
            folding.position += 1;
            looks += 1;
            let (target, source) = if sums {
                if p == 0 {
                    continue;
                }
                let s = folding.step - log2;
                let width = 1u32 << p.ilog2();
                let block = width << (s + 1);
                let target = block + (p - width);
                (target, target + width)
            } else {
                (p, p + pairs)
            };
            if buckets.stamps[source as usize] == 0 {
                continue;
            }
            if buckets.stamps[target as usize] == 0 {
                buckets.slots[target as usize] = buckets.slots[source as usize];
                buckets.stamps[target as usize] = 1;
            } else {
                adder.push(target, source);
            }
        }
        adder.flush(&mut buckets.slots, Sources::Own);
        folding.step += 1;
        folding.position = 0;
    }
    true
}

/// U_i of a folding that has ended: the sum of the buckets whose index has bit i.
pub(crate) fn folded_bit<F: Coordinate>(buckets: &Buckets<F>, bit: u32) -> Affine<F> {
    buckets.point(1 << bit)
}

/// The sum of all buckets of a folding that has ended.
pub(crate) fn folded_all<F: Coordinate>(buckets: &Buckets<F>) -> Affine<F> {
    buckets.point(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::curve::Projective;
    use crate::field::FqBn254;

    type Point = Affine<FqBn254>;

    fn multiples(count: u64) -> Vec<Point> {
        let mut sum = Projective::INFINITY;
        let points: Vec<_> = (0..count)
            .map(|_| {
                sum += FqBn254::GENERATOR;
                sum
            })
            .collect();
        Projective::batch_to_affine(&points)
    }

    /// Points into buckets, against sums made one by one: `bucket` of each point decides how
    /// many conflicts there are. With no engine and with each.
    fn check(points: &[Point], log2: u32, capacity: usize, bucket: impl Fn(usize) -> u32) {
        for engine in Engine::all().into_iter().map(Some).chain([None]) {
            for endomorphism in [false, true] {
                check_on(engine, endomorphism, points, log2, capacity, &bucket);
            }
        }
    }

    fn check_on(
        engine: Option<Engine>,
        endomorphism: bool,
        points: &[Point],
        log2: u32,
        capacity: usize,
        bucket: &impl Fn(usize) -> u32,
    ) {
        let mut bytes = vec![0; points.len() * Point::BYTES];
        for (point, bytes) in points.iter().zip(bytes.chunks_exact_mut(Point::BYTES)) {
            point.to_bytes(bytes);
        }
        let mut expected = vec![Projective::INFINITY; 1 << log2];
        let mut buckets = Buckets::new(engine, 1 << log2);
        let mut accumulator = Accumulator::new(engine, capacity);
        let sources = if endomorphism {
            Sources::Endomorphism(&bytes)
        } else {
            Sources::File(&bytes)
        };
        for i in 0..points.len() {
            let mut point = points[i];
            if endomorphism {
                point.x *= FqBn254::CUBE_ROOT;
            }
            let (point, sign) = if i % 5 == 2 {
                (-point, NEGATIVE)
            } else {
                (point, 0)
            };
            expected[bucket(i) as usize] += point;
            accumulator.add(&mut buckets, bucket(i), i as u32 | sign, sources);
        }
        accumulator.finish(&mut buckets, sources);
        for (i, expected) in expected.iter().enumerate() {
            assert_eq!(buckets.point(i as u32), expected.to_affine());
        }
        // Folding, stopped as often as possible.
        let mut folding = Folding::new(log2);
        let mut adder = Adder::new(engine, capacity);
        while !fold(&mut folding, &mut adder, &mut buckets, 1) {}
        for bit in 0..log2 {
            let mut sum = Projective::INFINITY;
            for (i, point) in expected.iter().enumerate() {
                if i >> bit & 1 == 1 {
                    sum += *point;
                }
            }
            assert_eq!(folded_bit(&buckets, bit), sum.to_affine());
        }
        let all = expected
            .into_iter()
            .fold(Projective::INFINITY, |a, b| a + b);
        assert_eq!(folded_all(&buckets), all.to_affine());
    }

    #[test]
    fn any_distribution_of_buckets_adds_up() {
        let points = multiples(300);
        for capacity in [1, 2, 7, 64, 1000] {
            for log2 in [0, 1, 3, 6] {
                let mask = (1 << log2) - 1;
                check(&points, log2, capacity, |i| (i as u32 * 37) & mask);
                check(&points, log2, capacity, |_| mask);
                check(&points, log2, capacity, |i| {
                    if i < 250 { 0 } else { i as u32 & mask }
                });
            }
        }
    }

    #[test]
    fn doublings_agree_with_those_of_single_points() {
        for engine in Engine::all().into_iter().map(Some).chain([None]) {
            for count in [0, 1, 7, 8, 9, 100] {
                let mut points = multiples(count);
                for infinite in [false, true] {
                    if infinite && count > 0 {
                        points[count as usize / 2] = Point::INFINITY;
                    }
                    let mut slots: Vec<_> = points
                        .iter()
                        .map(|point| Slot::new(engine, point))
                        .collect();
                    let mut doubler = Doubler::new(engine, 100);
                    doubler.double(&mut slots);
                    doubler.double(&mut slots);
                    for (point, slot) in points.iter().zip(&slots) {
                        let expected = Projective::from(*point).double().double().to_affine();
                        assert_eq!(slot.point(engine), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn equal_opposite_and_infinite_points_add_up() {
        let p = FqBn254::GENERATOR;
        let mut points = vec![
            p,
            p,
            -p,
            Affine::INFINITY,
            p,
            -p,
            -p,
            p,
            p,
            Affine::INFINITY,
        ];
        points.extend(vec![p; 50]);
        points.extend(vec![-p; 61]);
        for capacity in [1, 3, 16, 200] {
            for mask in [0, 1, 3] {
                check(&points, 2, capacity, |i| i as u32 & mask);
            }
        }
    }
}
