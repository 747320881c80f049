//! Commands that ask a running `calderad`: `submit`, `status`, `pool`, `pool demand`, `pool histograms`,
//! `pool storage`.
//!
//! `submit` sends no byte twice: a key goes up only if its circuit is not registered, a long witness
//! only if the service says that it does not have it, and a short one comes with the submission. The results are written here exactly as
//! the local `prove` writes them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use caldera_client::{Client, Identity, Terms};
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_rpc::auth::Secret;
use caldera_rpc::methods::{
    CheckLevel, CircuitInfo, CircuitName, CurveName, DeclareDemand, Demand, Digest,
    HistogramsQuery, IdempotencyKey, JobName, JobResult, JobStatus, JobWait, Method, PoolQuery,
    PoolStatus, RegisterCircuit, SpanHistogram, StorageQuery, StorageStatus,
};
use clap::parser::ValueSource;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::failure::Misconfigured;
use crate::files::{self, Outputs};
use crate::table::{self, Table};
use crate::{Report, progress};

/// Where the service is and who asks.
#[derive(clap::Args)]
pub(crate) struct Connection {
    /// Address of calderad: http://HOST:PORT, https://HOST:PORT, or unix:/PATH for the operator
    #[arg(
        long,
        value_name = "URL",
        env = "CALDERA_URL",
        default_value = "http://127.0.0.1:7420"
    )]
    url: String,
    /// Name of the tenant, or "operator"
    #[arg(long, value_name = "NAME", env = "CALDERA_TENANT")]
    tenant: String,
    /// File with the tenant's secret, 64 hexadecimal digits
    #[arg(long, value_name = "FILE", env = "CALDERA_SECRET_FILE")]
    secret_file: PathBuf,
    // Not a group of their own: clap does not see an optional group that holds another.
    /// Certificates of the authorities that the box's certificate is held against, in PEM; for https. Left
    /// out: CALDERA_CACERT, or those of the system
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Our own certificate, for a box that asks for one, in PEM. Left out: CALDERA_CERT
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// Its private key, in PEM. Left out: CALDERA_KEY
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// A box, if one is named on the command line: what happens at home otherwise is not sent somewhere because the environment has a
/// tenant. What was left out there is taken from it all the same.
///
/// Of an optional group clap asks what the group asks for, whether anything of it is there or not; so this says by itself what goes
/// with what.
pub(crate) struct Perhaps(pub(crate) Option<Connection>);

/// A box, unless something is said that needs none: `--home`, or a subcommand, which has its own.
pub(crate) struct Unless(pub(crate) Option<Connection>);

impl clap::FromArgMatches for Perhaps {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Perhaps, clap::Error> {
        // A request is known to the registry of a box, and nowhere else.
        let of_box = matches.try_contains_id("request").unwrap_or(false);
        let connection = (of_box || is_named(matches))
            .then(|| <Connection as clap::FromArgMatches>::from_arg_matches(matches));
        connection.transpose().map(Perhaps)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = <Perhaps as clap::FromArgMatches>::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Perhaps {
    fn augment_args(command: clap::Command) -> clap::Command {
        optional(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        optional(command)
    }
}

impl clap::FromArgMatches for Unless {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Unless, clap::Error> {
        let home = matches.try_get_one::<bool>("home");
        let home = home.is_ok_and(|home| home == Some(&true));
        if home && is_named(matches) {
            return Err(clap::Error::raw(
                clap::error::ErrorKind::ArgumentConflict,
                "--home needs no box, and one is named",
            ));
        }
        if home || matches.subcommand_name().is_some() {
            return Ok(Unless(None));
        }
        let connection = <Connection as clap::FromArgMatches>::from_arg_matches(matches);
        connection.map(|it| Unless(Some(it)))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = <Unless as clap::FromArgMatches>::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Unless {
    fn augment_args(command: clap::Command) -> clap::Command {
        optional(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        optional(command)
    }
}

/// What names a box, none of it asked for.
fn optional(command: clap::Command) -> clap::Command {
    let command = <Connection as clap::Args>::augment_args(command);
    NAMES.into_iter().fold(command, |command, name| {
        command.mut_arg(name, |it| it.required(false))
    })
}

/// Whether any of it stands on the command line.
fn is_named(matches: &clap::ArgMatches) -> bool {
    let given = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    NAMES.into_iter().any(given)
}

/// The options of a [`Connection`].
const NAMES: [&str; 6] = ["url", "tenant", "secret_file", "cacert", "cert", "key"];

/// Have a calderad make a proof
///
/// Registers the circuit if the service does not have it, uploads what is missing, waits, and
/// writes the proof and its public inputs. If the command is interrupted, the same command with
/// the same --idempotency-key finds the same job again.
#[derive(clap::Args)]
pub(crate) struct SubmitArguments {
    /// Proving key (.zkey)
    #[arg(value_name = "ZKEY")]
    zkey: PathBuf,
    /// Witness (.wtns), or inputs (.json) if the circuit has a witness program
    #[arg(value_name = "WTNS")]
    witness: PathBuf,
    /// Where to write the proof
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// Where to write the public inputs
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,
    #[command(flatten)]
    connection: Connection,
    /// When the proof is needed, in milliseconds from now
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
    /// A word that makes a repeated submission the same job
    #[arg(long, value_name = "WORD")]
    idempotency_key: Option<IdempotencyKey>,
    /// Name to register the circuit under
    #[arg(long, value_name = "NAME")]
    name: Option<CircuitName>,
    /// Where the box can read the key again, to register the circuit with: a file on the box, below a
    /// folder that its operator lists for that
    #[arg(long, value_name = "FILE")]
    key_source: Option<String>,
    /// Witness program to register the circuit with; then inputs may be submitted instead of a witness
    #[arg(long, value_name = "WASM")]
    wasm: Option<PathBuf>,
    /// Constraints to register the circuit with, beside --wasm: what the program computes is held against them
    #[arg(long, value_name = "R1CS", requires = "wasm")]
    r1cs: Option<PathBuf>,
}

/// What a circuit is registered with beside its key.
#[derive(Clone, Default)]
pub(crate) struct Registration<'a> {
    name: Option<CircuitName>,
    source: Option<String>,
    program: Option<&'a Path>,
    r1cs: Option<&'a Path>,
}

/// Show where a job of a calderad stands
#[derive(clap::Args)]
pub(crate) struct StatusArguments {
    /// The job, as submit named it
    #[arg(value_name = "JOB")]
    job: JobName,
    #[command(flatten)]
    connection: Connection,
}

/// Show who owns which core of a calderad and who holds what, or announce a peak
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct PoolArguments {
    #[command(flatten)]
    connection: Unless,
    #[command(subcommand)]
    command: Option<PoolCommand>,
}

#[derive(clap::Subcommand)]
enum PoolCommand {
    Demand(DemandArguments),
    Histograms(HistogramsArguments),
    Storage(StorageArguments),
}

/// Show what the tenant holds of the box's storage, and what it has given back while it was quiet
///
/// The operator is shown all tenants.
#[derive(clap::Args)]
struct StorageArguments {
    #[command(flatten)]
    connection: Connection,
}

/// Announce how many cores the tenant will want, so that they are there before its work is
///
/// What is announced takes the place of what was announced before; the same again renews it. It ends
/// by itself, or with 0 cores.
#[derive(clap::Args)]
struct DemandArguments {
    /// How many cores; 0 withdraws what was announced
    #[arg(value_name = "CORES")]
    units: u32,
    #[command(flatten)]
    connection: Connection,
    /// For how long, in milliseconds from now; needed for all but 0 cores
    #[arg(long, value_name = "MS")]
    duration_ms: Option<u64>,
}

/// Show how long cores took to change hands, by cause and by part of the way; for the operator
///
/// With --output, each histogram also becomes a file core-CAUSE-PART.hgrm, in microseconds, which the
/// plotter of HdrHistogram draws.
#[derive(clap::Args)]
struct HistogramsArguments {
    #[command(flatten)]
    connection: Connection,
    /// Only cores that changed hands for this cause: demand, declared, measured, release, turn, ageing, overrun
    #[arg(long, value_name = "CAUSE")]
    cause: Option<String>,
    /// Folder to write the histograms to; made if it is not there
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

pub(crate) fn submit(arguments: &SubmitArguments) -> anyhow::Result<Report> {
    for path in [&arguments.proof, &arguments.public] {
        Outputs::check(path)?;
    }
    let client = arguments.connection.client()?;
    let registration = Registration {
        name: arguments.name.clone(),
        source: arguments.key_source.clone(),
        program: arguments.wasm.as_deref(),
        r1cs: arguments.r1cs.as_deref(),
    };
    let info = ensure_circuit(&client, &arguments.zkey, registration)?;
    let terms = Terms {
        deadline_ms: arguments.deadline_ms,
        idempotency_key: arguments.idempotency_key.clone(),
    };
    let bytes = files::read(&arguments.witness)?;
    let status = client.submit(info.circuit, &bytes, &terms)?;
    let result = wait(&client, &status)?;

    write_result(&result, info.curve, &arguments.proof, &arguments.public)?;

    let mut text = format!("job {} is proved", result.job);
    if result.late {
        text.push_str(", after its deadline");
    }
    let t = &result.timings;
    text.push_str(&format!(
        ": queued {}, prepared {}, proved {}\n",
        table::milliseconds(t.queued_ms * 1e3),
        table::milliseconds(t.prepared_ms * 1e3),
        table::milliseconds(t.proved_ms * 1e3),
    ));
    Ok(Report::new(text, serde_json::to_value(&result)?))
}

pub(crate) fn status(arguments: &StatusArguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let query = JobWait {
        job: arguments.job,
        wait_ms: None,
    };
    let status: JobStatus = client.call(Method::Status, &query)?;
    let mut text = format!(
        "job {} of circuit {} is {}, {:.0} % done\n",
        status.job,
        status.circuit,
        status.state,
        status.progress * 100.0
    );
    if let Some(error) = &status.error {
        text.push_str(&format!("  {} ({})\n", error.message, error.reason));
    }
    Ok(Report::new(text, serde_json::to_value(&status)?))
}

pub(crate) fn pool(arguments: &PoolArguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Some(PoolCommand::Demand(arguments)) => return demand(arguments),
        Some(PoolCommand::Histograms(arguments)) => return histograms(arguments),
        Some(PoolCommand::Storage(arguments)) => return storage(arguments),
        None => {}
    }
    let Some(connection) = &arguments.connection.0 else {
        return Err(Misconfigured("--tenant: expected a name, got none".to_owned()).into());
    };
    let client = connection.client()?;
    let pool: PoolStatus = client.call(Method::Pool, &PoolQuery {})?;
    Ok(Report::new(show_pool(&pool), serde_json::to_value(&pool)?))
}

fn demand(arguments: &DemandArguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let declaration = DeclareDemand {
        units: arguments.units,
        duration_ms: arguments.duration_ms,
    };
    let demand: Demand = client.call(Method::Demand, &declaration)?;
    let text = match demand.units {
        0 => "cores announced: none\n".to_owned(),
        units => {
            let span = table::milliseconds(demand.expires_ms * 1e3);
            format!("cores announced: {units}, for {span}\n")
        }
    };
    Ok(Report::new(text, serde_json::to_value(demand)?))
}

fn histograms(arguments: &HistogramsArguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let query = HistogramsQuery {
        cause: arguments.cause.clone(),
    };
    let list: Vec<SpanHistogram> = client.call(Method::Histograms, &query)?;
    let mut spans = Table::new(&[
        "cause", "part", ">count", ">mean", ">p50", ">p99", ">p99.9", ">longest",
    ]);
    for it in &list {
        spans.row([
            it.cause.clone(),
            it.part.clone(),
            it.count.to_string(),
            table::milliseconds(it.mean_us),
            table::milliseconds(it.p50_us),
            table::milliseconds(it.p99_us),
            table::milliseconds(it.p999_us),
            table::milliseconds(it.max_us),
        ]);
    }
    let mut text = spans.to_string();
    if let Some(folder) = &arguments.output {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot write to {}", folder.display()))?;
        let mut outputs = Outputs::default();
        for it in &list {
            let name = format!("{}-{}-{}.hgrm", it.resource, it.cause, it.part);
            let hgrm = it.hgrm.as_bytes();
            outputs.add(&folder.join(name), |out| Ok(out.write_all(hgrm)?))?;
        }
        outputs.commit()?;
        let (count, folder) = (list.len(), folder.display());
        text.push_str(&format!("wrote {count} histograms to {folder}\n"));
    }
    Ok(Report::new(text, serde_json::to_value(&list)?))
}

fn storage(arguments: &StorageArguments) -> anyhow::Result<Report> {
    let client = arguments.connection.client()?;
    let status: StorageStatus = client.call(Method::Storage, &StorageQuery {})?;
    Ok(Report::new(
        show_storage(&status),
        serde_json::to_value(&status)?,
    ))
}

impl Connection {
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let secret = read_secret(&self.secret_file)?;
        let or = |file: &Option<PathBuf>, variable| {
            let file = file.clone();
            file.or_else(|| std::env::var_os(variable).map(PathBuf::from))
        };
        let identity = Identity {
            cacert: or(&self.cacert, "CALDERA_CACERT"),
            cert: or(&self.cert, "CALDERA_CERT"),
            key: or(&self.key, "CALDERA_KEY"),
        };
        Ok(Client::new(&self.url, &identity, &self.tenant, secret)?)
    }
}

fn read_secret(path: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Secret::parse(&text)
        .map_err(|error| Misconfigured(format!("{}: {error}", path.display())).into())
}

/// The circuit of a key, registered and ready.
pub(crate) fn ensure_circuit(
    client: &Client,
    zkey: &Path,
    with: Registration<'_>,
) -> anyhow::Result<CircuitInfo> {
    let circuit = digest(zkey)?;
    if client.circuit(circuit)?.is_none() {
        let send = |label, path: &Path| {
            let name = digest(path)?;
            upload(client, label, path, name)?;
            Ok::<Digest, anyhow::Error>(name)
        };
        send("proving key", zkey)?;
        let program = with.program.map(|path| send("witness program", path));
        let r1cs = with.r1cs.map(|path| send("constraints", path));
        client.begin_registration(&RegisterCircuit {
            zkey: circuit,
            name: with.name,
            check: CheckLevel::Full,
            source: with.source,
            witness_program: program.transpose()?,
            r1cs: r1cs.transpose()?,
        })?;
    }
    Ok(client.settled(circuit)?)
}

/// Uploads a file under its digest, with a bar.
pub(crate) fn upload(
    client: &Client,
    label: &'static str,
    path: &Path,
    digest: Digest,
) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let bytes = file.metadata()?.len();
    let bar = progress::bar(label, bytes);
    client.upload(label, digest, bytes, &mut bar.wrap_read(file))?;
    bar.finish_and_clear();
    Ok(())
}

/// Waits for a job, with a bar, and fetches its result.
pub(crate) fn wait(client: &Client, submitted: &JobStatus) -> anyhow::Result<JobResult> {
    let bar = progress::bar("proving", BAR_STEPS);
    bar.set_message(submitted.job.to_string());
    // The box answers when the job ends; before that only the bar wants to know.
    let every = if bar.is_hidden() {
        Duration::MAX
    } else {
        FRAME
    };
    let result = client.wait(submitted.job, every, &mut |status| {
        bar.set_position((status.progress.clamp(0.0, 1.0) * BAR_STEPS as f64) as u64);
    })?;
    bar.finish_and_clear();
    Ok(result)
}

/// Writes a proof and its public inputs.
pub(crate) fn write_result(
    result: &JobResult,
    curve: CurveName,
    proof_path: &Path,
    public_path: &Path,
) -> anyhow::Result<()> {
    let (proof, public) = parse_result(result, curve)?;
    let mut outputs = Outputs::default();
    outputs.add(proof_path, |out| {
        Ok(out.write_all(proof.print().as_bytes())?)
    })?;
    outputs.add(public_path, |out| {
        Ok(out.write_all(public.print().as_bytes())?)
    })?;
    outputs.commit()
}

/// A proof and its inputs out of an answer; what is not well formed is not written to files.
pub(crate) fn parse_result(
    result: &JobResult,
    curve: CurveName,
) -> anyhow::Result<(Proof, PublicInputs)> {
    let curve = match curve {
        CurveName::Bn128 => caldera_kernels::CurveId::Bn254,
        CurveName::Bls12381 => caldera_kernels::CurveId::Bls12_381,
    };
    let proof = Proof::parse(result.proof.to_string().as_bytes(), Some(curve))
        .context("the proof in calderad's answer")?;
    let public = PublicInputs::parse(json!(result.public_inputs).to_string().as_bytes(), curve)
        .context("the public inputs in calderad's answer")?;
    Ok((proof, public))
}

/// The SHA-256 digest of a file, which is its name on the service.
pub(crate) fn digest(path: &Path) -> anyhow::Result<Digest> {
    Ok(Digest(Sha256::digest(files::read(path)?).into()))
}

/// Who owns what, for people.
pub(crate) fn show_pool(pool: &PoolStatus) -> String {
    let name = |name: &Option<String>, foreign: bool| match name {
        Some(name) => name.clone(),
        None if foreign => "(another tenant)".to_owned(),
        None => "-".to_owned(),
    };
    let mut units = Table::new(&[
        ">unit",
        ">core",
        ">thread",
        "owner",
        ">epoch",
        ">held for",
        "job",
        "policy",
    ]);
    for unit in &pool.units {
        units.row([
            unit.unit.to_string(),
            unit.device.clone().unwrap_or_else(|| unit.core.to_string()),
            unit.thread_id.to_string(),
            name(&unit.owner, unit.foreign),
            unit.epoch.to_string(),
            table::milliseconds(unit.since_ms * 1e3),
            unit.job
                .map_or_else(|| "-".to_owned(), |job| job.to_string()),
            unit.policy.clone(),
        ]);
    }
    let mut tenants = Table::new(&[
        "tenant",
        "scenario",
        ">waiting",
        ">running",
        ">cores",
        ">announced",
        "peak",
    ]);
    for tenant in &pool.tenants {
        tenants.row([
            name(&tenant.tenant, tenant.foreign),
            tenant.scenario.clone().unwrap_or_else(|| "-".to_owned()),
            tenant.queued.to_string(),
            tenant.running.to_string(),
            tenant.cores.to_string(),
            tenant.declared.to_string(),
            if tenant.peak { "yes" } else { "no" }.to_owned(),
        ]);
    }
    let (moves, quanta) = (&pool.reallocations, &pool.quanta);
    format!(
        "{units}\n{tenants}\n  \
         {} changes of owner: p50 {}, p99 {}, longest {}; {} over the limit\n  \
         {} of them to a tenant with nothing to run yet: p50 {}, p99 {}, longest {}\n  \
         {} quanta: p50 {}, p99 {}, longest {}; {} over the limit\n",
        moves.count,
        table::milliseconds(moves.p50_us),
        table::milliseconds(moves.p99_us),
        table::milliseconds(moves.max_us),
        moves.missed,
        moves.empty.count,
        table::milliseconds(moves.empty.p50_us),
        table::milliseconds(moves.empty.p99_us),
        table::milliseconds(moves.empty.max_us),
        quanta.count,
        table::milliseconds(quanta.p50_us),
        table::milliseconds(quanta.p99_us),
        table::milliseconds(quanta.max_us),
        quanta.over_budget,
    )
}

/// Who holds what, and what was given back, for people.
fn show_storage(status: &StorageStatus) -> String {
    let mut tenants = Table::new(&[
        "tenant",
        "scenario",
        ">tables",
        ">keys",
        ">blobs",
        "gives back",
    ]);
    for it in &status.tenants {
        tenants.row([
            it.tenant.clone(),
            it.scenario.clone(),
            table::bytes(it.tables_bytes),
            table::bytes(it.keys_bytes),
            table::bytes(it.blobs_bytes),
            match it.due_ms {
                _ if it.quiet => "done".to_owned(),
                Some(ms) => format!("in {} if quiet", span(ms as u64)),
                None => "-".to_owned(),
            },
        ]);
    }
    let mut releases = Table::new(&[
        ">release",
        "tenant",
        "scenario",
        ">held",
        ">tables",
        ">keys",
        ">blobs",
        ">short of",
        ">quiet before",
        "taken again",
    ]);
    let mut reasons = String::new();
    for it in &status.releases {
        releases.row([
            it.release.to_string(),
            it.tenant.clone(),
            it.scenario.clone(),
            table::bytes(it.held_bytes),
            table::bytes(it.tables_bytes),
            table::bytes(it.keys_bytes),
            table::bytes(it.blobs_bytes),
            table::bytes(it.short_bytes),
            span(it.at_ms.saturating_sub(it.quiet_since_ms)),
            it.taken_again_ms.map_or_else(
                || "no".to_owned(),
                |at| format!("after {}", span(at.saturating_sub(it.at_ms))),
            ),
        ]);
        if let Some(reason) = &it.short_reason {
            reasons += &format!("  release {} is short: {reason}\n", it.release);
        }
    }
    format!("{tenants}\n{releases}{reasons}")
}

/// A span that may be long, by its two largest units.
fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms} ms"),
        1..60 => format!("{s}.{} s", ms % 1_000 / 100),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

const BAR_STEPS: u64 = 1000;
/// How often the bar moves while somebody watches it.
const FRAME: Duration = Duration::from_millis(200);
