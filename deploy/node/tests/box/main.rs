//! A whole box in this process, spoken to over its socket.

mod devices;
mod durable;
mod era;
mod lending;
mod nvidia;
mod quotas;
mod read_only;
mod seats;
mod storage;
mod watching;
mod world;

use std::collections::{BTreeSet, HashSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use caldera_kernels::Around;
use caldera_node::StartError;
use serde_json::{Value, json};
use world::{World, digest, larger, material, until};

#[test]
fn a_registered_circuit_proves_a_submitted_witness() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let job = bank.submit(&circuit, &witness);
    let result = bank.proved(&job);
    assert_eq!(result["late"], false);
    assert!(
        result["calldata"]
            .as_str()
            .is_some_and(|text| text.starts_with("[\"0x"))
    );
    let stages = result["timings"]["stages"].as_array().expect("stages");
    let cores = result["timings"]["cores"].as_array().expect("cores");
    let quanta =
        |list: &[Value]| -> u64 { list.iter().filter_map(|it| it["quanta"].as_u64()).sum() };
    assert_eq!(quanta(stages), quanta(cores));
    assert_eq!(bank.status(&job)["progress"], 1.0);
    world.stop();
}

#[test]
fn twenty_submissions_of_two_tenants_all_prove_and_cores_change_hands() {
    let world = World::new();
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let key = larger();
    let mut jobs = Vec::new();
    let circuits =
        [&chat, &bank].map(|tenant| (tenant.register(&key.zkey), tenant.store(&key.witness)));
    // The quiet tenant holds all cores when the financial one comes.
    for _ in 0..10 {
        jobs.push((&chat, chat.submit(&circuits[0].0, &circuits[0].1)));
    }
    // Who looks too seldom finds its first proof made; nine are left.
    until(|| {
        let state = chat.status(&jobs[0].1)["state"].clone();
        (state == "running" || state == "proved").then_some(())
    });
    for _ in 0..10 {
        jobs.push((&bank, bank.submit(&circuits[1].0, &circuits[1].1)));
    }
    for (tenant, job) in &jobs {
        tenant.proved(job);
    }

    let operator = world.client("operator");
    let pool = operator.call("pool_statusV1", json!({}));
    let recent = pool["reallocations"]["recent"].as_array().expect("a list");
    // From one tenant straight to the other: that happens only while the first still has work.
    let taken = recent
        .iter()
        .filter(|it| it["from"] == "chat" && it["to"] == "bank");
    assert!(taken.count() > 0, "{pool}");
    for it in recent {
        let parts = ["detectUs", "decideUs", "drainUs", "firstUs"];
        let sum: f64 = parts.iter().filter_map(|part| it[part].as_f64()).sum();
        assert!(
            (sum - it["totalUs"].as_f64().expect("a number")).abs() < 1.0,
            "{it}"
        );
    }
    assert!(pool["quanta"]["count"].as_u64() > Some(100), "{pool}");
    world.stop();
}

#[test]
fn tables_come_and_go_and_every_proof_is_right() {
    let world = World::new();
    let bank = world.client("bank");
    let key = larger();
    let circuit = bank.register(&key.zkey);
    let witness = bank.store(&key.witness);
    let submit = || bank.submit(&circuit, &witness);
    let held = || -> f64 {
        let (_, metrics) = bank.get("/metrics");
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("caldera_table_bytes "));
        line.and_then(|figure| figure.parse().ok())
            .expect("a figure")
    };
    assert_eq!(held(), 0.0);
    bank.proved(&submit());
    let first = until(|| Some(held()).filter(|bytes| *bytes > 0.0));
    let most = 4.0 * key.zkey.len() as f64;
    assert!(first <= most, "{first} of {most}");
    bank.proved(&submit());

    // The grant goes and comes again while proofs are under way and tables are being made.
    let mut jobs = Vec::new();
    for round in 0..12 {
        jobs.push(submit());
        world
            .node
            .grant_tables(if round % 2 == 0 { 0 } else { 1 << 30 });
    }
    for job in &jobs {
        bank.proved(job);
    }
    world.node.grant_tables(0);
    until(|| (held() == 0.0).then_some(()));
    bank.proved(&submit());
    world.node.grant_tables(1 << 30);
    bank.proved(&submit());
    until(|| (held() == first).then_some(()));

    let removed = bank.call("prover_unregisterCircuitV1", json!({ "circuit": circuit }));
    assert_eq!(removed["removed"], true);
    until(|| (held() == 0.0).then_some(()));
    world.stop();
}

#[test]
fn what_the_pool_says_of_its_threads_is_what_the_kernel_says() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let result = bank.proved(&bank.submit(&circuit, &witness));
    let pool = bank.call("pool_statusV1", json!({}));
    let units = pool["units"].as_array().expect("units");
    assert!(!units.is_empty());
    let mut cores = BTreeSet::new();
    for unit in units {
        let thread = unit["threadId"].as_i64().expect("a thread");
        let path = format!("/proc/self/task/{thread}/status");
        let status = std::fs::read_to_string(path).expect("the thread is there");
        let list = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let core = unit["core"].as_u64().expect("a core");
        assert_eq!(list.map(str::trim), Some(core.to_string().as_str()));
        cores.insert(core);
    }
    assert_eq!(cores.len(), units.len(), "one core each");
    for share in result["timings"]["cores"].as_array().expect("cores") {
        assert!(
            cores.contains(&share["core"].as_u64().expect("a core")),
            "{result}"
        );
    }
    world.stop();
}

#[test]
fn a_tenant_sees_nothing_of_another() {
    let world = World::new();
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let job = bank.submit(&circuit, &witness);
    bank.ended(&job);

    assert_eq!(chat.call("prover_listCircuitsV1", json!({})), json!([]));
    assert_eq!(
        chat.refusal("prover_statusV1", json!({ "job": job })),
        "jobUnknown"
    );
    assert_eq!(
        chat.refusal("prover_resultV1", json!({ "job": job })),
        "jobUnknown"
    );
    assert_eq!(
        chat.refusal("prover_cancelV1", json!({ "job": job })),
        "jobUnknown"
    );
    let params = json!({ "circuit": circuit, "witness": witness });
    assert_eq!(
        chat.refusal("prover_submitV1", params.clone()),
        "circuitUnknown"
    );
    assert_eq!(
        chat.refusal("prover_registerCircuitV1", json!({ "zkey": circuit })),
        "blobUnknown"
    );
    // With the same key of its own it still has no use of the other's witness.
    chat.register(&material().zkey);
    assert_eq!(chat.refusal("prover_submitV1", params), "blobUnknown");

    let pool = chat.call("pool_statusV1", json!({}));
    assert!(!pool.to_string().contains("bank"), "{pool}");
    let foreign = |it: &&Value| it["foreign"] == true;
    let tenants = pool["tenants"].as_array().expect("tenants");
    assert_eq!(tenants.iter().filter(foreign).count(), 1);
    let operator = world.client("operator");
    let pool = operator.call("pool_statusV1", json!({}));
    assert!(pool.to_string().contains("bank"), "{pool}");
    assert_eq!(
        operator.refusal("prover_listCircuitsV1", json!({})),
        "invalidRequest"
    );
    world.stop();
}

#[test]
fn a_key_of_idempotency_names_one_submission() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let wrong = bank.store(&material().wrong);
    let submit = |witness: &str| json!({ "circuit": circuit, "witness": witness, "idempotencyKey": "block-1" });
    let first = bank.call("prover_submitV1", submit(&witness));
    let again = bank.call("prover_submitV1", submit(&witness));
    assert_eq!(first["job"], again["job"]);
    let refused = bank.refusal("prover_submitV1", submit(&wrong));
    assert_eq!(refused, "idempotencyConflict");
    bank.proved(first["job"].as_str().expect("a job"));
    let after = bank.call("prover_submitV1", submit(&witness));
    assert_eq!(first["job"], after["job"]);
    world.stop();
}

#[test]
fn a_cancelled_job_gives_no_result_and_its_cores_go_on() {
    let world = World::new();
    let chat = world.client("chat");
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    let jobs: Vec<String> = (0..12).map(|_| chat.submit(&circuit, &witness)).collect();
    let cancel = |job: &String| chat.call("prover_cancelV1", json!({ "job": job }));
    // One that runs; whoever is slow to cancel it finds its proof made, and takes another.
    let running = until(|| {
        let state = |job: &String| chat.status(job)["state"].clone();
        let running = jobs[..8].iter().position(|job| state(job) == "running")?;
        (cancel(&jobs[running])["state"] == "cancelled").then_some(running)
    });
    // One that is prepared or waits, and one at the end of the queue.
    let cancelled = [running, running + 3, 11];
    for job in cancelled.map(|at| &jobs[at]) {
        let status = cancel(job);
        assert_eq!(status["state"], "cancelled", "{status}");
        assert_eq!(
            chat.refusal("prover_resultV1", json!({ "job": job })),
            "jobCancelled"
        );
        assert_eq!(cancel(job)["state"], "cancelled");
    }
    for (at, job) in jobs.iter().enumerate() {
        if !cancelled.contains(&at) {
            chat.proved(job);
        }
    }
    world.stop();
}

#[test]
fn a_witness_that_does_not_fit_fails_with_its_own_reason() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let failure = |bytes: &[u8]| {
        let job = bank.submit(&circuit, &bank.store(bytes));
        let status = bank.ended(&job);
        assert_eq!(status["state"], "failed", "{status}");
        let reason = status["error"]["reason"]
            .as_str()
            .expect("a reason")
            .to_owned();
        assert_eq!(
            bank.refusal("prover_resultV1", json!({ "job": job })),
            reason
        );
        (
            reason,
            status["error"]["message"]
                .as_str()
                .expect("text")
                .to_owned(),
        )
    };
    assert_eq!(failure(&material().wrong).0, "selfCheckFailed");
    let (reason, message) = failure(&larger().witness);
    assert_eq!(reason, "witnessLength");
    assert!(message.contains("elements"), "{message}");
    let mut high = material().witness.clone();
    let end = high.len();
    high[end - 32..].fill(0xff);
    let (reason, message) = failure(&high);
    assert_eq!(reason, "witnessRange");
    assert!(message.contains("not below r"), "{message}");
    let cut = &material().witness[..100];
    assert_eq!(failure(cut).0, "witnessTruncated");
    // The box is none the worse for it.
    bank.proved(&bank.submit(&circuit, &bank.store(&material().witness)));
    world.stop();
}

#[test]
fn keys_that_cannot_be_trusted_are_refused() {
    let world = World::with("development = false\n");
    let bank = world.client("bank");
    let register = |bytes: &[u8]| {
        let zkey = bank.store(bytes);
        bank.refusal("prover_registerCircuitV1", json!({ "zkey": zkey }))
    };
    assert_eq!(register(&material().zkey), "developmentKey");
    assert_eq!(register(&material().witness), "keyFormat");
    assert_eq!(register(&material().zkey[..5000]), "keyTruncated");
    let missing = json!({ "zkey": digest(b"nothing") });
    assert_eq!(
        bank.refusal("prover_registerCircuitV1", missing),
        "blobUnknown"
    );
    assert_eq!(bank.call("prover_listCircuitsV1", json!({})), json!([]));
    world.stop();
}

#[test]
fn a_key_with_a_point_off_the_curve_fails_its_check() {
    let world = World::new();
    let bank = world.client("bank");
    let mut zkey = material().zkey.clone();
    // The parts with points fill the second half of a key.
    let at = zkey.len() * 3 / 4;
    zkey[at] ^= 1;
    let circuit = bank.store(&zkey);
    bank.call("prover_registerCircuitV1", json!({ "zkey": circuit }));
    let info = bank.settled_circuit();
    assert_eq!(info["state"], "failed", "{info}");
    assert_eq!(info["error"]["reason"], "keyOffCurve");
    let witness = bank.store(&material().witness);
    let params = json!({ "circuit": circuit, "witness": witness });
    assert_eq!(bank.refusal("prover_submitV1", params), "circuitNotReady");
    world.stop();
}

#[test]
fn blobs_are_what_their_name_says() {
    let world = World::with(
        "development = true\n[limits]\nblob_bytes = 2000000\ntenant_blob_bytes = 3000000\n",
    );
    let bank = world.client("bank");
    let blob = vec![5; 1_500_000];
    assert_eq!(bank.put(&digest(&blob), &blob), 201);
    assert_eq!(bank.put(&digest(&blob), &blob), 200);
    assert_eq!(bank.put(&digest(b"another"), &blob[..10]), 422);
    assert_eq!(bank.put(&digest(b"long"), &vec![0; 2_000_001]), 413);
    let second = vec![6; 1_500_001];
    assert_eq!(bank.put(&digest(&second), &second), 507);
    assert_eq!(bank.put("zz", &blob[..10]), 400);
    assert_eq!(bank.delete(&digest(&blob)), 200);
    assert_eq!(bank.delete(&digest(&blob)), 404);
    assert_eq!(bank.put(&digest(&second), &second), 201);
    world.stop();
}

#[test]
fn nobody_without_a_token_is_served() {
    let world = World::new();
    let bank = world.client("bank");
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"pool_statusV1"}"#;
    assert_eq!(bank.post(body, &bank.token()).0, 200);
    let forged = {
        let mut token = bank.token();
        let last = token.pop();
        token.push(if last == Some('A') { 'E' } else { 'A' });
        token
    };
    let stranger = bank.token().replace("Bearer ", "Bearer x");
    let answers: HashSet<_> = ["", "Bearer", &forged, &stranger]
        .into_iter()
        .map(|token| bank.post(body, token))
        .collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|(status, _)| *status == 401));

    assert_eq!(bank.get("/livez").0, 200);
    let (status, text) = bank.get("/readyz");
    assert_eq!(status, 200);
    assert!(text.starts_with("ready\nworker 0: core "), "{text}");
    let (status, text) = bank.get("/metrics");
    assert_eq!(status, 200);
    assert!(
        text.contains("caldera_quantum_seconds_bucket{le=\"+Inf\"}"),
        "{text}"
    );
    assert_eq!(bank.get("/elsewhere").0, 404);
    world.stop();
}

#[test]
fn calls_come_singly_in_batches_and_without_an_answer() {
    let world = World::new();
    let bank = world.client("bank");
    let token = bank.token();
    let batch = r#"[{"jsonrpc":"2.0","id":"a","method":"pool_statusV1"},
        {"jsonrpc":"2.0","method":"pool_statusV1"},
        {"jsonrpc":"2.0","id":2,"method":"no_such"},
        {"jsonrpc":"2.0","id":3,"method":"prover_listCircuitsV1","params":[]}]"#;
    let (status, text) = bank.post(batch, &token);
    assert_eq!(status, 200);
    let answers: Value = serde_json::from_str(&text).expect("JSON");
    let ids: Vec<_> = answers
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, [&json!("a"), &json!(2), &json!(3)]);
    assert_eq!(answers[1]["error"]["code"], -32601);
    let silent = r#"{"jsonrpc":"2.0","method":"pool_statusV1"}"#;
    assert_eq!(bank.post(silent, &token).0, 204);
    let (_, text) = bank.post("{", &token);
    assert!(text.contains("-32700"), "{text}");
    let unknown = bank.refusal("prover_submitV1", json!({ "circit": "x" }));
    assert_eq!(unknown, "invalidParams");
    world.stop();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let world = World::new();
    let bank = world.client("bank");
    let token = bank.token();
    let call = |id: u32| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"pool_statusV1"}}"#);
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: {token}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut stream = TcpStream::connect(world.node.address()).expect("connected");
    let last = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let text = call(1) + &call(2) + last;
    stream.write_all(text.as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answered");
    let places = ["\"id\":1", "\"id\":2", "alive"].map(|text| answers.find(text));
    assert!(places.iter().all(Option::is_some), "{answers}");
    assert!(places.is_sorted(), "{places:?}");

    // More than a connection has in one turn, and all in one packet: the last is answered too, and with nothing more sent.
    let mut stream = TcpStream::connect(world.node.address()).expect("connected");
    let one = "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n";
    let many = one.repeat(99) + last;
    stream.write_all(many.as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answered");
    assert_eq!(answers.matches("alive").count(), 100);

    // A body where none is wanted: answered, and the connection is not kept for what may come of it.
    let mut stream = TcpStream::connect(world.node.address()).expect("connected");
    let bodied = "GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    stream.write_all(bodied.as_bytes()).expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answered");
    assert_eq!(answers.matches("alive").count(), 1);
    world.stop();
}

#[test]
fn a_restart_knows_circuits_blobs_and_jobs() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let job = bank.submit(&circuit, &witness);
    let result = bank.proved(&job);
    let status = bank.status(&job);
    let folder = world.stop();

    let world = World::start(folder, "development = true\n").expect("it starts again");
    let bank = world.client("bank");
    assert_eq!(bank.status(&job), status);
    let params = json!({ "job": job });
    assert_eq!(bank.call("prover_resultV1", params), result);
    assert_eq!(bank.settled_circuit()["state"], "ready");
    let second = bank.submit(&circuit, &witness);
    assert_ne!(second, job);
    bank.proved(&second);
    let params = json!({ "circuit": circuit });
    assert_eq!(bank.delete(&circuit), 409);
    assert_eq!(
        bank.call("prover_unregisterCircuitV1", params.clone()),
        json!({ "removed": true })
    );
    assert_eq!(
        bank.call("prover_unregisterCircuitV1", params),
        json!({ "removed": false })
    );
    assert_eq!(bank.delete(&circuit), 200);
    let folder = world.stop();

    // Out of development mode the same list holds nothing that could be forged with.
    let world = World::start(folder, "").expect("it starts again");
    let bank = world.client("bank");
    assert_eq!(bank.call("prover_listCircuitsV1", json!({})), json!([]));
    world.stop();
}

#[test]
fn a_development_key_does_not_outlive_development_mode() {
    let world = World::new();
    world.client("bank").register(&material().zkey);
    let folder = world.stop();
    let world = World::start(folder, "").expect("it starts again");
    let info = world.client("bank").settled_circuit();
    assert_eq!(info["state"], "failed", "{info}");
    assert_eq!(info["error"]["reason"], "developmentKey");
    world.stop();
}

#[test]
fn an_estimate_learns_from_proofs() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let params = json!({ "circuit": circuit });
    let before = bank.call("prover_estimateV1", params.clone());
    assert!(before["proofMs"].as_f64() > Some(0.0), "{before}");
    let witness = bank.store(&material().witness);
    bank.proved(&bank.submit(&circuit, &witness));
    let after = bank.call("prover_estimateV1", params);
    assert_ne!(before["proofMs"], after["proofMs"]);
    assert_eq!(after["queueLength"], 0);
    let unknown = json!({ "circuit": digest(b"nothing") });
    assert_eq!(bank.refusal("prover_estimateV1", unknown), "circuitUnknown");
    world.stop();
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let world = World::new();
    let chat = world.client("chat");
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    let params = json!({ "circuit": circuit, "witness": witness });
    let refused = until(|| {
        let answer = chat.ask("prover_submitV1", params.clone());
        answer.get("error").cloned()
    });
    assert_eq!(refused["code"], -32005, "{refused}");
    assert_eq!(refused["data"]["reason"], "tenantQueueFull");
    assert!(
        refused["data"]["retryAfterMs"].as_u64() > Some(0),
        "{refused}"
    );
    world.stop();
}

#[test]
fn declared_cores_come_before_the_work_and_are_told_apart() {
    let world = World::new();
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let cores = bank.call("pool_statusV1", json!({}))["units"]
        .as_array()
        .map_or(0, Vec::len);
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    let job = chat.submit(&circuit, &witness);
    until(|| {
        let state = chat.status(&job)["state"].clone();
        (state == "running" || state == "proved").then_some(())
    });
    let declared = bank.call(
        "pool_demandV1",
        json!({ "units": cores, "durationMs": 60_000 }),
    );
    assert_eq!(declared, json!({ "units": cores, "expiresMs": 60_000.0 }));
    let operator = world.client("operator");
    let (taken, pool) = until(|| {
        let pool = operator.call("pool_statusV1", json!({}));
        let recent = pool["reallocations"]["recent"].as_array().expect("a list");
        let mut taken = recent.iter().filter(|it| it["to"] == "bank");
        Some((taken.next()?.clone(), pool))
    });
    assert_eq!(taken["cause"], "declared", "{pool}");
    assert_eq!(taken["empty"], true, "{pool}");
    let moves = &pool["reallocations"];
    assert!(moves["empty"]["count"].as_u64() >= Some(1), "{pool}");
    assert!(
        moves["empty"]["count"].as_u64() <= moves["count"].as_u64(),
        "{pool}"
    );
    assert_eq!(pool["tenants"][0]["declared"], cores);
    let declared = operator.metric("caldera_tenant_declared_cores{tenant=\"bank\"}");
    assert_eq!(declared, cores as f64);
    // A core is lent while there is nothing, so the job goes on.
    chat.proved(&job);

    let refused = |units: Value, duration: Value| {
        bank.refusal(
            "pool_demandV1",
            json!({ "units": units, "durationMs": duration }),
        )
    };
    assert_eq!(refused(json!(cores + 1), json!(1)), "demandAboveCeiling");
    assert_eq!(refused(json!(u32::MAX), json!(1)), "demandAboveCeiling");
    assert_eq!(refused(json!(1), json!(0)), "demandDuration");
    assert_eq!(refused(json!(1), json!(u64::MAX)), "demandDuration");
    assert_eq!(refused(json!(1), Value::Null), "demandDuration");
    for units in [json!(-1), json!(1.5), json!(1u64 << 32), json!("1")] {
        assert_eq!(refused(units, json!(1)), "invalidParams");
    }
    assert_eq!(
        operator.refusal("pool_demandV1", json!({ "units": 0 })),
        "invalidRequest"
    );
    let withdrawn = bank.call("pool_demandV1", json!({ "units": 0 }));
    assert_eq!(withdrawn, json!({ "units": 0, "expiresMs": 0.0 }));
    let pool = operator.call("pool_statusV1", json!({}));
    assert_eq!(pool["tenants"][0]["declared"], 0);
    world.stop();
}

#[test]
fn a_deadline_that_measured_proofs_speak_against_is_refused() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&larger().zkey);
    let witness = bank.store(&larger().witness);
    let submission =
        |deadline: u64| json!({ "circuit": circuit, "witness": witness, "deadlineMs": deadline });
    // Nobody knows yet what a proof costs: it is made, and it is late.
    let first = bank.call("prover_submitV1", submission(1));
    let job = first["job"].as_str().expect("a job").to_owned();
    assert_eq!(bank.proved(&job)["late"], true);
    assert_eq!(bank.status(&job)["late"], true);
    let answer = bank.ask("prover_submitV1", submission(1));
    let error = &answer["error"];
    assert_eq!(error["data"]["reason"], "deadlineUnmeetable", "{answer}");
    let earliest = error["data"]["earliestMs"].as_u64().expect("a time");
    assert!(earliest > 1, "{answer}");
    // What is named is taken; the work is as long as before, but the time that passes meanwhile
    // is not in it.
    let second = bank.call("prover_submitV1", submission(earliest + 1_000));
    bank.proved(second["job"].as_str().expect("a job"));
    world.stop();
}

#[test]
fn another_policy_is_in_force_at_once_and_loses_no_job() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy.toml");
    let write = |ceiling: u32, social: &str| {
        let text = format!(
            "[classes.{social}]\nvalue = 1\nguarantee_percent = 0\n\
             [classes.financial]\nvalue = 9\nguarantee_percent = 0\nceiling_percent = {ceiling}\n"
        );
        std::fs::write(&policy, text).expect("written");
    };
    write(100, "social");
    let lines = "development = true\npolicy_file = 'policy.toml'\n";
    let world = World::start(folder, lines).expect("the box starts");
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let circuits =
        [&chat, &bank].map(|it| (it.register(&material().zkey), it.store(&material().witness)));
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push((&chat, chat.submit(&circuits[0].0, &circuits[0].1)));
        jobs.push((&bank, bank.submit(&circuits[1].0, &circuits[1].1)));
    }
    // One core is the most that a ceiling of a hundredth leaves.
    write(1, "social");
    assert!(world.node.reload_policy().expect("a policy"));
    let two = json!({ "units": 2, "durationMs": 1 });
    until(|| {
        (bank.ask("pool_demandV1", two.clone())["error"]["data"]["reason"] == "demandAboveCeiling")
            .then_some(())
    });
    // A file that is none, and one that leaves tenants without a class, change nothing.
    std::fs::write(&policy, "[classes.social]\nvalue = true\n").expect("written");
    let error = world.node.reload_policy().expect_err("no policy");
    let error = caldera_rpc::chain::chain(&error).to_string();
    assert!(error.contains("line 2: classes.social.value: "), "{error}");
    write(100, "antisocial");
    assert!(world.node.reload_policy().expect("a policy"));
    for (tenant, job) in &jobs {
        tenant.proved(job);
    }
    assert_eq!(bank.refusal("pool_demandV1", two), "demandAboveCeiling");
    let pool = world.client("operator").call("pool_statusV1", json!({}));
    let scenarios = [0, 1].map(|at| pool["tenants"][at]["scenario"].clone());
    assert_eq!(scenarios, ["financial", "social"]);
    world.stop();
}

struct LetGo<'a>(&'a AtomicU8, u8);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.store(self.1, SeqCst);
    }
}

/// The danger: a worker that hangs keeps what its tenant was to give up, for ever, and nobody notices
/// because it is the worker that would have to say so.
#[test]
fn a_worker_that_hangs_is_found_fenced_off_and_taken_back() {
    // Nobody is to be held, the next quantum is to be, one is, it may go.
    let [free, next, held, go] = [0, 1, 2, 3];
    let state = Arc::new(AtomicU8::new(free));
    let of_device = Arc::clone(&state);
    let hold = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        let swapped = of_device.compare_exchange(next, held, SeqCst, SeqCst);
        while swapped.is_ok() && of_device.load(SeqCst) != go {
            std::thread::yield_now();
        }
        quantum()
    };
    let world = World::start_on(
        tempfile::tempdir().expect("a folder"),
        "development = true\nworkers = 2",
        |inner| Around::new(inner, Arc::new(hold)),
    )
    .expect("the box starts");
    // Dropped before the box, which waits for its workers: a test that fails must end too.
    let letting_go = LetGo(&state, go);
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let operator = world.client("operator");
    let of_bank = (
        bank.register(&material().zkey),
        bank.store(&material().witness),
    );
    let of_chat = (chat.register(&larger().zkey), chat.store(&larger().witness));

    let slow = chat.submit(&of_chat.0, &of_chat.1);
    state.store(next, SeqCst);
    until(|| (state.load(SeqCst) == held).then_some(()));
    // Nothing comes from the box while it waits but the arbiter's own time.
    bank.call(
        "pool_demandV1",
        json!({ "units": 2, "durationMs": 600_000 }),
    );
    // On a machine with other work the other core may be found as well, and comes back by itself.
    until(|| (operator.metric("caldera_overruns_total") >= 1.0).then_some(()));
    let quick = bank.submit(&of_bank.0, &of_bank.1);
    bank.proved(&quick);
    until(|| {
        let pool = operator.call("pool_statusV1", json!({}));
        let owners = pool["units"].as_array().expect("two").iter();
        let nobody = owners.filter(|unit| unit["owner"].is_null()).count();
        (nobody == 1 && operator.metric("caldera_units_fenced") == 1.0).then_some(())
    });

    drop(letting_go);
    until(|| (operator.metric("caldera_units_fenced") == 0.0).then_some(()));
    bank.call("pool_demandV1", json!({ "units": 0 }));
    chat.proved(&slow);
    world.stop();
}

#[test]
fn one_folder_has_one_box() {
    let world = World::new();
    let path = world.folder.path().to_owned();
    let config = caldera_node::Config::load(
        Some(&path.join("calderad.toml")),
        &caldera_node::config::Overrides::default(),
    )
    .expect("valid");
    let error = caldera_node::Node::start(config).err().expect("refused");
    assert!(matches!(error, StartError::Blobs(_)), "{error}");
    assert_eq!(error.exit_code(), 75);
    world.stop();
}
