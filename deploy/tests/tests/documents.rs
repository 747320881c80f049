//! A map with missing rooms is worse than none: every place that a document names is there.
//!
//! Two kinds of names are held against the tree: the targets of links, and words in backticks
//! that look like a path of this repository (they have a slash and begin with a folder of the
//! top level, or are a file name that ends in `.md`). A pattern with `*`, `<` or `{`, or with a name
//! all in capitals (`DATE-CPU.jsonl`), is not a path. Works in a checkout and in an unpacked
//! archive: it asks no git.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use caldera_tests::programs::{caldera, calderad, run};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

/// What the top level holds; a backticked word that begins with one of these and a slash is a
/// path.
const TOP: [&str; 8] = [
    "prover",
    "scheduler",
    "kernels",
    "hwtests",
    "benches",
    "deploy",
    "docs",
    ".ci",
];

/// Folders in which no document of ours lies.
const FOREIGN: [&str; 4] = ["target", "node_modules", ".git", "artifacts"];

#[test]
fn every_place_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the checkout that this test was built in is still there");
    let mut documents = Vec::new();
    collect(&root, &mut documents);
    assert!(
        documents.iter().any(|d| d.ends_with("README.md")),
        "found no README.md below {}",
        root.display()
    );

    let mut missing = Vec::new();
    let mut names = 0;
    for document in &documents {
        let text = std::fs::read_to_string(document).expect("a document is text");
        let folder = document.parent().expect("a file has a folder");
        for (line, text) in text.lines().enumerate() {
            for (name, base) in links(text)
                .map(|name| (name, folder))
                .chain(paths(text).map(|name| (name, root.as_path())))
            {
                names += 1;
                if !base.join(name).exists() {
                    missing.push(format!(
                        "{}:{}: {name}",
                        document.strip_prefix(&root).unwrap_or(document).display(),
                        line + 1
                    ));
                }
            }
        }
    }
    assert!(names > 0, "found no names in {} documents", documents.len());
    assert!(
        missing.is_empty(),
        "documents name what does not exist:\n{}",
        missing.join("\n")
    );
}

/// What README tells a reader to type first is typed here. Two things are other than at his: the box takes a free port, and whoever
/// asks it is told which, by scripts with the programs' names; the port comes through a pipe, so that nobody asks before there is one.
#[test]
fn the_first_proof_of_the_readme() {
    let readme = include_str!("../../../README.md");
    let (_, section) = readme
        .split_once("\n## A first proof by a box\n")
        .expect("README has the section");
    let (_, block) = section.split_once("```sh\n").expect("it has commands");
    let (block, _) = block.split_once("```").expect("they end");
    assert!(block.contains("\ncaldera submit "), "{block}");

    let folder = tempfile::tempdir().expect("a folder of our own");
    let at = |name: &str| folder.path().join(name);
    mkfifo(&at("listens"), Mode::S_IRWXU).expect("a pipe");
    std::fs::create_dir(at("bin")).expect("a folder");
    let script = |name: &str, text: String| {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o700)
            .open(at("bin").join(name));
        let text = format!("#!/bin/sh\nset -eu\n{text}\n");
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .expect("a script");
    };
    let box_ = calderad();
    script(
        "calderad",
        format!("exec {box_:?} --listen 127.0.0.1:0 \"$@\" >listens"),
    );
    let line = caldera();
    script(
        "caldera",
        format!(
            "if [ \"$1\" = submit ]; then\n    read -r calderad listening on address <listens\n    \
             export CALDERA_URL=\"http://$address\"\nfi\nexec {line:?} \"$@\""
        ),
    );
    let path = std::env::var("PATH").unwrap_or_default();
    let mut bash = Command::new("bash");
    bash.arg("-ec")
        .arg(format!("trap 'kill $!; wait' EXIT\n{block}"))
        .env("PATH", format!("{}:{path}", at("bin").display()))
        .env_remove("CALDERA_URL")
        .current_dir(folder.path());
    let said = run(bash).expect_success();
    assert!(said.ends_with("OK!\n"), "{said}");
}

/// Targets of `[text](target)` that lie in this repository, without their fragment.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
        (!outside).then_some(target)
    })
}

/// Words in backticks that are paths of this repository.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2).filter(|word| {
        let pattern = word.contains(['*', '<', '{', ' ', '=', ':']);
        let within = TOP
            .iter()
            .any(|top| word.strip_prefix(top).is_some_and(|r| r.starts_with('/')));
        within && !pattern && !word.split('/').any(stands_for_something)
    })
}

/// Whether a part of a path is a word in capitals, for which a reader puts in one of his own.
fn stands_for_something(part: &str) -> bool {
    let stem = part.split('.').next().unwrap_or_default();
    !stem.is_empty() && stem.chars().all(|c| c.is_ascii_uppercase() || c == '-')
}

fn collect(folder: &Path, documents: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !FOREIGN.contains(&name.as_ref()) {
                collect(&path, documents);
            }
        } else if name.ends_with(".md") {
            documents.push(path);
        }
    }
}
