//! A disk that loses power: what may be left of a tape that was cut.
//!
//! The model is the one that POSIX allows and no file system is worse than. What a file held when it was last
//! synced is there. Of the writes since, each sector of 512 bytes has arrived or not, whatever came before
//! or after it: so writes are dropped, torn and reordered. A change of a folder is there once the folder
//! was synced; of those since, some have arrived, in their order, and each folder for itself: so a file that
//! was renamed from one to another may be in both, or in neither.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::recorder::Op;

/// Which syncs are believed. All of them, but where a test shows that it would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syncs {
    All,
    /// Those of the tables are not.
    WithoutTables,
    /// Those of blobs are not.
    WithoutBlobs,
    /// Those of folders are not.
    WithoutFolders,
}

/// The disk, as a tape makes it.
pub(crate) struct Disk {
    syncs: Syncs,
    files: Vec<File>,
    /// Which of the files an inode is now; numbers are used again.
    inodes: HashMap<u64, usize>,
    folders: BTreeMap<PathBuf, Folder>,
    /// The names as the process sees them.
    names: HashMap<PathBuf, usize>,
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    since: Vec<Change>,
    of_tables: bool,
}

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Default)]
struct Folder {
    synced: BTreeMap<PathBuf, Name>,
    since: Vec<(PathBuf, Option<Name>)>,
}

#[derive(Clone, Copy)]
enum Name {
    File(usize),
    Folder,
}

/// Small, fast, and the same on every machine: SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

impl Disk {
    pub(crate) fn new(syncs: Syncs) -> Disk {
        Disk {
            syncs,
            files: Vec::new(),
            inodes: HashMap::new(),
            folders: BTreeMap::from([(PathBuf::new(), Folder::default())]),
            names: HashMap::new(),
        }
    }

    /// Takes the next operation in.
    pub(crate) fn take(&mut self, op: &Op) {
        match op {
            Op::Create(path, inode) => {
                let of_tables = path.to_string_lossy().contains("sqlite");
                self.files.push(File {
                    of_tables,
                    ..File::default()
                });
                let file = self.files.len() - 1;
                self.inodes.insert(*inode, file);
                self.names.insert(path.clone(), file);
                self.change(path, Some(Name::File(file)));
            }
            Op::Folder(path) => {
                self.folders.entry(path.clone()).or_default();
                self.change(path, Some(Name::Folder));
            }
            Op::Write(inode, at, bytes) => {
                if let Some(file) = self.inodes.get(inode) {
                    self.files[*file]
                        .since
                        .push(Change::Write(*at, bytes.clone()));
                }
            }
            Op::Truncate(inode, length) => {
                if let Some(file) = self.inodes.get(inode) {
                    self.files[*file].since.push(Change::Truncate(*length));
                }
            }
            Op::Sync(inode) => {
                if let Some(file) = self.inodes.get(inode) {
                    let file = &mut self.files[*file];
                    let ignored = match self.syncs {
                        Syncs::WithoutTables => file.of_tables,
                        Syncs::WithoutBlobs => !file.of_tables,
                        _ => false,
                    };
                    if !ignored {
                        for change in std::mem::take(&mut file.since) {
                            change.apply(&mut file.synced, |_| true);
                        }
                    }
                }
            }
            Op::SyncFolder(path) => {
                if self.syncs != Syncs::WithoutFolders
                    && let Some(folder) = self.folders.get_mut(path)
                {
                    for (name, now) in std::mem::take(&mut folder.since) {
                        set(&mut folder.synced, name, now);
                    }
                }
            }
            Op::Rename(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                    self.change(from, None);
                    self.change(to, Some(Name::File(file)));
                }
            }
            Op::Unlink(path) => {
                self.names.remove(path);
                self.change(path, None);
            }
            Op::Mark(_) => {}
        }
    }

    fn change(&mut self, path: &Path, now: Option<Name>) {
        let folder = path.parent().unwrap_or(Path::new(""));
        let folder = self.folders.entry(folder.to_owned()).or_default();
        folder.since.push((path.to_owned(), now));
    }

    /// Writes what may be left if the power fails now into an empty folder.
    pub(crate) fn cut(&self, into: &Path, chance: &mut Chance) {
        // Some cuts lose all that was not synced, some nothing, and most something.
        let (kept, of) = [(0, 1), (1, 1), (1, 2), (9, 10), (1, 10)][chance.below(5)];
        self.cut_folder(Path::new(""), into, chance, (kept, of));
    }

    fn cut_folder(&self, path: &Path, into: &Path, chance: &mut Chance, odds: (usize, usize)) {
        let Some(folder) = self.folders.get(path) else {
            return;
        };
        let mut names = folder.synced.clone();
        let arrived = match odds {
            (0, _) => 0,
            (1, 1) => folder.since.len(),
            _ => chance.below(folder.since.len() + 1),
        };
        for (name, now) in &folder.since[..arrived] {
            set(&mut names, name.clone(), *now);
        }
        for (name, what) in names {
            match what {
                Name::Folder => {
                    std::fs::create_dir(into.join(&name)).expect("a folder");
                    self.cut_folder(&name, into, chance, odds);
                }
                Name::File(file) => {
                    let file = &self.files[file];
                    let mut bytes = file.synced.clone();
                    for change in &file.since {
                        change.apply(&mut bytes, |_| chance.below(odds.1) < odds.0);
                    }
                    std::fs::write(into.join(name), bytes).expect("a file");
                }
            }
        }
    }
}

impl Change {
    /// Applies those sectors of it that have arrived.
    fn apply(&self, bytes: &mut Vec<u8>, mut arrived: impl FnMut(u64) -> bool) {
        match self {
            Change::Truncate(length) => {
                if arrived(0) {
                    bytes.resize(*length as usize, 0);
                }
            }
            Change::Write(at, new) => {
                let mut from = 0;
                while from < new.len() {
                    let place = *at as usize + from;
                    let to = (from + SECTOR - place % SECTOR).min(new.len());
                    if arrived(place as u64) {
                        let end = place + to - from;
                        if bytes.len() < end {
                            bytes.resize(end, 0);
                        }
                        bytes[place..end].copy_from_slice(&new[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

fn set(names: &mut BTreeMap<PathBuf, Name>, name: PathBuf, now: Option<Name>) {
    match now {
        Some(now) => drop(names.insert(name, now)),
        None => drop(names.remove(&name)),
    }
}

const SECTOR: usize = 512;
