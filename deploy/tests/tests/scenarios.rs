//! Four states that are proved in one scenario and used in another, through a real `calderad` with two rollups as tenants
//! and `caldera` at everybody's home: KYC to instalment, supply-chain performance to loan, equipment operation to leasing,
//! customs to trade credit. Each is issued, granted, presented, used again, revoked and refused; the box is killed
//! between two uses, and nothing is lost or counted twice.

use std::path::{Path, PathBuf};

use ark_bn254::Fr;
use ark_ff::{BigInteger, PrimeField};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_prover::units::{HolderSecret, Presentation, RevocationTree};
use caldera_tests::era::{self, FEE, REUSE_FEE, deposit, units};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::Service;
use caldera_units::{GrantFile, IssuerFile, Schemas, UnitFile};
use serde_json::{Value, json};

/// A state of one rollup that counts in the other.
struct Scenario {
    name: &'static str,
    schema: &'static str,
    /// Who asks.
    verifier: &'static str,
    /// Who must see nothing of it.
    other: &'static str,
    claims: &'static [(&'static str, &'static str)],
    bounds: &'static [(&'static str, Option<&'static str>, Option<&'static str>)],
    set: Option<(&'static str, &'static [&'static str])>,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "kyc-to-instalment",
        schema: "caldera.kyc.v1",
        verifier: "commerce",
        other: "finance",
        claims: &[
            ("level", "3"),
            ("country", "756"),
            ("born", "19900214"),
            ("income", "9600000"),
            ("score", "812"),
        ],
        bounds: &[
            ("level", Some("2"), None),
            ("born", None, Some("20081126")),
            ("sanctioned", Some("0"), Some("0")),
            ("income", Some("6000000"), None),
        ],
        set: Some(("country", &["40", "276", "756"])),
    },
    Scenario {
        name: "supply-chain-to-loan",
        schema: "caldera.supply-chain.v1",
        verifier: "finance",
        other: "commerce",
        claims: &[
            ("orders", "1840"),
            ("onTime", "9730"),
            ("volume", "2400000000"),
            ("disputes", "3"),
            ("months", "61"),
            ("sector", "28"),
        ],
        bounds: &[
            ("onTime", Some("9500"), None),
            ("volume", Some("1000000000"), None),
            ("disputes", None, Some("10")),
            ("months", Some("24"), None),
        ],
        set: None,
    },
    Scenario {
        name: "equipment-to-leasing",
        schema: "caldera.equipment.v1",
        verifier: "finance",
        other: "commerce",
        claims: &[
            ("hours", "5210"),
            ("utilisation", "8120"),
            ("faults", "2"),
            ("serviced", "20261001"),
            ("model", "4711"),
            ("value", "18000000"),
        ],
        bounds: &[
            ("utilisation", Some("7000"), Some("10000")),
            ("faults", None, Some("5")),
            ("serviced", Some("20260601"), None),
        ],
        set: Some(("model", &["4710", "4711"])),
    },
    Scenario {
        name: "customs-to-trade-credit",
        schema: "caldera.customs.v1",
        verifier: "finance",
        other: "commerce",
        claims: &[
            ("declarations", "412"),
            ("volume", "90000000000"),
            ("authorised", "1"),
            ("country", "276"),
        ],
        bounds: &[
            ("declarations", Some("100"), None),
            ("irregularities", None, Some("0")),
            ("authorised", Some("1"), Some("1")),
            ("dutiesOwed", Some("0"), Some("0")),
        ],
        set: None,
    },
];

/// One who works at a command line, in a folder.
struct Home<'a> {
    folder: &'a Path,
    service: &'a Service,
}

impl Home<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// `caldera state ...`; words that end in `@` are files of the folder.
    fn state(&self, line: &str) -> Value {
        let (code, json) = self.try_state(line, None);
        assert_eq!(code, Some(0), "caldera state {line}: {json}");
        json
    }

    /// The same as a tenant or the operator, through the box.
    fn at_box(&self, account: &str, line: &str) -> Value {
        let (code, json) = self.try_state(line, Some(account));
        assert_eq!(code, Some(0), "caldera state {line}: {json}");
        json
    }

    /// The reason of a refusal by the box.
    fn refused(&self, account: &str, line: &str) -> String {
        let (code, json) = self.try_state(line, Some(account));
        assert_ne!(code, Some(0), "caldera state {line}: {json}");
        let reason = json["error"]["reason"].as_str();
        reason
            .unwrap_or_else(|| panic!("{line}: {json}"))
            .to_owned()
    }

    fn try_state(&self, line: &str, account: Option<&str>) -> (Option<i32>, Value) {
        let mut words = vec!["--json".to_owned(), "state".to_owned()];
        words.extend(
            line.split_whitespace()
                .map(|word| match word.strip_suffix('@') {
                    Some(name) => self.path(name).display().to_string(),
                    None => word.to_owned(),
                }),
        );
        if let Some(account) = account {
            let secret = self.service.folder().join(format!("{account}.secret"));
            let url = format!("http://{}", self.service.address());
            words.extend(["--url".into(), url, "--tenant".into(), account.into()]);
            words.extend(["--secret-file".into(), secret.display().to_string()]);
        }
        let run = run_caldera(&words);
        let json =
            serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"));
        (run.code, json)
    }

    fn write(&self, name: &str, json: &Value) {
        std::fs::write(self.path(name), json.to_string()).expect("room");
    }

    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let bytes = std::fs::read(self.path(name)).expect("written");
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A number in 64 hexadecimal digits, lowest byte first.
    fn secret(&self, name: &str) -> [u8; 32] {
        let digits = std::fs::read_to_string(self.path(name)).expect("written");
        let bytes = hex::decode(digits.trim()).expect("hexadecimal");
        bytes.try_into().expect("32 bytes")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}"))
}

/// A key as `keygen issuer` prints it, in a list that has it vouch for the scenario's schema.
fn accepted(mut key: Value, scenario: &Scenario) -> Value {
    key["schema"] = json!(scenario.schema);
    key
}

fn request_of(scenario: &Scenario) -> Value {
    let bounds = scenario.bounds.iter().map(|(claim, least, greatest)| {
        let mut bound = json!({"claim": claim});
        if let Some(least) = least {
            bound["least"] = json!(least);
        }
        if let Some(greatest) = greatest {
            bound["greatest"] = json!(greatest);
        }
        bound
    });
    let mut request = json!({
        "schema": scenario.schema,
        "scope": {"scenario": scenario.verifier, "purpose": scenario.name, "epoch": 1},
        "validThrough": CLOSES,
        "presentations": 1,
        "bounds": bounds.collect::<Vec<_>>(),
    });
    if let Some((claim, values)) = scenario.set {
        request["set"] = json!({"claim": claim, "values": values});
    }
    request
}

/// A box that knows the key of presentations, and takes no root that was replaced.
fn start(folder: &Path) -> Service {
    let key = folder.join("presentation.zkey");
    let r1cs = folder.join("presentation.r1cs");
    run_caldera(
        ["state", "circuit", "-o"]
            .map(Into::into)
            .into_iter()
            .chain([r1cs.clone()]),
    )
    .expect_success();
    let setup: [PathBuf; 4] = ["setup".into(), r1cs, "-o".into(), key.clone()];
    run_caldera(setup).expect_success();
    let config = format!(
        "development = true\n[state]\nkey = {key:?}\nwindow_seconds = 0\n{}",
        era::section(folder, 3600, 0)
    );
    Service::start(&[("finance", "financial"), ("commerce", "retail")], &config)
}

#[test]
fn a_state_of_one_rollup_counts_in_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut service = start(folder.path());
    let home = Home {
        folder: folder.path(),
        service: &service,
    };
    // One of the rollups pays for what it proves and for what it uses again.
    let operator = service.client("operator");
    let register = json!({
        "id": era::id(1), "tenant": "finance", "role": "user", "owner": 10, "verified": true,
        "address": format!("0x{:040x}", 10),
    });
    let payer = operator.call("era_registerV1", register)["party"].clone();
    operator.call("era_transferV1", deposit(2, &payer, FUNDS));
    home.state("keygen holder -o holder@");
    // One issuer or attester for each: its place in the list is half of the name of its units.
    let keys = (0..SCENARIOS.len()).map(|at| home.state(&format!("keygen issuer -o issuer-{at}@")));
    let issuers = SCENARIOS.iter().zip(keys);
    let issuers: Vec<Value> = issuers.map(|(it, key)| accepted(key, it)).collect();
    home.write("issuers", &Value::from(issuers));
    home.write("revoked", &json!([]));
    // Whoever has a list sees its root, and what the operator publishes is that.
    let shown = [
        home.state("issuers issuers@"),
        home.state("revoke revoked@"),
    ];
    let published = home.at_box("operator", "issuers issuers@");
    assert_eq!(published["issuersRoot"], shown[0]["issuersRoot"]);
    let published = home.at_box("operator", "revoke revoked@");
    assert_eq!(published["revocationRoot"], shown[1]["revocationRoot"]);
    assert_eq!(
        home.refused("finance", "issuers issuers@"),
        "invalidRequest"
    );

    let mut revoked = Vec::new();
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        let home = Home {
            folder: folder.path(),
            service: &service,
        };
        let Scenario {
            name,
            verifier,
            other,
            schema,
            ..
        } = scenario;
        // The issuer signs; the holder keeps the unit.
        let subject = home.state(&format!("subject --holder holder@ -o {name}.blinding@"));
        let claims = scenario
            .claims
            .iter()
            .map(|(claim, value)| format!("--claim {claim}={value}"));
        let claims = claims.collect::<Vec<_>>().join(" ");
        home.state(&format!(
            "issue --issuer issuer-{at}@ --schema-name {schema} {claims} --subject {} \
             --valid-until {CLOSES} --nonce 1000 -o {name}.unit@",
            text(&subject["subject"])
        ));
        // Another's key may sign the same: it is believed for its own schema, and for no other.
        let stranger = (at + 1) % SCENARIOS.len();
        home.state(&format!(
            "issue --issuer issuer-{stranger}@ --schema-name {schema} {claims} --subject {} \
             --valid-until {CLOSES} --nonce 1000 -o {name}.foreign@",
            text(&subject["subject"])
        ));
        // The verifier asks; the holder grants.
        home.write(&format!("{name}.request"), &request_of(scenario));
        home.at_box(
            verifier,
            &format!("request {name}.request@ --closes {CLOSES} -o {name}.offer@"),
        );
        let granted = home.state(&format!(
            "grant --holder holder@ --request {name}.request@ --offer {name}.offer@ --uses 3 \
             --expiry {CLOSES} -o {name}.grant@"
        ));
        let grant = text(&granted["grant"]);
        // Proved in the verifier's scenario, verified once.
        let opening = format!(
            "--holder holder@ --unit {name}.unit@ --blinding {name}.blinding@ --issuers issuers@ \
             --revoked revoked@ --request {name}.request@ --grant {name}.grant@"
        );
        let foreign = opening.replace(".unit@", ".foreign@");
        let (code, error) = home.try_state(&format!("witness {foreign} -o foreign.wtns@"), None);
        assert_eq!(code, Some(65), "{error}");
        assert!(
            text(&error["error"]["message"]).contains("not for units of this schema"),
            "{error}"
        );
        let present = format!("present presentation.zkey@ {name}.proof@ {name}.public@ {opening}");
        assert_eq!(home.refused(other, &present), "grantSender");
        if at == 0 {
            // Who minds that the box sees it: the same command line, at home.
            let development = "--development --check trusted";
            home.state(&format!("{present} --home {development}"));
        } else {
            home.at_box(verifier, &present);
        }
        let verify = format!("verify {name}.grant@ {name}.public@ {name}.proof@");
        assert_eq!(home.refused(other, &verify), "grantSender");
        let recorded = home.at_box(verifier, &verify);
        assert_eq!(
            (&recorded["grant"], &recorded["remaining"]),
            (&json!(grant), &json!(3))
        );
        assert_eq!(home.refused(verifier, &verify), "grantPresented");
        assert_eq!(home.refused(verifier, &present), "grantPresented");

        // Used again, by each link once, and by nobody else.
        let link = |number: u16| {
            let line = format!("link {name}.grant@ --holder holder@ --use {number}");
            text(&home.state(&line)["link"]).to_owned()
        };
        let links = [link(1), link(2), link(3)];
        let reuse = |link: &str| format!("reuse {grant} --link {link}");
        assert_eq!(
            home.refused(other, &reuse(&links[0])),
            "presentationUnknown"
        );
        assert_eq!(
            home.refused(other, &format!("get --grant {grant}")),
            "presentationUnknown"
        );
        assert_eq!(home.refused(verifier, &reuse(&links[1])), "linkMismatch");
        assert_eq!(home.at_box(verifier, &reuse(&links[0]))["remaining"], 2);
        let before = home.at_box(verifier, &format!("get --grant {grant}"));

        // The box dies, and knows all of it again.
        service.kill();
        service.start_again();
        let home = Home {
            folder: folder.path(),
            service: &service,
        };
        assert_eq!(
            home.at_box(verifier, &format!("get --grant {grant}")),
            before
        );
        assert_eq!(home.refused(verifier, &reuse(&links[0])), "linkMismatch");
        assert_eq!(home.refused(verifier, &verify), "grantPresented");
        assert_eq!(home.at_box(verifier, &reuse(&links[1]))["remaining"], 1);

        // Revoked: what was proved against the old root is refused, and nothing new can be proved.
        revoked.push(json!({"issuer": at, "nonce": 1000}));
        home.write("revoked", &Value::from(revoked.clone()));
        home.at_box("operator", "revoke revoked@");
        assert_eq!(home.refused(verifier, &reuse(&links[2])), "rootStale");
        let (code, error) = home.try_state(&format!("witness {opening} -o {name}.wtns@"), None);
        assert_eq!(code, Some(65), "{error}");
        assert!(
            text(&error["error"]["message"]).contains("is revoked"),
            "{error}"
        );
        let kept = home.at_box(verifier, &format!("get --grant {grant}"));
        assert_eq!(kept["presentation"]["remaining"], 1);
    }
    // Each use that was taken is one event that was paid for, though the box died after every first one; what was refused is none.
    let operator = service.client("operator");
    let statement = operator.call("era_statementV1", json!({"party": payer}));
    let lines = statement["lines"].as_array().expect("lines");
    let events = |fee: u128| {
        let change = json!(format!("-{fee}"));
        let paid = |line: &&Value| {
            line["what"] == "meter" && line["purse"] == "held" && line["change"] == change
        };
        lines.iter().filter(paid).count()
    };
    assert_eq!((events(FEE), events(REUSE_FEE)), (3, 6), "{statement}");
    let account = operator.call("era_accountV1", json!({"party": payer}))[0].clone();
    assert_eq!(
        units(&account["free"]),
        FUNDS - 3 * FEE - 6 * REUSE_FEE,
        "{account}"
    );
    assert_eq!(units(&account["held"]), 0, "{account}");
}

/// Whatever is wrong with a presentation has its own rule, and leaves the registry as it was; together with a good one
/// each has its own verdict.
#[test]
fn what_does_not_hold_is_refused_and_not_recorded() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = start(folder.path());
    let home = Home {
        folder: folder.path(),
        service: &service,
    };
    let scenario = &SCENARIOS[0];
    home.state("keygen holder -o holder@");
    let issuer = home.state("keygen issuer -o issuer@");
    let another = home.state("keygen issuer -o another@");
    let [issuer, another] = [issuer, another].map(|key| accepted(key, scenario));
    home.write("issuers", &json!([issuer]));
    home.write("all", &json!([another, issuer]));
    home.write("revoked", &json!([]));
    home.at_box("operator", "issuers issuers@");
    home.at_box("operator", "revoke revoked@");
    let subject = home.state("subject --holder holder@ -o blinding@");
    let claims = scenario
        .claims
        .iter()
        .map(|(claim, value)| format!("--claim {claim}={value}"));
    let claims = claims.collect::<Vec<_>>().join(" ");
    for (secret, unit) in [("issuer", "unit"), ("another", "foreign")] {
        home.state(&format!(
            "issue --issuer {secret}@ --schema-name {} {claims} --subject {} \
             --valid-until {CLOSES} --nonce 7 -o {unit}@",
            scenario.schema,
            text(&subject["subject"])
        ));
    }
    let mut request = request_of(scenario);
    request["presentations"] = json!(2);
    home.write("request", &request);
    let request = format!("request request@ --closes {CLOSES} -o offer@");
    home.at_box("commerce", &request);
    let grant = |name: &str, index: u16| {
        let line = format!(
            "grant --holder holder@ --request request@ --offer offer@ --uses 1 --index {index} \
             --expiry {CLOSES} -o {name}@"
        );
        text(&home.state(&line)["grant"]).to_owned()
    };
    let name = grant("grant", 0);
    let opening = |unit: &str, issuers: &str| {
        format!(
            "--holder holder@ --unit {unit}@ --blinding blinding@ --issuers {issuers}@ \
             --revoked revoked@ --request request@ --grant grant@"
        )
    };

    // A unit of another issuer: not to be opened, and with a list of one's own not to be presented.
    let line = format!("witness {} -o wtns@", opening("foreign", "issuers"));
    let (code, error) = home.try_state(&line, None);
    assert_eq!(code, Some(65), "{error}");
    let present = "present presentation.zkey@ proof@ public@";
    let line = format!("{present} {}", opening("foreign", "all"));
    assert_eq!(home.refused("commerce", &line), "rootUnknown");

    home.at_box(
        "commerce",
        &format!("{present} {}", opening("unit", "issuers")),
    );
    let read = |name: &str| -> Value {
        let bytes = std::fs::read(home.path(name)).expect("written");
        serde_json::from_slice(&bytes).expect("JSON")
    };
    let honest = json!({
        "proof": read("proof"), "publicInputs": read("public"), "grant": read("grant")["grant"],
    });
    let nobody = json!(format!("0x{:040x}", 1));
    let modulus = "21888242871839275222246405745257275088548364400416034343698204186575808495617";
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(&str, Change<'_>); 9] = [
        ("proofMalformed", &|it| it["proof"]["pi_a"][0] = json!("5")),
        ("proofMalformed", &|it| {
            it["proof"]["pi_b"][0][0] = json!("5")
        }),
        ("proofMalformed", &|it| it["proof"] = json!({})),
        ("proofRefused", &|it| {
            it["proof"]["pi_c"] = it["proof"]["pi_a"].clone()
        }),
        ("grantMismatch", &|it| it["publicInputs"][3] = json!("5")),
        ("inputsMalformed", &|it| {
            it["publicInputs"] = json!(["1", "2", "3", "4"])
        }),
        ("inputsMalformed", &|it| {
            it["publicInputs"][3] = json!(modulus)
        }),
        ("grantMismatch", &|it| {
            it["grant"]["verifier"] = nobody.clone()
        }),
        ("rootUnknown", &|it| it["publicInputs"][1] = json!("5")),
    ];
    let commerce = service.client("commerce");
    let mut bodies = Vec::new();
    for (rule, change) in cases {
        let mut it = honest.clone();
        change(&mut it);
        let error = commerce
            .try_call("state_verifyV1", it.clone())
            .expect_err(rule);
        assert_eq!(error["data"]["reason"], rule, "{error}");
        bodies.push((rule, it));
        let get = commerce.try_call("state_getV1", json!({"grant": name}));
        let reason = get.expect_err("nothing is recorded")["data"]["reason"].clone();
        assert_eq!(reason, "presentationUnknown");
    }
    // All of them at once, the good one in the midst.
    bodies.insert(4, ("", honest.clone()));
    let calls = bodies.iter().enumerate().map(|(id, (_, params))| {
        json!({"jsonrpc": "2.0", "id": id, "method": "state_verifyV1", "params": params})
    });
    let calls = Value::from(calls.collect::<Vec<_>>()).to_string();
    let answers = commerce.post(&commerce.token(), &calls);
    let answers: Vec<Value> = serde_json::from_str(&answers.body).expect("JSON");
    for ((rule, _), answer) in bodies.iter().zip(&answers) {
        match *rule {
            "" => assert_eq!(answer["result"]["grant"], json!(name), "{answer}"),
            rule => assert_eq!(answer["error"]["data"]["reason"], rule, "{answer}"),
        }
    }
    // The same holder in the same scope again, by another grant: the nullifier is spent, which is told of a proof alone.
    let of = |line: &str, name: &str| {
        let files = ["grant", "proof", "public"].map(|file| format!(" {file}@"));
        files.iter().fold(line.to_owned(), |line, file| {
            let other = file.replace('@', &format!("-{name}@"));
            line.replace(file, &other)
        })
    };
    let verify = "verify grant@ public@ proof@";
    let present = format!("{present} {}", opening("unit", "issuers"));
    grant("grant-second", 0);
    home.at_box("commerce", &of(&present, "second"));
    let refused = home.refused("commerce", &of(verify, "second"));
    assert_eq!(refused, "nullifierSpent");
    // All is well with the next one, until a root is replaced that it was proved against: this box keeps no window.
    grant("grant-third", 1);
    home.at_box("commerce", &of(&present, "third"));
    home.write("gone", &json!([{"issuer": 0, "nonce": 99}]));
    for (replace, restore) in [
        ("issuers all@", "issuers issuers@"),
        ("revoke gone@", "revoke revoked@"),
    ] {
        home.at_box("operator", replace);
        for line in [verify, present.as_str()] {
            let refused = home.refused("commerce", &of(line, "third"));
            assert_eq!(refused, "rootStale", "{replace}: {line}");
        }
        home.at_box("operator", restore);
    }
    home.at_box("commerce", &of(verify, "third"));
    // A request that is taken back.
    let pinned = text(&read("offer")["request"]["request"]).to_owned();
    home.at_box("commerce", &format!("revoke --request {pinned}"));
    let link = home.state("link grant@ --holder holder@ --use 1");
    let reuse = format!("reuse {name} --link {}", text(&link["link"]));
    assert_eq!(home.refused("commerce", &reuse), "requestUnknown");
}

/// A presentation is a job as any other: once it was acknowledged it is proved, though the box dies before. It may come as
/// an opening, or as a witness that lies on the box under its digest.
#[test]
fn presentations_outlive_the_box_that_took_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut service = start(folder.path());
    let home = Home {
        folder: folder.path(),
        service: &service,
    };
    let scenario = &SCENARIOS[0];
    home.state("keygen holder -o holder@");
    let issuer = home.state("keygen issuer -o issuer@");
    home.write("issuers", &json!([accepted(issuer, scenario)]));
    home.write("revoked", &json!([]));
    home.at_box("operator", "issuers issuers@");
    home.at_box("operator", "revoke revoked@");
    let subject = home.state("subject --holder holder@ -o blinding@");
    let claims = scenario
        .claims
        .iter()
        .map(|(claim, value)| format!("--claim {claim}={value}"));
    let claims = claims.collect::<Vec<_>>().join(" ");
    home.state(&format!(
        "issue --issuer issuer@ --schema-name {} {claims} --subject {} --valid-until {CLOSES} --nonce 7 -o unit@",
        scenario.schema,
        text(&subject["subject"])
    ));
    let mut request = request_of(scenario);
    request["presentations"] = json!(3);
    home.write("request", &request);
    let line = format!("request request@ --closes {CLOSES} -o offer@");
    home.at_box("commerce", &line);
    let names = [0, 1, 2].map(|index| {
        let granted = home.state(&format!(
            "grant --holder holder@ --request request@ --offer offer@ --uses {index} --index {index} \
             --expiry {CLOSES} -o grant-{index}@"
        ));
        text(&granted["grant"]).to_owned()
    });
    home.state(
        "witness --holder holder@ --unit unit@ --blinding blinding@ --issuers issuers@ --revoked revoked@ \
         --request request@ --grant grant-2@ -o wtns@",
    );

    let zkey = std::fs::read(home.path("presentation.zkey")).expect("a key");
    let commerce = service.client("commerce");
    let circuit = commerce.register(&zkey, "trusted");
    let witness = commerce.upload(&std::fs::read(home.path("wtns")).expect("a witness"));
    let submissions = [0, 1, 2].map(|index| {
        let file: Value = home.read(&format!("grant-{index}"));
        let mut submission = json!({
            "circuit": circuit,
            "grant": file["grant"],
            "idempotencyKey": format!("presentation-{index}"),
        });
        match index {
            2 => submission["witness"] = json!(witness),
            _ => submission["opening"] = json!(STANDARD.encode(opening(&home, index))),
        }
        submission
    });
    let submit = |service: &Service| {
        let commerce = service.client("commerce");
        commerce.settled(&circuit);
        submissions.each_ref().map(|submission| {
            let status = commerce.call("state_presentV1", submission.clone());
            status["job"].clone()
        })
    };
    let jobs = submit(&service);
    service.kill();
    service.start_again();
    // Sent again they are the jobs that they were.
    assert_eq!(submit(&service), jobs);
    let commerce = service.client("commerce");
    for ((index, job), name) in jobs.iter().enumerate().zip(&names) {
        assert_eq!(commerce.ended(job)["state"], "proved", "{index}");
        let result = commerce.call("prover_resultV1", json!({"job": job}));
        let presentation = json!({
            "proof": result["proof"],
            "publicInputs": result["publicInputs"],
            "grant": submissions[index]["grant"],
        });
        let recorded = commerce.call("state_verifyV1", presentation);
        assert_eq!(recorded["grant"], json!(name));
        assert_eq!(recorded["remaining"], index);
    }
    // Another tenant has seen two nullifiers, one of them spent. By a statement of its own, with a grant for its own request and
    // nothing behind it, it is told the same of both: that there is no proof.
    let home = Home {
        folder: folder.path(),
        service: &service,
    };
    let line = format!("request request@ --closes {CLOSES} -o theirs@");
    home.at_box("finance", &line);
    let finance = service.client("finance");
    let circuit = finance.register(&zkey, "trusted");
    let offer: Value = home.read("theirs");
    let result = commerce.call("prover_resultV1", json!({"job": jobs[0]}));
    let spent: Fr = text(&result["publicInputs"][3]).parse().expect("a number");
    let told = [spent, spent + Fr::from(1)].map(|nullifier| {
        let grant = json!({
            "verifier": offer["address"], "sender": offer["address"],
            "request": offer["request"]["request"], "tip": offer["address"], "uses": 1,
            "expiry": CLOSES, "challenge": format!("0x{:064x}", 0),
        });
        let file = json!({
            "domain": offer["domain"], "grant": grant, "salt": offer["domain"], "index": 0,
        });
        let file: GrantFile = serde_json::from_value(file).expect("a grant");
        let terms = caldera_units::grant(&file.grant, &file.domain).expect("a grant");
        let digest = terms.element(nullifier).expect("a grant");
        let mut bytes = opening(&home, 0);
        for (at, element) in [(2, terms.request), (3, nullifier), (4, digest)] {
            let place = 54 + 32 * at;
            bytes[place..place + 32].copy_from_slice(&element.into_bigint().to_bytes_le());
        }
        let submission = json!({
            "circuit": circuit, "grant": grant, "opening": STANDARD.encode(bytes),
        });
        let job = finance.call("state_presentV1", submission)["job"].clone();
        let ended = finance.ended(&job);
        (ended["state"].clone(), ended["error"]["reason"].clone())
    });
    assert_eq!(told[0].0, "failed", "{told:?}");
    assert_eq!(told[0], told[1]);
    // What is neither, both, or not on the box.
    let mut neither = submissions[2].clone();
    neither
        .as_object_mut()
        .expect("an object")
        .remove("witness");
    let mut both = submissions[0].clone();
    both["witness"] = json!(witness);
    let mut absent = submissions[2].clone();
    absent["witness"] = json!("11".repeat(32));
    for (mut submission, reason) in [
        (neither, "invalidParams"),
        (both, "invalidParams"),
        (absent, "blobUnknown"),
    ] {
        submission["idempotencyKey"] = json!(reason);
        let refused = commerce.try_call("state_presentV1", submission);
        assert_eq!(refused.expect_err(reason)["data"]["reason"], reason);
    }
}

/// What `caldera state present` opens to a box, made of the files at home.
fn opening(home: &Home, index: u16) -> Vec<u8> {
    let schemas = Schemas::standard();
    let file: GrantFile = home.read(&format!("grant-{index}"));
    let terms = home.read("request");
    let request = caldera_units::request(&terms, &file.grant.verifier, &schemas);
    let unit: UnitFile = home.read("unit");
    let issuers: Vec<IssuerFile> = home.read("issuers");
    let presentation = Presentation {
        secret: &HolderSecret::from_bytes(&home.secret("holder")).expect("a secret"),
        blinding: Fr::from_le_bytes_mod_order(&home.secret("blinding")),
        unit: &unit.unit(&schemas).expect("a unit"),
        issuers: &caldera_units::issuer_tree(&issuers).expect("a list"),
        revoked: &RevocationTree::new(&[]).expect("nobody"),
        request: &request.expect("terms"),
        grant: &caldera_units::grant(&file.grant, &file.domain).expect("a grant"),
        index,
    };
    presentation
        .open()
        .expect("every rule holds")
        .to_bytes()
        .to_vec()
}

/// 2100: no test comes so late.
const CLOSES: u64 = 4_102_444_800;
/// What the rollup that pays has.
const FUNDS: u128 = 100 * FEE;
