//! Replays the corpus of a fuzzer on a stable toolchain: every file, every prefix of it, and changes of one byte in it,
//! through the same body. Nightly fuzzers look for more; what they have found once is tried by every `cargo test`.
//!
//! Crates that know nothing of each other share this file by its path, as each shares its bodies with its fuzzers: it is no
//! crate, for that would be one that all of them know.

use std::fs;
use std::path::Path;

/// Replays what a crate has for a target: by `marks`, bytes that mean something to what reads them, and by flipped bits.
pub(crate) fn replay(root: &str, target: &str, marks: &[u8], body: fn(&[u8])) {
    let folder = Path::new(root).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the corpus can be read").path();
        let mut seed = fs::read(&path).expect("a seed can be read");
        files += 1;
        for end in 0..=seed.len() {
            body(&seed[..end]);
        }
        for at in 0..seed.len() {
            let byte = seed[at];
            let flipped = [byte ^ 1, byte ^ 0x80];
            for &other in marks.iter().chain(&flipped) {
                seed[at] = other;
                body(&seed);
            }
            seed[at] = byte;
        }
    }
    assert!(files >= 5, "{files} seeds in {}", folder.display());
}
