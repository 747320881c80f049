//! Groth16 as snarkjs speaks it: proving, verifying, checking and making keys.
//!
//! [Groth16](https://eprint.iacr.org/2016/260) proves that a rank-1 constraint system has a
//! solution with given public inputs; a proof is three points. The polynomial side follows
//! snarkjs's `.zkey`, whose H query is the odd-index half of the Lagrange basis over twice the
//! domain: with p = a b - c evaluated on the odd coset, the quotient's contribution is the plain
//! sum of p_i H_i. No division by the vanishing polynomial, no last inverse transform.
//!
//! The prover touches silicon only through [`caldera_kernels::Device`] and the curve code of
//! `caldera-kernels`; the verifier [`verify()`] is `ark-groth16`'s and shares no line with it, so
//! the self-check that every proof passes before it leaves a [`Job`] is an independent opinion.
//! For the proofs of others there is a faster one, [`PreparedKey`], by the same curve code.
//!
//! | file | subject |
//! |---|---|
//! | `key` | a `.zkey` laid out on a device |
//! | `job` | one proof as a graph of stages of bounded quanta |
//! | `prove` | a small executor for a job: threads and a queue |
//! | `blinding` | the two random scalars that make a proof zero-knowledge |
//! | `assemble` | from five sums to three points |
//! | `verify` | the verifier, whole and cut into quanta |
//! | `batch` | other people's proofs: our own pairing, one proof or many at once |
//! | `check` | is a key what it claims: points, coefficients, contributions |
//! | `setup` | development keys, whose secrets are known |
//! | `solidity` | contracts that verify, and calls of them |

use crate::format::Part;

mod assemble;
mod batch;
mod blinding;
mod check;
mod job;
mod key;
mod prove;
mod setup;
pub mod solidity;
mod verify;

pub use batch::PreparedKey;
pub use blinding::{Blinding, EntropyError};
pub use check::{CheckError, Checks, check};
pub use job::{Job, JobError, ProveError, Stage, Step, Task};
pub use key::{KeyError, ProvingKey, verification_key};
pub use prove::prove;
pub use setup::{
    DEVELOPMENT_MARK, SetupError, Synthetic, setup_r1cs, setup_synthetic, setup_synthetic_part,
};
pub use verify::{PointFault, VerifyError, verify};

/// How far a pass over a key's parts has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartProgress {
    /// The part that the pass is in.
    pub part: Part,
    /// How many of its points or coefficients are done.
    pub done: usize,
    /// How many it has.
    pub total: usize,
}
