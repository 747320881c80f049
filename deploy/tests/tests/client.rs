//! The Rust client against a running `calderad`: what its first page says, and how it fails.

use std::process::Command;
use std::time::Duration;

use caldera_client::{Circuit as Files, Client, ClientError, Identity, Secret, Terms, digest};
use caldera_tests::circuit::Circuit;
use caldera_tests::interop::{json, semaphore_witnesses, semaphore_zkey, snarkjs_verdicts};
use caldera_tests::programs::{caldera, run};
use caldera_tests::service::Service;
use serde_json::json;

fn client(service: &Service, secret: [u8; 32]) -> Client {
    let url = format!("http://{}", service.address());
    let secret = Secret::from_bytes(secret);
    Client::new(&url, &Identity::default(), "plaza", secret).expect("a good address")
}

/// The command line finds in the environment what is left out, and sends nothing to a box because there is one.
#[test]
fn the_environment_says_where_and_as_whom() {
    let service = Service::start(&[("plaza", "social")], "");
    let secret = service.folder().join("plaza.secret");
    let caldera = |words: &[&str]| {
        let mut command = Command::new(caldera());
        command
            .args(words)
            .env("CALDERA_URL", format!("http://{}", service.address()))
            .env("CALDERA_TENANT", "plaza")
            .env("CALDERA_SECRET_FILE", &secret);
        run(command)
    };
    let pool = caldera(&["pool"]).expect_success();
    assert!(pool.contains("plaza"), "{pool}");
    caldera(&["pool", "demand", "0"]).expect_success();
    // The command line goes over it.
    caldera(&["pool", "--tenant", "market"]).expect_code(77);

    // What is shown at home is not published, which this tenant would be refused.
    let list = service.folder().join("revoked.json");
    std::fs::write(&list, "[]").expect("written");
    let list = list.display().to_string();
    caldera(&["state", "revoke", &list]).expect_success();
    caldera(&["state", "revoke", &list, "--tenant", "plaza"]).expect_code(79);
    // A request is in a box's registry alone.
    let request = format!("0x{}", "0".repeat(64));
    caldera(&["state", "revoke", "--request", &request]).expect_code(79);
    // Home is home, whatever the environment says, and no box on the same line.
    let home = "state present a b c --holder h --unit u --blinding b --issuers i --request r --grant g --home";
    let home: Vec<&str> = home.split(' ').collect();
    caldera(&home).expect_code(74);
    caldera(&[&home[..], &["--tenant", "plaza"]].concat()).expect_code(2);
}

#[test]
fn a_circuit_is_registered_once_and_proved_from_inputs_and_from_a_witness() {
    let service = Service::start(&[("plaza", "social")], "");
    let plaza = client(&service, service.account("plaza").secret);
    let circuit = Circuit::compile("bn128");
    circuit.ceremony("bn128");
    let read = |name: &str| std::fs::read(circuit.file(name)).expect("it was made");
    let zkey = read("final.zkey");
    let program = read("polynomial_js/polynomial.wasm");
    let r1cs = read("polynomial.r1cs");
    let files = Files {
        zkey: &zkey,
        witness_program: Some(&program),
        r1cs: Some(&r1cs),
    };
    let info = plaza.register(&files).expect("registered");
    assert_eq!(info.circuit, digest(&zkey));
    assert_eq!(info.witness_program, Some(digest(&program)));
    assert_eq!(info.r1cs, Some(digest(&r1cs)));
    // Registered again it is what it was, whatever comes with it.
    let alone = Files {
        witness_program: None,
        r1cs: None,
        ..files
    };
    assert_eq!(plaza.register(&alone).expect("there"), info);

    let of_inputs = plaza.prove(info.circuit, &read("input.json"));
    let of_witness = plaza.prove(info.circuit, &read("witness.wtns"));
    let cases = [of_inputs, of_witness].map(|result| {
        let result = result.expect("proved");
        json!({
            "verificationKey": json(&circuit.file("final.vk.json")),
            "publicInputs": result.public_inputs,
            "proof": result.proof,
        })
    });
    assert_eq!(cases[0]["publicInputs"], cases[1]["publicInputs"]);
    assert_eq!(snarkjs_verdicts(&cases), [true, true]);

    // What is wrong with inputs comes with the service's own name for it.
    let error = plaza
        .prove(info.circuit, br#"{"x": 1}"#)
        .expect_err("refused");
    assert_eq!(error.reason(), Some("inputsSignals"), "{error}");
    assert!(matches!(error, ClientError::Failed { .. }), "{error}");
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn a_long_witness_goes_up_once_and_a_repeated_submission_is_one_job() {
    let service = Service::start(&[("plaza", "social")], "");
    let plaza = client(&service, service.account("plaza").secret);
    let zkey = std::fs::read(semaphore_zkey(16)).expect("a key");
    let files = Files {
        zkey: &zkey,
        witness_program: None,
        r1cs: None,
    };
    let circuit = plaza.register(&files).expect("registered").circuit;
    let path = service.folder().join("long.wtns");
    semaphore_witnesses(16, std::slice::from_ref(&path));
    let witness = std::fs::read(path).expect("it was made");
    let terms = Terms {
        idempotency_key: "one".parse().ok(),
        ..Terms::default()
    };
    let submit = || plaza.submit(circuit, &witness, &terms).expect("taken").job;
    let job = submit();
    assert_eq!(submit(), job);
    let mut told = 0;
    let result = plaza.wait(job, Duration::from_millis(1), &mut |status| {
        assert_eq!(status.job, job);
        told += 1;
    });
    assert_eq!(result.expect("proved").job, job);
    assert!(told > 0);
    assert_eq!(service.stop(), Some(0));
}

#[test]
fn each_way_of_failing_has_its_own_error() {
    let service = Service::start(&[("plaza", "social")], "");
    let stranger = client(&service, [1; 32]);
    let unknown = stranger.circuit(digest(b"")).expect_err("refused");
    assert!(
        matches!(unknown, ClientError::Unauthorized { .. }),
        "{unknown}"
    );
    let plaza = client(&service, service.account("plaza").secret);
    let error = plaza.prove(digest(b""), b"{}").expect_err("refused");
    assert!(matches!(error, ClientError::Refused { .. }), "{error}");
    assert_eq!(error.reason(), Some("circuitUnknown"));
    assert_eq!(plaza.circuit(digest(b"")).expect("a list"), None);

    let secret = || Secret::from_bytes([1; 32]);
    let refused = Client::new("ftp://box", &Identity::default(), "plaza", secret());
    assert!(matches!(refused.err(), Some(ClientError::Configuration(_))));
    let missing = Identity {
        cacert: Some(service.folder().join("nothing")),
        ..Identity::default()
    };
    let refused = Client::new("https://box", &missing, "plaza", secret());
    assert!(matches!(refused.err(), Some(ClientError::File { .. })));
    let address = service.address().to_owned();
    assert_eq!(service.stop(), Some(0));
    let nobody = Client::new(
        &format!("http://{address}"),
        &Identity::default(),
        "plaza",
        secret(),
    );
    let error = nobody.expect("a good address").circuit(digest(b""));
    assert!(matches!(error, Err(ClientError::Unreachable { .. })));
}
