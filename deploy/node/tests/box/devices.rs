//! Boxes on a device that lives in a process of its own and can be lost: ICICLE's double, loaded by
//! this package's `calderad` as on a box.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use caldera_icicle::{IcicleDevice, Setup};
use caldera_kernels::Device;
use caldera_kernels::relay::{Member, Relay};
use caldera_node::residence::room;
use caldera_prover::format::{Part, Zkey};
use serde_json::json;
use tempfile::TempDir;

use crate::seats::copy_len;
use crate::world::{Client, Material, World, larger, material, until};

/// The double, which fails as `fault` says, and the folder that it is loaded from.
fn double(fault: &str) -> (Setup, TempDir) {
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
        patience: Duration::from_secs(5),
        ..Setup::new(command, icicle.path().to_owned(), "CPU")
    };
    (setup, icicle)
}

/// A box of two cores on devices around the processor's.
fn on(device: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start_on(folder, "development = true\nworkers = 2", device);
    world.expect("the box starts")
}

/// A box whose sums and transforms the double makes.
fn a_box(fault: &str) -> World {
    let (setup, _icicle) = double(fault);
    on(|host| IcicleDevice::start(host, setup).expect("the double starts"))
}

/// A box where the double is a unit of the pool, beside the cores.
fn a_box_with_a_unit(fault: &str) -> World {
    let (setup, _icicle) = double(fault);
    with_a_unit(setup)
}

fn with_a_unit(setup: Setup) -> World {
    on(|host| {
        let unit = IcicleDevice::unit(Arc::clone(&host), setup).expect("the double starts");
        let member = |device, width| Member { device, width };
        Relay::new(vec![member(host, 2), member(unit, 1)])
    })
}

/// Proves until the double has done so much work for the tenant as `seen` asks for.
fn proves_until<T>(client: &Client, seen: impl Fn() -> Option<T>) -> T {
    let key = larger();
    let (circuit, witness) = (client.register(&key.zkey), client.store(&key.witness));
    until(|| {
        let jobs = [0; 3].map(|_| client.submit(&circuit, &witness));
        for job in &jobs {
            client.proved(job);
        }
        seen()
    })
}

#[test]
fn a_device_in_another_process_is_a_unit_of_the_pool() {
    let world = a_box_with_a_unit("");
    let (bank, operator) = (world.client("bank"), world.client("operator"));
    let seconds = "caldera_tenant_device_seconds_total{tenant=\"bank\"}";
    proves_until(&bank, || (operator.metric(seconds) > 0.0).then_some(()));
    let pool = operator.call("pool_statusV1", json!({}));
    let units = pool["units"].as_array().expect("units");
    assert_eq!(units.len(), 3, "{pool}");
    let name = units[2]["device"].as_str().unwrap_or_default();
    assert!(name.contains("CPU:0"), "{pool}");
    let rows = pool["devices"].as_array().expect("devices");
    let kinds: Vec<_> = rows.iter().map(|row| row["kind"].as_str()).collect();
    assert_eq!(kinds, [Some("cpu"), Some("icicle")], "{pool}");
    assert!(rows.iter().all(|row| row.get("lost").is_none()), "{pool}");
    assert_eq!(rows[1]["name"], units[2]["device"], "{pool}");
    assert_eq!(rows[0]["software"], json!([]), "{pool}");
    assert_eq!(
        rows[1]["software"].as_array().map(Vec::len),
        Some(3),
        "{pool}"
    );
    // A witness that does not fit is its tenant's fault here too.
    let wrong = bank.store(&material().wrong);
    let status = bank.ended(&bank.submit(&bank.register(&material().zkey), &wrong));
    assert_eq!(status["error"]["reason"], "selfCheckFailed", "{status}");
    assert_eq!(operator.metric("caldera_units_fenced"), 0.0);
    world.stop();
}

/// Its process dies in the midst of a proof: the unit leaves the pool, and every job ends right.
#[test]
fn a_unit_whose_process_dies_leaves_the_pool() {
    for (fault, why) in [
        ("abort-msm:7", "signal 6"),
        ("hang-ntt:6", "no answer within"),
    ] {
        let world = a_box_with_a_unit(fault);
        let (bank, operator) = (world.client("bank"), world.client("operator"));
        proves_until(&bank, || {
            (operator.metric("caldera_units_fenced") == 1.0).then_some(())
        });
        let pool = operator.call("pool_statusV1", json!({}));
        assert!(pool["units"][2]["owner"].is_null(), "{pool}");
        let lost = pool["devices"][1]["lost"].as_str().unwrap_or_default();
        assert!(lost.contains(why), "{fault}: {pool}");
        assert!(pool["devices"][0].get("lost").is_none(), "{pool}");
        // It was lost and computed nothing wrong; and who does in its place does it without beginning a proof again.
        assert_eq!(operator.metric("caldera_proofs_disagreed_total"), 0.0);
        for (labels, lost) in [
            ("kind=\"cpu\",member=\"0\"", 0.0),
            ("kind=\"icicle\",member=\"1\"", 1.0),
        ] {
            let metric = |name: &str| operator.metric(&format!("{name}{{{labels}}}"));
            assert_eq!(metric("caldera_device_lost"), lost, "{fault}: {labels}");
            let fallen_back = metric("caldera_device_fallen_back_total");
            assert_eq!(fallen_back > 0.0, lost > 0.0, "{fault}: {labels}");
        }
        world.stop();
    }
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
    assert_eq!(
        operator.metric("caldera_device_lost{kind=\"icicle\",member=\"0\"}"),
        0.0
    );
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
        assert_eq!(
            operator.metric("caldera_device_lost{kind=\"icicle\",member=\"0\"}"),
            1.0
        );
        world.stop();
    }
}

/// The child says how much memory its device has, and keeps no matrices. So a key whose points fit is there as a whole, though its
/// file is larger than the room, and goes as a whole for another tenant's.
#[test]
fn a_key_makes_way_on_a_device_in_another_process() {
    let points = |of: &Material| -> u64 {
        let zkey = Zkey::parse(of.zkey.clone().into()).expect("a key");
        let parts = [Part::A, Part::B1, Part::B2, Part::C, Part::H];
        parts.iter().map(|part| zkey.part(*part).len() as u64).sum()
    };
    let [large, small] = [larger(), material()].map(points);
    let memory = (large + small / 2) / 3 * 4;
    let there = room(memory);
    assert!(large <= there && large + small > there);
    assert!(copy_len(larger()) > there, "{there}");
    let (mut setup, _icicle) = double("");
    setup
        .command
        .env("CALDERA_DOUBLE_MEMORY", memory.to_string());
    let world = with_a_unit(setup);
    let [operator, bank, chat] = ["operator", "bank", "chat"].map(|name| world.client(name));
    let pool = || operator.call("pool_statusV1", json!({}));
    assert_eq!(pool()["units"][2]["memoryBytes"], there);
    let has = |name: &str| {
        let pool = pool();
        let tenants = pool["tenants"].as_array().expect("tenants");
        let found = tenants.iter().find(|it| it["tenant"] == name);
        let bytes = found.expect("it is there")["detail"]["deviceBytes"].as_u64();
        bytes.expect("a number")
    };
    let of_chat = (chat.register(&larger().zkey), chat.store(&larger().witness));
    until(|| (has("chat") == large).then_some(()));
    let of_bank = (
        bank.register(&material().zkey),
        bank.store(&material().witness),
    );
    let jobs = [0; 3].map(|_| chat.submit(&of_chat.0, &of_chat.1));
    until(|| {
        bank.proved(&bank.submit(&of_bank.0, &of_bank.1));
        (has("bank") == small && has("chat") == 0).then_some(())
    });
    for job in &jobs {
        chat.proved(job);
    }
    let evictions = operator.metric("caldera_device_evictions_total{outcome=\"ordered\"}");
    assert!(evictions >= 1.0, "{evictions}");
    assert!(pool()["devices"][1].get("lost").is_none());
    world.stop();
}

/// Of two units one computes wrongly: a proof finds that out, a try of each finds which one, and the other stays.
#[test]
fn of_two_devices_the_one_that_computes_wrongly_leaves_the_pool() {
    let (wrong, _icicle) = double("wrong-msm:6");
    let (right, _other) = double("");
    let world = on(|host| {
        let unit = |setup| IcicleDevice::unit(Arc::clone(&host), setup).expect("the double starts");
        let units = [unit(right), unit(wrong)].map(|device| -> Arc<dyn Device> { device });
        let others = units.map(|device| Member { device, width: 1 });
        let mut members = vec![Member {
            device: Arc::clone(&host),
            width: 2,
        }];
        members.extend(others);
        Relay::new(members)
    });
    let (bank, operator) = (world.client("bank"), world.client("operator"));
    proves_until(&bank, || {
        (operator.metric("caldera_units_fenced") == 1.0).then_some(())
    });
    let pool = operator.call("pool_statusV1", json!({}));
    let lost = pool["devices"][2]["lost"].as_str().unwrap_or_default();
    assert!(lost.contains("is not what the host computes"), "{pool}");
    assert!(pool["devices"][1].get("lost").is_none(), "{pool}");
    assert!(operator.metric("caldera_proofs_disagreed_total") >= 1.0);
    world.stop();
}
