//! Sources: files on the box from which keys that were given back are read again.
//!
//! A tenant names a path, and this process would read it with its own rights, so what can be named is
//! narrow. The operator lists folders, and nothing outside of them is opened. Below such a folder the
//! path is walked one name at a time, each opened in the folder before it and none of them a link: no
//! `..`, no link and no rename meanwhile leads out. The listed folder itself may be reached by
//! links, for the operator has named it. What is there must be a regular file. A source holds
//! the key's exact bytes, by their digest, whenever it is looked at; so all that a tenant learns by
//! naming what is not its own is whether a file is there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::Digest;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The folders that an operator lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources(Vec<PathBuf>);

/// Why a source cannot be used.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It is not below a listed folder.
    #[error(
        "{path}: expected an absolute path of plain names below a folder of storage.key_sources"
    )]
    Outside {
        /// The path, cut to a length that a log can hold.
        path: String,
    },
    /// It cannot be opened or read.
    #[error("{}: expected a file that can be read", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system said; for a link, that there are too many.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{}: expected a regular file, got something else", path.display())]
    Kind {
        /// The path.
        path: PathBuf,
    },
    /// Another length.
    #[error("{}: expected {expected} bytes, got {got}", path.display())]
    Length {
        /// The path.
        path: PathBuf,
        /// That of the registered key.
        expected: u64,
        /// Its own.
        got: u64,
    },
    /// Another content.
    #[error("{}: expected the digest {expected}, got {got}", path.display())]
    Content {
        /// The path.
        path: PathBuf,
        /// That of the registered key.
        expected: Digest,
        /// Its own.
        got: Digest,
    },
}

impl Sources {
    /// Below these folders, which are absolute.
    pub fn new(folders: Vec<PathBuf>) -> Sources {
        Sources(folders)
    }

    /// Opens a source of a key of that length. What is open stays what it is, whatever becomes of its
    /// name; that its bytes are the key's is asked by whoever reads them.
    pub fn open(&self, path: &str, expected: u64) -> Result<File, SourceError> {
        let path = Path::new(path);
        let (folder, names) = self.walk(path).ok_or_else(|| SourceError::Outside {
            path: path.display().to_string().chars().take(200).collect(),
        })?;
        let failed = |source: Errno| SourceError::Io {
            path: path.to_owned(),
            source: source.into(),
        };
        let within = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at: OwnedFd = open(folder, within, Mode::empty()).map_err(failed)?;
        let (last, between) = names.split_last().ok_or_else(|| SourceError::Kind {
            path: path.to_owned(),
        })?;
        for name in between {
            at = openat(&at, *name, within | OFlag::O_NOFOLLOW, Mode::empty()).map_err(failed)?;
        }
        // A FIFO would otherwise hold the thread until somebody writes to it.
        let plain = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(&at, *last, plain, Mode::empty()).map_err(failed)?);
        let metadata = file.metadata().map_err(|source| SourceError::Io {
            path: path.to_owned(),
            source,
        })?;
        if !metadata.is_file() {
            return Err(SourceError::Kind {
                path: path.to_owned(),
            });
        }
        let got = metadata.len();
        if got != expected {
            return Err(SourceError::Length {
                path: path.to_owned(),
                expected,
                got,
            });
        }
        Ok(file)
    }

    /// Reads a whole source and gives it away piece by piece, for as long as the other side takes it.
    /// Afterwards its digest is known to be the key's.
    pub fn read<E: From<SourceError>>(
        &self,
        path: &str,
        expected: (Digest, u64),
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (digest, length) = expected;
        // One byte more than there should be, so that a file that grows is seen to.
        let mut file = self.open(path, length)?.take(length.saturating_add(1));
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        let mut got = 0;
        loop {
            let count = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    let path = path.into();
                    return Err(SourceError::Io { path, source }.into());
                }
            };
            got += count as u64;
            if got > length {
                break;
            }
            hasher.update(&piece[..count]);
            take(&piece[..count])?;
        }
        if got != length {
            return Err(SourceError::Length {
                path: path.into(),
                expected: length,
                got,
            }
            .into());
        }
        let got = Digest(hasher.finalize().into());
        if got != digest {
            return Err(SourceError::Content {
                path: path.into(),
                expected: digest,
                got,
            }
            .into());
        }
        Ok(())
    }

    /// The listed folder that a path is below, and the names from there on.
    fn walk<'a>(&self, path: &'a Path) -> Option<(&Path, Vec<&'a OsStr>)> {
        self.0.iter().find_map(|folder| {
            let rest = path.strip_prefix(folder).ok()?;
            let names = rest.components().map(|component| match component {
                Component::Normal(name) => Some(name),
                _ => None,
            });
            Some((folder.as_path(), names.collect::<Option<Vec<_>>>()?))
        })
    }
}

impl From<SourceError> for RpcError {
    fn from(error: SourceError) -> RpcError {
        // Who was told more could learn which files there are, and how long, without having them.
        let detail = match &error {
            SourceError::Outside { .. } => error.to_string(),
            SourceError::Io { path, .. }
            | SourceError::Kind { path }
            | SourceError::Length { path, .. }
            | SourceError::Content { path, .. } => {
                tracing::info!(error = %chain(&error), "a key's source");
                format!("{}: expected a file that holds the key", path.display())
            }
        };
        RpcError::KeySource { detail }
    }
}

const PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_of_the_listed_folders_is_opened() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("a path");
        let keys = root.join("keys");
        fs::create_dir_all(keys.join("of/alice")).expect("made");
        fs::write(root.join("secret"), b"12345").expect("written");
        fs::write(keys.join("of/alice/a.zkey"), b"12345").expect("written");
        symlink(&root, keys.join("out")).expect("linked");
        symlink("../secret", keys.join("link")).expect("linked");
        symlink("of/alice/a.zkey", keys.join("inner")).expect("linked");
        symlink(&keys, root.join("other")).expect("linked");
        nix::unistd::mkfifo(&keys.join("fifo"), Mode::from_bits_truncate(0o600)).expect("made");

        let sources = Sources::new(vec![keys.clone(), root.join("other")]);
        let open = |path: &str| sources.open(&format!("{}/{path}", root.display()), 5);
        assert!(open("keys/of/alice/a.zkey").is_ok());
        assert!(open("keys/./of//alice/a.zkey").is_ok());
        assert!(open("other/of/alice/a.zkey").is_ok(), "the operator's link");
        for outside in [
            "secret",
            "keys/../secret",
            "keys/of/../../secret",
            "keysy/a",
            "keys/of/..",
        ] {
            let error = open(outside).expect_err(outside);
            assert!(matches!(error, SourceError::Outside { .. }), "{error}");
        }
        for link in ["keys/link", "keys/inner", "keys/out/secret", "keys/none"] {
            let error = open(link).expect_err(link);
            assert!(matches!(error, SourceError::Io { .. }), "{error}");
        }
        for kind in ["keys", "keys/of", "keys/fifo"] {
            let error = open(kind).expect_err(kind);
            assert!(matches!(error, SourceError::Kind { .. }), "{error}");
        }
        for path in ["", "secret", "of/alice/a.zkey", "/"] {
            let error = sources.open(path, 5).expect_err(path);
            assert!(matches!(error, SourceError::Outside { .. }), "{error}");
        }
        let error = Sources::default().open("/etc/passwd", 5);
        assert!(matches!(error, Err(SourceError::Outside { .. })));
    }

    #[test]
    fn only_the_exact_bytes_are_the_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.zkey");
        let bytes = vec![7; PIECE_BYTES + 9];
        fs::write(&path, &bytes).expect("written");
        let sources = Sources::new(vec![folder.path().to_owned()]);
        let path = path.to_str().expect("text").to_owned();
        let digest = Digest(Sha256::digest(&bytes).into());
        let read = |digest, length: u64| {
            let mut all = Vec::new();
            sources
                .read(&path, (digest, length), |piece| {
                    all.extend_from_slice(piece);
                    Ok::<_, SourceError>(())
                })
                .map(|()| all)
        };
        let length = bytes.len() as u64;
        assert_eq!(read(digest, length).expect("the key"), bytes);
        let error = read(Digest([0; 32]), length).expect_err("another digest");
        assert!(matches!(error, SourceError::Content { .. }), "{error}");
        for other in [length - 1, length + 1] {
            let error = read(digest, other).expect_err("another length");
            assert!(matches!(error, SourceError::Length { .. }), "{error}");
        }
        fs::remove_file(&path).expect("removed");
        let error = read(digest, length).expect_err("gone");
        assert!(error.to_string().contains(&path), "{error}");
    }
}
