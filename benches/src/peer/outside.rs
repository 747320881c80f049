//! Provers that are programs of their own: they are run, never linked, so their licences stay
//! theirs. Each is told the files of a key and of a witness and where its proof shall go.
//!
//! | name | program | order of arguments |
//! |---|---|---|
//! | rapidsnark | its `prover` | key, witness, proof, public |
//! | snarkjs | its `snarkjs` | `groth16 prove` and the same |
//! | snarkrs | its `snarkrs` | the same as snarkjs, on its CPU backend |

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, ensure};
use caldera_kernels::CurveId;
use clap::ValueEnum;
use sha2::{Digest, Sha256};

/// A program whose command line we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Program {
    /// The one that presentations are measured beside.
    Rapidsnark,
    Snarkjs,
    Snarkrs,
}

/// One of them, where it lies on this machine: `NAME=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outside {
    program: Program,
    path: PathBuf,
}

impl FromStr for Outside {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Outside> {
        let (name, path) = text
            .split_once('=')
            .with_context(|| format!("expected NAME=PATH, got {text}"))?;
        let program = Program::from_str(name, false).map_err(|_| {
            let known: Vec<&str> = Program::value_variants().iter().map(|p| p.name()).collect();
            anyhow!("expected one of {}, got {name}", known.join(", "))
        })?;
        Ok(Outside {
            program,
            path: PathBuf::from(path),
        })
    }
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Rapidsnark => "rapidsnark",
            Program::Snarkjs => "snarkjs",
            Program::Snarkrs => "snarkrs",
        }
    }
}

impl Outside {
    /// Its name in tables and records.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Whether it is this program.
    pub(crate) fn is(&self, program: Program) -> bool {
        self.program == program
    }

    /// Whether it has a curve.
    pub(crate) fn has(&self, curve: CurveId) -> bool {
        match self.program {
            Program::Rapidsnark | Program::Snarkrs => curve == CurveId::Bn254,
            Program::Snarkjs => true,
        }
    }

    /// What stands in a record beside its figures: which program it was. Its build is its own
    /// affair, so the digest of the file says which one it was.
    pub(crate) fn build(&self) -> Result<String> {
        let bytes = std::fs::read(&self.path)
            .with_context(|| format!("reading {}", self.path.display()))?;
        let digest = Sha256::digest(&bytes);
        let digest: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        let version = self.version().unwrap_or_else(|| "unknown".to_owned());
        Ok(format!(
            "{} as an outside program, version {version}, sha256 {digest}",
            self.name()
        ))
    }

    /// Its command for one proof.
    pub(crate) fn proving(&self, files: &Files) -> Run {
        let before: &[&str] = match self.program {
            Program::Rapidsnark => &[],
            Program::Snarkjs | Program::Snarkrs => &["groth16", "prove"],
        };
        let after: &[&str] = match self.program {
            Program::Rapidsnark | Program::Snarkjs => &[],
            Program::Snarkrs => &["--backend=cpu"],
        };
        Run {
            path: self.path.clone(),
            arguments: before
                .iter()
                .map(OsString::from)
                .chain(files.in_order())
                .chain(after.iter().map(OsString::from))
                .collect(),
        }
    }

    /// The first word of what it says to `--version`, or in its greeting, that has a number in
    /// it. rapidsnark does not say.
    fn version(&self) -> Option<String> {
        let output = Command::new(&self.path)
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines()
            .next()?
            .split_whitespace()
            .find(|word| word.contains('.') && word.contains(|c: char| c.is_ascii_digit()))
            // "snarkjs@0.7.6"
            .map(|word| word.rsplit('@').next().unwrap_or(word).to_owned())
    }
}

/// The files of one proof.
#[derive(Debug, Clone)]
pub(crate) struct Files {
    pub(crate) zkey: PathBuf,
    pub(crate) witness: PathBuf,
    pub(crate) proof: PathBuf,
    pub(crate) public: PathBuf,
}

impl Files {
    /// As all of them have it.
    pub(crate) fn in_order(&self) -> [OsString; 4] {
        [&self.zkey, &self.witness, &self.proof, &self.public].map(|path| path.into())
    }
}

/// A program with its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
}

impl Run {
    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self) -> Result<()> {
        let name = || self.path.display().to_string();
        let output = Command::new(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .with_context(name)?;
        ensure!(
            output.status.success(),
            "{} ended with {}: {}",
            name(),
            output.status,
            last_line(&output.stderr)
        );
        Ok(())
    }
}

fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().last().unwrap_or("no message").to_owned()
}

/// The text of a file that a program has written.
pub(crate) fn written(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("it wrote no {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_with_their_paths() {
        let outside: Outside = "rapidsnark=/opt/a=b/prover".parse().expect("well-formed");
        assert_eq!(outside.name(), "rapidsnark");
        assert_eq!(outside.path, Path::new("/opt/a=b/prover"));
        assert!(outside.has(CurveId::Bn254));
        assert!(!outside.has(CurveId::Bls12_381));
        for (text, expected) in [
            ("prover", "expected NAME=PATH, got prover"),
            (
                "bellman=x",
                "expected one of rapidsnark, snarkjs, snarkrs, got bellman",
            ),
        ] {
            let error = text.parse::<Outside>().expect_err("malformed");
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn arguments_are_in_each_ones_order() {
        let files = Files {
            zkey: "k".into(),
            witness: "w".into(),
            proof: "p".into(),
            public: "i".into(),
        };
        let arguments = |text: &str| {
            let outside: Outside = text.parse().expect("well-formed");
            let arguments = outside.proving(&files).arguments;
            arguments.join(" ".as_ref()).into_string().expect("ASCII")
        };
        assert_eq!(arguments("rapidsnark=x"), "k w p i");
        assert_eq!(arguments("snarkjs=x"), "groth16 prove k w p i");
        assert_eq!(
            arguments("snarkrs=x"),
            "groth16 prove k w p i --backend=cpu"
        );
    }

    #[test]
    fn a_program_that_fails_is_an_error() {
        let run = |path: &str| Run {
            path: path.into(),
            arguments: vec![],
        };
        assert!(run("/bin/true").run().is_ok());
        let error = run("/bin/false").run().expect_err("exit code 1");
        assert!(error.to_string().contains("exit status: 1"), "{error}");
        assert!(run("/no/such/program").run().is_err());
    }
}
