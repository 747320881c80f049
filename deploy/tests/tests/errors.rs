//! An error says its own part, and its cause by `source()`; who prints it prints both (`caldera_rpc::chain`). One that shows what it
//! also gives as its cause would have it said twice, and would make printers compare words.
//!
//! Held against the sources, by what stands in `#[error("...")]` and in the variant or struct below it. Not by the compiler, to
//! which both are fine, nor by running: nobody makes each of a few hundred errors.

use std::path::{Path, PathBuf};

/// Folders in which no source of ours lies.
const FOREIGN: [&str; 4] = ["target", "node_modules", ".git", "artifacts"];

#[test]
fn no_error_says_its_cause_in_its_own_words() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the checkout that this test was built in is still there");
    let mut sources = Vec::new();
    collect(&root, &mut sources);
    let (mut with_cause, mut wrong) = (0, Vec::new());
    for source in &sources {
        let text = std::fs::read_to_string(source).expect("a source is text");
        for (line, message, item) in errors(&text) {
            if !gives_a_cause(item) {
                continue;
            }
            with_cause += 1;
            if shows_its_cause(message) {
                let source = source.strip_prefix(&root).unwrap_or(source).display();
                wrong.push(format!("{source}:{line}: {message}"));
            }
        }
    }
    assert!(with_cause > 40, "found {with_cause} errors with a cause");
    assert!(
        wrong.is_empty(),
        "these show what their source() returns; take it out of the message:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn what_is_wrong_is_found() {
    let wrong = r#"
        #[error("reading {}: {source}", path.display())]
        File {
            /// [Which]
            path: PathBuf,
            source: io::Error,
        },
        #[error("pool: {0}")]
        Pool(#[from] PoolError),
        #[error(
            "long: {0:?}"
        )]
        Long(#[source] Box<PoolError>),
    "#;
    let right = r#"
        #[error("reading {}", path.display())]
        File {
            path: PathBuf,
            source: io::Error,
        },
        #[error(transparent)]
        Pool(#[from] PoolError),
        #[error("NATS: {0}")]
        Closed(String),
    "#;
    let found = |text: &'static str| -> Vec<bool> {
        let all = errors(text).filter(|(_, _, item)| gives_a_cause(item));
        all.map(|(_, message, _)| shows_its_cause(message))
            .collect()
    };
    assert_eq!(found(wrong), [true; 3]);
    assert_eq!(found(right), [false; 2]);
}

/// Each error's line, what stands in its attribute, and the fields that follow.
fn errors(text: &str) -> impl Iterator<Item = (usize, &str, &str)> {
    const MARK: &str = "#[error(";
    text.match_indices(MARK).filter_map(move |(at, _)| {
        let line = 1 + text[..at].matches('\n').count();
        let rest = &text[at + MARK.len()..];
        let message = &rest[..rest.find(")]")?];
        let item = &rest[message.len() + 2..];
        // Its fields end where the next variant, or what follows the type, begins.
        let end = ["#[error(", "\n}", "\nimpl", "\nfn "];
        let end = end.iter().filter_map(|end| item.find(end)).min();
        Some((line, message, &item[..end.unwrap_or(item.len())]))
    })
}

fn gives_a_cause(item: &str) -> bool {
    item.contains("#[from]")
        || item.contains("#[source]")
        || item.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("pub ");
            line.starts_with("source:")
        })
}

fn shows_its_cause(message: &str) -> bool {
    ["{source", "{0", ".source", ".0"]
        .iter()
        .any(|shown| message.contains(shown))
}

fn collect(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout can be read") {
        let path = entry.expect("an entry can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !FOREIGN.contains(&name.as_ref()) {
                collect(&path, sources);
            }
        } else if name.ends_with(".rs") && name != "errors.rs" {
            sources.push(path);
        }
    }
}
