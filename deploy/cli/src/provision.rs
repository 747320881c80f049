//! `caldera provision plan|apply|undo`: arguments for `caldera_provision`, and what came of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context;
use caldera_provision::difference::difference;
use caldera_provision::machine::write_list;
use caldera_provision::plan::Division;
use caldera_provision::tree::{self, Applied, TreeError};
use caldera_provision::{Choice, Machine, Plan};
use caldera_rpc::chain::chain;
use serde_json::json;

use crate::Report;
use crate::failure::Misconfigured;

/// Tune this box for calderad, and take it back
///
/// Reads cores, NUMA nodes, GPUs, interrupts and clocks, proposes which cores serve what, and writes that as
/// files beside the system's configuration, which `undo` takes away to the byte. Nothing is edited in place and
/// nothing is run: what has to be run is said.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Plan(PlanArguments),
    Apply(PlanArguments),
    Undo(UndoArguments),
}

/// Show what would be written
///
/// For `apply`: write it. Doing so twice is as doing so once.
#[derive(clap::Args)]
struct PlanArguments {
    /// Folder of the system to write to
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// Folder whose proc and sys describe the box, if the root does not run; as --root if left out
    #[arg(long, value_name = "FOLDER")]
    machine: Option<PathBuf>,
    /// Physical cores for workers; all that can be spared if left out
    #[arg(long, value_name = "N")]
    worker_cores: Option<usize>,
    /// Give each thread of a physical core a worker: faster, and tenants can measure each other
    #[arg(long)]
    both_threads: bool,
}

/// Restore what was there before
///
/// Files that somebody has changed since are named and stay; the exit code is then 1.
#[derive(clap::Args)]
struct UndoArguments {
    /// Folder of the system
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Command::Plan(arguments) => plan(arguments),
        Command::Apply(arguments) => apply(arguments),
        Command::Undo(arguments) => undo(&arguments.root),
    }
}

fn planned(arguments: &PlanArguments) -> anyhow::Result<(Machine, Plan)> {
    let system = &arguments.root;
    let kernel = arguments.machine.as_ref().unwrap_or(system);
    let machine = Machine::read(kernel, system).context("cannot read what this box is")?;
    let choice = Choice {
        worker_cores: arguments.worker_cores,
        both_threads: arguments.both_threads,
    };
    let plan =
        Plan::of(&machine, choice).map_err(|error| Misconfigured(chain(&error).to_string()))?;
    Ok((machine, plan))
}

fn plan(arguments: &PlanArguments) -> anyhow::Result<Report> {
    let (machine, plan) = planned(arguments)?;
    let difference =
        difference(&arguments.root, &plan).context("cannot read what the plan writes over")?;
    let mut text = describe(&machine, &plan);
    if difference.is_empty() {
        text.push_str("Nothing to write.\n");
    } else {
        let _ = write!(text, "\n{difference}");
        text.push_str(&then(&plan, "After `caldera provision apply`"));
    }
    let json = json!({
        "machine": machine,
        "plan": plan,
        "difference": difference,
        "commands": plan.commands(),
    });
    Ok(Report::new(text, json))
}

fn apply(arguments: &PlanArguments) -> anyhow::Result<Report> {
    let (machine, plan) = planned(arguments)?;
    let applied = tree::apply(&arguments.root, &plan).map_err(failed)?;
    let mut text = describe(&machine, &plan);
    let changed = match applied {
        Applied::Unchanged => {
            text.push_str("Nothing to write.\n");
            false
        }
        Applied::Written(count) => {
            let _ = writeln!(text, "Wrote {count} files.");
            text.push_str(&then(&plan, "Now"));
            true
        }
    };
    let json = json!({ "changed": changed, "plan": plan, "commands": plan.commands() });
    Ok(Report::new(text, json))
}

fn undo(root: &Path) -> anyhow::Result<Report> {
    let undone = tree::undo(root).map_err(failed)?;
    let mut text = format!("Restored {} files.\n", undone.restored.len());
    for path in &undone.changed {
        let _ = writeln!(text, "/{path}: changed since, and left as it is");
    }
    if !undone.restored.is_empty() {
        text.push_str("Now: update-grub, if this box boots by GRUB; reboot\n");
    }
    let mut report = Report::new(text, json!(undone));
    report.code = u8::from(!undone.changed.is_empty());
    Ok(report)
}

/// What is in the way is for the operator to judge; what the system refuses is in the error's own chain.
fn failed(error: TreeError) -> anyhow::Error {
    match error {
        TreeError::Step { .. } => anyhow::Error::new(error),
        _ => Misconfigured(chain(&error).to_string()).into(),
    }
}

fn describe(machine: &Machine, plan: &Plan) -> String {
    let mut text = format!(
        "{} processors on {} NUMA nodes, {} GPUs.\n",
        machine.cpus.len(),
        machine.nodes(),
        machine.gpus.len()
    );
    if let Some(division) = &plan.division {
        let Division {
            arbiter,
            background,
            workers,
            system,
            ..
        } = division;
        let _ = writeln!(
            text,
            "Arbiter: {arbiter}. RPC and background: {}. Workers: {} ({}). Everything else: {}.",
            write_list(background),
            write_list(workers),
            workers.len(),
            write_list(system),
        );
    }
    for note in &plan.notes {
        let _ = writeln!(text, "Note: {note}.");
    }
    text
}

fn then(plan: &Plan, when: &str) -> String {
    let commands = plan.commands();
    if commands.is_empty() {
        return String::new();
    }
    format!("{when}: {}\n", commands.join("; "))
}
