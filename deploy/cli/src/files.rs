//! Files that a user names: reading them in, and writing results so that either all of them
//! appear or none does.
//!
//! Reading. A small file is read, a large one is mapped, so that a proving key of many
//! gigabytes costs page cache and not memory of our own. The price of a mapping is that the
//! process dies by SIGBUS when somebody truncates the file while we compute; hence only regular
//! files above [`MAPPED_BYTES_MIN`] are mapped, and `calderad` maps nothing but its own store.
//! Anything that is not a regular file (a pipe, `/dev/stdin`) is read to its end.
//!
//! Writing. Each result is written to an unnamed neighbour of its destination, flushed to disk,
//! and renamed over it, so that no reader ever sees half a proof and a failure leaves nothing
//! behind. A destination that exists and is not a regular file (`/dev/stdout`, a pipe) is
//! written to directly, since renaming over it would replace the device.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// A whole file as bytes: read if small, mapped if large. What was read may be a witness, so it
/// is overwritten with zeros when the last slice of it is dropped.
pub(crate) fn read(path: &Path) -> anyhow::Result<Bytes> {
    let read = || -> io::Result<Bytes> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_file() && metadata.len() >= MAPPED_BYTES_MIN {
            // SAFETY: the mapping is private to this process and read-only. Its bytes change only
            // if another process writes to the file that the user named; the readers take every
            // byte as hostile anyway, and a truncation ends the process, as said at the top.
            let map = unsafe { memmap2::Mmap::map(&file)? };
            return Ok(Bytes::from_owner(map));
        }
        // A buffer that grows leaves copies behind; a regular file says its size beforehand, and
        // one byte more lets `read_to_end` see the end without growing.
        let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
        file.read_to_end(&mut bytes)?;
        Ok(Bytes::from_owner(Secret(bytes)))
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

struct Secret(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Results on their way to disk: nothing is visible under its own name before [`Outputs::commit`].
#[derive(Default)]
pub(crate) struct Outputs {
    staged: Vec<Staged>,
}

enum Staged {
    Rename(NamedTempFile, PathBuf),
    Direct(Vec<u8>, PathBuf),
}

impl Outputs {
    /// Refuses destinations that cannot be written, before hours are spent on a proof.
    pub(crate) fn check(path: &Path) -> anyhow::Result<()> {
        let blame = || cannot_write(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                Err(io::Error::from(io::ErrorKind::IsADirectory)).with_context(blame)
            }
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(folder_of(path)).with_context(blame).map(drop)
            }
            Err(error) => Err(error).with_context(blame),
        }
    }

    /// Stages one file that `fill` writes.
    pub(crate) fn add(
        &mut self,
        path: &Path,
        fill: impl FnOnce(&mut dyn Write) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        match fs::metadata(path) {
            Ok(metadata) if !metadata.is_file() => {
                let mut bytes = Vec::new();
                fill(&mut bytes)?;
                self.staged.push(Staged::Direct(bytes, path.to_owned()));
            }
            existing => {
                // A symbolic link keeps pointing where it points: its target is replaced.
                let target = match existing {
                    Ok(_) => fs::canonicalize(path).with_context(|| cannot_write(path))?,
                    Err(_) => path.to_owned(),
                };
                let mut file = tempfile::Builder::new()
                    .prefix(".caldera-")
                    // The umask takes away what the user wants taken away.
                    .permissions(fs::Permissions::from_mode(0o666))
                    .tempfile_in(folder_of(&target))
                    .with_context(|| cannot_write(path))?;
                let mut writer = io::BufWriter::with_capacity(1 << 20, file.as_file_mut());
                fill(&mut writer)?;
                writer.flush().with_context(|| cannot_write(path))?;
                drop(writer);
                file.as_file()
                    .sync_all()
                    .with_context(|| cannot_write(path))?;
                self.staged.push(Staged::Rename(file, target));
            }
        }
        Ok(())
    }

    /// Gives every staged file its name. If one cannot be named, those before it are removed
    /// again, and the rest vanish with their temporary names.
    pub(crate) fn commit(self) -> anyhow::Result<()> {
        let mut named: Vec<PathBuf> = Vec::new();
        for staged in self.staged {
            let (result, path) = match staged {
                Staged::Rename(file, path) => {
                    (file.persist(&path).map(drop).map_err(|e| e.error), path)
                }
                Staged::Direct(bytes, path) => {
                    let result = File::options()
                        .write(true)
                        .open(&path)
                        .and_then(|mut file| file.write_all(&bytes));
                    if let Err(error) = result {
                        remove_all(&named);
                        return Err(error).with_context(|| cannot_write(&path));
                    }
                    continue;
                }
            };
            if let Err(error) = result {
                remove_all(&named);
                return Err(error).with_context(|| cannot_write(&path));
            }
            named.push(path);
        }
        Ok(())
    }
}

fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        // The error that led here is the one to report.
        let _ = fs::remove_file(path);
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// From here on a mapping beats a copy: reading 64 MiB takes about 20 ms, less than any proof
/// with a key of that size.
const MAPPED_BYTES_MIN: u64 = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_named_before_commit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proof.json");
        let mut outputs = Outputs::default();
        outputs.add(&path, |w| Ok(w.write_all(b"{}")?)).unwrap();
        assert!(!path.exists());
        outputs.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"{}");
    }

    #[test]
    fn a_failed_pair_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("a"), folder.path().join("b"));
        let mut outputs = Outputs::default();
        for path in [&first, &second] {
            outputs.add(path, |w| Ok(w.write_all(b"x")?)).unwrap();
        }
        // A folder that takes the second name between staging and committing.
        fs::create_dir(&second).unwrap();
        assert!(outputs.commit().is_err());
        fs::remove_dir(&second).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        fs::write(&target, b"old").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut outputs = Outputs::default();
        outputs.add(&link, |w| Ok(w.write_all(b"new")?)).unwrap();
        outputs.commit().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let mut outputs = Outputs::default();
        let null = Path::new("/dev/null");
        outputs.add(null, |w| Ok(w.write_all(b"x")?)).unwrap();
        outputs.commit().unwrap();
        assert!(!fs::metadata(null).unwrap().is_file());
    }
}
