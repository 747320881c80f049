//! The CPU device: all work as quanta that any thread of the caller's may run.
//!
//! The device has no threads of its own and takes no lock while a quantum runs: a lane's state is
//! behind a mutex that is only ever tried, so that misuse is an error, and vectors are words that
//! any thread may touch (`vector.rs`), so that misuse can spoil a result but not memory. There is
//! no unsafe code here.
//!
//! Quanta are cut by counting, not by looking at a clock: when the device is made it measures for
//! a few milliseconds what an addition, a butterfly and the like cost on this core
//! (`calibration.rs`), and a quantum does as many as fit three quarters of its length. The state
//! between two quanta is a position and partly filled batches, so cutting finely costs nothing
//! but the calls.

mod calibration;
mod elementwise;
mod msm;
mod ntt;
mod plan;
mod spmv;
mod tables;
mod vector;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::curve::{Bls12_381, Bn254, Curve};
use crate::device::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Form, Group, MatrixId, Plan, Transform,
    VectorId, Work,
};
use crate::field::PrimeField;
use crate::holdings::{Fitted, Holdings, Shape, Shaped, same_length};
use crate::lanes::Engine;
pub use crate::lanes::{Laned, Row};

use calibration::Rates;
use elementwise::{Elementwise, Operation};
use msm::Msm;
use ntt::{Domain, Ntt};
use plan::Staged;
use spmv::{Matrix, Product};
use tables::{Bases, Build};
use vector::Vector;

/// How the CPU device cuts work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuConfig {
    /// The longest that one quantum should hold a core. `Duration::MAX` leaves lanes uncut.
    pub quantum: Duration,
    /// Into how many lanes a stage is cut where its size allows: twice the number of workers lets
    /// them all end at about the same time. Zero counts as one.
    pub lanes: usize,
}

/// Which vector instructions a device uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vectors {
    /// The best that the processor has, or none.
    Best,
    /// None.
    None,
    /// AVX2 with FMA.
    Avx2,
}

impl Vectors {
    /// The engine, if any; `None` where the processor lacks the instructions.
    pub(crate) fn engine(self) -> Option<Option<Engine>> {
        Some(match self {
            Vectors::Best => Engine::best(),
            Vectors::None => None,
            Vectors::Avx2 => Some(Engine::avx2()?),
        })
    }
}

/// Elements as vectors of those instructions, eight or a multiple of it; `None` where there are
/// none.
///
/// # Panics
/// If there is another number of elements.
pub fn row<F: PrimeField + Laned>(vectors: Vectors, elements: &[F]) -> Option<Row<F>> {
    Some(Row::new(vectors.engine()??, elements))
}

/// The CPU as a [`Device`]. See the top of the module.
pub struct CpuDevice {
    info: DeviceInfo,
    engine: Option<Engine>,
    rates: Rates,
    held: Holdings<Vector, Bases, Matrix>,
    domains_bn254: Domains<<Bn254 as Curve>::Fr>,
    domains_bls12_381: Domains<<Bls12_381 as Curve>::Fr>,
}

impl CpuDevice {
    /// A device that cuts as `config` says. Takes a few milliseconds, in which it measures the
    /// core that it runs on.
    pub fn new(config: CpuConfig) -> Arc<Self> {
        Self::on(config, Engine::best())
    }

    /// The same with other vector instructions than the processor's best: what runs on other
    /// processors, to be tested and measured on this one. `None` where it lacks them.
    pub fn with_vectors(config: CpuConfig, vectors: Vectors) -> Option<Arc<Self>> {
        Some(Self::on(config, vectors.engine()?))
    }

    fn on(config: CpuConfig, engine: Option<Engine>) -> Arc<Self> {
        Arc::new(Self {
            info: DeviceInfo {
                kind: "cpu",
                name: model_name(),
                quantum: config.quantum,
                lanes: config.lanes.max(1),
            },
            engine,
            rates: Rates::measure(config.quantum, engine),
            held: Holdings::default(),
            domains_bn254: Domains::default(),
            domains_bls12_381: Domains::default(),
        })
    }

    fn plan_elementwise(&self, operation: Operation, vectors: [Arc<Vector>; 3]) -> Arc<dyn Plan> {
        let lanes = self.info.lanes;
        match vectors[0].curve() {
            CurveId::Bn254 => Elementwise::<<Bn254 as Curve>::Fr>::plan(
                operation,
                vectors,
                lanes,
                self.engine,
                &self.rates.bn254,
            ),
            CurveId::Bls12_381 => Elementwise::<<Bls12_381 as Curve>::Fr>::plan(
                operation,
                vectors,
                lanes,
                self.engine,
                &self.rates.bls12_381,
            ),
        }
    }

    fn plan_product(
        &self,
        matrix: Arc<Matrix>,
        witness: Arc<Vector>,
        results: [Arc<Vector>; 2],
    ) -> Arc<dyn Plan> {
        let lanes = self.info.lanes;
        match matrix.curve() {
            CurveId::Bn254 => Product::<<Bn254 as Curve>::Fr>::plan(
                matrix,
                witness,
                results,
                lanes,
                self.engine,
                &self.rates.bn254,
            ),
            CurveId::Bls12_381 => Product::<<Bls12_381 as Curve>::Fr>::plan(
                matrix,
                witness,
                results,
                lanes,
                self.engine,
                &self.rates.bls12_381,
            ),
        }
    }

    fn plan_ntt(
        &self,
        vector: Arc<Vector>,
        transform: Transform,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let lanes = self.info.lanes;
        Ok(match vector.curve() {
            CurveId::Bn254 => {
                let domain = self
                    .domains_bn254
                    .find(vector.len(), transform, self.engine)?;
                Ntt::plan(domain, vector, transform, lanes, &self.rates.bn254)
            }
            CurveId::Bls12_381 => {
                let domain = self
                    .domains_bls12_381
                    .find(vector.len(), transform, self.engine)?;
                Ntt::plan(domain, vector, transform, lanes, &self.rates.bls12_381)
            }
        })
    }

    fn plan_msm(
        &self,
        bases: Arc<Bases>,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let lanes = self.info.lanes;
        match (bases.curve, bases.group) {
            (CurveId::Bn254, Group::G1) => Msm::<<Bn254 as Curve>::Fr, <Bn254 as Curve>::Fq>::plan(
                bases,
                scalars,
                offset,
                form,
                lanes,
                self.engine,
                &self.rates.bn254,
            ),
            (CurveId::Bn254, Group::G2) => {
                Msm::<<Bn254 as Curve>::Fr, <Bn254 as Curve>::Fq2>::plan(
                    bases,
                    scalars,
                    offset,
                    form,
                    lanes,
                    self.engine,
                    &self.rates.bn254,
                )
            }
            (CurveId::Bls12_381, Group::G1) => {
                Msm::<<Bls12_381 as Curve>::Fr, <Bls12_381 as Curve>::Fq>::plan(
                    bases,
                    scalars,
                    offset,
                    form,
                    lanes,
                    self.engine,
                    &self.rates.bls12_381,
                )
            }
            (CurveId::Bls12_381, Group::G2) => {
                Msm::<<Bls12_381 as Curve>::Fr, <Bls12_381 as Curve>::Fq2>::plan(
                    bases,
                    scalars,
                    offset,
                    form,
                    lanes,
                    self.engine,
                    &self.rates.bls12_381,
                )
            }
        }
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let vector = Vector::new(curve, len)?;
        Ok(self.held.add_vector(vector))
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.write(at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.read(at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.held.remove_vector(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let size = curve.point_bytes(group);
        let count = points.len() / size;
        same_length("bytes of points", count * size, points.len())?;
        msm::check_count(count)?;
        let bases = Bases::new(curve, group, points)?;
        Ok(self.held.add_bases(bases))
    }

    fn bases_free(&self, id: BasesId) {
        self.held.remove_bases(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        let bases = self.held.bases(id)?;
        Ok(bases.tables().map_or(0, |tables| tables.bytes()))
    }

    fn tables_free(&self, id: BasesId) {
        if let Ok(bases) = self.held.bases(id) {
            bases.set_tables(None);
        }
    }

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        let matrix = Matrix::new(curve, rows, columns, entries)?;
        Ok(self.held.add_matrix(matrix))
    }

    fn matrix_free(&self, id: MatrixId) {
        self.held.remove_matrix(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        match self.held.fit(work)? {
            Fitted::Product {
                matrix,
                witness,
                results,
            } => Ok(self.plan_product(matrix, witness, results)),
            Fitted::Multiply(vectors) => Ok(self.plan_elementwise(Operation::Multiply, vectors)),
            Fitted::MultiplySubtract(vectors) => {
                Ok(self.plan_elementwise(Operation::MultiplySubtract, vectors))
            }
            Fitted::Ntt { vector, transform } => self.plan_ntt(vector, transform),
            Fitted::Msm {
                bases,
                scalars,
                offset,
                form,
            } => self.plan_msm(bases, scalars, offset, form),
            Fitted::Tables { bases, bytes } => {
                Build::plan(bases, bytes, self.info.lanes, self.engine, &self.rates)
            }
        }
    }
}

impl Shaped for Vector {
    fn shape(&self) -> Shape {
        Shape::row(self.curve(), self.len())
    }
}

impl Shaped for Bases {
    fn shape(&self) -> Shape {
        Shape::row(self.curve, self.count())
    }
}

impl Shaped for Matrix {
    fn shape(&self) -> Shape {
        Shape {
            curve: self.curve(),
            len: self.rows(),
            columns: self.columns(),
        }
    }
}

/// Twiddle factors, made once for each size.
struct Domains<F>(Mutex<HashMap<u32, Arc<Domain<F>>>>);

impl<F> Default for Domains<F> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Domains<F> {
    fn find(
        &self,
        len: usize,
        transform: Transform,
        engine: Option<Engine>,
    ) -> Result<Arc<Domain<F>>, DeviceError> {
        let log2 = ntt::domain_log2::<F>(len, transform)?;
        let domain = {
            let mut domains = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            domains.entry(log2).or_default().clone()
        };
        // Made outside the lock: others find their domains meanwhile, and two that want the same
        // one wait for each other there.
        domain.prepare(log2, transform, engine);
        Ok(domain)
    }
}

/// The processor's name where Linux tells it, else the architecture's.
fn model_name() -> String {
    std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
                .map(|(_, name)| name.trim().to_owned())
        })
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}
