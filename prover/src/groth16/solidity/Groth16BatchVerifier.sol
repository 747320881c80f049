// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// Verifies many Groth16 proofs over BN254 at once, for one verification key with $L public inputs.
///
/// Made by `caldera export solidity --batch`. For the proof (A_i, B_i, C_i) of inputs x_i let
///
///     E_i = e(A_i, B_i) e(-alpha, beta) e(X_i, -gamma) e(C_i, -delta),   X_i = IC_0 + sum x_ij IC_j
///
/// so that the proof is valid when E_i = 1. The contract asks whether the product of all E_i^k_i is
/// 1, with k_0 = 1 and k_i = keccak256(seed, i) mod r, where the seed is the hash of the whole call.
/// By bilinearity that is
///
///     prod e(k_i A_i, B_i) e(-(sum k_i) alpha, beta) e(sum k_i X_i, -gamma) e(sum k_i C_i, -delta) = 1
///
/// which is one pairing for each proof and three for all of them, and one multiplication for each
/// IC_j, because sum k_i X_i = (sum k_i) IC_0 + sum_j (sum_i k_i x_ij) IC_j.
///
/// Why this is sound. All points are in groups of prime order r: the precompiles refuse any other.
/// So E_i = g^t_i for a generator g, and the contract accepts when sum k_i t_i = 0 mod r. The seed
/// covers every byte of the call, hence all points and inputs, and the key is in the code; so all
/// t_i are fixed before any k_i is. If t_0 alone is not 0, the sum is t_0. Otherwise let t_i, i > 0,
/// be the last that is not 0: for any values of the other k exactly one residue of k_i makes the
/// sum 0, and a residue mod r is hit by at most 6 of the 2^256 digests. With keccak256 as a
/// random oracle a batch with a bad proof passes with probability below 2^-253, and one who can try
/// 2^125 batches succeeds with less than 2^-128. 128 bits for each k would leave that person
/// 2^-3, and the precompile asks the same price for both. k_i that do not depend on the proofs are
/// no good at all: with all k equal two bad proofs can cancel each other, C_0 + D and C_1 - D.
///
/// A bad proof makes the whole batch invalid, and the answer does not say which. Judge proofs before
/// they are sent (`caldera verify`). Gas limits are those of Groth16Verifier, and the reasons too.
contract Groth16BatchVerifier {
    /// The order of the groups.
    uint256 private constant R = $R;
    /// The modulus of the coordinates.
    uint256 private constant Q = $Q;
    /// Four times 150, four times 6,000; and twice 45,000 with twice 34,000 for each pair.
    uint256 private constant ADD_GAS = 600;
    uint256 private constant MUL_GAS = 24000;
    uint256 private constant PAIR_BASE_GAS = 90000;
    uint256 private constant PAIR_GAS = 68000;

    /// There are no proofs, or not as many as lists of inputs.
    error BatchLength(uint256 proofs, uint256 inputs);

    /// Whether all proofs are valid. A proof is A, B, C with the coordinates in the order of EIP-197:
    /// of those of B the imaginary part is the first.
    function verifyBatch(uint256[8][] calldata proofs, uint256[$L][] calldata inputs)
        external
        view
        returns (bool valid)
    {
        if (proofs.length == 0 || proofs.length != inputs.length) {
            revert BatchLength(proofs.length, inputs.length);
        }
        // Assembly for the reason given in Groth16Verifier. It writes only to memory that nobody owns and
        // to the scratch space, which holds the seed and a number: what k_i is the hash of.
        assembly ("memory-safe") {
            // Puts scalar (x, y) at `product`; the word after it is work space.
            function scaled(product, x, y, scalar) -> fine {
                mstore(product, x)
                mstore(add(product, 0x20), y)
                mstore(add(product, 0x40), scalar)
                fine := staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40)
            }
            // Adds scalar (x, y) to the point at `sum`, with the three words after it as work space.
            function term(sum, x, y, scalar) -> fine {
                fine := scaled(add(sum, 0x40), x, y, scalar)
                // On its own line: arguments are evaluated from the last to the first.
                fine := and(staticcall(ADD_GAS, 0x06, sum, 0x80, sum, 0x40), fine)
            }
            // Whether the eight coordinates of the proof at `at` are below q.
            function reduced(at) -> fine {
                fine := lt(calldataload(at), Q)
                fine := and(fine, lt(calldataload(add(at, 0x20)), Q))
                fine := and(fine, lt(calldataload(add(at, 0x40)), Q))
                fine := and(fine, lt(calldataload(add(at, 0x60)), Q))
                fine := and(fine, lt(calldataload(add(at, 0x80)), Q))
                fine := and(fine, lt(calldataload(add(at, 0xa0)), Q))
                fine := and(fine, lt(calldataload(add(at, 0xc0)), Q))
                fine := and(fine, lt(calldataload(add(at, 0xe0)), Q))
            }

            // Three pairs of the key's, then one for each proof, then sum k_i and sum_i k_i x_ij.
            let pairs := mload(0x40)
            calldatacopy(pairs, 0, calldatasize())
            mstore(0x00, keccak256(pairs, calldatasize()))
            let pair := add(pairs, 0x240)
            let sums := add(pair, mul(proofs.length, 0xc0))
            // What lies beyond the call is copied as zeros.
            calldatacopy(sums, calldatasize(), $SUMS_BYTES)

            // k_0 = 1: nothing to multiply, and nothing to add C_0 to.
            let fine := 1
            let proof := proofs.offset
            let input := inputs.offset
            calldatacopy(pair, proof, 0x40)
            calldatacopy(add(pairs, 0xc0), add(proof, 0xc0), 0x40)
            for { let i := 0 } lt(i, proofs.length) { i := add(i, 1) } {
                fine := and(fine, reduced(proof))
                let k := 1
                if i {
                    mstore(0x20, i)
                    k := keccak256(0x00, 0x40)
                    let done := scaled(pair, calldataload(proof), calldataload(add(proof, 0x20)), k)
                    fine := and(fine, done)
                    done :=
                        term(add(pairs, 0xc0), calldataload(add(proof, 0xc0)), calldataload(add(proof, 0xe0)), k)
                    fine := and(fine, done)
                }
                calldatacopy(add(pair, 0x40), add(proof, 0x40), 0x80)
                mstore(sums, addmod(mload(sums), k, R))
                for { let sum := add(sums, 0x20) } lt(sum, add(sums, $SUMS_BYTES)) { sum := add(sum, 0x20) } {
                    let x := calldataload(input)
                    fine := and(fine, lt(x, R))
                    mstore(sum, addmod(mload(sum), mulmod(k, x, R), R))
                    input := add(input, 0x20)
                }
                proof := add(proof, 0x100)
                pair := add(pair, 0xc0)
            }

            // X, and the sum of C that is there already; gamma and delta overwrite the work space.
            let done := scaled(pairs, $IC0_X, $IC0_Y, mload(sums))
            fine := and(fine, done)
$TERMS
            mstore(add(pairs, 0x040), $GAMMA_X1)
            mstore(add(pairs, 0x060), $GAMMA_X0)
            mstore(add(pairs, 0x080), $GAMMA_Y1)
            mstore(add(pairs, 0x0a0), $GAMMA_Y0)
            mstore(add(pairs, 0x100), $DELTA_X1)
            mstore(add(pairs, 0x120), $DELTA_X0)
            mstore(add(pairs, 0x140), $DELTA_Y1)
            mstore(add(pairs, 0x160), $DELTA_Y0)
            done := scaled(add(pairs, 0x180), $ALPHA_X, $ALPHA_Y, mload(sums))
            fine := and(fine, done)
            mstore(add(pairs, 0x1c0), $BETA_X1)
            mstore(add(pairs, 0x1e0), $BETA_X0)
            mstore(add(pairs, 0x200), $BETA_Y1)
            mstore(add(pairs, 0x220), $BETA_Y0)
            if fine {
                let gas_max := add(PAIR_BASE_GAS, mul(PAIR_GAS, add(proofs.length, 3)))
                if staticcall(gas_max, 0x08, pairs, mul(add(proofs.length, 3), 0xc0), 0x00, 0x20) {
                    // A chain without the precompile succeeds too, and answers nothing.
                    valid := and(eq(returndatasize(), 0x20), eq(mload(0x00), 1))
                }
            }
        }
    }
}
