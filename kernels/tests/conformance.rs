//! The CPU device against arkworks, cut in several ways: what the suite tries is in
//! `src/conformance.rs`.

use std::time::Duration;

use caldera_kernels::CurveId;
use caldera_kernels::conformance::{Effort, run};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};

fn conforms(curve: CurveId, quantum: Duration, lanes: usize, effort: Effort, seed: u64) {
    let device = CpuDevice::new(CpuConfig { quantum, lanes });
    if let Err(failure) = run(&*device, curve, effort, seed) {
        panic!("{lanes} lanes of {quantum:?}, seed {seed}: {failure}");
    }
}

#[test]
fn bn254_as_shipped() {
    conforms(CurveId::Bn254, Duration::from_millis(2), 4, Effort::Full, 1);
}

#[test]
fn bls12_381_as_shipped() {
    conforms(CurveId::Bls12_381, Duration::from_millis(2), 4, Effort::Full, 2);
}

#[test]
fn uncut() {
    conforms(CurveId::Bn254, Duration::MAX, 1, Effort::Quick, 3);
    conforms(CurveId::Bls12_381, Duration::MAX, 1, Effort::Quick, 4);
}

/// A quantum of one unit: every loop is left at every place where it can be left.
#[test]
fn cut_everywhere() {
    conforms(CurveId::Bn254, Duration::from_nanos(1), 3, Effort::Quick, 5);
    conforms(CurveId::Bls12_381, Duration::from_nanos(1), 1, Effort::Quick, 6);
}

/// More lanes than windows, so that windows are cut into slices.
#[test]
fn many_lanes() {
    conforms(CurveId::Bn254, Duration::from_micros(50), 300, Effort::Full, 7);
    conforms(CurveId::Bls12_381, Duration::from_millis(1), 100, Effort::Quick, 8);
}
