//! `caldera setup`: development keys, for circuits that have been through no ceremony.
//!
//! The secrets of such a key are drawn from the operating system's generator and forgotten, but
//! the program that drew them could have kept them: the key is marked, and refused wherever
//! development keys are not asked for.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::Context;
use caldera_kernels::CurveId;
use caldera_prover::format::R1cs;
use caldera_prover::groth16::{self, Synthetic};
use serde_json::json;
use zeroize::Zeroizing;

use crate::files::{self, Outputs};
use crate::progress::Bars;
use crate::{Report, prove, table, vkey};

/// Make a development key, for tests and measurements
///
/// From a circuit (.r1cs), or for a synthetic circuit of any size, which comes with a witness.
/// Anybody who can read this program's memory while it runs could forge proofs for the key, so
/// it is marked, and refused unless --development is given.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("circuit").required(true).args(["r1cs", "synthetic"]))]
pub(crate) struct Arguments {
    /// Circuit (.r1cs)
    #[arg(value_name = "R1CS")]
    r1cs: Option<PathBuf>,
    /// Where to write the key
    #[arg(short, long, value_name = "ZKEY")]
    output: PathBuf,
    /// A synthetic circuit of so many rows, such as 2^18
    #[arg(long, value_name = "2^K")]
    synthetic: Option<Size>,
    /// Share of the synthetic witness that is full-size, from 0 to 1; the rest is bits
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.9,
        requires = "synthetic"
    )]
    dense: f64,
    /// Curve of the synthetic circuit
    #[arg(long, value_enum, default_value_t = Curve::Bn128, requires = "synthetic")]
    curve: Curve,
    /// Where to write the synthetic witness [default: beside the key, as .wtns]
    #[arg(long, value_name = "WTNS", requires = "synthetic")]
    witness: Option<PathBuf>,
    /// Where to write the verification key, if it is wanted
    #[arg(long, value_name = "VK")]
    vk: Option<PathBuf>,
    /// Threads to compute with [default: one a core]
    #[arg(long, value_name = "COUNT", value_parser = prove::threads_parser())]
    threads: Option<u16>,
}

/// A number of rows that is a power of two, as its logarithm.
#[derive(Debug, Clone, Copy)]
struct Size {
    log2: u32,
}

/// A curve by snarkjs's name for it.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Curve {
    Bn128,
    Bls12381,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let begin = Instant::now();
    let threads = prove::threads(arguments.threads);
    for path in [Some(&arguments.output), arguments.vk.as_ref()]
        .into_iter()
        .flatten()
    {
        Outputs::check(path)?;
    }
    let witness = match (&arguments.r1cs, arguments.synthetic) {
        (Some(r1cs), _) => {
            from_r1cs(r1cs, &arguments.output, threads)?;
            None
        }
        (None, Some(size)) => {
            let witness = match &arguments.witness {
                Some(path) => path.clone(),
                None => arguments.output.with_extension("wtns"),
            };
            Outputs::check(&witness)?;
            let curve = match arguments.curve {
                Curve::Bn128 => CurveId::Bn254,
                Curve::Bls12381 => CurveId::Bls12_381,
            };
            synthetic(
                curve,
                size.log2,
                arguments.dense,
                &arguments.output,
                &witness,
                threads,
            )?;
            Some(witness)
        }
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    if let Some(path) = &arguments.vk {
        let key = vkey::of_file(&arguments.output)?;
        let mut outputs = Outputs::default();
        outputs.add(path, |out| Ok(out.write_all(key.print().as_bytes())?))?;
        outputs.commit()?;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let mut text = format!("wrote {}", arguments.output.display());
    for path in [&witness, &arguments.vk].into_iter().flatten() {
        text.push_str(&format!(", {}", path.display()));
    }
    text.push_str(&format!(
        " in {}: a development key, proofs for it can be forged\n",
        table::milliseconds(seconds * 1e6)
    ));
    let json = json!({
        "zkey": arguments.output,
        "witness": witness,
        "verificationKey": arguments.vk,
        "seconds": seconds,
    });
    Ok(Report::new(text, json))
}

fn from_r1cs(r1cs: &Path, output: &Path, threads: usize) -> anyhow::Result<()> {
    let circuit = R1cs::parse(files::read(r1cs)?).with_context(|| r1cs.display().to_string())?;
    let seed = seed()?;
    let mut bars = Bars::new("setting up");
    let mut outputs = Outputs::default();
    outputs.add(output, |out| {
        groth16::setup_r1cs(&circuit, &seed, threads, out, &mut |step| bars.tell(step))
            .with_context(|| r1cs.display().to_string())
    })?;
    outputs.commit()
}

/// Writes the key and the witness of a synthetic circuit.
pub(crate) fn synthetic(
    curve: CurveId,
    domain_log2: u32,
    dense: f64,
    zkey: &Path,
    witness: &Path,
    threads: usize,
) -> anyhow::Result<()> {
    let circuit = Synthetic {
        curve,
        domain_log2,
        dense,
        seed: *seed()?,
    };
    let mut bars = Bars::new("setting up");
    let mut outputs = Outputs::default();
    let mut wtns = None;
    outputs.add(zkey, |out| {
        let made = groth16::setup_synthetic(&circuit, threads, out, &mut |step| bars.tell(step))?;
        wtns = Some(made);
        Ok(())
    })?;
    let wtns = wtns.context("the set-up ended without a witness")?;
    outputs.add(witness, |out| Ok(wtns.write(out)?))?;
    outputs.commit()
}

fn seed() -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).context("the system gives no random bytes")?;
    Ok(seed)
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected a power of two such as 2^18, got {text:?}");
        let log2 = match text.strip_prefix("2^") {
            Some(exponent) => exponent.parse().map_err(|_| wrong())?,
            None => {
                let number: u64 = text.parse().map_err(|_| wrong())?;
                if !number.is_power_of_two() {
                    return Err(wrong());
                }
                number.ilog2()
            }
        };
        Ok(Self { log2 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("2^18".parse::<Size>().unwrap().log2, 18);
        assert_eq!("1024".parse::<Size>().unwrap().log2, 10);
        for wrong in ["1000", "0", "2^", "2^-1", "ten", "-8"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
