//! The peak of memory is that of a process that proved, and one that is too high is refused: beside a
//! key this small the program itself is.

use std::process::Command;

use serde_json::Value;

#[test]
fn a_peak_beyond_the_key_and_its_vectors_is_refused() {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let results = folder.path().join("results.jsonl");
    let output = Command::new(env!("CARGO_BIN_EXE_caldera-bench"))
        .args(["memory", "--log2", "5", "--rounds", "1", "--threads", "1"])
        .args(["--out".into(), results.clone()])
        .output()
        .expect("the program under test");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let text = std::fs::read_to_string(results).expect("results");
    let line: Value = serde_json::from_str(text.trim()).expect("one line of JSON");
    assert_eq!(line["bench"], "memory");
    assert_eq!(line["unit"], "MiB");
    // A process with a pairing in it, but not one with a large key.
    let peak = line["value"].as_f64().expect("a number");
    assert!((1.0..100.0).contains(&peak), "{peak} MiB");
    let inside = line["inside"].as_str().expect("what it is made of");
    for part in ["witness as read", "a, b and c", "factors of transforms"] {
        assert!(inside.contains(part), "{inside}");
    }
}
