//! Hands the compiler's version and flags and the commit to the program, which writes them beside every figure:
//! a figure without the build that made it cannot be compared with another. The commit is that of the build, for
//! the tree may be another by the time the program runs.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let compiler = Command::new(variable("RUSTC"))
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown compiler".to_owned());
    // Cargo separates the flags with the unit separator, which no flag contains.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    println!(
        "cargo::rustc-env=CALDERA_BENCH_BUILD={}, {}, opt-level {}, flags [{flags}]",
        compiler.trim(),
        variable("PROFILE"),
        variable("OPT_LEVEL"),
    );
    if let Some(commit) = commit(&Path::new(&variable("CARGO_MANIFEST_DIR")).join("..")) {
        println!("cargo::rustc-env=CALDERA_BENCH_COMMIT={commit}");
    }
}

/// What no program is built from: lines that a run has appended, or a document, do not make a build dirty.
const SOURCE: [&str; 3] = [
    ":/",
    ":(top,exclude)benches/results",
    ":(top,exclude,glob)**/*.md",
];

fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(root).args(arguments).output().ok()
    };
    let text = |arguments: &[&str]| {
        let output = git(arguments).filter(|it| it.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    let head = text(&["rev-parse", "--short=12", "HEAD"])?;
    // What HEAD names, and when it moves; and every file that is known, for any of those makes the build another.
    let moves = text(&[
        "rev-parse",
        "--path-format=absolute",
        "--git-path",
        "logs/HEAD",
    ])?;
    let files = text(&[&["ls-files", "--full-name", "--"][..], &SOURCE].concat())?;
    let files = files.lines().map(|file| root.join(file));
    for path in files.chain([moves.into()]).filter(|path| path.exists()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let changes = git(&[&["diff", "--quiet", "HEAD", "--"][..], &SOURCE].concat())?;
    let dirty = if changes.status.success() {
        ""
    } else {
        "-dirty"
    };
    Some(format!("{head}{dirty}"))
}
