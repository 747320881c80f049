//! The command line: what is measured, by subject, and the arguments that commands share.
//!
//! | file | commands |
//! |---|---|
//! | `compute` | what is measured of kernels and prover |
//! | `schedule` | what is measured of the scheduler |
//! | `serve` | what is measured of store, service and fleet |
//!
//! Here are those that run all of them or none.

pub(crate) mod compute;
pub(crate) mod schedule;
pub(crate) mod serve;

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use self::compute::{Compute, GATE, gate_exit};
use self::schedule::Schedule;
use self::serve::Serve;
use crate::all::{self, Bounds};
use crate::bench::{Bench, CurveName, VectorsName};
use crate::duel::Rounds;
use crate::key::Key;
use crate::peer::outside::{Files, Outside};
use crate::record::{Origin, Results, default_path};
use crate::{best, compare, plot, process, table};

/// Measures Caldera and its peers in one run.
#[derive(Debug, Parser)]
#[command(name = "caldera-bench", version)]
pub(crate) struct Arguments {
    /// Print records as JSON lines instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Compute(Compute),
    #[command(flatten)]
    Schedule(Schedule),
    #[command(flatten)]
    Serve(Serve),
    /// Everything above at its usual sizes.
    All {
        #[command(flatten)]
        bounds: Bounds,
        #[command(flatten)]
        peers: Peers,
        /// Draw here what state units save.
        #[arg(long, value_name = "SVG")]
        states_svg: Option<PathBuf>,
        #[command(flatten)]
        run: Run,
    },
    /// Two files of results: what became faster, what slower.
    Compare {
        /// The earlier file.
        old: PathBuf,
        /// The later file.
        new: PathBuf,
    },
    /// From lines of `gpu`, ours over the best peer of each case that one took part in.
    Best {
        /// The file.
        file: PathBuf,
    },
    /// A drawing of a file of results: our ratio to each peer, case by case.
    Plot {
        /// The file.
        file: PathBuf,
        /// Where the SVG goes.
        #[arg(long, short)]
        output: PathBuf,
    },
    /// Every bench body once at a tiny size, peers and their agreement included; no record.
    Once,
    /// The peer that `rpc` starts and measures.
    #[cfg(feature = "jsonrpsee")]
    #[command(name = crate::peer::jsonrpsee::SERVE, hide = true)]
    Jsonrpsee {
        table: PathBuf,
        tenant: String,
        secret: PathBuf,
        threads: usize,
    },
    /// One proof from file to file: what `process` starts and measures.
    #[command(name = process::WHOLE, hide = true)]
    Whole {
        #[arg(long)]
        threads: usize,
        #[arg(long, value_enum, default_value = "best")]
        vectors: VectorsName,
        /// Whether it says at its end what it had resident.
        #[arg(long)]
        resident: bool,
        /// Whether the witness is to be made of an opening.
        #[arg(long)]
        opening: bool,
        zkey: PathBuf,
        witness: PathBuf,
        proof: PathBuf,
        public: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Sizes {
    /// log2 of each size.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    pub(crate) log2: Vec<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Keys {
    /// log2 of the domain of each synthetic key.
    #[arg(long, value_delimiter = ',', default_value = "14,16")]
    log2: Vec<u32>,
    /// The share of witness elements that are full-size; the others are 0 or 1.
    #[arg(long, default_value_t = 0.9)]
    dense: f64,
    /// The curve.
    #[arg(long, value_enum, default_value = "bn254")]
    curve: CurveName,
    /// A key file to measure instead of synthetic ones.
    #[arg(long, requires = "witness", conflicts_with_all = ["log2", "dense", "curve"])]
    zkey: Option<PathBuf>,
    /// Its witness.
    #[arg(long, requires = "zkey")]
    witness: Option<PathBuf>,
}

impl Keys {
    /// Synthetic keys of these sizes.
    pub(crate) fn synthetic(curve: CurveName, log2: &[u32], dense: f64) -> Keys {
        Keys {
            log2: log2.to_vec(),
            dense,
            curve,
            zkey: None,
            witness: None,
        }
    }

    /// The files, if keys come from files.
    pub(crate) fn files(&self) -> Option<(&Path, &Path)> {
        self.zkey.as_deref().zip(self.witness.as_deref())
    }

    /// Hands one key after another to `work`, none of them kept longer than that.
    pub(crate) fn each(
        &self,
        bench: &mut Bench,
        mut work: impl FnMut(&mut Bench, &Key) -> Result<()>,
    ) -> Result<()> {
        if let Some((zkey, witness)) = self.files() {
            return work(bench, &Key::read(zkey, witness)?);
        }
        for &log2 in &self.log2 {
            bench.say(&format!("making a key of 2^{log2}"));
            let key = Key::synthetic(self.curve.into(), log2, self.dense, bench.origin.cores)?;
            work(bench, &key)?;
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// A prover that is a program of its own, run beside ours as a process: rapidsnark, snarkjs
    /// or snarkrs, and where it is. May be given several times.
    #[arg(long = "peer", value_name = "NAME=PATH")]
    pub(crate) peers: Vec<Outside>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The file that lines are appended to; by default benches/results/DATE-CPU.jsonl.
    #[arg(long, conflicts_with = "no_record")]
    out: Option<PathBuf>,
    /// Keep no record.
    #[arg(long)]
    no_record: bool,
    /// Thread counts; by default one, and all processors.
    #[arg(long, value_delimiter = ',')]
    threads: Vec<usize>,
    /// Which vector instructions ours uses; all but the best is said in the names of the cases.
    #[arg(long, value_enum, default_value = "best")]
    vectors: VectorsName,
    /// Rounds to count at least.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for one case, once there are enough rounds.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

impl Arguments {
    /// Does what is asked for.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let json = self.json;
        match &self.command {
            Command::Compute(command) => return command.run(json),
            Command::Schedule(command) => return command.run(json),
            Command::Serve(command) => return command.run(json),
            Command::All {
                bounds,
                peers,
                states_svg,
                run,
            } => {
                run.takes_best("all")?;
                let mut bench = run.bench()?;
                let all = all::all(&mut bench, bounds, peers)?;
                if let Some(path) = states_svg {
                    fs::write(path, &all.states).with_context(|| path.display().to_string())?;
                }
                print(&bench, json, &all.tables)?;
                let cuts = gate_exit(&all.cuts, GATE);
                return Ok(if all.holds { cuts } else { ExitCode::FAILURE });
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
            Command::Best { file } => {
                let best = best::best(&Results::read(file)?);
                if json {
                    for it in &best {
                        println!("{}", serde_json::to_string(it).context("JSON")?);
                    }
                } else {
                    print!("{}", best::of_best(&best));
                }
            }
            Command::Plot { file, output } => {
                let drawing = plot::plot(&Results::read(file)?)?;
                fs::write(output, drawing)
                    .with_context(|| format!("writing {}", output.display()))?;
            }
            Command::Once => {
                let bench = all::once()?;
                print(&bench, json, &[])?;
            }
            #[cfg(feature = "jsonrpsee")]
            Command::Jsonrpsee {
                table,
                tenant,
                secret,
                threads,
            } => crate::peer::jsonrpsee::serve(table, tenant, secret, *threads)?,
            Command::Whole {
                threads,
                vectors,
                resident,
                opening,
                zkey,
                witness,
                proof,
                public,
            } => {
                let files = Files {
                    zkey: zkey.clone(),
                    witness: witness.clone(),
                    proof: proof.clone(),
                    public: public.clone(),
                };
                process::whole(&files, *threads, *vectors, *resident, *opening)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Run {
    /// Points are checked on the best that there is, whatever a device uses.
    fn takes_best(&self, command: &str) -> Result<()> {
        let best = self.vectors == VectorsName::Best;
        anyhow::ensure!(best, "`{command}` loads keys, which has no other vectors");
        Ok(())
    }

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
            vectors: self.vectors,
            origin,
            results,
            tell: std::io::stderr().is_terminal(),
            records: Vec::new(),
        })
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

/// Exit code 1 where something that is promised does not hold.
fn verdict(holds: bool) -> ExitCode {
    ExitCode::from(u8::from(!holds))
}

/// More rounds than this tell nothing more about a median.
const ROUNDS_MAX: usize = 101;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
