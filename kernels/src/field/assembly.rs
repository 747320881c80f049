//! Montgomery multiplication for x86-64 processors with BMI2 and ADX, in assembly that is inlined
//! where it is used.
//!
//! For any x86-64 the compiler has only `mul`, which writes two fixed registers and the flags:
//! they break the carry chain of a row between its products. `mulx` leaves the flags alone, so the
//! chain runs through.
//!
//! On Intel's cores since Broadwell an addition that takes a carry runs on two ports only, a plain
//! one on four or more (Agner Fog, "Instruction tables"). Counted by that, a product of four words
//! with the usual rows of `adcx` and `adox` takes 40 cycles of those ports and 36 of the
//! multiplier. So rows come in two forms, and a block takes the first wherever its registers
//! suffice. With the first alone a product took 11.7 ns, with the second alone 13.5 (one core of a
//! Xeon at 3.4 GHz, operands in memory):
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
use std::sync::atomic::{AtomicU8, Ordering};
#[cfg(feature = "conformance")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::montgomery::Constants;
use super::path::Arithmetic;

/// The arithmetic of this file. Whoever holds one knows that the processor has BMI2 and ADX:
/// that is what makes the blocks below safe.
#[derive(Clone, Copy)]
pub(super) struct Assembly(());

/// What is known of the processor. ABLE is stored only after it was asked.
static PROCESSOR: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const UNABLE: u8 = 1;
const ABLE: u8 = 2;

impl Assembly {
    /// Whether the build may assume the instructions, so that nothing need be tested.
    pub(super) const CERTAIN: bool = cfg!(all(target_feature = "bmi2", target_feature = "adx"));

    /// The assembly, if the processor is already known to be able.
    #[inline(always)]
    pub(super) fn known() -> Option<Self> {
        // Relaxed: the byte stands for a fact about the processor and guards no other memory.
        (Self::CERTAIN || PROCESSOR.load(Ordering::Relaxed) == ABLE).then_some(Self(()))
    }

    /// The assembly, if the processor is able; asks it if nobody has.
    pub(super) fn settle() -> Option<Self> {
        if PROCESSOR.load(Ordering::Relaxed) == UNKNOWN {
            let answer = if Self::is_possible() { ABLE } else { UNABLE };
            PROCESSOR.store(answer, Ordering::Relaxed);
        }
        Self::known()
    }

    /// Asks the processor.
    pub(super) fn is_possible() -> bool {
        is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx")
    }
}

/// Holds the answer where a test forced it to; lets go when dropped.
#[cfg(feature = "conformance")]
pub(super) struct Forced(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

#[cfg(feature = "conformance")]
impl Forced {
    pub(super) fn new(assembly: bool) -> Self {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        assert!(!assembly || Assembly::is_possible());
        // A test that panicked leaves nothing half done here.
        let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        PROCESSOR.store(if assembly { ABLE } else { UNABLE }, Ordering::Relaxed);
        Self(guard)
    }
}

#[cfg(feature = "conformance")]
impl Drop for Forced {
    fn drop(&mut self) {
        PROCESSOR.store(UNKNOWN, Ordering::Relaxed);
    }
}

impl<const N: usize> Arithmetic<N> for Assembly {
    #[inline(always)]
    fn multiply(self, a: &[u64; N], b: &[u64; N], constants: &Constants<N>) -> [u64; N] {
        match N {
            4 => self.multiply_4(a, b, constants),
            6 => self.multiply_6(a, b, constants),
            _ => unreachable!("fields have four or six words"),
        }
    }

    #[inline(always)]
    fn square(self, a: &[u64; N], constants: &Constants<N>) -> [u64; N] {
        match N {
            4 => self.square_4(a, constants),
            6 => {
                let (low, high) = self.wide_square_6(a);
                self.reduce_wide_6(low, high, constants)
            }
            _ => unreachable!("fields have four or six words"),
        }
    }

    #[inline(always)]
    fn wide_product(self, a: &[u64; N], b: &[u64; N]) -> ([u64; N], [u64; N]) {
        match N {
            4 => self.wide_product_4(a, b),
            6 => self.wide_product_6(a, b),
            _ => unreachable!("fields have four or six words"),
        }
    }

    #[inline(always)]
    fn reduce_wide(self, low: [u64; N], high: [u64; N], constants: &Constants<N>) -> [u64; N] {
        match N {
            4 => self.reduce_wide_4(low, high, constants),
            6 => self.reduce_wide_6(low, high, constants),
            _ => unreachable!("fields have four or six words"),
        }
    }
}

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

/// Saves registers in memory.
macro_rules! save {
    ($base:literal, $($i:literal $t:literal),+) => {
        concat!($("mov ", word!($base, $i), ", {", $t, "}\n",)+)
    };
}

/// ($t + R $h) / R mod the modulus, left in $t: the multiples of the modulus that clear $t word by
/// word, in turn, each leaving its highest word in the register of the word that it cleared; then
/// $h is added, which waits in memory.
macro_rules! reduce_4 {
    ([$t0:literal $t1:literal $t2:literal $t3:literal], [$h0:literal $h1:literal $h2:literal $h3:literal]) => {
        concat!(
            save!("rsp - 32", "0" $h0, "1" $h1, "2" $h2, "3" $h3),
            "mov rdx, {", $t0, "}\n imul rdx, ", word!("{m}", "4"), "\n",
            row_4_in_turn!("{m}", [$t0 $t1 $t2 $t3] $t0, [$h0 $h1 $h2]),
            "mov rdx, {", $t1, "}\n imul rdx, ", word!("{m}", "4"), "\n",
            row_4_in_turn!("{m}", [$t1 $t2 $t3 $t0] $t1, [$h0 $h1 $h2]),
            "mov rdx, {", $t2, "}\n imul rdx, ", word!("{m}", "4"), "\n",
            row_4_in_turn!("{m}", [$t2 $t3 $t0 $t1] $t2, [$h0 $h1 $h2]),
            "mov rdx, {", $t3, "}\n imul rdx, ", word!("{m}", "4"), "\n",
            row_4_in_turn!("{m}", [$t3 $t0 $t1 $t2] $t3, [$h0 $h1 $h2]),
            "add {", $t0, "}, ", word!("rsp - 32", "0"), "\n",
            "adc {", $t1, "}, ", word!("rsp - 32", "1"), "\n",
            "adc {", $t2, "}, ", word!("rsp - 32", "2"), "\n",
            "adc {", $t3, "}, ", word!("rsp - 32", "3"), "\n",
            reduce_once!("sub" "0" $t0 concat!("{", $h0, "}"), "sbb" "1" $t1 concat!("{", $h1, "}"), "sbb" "2" $t2 "{lo}", "sbb" "3" $t3 concat!("{", $h2, "}")),
        )
    };
}

/// Takes the modulus off unless that borrows.
macro_rules! reduce_once {
    ($($op:literal $i:literal $t:literal $s:expr),+) => {
        concat!(
            $("mov ", $s, ", {", $t, "}\n ", $op, " ", $s, ", ", word!("{m}", $i), "\n",)+
            $("cmovnc {", $t, "}, ", $s, "\n",)+
        )
    };
}

/// Each function is for the number of words in its name.
impl Assembly {
    #[inline(always)]
    fn multiply_4<const N: usize>(
        self,
        a: &[u64; N],
        b: &[u64; N],
        constants: &Constants<N>,
    ) -> [u64; N] {
        let (r0, r1, r2, r3);
        // SAFETY: `self` vouches for the instructions. Memory is read at `constants` only, whose
        // five words #[repr(C)] puts in order, and written only below the stack pointer, which an
        // assembly block may do where it does not promise `nostack`.
        unsafe {
            asm!(
                concat!(
                    save!("rsp - 32", "0" "a0", "1" "a1", "2" "a2", "3" "a3"),
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
                    reduce_once!("sub" "0" "a2" "{t1}", "sbb" "1" "a3" "{b1}", "sbb" "2" "t0" "{b2}", "sbb" "3" "a0" "{lo}"),
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
    #[inline(always)]
    fn multiply_6<const N: usize>(
        self,
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
                    save!("rsp - 48", "0" "a0", "1" "a1", "2" "a2", "3" "a3", "4" "a4", "5" "a5"),
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
                    reduce_once!("sub" "0" "a4" "{t0}", "sbb" "1" "a5" "{a3}", "sbb" "2" "t1" "{lo}", "sbb" "3" "a0" "{b}", "sbb" "4" "a1" "{s}", "sbb" "5" "a2" "rdx"),
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

    #[inline(always)]
    fn square_4<const N: usize>(self, a: &[u64; N], constants: &Constants<N>) -> [u64; N] {
        let (r0, r1, r2, r3);
        // SAFETY: as in `multiply_4`.
        unsafe {
            asm!(
                concat!(
                    // Each mixed product counts twice, so the factors to the right of a_i are
                    // those of 2 a, less the bit that came from a_i itself: s1 = 2 a_1, and
                    // d2, d3 the words of 2 a with the bit from below. There is room for them,
                    // since 2 a is below R.
                    "lea {s1}, [{a1} + {a1}]\n",
                    "mov {d2}, {a1}\n shr {d2}, 63\n lea {d2}, [{d2} + 2*{a2}]\n",
                    "mov {d3}, {a2}\n shr {d3}, 63\n lea {d3}, [{d3} + 2*{a3}]\n",
                    "mulx {t1}, {t0}, rdx\n",
                    "mulx {t2}, {lo}, {s1}\n add {t1}, {lo}\n",
                    "mulx {s1}, {lo}, {d2}\n adc {t2}, {lo}\n",
                    "mulx {d2}, {lo}, {d3}\n adc {s1}, {lo}\n",
                    "adc {d2}, 0\n",
                    // t0 t1 t2 s1 d2 is the sum so far. From word 2: a_1 (a_1, 2 a_2, d3).
                    "mov rdx, {a1}\n lea {a1}, [{a2} + {a2}]\n",
                    "mulx {h}, {lo}, rdx\n add {t2}, {lo}\n",
                    "mulx {a1}, {lo}, {a1}\n adc {s1}, {lo}\n",
                    "mulx {d3}, {lo}, {d3}\n adc {d2}, {lo}\n",
                    "adc {d3}, 0\n",
                    "add {s1}, {h}\n adc {d2}, {a1}\n adc {d3}, 0\n",
                    // From word 4: a_2 (a_2, 2 a_3).
                    "mov rdx, {a2}\n lea {a1}, [{a3} + {a3}]\n",
                    "mulx {h}, {lo}, rdx\n add {d2}, {lo}\n",
                    "mulx {a2}, {lo}, {a1}\n adc {d3}, {lo}\n",
                    "adc {a2}, 0\n",
                    "add {d3}, {h}\n adc {a2}, 0\n",
                    // From word 6: a_3^2.
                    "mov rdx, {a3}\n",
                    "mulx {a3}, {lo}, rdx\n add {a2}, {lo}\n",
                    "adc {a3}, 0\n",
                    reduce_4!(["t0" "t1" "t2" "s1"], ["d2" "d3" "a2" "a3"]),
                ),
                inout("rdx") a[0] => _,
                a1 = inout(reg) a[1] => _,
                a2 = inout(reg) a[2] => _,
                a3 = inout(reg) a[3] => _,
                m = in(reg) constants,
                s1 = out(reg) r3,
                d2 = out(reg) _,
                d3 = out(reg) _,
                t0 = out(reg) r0,
                t1 = out(reg) r1,
                t2 = out(reg) r2,
                h = out(reg) _,
                lo = out(reg) _,
                options(pure, readonly),
            );
        }
        let r = [r0, r1, r2, r3];
        from_fn(|i| r[i])
    }

    #[inline(always)]
    fn wide_product_4<const N: usize>(self, a: &[u64; N], b: &[u64; N]) -> ([u64; N], [u64; N]) {
        let (r0, r1, r2, r3, r4, r5, r6, r7);
        // SAFETY: as in `multiply_4`; no memory is read.
        unsafe {
            asm!(
                concat!(
                    save!("rsp - 32", "0" "a0", "1" "a1", "2" "a2", "3" "a3"),
                    "mulx {t1}, {t0}, {a0}\n",
                    "mulx {a0}, {lo}, {a1}\n add {t1}, {lo}\n",
                    "mulx {a1}, {lo}, {a2}\n adc {a0}, {lo}\n",
                    "mulx {a2}, {lo}, {a3}\n adc {a1}, {lo}\n",
                    "adc {a2}, 0\n",
                    "mov rdx, {b1}\n",
                    row_4_in_turn!("rsp - 32", ["t1" "a0" "a1" "a2"] "a3", ["b1" "h0" "h1"]),
                    "mov rdx, {b2}\n",
                    row_4_in_turn!("rsp - 32", ["a0" "a1" "a2" "a3"] "b1", ["b2" "h0" "h1"]),
                    "mov rdx, {b3}\n",
                    row_4_in_turn!("rsp - 32", ["a1" "a2" "a3" "b1"] "b2", ["b3" "h0" "h1"]),
                ),
                a0 = inout(reg) a[0] => r2,
                a1 = inout(reg) a[1] => r3,
                a2 = inout(reg) a[2] => r4,
                a3 = inout(reg) a[3] => r5,
                inout("rdx") b[0] => _,
                b1 = inout(reg) b[1] => r6,
                b2 = inout(reg) b[2] => r7,
                b3 = inout(reg) b[3] => _,
                t0 = out(reg) r0,
                t1 = out(reg) r1,
                h0 = out(reg) _,
                h1 = out(reg) _,
                lo = out(reg) _,
                options(pure, nomem),
            );
        }
        let (low, high) = ([r0, r1, r2, r3], [r4, r5, r6, r7]);
        (from_fn(|i| low[i]), from_fn(|i| high[i]))
    }

    #[inline(always)]
    fn reduce_wide_4<const N: usize>(
        self,
        low: [u64; N],
        high: [u64; N],
        constants: &Constants<N>,
    ) -> [u64; N] {
        let (r0, r1, r2, r3);
        // SAFETY: as in `multiply_4`.
        unsafe {
            asm!(
                reduce_4!(["t0" "t1" "t2" "t3"], ["t4" "t5" "t6" "t7"]),
                t0 = inout(reg) low[0] => r0,
                t1 = inout(reg) low[1] => r1,
                t2 = inout(reg) low[2] => r2,
                t3 = inout(reg) low[3] => r3,
                t4 = inout(reg) high[0] => _,
                t5 = inout(reg) high[1] => _,
                t6 = inout(reg) high[2] => _,
                t7 = inout(reg) high[3] => _,
                m = in(reg) constants,
                lo = out(reg) _,
                out("rdx") _,
                options(pure, readonly),
            );
        }
        let r = [r0, r1, r2, r3];
        from_fn(|i| r[i])
    }

    #[inline(always)]
    fn wide_product_6<const N: usize>(self, a: &[u64; N], b: &[u64; N]) -> ([u64; N], [u64; N]) {
        macro_rules! row {
            ($i:literal, [$t0:literal $t1:literal $t2:literal $t3:literal $t4:literal $t5:literal], [$top:literal $h:literal]) => {
                concat!(
                    "mov rdx, ", word!("{b}", $i), "\n",
                    row_at_once!("{a}", "0" $t0 $t1, "1" $t1 $t2, "2" $t2 $t3, "3" $t3 $t4, "4" $t4 $t5, "5" $t5 $top; $top, $h),
                    "mov ", word!("rsp - 48", $i), ", {", $t0, "}\n",
                )
            };
        }
        let (r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11);
        // SAFETY: as in `multiply_4`; what is read is `a` and `b`, six words each.
        unsafe {
            asm!(
                concat!(
                    "mov rdx, ", word!("{b}", "0"), "\n",
                    "mulx {t1}, {t0}, ", word!("{a}", "0"), "\n",
                    "mulx {t2}, {lo}, ", word!("{a}", "1"), "\n add {t1}, {lo}\n",
                    "mulx {t3}, {lo}, ", word!("{a}", "2"), "\n adc {t2}, {lo}\n",
                    "mulx {t4}, {lo}, ", word!("{a}", "3"), "\n adc {t3}, {lo}\n",
                    "mulx {t5}, {lo}, ", word!("{a}", "4"), "\n adc {t4}, {lo}\n",
                    "mulx {t6}, {lo}, ", word!("{a}", "5"), "\n adc {t5}, {lo}\n",
                    "adc {t6}, 0\n",
                    save!("rsp - 48", "0" "t0"),
                    row!("1", ["t1" "t2" "t3" "t4" "t5" "t6"], ["t0" "h"]),
                    row!("2", ["t2" "t3" "t4" "t5" "t6" "t0"], ["t1" "h"]),
                    row!("3", ["t3" "t4" "t5" "t6" "t0" "t1"], ["t2" "h"]),
                    row!("4", ["t4" "t5" "t6" "t0" "t1" "t2"], ["t3" "h"]),
                    row!("5", ["t5" "t6" "t0" "t1" "t2" "t3"], ["t4" "h"]),
                    // Word 5 is in t5 as well as saved; the others come back.
                    "mov {a}, ", word!("rsp - 48", "0"), "\n",
                    "mov {b}, ", word!("rsp - 48", "1"), "\n",
                    "mov {lo}, ", word!("rsp - 48", "2"), "\n",
                    "mov {h}, ", word!("rsp - 48", "3"), "\n",
                    "mov rdx, ", word!("rsp - 48", "4"), "\n",
                ),
                a = inout(reg) a => r0,
                b = inout(reg) b => r1,
                t0 = out(reg) r7,
                t1 = out(reg) r8,
                t2 = out(reg) r9,
                t3 = out(reg) r10,
                t4 = out(reg) r11,
                t5 = out(reg) r5,
                t6 = out(reg) r6,
                lo = out(reg) r2,
                h = out(reg) r3,
                out("rdx") r4,
                options(pure, readonly),
            );
        }
        let (low, high) = ([r0, r1, r2, r3, r4, r5], [r6, r7, r8, r9, r10, r11]);
        (from_fn(|i| low[i]), from_fn(|i| high[i]))
    }

    #[inline(always)]
    fn wide_square_6<const N: usize>(self, a: &[u64; N]) -> ([u64; N], [u64; N]) {
        // The factors of `square_4`: word j of 2 a, with the bit from below, is saved at j - 2;
        // 2 a_j without it is made where it is needed.
        macro_rules! doubled {
            ($below:literal $j:literal, $saved:literal) => {
                concat!(
                    "mov {h}, ", word!("{a}", $below), "\n shr {h}, 63\n",
                    "mov {lo}, ", word!("{a}", $j), "\n lea {h}, [{h} + 2*{lo}]\n",
                    save!("rsp - 32", $saved "h"),
                )
            };
        }
        // The start of row i at word 2 i: a_i^2, then a_i 2 a_(i+1).
        macro_rules! start {
            ($i:literal $next:literal, $t0:literal $t1:literal $t2:literal, $top:literal) => {
                concat!(
                    "mov rdx, ",
                    word!("{a}", $i),
                    "\n",
                    "xor {",
                    $top,
                    ":e}, {",
                    $top,
                    ":e}\n",
                    at_once!("rdx", $t0, $t1, "h"),
                    "mov {h}, ",
                    word!("{a}", $next),
                    "\n lea {h}, [{h} + {h}]\n",
                    at_once!("{h}", $t1, $t2, "h"),
                )
            };
        }
        let (r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11);
        // SAFETY: as in `multiply_4`; what is read is `a`, six words.
        unsafe {
            asm!(
                concat!(
                    doubled!("1" "2", "0"),
                    doubled!("2" "3", "1"),
                    doubled!("3" "4", "2"),
                    doubled!("4" "5", "3"),
                    "mov rdx, ", word!("{a}", "0"), "\n",
                    "mov {h}, ", word!("{a}", "1"), "\n lea {h}, [{h} + {h}]\n",
                    "mulx {t1}, {t0}, rdx\n",
                    "mulx {t2}, {lo}, {h}\n add {t1}, {lo}\n",
                    "mulx {t3}, {lo}, ", word!("rsp - 32", "0"), "\n adc {t2}, {lo}\n",
                    "mulx {t4}, {lo}, ", word!("rsp - 32", "1"), "\n adc {t3}, {lo}\n",
                    "mulx {t5}, {lo}, ", word!("rsp - 32", "2"), "\n adc {t4}, {lo}\n",
                    "mulx {t6}, {lo}, ", word!("rsp - 32", "3"), "\n adc {t5}, {lo}\n",
                    "adc {t6}, 0\n",
                    // Words 0 and 1 are done, and after the next row 2 and 3.
                    save!("rsp - 64", "0" "t0", "1" "t1"),
                    start!("1" "2", "t2" "t3" "t4", "t7"),
                    at_once!(word!("rsp - 32", "1"), "t4", "t5", "h"),
                    at_once!(word!("rsp - 32", "2"), "t5", "t6", "h"),
                    at_once!(word!("rsp - 32", "3"), "t6", "t7", "h"),
                    "mov {lo:e}, 0\n adox {t7}, {lo}\n",
                    save!("rsp - 64", "2" "t2", "3" "t3"),
                    start!("2" "3", "t4" "t5" "t6", "t0"),
                    at_once!(word!("rsp - 32", "2"), "t6", "t7", "h"),
                    at_once!(word!("rsp - 32", "3"), "t7", "t0", "h"),
                    "mov {lo:e}, 0\n adox {t0}, {lo}\n",
                    start!("3" "4", "t6" "t7" "t0", "t1"),
                    at_once!(word!("rsp - 32", "3"), "t0", "t1", "h"),
                    "mov {lo:e}, 0\n adox {t1}, {lo}\n",
                    start!("4" "5", "t0" "t1" "t2", "t2"),
                    "mov {lo:e}, 0\n adox {t2}, {lo}\n",
                    "mov rdx, ", word!("{a}", "5"), "\n",
                    "mulx {t3}, {lo}, rdx\n add {t2}, {lo}\n adc {t3}, 0\n",
                    "mov {a}, ", word!("rsp - 64", "0"), "\n",
                    "mov {lo}, ", word!("rsp - 64", "1"), "\n",
                    "mov {h}, ", word!("rsp - 64", "2"), "\n",
                    "mov rdx, ", word!("rsp - 64", "3"), "\n",
                ),
                a = inout(reg) a => r0,
                lo = out(reg) r1,
                h = out(reg) r2,
                out("rdx") r3,
                t4 = out(reg) r4,
                t5 = out(reg) r5,
                t6 = out(reg) r6,
                t7 = out(reg) r7,
                t0 = out(reg) r8,
                t1 = out(reg) r9,
                t2 = out(reg) r10,
                t3 = out(reg) r11,
                options(pure, readonly),
            );
        }
        let (low, high) = ([r0, r1, r2, r3, r4, r5], [r6, r7, r8, r9, r10, r11]);
        (from_fn(|i| low[i]), from_fn(|i| high[i]))
    }

    #[inline(always)]
    fn reduce_wide_6<const N: usize>(
        self,
        low: [u64; N],
        high: [u64; N],
        constants: &Constants<N>,
    ) -> [u64; N] {
        // The word that a round has cleared is the zero that the next one's top starts from.
        macro_rules! clear {
            ([$t0:literal $t1:literal $t2:literal $t3:literal $t4:literal $t5:literal], $top:literal) => {
                clear_at_once!("6", $t0, "0" $t0 $t1, "1" $t1 $t2, "2" $t2 $t3, "3" $t3 $t4, "4" $t4 $t5, "5" $t5 $top; $top, "h")
            };
        }
        let (r0, r1, r2, r3, r4, r5);
        // SAFETY: as in `multiply_4`; `high` is read as well, six words.
        unsafe {
            asm!(
                concat!(
                    "xor {t6:e}, {t6:e}\n",
                    clear!(["t0" "t1" "t2" "t3" "t4" "t5"], "t6"),
                    clear!(["t1" "t2" "t3" "t4" "t5" "t6"], "t0"),
                    clear!(["t2" "t3" "t4" "t5" "t6" "t0"], "t1"),
                    clear!(["t3" "t4" "t5" "t6" "t0" "t1"], "t2"),
                    clear!(["t4" "t5" "t6" "t0" "t1" "t2"], "t3"),
                    clear!(["t5" "t6" "t0" "t1" "t2" "t3"], "t4"),
                    "add {t6}, ", word!("{high}", "0"), "\n",
                    "adc {t0}, ", word!("{high}", "1"), "\n",
                    "adc {t1}, ", word!("{high}", "2"), "\n",
                    "adc {t2}, ", word!("{high}", "3"), "\n",
                    "adc {t3}, ", word!("{high}", "4"), "\n",
                    "adc {t4}, ", word!("{high}", "5"), "\n",
                    reduce_once!("sub" "0" "t6" "{t5}", "sbb" "1" "t0" "{h}", "sbb" "2" "t1" "{lo}", "sbb" "3" "t2" "{high}", "sbb" "4" "t3" "{s}", "sbb" "5" "t4" "rdx"),
                ),
                t0 = inout(reg) low[0] => r1,
                t1 = inout(reg) low[1] => r2,
                t2 = inout(reg) low[2] => r3,
                t3 = inout(reg) low[3] => r4,
                t4 = inout(reg) low[4] => r5,
                t5 = inout(reg) low[5] => _,
                t6 = out(reg) r0,
                high = inout(reg) &high => _,
                m = in(reg) constants,
                h = out(reg) _,
                s = out(reg) _,
                lo = out(reg) _,
                out("rdx") _,
                options(pure, readonly, nostack),
            );
        }
        let r = [r0, r1, r2, r3, r4, r5];
        from_fn(|i| r[i])
    }
}
