//! The program as an operator or a monitoring system meets it: its output and its exit code.

use std::process::Command;

use serde_json::Value;

fn hwtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_caldera-hwtest"))
}

#[test]
fn level_1_reports_every_check_and_its_exit_code_agrees() {
    let output = hwtest()
        .args(["--level", "1", "--json"])
        .output()
        .expect("our own program");
    let report: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(report["level"], 1);
    let checks = report["checks"].as_array().expect("a list of checks");
    let names: Vec<&str> = checks
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    for name in [
        "cpu.cores",
        "clock.monotonic",
        "schedule.normal",
        "device.conformance",
    ] {
        assert!(names.contains(&name), "{name} is missing from {names:?}");
    }
    for check in checks {
        assert!(
            !check["reason"].as_str().unwrap_or_default().is_empty(),
            "{check}"
        );
    }
    let code = match report["verdict"].as_str().expect("a verdict") {
        "PASS" => 0,
        "WARN" => 1,
        "FAIL" => 2,
        other => panic!("a run of level 1 ended as {other}"),
    };
    assert_eq!(output.status.code(), Some(code));

    // Whatever this machine is like, it must compute correctly.
    for name in ["memory.pattern", "device.conformance", "proof.whole"] {
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .expect("named above");
        assert_eq!(check["verdict"], "PASS", "{check}");
    }
}

#[test]
fn a_level_that_does_not_exist_is_refused() {
    let output = hwtest()
        .args(["--level", "9"])
        .output()
        .expect("our own program");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
