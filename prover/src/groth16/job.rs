//! One proof as a graph of nodes, each a chain of stages, each a set of lanes of quanta.
//!
//! ```text
//! product ─ multiply ─┬ shift a ┬ multiply-subtract ─ msm H ─┐
//!                     ├ shift b ┤                            │
//!                     └ shift c ┘              msm C, msm B1 ┼ assemble c ─┐
//! mask   ─┐                                                  │             │
//! msm B2 ─┼ assemble a, b ─┬─────────────────────────────────┘             │
//! msm A  ─┘                ├ pair a, b ────────────────────────────────────┴ pair c ─ exponentiate
//! inputs ──────────────────┘
//! ```
//!
//! (`msm C` and `msm B1` are two independent nodes.) Nodes that wait for nothing may start at once:
//! the four sums over the witness run beside the transforms. A node's stages run one after another;
//! the lanes of a stage run beside each other; the quanta of a lane run in order. What may be
//! run next is a [`Task`], a token of one word; [`Job::run`] runs one quantum of it on the
//! calling thread and never waits for another. There is no thread and no queue here: the caller
//! keeps the tokens, in whatever order and on however many threads it likes, and the proof comes
//! out the same.
//!
//! Two countdowns hold it together, both plain atomics. A stage counts its lanes down; the
//! thread that takes it to zero opens the next stage. A node counts the nodes it waits for; the
//! thread that takes it to zero opens the node. Both are `AcqRel`, so who opens sees all that
//! was written by those who finished.
//!
//! A sum may have parts beside it, which members of the device may do at the same time ([`Plan::beside`]). Each is a node
//! of its own: it may start when the sum may, and what waits for the sum waits for it.
//!
//! A stage may have more lanes than anybody has threads. Only [`DeviceInfo::lanes`] of them are
//! handed out at once; the lane that ends hands out the next. So the number of tokens is bounded
//! ([`Job::tasks_max`]) and queues can be sized once.
//!
//! All memory that the computation needs is set aside by [`Job::new`]. After that a worker
//! allocates only a few points: when the sums are assembled, and within `ark`'s pairing.
//!
//! What runs at the very end runs alone, so little is left for it: A and B are put together and
//! paired as soon as their sums have ended, and the sum that starts last is that over B1, which has
//! the fewest points, so that its tasks are the shortest to wait for.
//!
//! The proof is made only to be checked: the two `pair` and `exponentiate` are the verifier of
//! `ark-groth16`, and [`Job::proof`] is empty until it has agreed. A witness that does not
//! satisfy the circuit ends here, with [`ProveError::SelfCheck`]; so does a broken key, a
//! flipped bit in memory or a wrong kernel. None of them leaves the box as a proof.
//!
//! [`DeviceInfo::lanes`]: caldera_kernels::DeviceInfo::lanes

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use caldera_kernels::{
    CurveId, Device, DeviceError, Form, Group, Held, Plan, Progress, Transform, Work,
};

use super::assemble::{Assembly, Sum};
use super::blinding::{Blinding, EntropyError};
use super::key::ProvingKey;
use super::verify::{Verification, VerifyError};
use crate::format::json::{Point, Proof, PublicInputs};
use crate::format::{FormatError, Wtns};

/// One proof under way. See the top of this file.
///
/// Holds a copy of the witness and three vectors of the domain's size on the device; they are
/// overwritten and freed when the job is dropped, finished or not.
pub struct Job {
    /// Those of the graph, and behind them the parts beside sums.
    nodes: Box<[Node]>,
    /// Only dropped, and after the plans, which keep vectors alive.
    _held: Held<Arc<dyn Device>>,
    key: Arc<ProvingKey>,
    blinding: Blinding,
    assembly: Box<dyn Assembly>,
    verification: Box<dyn Verification>,
    public: PublicInputs,
    /// A and B of the candidate.
    ab: OnceLock<(Point, Point)>,
    candidate: OnceLock<Proof>,
    outcome: OnceLock<Result<Proof, ProveError>>,
    started: AtomicBool,
    stages: usize,
    stages_done: AtomicUsize,
    width: usize,
    bytes: usize,
}

/// Who cuts up a piece of work: a device, or its host alone.
type Planner<'a> = dyn Fn(&Work) -> Result<Arc<dyn Plan>, DeviceError> + 'a;

/// A token for one lane of one open stage: what [`Job::run`] can run next.
///
/// Whoever holds it may run it, once at a time. It fits a word, for queues of words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Task {
    node: u16,
    stage: u16,
    lane: u32,
}

/// A stage as a trace shows it: of which part it is, what runs, over how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// The part of the proof: see [`Job::part`].
    pub part: &'static str,
    /// The kernel: see [`Job::kernel`].
    pub kernel: &'static str,
    /// Elements that the part goes over: points of a sum, entries of a matrix, elements of a vector;
    /// 0 where there is nothing to count.
    pub size: usize,
    /// Bytes of the vectors, points and entries that the part reads or writes.
    pub bytes: usize,
    /// Of a sum: bytes of the tables that it uses, 0 if it was laid out without.
    pub table_bytes: Option<usize>,
}

/// What running one quantum came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The lane has more quanta: the same task must be run again, on any thread.
    Again,
    /// The lane has ended and its task is spent. Tasks that this opened were given to `ready`.
    LaneEnded,
    /// The proof is made and has passed the self-check: [`Job::proof`] has it.
    Finished,
}

/// Why a witness was refused before any work began.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The witness is over another curve's scalar field.
    #[error("witness: expected scalars of {expected:?}, got those of {got:?}")]
    Curve {
        /// The key's curve.
        expected: CurveId,
        /// The witness's.
        got: CurveId,
    },
    /// The witness has another number of elements than the circuit has wires.
    #[error("witness: expected {expected} elements, got {got}")]
    Length {
        /// The circuit's wires.
        expected: usize,
        /// The witness's elements.
        got: usize,
    },
    /// An element is not a scalar.
    #[error(transparent)]
    Witness(#[from] FormatError),
    /// The public part of the witness cannot be used by the verifier.
    #[error("witness")]
    Verifier(#[from] VerifyError),
    /// The device had no room or refused the shape of the work.
    #[error("device")]
    Device(#[from] DeviceError),
}

/// Why a proof was not made. Once a job has failed it stays failed, with the first error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError {
    /// The witness was refused.
    #[error(transparent)]
    Job(#[from] JobError),
    /// There was no randomness for the blinding.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// The device failed in the middle of the work.
    #[error("{kernel}: {error}")]
    Device {
        /// What was running.
        kernel: &'static str,
        /// What the device said.
        error: DeviceError,
    },
    /// The device ended a sum and gave no point for it.
    #[error("the device made no point of the sum over {sum}")]
    Sum {
        /// Which query was summed: "A", "B1", "B2", "C", "H".
        sum: &'static str,
    },
    /// A proof was made and the verifier refused it: the witness does not satisfy the circuit,
    /// or the key or this machine is broken.
    #[error("self-check refused the proof ({0}): the witness does not satisfy the circuit")]
    SelfCheck(VerifyError),
    /// [`Job::cancel`] was called.
    #[error("cancelled")]
    Cancelled,
    /// A task that this job never gave out, or that is spent, or a second start.
    #[error("task {0:#x} is not open in this job")]
    Task(u64),
    /// The caller of `prove` asked for no threads.
    #[error("no threads to prove with")]
    Threads,
}

impl ProveError {
    /// Whether the fault may lie with silicon and not with the witness, so that trying again on the host alone
    /// can tell.
    pub fn may_be_silicon(&self) -> bool {
        matches!(
            self,
            ProveError::SelfCheck(_)
                | ProveError::Device {
                    error: DeviceError::Lost { .. },
                    ..
                }
        )
    }

    /// Whether something was computed wrong: then silicon that seems well may be to blame. A device that was lost has said so itself, and
    /// no other is.
    pub fn is_wrong_result(&self) -> bool {
        matches!(self, ProveError::SelfCheck(_))
    }
}

impl Job {
    /// Checks the witness, copies it to the device and cuts the proof up. Nothing runs yet.
    ///
    /// This costs one pass over the witness and takes all memory that the proof will need; it
    /// belongs on a thread that may take milliseconds.
    pub fn new(
        key: &Arc<ProvingKey>,
        witness: Wtns,
        blinding: Blinding,
    ) -> Result<Arc<Job>, JobError> {
        Job::lay_out(key, witness, blinding, &|work| key.device().plan(work))
    }

    /// The same on the device's host alone: whether a witness that gave a wrong proof is to blame, or
    /// silicon beside the host's.
    pub fn new_on_host(
        key: &Arc<ProvingKey>,
        witness: Wtns,
        blinding: Blinding,
    ) -> Result<Arc<Job>, JobError> {
        let plan = |work: &Work| key.device().plan_on_host(work);
        Job::lay_out(key, witness, blinding, &plan)
    }

    /// Bytes of the witness and of the three vectors over the domain, for a circuit of so many wires and a domain of so
    /// many points.
    pub const fn vector_bytes(wires: u64, domain: u64) -> u64 {
        // A scalar of either curve has 32.
        domain
            .saturating_mul(3)
            .saturating_add(wires)
            .saturating_mul(32)
    }

    /// Bytes of the host's memory that it holds until it is dropped: its vectors, and what its plans have set aside.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn lay_out(
        key: &Arc<ProvingKey>,
        witness: Wtns,
        blinding: Blinding,
        plan: &Planner<'_>,
    ) -> Result<Arc<Job>, JobError> {
        let curve = key.curve();
        let scalars = checked_scalars(key, &witness)?;
        let public = key.public_inputs(scalars);
        let verification = key.verifier().begin(&public)?;

        let device = key.device();
        let mut held = Held::new(Arc::clone(device));
        let w = held.vector(curve, key.wires())?;
        device.vector_write(w, 0, scalars)?;
        let a = held.vector(curve, key.domain_size())?;
        let b = held.vector(curve, key.domain_size())?;
        let c = held.vector(curve, key.domain_size())?;

        let over_witness = |bases, offset| {
            Some(Work::Msm {
                bases,
                scalars: w,
                offset,
                form: Form::Canonical,
            })
        };
        let shift = |vector| {
            Some(Work::Ntt {
                vector,
                transform: Transform::Shift,
            })
        };
        let work: [Option<Work>; NODES] = std::array::from_fn(|node| match node {
            PRODUCT => Some(Work::Product {
                matrix: key.matrix(),
                witness: w,
                a,
                b,
            }),
            MULTIPLY => Some(Work::Multiply { a, b, out: c }),
            SHIFT_A => shift(a),
            SHIFT_B => shift(b),
            SHIFT_C => shift(c),
            QUOTIENT => Some(Work::MultiplySubtract { a, b, c }),
            MSM_A => over_witness(key.bases().a, 0),
            MSM_B1 => over_witness(key.bases().b1, 0),
            MSM_B2 => over_witness(key.bases().b2, 0),
            // The query of a circuit with no private wire is empty, and its sum is zero.
            MSM_C => key
                .bases()
                .c
                .and_then(|c| over_witness(c, 1 + key.public_count())),
            MSM_H => Some(Work::Msm {
                bases: key.bases().h,
                scalars: a,
                offset: 0,
                form: Form::Montgomery,
            }),
            _ => None,
        });
        let mut nodes = Vec::with_capacity(NODES);
        let mut parts = Vec::new();
        for (node, work) in work.iter().enumerate() {
            let extent = Extent::of(key, node, work.as_ref());
            let body = match (node, work) {
                (_, Some(work)) => {
                    let plan = plan(work)?;
                    let beside = Arc::clone(&plan).beside().into_iter();
                    parts.extend(beside.map(|plan| Node::new(node, Body::Device(plan), extent)));
                    Body::Device(plan)
                }
                (MSM_C, None) => Body::Nothing,
                (_, None) => Body::Host,
            };
            nodes.push(Node::new(node, body, extent));
        }
        nodes.extend(parts);
        let vectors = Job::vector_bytes(key.wires() as u64, key.domain_size() as u64) as usize;
        let plans = |node: &Node| match &node.body {
            Body::Device(plan) => plan.bytes(),
            Body::Host | Body::Nothing => 0,
        };
        let plans: usize = nodes.iter().map(plans).sum();
        for node in &nodes {
            let before = nodes.iter().filter(|before| node.waits_for(before));
            node.waits.store(before.count(), Ordering::Relaxed);
        }

        Ok(Arc::new(Job {
            stages: nodes.iter().map(|node| node.body.stages()).sum(),
            nodes: nodes.into(),
            _held: held,
            key: Arc::clone(key),
            blinding,
            assembly: key.assembly(),
            verification,
            public,
            ab: OnceLock::new(),
            candidate: OnceLock::new(),
            outcome: OnceLock::new(),
            started: AtomicBool::new(false),
            stages_done: AtomicUsize::new(0),
            width: device.info().lanes.max(1),
            bytes: vectors + plans,
        }))
    }

    /// Opens the nodes that wait for nothing and gives their tasks to `ready`, those of the
    /// longest path first. Called once, before any [`Job::run`].
    pub fn start(&self, ready: &mut dyn FnMut(Task)) -> Result<(), ProveError> {
        if self.started.swap(true, Ordering::AcqRel) {
            return Err(self.fail(ProveError::Task(0)));
        }
        for (index, node) in self.nodes.iter().enumerate() {
            if GRAPH[node.of].after.is_empty() {
                self.open(index, 0, ready)?;
            }
        }
        Ok(())
    }

    /// Runs one quantum of `task` on the calling thread and gives every task that this opens to
    /// `ready`. Any number of threads may run different tasks at once; one task is run by one
    /// thread at a time.
    ///
    /// An error is final for the whole job: every later call returns the first one at once, and
    /// all outstanding tasks may be thrown away.
    pub fn run(&self, task: Task, ready: &mut dyn FnMut(Task)) -> Result<Step, ProveError> {
        self.run_counted(task, &mut || (), ready)
    }

    /// As [`Job::run`]; `computed` is called when the quantum has been computed, and before anything
    /// that another thread does can follow from it. What it counts is there when the job ends,
    /// whoever ends it. It may not have been called when an error comes back.
    pub fn run_counted(
        &self,
        task: Task,
        computed: &mut dyn FnMut(),
        ready: &mut dyn FnMut(Task),
    ) -> Result<Step, ProveError> {
        match self.outcome.get() {
            Some(Err(first)) => return Err(first.clone()),
            Some(Ok(_)) => return Err(ProveError::Task(task.to_bits())),
            None => {}
        }
        let node = self.node(task)?;
        let progress = match &node.body {
            Body::Device(plan) => plan
                .run(task.stage as usize, task.lane as usize)
                .map_err(|error| self.device_failed(task, error))?,
            Body::Host => {
                // Pairs with the Release below: the next quantum sees what this one did.
                if node.taken.swap(true, Ordering::Acquire) {
                    return Err(self.fail(ProveError::Task(task.to_bits())));
                }
                let progress = self.run_host(task)?;
                if progress == Progress::More {
                    node.taken.store(false, Ordering::Release);
                }
                progress
            }
            Body::Nothing => return Err(self.fail(ProveError::Task(task.to_bits()))),
        };
        computed();
        if progress == Progress::More {
            return Ok(Step::Again);
        }

        // Hand out the next lane before counting this one down: whoever ends the last lane must
        // find that all have been handed out.
        let next = node.next.fetch_add(1, Ordering::Relaxed);
        if next < node.lanes.load(Ordering::Relaxed) {
            ready(Task {
                lane: next as u32,
                ..task
            });
        }
        // The last to end sees what all lanes wrote: AcqRel here pairs with itself.
        if node.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            return self.stage_ended(task.node as usize, task.stage as usize, ready);
        }
        Ok(Step::LaneEnded)
    }

    /// Gives the job up. Quanta that are running end as they would have; every later
    /// [`Job::run`] returns [`ProveError::Cancelled`] at once. After the end it does nothing.
    pub fn cancel(&self) {
        let _ = self.outcome.set(Err(ProveError::Cancelled));
    }

    /// The proof and its public inputs, once [`Step::Finished`] has been returned. Nothing that
    /// the verifier has not accepted is ever here.
    pub fn proof(&self) -> Option<(Proof, PublicInputs)> {
        match self.outcome.get() {
            Some(Ok(proof)) => Some((proof.clone(), self.public.clone())),
            _ => None,
        }
    }

    /// Why the job failed, if it has.
    pub fn error(&self) -> Option<&ProveError> {
        self.outcome
            .get()
            .and_then(|outcome| outcome.as_ref().err())
    }

    /// Lets only some members of the device begin with the piece of work that a task is of: see
    /// [`Plan::allow`].
    pub fn allow(&self, task: Task, members: u64) {
        if let Some(Body::Device(plan)) = self.nodes.get(task.node as usize).map(|it| &it.body) {
            plan.allow(members);
        }
    }

    /// Which member of the device a task is to be run for: see [`Plan::member`].
    pub fn member(&self, task: Task) -> usize {
        match self.nodes.get(task.node as usize).map(|it| &it.body) {
            Some(Body::Device(plan)) => plan.member(task.stage as usize),
            _ => 0,
        }
    }

    /// The name of the kernel that a task runs, for traces.
    pub fn kernel(&self, task: Task) -> &'static str {
        match self.nodes.get(task.node as usize).map(|node| &node.body) {
            Some(Body::Device(plan)) if (task.stage as usize) < plan.stages() => {
                plan.kernel(task.stage as usize)
            }
            Some(Body::Host) => self.part(task),
            _ => "none",
        }
    }

    /// The part of the proof that a task belongs to: "msm-a", "shift-c", "self-check".
    pub fn part(&self, task: Task) -> &'static str {
        let node = self.nodes.get(task.node as usize);
        node.map_or("none", |node| GRAPH[node.of].name)
    }

    /// All stages, those of one part together and in their order.
    pub fn stages(&self) -> impl Iterator<Item = Stage> {
        let of_node = move |(index, node): (usize, &'_ Node)| {
            let Extent {
                size,
                bytes,
                table_bytes,
            } = node.extent;
            let tasks = (0..node.body.stages()).map(move |stage| Task {
                node: index as u16,
                stage: stage as u16,
                lane: 0,
            });
            tasks.map(move |task| Stage {
                part: self.part(task),
                kernel: self.kernel(task),
                size,
                bytes,
                table_bytes,
            })
        };
        self.nodes.iter().enumerate().flat_map(of_node)
    }

    /// The place of a task's stage among [`Job::stages`].
    pub fn stage(&self, task: Task) -> usize {
        let before = self.nodes.iter().take(task.node as usize);
        before.map(|node| node.body.stages()).sum::<usize>() + task.stage as usize
    }

    /// The most tasks that can be out at any one time, running ones included.
    pub fn tasks_max(&self) -> usize {
        // A part beside a sum has one lane.
        NODES * self.width + (self.nodes.len() - NODES)
    }

    /// How many stages the proof has, over all its parts.
    pub fn nodes(&self) -> usize {
        self.stages
    }

    /// How many of them have ended.
    pub fn nodes_done(&self) -> usize {
        self.stages_done.load(Ordering::Relaxed)
    }

    /// The key that this proof is made with.
    pub fn key(&self) -> &Arc<ProvingKey> {
        &self.key
    }

    /// The node that a task names, if that task is out.
    fn node(&self, task: Task) -> Result<&Node, ProveError> {
        self.nodes
            .get(task.node as usize)
            // Pairs with the Release in `open`.
            .filter(|node| node.stage.load(Ordering::Acquire) == task.stage as usize)
            .filter(|node| (task.lane as usize) < node.lanes.load(Ordering::Relaxed))
            .ok_or_else(|| self.fail(ProveError::Task(task.to_bits())))
    }

    /// Opens a stage and hands out its first lanes. Called by one thread for each stage.
    fn open(
        &self,
        index: usize,
        stage: usize,
        ready: &mut dyn FnMut(Task),
    ) -> Result<Step, ProveError> {
        let node = &self.nodes[index];
        let task = |lane: usize| Task {
            node: index as u16,
            stage: stage as u16,
            lane: lane as u32,
        };
        let lanes = match &node.body {
            Body::Device(plan) => plan
                .open(stage)
                .map_err(|error| self.device_failed(task(0), error))?,
            Body::Host => 1,
            Body::Nothing => return self.stage_ended(index, stage, ready),
        };
        let width = lanes.min(self.width);
        node.left.store(lanes, Ordering::Relaxed);
        node.next.store(width, Ordering::Relaxed);
        node.lanes.store(lanes, Ordering::Relaxed);
        // Pairs with the Acquire in `node`: who sees the stage sees its counters.
        node.stage.store(stage, Ordering::Release);
        for lane in 0..width {
            ready(task(lane));
        }
        Ok(Step::LaneEnded)
    }

    /// All lanes of a stage have ended: opens the next stage of the node, or the nodes that
    /// waited for it, or ends the job.
    fn stage_ended(
        &self,
        index: usize,
        stage: usize,
        ready: &mut dyn FnMut(Task),
    ) -> Result<Step, ProveError> {
        self.stages_done.fetch_add(1, Ordering::Relaxed);
        if stage + 1 < self.nodes[index].body.stages() {
            return self.open(index, stage + 1, ready);
        }
        if index == EXPONENTIATE {
            let Some(proof) = self.candidate.get() else {
                unreachable!("exponentiate comes after pair c, which comes after assemble c");
            };
            // A cancellation may have come first; then it stands.
            return match self.outcome.set(Ok(proof.clone())) {
                Ok(()) => Ok(Step::Finished),
                Err(_) => Err(self.error().cloned().unwrap_or(ProveError::Cancelled)),
            };
        }
        for (at, next) in self.nodes.iter().enumerate() {
            if next.waits_for(&self.nodes[index])
                // The last to arrive sees what all of them wrote: AcqRel pairs with itself.
                && next.waits.fetch_sub(1, Ordering::AcqRel) == 1
            {
                self.open(at, 0, ready)?;
            }
        }
        Ok(Step::LaneEnded)
    }

    /// One quantum of what runs on the host whatever the device is.
    fn run_host(&self, task: Task) -> Result<Progress, ProveError> {
        let refused = |error| self.fail(ProveError::SelfCheck(error));
        let no_point = |sum| self.fail(ProveError::Sum { sum });
        let done = |()| Progress::Done;
        match task.node as usize {
            MASK => {
                self.assembly.mask(&self.blinding);
                Ok(Progress::Done)
            }
            ASSEMBLE_AB => {
                let (a, b2) = (self.sum(MSM_A), self.sum(MSM_B2));
                let ab = self
                    .assembly
                    .assemble_ab(&a, &b2, &self.blinding)
                    .map_err(no_point)?;
                match self.ab.set(ab) {
                    Ok(()) => Ok(Progress::Done),
                    Err(_) => Err(self.fail(ProveError::Task(task.to_bits()))),
                }
            }
            ASSEMBLE_C => {
                let Some((a, b)) = self.ab.get() else {
                    unreachable!("assemble c comes after assemble a, b");
                };
                let (b1, h) = (self.sum(MSM_B1), self.sum(MSM_H));
                // A circuit without private wires has no sum over C.
                let c = match &self.nodes[MSM_C].body {
                    Body::Nothing => None,
                    _ => Some(self.sum(MSM_C)),
                };
                let c = self
                    .assembly
                    .assemble_c(&b1, c.as_ref(), &h, &self.blinding)
                    .map_err(no_point)?;
                let proof = Proof {
                    curve: self.key.curve(),
                    a: a.clone(),
                    b: b.clone(),
                    c,
                };
                match self.candidate.set(proof) {
                    Ok(()) => Ok(Progress::Done),
                    Err(_) => Err(self.fail(ProveError::Task(task.to_bits()))),
                }
            }
            INPUTS => self.verification.inputs().map_err(refused),
            PAIR_AB => {
                let Some((a, b)) = self.ab.get() else {
                    unreachable!("pair a, b comes after assemble a, b");
                };
                self.verification.pair_ab(a, b).map_err(refused)
            }
            PAIR_C => {
                let Some(proof) = self.candidate.get() else {
                    unreachable!("pair c comes after assemble c");
                };
                self.verification.pair_c(proof).map(done).map_err(refused)
            }
            EXPONENTIATE => self.verification.exponentiate().map(done).map_err(refused),
            _ => Err(self.fail(ProveError::Task(task.to_bits()))),
        }
    }

    /// What a sum that has ended came to.
    fn sum(&self, node: usize) -> Sum {
        match &self.nodes[node].body {
            Body::Device(plan) => plan.point(),
            _ => None,
        }
    }

    fn device_failed(&self, task: Task, error: DeviceError) -> ProveError {
        self.fail(ProveError::Device {
            kernel: self.kernel(task),
            error,
        })
    }

    /// Fails the job with `error`, unless it has ended already, and says with what it ended.
    fn fail(&self, error: ProveError) -> ProveError {
        match self.outcome.get_or_init(|| Err(error.clone())) {
            Err(first) => first.clone(),
            Ok(_) => error,
        }
    }
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("nodes", &self.nodes())
            .field("nodes_done", &self.nodes_done())
            .field("error", &self.error())
            .finish_non_exhaustive()
    }
}

impl Task {
    /// Which lane of its stage it is of.
    pub fn lane(self) -> u32 {
        self.lane
    }

    /// The token as a word.
    pub fn to_bits(self) -> u64 {
        u64::from(self.node) << 48 | u64::from(self.stage) << 32 | u64::from(self.lane)
    }

    /// The token that [`Task::to_bits`] made into `bits`.
    pub fn from_bits(bits: u64) -> Task {
        Task {
            node: (bits >> 48) as u16,
            stage: (bits >> 32) as u16,
            lane: bits as u32,
        }
    }
}

/// One node of the graph, or a part beside one.
struct Node {
    /// Which of the graph's.
    of: usize,
    body: Body,
    /// The open stage; [`CLOSED`] before the first.
    stage: AtomicUsize,
    /// Lanes of the open stage.
    lanes: AtomicUsize,
    /// The next lane to hand out.
    next: AtomicUsize,
    /// Lanes of the open stage that have not ended.
    left: AtomicUsize,
    /// Nodes that this one still waits for.
    waits: AtomicUsize,
    /// Whether the lane of a host node is running, or has ended. Devices keep this themselves.
    taken: AtomicBool,
    extent: Extent,
}

/// How much a node goes over: see [`Stage`].
#[derive(Clone, Copy)]
struct Extent {
    size: usize,
    bytes: usize,
    table_bytes: Option<usize>,
}

/// What a node runs.
enum Body {
    /// A plan of the device.
    Device(Arc<dyn Plan>),
    /// One stage of one lane on the host.
    Host,
    /// One stage that ends as it opens.
    Nothing,
}

impl Node {
    fn new(of: usize, body: Body, extent: Extent) -> Node {
        Node {
            of,
            body,
            extent,
            stage: AtomicUsize::new(CLOSED),
            lanes: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            // Set when all nodes are there.
            waits: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
        }
    }

    fn waits_for(&self, other: &Node) -> bool {
        GRAPH[self.of].after.contains(&other.of)
    }
}

impl Extent {
    fn of(key: &ProvingKey, node: usize, work: Option<&Work>) -> Extent {
        let curve = key.curve();
        let scalars = |count: usize| count * curve.scalar_bytes();
        let domain = key.domain_size();
        let (size, bytes) = match work {
            Some(Work::Product { .. }) => {
                let (entries, bytes) = key.coefficients();
                (entries, bytes + scalars(key.wires() + 2 * domain))
            }
            Some(Work::Multiply { .. } | Work::MultiplySubtract { .. }) => {
                (domain, scalars(3 * domain))
            }
            Some(Work::Ntt { .. }) => (domain, scalars(domain)),
            Some(Work::Msm { .. }) => {
                let (points, group) = match node {
                    MSM_B2 => (key.wires(), Group::G2),
                    MSM_C => (key.wires() - 1 - key.public_count(), Group::G1),
                    MSM_H => (domain, Group::G1),
                    _ => (key.wires(), Group::G1),
                };
                (points, points * curve.point_bytes(group) + scalars(points))
            }
            Some(Work::Tables { .. }) | None => (0, 0),
        };
        let tables = |bases| key.device().tables_bytes(bases).unwrap_or(0);
        let table_bytes = match work {
            Some(Work::Msm { bases, .. }) => Some(tables(*bases)),
            _ => None,
        };
        Extent {
            size,
            bytes,
            table_bytes,
        }
    }
}

impl Body {
    fn stages(&self) -> usize {
        match self {
            Body::Device(plan) => plan.stages(),
            Body::Host | Body::Nothing => 1,
        }
    }
}

/// The witness's bytes, if it fits the key and each element is a scalar.
fn checked_scalars<'a>(key: &ProvingKey, witness: &'a Wtns) -> Result<&'a [u8], JobError> {
    if witness.curve() != key.curve() {
        return Err(JobError::Curve {
            expected: key.curve(),
            got: witness.curve(),
        });
    }
    if witness.len() != key.wires() {
        return Err(JobError::Length {
            expected: key.wires(),
            got: witness.len(),
        });
    }
    witness.check(0..witness.len())?;
    Ok(witness.elements())
}

const PRODUCT: usize = 0;
const MULTIPLY: usize = 1;
const SHIFT_A: usize = 2;
const SHIFT_B: usize = 3;
const SHIFT_C: usize = 4;
const QUOTIENT: usize = 5;
const MSM_H: usize = 6;
const MASK: usize = 7;
const INPUTS: usize = 8;
const MSM_B2: usize = 9;
const MSM_A: usize = 10;
const MSM_C: usize = 11;
const MSM_B1: usize = 12;
const ASSEMBLE_AB: usize = 13;
const PAIR_AB: usize = 14;
const ASSEMBLE_C: usize = 15;
const PAIR_C: usize = 16;
const EXPONENTIATE: usize = 17;
const NODES: usize = 18;

/// A node's name and what it waits for.
struct Edges {
    name: &'static str,
    after: &'static [usize],
}

/// The graph at the top of this file, indexed by the constants above.
const GRAPH: [Edges; NODES] = [
    edges("product", &[]),
    edges("multiply", &[PRODUCT]),
    edges("shift-a", &[MULTIPLY]),
    edges("shift-b", &[MULTIPLY]),
    edges("shift-c", &[MULTIPLY]),
    edges("quotient", &[SHIFT_A, SHIFT_B, SHIFT_C]),
    edges("msm-h", &[QUOTIENT]),
    edges("mask", &[]),
    edges("verify.inputs", &[]),
    edges("msm-b2", &[]),
    edges("msm-a", &[]),
    edges("msm-c", &[]),
    edges("msm-b1", &[]),
    edges("assemble.ab", &[MSM_A, MSM_B2, MASK]),
    edges("verify.pair-ab", &[INPUTS, ASSEMBLE_AB]),
    edges("assemble.c", &[MSM_H, MSM_B1, MSM_C, ASSEMBLE_AB]),
    edges("verify.pair-c", &[PAIR_AB, ASSEMBLE_C]),
    edges("verify.exponentiate", &[PAIR_C]),
];

const fn edges(name: &'static str, after: &'static [usize]) -> Edges {
    Edges { name, after }
}

/// No stage has this number: a task carries its stage in a byte.
const CLOSED: usize = usize::MAX;
