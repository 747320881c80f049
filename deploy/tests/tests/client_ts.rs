//! The TypeScript client, checked by its own compiler and tried by its own tests against a running
//! `calderad`; and its example, installed as somebody else would have it.
//!
//! What the client promises stands in `deploy/client-ts/tests`; here are the service, the circuits and
//! the programs that they need. They say for themselves what failed, so what they print is shown.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use caldera_tests::circuit::Circuit;
use caldera_tests::interop::{self, semaphore_witnesses, semaphore_zkey};
use caldera_tests::programs::run;
use caldera_tests::service::Service;

/// Deep enough that a proof takes a tenth of a second, and its witness more than goes into a call.
const DEPTH: u32 = 16;
const TENANT: (&str, &str) = ("plaza", "social");
/// As a box has it that nobody has told otherwise, which other tests here do: witnesses go with their jobs.
const DEFAULTS: &str = "keep_witnesses = false";

/// The folder of the client, with the client and its tests compiled, as all of these tests need it.
static CLIENT: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-ts");
    let folder = folder.canonicalize().expect("the client is in the tree");
    assert!(
        folder.join("node_modules/typescript/bin/tsc").is_file(),
        "the compiler of the client is not installed: run `make test`, or `npm ci` in {}",
        folder.display()
    );
    // What was compiled before must not hide that something is gone.
    for old in ["dist", "build"] {
        let _ = std::fs::remove_dir_all(folder.join(old));
    }
    for project in ["tsconfig.json", "tsconfig.browser.json", "tests"] {
        let mut tsc = Command::new("node");
        tsc.arg("node_modules/typescript/bin/tsc")
            .args(["-p", project]);
        tsc.current_dir(&folder);
        run(tsc).expect_success();
    }
    folder
});

/// The types of the client are those of the document that the service answers `rpc.discover` with.
#[test]
fn the_types_are_of_the_document() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../client-ts");
    let mut check = Command::new("node");
    check.arg(folder.join("generate.mjs")).arg("--check");
    run(check).expect_success();
}

#[test]
fn the_client_keeps_its_promises() {
    let service = Service::start(&[TENANT], DEFAULTS);
    let circuit = Circuit::compile("bn128");
    circuit.ceremony("bn128");
    let long_witness = service.folder().join("long.wtns");
    semaphore_witnesses(DEPTH, std::slice::from_ref(&long_witness));
    let mut tests = Command::new("node");
    tests.current_dir(&*CLIENT).arg("--test").args([
        "build/parts.test.js",
        "build/service.test.js",
        "build/hostile.test.js",
    ]);
    account(&mut tests, &service)
        .env(
            "CALDERA_OPERATOR_SECRET_FILE",
            service.folder().join("operator.secret"),
        )
        .env("CALDERA_CIRCUIT", circuit.file(""))
        .env("CALDERA_LONG_KEY", semaphore_zkey(DEPTH))
        .env("CALDERA_LONG_WITNESS", long_witness)
        .env("CALDERA_INTEROP", interop::folder());
    let said = run(tests).expect_success();
    // A run that finds no tests ends well too.
    assert!(
        said.contains("proofs from a witness in each form"),
        "{said}"
    );
    assert_eq!(service.stop(), Some(0));
}

/// The example is three lines in place of `snarkjs.groth16.fullProve`, in a folder that has the client
/// and snarkjs as packages.
#[test]
fn the_example_proves_what_snarkjs_accepts() {
    let service = Service::start(&[TENANT], DEFAULTS);
    let circuit = Circuit::compile("bn128");
    circuit.ceremony("bn128");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let packages = folder.path().join("node_modules");
    std::fs::create_dir(&packages).expect("a new folder");
    let snarkjs = interop::folder().join("node_modules/snarkjs");
    for (package, name) in [(&*CLIENT, "caldera-client"), (&snarkjs, "snarkjs")] {
        std::os::unix::fs::symlink(package, packages.join(name)).expect("a link");
    }
    let script = folder.path().join("full-prove.mjs");
    std::fs::copy(CLIENT.join("examples/full-prove.mjs"), &script).expect("a copy");

    let prove = |zkey: &str| {
        let mut example = Command::new("node");
        example.arg(&script).args([
            circuit.file("input.json"),
            circuit.file("polynomial_js/polynomial.wasm"),
            circuit.file(zkey),
        ]);
        account(&mut example, &service);
        run(example)
    };
    let said = prove("final.zkey").expect_success();
    let said: serde_json::Value = serde_json::from_str(&said).expect("one line of JSON");
    assert_eq!(said["valid"], true, "{said}");
    assert_eq!(said["publicSignals"][2], "99", "{said}");
    // The service's refusal reaches whoever called.
    let refused = prove("fresh.zkey").expect_code(1);
    assert!(refused.stderr.contains("keyNoContribution"), "{refused}");
    assert_eq!(service.stop(), Some(0));
}

/// Tells a program where the service is, and whom it speaks for.
fn account<'a>(command: &'a mut Command, service: &Service) -> &'a mut Command {
    let (name, _) = TENANT;
    command
        .env("CALDERA_URL", format!("http://{}", service.address()))
        .env("CALDERA_TENANT", name)
        .env(
            "CALDERA_SECRET_FILE",
            service.folder().join(format!("{name}.secret")),
        )
}
