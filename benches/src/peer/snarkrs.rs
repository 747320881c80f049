//! snarkrs on its CPU backend: BN254 only. It reads the same files as we do, so it is handed their
//! bytes, and its proofs come back as the JSON that our verifier reads.
//!
//! Its proofs are timed with its own check of the result, as ours are with theirs. It sums on the
//! pool that it is called from, and begins one thread more for a few multiples of blinding.

use anyhow::{Context, Result, ensure};
use caldera_kernels::CurveId;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{verification_key, verify};
use snarkrs_lib::{Backend, CpuBackend, PreparedCircuit, ProvingKey, StageTimings, Witness};

use crate::key::Key;
use crate::record::version;

/// What stands in a record beside a figure of this crate. Its ark-ff has assembly only where the
/// flags promise the instructions.
pub(crate) fn build() -> String {
    let asm = if cfg!(all(target_feature = "bmi2", target_feature = "adx")) {
        "asm of ark-ff 0.5"
    } else {
        "no asm of ark-ff 0.5: the flags promise no bmi2 and adx"
    };
    format!("snarkrs-lib {}, cpu backend, {asm}", version("snarkrs-lib"))
}

/// A key and a witness in its types, ready to prove.
pub(crate) struct Prover {
    circuit: Box<dyn PreparedCircuit>,
    witness: Witness,
    judge: VerificationKey,
    public: PublicInputs,
}

impl Prover {
    /// Reads a key of BN254 and its witness.
    pub(crate) fn new(key: &Key) -> Result<Prover> {
        ensure!(key.zkey.curve() == CurveId::Bn254, "snarkrs has BN254 only");
        let mut file = Vec::new();
        key.witness.write(&mut file).context("the witness")?;
        Ok(Prover {
            circuit: load(ProvingKey::from_bytes_unchecked(key.file.to_vec()))?,
            witness: Witness::from_bytes(file).context("the witness for snarkrs")?,
            judge: verification_key(&key.zkey).context("the verification key")?,
            public: PublicInputs::new(CurveId::Bn254, key.public()).context("public inputs")?,
        })
    }

    /// One proof, which has passed its own check.
    pub(crate) fn prove(&self) -> Result<snarkrs_lib::Proof> {
        let mut random = snarkrs_lib::rand::thread_rng();
        let mut timings = StageTimings::default();
        snarkrs_lib::prove(&*self.circuit, &self.witness.0, &mut random, &mut timings)
            .context("snarkrs proving")
    }

    /// What our verifier says of it.
    pub(crate) fn verify(&self, proof: &snarkrs_lib::Proof) -> Result<()> {
        let text = snarkrs_lib::groth16::json::proof_to_string(proof);
        let proof = Proof::parse(text.as_bytes(), Some(CurveId::Bn254)).context("its proof")?;
        verify(&self.judge, &proof, &self.public).context("its proof does not verify")
    }
}

/// A key that it has read, ready to prove.
pub(crate) fn load(
    key: Result<ProvingKey, snarkrs_lib::ZkeyError>,
) -> Result<Box<dyn PreparedCircuit>> {
    let key = key.context("the key for snarkrs")?;
    CpuBackend::new()
        .prepare(key)
        .context("the key for snarkrs")
}

/// Runs its code on so many threads.
pub(crate) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    super::on_pool(threads, work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_proves_with_our_key_and_a_changed_proof_is_refused() {
        let key = Key::synthetic(CurveId::Bn254, 6, 0.5, 1).expect("a small key");
        let prover = Prover::new(&key).expect("a key of our own");
        let mut proof = on_threads(2, || prover.prove())
            .expect("threads")
            .expect("a proof");
        prover.verify(&proof).expect("a valid proof");
        proof.c = proof.a;
        prover.verify(&proof).expect_err("another C");
    }
}
