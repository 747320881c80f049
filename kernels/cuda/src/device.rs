//! The device: what is on it by id, and how work becomes plans.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::curve::endomorphism::Lattice;
use caldera_kernels::curve::{Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::field::Field;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Form, Group, MatrixId, Plan, Transform,
    VectorId, Work,
};

use crate::driver::{Buffer, Driver, Kernel};
use crate::elementwise::Elementwise;
use crate::msm::{self, Bases, Msm};
use crate::ntt::Domains;
use crate::plan::{Rates, Staged};
use crate::spmv::{Matrix, Product};
use crate::tables::{self, Build, Wanted};
use crate::vector::Vector;

/// A GPU, or what emulates one, as a [`Device`].
pub struct CudaDevice {
    info: DeviceInfo,
    driver: Arc<dyn Driver>,
    rates: Arc<Rates>,
    next_id: AtomicU64,
    vectors: Registry<VectorId, Vector>,
    bases: Registry<BasesId, Bases>,
    matrices: Registry<MatrixId, Matrix>,
    bn254: OfCurve,
    bls12_381: OfCurve,
}

/// What is made once for a curve.
struct OfCurve {
    multiply: Kernel,
    multiply_subtract: Kernel,
    product: [Kernel; 2],
    domains: Domains,
    lattice: Arc<Buffer>,
    /// The cube roots of one of both groups.
    beta: Buffer,
    g1: (msm::Kernels, tables::Kernels),
    g2: (msm::Kernels, tables::Kernels),
}

impl OfCurve {
    fn new<C: Curve>(driver: &Arc<dyn Driver>, name: &str) -> Result<Self, DeviceError> {
        let kernel = |source, kernel| driver.kernel(&format!("{source}_{name}"), kernel);
        let of_group = |group: &str| {
            Ok::<_, DeviceError>((
                msm::Kernels::find(&**driver, name, group)?,
                tables::Kernels::find(&**driver, &format!("{name}_{group}"))?,
            ))
        };
        let lattice: Vec<u8> = Lattice::of(C::ID)
            .words()
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        let mut beta = vec![0; C::Fq::BYTES];
        C::Fq::CUBE_ROOT.to_montgomery_le(&mut beta);
        // That of G2 may be the other cube root.
        let mut beta_of_g2 = vec![0; C::Fq2::BYTES];
        C::Fq2::CUBE_ROOT.to_montgomery_le(&mut beta_of_g2);
        beta.extend(&beta_of_g2[..C::Fq::BYTES]);
        Ok(Self {
            multiply: kernel("elementwise", "multiply")?,
            multiply_subtract: kernel("elementwise", "multiply_subtract")?,
            product: [
                kernel("spmv", "product_tasks")?,
                kernel("spmv", "product_rows")?,
            ],
            domains: Domains::new::<C::Fr>(driver, name)?,
            lattice: Arc::new(Buffer::of(driver, &lattice, "lattice")?),
            beta: Buffer::of(driver, &beta, "cube roots of one")?,
            g1: of_group("g1")?,
            g2: of_group("g2")?,
        })
    }

    fn of_group(&self, group: Group) -> (msm::Kernels, tables::Kernels) {
        match group {
            Group::G1 => self.g1,
            Group::G2 => self.g2,
        }
    }
}

impl CudaDevice {
    /// A device whose launches are meant to take at most `quantum`.
    ///
    /// # Errors
    /// If the driver lacks a kernel, or memory for the constants of both curves.
    pub fn new(driver: Arc<dyn Driver>, quantum: Duration) -> Result<Arc<Self>, DeviceError> {
        Ok(Arc::new(Self {
            info: DeviceInfo {
                kind: "cuda",
                name: driver.name().to_owned(),
                quantum,
                // A GPU's own threads share a stage out.
                lanes: 1,
            },
            rates: Arc::new(Rates::new(quantum)),
            next_id: AtomicU64::new(1),
            vectors: Registry::new("vector"),
            bases: Registry::new("bases"),
            matrices: Registry::new("matrix"),
            bn254: OfCurve::new::<Bn254>(&driver, "bn254")?,
            bls12_381: OfCurve::new::<Bls12_381>(&driver, "bls12_381")?,
            driver,
        }))
    }

    fn id(&self) -> u64 {
        // Only uniqueness matters.
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn of(&self, curve: CurveId) -> &OfCurve {
        match curve {
            CurveId::Bn254 => &self.bn254,
            CurveId::Bls12_381 => &self.bls12_381,
        }
    }

    fn plan_elementwise(
        &self,
        name: &'static str,
        kernel: impl Fn(&OfCurve) -> Kernel,
        vectors: [VectorId; 3],
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let [a, b, c] = vectors.map(|id| self.vectors.find(id, id.0));
        let (a, b, c) = (a?, b?, c?);
        for (what, other) in [("second vector", &b), ("third vector", &c)] {
            same_curve(what, a.curve(), other.curve())?;
            same_length(what, a.len(), other.len())?;
        }
        let steps = Elementwise {
            kernel: kernel(self.of(a.curve())),
            name,
            vectors: [a, b, c],
        };
        Ok(Staged::new(&self.driver, &self.rates, steps))
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
        same_curve("witness", matrix.curve(), witness.curve())?;
        same_curve("product A w", matrix.curve(), a.curve())?;
        same_curve("product B w", matrix.curve(), b.curve())?;
        same_length("witness", matrix.columns(), witness.len())?;
        if a.len() < matrix.rows() {
            return Err(DeviceError::Length {
                what: "product A w",
                expected: matrix.rows(),
                got: a.len(),
            });
        }
        same_length("product B w", a.len(), b.len())?;
        let steps = Product {
            sums: Product::sums(&self.driver, &matrix)?,
            kernels: self.of(matrix.curve()).product,
            matrix,
            witness,
            results: [a, b],
        };
        Ok(Staged::new(&self.driver, &self.rates, steps))
    }

    fn plan_ntt(&self, id: VectorId, transform: Transform) -> Result<Arc<dyn Plan>, DeviceError> {
        let vector = self.vectors.find(id, id.0)?;
        let curve = vector.curve();
        let domains = &self.of(curve).domains;
        let (driver, rates) = (&self.driver, &self.rates);
        let steps = match curve {
            CurveId::Bn254 => {
                domains.plan::<<Bn254 as Curve>::Fr>(driver, rates, vector, transform)?
            }
            CurveId::Bls12_381 => {
                domains.plan::<<Bls12_381 as Curve>::Fr>(driver, rates, vector, transform)?
            }
        };
        Ok(Staged::new(driver, rates, steps))
    }

    fn plan_msm(
        &self,
        bases: BasesId,
        scalars: VectorId,
        offset: usize,
        form: Form,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let bases = self.bases.find(bases, bases.0)?;
        let scalars = self.vectors.find(scalars, scalars.0)?;
        same_curve("scalars", bases.curve, scalars.curve())?;
        match (bases.curve, bases.group) {
            (CurveId::Bn254, Group::G1) => {
                self.plan_msm_in::<<Bn254 as Curve>::Fq>(bases, scalars, offset, form)
            }
            (CurveId::Bn254, Group::G2) => {
                self.plan_msm_in::<<Bn254 as Curve>::Fq2>(bases, scalars, offset, form)
            }
            (CurveId::Bls12_381, Group::G1) => {
                self.plan_msm_in::<<Bls12_381 as Curve>::Fq>(bases, scalars, offset, form)
            }
            (CurveId::Bls12_381, Group::G2) => {
                self.plan_msm_in::<<Bls12_381 as Curve>::Fq2>(bases, scalars, offset, form)
            }
        }
    }

    fn plan_msm_in<F: Coordinate>(
        &self,
        bases: Arc<Bases>,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let of_curve = self.of(F::CURVE);
        let kernels = of_curve.of_group(F::GROUP).0;
        let lattice = of_curve.lattice.clone();
        let steps = Msm::<F>::new(&self.driver, kernels, lattice, bases, scalars, offset, form)?;
        Ok(Staged::new(&self.driver, &self.rates, steps))
    }

    fn plan_tables(&self, bases: &[BasesId], bytes: usize) -> Result<Arc<dyn Plan>, DeviceError> {
        let wanted = bases
            .iter()
            .map(|&id| {
                let bases = self.bases.find(id, id.0)?;
                let of_curve = self.of(bases.curve);
                Ok(Wanted {
                    kernels: of_curve.of_group(bases.group).1,
                    beta: of_curve.beta.at(match bases.group {
                        Group::G1 => 0,
                        Group::G2 => bases.curve.base_bytes(),
                    }),
                    bases,
                })
            })
            .collect::<Result<_, DeviceError>>()?;
        let steps = Build::new(&self.driver, wanted, bytes)?;
        Ok(Staged::new(&self.driver, &self.rates, steps))
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let vector = Vector::new(&self.driver, curve, len)?;
        let id = VectorId(self.id());
        self.vectors.insert(id, vector);
        Ok(id)
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?.write(at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?.read(at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.vectors.remove(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let bases = Bases::new(&self.driver, curve, group, &points)?;
        let id = BasesId(self.id());
        self.bases.insert(id, bases);
        Ok(id)
    }

    fn bases_free(&self, id: BasesId) {
        self.bases.remove(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        Ok(self.bases.find(id, id.0)?.tables_bytes())
    }

    fn tables_free(&self, id: BasesId) {
        if let Ok(bases) = self.bases.find(id, id.0) {
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
        let matrix = Matrix::new(&self.driver, curve, rows, columns, &entries)?;
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
            Work::Multiply { a, b, out } => self.plan_elementwise(
                "elementwise.multiply",
                |of_curve| of_curve.multiply,
                [a, b, out],
            ),
            Work::MultiplySubtract { a, b, c } => self.plan_elementwise(
                "elementwise.multiply_subtract",
                |of_curve| of_curve.multiply_subtract,
                [a, b, c],
            ),
            Work::Ntt { vector, transform } => self.plan_ntt(vector, transform),
            Work::Msm {
                bases,
                scalars,
                offset,
                form,
            } => self.plan_msm(bases, scalars, offset, form),
            Work::Tables { ref bases, bytes } => self.plan_tables(bases, bytes),
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
        self.lock().insert(id, Arc::new(thing));
    }

    fn find(&self, id: I, number: u64) -> Result<Arc<T>, DeviceError> {
        let unknown = DeviceError::Unknown {
            what: self.what,
            id: number,
        };
        self.lock().get(&id).cloned().ok_or(unknown)
    }

    fn remove(&self, id: I) {
        // Dropped after the lock is released: overwriting a large vector takes a while.
        let removed = self.lock().remove(&id);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<I, Arc<T>>> {
        // Each critical section is one call of the map's, which leaves it whole.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
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
