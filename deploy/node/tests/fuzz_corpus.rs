//! Replays the corpus of the fuzzer on a stable toolchain: every file, every prefix of it, and
//! changes of one byte in it, through the same body.

#[path = "../fuzz/bodies/config.rs"]
mod config;

use std::fs;
use std::path::Path;

#[test]
fn config_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/config");
    let mut files = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is there") {
        let path = entry.expect("the corpus can be read").path();
        let mut seed = fs::read(&path).expect("a seed can be read");
        files += 1;
        for end in 0..=seed.len() {
            config::run(&seed[..end]);
        }
        for at in 0..seed.len() {
            let byte = seed[at];
            for other in [0, b'\n', b'"', b'0', byte ^ 1, byte ^ 0x80] {
                seed[at] = other;
                config::run(&seed);
            }
            seed[at] = byte;
        }
    }
    assert!(files >= 5, "{files} seeds in {}", folder.display());
}
