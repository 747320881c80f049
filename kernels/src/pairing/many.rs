//! The Miller loops of many pairs that nobody has prepared, multiplied.
//!
//! On an engine each lane runs the loops of its own pairs, n / 8 or n / 4 of them, and all lanes
//! go in step: their pairs share the squarings of one value a lane, and each step of all pairs
//! shares one inversion of the slopes' denominators, so that multiples stay affine (three products
//! a slope for its part of the inversion, and no third coordinate). At the end the lanes' values
//! are multiplied. Without an engine each point is prepared as in `lines`.
//!
//! Points outside the subgroup are found at the end of the loop, as there. A denominator that such
//! a point makes zero takes the others of its lane with it; so those that are accused are asked
//! again one by one, and only the guilty named.

use crate::curve::{Affine, Bn254, Curve};
use crate::field::{Field, FqBn254, batch_inverse, batch_inverse_in};
use crate::lanes::{Engine, Lanes, Task, WIDTH_MAX};

use super::lines::{DIGITS, Lines, images, miller_loop};
use super::tower::{Fq12, Quad, Quadratic, Tower};

/// A point of the curve and one of the twist.
pub type Pair = (Affine<FqBn254>, Affine<Quad>);

/// The product of the Miller loops, or the indices of the pairs whose second point is outside the
/// subgroup. A pair with infinity counts as one.
pub(super) fn miller_loop_of_many(
    engine: Option<Engine>,
    pairs: &[Pair],
) -> Result<Fq12, Vec<usize>> {
    let mut product = Fq12::ONE;
    let mut accused = Vec::new();
    for (chunk, pairs) in pairs.chunks(CHUNK).enumerate() {
        let mut add = |index: usize| accused.push(chunk * CHUNK + index);
        let value = match engine {
            Some(engine) => on_engine(engine, pairs, &mut add),
            None => prepared(pairs, &mut add),
        };
        product = product.multiply(&value);
    }
    if accused.is_empty() {
        return Ok(product);
    }
    accused.retain(|&index| Lines::of(&pairs[index].1).is_none());
    assert!(
        !accused.is_empty(),
        "a loop failed without a point outside the subgroup"
    );
    Err(accused)
}

fn prepared(pairs: &[Pair], accuse: &mut dyn FnMut(usize)) -> Fq12 {
    let mut lines = Vec::with_capacity(pairs.len());
    for (index, (point, twisted)) in pairs.iter().enumerate() {
        match Lines::of(twisted) {
            Some(prepared) => lines.push((*point, prepared)),
            None => accuse(index),
        }
    }
    let pairs: Vec<_> = lines.iter().map(|(point, lines)| (*point, lines)).collect();
    miller_loop(&pairs)
}

fn on_engine(engine: Engine, pairs: &[Pair], accuse: &mut dyn FnMut(usize)) -> Fq12 {
    let mut inverses: Vec<FqBn254> = pairs.iter().map(|(point, _)| point.y).collect();
    batch_inverse(&mut inverses);
    let ready: Vec<Ready> = pairs
        .iter()
        .zip(&inverses)
        .map(|((point, twisted), inverse)| match twisted.is_infinity() {
            true => Ready::new(Bn254::g2(), FqBn254::ZERO, FqBn254::ZERO),
            // Of infinity the inverse is zero, and the lines are one.
            false => Ready::new(*twisted, -point.x * *inverse, *inverse),
        })
        .collect();
    let (product, ends) = engine.run::<Quad, _>(Loops(&ready));
    for (index, (ready, end)) in ready.iter().zip(&ends).enumerate() {
        if ready.images[2] != *end {
            accuse(index);
        }
    }
    product
}

/// A pair as the loop takes it.
struct Ready {
    point: Affine<Quad>,
    images: [Affine<Quad>; 3],
    /// -x_P / y_P and 1 / y_P; both zero make every line one.
    factors: [FqBn254; 2],
}

impl Ready {
    fn new(point: Affine<Quad>, x: FqBn254, y: FqBn254) -> Self {
        Self {
            images: images(&point),
            point,
            factors: [x, y],
        }
    }
}

/// The loops of some pairs: the product, and where each point's multiple ends.
struct Loops<'a>(&'a [Ready]);

/// A pair in each lane.
struct State<V> {
    /// The multiple that the loop has come to.
    x: V,
    y: V,
    /// Q, -y of Q, and the two images to be added at the end.
    point: [V; 2],
    negative_y: V,
    images: [[V; 2]; 2],
    factors: [V; 2],
}

/// Fq2 on an engine.
#[derive(Clone, Copy)]
struct OnLanes<L>(L);

impl<L: Lanes<Quad>> Quadratic for OnLanes<L> {
    type E = L::Vector;

    #[inline(always)]
    fn add(self, a: L::Vector, b: L::Vector) -> L::Vector {
        self.0.reduced(self.0.plus(a, b))
    }

    #[inline(always)]
    fn subtract(self, a: L::Vector, b: L::Vector) -> L::Vector {
        self.0.reduced(self.0.minus(a, b))
    }

    #[inline(always)]
    fn residue(self, a: L::Vector) -> L::Vector {
        self.0.residue(a)
    }

    #[inline(always)]
    fn sum_of_two(self, start: L::Vector, products: [(L::Vector, L::Vector); 2]) -> L::Vector {
        self.0.sum_of_two(start, products)
    }

    #[inline(always)]
    fn sum_of_three(self, products: [(L::Vector, L::Vector); 3]) -> L::Vector {
        self.0.sum_of_three(products)
    }
}

impl Task<Quad> for Loops<'_> {
    type Output = (Fq12, Vec<Affine<Quad>>);

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "lanes index several arrays")]
    fn run<L: Lanes<Quad>>(self, lanes: L) -> Self::Output {
        let mut states = Vec::with_capacity(self.0.len().div_ceil(L::WIDTH));
        for pairs in self.0.chunks(L::WIDTH) {
            states.push(state(lanes, pairs));
        }
        let zero = lanes.pack(&[Quad::ZERO; WIDTH_MAX]);
        let mut slopes = vec![zero; states.len()];
        let mut scratch = vec![zero; states.len()];
        let mut f = Tower {
            c0: [lanes.one(), zero, zero],
            c1: [zero; 3],
        };
        // Each kind of step is written once, as all of it is inlined here.
        for step in steps() {
            match step {
                Step::Square => f = OnLanes(lanes).square(&f),
                Step::Double => {
                    for (state, slope) in states.iter().zip(&mut slopes) {
                        *slope = lanes.reduced(lanes.plus(state.y, state.y));
                    }
                }
                Step::Add(added) => {
                    for (state, slope) in states.iter().zip(&mut slopes) {
                        *slope = lanes.reduced(lanes.minus(added.of(state)[0], state.x));
                    }
                }
            }
            if matches!(step, Step::Square) {
                continue;
            }
            invert(lanes, &mut slopes, &mut scratch);
            for (state, inverse) in states.iter_mut().zip(&slopes) {
                let (slope, offset) = match step {
                    Step::Add(added) => {
                        let other = added.of(state);
                        chord(lanes, state, other, *inverse)
                    }
                    _ => tangent(lanes, state, *inverse, zero),
                };
                f = OnLanes(lanes).times_line(
                    &f,
                    lanes.scale(slope, state.factors[0]),
                    lanes.scale(offset, state.factors[1]),
                );
            }
        }
        let mut ends = Vec::with_capacity(states.len() * L::WIDTH);
        for state in &states {
            let mut coordinates = [[Quad::ZERO; WIDTH_MAX]; 2];
            lanes.unpack(lanes.reduced(state.x), &mut coordinates[0]);
            lanes.unpack(lanes.reduced(state.y), &mut coordinates[1]);
            for lane in 0..L::WIDTH {
                ends.push(Affine {
                    x: coordinates[0][lane],
                    y: coordinates[1][lane],
                });
            }
        }
        let mut coordinates = [[Quad::ZERO; WIDTH_MAX]; 6];
        for i in 0..3 {
            lanes.unpack(lanes.reduced(f.c0[i]), &mut coordinates[i]);
            lanes.unpack(lanes.reduced(f.c1[i]), &mut coordinates[3 + i]);
        }
        let [a0, a1, a2, b0, b1, b2] = coordinates;
        let mut product = Fq12::ONE;
        for lane in 0..L::WIDTH {
            product = product.multiply(&Tower {
                c0: [a0[lane], a1[lane], a2[lane]],
                c1: [b0[lane], b1[lane], b2[lane]],
            });
        }
        (product, ends)
    }
}

/// Pairs in lanes; lanes without one get a point whose lines are one.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "lanes index several arrays")]
fn state<L: Lanes<Quad>>(lanes: L, pairs: &[Ready]) -> State<L::Vector> {
    let none = Ready::new(Bn254::g2(), FqBn254::ZERO, FqBn254::ZERO);
    let mut rows = [[Quad::ZERO; WIDTH_MAX]; 9];
    for lane in 0..WIDTH_MAX {
        let ready = pairs.get(lane).unwrap_or(&none);
        let [first, second, _] = &ready.images;
        rows[0][lane] = ready.point.x;
        rows[1][lane] = ready.point.y;
        rows[2][lane] = -ready.point.y;
        rows[3][lane] = first.x;
        rows[4][lane] = first.y;
        rows[5][lane] = second.x;
        rows[6][lane] = second.y;
        rows[7][lane].c0 = ready.factors[0];
        rows[8][lane].c0 = ready.factors[1];
    }
    let (x, y) = (lanes.pack(&rows[0]), lanes.pack(&rows[1]));
    State {
        x,
        y,
        point: [x, y],
        negative_y: lanes.pack(&rows[2]),
        images: [
            [lanes.pack(&rows[3]), lanes.pack(&rows[4])],
            [lanes.pack(&rows[5]), lanes.pack(&rows[6])],
        ],
        factors: [lanes.pack(&rows[7]), lanes.pack(&rows[8])],
    }
}

/// What a loop consists of.
#[derive(Clone, Copy)]
enum Step {
    Square,
    Double,
    Add(Added),
}

/// All steps in order.
fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for (i, &digit) in DIGITS[..DIGITS.len() - 1].iter().rev().enumerate() {
        if i != 0 {
            steps.push(Step::Square);
        }
        steps.push(Step::Double);
        match digit {
            1 => steps.push(Step::Add(Added::Point)),
            -1 => steps.push(Step::Add(Added::Negative)),
            _ => {}
        }
    }
    steps.extend([0, 1].map(|i| Step::Add(Added::Image(i))));
    steps
}

/// Doubles a multiple and gives the tangent's slope and offset; `inverse` is 1 / (2 y).
#[inline(always)]
fn tangent<L: Lanes<Quad>>(
    lanes: L,
    state: &mut State<L::Vector>,
    inverse: L::Vector,
    zero: L::Vector,
) -> (L::Vector, L::Vector) {
    let (x, y) = (state.x, state.y);
    let square = lanes.mul(x, x);
    let three = lanes.reduced(lanes.plus(square, lanes.plus(square, square)));
    let slope = lanes.mul(three, inverse);
    let offset = lanes.reduced(lanes.minus(lanes.mul(slope, x), y));
    state.x = lanes.square_less(slope, x, zero);
    state.y = lanes.chord(slope, x, state.x, y);
    (slope, offset)
}

/// What is added to the multiples of all points.
#[derive(Clone, Copy)]
enum Added {
    Point,
    Negative,
    Image(usize),
}

impl Added {
    #[inline(always)]
    fn of<V: Copy>(self, state: &State<V>) -> [V; 2] {
        match self {
            Added::Point => state.point,
            Added::Negative => [state.point[0], state.negative_y],
            Added::Image(i) => state.images[i],
        }
    }
}

/// Adds a point to a multiple and gives the chord's slope and offset; `inverse` is 1 / (x_Q - x).
#[inline(always)]
fn chord<L: Lanes<Quad>>(
    lanes: L,
    state: &mut State<L::Vector>,
    [other_x, other_y]: [L::Vector; 2],
    inverse: L::Vector,
) -> (L::Vector, L::Vector) {
    let (x, y) = (state.x, state.y);
    let across = lanes.difference(other_x, x);
    let up = lanes.reduced(lanes.minus(other_y, y));
    let slope = lanes.mul(up, inverse);
    let offset = lanes.reduced(lanes.minus(lanes.mul(slope, other_x), other_y));
    state.x = lanes.square_less(slope, x, across);
    state.y = lanes.chord(slope, x, state.x, y);
    (slope, offset)
}

/// Inverts all elements with one scalar inversion. A zero makes zeros of all of its lane.
#[inline(always)]
fn invert<L: Lanes<Quad>>(lanes: L, values: &mut [L::Vector], scratch: &mut [L::Vector]) {
    let mut product = lanes.one();
    for (value, prefix) in values.iter().zip(scratch.iter_mut()) {
        *prefix = product;
        product = lanes.mul(product, *value);
    }
    let mut elements = [Quad::ZERO; WIDTH_MAX];
    lanes.unpack(lanes.reduced(product), &mut elements);
    batch_inverse_in(&mut elements[..L::WIDTH], &mut [Quad::ZERO; WIDTH_MAX]);
    let mut inverse = lanes.pack(&elements);
    for (value, prefix) in values.iter_mut().zip(scratch.iter()).rev() {
        let next = lanes.mul(inverse, *value);
        *value = lanes.mul(inverse, *prefix);
        inverse = next;
    }
}

/// Pairs of one loop: 32 vectors of eight, whose states take half a megabyte.
const CHUNK: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of multiples of the generators, infinity among them.
    fn pairs(count: u64) -> Vec<Pair> {
        (0..count)
            .map(|i| {
                (
                    Bn254::g1().mul_canonical(&[i * i % 11]).to_affine(),
                    Bn254::g2().mul_canonical(&[(i + 3) % 13 * 77]).to_affine(),
                )
            })
            .collect()
    }

    /// A point of the twist of another order.
    fn outside() -> Affine<Quad> {
        use crate::curve::Coordinate;
        use crate::field::PrimeField;
        // y = x makes y^2 = x^3 + b a cubic; a point with small x is found by trying.
        let mut x = Quad::new(FqBn254::ONE, FqBn254::ZERO);
        loop {
            x += Quad::ONE;
            let square = x.square() * x + Quad::B;
            // (q^2 + 7) / 16 does not suit; by the norm: a root of a + b u from roots in Fq.
            let norm = FqBn254::product_sum(&square.c0, &square.c0, &square.c1, &square.c1);
            let mut exponent = FqBn254::MODULUS;
            exponent[0] += 1;
            let exponent = quarter(exponent);
            let root = norm.pow(&exponent);
            let half = FqBn254::from(2).inverse().expect("two is not zero");
            for root in [root, -root] {
                let real = ((square.c0 + root) * half).pow(&exponent);
                let Some(inverse) = real.double().inverse() else {
                    continue;
                };
                let y = Quad::new(real, square.c1 * inverse);
                let point = Affine { x, y };
                if point.is_on_curve() && !point.is_in_subgroup() {
                    return point;
                }
            }
        }
    }

    fn quarter(words: [u64; 4]) -> [u64; 4] {
        std::array::from_fn(|i| words[i] >> 2 | words.get(i + 1).map_or(0, |word| word << 62))
    }

    #[test]
    fn every_engine_gives_what_prepared_points_give() {
        for count in [0, 1, 7, 8, 9, 40, CHUNK as u64 + 3] {
            let pairs = pairs(count);
            let expected = miller_loop_of_many(None, &pairs).expect("all in the subgroup");
            for engine in Engine::all() {
                // Lines may differ by factors from Fq only, and these do not.
                assert_eq!(
                    miller_loop_of_many(Some(engine), &pairs),
                    Ok(expected),
                    "{count}"
                );
            }
        }
    }

    #[test]
    fn points_outside_are_named_and_nobody_else() {
        let mut pairs = pairs(20);
        for index in [0, 9, 19] {
            pairs[index].1 = outside();
        }
        // Of order 2 the twist has no point; a factor of the loop's length would make a zero.
        for engine in Engine::all().into_iter().map(Some).chain([None]) {
            assert_eq!(miller_loop_of_many(engine, &pairs), Err(vec![0, 9, 19]));
        }
    }
}
