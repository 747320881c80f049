//! The ledger of a real `calderad`: what proofs cost and earn, to the last unit, who may see what, and what is left of all of
//! it after kills and damage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use caldera_tests::era::{Box, FEE, deposit, id, policy, times, units};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::Client;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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
    // With whatever its weight has besides.
    let own = &why["streams"][0];
    let factor = own["factor"].as_u64().unwrap();
    let expected = units(&own["work"]) * u128::from(factor);
    assert_eq!(units(&own["weight"]), expected, "{why}");
    assert!(own["successes"].as_u64().unwrap() > 0, "{why}");
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
        "caldera_era_retention_active{rewarded=\"true\",cohort=\"0\"} 0",
        "caldera_era_retention_kept{rewarded=\"false\",cohort=\"older\"} 0",
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

/// Kills around all that moves money and around jobs: what was acknowledged is there, once and as it was told, and the journal executed
/// again makes the state that the box had.
#[test]
fn nothing_acknowledged_is_lost_or_done_twice() {
    let mut edits = times(1, 0).to_vec();
    edits.push(("lock_s = 2592000", "lock_s = 0".to_owned()));
    edits.push(("unbonding_s = 604800", "unbonding_s = 1".to_owned()));
    let mut it = Box::start_by(&edits, "");
    let payer = it.party("exchange", "user", 10, MUCH);
    let plaza = it.party("plaza", "user", 11, 0);
    let developer = it.party("exchange", "developer", 12, 0);
    let much = MUCH.to_string();
    for words in [
        ["stakingPool", &much].as_slice(),
        &["gasFloat", &much, "--gas"],
    ] {
        it.era_says("operator", &[&["transfer", "outside"], words].concat());
    }
    let exchange = it.service.client("exchange");
    let submission = it.circuit(&exchange);
    // So that there is something to claim, and to settle, from the first kill on.
    assert_eq!(prove(&exchange, &submission), "proved");
    it.operator
        .wait("era_accountV1", json!({"party": payer}), |all| {
            units(&all[0]["payable"]) > 0
        });
    let numbers = AtomicU64::new(1);
    let jobs = Mutex::new(BTreeSet::new());
    let mut journal = Journal::default();
    let (mut acknowledged, mut unheard) = (BTreeMap::new(), 0);
    let (mut deposits, mut submissions) = (0, 0);
    // What was sent again after a kill and has been done then.
    let mut again = Vec::new();
    let kills = std::env::var("CALDERA_KILLS")
        .map_or(KILLS, |number| number.parse().expect("a number of kills"));
    for kill in 0..kills {
        let alive = AtomicBool::new(true);
        let (round, named) = (Mutex::new(Vec::<Sent>::new()), Mutex::new(Vec::new()));
        let (told, hears) = mpsc::channel();
        std::thread::scope(|scope| {
            for (thread, who) in ["operator", "operator", "exchange", "exchange", "exchange"]
                .into_iter()
                .enumerate()
            {
                let client = it.service.client(who);
                let (told, alive, numbers) = (told.clone(), &alive, &numbers);
                let (round, named, jobs) = (&round, &named, &jobs);
                let (payer, developer, plaza) = (&payer, &developer, &plaza);
                let submission = &submission;
                scope.spawn(move || {
                    // The exchange begins with a claim, and has some rounds for it: what is settled cannot be claimed any more.
                    let mut turn = kill + if thread == 2 { 3 } else { 0 };
                    let settles = kill >= KILLS / 3;
                    while alive.load(Ordering::Relaxed) {
                        let number = numbers.fetch_add(1, Ordering::Relaxed);
                        turn += 1;
                        let next = match thread {
                            0 => Some(("era_transferV1", deposit(number, plaza, 1))),
                            1 => of_the_operator(&client, payer, number, turn, settles),
                            2 => of_the_exchange(&client, [payer, developer], number, turn),
                            _ => {
                                jobs.lock().unwrap().insert(number);
                                let mut submission = submission.clone();
                                submission["idempotencyKey"] = json!(number.to_string());
                                match client.attempt("prover_submitV1", &submission) {
                                    Some(Ok(job)) => {
                                        named.lock().unwrap().push(job["job"].clone());
                                        let _ = told.send(());
                                    }
                                    // A full queue, or a circuit that is being loaded.
                                    Some(Err(_)) => {}
                                    None => return,
                                }
                                continue;
                            }
                        };
                        let Some((method, params)) = next else {
                            return;
                        };
                        let mut sent = Sent {
                            who,
                            method,
                            params,
                            heard: Heard::Nothing,
                        };
                        match client.attempt(method, &sent.params) {
                            Some(Ok(answer)) => {
                                sent.heard = Heard::Done(answer);
                                let _ = told.send(());
                            }
                            Some(Err(error)) => sent.heard = Heard::Refused(error),
                            None => {}
                        }
                        let dead = matches!(sent.heard, Heard::Nothing);
                        round.lock().unwrap().push(sent);
                        if dead {
                            return;
                        }
                    }
                });
            }
            drop(told);
            for _ in 0..5 + kill * 7 % 40 {
                let _ = hears.recv();
            }
            it.service.kill();
            alive.store(false, Ordering::Relaxed);
        });
        let (run, _) = it.audit();
        run.expect_code(0);
        journal.read(&it.data());
        for (sent, answer) in again.drain(..) {
            journal.holds(&sent, &answer);
        }
        for job in named.into_inner().unwrap() {
            submissions += 1;
            journal.has_aside(&job);
        }
        it.service.start_again();
        it.operator = it.service.client("operator");
        for sent in round.into_inner().unwrap() {
            let there = journal.ids.get(&sent.id()).copied();
            match &sent.heard {
                Heard::Done(answer) => journal.holds(&sent, answer),
                Heard::Nothing => unheard += usize::from(there.is_some()),
                // A refused command leaves its id free. But the box closes epochs by itself, too.
                Heard::Refused(error) => {
                    assert!(there.is_none() || sent.tag() == CLOSE, "{sent:?}: {error}");
                    assert_ne!(sent.tag(), TRANSFER, "{sent:?}: {error}");
                    continue;
                }
            }
            deposits += u128::from(sent.tag() == TRANSFER);
            // The client sends what it had an answer to again, and what it had none to; the same is answered, or it is done now.
            let client = it.service.client(sent.who);
            match (
                &sent.heard,
                client.try_call(sent.method, sent.params.clone()),
            ) {
                (Heard::Done(answer), Ok(repeated)) => {
                    assert_eq!(repeated["repeated"], true, "{sent:?}");
                    assert_eq!(repeated["record"], answer["record"], "{sent:?}");
                    *acknowledged.entry(sent.tag()).or_insert(0) += 1;
                }
                (_, Ok(done)) => {
                    match there {
                        Some(at) => assert_eq!(done["record"], at, "{sent:?}"),
                        None if sent.tag() == CLOSE => {}
                        None => assert_eq!(done["repeated"], false, "{sent:?}"),
                    }
                    again.push((sent, done));
                }
                // What there was to have is gone meanwhile, or is not due.
                (Heard::Nothing, Err(error)) => {
                    assert_eq!(there, None, "{sent:?}: {error}");
                    assert_ne!(sent.tag(), TRANSFER, "{sent:?}: {error}");
                }
                (_, Err(error)) => panic!("{sent:?}: {error}"),
            }
        }
    }
    // Every job is sent again, and what had been done is not done again.
    let exchange = it.service.client("exchange");
    while exchange.get("/readyz").status != 200 {}
    let jobs = jobs.into_inner().unwrap();
    for &number in &jobs {
        let mut submission = submission.clone();
        submission["idempotencyKey"] = json!(number.to_string());
        assert_eq!(prove(&exchange, &submission), "proved");
    }
    println!(
        "{kills} kills: acknowledged by tag {acknowledged:?}, {submissions} submissions; {unheard} done and not heard of; {} jobs",
        jobs.len()
    );
    let account = it.account(&payer);
    let (run, _) = it.audit();
    run.expect_code(0);
    journal.read(&it.data());
    for (sent, answer) in again {
        journal.holds(&sent, &answer);
    }
    for tag in [TRANSFER, OFFSET, STAKE, UNSTAKE, CLAIM, CLOSE, SETTLE] {
        let there = journal.records.iter().any(|it| it.tag == tag);
        assert!(
            kills < KILLS || there,
            "nothing was shown of commands {tag}"
        );
    }
    assert_eq!(units(&it.account(&plaza)["free"]), deposits);
    // What the exchange has is what it began with, and what its records say: nothing else has moved, and each of them once.
    assert_eq!(units(&account["held"]), 0, "{account}");
    let purses = ["free", "staked", "unbonding"].map(|purse| units(&account[purse]));
    let has = purses.iter().sum::<u128>() + units(&it.account(&developer)["free"]);
    let earned = journal.sum(0, &[CLAIM, HARVEST, UNSTAKE]);
    let spent = journal.sum(0, &[OFFSET]) + (jobs.len() as u128 + 1) * FEE;
    assert_eq!(has, MUCH + earned - spent, "{account}");
    let gas = journal.sum(1, &[OFFSET]);
    assert_eq!(units(&account["gas"]), gas, "{account}");
}

/// What the operator asks for beside deposits: to reimburse gas, to settle, to close. Nothing if the box does not answer.
fn of_the_operator(
    client: &Client,
    party: &Value,
    number: u64,
    turn: usize,
    settles: bool,
) -> Option<(&'static str, Value)> {
    let epochs = client.attempt("era_epochV1", &json!({}))?.ok()?;
    let closed = epochs["closed"].as_array().unwrap();
    // Any of them that has paid somebody; some have been settled before.
    let paid = closed.iter().filter(|it| settles && it["payouts"] != 0);
    let paid: Vec<_> = paid.collect();
    Some(match (turn % 3, paid.get(turn / 3 % paid.len().max(1))) {
        (0, Some(epoch)) => {
            let settle = json!({"id": id(number), "epoch": epoch["epoch"]});
            ("era_settleV1", settle)
        }
        (1, _) => ("era_closeV1", json!({"epoch": epochs["open"]})),
        _ => {
            let offset = json!({
                "id": id(number), "party": party, "eraMax": "1000000000",
                "receipt": hex::encode(Sha256::digest(number.to_string())),
                "gasUsed": 21_000 + number, "gasPrice": "3",
            });
            ("era_offsetV1", offset)
        }
    })
}

/// What a tenant asks for in turn: to stake, to end a stake or half of one, to take what is due. Nothing if the box does not answer.
fn of_the_exchange(
    client: &Client,
    [party, developer]: [&Value; 2],
    number: u64,
    turn: usize,
) -> Option<(&'static str, Value)> {
    let query = json!({"party": party});
    let account = client.attempt("era_accountV1", &query)?.ok()?[0].clone();
    let mut own = json!({"id": id(number), "party": party});
    let first = |list: &str| account[list].as_array()?.first().cloned();
    Some(match (turn % 5, first("stakes"), first("unbondings")) {
        (1, Some(stake), _) => {
            let part = units(&stake["amount"]) / (1 + u128::from(number % 2));
            own["stake"] = stake["id"].clone();
            own["amount"] = json!(part.to_string());
            ("era_unstakeV1", own)
        }
        (2, Some(stake), _) => {
            own["stake"] = stake["id"].clone();
            ("era_claimV1", own)
        }
        (3, _, Some(unbonding)) => {
            own["unbonding"] = unbonding["id"].clone();
            ("era_claimV1", own)
        }
        (4, ..) => {
            if turn.is_multiple_of(2) {
                own["party"] = developer.clone();
            }
            ("era_claimV1", own)
        }
        _ => {
            own["amount"] = json!((MUCH / 1_000 + u128::from(number)).to_string());
            ("era_stakeV1", own)
        }
    })
}

/// A command that was sent to a box which may have died meanwhile.
#[derive(Debug)]
struct Sent {
    who: &'static str,
    method: &'static str,
    params: Value,
    heard: Heard,
}

#[derive(Debug)]
enum Heard {
    Nothing,
    Refused(Value),
    Done(Value),
}

/// The journal as it lies on the disk, read by docs/ledger.md and by nothing of the box's.
#[derive(Default)]
struct Journal {
    records: Vec<Entry>,
    ids: HashMap<[u8; 16], usize>,
}

struct Entry {
    tag: u8,
    /// Its kind, and the first two amounts in it.
    outcome: u8,
    amounts: [u128; 2],
}

impl Sent {
    /// The id of its record.
    fn id(&self) -> [u8; 16] {
        if self.tag() == CLOSE {
            let epoch = self.params["epoch"].as_u64().unwrap() as u32;
            return short(b"caldera close", &epoch.to_be_bytes());
        }
        let chosen = self.params["id"].as_str().unwrap();
        let chosen = hex::decode(&chosen[2..]).unwrap();
        let domain = match self.who {
            "operator" => "caldera command by the operator".to_owned(),
            tenant => format!("caldera command of {tenant}"),
        };
        let named = short(domain.as_bytes(), &chosen);
        match self.tag() {
            OFFSET => short(b"caldera offset", &named),
            _ => named,
        }
    }

    fn tag(&self) -> u8 {
        match self.method {
            "era_transferV1" => TRANSFER,
            "era_offsetV1" => OFFSET,
            "era_stakeV1" => STAKE,
            "era_unstakeV1" => UNSTAKE,
            "era_closeV1" => CLOSE,
            "era_settleV1" => SETTLE,
            _ if self.params["unbonding"].is_string() => WITHDRAW,
            _ if self.params["stake"].is_string() => HARVEST,
            _ => CLAIM,
        }
    }
}

impl Journal {
    /// Reads what has come since the last time. No id is there twice.
    fn read(&mut self, data: &Path) {
        let file = data.join("caldera.sqlite");
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY);
        let connection = connection.unwrap();
        let query = "SELECT sequence, record FROM ledger WHERE sequence >= ?1 ORDER BY sequence";
        let mut query = connection.prepare(query).unwrap();
        let from = self.records.len() as i64;
        let rows = query.query_map([from], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        });
        for row in rows.unwrap() {
            let (sequence, record) = row.unwrap();
            let at = self.records.len();
            assert_eq!(sequence, at as i64);
            // After length, sequence, time and the digest before it come body and outcome, each after its length.
            let (body, rest) = counted(&record[4 + 8 + 8 + 32..]);
            let (outcome, _) = counted(rest);
            let before = self.ids.insert(body[..16].try_into().unwrap(), at);
            assert_eq!(before, None, "record {at} is done twice");
            let kind = outcome[0];
            // The sum of a settlement stands after a root and a number of leaves.
            let skip = match kind {
                SETTLED => 32 + 4,
                _ => 0,
            };
            let amounts = match kind {
                MOVED | OFFSET_BY | SETTLED => &outcome[1 + skip..],
                _ => &[],
            };
            let mut amounts = amounts
                .chunks_exact(16)
                .map(|bytes| u128::from_be_bytes(bytes.try_into().unwrap()));
            self.records.push(Entry {
                tag: body[16],
                outcome: kind,
                amounts: [(); 2].map(|()| amounts.next().unwrap_or(0)),
            });
        }
    }

    /// What was acknowledged is there, as what it was, and has moved what was told.
    fn holds(&self, sent: &Sent, answer: &Value) {
        let at = answer["record"].as_u64().unwrap() as usize;
        assert_eq!(self.ids.get(&sent.id()), Some(&at), "{sent:?}: {answer}");
        let entry = &self.records[at];
        assert_eq!(entry.tag, sent.tag(), "{sent:?}: {answer}");
        if answer["repeated"] == true {
            return;
        }
        let told = match entry.outcome {
            MOVED => ["moved", "staked"],
            OFFSET_BY => ["charged", "reimbursed"],
            SETTLED => ["moved", ""],
            _ => return,
        };
        let told = told.map(|key| answer.get(key).map_or(0, units));
        assert_eq!(told, entry.amounts, "{sent:?}: {answer}");
    }

    /// What an acknowledged job costs was set aside.
    fn has_aside(&self, job: &Value) {
        let number = u64::from_str_radix(&job.as_str().unwrap()[2..], 16).unwrap();
        let at = self.ids.get(&short(b"caldera job", &number.to_be_bytes()));
        let at = *at.unwrap_or_else(|| panic!("nothing was set aside for job {job}"));
        assert_eq!(self.records[at].tag, RESERVE, "job {job}");
    }

    /// The sum of the first or second amounts of all records with one of these tags.
    fn sum(&self, which: usize, tags: &[u8]) -> u128 {
        let of = self.records.iter().filter(|it| tags.contains(&it.tag));
        of.map(|it| it.amounts[which]).sum()
    }
}

/// The first 16 bytes of SHA-256 of both.
fn short(domain: &[u8], bytes: &[u8]) -> [u8; 16] {
    let hash = Sha256::new().chain_update(domain).chain_update(bytes);
    *hash.finalize().first_chunk().unwrap()
}

/// What has its length in four bytes before it, and what comes after it.
fn counted(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = bytes.split_first_chunk::<4>().unwrap();
    rest.split_at(u32::from_be_bytes(*length) as usize)
}

/// Tags of commands,
const TRANSFER: u8 = 4;
const RESERVE: u8 = 5;
const OFFSET: u8 = 9;
const STAKE: u8 = 10;
const UNSTAKE: u8 = 11;
const WITHDRAW: u8 = 12;
const HARVEST: u8 = 13;
const CLOSE: u8 = 15;
const CLAIM: u8 = 16;
const SETTLE: u8 = 18;
/// and of outcomes.
const MOVED: u8 = 2;
const OFFSET_BY: u8 = 3;
const SETTLED: u8 = 4;
/// A thousand ERA.
const MUCH: u128 = 1_000_000_000_000_000_000_000;

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

/// Over the wire and by the command line: a stake earns, gives what it has earned, ends in parts and is free again; and a standing
/// order makes one of what is claimed.
#[test]
fn a_stake_earns_ends_and_is_free_again() {
    let times = times(1, 0);
    let bond = [
        ("lock_s = 2592000", "lock_s = 1".to_owned()),
        ("unbonding_s = 604800", "unbonding_s = 1".to_owned()),
    ];
    let it = Box::start_by(&[times.as_slice(), &bond].concat(), "");
    let (exchange, plaza) = (it.service.client("exchange"), it.service.client("plaza"));
    let much = 10_u128.pow(21);
    let payer = it.party("exchange", "user", 10, much + FEE);
    it.party("plaza", "user", 11, 0);
    let number = payer.to_string();
    let amount = much.to_string();
    // Without a pool nobody can stake.
    let stake = json!({"id": id(1), "party": payer, "amount": amount});
    assert_eq!(
        reason(exchange.try_call("era_stakeV1", stake.clone())),
        "eraInsufficient"
    );
    it.era_says("operator", &["transfer", "outside", "stakingPool", &amount]);
    for wrong in [
        json!({"id": id(2), "party": payer}),
        json!({"id": id(2), "party": payer, "amount": "1", "standing": true}),
    ] {
        assert_eq!(
            reason(exchange.try_call("era_stakeV1", wrong)),
            "invalidParams"
        );
    }
    exchange.call("era_stakeV1", stake);
    let earning = it
        .operator
        .wait("era_accountV1", json!({"party": payer}), |all| {
            units(&all[0]["stakes"][0]["earned"]) > 0
        });
    let stake = earning[0]["stakes"][0].clone();
    assert_eq!(stake["amount"], amount.as_str());
    let name = stake["id"].as_str().unwrap();

    // What it has earned so far; another's is nobody's.
    let harvest = json!({"id": id(3), "party": payer, "stake": name});
    assert_eq!(
        reason(plaza.try_call("era_claimV1", harvest.clone())),
        "eraUnknownParty"
    );
    let done = exchange.call("era_claimV1", harvest.clone());
    assert!(units(&done["moved"]) >= units(&stake["earned"]), "{done}");
    let again = exchange.call("era_claimV1", harvest);
    assert_eq!(again["repeated"], true);

    // A part of it ends over the wire, and the rest by the command line.
    let half = (much / 2).to_string();
    let part = json!({"id": id(4), "party": payer, "stake": name, "amount": half});
    assert_eq!(
        reason(plaza.try_call("era_unstakeV1", part.clone())),
        "eraUnknownParty"
    );
    let more =
        json!({"id": id(5), "party": payer, "stake": name, "amount": (2 * much).to_string()});
    until_unlocked(|| exchange.try_call("era_unstakeV1", part.clone()));
    assert_eq!(
        reason(exchange.try_call("era_unstakeV1", more)),
        "eraInsufficient"
    );
    let rest = [
        "unstake",
        &number,
        name,
        &half,
        "--idempotency-key",
        "the rest",
    ];
    it.era_says("exchange", &rest);
    let account = it.account(&payer);
    assert_eq!(account["stakes"], json!([]));
    let ends = account["unbondings"].as_array().unwrap();
    assert_eq!(ends.len(), 2, "{account}");
    assert_eq!(units(&account["unbonding"]), much);
    // The end of the stake that is no more is answered as before.
    assert_eq!(it.era_says("exchange", &rest)["repeated"], true);
    let withdraw = json!({"id": id(6), "party": payer, "unbonding": ends[0]["id"]});
    let done = until_unlocked(|| exchange.try_call("era_claimV1", withdraw.clone()));
    assert_eq!(units(&done["moved"]), much / 2);
    let gone = json!({"id": id(7), "party": payer, "unbonding": ends[0]["id"]});
    assert_eq!(reason(exchange.try_call("era_claimV1", gone)), "eraUnknown");
    // The second came due no later than a moment after the first.
    let second = ends[1]["id"].as_str().unwrap();
    let done = until_unlocked(|| {
        let run = it.era("exchange", &["claim", &number, "--unbonding", second]);
        let said: Value = serde_json::from_str(&run.stdout).unwrap();
        match run.code {
            Some(0) => Ok(said),
            _ => Err(json!({"data": {"reason": said["error"]["reason"]}})),
        }
    });
    assert_eq!(units(&done["moved"]), much / 2);
    let account = it.account(&payer);
    assert_eq!(units(&account["staked"]) + units(&account["unbonding"]), 0);
    assert!(units(&account["free"]) > much + FEE);

    // A standing order stakes half of what is claimed.
    it.era_says("exchange", &["stake", &number, "--standing", "true"]);
    assert_eq!(it.account(&payer)["standing"], true);
    let submission = it.circuit(&exchange);
    assert_eq!(prove(&exchange, &submission), "proved");
    it.operator
        .wait("era_accountV1", json!({"party": payer}), |all| {
            units(&all[0]["payable"]) > 0
        });
    let done = it.era_says("exchange", &["claim", &number]);
    assert!(units(&done["moved"]) > 1);
    assert_eq!(units(&done["staked"]), units(&done["moved"]) / 2);
    assert_eq!(it.account(&payer)["stakes"][0]["amount"], done["staked"]);
    exchange.call(
        "era_stakeV1",
        json!({"id": id(8), "party": payer, "standing": false}),
    );
    assert_eq!(it.account(&payer)["standing"], false);
    let (run, _) = it.audit();
    run.expect_code(0);
}

/// Asks until it is not too early any more.
fn until_unlocked(mut ask: impl FnMut() -> Result<Value, Value>) -> Value {
    loop {
        match ask() {
            Ok(done) => return done,
            early => assert_eq!(reason(early), "eraLocked"),
        }
    }
}

/// What only the operator does, over the wire and by the command line.
#[test]
fn an_operator_keeps_the_books() {
    let it = Box::start(1);
    let (exchange, plaza) = (it.service.client("exchange"), it.service.client("plaza"));
    let payer = it.party("exchange", "user", 10, 4 * FEE);
    let other = it.party("plaza", "user", 11, 0);
    let (one, two) = (payer.to_string(), other.to_string());

    // Legs are done one after the other, all or none.
    let leg = |from: &str, to: &str, amount: u128| json!({"asset": "era", "from": from, "to": to, "amount": amount.to_string()});
    let legs = |number, legs: Vec<Value>| json!({"id": id(number), "legs": legs});
    let short = vec![leg("outside", &two, 5), leg(&two, "treasury", 6)];
    assert_eq!(
        reason(it.operator.try_call("era_transferV1", legs(1, short))),
        "eraInsufficient"
    );
    assert_eq!(units(&it.account(&other)["free"]), 0);
    let enough = vec![
        leg("outside", &two, 5),
        leg(&two, &one, 4),
        leg(&one, "treasury", 3),
    ];
    it.operator.call("era_transferV1", legs(1, enough));
    assert_eq!(units(&it.account(&other)["free"]), 1);
    assert_eq!(units(&it.account(&payer)["free"]), 4 * FEE + 1);
    let many = vec![leg("outside", &two, 1); 17];
    assert_eq!(
        reason(it.operator.try_call("era_transferV1", legs(2, many))),
        "eraOverflow"
    );
    let words = ["transfer", "outside", &two, "9", &two, "treasury", "3"];
    it.era_says("operator", &words);
    assert_eq!(units(&it.account(&other)["free"]), 7);
    it.era("operator", &words[..6]).expect_code(78);

    // Who is known is said on purpose.
    let verified = |known: bool| assert_eq!(it.account(&other)["verified"], known);
    verified(true);
    it.era_says("operator", &["verify", "11", "--withdraw"]);
    verified(false);
    let verify = json!({"id": id(3), "owner": 11, "verified": true});
    assert_eq!(
        reason(plaza.try_call("era_verifyV1", verify.clone())),
        "invalidRequest"
    );
    it.operator.call("era_verifyV1", verify);
    verified(true);
    let address = format!("0x{:040x}", 12);
    let register = [
        "register",
        "plaza",
        "--developer",
        "--owner",
        "11",
        "--address",
        &address,
    ];
    it.era_says("operator", &register);
    verified(true);

    // Gas: what the receipt says, of who has sent it, and again once there is wei.
    let file = it.service.folder().join("receipt.json");
    let path = file.to_str().unwrap();
    let receipt = |from: u64, status: &str| {
        let receipt = json!({
            "transactionHash": format!("0x{}", "7a".repeat(32)), "from": format!("0x{from:040x}"),
            "status": status, "gasUsed": "0x15", "effectiveGasPrice": "0x3",
        });
        std::fs::write(&file, receipt.to_string()).unwrap();
    };
    let offset = [
        "offset",
        &one,
        "--era-max",
        "1000000",
        "--receipt",
        path,
        "--idempotency-key",
        "gas",
    ];
    receipt(10, "0x0");
    it.era("operator", &offset).expect_code(65);
    receipt(11, "0x1");
    it.era("operator", &offset).expect_code(65);
    receipt(10, "0x1");
    let run = it.era("operator", &offset);
    assert!(run.stdout.contains("eraInsufficient"), "{run}");
    it.era_says(
        "operator",
        &["transfer", "outside", "gasFloat", "1000", "--gas"],
    );
    let before = units(&it.account(&payer)["free"]);
    let done = it.era_says("operator", &offset);
    // Nine tenths of 63 wei, at 2,000 units each.
    assert_eq!(
        (&done["charged"], &done["reimbursed"]),
        (&json!("112000"), &json!("56"))
    );
    let account = it.account(&payer);
    assert_eq!(units(&account["free"]), before - 112_000);
    assert_eq!(
        (&account["gas"], &account["held"]),
        (&json!("56"), &json!("0"))
    );
    assert_eq!(it.era_says("operator", &offset)["repeated"], true);
    let raw = json!({
        "id": id(4), "party": payer, "eraMax": "9", "receipt": "7a".repeat(32), "gasUsed": 1,
        "gasPrice": "1",
    });
    assert_eq!(
        reason(it.operator.try_call("era_offsetV1", raw)),
        "eraConflict"
    );

    // A policy: what is none is refused with the sum, what is one holds from its epoch on.
    let policy_file = it.service.folder().join("next.toml");
    let policy_path = policy_file.to_str().unwrap();
    let mut edits = times(1, 0).to_vec();
    edits.push(("treasury = 1500", "treasury = 1501".to_owned()));
    let bad = json!({"id": id(5), "epoch": 1_000_000, "policy": policy(&edits)});
    let refused = it.operator.try_call("era_adoptV1", bad).unwrap_err();
    assert_eq!(refused["data"]["reason"], "eraPolicy");
    assert!(refused.to_string().contains("10001"), "{refused}");
    std::fs::write(&policy_file, policy(&edits)).unwrap();
    run_caldera(["era", "policy", "check", policy_path]).expect_code(78);
    edits.pop();
    edits.push(("split = 5000", "split = 2500".to_owned()));
    std::fs::write(&policy_file, policy(&edits)).unwrap();
    let checked = run_caldera(["--json", "era", "policy", "check", policy_path]).expect_success();
    let checked: Value = serde_json::from_str(&checked).unwrap();
    let mut from = 0;
    let mut adopted = false;
    while !adopted {
        let now = it.era_says("operator", &["policy", "show"]);
        assert_eq!(now["policy"]["reinvest"]["split"], 5000);
        assert_ne!(now["hash"], checked["hash"]);
        from = now["epoch"].as_u64().unwrap() + 4;
        let text = from.to_string();
        let run = it.era(
            "operator",
            &["policy", "adopt", policy_path, "--from", &text],
        );
        adopted = run.code == Some(0);
        // A machine that is slow enough has been in that epoch before.
        assert!(adopted || run.stdout.contains("eraClosedEpoch"), "{run}");
    }
    let next = exchange.wait("era_policyV1", json!({}), |policy| {
        policy["hash"] == checked["hash"]
    });
    assert!(next["epoch"].as_u64() >= Some(from), "{next}");
    assert_eq!(next["policy"]["reinvest"]["split"], 2500);
    let late = json!({"id": id(6), "epoch": 0, "policy": policy(&edits)});
    assert_eq!(
        reason(it.operator.try_call("era_adoptV1", late)),
        "eraClosedEpoch"
    );

    // Epochs: they close by themselves, and by hand no earlier.
    let submission = it.circuit(&exchange);
    assert_eq!(prove(&exchange, &submission), "proved");
    let paid = it
        .operator
        .wait("era_accountV1", json!({"party": payer}), |all| {
            units(&all[0]["payable"]) > 0
        });
    let epoch = paid[0]["payouts"][0]["epoch"].to_string();
    let closed = it.era_says("operator", &["epoch", "close", &epoch]);
    assert_eq!(closed["repeated"], true);
    let close = json!({"epoch": 4_000_000});
    assert_eq!(
        reason(it.operator.try_call("era_closeV1", close.clone())),
        "eraEpochNotOver"
    );
    assert_eq!(
        reason(exchange.try_call("era_closeV1", close)),
        "invalidRequest"
    );
    let before = it.era_says("exchange", &["epoch", "list", "--before", "2"]);
    let numbers = before["closed"].as_array().unwrap().iter();
    let numbers: Vec<_> = numbers.map(|it| it["epoch"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1]);

    // Why, as words; and what happened to the party, as lines.
    let why = it.era_says("exchange", &["explain", &one, &epoch]);
    assert_eq!(why["amount"], paid[0]["payouts"][0]["amount"]);
    let accounts = it.era_says("exchange", &["account"]);
    assert_eq!(accounts.as_array().map(Vec::len), Some(1));
    let url = format!("http://{}", it.service.address());
    let secret = it.service.folder().join("exchange.secret");
    let csv = [
        "era",
        "statement",
        &one,
        "--csv",
        "--url",
        &url,
        "--tenant",
        "exchange",
        "--secret-file",
    ];
    let csv = csv.map(str::as_ref).into_iter().chain([secret.as_os_str()]);
    let csv = run_caldera(csv).expect_success();
    let lines = it.era_says("exchange", &["statement", &one]);
    let lines = lines["lines"].as_array().unwrap();
    let mut rows = csv.lines();
    assert_eq!(rows.next(), Some("record,at,what,purse,change,balance"));
    let of = |line: &Value| {
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        let numbers = [line["record"].to_string(), line["at"].to_string()];
        let words = ["what", "purse", "change", "balance"].map(text);
        [numbers.as_slice(), &words].concat().join(",")
    };
    let expected: Vec<_> = lines.iter().map(of).collect();
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    for what in ["offset_gas", "transfer", "meter", "close"] {
        assert!(csv.contains(&format!(",{what},")), "{what}: {csv}");
    }

    // Who comes back is not known in the first month.
    for client in [&exchange, &it.operator] {
        let all = client.call("era_retentionV1", json!({}));
        assert_eq!(all["month"], 0, "{all}");
    }
    let all = it.era_says("plaza", &["retention"]);
    let groups = all["groups"].as_array().unwrap();
    let active: u64 = groups.iter().map(|it| it["active"].as_u64().unwrap()).sum();
    // The payer and the node.
    assert_eq!(active, 2, "{all}");

    let settled = it.era_says("operator", &["settle", &epoch]);
    assert!(units(&settled["moved"]) > 0);
    let (run, _) = it.audit();
    run.expect_code(0);
}

/// A tenant of light interaction that has gone quiet: what it gave back is an event of each epoch, though it takes nothing again, and
/// is paid for.
#[test]
fn storage_that_is_given_back_is_paid_for() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("policy.toml");
    let write = |quiet_ms: u64| {
        let class = |name: &str, more: &str| {
            format!("[classes.{name}]\nvalue = 1\nguarantee_percent = 0\n{more}")
        };
        let mark = format!("[classes.social.give_back]\nquiet_ms = {quiet_ms}\n");
        // What has a price is a scenario of the box.
        let others = ["financial", "supply_chain", "retail"].map(|name| class(name, ""));
        let text = others.concat() + &class("social", &mark);
        std::fs::write(&marks, text).unwrap();
    };
    write(31_536_000_000);
    let mut edits = times(1, 0).to_vec();
    // It has been quiet for a moment only.
    edits.push(("age_min_s = 300", "age_min_s = 0".to_owned()));
    let it = Box::start_by(&edits, &format!("policy_file = {marks:?}"));
    let plaza = it.service.client("plaza");
    let party = it.party("plaza", "user", 11, FEE);
    let price = units(&it.operator.call("era_policyV1", json!({}))["policy"]["prices"][1]["proof"]);
    assert!(price > 0 && price < FEE);
    let submission = it.circuit(&plaza);
    assert_eq!(prove(&plaza, &submission), "proved");
    plaza.upload(&[7; 1 << 20]);
    write(1);
    it.service.signal(nix::sys::signal::Signal::SIGHUP);
    plaza.wait("pool_storageV1", json!({}), |status| {
        status["releases"][0]["blobsBytes"].as_u64() >= Some(1 << 20)
    });
    // More than one epoch pays, though it takes nothing.
    let epochs = it.operator.wait("era_epochV1", json!({}), |epochs| {
        let closed = epochs["closed"].as_array().unwrap();
        closed.iter().filter(|it| units(&it["storage"]) > 0).count() >= 2
    });
    let closed = epochs["closed"].as_array().unwrap();
    // Not the first of them, in which it may have had its proof.
    let paid = closed.iter().rfind(|it| units(&it["storage"]) > 0).unwrap();
    let query = json!({"party": party, "epoch": paid["epoch"]});
    let why = plaza.call("era_explainV1", query);
    assert_eq!(why["amount"], paid["storage"], "{why}");
    assert_eq!(why["events"][0]["what"], "release", "{why}");
    assert!(units(&it.account(&party)["payable"]) > 0);
    let metrics = it.operator.get("/metrics").body;
    let events = metrics
        .lines()
        .find_map(|line| line.strip_prefix("caldera_era_events_total{what=\"release\"} "));
    assert!(events.unwrap().parse::<u64>().unwrap() >= 2);
    let (run, _) = it.audit();
    run.expect_code(0);
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
