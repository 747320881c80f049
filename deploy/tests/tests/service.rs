//! A running `calderad`, seen through HTTP by a client that knows nothing of Caldera's code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use caldera_tests::binfile::Binfile;
use caldera_tests::circuit::Circuit;
use caldera_tests::forgery::{self, Forgery};
use caldera_tests::interop::{
    json, semaphore_verification_key, semaphore_witnesses, semaphore_zkey, snarkjs,
    snarkjs_calldata, snarkjs_verdicts,
};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::{Client, Service, token};
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 2] = [("plaza", "social"), ("exchange", "financial")];
/// Deep enough that a proof takes a few hundred quanta.
const DEPTH: u32 = 16;
const PROOFS: usize = 10;

/// Twenty submissions in flight from two tenants. Every proof is accepted by snarkjs; whoever
/// the pool says owns a core is whose quanta that core ran; threads sit where the pool says
/// they sit; and at least one core goes to another tenant while the proof that it was working
/// on is not finished.
#[test]
fn two_tenants_share_a_box() {
    let service = Service::start(&TENANTS, "");
    let operator = service.client("operator");
    let (plaza, exchange) = (service.client("plaza"), service.client("exchange"));
    let zkey = std::fs::read(semaphore_zkey(DEPTH)).unwrap();
    let circuit = plaza.register(&zkey, "full");
    // The digest is the name: checked once in full, trusted for the other tenant.
    assert_eq!(exchange.register(&zkey, "trusted"), circuit);

    let plaza_submissions = submissions(&plaza, &circuit, &WITNESSES);
    let exchange_submissions = submissions(&exchange, &circuit, &WITNESSES);
    let mut film = Film::default();
    let plaza_jobs = submit_all(&plaza, plaza_submissions);
    // The batch must have the box before the peak comes.
    while !film.shoot(&operator).owns("plaza") {}
    let exchange_jobs = submit_all(&exchange, exchange_submissions);
    while film.shoot(&operator).busy() {}
    let jobs: Vec<Job> = [
        ("plaza", &plaza, plaza_jobs),
        ("exchange", &exchange, exchange_jobs),
    ]
    .into_iter()
    .flat_map(|(tenant, client, jobs)| {
        jobs.into_iter()
            .map(move |name| Job::fetch(tenant, client, name))
    })
    .collect();

    assert_eq!(jobs.len(), 2 * PROOFS);
    all_in_flight_at_once(&jobs);
    judged_by_snarkjs(&jobs);
    threads_sit_where_the_pool_says(&service, &operator);
    owners_agree_with_quanta(&film, &jobs);
    let changes = changed_in_the_middle(&film, &jobs);
    assert!(
        !changes.is_empty(),
        "no core changed its owner in the middle of a proof"
    );

    let moves = &film.last()["reallocations"];
    assert!(moves["count"].as_u64().unwrap() > 0, "{moves}");
    assert_eq!(service.stop(), Some(0));
}

/// The last submission was taken before the first proof was done.
fn all_in_flight_at_once(jobs: &[Job]) {
    let last = jobs
        .iter()
        .map(|job| job.submitted_ms)
        .max_by(f64::total_cmp);
    let first = jobs
        .iter()
        .map(|job| job.finished_ms)
        .min_by(f64::total_cmp);
    assert!(
        last < first,
        "submitted until {last:?}, done from {first:?}"
    );
}

fn judged_by_snarkjs(jobs: &[Job]) {
    let verification_key = json(&semaphore_verification_key(DEPTH));
    let cases: Vec<Value> = jobs
        .iter()
        .map(|job| {
            json!({
                "verificationKey": verification_key,
                "publicInputs": job.result["publicInputs"],
                "proof": job.result["proof"],
            })
        })
        .collect();
    assert_eq!(snarkjs_verdicts(&cases), vec![true; 2 * PROOFS]);

    // The witnesses are of different statements, so no job can have answered with another's.
    let statements: BTreeSet<String> = jobs[..PROOFS]
        .iter()
        .map(|job| job.result["publicInputs"].to_string())
        .collect();
    assert_eq!(statements.len(), PROOFS);
    for (first, second) in jobs[..PROOFS].iter().zip(&jobs[PROOFS..]) {
        assert_eq!(first.result["publicInputs"], second.result["publicInputs"]);
        assert_ne!(first.result["proof"], second.result["proof"]);
    }

    let job = &jobs[0].result;
    assert_eq!(
        job["calldata"].as_str().unwrap().trim(),
        snarkjs_calldata(&job["publicInputs"], &job["proof"]).trim()
    );
}

/// Each unit's thread exists in the service's process and may run on the unit's core alone.
fn threads_sit_where_the_pool_says(service: &Service, operator: &Client) {
    let pool = operator.call("pool_statusV1", json!({}));
    let units = pool["units"].as_array().unwrap();
    assert!(!units.is_empty());
    let mut cores = BTreeSet::new();
    for unit in units {
        let thread = unit["threadId"].as_u64().unwrap();
        let path = format!("/proc/{}/task/{thread}/status", service.process());
        let status = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let allowed = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .unwrap();
        assert_eq!(allowed.trim(), unit["core"].to_string(), "{unit}");
        assert!(
            cores.insert(unit["core"].as_u64()),
            "two units on one core: {pool}"
        );
    }
}

/// What the pool said while it ran, against what the jobs' own records say afterwards.
fn owners_agree_with_quanta(film: &Film, jobs: &[Job]) {
    let by_name: BTreeMap<&str, &Job> = jobs.iter().map(|job| (&*job.name, job)).collect();
    // Who was ever seen on a core, in a frame or in the list of changes; and every change.
    let mut seen: BTreeSet<(u64, String)> = BTreeSet::new();
    let mut changes: BTreeSet<(u64, String, String)> = BTreeSet::new();
    for (_, pool) in &film.frames {
        let core_of: BTreeMap<u64, u64> = units(pool)
            .map(|unit| {
                (
                    unit["unit"].as_u64().unwrap(),
                    unit["core"].as_u64().unwrap(),
                )
            })
            .collect();
        for unit in units(pool) {
            if let Some(owner) = unit["owner"].as_str() {
                seen.insert((unit["core"].as_u64().unwrap(), owner.to_owned()));
            }
        }
        for change in pool["reallocations"]["recent"].as_array().unwrap() {
            let unit = change["unit"].as_u64().unwrap();
            let side = |side: &str| change[side].as_str().map(str::to_owned);
            for owner in [side("from"), side("to")].into_iter().flatten() {
                seen.insert((core_of[&unit], owner));
            }
            if let (Some(from), Some(to)) = (side("from"), side("to")) {
                changes.insert((unit, from, to));
            }
        }
    }
    // A job that a unit works on has quanta on that core, and is the owner's; or the core is
    // just changing hands between the two, and a last quantum is being run to its end.
    for unit in film.frames.iter().flat_map(|(_, pool)| units(pool)) {
        let (Some(owner), Some(job)) = (unit["owner"].as_str(), unit["job"].as_str()) else {
            continue;
        };
        let job = by_name[job];
        let number = unit["unit"].as_u64().unwrap();
        let changed =
            |from: &str, to: &str| changes.contains(&(number, from.to_owned(), to.to_owned()));
        assert!(
            job.tenant == owner || changed(job.tenant, owner) || changed(owner, job.tenant),
            "{unit} works for {}: {changes:?}",
            job.tenant
        );
        let core = unit["core"].as_u64().unwrap();
        assert!(job.quanta_on(core) > 0, "{unit}: {}", job.result["timings"]);
    }
    for job in jobs {
        let timings = &job.result["timings"];
        let sum = |list: &str| -> u64 {
            let list = timings[list].as_array().unwrap();
            list.iter()
                .map(|entry| entry["quanta"].as_u64().unwrap())
                .sum()
        };
        assert!(sum("stages") > 10, "{timings}");
        assert_eq!(sum("stages"), sum("cores"), "{timings}");
        for share in timings["cores"].as_array().unwrap() {
            let core = share["core"].as_u64().unwrap();
            assert!(
                seen.contains(&(core, job.tenant.to_owned())),
                "{} ran on core {core}, which {} was never seen to own",
                job.name,
                job.tenant
            );
        }
    }
    // All that was ever run was run for these jobs.
    let all: u64 = jobs
        .iter()
        .flat_map(|job| job.result["timings"]["cores"].as_array().unwrap())
        .map(|share| share["quanta"].as_u64().unwrap())
        .sum();
    assert_eq!(film.last()["quanta"]["count"].as_u64(), Some(all));
}

/// Units that were taken from a job while it was not finished: seen on the job in one frame,
/// with another owner in a later one that was taken before the job ended.
fn changed_in_the_middle(film: &Film, jobs: &[Job]) -> Vec<String> {
    let mut changes = Vec::new();
    for (index, (_, pool)) in film.frames.iter().enumerate() {
        for unit in units(pool) {
            let Some(job) = jobs.iter().find(|job| unit["job"] == *job.name) else {
                continue;
            };
            let taken = film.frames[index..]
                .iter()
                .take_while(|(at_ms, _)| *at_ms < job.finished_ms)
                .flat_map(|(_, pool)| units(pool))
                .any(|other| {
                    other["unit"] == unit["unit"]
                        && other["owner"].is_string()
                        && other["owner"] != unit["owner"]
                });
            if taken {
                changes.push(format!("unit {} from {}", unit["unit"], job.name));
            }
        }
    }
    changes
}

/// What one tenant has, another can neither use nor see.
#[test]
fn tenants_are_strangers() {
    let service = Service::start(&TENANTS, "");
    let (plaza, exchange) = (service.client("plaza"), service.client("exchange"));
    let zkey = std::fs::read(semaphore_zkey(1)).unwrap();
    let circuit = plaza.register(&zkey, "full");
    let witness = plaza.upload(&SMALL_WITNESS);
    let submission = json!({"circuit": circuit, "witness": witness});
    let job = plaza.call("prover_submitV1", submission.clone())["job"].clone();
    assert_eq!(plaza.ended(&job)["state"], "proved");

    let reason = |error: Value| error["data"]["reason"].as_str().unwrap().to_owned();
    let refused = |method: &str, parameters: Value| {
        let answer = exchange.try_call(method, parameters);
        reason(answer.expect_err("another tenant's things are out of reach"))
    };
    assert_eq!(exchange.call("prover_listCircuitsV1", json!({})), json!([]));
    assert_eq!(
        refused("prover_registerCircuitV1", json!({"zkey": circuit})),
        "blobUnknown"
    );
    assert_eq!(
        refused("prover_submitV1", submission.clone()),
        "circuitUnknown"
    );
    for method in ["prover_statusV1", "prover_resultV1", "prover_cancelV1"] {
        assert_eq!(refused(method, json!({"job": job})), "jobUnknown");
    }
    // Even with a circuit of its own it cannot name the other's witness.
    let digest = circuit.clone();
    assert_eq!(
        exchange.put(&digest, &zkey).status,
        201,
        "told that the blob was there"
    );
    assert_eq!(exchange.register(&zkey, "full"), circuit);
    assert_eq!(
        refused("prover_submitV1", submission.clone()),
        "blobUnknown"
    );
    // The owner is told that it is there.
    assert_eq!(plaza.put(&digest, &zkey).status, 200);

    // In the pool a tenant reads its own name only.
    let pool = exchange.call("pool_statusV1", json!({}));
    assert!(!pool.to_string().contains("plaza"), "{pool}");
    let names: Vec<&Value> = pool["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|tenant| tenant["foreign"] != true)
        .map(|tenant| &tenant["tenant"])
        .collect();
    assert_eq!(names, ["exchange"]);
}

/// Whoever cannot be a tenant gets one and the same answer.
#[test]
fn bad_tokens() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let header = |kid: &str| json!({"alg": "HS256", "typ": "JWT", "kid": kid});
    let claims = json!({"iat": now});
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"pool_statusV1","params":{}}"#;

    assert_eq!(plaza.post(&plaza.token(), request).status, 200);
    let wrong_key = plaza.post(&token(&header("plaza"), &claims, &[7; 32]), request);
    assert_eq!(wrong_key.status, 401);
    let good = plaza.token();
    let (rest, _) = good.rsplit_once('.').unwrap();
    let none = token(&json!({"alg": "none", "kid": "plaza"}), &claims, &[]);
    for bad in [
        token(&header("nobody"), &claims, &[7; 32]),
        format!("{rest}."),
        format!("{}.", none.rsplit_once('.').unwrap().0),
        "rubbish".to_owned(),
        String::new(),
    ] {
        let answer = plaza.post(&bad, request);
        assert_eq!(answer.status, 401, "{bad}");
        assert_eq!(answer.body, wrong_key.body, "{bad}");
    }
    for iat in [now - 120, now + 120] {
        let stale = plaza.sign(&header("plaza"), &json!({"iat": iat}));
        assert_eq!(plaza.post(&stale, request).status, 401, "{iat}");
    }
    // What a balancer asks needs no token.
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(plaza.get(path).status, 200, "{path}");
    }
}

/// The service describes itself: with the document that is in `docs/`, to whoever has a token,
/// and it answers to every method that is in it.
#[test]
fn the_service_describes_itself() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openrpc.json");
    let document = json(&path);
    assert_eq!(plaza.call("rpc.discover", json!({})), document);
    let operator = service.client("operator");
    assert_eq!(operator.call("rpc.discover", json!([])), document);
    let reason = |client: &Client, method: &str, parameters: Value| {
        let answer = client.try_call(method, parameters);
        answer.expect_err("refused")["data"]["reason"].clone()
    };
    let unknown = json!({"unknown": 1});
    let discover = reason(&plaza, "rpc.discover", unknown.clone());
    assert_eq!(discover, "invalidParams");
    let methods = document["methods"].as_array().unwrap();
    assert!(!methods.is_empty());
    for method in methods {
        let name = method["name"].as_str().unwrap();
        // A tenant is not told what the operator's methods take.
        let summary = method["summary"].as_str().unwrap();
        let caller = match summary.contains("For the operator") {
            true => &operator,
            false => &plaza,
        };
        let told = caller.try_call(name, unknown.clone());
        let data = told.expect_err("refused")["data"].clone();
        let told = data["reason"].clone();
        if told == "invalidParams" {
            assert_eq!(data["field"], "unknown", "{name}");
        }
        // Those of the fleet's process are told to nobody else; `lending.rs` calls them.
        let expected = match name.starts_with("fleet_") {
            true => "invalidRequest",
            false => "invalidParams",
        };
        assert_eq!(told, expected, "{name}");
    }
    let unheard = reason(&plaza, "prover_submitV2", unknown);
    assert_eq!(unheard, "methodNotFound");
}

/// Who sends eight fields and is told "expected u64" has seven to look at in vain.
#[test]
fn a_refusal_names_the_field() {
    let service = Service::start(&TENANTS, "");
    let (plaza, operator) = (service.client("plaza"), service.client("operator"));
    let digest = "5a".repeat(32);
    let submission = |field: &str, value: Value| {
        let mut parameters = json!({"circuit": digest, "witness": digest});
        parameters[field] = value;
        parameters
    };
    let tenant = json!({"tenant": "guest", "scenario": "none"});
    for (client, method, parameters, field, why) in [
        (
            &plaza,
            "prover_registerCircuitV1",
            json!({"zkey": digest, "witnessProgram": digest, "r1cs": "x"}),
            "r1cs",
            "expected 64 lower-case hexadecimal digits without 0x",
        ),
        (
            &plaza,
            "prover_registerCircuitV1",
            json!({"zkey": format!("0x{digest}")}),
            "zkey",
            "expected 64 lower-case hexadecimal digits without 0x",
        ),
        (
            &plaza,
            "prover_submitV1",
            submission("deadlineMs", json!("5000")),
            "deadlineMs",
            "invalid type: string \"5000\", expected u64",
        ),
        // What is found out behind the reader of parameters.
        (
            &plaza,
            "pool_histogramsV1",
            json!({"cause": "weather"}),
            "cause",
            "expected one of",
        ),
        (
            &operator,
            "tenant_addV1",
            tenant,
            "scenario",
            "expected one of",
        ),
    ] {
        let error = client.try_call(method, parameters).expect_err("refused");
        assert_eq!(error["data"]["field"], field, "{error}");
        let message = error["message"].as_str().unwrap();
        let begin = format!("parameters do not fit: {field}: {why}");
        assert!(message.starts_with(&begin), "{message}");
    }
    // Of several that are taken one by one no one is to blame.
    let neither = plaza.try_call("prover_submitV1", json!({"circuit": digest}));
    let neither = neither.expect_err("refused");
    assert_eq!(neither["data"], json!({"reason": "invalidParams"}));
}

/// The other curve, from circom's compiler to snarkjs's verdict: a key of a ceremony by snarkjs is
/// registered with every point checked, and the same key before its contribution is not.
#[test]
fn bls12_381() {
    let circuit = Circuit::compile("bls12381");
    circuit.ceremony("bls12381");
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let read = |name: &str| std::fs::read(circuit.file(name)).unwrap();

    let fresh = plaza.upload(&read("fresh.zkey"));
    let error = plaza.try_call("prover_registerCircuitV1", json!({"zkey": fresh}));
    let reason = error.expect_err("refused")["data"]["reason"].clone();
    assert_eq!(reason, "keyNoContribution");

    let name = plaza.register(&read("final.zkey"), "full");
    let circuits = plaza.call("prover_listCircuitsV1", json!({}));
    let info = entry(&circuits, &name);
    assert_eq!(info["curve"], "bls12381");
    assert_eq!(
        info["verificationKey"],
        json(&circuit.file("final.vk.json"))
    );
    let witness = plaza.upload(&read("witness.wtns"));
    let submission = json!({"circuit": name, "witness": witness});
    let status = plaza.call("prover_submitV1", submission);
    let job = json!({"job": status["job"]});
    assert_eq!(plaza.ended(&status["job"])["state"], "proved");
    let result = plaza.call("prover_resultV1", job);
    assert_eq!(result["proof"]["curve"], "bls12381");
    let write = |name: &str, value: &Value| {
        std::fs::write(circuit.file(name), value.to_string()).unwrap();
    };
    write("proof.json", &result["proof"]);
    write("public.json", &result["publicInputs"]);
    circuit.judged_by_snarkjs("final.vk.json");

    // A witness of BN254 is of another field.
    let other = plaza.upload(&SMALL_WITNESS);
    let submission = json!({"circuit": name, "witness": other});
    assert_eq!(failed_job(&plaza, submission), "witnessField");
}

/// Each forged witness fails its job, with a reason of its own, and gives no proof.
#[test]
fn forged_witnesses() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let circuit = plaza.register(&forgery::KEY, "full");
    for forgery in forgery::witnesses() {
        let witness = plaza.upload(&forgery.bytes);
        let submission = json!({"circuit": circuit, "witness": witness});
        let reason = failed_job(&plaza, submission);
        assert_eq!(reason, forgery.reason("witness"), "{}", forgery.name);
    }
    no_panic(&service);
}

/// Each forged key is refused, at once or when its points have been checked, with a reason of its
/// own; and after a restart it is refused with the same one.
#[test]
fn forged_keys() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let witness = plaza.upload(&forgery::WITNESS);
    let mut failed = Vec::new();
    for forgery in forgery::key_containers()
        .into_iter()
        .chain(forgery::key_contents())
    {
        let key = plaza.upload(&forgery.bytes);
        let reason = match plaza.try_call("prover_registerCircuitV1", json!({"zkey": key})) {
            Err(error) => error["data"]["reason"].clone(),
            Ok(_) => {
                let circuits = plaza.wait("prover_listCircuitsV1", json!({}), |circuits| {
                    entry(circuits, &key)["state"] != "checking"
                });
                let info = entry(&circuits, &key);
                assert_eq!(info["state"], "failed", "{}: {info}", forgery.name);
                failed.push(info.clone());
                info["error"]["reason"].clone()
            }
        };
        assert_eq!(reason, forgery.reason("key"), "{}", forgery.name);
        let submission = json!({"circuit": key, "witness": witness});
        plaza
            .try_call("prover_submitV1", submission)
            .expect_err("no proof with it");
    }
    no_panic(&service);

    let service = service.restart();
    let plaza = service.client("plaza");
    let circuits = plaza.call("prover_listCircuitsV1", json!({}));
    assert_eq!(circuits.as_array().map(Vec::len), Some(failed.len()));
    for info in failed {
        assert_eq!(*entry(&circuits, info["circuit"].as_str().unwrap()), info);
    }
}

/// What cannot be proved is refused, each with its own reason, and nothing comes of it.
#[test]
fn refusals() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let zkey = std::fs::read(semaphore_zkey(1)).unwrap();
    let circuit = plaza.register(&zkey, "full");

    assert_eq!(plaza.put(&"0".repeat(64), b"not these bytes").status, 422);
    let absent = json!({"circuit": circuit, "witness": "0".repeat(64)});
    let error = plaza.try_call("prover_submitV1", absent).unwrap_err();
    assert_eq!(error["data"]["reason"], "blobUnknown");

    // A changed element makes a proof, and the self-check keeps it.
    let changed = {
        let mut file = Binfile::parse(&SMALL_WITNESS);
        file.section(2)[32 * 9] ^= 1;
        file.bytes()
    };
    let witness = plaza.upload(&changed);
    let submission = json!({"circuit": circuit, "witness": witness});
    assert_eq!(failed_job(&plaza, submission), "selfCheckFailed");

    // A development key, in a box that is not in development mode.
    let folder = service.folder();
    let key = folder.join("dev.zkey");
    run_caldera([
        "setup".as_ref(),
        "--synthetic".as_ref(),
        "2^4".as_ref(),
        "-o".as_ref(),
        key.as_os_str(),
    ])
    .expect_success();
    let digest = plaza.upload(&std::fs::read(&key).unwrap());
    let reason = match plaza.try_call("prover_registerCircuitV1", json!({"zkey": digest})) {
        Err(error) => error["data"]["reason"].clone(),
        Ok(_) => {
            let circuits = plaza.wait("prover_listCircuitsV1", json!({}), |circuits| {
                entry(circuits, &digest)["state"] == "failed"
            });
            entry(&circuits, &digest)["error"]["reason"].clone()
        }
    };
    assert_eq!(reason, "developmentKey");
}

/// The same submission twice is one job, if its sender says so.
#[test]
fn idempotency() {
    let service = Service::start(&TENANTS, "");
    let plaza = service.client("plaza");
    let circuit = plaza.register(&std::fs::read(semaphore_zkey(1)).unwrap(), "trusted");
    let witness = plaza.upload(&SMALL_WITNESS);
    let submission = json!({"circuit": circuit, "witness": witness, "idempotencyKey": "block-7"});
    let first = plaza.call("prover_submitV1", submission.clone());
    let again = plaza.call("prover_submitV1", submission.clone());
    assert_eq!(first["job"], again["job"]);
    let other = json!({"circuit": circuit, "witness": witness});
    assert_ne!(first["job"], plaza.call("prover_submitV1", other)["job"]);
    let mut conflict = submission;
    conflict["deadlineMs"] = json!(3_600_000);
    let error = plaza.try_call("prover_submitV1", conflict).unwrap_err();
    assert_eq!(error["data"]["reason"], "idempotencyConflict");
}

/// The command line against a service.
#[test]
fn the_command_line_submits() {
    let service = Service::start(&TENANTS, "");
    let folder = service.folder().to_owned();
    let file = |name: &str| folder.join(name);
    std::fs::write(file("w.wtns"), &*SMALL_WITNESS).unwrap();
    let caldera = |command: &[&str], tenant: &str, secret: &str| {
        let mut arguments: Vec<PathBuf> = command.iter().map(PathBuf::from).collect();
        arguments.extend(
            [
                "--url",
                &format!("http://{}", service.address()),
                "--tenant",
                tenant,
            ]
            .map(PathBuf::from),
        );
        arguments.push("--secret-file".into());
        arguments.push(file(secret));
        run_caldera(arguments)
    };
    let path = |path: PathBuf| path.into_os_string().into_string().unwrap();
    let files = [
        path(semaphore_zkey(1)),
        path(file("w.wtns")),
        path(file("proof.json")),
        path(file("public.json")),
    ];
    let mut submit = vec!["--json", "submit"];
    submit.extend(files.iter().map(String::as_str));

    caldera(&submit, "plaza", "exchange.secret").expect_code(77);
    assert!(!file("proof.json").exists());
    let said = caldera(&submit, "plaza", "plaza.secret").expect_success();
    let said: Value = serde_json::from_str(&said).unwrap();
    snarkjs([
        "groth16".as_ref(),
        "verify".as_ref(),
        &*semaphore_verification_key(1),
        &*file("public.json"),
        &*file("proof.json"),
    ])
    .expect_success();
    assert_eq!(json(&file("proof.json")), said["proof"]);

    // A file that is no good ends as it would end here, and no output is left of the attempt.
    for name in ["proof.json", "public.json"] {
        std::fs::remove_file(file(name)).unwrap();
    }
    let bad = path(file("bad"));
    let refused = |position: usize, forgery: &Forgery, reason: String| {
        std::fs::write(&bad, &forgery.bytes).unwrap();
        let mut submit = submit.clone();
        submit[position] = &bad;
        let run = caldera(&submit, "plaza", "plaza.secret").expect_code(forgery.code);
        let said: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(said["error"]["class"], forgery.class, "{run}");
        assert_eq!(said["error"]["reason"], reason, "{run}");
        assert!(!file("proof.json").exists() && !file("public.json").exists());
    };
    for forgery in forgery::witnesses() {
        refused(3, &forgery, forgery.reason("witness"));
    }
    for forgery in one_of_each(
        forgery::key_containers()
            .into_iter()
            .chain(forgery::key_contents()),
    ) {
        refused(2, &forgery, forgery.reason("key"));
    }

    let job = said["job"].as_str().unwrap();
    let status = caldera(&["status", job], "plaza", "plaza.secret").expect_success();
    assert!(status.contains("is proved"), "{status}");
    caldera(&["status", job], "exchange", "exchange.secret").expect_code(79);
    let pool = caldera(&["pool"], "operator", "operator.secret").expect_success();
    assert!(pool.contains("plaza") && pool.contains("social"), "{pool}");
    let stopped = run_caldera([
        "pool",
        "--url",
        "http://127.0.0.1:1",
        "--tenant",
        "operator",
        "--secret-file",
        &path(file("operator.secret")),
    ]);
    stopped.expect_code(69);
}

/// `caldera demo` on a real key, with few proofs: it ends well and says that all are valid.
#[test]
fn the_demo_runs() {
    let folder = tempfile::tempdir().unwrap();
    let witness = folder.path().join("w.wtns");
    std::fs::write(&witness, &WITNESSES[0]).unwrap();
    let said = run_caldera([
        "demo".as_ref(),
        "--json".as_ref(),
        "--proofs".as_ref(),
        "3".as_ref(),
        "--zkey".as_ref(),
        semaphore_zkey(DEPTH).as_os_str(),
        "--witness".as_ref(),
        witness.as_os_str(),
    ])
    .expect_success();
    let said: Value = serde_json::from_str(&said).unwrap();
    let proofs = said["proofs"].as_array().unwrap();
    assert_eq!(proofs.len(), 6);
    assert!(proofs.iter().all(|proof| proof["valid"] == true), "{said}");
}

/// One job after its end.
struct Job {
    name: String,
    tenant: &'static str,
    result: Value,
    /// Unix time in milliseconds.
    submitted_ms: f64,
    /// Unix time in milliseconds.
    finished_ms: f64,
}

impl Job {
    fn fetch(tenant: &'static str, client: &Client, name: String) -> Self {
        let query = json!({"job": name});
        let status = client.ended(&query["job"]);
        assert_eq!(status["state"], "proved", "{status}");
        assert_eq!(status["progress"], 1.0, "{status}");
        let submitted_ms = status["submittedMs"].as_f64().unwrap();
        Self {
            result: client.call("prover_resultV1", query),
            submitted_ms,
            finished_ms: submitted_ms + status["finishedMs"].as_f64().unwrap(),
            name,
            tenant,
        }
    }

    fn quanta_on(&self, core: u64) -> u64 {
        let cores = self.result["timings"]["cores"].as_array().unwrap();
        let share = cores.iter().find(|share| share["core"] == core);
        share.map_or(0, |share| share["quanta"].as_u64().unwrap())
    }
}

/// What the pool answered, again and again, each with the time after the answer, in Unix
/// milliseconds: what an answer shows was so before that time.
#[derive(Default)]
struct Film {
    frames: Vec<(f64, Value)>,
}

impl Film {
    fn shoot(&mut self, operator: &Client) -> &Self {
        assert!(self.frames.len() < 100_000, "the proofs never end");
        // A breath, because asking takes time from the cores that prove.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let pool = operator.call("pool_statusV1", json!({}));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        self.frames.push((now.as_secs_f64() * 1e3, pool));
        self
    }

    fn last(&self) -> &Value {
        &self.frames.last().unwrap().1
    }

    fn owns(&self, tenant: &str) -> bool {
        units(self.last()).any(|unit| unit["owner"] == tenant && unit["job"].is_string())
    }

    fn busy(&self) -> bool {
        let tenants = self.last()["tenants"].as_array().unwrap();
        tenants
            .iter()
            .any(|t| t["queued"] != 0 || t["running"] != 0)
    }
}

fn units(pool: &Value) -> impl Iterator<Item = &Value> {
    pool["units"].as_array().unwrap().iter()
}

/// Uploads witnesses; a submission for each.
fn submissions(client: &Client, circuit: &str, witnesses: &[Vec<u8>]) -> Vec<Value> {
    let digests = witnesses.iter().map(|witness| client.upload(witness));
    digests
        .map(|witness| json!({"circuit": circuit, "witness": witness}))
        .collect()
}

/// Submits all of them in one request, so that they come together however slow this machine is.
fn submit_all(client: &Client, submissions: Vec<Value>) -> Vec<String> {
    let statuses = client.batch("prover_submitV1", submissions);
    let job = |status: Value| status["job"].as_str().unwrap().to_owned();
    statuses.into_iter().map(job).collect()
}

/// Submits what must fail; the reason, which asking for the result gives too.
fn failed_job(client: &Client, submission: Value) -> Value {
    let status = client.call("prover_submitV1", submission);
    let job = json!({"job": status["job"]});
    let status = client.ended(&status["job"]);
    assert_eq!(status["state"], "failed", "{status}");
    let error = client.try_call("prover_resultV1", job).unwrap_err();
    assert_eq!(error["code"], status["error"]["code"]);
    assert_eq!(error["data"]["reason"], status["error"]["reason"]);
    error["data"]["reason"].clone()
}

/// The first forgery of each class.
fn one_of_each(forgeries: impl Iterator<Item = Forgery>) -> Vec<Forgery> {
    let mut classes = BTreeSet::new();
    forgeries
        .filter(|forgery| classes.insert(forgery.class))
        .collect()
}

fn no_panic(service: &Service) {
    let log = service.log();
    assert!(!log.contains("panicked"), "{log}");
}

fn entry<'a>(circuits: &'a Value, circuit: &str) -> &'a Value {
    let circuits = circuits.as_array().unwrap();
    let found = circuits.iter().find(|info| info["circuit"] == circuit);
    found.expect("the circuit is listed")
}

static WITNESSES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| make_witnesses(DEPTH, PROOFS));

static SMALL_WITNESS: LazyLock<Vec<u8>> = LazyLock::new(|| make_witnesses(1, 1).remove(0));

fn make_witnesses(depth: u32, count: usize) -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..count)
        .map(|index| folder.path().join(format!("{index}.wtns")))
        .collect();
    semaphore_witnesses(depth, &paths);
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}
