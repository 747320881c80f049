//! One point of G2 as the lines of its Miller loop, and the loop over points so prepared.
//!
//! The loop of the optimal ate pairing computes (6 x + 2) Q by doublings and additions, then adds
//! psi(Q) and -psi^2(Q); at each step it multiplies by the line through the points involved. On
//! the curve itself, where the twist's (x, y) is (x w^2, y w^3), the line through T of the slope
//! that is lambda on the twist has the value y_P - lambda x_P w + (lambda x_T - y_T) w^3 at P. A factor
//! from Fq does not survive the final exponentiation, so it is divided by y_P: two coefficients
//! from Q, `lambda` and `lambda x_T - y_T`, two factors from P, -x_P / y_P and 1 / y_P.
//!
//! The multiples are computed in Jacobian coordinates and one inversion makes all slopes.
//!
//! **Membership.** The three last additions of the loop would give
//! (6 x + 2) Q + psi(Q) - psi^2(Q) + psi^3(Q), which is infinity in G2. On the twist the reverse
//! holds too: psi is a root of X^2 - t X + q there, the resultant of that and of
//! X^3 - X^2 + X + 6 x + 2 is divisible by r, and what it shares with the twist's r (2 q - r)
//! points is r and nothing more; so a point that fulfils the equation has order r. (The method is that of
//! El Housni, Guillevic and Piellard, eprint 2022/348; that the loop has computed the multiple
//! already was seen by Scott, eprint 2021/1130.) The first two of the additions are in the loop, the third is one
//! comparison. So asking whether Q is in the subgroup costs nothing. A step whose formula fails, as it may
//! outside the subgroup only, leaves a zero that is seen at the end.

use crate::curve::bn254::{X, psi};
use crate::curve::{Affine, Projective};
use crate::field::{Field, FqBn254, batch_inverse};

use super::tower::{Fq12, Quad, signed_digits};

/// A point of G2, prepared.
#[derive(Clone, Debug)]
pub struct Lines {
    /// lambda and lambda x_T - y_T, step by step; none for infinity.
    steps: Vec<[Quad; 2]>,
}

impl Lines {
    /// Prepares a point of the twist; `None` if it is not in the subgroup of order r. A point that
    /// is not on the twist must not be given: what it gives means nothing.
    pub fn of(point: &Affine<Quad>) -> Option<Self> {
        if point.is_infinity() {
            return Some(Self { steps: Vec::new() });
        }
        let mut chain = Chain {
            point: Jacobian {
                x: point.x,
                y: point.y,
                z: Quad::ONE,
            },
            steps: Vec::with_capacity(STEPS),
            denominators: vec![Quad::ONE],
        };
        let negative = -*point;
        for &digit in DIGITS[..DIGITS.len() - 1].iter().rev() {
            chain.double();
            match digit {
                1 => chain.add(point),
                -1 => chain.add(&negative),
                _ => {}
            }
        }
        let [first, second, third] = images(point);
        chain.add(&first);
        chain.add(&second);
        if !chain.point.is(&third) {
            return None;
        }
        Some(Self {
            steps: chain.lines(),
        })
    }
}

/// psi(Q), -psi^2(Q), and -psi^3(Q), to which the sum of all must come.
pub(super) fn images(point: &Affine<Quad>) -> [Affine<Quad>; 3] {
    // psi of a point with Z = 1 has Z = 1.
    let first = psi(&Projective::from(*point));
    let second = psi(&first);
    let third = psi(&second);
    [first, -second, -third].map(|image| image.affine_with_z_one())
}

/// The Miller loop of P and prepared Q, multiplied over the pairs. A pair with infinity counts as
/// one.
pub fn miller_loop(pairs: &[(Affine<FqBn254>, &Lines)]) -> Fq12 {
    let finite = || {
        pairs
            .iter()
            .filter(|(point, lines)| !point.is_infinity() && !lines.steps.is_empty())
    };
    let mut inverses: Vec<FqBn254> = finite().map(|(point, _)| point.y).collect();
    batch_inverse(&mut inverses);
    let evaluated: Vec<_> = finite()
        .zip(&inverses)
        .map(|((point, lines), inverse)| (-point.x * *inverse, *inverse, &lines.steps))
        .collect();
    let mut f = Fq12::ONE;
    let mut step = 0;
    let mut multiply = |f: &mut Fq12| {
        for (x, y, steps) in &evaluated {
            let [slope, offset] = steps[step];
            f.times_line(slope.scale(*x), offset.scale(*y));
        }
        step += 1;
    };
    for (i, &digit) in DIGITS[..DIGITS.len() - 1].iter().rev().enumerate() {
        if i != 0 {
            f = f.square();
        }
        multiply(&mut f);
        if digit != 0 {
            multiply(&mut f);
        }
    }
    multiply(&mut f);
    multiply(&mut f);
    f
}

/// What is known of a step before the inversion.
enum Step {
    /// The slope's numerator and that of the offset, whose denominators are Z of the double, and
    /// that times Z^2 of T.
    Double(Quad, Quad),
    /// The slope's numerator, whose denominator is Z of the sum, and the point added.
    Add(Quad, Affine<Quad>),
}

struct Jacobian {
    x: Quad,
    y: Quad,
    z: Quad,
}

impl Jacobian {
    /// Whether this is that affine point, and not infinity.
    fn is(&self, other: &Affine<Quad>) -> bool {
        let square = self.z.square();
        !self.z.is_zero() && self.x == other.x * square && self.y == other.y * square * self.z
    }
}

/// The multiples of a point on their way. Z of a later one is a multiple of Z of the one before, so
/// a zero stays.
struct Chain {
    point: Jacobian,
    steps: Vec<Step>,
    /// Z before the first step and after each.
    denominators: Vec<Quad>,
}

impl Chain {
    /// dbl-2009-l, as in [`Projective::double`].
    fn double(&mut self) {
        let Jacobian { x, y, z } = self.point;
        let a = x.square();
        let b = y.square();
        let c = b.square();
        let d = ((x + b).square() - a - c).double();
        let e = a.double() + a;
        let next = e.square() - d.double();
        // E / (2 Y Z) is the slope; with x_T = X / Z^2 and y_T = Y / Z^3 the offset has the
        // denominator 2 Y Z Z^2.
        self.steps.push(Step::Double(e, e * x - b.double()));
        self.point = Jacobian {
            x: next,
            y: e * (d - next) - c.double().double().double(),
            z: (y * z).double(),
        };
        self.denominators.push(self.point.z);
    }

    /// madd-2007-bl, as in [`Projective::add_affine`].
    fn add(&mut self, other: &Affine<Quad>) {
        let Jacobian { x, y, z } = self.point;
        let zz = z.square();
        let h = other.x * zz - x;
        let r = (other.y * z * zz - y).double();
        let hh = h.square();
        let i = hh.double().double();
        let j = h * i;
        let v = x * i;
        let next = r.square() - j - v.double();
        self.steps.push(Step::Add(r, *other));
        self.point = Jacobian {
            x: next,
            y: r * (v - next) - (y * j).double(),
            z: (z + h).square() - zz - hh,
        };
        self.denominators.push(self.point.z);
    }

    fn lines(mut self) -> Vec<[Quad; 2]> {
        batch_inverse(&mut self.denominators);
        let line = |(step, inverses): (&Step, &[Quad])| match step {
            Step::Double(slope, offset) => [
                *slope * inverses[1],
                *offset * (inverses[1] * inverses[0].square()),
            ],
            Step::Add(slope, other) => {
                let slope = *slope * inverses[1];
                [slope, slope * other.x - other.y]
            }
        };
        self.steps
            .iter()
            .zip(self.denominators.windows(2))
            .map(line)
            .collect()
    }
}

/// 6 x + 2, the length of the loop.
pub(super) const DIGITS: [i8; 66] = signed_digits(6 * X as u128 + 2, 2);

/// Doublings, additions, and the two at the end.
const STEPS: usize = {
    let mut steps = DIGITS.len() - 1 + 2;
    let mut i = 0;
    while i + 1 < DIGITS.len() {
        steps += (DIGITS[i] != 0) as usize;
        i += 1;
    }
    steps
};
