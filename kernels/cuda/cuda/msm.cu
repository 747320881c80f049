// Sums of multiples of points: the buckets filled, and folded.
//
// A thread adds up a part of a bucket, whose entries `sort.cu` has put side by side. The parts of
// heavy buckets are added in rounds, eight to one, by a thread for each eighth part. Then a thread takes a segment of a set's buckets
// from above, with a running sum and the sum of running sums, so that bucket i counts i times; what
// is left, the segment's start times its sum, is a few doublings. The segments of a set are added
// in rounds as well, and the host does the last few hundred doublings, which a GPU can only do one
// after the other.
#include "curve.cuh"

#ifndef THREADS
#define THREADS 128
#endif

struct Accumulate {
    u64 first, count;
    // Parts, the longest first.
    const u32 *order;
    const u32 *bucket, *start, *bucket_entries;
    u64 part;
    const u32 *entries;
    const Affine *bases, *tables;
    u64 count_bases;
    Point *sums;
};

KERNEL(msm_accumulate, Accumulate, THREADS, 1) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    u32 part = a.order[a.first + thread];
    u32 start = a.start[part];
    u32 end = a.bucket_entries[a.bucket[part] + 1];
    if (end - start > (u32)a.part) end = start + (u32)a.part;
    Point sum = Point::infinity();
    ROLLED for (u32 i = start; i < end; i++) {
        u32 entry = a.entries[i];
        u32 index = entry & 0x7fffffff;
        const Affine &point =
            index < a.count_bases ? a.bases[index] : a.tables[index - a.count_bases];
        sum.add(point, entry >> 31);
    }
    a.sums[part] = sum;
}

struct Merge {
    u64 first, count;
    // How far apart the sums are that are left.
    u64 step;
    // Of all buckets.
    u64 all;
    const u32 *bucket, *parts;
    Point *sums;
};

// Adds the seven others to each eighth sum of a bucket. A thread has eight multiples of `step`, and of each the group that begins
// there or less than a step before: one of a heavy bucket, the same for all threads of a warp.
KERNEL(msm_merge, Merge, THREADS, 1) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    // Both are powers of two.
    u32 step = (u32)a.step, group = 8 * step;
    u32 place = (u32)(a.first + thread) * group;
    ROLLED do {
        u32 bucket = a.bucket[place], end = a.parts[bucket + 1];
        u32 behind = (place - a.parts[bucket]) & (group - 1);
        if (behind < step) {
            u32 part = place - behind;
            if (end - part > group) end = part + group;
            if (part + step < end) {
                Point sum = a.sums[part];
                ROLLED for (u32 other = part + step; other < end; other += step)
                    sum.add(a.sums[other]);
                a.sums[part] = sum;
            }
        }
        place += step;
    } while ((place & (group - 1)) != 0 && place < (u32)a.all);
}

struct Fold {
    u64 first, count;
    // Buckets of a segment, segments of a set, and sets.
    u64 length, segments, sets;
    const u32 *parts;
    const Point *sums;
    Point *out;
};

KERNEL(msm_fold, Fold, THREADS, 1) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    u64 segment = a.first + thread;
    u64 bucket = segment * a.length;
    Point running = Point::infinity(), sum = Point::infinity();
    ROLLED for (u64 i = a.length; i-- > 0;) {
        u32 part = a.parts[bucket + i];
        if (part != a.parts[bucket + i + 1]) running.add(a.sums[part]);
        sum.add(running);
    }
    u32 start = (u32)(segment % a.segments * a.length);
    u32 top = 0;
    while (start >> top > 1) top++;
    if (start != 0 && !running.is_infinity()) {
        Point multiple = running;
        ROLLED while (top-- > 0) {
            multiple.double_in_place();
            if (start >> top & 1) multiple.add(running);
        }
        sum.add(multiple);
    }
    // The first segments of all sets are neighbours.
    a.out[segment % a.segments * a.sets + segment / a.segments] = sum;
}

struct Gather {
    u64 first, count;
    u64 step, segments, sets;
    Point *sums;
};

// Adds the seven others to each eighth sum of a set.
KERNEL(msm_gather, Gather, THREADS, 1) {
    u64 thread = thread_of_grid();
    if (thread >= a.count) return;
    // A thread for each sum that is left in the end, sets side by side.
    u64 place = a.first + thread;
    u64 number = place / a.sets * 8 * a.step;
    u64 segment = number * a.sets + place % a.sets;
    Point sum = a.sums[segment];
    ROLLED for (u64 i = 1; i < 8 && number + i * a.step < a.segments; i++)
        sum.add(a.sums[segment + i * a.step * a.sets]);
    a.sums[segment] = sum;
}
