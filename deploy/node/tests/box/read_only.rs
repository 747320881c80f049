//! A disk that takes no writes any more, as a file system does that has met an error: told on `/readyz`, refused with
//! an error that can be tried again, and what is there stays.
//!
//! No test can make a real disk read-only while files on it are open for writing. So the calls of the C library by
//! which files change are defined here, in the test's own executable, where the linker takes these for SQLite
//! and for Rust's standard library alike (the store's power cuts are recorded in the same way). Each makes the
//! system call, unless the file lies below the one folder that is read-only at the moment.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::libc::{self, c_char, c_int, c_uint, c_void, mode_t, off_t, size_t, ssize_t};
use serde_json::{Value, json};

use crate::durable::{LetGo, held_box};
use crate::world::{digest, larger, material, until};

#[test]
fn a_read_only_disk_is_told_refused_and_recovered_from() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let chat = world.client("chat");
    let circuit = chat.register(&material().zkey);
    let witness = chat.store(&material().witness);
    let other = chat.store(&larger().zkey);
    let first = chat.submit(&circuit, &witness);
    let result = chat.proved(&first);
    let letting_go = LetGo(&hold);
    hold.store(true, SeqCst);
    let running = chat.submit(&circuit, &witness);

    let disk = ReadOnly::below(world.folder.path());
    let bytes = &material().witness;
    let submission = json!({
        "circuit": circuit, "witness": digest(bytes), "witnessData": STANDARD.encode(bytes),
    });
    let refused = |answer: Value| {
        let error = &answer["error"];
        assert_eq!(error["data"]["reason"], "storageUnavailable", "{answer}");
        assert!(error["data"]["retryAfterMs"].as_u64() > Some(0), "{answer}");
    };
    refused(chat.ask("prover_submitV1", submission.clone()));
    refused(chat.ask("prover_registerCircuitV1", json!({ "zkey": other })));
    assert_eq!(chat.put(&digest(&[9; 100]), &[9; 100]), 503);
    let (status, text) = chat.get("/readyz");
    assert_eq!(status, 503);
    assert!(text.contains("the disk is read-only"), "{text}");
    // What is there is served, and what runs goes on; how it ends is not told yet.
    assert_eq!(chat.get("/livez").0, 200);
    assert_eq!(chat.put(&witness, bytes), 200);
    let shown = chat.call("prover_resultV1", json!({ "job": first }));
    assert_eq!(shown, result);
    drop(letting_go);
    let operator = world.client("operator");
    let ended = "caldera_jobs_ended_total{outcome=\"proved\"}";
    until(|| (operator.metric(ended) == 2.0).then_some(()));
    assert_eq!(operator.metric("caldera_storage_fault"), 1.0);
    assert_eq!(chat.status(&running)["state"], "running");

    drop(disk);
    until(|| (chat.get("/readyz").0 == 200).then_some(()));
    chat.proved(&running);
    let job = chat.call("prover_submitV1", submission)["job"].clone();
    chat.proved(job.as_str().expect("a name"));
    assert_eq!(chat.put(&digest(&[9; 100]), &[9; 100]), 201);
    world.stop();
}

/// A blob that cannot be written is reason enough to look at the disk.
#[test]
fn an_upload_finds_a_read_only_disk() {
    let hold = Arc::new(AtomicBool::new(false));
    let world = held_box(&hold, "");
    let chat = world.client("chat");
    let disk = ReadOnly::below(world.folder.path());
    assert_eq!(chat.put(&digest(b"new"), b"new"), 503);
    until(|| (chat.get("/readyz").0 == 503).then_some(()));
    drop(disk);
    until(|| (chat.get("/readyz").0 == 200).then_some(()));
    assert_eq!(chat.put(&digest(b"new"), b"new"), 201);
    world.stop();
}

/// For as long as this is there a folder takes no writes; one folder at a time.
struct ReadOnly(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

/// Which folder; nothing for none.
static FOLDER: Mutex<Option<PathBuf>> = Mutex::new(None);
/// Whether there is one: nothing is locked for it while there is none.
static ANY: AtomicBool = AtomicBool::new(false);

impl ReadOnly {
    fn below(folder: &Path) -> ReadOnly {
        static ONE: Mutex<()> = Mutex::new(());
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = folder.canonicalize().expect("a folder");
        *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(folder);
        ANY.store(true, SeqCst);
        ReadOnly(one)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        ANY.store(false, SeqCst);
        *FOLDER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn is_below(path: &Path) -> bool {
    let folder = FOLDER.lock().unwrap_or_else(PoisonError::into_inner);
    folder
        .as_ref()
        .is_some_and(|folder| path.starts_with(folder))
}

fn is_open_below(fd: c_int) -> bool {
    if !ANY.load(SeqCst) {
        return false;
    }
    let link = format!("/proc/self/fd/{fd}\0");
    let mut path = [0u8; 4096];
    // SAFETY: the link ends with a zero, and the buffer has the length that is said.
    let length =
        unsafe { libc::readlink(link.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    usize::try_from(length)
        .is_ok_and(|length| is_below(Path::new(OsStr::from_bytes(&path[..length]))))
}

/// # Safety
///
/// It is a string that ends with a zero.
unsafe fn is_named_below(path: *const c_char) -> bool {
    if !ANY.load(SeqCst) {
        return false;
    }
    // SAFETY: as the caller promises.
    let path = unsafe { CStr::from_ptr(path) };
    is_below(Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// What the system says of a read-only file system.
fn refused() -> c_int {
    // SAFETY: the place of this thread's own error number.
    unsafe { *libc::__errno_location() = libc::EROFS };
    -1
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    if is_open_below(fd) {
        return refused() as ssize_t;
    }
    // SAFETY: the caller's own arguments for this very call.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) as ssize_t }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    if is_open_below(fd) {
        return refused() as ssize_t;
    }
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, at) as ssize_t }
}

#[unsafe(no_mangle)]
extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, at: off_t) -> ssize_t {
    pwrite64(fd, bytes, count, at)
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    if is_open_below(fd) {
        return refused();
    }
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    ftruncate64(fd, length)
}

/// In C its last argument may be left out; by the calling conventions of 64-bit Linux it is then a register
/// that nobody has set, and the kernel does not look at it.
#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let writes = flags & (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) != 0;
    // SAFETY: the caller hands in a string.
    if writes && unsafe { is_named_below(path) } {
        return refused();
    }
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    open64(path, flags, mode)
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: the caller hands in a string.
    if unsafe { is_named_below(from) } {
        return refused();
    }
    let at = libc::AT_FDCWD;
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_renameat2, at, from, at, to, 0) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: the caller hands in a string.
    if unsafe { is_named_below(path) } {
        return refused();
    }
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path, 0) as c_int }
}

#[unsafe(no_mangle)]
extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller hands in a string.
    if unsafe { is_named_below(path) } {
        return refused();
    }
    // SAFETY: as in `write`.
    unsafe { libc::syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path, mode) as c_int }
}
