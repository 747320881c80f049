//! A proof that is accepted is the same after it has been printed and read.

use caldera_prover::format::json::Proof;

pub(crate) fn run(data: &[u8]) {
    let Ok(value) = Proof::parse(data, None) else {
        return;
    };
    let text = value.print();
    let again = Proof::parse(text.as_bytes(), Some(value.curve));
    assert_eq!(again, Ok(value));
}
