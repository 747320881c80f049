//! A witness that is accepted says the same of its elements whole and in steps, and is the same
//! after it has been written and read.

use bytes::Bytes;
use caldera_prover::format::Wtns;

pub(crate) fn run(data: &[u8]) {
    let Ok(witness) = Wtns::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    let whole = witness.check(0..witness.len());
    let steps = (0..witness.len()).try_for_each(|index| witness.check(index..index + 1));
    assert_eq!(whole, steps);

    let mut written = Vec::new();
    witness
        .write(&mut written)
        .expect("a vector takes all that is written to it");
    let again = Wtns::parse(Bytes::from(written)).expect("what was written can be read");
    assert_eq!(again.curve(), witness.curve());
    assert_eq!(again.elements(), witness.elements());
    assert_eq!(again.check(0..again.len()).is_ok(), whole.is_ok());
}
