//! Quiet tenants give storage back, and nobody's proof is wrong, lost or late for it.
//!
//! A tenant is quiet when the policy says so, and the policy is read again while the box runs: so each
//! test sets its scene under a policy by which nobody is ever quiet, puts another one in its place
//! by which everybody is at once, and waits for what is written down.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::world::{Client, Material, World, digest, larger, material, until};

/// A box with a folder of sources and a policy that can be changed.
struct Scene {
    world: World,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("keys")).expect("made");
        Scene::start(folder)
    }

    fn start(folder: tempfile::TempDir) -> Scene {
        write_policy(folder.path(), "");
        let lines = format!(
            "development = true\npolicy_file = 'policy.toml'\n[storage]\nkey_sources = [{:?}]\n",
            folder.path().join("keys")
        );
        let world = World::start(folder, &lines).expect("the box starts");
        Scene { world }
    }

    /// What is needed to be quiet, of both classes.
    fn quiet(&self, give_back: &str) {
        write_policy(self.world.folder.path(), give_back);
        assert!(self.world.node.reload_policy().expect("a policy"));
        // Goes through the arbiter behind the policy, and comes back behind its word on it.
        self.world
            .client("operator")
            .call("pool_statusV1", json!({}));
    }

    /// Writes a source; its path.
    fn source(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.world.folder.path().join("keys").join(name);
        std::fs::write(&path, bytes).expect("written");
        path.to_str().expect("text").to_owned()
    }

    /// Bytes of a tenant's files.
    fn on_disk(&self, tenant: &str) -> u64 {
        let folder: PathBuf = self.world.folder.path().join("data/blobs/tenants");
        let Ok(files) = std::fs::read_dir(folder.join(tenant)) else {
            return 0;
        };
        let lengths = files.map(|file| file.and_then(|file| file.metadata()));
        lengths.map(|it| it.expect("a file").len()).sum()
    }
}

fn write_policy(folder: &Path, give_back: &str) {
    let text: String = [("financial", 9), ("social", 1)]
        .map(|(name, value)| {
            let table = match give_back {
                "" => String::new(),
                keys => format!("[classes.{name}.give_back]\n{keys}\n"),
            };
            format!("[classes.{name}]\nvalue = {value}\nguarantee_percent = 0\n{table}")
        })
        .concat();
    std::fs::write(folder.join("policy.toml"), text).expect("written");
}

/// Registers a key with a source and waits until it is ready.
fn register(client: &Client, key: &Material, source: &str) -> String {
    let circuit = client.store(&key.zkey);
    let params = json!({ "zkey": circuit, "source": source });
    client.call("prover_registerCircuitV1", params);
    let info = client.settled_circuit();
    assert_eq!(info["state"], "ready", "{info}");
    assert_eq!(info["resident"], true, "{info}");
    assert_eq!(info["source"], source);
    circuit
}

fn storage(client: &Client) -> Value {
    client.call("pool_storageV1", json!({}))
}

/// The tenant's release of that number among its own, once it is written down.
fn release(client: &Client, at: usize) -> Value {
    until(|| {
        let status = storage(client);
        let done = status["tenants"][0]["quiet"] == true;
        let release = status["releases"].get(at).filter(|_| done)?;
        Some(release.clone())
    })
}

fn sum(of: &Value) -> u64 {
    let kinds = ["tablesBytes", "keysBytes", "blobsBytes"];
    kinds
        .map(|kind| of[kind].as_u64().expect("a number"))
        .iter()
        .sum()
}

fn resident(client: &Client) -> Value {
    client.call("prover_listCircuitsV1", json!({}))[0]["resident"].clone()
}

const AT_ONCE: &str = "quiet_ms = 1";
const NEVER: &str = "quiet_ms = 31536000000";

#[test]
fn four_fifths_are_back_and_every_later_proof_is_right() {
    let scene = Scene::new();
    let (chat, bank) = (scene.world.client("chat"), scene.world.client("bank"));
    let key = larger();
    let source = scene.source("larger.zkey", &key.zkey);
    let circuits = [&bank, &chat].map(|tenant| register(tenant, key, &source));
    let witnesses = [&bank, &chat].map(|tenant| tenant.store(&key.witness));
    // One proves before there is room for tables, and has none.
    scene.world.node.grant_tables(0);
    bank.proved(&bank.submit(&circuits[0], &witnesses[0]));
    scene.world.node.grant_tables(1 << 30);
    chat.proved(&chat.submit(&circuits[1], &witnesses[1]));
    until(|| (storage(&chat)["tenants"][0]["tablesBytes"].as_u64() > Some(0)).then_some(()));
    assert_eq!(storage(&bank)["tenants"][0]["tablesBytes"], 0);
    // A blob that nobody has used is the last to go, and is not needed for four fifths.
    let kept = [&bank, &chat].map(|tenant| tenant.store(&[7; 100]));

    scene.quiet(AT_ONCE);
    for (tenant, name) in [(&bank, "bank"), (&chat, "chat")] {
        let release = release(tenant, 0);
        assert_eq!(release["tenant"], name);
        let held = release["heldBytes"].as_u64().expect("a number");
        let back = sum(&release);
        assert!(5 * back >= 4 * held, "{release}");
        assert_eq!(release["shortBytes"], 0);
        assert_eq!(release.get("takenAgainMs"), None);
        let now = storage(tenant);
        assert_eq!(sum(&now["tenants"][0]), held - back, "{now}");
        let files = scene.on_disk(name);
        assert_eq!(files, held - back, "nothing but files is left");
        assert!(files >= 100, "{files}");
        assert_eq!(now["releases"].as_array().map(Vec::len), Some(1));
    }
    // The one with tables had enough in them and its spent witness; the other gave its key.
    let released = [&bank, &chat].map(|tenant| storage(tenant)["releases"][0].clone());
    assert_eq!(released[0]["tablesBytes"], 0);
    assert_eq!(released[0]["keysBytes"], key.zkey.len());
    assert!(released[1]["tablesBytes"].as_u64() > Some(0));
    assert_eq!(resident(&bank), false);
    let operator = scene.world.client("operator");
    let all = storage(&operator);
    assert_eq!(all["releases"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["tenants"].as_array().map(Vec::len), Some(2), "{all}");
    let (_, metrics) = operator.get("/metrics");
    let line = format!(
        "caldera_storage_given_back_bytes_total{{kind=\"keys\"}} {}",
        released
            .iter()
            .filter_map(|it| it["keysBytes"].as_u64())
            .sum::<u64>()
    );
    assert!(metrics.contains(&line), "{line}\n{metrics}");

    scene.quiet(NEVER);
    assert_eq!(
        [&bank, &chat].map(|it| it.put(&kept[0], &[7; 100])),
        [200; 2]
    );
    for (tenant, circuit) in [(&bank, &circuits[0]), (&chat, &circuits[1])] {
        let witness = tenant.store(&key.witness);
        // Several wait for the key, and all are proved.
        let jobs: Vec<String> = (0..6).map(|_| tenant.submit(circuit, &witness)).collect();
        for job in &jobs {
            tenant.proved(job);
        }
        assert_eq!(resident(tenant), true);
        let status = storage(tenant);
        assert_eq!(status["tenants"][0]["quiet"], false, "{status}");
        assert!(status["releases"][0]["takenAgainMs"].is_u64(), "{status}");
    }
    scene.world.stop();
}

#[test]
fn what_an_unproved_job_needs_stays() {
    let scene = Scene::new();
    let chat = scene.world.client("chat");
    let key = larger();
    let source = scene.source("larger.zkey", &key.zkey);
    let circuit = register(&chat, key, &source);
    let witness = chat.store(&key.witness);
    let idle = chat.store(&[7; 4_000]);
    let jobs: Vec<String> = (0..20).map(|_| chat.submit(&circuit, &witness)).collect();
    // With so many jobs it is quiet all the same.
    scene.quiet("quiet_ms = 1\njobs = 100");
    let release = until(|| storage(&chat)["releases"].get(0).cloned());
    let last = chat.status(&jobs[19]);
    assert_eq!(last["state"], "queued", "{last}");
    assert_eq!(release["keysBytes"], 0, "{release}");
    assert_eq!(release["blobsBytes"], 4_000, "{release}");
    assert!(release["shortBytes"].as_u64() > Some(0), "{release}");
    let reason = release["shortReason"].as_str().expect("a reason");
    assert!(reason.contains("needed by unfinished jobs"), "{reason}");
    assert_eq!(chat.delete(&idle), 404);
    assert_eq!(chat.put(&witness, &key.witness), 200, "it is there");
    scene.quiet(NEVER);
    for job in &jobs {
        chat.proved(job);
    }
    scene.world.stop();
}

#[test]
fn a_key_without_a_source_stays() {
    let scene = Scene::new();
    let bank = scene.world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    bank.proved(&bank.submit(&circuit, &witness));
    until(|| (storage(&bank)["tenants"][0]["tablesBytes"].as_u64() > Some(0)).then_some(()));
    scene.quiet("quiet_ms = 1\nheld_percent = 100");
    let release = release(&bank, 0);
    assert_eq!(release["keysBytes"], 0, "{release}");
    assert!(release["tablesBytes"].as_u64() > Some(0), "{release}");
    assert_eq!(release["blobsBytes"], material().witness.len(), "{release}");
    assert_eq!(release["shortBytes"], material().zkey.len(), "{release}");
    let reason = release["shortReason"].as_str().expect("a reason");
    assert!(reason.contains("no source"), "{reason}");
    assert_eq!(resident(&bank), true);
    scene.quiet(NEVER);
    let params = json!({ "circuit": circuit, "witness": witness });
    assert_eq!(bank.refusal("prover_submitV1", params), "blobUnknown");
    bank.proved(&bank.submit(&circuit, &bank.store(&material().witness)));
    scene.world.stop();
}

#[test]
fn a_source_that_is_not_the_key_is_told_and_loses_nothing() {
    let scene = Scene::new();
    let bank = scene.world.client("bank");
    let key = material();
    let zkey = bank.store(&key.zkey);
    let refused = |source: &str| {
        let params = json!({ "zkey": zkey, "source": source });
        let answer = bank.ask("prover_registerCircuitV1", params);
        let error = &answer["error"];
        assert_eq!(error["data"]["reason"], "keySource", "{answer}");
        assert!(error["message"].as_str().expect("text").contains(source));
    };
    let short = scene.source("short.zkey", &key.zkey[1..]);
    let folder = scene.world.folder.path();
    let outside = folder.join("calderad.toml");
    for source in [
        "/etc/passwd",
        "keys/a.zkey",
        outside.to_str().expect("text"),
        &format!("{}/keys/../calderad.toml", folder.display()),
        &format!("{}/keys/none", folder.display()),
        &short,
    ] {
        refused(source);
    }
    assert_eq!(bank.call("prover_listCircuitsV1", json!({})), json!([]));

    // Another content of the same length is found before anything is given away for it.
    let mut other = key.zkey.clone();
    let end = other.len() - 1;
    other[end] ^= 1;
    let source = scene.source("a.zkey", &other);
    let circuit = register(&bank, key, &source);
    scene.quiet(AT_ONCE);
    let kept = release(&bank, 0);
    assert_eq!(kept["keysBytes"], 0, "{kept}");
    let reason = kept["shortReason"].as_str().expect("a reason");
    assert!(
        reason.contains(&source) && reason.contains(&circuit),
        "{reason}"
    );
    assert_eq!(resident(&bank), true);

    // One that goes after its key has: its job fails, the circuit says why, and the next job tries
    // again.
    scene.source("a.zkey", &key.zkey);
    scene.quiet(NEVER);
    let witness = bank.store(&key.witness);
    scene.quiet(AT_ONCE);
    assert_eq!(release(&bank, 1)["keysBytes"], key.zkey.len());
    scene.quiet(NEVER);
    let witness_again = bank.store(&key.witness);
    assert_eq!(witness_again, witness);
    for break_it in [
        &|| std::fs::remove_file(&source).expect("removed"),
        &|| std::fs::write(&source, &other).expect("written"),
        &|| std::fs::write(&source, b"short").expect("written"),
    ] as [&dyn Fn(); 3]
    {
        break_it();
        let status = bank.ended(&bank.submit(&circuit, &witness));
        assert_eq!(status["state"], "failed", "{status}");
        assert_eq!(status["error"]["reason"], "keySource", "{status}");
        let info = bank.call("prover_listCircuitsV1", json!({}))[0].clone();
        assert_eq!(info["resident"], false, "{info}");
        assert_eq!(info["error"], status["error"], "{info}");
        let message = info["error"]["message"].as_str().expect("text");
        assert!(message.contains(&source), "{message}");
    }
    scene.source("a.zkey", &key.zkey);
    bank.proved(&bank.submit(&circuit, &witness));
    let info = bank.call("prover_listCircuitsV1", json!({}))[0].clone();
    assert_eq!(info["resident"], true, "{info}");
    assert_eq!(info.get("error"), None, "{info}");
    scene.world.stop();
}

#[test]
fn a_restart_knows_what_is_given_back() {
    let scene = Scene::new();
    let chat = scene.world.client("chat");
    let key = material();
    let source = scene.source("a.zkey", &key.zkey);
    let circuit = register(&chat, key, &source);
    let before = chat.call("prover_listCircuitsV1", json!({}))[0].clone();
    scene.quiet(AT_ONCE);
    assert_eq!(release(&chat, 0)["keysBytes"], key.zkey.len());
    let scene = Scene::start(scene.world.stop());

    let chat = scene.world.client("chat");
    let mut info = chat.call("prover_listCircuitsV1", json!({}))[0].clone();
    assert_eq!(info["resident"], false, "{info}");
    info["resident"] = json!(true);
    assert_eq!(info, before, "it is known as before");
    assert_eq!(scene.world.client("bank").get("/readyz").0, 200);
    // It is the same quiet: what comes to be held without the tenant is not given back once more.
    scene.quiet(AT_ONCE);
    scene.quiet(NEVER);
    let status = storage(&chat);
    assert_eq!(status["tenants"][0]["quiet"], true, "{status}");
    assert_eq!(status["releases"].as_array().map(Vec::len), Some(1));
    let witness = chat.store(&key.witness);
    chat.proved(&chat.submit(&circuit, &witness));
    let taken = storage(&chat)["releases"][0].clone();
    assert!(
        taken["takenAgainMs"].as_u64() >= taken["atMs"].as_u64(),
        "{taken}"
    );
    let scene = Scene::start(scene.world.stop());

    // Now the key is in the store again.
    let chat = scene.world.client("chat");
    std::fs::remove_file(&source).expect("removed");
    assert_eq!(chat.settled_circuit()["resident"], true);
    let witness = chat.store(&key.witness);
    chat.proved(&chat.submit(&circuit, &witness));
    // A circuit can be taken off the list while its key is away.
    scene.source("a.zkey", &key.zkey);
    scene.quiet(AT_ONCE);
    release(&chat, 1);
    let removed = chat.call("prover_unregisterCircuitV1", json!({ "circuit": circuit }));
    assert_eq!(removed["removed"], true);
    assert_eq!(chat.call("prover_listCircuitsV1", json!({})), json!([]));
    scene.world.stop();
}

/// Demand comes at every moment of a release: while sources are looked at, while files go, while a
/// key comes back.
#[test]
fn demand_that_comes_while_things_go_is_served() {
    let scene = Scene::new();
    let chat = scene.world.client("chat");
    let key = material();
    let source = scene.source("a.zkey", &key.zkey);
    let circuit = register(&chat, key, &source);
    scene.quiet("quiet_ms = 1\nheld_percent = 100");
    let witness = digest(&key.witness);
    for round in 0..60 {
        // Some rounds let the release get further before they come.
        for _ in 0..round % 7 {
            storage(&chat);
        }
        let job = until(|| {
            let params = json!({ "circuit": circuit, "witness": witness });
            let answer = chat.ask("prover_submitV1", params);
            let job = answer["result"]["job"].as_str().map(str::to_owned);
            if job.is_none() {
                assert_eq!(answer["error"]["data"]["reason"], "blobUnknown", "{answer}");
                chat.store(&key.witness);
            }
            job
        });
        let status = chat.ended(&job);
        assert_eq!(status["state"], "proved", "{status}");
        if round % 10 == 0 {
            chat.proved(&job);
        }
    }
    let status = storage(&chat);
    let releases = status["releases"].as_array().expect("a list");
    assert!(releases.len() > 10, "{status}");
    let keys: u64 = releases
        .iter()
        .filter_map(|it| it["keysBytes"].as_u64())
        .sum();
    assert!(keys > 0, "{status}");
    for (at, release) in releases.iter().enumerate() {
        let open = release.get("takenAgainMs").is_none();
        assert!(
            !open || at == releases.len() - 1,
            "one at most is open: {status}"
        );
        assert!(sum(release) <= release["heldBytes"].as_u64().expect("a number"));
    }
    scene.world.stop();
}

/// What a class may keep bounds each of its tenants, from the start and by each policy after it; what a tenant has stays, and
/// its own quota counts where that is less.
#[test]
fn a_class_keeps_no_more_than_its_policy_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.toml");
    let bound = |bytes: u64| {
        let text = format!(
            "[classes.financial]\nvalue = 9\nguarantee_percent = 0\n\
             [classes.social]\nvalue = 1\nguarantee_percent = 0\nstorage_max_bytes = {bytes}\n"
        );
        std::fs::write(&path, text).expect("written");
    };
    bound(100);
    let lines = "policy_file = 'policy.toml'\n\
                 [[tenant]]\nname = 'small'\nscenario = 'social'\nquotas = { blob_bytes = 50 }\n";
    let world = World::start(folder, lines).expect("the box starts");
    let adopt = |bytes| {
        bound(bytes);
        assert!(world.node.reload_policy().expect("a policy"));
        world.client("operator").call("pool_statusV1", json!({}));
    };
    let put = |client: &Client, bytes: &[u8]| client.put(&digest(bytes), bytes);
    let (chat, bank, small) = (
        world.client("chat"),
        world.client("bank"),
        world.client("small"),
    );
    assert_eq!(put(&bank, &[1; 500]), 201, "the other class says nothing");
    assert_eq!(put(&chat, &[2; 100]), 201);
    assert_eq!(put(&chat, &[3; 1]), 507);
    assert_eq!(put(&small, &[2; 51]), 507, "its own is less");
    assert_eq!(put(&small, &[2; 50]), 201);
    adopt(101);
    assert_eq!(put(&chat, &[3; 1]), 201);
    adopt(40);
    assert_eq!(put(&chat, &[4; 1]), 507);
    assert_eq!(put(&chat, &[2; 100]), 200, "what is there stays");
    let guest = json!({ "tenant": "guest", "scenario": "social" });
    let added = world.client("operator").call("tenant_addV1", guest);
    let guest = world.client_with("guest", added["secret"].as_str().expect("a secret"));
    assert_eq!(put(&guest, &[5; 41]), 507);
    assert_eq!(put(&guest, &[5; 40]), 201);
    world.stop();
}
