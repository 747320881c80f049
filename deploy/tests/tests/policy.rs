//! Policies and declared demand from the command line.

use std::fs;
use std::path::Path;

use caldera_tests::programs::run_caldera;
use caldera_tests::service::Service;
use serde_json::{Value, json};

/// The shipped file passes; a damaged one is refused with its key and the exit code of a
/// configuration.
#[test]
fn a_policy_file_is_checked() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policy.toml");
    let shipped = shipped.to_str().expect("a path in UTF-8");
    let text = run_caldera(["policy", "check", shipped]).expect_success();
    for class in ["financial", "supply_chain", "retail", "social"] {
        assert!(text.contains(class), "{text}");
    }
    let document = run_caldera(["--json", "policy", "check", shipped]).expect_success();
    let document: Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["classes"][0]["name"], "financial");
    assert_eq!(document["classes"][0]["guaranteePercent"], json!(40.0));
    assert_eq!(document["classes"][0]["giveBack"], Value::Null);
    assert_eq!(
        document["classes"][3]["giveBack"]["heldPercent"],
        json!(80.0)
    );

    let folder = tempfile::tempdir().expect("a folder");
    let damaged = folder.path().join("policy.toml");
    let shipped = fs::read_to_string(shipped).expect("it was read above");
    fs::write(&damaged, shipped.replacen("value = 64", "value = 0", 1)).expect("written");
    let damaged = damaged.to_str().expect("a path in UTF-8");
    let run = run_caldera(["policy", "check", damaged]).expect_code(78);
    let reason = "classes.financial.value: expected 1 to 1000, got 0";
    assert!(run.stderr.contains(reason), "{run}");
    let run = run_caldera(["--json", "policy", "check", damaged]).expect_code(78);
    let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(document["error"]["class"], "configuration");
    fs::write(damaged, [0xff, 0xfe]).expect("written");
    run_caldera(["policy", "check", damaged]).expect_code(78);
    run_caldera(["policy", "check", "/no/such/file"]).expect_code(74);
}

#[test]
fn a_peak_is_announced_from_the_command_line() {
    let service = Service::start(&[("plaza", "social")], "workers = 1");
    let url = format!("http://{}", service.address());
    let secret = service.folder().join("plaza.secret");
    let secret = secret.to_str().expect("a path in UTF-8");
    let connection = ["--url", &url, "--tenant", "plaza", "--secret-file", secret];
    let demand = |more: &[&str]| {
        let command = ["--json", "pool", "demand"].iter().chain(more);
        run_caldera(command.chain(&connection))
    };
    let answer = demand(&["1", "--duration-ms", "60000"]).expect_success();
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer, json!({ "units": 1, "expiresMs": 60_000.0 }));
    let shown = ["pool"].iter().chain(&connection);
    let pool = run_caldera(shown).expect_success();
    assert!(pool.contains("announced"), "{pool}");
    let run = demand(&["2", "--duration-ms", "1"]).expect_code(79);
    assert!(run.stdout.contains("demandAboveCeiling"), "{run}");
    let run = demand(&["1"]).expect_code(79);
    assert!(run.stdout.contains("demandDuration"), "{run}");
    let answer = demand(&["0"]).expect_success();
    assert!(answer.contains("\"units\": 0"), "{answer}");
    // It holds nothing, and has ten minutes until it would give back what it holds.
    let held = run_caldera(["--json", "pool", "storage"].iter().chain(&connection));
    let held: Value = serde_json::from_str(&held.expect_success()).expect("JSON");
    assert_eq!(held["tenants"][0]["tenant"], "plaza", "{held}");
    let due = held["tenants"][0]["dueMs"].as_f64().expect("a number");
    assert!(due > 0.0 && due <= 600_000.0, "{held}");
    assert_eq!(held["releases"], json!([]));
    let shown = run_caldera(["pool", "storage"].iter().chain(&connection)).expect_success();
    assert!(
        shown.contains("plaza") && shown.contains("if quiet"),
        "{shown}"
    );
    // No command guesses who asks.
    run_caldera(["pool"]).expect_code(2);
    run_caldera(["pool", "storage"]).expect_code(2);
    run_caldera(["pool", "demand", "1"]).expect_code(2);
    assert_eq!(service.stop(), Some(0));
}
