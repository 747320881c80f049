//! The registrar: checks new keys and lays them out on the device.
//!
//! A stranger's key is checked point by point when it is registered, on the cores that workers do
//! not have where there are such, at normal priority. That takes seconds for a middle-sized key
//! and happens once: the key's digest is its name, so afterwards the note that it passed stands
//! for the check, also after a restart. A tenant that asks for `trusted` vouches for its own key;
//! what it would harm by a bad one are its own proofs, and no proof leaves that the verifier
//! refuses.
//!
//! Keys that were given back are read again here, from the source that was named when they were
//! registered, and copied into the store. Their digest is looked at on the way and stands for the
//! check that they have passed. Before one is given back its source is read too: what could not be
//! had again is kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use bytes::Bytes;
use caldera_kernels::Device;
use caldera_prover::format::Part;
use caldera_prover::groth16::{Checks, ProvingKey, check};
use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::Digest;
use caldera_scheduler::TenantId;
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore};

use crate::clerk;
use crate::refusal;
use crate::residence::Residence;
use crate::service::{Message, Post};
use crate::source::Sources;
use crate::witness::{self, Programs};

/// What the registrar is asked to do.
pub enum Request {
    /// Lay a key out, with or without a check.
    Examine(Examination),
    /// See whether a key could be read again. Answered by [`Message::Confirmed`].
    Confirm {
        /// Comes back with the answer.
        release: u64,
        /// Which key, of how many bytes.
        circuit: Digest,
        /// Its length.
        bytes: u64,
        /// Where it should be.
        source: String,
    },
}

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
    /// Its length, and where it can be read again if the store does not have it.
    pub source: Option<(u64, String)>,
    /// The blob of its witness program.
    pub program: Option<Digest>,
    /// The blob of its constraints.
    pub r1cs: Option<Digest>,
}

/// A mapped key that tells when it is unmapped.
struct Watched {
    /// There until it is dropped.
    map: Option<Bytes>,
    tenant: TenantId,
    circuit: Digest,
    service: Post,
}

/// The registrar before its thread starts.
pub struct Registrar {
    /// What is to be done.
    pub requests: Receiver<Request>,
    /// Where keys are.
    pub blobs: BlobStore,
    /// Where keys are laid out.
    pub device: Arc<dyn Device>,
    /// Who has how much of that.
    pub residence: Arc<Residence>,
    /// Where keys can be read again.
    pub sources: Sources,
    /// Whether development keys are taken.
    pub development: bool,
    /// Where witness programs are kept.
    pub programs: Arc<Programs>,
    /// What those may ask for.
    pub witness: caldera_witness::Limits,
    /// Threads that a check may use.
    pub threads: usize,
    /// Where answers go.
    pub service: Post,
}

impl Registrar {
    /// Works until nobody is left who could ask. Called once, on the registrar's own thread.
    pub fn run(self) {
        while let Ok(request) = self.requests.recv() {
            let examination = match request {
                Request::Examine(examination) => examination,
                Request::Confirm {
                    release,
                    circuit,
                    bytes,
                    source,
                } => {
                    let expected = (circuit, bytes);
                    let result = self.sources.read(&source, expected, |_| Ok(()));
                    self.service.send(Message::Confirmed {
                        release,
                        circuit,
                        result,
                    });
                    continue;
                }
            };
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
        if let Some((bytes, source)) = &it.source {
            self.read_again(tenant, circuit, *bytes, source)?;
        }
        let blob = clerk::map_key(&self.blobs, tenant, circuit)?;
        let zkey = clerk::read_key(Bytes::from_owner(Watched {
            map: Some(blob),
            tenant: it.tenant,
            circuit,
            service: self.service.clone(),
        }))?;
        // Asked again at each start: a box may have left development mode since.
        clerk::acceptable(&zkey, self.development)?;
        let maker = match it.program {
            Some(digest) => {
                let known = self.programs.translated(it.tenant, digest);
                let source = witness::Source {
                    blobs: &self.blobs,
                    tenant,
                    zkey: &zkey,
                };
                Some(source.read(digest, known, it.r1cs, &self.witness)?)
            }
            None => None,
        };
        self.programs.put((it.tenant, circuit), maker);
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
                    tracing::error!(%tenant, %circuit, error = %chain(&error), "checking a key");
                    RpcError::Internal
                }
            })?;
        }
        let key = ProvingKey::load(&zkey, Arc::clone(&self.device)).map_err(|error| match error
            .defect()
        {
            Some(defect) => refusal::key(defect, &error),
            None => {
                tracing::error!(%tenant, %circuit, error = %chain(&error), "loading a key");
                RpcError::Internal
            }
        })?;
        self.residence.settle(it.tenant, &key);
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(%tenant, %circuit, full = it.full, ms, "key ready");
        Ok(key)
    }

    /// Copies a key from its source into the store, if the store does not have it.
    fn read_again(
        &self,
        tenant: &TenantName,
        circuit: Digest,
        bytes: u64,
        source: &str,
    ) -> Result<(), RpcError> {
        let failed = |error: BlobError| match error {
            BlobError::NoSpace { .. } => RpcError::StorageFull,
            BlobError::ReadOnly { .. } => RpcError::StorageUnavailable {
                retry_after_ms: clerk::TRY_AGAIN.as_millis() as u64,
            },
            error @ (BlobError::Quota { .. } | BlobError::TooLong { .. }) => {
                RpcError::QuotaExceeded {
                    detail: error.to_string(),
                }
            }
            error => clerk::internal(&error),
        };
        if self
            .blobs
            .length(tenant, circuit.0)
            .map_err(failed)?
            .is_some()
        {
            return Ok(());
        }
        let mut writer = self
            .blobs
            .begin(tenant, circuit.0, Some(bytes))
            .map_err(failed)?;
        let expected = (circuit, bytes);
        self.sources.read(source, expected, |piece| {
            writer.write(piece).map_err(failed)
        })?;
        writer.finish().map_err(failed)?;
        tracing::info!(%tenant, %circuit, source, bytes, "key read again");
        Ok(())
    }
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // What is told has to have happened.
        self.map = None;
        self.service.send(Message::Unmapped {
            tenant: self.tenant,
            circuit: self.circuit,
        });
    }
}
