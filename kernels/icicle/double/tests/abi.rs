//! The double finds each field of a configuration where ICICLE's headers have it, and each address on
//! the side where it should be: else it could not tell a loader that is wrong about either.

#![allow(unsafe_code)]

use std::ffi::c_void;

use caldera_icicle_double::{
    bn254_msm, bn254_ntt, bn254_ntt_init_domain, icicle_copy_to_device, icicle_free, icicle_malloc,
};
use caldera_kernels::curve::{Bn254, Coordinate, Curve};
use caldera_kernels::field::PrimeField;

const INVALID_POINTER: i32 = 3;
const INVALID_ARGUMENT: i32 = 11;

/// A configuration byte by byte, as aligned as any of ICICLE's.
#[repr(align(8))]
#[derive(Clone, Copy)]
struct Bytes<const N: usize>([u8; N]);

impl<const N: usize> Bytes<N> {
    fn new(fields: &[(usize, u8)]) -> Bytes<N> {
        let mut bytes = Bytes([0; N]);
        for &(at, value) in fields {
            bytes.0[at] = value;
        }
        bytes
    }

    /// The same with one more field.
    fn with(mut self, at: usize, value: u8) -> Bytes<N> {
        self.0[at] = value;
        self
    }

    fn at(&self) -> *const c_void {
        self.0.as_ptr().cast()
    }
}

/// Something on the device.
struct OnDevice(*mut c_void);

impl OnDevice {
    fn new(bytes: &[u8]) -> OnDevice {
        let mut at = std::ptr::null_mut();
        // SAFETY: `at` is live, then there is room for the bytes.
        unsafe {
            assert_eq!(icicle_malloc(&mut at, bytes.len()), 0);
            assert_eq!(
                icicle_copy_to_device(at, bytes.as_ptr().cast(), bytes.len()),
                0
            );
        }
        OnDevice(at)
    }
}

impl Drop for OnDevice {
    fn drop(&mut self) {
        // SAFETY: it came from `icicle_malloc`, and is not used any more.
        assert_eq!(unsafe { icicle_free(self.0) }, 0);
    }
}

#[test]
fn each_field_of_a_sums_configuration_is_looked_at() {
    let mut point = [0; 64];
    <Bn254 as Curve>::Fq::GENERATOR.to_bytes(&mut point);
    let points = OnDevice::new(&point);
    let on_device = OnDevice::new(&[1; 96]);
    let scalar = Bytes::<32>::new(&[(0, 3)]);
    let mut out = [0u8; 96];
    let mut msm = |scalars: *const c_void, points: *const c_void, config: Bytes<40>| {
        // SAFETY: one scalar, one point, room for a projective one, all live on some side.
        unsafe { bn254_msm(scalars, points, 1, config.at(), out.as_mut_ptr().cast()) }
    };
    // precompute_factor, batch_size, are_points_shared_in_batch, are_points_on_device,
    // are_points_montgomery_form.
    let usual = Bytes::new(&[(8, 1), (20, 1), (24, 1), (27, 1), (28, 1)]);
    assert_eq!(msm(scalar.at(), points.0, usual), 0);
    // are_scalars_montgomery_form.
    assert_eq!(msm(scalar.at(), points.0, usual.with(26, 1)), 0);
    for (field, at, value) in [
        ("stream", 0, 8),
        ("precompute_factor", 8, 2),
        ("c", 12, 16),
        ("bitsize", 16, 254),
        ("batch_size", 20, 2),
        ("are_points_shared_in_batch", 24, 0),
        ("are_scalars_montgomery_form", 26, 2),
        ("are_points_montgomery_form", 28, 0),
        ("is_async", 30, 1),
        ("ext", 32, 8),
    ] {
        let status = msm(scalar.at(), points.0, usual.with(at, value));
        assert_eq!(status, INVALID_ARGUMENT, "{field}");
    }
    for (field, at, value) in [
        ("are_scalars_on_device", 25, 1),
        ("are_points_on_device", 27, 0),
        ("are_results_on_device", 29, 1),
    ] {
        let status = msm(scalar.at(), points.0, usual.with(at, value));
        assert_eq!(status, INVALID_POINTER, "{field}");
    }
    assert_eq!(
        msm(scalar.at(), point.as_ptr().cast(), usual),
        INVALID_POINTER
    );
    assert_eq!(msm(on_device.0, points.0, usual), INVALID_POINTER);
}

#[test]
fn each_field_of_a_transforms_configurations_is_looked_at() {
    let mut root = Bytes::<32>::new(&[]);
    <Bn254 as Curve>::Fr::root_of_unity(4)
        .unwrap()
        .to_canonical_le(&mut root.0);
    // SAFETY: a root and a configuration.
    let init = |config: Bytes<24>| unsafe { bn254_ntt_init_domain(root.at(), config.at()) };
    let usual = Bytes::new(&[]);
    for (field, at, value) in [("stream", 0, 8), ("is_async", 8, 1), ("ext", 16, 8)] {
        assert_eq!(init(usual.with(at, value)), INVALID_ARGUMENT, "{field}");
    }
    assert_eq!(init(usual), 0);

    let mut scalars = [0u8; 64];
    let device = OnDevice::new(&scalars);
    let ntt = |from: *const c_void, to: *mut c_void, config: Bytes<64>| {
        // SAFETY: two scalars, in place, live on some side.
        unsafe { bn254_ntt(from, 2, 0, config.at(), to) }
    };
    // coset_gen, batch_size, are_inputs_on_device, are_outputs_on_device.
    let usual = Bytes::new(&[(8, 1), (40, 1), (52, 1), (53, 1)]);
    assert_eq!(ntt(device.0, device.0, usual), 0);
    for (field, at, value) in [
        ("stream", 0, 8),
        // No scalar is as large as that.
        ("coset_gen", 39, 255),
        ("batch_size", 40, 2),
        ("columns_batch", 44, 1),
        ("ordering", 48, 1),
        ("is_async", 54, 1),
        ("ext", 56, 8),
    ] {
        let status = ntt(device.0, device.0, usual.with(at, value));
        assert_eq!(status, INVALID_ARGUMENT, "{field}");
    }
    for (field, at, value) in [
        ("are_inputs_on_device", 52, 0),
        ("are_outputs_on_device", 53, 0),
    ] {
        let status = ntt(device.0, device.0, usual.with(at, value));
        assert_eq!(status, INVALID_POINTER, "{field}");
    }
    let host: *mut c_void = scalars.as_mut_ptr().cast();
    assert_eq!(ntt(host, host, usual), INVALID_POINTER);
    assert_eq!(ntt(device.0, host, usual), INVALID_POINTER);
}
