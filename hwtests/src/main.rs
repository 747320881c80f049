//! Accepts or refuses a box: what it is, whether its clocks, memory and cores are fit for the
//! work, and whether it computes what it should. Each check ends as PASS, WARN, FAIL or SKIP with
//! a reason; the exit code is 0 OK, 1 WARN, 2 CRITICAL (also when a check could not run at all),
//! as monitoring systems read it. Usage errors exit with 2 as well: a box that was not looked at
//! has not been accepted.
//!
//! The levels are those of data-centre GPU diagnostics: 1 takes seconds and fits before a service
//! starts, 2 takes about two minutes, 3 a quarter of an hour, 4 hours of steady work. Each level
//! runs the same checks, longer; see [`Level`].

mod clock;
mod device;
mod host;
mod inventory;
mod jitter;
mod memory;
mod proof;
mod report;
mod thread;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use caldera_kernels::conformance::Effort;
use clap::Parser;

use crate::host::Host;
use crate::proof::Subject;
use crate::report::{Finding, Report};
use crate::thread::Policy;

/// Accepts or refuses a box for proving. Exit codes: 0 OK, 1 WARN, 2 CRITICAL.
#[derive(Debug, Parser)]
#[command(name = "caldera-hwtest", version)]
struct Arguments {
    /// 1: seconds; 2: two minutes; 3: a quarter of an hour; 4: hours.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    level: u8,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cpus = match thread::allowed() {
        Ok(cpus) => cpus,
        Err(error) => {
            eprintln!("caldera-hwtest: {error:#}");
            return ExitCode::from(2);
        }
    };
    let mut run = Run {
        host: Host::at("/"),
        cpus,
        level: Level::of(arguments.level),
        report: Report::new(arguments.level),
        table: !arguments.json,
        colour: std::io::stdout().is_terminal(),
    };
    run.inventory();
    run.measure();
    if arguments.json {
        match serde_json::to_string_pretty(&run.report) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("caldera-hwtest: the report as JSON: {error}");
                return ExitCode::from(2);
            }
        }
    } else {
        println!("{}", run.report.summary());
    }
    ExitCode::from(run.report.exit_code())
}

/// How long each check goes on.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Readings of the clock on each processor.
    readings: u64,
    /// Wake-ups under each policy.
    jitter: Duration,
    /// Bytes of memory to fill, and the share of what is available that it may not exceed.
    memory: (u64, u64),
    /// The conformance suite.
    effort: Effort,
    /// How many seeds of it.
    passes: u64,
    /// log2 of the key.
    log2: u32,
    /// Proofs on every processor.
    proofs: Duration,
}

impl Level {
    fn of(level: u8) -> Level {
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        match level {
            1 => Level {
                readings: 20_000,
                jitter: minute / 120,
                memory: (64 << 20, 8),
                effort: Effort::Quick,
                passes: 1,
                log2: 10,
                proofs: Duration::ZERO,
            },
            2 => Level {
                readings: 1_000_000,
                jitter: minute / 4,
                memory: (u64::MAX, 8),
                effort: Effort::Full,
                passes: 1,
                log2: 14,
                proofs: minute / 2,
            },
            3 => Level {
                readings: 10_000_000,
                jitter: minute * 2,
                memory: (u64::MAX, 2),
                effort: Effort::Full,
                passes: 4,
                log2: 16,
                proofs: minute * 8,
            },
            _ => Level {
                readings: 100_000_000,
                jitter: minute * 30,
                memory: (u64::MAX, 2),
                effort: Effort::Full,
                passes: 64,
                log2: 16,
                proofs: hour * 4,
            },
        }
    }
}

struct Run {
    host: Host,
    cpus: Vec<usize>,
    level: Level,
    report: Report,
    table: bool,
    colour: bool,
}

impl Run {
    /// What can be read.
    fn inventory(&mut self) {
        use inventory::{
            cores, features, governor, hugepages, memory, memory_errors, numa, realtime, smt,
            system, throttle,
        };
        self.check("system.kernel", |run| Ok(system(&run.host)));
        self.check("cpu.cores", |run| Ok(cores(&run.host, &run.cpus)));
        self.check("cpu.threads", |run| Ok(smt(&run.host)));
        self.check("cpu.features", |run| Ok(features(&run.host)));
        self.check("cpu.governor", |run| Ok(governor(&run.host)));
        self.check("cpu.throttle", |run| Ok(throttle(&run.host)));
        self.check("memory.numa", |run| Ok(numa(&run.host)));
        self.check("memory.size", |run| Ok(memory(&run.host)));
        self.check("memory.errors", |run| Ok(memory_errors(&run.host)));
        self.check("memory.pages", |run| Ok(hugepages(&run.host)));
        self.check("schedule.realtime", |run| {
            Ok(realtime(&run.host, thread::fifo_allowed()))
        });
        self.check("clock.source", |run| Ok(clock::source(&run.host)));
        self.check("clock.wall", |_| Ok(clock::wall()));
    }

    /// What must be tried.
    fn measure(&mut self) {
        let level = self.level;
        self.check("clock.monotonic", |run| {
            clock::monotonic(&run.cpus, level.readings)
        });
        self.check("schedule.normal", |run| {
            jitter::jitter(&run.host, &run.cpus, Policy::Normal, level.jitter)
        });
        self.check("schedule.fifo", |run| match thread::fifo_allowed() {
            Ok(()) => jitter::jitter(&run.host, &run.cpus, Policy::Fifo, level.jitter),
            Err(why) => Ok(Finding::skip(format!("SCHED_FIFO is refused: {why}"))),
        });
        self.check("memory.pattern", |run| {
            let (bytes, share) = level.memory;
            match run.host.memory_bytes("MemAvailable") {
                Some(available) => memory::pattern(&run.cpus, bytes.min(available / share)),
                None => Ok(Finding::skip(
                    "the kernel does not say how much memory is free",
                )),
            }
        });
        self.check("device.conformance", |run| {
            device::conformance(&run.cpus, level.effort, level.passes)
        });
        let subject = Subject::new(level.log2, self.cpus.len()).context("a key to prove with");
        self.check("proof.whole", |run| match &subject {
            Ok(subject) => proof::whole(subject, run.cpus.len()),
            Err(error) => Ok(Finding::fail(format!("{error:#}"))),
        });
        self.check("proof.quanta", |run| match &subject {
            Ok(subject) => proof::quanta(subject, &run.cpus, level.proofs),
            Err(_) => Ok(Finding::skip("there is no key")),
        });
    }

    /// Runs one check. One that cannot be carried out has failed: the box has not shown that it
    /// is fit.
    fn check(&mut self, name: &'static str, check: impl FnOnce(&Run) -> Result<Finding>) {
        let start = Instant::now();
        let finding = check(self).unwrap_or_else(|error| Finding::fail(format!("{error:#}")));
        let check = self.report.add(name, finding, start.elapsed());
        if self.table {
            println!("{}", check.line(self.colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_cannot_be_carried_out_has_failed() {
        let mut run = Run {
            host: Host::at("/nowhere"),
            cpus: Vec::new(),
            level: Level::of(1),
            report: Report::new(1),
            table: false,
            colour: false,
        };
        run.check("some.check", |_| anyhow::bail!("no such thing"));
        assert_eq!(run.report.exit_code(), 2);
        assert_eq!(run.report.checks[0].finding.reason, "no such thing");
    }

    #[test]
    fn arguments_are_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
        assert!(Arguments::try_parse_from(["caldera-hwtest", "--level", "5"]).is_err());
    }
}
