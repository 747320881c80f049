// Products of sparse matrices and a witness.
//
// The host has sorted the entries by row and cut long rows, so that a task is a part of one row and
// no task is long; the longest come first, so that the threads of a warp have alike to do. A
// coefficient is v R^2 mod r and the witness plain, so one Montgomery product gives v w R. The parts
// of a row, which are neighbours, are summed at the end.
#include "field.cuh"

struct Tasks {
    u64 first, count;
    // Start and length of each task, and where its sum belongs.
    const u32 *start, *length, *place;
    const u32 *column;
    const Fr *coefficient, *witness;
    Fr *sum;
};

KERNEL(product_tasks, Tasks, 256, 2) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Fr sum = Fr::zero();
    u32 start = a.start[i], length = a.length[i];
    ROLLED for (u32 j = start; j < start + length; j++)
        sum = sum + a.witness[a.column[j]] * a.coefficient[j];
    a.sum[a.place[i]] = sum;
}

struct Rows {
    u64 first, count;
    // Row i has the sums from `parts[i]` up to `parts[i + 1]`; rows beyond `rows` have none.
    u64 rows;
    const u32 *parts;
    const Fr *sum;
    Fr *out;
};

KERNEL(product_rows, Rows, 256, 2) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Fr sum = Fr::zero();
    if (i < a.rows)
        ROLLED for (u32 j = a.parts[i]; j < a.parts[i + 1]; j++) sum = sum + a.sum[j];
    a.out[i] = sum;
}
