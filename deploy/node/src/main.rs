//! `calderad`: a configuration, a [`Node`], and signals.
//!
//! One line on stdout says where it listens, once it does; everything else goes to stderr, one
//! line an event. SIGTERM and SIGINT stop it, SIGHUP makes it read its policy file and its certificates again. Exit codes: 0 stopped, 2 usage, 69 the machine does
//! not give what is needed, 70 an internal failure, 75 another process has the data folder or the
//! address, 78 configuration. Where systemd watches, the arbiter's thread tells it that it turns. A broken pipe is an error like any other: Rust ignores SIGPIPE.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use caldera_node::config::{Config, Overrides};
use caldera_node::notify::{Watchdog, notify};
use caldera_node::{Node, StartError};
use caldera_rpc::chain::chain;
use clap::{CommandFactory, Parser};
use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use tracing_subscriber::EnvFilter;

/// The Caldera service: proves on pinned cores for several tenants at once.
#[derive(Debug, Parser)]
#[command(name = "calderad", version, after_long_help = NOTES)]
struct Options {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for keys, witnesses and secrets
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Take development keys, for which anybody can forge proofs
    #[arg(long)]
    development: bool,
    /// Number of workers, one a core
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// What proves beside the processor: cuda:N (or cuda:GPU-8a2c, cuda:0000:3b:00.0), wgpu, wgpu:NAME (or
    /// wgpu:0000:3b:00.0) or icicle:KIND:N
    #[arg(
        long,
        value_name = "NAME,...",
        env = "CALDERA_DEVICES",
        value_delimiter = ','
    )]
    devices: Option<Vec<String>>,
    /// Read the configuration and all files that it names, and end; nothing is made, and a box that runs is left alone
    #[arg(long)]
    check: bool,
    /// Print the manual page, for installers
    #[arg(long, hide = true)]
    manual: bool,
}

/// What `--help` and the manual page say beside the options.
const NOTES: &str = "\
Files:
  /etc/caldera/calderad.toml  the configuration of the packaged service
  /etc/caldera/policy.toml    what each class of tenant is worth; read again on SIGHUP
  /var/lib/caldera            what the packaged service keeps

Signals:
  SIGTERM, SIGINT  stop; jobs that have not ended go on at the next start
  SIGHUP           read the policy file and the certificates again

Environment:
  CALDERA_DEVICES  as --devices
  CALDERA_LOG      what is logged, such as debug
  CALDERA_CUDA_KERNELS  the file of CUDA kernels, where it is not beside this program

Exit codes:
   0  stopped by a signal; with --check, the configuration can be used
   2  the command line cannot be understood
  69  the machine does not give what is needed
  70  an internal failure before the start
  75  another process has the data folder or the address
  78  the configuration or a secret cannot be used";

fn main() -> ExitCode {
    if let Some(code) = caldera_devices::child() {
        return code;
    }
    let options = Options::parse();
    if options.manual {
        return print_manual();
    }
    let filter = EnvFilter::try_from_env("CALDERA_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        // A log that cannot be written, on a full disk for one, must not end the process.
        .log_internal_errors(false)
        .init();

    if let Err(errno) = withhold_memory() {
        tracing::warn!(
            reason = errno.desc(),
            "this system may write memory to a core dump"
        );
    }
    // Blocked before any thread starts, so that all inherit it and only this one waits for them. A write
    // beyond the limit of a file's length then fails, as on a full disk, and does not end the process.
    let mut beyond = SigSet::empty();
    beyond.add(Signal::SIGXFSZ);
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGHUP);
    if let Err(error) = beyond.thread_block().and_then(|()| signals.thread_block()) {
        tracing::error!(error = %chain(&error), "blocking signals");
        return ExitCode::from(INTERNAL);
    }

    let is_check = options.check;
    let node = match load(options).and_then(|config| match is_check {
        true => Node::check(&config).map(|()| None),
        false => Node::start(config).map(Some),
    }) {
        Ok(Some(node)) => node,
        Ok(None) => {
            println!("the configuration can be used");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("calderad: {}", chain(&error));
            return ExitCode::from(error.exit_code());
        }
    };
    node.stand_aside();
    // Whoever reads this line may be gone; the service is not for them alone.
    let mut stdout = std::io::stdout();
    let _ = writeln!(stdout, "calderad listening on {}", node.address());
    let _ = stdout.flush();
    match Watchdog::from_environment() {
        Ok(Some(watchdog)) => node.watch(watchdog),
        Ok(None) => {}
        Err(error) => tracing::warn!(error = %chain(&error), "systemd's watchdog is not fed"),
    }
    notify("READY=1\nSTATUS=serving");

    loop {
        match signals.wait() {
            Ok(Signal::SIGHUP) => reload(&node),
            Ok(signal) => {
                tracing::info!(%signal, "stopping");
                break;
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "waiting for signals");
                break;
            }
        }
    }
    notify("STOPPING=1");
    node.stop();
    ExitCode::SUCCESS
}

/// Keeps witnesses and secrets out of core dumps, and out of reach of other processes of the same user.
fn withhold_memory() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // A limit of nothing does not hold a program back to which the kernel pipes dumps.
    set_dumpable(false)
}

fn print_manual() -> ExitCode {
    let page = clap_mangen::Man::new(Options::command()).section("8");
    match page.render(&mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("calderad: writing the manual page: {}", chain(&error));
            ExitCode::from(INTERNAL)
        }
    }
}

fn reload(node: &Node) {
    let policy = node.reload_policy();
    let tls = node.reload_tls();
    if let (Ok(false), Ok(false)) = (&policy, &tls) {
        tracing::warn!("no policy_file and no [tls] in the configuration: nothing to read again");
    }
    // The service logs what the arbiter says of a policy.
    if let Err(error) = policy {
        tracing::error!(error = %chain(&error), "the policy is refused; the one in force stays");
    }
    match tls {
        Ok(true) => tracing::info!("other certificates are in force for new connections"),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(error = %chain(&error), "the certificates are refused; those in force stay")
        }
    }
}

fn load(options: Options) -> Result<Config, StartError> {
    let over = Overrides {
        data: options.data,
        listen: options.listen,
        development: options.development,
        workers: options.workers,
        devices: options.devices,
    };
    let config = Config::load(options.config.as_deref(), &over)?;
    if config.development {
        tracing::warn!("development mode: keys are taken for which anybody can forge proofs");
    }
    Ok(config)
}

/// EX_SOFTWARE of `sysexits.h`.
const INTERNAL: u8 = 70;
