//! Ranges for profilers, told to a double of one. A process is attached to once, by its environment, so each case is a process of its
//! own: this test again.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use caldera_cuda::CudaDevice;
use caldera_cuda_emulation::Emulation;
use caldera_kernels::curve::{Affine, Bn254, Coordinate, Curve};
use caldera_kernels::{CurveId, Device, Form, Group, Progress, Work};

/// Cargo puts examples into a folder beside that of tests. It builds them with all tests, and with this one alone if asked
/// to: `--test nvtx --examples`.
fn double() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let target = test.ancestors().nth(2).expect("a folder of the build's");
    let library = target.join("examples/libnvtx_double.so");
    assert!(library.is_file(), "no {}", library.display());
    library
}

/// What a sum told the profiler, line by line.
fn told(library: Option<&Path>, writes: bool) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = folder.path().join("lines");
    let mut command = Command::new(std::env::current_exe().expect("a path"));
    command
        .args(["--exact", "a_sum_under_a_profiler"])
        .env("CALDERA_NVTX_TEST", "1")
        .env_remove("NVTX_INJECTION64_PATH")
        .env_remove("CALDERA_NVTX_DOUBLE");
    if let Some(library) = library {
        command.env("NVTX_INJECTION64_PATH", library);
    }
    if writes {
        command.env("CALDERA_NVTX_DOUBLE", &lines);
    }
    let status = command.status().expect("this test starts");
    assert!(status.success(), "{status}");
    let text = std::fs::read_to_string(&lines).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

const POINTS: usize = 200;

/// What the others start, and nothing where nobody does.
#[test]
fn a_sum_under_a_profiler() {
    if std::env::var_os("CALDERA_NVTX_TEST").is_none() {
        return;
    }
    let device = CudaDevice::new(Emulation::new(), Duration::from_millis(2)).expect("all kernels");
    let mut points = vec![0; POINTS * Affine::<<Bn254 as Curve>::Fq>::BYTES];
    for point in points.chunks_mut(Affine::<<Bn254 as Curve>::Fq>::BYTES) {
        <<Bn254 as Curve>::Fq as Coordinate>::GENERATOR.to_bytes(point);
    }
    let bases = device.bases(CurveId::Bn254, Group::G1, Bytes::from(points));
    let bases = bases.expect("room");
    let scalars = device.vector(CurveId::Bn254, POINTS).expect("room");
    let bytes: Vec<u8> = (0..POINTS * 32).map(|i| (i % 32) as u8).collect();
    device.vector_write(scalars, 0, &bytes).expect("it fits");
    let work = Work::Msm {
        bases,
        scalars,
        offset: 0,
        form: Form::Canonical,
    };
    let plan = device.plan(&work).expect("a sum");
    for stage in 0..plan.stages() {
        plan.open(stage).expect("the next stage");
        while plan.run(stage, 0).expect("a quantum") == Progress::More {}
    }
    assert!(plan.point().is_some());
}

#[test]
fn a_profiler_is_told_of_stages_and_launches() {
    let lines = told(Some(&double()), true);
    assert_eq!(
        lines.first().map(String::as_str),
        Some("attached"),
        "{lines:?}"
    );
    let (mut open, mut pushed, mut stages) = (HashSet::new(), 0, Vec::new());
    let mut launches = HashSet::new();
    for line in &lines[1..] {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["start", range, stage, size] => {
                assert!(open.insert(range), "{line}");
                assert_eq!(open.len(), 1, "one stage at a time: {line}");
                stages.push((stage, size.parse::<u64>().expect("a number")));
            }
            ["end", range] => {
                assert!(open.remove(range), "{line}");
                assert_eq!(pushed, 0, "launches are within their stage: {line}");
            }
            ["push", launch, size] => {
                pushed += 1;
                assert!(size.parse::<u64>().expect("a number") > 0, "{line}");
                let (stage, _) = stages.last().expect("within a stage");
                assert!(launch.starts_with(stage), "{line}");
                launches.insert(launch);
            }
            ["pop"] => {
                assert!(pushed > 0, "{line}");
                pushed -= 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert_eq!(pushed, 0);
    assert!(open.is_empty(), "{open:?}");
    let names: Vec<&str> = stages.iter().map(|stage| stage.0).collect();
    assert_eq!(
        names,
        ["msm.count", "msm.sort", "msm.accumulate", "msm.fold"]
    );
    assert!(stages[0].1 >= POINTS as u64, "{stages:?}");
    assert!(launches.len() >= 4, "{launches:?}");
}

#[test]
fn nothing_is_told_where_nobody_listens() {
    // Nobody, one who refuses, what is not there, and what is a library of something else.
    assert!(told(None, true).is_empty());
    assert!(told(Some(&double()), false).is_empty());
    assert!(told(Some(Path::new("/nonexistent/tool.so")), true).is_empty());
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux");
    let mut files = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    let other = files.find(|path| path.contains("/libc.so") || path.contains("/libc-"));
    let other = other.expect("this process has loaded a C library");
    assert!(told(Some(Path::new(other)), true).is_empty());
}
