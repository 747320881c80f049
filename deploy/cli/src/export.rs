//! `caldera export`: what a chain needs to judge proofs, the contract and the calls of it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{self, solidity};
use serde_json::{Value, json};

use crate::Report;
use crate::files::{self, Outputs};

/// Export contracts and calls for a chain
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Solidity(SolidityArguments),
    Calldata(CalldataArguments),
}

/// Make a Solidity contract that verifies proofs
///
/// Groth16Verifier for one proof at a time, Groth16BatchVerifier, or Groth16Library, which a contract such as
/// StateRegistry imports. Only for keys over BN254 that have public inputs.
#[derive(clap::Args)]
struct SolidityArguments {
    /// Verification key (verification_key.json)
    #[arg(long, value_name = "VK")]
    vkey: PathBuf,
    /// Make the contract that verifies many proofs at once
    #[arg(long)]
    batch: bool,
    /// Make the library that a contract of one's own is compiled with
    #[arg(long, conflicts_with = "batch")]
    library: bool,
    /// Where to write the contract; standard output if left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Print what to call such a contract with
///
/// The arguments are printed as snarkjs prints them. With --json, the function, its arguments and
/// the bytes of the whole call. Each proof is verified first, because a chain takes gas for a bad one.
#[derive(clap::Args)]
struct CalldataArguments {
    /// Verification key (verification_key.json)
    #[arg(long, value_name = "VK")]
    vkey: PathBuf,
    /// Public inputs and proof; may be given again, for a batch
    #[arg(long, value_names = ["PUBLIC", "PROOF"], num_args = 2, required = true)]
    proof: Vec<PathBuf>,
    /// Call the batch verifier, even with a single proof
    #[arg(long)]
    batch: bool,
    /// Print the bytes of the whole call in hexadecimal instead of its arguments
    #[arg(long)]
    hex: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Command::Solidity(arguments) => contract(arguments),
        Command::Calldata(arguments) => calldata(arguments),
    }
}

fn contract(arguments: &SolidityArguments) -> anyhow::Result<Report> {
    let named = || arguments.vkey.display().to_string();
    let key = key(&arguments.vkey)?;
    let (name, text) = match (arguments.batch, arguments.library) {
        (true, _) => ("Groth16BatchVerifier", solidity::batch_verifier(&key)),
        (_, true) => ("Groth16Library", solidity::library(&key)),
        _ => ("Groth16Verifier", solidity::verifier(&key)),
    };
    let text = text.with_context(named)?;
    let Some(output) = &arguments.output else {
        return Ok(Report::new(
            text.clone(),
            json!({ "contract": name, "source": text }),
        ));
    };
    let mut outputs = Outputs::default();
    outputs.add(output, |out| Ok(out.write_all(text.as_bytes())?))?;
    outputs.commit()?;
    Ok(Report::new(
        format!("wrote {name} to {}\n", output.display()),
        json!({ "contract": name, "file": output }),
    ))
}

fn calldata(arguments: &CalldataArguments) -> anyhow::Result<Report> {
    let key = key(&arguments.vkey)?;
    let mut proofs = Vec::with_capacity(arguments.proof.len() / 2);
    for files in arguments.proof.chunks_exact(2) {
        let [public, proof] = [&files[0], &files[1]];
        let named = |path: &PathBuf| path.display().to_string();
        let inputs =
            PublicInputs::parse(&files::read(public)?, key.curve).with_context(|| named(public))?;
        let judged =
            Proof::parse(&files::read(proof)?, Some(key.curve)).with_context(|| named(proof))?;
        groth16::verify(&key, &judged, &inputs).with_context(|| named(proof))?;
        proofs.push((judged, inputs));
    }
    let inputs = key.public_count();
    let (function, text, call) = match &proofs[..] {
        [(proof, public)] if !arguments.batch => (
            solidity::signature(inputs),
            solidity::calldata(proof, public),
            solidity::call(proof, public)?,
        ),
        batch => (
            solidity::batch_signature(inputs),
            solidity::batch_calldata(batch)?,
            solidity::batch_call(batch)?,
        ),
    };
    let data = format!("0x{}", hexadecimal(&call));
    let list: Value =
        serde_json::from_str(&format!("[{text}]")).context("the arguments are strings in lists")?;
    Ok(Report::new(
        format!("{}\n", if arguments.hex { &data } else { &text }),
        json!({ "function": function, "arguments": list, "data": data }),
    ))
}

fn key(path: &Path) -> anyhow::Result<VerificationKey> {
    VerificationKey::parse(&files::read(path)?).with_context(|| path.display().to_string())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
