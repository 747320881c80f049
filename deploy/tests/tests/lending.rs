//! `kill -9` while jobs are with the fleet: between a take and its answer, between an answer and a result, between a result and its
//! answer. No acknowledged job is lost, each has one result, and a result that the fleet was told is taken is that one.
//!
//! The fleet is this test: it has a good proof for each witness, made before, and sends it, or the good proof of another statement, or
//! nothing, or gives the job back. It remembers nothing but what it was told, and asks at each start what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_tests::interop::{semaphore_witnesses, semaphore_zkey};
use caldera_tests::service::{Client, Service, token};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const DEPTH: u32 = 16;
const KILLS: usize = 12;
/// Beyond what a tenant may have prepared, so that some wait.
const JOBS_A_ROUND: usize = 10;

/// A witness and the proof of it that another box would send.
struct Statement {
    digest: String,
    bytes: Vec<u8>,
    proof: Value,
}

/// What the fleet was told, over all starts of the service.
#[derive(Default)]
struct Told {
    taken: BTreeSet<String>,
    committed: BTreeMap<String, Value>,
    wrong: usize,
    returned: usize,
}

struct Fleet<'a> {
    socket: &'a Path,
    secret: [u8; 32],
    statements: &'a [Statement],
    told: &'a mut Told,
    chance: Chance,
}

#[test]
fn nothing_that_is_lent_is_lost_or_proved_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("fleet.sock");
    let config = format!(
        "keep_witnesses = false\n[limits]\ntenant_results = 1000000\n\
         [fleet]\nsocket = {socket:?}\nlend = ['*']\nafter_ms = 0\n"
    );
    let mut service = Service::start(&[("plaza", "social")], &config);
    let secret = std::fs::read_to_string(service.folder().join("data/secrets/fleet.hex"));
    let secret = hex::decode(secret.expect("it was made").trim()).expect("digits");
    let secret: [u8; 32] = secret.try_into().expect("32 bytes");
    let plaza = service.client("plaza");
    let zkey = std::fs::read(semaphore_zkey(DEPTH)).expect("it is shipped");
    let circuit = plaza.register(&zkey, "trusted");
    let statements = statements(folder.path(), &plaza, &circuit);

    let mut told = Told::default();
    let mut chance = Chance(7);
    let mut words: BTreeMap<String, (Value, Option<Value>)> = BTreeMap::new();
    for round in 0..KILLS {
        let client = plaza.moved(&service);
        while client.get("/readyz").status != 200 {}
        let (told_one, hears) = mpsc::channel();
        let fleet = Fleet {
            socket: &socket,
            secret,
            statements: &statements,
            told: &mut told,
            chance: Chance(chance.next()),
        };
        std::thread::scope(|scope| {
            scope.spawn(move || fleet.serve(&told_one));
            let client = &client;
            let words = &mut words;
            let statements = &statements;
            let circuit = &circuit;
            let submitting = scope.spawn(move || submit(client, round, words, statements, circuit));
            for _ in 0..chance.next() % 12 {
                let _ = hears.recv();
            }
            for _ in 0..chance.next() % 20_000 {
                std::hint::spin_loop();
            }
            service.kill();
            submitting.join().expect("the client lives");
        });
        service.start_again();
    }

    let client = plaza.moved(&service);
    while client.get("/readyz").status != 200 {}
    submit(&client, KILLS, &mut words, &statements, &circuit);
    let (told_one, hears) = mpsc::channel();
    let jobs: Vec<Value> = words.values().filter_map(|(_, job)| job.clone()).collect();
    assert_eq!(jobs.len(), words.len(), "all were accepted in the end");
    let fleet = Fleet {
        socket: &socket,
        secret,
        statements: &statements,
        told: &mut told,
        chance,
    };
    let mut results = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(move || fleet.serve(&told_one));
        for job in &jobs {
            let status = client.ended(job);
            assert_eq!(status["state"], "proved", "{status}");
            let result = client.call("prover_resultV1", json!({ "job": job }));
            results.insert(job.as_str().expect("a job").to_owned(), result);
        }
        service.kill();
        drop(hears);
    });
    service.start_again();
    let client = plaza.moved(&service);
    while client.get("/readyz").status != 200 {}
    for (job, result) in &results {
        let again = client.call("prover_resultV1", json!({ "job": job }));
        assert_eq!(again, *result, "{job} has two results");
    }
    assert_eq!(results.len(), jobs.len(), "each submission is one job");
    for (job, proof) in &told.committed {
        assert_eq!(results[job]["proof"], *proof, "{job} was told to be taken");
    }
    println!(
        "{} jobs, {KILLS} kills: {} lent, {} taken as proved, {} wrong proofs refused, {} returned",
        jobs.len(),
        told.taken.len(),
        told.committed.len(),
        told.wrong,
        told.returned,
    );
    // Without these the test has shown nothing.
    assert!(told.committed.len() > KILLS && told.wrong > 0 && told.returned > 0);
}

/// Witnesses of one circuit, with a proof of each.
fn statements(folder: &Path, client: &Client, circuit: &str) -> Vec<Statement> {
    let paths = [0, 1, 2].map(|at| folder.join(format!("{at}.wtns")));
    semaphore_witnesses(DEPTH, &paths);
    let made = paths.map(|path: PathBuf| {
        let bytes = std::fs::read(path).expect("it was made");
        let digest = hex::encode(Sha256::digest(&bytes));
        client.upload(&bytes);
        let params = json!({ "circuit": circuit, "witness": digest });
        let job = client.call("prover_submitV1", params)["job"].clone();
        assert_eq!(client.ended(&job)["state"], "proved");
        let result = client.call("prover_resultV1", json!({ "job": job }));
        Statement {
            digest,
            bytes,
            proof: result["proof"].clone(),
        }
    });
    made.into()
}

/// Sends what was not answered, and some more, until the service dies.
fn submit(
    client: &Client,
    round: usize,
    words: &mut BTreeMap<String, (Value, Option<Value>)>,
    statements: &[Statement],
    circuit: &str,
) {
    for at in 0..JOBS_A_ROUND {
        let statement = &statements[at % statements.len()];
        let word = format!("{round}-{at}");
        let mut params =
            json!({ "circuit": circuit, "witness": statement.digest, "idempotencyKey": word });
        if statement.bytes.len() <= 65_536 {
            params["witnessData"] = STANDARD.encode(&statement.bytes).into();
        }
        words.insert(word, (params, None));
    }
    for (params, job) in words.values_mut().filter(|(_, job)| job.is_none()) {
        loop {
            match client.attempt("prover_submitV1", params) {
                None => return,
                Some(Ok(status)) => {
                    *job = Some(status["job"].clone());
                    break;
                }
                Some(Err(error)) if error["data"]["reason"] == "blobUnknown" => {
                    let statement = statements.iter().find(|it| params["witness"] == it.digest);
                    let bytes = &statement.expect("one of ours").bytes;
                    if client.attempt_upload(bytes).is_none() {
                        return;
                    }
                }
                Some(Err(error)) => panic!("{params}: {error}"),
            }
        }
    }
}

impl Fleet<'_> {
    /// Does what a fleet does until the service dies.
    fn serve(mut self, tell: &mpsc::Sender<()>) {
        let Some(Ok(held)) = self.call("fleet_heldV1", &json!({})) else {
            return;
        };
        let mut cursor = held["cursor"].clone();
        let mut jobs = held["jobs"].as_array().expect("a list").clone();
        loop {
            for job in std::mem::take(&mut jobs) {
                if self.settle(&job).is_none() {
                    return;
                }
                let _ = tell.send(());
            }
            let params = json!({ "max": 3, "cursor": cursor, "waitMs": 1_000 });
            let Some(taken) = self.call("fleet_takeV1", &params) else {
                return;
            };
            let taken = taken.expect("what is asked for is right");
            cursor = taken["cursor"].clone();
            jobs.extend(taken["jobs"].as_array().expect("a list").iter().cloned());
            let _ = tell.send(());
        }
    }

    /// Does something about a job that is lent.
    fn settle(&mut self, job: &Value) -> Option<()> {
        let name = job["job"].as_str().expect("a name").to_owned();
        self.told.taken.insert(name.clone());
        let own = self
            .statements
            .iter()
            .position(|it| job["witness"]["digest"] == it.digest);
        let own = own.expect("one of ours");
        let mut result = json!({ "job": job["job"], "fence": job["fence"] });
        if self.chance.next().is_multiple_of(6) {
            if self.call("fleet_returnV1", &result)?.is_ok() {
                self.told.returned += 1;
            }
            return Some(());
        }
        if self.chance.next().is_multiple_of(4) {
            // A proof that holds, and not of this.
            let other = (own + 1) % self.statements.len();
            result["proof"] = self.statements[other].proof.clone();
            let refused = self.call("fleet_resultV1", &result)?;
            let reason = refused.expect_err("another statement")["data"]["reason"].clone();
            assert_eq!(reason, "lentProofWrong", "{name}");
            self.told.wrong += 1;
        }
        let proof = self.statements[own].proof.clone();
        result["proof"] = proof.clone();
        let done = self.call("fleet_resultV1", &result)?;
        assert_eq!(done, Ok(json!({ "job": job["job"] })), "{name}");
        let before = self.told.committed.insert(name.clone(), proof);
        assert_eq!(before, None, "{name} was taken twice");
        let again = self.call("fleet_resultV1", &result)?;
        let reason = again.expect_err("it has ended")["data"]["reason"].clone();
        assert_eq!(reason, "jobNotLent", "{name}");
        Some(())
    }

    /// A call of a service that may die meanwhile.
    fn call(&self, method: &str, params: &Value) -> Option<Result<Value, Value>> {
        let mut stream = UnixStream::connect(self.socket).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .ok()?;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let token = token(
            &json!({ "alg": "HS256", "typ": "JWT", "kid": "fleet" }),
            &json!({ "iat": now.expect("after 1970").as_secs() }),
            &self.secret,
        );
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let mut body: Value = serde_json::from_str(body).ok()?;
        match body.get_mut("error") {
            Some(error) => Some(Err(error.take())),
            None => Some(Ok(body["result"].take())),
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
