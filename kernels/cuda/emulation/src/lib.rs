//! A processor in the place of a GPU: the same kernels, compiled by the C++ compiler, behind the
//! same seam. For tests; see `host.h` for how lines of PTX and barriers are stood in for.
//!
//! What the real driver does in its own time is done here as late as is allowed: a launch is queued
//! and runs when its fence, or a later one, is waited for. Memory that is new is filled with a
//! pattern, has a margin on both sides that is looked at when it is given back, and is known by its
//! length, so that a copy beyond it, a kernel that writes beyond it, a forgotten fence or
//! a forgotten clearing makes a test fail.

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use caldera_cuda::bundle::{Compiled, Shape};
use caldera_cuda::{Driver, Fence, Kernel};
use caldera_kernels::DeviceError;

use memory::Memory;

/// The processor as a [`Driver`].
pub struct Emulation {
    memory: Mutex<Memory>,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: VecDeque<Launch>,
    /// How long those took that have run and were not asked for.
    ran: BTreeMap<u64, Duration>,
}

struct Launch {
    fence: u64,
    kernel: usize,
    blocks: u32,
    words: Vec<u64>,
}

impl Emulation {
    /// One of its own: nothing is shared with others.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::default(),
            queue: Mutex::default(),
        })
    }

    /// The kernels of all units, as a bundle lists them, without code.
    pub fn units() -> Vec<Compiled> {
        let mut units: Vec<Compiled> = Vec::new();
        for (unit, name, threads, words) in table::all() {
            let kernel = Shape {
                name: name.to_owned(),
                threads,
                words,
            };
            match units.iter_mut().find(|known| known.unit == unit) {
                Some(known) => known.kernels.push(kernel),
                None => units.push(Compiled {
                    unit: unit.to_owned(),
                    kernels: vec![kernel],
                    images: Vec::new(),
                }),
            }
        }
        units
    }

    /// Bytes that are allocated now.
    pub fn bytes(&self) -> usize {
        lock(&self.memory).bytes()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver for Emulation {
    fn name(&self) -> &str {
        "emulation of a GPU"
    }

    fn allocate(&self, bytes: usize, what: &'static str) -> Result<u64, DeviceError> {
        lock(&self.memory)
            .allocate(bytes)
            .ok_or(DeviceError::Memory { what, bytes })
    }

    fn free(&self, address: u64, bytes: usize) {
        lock(&self.memory).free(address, bytes);
    }

    fn clear(&self, address: u64, bytes: usize) -> Result<(), DeviceError> {
        lock(&self.memory).write(address, &vec![0; bytes]);
        Ok(())
    }

    fn upload(&self, address: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        lock(&self.memory).write(address, bytes);
        Ok(())
    }

    fn download(&self, address: u64, bytes: &mut [u8]) -> Result<(), DeviceError> {
        lock(&self.memory).read(address, bytes);
        Ok(())
    }

    fn kernel(&self, unit: &str, name: &str) -> Result<Kernel, DeviceError> {
        let (id, threads) = table::find(unit, name).ok_or_else(|| DeviceError::Lost {
            device: self.name().to_owned(),
            why: format!("there is no kernel {name} in {unit}"),
        })?;
        Ok(Kernel {
            id,
            threads,
            wave: 1,
        })
    }

    fn launch(&self, kernel: Kernel, blocks: u32, words: &[u64]) -> Result<Fence, DeviceError> {
        assert!(blocks > 0, "a launch of nothing");
        assert_eq!(table::words(kernel.id), words.len(), "words of an argument");
        let mut queue = lock(&self.queue);
        let fence = queue.next;
        queue.next += 1;
        queue.waiting.push_back(Launch {
            fence,
            kernel: kernel.id,
            blocks,
            words: words.to_vec(),
        });
        Ok(Fence(fence))
    }

    fn wait(&self, fence: &Fence) -> Result<Duration, DeviceError> {
        // Held while they run: a device runs one launch after the other.
        let mut queue = lock(&self.queue);
        while let Some(launch) = queue.waiting.pop_front_if(|launch| launch.fence <= fence.0) {
            let start = Instant::now();
            table::run(launch.kernel, &launch.words, launch.blocks);
            queue.ran.insert(launch.fence, start.elapsed());
        }
        Ok(queue
            .ran
            .remove(&fence.0)
            .expect("each launch is waited for once"))
    }
}
