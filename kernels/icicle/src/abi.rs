//! The layouts of ICICLE's C ABI, v3.6 to v4.0, on x86-64: configurations, devices, statuses.
//!
//! From the headers `msm.h`, `ntt.h`, `device.h` and `errors.h` of ICICLE's frontend, which is under
//! the MIT licence. Booleans are bytes that hold 0 or 1; references are pointers; scalars, points
//! and results are addresses of little-endian words, so that one set of types serves all curves.

use std::ffi::{c_char, c_int, c_void};

/// `icicle::Device`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Device {
    /// "CPU", "CUDA", ..., ended by a zero.
    pub kind: [c_char; 64],
    /// Which of that kind.
    pub index: c_int,
}

/// `icicle::DeviceProperties`.
#[repr(C)]
#[derive(Default)]
pub struct DeviceProperties {
    /// Whether the device has no memory of its own.
    pub using_host_memory: bool,
    /// How many kinds of memory it has.
    pub num_memory_regions: c_int,
    /// Whether pages of the host's can be pinned for it.
    pub supports_pinned_memory: bool,
}

/// `icicle::MSMConfig`.
#[repr(C)]
pub struct MsmConfig {
    /// Null: the default one.
    pub stream: *mut c_void,
    /// 1: the bases are as they are, without multiples.
    pub precompute_factor: c_int,
    /// Window in bits; 0: chosen by the backend.
    pub c: c_int,
    /// 0: all bits of a scalar.
    pub bitsize: c_int,
    /// How many of the same length at once.
    pub batch_size: c_int,
    /// One set of points for the whole batch.
    pub are_points_shared_in_batch: bool,
    /// Where the scalars are.
    pub are_scalars_on_device: bool,
    /// Whether they are multiplied by R.
    pub are_scalars_montgomery_form: bool,
    /// Where the points are.
    pub are_points_on_device: bool,
    /// Whether their coordinates are multiplied by R.
    pub are_points_montgomery_form: bool,
    /// Where the results go.
    pub are_results_on_device: bool,
    /// Whether the call comes back before it is done.
    pub is_async: bool,
    /// Further settings of a backend; null: none.
    pub ext: *mut c_void,
}

/// `icicle::NTTConfig` of a field of 32 bytes.
#[repr(C)]
pub struct NttConfig {
    /// Null: the default one.
    pub stream: *mut c_void,
    /// The plain integer by whose powers the coset is reached; 1: none.
    pub coset_gen: [u32; 8],
    /// How many of the same length at once.
    pub batch_size: c_int,
    /// How a batch lies in memory.
    pub columns_batch: bool,
    /// 0: natural order to natural order.
    pub ordering: c_int,
    /// Where the scalars are.
    pub are_inputs_on_device: bool,
    /// Where they go.
    pub are_outputs_on_device: bool,
    /// Whether the call comes back before it is done.
    pub is_async: bool,
    /// Further settings of a backend; null: none.
    pub ext: *mut c_void,
}

/// `icicle::NTTInitDomainConfig`.
#[repr(C)]
pub struct NttInitDomainConfig {
    /// Null: the default one.
    pub stream: *mut c_void,
    /// Whether the call comes back before it is done.
    pub is_async: bool,
    /// Further settings of a backend; null: none.
    pub ext: *mut c_void,
}

/// `eIcicleError`.
pub type Status = c_int;

/// What a status means.
pub fn meaning(status: Status) -> &'static str {
    match status {
        0 => "success",
        1 => "invalid device",
        OUT_OF_MEMORY => "out of memory",
        3 => "invalid pointer",
        ALLOCATION_FAILED => "allocation failed",
        5 => "deallocation failed",
        6 => "copy failed",
        7 => "synchronisation failed",
        8 => "creating a stream failed",
        9 => "destroying a stream failed",
        NOT_IMPLEMENTED => "not implemented by this backend",
        11 => "invalid argument",
        12 => "loading the backend failed",
        13 => "the licence was refused",
        _ => "unknown error",
    }
}

/// The device has no memory left.
pub const OUT_OF_MEMORY: Status = 2;
/// It gave none.
pub const ALLOCATION_FAILED: Status = 4;

/// There is no backend for it, or that has none.
pub const NOT_IMPLEMENTED: Status = 10;

/// Forward and inverse, as `ntt` takes them.
pub const FORWARD: c_int = 0;
/// See [`FORWARD`].
pub const INVERSE: c_int = 1;

// As a C++ program prints them that was compiled against the headers. What follows must be so in each
// build; the double of the tests reads the same offsets without these types.
const _: () = {
    use std::mem::offset_of;

    assert!(size_of::<Device>() == 68);
    assert!(offset_of!(Device, kind) == 0);
    assert!(offset_of!(Device, index) == 64);

    assert!(size_of::<DeviceProperties>() == 12);
    assert!(offset_of!(DeviceProperties, using_host_memory) == 0);
    assert!(offset_of!(DeviceProperties, num_memory_regions) == 4);
    assert!(offset_of!(DeviceProperties, supports_pinned_memory) == 8);

    assert!(size_of::<MsmConfig>() == 40);
    assert!(offset_of!(MsmConfig, stream) == 0);
    assert!(offset_of!(MsmConfig, precompute_factor) == 8);
    assert!(offset_of!(MsmConfig, c) == 12);
    assert!(offset_of!(MsmConfig, bitsize) == 16);
    assert!(offset_of!(MsmConfig, batch_size) == 20);
    assert!(offset_of!(MsmConfig, are_points_shared_in_batch) == 24);
    assert!(offset_of!(MsmConfig, are_scalars_on_device) == 25);
    assert!(offset_of!(MsmConfig, are_scalars_montgomery_form) == 26);
    assert!(offset_of!(MsmConfig, are_points_on_device) == 27);
    assert!(offset_of!(MsmConfig, are_points_montgomery_form) == 28);
    assert!(offset_of!(MsmConfig, are_results_on_device) == 29);
    assert!(offset_of!(MsmConfig, is_async) == 30);
    assert!(offset_of!(MsmConfig, ext) == 32);

    assert!(size_of::<NttConfig>() == 64);
    assert!(offset_of!(NttConfig, stream) == 0);
    assert!(offset_of!(NttConfig, coset_gen) == 8);
    assert!(offset_of!(NttConfig, batch_size) == 40);
    assert!(offset_of!(NttConfig, columns_batch) == 44);
    assert!(offset_of!(NttConfig, ordering) == 48);
    assert!(offset_of!(NttConfig, are_inputs_on_device) == 52);
    assert!(offset_of!(NttConfig, are_outputs_on_device) == 53);
    assert!(offset_of!(NttConfig, is_async) == 54);
    assert!(offset_of!(NttConfig, ext) == 56);

    assert!(size_of::<NttInitDomainConfig>() == 24);
    assert!(offset_of!(NttInitDomainConfig, stream) == 0);
    assert!(offset_of!(NttInitDomainConfig, is_async) == 8);
    assert!(offset_of!(NttInitDomainConfig, ext) == 16);
};
