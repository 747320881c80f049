//! The Solidity contracts that are not made for one key, as text.
//!
//! `StateRegistry` counts trusted state units, `EraDistributor` pays what the ledger says, and
//! `EraToken` is what it pays with in tests. Verifiers are made for a verification key, by
//! `caldera_prover::groth16::solidity`. docs/contracts.md says who may call what.
//!
//! The tests compile all of them with the real compiler and run them in an Ethereum virtual
//! machine, with proofs of our own prover.

/// Presentations, their reuse, roots and requests. It imports `Groth16Library.sol`, which
/// `caldera_prover::groth16::solidity` makes for the key of presentations.
pub const STATE_REGISTRY: &str = include_str!("../solidity/StateRegistry.sol");

/// Claims by epoch.
pub const ERA_DISTRIBUTOR: &str = include_str!("../solidity/EraDistributor.sol");

/// A plain ERC-20, for tests.
pub const ERA_TOKEN: &str = include_str!("../solidity/EraToken.sol");
