//! What is said at a box's `[fleet]` socket, as a `calderad` reads and writes it.
//!
//! At the other side stands a script: which caller asks for what, and what it hears.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caldera_fleet::calderad::{Calderad, CalderadError, Lent, Part, Socket, Taken, Verdict};
use caldera_fleet::lender::Foreign;
use caldera_fleet::{Answer, BoxId};
use caldera_rpc::auth::{Keyring, Secret};
use caldera_rpc::era::{Amount, EraId, Signature};
use caldera_rpc::methods::{Bill, Metered};
use caldera_scheduler::JobId;
use serde_json::{Value, json};

/// One request, and its answer.
struct Line {
    caller: &'static str,
    request: &'static str,
    /// Of a call its parameters; of anything else its `Range` or its body.
    says: Value,
    status: u16,
    answer: Vec<u8>,
}

fn secrets() -> (Secret, Secret) {
    (Secret::from_bytes([1; 32]), Secret::from_bytes([2; 32]))
}

fn call(caller: &'static str, method: &'static str, says: Value, result: Value) -> Line {
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": result});
    let answer = answer.to_string().into_bytes();
    Line {
        caller,
        request: method,
        says,
        status: 200,
        answer,
    }
}

fn refused(caller: &'static str, method: &'static str, status: u16, reason: &str) -> Line {
    let error = json!({"code": -32037, "message": "no", "data": {"reason": reason}});
    let answer = json!({"jsonrpc": "2.0", "id": 1, "error": error});
    Line {
        caller,
        request: method,
        says: Value::Null,
        status,
        answer: answer.to_string().into_bytes(),
    }
}

fn bill_of_job() -> Bill {
    Bill {
        node: 3,
        sequence: 9,
        hold: EraId(8),
        class: 1,
        developer: Some(2),
        fee: Amount(1_000),
    }
}

fn metered() -> Metered {
    Metered {
        node: 3,
        observed: 1_795_737_600,
        signature: Signature([7; 64]),
    }
}

/// Plays a script at a socket.
fn play(path: &Path, script: Vec<Line>) -> JoinHandle<()> {
    let listener = UnixListener::bind(path).expect("a socket");
    let mut ring = Keyring::new(Secret::from_bytes([0; 32]));
    let (fleet, tenant) = secrets();
    ring.insert("fleet", fleet);
    ring.insert("guests", tenant);
    std::thread::spawn(move || {
        for line in script {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(stream.try_clone().expect("the same"));
            let (mut head, mut length) = (String::new(), 0);
            let (mut range, mut bearer) = (String::new(), String::new());
            while !head.ends_with("\r\n\r\n") {
                let at = head.len();
                reader.read_line(&mut head).expect("a line");
                let field = head[at..].trim_end().to_owned();
                if let Some(value) = field.to_lowercase().strip_prefix("content-length: ") {
                    length = value.parse().expect("a number");
                }
                if let Some(value) = field.strip_prefix("range: ") {
                    range = value.to_owned();
                }
                if let Some(value) = field.strip_prefix("authorization: ") {
                    bearer = value.to_owned();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .expect("a clock");
            let caller = ring.verify(Some(&bearer), now.as_secs());
            assert_eq!(caller.expect("a caller"), line.caller);
            if head.starts_with("POST / ") {
                let call: Value = serde_json::from_slice(&body).expect("JSON");
                assert_eq!(call["method"], line.request);
                if !line.says.is_null() {
                    assert_eq!(call["params"], line.says);
                }
            } else {
                assert!(head.starts_with(line.request), "{head}");
                let said = if range.is_empty() {
                    body
                } else {
                    range.into_bytes()
                };
                assert_eq!(line.says, String::from_utf8(said).expect("text"));
            }
            let mut stream = stream;
            let length = line.answer.len();
            write!(
                stream,
                "HTTP/1.1 {} X\r\nContent-Length: {length}\r\n\r\n",
                line.status
            )
            .and_then(|()| stream.write_all(&line.answer))
            .expect("it is heard");
        }
    })
}

fn with(script: Vec<Line>, ask: impl AsyncFnOnce(&Socket)) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fleet.sock");
    let player = play(&path, script);
    let (fleet, tenant) = secrets();
    let socket = Socket::new(&path, fleet, Some(("guests".to_owned(), tenant)));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(ask(&socket));
    player.join().expect("all of the script was played");
}

#[test]
fn jobs_are_taken_and_brought_and_given_back() {
    let name = "0x0000000000abcdef";
    let result = json!({"cursor": 1_795_737_600_001u64,
        "jobs": [{"job": name, "fence": 2, "tenantClass": "bulk",
            "circuit": {"digest": "11".repeat(32), "bytes": 481_036_337, "curve": "bn128"},
            "witness": {"digest": "22".repeat(32), "bytes": 33_554_508},
            "workMs": 4100.5, "dueMs": 58_000, "priceMax": 7}],
        "withdrawn": [{"job": "0x0000000000abcdee", "fence": 4}]});
    let params = json!({"max": 8, "waitMs": 10_000, "cursor": 5});
    let job = json!({"job": name, "fence": 2});
    let brought = json!({"job": name, "fence": 2, "proof": {"pi_a": ["1"]}, "metered": metered()});
    let bill = json!({"job": name, "fence": 2, "lender": format!("{:032x}", 0xa0)});
    let range = |from: u64| Value::from(format!("bytes={from}-"));
    let piece = |answer: &[u8], status| Line {
        caller: "fleet",
        request: "GET /v1/fleet/jobs/0x0000000000abcdef/witness ",
        says: range(3),
        status,
        answer: answer.to_vec(),
    };
    let script = vec![
        call("fleet", "fleet_takeV1", params, result),
        refused("fleet", "fleet_takeV1", 200, "fleetCursor"),
        call(
            "fleet",
            "fleet_heldV1",
            json!({}),
            json!({"jobs": [], "cursor": 9}),
        ),
        call(
            "fleet",
            "fleet_billV1",
            bill.clone(),
            json!({"bill": bill_of_job()}),
        ),
        call("fleet", "fleet_billV1", bill, json!({"bill": null})),
        call(
            "fleet",
            "fleet_resultV1",
            brought.clone(),
            json!({"job": name}),
        ),
        refused("fleet", "fleet_resultV1", 200, "lentProofWrong"),
        refused("fleet", "fleet_resultV1", 200, "fenceStale"),
        refused("fleet", "fleet_resultV1", 503, "storageUnavailable"),
        call("fleet", "fleet_returnV1", job.clone(), json!({"job": name})),
        refused("fleet", "fleet_returnV1", 200, "jobNotLent"),
        piece(b"abc", 206),
        piece(b"", 404),
    ];
    with(script, async |socket| {
        let job = JobId(0xabcdef);
        let taken = socket
            .take(8, Duration::from_secs(10), 5)
            .await
            .expect("jobs");
        let lent = Lent {
            job,
            fence: 2,
            key: [0x11; 32],
            key_bytes: 481_036_337,
            witness: [0x22; 32],
            witness_bytes: 33_554_508,
            work: Some(Duration::from_micros(4_100_500)),
            left: Some(Duration::from_secs(58)),
            price_max: 7,
        };
        let expected = Taken {
            jobs: vec![lent],
            withdrawn: vec![(JobId(0xabcdee), 4)],
            cursor: 1_795_737_600_001,
        };
        assert_eq!(taken, expected);
        let error = socket
            .take(0, Duration::ZERO, 5)
            .await
            .expect_err("a cursor");
        assert_eq!(error.reason(), Some("fleetCursor"));
        assert_eq!(socket.held().await.expect("jobs").cursor, 9);
        let lender = BoxId(0xa0);
        let bill = socket.bill(job, 2, lender).await;
        assert_eq!(bill.expect("an answer"), Some(bill_of_job()));
        let bill = socket.bill(job, 2, lender).await;
        assert_eq!(bill.expect("an answer"), None);
        let proof = json!({"proof": {"pi_a": ["1"]}, "metered": metered()}).to_string();
        let proof = proof.as_bytes();
        for verdict in [Verdict::Committed, Verdict::Wrong, Verdict::Gone] {
            let given = socket.result(job, 2, proof[..].into()).await;
            assert_eq!(given.expect("a verdict"), verdict);
        }
        // What is no answer is not even brought.
        for not in ["{", r#"{"pi_a":["1"]}"#] {
            let given = socket.result(job, 2, not.as_bytes().into()).await;
            assert_eq!(given.expect("a verdict"), Verdict::Wrong);
        }
        let error = socket
            .result(job, 2, proof[..].into())
            .await
            .expect_err("a disk");
        assert_eq!(error.reason(), Some("storageUnavailable"));
        socket.give_back(job, 2).await.expect("it is back");
        socket.give_back(job, 2).await.expect("it was back");
        let piece = socket.read(job, Part::Witness, 3).await.expect("a piece");
        assert_eq!(piece, b"abc"[..]);
        let error = socket
            .read(job, Part::Witness, 3)
            .await
            .expect_err("no piece");
        assert!(matches!(error, CalderadError::Answer { .. }), "{error}");
    });
}

#[test]
fn a_job_of_another_box_is_proved_once_under_its_name() {
    let job = "0x0000000000000001";
    let status = |state: &str| {
        json!({"job": job, "circuit": "33".repeat(32), "state": state, "progress": 0.0,
            "submittedMs": 1, "attempts": 1})
    };
    let submission = |more: &str| {
        json!({"circuit": "33".repeat(32), "witness": "44".repeat(32),
            "idempotencyKey": format!("{:032x}/{:016x}{more}", 5, 6)})
    };
    let wait = json!({"job": job, "waitMs": 2_000});
    let proof = json!({"pi_a": ["7"], "protocol": "groth16"});
    let result = json!({"job": job, "proof": proof, "publicInputs": [], "calldata": "",
        "timings": {"queuedMs": 1, "preparedMs": 1, "provedMs": 1, "stages": [], "cores": []},
        "late": false});
    let script = vec![
        refused("guests", "prover_submitV1", 200, "blobUnknown"),
        Line {
            caller: "guests",
            request: "PUT /v1/blobs/4444444444444444444444444444444444444444444444444444444444444444 ",
            says: "a witness".into(),
            status: 201,
            answer: vec![],
        },
        call(
            "guests",
            "prover_submitV1",
            submission(""),
            status("queued"),
        ),
        call("guests", "prover_statusV1", wait.clone(), status("running")),
        // It was withdrawn and placed here once more: what was cancelled is no answer to that.
        call(
            "guests",
            "prover_statusV1",
            wait.clone(),
            status("cancelled"),
        ),
        call(
            "guests",
            "prover_submitV1",
            submission("/1"),
            status("queued"),
        ),
        call("guests", "prover_statusV1", wait, status("proved")),
        call("guests", "prover_resultV1", json!({"job": job}), result),
        call(
            "fleet",
            "fleet_meterV1",
            json!({"job": job, "bill": bill_of_job()}),
            json!({"metered": metered()}),
        ),
    ];
    with(script, async |socket| {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("it.wtns");
        std::fs::write(&file, "a witness").expect("it is written");
        let of = Foreign {
            submitter: BoxId(5),
            job: JobId(6),
        };
        let answer = socket
            .prove(of, [0x33; 32], [0x44; 32], &file, Some(bill_of_job()))
            .await;
        let Answer::Proof(given) = answer.expect("an answer") else {
            panic!("it is proved");
        };
        let given: Value = serde_json::from_slice(&given).expect("JSON");
        assert_eq!(given, json!({"proof": proof, "metered": metered()}));
    });
}

#[test]
fn a_box_that_is_away_or_knows_another_secret_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let (fleet, _) = secrets();
    let socket = Socket::new(&folder.path().join("nobody.sock"), fleet, None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let error = runtime
        .expect("a runtime")
        .block_on(socket.held())
        .expect_err("nobody is there");
    assert!(error.to_string().contains("nobody.sock"), "{error}");
    let line = Line {
        status: 401,
        answer: vec![],
        ..call("fleet", "fleet_heldV1", json!({}), json!({}))
    };
    with(vec![line], async |socket| {
        let error = socket.held().await.expect_err("a stranger");
        assert!(
            matches!(error, CalderadError::Unauthorized { .. }),
            "{error}"
        );
    });
}
