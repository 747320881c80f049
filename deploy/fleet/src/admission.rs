//! Who belongs to a fleet: an authority, the certificates and nkeys that boxes show, and what each may do at the broker.
//!
//! A folder holds all of it: `ca.crt` and `ca.key`, `members.toml`, a folder for each box and each NATS server, and `accounts.conf`, which each server
//! includes. It belongs on a machine of its own: whoever has `ca.key` can be any box.
//!
//! What a box may publish is what makes subjects true: everything under its own name, acknowledgements and fetches of its own consumers, and the
//! making of the streams, which all boxes make alike. What it has granted to others it may read and write; whether anything is granted all
//! may know. It may delete nothing.
//!
//! The boxes' account imports the ping of the servers' own account, by which each box learns how each server writes: see
//! [`crate::nats`].

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nkeys::KeyPair as Nkey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::BoxId;
use crate::config::NODE_KEY;
use crate::nats::{ANSWERS, JOBS, LOANS, SERVERS, inbox, loans_of};
use crate::transfer::name_of;

/// Why somebody was not admitted.
#[derive(Debug, Error)]
pub enum AdmissionError {
    /// A file cannot be read or written.
    #[error("{}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate cannot be made.
    #[error("certificate")]
    Certificate(#[from] rcgen::Error),
    /// A key for NATS cannot be made.
    #[error("nkey")]
    Nkey(#[from] nkeys::error::Error),
    /// The list of members is none.
    #[error("{}", path.display())]
    Members {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<toml::de::Error>,
    },
    /// A box is none of the fleet's.
    #[error("{who}: expected one of the {count} boxes in {}, got another", path.display())]
    Stranger {
        /// Who.
        who: BoxId,
        /// How many there are.
        count: usize,
        /// The file.
        path: PathBuf,
    },
}

/// The boxes of a fleet, with their public nkeys.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Members {
    #[serde(default)]
    boxes: BTreeMap<String, String>,
}

/// Makes the authority of a fleet, and the configuration of its servers without any box.
pub fn init(folder: &Path) -> Result<(), AdmissionError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params();
    span(&mut params);
    let certificate = params.self_signed(&key)?;
    make(folder)?;
    write(&folder.join("ca.key"), &key.serialize_pem(), 0o600)?;
    write(&folder.join("ca.crt"), &certificate.pem(), 0o644)?;
    save(folder, &Members::default())
}

/// Gives a NATS server that is called by these names a certificate: `server.crt` and `server.key` in a folder of its own.
pub fn admit_server(
    folder: &Path,
    name: &str,
    hosts: &[String],
) -> Result<PathBuf, AdmissionError> {
    let own = folder.join(format!("server-{name}"));
    make(&own)?;
    sign(folder, hosts.to_vec(), &own.join("server"))?;
    Ok(own)
}

/// Gives the box with this public node key a certificate and an nkey in a folder of its own, which goes to that box, and writes what it may do into `accounts.conf`.
pub fn admit(folder: &Path, who: BoxId, node_key: &str) -> Result<PathBuf, AdmissionError> {
    let mut members = members(folder)?;
    let name = format!("{:032x}", who.0);
    let own = folder.join(format!("box-{name}"));
    make(&own)?;
    sign(folder, vec![name_of(who)], &own.join("box"))?;
    let nkey = Nkey::new_user();
    let seed = Zeroizing::new(nkey.seed()?);
    write(&own.join("box.nk"), &seed, 0o600)?;
    write(&own.join(NODE_KEY), node_key, 0o644)?;
    let ca = folder.join("ca.crt");
    let text =
        std::fs::read_to_string(&ca).map_err(|source| AdmissionError::File { path: ca, source })?;
    write(&own.join("ca.crt"), &text, 0o644)?;
    members.boxes.insert(name, nkey.public_key());
    save(folder, &members)?;
    Ok(own)
}

/// Takes a box off `accounts.conf`, and away what was made for it and is still here. Its certificate opens nothing by itself: boxes give
/// their bytes only to whom they have placed a job with.
pub fn dismiss(folder: &Path, who: BoxId) -> Result<(), AdmissionError> {
    let mut members = members(folder)?;
    let name = format!("{:032x}", who.0);
    let count = members.boxes.len();
    if members.boxes.remove(&name).is_none() {
        let path = folder.join("members.toml");
        return Err(AdmissionError::Stranger { who, count, path });
    }
    save(folder, &members)?;
    let own = folder.join(format!("box-{name}"));
    match std::fs::remove_dir_all(&own) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(AdmissionError::File { path: own, source })
        }
        _ => Ok(()),
    }
}

/// What each server includes.
fn accounts(members: &Members) -> String {
    let users: String = members
        .boxes
        .iter()
        .map(|(name, nkey)| user(name, nkey))
        .collect();
    format!(
        r#"# Made by calderad-fleet. A server includes it, and says beside it:
#   jetstream {{ store_dir: ..., sync_interval: always }}
accounts {{
  SYS {{
    exports [ {{ service: "$SYS.REQ.SERVER.PING", response_type: stream, accounts: [ CALDERA ] }} ]
  }}
  CALDERA {{
    jetstream: enabled
    imports [ {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING" }}, to: "{SERVERS}" }} ]
    users [
{users}    ]
  }}
}}
system_account: SYS
"#
    )
}

fn user(name: &str, nkey: &str) -> String {
    let mut publish = vec![
        SERVERS.to_owned(),
        format!("caldera.*.{name}.>"),
        format!("caldera.beat.{name}"),
    ];
    for stream in [JOBS, ANSWERS] {
        publish.push(format!("$JS.API.STREAM.CREATE.{stream}"));
        for api in ["CONSUMER.INFO", "CONSUMER.MSG.NEXT"] {
            publish.push(format!("$JS.API.{api}.{stream}.{name}"));
        }
        publish.push(format!("$JS.ACK.{stream}.{name}.>"));
    }
    let who = BoxId(u128::from_str_radix(name, 16).unwrap_or_default());
    let loans = format!("{}.*", loans_of(who));
    for api in ["STREAM.CREATE", "STREAM.INFO"] {
        publish.push(format!("$JS.API.{api}.{LOANS}"));
    }
    publish.push(format!("$JS.API.DIRECT.GET.{LOANS}.{loans}"));
    publish.push(loans);
    // The filter stands in the subject, so nobody makes himself a consumer of what is another's.
    let (job, answer) = (
        format!("caldera.job.*.{name}.>"),
        format!("caldera.answer.*.{name}.>"),
    );
    publish.push(format!("$JS.API.CONSUMER.CREATE.{JOBS}.{name}.{job}"));
    publish.push(format!("$JS.API.CONSUMER.CREATE.{ANSWERS}.{name}.{answer}"));
    let subscribe = [
        format!("{}.>", inbox(who)),
        "caldera.beat.*".to_owned(),
        format!("caldera.held.*.{name}"),
        format!("caldera.withdrawn.*.{name}"),
        format!("caldera.loan.*.{name}"),
    ];
    let list = |subjects: &[String]| {
        let quoted: Vec<_> = subjects.iter().map(|it| format!("{it:?}")).collect();
        quoted.join(", ")
    };
    format!(
        "      {{ nkey: {nkey}, permissions: {{\n          publish: [ {} ]\n          subscribe: [ {} ] }} }}\n",
        list(&publish),
        list(&subscribe)
    )
}

fn sign(folder: &Path, hosts: Vec<String>, stem: &Path) -> Result<(), AdmissionError> {
    let path = folder.join("ca.key");
    let text = std::fs::read_to_string(&path).map_err(|source| AdmissionError::File {
        path: path.clone(),
        source,
    })?;
    let authority = KeyPair::from_pem(&Zeroizing::new(text))?;
    // Of the authority only its name and its key go into what it signs.
    let issuer = Issuer::new(authority_params(), authority);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts.clone())?;
    params.distinguished_name = called(hosts.first().map_or("fleet", String::as_str));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Every box answers others and asks others; servers ask each other too.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    span(&mut params);
    let certificate = params.signed_by(&key, &issuer)?;
    write(
        &stem.with_extension("key"),
        &Zeroizing::new(key.serialize_pem()),
        0o600,
    )?;
    write(&stem.with_extension("crt"), &certificate.pem(), 0o644)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("Caldera fleet");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A fleet is left by being taken off `accounts.conf`, not by waiting; and a clock that is wrong locks nobody out.
fn span(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2099, 12, 31);
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn members(folder: &Path) -> Result<Members, AdmissionError> {
    let path = folder.join("members.toml");
    let text = std::fs::read_to_string(&path).map_err(|source| AdmissionError::File {
        path: path.clone(),
        source,
    })?;
    toml::from_str(&text).map_err(|source| AdmissionError::Members {
        path,
        source: Box::new(source),
    })
}

fn save(folder: &Path, members: &Members) -> Result<(), AdmissionError> {
    let mut text = String::from("[boxes]\n");
    for (name, nkey) in &members.boxes {
        text += &format!("{name} = \"{nkey}\"\n");
    }
    replace(&folder.join("members.toml"), &text)?;
    replace(&folder.join("accounts.conf"), &accounts(members))
}

fn replace(path: &Path, text: &str) -> Result<(), AdmissionError> {
    let beside = path.with_extension("new");
    let failed = |source| AdmissionError::File {
        path: path.to_owned(),
        source,
    };
    std::fs::write(&beside, text).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

fn make(folder: &Path) -> Result<(), AdmissionError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| AdmissionError::File {
        path: folder.to_owned(),
        source,
    })
}

/// A file that is there is not overwritten: a key that is lost to a repeated command locks a box out.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), AdmissionError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = file.and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|source| AdmissionError::File {
        path: path.to_owned(),
        source,
    })
}
