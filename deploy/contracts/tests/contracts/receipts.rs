//! What a chain has charged for gas is what ERA reimburses a part of: transactions that revm has run, their receipts as a node answers
//! them, `caldera era offset` that reads these, and the ledger of a real `calderad`.
//!
//! The other side of each sum is what the sender's account has lost, which no receipt says and revm's own books do; the part of it that
//! is reimbursed, and what is charged for that, are reckoned here by docs/ledger.md.

use caldera_tests::era::{Box, deposit, id, times, units};
use caldera_tests::programs::Run;
use revm::primitives::{Address, U256};
use serde_json::{Value, json};

use crate::chain::{End, Fees, Outcome, account};
use crate::era::{PUBLISHER, Payments, STRANGER, tree};
use crate::registry::{SENDER, World};

/// Of a transaction, as `eth_getTransactionReceipt` answers it. All that counts is the machine's.
fn receipt(of: &Outcome) -> Value {
    let transaction = format!("0x{}", hex::encode(of.transaction));
    let gas = format!("{:#x}", of.gas);
    json!({
        "type": "0x2",
        "status": if matches!(of.end, End::Returned(_)) { "0x1" } else { "0x0" },
        "transactionHash": transaction,
        "transactionIndex": "0x0",
        // With the capitals of its checksum.
        "from": of.sender.to_string(),
        "contractAddress": null,
        // Those of others in the block are in it too, and a transaction is a block here.
        "cumulativeGasUsed": gas,
        "gasUsed": gas,
        "effectiveGasPrice": format!("{:#x}", of.price),
        "logs": [],
    })
}

/// What of the gas is reimbursed and what that is charged, by the policy below: by the ceiling, or by what may be charged at most.
fn reckoned(of: &Outcome, era_max: U256) -> (U256, U256) {
    let number = U256::from::<u64>;
    let charge = |part: U256| (part * number(ERA)).div_ceil(number(WEI));
    let part = of.spent * number(CEILING) / number(10_000);
    match charge(part) > era_max {
        true => {
            let part = era_max * number(WEI) / number(ERA);
            (part, charge(part))
        }
        false => (part, charge(part)),
    }
}

/// A ledger with two parties, each of which has an account on the chain.
struct Books {
    it: Box,
    publisher: Value,
    presenter: Value,
}

impl Books {
    fn new() -> Books {
        let mut edits = times(3600, 0).to_vec();
        edits.extend([
            ("ceiling = 9000", format!("ceiling = {CEILING}")),
            ("era = \"2000\"", format!("era = \"{ERA}\"")),
            ("wei = \"1\"", format!("wei = \"{WEI}\"")),
        ]);
        let it = Box::start_by(&edits, "");
        let party = |number: u64, tenant: &str, at: Address| {
            let register = json!({
                "id": id(number), "tenant": tenant, "role": "user", "owner": number,
                "address": format!("{at:#x}"),
            });
            let party = it.operator.call("era_registerV1", register)["party"].clone();
            it.operator
                .call("era_transferV1", deposit(100 + number, &party, MUCH));
            party
        };
        let publisher = party(1, "exchange", account(PUBLISHER));
        let presenter = party(2, "plaza", account(SENDER));
        Books {
            it,
            publisher,
            presenter,
        }
    }

    /// Wei to reimburse with.
    fn float(&self, wei: U256) {
        let wei = wei.to_string();
        let words = ["transfer", "outside", "gasFloat", &wei, "--gas"];
        self.it.era_says("operator", &words);
    }

    /// `caldera era offset` with the receipt in a file.
    fn offset(&self, party: &Value, of: &Outcome, era_max: u128, more: &[&str]) -> Run {
        let file = self.it.service.folder().join("receipt.json");
        std::fs::write(&file, receipt(of).to_string()).expect("written");
        let (party, era_max) = (party.to_string(), era_max.to_string());
        let file = file.to_str().expect("a path in UTF-8");
        let words = ["offset", &party, "--era-max", &era_max, "--receipt", file];
        self.it.era("operator", &[words.as_slice(), more].concat())
    }

    /// What both have, and how many records there are.
    fn standing(&self) -> (Value, Value, Value) {
        let (run, said) = self.it.audit();
        run.expect_code(0);
        let [publisher, presenter] =
            [&self.publisher, &self.presenter].map(|party| self.it.account(party));
        (publisher, presenter, said["records"].clone())
    }
}

#[test]
fn gas_is_reimbursed_as_the_receipt_says() {
    // Settlement: what is published and claimed, at a price that the block and the tip make.
    let (mut payments, first) = (Payments::new(), tree(3));
    payments.chain.charge(Fees {
        base: 7 * GWEI,
        tip: 2 * u128::from(GWEI),
        most: 30 * u128::from(GWEI),
    });
    for sender in [PUBLISHER, STRANGER] {
        payments.chain.fund(account(sender), U256::from(MUCH));
    }
    let published = payments.publish_tree(1, &first);
    let claimed = payments.claim(1, &first, 0);
    // The same again fails, and costs gas all the same.
    let failed = payments.publish_tree(1, &first);
    let later = payments.publish_tree(2, &tree(2));
    // State units, at the most that their sender pays.
    let mut world = World::new();
    world.chain.charge(Fees {
        base: 7 * GWEI,
        tip: 2 * u128::from(GWEI),
        most: 8_500_000_001,
    });
    world.chain.fund(account(SENDER), U256::from(MUCH));
    let granted = world.grant(1, 2);
    let presented = world.present(&granted);
    let reused = world.reuse(&granted, 1, &granted.chain[1]);
    for (outcome, price) in [
        (&published, 9_000_000_000),
        (&claimed, 9_000_000_000),
        (&later, 9_000_000_000),
        (&presented, 8_500_000_001),
        (&reused, 8_500_000_001),
    ] {
        outcome.returned();
        assert_eq!(outcome.price, price);
        let cost = U256::from(outcome.gas) * U256::from(outcome.price);
        assert_eq!(outcome.spent, cost, "{outcome:?}");
    }
    assert!(matches!(failed.end, End::Reverted(_)), "{failed:?}");
    assert!(failed.spent > U256::from(21_000 * u128::from(GWEI)));

    let books = Books::new();
    // The last of them may cost so little ERA that this, and not the ceiling, bounds it.
    let narrow = 1_000_003;
    let stranger = format!("{:#x}", account(STRANGER));
    let paid = [
        (&books.publisher, &published, MUCH / 100, vec![]),
        // Whose account that is, is the operator's word.
        (
            &books.publisher,
            &claimed,
            MUCH / 100,
            vec!["--sender", &stranger],
        ),
        (&books.presenter, &presented, MUCH / 100, vec![]),
        (&books.presenter, &reused, narrow, vec![]),
    ];
    let expected = paid
        .each_ref()
        .map(|(_, of, most, _)| reckoned(of, U256::from(*most)));
    // As much as that, to the last wei.
    books.float(expected.iter().map(|(part, _)| *part).sum());

    // One that has failed, and one that somebody else has sent, are none.
    let before = books.standing();
    let refused = |party: &Value, of: &Outcome, more: &[&str], code: i32, says: &str| {
        let run = books.offset(party, of, MUCH / 100, more).expect_code(code);
        assert!(run.to_string().contains(says), "{run}");
    };
    refused(&books.publisher, &failed, &[], 65, "has failed");
    for (party, of) in [
        (&books.publisher, &claimed),
        (&books.publisher, &presented),
        (&books.presenter, &published),
    ] {
        refused(party, of, &[], 65, "somebody else has sent");
    }
    refused(
        &books.presenter,
        &presented,
        &["--sender", &stranger],
        65,
        "somebody else has sent",
    );
    assert_eq!(books.standing(), before);

    let number = |value: &Value| U256::from(units(value));
    for (at, ((party, of, most, more), (part, charged))) in paid.iter().zip(expected).enumerate() {
        let before = books.it.account(party);
        let key = format!("transaction {at}");
        let more = [more.as_slice(), &["--idempotency-key", &key]].concat();
        let said = books.offset(party, of, *most, &more).expect_success();
        let done: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(number(&done["reimbursed"]), part, "{at}");
        assert_eq!(number(&done["charged"]), charged, "{at}");
        let standing = books.standing();
        let has = books.it.account(party);
        assert_eq!(number(&has["gas"]), number(&before["gas"]) + part);
        assert_eq!(number(&has["free"]), number(&before["free"]) - charged);
        assert_eq!(has["held"], "0");
        // The same is answered again, and under another name it is none any more, whoever has sent it.
        let said = books.offset(party, of, *most, &more).expect_success();
        let again: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(
            (&again["record"], &again["repeated"]),
            (&done["record"], &json!(true))
        );
        let sender = format!("{:#x}", of.sender);
        for party in [&books.publisher, &books.presenter] {
            refused(party, of, &["--sender", &sender], 79, "eraConflict");
        }
        assert_eq!(books.standing(), standing);
    }
    // The receipts have said exactly what there was to say: not a wei is left.
    let before = books.standing();
    refused(&books.publisher, &later, &[], 79, "eraInsufficient");
    assert_eq!(books.standing(), before);
}

const GWEI: u64 = 1_000_000_000;
/// Ten ether, and as many units of ERA: more than all of it costs.
const MUCH: u128 = 10_000_000_000_000_000_000;

/// A policy by which nothing comes out even: of the gas so many basis points,
const CEILING: u64 = 8_765;
/// and so many units of ERA are worth
const ERA: u64 = 7;
/// so many wei.
const WEI: u64 = 3;
