//! What an operator hears of each device: on two cards of the double of NVIDIA's driver, on one that fails in the
//! midst of it, and on lavapipe, an emulation of a GPU with a Vulkan driver. A driver that is missing fails here.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// All checks that have a part for each device, but for the conformance suite, which has tests of its own.
const CHECKS: &str = "device.figures,device.take-over,proof.devices,proof.together,proof.moved";

/// Runs them, so short that their times say nothing.
fn hwtest(checks: &str, devices: &str, variables: &[(&str, &OsStr)]) -> (Value, String) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
    let page = folder.path().join("report.html");
    let output = Command::new(env!("CARGO_BIN_EXE_caldera-hwtest"))
        .args(["--level", "3", "--shorten", "1000000", "--json"])
        .args(["--only", checks, "--devices", devices, "--html"])
        .arg(&page)
        .envs(variables.iter().copied())
        .output()
        .expect("our own program");
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("one JSON document: {error}: {errors}"));
    (report, fs::read_to_string(page).expect("the page"))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("a list of checks");
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing from {report:#}"))
}

fn part<'a>(report: &'a Value, name: &str, device: &str) -> &'a Value {
    let parts = check(report, name)["parts"].as_array();
    let found = parts.and_then(|parts| parts.iter().find(|part| part["device"] == device));
    found.unwrap_or_else(|| panic!("{name} says nothing of {device}: {report:#}"))
}

/// How long anything takes on a machine that tests is not what is tested; that it is right is.
fn is_right(report: &Value, devices: &[&str]) {
    for name in ["proof.devices", "proof.together", "proof.moved"] {
        assert_eq!(check(report, name)["verdict"], "PASS", "{report:#}");
    }
    let positive = |part: &Value, figure: &str| {
        let value = part["figures"][figure].as_f64();
        assert!(value.is_some_and(|value| value > 0.0), "{figure}: {part:#}");
    };
    for device in devices {
        let figures = part(report, "device.figures", device);
        assert_ne!(figures["verdict"], "FAIL", "{figures:#}");
        for kind in ["product", "multiply", "ntt", "msm-g1", "msm-g2"] {
            positive(figures, &format!("bn254.{kind}.2^8.per_second"));
        }
        for figure in ["upload_bytes_per_second", "download_bytes_per_second"] {
            positive(figures, figure);
        }
        positive(figures, "quantum_us_p50");
        for figure in ["name", "driver", "uuid"] {
            assert!(figures["figures"][figure].is_string(), "{figures:#}");
        }
        let taken = part(report, "device.take-over", device);
        assert_eq!(taken["figures"]["take_overs"], 5, "{taken:#}");
        for figure in ["take_over_us_p50", "take_over_quanta_max"] {
            positive(taken, figure);
        }
        assert_eq!(taken["limits"]["take_over_us_max"], 20_000.0, "{taken:#}");
        positive(part(report, "proof.devices", device), "proof_seconds");
        let moved = part(report, "proof.moved", device);
        positive(moved, "quanta");
        assert_eq!(moved["figures"]["done_again"], 0, "{moved:#}");
    }
    let moved = check(report, "proof.moved");
    assert!(moved["figures"]["moves"].as_u64() > Some(10), "{moved:#}");
    assert_eq!(moved["figures"]["done_twice"], 0, "{moved:#}");
    let within = moved["figures"]["within"].as_array().expect("kernels");
    let is_within = |kernel: &str| within.iter().any(|it| it == kernel);
    assert!(is_within("msm.accumulate"), "{moved:#}");
}

/// The double of NVIDIA's driver, where the system's would be.
struct Double {
    folder: TempDir,
    kernels: PathBuf,
}

impl Double {
    fn new() -> Double {
        let folder =
            tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder of our own");
        let double = std::env::current_exe()
            .expect("this test")
            .with_file_name("libcaldera_cuda_double.so");
        symlink(double, folder.path().join("libcuda.so.1")).expect("inside our folder");
        let kernels = folder.path().join("kernels");
        fs::write(&kernels, caldera_cuda_double::bundle()).expect("inside our folder");
        Double { folder, kernels }
    }

    fn hwtest(&self, checks: &str, devices: &str, faults: &str) -> (Value, String) {
        let variables = [
            ("LD_LIBRARY_PATH", self.folder.path().as_os_str()),
            ("CALDERA_CUDA_KERNELS", self.kernels.as_os_str()),
            (caldera_cuda_double::VARIABLE, faults.as_ref()),
        ];
        hwtest(checks, devices, &variables)
    }
}

#[test]
fn each_of_two_cards_has_its_figures_and_a_proof_moves_between_them() {
    let (report, page) = Double::new().hwtest(CHECKS, "cuda:0,cuda:1", "devices:2");
    is_right(&report, &["cuda:0", "cuda:1"]);
    let uuids = ["cuda:0", "cuda:1"].map(|device| {
        let part = part(&report, "device.figures", device);
        assert!(
            part["figures"]["memory_bytes"].as_u64() > Some(0),
            "{part:#}"
        );
        part["figures"]["uuid"].as_str().expect("a UUID").to_owned()
    });
    assert_ne!(uuids[0], uuids[1]);
    for text in uuids.iter().map(String::as_str).chain([
        "<th>cuda:0</th>",
        "take_over_quanta_p50",
        "(limit ",
    ]) {
        assert!(page.contains(text), "{text} is not on the page");
    }
}

/// A kernel that does nothing and says that all is well: no proof with it passes its own check.
#[test]
fn a_card_that_computes_wrongly_fails_every_proof() {
    let checks = "proof.devices,proof.moved";
    let (report, _) = Double::new().hwtest(checks, "cuda:0", "skip:ntt_shift");
    let alone = part(&report, "proof.devices", "cuda:0");
    assert_eq!(alone["verdict"], "FAIL", "{report:#}");
    let moved = check(&report, "proof.moved");
    assert_eq!(moved["verdict"], "FAIL", "{report:#}");
    // It says what each had done of it.
    assert!(moved["figures"]["quanta"].as_u64() > Some(0), "{moved:#}");
}

#[test]
fn a_card_that_is_lost_in_the_midst_of_it_fails_and_the_processor_does_not() {
    let (report, _) = Double::new().hwtest("device.figures", "cuda:0", "fail:9");
    let lost = part(&report, "device.figures", "cuda:0");
    assert_eq!(lost["verdict"], "FAIL", "{lost:#}");
    assert_eq!(part(&report, "device.figures", "cpu")["verdict"], "PASS");
    let reason = check(&report, "device.figures")["reason"].as_str();
    assert!(
        reason.is_some_and(|it| it.starts_with("cuda:0: ")),
        "{reason:?}"
    );
}

/// What `.ci/tools vulkan` has unpacked, as it says itself.
#[test]
fn a_gpu_with_a_vulkan_driver_has_them_too() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target");
    let file = target.join("tools/vulkan/environment");
    let text = fs::read_to_string(&file).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; `.ci/tools vulkan` brings it, `make test-rust` too",
            file.display()
        )
    });
    let variables: Vec<(&str, &OsStr)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
        .map(|(name, value)| (name, OsStr::new(value)))
        .collect();
    let (report, _) = hwtest(CHECKS, "wgpu:llvmpipe", &variables);
    is_right(&report, &["wgpu:llvmpipe"]);
}
