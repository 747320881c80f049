//! `caldera export`: contracts that the real compiler takes, and calls that are snarkjs's.
//!
//! What the contracts accept and refuse is tried in deploy/contracts, in an Ethereum virtual machine.

use std::path::Path;
use std::process::Command;

use caldera_tests::circuit::Circuit;
use caldera_tests::interop::{json, snarkjs_calldata};
use caldera_tests::programs::{run, run_caldera};
use serde_json::{Value, json};

/// A circuit with the keys of a ceremony, and a proof by us.
fn proven(curve: &str) -> Circuit {
    let circuit = Circuit::compile(curve);
    circuit.ceremony(curve);
    run_caldera([
        "prove".as_ref(),
        &*circuit.file("final.zkey"),
        &*circuit.file("witness.wtns"),
        &*circuit.file("proof.json"),
        &*circuit.file("public.json"),
    ])
    .expect_success();
    circuit
}

#[test]
fn a_contract_compiles_and_a_call_is_snarkjss() {
    let circuit = proven("bn128");
    let (key, proof, public) = (
        circuit.file("final.vk.json"),
        circuit.file("proof.json"),
        circuit.file("public.json"),
    );
    let export = |what: &str, more: &[&Path]| {
        let mut arguments = vec!["export".as_ref(), what.as_ref(), "--vkey".as_ref(), &*key];
        arguments.extend(more);
        run_caldera(arguments)
    };

    let single = export("solidity", &[]).expect_success();
    let file = circuit.file("batch.sol");
    let said = export("solidity", &["--batch".as_ref(), "-o".as_ref(), &file]).expect_success();
    assert!(said.contains("Groth16BatchVerifier"), "{said}");
    let batch = std::fs::read_to_string(&file).unwrap();
    let library = export("solidity", &["--library".as_ref()]).expect_success();
    assert!(library.contains("library Groth16Library"), "{library}");
    let inputs = json(&public).as_array().unwrap().len();
    let sources = json!({ "single": single, "batch": batch, "library": library });
    let compiled = compile(&circuit, &sources);
    let function = |contract: &str, start: &str| {
        let selectors = compiled[contract]["selectors"].as_object().unwrap();
        let found = selectors.iter().find(|(name, _)| name.starts_with(start));
        let (name, selector) = found.unwrap_or_else(|| panic!("{selectors:?}"));
        (name.clone(), format!("0x{}", selector.as_str().unwrap()))
    };

    let pair = ["--proof".as_ref(), &*public, &*proof];
    let said = export("calldata", &pair).expect_success();
    let snarkjs = snarkjs_calldata(&json(&public), &json(&proof));
    assert_eq!(said, format!("{snarkjs}\n"));
    let hex = export("calldata", &[&pair[..], &["--hex".as_ref()]].concat()).expect_success();
    let (name, selector) = function("single", "verifyProof");
    assert!(hex.starts_with(&selector), "{hex}");
    assert_eq!(hex.len(), 2 + 2 * (4 + 32 * (8 + inputs)) + 1);
    let document = export("calldata", &[&pair[..], &["--json".as_ref()]].concat()).expect_success();
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(document["function"], name);
    assert_eq!(document["data"], hex.trim_end());
    let arguments: Value = serde_json::from_str(&format!("[{snarkjs}]")).unwrap();
    assert_eq!(document["arguments"], arguments);

    // Two proofs are a batch; one is where that is asked for.
    let (name, selector) = function("batch", "verifyBatch");
    for (more, count) in [(&pair[..], 2), (&["--batch".as_ref()], 1)] {
        let arguments = [&pair[..], more, &["--json".as_ref()]].concat();
        let document = export("calldata", &arguments).expect_success();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["function"], name);
        assert!(document["data"].as_str().unwrap().starts_with(&selector));
        for list in [0, 1] {
            assert_eq!(document["arguments"][list].as_array().unwrap().len(), count);
        }
    }
}

/// A chain takes gas for a bad proof, so there is no call of one.
#[test]
fn nothing_is_exported_for_what_is_not_valid() {
    let circuit = proven("bn128");
    let (key, proof, public) = (
        circuit.file("final.vk.json"),
        circuit.file("proof.json"),
        circuit.file("public.json"),
    );
    let calldata = |proof: &Path, public: &Path| {
        run_caldera([
            "export".as_ref(),
            "calldata".as_ref(),
            "--vkey".as_ref(),
            &*key,
            "--proof".as_ref(),
            public,
            proof,
        ])
    };
    let write = |name: &str, value: &Value| {
        let path = circuit.file(name);
        std::fs::write(&path, value.to_string()).unwrap();
        path
    };
    let mut other = json(&public);
    other[0] = json!("1");
    let run = calldata(&proof, &write("other.json", &other)).expect_code(65);
    assert!(run.stderr.contains("pairing equation"), "{run}");
    assert!(run.stdout.is_empty(), "{run}");
    let mut off = json(&proof);
    off["pi_a"] = json!(["1", "3", "1"]);
    calldata(&write("off.json", &off), &public).expect_code(89);

    // A key without public inputs, and a curve without precompiles.
    let solidity = |key: &Path| {
        run_caldera([
            "export".as_ref(),
            "solidity".as_ref(),
            "--vkey".as_ref(),
            key,
        ])
    };
    let mut bare = json(&key);
    bare["nPublic"] = json!(0);
    bare["IC"].as_array_mut().unwrap().truncate(1);
    let run = solidity(&write("bare.json", &bare)).expect_code(65);
    assert!(run.stderr.contains("public inputs"), "{run}");
    let other_curve = proven("bls12381");
    solidity(&other_curve.file("final.vk.json")).expect_code(86);
}

fn compile(circuit: &Circuit, sources: &Value) -> Value {
    let input = circuit.file("sources.json");
    std::fs::write(&input, sources.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/compile.mjs");
    let mut command = Command::new("node");
    command
        .arg(script)
        .stdin(std::fs::File::open(&input).unwrap());
    serde_json::from_str(&run(command).expect_success()).unwrap()
}
