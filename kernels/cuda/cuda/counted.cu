// The arithmetic of coordinates by itself: compiled to count its instructions, never launched.
#include "field.cuh"

struct Operands {
    const Fq *x;
    Fq *y;
    const Fq2 *v;
    Fq2 *w;
};

KERNEL(product, Operands, 256, 1) { *a.y = a.x[0] * a.x[1]; }
KERNEL(square, Operands, 256, 1) { *a.y = a.x[0].squared(); }
KERNEL(difference, Operands, 256, 1) {
    *a.y = difference_of_products(a.x[0], a.x[1], a.x[2], a.x[3]);
}
KERNEL(quadratic_product, Operands, 256, 1) { *a.w = a.v[0] * a.v[1]; }
KERNEL(quadratic_square, Operands, 256, 1) { *a.w = a.v[0].squared(); }
KERNEL(quadratic_difference, Operands, 256, 1) {
    *a.w = difference_of_products(a.v[0], a.v[1], a.v[2], a.v[3]);
}
