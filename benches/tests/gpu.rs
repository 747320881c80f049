//! The figures of a GPU on the double of NVIDIA's driver, beside the processor: every row is there, the
//! devices agree, each line can be traced, and one that is lost ends the run with a word of why.

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
    let folder = tempfile::tempdir().expect("a folder of our own");
    let double: PathBuf = std::env::current_exe()
        .expect("this test")
        .with_file_name("libcaldera_cuda_double.so");
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(&double, folder.path().join(name)).expect("our folder");
    }
    let kernels = folder.path().join("kernels");
    std::fs::write(&kernels, caldera_cuda_double::bundle()).expect("our folder");
    Command::new(BENCH)
        .args(command)
        .args(arguments)
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
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .expect("text")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
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
