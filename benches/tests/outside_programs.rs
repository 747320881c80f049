//! An outside program is measured beside us when its proofs hold, and is refused, with no line
//! kept, when they do not. The programs here are shell scripts that take rapidsnark's arguments;
//! the honest one lets `caldera-bench` itself prove.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::Zkey;
use caldera_prover::groth16::{Synthetic, setup_synthetic};
use serde_json::Value;
use tempfile::TempDir;

const BENCH: &str = env!("CARGO_BIN_EXE_caldera-bench");

/// A folder with a key and a witness.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> World {
        let world = World {
            folder: tempfile::tempdir().expect("a folder of our own"),
        };
        let circuit = Synthetic {
            curve: CurveId::Bn254,
            domain_log2: 5,
            dense: 0.5,
            seed: [7; 32],
        };
        let (mut zkey, mut wtns) = (Vec::new(), Vec::new());
        let witness = setup_synthetic(&circuit, 1, &mut zkey, &mut |_| ()).expect("a small key");
        Zkey::parse(Bytes::from(zkey.clone())).expect("our own key");
        witness.write(&mut wtns).expect("memory");
        fs::write(world.path("key.zkey"), zkey).expect("our folder");
        fs::write(world.path("witness.wtns"), wtns).expect("our folder");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, body: &str) -> PathBuf {
        let path = self.path("prover");
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).expect("our folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our file");
        path
    }

    /// Measures beside a program; its output and the lines that were kept.
    fn prove_beside(&self, program: &Path) -> (Output, Vec<Value>) {
        let results = self.path("results.jsonl");
        let output = Command::new(BENCH)
            .args(["prove", "--rounds", "1", "--seconds", "0", "--threads", "1"])
            .args(["--zkey".into(), self.path("key.zkey")])
            .args(["--witness".into(), self.path("witness.wtns")])
            .args(["--out".into(), results.clone()])
            .arg(format!("--peer=rapidsnark={}", program.display()))
            .output()
            .expect("the program under test");
        let text = fs::read_to_string(results).expect("results");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"));
        (output, lines.collect())
    }
}

fn processes(lines: &[Value]) -> Vec<&Value> {
    lines
        .iter()
        .filter(|line| line["bench"] == "process")
        .collect()
}

#[test]
fn a_program_whose_proofs_hold_has_a_line() {
    let world = World::new();
    let honest = world.script(&format!("exec '{BENCH}' whole --threads 1 \"$@\""));
    let (output, lines) = world.prove_beside(&honest);
    assert!(output.status.success(), "{output:?}");
    let lines = processes(&lines);
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["who"], &lines[1]["who"]),
        (&"caldera".into(), &"rapidsnark".into())
    );
    let build = lines[1]["peer_build"].as_str().expect("a text");
    assert!(
        build.starts_with("rapidsnark as an outside program"),
        "{build}"
    );
    assert!(lines[1]["ratio"]["cpu"].as_f64().expect("a number") > 0.0);
    assert!(
        lines[1]["inside"]
            .as_str()
            .expect("a text")
            .contains("a whole process")
    );
}

#[test]
fn a_program_whose_proofs_do_not_hold_is_refused() {
    let world = World::new();
    let status = Command::new(BENCH)
        .args(["whole", "--threads", "1"])
        .args(["key.zkey", "witness.wtns", "wrong.json", "public.json"])
        .current_dir(world.folder.path())
        .status();
    assert!(status.expect("the program under test").success());
    // A proof of good form, its A and its C in each other's places.
    let text = fs::read_to_string(world.path("wrong.json")).expect("a proof");
    let mut proof: Value = serde_json::from_str(&text).expect("JSON");
    let (a, c) = (proof["pi_a"].take(), proof["pi_c"].take());
    (proof["pi_a"], proof["pi_c"]) = (c, a);
    fs::write(world.path("wrong.json"), proof.to_string()).expect("our folder");
    let folder = world.folder.path().display();
    for (body, message) in [
        (
            format!("cp '{folder}/wrong.json' \"$3\"; cp '{folder}/public.json' \"$4\""),
            "does not verify",
        ),
        (
            format!("'{BENCH}' whole --threads 1 \"$@\"; echo '[]' >\"$4\""),
            "public inputs are not the witness's",
        ),
        // Good once, then idle: the proof of the round before must not be found again.
        (
            format!(
                "[ -e '{folder}/once' ] && exit; '{BENCH}' whole --threads 1 \"$@\" && touch '{folder}/once'"
            ),
            "it wrote no",
        ),
        (
            "echo no memory >&2; exit 3".to_owned(),
            "exit status: 3: no memory",
        ),
    ] {
        let (output, lines) = world.prove_beside(&world.script(&body));
        assert_eq!(output.status.code(), Some(70), "{body}: {output:?}");
        let told = String::from_utf8(output.stderr).expect("text");
        assert!(
            told.contains("rapidsnark") && told.contains(message),
            "{body}: {told}"
        );
        assert!(processes(&lines).is_empty(), "{body}: {lines:?}");
    }
}
