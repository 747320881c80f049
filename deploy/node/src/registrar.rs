//! The registrar: checks new keys and lays them out on the device.
//!
//! A stranger's key is checked point by point when it is registered, on the cores that workers do
//! not have where there are such, at normal priority. That takes seconds for a middle-sized key
//! and happens once: the key's digest is its name, so afterwards the note that it passed stands
//! for the check, also after a restart. A tenant that asks for `trusted` vouches for its own key;
//! what it would harm by a bad one are its own proofs, and no proof leaves that the verifier
//! refuses.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use caldera_kernels::Device;
use caldera_prover::format::Part;
use caldera_prover::groth16::{Checks, ProvingKey, check};
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::Digest;
use caldera_scheduler::TenantId;
use caldera_store::TenantName;
use caldera_store::blob::BlobStore;

use crate::clerk;
use crate::refusal;
use crate::service::{Message, Post};

/// A key to be looked at.
pub struct Examination {
    /// Whose.
    pub tenant: TenantId,
    /// Its name in the store.
    pub tenant_name: TenantName,
    /// The key.
    pub circuit: Digest,
    /// Whether its points are to be checked; otherwise it is only loaded.
    pub full: bool,
}

/// The registrar before its thread starts.
pub struct Registrar {
    /// What is to be done.
    pub examinations: Receiver<Examination>,
    /// Where keys are.
    pub blobs: BlobStore,
    /// Where keys are laid out.
    pub device: Arc<dyn Device>,
    /// Whether development keys are taken.
    pub development: bool,
    /// Threads that a check may use.
    pub threads: usize,
    /// Where answers go.
    pub service: Post,
}

impl Registrar {
    /// Works until nobody is left who could ask. Called once, on the registrar's own thread.
    pub fn run(self) {
        while let Ok(examination) = self.examinations.recv() {
            let result = catch_unwind(AssertUnwindSafe(|| self.examine(&examination)))
                .unwrap_or(Err(RpcError::Internal));
            self.service.send(Message::Examined {
                tenant: examination.tenant,
                circuit: examination.circuit,
                checked: examination.full,
                result,
            });
        }
    }

    fn examine(&self, it: &Examination) -> Result<Arc<ProvingKey>, RpcError> {
        let began = Instant::now();
        let (tenant, circuit) = (&it.tenant_name, it.circuit);
        let zkey = clerk::open_key(&self.blobs, tenant, circuit)?;
        // Asked again at each start: a box may have left development mode since.
        clerk::acceptable(&zkey, self.development)?;
        if it.full {
            let checks = Checks {
                development: self.development,
                threads: self.threads,
            };
            let mut part: Option<Part> = None;
            check(&zkey, &checks, &mut |progress| {
                if part != Some(progress.part) {
                    part = Some(progress.part);
                    let total = progress.total;
                    tracing::debug!(%tenant, %circuit, part = %progress.part, total, "checking");
                }
            })
            .map_err(|error| match error.defect() {
                Some(defect) => refusal::key(defect, &error),
                None => {
                    tracing::error!(%tenant, %circuit, %error, "checking a key");
                    RpcError::Internal
                }
            })?;
        }
        let key = ProvingKey::load(&zkey, Arc::clone(&self.device)).map_err(|error| match error
            .defect()
        {
            Some(defect) => refusal::key(defect, &error),
            None => {
                tracing::error!(%tenant, %circuit, %error, "loading a key");
                RpcError::Internal
            }
        })?;
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(%tenant, %circuit, full = it.full, ms, "key ready");
        Ok(key)
    }
}
