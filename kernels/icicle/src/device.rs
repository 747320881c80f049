//! The host's device, with sums and transforms done by ICICLE while it can be believed.

mod plan;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{self, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{
    BasesId, CurveId, Device, DeviceError, DeviceInfo, Fill, Form, Group, Health, Held, MatrixId,
    Plan, Progress, Registry, Shape, Site, Software, Thing, Transform, VectorId, Work, scalars_fit,
};
use sha2::{Digest, Sha256};

use crate::installation::{RUNTIME, backend_files, backends, find};
use crate::library::{CURVES, IcicleError};
use crate::link::{Link, PATIENCE_SHORT, Process, Trouble};
use crate::slices::Slices;
use crate::total;
use crate::wire::{CORES_MAX, Request};
use plan::{Moving, Solo, Sum, Task};

/// How to start a child and what it is to load.
#[derive(Debug)]
pub struct Setup {
    /// Starts a program that calls [`serve`](crate::serve). The thread that starts it must live
    /// as long as the device: the kernel ends the child with it.
    pub command: Command,
    /// Where ICICLE is installed: its libraries lie there or in `lib` below.
    pub folder: PathBuf,
    /// Where its backends are installed, if not in `lib/backend` or `backend` of that folder.
    pub backends: Option<PathBuf>,
    /// "CUDA", or what else the installed backends offer.
    pub kind: String,
    /// Which device of that kind.
    pub index: u32,
    /// After what time without an answer a child is given up. Sums and copies are cut to take
    /// milliseconds; a transform of what is on the device is not cut.
    pub patience: Duration,
    /// The same for loading libraries, for the first use of a device, which may compile its kernels, and
    /// for what transforms of a size need at first.
    pub loading: Duration,
    /// The cores that the child and its libraries' threads may run on; none: all that the thread may
    /// that starts it.
    pub cores: Vec<usize>,
    /// What may be used at most of the device's own memory.
    pub memory: u64,
    /// How the end of a killed child is waited for, in a thread of its own: by
    /// [`process::Child::wait`], but in tests of a child that does not end.
    pub reap: fn(&mut process::Child) -> io::Result<ExitStatus>,
}

impl Setup {
    /// For the first device of a kind, with all else as it is where nobody says otherwise.
    pub fn new(command: Command, folder: PathBuf, kind: &str) -> Setup {
        Setup {
            command,
            folder,
            backends: None,
            kind: kind.to_owned(),
            index: 0,
            patience: PATIENCE,
            loading: PATIENCE_LOADING,
            cores: Vec::new(),
            memory: u64::MAX,
            reap: process::Child::wait,
        }
    }
}

/// Work is cut to take milliseconds, but for transforms.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// A device was asked for and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file of the installation is not there or cannot be read.
    #[error("ICICLE: {0}")]
    Installation(String),
    /// The child could not be started.
    #[error("starting the process that loads ICICLE")]
    Child(#[from] io::Error),
    /// ICICLE refused, or its process died of it.
    #[error("ICICLE's {device}: {why}")]
    Refused {
        /// Kind and number.
        device: String,
        /// What it or its end said.
        why: String,
    },
    /// It runs and computes something else than the host.
    #[error("ICICLE's {device} fails its self-test: {what} is not what the host computes")]
    SelfTest {
        /// Kind and number.
        device: String,
        /// Which sum or transform.
        what: String,
    },
}

/// What ICICLE has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Slices of sums.
    pub slices: u64,
    /// Transforms.
    pub transforms: u64,
}

/// See the top of the crate.
pub struct IcicleDevice {
    info: DeviceInfo,
    host: Arc<dyn Device>,
    child: Arc<Child>,
    libraries: Vec<Software>,
    curves: Vec<CurveId>,
    vectors: Registry<VectorId, Vector>,
    bases: Registry<BasesId, Bases>,
}

impl IcicleDevice {
    /// Starts a child, has it load ICICLE, and holds some sums and transforms against `host`.
    ///
    /// # Errors
    /// If anything of that fails; the child is gone then.
    pub fn start(host: Arc<dyn Device>, setup: Setup) -> Result<Arc<IcicleDevice>, StartError> {
        IcicleDevice::start_as(host, setup, false)
    }

    /// The same as one device of several, which does sums and transforms and nothing else: what it does not do, and what it
    /// had begun when it was lost, is for others. `host` keeps its vectors.
    ///
    /// # Errors
    /// As [`IcicleDevice::start`].
    pub fn unit(host: Arc<dyn Device>, setup: Setup) -> Result<Arc<IcicleDevice>, StartError> {
        IcicleDevice::start_as(host, setup, true)
    }

    fn start_as(
        host: Arc<dyn Device>,
        setup: Setup,
        is_unit: bool,
    ) -> Result<Arc<IcicleDevice>, StartError> {
        let device = format!("{}:{}", setup.kind, setup.index);
        let backends = setup.backends.or_else(|| backends(&setup.folder));
        let libraries = libraries(&setup.folder, backends.as_deref())?;
        let mut link = Link::start(setup.command, setup.reap)?;
        let load = Request::Load {
            folder: setup.folder,
            backends,
            kind: setup.kind,
            index: setup.index.into(),
        };
        let refused = |trouble| match trouble {
            Trouble::NoRoom(why) | Trouble::Lost(why) => StartError::Refused {
                device: device.clone(),
                why,
            },
        };
        if !setup.cores.is_empty() {
            let cores = setup.cores.iter().map(|&core| core as u64);
            let settle = Request::Settle {
                cores: cores.take(CORES_MAX).collect(),
            };
            link.ask(&settle, PATIENCE_SHORT).map_err(refused)?;
        }
        let answer = link.ask(&load, setup.loading).map_err(refused)?;
        let (memory, names) = answer.split_first_chunk().unwrap_or((&[0; 8], &[]));
        let memory = u64::from_le_bytes(*memory).min(setup.memory);
        let names = String::from_utf8_lossy(names).into_owned();
        let curves: Vec<CurveId> = CURVES
            .into_iter()
            .filter(|(_, name)| names.split(' ').any(|known| known == *name))
            .map(|(curve, _)| curve)
            .collect();
        let host_info = host.info().clone();
        let icicle = Arc::new(IcicleDevice {
            info: DeviceInfo {
                kind: "icicle",
                name: match is_unit {
                    true => format!("ICICLE {device}"),
                    false => format!("ICICLE {device} beside {}", host_info.name),
                },
                ..host_info
            },
            host,
            child: Arc::new(Child {
                is_unit,
                device,
                process: Arc::clone(link.process()),
                link: Mutex::new(Some(link)),
                // The first use of a GPU loads its kernels.
                patience: OnceLock::new(),
                loading: setup.loading,
                lost: OnceLock::new(),
                quantum: host_info.quantum,
                memory,
                used: AtomicU64::new(0),
                domains: Default::default(),
                dropped: Mutex::default(),
                slices: Default::default(),
                done_slices: AtomicU64::new(0),
                done_transforms: AtomicU64::new(0),
                fallen_back: AtomicU64::new(0),
            }),
            libraries,
            curves,
            vectors: Registry::new("vector"),
            bases: Registry::new("bases"),
        });
        icicle.try_all()?;
        // Set only once, here: it was not set before.
        let _ = icicle.child.patience.set(setup.patience);
        Ok(icicle)
    }

    /// The number of the child's process, which may have ended.
    pub fn process(&self) -> u32 {
        self.child.process.id()
    }

    /// What it has done.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            slices: read(&self.child.done_slices),
            transforms: read(&self.child.done_transforms),
        }
    }

    /// The self-test: sums in each group and each transform, beside the host's.
    fn try_all(self: &Arc<Self>) -> Result<(), StartError> {
        for curve in self.curves.clone() {
            let tried = match curve {
                CurveId::Bn254 => self.try_curve::<Bn254>(),
                CurveId::Bls12_381 => self.try_curve::<Bls12_381>(),
            };
            let what = match (tried, self.child.lost.get()) {
                (_, Some(why)) => {
                    return Err(StartError::Refused {
                        device: self.child.device.clone(),
                        why: why.clone(),
                    });
                }
                (Ok(None), None) => continue,
                (Ok(Some(what)), None) => format!("{what} on {curve:?}"),
                (Err(error), None) => format!("{curve:?} ({error})"),
            };
            let device = self.child.device.clone();
            return Err(StartError::SelfTest { device, what });
        }
        Ok(())
    }

    /// What differs, if anything.
    fn try_curve<C: Curve>(&self) -> Result<Option<String>, DeviceError> {
        let count = 1 << TRIAL_LOG2;
        let mut scalars = Vec::new();
        let mut power = C::Fr::from(TRIAL_SEED);
        for _ in 0..count {
            let mut bytes = [0; 32];
            power.to_canonical_le(&mut bytes);
            scalars.extend(bytes);
            power *= C::Fr::from(TRIAL_SEED) + power;
        }
        let mut held = Held::new(self);
        let vector = held.vector(C::ID, count)?;
        let groups = [
            (Group::G1, multiples::<C::Fq>(count)),
            (Group::G2, multiples::<C::Fq2>(count)),
        ];
        for (group, points) in groups {
            let bases = held.bases(C::ID, group, Bytes::from(points))?;
            for form in [Form::Canonical, Form::Montgomery] {
                self.vector_write(vector, 0, &scalars)?;
                let work = Work::Msm {
                    bases,
                    scalars: vector,
                    offset: 0,
                    form,
                };
                let theirs = finish(&*self.plan(&work)?)?;
                let ours = finish(&*self.host.plan(&work)?)?;
                if theirs != ours {
                    return Ok(Some(format!("a sum in {group:?} of {form:?} scalars")));
                }
            }
        }
        for transform in [Transform::Forward, Transform::Inverse, Transform::Shift] {
            let work = Work::Ntt { vector, transform };
            let mut results = [vec![0; scalars.len()], vec![0; scalars.len()]];
            for (device, result) in [self as &dyn Device, &*self.host].iter().zip(&mut results) {
                self.vector_write(vector, 0, &scalars)?;
                finish(&*device.plan(&work)?)?;
                self.vector_read(vector, 0, result)?;
            }
            if results[0] != results[1] {
                return Ok(Some(format!("the transform {transform:?}")));
            }
        }
        Ok(None)
    }

    fn solo(&self, work: &Work, kernel: &'static str, task: Task) -> Arc<dyn Plan> {
        let bytes = match &task {
            Task::Transform(moving) => moving.bytes(),
            _ => 0,
        };
        Arc::new(Solo {
            bytes,
            kernel,
            host: Arc::clone(&self.host),
            child: Arc::clone(&self.child),
            work: work.clone(),
            points: OnceLock::new(),
            opened: AtomicBool::new(false),
            task: Mutex::new(task),
        })
    }
}

impl Device for IcicleDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn vector(&self, curve: CurveId, len: usize) -> Result<VectorId, DeviceError> {
        let id = self.host.vector(curve, len)?;
        let host = Arc::clone(&self.host);
        self.vectors.insert(
            id,
            Vector {
                host,
                id,
                curve,
                len,
            },
        );
        Ok(id)
    }

    fn vector_write(&self, id: VectorId, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?;
        self.host.vector_write(id, at, scalars)
    }

    fn vector_fill(
        &self,
        id: VectorId,
        at: usize,
        bytes: usize,
        fill: &mut Fill<'_>,
    ) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?;
        self.host.vector_fill(id, at, bytes, fill)
    }

    fn vector_settle(&self, id: VectorId) -> Result<(), DeviceError> {
        self.host.vector_settle(id)
    }

    fn vector_read(&self, id: VectorId, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        self.vectors.find(id, id.0)?;
        self.host.vector_read(id, at, scalars)
    }

    fn vector_free(&self, id: VectorId) {
        self.vectors.remove(id);
    }

    fn bases(&self, curve: CurveId, group: Group, points: Bytes) -> Result<BasesId, DeviceError> {
        let theirs = if self.curves.contains(&curve) {
            self.child.upload(curve, group, &points)
        } else {
            None
        };
        let count = points.len() / curve.point_bytes(group);
        if self.child.is_unit && theirs.is_none() {
            return Err(match self.curves.contains(&curve) && count > 0 {
                true if self.child.is_lost() => self.child.loss(),
                true => DeviceError::Memory {
                    what: "points on ICICLE's device",
                    bytes: points.len(),
                },
                false => self.child.refuse("sums on this curve, or of nothing"),
            });
        }
        // The child's copy is freed with this if the host refuses.
        let mut bases = Bases {
            host: Arc::clone(&self.host),
            child: Arc::clone(&self.child),
            id: None,
            theirs,
            curve,
            group,
            count,
        };
        let id = self.host.bases(curve, group, points)?;
        bases.id = Some(id);
        self.bases.insert(id, bases);
        Ok(id)
    }

    fn bases_free(&self, id: BasesId) {
        self.bases.remove(id);
    }

    fn tables_bytes(&self, id: BasesId) -> Result<usize, DeviceError> {
        self.bases.find(id, id.0)?;
        self.host.tables_bytes(id)
    }

    fn tables_free(&self, id: BasesId) {
        if self.bases.find(id, id.0).is_ok() {
            self.host.tables_free(id);
        }
    }

    fn matrix(
        &self,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<MatrixId, DeviceError> {
        if self.child.is_unit {
            return Err(self.child.refuse("products of matrices"));
        }
        self.host.matrix(curve, rows, columns, entries)
    }

    fn matrix_free(&self, id: MatrixId) {
        self.host.matrix_free(id);
    }

    fn plan(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        match *work {
            Work::Msm {
                bases,
                scalars,
                offset,
                form,
            } => {
                let bases = self.bases.find(bases, bases.0)?;
                let scalars = self.vectors.find(scalars, scalars.0)?;
                if self.child.is_unit && self.child.is_lost() {
                    return Err(self.child.loss());
                }
                if self.child.is_lost() || bases.theirs.is_none() || bases.count == 0 {
                    if bases.count > 0 {
                        self.child.note_fall();
                    }
                    return self.host.plan(work);
                }
                let points = Shape::row(bases.curve, bases.count);
                scalars_fit(points, Shape::row(scalars.curve, scalars.len), offset)?;
                let total = total::zero(bases.curve, bases.group);
                let end = bases.count;
                let sum = Sum {
                    bases,
                    scalars,
                    offset,
                    form,
                    done: 0,
                    end,
                    spent: Duration::ZERO,
                    total,
                };
                Ok(self.solo(work, "icicle.msm", Task::Sum(sum)))
            }
            Work::Ntt { vector, transform } => {
                let vector = self.vectors.find(vector, vector.0)?;
                let is_known = self.curves.contains(&vector.curve);
                if self.child.is_unit && (self.child.is_lost() || !is_known) {
                    return Err(self.child.refuse("transforms on this curve"));
                }
                if self.child.is_lost() || !is_known {
                    self.child.note_fall();
                    return self.host.plan(work);
                }
                let len = vector.len;
                if len < 2 || !len.is_power_of_two() || len.ilog2() > max_log2(vector.curve) {
                    // It knows best how to refuse, or can after all.
                    return self.host.plan(work);
                }
                Ok(self.solo(
                    work,
                    "icicle.ntt",
                    Task::Transform(Moving::new(vector, transform)),
                ))
            }
            _ if self.child.is_unit => Err(self.child.refuse("products, nor tables")),
            _ => self.host.plan(work),
        }
    }

    fn is_mixed(&self) -> bool {
        !self.child.is_lost()
    }

    fn plan_on_host(&self, work: &Work) -> Result<Arc<dyn Plan>, DeviceError> {
        self.host.plan_on_host(work)
    }

    fn distrust(&self, why: &str) {
        // Whoever is in the midst of an exchange is woken by this, and takes the link away.
        let _ = self.child.lost.set(why.to_owned());
        self.child.process.kill();
    }

    fn probe(&self) -> Result<(), DeviceError> {
        if !self.child.is_lost() && self.child.process.has_ended() {
            // How it ended is known soon, and said to whoever asks for something.
            let why = "its process has ended while nobody used it";
            let _ = self.child.lost.set(why.to_owned());
            self.child.process.kill();
        }
        match self.child.is_lost() {
            true => Err(self.child.loss()),
            false => Ok(()),
        }
    }

    fn keeps(&self, curve: CurveId, thing: Thing) -> bool {
        !self.child.is_unit || (thing == Thing::Bases && self.curves.contains(&curve))
    }

    fn site(&self, _: usize) -> Site {
        let memory = self.child.memory;
        Site {
            uuid: None,
            memory: (memory < u64::MAX).then_some(memory),
            // ICICLE does not say where its devices are.
            pci: None,
        }
    }

    fn health(&self) -> Health {
        Health {
            lost: self.child.lost.get().cloned(),
            fallen_back: self.child.fallen_back.load(Ordering::Relaxed),
            software: self.libraries.clone(),
        }
    }
}

/// The child as all plans share it.
struct Child {
    /// Whether others do what it does not.
    is_unit: bool,
    device: String,
    process: Arc<Process>,
    link: Mutex<Option<Link>>,
    patience: OnceLock<Duration>,
    loading: Duration,
    lost: OnceLock<String>,
    /// The longest that one slice of a sum should take.
    quantum: Duration,
    /// By curve and group.
    slices: [[Slices; 2]; 2],
    /// Bytes of its own memory that points may take; the highest number if that is not known.
    memory: u64,
    /// Those that they take.
    used: AtomicU64,
    /// log2 of the largest transform that is prepared, by curve; 0: none.
    domains: [AtomicU32; 2],
    /// Vectors of the device's that nobody uses any more, to be released in the next exchange: whoever
    /// drops a plan has no time for one.
    dropped: Mutex<Vec<u64>>,
    done_slices: AtomicU64,
    done_transforms: AtomicU64,
    fallen_back: AtomicU64,
}

impl Child {
    fn is_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// What it has been lost for, as an error.
    fn loss(&self) -> DeviceError {
        DeviceError::Lost {
            device: format!("ICICLE {}", self.device),
            why: self.lost.get().cloned().unwrap_or_default(),
        }
    }

    /// A unit's refusal, for others to do it.
    fn refuse(&self, what: &'static str) -> DeviceError {
        match self.is_lost() {
            true => self.loss(),
            false => DeviceError::Unfit {
                device: format!("ICICLE {}", self.device),
                what,
            },
        }
    }

    fn note_fall(&self) {
        self.fallen_back.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Link>> {
        // A thread that panicked in the midst of a request leaves an answer unread.
        self.link.lock().unwrap_or_else(|poisoned| {
            let mut link = poisoned.into_inner();
            self.give_up(&mut link, "a request was not finished".into());
            link
        })
    }

    fn give_up(&self, link: &mut Option<Link>, why: String) {
        // Of two reasons the first one counts.
        let _ = self.lost.set(why);
        *link = None;
    }

    /// One exchange with the child, or the reason why there is none. Waits for other exchanges.
    fn with<T>(
        &self,
        exchange: impl FnOnce(&mut Link) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let mut link = self.lock();
        if let Some(why) = self.lost.get() {
            *link = None;
            return Err(Trouble::Lost(why.clone()));
        }
        let open = link.as_mut().expect("it goes with the device");
        let result = exchange(open);
        if let Err(Trouble::Lost(why)) = &result {
            self.give_up(&mut link, why.clone());
        }
        result
    }

    fn patience(&self) -> Duration {
        self.patience.get().copied().unwrap_or(self.loading)
    }

    /// Copies points to the device: their number there, or nothing if it has no room or is lost.
    fn upload(&self, curve: CurveId, group: Group, points: &[u8]) -> Option<u64> {
        let bytes = points.len() as u64;
        let with = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.memory);
        let order = Ordering::Relaxed;
        self.used.fetch_update(order, order, with).ok()?;
        let theirs = self.upload_all(curve, group, points);
        if theirs.is_none() {
            self.used.fetch_sub(bytes, order);
        }
        theirs
    }

    fn upload_all(&self, curve: CurveId, group: Group, points: &[u8]) -> Option<u64> {
        let size = curve.point_bytes(group);
        let count = (points.len() / size) as u64;
        if count == 0 {
            return None;
        }
        let request = Request::Bases {
            curve,
            group,
            count,
        };
        self.sweep().ok()?;
        let answer = self.with(|link| link.ask(&request, self.patience())).ok()?;
        let bases = u64::from_le_bytes(answer.try_into().ok()?);
        let piece = UPLOAD_BYTES / size;
        for (i, points) in points.chunks(piece * size).enumerate() {
            let request = Request::Write {
                bases,
                at: (i * piece) as u64,
                count: (points.len() / size) as u64,
            };
            let written = self.with(|link| {
                link.memory(points.len())?.copy_from_slice(points);
                link.ask(&request, self.patience())
            });
            if written.is_err() {
                self.forget(bases);
                return None;
            }
        }
        // A proof with this key will want transforms of about this size, and has no time to prepare
        // them. If there is no room for that now, it is tried again with the first of them.
        let log2 = count.next_power_of_two().ilog2();
        if group == Group::G1 && (1..=max_log2(curve)).contains(&log2) {
            let _ = self.prepare(curve, log2);
        }
        Some(bases)
    }

    /// Makes sure of what transforms of up to 2^log2 need.
    fn prepare(&self, curve: CurveId, log2: u32) -> Result<(), Trouble> {
        let prepared = &self.domains[place(curve)];
        if prepared.load(Ordering::Acquire) >= log2 {
            return Ok(());
        }
        let request = Request::Domain {
            curve,
            log2: log2.into(),
        };
        let made = self.with(|link| link.ask(&request, self.loading));
        match made {
            Ok(_) => prepared.fetch_max(log2, Ordering::AcqRel),
            // The one before has made way for it.
            Err(_) => prepared.swap(0, Ordering::AcqRel),
        };
        made.map(|_| ())
    }

    /// Releases what was dropped since the last time.
    fn sweep(&self) -> Result<(), Trouble> {
        let dropped = self.dropped.lock();
        let dropped = std::mem::take(&mut *dropped.unwrap_or_else(PoisonError::into_inner));
        for vector in dropped {
            self.with(|link| link.ask(&Request::Release { vector }, self.patience()))?;
        }
        Ok(())
    }

    fn forget(&self, bases: u64) {
        // If that fails the child is lost, and its memory with it.
        let _ = self.with(|link| link.ask(&Request::Forget { bases }, PATIENCE_SHORT));
    }

    fn slices(&self, bases: &Bases) -> &Slices {
        let group = usize::from(bases.group == Group::G2);
        &self.slices[place(bases.curve)][group]
    }
}

/// Where a curve is among those that something is counted of.
fn place(curve: CurveId) -> usize {
    usize::from(curve == CurveId::Bls12_381)
}

/// log2 of the largest transform: a shift needs a root of twice the order.
fn max_log2(curve: CurveId) -> u32 {
    let two_adicity = match curve {
        CurveId::Bn254 => <Bn254 as Curve>::Fr::TWO_ADICITY,
        CurveId::Bls12_381 => <Bls12_381 as Curve>::Fr::TWO_ADICITY,
    };
    two_adicity - 1
}

/// A vector of the host's, freed when neither its id nor a plan is left.
struct Vector {
    host: Arc<dyn Device>,
    id: VectorId,
    curve: CurveId,
    len: usize,
}

impl Drop for Vector {
    fn drop(&mut self) {
        self.host.vector_free(self.id);
    }
}

/// Points of the host's, and the same on the device.
struct Bases {
    host: Arc<dyn Device>,
    child: Arc<Child>,
    id: Option<BasesId>,
    theirs: Option<u64>,
    curve: CurveId,
    group: Group,
    count: usize,
}

impl Drop for Bases {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.host.bases_free(id);
        }
        if let Some(bases) = self.theirs
            && !self.child.is_lost()
        {
            self.child.forget(bases);
            let bytes = self.count * self.curve.point_bytes(self.group);
            self.child.used.fetch_sub(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// The first multiples of the generator, infinity among them.
fn multiples<F: Coordinate>(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * Affine::<F>::BYTES];
    let mut sum = Projective::<F>::INFINITY;
    for point in bytes.chunks_mut(Affine::<F>::BYTES) {
        sum.to_affine().to_bytes(point);
        sum = sum.add_affine(&F::GENERATOR);
    }
    bytes
}

/// Runs a plan to its end on this thread.
fn finish(plan: &dyn Plan) -> Result<Option<Vec<u8>>, DeviceError> {
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage)? {
            while plan.run(stage, lane)? == Progress::More {}
        }
    }
    Ok(plan.point())
}

/// The libraries of an installation and the backends that may compute, with their digests.
fn libraries(folder: &Path, backends: Option<&Path>) -> Result<Vec<Software>, StartError> {
    let refused = |error: IcicleError| StartError::Installation(error.to_string());
    let mut files = vec![find(folder, RUNTIME).map_err(refused)?];
    for (_, curve) in CURVES {
        for part in ["field", "curve"] {
            match find(folder, &format!("libicicle_{part}_{curve}.so")) {
                Ok(file) => files.push(file),
                // A curve can be done without.
                Err(IcicleError::Missing { .. }) => {}
                Err(error) => return Err(refused(error)),
            }
        }
    }
    if let Some(backends) = backends {
        files.extend(backend_files(backends).map_err(refused)?);
    }
    files.into_iter().map(digested).collect()
}

fn digested(path: PathBuf) -> Result<Software, StartError> {
    let digest = digest(&path).map_err(|error| {
        StartError::Installation(format!("reading {}: {error}", path.display()))
    })?;
    Ok(Software {
        name: path.display().to_string(),
        version: digest,
    })
}

/// Backends are hundreds of megabytes: by pieces.
fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => digest.update(&piece[..length]),
        }
    }
}

/// [`Setup::loading`] where nobody says otherwise.
const PATIENCE_LOADING: Duration = Duration::from_secs(60);

/// Points go to the device in pieces of this size.
const UPLOAD_BYTES: usize = 4 << 20;

/// log2 of the size of what is tried at the start.
const TRIAL_LOG2: u32 = 6;

/// Where the scalars of the trial come from: any odd number of 64 bits will do.
const TRIAL_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
