//! A worker: one thread on one core that runs one quantum after another for whoever owns it.
//!
//! Between two quanta it reads its owner's word. As long as that says the same, it goes on with
//! the lane that it has, whose buckets are warm in its cache, unless a job of the tenant that is
//! due earlier has something to run. When the owner has changed it puts its lane back into the
//! job's queue, where another worker of the old owner finds it, and takes a task of the new
//! owner's first job that has one. So a core changes hands at any quantum boundary and nothing is
//! lost but the warmth of a cache.
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

use caldera_prover::groth16::{Step, Task};
use caldera_scheduler::arbiter::Outcome;
use caldera_scheduler::mailbox::{Found, WorkerSide};
use caldera_scheduler::{Nanos, TenantId, UnitId};

use crate::arbiter_thread::{Ended, Inbox};
use crate::board::{Board, RunningJob};
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
            let drained = self.clock.now();
            let next = self.keep(held.take(), owner).or_else(|| self.take(owner?));
            match next {
                Some((job, task)) => held = self.quantum(job, task, drained),
                None => self.rest(owner, drained),
            }
        }
    }

    fn thread_time(&self) -> Nanos {
        if self.timed {
            thread_time()
        } else {
            Nanos::ZERO
        }
    }

    fn index(&self) -> usize {
        usize::from(self.unit.0)
    }

    /// What is in hand, if it is still what this worker should run; otherwise it is put back.
    fn keep(&self, held: Option<Held>, owner: Option<TenantId>) -> Option<Held> {
        let (job, task) = held?;
        let stays = owner == Some(job.tenant())
            && self.board.each_job(job.tenant(), |other| {
                if Arc::ptr_eq(other, &job) {
                    return Some(true);
                }
                other.has_ready().then_some(false)
            }) != Some(false);
        if stays {
            return Some((job, task));
        }
        job.offer(task);
        self.board.wake(job.tenant(), 1);
        None
    }

    fn take(&self, owner: TenantId) -> Option<Held> {
        self.board
            .each_job(owner, |job| job.take().map(|task| (Arc::clone(job), task)))
    }

    /// Runs one quantum. What is still to be done of its lane comes back.
    fn quantum(&mut self, job: Arc<RunningJob>, task: Task, drained: Nanos) -> Option<Held> {
        let start = self.clock.now();
        let changed = self.answer(drained, start, Found::Work);
        self.board.note(self.index(), job.id());
        let kernel = job.job().kernel(task);
        let stage = job.job().stage(task);
        let ran = self.thread_time();
        let ended = Cell::new(None);
        let mut count = || {
            let cpu = self.thread_time().since(ran);
            let end = self.clock.now();
            job.count(self.index(), kernel, start, end);
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
            });
            ended.set(Some(end));
        };
        let mut opened = 0;
        // Counted before its end is known to others: what a job is said to have cost when it has
        // ended must hold what all workers did for it.
        let step = catch_unwind(AssertUnwindSafe(|| {
            job.job().run_counted(task, &mut count, &mut |task| {
                job.offer(task);
                opened += 1;
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
        // A worker whose lane has ended takes one of the opened tasks itself.
        let others = if again { opened } else { opened.max(1) - 1 };
        self.board.wake(job.tenant(), others);
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
            let work = |tenant| board.each_job(tenant, |job| job.has_ready().then_some(()));
            mailbox.is_new() || owner.and_then(work).is_some()
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
