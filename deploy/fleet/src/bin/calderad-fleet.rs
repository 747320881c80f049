//! `calderad-fleet`: the process beside `calderad` by which boxes lend each other proofs; and who belongs to a fleet.
//!
//! SIGTERM and SIGINT stop it: nothing new is taken, and what is held for others is waited for a while. Logs go to stderr, a line of JSON an
//! event. Exit codes: 0 stopped, 2 usage, 70 it has ended by itself, 78 the configuration, a file of it or the broker cannot be used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use caldera_fleet::calderad::Socket;
use caldera_fleet::config::{self, Config, Joining, Lend, secret};
use caldera_fleet::run::{Fleet, RunError};
use caldera_fleet::{BoxId, admission};
use clap::{CommandFactory, Parser, Subcommand};
use nix::sys::signal::{SigSet, Signal};
use tracing_subscriber::EnvFilter;

/// Boxes that lend each other proofs
#[derive(Debug, Parser)]
#[command(name = "calderad-fleet", version)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry out what this box lends and has lent, until SIGTERM
    Run {
        /// Configuration file (TOML)
        #[arg(long, value_name = "FILE", default_value = "/etc/caldera/fleet.toml")]
        config: PathBuf,
        /// For how many seconds a stop waits for what is held for others
        #[arg(long, value_name = "SECONDS", default_value = "20")]
        patience: u64,
    },
    /// Write the manual pages, for installers
    #[command(hide = true)]
    Manual {
        /// Folder that is there
        folder: PathBuf,
    },
    /// Make the authority of a fleet, in a folder of a machine of its own
    Init {
        /// Folder, made if it is not there
        folder: PathBuf,
    },
    /// Give a box its certificate and its nkey, and write what it may do into accounts.conf
    Admit {
        /// Folder of the fleet
        folder: PathBuf,
        /// The box's public node key, 64 hexadecimal digits
        #[arg(long, value_name = "KEY")]
        node_key: String,
    },
    /// Take a box off accounts.conf
    Dismiss {
        /// Folder of the fleet
        folder: PathBuf,
        /// The box, 32 hexadecimal digits
        #[arg(long = "box", value_name = "BOX")]
        who: String,
    },
    /// Write the configuration of this box into the folder that admit has made for it
    Join(Box<Join>),
    /// Give a NATS server its certificate
    AdmitServer {
        /// Folder of the fleet
        folder: PathBuf,
        /// What the server is called
        #[arg(long, value_name = "NAME")]
        name: String,
        /// Names and addresses under which boxes reach it
        #[arg(long, value_name = "HOST,...", value_delimiter = ',', required = true)]
        host: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Join {
    /// The folder box-NAME, where it is to stay
    folder: PathBuf,
    /// NATS servers, each tls://HOST:PORT
    #[arg(long, value_name = "URL,...", value_delimiter = ',', required = true)]
    servers: Vec<String>,
    /// How many servers keep each message: 1, 3 or 5, the same for all boxes
    #[arg(long, value_name = "COUNT", default_value = "3")]
    replicas: usize,
    /// Where this box gives out witnesses and keys
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7421")]
    listen: SocketAddr,
    /// Where other boxes reach that
    #[arg(long, value_name = "ADDRESS")]
    advertise: SocketAddr,
    /// The socket that calderad's configuration names for its fleet
    #[arg(long, value_name = "PATH", default_value = "/run/caldera/fleet.sock")]
    socket: PathBuf,
    /// The secret that calderad has made for it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/lib/caldera/secrets/fleet.hex"
    )]
    secret_file: PathBuf,
    /// Journal, and what is fetched
    #[arg(long, value_name = "FOLDER", default_value = "/var/lib/caldera-fleet")]
    state: PathBuf,
    /// Where status and drain are answered
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/run/caldera-fleet/control.sock"
    )]
    control_socket: PathBuf,
    /// The tenant as whom others' jobs are proved; without it this box proves for nobody
    #[arg(long, value_name = "TENANT", requires_all = ["lend_secret_file", "lend_jobs", "lend_cores"])]
    lend: Option<String>,
    /// That tenant's secret
    #[arg(long, value_name = "FILE", requires = "lend")]
    lend_secret_file: Option<PathBuf>,
    /// How many jobs are asked for at once
    #[arg(long, value_name = "COUNT", requires = "lend")]
    lend_jobs: Option<u32>,
    /// What that tenant can have of this box
    #[arg(long, value_name = "CORES", requires = "lend")]
    lend_cores: Option<u32>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("CALDERA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false)
        .init();
    let done = match Options::parse().command {
        Command::Run { config, patience } => run(&config, Duration::from_secs(patience)),
        Command::Manual { folder } => write_manual(&folder),
        Command::Init { folder } => admission::init(&folder).map_err(Into::into).map(|()| {
            println!("made in {0}: keep it off the boxes; admit them with calderad-fleet admit {0} --node-key KEY", folder.display());
        }),
        Command::Admit { folder, node_key } => admit(&folder, &node_key),
        Command::Dismiss { folder, who } => dismiss(&folder, &who),
        Command::Join(it) => join(*it),
        Command::AdmitServer { folder, name, host } => {
            let made = admission::admit_server(&folder, &name, &host);
            made.map_err(Into::into).map(|own| println!("made {}", own.display()))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "calderad-fleet ends");
            let code = match error.downcast_ref::<RunError>() {
                Some(RunError::System { .. } | RunError::Ended { .. }) => 70,
                _ => 78,
            };
            ExitCode::from(code)
        }
    }
}

/// A page of the program and one of each of its commands, all in the section of what administrators run.
fn write_manual(folder: &std::path::Path) -> anyhow::Result<()> {
    let mut program = Options::command().disable_help_subcommand(true);
    program.build();
    let commands = program.get_subcommands().filter(|it| !it.is_hide_set());
    for command in std::iter::once(&program).chain(commands) {
        let name = command
            .get_display_name()
            .unwrap_or(command.get_name())
            .to_owned();
        let page = folder.join(format!("{name}.8"));
        let mut text = Vec::new();
        let man = clap_mangen::Man::new(command.clone());
        man.section("8").render(&mut text)?;
        std::fs::write(&page, text).with_context(|| format!("writing {}", page.display()))?;
    }
    Ok(())
}

fn run(path: &std::path::Path, patience: Duration) -> anyhow::Result<()> {
    let config = Config::open(path)?;
    let (socket, file) = &config.calderad;
    let fleet = secret(file)?;
    let tenant = match &config.lend {
        Some(lend) => Some((lend.tenant.clone(), secret(&lend.secret_file)?)),
        None => None,
    };
    let calderad = Arc::new(Socket::new(socket, fleet, tenant));
    // Blocked before any thread starts, so that all inherit it and only one waits for them.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("blocking signals")?;
    let (me, advertise) = (config.me, config.advertise);
    let mut fleet = Fleet::start(config, calderad)?;
    tracing::info!(me = %me, boot = fleet.boot().0, %advertise, "calderad-fleet runs");
    // Whichever comes first: a signal, or the end of a thread.
    let (signalled, signal) = tokio::sync::oneshot::channel();
    let waiter = std::thread::Builder::new().name("signals".to_owned());
    waiter
        .spawn(move || {
            if signals.wait().is_ok() {
                let _ = signalled.send(());
            }
        })
        .context("thread signals")?;
    if let Some(error) = fleet.wait(signal) {
        return Err(error.into());
    }
    tracing::info!("stopping");
    fleet.stop(patience);
    Ok(())
}

fn admit(folder: &std::path::Path, node_key: &str) -> anyhow::Result<()> {
    let Some(who) = BoxId::of_node_key(node_key) else {
        bail!("--node-key: expected 64 hexadecimal digits, got {node_key:?}");
    };
    let own = admission::admit(folder, who, node_key)?;
    println!(
        "{who} is admitted: {} goes to that box, and accounts.conf to each NATS server, which reads it on SIGHUP",
        own.display()
    );
    Ok(())
}

fn dismiss(folder: &std::path::Path, who: &str) -> anyhow::Result<()> {
    let number = u128::from_str_radix(who, 16);
    let number = number.ok().filter(|_| who.len() == 32);
    let Some(number) = number else {
        bail!("--box: expected 32 hexadecimal digits, got {who:?}");
    };
    admission::dismiss(folder, BoxId(number))?;
    println!(
        "{who} is dismissed: accounts.conf goes to each NATS server, which reads it on SIGHUP and closes that box's connections"
    );
    Ok(())
}

fn join(it: Join) -> anyhow::Result<()> {
    let lend = match (it.lend, it.lend_secret_file, it.lend_jobs, it.lend_cores) {
        (Some(tenant), Some(secret_file), Some(jobs), Some(cores)) => Some(Lend {
            tenant,
            secret_file,
            jobs,
            cores,
            speed: 1_000,
            price: 0,
            only_loans: false,
        }),
        _ => None,
    };
    let joining = Joining {
        urls: it.servers,
        replicas: it.replicas,
        listen: it.listen,
        advertise: it.advertise,
        socket: it.socket,
        secret_file: it.secret_file,
        state: it.state,
        control_socket: it.control_socket,
        lend,
    };
    let path = config::join(&it.folder, joining)?;
    println!(
        "made {}: systemctl enable --now calderad-fleet if the unit reads it, or calderad-fleet run --config {0}",
        path.display()
    );
    Ok(())
}
