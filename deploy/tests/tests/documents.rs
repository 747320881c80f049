//! A map with missing rooms is worse than none: every place that a document names is there.
//!
//! Two kinds of names are held against the tree: the targets of links, and words in backticks
//! that look like a path of this repository (they have a slash and begin with a folder of the
//! top level, or are a file name that ends in `.md`). A pattern with `*`, `<` or `{`, or with a name
//! all in capitals (`DATE-CPU.jsonl`), is not a path. Works in a checkout and in an unpacked
//! archive: it asks no git.

use std::path::{Path, PathBuf};

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
