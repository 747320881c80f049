//! What `caldera` shows of a running box, and the files that it writes for other programs to draw.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use caldera_tests::programs::{Run, run_caldera};
use caldera_tests::service::Service;
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 2] = [("plaza", "social"), ("exchange", "financial")];

/// A box on which one tenant has proved, and the job. The key is one of ours, so no outside program
/// is asked.
fn box_with_a_proof() -> (Service, String) {
    let service = Service::start(&TENANTS, "development = true");
    let [zkey, witness] = ["made.zkey", "made.wtns"].map(|name| service.folder().join(name));
    let setup = ["setup", "--synthetic", "2^12", "--output"];
    run_caldera(setup.iter().map(OsStr::new).chain([zkey.as_os_str()])).expect_success();
    let plaza = service.client("plaza");
    let circuit = plaza.register(&std::fs::read(zkey).unwrap(), "full");
    let witness = plaza.upload(&std::fs::read(witness).unwrap());
    let submission = json!({"circuit": circuit, "witness": witness});
    let job = plaza.call("prover_submitV1", submission)["job"].clone();
    assert_eq!(plaza.ended(&job)["state"], "proved");
    (service, job.as_str().unwrap().to_owned())
}

fn caldera(service: &Service, account: &str, arguments: &[&str]) -> Run {
    let secret = service.folder().join(format!("{account}.secret"));
    let url = format!("http://{}", service.address());
    let secret = secret.display().to_string();
    let connection = ["--url", &url, "--tenant", account, "--secret-file", &secret];
    run_caldera(arguments.iter().chain(&connection))
}

#[test]
fn histograms_become_files() {
    let (service, _) = box_with_a_proof();
    let folder = service.folder().join("made/here");
    let path = folder.display().to_string();
    let arguments = ["--json", "pool", "histograms", "-o", &path];
    let said = caldera(&service, "operator", &arguments).expect_success();
    let list: Value = serde_json::from_str(&said).unwrap();
    let list = list.as_array().unwrap();
    assert!(!list.is_empty());
    for it in list {
        let name = format!(
            "core-{}-{}.hgrm",
            it["cause"].as_str().unwrap(),
            it["part"].as_str().unwrap()
        );
        let text = std::fs::read_to_string(folder.join(&name)).unwrap();
        assert_eq!(it["hgrm"], text, "{name}");
    }
    assert_eq!(files_in(&folder), list.len());
    let shown = caldera(&service, "operator", &["pool", "histograms"]).expect_success();
    assert!(
        shown.contains("total") && shown.contains("p99.9"),
        "{shown}"
    );
    caldera(&service, "plaza", &["pool", "histograms"]).expect_code(79);
    let wrong = ["pool", "histograms", "--cause", "whim"];
    caldera(&service, "operator", &wrong).expect_code(79);
}

fn files_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// One picture for people, and its figures for programs; a screen needs a terminal.
#[test]
fn top_prints_one_picture() {
    let (service, _) = box_with_a_proof();
    let text = caldera(&service, "operator", &["top", "--once"]).expect_success();
    for word in [
        "exchange",
        "plaza",
        "financial",
        "demand",
        "100 ms at |",
        "misses",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let own = caldera(&service, "plaza", &["top", "--once"]).expect_success();
    assert!(own.contains("plaza") && own.contains("(others)"), "{own}");
    assert!(
        !own.contains("exchange") && !own.contains("financial"),
        "{own}"
    );

    let said = caldera(&service, "operator", &["--json", "top", "--once"]).expect_success();
    let said: Value = serde_json::from_str(&said).unwrap();
    let units = said["pool"]["units"].as_array().unwrap();
    assert!(
        text.contains(&format!(" of {} cores held", units.len())),
        "{text}"
    );
    let scenarios = said["scenarios"].as_array().unwrap();
    let names: Vec<&Value> = scenarios.iter().map(|it| &it["scenario"]).collect();
    assert_eq!(names, ["financial", "social"]);
    assert!(scenarios[1]["hadPercent"].as_f64().unwrap() > 0.0, "{said}");
    assert_eq!(scenarios[0]["hadPercent"], 0.0);

    caldera(&service, "operator", &["top"]).expect_code(78);
    caldera(&service, "operator", &["top", "--interval", "1"]).expect_code(2);
}

/// A trace has every quantum that the service has, on its worker's track, and the job's own tracks
/// have no slice that reaches into another.
#[test]
fn a_profile_becomes_a_trace() {
    let (service, job) = box_with_a_proof();
    let path = service.folder().join("trace.json").display().to_string();
    let said = caldera(&service, "plaza", &["profile", &job, "-o", &path]).expect_success();
    assert!(!said.contains("lost"), "{said}");
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let plaza = service.client("plaza");
    let profile = plaza.call("prover_profileV1", json!({"job": job}));
    assert_eq!(profile["next"], Value::Null);

    let events = trace["traceEvents"].as_array().unwrap();
    let of = |category: &str| -> Vec<&Value> {
        events.iter().filter(|it| it["cat"] == category).collect()
    };
    let number = |it: &Value, key: &str| it[key].as_f64().unwrap();
    let quanta = of("quantum");
    let expected = profile["quanta"].as_array().unwrap();
    assert_eq!(quanta.len(), expected.len());
    assert!(
        said.contains(&format!("wrote {} quanta", quanta.len())),
        "{said}"
    );
    for (event, it) in quanta.iter().zip(expected) {
        let stage = &profile["stages"][it["stage"].as_u64().unwrap() as usize];
        assert_eq!(event["name"], stage["kernel"]);
        assert_eq!(event["args"]["part"], stage["part"]);
        assert_eq!(event["args"]["size"], stage["size"]);
        assert_eq!(event["ts"], it["startUs"]);
        assert_eq!(event["dur"], it["spanUs"]);
        assert_eq!(
            event["tid"].as_u64(),
            it["unit"].as_u64().map(|unit| unit + 1)
        );
    }
    let stages = of("stage");
    let times: u64 = stages
        .iter()
        .map(|it| it["args"]["quanta"].as_u64().unwrap())
        .sum();
    assert_eq!(times, quanta.len() as u64);
    assert_eq!(
        of("reallocation").len(),
        profile["reallocations"].as_array().unwrap().len()
    );

    // Tracks by process and thread; each has a name, and slices lie beside one another.
    let mut tracks: BTreeMap<(u64, u64), Vec<(f64, f64)>> = BTreeMap::new();
    let track = |it: &Value| (it["pid"].as_u64().unwrap(), it["tid"].as_u64().unwrap());
    for it in events.iter().filter(|it| it["ph"] == "X") {
        let (start, span) = (number(it, "ts"), number(it, "dur"));
        assert!(span >= 0.0, "{it}");
        tracks
            .entry(track(it))
            .or_default()
            .push((start, start + span));
    }
    assert!(tracks.len() > 10);
    for (key, spans) in &mut tracks {
        spans.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in spans.windows(2) {
            assert!(pair[0].1 <= pair[1].0 + 1e-6, "{key:?}: {pair:?}");
        }
        let named = |it: &&Value| it["name"] == "thread_name" && track(it) == *key;
        assert_eq!(events.iter().filter(named).count(), 1, "{key:?}");
    }
    // What the job waited for reaches from its receipt to its end.
    let job_track = &tracks[&(1, 1)];
    assert_eq!(job_track[0].0, 0.0);
    let end = number(&profile["status"], "finishedMs") * 1e3;
    assert!((job_track.last().unwrap().1 - end).abs() < 1e-3);

    caldera(&service, "exchange", &["profile", &job, "-o", &path]).expect_code(79);
    let nowhere = service
        .folder()
        .join("none/trace.json")
        .display()
        .to_string();
    caldera(&service, "plaza", &["profile", &job, "-o", &nowhere]).expect_code(74);
}
