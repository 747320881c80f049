//! Montgomery arithmetic on little-endian arrays of 64-bit words, for moduli with a spare top bit.
//!
//! What a field's constants need is a `const fn` over a modulus that is handed in: the same code
//! computes them at compile time and, inlined with the modulus known, products at run time, where
//! the processor has no faster way (see `path`). R is 2^(64 N).
//!
//! - [`multiply`] is the coarsely integrated operand scanning of Koc, Acar and Kaliski without
//!   the extra carry word, which a modulus below 2^(64 N - 1) never needs (the observation is
//!   that of the gnark authors).
//! - [`square`] and the products of the quadratic extension make the double-width product first
//!   and reduce it afterwards ([`wide_product`], [`wide_square`], [`reduce_wide`]).
//! - [`invert`] is the extended greatest common divisor by division steps of Bernstein and Yang,
//!   in the variable-time form with 62 steps a round that libsecp256k1 made popular. Its time
//!   depends on its input: like all arithmetic of this crate it is not for keys that an attacker
//!   may time.
//!
//! Inputs are reduced unless a function says otherwise. Words beyond that give a wrong result
//! and nothing worse: carries wrap, no index depends on a value.

/// A modulus and its negated inverse mod 2^64, in the order in which assembly reads them.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Constants<const N: usize> {
    pub(crate) modulus: [u64; N],
    pub(crate) inverse: u64,
}

/// lo + 2^64 hi = a b + c + d, which cannot overflow.
#[inline(always)]
const fn mul_add(a: u64, b: u64, c: u64, d: u64) -> (u64, u64) {
    let t = (a as u128) * (b as u128) + (c as u128) + (d as u128);
    (t as u64, (t >> 64) as u64)
}

/// a + b + carry.
#[inline(always)]
const fn add_carry(a: u64, b: u64, carry: bool) -> (u64, bool) {
    let (x, c0) = a.overflowing_add(b);
    let (x, c1) = x.overflowing_add(carry as u64);
    (x, c0 | c1)
}

/// a - b - borrow.
#[inline(always)]
const fn sub_borrow(a: u64, b: u64, borrow: bool) -> (u64, bool) {
    let (x, b0) = a.overflowing_sub(b);
    let (x, b1) = x.overflowing_sub(borrow as u64);
    (x, b0 | b1)
}

/// -m^-1 mod 2^64 for an odd m, by Newton's iteration.
pub(crate) const fn negated_inverse(m: u64) -> u64 {
    let mut x = m; // right to three bits
    let mut bits = 3;
    while bits < 64 {
        x = x.wrapping_mul(2u64.wrapping_sub(m.wrapping_mul(x)));
        bits *= 2;
    }
    x.wrapping_neg()
}

/// 2^exponent mod `modulus`, by doubling.
pub(crate) const fn power_of_two<const N: usize>(modulus: &[u64; N], exponent: usize) -> [u64; N] {
    let mut x = [0; N];
    x[0] = 1;
    let mut i = 0;
    while i < exponent {
        x = add(&x, &x, modulus);
        i += 1;
    }
    x
}

/// Whether a < b as integers.
#[inline(always)]
pub(crate) const fn less<const N: usize>(a: &[u64; N], b: &[u64; N]) -> bool {
    let mut borrow = false;
    let mut i = 0;
    while i < N {
        (_, borrow) = sub_borrow(a[i], b[i], borrow);
        i += 1;
    }
    borrow
}

/// a - b - borrow as integers mod 2^(64 N), and whether it borrowed.
#[inline(always)]
pub(crate) const fn subtract_borrowing<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    borrow: bool,
) -> ([u64; N], bool) {
    let mut x = [0; N];
    let mut borrow = borrow;
    let mut i = 0;
    while i < N {
        (x[i], borrow) = sub_borrow(a[i], b[i], borrow);
        i += 1;
    }
    (x, borrow)
}

/// a + b + carry as integers mod 2^(64 N), and whether it carried.
#[inline(always)]
pub(crate) const fn add_carrying<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    carry: bool,
) -> ([u64; N], bool) {
    let mut x = [0; N];
    let mut carry = carry;
    let mut i = 0;
    while i < N {
        (x[i], carry) = add_carry(a[i], b[i], carry);
        i += 1;
    }
    (x, carry)
}

/// a + b as integers mod 2^(64 N).
#[inline(always)]
pub(crate) const fn add_words<const N: usize>(a: &[u64; N], b: &[u64; N]) -> [u64; N] {
    add_carrying(a, b, false).0
}

/// a, less the modulus if it is not below it.
#[inline(always)]
pub(crate) const fn reduce_once<const N: usize>(a: [u64; N], modulus: &[u64; N]) -> [u64; N] {
    let (x, borrow) = subtract_borrowing(&a, modulus, false);
    let mask = (borrow as u64).wrapping_neg();
    let mut r = [0; N];
    let mut i = 0;
    while i < N {
        r[i] = (a[i] & mask) | (x[i] & !mask);
        i += 1;
    }
    r
}

/// a + b mod the modulus.
#[inline(always)]
pub(crate) const fn add<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    modulus: &[u64; N],
) -> [u64; N] {
    reduce_once(add_words(a, b), modulus)
}

/// a - b mod the modulus.
#[inline(always)]
pub(crate) fn subtract<const N: usize>(a: &[u64; N], b: &[u64; N], modulus: &[u64; N]) -> [u64; N] {
    let (x, borrow) = subtract_borrowing(a, b, false);
    let mask = opaque((borrow as u64).wrapping_neg());
    let mut y = [0; N];
    let mut i = 0;
    while i < N {
        y[i] = modulus[i] & mask;
        i += 1;
    }
    add_words(&x, &y)
}

/// The mask, of which the compiler then knows nothing. It would make a branch of a mask that comes
/// from a borrow, and every second difference of random elements borrows: mispredicted branches
/// took longer than the subtraction itself.
#[inline(always)]
pub(crate) fn opaque(mask: u64) -> u64 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut mask = mask;
        // SAFETY: no instruction at all, only a comment.
        #[allow(unsafe_code)]
        unsafe {
            std::arch::asm!(
                "/* {0} */",
                inout(reg) mask,
                options(pure, nomem, nostack, preserves_flags)
            );
        }
        mask
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    std::hint::black_box(mask)
}

/// a b / R mod the modulus. `b` may be any number below R if `a` is reduced: the running sum
/// stays below a plus the modulus, which has to fit N words, and the last one below twice the
/// modulus.
#[inline(always)]
pub(crate) const fn multiply<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    modulus: &[u64; N],
    inverse: u64,
) -> [u64; N] {
    let mut t = [0u64; N];
    let mut i = 0;
    while i < N {
        let (t0, mut high) = mul_add(a[0], b[i], t[0], 0);
        let m = t0.wrapping_mul(inverse);
        let (_, mut carry) = mul_add(m, modulus[0], t0, 0);
        let mut j = 1;
        while j < N {
            let (tj, h) = mul_add(a[j], b[i], t[j], high);
            high = h;
            let (x, c) = mul_add(m, modulus[j], tj, carry);
            t[j - 1] = x;
            carry = c;
            j += 1;
        }
        t[N - 1] = carry.wrapping_add(high);
        i += 1;
    }
    reduce_once(t, modulus)
}

/// The double-width product a b: low words, high words.
#[inline(always)]
pub(crate) const fn wide_product<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
) -> ([u64; N], [u64; N]) {
    let mut low = [0; N];
    let mut high = [0; N];
    let mut i = 0;
    while i < N {
        // Row i adds a b_i at word i; `high` holds words i.. of the running sum.
        let (x, mut carry) = mul_add(a[0], b[i], high[0], 0);
        low[i] = x;
        let mut j = 1;
        while j < N {
            let (x, c) = mul_add(a[j], b[i], high[j], carry);
            high[j - 1] = x;
            carry = c;
            j += 1;
        }
        high[N - 1] = carry;
        i += 1;
    }
    (low, high)
}

/// T / R mod the modulus for a double-width T below R times the modulus.
#[inline(always)]
pub(crate) const fn reduce_wide<const N: usize>(
    low: [u64; N],
    high: [u64; N],
    modulus: &[u64; N],
    inverse: u64,
) -> [u64; N] {
    let mut low = low;
    let mut i = 0;
    // Each round clears the lowest word and rotates: after N rounds `low` holds the carries
    // that belong to the high half.
    while i < N {
        let m = low[0].wrapping_mul(inverse);
        let (_, mut carry) = mul_add(m, modulus[0], low[0], 0);
        let mut j = 1;
        while j < N {
            let (x, c) = mul_add(m, modulus[j], low[j], carry);
            low[j - 1] = x;
            carry = c;
            j += 1;
        }
        low[N - 1] = carry;
        i += 1;
    }
    reduce_once(add_words(&low, &high), modulus)
}

/// a^2 / R mod the modulus, each mixed product made once and doubled.
#[inline(always)]
pub(crate) const fn square<const N: usize>(
    a: &[u64; N],
    modulus: &[u64; N],
    inverse: u64,
) -> [u64; N] {
    let mut low = [0u64; N];
    let mut high = [0u64; N];
    // Mixed products a_i a_j, i < j, at word i + j.
    let mut i = 0;
    while i + 1 < N {
        let mut carry = 0;
        let mut j = i + 1;
        while j < N {
            let k = i + j;
            let t = if k < N { low[k] } else { high[k - N] };
            let (x, c) = mul_add(a[i], a[j], t, carry);
            if k < N {
                low[k] = x;
            } else {
                high[k - N] = x;
            }
            carry = c;
            j += 1;
        }
        high[i] = carry;
        i += 1;
    }
    // Doubled, with the squares a_i^2 at word 2 i added on the way.
    let mut shifted = 0;
    let mut carry = false;
    let mut i = 0;
    while i < N {
        let square = (a[i] as u128) * (a[i] as u128);
        let k = 2 * i;
        let t = if k < N { low[k] } else { high[k - N] };
        let (x, c) = add_carry((t << 1) | shifted, square as u64, carry);
        shifted = t >> 63;
        if k < N {
            low[k] = x;
        } else {
            high[k - N] = x;
        }
        let k = k + 1;
        let t = if k < N { low[k] } else { high[k - N] };
        let (x, c) = add_carry((t << 1) | shifted, (square >> 64) as u64, c);
        shifted = t >> 63;
        if k < N {
            low[k] = x;
        } else {
            high[k - N] = x;
        }
        carry = c;
        i += 1;
    }
    reduce_wide(low, high, modulus, inverse)
}

/// base^exponent, base and result in Montgomery form, `one` being R mod the modulus.
pub(crate) const fn power<const N: usize>(
    base: &[u64; N],
    exponent: &[u64],
    one: &[u64; N],
    modulus: &[u64; N],
    inverse: u64,
) -> [u64; N] {
    let mut x = *one;
    let mut i = 64 * exponent.len();
    while i > 0 {
        i -= 1;
        x = square(&x, modulus, inverse);
        if exponent[i / 64] >> (i % 64) & 1 == 1 {
            x = multiply(&x, base, modulus, inverse);
        }
    }
    x
}

/// a >> bits as integers.
pub(crate) const fn shift_right<const N: usize>(a: &[u64; N], bits: u32) -> [u64; N] {
    let mut x = *a;
    let mut k = 0;
    while k < bits {
        let mut i = 0;
        while i < N {
            let above = if i + 1 < N { x[i + 1] & 1 } else { 0 };
            x[i] = x[i] >> 1 | above << 63;
            i += 1;
        }
        k += 1;
    }
    x
}

/// factor / a mod the modulus; 0 if a is 0. L is the number of signed 62-bit limbs that hold
/// the modulus and one bit more.
pub(crate) fn invert<const N: usize, const L: usize>(
    a: &[u64; N],
    factor: &[u64; N],
    modulus: &[u64; N],
) -> [u64; N] {
    debug_assert!(62 * L > 64 * N);
    // The invariants are a d = f and a e = g, up to `factor` and powers of two that are divided
    // out mod the modulus as they arise.
    let p = to_limbs::<N, L>(modulus);
    let p_inverse = negated_inverse(modulus[0]).wrapping_neg() & MASK;
    let mut d = [0i64; L];
    let mut e = to_limbs::<N, L>(factor);
    let mut f = p;
    let mut g = to_limbs::<N, L>(a);
    let mut eta = -1i64;
    let mut len = L;
    // 49 L / 17 + 57 / 17 bounds the division steps of an L-bit input; reaching it would mean
    // that the modulus is even.
    for _ in 0..(49 * 64 * N + 57) / (17 * 62) + 2 {
        let t = division_steps(&mut eta, f[0] as u64, g[0] as u64);
        update_factors(&mut d, &mut e, &t, &p, p_inverse);
        update_values(&mut f, &mut g, &t, len);
        if g[..len].iter().all(|&x| x == 0) {
            break;
        }
        // Drop a top limb when both are only sign.
        if len > 1 {
            let (top_f, top_g) = (f[len - 1], g[len - 1]);
            if top_f == top_f >> 63 && top_g == top_g >> 63 {
                f[len - 2] |= ((top_f as u64) << 62) as i64;
                g[len - 2] |= ((top_g as u64) << 62) as i64;
                len -= 1;
            }
        }
    }
    // f is the greatest common divisor, plus or minus one; or the modulus when a was 0.
    normalise(d, f[len - 1] < 0, &p)
}

/// What 62 division steps do to (f, g): the matrix (u v; q r) over 2^62.
struct Steps {
    u: i64,
    v: i64,
    q: i64,
    r: i64,
}

const MASK: u64 = u64::MAX >> 2;

fn division_steps(eta: &mut i64, f: u64, g: u64) -> Steps {
    let (mut u, mut v, mut q, mut r) = (1u64, 0u64, 0u64, 1u64);
    let (mut f, mut g) = (f, g);
    let mut left = 62u32;
    loop {
        let zeros = (g | u64::MAX << left).trailing_zeros();
        g >>= zeros;
        u <<= zeros;
        v <<= zeros;
        *eta -= i64::from(zeros);
        left -= zeros;
        if left == 0 {
            break;
        }
        // f and g are odd: cancel as many low bits of g as eta allows, six or four at a time.
        let w;
        if *eta < 0 {
            *eta = -*eta;
            (f, g) = (g, f.wrapping_neg());
            (u, q) = (q, u.wrapping_neg());
            (v, r) = (r, v.wrapping_neg());
            let limit = (*eta + 1).min(i64::from(left)) as u32;
            let mask = (u64::MAX >> (64 - limit)) & 63;
            w = f
                .wrapping_mul(g)
                .wrapping_mul(f.wrapping_mul(f).wrapping_sub(2))
                & mask;
        } else {
            let limit = (*eta + 1).min(i64::from(left)) as u32;
            let mask = (u64::MAX >> (64 - limit)) & 15;
            let x = f.wrapping_add((f.wrapping_add(1) & 4) << 1);
            w = x.wrapping_neg().wrapping_mul(g) & mask;
        }
        g = g.wrapping_add(f.wrapping_mul(w));
        q = q.wrapping_add(u.wrapping_mul(w));
        r = r.wrapping_add(v.wrapping_mul(w));
    }
    Steps {
        u: u as i64,
        v: v as i64,
        q: q as i64,
        r: r as i64,
    }
}

#[inline(always)]
fn wide(a: i64, b: i64) -> i128 {
    i128::from(a) * i128::from(b)
}

/// (d, e) = (u d + v e, q d + r e) / 2^62 mod p, both kept within (-2 p, p).
fn update_factors<const L: usize>(
    d: &mut [i64; L],
    e: &mut [i64; L],
    t: &Steps,
    p: &[i64; L],
    p_inverse: u64,
) {
    let (sign_d, sign_e) = (d[L - 1] >> 63, e[L - 1] >> 63);
    let mut md = (t.u & sign_d) + (t.v & sign_e);
    let mut me = (t.q & sign_d) + (t.r & sign_e);
    let mut cd = wide(t.u, d[0]) + wide(t.v, e[0]);
    let mut ce = wide(t.q, d[0]) + wide(t.r, e[0]);
    // Multiples of p that clear the lowest limb.
    let clear = |c: i128, m: i64| p_inverse.wrapping_mul(c as u64).wrapping_add(m as u64) & MASK;
    md -= clear(cd, md) as i64;
    me -= clear(ce, me) as i64;
    cd += wide(p[0], md);
    ce += wide(p[0], me);
    cd >>= 62;
    ce >>= 62;
    for i in 1..L {
        cd += wide(t.u, d[i]) + wide(t.v, e[i]) + wide(p[i], md);
        ce += wide(t.q, d[i]) + wide(t.r, e[i]) + wide(p[i], me);
        d[i - 1] = (cd as u64 & MASK) as i64;
        e[i - 1] = (ce as u64 & MASK) as i64;
        cd >>= 62;
        ce >>= 62;
    }
    d[L - 1] = cd as i64;
    e[L - 1] = ce as i64;
}

/// (f, g) = (u f + v g, q f + r g) / 2^62, exactly.
fn update_values<const L: usize>(f: &mut [i64; L], g: &mut [i64; L], t: &Steps, len: usize) {
    let mut cf = wide(t.u, f[0]) + wide(t.v, g[0]);
    let mut cg = wide(t.q, f[0]) + wide(t.r, g[0]);
    cf >>= 62;
    cg >>= 62;
    for i in 1..len {
        cf += wide(t.u, f[i]) + wide(t.v, g[i]);
        cg += wide(t.q, f[i]) + wide(t.r, g[i]);
        f[i - 1] = (cf as u64 & MASK) as i64;
        g[i - 1] = (cg as u64 & MASK) as i64;
        cf >>= 62;
        cg >>= 62;
    }
    f[len - 1] = cf as i64;
    g[len - 1] = cg as i64;
}

/// d or -d, from (-2 p, p) to [0, p), as words.
fn normalise<const N: usize, const L: usize>(d: [i64; L], negate: bool, p: &[i64; L]) -> [u64; N] {
    let carry = |x: [i64; L]| {
        let mut y = x;
        for i in 0..L - 1 {
            y[i + 1] += y[i] >> 62;
            y[i] = (y[i] as u64 & MASK) as i64;
        }
        y
    };
    let add_p_if_negative = |x: [i64; L]| {
        let mut y = x;
        if y[L - 1] < 0 {
            for i in 0..L {
                y[i] += p[i];
            }
        }
        carry(y)
    };
    let mut x = add_p_if_negative(d);
    if negate {
        x = carry(x.map(|limb| -limb));
    }
    let x = add_p_if_negative(x);
    let mut words = [0; N];
    for (i, word) in words.iter_mut().enumerate() {
        let (limb, shift) = (64 * i / 62, 64 * i % 62);
        *word = x[limb] as u64 >> shift;
        if limb + 1 < L {
            *word |= (x[limb + 1] as u64) << (62 - shift);
        }
        if 62 - shift + 62 < 64 && limb + 2 < L {
            *word |= (x[limb + 2] as u64) << (124 - shift);
        }
    }
    words
}

fn to_limbs<const N: usize, const L: usize>(words: &[u64; N]) -> [i64; L] {
    let mut limbs = [0; L];
    for (i, limb) in limbs.iter_mut().enumerate() {
        let (word, shift) = (62 * i / 64, 62 * i % 64);
        if word < N {
            let mut x = words[word] >> shift;
            if shift > 2 && word + 1 < N {
                x |= words[word + 1] << (64 - shift);
            }
            *limb = (x & MASK) as i64;
        }
    }
    limbs
}
