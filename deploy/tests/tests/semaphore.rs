//! Real ceremony keys, real witnesses, and a judge who is not us: `caldera prove` on the
//! smallest, a middle and the largest Semaphore key, each proof verified by snarkjs.

use std::path::{Path, PathBuf};

use caldera_tests::binfile::Binfile;
use caldera_tests::interop::{
    json, semaphore_verification_key, semaphore_witnesses, semaphore_zkey, snarkjs,
};
use caldera_tests::programs::run_caldera;

#[test]
fn smallest_depth() {
    proves(1);
}

#[test]
fn middle_depth() {
    proves(16);
}

#[test]
fn largest_depth() {
    proves(32);
}

fn proves(depth: u32) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (witness, proof, public) = (file("w.wtns"), file("proof.json"), file("public.json"));
    semaphore_witnesses(depth, std::slice::from_ref(&witness));
    let zkey = semaphore_zkey(depth);

    run_caldera(["prove".as_ref(), &*zkey, &*witness, &*proof, &*public]).expect_success();

    let published = semaphore_verification_key(depth);
    let said = snarkjs([
        "groth16".as_ref(),
        "verify".as_ref(),
        &*published,
        &*public,
        &*proof,
    ])
    .expect_success();
    assert!(said.contains("OK!"), "{said}");
    // Our own verifier agrees.
    let said = run_caldera(["verify".as_ref(), &*published, &*public, &*proof]).expect_success();
    assert_eq!(said, "OK!\n");
    assert_eq!(
        json(&public).as_array().map(Vec::len),
        json(&published)["nPublic"].as_u64().map(|n| n as usize)
    );

    // The verification key that we derive is the one that was published with the key.
    let derived = file("vk.json");
    run_caldera(["vkey".as_ref(), &*zkey, "-o".as_ref(), &*derived]).expect_success();
    assert_eq!(json(&derived), json(&published));
}

#[test]
fn two_proofs_of_one_statement_differ() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let witness = file("w.wtns");
    semaphore_witnesses(1, std::slice::from_ref(&witness));
    let prove = |name: &str| {
        let (proof, public) = (file(name), file("public.json"));
        run_caldera([
            "prove".as_ref(),
            &*semaphore_zkey(1),
            &*witness,
            &*proof,
            &*public,
        ])
        .expect_success();
        (json(&proof), json(&public))
    };
    let (first, second) = (prove("first.json"), prove("second.json"));
    assert_eq!(first.1, second.1);
    for part in ["pi_a", "pi_b", "pi_c"] {
        assert_ne!(
            first.0[part], second.0[part],
            "{part}: the blinding is not random"
        );
    }
}

/// A single changed element makes a witness that satisfies nothing. What is computed from it is
/// a well-formed pair of points; only the self-check can tell.
#[test]
fn a_changed_witness_is_refused_by_the_self_check() {
    let folder = tempfile::tempdir().unwrap();
    let honest = folder.path().join("w.wtns");
    semaphore_witnesses(1, std::slice::from_ref(&honest));
    let elements = Binfile::parse(&std::fs::read(&honest).unwrap())
        .section(2)
        .len()
        / 32;
    // A public output, a public input, the first private wire, one in the middle.
    for element in [1, 4, 5, elements / 2] {
        let changed = changed_element(&honest, element);
        let proof = folder.path().join("proof.json");
        let public = folder.path().join("public.json");
        let run = run_caldera([
            "prove".as_ref(),
            &*semaphore_zkey(1),
            &*changed,
            &*proof,
            &*public,
        ])
        .expect_code(93);
        assert!(run.stderr.contains("[self-check]"), "{run}");
        assert!(!proof.exists());
        assert!(!public.exists());
    }
}

fn changed_element(witness: &Path, element: usize) -> PathBuf {
    let mut file = Binfile::parse(&std::fs::read(witness).unwrap());
    file.section(2)[32 * element] ^= 1;
    let path = witness.with_extension("changed.wtns");
    std::fs::write(&path, file.bytes()).unwrap();
    path
}
