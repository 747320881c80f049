//! The receipt of a transaction, as an Ethereum node answers `eth_getTransactionReceipt`: who has sent it, whether it went through,
//! and what its gas has cost.
//!
//! A file holds the receipt alone, or the node's whole answer with the receipt as its `result`. What else a receipt has is of no
//! concern here. Figures are taken from it and from nowhere else, so what is reimbursed is what the chain has charged; that
//! the receipt is the chain's is for the operator to know, who has asked a node of their own.
//!
//! The shape is that of <https://ethereum.github.io/execution-apis>, where quantities are `0x` and hexadecimal digits.

use caldera_rpc::methods::{Address, Digest};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// What of a receipt counts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The hash of the transaction.
    pub(crate) transaction: Digest,
    /// Who has sent it.
    pub(crate) sender: Address,
    /// Gas.
    pub(crate) gas_used: u64,
    /// Wei for a unit of it.
    pub(crate) gas_price: u128,
}

/// Why something is no receipt by which gas is reimbursed.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ReceiptError {
    #[error("expected a transaction's receipt in JSON: {0}")]
    Form(String),
    #[error("{field}: expected {expected}, got {got:?}")]
    Field {
        field: &'static str,
        expected: &'static str,
        got: String,
    },
    #[error("status: expected 0x1, got {got:?}: the transaction has failed")]
    Failed { got: String },
    #[error("from: expected {expected}, got {got}: somebody else has sent the transaction")]
    Sender { expected: Address, got: Address },
}

impl Receipt {
    /// Reads a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Receipt, ReceiptError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields {
            transaction_hash: String,
            from: String,
            status: String,
            gas_used: String,
            effective_gas_price: String,
        }
        let form = |error: serde_json::Error| ReceiptError::Form(error.to_string());
        let mut document: Value = serde_json::from_slice(bytes).map_err(form)?;
        if let Some(result) = document.get_mut("result") {
            document = result.take();
        }
        let fields: Fields = serde_json::from_value(document).map_err(form)?;
        let field = |field, expected, got: &str| ReceiptError::Field {
            field,
            expected,
            got: got.to_owned(),
        };
        if quantity(&fields.status) != Some(1) {
            return Err(ReceiptError::Failed { got: fields.status });
        }
        // Checksummed addresses have capital letters.
        let hash = fields.transaction_hash.to_ascii_lowercase();
        let hash = hash.strip_prefix("0x").and_then(|it| it.parse().ok());
        let number = "0x and hexadecimal digits of a number that a chain can have";
        Ok(Receipt {
            transaction: hash.ok_or_else(|| {
                let expected = "0x and 64 hexadecimal digits";
                field("transactionHash", expected, &fields.transaction_hash)
            })?,
            sender: fields.from.to_ascii_lowercase().parse().map_err(|_| {
                let expected = "0x and 40 hexadecimal digits";
                field("from", expected, &fields.from)
            })?,
            gas_used: quantity(&fields.gas_used)
                .and_then(|gas| gas.try_into().ok())
                .ok_or_else(|| field("gasUsed", number, &fields.gas_used))?,
            gas_price: quantity(&fields.effective_gas_price)
                .ok_or_else(|| field("effectiveGasPrice", number, &fields.effective_gas_price))?,
        })
    }

    /// Whether this one has sent it.
    pub(crate) fn sent_by(&self, expected: Address) -> Result<(), ReceiptError> {
        let got = self.sender;
        match got == expected {
            true => Ok(()),
            false => Err(ReceiptError::Sender { expected, got }),
        }
    }
}

fn quantity(text: &str) -> Option<u128> {
    let digits = text.strip_prefix("0x")?;
    // A sign is no digit, but for who reads numbers.
    let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn receipt() -> Value {
        json!({
            "type": "0x2", "status": "0x1", "cumulativeGasUsed": "0x2dc6c0", "logs": [],
            "transactionHash": format!("0x{}", "aB".repeat(32)), "gasUsed": "0x493e0",
            "effectiveGasPrice": "0x5f5e100", "from": format!("0x{}", "Cd".repeat(20)),
            "contractAddress": null,
        })
    }

    fn parse(receipt: &Value) -> Result<Receipt, ReceiptError> {
        Receipt::parse(receipt.to_string().as_bytes())
    }

    #[test]
    fn figures_are_those_of_the_receipt() {
        let expected = Receipt {
            transaction: Digest([0xab; 32]),
            sender: Address([0xcd; 20]),
            gas_used: 300_000,
            gas_price: 100_000_000,
        };
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": receipt()});
        for document in [receipt(), answer] {
            let read = parse(&document).expect("is one");
            assert_eq!(read, expected);
            assert_eq!(read.sent_by(Address([0xcd; 20])), Ok(()));
            assert!(read.sent_by(Address([0xce; 20])).is_err());
        }
    }

    #[test]
    fn what_is_no_receipt_says_why() {
        for (field, value, says) in [
            ("status", "0x0", "failed"),
            ("status", "1", "failed"),
            ("gasUsed", "300000", "gasUsed"),
            ("gasUsed", "0x10000000000000000", "gasUsed"),
            ("gasUsed", "0x", "gasUsed"),
            ("effectiveGasPrice", "0x+5", "effectiveGasPrice"),
            ("transactionHash", "0xab", "transactionHash"),
            ("from", "0xab", "from"),
        ] {
            let mut receipt = receipt();
            receipt[field] = json!(value);
            let refused = parse(&receipt).expect_err(value).to_string();
            assert!(refused.contains(says), "{field}: {refused}");
        }
        for field in ["status", "gasUsed", "effectiveGasPrice", "from"] {
            let mut receipt = receipt();
            receipt.as_object_mut().expect("fields").remove(field);
            let refused = parse(&receipt).expect_err(field);
            assert!(matches!(refused, ReceiptError::Form(_)), "{refused}");
        }
        // A transaction that a node does not know, and no JSON at all.
        assert!(parse(&json!({"result": null})).is_err());
        assert!(Receipt::parse(b"0x1").is_err());
    }
}
