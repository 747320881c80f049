//! Replays the corpus of the fuzzer on a stable toolchain.

#[path = "../../../.ci/replay.rs"]
mod replay;
#[path = "../fuzz/bodies/witness.rs"]
mod witness;

use replay::replay;

#[test]
fn witness_corpus() {
    replay(ROOT, "witness", MARKS, witness::run);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Few, for each is a module that is compiled.
const MARKS: &[u8] = b"\0\"";
