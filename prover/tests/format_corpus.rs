//! Replays the corpora of the fuzzers on a stable toolchain: every file, and every prefix of
//! every seed, through the same bodies.
//!
//! The seeds under `fuzz/corpus` are what the builder makes, and this test holds them to it. After
//! a change to the builder, run it once with `CALDERA_WRITE_SEEDS=1` and it writes them anew.

mod format_builder;

#[path = "../fuzz/bodies/proof_json.rs"]
mod proof_json;
#[path = "../fuzz/bodies/public_json.rs"]
mod public_json;
#[path = "../fuzz/bodies/r1cs.rs"]
mod r1cs;
#[path = "../fuzz/bodies/vk_json.rs"]
mod vk_json;
#[path = "../fuzz/bodies/wtns.rs"]
mod wtns;
#[path = "../fuzz/bodies/zkey.rs"]
mod zkey;

use std::fs;
use std::path::{Path, PathBuf};

use format_builder::{CURVES, Curve};

#[test]
fn zkey_corpus() {
    replay("zkey", zkey::run, |curve| {
        let parts = format_builder::zkey(curve);
        let marked = parts
            .clone()
            .without(10)
            .with(0x43414c44, b"made by a test");
        vec![("ceremony", parts.bytes()), ("development", marked.bytes())]
    });
}

#[test]
fn wtns_corpus() {
    replay("wtns", wtns::run, |curve| {
        vec![("small", format_builder::wtns(curve).bytes())]
    });
}

#[test]
fn r1cs_corpus() {
    replay("r1cs", r1cs::run, |curve| {
        let parts = format_builder::r1cs(curve);
        let gates = parts.clone().with(4, &[0; 4]).with(5, &[0; 4]);
        vec![("small", parts.bytes()), ("without_gates", gates.bytes())]
    });
}

#[test]
fn vk_json_corpus() {
    replay("vk_json", vk_json::run, |curve| {
        vec![(
            "small",
            format_builder::verification_key(curve).into_bytes(),
        )]
    });
}

#[test]
fn proof_json_corpus() {
    replay("proof_json", proof_json::run, |curve| {
        vec![("small", format_builder::proof(curve).into_bytes())]
    });
}

#[test]
fn public_json_corpus() {
    replay("public_json", public_json::run, |curve| {
        vec![("small", format_builder::public(curve).into_bytes())]
    });
}

/// A seed's name and content.
type Seed = (&'static str, Vec<u8>);

/// Runs `body` on each file of a target's corpus, and on each prefix of each seed.
fn replay(target: &str, body: fn(&[u8]), seeds: fn(Curve) -> Vec<Seed>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    for curve in CURVES {
        for (name, seed) in seeds(curve) {
            let name = format!("{name}_{curve:?}.seed").to_ascii_lowercase();
            assert!(
                seed.len() < 8 << 10,
                "{name} is too large to be read prefix by prefix"
            );
            hold(&folder.join(name), &seed);
            for len in 0..=seed.len() {
                body(&seed[..len]);
            }
        }
    }
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for file in files {
        let path = file.expect("the folder can be listed").path();
        body(&fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")));
    }
}

/// Compares a seed with the file of it, or writes the file if that is what was asked for.
fn hold(path: &PathBuf, seed: &[u8]) {
    if std::env::var_os("CALDERA_WRITE_SEEDS").is_some() {
        fs::create_dir_all(path.parent().expect("a corpus is in a folder"))
            .and_then(|()| fs::write(path, seed))
            .unwrap_or_else(|error| panic!("{path:?}: {error}"));
    }
    let committed = fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert!(
        committed == seed,
        "{path:?} is not what the builder makes: CALDERA_WRITE_SEEDS=1"
    );
}
