//! The contracts, compiled by solc and run in revm, with proofs of our own prover.
//!
//! | file | subject |
//! |---|---|
//! | `chain` | a chain of one's own: deploy, send, let time pass |
//! | `compile` | solc, once for all tests |
//! | `statement` | circuits with any number of public inputs, their keys and proofs |
//! | `verifier`, `batch` | every valid proof accepted, everything else refused |
//! | `foreign` | other people's keys and proofs |
//! | `registry` | presentations and reuse, and every threat to them |
//! | `era` | claims |
//! | `receipts` | what the gas of these transactions has cost, reimbursed by a ledger |
//! | `threats` | each line that stops something is taken out in turn, and a test fails |
//! | `gas` | what all of it costs, held against `gas.tsv` |

mod batch;
mod chain;
mod compile;
mod era;
mod foreign;
mod gas;
mod receipts;
mod registry;
mod statement;
mod threats;
mod verifier;
