//! Eight elements of a prime field side by side, in radix 2^52.
//!
//! An element of N 64-bit words is K limbs of 52 bits, limb i of all eight lanes in one register,
//! so that the 52-bit multiply-add of AVX-512 (`words.rs`) works on eight products at once and
//! carries need no flags. After Gueron and Krasnov, "Accelerating big integer arithmetic using
//! Intel IFMA extensions" (ARITH 2016): products go into columns that have twelve bits to spare,
//! and carries are resolved once, at the end.
//!
//! **Form.** Lanes hold x R' with R' = 2^(52 K), while memory has x R with R = 2^(64 N). Their
//! quotient is a power of two (2^4 for four words, 2^32 for six), so what comes from a file is
//! brought into form by shifting it as its words are cut into limbs: no multiplication, no copy of
//! the key. What the lanes write themselves ("engine form") stays in R'.
//!
//! **Bounds.** Let p be the modulus and write [c] for a value below c p, in limbs that are all
//! below 2^52 ("normalised", which the multiply-add wants of its factors). R' is 2^6.4 p (BN254),
//! 2^5.1 p (BLS12-381's r) or 2^35.3 p (its q). A Montgomery product of [a] and [b] is
//! [1 + a b p / R'], so [2] wherever a b p <= R'. Beside each function stands what it takes
//! and gives; the tests take products of products of differences of 0, 1, p - 1 and others.

use crate::field::{Fp, Modulus};

use super::words::Words;

/// A loop from 0 that is written out, for at most eight rounds: the compiler leaves some loops over
/// eight limbs as loops, and then the limbs are in memory and not in registers.
macro_rules! unroll {
    ($count:expr, $i:ident => $body:expr) => {
        unroll!(@ $count, $i, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $count:expr, $i:ident, $body:expr, $($round:literal)*) => {
        $(if $round < $count {
            let $i: usize = $round;
            $body;
        })*
    };
}

/// An array of vectors, place by place. Not by `array::from_fn`: closures are not inlined into a
/// function that has other processor features than they.
macro_rules! each {
    ($w:expr, $count:expr, $i:ident => $value:expr) => {{
        let mut vectors = [$w.splat(0); $count];
        unroll!($count, $i => vectors[$i] = $value);
        vectors
    }};
}
pub(super) use {each, unroll};

/// Modulus and constants of a field of N words in K limbs.
pub(crate) struct Radix<M, const N: usize, const K: usize>(std::marker::PhantomData<M>);

/// The number of bits of a limb.
const LIMB: usize = 52;
const MASK: u64 = (1 << LIMB) - 1;

impl<M: Modulus<N>, const N: usize, const K: usize> Radix<M, N, K> {
    /// p.
    pub(crate) const P: [u64; K] = limbs_of(&M::MODULUS, 0);
    /// -1/p mod 2^52.
    const NEGATED_INVERSE: u64 = crate::field::negated_inverse(M::MODULUS[0]) & MASK;
    /// log2 of R' / R.
    pub(crate) const SHIFT: usize = LIMB * K - 64 * N;
    /// 2^(52 K) - p: adding a multiple of it and dropping what leaves the top limb subtracts that
    /// multiple of p.
    const MINUS_P: [u64; K] = {
        let mut limbs = [0; K];
        let mut borrow = 0;
        let mut i = 0;
        while i < K {
            let difference = borrow - Self::P[i] as i64;
            limbs[i] = difference as u64 & MASK;
            borrow = difference >> LIMB;
            i += 1;
        }
        limbs
    };
    /// Bits of the top limb of p.
    const TOP_BITS: u32 = 64 - Self::P[K - 1].leading_zeros();
    /// floor(2^(52 K + TOP_BITS - 2) / p), which has 51 bits: for the quotient by p.
    const QUOTIENT: u64 = {
        // Long division of a power of two, a bit at a time.
        let mut remainder = [0; N];
        remainder[0] = 1;
        let mut quotient = 0;
        let mut bit = 0;
        while bit < LIMB * K + Self::TOP_BITS as usize - 2 {
            // Below p, which has a bit to spare.
            remainder = crate::field::add_words(&remainder, &remainder);
            quotient <<= 1;
            let (difference, borrow) =
                crate::field::subtract_borrowing(&remainder, &M::MODULUS, false);
            if !borrow {
                remainder = difference;
                quotient |= 1;
            }
            bit += 1;
        }
        quotient
    };

    /// One, in form: 2^(52 K) mod p.
    pub(crate) const ONE: [u64; K] =
        limbs_of(&crate::field::power_of_two(&M::MODULUS, LIMB * K), 0);
    /// R / R'.
    pub(crate) const UNSHIFT: Fp<M, N> = Fp::power_of_half(Self::SHIFT);

    /// k p for a small k, in limbs.
    pub(crate) const fn multiple(k: u64) -> [u64; K] {
        let mut limbs = [0; K];
        let mut carry = 0u128;
        let mut i = 0;
        while i < K {
            let sum = carry + Self::P[i] as u128 * k as u128;
            limbs[i] = if i + 1 < K {
                sum as u64 & MASK
            } else {
                sum as u64
            };
            carry = sum >> LIMB;
            i += 1;
        }
        limbs
    }

    /// Words of memory to limbs, normalised, times 2^shift.
    #[inline(always)]
    pub(crate) fn cut<W: Words>(w: W, words: &[W::V; N], shift: usize) -> [W::V; K] {
        let mask = w.splat(MASK);
        each!(w, K, i => {
            // Limb i has bits LIMB i - shift and on.
            if LIMB * i < shift {
                w.and(w.shl(words[0], (shift - LIMB * i) as u32), mask)
            } else {
                let bit = LIMB * i - shift;
                let (word, bit) = (bit / 64, (bit % 64) as u32);
                let mut limb = w.shr(words[word], bit);
                if bit as usize + LIMB > 64 && word + 1 < N {
                    limb = w.or(limb, w.shl(words[word + 1], 64 - bit));
                }
                if bit as usize + LIMB < 64 || i + 1 < K {
                    limb = w.and(limb, mask);
                }
                limb
            }
        })
    }

    /// Normalised limbs to words; the value is below 2^(64 N).
    #[inline(always)]
    pub(crate) fn join<W: Words>(w: W, limbs: &[W::V; K]) -> [W::V; N] {
        each!(w, N, j => {
            let (limb, bit) = (64 * j / LIMB, 64 * j % LIMB);
            let mut word = w.shr(limbs[limb], bit as u32);
            let mut have = LIMB - bit;
            let mut next = limb + 1;
            while have < 64 && next < K {
                word = w.or(word, w.shl(limbs[next], have as u32));
                have += LIMB;
                next += 1;
            }
            word
        })
    }

    /// The product of normalised factors, in 2 K columns that are not normalised: below 2 K 2^52.
    #[inline(always)]
    pub(crate) fn product<W: Words>(w: W, a: &[W::V; K], b: &[W::V; K]) -> ([W::V; K], [W::V; K]) {
        let mut columns = ([w.splat(0); K], [w.splat(0); K]);
        Self::product_into(w, &mut columns, a, b);
        columns
    }

    /// Adds such a product to columns.
    #[inline(always)]
    pub(crate) fn product_into<W: Words>(
        w: W,
        columns: &mut ([W::V; K], [W::V; K]),
        a: &[W::V; K],
        b: &[W::V; K],
    ) {
        unroll!(K, i => {
            unroll!(K, j => multiply_into(w, columns, i + j, a[i], b[j]));
        });
    }

    /// The square of a normalised value in 2 K columns, below 4 K 2^52.
    #[inline(always)]
    pub(crate) fn square<W: Words>(w: W, a: &[W::V; K]) -> ([W::V; K], [W::V; K]) {
        let zero = w.splat(0);
        let mut columns = ([zero; K], [zero; K]);
        // Each mixed product once, all doubled, then the squares.
        unroll!(K, i => {
            unroll!(K, j => if j > i {
                multiply_into(w, &mut columns, i + j, a[i], a[j])
            });
        });
        unroll!(K, i => {
            columns.0[i] = w.add(columns.0[i], columns.0[i]);
            columns.1[i] = w.add(columns.1[i], columns.1[i]);
        });
        unroll!(K, i => multiply_into(w, &mut columns, 2 * i, a[i], a[i]));
        columns
    }

    /// Montgomery reduction: columns of a value t, which may be negative and whose columns may be
    /// too, to columns of t / R' + [1], not normalised. Columns of up to 2^60 in magnitude are
    /// taken.
    #[inline(always)]
    pub(crate) fn reduce<W: Words>(w: W, mut columns: ([W::V; K], [W::V; K])) -> [W::V; K] {
        let inverse = w.splat(Self::NEGATED_INVERSE);
        let zero = w.splat(0);
        unroll!(K, i => {
            // The multiply-add takes the low 52 bits of a column, which are its value mod 2^52
            // even if it is negative; shifting with the sign then carries what is right.
            let m = w.madd_low(zero, columns.0[i], inverse);
            unroll!(K, j => multiply_into(w, &mut columns, i + j, m, w.splat(Self::P[j])));
            let carry = w.sar(columns.0[i], LIMB as u32);
            if i + 1 < K {
                columns.0[i + 1] = w.add(columns.0[i + 1], carry);
            } else {
                columns.1[0] = w.add(columns.1[0], carry);
            }
        });
        columns.1
    }

    /// Normalises columns of a value in [0, 2^(52 K)).
    #[inline(always)]
    pub(crate) fn carry<W: Words>(w: W, mut columns: [W::V; K]) -> [W::V; K] {
        let mask = w.splat(MASK);
        unroll!(K - 1, i => {
            columns[i + 1] = w.add(columns[i + 1], w.sar(columns[i], LIMB as u32));
            columns[i] = w.and(columns[i], mask);
        });
        columns
    }

    /// Normalises columns of a value of at least p, below 2^(52 K), and takes off a multiple of p:
    /// gives [1 + 2^-12].
    #[inline(always)]
    pub(crate) fn carry_reduced<W: Words>(w: W, columns: [W::V; K]) -> [W::V; K] {
        // The quotient by p from the top limb, as the two highest columns make it: the columns
        // below carry less than one into it, of either sign, which cannot make it negative since
        // p alone makes it large. The limb leaves out less than two units of 2^(52 (K - 1)), and
        // QUOTIENT is short by less than one in 2^50: together less than 2^-12 of p, so the
        // quotient is the floor or, closely above a multiple, one less.
        let top = w.add(columns[K - 1], w.sar(columns[K - 2], LIMB as u32));
        let quotient = w.madd_high(w.splat(0), w.sub(top, w.splat(1)), w.splat(Self::QUOTIENT));
        let quotient = w.shr(quotient, Self::TOP_BITS - 2);
        Self::carry_minus(w, columns, quotient)
    }

    #[inline(always)]
    fn carry_minus<W: Words>(w: W, mut columns: [W::V; K], quotient: W::V) -> [W::V; K] {
        unroll!(K, j => {
            let limb = w.splat(Self::MINUS_P[j]);
            columns[j] = w.madd_low(columns[j], quotient, limb);
            if j + 1 < K {
                columns[j + 1] = w.madd_high(columns[j + 1], quotient, limb);
            }
        });
        let mut columns = Self::carry(w, columns);
        columns[K - 1] = w.and(columns[K - 1], w.splat(MASK));
        columns
    }

    /// [2], normalised -> [1].
    #[inline(always)]
    pub(crate) fn canonical<W: Words>(w: W, x: &[W::V; K]) -> [W::V; K] {
        let less = Self::carry(w, each!(w, K, i => w.sub(x[i], w.splat(Self::P[i]))));
        // The top limb has kept its sign.
        let negative = w.sar(less[K - 1], 63);
        each!(w, K, i => w.or(w.and(x[i], negative), w.and_not(negative, less[i])))
    }

    /// a - b + c, limb by limb, not normalised.
    #[inline(always)]
    pub(crate) fn sub_add<W: Words>(w: W, a: &[W::V; K], b: &[W::V; K], c: &[u64; K]) -> [W::V; K] {
        each!(w, K, i => w.add(w.sub(a[i], b[i]), w.splat(c[i])))
    }

    #[inline(always)]
    pub(crate) fn add<W: Words>(w: W, a: &[W::V; K], b: &[W::V; K]) -> [W::V; K] {
        each!(w, K, i => w.add(a[i], b[i]))
    }

    #[inline(always)]
    pub(crate) fn sub<W: Words>(w: W, a: &[W::V; K], b: &[W::V; K]) -> [W::V; K] {
        each!(w, K, i => w.sub(a[i], b[i]))
    }

    /// -b where the mask is set, else b, limb by limb.
    #[inline(always)]
    pub(crate) fn negate_where<W: Words>(w: W, mask: u8, b: &[W::V; K]) -> [W::V; K] {
        let zero = w.splat(0);
        each!(w, K, i => w.select(mask, b[i], w.sub(zero, b[i])))
    }
}

/// Adds a product to its two columns.
#[inline(always)]
fn multiply_into<W: Words, const K: usize>(
    w: W,
    columns: &mut ([W::V; K], [W::V; K]),
    column: usize,
    a: W::V,
    b: W::V,
) {
    if column < K {
        columns.0[column] = w.madd_low(columns.0[column], a, b);
    } else {
        columns.1[column - K] = w.madd_low(columns.1[column - K], a, b);
    }
    let column = column + 1;
    if column < K {
        columns.0[column] = w.madd_high(columns.0[column], a, b);
    } else {
        columns.1[column - K] = w.madd_high(columns.1[column - K], a, b);
    }
}

/// An integer times 2^shift, cut into limbs.
const fn limbs_of<const N: usize, const K: usize>(words: &[u64; N], shift: usize) -> [u64; K] {
    let mut limbs = [0; K];
    let mut i = 0;
    while i < 64 * N {
        let bit = words[i / 64] >> (i % 64) & 1;
        let to = i + shift;
        limbs[to / LIMB] |= bit << (to % LIMB);
        i += 1;
    }
    limbs
}
