//! Takes out of a copy of the tree, one after the other, what stops each threat to state units, and expects the
//! test that tries the threat to fail: `threats [--list] [--only WORD]..`.
//!
//! The changes are those of `caldera_tests::threats`. The copy is made of the files that git knows or would take, in
//! `target/threats`, and built there into a folder that stays, so that each change is an incremental build of a few
//! seconds; the sources themselves are only read. A change that does not compile is no failed test, so building and
//! testing are two steps; and a test that fails in other words than it has for this lie has failed for another
//! reason, which is told apart as well. What the tests say lies beside the copy, in `said`.
//!
//! Ends well only if every change was noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use caldera_tests::threats::{EXEMPTIONS, MUTATIONS, Mutation, Try, faults};
use serde_json::Value;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let (mut list, mut only) = (false, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--only" => only.push(arguments.next().context("--only: expected a word")?),
            other => bail!("expected --list or --only WORD, got {other}"),
        }
    }

    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let top = top.canonicalize().context("the top of the tree")?;
    let read = |file: &str| fs::read_to_string(top.join(file)).ok();
    let faults = faults(&read, MUTATIONS, EXEMPTIONS);
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    let chosen: Vec<&Mutation> = MUTATIONS.iter().filter(|it| is_of(it, &only)).collect();
    ensure!(!chosen.is_empty(), "nothing has one of {only:?} in it");
    if list {
        for mutation in chosen {
            for it in mutation.tries {
                println!(
                    "{} | {} | {}: {}",
                    it.threat, mutation.what, it.file, it.test
                );
            }
        }
        return Ok(ExitCode::SUCCESS);
    }

    let copy = Copy::new(&top)?;
    let begun = Instant::now();
    let tests: BTreeSet<(&str, &str)> = tries(&chosen).map(|it| (it.file, it.test)).collect();
    println!("threats: {} tests, with nothing taken out", tests.len());
    let files: BTreeSet<&str> = tests.iter().map(|it| it.0).collect();
    let programs = copy.build(&files)?.map_err(|error| {
        anyhow::anyhow!("the copy does not compile with nothing taken out:\n{error}")
    })?;
    for (file, test) in tests {
        let verdict = copy.try_out(&programs, file, test)?;
        ensure!(
            matches!(verdict, Ended::Well),
            "{test} of {file}, with nothing taken out: {verdict:?}"
        );
    }
    println!("threats: all pass, after {} s", begun.elapsed().as_secs());

    let mut lines = Vec::new();
    for (number, mutation) in chosen.iter().enumerate() {
        let before = lines.len();
        lines.extend(copy.mutated(mutation)?);
        for line in &lines[before..] {
            let place = format!("{}/{}", number + 1, chosen.len());
            println!("{place:>7}  {line}");
        }
    }
    println!("\nthreat | taken out | test | verdict | seconds");
    for line in &lines {
        println!("{line}");
    }
    let unnoticed: Vec<&Line> = lines.iter().filter(|line| line.verdict != RED).collect();
    println!(
        "threats: {} of {} red, {} s in all",
        lines.len() - unnoticed.len(),
        lines.len(),
        begun.elapsed().as_secs()
    );
    for line in &unnoticed {
        eprintln!("not noticed: {line}");
    }
    Ok(match unnoticed.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Whether one of these is somewhere in a mutation, or anything is wanted.
fn is_of(mutation: &Mutation, only: &[String]) -> bool {
    let tries = mutation.tries.iter();
    let mut words = tries
        .flat_map(|it| [it.threat, it.file, it.test])
        .chain(mutation.edits.iter().map(|edit| edit.file))
        .chain([mutation.what]);
    only.is_empty() || words.any(|it| only.iter().any(|word| it.contains(word)))
}

fn tries(mutations: &[&Mutation]) -> impl Iterator<Item = &'static Try> {
    mutations.iter().flat_map(|mutation| mutation.tries)
}

/// What came of one test.
struct Line {
    threat: &'static str,
    what: &'static str,
    test: &'static str,
    verdict: String,
    /// Building is counted with the first test of a mutation.
    seconds: f64,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Line {
            threat,
            what,
            test,
            verdict,
            seconds,
        } = self;
        write!(f, "{threat} | {what} | {test} | {verdict} | {seconds:.1}")
    }
}

/// How a test ended.
#[derive(Debug)]
enum Ended {
    Well,
    /// With what it said.
    Failed(String),
    /// It did not come so far, or not to its end.
    Otherwise(String),
}

/// A copy of the tree, and the folder that it is built into.
struct Copy {
    top: PathBuf,
    tree: PathBuf,
    build: PathBuf,
    said: PathBuf,
    /// Those of the tree: nothing else is in the copy.
    files: BTreeSet<PathBuf>,
    /// Held while this runs: what another run takes out would be missed here.
    _lock: File,
}

/// The programs of tests, by their source.
type Programs = BTreeMap<PathBuf, PathBuf>;

impl Copy {
    /// What git knows and what it would take, as it is now. A file that is as it was stays, so that it is not
    /// compiled again.
    fn new(top: &Path) -> Result<Copy> {
        let listed = Command::new("git")
            .args("ls-files -z --cached --others --exclude-standard".split(' '))
            .current_dir(top)
            .output()
            .context("git")?;
        ensure!(listed.status.success(), "git ls-files: {}", said(&listed));
        let names = String::from_utf8(listed.stdout).context("names of files")?;
        let files = names.split_terminator('\0').map(PathBuf::from);
        // What is deleted and not yet committed is listed all the same.
        let files = files.filter(|file| top.join(file).is_file()).collect();
        let folder = top.join("target/threats");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let lock = File::create(folder.join("lock")).context("target/threats/lock")?;
        lock.try_lock().context("another run has the copy")?;
        let copy = Copy {
            top: top.to_owned(),
            tree: folder.join("tree"),
            build: folder.join("build"),
            said: folder.join("said"),
            files,
            _lock: lock,
        };
        for folder in [&copy.tree, &copy.build, &copy.said] {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        for file in &copy.files {
            let (from, to) = (copy.top.join(file), copy.tree.join(file));
            let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
            if fs::read(&to).is_ok_and(|there| there == bytes) {
                continue;
            }
            let folder = to.parent().context("a file is in a folder")?;
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&to, bytes))
                .and_then(|()| fs::set_permissions(&to, fs::metadata(&from)?.permissions()))
                .with_context(|| to.display().to_string())?;
        }
        copy.sweep(&copy.tree)?;
        Ok(copy)
    }

    /// Takes away what is not of the tree: what was there before, and the failures that proptest keeps, which would be
    /// tried on the next change.
    fn sweep(&self, folder: &Path) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                self.sweep(&path)?;
            } else if !self.files.contains(path.strip_prefix(&self.tree)?) {
                fs::remove_file(&path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    /// Makes a change, runs the tests that have to notice, and takes it back.
    fn mutated(&self, mutation: &Mutation) -> Result<Vec<Line>> {
        let mut changed: BTreeMap<&str, (String, String)> = BTreeMap::new();
        for edit in mutation.edits {
            let path = self.tree.join(edit.file);
            if !changed.contains_key(edit.file) {
                let text = fs::read_to_string(&path).context(edit.file)?;
                changed.insert(edit.file, (text.clone(), text));
            }
            let (before, after) = changed.get_mut(edit.file).context(edit.file)?;
            // The sources may have been changed since they were looked through.
            ensure!(
                before.matches(edit.takes).count() == 1,
                "{} has this not once:\n{}",
                edit.file,
                edit.takes
            );
            *after = after.replacen(edit.takes, edit.puts, 1);
        }
        for (file, (_, after)) in &changed {
            fs::write(self.tree.join(file), after).context(*file)?;
        }
        let lines = self.verdicts(mutation);
        for (file, (before, _)) in &changed {
            fs::write(self.tree.join(file), before).context(*file)?;
        }
        self.sweep(&self.tree)?;
        lines
    }

    fn verdicts(&self, mutation: &Mutation) -> Result<Vec<Line>> {
        let mut begun = Instant::now();
        let files: BTreeSet<&str> = mutation.tries.iter().map(|it| it.file).collect();
        let built = self.build(&files)?;
        let mut lines = Vec::new();
        for it in mutation.tries {
            let verdict = match &built {
                Err(error) => format!("DOES NOT COMPILE: {error}"),
                Ok(programs) => match self.try_out(programs, it.file, it.test)? {
                    Ended::Well => "SURVIVED".to_owned(),
                    Ended::Failed(said) if said.contains(it.says) => RED.to_owned(),
                    Ended::Failed(said) => {
                        format!("FAILS FOR ANOTHER REASON than \"{}\": {said}", it.says)
                    }
                    Ended::Otherwise(said) => format!("ENDS OTHERWISE: {said}"),
                },
            };
            lines.push(Line {
                threat: it.threat,
                what: mutation.what,
                test: it.test,
                verdict,
                seconds: begun.elapsed().as_secs_f64(),
            });
            begun = Instant::now();
        }
        Ok(lines)
    }

    /// Builds the tests of these files, and `caldera` and `calderad` for those that need them: with all packages named, as
    /// all tests are built, for other crates would be built for other choices. What the compiler says, if it refuses.
    fn build(&self, files: &BTreeSet<&str>) -> Result<Result<Programs, String>> {
        let mut cargo = Command::new("cargo");
        cargo
            .args("build --locked --message-format json".split(' '))
            .args("--workspace --exclude caldera-wgpu".split(' '))
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.build)
            .env("CARGO_INCREMENTAL", "1");
        for file in files {
            let name = Path::new(file).file_stem().context("a test is a file")?;
            cargo.arg("--test").arg(name);
        }
        if files.iter().any(|file| file.starts_with("deploy/tests/")) {
            cargo.args(["--bin", "caldera", "--bin", "calderad"]);
        }
        let output = cargo.output().context("cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let messages = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let (mut programs, mut errors) = (Programs::new(), String::new());
        for message in messages {
            let of = |path: &str| message.pointer(path).and_then(Value::as_str);
            if of("/message/level") == Some("error") {
                errors += of("/message/rendered").unwrap_or_default();
            } else if let (Some(source), Some(program)) =
                (of("/target/src_path"), of("/executable"))
            {
                programs.insert(source.into(), program.into());
            }
        }
        Ok(match output.status.success() {
            true => Ok(programs),
            // What is not the compiler's to say, Cargo says.
            false if errors.is_empty() => Err(said(&output)),
            false => Err(errors),
        })
    }

    /// Runs one test, where Cargo would run it.
    fn try_out(&self, programs: &Programs, file: &str, test: &str) -> Result<Ended> {
        let source = self.tree.join(file);
        let program = programs.get(&source).context("no program was built")?;
        let folder = source
            .ancestors()
            .nth(2)
            .context("PACKAGE/tests/TARGET.rs")?;
        let output = Command::new("timeout")
            .args(["--kill-after", "10", SECONDS_MAX])
            .arg(program)
            .args(["--exact", test])
            .current_dir(folder)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .output()
            .context("timeout")?;
        let said = said(&output);
        fs::write(self.said.join(test), &said).context("the folder of what is said")?;
        let ended = |how: &str| {
            said.lines()
                .any(|line| line == format!("test {test} ... {how}"))
        };
        Ok(match output.status.code() {
            Some(0) if ended("ok") => Ended::Well,
            Some(101) if ended("FAILED") => Ended::Failed(said),
            Some(124) => Ended::Otherwise(format!("not within {SECONDS_MAX} s")),
            _ => Ended::Otherwise(format!("{}: {said}", output.status)),
        })
    }
}

fn said(output: &Output) -> String {
    let (one, two) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(one),
        String::from_utf8_lossy(two)
    )
}

const RED: &str = "red";
/// A test that takes longer hangs.
const SECONDS_MAX: &str = "900";
