// Scalars cut into signed digits, and the digits counted and put into buckets.
//
// A scalar above r / 2 is replaced by its negative. What is zero, or belongs to a point at infinity,
// is dropped; one and minus one go to a bucket of their own behind all others, which is filled
// by blocks at a time because witnesses are full of them. All others are cut from below into digits
// of `window` bits between -2^(window - 1) and 2^(window - 1), zeros left out, so that a small
// scalar has few entries. Where there are tables with the endomorphism (`tables.cu`), the scalar is
// first cut in two halves by the lattice that the host hands over; where there are tables of powers
// 2^(sets * window), digits that lie `sets` apart fall into the same buckets and take their points from
// different tables.
#include "field.cuh"

constexpr u32 THREADS = 256;

// The host's `endomorphism::Lattice` in words.
struct Lattice {
    u32 a[2][4], b[2][4];
    u32 quotients[2][6];
};

struct Digits {
    u64 first, count;
    const Fr *scalars;
    // A bit for each point that is not infinity.
    const u32 *finite;
    u64 montgomery;
    u64 window, sets, levels;
    // Null where scalars are not cut in two.
    const Lattice *lattice;
    // All bases: entry of level l and base i is l * bases + i, the top bit being its sign.
    u64 bases;
    // How many each bucket has; or where the next one goes.
    u32 *counters;
    // Null where they are only counted.
    u32 *entries;
};

struct Magnitude {
    u32 word[8];
    bool negative;
};

DEVICE void enter(const Digits &a, u64 bucket, u32 entry) {
    u32 *counter = &a.counters[bucket];
    // Apart: what is counted and not used needs no answer from memory.
    if (a.entries)
        a.entries[atomic_add(counter, 1)] = entry;
    else
        atomic_count(counter);
}

// Enters the digits of a magnitude whose lowest level has points from `base` on.
DEVICE void enter_digits(const Digits &a, Magnitude k, u32 base) {
    u32 window = (u32)a.window, half = 1u << (window - 1);
    u32 carry = 0;
    u64 bucket = 0, buckets = a.sets << (window - 1);
    u64 last = a.sets * a.levels;
    ROLLED for (u64 digit = 0; digit < last; digit++) {
        u32 any = carry;
        UNROLL for (int i = 0; i < 8; i++) any |= k.word[i];
        if (any == 0) break;
        u32 value = (k.word[0] & (2 * half - 1)) + carry;
        UNROLL for (int i = 0; i < 7; i++)
            k.word[i] = (u32)((((u64)k.word[i + 1] << 32) | k.word[i]) >> window);
        k.word[7] >>= window;
        carry = value > half;
        u32 magnitude = carry ? 2 * half - value : value;
        if (magnitude != 0)
            enter(a, bucket + magnitude - 1, base | (u32)((carry != 0) != k.negative) << 31);
        bucket += half;
        if (bucket == buckets) {
            bucket = 0;
            base += (u32)a.bases;
        }
    }
}

// The nearest integer to k q / 2^318, which is below 2^128.
DEVICE void nearest(const u32 *k, const u32 *q, u32 *out) {
    u32 product[14];
    UNROLL for (int i = 0; i < 14; i++) product[i] = 0;
    UNROLL for (int i = 0; i < 6; i++) {
        u32 carry = 0;
        UNROLL for (int j = 0; j < 8; j++) {
            u64 sum = (u64)q[i] * k[j] + product[i + j] + carry;
            product[i + j] = (u32)sum;
            carry = (u32)(sum >> 32);
        }
        product[i + 8] = carry;
    }
    // Word 9 holds the bits from 288 on.
    u32 carry = product[9] >> 29 & 1;
    UNROLL for (int i = 0; i < 4; i++) {
        u64 sum = (u64)(product[9 + i] >> 30 | product[10 + i] << 2) + carry;
        out[i] = (u32)sum;
        carry = (u32)(sum >> 32);
    }
}

// sum -= x y or += x y, mod 2^128.
DEVICE void accumulate(u32 *sum, const u32 *x, const u32 *y, bool subtract) {
    u32 product[4];
    UNROLL for (int i = 0; i < 4; i++) product[i] = 0;
    UNROLL for (int i = 0; i < 4; i++) {
        u32 carry = 0;
        UNROLL for (int j = 0; j < 4; j++) {
            if (i + j >= 4) continue;
            u64 term = (u64)x[i] * y[j] + product[i + j] + carry;
            product[i + j] = (u32)term;
            carry = (u32)(term >> 32);
        }
    }
    u32 flip = subtract ? ~0u : 0u, carry = subtract ? 1 : 0;
    UNROLL for (int i = 0; i < 4; i++) {
        u64 term = (u64)sum[i] + (product[i] ^ flip) + carry;
        sum[i] = (u32)term;
        carry = (u32)(term >> 32);
    }
}

// Of an integer of 128 bits in two's complement; `flip` if its negative is meant.
DEVICE Magnitude magnitude_of(const u32 *x, bool flip) {
    Magnitude m;
    bool negative = x[3] >> 31;
    m.negative = negative != flip;
    u32 mask = negative ? ~0u : 0u, carry = negative ? 1 : 0;
    UNROLL for (int i = 0; i < 8; i++) {
        u64 word = (u64)(i < 4 ? x[i] ^ mask : 0) + carry;
        m.word[i] = i < 4 ? (u32)word : 0;
        carry = (u32)(word >> 32);
    }
    return m;
}

KERNEL_SHARED(digits, Digits, THREADS, 2) {
    SHARED u32 ones, place;
    if (thread_of_block() == 0) ones = 0;
    SYNC();
    u64 thread = thread_of_grid();
    u32 i = (u32)(a.first + thread);
    bool is_one = false;
    u32 rank = 0;
    Magnitude k;
    UNROLL for (int j = 0; j < 8; j++) k.word[j] = 0;
    k.negative = false;
    if (thread < a.count && (a.finite[i / 32] >> (i % 32) & 1)) {
        Fr scalar = a.scalars[i];
        if (a.montgomery) scalar = scalar.from_montgomery();
        // Plain ones may be beyond r, by less than six times.
        UNROLL for (int j = 0; j < 5; j++) scalar = Fr::reduced(scalar);
        Fr minus = Fr::zero() - scalar;
        Carry c;
        u32 unused = sub_cc(c, minus.word[0], scalar.word[0]);
        UNROLL for (int j = 1; j < 8; j++) unused |= subc_cc(c, minus.word[j], scalar.word[j]);
        k.negative = subc(c, 0, 0) != 0;
        u32 upper = 0;
        UNROLL for (int j = 0; j < 8; j++) {
            k.word[j] = k.negative ? minus.word[j] : scalar.word[j];
            if (j > 0) upper |= k.word[j];
        }
        is_one = upper == 0 && k.word[0] == 1;
        if (is_one) rank = atomic_add(&ones, 1);
    }
    SYNC();
    u64 bucket = a.sets << (a.window - 1);
    if (thread_of_block() == 0 && ones != 0) place = atomic_add(&a.counters[bucket], ones);
    SYNC();
    if (is_one) {
        if (a.entries) a.entries[place + rank] = i | (u32)k.negative << 31;
    } else if (a.lattice == nullptr) {
        enter_digits(a, k, i);
    } else {
        // k = k1 + k2 lambda: from (k, 0) the nearest multiples of the two short vectors.
        u32 multiples[2][4], k1[4], k2[4];
        UNROLL for (int j = 0; j < 4; j++) {
            k1[j] = k.word[j];
            k2[j] = 0;
        }
        UNROLL for (int j = 0; j < 2; j++) nearest(k.word, a.lattice->quotients[j], multiples[j]);
        accumulate(k1, multiples[0], a.lattice->a[0], true);
        accumulate(k1, multiples[1], a.lattice->a[1], true);
        accumulate(k2, multiples[0], a.lattice->b[0], false);
        accumulate(k2, multiples[1], a.lattice->b[1], true);
        enter_digits(a, magnitude_of(k1, k.negative), i);
        enter_digits(a, magnitude_of(k2, k.negative), i + (u32)(a.levels * a.bases));
    }
}
