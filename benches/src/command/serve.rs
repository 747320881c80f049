//! Commands that measure the store, the service and boxes of a fleet.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::{Run, print, verdict};
use crate::all::trial;
use crate::{cancel, crowd, durable, fleet, ledger, rpc, soak, upload};

/// What is measured of store, service and fleet.
#[derive(Debug, Subcommand)]
pub(crate) enum Serve {
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
    /// Two boxes of a fleet, each on a processor of its own, against one; a large witness from one to the other; and cores that change
    /// hands on a box while its NATS server runs, is frozen and is killed. Exit code 1 if the second box adds less than 0.8 of one, if the
    /// witness takes more than three times as long as over plain TCP with SHA-256 and fsync, or if a core takes longer than 100 ms.
    Fleet {
        #[command(flatten)]
        plan: fleet::Plan,
        #[command(flatten)]
        run: Run,
    },
}

impl Serve {
    /// Measures, and prints what came out.
    pub(crate) fn run(&self, json: bool) -> Result<ExitCode> {
        let holds = match self {
            Serve::Durable { submissions, run } => {
                let mut bench = run.bench()?;
                let written = durable::durable(&mut bench, *submissions)?;
                print(&bench, json, &[durable::of_written(&written)])?;
                written.holds()
            }
            Serve::Ledger { transfers, run } => {
                let mut bench = run.bench()?;
                let moved = ledger::ledger(&mut bench, *transfers)?;
                print(&bench, json, &[ledger::of_moved(&moved)])?;
                moved.holds()
            }
            Serve::Upload { mib, run } => {
                let mut bench = run.bench()?;
                let uploaded = upload::upload(&mut bench, *mib)?;
                print(&bench, json, &[upload::of_uploaded(&uploaded)])?;
                uploaded.holds()
            }
            Serve::Rpc { plan, run } => {
                let mut bench = run.bench()?;
                let called = rpc::rpc(&mut bench, *plan)?;
                print(&bench, json, &[rpc::of_called(&called)])?;
                called.holds()
            }
            Serve::Crowd { plan, run } => {
                let mut bench = run.bench()?;
                let crowded = crowd::crowd(&mut bench, *plan)?;
                print(&bench, json, &[crowd::of_crowded(&crowded)])?;
                crowded.holds()
            }
            Serve::Cancel { cancels, log2, run } => {
                let mut bench = run.bench()?;
                let cancelled = cancel::cancel(&mut bench, *cancels, *log2)?;
                print(&bench, json, &[cancel::of_cancelled(&cancelled)])?;
                cancelled.holds()
            }
            Serve::Soak(plan) => {
                let mut bench = trial();
                bench.tell = std::io::stderr().is_terminal();
                let soaked = soak::soak(&bench, plan)?;
                print(&bench, json, &[soak::of_soaked(&soaked)])?;
                soaked.holds()
            }
            Serve::Fleet { plan, run } => {
                let mut bench = run.bench()?;
                // Minutes, of which a terminal is not the only one who wants to know how far they are.
                bench.tell = true;
                let measured = fleet::fleet(&mut bench, plan)?;
                print(&bench, json, &[fleet::of_fleet(&measured)])?;
                measured.holds()
            }
        };
        Ok(verdict(holds))
    }
}

/// Durable submissions of one round.
pub(crate) const SUBMISSIONS: u64 = 2_000;
/// Transfers of one round: a second or so.
pub(crate) const TRANSFERS: u64 = 20_000;
/// A witness of fifteen million wires.
pub(crate) const UPLOAD_MIB: u64 = 477;

/// Cancellations: a minute or two.
pub(crate) const CANCELS: u64 = 1_000;
