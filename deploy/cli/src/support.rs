//! `caldera support-bundle`: what somebody needs who is to help with a box from far away, and nothing that has to be kept from them.
//!
//! A folder of plain texts, so that whoever sends it can read first what is sent. It holds what the programs say of themselves and of the
//! machine; it never opens the database, a blob, a witness or a key.
//!
//! **No secrets.** Nothing that is put into it should hold one. Two things see to it all the same. All secrets that the configuration and the
//! data folder lead to are read, and where a text holds one of them, as hexadecimal or as it stands in its file, it is blotted out.
//! And whatever has the form of a token, of a tenant's secret or of a private key is, whoever's it may be; digests have that form too, and
//! nobody needs those to help. A secret that cannot be read ends the command: then
//! nobody can say that it is not in there. A configuration that is not there names none.
//!
//! **What is missing is said**, and no reason to give up: who asks for help has a box on which something is not as it should be. Where
//! a text cannot be had, it holds why not, and the command lists it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use caldera_rpc::chain::chain;
use serde_json::json;
use zeroize::Zeroizing;

use crate::Report;
use crate::failure::Misconfigured;
use crate::service::Connection;

/// Gather what is known of a box into a folder, without secrets and witnesses
///
/// The folder holds plain texts: read them before you send them. Run it as who may read the box's secrets, which are looked for in every
/// text and blotted out.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Folder to make
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The box's configuration
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/etc/caldera/calderad.toml"
    )]
    config: PathBuf,
    /// The box's data folder
    #[arg(long, value_name = "DATA", default_value = "/var/lib/caldera")]
    data: PathBuf,
    /// A log of calderad's, beside what journald has
    #[arg(long, value_name = "FILE")]
    log: Vec<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let blot = Blot::read(arguments)?;
    let client = arguments.connection.client()?;
    let folder = &arguments.folder;
    DirBuilder::new()
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let mut bundle = Bundle {
        folder,
        blot,
        parts: Vec::new(),
        missing: Vec::new(),
    };
    bundle.put("version.txt", &version())?;
    bundle.put_file("calderad.toml", &arguments.config)?;
    bundle.put_file("policy.toml", &beside(&arguments.config, "policy.toml"))?;
    bundle.put("data.txt", &inventory(&arguments.data))?;
    for name in MACHINE {
        bundle.put_file(
            &name.trim_start_matches('/').replace('/', "-"),
            Path::new(name),
        )?;
    }
    for (name, program, parameters) in PROGRAMS {
        bundle.put_or_why(name, said(program, parameters))?;
    }
    for (number, log) in arguments.log.iter().enumerate() {
        bundle.put_file(&format!("log-{number}.txt"), log)?;
    }
    for (name, path) in BOX {
        // A box that does not answer is a reason to ask for help, and none to give up.
        let text = client.get(path);
        bundle.put_or_why(name, text.map_err(|error| chain(&error).to_string()))?;
    }
    for (name, method) in ANSWERS {
        let answer = client.call::<serde_json::Value>(method, &json!({}));
        let text = answer.map(|answer| format!("{answer:#}\n"));
        bundle.put_or_why(name, text.map_err(|error| chain(&error).to_string()))?;
    }
    let blotted: usize = bundle.parts.iter().map(|(_, blotted)| blotted).sum();
    let mut text = format!("wrote {} texts to {}", bundle.parts.len(), folder.display());
    text.push_str(&match blotted {
        0 => "; nothing in them had to be blotted out\n".to_owned(),
        count => format!("; {count} secrets in them were blotted out\n"),
    });
    for (name, why) in &bundle.missing {
        text.push_str(&format!("missing: {name}: {why}\n"));
    }
    let missing = bundle.missing.iter();
    let missing = missing.map(|(name, why)| json!({ "file": name, "why": why }));
    let missing: Vec<_> = missing.collect();
    let parts = bundle
        .parts
        .iter()
        .map(|(name, blotted)| json!({ "file": name, "blotted": blotted }));
    let json = json!({ "folder": folder, "files": parts.collect::<Vec<_>>(), "missing": missing });
    Ok(Report::new(text, json))
}

/// The folder as it grows.
struct Bundle<'a> {
    folder: &'a Path,
    blot: Blot,
    /// The files, with how many secrets were blotted out in each.
    parts: Vec<(String, usize)>,
    /// Those that hold why there is nothing else in them.
    missing: Vec<(String, String)>,
}

impl Bundle<'_> {
    fn put(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let (clean, blotted) = self.blot.clean(text);
        // Cut afterwards: a part of a secret would not be found.
        let clean = tail(&clean);
        let path = self.folder.join(name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        file.and_then(|mut file| file.write_all(clean.as_bytes()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.parts.push((name.to_owned(), blotted));
        Ok(())
    }

    /// A file as it is, or why it cannot be had.
    fn put_file(&mut self, name: &str, path: &Path) -> anyhow::Result<()> {
        let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        self.put_or_why(
            name,
            text.map_err(|error| format!("{}: {error}", path.display())),
        )
    }

    /// A text, or why it cannot be had, without what must not be in either.
    fn put_or_why(&mut self, name: &str, text: Result<String, String>) -> anyhow::Result<()> {
        let text = text.unwrap_or_else(|why| {
            let (why, _) = self.blot.clean(&why);
            let whole = format!("{why}\n");
            self.missing.push((name.to_owned(), why));
            whole
        });
        self.put(name, &text)
    }
}

/// What must not be in any text.
struct Blot {
    secrets: Vec<Zeroizing<String>>,
}

impl Blot {
    /// Reads every secret that a box has.
    fn read(arguments: &Arguments) -> anyhow::Result<Blot> {
        let mut files = Vec::new();
        let folder = arguments.data.join("secrets");
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let entry =
                        entry.with_context(|| format!("cannot read {}", folder.display()))?;
                    files.push(entry.path());
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", folder.display()));
            }
        }
        let config = &arguments.config;
        let text = match fs::read_to_string(config) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("cannot read {}", config.display()))?,
        };
        let config: toml::Table = toml::from_str(&text)
            .map_err(|error| Misconfigured(format!("{}: {error}", config.display())))?;
        let mut named = Vec::new();
        of_secrets(&toml::Value::Table(config), &mut named);
        files.extend(named.iter().map(|name| beside(&arguments.config, name)));
        let mut secrets = Vec::new();
        for file in files {
            let text = match fs::read_to_string(&file) {
                Ok(text) => Zeroizing::new(text),
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot read {}", file.display()));
                }
            };
            // The key of a certificate is many lines; that of a tenant one, with 0x or without.
            let lines = text.lines().map(str::trim);
            let lines = lines.map(|line| line.trim_start_matches("0x"));
            let long = lines.filter(|line| line.len() >= SECRET_MIN && !line.starts_with('-'));
            secrets.extend(long.map(|line| Zeroizing::new(line.to_ascii_lowercase())));
        }
        Ok(Blot { secrets })
    }

    /// A text without secrets, and how many were in it.
    fn clean(&self, text: &str) -> (String, usize) {
        let mut spans: Vec<(usize, usize)> = Vec::new();
        // As long as the text, byte for byte.
        let small = Zeroizing::new(text.to_ascii_lowercase());
        for secret in &self.secrets {
            let found = small.match_indices(secret.as_str());
            spans.extend(found.map(|(at, it)| (at, at + it.len())));
        }
        spans.extend(tokens(text));
        spans.extend(words(&small));
        spans.extend(private_keys(text));
        spans.sort_unstable();
        let (mut clean, mut at, mut count) = (String::with_capacity(text.len()), 0, 0);
        for (from, to) in spans {
            if from >= at {
                clean.push_str(&text[at..from]);
                clean.push_str(BLOTTED);
                count += 1;
            }
            at = at.max(to);
        }
        clean.push_str(&text[at..]);
        (clean, count)
    }
}

/// Where a text has what looks like a token: three parts in base64url, of which the first begins a JSON object.
fn tokens(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.match_indices("eyJ").filter_map(move |(at, _)| {
        let rest = text[at..].bytes();
        let length = rest.take_while(|byte| fits(*byte)).count();
        let dots = text[at..at + length].matches('.').count();
        (dots >= 1).then_some((at, at + length))
    })
}

/// Where it has 64 hexadecimal digits and no more: a secret as tenants have them, or a digest.
fn words(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let digit = |byte: &u8| byte.is_ascii_hexdigit();
    let bytes = text.as_bytes();
    let begins = (0..bytes.len())
        .filter(move |&at| digit(&bytes[at]) && (at == 0 || !digit(&bytes[at - 1])));
    begins.filter_map(move |at| {
        let length = bytes[at..].iter().take_while(|byte| digit(byte)).count();
        (length == 64).then_some((at, at + length))
    })
}

/// Where it has a private key in PEM.
fn private_keys(text: &str) -> impl Iterator<Item = (usize, usize)> {
    text.match_indices("-----BEGIN ").filter_map(|(at, _)| {
        let line = text[at..].lines().next()?;
        let end = text[at..]
            .find("-----END ")
            .map_or(text.len(), |end| at + end);
        line.contains("PRIVATE KEY").then_some((at, end))
    })
}

/// The values of all keys of a configuration that name a file with a secret.
fn of_secrets(value: &toml::Value, named: &mut Vec<String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                match value {
                    toml::Value::String(path) if SECRET_KEYS.iter().any(|it| key.ends_with(it)) => {
                        named.push(path.clone());
                    }
                    // `state.key` is a proving key, which anybody may have.
                    toml::Value::Table(tls) if key == "tls" => {
                        let key = tls.get("key").and_then(toml::Value::as_str);
                        named.extend(key.map(str::to_owned));
                    }
                    other => of_secrets(other, named),
                }
            }
        }
        toml::Value::Array(list) => list.iter().for_each(|it| of_secrets(it, named)),
        _ => {}
    }
}

/// A path that a file names, as the box reads it.
fn beside(file: &Path, named: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(named)
}

/// How much is in a data folder; no names below the tenants', for the digest of a witness tells something of it.
fn inventory(data: &Path) -> String {
    let mut text = format!("{}\n", data.display());
    let database = ["caldera.sqlite", "caldera.sqlite-wal"];
    for name in database {
        let length = data.join(name).metadata().map(|it| it.len());
        text += &match length {
            Ok(length) => format!("{name}: {length} bytes\n"),
            Err(error) => format!("{name}: {error}\n"),
        };
    }
    let tenants = data.join("blobs/tenants");
    let entries = fs::read_dir(&tenants).into_iter().flatten().flatten();
    let mut lines: Vec<String> = entries
        .map(|entry| {
            let blobs = fs::read_dir(entry.path()).into_iter().flatten().flatten();
            let lengths = blobs.map(|it| it.metadata().map_or(0, |it| it.len()));
            let (count, bytes) = lengths.fold((0, 0), |(count, sum), it| (count + 1, sum + it));
            let name = entry.file_name().to_string_lossy().into_owned();
            format!("blobs of {name}: {count}, {bytes} bytes\n")
        })
        .collect();
    lines.sort_unstable();
    text + &lines.concat()
}

fn version() -> String {
    format!("caldera {}\n", env!("CARGO_PKG_VERSION"))
}

/// What a program says; or that it is not here.
fn said(program: &str, parameters: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(parameters).stdin(Stdio::null());
    match command.output() {
        Ok(output) => {
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            let faults = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(format!("{}{faults}", tail(&out)))
        }
        Err(error) => Err(format!("{program}: {error}")),
    }
}

/// The end of a text, where it is longer than a text here may be.
fn tail(text: &str) -> &str {
    let from = text.len().saturating_sub(TEXT_MAX);
    let from = (from..text.len()).find(|at| text.is_char_boundary(*at));
    &text[from.unwrap_or(0)..]
}

const MACHINE: [&str; 7] = [
    "/etc/os-release",
    "/proc/cmdline",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/loadavg",
    "/proc/mounts",
    "/proc/version",
];
const PROGRAMS: [(&str, &str, &[&str]); 3] = [
    (
        "journal.txt",
        "journalctl",
        &["--unit=calderad.service", "--no-pager", "--lines=20000"],
    ),
    (
        "unit.txt",
        "systemctl",
        &["--no-pager", "status", "calderad.service"],
    ),
    ("gpus.txt", "nvidia-smi", &["-q"]),
];
/// What the box answers to who may ask.
const BOX: [(&str, &str); 2] = [("ready.txt", "/readyz"), ("metrics.txt", "/metrics")];
const ANSWERS: [(&str, caldera_rpc::methods::Method); 2] = [
    ("pool.json", caldera_rpc::methods::Method::Pool),
    ("storage.json", caldera_rpc::methods::Method::Storage),
];
/// How keys of the configuration end that name files with secrets.
const SECRET_KEYS: [&str; 2] = ["secret_file", "node_key_file"];
/// No secret is shorter, and what is could stand anywhere.
const SECRET_MIN: usize = 32;
const BLOTTED: &str = "[blotted out]";
/// What a person reads at most of one text.
const TEXT_MAX: usize = 8 << 20;
