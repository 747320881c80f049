//! The key of a real ceremony and a proof by another prover: Semaphore's, made by snarkjs.

use std::path::{Path, PathBuf};
use std::process::Command;

use caldera_kernels::CurveId;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::solidity;
use revm::primitives::U256;

use crate::chain::{Chain, account};
use crate::compile::compile;

#[test]
fn a_semaphore_proof_of_snarkjs_is_accepted() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (witness, proof, public) = (file("w.wtns"), file("proof.json"), file("public.json"));
    node(&["semaphore-witness.mjs".into(), "1".into(), witness.clone()]);
    node(&[
        "node_modules/snarkjs/build/cli.cjs".into(),
        "groth16".into(),
        "prove".into(),
        artifact("zkey"),
        witness,
        proof.clone(),
        public.clone(),
    ]);
    let read = |path: &Path| std::fs::read(path).expect("a file");
    let key = VerificationKey::parse(&read(&artifact("json"))).expect("a published key");
    let public = PublicInputs::parse(&read(&public), CurveId::Bn254).expect("inputs");
    let proof = Proof::parse(&read(&proof), Some(CurveId::Bn254)).expect("a proof");

    let sources = [
        (
            "single".to_owned(),
            solidity::verifier(&key).expect("a good key"),
        ),
        (
            "batch".to_owned(),
            solidity::batch_verifier(&key).expect("a good key"),
        ),
    ];
    let compiled = compile(&sources.into());
    let mut chain = Chain::new();
    let single = chain
        .deploy(account(1), &compiled["single"].code, &[])
        .address();
    let batch = chain
        .deploy(account(1), &compiled["batch"].code, &[])
        .address();
    let mut other: Vec<[u8; 32]> = public.iter().copied().collect();
    other.reverse();
    let other = PublicInputs::new(CurveId::Bn254, other).expect("below r");
    for (public, verdict) in [(public, U256::ONE), (other, U256::ZERO)] {
        let call = solidity::call(&proof, &public).expect("BN254");
        assert_eq!(chain.send(account(1), single, &call).number(), verdict);
        let twice = [(proof.clone(), public.clone()), (proof.clone(), public)];
        let call = solidity::batch_call(&twice).expect("a batch");
        assert_eq!(chain.send(account(1), batch, &call).number(), verdict);
    }
}

fn node(arguments: &[PathBuf]) {
    let (script, rest) = arguments.split_first().expect("a script");
    let status = Command::new("node")
        .arg(interop().join(script))
        .args(rest)
        .status()
        .expect("node can be started");
    assert!(status.success(), "{arguments:?}: {status}");
}

fn artifact(extension: &str) -> PathBuf {
    interop().join(format!(
        "node_modules/@zk-kit/semaphore-artifacts/semaphore-1.{extension}"
    ))
}

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop")
}
