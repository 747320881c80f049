//! The clerk: the thread that writes to the store, but for keys that are read again (`registrar`).
//!
//! Syncing a file or a row blocks for as long as the disk likes, so it is done here and never on
//! the thread that answers. The RPC thread hands over pieces of uploads as they come and is told
//! how many bytes have been written; from that it knows when to stop reading from a client that
//! is faster than the disk. Nothing that is acknowledged (a stored blob, a registered circuit)
//! is acknowledged before it would survive a power cut.
//!
//! The clerk also reads the head of a key when it is registered: that costs a few page faults, is
//! needed for the row, and tells at once of a file that is no key.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::Defect;
use caldera_prover::format::Zkey;
use caldera_prover::groth16::CheckError;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::{CheckLevel, CurveName, Digest, RegisterCircuit};
use caldera_scheduler::TenantId;
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore, BlobWriter, Finished};
use caldera_store::circuits::{Change, Check, CircuitRow, Circuits, CircuitsError, State};
use caldera_store::releases::ReleaseRow;

use crate::refusal;
use crate::service::{Message, Post};
use crate::source::Sources;

/// What the clerk is asked to do.
pub enum Task {
    /// Begin to store a blob.
    Begin {
        /// Names the upload from here on.
        upload: u64,
        /// Whose.
        tenant: TenantName,
        /// What it is said to be.
        digest: Digest,
        /// Its length, if announced.
        length: Option<u64>,
    },
    /// A piece of a blob.
    Piece {
        /// Of which upload.
        upload: u64,
        /// The piece.
        bytes: Bytes,
    },
    /// The blob is complete.
    Finish {
        /// Which upload.
        upload: u64,
    },
    /// The client has gone away.
    Abandon {
        /// Which upload.
        upload: u64,
    },
    /// Remove a blob.
    RemoveBlob {
        /// Comes back with the answer.
        exchange: u64,
        /// Whose.
        tenant: TenantName,
        /// Which.
        digest: Digest,
    },
    /// Add a circuit to the list.
    Register {
        /// Comes back with the answer.
        ticket: u64,
        /// Whose.
        tenant: TenantId,
        /// Its name in the store.
        tenant_name: TenantName,
        /// What was asked for.
        request: RegisterCircuit,
    },
    /// Note where a circuit stands.
    Note {
        /// Whose.
        tenant: TenantName,
        /// Which.
        circuit: Digest,
        /// What is to be noted.
        change: Change,
    },
    /// Remove what a tenant gives back. Answered by [`Message::BlobsReleased`].
    Release {
        /// Comes back with the answer.
        release: u64,
        /// Whose.
        tenant: TenantName,
        /// Keys, each with its verification key as it will be shown meanwhile.
        keys: Vec<(Digest, String)>,
        /// Other blobs.
        blobs: Vec<Digest>,
    },
    /// Write down what a tenant has given back.
    NoteRelease {
        /// Of the number in it nothing is known yet.
        row: ReleaseRow,
    },
    /// Write down that a tenant takes its storage again.
    TakenAgain {
        /// Who.
        tenant: TenantName,
        /// When, in milliseconds of Unix time.
        at_ms: u64,
    },
    /// Read what was given back.
    Releases {
        /// Comes back with the answer.
        ticket: u64,
        /// By whom; `None` for all.
        tenant: Option<TenantName>,
    },
    /// Take a circuit off the list.
    Unregister {
        /// Comes back with the answer.
        ticket: u64,
        /// Whose.
        tenant: TenantName,
        /// Which.
        circuit: Digest,
    },
}

/// The clerk before its thread starts.
pub struct Clerk {
    /// What is to be done.
    pub tasks: Receiver<Task>,
    /// The blobs.
    pub blobs: BlobStore,
    /// The list.
    pub circuits: Circuits,
    /// Where keys can be read again.
    pub sources: Sources,
    /// Whether development keys are taken.
    pub development: bool,
    /// Where answers go.
    pub service: Post,
}

/// How an upload ended.
#[derive(Debug)]
pub enum Stored {
    /// It is stored.
    Done(Finished),
    /// It is not.
    Failed(BlobError),
}

impl Clerk {
    /// Works until nobody is left who could ask. Called once, on the clerk's own thread.
    pub fn run(mut self) {
        let mut uploads: HashMap<u64, BlobWriter> = HashMap::new();
        while let Ok(task) = self.tasks.recv() {
            match task {
                Task::Begin {
                    upload,
                    tenant,
                    digest,
                    length,
                } => match self.blobs.begin(&tenant, digest.0, length) {
                    Ok(writer) => drop(uploads.insert(upload, writer)),
                    Err(error) => self.stored(upload, Stored::Failed(error)),
                },
                Task::Piece { upload, bytes } => {
                    // A piece of an upload that has failed is thrown away.
                    let written = uploads.get_mut(&upload).map(|to| to.write(&bytes));
                    if let Some(Err(error)) = written {
                        drop(uploads.remove(&upload));
                        self.stored(upload, Stored::Failed(error));
                    }
                    self.service.send(Message::Written {
                        upload,
                        bytes: bytes.len(),
                    });
                }
                Task::Finish { upload } => {
                    if let Some(writer) = uploads.remove(&upload) {
                        let stored = writer.finish().map_or_else(Stored::Failed, Stored::Done);
                        self.stored(upload, stored);
                    }
                }
                Task::Abandon { upload } => drop(uploads.remove(&upload)),
                Task::RemoveBlob {
                    exchange,
                    tenant,
                    digest,
                } => {
                    let removed = self.blobs.remove(&tenant, digest.0);
                    self.service
                        .send(Message::BlobRemoved { exchange, removed });
                }
                Task::Register {
                    ticket,
                    tenant,
                    tenant_name,
                    request,
                } => {
                    let registered = self.register(tenant_name, &request);
                    self.service.send(Message::Registered {
                        ticket,
                        tenant,
                        circuit: request.zkey,
                        registered,
                    });
                }
                Task::Note {
                    tenant,
                    circuit,
                    change,
                } => {
                    if let Err(error) = self.circuits.set_state(&tenant, circuit.0, &change) {
                        tracing::error!(%tenant, %circuit, %error, "noting a circuit's state");
                    }
                }
                Task::Release {
                    release,
                    tenant,
                    keys,
                    blobs,
                } => self.release(release, &tenant, keys, blobs),
                Task::NoteRelease { row } => {
                    if let Err(error) = self.circuits.insert_release(&row) {
                        let tenant = &row.tenant;
                        tracing::error!(%tenant, %error, ?row, "noting what was given back");
                    }
                }
                Task::TakenAgain { tenant, at_ms } => {
                    if let Err(error) = self.circuits.close_release(&tenant, at_ms) {
                        tracing::error!(%tenant, %error, at_ms, "noting a return");
                    }
                }
                Task::Releases { ticket, tenant } => {
                    let releases = self.circuits.releases(tenant.as_ref(), RELEASES_SHOWN);
                    self.service.send(Message::Releases {
                        ticket,
                        releases: releases.map_err(failed),
                    });
                }
                Task::Unregister {
                    ticket,
                    tenant,
                    circuit,
                } => {
                    let removed = self.circuits.remove(&tenant, circuit.0).map_err(failed);
                    self.service.send(Message::Unregistered { ticket, removed });
                }
            }
        }
    }

    fn stored(&self, upload: u64, stored: Stored) {
        self.service.send(Message::Stored { upload, stored });
    }

    /// Removes files. The row of a key says so before its file is gone: after a kill in between the
    /// key is read again though it would not have to be, and never missed.
    fn release(
        &mut self,
        release: u64,
        tenant: &TenantName,
        keys: Vec<(Digest, String)>,
        blobs: Vec<Digest>,
    ) {
        let remove = |digest: Digest| {
            let length = self.blobs.length(tenant, digest.0)?.unwrap_or(0);
            let removed = self.blobs.remove(tenant, digest.0)?;
            Ok::<u64, BlobError>(if removed { length } else { 0 })
        };
        let mut bytes = [0; 2];
        for (circuit, verification_key) in keys {
            let change = Change::Released { verification_key };
            let noted = self.circuits.set_state(tenant, circuit.0, &change);
            let removed = noted
                .map_err(failed)
                .and_then(|_| remove(circuit).map_err(|error| internal(&error)));
            match removed {
                Ok(length) => bytes[0] += length,
                Err(error) => tracing::error!(%tenant, %circuit, %error, "giving a key back"),
            }
        }
        for digest in blobs {
            match remove(digest) {
                Ok(length) => bytes[1] += length,
                Err(error) => tracing::error!(%tenant, %digest, %error, "giving a blob back"),
            }
        }
        let [keys, blobs] = bytes;
        self.service.send(Message::BlobsReleased {
            release,
            keys,
            blobs,
        });
    }

    fn register(
        &mut self,
        tenant: TenantName,
        request: &RegisterCircuit,
    ) -> Result<CircuitRow, RpcError> {
        let zkey = read_key(map_key(&self.blobs, &tenant, request.zkey)?)?;
        acceptable(&zkey, self.development)?;
        let bytes = self
            .blobs
            .length(&tenant, request.zkey.0)
            .map_err(|error| internal(&error))?
            .unwrap_or(0);
        if let Some(source) = &request.source {
            // Its bytes are looked at before the key is given back, and when it is read again.
            self.sources.open(source, bytes)?;
        }
        let header = zkey.header();
        let row = CircuitRow {
            tenant,
            digest: request.zkey.0,
            name: request.name.as_ref().map(ToString::to_string),
            curve: curve_name(header.curve).to_string(),
            domain_size: u64::from(header.domain),
            public_count: u64::from(header.public),
            wires: u64::from(header.wires),
            bytes,
            development: zkey.development().is_some(),
            check: match request.check {
                CheckLevel::Full => Check::Full,
                CheckLevel::Trusted => Check::Trusted,
            },
            checked_at: None,
            state: State::Checking,
            failure: None,
            source: request.source.clone(),
            released: None,
        };
        if self.circuits.insert(&row).map_err(failed)? {
            return Ok(row);
        }
        // A row of a key that failed before: it is checked anew, as was asked.
        self.circuits
            .set_state(
                &row.tenant,
                row.digest,
                &Change::Checking {
                    source: row.source.clone(),
                },
            )
            .map_err(failed)?;
        Ok(row)
    }
}

/// Maps a key.
pub fn map_key(blobs: &BlobStore, tenant: &TenantName, digest: Digest) -> Result<Bytes, RpcError> {
    let blob = blobs.open_blob(tenant, digest.0);
    match blob {
        Ok(blob) => Ok(blob.into_bytes()),
        Err(BlobError::Unknown) => Err(RpcError::BlobUnknown { digest }),
        Err(error) => Err(internal(&error)),
    }
}

/// Reads a key's table of sections.
pub fn read_key(bytes: Bytes) -> Result<Zkey, RpcError> {
    Zkey::parse(bytes).map_err(|error| refusal::key(error.defect(), &error))
}

/// Refuses keys with which anybody can forge proofs, unless this is a development box.
pub fn acceptable(zkey: &Zkey, development: bool) -> Result<(), RpcError> {
    if development {
        return Ok(());
    }
    if zkey.development().is_some() {
        return Err(RpcError::DevelopmentKey);
    }
    if zkey.contribution_count() == 0 {
        let error = CheckError::NoContribution;
        return Err(refusal::key(Defect::NoContribution, &error));
    }
    Ok(())
}

/// A curve as the wire names it.
pub fn curve_name(curve: CurveId) -> CurveName {
    match curve {
        CurveId::Bn254 => CurveName::Bn128,
        CurveId::Bls12_381 => CurveName::Bls12381,
    }
}

fn failed(error: CircuitsError) -> RpcError {
    match error {
        CircuitsError::NoSpace => RpcError::StorageFull,
        error => internal(&error),
    }
}

/// Logs what a store refused; for whoever asked it is a fault of ours.
pub fn internal(error: &dyn std::error::Error) -> RpcError {
    tracing::error!(error = %error, cause = ?error.source(), "store");
    RpcError::Internal
}

/// The newest releases that are shown.
const RELEASES_SHOWN: u32 = 64;
