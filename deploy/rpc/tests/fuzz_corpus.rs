//! Replays the corpora of the fuzzers on a stable toolchain: every file, every prefix of it, and
//! every change of one byte in it, through the same bodies.

#[path = "../fuzz/bodies/http.rs"]
mod http;
#[path = "../fuzz/bodies/jsonrpc.rs"]
mod jsonrpc;
#[path = "../fuzz/bodies/jwt.rs"]
mod jwt;

use std::fs;
use std::path::Path;

#[test]
fn http_corpus() {
    replay("http", http::run);
}

#[test]
fn jsonrpc_corpus() {
    replay("jsonrpc", jsonrpc::run);
}

#[test]
fn jwt_corpus() {
    replay("jwt", jwt::run);
}

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
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
            for other in [0, b'\n', b'\r', b' ', b'"', byte ^ 1, byte ^ 0x80] {
                seed[at] = other;
                body(&seed);
            }
            seed[at] = byte;
        }
    }
    assert!(files >= 5, "{files} seeds in {}", folder.display());
}
