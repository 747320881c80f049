//! Replays the corpus of the fuzzer on a stable toolchain.

#[path = "../fuzz/bodies/config.rs"]
mod config;
#[path = "../../../.ci/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn config_corpus() {
    replay(ROOT, "config", MARKS, config::run);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MARKS: &[u8] = b"\0\n\"0";
