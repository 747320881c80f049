//! The figures of a GPU on the double of NVIDIA's driver, beside the processor: every row is there, the
//! devices agree, each line can be traced, and one that is lost ends the run with a word of why. Peers on the same
//! card are a library of our own: who cannot be used, fails or is wrong is named and left out.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_caldera-bench");

fn measured(faults: &str, arguments: &[&str]) -> Output {
    let trial = [
        ["--json", "gpu", "--no-record", "--smaller", "14"],
        ["--rounds", "2", "--seconds", "0", "--take-overs=10"],
    ];
    run(faults, &trial.concat(), arguments)
}

/// Runs it where the double is the driver.
fn run(faults: &str, command: &[&str], arguments: &[&str]) -> Output {
    on_the_double(faults, |program| {
        program.args(command).args(arguments);
    })
}

fn lines(output: &Output) -> Vec<Value> {
    std::str::from_utf8(&output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn on_the_double(faults: &str, told: impl FnOnce(&mut Command)) -> Output {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let double: PathBuf = std::env::current_exe()
        .expect("this test")
        .with_file_name("libcaldera_cuda_double.so");
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(&double, folder.path().join(name)).expect("our folder");
    }
    let kernels = folder.path().join("kernels");
    std::fs::write(&kernels, caldera_cuda_double::bundle()).expect("our folder");
    let mut command = Command::new(BENCH);
    told(&mut command);
    command
        .env("LD_LIBRARY_PATH", folder.path())
        .env("CALDERA_CUDA_KERNELS", &kernels)
        .env(caldera_cuda_double::VARIABLE, faults)
        .output()
        .expect("our own program")
}

#[test]
fn every_row_has_a_line_that_can_be_traced() {
    let output = measured("", &["--device", "cuda:0,cpu"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let lines = lines(&output);
    let of = |device: &str, case: &str| {
        let is = |it: &&Value| it["who"] == device && it["case"] == format!("bn254 {case}");
        lines.iter().filter(is).count()
    };
    for (case, count) in [
        ("multiplications", 1),
        ("g1 msm", 2),
        ("g1 msm, tables", 2),
        ("g2 msm", 1),
        ("ntt", 1),
        ("proof", 1),
        ("proof, in the pool", 1),
        ("take-over of a g1 msm", 1),
        ("take-over of a g1 msm, first stage", 1),
    ] {
        assert_eq!(of("cuda:0", case), count, "{case}");
        // What the processor multiplies in registers is another bench's.
        let here = if case == "multiplications" { 0 } else { count };
        assert_eq!(of("cpu", case), here, "{case}");
    }
    for line in lines.iter().filter(|it| it["who"] == "cuda:0") {
        let silicon = &line["silicon"];
        assert_eq!(silicon["uuid"], "GPU-cacacaca-caca-caca-caca-cacacacaca00");
        assert_eq!(silicon["software"][0], "CUDA 13.0");
        let samples = silicon["samples"].as_array().expect("each run").len();
        assert_eq!(line["rounds"], samples, "{line}");
    }
    let sums = lines.iter().find(|it| it["case"] == "bn254 g1 msm");
    let clock = &sums.expect("one")["silicon"]["device_ms"];
    assert_eq!(clock.as_array().expect("by its own clock").len(), 2);
}

/// On the double of NVIDIA's driver, beside the double of a peer that has this fault: lines, and what was said.
fn beside_a_peer(fault: &str, only: &str) -> (Vec<Value>, String) {
    let library: PathBuf = std::env::current_exe()
        .expect("this test")
        .with_file_name("libcaldera_peer_double.so");
    let output = on_the_double("", |command| {
        command
            .args(["--json", "gpu", "--no-record", "--smaller", "14"])
            .args(["--rounds", "2", "--seconds", "0", "--device", "cuda:0"])
            .args(["--only", only, "--peer"])
            .arg(format!("sppark={}", library.display()))
            .env(caldera_peer_double::VARIABLE, fault);
    });
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{fault}: {errors}");
    (lines(&output), errors)
}

#[test]
fn a_peer_takes_turns_and_its_lines_name_the_card() {
    let (lines, said) = beside_a_peer("", "msm,msm-g2,ntt,proof");
    assert!(!said.contains("left out"), "{said}");
    let peers: Vec<&Value> = lines.iter().filter(|it| it["ours"] == false).collect();
    let cases: Vec<&str> = peers.iter().filter_map(|it| it["case"].as_str()).collect();
    let both = ["bn254 g1 msm", "bn254 g1 msm", "bn254 g2 msm", "bn254 ntt"];
    assert_eq!(cases, both);
    for line in peers {
        assert_eq!(line["who"], "sppark");
        let build = line["peer_build"].as_str().expect("who it is");
        assert!(build.starts_with("a double of ours") && build.contains("sha256 "));
        let silicon = &line["silicon"];
        assert_eq!(silicon["uuid"], "GPU-cacacaca-caca-caca-caca-cacacacaca00");
        let samples = silicon["samples"].as_array().expect("each run");
        assert_eq!(samples.len(), 2, "{line}");
        assert!(line["ratio"]["wall"].as_f64() > Some(0.0), "{line}");
    }
    // It proves nothing, and the proof is measured without it.
    assert_eq!(
        lines
            .iter()
            .filter(|it| it["case"] == "bn254 proof")
            .count(),
        1
    );
}

#[test]
fn a_peer_that_is_no_use_is_named_and_the_rest_is_measured() {
    for (fault, why) in [
        ("absent", "no CUDA driver"),
        ("abi", "expected ABI 1, got 2"),
        ("full", "laying out: the double was told to fail"),
        ("wrong", "its result in round 0 differs"),
        ("lost:1", "running: the double was told to fail"),
    ] {
        let (lines, said) = beside_a_peer(fault, "ntt");
        assert!(
            said.contains("the peer sppark is left out: "),
            "{fault}: {said}"
        );
        assert!(said.contains(why), "{fault}: {said}");
        let whose: Vec<&str> = lines.iter().filter_map(|it| it["who"].as_str()).collect();
        assert_eq!(whose, ["cuda:0"], "{fault}");
        assert_eq!(lines[0]["rounds"], 2, "{fault}");
    }
    let output = measured(
        "",
        &[
            "--device",
            "cpu",
            "--only",
            "ntt",
            "--peer=sppark=/no/such/library",
        ],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("/no/such/library"),
        "{said}"
    );
}

#[test]
fn ours_over_the_best_peer_is_told_of_kept_lines() {
    let folder = tempfile::tempdir().expect("a folder of our own");
    let kept = folder.path().join("lines");
    let (lines, _) = beside_a_peer("", "msm");
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&kept, text.join("\n")).expect("our folder");
    let best = |arguments: &[&str]| {
        let output = Command::new(BENCH).args(arguments).arg(&kept).output();
        String::from_utf8(output.expect("our own program").stdout).expect("text")
    };
    let table = best(&["best"]);
    assert!(
        table.contains("ours over it") && table.contains("<= 0.7: "),
        "{table}"
    );
    let json = best(&["--json", "best"]);
    let rows: Vec<Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 2, "a sum of either size");
    for (row, line) in rows.iter().zip(lines.chunks(2)) {
        assert_eq!(row["peer"]["name"], "sppark");
        let ratio = |it: &Value| it.as_f64().expect("a number");
        let apart = ratio(&row["ratio"]) - ratio(&line[1]["ratio"]["wall"]);
        assert!(apart.abs() < 1e-9, "{row}");
        assert!(row["peer"]["cpu_ms"].as_f64() > Some(0.0));
    }
}

#[test]
fn a_device_that_is_lost_ends_it_and_says_why() {
    let output = measured("fail:20", &["--device", "cuda:0", "--only", "msm"]);
    assert_eq!(output.status.code(), Some(70));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("CUDA_ERROR_LAUNCH_FAILED"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
}

#[test]
fn a_kernel_is_held_against_what_the_device_says_it_can_do() {
    let output = run(
        "",
        &["--json", "kernel", "--device", "cuda:0", "--kernel", "ntt"],
        &["--size", "2^6", "--rounds", "1"],
    );
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let line: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let peak = line["peak_multiplications_per_second"].as_f64();
    assert!(peak.is_some_and(|rate| rate > 0.0), "{line}");
}
