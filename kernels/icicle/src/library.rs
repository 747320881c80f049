//! ICICLE's libraries, opened and called. In the child only.
//!
//! `libicicle_device.so` is the runtime; `libicicle_field_C.so` and `libicicle_curve_C.so` belong to a
//! curve C, and those of a curve that are not there are done without. Each is opened with
//! `RTLD_GLOBAL`, the runtime first: the later ones find the earlier one's symbols so.

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

use caldera_kernels::curve::{Bls12_381, Bn254, Curve as Field};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, Form, Group};
use libloading::os::unix::{Library as Opened, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};

use crate::abi::{
    self, Device, DeviceProperties, MsmConfig, NttConfig, NttInitDomainConfig, Status,
};
use crate::installation::{RUNTIME, backend_files, find, name};
use crate::wire::Step;

/// Why ICICLE could not be loaded, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IcicleError {
    #[error("no {file} in {folder} or its lib")]
    Missing { file: String, folder: PathBuf },
    #[error("{file}: {why}", file = file.display())]
    Unreadable { file: PathBuf, why: String },
    #[error(
        "no curve has its libraries in {folder} or its lib: expected libicicle_field_C.so and \
         libicicle_curve_C.so, where C is bn254 or bls12_381", folder = folder.display()
    )]
    NoCurve { folder: PathBuf },
    #[error("loading {file}: {why}", file = file.display())]
    Open { file: PathBuf, why: String },
    #[error("{file} has no symbol {symbol}", file = file.display())]
    Symbol { file: PathBuf, symbol: String },
    #[error("{call} answered {status}: {}", abi::meaning(*status))]
    Call { call: String, status: Status },
    #[error("no device {kind}:{index}; this ICICLE knows: {known}; {backends}")]
    NoDevice {
        kind: String,
        index: u64,
        known: String,
        backends: String,
    },
    #[error("{what}: expected {expected}, got {got}")]
    Range {
        what: &'static str,
        expected: u64,
        got: u64,
    },
    #[error("there is no library for {0:?} here")]
    Curve(CurveId),
    #[error("running on cores {cores:?} alone: {why}")]
    Cores { cores: Vec<u64>, why: &'static str },
    #[error("asked for what makes no sense: {0}")]
    Request(String),
}

impl IcicleError {
    /// Whether the device is only full.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(
            self,
            IcicleError::Call {
                status: abi::OUT_OF_MEMORY | abi::ALLOCATION_FAILED,
                ..
            }
        )
    }
}

/// The runtime and what belongs to each curve.
pub(crate) struct Library {
    runtime: Runtime,
    curves: Vec<Curve>,
    backends: Option<PathBuf>,
}

/// Points that lie on the device.
pub(crate) struct Bases {
    curve: CurveId,
    group: Group,
    count: u64,
    at: *mut c_void,
}

/// Scalars that lie on the device.
pub(crate) struct Scalars {
    curve: CurveId,
    count: u64,
    at: *mut c_void,
}

struct Runtime {
    malloc: unsafe extern "C" fn(*mut *mut c_void, usize) -> Status,
    free: unsafe extern "C" fn(*mut c_void) -> Status,
    copy_to_device: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> Status,
    copy_to_host: unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> Status,
    memset: unsafe extern "C" fn(*mut c_void, c_int, usize) -> Status,
    properties: unsafe extern "C" fn(*mut DeviceProperties) -> Status,
    available_memory: unsafe extern "C" fn(*mut usize, *mut usize) -> Status,
}

type Msm = unsafe extern "C" fn(
    *const c_void,
    *const c_void,
    c_int,
    *const MsmConfig,
    *mut c_void,
) -> Status;
type ToAffine = unsafe extern "C" fn(*const c_void, *mut c_void);

struct Curve {
    id: CurveId,
    /// Of G1, then of G2.
    msm: [Msm; 2],
    to_affine: [ToAffine; 2],
    ntt: unsafe extern "C" fn(*const c_void, c_int, c_int, *const NttConfig, *mut c_void) -> Status,
    init_domain: unsafe extern "C" fn(*const c_void, *const NttInitDomainConfig) -> Status,
    release_domain: unsafe extern "C" fn() -> Status,
    /// log2 of the domain that the library has now; 0: none.
    domain_log2: u32,
}

/// The names by which ICICLE's files and symbols call the curves.
pub(crate) const CURVES: [(CurveId, &str); 2] =
    [(CurveId::Bn254, "bn254"), (CurveId::Bls12_381, "bls12_381")];

/// Projective coordinates of the largest group, three of two times 48 bytes, aligned as ICICLE's
/// host code may want them.
#[repr(C, align(64))]
struct Point([u8; 320]);

impl Library {
    /// Opens what is in `folder`, loads the backends in `backends`, and makes a device this thread's.
    pub(crate) fn open(
        folder: &Path,
        backends: Option<&Path>,
        kind: &str,
        index: u64,
    ) -> Result<Library, IcicleError> {
        let file = find(folder, RUNTIME)?;
        let opened = open(&file)?;
        // Before the backends, which use what these have.
        let mut curves = Vec::new();
        for (id, name) in CURVES {
            match Curve::open(folder, id, name) {
                Ok(curve) => curves.push(curve),
                Err(IcicleError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if curves.is_empty() {
            let folder = folder.to_owned();
            return Err(IcicleError::NoCurve { folder });
        }
        let wanted = device(kind, index);
        // SAFETY: each symbol is read with the type that ICICLE's `runtime.h` gives it, and each is
        // called with live pointers of the sizes it expects; the registered names are cut at the
        // length that is passed.
        let runtime = unsafe {
            let load: unsafe extern "C" fn(*const c_char, bool) -> Status =
                symbol(&opened, &file, "icicle_load_backend")?;
            let available: unsafe extern "C" fn(*const Device) -> Status =
                symbol(&opened, &file, "icicle_is_device_available")?;
            let registered: unsafe extern "C" fn(*mut c_char, usize) -> Status =
                symbol(&opened, &file, "icicle_get_registered_devices")?;
            let choose: unsafe extern "C" fn(*const Device) -> Status =
                symbol(&opened, &file, "icicle_set_device")?;

            if let Some(backends) = backends {
                let path = CString::new(backends.as_os_str().as_encoded_bytes())
                    .expect("a path that files were found in has no zero byte");
                check("icicle_load_backend", load(path.as_ptr(), true))?;
            }
            // Asked first: choosing a device that is not there throws.
            if available(&wanted) != 0 {
                let mut names = [0u8; 256];
                let known = match registered(names.as_mut_ptr().cast(), names.len()) {
                    0 => {
                        let end = names.iter().position(|&byte| byte == 0).unwrap_or(0);
                        String::from_utf8_lossy(&names[..end]).into_owned()
                    }
                    _ => "nothing it would tell".to_owned(),
                };
                return Err(IcicleError::NoDevice {
                    kind: kind.to_owned(),
                    index,
                    known,
                    backends: state(backends),
                });
            }
            check("icicle_set_device", choose(&wanted))?;
            Runtime {
                malloc: symbol(&opened, &file, "icicle_malloc")?,
                free: symbol(&opened, &file, "icicle_free")?,
                copy_to_device: symbol(&opened, &file, "icicle_copy_to_device")?,
                copy_to_host: symbol(&opened, &file, "icicle_copy_to_host")?,
                memset: symbol(&opened, &file, "icicle_memset")?,
                properties: symbol(&opened, &file, "icicle_get_device_properties")?,
                available_memory: symbol(&opened, &file, "icicle_get_available_memory")?,
            }
        };
        // Never closed: its threads and its static objects live as long as the process.
        std::mem::forget(opened);
        Ok(Library {
            runtime,
            curves,
            backends: backends.map(Path::to_owned),
        })
    }

    /// What to add to an error: for what a backend should do and does not, how the backends are.
    pub(crate) fn explain(&self, error: &IcicleError) -> String {
        match error {
            IcicleError::Call {
                status: abi::NOT_IMPLEMENTED,
                ..
            } => format!("; {}", state(self.backends.as_deref())),
            _ => String::new(),
        }
    }

    /// Those curves for which there are libraries.
    pub(crate) fn curves(&self) -> impl Iterator<Item = CurveId> {
        self.curves.iter().map(|curve| curve.id)
    }

    /// How many bytes of its own memory the device has left: none if it has no memory of its own, or
    /// does not say.
    pub(crate) fn memory(&self) -> Option<u64> {
        let mut properties = DeviceProperties::default();
        let (mut total, mut free) = (0, 0);
        // SAFETY: what each writes is live, and of the size that ICICLE's headers give it.
        let told = unsafe {
            (self.runtime.properties)(&mut properties) == 0
                && (self.runtime.available_memory)(&mut total, &mut free) == 0
        };
        (told && !properties.using_host_memory).then_some(free as u64)
    }

    /// Sets memory aside for points.
    pub(crate) fn bases(
        &self,
        curve: CurveId,
        group: Group,
        count: u64,
    ) -> Result<Bases, IcicleError> {
        let bytes = usize::try_from(count)
            .ok()
            .and_then(|count| count.checked_mul(curve.point_bytes(group)))
            .filter(|&bytes| bytes > 0)
            .ok_or(IcicleError::Range {
                what: "points",
                expected: 1,
                got: count,
            })?;
        let at = self.malloc(bytes)?;
        Ok(Bases {
            curve,
            group,
            count,
            at,
        })
    }

    /// Copies points, in Montgomery form, to the device.
    pub(crate) fn write(&self, bases: &Bases, at: u64, points: &[u8]) -> Result<(), IcicleError> {
        let size = bases.point_bytes();
        let place = bases.place(at, (points.len() / size) as u64)?;
        // SAFETY: `place` held the range against what was set aside.
        check("icicle_copy_to_device", unsafe {
            (self.runtime.copy_to_device)(place, points.as_ptr().cast(), points.len())
        })
    }

    /// Frees the memory of points.
    pub(crate) fn forget(&self, bases: Bases) -> Result<(), IcicleError> {
        // SAFETY: it came from `icicle_malloc` and `bases` is used up here.
        check("icicle_free", unsafe { (self.runtime.free)(bases.at) })
    }

    /// The sum of points from `at` on, each times its scalar: x and y as plain integers, both zero
    /// for infinity.
    pub(crate) fn sum(
        &self,
        bases: &Bases,
        at: u64,
        scalars: &[u8],
        form: Form,
    ) -> Result<Vec<u8>, IcicleError> {
        let curve = self.curve(bases.curve)?;
        let count = scalars.len() / bases.curve.scalar_bytes();
        let points = bases.place(at, count as u64)?;
        let count = c_int::try_from(count).map_err(|_| IcicleError::Range {
            what: "scalars of one sum",
            expected: c_int::MAX as u64,
            got: count as u64,
        })?;
        let config = MsmConfig {
            stream: std::ptr::null_mut(),
            precompute_factor: 1,
            c: 0,
            bitsize: 0,
            batch_size: 1,
            are_points_shared_in_batch: true,
            are_scalars_on_device: false,
            are_scalars_montgomery_form: form == Form::Montgomery,
            are_points_on_device: true,
            are_points_montgomery_form: true,
            are_results_on_device: false,
            is_async: false,
            ext: std::ptr::null_mut(),
        };
        let group = (bases.group == Group::G2) as usize;
        let (mut projective, mut affine) = (Point([0; 320]), Point([0; 320]));
        // SAFETY: scalars are live host memory of `count` scalars, points are as many on the
        // device, the results are written to places that are larger than any projective point.
        check("msm", unsafe {
            (curve.msm[group])(
                scalars.as_ptr().cast(),
                points,
                count,
                &config,
                projective.0.as_mut_ptr().cast(),
            )
        })?;
        // SAFETY: both are larger than what is read and written.
        unsafe {
            (curve.to_affine[group])(projective.0.as_ptr().cast(), affine.0.as_mut_ptr().cast());
        }
        Ok(affine.0[..bases.point_bytes()].to_vec())
    }

    /// Makes sure of what transforms of 2^log2 scalars and fewer need.
    pub(crate) fn domain(&mut self, curve: CurveId, log2: u64) -> Result<(), IcicleError> {
        let (root, _) = of_domain(curve, log2)?;
        let curve = self
            .curves
            .iter_mut()
            .find(|known| known.id == curve)
            .ok_or(IcicleError::Curve(curve))?;
        curve.domain(log2 as u32, &root)
    }

    /// Sets memory aside for 2^log2 scalars.
    pub(crate) fn vector(&self, curve: CurveId, log2: u64) -> Result<Scalars, IcicleError> {
        of_domain(curve, log2)?;
        let count = 1 << log2;
        let at = self.malloc(count as usize * curve.scalar_bytes())?;
        Ok(Scalars { curve, count, at })
    }

    /// Copies scalars to the device.
    pub(crate) fn put(&self, to: &Scalars, at: u64, scalars: &[u8]) -> Result<(), IcicleError> {
        let place = to.place(at, scalars)?;
        // SAFETY: `place` held the range against what was set aside.
        check("icicle_copy_to_device", unsafe {
            (self.runtime.copy_to_device)(place, scalars.as_ptr().cast(), scalars.len())
        })
    }

    /// Copies scalars from the device.
    pub(crate) fn get(
        &self,
        from: &Scalars,
        at: u64,
        scalars: &mut [u8],
    ) -> Result<(), IcicleError> {
        let place = from.place(at, scalars)?;
        // SAFETY: as above.
        check("icicle_copy_to_host", unsafe {
            (self.runtime.copy_to_host)(scalars.as_mut_ptr().cast(), place, scalars.len())
        })
    }

    /// Transforms scalars in Montgomery form where they lie. What is linear does not mind the form.
    pub(crate) fn transform(&mut self, scalars: &Scalars, step: Step) -> Result<(), IcicleError> {
        let log2 = scalars.count.ilog2().into();
        // It is there, but if a larger one found no room.
        self.domain(scalars.curve, log2)?;
        let (_, shift) = of_domain(scalars.curve, log2)?;
        let curve = self.curve(scalars.curve)?;
        match step {
            Step::Forward => curve.ntt(scalars, abi::FORWARD, ONE),
            Step::Inverse => curve.ntt(scalars, abi::INVERSE, ONE),
            Step::Onto => curve.ntt(scalars, abi::FORWARD, shift),
        }
    }

    /// Overwrites scalars and frees their memory.
    pub(crate) fn release(&self, scalars: Scalars) -> Result<(), IcicleError> {
        let bytes = scalars.count as usize * scalars.scalar_bytes();
        // SAFETY: that many bytes came from `icicle_malloc`.
        check("icicle_memset", unsafe {
            (self.runtime.memset)(scalars.at, 0, bytes)
        })?;
        // SAFETY: as above, and `scalars` is used up here.
        check("icicle_free", unsafe { (self.runtime.free)(scalars.at) })
    }

    fn malloc(&self, bytes: usize) -> Result<*mut c_void, IcicleError> {
        let mut at = std::ptr::null_mut();
        // SAFETY: `at` is live, and receives the address of that many bytes on the device.
        check("icicle_malloc", unsafe {
            (self.runtime.malloc)(&mut at, bytes)
        })?;
        Ok(at)
    }

    fn curve(&self, id: CurveId) -> Result<&Curve, IcicleError> {
        self.curves
            .iter()
            .find(|curve| curve.id == id)
            .ok_or(IcicleError::Curve(id))
    }
}

impl Bases {
    /// Bytes of one of the points.
    pub(crate) fn point_bytes(&self) -> usize {
        self.curve.point_bytes(self.group)
    }

    /// Bytes of a scalar that they are multiplied by.
    pub(crate) fn scalar_bytes(&self) -> usize {
        self.curve.scalar_bytes()
    }

    /// The address of a range of points, if they were all set aside.
    fn place(&self, at: u64, count: u64) -> Result<*mut c_void, IcicleError> {
        within("end of a range of points", at, count, self.count)?;
        let offset = at as usize * self.point_bytes();
        Ok(self.at.wrapping_byte_add(offset))
    }
}

impl Scalars {
    /// Bytes of one of them.
    pub(crate) fn scalar_bytes(&self) -> usize {
        self.curve.scalar_bytes()
    }

    /// The address from which so many scalars lie, if they were all set aside.
    fn place(&self, at: u64, scalars: &[u8]) -> Result<*mut c_void, IcicleError> {
        let size = self.scalar_bytes();
        let count = (scalars.len() / size) as u64;
        within("end of a range of scalars", at, count, self.count)?;
        Ok(self.at.wrapping_byte_add(at as usize * size))
    }
}

fn within(what: &'static str, at: u64, count: u64, expected: u64) -> Result<(), IcicleError> {
    let end = at.checked_add(count).filter(|&end| end <= expected);
    end.map(|_| ()).ok_or(IcicleError::Range {
        what,
        expected,
        got: at.saturating_add(count),
    })
}

impl Curve {
    fn open(folder: &Path, id: CurveId, name: &str) -> Result<Curve, IcicleError> {
        let field_file = find(folder, &format!("libicicle_field_{name}.so"))?;
        let curve_file = find(folder, &format!("libicicle_curve_{name}.so"))?;
        let field = open(&field_file)?;
        let curve = open(&curve_file)?;
        let in_curve = |suffix: &str| format!("{name}_{suffix}");
        // SAFETY: each symbol has the type that ICICLE's `msm.h`, `ntt.h` and `externs.h` give it,
        // with addresses in place of its classes.
        let found = unsafe {
            Curve {
                id,
                msm: [
                    symbol(&curve, &curve_file, &in_curve("msm"))?,
                    symbol(&curve, &curve_file, &in_curve("g2_msm"))?,
                ],
                to_affine: [
                    symbol(&curve, &curve_file, &in_curve("to_affine"))?,
                    symbol(&curve, &curve_file, &in_curve("g2_to_affine"))?,
                ],
                ntt: symbol(&field, &field_file, &in_curve("ntt"))?,
                init_domain: symbol(&field, &field_file, &in_curve("ntt_init_domain"))?,
                release_domain: symbol(&field, &field_file, &in_curve("ntt_release_domain"))?,
                domain_log2: 0,
            }
        };
        // Never closed, as above.
        std::mem::forget((field, curve));
        Ok(found)
    }

    /// Makes sure of a domain of at least 2^log2, whose root is `root`. There is one a library,
    /// and a second one does not take the first one's place by itself.
    fn domain(&mut self, log2: u32, root: &[u8; 32]) -> Result<(), IcicleError> {
        if log2 <= self.domain_log2 {
            return Ok(());
        }
        if self.domain_log2 > 0 {
            self.domain_log2 = 0;
            // SAFETY: it takes nothing, and there is a domain to release.
            check("ntt_release_domain", unsafe { (self.release_domain)() })?;
        }
        let config = NttInitDomainConfig {
            stream: std::ptr::null_mut(),
            is_async: false,
            ext: std::ptr::null_mut(),
        };
        let root = Aligned(*root);
        // SAFETY: the root is a live scalar of 32 bytes.
        check("ntt_init_domain", unsafe {
            (self.init_domain)(root.0.as_ptr().cast(), &config)
        })?;
        self.domain_log2 = log2;
        Ok(())
    }

    fn ntt(
        &self,
        scalars: &Scalars,
        direction: c_int,
        coset_gen: [u32; 8],
    ) -> Result<(), IcicleError> {
        let config = NttConfig {
            stream: std::ptr::null_mut(),
            coset_gen,
            batch_size: 1,
            columns_batch: false,
            ordering: 0,
            are_inputs_on_device: true,
            are_outputs_on_device: true,
            is_async: false,
            ext: std::ptr::null_mut(),
        };
        // SAFETY: input and output are the same `count` scalars on the device, live and writable;
        // ICICLE allows a transform in place.
        check("ntt", unsafe {
            (self.ntt)(
                scalars.at,
                scalars.count as c_int,
                direction,
                &config,
                scalars.at,
            )
        })
    }
}

/// A scalar as ICICLE's host code wants it aligned.
#[repr(align(32))]
struct Aligned([u8; 32]);

const ONE: [u32; 8] = [1, 0, 0, 0, 0, 0, 0, 0];

/// See [`roots`]; refuses what is too large for a shift.
fn of_domain(curve: CurveId, log2: u64) -> Result<([u8; 32], [u32; 8]), IcicleError> {
    let expected = match curve {
        CurveId::Bn254 => <Bn254 as Field>::Fr::TWO_ADICITY,
        CurveId::Bls12_381 => <Bls12_381 as Field>::Fr::TWO_ADICITY,
    } - 1;
    let found = match u32::try_from(log2).ok().filter(|&log2| log2 <= expected) {
        Some(log2) if curve == CurveId::Bn254 => roots::<<Bn254 as Field>::Fr>(log2),
        Some(log2) => roots::<<Bls12_381 as Field>::Fr>(log2),
        None => None,
    };
    found.ok_or(IcicleError::Range {
        what: "log2 of a transform",
        expected: expected.into(),
        got: log2,
    })
}

/// The root of order 2^log2, and that of twice the order, as plain integers.
fn roots<F: PrimeField>(log2: u32) -> Option<([u8; 32], [u32; 8])> {
    let (mut root, mut shift) = ([0; 32], [0; 32]);
    F::root_of_unity(log2)?.to_canonical_le(&mut root);
    // A shift of the largest domain of all has none, and is refused before it comes here.
    F::root_of_unity(log2 + 1)?.to_canonical_le(&mut shift);
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(shift.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    Some((root, words))
}

fn device(kind: &str, index: u64) -> Device {
    let mut name = [0; 64];
    // One byte is left for the zero at the end.
    for (to, from) in name[..63].iter_mut().zip(kind.bytes()) {
        *to = from as c_char;
    }
    Device {
        kind: name,
        index: index as c_int,
    }
}

/// What can be said of backends of which something is missing. ICICLE passes over those that cannot be
/// loaded without a word: they are opened once more, the way it does that, for the reason.
fn state(folder: Option<&Path>) -> String {
    let Some(folder) = folder else {
        return "no folder of backends".to_owned();
    };
    let files = match backend_files(folder) {
        Ok(files) if files.is_empty() => {
            return format!("no backend of a device or a curve in {}", folder.display());
        }
        Ok(files) => files,
        Err(error) => return error.to_string(),
    };
    let refused: Vec<String> = files
        .iter()
        .filter_map(|file| {
            let scope = match name(file).contains("device") {
                true => RTLD_GLOBAL,
                false => RTLD_LOCAL,
            };
            // SAFETY: as in `open`.
            match unsafe { Opened::open(Some(file), RTLD_NOW | scope) } {
                Ok(opened) => {
                    std::mem::forget(opened);
                    None
                }
                Err(error) => Some(format!("{}: {}", file.display(), reason(&error))),
            }
        })
        .collect();
    match refused.is_empty() {
        true => format!(
            "all {} backends in {} can be loaded: is there such a device, with its driver and a licence?",
            files.len(),
            folder.display()
        ),
        false => format!("backends that cannot be loaded: {}", refused.join("; ")),
    }
}

fn open(file: &Path) -> Result<Opened, IcicleError> {
    // SAFETY: what its constructors do is its authors' and the operator's business; this process
    // exists so that nobody else has to trust them.
    unsafe { Opened::open(Some(file), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| IcicleError::Open {
        file: file.to_owned(),
        why: reason(&error),
    })
}

/// What the loader said. An error of it says by itself only that it has failed.
fn reason(error: &libloading::Error) -> String {
    let said = std::error::Error::source(error).map(ToString::to_string);
    said.unwrap_or_else(|| error.to_string())
}

/// # Safety
/// The symbol must be a function of type `T`.
unsafe fn symbol<T: Copy>(library: &Opened, file: &Path, name: &str) -> Result<T, IcicleError> {
    // SAFETY: by this function's own condition; the library stays open for good.
    unsafe { library.get::<T>(name.as_bytes()) }
        .map(|found| *found)
        .map_err(|_| IcicleError::Symbol {
            file: file.to_owned(),
            symbol: name.to_owned(),
        })
}

fn check(call: &str, status: Status) -> Result<(), IcicleError> {
    match status {
        0 => Ok(()),
        status => Err(IcicleError::Call {
            call: call.to_owned(),
            status,
        }),
    }
}
