//! Commands that measure kernels and prover: fields, sums, transforms, proofs, keys.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Subcommand;

use super::{Keys, Peers, Run, Sizes, print, verdict};
use crate::bench::{Bench, CurveName};
use crate::cores::{self, Gain};
use crate::memory::{self, Peak};
use crate::quanta::{self, Cut};
use crate::{field, gpu, kernel, load, msm, ntt, present, process, prove, states, tables, verify};

/// What is measured of kernels and prover.
#[derive(Debug, Subcommand)]
pub(crate) enum Compute {
    /// Multiplications and squarings of each prime field.
    Field(Run),
    /// One kind of work on one device: how close it is to the device's bounds, and each quantum.
    Kernel(kernel::Plan),
    /// A GPU, figure by figure: products, sums, transforms, proofs, and how fast it changes hands.
    Gpu {
        #[command(flatten)]
        plan: gpu::Plan,
        #[command(flatten)]
        run: Run,
    },
    /// Sums of multiples of points.
    Msm {
        #[command(flatten)]
        sizes: Sizes,
        #[command(flatten)]
        which: msm::Which,
        #[command(flatten)]
        run: Run,
    },
    /// Number-theoretic transforms.
    Ntt {
        #[command(flatten)]
        sizes: Sizes,
        /// The curves whose scalar fields to transform over.
        #[arg(long, value_enum, value_delimiter = ',', default_values_t = CurveName::ALL)]
        curve: Vec<CurveName>,
        #[command(flatten)]
        run: Run,
    },
    /// Whole proofs, and where their time goes; with outside programs, whole processes too.
    Prove {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        peers: Peers,
        #[command(flatten)]
        run: Run,
    },
    /// Verifying proofs one by one and in batches, with a prepared key.
    Verify {
        /// Proofs of a batch.
        #[arg(long, value_delimiter = ',', default_values_t = BATCHES)]
        batch: Vec<usize>,
        /// Public inputs of a proof.
        #[arg(long, default_value_t = PUBLIC_INPUTS)]
        inputs: usize,
        #[command(flatten)]
        run: Run,
    },
    /// What trusted state units save: uses of one state and batches against verifying each time, and users
    /// through a workflow over two rollups.
    States {
        /// Uses of one state.
        #[arg(long, value_delimiter = ',', default_values_t = USES)]
        uses: Vec<u16>,
        /// Presentations of a batch.
        #[arg(long, value_delimiter = ',', default_values_t = TOGETHER)]
        batch: Vec<u16>,
        /// Users of the workflow.
        #[arg(long, default_value_t = USERS)]
        users: u64,
        /// Where to draw what is saved, as SVG.
        #[arg(long)]
        svg: Option<PathBuf>,
        #[command(flatten)]
        run: Run,
    },
    /// A presentation of a trusted state unit, whole: witness, proof and self-check; with rapidsnark, beside the
    /// same statement in circom.
    Present {
        #[command(flatten)]
        peers: Peers,
        #[command(flatten)]
        run: Run,
    },
    /// Loading a key, its points checked and believed.
    Load {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        run: Run,
    },
    /// The same proof on many threads and on one.
    Cores {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        run: Run,
    },
    /// The same proof cut into 2 ms quanta and uncut.
    Quanta {
        #[command(flatten)]
        keys: Keys,
        /// The most that cutting may cost, as a ratio of CPU time.
        #[arg(long, default_value_t = GATE)]
        gate: f64,
        #[command(flatten)]
        run: Run,
    },
    /// The same proof with tables of the key and without.
    Tables {
        #[command(flatten)]
        keys: Keys,
        /// What the tables may take, as multiples of the key file.
        #[arg(long, value_delimiter = ',', default_values_t = TABLES)]
        times: Vec<f64>,
        #[command(flatten)]
        run: Run,
    },
    /// The peak of memory while proving, in a process of its own; exit code 1 if it is more than
    /// 1.3 times the key file and the vectors that a proof works on.
    Memory {
        #[command(flatten)]
        keys: Keys,
        #[command(flatten)]
        run: Run,
    },
}

impl Compute {
    /// Measures, and prints what came out.
    pub(crate) fn run(&self, json: bool) -> Result<ExitCode> {
        match self {
            Compute::Field(run) => {
                let mut bench = run.bench()?;
                field::field(&mut bench, FIELD_OPERATIONS)?;
                print(&bench, json, &[])?;
            }
            Compute::Kernel(plan) => {
                let roofline = kernel::kernel(plan)?;
                if json {
                    let line = serde_json::to_string(&roofline).context("a roofline as JSON")?;
                    println!("{line}");
                } else {
                    print!("{}", kernel::of_roofline(&roofline));
                }
            }
            Compute::Gpu { plan, run } => {
                let mut bench = run.bench()?;
                let rows = gpu::gpu(&mut bench, plan)?;
                print(&bench, json, &[rows])?;
            }
            Compute::Msm { sizes, which, run } => {
                let mut bench = run.bench()?;
                msm::msm(&mut bench, &sizes.log2, which)?;
                print(&bench, json, &[])?;
            }
            Compute::Ntt { sizes, curve, run } => {
                let mut bench = run.bench()?;
                ntt::ntt(&mut bench, &sizes.log2, curve)?;
                print(&bench, json, &[])?;
            }
            Compute::Prove { keys, peers, run } => {
                let mut bench = run.bench()?;
                let mut tables = Vec::new();
                proofs(&mut bench, keys, peers, &mut tables)?;
                print(&bench, json, &tables)?;
            }
            Compute::Verify { batch, inputs, run } => {
                let mut bench = run.bench()?;
                verify::verify(&mut bench, batch, *inputs)?;
                print(&bench, json, &[])?;
            }
            Compute::States {
                uses,
                batch,
                users,
                svg,
                run,
            } => {
                let counts = uses.iter().chain(batch);
                ensure!(counts.clone().all(|it| *it > 0), "no uses to verify");
                let mut bench = run.bench()?;
                let costs = states::costs(&mut bench, uses, batch)?;
                if let Some(path) = svg {
                    let drawing = states::draw(&costs, &bench.origin)?;
                    std::fs::write(path, drawing).with_context(|| path.display().to_string())?;
                }
                let flow = states::workflow(&mut bench, *users)?;
                let tables = [states::of_costs(&costs), states::of_flow(&flow)];
                print(&bench, json, &tables)?;
            }
            Compute::Present { peers, run } => {
                let mut bench = run.bench()?;
                let presented = present::present(&mut bench, &peers.peers)?;
                print(&bench, json, &[present::of_presented(&presented)])?;
            }
            Compute::Load { keys, run } => {
                run.takes_best("load")?;
                let mut bench = run.bench()?;
                keys.each(&mut bench, load::load)?;
                print(&bench, json, &[])?;
            }
            Compute::Cores { keys, run } => {
                let mut bench = run.bench()?;
                let mut gains = Vec::new();
                gains_of(&mut bench, keys, &mut gains)?;
                print(&bench, json, &[cores::of_gains(&gains)])?;
            }
            Compute::Quanta { keys, gate, run } => {
                let mut bench = run.bench()?;
                let mut cuts = Vec::new();
                quanta_of(&mut bench, keys, &mut cuts)?;
                print(&bench, json, &[quanta::of_cuts(&cuts)])?;
                return Ok(gate_exit(&cuts, *gate));
            }
            Compute::Tables { keys, times, run } => {
                let mut bench = run.bench()?;
                let mut bought = Vec::new();
                keys.each(&mut bench, |bench, key| {
                    bought.extend(tables::tables(bench, key, times)?);
                    Ok(())
                })?;
                print(&bench, json, &[tables::of_bought(&bought)])?;
            }
            Compute::Memory { keys, run } => {
                let mut bench = run.bench()?;
                let mut peaks = Vec::new();
                peaks_of(&mut bench, keys, &mut peaks)?;
                print(&bench, json, &[memory::of_peaks(&peaks)])?;
                let holds = peaks.iter().all(Peak::holds);
                return Ok(verdict(holds));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(crate) fn proofs(
    bench: &mut Bench,
    keys: &Keys,
    peers: &Peers,
    tables: &mut Vec<String>,
) -> Result<()> {
    keys.each(bench, |bench, key| {
        tables.extend(prove::prove(bench, key)?);
        process::process(bench, key, keys.files(), &peers.peers)
    })
}

pub(crate) fn gains_of(bench: &mut Bench, keys: &Keys, gains: &mut Vec<Gain>) -> Result<()> {
    keys.each(bench, |bench, key| {
        gains.extend(cores::cores(bench, key)?);
        Ok(())
    })
}

pub(crate) fn peaks_of(bench: &mut Bench, keys: &Keys, peaks: &mut Vec<Peak>) -> Result<()> {
    keys.each(bench, |bench, key| {
        peaks.extend(memory::memory(bench, key, keys.files())?);
        Ok(())
    })
}

pub(crate) fn quanta_of(bench: &mut Bench, keys: &Keys, cuts: &mut Vec<Cut>) -> Result<()> {
    keys.each(bench, |bench, key| {
        cuts.extend(quanta::quanta(bench, key)?);
        Ok(())
    })
}

pub(crate) fn gate_exit(cuts: &[Cut], gate: f64) -> ExitCode {
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

/// Proofs of a batch, and the public inputs that a proof has at most where gas is paid for each.
pub(crate) const BATCHES: [usize; 2] = [8, 64];
pub(crate) const PUBLIC_INPUTS: usize = 6;
pub(crate) const USES: [u16; 8] = [1, 2, 3, 4, 5, 6, 8, 16];
pub(crate) const TOGETHER: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];
pub(crate) const USERS: u64 = 20;

/// Budgets of tables, as multiples of the key file.
pub(crate) const TABLES: [f64; 3] = [1.0, 2.0, 4.0];

/// About 20 ms of a run.
pub(crate) const FIELD_OPERATIONS: u64 = 1 << 20;

/// What cutting may cost.
pub(crate) const GATE: f64 = 1.05;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{drive, duel};

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
