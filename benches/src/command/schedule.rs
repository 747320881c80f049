//! Commands that measure the scheduler: what it decides, and how fast cores and storage change hands by that.

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use super::{Run, print, verdict};
use crate::{decide, peak, reallocate, release, throughput};

/// What is measured of the scheduler.
#[derive(Debug, Subcommand)]
pub(crate) enum Schedule {
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
}

impl Schedule {
    /// Measures, and prints what came out.
    pub(crate) fn run(&self, json: bool) -> Result<ExitCode> {
        let holds = match self {
            Schedule::Reallocate { plan, run } => {
                let mut bench = run.bench()?;
                let moved = reallocate::reallocate(&mut bench, plan.clone())?;
                print(&bench, json, &[reallocate::of_moved(&moved)])?;
                moved.holds()
            }
            Schedule::Peak { peaks, run } => {
                let mut bench = run.bench()?;
                let risen = peak::peak(&mut bench, *peaks)?;
                print(&bench, json, &[peak::of_risen(&risen)])?;
                risen.holds()
            }
            Schedule::Throughput { log2, proofs, run } => {
                let mut bench = run.bench()?;
                let kept = throughput::throughput(&mut bench, *log2, *proofs)?;
                print(&bench, json, &[throughput::of_kept(&kept)])?;
                kept.holds()
            }
            Schedule::Decide {
                units,
                tenants,
                events,
                run,
            } => {
                let mut bench = run.bench()?;
                let decided = decide::decide(&mut bench, *units, *tenants, *events)?;
                print(&bench, json, &[decide::of_decided(&decided)])?;
                decide::holds(&decided)
            }
            Schedule::Release {
                log2,
                releases,
                run,
            } => {
                let mut bench = run.bench()?;
                let released = release::release(&mut bench, *log2, *releases)?;
                print(&bench, json, &[release::of_released(&released)])?;
                released.holds()
            }
        };
        Ok(verdict(holds))
    }
}

/// A minute and a half.
pub(crate) const PEAKS: usize = 20;

/// A second or two.
pub(crate) const PROOFS: usize = 24;
/// The largest box.
pub(crate) const UNITS: u32 = 1_024;
pub(crate) const TENANTS: u32 = 256;
/// Some seconds.
pub(crate) const EVENTS: u64 = 100_000;

/// Times of quiet: first proofs for a median and its quartiles.
pub(crate) const RELEASES: u64 = 5;
