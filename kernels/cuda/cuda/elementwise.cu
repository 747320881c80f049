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

struct Chain {
    u64 first, count;
    // Products of each thread.
    u64 length;
    Fr *out;
};

// How fast products are that nothing else holds up: two chains a thread, all in registers. What comes of
// it is never zero, which the compiler does not know.
KERNEL(chain, Chain, 256, 2) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    Fr factor = Fr::one() + Fr::one();
    factor.word[0] ^= (u32)(a.first + i);
    Fr x = factor, y = factor.doubled();
    ROLLED for (u64 k = 0; k < a.length; k += 2) {
        x = x * factor;
        y = y * factor;
    }
    if ((x * y).is_zero()) *a.out = x;
}
