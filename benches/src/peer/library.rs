//! Peers on a GPU that are shared libraries of somebody else's code behind the functions of
//! `benches/peers/peer.h`, which says what each does. They compute in this process, and so in the same CUDA context
//! as our device: two processes would take turns at the GPU in slices of time, which neither would be measured
//! without.
//!
//! A library stays loaded until the process ends, for what CUDA's runtime has registered at loading stays too.

// A C ABI is made of unsafe functions; the SAFETY lines say what this one relies on.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use anyhow::{Context, Result, anyhow, ensure};
use caldera_kernels::{CurveId, Group};
use libloading::Library as Loaded;
use sha2::{Digest, Sha256};

/// A library that has been opened, with a device that it computes on.
pub(crate) struct Library {
    path: PathBuf,
    build: String,
    /// What it has opened.
    peer: NonNull<c_void>,
    functions: Functions,
    _loaded: ManuallyDrop<Loaded>,
}

#[derive(Clone, Copy)]
struct Functions {
    error: unsafe extern "C" fn() -> *const c_char,
    sum: unsafe extern "C" fn(*mut c_void, u32, *const c_void, *const c_void, usize) -> *mut c_void,
    transform: unsafe extern "C" fn(*mut c_void, *const c_void, u32) -> *mut c_void,
    proof: unsafe extern "C" fn(
        *mut c_void,
        *const c_void,
        usize,
        *const c_void,
        usize,
    ) -> *mut c_void,
    run: unsafe extern "C" fn(*mut c_void) -> c_int,
    read: unsafe extern "C" fn(*mut c_void, *mut c_void) -> c_int,
    free: unsafe extern "C" fn(*mut c_void),
}

impl Library {
    /// Opens one, to compute on CUDA's device of this number and on the card at this address on the PCI bus, as far
    /// as both are known.
    pub(crate) fn open(path: &Path, name: &str, device: Option<u32>, pci: &str) -> Result<Library> {
        let at = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(at)?;
        let digest = Sha256::digest(&bytes);
        let digest: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
        let (name, pci) = (CString::new(name)?, CString::new(pci)?);
        // SAFETY: what a library does when it is loaded is its own affair; whoever named it wants it to be run.
        let loaded = unsafe { Loaded::new(path) }.with_context(at)?;
        let loaded = ManuallyDrop::new(loaded);
        // SAFETY: the types are those of peer.h, whose number is asked for before anything else is called; the
        // functions stay where they are, for the library is never unloaded; both texts outlive the call.
        let (functions, peer, said, build) = unsafe {
            let abi: unsafe extern "C" fn() -> u32 = symbol(&loaded, "caldera_peer_abi")?;
            let got = abi();
            ensure!(got == ABI, "{}: expected ABI {ABI}, got {got}", at());
            let open: unsafe extern "C" fn(*const c_char, u32, *const c_char) -> *mut c_void =
                symbol(&loaded, "caldera_peer_open")?;
            let build: unsafe extern "C" fn(*mut c_void) -> *const c_char =
                symbol(&loaded, "caldera_peer_build")?;
            let functions = Functions {
                error: symbol(&loaded, "caldera_peer_error")?,
                sum: symbol(&loaded, "caldera_peer_sum")?,
                transform: symbol(&loaded, "caldera_peer_transform")?,
                proof: symbol(&loaded, "caldera_peer_proof")?,
                run: symbol(&loaded, "caldera_peer_run")?,
                read: symbol(&loaded, "caldera_peer_read")?,
                free: symbol(&loaded, "caldera_peer_free")?,
            };
            let peer = NonNull::new(open(
                name.as_ptr(),
                device.unwrap_or(u32::MAX),
                pci.as_ptr(),
            ));
            let said = text((functions.error)());
            let build = peer.and_then(|peer| text(build(peer.as_ptr())));
            (functions, peer, said, build)
        };
        let peer = peer.with_context(|| said.unwrap_or_else(|| NO_REASON.to_owned()))?;
        Ok(Library {
            path: path.to_owned(),
            build: format!("{}, sha256 {digest}", build.unwrap_or_default()),
            peer,
            functions,
            _loaded: loaded,
        })
    }

    /// What stands in a record beside its figures.
    pub(crate) fn build(&self) -> &str {
        &self.build
    }

    /// A sum of multiples of points, laid out on the device; none where it has no such work.
    pub(crate) fn sum(
        &self,
        group: Group,
        points: &[u8],
        scalars: &[u8],
    ) -> Result<Option<Work<'_>>> {
        let count = scalars.len() / CURVE.scalar_bytes();
        let point = CURVE.point_bytes(group);
        ensure!(
            points.len() == count * point,
            "expected {count} points, got {} bytes of them",
            points.len()
        );
        let number = match group {
            Group::G1 => 1,
            Group::G2 => 2,
        };
        let (points, scalars) = (points.as_ptr().cast(), scalars.as_ptr().cast());
        // SAFETY: both are as long as so many points and scalars are, and are copied before the call returns.
        let work =
            unsafe { (self.functions.sum)(self.peer.as_ptr(), number, points, scalars, count) };
        self.work(work, point)
    }

    /// A transform, its vector on the device.
    pub(crate) fn transform(&self, elements: &[u8]) -> Result<Option<Work<'_>>> {
        let count = elements.len() / CURVE.scalar_bytes();
        ensure!(count.is_power_of_two(), "no power of two: {count} elements");
        // SAFETY: there are so many elements, and they are copied before the call returns.
        let work = unsafe {
            (self.functions.transform)(self.peer.as_ptr(), elements.as_ptr().cast(), count.ilog2())
        };
        self.work(work, elements.len())
    }

    /// Proofs, of the files of a key and a witness.
    pub(crate) fn proof(&self, zkey: &[u8], witness: &[u8]) -> Result<Option<Work<'_>>> {
        // SAFETY: both are as long as is said, and are copied before the call returns.
        let work = unsafe {
            (self.functions.proof)(
                self.peer.as_ptr(),
                zkey.as_ptr().cast(),
                zkey.len(),
                witness.as_ptr().cast(),
                witness.len(),
            )
        };
        let mut work = self.work(work, PROOF_BYTES)?;
        if let Some(work) = &mut work {
            work.is_text = true;
        }
        Ok(work)
    }

    fn work(&self, work: *mut c_void, bytes: usize) -> Result<Option<Work<'_>>> {
        let Some(handle) = NonNull::new(work) else {
            let has_it = self.said().is_some_and(|it| !it.is_empty());
            return if has_it {
                Err(self.failure("laying out"))
            } else {
                Ok(None)
            };
        };
        Ok(Some(Work {
            library: self,
            handle,
            bytes,
            is_text: false,
        }))
    }

    fn said(&self) -> Option<String> {
        // SAFETY: it answers with a text that stands until its next call.
        unsafe { text((self.functions.error)()) }
    }

    fn failure(&self, doing: &str) -> anyhow::Error {
        let said = self.said().unwrap_or_else(|| NO_REASON.to_owned());
        anyhow!("{doing}: {said}").context(self.path.display().to_string())
    }
}

/// Work that a library has laid out, to be done again and again.
pub(crate) struct Work<'a> {
    library: &'a Library,
    handle: NonNull<c_void>,
    bytes: usize,
    /// Whether what comes of it ends with a zero, and has so many bytes at most.
    is_text: bool,
}

impl Work<'_> {
    /// Does it once.
    pub(crate) fn run(&mut self) -> Result<()> {
        // SAFETY: the handle is the library's, and not freed.
        let failed = unsafe { (self.library.functions.run)(self.handle.as_ptr()) };
        if failed != 0 {
            return Err(self.library.failure("running"));
        }
        Ok(())
    }

    /// What came of it: a point, the vector, or the JSON of a proof.
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; self.bytes];
        let out = bytes.as_mut_ptr().cast();
        // SAFETY: the handle is the library's, and not freed; as many bytes as such work comes to are there.
        let failed = unsafe { (self.library.functions.read)(self.handle.as_ptr(), out) };
        if failed != 0 {
            return Err(self.library.failure("reading"));
        }
        if self.is_text
            && let Some(end) = bytes.iter().position(|&it| it == 0)
        {
            bytes.truncate(end);
        }
        Ok(bytes)
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is the library's, and this is the one time that it is freed.
        unsafe { (self.library.functions.free)(self.handle.as_ptr()) }
    }
}

/// A function of a library.
///
/// # Safety
/// It must be of this type.
unsafe fn symbol<F: Copy>(loaded: &Loaded, name: &str) -> Result<F> {
    // SAFETY: the caller's.
    let found = unsafe { loaded.get::<F>(name.as_bytes()) };
    found.map(|it| *it).with_context(|| format!("no {name}"))
}

/// A copy of a text of a library's; none for a null pointer.
///
/// # Safety
/// If it is no null pointer, a text that ends with a zero is there.
unsafe fn text(at: *const c_char) -> Option<String> {
    // SAFETY: the caller's.
    let text = NonNull::new(at.cast_mut()).map(|at| unsafe { CStr::from_ptr(at.as_ptr()) });
    text.map(|it| it.to_string_lossy().into_owned())
}

const NO_REASON: &str = "no reason given";

/// Of peer.h, as is what follows.
const ABI: u32 = 1;

const PROOF_BYTES: usize = 4096;

/// The one that it is about.
pub(crate) const CURVE: CurveId = CurveId::Bn254;
