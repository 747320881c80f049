//! `caldera state`: trusted state units, at home and on a box (`docs/state-units.md`).
//!
//! What needs a secret is done here: an issuer signs, a holder grants, opens and consents to uses. What a box records is a
//! call each. Secrets live in files that their owner alone can read, and are overwritten in memory after use.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use caldera_client::Client;
use caldera_prover::format::Wtns;
use caldera_prover::units::{
    Grant, HolderSecret, IssuerSecret, Opening, Presentation, UnitContent, circuit, seed, tip,
    witness,
};
use caldera_rpc::methods::{
    GrantTerms, JobStatus, Link, Method, OpenRequest, Present, PresentationInfo, PublishIssuers,
    RequestTerms, Reuse, Revoke, StateInfo, StateQuery, VerifyPresentation, WitnessData, Word,
};
use caldera_units::{
    GrantFile, IssuerFile, PointFile, RevokedFile, Schema, Schemas, UnitFile, address, element,
    issuer_tree, revocation_tree, word,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::files::{self, Outputs};
use crate::service::{self, Connection, Perhaps, Registration, Unless};
use crate::{Report, prove};

/// Issue, grant, present and reuse trusted state units
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    Keygen(KeygenArguments),
    Subject(SubjectArguments),
    Issue(IssueArguments),
    Issuers(IssuersArguments),
    Request(RequestArguments),
    Grant(GrantArguments),
    Witness(WitnessArguments),
    Present(Box<PresentArguments>),
    Verify(VerifyArguments),
    Link(LinkArguments),
    Reuse(ReuseArguments),
    Revoke(RevokeArguments),
    Get(GetArguments),
    Circuit(CircuitArguments),
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    Issuer,
    Holder,
}

/// Make the secret of an issuer or a holder
///
/// The file is readable by its owner alone. Of an issuer the public key is printed.
#[derive(clap::Args)]
struct KeygenArguments {
    /// Whose secret
    #[arg(value_enum)]
    role: Role,
    /// Where to write the secret, a new file
    #[arg(short, long, value_name = "SECRET")]
    output: PathBuf,
}

/// Make the subject of a new unit, for its issuer, and the blinding that the holder keeps with the unit
#[derive(clap::Args)]
struct SubjectArguments {
    /// The holder's secret
    #[arg(long, value_name = "SECRET")]
    holder: PathBuf,
    /// Where to write the blinding, a new file
    #[arg(short, long, value_name = "BLINDING")]
    output: PathBuf,
}

/// Sign a unit; at home
#[derive(clap::Args)]
struct IssueArguments {
    /// The issuer's secret
    #[arg(long, value_name = "SECRET")]
    issuer: PathBuf,
    #[command(flatten)]
    schema: SchemaArguments,
    /// Name of the unit's schema
    #[arg(long, value_name = "NAME")]
    schema_name: String,
    /// A claim and its value; those that are left out are 0
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = pair)]
    claims: Vec<(String, String)>,
    /// The subject, as the holder has made it
    #[arg(long, value_name = "WORD")]
    subject: Word,
    /// The last second of Unix time at which it is valid
    #[arg(long, value_name = "SECONDS")]
    valid_until: u64,
    /// Its number among the issuer's units, never used twice
    #[arg(long, value_name = "N")]
    nonce: u64,
    /// Where to write the unit, a new file
    #[arg(short, long, value_name = "UNIT")]
    output: PathBuf,
}

/// Schemas beside the standard ones
#[derive(clap::Args)]
struct SchemaArguments {
    /// A file with a further schema
    #[arg(long = "schema", value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Show the root of a list of accepted issuers, and publish it on a box; the latter for the operator
#[derive(clap::Args)]
struct IssuersArguments {
    /// The list: [{"x": .., "y": ..}, ..], nobody's place ever given to another
    #[arg(value_name = "ISSUERS")]
    issuers: PathBuf,
    #[command(flatten)]
    connection: Perhaps,
}

/// Open a request on a box: what the tenant asks holders for
#[derive(clap::Args)]
struct RequestArguments {
    /// What is asked
    #[arg(value_name = "REQUEST")]
    request: PathBuf,
    /// The first second of Unix time at which nothing more is taken for it
    #[arg(long, value_name = "SECONDS")]
    closes: u64,
    /// Where to write the answer, which holders need
    #[arg(short, long, value_name = "OFFER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    connection: Connection,
}

/// Grant a verifier a presentation and its uses; at home
#[derive(clap::Args)]
struct GrantArguments {
    /// The holder's secret
    #[arg(long, value_name = "SECRET")]
    holder: PathBuf,
    /// What the verifier asks
    #[arg(long, value_name = "REQUEST")]
    request: PathBuf,
    /// What the box answered to the verifier
    #[arg(long, value_name = "OFFER")]
    offer: PathBuf,
    #[command(flatten)]
    schema: SchemaArguments,
    /// Tenant that may bring it; the verifier itself by default
    #[arg(long, value_name = "TENANT")]
    sender: Option<String>,
    /// How often it may be used after the presentation
    #[arg(long, value_name = "N")]
    uses: u16,
    /// The first second of Unix time at which it is not good any more
    #[arg(long, value_name = "SECONDS")]
    expiry: u64,
    /// What the verifier wants to see in it
    #[arg(long, value_name = "WORD")]
    challenge: Option<Word>,
    /// The number of the presentation in its scope, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    index: u16,
    /// Where to write the grant, a new file
    #[arg(short, long, value_name = "GRANT")]
    output: PathBuf,
}

/// All that a presentation is made of
#[derive(clap::Args)]
struct OpeningArguments {
    /// The holder's secret
    #[arg(long, value_name = "SECRET")]
    holder: PathBuf,
    /// The unit
    #[arg(long, value_name = "UNIT")]
    unit: PathBuf,
    /// The blinding of its subject
    #[arg(long, value_name = "BLINDING")]
    blinding: PathBuf,
    /// The list of accepted issuers
    #[arg(long, value_name = "ISSUERS")]
    issuers: PathBuf,
    /// The list of revoked units; none by default
    #[arg(long, value_name = "REVOKED")]
    revoked: Option<PathBuf>,
    /// What the verifier asks
    #[arg(long, value_name = "REQUEST")]
    request: PathBuf,
    /// What the holder has granted
    #[arg(long, value_name = "GRANT")]
    grant: PathBuf,
    #[command(flatten)]
    schema: SchemaArguments,
}

/// Write the witness of a presentation, for another prover than this one; at home
///
/// Who has this file knows the holder's secret.
#[derive(clap::Args)]
struct WitnessArguments {
    #[command(flatten)]
    opening: OpeningArguments,
    /// Where to write the witness, a new file
    #[arg(short, long, value_name = "WTNS")]
    output: PathBuf,
}

/// Prove a presentation: by a box, in the tenant's scenario, or at home
///
/// The box sees all of it, the holder's secret and every claim. Who minds says --home where the box would stand: the
/// same proof is made here, and nothing leaves the house but what is written.
#[derive(clap::Args)]
struct PresentArguments {
    /// Proving key of presentations (.zkey)
    #[arg(value_name = "ZKEY")]
    zkey: PathBuf,
    /// Where to write the proof
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    /// Where to write the public inputs
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,
    #[command(flatten)]
    opening: OpeningArguments,
    // Before what it looks at: clap takes out of the words what it has read.
    #[command(flatten, next_help_heading = "By a box")]
    connection: Unless,
    /// When the proof is needed of the box, in milliseconds from now
    #[arg(long, value_name = "MS", conflicts_with = "home")]
    deadline_ms: Option<u64>,
    /// Prove here, as caldera prove does
    #[arg(long, help_heading = "At home")]
    home: bool,
    #[command(flatten, next_help_heading = "At home")]
    how: prove::How,
}

/// Have a box verify a presentation and record it
#[derive(clap::Args)]
struct VerifyArguments {
    /// The grant
    #[arg(value_name = "GRANT")]
    grant: PathBuf,
    /// Public inputs (public.json)
    #[arg(value_name = "PUBLIC")]
    public: PathBuf,
    /// Proof (proof.json)
    #[arg(value_name = "PROOF")]
    proof: PathBuf,
    #[command(flatten)]
    connection: Connection,
}

/// Reveal the link that consents to one more use; at home
#[derive(clap::Args)]
struct LinkArguments {
    /// The grant
    #[arg(value_name = "GRANT")]
    grant: PathBuf,
    /// The holder's secret
    #[arg(long, value_name = "SECRET")]
    holder: PathBuf,
    /// Which use, from 1
    #[arg(long = "use", value_name = "N")]
    number: u16,
}

/// Use a recorded presentation once more
#[derive(clap::Args)]
struct ReuseArguments {
    /// The presentation: the digest of its grant
    #[arg(value_name = "WORD")]
    grant: Word,
    /// The link that the holder has revealed
    #[arg(long, value_name = "LINK")]
    link: Link,
    #[command(flatten)]
    connection: Connection,
}

/// Publish the root of a list of revoked units (for the operator), or take back a request of the tenant
///
/// Without a box the root is shown.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["revoked", "request"]))]
struct RevokeArguments {
    // Before what it looks at: clap takes out of the words what it has read.
    #[command(flatten)]
    connection: Perhaps,
    /// The list: [{"issuer": PLACE, "nonce": N}, ..]
    #[arg(value_name = "REVOKED")]
    revoked: Option<PathBuf>,
    /// The request
    #[arg(long, value_name = "WORD")]
    request: Option<Word>,
}

/// Show where a box's registry stands
#[derive(clap::Args)]
struct GetArguments {
    /// A presentation of the tenant's
    #[arg(long, value_name = "WORD")]
    grant: Option<Word>,
    /// A request of the tenant's
    #[arg(long, value_name = "WORD")]
    request: Option<Word>,
    #[command(flatten)]
    connection: Connection,
}

/// Write the circuit of presentations, for a ceremony or a development key
#[derive(clap::Args)]
struct CircuitArguments {
    /// Where to write the circuit
    #[arg(short, long, value_name = "R1CS")]
    output: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    match &arguments.command {
        Command::Keygen(it) => keygen(it),
        Command::Subject(it) => subject(it),
        Command::Issue(it) => issue(it),
        Command::Issuers(it) => issuers(it),
        Command::Request(it) => request(it),
        Command::Grant(it) => grant(it),
        Command::Witness(it) => {
            let (opening, _) = open(&it.opening)?;
            write_secret(&it.output, &witness_bytes(&witness(&opening))?)?;
            wrote(&it.output)
        }
        Command::Present(it) => present(it),
        Command::Verify(it) => verify(it),
        Command::Link(it) => link(it),
        Command::Reuse(it) => {
            let (grant, link) = (it.grant, it.link);
            let client = it.connection.client()?;
            recorded(&client.call(Method::StateReuse, &Reuse { grant, link })?)
        }
        Command::Revoke(it) => revoke(it),
        Command::Get(it) => {
            let (grant, request) = (it.grant, it.request);
            let client = it.connection.client()?;
            shown(&client.call(Method::StateGet, &StateQuery { grant, request })?)
        }
        Command::Circuit(it) => {
            let mut outputs = Outputs::default();
            outputs.add(&it.output, |out| Ok(out.write_all(circuit())?))?;
            outputs.commit()?;
            wrote(&it.output)
        }
    }
}

fn keygen(arguments: &KeygenArguments) -> anyhow::Result<Report> {
    let path = &arguments.output;
    match arguments.role {
        Role::Holder => {
            let secret = HolderSecret::random()?;
            write_hex(path, &secret.to_bytes())?;
            wrote(path)
        }
        Role::Issuer => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut *seed).context("no randomness from the operating system")?;
            write_hex(path, &seed)?;
            let key = PointFile::new(&IssuerSecret::from_seed(&seed).key().point());
            printed(&key)
        }
    }
}

fn subject(arguments: &SubjectArguments) -> anyhow::Result<Report> {
    let holder = holder(&arguments.holder)?;
    // A blinding is drawn as a secret is.
    let blinding = HolderSecret::random()?.to_bytes();
    let drawn = little_endian(&blinding);
    write_hex(&arguments.output, &blinding)?;
    let subject = word(&holder.subject(element("blinding", &drawn)?));
    printed(&json!({ "subject": subject }))
}

fn issue(arguments: &IssueArguments) -> anyhow::Result<Report> {
    let schemas = schemas(&arguments.schema)?;
    let schema = schemas.find(&arguments.schema_name)?;
    let named: BTreeMap<_, _> = arguments.claims.iter().cloned().collect();
    ensure!(
        named.len() == arguments.claims.len(),
        "--claim: a claim is given twice"
    );
    let content = UnitContent {
        schema: schema.element(),
        subject: element("subject", &arguments.subject)?,
        claims: caldera_units::claims(schema, &named)?,
        valid_until: arguments.valid_until,
        nonce: arguments.nonce,
    };
    let seed = read_hex(&arguments.issuer)?;
    let unit = content.issue(&IssuerSecret::from_seed(&seed))?;
    let text = serde_json::to_vec_pretty(&UnitFile::new(&unit, schema))?;
    write_secret(&arguments.output, &text)?;
    wrote(&arguments.output)
}

fn issuers(arguments: &IssuersArguments) -> anyhow::Result<Report> {
    let list: Vec<IssuerFile> = read(&arguments.issuers)?;
    let issuers_root = word(&issuer_tree(&list)?.root());
    match &arguments.connection.0 {
        None => printed(&json!({ "issuersRoot": issuers_root })),
        Some(connection) => {
            let publish = PublishIssuers { issuers_root };
            shown(&connection.client()?.call(Method::StateIssue, &publish)?)
        }
    }
}

fn request(arguments: &RequestArguments) -> anyhow::Result<Report> {
    let open = OpenRequest {
        request: read(&arguments.request)?,
        closes: arguments.closes,
    };
    let client = arguments.connection.client()?;
    let offer: StateInfo = client.call(Method::StateGrant, &open)?;
    if let Some(path) = &arguments.output {
        let text = serde_json::to_vec_pretty(&offer)?;
        let mut outputs = Outputs::default();
        outputs.add(path, |out| Ok(out.write_all(&text)?))?;
        outputs.commit()?;
    }
    shown(&offer)
}

fn grant(arguments: &GrantArguments) -> anyhow::Result<Report> {
    let offer: StateInfo = read(&arguments.offer)?;
    let (Some(verifier), Some(pinned)) = (offer.address, offer.request) else {
        bail!("the offer names no verifier or no request");
    };
    // The holder grants what was read here, not what a box says that it is.
    let terms: RequestTerms = read(&arguments.request)?;
    let schemas = schemas(&arguments.schema)?;
    let asked = caldera_units::request(&terms, &verifier, &schemas)?;
    let request = word(&asked.element()?);
    ensure!(
        request == pinned.request,
        "the offer is for request {}, the file is request {request}",
        pinned.request
    );
    let holder = holder(&arguments.holder)?;
    let mut salt = Word([0; 32]);
    getrandom::fill(&mut salt.0).context("no randomness from the operating system")?;
    let sender = arguments.sender.as_deref().map(address);
    let grant = GrantTerms {
        verifier,
        sender: sender.unwrap_or(verifier),
        request,
        tip: Link(tip(&seed(&holder, &salt.0), arguments.uses)),
        uses: arguments.uses,
        expiry: arguments.expiry,
        challenge: arguments.challenge.unwrap_or(Word([0; 32])),
    };
    let file = GrantFile {
        domain: offer.domain,
        grant,
        salt,
        index: arguments.index,
    };
    let nullifier = holder.nullifier(asked.scope, arguments.index);
    let digest = word(&caldera_units::grant(&grant, &offer.domain)?.element(nullifier)?);
    write_secret(&arguments.output, &serde_json::to_vec_pretty(&file)?)?;
    printed(&json!({ "grant": digest, "terms": grant }))
}

/// The opening of a presentation, if every rule of its statement holds.
fn open(arguments: &OpeningArguments) -> anyhow::Result<(Opening, GrantFile)> {
    let schemas = schemas(&arguments.schema)?;
    let secret = holder(&arguments.holder)?;
    let blinding = read_hex(&arguments.blinding)?;
    let blinding = little_endian(&blinding);
    let unit: UnitFile = read(&arguments.unit)?;
    let unit = unit.unit(&schemas)?;
    let issuers: Vec<IssuerFile> = read(&arguments.issuers)?;
    let revoked: Vec<RevokedFile> = match &arguments.revoked {
        Some(path) => read(path)?,
        None => Vec::new(),
    };
    let file: GrantFile = read(&arguments.grant)?;
    let terms: RequestTerms = read(&arguments.request)?;
    let request = caldera_units::request(&terms, &file.grant.verifier, &schemas)?;
    let grant: Grant = caldera_units::grant(&file.grant, &file.domain)?;
    let opening = Presentation {
        secret: &secret,
        // Not what was read: it may be another secret, given by mistake.
        blinding: element("blinding", &blinding)
            .map_err(|_| Malformed("blinding: expected a number below the modulus".into()))?,
        unit: &unit,
        issuers: &issuer_tree(&issuers)?,
        revoked: &revocation_tree(&revoked)?,
        request: &request,
        grant: &grant,
        index: file.index,
    }
    .open()?;
    Ok((opening, file))
}

fn present(arguments: &PresentArguments) -> anyhow::Result<Report> {
    let Some(connection) = &arguments.connection.0 else {
        let paths = prove::Paths {
            zkey: &arguments.zkey,
            proof: &arguments.proof,
            public: &arguments.public,
        };
        return prove::prove(&paths, &arguments.how, "the presentation", || {
            let (opening, _) = open(&arguments.opening)?;
            Ok(witness(&opening))
        });
    };
    for path in [&arguments.proof, &arguments.public] {
        Outputs::check(path)?;
    }
    let (opening, file) = open(&arguments.opening)?;
    let client = connection.client()?;
    let info = service::ensure_circuit(&client, &arguments.zkey, Registration::default())?;
    let submission = Present {
        circuit: info.circuit,
        grant: file.grant,
        opening: WitnessData::new(opening.to_bytes().to_vec()),
        witness: None,
        deadline_ms: arguments.deadline_ms,
        idempotency_key: None,
    };
    let status: JobStatus = client.call(Method::StatePresent, &submission)?;
    let result = service::wait(&client, &status)?;
    service::write_result(&result, info.curve, &arguments.proof, &arguments.public)?;
    let text = format!("job {} is proved\n", result.job);
    Ok(Report::new(text, serde_json::to_value(&result)?))
}

fn verify(arguments: &VerifyArguments) -> anyhow::Result<Report> {
    let file: GrantFile = read(&arguments.grant)?;
    let presentation = VerifyPresentation {
        proof: read(&arguments.proof)?,
        public_inputs: read(&arguments.public)?,
        grant: file.grant,
    };
    let client: Client = arguments.connection.client()?;
    recorded(&client.call(Method::StateVerify, &presentation)?)
}

fn link(arguments: &LinkArguments) -> anyhow::Result<Report> {
    let file: GrantFile = read(&arguments.grant)?;
    let (uses, number) = (file.grant.uses, arguments.number);
    ensure!(
        (1..=uses).contains(&number),
        "--use: expected 1 to {uses}, got {number}"
    );
    let seed = seed(&holder(&arguments.holder)?, &file.salt.0);
    ensure!(
        tip(&seed, uses) == file.grant.tip.0,
        "the grant is of another secret"
    );
    let link = Link(tip(&seed, uses - number));
    printed(&json!({ "link": link }))
}

fn revoke(arguments: &RevokeArguments) -> anyhow::Result<Report> {
    let revocation_root = match &arguments.revoked {
        None => None,
        Some(path) => {
            let list: Vec<RevokedFile> = read(path)?;
            Some(word(&revocation_tree(&list)?.root()))
        }
    };
    let request = arguments.request;
    match &arguments.connection.0 {
        None => printed(&json!({ "revocationRoot": revocation_root })),
        Some(connection) => {
            let revoke = Revoke {
                revocation_root,
                request,
            };
            shown(&connection.client()?.call(Method::StateRevoke, &revoke)?)
        }
    }
}

/// A box's answer, as lines.
fn shown(info: &StateInfo) -> anyhow::Result<Report> {
    printed(info)
}

fn recorded(info: &PresentationInfo) -> anyhow::Result<Report> {
    let text = format!(
        "grant {}: {} uses left, good before {}\n",
        info.grant, info.remaining, info.expiry
    );
    Ok(Report::new(text, serde_json::to_value(info)?))
}

/// Fields as lines, the inner ones by their whole names.
fn printed(it: &impl Serialize) -> anyhow::Result<Report> {
    fn lines(name: &str, value: &Value, text: &mut String) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    let dot = if name.is_empty() { "" } else { "." };
                    lines(&format!("{name}{dot}{key}"), value, text);
                }
            }
            Value::String(value) => *text += &format!("{name} {value}\n"),
            value => *text += &format!("{name} {value}\n"),
        }
    }
    let json = serde_json::to_value(it)?;
    let mut text = String::new();
    lines("", &json, &mut text);
    Ok(Report::new(text, json))
}

fn wrote(path: &Path) -> anyhow::Result<Report> {
    let text = format!("wrote {}\n", path.display());
    Ok(Report::new(text, json!({ "output": path })))
}

fn schemas(arguments: &SchemaArguments) -> anyhow::Result<Schemas> {
    let mut schemas = Schemas::standard();
    for path in &arguments.files {
        let named = || path.display().to_string();
        let schema = Schema::parse(&files::read(path)?).with_context(named)?;
        schemas.add(schema).with_context(named)?;
    }
    Ok(schemas)
}

fn holder(path: &Path) -> anyhow::Result<HolderSecret> {
    let bytes = read_hex(path)?;
    Ok(HolderSecret::from_bytes(&bytes)?)
}

fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Malformed(error.to_string()))
        .with_context(|| path.display().to_string())
}

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(String);

/// 32 bytes in 64 hexadecimal digits.
fn read_hex(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let text = files::read(path)?;
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), &mut *secret)
        .map_err(|_| Malformed("expected 64 hexadecimal digits".into()))
        .with_context(|| path.display().to_string())?;
    Ok(secret)
}

fn write_hex(path: &Path, bytes: &[u8; 32]) -> anyhow::Result<()> {
    let mut digits = Zeroizing::new([0; 65]);
    hex::encode_to_slice(bytes, &mut digits[..64]).expect("two digits a byte");
    digits[64] = b'\n';
    write_secret(path, &*digits)
}

/// Makes a file that its owner alone can read. One that is there stays as it is: a secret that is written over is lost.
fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .with_context(|| format!("cannot write {}", path.display()))
}

fn witness_bytes(witness: &Wtns) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(WITNESS_BYTES));
    witness.write(&mut *bytes)?;
    Ok(bytes)
}

/// A field element as secrets are kept, lowest byte first, as a number.
fn little_endian(bytes: &[u8; 32]) -> Word {
    let mut word = Word(*bytes);
    word.0.reverse();
    word
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A witness of presentations and its headers, with room to spare: growing would leave copies behind.
const WITNESS_BYTES: usize = 1 << 19;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        present: PresentArguments,
    }

    #[derive(Parser)]
    struct Words {
        #[command(subcommand)]
        command: Command,
    }

    /// A root is shown at home and published by a box, which is named whole or not at all.
    #[test]
    fn a_root_is_shown_without_a_box() {
        let named = |words: &str| {
            let words = "state".split(' ').chain(words.split_whitespace());
            match Words::try_parse_from(words).map(|words| words.command) {
                Ok(Command::Issuers(it)) => Ok(it.connection.0.is_some()),
                Ok(Command::Revoke(it)) => Ok(it.connection.0.is_some()),
                Ok(_) => panic!("another command"),
                Err(error) => Err(error.kind()),
            }
        };
        let request = format!("revoke --request 0x{}", "0".repeat(64));
        let missing = clap::error::ErrorKind::MissingRequiredArgument;
        for command in ["issuers list", "revoke list"] {
            assert_eq!(named(command), Ok(false), "{command}");
        }
        for command in ["issuers list", "revoke list", &request] {
            let whole = format!("{command} --tenant operator --secret-file secret");
            assert_eq!(named(&whole), Ok(true), "{whole}");
            for part in [
                "--tenant operator",
                "--secret-file secret",
                "--url http://127.0.0.1:1",
                "--cacert authority.pem",
            ] {
                let part = format!("{command} {part}");
                assert_eq!(named(&part), Err(missing), "{part}");
            }
        }
        // It is in a box's registry, and nowhere else.
        assert_eq!(named(&request), Err(missing));
    }

    /// Nobody's secrets go to a box because a word was forgotten.
    #[test]
    fn a_presentation_is_proved_where_it_was_said() {
        let parse = |more: &[&str]| {
            let words = "present zkey proof public --holder h --unit u --blinding b --issuers i \
                         --request r --grant g";
            let words = words.split_whitespace().chain(more.iter().copied());
            Line::try_parse_from(words).map(|line| line.present)
        };
        let at_box = ["--tenant", "t", "--secret-file", "s"];
        let home = parse(&["--home"]).expect("at home");
        assert!(home.home && home.connection.0.is_none());
        let by_box = parse(&at_box).expect("by a box");
        assert!(!by_box.home && by_box.connection.0.is_some());
        let mut both = at_box.to_vec();
        both.push("--home");
        for wrong in [
            &[][..],
            &both,
            &["--tenant", "t"],
            &["--home", "--url", "http://127.0.0.1:1"],
            &["--home", "--deadline-ms", "5"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
