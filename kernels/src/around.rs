//! A device around another one, whose every quantum goes through a function.
//!
//! What a box does when silicon is slow, hangs or breaks cannot be tried on silicon that works. So
//! the function is given each quantum and may run it, hold it up, make it longer, fail it or panic;
//! all else is the inner device's. Another one may be told of each piece of a vector, or of all points, that come to the device.

use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::device::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Fill, Group, Health, MatrixId, Original,
    Plan, Progress, Site, Thing, VectorId, Work,
};

/// What stands around each quantum: it is told the kernel's name and given the quantum to run.
pub type Quantum = dyn Fn(
        &'static str,
        &mut dyn FnMut() -> Result<Progress, DeviceError>,
    ) -> Result<Progress, DeviceError>
    + Send
    + Sync;

/// What is told of each piece of a vector before that is brought, and of the end of all with no bytes: of which vector, from which
/// element on, how many bytes. If it fails, so does the device.
pub type Filling = dyn Fn(VectorId, usize, usize) -> Result<(), DeviceError> + Send + Sync;

/// What is told of points before they are brought: how many bytes. If it fails, so does the device.
pub type Loading = dyn Fn(usize) -> Result<(), DeviceError> + Send + Sync;

/// See the top of this file.
pub struct Around {
    inner: Arc<dyn Device>,
    quantum: Arc<Quantum>,
    filling: Option<Arc<Filling>>,
    loading: Option<Arc<Loading>>,
    site: Option<Site>,
    lost: OnceLock<String>,
}

struct AroundPlan {
    inner: Arc<dyn Plan>,
    quantum: Arc<Quantum>,
}

impl Around {
    /// A device like `inner`, whose quanta go through `quantum`.
    pub fn new(inner: Arc<dyn Device>, quantum: Arc<Quantum>) -> Arc<Around> {
        Arc::new(Around {
            quantum,
            ..Around::plain(inner)
        })
    }

    /// A device like `inner`, of which `filling` is told what is brought to it.
    pub fn filled(inner: Arc<dyn Device>, filling: Arc<Filling>) -> Arc<Around> {
        Arc::new(Around {
            filling: Some(filling),
            ..Around::plain(inner)
        })
    }

    /// A device like `inner`, of which `loading` is told which points are brought to it.
    pub fn loaded(inner: Arc<dyn Device>, loading: Arc<Loading>) -> Arc<Around> {
        Arc::new(Around {
            loading: Some(loading),
            ..Around::plain(inner)
        })
    }

    /// A device like `inner`, whose quanta go through `quantum`, which says that it lies elsewhere, or has another memory.
    pub fn at(site: Site, inner: Arc<dyn Device>, quantum: Arc<Quantum>) -> Arc<Around> {
        Arc::new(Around {
            quantum,
            site: Some(site),
            ..Around::plain(inner)
        })
    }

    fn plain(inner: Arc<dyn Device>) -> Around {
        Around {
            inner,
            quantum: Arc::new(|_, quantum| quantum()),
            filling: None,
            loading: None,
            site: None,
            lost: OnceLock::new(),
        }
    }

    /// From now on it says of itself that it is lost, though nobody uses it.
    pub fn lose(&self, why: &str) {
        // Of two reasons the first one counts.
        let _ = self.lost.set(why.to_owned());
    }
}

impl Plan for AroundPlan {
    fn stages(&self) -> usize {
        self.inner.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.inner.kernel(stage)
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        self.inner.open(stage)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let kernel = self.inner.kernel(stage);
        (self.quantum)(kernel, &mut || self.inner.run(stage, lane))
    }

    fn bytes(&self) -> usize {
        self.inner.bytes()
    }

    fn point(&self) -> Option<Vec<u8>> {
        self.inner.point()
    }

    fn device_began(&self) -> Option<Instant> {
        self.inner.device_began()
    }

    fn device_time(&self) -> Option<Duration> {
        self.inner.device_time()
    }

    fn grain(&self) -> Option<usize> {
        self.inner.grain()
    }

    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        self.inner.narrow(points)
    }

    fn beside(self: Arc<Self>) -> Vec<Arc<dyn Plan>> {
        let around = |inner| -> Arc<dyn Plan> {
            Arc::new(AroundPlan {
                inner,
                quantum: Arc::clone(&self.quantum),
            })
        };
        let beside = Arc::clone(&self.inner).beside();
        beside.into_iter().map(around).collect()
    }

    fn allow(&self, members: u64) {
        self.inner.allow(members);
    }

    fn member(&self, stage: usize) -> usize {
        self.inner.member(stage)
    }
}

impl Device for Around {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        self.inner.vector(curve, len)
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.inner.vector_write(id, at, scalars)
    }

    fn vector_fill(
        &self,
        id: VectorId,
        at: usize,
        bytes: usize,
        fill: &mut Fill<'_>,
    ) -> Result<(), DeviceError> {
        if let Some(filling) = &self.filling {
            filling(id, at, bytes)?;
        }
        self.inner.vector_fill(id, at, bytes, fill)
    }

    fn vector_settle(&self, id: VectorId) -> Result<(), DeviceError> {
        if let Some(filling) = &self.filling {
            filling(id, 0, 0)?;
        }
        self.inner.vector_settle(id)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.vector_read(id, at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.inner.vector_free(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        if let Some(loading) = &self.loading {
            loading(points.len())?;
        }
        self.inner.bases(curve, group, points)
    }

    fn bases_free(&self, id: BasesId) {
        self.inner.bases_free(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.inner.tables_bytes(id)
    }

    fn tables_free(&self, id: BasesId) {
        self.inner.tables_free(id);
    }

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        self.inner.matrix(curve, rows, columns, entries)
    }

    fn matrix_free(&self, id: MatrixId) {
        self.inner.matrix_free(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        Ok(Arc::new(AroundPlan {
            inner: self.inner.plan(work)?,
            quantum: Arc::clone(&self.quantum),
        }))
    }

    fn is_mixed(&self) -> bool {
        self.inner.is_mixed()
    }

    fn plan_on_host(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        Ok(Arc::new(AroundPlan {
            inner: self.inner.plan_on_host(work)?,
            quantum: Arc::clone(&self.quantum),
        }))
    }

    fn distrust(&self, why: &str) {
        self.inner.distrust(why);
    }

    fn examine(&self, why: &str) -> usize {
        self.inner.examine(why)
    }

    fn beside(&self) -> &[DeviceInfo] {
        self.inner.beside()
    }

    fn is_lost(&self, member: usize) -> bool {
        self.inner.is_lost(member)
    }

    fn site(&self, member: usize) -> Site {
        let own = self.site.clone().filter(|_| member == 0);
        own.unwrap_or_else(|| self.inner.site(member))
    }

    fn peak(&self, curve: CurveId) -> Result<Option<f64>, DeviceError> {
        self.inner.peak(curve)
    }

    fn copy_bytes(&self, member: usize, of: Original) -> usize {
        self.inner.copy_bytes(member, of)
    }

    fn keeps(&self, curve: CurveId, thing: Thing) -> bool {
        self.inner.keeps(curve, thing)
    }

    fn copy_len(&self, member: usize, of: Original) -> usize {
        self.inner.copy_len(member, of)
    }

    fn copy_free(&self, member: usize, of: Original) {
        self.inner.copy_free(member, of);
    }

    fn copy_is_used(&self, member: usize, of: Original) -> bool {
        self.inner.copy_is_used(member, of)
    }

    fn copy_tables(
        &self,
        member: usize,
        bases: &[BasesId],
        bytes: usize,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        Ok(Arc::new(AroundPlan {
            inner: self.inner.copy_tables(member, bases, bytes)?,
            quantum: Arc::clone(&self.quantum),
        }))
    }

    fn copy_tables_bytes(&self, member: usize, id: BasesId) -> usize {
        self.inner.copy_tables_bytes(member, id)
    }

    fn copy_tables_free(&self, member: usize, id: BasesId) {
        self.inner.copy_tables_free(member, id);
    }

    fn copies_by_order(&self) {
        self.inner.copies_by_order();
    }

    fn copy(&self, member: usize, of: Original) -> Result<(), DeviceError> {
        self.inner.copy(member, of)
    }

    fn keep(&self) {
        self.inner.keep();
    }

    fn health(&self) -> Health {
        let mut health = self.inner.health();
        health.lost = self.lost.get().cloned().or(health.lost);
        health
    }

    fn members(&self) -> Vec<(DeviceInfo, Health)> {
        self.inner.members()
    }

    fn probe(&self) -> Result<(), DeviceError> {
        match self.lost.get() {
            Some(why) => Err(DeviceError::Lost {
                device: self.info().name.clone(),
                why: why.clone(),
            }),
            None => self.inner.probe(),
        }
    }
}
