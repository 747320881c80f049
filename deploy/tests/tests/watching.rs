//! What `caldera` shows of a running box, and the files that it writes for other programs to draw.

use std::path::Path;

use caldera_tests::interop::{semaphore_witnesses, semaphore_zkey};
use caldera_tests::programs::{Run, run_caldera};
use caldera_tests::service::Service;
use serde_json::{Value, json};

const TENANTS: [(&str, &str); 2] = [("plaza", "social"), ("exchange", "financial")];
const DEPTH: u32 = 1;

/// A box on which one tenant has proved, and the job.
fn box_with_a_proof(extra: &str) -> (Service, String) {
    let service = Service::start(&TENANTS, extra);
    let plaza = service.client("plaza");
    let circuit = plaza.register(&std::fs::read(semaphore_zkey(DEPTH)).unwrap(), "full");
    let path = service.folder().join("made.wtns");
    semaphore_witnesses(DEPTH, std::slice::from_ref(&path));
    let witness = plaza.upload(&std::fs::read(path).unwrap());
    let submission = json!({"circuit": circuit, "witness": witness});
    let job = plaza.call("prover_submitV1", submission)["job"].clone();
    plaza.wait("prover_statusV1", json!({"job": job}), |status| {
        assert_ne!(status["state"], "failed", "{status}");
        status["state"] == "proved"
    });
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
    let (service, _) = box_with_a_proof("");
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
