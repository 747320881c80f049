//! `caldera fleet`: how the process stands that has other boxes prove for this one, emptying it, and what of its time it grants to another.
//!
//! That process, `calderad-fleet`, answers at a socket of its own, which its owner alone may open. Who belongs to a fleet is decided by
//! `calderad-fleet` itself, on the machine that holds the fleet's authority: this program becomes it for that.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::ensure;
use caldera_client::ask_local;
use serde_json::{Value, json};

use crate::beside;
use crate::table::Table;
use crate::{Report, progress};

/// Look at, lend and empty this box's part of a fleet, and admit boxes to one
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show what this box has lent and borrowed, and the other boxes
    Status(SocketArguments),
    Drain(DrainArguments),
    Leave(LeaveArguments),
    /// Grant another box so much of this one's time, or take it back
    #[command(subcommand)]
    Loan(Loan),
    /// Make the authority of a fleet (see caldera fleet init --help)
    #[command(disable_help_flag = true)]
    Init(BesideArguments),
    /// Admit a box to a fleet (see caldera fleet admit --help)
    #[command(disable_help_flag = true)]
    Admit(BesideArguments),
    /// Take a box off a fleet (see caldera fleet dismiss --help)
    #[command(disable_help_flag = true)]
    Dismiss(BesideArguments),
    /// Write the configuration of a box that was admitted (see caldera fleet join --help)
    #[command(disable_help_flag = true)]
    Join(BesideArguments),
    /// Give a NATS server of a fleet its certificate (see caldera fleet admit-server --help)
    #[command(disable_help_flag = true)]
    AdmitServer(BesideArguments),
}

/// Take nothing more for others and lend nothing more, until --off
#[derive(clap::Args)]
struct DrainArguments {
    /// Take and lend again
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    socket: SocketArguments,
}

/// Empty this box's part of a fleet and wait until nothing of it is elsewhere, nor of others here
#[derive(clap::Args)]
struct LeaveArguments {
    /// For how long
    #[arg(long, value_name = "SECONDS", default_value = "600")]
    timeout: u64,
    #[command(flatten)]
    socket: SocketArguments,
}

#[derive(clap::Subcommand)]
enum Loan {
    /// Grant a loan to a box, in place of one that it has
    Grant {
        /// The box, as its own `caldera fleet status` names it
        #[arg(value_name = "BOX")]
        borrower: String,
        /// Core-milliseconds a second: 2000 are two cores of the speed 1000 all the time
        #[arg(long, value_name = "RATE")]
        rate: u32,
        /// The term, in seconds
        #[arg(long, value_name = "SECONDS")]
        seconds: u64,
        #[command(flatten)]
        socket: SocketArguments,
    },
    /// Take a loan back, with what is under way for that box
    Revoke {
        /// The box
        #[arg(value_name = "BOX")]
        borrower: String,
        #[command(flatten)]
        socket: SocketArguments,
    },
}

#[derive(clap::Args)]
struct SocketArguments {
    /// Where calderad-fleet answers
    #[arg(
        long,
        value_name = "PATH",
        default_value = CONTROL_SOCKET
    )]
    socket: PathBuf,
}

/// Where calderad-fleet answers as the package sets it up.
pub(crate) const CONTROL_SOCKET: &str = "/run/caldera-fleet/control.sock";

#[derive(clap::Args)]
struct BesideArguments {
    /// As calderad-fleet takes them
    #[arg(
        value_name = "ARGUMENT",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let beside = |command, it: &BesideArguments| {
        // It prints text for people alone.
        beside::become_program("calderad-fleet", &[command], &it.arguments, false)
    };
    let status = match &arguments.command {
        Command::Status(it) => ask_local(&it.socket, "/status", None)?,
        Command::Drain(it) => {
            let body = json!({ "drain": !it.off });
            ask_local(&it.socket.socket, "/drain", Some(&body))?
        }
        Command::Leave(it) => return leave(&it.socket.socket, Duration::from_secs(it.timeout)),
        Command::Loan(Loan::Grant {
            borrower,
            rate,
            seconds,
            socket,
        }) => {
            let grant = json!({ "box": borrower, "rate": rate, "seconds": seconds });
            ask_local(&socket.socket, "/loans", Some(&json!({ "grant": grant })))?
        }
        Command::Loan(Loan::Revoke { borrower, socket }) => {
            let revoke = json!({ "revoke": { "box": borrower } });
            ask_local(&socket.socket, "/loans", Some(&revoke))?
        }
        Command::Init(it) => return beside("init", it),
        Command::Admit(it) => return beside("admit", it),
        Command::Dismiss(it) => return beside("dismiss", it),
        Command::Join(it) => return beside("join", it),
        Command::AdmitServer(it) => return beside("admit-server", it),
    };
    Ok(Report::new(show(&status), status))
}

/// Drains the process until it has nothing left, for so long.
fn leave(socket: &Path, timeout: Duration) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let mut status = ask_local(socket, "/drain", Some(&json!({ "drain": true })))?;
    let left = |status: &Value| {
        let counts = [&status["lender"]["held"], &status["submitter"]["jobs"]];
        counts.map(|it| it.as_u64().unwrap_or_default())
    };
    let most = left(&status).iter().sum();
    let bar = progress::bar("leaving", most);
    loop {
        let [held, lent] = left(&status);
        bar.set_position(most.saturating_sub(held + lent));
        if held + lent == 0 {
            break;
        }
        ensure!(
            begun.elapsed() < timeout,
            "after {} s it holds {held} jobs of others, and {lent} of this box are lent; it takes no more, and caldera fleet leave waits on",
            timeout.as_secs()
        );
        std::thread::sleep(LOOK_EVERY);
        status = ask_local(socket, "/status", None)?;
    }
    bar.finish_and_clear();
    let said = "nothing is left: stop it (systemctl disable --now calderad-fleet), and let the fleet's operator dismiss the box\n";
    Ok(Report::new(said.to_owned(), status))
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A field as a person reads it.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How it stands with what the process is connected to.
pub(crate) fn link(name: &str, it: &Value) -> String {
    match (it["connected"].as_bool(), &it["error"]) {
        (Some(true), _) => {
            let server = ["server", "version"].map(|field| text(&it[field]));
            let known = server.iter().any(|it| it != "-");
            let server = if known {
                server.join(" ")
            } else {
                String::new()
            };
            format!("{name}: connected {server}").trim_end().to_owned() + "\n"
        }
        (Some(false), error) => format!("{name}: not connected: {}\n", text(error)),
        (None, _) => format!("{name}: not known\n"),
    }
}

/// What a person wants to know of it. A newer process may say more, and an older less.
fn show(status: &Value) -> String {
    let mut out = format!(
        "box {}, boot {}{}\n",
        text(&status["box"]),
        text(&status["boot"]),
        if status["draining"] == true {
            ", draining"
        } else {
            ""
        },
    );
    out += &link("calderad", &status["calderad"]);
    out += &link("broker", &status["broker"]);
    let lent = &status["submitter"];
    out += &format!(
        "lent: {} jobs, {} placed, {} wait\n",
        text(&lent["jobs"]),
        text(&lent["placed"]),
        text(&lent["waiting"]),
    );
    let lender = &status["lender"];
    out += &format!(
        "for others: {} held, room for {} of {}\n",
        text(&lender["held"]),
        text(&lender["room"]),
        text(&lender["offered"]),
    );
    for (of, word) in [("lender", "to"), ("submitter", "by")] {
        let loans = status[of]["loans"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        for it in loans {
            let is_used_up = it["hasCredit"] == false;
            out += &format!(
                "loan {word} {}: {} core-ms a second, {} ms left{}\n",
                text(&it["box"]),
                text(&it["rate"]),
                text(&it["leftMs"]),
                if is_used_up { ", used up for now" } else { "" },
            );
        }
    }
    let totals = status["totals"].as_object().into_iter().flatten();
    let totals: Vec<String> = totals.map(|(name, it)| format!("{name} {it}")).collect();
    out += &format!("since the start: {}\n", totals.join(", "));
    let boxes = status["boxes"].as_array().map_or(&[][..], Vec::as_slice);
    if !boxes.is_empty() {
        let columns = [
            "box",
            "boot",
            "heardMs",
            "room",
            "cores",
            "speed",
            "price",
            "avoidedMs",
        ];
        let mut table = Table::new(&[
            "box",
            ">boot",
            ">heard ms",
            ">room",
            ">cores",
            ">speed",
            ">price",
            ">avoided ms",
        ]);
        for it in boxes {
            table.row(columns.map(|column| text(&it[column])));
        }
        out += &table.to_string();
    }
    out
}
