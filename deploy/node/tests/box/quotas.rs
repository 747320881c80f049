//! What a tenant may have, beside another that is not bounded; and what becomes of what it has under way when it
//! is not served any more. Workers are held meanwhile, so that nothing ends by itself and no test depends on
//! how fast anything is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::durable::{LetGo, connect, events, held_box, held_box_with};
use crate::world::{Client, World, digest, larger, material, until};

/// How many jobs of a tenant wait in line, and how many are prepared or run.
fn in_line_and_on(client: &Client, name: &str) -> (u64, u64) {
    let pool = client.call("pool_statusV1", json!({}));
    let tenants = pool["tenants"].as_array().expect("tenants");
    let own = tenants.iter().find(|it| it["tenant"] == name);
    let own = own.expect("who asks is shown");
    let number = |of: &Value| of.as_u64().expect("a number");
    let preparing = number(&own["detail"]["preparing"]);
    (
        number(&own["queued"]) - preparing,
        number(&own["running"]) + preparing,
    )
}

#[test]
fn jobs_beyond_a_tenants_bound_wait_in_its_line_while_anothers_are_all_prepared() {
    let hold = Arc::new(AtomicBool::new(false));
    let narrow = "[[tenant]]\nname = 'narrow'\nscenario = 'financial'\n\
                  quotas = { queue = 3, running = 1 }\n";
    let world = held_box(&hold, narrow);
    let (narrow, bank) = (world.client("narrow"), world.client("bank"));
    let [circuit, other] = [&narrow, &bank].map(|client| client.register(&material().zkey));
    let witness = narrow.store(&material().witness);
    bank.store(&material().witness);
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let jobs = [(); 3].map(|()| narrow.submit(&circuit, &witness));
    let others = [(); 3].map(|()| bank.submit(&other, &witness));
    assert_eq!(in_line_and_on(&narrow, "narrow"), (2, 1));
    assert_eq!(in_line_and_on(&bank, "bank"), (0, 3));
    // Its queue is full, and nobody else's.
    let more = json!({ "circuit": circuit, "witness": witness });
    assert_eq!(narrow.refusal("prover_submitV1", more), "tenantQueueFull");
    let fourth = bank.submit(&other, &witness);
    drop(letting_go);
    jobs.iter().for_each(|job| drop(narrow.proved(job)));
    others.iter().for_each(|job| drop(bank.proved(job)));
    bank.proved(&fourth);
    world.stop();
}

#[test]
fn a_tenant_of_the_configuration_is_held_to_scopes_bytes_and_requests() {
    let bytes = material().zkey.len() + 100;
    let world = World::with(&format!(
        "development = true\n\
         [[tenant]]\nname = 'small'\nscenario = 'social'\nquotas = {{ blob_bytes = {bytes} }}\n\
         [[tenant]]\nname = 'slow'\nscenario = 'social'\nquotas = {{ requests = 2 }}\n\
         [[tenant]]\nname = 'reader'\nscenario = 'social'\nscopes = ['read']\n"
    ));
    let chat = world.client("chat");
    let of = |client: &Client, bytes: &[u8]| client.put(&digest(bytes), bytes);
    for client in [&chat, &world.client("small")] {
        assert_eq!(of(client, &material().zkey), 201);
        assert_eq!(of(client, &[1; 100]), 201);
    }
    assert_eq!(of(&world.client("small"), &[2; 1]), 507);
    assert_eq!(of(&chat, &[2; 1]), 201);

    // A batch is as many requests as it holds, and takes no time.
    let one = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "prover_listCircuitsV1" });
    let batch: Vec<Value> = (0..60).map(one).collect();
    let refused = |client: &Client| {
        let (status, text) = client.post(&json!(batch).to_string(), &client.token());
        assert_eq!(status, 200, "{text}");
        text.matches("tenantRateFull").count()
    };
    assert!(refused(&world.client("slow")) > 0);
    assert_eq!(refused(&chat), 0);

    let reader = world.client("reader");
    reader.call("prover_listCircuitsV1", json!({}));
    let nothing = json!({ "circuit": digest(b""), "witness": digest(b"") });
    assert_eq!(reader.refusal("prover_submitV1", nothing), "outOfScope");
    assert_eq!(of(&reader, &[3; 1]), 403);
    world.stop();
}

/// The danger: an upload that is answered at once counted as under way for ever, so that a tenant with a bound shut
/// itself out by sending what was there.
#[test]
fn what_is_answered_at_once_is_not_under_way() {
    let world = World::with(
        "development = true\n\
         [[tenant]]\nname = 'single'\nscenario = 'social'\nquotas = { calls = 1 }\n",
    );
    let single = world.client("single");
    let statuses = [(); 3].map(|()| single.put(&digest(b"same"), b"same"));
    assert_eq!(statuses, [201, 200, 200]);
    world.stop();
}

#[test]
fn what_a_suspended_tenant_has_under_way_ends_with_an_error() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let operator = world.client("operator");
    let guest = json!({ "tenant": "guest", "scenario": "social", "quotas": { "calls": 3 } });
    let added = operator.call("tenant_addV1", guest);
    let guest = world.client_with("guest", added["secret"].as_str().expect("a secret"));
    let circuit = guest.register(&material().zkey);
    let witness = guest.store(&material().witness);
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let job = guest.submit(&circuit, &witness);

    let begin = |line: &str, more: &str| {
        let mut stream = connect(&guest);
        let token = guest.token();
        let head = format!(
            "{line} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: {token}\r\n{more}"
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let reading = begin(&format!("GET /v1/jobs/{job}/events"), "\r\n");
    let target = format!("PUT /v1/blobs/{}", digest(&[5; 1000]));
    let half = "5".repeat(500);
    let uploading = begin(&target, &format!("Content-Length: 1000\r\n\r\n{half}"));
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "prover_resultV1",
        "params": { "job": job, "waitMs": 3_600_000 },
    })
    .to_string();
    let length = body.len();
    let waiting = begin("POST /", &format!("Content-Length: {length}\r\n\r\n{body}"));
    // When there is no room for one more, all three are under way.
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "prover_listCircuitsV1" });
    until(|| {
        let (_, text) = guest.post(&list.to_string(), &guest.token());
        text.contains("tenantCallsFull").then_some(())
    });

    operator.call("tenant_suspendV1", json!({ "tenant": "guest" }));
    let rest = |mut stream: TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("the rest");
        text
    };
    let read = events(&rest(reading));
    let (name, data) = read.last().expect("events");
    assert_eq!(name, "error");
    assert_eq!(data["data"]["reason"], "accessEnded", "{data}");
    for (stream, status) in [(uploading, "401"), (waiting, "200")] {
        let text = rest(stream);
        assert_eq!(&text[9..12], status, "{text}");
        assert!(text.contains("accessEnded"), "{text}");
    }
    assert_eq!(guest.post(&list.to_string(), &guest.token()).0, 401);

    // Its jobs go on, and nothing of the upload is left in the way of another.
    operator.call("tenant_resumeV1", json!({ "tenant": "guest" }));
    assert_eq!(guest.put(&digest(&[5; 1000]), &[5; 1000]), 201);
    drop(letting_go);
    guest.proved(&job);
    world.stop();
}

/// Of one tenant: how many bytes its jobs under way hold.
fn job_bytes(client: &Client, name: &str) -> u64 {
    let pool = client.call("pool_statusV1", json!({}));
    let tenants = pool["tenants"].as_array().expect("tenants");
    let own = tenants.iter().find(|it| it["tenant"] == name);
    let bytes = &own.expect("who asks is shown")["detail"]["jobBytes"];
    bytes.as_u64().expect("a number")
}

/// The box of a folder again, with so many bytes for jobs under way.
fn bounded(hold: &Arc<AtomicBool>, folder: TempDir, bytes: u64) -> World {
    let limits = format!("job_bytes = {bytes}");
    held_box_with(hold, folder, &limits, "")
}

/// The danger: whoever sends much fills the memory of the box with witnesses that wait for a core.
#[test]
fn jobs_under_way_hold_no_more_memory_than_there_is_for_them() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let chat = world.client("chat");
    let circuit = chat.register(&material().zkey);
    let witness = chat.store(&material().witness);
    chat.proved(&chat.submit(&circuit, &witness));
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let job = chat.submit(&circuit, &witness);
    let one = until(|| Some(job_bytes(&chat, "chat")).filter(|bytes| *bytes > 0));
    drop(letting_go);
    chat.proved(&job);
    assert_eq!(job_bytes(&chat, "chat"), 0);
    let folder = world.stop();

    // Room for two and a half.
    let world = bounded(&hold, folder, one * 5 / 2);
    let (chat, bank) = (world.client("chat"), world.client("bank"));
    assert_eq!(chat.settled_circuit()["state"], "ready");
    let other = bank.register(&material().zkey);
    bank.store(&material().witness);
    // It learns again what they hold.
    chat.proved(&chat.submit(&circuit, &witness));
    bank.proved(&bank.submit(&other, &witness));
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let jobs = [(); 4].map(|()| chat.submit(&circuit, &witness));
    let others = [(); 2].map(|()| bank.submit(&other, &witness));
    assert_eq!(in_line_and_on(&chat, "chat"), (2, 2));
    assert_eq!(in_line_and_on(&bank, "bank"), (2, 0));
    // Not twice the same, for what sums set aside follows what they have met.
    let held = job_bytes(&chat, "chat");
    assert!((one..=one * 5 / 2).contains(&held), "{held}, of {one} each");
    drop(letting_go);
    jobs.iter().for_each(|job| drop(chat.proved(job)));
    others.iter().for_each(|job| drop(bank.proved(job)));

    // Those that the box has accepted, and has no room for when it starts again.
    let large = chat.store(&larger().zkey);
    chat.call("prover_registerCircuitV1", json!({ "zkey": large }));
    until(|| {
        let list = chat.call("prover_listCircuitsV1", json!({}));
        let list = list.as_array().expect("circuits");
        let ready = |it: &&Value| it["circuit"] == large && it["state"] == "ready";
        list.iter().find(ready).map(drop)
    });
    let of_large = chat.store(&larger().witness);
    let jobs = [(); 6].map(|()| chat.submit(&large, &of_large));
    let folder = world.stop();
    let world = bounded(&hold, folder, 1000);
    let chat = world.client("chat");
    let ended = jobs.each_ref().map(|job| chat.ended(job));
    let failed = ended.iter().filter(|job| job["state"] != "proved");
    let reasons: Vec<_> = failed.map(|job| &job["error"]["reason"]).collect();
    assert!(!reasons.is_empty(), "all were proved already");
    assert!(reasons.iter().all(|it| *it == "quotaExceeded"), "{ended:?}");
    // One that was measured nowhere yet: its vectors alone are too much.
    let bank = world.client("bank");
    assert_eq!(bank.settled_circuit()["state"], "ready");
    let too_large = json!({ "circuit": other, "witness": digest(b"") });
    assert_eq!(bank.refusal("prover_submitV1", too_large), "quotaExceeded");
    world.stop();
}
