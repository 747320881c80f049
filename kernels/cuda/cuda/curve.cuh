// Points of y^2 = x^3 + b, in G1 or in G2, affine and in XYZZ.
//
// XYZZ holds x = X / ZZ and y = Y / ZZZ with ZZ^3 = ZZZ^2; infinity has ZZ = 0. The formulas are
// those of the Explicit Formulas Database for a = 0: madd-2008-s (8 products and 2 squares, the
// fewest of a mixed addition that are known), add-2008-s, dbl-2008-s-1 and mdbl-2008-s-1, with
// the cases that they leave out: equal points, opposite points, infinity. Neither curve has points
// of order two.
//
// A sum of two points, a double, and where products are calls a mixed sum too, are calls on points in
// memory: each coordinate is read by the product that wants it. As text in the kernel they held all
// coordinates in registers over the products, which spilt, and a kernel had up to five copies.
#pragma once

#include "field.cuh"

// As in snarkjs's files: infinity is all zeros.
template <class Coordinate>
struct AffineOver {
    Coordinate x, y;

    DEVICE bool is_infinity() const { return x.is_zero() && y.is_zero(); }
};

template <class Coordinate>
struct PointOver {
    typedef AffineOver<Coordinate> Affine;

    Coordinate x, y, zz, zzz;

    static DEVICE PointOver infinity() {
        return {Coordinate::zero(), Coordinate::zero(), Coordinate::zero(), Coordinate::zero()};
    }

    static DEVICE PointOver of(const Affine &p) {
        if (p.is_infinity()) return infinity();
        return {p.x, p.y, Coordinate::one(), Coordinate::one()};
    }

    DEVICE bool is_infinity() const { return zz.is_zero(); }

    // p, or its negative.
    DEVICE void add(const Affine &p, bool negate) { CALL(add_mixed)(p, negate); }

    OUTLINE void add(const PointOver &p) {
        if (p.is_infinity()) return;
        if (is_infinity()) {
            *this = p;
            return;
        }
        Coordinate x1 = x * p.zz;
        Coordinate y1 = y * p.zzz;
        Coordinate difference = p.x * zz - x1;
        Coordinate slope = p.y * zzz - y1;
        if (difference.is_zero()) {
            if (slope.is_zero())
                double_in_place();
            else
                *this = infinity();
            return;
        }
        Coordinate square = difference.squared();
        Coordinate cube = difference * square;
        zz = zz * p.zz * square;
        zzz = zzz * p.zzz * cube;
        finish_sum(x1 * square, y1, slope, cube);
    }

    // Infinity has ZZ = 0, and so has its double.
    OUTLINE void double_in_place() {
        Coordinate zz1 = zz, zzz1 = zzz;
        set_double(x, y);
        zz = zz * zz1;
        zzz = zzz * zzz1;
    }

    // The plain x and y.
    DEVICE Affine affine() const {
        if (is_infinity()) return {Coordinate::zero(), Coordinate::zero()};
        // 1 / ZZ = ZZ^2 / ZZZ^2.
        Coordinate inverse = zzz.inverted();
        Coordinate ratio = zz * inverse;
        return {x * ratio.squared(), y * inverse};
    }

  private:
    OUTLINE void called_add_mixed(const Affine &p, bool negate) { add_mixed(p, negate); }
    DEVICE void add_mixed(const Affine &p, bool negate) {
        if (p.is_infinity()) return;
        Coordinate y2 = p.y.negated_if(negate);
        if (is_infinity()) {
            *this = of(Affine{p.x, y2});
            return;
        }
        Coordinate difference = p.x * zz - x;
        Coordinate slope = y2 * zzz - y;
        if (difference.is_zero()) {
            // Hardly ever, so the double takes no registers here.
            PointOver twice = infinity();
            if (slope.is_zero()) {
                twice = of(Affine{p.x, y2});
                twice.double_in_place();
            }
            *this = twice;
            return;
        }
        Coordinate square = difference.squared();
        Coordinate cube = difference * square;
        zz = zz * square;
        zzz = zzz * cube;
        finish_sum(x * square, y, slope, cube);
    }

    DEVICE void finish_sum(const Coordinate &q, const Coordinate &y1, const Coordinate &slope,
                           const Coordinate &cube) {
        x = slope.squared() - cube - q.doubled();
        y = difference_of_products(slope, q - x, y1, cube);
    }

    // The double of (x1, y1) with ZZ = ZZZ = 1.
    DEVICE void set_double(Coordinate x1, Coordinate y1) {
        Coordinate u = y1.doubled();
        zz = u.squared();
        zzz = u * zz;
        Coordinate s = x1 * zz;
        Coordinate m = x1.squared();
        m = m.doubled() + m;
        x = m.squared() - s.doubled();
        y = difference_of_products(m, s - x, zzz, y1);
    }
};

#if defined(G1)
typedef AffineOver<Fq> Affine;
typedef PointOver<Fq> Point;
#elif defined(G2)
typedef AffineOver<Fq2> Affine;
typedef PointOver<Fq2> Point;
#else
#error "a group must be named"
#endif
