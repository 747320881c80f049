//! A worker: one thread on one core that runs one quantum after another for whoever owns it; or the thread
//! on the host that does so for a device and waits for its fences.
//!
//! Between two quanta it reads its owner's word. As long as that says the same, it goes on with
//! the lane that it has, whose buckets are warm in its cache, unless a job of the tenant that is
//! due earlier has something to run. When the owner has changed it puts its lane back into the
//! job's queue, where another worker of the old owner finds it, and takes a task of the new
//! owner's first job that has one. So a core changes hands at any quantum boundary and nothing is
//! lost but the warmth of a cache.
//!
//! A core's worker says before each quantum which devices its tenant holds, by one word of each: work that
//! begins with that quantum may go there. It then lies in the device's place (see `board`) until the
//! device's worker takes it. That worker's owner comes first; where it has nothing for the device, work that somebody else has begun
//! there goes on as a *guest*, a quantum at a time, so that it does not keep its key on a device that it may never get
//! back. The arbiter is told that nothing was found, and may lend the device. A device that is lost answers nothing more: its worker puts back what it has in
//! hand, and the arbiter takes the unit away.
//!
//! Nothing here blocks but the quantum itself and [`Board::rest`], and nothing allocates: the
//! queues were sized by `Job::tasks_max`, records go into a ring, and the reaper holds each job
//! until the last worker has let go of it.
//!
//! A panic within a quantum fails that job and no other: it is caught, the job is marked, and the
//! worker goes on. What the quantum left behind belongs to the job alone and is thrown away.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use caldera_kernels::{Device, forfeited};
use caldera_prover::groth16::{Step, Task};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Found, WorkerSide};
use caldera_scheduler::{JobId, Nanos, TenantId, UnitId};

use crate::arbiter_thread::{Ended, Inbox};
use crate::board::{Board, CORES, RunningJob};
use crate::clock::{Clock, thread_time};
use crate::telemetry::QuantumRecord;

/// One worker, before its thread starts.
pub struct Worker {
    unit: UnitId,
    board: Arc<Board>,
    mailbox: WorkerSide<QuantumRecord>,
    arbiter: Arc<Inbox>,
    clock: Clock,
    /// Whether records say how long the thread itself ran.
    timed: bool,
    /// What a device's worker asks whether that is lost.
    device: Option<Arc<dyn Device>>,
    /// Whose job has a task that nobody was woken for, because this worker was about to take it, and which job.
    spared: Option<(TenantId, JobId)>,
}

/// A task that a worker has in hand.
type Held = (Arc<RunningJob>, Task);

impl Worker {
    /// A worker of that number.
    pub fn new(
        unit: UnitId,
        board: Arc<Board>,
        mailbox: WorkerSide<QuantumRecord>,
        arbiter: Arc<Inbox>,
        clock: Clock,
    ) -> Worker {
        Worker {
            unit,
            board,
            mailbox,
            arbiter,
            clock,
            timed: false,
            device: None,
            spared: None,
        }
    }

    /// The same for a member of the device, the one whose place the worker has.
    pub fn of_device(self, device: Arc<dyn Device>) -> Worker {
        Worker {
            device: Some(device),
            ..self
        }
    }

    /// The same worker, whose records also say how long its thread itself ran, for profiles.
    pub fn timed(self, timed: bool) -> Worker {
        Worker { timed, ..self }
    }

    /// Works until the box stops. Called once, on the worker's own thread.
    pub fn run(mut self) {
        self.board.sit(self.index());
        let mut held = None;
        while !self.board.stopping() {
            let owner = self.mailbox.owner().owner;
            // After that, for whoever has been told that the unit is nobody's because the device is lost must
            // not answer: the answer would bring it back into the pool.
            if self.is_lost() {
                self.give_up(held.take());
                continue;
            }
            let drained = self.clock.now();
            let next = self
                .keep(held.take(), owner)
                .or_else(|| self.take(owner?))
                .or_else(|| self.take_guest(owner));
            // It was about to take it, and then the owner changed, or a job that is due earlier came.
            if let Some((tenant, job)) = self.spared.take()
                && next.as_ref().is_none_or(|(next, _)| next.id() != job)
            {
                self.board.wake(tenant, 1);
            }
            match next {
                Some((job, task)) => held = self.quantum(job, task, owner, drained),
                None => self.rest(owner, drained),
            }
        }
    }

    fn place(&self) -> usize {
        self.board.place(self.index())
    }

    fn is_lost(&self) -> bool {
        let device = self.device.as_ref();
        device.is_some_and(|device| device.is_lost(self.place()))
    }

    /// Nothing more can be done here: what is in hand goes to the tenant's cores, once the arbiter has
    /// seen why.
    fn give_up(&self, held: Option<Held>) {
        if let Some((job, task)) = held {
            let place = job.offer(task);
            self.board.wake_place(job.tenant(), place);
        }
        self.arbiter.wake();
        self.board.rest(self.index(), || false);
    }

    fn index(&self) -> usize {
        usize::from(self.unit.0)
    }

    /// What is in hand, if it is still what this worker should run; otherwise it is put back.
    fn keep(&self, held: Option<Held>, owner: Option<TenantId>) -> Option<Held> {
        let (job, task) = held?;
        let stays = |owner| {
            let first = self.board.each_job(owner, |other| {
                if Arc::ptr_eq(other, &job) {
                    return Some(true);
                }
                other.has_ready(self.place()).then_some(false)
            });
            // A guest stays where the owner has nothing.
            first != Some(false)
        };
        let may_stay =
            owner == Some(job.tenant()) || guests_place(&self.board, self.index(), owner).is_some();
        if may_stay && owner.is_some_and(stays) {
            return Some((job, task));
        }
        let place = job.offer(task);
        self.board.wake_place(job.tenant(), place);
        None
    }

    fn take(&self, owner: TenantId) -> Option<Held> {
        let from = |place| {
            let take = |job: &Arc<RunningJob>| Some((Arc::clone(job), job.take(place)?));
            self.board.each_job(owner, take)
        };
        self.board.places_of(self.index(), owner).find_map(from)
    }

    /// A task of whoever has begun something on this worker's device.
    fn take_guest(&self, owner: Option<TenantId>) -> Option<Held> {
        let place = guests_place(&self.board, self.index(), owner)?;
        let take = |job: &Arc<RunningJob>| Some((Arc::clone(job), job.take(place)?));
        self.board.each_job_of_all(take)
    }

    /// Runs one quantum. What is still to be done of its lane comes back.
    fn quantum(
        &mut self,
        job: Arc<RunningJob>,
        task: Task,
        owner: Option<TenantId>,
        drained: Nanos,
    ) -> Option<Held> {
        let start = self.clock.now();
        let found = match owner == Some(job.tenant()) {
            true => Found::Work,
            false => Found::Nothing,
        };
        let changed = self.answer(drained, start, found);
        self.board.note(self.index(), job.id());
        if self.board.has_devices() {
            job.job().allow(task, self.board.places(job.tenant()));
        }
        let kernel = job.job().kernel(task);
        let stage = job.job().stage(task);
        let (index, place) = (self.index(), self.place());
        let board = &self.board;
        // A device's worker waits most of the time, and then the core is somebody else's.
        let waits = self.device.is_some();
        let timed = self.timed || waits;
        let thread_time = || if timed { thread_time() } else { Nanos::ZERO };
        let ran = thread_time();
        let ended = Cell::new(None);
        let mut count = || {
            let cpu = thread_time().since(ran);
            let end = self.clock.now();
            let core = if waits { cpu } else { end.since(start) };
            let void = forfeited().as_nanos();
            let void = Nanos(u64::try_from(void).unwrap_or(u64::MAX));
            job.count(index, kernel, [start, end], [core, void]);
            self.mailbox.record(QuantumRecord {
                unit: self.unit,
                tenant: job.tenant(),
                job: job.id(),
                kernel,
                stage: u16::try_from(stage).unwrap_or(u16::MAX),
                lane: task.lane(),
                start,
                span: end.since(start),
                cpu,
                void,
            });
            ended.set(Some(end));
        };
        let mut opened = 0;
        // Counted before its end is known to others: what a job is said to have cost when it has
        // ended must hold what all workers did for it.
        let step = catch_unwind(AssertUnwindSafe(|| {
            job.job()
                .run_counted(task, &mut count, &mut |task| match job.offer(task) {
                    // What a device's worker opens is told to all: the device may be somebody else's by now.
                    own if own == place && place == CORES => opened += 1,
                    other => board.wake_place(job.tenant(), other),
                })
        }));
        if ended.get().is_none() {
            count();
        }
        let end = ended.get().unwrap_or(start);

        let again = match step {
            Ok(Ok(Step::Again)) => true,
            Ok(Ok(Step::LaneEnded)) => false,
            Ok(Ok(Step::Finished)) => self.end(&job, Outcome::Proved, end),
            Ok(Err(_)) => self.end(&job, Outcome::Failed, end),
            Err(_) => {
                job.mark_panicked();
                // Whatever is still out of this job comes back at once instead of computing on.
                job.job().cancel();
                self.end(&job, Outcome::Failed, end)
            }
        };
        // A worker whose lane has ended takes one of the opened tasks itself, if it still can.
        let spares = !again && opened > 0;
        self.spared = spares.then(|| (job.tenant(), job.id()));
        if place == CORES {
            self.board.wake(job.tenant(), opened - usize::from(spares));
        }
        if changed {
            self.arbiter.wake();
        }
        again.then_some((job, task)).filter(|(job, _)| job.wanted())
    }

    /// Reports the end of a job, once for all workers. There is nothing to go on with: false.
    fn end(&self, job: &Arc<RunningJob>, outcome: Outcome, at: Nanos) -> bool {
        if job.end() {
            self.arbiter.end(Ended {
                job: job.id(),
                outcome,
                at,
            });
        }
        false
    }

    fn rest(&mut self, owner: Option<TenantId>, drained: Nanos) {
        let found = match owner {
            Some(_) => Found::Nothing,
            None => Found::NoOwner,
        };
        if self.answer(drained, self.clock.now(), found) {
            self.arbiter.wake();
        }
        let index = self.index();
        let Worker { board, mailbox, .. } = self;
        board.rest(index, || {
            let owner = mailbox.owner().owner;
            let work = |tenant| {
                let at = |place| {
                    let ready = |job: &Arc<RunningJob>| job.has_ready(place).then_some(());
                    board.each_job(tenant, ready)
                };
                board.places_of(index, tenant).find_map(at)
            };
            let guest = |place| {
                let ready = |job: &Arc<RunningJob>| job.has_ready(place).then_some(());
                board.each_job_of_all(ready)
            };
            mailbox.is_new()
                || owner.and_then(work).is_some()
                || guests_place(board, index, owner).and_then(guest).is_some()
        });
    }

    /// Tells the arbiter what was found, if that is news; true if so.
    fn answer(&mut self, drained: Nanos, first: Nanos, found: Found) -> bool {
        if !self.mailbox.is_new() {
            return self.mailbox.find(found);
        }
        self.mailbox.enter(drained, first, found);
        true
    }
}

/// The place of which a worker runs what anybody has begun, when its owner has nothing: a device's own, while somebody owns it.
fn guests_place(board: &Board, worker: usize, owner: Option<TenantId>) -> Option<usize> {
    let place = board.place(worker);
    (owner.is_some() && place != CORES).then_some(place)
}
