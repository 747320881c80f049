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

use super::{Affine, Coordinate};

/// A row of points that can be read and written by index.
pub(crate) trait Points<F> {
    fn load(&self, index: u32) -> Affine<F>;
    fn store(&mut self, index: u32, point: Affine<F>);
}

/// Points with a word beside each that says whether it holds anything: 0 for an empty bucket,
/// otherwise the last batch that it took part in.
pub(crate) trait Buckets<F>: Points<F> {
    fn stamp(&self, bucket: u32) -> u32;
    fn set_stamp(&mut self, bucket: u32, stamp: u32);
}

impl<F: Copy> Points<F> for [Affine<F>] {
    #[inline(always)]
    fn load(&self, index: u32) -> Affine<F> {
        self[index as usize]
    }

    #[inline(always)]
    fn store(&mut self, index: u32, point: Affine<F>) {
        self[index as usize] = point;
    }
}

/// Buckets in memory of their own.
pub(crate) struct OwnBuckets<F> {
    points: Vec<Affine<F>>,
    stamps: Vec<u32>,
}

impl<F: Coordinate> OwnBuckets<F> {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            points: vec![Affine::INFINITY; count],
            stamps: vec![0; count],
        }
    }

    /// Empties the first `count` buckets.
    pub(crate) fn clear(&mut self, count: usize) {
        self.stamps[..count].fill(0);
    }
}

impl<F: Coordinate> Points<F> for OwnBuckets<F> {
    #[inline(always)]
    fn load(&self, index: u32) -> Affine<F> {
        self.points[index as usize]
    }

    #[inline(always)]
    fn store(&mut self, index: u32, point: Affine<F>) {
        self.points[index as usize] = point;
    }
}

impl<F: Coordinate> Buckets<F> for OwnBuckets<F> {
    #[inline(always)]
    fn stamp(&self, bucket: u32) -> u32 {
        self.stamps[bucket as usize]
    }

    #[inline(always)]
    fn set_stamp(&mut self, bucket: u32, stamp: u32) {
        self.stamps[bucket as usize] = stamp;
    }
}

/// A batch of independent additions `points[target] += source`.
pub(crate) struct Adder<F> {
    operations: Vec<Operation>,
    kinds: Vec<Kind>,
    denominators: Vec<F>,
    prefixes: Vec<F>,
    /// Additions made since the start: the measure of work.
    additions: u64,
}

#[derive(Clone, Copy)]
struct Operation {
    target: u32,
    source: u32,
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

impl<F: Coordinate> Adder<F> {
    pub(crate) fn new(capacity: usize) -> Self {
        assert!(capacity > 0);
        Self {
            operations: Vec::with_capacity(capacity),
            kinds: vec![Kind::Add; capacity],
            denominators: vec![F::ONE; capacity],
            prefixes: vec![F::ONE; capacity],
            additions: 0,
        }
    }

    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.operations.len() == self.kinds.len()
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

    /// Makes the additions; `load` says which point a source is.
    pub(crate) fn flush<P: Points<F> + ?Sized>(
        &mut self,
        points: &mut P,
        load: &impl Fn(&P, u32) -> Affine<F>,
    ) {
        let count = self.operations.len();
        if count == 0 {
            return;
        }
        let operations = &self.operations[..];
        let kinds = &mut self.kinds[..count];
        let denominators = &mut self.denominators[..count];
        let prefixes = &mut self.prefixes[..count];

        let mut products = [F::ONE; CHAINS];
        for (i, operation) in operations.iter().enumerate() {
            let target = points.load(operation.target).x;
            let source = load(points, operation.source).x;
            let mut kind = Kind::Add;
            let mut denominator = source - target;
            // Infinity has x = 0, which few points have.
            if denominator.is_zero() || target.is_zero() || source.is_zero() {
                let target = points.load(operation.target);
                let source = load(points, operation.source);
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
            let target = points.load(operation.target);
            let source = load(points, operation.source);
            let slope = match kinds[i] {
                Kind::Add => (source.y - target.y) * inverse,
                Kind::Double => {
                    let square = target.x.square();
                    (square.double() + square) * inverse
                }
                Kind::Cancel => {
                    points.store(operation.target, Affine::INFINITY);
                    continue;
                }
                Kind::Keep => continue,
                Kind::Copy => {
                    points.store(operation.target, source);
                    continue;
                }
            };
            let x = slope.square() - target.x - source.x;
            let y = slope * (target.x - x) - target.y;
            points.store(operation.target, Affine { x, y });
        }
        self.operations.clear();
        self.additions += count as u64;
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
    spare: Vec<Affine<F>>,
}

impl<F: Coordinate> Accumulator<F> {
    /// An accumulator for batches of `capacity` additions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            adder: Adder::new(capacity),
            batch: 2,
            queue: Vec::with_capacity(capacity),
            spare: vec![Affine::INFINITY; capacity],
        }
    }

    /// Additions made since the start: the measure of work.
    #[inline(always)]
    pub(crate) fn additions(&self) -> u64 {
        self.adder.additions()
    }

    /// `buckets[bucket] += load(source)`, now or in a batch to come. `load` must be the same
    /// function until [`Accumulator::finish`].
    #[inline(always)]
    pub(crate) fn add<B: Buckets<F> + ?Sized>(
        &mut self,
        buckets: &mut B,
        bucket: u32,
        source: u32,
        load: &impl Fn(u32) -> Affine<F>,
    ) {
        let stamp = buckets.stamp(bucket);
        if stamp == self.batch {
            self.queue.push((bucket, source));
            if self.queue.len() == self.spare.len() {
                self.flush(buckets, load);
                self.collapse(buckets, load);
            }
        } else if stamp == 0 {
            buckets.set_stamp(bucket, 1);
            buckets.store(bucket, load(source));
        } else {
            buckets.set_stamp(bucket, self.batch);
            self.adder.push(bucket, source);
            if self.adder.is_full() {
                self.flush(buckets, load);
                self.requeue(buckets);
            }
        }
    }

    /// Makes all additions that are still waiting.
    pub(crate) fn finish<B: Buckets<F> + ?Sized>(
        &mut self,
        buckets: &mut B,
        load: &impl Fn(u32) -> Affine<F>,
    ) {
        self.flush(buckets, load);
        self.collapse(buckets, load);
    }

    fn flush<B: Buckets<F> + ?Sized>(&mut self, buckets: &mut B, load: &impl Fn(u32) -> Affine<F>) {
        self.adder.flush(buckets, &|_, source| load(source));
        self.batch += 1;
    }

    /// Moves what fits from the queue to the empty batch. A queue is never longer than a batch.
    fn requeue<B: Buckets<F> + ?Sized>(&mut self, buckets: &mut B) {
        let mut kept = 0;
        for i in 0..self.queue.len() {
            let (bucket, source) = self.queue[i];
            // The bucket is not empty: it was in a batch when its conflict arose.
            if buckets.stamp(bucket) == self.batch || self.adder.is_full() {
                self.queue[kept] = (bucket, source);
                kept += 1;
            } else {
                buckets.set_stamp(bucket, self.batch);
                self.adder.push(bucket, source);
            }
        }
        self.queue.truncate(kept);
        debug_assert!(!self.adder.is_full() || kept == 0);
    }

    /// Adds the queue's points to each other until one is left for each bucket, then those to
    /// their buckets. The batch must be empty.
    fn collapse<B: Buckets<F> + ?Sized>(
        &mut self,
        buckets: &mut B,
        load: &impl Fn(u32) -> Affine<F>,
    ) {
        if self.queue.is_empty() {
            return;
        }
        self.queue.sort_unstable();
        for (slot, entry) in self.queue.iter_mut().enumerate() {
            self.spare[slot] = load(entry.1);
            entry.1 = slot as u32;
        }
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
            self.adder
                .flush(&mut self.spare[..], &|spare: &[Affine<F>], slot| {
                    spare.load(slot)
                });
        }
        for &(bucket, slot) in &self.queue {
            self.adder.push(bucket, slot);
        }
        let spare = &self.spare;
        self.adder.flush(buckets, &|_, slot| spare[slot as usize]);
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
pub(crate) fn fold<F: Coordinate, B: Buckets<F> + ?Sized>(
    folding: &mut Folding,
    adder: &mut Adder<F>,
    buckets: &mut B,
    limit: u64,
) -> bool {
    let load = |buckets: &B, index: u32| buckets.load(index);
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
                adder.flush(buckets, &load);
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
            if buckets.stamp(source) == 0 {
                continue;
            }
            if buckets.stamp(target) == 0 {
                let point = buckets.load(source);
                buckets.store(target, point);
                buckets.set_stamp(target, 1);
            } else {
                adder.push(target, source);
            }
        }
        adder.flush(buckets, &load);
        folding.step += 1;
        folding.position = 0;
    }
    true
}

/// U_i of a folding that has ended: the sum of the buckets whose index has bit i.
pub(crate) fn folded_bit<F: Coordinate, B: Buckets<F> + ?Sized>(
    buckets: &B,
    bit: u32,
) -> Affine<F> {
    folded_at(buckets, 1 << bit)
}

/// The sum of all buckets of a folding that has ended.
pub(crate) fn folded_all<F: Coordinate, B: Buckets<F> + ?Sized>(buckets: &B) -> Affine<F> {
    folded_at(buckets, 0)
}

fn folded_at<F: Coordinate, B: Buckets<F> + ?Sized>(buckets: &B, place: u32) -> Affine<F> {
    if buckets.stamp(place) == 0 {
        Affine::INFINITY
    } else {
        buckets.load(place)
    }
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
    /// many conflicts there are.
    fn check(points: &[Point], log2: u32, capacity: usize, bucket: impl Fn(usize) -> u32) {
        let mut expected = vec![Projective::INFINITY; 1 << log2];
        let mut buckets = OwnBuckets::new(1 << log2);
        let mut accumulator = Accumulator::new(capacity);
        let load = |source: u32| points[source as usize];
        for i in 0..points.len() {
            expected[bucket(i) as usize] += points[i];
            accumulator.add(&mut buckets, bucket(i), i as u32, &load);
        }
        accumulator.finish(&mut buckets, &load);
        for (i, expected) in expected.iter().enumerate() {
            assert_eq!(folded_at(&buckets, i as u32), expected.to_affine());
        }
        // Folding, stopped as often as possible.
        let mut folding = Folding::new(log2);
        let mut adder = Adder::new(capacity);
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
