// What a sum of multiples sorts by: the buckets of the digits, and the parts of buckets by length.
//
// A counting sort. Scalars are cut into digits and counted by bucket (`digits.cu`), the counts are
// summed up here to places, and the entries put there. A bucket of more than `part` entries is cut
// into parts, so that a heavy one, of which witnesses have some, keeps many threads busy; and parts
// are ordered by length, the longest first, so that the threads of a warp end together.
#include "machine.cuh"

constexpr u32 THREADS = 256;
constexpr u32 EACH = 4;
constexpr u32 PART_MAX = 256;

struct Scan {
    // Blocks.
    u64 first, count;
    u64 buckets;
    u64 part;
    const u32 *counts;
    // Sums of blocks, entries in the lower half and parts in the upper one.
    u64 *sums;
    // Where each bucket's entries and parts begin, and in the end all of them.
    u32 *entries, *parts;
    // The same as entries: what is still free.
    u32 *cursors;
};

DEVICE u64 entries_and_parts(const Scan &a, u64 bucket) {
    if (bucket >= a.buckets) return 0;
    u32 entries = a.counts[bucket];
    return entries | (u64)((entries + (u32)a.part - 1) / (u32)a.part) << 32;
}

// The sum of what the threads before this one have; `all` gets that of all. Every thread calls it.
DEVICE u64 sum_before(u64 *shared, u64 mine, u64 &all) {
    u32 thread = thread_of_block();
    shared[thread] = mine;
    SYNC();
    for (u32 distance = 1; distance < THREADS; distance *= 2) {
        u64 other = thread >= distance ? shared[thread - distance] : 0;
        SYNC();
        shared[thread] += other;
        SYNC();
    }
    all = shared[THREADS - 1];
    u64 before = shared[thread] - mine;
    SYNC();
    return before;
}

KERNEL_SHARED(scan_blocks, Scan, THREADS, 1) {
    SHARED u64 shared[THREADS];
    u64 block = a.first + block_of_grid();
    u64 at = (block * THREADS + thread_of_block()) * EACH;
    u64 mine = 0, all;
    for (u32 i = 0; i < EACH; i++) mine += entries_and_parts(a, at + i);
    sum_before(shared, mine, all);
    if (thread_of_block() == 0) a.sums[block] = all;
}

// One block.
KERNEL_SHARED(scan_sums, Scan, THREADS, 1) {
    SHARED u64 shared[THREADS];
    u64 blocks = (a.buckets + THREADS * EACH - 1) / (THREADS * EACH);
    u64 base = 0;
    for (u64 start = 0; start < blocks; start += THREADS) {
        u64 at = start + thread_of_block(), all;
        u64 mine = at < blocks ? a.sums[at] : 0;
        u64 before = sum_before(shared, mine, all);
        if (at < blocks) a.sums[at] = base + before;
        base += all;
    }
    if (thread_of_block() == 0) {
        a.entries[a.buckets] = (u32)base;
        a.parts[a.buckets] = (u32)(base >> 32);
    }
}

KERNEL_SHARED(scan_places, Scan, THREADS, 1) {
    SHARED u64 shared[THREADS];
    u64 block = a.first + block_of_grid();
    u64 at = (block * THREADS + thread_of_block()) * EACH;
    u64 mine = 0, all;
    for (u32 i = 0; i < EACH; i++) mine += entries_and_parts(a, at + i);
    u64 place = a.sums[block] + sum_before(shared, mine, all);
    for (u32 i = 0; i < EACH && at + i < a.buckets; i++) {
        a.entries[at + i] = (u32)place;
        a.cursors[at + i] = (u32)place;
        a.parts[at + i] = (u32)(place >> 32);
        place += entries_and_parts(a, at + i);
    }
}

struct Parts {
    u64 first, count;
    u64 buckets;
    u64 part;
    const u32 *entries, *parts;
    // Of each part its bucket, and where its entries begin.
    u32 *bucket, *start;
    // How many parts there are of each length, the most that a bucket has, all entries, all parts, and the first
    // part of the last bucket.
    u32 *lengths;
    // Where the next part of each length goes.
    u32 *places;
    u32 *order;
};

// Launches are for as many parts as there may be: the host does not know how many there are.
DEVICE bool is_part(const Parts &a, u64 thread) {
    return thread < a.count && a.first + thread < a.parts[a.buckets];
}

DEVICE u32 length_of(const Parts &a, u32 bucket, u32 start) {
    u32 left = a.entries[bucket + 1] - start;
    return left < (u32)a.part ? left : (u32)a.part;
}

KERNEL_SHARED(part_lengths, Parts, THREADS, 1) {
    SHARED u32 lengths[PART_MAX + 1];
    for (u32 i = thread_of_block(); i <= PART_MAX; i += THREADS) lengths[i] = 0;
    SYNC();
    u64 thread = thread_of_grid();
    if (is_part(a, thread)) {
        u32 part = (u32)(a.first + thread);
        // The last bucket whose parts begin at or before this one; of empty ones there is none.
        u64 below = 0, above = a.buckets;
        while (above - below > 1) {
            u64 middle = (below + above) / 2;
            if (a.parts[middle] <= part)
                below = middle;
            else
                above = middle;
        }
        u32 bucket = (u32)below;
        u32 number = part - a.parts[bucket];
        u32 start = a.entries[bucket] + number * (u32)a.part;
        a.bucket[part] = bucket;
        a.start[part] = start;
        atomic_add(&lengths[length_of(a, bucket, start)], 1);
        if (number == 0) atomic_max(&a.lengths[PART_MAX + 1], a.parts[bucket + 1] - part);
    }
    SYNC();
    for (u32 i = thread_of_block(); i <= PART_MAX; i += THREADS)
        if (lengths[i] != 0) atomic_add(&a.lengths[i], lengths[i]);
}

// One block: the longest come first. There are none of no length.
KERNEL_SHARED(part_places, Parts, THREADS, 1) {
    SHARED u32 lengths[PART_MAX + 1];
    for (u32 i = thread_of_block(); i <= PART_MAX; i += THREADS) lengths[i] = a.lengths[i];
    SYNC();
    u32 length = thread_of_block() + 1, place = 0;
    for (u32 i = length + 1; i <= PART_MAX; i++) place += lengths[i];
    a.places[length] = place;
    if (thread_of_block() == 0) {
        a.lengths[PART_MAX + 2] = a.entries[a.buckets];
        a.lengths[PART_MAX + 3] = a.parts[a.buckets];
        a.lengths[PART_MAX + 4] = a.parts[a.buckets - 1];
    }
}

KERNEL_SHARED(part_order, Parts, THREADS, 1) {
    SHARED u32 lengths[PART_MAX + 1];
    SHARED u32 places[PART_MAX + 1];
    for (u32 i = thread_of_block(); i <= PART_MAX; i += THREADS) lengths[i] = 0;
    SYNC();
    u64 thread = thread_of_grid();
    u32 part = (u32)(a.first + thread), length = 0, rank = 0;
    bool is_there = is_part(a, thread);
    if (is_there) {
        length = length_of(a, a.bucket[part], a.start[part]);
        rank = atomic_add(&lengths[length], 1);
    }
    SYNC();
    for (u32 i = thread_of_block(); i <= PART_MAX; i += THREADS)
        if (lengths[i] != 0) places[i] = atomic_add(&a.places[i], lengths[i]);
    SYNC();
    if (is_there) a.order[places[length] + rank] = part;
}
