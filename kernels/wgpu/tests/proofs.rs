//! Whole proofs on the WebGPU device, judged by arkworks's verifier, which shares no code with it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_kernels::relay::{Member, Relay};
use caldera_kernels::{Around, CurveId, Device};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{
    Blinding, Job, ProvingKey, Step, Synthetic, prove, setup_synthetic, verify,
};
use caldera_wgpu::{Choice, Variant, WgpuConfig, WgpuDevice};

/// With the checks that the conformance suite has on that curve, so that a driver that keeps what
/// it compiled has little to do.
fn device(curve: CurveId, variant: Variant) -> Arc<WgpuDevice> {
    WgpuDevice::open(WgpuConfig {
        adapter: Some("llvmpipe".to_owned()),
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

/// Before every quantum the processor and the GPU take turns at what may begin next.
#[test]
fn a_proof_that_moves_to_the_gpu_and_back_verifies() {
    let gpu = device(CurveId::Bn254, Variant::Int64);
    let cpu = CpuDevice::new(CpuConfig {
        quantum: Duration::from_micros(200),
        lanes: 2,
    });
    let visits: Arc<[AtomicU64; 2]> = Arc::default();
    let member = |place: usize, device: Arc<dyn Device>| {
        let visits = Arc::clone(&visits);
        let count = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
            visits[place].fetch_add(1, Ordering::Relaxed);
            quantum()
        };
        Member {
            device: Around::new(device, Arc::new(count)),
            width: 1,
        }
    };
    let relay = Relay::new(vec![member(0, cpu), member(1, gpu)]);
    let synthetic = Synthetic {
        curve: CurveId::Bn254,
        domain_log2: 9,
        dense: 0.5,
        seed: [9; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&synthetic, 2, &mut file, &mut |_| {}).expect("a circuit");
    let zkey = Zkey::parse(file.into()).expect("a good key");
    let key = ProvingKey::load(&zkey, relay.clone()).expect("a key that fits both");
    for round in 0..4 {
        let blinding = Blinding::random(key.curve()).expect("randomness");
        let job = Job::new(&key, witness.clone(), blinding).expect("a witness that fits");
        let mut tasks = Vec::new();
        job.start(&mut |task| tasks.push(task)).expect("it starts");
        let mut quanta = round;
        while let Some(task) = tasks.pop() {
            quanta += 1;
            relay.allow(1 + quanta / 3 % 2);
            match job.run(task, &mut |task| tasks.push(task)) {
                Ok(Step::Again) => tasks.push(task),
                Ok(_) => {}
                Err(error) => panic!("round {round}: {error}"),
            }
        }
        let (proof, inputs) = job.proof().expect("it has finished");
        verify(key.verification_key(), &proof, &inputs).expect("a proof that verifies");
    }
    for visits in &*visits {
        assert!(visits.load(Ordering::Relaxed) > 40, "{visits:?}");
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
