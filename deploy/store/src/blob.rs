//! Keys and witnesses as files, each named by its tenant and the SHA-256 digest of its content.
//!
//! ```text
//! <folder>/lock                      held while a store is open; a second one is refused
//! <folder>/incoming/<number>         being written; swept when a store is opened
//! <folder>/tenants/<tenant>/<digest> complete, mode 0400, never changed again
//! <folder>/erasing/<number>          has lost its name, and is overwritten; so are those that a start finds
//! ```
//!
//! A blob is written into `incoming`, hashed as it comes, and gets its name only when its digest is
//! the one that was announced, it has been synced, and it can no longer be written: so a file under
//! a digest always holds what the digest says, through kills and power cuts. Losing a race is
//! harmless, since both writers hold the same bytes. The tenant is a folder and not a tag, so
//! nothing that one tenant can name leads to the files of another, and the same content stored by
//! two tenants is stored twice: sharing it would tell each that the other has it.
//!
//! Readers map. A mapped file that is truncated kills the process with SIGBUS, and one that is
//! changed breaks Rust's rules; hence the folder of mode 0700, the lock, and the mode 0400: only
//! somebody with this user's or root's rights, who could as well write into the memory of the
//! process, is able to do either.
//!
//! A witness is private, and [`BlobStore::erase`] overwrites it before its blocks go back to the file
//! system. It loses its name first, and that is synced, so no cut leaves zeros under a digest; and
//! nothing is overwritten that is still mapped: then the last holder does it when it lets go. What a
//! disk keeps below its own addresses (a copy-on-write file system, the spare blocks of an SSD) is out of
//! reach from here.
//!
//! A tenant may store so many bytes and no more. What is being written counts from the moment that
//! its length is announced, or else from the moment that it is written, so parallel uploads cannot
//! pass the limit together. What each tenant has stored is also known by name, so that listing it asks
//! no disk.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::TenantName;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobLimits {
    /// Bytes of one blob.
    pub blob_bytes_max: u64,
    /// Bytes of all blobs of one tenant, those being written included.
    pub tenant_bytes_max: u64,
}

/// All blobs of one box. Clones are handles to the same store.
#[derive(Debug, Clone)]
pub struct BlobStore {
    shared: Arc<Shared>,
}

/// A blob that is being written. Dropping it without [`BlobWriter::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    shared: Arc<Shared>,
    tenant: TenantName,
    digest: [u8; 32],
    expected: Option<u64>,
    written: u64,
    /// So many of them are on their way to the disk.
    started: u64,
    /// What this writer has taken of the tenant's quota.
    reserved: u64,
    hasher: Sha256,
    file: File,
    path: PathBuf,
}

/// A complete blob in memory, as the kernel maps it. It stays readable after its removal.
#[derive(Debug)]
pub struct MappedBlob {
    map: Mmap,
    /// Dropped after the map: the last one overwrites what is to be erased.
    _held: Arc<Held>,
}

/// How a blob came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// It was not there before.
    Created,
    /// The tenant had it already.
    AlreadyThere,
}

/// Why a blob was not stored or found.
#[derive(Debug, Error)]
pub enum BlobError {
    /// Another process has the folder.
    #[error("{} is in use by another process", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Something in the place of a folder or file of ours.
    #[error("{} is not what this store made: expected {expected}", .path.display())]
    Foreign {
        /// What it is about.
        path: PathBuf,
        /// What should be there.
        expected: &'static str,
    },
    /// This tenant has no such blob.
    #[error("no such blob")]
    Unknown,
    /// One blob may not be so long.
    #[error("a blob has at most {max} bytes, got {got} or more")]
    TooLong {
        /// The limit.
        max: u64,
        /// What was announced or has come.
        got: u64,
    },
    /// The tenant may not store so much.
    #[error("a tenant may store {max} bytes; {used} are used and {wanted} more were asked for")]
    Quota {
        /// The limit.
        max: u64,
        /// What is stored and being written.
        used: u64,
        /// What would come on top.
        wanted: u64,
    },
    /// Another length than was announced.
    #[error("expected {expected} bytes, got {got}")]
    Length {
        /// What was announced.
        expected: u64,
        /// What came; one more than announced stands for any longer one.
        got: u64,
    },
    /// Another content than was announced.
    #[error("expected a blob of digest {}, got {}", hex::encode(.expected), hex::encode(.got))]
    Digest {
        /// What was announced.
        expected: [u8; 32],
        /// What came.
        got: [u8; 32],
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space left in {}", .path.display())]
    NoSpace {
        /// What was being written.
        path: PathBuf,
    },
    /// The disk takes no writes.
    #[error("{} is on a disk that is read-only", .path.display())]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
    },
    /// The operating system refused something else.
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

#[derive(Debug)]
struct Shared {
    limits: BlobLimits,
    incoming: PathBuf,
    erasing: PathBuf,
    tenants: PathBuf,
    next: AtomicU64,
    /// What is in use by tenant. Also held while a name is given or taken away, so that the sum and
    /// the folder agree.
    usage: Mutex<HashMap<TenantName, Usage>>,
    /// Dropping it frees the lock.
    _lock: File,
}

/// What one tenant uses.
#[derive(Debug, Default)]
struct Usage {
    /// Stored, and reserved by writers.
    bytes: u64,
    /// The length of each stored blob.
    blobs: HashMap<[u8; 32], u64>,
    /// Those that may be mapped.
    held: HashMap<[u8; 32], Weak<Held>>,
    /// What the tenant may store, if less than every tenant may.
    max: Option<u64>,
}

/// A blob that somebody has mapped.
#[derive(Debug, Default)]
struct Held {
    /// Where it is to be erased, once nobody has it mapped.
    doomed: OnceLock<PathBuf>,
}

impl BlobStore {
    /// Opens the store in `folder`, which is made if it is not there. What an earlier process left
    /// half written is removed.
    pub fn open(folder: &Path, limits: BlobLimits) -> Result<BlobStore, BlobError> {
        make_folder(folder)?;
        let lock = lock(&folder.join("lock"))?;
        let incoming = folder.join("incoming");
        make_folder(&incoming)?;
        sweep(&incoming)?;
        let erasing = folder.join("erasing");
        make_folder(&erasing)?;
        for entry in fs::read_dir(&erasing).map_err(failed("read", &erasing))? {
            overwrite(&entry.map_err(failed("read", &erasing))?.path())?;
        }
        let tenants = folder.join("tenants");
        make_folder(&tenants)?;
        let usage = measure(&tenants)?;
        sync_folder(folder)?;
        Ok(BlobStore {
            shared: Arc::new(Shared {
                limits,
                incoming,
                erasing,
                tenants,
                next: AtomicU64::new(0),
                usage: Mutex::new(usage),
                _lock: lock,
            }),
        })
    }

    /// Begins to write the blob of that digest. Where the length is known it is held against the
    /// limits now, and not when half of it has come.
    pub fn begin(
        &self,
        tenant: &TenantName,
        digest: [u8; 32],
        expected: Option<u64>,
    ) -> Result<BlobWriter, BlobError> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.incoming.join(number.to_string());
        let announced = expected.unwrap_or(0);
        self.shared.check_length(announced)?;
        self.shared.reserve(tenant, announced)?;
        let opened = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                self.shared.release(tenant, announced);
                return Err(failed("make", &path)(error));
            }
        };
        Ok(BlobWriter {
            shared: Arc::clone(&self.shared),
            tenant: tenant.clone(),
            digest,
            expected,
            written: 0,
            started: 0,
            reserved: announced,
            hasher: Sha256::new(),
            file,
            path,
        })
    }

    /// Makes a file and removes it: whether the disk takes new ones.
    pub fn probe(&self) -> Result<(), BlobError> {
        let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let path = self.shared.incoming.join(number.to_string());
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed("make", &path))?;
        fs::remove_file(&path).map_err(failed("remove", &path))
    }

    /// The length of a complete blob, if this tenant has it.
    pub fn length(&self, tenant: &TenantName, digest: [u8; 32]) -> Result<Option<u64>, BlobError> {
        match self.shared.open(tenant, digest) {
            Ok((_, length)) => Ok(Some(length)),
            Err(BlobError::Unknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Maps a complete blob.
    pub fn open_blob(
        &self,
        tenant: &TenantName,
        digest: [u8; 32],
    ) -> Result<MappedBlob, BlobError> {
        // Under the lock, so that it is either held before it is erased or not found.
        let mut usage = self.shared.usage();
        let (file, _) = self.shared.open(tenant, digest)?;
        let all = &mut usage.entry(tenant.clone()).or_default().held;
        let held = all.get(&digest).and_then(Weak::upgrade);
        let held = held.unwrap_or_else(|| {
            all.retain(|_, held| held.strong_count() > 0);
            let held = Arc::default();
            all.insert(digest, Arc::downgrade(&held));
            held
        });
        drop(usage);
        MappedBlob::map(&file, held).map_err(failed("map", &self.shared.path(tenant, digest)))
    }

    /// Removes a blob; `false` if this tenant has none of that digest. What is mapped stays so.
    pub fn remove(&self, tenant: &TenantName, digest: [u8; 32]) -> Result<bool, BlobError> {
        let mut usage = self.shared.usage();
        let length = match self.shared.open(tenant, digest) {
            Ok((_, length)) => length,
            Err(BlobError::Unknown) => return Ok(false),
            Err(error) => return Err(error),
        };
        let path = self.shared.path(tenant, digest);
        fs::remove_file(&path).map_err(failed("remove", &path))?;
        if let Some(used) = usage.get_mut(tenant) {
            used.bytes = used.bytes.saturating_sub(length);
            used.blobs.remove(&digest);
        }
        drop(usage);
        sync_folder(&self.shared.folder(tenant))?;
        Ok(true)
    }

    /// Removes blobs and overwrites them; what is mapped, when its last holder lets go. One that is not
    /// there is no error. Blocks for as long as the disk takes to write and sync them all. After an error
    /// some may be left, to be erased again; those that have lost their name are swept at the next start.
    pub fn erase(&self, blobs: &[(TenantName, [u8; 32])]) -> Result<(), BlobError> {
        let mut nameless = Vec::with_capacity(blobs.len());
        let mut folders = HashSet::new();
        for (tenant, digest) in blobs {
            let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
            let doomed = self.shared.erasing.join(number.to_string());
            let mut usage = self.shared.usage();
            let length = match self.shared.open(tenant, *digest) {
                Ok((_, length)) => length,
                Err(BlobError::Unknown) => continue,
                Err(error) => return Err(error),
            };
            let path = self.shared.path(tenant, *digest);
            fs::rename(&path, &doomed).map_err(failed("take the name of", &path))?;
            let mut held = None;
            if let Some(used) = usage.get_mut(tenant) {
                used.bytes = used.bytes.saturating_sub(length);
                used.blobs.remove(digest);
                held = used.held.remove(digest).and_then(|held| held.upgrade());
            }
            folders.insert(self.shared.folder(tenant));
            nameless.push((doomed, held));
        }
        if nameless.is_empty() {
            return Ok(());
        }
        // A cut must not bring a name back to what has been overwritten.
        sync_folder(&self.shared.erasing)?;
        for folder in &folders {
            sync_folder(folder)?;
        }
        for (doomed, held) in nameless {
            match held {
                // If the others have let go meanwhile this is the last, and does it here.
                Some(held) => drop(held.doomed.set(doomed)),
                None => overwrite(&doomed)?,
            }
        }
        Ok(())
    }

    /// Bytes that count against this tenant's quota: stored, and being written.
    pub fn usage(&self, tenant: &TenantName) -> u64 {
        self.shared.usage().get(tenant).map_or(0, |used| used.bytes)
    }

    /// Tenants that have complete blobs, in no order. Asks no disk.
    pub fn tenants(&self) -> Vec<TenantName> {
        let usage = self.shared.usage();
        let some = usage.iter().filter(|(_, used)| !used.blobs.is_empty());
        some.map(|(name, _)| name.clone()).collect()
    }

    /// Bounds what one tenant may store from now on; what it has stays.
    pub fn limit_tenant(&self, tenant: &TenantName, max: Option<u64>) {
        self.shared.usage().entry(tenant.clone()).or_default().max = max;
    }

    /// This tenant's complete blobs and their lengths, in no order. Asks no disk.
    pub fn list(&self, tenant: &TenantName) -> Vec<([u8; 32], u64)> {
        let usage = self.shared.usage();
        let blobs = usage.get(tenant).into_iter().flat_map(|used| &used.blobs);
        blobs.map(|(&digest, &length)| (digest, length)).collect()
    }
}

impl BlobWriter {
    /// Adds bytes. After an error the writer is of no use any more and should be dropped.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let length = self.written + bytes.len() as u64;
        if let Some(expected) = self.expected
            && length > expected
        {
            let got = expected.saturating_add(1);
            return Err(BlobError::Length { expected, got });
        }
        self.shared.check_length(length)?;
        if length > self.reserved {
            self.shared.reserve(&self.tenant, length - self.reserved)?;
            self.reserved = length;
        }
        self.file
            .write_all(bytes)
            .map_err(failed("write", &self.path))?;
        self.hasher.update(bytes);
        self.written = length;
        if self.written - self.started >= WRITEBACK_BYTES {
            self.start_writeback();
        }
        Ok(())
    }

    /// Lets the disk begin with what has been written, so that it is busy while more arrives and the
    /// sync at the end finds little left.
    #[allow(unsafe_code)]
    fn start_writeback(&mut self) {
        let [from, count] = [self.started, self.written - self.started]
            .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
        // SAFETY: the descriptor is this file's own and stays open over the call, which reads and
        // writes no memory of this process.
        unsafe {
            libc::sync_file_range(
                self.file.as_raw_fd(),
                from,
                count,
                libc::SYNC_FILE_RANGE_WRITE,
            )
        };
        // A refusal, or a write that failed, is found by the sync at the end.
        self.started = self.written;
    }

    /// Gives the blob its name, if it is what was announced. When this returns it survives a power
    /// cut. Blocks for as long as the disk takes to sync.
    pub fn finish(mut self) -> Result<Finished, BlobError> {
        if let Some(expected) = self.expected
            && self.written != expected
        {
            return Err(BlobError::Length {
                expected,
                got: self.written,
            });
        }
        let got: [u8; 32] = self.hasher.finalize_reset().into();
        if got != self.digest {
            return Err(BlobError::Digest {
                expected: self.digest,
                got,
            });
        }
        self.file
            .set_permissions(Permissions::from_mode(0o400))
            .map_err(failed("protect", &self.path))?;
        self.file.sync_all().map_err(failed("sync", &self.path))?;

        let folder = self.shared.folder(&self.tenant);
        make_folder(&folder)?;
        let mut usage = self.shared.usage();
        match self.shared.open(&self.tenant, self.digest) {
            Ok(_) => {
                drop(usage);
                // The one who gave it its name may not have synced the folder yet.
                sync_folder(&folder)?;
                return Ok(Finished::AlreadyThere);
            }
            Err(BlobError::Unknown) => {}
            Err(error) => return Err(error),
        }
        let path = self.shared.path(&self.tenant, self.digest);
        fs::rename(&self.path, &path).map_err(failed("name", &path))?;
        // From here on the bytes belong to the stored blob and not to this writer.
        self.reserved = 0;
        let used = usage.entry(self.tenant.clone()).or_default();
        used.blobs.insert(self.digest, self.written);
        drop(usage);
        sync_folder(&folder)?;
        sync_folder(&self.shared.tenants)?;
        Ok(Finished::Created)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        // After a rename there is nothing under the old name; a failure otherwise leaves a file
        // that the next start sweeps.
        let _ = fs::remove_file(&self.path);
        self.shared.release(&self.tenant, self.reserved);
    }
}

impl MappedBlob {
    #[allow(unsafe_code)]
    fn map(file: &File, held: Arc<Held>) -> io::Result<MappedBlob> {
        // SAFETY: the file was synced and closed for writing (mode 0400) before it got the name
        // under which it was opened; this store does not write to it again while `held` lives, which is
        // dropped after the map; removal only takes the name away, and the lock and mode 0700 of the
        // folder keep other processes out.
        let map = unsafe { Mmap::map(file)? };
        Ok(MappedBlob { map, _held: held })
    }

    /// The blob as shared bytes; it is unmapped when the last of them is dropped.
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for MappedBlob {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(path) = self.doomed.get() {
            // What cannot be overwritten now is when the store is opened next.
            let _ = overwrite(path);
        }
    }
}

impl Deref for MappedBlob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl Shared {
    fn usage(&self) -> MutexGuard<'_, HashMap<TenantName, Usage>> {
        // The map is changed by single assignments, so it is whole even if a holder panicked.
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder(&self, tenant: &TenantName) -> PathBuf {
        self.tenants.join(tenant.as_str())
    }

    fn path(&self, tenant: &TenantName, digest: [u8; 32]) -> PathBuf {
        self.folder(tenant).join(hex::encode(digest))
    }

    /// Opens a complete blob, and nothing that somebody put in its place: no link, no other kind of
    /// file, no folder that is a link.
    fn open(&self, tenant: &TenantName, digest: [u8; 32]) -> Result<(File, u64), BlobError> {
        let folder = self.folder(tenant);
        match fs::symlink_metadata(&folder) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(foreign(&folder, "a folder")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Unknown);
            }
            Err(error) => return Err(failed("look at", &folder)(error)),
        }
        let path = self.path(tenant, digest);
        let opened = OpenOptions::new()
            .read(true)
            // A FIFO would otherwise hold the caller until somebody writes to it.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BlobError::Unknown);
            }
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                return Err(foreign(&path, "a regular file"));
            }
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(failed("look at", &path))?;
        if !metadata.is_file() {
            return Err(foreign(&path, "a regular file"));
        }
        Ok((file, metadata.len()))
    }

    fn check_length(&self, got: u64) -> Result<(), BlobError> {
        let max = self.limits.blob_bytes_max;
        if got > max {
            return Err(BlobError::TooLong { max, got });
        }
        Ok(())
    }

    fn reserve(&self, tenant: &TenantName, wanted: u64) -> Result<(), BlobError> {
        let mut usage = self.usage();
        let entry = usage.entry(tenant.clone()).or_default();
        let every = self.limits.tenant_bytes_max;
        let max = entry.max.map_or(every, |max| max.min(every));
        let used = &mut entry.bytes;
        match used.checked_add(wanted) {
            Some(sum) if sum <= max => {
                *used = sum;
                Ok(())
            }
            _ => Err(BlobError::Quota {
                max,
                used: *used,
                wanted,
            }),
        }
    }

    fn release(&self, tenant: &TenantName, bytes: u64) {
        if let Some(used) = self.usage().get_mut(tenant) {
            used.bytes = used.bytes.saturating_sub(bytes);
        }
    }
}

fn lock(path: &Path) -> Result<File, BlobError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(BlobError::Locked {
            path: path.to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(failed("lock", path)(error)),
    }
}

/// Makes a folder that only this user may enter, or finds it there.
fn make_folder(path: &Path) -> Result<(), BlobError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    match made {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let metadata = fs::symlink_metadata(path).map_err(failed("look at", path))?;
            if !metadata.is_dir() {
                return Err(foreign(path, "a folder"));
            }
            if metadata.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, Permissions::from_mode(0o700))
                    .map_err(failed("protect", path))?;
            }
            Ok(())
        }
        Err(error) => Err(failed("make", path)(error)),
    }
}

fn sweep(incoming: &Path) -> Result<(), BlobError> {
    for entry in fs::read_dir(incoming).map_err(failed("read", incoming))? {
        let path = entry.map_err(failed("read", incoming))?.path();
        fs::remove_file(&path).map_err(failed("remove", &path))?;
    }
    Ok(())
}

/// Writes zeros over a file that nobody maps and that has no name outside of `erasing`; then removes it.
fn overwrite(path: &Path) -> Result<(), BlobError> {
    let erased = fs::set_permissions(path, Permissions::from_mode(0o600)).and_then(|()| {
        let mut file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let mut left = file.metadata()?.len();
        let zeros = vec![0; left.min(ZEROS_BYTES) as usize];
        while left > 0 {
            let count = left.min(ZEROS_BYTES);
            file.write_all(&zeros[..count as usize])?;
            left -= count;
        }
        file.sync_data()?;
        fs::remove_file(path)
    });
    erased.map_err(failed("erase", path))
}

/// Sees what each tenant has stored.
fn measure(tenants: &Path) -> Result<HashMap<TenantName, Usage>, BlobError> {
    let mut usage = HashMap::new();
    for entry in fs::read_dir(tenants).map_err(failed("read", tenants))? {
        let entry = entry.map_err(failed("read", tenants))?;
        let folder = entry.path();
        let tenant = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<TenantName>().ok())
            .ok_or_else(|| foreign(&folder, "the name of a tenant"))?;
        if !entry
            .file_type()
            .map_err(failed("look at", &folder))?
            .is_dir()
        {
            return Err(foreign(&folder, "a folder"));
        }
        let mut used = Usage::default();
        for blob in fs::read_dir(&folder).map_err(failed("read", &folder))? {
            let blob = blob.map_err(failed("read", &folder))?;
            let path = blob.path();
            // This does not follow links.
            let metadata = blob.metadata().map_err(failed("look at", &path))?;
            if !metadata.is_file() {
                return Err(foreign(&path, "a regular file"));
            }
            used.bytes = used.bytes.saturating_add(metadata.len());
            // A file of another name counts, and nobody can ask for it.
            let mut digest = [0; 32];
            let name = blob.file_name();
            if hex::decode_to_slice(name.as_encoded_bytes(), &mut digest).is_ok() {
                used.blobs.insert(digest, metadata.len());
            }
        }
        usage.insert(tenant, used);
    }
    Ok(usage)
}

fn sync_folder(path: &Path) -> Result<(), BlobError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(failed("sync", path))
}

fn foreign(path: &Path, expected: &'static str) -> BlobError {
    BlobError::Foreign {
        path: path.to_owned(),
        expected,
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    let path = path.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            BlobError::NoSpace { path }
        }
        io::ErrorKind::ReadOnlyFilesystem => BlobError::ReadOnly { path },
        _ => BlobError::Io {
            action,
            path,
            source,
        },
    }
}

const ZEROS_BYTES: u64 = 1 << 20;
/// Large enough that telling the kernel costs nothing, small enough that little is left for the sync.
const WRITEBACK_BYTES: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// `/dev/full` is a disk without space: every write to it fails as on one.
    #[test]
    fn a_full_disk_has_its_own_error() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let limits = BlobLimits {
            blob_bytes_max: 1000,
            tenant_bytes_max: 1000,
        };
        let store = BlobStore::open(folder.path(), limits).expect("a store");
        let tenant = "alice".parse().expect("a name");
        let mut writer = store.begin(&tenant, [0; 32], None).expect("a writer");
        writer.file = OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .expect("a device");
        let error = writer.write(b"x").expect_err("no space");
        assert!(matches!(error, BlobError::NoSpace { .. }), "{error}");
        drop(writer);
        assert_eq!(store.usage(&tenant), 0);
    }
}
