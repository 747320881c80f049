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
//!
//! Drivers compile for seconds, some of them when a kernel first runs. So all kernels of a proof have been
//! compiled and have run once when a key is there, and so has the table of its transforms been made: no worker
//! waits for that, and a plan computes nothing.

#![deny(unsafe_code)]

mod calibration;
mod elementwise;
mod formulas;
mod generate;
mod gpu;
mod msm;
mod ntt;
mod pace;
mod plan;
mod shaders;
mod spmv;
mod vector;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Fitted, Group, Health, Holdings, MatrixId,
    Plan, Shape, Shaped, Site, Transform, VectorId, Work,
};

pub use calibration::Choice;
pub use generate::Variant;

use gpu::{Gpu, lock};
use msm::Bases;
use ntt::Domain;
use plan::{Stage, Staged, Steps};
use shaders::{Kernel, Over};
use spmv::Matrix;
use vector::Vector;

/// Which adapter, and how it is used.
#[derive(Debug, Clone)]
pub struct WgpuConfig {
    /// A part of the adapter's name, or its address on the PCI bus ("0000:3b:00.0"); without one, a
    /// card before what is built in, and never an emulation.
    pub adapter: Option<String>,
    /// The longest that one quantum should hold the device.
    pub quantum: Duration,
    /// How long a fence is waited for before the device counts as lost; where a kernel runs for the
    /// first time, a minute at least, for some drivers compile it then.
    pub patience: Duration,
    /// Whether shaders check their indices and bound their loops, as those of a web page must.
    pub checked: bool,
    /// Parts of buffers larger than this are not bound, even where the device could; at least
    /// 64 KiB.
    pub binding_max: u64,
    /// Bytes of memory that may be used, of what there is.
    pub memory: Option<u64>,
    /// How to multiply.
    pub choice: Choice,
    /// Whether the device's own clock is read where it has one, which costs a little of each quantum.
    pub timestamps: bool,
}

impl Default for WgpuConfig {
    fn default() -> Self {
        Self {
            adapter: None,
            quantum: Duration::from_millis(2),
            patience: Duration::from_secs(60),
            checked: false,
            binding_max: u64::MAX,
            memory: None,
            choice: Choice::Measured { folder: None },
            timestamps: false,
        }
    }
}

/// Why there is no device.
#[derive(Debug, thiserror::Error)]
pub enum Open {
    /// No loader, without which no driver is found.
    #[error("Vulkan's loader, libvulkan.so.1, is not installed or does not start")]
    NoLibrary,
    /// No adapter at all.
    #[error("no Vulkan driver finds a device: is one installed for this GPU?")]
    NoDriver,
    /// What there is may not be used.
    #[error("no Vulkan driver finds a GPU, and this user may not open {}", node.display())]
    NotAllowed {
        /// The device's file.
        node: std::path::PathBuf,
    },
    /// Only what emulates a GPU, which is not taken for one.
    #[error(
        "no GPU has a Vulkan driver; there are emulations, used where one is named (wgpu:NAME): {found}"
    )]
    Emulated {
        /// What is there.
        found: String,
    },
    /// None of that name.
    #[error("no Vulkan device is called {name:?} or lies there on the PCI bus; there are: {found}")]
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
    held: Holdings<Vector, Bases, Matrix>,
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
            held: Holdings::default(),
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

    fn plan_ntt(
        &self,
        vector: Arc<Vector>,
        transform: Transform,
    ) -> Result<Arc<dyn Plan>, DeviceError> {
        let curve = vector.curve;
        ntt::plan(&self.gpu, self.variant, vector, transform, |log2| {
            self.domain(curve, log2)
        })
    }

    fn domain(&self, curve: CurveId, log2: u32) -> Result<Arc<Domain>, DeviceError> {
        if let Some(domain) = lock(&self.domains).get(&(curve, log2)) {
            return Ok(domain.clone());
        }
        // Without the lock: whoever is second does it in vain.
        let domain = Domain::new(&self.gpu, curve, log2)?;
        Ok(lock(&self.domains)
            .entry((curve, log2))
            .or_insert(Arc::new(domain))
            .clone())
    }

    /// What a proof with a key needs beside its points, when its matrices come: kernels, and tables for as many
    /// elements as there are rows, if there is room for them now.
    fn prepare(&self, curve: CurveId, rows: usize) -> Result<(), DeviceError> {
        let (gpu, variant) = (&self.gpu, self.variant);
        gpu.warm(&spmv::kernels(curve), variant)?;
        let Ok(log2) = ntt::domain_log2(curve, rows) else {
            // Matrices of no key.
            return Ok(());
        };
        gpu.warm(&[(Kernel::Multiply, Over::Scalars(curve))], variant)?;
        gpu.warm(&ntt::kernels(gpu, curve, log2), variant)?;
        for log2 in ntt::domains(gpu, log2) {
            let domain = self.domain(curve, log2)?;
            if !domain.is_made() {
                domain.make(gpu, variant)?;
            }
        }
        Ok(())
    }

    /// There are no tables yet that would make sums cheaper; the plan of a table says so in no
    /// time.
    fn plan_tables(&self, bases: &[Arc<Bases>]) -> Result<Arc<dyn Plan>, DeviceError> {
        if bases.is_empty() {
            return Err(DeviceError::Length {
                what: "sets of bases",
                expected: 1,
                got: 0,
            });
        }
        let stages = vec![Stage {
            name: "msm.tables",
            steps: Vec::new(),
        }];
        Ok(Staged::plan(
            Steps::new(&self.gpu, self.variant)?,
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

    /// Memory that a GPU shares with the host is known if it was limited.
    fn site(&self, _: usize) -> Site {
        Site {
            memory: self.gpu.memory,
            pci: self.gpu.pci.clone(),
            uuid: self.gpu.uuid.clone(),
        }
    }

    fn health(&self) -> Health {
        Health {
            software: vec![self.gpu.driver.clone()],
            ..Health::default()
        }
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let vector = self.with_room(|| Vector::new(&self.gpu, curve, len))?;
        Ok(self.held.add_vector(vector))
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.write(&self.gpu, at, scalars)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.held.vector(id)?.read(&self.gpu, at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.held.remove_vector(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let bases = self.with_room(|| Bases::new(&self.gpu, curve, group, &points))?;
        beside(self.gpu.warm(&msm::kernels(curve, group), self.variant))?;
        Ok(self.held.add_bases(bases))
    }

    fn bases_free(&self, id: BasesId) {
        self.held.remove_bases(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.held.bases(id).map(|_| 0)
    }

    fn tables_free(&self, _: BasesId) {}

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        let matrix = self.with_room(|| Matrix::new(&self.gpu, curve, rows, columns, &entries))?;
        beside(self.prepare(curve, rows))?;
        Ok(self.held.add_matrix(matrix))
    }

    fn matrix_free(&self, id: MatrixId) {
        self.held.remove_matrix(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        self.with_room(|| self.plan_of(work))
    }
}

impl WgpuDevice {
    /// Where there is no room, tries again without the tables of roots that no plan uses.
    fn with_room<T>(&self, make: impl Fn() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
        let made = make();
        if !matches!(made, Err(DeviceError::Memory { .. })) {
            return made;
        }
        let unused = {
            let mut domains = lock(&self.domains);
            let all = domains.len();
            domains.retain(|_, domain| Arc::strong_count(domain) > 1);
            all - domains.len()
        };
        if unused == 0 { made } else { make() }
    }

    fn plan_of(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        let (gpu, variant) = (&self.gpu, self.variant);
        match self.held.fit(work)? {
            Fitted::Product {
                matrix,
                witness,
                results,
            } => spmv::plan(gpu, variant, matrix, witness, results),
            Fitted::Multiply(vectors) => elementwise::plan(gpu, variant, vectors, false),
            Fitted::MultiplySubtract(vectors) => elementwise::plan(gpu, variant, vectors, true),
            Fitted::Ntt { vector, transform } => self.plan_ntt(vector, transform),
            Fitted::Msm {
                bases,
                scalars,
                offset,
                form,
            } => msm::plan(gpu, variant, bases, scalars, offset, form),
            Fitted::Tables { bases, .. } => self.plan_tables(&bases),
        }
    }
}

/// What is made beforehand and finds no room is made when it is needed.
fn beside(made: Result<(), DeviceError>) -> Result<(), DeviceError> {
    match made {
        Err(DeviceError::Memory { .. }) => Ok(()),
        other => other,
    }
}

impl Shaped for Vector {
    fn shape(&self) -> Shape {
        Shape::row(self.curve, self.len)
    }
}

impl Shaped for Bases {
    fn shape(&self) -> Shape {
        Shape::row(self.curve, self.count)
    }
}

impl Shaped for Matrix {
    fn shape(&self) -> Shape {
        Shape {
            curve: self.curve,
            len: self.rows,
            columns: self.columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_kernels::cpu::{CpuConfig, CpuDevice};
    use caldera_kernels::curve::{Bn254, Curve};
    use caldera_kernels::relay::{Member, Relay};
    use caldera_kernels::{Around, Progress};
    use caldera_prover::format::Zkey;
    use caldera_prover::groth16::{
        Blinding, Job, ProvingKey, Step, Synthetic, setup_synthetic, verify,
    };
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    /// In the middle of a sum the driver says that the device is lost, at which wgpu panics. That is
    /// a loss like any other: the relay has the sum done by the processor, and the proof is right.
    #[test]
    fn a_device_that_is_lost_within_a_sum_costs_no_proof() {
        let mut gpu = WgpuDevice::open(WgpuConfig {
            adapter: Some("llvmpipe".to_owned()),
            choice: Choice::Fixed(Variant::Int64),
            checked: true,
            ..WgpuConfig::default()
        })
        .expect("a Vulkan driver, as `.ci/tools vulkan` brings it");
        let is_broken: Arc<AtomicBool> = Arc::default();
        let broken = Arc::clone(&is_broken);
        let device = Arc::get_mut(&mut gpu).expect("nobody else has it");
        Arc::get_mut(&mut device.gpu).expect("nor this").poll = Box::new(move |device, what| {
            if broken.load(Ordering::Relaxed) {
                panic!("Error in Device::poll: Parent device is lost");
            }
            device.poll(what)
        });
        let sums = AtomicU64::new(0);
        let mark = Arc::clone(&is_broken);
        let beside = Around::new(
            gpu,
            Arc::new(
                move |kernel: &'static str, quantum: &mut dyn FnMut() -> _| {
                    if kernel == "msm.accumulate" && sums.fetch_add(1, Ordering::Relaxed) == 1 {
                        mark.store(true, Ordering::Relaxed);
                    }
                    let progress: Result<Progress, DeviceError> = quantum();
                    progress
                },
            ),
        );
        let host = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 2,
        });
        let member = |device, width| Member { device, width };
        let relay = Relay::new(vec![member(host, 2), member(beside, 1)]);
        let synthetic = Synthetic {
            curve: CurveId::Bn254,
            domain_log2: 9,
            dense: 0.5,
            seed: [3; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&synthetic, 2, &mut file, &mut |_| {}).expect("a circuit");
        let zkey = Zkey::parse(file.into()).expect("a good key");
        let key = ProvingKey::load(&zkey, relay.clone()).expect("a key that fits both");
        let blinding = Blinding::random(key.curve()).expect("randomness");
        let job = Job::new(&key, witness, blinding).expect("a witness that fits");
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("it starts");
        while let Some(task) = tasks.pop() {
            // The GPU alone may begin with anything, as long as it is there.
            relay.allow(if is_broken.load(Ordering::Relaxed) {
                1
            } else {
                2
            });
            match job.run(task, &mut |task| tasks.push(task)) {
                Ok(Step::Again) => tasks.push(task),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let lost = relay.health().lost.expect("it was given up");
        assert!(lost.contains("Parent device is lost"), "{lost}");
        let (proof, inputs) = job.proof().expect("it has finished");
        verify(key.verification_key(), &proof, &inputs).expect("a proof that verifies");
    }

    /// What is compiled, what has run, and how many workgroups of it.
    fn work_so_far(device: &WgpuDevice) -> (usize, usize, u64) {
        let all = device.gpu.pipelines();
        let warm = all.iter().filter(|it| it.is_warm()).count();
        (all.len(), warm, all.iter().map(|it| it.ran()).sum())
    }

    /// A key that is there has all that its proofs need: no plan compiles, runs or makes a table of anything. A
    /// size that no key has gets its table in quanta of its plans, of which several may begin at once.
    #[test]
    fn plans_compute_nothing() {
        let device = WgpuDevice::open(WgpuConfig {
            adapter: Some("llvmpipe".to_owned()),
            choice: Choice::Fixed(Variant::Int64),
            checked: true,
            ..WgpuConfig::default()
        })
        .expect("a Vulkan driver, as `.ci/tools vulkan` brings it");
        let (curve, n) = (CurveId::Bn254, 64);
        let mut generator = vec![0; 64];
        Bn254::g1().to_bytes(&mut generator);
        let points = Bytes::from(generator.repeat(n));
        let bases = device.bases(curve, Group::G1, points).expect("points");
        let entries = Bytes::from(vec![0; 44]);
        let matrix = device.matrix(curve, n, n, entries).expect("an entry");
        let [w, a, b] = [0; 3].map(|_| device.vector(curve, n).expect("room"));
        let (compiled, warm, ran) = work_so_far(&device);
        assert_eq!(warm, compiled);
        let works = [
            Work::Product {
                matrix,
                witness: w,
                a,
                b,
            },
            Work::MultiplySubtract { a, b, c: w },
            Work::Ntt {
                vector: a,
                transform: Transform::Shift,
            },
            Work::Msm {
                bases,
                scalars: w,
                offset: 0,
                form: caldera_kernels::Form::Canonical,
            },
        ];
        let plans = works.each_ref().map(|work| device.plan(work));
        for plan in plans {
            assert_ne!(plan.expect("work that fits").kernel(0), "ntt.powers");
        }
        assert_eq!(work_so_far(&device), (compiled, compiled, ran));

        // Below the modulus, and no two the same.
        let value = |i: u32| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8 & 0x0f;
        let values: Vec<u8> = (0..32 * 128).map(value).collect();
        let vectors = [0; 3].map(|_| device.vector(curve, 128).expect("room"));
        let shift = |vector| {
            device.vector_write(vector, 0, &values).expect("it fits");
            let transform = Transform::Shift;
            device
                .plan(&Work::Ntt { vector, transform })
                .expect("a power of two")
        };
        let both = [shift(vectors[0]), shift(vectors[1])];
        assert_eq!(work_so_far(&device).2, ran);
        let finish = |plan: &Arc<dyn Plan>, opened: usize| {
            for stage in 0..plan.stages() {
                if stage >= opened {
                    plan.open(stage).expect("the next stage");
                }
                while plan.run(stage, 0).expect("an open lane") == Progress::More {}
            }
        };
        // The second comes when the first has begun with the table.
        both[0].open(0).expect("the first stage");
        both[0].run(0, 0).expect("an open lane");
        finish(&both[1], 0);
        finish(&both[0], 1);
        let third = shift(vectors[2]);
        assert_eq!(both[1].kernel(0), "ntt.powers");
        assert_eq!(third.kernel(0), "ntt.inverse");
        finish(&third, 0);
        let contents = vectors.map(|vector| {
            let mut bytes = vec![0; values.len()];
            device.vector_read(vector, 0, &mut bytes).expect("it fits");
            bytes
        });
        assert!(contents[0] == contents[2] && contents[1] == contents[2]);
        assert!(contents[0] != values);
    }
}
