//! Vectors of scalars on the device.

use std::sync::Arc;

use caldera_kernels::{CurveId, DeviceError};

use crate::gpu::{Gpu, Part, Secret};

pub(crate) struct Vector {
    pub(crate) curve: CurveId,
    pub(crate) len: usize,
    pub(crate) secret: Secret,
}

/// Bytes of a scalar.
pub(crate) const SCALAR: u64 = 32;

impl Vector {
    pub(crate) fn new(gpu: &Arc<Gpu>, curve: CurveId, len: usize) -> Result<Self, DeviceError> {
        // Lengths come from outside: a product that does not fit is more than there is.
        let bytes = (len as u64).saturating_mul(SCALAR).min(u64::MAX / 2);
        Ok(Self {
            curve,
            len,
            secret: gpu.secret("vector", bytes)?,
        })
    }

    /// Some elements, to be bound; `from` is a multiple of eight.
    pub(crate) fn part(&self, from: usize, count: usize) -> Part<'_> {
        Part {
            buffer: &self.secret.buffer,
            range: from as u64 * SCALAR..(from + count) as u64 * SCALAR,
        }
    }

    pub(crate) fn write(&self, gpu: &Gpu, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.check(at, scalars.len())?;
        gpu.write(&self.secret.buffer, at as u64 * SCALAR, scalars)
    }

    pub(crate) fn read(&self, gpu: &Gpu, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.check(at, scalars.len())?;
        gpu.read(&self.secret.buffer, at as u64 * SCALAR, scalars)
    }

    fn check(&self, at: usize, bytes: usize) -> Result<(), DeviceError> {
        let count = bytes / SCALAR as usize;
        if count * SCALAR as usize != bytes {
            return Err(DeviceError::Length {
                what: "bytes of scalars",
                expected: count * SCALAR as usize,
                got: bytes,
            });
        }
        let room = self.len.saturating_sub(at);
        if at > self.len || count > room {
            return Err(DeviceError::Length {
                what: "scalars in the vector from there on",
                expected: count,
                got: room,
            });
        }
        Ok(())
    }
}

/// Elements that fit one binding.
pub(crate) fn fitting(gpu: &Gpu) -> usize {
    (gpu.binding / SCALAR) as usize
}
