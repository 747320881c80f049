//! A disk that takes no more: told, refused, and recovered from without a restart.
//!
//! The limit is the kernel's own (RLIMIT_FSIZE, set from outside by `prlimit` while the service runs): no file
//! grows beyond it, the log of the tables and the service's own log included, as on a disk that is full.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_tests::interop::{semaphore_witnesses, semaphore_zkey};
use caldera_tests::service::Service;
use serde_json::json;
use sha2::{Digest, Sha256};

#[test]
fn a_full_disk_is_told_refused_and_recovered_from() {
    let service = Service::start(&[("plaza", "social")], "keep_witnesses = false\n");
    let plaza = service.client("plaza");
    let circuit = plaza.register(&std::fs::read(semaphore_zkey(1)).unwrap(), "trusted");
    let path = service.folder().join("small.wtns");
    semaphore_witnesses(1, std::slice::from_ref(&path));
    let witness = std::fs::read(path).unwrap();
    let submission = json!({
        "circuit": circuit,
        "witness": hex::encode(Sha256::digest(&witness)),
        "witnessData": STANDARD.encode(&witness),
    });
    let submit = || plaza.try_call("prover_submitV1", submission.clone());
    let first = submit().unwrap()["job"].clone();
    assert_eq!(plaza.ended(&first)["state"], "proved");
    let result = plaza.call("prover_resultV1", json!({"job": first}));

    let limit = |bytes: &str| {
        let process = service.process().to_string();
        let limit = format!("--fsize={bytes}:");
        let set = Command::new("prlimit")
            .args(["--pid", &process, &limit])
            .status();
        assert!(set.expect("prlimit is part of every Debian").success());
    };
    limit("4096");
    // A page that is in the log already can be written once more, so the first one or two may fit.
    let error = (0..100)
        .find_map(|_| submit().err())
        .expect("the disk is full");
    assert_eq!(error["data"]["reason"], "storageUnavailable", "{error}");
    assert!(error["data"]["retryAfterMs"].as_u64() > Some(0), "{error}");
    let ready = plaza.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("jobs cannot be written down"),
        "{}",
        ready.body
    );
    assert_eq!(
        plaza
            .put(&hex::encode(Sha256::digest([7; 9000])), &[7; 9000])
            .status,
        507
    );
    assert_eq!(plaza.get("/livez").status, 200);
    assert_eq!(plaza.call("prover_resultV1", json!({"job": first})), result);

    limit("unlimited");
    while plaza.get("/readyz").status != 200 {}
    let job = submit().expect("there is room again")["job"].clone();
    assert_eq!(plaza.ended(&job)["state"], "proved");
    assert_eq!(service.stop(), Some(0));
}
