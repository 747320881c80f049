//! A verification key that is accepted is the same after it has been printed and read.

use caldera_prover::format::json::VerificationKey;

pub(crate) fn run(data: &[u8]) {
    let Ok(value) = VerificationKey::parse(data) else {
        return;
    };
    let text = value.print();
    assert_eq!(VerificationKey::parse(text.as_bytes()), Ok(value));
}
