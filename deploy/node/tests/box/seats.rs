//! Boxes whose pool has a device beside the cores: a second device of the processor's, behind the relay as a
//! GPU is.
//!
//! The dangers: a device that nobody hands over, whose quanta run for whoever comes; work that waits for a
//! device that has gone to somebody else, or is lost; a device full of keys that nobody proves with, while its owner's
//! own finds no room; a job that ends wrong or never because of any of these.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Price, Relay};
use caldera_kernels::{Around, BasesId, CurveId, Device, DeviceError, Site};
use caldera_node::numa::Nodes;
use caldera_node::residence::room;
use caldera_prover::format::Zkey;
use caldera_prover::groth16::ProvingKey;
use serde_json::json;

use crate::world::{Client, Material, World, larger, material, until};

/// How many quanta each thread has run on the device, by the thread's name.
type Ran = Arc<Mutex<BTreeMap<String, usize>>>;

/// A box of two cores and a device, which is lost after so many quanta. No tables are made there, which is done by another thread
/// than those that are watched here.
fn a_box(quanta_max: usize) -> (World, Ran) {
    let ran = Ran::default();
    let counts = Arc::clone(&ran);
    let folder = tempfile::tempdir().expect("a folder");
    let lines = "development = true\nworkers = 2\n[limits]\ndevice_table_times = 0\n";
    let world = World::start_on(folder, lines, |host| {
        let quantum = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let mut counts = counts.lock().expect("whole");
            if counts.values().sum::<usize>() >= quanta_max {
                return Err(DeviceError::Lost {
                    device: "the second".into(),
                    why: "its time had come".into(),
                });
            }
            *counts.entry(name).or_default() += 1;
            drop(counts);
            quantum()
        };
        let beside = Around::new(plain(), Arc::new(quantum));
        let member = |device, width| Member { device, width };
        Relay::new(vec![member(host, 2), member(beside, 1)])
    });
    (world.expect("the box starts"), ran)
}

fn plain() -> Arc<CpuDevice> {
    CpuDevice::new(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: 2,
    })
}

/// Bytes of a key on a device.
pub(crate) fn copy_len(of: &Material) -> u64 {
    let zkey = Zkey::parse(of.zkey.clone().into()).expect("a key");
    let key = ProvingKey::load(&zkey, plain()).expect("it loads");
    key.copy_len() as u64
}

/// How many sets of points a device knows.
fn known(device: &CpuDevice) -> usize {
    let points = |id: &u64| device.tables_bytes(BasesId(*id)).is_ok();
    (0..100_000).filter(points).count()
}

/// There is room for the large key or for the small one. The large one is there first; then the tenant of the small one
/// proves, and the arbiter asks the other for room, whose jobs go on meanwhile.
#[test]
fn an_owner_of_a_device_gets_room_for_its_key_from_others() {
    let [large, small] = [larger(), material()].map(copy_len);
    let memory = (large + small / 2) / 3 * 4;
    let there = room(memory);
    assert!(large <= there, "{large} of {there}");
    assert!(large + small > there, "{large} and {small} of {there}");
    let second = plain();
    let device = Arc::clone(&second);
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start_on(folder, "development = true\nworkers = 2", |host| {
        let site = Site {
            memory: Some(memory),
            // Of a bus that no machine has.
            pci: Some("ffff:ff:1f.7".into()),
            uuid: None,
        };
        let quantum = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
        let beside = Around::at(site, device, Arc::new(quantum));
        let member = |device, width| Member { device, width };
        Relay::new(vec![member(host, 2), member(beside, 1)])
    });
    let world = world.expect("the box starts");
    let [operator, bank, chat] = ["operator", "bank", "chat"].map(|name| world.client(name));
    let pool = || operator.call("pool_statusV1", json!({}));
    let bytes = |pool: &serde_json::Value| {
        let of_tenant = |name: &str| {
            let tenants = pool["tenants"].as_array().expect("tenants");
            let found = tenants.iter().find(|it| it["tenant"] == name);
            found.expect("it is there")["detail"]["deviceBytes"].as_u64()
        };
        let on_device = pool["units"][2]["keyBytes"].as_u64();
        [on_device, of_tenant("chat"), of_tenant("bank")].map(|it| it.expect("a number"))
    };

    let of_chat = (chat.register(&larger().zkey), chat.store(&larger().witness));
    let of_bank = (
        bank.register(&material().zkey),
        bank.store(&material().witness),
    );
    let before = until(|| {
        let seen = pool();
        (bytes(&seen) == [large, large, 0]).then_some(seen)
    });
    assert_eq!(before["units"][2]["memoryBytes"], there, "{before}");
    assert!(before["units"][2].get("numaNode").is_none(), "{before}");
    let core = before["units"][0]["core"].as_u64().expect("a core");
    let node = Nodes::here().of_core(usize::try_from(core).expect("a small number"));
    assert_eq!(
        before["units"][0]["numaNode"].as_u64(),
        node.map(u64::from),
        "{before}"
    );
    assert!(before["units"][0].get("keyBytes").is_none(), "{before}");

    let jobs = [0; 3].map(|_| chat.submit(&of_chat.0, &of_chat.1));
    bank.proved(&bank.submit(&of_bank.0, &of_bank.1));
    for job in &jobs {
        chat.proved(job);
    }
    let name = "caldera_tenant_device_bytes";
    until(|| {
        bank.proved(&bank.submit(&of_bank.0, &of_bank.1));
        let told = metric(&operator, name, "tenant=\"bank\"");
        let is_there = bytes(&pool()) == [small, 0, small] && told == small as f64;
        // Points of five queries: those of the small key, and no others.
        (is_there && known(&second) == 5).then_some(())
    });
    let evictions = metric(
        &operator,
        "caldera_device_evictions_total",
        "outcome=\"ordered\"",
    );
    assert!(evictions >= 1.0, "{evictions}");
    // Without a copy there, and with one, whose tables have what it leaves.
    chat.proved(&chat.submit(&of_chat.0, &of_chat.1));
    let tables = until(|| {
        bank.proved(&bank.submit(&of_bank.0, &of_bank.1));
        let pool = pool();
        let tables = pool["units"][2]["tableBytes"].as_u64();
        tables.filter(|bytes| *bytes > 0)
    });
    assert!(tables <= there - small, "{tables} of {there}");
    bank.proved(&bank.submit(&of_bank.0, &of_bank.1));

    // What goes by itself is told too.
    for (tenant, (circuit, _)) in [(&bank, &of_bank), (&chat, &of_chat)] {
        tenant.call("prover_unregisterCircuitV1", json!({ "circuit": circuit }));
    }
    until(|| (bytes(&pool()) == [0, 0, 0]).then_some(()));
    until(|| (known(&second) == 0).then_some(()));
    world.stop();
}

fn metric(client: &Client, name: &str, labels: &str) -> f64 {
    client.metric(&format!("{name}{{{labels}}}"))
}

/// Registers a key for each of two tenants, and waits until both are on the device.
fn register(world: &World) {
    for name in ["chat", "bank"] {
        world.client(name).register(&larger().zkey);
    }
    let (operator, both) = (world.client("operator"), 2 * copy_len(larger()));
    until(|| {
        let pool = operator.call("pool_statusV1", json!({}));
        (pool["units"][2]["keyBytes"] == both).then_some(())
    });
}

/// Proves so often for each of two tenants at once.
fn prove(world: &World, times: usize) {
    let clients = [world.client("chat"), world.client("bank")];
    let key = larger();
    let jobs = clients.each_ref().map(|client| {
        let (circuit, witness) = (client.register(&key.zkey), client.store(&key.witness));
        let submit = |_| client.submit(&circuit, &witness);
        (0..times).map(submit).collect::<Vec<_>>()
    });
    for (client, jobs) in clients.iter().zip(&jobs) {
        for job in jobs {
            client.proved(job);
        }
    }
}

#[test]
fn a_device_is_handed_over_like_a_core_and_works_on_a_thread_of_its_own() {
    let (world, ran) = a_box(usize::MAX);
    register(&world);
    prove(&world, 6);
    let operator = world.client("operator");
    let pool = operator.call("pool_statusV1", json!({}));
    let units = pool["units"].as_array().expect("units");
    assert_eq!(units.len(), 3, "{pool}");
    assert!(units[0].get("device").is_none(), "{pool}");
    assert!(units[2]["device"].is_string(), "{pool}");
    // Given out, given back, and given to the other: twice at least.
    assert!(units[2]["epoch"].as_u64() >= Some(2), "{pool}");
    let causes = pool["reallocations"]["causes"].as_array().expect("causes");
    let of_device = causes.iter().filter(|it| it["resource"] == "device");
    let count: u64 = of_device.filter_map(|it| it["count"].as_u64()).sum();
    assert!(count >= 1, "{pool}");
    let name = "caldera_reallocation_seconds_count";
    let by = ["demand", "release", "turn", "measured", "ageing", "overrun"];
    let counted = by.map(|it| {
        metric(
            &operator,
            name,
            &format!("resource=\"device\",cause=\"{it}\""),
        )
    });
    assert!(counted.iter().sum::<f64>() >= count as f64, "{counted:?}");
    let name = "caldera_tenant_device_seconds_total";
    let time = ["bank", "chat"].map(|it| metric(&operator, name, &format!("tenant=\"{it}\"")));
    assert!(time.iter().sum::<f64>() > 0.0, "{time:?}");
    // A core may be for a moment, on a machine with other work.
    until(|| (operator.metric("caldera_units_fenced") == 0.0).then_some(()));
    world.stop();
    let ran = ran.lock().expect("whole");
    assert!(
        ran.get("device-1").is_some_and(|quanta| *quanta > 0),
        "{ran:?}"
    );
}

/// Lost at its first quantum, and in the midst of a piece of work.
#[test]
fn a_device_that_is_lost_leaves_the_pool_and_takes_no_job_with_it() {
    for quanta_max in [0, 3] {
        let (world, ran) = a_box(quanta_max);
        register(&world);
        prove(&world, 4);
        let operator = world.client("operator");
        until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
        let pool = operator.call("pool_statusV1", json!({}));
        assert!(pool["units"][2]["owner"].is_null(), "{pool}");
        let lost = pool["devices"][1]["lost"].as_str().unwrap_or_default();
        assert!(lost.contains("its time had come"), "{pool}");
        // And the box goes on without.
        prove(&world, 1);
        until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
        world.stop();
        let ran = ran.lock().expect("whole");
        assert_eq!(ran.values().sum::<usize>(), quanta_max, "{ran:?}");
    }
}

/// Of two devices one is lost with what only it had, so that a proof has to be made again: that one leaves, and the other stays.
#[test]
fn a_loss_that_costs_a_proof_its_first_try_costs_no_other_device() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = World::start_on(folder, "development = true\nworkers = 2", |host| {
        let dies = |kernel: &'static str, quantum: &mut dyn FnMut() -> _| match kernel {
            // By now the three vectors are nowhere else.
            "vector.multiply_subtract" => Err(DeviceError::Lost {
                device: "the second".into(),
                why: "its time had come".into(),
            }),
            _ => quantum(),
        };
        let lives = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
        let mortal = Around::new(plain(), Arc::new(dies));
        let immortal = Around::new(plain(), Arc::new(lives));
        let member = |device, width| Member { device, width };
        let relay = Relay::new(vec![
            member(host, 2),
            member(mortal, 1),
            member(immortal, 1),
        ]);
        let kinds = ["product", "multiply", "ntt"].into_iter();
        let prices = kinds.flat_map(|kind| {
            (0..3).map(move |member| Price {
                member,
                kind,
                curve: CurveId::Bn254,
                log2: 13,
                // The one that dies does these, whenever it may.
                nanoseconds: if member == 1 { 1 } else { 1 << 40 },
            })
        });
        relay.believe(&prices.collect::<Vec<_>>());
        relay
    });
    let world = world.expect("the box starts");
    let operator = world.client("operator");
    until(|| {
        prove(&world, 2);
        (operator.metric("caldera_units_fenced") == 1.0).then_some(())
    });
    let pool = operator.call("pool_statusV1", json!({}));
    let lost = |at: usize| pool["devices"][at]["lost"].as_str();
    assert!(
        lost(1).is_some_and(|why| why.contains("its time had come")),
        "{pool}"
    );
    assert_eq!((lost(0), lost(2)), (None, None), "{pool}");
    assert_eq!(operator.metric("caldera_proofs_disagreed_total"), 0.0);
    prove(&world, 1);
    assert_eq!(operator.metric("caldera_units_fenced"), 1.0);
    world.stop();
}

/// It goes while nobody has anything to prove: that is seen, and nobody is given it.
#[test]
fn a_device_that_goes_while_nobody_uses_it_leaves_the_pool() {
    let folder = tempfile::tempdir().expect("a folder");
    let quantum = |_: &'static str, quantum: &mut dyn FnMut() -> _| quantum();
    let beside = Around::new(plain(), Arc::new(quantum));
    let device = Arc::clone(&beside);
    let world = World::start_on(folder, "development = true\nworkers = 2", |host| {
        let member = |device, width| Member { device, width };
        Relay::new(vec![member(host, 2), member(device, 1)])
    });
    let world = world.expect("the box starts");
    let operator = world.client("operator");
    let labels = "kind=\"cpu\",member=\"1\"";
    assert_eq!(metric(&operator, "caldera_device_lost", labels), 0.0);
    beside.lose("somebody has pulled it out");
    until(|| (operator.metric("caldera_units_fenced") == 1.0).then_some(()));
    assert_eq!(metric(&operator, "caldera_device_lost", labels), 1.0);
    let pool = operator.call("pool_statusV1", json!({}));
    let lost = pool["devices"][1]["lost"].as_str().unwrap_or_default();
    assert!(lost.contains("pulled it out"), "{pool}");
    prove(&world, 1);
    world.stop();
}
