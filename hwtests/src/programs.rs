//! What takes the whole service: Caldera's own programs, run as an operator runs them.
//!
//! `caldera-bench reallocate` moves cores between tenants of a box that proves, and says whether each was with
//! its new owner within 100 ms. `calderad` under `kill -9` shows that this machine's memory and disk keep
//! what they have acknowledged: every submission that is sent again after the kill, under its old word,
//! must come to a proof that verifies, and the job before it must still be known as proved.
//!
//! They lie beside this program, or where `--programs` says.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::report::Finding;

/// Where programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: Option<PathBuf>,
}

impl Programs {
    /// In this folder, or beside the program that runs.
    pub(crate) fn new(folder: Option<PathBuf>) -> Programs {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.to_owned());
        Programs {
            folder: folder.or_else(beside),
        }
    }

    /// A program, or why the check is left out.
    fn find(&self, name: &str) -> Result<PathBuf, Finding> {
        let path = self.folder.as_ref().map(|folder| folder.join(name));
        path.filter(|path| path.is_file()).ok_or_else(|| {
            let folder = self.folder.as_deref().unwrap_or(Path::new("."));
            let folder = folder.display();
            Finding::skip(format!(
                "{name} is not in {folder}; --programs names another"
            ))
        })
    }
}

/// Cores that change hands on a box that proves, so many times.
pub(crate) fn reallocate(programs: &Programs, flips: u64) -> Result<Finding> {
    let bench = match programs.find("caldera-bench") {
        Ok(bench) => bench,
        Err(skip) => return Ok(skip),
    };
    let output = Command::new(&bench)
        .args(["reallocate", "--json", "--no-record", "--flips"])
        .arg(flips.to_string())
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("running {}", bench.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let records = String::from_utf8_lossy(&output.stdout);
    let records: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).context("a record of caldera-bench"))
        .collect::<Result<_>>()?;
    let figures: Vec<String> = records
        .iter()
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap_or("?").to_owned();
            let value = record["value"].as_f64().unwrap_or(f64::NAN);
            format!("{} {value:.3} {}", text("case"), text("unit"))
        })
        .collect();
    let finding = match output.status.code() {
        Some(0) if !records.is_empty() => Finding::pass(format!(
            "{flips} flips of demand, every core with its new owner within 100 ms: {}",
            figures.join(", ")
        )),
        Some(1) => Finding::fail(format!(
            "a core took longer than 100 ms: {}",
            figures.join(", ")
        )),
        _ => bail!("caldera-bench: {}: {}", output.status, errors.trim()),
    };
    Ok(finding.figure("flips", flips).figure("records", records))
}

/// `kill -9` of a service at work, again and again for the time `lasting`, at least once.
pub(crate) fn kills(programs: &Programs, data: &Path, lasting: Duration) -> Result<Finding> {
    let (daemon, client) = match (programs.find("calderad"), programs.find("caldera")) {
        (Ok(daemon), Ok(client)) => (daemon, client),
        (Err(skip), _) | (_, Err(skip)) => return Ok(skip),
    };
    if !data.is_dir() {
        let data = data.display();
        return Ok(Finding::skip(format!(
            "{data} is not there yet; --data names another folder"
        )));
    }
    let folder =
        tempfile::tempdir_in(data).with_context(|| format!("a folder in {}", data.display()))?;
    let soak = Soak {
        daemon,
        client,
        folder: folder.path().to_owned(),
    };
    soak.setup()?;
    let start = Instant::now();
    let mut rounds = 0_u64;
    let mut chance = u64::from(std::process::id()) | 1;
    let mut slowest = Duration::ZERO;
    let mut service = soak.start()?;
    let mut last = soak.finish(&service, "before")?;
    while rounds == 0 || start.elapsed() < lasting {
        let word = format!("soak-{rounds}");
        let mut first = soak
            .submit(&service, &word)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("running caldera submit")?;
        // Anywhere between the upload and the proof; a linear congruence is chance enough.
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_millis(chance >> 33 & 511));
        service.kill()?;
        first.wait().context("caldera submit")?;
        let begin = Instant::now();
        service = soak.start()?;
        let job = soak.finish(&service, &word).and_then(|job| {
            // What the last round was told of must not be forgotten.
            soak.remembers(&service, &last)?;
            Ok(job)
        });
        match job {
            Ok(job) => last = job,
            Err(error) => {
                let reason = format!("after {} kills: {error:#}", rounds + 1);
                return Ok(Finding::fail(reason).figure("kills", rounds + 1));
            }
        }
        slowest = slowest.max(begin.elapsed());
        rounds += 1;
    }
    drop(service);
    Ok(Finding::pass(format!(
        "{rounds} times kill -9, every job proved; from kill to proof {:.2} s at most",
        slowest.as_secs_f64()
    ))
    .figure("kills", rounds)
    .figure("seconds_max", slowest.as_secs_f64()))
}

/// A service of one's own in a folder of one's own.
struct Soak {
    daemon: PathBuf,
    client: PathBuf,
    folder: PathBuf,
}

impl Soak {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A key and a witness.
    fn setup(&self) -> Result<()> {
        let mut command = Command::new(&self.client);
        command
            .args(["setup", "--synthetic", "2^12", "--output"])
            .arg(self.file("key.zkey"))
            .arg("--witness")
            .arg(self.file("witness.wtns"))
            .arg("--vk")
            .arg(self.file("verification.json"));
        done(&mut command).map(drop)
    }

    fn start(&self) -> Result<Service> {
        let mut child = Command::new(&self.daemon)
            .args(["--development", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.file("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("running calderad")?;
        let stdout = child.stdout.take().context("calderad's output")?;
        let mut service = Service {
            child,
            url: String::new(),
        };
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .context("the first line of calderad")?;
        let address = line.trim().strip_prefix("calderad listening on ");
        let address = address.with_context(|| format!("calderad did not start: {line:?}"))?;
        service.url = format!("http://{address}");
        Ok(service)
    }

    fn submit(&self, service: &Service, word: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.arg("submit");
        for file in ["key.zkey", "witness.wtns", "proof.json", "public.json"] {
            command.arg(self.file(file));
        }
        command
            .args(["--url", &service.url, "--tenant", "development"])
            .args(["--idempotency-key", word, "--secret-file"])
            .arg(self.file("data/secrets/development.hex"))
            .stdin(Stdio::null());
        command
    }

    /// Sends a submission again until it is proved, and verifies the proof; the job's name. While the box
    /// loads its keys it asks to come back.
    fn finish(&self, service: &Service, word: &str) -> Result<String> {
        let start = Instant::now();
        let told = loop {
            match done(self.submit(service, word).arg("--json")) {
                Ok(told) => break told,
                Err(error) if start.elapsed() > PATIENCE => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        };
        let told: Value = serde_json::from_slice(&told).context("what caldera submit printed")?;
        let job = told["job"].as_str().context("the job of caldera submit")?;
        let mut command = Command::new(&self.client);
        command.arg("verify");
        for file in ["verification.json", "public.json", "proof.json"] {
            command.arg(self.file(file));
        }
        done(&mut command)?;
        for file in ["public.json", "proof.json"] {
            std::fs::remove_file(self.file(file)).context("a proof that was looked at")?;
        }
        Ok(job.to_owned())
    }

    /// Whether the service knows a job that it has proved.
    fn remembers(&self, service: &Service, job: &str) -> Result<()> {
        let mut command = Command::new(&self.client);
        command
            .args(["status", job, "--json", "--url", &service.url])
            .args(["--tenant", "development", "--secret-file"])
            .arg(self.file("data/secrets/development.hex"));
        let told = done(&mut command).with_context(|| format!("job {job}, proved before"))?;
        let told: Value = serde_json::from_slice(&told).context("what caldera status printed")?;
        let state = told["state"].as_str().unwrap_or_default();
        ensure!(
            state == PROVED,
            "job {job}: expected {PROVED}, got {state:?}"
        );
        Ok(())
    }
}

/// A running `calderad`; killed when dropped.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn kill(&mut self) -> Result<()> {
        self.child.kill().context("kill -9 of calderad")?;
        self.child.wait().context("calderad's end")?;
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.kill();
    }
}

/// Runs a program that must end well; what it printed.
fn done(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .output()
        .with_context(|| format!("running {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// The state of a job that has its proof.
const PROVED: &str = "proved";

/// For a start, a key of 2^12 and its proof, on a box that does little else.
const PATIENCE: Duration = Duration::from_secs(60);
