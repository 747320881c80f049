//! `caldera vkey`: the verification key that belongs to a proving key, as snarkjs exports it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use caldera_prover::format::Zkey;
use caldera_prover::format::json::VerificationKey;
use caldera_prover::groth16;
use serde_json::json;

use crate::Report;
use crate::files::{self, Outputs};

/// Export the verification key of a proving key
///
/// Writes what `snarkjs zkey export verificationkey` writes.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Proving key (.zkey)
    #[arg(value_name = "ZKEY")]
    zkey: PathBuf,
    /// Where to write the verification key
    #[arg(short, long, value_name = "VK")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let key = of_file(&arguments.zkey)?;
    let mut outputs = Outputs::default();
    outputs.add(&arguments.output, |out| {
        Ok(out.write_all(key.print().as_bytes())?)
    })?;
    outputs.commit()?;
    Ok(Report::new(
        format!("wrote {}\n", arguments.output.display()),
        json!({ "verificationKey": arguments.output }),
    ))
}

/// The verification key of a proving key in a file.
pub(crate) fn of_file(path: &Path) -> anyhow::Result<VerificationKey> {
    let named = || path.display().to_string();
    let zkey = Zkey::parse(files::read(path)?).with_context(named)?;
    groth16::verification_key(&zkey).with_context(named)
}
