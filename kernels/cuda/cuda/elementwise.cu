// Products of vectors, element by element, in Montgomery form.
#include "field.cuh"

struct Elementwise {
    u64 first, count;
    Fr *a;
    const Fr *b;
    Fr *c;
};

// c = a b.
KERNEL(multiply, Elementwise, 256, 2) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    a.c[i] = a.a[i] * a.b[i];
}

// a = a b - c.
KERNEL(multiply_subtract, Elementwise, 256, 2) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    a.a[i] = a.a[i] * a.b[i] - a.c[i];
}
