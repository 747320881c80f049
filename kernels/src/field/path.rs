//! Which arithmetic runs: assembly where the processor has the instructions, else portable Rust.
//!
//! The first product of the process asks the processor and keeps the answer in a byte. Each later
//! product tests that byte: a load and a branch that is always predicted. What must not happen is
//! that the way not taken wants operands or results in memory, which would keep them there on the
//! way taken; so portable functions are called out of line, on copies, and results are put
//! together word by word.
//!
//! A build with `-C target-feature=+bmi2,+adx` has no test and no second way. A processor without
//! the instructions pays a call for each product.

#![cfg_attr(
    all(target_arch = "x86_64", not(target_os = "windows")),
    allow(unsafe_code)
)]

use super::montgomery::{self, Constants};

/// Runs the assembly of that name, or calls the portable function out of line.
macro_rules! choose {
    ($(#[$doc:meta])* $name:ident, $elsewhere:ident, ($($operand:ident),+)) => {
        $(#[$doc])*
        #[inline(always)]
        pub(super) fn $name<const N: usize>(
            $($operand: &[u64; N],)+
            constants: &'static Constants<N>,
        ) -> [u64; N] {
            #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
            {
                if is_assembly() {
                    // SAFETY: the way leads here only where the processor has BMI2 and ADX.
                    return unsafe { super::assembly::$name($($operand,)+ constants) };
                }
                let words = $elsewhere($(*$operand,)+ constants);
                std::array::from_fn(|i| words[i])
            }
            #[cfg(not(all(target_arch = "x86_64", not(target_os = "windows"))))]
            montgomery::$name($($operand,)+ &constants.modulus, constants.inverse)
        }

        #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
        #[cold]
        #[inline(never)]
        fn $elsewhere<const N: usize>(
            $($operand: [u64; N],)+
            constants: &'static Constants<N>,
        ) -> [u64; N] {
            if settle() {
                // SAFETY: it was just settled that the processor has BMI2 and ADX.
                return unsafe { super::assembly::$name($(&$operand,)+ constants) };
            }
            montgomery::$name($(&$operand,)+ &constants.modulus, constants.inverse)
        }
    };
}

choose!(
    /// a b / R mod the modulus, as [`montgomery::multiply`].
    multiply, multiply_elsewhere, (a, b)
);

choose!(
    /// a^2 / R mod the modulus, as [`montgomery::square`].
    square, square_elsewhere, (a)
);

#[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
pub(super) use x86_64::{is_assembly, settle};

#[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
mod x86_64 {
    use std::sync::atomic::{AtomicU8, Ordering};
    #[cfg(feature = "conformance")]
    use std::sync::{Mutex, MutexGuard, PoisonError};

    /// Unknown until the first product. ASSEMBLY is stored only after the processor was asked.
    pub(super) static WAY: AtomicU8 = AtomicU8::new(UNKNOWN);
    pub(super) const UNKNOWN: u8 = 0;
    pub(super) const PORTABLE: u8 = 1;
    pub(super) const ASSEMBLY: u8 = 2;

    /// Whether the build may assume the instructions.
    pub(super) const CERTAIN: bool = cfg!(all(target_feature = "bmi2", target_feature = "adx"));

    /// Whether assembly is known to be the way.
    #[inline(always)]
    pub(in crate::field) fn is_assembly() -> bool {
        // Relaxed: the byte stands for a fact about the processor and guards no other memory.
        CERTAIN || WAY.load(Ordering::Relaxed) == ASSEMBLY
    }

    /// Whether assembly is the way; asks the processor if nobody has.
    pub(in crate::field) fn settle() -> bool {
        if WAY.load(Ordering::Relaxed) == UNKNOWN {
            let way = if is_able() { ASSEMBLY } else { PORTABLE };
            WAY.store(way, Ordering::Relaxed);
        }
        is_assembly()
    }

    pub(super) fn is_able() -> bool {
        is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("adx")
    }

    /// Holds the way where it was forced to; lets go when dropped.
    #[cfg(feature = "conformance")]
    pub(super) struct Kept(#[expect(dead_code, reason = "held, not read")] MutexGuard<'static, ()>);

    #[cfg(feature = "conformance")]
    impl Kept {
        /// The caller has made sure that the processor is able.
        pub(super) fn force(path: super::Path) -> Self {
            static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
            // A test that panicked leaves nothing half done here.
            let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            let way = match path {
                super::Path::Portable => PORTABLE,
                super::Path::Assembly => ASSEMBLY,
            };
            WAY.store(way, Ordering::Relaxed);
            Self(guard)
        }
    }

    #[cfg(feature = "conformance")]
    impl Drop for Kept {
        fn drop(&mut self) {
            WAY.store(UNKNOWN, Ordering::Relaxed);
        }
    }
}

/// A way to compute products. All give the same words.
#[cfg(feature = "conformance")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Portable Rust.
    Portable,
    /// x86-64 assembly with BMI2 and ADX.
    Assembly,
}

/// For tests: which ways this build has on this processor.
#[cfg(feature = "conformance")]
pub fn paths() -> &'static [Path] {
    #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
    {
        if x86_64::CERTAIN {
            return &[Path::Assembly];
        }
        if x86_64::is_able() {
            return &[Path::Portable, Path::Assembly];
        }
    }
    &[Path::Portable]
}

/// For tests: computes with all products of the process on this path, whichever thread asks for
/// them. One caller at a time; the others wait. Afterwards the processor decides again.
///
/// # Panics
/// If the path is not among [`paths`].
#[cfg(feature = "conformance")]
pub fn on_path<T>(path: Path, compute: impl FnOnce() -> T) -> T {
    assert!(paths().contains(&path), "{path:?} is not possible here");
    #[cfg(all(target_arch = "x86_64", not(target_os = "windows")))]
    let _kept = x86_64::Kept::force(path);
    compute()
}
