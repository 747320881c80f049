//! The clerk: the thread that writes to the store, but for keys that are read again (`registrar`).
//!
//! Syncing a file or a row blocks for as long as the disk likes, so it is done here and never on
//! the thread that answers. The RPC thread hands over pieces of uploads as they come and is told
//! how many bytes have been written; from that it knows when to stop reading from a client that
//! is faster than the disk. Nothing that is acknowledged (a stored blob, a registered circuit)
//! is acknowledged before it would survive a power cut.
//!
//! **Group commit.** Changes to jobs, and of the registry of state units, that wait when the clerk looks are written in one transaction, with one
//! sync: while that one lasts the next ones gather. They may overtake other work, which touches neither.
//!
//! **A disk that takes no writes.** Submissions of a group that cannot be written are refused, and forgotten in the next group,
//! for a write that was said to have failed may have reached the disk. The ends of
//! jobs, without which their results must not be told, are kept and tried again, and the service is told
//! what the matter is until a write succeeds.
//!
//! **The ledger** (`era`) is the clerk's, too: what a job means to it, and what is asked of it, is executed while the group is
//! written, in the same transaction, and answered when that is on the disk. An epoch whose time has come is closed in
//! a group like any other.
//!
//! The clerk also reads the head of a key when it is registered: that costs a few page faults, is
//! needed for the row, and tells at once of a file that is no key.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::Defect;
use caldera_prover::format::Zkey;
use caldera_prover::groth16::CheckError;
use caldera_rpc::chain::chain;
use caldera_rpc::error::{Full, RpcError};
use caldera_rpc::methods::{CheckLevel, CurveName, Digest, JobName, RegisterCircuit};
use caldera_scheduler::{JobId, TenantId};
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore, BlobWriter, Finished};
use caldera_store::circuits::{Change, Check, CircuitRow, State};
use caldera_store::database::{Database, DatabaseError, Group};
use caldera_store::jobs::{JobRow, JobWrite, Written};
use caldera_store::registry::RegistryRow;
use caldera_store::releases::ReleaseRow;
use caldera_store::tenants::TenantRow;

use crate::clock::unix_time;
use crate::era::{Ask, Asked, Era, OpenError, Reading, Reused, Work};
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
    /// Write down a change of the registry of state units, and what it means to the ledger. Answered by
    /// [`Message::StateWritten`], when it can be.
    State(RegistryRow, Option<Reused>),
    /// Write down a change to a job. Answered by [`Message::Recorded`], but for what is forgotten or erased.
    Job(JobWrite),
    /// The same of a job that the ledger is to know of.
    Work(JobWrite, Work),
    /// Ask the ledger. Answered by [`Message::EraAnswered`].
    Era {
        /// Comes back with the answer.
        ticket: u64,
        /// Who asks; `None` is the operator.
        caller: Option<TenantName>,
        /// What.
        ask: Box<Ask>,
    },
    /// Overwrite and remove a witness whose jobs have ended. Answered by [`Message::Erased`].
    Erase {
        /// Whose.
        tenant: TenantId,
        /// Its name in the store.
        tenant_name: TenantName,
        /// Which.
        witness: Digest,
    },
    /// Write a tenant down. Answered by [`Message::TenantWritten`].
    Tenant {
        /// Comes back with the answer.
        ticket: u64,
        /// As it is from now on.
        row: Box<TenantRow>,
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
    pub database: Database,
    /// Where keys can be read again.
    pub sources: Sources,
    /// Whether development keys are taken.
    pub development: bool,
    /// Where answers go.
    pub service: Post,
    /// The ledger, if there is one, and who reads its journal.
    pub era: Option<(Era, SyncSender<(u64, Reading)>)>,
}

/// What is written in one transaction.
#[derive(Default)]
struct Together {
    jobs: Vec<(JobWrite, Option<Work>)>,
    asks: Vec<(u64, Option<TenantName>, Ask)>,
    returns: Vec<(TenantName, u64)>,
    states: Vec<RegistryRow>,
    reuses: Vec<Reused>,
}

/// What came of it, in its order.
type Outcomes = (Vec<Result<Written, RpcError>>, Vec<Result<Asked, RpcError>>);

/// What became of a change to a job.
#[derive(Debug)]
pub enum Recorded {
    /// It is written down that the job was submitted, or it cannot be.
    Accepted(JobId, Result<(), RpcError>),
    /// It is written down that the job is lent.
    Lent(JobId),
    /// It is written down that it is not any more.
    Recalled(JobId),
    /// It is written down how the job ended.
    Ended(JobId),
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
        let mut waiting = VecDeque::new();
        let mut unwritten = Together::default();
        let mut fault = None;
        // Whether the log may hold a witness whose job has ended.
        let mut residue = false;
        // Whether a blob could not be written, for which the disk may be to blame.
        let mut doubt = false;
        loop {
            if waiting.is_empty() && !doubt {
                let patience = match (&fault, residue) {
                    (Some(_), _) => Some(TRY_AGAIN),
                    (None, true) => Some(LULL),
                    (None, false) => None,
                };
                // While nothing can be written no epoch is closed.
                let due = self.era_due_in().filter(|_| fault.is_none());
                let task = match patience.into_iter().chain(due).min() {
                    Some(patience) => self.tasks.recv_timeout(patience),
                    None => self
                        .tasks
                        .recv()
                        .map_err(|_| RecvTimeoutError::Disconnected),
                };
                match task {
                    Ok(task) => waiting.push_back(task),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if fault.is_some() => {}
                    Err(RecvTimeoutError::Timeout) if self.is_era_due() => {}
                    Err(RecvTimeoutError::Timeout) => {
                        // While somebody reads it cannot be cut: then after the next lull.
                        residue = match self.database.checkpoint() {
                            Ok(cut) => !cut,
                            Err(error) => {
                                tracing::warn!(error = %chain(&error), "cutting the log of the tables");
                                false
                            }
                        };
                        continue;
                    }
                }
            }
            waiting.extend(self.tasks.try_iter());
            let mut group = std::mem::take(&mut unwritten);
            let mut erased = Vec::new();
            let mut rest = VecDeque::with_capacity(waiting.len());
            for task in waiting.drain(..) {
                match task {
                    Task::Job(write) => group.jobs.push((write, None)),
                    Task::Work(write, work) => group.jobs.push((write, Some(work))),
                    Task::Era {
                        ticket,
                        caller,
                        ask,
                    } => group.asks.push((ticket, caller, *ask)),
                    Task::TakenAgain { tenant, at_ms } => group.returns.push((tenant, at_ms)),
                    Task::State(row, reused) => {
                        group.states.push(row);
                        group.reuses.extend(reused);
                    }
                    Task::Erase {
                        tenant,
                        tenant_name,
                        witness,
                    } => erased.push((tenant, tenant_name, witness)),
                    other => rest.push_back(other),
                }
            }
            waiting = rest;
            if !group.is_empty() || fault.is_some() || self.is_era_due() || doubt {
                residue |= !group.jobs.is_empty();
                unwritten = self.write_together(group, &mut fault, doubt);
                doubt = false;
            }
            if !erased.is_empty() {
                self.erase(erased);
            }
            if let Some(task) = waiting.pop_front() {
                doubt = self.work(task, &mut uploads);
            }
        }
    }

    /// Writes a group and tells what became of it. Gives back what must be tried again. Where there is doubt blobs are
    /// tried too, and so they are for as long as something could not be written.
    fn write_together(
        &mut self,
        group: Together,
        fault: &mut Option<String>,
        doubt: bool,
    ) -> Together {
        let blobs = match doubt || fault.is_some() {
            true => self.probe_blobs(),
            false => Ok(()),
        };
        let written = blobs.and_then(|()| {
            let idle = group.is_empty() && !self.is_era_due();
            // What is kept may change nothing, and then the disk has no say in it.
            if idle || fault.is_some() {
                self.database.probe()?;
            }
            self.refresh_era()?;
            match idle {
                true => Ok((Vec::new(), Vec::new())),
                false => self.try_together(&group),
            }
        });
        // What the database met is a failure to write; a file says why.
        let written = match written {
            Err(DatabaseError::Disk(error)) => {
                let said = self.probe_blobs().err();
                Err(said.unwrap_or(DatabaseError::Disk(error)))
            }
            other => other,
        };
        let error = written.as_ref().err().map(|error| chain(error).to_string());
        if *fault != error {
            match &error {
                Some(error) => tracing::error!(error, "jobs cannot be written down"),
                None => tracing::info!("jobs can be written down again"),
            }
            fault.clone_from(&error);
            self.service.send(Message::Storage { fault: error });
        }
        let unavailable = || RpcError::StorageUnavailable {
            retry_after_ms: TRY_AGAIN.as_millis() as u64,
        };
        let mut again = Together::default();
        let mut recorded = Vec::with_capacity(group.jobs.len());
        match written {
            Ok((written, answers)) => {
                if let Some(RegistryRow { sequence, .. }) = group.states.last() {
                    let sequence = *sequence;
                    self.service.send(Message::StateWritten { sequence });
                }
                for ((write, _), written) in group.jobs.into_iter().zip(written) {
                    let fenced = written == Ok(Written::Fenced);
                    match write {
                        JobWrite::Accept(row) => {
                            let answer = written.map(drop);
                            recorded.push(Recorded::Accepted(JobId(row.job), answer));
                        }
                        // One that comes too late has nothing to tell.
                        JobWrite::End { job, attempt, .. }
                        | JobWrite::Lend { job, attempt }
                        | JobWrite::Recall { job, attempt }
                            if fenced =>
                        {
                            tracing::error!(job = %JobName(job), attempt, "a late change to a job");
                        }
                        JobWrite::End { job, .. } => recorded.push(Recorded::Ended(JobId(job))),
                        JobWrite::Lend { job, .. } => recorded.push(Recorded::Lent(JobId(job))),
                        JobWrite::Recall { job, .. } => {
                            recorded.push(Recorded::Recalled(JobId(job)));
                        }
                        JobWrite::Forget { .. } | JobWrite::Erased { .. } => {}
                    }
                }
                for ((ticket, ..), answer) in group.asks.into_iter().zip(answers) {
                    self.answer(ticket, answer);
                }
                if let Some(era) = self.era.as_mut().and_then(|(era, _)| era.news()) {
                    let era = Box::new(era);
                    self.service.send(Message::Era { era });
                }
            }
            Err(_) => {
                again.states = group.states;
                again.reuses = group.reuses;
                for (write, work) in group.jobs {
                    match write {
                        JobWrite::Accept(row) => {
                            let job = row.job;
                            let answer = Err(unavailable());
                            recorded.push(Recorded::Accepted(JobId(job), answer));
                            again.jobs.push((JobWrite::Forget { job }, None));
                        }
                        other => again.jobs.push((other, work)),
                    }
                }
                for (ticket, ..) in group.asks {
                    self.answer(ticket, Err(unavailable()));
                }
                again.returns = group.returns;
            }
        }
        if !recorded.is_empty() {
            self.service.send(Message::Recorded { recorded });
        }
        again
    }

    /// Whether the disk takes new files, as far as it says that it does not.
    fn probe_blobs(&self) -> Result<(), DatabaseError> {
        match self.blobs.probe() {
            Err(BlobError::ReadOnly { .. }) => Err(DatabaseError::ReadOnly),
            Err(BlobError::NoSpace { .. }) => Err(DatabaseError::NoSpace),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Reads the ledger again, if what is in memory has not been written down.
    fn refresh_era(&mut self) -> Result<(), DatabaseError> {
        let Some((era, _)) = &mut self.era else {
            return Ok(());
        };
        match era.refresh(&mut self.database, unix_time().as_secs()) {
            Err(OpenError::Database(error)) => Err(error),
            // That it is damaged is told by the ledger itself.
            _ => Ok(()),
        }
    }

    fn try_together(&mut self, group: &Together) -> Result<Outcomes, DatabaseError> {
        let now = unix_time().as_secs();
        let era = self.era.as_mut().map(|(era, _)| era);
        write(&mut self.database, era, group, now)
    }

    /// Tells what came of a question, or has it read.
    fn answer(&self, ticket: u64, asked: Result<Asked, RpcError>) {
        let answer = match (asked, &self.era) {
            (Ok(Asked::Answer(answer)), _) => Ok(answer),
            (Ok(Asked::Read(reading)), Some((_, reader))) => {
                if reader.try_send((ticket, reading)).is_ok() {
                    return;
                }
                Err(RpcError::QueueFull {
                    full: Full::Box,
                    retry_after_ms: 1_000,
                })
            }
            (Ok(Asked::Read(_)), None) => Err(RpcError::Internal),
            (Err(error), _) => Err(error),
        };
        self.service.send(Message::EraAnswered { ticket, answer });
    }

    fn era_due_in(&self) -> Option<Duration> {
        let (era, _) = self.era.as_ref()?;
        era.due_in(unix_time().as_secs())
    }

    fn is_era_due(&self) -> bool {
        self.era_due_in() == Some(Duration::ZERO)
    }

    fn erase(&mut self, witnesses: Vec<(TenantId, TenantName, Digest)>) {
        let blobs: Vec<_> = witnesses
            .iter()
            .map(|(_, name, witness)| (name.clone(), witness.0))
            .collect();
        match self.blobs.erase(&blobs) {
            Ok(()) => {
                let notes = blobs
                    .into_iter()
                    .map(|(tenant, witness)| JobWrite::Erased { tenant, witness });
                // The next start erases again what it is not told of.
                if let Err(error) = self.database.write_jobs(&notes.collect::<Vec<_>>()) {
                    tracing::warn!(error = %chain(&error), "noting that witnesses are erased");
                }
            }
            Err(error) => {
                tracing::error!(error = %chain(&error), "erasing witnesses; the next start tries again");
            }
        }
        for (tenant, _, witness) in witnesses {
            self.service.send(Message::Erased { tenant, witness });
        }
    }

    /// Does what is not done in groups; whether the disk is to be looked at.
    fn work(&mut self, task: Task, uploads: &mut HashMap<u64, BlobWriter>) -> bool {
        let mut doubt = false;
        match task {
            Task::Job(_)
            | Task::Work(..)
            | Task::State(..)
            | Task::Era { .. }
            | Task::TakenAgain { .. }
            | Task::Erase { .. } => {}
            Task::Begin {
                upload,
                tenant,
                digest,
                length,
            } => match self.blobs.begin(&tenant, digest.0, length) {
                Ok(writer) => drop(uploads.insert(upload, writer)),
                Err(error) => {
                    doubt = matches!(error, BlobError::ReadOnly { .. });
                    self.stored(upload, Stored::Failed(error));
                }
            },
            Task::Piece { upload, bytes } => {
                // A piece of an upload that has failed is thrown away.
                let written = uploads.get_mut(&upload).map(|to| to.write(&bytes));
                if let Some(Err(error)) = written {
                    doubt = matches!(error, BlobError::ReadOnly { .. });
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
                    let finished = writer.finish();
                    doubt = matches!(finished, Err(BlobError::ReadOnly { .. }));
                    let stored = finished.map_or_else(Stored::Failed, Stored::Done);
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
                let registered = Box::new(self.register(tenant_name, &request));
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
                if let Err(error) = self.database.set_state(&tenant, circuit.0, &change) {
                    tracing::error!(%tenant, %circuit, error = %chain(&error), "noting a circuit's state");
                }
            }
            Task::Release {
                release,
                tenant,
                keys,
                blobs,
            } => self.release(release, &tenant, keys, blobs),
            Task::Tenant { ticket, row } => {
                let written = self.database.put_tenant(&row).map_err(|error| {
                    tracing::error!(tenant = %row.tenant, error = %chain(&error), "writing a tenant down");
                    RpcError::StorageUnavailable {
                        retry_after_ms: TRY_AGAIN.as_millis() as u64,
                    }
                });
                self.service
                    .send(Message::TenantWritten { ticket, written });
            }
            Task::NoteRelease { row } => {
                if let Err(error) = self.database.insert_release(&row) {
                    let tenant = &row.tenant;
                    tracing::error!(%tenant, error = %chain(&error), ?row, "noting what was given back");
                }
            }
            Task::Releases { ticket, tenant } => {
                let releases = self.database.releases(tenant.as_ref(), RELEASES_SHOWN);
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
                let removed = self.database.remove(&tenant, circuit.0).map_err(failed);
                self.service.send(Message::Unregistered { ticket, removed });
            }
        }
        doubt
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
            let noted = self.database.set_state(tenant, circuit.0, &change);
            let removed = noted
                .map_err(failed)
                .and_then(|_| remove(circuit).map_err(|error| internal(&error)));
            match removed {
                Ok(length) => bytes[0] += length,
                Err(error) => {
                    tracing::error!(%tenant, %circuit, error = %chain(&error), "giving a key back")
                }
            }
        }
        for digest in blobs {
            match remove(digest) {
                Ok(length) => bytes[1] += length,
                Err(error) => {
                    tracing::error!(%tenant, %digest, error = %chain(&error), "giving a blob back")
                }
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
        if request.r1cs.is_some() && request.witness_program.is_none() {
            return Err(RpcError::misfit(
                "r1cs",
                "expected witnessProgram beside it",
            ));
        }
        for digest in request.witness_program.into_iter().chain(request.r1cs) {
            match self.blobs.length(&tenant, digest.0) {
                Ok(Some(_)) => {}
                Ok(None) => return Err(RpcError::BlobUnknown { digest }),
                Err(error) => return Err(internal(&error)),
            }
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
            program: request.witness_program.map(|digest| digest.0),
            r1cs: request.r1cs.map(|digest| digest.0),
        };
        if self.database.insert(&row).map_err(failed)? {
            return Ok(row);
        }
        // A row of a key that failed before: it is checked anew, as was asked.
        self.database
            .set_state(
                &row.tenant,
                row.digest,
                &Change::Checking {
                    source: row.source.clone(),
                    program: row.program,
                    r1cs: row.r1cs,
                },
            )
            .map_err(failed)?;
        Ok(row)
    }
}

impl Together {
    fn is_empty(&self) -> bool {
        self.jobs.is_empty()
            && self.asks.is_empty()
            && self.returns.is_empty()
            && self.states.is_empty()
    }
}

/// Writes a group in one transaction, with what it means to the ledger; or nothing, and then it means nothing to it.
fn write(
    database: &mut Database,
    mut era: Option<&mut Era>,
    together: &Together,
    now: u64,
) -> Result<Outcomes, DatabaseError> {
    if let Some(era) = era.as_deref_mut() {
        era.begin();
    }
    let written = write_both(database, era.as_deref_mut(), together, now);
    match (&written, era) {
        (Ok(_), Some(era)) => era.written(),
        (Err(_), Some(era)) => era.forget(),
        (_, None) => {}
    }
    written
}

fn write_both(
    database: &mut Database,
    mut era: Option<&mut Era>,
    together: &Together,
    now: u64,
) -> Result<Outcomes, DatabaseError> {
    let group = database.group()?;
    let mut written = Vec::with_capacity(together.jobs.len());
    for (write, work) in &together.jobs {
        if let (JobWrite::Forget { job }, Some(era)) = (write, era.as_deref_mut()) {
            // Nothing is held for a job that has ended, and one that was refused has held nothing, as far as is known.
            era.unsubmitted(*job, now);
        }
        let era = era.as_deref_mut().zip(work.as_ref());
        written.push(match (write, era) {
            (JobWrite::Accept(row), era) => {
                let mut done = accept(&group, row, write)?;
                if let (Ok(_), Some((era, work))) = (&done, era)
                    && let Err(error) = era.submitted(row.job, work, now)
                {
                    // It is no job.
                    group.job(&JobWrite::Forget { job: row.job })?;
                    done = Err(error);
                }
                done
            }
            (JobWrite::End { job, .. }, Some((era, work))) => {
                let done = group.job(write)?;
                if done == Written::Done {
                    era.ended(*job, work, now);
                }
                Ok(done)
            }
            _ => Ok(group.job(write)?),
        });
    }
    for (tenant, at_ms) in &together.returns {
        let closed = group.close_release(tenant, *at_ms)?;
        if let (Some(era), Some(row)) = (era.as_deref_mut(), closed) {
            era.taken_again(&row, now);
        }
    }
    group.registry(&together.states)?;
    if let Some(era) = era.as_deref_mut() {
        for reused in &together.reuses {
            era.reused(reused, now);
        }
    }
    let mut answers = Vec::with_capacity(together.asks.len());
    for (_, caller, ask) in &together.asks {
        answers.push(match era.as_deref_mut() {
            Some(era) => era.ask(caller.as_ref(), ask, &group, now),
            None => Err(RpcError::Internal),
        });
    }
    if let Some(era) = era {
        era.close_due(&group, now)?;
        era.write(&group)?;
    }
    group.commit()?;
    Ok((written, answers))
}

/// Writes down that a job is taken; or why it is not, for another has its place.
fn accept(
    group: &Group<'_>,
    row: &JobRow,
    write: &JobWrite,
) -> Result<Result<Written, RpcError>, DatabaseError> {
    if group.job(write)? == Written::Done {
        return Ok(Ok(Written::Done));
    }
    let holder = match &row.key {
        Some(key) => group.job_of(&row.tenant, key)?,
        None => None,
    };
    Ok(Err(match holder {
        Some(job) => RpcError::IdempotencyConflict { job: JobName(job) },
        // Its number was given before. Another submission has another.
        None => RpcError::StorageUnavailable {
            retry_after_ms: TRY_AGAIN.as_millis() as u64,
        },
    }))
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

fn failed(error: DatabaseError) -> RpcError {
    match error {
        DatabaseError::NoSpace => RpcError::StorageFull,
        DatabaseError::ReadOnly | DatabaseError::Damaged(_) | DatabaseError::Disk(_) => {
            tracing::error!(error = %chain(&error), "store");
            RpcError::StorageUnavailable {
                retry_after_ms: TRY_AGAIN.as_millis() as u64,
            }
        }
        error => internal(&error),
    }
}

/// Logs what a store refused; for whoever asked it is a fault of ours.
pub fn internal(error: &dyn std::error::Error) -> RpcError {
    tracing::error!(error = %chain(error), "store");
    RpcError::Internal
}

/// How often a disk is tried that has refused a write.
pub const TRY_AGAIN: Duration = Duration::from_millis(500);
/// After so long without work the log of the tables is cut.
const LULL: Duration = Duration::from_secs(1);
/// The newest releases that are shown.
const RELEASES_SHOWN: u32 = 64;

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use caldera_rpc::auth::Secret;
    use caldera_rpc::era::{
        AccountQuery, Adopt, Amount, EraAsset, EraId, EraLeg, EraRole, RegisterParty, Transfer,
    };
    use caldera_rpc::methods::Address;
    use caldera_rpc::node_key::NodeKey;
    use caldera_scheduler::ledger::Policy;
    use caldera_scheduler::ledger::command::Cause;
    use caldera_store::jobs::{EndState, JobEnd, JobRow};
    use caldera_store::ledger::LedgerHead;

    use super::*;
    use crate::era::{EraConfig, WorkEnd};

    /// A clerk's tables and ledger, of which the tenant `exchange` is a party with funds.
    struct Desk {
        database: Database,
        era: Era,
        _folder: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Desk {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("caldera.sqlite");
            let mut database = Database::open(&path).expect("made");
            let era = Era::open(config(), key(), &mut database, NOW).expect("a new journal");
            let mut desk = Desk {
                database,
                era,
                _folder: folder,
            };
            for (tenant, owner) in [("exchange", 10), ("poor", 11)] {
                let register = RegisterParty {
                    id: EraId(owner),
                    tenant: Some(tenant.to_owned()),
                    role: EraRole::User,
                    key: None,
                    owner: owner as u32,
                    verified: Some(true),
                    address: Address([owner as u8; 20]),
                };
                desk.asked(Ask::Register(register));
            }
            let leg = EraLeg {
                asset: EraAsset::Era,
                from: "outside".to_owned(),
                to: EXCHANGE.to_string(),
                amount: Amount(FUNDS),
            };
            let transfer = Transfer {
                id: EraId(20),
                legs: vec![leg],
            };
            desk.asked(Ask::Transfer(transfer));
            desk
        }

        fn write(&mut self, group: &Together) -> Outcomes {
            self.try_to_write(group).expect("room")
        }

        fn try_to_write(&mut self, group: &Together) -> Result<Outcomes, DatabaseError> {
            let (database, era) = (&mut self.database, &mut self.era);
            era.refresh(database, NOW).expect("is read");
            write(database, Some(era), group, NOW)
        }

        fn asked(&mut self, ask: Ask) -> serde_json::Value {
            let group = Together {
                asks: vec![(0, None, ask)],
                ..Together::default()
            };
            let (_, mut answers) = self.write(&group);
            match answers.pop() {
                Some(Ok(Asked::Answer(answer))) => answer,
                other => panic!("expected an answer, got {other:?}"),
            }
        }

        /// What the tenant has free and held.
        fn purse(&mut self) -> [u128; 2] {
            let party = Some(EXCHANGE);
            let answer = self.asked(Ask::Account(AccountQuery { party }));
            ["free", "held"].map(|purse| {
                let text = answer[0][purse].as_str().expect("an amount");
                text.parse().expect("digits")
            })
        }
    }

    fn config() -> EraConfig {
        EraConfig {
            policy: Policy::parse(include_str!("../../era.toml")).expect("is shipped"),
            node_key_file: PathBuf::new(),
            node_owner: 1,
            node_address: [1; 20],
        }
    }

    fn key() -> NodeKey {
        NodeKey::new(&Secret::from_bytes([7; 32]))
    }

    fn name(text: &str) -> TenantName {
        text.parse().expect("a name")
    }

    fn accept(job: u64) -> (JobWrite, Option<Work>) {
        let row = JobRow {
            job,
            tenant: name("exchange"),
            circuit: [1; 32],
            witness: [2; 32],
            in_row: None,
            blob_left: false,
            deadline_ms: None,
            key: Some("the same".to_owned()),
            submitted_ms: 0,
            attempt: 1,
            lent: false,
            end: None,
        };
        let work = Work {
            tenant: name("exchange"),
            scenario: "financial".to_owned(),
            end: None,
        };
        (JobWrite::Accept(Box::new(row)), Some(work))
    }

    fn end(job: u64) -> (JobWrite, Option<Work>) {
        let end = JobEnd {
            state: EndState::Proved,
            at_ms: 0,
            outcome: "{}".to_owned(),
        };
        let work = Work {
            tenant: name("exchange"),
            scenario: "financial".to_owned(),
            end: Some(WorkEnd::Proved([3; 32])),
        };
        let attempt = 1;
        (JobWrite::End { job, attempt, end }, Some(work))
    }

    fn reuse(change: u64, tenant: &str) -> Together {
        Together {
            states: vec![RegistryRow {
                sequence: change,
                change: vec![change as u8; 40],
            }],
            reuses: vec![Reused {
                change,
                tenant: name(tenant),
                scenario: "financial".to_owned(),
                digest: [change as u8; 32],
            }],
            ..Together::default()
        }
    }

    #[test]
    fn a_submission_that_comes_second_holds_nothing() {
        let mut desk = Desk::new();
        let group = Together {
            jobs: vec![accept(1), accept(2)],
            ..Together::default()
        };
        let (written, _) = desk.write(&group);
        let refused = RpcError::IdempotencyConflict { job: JobName(1) };
        assert_eq!(written, [Ok(Written::Done), Err(refused)]);
        // One whose number is another's has no word of its own to be known by, and is to come again.
        let mut same = accept(1);
        if let JobWrite::Accept(row) = &mut same.0 {
            row.key = None;
        }
        let group = Together {
            jobs: vec![same],
            ..Together::default()
        };
        let (written, _) = desk.write(&group);
        assert!(
            matches!(written[..], [Err(RpcError::StorageUnavailable { .. })]),
            "{written:?}"
        );
        assert_eq!(desk.purse(), [FUNDS - PROOF, PROOF]);
        assert_eq!(desk.purse(), [FUNDS - PROOF, PROOF]);
    }

    /// It is another node's work: this one is not paid for it, and says nothing of it. Who asked for it pays all the same.
    #[test]
    fn a_proof_from_elsewhere_is_charged_and_is_no_event() {
        let mut desk = Desk::new();
        let (write, work) = accept(1);
        let end = JobWrite::End {
            job: 1,
            attempt: 1,
            end: JobEnd {
                state: EndState::Proved,
                at_ms: 1,
                outcome: "{}".to_owned(),
            },
        };
        let elsewhere = work.clone().map(|work| Work {
            end: Some(WorkEnd::Elsewhere {
                proof: [3; 32],
                metered: None,
            }),
            ..work
        });
        let begun = Together {
            jobs: vec![(write, work)],
            ..Together::default()
        };
        desk.write(&begun);
        assert_eq!(desk.purse(), [FUNDS - PROOF, PROOF]);
        let ended = Together {
            jobs: vec![(end, elsewhere)],
            ..Together::default()
        };
        desk.write(&ended);
        assert_eq!(desk.purse(), [FUNDS - PROOF, 0]);
        let gauges = desk.era.gauges();
        assert_eq!((gauges.events, gauges.refused), ([0; 5], [0; 3]));
        assert!(gauges.house.contains(&("fees", PROOF)), "{gauges:?}");
    }

    /// Nobody pays for what did not come to a proof, whoever is to blame; a failure is told, and one that nobody wanted any more is not.
    #[test]
    fn a_job_without_a_proof_gives_the_fee_back() {
        for (state, how, failures) in [
            (EndState::Cancelled, WorkEnd::Cancelled, 0),
            (EndState::Failed, WorkEnd::Failed(Cause::Node), 1),
            (EndState::Failed, WorkEnd::Failed(Cause::Input), 1),
        ] {
            let mut desk = Desk::new();
            let only = |job| Together {
                jobs: vec![job],
                ..Together::default()
            };
            desk.write(&only(accept(1)));
            assert_eq!(desk.purse(), [FUNDS - PROOF, PROOF]);
            let (mut write, work) = end(1);
            if let JobWrite::End { end, .. } = &mut write {
                end.state = state;
            }
            let work = work.map(|work| Work {
                end: Some(how),
                ..work
            });
            // Written once more, it is not given back once more.
            for _ in 0..2 {
                desk.write(&only((write.clone(), work.clone())));
                assert_eq!(desk.purse(), [FUNDS, 0], "{how:?}");
                assert_eq!(desk.era.gauges().events, [0, failures, 0, 0, 0], "{how:?}");
            }
        }
    }

    #[test]
    fn a_reuse_is_paid_for_once_and_with_its_change() {
        let mut desk = Desk::new();
        desk.write(&reuse(1, "exchange"));
        assert_eq!(desk.purse(), [FUNDS - REUSE, 0]);
        assert_eq!(desk.era.gauges().events, [0, 0, 0, 1, 0]);
        // A commit that was said to have failed may have reached the disk: it is written again.
        desk.write(&reuse(1, "exchange"));
        assert_eq!(desk.purse(), [FUNDS - REUSE, 0]);
        desk.write(&reuse(2, "exchange"));
        assert_eq!(desk.purse(), [FUNDS - 2 * REUSE, 0]);
        // One without funds, and one that is no party, use it all the same and earn nobody anything.
        desk.write(&reuse(3, "poor"));
        desk.write(&reuse(4, "nobody"));
        let gauges = desk.era.gauges();
        assert_eq!(
            (gauges.events, gauges.refused),
            ([0, 0, 0, 2, 0], [0, 0, 1])
        );
        assert_eq!(desk.database.registry().expect("sound").len(), 4);
    }

    /// Whatever a group asks for, what it has changed is taken back if the disk does not take it; and then the same group
    /// is written as if it were the first.
    #[test]
    fn a_group_that_the_disk_refuses_leaves_nothing_behind() {
        let mut desk = Desk::new();
        desk.write(&Together {
            jobs: vec![accept(1)],
            ..Together::default()
        });
        let (before, purse) = (desk.era.gauges(), desk.purse());
        let mut second = accept(2);
        if let JobWrite::Accept(row) = &mut second.0 {
            row.key = None;
        }
        let register = RegisterParty {
            id: EraId(30),
            tenant: Some("newcomer".to_owned()),
            role: EraRole::User,
            key: None,
            owner: 12,
            verified: Some(true),
            address: Address([12; 20]),
        };
        // So many records that there is no room for them: all of it is executed before the disk has a say.
        let adopt = |number: u32| {
            Ask::Adopt(Adopt {
                id: EraId(100 + u128::from(number)),
                epoch: 2 + number,
                policy: include_str!("../../era.toml").to_owned(),
            })
        };
        let asks = [Ask::Register(register)].into_iter();
        let asks = asks.chain((0..100).map(adopt));
        let mut group = Together {
            jobs: vec![end(1), second],
            asks: asks.map(|ask| (0, None, ask)).collect(),
            ..reuse(1, "exchange")
        };
        desk.database.limit_bytes(0).expect("is taken");
        for _ in 0..2 {
            let refused = desk.try_to_write(&group);
            assert!(matches!(refused, Err(DatabaseError::NoSpace)));
            assert_eq!(desk.era.gauges(), before);
        }
        desk.database.limit_bytes(u64::MAX).expect("is taken");
        assert_eq!(desk.purse(), purse);
        let (written, answers) = desk.write(&group);
        assert_eq!(written, [Ok(Written::Done), Ok(Written::Done)]);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        // The second job waits with what it holds; the first, and the reuse, are paid for.
        let spent = PROOF + REUSE;
        assert_eq!(desk.purse(), [FUNDS - spent - PROOF, PROOF]);
        let gauges = desk.era.gauges();
        assert_eq!(
            (gauges.events, gauges.parties),
            ([1, 0, 0, 1, 0], before.parties + 1)
        );
        // Nothing of it is there twice, and who reads the journal finds the same.
        group.states.clear();
        group.reuses.clear();
        desk.write(&group);
        assert_eq!(desk.purse(), [FUNDS - spent - PROOF, PROOF]);
        let again = Era::open(config(), key(), &mut desk.database, NOW).expect("is read");
        let again = again.gauges();
        assert_eq!(
            (again.damaged, again.records),
            (None, desk.era.gauges().records)
        );
    }

    /// A submission that was refused because its write was said to have failed, and that is on the disk all the same.
    #[test]
    fn a_submission_that_is_forgotten_holds_nothing_and_leaves_its_word_free() {
        let mut desk = Desk::new();
        let only = |job| Together {
            jobs: vec![job],
            ..Together::default()
        };
        desk.write(&only(accept(1)));
        desk.write(&only((JobWrite::Forget { job: 1 }, None)));
        assert_eq!(desk.purse(), [FUNDS, 0]);
        let (written, _) = desk.write(&only(accept(2)));
        assert_eq!(written, [Ok(Written::Done)]);
        assert_eq!(desk.purse(), [FUNDS - PROOF, PROOF]);
    }

    /// A full disk is tried twice a second, and executing a year of records takes seconds.
    #[test]
    fn a_journal_is_read_again_only_when_it_says_more() {
        let mut desk = Desk::new();
        let sound = |desk: &mut Desk| {
            desk.era.forget();
            desk.era.refresh(&mut desk.database, NOW).expect("is read");
            desk.era.gauges().damaged.is_none()
        };
        assert!(sound(&mut desk));
        // Whoever reads the journal from now on finds a row in it that is no record.
        let head = desk.database.ledger_head().expect("is read");
        let group = desk.database.group().expect("begun");
        group.record(head.records, &[0; 32], b"?").expect("room");
        group.commit().expect("room");
        assert!(sound(&mut desk), "it was read though the head is the same");
        let funds = desk.purse();
        assert_eq!(funds, [FUNDS, 0]);
        let group = desk.database.group().expect("begun");
        let records = head.records + 1;
        let more = LedgerHead { records, ..head };
        group.ledger_head(&more).expect("it rises");
        group.commit().expect("room");
        assert!(!sound(&mut desk), "it was not read though it says more");
    }

    const NOW: u64 = 1_800_000_000;
    /// The node is the first party.
    const EXCHANGE: u32 = 2;
    const FUNDS: u128 = 10_000_000_000_000;
    const PROOF: u128 = 1_000_000_000_000;
    const REUSE: u128 = 500_000_000_000;
}
