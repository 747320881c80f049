//! Number-theoretic transforms: which passes, and what they need. The passes are `cuda/ntt.cu`'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use caldera_kernels::field::PrimeField;
use caldera_kernels::{DeviceError, Transform};

use crate::driver::{Buffer, Driver, Kernel};
use crate::plan::{Pace, Steps, Sweep, run_now};
use crate::vector::Vector;

/// The factors for all transforms in one field. Those of a size are part of those of larger ones.
pub(crate) struct Domains {
    kernels: Kernels,
    /// The root of order 2^i at i.
    roots: Buffer,
    two_adicity: u32,
    twiddles: Mutex<Option<Arc<Twiddles>>>,
    sizes: Mutex<HashMap<u32, Arc<Size>>>,
}

struct Kernels {
    twiddles: Kernel,
    scales: Kernel,
    in_frequency: Kernel,
    in_time: Kernel,
    shift: Kernel,
}

/// Factors of all levels below one.
struct Twiddles {
    log2: u32,
    buffer: Buffer,
}

/// What belongs to one size.
struct Size {
    /// 1 / n.
    factor: Buffer,
    /// v^rev(i) / n at i.
    scales: Mutex<Option<Arc<Buffer>>>,
}

impl Domains {
    /// Those of the unit with this suffix.
    pub(crate) fn new<F: PrimeField>(
        driver: &Arc<dyn Driver>,
        unit: &str,
    ) -> Result<Self, DeviceError> {
        let kernel = |name| driver.kernel(&format!("ntt_{unit}"), name);
        let mut roots = vec![0; (F::TWO_ADICITY as usize + 1) * F::BYTES];
        for (log2, bytes) in roots.chunks_mut(F::BYTES).enumerate() {
            F::root_of_unity(log2 as u32)
                .expect("within the two-adicity")
                .to_montgomery_le(bytes);
        }
        Ok(Self {
            kernels: Kernels {
                twiddles: kernel("ntt_twiddles")?,
                scales: kernel("ntt_scales")?,
                in_frequency: kernel("ntt_in_frequency")?,
                in_time: kernel("ntt_in_time")?,
                shift: kernel("ntt_shift")?,
            },
            roots: Buffer::of(driver, &roots, "roots of unity")?,
            two_adicity: F::TWO_ADICITY,
            twiddles: Mutex::default(),
            sizes: Mutex::default(),
        })
    }

    /// A plan of a transform; makes the factors that are not there yet.
    pub(crate) fn plan<F: PrimeField>(
        &self,
        driver: &Arc<dyn Driver>,
        pace: &Pace,
        vector: Arc<Vector>,
        transform: Transform,
    ) -> Result<Ntt, DeviceError> {
        let len = vector.len();
        // A shift needs the root of twice the order.
        let max_log2 = self.two_adicity - u32::from(transform == Transform::Shift);
        if len < 2 || !len.is_power_of_two() || len.ilog2() > max_log2 {
            return Err(DeviceError::Domain { got: len, max_log2 });
        }
        let log2 = len.ilog2();
        let size = self.size::<F>(driver, log2)?;
        let scales = match transform {
            Transform::Shift => Some(self.scales(driver, pace, &size, log2)?),
            _ => None,
        };
        let passes = passes(log2);
        // A transform alone moves its elements: not where others still wait to be read.
        let between = if scales.is_none() && passes.len() > 1 {
            Some(Buffer::secret(driver, len * SCALAR, "transform")?)
        } else {
            None
        };
        Ok(Ntt {
            vector,
            transform,
            log2,
            passes,
            twiddles: self.twiddles(driver, pace, log2)?,
            size,
            scales,
            between,
            in_frequency: self.kernels.in_frequency,
            in_time: self.kernels.in_time,
            shift: self.kernels.shift,
        })
    }

    fn twiddles(
        &self,
        driver: &Arc<dyn Driver>,
        pace: &Pace,
        log2: u32,
    ) -> Result<Arc<Twiddles>, DeviceError> {
        let mut twiddles = self.twiddles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = twiddles.as_ref().filter(|there| there.log2 >= log2) {
            return Ok(there.clone());
        }
        let buffer = Buffer::uninitialised(driver, SCALAR << log2, "twiddle factors")?;
        let words = vec![self.roots.at(0), buffer.at(0), u64::from(log2), 0];
        let sweep = Sweep::threads(self.kernels.twiddles, 1 << log2, words);
        run_now(&**driver, pace, vec![sweep])?;
        Ok(twiddles.insert(Arc::new(Twiddles { log2, buffer })).clone())
    }

    fn size<F: PrimeField>(
        &self,
        driver: &Arc<dyn Driver>,
        log2: u32,
    ) -> Result<Arc<Size>, DeviceError> {
        let mut sizes = self.sizes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(size) = sizes.get(&log2) {
            return Ok(size.clone());
        }
        let mut bytes = [0; SCALAR];
        F::from(1 << log2)
            .inverse()
            .expect("a power of two is not zero")
            .to_montgomery_le(&mut bytes);
        let size = Arc::new(Size {
            factor: Buffer::of(driver, &bytes, "factor of a transform")?,
            scales: Mutex::default(),
        });
        sizes.insert(log2, size.clone());
        Ok(size)
    }

    fn scales(
        &self,
        driver: &Arc<dyn Driver>,
        pace: &Pace,
        size: &Size,
        log2: u32,
    ) -> Result<Arc<Buffer>, DeviceError> {
        let mut scales = size.scales.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = &*scales {
            return Ok(there.clone());
        }
        let buffer = Buffer::uninitialised(driver, SCALAR << log2, "powers of a coset")?;
        let words = vec![
            self.roots.at(0),
            buffer.at(0),
            u64::from(log2),
            size.factor.at(0),
        ];
        let sweep = Sweep::threads(self.kernels.scales, 1 << log2, words);
        run_now(&**driver, pace, vec![sweep])?;
        Ok(scales.insert(Arc::new(buffer)).clone())
    }
}

/// One transform.
pub(crate) struct Ntt {
    vector: Arc<Vector>,
    transform: Transform,
    log2: u32,
    /// From the top: the levels from the second bound up to the first.
    passes: Vec<(u32, u32)>,
    twiddles: Arc<Twiddles>,
    size: Arc<Size>,
    scales: Option<Arc<Buffer>>,
    between: Option<Buffer>,
    in_frequency: Kernel,
    in_time: Kernel,
    shift: Kernel,
}

/// The inner pass has as many levels as a block has room for, the others as equally many as is
/// possible.
fn passes(log2: u32) -> Vec<(u32, u32)> {
    let inner = log2.min(TILE_LOG2);
    let outer = log2 - inner;
    let count = outer.div_ceil(TILE_LOG2);
    let bound = |i: u32| log2 - outer * i / count.max(1);
    (0..count)
        .map(|i| (bound(i), bound(i + 1)))
        .chain([(inner, 0)])
        .collect()
}

impl Ntt {
    fn pass(&self, kernel: Kernel, levels: (u32, u32), from: u64, to: u64) -> Sweep {
        let inner = levels.1 == 0;
        let inverse = self.transform != Transform::Forward;
        let factor = if inner && self.transform == Transform::Inverse {
            self.size.factor.at(0)
        } else {
            0
        };
        let reversed = inner && self.scales.is_none();
        let words = vec![
            from,
            to,
            self.twiddles.buffer.at(0),
            self.scales.as_ref().map_or(0, |scales| scales.at(0)),
            factor,
            u64::from(self.log2),
            u64::from(levels.0),
            u64::from(levels.1),
            u64::from(inverse),
            u64::from(reversed),
        ];
        let blocks = 1 << (self.log2 - self.log2.min(TILE_LOG2));
        Sweep::blocks(kernel, blocks, words)
    }
}

impl Steps for Ntt {
    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        match self.transform {
            Transform::Forward => "ntt.forward",
            Transform::Inverse => "ntt.inverse",
            Transform::Shift => "ntt.shift",
        }
    }

    fn open(&self, _: usize) -> Result<Vec<Sweep>, DeviceError> {
        let here = self.vector.at(0);
        let (inner, outer) = self
            .passes
            .split_last()
            .expect("there is always an inner pass");
        if self.scales.is_some() {
            let down = outer
                .iter()
                .map(|&levels| self.pass(self.in_frequency, levels, here, here));
            let up = outer
                .iter()
                .rev()
                .map(|&levels| self.pass(self.in_time, levels, here, here));
            let shift = self.pass(self.shift, *inner, here, here);
            return Ok(down.chain([shift]).chain(up).collect());
        }
        let between = self.between.as_ref().map_or(here, |buffer| buffer.at(0));
        let mut from = here;
        let mut sweeps = Vec::new();
        for &levels in outer {
            sweeps.push(self.pass(self.in_frequency, levels, from, between));
            from = between;
        }
        sweeps.push(self.pass(self.in_frequency, *inner, from, here));
        Ok(sweeps)
    }
}

const SCALAR: usize = 32;

/// The elements of a block are 2^10: `cuda/ntt.cu`.
const TILE_LOG2: u32 = 10;
