//! A library that speaks ICICLE's C ABI and computes with the CPU device: for tests of what loads
//! ICICLE, on machines that have none.
//!
//! Copied under the names of ICICLE's runtime, field and curve libraries it is all three. It has one
//! device, "CPU". What is in that device's memory lies at addresses that no processor takes, so that whoever
//! reaches for it without a copy dies; and what a call says to be on the device must be, and nothing
//! else. Configurations are read at the offsets of ICICLE's headers, by nothing of the loader's, and one
//! that asks for anything the loader never does is refused. `CALDERA_DOUBLE_FAULT` makes it fail as such libraries
//! do, from the call with that number on, counted from 0 and in each copy by itself:
//!
//! | value | what happens |
//! |---|---|
//! | `abort-msm:N`, `abort-ntt:N`, `abort-domain:N`, and so below | the process is aborted, as by a C++ exception that nobody catches |
//! | `hang-msm:N`, `hang-ntt:N` | the call never comes back |
//! | `fail-msm:N`, `fail-ntt:N` | the call answers "unknown error" |
//! | `none-msm:N`, `none-ntt:N` | the call answers "not implemented" |
//! | `wrong-msm:N`, `wrong-ntt:N` | a point of the curve, or scalars, but the wrong ones |
//! | `astray-msm:N` | a point that is not on the curve |
//! | `full:N` | no memory |
//!
//! It has a second device, "CUDA", if the folder of backends has a library with `icicle_backend_cuda_device` in its
//! name that can be loaded, and, as a backend of a curve needs, that of BN254 was there before. What cannot be
//! loaded it passes over in silence, as ICICLE does.
//!
//! `CALDERA_DOUBLE_MEMORY` gives the device so many bytes of memory of its own; without, its memory is the
//! host's. A call that hangs connects to the socket at `CALDERA_DOUBLE_TELL` first, if there is one.
//!
//! As in ICICLE, choosing a device that is not there and a transform without a domain abort.

// The ABI is C's: addresses and lengths, as the callers say.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::field::{Field, PrimeField};
use caldera_kernels::{CurveId, Device as _, Form, Plan, Progress, Transform, Work};

/// `eIcicleError`.
pub type Status = c_int;

const SUCCESS: Status = 0;
const INVALID_DEVICE: Status = 1;
const OUT_OF_MEMORY: Status = 2;
const INVALID_POINTER: Status = 3;
const NOT_IMPLEMENTED: Status = 10;
const INVALID_ARGUMENT: Status = 11;
const UNKNOWN: Status = 14;
const INVERSE: c_int = 1;

/// Whether this call, the latest of its kind, is to fail as `fault` says.
fn faulty(fault: &str, call: u64) -> bool {
    std::env::var("CALDERA_DOUBLE_FAULT").is_ok_and(|wanted| {
        wanted.split_once(':').is_some_and(|(name, from)| {
            name == fault && from.parse().is_ok_and(|from: u64| call >= from)
        })
    })
}

/// The faults that end a call before it has computed anything.
fn fail_early(kind: &str, call: u64) -> Option<Status> {
    if faulty(&format!("abort-{kind}"), call) {
        std::process::abort();
    }
    if faulty(&format!("hang-{kind}"), call) {
        // A test may wait to be told so.
        let listener = std::env::var_os("CALDERA_DOUBLE_TELL");
        let _told = listener.map(std::os::unix::net::UnixStream::connect);
        loop {
            std::thread::park();
        }
    }
    if faulty(&format!("none-{kind}"), call) {
        return Some(NOT_IMPLEMENTED);
    }
    faulty(&format!("fail-{kind}"), call).then_some(UNKNOWN)
}

/// A field of what a caller passes, at its offset.
///
/// # Safety
/// There must be a `T` of any value.
unsafe fn field<T: Copy>(at: *const c_void, offset: usize) -> T {
    // SAFETY: by this function's own condition.
    unsafe { at.byte_add(offset).cast::<T>().read_unaligned() }
}

/// A flag, if it is one: C++ may take any other byte for anything.
///
/// # Safety
/// There must be a byte.
unsafe fn flag(at: *const c_void, offset: usize) -> Option<bool> {
    // SAFETY: by this function's own condition.
    match unsafe { field::<u8>(at, offset) } {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// # Safety
/// `device` must be a device of 68 bytes, whose kind ends with a zero.
unsafe fn is_here(device: *const c_void) -> bool {
    // SAFETY: by this function's own condition.
    let (kind, index) = unsafe { (CStr::from_ptr(device.cast()), field::<i32>(device, 64)) };
    let known = kind == c"CPU" || kind == c"CUDA" && CUDA.load(Ordering::Relaxed);
    known && index == 0
}

/// Whether a backend for a second device was loaded.
static CUDA: AtomicBool = AtomicBool::new(false);

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_load_backend(path: *const c_char, _recursive: bool) -> Status {
    // SAFETY: the caller's word.
    let path = unsafe { CStr::from_ptr(path) };
    let files = std::fs::read_dir(Path::new(OsStr::from_bytes(path.to_bytes())));
    for file in files.into_iter().flatten().flatten() {
        let file = file.path().into_os_string().into_encoded_bytes();
        let file = CString::new(file).unwrap_or_default();
        if file
            .to_string_lossy()
            .contains("icicle_backend_cuda_device")
        {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
            // SAFETY: a text; what is loaded is the test's.
            let there = maps.contains("libicicle_curve_bn254.so")
                && !unsafe { dlopen(file.as_ptr(), RTLD_NOW) }.is_null();
            CUDA.fetch_or(there, Ordering::Relaxed);
        }
    }
    SUCCESS
}

const RTLD_NOW: c_int = 2;

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_is_device_available(device: *const c_void) -> Status {
    // SAFETY: the caller's word.
    match unsafe { is_here(device) } {
        true => SUCCESS,
        false => INVALID_DEVICE,
    }
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_set_device(device: *const c_void) -> Status {
    // SAFETY: the caller's word.
    if !unsafe { is_here(device) } {
        std::process::abort();
    }
    SUCCESS
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_registered_devices(out: *mut c_char, length: usize) -> Status {
    let names: &[u8] = match CUDA.load(Ordering::Relaxed) {
        true => b"CPU,CUDA\0",
        false => b"CPU\0",
    };
    if length < names.len() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the caller has `length` bytes there, and that is enough.
    unsafe { std::ptr::copy_nonoverlapping(names.as_ptr(), out.cast(), names.len()) };
    SUCCESS
}

/// How far from where it really is the device's memory seems to be: bits 47 and up of an address
/// are all the same, else the processor refuses it.
const AWAY: usize = 1 << 56;

/// The device's memory: where each piece really begins, and how long it is.
static HELD: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

const ALIGN: usize = 64;

fn held<T>(with: impl FnOnce(&mut BTreeMap<usize, usize>) -> T) -> T {
    with(&mut HELD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_malloc(out: *mut *mut c_void, bytes: usize) -> Status {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if faulty("full", CALLS.fetch_add(1, Ordering::Relaxed)) {
        return OUT_OF_MEMORY;
    }
    let Some(layout) = layout(bytes).filter(|_| bytes > 0) else {
        return INVALID_ARGUMENT;
    };
    if bytes > free() {
        return OUT_OF_MEMORY;
    }
    // SAFETY: the layout is not empty; `out` is the caller's word.
    unsafe {
        let start = std::alloc::alloc(layout);
        if start.is_null() {
            return OUT_OF_MEMORY;
        }
        held(|held| held.insert(start.addr(), bytes));
        *out = start.wrapping_add(AWAY).cast();
    }
    SUCCESS
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_free(at: *mut c_void) -> Status {
    let start = at.wrapping_byte_sub(AWAY).cast::<u8>();
    let bytes = held(|held| held.remove(&start.addr()));
    let Some(layout) = bytes.and_then(layout) else {
        return INVALID_POINTER;
    };
    // SAFETY: it came from `icicle_malloc`, with that length.
    unsafe { std::alloc::dealloc(start, layout) };
    SUCCESS
}

/// What the device's memory is, if that is not the host's.
fn memory() -> Option<usize> {
    std::env::var("CALDERA_DOUBLE_MEMORY").ok()?.parse().ok()
}

fn free() -> usize {
    let used = held(|held| held.values().sum());
    memory().unwrap_or(usize::MAX).saturating_sub(used)
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_device_properties(out: *mut c_void) -> Status {
    // SAFETY: the caller has 12 bytes there.
    unsafe {
        out.cast::<bool>().write(memory().is_none());
        out.byte_add(4).cast::<i32>().write(1);
        out.byte_add(8).cast::<bool>().write(false);
    }
    SUCCESS
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_get_available_memory(
    total: *mut usize,
    left: *mut usize,
) -> Status {
    // SAFETY: both are the caller's.
    unsafe {
        // The host's, as far as anybody asks.
        total.write(memory().unwrap_or(1 << 40));
        left.write(free().min(1 << 40));
    }
    SUCCESS
}

fn layout(bytes: usize) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(bytes, ALIGN).ok()
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_is_active_device_memory(at: *const c_void) -> Status {
    let at = at.addr().wrapping_sub(AWAY);
    let piece = held(|held| {
        held.range(..=at)
            .next_back()
            .map(|(start, len)| start + len)
    });
    match piece.is_some_and(|end| at < end) {
        true => SUCCESS,
        false => INVALID_POINTER,
    }
}

unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
}

/// Whether an address is the device's. Only the runtime knows, which is another copy of this.
fn is_on_device(at: *const c_void) -> bool {
    // SAFETY: of all libraries, the first one that has the symbol.
    let found = unsafe {
        dlsym(
            std::ptr::null_mut(),
            c"icicle_is_active_device_memory".as_ptr(),
        )
    };
    type Ask = unsafe extern "C" fn(*const c_void) -> Status;
    let ask: Ask = match found.is_null() {
        // A test has linked this in.
        true => icicle_is_active_device_memory,
        // SAFETY: the symbol is that function, in this or another copy.
        false => unsafe { std::mem::transmute::<*mut c_void, Ask>(found) },
    };
    // SAFETY: it looks at the address alone.
    unsafe { ask(at) == SUCCESS }
}

/// Where something really is whose place a caller names, if it is on the side that the caller says.
fn place(at: *const c_void, bytes: usize, on_device: bool) -> Option<*mut u8> {
    let last = at.wrapping_byte_add(bytes.checked_sub(1)?);
    if [at, last].map(is_on_device) != [on_device; 2] {
        return None;
    }
    let away = if on_device { AWAY } else { 0 };
    Some(at.cast_mut().wrapping_byte_sub(away).cast())
}

/// Copies bytes, if both places are on the sides that they should be on.
///
/// # Safety
/// What is said to be the host's must be there.
unsafe fn copy(
    (to, to_device): (*mut c_void, bool),
    (from, from_device): (*const c_void, bool),
    bytes: usize,
) -> Status {
    let (to, from) = (place(to, bytes, to_device), place(from, bytes, from_device));
    let (Some(to), Some(from)) = (to, from) else {
        return INVALID_POINTER;
    };
    // SAFETY: the device's is held; the host's is the caller's word.
    unsafe { std::ptr::copy_nonoverlapping(from, to, bytes) };
    SUCCESS
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_copy_to_device(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> Status {
    // SAFETY: the caller's word.
    unsafe { copy((to, true), (from, false), bytes) }
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_copy_to_host(
    to: *mut c_void,
    from: *const c_void,
    bytes: usize,
) -> Status {
    // SAFETY: the caller's word.
    unsafe { copy((to, false), (from, true), bytes) }
}

/// # Safety
/// As in ICICLE's `runtime.h`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn icicle_memset(at: *mut c_void, value: c_int, bytes: usize) -> Status {
    let Some(at) = place(at, bytes, true) else {
        return INVALID_POINTER;
    };
    // SAFETY: the device's memory is held.
    unsafe { std::ptr::write_bytes(at, value as u8, bytes) };
    SUCCESS
}

fn device() -> &'static Arc<CpuDevice> {
    static DEVICE: OnceLock<Arc<CpuDevice>> = OnceLock::new();
    DEVICE.get_or_init(|| {
        CpuDevice::new(CpuConfig {
            quantum: Duration::MAX,
            lanes: 1,
        })
    })
}

fn finish(plan: &dyn Plan) -> Option<Vec<u8>> {
    for stage in 0..plan.stages() {
        for lane in 0..plan.open(stage).ok()? {
            while plan.run(stage, lane).ok()? == Progress::More {}
        }
    }
    plan.point()
}

/// # Safety
/// `scalars` and `points` must be as many as `count`, `config` a configuration, and `out` must have
/// room for a projective point.
unsafe fn msm<C: Curve, F: Coordinate>(
    scalars: *const c_void,
    points: *const c_void,
    count: c_int,
    config: *const c_void,
    out: *mut c_void,
) -> Status {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    if let Some(status) = fail_early("msm", call) {
        return status;
    }
    // SAFETY: by this function's own condition.
    let asked = unsafe { MsmAsked::read(config) };
    let (Some(asked), Ok(count)) = (asked, usize::try_from(count)) else {
        return INVALID_ARGUMENT;
    };
    let form = match asked.are_scalars_montgomery_form {
        true => Form::Montgomery,
        false => Form::Canonical,
    };
    let size = Affine::<F>::BYTES;
    let (Some(scalars), Some(points), Some(out)) = (
        place(scalars, count * 32, asked.are_scalars_on_device),
        place(points, count * size, asked.are_points_on_device),
        place(out, size / 2 * 3, asked.are_results_on_device),
    ) else {
        return INVALID_POINTER;
    };
    // SAFETY: as above.
    let (scalars, points) = unsafe {
        (
            std::slice::from_raw_parts(scalars, count * 32),
            std::slice::from_raw_parts(points, count * size),
        )
    };
    let Some(sum) = sum(F::CURVE, F::GROUP, scalars, points, form) else {
        return UNKNOWN;
    };
    let mut sum = Affine::<F>::from_bytes_unchecked(&sum);
    if faulty("wrong-msm", call) {
        sum = F::GENERATOR
            .mul_canonical(&[2])
            .add_affine(&sum)
            .to_affine();
    }
    if faulty("astray-msm", call) {
        sum.x += F::ONE;
    }
    // Homogeneous: x, y and 1, or 0, 1 and 0 for infinity; plain integers.
    let mut bytes = vec![0; size / 2 * 3];
    let one = size / 2 * if sum.is_infinity() { 1 } else { 2 };
    bytes[one] = 1;
    if !sum.is_infinity() {
        sum.to_bytes(&mut bytes);
        for part in bytes[..size].chunks_mut(C::ID.base_bytes()) {
            C::Fq::from_montgomery_le_unchecked(part).to_canonical_le(part);
        }
    }
    // SAFETY: as above.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, bytes.len()) };
    SUCCESS
}

/// What an `MSMConfig` asks for.
struct MsmAsked {
    are_scalars_on_device: bool,
    are_scalars_montgomery_form: bool,
    are_points_on_device: bool,
    are_results_on_device: bool,
}

impl MsmAsked {
    /// `None` for what the loader never asks for.
    ///
    /// # Safety
    /// There must be a configuration, of 40 bytes.
    unsafe fn read(config: *const c_void) -> Option<MsmAsked> {
        // SAFETY: by this function's own condition.
        let [stream, ext] = [0, 32].map(|at| unsafe { field::<usize>(config, at) });
        // precompute_factor, c, bitsize, batch_size.
        // SAFETY: as above.
        let integers = [8, 12, 16, 20].map(|at| unsafe { field::<i32>(config, at) });
        // SAFETY: as above.
        let flag = |at| unsafe { flag(config, at) };
        let (shared, is_async, montgomery) = (flag(24)?, flag(30)?, flag(28)?);
        let asked = MsmAsked {
            are_scalars_on_device: flag(25)?,
            are_scalars_montgomery_form: flag(26)?,
            are_points_on_device: flag(27)?,
            are_results_on_device: flag(29)?,
        };
        let usual = (stream, ext) == (0, 0) && integers == [1, 0, 0, 1];
        (usual && shared && !is_async && montgomery).then_some(asked)
    }
}

fn sum(
    curve: CurveId,
    group: caldera_kernels::Group,
    scalars: &[u8],
    points: &[u8],
    form: Form,
) -> Option<Vec<u8>> {
    let device = device();
    let vector = device.vector(curve, scalars.len() / 32).ok()?;
    device.vector_write(vector, 0, scalars).ok()?;
    let bases = device
        .bases(curve, group, Bytes::copy_from_slice(points))
        .ok()?;
    let plan = device.plan(&Work::Msm {
        bases,
        scalars: vector,
        offset: 0,
        form,
    });
    device.vector_free(vector);
    device.bases_free(bases);
    finish(&*plan.ok()?)
}

/// # Safety
/// `from` must be a projective point that [`msm`] has made, `to` must have room for an affine one.
unsafe fn to_affine<F: Coordinate>(from: *const c_void, to: *mut c_void) {
    let size = F::BYTES;
    // SAFETY: by this function's own condition.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(from.cast::<u8>(), 3 * size),
            std::slice::from_raw_parts_mut(to.cast::<u8>(), 2 * size),
        )
    };
    // z is 1, or 0 for infinity.
    match from[2 * size] {
        0 => to.fill(0),
        _ => to.copy_from_slice(&from[..2 * size]),
    }
}

/// log2 of the domain, by curve; 0: none.
static DOMAINS: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

fn domain<C: Curve>() -> &'static AtomicU32 {
    &DOMAINS[usize::from(C::ID == CurveId::Bls12_381)]
}

/// # Safety
/// `root` must be a scalar, `config` a configuration, of 24 bytes.
unsafe fn init_domain<C: Curve>(root: *const c_void, config: *const c_void) -> Status {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    if let Some(status) = fail_early("domain", CALLS.fetch_add(1, Ordering::Relaxed)) {
        return status;
    }
    // SAFETY: by this function's own condition.
    let [stream, ext] = [0, 16].map(|at| unsafe { field::<usize>(config, at) });
    // SAFETY: as above.
    let is_async = unsafe { flag(config, 8) };
    if (stream, ext, is_async) != (0, 0, Some(false)) {
        return INVALID_ARGUMENT;
    }
    let Some(root) = place(root, 32, false) else {
        return INVALID_POINTER;
    };
    // SAFETY: as above.
    let root = unsafe { std::slice::from_raw_parts(root, 32) };
    let Some(root) = C::Fr::from_canonical_le(root) else {
        return INVALID_ARGUMENT;
    };
    // Of all domains this one has the roots that the CPU device uses.
    let log2 = (1..=C::Fr::TWO_ADICITY).find(|&log2| C::Fr::root_of_unity(log2) == Some(root));
    let Some(log2) = log2 else {
        return INVALID_ARGUMENT;
    };
    // As ICICLE does: a second one changes nothing, and says nothing.
    let _ = domain::<C>().compare_exchange(0, log2, Ordering::Relaxed, Ordering::Relaxed);
    SUCCESS
}

/// # Safety
/// `from` and `to` must be as many scalars as `count`, `config` a configuration.
unsafe fn ntt<C: Curve>(
    from: *const c_void,
    count: c_int,
    direction: c_int,
    config: *const c_void,
    to: *mut c_void,
) -> Status {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    if let Some(status) = fail_early("ntt", call) {
        return status;
    }
    let count = count as usize;
    if !count.is_power_of_two() || count > 1 << domain::<C>().load(Ordering::Relaxed) {
        std::process::abort();
    }
    // SAFETY: by this function's own condition.
    let Some(asked) = (unsafe { NttAsked::read(config) }) else {
        return INVALID_ARGUMENT;
    };
    let (Some(from), Some(to)) = (
        place(from, count * 32, asked.are_inputs_on_device),
        place(to, count * 32, asked.are_outputs_on_device),
    ) else {
        return INVALID_POINTER;
    };
    // SAFETY: as above; they may be the same, so nothing borrows both.
    let mut scalars = unsafe { std::slice::from_raw_parts(from, count * 32) }.to_vec();
    let Some(generator) = C::Fr::from_canonical_le(&asked.coset_gen) else {
        return INVALID_ARGUMENT;
    };
    let transform = match direction {
        INVERSE if generator != C::Fr::ONE => return INVALID_ARGUMENT,
        INVERSE => Transform::Inverse,
        _ => Transform::Forward,
    };
    let mut power = C::Fr::ONE;
    for scalar in scalars.chunks_mut(32) {
        let product = C::Fr::from_montgomery_le_unchecked(scalar) * power;
        product.to_montgomery_le(scalar);
        power *= generator;
    }
    if transformed(C::ID, transform, &mut scalars).is_none() {
        return UNKNOWN;
    }
    if faulty("wrong-ntt", call) {
        scalars[0] ^= 1;
    }
    // SAFETY: as above.
    unsafe { std::ptr::copy_nonoverlapping(scalars.as_ptr(), to, scalars.len()) };
    SUCCESS
}

/// What an `NTTConfig` of a field of 32 bytes asks for.
struct NttAsked {
    coset_gen: [u8; 32],
    are_inputs_on_device: bool,
    are_outputs_on_device: bool,
}

impl NttAsked {
    /// `None` for what the loader never asks for.
    ///
    /// # Safety
    /// There must be a configuration, of 64 bytes.
    unsafe fn read(config: *const c_void) -> Option<NttAsked> {
        // SAFETY: by this function's own condition.
        let [stream, ext] = [0, 56].map(|at| unsafe { field::<usize>(config, at) });
        // batch_size, ordering.
        // SAFETY: as above.
        let integers = [40, 48].map(|at| unsafe { field::<i32>(config, at) });
        // SAFETY: as above.
        let flag = |at| unsafe { flag(config, at) };
        let (columns, is_async) = (flag(44)?, flag(54)?);
        let asked = NttAsked {
            // SAFETY: as above.
            coset_gen: unsafe { field(config, 8) },
            are_inputs_on_device: flag(52)?,
            are_outputs_on_device: flag(53)?,
        };
        let usual = (stream, ext) == (0, 0) && integers == [1, 0];
        (usual && !columns && !is_async).then_some(asked)
    }
}

fn transformed(curve: CurveId, transform: Transform, scalars: &mut [u8]) -> Option<()> {
    let device = device();
    let vector = device.vector(curve, scalars.len() / 32).ok()?;
    device.vector_write(vector, 0, scalars).ok()?;
    let plan = device.plan(&Work::Ntt { vector, transform }).ok()?;
    finish(&*plan);
    device.vector_read(vector, 0, scalars).ok()?;
    device.vector_free(vector);
    Some(())
}

/// The symbols of a curve.
macro_rules! curve {
    ($curve:ty, $msm:ident, $g2_msm:ident, $to_affine:ident, $g2_to_affine:ident, $ntt:ident,
     $init_domain:ident, $release_domain:ident) => {
        /// # Safety
        /// As in ICICLE's `msm.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $msm(
            scalars: *const c_void,
            points: *const c_void,
            count: c_int,
            config: *const c_void,
            out: *mut c_void,
        ) -> Status {
            // SAFETY: the caller's word.
            unsafe { msm::<$curve, <$curve as Curve>::Fq>(scalars, points, count, config, out) }
        }

        /// # Safety
        /// As in ICICLE's `msm.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $g2_msm(
            scalars: *const c_void,
            points: *const c_void,
            count: c_int,
            config: *const c_void,
            out: *mut c_void,
        ) -> Status {
            // SAFETY: the caller's word.
            unsafe { msm::<$curve, <$curve as Curve>::Fq2>(scalars, points, count, config, out) }
        }

        /// # Safety
        /// As in ICICLE's `externs.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $to_affine(from: *const c_void, to: *mut c_void) {
            // SAFETY: the caller's word.
            unsafe { to_affine::<<$curve as Curve>::Fq>(from, to) }
        }

        /// # Safety
        /// As in ICICLE's `externs.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $g2_to_affine(from: *const c_void, to: *mut c_void) {
            // SAFETY: the caller's word.
            unsafe { to_affine::<<$curve as Curve>::Fq2>(from, to) }
        }

        /// # Safety
        /// As in ICICLE's `ntt.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $ntt(
            from: *const c_void,
            count: c_int,
            direction: c_int,
            config: *const c_void,
            to: *mut c_void,
        ) -> Status {
            // SAFETY: the caller's word.
            unsafe { ntt::<$curve>(from, count, direction, config, to) }
        }

        /// # Safety
        /// As in ICICLE's `ntt.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $init_domain(
            root: *const c_void,
            config: *const c_void,
        ) -> Status {
            // SAFETY: the caller's word.
            unsafe { init_domain::<$curve>(root, config) }
        }

        /// # Safety
        /// As in ICICLE's `ntt.h`.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $release_domain() -> Status {
            domain::<$curve>().store(0, Ordering::Relaxed);
            SUCCESS
        }
    };
}

curve!(
    Bn254,
    bn254_msm,
    bn254_g2_msm,
    bn254_to_affine,
    bn254_g2_to_affine,
    bn254_ntt,
    bn254_ntt_init_domain,
    bn254_ntt_release_domain
);
curve!(
    Bls12_381,
    bls12_381_msm,
    bls12_381_g2_msm,
    bls12_381_to_affine,
    bls12_381_g2_to_affine,
    bls12_381_ntt,
    bls12_381_ntt_init_domain,
    bls12_381_ntt_release_domain
);
