//! Jobs through restarts: what is acknowledged goes on, ends once, and leaves nothing of its witness.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_kernels::Around;
use serde_json::{Value, json};
use tempfile::TempDir;

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

/// The calls would wait for an hour, and the client gives up after two minutes.
#[test]
fn a_call_that_waits_is_answered_when_the_job_ends_or_its_time_is_over() {
    let world = World::with("development = true\nlimits = { wait_ms = 3600000 }\n");
    let chat = world.client("chat");
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    // So many that the last is not proved by the time that somebody asks for it.
    let jobs: Vec<String> = (0..24).map(|_| chat.submit(&circuit, &witness)).collect();
    let last = jobs.last().expect("some");
    let early = chat.call("prover_statusV1", json!({ "job": last, "waitMs": 1 }));
    assert_ne!(early["state"], "proved", "{early}");
    let result = chat.call(
        "prover_resultV1",
        json!({ "job": last, "waitMs": 3_600_000 }),
    );
    assert!(result["proof"].is_object(), "{result}");
    // One that has ended is answered at once, and so is one that is cancelled by somebody else.
    chat.call(
        "prover_statusV1",
        json!({ "job": last, "waitMs": 3_600_000 }),
    );
    let more: Vec<String> = (0..6).map(|_| chat.submit(&circuit, &witness)).collect();
    let last = more.last().expect("six").clone();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            chat.ask(
                "prover_resultV1",
                json!({ "job": last, "waitMs": 3_600_000 }),
            )
        });
        chat.call("prover_cancelV1", json!({ "job": last }));
        let answer = waits.join().expect("an answer");
        assert_eq!(
            answer["error"]["data"]["reason"], "jobCancelled",
            "{answer}"
        );
    });
    world.stop();
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

/// A box whose workers stop in the middle of a proof while they are told to.
pub(crate) fn held_box(hold: &Arc<AtomicBool>, lines: &str) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    held_box_with(hold, folder, "", lines)
}

/// The same in a folder that may have been used before, with more limits.
pub(crate) fn held_box_with(
    hold: &Arc<AtomicBool>,
    folder: TempDir,
    limits: &str,
    lines: &str,
) -> World {
    let of_device = Arc::clone(hold);
    let wait = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
        while of_device.load(SeqCst) {
            std::thread::yield_now();
        }
        quantum()
    };
    World::start_on(
        folder,
        &format!(
            "development = true\n{lines}\n\
             [limits]\nwait_ms = 3600000\nbody_gap_ms = 3600000\nrate_grace_ms = 3600000\n{limits}\n"
        ),
        |inner| Around::new(inner, Arc::new(wait)),
    )
    .expect("the box starts")
}

/// Lets the workers go, also when a test fails: the box waits for them.
pub(crate) struct LetGo<'a>(pub(crate) &'a AtomicBool);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

pub(crate) fn connect(client: &Client) -> TcpStream {
    let address = client.url.strip_prefix("http://").expect("an address");
    let stream = TcpStream::connect(address).expect("it listens");
    // So that a test that would hang ends.
    let patience = Some(Duration::from_secs(60));
    stream.set_read_timeout(patience).expect("set");
    stream
}

/// While the job is held nothing but what the client does can end the wait.
#[test]
fn who_hangs_up_waits_no_longer_and_who_cancels_ends_all_waits() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let chat = world.client("chat");
    let circuit = chat.register(&material().zkey);
    let witness = chat.store(&material().witness);
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let job = chat.submit(&circuit, &witness);

    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "prover_resultV1",
        "params": { "job": job, "waitMs": 3_600_000 },
    })
    .to_string();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: box\r\nAuthorization: {}\r\nContent-Length: {}\r\n\r\n{body}",
        chat.token(),
        body.len()
    );
    let mut half = connect(&chat);
    half.write_all(head.as_bytes()).expect("sent");
    half.shutdown(Shutdown::Write).expect("ended");
    let mut answer = String::new();
    half.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains("jobNotFinished"), "{answer}");

    let mut waits = connect(&chat);
    waits.write_all(head.as_bytes()).expect("sent");
    let cancelled = chat.call("prover_cancelV1", json!({ "job": job }));
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let mut answer = [0; 1024];
    let count = waits.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..count]);
    assert!(answer.contains("jobCancelled"), "{answer}");
    drop(letting_go);
    world.stop();
}

/// The events of a stream: their names and what they say.
pub(crate) fn events(text: &str) -> Vec<(String, Value)> {
    let (_, body) = text.split_once("\r\n\r\n").expect("a head");
    let event = |text: &str| {
        let (name, data) = text.split_once('\n')?;
        let name = name.strip_prefix("event: ")?.to_owned();
        let data = data.strip_prefix("data: ").expect("data");
        Some((name, serde_json::from_str(data).expect("JSON")))
    };
    body.split("\n\n").filter_map(event).collect()
}

#[test]
fn a_stream_tells_of_a_job_until_its_result() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let (chat, bank) = (world.client("chat"), world.client("bank"));
    let circuit = chat.register(&material().zkey);
    let witness = chat.store(&material().witness);
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let jobs = [(); 2].map(|()| chat.submit(&circuit, &witness));
    let get = |client: &Client, job: &str| {
        let mut stream = connect(client);
        let head = format!(
            "GET /v1/jobs/{job}/events HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: {}\r\n\r\n",
            client.token()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    };
    let rest = |mut stream: TcpStream, mut text: String| {
        stream.read_to_string(&mut text).expect("the rest");
        text
    };
    // The first events come while nothing moves.
    let streams = [0, 1].map(|at| {
        let mut stream = get(&chat, &jobs[at]);
        let mut text = String::new();
        while !text.contains("\n\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a byte");
            text.push(char::from(byte[0]));
        }
        (stream, text)
    });
    chat.call("prover_cancelV1", json!({ "job": jobs[1] }));
    drop(letting_go);
    let [first, second] = streams.map(|(stream, text)| events(&rest(stream, text)));
    let result = chat.proved(&jobs[0]);
    let (name, data) = first.last().expect("events");
    assert_eq!((name.as_str(), data), ("result", &result));
    let (name, data) = &first[first.len() - 2];
    assert_eq!((name.as_str(), data), ("status", &chat.status(&jobs[0])));
    assert_ne!(first[0].1["state"], "proved");
    let (name, data) = second.last().expect("events");
    assert_eq!(
        (name.as_str(), &data["state"]),
        ("status", &json!("cancelled"))
    );

    // For others, and where there is none, there is nothing.
    let status =
        |client: &Client, job: &str| rest(get(client, job), String::new())[9..12].to_owned();
    assert_eq!(status(&bank, &jobs[0]), "404");
    assert_eq!(status(&chat, "0x0000000000000001"), "404");
    assert_eq!(status(&chat, "1"), "400");
    assert_eq!(status(&world.client("operator"), &jobs[0]), "403");
    world.stop();
}

/// A program that matches on a reason, or shows a message, finds the same after a restart.
#[test]
fn how_a_job_ended_is_told_in_the_same_words_after_a_restart() {
    let world = World::new();
    let bank = world.client("bank");
    let circuit = bank.register(&material().zkey);
    let mut high = material().witness.clone();
    let end = high.len();
    high[end - 32..].fill(0xff);
    let cut = &material().witness[..100];
    let witnesses: [&[u8]; 4] = [&material().wrong, &larger().witness, &high, cut];
    let mut jobs: Vec<String> = witnesses
        .iter()
        .map(|witness| bank.submit(&circuit, &bank.store(witness)))
        .collect();
    // Whoever is slow to cancel it finds its proof made, and takes another.
    let witness = bank.store(&material().witness);
    jobs.push(until(|| {
        let job = bank.submit(&circuit, &witness);
        let status = bank.call("prover_cancelV1", json!({ "job": job }));
        (status["state"] == "cancelled").then_some(job)
    }));
    let told = |client: &Client| -> Vec<(Value, Value)> {
        let of = |job: &String| {
            let status = client.ended(job);
            let result = client.ask("prover_resultV1", json!({ "job": job }));
            (status, result["error"].clone())
        };
        jobs.iter().map(of).collect()
    };
    let before = told(&bank);
    let reasons: Vec<&Value> = before
        .iter()
        .map(|(_, error)| &error["data"]["reason"])
        .collect();
    let expected = [
        "selfCheckFailed",
        "witnessLength",
        "witnessRange",
        "witnessTruncated",
        "jobCancelled",
    ];
    assert_eq!(reasons, expected);
    let folder = world.stop();
    let world = World::start(folder, "development = true\n").expect("it starts again");
    assert_eq!(told(&world.client("bank")), before);
    world.stop();
}

/// They were acknowledged under a policy with more room.
#[test]
fn jobs_without_a_place_wait_for_one_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy.toml");
    let write = |queue: u32| {
        let class = |name: &str| {
            format!(
                "[classes.{name}]\nvalue = 1\nguarantee_percent = 0\nqueue_max = {queue}\n\
                 prepared_max = 1\n"
            )
        };
        let text = class("financial") + &class("social");
        std::fs::write(&policy, text).expect("written");
    };
    write(64);
    let lines = "development = true\npolicy_file = 'policy.toml'\n";
    let world = World::start(folder, lines).expect("the box starts");
    let chat = world.client("chat");
    let circuit = chat.register(&larger().zkey);
    let witness = chat.store(&larger().witness);
    let jobs: Vec<String> = (0..12).map(|_| chat.submit(&circuit, &witness)).collect();
    let folder = world.stop();
    write(2);
    let world = World::start(folder, lines).expect("it starts again");
    let chat = world.client("chat");
    let unfinished = jobs
        .iter()
        .filter(|job| chat.status(job)["state"] != "proved");
    assert!(
        unfinished.count() > 2,
        "there is a place for all that are left"
    );
    assert_eq!(chat.settled_circuit()["state"], "ready");
    for job in &jobs {
        chat.proved(job);
    }
    world.stop();
}
