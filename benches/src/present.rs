//! A presentation of a trusted state unit, whole: from what its holder has in hand to a proof that is written.
//!
//! Ours is a process that reads an opening, fills in the witness natively, proves, checks the proof and writes it.
//! The other is what a holder with circom's tools does: node runs the WebAssembly witness program that circom has made
//! of the same statement (`deploy/tests/interop/circuits/presentation.circom`, built of circomlib's templates), and
//! rapidsnark proves. Each has its own circuit and a development key for it; both make a proof of the same five public
//! values, which is verified outside of the time.
//!
//! rapidsnark with a witness that is there already takes part too: what is left of the ratio if circom's
//! witness, and the start of node, cost nothing at all.
//!
//! The other side needs node, the packages of `deploy/tests/interop` and `--peer rapidsnark=PATH`. Where one of
//! them is missing ours is measured alone, and what is missing stands where the verdict would.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ark_bn254::Fr;
use bytes::Bytes;
use caldera_prover::format::{R1cs, Zkey};
use caldera_prover::groth16::setup_r1cs;
use caldera_prover::units::{
    AcceptedIssuer, Bounds, Grant, HolderSecret, IssuerSecret, IssuerTree, Opening, Presentation,
    Request, RevocationTree, ScopeName, UnitContent, ValueSet, circuit, domain_native,
    keccak_element, seed, tip,
};

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender, Spread};
use crate::peer::outside::{Files, Outside, Program, Run};
use crate::process::{Judge, on_processors, ourselves};
use crate::record::{Case, Unit};
use crate::table::table;

/// Written down where the statement in circom is.
#[path = "../../deploy/tests/interop/circuits/signals.rs"]
mod signals;

/// What came of it.
pub(crate) struct Presented {
    /// Constraints and domain of each circuit.
    circuits: Vec<(&'static str, usize, u32)>,
    /// Ours over the other's, by the number of threads.
    ratios: Vec<Compared>,
    /// Why there is no other.
    missing: Option<String>,
}

struct Compared {
    threads: usize,
    against: String,
    cpu: Spread,
    wall: Spread,
}

/// A circuit with its key, as files.
struct Side {
    constraints: usize,
    domain: u32,
    zkey: PathBuf,
    judge: Judge,
}

/// Measures a presentation beside circom and rapidsnark, if they are there.
pub(crate) fn present(bench: &mut Bench, peers: &[Outside]) -> Result<Presented> {
    let folder = tempfile::tempdir().context("a folder for proofs")?;
    let folder = folder.path();
    let opening = opening()?;
    let cores = bench.origin.cores;
    bench.say("making a key of presentations");
    let ours = Side::new(folder, "ours", circuit().clone(), &opening, cores)?;
    let given = folder.join("opening");
    std::fs::write(&given, &*opening.to_bytes()).context("writing the opening")?;
    let rapidsnark = peers.iter().find(|peer| peer.is(Program::Rapidsnark));
    let (other, missing) = match circom(bench, folder, &opening, rapidsnark)? {
        Ok(other) => (Some(other), None),
        Err(missing) => (None, Some(missing)),
    };
    if let Some(missing) = &missing {
        eprintln!("caldera-bench: present: not run beside circom and rapidsnark: {missing}");
    }

    let mut presented = Presented {
        circuits: vec![("caldera", ours.constraints, ours.domain)],
        ratios: Vec::new(),
        missing,
    };
    if let Some(other) = &other {
        let side = &other.side;
        presented
            .circuits
            .push(("circom", side.constraints, side.domain));
    }
    for threads in bench.threads.clone() {
        let case = Case {
            bench: "present",
            case: bench.named("a presentation, whole".to_owned()),
            size: ours.constraints as u64,
            threads,
            unit: Unit::Milliseconds,
            inside: Some(INSIDE),
        };
        let files = files(folder, OURS, &ours.zkey, &given);
        let run = ourselves(&files, threads, bench.vectors, true)?;
        let mut contenders = vec![Contender::ours(
            OURS,
            run,
            move |run: &mut Run| on_processors(threads, || run.run()),
            |_| ours.judge.judge(&files),
        )];
        if let Some(other) = &other {
            contenders.push(other.whole(folder, threads));
            contenders.push(other.proof_alone(folder, threads));
        }
        let runs = bench.case(&case, contenders)?;
        for run in &runs[1..] {
            presented.ratios.push(Compared {
                threads,
                against: run.name.clone(),
                cpu: runs[0].cpu_ratio(run),
                wall: runs[0].wall_ratio(run),
            });
        }
    }
    Ok(presented)
}

/// The verdicts as tables.
pub(crate) fn of_presented(presented: &Presented) -> String {
    let circuits: Vec<_> = presented
        .circuits
        .iter()
        .map(|(name, constraints, domain)| {
            let log2 = domain.ilog2();
            vec![
                (*name).to_owned(),
                constraints.to_string(),
                format!("2^{log2}"),
            ]
        })
        .collect();
    let circuits = table(&["circuit", "constraints", "domain"], &circuits);
    if let Some(missing) = &presented.missing {
        return format!(
            "A presentation, whole, against circom and rapidsnark: not run: {missing}\n{circuits}"
        );
    }
    let shown =
        |ratio: &Spread| format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.low, ratio.high);
    let rows = presented.ratios.iter().map(|it| {
        let verdict = match it.cpu.median <= BAR && it.wall.median <= BAR {
            _ if it.against != WHOLE => "-",
            true => "met",
            false => "not met",
        };
        vec![
            it.threads.to_string(),
            it.against.clone(),
            shown(&it.cpu),
            shown(&it.wall),
            verdict.to_owned(),
        ]
    });
    let head = ["threads", "against", "CPU", "wall", "0.5"];
    format!(
        "A presentation, whole: ours over theirs\n{}\n{circuits}",
        table(&head, &rows.collect::<Vec<_>>())
    )
}

impl Side {
    /// A development key for a circuit, written to the folder.
    fn new(
        folder: &Path,
        name: &str,
        circuit: Bytes,
        opening: &Opening,
        threads: usize,
    ) -> Result<Side> {
        let r1cs = R1cs::parse(circuit).with_context(|| format!("the circuit of {name}"))?;
        let mut key = Vec::new();
        setup_r1cs(&r1cs, &[1; 32], threads, &mut key, &mut |_| ()).context("a key")?;
        let zkey = folder.join(format!("{name}.zkey"));
        std::fs::write(&zkey, &key).context("writing the key")?;
        let key = Zkey::parse(Bytes::from(key)).context("the key")?;
        Ok(Side {
            constraints: r1cs.constraints().count(),
            domain: key.header().domain,
            zkey,
            judge: Judge::new(&key, opening.statement.public_inputs())?,
        })
    }
}

/// The statement in circom, and who proves it.
struct Circom {
    side: Side,
    build: String,
    rapidsnark: Outside,
    /// What circom has made, what it is given, and a witness that is there already.
    program: PathBuf,
    inputs: PathBuf,
    witness: PathBuf,
}

/// Compiles the statement in circom and makes a key; or what is missing for that.
fn circom(
    bench: &Bench,
    folder: &Path,
    opening: &Opening,
    rapidsnark: Option<&Outside>,
) -> Result<Result<Circom, String>> {
    let Some(rapidsnark) = rapidsnark else {
        return Ok(Err("no --peer rapidsnark=PATH".to_owned()));
    };
    let interop = Path::new(INTEROP);
    let compiler = interop.join("node_modules/circom2/cli.js");
    let circomlib = interop.join("node_modules/circomlib/circuits");
    if !compiler.is_file() || !circomlib.is_dir() {
        let missing = "the packages of deploy/tests/interop are not installed (npm ci)";
        return Ok(Err(missing.to_owned()));
    }
    let node = Command::new("node").arg("--version").output();
    let Ok(node) = node else {
        return Ok(Err("node is not installed".to_owned()));
    };
    let node = String::from_utf8_lossy(&node.stdout).trim().to_owned();

    bench.say("compiling the statement in circom, and making its key");
    // The compiler sees its working folder alone.
    copied(&circomlib, &folder.join("circomlib"))?;
    let source = "presentation.circom";
    std::fs::copy(interop.join("circuits").join(source), folder.join(source)).context(source)?;
    let output = Command::new("node")
        .arg(&compiler)
        .args([source, "--wasm", "--r1cs", "--O2"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("circom2")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "circom2: {}", said.trim());
    let read = |name: &str| std::fs::read(folder.join(name)).with_context(|| name.to_owned());
    let r1cs = Bytes::from(read("presentation.r1cs")?);
    let side = Side::new(folder, "circom", r1cs, opening, bench.origin.cores)?;
    let inputs = folder.join("inputs.json");
    std::fs::write(&inputs, signals::signals(opening).to_string()).context("writing inputs")?;
    let package: serde_json::Value = serde_json::from_slice(
        &std::fs::read(interop.join("node_modules/circom2/package.json")).context("circom2")?,
    )?;
    let version = package["version"].as_str().unwrap_or("unknown");
    let circom = Circom {
        side,
        build: format!(
            "circom2 {version} --O2, its witness program in node {node}; {}",
            rapidsnark.build()?
        ),
        rapidsnark: rapidsnark.clone(),
        program: folder.join("presentation_js"),
        inputs,
        witness: folder.join("there.wtns"),
    };
    circom.witnessing(&circom.witness).run()?;
    Ok(Ok(circom))
}

impl Circom {
    /// The command that makes a witness.
    fn witnessing(&self, witness: &Path) -> Run {
        let program = |name: &str| self.program.join(name).into();
        Run {
            path: "node".into(),
            arguments: vec![
                program("generate_witness.js"),
                program("presentation.wasm"),
                self.inputs.clone().into(),
                witness.into(),
            ],
        }
    }

    fn whole<'a>(&'a self, folder: &Path, threads: usize) -> Contender<'a> {
        let witness = folder.join("circom.wtns");
        let files = files(folder, "circom", &self.side.zkey, &witness);
        Contender::peer(
            WHOLE,
            self.build.clone(),
            [self.witnessing(&witness), self.rapidsnark.proving(&files)],
            move |runs: &mut [Run; 2]| {
                on_processors(threads, || runs.iter().try_for_each(Run::run))
            },
            move |_| {
                std::fs::remove_file(&witness).context("it wrote no witness")?;
                self.side.judge.judge(&files)
            },
        )
    }

    fn proof_alone<'a>(&'a self, folder: &Path, threads: usize) -> Contender<'a> {
        let files = files(folder, "alone", &self.side.zkey, &self.witness);
        Contender::peer(
            "rapidsnark, witness there",
            self.build.clone(),
            self.rapidsnark.proving(&files),
            move |run: &mut Run| on_processors(threads, || run.run()),
            move |_| -> Result<Answer> { self.side.judge.judge(&files) },
        )
    }
}

/// The files of one contender.
fn files(folder: &Path, who: &str, zkey: &Path, witness: &Path) -> Files {
    Files {
        zkey: zkey.to_owned(),
        witness: witness.to_owned(),
        proof: folder.join(format!("{who}-proof.json")),
        public: folder.join(format!("{who}-public.json")),
    }
}

/// A presentation that asks for all that a request can: four bounds and a set.
fn opening() -> Result<Opening> {
    let secret = HolderSecret::from_bytes(&[7; 32])?;
    let blinding = Fr::from(123_456_789u64);
    let schema = keccak_element(b"example schema v1");
    let mut claims = [0; 16];
    claims[..5].copy_from_slice(&[756, 90_000, 2, 1_999, u64::MAX]);
    let content = UnitContent {
        schema,
        subject: secret.subject(blinding),
        claims,
        valid_until: 1_900_000_000,
        nonce: 1000,
    };
    let request = Request {
        schema,
        scope: ScopeName {
            scenario: ScopeName::part("retail"),
            verifier: ScopeName::part("shop"),
            purpose: ScopeName::part("instalment"),
            epoch: 1,
        }
        .element(),
        valid_through: 1_800_000_000,
        presentations: 3,
        bounds: [
            Bounds::at_least(1, 90_000),
            Bounds::at_most(2, 2),
            Bounds::between(3, 1_999, 2_001),
            Bounds::equal(4, u64::MAX),
        ],
        set: Some(ValueSet::new(0, &[40, 276, 756])?),
    };
    let keys: Vec<_> = (0..6)
        .map(|at| AcceptedIssuer {
            key: IssuerSecret::from_seed(&[at; 32]).key(),
            schema,
        })
        .collect();
    let grant = Grant {
        domain: domain_native(&[9; 32]),
        verifier: [0x11; 20],
        sender: [0x22; 20],
        request: request.element()?,
        tip: tip(&seed(&secret, &[1; 32]), 5),
        uses: 5,
        expiry: 1_850_000_000,
        challenge: [0; 32],
    };
    Ok(Presentation {
        secret: &secret,
        blinding,
        unit: &content.issue(&IssuerSecret::from_seed(&[3; 32]))?,
        issuers: &IssuerTree::new(&keys)?,
        revoked: &RevocationTree::new(&[(3, 999), (3, 1001), (1, 1000)])?,
        request: &request,
        grant: &grant,
        index: 2,
    }
    .open()?)
}

fn copied(from: &Path, to: &Path) -> Result<()> {
    let named = || from.display().to_string();
    std::fs::create_dir(to).with_context(named)?;
    for entry in std::fs::read_dir(from).with_context(named)? {
        let entry = entry.with_context(named)?;
        let target = to.join(entry.file_name());
        if entry.file_type().with_context(named)?.is_dir() {
            copied(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target).with_context(named)?;
        }
    }
    Ok(())
}

/// What is inside the time of each.
const INSIDE: &str = "a whole process or two: start, key from its file (ours mapped, not checked), inputs from their \
                      file, witness, proof, proof.json and public.json written; ours with its self-check";

/// The name of the other side.
const WHOLE: &str = "circom wasm and rapidsnark";
/// What the whole may cost, over the other side's.
const BAR: f64 = 0.5;

const INTEROP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/tests/interop");

#[cfg(test)]
mod tests {
    use super::*;

    /// The holder's side without any of the others: what the bench would have ours prove is a presentation.
    #[test]
    fn the_presentation_is_one_that_the_circuit_takes() {
        let opening = opening().expect("every rule holds");
        let bytes = opening.to_bytes();
        let again = Opening::from_bytes(&bytes).expect("an opening");
        assert_eq!(again.statement, opening.statement);
        let told = signals::signals(&opening);
        assert_eq!(told["grant"], opening.statement.grant.to_string());
    }

    #[test]
    fn what_is_missing_stands_where_the_verdict_would() {
        let presented = Presented {
            circuits: vec![("caldera", 14_131, 1 << 14)],
            ratios: Vec::new(),
            missing: Some("no --peer rapidsnark=PATH".to_owned()),
        };
        let text = of_presented(&presented);
        assert!(
            text.contains("not run: no --peer rapidsnark=PATH"),
            "{text}"
        );
        assert!(!text.contains("met"), "{text}");
    }
}
