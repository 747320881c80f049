//! What a chain has charged for gas is what ERA reimburses a part of: a transaction that revm has run, its receipt as a node answers it, and
//! the ledger of a real `calderad` that is told nothing else.

use caldera_tests::era::{Box, deposit, id, units};
use serde_json::{Value, json};

use crate::chain::{Outcome, account};
use crate::era::{PUBLISHER, Payments, tree};

/// Of a transaction of the publisher's, as `eth_getTransactionReceipt` answers it.
fn receipt(outcome: &Outcome, hash: u8) -> Value {
    json!({
        "transactionHash": format!("0x{}", format!("{hash:02x}").repeat(32)),
        // With the capitals of its checksum.
        "from": account(PUBLISHER).to_string(),
        "status": if matches!(outcome.end, crate::chain::End::Returned(_)) { "0x1" } else { "0x0" },
        "gasUsed": format!("{:#x}", outcome.gas),
        "effectiveGasPrice": format!("{PRICE:#x}"),
        "type": "0x2",
        "logs": [],
    })
}

#[test]
fn gas_is_reimbursed_as_the_receipt_says() {
    let mut payments = Payments::new();
    let tree = tree(3);
    let published = payments.publish_tree(1, &tree);
    published.returned();
    // The same again has failed, and has cost gas all the same.
    let failed = payments.publish_tree(1, &tree);
    assert!(failed.gas > 21_000);

    let it = Box::start(3600);
    let register = json!({
        "id": id(1), "tenant": "exchange", "role": "developer", "owner": 10,
        "address": format!("{:#x}", account(PUBLISHER)),
    });
    let party = it.operator.call("era_registerV1", register)["party"].clone();
    let much = 10_u128.pow(20);
    it.operator.call("era_transferV1", deposit(2, &party, much));
    let float = much.to_string();
    it.era_says(
        "operator",
        &["transfer", "outside", "gasFloat", &float, "--gas"],
    );
    let offset = |outcome: &Outcome, hash: u8| {
        let file = it.service.folder().join("receipt.json");
        std::fs::write(&file, receipt(outcome, hash).to_string()).expect("written");
        let (party, file) = (party.to_string(), file.display().to_string());
        let words = ["offset", &party, "--era-max", &float, "--receipt", &file];
        it.era("operator", &words)
    };
    let said = offset(&published, 1).expect_success();
    let done: Value = serde_json::from_str(&said).expect("JSON");
    // Nine tenths of what it has cost, at 2,000 units of ERA for a wei.
    let part = u128::from(published.gas) * PRICE * 9 / 10;
    assert_eq!(units(&done["reimbursed"]), part);
    assert_eq!(units(&done["charged"]), 2_000 * part);
    let has = it.account(&party);
    assert_eq!(units(&has["gas"]), part);
    assert_eq!(units(&has["free"]), much - 2_000 * part);
    // A transaction counts once, and one that has failed never.
    let again = offset(&published, 1).expect_code(79);
    assert!(again.stdout.contains("eraConflict"), "{again}");
    let refused = offset(&failed, 2).expect_code(65);
    assert!(refused.stderr.contains("has failed"), "{refused}");
    assert_eq!(units(&it.account(&party)["gas"]), part);
}

/// Two gwei.
const PRICE: u128 = 2_000_000_000;
