//! All that the tests deploy, compiled by one run of solc.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use caldera_contracts::{ERA_DISTRIBUTOR, ERA_TOKEN, STATE_REGISTRY};
use caldera_prover::groth16::solidity;
use serde_json::Value;

use crate::statement::Statement;

/// How many public inputs the tests' keys have.
pub(crate) const INPUT_COUNTS: [usize; 7] = [1, 2, 3, 4, 5, 6, 11];

pub(crate) struct Contract {
    pub(crate) code: Vec<u8>,
    pub(crate) runtime_bytes: u64,
    pub(crate) selectors: BTreeMap<String, String>,
}

/// `StateRegistry` with `LIBRARY` for the key of five public inputs, `EraToken`, `EraDistributor`, and
/// `Groth16Verifier.N`, `Groth16BatchVerifier.N` for the key of N; or the mutant that `threats` has put in its place.
pub(crate) fn contract(name: &str) -> &'static Contract {
    static MUTANTS: OnceLock<BTreeMap<String, Contract>> = OnceLock::new();
    static FEW: OnceLock<BTreeMap<String, Contract>> = OnceLock::new();
    static ALL: OnceLock<BTreeMap<String, Contract>> = OnceLock::new();
    let mutants = MUTANTS.get_or_init(|| match std::env::var_os(MUTANTS_FILE) {
        Some(path) => parse(&std::fs::read(path).expect("the file of the mutants")),
        None => BTreeMap::new(),
    });
    if let Some(mutant) = mutants.get(name) {
        return mutant;
    }
    // Most tests need only these, and verifiers of all sizes take solc some seconds.
    let few = FEW_NAMES.contains(&name);
    let contracts = match few {
        true => FEW.get_or_init(|| parse(&solc(&sources(&[5], &FEW_NAMES), None))),
        false => ALL.get_or_init(|| parse(&solc(&sources(&INPUT_COUNTS, &[]), None))),
    };
    contracts
        .get(name)
        .unwrap_or_else(|| panic!("no contract {name}"))
}

/// The sources by name: verifiers for so many inputs, and the others; all, or only those named.
pub(crate) fn sources(input_counts: &[usize], only: &[&str]) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::from(
        [
            ("StateRegistry", STATE_REGISTRY),
            ("EraToken", ERA_TOKEN),
            ("EraDistributor", ERA_DISTRIBUTOR),
        ]
        .map(|(name, text)| (name.to_owned(), text.to_owned())),
    );
    let library = solidity::library(Statement::of(5).verification_key());
    sources.insert(LIBRARY.to_owned(), library.expect("a good key"));
    for inputs in input_counts {
        let statement = Statement::of(*inputs);
        let key = statement.verification_key();
        let single = solidity::verifier(key).expect("a good key");
        let batch = solidity::batch_verifier(key).expect("a good key");
        sources.insert(format!("Groth16Verifier.{inputs}"), single);
        sources.insert(format!("Groth16BatchVerifier.{inputs}"), batch);
    }
    sources.retain(|name, _| only.is_empty() || only.contains(&name.as_str()));
    sources
}

/// Compiles sources by name. Panics with the compiler's words.
pub(crate) fn compile(sources: &BTreeMap<String, String>) -> BTreeMap<String, Contract> {
    parse(&solc(sources, None))
}

/// What compile.mjs says of sources by name, with an option or none. Panics with the compiler's
/// words.
pub(crate) fn solc(sources: &BTreeMap<String, String>, option: Option<&str>) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let solc = folder.join("../tests/interop/node_modules/solc");
    assert!(
        solc.is_dir(),
        "solc is not installed: run `make test`, or `npm ci` in deploy/tests/interop"
    );
    let mut child = Command::new("node")
        .arg(folder.join("compile.mjs"))
        .args(option)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node can be started");
    // The script reads all of its input before it writes, so this cannot deadlock.
    let mut stdin = child.stdin.take().expect("standard input is a pipe");
    let text = serde_json::to_string(sources).expect("a map of strings");
    stdin.write_all(text.as_bytes()).expect("node reads");
    drop(stdin);
    let output = child.wait_with_output().expect("node ends");
    assert!(output.status.success(), "solc refused: its words are above");
    output.stdout
}

fn parse(output: &[u8]) -> BTreeMap<String, Contract> {
    let compiled: BTreeMap<String, Value> =
        serde_json::from_slice(output).expect("compile.mjs prints JSON");
    compiled
        .into_iter()
        .map(|(name, contract)| {
            let code = contract["code"].as_str().expect("code");
            let contract = Contract {
                code: hex::decode(code).expect("hexadecimal"),
                runtime_bytes: contract["runtimeBytes"].as_u64().expect("a size"),
                selectors: serde_json::from_value(contract["selectors"].clone())
                    .expect("a map of strings"),
            };
            (name, contract)
        })
        .collect()
}

/// Names a file with what compile.mjs has said of contracts that are to take the place of others.
pub(crate) const MUTANTS_FILE: &str = "CALDERA_TEST_MUTANTS";

/// By this name `StateRegistry` imports it.
pub(crate) const LIBRARY: &str = "Groth16Library.sol";

const FEW_NAMES: [&str; 5] = [
    "StateRegistry",
    LIBRARY,
    "EraToken",
    "EraDistributor",
    "Groth16Verifier.5",
];
