//! Groth16 on an Ethereum virtual machine: contracts that verify, and what to call them with.
//!
//! A contract is made for one verification key from a template of our own in `solidity/`: one that
//! verifies a proof, and one that verifies many at once by a random linear combination (the
//! argument why that is sound stands in the template). The first is made as a library too, for contracts
//! that would rather have the verifier in their own code than call one. Only BN254 has the precompiles of EIP-196
//! and EIP-197. The key is checked before a contract is made of it, since no one looks at a
//! constant again once it is on a chain.
//!
//! Calls are made in two forms: the arguments as text, as snarkjs prints them, and the bytes of
//! the whole call.

mod call;

use caldera_kernels::CurveId;
use num_bigint::BigUint;

use super::verify::{self, VerifyError};
use crate::format::json::{Point, VerificationKey};
use crate::format::{base_modulus, scalar_modulus};

pub use call::{batch_call, batch_calldata, batch_signature, call, calldata, signature};

/// Why there is no contract for a key, or no call for a proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SolidityError {
    /// The chain has no precompiles for the curve.
    #[error("a contract can only verify proofs over {expected:?}, got {got:?}")]
    Curve {
        /// BN254.
        expected: CurveId,
        /// The curve of the key, the proof or the inputs.
        got: CurveId,
    },
    /// The verification key has a point that it must not have.
    #[error("the verification key: {0}")]
    Key(VerifyError),
    /// Without public inputs each proof says the same, and anybody may say it again.
    #[error("expected a key with public inputs, got one without")]
    NoInputs,
    /// More inputs than fit in a contract.
    #[error("{got} public inputs, a contract has room for {expected_max}")]
    TooManyInputs {
        /// How many fit.
        expected_max: usize,
        /// How many the key has.
        got: usize,
    },
    /// A point of IC is infinity: the input could be replaced by any other.
    #[error("public input {input} is in no constraint: its point in IC is infinity")]
    Unbound {
        /// Which, from 0.
        input: usize,
    },
    /// No proofs to call with.
    #[error("a batch of no proofs")]
    EmptyBatch,
    /// A proof of a batch has another number of inputs than the first.
    #[error("proof {proof}: expected {expected} public inputs, got {got}")]
    BatchInputs {
        /// Which, from 0.
        proof: usize,
        /// What the first has.
        expected: usize,
        /// What it has.
        got: usize,
    },
}

/// `Groth16Verifier` for a key.
pub fn verifier(key: &VerificationKey) -> Result<String, SolidityError> {
    let call_bytes = 4 + 32 * (8 + key.public_count());
    let function = CONTRACT_FUNCTION.replace("$CALL_BYTES", &call_bytes.to_string());
    single(key, "contract Groth16Verifier", &function, "calldataload")
}

/// `Groth16Library` for a key: the same verification, to be compiled into another contract.
pub fn library(key: &VerificationKey) -> Result<String, SolidityError> {
    single(key, "library Groth16Library", LIBRARY_FUNCTION, "mload")
}

/// The verification of one proof under a name, with inputs that are read by `load`.
fn single(
    key: &VerificationKey,
    name: &str,
    function: &str,
    load: &str,
) -> Result<String, SolidityError> {
    check(key)?;
    let terms = key.ic[1..].iter().enumerate().map(|(input, point)| {
        let (x, y) = g1(point);
        let at = 32 * input;
        format!("            fine := and(term(pairs, {x}, {y}, {load}(add(inputs, 0x{at:02x}))), fine)\n")
    });
    let template = VERIFIER
        .replace("$CONTRACT", name)
        .replace("$FUNCTION\n", function);
    Ok(fill(&template, key, terms.collect()))
}

/// `Groth16BatchVerifier` for a key.
pub fn batch_verifier(key: &VerificationKey) -> Result<String, SolidityError> {
    check(key)?;
    let terms = key.ic[1..].iter().enumerate().map(|(input, point)| {
        let (x, y) = g1(point);
        format!(
            "            fine := and(term(pairs, {x}, {y}, mload(add(sums, 0x{:02x}))), fine)\n",
            32 * (input + 1)
        )
    });
    Ok(fill(BATCH_VERIFIER, key, terms.collect())
        .replace("$SUMS_BYTES", &format!("0x{:02x}", 32 * key.ic.len())))
}

fn check(key: &VerificationKey) -> Result<(), SolidityError> {
    on_chain(key.curve)?;
    verify::prepare(key).map_err(SolidityError::Key)?;
    match key.public_count() {
        0 => return Err(SolidityError::NoInputs),
        got if got > INPUTS_MAX => {
            return Err(SolidityError::TooManyInputs {
                expected_max: INPUTS_MAX,
                got,
            });
        }
        _ => {}
    }
    match key.ic[1..].iter().position(Point::is_infinity) {
        Some(input) => Err(SolidityError::Unbound { input }),
        None => Ok(()),
    }
}

fn on_chain(curve: CurveId) -> Result<(), SolidityError> {
    match curve {
        CurveId::Bn254 => Ok(()),
        got => Err(SolidityError::Curve {
            expected: CurveId::Bn254,
            got,
        }),
    }
}

/// Puts a key's constants in a template: alpha, gamma and delta negated.
fn fill(template: &str, key: &VerificationKey, terms: String) -> String {
    let (alpha_x, alpha_y) = g1(&negated(&key.alpha_1));
    let (ic0_x, ic0_y) = g1(&key.ic[0]);
    let mut text = template
        .replace("$TERMS\n", &terms)
        .replace("$L", &key.public_count().to_string())
        .replace("$R", &decimal(scalar_modulus(key.curve)))
        .replace("$Q", &decimal(base_modulus(key.curve)))
        .replace("$ALPHA_X", &alpha_x)
        .replace("$ALPHA_Y", &alpha_y)
        .replace("$IC0_X", &ic0_x)
        .replace("$IC0_Y", &ic0_y);
    for (name, point) in [
        ("BETA", &key.beta_2),
        ("GAMMA", &negated(&key.gamma_2)),
        ("DELTA", &negated(&key.delta_2)),
    ] {
        let numbers: Vec<String> = point.bytes().chunks_exact(32).map(decimal).collect();
        for (place, number) in ["X0", "X1", "Y0", "Y1"].iter().zip(numbers) {
            text = text.replace(&format!("${name}_{place}"), &number);
        }
    }
    text
}

fn g1(point: &Point) -> (String, String) {
    let (x, y) = point.bytes().split_at(32);
    (decimal(x), decimal(y))
}

/// The point with each coordinate of y replaced by q - y, and 0 by 0.
fn negated(point: &Point) -> Point {
    let modulus = base_modulus(point.curve());
    let q = BigUint::from_bytes_le(modulus);
    let mut bytes = point.bytes().to_vec();
    let half = bytes.len() / 2;
    for coordinate in bytes[half..].chunks_exact_mut(modulus.len()) {
        let number = (&q - BigUint::from_bytes_le(coordinate)) % &q;
        let digits = number.to_bytes_le();
        coordinate.fill(0);
        coordinate[..digits.len()].copy_from_slice(&digits);
    }
    Point::from_bytes(point.curve(), point.group(), &bytes).expect("the remainders are below q")
}

fn decimal(number: &[u8]) -> String {
    BigUint::from_bytes_le(number).to_string()
}

const VERIFIER: &str = include_str!("solidity/Groth16Verifier.sol");
const BATCH_VERIFIER: &str = include_str!("solidity/Groth16BatchVerifier.sol");

/// How the verification of one proof begins in a contract of its own.
const CONTRACT_FUNCTION: &str = "\
    /// Whether the proof is valid; false for whatever is not a proof. Points are in the order of
    /// EIP-197: of a coordinate of `b` the imaginary part is the first. A call that is shorter
    /// than its arguments reverts.
    function verifyProof(
        uint256[2] calldata a,
        uint256[2][2] calldata b,
        uint256[2] calldata c,
        uint256[$L] calldata inputs
    ) external view returns (bool valid) {
        // Bytes after the arguments would be another spelling of the same call.
        if (msg.data.length != $CALL_BYTES) return false;
";

/// And in a library. Whether something may be said in several ways is for the contract around it.
const LIBRARY_FUNCTION: &str = "\
    /// Whether the proof is valid; false for whatever is not a proof. It is A, B, C in the order of
    /// EIP-197: of each coordinate of B the imaginary part is the first.
    function holds(uint256[8] calldata proof, uint256[$L] memory inputs) internal view returns (bool valid) {
        uint256 a;
        uint256 b;
        uint256 c;
        assembly (\"memory-safe\") {
            a := proof
            b := add(proof, 0x40)
            c := add(proof, 0xc0)
        }
";

/// An input is a little more than 100 bytes of code, of the 24,576 that EIP-170 allows, and
/// everything else about 1,500: 200 leave some room.
const INPUTS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use ark_bn254::{G1Affine, G2Affine};
    use ark_ec::AffineRepr;
    use ark_serialize::CanonicalSerialize;
    use caldera_kernels::Group;

    use super::*;

    fn point(group: Group, infinite: bool) -> Point {
        let mut bytes = Vec::new();
        match group {
            Group::G1 => {
                let (x, y) = G1Affine::generator().xy().expect("finite");
                (x, y).serialize_uncompressed(&mut bytes)
            }
            Group::G2 => {
                let (x, y) = G2Affine::generator().xy().expect("finite");
                (x, y).serialize_uncompressed(&mut bytes)
            }
        }
        .expect("a vector takes all");
        if infinite {
            bytes.fill(0);
        }
        Point::from_bytes(CurveId::Bn254, group, &bytes).expect("coordinates below q")
    }

    fn key(inputs: usize) -> VerificationKey {
        VerificationKey {
            curve: CurveId::Bn254,
            alpha_1: point(Group::G1, false),
            beta_2: point(Group::G2, false),
            gamma_2: point(Group::G2, false),
            delta_2: point(Group::G2, false),
            alpha_beta_12: None,
            ic: vec![point(Group::G1, false); inputs + 1],
        }
    }

    #[test]
    fn nothing_of_a_template_is_left() {
        for text in [verifier, library, batch_verifier].map(|make| make(&key(3))) {
            let text = text.expect("a good key");
            assert!(!text.contains('$'), "{text}");
            assert!(text.contains("uint256[3]"));
        }
    }

    /// The generator of G1 is (1, 2), and its negative (1, q - 2).
    #[test]
    fn a_negative_is_the_other_root() {
        let (x, y) = g1(&negated(&point(Group::G1, false)));
        assert_eq!(x, "1");
        assert_eq!(
            y,
            "21888242871839275222246405745257275088696311157297823662689037894645226208581"
        );
        let infinity = point(Group::G2, true);
        assert_eq!(negated(&infinity), infinity);
    }

    #[test]
    fn no_contract_for_a_key_that_is_none() {
        let refusal = |change: &dyn Fn(&mut VerificationKey)| {
            let mut key = key(2);
            change(&mut key);
            let error = verifier(&key).expect_err("a bad key");
            assert_eq!(library(&key), Err(error.clone()));
            assert_eq!(batch_verifier(&key), Err(error.clone()));
            error
        };
        assert_eq!(refusal(&|key| key.ic.truncate(1)), SolidityError::NoInputs);
        assert_eq!(
            refusal(&|key| key.ic[2] = point(Group::G1, true)),
            SolidityError::Unbound { input: 1 }
        );
        assert_eq!(
            refusal(&|key| key.ic.resize(INPUTS_MAX + 2, point(Group::G1, false))),
            SolidityError::TooManyInputs {
                expected_max: INPUTS_MAX,
                got: INPUTS_MAX + 1
            }
        );
        let off = refusal(&|key| {
            let mut bytes = key.alpha_1.bytes().to_vec();
            bytes[0] ^= 2;
            key.alpha_1 = Point::from_bytes(CurveId::Bn254, Group::G1, &bytes).expect("small");
        });
        assert!(matches!(off, SolidityError::Key(_)), "{off}");
        let zero = refusal(&|key| key.delta_2 = point(Group::G2, true));
        assert!(matches!(zero, SolidityError::Key(_)), "{zero}");
    }
}
