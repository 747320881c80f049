//! Replays the corpus of the fuzzer on a stable toolchain.

#[path = "../fuzz/bodies/policy.rs"]
mod policy;
#[path = "../../.ci/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn policy_corpus() {
    replay(ROOT, "policy", MARKS, policy::run);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MARKS: &[u8] = b"\0\n\"0";
