//! What the box's own fleet process is given and takes back. Workers are held meanwhile, so that what waits goes on waiting and no
//! test depends on how fast anything is; the proofs that another box would send were made before.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use caldera_node::clock::unix_time;
use caldera_rpc::auth::{self, Secret};
use serde_json::{Value, json};

use crate::durable::{LetGo, held_box};
use crate::world::{Client, World, digest, material, until};

/// A tenant of whose jobs one is begun at a time, and a fleet that may have what waits.
const NARROW: &str = "[[tenant]]\nname = 'narrow'\nscenario = 'social'\nquotas = { running = 1 }\n\
                      [fleet]\nsocket = 'fleet.sock'\nlend = ['narrow']\nafter_ms = 0\nprice_max = 5\n";

/// Somebody at the fleet's socket.
struct Knocker {
    socket: PathBuf,
    name: String,
    secret: Secret,
}

/// An answer over HTTP.
struct Heard {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Knocker {
    fn of(world: &World, name: &str) -> Knocker {
        let folder = world.folder.path();
        let secret = folder.join(format!("data/secrets/{name}.hex"));
        let text = std::fs::read_to_string(secret).expect("a secret");
        Knocker {
            socket: folder.join("fleet.sock"),
            name: name.to_owned(),
            secret: Secret::parse(&text).expect("64 digits"),
        }
    }

    fn send(&self, line: &str, more: &str, body: &str) -> Heard {
        let mut stream = UnixStream::connect(&self.socket).expect("it listens");
        // So that a test that would hang ends.
        let patience = Some(Duration::from_secs(120));
        stream.set_read_timeout(patience).expect("set");
        let token = auth::sign(&self.name, &self.secret, unix_time().as_secs());
        let length = match body {
            "" => String::new(),
            body => format!("Content-Length: {}\r\n", body.len()),
        };
        let request = format!(
            "{line} HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             {more}{length}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
            .expect("a head");
        let head = String::from_utf8(answer[..end].to_vec()).expect("text");
        Heard {
            status: head[9..12].parse().expect("a status"),
            head,
            body: answer[end + 4..].to_vec(),
        }
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let heard = self.send("POST /", "", &request.to_string());
        assert_eq!(heard.status, 200, "{}", heard.head);
        serde_json::from_slice(&heard.body).expect("JSON")
    }

    fn call(&self, method: &str, params: Value) -> Value {
        let mut answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    fn refusal(&self, method: &str, params: Value) -> String {
        let answer = self.ask(method, params);
        let reason = answer["error"]["data"]["reason"].as_str();
        reason
            .unwrap_or_else(|| panic!("{method}: {answer}"))
            .to_owned()
    }

    fn held(&self) -> Value {
        self.call("fleet_heldV1", json!({}))
    }

    /// Waits until so many jobs are lent, and not for long.
    fn take(&self, max: usize) -> Vec<Value> {
        let cursor = self.held()["cursor"].clone();
        let params = json!({ "max": max, "cursor": cursor, "waitMs": 60_000 });
        let mut jobs = Vec::new();
        while jobs.len() < max {
            let taken = self.call("fleet_takeV1", params.clone());
            jobs.extend(taken["jobs"].as_array().expect("a list").iter().cloned());
        }
        jobs
    }

    fn result(&self, of: &Value, proof: &Value) -> Value {
        json!({ "job": of["job"], "fence": of["fence"], "proof": proof })
    }
}

fn name_of(lent: &Value) -> Value {
    json!({ "job": lent["job"], "fence": lent["fence"] })
}

/// What a tenant has registered, a proof that was made before, and four jobs of the same that wait behind each other.
struct Scene {
    circuit: String,
    proof: Value,
    jobs: Vec<String>,
}

impl Scene {
    fn new(client: &Client, hold: &AtomicBool) -> Scene {
        let circuit = client.register(&material().zkey);
        let witness = client.store(&material().witness);
        let submit = || {
            let params = json!({ "circuit": circuit, "witness": witness });
            let status = client.call("prover_submitV1", params);
            status["job"].as_str().expect("a job").to_owned()
        };
        let proof = client.proved(&submit())["proof"].clone();
        hold.store(true, SeqCst);
        let jobs = (0..4).map(|_| submit()).collect();
        Scene {
            circuit,
            proof,
            jobs,
        }
    }
}

#[test]
fn what_waits_is_lent_from_the_far_end_and_ends_by_a_proof_that_is_verified_here() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let (narrow, bank) = (world.client("narrow"), world.client("bank"));
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    assert_eq!(fleet.held()["jobs"], json!([]));

    let lent = fleet.take(2);
    let names = [&lent[0], &lent[1]].map(|it| it["job"].clone());
    assert_eq!(
        names,
        [&scene.jobs[3], &scene.jobs[2]].map(|job| json!(job))
    );
    let last = &lent[0];
    assert_eq!(last["fence"], 2);
    assert_eq!(last["tenantClass"], "social");
    assert_eq!(last["priceMax"], 5);
    assert_eq!(last["dueMs"], Value::Null);
    assert!(last["workMs"].as_f64() > Some(0.0), "{last}");
    assert_eq!(last["circuit"]["digest"], json!(scene.circuit));
    assert_eq!(last["circuit"]["curve"], "bn128");
    assert_eq!(last["circuit"]["bytes"], material().zkey.len());
    assert_eq!(last["witness"]["bytes"], material().witness.len());
    let mut in_order = lent.clone();
    in_order.reverse();
    assert_eq!(fleet.held()["jobs"], json!(in_order));
    // Its tenant sees it wait.
    assert_eq!(narrow.status(&scene.jobs[3])["state"], "queued");

    // A point in another's place, a proof of nothing, and no proof at all.
    let mut other = scene.proof.clone();
    other["pi_c"] = other["pi_a"].clone();
    for wrong in [other, json!({}), json!("0x")] {
        let refused = fleet.refusal("fleet_resultV1", fleet.result(last, &wrong));
        assert_eq!(refused, "lentProofWrong", "{wrong}");
    }
    let mut stale = fleet.result(last, &scene.proof);
    stale["fence"] = json!(1);
    assert_eq!(fleet.refusal("fleet_resultV1", stale), "fenceStale");
    let mut nobodys = fleet.result(last, &scene.proof);
    nobodys["job"] = json!("0x0000000000000001");
    assert_eq!(fleet.refusal("fleet_resultV1", nobodys), "jobNotLent");
    assert_eq!(fleet.held()["jobs"], json!(in_order));

    let good = fleet.result(last, &scene.proof);
    let done = fleet.call("fleet_resultV1", good.clone());
    assert_eq!(done, json!({ "job": last["job"] }));
    let result = narrow.proved(&scene.jobs[3]);
    assert_eq!(result["proof"], scene.proof);
    assert_eq!(fleet.refusal("fleet_resultV1", good), "jobNotLent");
    assert_eq!(narrow.proved(&scene.jobs[3]), result);

    // The other comes home, and is proved here when the workers go on; it is not lent again.
    let back = name_of(&lent[1]);
    fleet.call("fleet_returnV1", back.clone());
    assert_eq!(fleet.refusal("fleet_returnV1", back), "jobNotLent");
    assert_eq!(fleet.held()["jobs"], json!([]));
    let late = fleet.result(&lent[1], &scene.proof);
    assert_eq!(fleet.refusal("fleet_resultV1", late), "jobNotLent");
    let operator = world.client("operator");
    for (sample, expected) in [
        ("caldera_fleet_jobs", 0.0),
        ("caldera_fleet_lent_total", 2.0),
        ("caldera_fleet_proved_total", 1.0),
        ("caldera_fleet_home_total{reason=\"returned\"}", 1.0),
        (
            "caldera_fleet_refused_total{reason=\"lentProofWrong\"}",
            3.0,
        ),
        ("caldera_fleet_refused_total{reason=\"fenceStale\"}", 1.0),
    ] {
        assert_eq!(operator.metric(sample), expected, "{sample}");
    }
    assert_eq!(bank.get("/readyz").0, 200);
    drop(letting_go);
    for job in &scene.jobs[..3] {
        narrow.proved(job);
    }
    world.stop();
}

#[test]
fn what_a_lender_needs_is_read_in_pieces() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    let lent = fleet.take(1).remove(0);
    let path = |what: &str| {
        let job = lent["job"].as_str().expect("a job");
        format!("GET /v1/fleet/jobs/{job}/{what}")
    };
    let get = |what: &str, range: &str| fleet.send(&path(what), range, "");

    for (what, whole) in [("witness", &material().witness), ("key", &material().zkey)] {
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < whole.len() {
            // Two pieces at least, whatever an answer holds.
            let last = (bytes.len() + whole.len() / 2).min(whole.len() + 9);
            let range = format!("Range: bytes={}-{last}\r\n", bytes.len());
            let piece = get(what, &range);
            assert_eq!(piece.status, 206, "{}", piece.head);
            let end = (bytes.len() + piece.body.len() - 1).to_string();
            let said = format!("Content-Range: bytes {}-{end}/{}", bytes.len(), whole.len());
            assert!(piece.head.contains(&said), "{said}: {}", piece.head);
            bytes.extend(piece.body);
        }
        assert_eq!(digest(&bytes), digest(whole));
        let beyond = get(what, &format!("Range: bytes={}-\r\n", whole.len()));
        assert_eq!(beyond.status, 416, "{}", beyond.head);
        let all = format!("Content-Range: bytes */{}", whole.len());
        assert!(beyond.head.contains(&all), "{}", beyond.head);
    }
    assert_eq!(get("witness", "").status, 400);
    assert_eq!(get("witness", "Range: bytes=0-1,3-4\r\n").status, 400);
    assert_eq!(get("proof", "Range: bytes=0-\r\n").status, 404);
    // Of a job that is not lent, and for somebody else.
    let job = &scene.jobs[0];
    let own = format!("GET /v1/fleet/jobs/{job}/witness");
    let range = "Range: bytes=0-\r\n";
    assert_eq!(fleet.send(&own, range, "").status, 404);
    let tenant = Knocker::of(&world, "narrow");
    assert_eq!(tenant.send(&path("witness"), range, "").status, 403);
    fleet.call("fleet_returnV1", name_of(&lent));
    assert_eq!(get("witness", range).status, 404);
    drop(letting_go);
    world.stop();
}

/// The danger: two boxes that are full and send each other's jobs to each other, for ever.
#[test]
fn what_is_proved_for_other_boxes_is_lent_to_nobody() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    let lent = fleet.take(1).remove(0);
    // As who comes in at this socket the jobs of others are proved.
    let guest = Knocker::of(&world, "narrow");
    assert!(guest.call("prover_listCircuitsV1", json!({})).is_array());
    let take = json!({ "max": 8, "cursor": fleet.held()["cursor"], "waitMs": 300 });
    assert_eq!(fleet.call("fleet_takeV1", take)["jobs"], json!([]));
    fleet.call("fleet_resultV1", fleet.result(&lent, &scene.proof));
    drop(letting_go);
    for job in &scene.jobs {
        narrow.proved(job);
    }
    world.stop();
}

/// A call that waits for withdrawals hears of a cancellation, and what comes for the job afterwards has no effect.
#[test]
fn who_has_a_job_that_is_cancelled_is_told() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    let lent = fleet.take(1).remove(0);
    let cursor = fleet.held()["cursor"].clone();
    let wait = json!({ "max": 0, "cursor": cursor, "waitMs": 3_600_000 });
    let withdrawn = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fleet.call("fleet_takeV1", wait.clone()));
        let cancelled = narrow.call("prover_cancelV1", json!({ "job": lent["job"] }));
        assert_eq!(cancelled["state"], "cancelled");
        waiting.join().expect("an answer")
    });
    assert_eq!(withdrawn["withdrawn"], json!([name_of(&lent)]));
    assert_eq!(withdrawn["jobs"], json!([]));
    // It is told again to who says that he has not heard it.
    let again = fleet.call("fleet_takeV1", wait);
    assert_eq!(again, withdrawn);
    let after = json!({ "max": 0, "cursor": again["cursor"] });
    assert_eq!(fleet.call("fleet_takeV1", after)["withdrawn"], json!([]));
    let late = fleet.result(&lent, &scene.proof);
    assert_eq!(fleet.refusal("fleet_resultV1", late), "jobNotLent");
    let job = json!({ "job": lent["job"] });
    assert_eq!(narrow.refusal("prover_resultV1", job), "jobCancelled");
    drop(letting_go);
    world.stop();
}

#[test]
fn what_is_lent_outlives_a_start_under_the_same_fence() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    let lent = fleet.take(2);
    let before = fleet.held();
    drop(letting_go);
    let folder = world.stop();

    let lines = format!("development = true\n{NARROW}");
    let world = World::start(folder, &lines).expect("the box starts");
    let narrow = world.client("narrow");
    until(|| (narrow.get("/readyz").0 == 200).then_some(()));
    let fleet = Knocker::of(&world, "fleet");
    let held = fleet.held();
    assert_eq!(names(&held), names(&before));
    let stale = json!({ "max": 0, "cursor": before["cursor"].as_u64().expect("a number") - 1 });
    assert_eq!(fleet.refusal("fleet_takeV1", stale), "fleetCursor");
    fleet.call("fleet_resultV1", fleet.result(&lent[0], &scene.proof));
    fleet.call("fleet_returnV1", name_of(&lent[1]));
    for job in &scene.jobs {
        narrow.proved(job);
    }
    let result = narrow.proved(&scene.jobs[3]);
    assert_eq!(result["proof"], scene.proof);
    let folder = world.stop();

    // Without a fleet there is nobody who could bring them.
    let without = "development = true\n[[tenant]]\nname = 'narrow'\nscenario = 'social'\n";
    let world = World::start(folder, without).expect("the box starts");
    let narrow = world.client("narrow");
    until(|| (narrow.get("/readyz").0 == 200).then_some(()));
    assert_eq!(narrow.proved(&scene.jobs[3]), result);
    world.stop();
}

fn names(held: &Value) -> Vec<Value> {
    let jobs = held["jobs"].as_array().expect("a list");
    jobs.iter().map(name_of).collect()
}

#[test]
fn jobs_that_were_lent_come_home_where_there_is_no_fleet_any_more() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    Knocker::of(&world, "fleet").take(2);
    drop(letting_go);
    let folder = world.stop();
    let without = "development = true\n[[tenant]]\nname = 'narrow'\nscenario = 'social'\n";
    let world = World::start(folder, without).expect("the box starts");
    let narrow = world.client("narrow");
    for job in &scene.jobs {
        narrow.proved(job);
    }
    world.stop();
}

/// A fleet that is not heard is no reason to lose anything.
#[test]
fn jobs_come_home_from_a_silent_fleet() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, &format!("{NARROW}silence_ms = 1000\n"));
    let narrow = world.client("narrow");
    let letting_go = LetGo(&hold);
    let scene = Scene::new(&narrow, &hold);
    let fleet = Knocker::of(&world, "fleet");
    let operator = world.client("operator");
    let lent = fleet.take(1).remove(0);
    let home = "caldera_fleet_home_total{reason=\"silence\"}";
    until(|| (operator.metric(home) == 1.0).then_some(()));
    let late = fleet.result(&lent, &scene.proof);
    assert_eq!(fleet.refusal("fleet_resultV1", late), "jobNotLent");
    let cursor = fleet.held()["cursor"].as_u64().expect("a number");
    let told = json!({ "max": 0, "cursor": cursor - 1 });
    let told = fleet.call("fleet_takeV1", told);
    assert_eq!(told["withdrawn"], json!([name_of(&lent)]));
    // A fleet that is heard again may have it again, under another fence.
    let again = fleet.take(1).remove(0);
    assert_eq!(again["job"], lent["job"]);
    assert_eq!(again["fence"], 4);
    let stale = fleet.result(&lent, &scene.proof);
    assert_eq!(fleet.refusal("fleet_resultV1", stale), "fenceStale");
    drop(letting_go);
    world.stop();
}

#[test]
fn nobody_else_is_the_fleet_and_it_is_nobody_else() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, NARROW);
    let bank = world.client("bank");
    let letting_go = LetGo(&hold);
    // What waits is not of a tenant whose jobs may leave.
    let circuit = bank.register(&material().zkey);
    let witness = bank.store(&material().witness);
    hold.store(true, SeqCst);
    let jobs: Vec<String> = (0..12).map(|_| bank.submit(&circuit, &witness)).collect();
    let fleet = Knocker::of(&world, "fleet");
    let cursor = fleet.held()["cursor"].clone();
    let take = json!({ "max": 8, "cursor": cursor, "waitMs": 300 });
    assert_eq!(fleet.call("fleet_takeV1", take.clone())["jobs"], json!([]));
    let many = json!({ "max": 257, "cursor": cursor });
    assert_eq!(fleet.refusal("fleet_takeV1", many), "invalidParams");

    for method in ["prover_listCircuitsV1", "pool_statusV1", "tenant_listV1"] {
        assert_eq!(
            fleet.refusal(method, json!({})),
            "invalidRequest",
            "{method}"
        );
    }
    let line = format!("PUT /v1/blobs/{}", digest(b"x"));
    assert_eq!(fleet.send(&line, "", "x").status, 403);
    // A tenant is served at this socket as everywhere, and is not the fleet.
    let tenant = Knocker::of(&world, "bank");
    assert!(tenant.call("prover_listCircuitsV1", json!({})).is_array());
    assert_eq!(
        tenant.refusal("fleet_takeV1", take.clone()),
        "invalidRequest"
    );
    assert_eq!(bank.refusal("fleet_heldV1", json!({})), "invalidRequest");
    let operator = world.client("operator");
    assert_eq!(
        operator.refusal("fleet_heldV1", json!({})),
        "invalidRequest"
    );
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "fleet_heldV1" }).to_string();
    let at_socket = Knocker::of(&world, "operator").send("POST /", "", &request);
    assert_eq!(at_socket.status, 403);
    // At the port its secret is worth nothing, and with a wrong one it is nobody.
    let path = world.folder.path().join("data/secrets/fleet.hex");
    let secret = std::fs::read_to_string(path).expect("it was made");
    let (status, text) = {
        let at_port = world.client_with("fleet", &secret);
        at_port.post(&request, &at_port.token())
    };
    assert_eq!(status, 403, "{text}");
    let stranger = Knocker {
        secret: Secret::from_bytes([1; 32]),
        ..Knocker::of(&world, "fleet")
    };
    assert_eq!(stranger.send("POST /", "", &request).status, 401);
    let guest = json!({ "tenant": "fleet", "scenario": "social" });
    assert_eq!(operator.refusal("tenant_addV1", guest), "invalidParams");
    drop(letting_go);
    jobs.iter().for_each(|job| drop(bank.proved(job)));
    world.stop();
}
