//! `EraDistributor` with `EraToken`: each claim once, to its party, and no epoch more than its sum.

use caldera_tests::era::{Box, FEE, id, units};
use caldera_tests::programs::run_caldera;
use revm::primitives::{Address, U256};
use serde_json::{Value, json};

use crate::chain::{Chain, End, Outcome, account, address_word, call, keccak, word};
use crate::compile::contract;

pub(crate) const PUBLISHER: u8 = 40;
pub(crate) const STRANGER: u8 = 66;

pub(crate) struct Payments {
    pub(crate) chain: Chain,
    token: Address,
    pub(crate) distributor: Address,
}

/// A tree by docs/ledger.md, written down a second time: who gets how much, and all levels.
pub(crate) struct Tree {
    payouts: Vec<(Address, u64)>,
    levels: Vec<Vec<[u8; 32]>>,
}

impl Tree {
    pub(crate) fn new(payouts: Vec<(Address, u64)>) -> Tree {
        let leaves = payouts
            .iter()
            .enumerate()
            .map(|(index, (account, amount))| {
                let words = [word(index as u64), address_word(*account), word(*amount)];
                keccak(&keccak(&words.concat()))
            });
        let mut levels = vec![leaves.collect::<Vec<_>>()];
        while levels.last().unwrap().len() > 1 {
            let level = levels.last().unwrap().chunks(2).map(|nodes| match nodes {
                [a, b] => keccak(&[a.min(b).as_slice(), a.max(b)].concat()),
                [odd] => *odd,
                _ => unreachable!("chunks of two"),
            });
            levels.push(level.collect());
        }
        Tree { payouts, levels }
    }

    fn root(&self) -> [u8; 32] {
        self.levels.last().unwrap()[0]
    }

    fn path(&self, index: usize) -> Vec<[u8; 32]> {
        let below = self.levels.iter().enumerate();
        below
            .filter_map(|(height, level)| level.get((index >> height) ^ 1).copied())
            .collect()
    }

    fn total(&self) -> u64 {
        self.payouts.iter().map(|(_, amount)| amount).sum()
    }
}

impl Payments {
    pub(crate) fn new() -> Payments {
        Payments::of(1_000_000)
    }

    /// Of a token of which there is so much; nine tenths are approved.
    fn of(supply: u64) -> Payments {
        let mut chain = Chain::new();
        let code = &contract("EraToken").code;
        let token = chain
            .deploy(account(PUBLISHER), code, &word(supply))
            .address();
        let arguments = [address_word(token), address_word(account(PUBLISHER))];
        let code = &contract("EraDistributor").code;
        let distributor = chain
            .deploy(account(PUBLISHER), code, &arguments.concat())
            .address();
        let approve = call(
            "approve(address,uint256)",
            &[address_word(distributor), word(supply / 10 * 9)],
        );
        chain.send(account(PUBLISHER), token, &approve).returned();
        Payments {
            chain,
            token,
            distributor,
        }
    }

    pub(crate) fn publish(&mut self, from: u8, epoch: u64, root: [u8; 32], total: u64) -> Outcome {
        let call = call(PUBLISH, &[word(epoch), root.to_vec(), word(total)]);
        self.chain.send(account(from), self.distributor, &call)
    }

    pub(crate) fn publish_tree(&mut self, epoch: u64, tree: &Tree) -> Outcome {
        self.publish(PUBLISHER, epoch, tree.root(), tree.total())
    }

    pub(crate) fn claim(&mut self, epoch: u64, tree: &Tree, index: usize) -> Outcome {
        let (account, amount) = tree.payouts[index];
        self.claim_as(epoch, index as u64, account, amount, &tree.path(index))
    }

    fn claim_as(
        &mut self,
        epoch: u64,
        index: u64,
        to: Address,
        amount: u64,
        path: &[[u8; 32]],
    ) -> Outcome {
        let call = call(
            CLAIM,
            &[
                word(epoch),
                word(index),
                address_word(to),
                word(amount),
                word(5 * 32),
                word(path.len() as u64),
                path.concat(),
            ],
        );
        self.chain.send(account(STRANGER), self.distributor, &call)
    }

    fn balance(&mut self, of: Address) -> U256 {
        let call = call("balanceOf(address)", &[address_word(of)]);
        self.chain.send(account(1), self.token, &call).number()
    }
}

const PUBLISH: &str = "publish(uint256,bytes32,uint128)";
const CLAIM: &str = "claim(uint256,uint256,address,uint128,bytes32[])";

/// So many parties; number i gets 10 + i.
pub(crate) fn tree(parties: u64) -> Tree {
    let payouts = (0..parties).map(|party| {
        let hash = keccak(&word(party));
        (Address::from_slice(&hash[..20]), 10 + party)
    });
    Tree::new(payouts.collect())
}

/// What a box has settled and `caldera era export` has written is what the contract pays.
#[test]
fn what_a_box_settles_is_claimed() {
    let it = Box::start(1);
    let exchange = it.service.client("exchange");
    let payer = it.party("exchange", "user", 10, 4 * FEE);
    it.party("exchange", "developer", 11, 0);
    let submission = it.circuit(&exchange);
    let job = exchange.call("prover_submitV1", submission)["job"].clone();
    assert_eq!(exchange.ended(&job)["state"], "proved");
    let paid = |epochs: &Value| {
        let closed = epochs["closed"].as_array().unwrap();
        let paid = closed.iter().find(|epoch| units(&epoch["users"]) > 0);
        paid.map(|epoch| epoch["epoch"].as_u64().unwrap())
    };
    let epochs = it
        .operator
        .wait("era_epochV1", json!({}), |it| paid(it).is_some());
    let epoch = paid(&epochs).unwrap();
    let settle = json!({"id": id(1), "epoch": epoch});
    it.operator.call("era_settleV1", settle);
    // It is not to be had twice.
    let claim = json!({"id": id(2), "party": payer});
    assert!(exchange.try_call("era_claimV1", claim).is_err());

    let (number, data) = (epoch.to_string(), it.data());
    let arguments = ["era", "export", &number, "--data"].map(str::as_ref);
    let said = run_caldera(arguments.into_iter().chain([data.as_os_str()])).expect_success();
    let export: Value = serde_json::from_str(&said).unwrap();
    let bytes = |value: &Value| {
        let digits = value.as_str().unwrap().strip_prefix("0x").unwrap();
        hex::decode(digits).unwrap()
    };
    let hash = |value: &Value| -> [u8; 32] { bytes(value).try_into().unwrap() };
    let amount = |value: &Value| u64::try_from(units(value)).unwrap();
    let mut payments = Payments::of(1 << 60);
    let (root, total) = (hash(&export["root"]), amount(&export["total"]));
    payments.publish(PUBLISHER, epoch, root, total).returned();
    let claims = export["claims"].as_array().unwrap();
    assert_eq!(claims.len(), 3, "{export}");
    for claim in claims {
        let to = Address::from_slice(&bytes(&claim["account"]));
        let (index, units) = (claim["index"].as_u64().unwrap(), amount(&claim["amount"]));
        let path: Vec<_> = claim["path"].as_array().unwrap().iter().map(hash).collect();
        let once = payments.claim_as(epoch, index, to, units, &path);
        once.returned();
        assert_eq!(payments.balance(to), U256::from(units));
        let twice = payments.claim_as(epoch, index, to, units, &path);
        let told = [word(epoch), word(index)];
        twice.refused("AlreadyClaimed(uint256,uint256)", &told);
    }
    let distributor = payments.distributor;
    assert_eq!(
        payments.balance(distributor),
        U256::ZERO,
        "to the last unit"
    );
}

#[test]
fn every_party_is_paid_once() {
    for parties in [1, 2, 3, 7, 300] {
        let mut payments = Payments::new();
        let tree = tree(parties);
        payments.publish_tree(1, &tree).returned();
        for index in 0..parties as usize {
            let (party, amount) = tree.payouts[index];
            payments.claim(1, &tree, index).returned();
            assert_eq!(payments.balance(party), U256::from(amount));
        }
        for index in 0..parties as usize {
            payments.claim(1, &tree, index).refused(
                "AlreadyClaimed(uint256,uint256)",
                &[word(1), word(index as u64)],
            );
        }
        let distributor = payments.distributor;
        assert_eq!(
            payments.balance(distributor),
            U256::ZERO,
            "to the last unit"
        );
    }
}

/// Claims do not lapse when later epochs are published, and epochs do not mix.
#[test]
fn a_late_claim_is_paid() {
    let mut payments = Payments::new();
    let (first, second) = (tree(4), tree(5));
    payments.publish_tree(1, &first).returned();
    payments.publish_tree(2, &second).returned();
    payments.claim(2, &second, 0).returned();
    payments.chain.pass(10 * 365 * 86_400);
    payments.claim(1, &first, 0).returned();
    let party = first.payouts[0].0;
    assert_eq!(payments.balance(party), U256::from(20));
    // A leaf of one epoch is none of another.
    payments
        .claim(1, &second, 1)
        .refused("NotInTree(uint256,uint256)", &[word(1), word(1)]);
    payments
        .claim(3, &first, 1)
        .refused("NotPublished(uint256)", &[word(3)]);
}

#[test]
fn what_is_not_in_the_tree() {
    let mut payments = Payments::new();
    let tree = tree(8);
    payments.publish_tree(1, &tree).returned();
    let (party, amount) = tree.payouts[2];
    let path = tree.path(2);
    let mut longer = path.clone();
    longer.push([0; 32]);
    let mut swapped = path.clone();
    swapped.swap(0, 1);
    for (index, to, amount, path) in [
        (2, party, amount + 1, &path),
        (2, account(STRANGER), amount, &path),
        (3, party, amount, &path),
        (2 + 256, party, amount, &path),
        (2, party, amount, &longer),
        (2, party, amount, &swapped),
        (2, party, amount, &path[1..].to_vec()),
        (2, party, amount, &Vec::new()),
    ] {
        payments
            .claim_as(1, index, to, amount, path)
            .refused("NotInTree(uint256,uint256)", &[word(1), word(index)]);
    }
    payments.claim(1, &tree, 2).returned();
}

/// An inner node, whose two children an attacker could try to read as a leaf's words: a node is one
/// hash of 64 bytes, a leaf the hash of a hash, so the root of a tree is never the hash of a leaf's
/// 96 bytes, nor a leaf a node.
#[test]
fn an_inner_node_is_no_leaf() {
    let tree = tree(4);
    for level in &tree.levels[1..] {
        for node in level {
            assert!(!tree.levels[0].contains(node));
        }
    }
    // The hash of a leaf's words, once: what a tree without the double hash would hold.
    let (party, amount) = tree.payouts[0];
    let once = keccak(&[word(0), address_word(party), word(amount)].concat());
    let mut payments = Payments::new();
    payments.publish(PUBLISHER, 1, once, 100).returned();
    payments
        .claim_as(1, 0, party, amount, &[])
        .refused("NotInTree(uint256,uint256)", &[word(1), word(0)]);
}

/// A root that promises more than was paid in cannot touch another epoch's money.
#[test]
fn an_epoch_pays_no_more_than_its_sum() {
    let mut payments = Payments::new();
    let (good, greedy) = (tree(3), tree(3));
    payments.publish_tree(1, &good).returned();
    payments
        .publish(PUBLISHER, 2, greedy.root(), greedy.total() - 1)
        .returned();
    payments.claim(2, &greedy, 0).returned();
    payments.claim(2, &greedy, 1).returned();
    payments.claim(2, &greedy, 2).refused(
        "EpochOverdrawn(uint256,uint128,uint256)",
        &[word(2), word(32), word(33)],
    );
    for index in 0..3 {
        payments.claim(1, &good, index).returned();
    }
    // The largest amount there is does not wrap around.
    let party = account(50);
    let leaf = [
        word(0),
        address_word(party),
        [vec![0; 16], vec![255; 16]].concat(),
    ];
    let root = keccak(&keccak(&leaf.concat()));
    payments.publish(PUBLISHER, 3, root, 5).returned();
    let claim = call(CLAIM, &[word(3), leaf.concat(), word(5 * 32), word(0)]);
    let outcome = payments
        .chain
        .send(account(1), payments.distributor, &claim);
    let largest = [vec![0; 16], vec![255; 16]].concat();
    outcome.refused(
        "EpochOverdrawn(uint256,uint128,uint256)",
        &[word(3), word(5), largest],
    );
}

#[test]
fn publishing_is_the_publishers_and_happens_once() {
    let mut payments = Payments::new();
    let tree = tree(3);
    let stranger = [address_word(account(STRANGER))];
    payments
        .publish(STRANGER, 1, tree.root(), 33)
        .refused("NotPublisher(address)", &stranger);
    payments.publish_tree(1, &tree).returned();
    payments
        .publish(PUBLISHER, 1, [1; 32], 1)
        .refused("AlreadyPublished(uint256)", &[word(1)]);
    for (root, total) in [([0; 32], 1), ([1; 32], 0)] {
        payments
            .publish(PUBLISHER, 2, root, total)
            .refused("EmptyEpoch(uint256)", &[word(2)]);
    }
    // More than is approved: the token's own refusal, and nothing is published.
    let distributor = address_word(payments.distributor);
    let publisher = address_word(account(PUBLISHER));
    payments.publish(PUBLISHER, 2, [1; 32], 999_999).refused(
        "AllowanceTooSmall(address,address,uint256,uint256)",
        &[publisher, distributor, word(999_999), word(900_000 - 33)],
    );
    payments.publish(PUBLISHER, 2, [1; 32], 1).returned();

    // The role goes on in two steps.
    let mut send = |from: u8, signature: &str, arguments: &[Vec<u8>]| {
        let call = call(signature, arguments);
        payments
            .chain
            .send(account(from), payments.distributor, &call)
    };
    let heir = [address_word(account(41))];
    send(STRANGER, "offerPublisher(address)", &stranger)
        .refused("NotPublisher(address)", &stranger);
    send(41, "takePublisher()", &[]).refused("NotOffered(address)", &heir);
    send(PUBLISHER, "offerPublisher(address)", &heir).returned();
    send(STRANGER, "takePublisher()", &[]).refused("NotOffered(address)", &stranger);
    send(41, "takePublisher()", &[]).returned();
    payments
        .publish(PUBLISHER, 4, [1; 32], 1)
        .refused("NotPublisher(address)", &[address_word(account(PUBLISHER))]);
}

/// A token that claims again while it pays: all is written down by then.
#[test]
fn a_token_that_calls_back_gets_nothing_twice() {
    let hostile = "// SPDX-License-Identifier: MIT OR Apache-2.0
        pragma solidity ^0.8.24;
        contract Hostile {
            bytes private again;
            uint256 public paid;
            uint256 public refused;
            function arm(bytes calldata call) external { again = call; }
            function transferFrom(address, address, uint256) external pure returns (bool) { return true; }
            function transfer(address, uint256) external returns (bool) {
                ++paid;
                (bool done,) = msg.sender.call(again);
                if (!done) ++refused;
                return true;
            }
        }";
    let compiled = crate::compile::compile(&[("Hostile".to_owned(), hostile.to_owned())].into());
    let mut chain = Chain::new();
    let token = chain
        .deploy(account(1), &compiled["Hostile"].code, &[])
        .address();
    let arguments = [address_word(token), address_word(account(PUBLISHER))];
    let distributor = chain
        .deploy(
            account(1),
            &contract("EraDistributor").code,
            &arguments.concat(),
        )
        .address();
    let tree = tree(1);
    let publish = call(
        PUBLISH,
        &[word(1), tree.root().to_vec(), word(10 * tree.total())],
    );
    chain
        .send(account(PUBLISHER), distributor, &publish)
        .returned();
    let (party, amount) = tree.payouts[0];
    let claim = call(
        CLAIM,
        &[
            word(1),
            word(0),
            address_word(party),
            word(amount),
            word(160),
            word(0),
        ],
    );
    let mut padded = claim.clone();
    padded.resize(claim.len().next_multiple_of(32), 0);
    let arm = call("arm(bytes)", &[word(32), word(claim.len() as u64), padded]);
    chain.send(account(1), token, &arm).returned();
    chain.send(account(1), distributor, &claim).returned();
    for counter in ["paid()", "refused()"] {
        let count = chain.send(account(1), token, &call(counter, &[])).number();
        assert_eq!(count, U256::ONE, "{counter}");
    }
}

#[test]
fn the_token_keeps_its_supply() {
    let mut payments = Payments::new();
    let token = payments.token;
    let mut send = |from: u8, signature: &str, arguments: &[Vec<u8>]| {
        payments
            .chain
            .send(account(from), token, &call(signature, arguments))
    };
    let (a, b) = (address_word(account(1)), address_word(account(2)));
    let transfer = "transfer(address,uint256)";
    let transfer_from = "transferFrom(address,address,uint256)";
    send(PUBLISHER, transfer, &[a.clone(), word(100)]).returned();
    send(1, transfer, &[b.clone(), word(101)]).refused(
        "BalanceTooSmall(address,uint256,uint256)",
        &[a.clone(), word(101), word(100)],
    );
    send(1, transfer, &[word(0), word(1)]).refused("NoReceiver()", &[]);
    send(1, transfer, &[a.clone(), word(100)]).returned();
    send(2, transfer_from, &[a.clone(), b.clone(), word(1)]).refused(
        "AllowanceTooSmall(address,address,uint256,uint256)",
        &[a.clone(), b.clone(), word(1), word(0)],
    );
    send(1, "approve(address,uint256)", &[b.clone(), vec![255; 32]]).returned();
    send(2, transfer_from, &[a.clone(), b.clone(), word(40)]).returned();
    let allowance = send(1, "allowance(address,address)", &[a.clone(), b.clone()]);
    assert_eq!(allowance.number(), U256::MAX);
    let mut sum = U256::ZERO;
    for holder in [1, 2, PUBLISHER] {
        let balance = send(1, "balanceOf(address)", &[address_word(account(holder))]);
        assert!(matches!(balance.end, End::Returned(_)));
        sum += balance.number();
    }
    assert_eq!(sum, send(1, "totalSupply()", &[]).number());
}
