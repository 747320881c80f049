//! Measures: fields, MSM, NTT, whole proofs and what quanta cost, beside the peers in the same
//! run, and keeps a line of each figure.
//!
//! | file | subject |
//! |---|---|
//! | `field`, `msm`, `ntt`, `prove`, `quanta` | what is measured |
//! | `peer` | the others |
//! | `duel` | taking turns; medians, quartiles, ratios |
//! | `drive` | runs plans and proofs, and accounts for each quantum |
//! | `record`, `compare`, `table` | lines of results, two files of them, tables |
//!
//! How to read the figures is in docs/measurements.md. Exit codes: 0 done, 1 the gate on quanta
//! was missed, 2 usage, 70 a bench failed or a peer was refused.

mod bench;
mod clock;
mod compare;
mod drive;
mod duel;
mod field;
mod msm;
mod ntt;
mod peer;
mod prove;
mod quanta;
mod record;
mod synthetic;
mod table;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use caldera_kernels::CurveId;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::Bench;
use crate::duel::Rounds;
use crate::quanta::{Cut, of_cuts};
use crate::record::{Origin, Results, default_path};

/// Measures Caldera and its peers in one run.
#[derive(Debug, Parser)]
#[command(name = "caldera-bench", version)]
struct Arguments {
    /// Print records as JSON lines instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Multiplications and squarings of each prime field.
    Field(Run),
    /// Sums of multiples of points.
    Msm {
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        run: Run,
    },
    /// Number-theoretic transforms.
    Ntt {
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        run: Run,
    },
    /// Whole proofs, and where their time goes.
    Prove {
        #[command(flatten)]
        keys: Keys,
        /// A key file to prove with instead of synthetic ones.
        #[arg(long, requires = "witness")]
        zkey: Option<PathBuf>,
        /// Its witness.
        #[arg(long, requires = "zkey")]
        witness: Option<PathBuf>,
        #[command(flatten)]
        run: Run,
    },
    /// The same proof cut into 2 ms quanta and uncut.
    Quanta {
        #[command(flatten)]
        keys: Keys,
        /// The most that cutting may cost, as a ratio of CPU time.
        #[arg(long, default_value_t = 1.05)]
        gate: f64,
        #[command(flatten)]
        run: Run,
    },
    /// Everything above at its usual sizes.
    All(Run),
    /// Two files of results: what became faster, what slower.
    Compare {
        /// The earlier file.
        old: PathBuf,
        /// The later file.
        new: PathBuf,
    },
    /// Every bench body once at a tiny size, peers and their agreement included; no record.
    Once,
}

#[derive(Debug, Args)]
struct Sizes {
    /// log2 of each size.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    log2: Vec<u32>,
}

#[derive(Debug, Args)]
struct Keys {
    /// log2 of each domain.
    #[arg(long, value_delimiter = ',', default_value = "14,16")]
    log2: Vec<u32>,
    /// The share of witness elements that are full-size; the others are 0 or 1.
    #[arg(long, default_value_t = 0.9)]
    dense: f64,
    /// The curve.
    #[arg(long, value_enum, default_value = "bn254")]
    curve: CurveName,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CurveName {
    Bn254,
    #[value(name = "bls12-381")]
    Bls12_381,
}

#[derive(Debug, Args)]
struct Run {
    /// The file that lines are appended to; by default benches/results/DATE-CPU.jsonl.
    #[arg(long, conflicts_with = "no_record")]
    out: Option<PathBuf>,
    /// Keep no record.
    #[arg(long)]
    no_record: bool,
    /// Thread counts; by default one, and all processors.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Rounds to count at least.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for one case, once there are enough rounds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("caldera-bench: {error:#}");
            ExitCode::from(EX_SOFTWARE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let json = arguments.json;
    match &arguments.command {
        Command::Field(run) => {
            let mut bench = run.bench()?;
            field::field(&mut bench, FIELD_OPERATIONS)?;
            print(&bench, json, &[])?;
        }
        Command::Msm { sizes, run } => {
            let mut bench = run.bench()?;
            msm::msm(&mut bench, &sizes.log2)?;
            print(&bench, json, &[])?;
        }
        Command::Ntt { sizes, run } => {
            let mut bench = run.bench()?;
            ntt::ntt(&mut bench, &sizes.log2)?;
            print(&bench, json, &[])?;
        }
        Command::Prove {
            keys,
            zkey,
            witness,
            run,
        } => {
            let mut bench = run.bench()?;
            let tables = match (zkey, witness) {
                (Some(zkey), Some(witness)) => prove::prove_files(&mut bench, zkey, witness)?,
                _ => prove::prove(&mut bench, keys.curve.into(), &keys.log2, keys.dense)?,
            };
            print(&bench, json, &tables)?;
        }
        Command::Quanta { keys, gate, run } => {
            let mut bench = run.bench()?;
            let cuts = quanta::quanta(&mut bench, keys.curve.into(), &keys.log2, keys.dense)?;
            print(&bench, json, &[of_cuts(&cuts)])?;
            return Ok(gate_exit(&cuts, *gate));
        }
        Command::All(run) => {
            let mut bench = run.bench()?;
            field::field(&mut bench, FIELD_OPERATIONS)?;
            msm::msm(&mut bench, &[14, 16])?;
            ntt::ntt(&mut bench, &[14, 16, 18])?;
            let mut tables = prove::prove(&mut bench, CurveId::Bn254, &[10, 12, 14, 16], 0.9)?;
            let cuts = quanta::quanta(&mut bench, CurveId::Bn254, &[14, 16], 0.9)?;
            tables.push(of_cuts(&cuts));
            print(&bench, json, &tables)?;
            return Ok(gate_exit(&cuts, GATE));
        }
        Command::Compare { old, new } => {
            let comparisons = compare::compare(&Results::read(old)?, &Results::read(new)?);
            if json {
                for comparison in &comparisons {
                    println!("{}", serde_json::to_string(comparison).context("JSON")?);
                }
            } else {
                print!("{}", compare::of_comparisons(&comparisons));
            }
        }
        Command::Once => {
            let bench = once()?;
            print(&bench, json, &[])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every body, at sizes that take no time.
fn once() -> Result<Bench> {
    let mut bench = Bench {
        rounds: Rounds {
            min: 1,
            max: 1,
            budget: Duration::ZERO,
        },
        threads: vec![1, 2],
        origin: Origin::here(),
        results: None,
        tell: false,
        records: Vec::new(),
    };
    field::field(&mut bench, 2048)?;
    msm::msm(&mut bench, &[0, 5])?;
    ntt::ntt(&mut bench, &[1, 5])?;
    for curve in [CurveId::Bn254, CurveId::Bls12_381] {
        prove::prove(&mut bench, curve, &[5], 0.5)?;
        quanta::quanta(&mut bench, curve, &[5], 0.5)?;
    }
    Ok(bench)
}

impl Run {
    fn bench(&self) -> Result<Bench> {
        let origin = Origin::here();
        if cfg!(debug_assertions) {
            eprintln!("caldera-bench: not a release build; figures say little");
        }
        let results = match (&self.out, self.no_record) {
            (_, true) => None,
            (Some(path), false) => Some(Results::open(path)?),
            (None, false) => {
                let path = default_path(&origin);
                Some(Results::open(&path).context("give --out FILE or --no-record")?)
            }
        };
        let mut threads = self.threads.clone();
        if threads.is_empty() {
            threads = vec![1, origin.cores];
        }
        threads.dedup();
        anyhow::ensure!(!threads.contains(&0), "no threads to measure on");
        Ok(Bench {
            rounds: Rounds {
                min: self.rounds.max(1),
                max: ROUNDS_MAX,
                budget: Duration::from_secs(self.seconds),
            },
            threads,
            origin,
            results,
            tell: std::io::stderr().is_terminal(),
            records: Vec::new(),
        })
    }
}

impl From<CurveName> for CurveId {
    fn from(name: CurveName) -> CurveId {
        match name {
            CurveName::Bn254 => CurveId::Bn254,
            CurveName::Bls12_381 => CurveId::Bls12_381,
        }
    }
}

fn print(bench: &Bench, json: bool, tables: &[String]) -> Result<()> {
    if json {
        for record in &bench.records {
            println!(
                "{}",
                serde_json::to_string(record).context("a record as JSON")?
            );
        }
        return Ok(());
    }
    println!(
        "{}, {} processors, Linux {}",
        bench.origin.cpu, bench.origin.cores, bench.origin.kernel
    );
    println!("{}; {}\n", bench.origin.commit, bench.origin.build);
    print!("{}", table::of_records(&bench.records));
    for table in tables {
        print!("\n{table}");
    }
    Ok(())
}

fn gate_exit(cuts: &[Cut], gate: f64) -> ExitCode {
    let missed: Vec<&Cut> = cuts.iter().filter(|cut| cut.ratio.median > gate).collect();
    for cut in &missed {
        eprintln!(
            "caldera-bench: {}: cutting costs {:.3}, gate {gate}",
            cut.name, cut.ratio.median
        );
    }
    if missed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What cutting may cost in `all`.
const GATE: f64 = 1.05;

/// About 20 ms of a run.
const FIELD_OPERATIONS: u64 = 1 << 20;

/// More rounds than this tell nothing more about a median.
const ROUNDS_MAX: usize = 101;

/// EX_SOFTWARE of sysexits.h.
const EX_SOFTWARE: u8 = 70;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_bench_body_runs_and_its_contenders_agree() {
        let bench = once().expect("every body");
        for name in ["field", "msm", "ntt", "prove", "quanta"] {
            assert!(
                bench.records.iter().any(|record| record.bench == name),
                "{name}"
            );
        }
        let peers = bench.records.iter().filter(|record| !record.ours).count();
        assert!(peers > 0, "no peer took part");
    }

    #[test]
    fn the_gate_is_on_the_median() {
        let cut = |median| Cut {
            name: "a case".to_owned(),
            ratio: duel::Spread {
                low: 0.9,
                median,
                high: 2.0,
            },
            quanta: drive::Trace::default().total().expect("an empty account"),
        };
        let code = |ratios: [f64; 2]| gate_exit(&ratios.map(cut), 1.05);
        assert_eq!(
            format!("{:?}", code([1.0, 1.05])),
            format!("{:?}", ExitCode::SUCCESS)
        );
        assert_eq!(
            format!("{:?}", code([1.0, 1.06])),
            format!("{:?}", ExitCode::FAILURE)
        );
    }
}
