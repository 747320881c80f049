//! What it all costs, as whole transactions with their 21,000 and their call data, under the rules
//! of Osaka. Proofs, keys and accounts are drawn from fixed seeds, so a figure is the same to the last unit
//! each time; it changes when a contract, the compiler or the rules do, and then somebody has to say
//! that this is meant:
//!
//! ```text
//! CALDERA_GAS_ACCEPT=1 cargo test -p caldera-contracts gas
//! ```

use std::fmt::Write;
use std::path::Path;

use caldera_prover::groth16::solidity;
use revm::primitives::U256;

use crate::batch::batch;
use crate::chain::{Chain, account};
use crate::compile::{INPUT_COUNTS, contract};
use crate::era::{PUBLISHER, Payments, tree};
use crate::registry::{AUTHORITY, ISSUER, World};
use crate::verifier::deployed;

#[test]
fn gas_is_what_the_table_says() {
    let measured = measure();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = folder.join("gas.tsv");
    let table = format_table(&measured);
    if std::env::var_os("CALDERA_GAS_ACCEPT").is_some() {
        std::fs::write(&path, &table).expect("the table can be written");
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    let mut differences = String::new();
    for (name, gas) in &measured {
        let before = recorded
            .lines()
            .find_map(|line| line.strip_prefix(name.as_str())?.strip_prefix('\t'));
        match before.and_then(|before| before.parse::<u64>().ok()) {
            Some(before) if before == *gas => {}
            Some(before) if before < *gas => {
                let _ = writeln!(differences, "{name}: {before} has risen to {gas}");
            }
            Some(before) => {
                let _ = writeln!(differences, "{name}: {before} has fallen to {gas}");
            }
            None => {
                let _ = writeln!(differences, "{name}: {gas} is not recorded");
            }
        }
    }
    assert!(
        differences.is_empty() && recorded == table,
        "{differences}deploy/contracts/gas.tsv says otherwise. If it is meant:\n\
         CALDERA_GAS_ACCEPT=1 cargo test -p caldera-contracts gas"
    );

    let document = folder.join("../../docs/contracts.md");
    let document = std::fs::read_to_string(document).expect("docs/contracts.md");
    for (name, gas) in &measured {
        let row = format!("| {name} | {} |", thousands(*gas));
        assert!(
            document.contains(&row),
            "docs/contracts.md has no row `{row}`"
        );
    }
}

/// The bars that were set before anything was built.
#[test]
fn gas_is_below_its_bars() {
    let measured = measure();
    let gas = |name: &str| {
        let found = measured.iter().find(|(found, _)| found == name);
        found.unwrap_or_else(|| panic!("{name} was not measured")).1
    };
    for (name, bar) in [
        ("verify one proof of 5 inputs", 250_000),
        ("verify 8 proofs of 5 inputs at once, a proof", 85_000),
        ("reuse", 45_000),
        ("reuse in a replaced root's window", 45_000),
    ] {
        assert!(gas(name) <= bar, "{name}: {}, the bar is {bar}", gas(name));
    }
    // Five uses of a state that is verified once, against verifying it five times.
    let uses = gas("present") + 4 * gas("reuse");
    let each = 5 * gas("verify one proof of 5 inputs");
    assert!(100 * uses <= 35 * each, "{uses} of {each}");
}

fn measure() -> Vec<(String, u64)> {
    let mut table = Vec::new();
    let mut put = |name: &str, gas: u64| table.push((name.to_owned(), gas));

    for inputs in INPUT_COUNTS {
        let (mut chain, verifier) = deployed("Groth16Verifier", inputs);
        let (proof, public) = batch(inputs, 1).remove(0);
        let call = solidity::call(&proof, &public).expect("BN254");
        let outcome = chain.send(account(1), verifier, &call);
        assert_eq!(outcome.number(), U256::ONE);
        put(&format!("verify one proof of {inputs} inputs"), outcome.gas);
    }
    let proofs = batch(5, 32);
    for count in [1, 2, 4, 8, 16, 32] {
        let (mut chain, verifier) = deployed("Groth16BatchVerifier", 5);
        let call = solidity::batch_call(&proofs[..count]).expect("a good batch");
        let outcome = chain.send(account(1), verifier, &call);
        assert_eq!(outcome.number(), U256::ONE);
        let name = format!("verify {count} proofs of 5 inputs at once, a proof");
        put(&name, outcome.gas.div_ceil(count as u64));
    }

    let mut world = World::new();
    let granted = world.grant(1, 8);
    let outcome = world.present(&granted);
    outcome.returned();
    put("present", outcome.gas);
    let outcome = world.reuse(&granted, 1, &granted.chain[1]);
    outcome.returned();
    put("reuse", outcome.gas);
    let outcome = world.replace_issuers(AUTHORITY, 50);
    outcome.returned();
    put("replace the issuers' root", outcome.gas);
    let outcome = world.replace_revocation(AUTHORITY, 51);
    outcome.returned();
    put("replace the revocation root", outcome.gas);
    let outcome = world.reuse(&granted, 2, &granted.chain[2]);
    outcome.returned();
    put("reuse in a replaced root's window", outcome.gas);
    let outcome = world.set_revoker(AUTHORITY, ISSUER, true);
    outcome.returned();
    put("let an issuer revoke", outcome.gas);
    let outcome = world.replace_revocation(ISSUER, 52);
    outcome.returned();
    put(
        "replace the revocation root by an issuer's key",
        outcome.gas,
    );

    let mut payments = Payments::new();
    let tree = tree(1_000);
    let outcome = payments.publish_tree(1, &tree);
    outcome.returned();
    put("publish an epoch", outcome.gas);
    for (index, name) in [
        (0, "claim one of 1,000, the first of 256"),
        (1, "claim one of 1,000, another of these"),
    ] {
        let outcome = payments.claim(1, &tree, index);
        outcome.returned();
        put(name, outcome.gas);
    }

    let mut chain = Chain::new();
    for inputs in [5, 11] {
        for name in ["Groth16Verifier", "Groth16BatchVerifier"] {
            let name = format!("{name}.{inputs}");
            let outcome = chain.deploy(account(PUBLISHER), &contract(&name).code, &[]);
            outcome.returned();
            put(
                &format!(
                    "deploy {} of {inputs} inputs",
                    name.split('.').next().unwrap_or_default()
                ),
                outcome.gas,
            );
        }
    }
    table
}

fn format_table(measured: &[(String, u64)]) -> String {
    let mut text = String::from(HEADER);
    for (name, gas) in measured {
        let _ = writeln!(text, "{name}\t{gas}");
    }
    text
}

/// 1234567 as 1,234,567.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(|group| std::str::from_utf8(group).expect("digits"))
        .collect();
    groups.join(",")
}

const HEADER: &str = "# Gas of whole transactions: solc 0.8.37 (optimizer, 1,000,000 runs), revm 43, rules of Osaka.\n\
                      # Written by CALDERA_GAS_ACCEPT=1 cargo test -p caldera-contracts gas\n";
