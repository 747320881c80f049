//! A proof as the arguments of a Solidity verifier's `verifyProof`.
//!
//! Byte for byte what `snarkjs zkey export soliditycalldata` prints: hexadecimal strings of at
//! least 64 digits, and the halves of pi_b's coordinates swapped, c1 before c0, because the
//! precompile of EIP-197 wants them so and everything else does not. Mind the spaces: there is
//! one after the comma within a point and none anywhere else.

use crate::format::json::{Point, Proof, PublicInputs};

/// The arguments, without a newline at the end.
pub fn calldata(proof: &Proof, inputs: &PublicInputs) -> String {
    let a = coordinates(&proof.a);
    let b = coordinates(&proof.b);
    let c = coordinates(&proof.c);
    let inputs: Vec<String> = inputs.iter().map(|input| word(input)).collect();
    format!(
        "[{}, {}],[[{}, {}],[{}, {}]],[{}, {}],[{}]",
        a[0],
        a[1],
        b[1],
        b[0],
        b[3],
        b[2],
        c[0],
        c[1],
        inputs.join(",")
    )
}

fn coordinates(point: &Point) -> Vec<String> {
    let len = point.curve().base_bytes();
    point.bytes().chunks_exact(len).map(word).collect()
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
        let mut input = [0; 32];
        input[0] = 9;
        let inputs = PublicInputs::new(CurveId::Bn254, vec![input, [0; 32]]).expect("below r");
        let text = calldata(&proof, &inputs).replace(&"0".repeat(63), "");
        assert_eq!(
            text,
            r#"["0x1", "0x2"],[["0x4", "0x3"],["0x6", "0x5"]],["0x7", "0x8"],["0x9","0x0"]"#
        );
    }
}
