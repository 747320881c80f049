//! Many points of G1, each times a short random coefficient of its own.
//!
//! The coefficients of a random linear combination need to be unpredictable and of 2^128 or more
//! kinds; nothing asks for 128-bit integers. So a [`Coefficient`] is what is cheap to multiply by:
//! r1 + r2 lambda, lambda being the curve's endomorphism (`curve/endomorphism.rs`), r1 and r2 sums
//! of 22 digits +-1, +-3, +-5, +-7 in base 8. No digit is zero, so all points take the same steps
//! and go side by side in lanes: 63 doublings and 43 additions, of 8 table entries for each half.
//!
//! Different digits make different coefficients mod r: a difference is (d1, d2) with magnitudes
//! below 2^67, and no vector of the lattice of `endomorphism` but zero is so short (the shortest
//! has about 2^126). So a coefficient is uniform among 2^132. For the same reason no step
//! adds a point to itself or to its negative: multiples of a point of order r are equal only if
//! their pairs of integers are.

use crate::curve::{Affine, Bn254, Coordinate, Curve, Projective};
use crate::field::{Field, FqBn254, FrBn254};
use crate::lanes::{Engine, Lanes, Task, WIDTH_MAX};

/// A coefficient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coefficient {
    /// Digits of r1 and of r2, the lowest first, as indices into a table: the magnitude's, plus 4
    /// if it is negative.
    digits: [[u8; DIGITS]; 2],
}

impl Coefficient {
    /// Random bytes that one is made of.
    pub const BYTES: usize = (2 * DIGITS * 3).div_ceil(8);

    /// From random bytes, three bits a digit.
    pub fn new(bytes: &[u8; Self::BYTES]) -> Self {
        let bit = |at: usize| bytes[at / 8] >> (at % 8) & 1;
        let digit = |i: usize| bit(3 * i) | bit(3 * i + 1) << 1 | bit(3 * i + 2) << 2;
        Self {
            digits: [
                std::array::from_fn(digit),
                std::array::from_fn(|i| digit(DIGITS + i)),
            ],
        }
    }

    /// r1 + r2 lambda mod r.
    pub fn scalar(&self) -> FrBn254 {
        let [first, second] = self.digits.map(|digits| {
            digits.iter().rev().fold(FrBn254::ZERO, |sum, digit| {
                let magnitude = FrBn254::from(u64::from(2 * (digit & 3) + 1));
                let sum = sum.double().double().double();
                match digit & 4 {
                    0 => sum + magnitude,
                    _ => sum - magnitude,
                }
            })
        });
        first + second * LAMBDA
    }
}

/// Each point times its coefficient.
///
/// # Panics
/// If there are not as many coefficients as points.
pub(super) fn multiples(
    engine: Option<Engine>,
    points: &[Affine<FqBn254>],
    coefficients: &[Coefficient],
) -> Vec<Projective<FqBn254>> {
    assert_eq!(points.len(), coefficients.len());
    let tables = tables(points);
    let mut multiples = match engine {
        Some(engine) => engine.run::<FqBn254, _>(OnEngine {
            tables: &tables,
            coefficients,
        }),
        None => tables
            .iter()
            .zip(coefficients)
            .map(|(table, coefficient)| one_by_one(table, coefficient))
            .collect(),
    };
    for (multiple, point) in multiples.iter_mut().zip(points) {
        if point.is_infinity() {
            *multiple = Projective::INFINITY;
        }
    }
    multiples
}

/// What digits stand for: of P, then of its image by the endomorphism.
type Table = [[Affine<FqBn254>; 8]; 2];

/// The tables of all points with one inversion; that of infinity is the generator's.
fn tables(points: &[Affine<FqBn254>]) -> Vec<Table> {
    let mut odd = Vec::with_capacity(4 * points.len());
    for point in points {
        let point = match point.is_infinity() {
            true => Bn254::g1(),
            false => *point,
        };
        let mut multiple = Projective::from(point);
        let twice = multiple.double();
        for _ in 0..4 {
            odd.push(multiple);
            multiple += twice;
        }
    }
    let odd = Projective::batch_to_affine(&odd);
    let table = |odd: &[Affine<FqBn254>]| {
        let own: [_; 8] = std::array::from_fn(|i| match i < 4 {
            true => odd[i],
            false => -odd[i - 4],
        });
        let image = own.map(|point| Affine {
            x: point.x * FqBn254::CUBE_ROOT,
            y: point.y,
        });
        [own, image]
    };
    odd.chunks_exact(4).map(table).collect()
}

fn one_by_one(table: &Table, coefficient: &Coefficient) -> Projective<FqBn254> {
    let mut sum = Projective::INFINITY;
    for i in (0..DIGITS).rev() {
        sum = sum.double().double().double();
        for half in 0..2 {
            sum += table[half][usize::from(coefficient.digits[half][i])];
        }
    }
    sum
}

struct OnEngine<'a> {
    tables: &'a [Table],
    coefficients: &'a [Coefficient],
}

impl Task<FqBn254> for OnEngine<'_> {
    type Output = Vec<Projective<FqBn254>>;

    #[inline(always)]
    #[allow(clippy::needless_range_loop, reason = "lanes index several arrays")]
    fn run<L: Lanes<FqBn254>>(self, lanes: L) -> Self::Output {
        let mut multiples = Vec::with_capacity(self.tables.len());
        let vectors = self.tables.chunks(L::WIDTH);
        for (tables, coefficients) in vectors.zip(self.coefficients.chunks(L::WIDTH)) {
            let mut point = Jacobian {
                x: lanes.one(),
                y: lanes.one(),
                z: lanes.one(),
            };
            for i in (0..DIGITS).rev() {
                if i + 1 != DIGITS {
                    for _ in 0..3 {
                        point = double(lanes, &point);
                    }
                }
                for half in 0..2 {
                    // Lanes that are over repeat the first.
                    let mut x = [FqBn254::ZERO; WIDTH_MAX];
                    let mut y = [FqBn254::ZERO; WIDTH_MAX];
                    for lane in 0..WIDTH_MAX {
                        let of = if lane < tables.len() { lane } else { 0 };
                        let digit = coefficients[of].digits[half][i];
                        let entry = &tables[of][half][usize::from(digit)];
                        x[lane] = entry.x;
                        y[lane] = entry.y;
                    }
                    let (x, y) = (lanes.form(&x), lanes.form(&y));
                    point = if i + 1 == DIGITS && half == 0 {
                        Jacobian {
                            x: lanes.mul(x, lanes.one()),
                            y: lanes.mul(y, lanes.one()),
                            z: lanes.one(),
                        }
                    } else {
                        add(lanes, &point, x, y)
                    };
                }
            }
            let mut coordinates = [[FqBn254::ZERO; WIDTH_MAX]; 3];
            lanes.unpack(lanes.reduced(point.x), &mut coordinates[0]);
            lanes.unpack(lanes.reduced(point.y), &mut coordinates[1]);
            lanes.unpack(lanes.reduced(point.z), &mut coordinates[2]);
            let [x, y, z] = coordinates;
            for lane in 0..tables.len() {
                multiples.push(Projective::from_jacobian(x[lane], y[lane], z[lane]));
            }
        }
        multiples
    }
}

struct Jacobian<V> {
    x: V,
    y: V,
    z: V,
}

/// dbl-2009-l with a product in place of a square of a sum: X, Y, Z reduced or products, and so
/// the result.
#[inline(always)]
fn double<L: Lanes<FqBn254>>(lanes: L, point: &Jacobian<L::Vector>) -> Jacobian<L::Vector> {
    let a = lanes.mul(point.x, point.x);
    let b = lanes.mul(point.y, point.y);
    let c = lanes.mul(b, b);
    let d = lanes.mul(point.x, b);
    let d = lanes.plus(d, d);
    let d = lanes.reduced(lanes.plus(d, d));
    let e = lanes.reduced(lanes.plus(a, lanes.plus(a, a)));
    let x = lanes.minus(lanes.mul(e, e), lanes.plus(d, d));
    let x = lanes.reduced(x);
    let c = lanes.plus(c, c);
    let c = lanes.reduced(lanes.plus(c, c));
    let across = lanes.reduced(lanes.minus(d, x));
    let y = lanes.minus(lanes.mul(e, across), lanes.plus(c, c));
    let z = lanes.mul(point.y, point.z);
    Jacobian {
        x,
        y: lanes.reduced(y),
        z: lanes.reduced(lanes.plus(z, z)),
    }
}

/// The sum with an affine point as it is loaded, which is not the same point nor its negative.
#[inline(always)]
fn add<L: Lanes<FqBn254>>(
    lanes: L,
    point: &Jacobian<L::Vector>,
    other_x: L::Vector,
    other_y: L::Vector,
) -> Jacobian<L::Vector> {
    let zz = lanes.mul(point.z, point.z);
    let u = lanes.mul(other_x, zz);
    let s = lanes.mul(lanes.mul(other_y, zz), point.z);
    let h = lanes.reduced(lanes.minus(u, point.x));
    let r = lanes.reduced(lanes.minus(s, point.y));
    let hh = lanes.mul(h, h);
    let hhh = lanes.mul(h, hh);
    let v = lanes.mul(point.x, hh);
    let x = lanes.minus(lanes.minus(lanes.mul(r, r), hhh), lanes.plus(v, v));
    let x = lanes.reduced(x);
    let across = lanes.reduced(lanes.minus(v, x));
    let y = lanes.minus(lanes.mul(r, across), lanes.mul(point.y, hhh));
    Jacobian {
        x,
        y: lanes.reduced(y),
        z: lanes.mul(point.z, h),
    }
}

/// Digits of each half: 3 bits each, 132 together.
const DIGITS: usize = 22;

/// By what the endomorphism multiplies: 36 x^3 + 18 x^2 + 6 x + 1.
const LAMBDA: FrBn254 = FrBn254::constant([
    0x8b17ea66b99c90dd,
    0x5bfc41088d8daaa7,
    0xb3c4d79d41a91758,
    0,
]);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::PrimeField;

    #[test]
    fn multiples_are_those_of_the_scalars() {
        let mut bytes = [0u8; Coefficient::BYTES];
        let mut points = Vec::new();
        let mut coefficients = Vec::new();
        for i in 0..21u8 {
            for (j, byte) in bytes.iter_mut().enumerate() {
                *byte = byte.wrapping_mul(29).wrapping_add(i ^ j as u8);
            }
            // All digits 1, and all -7.
            match i {
                3 => bytes = [0; Coefficient::BYTES],
                4 => bytes = [u8::MAX; Coefficient::BYTES],
                _ => {}
            }
            coefficients.push(Coefficient::new(&bytes));
            points.push(Bn254::g1().mul_canonical(&[u64::from(i) * 991]).to_affine());
        }
        let expected: Vec<_> = points
            .iter()
            .zip(&coefficients)
            .map(|(point, coefficient)| point.mul_canonical(&coefficient.scalar().to_canonical()))
            .collect();
        assert!(points[0].is_infinity());
        for engine in Engine::all().into_iter().map(Some).chain([None]) {
            assert_eq!(multiples(engine, &points, &coefficients), expected);
        }
        assert_eq!(multiples(None, &[], &[]), []);
    }
}
