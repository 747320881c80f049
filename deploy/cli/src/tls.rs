//! `caldera tls init`: certificates for a box and for those who call it, signed by an authority that is made with them.
//!
//! For boxes whose callers are known, which are most: nobody else signs, so nobody else can pretend to be the box. All
//! keys are ECDSA on P-256, which every library has. The authority's key is needed again only for further certificates; it
//! belongs on no box.
//!
//! Nothing is overwritten: a key that is lost to a repeated command locks callers out.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::DnsName;
use serde_json::json;
use zeroize::Zeroizing;

use crate::Report;
use crate::failure::Misconfigured;

/// Make certificates for a box and its callers
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Init(InitArguments),
}

/// Make an authority, a certificate for a box, and certificates for its callers
///
/// Writes ca.crt and ca.key, server.crt and server.key, and client-NAME.crt and client-NAME.key for each --client.
/// Keys are readable by their owner only. Refuses to overwrite any file.
#[derive(clap::Args)]
struct InitArguments {
    /// Folder to write to; made if it is not there
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Names and addresses under which the box is called
    #[arg(long, value_name = "HOST,...", value_delimiter = ',', default_value = "localhost,127.0.0.1", value_parser = host)]
    host: Vec<String>,
    /// A caller that gets a certificate of its own; may be given more than once
    #[arg(long, value_name = "NAME", value_parser = caller)]
    client: Vec<String>,
    /// For how many days the certificates of the box and its callers are good
    #[arg(long, value_name = "N", default_value = "365", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    days: u64,
    /// For how many days the authority is; at least as many
    #[arg(long, value_name = "N", default_value = "3650", value_parser = clap::value_parser!(u64).range(1..=DAYS_MAX))]
    ca_days: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let Command::Init(arguments) = &arguments.command;
    init(arguments)
}

fn init(arguments: &InitArguments) -> anyhow::Result<Report> {
    if arguments.ca_days < arguments.days {
        let (days, ca_days) = (arguments.days, arguments.ca_days);
        return Err(Misconfigured(format!(
            "--ca-days: expected at least the {days} of --days, got {ca_days}"
        ))
        .into());
    }
    let folder = &arguments.folder;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .context("the clock of this machine is before 1970")?;
    // A box whose clock is a little behind takes them as well.
    let from = now.saturating_sub(CLOCKS_APART);
    let span = |days: u64| Span {
        from,
        until: now + Duration::from_secs(days * 86_400),
    };
    let (short, long) = (span(arguments.days), span(arguments.ca_days));

    let mut files = Vec::new();
    let authority = authority(long, &mut files)?;
    let server = ExtendedKeyUsagePurpose::ServerAuth;
    let named = arguments.host[0].as_str();
    let hosts = arguments.host.clone();
    signed(
        &authority, short, named, hosts, server, "server", &mut files,
    )?;
    for name in &arguments.client {
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        let stem = format!("client-{name}");
        signed(
            &authority,
            short,
            name,
            Vec::new(),
            client,
            &stem,
            &mut files,
        )?;
    }
    write(folder, &files)?;

    let folder = std::path::absolute(folder)?;
    let path = |name: &str| folder.join(name).display().to_string();
    let mut config = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n",
        path("server.crt"),
        path("server.key")
    );
    let mut call = format!("--url https://{named}:7420 --cacert {}", path("ca.crt"));
    if let Some(first) = arguments.client.first() {
        config += &format!("client_ca = {:?}\n", path("ca.crt"));
        let (cert, key) = (format!("client-{first}.crt"), format!("client-{first}.key"));
        call += &format!(" --cert {} --key {}", path(&cert), path(&key));
    }
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let text = format!(
        "made in {}: {}\n\
         the box's and its callers' are good until {}, the authority until {}\n\
         keep ca.key off the box: it signs, and is needed for further certificates only\n\
         \n\
         in the configuration of the box:\n\n{config}\n\
         for those who call it:\n\n{call}\n",
        folder.display(),
        names.join(", "),
        short.last_day(),
        long.last_day(),
    );
    let document = json!({
        "folder": folder,
        "files": names,
        "hosts": arguments.host,
        "clients": arguments.client,
        "notBefore": from.as_secs(),
        "notAfter": short.until.as_secs(),
        "caNotAfter": long.until.as_secs(),
        "config": config,
        "arguments": call,
    });
    Ok(Report::new(text, document))
}

/// From when until when a certificate is good, since 1970.
#[derive(Clone, Copy)]
struct Span {
    from: Duration,
    until: Duration,
}

impl Span {
    fn put(self, parameters: &mut CertificateParams) {
        let epoch = date_time_ymd(1970, 1, 1);
        parameters.not_before = epoch + Duration::from_secs(self.from.as_secs());
        parameters.not_after = epoch + Duration::from_secs(self.until.as_secs());
    }

    fn last_day(self) -> String {
        let day = (date_time_ymd(1970, 1, 1) + self.until).date();
        format!(
            "{}-{:02}-{:02}",
            day.year(),
            u8::from(day.month()),
            day.day()
        )
    }
}

/// A file that is to be written.
struct Made {
    name: String,
    text: Zeroizing<String>,
    mode: u32,
}

fn authority(span: Span, files: &mut Vec<Made>) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = called("Caldera authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    span.put(&mut parameters);
    let certificate = parameters.self_signed(&key)?;
    push("ca", certificate.pem(), &key, files);
    Ok(Issuer::new(parameters, key))
}

fn signed(
    authority: &Issuer<'static, KeyPair>,
    span: Span,
    name: &str,
    hosts: Vec<String>,
    purpose: ExtendedKeyUsagePurpose,
    stem: &str,
    files: &mut Vec<Made>,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let mut parameters = CertificateParams::new(hosts)?;
    parameters.distinguished_name = called(name);
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![purpose];
    parameters.use_authority_key_identifier_extension = true;
    span.put(&mut parameters);
    let certificate = parameters.signed_by(&key, authority)?;
    push(stem, certificate.pem(), &key, files);
    Ok(())
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn push(stem: &str, certificate: String, key: &KeyPair, files: &mut Vec<Made>) {
    files.push(Made {
        name: format!("{stem}.crt"),
        text: Zeroizing::new(certificate),
        mode: 0o644,
    });
    files.push(Made {
        name: format!("{stem}.key"),
        text: Zeroizing::new(key.serialize_pem()),
        mode: 0o600,
    });
}

fn write(folder: &Path, files: &[Made]) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    // All or none, but for somebody who writes there at the same moment.
    for file in files {
        let path = folder.join(&file.name);
        if path.symlink_metadata().is_ok() {
            return Err(Misconfigured(format!(
                "{} is there already, and nothing is overwritten: take another folder, or move it away",
                path.display()
            ))
            .into());
        }
    }
    for file in files {
        let path = folder.join(&file.name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(file.mode)
            .open(&path)
            .and_then(|mut out| {
                out.write_all(file.text.as_bytes())?;
                out.sync_all()
            })
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn host(text: &str) -> anyhow::Result<String> {
    if text.parse::<IpAddr>().is_err() && DnsName::try_from(text).is_err() {
        bail!("expected a name of DNS or an address of IP");
    }
    Ok(text.to_owned())
}

fn caller(text: &str) -> anyhow::Result<String> {
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if !(1..=64).contains(&text.len()) || !text.bytes().all(fits) {
        bail!("expected 1 to 64 of a-z, 0-9, '_' and '-'");
    }
    Ok(text.to_owned())
}

const CLOCKS_APART: Duration = Duration::from_secs(3600);
/// A century: more is a mistake.
const DAYS_MAX: u64 = 36_525;
