//! What the operator decides: one TOML file, and a few flags that go over it.
//!
//! Everything has a default that works, so `calderad --development` starts with no file at all.
//! What a file says is checked as a whole before anything is opened: an unknown field is an error
//! (a misspelt limit that is silently ignored is found on the day it was needed), as are two
//! tenants of one name. Every refusal is a [`ConfigError`], and the process ends with exit
//! code 78.
//!
//! What each class of tenant is worth and is promised stands in a file of its own, the policy file,
//! for it is read again while the box runs and the rest is not. Without one the policy is the
//! standard one.
//!
//! Relative paths in a file are relative to that file's folder; those on the command line to the
//! working directory.
//!
//! Secrets are 32 bytes in 64 hexadecimal digits, as the Engine API keeps them. They stand in
//! files of their own, never in the configuration, and are refused when anybody but their owner
//! can read them. A secret whose file nobody named lives in `DATA/secrets` and is made there, from
//! the operating system's generator, when it is missing.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use caldera_devices::{NameError, Wanted, choose};
use caldera_rpc::auth::{FLEET, OPERATOR, Secret, SecretError};
use caldera_rpc::http::Limits as HttpLimits;
use caldera_rpc::methods::{Address, Quotas, Scope};
use caldera_scheduler::ledger::policy as era_policy;
use caldera_scheduler::scenario::file::{self as policy_file, FileError, TEXT_MAX};
use caldera_scheduler::scenario::{ClassId, Limits as PoolLimits, PolicyError};
use caldera_scheduler::{Nanos, Policy};
use caldera_store::TenantName;
use caldera_units::{Schema, SchemaError, Schemas};
use serde::Deserialize;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::era::EraConfig;
use crate::local_socket::LocalSocketConfig;
use crate::notary::KeyFileError;
use crate::pin::Realtime;
use crate::source::Sources;
use crate::tls::TlsFiles;

/// The configuration of one box, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where to listen. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// With what the box shows that it is itself; `None` speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The folder that holds everything the box keeps. Made if missing.
    pub data: PathBuf,
    /// Whether development keys, whose secrets somebody knows, are taken.
    pub development: bool,
    /// How many workers; `None` leaves it to the placement (see `pin`).
    pub workers: Option<usize>,
    /// Which threads stand above other programs.
    pub realtime: Realtime,
    /// What proves beside the processor.
    pub devices: Vec<Wanted>,
    /// Whether a start without one of them fails, or goes on with those that are there.
    pub devices_required: bool,
    /// Where ICICLE is installed.
    pub icicle_folder: PathBuf,
    /// After what time without an answer a device is given up.
    pub device_patience: Duration,
    /// What each class of tenant is worth and is promised; holds the length of a quantum.
    pub policy: Policy,
    /// Where the policy was read from, and is read again; `None` is the standard policy.
    pub policy_file: Option<PathBuf>,
    /// The operator's secret; `None` is `DATA/secrets/operator.hex`.
    pub operator_secret_file: Option<PathBuf>,
    /// Where the operator is served, and nowhere else; `None` serves the operator with everybody.
    pub operator_socket: Option<LocalSocketConfig>,
    /// Whether `/metrics` names tenants to whoever asks from loopback.
    pub metrics_name_tenants: bool,
    /// Whether the operator is served the dashboard at the port.
    pub dashboard: bool,
    /// Bounds of everything that could grow.
    pub limits: Limits,
    /// Whether witnesses stay when their jobs have ended, until their tenants remove them or give them
    /// back.
    pub keep_witnesses: bool,
    /// The ledger, if one is kept.
    pub era: Option<EraConfig>,
    /// What other boxes may prove of what this one has accepted; nothing, if there is none.
    pub fleet: Option<FleetConfig>,
    /// Below which folders keys may be read again.
    pub key_sources: Sources,
    /// What is needed for state units.
    pub state: StateConfig,
    /// At least one.
    pub tenants: Vec<TenantConfig>,
}

/// Bounds of everything that could grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once; further ones are closed as they come.
    pub connections: usize,
    /// Of those from one address, or from one /64 of IPv6.
    pub address_connections: usize,
    /// Bytes of a request line and its header section.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub head_fields: usize,
    /// Bytes of a request's target.
    pub target_bytes: usize,
    /// How long a connection may be idle between requests, in milliseconds.
    pub idle_ms: u64,
    /// From a connection to the end of its TLS handshake, in milliseconds.
    pub handshake_ms: u64,
    /// Bytes that one connection of TLS reads, and seals, at once.
    pub tls_buffer_bytes: usize,
    /// From the first byte of a head to its last, in milliseconds.
    pub head_ms: u64,
    /// From one piece of a body to the next, in milliseconds.
    pub body_gap_ms: u64,
    /// Bytes of a body, or of an answer, that must pass in each second.
    pub rate_bytes: u64,
    /// Milliseconds that `rate_bytes` leaves out of the sum.
    pub rate_grace_ms: u64,
    /// How long a connection that is being closed is listened to, in milliseconds.
    pub linger_ms: u64,
    /// How long answers that are on their way are waited for when the box stops, in milliseconds.
    pub drain_ms: u64,
    /// The longest JSON body.
    pub request_bytes: u64,
    /// The longest blob: a key or a witness.
    pub blob_bytes: u64,
    /// Blobs of one tenant, summed.
    pub tenant_blob_bytes: u64,
    /// Ended jobs of one tenant whose results are kept; the oldest go first.
    pub tenant_results: usize,
    /// How long an ended job and its result are kept, if `tenant_results` does not end it before.
    pub result_seconds: u64,
    /// The longest that a call waits for the end of a job, in milliseconds; one that asks for more waits so
    /// long.
    pub wait_ms: u64,
    /// The file of circuits and jobs; beyond it jobs are refused as on a full disk.
    pub database_bytes: u64,
    /// Circuits that one tenant may register.
    pub tenant_circuits: usize,
    /// What witnesses and vectors of jobs under way may take, which tenants share; `None` for half of the memory
    /// that the process may have.
    pub job_bytes: Option<u64>,
    /// What the tables of all keys may take; 0 for none.
    pub table_bytes: u64,
    /// What the tables of one key may take, as a multiple of its file.
    pub table_times: u32,
    /// What the tables of one key may take on a device, as a multiple of what its copy takes there; 0 for none.
    pub device_table_times: u32,
    /// What the newest quanta may take, which are kept one by one for profiles; 0 for none.
    pub profile_bytes: u64,
    /// The longest witness program.
    pub witness_program_bytes: usize,
    /// Values of all inputs of a witness program.
    pub witness_inputs: usize,
    /// The longest text of them.
    pub witness_inputs_bytes: usize,
    /// The memory that a witness program may have while it runs.
    pub witness_memory_bytes: usize,
    /// How long a witness program may compute for one witness, in milliseconds.
    pub witness_ms: u64,
}

/// State units.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// The proving key of presentations, whose verification key verifies them; without one none are.
    pub key: Option<PathBuf>,
    /// A folder of further schemas, `*.json`.
    pub schemas: Option<PathBuf>,
    /// For how many seconds a root is taken after it was replaced: for so long a holder who has been revoked can go
    /// on.
    pub window_seconds: u64,
}

/// What the box's fleet process is given, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetConfig {
    /// Where it is served, and nowhere else.
    pub socket: LocalSocketConfig,
    /// Its secret; `None` is `DATA/secrets/fleet.hex`.
    pub secret_file: Option<PathBuf>,
    /// Whose jobs may leave the box.
    pub lend: Lendable,
    /// So many jobs are lent at once.
    pub jobs_max: usize,
    /// A job is lent if the box would not begin it within this.
    pub after: Nanos,
    /// What may be paid for a second of a core that proves one.
    pub price_max: u64,
    /// After so long without a word of the fleet's all of its jobs come home.
    pub silence: Nanos,
}

/// Whose jobs may be proved on other boxes, which see their witnesses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lendable {
    /// Everybody's.
    All,
    /// Those of tenants of these names, who may be added later.
    Of(HashSet<TenantName>),
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantConfig {
    /// Its name, which is also the `kid` of its tokens and the name of its folder.
    pub name: TenantName,
    /// Its scenario class in the policy.
    pub class: ClassId,
    /// Its secret; `None` is `DATA/secrets/NAME.hex`.
    pub secret_file: Option<PathBuf>,
    /// What it may do; at least one of the two.
    pub scopes: Vec<Scope>,
    /// How much it may have.
    pub quotas: Quotas,
}

/// What the command line may say over the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--development`
    pub development: bool,
    /// `--workers`
    pub workers: Option<usize>,
    /// `--devices`, or `CALDERA_DEVICES`
    pub devices: Option<Vec<String>>,
}

/// Why a configuration was refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file could not be read or made.
    #[error("{what} {}", path.display())]
    File {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not TOML, or says something that no configuration says.
    #[error("{}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A field holds what it may not.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// Which field.
        field: String,
        /// What it may hold.
        expected: String,
        /// What it holds.
        got: String,
    },
    /// No tenant, and not in development mode.
    #[error("no [[tenant]]: add one, or start with --development, which makes one")]
    NoTenant,
    /// Two tenants of one name.
    #[error("tenant {name} is named twice")]
    TenantTwice {
        /// The name.
        name: String,
    },
    /// Others than its owner can read a secret.
    #[error("secret {}: mode {mode:03o} lets others read it; expected 600 (chmod 600 it)", path.display())]
    SecretExposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A secret is not 32 bytes in hexadecimal.
    #[error("secret {}", path.display())]
    SecretForm {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SecretError,
    },
    /// The key of presentations is refused.
    #[error("state.key {}", path.display())]
    StateKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<KeyFileError>,
    },
    /// A schema is refused.
    #[error("state.schemas {}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SchemaError,
    },
    /// The policy file is refused.
    #[error("policy {}", path.display())]
    PolicyFile {
        /// The file.
        path: PathBuf,
        /// Which key, and why.
        source: FileError,
    },
    /// The ledger's policy is refused.
    #[error("era policy {}", path.display())]
    EraPolicy {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the sum that shows it.
        source: caldera_scheduler::ledger::policy::PolicyError,
    },
    /// The figures do not make a policy.
    #[error("policy")]
    Policy(#[from] PolicyError),
    /// The operating system gave no randomness for a new secret.
    #[error("no randomness from the operating system: {0}")]
    Entropy(getrandom::Error),
}

impl Config {
    /// Reads `file` if there is one, puts `over` on top and checks the whole.
    pub fn load(file: Option<&Path>, over: &Overrides) -> Result<Config, ConfigError> {
        let Some(path) = file else {
            return check(Raw::default(), over);
        };
        let text = fs::read_to_string(path).map_err(|source| ConfigError::File {
            what: "reading",
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path, over)
    }

    /// Reads each secret that it names a file for. Those that are made where none is named are left for the start.
    pub fn check_secrets(&self) -> Result<(), ConfigError> {
        let tenants = self.tenants.iter().map(|it| &it.secret_file);
        let fleet = self.fleet.iter().map(|it| &it.secret_file);
        let named = [&self.operator_secret_file].into_iter();
        for path in named.chain(tenants).chain(fleet).flatten() {
            read_secret(path)?;
        }
        if let Some(era) = &self.era {
            read_secret(&era.node_key_file)?;
        }
        Ok(())
    }

    /// As [`Config::load`], of a text that stood in `path`. The files of policies that it names are read.
    pub fn parse(text: &str, path: &Path, over: &Overrides) -> Result<Config, ConfigError> {
        let raw = toml::from_str(text).map_err(|source| ConfigError::Syntax {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let raw = rooted(raw, path.parent().unwrap_or(Path::new("")));
        check(raw, over)
    }
}

impl Lendable {
    /// Whether jobs of this tenant are.
    pub fn includes(&self, tenant: &TenantName) -> bool {
        match self {
            Lendable::All => true,
            Lendable::Of(names) => names.contains(tenant),
        }
    }
}

impl Default for StateConfig {
    fn default() -> StateConfig {
        StateConfig {
            key: None,
            schemas: None,
            window_seconds: 3600,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            address_connections: 256,
            head_bytes: 16 << 10,
            head_fields: 64,
            target_bytes: 2048,
            idle_ms: 60_000,
            handshake_ms: 5_000,
            tls_buffer_bytes: 32 << 10,
            head_ms: 10_000,
            body_gap_ms: 10_000,
            rate_bytes: 64 << 10,
            rate_grace_ms: 10_000,
            linger_ms: 2_000,
            drain_ms: 2_000,
            request_bytes: 1 << 20,
            blob_bytes: 8 << 30,
            tenant_blob_bytes: 32 << 30,
            tenant_results: 1024,
            result_seconds: 86_400,
            wait_ms: 30_000,
            database_bytes: 16 << 30,
            tenant_circuits: 256,
            job_bytes: None,
            table_bytes: 2 << 30,
            table_times: 4,
            device_table_times: 4,
            profile_bytes: 16 << 20,
            witness_program_bytes: 64 << 20,
            witness_inputs: 1 << 20,
            witness_inputs_bytes: 16 << 20,
            witness_memory_bytes: 256 << 20,
            witness_ms: 60_000,
        }
    }
}

impl Limits {
    /// What a witness program may ask for.
    pub fn witness(&self) -> caldera_witness::Limits {
        caldera_witness::Limits {
            program_bytes: self.witness_program_bytes,
            memory_bytes: self.witness_memory_bytes,
            inputs_bytes: self.witness_inputs_bytes,
            inputs: self.witness_inputs,
            ..caldera_witness::Limits::default()
        }
    }

    /// What one connection may cost.
    pub fn http(&self) -> HttpLimits {
        HttpLimits {
            head_bytes_max: self.head_bytes,
            headers_max: self.head_fields,
            target_bytes_max: self.target_bytes,
            json_bytes_max: self.request_bytes,
            idle_max: Duration::from_millis(self.idle_ms),
            head_max: Duration::from_millis(self.head_ms),
            body_gap_max: Duration::from_millis(self.body_gap_ms),
            rate_min: self.rate_bytes,
            rate_grace: Duration::from_millis(self.rate_grace_ms),
            linger_max: Duration::from_millis(self.linger_ms),
        }
    }
}

/// Reads and checks a policy file.
pub fn read_policy(path: &Path) -> Result<Policy, ConfigError> {
    let mut text = String::new();
    fs::File::open(path)
        // One byte more than is taken, so that what is too long is seen to be.
        .and_then(|file| file.take(TEXT_MAX as u64 + 1).read_to_string(&mut text))
        .map_err(|source| ConfigError::File {
            what: "reading policy",
            path: path.to_owned(),
            source,
        })?;
    policy_file::parse(&text).map_err(|source| ConfigError::PolicyFile {
        path: path.to_owned(),
        source,
    })
}

/// The schemas of a box: the standard ones, and those of a folder.
pub fn read_schemas(folder: Option<&Path>) -> Result<Schemas, ConfigError> {
    let mut schemas = Schemas::standard();
    let Some(folder) = folder else {
        return Ok(schemas);
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        let what = "reading schemas";
        move |source| ConfigError::File { what, path, source }
    };
    let entries = fs::read_dir(folder).map_err(failed(folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed(folder))?;
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort_unstable();
    for path in paths {
        let text = fs::read(&path).map_err(failed(&path))?;
        Schema::parse(&text)
            .and_then(|schema| schemas.add(schema))
            .map_err(|source| ConfigError::Schema { path, source })?;
    }
    Ok(schemas)
}

/// The secret in `file`, or in `DATA/secrets/NAME.hex` if no file was named. That one is made,
/// readable by its owner only, if it is missing; a named one must be there.
pub fn open_secret(file: Option<&Path>, data: &Path, name: &str) -> Result<Secret, ConfigError> {
    if let Some(path) = file {
        return read_secret(path);
    }
    let folder = data.join("secrets");
    let path = folder.join(format!("{name}.hex"));
    match read_secret(&path) {
        Err(ConfigError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        answer => return answer,
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|source| ConfigError::File {
            what: "making folder",
            path: folder.clone(),
            source,
        })?;
    make_secret(&path)
}

/// A secret that nobody else knows.
pub fn draw_secret() -> Result<Secret, ConfigError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(ConfigError::Entropy)?;
    Ok(Secret::from_bytes(*bytes))
}

fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    let failed = |source| ConfigError::File {
        what: "reading secret",
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    // The mode of the open file, not of the name: what was checked is what is read.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::SecretExposed {
            path: path.to_owned(),
            mode,
        });
    }
    // Sized once, so that no copy of a part is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(SECRET_FILE_BYTES_MAX));
    file.take(SECRET_FILE_BYTES_MAX as u64)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Secret::parse(&text).map_err(|source| ConfigError::SecretForm {
        path: path.to_owned(),
        source,
    })
}

fn make_secret(path: &Path) -> Result<Secret, ConfigError> {
    let secret = draw_secret()?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(secret.to_file_text().as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| ConfigError::File {
            what: "making secret",
            path: path.to_owned(),
            source,
        })?;
    Ok(secret)
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Raw {
    listen: Option<String>,
    allow_plain: bool,
    tls: Option<TlsFiles>,
    data: Option<PathBuf>,
    development: bool,
    workers: Option<usize>,
    realtime: Realtime,
    devices: Vec<String>,
    devices_required: Option<bool>,
    device_patience_ms: Option<u64>,
    icicle_folder: Option<PathBuf>,
    quantum_us: Option<u64>,
    policy_file: Option<PathBuf>,
    operator_secret_file: Option<PathBuf>,
    operator_socket: Option<PathBuf>,
    operator_socket_group: Option<String>,
    metrics_name_tenants: bool,
    dashboard: bool,
    keep_witnesses: bool,
    limits: Limits,
    storage: RawStorage,
    state: StateConfig,
    era: Option<RawEra>,
    fleet: Option<RawFleet>,
    tenant: Vec<RawTenant>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFleet {
    socket: PathBuf,
    group: Option<String>,
    secret_file: Option<PathBuf>,
    #[serde(default)]
    lend: Vec<String>,
    jobs_max: Option<usize>,
    after_ms: Option<u64>,
    #[serde(default)]
    price_max: u64,
    silence_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawStorage {
    key_sources: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEra {
    policy_file: PathBuf,
    node_key_file: PathBuf,
    node_owner: u32,
    node_address: String,
    /// Where prices stood before they were part of the policy.
    prices: Option<toml::Table>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTenant {
    name: String,
    scenario: String,
    secret_file: Option<PathBuf>,
    #[serde(default = "all_scopes")]
    scopes: Vec<Scope>,
    #[serde(default)]
    quotas: RawQuotas,
}

/// As [`Quotas`], in the words of this file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawQuotas {
    queue: Option<u32>,
    running: Option<u32>,
    calls: Option<u32>,
    blob_bytes: Option<u64>,
    requests: Option<u32>,
}

fn all_scopes() -> Vec<Scope> {
    vec![Scope::Read, Scope::Submit]
}

/// Makes the paths of a file relative to its folder.
fn rooted(mut raw: Raw, folder: &Path) -> Raw {
    let root = |path: &mut PathBuf| *path = folder.join(&*path);
    raw.data.as_mut().map(root);
    raw.policy_file.as_mut().map(root);
    raw.operator_secret_file.as_mut().map(root);
    raw.operator_socket.as_mut().map(root);
    raw.icicle_folder.as_mut().map(root);
    if let Some(tls) = &mut raw.tls {
        root(&mut tls.certificate);
        root(&mut tls.key);
        tls.client_ca.as_mut().map(root);
    }
    raw.state.key.as_mut().map(root);
    raw.state.schemas.as_mut().map(root);
    if let Some(era) = &mut raw.era {
        root(&mut era.policy_file);
        root(&mut era.node_key_file);
    }
    if let Some(fleet) = &mut raw.fleet {
        root(&mut fleet.socket);
        fleet.secret_file.as_mut().map(root);
    }
    for tenant in &mut raw.tenant {
        tenant.secret_file.as_mut().map(root);
    }
    raw
}

fn check(raw: Raw, over: &Overrides) -> Result<Config, ConfigError> {
    let listen = match (over.listen, &raw.listen) {
        (Some(listen), _) => listen,
        (None, Some(text)) => text.parse().map_err(|_| ConfigError::Field {
            field: "listen".into(),
            expected: "an address and a port such as 127.0.0.1:7420".into(),
            got: format!("{text:?}"),
        })?,
        (None, None) => SocketAddr::from(([127, 0, 0, 1], PORT)),
    };
    // A token that is read on its way is good for whoever reads it, and so is a witness.
    if raw.tls.is_none() && !raw.allow_plain && !is_loopback(listen.ip()) {
        return Err(ConfigError::Field {
            field: "listen".into(),
            expected: "a loopback address; or [tls]; or allow_plain = true, with which tokens and \
                       witnesses can be read on the way"
                .into(),
            got: listen.to_string(),
        });
    }
    let policy = policy(raw.policy_file.as_deref(), raw.quantum_us)?;
    let development = raw.development || over.development;
    let mut tenants = Vec::with_capacity(raw.tenant.len());
    let mut names = HashSet::new();
    for tenant in raw.tenant {
        let tenant = check_tenant(tenant, &policy)?;
        if !names.insert(tenant.name.clone()) {
            return Err(ConfigError::TenantTwice {
                name: tenant.name.to_string(),
            });
        }
        tenants.push(tenant);
    }
    if tenants.is_empty() {
        if !development {
            return Err(ConfigError::NoTenant);
        }
        tenants.push(TenantConfig {
            name: "development".parse().map_err(|_| ConfigError::NoTenant)?,
            class: policy
                .find(&policy.classes()[0].name)
                .ok_or(ConfigError::NoTenant)?,
            secret_file: None,
            scopes: all_scopes(),
            quotas: Quotas::default(),
        });
    }
    let tenants_max = policy.limits().tenants_max as usize;
    if tenants.len() > tenants_max {
        return Err(ConfigError::Field {
            field: "tenant".into(),
            expected: format!("at most {tenants_max} of them"),
            got: tenants.len().to_string(),
        });
    }
    check_limits(&raw.limits)?;
    if let (None, Some(group)) = (&raw.operator_socket, &raw.operator_socket_group) {
        return Err(ConfigError::Field {
            field: "operator_socket_group".into(),
            expected: "to stand beside operator_socket".into(),
            got: format!("{group:?}"),
        });
    }
    if raw.dashboard && raw.operator_socket.is_some() {
        return Err(ConfigError::Field {
            field: "dashboard".into(),
            expected: "false beside operator_socket, where the operator is served, and the dashboard with it"
                .into(),
            got: "true".into(),
        });
    }
    let era = raw.era.map(|it| check_era(it, &policy)).transpose()?;
    let fleet = raw.fleet.map(check_fleet).transpose()?;
    if fleet.is_some() && tenants.iter().any(|it| it.name.as_str() == FLEET) {
        return Err(ConfigError::Field {
            field: "tenant.name".into(),
            expected: format!("a name that is not {FLEET:?} beside [fleet]"),
            got: format!("{FLEET:?}"),
        });
    }
    let devices = over.devices.as_ref().unwrap_or(&raw.devices);
    let patience_ms = raw.device_patience_ms.unwrap_or(PATIENCE_MS);
    if !(PATIENCE_MS_MIN..=PATIENCE_MS_MAX).contains(&patience_ms) {
        return Err(ConfigError::Field {
            field: "device_patience_ms".into(),
            expected: format!("{PATIENCE_MS_MIN} to {PATIENCE_MS_MAX}"),
            got: patience_ms.to_string(),
        });
    }
    // Tenants name files below them in full, so a folder has to be named in full as well.
    if let Some(folder) = raw.storage.key_sources.iter().find(|it| it.is_relative()) {
        return Err(ConfigError::Field {
            field: "storage.key_sources".into(),
            expected: "absolute paths".into(),
            got: format!("{folder:?}"),
        });
    }
    Ok(Config {
        listen,
        tls: raw.tls,
        data: over
            .data
            .clone()
            .or(raw.data)
            .unwrap_or_else(|| PathBuf::from(DATA)),
        development,
        workers: over.workers.or(raw.workers),
        realtime: raw.realtime,
        devices: choose(devices).map_err(|NameError { expected, got }| ConfigError::Field {
            field: "devices".into(),
            expected: expected.into(),
            got,
        })?,
        devices_required: raw.devices_required.unwrap_or(true),
        icicle_folder: raw
            .icicle_folder
            .unwrap_or_else(caldera_devices::icicle_folder),
        device_patience: Duration::from_millis(patience_ms),
        policy,
        policy_file: raw.policy_file,
        operator_secret_file: raw.operator_secret_file,
        operator_socket: raw.operator_socket.map(|path| LocalSocketConfig {
            fields: ["operator_socket", "operator_socket_group"],
            path,
            group: raw.operator_socket_group,
        }),
        metrics_name_tenants: raw.metrics_name_tenants,
        dashboard: raw.dashboard,
        limits: raw.limits,
        keep_witnesses: raw.keep_witnesses,
        era,
        fleet,
        key_sources: Sources::new(raw.storage.key_sources),
        state: raw.state,
        tenants,
    })
}

/// Whether an address leads to this machine alone, written as one of IPv4 or as the same one of IPv6.
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn check_era(raw: RawEra, policy: &Policy) -> Result<EraConfig, ConfigError> {
    let field = |field: &str, expected: &str, got: &str| ConfigError::Field {
        field: format!("era.{field}"),
        expected: expected.to_owned(),
        got: format!("{got:?}"),
    };
    if let Some(prices) = &raw.prices {
        let expected = "[prices.SCENARIO] with class, proof and reuse in the file that policy_file names, or in the \
                        next policy that `caldera era policy adopt` takes";
        let names: Vec<_> = prices.keys().map(String::as_str).collect();
        return Err(field("prices", expected, &names.join(", ")));
    }
    let mut text = String::new();
    let path = &raw.policy_file;
    fs::File::open(path)
        .and_then(|file| {
            file.take(era_policy::TEXT_MAX as u64 + 1)
                .read_to_string(&mut text)
        })
        .map_err(|source| ConfigError::File {
            what: "reading policy",
            path: path.clone(),
            source,
        })?;
    let rules = caldera_scheduler::ledger::Policy::parse(&text).map_err(|source| {
        ConfigError::EraPolicy {
            path: path.clone(),
            source,
        }
    })?;
    let address: Address = raw.node_address.parse().map_err(|_| {
        let expected = "0x and 40 lower-case hexadecimal digits";
        field("node_address", expected, &raw.node_address)
    })?;
    for price in &rules.prices {
        let scenario = &price.scenario;
        if policy.find(scenario).is_none() {
            let expected = "[prices.SCENARIO] to name scenarios of the policy";
            return Err(field("policy_file", expected, scenario));
        }
    }
    Ok(EraConfig {
        policy: rules,
        node_key_file: raw.node_key_file,
        node_owner: raw.node_owner,
        node_address: address.0,
    })
}

fn check_fleet(raw: RawFleet) -> Result<FleetConfig, ConfigError> {
    let within =
        |field: &str, value: u64, least: u64, most: u64| match (least..=most).contains(&value) {
            true => Ok(value),
            false => Err(ConfigError::Field {
                field: format!("fleet.{field}"),
                expected: format!("{least} to {most}"),
                got: value.to_string(),
            }),
        };
    let lend = match raw.lend.iter().any(|name| name == EVERYBODY) {
        true => Lendable::All,
        false => {
            let names = raw.lend.into_iter().map(|name| {
                name.parse().map_err(|_| ConfigError::Field {
                    field: "fleet.lend".into(),
                    expected: format!("names of tenants, or {EVERYBODY:?} for all"),
                    got: format!("{name:?}"),
                })
            });
            Lendable::Of(names.collect::<Result<_, _>>()?)
        }
    };
    let jobs_max = raw.jobs_max.unwrap_or(256) as u64;
    let after_ms = raw.after_ms.unwrap_or(2_000);
    let silence_ms = raw.silence_ms.unwrap_or(60_000);
    Ok(FleetConfig {
        socket: LocalSocketConfig {
            fields: ["fleet.socket", "fleet.group"],
            path: raw.socket,
            group: raw.group,
        },
        secret_file: raw.secret_file,
        lend,
        jobs_max: within("jobs_max", jobs_max, 1, LENT_MAX)? as usize,
        after: Nanos::from_millis(within("after_ms", after_ms, 0, WAIT_MS_MAX)?),
        price_max: within("price_max", raw.price_max, 0, PRICE_MAX)?,
        silence: Nanos::from_millis(within("silence_ms", silence_ms, 1_000, WAIT_MS_MAX)?),
    })
}

fn check_tenant(raw: RawTenant, policy: &Policy) -> Result<TenantConfig, ConfigError> {
    let field = |expected: String| ConfigError::Field {
        field: "tenant.name".into(),
        expected,
        got: format!("{:?}", raw.name),
    };
    if raw.name == OPERATOR {
        return Err(field(format!("a name that is not {OPERATOR:?}")));
    }
    let name = raw
        .name
        .parse()
        .map_err(|_| field("1 to 64 of a-z, 0-9, '_' and '-'".into()))?;
    let class = policy
        .find(&raw.scenario)
        .ok_or_else(|| ConfigError::Field {
            field: format!("scenario of tenant {}", raw.name),
            expected: policy
                .classes()
                .iter()
                .map(|class| class.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
            got: format!("{:?}", raw.scenario),
        })?;
    if raw.scopes.is_empty() {
        return Err(ConfigError::Field {
            field: format!("scopes of tenant {}", raw.name),
            expected: "one or two of read and submit".into(),
            got: "none".into(),
        });
    }
    let RawQuotas {
        queue,
        running,
        calls,
        blob_bytes,
        requests,
    } = raw.quotas;
    let counts = [
        ("queue", queue),
        ("running", running),
        ("calls", calls),
        ("requests", requests),
    ];
    if let Some((quota, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
        return Err(ConfigError::Field {
            field: format!("quotas.{quota} of tenant {}", raw.name),
            expected: "at least 1".into(),
            got: "0".into(),
        });
    }
    Ok(TenantConfig {
        name,
        class,
        secret_file: raw.secret_file,
        scopes: raw.scopes,
        quotas: Quotas {
            queue,
            running,
            calls,
            blob_bytes,
            requests,
        },
    })
}

/// The policy of a file, or the standard one, with another quantum if one was given.
fn policy(file: Option<&Path>, quantum_us: Option<u64>) -> Result<Policy, ConfigError> {
    if let Some(path) = file {
        if let Some(quantum_us) = quantum_us {
            return Err(ConfigError::Field {
                field: "quantum_us".into(),
                expected: "to stand in the policy file".into(),
                got: quantum_us.to_string(),
            });
        }
        return read_policy(path);
    }
    let standard = Policy::standard();
    let Some(quantum_us) = quantum_us else {
        return Ok(standard);
    };
    let limits = PoolLimits {
        quantum: Nanos::from_micros(quantum_us),
        ..*standard.limits()
    };
    Ok(Policy::new(standard.classes().to_vec(), limits)?)
}

fn check_limits(limits: &Limits) -> Result<(), ConfigError> {
    let at_least_one = [
        ("connections", limits.connections),
        ("address_connections", limits.address_connections),
        ("head_bytes", limits.head_bytes),
        ("head_fields", limits.head_fields),
        ("target_bytes", limits.target_bytes),
        ("tenant_results", limits.tenant_results),
        ("tenant_circuits", limits.tenant_circuits),
        ("witness_inputs", limits.witness_inputs),
    ];
    for (field, value) in at_least_one {
        if !(1..=COUNT_MAX).contains(&value) {
            return Err(ConfigError::Field {
                field: format!("limits.{field}"),
                expected: format!("1 to {COUNT_MAX}"),
                got: value.to_string(),
            });
        }
    }
    let times = [
        ("idle_ms", limits.idle_ms),
        ("handshake_ms", limits.handshake_ms),
        ("head_ms", limits.head_ms),
        ("body_gap_ms", limits.body_gap_ms),
        ("rate_grace_ms", limits.rate_grace_ms),
        ("linger_ms", limits.linger_ms),
        ("drain_ms", limits.drain_ms),
        ("witness_ms", limits.witness_ms),
    ];
    for (field, value) in times {
        if !(1..=WAIT_MS_MAX).contains(&value) {
            return Err(ConfigError::Field {
                field: format!("limits.{field}"),
                expected: format!("1 to {WAIT_MS_MAX}"),
                got: value.to_string(),
            });
        }
    }
    if !(TLS_BUFFER_MIN..=TLS_BUFFER_MAX).contains(&limits.tls_buffer_bytes) {
        return Err(ConfigError::Field {
            field: "limits.tls_buffer_bytes".into(),
            expected: format!("{TLS_BUFFER_MIN} to {TLS_BUFFER_MAX}"),
            got: limits.tls_buffer_bytes.to_string(),
        });
    }
    if limits.wait_ms > WAIT_MS_MAX {
        return Err(ConfigError::Field {
            field: "limits.wait_ms".into(),
            expected: format!("0 to {WAIT_MS_MAX}"),
            got: limits.wait_ms.to_string(),
        });
    }
    if limits.profile_bytes > PROFILE_BYTES_MAX {
        return Err(ConfigError::Field {
            field: "limits.profile_bytes".into(),
            expected: format!("0 to {PROFILE_BYTES_MAX}"),
            got: limits.profile_bytes.to_string(),
        });
    }
    Ok(())
}

/// An hour; proxies give up sooner.
const WAIT_MS_MAX: u64 = 3_600_000;
/// Below, a record of TLS costs more calls than it has KiB; above, reading it in pieces no longer helps.
const TLS_BUFFER_MIN: usize = 4 << 10;
const TLS_BUFFER_MAX: usize = 1 << 20;
/// In place of the names of tenants; none has a star.
const EVERYBODY: &str = "*";
/// All that are lent are told in one answer.
const LENT_MAX: u64 = 4_096;
/// JSON numbers lose precision above it in JavaScript.
const PRICE_MAX: u64 = (1 << 53) - 1;
/// The ring is set aside at the start, so it must be memory that a box has.
const PROFILE_BYTES_MAX: u64 = 64 << 30;
/// Where the data of an installed box live.
const DATA: &str = "/var/lib/caldera";
const PORT: u16 = 7420;
/// Room for the digits, a prefix and white space; more is not a secret.
const SECRET_FILE_BYTES_MAX: usize = 128;
/// Counts size arrays at the start; this is more than any box needs and less than hurts.
const COUNT_MAX: usize = 1 << 20;
/// A device that hangs is to be out of the pool within a second. Its worker, which then says so to the arbiter at once, has no core of its
/// own, so it may be late, and so may the arbiter, which looks for itself every 50 ms only: a quarter of a second is for both. What is
/// waited for takes 6 ms with `cuda:N` (three launches), 20 ms with ICICLE (a slice), and there some tens where a transform of 2^27 is
/// one call, as computed from docs/kernels.md: what takes this long hangs.
const PATIENCE_MS: u64 = 750;
/// Below, a device on a busy machine is given up for nothing; above, jobs stand still for a minute.
const PATIENCE_MS_MIN: u64 = 50;
const PATIENCE_MS_MAX: u64 = 60_000;

#[cfg(test)]
mod tests {
    use caldera_rpc::chain::chain;

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calderad.toml");
        fs::write(&path, text).expect("written");
        Config::load(Some(&path), &Overrides::default())
    }

    fn tenant(name: &str) -> String {
        let scenario = "financial";
        format!("[[tenant]]\nname = {name:?}\nscenario = {scenario:?}\n")
    }

    #[test]
    fn without_a_file_only_development_starts() {
        let bare = Config::load(None, &Overrides::default());
        assert!(matches!(bare, Err(ConfigError::NoTenant)));
        let over = Overrides {
            development: true,
            ..Overrides::default()
        };
        let config = Config::load(None, &over).expect("development needs nothing");
        assert_eq!(config.tenants.len(), 1);
        assert_eq!(config.listen.port(), PORT);
    }

    #[test]
    fn flags_go_over_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("calderad.toml");
        let text = format!("listen = '127.0.0.1:1'\ndata = 'box'\n{}", tenant("a"));
        fs::write(&path, text).expect("written");
        let plain = Config::load(Some(&path), &Overrides::default()).expect("valid");
        assert_eq!(plain.data, folder.path().join("box"));
        assert_eq!(plain.listen.port(), 1);
        let over = Overrides {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            data: Some("elsewhere".into()),
            workers: Some(3),
            devices: Some(vec!["cpu".into(), "icicle:CUDA:1".into()]),
            development: true,
        };
        let config = Config::load(Some(&path), &over).expect("valid");
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.data, Path::new("elsewhere"));
        assert_eq!(config.workers, Some(3));
        assert_eq!(config.devices[1].to_string(), "icicle:CUDA:1");
        assert!(config.development);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let field_of = |text: &str| match from_text(text) {
            Err(ConfigError::Field { field, .. }) => field,
            other => panic!("expected a refused field, got {other:?}"),
        };
        assert_eq!(field_of("listen = 'here'"), "listen");
        let devices = |names: &str| field_of(&format!("devices = {names}\n{}", tenant("a")));
        assert_eq!(devices("['gpu']"), "devices");
        assert_eq!(devices("['icicle:CUDA:0', 'icicle:CUDA:1']"), "devices");
        let patience = format!("device_patience_ms = 1\n{}", tenant("a"));
        assert_eq!(field_of(&patience), "device_patience_ms");
        assert!(matches!(
            from_text("quantum_us = 1000000"),
            Err(ConfigError::Policy(_))
        ));
        assert_eq!(field_of(&tenant("operator")), "tenant.name");
        assert_eq!(field_of(&tenant("../up")), "tenant.name");
        assert_eq!(
            field_of("[[tenant]]\nname = 'a'\nscenario = 'no such'"),
            "scenario of tenant a"
        );
        let limits = format!("{}[limits]\nconnections = 0", tenant("a"));
        assert_eq!(field_of(&limits), "limits.connections");
        let limits = format!("{}[limits]\nwait_ms = 3600001", tenant("a"));
        assert_eq!(field_of(&limits), "limits.wait_ms");
        let limits = format!("{}[limits]\nprofile_bytes = 99999999999", tenant("a"));
        assert_eq!(field_of(&limits), "limits.profile_bytes");
        let limits = format!("{}[limits]\ntls_buffer_bytes = 100", tenant("a"));
        assert_eq!(field_of(&limits), "limits.tls_buffer_bytes");
        let group = format!("operator_socket_group = 'ops'\n{}", tenant("a"));
        assert_eq!(field_of(&group), "operator_socket_group");
        let storage = format!("{}[storage]\nkey_sources = ['/srv', 'keys']", tenant("a"));
        assert_eq!(field_of(&storage), "storage.key_sources");
        assert!(matches!(
            from_text(&format!("{}[state]\nwindow = 1", tenant("a"))),
            Err(ConfigError::Syntax { .. })
        ));
        assert!(matches!(
            from_text(&(tenant("a") + &tenant("a"))),
            Err(ConfigError::TenantTwice { name }) if name == "a"
        ));
        assert!(matches!(
            from_text("realtime = 'yesterday'"),
            Err(ConfigError::Syntax { .. })
        ));
        assert!(matches!(
            from_text("lisen = '127.0.0.1:1'"),
            Err(ConfigError::Syntax { .. })
        ));
    }

    #[test]
    fn quotas_and_scopes_stand_beside_a_tenant() {
        let text = format!(
            "{}scopes = ['read']\nquotas = {{ running = 2, blob_bytes = 0, requests = 9 }}\n{}",
            tenant("a"),
            tenant("b")
        );
        let config = from_text(&text).expect("valid");
        let [a, b] = &config.tenants[..] else {
            panic!("{:?}", config.tenants);
        };
        assert_eq!(a.scopes, [Scope::Read]);
        let expected = Quotas {
            running: Some(2),
            blob_bytes: Some(0),
            requests: Some(9),
            ..Quotas::default()
        };
        assert_eq!(a.quotas, expected);
        assert_eq!(b.scopes, [Scope::Read, Scope::Submit]);
        assert_eq!(b.quotas, Quotas::default());
        let refused = |more: &str| {
            let refused = from_text(&(tenant("a") + more)).expect_err("refused");
            chain(&refused).to_string()
        };
        let text = refused("quotas = { running = 0 }");
        assert_eq!(
            text,
            "quotas.running of tenant a: expected at least 1, got 0"
        );
        let text = refused("scopes = []");
        assert!(text.starts_with("scopes of tenant a: "), "{text}");
        assert!(refused("quotas = { runing = 1 }").contains("runing"));
    }

    #[test]
    fn nothing_is_lent_but_what_the_operator_lists() {
        let config = |fleet: &str| from_text(&format!("{}[fleet]\n{fleet}", tenant("a")));
        let fleet = |text: &str| {
            let config = config(&format!("socket = 'fleet.sock'\n{text}"));
            config.expect("valid").fleet.expect("it is there")
        };
        assert_eq!(from_text(&tenant("a")).expect("valid").fleet, None);
        let bare = fleet("");
        assert!(bare.socket.path.is_absolute(), "{bare:?}");
        assert_eq!(bare.secret_file, None);
        let [a, b] = ["a", "b"].map(|name| name.parse::<TenantName>().expect("a name"));
        assert!(!bare.lend.includes(&a));
        let some = fleet("lend = ['b']").lend;
        assert!(some.includes(&b) && !some.includes(&a), "{some:?}");
        assert_eq!(fleet("lend = ['*', 'b']").lend, Lendable::All);

        let refused = |text: &str| {
            let refused = config(&format!("socket = 'fleet.sock'\n{text}"));
            chain(&refused.expect_err("refused")).to_string()
        };
        assert_eq!(
            refused("jobs_max = 0"),
            "fleet.jobs_max: expected 1 to 4096, got 0"
        );
        assert!(refused("silence_ms = 1").starts_with("fleet.silence_ms: "));
        assert!(refused("lend = ['A']").starts_with("fleet.lend: "));
        assert!(refused("lent = []").contains("lent"));
        assert!(matches!(config(""), Err(ConfigError::Syntax { .. })));
        let named = from_text(&format!("{}[fleet]\nsocket = 'x'", tenant("fleet")));
        let named = chain(&named.expect_err("refused")).to_string();
        assert!(named.starts_with("tenant.name: "), "{named}");
        assert!(from_text(&tenant("fleet")).is_ok());
    }

    #[test]
    fn beyond_loopback_it_is_tls_or_plain_in_so_many_words() {
        let listen =
            |at: &str, more: &str| from_text(&format!("listen = {at:?}\n{more}\n{}", tenant("a")));
        for at in [
            "127.0.0.1:1",
            "[::1]:1",
            "127.9.9.9:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(listen(at, "").is_ok(), "{at}");
        }
        for at in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            let refused = chain(&listen(at, "").expect_err("refused")).to_string();
            assert!(refused.starts_with("listen: "), "{refused}");
            assert!(refused.contains("allow_plain = true"), "{refused}");
            assert!(refused.contains(at), "{refused}");
            assert!(listen(at, "allow_plain = false").is_err());
            assert!(listen(at, "allow_plain = true").is_ok());
            // A table of the top level ends where the next begins.
            let tls = "[tls]\ncertificate = 'a'\nkey = 'b'\n";
            let config = listen(at, tls).expect("valid");
            let files = config.tls.expect("files");
            assert!(files.certificate.is_absolute(), "{files:?}");
            assert_eq!(files.client_ca, None);
        }
        let half = listen("127.0.0.1:1", "[tls]\ncertificate = 'a'\n");
        assert!(matches!(half, Err(ConfigError::Syntax { .. })));
    }

    #[test]
    fn the_dashboard_goes_where_the_operator_is_served() {
        let config = from_text(&format!("dashboard = true\n{}", tenant("a")));
        assert!(config.expect("valid").dashboard);
        assert!(!from_text(&tenant("a")).expect("valid").dashboard);
        let both = format!(
            "dashboard = true\noperator_socket = 'x.sock'\n{}",
            tenant("a")
        );
        let refused = chain(&from_text(&both).expect_err("refused")).to_string();
        assert!(
            refused.starts_with("dashboard: expected false beside operator_socket"),
            "{refused}"
        );
    }

    #[test]
    fn a_policy_file_takes_the_place_of_the_standard_policy() {
        let folder = tempfile::tempdir().expect("a folder");
        let policy = folder.path().join("policy.toml");
        let config = folder.path().join("calderad.toml");
        let load = |more: &str, class: &str, value: &str| {
            let text = format!("[classes.mine]\nvalue = {value}\nguarantee_percent = 5\n");
            fs::write(&policy, text).expect("written");
            let tenant = format!("[[tenant]]\nname = 'a'\nscenario = '{class}'\n");
            let text = format!("policy_file = 'policy.toml'\n{more}\n{tenant}");
            fs::write(&config, text).expect("written");
            Config::load(Some(&config), &Overrides::default())
        };
        let loaded = load("", "mine", "7").expect("valid");
        assert_eq!(loaded.policy_file.as_deref(), Some(&*policy));
        assert_eq!(loaded.policy.classes()[0].value, 7);
        let refused =
            |answer: Result<Config, ConfigError>| chain(&answer.expect_err("refused")).to_string();
        let text = refused(load("", "financial", "7"));
        assert!(
            text.contains("scenario of tenant a: expected mine"),
            "{text}"
        );
        let text = refused(load("", "mine", "'7'"));
        assert!(
            text.contains("policy.toml: line 2: classes.mine.value: "),
            "{text}"
        );
        let text = refused(load("quantum_us = 1000", "mine", "7"));
        assert!(
            text.contains("quantum_us: expected to stand in the policy"),
            "{text}"
        );
        fs::remove_file(&policy).expect("removed");
        let gone = chain(&read_policy(&policy).expect_err("refused")).to_string();
        assert!(gone.contains("reading policy"), "{gone}");
        fs::write(&policy, "#".repeat(TEXT_MAX + 2)).expect("written");
        let long = read_policy(&policy).expect_err("refused");
        assert!(matches!(
            long,
            ConfigError::PolicyFile {
                source: FileError::TooLong { .. },
                ..
            }
        ));
    }

    /// Prices are part of the ledger's policy, whose hash is in every payout, and nowhere else.
    #[test]
    fn prices_stand_in_the_ledgers_policy() {
        let folder = tempfile::tempdir().expect("a folder");
        let (policy, config) = (
            folder.path().join("era.toml"),
            folder.path().join("calderad.toml"),
        );
        let shipped = include_str!("../../era.toml");
        let load = |era: &str, more: &str| {
            fs::write(&policy, era).expect("written");
            let address = "01".repeat(20);
            let text = format!(
                "[era]\npolicy_file = 'era.toml'\nnode_key_file = 'node.key'\nnode_owner = 1\n\
                 node_address = '0x{address}'\n{more}\n{}",
                tenant("plaza")
            );
            fs::write(&config, text).expect("written");
            Config::load(Some(&config), &Overrides::default())
        };
        let refused =
            |answer: Result<Config, ConfigError>| chain(&answer.expect_err("refused")).to_string();
        let era = load(shipped, "").expect("valid").era.expect("is there");
        assert!(era.policy.price("financial").is_some());
        let old = "[era.prices.financial]\nclass = 'financial'\nfee = '1'";
        let text = refused(load(shipped, old));
        for part in ["era.prices", "[prices.SCENARIO]", "policy_file"] {
            assert!(text.contains(part), "{text}");
        }
        let other = shipped.replace("[prices.financial]", "[prices.finance]");
        let text = refused(load(&other, ""));
        assert!(text.contains("\"finance\""), "{text}");
    }

    #[test]
    fn a_secret_is_made_once_and_kept_private() {
        let data = tempfile::tempdir().expect("a folder");
        let first = open_secret(None, data.path(), "a").expect("made");
        let again = open_secret(None, data.path(), "a").expect("read");
        assert_eq!(*first.to_file_text(), *again.to_file_text());
        let other = open_secret(None, data.path(), "b").expect("made");
        assert_ne!(*first.to_file_text(), *other.to_file_text());
        let path = data.path().join("secrets/a.hex");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("changed");
        assert!(matches!(
            open_secret(None, data.path(), "a"),
            Err(ConfigError::SecretExposed { mode: 0o640, .. })
        ));
    }

    #[test]
    fn a_named_secret_must_exist_and_be_one() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join("mine.hex");
        assert!(matches!(
            open_secret(Some(&path), data.path(), "a"),
            Err(ConfigError::File { .. })
        ));
        fs::write(&path, "0x12").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("changed");
        assert!(matches!(
            open_secret(Some(&path), data.path(), "a"),
            Err(ConfigError::SecretForm { .. })
        ));
    }
}
