//! `caldera witness`: a witness from inputs, by circom's witness program, here and now.
//!
//! The same sandbox as on a `calderad`: the program may come from a stranger. What `prove` and
//! `submit` do with `--wasm` is this too, without a file between.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use caldera_witness::{Calculation, Inputs, Limits, Program, Progress, SLICE_FUEL, WitnessError};
use serde_json::json;
use zeroize::Zeroizing;

use crate::files::{self, Outputs};
use crate::{Report, table};

/// Compute a witness from inputs
///
/// Runs the witness program that circom made (--wasm), in a sandbox, and writes the witness that
/// snarkjs would write.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Witness program of circom 2 (.wasm)
    #[arg(value_name = "WASM")]
    program: PathBuf,
    /// Inputs: a JSON object of signals
    #[arg(value_name = "INPUTS")]
    inputs: PathBuf,
    /// Where to write the witness
    #[arg(short, long, value_name = "WTNS")]
    output: PathBuf,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = SECONDS)]
    seconds: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    Outputs::check(&arguments.output)?;
    let began = Instant::now();
    let witness = compute(&arguments.program, &arguments.inputs, arguments.seconds)?;
    let took = began.elapsed();
    let mut outputs = Outputs::default();
    outputs.add(&arguments.output, |out| Ok(out.write_all(&witness)?))?;
    outputs.commit()?;
    let text = format!(
        "wrote {}: computed in {}\n",
        arguments.output.display(),
        table::milliseconds(took.as_secs_f64() * 1e6)
    );
    let json = json!({
        "witness": arguments.output,
        "computeMs": took.as_secs_f64() * 1e3,
    });
    Ok(Report::new(text, json))
}

/// A witness for `prove`: of a file, or of inputs if there is a program.
pub(crate) fn open(witness: &Path, program: Option<&Path>) -> anyhow::Result<Bytes> {
    match program {
        None => files::read(witness),
        Some(program) => {
            let bytes = compute(program, witness, SECONDS)?;
            Ok(Bytes::from_owner(bytes))
        }
    }
}

/// The bytes of a `.wtns` file.
fn compute(program: &Path, inputs: &Path, seconds: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // At home the machine is the limit, and a witness may be as large as a file can count.
    let limits = Limits {
        program_bytes: usize::MAX,
        memory_bytes: 4 << 30,
        witness_bytes: usize::MAX,
        inputs_bytes: usize::MAX,
        inputs: usize::MAX,
    };
    let name = || program.display().to_string();
    let loaded = Program::load(&files::read(program)?, &limits).with_context(name)?;
    let named = || inputs.display().to_string();
    let inputs = Inputs::parse(files::read(inputs)?.to_vec(), &limits).with_context(named)?;
    let mut calculation = Calculation::begin(&loaded, inputs).with_context(name)?;
    let began = Instant::now();
    loop {
        match calculation.step(100 * SLICE_FUEL).with_context(named)? {
            Progress::Done(file) => return Ok(file),
            Progress::More if began.elapsed() > Duration::from_secs(seconds) => {
                return Err(WitnessError::Time { seconds }).with_context(name);
            }
            Progress::More => {}
        }
    }
}

/// Ten times what the largest programs of today need.
const SECONDS: u64 = 3_600;
