//! What an operator writes down for `calderad-fleet`, in TOML.
//!
//! ```toml
//! node_key = "<64 hexadecimal digits>"     # the public node key of this box, of which its name is made
//! state = "/var/lib/caldera-fleet"         # journal, and what is fetched
//! control_socket = "/run/caldera-fleet/control.sock"   # this if left out
//! certificate = "box.crt"                  # all of these are made by `calderad-fleet admit`; paths begin at this file's folder
//! key = "box.key"
//! ca = "ca.crt"
//!
//! [nats]
//! urls = ["tls://nats-1:4222", "tls://nats-2:4222", "tls://nats-3:4222"]
//! nkey_seed_file = "box.nk"
//! replicas = 3                             # how many servers keep each message: 1, 3 or 5
//!
//! [transfer]
//! listen = "0.0.0.0:7421"
//! advertise = "192.0.2.7:7421"             # where other boxes reach that
//!
//! [calderad]
//! socket = "/run/caldera/fleet.sock"       # `socket` of [fleet] in calderad.toml
//! secret_file = "fleet.hex"
//!
//! [lend]                                   # left out: this box proves for nobody
//! tenant = "guests"                        # as whom
//! secret_file = "guests.hex"
//! jobs = 4                                 # so many jobs are asked for at once
//! cores = 8                                # what that tenant can have of this box
//! speed = 1000                             # of a core, in thousandths of the one that work is measured in
//! price = 0                                # for a second of such a core
//! only_loans = false                       # true: for nobody but those to whom a loan was granted, and not beyond it
//! ```

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use caldera_rpc::auth::{Secret, SecretError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::BoxId;
use crate::nats::Access;

/// See the top of this file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which box this is.
    pub me: BoxId,
    /// Journal, and what is fetched.
    pub state: PathBuf,
    /// Where an operator is answered.
    pub control_socket: PathBuf,
    /// Who signs certificates.
    pub ca: PathBuf,
    /// This box's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The broker.
    pub nats: Access,
    /// Where other boxes are answered.
    pub listen: SocketAddr,
    /// Where they are told that this is.
    pub advertise: SocketAddr,
    /// The socket of this box's `calderad`, and the secret for it.
    pub calderad: (PathBuf, PathBuf),
    /// What is proved for others.
    pub lend: Option<Lend>,
}

/// What is proved for others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lend {
    /// As which tenant of this box.
    pub tenant: String,
    /// That tenant's secret.
    pub secret_file: PathBuf,
    /// So many jobs are asked for at once.
    pub jobs: u32,
    /// What the tenant can have of this box.
    pub cores: u32,
    /// How fast a core is, in thousandths.
    #[serde(default = "speed")]
    pub speed: u32,
    /// What is asked for a second of such a core.
    #[serde(default)]
    pub price: u64,
    /// Whether nothing is proved but on loans.
    #[serde(default)]
    pub only_loans: bool,
}

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not this kind of TOML.
    #[error("{}", path.display())]
    Toml {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<toml::de::Error>,
    },
    /// A field holds what it cannot.
    #[error("{field}: expected {expected}, got {got}")]
    Field {
        /// Which.
        field: &'static str,
        /// What it may hold.
        expected: &'static str,
        /// What it holds.
        got: String,
    },
    /// Others may read a secret.
    #[error("secret {}: expected mode 600, got {mode:o}: chmod 600 it", path.display())]
    Exposed {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is no secret.
    #[error("secret {}", path.display())]
    Secret {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: SecretError,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    node_key: String,
    state: PathBuf,
    #[serde(default = "control_socket")]
    control_socket: PathBuf,
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    nats: RawNats,
    transfer: RawTransfer,
    calderad: RawCalderad,
    lend: Option<Lend>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNats {
    urls: Vec<String>,
    nkey_seed_file: PathBuf,
    replicas: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTransfer {
    listen: SocketAddr,
    advertise: SocketAddr,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalderad {
    socket: PathBuf,
    secret_file: PathBuf,
}

impl BoxId {
    /// The name of the box with this public node key, written in hexadecimal digits.
    pub fn of_node_key(text: &str) -> Option<BoxId> {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).ok()?;
        let digest: [u8; 32] = Sha256::digest(key).into();
        let (name, _) = digest.split_first_chunk()?;
        Some(BoxId(u128::from_be_bytes(*name)))
    }
}

impl Config {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::File {
            path: path.to_owned(),
            source,
        })?;
        Config::parse(&text, path)
    }

    /// Reads what is in a file.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let mut raw: Raw = toml::from_str(text).map_err(|source| ConfigError::Toml {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let within = |it: &Path| folder.join(it);
        let field = |field, expected, got: String| ConfigError::Field {
            field,
            expected,
            got,
        };
        let me = BoxId::of_node_key(&raw.node_key).ok_or_else(|| {
            let got = format!("{} characters", raw.node_key.chars().count());
            field("node_key", "64 hexadecimal digits", got)
        })?;
        if raw.nats.urls.is_empty() {
            return Err(field("nats.urls", "at least one server", "none".into()));
        }
        for url in &raw.nats.urls {
            let local = ["nats://127.0.0.1:", "nats://localhost:", "nats://[::1]:"];
            if !url.starts_with("tls://") && !local.iter().any(|it| url.starts_with(it)) {
                let expected = "tls://HOST:PORT, or nats://HOST:PORT on loopback";
                return Err(field("nats.urls", expected, url.clone()));
            }
        }
        if !matches!(raw.nats.replicas, 1 | 3 | 5) {
            let got = raw.nats.replicas.to_string();
            return Err(field("nats.replicas", "1, 3 or 5", got));
        }
        if raw.transfer.advertise.ip().is_unspecified() {
            let expected = "an address at which other boxes reach this one";
            let got = raw.transfer.advertise.to_string();
            return Err(field("transfer.advertise", expected, got));
        }
        if let Some(lend) = &mut raw.lend {
            lend.secret_file = within(&lend.secret_file);
            for (name, got) in [
                ("lend.jobs", lend.jobs),
                ("lend.cores", lend.cores),
                ("lend.speed", lend.speed),
            ] {
                if !(1..=LEND_MAX).contains(&got) {
                    return Err(field(name, "from 1 to 100000", got.to_string()));
                }
            }
        }
        let (ca, certificate, key) = (within(&raw.ca), within(&raw.certificate), within(&raw.key));
        Ok(Config {
            me,
            state: within(&raw.state),
            control_socket: within(&raw.control_socket),
            nats: Access {
                urls: raw.nats.urls,
                replicas: raw.nats.replicas,
                nkey_seed_file: within(&raw.nats.nkey_seed_file),
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            },
            ca,
            certificate,
            key,
            listen: raw.transfer.listen,
            advertise: raw.transfer.advertise,
            calderad: (
                within(&raw.calderad.socket),
                within(&raw.calderad.secret_file),
            ),
            lend: raw.lend,
        })
    }
}

/// What a box that joins a fleet has to say of itself.
#[derive(Debug, Clone)]
pub struct Joining {
    /// Servers.
    pub urls: Vec<String>,
    /// How many servers keep each message.
    pub replicas: usize,
    /// Where it gives out bytes.
    pub listen: SocketAddr,
    /// Where others reach that.
    pub advertise: SocketAddr,
    /// The socket of its `calderad`.
    pub socket: PathBuf,
    /// The secret by which it is the fleet there.
    pub secret_file: PathBuf,
    /// Journal, and what is fetched.
    pub state: PathBuf,
    /// Where an operator is answered.
    pub control_socket: PathBuf,
    /// What it does for others, if anything.
    pub lend: Option<Lend>,
}

/// Writes the configuration of a box into the folder that `admit` has made for it. One that is there is left.
pub fn join(folder: &Path, it: Joining) -> Result<PathBuf, ConfigError> {
    let path = folder.join("fleet.toml");
    let failed = |path: PathBuf, source| ConfigError::File { path, source };
    let public = folder.join(NODE_KEY);
    let node_key = std::fs::read_to_string(&public).map_err(|source| failed(public, source))?;
    let raw = Raw {
        node_key: node_key.trim().to_owned(),
        state: it.state,
        control_socket: it.control_socket,
        ca: "ca.crt".into(),
        certificate: "box.crt".into(),
        key: "box.key".into(),
        nats: RawNats {
            urls: it.urls,
            nkey_seed_file: "box.nk".into(),
            replicas: it.replicas,
        },
        transfer: RawTransfer {
            listen: it.listen,
            advertise: it.advertise,
        },
        calderad: RawCalderad {
            socket: it.socket,
            secret_file: it.secret_file,
        },
        lend: it.lend,
    };
    let text = toml::to_string(&raw).map_err(|error| {
        let source = io::Error::other(error);
        failed(path.clone(), source)
    })?;
    Config::parse(&text, &path)?;
    let file = File::options().write(true).create_new(true).open(&path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| failed(path.clone(), source))?;
    Ok(path)
}

/// Reads a secret that only its owner may read.
pub fn secret(path: &Path) -> Result<Secret, ConfigError> {
    let failed = |source| ConfigError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, not of the name: what was looked at is what is read.
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(ConfigError::Exposed { path, mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(SECRET_MAX));
    file.take(SECRET_MAX as u64)
        .read_to_string(&mut text)
        .map_err(failed)?;
    Secret::parse(&text).map_err(|source| ConfigError::Secret {
        path: path.to_owned(),
        source,
    })
}

/// The public node key of the box that a folder was made for.
pub(crate) const NODE_KEY: &str = "node.pub";

fn control_socket() -> PathBuf {
    "/run/caldera-fleet/control.sock".into()
}

fn speed() -> u32 {
    1_000
}

const LEND_MAX: u32 = 100_000;
const SECRET_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use caldera_rpc::chain::chain;

    use super::*;

    /// What stands at the top of this file.
    fn example() -> String {
        let lines = include_str!("config.rs").lines();
        let lines = lines
            .skip_while(|line| !line.starts_with("//! ```toml"))
            .skip(1);
        let lines = lines.take_while(|line| !line.starts_with("//! ```"));
        let text: Vec<_> = lines.map(|line| line.trim_start_matches("//!")).collect();
        text.join("\n")
            .replace("<64 hexadecimal digits>", &"ab".repeat(32))
    }

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("/etc/caldera/fleet.toml"))
    }

    #[test]
    fn the_example_is_read() {
        let config = parse(&example()).expect("it is good");
        assert_eq!(config.ca, Path::new("/etc/caldera/ca.crt"));
        assert_eq!(config.state, Path::new("/var/lib/caldera-fleet"));
        let lend = config.lend.expect("it lends");
        assert_eq!((lend.jobs, lend.cores), (4, 8));
        let name: [u8; 32] = Sha256::digest([0xab; 32]).into();
        assert_eq!(config.me.0.to_be_bytes(), name[..16]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (from, to, field) in [
            ("abab", "ab", "node_key: expected 64"),
            (
                "tls://nats-2",
                "nats://nats-2",
                "nats.urls: expected tls://",
            ),
            (
                "replicas = 3",
                "replicas = 2",
                "nats.replicas: expected 1, 3 or 5",
            ),
            (
                "192.0.2.7",
                "0.0.0.0",
                "transfer.advertise: expected an address",
            ),
            ("jobs = 4", "jobs = 0", "lend.jobs: expected from 1"),
            ("[lend]", "[lent]", "unknown field `lent`"),
        ] {
            let text = example().replacen(from, to, 1);
            let error = chain(&parse(&text).expect_err(from)).to_string();
            assert!(error.contains(field), "{error}");
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret.hex");
        std::fs::write(&path, "11".repeat(32)).expect("it is written");
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o640).expect("it is set");
        let error = secret(&path).expect_err("it is exposed");
        assert!(
            matches!(error, ConfigError::Exposed { mode: 0o640, .. }),
            "{error}"
        );
        mode(0o600).expect("it is set");
        assert!(secret(&path).is_ok());
    }
}
