//! A presentation is proven with a development key, and its proof is for its statement alone.

mod units_support;

use std::time::Duration;

use ark_bn254::{Fq, Fr};
use ark_ff::{BigInteger, PrimeField};
use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::json::{Point, Proof};
use caldera_prover::format::{R1cs, Zkey};
use caldera_prover::groth16::{ProvingKey, VerifyError, prove, setup_r1cs, verify};
use caldera_prover::units::{Statement, circuit, witness};
use units_support::World;

#[test]
fn a_proof_is_for_its_statement_alone() {
    let r1cs = R1cs::parse(circuit().clone()).expect("a good file");
    let mut file = Vec::new();
    setup_r1cs(&r1cs, &[1; 32], 2, &mut file, &mut |_| {}).expect("a good circuit");
    let zkey = Zkey::parse(Bytes::from(file)).expect("a good key");
    assert_eq!(zkey.header().domain, 1 << 14);
    let device = CpuDevice::new(CpuConfig {
        quantum: Duration::from_millis(2),
        lanes: 2,
    });
    let key = ProvingKey::load(&zkey, device).expect("a good key");

    let opening = World::new().opening();
    let (proof, inputs) =
        prove(&key, witness(&opening), 2, &mut |_, _| {}).expect("a good witness");
    assert_eq!(inputs.print(), opening.statement.public_inputs().print());
    assert_eq!(
        Statement::from_public_inputs(&inputs),
        Ok(opening.statement)
    );
    verify(key.verification_key(), &proof, &inputs).expect("a good proof");

    // Whoever sees a proof can make another of it: (-A) (-B) is A B. It is of the same statement, which has the same
    // nullifier, so it counts for nothing where nullifiers are counted.
    let other = Proof {
        a: negated(&proof.a),
        b: negated(&proof.b),
        ..proof.clone()
    };
    assert_ne!(other, proof);
    verify(key.verification_key(), &other, &inputs).expect("as good a proof");

    let mut statements = [opening.statement; 5];
    let one = Fr::from(1);
    statements[0].issuers_root += one;
    statements[1].revocation_root += one;
    statements[2].request += one;
    statements[3].nullifier += one;
    statements[4].grant += one;
    for (i, statement) in statements.iter().enumerate() {
        for proof in [&proof, &other] {
            let verdict = verify(key.verification_key(), proof, &statement.public_inputs());
            assert_eq!(verdict, Err(VerifyError::Refused), "another value {i}");
        }
    }

    // What does not satisfy the circuit never becomes a proof.
    let mut lie = opening.clone();
    lie.claims[1] -= one;
    assert!(prove(&key, witness(&lie), 2, &mut |_, _| {}).is_err());
}

/// The point with the same x: of either group, for both have y^2 on their left side.
fn negated(point: &Point) -> Point {
    let mut bytes = point.bytes().to_vec();
    let y = bytes.len() / 2;
    for number in bytes[y..].chunks_exact_mut(32) {
        let negated = -Fq::from_le_bytes_mod_order(number);
        number.copy_from_slice(&negated.into_bigint().to_bytes_le());
    }
    Point::from_bytes(point.curve(), point.group(), &bytes).expect("reduced")
}
