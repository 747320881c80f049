//! Measures: fields, MSM, NTT, whole proofs, loading keys, and what cores and quanta do, beside
//! the peers in the same run, and keeps a line of each figure.
//!
//! | file | subject |
//! |---|---|
//! | `field`, `msm`, `ntt`, `prove`, `verify`, `states`, `present`, `process`, `load`, `cores`, `quanta`, `tables`, `memory` | what is measured of kernels and prover |
//! | `kernel` | one kind of work on one device, against what the device could do at best |
//! | `gpu` | a GPU, figure by figure, beside other devices |
//! | `decide`, `reallocate`, `peak`, `throughput`, `release`, `live` | what is measured of the scheduler, and the box to do it on |
//! | `durable`, `ledger`, `upload` | what is measured of the store |
//! | `rpc`, `crowd`, `cancel`, `soak`, `daemon`, `wire` | what is measured of the service, a `calderad` to do it on, and who calls it |
//! | `fleet` | what is measured of boxes of a fleet |
//! | `key` | keys to measure with |
//! | `peer` | the others |
//! | `duel`, `clock` | taking turns; medians, quartiles, ratios; two clocks |
//! | `drive` | runs plans and proofs, and accounts for each quantum |
//! | `command`, `all` | the command line; all of it in one run |
//! | `record`, `compare`, `table`, `plot` | lines of results, two files of them, tables, a drawing |
//!
//! How to read the figures is in docs/measurements.md. Exit codes: 0 done, 1 a bound was missed, 2 usage, 70 a
//! bench failed or a peer was refused.

mod all;
mod bench;
mod cancel;
mod clock;
mod command;
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

use std::process::ExitCode;

use clap::Parser;

// The tests of `gpu` find it here.
#[cfg(test)]
use crate::all::trial;
use crate::command::Arguments;

fn main() -> ExitCode {
    // ICICLE lives in a child process, which is this program again.
    if let Some(code) = caldera_devices::child() {
        return code;
    }
    match Arguments::parse().run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("caldera-bench: {error:#}");
            ExitCode::from(EX_SOFTWARE)
        }
    }
}

/// EX_SOFTWARE of sysexits.h.
const EX_SOFTWARE: u8 = 70;
