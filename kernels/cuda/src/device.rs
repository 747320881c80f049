//! The device: what is on it by id, and how work becomes plans.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::curve::endomorphism::Lattice;
use caldera_kernels::curve::{Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::field::Field;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Fill, Fitted, Form, Group, Health, Holdings,
    MatrixId, Plan, Shape, Shaped, Site, Transform, VectorId, Work,
};

use crate::driver::{Buffer, Driver, Kernel};
use crate::elementwise::{self, Elementwise};
use crate::msm::{self, Bases, Msm};
use crate::ntt::Domains;
use crate::plan::{Pace, Staged};
use crate::spmv::{Matrix, Product};
use crate::tables::{self, Build, Wanted};
use crate::vector::Vector;

/// A GPU, or what emulates one, as a [`Device`].
pub struct CudaDevice {
    info: DeviceInfo,
    driver: Arc<dyn Driver>,
    pace: Arc<Pace>,
    held: Holdings<Vector, Bases, Matrix>,
    bn254: OfCurve,
    bls12_381: OfCurve,
}

/// What is made once for a curve.
struct OfCurve {
    multiply: Kernel,
    multiply_subtract: Kernel,
    chain: Kernel,
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
            chain: kernel("elementwise", "chain")?,
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
        let bn254 = OfCurve::new::<Bn254>(&driver, "bn254")?;
        let bls12_381 = OfCurve::new::<Bls12_381>(&driver, "bls12_381")?;
        for of_curve in [&bn254, &bls12_381] {
            for (msm, tables) in [of_curve.g1, of_curve.g2] {
                driver.set_aside(&msm.spilling())?;
                driver.set_aside(&tables.spilling())?;
            }
        }
        Ok(Arc::new(Self {
            info: DeviceInfo {
                kind: "cuda",
                name: driver.name().to_owned(),
                quantum,
                // A GPU's own threads share a stage out.
                lanes: 1,
            },
            pace: Arc::new(Pace::new(quantum)),
            held: Holdings::default(),
            bn254,
            bls12_381,
            driver,
        }))
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
        vectors: [Arc<Vector>; 3],
    ) -> Arc<dyn Plan> {
        let steps = Elementwise {
            kernel: kernel(self.of(vectors[0].curve())),
            name,
            vectors,
        };
        Staged::new(&self.driver, &self.pace, steps)
    }

    fn plan_product(
        &self,
        matrix: Arc<Matrix>,
        witness: Arc<Vector>,
        results: [Arc<Vector>; 2],
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let steps = Product {
            sums: Product::sums(&self.driver, &matrix)?,
            kernels: self.of(matrix.curve()).product,
            matrix,
            witness,
            results,
        };
        Ok(Staged::new(&self.driver, &self.pace, steps))
    }

    fn plan_ntt(
        &self,
        vector: Arc<Vector>,
        transform: Transform,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let curve = vector.curve();
        let domains = &self.of(curve).domains;
        let (driver, pace) = (&self.driver, &self.pace);
        let steps = match curve {
            CurveId::Bn254 => {
                domains.plan::<<Bn254 as Curve>::Fr>(driver, pace, vector, transform)?
            }
            CurveId::Bls12_381 => {
                domains.plan::<<Bls12_381 as Curve>::Fr>(driver, pace, vector, transform)?
            }
        };
        Ok(Staged::new(driver, pace, steps))
    }

    fn plan_msm(
        &self,
        bases: Arc<Bases>,
        scalars: Arc<Vector>,
        offset: usize,
        form: Form,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
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
        Ok(Staged::new(&self.driver, &self.pace, steps))
    }

    fn plan_tables(
        &self,
        bases: Vec<Arc<Bases>>,
        bytes: usize,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let wanted = bases.into_iter().map(|bases| {
            let of_curve = self.of(bases.curve);
            Wanted {
                kernels: of_curve.of_group(bases.group).1,
                beta: of_curve.beta.at(match bases.group {
                    Group::G1 => 0,
                    Group::G2 => bases.curve.base_bytes(),
                }),
                bases,
            }
        });
        let wanted = wanted.collect();
        let steps = Build::new(&self.driver, wanted, bytes)?;
        Ok(Staged::new(&self.driver, &self.pace, steps))
    }
}

impl Device for CudaDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn site(&self, _: usize) -> Site {
        self.driver.site()
    }

    fn peak(&self, curve: CurveId) -> Result<Option<f64>, DeviceError> {
        elementwise::peak(&self.driver, &self.pace, self.of(curve).chain).map(Some)
    }

    fn probe(&self) -> Result<(), DeviceError> {
        self.driver.probe()
    }

    fn health(&self) -> Health {
        Health {
            software: self.driver.software(),
            ..Health::default()
        }
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let vector = Vector::new(&self.driver, curve, len)?;
        Ok(self.held.add_vector(vector))
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.write(at, scalars)
    }

    fn vector_fill(
        &self,
        id: VectorId,
        at: usize,
        bytes: usize,
        fill: &mut Fill<'_>,
    ) -> Result<(), DeviceError> {
        self.held.vector(id)?.fill(at, bytes, fill)
    }

    fn vector_settle(&self, id: VectorId) -> Result<(), DeviceError> {
        self.held.vector(id)?.settle()
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.read(at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.held.remove_vector(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let bases = Bases::new(&self.driver, curve, group, &points)?;
        Ok(self.held.add_bases(bases))
    }

    fn bases_free(&self, id: BasesId) {
        self.held.remove_bases(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        Ok(self.held.bases(id)?.tables_bytes())
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
        let matrix = Matrix::new(&self.driver, curve, rows, columns, &entries)?;
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
            } => self.plan_product(matrix, witness, results),
            Fitted::Multiply(vectors) => Ok(self.plan_elementwise(
                "elementwise.multiply",
                |of_curve| of_curve.multiply,
                vectors,
            )),
            Fitted::MultiplySubtract(vectors) => Ok(self.plan_elementwise(
                "elementwise.multiply_subtract",
                |of_curve| of_curve.multiply_subtract,
                vectors,
            )),
            Fitted::Ntt { vector, transform } => self.plan_ntt(vector, transform),
            Fitted::Msm {
                bases,
                scalars,
                offset,
                form,
            } => self.plan_msm(bases, scalars, offset, form),
            Fitted::Tables { bases, bytes } => self.plan_tables(bases, bytes),
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
