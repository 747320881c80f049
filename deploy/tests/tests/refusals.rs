//! Hostile files through the real program. For each there is one exit code and one name; there
//! is never a panic, never a proof, and never a file left behind.
//!
//! The forgeries are those of `src/forgery.rs`, to which the service is held too.

use std::path::PathBuf;

use caldera_tests::binfile::Binfile;
use caldera_tests::forgery::{self, Forgery, KEY, WITNESS};
use caldera_tests::programs::{Run, run_caldera};

#[test]
fn witnesses() {
    for forgery in forgery::witnesses() {
        refused(&forgery, &KEY, &forgery.bytes);
    }
}

#[test]
fn the_container_of_a_key() {
    for forgery in forgery::key_containers() {
        refused(&forgery, &forgery.bytes, &WITNESS);
    }
}

#[test]
fn the_content_of_a_key() {
    for forgery in forgery::key_contents() {
        refused(&forgery, &forgery.bytes, &WITNESS);
    }
}

/// A key whose points somebody vouched for wrongly still gives no proof: the self-check stands.
#[test]
fn trusted_points() {
    for kind in [3, 5, 6, 7, 8, 9] {
        let mut file = Binfile::parse(&KEY);
        let payload = file.section(kind);
        for byte in payload.iter_mut().skip(64).step_by(128) {
            *byte ^= 1;
        }
        let outcome = Attempt::new(&file.bytes(), &WITNESS, &["--check", "trusted"]);
        // IC is part of the verification key, which is always checked.
        let expected = if kind == 3 { 89 } else { 93 };
        assert_eq!(outcome.run.code, Some(expected), "{kind}: {}", outcome.run);
        outcome.left_nothing("a key that is trusted wrongly");
    }
}

/// Whatever byte is changed: no panic, and what still proves still proves the same.
#[test]
fn flipped_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (zkey, witness, vk) = (file("s.zkey"), file("s.wtns"), file("vk.json"));
    run_caldera([
        "setup".as_ref(),
        "--synthetic".as_ref(),
        "2^4".as_ref(),
        "-o".as_ref(),
        zkey.as_os_str(),
        "--vk".as_ref(),
        vk.as_os_str(),
    ])
    .expect_success();
    let inputs = [
        std::fs::read(&zkey).unwrap(),
        std::fs::read(&witness).unwrap(),
    ];

    // A fixed sequence (Knuth's MMIX constants): a failure here can be repeated.
    let mut state: u64 = 2;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for round in 0..160 {
        let mut changed = inputs.clone();
        // Half of the changes fall into the first bytes, where the tables and headers are.
        let bytes = &mut changed[round % 2];
        let at = random(if round % 4 < 2 { 400 } else { bytes.len() });
        let bit = 1 << random(8);
        bytes[at] ^= bit;
        let outcome = Attempt::new(&changed[0], &changed[1], &["--development"]);
        let what = format!("file {}, byte {at}, bit {bit}", round % 2);
        match outcome.run.code {
            Some(0) => {
                run_caldera([
                    "verify".as_ref(),
                    &*vk,
                    &*outcome.public(),
                    &*outcome.proof(),
                ])
                .expect_success();
            }
            Some(65 | 79..=93) => outcome.left_nothing(&what),
            _ => panic!("{what}: {}", outcome.run),
        }
    }
}

#[test]
fn files_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (zkey, witness) = (folder.path().join("k.zkey"), folder.path().join("w.wtns"));
    std::fs::write(&zkey, &*KEY).unwrap();
    std::fs::write(&witness, &*WITNESS).unwrap();
    let public = folder.path().join("public.json");
    let nowhere = folder.path().join("no/such/folder/proof.json");
    let missing = folder.path().join("missing");
    for (zkey, witness, proof) in [
        (&missing, &witness, &folder.path().join("proof.json")),
        (&zkey, &missing, &folder.path().join("proof.json")),
        (&zkey, &witness, &nowhere),
        (&zkey, &witness, &folder.path().to_owned()),
    ] {
        let run = run_caldera(["prove".as_ref(), &**zkey, &**witness, &**proof, &*public])
            .expect_code(74);
        assert!(run.stderr.contains("[files]"), "{run}");
        assert!(!public.exists());
        assert!(!proof.is_file());
    }
    run_caldera(["prove"]).expect_code(2);
}

/// Failures are JSON too, where JSON is asked for.
#[test]
fn failures_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.zkey");
    std::fs::write(&path, &KEY[..1000]).unwrap();
    let run =
        run_caldera(["--json".as_ref(), "inspect".as_ref(), path.as_os_str()]).expect_code(81);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["error"]["class"], "truncated");
    assert_eq!(document["error"]["exitCode"], 81);
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("cut.zkey"), "{message}");
}

fn refused(forgery: &Forgery, zkey: &[u8], witness: &[u8]) {
    let Forgery {
        name, code, class, ..
    } = forgery;
    let outcome = Attempt::new(zkey, witness, &[]);
    let run = &outcome.run;
    assert_eq!(run.code, Some(*code), "{name}: expected {class}: {run}");
    assert!(run.stderr.contains(&format!("[{class}]")), "{name}: {run}");
    outcome.left_nothing(name);
}

/// One run of `caldera prove` on bytes, in a folder of its own.
struct Attempt {
    folder: tempfile::TempDir,
    run: Run,
}

impl Attempt {
    fn new(zkey: &[u8], witness: &[u8], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("k.zkey"), zkey).unwrap();
        std::fs::write(file("w.wtns"), witness).unwrap();
        std::fs::create_dir(file("out")).unwrap();
        let mut arguments = vec![PathBuf::from("prove")];
        arguments.extend(["k.zkey", "w.wtns", "out/proof.json", "out/public.json"].map(file));
        arguments.extend(options.iter().map(PathBuf::from));
        let run = run_caldera(arguments);
        assert!(!run.stderr.contains("panicked"), "{run}");
        Self { folder, run }
    }

    fn proof(&self) -> PathBuf {
        self.folder.path().join("out/proof.json")
    }

    fn public(&self) -> PathBuf {
        self.folder.path().join("out/public.json")
    }

    fn left_nothing(&self, name: &str) {
        let left = std::fs::read_dir(self.folder.path().join("out")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{name}: left {left:?}");
    }
}
