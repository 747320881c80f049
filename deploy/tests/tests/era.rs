//! The ledger of a real `calderad`: what proofs cost and earn, to the last unit, who may see what, and what is left of all of
//! it after kills and damage.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use caldera_tests::era::{Box, FEE, deposit, id, units};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::Client;
use rusqlite::Connection;
use serde_json::{Value, json};

fn reason(answer: Result<Value, Value>) -> String {
    let error = answer.expect_err("a refusal");
    error["data"]["reason"].as_str().unwrap().to_owned()
}

fn prove(client: &Client, submission: &Value) -> Value {
    let job = client.call("prover_submitV1", submission.clone())["job"].clone();
    client.ended(&job)["state"].clone()
}

fn sum(closed: &[Value], key: &str) -> u128 {
    closed.iter().map(|epoch| units(&epoch[key])).sum()
}

#[test]
fn a_proof_is_paid_for_and_pays_to_the_last_unit() {
    // The newest 64 epochs are shown, and the first fee has to be among them on a slow machine too.
    let mut it = Box::start(3);
    let (exchange, plaza) = (it.service.client("exchange"), it.service.client("plaza"));
    let payer = it.party("exchange", "user", 10, 4 * FEE);
    let developer = it.party("exchange", "developer", 11, 0);
    let submission = it.circuit(&exchange);
    assert_eq!(prove(&exchange, &submission), "proved");
    assert_eq!(prove(&exchange, &submission), "proved");
    assert_eq!(units(&it.account(&payer)["free"]), 2 * FEE);
    // Who is no party proves for nothing.
    assert_eq!(prove(&plaza, &it.circuit(&plaza)), "proved");
    // A job whose own witness is wrong is not charged.
    let wtns = std::fs::read(it.service.folder().join("c.wtns")).unwrap();
    let wrong = exchange.upload(&wtns[..wtns.len() - 1]);
    let mut other = submission.clone();
    other["witness"] = json!(wrong);
    assert_eq!(prove(&exchange, &other), "failed");
    assert_eq!(units(&it.account(&payer)["free"]), 2 * FEE);
    assert_eq!(units(&it.account(&payer)["held"]), 0);
    assert_eq!(prove(&exchange, &submission), "proved");
    assert_eq!(prove(&exchange, &submission), "proved");
    // Nothing is left.
    let refused = exchange.try_call("prover_submitV1", submission.clone());
    assert_eq!(reason(refused), "eraInsufficient");

    // Epochs close by themselves, and each is divided exactly.
    let epochs = it.operator.wait("era_epochV1", json!({}), |epochs| {
        sum(epochs["closed"].as_array().unwrap(), "fees") == 4 * FEE
    });
    let closed = epochs["closed"].as_array().unwrap();
    for epoch in closed {
        let of = |key: &str| units(&epoch[key]);
        let parts = of("nodes") + of("developers") + of("users") + of("dust") + of("carried");
        assert_eq!(of("budget"), parts, "{epoch}");
    }
    let all = it.operator.call("era_accountV1", json!({}));
    let node = all
        .as_array()
        .unwrap()
        .iter()
        .find(|it| it["role"] == "node");
    let node = node.unwrap()["party"].clone();
    for (party, stream) in [
        (&node, "nodes"),
        (&developer, "developers"),
        (&payer, "users"),
    ] {
        let account = it.account(party);
        assert_eq!(units(&account["payable"]), sum(closed, stream), "{account}");
        assert!(units(&account["payable"]) > 0, "{account}");
    }

    // A payout is explained down to its events.
    let paid = closed
        .iter()
        .find(|epoch| units(&epoch["nodes"]) > 0)
        .unwrap();
    let query = json!({"party": node, "epoch": paid["epoch"]});
    let why = it.operator.call("era_explainV1", query);
    assert_eq!(units(&why["amount"]), units(&paid["nodes"]), "{why}");
    let events = why["events"].as_array().unwrap();
    assert!(
        events
            .iter()
            .any(|event| event["what"] == "proof" && units(&event["fee"]) == FEE),
        "{why}"
    );

    // Each sees its own, and commands for it.
    let query = json!({"party": payer});
    assert_eq!(
        reason(plaza.try_call("era_accountV1", query.clone())),
        "eraUnknownParty"
    );
    assert_eq!(
        reason(plaza.try_call("era_statementV1", query.clone())),
        "eraUnknownParty"
    );
    assert_eq!(plaza.call("era_accountV1", json!({})), json!([]));
    assert_eq!(
        exchange
            .call("era_accountV1", json!({}))
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let claim = json!({"id": id(1), "party": payer});
    for client in [&plaza, &it.operator] {
        assert_eq!(
            reason(client.try_call("era_claimV1", claim.clone())),
            "eraUnknownParty"
        );
    }
    let transfer = deposit(2, &payer, 1);
    assert_eq!(
        reason(exchange.try_call("era_transferV1", transfer)),
        "invalidRequest"
    );
    let first = exchange.call("era_claimV1", claim.clone());
    assert_eq!(units(&first["moved"]), sum(closed, "users"));
    let again = exchange.call("era_claimV1", claim);
    assert_eq!(
        (&again["record"], &again["repeated"]),
        (&first["record"], &json!(true))
    );
    let conflict = json!({"id": id(1), "party": payer, "upTo": 1});
    assert_eq!(
        reason(exchange.try_call("era_claimV1", conflict)),
        "eraConflict"
    );

    // The statement ends with what the account has.
    let statement = exchange.call("era_statementV1", json!({"party": payer}));
    let lines = statement["lines"].as_array().unwrap();
    let free = lines.iter().rfind(|line| line["purse"] == "free").unwrap();
    assert_eq!(free["balance"], it.account(&payer)["free"]);

    // What is settled is exported with the root that the ledger says.
    let settle = json!({"id": id(3), "epoch": paid["epoch"]});
    let settled = it.operator.call("era_settleV1", settle);
    let (epoch, data) = (paid["epoch"].to_string(), it.data());
    let arguments = ["era", "export", &epoch, "--data"].map(str::as_ref);
    let said = run_caldera(arguments.into_iter().chain([data.as_os_str()])).expect_success();
    let export: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        export["root"],
        format!("0x{}", settled["root"].as_str().unwrap())
    );
    assert_eq!(export["total"], settled["moved"]);

    let metrics = it.operator.get("/metrics").body;
    for line in [
        "caldera_era_damaged 0",
        "caldera_era_events_total{what=\"proof\"} 4",
        "caldera_era_events_total{what=\"failure\"} 1",
        "caldera_era_refused_total{what=\"submission\"} 1",
        "caldera_era_retention_active{rewarded=\"true\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let before = it.account(&payer);
    it.service = it.service.restart();
    it.operator = it.service.client("operator");
    assert_eq!(it.account(&payer)["free"], before["free"]);
    let (run, _) = it.audit();
    run.expect_code(0);
}

/// The operator takes back what an event should not have been paid, with the reason; once, while it is not mature, and nobody else.
#[test]
fn a_payout_is_taken_back_with_its_event_and_reason() {
    let it = Box::start_with(1, 86_400);
    let exchange = it.service.client("exchange");
    let payer = it.party("exchange", "user", 10, 4 * FEE);
    let bystander = it.party("plaza", "user", 11, 0);
    let submission = it.circuit(&exchange);
    assert_eq!(prove(&exchange, &submission), "proved");
    // A failure is an event too, and earns nobody anything.
    let wtns = std::fs::read(it.service.folder().join("c.wtns")).unwrap();
    let mut wrong = submission.clone();
    wrong["witness"] = json!(exchange.upload(&wtns[..wtns.len() - 1]));
    assert_eq!(prove(&exchange, &wrong), "failed");
    let epochs = it.operator.wait("era_epochV1", json!({}), |epochs| {
        sum(epochs["closed"].as_array().unwrap(), "fees") == FEE
    });
    let closed = epochs["closed"].as_array().unwrap();
    let paid = closed.iter().find(|it| units(&it["users"]) > 0).unwrap();
    let query = json!({"party": payer, "epoch": paid["epoch"]});
    let why = exchange.call("era_explainV1", query);
    let event = &why["events"][0];
    assert_eq!(
        (&why["root"], &why["closedBy"]),
        (&paid["root"], &paid["last"])
    );
    assert!(why["index"].is_u64(), "{why}");
    let claw = json!({
        "id": id(5), "party": payer, "epoch": paid["epoch"], "node": event["node"],
        "sequence": event["sequence"], "reason": "The witness was the node's own.",
    });
    let but = |key: &str, value: Value| {
        let mut claw = claw.clone();
        claw[key] = value;
        it.operator.try_call("era_clawBackV1", claw)
    };
    assert_eq!(
        reason(exchange.try_call("era_clawBackV1", claw.clone())),
        "invalidRequest"
    );
    assert_eq!(reason(but("sequence", json!(99))), "eraUnknown");
    assert_eq!(reason(but("party", json!(77))), "eraUnknownParty");
    assert_eq!(reason(but("reason", json!(""))), "invalidParams");
    // The event is of that epoch and of no other, and has earned that party something.
    let other = closed.iter().find(|it| it["epoch"] != paid["epoch"]);
    if let Some(other) = other {
        assert_eq!(reason(but("epoch", other["epoch"].clone())), "eraNotEarned");
    }
    assert_eq!(reason(but("epoch", json!(4_000_000))), "eraEpochNotOver");
    assert_eq!(reason(but("party", bystander.clone())), "eraNotEarned");
    let failure = event["sequence"].as_u64().unwrap() + 1;
    assert_eq!(reason(but("sequence", json!(failure))), "eraNotEarned");
    let done = it.operator.call("era_clawBackV1", claw.clone());
    assert_eq!(units(&done["moved"]), units(&why["amount"]));
    assert_eq!(done["reason"].as_str().map(str::len), Some(64));
    let again = it.operator.call("era_clawBackV1", claw.clone());
    assert_eq!(
        (&again["record"], &again["repeated"]),
        (&done["record"], &json!(true))
    );
    assert_eq!(reason(but("reason", json!("Another."))), "eraConflict");
    assert_eq!(reason(but("id", json!(id(6)))), "eraNothingDue");
    assert_eq!(units(&it.account(&payer)["payable"]), 0);
    let statement = exchange.call("era_statementV1", json!({"party": payer}));
    let lines = statement["lines"].as_array().unwrap();
    let line = lines
        .iter()
        .find(|line| line["what"] == "claw_back")
        .unwrap();
    assert_eq!(line["record"], done["record"]);
    // By the command line, where a key stands for the command.
    let node = event["node"].to_string();
    let (epoch, number) = (paid["epoch"].to_string(), event["sequence"].to_string());
    let secret = it.service.folder().join("operator.secret");
    let (url, secret) = (
        format!("http://{}", it.service.address()),
        secret.display().to_string(),
    );
    let claw = |key: &str| {
        let words = [
            "--json",
            "era",
            "claw-back",
            &node,
            &epoch,
            "--node",
            &node,
            "--event",
            &number,
            "--reason",
            "The witness was the node's own.",
            "--idempotency-key",
            key,
            "--url",
            &url,
            "--tenant",
            "operator",
            "--secret-file",
            &secret,
        ];
        let said = run_caldera(words).expect_success();
        serde_json::from_str::<Value>(&said).unwrap()
    };
    let first = claw("case 1");
    assert_eq!(units(&first["moved"]), units(&paid["nodes"]));
    let second = claw("case 1");
    assert_eq!(
        (&second["record"], &second["id"], &second["repeated"]),
        (&first["record"], &first["id"], &json!(true))
    );
    let (run, _) = it.audit();
    run.expect_code(0);
}

/// Kills around deposits and jobs: what was acknowledged is there, once, and the journal executed again makes the state that
/// the box had.
#[test]
fn nothing_acknowledged_is_lost_or_done_twice() {
    let mut it = Box::start(1);
    let payer = it.party("exchange", "user", 10, 1_000_000 * FEE);
    let plaza = it.party("plaza", "user", 11, 0);
    let submission = it.circuit(&it.service.client("exchange"));
    let numbers = AtomicU64::new(1);
    let (sent, jobs) = (Mutex::new(BTreeSet::new()), Mutex::new(BTreeSet::new()));
    let mut acknowledged = 0;
    let kills = std::env::var("CALDERA_KILLS")
        .map_or(KILLS, |number| number.parse().expect("a number of kills"));
    for kill in 0..kills {
        let alive = AtomicBool::new(true);
        let (told, hears) = mpsc::channel();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let client = it.service.client(["operator", "exchange"][thread % 2]);
                let (told, alive, numbers) = (told.clone(), &alive, &numbers);
                let (sent, jobs, plaza, submission) = (&sent, &jobs, &plaza, &submission);
                scope.spawn(move || {
                    while alive.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        let answer = if thread % 2 == 0 {
                            sent.lock().unwrap().insert(number);
                            client.attempt("era_transferV1", &deposit(number, plaza, 1))
                        } else {
                            jobs.lock().unwrap().insert(number);
                            let mut submission = submission.clone();
                            submission["idempotencyKey"] = json!(number.to_string());
                            client.attempt("prover_submitV1", &submission)
                        };
                        match answer {
                            Some(Ok(_)) => drop(told.send(())),
                            // A full queue, or a circuit that is being loaded.
                            Some(Err(_)) => {}
                            None => return,
                        }
                    }
                });
            }
            drop(told);
            for _ in 0..5 + kill * 7 % 40 {
                acknowledged += usize::from(hears.recv().is_ok());
            }
            it.service.kill();
            alive.store(false, Ordering::Relaxed);
        });
        let (run, _) = it.audit();
        run.expect_code(0);
        it.service.start_again();
        it.operator = it.service.client("operator");
    }
    // Everything is sent again, and what had been done is not done again.
    let exchange = it.service.client("exchange");
    while exchange.get("/readyz").status != 200 {}
    let mut repeated = 0;
    let sent = sent.into_inner().unwrap();
    for &number in &sent {
        let done = it
            .operator
            .call("era_transferV1", deposit(number, &plaza, 1));
        repeated += usize::from(done["repeated"] == true);
    }
    let jobs = jobs.into_inner().unwrap();
    for &number in &jobs {
        let mut submission = submission.clone();
        submission["idempotencyKey"] = json!(number.to_string());
        assert_eq!(prove(&exchange, &submission), "proved");
    }
    println!(
        "{kills} kills: {acknowledged} acknowledged, {} deposits of which {repeated} had been done, {} jobs",
        sent.len(),
        jobs.len()
    );
    assert!(repeated > 0);
    assert_eq!(units(&it.account(&plaza)["free"]), sent.len() as u128);
    let account = it.account(&payer);
    assert_eq!(units(&account["held"]), 0, "{account}");
    let spent = 1_000_000 * FEE - units(&account["free"]);
    assert_eq!(spent, jobs.len() as u128 * FEE, "{account}");
    let (run, _) = it.audit();
    run.expect_code(0);
}

/// Somebody who opens the file without its triggers is found out, and the box proves on.
#[test]
fn damage_is_named_and_the_box_goes_on() {
    let mut it = Box::start(3600);
    let exchange = it.service.client("exchange");
    let payer = it.party("exchange", "user", 10, 9 * FEE);
    let submission = it.circuit(&exchange);
    for number in 0..6 {
        it.operator
            .call("era_transferV1", deposit(number, &payer, 1));
    }
    it.service.kill();
    let (run, sound) = it.audit();
    run.expect_code(0);
    let last = sound["records"].as_u64().unwrap() - 1;
    let file = it.data().join("caldera.sqlite");
    let open = |path: &std::path::Path| {
        let connection = Connection::open(path).unwrap();
        let drop = "DROP TRIGGER ledger_records_follow; DROP TRIGGER ledger_records_stay;
                    DROP TRIGGER ledger_records_stand; DROP TRIGGER ledger_head_rises;";
        connection.execute_batch(drop).unwrap();
        connection
    };
    drop(open(&file));
    let kept = std::fs::read(&file).unwrap();
    let swap = "UPDATE ledger SET sequence = 99 WHERE sequence = 4; UPDATE ledger SET sequence = 4 WHERE sequence = 5;
                UPDATE ledger SET sequence = 5 WHERE sequence = 99;";
    let flip = "UPDATE ledger SET record = CAST(substr(record, 1, 80) || x'ff' || substr(record, 82) AS BLOB)
                WHERE sequence = 4;";
    let insert = format!(
        "INSERT INTO ledger SELECT {}, digest, record FROM ledger WHERE sequence = 5;",
        last + 1
    );
    let anew = "UPDATE ledger_head SET state = zeroblob(32);";
    for (damage, record) in [
        (flip, 4),
        (swap, 4),
        ("DELETE FROM ledger WHERE sequence = 4;", 4),
        (
            &format!("DELETE FROM ledger WHERE sequence = {last};"),
            last,
        ),
        (
            "UPDATE ledger SET digest = zeroblob(32) WHERE sequence = 4;",
            4,
        ),
        (anew, last),
        (
            &(insert + "UPDATE ledger_head SET records = records + 1;"),
            last + 1,
        ),
    ] {
        for more in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{more}", file.display()));
        }
        std::fs::write(&file, &kept).unwrap();
        Connection::open(&file)
            .unwrap()
            .execute_batch(damage)
            .unwrap();
        let (run, said) = it.audit();
        let run = run.expect_code(1);
        assert_eq!(said["record"], record, "{damage}: {run}");
    }
    it.service.start_again();
    it.operator = it.service.client("operator");
    let exchange = it.service.client("exchange");
    let mut ready = it.operator.get("/readyz");
    while ready.status != 200 {
        ready = it.operator.get("/readyz");
    }
    assert!(ready.body.contains("the ledger is refused"), "{ready:?}");
    assert!(
        ready.body.contains(&format!("record {}", last + 1)),
        "{ready:?}"
    );
    assert!(
        it.operator
            .get("/metrics")
            .body
            .contains("caldera_era_damaged 1")
    );
    assert_eq!(prove(&exchange, &submission), "proved");
    let refused = it.operator.try_call("era_accountV1", json!({}));
    assert_eq!(reason(refused), "eraDamaged");
    // Nothing was repaired.
    it.service.kill();
    let (run, _) = it.audit();
    run.expect_code(1);
}

/// A box without a ledger says so.
#[test]
fn a_box_without_a_ledger() {
    let service = caldera_tests::service::Service::start(&[("plaza", "social")], "");
    let plaza = service.client("plaza");
    assert_eq!(reason(plaza.try_call("era_epochV1", json!({}))), "eraOff");
    assert!(!plaza.get("/metrics").body.contains("caldera_era"));
}

/// In continuous integration; `CALDERA_KILLS` says another number.
const KILLS: usize = 20;
