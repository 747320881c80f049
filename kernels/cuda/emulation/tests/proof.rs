//! A whole proof on the CUDA device, with and without tables, and moved nowhere else: it verifies.

use std::time::Duration;

use bytes::Bytes;
use caldera_cuda::CudaDevice;
use caldera_cuda_emulation::Emulation;
use caldera_kernels::{CurveId, Progress};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{ProvingKey, Synthetic, prove, setup_synthetic, verify};

fn proves(curve: CurveId) {
    let circuit = Synthetic {
        curve,
        domain_log2: 8,
        dense: 0.4,
        seed: [0x21; 32],
    };
    let mut file = Vec::new();
    let witness = setup_synthetic(&circuit, 2, &mut file, &mut |_| ()).expect("a development key");
    let zkey = Zkey::parse(Bytes::from(file)).expect("our own key");
    let emulation = Emulation::new();
    let device = CudaDevice::new(emulation, Duration::from_millis(2)).expect("all kernels");
    let key = ProvingKey::load(&zkey, device).expect("a key on the device");
    let verified = |witness: Wtns| {
        let (proof, public) = prove(&key, witness, 2, &mut |_, _| ()).expect("a proof");
        verify(key.verification_key(), &proof, &public).expect("a right proof");
    };
    verified(witness.clone());
    let tables = key.tables(1 << 20).expect("tables");
    for stage in 0..tables.stages() {
        for lane in 0..tables.open(stage).expect("the next stage") {
            while tables.run(stage, lane).expect("a quantum") == Progress::More {}
        }
    }
    assert!(key.tables_bytes() > 0);
    verified(witness);
}

#[test]
fn bn254() {
    proves(CurveId::Bn254);
}

#[test]
fn bls12_381() {
    proves(CurveId::Bls12_381);
}
