//! Preparers: threads that lay a job out in memory before workers may touch it.
//!
//! Mapping a witness, checking that each element is below the modulus, copying it to the device
//! and planning the work takes milliseconds for a large circuit and allocates all that the proof
//! will need. It happens here so that it happens nowhere else. The arbiter says when (a tenant
//! has only so many jobs in memory at a time), through a queue of plain numbers; what is to be
//! done was left before in a table by the RPC thread.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use bytes::Bytes;
use caldera_prover::format::Wtns;
use caldera_prover::groth16::{Blinding, Job, ProvingKey};
use caldera_prover::units::{Opening, witness};
use caldera_rpc::error::{RpcError, WitnessFault};
use caldera_rpc::methods::{Digest, JobName};
use caldera_scheduler::{JobId, TenantId};
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore};
use caldera_store::jobs::WitnessBytes;
use crossbeam::queue::ArrayQueue;

use crate::arbiter_thread::{Command, Inbox};
use crate::board::{Board, RunningJob};
use crate::clock::Clock;
use crate::refusal;
use crate::service::{Message, Post};

/// What has to be known to prepare one job.
pub struct Preparation {
    /// Whose job.
    pub tenant: TenantId,
    /// Its name in the store.
    pub tenant_name: TenantName,
    /// The key to prove with; `None` while it is being read again.
    pub key: Option<Arc<ProvingKey>>,
    /// Whether it is to be proved on the device's host alone.
    pub on_host: bool,
    /// The witness: a blob, unless it is here.
    pub witness: Digest,
    /// The witness that came with the submission.
    pub witness_bytes: Option<WitnessBytes>,
}

/// A job that is to be prepared.
struct Left {
    preparation: Preparation,
    /// Whether the arbiter's order came before the key.
    ordered: bool,
}

/// Jobs that are or will be to be prepared.
pub struct Preparations {
    waiting: Mutex<HashMap<JobId, Left>>,
    ordered: ArrayQueue<JobId>,
    threads: [OnceLock<Thread>; PREPARERS],
}

/// One preparer before its thread starts.
pub struct Preparer {
    /// Which of [`PREPARERS`].
    pub number: usize,
    /// What is to be done.
    pub preparations: Arc<Preparations>,
    /// Where witnesses are.
    pub blobs: BlobStore,
    /// Where prepared jobs go.
    pub arbiter: Arc<Inbox>,
    /// Where those who ask look.
    pub service: Post,
    /// Tells when to stop.
    pub board: Arc<Board>,
    /// How many workers will tally.
    pub workers: usize,
    /// The clock.
    pub clock: Clock,
}

impl Preparations {
    /// A table for so many unfinished jobs.
    pub fn new(jobs_max: usize) -> Preparations {
        Preparations {
            waiting: Mutex::new(HashMap::new()),
            // A job is ordered once by the arbiter, and once more when it had to wait for its key; then
            // the first order has been taken. So what was ordered and not begun is unfinished or was
            // cancelled since; twice the number leaves room for those.
            ordered: ArrayQueue::new(2 * jobs_max),
            threads: [const { OnceLock::new() }; PREPARERS],
        }
    }

    /// Leaves what a job will need. Called before the arbiter hears of it.
    pub fn leave(&self, job: JobId, preparation: Preparation) {
        let left = Left {
            preparation,
            ordered: false,
        };
        self.waiting().insert(job, left);
    }

    /// Brings the key that a job had to wait for. One that was ordered meanwhile is ordered again.
    pub fn bring(&self, job: JobId, key: &Arc<ProvingKey>) {
        let ordered = match self.waiting().get_mut(&job) {
            Some(left) => {
                left.preparation.key = Some(Arc::clone(key));
                left.ordered
            }
            None => false,
        };
        if ordered {
            self.order(job);
        }
    }

    /// Takes it back; `None` if a preparer has begun.
    pub fn withdraw(&self, job: JobId) -> Option<Preparation> {
        self.waiting().remove(&job).map(|left| left.preparation)
    }

    /// Takes what is to be done now: nothing for a job that was cancelled, or whose key is not there.
    fn begin(&self, job: JobId) -> Option<(Preparation, Arc<ProvingKey>)> {
        let mut waiting = self.waiting();
        let left = waiting.get_mut(&job)?;
        let Some(key) = left.preparation.key.clone() else {
            left.ordered = true;
            return None;
        };
        Some((waiting.remove(&job)?.preparation, key))
    }

    /// Orders a job to be prepared. Neither waits nor allocates: called by the arbiter.
    pub fn order(&self, job: JobId) {
        // A full queue drops the oldest order, which can only be that of a cancelled job: see
        // `new`.
        self.ordered.force_push(job);
        self.wake();
    }

    /// Wakes all preparers.
    pub fn wake(&self) {
        for thread in self.threads.iter().filter_map(OnceLock::get) {
            thread.unpark();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<JobId, Left>> {
        // Single insertions and removals leave the table whole even if a holder panicked.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Preparer {
    /// Prepares jobs until the box stops. Called once, on the preparer's own thread.
    pub fn run(self) {
        let first = self.preparations.threads[self.number].set(std::thread::current());
        assert!(first.is_ok(), "each preparer has its number");
        while !self.board.stopping() {
            match self.preparations.ordered.pop() {
                Some(job) => self.prepare(job),
                None => std::thread::park(),
            }
        }
    }

    fn prepare(&self, id: JobId) {
        let Some((preparation, key)) = self.preparations.begin(id) else {
            return;
        };
        let began = self.clock.now();
        let laid_out = catch_unwind(AssertUnwindSafe(|| self.lay_out(id, preparation, &key)))
            .unwrap_or(Err(RpcError::Internal));
        match laid_out {
            Ok(job) => {
                let job = Arc::new(job);
                let at = self.clock.now();
                self.service.send(Message::Prepared {
                    job: Arc::clone(&job),
                    at,
                    span: at.since(began),
                });
                self.arbiter.send_waiting(Command::Ready(job));
            }
            Err(error) => {
                self.service.send(Message::Unprepared { job: id, error });
                self.arbiter.send_waiting(Command::Unprepared(id));
            }
        }
    }

    fn lay_out(
        &self,
        id: JobId,
        it: Preparation,
        key: &Arc<ProvingKey>,
    ) -> Result<RunningJob, RpcError> {
        let bytes = match it.witness_bytes {
            Some(bytes) => Bytes::from_owner(Borrowed(bytes)),
            None => self
                .blobs
                .open_blob(&it.tenant_name, it.witness.0)
                .map_err(|error| match error {
                    BlobError::Unknown => RpcError::BlobUnknown { digest: it.witness },
                    error => internal(id, &error),
                })?
                .into_bytes(),
        };
        let witness = match bytes.starts_with(&Opening::MAGIC) {
            // What a holder has opened stands for the witness that is made of it.
            true => Opening::from_bytes(&bytes)
                .map(|opening| witness(&opening))
                .map_err(|error| RpcError::WitnessRefused {
                    fault: WitnessFault::Content,
                    detail: error.to_string(),
                })?,
            false => {
                Wtns::parse(bytes).map_err(|error| refusal::witness(error.defect(), &error))?
            }
        };
        let blinding = Blinding::random(key.curve()).map_err(|e| internal(id, &e))?;
        let laid_out = match it.on_host {
            true => Job::new_on_host(key, witness, blinding),
            false => Job::new(key, witness, blinding),
        };
        let job = laid_out.map_err(|error| match error.defect() {
            Some(defect) => refusal::witness(defect, &error),
            None => internal(id, &error),
        })?;
        RunningJob::new(id, it.tenant, job, self.workers).map_err(|error| internal(id, &error))
    }
}

/// A witness that is overwritten when its last holder lets go.
struct Borrowed(WitnessBytes);

impl AsRef<[u8]> for Borrowed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn internal(job: JobId, error: &dyn std::error::Error) -> RpcError {
    tracing::error!(job = %JobName(job.0), error = %error, "preparing failed");
    RpcError::Internal
}

/// Two, so that a small witness need not wait behind a large one of another tenant.
pub const PREPARERS: usize = 2;
