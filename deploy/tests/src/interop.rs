//! The outside programs, pinned by `interop/package-lock.json`: snarkjs makes witnesses and
//! judges proofs, circom2 compiles, and the Semaphore package brings real ceremony keys.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::programs::{Run, run};

/// The folder with the scripts; panics with advice if its packages are not installed.
pub fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop");
    assert!(
        folder.join("node_modules/snarkjs/build/cli.cjs").is_file(),
        "the outside programs are not installed: run `make test`, or `npm ci` in {}",
        folder.display()
    );
    folder
}

/// A Semaphore proving key of the given depth, 1 to 32.
pub fn semaphore_zkey(depth: u32) -> PathBuf {
    artifact(depth, "zkey")
}

/// The verification key that was published with it.
pub fn semaphore_verification_key(depth: u32) -> PathBuf {
    artifact(depth, "json")
}

/// The witness program that was published with it.
pub fn semaphore_program(depth: u32) -> PathBuf {
    artifact(depth, "wasm")
}

/// The inputs of the first witness of [`semaphore_witnesses`], see `interop/semaphore-witness.mjs`.
pub fn semaphore_inputs(depth: u32) -> Value {
    let number = |label: String| {
        let digest = Sha256::digest(label.as_bytes());
        format!("0x{}", hex::encode(&digest[1..]))
    };
    let siblings: Vec<String> = (0..depth)
        .map(|level| number(format!("sibling {level}")))
        .collect();
    serde_json::json!({
        "secret": number("secret".to_owned()),
        "merkleProofLength": depth,
        "merkleProofIndex": 1,
        "merkleProofSiblings": siblings,
        "message": number("message 0".to_owned()),
        "scope": number("scope".to_owned()),
    })
}

fn artifact(depth: u32, extension: &str) -> PathBuf {
    folder().join(format!(
        "node_modules/@zk-kit/semaphore-artifacts/semaphore-{depth}.{extension}"
    ))
}

/// Makes as many Semaphore witnesses as there are paths, each of another statement.
pub fn semaphore_witnesses(depth: u32, outputs: &[PathBuf]) {
    let mut arguments = vec![depth.to_string().into()];
    arguments.extend(outputs.iter().map(|path| path.as_os_str().to_owned()));
    node("semaphore-witness.mjs", arguments).expect_success();
}

/// Runs one of the scripts in `interop/`.
pub fn node<S: AsRef<OsStr>>(script: &str, arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new("node");
    command.arg(folder().join(script)).args(arguments);
    run(command)
}

/// Runs the `snarkjs` command line.
pub fn snarkjs<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    node("node_modules/snarkjs/build/cli.cjs", arguments)
}

/// Runs the `circom2` compiler in `folder`: it sees no files outside of its working folder.
pub fn circom2<S: AsRef<OsStr>>(working: &Path, arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new("node");
    command
        .current_dir(working)
        .arg(folder().join("node_modules/circom2/cli.js"))
        .args(arguments);
    run(command)
}

/// What snarkjs says of many proofs, in one process. Each case is an object with
/// `verificationKey`, `publicInputs` and `proof`.
pub fn snarkjs_verdicts(cases: &[Value]) -> Vec<bool> {
    let verdicts = node_with_input("verify.mjs", &Value::from(cases.to_vec()));
    let verdicts: Vec<Option<bool>> = verdicts
        .as_array()
        .expect("an array of verdicts")
        .iter()
        .map(Value::as_bool)
        .collect();
    assert_eq!(verdicts.len(), cases.len());
    verdicts.into_iter().map(|v| v == Some(true)).collect()
}

/// The Solidity call data that snarkjs prints for a proof.
pub fn snarkjs_calldata(public_inputs: &Value, proof: &Value) -> String {
    let case = serde_json::json!([{ "publicInputs": public_inputs, "proof": proof }]);
    let lines = node_with_input("calldata.mjs", &case);
    lines[0].as_str().expect("one line of call data").to_owned()
}

fn node_with_input(script: &str, input: &Value) -> Value {
    let mut child = Command::new("node")
        .arg(folder().join(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node can be started");
    // The scripts read all of their input before they write, so this cannot deadlock.
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    stdin
        .write_all(input.to_string().as_bytes())
        .expect("node reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("node ends");
    assert!(output.status.success(), "{script}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

/// Reads a JSON file.
pub fn json(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
