//! A peer of our own: the functions of `benches/peers/peer.h`, computed by the CPU device. For tests of what
//! measures peers, on machines that have neither a GPU nor a peer.
//!
//! [`VARIABLE`] makes it useless, in the ways that the table says.
//!
//! | it says | what goes wrong |
//! |---|---|
//! | `absent` | no device can be opened |
//! | `full` | nothing can be laid out |
//! | `lost:N` | the run after N of them fails |
//! | `wrong` | a sum is the first point, and a transform leaves its vector as it is |
//! | `abi` | it is another ABI |

// A C ABI is made of unsafe functions; the SAFETY lines say what this one relies on.
#![allow(unsafe_code)]
// Each function is what the header says.
#![allow(missing_docs)]
#![allow(clippy::missing_safety_doc)]

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::{
    CurveId, Device, DeviceError, Form, Group, Plan, Progress, Transform, VectorId, Work as Of,
};

/// Names what goes wrong.
pub const VARIABLE: &str = "CALDERA_PEER_DOUBLE";

/// There is one, which needs nothing.
pub struct Peer;

/// What it is asked to do again and again.
pub struct Work {
    device: Arc<CpuDevice>,
    work: Of,
    vector: VectorId,
    count: usize,
    /// What it is for when it is wrong.
    first: Vec<u8>,
    point: Vec<u8>,
}

fn fault() -> String {
    std::env::var(VARIABLE).unwrap_or_default()
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_abi() -> u32 {
    1 + u32::from(fault() == "abi")
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_open(
    _name: *const c_char,
    _device: u32,
    _pci: *const c_char,
) -> *const Peer {
    if fault() == "absent" {
        std::ptr::null()
    } else {
        &Peer
    }
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_build(_peer: *const Peer) -> *const c_char {
    c"a double of ours, on the processor".as_ptr()
}

#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_error() -> *const c_char {
    match &*fault() {
        "" => c"".as_ptr(),
        "absent" => c"no CUDA driver".as_ptr(),
        _ => c"the double was told to fail".as_ptr(),
    }
}

/// # Safety
/// Points and scalars must be as long as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_sum(
    _peer: *const Peer,
    group: u32,
    points: *const c_void,
    scalars: *const c_void,
    count: usize,
) -> *mut Work {
    let group = if group == 1 { Group::G1 } else { Group::G2 };
    let bytes = CURVE.point_bytes(group);
    // SAFETY: so many are there, the caller says.
    let (points, scalars) = unsafe {
        (
            std::slice::from_raw_parts(points.cast::<u8>(), bytes * count),
            std::slice::from_raw_parts(scalars.cast::<u8>(), 32 * count),
        )
    };
    laid(points[..bytes].to_vec(), scalars, |device, scalars| {
        Ok(Of::Msm {
            bases: device.bases(CURVE, group, Bytes::copy_from_slice(points))?,
            scalars,
            offset: 0,
            form: Form::Canonical,
        })
    })
}

/// # Safety
/// There must be 2^log2 elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_transform(
    _peer: *const Peer,
    elements: *const c_void,
    log2: u32,
) -> *mut Work {
    // SAFETY: so many are there, the caller says.
    let elements = unsafe { std::slice::from_raw_parts(elements.cast::<u8>(), 32 << log2) };
    laid(Vec::new(), elements, |_, vector| {
        Ok(Of::Ntt {
            vector,
            transform: Transform::Forward,
        })
    })
}

/// It proves nothing.
#[unsafe(no_mangle)]
pub extern "C" fn caldera_peer_proof(
    _peer: *const Peer,
    _zkey: *const c_void,
    _zkey_bytes: usize,
    _wtns: *const c_void,
    _wtns_bytes: usize,
) -> *mut Work {
    std::ptr::null_mut()
}

fn laid(
    first: Vec<u8>,
    scalars: &[u8],
    of: impl FnOnce(&CpuDevice, VectorId) -> Result<Of, DeviceError>,
) -> *mut Work {
    let lay = || {
        let device = CpuDevice::new(CpuConfig {
            quantum: Duration::from_millis(2),
            lanes: 1,
        });
        let count = scalars.len() / 32;
        let vector = device.vector(CURVE, count)?;
        device.vector_write(vector, 0, scalars)?;
        let work = of(&device, vector)?;
        let point = Vec::new();
        Ok::<_, DeviceError>(Work {
            device,
            work,
            vector,
            count,
            first,
            point,
        })
    };
    match lay() {
        Ok(work) if fault() != "full" => Box::into_raw(Box::new(work)),
        _ => std::ptr::null_mut(),
    }
}

/// # Safety
/// The work must be one of this library's that is not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_run(work: *mut Work) -> c_int {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let before = RUNS.fetch_add(1, Ordering::Relaxed);
    let fault = fault();
    if fault.strip_prefix("lost:").and_then(|it| it.parse().ok()) == Some(before) {
        return 1;
    }
    // SAFETY: the caller's.
    let work = unsafe { &mut *work };
    if fault == "wrong" {
        work.point.clone_from(&work.first);
        return 0;
    }
    let mut run = || {
        let plan: Arc<dyn Plan> = work.device.plan(&work.work)?;
        for stage in 0..plan.stages() {
            for lane in 0..plan.open(stage)? {
                while plan.run(stage, lane)? == Progress::More {}
            }
        }
        work.point = plan.point().unwrap_or_default();
        Ok::<_, DeviceError>(())
    };
    c_int::from(run().is_err())
}

/// # Safety
/// The work must be one of this library's that is not freed, and there must be room for what came of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_read(work: *mut Work, out: *mut c_void) -> c_int {
    // SAFETY: the caller's.
    let work = unsafe { &*work };
    let mut bytes = work.point.clone();
    if matches!(work.work, Of::Ntt { .. }) {
        bytes = vec![0; 32 * work.count];
        if work.device.vector_read(work.vector, 0, &mut bytes).is_err() {
            return 1;
        }
    }
    // SAFETY: there is room for as much, the caller says.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len()) };
    0
}

/// # Safety
/// The work must be one of this library's, and this the one time that it is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn caldera_peer_free(work: *mut Work) {
    // SAFETY: the caller's.
    drop(unsafe { Box::from_raw(work) });
}

const CURVE: CurveId = CurveId::Bn254;
