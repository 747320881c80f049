//! Products of vectors, element by element, and how fast products could be at best.

use std::sync::Arc;
use std::time::Duration;

use caldera_kernels::DeviceError;

use crate::driver::{Buffer, Driver, Kernel};
use crate::plan::{Pace, Steps, Sweep, run_now};
use crate::vector::Vector;

pub(crate) struct Elementwise {
    pub(crate) kernel: Kernel,
    pub(crate) name: &'static str,
    /// As the kernel's argument has them.
    pub(crate) vectors: [Arc<Vector>; 3],
}

impl Steps for Elementwise {
    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        self.name
    }

    fn open(&self, _: usize) -> Result<Vec<Sweep>, DeviceError> {
        let words = self.vectors.iter().map(|vector| vector.at(0)).collect();
        let len = self.vectors[0].len();
        Ok(vec![Sweep::threads(self.kernel, len, words)])
    }
}

/// Products a second, of elements in registers: of as many threads as keep the device busy for long enough
/// to be measured by its own clock, the best of some times.
pub(crate) fn peak(
    driver: &Arc<dyn Driver>,
    pace: &Pace,
    chain: Kernel,
) -> Result<f64, DeviceError> {
    let out = Buffer::uninitialised(driver, SCALAR, "a chain's end")?;
    let run = |threads: usize| {
        let words = vec![CHAIN as u64, out.at(0)];
        run_now(&**driver, pace, vec![Sweep::threads(chain, threads, words)])
    };
    let mut threads = THREADS_MIN;
    while run(threads)? < BUSY && threads < THREADS_MAX {
        threads *= 2;
    }
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(run(threads)?);
    }
    Ok((threads * CHAIN) as f64 / best.as_secs_f64().max(1e-9))
}

const SCALAR: usize = 32;

/// Products of a thread.
const CHAIN: usize = 64;
const THREADS_MIN: usize = 1 << 12;
const THREADS_MAX: usize = 1 << 24;
const ROUNDS: usize = 5;
/// So long that neither the first nor the last threads of a launch matter.
const BUSY: Duration = Duration::from_millis(10);
