//! `caldera`: the command line of Caldera.
//!
//! Some commands compute here and now (`prove`, `witness`, `verify`, `inspect`, `setup`, `vkey`, `export`, `policy`,
//! `provision`, `tls`), some
//! talk to a running `calderad` (`submit`, `status`, `pool`, `top`, `dashboard`, `profile`), and `demo` starts one of its own.
//! Each command is a file with its arguments, one function that does the work, and a [`Report`]
//! at the end: the same facts as a text for people and as JSON for programs.
//!
//! | file | subject |
//! |---|---|
//! | `prove`, `witness`, `verify`, `inspect`, `setup`, `vkey`, `export`, `policy` | local commands |
//! | `service` | commands that ask a running `calderad` |
//! | `state` | trusted state units, at home and on a box |
//! | `era` | the ledger of a box: asked, audited, exported |
//! | `tenant` | who may use a running `calderad` |
//! | `top` | who owns each core now, as a screen |
//! | `dashboard` | the same and more in a browser, and what stands between it and the box |
//! | `profile` | the quanta of a job, as a trace |
//! | `beside` | `hwtest` and `kernels`: other programs, which this one becomes |
//! | `demo` | a service, two tenants and their proofs, from start to stop |
//! | `fleet` | what a box has lent to others, and who belongs to its fleet |
//! | `plan` | how many proofs an hour a box serves, at which deadlines |
//! | `provision` | tuning a box, and taking it back |
//! | `backup` | what a box keeps, copied while it runs, and put back |
//! | `support` | what somebody needs who is to help with a box, and no secret |
//! | `manual` | manual pages and completions, for installers |
//! | `tls` | certificates for a box and its callers |
//! | `client`, `transport` | signed calls and uploads, and the way that they take |
//! | `files` | reading what a user names, writing all results or none |
//! | `failure` | classes of failure and their exit codes |
//! | `progress`, `table` | what people see |

mod backup;
mod beside;
mod dashboard;
mod demo;
mod devices;
mod era;
mod export;
mod failure;
mod files;
mod fleet;
mod inspect;
mod manual;
mod plan;
mod policy;
mod profile;
mod progress;
mod prove;
mod provision;
mod receipt;
mod service;
mod setup;
mod state;
mod support;
mod table;
mod tenant;
mod tls;
mod top;
mod verify;
mod vkey;
mod witness;

use std::io::Write;
use std::process::ExitCode;

use caldera_rpc::chain::chain;
use clap::{Parser, Subcommand};
use serde_json::Value;

fn main() -> ExitCode {
    if let Some(code) = caldera_devices::child() {
        return code;
    }
    let arguments = Arguments::parse();
    let json = arguments.json;
    let result = match arguments.command {
        Command::Prove(arguments) => prove::run(&arguments),
        Command::Witness(arguments) => witness::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Setup(arguments) => setup::run(&arguments),
        Command::Vkey(arguments) => vkey::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Submit(arguments) => service::submit(&arguments),
        Command::Status(arguments) => service::status(&arguments),
        Command::Pool(arguments) => service::pool(&arguments),
        Command::Top(arguments) => top::run(&arguments, json),
        Command::Dashboard(arguments) => dashboard::run(&arguments, json),
        Command::Profile(arguments) => profile::run(&arguments),
        Command::Plan(arguments) => plan::run(&arguments),
        Command::Policy(arguments) => policy::run(&arguments),
        Command::Tenant(arguments) => tenant::run(&arguments),
        Command::Tls(arguments) => tls::run(&arguments),
        Command::State(arguments) => state::run(&arguments),
        Command::Era(arguments) => era::run(&arguments),
        Command::Fleet(arguments) => fleet::run(&arguments),
        Command::Devices(arguments) => devices::run(&arguments),
        Command::Provision(arguments) => provision::run(&arguments),
        Command::Backup(arguments) => backup::backup(&arguments),
        Command::Restore(arguments) => backup::restore(&arguments),
        Command::SupportBundle(arguments) => support::run(&arguments),
        Command::Hwtest(arguments) => beside::hwtest(&arguments, json),
        Command::Kernels(arguments) => beside::kernels(&arguments, json),
        Command::Demo(arguments) => demo::run(&arguments, json),
        Command::Man(arguments) => manual::man(&arguments),
        Command::Completions(arguments) => manual::completions(&arguments),
    };
    let (code, document) = match result {
        Ok(report) => {
            let text = if json {
                pretty(&report.json)
            } else {
                report.text
            };
            (report.code, Some(text))
        }
        Err(error) => {
            let class = failure::classify(&error);
            eprintln!(
                "caldera: error [{}]: {}",
                class.name(),
                chain(error.as_ref())
            );
            if let Some(remedy) = failure::remedy(&error) {
                eprintln!("caldera: {remedy}");
            }
            let document = json.then(|| pretty(&failure::document(&error)));
            (class.code(), document)
        }
    };
    if let Some(text) = document {
        // A reader that went away (`caldera pool | head`) has seen what it wanted.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
    ExitCode::from(code)
}

/// Proves Groth16 statements of circom and snarkjs, here or on a running calderad.
#[derive(Parser)]
#[command(name = "caldera", version, after_long_help = failure::help())]
struct Arguments {
    /// Print one JSON document on standard output instead of text, for failures too
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Prove(prove::Arguments),
    Witness(witness::Arguments),
    Verify(verify::Arguments),
    Inspect(inspect::Arguments),
    Setup(setup::Arguments),
    Vkey(vkey::Arguments),
    Export(export::Arguments),
    Submit(service::SubmitArguments),
    Status(service::StatusArguments),
    Pool(service::PoolArguments),
    Top(top::Arguments),
    Dashboard(dashboard::Arguments),
    Profile(profile::Arguments),
    Plan(plan::Arguments),
    Policy(policy::Arguments),
    Tenant(tenant::Arguments),
    Tls(tls::Arguments),
    State(state::Arguments),
    Era(era::Arguments),
    Fleet(fleet::Arguments),
    Devices(devices::Arguments),
    Provision(provision::Arguments),
    Backup(backup::BackupArguments),
    Restore(backup::RestoreArguments),
    SupportBundle(support::Arguments),
    Hwtest(beside::HwtestArguments),
    Kernels(beside::KernelsArguments),
    Demo(demo::Arguments),
    #[command(hide = true)]
    Man(manual::ManArguments),
    #[command(hide = true)]
    Completions(manual::CompletionsArguments),
}

/// What a command came to.
struct Report {
    /// For people; whole lines.
    text: String,
    /// The same for programs.
    json: Value,
    /// The exit code: 0, or 1 where the answer is "no".
    code: u8,
}

impl Report {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
            code: 0,
        }
    }
}

fn pretty(json: &Value) -> String {
    format!("{json:#}\n")
}
