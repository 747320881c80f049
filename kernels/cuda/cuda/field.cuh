// The fields of BN254 and BLS12-381: Montgomery arithmetic in 32-bit words.
//
// An element is x R mod p with R = 2^(32 N), always reduced: the layout of the host's words and of
// snarkjs's keys. All constants but the moduli are computed by the compiler.
//
// A product interleaves rows a b_i and m q_i, as Montgomery's method does word by word. A product of
// two words has two, so a row's products of even index cover words 0..N, those of odd index words
// 1..N+1, and neither overlaps itself: `even` and `odd` are sums of such rows, each a single chain of
// carries of pairs lo, hi (`gpu.cuh`). Dividing by 2^32 makes odd the even one of the next row, and
// moves even down by two words to be its odd one, which costs nothing where a row is added to it
// anyway; the one word that is left over, even[1], goes into the new even one. That the chains over
// odd have no carry out of them follows from the whole: with T < 2 m before a row and 2 m < 2^(32 N),
// T + a b_i + m q_i < 2 m 2^32 < 2^(32 (N + 1)). What is left at the end is (a b + q m) / R < 2 m,
// since q < R.
//
// In the fields of coordinates there is room for more (`ROOM`). A square's rows, doubled, two rows at
// once, and a factor a < 2 m add less than 2 m b_i + m q_i, so T stays below 3 m, and that is below
// 2^(32 N); what they sum up to is below 2 m^2 < m R, so that at the end there is less than 2 m again.
#pragma once

#include "machine.cuh"

// Where there are too many products in one kernel, they are calls: see `sources.rs`.
#ifdef OUTLINED
#define CALL(name) called_##name
#else
#define CALL(name) name
#endif

// Functions that the compiler evaluates.
#define CONSTANT static DEVICE constexpr

struct ModulusFrBn254 {
    static constexpr int N = 8;
    CONSTANT u32 word(int i) {
        const u32 words[N] = {0xf0000001, 0x43e1f593, 0x79b97091, 0x2833e848,
                              0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
        return words[i];
    }
};

struct ModulusFqBn254 {
    static constexpr int N = 8;
    CONSTANT u32 word(int i) {
        const u32 words[N] = {0xd87cfd47, 0x3c208c16, 0x6871ca8d, 0x97816a91,
                              0x8181585d, 0xb85045b6, 0xe131a029, 0x30644e72};
        return words[i];
    }
};

struct ModulusFrBls12_381 {
    static constexpr int N = 8;
    CONSTANT u32 word(int i) {
        const u32 words[N] = {0x00000001, 0xffffffff, 0xfffe5bfe, 0x53bda402,
                              0x09a1d805, 0x3339d808, 0x299d7d48, 0x73eda753};
        return words[i];
    }
};

struct ModulusFqBls12_381 {
    static constexpr int N = 12;
    CONSTANT u32 word(int i) {
        const u32 words[N] = {0xffffaaab, 0xb9feffff, 0xb153ffff, 0x1eabfffe,
                              0xf6b0f624, 0x6730d2a0, 0xf38512bf, 0x64774b84,
                              0x434bacd7, 0x4b1ba7b6, 0x397fe69a, 0x1a0111ea};
        return words[i];
    }
};

template <int N>
struct Words {
    u32 word[N];
};

template <class M>
struct Constants {
    static constexpr int N = M::N;

    // -1 / m mod 2^32: five steps of Newton's, each of which doubles the bits that are right.
    CONSTANT u32 inverse() {
        u32 x = 1;
        for (int i = 0; i < 5; i++) x *= 2 - M::word(0) * x;
        return 0u - x;
    }

    // 2^exponent mod m.
    CONSTANT Words<N> power_of_two(int exponent) {
        Words<N> x{};
        x.word[0] = 1;
        for (int k = 0; k < exponent; k++) {
            u32 top = 0;
            for (int i = 0; i < N; i++) {
                u32 next = x.word[i] >> 31;
                x.word[i] = x.word[i] << 1 | top;
                top = next;
            }
            // No bit is lost: m has one to spare.
            bool less = false;
            for (int i = 0; i < N; i++)
                if (x.word[i] != M::word(i)) less = x.word[i] < M::word(i);
            u64 borrow = 0;
            for (int i = 0; i < N && !less; i++) {
                u64 difference = (u64)x.word[i] - M::word(i) - borrow;
                x.word[i] = (u32)difference;
                borrow = difference >> 63;
            }
        }
        return x;
    }

    // m - 2, the exponent of an inverse.
    CONSTANT Words<N> modulus_less_two() {
        Words<N> x{};
        u64 borrow = 2;
        for (int i = 0; i < N; i++) {
            u64 difference = (u64)M::word(i) - borrow;
            x.word[i] = (u32)difference;
            borrow = difference >> 63;
        }
        return x;
    }
};

template <class M>
struct alignas(16) Field {
    static constexpr int N = M::N;
    // Whether 3 m < 2^(32 N): in BLS12-381's scalar field it is not.
    static constexpr bool ROOM = M::word(N - 1) < 0x55555555;
    u32 word[N];

    static DEVICE Field zero() {
        Field x;
        UNROLL for (int i = 0; i < N; i++) x.word[i] = 0;
        return x;
    }

    static DEVICE Field one() {
        constexpr Words<N> r = Constants<M>::power_of_two(32 * N);
        Field x;
        UNROLL for (int i = 0; i < N; i++) x.word[i] = r.word[i];
        return x;
    }

    DEVICE bool is_zero() const {
        u32 any = 0;
        UNROLL for (int i = 0; i < N; i++) any |= word[i];
        return any == 0;
    }

    // Takes m off if x is not below it.
    static DEVICE Field reduced(const Field &x) {
        Carry c;
        Field y;
        y.word[0] = sub_cc(c, x.word[0], M::word(0));
        UNROLL for (int i = 1; i < N; i++) y.word[i] = subc_cc(c, x.word[i], M::word(i));
        bool below = subc(c, 0, 0) != 0;
        UNROLL for (int i = 0; i < N; i++) y.word[i] = below ? x.word[i] : y.word[i];
        return y;
    }

    friend DEVICE Field operator+(const Field &x, const Field &y) { return reduced(sum(x, y)); }

    friend DEVICE Field operator-(const Field &x, const Field &y) {
        Carry c;
        Field z;
        z.word[0] = sub_cc(c, x.word[0], y.word[0]);
        UNROLL for (int i = 1; i < N; i++) z.word[i] = subc_cc(c, x.word[i], y.word[i]);
        u32 below = subc(c, 0, 0);
        z.word[0] = add_cc(c, z.word[0], M::word(0) & below);
        UNROLL for (int i = 1; i < N - 1; i++)
            z.word[i] = addc_cc(c, z.word[i], M::word(i) & below);
        z.word[N - 1] = addc(c, z.word[N - 1], M::word(N - 1) & below);
        return z;
    }

    DEVICE Field negated_if(bool negate) const {
        Field minus = zero() - *this;
        UNROLL for (int i = 0; i < N; i++) minus.word[i] = negate ? minus.word[i] : word[i];
        return minus;
    }

    DEVICE Field doubled() const { return *this + *this; }
    DEVICE Field squared() const { return CALL(square)(*this); }
    friend DEVICE Field operator*(const Field &x, const Field &y) { return CALL(product)(x, y); }
    // a b - c d, with one reduction.
    friend DEVICE Field difference_of_products(const Field &a, const Field &b, const Field &c,
                                               const Field &d) {
        return CALL(difference)(a, b, c, d);
    }

    static OUTLINE Field called_square(Field x) { return square(x); }
    static OUTLINE Field called_product(Field x, Field y) { return product(x, y); }
    static OUTLINE Field called_difference(Field a, Field b, Field c, Field d) {
        return difference(a, b, c, d);
    }

    static DEVICE Field product(const Field &left, const Field &right) {
        u32 x[N], y[N], even[N], odd[N];
        UNROLL for (int i = 0; i < N; i++) {
            x[i] = held(left.word[i]);
            y[i] = held(right.word[i]);
        }
        row(odd, x + 1, y[0]);
        row(even, x, y[0]);
        reduce(even, odd);
        UNROLL for (int i = 1; i < N; i++) {
            u32 *lower = i % 2 == 0 ? even : odd, *upper = i % 2 == 0 ? odd : even;
            step(lower, upper, x, y[i]);
            reduce(lower, upper);
        }
        return reduced(last(odd, even));
    }

    // Products of two different words once, with one of them doubled: row i has the square of word i
    // and its products with the words above. So it begins at word 2 i, which is word i after i
    // divisions by 2^32, and the multiple of m that comes next does not depend on it.
    static DEVICE Field square(const Field &of) {
        if constexpr (!ROOM) return product(of, of);
        u32 x[N], even[N], odd[N];
        UNROLL for (int i = 0; i < N; i++) x[i] = held(of.word[i]);
        UNROLL for (int i = 0; i < N; i++) {
            u32 *lower = i % 2 == 0 ? even : odd, *upper = i % 2 == 0 ? odd : even;
            u32 factors[N];
            factors[i] = x[i];
            UNROLL for (int j = i + 1; j < N; j++)
                factors[j] = x[j] << 1 | (j == i + 1 ? 0 : x[j - 1] >> 31);
            if (i == 0) {
                row(upper, factors + 1, x[0]);
                row(lower, factors, x[0]);
                reduce(lower, upper);
                continue;
            }
            step_reduce(lower, upper);
            int first = i + i % 2, second = i | 1;
            Carry c;
            if (first < N) {
                row_add(c, lower + first, factors + first, x[i], N - first);
                upper[N - 1] = addc(c, upper[N - 1], 0);
            }
            row_add(c, upper + second - 1, factors + second, x[i], N + 1 - second);
        }
        return reduced(last(odd, even));
    }

    static DEVICE Field difference(const Field &a, const Field &b, const Field &c, const Field &d) {
        static_assert(ROOM, "two rows at once");
        u32 x[N], y[N], v[N], w[N], even[N], odd[N];
        // m - c, which is m where c is zero.
        Carry borrow;
        v[0] = sub_cc(borrow, M::word(0), c.word[0]);
        UNROLL for (int i = 1; i < N; i++) v[i] = subc_cc(borrow, M::word(i), c.word[i]);
        UNROLL for (int i = 0; i < N; i++) {
            x[i] = held(a.word[i]);
            y[i] = held(b.word[i]);
            w[i] = held(d.word[i]);
        }
        row(odd, x + 1, y[0]);
        row(even, x, y[0]);
        add(even, odd, v, w[0]);
        reduce(even, odd);
        UNROLL for (int i = 1; i < N; i++) {
            u32 *lower = i % 2 == 0 ? even : odd, *upper = i % 2 == 0 ? odd : even;
            step(lower, upper, x, y[i]);
            add(lower, upper, v, w[i]);
            reduce(lower, upper);
        }
        return reduced(last(odd, even));
    }

    // A sum of products that is not divided by R yet.
    struct Wide {
        u32 word[2 * N];

        // Ones if that is below zero: then 2^(64 N) too much is left.
        DEVICE u32 subtract(const Wide &y) {
            Carry c;
            word[0] = sub_cc(c, word[0], y.word[0]);
            UNROLL for (int i = 1; i < 2 * N; i++) word[i] = subc_cc(c, word[i], y.word[i]);
            return subc(c, 0, 0);
        }

        // Adds m R if `below` is ones.
        DEVICE void raise(u32 below) {
            Carry c;
            word[N] = add_cc(c, word[N], M::word(0) & below);
            UNROLL for (int i = 1; i < N - 1; i++)
                word[N + i] = addc_cc(c, word[N + i], M::word(i) & below);
            word[2 * N - 1] = addc(c, word[2 * N - 1], M::word(N - 1) & below);
        }

        // Divides by R what is below m R.
        DEVICE Field reduced() const {
            u32 even[N], odd[N];
            UNROLL for (int i = 0; i < N; i++) even[i] = word[i];
            UNROLL for (int i = 0; i < N; i++) odd[i] = 0;
            reduce(even, odd);
            UNROLL for (int i = 1; i < N; i++)
                step_reduce(i % 2 == 0 ? even : odd, i % 2 == 0 ? odd : even);
            Field z = last(odd, even);
            Carry c;
            z.word[0] = add_cc(c, z.word[0], word[N]);
            UNROLL for (int i = 1; i < N - 1; i++) z.word[i] = addc_cc(c, z.word[i], word[N + i]);
            z.word[N - 1] = addc(c, z.word[N - 1], word[2 * N - 1]);
            return Field::reduced(z);
        }
    };

    // Of any two integers of N words.
    static DEVICE Wide wide(const Field &left, const Field &right) {
        u32 x[N], y[N], even[N], odd[N];
        UNROLL for (int i = 0; i < N; i++) {
            x[i] = held(left.word[i]);
            y[i] = held(right.word[i]);
        }
        Wide z;
        row(odd, x + 1, y[0]);
        row(even, x, y[0]);
        z.word[0] = even[0];
        UNROLL for (int i = 1; i < N; i++) {
            u32 *lower = i % 2 == 0 ? even : odd, *upper = i % 2 == 0 ? odd : even;
            step(lower, upper, x, y[i]);
            z.word[i] = lower[0];
        }
        Field upper = last(odd, even);
        UNROLL for (int i = 0; i < N; i++) z.word[N + i] = upper.word[i];
        return z;
    }

    // Not reduced.
    static DEVICE Field sum(const Field &x, const Field &y) {
        Carry c;
        Field z;
        z.word[0] = add_cc(c, x.word[0], y.word[0]);
        UNROLL for (int i = 1; i < N - 1; i++) z.word[i] = addc_cc(c, x.word[i], y.word[i]);
        z.word[N - 1] = addc(c, x.word[N - 1], y.word[N - 1]);
        return z;
    }

    // 1 / x by Fermat's little theorem; zero for zero.
    DEVICE Field inverted() const {
        constexpr Words<N> exponent = Constants<M>::modulus_less_two();
        Field z = one();
        ROLLED for (int bit = 32 * N - 1; bit >= 0; bit--) {
            z = z.squared();
            u32 word = 0;
            UNROLL for (int i = 0; i < N; i++)
                if (i == bit / 32) word = exponent.word[i];
            if (word >> (bit % 32) & 1) z = z * *this;
        }
        return z;
    }

    // The plain integer x of x R: the product with 1.
    DEVICE Field from_montgomery() const {
        Field unit = zero();
        unit.word[0] = 1;
        return *this * unit;
    }

  private:
    // Every second product of a row, in place of what was there.
    static DEVICE void row(u32 *sum, const u32 *x, u32 y) {
        UNROLL for (int j = 0; j < N; j += 2) {
            sum[j] = multiply_lo(x[j], y);
            sum[j + 1] = multiply_hi(x[j], y);
        }
    }

    // The same added to it, or to the lowest words of it; a carry out of it is left behind.
    static DEVICE void row_add(Carry &c, u32 *sum, const u32 *x, u32 y, int length = N) {
        sum[0] = mad_lo_cc(c, x[0], y, sum[0]);
        sum[1] = madc_hi_cc(c, x[0], y, sum[1]);
        row_add_on(c, sum + 2, x + 2, y, length - 2);
    }

    // The same, and a carry as well.
    static DEVICE void row_add_on(Carry &c, u32 *sum, const u32 *x, u32 y, int length) {
        UNROLL for (int j = 0; j < length; j += 2) {
            sum[j] = madc_lo_cc(c, x[j], y, sum[j]);
            sum[j + 1] = madc_hi_cc(c, x[j], y, sum[j + 1]);
        }
    }

    // The same added to what was there divided by 2^64, and to a carry.
    static DEVICE void row_shift(Carry &c, u32 *sum, const u32 *x, u32 y) {
        UNROLL for (int j = 0; j < N - 2; j += 2) {
            sum[j] = madc_lo_cc(c, x[j], y, sum[j + 2]);
            sum[j + 1] = madc_hi_cc(c, x[j], y, sum[j + 3]);
        }
        sum[N - 2] = madc_lo_cc(c, x[N - 2], y, 0);
        sum[N - 1] = madc_hi(c, x[N - 2], y, 0);
    }

    // Divides by 2^32, whence the names change places, and adds x y.
    static DEVICE void step(u32 *even, u32 *odd, const u32 *x, u32 y) {
        Carry c;
        even[0] = add_cc(c, even[0], odd[1]);
        row_shift(c, odd, x + 1, y);
        row_add(c, even, x, y);
        odd[N - 1] = addc(c, odd[N - 1], 0);
    }

    // Adds x y.
    static DEVICE void add(u32 *even, u32 *odd, const u32 *x, u32 y) {
        Carry c;
        row_add(c, odd, x + 1, y);
        row_add(c, even, x, y);
        odd[N - 1] = addc(c, odd[N - 1], 0);
    }

    // Divides by 2^32 for the last time: its lowest word is zero.
    static DEVICE Field last(const u32 *even, const u32 *odd) {
        Carry c;
        Field z;
        z.word[0] = add_cc(c, odd[0], even[1]);
        UNROLL for (int i = 1; i < N - 1; i++) z.word[i] = addc_cc(c, odd[i], even[i + 1]);
        z.word[N - 1] = addc(c, odd[N - 1], 0);
        return z;
    }

    // Divides by 2^32, whence the names change places, and adds the multiple of m that makes the
    // lowest word zero.
    static DEVICE void step_reduce(u32 *even, u32 *odd) {
        constexpr u32 inverse = Constants<M>::inverse();
        u32 m[N];
        UNROLL for (int i = 0; i < N; i++) m[i] = M::word(i);
        Carry c;
        even[0] = add_cc(c, even[0], odd[1]);
        u32 q = even[0] * inverse;
        row_shift(c, odd, m + 1, q);
        row_add(c, even, m, q);
        odd[N - 1] = addc(c, odd[N - 1], 0);
    }

    // Adds the multiple of m that makes the lowest word zero.
    static DEVICE void reduce(u32 *even, u32 *odd) {
        constexpr u32 inverse = Constants<M>::inverse();
        u32 m[N];
        UNROLL for (int i = 0; i < N; i++) m[i] = M::word(i);
        Carry c;
        if constexpr (M::word(0) == 1 && M::word(1) == 0xffffffff) {
            // BLS12-381's r. q is minus the lowest word, and q (2^32 - 1) has that word itself below
            // and q - 1 above, or both zero. ptxas would multiply by these two constants in ways of
            // its own, and make no pairs of what follows them in the chains.
            u32 lowest = even[0];
            u32 q = sub_cc(c, 0, lowest);
            u32 above = subc(c, q, 0);
            odd[0] = add_cc(c, odd[0], lowest);
            odd[1] = addc_cc(c, odd[1], above);
            row_add_on(c, odd + 2, m + 3, q, N - 2);
            even[0] = add_cc(c, lowest, q);
            even[1] = addc_cc(c, even[1], 0);
            row_add_on(c, even + 2, m + 2, q, N - 2);
        } else {
            u32 q = even[0] * inverse;
            row_add(c, odd, m + 1, q);
            row_add(c, even, m, q);
        }
        odd[N - 1] = addc(c, odd[N - 1], 0);
    }
};

// c0 + c1 u with u^2 = -1: the coordinates of G2 on both curves.
template <class F>
struct Quadratic {
    static_assert(F::ROOM, "for what is not reduced");
    F c0, c1;

    static DEVICE Quadratic zero() { return {F::zero(), F::zero()}; }
    static DEVICE Quadratic one() { return {F::one(), F::zero()}; }
    DEVICE bool is_zero() const { return c0.is_zero() && c1.is_zero(); }

    friend DEVICE Quadratic operator+(const Quadratic &x, const Quadratic &y) {
        return {x.c0 + y.c0, x.c1 + y.c1};
    }
    friend DEVICE Quadratic operator-(const Quadratic &x, const Quadratic &y) {
        return {x.c0 - y.c0, x.c1 - y.c1};
    }
    friend DEVICE Quadratic operator*(const Quadratic &x, const Quadratic &y) {
        return CALL(product)(x, y);
    }
    // a b - c d, with two reductions.
    friend DEVICE Quadratic difference_of_products(const Quadratic &a, const Quadratic &b,
                                                   const Quadratic &c, const Quadratic &d) {
        return CALL(difference)(a, b, c, d);
    }
    static OUTLINE Quadratic called_product(Quadratic x, Quadratic y) { return product(x, y); }
    static OUTLINE Quadratic called_difference(Quadratic a, Quadratic b, Quadratic c, Quadratic d) {
        return difference(a, b, c, d);
    }

    static DEVICE Quadratic product(const Quadratic &x, const Quadratic &y) {
        return Wide(x, y).reduced();
    }
    static DEVICE Quadratic difference(const Quadratic &a, const Quadratic &b, const Quadratic &c,
                                       const Quadratic &d) {
        Wide z(a, b), less(c, d);
        z.c0.raise(z.c0.subtract(less.c0));
        z.c1.raise(z.c1.subtract(less.c1));
        return z.reduced();
    }

    // A product by Karatsuba's three, its parts reduced when all is summed up. Those of coordinates
    // are below m^2, that of the sums below 4 m^2 < 2^(64 N), for m has two bits to spare. So c1 is
    // x0 y1 + x1 y0 < 2 m^2 < m R, and c0 is above -m^2, which m R makes positive, and below m R then;
    // and so is the difference of two parts, which are between 0 and m R.
    struct Wide {
        typename F::Wide c0, c1;

        DEVICE Wide(const Quadratic &x, const Quadratic &y) {
            F left = F::sum(x.c0, x.c1), right = F::sum(y.c0, y.c1);
            c0 = F::wide(x.c0, y.c0);
            c1 = F::wide(left, right);
            typename F::Wide high = F::wide(x.c1, y.c1);
            c1.subtract(c0);
            c1.subtract(high);
            c0.raise(c0.subtract(high));
        }
        DEVICE Quadratic reduced() const { return {c0.reduced(), c1.reduced()}; }
    };

    friend DEVICE Quadratic operator*(const Quadratic &x, const F &y) {
        return {x.c0 * y, x.c1 * y};
    }
    DEVICE Quadratic doubled() const { return {c0.doubled(), c1.doubled()}; }
    DEVICE Quadratic squared() const { return CALL(square)(*this); }
    static OUTLINE Quadratic called_square(Quadratic x) { return square(x); }
    static DEVICE Quadratic square(const Quadratic &x) {
        return {F::product(F::sum(x.c0, x.c1), x.c0 - x.c1), F::product(F::sum(x.c0, x.c0), x.c1)};
    }
    DEVICE Quadratic negated_if(bool negate) const {
        return {c0.negated_if(negate), c1.negated_if(negate)};
    }
    // (c0 - c1 u) / (c0^2 + c1^2).
    DEVICE Quadratic inverted() const {
        F norm = (c0.squared() + c1.squared()).inverted();
        return {c0 * norm, (c1 * norm).negated_if(true)};
    }
};

#if defined(BN254)
typedef Field<ModulusFrBn254> Fr;
typedef Field<ModulusFqBn254> Fq;
#elif defined(BLS12_381)
typedef Field<ModulusFrBls12_381> Fr;
typedef Field<ModulusFqBls12_381> Fq;
#else
#error "a curve must be named"
#endif
typedef Quadratic<Fq> Fq2;
