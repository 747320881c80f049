//! Measures: fields, MSM, NTT, whole proofs, loading keys, and what cores and quanta do, beside
//! the peers in the same run, and keeps a line of each figure.
//!
//! | file | subject |
//! |---|---|
//! | `field`, `msm`, `ntt`, `prove`, `verify`, `states`, `present`, `process`, `load`, `cores`, `quanta`, `tables`, `memory` | what is measured of kernels and prover |
//! | `kernel` | one kind of work on one device, against what the device could do at best |
//! | `gpu`, `best` | a GPU, figure by figure, beside other devices and peers; ours over the best peer |
//! | `decide`, `reallocate`, `peak`, `throughput`, `release`, `live` | what is measured of the scheduler, and the box to do it on |
//! | `durable`, `ledger`, `upload` | what is measured of the store |
//! | `rpc`, `crowd`, `cancel`, `soak`, `daemon`, `wire` | what is measured of the service, a `calderad` to do it on, and who calls it |
//! | `fleet` | what is measured of boxes of a fleet |
//! | `key` | keys to measure with |
//! | `peer` | the others |
//! | `duel`, `clock` | taking turns; medians, quartiles, ratios; two clocks |
//! | `drive` | runs plans and proofs, and accounts for each quantum |
//! | `record`, `compare`, `table`, `plot` | lines of results, two files of them, tables, a drawing |
//!
//! How to read the figures is in docs/measurements.md. Exit codes: 0 done, 1 a bound was missed, 2 usage, 70 a
//! bench failed or a peer was refused.

mod bench;
mod best;
mod cancel;
mod clock;
mod compare;
mod cores;
mod crowd;
mod daemon;
mod decide;
mod drive;
mod duel;
mod durable;
mod field;
mod fleet;
mod gpu;
mod kernel;
mod key;
mod ledger;
mod live;
mod load;
mod memory;
mod msm;
mod ntt;
mod peak;
mod peer;
mod plot;
mod present;
mod process;
mod prove;
mod quanta;
mod reallocate;
mod record;
mod release;
mod rpc;
mod soak;
mod states;
mod table;
mod tables;
mod throughput;
mod upload;
mod verify;
mod wire;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::bench::{Bench, CurveName, VectorsName};
use crate::cores::{Gain, of_gains};
use crate::duel::Rounds;
use crate::key::Key;
use crate::memory::Peak;
use crate::peer::outside::{Files, Outside};
use crate::quanta::{Cut, of_cuts};
use crate::reallocate::{FLIPS, Trigger};
use crate::record::{Origin, Results, default_path};
use crate::tables::of_bought;

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
    /// Cores that change hands on a box that proves.
    Reallocate {
        #[command(flatten)]
        plan: reallocate::Plan,
        #[command(flatten)]
        run: Run,
    },
    /// What a tenant that holds half of a box gets at its peak.
    Peak {
        /// How often.
        #[arg(long, default_value_t = PEAKS)]
        peaks: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Proofs by a box against proofs by the prover alone, on the same cores.
    Throughput {
        /// log2 of the key's domain.
        #[arg(long, default_value_t = 14)]
        log2: u32,
        /// Proofs of one round.
        #[arg(long, default_value_t = PROOFS)]
        proofs: usize,
        #[command(flatten)]
        run: Run,
    },
    /// Submissions that are on the disk before they are acknowledged, in groups and one by one; exit code 1 if
    /// groups are not worth ten times.
    Durable {
        /// Submissions of one round.
        #[arg(long, default_value_t = SUBMISSIONS)]
        submissions: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Transfers of the ledger that are on the disk, in groups on one thread, against SQLite one by one; exit code 1
    /// below 50,000 a second.
    Ledger {
        /// Transfers of one round.
        #[arg(long, default_value_t = TRANSFERS)]
        transfers: u64,
        #[command(flatten)]
        run: Run,
    },
    /// A large witness onto the disk of a box, against cp and fsync; exit code 1 if it is slower than half of
    /// their speed, or takes more than 16 MiB of memory.
    Upload {
        /// MiB of the witness.
        #[arg(long, default_value_t = UPLOAD_MIB)]
        mib: u64,
        #[command(flatten)]
        run: Run,
    },
    /// The arbiter alone, on the largest box that there can be.
    Decide {
        /// Units of the box.
        #[arg(long, default_value_t = UNITS, value_parser = clap::value_parser!(u32).range(1..=1024))]
        units: u32,
        /// Tenants of the box.
        #[arg(long, default_value_t = TENANTS, value_parser = clap::value_parser!(u32).range(1..=256))]
        tenants: u32,
        /// Events.
        #[arg(long, default_value_t = EVENTS)]
        events: u64,
        #[command(flatten)]
        run: Run,
    },
    /// What one status call costs a server: a real calderad against a server of jsonrpsee; exit code 1 if it costs more
    /// than 0.8 of it or answers later at an equal rate.
    Rpc {
        #[command(flatten)]
        plan: rpc::Plan,
        #[command(flatten)]
        run: Run,
    },
    /// Cores that change hands on a real calderad beside thousands of slow clients and a flood of bad requests.
    Crowd {
        #[command(flatten)]
        plan: crowd::Plan,
        #[command(flatten)]
        run: Run,
    },
    /// From the call that cancels a job to its cores working for another tenant; exit code 1 if it takes longer than
    /// 100 ms.
    Cancel {
        /// How often.
        #[arg(long, default_value_t = CANCELS)]
        cancels: u64,
        /// log2 of the key's domain.
        #[arg(long, default_value_t = 13)]
        log2: u32,
        #[command(flatten)]
        run: Run,
    },
    /// A real calderad, tenants of all scenarios, and faults, for minutes; exit code 1 if a job is lost or wrong, or if
    /// memory, rows or files grow. Keeps no record.
    Soak(soak::Plan),
    /// Storage that quiet tenants give back, and their first proof afterwards.
    Release {
        /// The domain of the keys, as a power of two.
        #[arg(long, default_value_t = 16)]
        log2: u32,
        /// How often both go quiet.
        #[arg(long, default_value_t = RELEASES)]
        releases: u64,
        #[command(flatten)]
        run: Run,
    },
    /// Two boxes of a fleet, each on a processor of its own, against one; a large witness from one to the other; and cores that change
    /// hands on a box while its NATS server runs, is frozen and is killed. Exit code 1 if the second box adds less than 0.8 of one, if the
    /// witness takes more than three times as long as over plain TCP with SHA-256 and fsync, or if a core takes longer than 100 ms.
    Fleet {
        #[command(flatten)]
        plan: fleet::Plan,
        #[command(flatten)]
        run: Run,
    },
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
    #[command(name = peer::jsonrpsee::SERVE, hide = true)]
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
struct Sizes {
    /// log2 of each size.
    #[arg(long, value_delimiter = ',', default_value = "16")]
    log2: Vec<u32>,
}

/// How far a whole run goes.
#[derive(Debug, Args)]
struct Bounds {
    /// log2 of the largest size, which is taken for all that would be larger.
    #[arg(long, default_value_t = 20)]
    max_log2: u32,
    /// How often demand flips in `reallocate`.
    #[arg(long, default_value_t = FLIPS)]
    flips: u64,
}

#[derive(Debug, Args)]
struct Keys {
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
    fn synthetic(curve: CurveName, log2: &[u32], dense: f64) -> Keys {
        Keys {
            log2: log2.to_vec(),
            dense,
            curve,
            zkey: None,
            witness: None,
        }
    }

    /// The files, if keys come from files.
    fn files(&self) -> Option<(&Path, &Path)> {
        self.zkey.as_deref().zip(self.witness.as_deref())
    }

    /// Hands one key after another to `work`, none of them kept longer than that.
    fn each(
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
struct Peers {
    /// A prover that is a program of its own, run beside ours as a process: rapidsnark, snarkjs
    /// or snarkrs, and where it is. May be given several times.
    #[arg(long = "peer", value_name = "NAME=PATH")]
    peers: Vec<Outside>,
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

fn main() -> ExitCode {
    // ICICLE lives in a child process, which is this program again.
    if let Some(code) = caldera_devices::child() {
        return code;
    }
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
        Command::Kernel(plan) => {
            let roofline = kernel::kernel(plan)?;
            if json {
                let line = serde_json::to_string(&roofline).context("a roofline as JSON")?;
                println!("{line}");
            } else {
                print!("{}", kernel::of_roofline(&roofline));
            }
        }
        Command::Gpu { plan, run } => {
            let mut bench = run.bench()?;
            let rows = gpu::gpu(&mut bench, plan)?;
            print(&bench, json, &[rows])?;
        }
        Command::Msm { sizes, which, run } => {
            let mut bench = run.bench()?;
            msm::msm(&mut bench, &sizes.log2, which)?;
            print(&bench, json, &[])?;
        }
        Command::Ntt { sizes, curve, run } => {
            let mut bench = run.bench()?;
            ntt::ntt(&mut bench, &sizes.log2, curve)?;
            print(&bench, json, &[])?;
        }
        Command::Prove { keys, peers, run } => {
            let mut bench = run.bench()?;
            let mut tables = Vec::new();
            proofs(&mut bench, keys, peers, &mut tables)?;
            print(&bench, json, &tables)?;
        }
        Command::Verify { batch, inputs, run } => {
            let mut bench = run.bench()?;
            verify::verify(&mut bench, batch, *inputs)?;
            print(&bench, json, &[])?;
        }
        Command::States {
            uses,
            batch,
            users,
            svg,
            run,
        } => {
            let counts = uses.iter().chain(batch);
            anyhow::ensure!(counts.clone().all(|it| *it > 0), "no uses to verify");
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
        Command::Present { peers, run } => {
            let mut bench = run.bench()?;
            let presented = present::present(&mut bench, &peers.peers)?;
            print(&bench, json, &[present::of_presented(&presented)])?;
        }
        Command::Load { keys, run } => {
            run.takes_best("load")?;
            let mut bench = run.bench()?;
            keys.each(&mut bench, load::load)?;
            print(&bench, json, &[])?;
        }
        Command::Cores { keys, run } => {
            let mut bench = run.bench()?;
            let mut gains = Vec::new();
            gains_of(&mut bench, keys, &mut gains)?;
            print(&bench, json, &[of_gains(&gains)])?;
        }
        Command::Quanta { keys, gate, run } => {
            let mut bench = run.bench()?;
            let mut cuts = Vec::new();
            quanta_of(&mut bench, keys, &mut cuts)?;
            print(&bench, json, &[of_cuts(&cuts)])?;
            return Ok(gate_exit(&cuts, *gate));
        }
        Command::Tables { keys, times, run } => {
            let mut bench = run.bench()?;
            let mut bought = Vec::new();
            keys.each(&mut bench, |bench, key| {
                bought.extend(tables::tables(bench, key, times)?);
                Ok(())
            })?;
            print(&bench, json, &[of_bought(&bought)])?;
        }
        Command::Memory { keys, run } => {
            let mut bench = run.bench()?;
            let mut peaks = Vec::new();
            peaks_of(&mut bench, keys, &mut peaks)?;
            print(&bench, json, &[memory::of_peaks(&peaks)])?;
            let holds = peaks.iter().all(Peak::holds);
            return Ok(ExitCode::from(u8::from(!holds)));
        }
        Command::Reallocate { plan, run } => {
            let mut bench = run.bench()?;
            let moved = reallocate::reallocate(&mut bench, *plan)?;
            print(&bench, json, &[reallocate::of_moved(&moved)])?;
            return Ok(ExitCode::from(u8::from(!moved.holds())));
        }
        Command::Peak { peaks, run } => {
            let mut bench = run.bench()?;
            let risen = peak::peak(&mut bench, *peaks)?;
            print(&bench, json, &[peak::of_risen(&risen)])?;
            return Ok(ExitCode::from(u8::from(!risen.holds())));
        }
        Command::Throughput { log2, proofs, run } => {
            let mut bench = run.bench()?;
            let kept = throughput::throughput(&mut bench, *log2, *proofs)?;
            print(&bench, json, &[throughput::of_kept(&kept)])?;
            return Ok(ExitCode::from(u8::from(!kept.holds())));
        }
        Command::Durable { submissions, run } => {
            let mut bench = run.bench()?;
            let written = durable::durable(&mut bench, *submissions)?;
            print(&bench, json, &[durable::of_written(&written)])?;
            return Ok(ExitCode::from(u8::from(!written.holds())));
        }
        Command::Ledger { transfers, run } => {
            let mut bench = run.bench()?;
            let moved = ledger::ledger(&mut bench, *transfers)?;
            print(&bench, json, &[ledger::of_moved(&moved)])?;
            return Ok(ExitCode::from(u8::from(!moved.holds())));
        }
        Command::Upload { mib, run } => {
            let mut bench = run.bench()?;
            let uploaded = upload::upload(&mut bench, *mib)?;
            print(&bench, json, &[upload::of_uploaded(&uploaded)])?;
            return Ok(ExitCode::from(u8::from(!uploaded.holds())));
        }
        Command::Decide {
            units,
            tenants,
            events,
            run,
        } => {
            let mut bench = run.bench()?;
            let decided = decide::decide(&mut bench, *units, *tenants, *events)?;
            print(&bench, json, &[decide::of_decided(&decided)])?;
            return Ok(ExitCode::from(u8::from(!decide::holds(&decided))));
        }
        Command::Rpc { plan, run } => {
            let mut bench = run.bench()?;
            let called = rpc::rpc(&mut bench, *plan)?;
            print(&bench, json, &[rpc::of_called(&called)])?;
            return Ok(ExitCode::from(u8::from(!called.holds())));
        }
        Command::Crowd { plan, run } => {
            let mut bench = run.bench()?;
            let crowded = crowd::crowd(&mut bench, *plan)?;
            print(&bench, json, &[crowd::of_crowded(&crowded)])?;
            return Ok(ExitCode::from(u8::from(!crowded.holds())));
        }
        Command::Cancel { cancels, log2, run } => {
            let mut bench = run.bench()?;
            let cancelled = cancel::cancel(&mut bench, *cancels, *log2)?;
            print(&bench, json, &[cancel::of_cancelled(&cancelled)])?;
            return Ok(ExitCode::from(u8::from(!cancelled.holds())));
        }
        Command::Soak(plan) => {
            let mut bench = trial();
            bench.tell = std::io::stderr().is_terminal();
            let soaked = soak::soak(&bench, plan)?;
            print(&bench, json, &[soak::of_soaked(&soaked)])?;
            return Ok(ExitCode::from(u8::from(!soaked.holds())));
        }
        Command::Release {
            log2,
            releases,
            run,
        } => {
            let mut bench = run.bench()?;
            let released = release::release(&mut bench, *log2, *releases)?;
            print(&bench, json, &[release::of_released(&released)])?;
            return Ok(ExitCode::from(u8::from(!released.holds())));
        }
        Command::Fleet { plan, run } => {
            let mut bench = run.bench()?;
            // Minutes, of which a terminal is not the only one who wants to know how far they are.
            bench.tell = true;
            let measured = fleet::fleet(&mut bench, plan)?;
            print(&bench, json, &[fleet::of_fleet(&measured)])?;
            return Ok(ExitCode::from(u8::from(!measured.holds())));
        }
        Command::All {
            bounds,
            peers,
            states_svg,
            run,
        } => {
            run.takes_best("all")?;
            let mut bench = run.bench()?;
            let all = all(&mut bench, bounds, peers)?;
            if let Some(path) = states_svg {
                std::fs::write(path, &all.states).with_context(|| path.display().to_string())?;
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
            std::fs::write(output, drawing)
                .with_context(|| format!("writing {}", output.display()))?;
        }
        Command::Once => {
            let bench = once()?;
            print(&bench, json, &[])?;
        }
        #[cfg(feature = "jsonrpsee")]
        Command::Jsonrpsee {
            table,
            tenant,
            secret,
            threads,
        } => peer::jsonrpsee::serve(table, tenant, secret, *threads)?,
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

fn proofs(bench: &mut Bench, keys: &Keys, peers: &Peers, tables: &mut Vec<String>) -> Result<()> {
    keys.each(bench, |bench, key| {
        tables.extend(prove::prove(bench, key)?);
        process::process(bench, key, keys.files(), &peers.peers)
    })
}

fn gains_of(bench: &mut Bench, keys: &Keys, gains: &mut Vec<Gain>) -> Result<()> {
    keys.each(bench, |bench, key| {
        gains.extend(cores::cores(bench, key)?);
        Ok(())
    })
}

fn peaks_of(bench: &mut Bench, keys: &Keys, peaks: &mut Vec<Peak>) -> Result<()> {
    keys.each(bench, |bench, key| {
        peaks.extend(memory::memory(bench, key, keys.files())?);
        Ok(())
    })
}

fn quanta_of(bench: &mut Bench, keys: &Keys, cuts: &mut Vec<Cut>) -> Result<()> {
    keys.each(bench, |bench, key| {
        cuts.extend(quanta::quanta(bench, key)?);
        Ok(())
    })
}

/// What all benches came to, beside their records.
struct All {
    tables: Vec<String>,
    /// What state units save: an SVG.
    states: String,
    cuts: Vec<Cut>,
    /// Whether what is promised of memory, decisions, hand-overs and storage holds.
    holds: bool,
}

/// Every bench at its usual sizes, up to a bound: the smaller ones completely, of the larger ones
/// what the figures of docs/measurements.md are.
fn all(bench: &mut Bench, bounds: &Bounds, peers: &Peers) -> Result<All> {
    let mut tables = Vec::new();
    let sizes = |log2: &[u32]| -> Vec<u32> {
        let mut sizes: Vec<u32> = log2.iter().map(|&log2| log2.min(bounds.max_log2)).collect();
        sizes.dedup();
        sizes
    };
    let keys = |curve, log2: &[u32], dense| Keys::synthetic(curve, &sizes(log2), dense);
    step("field: multiplications of each prime field");
    field::field(bench, FIELD_OPERATIONS)?;
    step("msm: sums of multiples of points");
    msm::msm(bench, &sizes(&[16]), &msm::Which::all())?;
    msm::msm(bench, &sizes(&[18, 20]), &msm::Which::uniform_g1())?;
    step("ntt: number-theoretic transforms");
    ntt::ntt(bench, &sizes(&[16, 18, 20]), &CurveName::ALL)?;
    verify::verify(bench, &BATCHES, PUBLIC_INPUTS)?;
    step("states: what trusted state units save");
    let costs = states::costs(bench, &USES, &TOGETHER)?;
    let drawing = states::draw(&costs, &bench.origin)?;
    tables.push(states::of_costs(&costs));
    tables.push(states::of_flow(&states::workflow(bench, USERS)?));
    step("present: a presentation, whole");
    let presented = present::present(bench, &peers.peers)?;
    tables.push(present::of_presented(&presented));
    step("prove: whole proofs, without tables");
    for keys in [
        keys(CurveName::Bn254, &[10, 12, 14, 16, 18, 20], 0.9),
        keys(CurveName::Bn254, &[18], 0.0),
        keys(CurveName::Bls12_381, &[16], 0.9),
    ] {
        proofs(bench, &keys, peers, &mut tables)?;
    }
    step("load: keys from their files");
    for curve in CurveName::ALL {
        keys(curve, &[18], 0.9).each(bench, load::load)?;
    }
    step("tables: proofs with tables of 1, 2 and 4 times the key");
    let mut bought = Vec::new();
    for keys in [
        keys(CurveName::Bn254, &[14, 16, 18], 0.9),
        keys(CurveName::Bn254, &[18], 0.0),
    ] {
        keys.each(bench, |bench, key| {
            bought.extend(tables::tables(bench, key, &TABLES)?);
            Ok(())
        })?;
    }
    tables.push(of_bought(&bought));
    step("memory: the peak while proving");
    let mut peaks = Vec::new();
    // Beside a smaller key the program itself counts.
    let largest = bounds.max_log2.clamp(16, 18);
    for (log2, dense) in [(16, 0.85), (largest, 0.0)] {
        let keys = Keys::synthetic(CurveName::Bn254, &[log2], dense);
        peaks_of(bench, &keys, &mut peaks)?;
    }
    tables.push(memory::of_peaks(&peaks));
    step("decide: the arbiter alone");
    let decided = decide::decide(bench, UNITS, TENANTS, EVENTS)?;
    tables.push(decide::of_decided(&decided));
    step("durable: submissions in groups and one by one");
    let written = durable::durable(bench, SUBMISSIONS)?;
    tables.push(durable::of_written(&written));
    step("upload: a large witness onto the disk");
    let uploaded = upload::upload(bench, UPLOAD_MIB)?;
    tables.push(upload::of_uploaded(&uploaded));
    step("throughput: a box against the prover alone");
    let kept = throughput::throughput(bench, 14, PROOFS)?;
    tables.push(throughput::of_kept(&kept));
    step("peak: a tenant that held half");
    let risen = peak::peak(bench, PEAKS)?;
    tables.push(peak::of_risen(&risen));
    step("reallocate: cores that change hands");
    let mut holds = peaks.iter().all(Peak::holds)
        && decide::holds(&decided)
        && written.holds()
        && uploaded.holds();
    holds &= kept.holds() && risen.holds();
    for trigger in [Trigger::Declared, Trigger::Measured] {
        let moved = reallocate::reallocate(bench, reallocate::Plan::usual(trigger, bounds.flips))?;
        tables.push(reallocate::of_moved(&moved));
        holds &= moved.holds();
    }
    step("rpc: what a status call costs");
    let called = rpc::rpc(bench, rpc::Plan::of(rpc::CALLS))?;
    tables.push(rpc::of_called(&called));
    step("crowd: cores that change hands beside strangers");
    let crowded = crowd::crowd(bench, crowd::Plan::usual(bounds.flips))?;
    tables.push(crowd::of_crowded(&crowded));
    step("cancel: cores that a cancelled job gives back");
    let cancelled = cancel::cancel(bench, CANCELS, 13)?;
    tables.push(cancel::of_cancelled(&cancelled));
    holds &= called.holds() && crowded.holds() && cancelled.holds();
    step("release: storage that is given back");
    let released = release::release(bench, 16, RELEASES)?;
    holds &= released.holds();
    tables.push(release::of_released(&released));
    step("fleet: two boxes against one");
    let measured = fleet::fleet(bench, &fleet::Plan::usual())?;
    holds &= measured.holds();
    tables.push(fleet::of_fleet(&measured));
    let keys = keys(CurveName::Bn254, &[14, 16], 0.9);
    step("cores: a proof on many threads and on one");
    let mut gains = Vec::new();
    gains_of(bench, &keys, &mut gains)?;
    tables.push(of_gains(&gains));
    step("quanta: a proof cut into quanta and uncut");
    let mut cuts = Vec::new();
    quanta_of(bench, &keys, &mut cuts)?;
    tables.push(of_cuts(&cuts));
    Ok(All {
        tables,
        states: drawing,
        cuts,
        holds,
    })
}

/// Says what begins: a whole run takes long.
fn step(what: &str) {
    eprintln!("caldera-bench: {what}");
}

/// A run of which nothing is kept, one round of each.
fn trial() -> Bench {
    Bench {
        rounds: Rounds {
            min: 1,
            max: 1,
            budget: Duration::ZERO,
        },
        threads: vec![1, 2],
        vectors: VectorsName::Best,
        origin: Origin::here(),
        results: None,
        tell: false,
        records: Vec::new(),
    }
}

/// Every body, at sizes that take no time.
fn once() -> Result<Bench> {
    let mut bench = trial();
    field::field(&mut bench, 2048)?;
    msm::msm(&mut bench, &[0, 5], &msm::Which::all())?;
    ntt::ntt(&mut bench, &[1, 5], &CurveName::ALL)?;
    verify::verify(&mut bench, &[1, 3], 2)?;
    gpu::gpu(&mut bench, &gpu::Plan::trial())?;
    let costs = states::costs(&mut bench, &[1, 2], &[2])?;
    states::draw(&costs, &bench.origin)?;
    states::of_costs(&costs);
    states::of_flow(&states::workflow(&mut bench, 4)?);
    decide::decide(&mut bench, 8, 6, 500)?;
    durable::durable(&mut bench, 100)?;
    ledger::ledger(&mut bench, 100)?;
    upload::upload(&mut bench, 1)?;
    throughput::throughput(&mut bench, 5, 2)?;
    for trigger in [Trigger::Declared, Trigger::Measured] {
        reallocate::reallocate(&mut bench, reallocate::Plan::usual(trigger, 20))?;
    }
    rpc::rpc(
        &mut bench,
        rpc::Plan {
            connections: 4,
            rate: Some(200.0),
            ..rpc::Plan::of(40)
        },
    )?;
    crowd::crowd(
        &mut bench,
        crowd::Plan {
            clients: 40,
            flood: 40,
            flips: 20,
            workers: None,
        },
    )?;
    cancel::cancel(&mut bench, 3, 10)?;
    fleet::fleet(&mut bench, &fleet::Plan::short())?;
    let soaked = soak::soak(&bench, &soak::Plan::short())?;
    let wrong = soaked.wrong();
    anyhow::ensure!(wrong.is_empty(), "soak: {wrong:#?}");
    for curve in CurveName::ALL {
        Keys::synthetic(curve, &[5], 0.5).each(&mut bench, |bench, key| {
            prove::prove(bench, key)?;
            load::load(bench, key)?;
            cores::cores(bench, key)?;
            quanta::quanta(bench, key)?;
            tables::tables(bench, key, &[8.0])?;
            Ok(())
        })?;
    }
    Ok(bench)
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

/// Proofs of a batch, and the public inputs that a proof has at most where gas is paid for each.
const BATCHES: [usize; 2] = [8, 64];
const PUBLIC_INPUTS: usize = 6;
const USES: [u16; 8] = [1, 2, 3, 4, 5, 6, 8, 16];
const TOGETHER: [u16; 7] = [1, 2, 4, 8, 16, 32, 64];
const USERS: u64 = 20;

/// Budgets of tables, as multiples of the key file.
const TABLES: [f64; 3] = [1.0, 2.0, 4.0];

/// A minute and a half.
const PEAKS: usize = 20;

/// A second or two.
const PROOFS: usize = 24;
/// Durable submissions of one round.
const SUBMISSIONS: u64 = 2_000;
/// Transfers of one round: a second or so.
const TRANSFERS: u64 = 20_000;
/// A witness of fifteen million wires.
const UPLOAD_MIB: u64 = 477;

/// The largest box.
const UNITS: u32 = 1_024;
const TENANTS: u32 = 256;
/// Some seconds.
const EVENTS: u64 = 100_000;

/// Cancellations: a minute or two.
const CANCELS: u64 = 1_000;

/// Times of quiet: first proofs for a median and its quartiles.
const RELEASES: u64 = 5;

/// What cutting may cost.
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
        for name in [
            "field",
            "msm",
            "ntt",
            "decide",
            "throughput",
            "reallocate",
            "rpc",
            "crowd",
            "cancel",
            "fleet",
            "prove",
            "load",
            "cores",
            "quanta",
            "tables",
        ] {
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
