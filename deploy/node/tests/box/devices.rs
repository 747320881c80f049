//! Boxes on a device that lives in a process of its own and can be lost: ICICLE's double, loaded by
//! this package's `calderad` as on a box.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use caldera_icicle::{IcicleDevice, Setup};
use serde_json::json;

use crate::world::{World, material};

/// A box whose sums and transforms the double makes, until it fails as `fault` says.
fn a_box(fault: &str) -> World {
    let icicle = tempfile::tempdir().expect("a folder");
    let test = std::env::current_exe().expect("a running test has a path");
    let double = test.with_file_name("libcaldera_icicle_double.so");
    for file in [
        "libicicle_device.so",
        "libicicle_field_bn254.so",
        "libicicle_curve_bn254.so",
    ] {
        std::fs::copy(&double, icicle.path().join(file)).expect("the double, built for this test");
    }
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_calderad")));
    command
        .arg("--device-child")
        .env("CALDERA_DOUBLE_FAULT", fault)
        .env_remove("ICICLE_BACKEND_INSTALL_DIR");
    let setup = Setup {
        command,
        folder: icicle.path().to_owned(),
        kind: "CPU".into(),
        index: 0,
        patience: Duration::from_secs(5),
    };
    let folder = tempfile::tempdir().expect("a folder");
    World::start_on(folder, "development = true\nworkers = 2", |host| {
        IcicleDevice::start(host, setup).expect("the double starts")
    })
    .expect("the box starts")
}

/// Proves a few times; why the device is lost then, if it is, and what the processor did instead.
fn proves(world: &World) -> (Option<String>, u64) {
    let bank = world.client("bank");
    let (circuit, witness) = (
        bank.register(&material().zkey),
        bank.store(&material().witness),
    );
    let jobs: Vec<String> = (0..4).map(|_| bank.submit(&circuit, &witness)).collect();
    for job in &jobs {
        bank.proved(job);
    }
    let pool = world.client("operator").call("pool_statusV1", json!({}));
    let device = &pool["devices"][0];
    assert_eq!(device["kind"], "icicle", "{pool}");
    let files = device["software"].as_array().expect("files");
    assert_eq!(files.len(), 3, "{pool}");
    // A tenant need not know where they lie.
    let seen = bank.call("pool_statusV1", json!({}));
    assert_eq!(seen["devices"][0]["software"], json!([]), "{seen}");
    let lost = device["lost"].as_str().map(str::to_owned);
    (lost, device["fallenBack"].as_u64().expect("a count"))
}

#[test]
fn a_box_proves_on_a_device_in_another_process() {
    let world = a_box("");
    assert_eq!(proves(&world), (None, 0));
    let operator = world.client("operator");
    assert_eq!(operator.metric("caldera_device_lost{kind=\"icicle\"}"), 0.0);
    world.stop();
}

/// It answers with points of the curve, and wrong ones: no proof leaves with them, the job is proved by
/// the processor, and then it is known who was to blame.
#[test]
fn a_device_that_computes_wrongly_is_found_by_a_proof() {
    let world = a_box("wrong-msm:6");
    let (lost, _) = proves(&world);
    let lost = lost.unwrap_or_default();
    assert!(lost.contains("self-check refused the proof"), "{lost:?}");
    world.stop();
}

/// A witness that does not fit is its tenant's fault, and costs nobody the device.
#[test]
fn a_wrong_witness_is_not_the_devices_fault() {
    let world = a_box("");
    let bank = world.client("bank");
    let (circuit, wrong) = (
        bank.register(&material().zkey),
        bank.store(&material().wrong),
    );
    let status = bank.ended(&bank.submit(&circuit, &wrong));
    assert_eq!(status["state"], "failed", "{status}");
    assert_eq!(status["error"]["reason"], "selfCheckFailed", "{status}");
    let pool = bank.call("pool_statusV1", json!({}));
    assert!(pool["devices"][0].get("lost").is_none(), "{pool}");
    world.stop();
}

/// Jobs that were on it when it died end right, and so do those that come later.
#[test]
fn a_device_that_is_lost_takes_no_job_with_it() {
    // The self-test makes four sums; the first of them fails in the midst of the first proofs.
    for (fault, why) in [
        ("abort-msm:7", "signal 6"),
        ("hang-ntt:6", "no answer within"),
        ("astray-msm:9", "no point of the curve"),
    ] {
        let world = a_box(fault);
        let (lost, fallen_back) = proves(&world);
        let lost = lost.unwrap_or_default();
        assert!(lost.contains(why), "{fault}: {lost:?}");
        assert!(fallen_back > 0, "{fault}");
        let operator = world.client("operator");
        assert_eq!(operator.metric("caldera_device_lost{kind=\"icicle\"}"), 1.0);
        world.stop();
    }
}
