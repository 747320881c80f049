//! What a box refuses of state units, by the name of the rule; and that nothing is recorded then. A journal that somebody has
//! altered is found when the box starts, is named, and no state unit is served.

use std::path::Path;

use caldera_tests::service::{Client, Service};
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 2] = [("finance", "financial"), ("commerce", "retail")];

/// 2100: no test comes so late.
const CLOSES: u64 = 4_102_444_800;

fn request() -> Value {
    json!({
        "schema": "caldera.kyc.v1",
        "scope": {"scenario": "retail", "purpose": "instalment", "epoch": 1},
        "validThrough": CLOSES,
        "presentations": 1,
        "bounds": [{"claim": "level", "least": "2"}],
        "set": {"claim": "country", "values": ["756"]},
    })
}

fn open(client: &Client, change: impl FnOnce(&mut Value)) -> Result<Value, String> {
    let mut request = request();
    change(&mut request);
    let asked = json!({"request": request, "closes": CLOSES});
    client.try_call("state_grantV1", asked).map_err(reason)
}

fn reason(error: Value) -> String {
    let reason = error["data"]["reason"].as_str();
    reason.unwrap_or_else(|| panic!("{error}")).to_owned()
}

#[test]
fn terms_that_cannot_be_are_refused_by_their_rule() {
    let service = Service::start(&TENANTS, "");
    let finance = service.client("finance");
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 11] = [
        ("schemaUnknown", |it| it["schema"] = json!("caldera.kyc.v9")),
        ("claimUnknown", |it| {
            it["bounds"][0]["claim"] = json!("colour")
        }),
        ("claimRange", |it| {
            it["bounds"][0]["least"] = json!("18446744073709551616")
        }),
        ("claimRange", |it| it["bounds"][0]["least"] = json!("-1")),
        ("claimRange", |it| it["bounds"][0]["least"] = json!("+1")),
        ("claimRange", |it| it["set"]["values"] = json!(["0x10"])),
        ("requestTerms", |it| {
            it["bounds"][0]["greatest"] = json!("1")
        }),
        ("requestTerms", |it| it["set"]["values"] = json!([])),
        ("requestTerms", |it| it["presentations"] = json!(0)),
        ("requestTerms", |it| it["validThrough"] = json!(1u64 << 40)),
        ("requestTerms", |it| {
            it["bounds"] = json!(vec![json!({"claim": "level"}); 5])
        }),
    ];
    for (rule, change) in cases {
        assert_eq!(open(&finance, change), Err(rule.to_owned()));
    }
    // Over when it begins, or open when what answers it may be over.
    for closes in [1, CLOSES + 1] {
        let asked = json!({"request": request(), "closes": closes});
        let refused = finance.try_call("state_grantV1", asked).map_err(reason);
        assert_eq!(refused, Err("requestEnd".to_owned()), "{closes}");
    }
    let unknown = json!({"request": format!("0x{:064x}", 5)});
    let closed = finance.try_call("state_revokeV1", unknown).map_err(reason);
    assert_eq!(closed, Err("requestUnknown".to_owned()));
    // One and the same request is another for another verifier.
    let ours = open(&finance, |_| {}).expect("opened");
    let commerce = service.client("commerce");
    let theirs = open(&commerce, |_| {}).expect("opened");
    assert_ne!(ours["request"]["request"], theirs["request"]["request"]);
    let get = json!({"request": ours["request"]["request"]});
    assert_eq!(
        finance.call("state_getV1", get.clone())["request"],
        ours["request"]
    );
    assert!(commerce.call("state_getV1", get).get("request").is_none());
}

/// A set of many values is a tree of hashes: as many of one tenant are hashed at a time as do not hold others up.
#[test]
fn a_flood_of_requests_over_large_sets_is_held_to_a_few_at_a_time() {
    let service = Service::start(&TENANTS, "");
    let finance = service.client("finance");
    let values: Vec<String> = (0..512).map(|value| value.to_string()).collect();
    let one = |id: u32| {
        let mut request = request();
        request["set"]["values"] = json!(values);
        request["validThrough"] = json!(CLOSES + u64::from(id));
        let params = json!({"request": request, "closes": CLOSES});
        json!({"jsonrpc": "2.0", "id": id, "method": "state_grantV1", "params": params})
    };
    // All of a batch are read before any answer can come.
    let batch: Vec<Value> = (0..8).map(one).collect();
    let answer = finance.post(&finance.token(), &Value::from(batch).to_string());
    let answers: Vec<Value> = serde_json::from_str(&answer.body).expect("a list");
    let opened = answers.iter().filter(|it| it.get("result").is_some());
    assert_eq!(opened.count(), 4, "{answers:?}");
    let reasons = answers
        .iter()
        .filter_map(|it| it["error"]["data"]["reason"].as_str());
    assert_eq!(reasons.collect::<Vec<_>>(), ["tenantCallsFull"; 4]);
    // And after that there is room again.
    assert!(open(&finance, |it| it["set"]["values"] = json!(values)).is_ok());
}

#[test]
fn only_the_operator_publishes_and_only_tenants_take_part() {
    let service = Service::start(&TENANTS, "");
    let (operator, finance) = (service.client("operator"), service.client("finance"));
    let root = format!("0x{:064x}", 7);
    let issue = json!({"issuersRoot": root});
    let revoke = json!({"revocationRoot": root});
    for (method, params) in [("state_issueV1", &issue), ("state_revokeV1", &revoke)] {
        let refused = finance.try_call(method, params.clone()).map_err(reason);
        assert_eq!(refused, Err("invalidRequest".to_owned()), "{method}");
        operator.call(method, params.clone());
    }
    let modulus = "0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
    let refused = operator.try_call("state_issueV1", json!({"issuersRoot": modulus}));
    assert_eq!(refused.map_err(reason), Err("invalidParams".to_owned()));
    let refused = open(&operator, |_| {});
    assert_eq!(refused, Err("invalidRequest".to_owned()));
    let info = finance.call("state_getV1", json!({}));
    assert_eq!(info["issuersRoot"], json!(root));
    assert_eq!(info["revocationRoot"], json!(root));
    // Without a key nothing is verified.
    let verify = json!({"proof": {}, "publicInputs": [], "grant": grant()});
    let refused = finance.try_call("state_verifyV1", verify).map_err(reason);
    assert_eq!(refused, Err("stateKeyMissing".to_owned()));
}

fn grant() -> Value {
    let address = format!("0x{:040x}", 1);
    let word = format!("0x{:064x}", 1);
    json!({
        "verifier": address, "sender": address, "request": word, "tip": address,
        "uses": 1, "expiry": CLOSES, "challenge": word,
    })
}

#[test]
fn an_altered_journal_is_named_and_nothing_is_served() {
    let mut service = Service::start(&TENANTS, "");
    let operator = service.client("operator");
    for root in 1..=3 {
        let root = format!("0x{root:064x}");
        operator.call("state_issueV1", json!({"issuersRoot": root}));
    }
    let before = operator.call("state_getV1", json!({}));
    service.kill();
    service.start_again();
    let operator = operator.moved(&service);
    assert_eq!(operator.call("state_getV1", json!({})), before);
    // One that ends well leaves all rows in the file and none in its log.
    service = service.restart();
    service.kill();
    // As a disk would that gives back another byte: the last root's last byte.
    alter(&service.folder().join("data/caldera.sqlite"));
    service.start_again();
    let operator = operator.moved(&service);
    let finance = service.client("finance");
    for (client, method, params) in [
        (&operator, "state_getV1", json!({})),
        (
            &operator,
            "state_issueV1",
            json!({"issuersRoot": format!("0x{:064x}", 9)}),
        ),
        (
            &finance,
            "state_grantV1",
            json!({"request": request(), "closes": CLOSES}),
        ),
    ] {
        let error = client.try_call(method, params).expect_err("refused");
        assert_eq!(error["data"]["reason"], "stateJournalDamaged", "{error}");
        assert!(
            error["message"].as_str().unwrap().contains("row 3"),
            "{error}"
        );
    }
    // All else goes on, and whoever asks is told.
    assert!(finance.call("prover_listCircuitsV1", json!({})).is_array());
    let ready = finance.get("/readyz");
    assert_eq!(ready.status, 200, "{ready:?}");
    assert!(
        ready.body.contains("state units are not served"),
        "{ready:?}"
    );
    assert!(service.log().contains("row 3"), "{}", service.log());
}

/// Changes the third row of the journal behind SQLite's back.
fn alter(database: &Path) {
    let mut bytes = std::fs::read(database).expect("the file is ours");
    // Kind, tree, number, root, time: see `Change::to_bytes`. The root is 31 zeros and a three.
    let mut row = vec![1, 0, 0, 0, 0, 2];
    row.extend([0; 31]);
    row.push(3);
    let found = bytes.windows(row.len()).position(|window| window == row);
    let at = found.expect("the row is in the file");
    bytes[at + row.len() - 1] = 4;
    std::fs::write(database, bytes).expect("the file is ours");
}
