//! Memory: writes a pattern that depends on the address, reads it back, and says how fast that
//! went. Keys and buckets live in this memory for months; a cell that loses a bit turns proofs
//! bad one by one (each is self-checked, so they fail rather than leave the box).

use std::hint::black_box;
use std::time::Instant;

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
