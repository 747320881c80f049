//! Vectors of scalars in the device's memory.

use std::sync::Arc;

use caldera_kernels::{CurveId, DeviceError, Fill};

use crate::driver::{Buffer, Driver};

/// A vector of scalars in one of the two forms; which one its user knows.
pub(crate) struct Vector {
    curve: CurveId,
    len: usize,
    buffer: Buffer,
}

impl Vector {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        curve: CurveId,
        len: usize,
    ) -> Result<Self, DeviceError> {
        let bytes = len
            .checked_mul(curve.scalar_bytes())
            .ok_or(DeviceError::Memory {
                what: "vector",
                bytes: usize::MAX,
            })?;
        Ok(Self {
            curve,
            len,
            buffer: Buffer::zeros(driver, bytes, "vector")?,
        })
    }

    pub(crate) fn curve(&self) -> CurveId {
        self.curve
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The address of an element, or of the end.
    pub(crate) fn at(&self, index: usize) -> u64 {
        self.buffer.at(index * self.curve.scalar_bytes())
    }

    pub(crate) fn write(&self, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        let size = self.curve.scalar_bytes();
        self.fill(at, scalars.len(), &mut |from, piece| {
            let from = (from - at) * size;
            piece.copy_from_slice(&scalars[from..from + piece.len()]);
            Ok(())
        })?;
        self.settle()
    }

    /// See [`caldera_kernels::Device::vector_fill`].
    pub(crate) fn fill(
        &self,
        at: usize,
        bytes: usize,
        fill: &mut Fill<'_>,
    ) -> Result<(), DeviceError> {
        let (place, size) = (self.place(at, bytes)?, self.curve.scalar_bytes());
        self.buffer.send(place..place + bytes, &mut |at, piece| {
            fill(at / size, piece)
        })
    }

    pub(crate) fn settle(&self) -> Result<(), DeviceError> {
        self.buffer.settle()
    }

    pub(crate) fn read(&self, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.buffer
            .download(self.place(at, scalars.len())?, scalars)
    }

    /// Where so many bytes from element `at` on begin.
    fn place(&self, at: usize, bytes: usize) -> Result<usize, DeviceError> {
        let size = self.curve.scalar_bytes();
        let count = bytes / size;
        if count * size != bytes {
            return Err(DeviceError::Length {
                what: "bytes of scalars",
                expected: count * size,
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
        Ok(at * size)
    }
}
