//! A circuit of our own through every tool in turn: compiled by circom2, given keys by us and
//! by snarkjs, proven by us and by snarkjs, and judged by the other.

use std::path::PathBuf;

use caldera_tests::circuit::Circuit;
use caldera_tests::interop::{json, snarkjs};
use caldera_tests::programs::run_caldera;

/// Our prover with the keys of a little ceremony by snarkjs. The one that has been through no
/// contribution is refused: anybody can forge proofs for it.
#[test]
fn a_key_made_by_snarkjs_is_proven_by_us() {
    for curve in ["bn128", "bls12381"] {
        let circuit = Circuit::compile(curve);
        circuit.ceremony(curve);
        let run = prove(&circuit, "fresh.zkey", &[]).expect_code(91);
        assert!(run.stderr.contains("[no-contribution]"), "{run}");
        assert!(!circuit.file("proof.json").exists());
        assert!(!circuit.file("public.json").exists());
        prove(&circuit, "fresh.zkey", &["--development"]).expect_success();

        prove(&circuit, "final.zkey", &[]).expect_success();
        circuit.judged_by_snarkjs("final.vk.json");
        judged_by_us(&circuit, "final.vk.json");
    }
}

/// Our development key: proven by us and by snarkjs, judged by snarkjs each time.
#[test]
fn a_development_key_works_everywhere() {
    for curve in ["bn128", "bls12381"] {
        let circuit = Circuit::compile(curve);
        run_caldera([
            "setup".as_ref(),
            &*circuit.file("polynomial.r1cs"),
            "-o".as_ref(),
            &*circuit.file("dev.zkey"),
            "--vk".as_ref(),
            &*circuit.file("dev.vk.json"),
        ])
        .expect_success();

        let run = prove(&circuit, "dev.zkey", &[]).expect_code(92);
        assert!(run.stderr.contains("[development-key]"), "{run}");
        assert!(run.stderr.contains("--development takes"), "{run}");
        prove(&circuit, "dev.zkey", &["--development"]).expect_success();
        circuit.judged_by_snarkjs("dev.vk.json");

        // The verification key is what snarkjs itself reads out of our file.
        let exported = circuit.file("exported.vk.json");
        snarkjs([
            "zkey".as_ref(),
            "export".as_ref(),
            "verificationkey".as_ref(),
            &*circuit.file("dev.zkey"),
            &*exported,
        ])
        .expect_success();
        assert_eq!(json(&exported), json(&circuit.file("dev.vk.json")));

        snarkjs([
            "groth16".as_ref(),
            "prove".as_ref(),
            &*circuit.file("dev.zkey"),
            &*circuit.file("witness.wtns"),
            &*circuit.file("proof.json"),
            &*circuit.file("public.json"),
        ])
        .expect_success();
        circuit.judged_by_snarkjs("dev.vk.json");
        judged_by_us(&circuit, "dev.vk.json");
        inspected(&circuit, curve);
    }
}

/// The circuit of `setup --synthetic`, which has no circom source: snarkjs proves it too.
#[test]
fn a_synthetic_key_is_proven_by_snarkjs() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (zkey, vk) = (file("s.zkey"), file("vk.json"));
    let made = run_caldera([
        "setup".as_ref(),
        "--synthetic".as_ref(),
        "2^8".as_ref(),
        "--dense".as_ref(),
        "0.5".as_ref(),
        "-o".as_ref(),
        zkey.as_os_str(),
        "--vk".as_ref(),
        vk.as_os_str(),
    ]);
    made.expect_success();
    let (proof, public) = (file("proof.json"), file("public.json"));
    snarkjs([
        "groth16".as_ref(),
        "prove".as_ref(),
        &*zkey,
        &*file("s.wtns"),
        &*proof,
        &*public,
    ])
    .expect_success();
    let said = run_caldera(["verify".as_ref(), &*vk, &*public, &*proof]).expect_success();
    assert_eq!(said, "OK!\n");

    // A proof of another statement is not a proof of this one.
    let mut other = json(&public);
    other[0] = "1".into();
    let lie = file("lie.json");
    std::fs::write(&lie, other.to_string()).unwrap();
    let run = run_caldera(["verify".as_ref(), &*vk, &*lie, &*proof]).expect_code(1);
    assert!(run.stdout.starts_with("Invalid proof"), "{run}");
}

fn prove(circuit: &Circuit, zkey: &str, options: &[&str]) -> caldera_tests::programs::Run {
    let files = [
        circuit.file(zkey),
        circuit.file("witness.wtns"),
        circuit.file("proof.json"),
        circuit.file("public.json"),
    ];
    let mut arguments = vec!["prove".into()];
    arguments.extend(files.map(PathBuf::into_os_string));
    arguments.extend(options.iter().map(Into::into));
    run_caldera::<std::ffi::OsString>(arguments)
}

/// `caldera inspect` knows each of the files by its content.
fn inspected(circuit: &Circuit, curve: &str) {
    for (name, format, fact, value) in [
        ("dev.zkey", "zkey", "wires", 29),
        ("polynomial.r1cs", "r1cs", "constraints", 25),
        ("witness.wtns", "wtns", "elements", 29),
        ("dev.vk.json", "verification key", "publicInputs", 3),
        ("proof.json", "proof", "protocol", 0),
        ("public.json", "public inputs", "publicInputs", 3),
    ] {
        let said = run_caldera(["--json".as_ref(), "inspect".as_ref(), &*circuit.file(name)])
            .expect_success();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["format"], format, "{said}");
        if name == "proof.json" {
            assert_eq!(said[fact], "groth16", "{said}");
        } else {
            assert_eq!(said[fact], value, "{said}");
        }
        if name != "public.json" {
            assert_eq!(said["curve"], curve, "{said}");
        }
    }
}

fn judged_by_us(circuit: &Circuit, verification_key: &str) {
    run_caldera([
        "verify".as_ref(),
        &*circuit.file(verification_key),
        &*circuit.file("public.json"),
        &*circuit.file("proof.json"),
    ])
    .expect_success();
}
