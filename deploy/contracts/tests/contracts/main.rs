//! The contracts, compiled by solc and run in revm, with proofs of our own prover.
//!
//! | file | subject |
//! |---|---|
//! | `chain` | a chain of one's own: deploy, send, let time pass |
//! | `compile` | solc, once for all tests |
//! | `statement` | circuits with any number of public inputs, their keys and proofs |
//! | `verifier`, `batch` | every valid proof accepted, everything else refused |
//! | `semaphore` | a key and a proof of other people |
//! | `registry` | presentations and reuse, and every threat to them |
//! | `era` | claims |
//! | `gas` | what all of it costs, held against `gas.tsv` |

mod batch;
mod chain;
mod compile;
mod era;
mod gas;
mod registry;
mod semaphore;
mod statement;
mod verifier;
