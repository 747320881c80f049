//! The program as an operator or a monitoring system meets it: its output and its exit code.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn hwtest() -> Command {
    Command::new(env!("CARGO_BIN_EXE_caldera-hwtest"))
}

/// The report of a run that gave one.
fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "one JSON document: {error}: {}",
            String::from_utf8_lossy(&output.stderr)
        )
    })
}

fn named<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list of checks");
    checks
        .iter()
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name} is missing from {report:#}"))
}

fn exit_code(report: &Value) -> i32 {
    match report["verdict"].as_str().expect("a verdict") {
        "PASS" => 0,
        "WARN" => 1,
        "FAIL" => 2,
        other => panic!("a run of {other} alone"),
    }
}

/// The page is the program's own: its levels with their checks, its options and its exit codes.
#[test]
fn the_manual_page_has_levels_and_options() {
    let output = hwtest().arg("--manual").output().expect("our own program");
    assert_eq!(output.status.code(), Some(0));
    let page = String::from_utf8(output.stdout).expect("text");
    // Which has hyphens as roff wants them.
    let page = page.replace('\\', "");
    for said in [
        ".TH caldera-hwtest 1",
        "--level",
        "--write-expected",
        "4  --hours: service.kills",
        "2  CRITICAL",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

/// What a machine does not have may be skipped; what a virtual machine may not have is written down.
#[test]
fn levels_1_and_2_report_every_check_and_skip_no_more_than_a_virtual_machine_may() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
    let page = folder.path().join("report.html");
    let output = hwtest()
        .args(["--level", "2", "--shorten", "60", "--json", "--data"])
        .arg(folder.path())
        .arg("--html")
        .arg(&page)
        .output()
        .expect("our own program");
    let report = report(&output);
    assert_eq!(report["level"], 2);
    assert_eq!(output.status.code(), Some(exit_code(&report)));
    let list = include_str!("../skips-virtual-machine.txt");
    let allowed: BTreeSet<&str> = list
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let checks = report["checks"].as_array().expect("a list of checks");
    let names: BTreeSet<&str> = checks
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    let unknown: Vec<&&str> = allowed.difference(&names).collect();
    assert!(unknown.is_empty(), "no checks of level 2: {unknown:?}");
    let skipped = checks.iter().filter(|check| check["verdict"] == "SKIP");
    let further: Vec<&Value> = skipped
        .filter(|check| !allowed.contains(check["name"].as_str().unwrap_or_default()))
        .collect();
    assert!(
        further.is_empty(),
        "skipped and not in the list: {further:#?}"
    );

    for check in checks {
        let reason = check["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty(), "{check}");
    }
    // Whatever this machine is like, it must compute correctly.
    for name in ["memory.pattern", "device.conformance", "proof.whole"] {
        assert_eq!(named(&report, name)["verdict"], "PASS", "{name}");
    }
    // A shortened run accepts nothing, and its page is whole by itself.
    assert_eq!(named(&report, "run.whole")["verdict"], "WARN");
    let page = std::fs::read_to_string(page).expect("the page that was asked for");
    for name in names {
        assert!(page.contains(name), "{name}");
    }
    assert!(page.contains("<polyline"));
    for part in ["<script", "http://", "https://", "src=", "NaN"] {
        assert!(!page.contains(part), "{part}");
    }
}

#[test]
fn what_was_written_as_expected_is_found_again_and_one_processor_more_is_missed() {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let path = folder.path().join("expected.toml");
    let run = |flag: &str| {
        let output = hwtest()
            .args(["--only", "system.inventory", "--json", flag])
            .arg(&path)
            .output()
            .expect("our own program");
        report(&output)
    };
    assert_eq!(
        named(&run("--write-expected"), "system.inventory")["verdict"],
        "SKIP"
    );
    assert_eq!(
        named(&run("--expected"), "system.inventory")["verdict"],
        "PASS"
    );
    let text = std::fs::read_to_string(&path).expect("written above");
    let more = text.replace("processors = ", "processors = 1");
    assert_ne!(text, more);
    std::fs::write(&path, more).expect("our own file");
    let missed = run("--expected");
    assert_eq!(named(&missed, "system.inventory")["verdict"], "FAIL");
}

/// On a provisioned box a shell may use the system's processors alone; the workers' are tried all the same.
#[test]
fn all_processors_are_tried_whatever_the_shell_may_use() {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    let here = nix::unistd::Pid::from_raw(0);
    let may = sched_getaffinity(here).expect("our own affinity");
    let may: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| may.is_set(*cpu) == Ok(true))
        .collect();
    let output = std::thread::spawn(move || {
        let mut one = CpuSet::new();
        one.set(may[0]).expect("a processor of this machine");
        sched_setaffinity(here, &one).expect("one of ours");
        let mut command = hwtest();
        command.args(["--only", "cpu.cores", "--json"]);
        (may, command.output().expect("our own program"))
    });
    let (may, output) = output.join().expect("the thread's expectations hold");
    let report = report(&output);
    let allowed = &named(&report, "cpu.cores")["figures"]["allowed"];
    let allowed: Vec<u64> = serde_json::from_value(allowed.clone()).expect("numbers");
    // All of the control group's, which may be more than the tests were started with.
    for cpu in may {
        assert!(allowed.contains(&(cpu as u64)), "{cpu} of {allowed:?}");
    }
}

/// The programs of the service must have been built: `make test` builds all before it tests.
#[test]
fn a_service_that_is_killed_at_work_proves_what_it_took() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
    let output = hwtest()
        .args(["--level", "4", "--shorten", "1000000", "--json"])
        .args(["--only", "service.kills,service.reallocate", "--data"])
        .arg(folder.path())
        .output()
        .expect("our own program");
    let report = report(&output);
    let kills = named(&report, "service.kills");
    assert_eq!(kills["verdict"], "PASS", "{kills:#}");
    assert_eq!(kills["figures"]["kills"], 1);
    // How long a core takes on a machine that tests is not what is tested.
    let moved = named(&report, "service.reallocate");
    assert_ne!(moved["figures"]["records"], Value::Null, "{moved:#}");
}

#[test]
fn what_does_not_exist_is_refused() {
    for arguments in [
        ["--level", "9"],
        ["--only", "cpu.coarse"],
        ["--only", "disk.sync"],
        ["--expected", "/nowhere/expected.toml"],
        ["--devices", "gpu"],
    ] {
        let output = hwtest().args(arguments).output().expect("our own program");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty());
        assert!(!output.stderr.is_empty());
    }
}

#[test]
fn a_device_that_was_asked_for_and_is_not_there_fails() {
    let output = hwtest()
        .args(["--only", "device.others", "--json", "--devices", "cuda:7"])
        .output()
        .expect("our own program");
    let report = report(&output);
    assert_eq!(named(&report, "device.others")["verdict"], "FAIL");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn devices_and_folders_come_from_the_configuration() {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let config = folder.path().join("calderad.toml");
    let text = "listen = \"127.0.0.1:0\"\ndevices = [\"cuda:7\"]\ndata = \"store\"\n";
    std::fs::write(&config, text).expect("our own file");
    let output = hwtest()
        .args(["--only", "device.others,disk.space", "--json", "--config"])
        .arg(&config)
        .output()
        .expect("our own program");
    let report = report(&output);
    assert_eq!(named(&report, "device.others")["verdict"], "FAIL");
    let space = named(&report, "disk.space")["reason"].as_str();
    let place = Path::new(folder.path()).display().to_string();
    assert!(
        space.is_some_and(|reason| reason.contains(&place)),
        "{space:?}"
    );
}
