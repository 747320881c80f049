//! Whole proofs on the WebGPU device, judged by arkworks's verifier, which shares no code with it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use caldera_kernels::CurveId;
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{ProvingKey, Synthetic, prove, setup_synthetic, verify};
use caldera_wgpu::{Choice, Variant, WgpuConfig, WgpuDevice};

/// With the checks that the conformance suite has on that curve, so that a driver that keeps what
/// it compiled has little to do.
fn device(curve: CurveId, variant: Variant) -> Arc<WgpuDevice> {
    WgpuDevice::open(WgpuConfig {
        checked: curve == CurveId::Bn254,
        choice: Choice::Fixed(variant),
        ..WgpuConfig::default()
    })
    .expect("a Vulkan driver; `.ci/tools vulkan` brings one, `make test-wgpu` uses it")
}

#[test]
fn proofs_verify() {
    for (curve, variant, domain_log2) in [
        (CurveId::Bn254, Variant::Int64, 11),
        (CurveId::Bn254, Variant::Portable, 9),
        (CurveId::Bls12_381, Variant::Portable, 8),
    ] {
        let device = device(curve, variant);
        let synthetic = Synthetic {
            curve,
            domain_log2,
            dense: 0.5,
            seed: [domain_log2 as u8; 32],
        };
        let mut file = Vec::new();
        let witness = setup_synthetic(&synthetic, 2, &mut file, &mut |_| {}).expect("a circuit");
        let zkey = Zkey::parse(file.into()).expect("a good key");
        let key = ProvingKey::load(&zkey, device).expect("a key that fits the device");
        // Two threads, so that plans of several sums are on the device at once.
        let (proof, inputs) =
            prove(&key, witness, 2, &mut |_, _| {}).expect("a witness that fits its key");
        verify(key.verification_key(), &proof, &inputs).expect("a proof that verifies");
    }
}

/// A key of a real ceremony and a witness by the circuit's own program, as anybody would have them.
#[test]
fn a_semaphore_proof_verifies() {
    let interop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/tests/interop");
    let artifacts = interop.join("node_modules/@zk-kit/semaphore-artifacts");
    let zkey = std::fs::read(artifacts.join("semaphore-10.zkey"))
        .expect("the key that `make interop` brings");
    let folder = tempfile::tempdir().expect("a folder");
    let wtns = folder.path().join("semaphore-10.wtns");
    let made = Command::new("node")
        .arg(interop.join("semaphore-witness.mjs"))
        .arg("10")
        .arg(&wtns)
        .status()
        .expect("node, as `.ci/tools node` brings it");
    assert!(made.success(), "the witness was not made: {made}");
    let witness = std::fs::read(&wtns).expect("the witness that was made");

    let device = device(CurveId::Bn254, Variant::Int64);
    let zkey = Zkey::parse(zkey.into()).expect("a good key");
    let key = ProvingKey::load(&zkey, device).expect("a key that fits the device");
    let witness = Wtns::parse(witness.into()).expect("a good witness");
    let (proof, inputs) =
        prove(&key, witness, 2, &mut |_, _| {}).expect("a witness that fits its key");
    verify(key.verification_key(), &proof, &inputs).expect("a proof that verifies");
}
