//! `caldera verify`: is this proof a proof of this statement? The arguments stand in snarkjs's
//! order, and so do the words of the answer.

use std::path::PathBuf;

use anyhow::Context;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16;
use serde_json::json;

use crate::{Report, files};

/// Verify a proof
///
/// Prints OK! and ends with exit code 0 if the proof is valid, prints Invalid proof and ends with
/// 1 if it is not. Files that cannot be read as what they should be are failures with codes of
/// their own.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Verification key (verification_key.json)
    #[arg(value_name = "VK")]
    verification_key: PathBuf,
    /// Public inputs (public.json)
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,
    /// Proof (proof.json)
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let named = |path: &PathBuf| path.display().to_string();
    let key = VerificationKey::parse(&files::read(&arguments.verification_key)?)
        .with_context(|| named(&arguments.verification_key))?;
    let public = PublicInputs::parse(&files::read(&arguments.public)?, key.curve)
        .with_context(|| named(&arguments.public))?;
    let proof = Proof::parse(&files::read(&arguments.proof)?, Some(key.curve))
        .with_context(|| named(&arguments.proof))?;
    Ok(match groth16::verify(&key, &proof, &public) {
        Ok(()) => Report::new("OK!\n", json!({ "valid": true })),
        Err(reason) => Report {
            code: 1,
            ..Report::new(
                format!("Invalid proof: {reason}\n"),
                json!({ "valid": false, "reason": reason.to_string() }),
            )
        },
    })
}
