//! Memory: writes a pattern that depends on the address, reads it back, and says how fast that
//! went; and copies, as tables and witnesses are copied. Keys and buckets live in this memory for months; a cell that loses a bit turns proofs
//! bad one by one (each is self-checked, so they fail rather than leave the box).

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::report::Finding;
use crate::thread::{Policy, on_each};

/// Fills `bytes`, shared out over the processors, with a pattern and its complement, and reads
/// each back.
pub(crate) fn pattern(cpus: &[usize], bytes: u64) -> Result<Finding> {
    let words = usize::try_from(bytes / 8).context("bytes to test")? / cpus.len().max(1);
    let results = on_each(cpus, Policy::Normal, |cpu| sweep(words, cpu as u64))?;
    let mut rate = 0.0;
    for (cpu, result) in cpus.iter().zip(results) {
        match result {
            Ok(bytes_per_second) => rate += bytes_per_second,
            Err(Mismatch {
                word,
                expected,
                got,
            }) => {
                return Ok(Finding::fail(format!(
                    "processor {cpu}, word {word}: expected {expected:#018x}, got {got:#018x}"
                )));
            }
        }
    }
    let mebibytes = bytes >> 20;
    Ok(Finding::pass(format!(
        "{mebibytes} MiB hold a pattern; {:.1} GB/s in all",
        rate / 1e9
    ))
    .figure("bytes", bytes)
    .figure("bytes_per_second", rate))
}

/// Copies between two halves of `bytes`, shared out over the processors, for the time `lasting`; what is
/// counted is read once and written once. Less than `least` bytes a second is a warning.
pub(crate) fn copy(
    cpus: &[usize],
    bytes: u64,
    lasting: Duration,
    least: Option<u64>,
) -> Result<Finding> {
    let half = usize::try_from(bytes / 16).context("bytes to copy")? / cpus.len().max(1);
    let rates = on_each(cpus, Policy::Normal, |cpu| {
        let mut from: Vec<u64> = Vec::new();
        from.try_reserve_exact(half).context("memory to copy")?;
        from.extend((0..half).map(|word| expected(word, cpu as u64)));
        let mut to = vec![0; half];
        let start = Instant::now();
        let mut copies = 0_u64;
        while copies == 0 || start.elapsed() < lasting {
            to.copy_from_slice(black_box(&from));
            black_box(&mut to);
            copies += 1;
        }
        let moved = copies as f64 * (half * 16) as f64;
        Ok(moved / start.elapsed().as_secs_f64().max(1e-9))
    })?;
    let all: f64 = rates.iter().sum();
    let slowest = rates.iter().copied().fold(f64::MAX, f64::min);
    let text = format!(
        "{:.1} GB/s read and written by {} processors at once, {:.1} by the slowest",
        all / 1e9,
        cpus.len(),
        slowest / 1e9
    );
    let finding = match least {
        Some(least) if all < least as f64 => Finding::warn(format!(
            "{text}: the expected file has {:.1} at least",
            least as f64 / 1e9
        )),
        _ => Finding::pass(text),
    };
    Ok(finding
        .figure("bytes_per_second", all)
        .figure("bytes_per_second_slowest", slowest))
}

/// A word that did not hold what was written.
#[derive(Debug, PartialEq, Eq)]
struct Mismatch {
    word: usize,
    expected: u64,
    got: u64,
}

/// Bytes a second over two writes and two reads of each word, after the pages are there.
fn sweep(words: usize, seed: u64) -> Result<Result<f64, Mismatch>> {
    let mut memory: Vec<u64> = Vec::new();
    memory.try_reserve_exact(words).context("memory to test")?;
    memory.resize(words, 0);
    let start = Instant::now();
    for flip in [0, u64::MAX] {
        for (word, cell) in memory.iter_mut().enumerate() {
            *cell = expected(word, seed) ^ flip;
        }
        // The compiler must not carry the values past the memory.
        black_box(&mut memory);
        if let Err(mismatch) = compare(&memory, seed, flip) {
            return Ok(Err(mismatch));
        }
    }
    let moved = (words * 8 * 4) as f64;
    Ok(Ok(moved / start.elapsed().as_secs_f64().max(1e-9)))
}

fn compare(memory: &[u64], seed: u64, flip: u64) -> Result<(), Mismatch> {
    for (word, &got) in memory.iter().enumerate() {
        let expected = expected(word, seed) ^ flip;
        if got != expected {
            return Err(Mismatch {
                word,
                expected,
                got,
            });
        }
    }
    Ok(())
}

/// An odd multiplier spreads neighbouring addresses over all bits (Fibonacci hashing).
fn expected(word: usize, seed: u64) -> u64 {
    (word as u64 ^ (seed << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    #[test]
    fn good_memory_passes() {
        let finding = pattern(
            &crate::thread::allowed().expect("our own affinity"),
            1 << 20,
        )
        .expect("a small piece of memory");
        assert_eq!(finding.verdict, Verdict::Pass);
    }

    #[test]
    fn copies_are_held_against_what_is_expected() {
        let cpus = crate::thread::allowed().expect("our own affinity");
        let verdict = |least| {
            let finding = copy(&cpus, 1 << 20, Duration::ZERO, least);
            finding.expect("a small piece of memory").verdict
        };
        assert_eq!(verdict(None), Verdict::Pass);
        assert_eq!(verdict(Some(1)), Verdict::Pass);
        assert_eq!(verdict(Some(u64::MAX)), Verdict::Warn);
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut memory: Vec<u64> = (0..100).map(|word| expected(word, 3)).collect();
        assert_eq!(compare(&memory, 3, 0), Ok(()));
        memory[77] ^= 1 << 13;
        let got = memory[77];
        let mismatch = Mismatch {
            word: 77,
            expected: expected(77, 3),
            got,
        };
        assert_eq!(compare(&memory, 3, 0), Err(mismatch));
    }
}
