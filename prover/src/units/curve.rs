//! Baby Jubjub within the circuit: the equation of a signature, for as little as it takes.
//!
//! The equation is R = S B - 8 h A. What circomlib spends 4,217 constraints on is about 2,900
//! here, for four reasons:
//!
//! - *Signed digits.* A digit that is +1 or -1 needs no choice between a point and none, only a
//!   sign on v: (2 b - 1) v is one product. And 2 P + Q is computed as (P + Q) + P without the v
//!   of P + Q, five constraints, so a bit of h costs six where circomlib's ladder has nine.
//!   (The step is that of Halo 2's and others' double-and-add.) 254 signed digits stand for
//!   2 h - (2^254 - 1), so the point that is doubled is 4 A and one 4 A too many is taken away
//!   at the end.
//! - *A fixed base in windows of three bits.* A digit of +-1, +-3, +-5, +-7 times 8^i: u is a sum
//!   of constants, the bits and one product of bits; v is that times a sign; an addition in
//!   Montgomery form is three. S itself is not a wire: any digits will do whose sum is S modulo l,
//!   for whoever knows them knows a valid signature. circomlib's check that S < l protects those
//!   who take a signature for a unique thing; here it is private and nothing is derived from it.
//! - *R is computed, not checked.* It comes out of complete additions of points on the curve, so
//!   it is on the curve without being asked, and is then held against the R of the challenge.
//! - *h is decomposed once*, strictly: its bits are those of the number below r.
//!
//! # Why no exception can be used
//!
//! An addition in Montgomery form says nothing of its slope if both points have the same u.
//!
//! - In the windows, after window i the sum is k B with k odd and |k| < 8^(i+1), and the next
//!   term is m 8^(i+1) B with m odd. Both k -+ m 8^(i+1) are odd, for 8^(i+1) is even, hence not
//!   0; and up to window 82 their size is below l, so they are not 0 modulo l either. The last
//!   digit, of two bits, could reach l, and is added by the complete law. The digits then reach
//!   every odd number up to 2^251 - 1 > l, so of t and t - l the odd one.
//! - In the doublings the sum begins as B + 4 A and stays 2^j B + k 4 A, where k depends on the
//!   highest j bits of h. For an exception the prover needs one of a few k for one of the j: for
//!   an honest issuer's A, whose logarithm is random, that is a chance of about 2^-250 for each h, and h is a hash.
//!   An issuer who knows the logarithm can sign what it likes anyway.
//!
//! The tree of issuers holds points of the prime subgroup only ([`IssuerTree`](super::IssuerTree)
//! takes nothing else), so A is on the curve; and 4 A is asked not to be neutral or of order two,
//! where the two forms have no map.

use std::sync::OnceLock;

use ark_bn254::Fr;
use ark_ff::{AdditiveGroup, BigInteger, Field, One, PrimeField, Zero};

use super::baby_jubjub::{A, D, MONTGOMERY_A, Point, Scalar};
use super::system::{Sum, System};

/// A point (x, y) of the twisted Edwards form, on the curve.
#[derive(Clone)]
pub(super) struct Edwards {
    pub(super) x: Sum,
    pub(super) y: Sum,
}

/// A point (u, v) of the Montgomery form.
#[derive(Clone)]
struct Montgomery {
    u: Sum,
    v: Sum,
}

/// Demands that `r` is S B - 8 h A, for the 254 bits of h and some scalar S, of which `s` is the
/// value.
pub(super) fn enforce_signature(
    system: &mut System,
    key: &Edwards,
    challenge_bits: &[Sum],
    s: &Scalar,
    r: &Edwards,
) {
    let twice = sum(system, key, key);
    let four = sum(system, &twice, &twice);
    // 2^254 B + 8 h A + 4 A.
    let right = double_and_add(system, &four, challenge_bits);
    // (S + 2^254) B.
    let start = Scalar::from(2u8).pow([challenge_bits.len() as u64]);
    let left = fixed_base(system, &(*s + start));
    let minus_right = Edwards {
        x: right.x.times(-Fr::one()),
        y: right.y,
    };
    let difference = sum(system, &left, &minus_right);
    enforce_sum(system, &difference, &four, r);
}

fn enforce_sum(system: &mut System, p: &Edwards, q: &Edwards, r: &Edwards) {
    let [(x, x_divisor), (y, y_divisor)] = fractions(system, p, q);
    system.enforce(&x_divisor, &r.x, &x);
    system.enforce(&y_divisor, &r.y, &y);
}

fn sum(system: &mut System, p: &Edwards, q: &Edwards) -> Edwards {
    let [(x, x_divisor), (y, y_divisor)] = fractions(system, p, q);
    Edwards {
        x: system.quotient(&x, &x_divisor),
        y: system.quotient(&y, &y_divisor),
    }
}

/// The coordinates of p + q as numerators and divisors, by the complete law: for points on the
/// curve no divisor is zero. The names are circomlib's.
fn fractions(system: &mut System, p: &Edwards, q: &Edwards) -> [(Sum, Sum); 2] {
    let one = system.constant(Fr::one());
    let beta = system.product(&p.x, &q.y);
    let gamma = system.product(&p.y, &q.x);
    let delta = system.product(&(&p.y - &p.x.times(A)), &(&q.x + &q.y));
    let tau = system.product(&beta, &gamma).times(D);
    let y = &(&delta + &beta.times(A)) - &gamma;
    [(&beta + &gamma, &one + &tau), (y, &one - &tau)]
}

/// u = (1 + y) / (1 - y), v = u / x. That u is not zero, and so x neither, is asked: the points
/// without an image are the neutral one, for which 0 u = 2 has no solution, and (0, -1).
fn to_montgomery(system: &mut System, p: &Edwards) -> Montgomery {
    let one = system.constant(Fr::one());
    let u = system.quotient(&(&one + &p.y), &(&one - &p.y));
    let v = system.quotient(&u, &p.x);
    system.quotient(&one, &u);
    Montgomery { u, v }
}

/// x = u / v, y = (u - 1) / (u + 1). The points without an image have v = 0 or u = -1; they are of
/// even order, so none of the subgroup is among them.
fn to_edwards(system: &mut System, p: &Montgomery) -> Edwards {
    let one = system.constant(Fr::one());
    Edwards {
        x: system.quotient(&p.u, &p.v),
        y: system.quotient(&(&p.u - &one), &(&p.u + &one)),
    }
}

/// p + q for points of different u.
fn add(system: &mut System, p: &Montgomery, q: &Montgomery) -> Montgomery {
    let slope = system.quotient(&(&p.v - &q.v), &(&p.u - &q.u));
    third(system, &slope, p, &q.u)
}

/// The third point on a line through `p` and a point of `other_u`, negated.
fn third(system: &mut System, slope: &Sum, p: &Montgomery, other_u: &Sum) -> Montgomery {
    let u = line_u(system, slope, &(&p.u + other_u));
    let v = system.wire(slope.value() * (p.u.value() - u.value()) - p.v.value());
    system.enforce(slope, &(&p.u - &u), &(&v + &p.v));
    Montgomery { u, v }
}

/// slope^2 = u + 168698 + the sum of the other two.
fn line_u(system: &mut System, slope: &Sum, others: &Sum) -> Sum {
    let u = system.wire(slope.value().square() - MONTGOMERY_A - others.value());
    let right = &(&u + others) + &system.constant(MONTGOMERY_A);
    system.enforce(slope, slope, &right);
    u
}

/// 2^n (B + q) + (2 bits - (2^n - 1)) q, for n bits, the lowest first.
fn double_and_add(system: &mut System, q: &Edwards, bits: &[Sum]) -> Edwards {
    let q = to_montgomery(system, q);
    let (u, v) = montgomery(&Point::base());
    let base = Montgomery {
        u: system.constant(u),
        v: system.constant(v),
    };
    let one = system.constant(Fr::one());
    let two = Fr::from(2u8);
    let mut p = add(system, &base, &q);
    for bit in bits.iter().rev() {
        let sign = &bit.times(two) - &one;
        let v = system.product(&sign, &q.v);
        // d = u(p) - u(q) and e = u(p) - u(p + q) are both divided by. With n = v(p) - v(q),
        // t = d^2 e is d^2 (2 u(p) + u(q) + 168698) - n^2, so one inversion, of d t, gives both.
        let (rise, run) = (&p.v - &v, &p.u - &q.u);
        let (n, d) = (rise.value(), run.value());
        let t = d.square() * (p.u.value().double() + q.u.value() + MONTGOMERY_A) - n.square();
        let inverse = (d * t).inverse().unwrap_or(Fr::zero());
        let first = system.quotient_by(&rise, &run, t * inverse);
        let between = line_u(system, &first, &(&p.u + &q.u));
        // The line through p and p + q, whose v is first (u - between) - v: its slope and the
        // first one add up to 2 v / (u - between).
        let run = &p.u - &between;
        let slopes = system.quotient_by(&p.v.times(two), &run, d.square() * d * inverse);
        let second = &slopes - &first;
        p = third(system, &second, &p, &between);
    }
    to_edwards(system, &p)
}

/// t B for a scalar that is known to nobody else.
fn fixed_base(system: &mut System, scalar: &Scalar) -> Edwards {
    let digits = SignedDigits::new(scalar);
    let table = table();
    let mut p: Option<Montgomery> = None;
    for (window, multiples) in table.windows.iter().enumerate() {
        let [low, high, positive] = digits.window(window).map(|bit| system.bit(bit));
        let both = system.product(&low, &high);
        let us = multiples.map(|(u, _)| u);
        let vs = multiples.map(|(_, v)| v);
        let q = signed(system, &positive, &lookup(system, &low, &high, &both, vs));
        let q = Montgomery {
            u: lookup(system, &low, &high, &both, us),
            v: q,
        };
        p = Some(match p {
            None => q,
            Some(p) => add(system, &p, &q),
        });
    }
    let p = to_edwards(system, &p.expect("there is a window"));
    let [high, positive] = digits.top().map(|bit| system.bit(bit));
    let [one, three] = table.top;
    let x = &high.times(three.x - one.x) + &system.constant(one.x);
    let top = Edwards {
        x: signed(system, &positive, &x),
        y: &high.times(three.y - one.y) + &system.constant(one.y),
    };
    sum(system, &p, &top)
}

/// The value, or its negative if the bit is 0.
fn signed(system: &mut System, positive: &Sum, value: &Sum) -> Sum {
    let one = system.constant(Fr::one());
    system.product(&(&positive.times(Fr::from(2u8)) - &one), value)
}

/// One of four constants by two bits and their product: no constraint.
fn lookup(system: &System, low: &Sum, high: &Sum, both: &Sum, from: [Fr; 4]) -> Sum {
    let [a, b, c, d] = from;
    let low = &system.constant(a) + &low.times(b - a);
    let high = &high.times(c - a) + &both.times(a - b - c + d);
    &low + &high
}

/// A scalar as an odd number of signed odd digits: 83 of three bits, the lowest first, and one of
/// two.
struct SignedDigits([bool; 251]);

impl SignedDigits {
    /// Every odd number k from -(2^251 - 1) to 2^251 - 1 is the sum of (2 b_i - 1) 2^i over the 251 bits of
    /// (k + 2^251 - 1) / 2.
    fn new(scalar: &Scalar) -> SignedDigits {
        // The scalar if it is odd, and if it is even the scalar less l; half of what is said above.
        let mut number = scalar.into_bigint();
        let even = number.is_even();
        let mut offset = <Scalar as PrimeField>::BigInt::one();
        offset <<= 251;
        offset.sub_with_borrow(&1u64.into());
        number.add_with_carry(&offset);
        if even {
            number.sub_with_borrow(&Scalar::MODULUS);
        }
        number.div2();
        SignedDigits(std::array::from_fn(|i| number.get_bit(i)))
    }

    /// Two bits that choose among 1, 3, 5 and 7, and whether the digit is positive.
    fn window(&self, window: usize) -> [bool; 3] {
        let [low, high, positive] = [0, 1, 2].map(|i| self.0[3 * window + i]);
        [low == positive, high == positive, positive]
    }

    /// A bit that chooses among 1 and 3, and whether the digit is positive.
    fn top(&self) -> [bool; 2] {
        let [high, positive] = [self.0[3 * WINDOWS], self.0[3 * WINDOWS + 1]];
        [high == positive, positive]
    }
}

/// The multiples of the base that the windows choose from.
struct Table {
    windows: Vec<[(Fr, Fr); 4]>,
    top: [Point; 2],
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut base = Point::base();
        let mut windows = Vec::with_capacity(WINDOWS);
        for _ in 0..WINDOWS {
            let twice = base.plus(&base);
            let three = base.plus(&twice);
            let five = three.plus(&twice);
            let seven = five.plus(&twice);
            windows.push([base, three, five, seven].map(|point| montgomery(&point)));
            base = seven.plus(&base);
        }
        let twice = base.plus(&base);
        Table {
            windows,
            top: [base, base.plus(&twice)],
        }
    })
}

/// The Montgomery form of a point of the subgroup that is not neutral.
fn montgomery(point: &Point) -> (Fr, Fr) {
    let one = Fr::one();
    let inverse = ((one - point.y) * point.x).inverse();
    let inverse = inverse.expect("neither coordinate of such a point is zero or one");
    let u = (one + point.y) * point.x * inverse;
    (u, (one + point.y) * inverse)
}

/// The bits of a field element, the lowest first, of the number below r alone.
///
/// From the highest bit downwards `equal` says whether all bits so far are those of r - 1. Where
/// r - 1 has a 0, the bit must be 0 if they are; (1 - equal - bit) bit = 0 says that and that it is a
/// bit. Where it has a 1, nothing can go wrong, and `equal` has one more condition. (The way
/// of Zcash's Sapling circuit.)
pub(super) fn strict_bits(system: &mut System, element: &Sum) -> Vec<Sum> {
    let value = element.value().into_bigint();
    let mut last = Fr::MODULUS;
    last.sub_with_borrow(&1u64.into());
    let zero = system.constant(Fr::zero());
    let one = system.constant(Fr::one());
    let mut equal = one.clone();
    let mut bits = Vec::new();
    let count = Fr::MODULUS_BIT_SIZE as usize;
    // After the lowest 1 of r - 1 nobody asks.
    let lowest_zero = (0..count)
        .find(|&i| !last.get_bit(i))
        .expect("r - 1 is even");
    for i in (0..count).rev() {
        if last.get_bit(i) {
            let bit = system.bit(value.get_bit(i));
            if i > lowest_zero {
                equal = system.product(&equal, &bit);
            }
            bits.push(bit);
        } else {
            let bit = system.wire(Fr::from(u64::from(value.get_bit(i))));
            system.enforce(&(&(&one - &equal) - &bit), &bit, &zero);
            bits.push(bit);
        }
    }
    bits.reverse();
    let number = system.number(&bits);
    system.equal(&number, element);
    bits
}

/// Windows of three bits.
const WINDOWS: usize = 83;
