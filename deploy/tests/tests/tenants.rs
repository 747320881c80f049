//! Tenants beside each other, and tenants that come and go while the box runs.
//!
//! What one tenant must not learn of another is tried by comparison: each way of asking is tried once with the names of what
//! another tenant has and once with names of what nobody has, and the two answers must be the same, byte for byte, but
//! for the names. So no list of good answers has to be right, and an error that says too much is found whatever it says.

use caldera_tests::era::{self, deposit, id};
use caldera_tests::interop::{semaphore_witnesses, semaphore_zkey};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::{Account, Answer, Client, Service, token};
use serde_json::{Value, json};

const DEPTH: u32 = 16;

/// Names of things: those of the owner, or of nothing.
#[derive(Clone)]
struct Names {
    tenant: String,
    job: String,
    circuit: String,
    witness: String,
    key: String,
    source: String,
    /// A party of the ledger, and one of its stakes.
    party: Value,
    stake: String,
    /// A request for state units.
    request: String,
}

impl Names {
    /// An answer with the names taken out.
    fn blank(&self, answer: &str) -> String {
        let names = [
            &self.source,
            &self.circuit,
            &self.witness,
            &self.job,
            &self.key,
            &self.stake,
            &self.request,
        ];
        // A number alone may stand for anything.
        let party = format!("party {}", self.party);
        let mut text = answer.replace(&party, "party NAME");
        for name in names {
            text = text.replace(name.as_str(), "NAME");
        }
        text
    }
}

/// One way of asking.
type Way = (&'static str, fn(&Client, &Names, &Own) -> String);

/// What the one who asks has.
struct Own {
    circuit: String,
    witness: String,
    secret: [u8; 32],
    party: Value,
}

fn call(client: &Client, method: &str, parameters: Value) -> String {
    format!("{:?}", client.try_call(method, parameters))
}

fn http(client: &Client, method: &str, path: &str, body: &[u8]) -> String {
    shown(&client.send(method, path, Some(&client.token()), body))
}

fn shown(answer: &Answer) -> String {
    format!("{} {}", answer.status, answer.body)
}

/// A token of that name, signed with the secret of the one who asks.
fn forged(client: &Client, algorithm: &str, name: &str, own: &Own) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let header = json!({"alg": algorithm, "typ": "JWT", "kid": name});
    let token = token(&header, &json!({ "iat": now }), &own.secret);
    shown(&client.send("POST", "/", Some(&token), b"{}"))
}

const WAYS: &[Way] = &[
    ("status", |b, it, _| {
        call(b, "prover_statusV1", json!({"job": it.job}))
    }),
    ("status with a wait", |b, it, _| {
        call(b, "prover_statusV1", json!({"job": it.job, "waitMs": 1}))
    }),
    ("result", |b, it, _| {
        call(b, "prover_resultV1", json!({"job": it.job}))
    }),
    ("result with a wait", |b, it, _| {
        call(b, "prover_resultV1", json!({"job": it.job, "waitMs": 1}))
    }),
    ("cancel", |b, it, _| {
        call(b, "prover_cancelV1", json!({"job": it.job}))
    }),
    ("profile", |b, it, _| {
        call(b, "prover_profileV1", json!({"job": it.job}))
    }),
    ("profile from the middle", |b, it, _| {
        call(b, "prover_profileV1", json!({"job": it.job, "from": 1}))
    }),
    ("parameters in an array", |b, it, _| {
        call(b, "prover_statusV1", json!([{"job": it.job}]))
    }),
    ("cancel as a notification", |b, it, _| {
        let body =
            json!({"jsonrpc": "2.0", "method": "prover_cancelV1", "params": {"job": it.job}});
        shown(&b.post(&b.token(), &body.to_string()))
    }),
    ("a batch", |b, it, _| {
        let one = |id: u32, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method, "params": {"job": it.job}});
        let body = json!([one(1, "prover_resultV1"), one(2, "prover_statusV1")]);
        shown(&b.post(&b.token(), &body.to_string()))
    }),
    ("events", |b, it, _| {
        http(b, "GET", &format!("/v1/jobs/{}/events", it.job), b"")
    }),
    ("estimate", |b, it, _| {
        call(b, "prover_estimateV1", json!({"circuit": it.circuit}))
    }),
    ("unregister", |b, it, _| {
        call(
            b,
            "prover_unregisterCircuitV1",
            json!({"circuit": it.circuit}),
        )
    }),
    ("register what was not uploaded", |b, it, _| {
        call(b, "prover_registerCircuitV1", json!({"zkey": it.circuit}))
    }),
    ("register without a check", |b, it, _| {
        call(
            b,
            "prover_registerCircuitV1",
            json!({"zkey": it.circuit, "check": "trusted"}),
        )
    }),
    ("register under its name", |b, it, _| {
        call(
            b,
            "prover_registerCircuitV1",
            json!({"zkey": it.circuit, "name": "membership"}),
        )
    }),
    ("register a witness", |b, it, _| {
        call(b, "prover_registerCircuitV1", json!({"zkey": it.witness}))
    }),
    ("register from its file", |b, it, own| {
        call(
            b,
            "prover_registerCircuitV1",
            json!({"zkey": own.circuit, "source": it.source}),
        )
    }),
    ("submit to its circuit", |b, it, own| {
        call(
            b,
            "prover_submitV1",
            json!({"circuit": it.circuit, "witness": own.witness}),
        )
    }),
    ("submit its witness", |b, it, own| {
        call(
            b,
            "prover_submitV1",
            json!({"circuit": own.circuit, "witness": it.witness}),
        )
    }),
    ("submit both", |b, it, _| {
        call(
            b,
            "prover_submitV1",
            json!({"circuit": it.circuit, "witness": it.witness}),
        )
    }),
    ("submit under its key", |b, it, _| {
        let key = &it.key;
        call(
            b,
            "prover_submitV1",
            json!({"circuit": it.circuit, "witness": it.witness, "idempotencyKey": key}),
        )
    }),
    ("delete its key", |b, it, _| {
        http(b, "DELETE", &format!("/v1/blobs/{}", it.circuit), b"")
    }),
    ("delete its witness", |b, it, _| {
        http(b, "DELETE", &format!("/v1/blobs/{}", it.witness), b"")
    }),
    ("overwrite its key", |b, it, _| {
        http(
            b,
            "PUT",
            &format!("/v1/blobs/{}", it.circuit),
            b"something else",
        )
    }),
    ("read its key", |b, it, _| {
        http(b, "GET", &format!("/v1/blobs/{}", it.circuit), b"")
    }),
    ("ask for its key", |b, it, _| {
        http(b, "OPTIONS", &format!("/v1/blobs/{}", it.circuit), b"")
    }),
    ("a folder of its own", |b, it, _| {
        http(
            b,
            "GET",
            &format!("/v1/blobs/{}/{}", it.tenant, it.circuit),
            b"",
        )
    }),
    ("a token in its name", |b, it, own| {
        forged(b, "HS256", &it.tenant, own)
    }),
    ("a token without a signature", |b, it, own| {
        forged(b, "none", &it.tenant, own)
    }),
    ("a token of another algorithm", |b, it, own| {
        forged(b, "HS512", &it.tenant, own)
    }),
    ("register with its witness program", |b, it, own| {
        call(
            b,
            "prover_registerCircuitV1",
            json!({"zkey": own.circuit, "witnessProgram": it.circuit}),
        )
    }),
    ("submit inputs to its circuit", |b, it, _| {
        call(
            b,
            "prover_submitV1",
            json!({"circuit": it.circuit, "inputs": {"a": 1}}),
        )
    }),
    ("upload under the name of its witness", |b, it, own| {
        http(
            b,
            "PUT",
            &format!("/v1/blobs/{}", it.witness),
            own.witness.as_bytes(),
        )
    }),
    ("its job on the dashboard", |b, it, _| {
        http(b, "GET", &format!("/dashboard/jobs/{}", it.job), b"")
    }),
    ("its account", |b, it, _| {
        call(b, "era_accountV1", json!({"party": it.party}))
    }),
    ("its statement", |b, it, _| {
        call(b, "era_statementV1", json!({"party": it.party}))
    }),
    ("why it is paid", |b, it, _| {
        call(b, "era_explainV1", json!({"party": it.party, "epoch": 0}))
    }),
    ("claim for it", |b, it, _| {
        call(b, "era_claimV1", json!({"id": id(90), "party": it.party}))
    }),
    ("stake for it", |b, it, _| {
        call(
            b,
            "era_stakeV1",
            json!({"id": id(90), "party": it.party, "amount": "1"}),
        )
    }),
    ("a standing order for it", |b, it, _| {
        call(
            b,
            "era_stakeV1",
            json!({"id": id(90), "party": it.party, "standing": true}),
        )
    }),
    ("take what its stake earns", |b, it, own| {
        call(
            b,
            "era_claimV1",
            json!({"id": id(90), "party": own.party, "stake": it.stake}),
        )
    }),
    ("take its stake as what is due", |b, it, own| {
        call(
            b,
            "era_claimV1",
            json!({"id": id(90), "party": own.party, "unbonding": it.stake}),
        )
    }),
    ("end its stake", |b, it, own| {
        call(
            b,
            "era_unstakeV1",
            json!({"id": id(90), "party": own.party, "stake": it.stake, "amount": "1"}),
        )
    }),
    ("pay from its purse", |b, it, own| {
        let leg = json!({
            "asset": "era", "from": it.party.to_string(), "to": own.party.to_string(), "amount": "1",
        });
        call(b, "era_transferV1", json!({"id": id(90), "legs": [leg]}))
    }),
    ("its request", |b, it, _| {
        call(b, "state_getV1", json!({"request": it.request}))
    }),
    ("take its request back", |b, it, _| {
        call(b, "state_revokeV1", json!({"request": it.request}))
    }),
    ("rotate its secret", |b, it, _| {
        call(b, "tenant_rotateV1", json!({"tenant": it.tenant}))
    }),
    ("suspend it", |b, it, _| {
        call(b, "tenant_suspendV1", json!({"tenant": it.tenant}))
    }),
    ("remove it", |b, it, _| {
        call(b, "tenant_removeV1", json!({"tenant": it.tenant}))
    }),
    ("add it", |b, it, _| {
        call(
            b,
            "tenant_addV1",
            json!({"tenant": it.tenant, "scenario": "financial"}),
        )
    }),
];

#[test]
fn no_way_of_asking_tells_what_another_tenant_has() {
    assert!(WAYS.len() >= 30, "{}", WAYS.len());
    let sources = tempfile::tempdir().expect("a folder");
    let there = sources.path().join("theirs.zkey");
    let zkey = std::fs::read(semaphore_zkey(DEPTH)).expect("a key");
    std::fs::write(&there, &zkey[..1000]).expect("a file");
    let service = Service::start(
        &[("alice", "financial"), ("bob", "financial")],
        &format!(
            "[storage]\nkey_sources = [{:?}]\n{}",
            sources.path(),
            era::section(sources.path(), 3600, 0)
        ),
    );
    let (alice, bob) = (service.client("alice"), service.client("bob"));
    // Both are parties with funds, one has a stake, and one asks holders for something.
    let operator = service.client("operator");
    let party = |tenant: &str, owner: u64| {
        let register = json!({
            "id": id(owner), "tenant": tenant, "role": "user", "owner": owner, "verified": true,
            "address": format!("0x{owner:040x}"),
        });
        let party = operator.call("era_registerV1", register)["party"].clone();
        operator.call("era_transferV1", deposit(10 + owner, &party, 2 * era::FEE));
        party
    };
    let (of_alice, of_bob) = (party("alice", 1_001), party("bob", 1_002));
    let pool = json!({"asset": "era", "from": "outside", "to": "stakingPool", "amount": "1000000"});
    operator.call("era_transferV1", json!({"id": id(3), "legs": [pool]}));
    let staked = json!({"id": id(4), "party": of_alice, "amount": "1000"});
    alice.call("era_stakeV1", staked);
    let accounts = alice.call("era_accountV1", json!({}));
    let stake = accounts[0]["stakes"][0]["id"].clone();
    let terms = json!({
        "schema": "caldera.kyc.v1",
        "scope": {"scenario": "financial", "purpose": "instalment", "epoch": 1},
        "validThrough": 4_102_444_800u64, "presentations": 1,
        "bounds": [{"claim": "level", "least": "2"}],
    });
    let asked = json!({"request": terms, "closes": 4_102_444_800u64});
    let offer = alice.call("state_grantV1", asked);
    let request = offer["request"]["request"].clone();
    let circuit = alice.register(&zkey, "full");
    let witnesses = ["one", "another"].map(|name| service.folder().join(name));
    semaphore_witnesses(DEPTH, &witnesses);
    let witnesses = witnesses.map(|path| std::fs::read(path).expect("a witness"));
    let witness = alice.upload(&witnesses[0]);
    let job = alice.call(
        "prover_submitV1",
        json!({"circuit": circuit, "witness": witness, "idempotencyKey": "of-alice"}),
    )["job"]
        .clone();
    let ended = alice.ended(&job);
    let result = alice.call("prover_resultV1", json!({"job": job}));

    // Bob has a key too, of another circuit, so that the two have no name in common.
    let own = Own {
        circuit: bob.upload(&std::fs::read(semaphore_zkey(DEPTH + 1)).expect("a key")),
        witness: bob.upload(&witnesses[1]),
        secret: service.account("bob").secret,
        party: of_bob,
    };
    let theirs = Names {
        tenant: "alice".into(),
        job: job.as_str().expect("a name").into(),
        circuit: circuit.clone(),
        witness: witness.clone(),
        key: "of-alice".into(),
        source: there.display().to_string(),
        party: of_alice.clone(),
        stake: stake.as_str().expect("an id").into(),
        request: request.as_str().expect("a word").into(),
    };
    let nobodys = Names {
        tenant: "nobod".into(),
        job: "0x00000000000000ff".into(),
        circuit: "ab".repeat(32),
        witness: "cd".repeat(32),
        key: "of-nobod".into(),
        source: sources.path().join("nobody.zkey").display().to_string(),
        party: json!(4_000_000_000u32),
        stake: id(91),
        request: format!("0x{:064x}", 92),
    };
    for (name, way) in WAYS {
        let (one, other) = (way(&bob, &theirs, &own), way(&bob, &nobodys, &own));
        assert_eq!(theirs.blank(&one), nobodys.blank(&other), "{name}");
    }
    // What bob is shown of the pool and of circuits names nobody else.
    for (method, parameters) in [
        ("pool_statusV1", json!({})),
        ("pool_storageV1", json!({})),
        ("prover_listCircuitsV1", json!({})),
        ("era_accountV1", json!({})),
        ("era_epochV1", json!({})),
        ("state_getV1", json!({})),
    ] {
        let text = bob.call(method, parameters).to_string();
        for name in [
            "alice",
            &circuit,
            &witness,
            &theirs.job,
            &theirs.stake,
            &theirs.request,
        ] {
            assert!(!text.contains(name), "{method} names {name}: {text}");
        }
    }
    // And alice has all that she had.
    assert_eq!(alice.call("prover_statusV1", json!({"job": job})), ended);
    assert_eq!(alice.call("prover_resultV1", json!({"job": job})), result);
    assert_eq!(alice.put(&witness, &witnesses[0]).status, 200);
    let query = json!({"request": theirs.request});
    assert_eq!(
        alice.call("state_getV1", query)["request"],
        offer["request"]
    );
    let now = alice.call("era_accountV1", json!({}));
    assert_eq!(now[0]["stakes"], accounts[0]["stakes"]);
    assert_eq!(now[0]["standing"], json!(false));
    assert_eq!(service.stop(), Some(0));
}

/// How much others have staked is theirs to know: who is refused for want of room is not told.
#[test]
fn what_others_have_staked_is_told_to_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(
        &[("alice", "financial"), ("bob", "financial")],
        &era::section(folder.path(), 3600, 0),
    );
    let operator = service.client("operator");
    let mut parties = Vec::new();
    for (tenant, owner) in [("alice", 1_001), ("bob", 1_002)] {
        let register = json!({
            "id": id(owner), "tenant": tenant, "role": "user", "owner": owner, "verified": true,
            "address": format!("0x{owner:040x}"),
        });
        let party = operator.call("era_registerV1", register)["party"].clone();
        let much = 2 * 10_u128.pow(24);
        operator.call("era_transferV1", deposit(10 + owner, &party, much));
        parties.push(party);
    }
    let bob = service.client("bob");
    let stake = |client: &Client, number: u64, party: &Value, amount: u128| {
        let amount = amount.to_string();
        client.try_call(
            "era_stakeV1",
            json!({"id": id(number), "party": party, "amount": amount}),
        )
    };
    // The pool has what so much earns until its lock ends, and no more.
    let pool = json!({
        "asset": "era", "from": "outside", "to": "stakingPool", "amount": 10_u128.pow(20).to_string(),
    });
    operator.call("era_transferV1", json!({"id": id(3), "legs": [pool]}));
    let (little, most) = (10_u128.pow(22), 10_u128.pow(24));
    let refusals = || {
        let amounts = [most - 10 * little, most + 1];
        amounts.map(|amount| stake(&bob, 5, &parties[1], amount))
    };
    let before = refusals();
    assert!(before.iter().all(Result::is_err), "{before:?}");
    let alice = service.client("alice");
    stake(&alice, 4, &parties[0], little).expect("there is room");
    assert_eq!(refusals(), before);
    assert_eq!(service.stop(), Some(0));
}

fn tenant_command(service: &Service, arguments: &[&str]) -> caldera_tests::programs::Run {
    let secret = service.folder().join("operator.secret");
    let url = format!("http://{}", service.address());
    let secret = secret.to_str().expect("a path in UTF-8");
    let connection = [
        "--url",
        &url,
        "--tenant",
        "operator",
        "--secret-file",
        secret,
    ];
    run_caldera(["tenant"].iter().chain(arguments).chain(&connection))
}

fn client_of(service: &Service, name: &str, printed: &str) -> Client {
    let mut secret = [0; 32];
    hex::decode_to_slice(printed.trim(), &mut secret).expect("64 digits and the end of a line");
    let name = name.to_owned();
    Client::new(service.address(), Account { name, secret })
}

fn is_known(client: &Client) -> bool {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "prover_listCircuitsV1"});
    match client.post(&client.token(), &body.to_string()).status {
        200 => true,
        401 => false,
        other => panic!("status {other}"),
    }
}

#[test]
fn a_tenant_is_added_rotated_suspended_and_removed_while_the_box_runs() {
    let mut service = Service::start(&[("alice", "financial")], "");
    let add = ["add", "carol", "--scenario", "social", "--requests", "1000"];
    let printed = tenant_command(&service, &add).expect_success();
    let first = client_of(&service, "carol", &printed);
    assert!(is_known(&first));
    let blob = first.upload(b"what carol has");

    // Once; and not what the configuration has.
    assert_ne!(tenant_command(&service, &add).code, Some(0));
    assert_ne!(tenant_command(&service, &["rotate", "alice"]).code, Some(0));
    assert_ne!(
        tenant_command(&service, &["remove", "nobody"]).code,
        Some(0)
    );

    let printed = tenant_command(&service, &["rotate", "carol"]).expect_success();
    let second = client_of(&service, "carol", &printed);
    assert!(is_known(&first) && is_known(&second));
    service = service.restart();
    let (first, second) = (first.moved(&service), second.moved(&service));
    assert!(is_known(&first) && is_known(&second));
    let at_once = ["rotate", "carol", "--overlap-ms", "0"];
    let printed = tenant_command(&service, &at_once).expect_success();
    let third = client_of(&service, "carol", &printed);
    assert!(!is_known(&first) && !is_known(&second) && is_known(&third));

    tenant_command(&service, &["suspend", "carol"]).expect_success();
    assert!(!is_known(&third));
    service = service.restart();
    let third = third.moved(&service);
    assert!(!is_known(&third));
    tenant_command(&service, &["resume", "carol"]).expect_success();
    assert!(is_known(&third));
    assert_eq!(third.put(&blob, b"what carol has").status, 200);

    // Nothing in the store signs.
    let data = service.folder().join("data");
    for name in ["caldera.sqlite", "caldera.sqlite-wal"] {
        let bytes = std::fs::read(data.join(name)).unwrap_or_default();
        for secret in [
            printed.trim().as_bytes(),
            &hex::decode(printed.trim()).expect("digits"),
        ] {
            assert!(
                !bytes.windows(secret.len()).any(|it| it == secret),
                "{name}"
            );
        }
    }

    let stored = data.join("blobs/tenants/carol").join(&blob);
    assert!(stored.exists());
    tenant_command(&service, &["remove", "carol"]).expect_success();
    assert!(!is_known(&third));
    assert_ne!(tenant_command(&service, &add).code, Some(0));
    service = service.restart();
    assert!(!stored.exists());
    let listed = tenant_command(&service, &["list"]).expect_success();
    assert!(
        listed.contains("alice") && !listed.contains("carol"),
        "{listed}"
    );
    // The name is free, and a tenant of it is somebody else.
    let printed = tenant_command(&service, &add).expect_success();
    assert!(is_known(&client_of(&service, "carol", &printed)));
    assert!(!is_known(&third.moved(&service)));
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn who_floods_is_held_to_its_quotas_and_nobody_else_is() {
    let service = Service::start(&[("alice", "financial")], "");
    let add = [
        "add",
        "mallory",
        "--scenario",
        "financial",
        "--requests",
        "20",
        "--calls",
        "2",
        "--blob-bytes",
        "100",
        "--queue",
        "1",
    ];
    let mallory = client_of(
        &service,
        "mallory",
        &tenant_command(&service, &add).expect_success(),
    );
    let alice = service.client("alice");

    let reason = |it: &Result<Value, Value>| match it {
        Ok(_) => String::from("taken"),
        Err(error) => error["data"]["reason"]
            .as_str()
            .expect("a reason")
            .to_owned(),
    };
    let mut refused = 0;
    for _ in 0..60 {
        let answer = mallory.try_call("prover_listCircuitsV1", json!({}));
        if let Err(error) = &answer {
            assert_eq!(reason(&answer), "tenantRateFull");
            assert_eq!(error["code"], -32005);
            assert!(
                error["data"]["retryAfterMs"].as_u64().expect("a time") <= 1001,
                "{error}"
            );
            refused += 1;
        }
        alice.call("prover_listCircuitsV1", json!({}));
    }
    assert!(refused > 0, "60 requests were taken");
    // A batch is as many requests as it holds.
    let one = |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "prover_listCircuitsV1"});
    let batch: Vec<Value> = (0..60).map(one).collect();
    let answer = mallory.post(&mallory.token(), &Value::from(batch).to_string());
    assert!(answer.body.contains("tenantRateFull"), "{answer:?}");

    let listed = tenant_command(
        &service,
        &["add", "dave", "--scenario", "social", "--scopes", "read"],
    );
    let dave = client_of(&service, "dave", &listed.expect_success());
    dave.call("prover_listCircuitsV1", json!({}));
    let digest = "ab".repeat(32);
    let answer = dave.try_call(
        "prover_submitV1",
        json!({"circuit": digest, "witness": digest}),
    );
    assert_eq!(reason(&answer), "outOfScope");
    assert_eq!(dave.put(&digest, b"x").status, 403);
    // What moves its money is asked of whoever may submit; what it has is read.
    let (id, party) = (id(1), 1);
    for (method, parameters) in [
        ("era_claimV1", json!({"id": id, "party": party})),
        (
            "era_stakeV1",
            json!({"id": id, "party": party, "amount": "1"}),
        ),
        (
            "era_unstakeV1",
            json!({"id": id, "party": party, "stake": id, "amount": "1"}),
        ),
    ] {
        let answer = dave.try_call(method, parameters);
        assert_eq!(reason(&answer), "outOfScope", "{method}");
    }
    for method in [
        "era_accountV1",
        "era_epochV1",
        "era_policyV1",
        "era_retentionV1",
    ] {
        assert_eq!(reason(&dave.try_call(method, json!({}))), "eraOff");
    }

    let narrow = [
        "add",
        "erin",
        "--scenario",
        "social",
        "--blob-bytes",
        "100",
        "--running",
        "2",
    ];
    let erin = client_of(
        &service,
        "erin",
        &tenant_command(&service, &narrow).expect_success(),
    );
    erin.upload(&[1; 60]);
    let much = [2; 60];
    let answer = erin.put(
        &hex::encode(<sha2::Sha256 as sha2::Digest>::digest(much)),
        &much,
    );
    assert_eq!(answer.status, 507, "{answer:?}");
    let told = service.client("operator").call("tenant_listV1", json!({}));
    let tenants = told.as_array().expect("a list");
    let erin = tenants.iter().find(|it| it["tenant"] == "erin");
    let expected = json!({"running": 2, "blobBytes": 100});
    assert_eq!(erin.expect("added")["quotas"], expected);
    assert_eq!(service.stop(), Some(0));
}
