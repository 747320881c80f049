//! Levels of butterflies on an engine (`lanes.rs`): the same passes as in `ntt.rs`, eight or four
//! butterflies at a time.
//!
//! A unit's elements are cut into lanes once, as they come in, and joined once, as they go out; in
//! between they are vectors of W neighbouring elements, known up to a multiple of the modulus.
//! Levels of distance W and more pair vectors with vectors and go two by two, so that half of the
//! sums need not be reduced. Levels of smaller distances would pair lanes with lanes: for them,
//! blocks of W^2 elements are turned, so that lane a of vector b is element W a + b, and turned
//! back afterwards. A shift does its scaling between the two turns.
//!
//! Factors are in engine form and lie as vectors, so that a product reads them where they lie;
//! those of the inverse have a table of their own, since backwards their lanes would be too.
//!
//! Bounds, in the notation of `lanes/radix52.rs`: vectors are [2] between steps, and no step makes
//! a sum or difference beyond [10], of which a product with a factor below the modulus is [2]
//! again.

use crate::field::PrimeField;
use crate::lanes::{Engine, Laned, Lanes, Line, Task, WIDTH_MAX};

use super::{Levels, Pass};

/// The factors of one size of transform, as vectors of an engine.
pub(super) struct Tables<F> {
    engine: Engine,
    /// As the scalar twiddles, level by level; the levels below a vector are not used.
    forward: Vec<Line>,
    /// The inverses of the same.
    inverse: Vec<Line>,
    /// The first scalar twiddles, for the levels within a turned block.
    small: Vec<F>,
}

/// log2 of the least transform that is done on an engine: a turned block of the widest.
pub(super) const LOG2_MIN: u32 = 2 * WIDTH_MAX.ilog2();

impl<F: PrimeField + Laned> Tables<F> {
    /// From the scalar twiddles of a transform of at least 2^[`LOG2_MIN`] elements.
    pub(super) fn new(engine: Engine, twiddles: &[F]) -> Self {
        let mut inverse = twiddles.to_vec();
        for level in 0..twiddles.len().ilog2() {
            let h = 1usize << level;
            for j in 1..h {
                // w_(2h)^-j = -w_(2h)^(h - j).
                inverse[h + j] = -twiddles[2 * h - j];
            }
        }
        let pack = |elements: &[F]| {
            let turned = false;
            engine.run(Packing { elements, turned })
        };
        Self {
            engine,
            forward: pack(twiddles),
            inverse: pack(&inverse),
            small: twiddles[..WIDTH_MAX].to_vec(),
        }
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine
    }

    /// Does a pass's levels on the elements of one unit that begins at `start` in the transform.
    /// `scratch` has the lines that [`lines`] says; `scales` are those of [`turned`], for a turn;
    /// `scale` multiplies all elements behind the smallest levels of decimation in frequency.
    pub(super) fn run_unit(
        &self,
        pass: Pass,
        start: usize,
        scales: &[Line],
        scale: Option<F>,
        elements: &mut [F],
        scratch: &mut [Line],
    ) {
        self.engine.run(Unit {
            tables: self,
            pass,
            start,
            scales,
            scale,
            elements,
            scratch,
        });
    }
}

/// Scalar scales as vectors, in turned blocks.
pub(super) fn turned<F: PrimeField + Laned>(engine: Engine, elements: &[F]) -> Vec<Line> {
    let turned = true;
    engine.run(Packing { elements, turned })
}

/// Lines of scratch for a unit of so many elements.
pub(super) fn lines<F: PrimeField + Laned>(engine: Engine, elements: usize) -> usize {
    engine.run::<F, _>(Lines(elements))
}

struct Lines(usize);

impl<F: PrimeField> Task<F> for Lines {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, _: L) -> usize {
        L::lines(self.0.div_ceil(L::WIDTH))
    }
}

/// Elements to vectors.
struct Packing<'a, F> {
    elements: &'a [F],
    turned: bool,
}

impl<F: PrimeField> Task<F> for Packing<'_, F> {
    type Output = Vec<Line>;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) -> Vec<Line> {
        let mut lines = vec![Line::EMPTY; L::lines(self.elements.len() / L::WIDTH)];
        let mut elements = [F::ZERO; WIDTH_MAX];
        for (v, vector) in L::vectors_mut(&mut lines).iter_mut().enumerate() {
            for (lane, element) in elements[..L::WIDTH].iter_mut().enumerate() {
                let (block, within) = (v / L::WIDTH, v % L::WIDTH);
                let at = if self.turned {
                    (block * L::WIDTH + lane) * L::WIDTH + within
                } else {
                    v * L::WIDTH + lane
                };
                *element = self.elements[at];
            }
            *vector = lanes.pack(&elements);
        }
        lines
    }
}

/// One unit of a pass.
struct Unit<'a, F> {
    tables: &'a Tables<F>,
    pass: Pass,
    start: usize,
    scales: &'a [Line],
    scale: Option<F>,
    elements: &'a mut [F],
    scratch: &'a mut [Line],
}

impl<F: PrimeField> Task<F> for Unit<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) {
        let count = self.elements.len() / L::WIDTH;
        let vectors = &mut L::vectors_mut(self.scratch)[..count];
        for (vector, elements) in vectors.iter_mut().zip(self.elements.chunks_exact(L::WIDTH)) {
            *vector = lanes.take(elements);
        }
        let forward = L::vectors(&self.tables.forward);
        let inverse = L::vectors(&self.tables.inverse);
        match self.pass {
            Pass::Frequency {
                levels,
                inverse: inverted,
            } => {
                let place = Place::new(levels, self.start, L::WIDTH);
                let table = if inverted { inverse } else { forward };
                frequency(lanes, &place, table, vectors);
                if levels.low == 0 {
                    let roots = small_roots(lanes, &self.tables.small, inverted);
                    let scale = self.scale.map(|scale| lanes.pack(&[scale; WIDTH_MAX]));
                    for block in vectors.chunks_exact_mut(L::WIDTH) {
                        lanes.turn(block);
                        frequency_small(lanes, &roots, block);
                        if let Some(scale) = scale {
                            for x in &mut *block {
                                *x = lanes.mul(*x, scale);
                            }
                        }
                        lanes.turn(block);
                    }
                }
            }
            Pass::Time { levels } => {
                assert!(levels.low > 0, "the smallest levels belong to a turn");
                time(
                    lanes,
                    &Place::new(levels, self.start, L::WIDTH),
                    forward,
                    vectors,
                );
            }
            Pass::Turn { levels } => {
                let place = Place::new(levels, self.start, L::WIDTH);
                let there = small_roots(lanes, &self.tables.small, true);
                let back = small_roots(lanes, &self.tables.small, false);
                let scales = &L::vectors(self.scales)[self.start / L::WIDTH..];
                frequency(lanes, &place, inverse, vectors);
                let blocks = vectors.chunks_exact_mut(L::WIDTH);
                for (block, scales) in blocks.zip(scales.chunks_exact(L::WIDTH)) {
                    lanes.turn(block);
                    frequency_small(lanes, &there, block);
                    for (x, scale) in block.iter_mut().zip(scales) {
                        *x = lanes.mul(*x, *scale);
                    }
                    time_small(lanes, &back, block);
                    lanes.turn(block);
                }
                time(lanes, &place, forward, vectors);
            }
            Pass::Reverse => unreachable!("a reversal has no butterflies"),
        }
        for (vector, elements) in vectors.iter().zip(self.elements.chunks_exact_mut(L::WIDTH)) {
            lanes.put(*vector, elements);
        }
    }
}

/// Where a unit's vectors are among the levels.
struct Place {
    levels: Levels,
    /// The least level whose distance is a whole vector.
    least: u32,
    /// log2 of the vectors in a row of neighbouring columns.
    row_log2: u32,
    /// log2 of the vectors of the transform from a row to the next.
    stride_log2: u32,
    /// The unit's first column, in vectors.
    first: usize,
    width_log2: u32,
}

impl Place {
    #[inline(always)]
    fn new(levels: Levels, start: usize, width: usize) -> Self {
        let width_log2 = width.ilog2();
        if levels.low == 0 {
            // One row after another, each a vector.
            return Self {
                levels,
                least: width_log2,
                row_log2: 0,
                stride_log2: 0,
                first: 0,
                width_log2,
            };
        }
        Self {
            levels,
            least: levels.low,
            row_log2: levels.columns().ilog2() - width_log2,
            stride_log2: levels.low - width_log2,
            first: (start & ((1 << levels.low) - 1)) >> width_log2,
            width_log2,
        }
    }

    /// The distance of a level, in vectors of the unit.
    #[inline(always)]
    fn distance(&self, level: u32) -> usize {
        1 << (level - self.least + self.row_log2)
    }

    /// Which vector of a table has the factors of a level for the vector at this position of the
    /// level's block.
    #[inline(always)]
    fn factor(&self, level: u32, position: usize) -> usize {
        let (row, column) = (
            position >> self.row_log2,
            position & ((1 << self.row_log2) - 1),
        );
        (1 << (level - self.width_log2)) + (row << self.stride_log2) + self.first + column
    }
}

/// Decimation in frequency, levels from the highest to the least of whole vectors.
#[inline(always)]
fn frequency<F: PrimeField, L: Lanes<F>>(
    lanes: L,
    place: &Place,
    table: &[L::Vector],
    vectors: &mut [L::Vector],
) {
    let mut level = place.levels.high;
    while level >= place.least + 2 {
        let (upper, lower) = (level - 1, level - 2);
        let q = place.distance(lower);
        for block in vectors.chunks_exact_mut(4 * q) {
            let (ab, cd) = block.split_at_mut(2 * q);
            let (a, b) = ab.split_at_mut(q);
            let (c, d) = cd.split_at_mut(q);
            for i in 0..q {
                let sum_ac = lanes.plus(a[i], c[i]);
                let sum_bd = lanes.plus(b[i], d[i]);
                let difference_ac = lanes.normal(lanes.minus(a[i], c[i]));
                let difference_bd = lanes.normal(lanes.minus(b[i], d[i]));
                let t = lanes.mul(difference_ac, table[place.factor(upper, i)]);
                let u = lanes.mul(difference_bd, table[place.factor(upper, q + i)]);
                let w = table[place.factor(lower, i)];
                a[i] = lanes.reduced(lanes.plus(sum_ac, sum_bd));
                b[i] = lanes.mul(lanes.normal(lanes.minus(sum_ac, sum_bd)), w);
                c[i] = lanes.reduced(lanes.plus(t, u));
                d[i] = lanes.mul(lanes.normal(lanes.minus(t, u)), w);
            }
        }
        level -= 2;
    }
    if level > place.least {
        let level = level - 1;
        let q = place.distance(level);
        for block in vectors.chunks_exact_mut(2 * q) {
            let (a, b) = block.split_at_mut(q);
            for i in 0..q {
                let difference = lanes.normal(lanes.minus(a[i], b[i]));
                a[i] = lanes.reduced(lanes.plus(a[i], b[i]));
                b[i] = lanes.mul(difference, table[place.factor(level, i)]);
            }
        }
    }
}

/// Decimation in time, levels from the least of whole vectors to the highest.
#[inline(always)]
fn time<F: PrimeField, L: Lanes<F>>(
    lanes: L,
    place: &Place,
    table: &[L::Vector],
    vectors: &mut [L::Vector],
) {
    let mut level = place.least;
    if (place.levels.high - level) % 2 == 1 {
        let q = place.distance(level);
        for block in vectors.chunks_exact_mut(2 * q) {
            let (a, b) = block.split_at_mut(q);
            for i in 0..q {
                let t = lanes.mul(b[i], table[place.factor(level, i)]);
                b[i] = lanes.reduced(lanes.minus(a[i], t));
                a[i] = lanes.reduced(lanes.plus(a[i], t));
            }
        }
        level += 1;
    }
    while level < place.levels.high {
        let (lower, upper) = (level, level + 1);
        let q = place.distance(lower);
        for block in vectors.chunks_exact_mut(4 * q) {
            let (ab, cd) = block.split_at_mut(2 * q);
            let (a, b) = ab.split_at_mut(q);
            let (c, d) = cd.split_at_mut(q);
            for i in 0..q {
                let w = table[place.factor(lower, i)];
                let t = lanes.mul(b[i], w);
                let u = lanes.mul(d[i], w);
                let (a_sum, a_difference) = (lanes.plus(a[i], t), lanes.minus(a[i], t));
                let c_sum = lanes.normal(lanes.plus(c[i], u));
                let c_difference = lanes.normal(lanes.minus(c[i], u));
                let t = lanes.mul(c_sum, table[place.factor(upper, i)]);
                let u = lanes.mul(c_difference, table[place.factor(upper, q + i)]);
                a[i] = lanes.reduced(lanes.plus(a_sum, t));
                b[i] = lanes.reduced(lanes.plus(a_difference, u));
                c[i] = lanes.reduced(lanes.minus(a_sum, t));
                d[i] = lanes.reduced(lanes.minus(a_difference, u));
            }
        }
        level += 2;
    }
}

/// w_W^j, or its inverse, in every lane, for j below W / 2.
#[inline(always)]
fn small_roots<F: PrimeField, L: Lanes<F>>(
    lanes: L,
    small: &[F],
    inverse: bool,
) -> [L::Vector; WIDTH_MAX / 2] {
    let half = L::WIDTH / 2;
    let mut roots = [lanes.one(); WIDTH_MAX / 2];
    for (j, root) in roots[..half].iter_mut().enumerate().skip(1) {
        let element = if inverse {
            -small[2 * half - j]
        } else {
            small[half + j]
        };
        *root = lanes.pack(&[element; WIDTH_MAX]);
    }
    roots
}

/// The last levels of decimation in frequency on a turned block.
#[inline(always)]
fn frequency_small<F: PrimeField, L: Lanes<F>>(
    lanes: L,
    roots: &[L::Vector; WIDTH_MAX / 2],
    block: &mut [L::Vector],
) {
    let mut h = L::WIDTH / 2;
    while h > 0 {
        for pairs in block.chunks_exact_mut(2 * h) {
            let (a, b) = pairs.split_at_mut(h);
            for j in 0..h {
                let difference = lanes.minus(a[j], b[j]);
                a[j] = lanes.reduced(lanes.plus(a[j], b[j]));
                b[j] = if j == 0 {
                    lanes.reduced(difference)
                } else {
                    lanes.mul(lanes.normal(difference), roots[j * (L::WIDTH / 2 / h)])
                };
            }
        }
        h /= 2;
    }
}

/// The first levels of decimation in time on a turned block.
#[inline(always)]
fn time_small<F: PrimeField, L: Lanes<F>>(
    lanes: L,
    roots: &[L::Vector; WIDTH_MAX / 2],
    block: &mut [L::Vector],
) {
    let mut h = 1;
    while h < L::WIDTH {
        for pairs in block.chunks_exact_mut(2 * h) {
            let (a, b) = pairs.split_at_mut(h);
            for j in 0..h {
                let t = if j == 0 {
                    b[j]
                } else {
                    lanes.mul(b[j], roots[j * (L::WIDTH / 2 / h)])
                };
                b[j] = lanes.reduced(lanes.minus(a[j], t));
                a[j] = lanes.reduced(lanes.plus(a[j], t));
            }
        }
        h *= 2;
    }
}
