//! `Groth16Verifier`: every valid proof is accepted, and everything that is changed is refused at a
//! bounded price.

use ark_bn254::{Fq, Fq2, G2Affine};
use ark_ff::{BigInteger, PrimeField};
use caldera_prover::groth16::{solidity, verify};
use num_bigint::BigUint;
use revm::primitives::{Address, U256};

use crate::chain::{Chain, End, account};
use crate::compile::{INPUT_COUNTS, contract};
use crate::statement::{Statement, hashes, modulus_q, modulus_r};

/// A chain with the verifier for a number of inputs.
pub(crate) fn deployed(name: &str, inputs: usize) -> (Chain, Address) {
    let mut chain = Chain::new();
    let code = &contract(&format!("{name}.{inputs}")).code;
    let address = chain.deploy(account(1), code, &[]).address();
    (chain, address)
}

#[test]
fn every_valid_proof_is_accepted() {
    for count in INPUT_COUNTS {
        let statement = Statement::of(count);
        let (mut chain, verifier) = deployed("Groth16Verifier", count);
        let largest = vec![modulus_r() - 1u8; count];
        for (index, inputs) in [
            hashes(count, 1),
            hashes(count, 2),
            vec![BigUint::ZERO; count],
            largest,
        ]
        .iter()
        .enumerate()
        {
            let (proof, public) = statement.prove(inputs, index as u8);
            verify(statement.verification_key(), &proof, &public).expect("a good proof");
            let call = solidity::call(&proof, &public).expect("BN254");
            let outcome = chain.send(account(1), verifier, &call);
            assert_eq!(outcome.number(), U256::ONE, "{count} inputs, proof {index}");
        }
    }
}

#[test]
fn solc_and_we_agree_on_names() {
    for count in INPUT_COUNTS {
        for (name, signature) in [
            ("Groth16Verifier", solidity::signature(count)),
            ("Groth16BatchVerifier", solidity::batch_signature(count)),
        ] {
            let selectors = &contract(&format!("{name}.{count}")).selectors;
            let ours = hex::encode(crate::chain::selector(&signature));
            assert_eq!(selectors.get(&signature), Some(&ours), "{selectors:?}");
        }
    }
}

#[test]
fn a_changed_proof_is_refused() {
    for count in INPUT_COUNTS {
        let (mut chain, verifier) = deployed("Groth16Verifier", count);
        let (proof, public) = Statement::of(count).prove(&hashes(count, 1), 1);
        let call = solidity::call(&proof, &public).expect("BN254");
        let honest = chain.send(account(1), verifier, &call);
        assert_eq!(honest.number(), U256::ONE);
        for (what, words) in changes(&words(&call), count) {
            let call = [&call[..4], &words.concat()].concat();
            let outcome = chain.send(account(1), verifier, &call);
            assert_eq!(outcome.number(), U256::ZERO, "{count} inputs: {what}");
            // A refused point burns what the pairing was given: at most once more its price. What is
            // no number of the field does not get there.
            let bound = match what.starts_with("not reduced") {
                true => honest.gas - 100_000,
                false => honest.gas + 190_000,
            };
            assert!(outcome.gas < bound, "{what}: {}", outcome.gas);
        }
    }
}

#[test]
fn a_call_of_another_length_is_none() {
    let (mut chain, verifier) = deployed("Groth16Verifier", 5);
    let (proof, public) = Statement::of(5).prove(&hashes(5, 1), 1);
    let call = solidity::call(&proof, &public).expect("BN254");
    for shorter in [call.len() - 1, call.len() - 32, 4 + 8 * 32, 4] {
        let outcome = chain.send(account(1), verifier, &call[..shorter]);
        assert_eq!(outcome.end, End::Reverted(Vec::new()), "{shorter} bytes");
    }
    for more in [&[0][..], &[0; 32], &call[4 + 8 * 32..]] {
        let outcome = chain.send(account(1), verifier, &[&call, more].concat());
        assert_eq!(outcome.number(), U256::ZERO, "{} bytes more", more.len());
    }
}

/// Where there is no precompile a call of it succeeds and answers nothing.
#[test]
fn a_chain_without_the_precompiles() {
    let (proof, public) = Statement::of(5).prove(&hashes(5, 1), 1);
    let single = solidity::call(&proof, &public).expect("BN254");
    let batch = solidity::batch_call(&[(proof, public)]).expect("a good batch");
    let texts = crate::compile::sources(&[5], &["Groth16Verifier.5", "Groth16BatchVerifier.5"]);
    let mut without = std::collections::BTreeMap::new();
    for (name, text) in texts {
        for precompile in ["0x06", "0x07", "0x08"] {
            let text = text.replace(&format!(", {precompile}, "), ", 0xffff, ");
            without.insert(format!("{name} without {precompile}"), text);
        }
    }
    for (name, contract) in crate::compile::compile(&without) {
        let mut chain = Chain::new();
        let verifier = chain.deploy(account(1), &contract.code, &[]).address();
        let call = match name.starts_with("Groth16Verifier") {
            true => &single,
            false => &batch,
        };
        let outcome = chain.send(account(1), verifier, call);
        assert_eq!(outcome.number(), U256::ZERO, "{name}");
    }
}

/// Two hundred inputs are the most that a contract is made for, because it would not fit beyond.
#[test]
fn a_contract_of_many_inputs_fits() {
    let mut key = Statement::of(5).verification_key().clone();
    key.ic.resize(201, key.ic[1].clone());
    let sources = [(
        "Most".to_owned(),
        solidity::verifier(&key).expect("a good key"),
    )];
    let compiled = crate::compile::compile(&sources.into());
    assert!(
        compiled["Most"].runtime_bytes <= 24_576,
        "{}",
        compiled["Most"].runtime_bytes
    );
    let most = &contract("Groth16BatchVerifier.11");
    assert!(most.runtime_bytes <= 24_576);
}

/// What is done to the words of a call, and what comes of it.
pub(crate) fn changes(words: &[[u8; 32]], count: usize) -> Vec<(String, Vec<[u8; 32]>)> {
    let (q, r) = (modulus_q(), modulus_r());
    let mut changes = Vec::new();
    let mut change = |what: String, change: &dyn Fn(&mut Vec<[u8; 32]>)| {
        let mut changed = words.to_vec();
        change(&mut changed);
        assert_ne!(changed, words, "{what}");
        changes.push((what, changed));
    };
    let plus =
        |word: &[u8; 32], number: &BigUint| big_endian(&(BigUint::from_bytes_be(word) + number));
    for i in 0..8 {
        change(format!("coordinate {i} + 1"), &|words| {
            words[i] = plus(&words[i], &1u8.into())
        });
        change(format!("not reduced: coordinate {i} + q"), &|words| {
            words[i] = plus(&words[i], &q)
        });
        change(format!("not reduced: coordinate {i} = q"), &|words| {
            words[i] = big_endian(&q)
        });
        change(format!("coordinate {i} zero"), &|words| words[i] = [0; 32]);
        change(format!("not reduced: coordinate {i} all ones"), &|words| {
            words[i] = [255; 32]
        });
    }
    for (name, range) in [("A", 0..2), ("B", 2..6), ("C", 6..8), ("A, B, C", 0..8)] {
        change(format!("{name} zero"), &|words| {
            words[range.clone()].fill([0; 32])
        });
    }
    for y in [1, 7] {
        change(format!("the point of word {y} negated"), &|words| {
            words[y] = big_endian(&(&q - BigUint::from_bytes_be(&words[y])));
        });
    }
    change("A and C swapped".into(), &|words| {
        words.swap(0, 6);
        words.swap(1, 7);
    });
    change("the halves of B as in proof.json".into(), &|words| {
        words.swap(2, 3);
        words.swap(4, 5);
    });
    change("B outside the subgroup".into(), &|words| {
        words[2..6].copy_from_slice(&outside_the_subgroup());
    });
    for i in 0..count {
        change(format!("input {i} + 1"), &|words| {
            words[8 + i] = plus(&words[8 + i], &1u8.into())
        });
        // The same field element, spelt otherwise.
        change(format!("not reduced: input {i} + r"), &|words| {
            words[8 + i] = plus(&words[8 + i], &r)
        });
        change(format!("not reduced: input {i} + 4r"), &|words| {
            words[8 + i] = plus(&words[8 + i], &(&r * 4u8))
        });
    }
    if count > 1 {
        change("inputs 0 and 1 swapped".into(), &|words| words.swap(8, 9));
    }
    changes
}

/// A point on the twist, which has a cofactor: nearly all points are outside.
fn outside_the_subgroup() -> [[u8; 32]; 4] {
    let point = (1u64..)
        .filter_map(|x| {
            G2Affine::get_point_from_x_unchecked(Fq2::new(Fq::from(x), Fq::from(0)), false)
        })
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .expect("there are more than 2^254");
    [point.x.c1, point.x.c0, point.y.c1, point.y.c0].map(|number| {
        let bytes = number.into_bigint().to_bytes_be();
        bytes.try_into().expect("four limbs")
    })
}

pub(crate) fn words(call: &[u8]) -> Vec<[u8; 32]> {
    let words = call[4..].chunks_exact(32);
    words
        .map(|word| word.try_into().expect("32 bytes"))
        .collect()
}

pub(crate) fn big_endian(number: &BigUint) -> [u8; 32] {
    let digits = number.to_bytes_be();
    let mut bytes = [0; 32];
    bytes[32 - digits.len()..].copy_from_slice(&digits);
    bytes
}
