// Tables of multiples of bases: 2^(bits) P from P by doublings, and lambda P from P by the
// endomorphism (x, y) -> (beta x, y).
//
// A quantum cannot hold the doublings of a level, so points stay in XYZZ between launches and are
// made affine at the end of a level, each with an inversion of its own: tables are made once.
#include "curve.cuh"

#ifndef THREADS
#define THREADS 128
#endif

struct Multiples {
    u64 first, count;
    const Affine *in;
    Point *points;
    Affine *out;
    u64 doublings;
    const Fq *beta;
};

KERNEL(table_begin, Multiples, THREADS, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    a.points[i] = Point::of(a.in[i]);
}

KERNEL(table_double, Multiples, THREADS, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Point p = a.points[i];
    ROLLED for (u64 k = 0; k < a.doublings; k++) p.double_in_place();
    a.points[i] = p;
}

KERNEL(table_end, Multiples, THREADS, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    a.out[i] = a.points[i].affine();
}

KERNEL(table_endomorphism, Multiples, THREADS, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Affine p = a.in[i];
    p.x = p.x * *a.beta;
    a.out[i] = p;
}
