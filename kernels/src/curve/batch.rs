//! One batch of affine additions on an engine: as many chords side by side as it has lanes; and of
//! doublings, tangents in the place of chords.
//!
//! Two passes over the batch. Forwards, each group of additions gets its denominators d = x2 - x1,
//! and running products of them are kept; [`CHAINS`] products run side by side, since each alone
//! would wait for its own last multiplication. Then all lanes of all chains are inverted with one
//! scalar inversion. Backwards, each group's inverse is the chain's inverse times the product
//! kept, and the chord's slope, x and y follow: 5 multiplications and a squaring an addition. The
//! source's x is not loaded again: s^2 - x1 - x2 is s^2 - 2 x1 - d.
//!
//! Points are read where they lie: sources from a key's bytes in file form or from slots, targets
//! from slots. The forward pass changes nothing but its own memory; if it meets a denominator that
//! is zero or a point at infinity it says so, and the caller settles those additions one by one.

use crate::field::{
    Fq2, FqBls12_381, FqBn254, ModulusFqBls12_381, ModulusFqBn254, batch_inverse_in,
};
use crate::lanes::{Engine, Laned, Lanes, Line, Task, WIDTH_MAX, forward, forward_mut};

use super::accumulate::{NEGATIVE, Operation, Slot, Sources};
use super::{Affine, Coordinate};

/// Makes the additions `targets[operation.target] += source`, of which no target occurs twice nor
/// as a source, and says whether it did: where a denominator is zero or a point is infinity, no
/// target has been touched.
///
/// # Panics
/// If an operation names a point that is not there, or the scratch is shorter than
/// [`scratch_lines`] says.
pub(crate) fn add_all<F: Coordinate>(
    engine: Engine,
    operations: &[Operation],
    targets: &mut [Slot<F>],
    sources: Sources<'_, F>,
    scratch: &mut [Line],
) -> bool {
    assert!(scratch.len() >= scratch_lines::<F>(engine, operations.len()));
    let points = Points::new(operations, targets, sources);
    let scratch = scratch.as_mut_ptr();
    F::add_points(engine, Addition { points, scratch })
}

/// Doubles all points and says whether it did: where a y is zero, as infinity's is, no point has
/// been touched.
///
/// # Panics
/// If the scratch is shorter than [`scratch_lines`] says.
pub(crate) fn double_all<F: Coordinate>(
    engine: Engine,
    points: &mut [Slot<F>],
    scratch: &mut [Line],
) -> bool {
    assert!(scratch.len() >= scratch_lines::<F>(engine, points.len()));
    let scratch = scratch.as_mut_ptr();
    F::double_points(engine, Doubling { points, scratch })
}

/// Copies sources to targets, of which none occurs twice, in engine form.
///
/// # Panics
/// If an operation names a point that is not there.
pub(crate) fn copy_all<F: Coordinate>(
    engine: Engine,
    operations: &[Operation],
    targets: &mut [Slot<F>],
    sources: Sources<'_, F>,
) {
    F::copy_points(engine, Copies(Points::new(operations, targets, sources)));
}

/// How many lines of scratch a batch of so many additions needs.
pub(crate) fn scratch_lines<F: Coordinate>(engine: Engine, capacity: usize) -> usize {
    engine.run::<F, _>(ScratchLines(capacity))
}

/// The same for each group by itself. Generic functions would be compiled by every crate that computes with points, a
/// minute each; these are compiled here, once.
pub trait Batched: Laned {
    /// Adds, and says whether it did.
    fn add_points(engine: Engine, addition: Addition<'_, Self>) -> bool;
    /// Doubles, and says whether it did.
    fn double_points(engine: Engine, doubling: Doubling<'_, Self>) -> bool;
    /// Copies.
    fn copy_points(engine: Engine, copies: Copies<'_, Self>);
}

macro_rules! batched {
    ($($field:ty),*) => {$(
        impl Batched for $field {
            fn add_points(engine: Engine, addition: Addition<'_, Self>) -> bool {
                engine.run(addition)
            }

            fn double_points(engine: Engine, doubling: Doubling<'_, Self>) -> bool {
                engine.run(doubling)
            }

            fn copy_points(engine: Engine, copies: Copies<'_, Self>) {
                engine.run(copies);
            }
        }
    )*};
}

batched!(
    FqBn254,
    Fq2<ModulusFqBn254, 4>,
    FqBls12_381,
    Fq2<ModulusFqBls12_381, 6>
);

struct ScratchLines(usize);

impl<F: Coordinate> Task<F> for ScratchLines {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, _: L) -> usize {
        L::lines(2 * self.0.div_ceil(L::WIDTH))
    }
}

/// Points by their addresses, all of which are there.
struct Points<'a, F> {
    operations: &'a [Operation],
    targets: *mut Slot<F>,
    sources: *const u8,
    stride: usize,
    form: Form,
}

/// What form sources are in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    File,
    /// In file form, and not they but what the endomorphism makes of them.
    Endomorphism,
    Engine,
}

impl<'a, F: Coordinate> Points<'a, F> {
    /// Holds the operations against the points: what follows trusts them.
    fn new(
        operations: &'a [Operation],
        targets: &'a mut [Slot<F>],
        sources: Sources<'a, F>,
    ) -> Self {
        let targets_len = targets.len();
        let targets = targets.as_mut_ptr();
        let (sources, sources_len, stride, form) = match sources {
            Sources::File(bytes) | Sources::Endomorphism(bytes) => {
                let stride = Affine::<F>::BYTES;
                let form = match sources {
                    Sources::File(_) => Form::File,
                    _ => Form::Endomorphism,
                };
                (bytes.as_ptr(), bytes.len() / stride, stride, form)
            }
            Sources::Slots(slots) => {
                let stride = size_of::<Slot<F>>();
                (slots.as_ptr().cast(), slots.len(), stride, Form::Engine)
            }
            Sources::Own => {
                let stride = size_of::<Slot<F>>();
                (
                    targets.cast_const().cast(),
                    targets_len,
                    stride,
                    Form::Engine,
                )
            }
        };
        let there = operations.iter().fold(true, |there, operation| {
            there
                & ((operation.target as usize) < targets_len)
                & (((operation.source & !NEGATIVE) as usize) < sources_len)
        });
        assert!(there);
        Self {
            operations,
            targets,
            sources,
            stride,
            form,
        }
    }

    fn groups<L: Lanes<F>>(&self) -> usize {
        self.operations.len().div_ceil(L::WIDTH)
    }

    #[inline(always)]
    fn group<L: Lanes<F>>(&self, g: usize, filler: [*mut u64; 2]) -> Group {
        let mut group = Group {
            targets: [filler[0]; WIDTH_MAX],
            sources: [filler[1].cast_const(); WIDTH_MAX],
            negative: 0,
        };
        let start = g * L::WIDTH;
        let end = self.operations.len().min(start + L::WIDTH);
        for (lane, operation) in self.operations[start..end].iter().enumerate() {
            group.targets[lane] = self.targets.wrapping_add(operation.target as usize).cast();
            let at = (operation.source & !NEGATIVE) as usize * self.stride;
            group.sources[lane] = self.sources.wrapping_add(at).cast();
            group.negative |= u8::from(operation.source & NEGATIVE != 0) << lane;
        }
        group
    }

    /// Asks for the lines of a full group's points.
    #[inline(always)]
    fn prefetch<L: Lanes<F>>(&self, g: usize) {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = g * L::WIDTH;
            let end = self.operations.len().min(start + L::WIDTH);
            for operation in &self.operations[start..end] {
                let target: *const i8 = self.targets.wrapping_add(operation.target as usize).cast();
                let at = (operation.source & !NEGATIVE) as usize * self.stride;
                let source: *const i8 = self.sources.wrapping_add(at).cast();
                let bytes = Affine::<F>::BYTES;
                // SAFETY: a prefetch is a hint: it reads nothing and takes any address.
                unsafe {
                    for line in (0..bytes).step_by(64) {
                        _mm_prefetch::<_MM_HINT_T0>(target.wrapping_add(line));
                        _mm_prefetch::<_MM_HINT_T0>(source.wrapping_add(line));
                    }
                    _mm_prefetch::<_MM_HINT_T0>(source.wrapping_add(bytes - 1));
                }
            }
        }
    }
}

/// beta in every lane.
#[inline(always)]
fn cube_root<F: Coordinate, L: Lanes<F>>(lanes: L) -> L::Vector {
    let stored = L::store(&F::CUBE_ROOT);
    let rows = [std::ptr::from_ref(&stored).cast(); WIDTH_MAX];
    // SAFETY: each row is an element, whose bytes are its words.
    unsafe { lanes.gather::<false>(&rows).0 }
}

/// The points of one group.
struct Group {
    targets: [*mut u64; WIDTH_MAX],
    sources: [*const u64; WIDTH_MAX],
    negative: u8,
}

/// The same pointers to read from.
#[inline(always)]
fn constant(targets: &[*mut u64; WIDTH_MAX]) -> [*const u64; WIDTH_MAX] {
    let mut rows = [std::ptr::null(); WIDTH_MAX];
    for (row, target) in rows.iter_mut().zip(targets) {
        *row = target.cast_const();
    }
    rows
}

/// See [`copy_all`].
pub struct Copies<'a, F>(Points<'a, F>);

impl<F: Coordinate> Task<F> for Copies<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) {
        match self.0.form {
            Form::File => self.copy::<L, true, false>(lanes),
            Form::Endomorphism => self.copy::<L, true, true>(lanes),
            Form::Engine => self.copy::<L, false, false>(lanes),
        }
    }
}

impl<F: Coordinate> Copies<'_, F> {
    #[inline(always)]
    fn copy<L: Lanes<F>, const FILE: bool, const PHI: bool>(self, lanes: L) {
        let beta = cube_root(lanes);
        let mut filler = [[0u64; POINT_WORDS_MAX]; 2];
        let [target, source] = &mut filler;
        let filler = [target.as_mut_ptr(), source.as_mut_ptr()];
        let field_words = F::BYTES / 8;
        for g in 0..self.0.groups::<L>() {
            let group = self.0.group::<L>(g, filler);
            let source_ys = forward(&group.sources, field_words);
            let target_ys = forward_mut(&group.targets, field_words);
            // SAFETY: y follows x in points that `Points::new` found to be there, or the fillers.
            unsafe {
                let (x, x_zero) = lanes.gather::<FILE>(&group.sources);
                let (y, y_zero) = lanes.gather::<FILE>(&source_ys);
                let x = if PHI { lanes.scale(x, beta) } else { x };
                lanes.scatter(&group.targets, lanes.fit(0, x));
                lanes.scatter(&target_ys, lanes.fit(group.negative, y));
                // Infinity stays all zero, which a multiple of the modulus is not.
                let mut infinite = x_zero & y_zero;
                while infinite != 0 {
                    let lane = infinite.trailing_zeros() as usize;
                    group.targets[lane].write_bytes(0, 2 * field_words);
                    infinite &= infinite - 1;
                }
            }
        }
    }
}

/// See [`add_all`].
pub struct Addition<'a, F> {
    points: Points<'a, F>,
    scratch: *mut Line,
}

impl<F: Coordinate> Task<F> for Addition<'_, F> {
    type Output = bool;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) -> bool {
        // Apart, so that the form is known when each is compiled.
        match self.points.form {
            Form::File => self.add::<L, true, false>(lanes),
            Form::Endomorphism => self.add::<L, true, true>(lanes),
            Form::Engine => self.add::<L, false, false>(lanes),
        }
    }
}

/// Products that run side by side.
const CHAINS: usize = 2;

/// Groups ahead for which memory is asked in advance.
const AHEAD: usize = 2;

/// Words of the largest point.
const POINT_WORDS_MAX: usize = 24;

impl<F: Coordinate> Addition<'_, F> {
    #[inline(always)]
    fn add<L: Lanes<F>, const FILE: bool, const PHI: bool>(self, lanes: L) -> bool {
        let beta = cube_root(lanes);
        let field_words = F::BYTES / 8;
        let groups = self.points.groups::<L>();
        let denominators: *mut L::Vector = self.scratch.cast();
        // SAFETY: the scratch holds twice as many vectors as there are groups.
        let products = unsafe { denominators.add(groups) };
        // What fills the lanes of the last group: points with x = 1 and x = 2, in either form no
        // multiple of p apart.
        let mut filler = [[0u64; POINT_WORDS_MAX]; 2];
        filler[0][0] = 1;
        filler[1][0] = 2;
        let [target, source] = &mut filler;
        let filler = [target.as_mut_ptr(), source.as_mut_ptr()];

        let mut chains = [lanes.one(); CHAINS];
        let mut infinite = 0;
        for g in 0..groups {
            if g + AHEAD < groups {
                self.points.prefetch::<L>(g + AHEAD);
            }
            let group = self.points.group::<L>(g, filler);
            let targets = constant(&group.targets);
            // SAFETY: x comes first in points that `Points::new` found to be there, or the
            // fillers; vector g is within the scratch.
            unsafe {
                let (source, source_zero) = lanes.gather::<FILE>(&group.sources);
                let (target, target_zero) = lanes.gather::<false>(&targets);
                infinite |= source_zero | target_zero;
                let source = if PHI {
                    lanes.scale(source, beta)
                } else {
                    source
                };
                let d = lanes.difference(source, target);
                denominators.add(g).write(d);
                products.add(g).write(chains[g % CHAINS]);
                chains[g % CHAINS] = lanes.mul(chains[g % CHAINS], d);
            }
        }
        // All zero words may be a point with x = 0 as well: rare enough to ask one by one.
        if infinite != 0 || !invert(lanes, &mut chains) {
            return false;
        }
        for g in (0..groups).rev() {
            if g >= AHEAD {
                self.points.prefetch::<L>(g - AHEAD);
            }
            let group = self.points.group::<L>(g, filler);
            let targets = constant(&group.targets);
            let target_ys = forward(&targets, field_words);
            let source_ys = forward(&group.sources, field_words);
            let new_ys = forward_mut(&group.targets, field_words);
            // SAFETY: as above, y following x; the vectors were written in the first pass.
            unsafe {
                let d = denominators.add(g).read();
                let inverse = lanes.mul(chains[g % CHAINS], products.add(g).read());
                chains[g % CHAINS] = lanes.mul(chains[g % CHAINS], d);
                let (x, _) = lanes.gather::<false>(&targets);
                let (y, _) = lanes.gather::<false>(&target_ys);
                let (source_y, _) = lanes.gather::<FILE>(&source_ys);
                let rise = lanes.signed_difference(group.negative, source_y, y);
                let slope = lanes.mul(inverse, rise);
                let x3 = lanes.square_less(slope, x, d);
                let y3 = lanes.chord(slope, x, x3, y);
                lanes.scatter(&group.targets, x3);
                lanes.scatter(&new_ys, y3);
            }
        }
        true
    }
}

/// See [`double_all`].
pub struct Doubling<'a, F> {
    points: &'a mut [Slot<F>],
    scratch: *mut Line,
}

impl<F: Coordinate> Task<F> for Doubling<'_, F> {
    type Output = bool;

    /// A tangent's slope is 3 x^2 / 2 y: 5 multiplications and 2 squarings a doubling.
    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) -> bool {
        let field_words = F::BYTES / 8;
        let count = self.points.len();
        let groups = count.div_ceil(L::WIDTH);
        let first = self.points.as_mut_ptr();
        let denominators: *mut L::Vector = self.scratch.cast();
        // SAFETY: the scratch holds twice as many vectors as there are groups.
        let products = unsafe { denominators.add(groups) };
        // What fills the lanes of the last group: x = 1, y = 1, of which no curve is asked.
        let mut filler = [0u64; POINT_WORDS_MAX];
        filler[0] = 1;
        filler[field_words] = 1;
        let filler = filler.as_mut_ptr();
        let group = |g: usize| {
            let mut rows = [filler; WIDTH_MAX];
            let start = g * L::WIDTH;
            for (row, i) in rows.iter_mut().zip(start..count.min(start + L::WIDTH)) {
                *row = first.wrapping_add(i).cast();
            }
            rows
        };

        let mut chains = [lanes.one(); CHAINS];
        for g in 0..groups {
            let ys = forward(&constant(&group(g)), field_words);
            // SAFETY: y follows x in the points and in the filler; vector g is within the scratch.
            unsafe {
                let (y, _) = lanes.gather::<false>(&ys);
                let d = lanes.normal(lanes.plus(y, y));
                denominators.add(g).write(d);
                products.add(g).write(chains[g % CHAINS]);
                chains[g % CHAINS] = lanes.mul(chains[g % CHAINS], d);
            }
        }
        if !invert(lanes, &mut chains) {
            return false;
        }
        for g in (0..groups).rev() {
            let rows = group(g);
            let xs = constant(&rows);
            let ys = forward(&xs, field_words);
            let new_ys = forward_mut(&rows, field_words);
            // SAFETY: as above; the vectors were written in the first pass.
            unsafe {
                let d = denominators.add(g).read();
                let inverse = lanes.mul(chains[g % CHAINS], products.add(g).read());
                chains[g % CHAINS] = lanes.mul(chains[g % CHAINS], d);
                let (x, _) = lanes.gather::<false>(&xs);
                let (y, _) = lanes.gather::<false>(&ys);
                let square = lanes.mul(x, x);
                let thrice = lanes.plus(lanes.plus(square, square), square);
                let slope = lanes.mul(inverse, lanes.reduced(lanes.normal(thrice)));
                let x3 = lanes.square_less(slope, x, lanes.difference(x, x));
                let y3 = lanes.chord(slope, x, x3, y);
                lanes.scatter(&rows, x3);
                lanes.scatter(&new_ys, y3);
            }
        }
        true
    }
}

/// Inverts all lanes of all chains, unless one is zero.
#[inline(always)]
fn invert<F: Coordinate, L: Lanes<F>>(lanes: L, chains: &mut [L::Vector; CHAINS]) -> bool {
    let mut elements = [[F::ONE; WIDTH_MAX]; CHAINS];
    for (chain, elements) in chains.iter().zip(&mut elements) {
        lanes.unpack(*chain, elements);
    }
    let flat = elements.as_flattened_mut();
    if flat.iter().any(F::is_zero) {
        return false;
    }
    batch_inverse_in(flat, &mut [F::ONE; CHAINS * WIDTH_MAX]);
    for (chain, elements) in chains.iter_mut().zip(&elements) {
        *chain = lanes.pack(elements);
    }
    true
}
