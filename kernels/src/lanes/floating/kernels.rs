//! The products of [`super::Floating`], in assembly, and the tables that they read.
//!
//! Sixteen registers just hold the ten columns of a product, the constants and a factor, if one
//! decides what lies where: compilers spill some, and which changes from one release to the next.
//! So the instructions are set down here, by macros that build them from a row of a product up.
//!
//! **A product of digits.** With c = 1.5 2^104, whose unit in the last place is 2^52, rounding to
//! the nearest gives
//!
//! - h = a b + c, rounded: the bits of h less those of c are the integer nearest to a b / 2^52;
//! - e = (2^52 + 1)(3 2^51) - h = c + 1.5 2^52 - h, exact, since it is a multiple of 2^51 below
//!   2^104, by one fused multiplication, for no double is c + 1.5 2^52;
//! - l = a b + e, exact: the bits of l less those of 1.5 2^52 are the integer a b - 2^52 (the
//!   first), at most 2^51 in magnitude.
//!
//! It holds for |a b| <= 2^103. The idea of using the magic constant for both halves is from
//! Emmart, Zheng and Weems, "Faster modular exponentiation using double precision floating point
//! arithmetic on the GPU" (ARITH 2018), who round towards zero, which would mean a changed control
//! register that Rust code must never run under.
//!
//! Both integers are added to 64-bit columns with the bits of the constants and all; a column
//! starts at what the constants will have brought, negated ([`starts`]), so no one subtracts them.
//! Counting them for each column is all that there is to it, and sums wrap.
//!
//! **Digits of a column.** A column starts 2^62 + 2^51 higher than that. Its low 52 bits are then
//! the centred digit, in [-2^51, 2^51), plus 2^51; the rest is the carry plus 2^10, which the start
//! of the next column takes off. Put below the exponent of 2^52 the low bits are a double, less
//! 1.5 2^52 the digit. Columns stay below 2^58 in magnitude: at most 47 integers of at most 2^51,
//! what is added to them (2^53), and the carry.
//!
//! **Reduction.** With five digits, the digit of column k < 4 is multiplied by the residue of
//! 2^(-52 (4 - k)) mod p, in (-p/2, p/2), and added at column 4: products that do not wait for each
//! other, as Montgomery's steps do, of which one is left, for column 4 (after Domb's idea). They add
//! at most p/4 each to the quotient by R', and Montgomery's step p/2: [1.5] together. With eight
//! digits sixteen columns do not fit the registers, so the digit of column k < 7 is multiplied by
//! the residue of 2^-52 and added at the next column, in a loop; that is less.

use std::arch::naked_asm;
use std::arch::x86_64::__m256d;
use std::mem::offset_of;

use crate::field::{self, Modulus};

/// Digits that are 64-bit integers, in registers of doubles as all else.
pub(super) type Integers<const K: usize> = [__m256d; K];

/// z = a b, or z = z + a b with a reduced result and a z that comes as integers.
pub(super) type Product<const K: usize> = unsafe extern "sysv64" fn(
    z: &mut Integers<K>,
    a: &[__m256d; K],
    b: &[__m256d; K],
    table: &Table<K>,
);

/// z = a b + c d, or z = z + a b + c d likewise.
pub(super) type Products<const K: usize> = unsafe extern "sysv64" fn(
    z: &mut Integers<K>,
    a: &[__m256d; K],
    b: &[__m256d; K],
    table: &Table<K>,
    c: &[__m256d; K],
    d: &[__m256d; K],
);

/// A constant for all four lanes.
type V = [u64; 4];

/// What the kernels of a modulus read.
#[repr(C, align(64))]
pub(super) struct Table<const K: usize> {
    /// In the order of `constant!`.
    constants: [V; 11],
    /// Digits of p.
    p: [V; K],
    /// Digits of the residues of 2^(-52 (4 - k)). Eight digits need the last only.
    folds: [[V; K]; 4],
    /// For each [`Kernel`], what columns start from.
    starts: [[[V; K]; 2]; 5],
    /// What the loop of eight digits reads one column too far.
    _end: V,
}

/// The number of a kernel's starts.
enum Kernel {
    Multiply = 0,
    Dot = 1,
    MultiplyReduced = 2,
    DotReduced = 3,
    SquareReduced = 4,
}

/// 1.5 2^104.
const SPLIT: u64 = (1.5 * (1u128 << 104) as f64).to_bits();
/// 1.5 2^52: its bits plus an integer in [-2^51, 2^51] are those of the sum.
pub(super) const CENTRE: u64 = (1.5 * (1u64 << 52) as f64).to_bits();
/// 2^52: its bits plus an integer in [0, 2^52) are those of the sum.
pub(super) const UNIT: u64 = ((1u64 << 52) as f64).to_bits();
/// The low 52 bits.
pub(super) const MASK: u64 = (1 << 52) - 1;

/// How much higher the top column of a reduced sum starts, and how much lower the quotient's
/// product, since more is taken off a sum than is added: it may be from -1.5 2^51 to 2^50.
const REDUCED: u64 = 1 << 50;

/// Where a constant lies, as an operand.
#[rustfmt::skip]
macro_rules! constant {
    (split) => { "[rcx]" };
    (split_high) => { "[rcx + 32]" };
    (split_low) => { "[rcx + 64]" };
    (mask) => { "[rcx + 96]" };
    (unit) => { "[rcx + 128]" };
    (centre) => { "[rcx + 160]" };
    (inverse) => { "[rcx + 192]" };
    (reciprocal) => { "[rcx + 224]" };
    (sum) => { "[rcx + 256]" };
    (quotient) => { "[rcx + 288]" };
    (reduced) => { "[rcx + 320]" };
}

impl<const K: usize> Table<K> {
    pub(super) const fn new<M: Modulus<N>, const N: usize>() -> Self {
        let constants = [
            SPLIT,
            ((1u64 << 52) as f64 + 1.0).to_bits(),
            (1.5 * (1u64 << 52) as f64).to_bits(),
            MASK,
            UNIT,
            CENTRE,
            centred_digit(field::negated_inverse(M::MODULUS[0]) & MASK).to_bits(),
            reciprocal::<N, K>(&M::MODULUS).to_bits(),
            CENTRE + REDUCED,
            CENTRE - REDUCED,
            // What is left in the top column in place of CENTRE.
            0u64.wrapping_sub(SPLIT + CENTRE + (1 << 10)),
        ];
        let mut table = Self {
            constants: [[0; 4]; 11],
            p: splat(&digits_of(&M::MODULUS, false)),
            folds: [[[0; 4]; K]; 4],
            starts: [
                starts(Kernel::Multiply),
                starts(Kernel::Dot),
                starts(Kernel::MultiplyReduced),
                starts(Kernel::DotReduced),
                starts(Kernel::SquareReduced),
            ],
            _end: [0; 4],
        };
        let mut i = 0;
        while i < constants.len() {
            table.constants[i] = [constants[i]; 4];
            i += 1;
        }
        let mut k = 0;
        while k < 4 {
            table.folds[k] = splat(&centred(&power_of_half::<M, N>(52 * (4 - k)), &M::MODULUS));
            k += 1;
        }
        table
    }
}

/// 2^(52 (K - 1)) / p, to double precision.
pub(super) const fn reciprocal<const N: usize, const K: usize>(p: &[u64; N]) -> f64 {
    let mut double = 0.0;
    let mut j = N;
    while j > 0 {
        j -= 1;
        double = double * (1u128 << 64) as f64 + p[j] as f64;
    }
    power(52 * (K - 1)) / double
}

/// 2^exponent.
const fn power(exponent: usize) -> f64 {
    f64::from_bits((1023 + exponent as u64) << 52)
}

/// 2^-exponent mod p, as an integer.
const fn power_of_half<M: Modulus<N>, const N: usize>(exponent: usize) -> [u64; N] {
    let mut words = [0; N];
    words[0] = 1;
    let mut k = 0;
    while k < exponent {
        if words[0] & 1 == 1 {
            // The modulus is odd and has a bit to spare.
            words = field::add_words(&words, &M::MODULUS);
        }
        let mut i = 0;
        while i < N {
            let above = if i + 1 < N { words[i + 1] << 63 } else { 0 };
            words[i] = words[i] >> 1 | above;
            i += 1;
        }
        k += 1;
    }
    words
}

/// The digits of an integer below p, of which p is taken if that makes it smaller.
pub(super) const fn centred<const N: usize, const K: usize>(
    words: &[u64; N],
    p: &[u64; N],
) -> [f64; K] {
    let (rest, _) = field::subtract_borrowing(p, words, false);
    if field::subtract_borrowing(&rest, words, false).1 {
        digits_of(&rest, true)
    } else {
        digits_of(words, false)
    }
}

/// Centred digits of an integer or of its negative.
pub(super) const fn digits_of<const N: usize, const K: usize>(
    words: &[u64; N],
    negate: bool,
) -> [f64; K] {
    let mut digits = [0.0; K];
    let mut carry = 0;
    let mut i = 0;
    while i < K {
        let (word, bit) = (52 * i / 64, 52 * i % 64);
        let mut limb = words[word] >> bit;
        if bit > 12 && word + 1 < N {
            limb |= words[word + 1] << (64 - bit);
        }
        let limb = (limb & MASK) + carry;
        let digit = if i + 1 < K {
            centred_digit(limb)
        } else {
            limb as f64
        };
        carry = (limb as i64 - digit as i64) as u64 >> 52;
        digits[i] = if negate { -digit } else { digit };
        i += 1;
    }
    digits
}

/// x less 2^52 if it is at least 2^51.
const fn centred_digit(x: u64) -> f64 {
    if x < 1 << 51 {
        x as f64
    } else {
        (x as i64 - (1 << 52)) as f64
    }
}

const fn splat<const K: usize>(digits: &[f64; K]) -> [V; K] {
    let mut vectors = [[0; 4]; K];
    let mut i = 0;
    while i < K {
        vectors[i] = [digits[i].to_bits(); 4];
        i += 1;
    }
    vectors
}

/// What columns start from, so that each has the offsets of the header when its digit is taken.
const fn starts<const K: usize>(kernel: Kernel) -> [[V; K]; 2] {
    let mut columns = [[0u64; K]; 2];
    let (pairs, square, reduced) = match kernel {
        Kernel::Multiply => (1, false, false),
        Kernel::Dot => (2, false, false),
        Kernel::MultiplyReduced => (1, false, true),
        Kernel::DotReduced => (2, false, true),
        Kernel::SquareReduced => (1, true, true),
    };
    let mut i = 0;
    while i < K {
        let mut j = 0;
        while j < K {
            if !square || i <= j {
                take_off(&mut columns, i + j, CENTRE.wrapping_mul(pairs));
                take_off(&mut columns, i + j + 1, SPLIT.wrapping_mul(pairs));
            }
            // The reduction, for digit i: Montgomery's first product brings one half only.
            let column = if K == 5 || i == K - 1 { K - 1 } else { i + 1 };
            let montgomery = i == K - 1;
            if !montgomery || j > 0 {
                take_off(&mut columns, column + j, CENTRE);
            }
            take_off(&mut columns, column + j + 1, SPLIT);
            j += 1;
        }
        // The quotient, if there is one, leaves out what enters the top column.
        if reduced && i + 1 < K {
            take_off(&mut columns, K + i, CENTRE);
            if i + 2 < K {
                take_off(&mut columns, K + i + 1, SPLIT);
            }
        }
        i += 1;
    }
    let mut vectors = [[[0; 4]; K]; 2];
    let mut column = 0;
    while column < 2 * K {
        let carries = !(reduced && column + 1 == 2 * K);
        let offset = if column + 1 < 2 * K {
            (1 << 62) + (1 << 51)
        } else if reduced {
            CENTRE + REDUCED
        } else {
            CENTRE
        };
        take_off(&mut columns, column, 0u64.wrapping_sub(offset));
        if column > 0 && carries {
            take_off(&mut columns, column, 1 << 10);
        }
        vectors[column / K][column % K] = [columns[column / K][column % K]; 4];
        column += 1;
    }
    vectors
}

const fn take_off<const K: usize>(columns: &mut [[u64; K]; 2], column: usize, amount: u64) {
    let place = &mut columns[column / K][column % K];
    *place = place.wrapping_sub(amount);
}

// Registers: rdi the result, rsi and rdx the factors, r8 and r9 the second pair of factors, rcx
// the table; ymm0 to ymm2 the constants of a product, ymm14 what passes.

/// Adds the product of a register and the j-th digit in memory to two columns.
#[rustfmt::skip]
macro_rules! product {
    ($x:literal, $base:literal, $j:literal, $low:literal, $high:literal) => {
        concat!(
            "vmovapd ymm14, ymm0\n",
            "vfmadd231pd ymm14, ", $x, ", [", $base, " + 32*", $j, "]\n",
            "vpaddq ", $high, ", ", $high, ", ymm14\n",
            "vfmsub231pd ymm14, ymm1, ymm2\n",
            "vfmadd231pd ymm14, ", $x, ", [", $base, " + 32*", $j, "]\n",
            "vpaddq ", $low, ", ", $low, ", ymm14\n",
        )
    };
}

/// The products of a register and some digits in memory; columns are one more than digits.
#[rustfmt::skip]
macro_rules! row {
    ($x:literal, $base:literal;; $high:literal) => { "" };
    ($x:literal, $base:literal; $j:literal $($js:literal)*; $low:literal $high:literal $($t:literal)*) => {
        concat!(
            product!($x, $base, $j, $low, $high),
            row!($x, $base; $($js)*; $high $($t)*),
        )
    };
}

/// A column becomes its digit, the next one gets the carry.
#[rustfmt::skip]
macro_rules! normalise {
    ($t:literal, $next:literal) => {
        concat!(
            "vpsrlq ymm14, ", $t, ", 52\n",
            "vpaddq ", $next, ", ", $next, ", ymm14\n",
            "vpand ", $t, ", ", $t, ", ", constant!(mask), "\n",
            "vpor ", $t, ", ", $t, ", ", constant!(unit), "\n",
            "vsubpd ", $t, ", ", $t, ", ", constant!(centre), "\n",
        )
    };
}

/// q in ymm13, the product of a digit d and -1/p mod 2^52, and the carry to the next column:
/// d + q p_0 is a multiple of 2^52, so it is exact.
#[rustfmt::skip]
macro_rules! montgomery {
    ($digit:literal, $next:literal) => {
        concat!(
            "vmovapd ymm14, ymm0\n",
            "vfmadd231pd ymm14, ", $digit, ", ", constant!(inverse), "\n",
            "vsubpd ymm13, ymm0, ymm14\n",
            "vfmadd231pd ymm13, ", $digit, ", ", constant!(inverse), "\n",
            "vfmadd231pd ", $digit, ", ymm13, [rcx + {p}]\n",
            "vaddpd ", $digit, ", ", $digit, ", ymm0\n",
            "vpaddq ", $next, ", ", $next, ", ", $digit, "\n",
        )
    };
}

/// Normalises columns, the last being the top, whose start has only the constant.
#[rustfmt::skip]
macro_rules! normalise_all {
    ($top:literal) => {
        concat!("vsubpd ", $top, ", ", $top, ", ", constant!(centre), "\n")
    };
    ($t:literal $next:literal $($rest:literal)*) => {
        concat!(normalise!($t, $next), normalise_all!($next $($rest)*))
    };
}

/// Digits out to memory.
#[rustfmt::skip]
macro_rules! store {
    (;) => { "" };
    ($j:literal $($js:literal)*; $t:literal $($ts:literal)*) => {
        concat!("vmovapd [rdi + 32*", $j, "], ", $t, "\n", store!($($js)*; $($ts)*))
    };
}

/// Integers from memory.
#[rustfmt::skip]
macro_rules! add {
    (;) => { "" };
    ($j:literal $($js:literal)*; $t:literal $($ts:literal)*) => {
        concat!(
            "vpaddq ", $t, ", ", $t, ", [rdi + 32*", $j, "]\n",
            add!($($js)*; $($ts)*),
        )
    };
}

/// The upper columns are the result.
#[rustfmt::skip]
macro_rules! finish {
    ($($j:literal)*, $last:literal; $($t:literal)*, $top:literal) => {
        concat!(
            normalise_all!($($t)* $top),
            store!($($j)* $last; $($t)* $top),
            "ret\n",
        )
    };
}

/// The same after adding the integers at the result's place and taking off the multiple of p next
/// to the sum, as its top column tells: the columns below change it by less than 2^6. The top
/// digit's product has one half only, for it is small.
#[rustfmt::skip]
macro_rules! finish_reduced {
    ($($j:literal)*, $last:literal; $($t:literal)*, $top:literal) => {
        concat!(
            add!($($j)* $last; $($t)* $top),
            "vsubpd ymm13, ", $top, ", ", constant!(sum), "\n",
            "vmulpd ymm13, ymm13, ", constant!(reciprocal), "\n",
            "vmovapd ymm14, ", constant!(quotient), "\n",
            "vaddpd ymm13, ymm13, ymm14\n",
            "vsubpd ymm13, ymm14, ymm13\n",
            "vfmadd231pd ymm14, ymm13, [rcx + {p} + 32*", $last, "]\n",
            "vpaddq ", $top, ", ", $top, ", ymm14\n",
            "vpaddq ", $top, ", ", $top, ", ", constant!(reduced), "\n",
            row!("ymm13", "rcx + {p}"; $($j)*; $($t)* $top),
            finish!($($j)*, $last; $($t)*, $top),
        )
    };
}

#[rustfmt::skip]
macro_rules! load {
    ($base:literal; ;) => { "" };
    ($base:literal; $j:literal $($js:literal)*; $t:literal $($ts:literal)*) => {
        concat!("vmovapd ", $t, ", [", $base, " + 32*", $j, "]\n", load!($base; $($js)*; $($ts)*))
    };
}

/// Row i of a product of five digits.
#[rustfmt::skip]
macro_rules! multiply_row {
    ($i:literal; $($t:literal)*) => {
        concat!(
            "vmovapd ymm13, [rsi + 32*", $i, "]\n",
            row!("ymm13", "rdx"; 0 1 2 3 4; $($t)*),
        )
    };
}

/// Row i of two products.
#[rustfmt::skip]
macro_rules! dot_row {
    ($i:literal; $($t:literal)*) => {
        concat!(
            multiply_row!($i; $($t)*),
            "vmovapd ymm13, [r8 + 32*", $i, "]\n",
            row!("ymm13", "r9"; 0 1 2 3 4; $($t)*),
        )
    };
}

/// Row i of a square: the square of digit i, and its double by the digits above.
#[rustfmt::skip]
macro_rules! square_row {
    (0; $a:literal $b:literal $($t:literal)*) => {
        square_row!(0; $a $b; 1 2 3 4; $b $($t)*)
    };
    (1; $a:literal $b:literal $c:literal $($t:literal)*) => {
        square_row!(1; $b $c; 2 3 4; $c $($t)*)
    };
    (2; $a:literal $b:literal $c:literal $d:literal $($t:literal)*) => {
        square_row!(2; $c $d; 3 4; $d $($t)*)
    };
    (3; $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal) => {
        square_row!(3; $d $e; 4; $e $f)
    };
    (4; $a:literal $b:literal $c:literal $d:literal $e:literal $f:literal) => {
        square_row!(4; $e $f;; $f)
    };
    ($i:literal; $low:literal $high:literal; $($j:literal)*; $($t:literal)*) => {
        concat!(
            "vmovapd ymm13, [rsi + 32*", $i, "]\n",
            product!("ymm13", "rsi", $i, $low, $high),
            "vaddpd ymm13, ymm13, ymm13\n",
            row!("ymm13", "rsi"; $($j)*; $($t)*),
        )
    };
}

/// A digit by its residue, but for the product that column 4 waits for.
macro_rules! fold {
    ($digit:literal, $base:literal) => {
        row!($digit, $base; 1 2 3 4; "ymm8" "ymm9" "ymm10" "ymm11" "ymm12")
    };
}

/// A kernel of five digits. Columns are ymm3 to ymm12, and a low one holds its digit until that
/// has been folded, a row later, while it is not waited for.
#[rustfmt::skip]
macro_rules! kernel_5 {
    ($(#[$doc:meta])* $name:ident($($second:ident)*), $start:literal, $rows:ident, $finish:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The processor has AVX2 and FMA.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            z: &mut Integers<5>,
            a: &[__m256d; 5],
            b: &[__m256d; 5],
            table: &Table<5>
            $(, $second: &[__m256d; 5])*
        ) {
            naked_asm!(
                concat!(
                    load!("rcx"; 0 1 2; "ymm0" "ymm1" "ymm2"),
                    load!($start; 0 1 2 3 4 5 6 7 8 9;
                        "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11" "ymm12"),
                    $rows!(0; "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8"),
                    normalise!("ymm3", "ymm4"),
                    $rows!(1; "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9"),
                    normalise!("ymm4", "ymm5"),
                    $rows!(2; "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10"),
                    normalise!("ymm5", "ymm6"),
                    $rows!(3; "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"),
                    normalise!("ymm6", "ymm7"),
                    $rows!(4; "ymm7" "ymm8" "ymm9" "ymm10" "ymm11" "ymm12"),
                    product!("ymm3", "rcx + {folds} + 160*0", 0, "ymm7", "ymm8"),
                    product!("ymm4", "rcx + {folds} + 160*1", 0, "ymm7", "ymm8"),
                    product!("ymm5", "rcx + {folds} + 160*2", 0, "ymm7", "ymm8"),
                    product!("ymm6", "rcx + {folds} + 160*3", 0, "ymm7", "ymm8"),
                    normalise!("ymm7", "ymm8"),
                    montgomery!("ymm7", "ymm8"),
                    fold!("ymm3", "rcx + {folds} + 160*0"),
                    fold!("ymm4", "rcx + {folds} + 160*1"),
                    fold!("ymm5", "rcx + {folds} + 160*2"),
                    fold!("ymm6", "rcx + {folds} + 160*3"),
                    row!("ymm13", "rcx + {p}"; 1 2 3 4;
                        "ymm8" "ymm9" "ymm10" "ymm11" "ymm12"),
                    $finish!(0 1 2 3, 4; "ymm8" "ymm9" "ymm10" "ymm11", "ymm12"),
                ),
                p = const offset_of!(Table<5>, p),
                folds = const offset_of!(Table<5>, folds),
                starts = const offset_of!(Table<5>, starts),
            )
        }
    };
}

kernel_5!(
    /// z = a b.
    multiply_5(), "rcx + {starts} + 320*0", multiply_row, finish
);
kernel_5!(
    /// z = a b + c d.
    dot_5(c d), "rcx + {starts} + 320*1", dot_row, finish
);
kernel_5!(
    /// z = z + a b, reduced; z comes as integers.
    multiply_reduced_5(), "rcx + {starts} + 320*2", multiply_row, finish_reduced
);
kernel_5!(
    /// z = z + a b + c d, reduced; z comes as integers.
    dot_reduced_5(c d), "rcx + {starts} + 320*3", dot_row, finish_reduced
);
kernel_5!(
    /// z = z + a^2, reduced; z comes as integers and b is not read.
    square_reduced_5(), "rcx + {starts} + 320*4", square_row, finish_reduced
);

/// The row of a product of eight digits.
#[rustfmt::skip]
macro_rules! multiply_round {
    () => {
        concat!(
            "vmovapd ymm13, [rsi]\n",
            row!("ymm13", "rdx"; 0 1 2 3 4 5 6 7;
                "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"),
            "add rsi, 32\n",
        )
    };
}

/// The row of two products.
#[rustfmt::skip]
macro_rules! dot_round {
    () => {
        concat!(
            multiply_round!(),
            "vmovapd ymm13, [r8]\n",
            row!("ymm13", "r9"; 0 1 2 3 4 5 6 7;
                "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"),
            "add r8, 32\n",
        )
    };
}

/// A kernel of eight digits. Columns i to i + 9 are ymm3 to ymm12 in round i; moving them by one
/// costs no execution, and the loop fits where decoded instructions are kept.
#[rustfmt::skip]
macro_rules! kernel_8 {
    ($(#[$doc:meta])* $name:ident($($second:ident)*), $start:literal, $round:ident, $finish:ident) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// The processor has AVX2 and FMA.
        #[unsafe(naked)]
        pub(super) unsafe extern "sysv64" fn $name(
            z: &mut Integers<8>,
            a: &[__m256d; 8],
            b: &[__m256d; 8],
            table: &Table<8>
            $(, $second: &[__m256d; 8])*
        ) {
            naked_asm!(
                concat!(
                    load!("rcx"; 0 1 2; "ymm0" "ymm1" "ymm2"),
                    "lea r10, [", $start, "]\n",
                    load!("r10"; 0 1 2 3 4 5 6 7 8 9;
                        "ymm3" "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11" "ymm12"),
                    "mov eax, 7\n",
                    ".p2align 5\n",
                    "2:\n",
                    $round!(),
                    normalise!("ymm3", "ymm4"),
                    row!("ymm3", "rcx + {folds} + 256*3"; 0 1 2 3 4 5 6 7;
                        "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11" "ymm12"),
                    "vmovapd ymm3, ymm4\n",
                    "vmovapd ymm4, ymm5\n",
                    "vmovapd ymm5, ymm6\n",
                    "vmovapd ymm6, ymm7\n",
                    "vmovapd ymm7, ymm8\n",
                    "vmovapd ymm8, ymm9\n",
                    "vmovapd ymm9, ymm10\n",
                    "vmovapd ymm10, ymm11\n",
                    "vmovapd ymm11, ymm12\n",
                    "vmovapd ymm12, [r10 + 32*10]\n",
                    "add r10, 32\n",
                    "dec eax\n",
                    "jnz 2b\n",
                    $round!(),
                    normalise!("ymm3", "ymm4"),
                    montgomery!("ymm3", "ymm4"),
                    row!("ymm13", "rcx + {p}"; 1 2 3 4 5 6 7;
                        "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10" "ymm11"),
                    $finish!(0 1 2 3 4 5 6, 7;
                        "ymm4" "ymm5" "ymm6" "ymm7" "ymm8" "ymm9" "ymm10", "ymm11"),
                ),
                p = const offset_of!(Table<8>, p),
                folds = const offset_of!(Table<8>, folds),
                starts = const offset_of!(Table<8>, starts),
            )
        }
    };
}

kernel_8!(
    /// z = a b.
    multiply_8(), "rcx + {starts} + 512*0", multiply_round, finish
);
kernel_8!(
    /// z = a b + c d.
    dot_8(c d), "rcx + {starts} + 512*1", dot_round, finish
);
kernel_8!(
    /// z = z + a b, reduced; z comes as integers.
    multiply_reduced_8(), "rcx + {starts} + 512*2", multiply_round, finish_reduced
);
kernel_8!(
    /// z = z + a b + c d, reduced; z comes as integers.
    dot_reduced_8(c d), "rcx + {starts} + 512*3", dot_round, finish_reduced
);

#[cfg(test)]
mod tests {
    use super::super::Floating;
    use super::*;
    use crate::field::{ModulusFqBls12_381, ModulusFqBn254, ModulusFrBls12_381, ModulusFrBn254};

    /// What the kernels compute, an integer at a time, with the bounds of the header asserted.
    struct Model<'a, const K: usize> {
        table: &'a Table<K>,
        columns: Vec<i128>,
    }

    impl<const K: usize> Model<'_, K> {
        fn product(&mut self, a: i64, b: i64, column: usize) -> i64 {
            let product = i128::from(a) * i128::from(b);
            assert!(product.abs() <= 1 << 103);
            // To the nearest, and if there are two to the even one.
            let sum = product + (1 << 51);
            let mut high = sum >> 52;
            if sum & i128::from(MASK) == 0 {
                high &= !1;
            }
            let low = product - (high << 52);
            self.columns[column] += low;
            self.columns[column + 1] += high;
            low as i64
        }

        fn normalise(&mut self, column: usize) -> i64 {
            let x = self.columns[column];
            assert!(x.abs() < 1 << 58);
            let digit = ((x + (1 << 51)) & i128::from(MASK)) - (1 << 51);
            self.columns[column] = 0;
            self.columns[column + 1] += (x - digit) >> 52;
            digit as i64
        }

        fn row(&mut self, x: i64, digits: &[V; K], column: usize) {
            for (j, digit) in digits.iter().enumerate() {
                self.product(x, f64::from_bits(digit[0]) as i64, column + j);
            }
        }

        fn montgomery(&mut self, column: usize) {
            let digit = self.normalise(column);
            let inverse = f64::from_bits(self.table.constants[6][0]) as i64;
            let unused = self.columns.len() - 2;
            let q = self.product(digit, inverse, unused);
            self.columns[column] = i128::from(digit);
            self.row(q, &self.table.p, column);
            assert_eq!(self.normalise(column), 0);
        }

        fn run(table: &Table<K>, factors: &[[[i64; K]; 2]], added: Option<&[i64; K]>) -> [i64; K] {
            let mut model = Model {
                table,
                columns: vec![0; 2 * K + 3],
            };
            for i in 0..K {
                for [a, b] in factors {
                    for (j, &b) in b.iter().enumerate() {
                        model.product(a[i], b, i + j);
                    }
                }
                if i == K - 1 {
                    model.montgomery(i);
                } else {
                    let digit = model.normalise(i);
                    let (k, column) = if K == 5 { (i, 4) } else { (3, i + 1) };
                    model.row(digit, &table.folds[k], column);
                }
            }
            if let Some(added) = added {
                for (column, &x) in model.columns[K..].iter_mut().zip(added) {
                    *column += i128::from(x);
                }
                let top = model.columns[2 * K - 1];
                assert!(top + i128::from(REDUCED) >= -(1 << 51));
                assert!(top + i128::from(REDUCED) < 1 << 51);
                let quotient = top as f64 * f64::from_bits(table.constants[7][0]);
                let quotient = -quotient.round_ties_even() as i64;
                for (j, digit) in table.p[..K - 1].iter().enumerate() {
                    model.product(quotient, f64::from_bits(digit[0]) as i64, K + j);
                }
                let product = quotient * f64::from_bits(table.p[K - 1][0]) as i64;
                assert!(product - REDUCED as i64 >= -(1 << 51));
                assert!(product - (REDUCED as i64) < 1 << 51);
                model.columns[2 * K - 1] += i128::from(product);
            }
            let mut digits: [i64; K] =
                std::array::from_fn(|i| if i + 1 < K { model.normalise(K + i) } else { 0 });
            let top = model.columns[2 * K - 1];
            assert!(top.abs() < 1 << 51);
            assert_eq!(model.columns[2 * K], 0);
            digits[K - 1] = top as i64;
            digits
        }
    }

    /// A value in multiples of p, nearly.
    fn size<const K: usize>(table: &Table<K>, digits: &[i64; K]) -> f64 {
        let scaled = digits
            .iter()
            .fold(0.0, |sum, &digit| sum / (1u64 << 52) as f64 + digit as f64);
        scaled * f64::from_bits(table.constants[7][0])
    }

    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            // Splitmix, by Steele, Lea and Flood.
            self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
            let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58476d1ce4e5b9);
            let x = (x ^ x >> 27).wrapping_mul(0x94d049bb133111eb);
            x ^ x >> 31
        }

        /// An integer up to a bound in magnitude, often at an end.
        fn digit(&mut self, bound: i64) -> i64 {
            match self.next() % 8 {
                0 | 1 => bound,
                2 | 3 => -bound,
                4 => 0,
                5 => 1 - bound,
                _ => (self.next() % (2 * bound as u64 + 1)) as i64 - bound,
            }
        }

        /// A value of at most `size` p, its digits below the top one up to a bound.
        fn digits<const K: usize>(&mut self, table: &Table<K>, bound: i64, size: f64) -> [i64; K] {
            let mut digits = std::array::from_fn(|_| self.digit(bound));
            let top = size / f64::from_bits(table.constants[7][0]);
            digits[K - 1] = self.digit(top as i64 - 2);
            digits
        }
    }

    /// Whether a kernel has two products, a square, a reduction.
    #[derive(Clone, Copy, Debug)]
    struct Shape {
        two: bool,
        square: bool,
        reduced: bool,
    }

    /// A kernel of either kind: result, factors, table.
    type Any<'a, const K: usize> = &'a dyn Fn(&mut Integers<K>, [&[__m256d; K]; 4], &Table<K>);

    /// The kernels against the model, at the ends of the ranges that the engine uses.
    fn agrees<M: Modulus<N>, const N: usize, const K: usize>(shape: Shape, kernel: Any<K>) {
        let table = Table::<K>::new::<M, N>();
        let mut random = Random(1);
        let file = (1u64 << (52 * K - 64 * N)) as f64;
        for _ in 0..500 {
            let mut factors = [[[0; K]; 4]; 4];
            let mut added = [[0; K]; 4];
            let mut expected = [[0; K]; 4];
            for lane in 0..4 {
                let [a, b, c, d] = &mut factors[lane];
                for (difference, product) in [(a, b), (c, d)] {
                    *difference = random.digits(&table, 1 << 52, file + 1.0);
                    *product = random.digits(&table, 1 << 51, 3.0);
                    if shape.square {
                        *difference = *product;
                    }
                }
                added[lane] = random.digits(&table, 1 << 53, file + 2.0);
                let top = &mut added[lane][K - 1];
                *top = (*top).min((2.0 / f64::from_bits(table.constants[7][0])) as i64);
                let [a, b, c, d] = factors[lane];
                let pairs = [[a, b], [c, d]];
                let pairs = if shape.two { &pairs[..] } else { &pairs[..1] };
                expected[lane] = Model::run(&table, pairs, shape.reduced.then_some(&added[lane]));
                let bound = if shape.reduced { 0.51 } else { 3.0 };
                // The quadratic extension of BLS12-381's scalars is of no use to anyone.
                if !shape.two || M::MODULUS[N - 1] >> 62 == 0 {
                    assert!(size(&table, &expected[lane]).abs() <= bound);
                }
            }
            if Floating::detect().is_none() {
                continue;
            }
            let vector = |x: [V; K]| -> Integers<K> {
                x.map(|x| {
                    // SAFETY: as many bytes, and every pattern is a value.
                    unsafe { std::mem::transmute::<V, __m256d>(x) }
                })
            };
            let doubles: [[__m256d; K]; 4] = std::array::from_fn(|which| {
                vector(std::array::from_fn(|i| {
                    std::array::from_fn(|lane| (factors[lane][which][i] as f64).to_bits())
                }))
            });
            let mut z = vector(std::array::from_fn(|i| {
                std::array::from_fn(|lane| added[lane][i] as u64)
            }));
            kernel(&mut z, doubles.each_ref(), &table);
            for i in 0..K {
                // SAFETY: as above.
                let got = unsafe { std::mem::transmute::<__m256d, V>(z[i]) };
                for lane in 0..4 {
                    let (got, expected) = (f64::from_bits(got[lane]), expected[lane][i] as f64);
                    assert_eq!(got, expected, "digit {i} of lane {lane}, {shape:?}");
                }
            }
        }
    }

    fn all_agree<M: Modulus<N>, const N: usize, const K: usize>(
        product: [Product<K>; 3],
        products: [Products<K>; 2],
    ) {
        for (i, kernel) in product.into_iter().enumerate() {
            let shape = Shape {
                two: false,
                square: i == 2,
                reduced: i > 0,
            };
            agrees::<M, N, K>(shape, &|z, [a, b, _, _], table| {
                // SAFETY: called only where the engine was detected.
                unsafe { kernel(z, a, b, table) }
            });
        }
        for (i, kernel) in products.into_iter().enumerate() {
            let shape = Shape {
                two: true,
                square: false,
                reduced: i > 0,
            };
            agrees::<M, N, K>(shape, &|z, [a, b, c, d], table| {
                // SAFETY: called only where the engine was detected.
                unsafe { kernel(z, a, b, table, c, d) }
            });
        }
    }

    #[test]
    fn kernels_agree_with_the_model_at_the_ends_of_ranges() {
        fn five<M: Modulus<4>>() {
            all_agree::<M, 4, 5>(
                [multiply_5, multiply_reduced_5, square_reduced_5],
                [dot_5, dot_reduced_5],
            );
        }
        five::<ModulusFqBn254>();
        five::<ModulusFrBn254>();
        five::<ModulusFrBls12_381>();
        all_agree::<ModulusFqBls12_381, 6, 8>(
            [multiply_8, multiply_reduced_8, multiply_reduced_8],
            [dot_8, dot_reduced_8],
        );
    }
}
