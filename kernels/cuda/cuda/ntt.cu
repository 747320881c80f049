// Number-theoretic transforms, up to ten levels a pass.
//
// Decimation in frequency takes natural order to bit-reversed order, its butterflies' distances
// falling from n / 2 to 1; decimation in time takes it back, the distances rising. A block has 1,024
// elements for a pass over the levels of distance 2^low up to 2^(high - 1): neighbouring columns of
// those whose index agrees elsewhere, so that reads come in whole lines. It does two levels at a time
// in registers, four elements a thread, and passes them round through shared memory between. The
// first two levels are done as they come from the device's memory, the last two as they go there.
//
// Nothing is ever put in another order by itself. A shift needs none: its two inner passes, which
// work on the same neighbouring elements, are one kernel with the powers of the coset's generator
// between them. A transform alone lets its last pass write each element where it belongs, which for
// elements of 32 bytes, a sector of memory, costs no more.
//
// Twiddle factors lie level by level, w_(2h)^j at h + j for j < h, w_(2h) being the root of order 2h;
// those of an inverse are the same read backwards, w_(2h)^-j = -w_(2h)^(h - j). Each butterfly costs
// the one product that it must.
#include "field.cuh"

constexpr u32 TILE_LOG2 = 10;
constexpr u32 TILE = 1 << TILE_LOG2;
constexpr u32 THREADS = TILE / 4;

struct Pass {
    // Blocks.
    u64 first, count;
    const Fr *in;
    Fr *out;
    const Fr *twiddles;
    // To be multiplied by, one for each element in bit-reversed order; of a shift.
    const Fr *scales;
    // To be multiplied by, one for all; or null.
    const Fr *factor;
    u64 log2, high, low;
    u64 inverse;
    // Whether elements are written where the reversed bits of their index say.
    u64 reversed;
};

// Word by word, so that neighbouring threads use neighbouring banks, and a word of room in 32, so
// that threads four elements apart do too.
struct Store {
    u32 (*word)[TILE + TILE / 32];

    DEVICE Fr load(u32 e) const {
        Fr x;
        UNROLL for (int i = 0; i < Fr::N; i++) x.word[i] = word[i][e + e / 32];
        return x;
    }
    DEVICE void keep(u32 e, const Fr &x) const {
        UNROLL for (int i = 0; i < Fr::N; i++) word[i][e + e / 32] = x.word[i];
    }
};

DEVICE u32 reverse_bits(u32 x, u32 bits) {
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    x = (x >> 8 & 0x00ff00ff) | (x & 0x00ff00ff) << 8;
    x = x >> 16 | x << 16;
    return x >> (32 - bits);
}

// The elements of a block.
struct Tile {
    const Pass &pass;
    Store store;
    u64 block;
    u32 size_log2;
    // How much further than in the vector two elements lie apart here, in bits.
    int shift;

    DEVICE Tile(const Pass &p, u32 (*words)[TILE + TILE / 32])
        : pass(p), store{words}, block(p.first + block_of_grid()) {
        size_log2 = p.log2 < TILE_LOG2 ? (u32)p.log2 : TILE_LOG2;
        shift = p.low == 0 ? 0 : (int)size_log2 - (int)p.high;
    }

    DEVICE u32 size() const { return 1u << size_log2; }

    // The index in the vector of the block's element e.
    DEVICE u32 index(u32 e) const {
        if (pass.low == 0) return (u32)(block << size_log2) + e;
        u32 columns_log2 = size_log2 - (u32)(pass.high - pass.low);
        u32 blocks_log2 = (u32)pass.low - columns_log2;
        u32 column = (u32)(block & ((1u << blocks_log2) - 1)) << columns_log2;
        u32 row = e >> columns_log2;
        return (u32)(block >> blocks_log2) << pass.high | row << pass.low | column
             | (e & ((1u << columns_log2) - 1));
    }

    DEVICE Fr load(u32 e, bool outer) const {
        return outer ? pass.in[index(e)] : store.load(e);
    }

    DEVICE void keep(u32 e, const Fr &x, bool outer) const {
        if (!outer) {
            store.keep(e, x);
            return;
        }
        u32 at = index(e);
        if (pass.reversed) at = reverse_bits(at, (u32)pass.log2);
        pass.out[at] = pass.factor ? x * *pass.factor : x;
    }

    // The factor of the butterfly whose upper index is j mod 2^level; an inverse's has the other
    // sign, unless j is zero.
    DEVICE Fr twiddle(u32 level, u32 index, bool inverse) const {
        u32 half = 1u << level;
        u32 j = index & (half - 1);
        return pass.twiddles[inverse && j != 0 ? 2 * half - j : half + j];
    }

    // x, y <- x + y, (x - y) w.
    DEVICE void in_frequency(Fr &x, Fr &y, u32 level, u32 index, bool inverse) const {
        bool swapped = inverse && (index & ((1u << level) - 1)) != 0;
        Fr w = twiddle(level, index, inverse);
        Fr sum = x + y;
        Fr from, what;
        UNROLL for (int i = 0; i < Fr::N; i++) {
            from.word[i] = swapped ? y.word[i] : x.word[i];
            what.word[i] = swapped ? x.word[i] : y.word[i];
        }
        y = (from - what) * w;
        x = sum;
    }

    // x, y <- x + y w, x - y w.
    DEVICE void in_time(Fr &x, Fr &y, u32 level, u32 index) const {
        Fr product = y * twiddle(level, index, false);
        y = x - product;
        x = x + product;
    }

    // Element `part` of the thread's four, a step of 2^gap apart.
    DEVICE u32 place(u32 thread, u32 gap, u32 part) const {
        return thread >> gap << (gap + 2) | part << gap | (thread & ((1u << gap) - 1));
    }

    // Two levels of decimation in frequency, the upper one first.
    DEVICE void pair_in_frequency(u32 upper, bool first, bool last) const {
        u32 thread = thread_of_block(), gap = (u32)((int)upper - 1 + shift);
        if (thread >= size() / 4) return;
        u32 e = place(thread, gap, 0), step = 1u << gap;
        u32 at = index(e), half = 1u << (upper - 1);
        bool inverse = pass.inverse != 0;
        Fr x0 = load(e, first), x1 = load(e + step, first);
        Fr x2 = load(e + 2 * step, first), x3 = load(e + 3 * step, first);
        in_frequency(x0, x2, upper, at, inverse);
        in_frequency(x1, x3, upper, at + half, inverse);
        in_frequency(x0, x1, upper - 1, at, inverse);
        in_frequency(x2, x3, upper - 1, at, inverse);
        keep(e, x0, last);
        keep(e + step, x1, last);
        keep(e + 2 * step, x2, last);
        keep(e + 3 * step, x3, last);
    }

    DEVICE void single_in_frequency(u32 level, bool first, bool last) const {
        ROLLED for (u32 k = thread_of_block(); k < size() / 2; k += THREADS) {
            u32 gap = (u32)((int)level + shift);
            u32 e = k >> gap << (gap + 1) | (k & ((1u << gap) - 1));
            Fr x = load(e, first), y = load(e + (1u << gap), first);
            in_frequency(x, y, level, index(e), pass.inverse != 0);
            keep(e, x, last);
            keep(e + (1u << gap), y, last);
        }
    }

    // Two levels of decimation in time, the lower one first.
    DEVICE void pair_in_time(u32 upper, bool first, bool last) const {
        u32 thread = thread_of_block(), gap = (u32)((int)upper - 1 + shift);
        if (thread >= size() / 4) return;
        u32 e = place(thread, gap, 0), step = 1u << gap;
        u32 at = index(e), half = 1u << (upper - 1);
        Fr x0 = load(e, first), x1 = load(e + step, first);
        Fr x2 = load(e + 2 * step, first), x3 = load(e + 3 * step, first);
        in_time(x0, x1, upper - 1, at);
        in_time(x2, x3, upper - 1, at);
        in_time(x0, x2, upper, at);
        in_time(x1, x3, upper, at + half);
        keep(e, x0, last);
        keep(e + step, x1, last);
        keep(e + 2 * step, x2, last);
        keep(e + 3 * step, x3, last);
    }

    DEVICE void single_in_time(u32 level, bool first, bool last) const {
        ROLLED for (u32 k = thread_of_block(); k < size() / 2; k += THREADS) {
            u32 gap = (u32)((int)level + shift);
            u32 e = k >> gap << (gap + 1) | (k & ((1u << gap) - 1));
            Fr x = load(e, first), y = load(e + (1u << gap), first);
            in_time(x, y, level, index(e));
            keep(e, x, last);
            keep(e + (1u << gap), y, last);
        }
    }

    // All levels of the pass from the top; `ends` if the results go to the device's memory.
    DEVICE void levels_in_frequency(bool ends) const {
        u32 level = (u32)pass.high, low = (u32)pass.low;
        bool first = true;
        if ((level - low) % 2 == 1) {
            level -= 1;
            single_in_frequency(level, true, ends && level == low);
            first = false;
            SYNC();
        }
        ROLLED while (level > low) {
            level -= 2;
            pair_in_frequency(level + 1, first, ends && level == low);
            first = false;
            SYNC();
        }
    }

    // All levels from the bottom; `begins` if the elements come from the device's memory.
    DEVICE void levels_in_time(bool begins) const {
        u32 level = (u32)pass.low, high = (u32)pass.high;
        bool first = begins;
        ROLLED while (level + 2 <= high) {
            level += 2;
            pair_in_time(level - 1, first, level == high);
            first = false;
            SYNC();
        }
        if (level < high) single_in_time(level, first, true);
    }
};

KERNEL_SHARED(ntt_in_frequency, Pass, THREADS, 2) {
    SHARED u32 words[Fr::N][TILE + TILE / 32];
    Tile tile(a, words);
    tile.levels_in_frequency(true);
}

KERNEL_SHARED(ntt_in_time, Pass, THREADS, 2) {
    SHARED u32 words[Fr::N][TILE + TILE / 32];
    Tile tile(a, words);
    tile.levels_in_time(true);
}

// The inner passes of a shift.
KERNEL_SHARED(ntt_shift, Pass, THREADS, 2) {
    SHARED u32 words[Fr::N][TILE + TILE / 32];
    Tile tile(a, words);
    tile.levels_in_frequency(false);
    ROLLED for (u32 e = thread_of_block(); e < tile.size(); e += THREADS)
        tile.store.keep(e, tile.store.load(e) * a.scales[tile.index(e)]);
    SYNC();
    tile.levels_in_time(false);
}

struct Powers {
    u64 first, count;
    // The root of order 2^i at i.
    const Fr *roots;
    Fr *out;
    u64 log2;
    // 1 / n.
    const Fr *factor;
};

// x times the j-th power of the root of order 2^log2.
DEVICE Fr times_power(Fr x, const Fr *roots, u32 log2, u32 j) {
    ROLLED for (u32 bit = 0; j >> bit != 0; bit++)
        if (j >> bit & 1) x = x * roots[log2 - bit];
    return x;
}

KERNEL(ntt_twiddles, Powers, 256, 2) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    u32 i = (u32)(a.first + thread);
    u32 level = 0;
    while (i >> (level + 1) != 0) level++;
    a.out[i] = i == 0 ? Fr::zero() : times_power(Fr::one(), a.roots, level + 1, i - (1u << level));
}

// v^rev(i) / n, v being the root of order 2 n.
KERNEL(ntt_scales, Powers, 256, 2) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    u32 i = (u32)(a.first + thread);
    u32 j = reverse_bits(i, (u32)a.log2);
    a.out[i] = times_power(*a.factor, a.roots, (u32)a.log2 + 1, j);
}
