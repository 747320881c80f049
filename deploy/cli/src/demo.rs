//! `caldera demo`: the whole thing in a minute, with nothing to configure.
//!
//! A `calderad` is started on a free loopback port with its data in a temporary folder and two
//! tenants: "plaza" of the social scenario, "exchange" of the financial one. Both register the
//! same circuit. The plaza sends a batch; as soon as its proofs run, the exchange sends a peak,
//! and cores change hands in the middle of proofs. Meanwhile the pool is asked, again and again,
//! who owns which core. At the end every proof is verified here, against a verification key
//! taken from the proving key's own file and not from the service, and what was seen is printed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caldera_client::{Client, Identity};
use caldera_prover::format::json::VerificationKey;
use caldera_prover::groth16;
use caldera_rpc::auth::{OPERATOR, Secret};
use caldera_rpc::methods::{
    CircuitInfo, JobName, JobResult, JobStatus, JobWait, Method, PoolQuery, PoolStatus,
    Reallocations, Submit,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tempfile::TempDir;

use crate::service::Registration;
use crate::table::{self, Table};
use crate::{Report, service, setup, vkey};

/// Start a calderad, prove for two tenants, show who owned which core, stop
///
/// Uses the given key and witnesses, or a synthetic development key if there are none.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Proving key (.zkey) of the circuit that both tenants prove
    #[arg(long, value_name = "ZKEY", requires = "witness")]
    zkey: Option<PathBuf>,
    /// A witness (.wtns) for it; with several, the proofs take turns
    #[arg(long, value_name = "WTNS", requires = "zkey")]
    witness: Vec<PathBuf>,
    /// How many proofs each tenant sends
    #[arg(long, value_name = "COUNT", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    proofs: u32,
}

/// Who takes part: name, scenario, and the letter in the picture.
const SOCIAL: Tenant = Tenant {
    name: "plaza",
    scenario: "social",
    letter: 's',
};
const FINANCIAL: Tenant = Tenant {
    name: "exchange",
    scenario: "financial",
    letter: 'F',
};

struct Tenant {
    name: &'static str,
    scenario: &'static str,
    letter: char,
}

pub(crate) fn run(arguments: &Arguments, quiet: bool) -> anyhow::Result<Report> {
    let say = |text: &str| {
        if !quiet {
            eprintln!("{text}");
        }
    };
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (zkey, witnesses) = match &arguments.zkey {
        Some(zkey) => (zkey.clone(), arguments.witness.clone()),
        None => {
            say("making a synthetic development key of 2^13 constraints");
            let (zkey, witness) = (
                folder.path().join("synthetic.zkey"),
                folder.path().join("synthetic.wtns"),
            );
            setup::synthetic(
                caldera_kernels::CurveId::Bn254,
                SYNTHETIC_LOG2,
                SYNTHETIC_DENSE,
                &zkey,
                &witness,
                crate::prove::threads(None),
            )?;
            (zkey, vec![witness])
        }
    };
    let verification_key = vkey::of_file(&zkey)?;

    let daemon = Daemon::start(folder)?;
    say(&format!("calderad listens on {}", daemon.address));
    let operator = daemon.client(OPERATOR)?;
    let (social, financial) = (daemon.client(SOCIAL.name)?, daemon.client(FINANCIAL.name)?);
    let begin = Instant::now();
    let info = service::ensure_circuit(&social, &zkey, Registration::default())?;
    service::ensure_circuit(&financial, &zkey, Registration::default())?;
    let registered = begin.elapsed();
    say(&format!(
        "circuit {} is registered for both tenants",
        info.circuit
    ));
    let digests = witnesses
        .iter()
        .map(|path| {
            let digest = service::digest(path)?;
            service::upload(&social, "witness", path, digest)?;
            service::upload(&financial, "witness", path, digest)?;
            Ok(digest)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;

    // The plaza's batch, and the exchange's peak once the batch has cores.
    let mut film = Film::new();
    let submit = |client: &Client| -> anyhow::Result<Vec<JobName>> {
        (0..arguments.proofs as usize)
            .map(|index| {
                let submission = Submit {
                    circuit: info.circuit,
                    witness: digests[index % digests.len()],
                    witness_data: None,
                    deadline_ms: None,
                    idempotency_key: None,
                };
                let status: JobStatus = client.call(Method::Submit, &submission)?;
                Ok(status.job)
            })
            .collect()
    };
    let social_jobs = submit(&social)?;
    say(&format!(
        "{} ({}) has sent {} proofs",
        SOCIAL.name, SOCIAL.scenario, arguments.proofs
    ));
    while !film.shoot(&operator)?.units.iter().any(owned_by(&SOCIAL)) {
        film.check_length()?;
    }
    // A few frames of the quiet before the peak.
    for _ in 0..5 {
        film.shoot(&operator)?;
    }
    let financial_jobs = submit(&financial)?;
    say(&format!(
        "{} ({}) has sent {} proofs",
        FINANCIAL.name, FINANCIAL.scenario, arguments.proofs
    ));
    let pool = loop {
        let pool = film.shoot(&operator)?;
        if pool.tenants.iter().all(|t| t.queued + t.running == 0) {
            break pool;
        }
        film.check_length()?;
    };

    let mut results = Vec::new();
    for (tenant, client, jobs) in [
        (&SOCIAL, &social, social_jobs),
        (&FINANCIAL, &financial, financial_jobs),
    ] {
        for job in jobs {
            results.push(Proven::fetch(
                tenant,
                client,
                job,
                &info,
                &verification_key,
            )?);
        }
    }
    let stopped = daemon.stop()?;
    say(&format!("calderad has stopped ({stopped})"));
    report(&info, registered, &results, &film, &pool)
}

/// One proof that came back and was verified here.
struct Proven {
    tenant: &'static Tenant,
    status: JobStatus,
    result: JobResult,
    valid: bool,
}

impl Proven {
    fn fetch(
        tenant: &'static Tenant,
        client: &Client,
        job: JobName,
        info: &CircuitInfo,
        verification_key: &VerificationKey,
    ) -> anyhow::Result<Self> {
        // Its cores may be free a moment before its end is written down.
        let query = JobWait {
            job,
            wait_ms: Some(10_000),
        };
        let status: JobStatus = client.call(Method::Status, &query)?;
        let result: JobResult = client.call(Method::Result, &query)?;
        let (proof, public) = service::parse_result(&result, info.curve)?;
        Ok(Self {
            tenant,
            status,
            valid: groth16::verify(verification_key, &proof, &public).is_ok(),
            result,
        })
    }
}

/// Who owned which core, frame by frame.
struct Film {
    begin: Instant,
    frames: Vec<(Duration, Vec<Option<String>>)>,
    cores: Vec<u32>,
}

impl Film {
    fn new() -> Self {
        Self {
            begin: Instant::now(),
            frames: Vec::new(),
            cores: Vec::new(),
        }
    }

    /// Asks the pool, after a pause that leaves the cores to the proofs.
    fn shoot(&mut self, operator: &Client) -> anyhow::Result<PoolStatus> {
        std::thread::sleep(FRAME);
        let pool: PoolStatus = operator.call(Method::Pool, &PoolQuery {})?;
        let owners = pool.units.iter().map(|unit| unit.owner.clone()).collect();
        self.cores = pool.units.iter().map(|unit| unit.core).collect();
        self.frames.push((self.begin.elapsed(), owners));
        Ok(pool)
    }

    fn check_length(&self) -> anyhow::Result<()> {
        if self.begin.elapsed() > LONGEST {
            bail!("the proofs are not done after {} s", LONGEST.as_secs());
        }
        Ok(())
    }

    /// One line a core, one letter a slice of time: whoever owned it in the slice's last frame.
    fn picture(&self) -> String {
        let end = self.frames.last().map_or(FRAME, |frame| frame.0);
        let slice = (end / PICTURE_COLUMNS).max(FRAME);
        let mut text = String::new();
        for (unit, core) in self.cores.iter().enumerate() {
            let _ = write!(text, "  core {core:>3}  ");
            let mut last = '.';
            for column in 1..=PICTURE_COLUMNS {
                let until = slice * column;
                if until > end + slice {
                    break;
                }
                let seen = |at: &Duration| *at > until - slice && *at <= until;
                if let Some((_, owners)) = self.frames.iter().rfind(|(at, _)| seen(at)) {
                    last = match owners.get(unit).and_then(Option::as_deref) {
                        Some(name) if name == SOCIAL.name => SOCIAL.letter,
                        Some(name) if name == FINANCIAL.name => FINANCIAL.letter,
                        _ => '.',
                    };
                }
                text.push(last);
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "            {} {} ({}), {} {} ({}), . nobody; one column is {}",
            SOCIAL.letter,
            SOCIAL.name,
            SOCIAL.scenario,
            FINANCIAL.letter,
            FINANCIAL.name,
            FINANCIAL.scenario,
            table::milliseconds(slice.as_secs_f64() * 1e6)
        );
        text
    }
}

fn owned_by(tenant: &'static Tenant) -> impl Fn(&caldera_rpc::methods::UnitStatus) -> bool {
    |unit| unit.owner.as_deref() == Some(tenant.name)
}

fn report(
    info: &CircuitInfo,
    registered: Duration,
    results: &[Proven],
    film: &Film,
    pool: &PoolStatus,
) -> anyhow::Result<Report> {
    let valid = results.iter().filter(|proven| proven.valid).count();
    let mut text = format!(
        "\ncircuit: {} wires, {} public inputs, domain 2^{}{}; registered and checked in {}\n\n\
         Proofs, from receipt to finish\n{}\n\
         Who owned which core\n{}\n\
         Where the time of a proof went, over all proofs\n{}\n\
         How cores changed hands\n{}\n",
        info.wires,
        info.public_count,
        info.domain_size.ilog2(),
        if info.development {
            ", development key"
        } else {
            ""
        },
        table::milliseconds(registered.as_secs_f64() * 1e6),
        proofs_table(results),
        film.picture(),
        stages_table(results),
        reallocations_text(&pool.reallocations),
    );
    let _ = writeln!(
        text,
        "{valid} of {} proofs are valid, as judged by an independent verifier here.",
        results.len()
    );
    let json = json!({
        "circuit": info,
        "registeredMs": registered.as_secs_f64() * 1e3,
        "proofs": results.iter().map(|proven| json!({
            "tenant": proven.tenant.name,
            "scenario": proven.tenant.scenario,
            "job": proven.status.job,
            "valid": proven.valid,
            "submittedMs": proven.status.submitted_ms,
            "finishedMs": proven.status.finished_ms,
            "timings": proven.result.timings,
        })).collect::<Vec<_>>(),
        "owners": film.frames.iter().map(|(at, owners)| json!({
            "atMs": at.as_secs_f64() * 1e3,
            "owners": owners,
        })).collect::<Vec<_>>(),
        "pool": pool,
    });
    Ok(Report {
        code: u8::from(valid != results.len()),
        ..Report::new(text, json)
    })
}

fn proofs_table(results: &[Proven]) -> Table {
    let mut table = Table::new(&[
        "tenant",
        "scenario",
        ">proofs",
        ">valid",
        ">first",
        ">median",
        ">last",
        ">cores used",
    ]);
    for tenant in [&SOCIAL, &FINANCIAL] {
        let own: Vec<&Proven> = results
            .iter()
            .filter(|proven| proven.tenant.name == tenant.name)
            .collect();
        let mut times: Vec<f64> = own
            .iter()
            .filter_map(|proven| proven.status.finished_ms)
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |index: usize| {
            times
                .get(index)
                .map_or_else(String::new, |ms| table::milliseconds(ms * 1e3))
        };
        let mut cores: Vec<u32> = own
            .iter()
            .flat_map(|proven| proven.result.timings.cores.iter().map(|share| share.core))
            .collect();
        cores.sort_unstable();
        cores.dedup();
        table.row([
            tenant.name.to_owned(),
            tenant.scenario.to_owned(),
            own.len().to_string(),
            own.iter().filter(|proven| proven.valid).count().to_string(),
            at(0),
            at(times.len() / 2),
            at(times.len().saturating_sub(1)),
            cores.len().to_string(),
        ]);
    }
    table
}

fn stages_table(results: &[Proven]) -> Table {
    struct Sum<'a> {
        kernel: &'a str,
        quanta: u64,
        cpu_ms: f64,
        max_quantum_us: f64,
    }
    let mut sums: Vec<Sum<'_>> = Vec::new();
    for stage in results.iter().flat_map(|p| &p.result.timings.stages) {
        let index = sums.iter().position(|sum| sum.kernel == stage.kernel);
        let index = index.unwrap_or_else(|| {
            sums.push(Sum {
                kernel: &stage.kernel,
                quanta: 0,
                cpu_ms: 0.0,
                max_quantum_us: 0.0,
            });
            sums.len() - 1
        });
        let sum = &mut sums[index];
        sum.quanta += stage.quanta;
        sum.cpu_ms += stage.cpu_ms;
        sum.max_quantum_us = sum.max_quantum_us.max(stage.max_quantum_us);
    }
    sums.sort_by(|a, b| b.cpu_ms.total_cmp(&a.cpu_ms));
    let all: f64 = sums.iter().map(|sum| sum.cpu_ms).sum();
    let proofs = results.len().max(1) as f64;
    let mut table = Table::new(&[
        "kernel",
        ">quanta/proof",
        ">core time/proof",
        ">share",
        ">longest quantum",
    ]);
    for sum in sums {
        table.row([
            sum.kernel.to_owned(),
            format!("{:.1}", sum.quanta as f64 / proofs),
            table::milliseconds(sum.cpu_ms / proofs * 1e3),
            format!("{:.1} %", 100.0 * sum.cpu_ms / all),
            table::milliseconds(sum.max_quantum_us),
        ]);
    }
    table
}

fn reallocations_text(moves: &Reallocations) -> String {
    let mut table = Table::new(&[
        ">unit", "from", "to", "cause", ">detect", ">decide", ">drain", ">first", ">total",
    ]);
    let skipped = moves.recent.len().saturating_sub(RECENT_SHOWN);
    for change in &moves.recent[skipped..] {
        let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            change.unit.to_string(),
            name(&change.from),
            name(&change.to),
            change.cause.clone(),
            table::milliseconds(change.detect_us),
            table::milliseconds(change.decide_us),
            table::milliseconds(change.drain_us),
            table::milliseconds(change.first_us),
            table::milliseconds(change.total_us),
        ]);
    }
    format!(
        "{table}  {} changes of owner, {} missed the limit of 100 ms: p50 {}, p99 {}, longest {}\n",
        moves.count,
        moves.missed,
        table::milliseconds(moves.p50_us),
        table::milliseconds(moves.p99_us),
        table::milliseconds(moves.max_us),
    )
}

/// A `calderad` of the demo's own; killed if the demo fails.
struct Daemon {
    child: Child,
    address: String,
    folder: TempDir,
    secrets: Vec<(&'static str, Secret)>,
}

impl Daemon {
    fn start(folder: TempDir) -> anyhow::Result<Self> {
        let program = std::env::current_exe()
            .context("cannot find the caldera program itself")?
            .with_file_name("calderad");
        let mut secrets = Vec::new();
        let mut config = format!(
            "listen = \"127.0.0.1:0\"\ndevelopment = true\nkeep_witnesses = true\ndata = {:?}\n",
            folder.path().join("data")
        );
        for (name, scenario) in [
            (OPERATOR, None),
            (SOCIAL.name, Some(SOCIAL.scenario)),
            (FINANCIAL.name, Some(FINANCIAL.scenario)),
        ] {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
            let secret = Secret::from_bytes(bytes);
            let path = folder.path().join(format!("{name}.secret"));
            write_private(&path, secret.to_file_text().as_bytes())?;
            // Writing to a String cannot fail.
            let _ = match scenario {
                // The operator comes first: a key at the top level, before any table.
                None => writeln!(config, "operator_secret_file = {path:?}"),
                Some(scenario) => writeln!(
                    config,
                    "[[tenant]]\nname = {name:?}\nscenario = {scenario:?}\nsecret_file = {path:?}"
                ),
            };
            secrets.push((name, secret));
        }
        let config_path = folder.path().join("calderad.toml");
        std::fs::write(&config_path, config).context("cannot write the configuration")?;
        let log = File::create(folder.path().join(LOG)).context("cannot write the log")?;
        let mut child = Command::new(&program)
            .arg("--config")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stdout = child.stdout.take();
        let mut daemon = Self {
            child,
            address: String::new(),
            folder,
            secrets,
        };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim_end().strip_prefix("calderad listening on ") {
            Some(address) => address.clone_into(&mut daemon.address),
            None => bail!("calderad did not start; its log:\n{}", daemon.log_end()),
        }
        Ok(daemon)
    }

    fn client(&self, name: &str) -> anyhow::Result<Client> {
        let found = self.secrets.iter().find(|(known, _)| *known == name);
        let (_, secret) = found.expect("every account of the demo was made by `start`");
        let url = format!("http://{}", self.address);
        Ok(Client::new(
            &url,
            &Identity::default(),
            name,
            secret.clone(),
        )?)
    }

    fn stop(mut self) -> anyhow::Result<std::process::ExitStatus> {
        // The child has not been waited for, so its number is still its own.
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)
            .context("cannot stop calderad")?;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("calderad ended with {status}; its log:\n{}", self.log_end());
                }
                return Ok(status);
            }
            std::thread::sleep(FRAME);
        }
        bail!("calderad did not stop within {} s", PATIENCE.as_secs())
    }

    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

const LOG: &str = "log";
const FRAME: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(20);
/// Far beyond what a small circuit needs on the slowest box.
const LONGEST: Duration = Duration::from_secs(600);
const PICTURE_COLUMNS: u32 = 72;
const RECENT_SHOWN: usize = 12;
/// As large as a Semaphore circuit of depth 16, and as dense.
const SYNTHETIC_LOG2: u32 = 13;
const SYNTHETIC_DENSE: f64 = 0.93;
