//! A proof as the arguments of a contract's function, and as a whole call.
//!
//! The arguments of `verifyProof` are byte for byte what `snarkjs zkey export soliditycalldata`
//! prints: hexadecimal strings of at least 64 digits, and the halves of pi_b's coordinates
//! swapped, c1 before c0, because the precompile of EIP-197 wants them so and everything else does
//! not. Mind the spaces: there is one after the comma within a point and none anywhere else.
//!
//! A call is what goes into a transaction: the first four bytes of the hash of the function's
//! signature, then words of 32 bytes, big-endian, by the [rules of the ABI][abi].
//!
//! [abi]: https://docs.soliditylang.org/en/latest/abi-spec.html

use sha3::{Digest, Keccak256};

use super::{SolidityError, on_chain};
use crate::format::json::{Point, Proof, PublicInputs};

/// The signature of the function that [`call`] calls.
pub fn signature(inputs: usize) -> String {
    format!("verifyProof(uint256[2],uint256[2][2],uint256[2],uint256[{inputs}])")
}

/// The signature of the function that [`batch_call`] calls.
pub fn batch_signature(inputs: usize) -> String {
    format!("verifyBatch(uint256[8][],uint256[{inputs}][])")
}

/// The arguments of `verifyProof`, without a newline at the end.
pub fn calldata(proof: &Proof, inputs: &PublicInputs) -> String {
    let [ax, ay, bx1, bx0, by1, by0, cx, cy] = coordinates(proof);
    format!(
        "[{ax}, {ay}],[[{bx1}, {bx0}],[{by1}, {by0}]],[{cx}, {cy}],{}",
        list(inputs)
    )
}

/// The arguments of `verifyBatch`, without a newline at the end.
pub fn batch_calldata(batch: &[(Proof, PublicInputs)]) -> Result<String, SolidityError> {
    check(batch)?;
    let proofs = batch.iter().map(|(proof, _)| coordinates(proof).join(","));
    let inputs = batch.iter().map(|(_, inputs)| list(inputs));
    Ok(format!(
        "[[{}]],[{}]",
        proofs.collect::<Vec<_>>().join("],["),
        inputs.collect::<Vec<_>>().join(",")
    ))
}

/// A call of `verifyProof`.
pub fn call(proof: &Proof, inputs: &PublicInputs) -> Result<Vec<u8>, SolidityError> {
    on_chain(proof.curve)?;
    on_chain(inputs.curve())?;
    let mut bytes = selector(&signature(inputs.len()));
    put_proof(&mut bytes, proof);
    put_inputs(&mut bytes, inputs);
    Ok(bytes)
}

/// A call of `verifyBatch`.
pub fn batch_call(batch: &[(Proof, PublicInputs)]) -> Result<Vec<u8>, SolidityError> {
    let inputs = check(batch)?;
    let mut bytes = selector(&batch_signature(inputs));
    // Where the two lists begin, counted from the first of these two words.
    put_count(&mut bytes, 2 * 32);
    put_count(&mut bytes, 3 * 32 + 8 * 32 * batch.len());
    put_count(&mut bytes, batch.len());
    for (proof, _) in batch {
        put_proof(&mut bytes, proof);
    }
    put_count(&mut bytes, batch.len());
    for (_, inputs) in batch {
        put_inputs(&mut bytes, inputs);
    }
    Ok(bytes)
}

/// Says how many inputs each proof of a batch has.
fn check(batch: &[(Proof, PublicInputs)]) -> Result<usize, SolidityError> {
    let (_, first) = batch.first().ok_or(SolidityError::EmptyBatch)?;
    let expected = first.len();
    for (index, (proof, inputs)) in batch.iter().enumerate() {
        on_chain(proof.curve)?;
        on_chain(inputs.curve())?;
        if inputs.len() != expected {
            return Err(SolidityError::BatchInputs {
                proof: index,
                expected,
                got: inputs.len(),
            });
        }
    }
    Ok(expected)
}

/// The eight coordinates in the order of EIP-197, in quotes.
fn coordinates(proof: &Proof) -> [String; 8] {
    in_order(proof).map(word)
}

/// The eight coordinates in the order of EIP-197, little-endian.
fn in_order(proof: &Proof) -> [&[u8]; 8] {
    let at = |point: &'_ Point, index: usize| {
        let len = point.curve().base_bytes();
        index * len..(index + 1) * len
    };
    let (a, b, c) = (&proof.a, &proof.b, &proof.c);
    [
        (a, 0),
        (a, 1),
        (b, 1),
        (b, 0),
        (b, 3),
        (b, 2),
        (c, 0),
        (c, 1),
    ]
    .map(|(point, index)| &point.bytes()[at(point, index)])
}

fn list(inputs: &PublicInputs) -> String {
    let words: Vec<String> = inputs.iter().map(|input| word(input)).collect();
    format!("[{}]", words.join(","))
}

/// A little-endian number in quotes. One of 48 bytes loses its leading zeros down to 64 digits.
fn word(number: &[u8]) -> String {
    let digits: String = number
        .iter()
        .rev()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let spare = digits.len() - 64;
    let zeros = digits.bytes().take_while(|digit| *digit == b'0').count();
    format!("\"0x{}\"", &digits[zeros.min(spare)..])
}

fn selector(signature: &str) -> Vec<u8> {
    Keccak256::digest(signature)[..4].to_vec()
}

fn put_proof(bytes: &mut Vec<u8>, proof: &Proof) {
    for coordinate in in_order(proof) {
        bytes.extend(coordinate.iter().rev());
    }
}

fn put_inputs(bytes: &mut Vec<u8>, inputs: &PublicInputs) {
    for input in inputs.iter() {
        bytes.extend(input.iter().rev());
    }
}

fn put_count(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend([0; 24]);
    bytes.extend((count as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use caldera_kernels::{CurveId, Group};

    use super::*;

    #[test]
    fn a_word_has_at_least_64_digits() {
        let mut number = [0; 48];
        number[0] = 0xab;
        assert_eq!(word(&number[..32]), format!("\"0x{}ab\"", "0".repeat(62)));
        assert_eq!(word(&number), format!("\"0x{}ab\"", "0".repeat(62)));
        number[47] = 0x01;
        assert_eq!(word(&number), format!("\"0x1{}ab\"", "0".repeat(92)));
    }

    #[test]
    fn the_halves_of_pi_b_are_swapped() {
        let (proof, inputs) = example(&[9, 0]);
        let text = calldata(&proof, &inputs).replace(&"0".repeat(63), "");
        assert_eq!(
            text,
            r#"["0x1", "0x2"],[["0x4", "0x3"],["0x6", "0x5"]],["0x7", "0x8"],["0x9","0x0"]"#
        );
        let words = words(&call(&proof, &inputs).expect("BN254"));
        assert_eq!(words, [1, 2, 4, 3, 6, 5, 7, 8, 9, 0]);
    }

    #[test]
    fn a_batch_is_two_lists() {
        let batch = [example(&[9]), example(&[10])];
        let text = batch_calldata(&batch).expect("a good batch");
        assert_eq!(
            text.replace(&"0".repeat(63), ""),
            r#"[["0x1","0x2","0x4","0x3","0x6","0x5","0x7","0x8"],["0x1","0x2","0x4","0x3","0x6","0x5","0x7","0x8"]],[["0x9"],["0xa"]]"#
        );
        let proof = [1, 2, 4, 3, 6, 5, 7, 8];
        let mut expected = vec![64, 64 + 32 + 2 * 8 * 32, 2];
        expected.extend(proof.iter().chain(&proof));
        expected.extend([2, 9, 10]);
        assert_eq!(words(&batch_call(&batch).expect("a good batch")), expected);
    }

    /// The selectors that solc gives these functions.
    #[test]
    fn a_call_begins_with_its_function() {
        let (proof, inputs) = example(&[1; 5]);
        assert_eq!(
            call(&proof, &inputs).expect("BN254")[..4],
            [0x34, 0xba, 0xea, 0xb9]
        );
    }

    #[test]
    fn a_batch_that_is_none() {
        assert_eq!(batch_call(&[]), Err(SolidityError::EmptyBatch));
        let uneven = [example(&[9]), example(&[10, 11])];
        let refusal = SolidityError::BatchInputs {
            proof: 1,
            expected: 1,
            got: 2,
        };
        assert_eq!(batch_call(&uneven), Err(refusal.clone()));
        assert_eq!(batch_calldata(&uneven), Err(refusal));
    }

    #[test]
    fn no_call_for_a_curve_without_precompiles() {
        let inputs = PublicInputs::new(CurveId::Bls12_381, vec![[0; 32]]).expect("below r");
        let refusal = SolidityError::Curve {
            expected: CurveId::Bn254,
            got: CurveId::Bls12_381,
        };
        assert_eq!(call(&example(&[1]).0, &inputs), Err(refusal));
    }

    fn example(inputs: &[u8]) -> (Proof, PublicInputs) {
        let point = |group, numbers: &[u8]| {
            let mut bytes = vec![0; CurveId::Bn254.point_bytes(group)];
            for (number, coordinate) in numbers.iter().zip(bytes.chunks_mut(32)) {
                coordinate[0] = *number;
            }
            Point::from_bytes(CurveId::Bn254, group, &bytes).expect("small coordinates")
        };
        let proof = Proof {
            curve: CurveId::Bn254,
            a: point(Group::G1, &[1, 2]),
            b: point(Group::G2, &[3, 4, 5, 6]),
            c: point(Group::G1, &[7, 8]),
        };
        let values = inputs.iter().map(|input| {
            let mut value = [0; 32];
            value[0] = *input;
            value
        });
        let inputs = PublicInputs::new(CurveId::Bn254, values.collect()).expect("below r");
        (proof, inputs)
    }

    /// The last bytes of a call's words, two of them each.
    fn words(call: &[u8]) -> Vec<u16> {
        let words = call[4..].chunks_exact(32);
        words
            .map(|word| u16::from_be_bytes([word[30], word[31]]))
            .collect()
    }
}
