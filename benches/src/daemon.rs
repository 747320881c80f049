//! A real `calderad`, as a process of its own: what it costs, what it holds and how it dies can then be told
//! apart from those of whoever loads it.
//!
//! The programs lie beside this one, as Cargo and the packages lay them; a test of this package lies one
//! folder below.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use caldera_rpc::auth::Secret;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::clock;
use crate::live::Client;

/// A server that runs beside this process; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts a program that says in its first line where it listens, in the line's last word.
    pub(crate) fn start(command: &mut Command) -> Result<Server> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {:?}", command.get_program()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line.split_whitespace().last().map(str::to_owned);
        let mut server = Server {
            child,
            address: address.unwrap_or_default(),
        };
        if server.address.is_empty() {
            let status = server.child.wait()?;
            anyhow::bail!("{:?} did not start: {status}", command.get_program());
        }
        Ok(server)
    }

    /// HOST:PORT.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its number.
    pub(crate) fn process(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// What all its threads have spent on processors.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        clock::of_process(self.process())
    }

    /// Kills it, as a machine does that has no memory left.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill().context("killing a server")?;
        self.child.wait().context("a server's end")?;
        Ok(())
    }

    /// Asks it to stop, which it must do well.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(self.process(), Signal::SIGTERM).context("stopping a server")?;
        let status = self.child.wait().context("a server's end")?;
        ensure!(status.success(), "a server was to stop: {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A box, its folder and its tenants. It may be down.
pub(crate) struct Daemon {
    server: Option<Server>,
    folder: TempDir,
}

impl Daemon {
    /// Starts a box with a configuration, to which the tenants are added, each a name and a scenario. With a
    /// policy the configuration names `policy.toml`.
    pub(crate) fn start(
        config: &str,
        policy: Option<&str>,
        tenants: &[(&str, &str)],
    ) -> Result<Daemon> {
        let folder = tempfile::tempdir().context("a folder")?;
        let mut text = config.to_owned();
        for (name, scenario) in tenants {
            text += &format!("[[tenant]]\nname = '{name}'\nscenario = '{scenario}'\n");
        }
        std::fs::write(folder.path().join("calderad.toml"), text).context("the configuration")?;
        if let Some(policy) = policy {
            std::fs::write(folder.path().join("policy.toml"), policy).context("the policy")?;
        }
        let mut daemon = Daemon {
            server: None,
            folder,
        };
        daemon.start_again()?;
        Ok(daemon)
    }

    /// Starts the box on what it has, where it was down.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        let mut command = Command::new(program("calderad")?);
        let log = self.folder.path().join("log");
        command
            .arg("--config")
            .arg(self.folder.path().join("calderad.toml"))
            .stderr(File::create(&log).context("a log")?);
        let started = Server::start(&mut command).with_context(|| {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(5).collect();
            format!("calderad; its log, last line first: {tail:#?}")
        })?;
        self.server = Some(started);
        Ok(())
    }

    /// The box, which runs.
    pub(crate) fn server(&self) -> Result<&Server> {
        self.server.as_ref().context("the box is down")
    }

    /// Takes the box down in one way or the other; it can be started again.
    pub(crate) fn end(&mut self, how: fn(Server) -> Result<()>) -> Result<()> {
        how(self.server.take().context("the box is down")?)
    }

    /// Ends it well.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.end(Server::stop)
    }

    /// Where it can be reached now.
    pub(crate) fn url(&self) -> Result<String> {
        Ok(format!("http://{}", self.server()?.address()))
    }

    /// The secret of a tenant, or of the operator.
    pub(crate) fn secret(&self, name: &str) -> Result<Secret> {
        let text = std::fs::read_to_string(self.secret_file(name)).context("a secret")?;
        Secret::parse(&text).context("a secret")
    }

    /// The file of a secret.
    pub(crate) fn secret_file(&self, name: &str) -> PathBuf {
        self.data().join(format!("secrets/{name}.hex"))
    }

    /// Speaks as a tenant, or as the operator.
    pub(crate) fn client(&self, name: &str) -> Result<Client> {
        Ok(Client::new(self.url()?, name, self.secret(name)?))
    }

    /// What it keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// A program of Caldera that was built with this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = beside(name)?;
    ensure!(
        path.is_file(),
        "{} is missing: build it in the same profile (cargo build --locked -p caldera-node -p caldera-fleet --bins)",
        path.display()
    );
    Ok(path)
}

/// Where a file that was built with this program would lie.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("this program's path")?;
    let folder = this.parent().context("this program's folder")?;
    let folder = match folder.ends_with("deps") {
        true => folder.parent().context("the folder of programs")?,
        false => folder,
    };
    Ok(folder.join(name))
}

/// Lets this process, and those that it starts, have so many open files.
pub(crate) fn open_files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("the limit of open files")?;
    if soft >= wanted {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).with_context(|| {
        format!("{wanted} open files: the limit is {hard}, which only root may raise")
    })
}
