//! The seam between the device and what runs its kernels: NVIDIA's driver, or the emulation.
//!
//! Memory has addresses, a kernel is launched over a range of blocks, and launches run one after
//! the other in the order in which they were made, some time before their fence is waited for. What
//! is copied to or from the host is not ordered with launches: whoever copies has waited for the
//! fences that matter. Getting and clearing memory is ordered with all that is asked for later.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use caldera_kernels::{DeviceError, Fill, Site, Software};
use zeroize::Zeroizing;

/// What runs kernels.
pub trait Driver: Send + Sync {
    /// The silicon's own name.
    fn name(&self) -> &str;

    /// Whether the silicon is still there; waits for nothing.
    fn probe(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// How many blocks at least run side by side however large they are.
    fn multiprocessors(&self) -> u32 {
        1
    }

    /// Where the silicon lies, as far as this is known.
    fn site(&self) -> Site {
        Site::default()
    }

    /// What is below it, with versions.
    fn software(&self) -> Vec<Software> {
        Vec::new()
    }

    /// Memory of so many bytes, at least one, of any contents, aligned for any element; `what` is
    /// for people.
    fn allocate(&self, bytes: usize, what: &'static str) -> Result<u64, DeviceError>;

    /// Gives memory back; all launches that use it have been waited for.
    fn free(&self, address: u64, bytes: usize);

    /// Overwrites with zeros.
    fn clear(&self, address: u64, bytes: usize) -> Result<(), DeviceError>;

    /// Copies from the host, and returns when all is there.
    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Copies so many bytes, [`PIECE`] at most, that `fill` writes to where the device reads them, and says whether they are still on
    /// their way: then they are there when [`Driver::settle`] has returned. What is sent may be secret.
    fn send(
        &self,
        address: u64,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), DeviceError>,
    ) -> Result<bool, DeviceError> {
        let mut piece = Zeroizing::new(vec![0; bytes]);
        fill(&mut piece)?;
        self.upload(address, &piece).map(|()| false)
    }

    /// Waits until all that was sent has arrived, and leaves nothing of it where the device read it.
    fn settle(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// Copies to the host.
    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError>;

    /// A kernel by the name of its unit (a source, a curve, a group: "msm_bn254_g1") and its own.
    fn kernel(&self, unit: &str, name: &str) -> Result<Kernel, DeviceError>;

    /// Sets aside now what launches of these kernels need beside their arguments, so that none of them meets the end
    /// of the memory. Each does nothing where all its words are zero.
    fn set_aside(&self, kernels: &[Kernel]) -> Result<(), DeviceError> {
        let _ = kernels;
        Ok(())
    }

    /// Queues a launch. `words` are all that the kernel's one argument holds. One thread at a time: what a launch took is
    /// measured between what is queued before and behind it.
    fn launch(&self, kernel: Kernel, blocks: u32, words: &[u64]) -> Result<Fence, DeviceError>;

    /// Waits until a launch has ended, and says how long it ran on the device. Called at most once
    /// for each launch.
    fn wait(&self, fence: &Fence) -> Result<Duration, DeviceError>;
}

/// A kernel that a driver has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The driver's own number for it.
    pub id: usize,
    /// Threads of a block.
    pub threads: u32,
    /// How many blocks the device runs at once; at least 1.
    pub wave: u32,
}

/// The end of a launch, numbered by its driver.
#[derive(Debug, PartialEq, Eq)]
pub struct Fence(pub u64);

/// Memory that is given back when it is dropped.
pub(crate) struct Buffer {
    driver: Arc<dyn Driver>,
    address: u64,
    bytes: usize,
    /// Whether it holds what comes of a witness, and is overwritten in the end.
    secret: bool,
    /// Whether anything was sent that may not have arrived.
    unsettled: AtomicBool,
}

impl Buffer {
    /// Any contents; may come to hold secrets.
    pub(crate) fn secret(
        driver: &Arc<dyn Driver>,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, DeviceError> {
        let mut buffer = Self::uninitialised(driver, bytes, what)?;
        buffer.secret = true;
        Ok(buffer)
    }

    /// Zeros that may come to hold secrets.
    pub(crate) fn zeros(
        driver: &Arc<dyn Driver>,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, DeviceError> {
        let buffer = Self::secret(driver, bytes, what)?;
        buffer.driver.clear(buffer.address, buffer.bytes)?;
        Ok(buffer)
    }

    /// Any contents.
    pub(crate) fn uninitialised(
        driver: &Arc<dyn Driver>,
        bytes: usize,
        what: &'static str,
    ) -> Result<Self, DeviceError> {
        // Nothing at all has an address too.
        let bytes = bytes.max(ALIGNMENT);
        Ok(Self {
            driver: driver.clone(),
            address: driver.allocate(bytes, what)?,
            bytes,
            secret: false,
            unsettled: AtomicBool::new(false),
        })
    }

    /// A copy of the host's bytes.
    pub(crate) fn of(
        driver: &Arc<dyn Driver>,
        bytes: &[u8],
        what: &'static str,
    ) -> Result<Self, DeviceError> {
        let buffer = Self::uninitialised(driver, bytes.len(), what)?;
        buffer.upload(0, bytes)?;
        Ok(buffer)
    }

    /// Where byte `at` lies.
    pub(crate) fn at(&self, at: usize) -> u64 {
        assert!(at <= self.bytes);
        self.address + at as u64
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn upload(&self, at: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        assert!(at + bytes.len() <= self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        self.settle()?;
        self.driver.upload(self.address + at as u64, bytes)
    }

    pub(crate) fn download(&self, at: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        assert!(at + bytes.len() <= self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        self.settle()?;
        self.driver.download(self.address + at as u64, bytes)
    }

    /// What `fill` writes from byte `at` on, one piece after the other; it is told where each begins. All is there when
    /// [`Buffer::settle`] has returned.
    pub(crate) fn send(&self, range: Range<usize>, fill: &mut Fill<'_>) -> Result<(), DeviceError> {
        assert!(range.end <= self.bytes);
        for at in range.clone().step_by(PIECE) {
            let bytes = PIECE.min(range.end - at);
            let address = self.address + at as u64;
            let sent = self
                .driver
                .send(address, bytes, &mut |piece| fill(at, piece));
            // Of one that failed nobody knows.
            if *sent.as_ref().unwrap_or(&true) {
                self.unsettled.store(true, Ordering::Release);
            }
            sent?;
        }
        Ok(())
    }

    pub(crate) fn settle(&self) -> Result<(), DeviceError> {
        match self.unsettled.swap(false, Ordering::AcqRel) {
            true => self.driver.settle(),
            false => Ok(()),
        }
    }

    /// Words of 32 bits from byte `at` on.
    pub(crate) fn words<const N: usize>(&self, at: usize) -> Result<[u32; N], DeviceError> {
        let mut bytes = vec![0; 4 * N];
        self.download(at, &mut bytes)?;
        let mut words = [0; N];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        Ok(words)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Nothing may arrive there when it is somebody else's. A lost device's memory is nobody's.
        let _ = self.settle();
        if self.secret {
            // A device that cannot do so any more is lost, and so is its memory.
            let _ = self.driver.clear(self.address, self.bytes);
        }
        self.driver.free(self.address, self.bytes);
    }
}

/// The most that is sent at once: large enough that a copy is bound by the bus and not by what one costs, and a quarter of a
/// millisecond of one core's copying.
pub const PIECE: usize = 2 << 20;

/// The least that is ever allocated: an element's alignment.
const ALIGNMENT: usize = 16;
