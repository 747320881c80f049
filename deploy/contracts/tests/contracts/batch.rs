//! `Groth16BatchVerifier`: all valid or none. The interesting batches are those with bad proofs that
//! are made to cancel each other, and the interesting question whether the tests would notice; so a
//! contract whose coefficients are all 1 is tried too, and does accept them.

use ark_bn254::{Fq, Fr, G1Affine, G1Projective};
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInteger, PrimeField};
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs};
use caldera_prover::groth16::solidity;
use num_bigint::BigUint;
use revm::primitives::U256;

use crate::chain::{Chain, End, account, call, keccak, word};
use crate::compile::{INPUT_COUNTS, compile};
use crate::statement::{Statement, hashes, modulus_q, modulus_r};
use crate::verifier::{big_endian, deployed};

/// So many proofs of as many statements.
pub(crate) fn batch(inputs: usize, proofs: usize) -> Vec<(Proof, PublicInputs)> {
    let statement = Statement::of(inputs);
    (0..proofs as u8)
        .map(|index| statement.prove(&hashes(inputs, index), index))
        .collect()
}

#[test]
fn valid_batches_are_accepted() {
    for inputs in INPUT_COUNTS {
        let (mut chain, verifier) = deployed("Groth16BatchVerifier", inputs);
        let all = batch(inputs, 8);
        for count in [1, 2, 3, 8] {
            let call = solidity::batch_call(&all[..count]).expect("a good batch");
            let outcome = chain.send(account(1), verifier, &call);
            assert_eq!(
                outcome.number(),
                U256::ONE,
                "{inputs} inputs, {count} proofs"
            );
        }
        // The same proof twice is a batch too.
        let call = solidity::batch_call(&[all[0].clone(), all[0].clone()]).expect("a good batch");
        assert_eq!(chain.send(account(1), verifier, &call).number(), U256::ONE);
    }
}

#[test]
fn one_bad_proof_spoils_the_batch() {
    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    let good = batch(5, 4);
    let other = Statement::of(5).prove(&hashes(5, 99), 99);
    for bad in 0..4 {
        // A proof of something else, then the points of something else one by one.
        let mut changed = vec![good.clone(); 5];
        changed[0][bad].0 = other.0.clone();
        changed[1][bad].0.a = other.0.a.clone();
        changed[2][bad].0.b = other.0.b.clone();
        changed[3][bad].0.c = other.0.c.clone();
        changed[4][bad].1 = other.1.clone();
        for (change, batch) in changed.iter().enumerate() {
            let call = solidity::batch_call(batch).expect("a batch");
            let outcome = chain.send(account(1), verifier, &call);
            assert_eq!(outcome.number(), U256::ZERO, "proof {bad}, change {change}");
        }
    }
}

#[test]
fn each_word_counts() {
    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    let call = solidity::batch_call(&batch(5, 3)).expect("a good batch");
    let honest = chain.send(account(1), verifier, &call);
    assert_eq!(honest.number(), U256::ONE);
    let (q, r) = (modulus_q(), modulus_r());
    let mut try_word = |index: usize, what: &str, change: &dyn Fn(BigUint) -> BigUint| {
        let mut call = call.clone();
        let word = &mut call[4 + 32 * index..][..32];
        let changed = change(BigUint::from_bytes_be(word));
        word.copy_from_slice(&big_endian(&changed));
        let outcome = chain.send(account(1), verifier, &call);
        assert_eq!(outcome.number(), U256::ZERO, "word {index} {what}");
        // A refused point burns at most what its precompile was given, and those after it; what is
        // no number of the field does not reach the pairing.
        let bound = match what {
            "+ q" | "+ r" => honest.gas - 100_000,
            _ => 2 * honest.gas,
        };
        assert!(outcome.gas < bound, "word {index} {what}: {}", outcome.gas);
    };
    for word in 3..3 + 3 * 8 {
        try_word(word, "+ 1", &|number| number + 1u8);
        try_word(word, "+ q", &|number| number + &q);
        try_word(word, "zero", &|_| BigUint::ZERO);
    }
    for word in 3 + 3 * 8 + 1..3 + 3 * 8 + 1 + 3 * 5 {
        try_word(word, "+ 1", &|number| number + 1u8);
        try_word(word, "+ r", &|number| number + &r);
    }
}

/// C_0 + D and C_1 - D: neither proof is valid, and their product is that of two that are.
#[test]
fn bad_proofs_that_cancel_are_refused() {
    let mut bad = batch(5, 3);
    let difference = G1Affine::generator();
    bad[1].0.c = moved(&bad[1].0.c, difference);
    bad[2].0.c = moved(&bad[2].0.c, -difference);
    let call = solidity::batch_call(&bad).expect("a batch");

    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    assert_eq!(chain.send(account(1), verifier, &call).number(), U256::ZERO);

    // With coefficients that do not depend on the proofs it would have been accepted.
    let accepts = |from: &str, to: &str, call: &[u8]| {
        let key = Statement::of(5);
        let text = solidity::batch_verifier(key.verification_key()).expect("a good key");
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        let compiled = compile(&[("Fixed".to_owned(), changed)].into());
        let code = &compiled["Fixed"].code;
        let mut chain = Chain::new();
        let naive = chain.deploy(account(1), code, &[]).address();
        assert_eq!(chain.send(account(1), naive, call).number(), U256::ONE);
    };
    accepts("k := keccak256(0x00, 0x40)", "k := 3", &call);

    // So it would with coefficients that are hashes, but of a seed that is known beforehand:
    // C_1 + k_2 D and C_2 - k_1 D.
    let k = |index: u64| {
        let digest = keccak(&[word(5), word(index)].concat());
        Fr::from_be_bytes_mod_order(&digest)
    };
    let mut bad = batch(5, 3);
    bad[1].0.c = moved(&bad[1].0.c, (difference * k(2)).into_affine());
    bad[2].0.c = moved(&bad[2].0.c, (-difference * k(1)).into_affine());
    let call = solidity::batch_call(&bad).expect("a batch");
    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    assert_eq!(chain.send(account(1), verifier, &call).number(), U256::ZERO);
    accepts(
        "mstore(0x00, keccak256(pairs, calldatasize()))",
        "mstore(0x00, 5)",
        &call,
    );

    // And the first proof, whose coefficient is always 1, cannot be cancelled either.
    let mut bad = batch(5, 2);
    bad[0].0.c = moved(&bad[0].0.c, difference);
    bad[1].0.c = moved(&bad[1].0.c, -difference);
    let call = solidity::batch_call(&bad).expect("a batch");
    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    assert_eq!(chain.send(account(1), verifier, &call).number(), U256::ZERO);
}

#[test]
fn lists_of_different_length() {
    let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
    let signature = solidity::batch_signature(5);
    let none = call(&signature, &[word(64), word(96), word(0), word(0)]);
    let outcome = chain.send(account(1), verifier, &none);
    outcome.refused("BatchLength(uint256,uint256)", &[word(0), word(0)]);

    let honest = solidity::batch_call(&batch(5, 2)).expect("a good batch");
    // One list of inputs fewer than there are proofs.
    let mut fewer = honest.clone();
    fewer[4 + 32 * (3 + 16)..][..32].copy_from_slice(&word(1));
    let outcome = chain.send(account(1), verifier, &fewer);
    outcome.refused("BatchLength(uint256,uint256)", &[word(2), word(1)]);
    // A call that ends within its lists.
    let outcome = chain.send(account(1), verifier, &honest[..honest.len() - 1]);
    assert_eq!(outcome.end, End::Reverted(Vec::new()));
}

fn moved(point: &Point, by: G1Affine) -> Point {
    let number = |bytes: &[u8]| Fq::from_le_bytes_mod_order(bytes);
    let (x, y) = point.bytes().split_at(32);
    let sum: G1Projective = G1Affine::new(number(x), number(y)) + by;
    let (x, y) = sum
        .into_affine()
        .xy()
        .expect("not the negative of the other");
    let bytes = [x, y]
        .map(|number| number.into_bigint().to_bytes_le())
        .concat();
    Point::from_bytes(CurveId::Bn254, Group::G1, &bytes).expect("coordinates below q")
}
