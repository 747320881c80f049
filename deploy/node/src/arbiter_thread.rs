//! The thread that owns the pool: it feeds events to the scheduler's [`Arbiter`] and carries its
//! actions out.
//!
//! All that is decided is decided in `caldera_scheduler`, which has no thread, no clock and no
//! memory barrier. Here are the queues around it. Events come in through the [`Inbox`], from the
//! RPC thread, the preparers and the workers; answers go out through the [`Outbox`], to the RPC
//! thread. Both are bounded queues that were made at start, and pushing to them takes neither a
//! lock nor memory, so nothing between a demand and an owner's word can wait for anybody.
//!
//! What follows from a command is carried out before the next one is taken in: an owner's word does not wait until a
//! crowd of others is answered. After every `COMMANDS_A_ROUND` of them the workers' answers are looked at, and the time. Notices that
//! find no room in the outbox wait here; more room for them is made when all that was decided is carried out, never before.
//!
//! A device says by a word that it is lost; that is looked at before anything else, and the unit is nobody's
//! from then on.
//!
//! The thread sleeps in a futex until somebody pushes something or the arbiter's own time comes.
//! While anybody holds a core it also looks every `DRAIN_EVERY` at the rings in which workers
//! leave the records of their quanta, and passes them on. It is this thread that feeds systemd's
//! [`Watchdog`], once it was given one, after what there was to do is done.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use caldera_kernels::Device;
use caldera_scheduler::arbiter::{
    Counters, DemandRefusal, Estimate, Outcome, TenantRefusal, TenantView,
};
use caldera_scheduler::mailbox::ArbiterSide;
use caldera_scheduler::pool::{Kind, Unit};
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::scenario::{ClassId, PolicyError};
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, TenantId, UnitId};
use crossbeam::queue::ArrayQueue;

use crate::board::{Board, RunningJob};
use crate::clock::{Clock, unix_time};
use crate::notify::Watchdog;
use crate::preparer::Preparations;
use crate::primitive::{AtomicUsize, Ordering, Thread, current, park, park_timeout, yield_now};
use crate::residence::Residence;
use crate::service::Wake;
use crate::telemetry::{Measurement, QuantumRecord};

/// What the arbiter is told.
pub enum Command {
    /// A job was submitted. Answered by [`Notice::Admitted`] or [`Notice::Refused`].
    Submitted {
        /// The job.
        job: JobId,
        /// Whose.
        tenant: TenantId,
        /// What it is expected to cost.
        work: Work,
        /// When it is due.
        deadline: Option<Nanos>,
        /// When its last byte was read from the socket.
        received: Nanos,
        /// It was admitted before, so it is not refused for its deadline.
        again: bool,
    },
    /// A job is laid out in memory and can run.
    Ready(Arc<RunningJob>),
    /// A job could not be laid out.
    Unprepared(JobId),
    /// A job is not wanted any more. Whoever sends this has ended it.
    Cancel(JobId),
    /// Another box may prove a job, unless this one would begin it within a time and be done before its deadline. Answered by
    /// [`Notice::Lent`].
    Lend {
        /// Which.
        job: JobId,
        /// Within which time.
        after: Nanos,
    },
    /// When would a job be finished? Answered by [`Notice::Estimated`].
    Estimate {
        /// Comes back with the answer.
        ticket: u64,
        /// Whose job.
        tenant: TenantId,
        /// What it would cost.
        work: Work,
    },
    /// A tenant declares a demand. Answered by [`Notice::Declared`].
    Declare {
        /// Comes back with the answer.
        ticket: u64,
        /// Whose demand.
        tenant: TenantId,
        /// How many units.
        units: u32,
        /// For how long, from receipt.
        span: Nanos,
        /// When its last byte was read from the socket.
        received: Nanos,
    },
    /// A tenant is there from now on. Whether it fits was looked at before.
    Join {
        /// Its number.
        tenant: TenantId,
        /// Its class.
        class: ClassId,
        /// How many of its jobs may be proved at once, if it is bounded.
        running: Option<u32>,
    },
    /// A preparer has computed for a tenant, on cores that are not of the pool.
    Charge {
        /// Who.
        tenant: TenantId,
        /// For how long.
        core: Nanos,
    },
    /// So much of a tenant's keys is on a device now.
    Resident {
        /// Whose keys.
        tenant: TenantId,
        /// On which device.
        unit: UnitId,
        /// How many bytes.
        bytes: u64,
    },
    /// The order to make room on a device is carried out, or cannot be.
    Evicted {
        /// On which device.
        unit: UnitId,
        /// Whether there is room now.
        made: bool,
    },
    /// Another policy. Answered by [`Notice::Adopted`]. The one command that allocates: an
    /// operator gives it, and seldom.
    Adopt(Box<Policy>),
    /// Who holds what? Answered by [`Notice::Seen`], with the same memory.
    Look {
        /// Comes back with the answer.
        ticket: u64,
        /// Is filled in. With room for all units and tenants it does not grow.
        view: Box<PoolView>,
    },
    /// From now on this is fed by the thread.
    Watch(Box<Watchdog>),
}

/// What the arbiter tells.
pub enum Notice {
    /// The job has a place.
    Admitted(JobId),
    /// The job has no place.
    Refused {
        /// The job.
        job: JobId,
        /// Why.
        reason: Refusal,
        /// When to try again, from now.
        retry_after: Option<Nanos>,
    },
    /// The job's witness is being read.
    Preparing(JobId),
    /// Workers ended the job.
    Ended {
        /// The job, which is out of its slot. To be handed to the reaper.
        job: Arc<RunningJob>,
        /// How it ended.
        outcome: Outcome,
        /// When.
        at: Nanos,
    },
    /// Answers [`Command::Lend`].
    Lent {
        /// Which.
        job: JobId,
        /// Whether it is out of its tenant's line now.
        lent: bool,
    },
    /// Answers [`Command::Estimate`].
    Estimated {
        /// Of the question.
        ticket: u64,
        /// The answer.
        estimate: Option<Estimate>,
        /// When it was given.
        at: Nanos,
    },
    /// Answers [`Command::Declare`]: how many units are declared now, and for how long
    /// from receipt.
    Declared {
        /// Of the question.
        ticket: u64,
        /// The answer.
        answer: Result<(u32, Nanos), DemandRefusal>,
    },
    /// Answers [`Command::Adopt`]. The policy that has had its day comes along, to be freed by
    /// somebody who has the time.
    Adopted(Result<Box<Policy>, PolicyError>),
    /// Answers [`Command::Look`].
    Seen {
        /// Of the question.
        ticket: u64,
        /// The answer.
        view: Box<PoolView>,
    },
    /// A worker has not answered for so long and is fenced off.
    Overrun(UnitId, Nanos),
    /// A fenced worker has answered.
    Returned(UnitId),
    /// A device is lost and is nobody's any more.
    Lost(UnitId),
}

/// Who holds what, at one moment.
#[derive(Debug, Default)]
pub struct PoolView {
    /// When.
    pub at: Nanos,
    /// All units.
    pub units: Vec<Unit>,
    /// All tenants.
    pub tenants: Vec<TenantView>,
    /// What the arbiter has counted.
    pub counters: Counters,
    /// Records of quanta that were lost.
    pub records_lost: u64,
}

/// A job that a worker has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The job.
    pub job: JobId,
    /// How.
    pub outcome: Outcome,
    /// When its last quantum ended.
    pub at: Nanos,
}

/// The way in.
pub struct Inbox {
    commands: ArrayQueue<Command>,
    ended: ArrayQueue<Ended>,
    thread: OnceLock<Thread>,
}

/// The way out.
pub struct Outbox {
    notices: ArrayQueue<Notice>,
    wake: Wake,
    /// Notices that found the queue full and wait in the arbiter's thread.
    waiting: AtomicUsize,
}

/// The arbiter before its thread starts.
pub struct ArbiterThread {
    arbiter: Arbiter,
    mailboxes: Vec<ArbiterSide<QuantumRecord>>,
    board: Arc<Board>,
    slots: Vec<Option<JobId>>,
    inbox: Arc<Inbox>,
    outbox: Arc<Outbox>,
    preparations: Arc<Preparations>,
    device: Arc<dyn Device>,
    residence: Arc<Residence>,
    /// Units whose loss the arbiter has been told.
    lost: Vec<UnitId>,
    measurements: rtrb::Producer<Measurement>,
    measurements_lost: u64,
    backlog: VecDeque<Notice>,
    /// How many notices come of one event at most.
    notices_max: usize,
    actions: Vec<Action>,
    clock: Clock,
    /// When the arbiter is told next what time of day it is.
    wall_at: Nanos,
    watchdog: Option<Box<Watchdog>>,
    told: bool,
}

/// What an arbiter's thread is made of.
pub struct Parts {
    /// The decider.
    pub arbiter: Arbiter,
    /// One for each unit, in order.
    pub mailboxes: Vec<ArbiterSide<QuantumRecord>>,
    /// Shared with the workers.
    pub board: Arc<Board>,
    /// Slots on the board.
    pub slots: usize,
    /// The way in.
    pub inbox: Arc<Inbox>,
    /// The way out.
    pub outbox: Arc<Outbox>,
    /// Jobs that are to be prepared.
    pub preparations: Arc<Preparations>,
    /// What computes: its members beside the host are the pool's devices, in their order.
    pub device: Arc<dyn Device>,
    /// Takes keys off devices.
    pub residence: Arc<Residence>,
    /// To the one who keeps the measurements.
    pub measurements: rtrb::Producer<Measurement>,
    /// The clock.
    pub clock: Clock,
}

impl Inbox {
    /// An inbox for so many jobs in slots.
    pub fn new(slots: usize) -> Inbox {
        Inbox {
            commands: ArrayQueue::new(COMMANDS_MAX),
            // Each job in a slot ends once, and leaves its slot only after that was read.
            ended: ArrayQueue::new(slots),
            thread: OnceLock::new(),
        }
    }

    /// Leaves a command and wakes the arbiter; gives it back if there is no room.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        self.commands.push(command)?;
        self.wake();
        Ok(())
    }

    /// As [`Inbox::send`], for threads that may wait until there is room.
    pub fn send_waiting(&self, mut command: Command) {
        while let Err(back) = self.send(command) {
            command = back;
            yield_now();
        }
    }

    /// Reports the end of a job that was in a slot.
    pub fn end(&self, ended: Ended) {
        let kept = self.ended.push(ended);
        assert!(
            kept.is_ok(),
            "a job ends once and there is room for each slot"
        );
        self.wake();
    }

    /// The oldest command.
    pub fn take_command(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// The oldest report of an ended job.
    pub fn take_ended(&self) -> Option<Ended> {
        self.ended.pop()
    }

    fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.ended.is_empty()
    }

    /// Wakes the arbiter. A system call at most; never waits.
    pub fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl Outbox {
    /// An outbox whose reader is woken by `wake`, which must not block.
    pub fn new(wake: Wake) -> Outbox {
        Outbox {
            notices: ArrayQueue::new(NOTICES_MAX),
            wake,
            waiting: AtomicUsize::new(0),
        }
    }

    /// The oldest notice.
    pub fn take(&self) -> Option<Notice> {
        self.notices.pop()
    }

    /// Whether notices wait for room, so that the arbiter should be woken after taking some.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

impl ArbiterThread {
    /// Lets the tenants join, in the order of their numbers.
    pub fn new(
        parts: Parts,
        tenants: &[(ClassId, Option<u32>)],
    ) -> Result<ArbiterThread, TenantRefusal> {
        let actions_max = parts.arbiter.actions_max();
        let mut thread = ArbiterThread {
            arbiter: parts.arbiter,
            mailboxes: parts.mailboxes,
            board: parts.board,
            slots: vec![None; parts.slots],
            inbox: parts.inbox,
            outbox: parts.outbox,
            preparations: parts.preparations,
            lost: Vec::with_capacity(parts.device.beside().len()),
            device: parts.device,
            residence: parts.residence,
            measurements: parts.measurements,
            measurements_lost: 0,
            backlog: VecDeque::with_capacity(NOTICES_MAX),
            notices_max: 0,
            actions: Vec::with_capacity(actions_max),
            clock: parts.clock,
            wall_at: Nanos::ZERO,
            watchdog: None,
            told: false,
        };
        thread.make_room();
        for (tenant, (class, running)) in (0..).map(TenantId).zip(tenants) {
            thread.join(tenant, *class, *running);
            for action in &thread.actions {
                if let Action::RefuseTenant { reason, .. } = action {
                    return Err(*reason);
                }
            }
            thread.carry_out();
        }
        Ok(thread)
    }

    /// Decides until the box stops. Called once, on the arbiter's own thread.
    pub fn run(mut self) {
        let first = self.inbox.thread.set(current());
        assert!(first.is_ok(), "an inbox belongs to one arbiter");
        while !self.board.stopping() {
            if !self.round() {
                self.sleep();
            }
        }
    }

    /// Takes in what has come, as far as a round goes, and does what follows from it; whether there is more. Called again and
    /// again by [`ArbiterThread::run`], if that runs.
    pub fn round(&mut self) -> bool {
        let more = self.take_in();
        self.pass_on();
        if std::mem::take(&mut self.told) {
            (self.outbox.wake)();
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.feed(self.clock.now());
        }
        more
    }

    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        self.arbiter.handle(event, now, &mut self.actions);
    }

    /// Tells of devices that are lost, each once.
    fn look_for_losses(&mut self) {
        let devices = self.arbiter.pool().range(Kind::Device);
        for (member, index) in (1..).zip(devices) {
            let unit = self.arbiter.pool().units()[index].id();
            if self.device.is_lost(member) && !self.lost.contains(&unit) {
                self.lost.push(unit);
                self.handle(Event::Lost { unit });
                self.tell(Notice::Lost(unit));
            }
        }
    }

    /// Carries out what follows from each event before it takes in the next; whether there is more than a round takes.
    fn take_in(&mut self) -> bool {
        self.look_for_losses();
        self.carry_out();
        while self.has_room()
            && let Some(Ended { job, outcome, at }) = self.inbox.take_ended()
        {
            self.handle(Event::Finished { job, outcome, at });
            if let Some(job) = self.clear_slot(job) {
                self.tell(Notice::Ended { job, outcome, at });
            }
            self.carry_out();
        }
        for _ in 0..COMMANDS_A_ROUND {
            if !self.has_room() {
                break;
            }
            let Some(command) = self.inbox.take_command() else {
                break;
            };
            self.obey(command);
            self.carry_out();
        }
        for unit in 0..self.mailboxes.len() {
            let now = self.clock.now();
            while self.has_room()
                && let Some(event) = self.mailboxes[unit].poll(now)
            {
                self.handle(event);
                self.carry_out();
            }
        }
        let now = self.clock.now();
        if now >= self.wall_at {
            // Somebody may set the clock of the day. While it matters the arbiter ticks, so this is
            // looked at; while it sleeps the time of day changes nothing.
            self.wall_at = now.plus(WALL_EVERY);
            let unix = u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX);
            self.handle(Event::WallClock { unix: Nanos(unix) });
            self.carry_out();
        }
        if self
            .arbiter
            .wake_at()
            .is_some_and(|at| at <= self.clock.now())
        {
            self.handle(Event::Tick);
            self.carry_out();
        }
        // Without room something may have been left wherever it was looked.
        !self.inbox.is_empty() || !self.has_room()
    }

    /// Whether notices of another event can be kept without more memory, and of what happens in a round besides.
    fn has_room(&self) -> bool {
        self.backlog.capacity() - self.backlog.len() >= ROOM * self.notices_max
    }

    /// Sees to it that there is memory for what an event brings. Allocates where it was too little.
    fn make_room(&mut self) {
        let actions = self.arbiter.actions_max();
        // Whoever asks is answered with one notice, and a job that ends is one.
        self.notices_max = actions + 1;
        // Nothing is in it between events.
        self.actions.reserve(actions);
        if !self.has_room() {
            self.backlog.reserve(2 * ROOM * self.notices_max);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Submitted {
                job,
                tenant,
                work,
                deadline,
                received,
                again: false,
            } => self.handle(Event::Submitted {
                job,
                tenant,
                work,
                deadline,
                received,
            }),
            Command::Submitted {
                job,
                tenant,
                work,
                deadline,
                received,
                again: true,
            } => self.handle(Event::Resubmitted {
                job,
                tenant,
                work,
                deadline,
                received,
            }),
            Command::Ready(job) => self.seat(job),
            Command::Unprepared(job) => self.handle(Event::Finished {
                job,
                outcome: Outcome::Failed,
                at: self.clock.now(),
            }),
            Command::Cancel(job) => {
                self.handle(Event::Cancelled { job });
                // The one who cancelled holds the job and hands it to the reaper.
                drop(self.clear_slot(job));
            }
            Command::Lend { job, after } => {
                let now = self.clock.now();
                let lent = self.arbiter.lend(job, after, now, &mut self.actions);
                self.tell(Notice::Lent { job, lent });
            }
            Command::Estimate {
                ticket,
                tenant,
                work,
            } => {
                let at = self.clock.now();
                let estimate = self.arbiter.estimate(tenant, work, None, at);
                self.tell(Notice::Estimated {
                    ticket,
                    estimate,
                    at,
                });
            }
            Command::Declare {
                ticket,
                tenant,
                units,
                span,
                received,
            } => self.handle(Event::Declared {
                ticket,
                tenant,
                units,
                span,
                received,
            }),
            Command::Resident {
                tenant,
                unit,
                bytes,
            } => self.handle(Event::Resident {
                tenant,
                unit,
                bytes,
            }),
            Command::Evicted { unit, made } => self.handle(Event::Evicted { unit, made }),
            Command::Join {
                tenant,
                class,
                running,
            } => self.join(tenant, class, running),
            Command::Charge { tenant, core } => self.handle(Event::Charged { tenant, core }),
            Command::Adopt(policy) => {
                let now = self.clock.now();
                let old = self.arbiter.adopt(*policy, now);
                self.make_room();
                self.handle(Event::Tick);
                self.tell(Notice::Adopted(old.map(Box::new)));
            }
            Command::Look { ticket, mut view } => {
                // Who asks is also shown what was measured until now.
                self.drain();
                self.look(&mut view);
                self.tell(Notice::Seen { ticket, view });
            }
            Command::Watch(watchdog) => self.watchdog = Some(watchdog),
        }
    }

    fn join(&mut self, tenant: TenantId, class: ClassId, running: Option<u32>) {
        self.handle(Event::TenantJoined { tenant, class });
        if let Some(running) = running {
            self.handle(Event::Bounded { tenant, running });
        }
    }

    /// Gives a prepared job a slot, unless it was cancelled meanwhile.
    fn seat(&mut self, job: Arc<RunningJob>) {
        if !job.wanted() {
            return;
        }
        let id = job.id();
        let Some(slot) = self.slots.iter().position(Option::is_none) else {
            // There are twice as many slots as jobs that may be prepared; only jobs that were
            // cancelled while they were prepared, and not yet cleared, can fill the rest.
            if job.end() {
                let (outcome, at) = (Outcome::Failed, self.clock.now());
                self.handle(Event::Finished {
                    job: id,
                    outcome,
                    at,
                });
                self.tell(Notice::Ended { job, outcome, at });
            }
            return;
        };
        self.slots[slot] = Some(id);
        let before = self.board.fill(slot, Some(job));
        assert!(before.is_none(), "a free slot is empty");
        self.handle(Event::Ready { job: id });
    }

    fn clear_slot(&mut self, job: JobId) -> Option<Arc<RunningJob>> {
        let slot = self.slots.iter().position(|held| *held == Some(job))?;
        self.slots[slot] = None;
        self.board.fill(slot, None)
    }

    fn look(&mut self, view: &mut PoolView) {
        view.at = self.clock.now();
        view.units.clear();
        view.units
            .extend(self.arbiter.pool().units().iter().cloned());
        view.tenants.clear();
        view.tenants.extend(self.arbiter.tenants());
        view.counters = self.arbiter.counters();
        let lost: u64 = self.mailboxes.iter().map(ArbiterSide::lost).sum();
        view.records_lost = lost + self.measurements_lost;
    }

    fn carry_out(&mut self) {
        if self
            .actions
            .iter()
            .any(|it| matches!(it, Action::Own { .. }))
        {
            self.handle(Event::Decided);
        }
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Admit { job } => self.tell(Notice::Admitted(job)),
            Action::Refuse {
                job,
                reason,
                retry_after,
            } => self.tell(Notice::Refused {
                job,
                reason,
                retry_after,
            }),
            Action::Declare {
                ticket,
                units,
                span,
                ..
            } => self.tell(Notice::Declared {
                ticket,
                answer: Ok((units, span)),
            }),
            Action::RefuseDemand { ticket, reason, .. } => self.tell(Notice::Declared {
                ticket,
                answer: Err(reason),
            }),
            Action::Prepare { job } => {
                self.preparations.order(job);
                self.tell(Notice::Preparing(job));
            }
            Action::RunOrder { tenant } => {
                let order = self.arbiter.run_order(tenant);
                let slots = &self.slots;
                let slot = |job: &JobId| slots.iter().position(|held| *held == Some(*job));
                self.board.publish(tenant, order.iter().filter_map(slot));
                self.board.wake(tenant, self.mailboxes.len());
                self.board.wake_devices(tenant);
            }
            Action::Own { unit, ownership } => {
                let index = usize::from(unit.0);
                self.mailboxes[index].publish(ownership);
                self.board.reseat(index, ownership.owner);
            }
            Action::Reallocated(reallocation) => {
                self.measure(Measurement::Reallocation(reallocation));
            }
            Action::Overrun { unit, silent } => self.tell(Notice::Overrun(unit, silent)),
            Action::Returned { unit } => self.tell(Notice::Returned(unit)),
            Action::RefuseTenant { tenant, reason } => {
                tracing::error!(%tenant, %reason, "a tenant cannot join");
            }
            Action::Evict { unit, owner, .. } => {
                self.residence
                    .evict(unit, owner, self.arbiter.victims(unit));
            }
            // Tenants never leave: of one that is removed the jobs are cancelled.
            Action::Drop { .. } => {}
        }
    }

    /// Passes records of quanta on.
    fn drain(&mut self) {
        for unit in 0..self.mailboxes.len() {
            while let Some(record) = self.mailboxes[unit].record() {
                self.measure(Measurement::Quantum(record));
            }
        }
    }

    /// Passes records of quanta on, and notices that found no room before.
    fn pass_on(&mut self) {
        self.drain();
        while let Some(notice) = self.backlog.pop_front() {
            if let Err(back) = self.outbox.notices.push(notice) {
                self.backlog.push_front(back);
                break;
            }
            self.told = true;
        }
        let waiting = self.backlog.len();
        self.outbox.waiting.store(waiting, Ordering::Relaxed);
        // Whoever should read them may wait for room among the commands, so they are not left standing.
        self.make_room();
    }

    fn measure(&mut self, measurement: Measurement) {
        self.measurements_lost += u64::from(self.measurements.push(measurement).is_err());
    }

    fn tell(&mut self, notice: Notice) {
        self.told = true;
        if !self.backlog.is_empty() {
            self.backlog.push_back(notice);
        } else if let Err(back) = self.outbox.notices.push(notice) {
            self.backlog.push_back(back);
        }
    }

    fn sleep(&self) {
        let held = |unit: &Unit| unit.owner().is_some();
        let drain = self
            .arbiter
            .pool()
            .units()
            .iter()
            .any(held)
            .then_some(DRAIN_EVERY);
        let now = self.clock.now();
        let until = |at: Nanos| Duration::from_nanos(at.since(now).0);
        let own = self.arbiter.wake_at().map(until);
        let fed = self.watchdog.as_ref().map(|it| until(it.due()));
        match [own, drain, fed].into_iter().flatten().min() {
            Some(span) => park_timeout(span),
            None => park(),
        }
    }
}

/// A tenant may send as fast as it likes; what does not fit is refused as a full queue.
const COMMANDS_MAX: usize = 8_192;
const NOTICES_MAX: usize = 8_192;
/// So many commands are taken in before workers' answers and the time are looked at again.
const COMMANDS_A_ROUND: usize = 64;
/// Beside a command a round may have a loss, the time of day and a tick, each an event.
const ROOM: usize = 4;
/// How late a window of the day may begin, and how soon a clock that is set is believed.
const WALL_EVERY: Nanos = Nanos::from_secs(1);
/// A worker's ring holds the quanta of this long many times over.
const DRAIN_EVERY: Duration = Duration::from_millis(50);
