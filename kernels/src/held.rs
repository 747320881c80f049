//! What a device holds for somebody, freed when they are done.

use std::ops::Deref;

use bytes::Bytes;

use crate::device::{BasesId, CurveId, Device, DeviceError, Group, MatrixId, VectorId};

/// Vectors, bases and matrices on a device, freed when this is dropped: by who is done, and by who
/// failed half-way through.
pub struct Held<D: Deref<Target: Device>> {
    device: D,
    vectors: Vec<VectorId>,
    bases: Vec<BasesId>,
    matrices: Vec<MatrixId>,
}

impl<D: Deref<Target: Device>> Held<D> {
    /// Nothing yet.
    pub fn new(device: D) -> Held<D> {
        Held {
            device,
            vectors: Vec::new(),
            bases: Vec::new(),
            matrices: Vec::new(),
        }
    }

    /// Where.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// [`Device::vector`].
    pub fn vector(&mut self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let id = self.device.vector(curve, len)?;
        self.vectors.push(id);
        Ok(id)
    }

    /// [`Device::bases`].
    pub fn bases(
        &mut self,
        curve: CurveId,
        group: Group,
        points: Bytes,
    ) -> Result<BasesId, DeviceError> {
        let id = self.device.bases(curve, group, points)?;
        self.bases.push(id);
        Ok(id)
    }

    /// [`Device::matrix`].
    pub fn matrix(
        &mut self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        let id = self.device.matrix(curve, rows, columns, entries)?;
        self.matrices.push(id);
        Ok(id)
    }
}

impl<D: Deref<Target: Device>> Drop for Held<D> {
    fn drop(&mut self) {
        for id in &self.vectors {
            self.device.vector_free(*id);
        }
        for id in &self.bases {
            self.device.bases_free(*id);
        }
        for id in &self.matrices {
            self.device.matrix_free(*id);
        }
    }
}
