//! A tape of what a thread asks of the file system: writes, syncs, names given and taken away.
//!
//! The calls of the C library by which files change are defined here, in the test's own executable, so
//! the linker takes these for SQLite and for Rust's standard library alike; each makes the system call, and
//! notes it if the calling thread has a tape and the file lies below its folder. So one layer stands under
//! the database and under the blobs, and nothing in the store knows of it. (Interposition is how
//! ALICE, Pillai et al., OSDI 2014, and libeatmydata do it.)
//!
//! A thread may also be told not to sync, which only saves the time of those who check.

#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{c_char, c_int, c_long, c_uint, c_void, mode_t, off_t, size_t, ssize_t};

/// What was asked of the file system. Files go by their inode, names by their path below the folder.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Create(PathBuf, u64),
    Folder(PathBuf),
    Write(u64, u64, Vec<u8>),
    Truncate(u64, u64),
    Sync(u64),
    SyncFolder(PathBuf),
    Rename(PathBuf, PathBuf),
    Unlink(PathBuf),
    /// Put in by who records: from here on something has been promised, or begun.
    Mark(usize),
}

thread_local! {
    static TAPE: RefCell<Option<(PathBuf, Vec<Op>)>> = const { RefCell::new(None) };
    static HASTY: Cell<bool> = const { Cell::new(false) };
}

/// Records what `work` asks of the file system below `folder`.
pub(crate) fn record(folder: &Path, work: impl FnOnce()) -> Vec<Op> {
    TAPE.set(Some((folder.to_owned(), Vec::new())));
    work();
    TAPE.take().map_or_else(Vec::new, |(_, tape)| tape)
}

/// Puts a mark on the calling thread's tape.
pub(crate) fn mark(number: usize) {
    note(|_| Some(Op::Mark(number)));
}

/// From here on syncs of the calling thread cost nothing and do nothing, but while it records.
pub(crate) fn be_hasty() {
    HASTY.set(true);
}

fn recording() -> bool {
    TAPE.try_with(|tape| tape.try_borrow().is_ok_and(|tape| tape.is_some()))
        .unwrap_or(false)
}

fn note(op: impl FnOnce(&Path) -> Option<Op>) {
    // A thread that is ending has no tape any more.
    let _ = TAPE.try_with(|tape| {
        if let Ok(mut tape) = tape.try_borrow_mut()
            && let Some((folder, ops)) = &mut *tape
        {
            ops.extend(op(folder));
        }
    });
}

/// The path of an open file and its inode.
fn file_of(fd: c_int) -> Option<(PathBuf, u64)> {
    let link = format!("/proc/self/fd/{fd}\0");
    let mut path = [0u8; 4096];
    // SAFETY: the link ends with a zero, and the buffer has the length that is said.
    let length =
        unsafe { libc::readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    let length = usize::try_from(length).ok()?;
    // SAFETY: all zeros are a value of this plain structure.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the structure lives across the call, which fills it.
    if unsafe { libc::fstat(fd, &raw mut status) } != 0 {
        return None;
    }
    Some((
        PathBuf::from(OsStr::from_bytes(&path[..length])),
        status.st_ino,
    ))
}

fn note_file(fd: c_int, op: impl FnOnce(PathBuf, u64) -> Op) {
    if recording()
        && let Some((path, inode)) = file_of(fd)
    {
        note(|folder| Some(op(path.strip_prefix(folder).ok()?.to_owned(), inode)));
    }
}

/// A path that was handed to the C library.
///
/// # Safety
///
/// It is a string that ends with a zero.
unsafe fn path_of<'a>(path: *const c_char) -> &'a Path {
    // SAFETY: as the caller promises.
    Path::new(OsStr::from_bytes(
        unsafe { CStr::from_ptr(path) }.to_bytes(),
    ))
}

fn below<'a>(path: &'a Path, folder: &Path) -> Option<&'a Path> {
    path.strip_prefix(folder).ok()
}

fn note_write(fd: c_int, bytes: *const c_void, count: size_t, at: Option<off_t>) {
    if !recording() {
        return;
    }
    // SAFETY: asks for the place in an open file and changes nothing.
    let at = at.unwrap_or_else(|| unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) });
    note_file(fd, |_, inode| {
        // SAFETY: who writes promises that so many bytes can be read there.
        let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), count) };
        Op::Write(inode, at.max(0).cast_unsigned(), bytes.to_vec())
    });
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    note_write(fd, bytes, count, None);
    // SAFETY: the caller's own arguments for this very call.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) as ssize_t }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    note_write(fd, bytes, count, Some(at));
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, at) as ssize_t }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    pwrite64(fd, bytes, count, at)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    note_file(fd, |_, inode| Op::Truncate(inode, length.cast_unsigned()));
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    ftruncate64(fd, length)
}

fn sync(fd: c_int, number: c_long) -> c_int {
    if !recording() && HASTY.try_with(Cell::get).unwrap_or(false) {
        return 0;
    }
    // SAFETY: as in `write`.
    let done = unsafe { libc::syscall(number, fd) as c_int };
    if done == 0
        && recording()
        && let Some((path, inode)) = file_of(fd)
    {
        note(|folder| {
            let path = below(&path, folder)?.to_owned();
            let is_folder = folder.join(&path).is_dir();
            Some(if is_folder {
                Op::SyncFolder(path)
            } else {
                Op::Sync(inode)
            })
        });
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fdatasync)
}

/// In C its last argument may be left out; by the calling conventions of 64-bit Linux it is then a register
/// that nobody has set, and the kernel does not look at it.
#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    // SAFETY: the caller hands in a string.
    let name = unsafe { path_of(path) };
    let makes = recording() && flags & libc::O_CREAT != 0 && name.symlink_metadata().is_err();
    let fd = {
        // SAFETY: as in `write`.
        unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
    };
    if makes && fd >= 0 {
        note_file(fd, Op::Create);
    } else if fd >= 0 && flags & libc::O_TRUNC != 0 {
        note_file(fd, |_, inode| Op::Truncate(inode, 0));
    }
    fd
}

#[unsafe(no_mangle)]
extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open64(path, flags, mode)
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: as in `write`.
    let done = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from,
            libc::AT_FDCWD,
            to,
            0,
        )
    };
    if done == 0 {
        // SAFETY: the caller hands in strings.
        let (from, to) = unsafe { (path_of(from), path_of(to)) };
        note(|folder| {
            Some(Op::Rename(
                below(from, folder)?.into(),
                below(to, folder)?.into(),
            ))
        });
    }
    done as c_int
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: as in `write`.
    let done = unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) };
    if done == 0 {
        // SAFETY: the caller hands in a string.
        let path = unsafe { path_of(path) };
        note(|folder| Some(Op::Unlink(below(path, folder)?.into())));
    }
    done as c_int
}

#[unsafe(no_mangle)]
extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: as in `write`.
    let done = unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) };
    if done == 0 {
        // SAFETY: the caller hands in a string.
        let path = unsafe { path_of(path) };
        note(|folder| Some(Op::Folder(below(path, folder)?.into())));
    }
    done as c_int
}
