//! Finds the programs under test beside the test itself and runs them.
//!
//! A test of another package cannot ask Cargo for a binary's path, and building from within a
//! test could compile half the workspace again under other features. So the programs must have
//! been built before: `make test` does it. An executable that is older than its own sources is
//! refused as well, since testing yesterday's program is worse than testing none.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

/// Path of the `caldera` executable of this build.
pub fn caldera() -> PathBuf {
    built("caldera")
}

/// Path of the `calderad` executable of this build.
pub fn calderad() -> PathBuf {
    built("calderad")
}

/// Runs `caldera` to its end.
pub fn run_caldera<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Run {
    let mut command = Command::new(caldera());
    command.args(arguments);
    run(command)
}

/// Runs any command to its end.
pub fn run(mut command: Command) -> Run {
    let shown = format!("{command:?}");
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .output()
        .unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    Run {
        command: shown,
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// What a finished program left.
#[derive(Debug)]
pub struct Run {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// Panics unless the program ended well; gives its standard output.
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{self}");
        self.stdout
    }

    /// Panics unless the program ended with `code`; gives the whole run.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\nexit code {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.command, self.code, self.stdout, self.stderr
        )
    }
}

fn built(name: &str) -> PathBuf {
    // target/debug/deps/TEST-hash: the programs lie one folder up.
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test
        .parent()
        .and_then(Path::parent)
        .expect("a test lies in target/PROFILE/deps");
    let path = folder.join(name);
    let remedy = "run `make test`, or `cargo build --workspace --all-targets`, first";
    let Ok(built_at) = path.metadata().and_then(|metadata| metadata.modified()) else {
        panic!("{} has not been built: {remedy}", path.display());
    };
    if let Some(source) = newer_source(&path, built_at) {
        panic!("{} is older than {source}: {remedy}", path.display());
    }
    path
}

/// The first source that changed after the program was built, by the list that Cargo writes
/// beside it: `PROGRAM: SOURCE SOURCE ..`, spaces within names escaped.
fn newer_source(program: &Path, built_at: SystemTime) -> Option<String> {
    let list = std::fs::read_to_string(program.with_extension("d")).ok()?;
    let sources = list.split_once(": ")?.1.replace("\\ ", "\0");
    sources
        .split_whitespace()
        .map(|source| source.replace('\0', " "))
        .find(|source| {
            let modified = Path::new(source).metadata().and_then(|m| m.modified());
            modified.is_ok_and(|modified| modified > built_at)
        })
}
