// One field operation on many elements: what the tests hold against arkworks.
#include "field.cuh"

#ifdef BASE
typedef Fq Element;
#else
typedef Fr Element;
#endif

struct Operands {
    u64 first, count;
    u64 operation;
    const Element *x, *y;
    Element *z;
};

KERNEL(check_field, Operands, 256, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Element x = a.x[i], y = a.y[i], z = x;
    switch (a.operation) {
    case 0: z = x * y; break;
    case 1: z = x + y; break;
    case 2: z = x - y; break;
    case 3: z = x.inverted(); break;
    case 4: z = x.from_montgomery(); break;
    case 5: z = x.negated_if(true); break;
    case 6: z = x.squared(); break;
#ifdef BASE
    case 7: z = difference_of_products(x, y, x + y, x - y); break;
#endif
    }
    a.z[i] = z;
}

struct QuadraticOperands {
    u64 first, count;
    u64 operation;
    const Fq2 *x, *y;
    Fq2 *z;
};

#ifdef BASE
KERNEL(check_quadratic, QuadraticOperands, 256, 1) {
    u64 i = thread_of_grid();
    if (i >= a.count) return;
    i += a.first;
    Fq2 x = a.x[i], y = a.y[i], z = x;
    switch (a.operation) {
    case 0: z = x * y; break;
    case 1: z = x + y; break;
    case 2: z = x - y; break;
    case 3: z = x.inverted(); break;
    case 4: z = x.squared(); break;
    case 5: z = x.negated_if(true); break;
    case 7: z = difference_of_products(x, y, x + y, x - y); break;
    }
    a.z[i] = z;
}
#endif
