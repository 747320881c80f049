//! What an operator does with a box that runs: copies what it keeps and puts it back, and gathers what somebody needs who is to help.

use std::path::{Path, PathBuf};

use caldera_tests::programs::run_caldera;
use caldera_tests::service::{Account, Client, Service};
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 2] = [("bank", "financial"), ("shop", "social")];

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A key and a witness of it, made in the folder of a service.
fn made(service: &Service) -> [Vec<u8>; 2] {
    let [zkey, witness] = ["made.zkey", "made.wtns"].map(|name| service.folder().join(name));
    run_caldera(["setup", "--synthetic", "2^10", "--output", &text(&zkey)]).expect_success();
    [zkey, witness].map(|path| std::fs::read(path).expect("read"))
}

/// A backup of a running box becomes a box that knows the circuit and the job, and proves with a tenant that was added, whose secret is
/// made from the master key.
#[test]
fn a_backup_becomes_a_box() {
    let mut service = Service::start(&TENANTS, "development = true");
    let operator = service.client("operator");
    let added = operator.call(
        "tenant_addV1",
        json!({"tenant": "late", "scenario": "social"}),
    );
    let secret = added["secret"].as_str().expect("a secret");
    let secret = hex::decode(secret.trim_start_matches("0x")).expect("digits");
    let account = Account {
        name: "late".into(),
        secret: secret.try_into().expect("32 bytes"),
    };
    let late = Client::new(service.address(), account);
    let [zkey, witness] = made(&service);
    let circuit = late.register(&zkey, "full");
    let witness = late.upload(&witness);
    let submission = json!({"circuit": circuit, "witness": witness});
    let job = late.call("prover_submitV1", submission.clone())["job"].clone();
    assert_eq!(late.ended(&job)["state"], "proved");
    let result = late.call("prover_resultV1", json!({"job": job}));

    let data = text(&service.folder().join("data"));
    let backup = text(&service.folder().join("backup"));
    let said = run_caldera(["--json", "backup", &data, &backup, "--with-secrets"]);
    let said: Value = serde_json::from_str(&said.expect_success()).expect("JSON");
    assert_eq!((&said["blobs"], &said["absent"]), (&json!(2), &json!(0)));
    assert_eq!(said["secrets"], 1, "the master key alone is the box's own");
    run_caldera(["backup", &data, &backup]).expect_code(74);
    run_caldera(["restore", &backup, &data]).expect_code(74);

    // The box goes, with its disk.
    service.kill();
    std::fs::remove_dir_all(&data).expect("removed");
    run_caldera(["restore", &backup, &data]).expect_success();
    service.start_again();
    let late = late.moved(&service);
    assert_eq!(late.call("prover_resultV1", json!({"job": job})), result);
    late.wait("prover_listCircuitsV1", json!({}), |it| {
        it[0]["state"] == "ready"
    });
    let again = late.call("prover_submitV1", submission)["job"].clone();
    assert_eq!(late.ended(&again)["state"], "proved");
    assert_eq!(service.stop(), Some(0));
}

/// Secrets and witnesses are planted wherever they could get into a bundle, and are not in it.
#[test]
fn a_support_bundle_has_no_secrets() {
    let mut service = Service::start(&TENANTS, "development = true");
    let folder = service.folder().to_owned();
    let operator = service.client("operator");
    operator.call(
        "tenant_addV1",
        json!({"tenant": "late", "scenario": "social"}),
    );
    let [zkey, witness] = made(&service);
    let bank = service.client("bank");
    let circuit = bank.register(&zkey, "full");
    let blob = bank.upload(&witness);
    let job = bank.call(
        "prover_submitV1",
        json!({"circuit": circuit, "witness": blob}),
    )["job"]
        .clone();
    assert_eq!(bank.ended(&job)["state"], "proved");

    let master = std::fs::read_to_string(folder.join("data/secrets/tenants.master.hex"));
    let master = master
        .expect("read")
        .trim()
        .trim_start_matches("0x")
        .to_owned();
    let own = |name: &str| hex::encode(service.account(name).secret);
    let old = "5e".repeat(32);
    let token = bank.token();
    let pem = "MC4CAQAwBQYDK2VwBCIEIPlantedPlantedPlantedPlantedPlantedPlanted";
    // Somebody has pasted them into the configuration's comments, and a program into a log.
    let config = folder.join("calderad.toml");
    let planted = format!(
        "# of bank: {}\n# of shop: 0x{}\n# before that: {old}\n{}",
        own("bank"),
        own("shop").to_uppercase(),
        std::fs::read_to_string(&config).expect("read"),
    );
    std::fs::write(&config, planted).expect("written");
    let log = folder.join("calderad.log");
    let key = format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----");
    let lines = format!(
        "Authorization: Bearer {token}\nmaster {master}\noperator {}\n{key}\nkept: this line\n",
        own("operator")
    );
    std::fs::write(&log, lines + &service.log()).expect("written");

    let address = format!("http://{}", service.address());
    let bundle = |into: &Path| {
        run_caldera([
            "support-bundle",
            &text(into),
            "--config",
            &text(&config),
            "--data",
            &text(&folder.join("data")),
            "--log",
            &text(&log),
            "--url",
            &address,
            "--tenant",
            "operator",
            "--secret-file",
            &text(&folder.join("operator.secret")),
        ])
    };
    let first = folder.join("first");
    let said = bundle(&first).expect_success();
    assert!(said.contains("secrets in them were blotted out"), "{said}");

    let files: Vec<PathBuf> = std::fs::read_dir(&first)
        .expect("read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    let read = |path: &PathBuf| std::fs::read(path).expect("read");
    let all: Vec<u8> = files.iter().flat_map(read).collect();
    let all = String::from_utf8_lossy(&all).to_lowercase();
    for there in [
        "kept: this line",
        "caldera_uptime_seconds",
        "[blotted out]",
        "[[tenant]]",
        "\"units\": [",
        "blobs of bank: 2, ",
    ] {
        assert!(all.contains(there), "{there}");
    }
    let signature = token.rsplit('.').next().expect("a signature");
    let mut never = vec![old, master, signature.to_lowercase(), pem.to_lowercase()];
    never.extend(["operator", "bank", "shop"].map(own));
    // The witness, in the forms in which a program writes bytes.
    let piece = &witness[witness.len() - 24..];
    never.push(hex::encode(piece));
    never.push(blob);
    for secret in never {
        assert!(!all.contains(&secret), "{secret} is in the bundle");
    }
    assert!(
        !files
            .iter()
            .map(read)
            .any(|it| it.windows(24).any(|part| part == piece))
    );

    // Where a secret cannot be read nobody can say that it is not in there: nothing is written.
    let hidden = folder.join("data/secrets/hidden.hex");
    std::fs::create_dir(&hidden).expect("made");
    let second = folder.join("second");
    bundle(&second).expect_code(74);
    assert!(!second.exists());
    std::fs::remove_dir(&hidden).expect("removed");

    // What is not there is said, and no reason to withhold the rest.
    std::fs::remove_file(&config).expect("removed");
    std::fs::remove_file(&log).expect("removed");
    // Its folder, and the operator's secret in it, stay.
    service.kill();
    let third = folder.join("third");
    let said = bundle(&third).expect_success();
    for missing in ["calderad.toml", "log-0.txt", "pool.json", "ready.txt"] {
        assert!(said.contains(&format!("missing: {missing}: ")), "{said}");
        assert!(third.join(missing).exists(), "{missing}");
    }
    let why = std::fs::read_to_string(third.join("calderad.toml")).expect("read");
    assert!(
        why.ends_with("No such file or directory (os error 2)\n"),
        "{why}"
    );
    let there = std::fs::read_to_string(third.join("data.txt")).expect("read");
    assert!(there.contains("blobs of bank: 2, "), "{there}");
}

/// What a box can serve is known from what it has proved: from the size before, from the proof after.
#[test]
fn a_plan_comes_from_what_was_proved() {
    let service = Service::start(&TENANTS, "development = true");
    let bank = service.client("bank");
    let [zkey, witness] = made(&service);
    let plan = |deadlines: &str| -> Value {
        let said = run_caldera([
            "--json",
            "plan",
            "--deadline-ms",
            deadlines,
            "--url",
            &format!("http://{}", service.address()),
            "--tenant",
            "bank",
            "--secret-file",
            &text(&service.folder().join("bank.secret")),
        ]);
        serde_json::from_str(&said.expect_success()).expect("JSON")
    };
    assert_eq!(plan("1000")["plans"], json!([]));
    let circuit = bank.register(&zkey, "full");
    assert_eq!(plan("1000")["plans"][0]["measured"], false);
    let witness = bank.upload(&witness);
    let job = bank.call(
        "prover_submitV1",
        json!({"circuit": circuit, "witness": witness}),
    )["job"]
        .clone();
    assert_eq!(bank.ended(&job)["state"], "proved");
    let answer = plan("1,600000,86400000");
    let plans = answer["plans"].as_array().expect("plans");
    let shares: Vec<&Value> = plans.iter().map(|it| &it["share"]).collect();
    assert_eq!(shares, ["guaranteed", "all"]);
    for it in plans {
        assert_eq!(it["circuit"], circuit);
        assert_eq!(it["measured"], true);
        let [core_ms, cores] = ["coreMs", "cores"].map(|key| it[key].as_f64().expect("a number"));
        assert!(core_ms > 0.0, "{it}");
        let of = |key: &str| -> Vec<f64> {
            let deadlines = it["deadlines"].as_array().expect("deadlines");
            let numbers = deadlines.iter().map(|it| it[key].as_f64());
            numbers.map(|number| number.expect("a number")).collect()
        };
        let (an_hour, at_once) = (of("proofsAnHour"), of("atOnce"));
        assert!(an_hour.is_sorted() && at_once.is_sorted(), "{it}");
        // None is served faster than all cores can.
        if core_ms > cores {
            assert_eq!((an_hour[0], at_once[0]), (0.0, 0.0));
        }
        let most = 3_600_000.0 * cores / core_ms;
        assert!(an_hour[2] > 0.5 * most && an_hour[2] <= most, "{it}");
    }
    assert_eq!(service.stop(), Some(0));
}
