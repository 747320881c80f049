//! The WebGPU device: any GPU that has a Vulkan driver, by `wgpu` and shaders in WGSL.
//!
//! It is slower than a device written for one maker's cards, and runs on all of them; the pool
//! measures and prefers what is faster. Vectors, points and matrices stay on the device, and so
//! does everything between two quanta of a plan (`plan.rs`). A quantum is one submission of about
//! [`DeviceInfo::quantum`], so that no watchdog fires and whoever waits for the device need not
//! wait for long.
//!
//! There are two ways to multiply ([`Variant`]); which is faster depends on the card and its
//! driver's compiler, so it is measured there (`calibration.rs`). Shaders run with or without
//! the checks that wgpu can add to them, of indices and of loops: the results are the same, and
//! without is faster.

#![deny(unsafe_code)]

mod calibration;
mod elementwise;
mod formulas;
mod generate;
mod gpu;
mod msm;
mod ntt;
mod plan;
mod shaders;
mod spmv;
mod vector;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Group, MatrixId, Plan, Transform, VectorId,
    Work,
};

pub use calibration::Choice;
pub use generate::Variant;

use gpu::{Gpu, lock};
use msm::Bases;
use ntt::Domain;
use plan::{Stage, Staged, Steps};
use spmv::Matrix;
use vector::Vector;

/// Which adapter, and how it is used.
#[derive(Debug, Clone)]
pub struct WgpuConfig {
    /// A part of the adapter's name; without one, a card before what is built in before an
    /// emulation.
    pub adapter: Option<String>,
    /// The longest that one quantum should hold the device.
    pub quantum: Duration,
    /// How long a fence is waited for before the device counts as lost. Some drivers compile
    /// shaders when they first run, which takes seconds.
    pub patience: Duration,
    /// Whether shaders check their indices and bound their loops, as those of a web page must.
    pub checked: bool,
    /// Parts of buffers larger than this are not bound, even where the device could; at least
    /// 64 KiB.
    pub binding_max: u64,
    /// How to multiply.
    pub choice: Choice,
}

impl Default for WgpuConfig {
    fn default() -> Self {
        Self {
            adapter: None,
            quantum: Duration::from_millis(2),
            patience: Duration::from_secs(60),
            checked: false,
            binding_max: u64::MAX,
            choice: Choice::Measured { folder: None },
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum Open {
    /// No adapter at all.
    #[error("no Vulkan driver finds a device: is one installed, and may this user open /dev/dri?")]
    NoDriver,
    /// None of that name.
    #[error("no Vulkan device is called {name:?}; there are: {found}")]
    NotThere {
        /// What was asked for.
        name: String,
        /// What is there.
        found: String,
    },
    /// The adapter is there and cannot be used.
    #[error("Vulkan device {name}: {why}")]
    Refused {
        /// Its name.
        name: String,
        /// The driver's words.
        why: String,
    },
}

/// A GPU, or an emulation of one, as a [`Device`]. See the top of the crate.
pub struct WgpuDevice {
    info: DeviceInfo,
    gpu: Arc<Gpu>,
    variant: Variant,
    next_id: AtomicU64,
    vectors: Registry<VectorId, Vector>,
    bases: Registry<BasesId, Bases>,
    matrices: Registry<MatrixId, Matrix>,
    domains: Mutex<HashMap<(CurveId, u32), Arc<Domain>>>,
}

impl WgpuDevice {
    /// Opens an adapter. Where it has not been measured before, that takes some seconds.
    ///
    /// # Errors
    /// If there is none, or if it does not do what it should.
    pub fn open(config: WgpuConfig) -> Result<Arc<Self>, Open> {
        let config = WgpuConfig {
            binding_max: config.binding_max.max(1 << 16),
            ..config
        };
        let gpu = Gpu::open(&config)?;
        let variant = calibration::choose(&gpu, &config.choice).map_err(|error| Open::Refused {
            name: gpu.name.clone(),
            why: error.to_string(),
        })?;
        Ok(Arc::new(Self {
            info: DeviceInfo {
                kind: "wgpu",
                name: gpu.name.clone(),
                quantum: config.quantum,
                lanes: 1,
            },
            gpu,
            variant,
            next_id: AtomicU64::new(1),
            vectors: Registry::new("vector"),
            bases: Registry::new("bases"),
            matrices: Registry::new("matrix"),
            domains: Mutex::default(),
        }))
    }

    /// How it multiplies.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// Adapter and driver.
    pub fn identity(&self) -> &str {
        &self.gpu.identity
    }

    fn id(&self) -> u64 {
        // Only uniqueness matters.
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn plan_elementwise(
        &self,
        x: VectorId,
        y: VectorId,
        third: VectorId,
        subtract: bool,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let x = self.vectors.find(x, x.0)?;
        let y = self.vectors.find(y, y.0)?;
        let third = self.vectors.find(third, third.0)?;
        for (what, other) in [("second vector", &y), ("third vector", &third)] {
            same_curve(what, x.curve, other.curve)?;
            same_length(what, x.len, other.len)?;
        }
        elementwise::plan(&self.gpu, self.variant, [x, y, third], subtract)
    }

    fn plan_product(
        &self,
        matrix: MatrixId,
        witness: VectorId,
        a: VectorId,
        b: VectorId,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let matrix = self.matrices.find(matrix, matrix.0)?;
        let witness = self.vectors.find(witness, witness.0)?;
        let a = self.vectors.find(a, a.0)?;
        let b = self.vectors.find(b, b.0)?;
        same_curve("witness", matrix.curve, witness.curve)?;
        same_curve("product A w", matrix.curve, a.curve)?;
        same_curve("product B w", matrix.curve, b.curve)?;
        same_length("witness", matrix.columns, witness.len)?;
        if a.len < matrix.rows {
            return Err(DeviceError::Length {
                what: "product A w",
                expected: matrix.rows,
                got: a.len,
            });
        }
        same_length("product B w", a.len, b.len)?;
        spmv::plan(&self.gpu, self.variant, matrix, witness, [a, b])
    }

    fn plan_ntt(
        &self,
        vector: VectorId,
        transform: Transform,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let vector = self.vectors.find(vector, vector.0)?;
        let curve = vector.curve;
        ntt::plan(&self.gpu, self.variant, vector, transform, |log2| {
            if let Some(domain) = lock(&self.domains).get(&(curve, log2)) {
                return Ok(domain.clone());
            }
            // Made without the lock: whoever is second makes it in vain.
            let domain = Domain::new(&self.gpu, self.variant, curve, log2)?;
            Ok(lock(&self.domains)
                .entry((curve, log2))
                .or_insert(Arc::new(domain))
                .clone())
        })
    }

    /// There are no tables yet that would make sums cheaper; the plan of a table says so in no
    /// time.
    fn plan_tables(&self, bases: &[BasesId]) -> Result<Arc<dyn Plan>, DeviceError> {
        if bases.is_empty() {
            return Err(DeviceError::Length {
                what: "sets of bases",
                expected: 1,
                got: 0,
            });
        }
        for &id in bases {
            self.bases.find(id, id.0)?;
        }
        let stages = vec![Stage {
            name: "msm.tables",
            steps: Vec::new(),
        }];
        Ok(Staged::plan(
            Steps::new(&self.gpu, self.variant),
            stages,
            (),
            None,
        ))
    }
}

impl Device for WgpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let vector = Vector::new(&self.gpu, curve, len)?;
        let id = VectorId(self.id());
        self.vectors.insert(id, vector);
        Ok(id)
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?.write(&self.gpu, at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?.read(&self.gpu, at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.vectors.remove(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let bases = Bases::new(&self.gpu, curve, group, &points)?;
        let id = BasesId(self.id());
        self.bases.insert(id, bases);
        Ok(id)
    }

    fn bases_free(&self, id: BasesId) {
        self.bases.remove(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.bases.find(id, id.0).map(|_| 0)
    }

    fn tables_free(&self, _: BasesId) {}

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        let matrix = Matrix::new(&self.gpu, curve, rows, columns, &entries)?;
        let id = MatrixId(self.id());
        self.matrices.insert(id, matrix);
        Ok(id)
    }

    fn matrix_free(&self, id: MatrixId) {
        self.matrices.remove(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        match *work {
            Work::Product {
                matrix,
                witness,
                a,
                b,
            } => self.plan_product(matrix, witness, a, b),
            Work::Multiply { a, b, out } => self.plan_elementwise(a, b, out, false),
            Work::MultiplySubtract { a, b, c } => self.plan_elementwise(a, b, c, true),
            Work::Ntt { vector, transform } => self.plan_ntt(vector, transform),
            Work::Msm {
                bases,
                scalars,
                offset,
                form,
            } => {
                let bases = self.bases.find(bases, bases.0)?;
                let scalars = self.vectors.find(scalars, scalars.0)?;
                same_curve("scalars", bases.curve, scalars.curve)?;
                // The offset comes from outside: it may be anything.
                let available = scalars.len.saturating_sub(offset);
                if available < bases.count {
                    return Err(DeviceError::Length {
                        what: "scalars from the offset on",
                        expected: bases.count,
                        got: available,
                    });
                }
                msm::plan(&self.gpu, self.variant, bases, scalars, offset, form)
            }
            Work::Tables { ref bases, .. } => self.plan_tables(bases),
        }
    }
}

/// Things by id. Plans hold their own reference, so that freeing an id never waits for them.
struct Registry<I, T> {
    what: &'static str,
    things: Mutex<HashMap<I, Arc<T>>>,
}

impl<I: Eq + Hash + Copy, T> Registry<I, T> {
    fn new(what: &'static str) -> Self {
        Self {
            what,
            things: Mutex::default(),
        }
    }

    fn insert(&self, id: I, thing: T) {
        lock(&self.things).insert(id, Arc::new(thing));
    }

    fn find(&self, id: I, number: u64) -> Result<Arc<T>, DeviceError> {
        let unknown = DeviceError::Unknown {
            what: self.what,
            id: number,
        };
        lock(&self.things).get(&id).cloned().ok_or(unknown)
    }

    fn remove(&self, id: I) {
        // Dropped after the lock is released: overwriting goes through the queue.
        let removed = lock(&self.things).remove(&id);
        drop(removed);
    }
}

fn same_curve(what: &'static str, expected: CurveId, got: CurveId) -> Result<(), DeviceError> {
    if expected == got {
        Ok(())
    } else {
        Err(DeviceError::Curve {
            what,
            expected,
            got,
        })
    }
}

fn same_length(what: &'static str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got {
        Ok(())
    } else {
        Err(DeviceError::Length {
            what,
            expected,
            got,
        })
    }
}
