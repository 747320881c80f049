//! Is each line that stops something needed, and would the tests notice if it were gone? Each is
//! taken out of a contract, or turned into what a hasty author might have written; the mutants are
//! compiled in one run, and the test that tries the threat is run against each, in a process of its own, and
//! has to fail.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::compile::{INPUT_COUNTS, LIBRARY, MUTANTS_FILE, solc, sources};

/// Contract, what is taken out, what is put there, and the test that fails.
type Line = (&'static str, &'static str, &'static str, &'static str);

const REGISTRY: &str = "StateRegistry";
const DISTRIBUTOR: &str = "EraDistributor";
const VERIFIER: &str = "Groth16Verifier.5";
const BATCH: &str = "Groth16BatchVerifier.5";

#[rustfmt::skip]
const LINES: &[Line] = &[
    // Presentation.
    (REGISTRY, "requireOpen(granted.verifier, granted.request);", "", "registry::a_request_that_is_not_open"),
    (REGISTRY, "if (block.timestamp >= granted.expiry) revert GrantExpired(granted.expiry);", "", "registry::after_the_expiry"),
    (REGISTRY, "live(issuersRoots, issuersIndex, issuersWindow),", "issuersRoots.byIndex[issuersIndex].word >> 2,", "registry::windows_begin_when_a_root_is_replaced"),
    (REGISTRY, "live(revocationRoots, revocationIndex, revocationWindow),", "revocationRoots.byIndex[revocationIndex].word >> 2,", "registry::a_stale_revocation_root"),
    (REGISTRY, "live(issuersRoots, issuersIndex, issuersWindow),", "live(issuersRoots, 0, issuersWindow),", "registry::windows_begin_when_a_root_is_replaced"),
    (REGISTRY, "live(revocationRoots, revocationIndex, revocationWindow),", "live(revocationRoots, 0, revocationWindow),", "registry::a_stale_revocation_root"),
    (REGISTRY, "if (records[nullifier] != 0) revert NullifierUsed(nullifier);", "", "registry::a_nullifier_counts_once"),
    (REGISTRY, "if (records[nullifier] != 0) revert NullifierUsed(nullifier);", "", "registry::a_proof_that_is_made_anew_counts_once"),
    (REGISTRY, "records[nullifier] = recordOf(msg.sender, granted.verifier, granted.request, state);", "state;", "registry::a_nullifier_counts_once"),
    (REGISTRY, "granted.challenge,\n                    nullifier\n", "granted.challenge,\n                    nullifier - nullifier\n", "registry::a_grant_is_presented_once"),
    (REGISTRY, "if (!Groth16Library.holds(proof, inputs))", "if (inputs[0] == R)", "registry::a_proof_of_something_else"),
    (REGISTRY, "uint256 grant = grantOf(msg.sender, granted, nullifier);", "uint256 grant = grantOf(address(uint160(uint256(keccak256(hex\"1e\")))), granted, nullifier);", "registry::a_proof_of_something_else"),
    // Reuse.
    (REGISTRY, "if (record == 0) revert NotPresented(nullifier);", "", "registry::what_is_not_as_it_was_recorded"),
    (REGISTRY, "if (recordOf(msg.sender, to, request, state) != record) revert NotAsRecorded(nullifier);", "state;", "registry::a_replayed_or_forged_preimage"),
    (REGISTRY, "link(shown >> 96) << 96", "shown >> 96 << 96", "registry::a_replayed_or_forged_preimage"),
    (REGISTRY, "<< 96 | uint96(shown);", "<< 96 | uint80(shown) | uint256(3) << 80;", "registry::a_presentation_and_all_of_its_uses"),
    (REGISTRY, "if (usesLeft == 0) revert NoUsesLeft(nullifier);", "", "registry::a_chain_is_no_longer_than_its_uses"),
    (REGISTRY, "--usesLeft;", "", "registry::a_presentation_and_all_of_its_uses"),
    (REGISTRY, "shown - USE);", "shown);", "registry::a_presentation_and_all_of_its_uses"),
    (REGISTRY, "recordOf(msg.sender, to, request, shown - USE);", "recordOf(msg.sender, to, request, state - USE);", "registry::a_replayed_or_forged_preimage"),
    (REGISTRY, "if (block.timestamp >= expiry)", "if (expiry == 0)", "registry::after_the_expiry"),
    (REGISTRY, "live(revocationRoots, uint40(shown), revocationWindow);", "", "registry::a_stale_revocation_root"),
    (REGISTRY, "requireOpen(to, request);", "", "registry::a_request_that_is_not_open"),
    (REGISTRY, "abi.encode(sender, to, request, state)", "abi.encode(sender == address(0), to, request, state)", "registry::another_sender"),
    (REGISTRY, "abi.encode(sender, to, request, state)", "abi.encode(sender, to == address(0), request, state)", "registry::what_is_not_as_it_was_recorded"),
    (REGISTRY, "abi.encode(sender, to, request, state)", "abi.encode(sender, to, request == 0, state)", "registry::what_is_not_as_it_was_recorded"),
    (REGISTRY, "abi.encode(sender, to, request, state)", "abi.encode(sender, to, request, state >> 96 << 96)", "registry::what_is_not_as_it_was_recorded"),
    // Roots: a window from creation, a window without end, an index beyond the list.
    (REGISTRY, "            roots.byIndex[index - 1].replaced = block.timestamp;\n        }", "        }\n        roots.byIndex[index].replaced = block.timestamp;", "registry::windows_begin_when_a_root_is_replaced"),
    (REGISTRY, "roots.byIndex[index - 1].word |= REPLACED;", "", "registry::a_stale_revocation_root"),
    (REGISTRY, "if (block.timestamp - replaced >= window)", "if (replaced == 0 && window == 0)", "registry::a_stale_revocation_root"),
    (REGISTRY, "if (word == 0) revert UnknownRoot(index);", "", "registry::a_root_that_never_was"),
    (REGISTRY, "if (root.word == 0) revert UnknownRoot(index);", "", "registry::roots_can_be_looked_up"),
    (REGISTRY, "if (value >= R) revert NotInField(value);", "", "registry::a_root_that_never_was"),
    // Roles and requests.
    (REGISTRY, "requireAuthority();\n        authorityOffered", "authorityOffered", "registry::only_the_authority_replaces_roots_and_hands_itself_on"),
    (REGISTRY, "requireAuthority();\n        emit IssuersReplaced", "emit IssuersReplaced", "registry::only_the_authority_replaces_roots_and_hands_itself_on"),
    (REGISTRY, "if (msg.sender != authority && !revokers[msg.sender]) revert NotAuthority(msg.sender);", "", "registry::only_the_authority_replaces_roots_and_hands_itself_on"),
    (REGISTRY, "msg.sender != authority && !revokers[msg.sender]", "msg.sender != authority", "registry::an_issuers_key_replaces_the_revocation_root_and_nothing_else"),
    (REGISTRY, "requireAuthority();\n        revokers[issuer]", "revokers[issuer]", "registry::an_issuers_key_replaces_the_revocation_root_and_nothing_else"),
    (REGISTRY, "revokers[issuer] = may;", "if (may) revokers[issuer] = may;", "registry::an_issuers_key_replaces_the_revocation_root_and_nothing_else"),
    (REGISTRY, "if (msg.sender != authorityOffered) revert NotOffered(msg.sender);", "", "registry::only_the_authority_replaces_roots_and_hands_itself_on"),
    (REGISTRY, "authorityOffered = address(0);", "", "registry::only_the_authority_replaces_roots_and_hands_itself_on"),
    (REGISTRY, "requests[msg.sender][request] = closes;", "requests[address(uint160(uint256(keccak256(hex\"14\"))))][request] = closes;", "registry::a_request_that_is_not_open"),
    (REGISTRY, "delete requests[msg.sender][request];", "delete requests[address(uint160(uint256(keccak256(hex\"14\"))))][request];", "registry::a_request_that_is_not_open"),
    (REGISTRY, "if (request >= R) revert NotInField(request);", "", "registry::a_request_that_is_not_open"),
    (REGISTRY, "if (closes <= block.timestamp) revert InThePast(closes);", "", "registry::a_request_that_is_not_open"),
    (REGISTRY, "if (authority_ == address(0)) revert NoAuthority();", "", "registry::a_registry_without_an_authority"),
    // Somebody who is told, and could call back.
    (REGISTRY, "--usesLeft;", "--usesLeft;\n        (bool told,) = to.call(\"\");\n        told;", "registry::nothing_is_called_that_could_call_back"),
    // Claims.
    (DISTRIBUTOR, "if (word & bit != 0) revert AlreadyClaimed(epoch, index);", "", "era::every_party_is_paid_once"),
    (DISTRIBUTOR, "claims[epoch][index >> 8] = word | bit;", "", "era::every_party_is_paid_once"),
    (DISTRIBUTOR, "word | bit;", "bit;", "era::every_party_is_paid_once"),
    (DISTRIBUTOR, "if (node != found.root) revert NotInTree(epoch, index);", "", "era::what_is_not_in_the_tree"),
    (DISTRIBUTOR, "keccak256(bytes.concat(keccak256(abi.encode(index, account, uint256(amount)))))", "keccak256(abi.encode(index, account, uint256(amount)))", "era::an_inner_node_is_no_leaf"),
    (DISTRIBUTOR, "if (claimed > found.total) revert EpochOverdrawn(epoch, found.total, claimed);", "", "era::an_epoch_pays_no_more_than_its_sum"),
    (DISTRIBUTOR, "epochs[epoch].claimed = uint128(claimed);", "", "era::an_epoch_pays_no_more_than_its_sum"),
    (DISTRIBUTOR, "if (msg.sender != publisher) revert NotPublisher(msg.sender);\n        if (root", "if (root", "era::publishing_is_the_publishers_and_happens_once"),
    (DISTRIBUTOR, "if (epochs[epoch].root != 0) revert AlreadyPublished(epoch);", "", "era::publishing_is_the_publishers_and_happens_once"),
    (DISTRIBUTOR, "if (msg.sender != publisherOffered) revert NotOffered(msg.sender);", "", "era::publishing_is_the_publishers_and_happens_once"),
    (DISTRIBUTOR, "if (found.root == 0) revert NotPublished(epoch);", "", "era::a_late_claim_is_paid"),
    (DISTRIBUTOR, "claims[epoch][index >> 8] = word | bit;", "if (!token.transfer(account, 0)) revert TransferFailed();\n        claims[epoch][index >> 8] = word | bit;", "era::a_token_that_calls_back_gets_nothing_twice"),
    // Verifiers.
    (VERIFIER, "and(lt(scalar, R), staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40))", "staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40)", "verifier::a_changed_proof_is_refused"),
    (VERIFIER, "staticcall(PAIR_GAS, 0x08", "staticcall(gas(), 0x08", "verifier::a_changed_proof_is_refused"),
    (LIBRARY, "and(lt(scalar, R), staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40))", "staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40)", "registry::a_nullifier_counts_once"),
    (LIBRARY, "staticcall(PAIR_GAS, 0x08", "staticcall(gas(), 0x08", "registry::a_malformed_proof_records_nothing"),
    (LIBRARY, "mload(add(inputs, 0x60))", "mload(add(inputs, 0x40))", "registry::a_proof_of_something_else"),
    (VERIFIER, "let fine := lt(calldataload(a), Q)", "let fine := 1", "verifier::a_changed_proof_is_refused"),
    (VERIFIER, "fine := and(fine, lt(calldataload(add(c, 0x20)), Q))", "", "verifier::a_changed_proof_is_refused"),
    (VERIFIER, "if (msg.data.length != 420) return false;", "", "verifier::a_call_of_another_length_is_none"),
    (BATCH, "fine := and(fine, reduced(proof))", "", "batch::each_word_counts"),
    (BATCH, "fine := and(fine, lt(x, R))", "", "batch::each_word_counts"),
    (BATCH, "if (proofs.length == 0 || proofs.length != inputs.length)", "if (proofs.length == 0)", "batch::lists_of_different_length"),
    (BATCH, "mstore(sums, addmod(mload(sums), k, R))", "mstore(sums, 1)", "batch::each_word_counts"),
];

#[test]
fn each_line_is_needed() {
    let texts = sources(&INPUT_COUNTS, &[]);
    let mut mutants = BTreeMap::new();
    for (index, (contract, from, to, test)) in LINES.iter().enumerate() {
        let text = &texts[*contract];
        assert!(
            text.contains(from),
            "{contract} has no line `{from}`, which {test} needs"
        );
        let mutant = text.replacen(from, to, 1);
        if *contract == LIBRARY {
            // What is compiled with it is what the tests deploy.
            let name = format!("{index}.sol");
            let registry = texts[REGISTRY].replace(LIBRARY, &name);
            mutants.insert(index.to_string(), registry);
            mutants.insert(name, mutant);
        } else {
            mutants.insert(index.to_string(), mutant);
        }
    }
    mutants.insert(LIBRARY.to_owned(), texts[LIBRARY].clone());
    let compiled: BTreeMap<String, Value> =
        serde_json::from_slice(&solc(&mutants, Some("--mutants")))
            .expect("compile.mjs prints JSON");
    // What the tests need besides, so that no process has to compile anything.
    let rest: BTreeMap<String, Value> =
        serde_json::from_slice(&solc(&texts, None)).expect("compile.mjs prints JSON");

    let folder = tempfile::tempdir().expect("a folder");
    let run = |name: &str, contracts: &BTreeMap<String, Value>, test: &str| {
        let file = folder.path().join(name);
        let text = serde_json::to_vec(contracts).expect("JSON");
        std::fs::write(&file, text).expect("a file");
        Command::new(std::env::current_exe().expect("a running test has a path"))
            .args([test, "--exact"])
            .env(MUTANTS_FILE, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("the tests can be run again")
    };
    let mut unnoticed = String::new();
    for (index, (contract, from, _, test)) in LINES.iter().enumerate() {
        let mut contracts = rest.clone();
        let deployed = if *contract == LIBRARY {
            REGISTRY
        } else {
            *contract
        };
        contracts.insert(deployed.to_owned(), compiled[&index.to_string()].clone());
        match run(&index.to_string(), &contracts, test).code() {
            // What libtest ends with when a test has failed.
            Some(101) => {}
            other => unnoticed += &format!("{test} ended with {other:?} without `{from}`\n"),
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed}");
    // With nothing taken out each of them passes, or the above would say nothing.
    let mut tests: Vec<&str> = LINES.iter().map(|(_, _, _, test)| *test).collect();
    tests.sort_unstable();
    tests.dedup();
    for test in tests {
        let status = run("none", &rest, test);
        assert!(status.success(), "{test}: {status}");
    }
}
