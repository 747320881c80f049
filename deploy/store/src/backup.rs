//! A copy of all that a box keeps, taken while it runs, and put back where there is nothing yet.
//!
//! ```text
//! <backup>/SHA256SUMS                       every file below, as sha256sum(1) writes and checks it
//! <backup>/caldera.sqlite                   one state of the database
//! <backup>/blobs/tenants/<tenant>/<digest>  the blobs that go with it
//! <backup>/secrets/<name>                   only if they are asked for
//! ```
//!
//! **One state.** The database is written out by one read transaction (`VACUUM INTO`), which also leaves behind what was freed.
//! Blobs never change under their name, so a copy whose digest is its name is right whenever it was made; but they come and go. So
//! most are copied first, then the database, then what has come since; and if the database names a blob that was not
//! there any more, both are done again. A blob that two rounds name and none finds is not there on the box either: a key that was
//! given back, for one, or on a busy box the witness of a job that has ended since. What has gone from the box meanwhile and is not named (a witness whose job has ended) goes from the copy too.
//!
//! A backup appears under its name when it is complete and on the disk, and a restored folder when all of it has been checked. Neither
//! takes the place of anything but an empty folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rusqlite::params;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::TenantName;
use crate::database::{Database, DatabaseError};

/// What a backup holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// Blobs.
    pub blobs: u64,
    /// Blobs that the database names and that the box does not have.
    pub absent: u64,
    /// Files of secrets.
    pub secrets: u64,
    /// Bytes of all files.
    pub bytes: u64,
}

/// Why there is no backup, or why it was not put back.
#[derive(Debug, Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{}: expected nothing or an empty folder, got something: move it away", .path.display())]
    Occupied {
        /// What.
        path: PathBuf,
    },
    /// It is not the folder of a box, or not a backup of one.
    #[error("{} is not there: expected {expected}", .path.display())]
    Missing {
        /// What is not there.
        path: PathBuf,
        /// What it would have shown.
        expected: &'static str,
    },
    /// A file is not what its name, or the list, says.
    #[error("{}: expected SHA-256 {expected}, got {got}", .path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: String,
        /// What is there.
        got: String,
    },
    /// A line of the list is none.
    #[error("{}: line {line}: expected a digest and the path of a file of a backup", .path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// A file that is not on the list.
    #[error("{} is not on the list of the backup", .path.display())]
    Unlisted {
        /// The file.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("{}: expected a sound database, got: {got}", .path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        got: String,
    },
    /// The database cannot be used.
    #[error("{}", .path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: DatabaseError,
    },
    /// The operating system refuses.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Copies what the box of the folder `data` keeps into the folder `backup`, beside a box that runs or does not. Without `secrets`
/// nobody can sign with what is in it.
pub fn save(data: &Path, backup: &Path, secrets: bool) -> Result<Contents, BackupError> {
    let database = data.join(DATABASE);
    if !database.is_file() {
        let expected = "the data folder of a calderad that has been started";
        return Err(BackupError::Missing {
            path: database,
            expected,
        });
    }
    let unfinished = begin(backup)?;
    let mut copy = Copy {
        from: data.to_owned(),
        to: unfinished.path.clone(),
        files: BTreeMap::new(),
    };
    copy.blobs()?;
    let (mut named, mut absent) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS_MAX {
        named = copy.database()?;
        copy.blobs()?;
        let gone = named.iter().filter(|path| !copy.files.contains_key(*path));
        let gone: BTreeSet<String> = gone.cloned().collect();
        let settled = gone.is_subset(&absent);
        absent = gone;
        if settled {
            break;
        }
    }
    copy.forget(&named)?;
    if secrets {
        copy.secrets()?;
    }
    let contents = copy.contents(absent.len() as u64)?;
    let list: String = copy
        .files
        .iter()
        .map(|(path, digest)| format!("{digest}  {path}\n"))
        .collect();
    let path = copy.to.join(LIST);
    create(&path, 0o600)
        .and_then(|mut file| {
            file.write_all(list.as_bytes())?;
            file.sync_all()
        })
        .map_err(failed("write", &path))?;
    unfinished.finish(backup)?;
    Ok(contents)
}

/// Checks a backup and makes the folder `data` of it, for a box that is not there yet. If the folder is there, which has to be empty,
/// what is in it will have its owner.
pub fn restore(backup: &Path, data: &Path) -> Result<Contents, BackupError> {
    let list = read_list(&backup.join(LIST))?;
    let mut unlisted = Vec::new();
    walk(backup, Path::new(""), &mut unlisted)?;
    unlisted.retain(|path| path != LIST && !list.contains_key(path));
    if let Some(path) = unlisted.first() {
        return Err(BackupError::Unlisted {
            path: backup.join(path),
        });
    }
    let owner = match data.metadata() {
        Ok(it) => Some((it.uid(), it.gid())),
        Err(_) => None,
    };
    let unfinished = begin(data)?;
    let mut copy = Copy {
        from: backup.to_owned(),
        to: unfinished.path.clone(),
        files: BTreeMap::new(),
    };
    for (path, expected) in &list {
        let got = copy.file(path)?;
        if got != *expected {
            return Err(BackupError::Digest {
                path: backup.join(path),
                expected: expected.clone(),
                got,
            });
        }
    }
    let path = copy.to.join(DATABASE);
    if !path.is_file() {
        let expected = "the database of a backup";
        return Err(BackupError::Missing { path, expected });
    }
    let named = sound(&path)?;
    let absent = named.iter().filter(|path| !list.contains_key(*path));
    let contents = copy.contents(absent.count() as u64)?;
    if let Some((user, group)) = owner {
        let mut all = Vec::new();
        walk(&copy.to, Path::new(""), &mut all)?;
        let mut paths: BTreeSet<PathBuf> = all.iter().map(|path| copy.to.join(path)).collect();
        let folders: Vec<PathBuf> = paths
            .iter()
            .flat_map(|path| path.ancestors().map(Path::to_owned))
            .filter(|path| path.starts_with(&copy.to))
            .collect();
        paths.extend(folders);
        for path in paths {
            chown(&path, Some(user), Some(group)).map_err(failed("give away", &path))?;
        }
    }
    unfinished.finish(data)?;
    Ok(contents)
}

/// A folder that has not got its name yet; removed if it never gets it.
struct Unfinished {
    path: PathBuf,
    done: bool,
}

/// Makes a folder beside the one that is wanted, if nothing is there that would be lost.
/// A file that is read, and nothing that only leads to one, or waits: whoever runs the box may not be who copies it.
fn plain(path: &Path) -> Result<File, BackupError> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(failed("read", path))?;
    if !file.metadata().map_err(failed("read", path))?.is_file() {
        let error = io::Error::other("expected a file, got something else");
        return Err(failed("read", path)(error));
    }
    Ok(file)
}

fn begin(wanted: &Path) -> Result<Unfinished, BackupError> {
    let occupied = |path: &Path| {
        Err(BackupError::Occupied {
            path: path.to_owned(),
        })
    };
    match fs::read_dir(wanted) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return occupied(wanted);
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) if wanted.symlink_metadata().is_ok() => return occupied(wanted),
        Err(source) => return Err(failed("read", wanted)(source)),
    }
    let mut name = wanted.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let path = wanted.with_file_name(name);
    if path.symlink_metadata().is_ok() {
        return occupied(&path);
    }
    folder(&path)?;
    let unfinished = Unfinished { path, done: false };
    let device = |path: &Path| Ok(fs::metadata(path).map_err(failed("read", path))?.dev());
    if wanted.exists() && device(wanted)? != device(&unfinished.path)? {
        // It could not be given its name at the end.
        let error =
            io::Error::other("expected a folder, got where another disk begins: name one below it");
        return Err(failed("write", wanted)(error));
    }
    Ok(unfinished)
}

impl Unfinished {
    fn finish(mut self, wanted: &Path) -> Result<(), BackupError> {
        sync_folders(&self.path)?;
        fs::rename(&self.path, wanted).map_err(failed("give its name to", wanted))?;
        self.done = true;
        let parent = match wanted.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        sync(parent)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // What cannot be removed is found by the next, which says so.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Files on their way from one folder to another.
struct Copy {
    from: PathBuf,
    to: PathBuf,
    /// Those that are there, by their path below either, with their digests.
    files: BTreeMap<String, String>,
}

impl Copy {
    /// Copies a file and gives its digest. The names of a file's folders are taken as they are.
    fn file(&mut self, path: &str) -> Result<String, BackupError> {
        let (from, to) = (self.from.join(path), self.to.join(path));
        let input = plain(&from)?;
        if let Some(parent) = to.parent() {
            folder(parent)?;
        }
        // Blobs never change again, and a store insists on that.
        let mode = if path.starts_with(BLOBS) {
            0o400
        } else {
            0o600
        };
        let mut output = create(&to, mode).map_err(failed("make", &to))?;
        let digest = digest(input, &from, |piece| {
            output.write_all(piece).map_err(failed("write", &to))
        })?;
        output.sync_all().map_err(failed("write", &to))?;
        self.files.insert(path.to_owned(), digest.clone());
        Ok(digest)
    }

    /// Copies all blobs that are not copied yet.
    fn blobs(&mut self) -> Result<(), BackupError> {
        let mut paths = Vec::new();
        let root = self.from.clone();
        if root.join(BLOBS).is_dir() {
            walk(&root, Path::new(BLOBS), &mut paths)?;
        }
        for path in paths {
            if self.files.contains_key(&path) || kind(&path) != Some(Kind::Blob) {
                continue;
            }
            self.blob(&path)?;
        }
        Ok(())
    }

    /// Copies a blob, unless it goes meanwhile.
    fn blob(&mut self, path: &str) -> Result<(), BackupError> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let mut wrong = None;
        for _ in 0..ATTEMPTS {
            let copied = self.file(path);
            let is_there = self.from.join(path).is_file();
            match copied {
                Ok(got) if got == name => return Ok(()),
                Ok(got) => wrong = Some(got),
                Err(error) if is_there => return Err(error),
                Err(_) => {}
            }
            self.remove(path)?;
            // It went while it was read: witnesses are overwritten when their jobs have ended.
            if !is_there {
                return Ok(());
            }
        }
        Err(BackupError::Digest {
            path: self.from.join(path),
            expected: name.to_owned(),
            got: wrong.unwrap_or_default(),
        })
    }

    /// Writes the database out as it is now, and gives the paths of the blobs that it names.
    fn database(&mut self) -> Result<BTreeSet<String>, BackupError> {
        let (from, to) = (self.from.join(DATABASE), self.to.join(DATABASE));
        self.remove(DATABASE)?;
        let source = Database::open_to_read(&from).map_err(of_database(&from))?;
        // Made here, so that nobody but its owner can read it; SQLite writes into what is empty.
        create(&to, 0o600).map_err(failed("make", &to))?;
        let path = to.to_string_lossy().into_owned();
        source
            .connection
            .execute("VACUUM INTO ?1", params![path])
            .map_err(|error| of_database(&to)(error.into()))?;
        drop(source);
        let named = sound(&to)?;
        let file = File::open(&to).map_err(failed("read", &to))?;
        file.sync_all().map_err(failed("write", &to))?;
        let digest = digest(file, &to, |_| Ok(()))?;
        self.files.insert(DATABASE.to_owned(), digest);
        Ok(named)
    }

    /// Drops blobs that have gone from the box and that the database does not name.
    fn forget(&mut self, named: &BTreeSet<String>) -> Result<(), BackupError> {
        let stale: Vec<String> = self
            .files
            .keys()
            .filter(|path| kind(path) == Some(Kind::Blob) && !named.contains(*path))
            .filter(|path| !self.from.join(path).is_file())
            .cloned()
            .collect();
        stale.iter().try_for_each(|path| self.remove(path))
    }

    fn secrets(&mut self) -> Result<(), BackupError> {
        let mut paths = Vec::new();
        let root = self.from.clone();
        if root.join(SECRETS).is_dir() {
            walk(&root, Path::new(SECRETS), &mut paths)?;
        }
        for path in paths {
            if kind(&path) == Some(Kind::Secret) {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<(), BackupError> {
        self.files.remove(path);
        let path = self.to.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn contents(&self, absent: u64) -> Result<Contents, BackupError> {
        let mut contents = Contents {
            absent,
            ..Contents::default()
        };
        for path in self.files.keys() {
            let file = self.to.join(path);
            let metadata = file.metadata().map_err(failed("look at", &file))?;
            contents.bytes += metadata.len();
            match kind(path) {
                Some(Kind::Blob) => contents.blobs += 1,
                Some(Kind::Secret) => contents.secrets += 1,
                _ => {}
            }
        }
        Ok(contents)
    }
}

/// What a path in a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Database,
    Blob,
    Secret,
}

/// `None` for a path that no backup has; so none leads out of its folder.
fn kind(path: &str) -> Option<Kind> {
    if path == DATABASE {
        return Some(Kind::Database);
    }
    if let Some(blob) = path.strip_prefix(BLOBS) {
        let (tenant, digest) = blob.strip_prefix('/')?.split_once('/')?;
        let named = tenant.parse::<TenantName>().is_ok() && is_digest(digest);
        return named.then_some(Kind::Blob);
    }
    let secret = path.strip_prefix(SECRETS)?.strip_prefix('/')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let named = !secret.is_empty() && !secret.starts_with('.') && secret.bytes().all(fits);
    named.then_some(Kind::Secret)
}

fn is_digest(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f');
    text.len() == 64 && text.bytes().all(fits)
}

/// Files by their digests, as sha256sum(1) writes them.
fn read_list(path: &Path) -> Result<BTreeMap<String, String>, BackupError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::Missing {
                path: path.to_owned(),
                expected: "a backup that caldera backup has made",
            });
        }
        text => text.map_err(failed("read", path))?,
    };
    let mut list = BTreeMap::new();
    for (line, number) in text.lines().zip(1..) {
        let entry = line.split_once("  ");
        let entry = entry.filter(|(digest, file)| is_digest(digest) && kind(file).is_some());
        let Some((digest, file)) = entry else {
            return Err(BackupError::Line {
                path: path.to_owned(),
                line: number,
            });
        };
        list.insert(file.to_owned(), digest.to_owned());
    }
    Ok(list)
}

/// Has SQLite look at all of a database, and gives the paths of the blobs that it names.
fn sound(path: &Path) -> Result<BTreeSet<String>, BackupError> {
    let failed = of_database(path);
    let database = Database::open(path).map_err(&failed)?;
    let connection = &database.connection;
    let sqlite = |error: rusqlite::Error| failed(error.into());
    let got: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(sqlite)?;
    if got != "ok" {
        return Err(BackupError::Unsound {
            path: path.to_owned(),
            got,
        });
    }
    // A file that is opened anew has no log beside it.
    let _: String = connection
        .query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0))
        .map_err(sqlite)?;
    let mut query = connection.prepare(NAMED).map_err(sqlite)?;
    let rows = query.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 32]>(1)?))
    });
    let rows = rows.map_err(sqlite)?.collect::<Result<Vec<_>, _>>();
    let rows = rows.map_err(sqlite)?.into_iter();
    let named = rows.map(|(tenant, digest)| format!("{BLOBS}/{tenant}/{}", hex::encode(digest)));
    Ok(named.collect())
}

/// The digest of a file, whose pieces are handed on as they are read.
fn digest(
    mut file: File,
    path: &Path,
    mut hand_on: impl FnMut(&[u8]) -> Result<(), BackupError>,
) -> Result<String, BackupError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = file.read(&mut buffer).map_err(failed("read", path))?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        hand_on(&buffer[..count])?;
    }
}

/// All files below a folder of a root, by their paths below the root.
fn walk(root: &Path, below: &Path, files: &mut Vec<String>) -> Result<(), BackupError> {
    let path = root.join(below);
    let entries = match fs::read_dir(&path) {
        // It went meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", &path))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", &path))?;
        let below = below.join(entry.file_name());
        match entry.file_type().map_err(failed("look at", &path))? {
            kind if kind.is_dir() => walk(root, &below, files)?,
            // What is neither, a link for one, is on no list and so in no backup.
            _ => files.push(below.to_string_lossy().into_owned()),
        }
    }
    Ok(())
}

fn sync_folders(path: &Path) -> Result<(), BackupError> {
    for entry in fs::read_dir(path).map_err(failed("read", path))? {
        let entry = entry.map_err(failed("read", path))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_folders(&entry.path())?;
        }
    }
    sync(path)
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed("write", folder))
}

fn folder(path: &Path) -> Result<(), BackupError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(path);
    made.map_err(failed("make", path))
}

fn create(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Io {
        action,
        path: path.clone(),
        source,
    }
}

fn of_database(path: &Path) -> impl Fn(DatabaseError) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::Database {
        path: path.clone(),
        source,
    }
}

const DATABASE: &str = "caldera.sqlite";
const BLOBS: &str = "blobs/tenants";
const SECRETS: &str = "secrets";
const LIST: &str = "SHA256SUMS";
/// What circuits and unfinished jobs need.
const NAMED: &str = "
SELECT tenant, digest FROM circuits
UNION SELECT tenant, program FROM circuits WHERE program IS NOT NULL
UNION SELECT tenant, witness FROM jobs WHERE state IS NULL AND in_row IS NULL";
/// On a box from which blobs go all the time each round may miss another; those of the last are counted as absent.
const ROUNDS_MAX: usize = 8;
/// One that went while it was read may have come again before it was looked for.
const ATTEMPTS: usize = 3;
const BUFFER_BYTES: usize = 1 << 20;
