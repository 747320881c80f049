//! Replays the corpora of the fuzzers on a stable toolchain.

#[path = "../fuzz/bodies/http.rs"]
mod http;
#[path = "../fuzz/bodies/jsonrpc.rs"]
mod jsonrpc;
#[path = "../fuzz/bodies/jwt.rs"]
mod jwt;
#[path = "../../../.ci/replay.rs"]
mod replay;

use replay::replay;

#[test]
fn http_corpus() {
    replay(ROOT, "http", MARKS, http::run);
}

#[test]
fn jsonrpc_corpus() {
    replay(ROOT, "jsonrpc", MARKS, jsonrpc::run);
}

#[test]
fn jwt_corpus() {
    replay(ROOT, "jwt", MARKS, jwt::run);
}

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const MARKS: &[u8] = b"\0\n\r \"";
