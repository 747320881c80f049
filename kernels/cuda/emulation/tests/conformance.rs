//! The CUDA device on the emulation passes the conformance suite.

use std::time::Duration;

use caldera_cuda::CudaDevice;
use caldera_cuda_emulation::Emulation;
use caldera_kernels::CurveId;
use caldera_kernels::conformance::{Effort, run};

/// And gives all of its memory back.
fn conforms(curve: CurveId, quantum: Duration, seed: u64) {
    let emulation = Emulation::new();
    let device = CudaDevice::new(emulation.clone(), quantum).expect("all kernels are there");
    if let Err(failure) = run(&*device, curve, Effort::Quick, seed) {
        panic!("quantum {quantum:?}, seed {seed}: {failure}");
    }
    drop(device);
    assert_eq!(emulation.bytes(), 0, "bytes that were not given back");
}

/// The quantum that the GPU has; here it holds a hundredth of the work.
#[test]
fn bn254() {
    conforms(CurveId::Bn254, Duration::from_millis(2), 21);
}

#[test]
fn bls12_381() {
    conforms(CurveId::Bls12_381, Duration::from_millis(2), 22);
}
