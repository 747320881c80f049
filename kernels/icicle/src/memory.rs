//! Memory that this process and the child both map: an anonymous file, sealed at its size.
//!
//! The seal keeps either side from shrinking it, which would end the other with a bus error. Who may
//! touch it is settled by the socket: this process until a request is sent, the child until it has
//! answered. A child out of order could write at other times; then bytes are wrong, which is what is
//! expected of such a child anyway.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use memmap2::{MmapMut, MmapOptions};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::ftruncate;
use zeroize::Zeroize;

pub(crate) struct Memory {
    file: OwnedFd,
    map: MmapMut,
}

impl Memory {
    /// All zero.
    pub(crate) fn new(bytes: usize) -> io::Result<Memory> {
        let file = memfd_create(
            c"caldera-icicle",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )?;
        let length = i64::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        ftruncate(&file, length)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Memory::map(file, bytes)
    }

    /// The child's side of it, by the descriptor that a message brought.
    pub(crate) fn received(file: RawFd, bytes: usize) -> io::Result<Memory> {
        // SAFETY: the kernel has just made this descriptor for this process; nobody else has it.
        let file = unsafe { OwnedFd::from_raw_fd(file) };
        Memory::map(file, bytes)
    }

    fn map(file: OwnedFd, bytes: usize) -> io::Result<Memory> {
        // SAFETY: the file is anonymous, sealed at this size, and mapped by two processes, which
        // take turns (see the top of this file); all that is read of it are bytes, of which every
        // value is valid.
        let map = unsafe { MmapOptions::new().len(bytes).map_mut(&file)? };
        Ok(Memory { file, map })
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // It has held witnesses.
        self.map.zeroize();
    }
}
