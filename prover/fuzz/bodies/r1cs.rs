//! A constraint system that is accepted can be walked to its end, and every term is on a wire
//! that exists.

use bytes::Bytes;
use caldera_prover::format::R1cs;

pub(crate) fn run(data: &[u8]) {
    let Ok(system) = R1cs::parse(Bytes::copy_from_slice(data)) else {
        return;
    };
    assert!(system.public_count() < system.wires());
    let mut count = 0;
    for constraint in system.constraints() {
        for combination in [constraint.a, constraint.b, constraint.c] {
            assert_eq!(combination.terms().count(), combination.len());
            for (wire, coefficient) in combination.terms() {
                assert!(wire < system.wires());
                assert_eq!(coefficient.len(), system.curve().scalar_bytes());
            }
        }
        count += 1;
    }
    assert_eq!(count, system.constraint_count());
}
