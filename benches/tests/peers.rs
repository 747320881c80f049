//! What `make peers` has made, where there is no GPU: snarkrs proves by WebGPU on lavapipe, in turns with ours and
//! with the same key, and whoever needs a GPU says that there is none. The figures say nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Beside these peers: lines, and what was said.
fn measured(row: &str, peers: &[(&str, &str)]) -> (Vec<Value>, String) {
    let folder: PathBuf = std::env::var_os("CALDERA_PEERS")
        .expect("CALDERA_PEERS: the folder that make peers fills")
        .into();
    let mut command = Command::new(env!("CARGO_BIN_EXE_caldera-bench"));
    command
        .args([
            "--json",
            "gpu",
            "--no-record",
            "--device",
            "cpu",
            "--smaller=14",
        ])
        .args(["--rounds", "1", "--seconds", "0", "--only", row]);
    for (name, file) in peers {
        let library = Path::new(&folder).join(file);
        assert!(library.is_file(), "{} has not been made", library.display());
        command.arg(format!("--peer={name}={}", library.display()));
    }
    let output = command.output().expect("our own program");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = std::str::from_utf8(&output.stdout).expect("text").lines();
    let lines = lines.map(|line| serde_json::from_str(line).expect("JSON"));
    (lines.collect(), said)
}

#[test]
fn snarkrs_proves_by_webgpu_with_our_key() {
    let library = "libcaldera_peer_snarkrs.so";
    let (lines, said) = measured(
        "proof",
        &[("snarkrs-wgpu", library), ("snarkrs-cuda", library)],
    );
    let whose: Vec<&str> = lines.iter().filter_map(|it| it["who"].as_str()).collect();
    assert_eq!(whose, ["cpu", "snarkrs-wgpu"], "{said}");
    let build = lines[1]["peer_build"].as_str().expect("who it is");
    assert!(
        build.starts_with("snarkrs-lib 0.1.0, WebGPU on "),
        "{build}"
    );
    assert!(
        said.contains("the peer snarkrs-cuda is left out: it computes by CUDA"),
        "{said}"
    );
}

#[test]
fn who_computes_by_cuda_says_that_there_is_no_driver() {
    let (lines, said) = measured("ntt", &[("sppark", "libcaldera_peer_sppark.so")]);
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        said.contains("the peer sppark is left out: no CUDA driver"),
        "{said}"
    );
}
