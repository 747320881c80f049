//! Jobs through restarts: what is acknowledged goes on, ends once, and leaves nothing of its witness.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::world::{Client, World, digest, larger, material, until};

const ERASING: &str = "development = true\nkeep_witnesses = false\n";

/// A submission that brings its witness.
fn with_witness(circuit: &str, witness: &[u8]) -> Value {
    json!({
        "circuit": circuit,
        "witness": digest(witness),
        "witnessData": STANDARD.encode(witness),
    })
}

fn job_of(status: &Value) -> String {
    status["job"].as_str().expect("a job").to_owned()
}

/// Whether some file below a folder holds bytes.
fn holds(folder: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return holds(&path, needle);
            }
            let mut bytes = Vec::new();
            // A file may have gone meanwhile.
            let opened = std::fs::File::open(&path);
            if opened
                .and_then(|mut file| file.read_to_end(&mut bytes))
                .is_err()
            {
                return false;
            }
            bytes.windows(needle.len()).any(|window| window == needle)
        })
}

#[test]
fn unfinished_jobs_go_on_after_a_restart_and_keep_their_keys() {
    let world = World::with(ERASING);
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let circuit = chat.register(&larger().zkey);
    assert_eq!(bank.register(&material().zkey).len(), 64);
    let short = digest(&material().zkey);
    let mut jobs = Vec::new();
    for at in 0..6 {
        let witness = chat.store(&larger().witness);
        let params = json!({
            "circuit": circuit, "witness": witness, "idempotencyKey": format!("block-{at}"),
        });
        jobs.push((&chat, job_of(&chat.call("prover_submitV1", params))));
    }
    // One whose witness is in its row, and whose deadline is over when the box starts again.
    let mut params = with_witness(&short, &material().witness);
    params["deadlineMs"] = json!(1);
    params["idempotencyKey"] = json!("late");
    jobs.push((&bank, job_of(&bank.call("prover_submitV1", params.clone()))));
    let unfinished: Vec<_> = jobs
        .iter()
        .map(|(client, job)| client.status(job)["state"] != "proved")
        .collect();
    assert!(unfinished.iter().any(|it| *it), "all were proved already");
    let names: Vec<String> = jobs.into_iter().map(|(_, job)| job).collect();
    let folder = world.stop();

    let world = World::start(folder, ERASING).expect("it starts again");
    let (bank, chat) = (world.client("bank"), world.client("chat"));
    let again = job_of(&bank.call("prover_submitV1", params.clone()));
    assert_eq!(again, names[6]);
    params["deadlineMs"] = json!(2);
    assert_eq!(
        bank.refusal("prover_submitV1", params),
        "idempotencyConflict"
    );
    for client in [&bank, &chat] {
        assert_eq!(client.settled_circuit()["state"], "ready");
    }
    for job in &names[..6] {
        chat.proved(job);
    }
    let result = bank.proved(&names[6]);
    assert_eq!(result["late"], true, "{result}");
    // Asked again, and after another start, the proof is the same.
    let folder = world.stop();
    let world = World::start(folder, ERASING).expect("it starts again");
    assert_eq!(
        world
            .client("bank")
            .call("prover_resultV1", json!({ "job": names[6] })),
        result
    );
    world.stop();
}

#[test]
fn a_witness_is_erased_with_its_last_job() {
    let world = World::with(ERASING);
    let bank = world.client("bank");
    let circuit = bank.register(&larger().zkey);
    let data = world.folder.path().join("data");
    // The last wires are inner ones: nothing public holds them.
    let needle = &larger().witness[larger().witness.len() - 256..];
    let witness = bank.store(&larger().witness);
    assert!(holds(&data, needle));
    let params = json!({ "circuit": circuit, "witness": witness });
    let jobs = [0; 3].map(|_| job_of(&bank.call("prover_submitV1", params.clone())));
    // It is needed, so it is not removed.
    if bank.status(&jobs[2])["state"] == "queued" {
        assert_eq!(bank.delete(&witness), 409);
    }
    for job in &jobs {
        bank.proved(job);
    }
    until(|| (!holds(&data, needle)).then_some(()));
    assert_eq!(
        bank.refusal("prover_submitV1", params.clone()),
        "blobUnknown"
    );

    // Cancelled and failed jobs leave no more of theirs; nor do those that brought their witness.
    assert_eq!(bank.put(&witness, &larger().witness), 201);
    let job = job_of(&bank.call("prover_submitV1", params));
    bank.call("prover_cancelV1", json!({ "job": job }));
    until(|| (!holds(&data, needle)).then_some(()));
    let short = &material().witness;
    let needle = &short[short.len() - 256..];
    let chat = world.client("chat");
    let other = chat.register(&material().zkey);
    let jobs =
        [(&chat, other, "proved"), (&bank, circuit, "failed")].map(|(client, circuit, end)| {
            let job = job_of(&client.call("prover_submitV1", with_witness(&circuit, short)));
            let status = client.ended(&job);
            assert_eq!(status["state"], end, "{status}");
            (client, job)
        });
    until(|| (!holds(&data, needle)).then_some(()));
    chat.proved(&jobs[0].1);
    world.stop();
}

#[test]
fn a_witness_that_is_not_its_digest_is_refused() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let mut params = with_witness(&circuit, &material().witness);
    params["witness"] = json!(digest(b"another"));
    assert_eq!(bank.refusal("prover_submitV1", params), "invalidParams");
    let long = with_witness(&circuit, &[0; 65_537]);
    assert_eq!(bank.refusal("prover_submitV1", long), "invalidParams");
    world.stop();
}

/// Nothing here takes as long as the calls would wait.
#[test]
fn a_call_that_waits_is_answered_when_the_job_ends_or_its_time_is_over() {
    let world = World::with("development = true\nlimits = { wait_ms = 60000 }\n");
    let chat = world.client("chat");
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    let jobs: Vec<String> = (0..6).map(|_| chat.submit(&circuit, &witness)).collect();
    let last = jobs.last().expect("six");
    let began = Instant::now();
    let early = chat.call("prover_statusV1", json!({ "job": last, "waitMs": 1 }));
    assert_eq!(early["state"], "queued", "{early}");
    let result = chat.call("prover_resultV1", json!({ "job": last, "waitMs": 600_000 }));
    assert!(result["proof"].is_object(), "{result}");
    // One that has ended is answered at once, and so is one that is cancelled by somebody else.
    chat.call("prover_statusV1", json!({ "job": last, "waitMs": 60_000 }));
    let more: Vec<String> = (0..6).map(|_| chat.submit(&circuit, &witness)).collect();
    let last = more.last().expect("six").clone();
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| chat.ask("prover_resultV1", json!({ "job": last, "waitMs": 60_000 })));
        chat.call("prover_cancelV1", json!({ "job": last }));
        let answer = waits.join().expect("an answer");
        assert_eq!(
            answer["error"]["data"]["reason"], "jobCancelled",
            "{answer}"
        );
    });
    assert!(began.elapsed() < Duration::from_secs(60));
    // A client that goes away while it waits holds nothing up.
    let gone = chat.submit(&circuit, &witness);
    drop(hang_up(&chat, &gone));
    chat.proved(&gone);
    world.stop();
}

/// Sends a call that waits, and does not wait for its answer.
fn hang_up(client: &Client, job: &str) -> std::net::TcpStream {
    use std::io::Write;
    let address = client.url.strip_prefix("http://").expect("an address");
    let mut stream = std::net::TcpStream::connect(address).expect("it listens");
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "prover_resultV1",
        "params": { "job": job, "waitMs": 60_000 },
    })
    .to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: box\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n{body}",
        client.token(),
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream
}

/// Results are kept for so long, counted from their end and through restarts.
#[test]
fn results_are_forgotten_when_their_time_is_over() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let job = bank.submit(&circuit, &bank.store(&material().witness));
    bank.proved(&job);
    let folder = world.stop();
    let world = World::start(
        folder,
        "development = true\nlimits = { result_seconds = 0 }\n",
    )
    .expect("it starts again");
    let bank = world.client("bank");
    until(|| {
        let answer = bank.ask("prover_statusV1", json!({ "job": job }));
        (answer["error"]["data"]["reason"] == "jobUnknown").then_some(())
    });
    let folder = world.stop();
    let world = World::start(folder, "development = true\n").expect("it starts again");
    let refused = world
        .client("bank")
        .refusal("prover_statusV1", json!({ "job": job }));
    assert_eq!(refused, "jobUnknown");
    world.stop();
}

/// The quota is SQLite's own: what it says beyond it is what it says of a full disk.
#[test]
fn a_box_that_cannot_write_says_so_keeps_what_it_has_and_recovers() {
    let world = World::with("development = true\nlimits = { database_bytes = 131072 }\n");
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    let first = bank.submit(&circuit, &witness);
    let result = bank.proved(&first);
    let submit = |witness: &[u8]| bank.ask("prover_submitV1", with_witness(&circuit, witness));
    // What does not fit any key fails when it is read, and is written down before.
    let refused = until(|| submit(&[7; 60_000]).get("error").cloned());
    assert_eq!(refused["data"]["reason"], "storageUnavailable", "{refused}");
    assert!(
        refused["data"]["retryAfterMs"].as_u64() > Some(0),
        "{refused}"
    );
    assert_eq!(
        bank.call("prover_resultV1", json!({ "job": first })),
        result
    );
    // Pages that ended jobs have given back are room for small ones.
    until(|| (bank.get("/readyz").0 == 200).then_some(()));
    let small = submit(&material().witness);
    bank.proved(&job_of(&small["result"]));
    world.stop();
}
