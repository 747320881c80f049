//! Preparers: threads that lay a job out in memory before workers may touch it.
//!
//! Mapping a witness, checking that each element is below the modulus, copying it to the device
//! and planning the work takes milliseconds for a large circuit and allocates all that the proof
//! will need. It happens here so that it happens nowhere else. The arbiter says when (a tenant
//! has only so many jobs in memory at a time), through a queue of plain numbers; what is to be
//! done was left before in a table by the RPC thread.
//!
//! A job that brought inputs needs a witness first, and its circuit's witness program may compute for
//! seconds; and where the circuit's constraints are registered the witness is held against them. Both are done in
//! slices of about a millisecond: after each the calculation goes back to the end of a queue that all preparers
//! share, and whatever job was ordered meanwhile is prepared before any calculation goes on. So a witness waits for somebody else's program for one slice at most, and
//! programs share the preparers evenly. How many a tenant can have at once is bounded by the jobs that it may
//! have in memory.
//!
//! The cores here are not of the pool, and what they compute for a tenant is its own all the same: it is charged to
//! the tenant with the arbiter, and told among the costs of its job.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use bytes::Bytes;
use caldera_prover::format::{R1cs, Satisfaction, Unsatisfied, Wtns};
use caldera_prover::groth16::{Blinding, Job, ProvingKey};
use caldera_prover::units::{self, Opening};
use caldera_rpc::chain::chain;
use caldera_rpc::error::{InputsFault, RpcError, WitnessFault};
use caldera_rpc::methods::{Digest, JobName};
use caldera_scheduler::{JobId, Nanos, TenantId};
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore};
use caldera_store::jobs::WitnessBytes;
use caldera_witness::{Calculation, Inputs, Program, Progress, WitnessError};
use crossbeam::queue::ArrayQueue;
use zeroize::Zeroizing;

use crate::arbiter_thread::{Command, Inbox};
use crate::board::{Board, RunningJob};
use crate::clock::Clock;
use crate::refusal;
use crate::residence::Residence;
use crate::service::{Message, Post};
use crate::witness::{self, Maker, Programs};

/// What has to be known to prepare one job.
pub struct Preparation {
    /// Whose job.
    pub tenant: TenantId,
    /// Its name in the store.
    pub tenant_name: TenantName,
    /// Its circuit, whose witness program inputs are for.
    pub circuit: Digest,
    /// The key to prove with; `None` while it is being read again.
    pub key: Option<Arc<ProvingKey>>,
    /// Whether it is to be proved on the device's host alone.
    pub on_host: bool,
    /// The witness, or the inputs that make one: a blob, unless it is here.
    pub witness: Digest,
    /// The witness or the inputs that came with the submission.
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
    calculating: Mutex<Calculating>,
    ordered: ArrayQueue<JobId>,
    threads: [OnceLock<Thread>; PREPARERS],
}

/// Witnesses that are being computed.
#[derive(Default)]
struct Calculating {
    /// Those that no preparer is at.
    queue: VecDeque<Computed>,
    /// All jobs that a preparer has begun, and has not settled, and that were not withdrawn since.
    wanted: HashSet<JobId>,
}

/// A witness that is being computed for a job.
struct Computed {
    job: JobId,
    preparation: Preparation,
    key: Arc<ProvingKey>,
    stage: Stage,
    /// When the job was begun.
    began: Nanos,
    /// What it has cost.
    cost: Computing,
    /// What of that its tenant has not been charged.
    uncharged: Nanos,
}

/// What is computed for a witness.
enum Stage {
    /// The witness, and with what it is held against then.
    Calculate(Program, Box<Calculation>, Option<R1cs>),
    /// Whether its constraints hold.
    Check(Satisfaction),
}

/// What computing a witness has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Computing {
    /// Slices.
    pub slices: u64,
    /// How long they took together.
    pub spent: Nanos,
    /// How long the longest took.
    pub longest: Nanos,
}

/// What became of a job in one go.
enum Step {
    /// Laid out, after so much computing if it brought inputs.
    Ready(Arc<RunningJob>, Option<Computing>),
    /// Its witness is to be computed.
    Compute(Box<Computed>),
}

/// One preparer before its thread starts.
pub struct Preparer {
    /// Which of [`PREPARERS`].
    pub number: usize,
    /// What is to be done.
    pub preparations: Arc<Preparations>,
    /// Where witnesses are.
    pub blobs: BlobStore,
    /// The witness programs of circuits.
    pub programs: Arc<Programs>,
    /// What those may ask for.
    pub witness: caldera_witness::Limits,
    /// How long one may compute.
    pub witness_max: Nanos,
    /// Where keys are asked for that are not on devices.
    pub residence: Arc<Residence>,
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
            calculating: Mutex::default(),
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

    /// Takes it back; `None` if a preparer has begun. A calculation is given up after its slice.
    pub fn withdraw(&self, job: JobId) -> Option<Preparation> {
        let left = self.waiting().remove(&job);
        // In this order: one that was begun in between is wanted since before the other lock was free.
        self.calculating().wanted.remove(&job);
        left.map(|left| left.preparation)
    }

    /// Takes what is to be done now: nothing for a job that was cancelled, or whose key is not there.
    fn begin(&self, job: JobId) -> Option<(Preparation, Arc<ProvingKey>)> {
        let mut waiting = self.waiting();
        let left = waiting.get_mut(&job)?;
        let Some(key) = left.preparation.key.clone() else {
            left.ordered = true;
            return None;
        };
        let left = waiting.remove(&job)?;
        self.calculating().wanted.insert(job);
        Some((left.preparation, key))
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

    /// Queues a calculation, a new one or one that goes on.
    fn queue(&self, computed: Computed) {
        let mut calculating = self.calculating();
        calculating.queue.push_back(computed);
        // Whoever queues takes the next one itself.
        let more = calculating.queue.len() > 1;
        drop(calculating);
        if more {
            self.wake();
        }
    }

    /// The calculation that has waited longest, and whether its job is still wanted.
    fn next_calculation(&self) -> Option<(Computed, bool)> {
        let mut calculating = self.calculating();
        let next = calculating.queue.pop_front()?;
        let wanted = calculating.wanted.contains(&next.job);
        Some((next, wanted))
    }

    fn calculating(&self) -> MutexGuard<'_, Calculating> {
        // As below.
        self.calculating
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
            // What was ordered goes first: it takes milliseconds, and a calculation may take long.
            if let Some(job) = self.preparations.ordered.pop() {
                self.prepare(job);
            } else if let Some((computed, wanted)) = self.preparations.next_calculation() {
                self.go_on(computed, wanted);
            } else {
                std::thread::park();
            }
        }
    }

    fn prepare(&self, id: JobId) {
        let Some((preparation, key)) = self.preparations.begin(id) else {
            return;
        };
        let began = self.clock.now();
        let step = catch_unwind(AssertUnwindSafe(|| self.begin(id, preparation, key, began)));
        self.settle(id, began, step.unwrap_or(Err(RpcError::Internal)));
    }

    /// One slice of a calculation.
    fn go_on(&self, computed: Computed, wanted: bool) {
        let (id, began) = (computed.job, computed.began);
        let step = match wanted {
            true => catch_unwind(AssertUnwindSafe(|| self.compute(computed)))
                .unwrap_or(Err(RpcError::Internal)),
            // It was cancelled: nobody will read the error.
            false => {
                self.charge(computed.preparation.tenant, computed.uncharged);
                Err(RpcError::Internal)
            }
        };
        self.settle(id, began, step);
    }

    /// Tells what became of a job.
    fn settle(&self, id: JobId, began: Nanos, step: Result<Step, RpcError>) {
        match step {
            Ok(Step::Compute(computed)) => return self.preparations.queue(*computed),
            Ok(Step::Ready(job, computed)) => {
                let at = self.clock.now();
                self.service.send(Message::Prepared {
                    job: Arc::clone(&job),
                    at,
                    span: at.since(began),
                    computed,
                });
                self.arbiter.send_waiting(Command::Ready(job));
            }
            Err(error) => {
                self.service.send(Message::Unprepared { job: id, error });
                self.arbiter.send_waiting(Command::Unprepared(id));
            }
        }
        self.preparations.calculating().wanted.remove(&id);
    }

    /// Lays a job out, or begins to compute its witness.
    fn begin(
        &self,
        id: JobId,
        mut it: Preparation,
        key: Arc<ProvingKey>,
        began: Nanos,
    ) -> Result<Step, RpcError> {
        let bytes = match it.witness_bytes.take() {
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
        if !witness::are_inputs(&bytes) {
            let job = self.lay_out(id, &it, &key, read_witness(bytes)?)?;
            return Ok(Step::Ready(Arc::new(job), None));
        }
        let since = core_time();
        let maker = self.programs.find((it.tenant, it.circuit))?;
        let calculation = self.calculation(&maker, &bytes);
        let spent = core_time().since(since);
        if calculation.is_err() {
            // What is refused has cost as much.
            self.charge(it.tenant, spent);
        }
        let calculation = calculation?;
        Ok(Step::Compute(Box::new(Computed {
            job: id,
            preparation: it,
            key,
            stage: Stage::Calculate(maker.program, Box::new(calculation), maker.r1cs),
            began,
            cost: Computing {
                spent,
                ..Computing::default()
            },
            uncharged: spent,
        })))
    }

    /// The beginning of a calculation from a tenant's inputs. What is wrong with them is told.
    fn calculation(&self, maker: &Maker, bytes: &[u8]) -> Result<Calculation, RpcError> {
        let expected_max = self.witness.inputs_bytes.min(u32::MAX as usize);
        if bytes.len() > expected_max {
            // Before they are copied: a blob may have gigabytes.
            let got = bytes.len();
            let error = WitnessError::Length { expected_max, got };
            return Err(witness::refusal(&error));
        }
        let inputs = Inputs::parse(bytes.to_vec(), &self.witness)
            .map_err(|error| witness::refusal(&error))?;
        Calculation::begin(&maker.program, inputs).map_err(|error| RpcError::ProgramRefused {
            detail: error.to_string(),
        })
    }

    /// Tells the arbiter, and who counts, what was computed for a tenant.
    fn charge(&self, tenant: TenantId, core: Nanos) {
        if core > Nanos::ZERO {
            self.arbiter.send_waiting(Command::Charge { tenant, core });
            self.service.send(Message::Charged { tenant, core });
        }
    }

    fn compute(&self, mut it: Computed) -> Result<Step, RpcError> {
        let began = core_time();
        let outcome = it.stage.step();
        let took = core_time().since(began);
        if let Stage::Calculate(program, ..) = &it.stage {
            program.took(outcome.burnt, took.0);
        }
        let cost = &mut it.cost;
        cost.slices += 1;
        cost.spent = cost.spent.plus(took);
        cost.longest = cost.longest.max(took);
        it.uncharged = it.uncharged.plus(took);
        // A message for each slice would be a thousand a second.
        let more = matches!(outcome.next, Ok(Next::More | Next::Check(_)));
        if !more || it.uncharged >= CHARGE_EVERY {
            self.charge(it.preparation.tenant, std::mem::take(&mut it.uncharged));
        }
        match outcome.next? {
            Next::More | Next::Check(_) if it.cost.spent > self.witness_max => {
                let seconds = self.witness_max.0 / 1_000_000_000;
                Err(witness::refusal(&WitnessError::Time { seconds }))
            }
            Next::More => Ok(Step::Compute(Box::new(it))),
            Next::Check(check) => {
                it.stage = Stage::Check(*check);
                Ok(Step::Compute(Box::new(it)))
            }
            Next::Done(witness) => {
                let job = self.lay_out(it.job, &it.preparation, &it.key, witness)?;
                Ok(Step::Ready(Arc::new(job), Some(it.cost)))
            }
        }
    }

    fn lay_out(
        &self,
        id: JobId,
        it: &Preparation,
        key: &Arc<ProvingKey>,
        witness: Wtns,
    ) -> Result<RunningJob, RpcError> {
        let blinding = Blinding::random(key.curve()).map_err(|e| internal(id, &e))?;
        let laid_out = match it.on_host {
            true => Job::new_on_host(key, witness, blinding),
            false => {
                self.residence.bring(it.tenant, key);
                Job::new(key, witness, blinding)
            }
        };
        let job = laid_out.map_err(|error| match error.defect() {
            Some(defect) => refusal::witness(defect, &error),
            None => internal(id, &error),
        })?;
        RunningJob::new(id, it.tenant, job, self.workers).map_err(|error| internal(id, &error))
    }
}

/// What came of a slice.
struct Slice {
    /// Fuel, where a program ran.
    burnt: u64,
    next: Result<Next, RpcError>,
}

enum Next {
    More,
    /// The witness is there and is to be held against its constraints.
    Check(Box<Satisfaction>),
    Done(Wtns),
}

impl Stage {
    fn step(&mut self) -> Slice {
        match self {
            Stage::Calculate(program, calculation, r1cs) => {
                let burnt = program.slice();
                let next = match calculation.step(burnt) {
                    Ok(Progress::More) => Ok(Next::More),
                    Ok(Progress::Done(file)) => read_witness(Bytes::from_owner(Made(file)))
                        .and_then(|witness| match r1cs {
                            None => Ok(Next::Done(witness)),
                            Some(r1cs) => {
                                let check = Satisfaction::new(r1cs, witness);
                                check
                                    .map(|check| Next::Check(Box::new(check)))
                                    .map_err(|error| unsatisfied(&error))
                            }
                        }),
                    Err(error) => Err(witness::refusal(&error)),
                };
                Slice { burnt, next }
            }
            Stage::Check(check) => {
                let next = match check.step(CHECKED_TERMS) {
                    Ok(None) => Ok(Next::More),
                    Ok(Some(witness)) => Ok(Next::Done(witness)),
                    Err(error) => Err(unsatisfied(&error)),
                };
                Slice { burnt: 0, next }
            }
        }
    }
}

fn read_witness(bytes: Bytes) -> Result<Wtns, RpcError> {
    match bytes.starts_with(&Opening::MAGIC) {
        // What a holder has opened stands for the witness that is made of it.
        true => Opening::from_bytes(&bytes)
            .map(|opening| units::witness(&opening))
            .map_err(|error| RpcError::WitnessRefused {
                fault: WitnessFault::Content,
                detail: error.to_string(),
            }),
        false => Wtns::parse(bytes).map_err(|error| refusal::witness(error.defect(), &error)),
    }
}

fn unsatisfied(error: &Unsatisfied) -> RpcError {
    RpcError::InputsRefused {
        fault: InputsFault::Constraint,
        detail: error.to_string(),
    }
}

/// How long this thread has been on a core: a tenant does not pay for what others do to it.
fn core_time() -> Nanos {
    let spent = nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID);
    let spent = spent.expect("Linux has counted this for every thread since 2.6");
    Nanos(spent.tv_sec() as u64 * 1_000_000_000 + spent.tv_nsec() as u64)
}

/// A witness that a program made, overwritten in the same way.
struct Made(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Made {
    fn as_ref(&self) -> &[u8] {
        &self.0
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
    tracing::error!(job = %JobName(job.0), error = %chain(error), "preparing failed");
    RpcError::Internal
}

/// Terms of constraints in a slice: at about 50 ns each, which is what one costs whose wire is in no cache, half a
/// millisecond.
const CHECKED_TERMS: usize = 10_000;
/// How much is computed before a tenant is charged: less than a turn of the pool.
const CHARGE_EVERY: Nanos = Nanos::from_millis(10);
/// Two, so that a small witness need not wait behind a large one of another tenant.
pub const PREPARERS: usize = 2;
