//! snarkrs on a GPU as a peer, by the functions of `peer.h`: whole proofs of BN254, by CUDA (`snarkrs-cuda`) or by
//! WebGPU (`snarkrs-wgpu`), with its own check of each proof, as ours are with theirs.
//!
//! A key lies on the GPU before the first proof; its witness goes up with each. On the host it computes with rayon's
//! own pool, which has a thread for each processor. Its WebGPU backend is given buffers as large as the adapter has, where
//! it keeps to a browser's limits unless told otherwise; its profile with all of the adapter's limits (`Raised`) fails
//! on lavapipe, whose offsets may be finer than what it lays its parameters out for.
//!
//! Its CUDA backend compiles its kernels by NVRTC when it is opened, unless the PTX of them lies in `G16_CUDA_CACHE`
//! from before; `make peers` makes that ([`units`]), for a box that has no NVRTC. The driver then compiles PTX for
//! its card, which takes minutes the first time.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use snarkrs_lib::cuda::{CudaBackend, kernels};
use snarkrs_lib::groth16::json::proof_to_string;
use snarkrs_lib::wgpu::{LimitsProfile, WgpuProver};
use snarkrs_lib::{Backend, PreparedCircuit, Proof, ProvingKey, StageTimings, Witness, prove};

/// A key and a witness, and the last proof of it.
pub struct Work {
    circuit: Box<dyn PreparedCircuit>,
    witness: Witness,
    proof: Option<Proof>,
}

/// One of its backends on its device.
pub struct Peer {
    backend: Box<dyn Backend>,
    build: CString,
}

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

/// What `work` made, if it neither failed nor panicked; what it said is kept.
fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Option<T> {
    let made = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!(
            "it panicked: {}",
            said.unwrap_or("no reason given")
        ))
    });
    let why = made.as_ref().err().cloned().unwrap_or_default();
    ERROR.set(CString::new(why.replace('\0', " ")).unwrap_or_default());
    made.ok()
}

fn said(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_abi() -> u32 {
    1
}

/// # Safety
/// Both texts end with a zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_open(
    name: *const c_char,
    device: u32,
    pci: *const c_char,
) -> *const Peer {
    // SAFETY: the caller's.
    let (name, pci) = unsafe { (CStr::from_ptr(name), CStr::from_ptr(pci)) };
    let opened = caught(|| match &*name.to_string_lossy() {
        "snarkrs-cuda" => by_cuda(device),
        "snarkrs-wgpu" => by_wgpu(&pci.to_string_lossy()),
        other => Err(format!("snarkrs has no {other}")),
    });
    // It is there until the process ends.
    opened.map_or(std::ptr::null(), |it| Box::into_raw(Box::new(it)))
}

fn by_cuda(device: u32) -> Result<Peer, String> {
    if device == u32::MAX {
        return Err("it computes by CUDA, and no device that is measured is CUDA's".to_owned());
    }
    let backend = CudaBackend::with_ordinal(device as usize).map_err(said)?;
    let (major, minor) = backend.compute_capability();
    let build = build(&format!("CUDA on sm_{major}{minor}"));
    Ok(Peer {
        backend: Box::new(backend),
        build,
    })
}

/// Which adapter it takes is its own choice.
fn by_wgpu(pci: &str) -> Result<Peer, String> {
    let prover = WgpuProver::with_profile(LimitsProfile::Auto).map_err(said)?;
    let adapter = prover.device().adapter_info();
    let at = &adapter.device_pci_bus_id;
    if !pci.is_empty() && !pci.eq_ignore_ascii_case(at) {
        let at = if at.is_empty() { "no address" } else { at };
        return Err(format!(
            "its adapter is {} at {at}, and not the card at {pci}",
            adapter.name
        ));
    }
    let (name, driver) = (&adapter.name, &adapter.driver_info);
    let build = build(&format!("WebGPU on {name}, {} {driver}", adapter.driver));
    Ok(Peer {
        backend: Box::new(prover),
        build,
    })
}

fn build(backend: &str) -> CString {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let text = format!("snarkrs-lib 0.1.0, {backend}, {threads} threads beside it");
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// # Safety
/// The peer must be one that this library has opened.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_build(peer: *const Peer) -> *const c_char {
    // SAFETY: the caller's.
    unsafe { &*peer }.build.as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_error() -> *const c_char {
    ERROR.with_borrow(|it| it.as_ptr())
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_sum(
    _peer: *const Peer,
    _group: u32,
    _points: *const c_void,
    _scalars: *const c_void,
    _count: usize,
) -> *mut Work {
    has_none()
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_transform(
    _peer: *const Peer,
    _elements: *const c_void,
    _log2: u32,
) -> *mut Work {
    has_none()
}

fn has_none() -> *mut Work {
    ERROR.take();
    std::ptr::null_mut()
}

/// # Safety
/// The peer must be one that this library has opened, and both files as long as is said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_proof(
    peer: *const Peer,
    zkey: *const c_void,
    zkey_bytes: usize,
    wtns: *const c_void,
    wtns_bytes: usize,
) -> *mut Work {
    // SAFETY: the caller's.
    let (peer, zkey, wtns) = unsafe {
        (
            &*peer,
            std::slice::from_raw_parts(zkey.cast::<u8>(), zkey_bytes),
            std::slice::from_raw_parts(wtns.cast::<u8>(), wtns_bytes),
        )
    };
    let laid = caught(|| {
        // The key is ours, and its points are.
        let key = ProvingKey::from_bytes_unchecked(zkey.to_vec()).map_err(said)?;
        Ok(Work {
            circuit: peer.backend.prepare(key).map_err(said)?,
            witness: Witness::from_bytes(wtns.to_vec()).map_err(said)?,
            proof: None,
        })
    });
    laid.map_or(std::ptr::null_mut(), |work| Box::into_raw(Box::new(work)))
}

/// # Safety
/// The work must be one of this library's that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_run(work: *mut Work) -> c_int {
    // SAFETY: the caller's.
    let work = unsafe { &mut *work };
    let ran = caught(|| {
        let mut random = snarkrs_lib::rand::thread_rng();
        let mut timings = StageTimings::default();
        let proof = prove(&*work.circuit, &work.witness.0, &mut random, &mut timings);
        work.proof = Some(proof.map_err(said)?);
        Ok(())
    });
    c_int::from(ran.is_none())
}

/// # Safety
/// The work must be one of this library's that is not freed, and there must be room for a proof.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_read(work: *mut Work, out: *mut c_void) -> c_int {
    // SAFETY: the caller's.
    let work = unsafe { &*work };
    let read = caught(|| {
        let proof = work.proof.as_ref().ok_or("no proof was made")?;
        let text = proof_to_string(proof);
        if text.len() >= PROOF_BYTES {
            return Err(format!("a proof of {} bytes", text.len()));
        }
        // SAFETY: there is room for a proof and the zero behind it.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), out.cast(), text.len());
            out.cast::<u8>().add(text.len()).write(0);
        }
        Ok(())
    });
    c_int::from(read.is_none())
}

/// # Safety
/// The work must be one of this library's, and this the one time that it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_free(work: *mut Work) {
    // SAFETY: the caller's.
    let work = unsafe { Box::from_raw(work) };
    caught(|| {
        drop(work);
        Ok(())
    });
}

/// The CUDA sources that its backend compiles for a GPU of this architecture ("compute_90"), by the names of the
/// files where it looks for the PTX of them. It has no call that tells the names, which are those of 0.1.0: the unit,
/// and FNV-1a of source and architecture in two streams. Where they are others it compiles.
pub fn units(architecture: &str) -> [(String, String); 2] {
    [
        ("stages", kernels::unit_stages()),
        ("msm", kernels::unit_msm()),
    ]
    .map(|(unit, source)| {
        let (mut low, mut high) = (0xcbf2_9ce4_8422_2325u64, 0x9e37_79b9_7f4a_7c15u64);
        for byte in source.bytes().chain([b'|']).chain(architecture.bytes()) {
            low = (low ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            high = (high.rotate_left(7) ^ low).wrapping_mul(0x8864_3f65_ef0d_9b1d);
        }
        (format!("{unit}-{low:016x}{high:016x}.ptx"), source)
    })
}

const PROOF_BYTES: usize = 4096;
