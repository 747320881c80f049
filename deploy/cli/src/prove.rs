//! `caldera prove`: one proof, here and now, in rapidsnark's order of arguments.
//!
//! By default the key is checked in full before it is used: every point on its curve and in its
//! subgroup. rapidsnark and snarkjs check nothing of the kind. It costs a good part of a proof,
//! so whoever has checked a key once may say `--check trusted` afterwards. Either way the proof
//! is verified before it is written, so a bad key or witness yields an error and never a file.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{self, CheckError, Checks, ProvingKey};
use serde_json::json;

use crate::devices::{Choice, QUANTUM};
use crate::files::{self, Outputs};
use crate::progress::Bars;
use crate::{Report, progress, table, witness};

/// Make a proof
///
/// The proof has been verified before it is written. On any failure neither output exists.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Proving key (.zkey)
    #[arg(value_name = "ZKEY")]
    zkey: PathBuf,
    /// Witness (.wtns), or inputs (.json) with --wasm
    #[arg(value_name = "WTNS")]
    witness: PathBuf,
    /// Where to write the proof
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// Where to write the public inputs
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,
    /// Witness program of the circuit: compute the witness from inputs
    #[arg(long, value_name = "WASM")]
    wasm: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// What a proof that is made here is made with
#[derive(clap::Args)]
pub(crate) struct How {
    /// How much of the key to check first
    #[arg(long, value_enum, default_value_t = Check::Full)]
    check: Check,
    /// Take keys whose proofs can be forged: development keys, keys without a contribution
    #[arg(long)]
    development: bool,
    /// Threads to compute with [default: one a core]
    #[arg(long, value_name = "COUNT", value_parser = threads_parser())]
    threads: Option<u16>,
    #[command(flatten)]
    devices: Choice,
}

/// How much of a key is checked before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Check {
    /// Every point: on the curve and in the subgroup
    Full,
    /// Lengths, counts and primes only: the key's points have been checked before
    Trusted,
}

/// The files of a proof.
pub(crate) struct Paths<'a> {
    /// The proving key.
    pub(crate) zkey: &'a Path,
    /// Where the proof goes.
    pub(crate) proof: &'a Path,
    /// Where the public inputs go.
    pub(crate) public: &'a Path,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let paths = Paths {
        zkey: &arguments.zkey,
        proof: &arguments.proof,
        public: &arguments.public,
    };
    let name = arguments.witness.display().to_string();
    prove(&paths, &arguments.how, &name, || {
        let witness = witness::open(&arguments.witness, arguments.wasm.as_deref())?;
        Wtns::parse(witness).with_context(|| name.clone())
    })
}

/// Makes a proof here and writes it. `name` is what an error calls the witness.
pub(crate) fn prove(
    paths: &Paths,
    how: &How,
    name: &str,
    witness: impl FnOnce() -> anyhow::Result<Wtns>,
) -> anyhow::Result<Report> {
    for path in [paths.proof, paths.public] {
        Outputs::check(path)?;
    }
    let threads = threads(how.threads);
    let mut watch = Watch::new();

    let key_name = || paths.zkey.display().to_string();
    let zkey = Zkey::parse(files::read(paths.zkey)?).with_context(key_name)?;
    let witness = witness()?;
    let read = watch.lap();
    check(&zkey, how, threads).with_context(key_name)?;
    let checked = watch.lap();
    let device = how.devices.open(QUANTUM, threads)?;
    let key = ProvingKey::load(&zkey, device).with_context(key_name)?;
    let loaded = watch.lap();

    let bar = progress::bar("proving", 0);
    let result = groth16::prove(&key, witness, threads, &mut |done, total| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    key.device().keep();
    if let Some(why) = key.device().health().lost {
        eprintln!("caldera: warning: a device was lost: {why}");
    }
    let (proof, public) = result.with_context(|| name.to_owned())?;
    let proved = watch.lap();

    let mut outputs = Outputs::default();
    outputs.add(paths.proof, |out| {
        Ok(out.write_all(proof.print().as_bytes())?)
    })?;
    outputs.add(paths.public, |out| {
        Ok(out.write_all(public.print().as_bytes())?)
    })?;
    outputs.commit()?;

    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let shown = |time: Duration| table::milliseconds(time.as_secs_f64() * 1e6);
    let text = format!(
        "wrote {} and {}: read {}, checked {}, loaded {}, proved and verified {} on {threads} threads\n",
        paths.proof.display(),
        paths.public.display(),
        shown(read),
        shown(checked),
        shown(loaded),
        shown(proved),
    );
    let json = json!({
        "proof": paths.proof,
        "public": paths.public,
        "threads": threads,
        "readMs": ms(read),
        "checkMs": ms(checked),
        "loadMs": ms(loaded),
        "proveMs": ms(proved),
    });
    Ok(Report::new(text, json))
}

fn check(zkey: &Zkey, how: &How, threads: usize) -> Result<(), CheckError> {
    let development = how.development;
    match how.check {
        Check::Full => {
            let mut bars = Bars::new("checking");
            let checks = Checks {
                development,
                threads,
            };
            groth16::check(zkey, &checks, &mut |progress| bars.tell(progress))
        }
        Check::Trusted if development => Ok(()),
        Check::Trusted if zkey.development().is_some() => Err(CheckError::Development),
        Check::Trusted if zkey.contribution_count() == 0 => Err(CheckError::NoContribution),
        Check::Trusted => Ok(()),
    }
}

/// As many threads as asked for, or one a core.
pub(crate) fn threads(asked: Option<u16>) -> usize {
    match asked {
        Some(count) => count.into(),
        None => std::thread::available_parallelism().map_or(1, NonZero::get),
    }
}

pub(crate) fn threads_parser() -> clap::builder::RangedI64ValueParser<u16> {
    clap::value_parser!(u16).range(1..=1024)
}

/// Times one step after another.
struct Watch(Instant);

impl Watch {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let lap = self.0.elapsed();
        self.0 = Instant::now();
        lap
    }
}
