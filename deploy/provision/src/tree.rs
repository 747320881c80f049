//! Writing the files of a plan into a root, and taking them back to the byte.
//!
//! The root may be the one that runs, so it may lose power between any two calls of the system. What was
//! there is therefore on record before anything is changed: `etc/caldera/provision/manifest.json` appears whole,
//! by one rename, with the digest of every file to come, whether one was in its place, and which folders were
//! not there. A file that is in the way is moved beside the manifest, not copied, so that it
//! comes back with its owner, its mode and its times. Each step is one such call, and undoing does from any
//! point what is left to do; applying after an interruption undoes first.
//!
//! The record lies in `/etc/caldera` and not with the service's data, where a service that was
//! taken over could name files for root to remove.
//!
//! Files that somebody has changed since are not ours any more: they are named, and stay. Links are
//! not followed: in a root that is not running they would lead into the one that is.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::plan::{DropIn, Plan};

/// What applying came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// All was as planned already.
    Unchanged,
    /// So many files were written.
    Written(usize),
}

/// What undoing came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Undone {
    /// Files that were taken away or put back.
    pub restored: Vec<String>,
    /// Files that somebody has changed since: they stay, and so does the record of them.
    pub changed: Vec<String>,
}

/// Why a tree was not changed, or not to the end; what was begun is undone by [`undo`].
#[derive(Debug, Error)]
pub enum TreeError {
    /// The system refused a step.
    #[error("{what} {}", path.display())]
    Step {
        /// What was being done.
        what: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something is in the way that is not what Debian has there.
    #[error("{}: expected {expected}", path.display())]
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// Files of an earlier plan were changed by somebody.
    #[error("changed since they were written, and not to be overwritten: {}", .0.join(", "))]
    Changed(Vec<String>),
    /// The record of what was written cannot be read.
    #[error("{}", path.display())]
    Manifest {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The record says what no plan writes.
    #[error("{}: expected files below etc, got {got:?}", path.display())]
    Strange {
        /// Where it lies.
        path: PathBuf,
        /// The path in it.
        got: String,
    },
}

/// Writes the files of a plan. Doing so twice is as doing so once.
pub fn apply(root: &Path, plan: &Plan) -> Result<Applied, TreeError> {
    let tree = Tree { root };
    tree.clear()?;
    if let Some(manifest) = tree.manifest()? {
        let planned: Vec<_> = plan.files.iter().map(|it| (&it.path, digest(it))).collect();
        let written = manifest.files.iter();
        let written: Vec<_> = written.map(|it| (&it.path, it.sha256.clone())).collect();
        let mut standing = Vec::new();
        for entry in &manifest.files {
            standing.push(tree.state(entry)?);
        }
        if planned == written && standing.iter().all(|it| *it == State::Ours) {
            return Ok(Applied::Unchanged);
        }
        let changed = manifest.files.iter().zip(&standing);
        let changed = changed.filter(|(_, state)| **state == State::Theirs);
        let changed: Vec<_> = changed.map(|(entry, _)| entry.path.clone()).collect();
        if !changed.is_empty() {
            return Err(TreeError::Changed(changed));
        }
        undo(root)?;
    }
    if plan.files.is_empty() {
        return Ok(Applied::Unchanged);
    }
    for step in tree.steps(plan)? {
        tree.take(&step)?;
    }
    Ok(Applied::Written(plan.files.len()))
}

/// Restores what was there before. Without a record there is nothing to restore.
pub fn undo(root: &Path) -> Result<Undone, TreeError> {
    let tree = Tree { root };
    tree.clear()?;
    let Some(manifest) = tree.manifest()? else {
        return Ok(Undone::default());
    };
    let (steps, undone) = tree.steps_back(&manifest)?;
    for step in &steps {
        tree.take(step)?;
    }
    Ok(undone)
}

/// The record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Manifest {
    version: u32,
    files: Vec<Entry>,
    /// Folders that were not there, outer ones first.
    folders: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    path: String,
    sha256: String,
    /// Under which name the file that was there is kept; `None` if there was none.
    kept: Option<String>,
}

/// How things stand with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What was planned is there, and what was there is kept.
    Ours,
    /// What was there still is, or is away and nothing has come in its place.
    Before,
    /// Somebody has written there since.
    Theirs,
}

/// One call of the system, or as good as one: what an interruption leaves whole. Paths are below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Folder(String),
    /// A file that nobody looks at yet.
    Draft(String, Vec<u8>),
    Rename(String, String),
    Remove(String),
    /// A folder, if nothing is left in it.
    RemoveEmpty(String),
    /// A folder of ours with all in it, under a name that says that it is to go.
    RemoveAll(String),
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn failed<'a>(
        &self,
        what: &'static str,
        path: &'a str,
    ) -> impl Fn(io::Error) -> TreeError + 'a {
        let path = self.at(path);
        move |source| TreeError::Step {
            what,
            path: path.clone(),
            source,
        }
    }

    /// What an interruption left that nobody looks at.
    fn clear(&self) -> Result<(), TreeError> {
        for folder in [DRAFT_OF_OURS, DRAFT_OF_RECORD] {
            if self.exists(folder)? {
                self.take(&Step::RemoveAll(folder.to_owned()))?;
            }
        }
        Ok(())
    }

    fn manifest(&self) -> Result<Option<Manifest>, TreeError> {
        if !self.exists(RECORD)? {
            return Ok(None);
        }
        let path = format!("{RECORD}/{MANIFEST}");
        let bytes = fs::read(self.at(&path)).map_err(self.failed("reading", &path))?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|source| TreeError::Manifest {
                path: self.at(&path),
                source,
            })?;
        let all = manifest.files.iter().map(|it| &it.path);
        for got in all.chain(&manifest.folders) {
            let whole = got
                .split('/')
                .all(|it| !it.is_empty() && it != ".." && it != ".");
            if !whole || !got.starts_with("etc/") {
                return Err(TreeError::Strange {
                    path: self.at(&path),
                    got: got.clone(),
                });
            }
        }
        for got in manifest.files.iter().filter_map(|it| it.kept.as_ref()) {
            if got.contains('/') || got.starts_with('.') {
                return Err(TreeError::Strange {
                    path: self.at(&path),
                    got: got.clone(),
                });
            }
        }
        Ok(Some(manifest))
    }

    /// Whether anything has this name. What leads to it must be folders, not links.
    fn exists(&self, path: &str) -> Result<bool, TreeError> {
        let mut here = self.root.to_owned();
        let parts: Vec<_> = path.split('/').collect();
        for (number, part) in parts.iter().enumerate() {
            here.push(part);
            let found = match fs::symlink_metadata(&here) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(source) => {
                    return Err(TreeError::Step {
                        what: "looking at",
                        path: here,
                        source,
                    });
                }
            };
            if number + 1 < parts.len() && !found.is_dir() {
                return Err(TreeError::InTheWay {
                    path: here,
                    expected: "a folder",
                });
            }
        }
        Ok(true)
    }

    fn digest_at(&self, path: &str) -> Result<Option<String>, TreeError> {
        if !self.exists(path)? {
            return Ok(None);
        }
        let found = fs::symlink_metadata(self.at(path)).map_err(self.failed("looking at", path))?;
        if !found.is_file() {
            // Nothing that we write.
            return Ok(Some(String::new()));
        }
        let bytes = fs::read(self.at(path)).map_err(self.failed("reading", path))?;
        Ok(Some(hex::encode(Sha256::digest(bytes))))
    }

    fn state(&self, entry: &Entry) -> Result<State, TreeError> {
        let there = self.digest_at(&entry.path)?;
        let ours = there.as_ref() == Some(&entry.sha256);
        Ok(match (&entry.kept, there) {
            (_, None) => State::Before,
            (None, Some(_)) if ours => State::Ours,
            (None, Some(_)) => State::Theirs,
            (Some(kept), Some(_)) => match self.exists(&format!("{RECORD}/{kept}"))? {
                false => State::Before,
                true if ours => State::Ours,
                true => State::Theirs,
            },
        })
    }

    fn steps(&self, plan: &Plan) -> Result<Vec<Step>, TreeError> {
        if !self.exists("etc")? || !self.at("etc").is_dir() {
            return Err(TreeError::InTheWay {
                path: self.at("etc"),
                expected: "the folder of a system's configuration",
            });
        }
        let mut folders = BTreeSet::new();
        let mut files = Vec::new();
        for (number, file) in plan.files.iter().enumerate() {
            let mut folder = Path::new(&file.path).parent();
            while let Some(path) = folder.filter(|it| !it.as_os_str().is_empty()) {
                let path_text = path.to_string_lossy().into_owned();
                if self.exists(&path_text)? {
                    if !self.at(&path_text).is_dir() || self.at(&path_text).is_symlink() {
                        return Err(TreeError::InTheWay {
                            path: self.at(&path_text),
                            expected: "a folder",
                        });
                    }
                } else {
                    folders.insert(path_text);
                }
                folder = path.parent();
            }
            let there = self.exists(&file.path)?;
            if there && self.at(&file.path).is_dir() {
                return Err(TreeError::InTheWay {
                    path: self.at(&file.path),
                    expected: "a file, or nothing",
                });
            }
            files.push(Entry {
                path: file.path.clone(),
                sha256: digest(file),
                kept: there.then(|| number.to_string()),
            });
        }
        let manifest = Manifest {
            version: 1,
            files,
            folders: folders.into_iter().collect(),
        };
        let mut steps = self.steps_of_record(&manifest)?;
        steps.extend(manifest.folders.iter().cloned().map(Step::Folder));
        for (file, entry) in plan.files.iter().zip(&manifest.files) {
            if let Some(kept) = &entry.kept {
                let kept = format!("{RECORD}/{kept}");
                steps.push(Step::Rename(file.path.clone(), kept));
            }
            let draft = draft(&file.path);
            steps.push(Step::Draft(
                draft.clone(),
                file.content.clone().into_bytes(),
            ));
            steps.push(Step::Rename(draft, file.path.clone()));
        }
        Ok(steps)
    }

    /// The record appears whole, and with the folder around it if that is not there.
    fn steps_of_record(&self, manifest: &Manifest) -> Result<Vec<Step>, TreeError> {
        let text =
            serde_json::to_string_pretty(manifest).map_err(|source| TreeError::Manifest {
                path: self.at(RECORD),
                source,
            })?;
        let mut steps = Vec::new();
        let (draft, folder, record) = if self.exists(OURS)? {
            (DRAFT_OF_RECORD, DRAFT_OF_RECORD.to_owned(), RECORD)
        } else {
            steps.push(Step::Folder(DRAFT_OF_OURS.to_owned()));
            (DRAFT_OF_OURS, format!("{DRAFT_OF_OURS}/provision"), OURS)
        };
        steps.push(Step::Folder(folder.clone()));
        if record == OURS {
            // Says that the folder around the record is ours too.
            steps.push(Step::Draft(format!("{folder}/{ALONE}"), Vec::new()));
        }
        let text = format!("{text}\n").into_bytes();
        steps.push(Step::Draft(format!("{folder}/{MANIFEST}"), text));
        steps.push(Step::Rename(draft.to_owned(), record.to_owned()));
        Ok(steps)
    }

    fn steps_back(&self, manifest: &Manifest) -> Result<(Vec<Step>, Undone), TreeError> {
        let (mut steps, mut undone) = (Vec::new(), Undone::default());
        for entry in manifest.files.iter().rev() {
            let draft = draft(&entry.path);
            if self.exists(&draft)? {
                steps.push(Step::Remove(draft));
            }
            let state = self.state(entry)?;
            if state == State::Theirs {
                undone.changed.push(entry.path.clone());
                continue;
            }
            let kept = entry.kept.as_ref().map(|kept| format!("{RECORD}/{kept}"));
            let kept = match kept {
                Some(kept) if self.exists(&kept)? => Some(kept),
                _ => None,
            };
            match kept {
                // A rename takes the place of what is there.
                Some(kept) => steps.push(Step::Rename(kept, entry.path.clone())),
                None if state == State::Ours => steps.push(Step::Remove(entry.path.clone())),
                None => continue,
            }
            undone.restored.push(entry.path.clone());
        }
        undone.restored.reverse();
        undone.changed.reverse();
        let folders = manifest.folders.iter().rev().cloned();
        steps.extend(folders.map(Step::RemoveEmpty));
        if undone.changed.is_empty() {
            let alone = self.exists(&format!("{RECORD}/{ALONE}"))? && self.only_record_in_ours()?;
            let (whole, draft) = match alone {
                true => (OURS, DRAFT_OF_OURS),
                false => (RECORD, DRAFT_OF_RECORD),
            };
            steps.push(Step::Rename(whole.to_owned(), draft.to_owned()));
            steps.push(Step::RemoveAll(draft.to_owned()));
        }
        Ok((steps, undone))
    }

    fn only_record_in_ours(&self) -> Result<bool, TreeError> {
        let entries = fs::read_dir(self.at(OURS)).map_err(self.failed("looking at", OURS))?;
        Ok(entries.count() == 1)
    }

    fn take(&self, step: &Step) -> Result<(), TreeError> {
        match step {
            // Modes are said: who calls may have a mask that hides from services what is for them.
            Step::Folder(path) => fs::create_dir(self.at(path))
                .and_then(|()| fs::set_permissions(self.at(path), mode(0o755)))
                .map_err(self.failed("making", path))?,
            Step::Draft(path, bytes) => OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(self.at(path))
                .and_then(|mut file| {
                    file.write_all(bytes)?;
                    file.set_permissions(mode(0o644))?;
                    file.sync_all()
                })
                .map_err(self.failed("writing", path))?,
            Step::Rename(from, to) => {
                fs::rename(self.at(from), self.at(to)).map_err(self.failed("moving", from))?;
                self.sync_folder(to)?;
            }
            Step::Remove(path) => {
                fs::remove_file(self.at(path)).map_err(self.failed("removing", path))?;
            }
            Step::RemoveEmpty(path) => match fs::remove_dir(self.at(path)) {
                Err(error)
                    if !matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    return Err(self.failed("removing", path)(error));
                }
                _ => {}
            },
            Step::RemoveAll(path) => {
                fs::remove_dir_all(self.at(path)).map_err(self.failed("removing", path))?;
            }
        }
        Ok(())
    }

    /// So that a name is on the disk before what depends on it.
    fn sync_folder(&self, path: &str) -> Result<(), TreeError> {
        let whole = self.at(path);
        let folder = whole.parent().unwrap_or(self.root);
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(self.failed("syncing the folder of", path))
    }
}

/// The name under which a file is written before it has its own; programs that read drop-ins look
/// at names with their own ending.
fn draft(path: &str) -> String {
    format!("{path}.caldera-draft")
}

fn mode(bits: u32) -> fs::Permissions {
    fs::Permissions::from_mode(bits)
}

fn digest(file: &DropIn) -> String {
    hex::encode(Sha256::digest(&file.content))
}

const OURS: &str = "etc/caldera";
const DRAFT_OF_OURS: &str = "etc/.caldera-draft";
const RECORD: &str = "etc/caldera/provision";
const DRAFT_OF_RECORD: &str = "etc/caldera/.provision-draft";
const MANIFEST: &str = "manifest.json";
const ALONE: &str = "made-the-folder-around";

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    use crate::plan::Effect;
    use proptest::prelude::*;

    /// Everything in a tree: kind, mode, owner, content, and the time of files.
    fn census(root: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                let found = fs::symlink_metadata(&path).expect("there");
                let name = path
                    .strip_prefix(root)
                    .expect("below")
                    .display()
                    .to_string();
                let content = if found.is_dir() {
                    folders.push(path);
                    String::from("folder")
                } else if found.is_symlink() {
                    fs::read_link(&path).expect("a link").display().to_string()
                } else {
                    let bytes = hex::encode(fs::read(&path).expect("read"));
                    format!("{bytes} {} {}", found.mtime(), found.mtime_nsec())
                };
                all.push(format!(
                    "{name} {:o} {} {content}",
                    found.mode(),
                    found.uid()
                ));
            }
        }
        all.sort();
        all
    }

    const PATHS: [&str; 5] = [
        "etc/default/grub.d/50-caldera.cfg",
        "etc/sysctl.d/50-caldera.conf",
        "etc/systemd/system/calderad.service.d/50-caldera.conf",
        "etc/systemd/system.conf.d/50-caldera.conf",
        "etc/udev/rules.d/50-caldera.rules",
    ];

    fn plan_of(contents: &[(usize, String)]) -> Plan {
        let file = |(path, content): &(usize, String)| DropIn {
            path: PATHS[*path].to_owned(),
            content: content.clone(),
            effect: Effect::Boot,
        };
        let mut files: Vec<_> = contents.iter().map(file).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Plan {
            division: None,
            files,
            notes: Vec::new(),
        }
    }

    /// A tree with some of the files that plans write, or links in their place, and some others.
    fn grow(root: &Path, before: &[(usize, String, u32)], ours: bool) {
        fs::create_dir(root.join("etc")).expect("made");
        if ours {
            fs::create_dir(root.join("etc/caldera")).expect("made");
            fs::write(root.join("etc/caldera/calderad.toml"), "mine").expect("written");
        }
        let others = [
            "etc/default/grub",
            "etc/sysctl.d/99-mine.conf",
            "etc/systemd/note",
        ];
        for (number, content, mode) in before {
            let all: Vec<_> = PATHS.iter().chain(&others).collect();
            let path = root.join(all[number % all.len()]);
            let _ = fs::create_dir_all(path.parent().expect("a folder"));
            if mode % 5 == 0 {
                let _ = std::os::unix::fs::symlink(content, &path);
            } else if !path.is_symlink() {
                fs::write(&path, content).expect("written");
                let mode = fs::Permissions::from_mode(0o400 | mode);
                fs::set_permissions(&path, mode).expect("set");
            }
        }
    }

    fn contents() -> impl Strategy<Value = Vec<(usize, String)>> {
        proptest::collection::vec((0..PATHS.len(), "[a-z]{0,3}"), 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever was there, and wherever applying and undoing were cut off: undoing restores all,
        /// and applying again comes to the same as applying once.
        #[test]
        fn interruptions_leave_a_tree_that_can_be_finished_either_way(
            before in proptest::collection::vec((0_usize..8, "[a-z]{1,3}", 0_u32..0o700), 0..8),
            ours in any::<bool>(),
            first in contents(),
            second in contents(),
            cut in 0_usize..40,
            cut_back in 0_usize..40,
        ) {
            let folder = tempfile::tempdir().expect("a folder");
            let root = folder.path();
            grow(root, &before, ours);
            let tree = Tree { root };
            let untouched = census(root);
            let [first, second] = [plan_of(&first), plan_of(&second)];

            apply(root, &first).expect("applied");
            let once = census(root);
            prop_assert_eq!(apply(root, &first).expect("again"), Applied::Unchanged);
            prop_assert_eq!(&census(root), &once);
            apply(root, &second).expect("another plan takes its place");
            for file in &second.files {
                let there = fs::read_to_string(root.join(&file.path)).expect("there");
                prop_assert_eq!(&there, &file.content);
            }
            let undone = undo(root).expect("undone");
            prop_assert_eq!(undone.changed, Vec::<String>::new());
            prop_assert_eq!(&census(root), &untouched);
            prop_assert_eq!(undo(root).expect("again"), Undone::default());

            // Applying is cut off, and then undoing is.
            let steps = tree.steps(&first).expect("steps");
            for step in steps.iter().take(cut) {
                tree.take(step).expect("taken");
            }
            tree.clear().expect("cleared");
            if let Some(manifest) = tree.manifest().expect("a record") {
                let (steps, _) = tree.steps_back(&manifest).expect("steps");
                for step in steps.iter().take(cut_back) {
                    tree.take(step).expect("taken");
                }
            }
            undo(root).expect("undone");
            prop_assert_eq!(&census(root), &untouched);

            for step in steps.iter().take(cut) {
                tree.take(step).expect("taken");
            }
            apply(root, &first).expect("applied");
            for file in &first.files {
                let there = fs::read_to_string(root.join(&file.path)).expect("there");
                prop_assert_eq!(&there, &file.content);
            }
            undo(root).expect("undone");
            prop_assert_eq!(&census(root), &untouched);
        }
    }

    #[test]
    fn a_record_cannot_name_what_no_plan_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        grow(root, &[], true);
        fs::create_dir(root.join(RECORD)).expect("made");
        let write = |path: &str, kept: &str| {
            let text = format!(
                r#"{{"version":1,"files":[{{"path":"{path}","sha256":"","kept":{kept}}}],"folders":[]}}"#
            );
            fs::write(root.join(RECORD).join(MANIFEST), text).expect("written");
            undo(root)
        };
        for path in [
            "usr/bin/caldera",
            "etc/../usr/bin/caldera",
            "/etc/passwd",
            "etc//x",
        ] {
            let refused = write(path, "null");
            assert!(matches!(refused, Err(TreeError::Strange { .. })), "{path}");
        }
        let refused = write("etc/x", "\"../../passwd\"");
        assert!(matches!(refused, Err(TreeError::Strange { .. })));
    }
}
