//! `caldera inspect`: what a file is and what it says of itself.
//!
//! Any of the formats is recognised by its content, not by its name. Binary files are shown with
//! their table of sections. Values of a witness are never shown.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::format::{
    ContributionKind, DEVELOPMENT_SECTION, File, FormatError, R1cs, Wtns, Zkey, sections,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::table::{self, Table};
use crate::{Report, files};

/// Show what a file holds
///
/// Takes keys (.zkey), witnesses (.wtns), circuits (.r1cs), verification keys, proofs and public
/// inputs (JSON). Nothing secret is shown. Of a damaged file the exit code says what is wrong.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Report> {
    let bytes = files::read(&arguments.file)?;
    let named = || arguments.file.display().to_string();
    let mut facts = Facts::default();
    facts.add("bytes", bytes.len());
    facts.add("sha256", hex(&Sha256::digest(&bytes)));
    match File::of_magic(&bytes) {
        Some(file) => binary(file, bytes, &mut facts).with_context(named)?,
        None => text(&bytes, &mut facts).with_context(named)?,
    }
    Ok(facts.report())
}

fn binary(file: File, bytes: Bytes, facts: &mut Facts) -> anyhow::Result<()> {
    facts.add("format", file.to_string());
    let found = sections(file, &bytes)?;
    for section in &found {
        facts.section(
            section.kind,
            section_name(file, section.kind),
            section.offset,
            section.len,
        );
    }
    match file {
        File::Zkey => zkey(&Zkey::parse(bytes)?, facts),
        File::Wtns => {
            let witness = Wtns::parse(bytes)?;
            facts.add("curve", curve_name(witness.curve()));
            facts.add("elements", witness.len());
        }
        File::R1cs => {
            let circuit = R1cs::parse(bytes)?;
            facts.add("curve", curve_name(circuit.curve()));
            facts.add("wires", circuit.wires());
            facts.add("publicOutputs", circuit.public_outputs());
            facts.add("publicInputs", circuit.public_inputs());
            facts.add("privateInputs", circuit.private_inputs());
            facts.add("constraints", circuit.constraint_count());
        }
        File::VerificationKey | File::Proof | File::Public => {
            unreachable!("of_magic gives binary kinds only")
        }
    }
    Ok(())
}

fn zkey(key: &Zkey, facts: &mut Facts) {
    let header = key.header();
    facts.add("protocol", "groth16");
    facts.add("curve", curve_name(header.curve));
    facts.add("wires", header.wires);
    facts.add("publicInputs", header.public);
    facts.add("domain", header.domain);
    facts.add("coefficients", key.coefficient_count());
    facts.add("development", key.development().map(printable));
    let contributions = key.contributions().map_or(&[][..], |c| &c.list[..]);
    facts.add("contributions", contributions.len());
    for contribution in contributions {
        facts.contribution(
            match contribution.kind {
                ContributionKind::Contribution => "contribution",
                ContributionKind::Beacon => "beacon",
            },
            contribution.name.as_deref().map(printable),
        );
    }
}

fn text(bytes: &[u8], facts: &mut Facts) -> anyhow::Result<()> {
    // A peek at the shape decides which reader is asked; that reader then judges everything.
    match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Array(_)) => {
            facts.add("format", File::Public.to_string());
            // The file does not name its curve; r of BLS12-381 is the larger of the two.
            let public = PublicInputs::parse(bytes, CurveId::Bls12_381)?;
            facts.add("publicInputs", public.len());
            let below = PublicInputs::parse(bytes, CurveId::Bn254).is_ok();
            facts.add("fitsBn128", below);
        }
        Ok(Value::Object(object)) if object.contains_key("pi_a") => {
            facts.add("format", File::Proof.to_string());
            let proof = Proof::parse(bytes, None)?;
            facts.add("protocol", "groth16");
            facts.add("curve", curve_name(proof.curve));
        }
        Ok(Value::Object(object)) if object.contains_key("vk_alpha_1") => {
            facts.add("format", File::VerificationKey.to_string());
            let key = VerificationKey::parse(bytes)?;
            facts.add("protocol", "groth16");
            facts.add("curve", curve_name(key.curve));
            facts.add("publicInputs", key.public_count());
        }
        // Neither a magic nor a shape that is known: say so as the reader of keys would.
        _ => {
            return Err(FormatError::Magic {
                file: File::Zkey,
                expected: *b"zkey",
                got: bytes[..bytes.len().min(4)].to_vec(),
            }
            .into());
        }
    }
    Ok(())
}

/// What is known of a file, in the order in which it was found.
#[derive(Default)]
struct Facts {
    facts: Vec<(&'static str, Value)>,
    sections: Vec<(u32, &'static str, u64, u64)>,
    contributions: Vec<(&'static str, Option<String>)>,
}

impl Facts {
    fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    fn section(&mut self, kind: u32, name: &'static str, offset: u64, len: u64) {
        self.sections.push((kind, name, offset, len));
    }

    fn contribution(&mut self, kind: &'static str, name: Option<String>) {
        self.contributions.push((kind, name));
    }

    fn report(self) -> Report {
        // Writing to a String cannot fail.
        let mut text = String::new();
        let mut json = Map::new();
        let width = self.facts.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0);
        for (name, value) in self.facts {
            let shown = match &value {
                Value::String(text) => text.clone(),
                Value::Null => "no".to_owned(),
                other => other.to_string(),
            };
            let _ = writeln!(text, "{name:<width$}  {shown}");
            json.insert(name.to_owned(), value);
        }
        if !self.sections.is_empty() {
            let mut list = Vec::new();
            let mut sections = Table::new(&[">section", "holds", ">offset", ">bytes", ">"]);
            for (kind, name, offset, len) in self.sections {
                sections.row([
                    kind.to_string(),
                    name.to_owned(),
                    offset.to_string(),
                    len.to_string(),
                    table::bytes(len),
                ]);
                list.push(json!({"section": kind, "holds": name, "offset": offset, "bytes": len}));
            }
            json.insert("sections".to_owned(), list.into());
            let _ = write!(text, "\n{sections}");
        }
        if !self.contributions.is_empty() {
            let list: Vec<Value> = self
                .contributions
                .iter()
                .map(|(kind, name)| json!({ "kind": kind, "name": name }))
                .collect();
            json.insert("contributionList".to_owned(), list.into());
            let mut contributions = Table::new(&[">", "kind", "name"]);
            let count = self.contributions.len();
            for (index, (kind, name)) in self.contributions.into_iter().enumerate() {
                if index >= CONTRIBUTIONS_SHOWN && index + 1 < count {
                    continue;
                }
                contributions.row([
                    (index + 1).to_string(),
                    kind.to_owned(),
                    name.unwrap_or_default(),
                ]);
            }
            let _ = write!(text, "\n{contributions}");
            if count > CONTRIBUTIONS_SHOWN + 1 {
                let _ = writeln!(
                    text,
                    "  the first ones and the last; --json has all {count}"
                );
            }
        }
        Report::new(text, json.into())
    }
}

const fn curve_name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => "bn128",
        CurveId::Bls12_381 => "bls12381",
    }
}

const fn section_name(file: File, kind: u32) -> &'static str {
    match (file, kind) {
        (File::Zkey, 1) => "protocol",
        (File::Zkey, 2) => "header",
        (File::Zkey, 3) => "IC",
        (File::Zkey, 4) => "coefficients",
        (File::Zkey, 5) => "A",
        (File::Zkey, 6) => "B in G1",
        (File::Zkey, 7) => "B in G2",
        (File::Zkey, 8) => "C",
        (File::Zkey, 9) => "H",
        (File::Zkey, 10) => "contributions",
        (File::Zkey, DEVELOPMENT_SECTION) => "development mark",
        (File::Wtns | File::R1cs, 1) => "header",
        (File::Wtns, 2) => "elements",
        (File::R1cs, 2) => "constraints",
        (File::R1cs, 3) => "labels",
        (File::R1cs, 4) => "custom gates",
        (File::R1cs, 5) => "uses of custom gates",
        _ => "(unknown, skipped)",
    }
}

/// A stranger's text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A ceremony can have thousands of contributors, and the rest is to be seen beside them.
const CONTRIBUTIONS_SHOWN: usize = 3;
