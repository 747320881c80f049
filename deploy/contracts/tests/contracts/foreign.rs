//! Keys of real ceremonies and proofs by other provers: Semaphore's, made by its own package, and iden3's, as they were published.
//! Each is judged natively, one by one and in batches, and by the contracts that are made of its key; nobody may disagree.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{PreparedKey, solidity, verify};
use revm::primitives::{Address, U256};
use serde_json::Value;

use crate::chain::{Chain, account};
use crate::compile::compile;
use crate::verifier::{changes, words};

/// Everybody who judges proofs for one key.
struct Judges {
    key: VerificationKey,
    prepared: PreparedKey,
    chain: Chain,
    single: Address,
    batch: Address,
}

impl Judges {
    /// Of a `verification_key.json`.
    fn new(file: &[u8]) -> Judges {
        let key = VerificationKey::parse(file).expect("a published key");
        let sources = [
            ("single", solidity::verifier(&key)),
            ("batch", solidity::batch_verifier(&key)),
        ];
        let sources = sources.map(|(name, text)| (name.to_owned(), text.expect("a good key")));
        let compiled = compile(&sources.into());
        let mut chain = Chain::new();
        let [single, batch] = ["single", "batch"].map(|name| {
            let code = &compiled[name].code;
            chain.deploy(account(1), code, &[]).address()
        });
        Judges {
            prepared: PreparedKey::new(&key).expect("good points"),
            key,
            chain,
            single,
            batch,
        }
    }

    /// What all of them say of one proof.
    fn verdict(&mut self, what: &str, proof: &Proof, inputs: &PublicInputs) -> bool {
        let verdict = verify(&self.key, proof, inputs).is_ok();
        let prepared = self.prepared.verify(proof, inputs).is_ok();
        assert_eq!(prepared, verdict, "{what}: prepared");
        let batch = self.prepared.verify_batch(&[(proof, inputs)]);
        let batch = batch.expect("randomness")[0].is_ok();
        assert_eq!(batch, verdict, "{what}: a batch of one");
        let call = solidity::call(proof, inputs).expect("BN254");
        let single = self.chain.send(account(1), self.single, &call).number();
        assert_eq!(single, U256::from(verdict), "{what}: the contract");
        let twice = [(); 2].map(|()| (proof.clone(), inputs.clone()));
        let call = solidity::batch_call(&twice).expect("a batch");
        let batch = self.chain.send(account(1), self.batch, &call).number();
        assert_eq!(batch, U256::from(verdict), "{what}: the batch's contract");
        verdict
    }

    /// A valid proof is accepted, and refused with whatever is changed in it: each coordinate, each point (negated, swapped, at
    /// infinity, off its curve, outside its subgroup), each public input.
    fn only_as_it_is(&mut self, what: &str, proof: &Proof, inputs: &PublicInputs) {
        assert!(self.verdict(what, proof, inputs), "{what}");
        let call = solidity::call(proof, inputs).expect("BN254");
        for (change, changed) in changes(&words(&call), inputs.len()) {
            let what = format!("{what}: {change}");
            // What is not reduced cannot even be read.
            let natively = native(&changed)
                .is_some_and(|(proof, inputs)| verify(&self.key, &proof, &inputs).is_ok());
            assert!(!natively, "{what}");
            let call = [&call[..4], &changed.concat()].concat();
            let on_chain = self.chain.send(account(1), self.single, &call);
            assert_eq!(on_chain.number(), U256::ZERO, "{what}");
        }
    }
}

/// Semaphore's own package proves with the keys of its ceremony, at the smallest depth, a middle one and the largest.
#[test]
fn semaphore_proofs_of_its_own_package() {
    for depth in [1, 16, 32] {
        let mut judges = Judges::new(&read(&artifact(depth)));
        let made = |message: &str, scope: &str| {
            let output = Command::new("node")
                .arg(interop().join("semaphore-proof.mjs"))
                .args([&depth.to_string(), message, scope])
                .stderr(Stdio::inherit())
                .output()
                .expect("node can be started");
            assert!(output.status.success(), "depth {depth}: {}", output.status);
            let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            parse(
                made["proof"].to_string().as_bytes(),
                made["publicSignals"].to_string().as_bytes(),
            )
        };
        let (proof, inputs) = made("yes", "a vote");
        judges.only_as_it_is(&format!("depth {depth}"), &proof, &inputs);
        // Another message in the same scope: one nullifier, and a proof of its own alone.
        let (other, others) = made("no", "a vote");
        assert!(judges.verdict("another message", &other, &others));
        let [ours, theirs] = [&inputs, &others].map(|inputs| inputs.iter().collect::<Vec<_>>());
        assert_eq!(ours[1], theirs[1], "the nullifier");
        assert_ne!(ours[2], theirs[2], "the message");
        assert!(!judges.verdict("mixed", &proof, &others));
        assert!(!judges.verdict("mixed", &other, &inputs));
    }
}

/// Proofs that others have published and that are not ours to pass on, such as those of iden3's credentialAtomicQuery circuits in
/// the test data of its contracts. `CALDERA_PUBLISHED_PROOFS` names a folder with a folder for each key, in which are
/// `verification_key.json`, `NAME.proof.json` and `NAME.public.json` as snarkjs has them, and `expected.txt`: a line `NAME true` or
/// `NAME false` for each.
#[cfg(feature = "published")]
#[test]
fn proofs_as_they_were_published() {
    const FOLDER: &str = "CALDERA_PUBLISHED_PROOFS";
    let folder = std::env::var_os(FOLDER).unwrap_or_else(|| panic!("{FOLDER} names no folder"));
    let keys = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{FOLDER}: {error}"));
    let keys: Vec<PathBuf> = keys.map(|it| it.expect("readable").path()).collect();
    assert!(!keys.is_empty(), "{FOLDER} holds no folder of a key");
    for folder in keys {
        let name = folder.display().to_string();
        eprintln!("{name}");
        let mut judges = Judges::new(&read(&folder.join("verification_key.json")));
        let expected = String::from_utf8(read(&folder.join("expected.txt"))).expect("text");
        let mut all = Vec::new();
        for line in expected.lines() {
            let (name, valid) = line.split_once(' ').expect("a name and a verdict");
            let valid: bool = valid.parse().expect("true or false");
            let file = |part: &str| read(&folder.join(format!("{name}.{part}.json")));
            let (proof, inputs) = parse(&file("proof"), &file("public"));
            assert_eq!(judges.verdict(name, &proof, &inputs), valid, "{name}");
            all.push((valid, proof, inputs));
        }
        let valid = |it: &&(bool, Proof, PublicInputs)| it.0;
        assert!(all.iter().any(|it| it.0), "{name}: no valid proof");
        assert!(!all.iter().all(|it| it.0), "{name}: no invalid proof");
        let (_, proof, inputs) = all.iter().find(valid).expect("looked for above");
        judges.only_as_it_is(&name, proof, inputs);
        // All of them at once: each its own verdict natively; on a chain the bad ones spoil the batch.
        let statements: Vec<_> = all
            .iter()
            .map(|(_, proof, inputs)| (proof, inputs))
            .collect();
        let verdicts = judges
            .prepared
            .verify_batch(&statements)
            .expect("randomness");
        let verdicts: Vec<bool> = verdicts.iter().map(Result::is_ok).collect();
        assert_eq!(verdicts, all.iter().map(|it| it.0).collect::<Vec<_>>());
        let owned = |it: &(bool, Proof, PublicInputs)| (it.1.clone(), it.2.clone());
        let good: Vec<_> = all.iter().filter(valid).map(owned).collect();
        let every: Vec<_> = all.iter().map(owned).collect();
        for (batch, verdict) in [(good, U256::ONE), (every, U256::ZERO)] {
            let call = solidity::batch_call(&batch).expect("a batch");
            let said = judges.chain.send(account(1), judges.batch, &call);
            assert_eq!(said.number(), verdict, "{name}: {} at once", batch.len());
        }
    }
}

/// A proof and its inputs from the words of a call; none if a number is not below its modulus.
fn native(words: &[[u8; 32]]) -> Option<(Proof, PublicInputs)> {
    let little = |at: usize| {
        let mut word = words[at];
        word.reverse();
        word
    };
    // Of each coordinate of B the imaginary part comes first in a call, and last in a proof.
    let point = |group, order: &[usize]| {
        let bytes: Vec<u8> = order.iter().flat_map(|&at| little(at)).collect();
        Point::from_bytes(CurveId::Bn254, group, &bytes)
    };
    let proof = Proof {
        curve: CurveId::Bn254,
        a: point(Group::G1, &[0, 1])?,
        b: point(Group::G2, &[3, 2, 5, 4])?,
        c: point(Group::G1, &[6, 7])?,
    };
    let inputs = (8..words.len()).map(little).collect();
    Some((proof, PublicInputs::new(CurveId::Bn254, inputs)?))
}

fn parse(proof: &[u8], inputs: &[u8]) -> (Proof, PublicInputs) {
    let proof = Proof::parse(proof, Some(CurveId::Bn254)).expect("a proof");
    let inputs = PublicInputs::parse(inputs, CurveId::Bn254).expect("inputs");
    (proof, inputs)
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn artifact(depth: u32) -> PathBuf {
    interop().join(format!(
        "node_modules/@zk-kit/semaphore-artifacts/semaphore-{depth}.json"
    ))
}

fn interop() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/interop")
}
