//! The WebGPU device against arkworks.
use caldera_kernels::CurveId;
use caldera_kernels::conformance::{Effort, run};
use caldera_wgpu::{Choice, Variant, WgpuConfig, WgpuDevice};

#[test]
fn bn254_int64() {
    let device = WgpuDevice::open(WgpuConfig {
        checked: std::env::var("CHECKED").is_ok(),
        choice: Choice::Fixed(if std::env::var("PORTABLE").is_ok() {
            Variant::Portable
        } else {
            Variant::Int64
        }),
        ..WgpuConfig::default()
    })
    .expect("a device");
    let curve = if std::env::var("BLS").is_ok() {
        CurveId::Bls12_381
    } else {
        CurveId::Bn254
    };
    if let Err(failure) = run(&*device, curve, Effort::Quick, 1) {
        panic!("{failure}");
    }
}
