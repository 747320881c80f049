//! Montgomery multiplication for x86-64 processors with BMI2 and ADX, in assembly that is inlined
//! where it is used.
//!
//! What a compiler makes of [`super::montgomery`] is bound by two things that these blocks avoid:
//! `mul` writes two fixed registers and the flags, and the carries of a row are saved and restored
//! one by one. `mulx` leaves the flags alone, so the carry chain of a row runs through between its
//! products.
//!
//! On Intel's cores since Broadwell an addition that takes a carry runs on two ports only, a plain
//! one on all: there, and not in the multiplier, lay the bound of the usual rows of `adcx` and
//! `adox`. So rows come in two forms, and a block takes the first wherever its registers suffice:
//!
//! - *in turn*: first all low halves are added, then all high halves, each by a chain that starts
//!   with a plain `add`; 7 additions with carry in a row of four words, and three high halves held
//!   meanwhile;
//! - *at once*: low halves through the overflow flag (`adox`) and high halves through the carry
//!   flag (`adcx`), as Intel's "New Instructions Supporting Large Integer Arithmetic" has it;
//!   9 additions with carry, and one high half held.
//!
//! The order of rows is that of [`super::montgomery::multiply`], with its conditions and its
//! results. The words of the first operand come in registers, are saved below the stack pointer
//! and their registers reused: operands that were just computed need no way through memory of the
//! compiler's own, whose wide copies of words just stored would stall. At most 13 of the 14
//! registers that the compiler can hand out are asked for, since it may need one for itself.

#![allow(unsafe_code)]

use std::arch::asm;
use std::array::from_fn;

use super::montgomery::Constants;

/// A word of an operand in memory.
macro_rules! word {
    ($base:literal, $i:literal) => {
        concat!("qword ptr [", $base, " + 8*", $i, "]")
    };
}

/// $t += rdx * $base in turn, four words; the fifth comes in $top, a free register before.
macro_rules! row_4_in_turn {
    ($base:literal, [$t0:literal $t1:literal $t2:literal $t3:literal] $top:literal, [$h0:literal $h1:literal $h2:literal]) => {
        concat!(
            "mulx {",
            $h0,
            "}, {lo}, ",
            word!($base, "0"),
            "\n add {",
            $t0,
            "}, {lo}\n",
            "mulx {",
            $h1,
            "}, {lo}, ",
            word!($base, "1"),
            "\n adc {",
            $t1,
            "}, {lo}\n",
            "mulx {",
            $h2,
            "}, {lo}, ",
            word!($base, "2"),
            "\n adc {",
            $t2,
            "}, {lo}\n",
            "mulx {",
            $top,
            "}, {lo}, ",
            word!($base, "3"),
            "\n adc {",
            $t3,
            "}, {lo}\n",
            "adc {",
            $top,
            "}, 0\n",
            "add {",
            $t1,
            "}, {",
            $h0,
            "}\n",
            "adc {",
            $t2,
            "}, {",
            $h1,
            "}\n",
            "adc {",
            $t3,
            "}, {",
            $h2,
            "}\n",
            "adc {",
            $top,
            "}, 0\n",
        )
    };
}

/// Adds the multiple of the modulus that clears $t0, in turn; $t0 is free afterwards.
macro_rules! clear_4_in_turn {
    ([$t0:literal $t1:literal $t2:literal $t3:literal $t4:literal], [$h0:literal $h1:literal $h2:literal]) => {
        concat!(
            "mov rdx, {",
            $t0,
            "}\n imul rdx, ",
            word!("{m}", "4"),
            "\n",
            "mulx {",
            $h0,
            "}, {lo}, ",
            word!("{m}", "0"),
            "\n add {",
            $t0,
            "}, {lo}\n",
            "mulx {",
            $h1,
            "}, {lo}, ",
            word!("{m}", "1"),
            "\n adc {",
            $t1,
            "}, {lo}\n",
            "mulx {",
            $h2,
            "}, {lo}, ",
            word!("{m}", "2"),
            "\n adc {",
            $t2,
            "}, {lo}\n",
            "mulx {",
            $t0,
            "}, {lo}, ",
            word!("{m}", "3"),
            "\n adc {",
            $t3,
            "}, {lo}\n",
            "adc {",
            $t4,
            "}, 0\n",
            "add {",
            $t1,
            "}, {",
            $h0,
            "}\n",
            "adc {",
            $t2,
            "}, {",
            $h1,
            "}\n",
            "adc {",
            $t3,
            "}, {",
            $h2,
            "}\n",
            "adc {",
            $t4,
            "}, {",
            $t0,
            "}\n",
        )
    };
}

/// One product at once: its low half onto $t through one flag, its high half onto the word above
/// through the other.
macro_rules! at_once {
    ($word:expr, $t:literal, $above:literal, $h:literal) => {
        concat!(
            "mulx {",
            $h,
            "}, {lo}, ",
            $word,
            "\n",
            "adox {",
            $t,
            "}, {lo}\n adcx {",
            $above,
            "}, {",
            $h,
            "}\n",
        )
    };
}

/// $t += rdx * $base at once, words as many as $i counts; one more comes in $top, a free register
/// before.
macro_rules! row_at_once {
    ($base:literal, $($i:literal $t:literal $above:literal),+; $top:literal, $h:literal) => {
        concat!(
            "xor {", $top, ":e}, {", $top, ":e}\n",
            $(at_once!(word!($base, $i), $t, $above, $h),)+
            "mov {lo:e}, 0\n adox {", $top, "}, {lo}\n",
        )
    };
}

/// Adds the multiple of the modulus that clears $t0, at once; $t0 is free afterwards. Its last
/// carry is added to $top together with $t0, which is zero by then.
macro_rules! clear_at_once {
    ($inverse:literal, $t0:literal, $($i:literal $t:literal $above:literal),+; $top:literal, $h:literal) => {
        concat!(
            "mov rdx, {", $t0, "}\n imul rdx, ", word!("{m}", $inverse), "\n",
            "xor {lo:e}, {lo:e}\n",
            $(at_once!(word!("{m}", $i), $t, $above, $h),)+
            "adox {", $top, "}, {", $t0, "}\n",
        )
    };
}

/// Takes the modulus off unless that borrows.
macro_rules! reduce_once {
    ($($op:literal $i:literal $t:literal $s:literal),+) => {
        concat!(
            $("mov ", $s, ", {", $t, "}\n ", $op, " ", $s, ", ", word!("{m}", $i), "\n",)+
            $("cmovnc {", $t, "}, ", $s, "\n",)+
        )
    };
}

/// [`super::montgomery::multiply`].
///
/// # Safety
/// The processor must have BMI2 and ADX.
#[inline(always)]
pub(super) unsafe fn multiply<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    constants: &Constants<N>,
) -> [u64; N] {
    // SAFETY: the caller's promise is that of both functions.
    unsafe {
        match N {
            4 => multiply_4(a, b, constants),
            6 => multiply_6(a, b, constants),
            _ => unreachable!("fields have four or six words"),
        }
    }
}

/// [`super::montgomery::square`].
///
/// # Safety
/// The processor must have BMI2 and ADX.
#[inline(always)]
pub(super) unsafe fn square<const N: usize>(a: &[u64; N], constants: &Constants<N>) -> [u64; N] {
    // SAFETY: the caller's promise is that of the function.
    unsafe { multiply(a, a, constants) }
}

/// # Safety
/// The processor must have BMI2 and ADX; N is 4.
#[inline(always)]
unsafe fn multiply_4<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    constants: &Constants<N>,
) -> [u64; N] {
    let (r0, r1, r2, r3);
    // SAFETY: the caller vouches for the instructions. Memory is read at `constants` only, whose
    // five words #[repr(C)] puts in order, and written only below the stack pointer, which an
    // assembly block may do where it does not promise `nostack`.
    unsafe {
        asm!(
            concat!(
                "mov ", word!("rsp - 32", "0"), ", {a0}\n",
                "mov ", word!("rsp - 32", "1"), ", {a1}\n",
                "mov ", word!("rsp - 32", "2"), ", {a2}\n",
                "mov ", word!("rsp - 32", "3"), ", {a3}\n",
                "mulx {t1}, {t0}, {a0}\n",
                "mulx {a0}, {lo}, {a1}\n add {t1}, {lo}\n",
                "mulx {a1}, {lo}, {a2}\n adc {a0}, {lo}\n",
                "mulx {a2}, {lo}, {a3}\n adc {a1}, {lo}\n",
                "adc {a2}, 0\n",
                clear_at_once!("4", "t0", "0" "t0" "t1", "1" "t1" "a0", "2" "a0" "a1", "3" "a1" "a2"; "a2", "a3"),
                "mov rdx, {b1}\n",
                row_at_once!("rsp - 32", "0" "t1" "a0", "1" "a0" "a1", "2" "a1" "a2", "3" "a2" "a3"; "a3", "t0"),
                clear_at_once!("4", "t1", "0" "t1" "a0", "1" "a0" "a1", "2" "a1" "a2", "3" "a2" "a3"; "a3", "t0"),
                "mov rdx, {b2}\n",
                row_4_in_turn!("rsp - 32", ["a0" "a1" "a2" "a3"] "t0", ["t1" "b1" "b2"]),
                clear_4_in_turn!(["a0" "a1" "a2" "a3" "t0"], ["t1" "b1" "b2"]),
                "mov rdx, {b3}\n",
                row_4_in_turn!("rsp - 32", ["a1" "a2" "a3" "t0"] "a0", ["t1" "b1" "b2"]),
                clear_4_in_turn!(["a1" "a2" "a3" "t0" "a0"], ["t1" "b1" "b2"]),
                reduce_once!("sub" "0" "a2" "{t1}", "sbb" "1" "a3" "{b1}", "sbb" "2" "t0" "{b2}", "sbb" "3" "a0" "rdx"),
            ),
            a0 = inout(reg) a[0] => r3,
            a1 = inout(reg) a[1] => _,
            a2 = inout(reg) a[2] => r0,
            a3 = inout(reg) a[3] => r1,
            inout("rdx") b[0] => _,
            b1 = inout(reg) b[1] => _,
            b2 = inout(reg) b[2] => _,
            b3 = in(reg) b[3],
            m = in(reg) constants,
            t0 = out(reg) r2,
            t1 = out(reg) _,
            lo = out(reg) _,
            options(pure, readonly),
        );
    }
    let r = [r0, r1, r2, r3];
    from_fn(|i| r[i])
}

/// Six words leave no registers for the high halves of a row: all rows are at once.
///
/// # Safety
/// The processor must have BMI2 and ADX; N is 6.
#[inline(always)]
unsafe fn multiply_6<const N: usize>(
    a: &[u64; N],
    b: &[u64; N],
    constants: &Constants<N>,
) -> [u64; N] {
    macro_rules! round {
        ($i:literal, [$t0:literal $t1:literal $t2:literal $t3:literal $t4:literal $t5:literal], [$top:literal $h:literal]) => {
            concat!(
                "mov rdx, ", word!("{b}", $i), "\n",
                row_at_once!("rsp - 48", "0" $t0 $t1, "1" $t1 $t2, "2" $t2 $t3, "3" $t3 $t4, "4" $t4 $t5, "5" $t5 $top; $top, $h),
                clear_at_once!("6", $t0, "0" $t0 $t1, "1" $t1 $t2, "2" $t2 $t3, "3" $t3 $t4, "4" $t4 $t5, "5" $t5 $top; $top, $h),
            )
        };
    }
    let (r0, r1, r2, r3, r4, r5);
    // SAFETY: as in `multiply_4`; `b` is read as well, six words.
    unsafe {
        asm!(
            concat!(
                "mov rdx, ", word!("{b}", "0"), "\n",
                "mov ", word!("rsp - 48", "0"), ", {a0}\n",
                "mov ", word!("rsp - 48", "1"), ", {a1}\n",
                "mov ", word!("rsp - 48", "2"), ", {a2}\n",
                "mov ", word!("rsp - 48", "3"), ", {a3}\n",
                "mov ", word!("rsp - 48", "4"), ", {a4}\n",
                "mov ", word!("rsp - 48", "5"), ", {a5}\n",
                "mulx {t1}, {t0}, {a0}\n",
                "mulx {a0}, {lo}, {a1}\n add {t1}, {lo}\n",
                "mulx {a1}, {lo}, {a2}\n adc {a0}, {lo}\n",
                "mulx {a2}, {lo}, {a3}\n adc {a1}, {lo}\n",
                "mulx {a3}, {lo}, {a4}\n adc {a2}, {lo}\n",
                "mulx {a4}, {lo}, {a5}\n adc {a3}, {lo}\n",
                "adc {a4}, 0\n",
                clear_at_once!("6", "t0", "0" "t0" "t1", "1" "t1" "a0", "2" "a0" "a1", "3" "a1" "a2", "4" "a2" "a3", "5" "a3" "a4"; "a4", "a5"),
                round!("1", ["t1" "a0" "a1" "a2" "a3" "a4"], ["a5" "t0"]),
                round!("2", ["a0" "a1" "a2" "a3" "a4" "a5"], ["t1" "t0"]),
                round!("3", ["a1" "a2" "a3" "a4" "a5" "t1"], ["a0" "t0"]),
                round!("4", ["a2" "a3" "a4" "a5" "t1" "a0"], ["a1" "t0"]),
                round!("5", ["a3" "a4" "a5" "t1" "a0" "a1"], ["a2" "t0"]),
                reduce_once!("sub" "0" "a4" "{t0}", "sbb" "1" "a5" "{a3}", "sbb" "2" "t1" "{lo}", "sbb" "3" "a0" "{b}", "sbb" "4" "a1" "rdx", "sbb" "5" "a2" "{s}"),
            ),
            a0 = inout(reg) a[0] => r3,
            a1 = inout(reg) a[1] => r4,
            a2 = inout(reg) a[2] => r5,
            a3 = inout(reg) a[3] => _,
            a4 = inout(reg) a[4] => r0,
            a5 = inout(reg) a[5] => r1,
            b = inout(reg) b => _,
            m = in(reg) constants,
            t0 = out(reg) _,
            t1 = out(reg) r2,
            lo = out(reg) _,
            s = out(reg) _,
            out("rdx") _,
            options(pure, readonly),
        );
    }
    let r = [r0, r1, r2, r3, r4, r5];
    from_fn(|i| r[i])
}
