// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.24;

/// Verifies Groth16 proofs over BN254 for one verification key with $L public inputs.
///
/// Made by `caldera export solidity`. A proof (A, B, C) for inputs x holds when
///
///     e(A, B) e(-alpha, beta) e(X, -gamma) e(C, -delta) = 1,    X = IC_0 + sum x_i IC_i
///
/// What is negated is negated in the constants, so nothing is negated here. The precompiles of
/// EIP-196 and EIP-197 check that points are on their curves and, in G2, in the subgroup. What
/// they leave to their caller is checked here: an input is below r, or one statement would have
/// several spellings; a coordinate is below q, before any gas is spent on it; each precompile
/// succeeded and answered.
///
/// A failed precompile burns all the gas that it was given. So none is given all that is left:
/// each gets a multiple of its price by EIP-1108, which leaves room for other prices on other
/// chains and in other years, and bounds what a bad proof costs.
$CONTRACT {
    /// The order of the groups.
    uint256 private constant R = $R;
    /// The modulus of the coordinates.
    uint256 private constant Q = $Q;
    /// Four times 150, four times 6,000, and twice 45,000 + 34,000 for each of four pairs.
    uint256 private constant ADD_GAS = 600;
    uint256 private constant MUL_GAS = 24000;
    uint256 private constant PAIR_GAS = 362000;

$FUNCTION
        // Assembly, because a precompile cannot be called otherwise without copying each number
        // several times. It writes only to memory that nobody owns and to the scratch space.
        assembly ("memory-safe") {
            // Adds scalar (x, y) to the point at `sum`, with the three words after it as work space.
            function term(sum, x, y, scalar) -> fine {
                let product := add(sum, 0x40)
                mstore(product, x)
                mstore(add(product, 0x20), y)
                mstore(add(product, 0x40), scalar)
                fine := and(lt(scalar, R), staticcall(MUL_GAS, 0x07, product, 0x60, product, 0x40))
                // On its own line: arguments are evaluated from the last to the first.
                fine := and(staticcall(ADD_GAS, 0x06, sum, 0x80, sum, 0x40), fine)
            }

            let fine := lt(calldataload(a), Q)
            fine := and(fine, lt(calldataload(add(a, 0x20)), Q))
            fine := and(fine, lt(calldataload(b), Q))
            fine := and(fine, lt(calldataload(add(b, 0x20)), Q))
            fine := and(fine, lt(calldataload(add(b, 0x40)), Q))
            fine := and(fine, lt(calldataload(add(b, 0x60)), Q))
            fine := and(fine, lt(calldataload(c), Q))
            fine := and(fine, lt(calldataload(add(c, 0x20)), Q))

            // The sum is made where the pairing wants it; gamma then overwrites the work space.
            let pairs := mload(0x40)
            mstore(pairs, $IC0_X)
            mstore(add(pairs, 0x20), $IC0_Y)
$TERMS
            if fine {
                mstore(add(pairs, 0x040), $GAMMA_X1)
                mstore(add(pairs, 0x060), $GAMMA_X0)
                mstore(add(pairs, 0x080), $GAMMA_Y1)
                mstore(add(pairs, 0x0a0), $GAMMA_Y0)
                // `b` follows `a` in the call.
                calldatacopy(add(pairs, 0x0c0), a, 0xc0)
                calldatacopy(add(pairs, 0x180), c, 0x40)
                mstore(add(pairs, 0x1c0), $DELTA_X1)
                mstore(add(pairs, 0x1e0), $DELTA_X0)
                mstore(add(pairs, 0x200), $DELTA_Y1)
                mstore(add(pairs, 0x220), $DELTA_Y0)
                mstore(add(pairs, 0x240), $ALPHA_X)
                mstore(add(pairs, 0x260), $ALPHA_Y)
                mstore(add(pairs, 0x280), $BETA_X1)
                mstore(add(pairs, 0x2a0), $BETA_X0)
                mstore(add(pairs, 0x2c0), $BETA_Y1)
                mstore(add(pairs, 0x2e0), $BETA_Y0)
                if staticcall(PAIR_GAS, 0x08, pairs, 0x300, 0x00, 0x20) {
                    // A chain without the precompile succeeds too, and answers nothing.
                    valid := and(eq(returndatasize(), 0x20), eq(mload(0x00), 1))
                }
            }
        }
    }
}
