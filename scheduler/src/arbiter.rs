//! One box as one state machine: `handle(event, now) -> actions`.
//!
//! The arbiter knows the tenants, their unfinished jobs and the units, and after each event that
//! could change anything it asks `matching` who should own what. The differences to the present
//! become [`Action::Own`]. It never waits and never reads a clock: the node's arbiter thread
//! feeds it and carries its actions out, a test feeds it invented time.
//!
//! ```text
//! demand (t0) -> Submitted -> handle: detected ... decided -> Own -> worker: drained, first -> Entered -> Reallocated
//! ```
//!
//! **Demand** is what the prepared and preparing jobs of a tenant can use at once, cut to its
//! ceiling. A unit whose worker has found nothing to run for `idle_patience` is *lent*: while others
//! want more than there is, its tenant counts as wanting only what it keeps busy, for one slice, or
//! until a job of it becomes ready or a worker runs again. So a job whose witness is slow to load
//! holds no core that another could use.
//!
//! Demand may be **declared**: a tenant announces that it will want so many units for a span, within
//! its ceiling. It counts as wanting them from then on, so they are there before its jobs are. They
//! wait for work as long as its class says (`declared_patience`) and are then lent like others.
//!
//! Demand is **measured** too (see `demand`): a tenant at a peak counts with its class's larger value.
//! The value may also be that of an off-peak window, once [`Event::WallClock`] has told what time
//! of day it is; neither changes anything while there is enough for all.
//!
//! **Deadlines.** A job that says when it is due is refused if it could not be finished by then at
//! the rate that its tenant can count on: what it would have if nobody else's demand changed, or
//! its guarantee, or a slice after each ageing bound. Counted is what is prepared already and cannot be overtaken, and
//! a job that would make one late that was admitted with a deadline is refused too. What is admitted runs to its end, late or not.
//!
//! **Kinds.** Cores and devices are units alike: demand, lending, debts and hand-overs are counted for
//! each kind by itself, and `matching::dominant` couples them. Ageing, declarations, debts of jobs and
//! deadlines are about cores, for every job can run on those. Two kinds of bytes are divided
//! with them. Into its part of *host memory* a tenant's witnesses are prepared; none is ever taken
//! away, and a tenant that has none for as long as its class may wait gets what its next job needs
//! before all others. *Device memory* holds tables: when the owner of a device lacks room for its
//! own, others are asked to let go of theirs ([`Action::Evict`]), where that would be enough. There is one order
//! for a device at a time, and the same one is not given twice.
//!
//! **Turns.** While more is wanted than there is, each tenant's debt is carried from event to event
//! (see `matching`), and [`Arbiter::wake_at`] asks for a tick eight times a slice to look whether
//! somebody's turn has come. A debt is kept within 16 slices either way, so that no tenant can
//! save up for a siege; what is owed to a tenant is forgotten when it wants nothing.
//!
//! **Ageing.** A tenant with a ready job and no unit since its class's bound goes before all
//! guarantees, for one unit and one slice.
//!
//! **A hand-over** is complete when the worker answers with the epoch. One that is overtaken by a
//! newer decision before that is counted and makes no record. A worker that does not answer within
//! the overrun time is *fenced*: its unit counts for nobody until it answers, and what its owner was
//! promised comes from elsewhere, with the time still running from the first t0; if there is no
//! elsewhere, that is a missed reallocation, at once. So is a unit that says that it is *lost*, at once.
//!
//! **Bounds.** Units, tenants and jobs are bounded by the pool and the policy; all memory is set
//! aside by [`Arbiter::new`] and when a tenant joins. Otherwise `handle` does not allocate, if
//! `actions` has room for [`Arbiter::actions_max`].
//!
//! A clock that goes back counts as standing still.

use thiserror::Error;

use crate::demand::{First, Meter};
use crate::eviction::Victim;
use crate::mailbox::{Entry, Found, Ownership};
use crate::matching::dominant::{BYTES, ByteClaim, Bytes, Capacity, Demands, Division, Places};
use crate::matching::{Claim, Rate, Seat};
use crate::pool::{Holder, KINDS, Kind, Pool, Unit};
use crate::queue::{Due, JobState, Queue, Refusal, Work};
use crate::scenario::{
    CLASSES_MAX, Class, ClassId, PREPARED_MAX, Policy, PolicyError, Share, TimeOfDay,
};
use crate::{Epoch, JobId, Nanos, TenantId, UnitId};

/// Something that happened outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A tenant may submit from now on.
    TenantJoined {
        /// Who. Refused with [`Action::RefuseTenant`] if it is there already.
        tenant: TenantId,
        /// Its scenario class.
        class: ClassId,
    },
    /// From now on no more than so many jobs of a tenant are prepared or run at once, and never more than
    /// its class allows. Those beyond it wait in its queue, and whoever wants its units has them.
    Bounded {
        /// Who.
        tenant: TenantId,
        /// So many; none is taken for one.
        running: u32,
    },
    /// So much core time has gone to a tenant on cores that are not of the pool: it counts as had, so that who
    /// has much computed there gets as much less here while others want it.
    Charged {
        /// Who.
        tenant: TenantId,
        /// How much.
        core: Nanos,
    },
    /// A tenant is gone; its unfinished jobs are dropped, each with [`Action::Drop`].
    TenantLeft {
        /// Who.
        tenant: TenantId,
    },
    /// A job has been asked for. Answered at once by [`Action::Admit`] or [`Action::Refuse`].
    Submitted {
        /// The job.
        job: JobId,
        /// Whose.
        tenant: TenantId,
        /// What it is expected to cost.
        work: Work,
        /// When it should be finished; `None` lets the class's implied deadline order it.
        deadline: Option<Nanos>,
        /// When the demand reached the box (the kernel's receive stamp): where the time of a
        /// reallocation begins.
        received: Nanos,
    },
    /// A job is asked for that was admitted before: the box has been started again, or it was elsewhere, or it is begun
    /// anew. As [`Event::Submitted`], but it is not refused for its deadline, which was far enough away when it was
    /// admitted. What it costs counts for those that come after it.
    Resubmitted {
        /// The job.
        job: JobId,
        /// Whose.
        tenant: TenantId,
        /// What it is expected to cost.
        work: Work,
        /// When it should be finished.
        deadline: Option<Nanos>,
        /// When it reached the box first: it stands where it stood.
        received: Nanos,
    },
    /// A job that was to be prepared can run.
    Ready {
        /// The job.
        job: JobId,
    },
    /// A job has ended, well or badly, from whatever state. Frees its place.
    Finished {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// When its last quantum ended.
        at: Nanos,
    },
    /// A job is no longer wanted, from whatever state. Quanta of it that are under way end as
    /// they will; the node starts no new ones.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// A tenant announces that it will want so many units for so long, whatever jobs it has. Takes
    /// the place of what it announced before; none withdraws that. Answered at once by
    /// [`Action::Declare`] or [`Action::RefuseDemand`].
    Declared {
        /// Comes back with the answer.
        ticket: u64,
        /// Who.
        tenant: TenantId,
        /// How many cores.
        units: u32,
        /// For how long, from receipt.
        span: Nanos,
        /// When the announcement reached the box: where the time of a reallocation begins.
        received: Nanos,
    },
    /// So many bytes of a tenant's keys, with their tables, are on a device now; none, if they are gone. A tenant
    /// that leaves is taken to have none.
    Resident {
        /// Whose tables.
        tenant: TenantId,
        /// On which device.
        unit: UnitId,
        /// How many bytes.
        bytes: u64,
    },
    /// The answer to [`Action::Evict`], when all that has changed by it has been told.
    Evicted {
        /// On which device.
        unit: UnitId,
        /// Whether there was room made. If not, nothing has gone.
        made: bool,
    },
    /// It is this time of day, and date: the Unix time at `now`. Off-peak windows apply from the
    /// first of these on; another is needed only when the clock of the day is set.
    WallClock {
        /// Since 1970 in UTC.
        unix: Nanos,
    },
    /// The actions of the calls before this one are about to be carried out: `now` is the time
    /// at which the decision was made. Send it after `handle` returns and before the owner words
    /// are published; without it a decision is taken to cost no time.
    Decided,
    /// A worker has answered to a hand-over. [`crate::mailbox::ArbiterSide::poll`] makes these.
    Entered {
        /// Which unit.
        unit: UnitId,
        /// Its answer.
        entry: Entry,
    },
    /// A worker that had something to run finds nothing more.
    Idle {
        /// Which unit.
        unit: UnitId,
        /// In which epoch.
        epoch: Epoch,
        /// Since when.
        at: Nanos,
    },
    /// A worker that had found nothing runs again, in the same epoch.
    Working {
        /// Which unit.
        unit: UnitId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// What a unit computes with is gone, and its worker answers nothing until it is back: a device
    /// whose driver has given it up. The unit is fenced off at once, whoever owns it.
    Lost {
        /// Which unit.
        unit: UnitId,
    },
    /// Time has passed: see [`Arbiter::wake_at`].
    Tick,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a proof.
    Proved,
    /// With an error.
    Failed,
}

/// Something to be done outside, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The job has a place.
    Admit {
        /// The job.
        job: JobId,
    },
    /// The job has no place; nothing is kept of it.
    Refuse {
        /// The job.
        job: JobId,
        /// Why.
        reason: Refusal,
        /// When it is worth trying again, from now; `None` when trying again cannot help.
        retry_after: Option<Nanos>,
    },
    /// The tenant cannot join.
    RefuseTenant {
        /// Who.
        tenant: TenantId,
        /// Why.
        reason: TenantRefusal,
    },
    /// A demand is declared, or withdrawn.
    Declare {
        /// Of the event.
        ticket: u64,
        /// Whose demand.
        tenant: TenantId,
        /// How many units; none if it is withdrawn.
        units: u32,
        /// For how long, from receipt; for no time if it is withdrawn.
        span: Nanos,
    },
    /// A demand cannot be declared; what was declared before stays.
    RefuseDemand {
        /// Of the event.
        ticket: u64,
        /// Whose demand.
        tenant: TenantId,
        /// Why.
        reason: DemandRefusal,
    },
    /// A job of a tenant that left is gone.
    Drop {
        /// The job.
        job: JobId,
    },
    /// Bring the job's witness into memory and answer with [`Event::Ready`], or with
    /// [`Event::Finished`] if that fails.
    Prepare {
        /// The job.
        job: JobId,
    },
    /// The order of a tenant's runnable jobs has changed: read [`Arbiter::run_order`]. A worker
    /// takes its next quantum from the first job in it that has one.
    RunOrder {
        /// Whose.
        tenant: TenantId,
    },
    /// Publish a new owner in the unit's mailbox and wake its worker.
    Own {
        /// Which unit.
        unit: UnitId,
        /// What to publish.
        ownership: Ownership,
    },
    /// Make room for the tables of a device's owner: read [`Arbiter::victims`] for whose tables may go there, and
    /// how much of them. Enough is to go for what the owner lacks, or nothing: see [`crate::eviction`]. Answer with
    /// [`Event::Evicted`], after what has gone and come was told; until then nothing more is asked on that device.
    Evict {
        /// On which device.
        unit: UnitId,
        /// For whom.
        owner: TenantId,
        /// So many bytes it lacks, as far as the arbiter knows.
        bytes: u64,
    },
    /// A reallocation is complete: for the record, nothing needs to be done.
    Reallocated(Reallocation),
    /// The unit's worker has not answered in time. The unit is fenced off: it counts for nobody
    /// until it answers. An [`Action::Own`] without an owner goes with this.
    Overrun {
        /// Which unit.
        unit: UnitId,
        /// For how long it has not answered.
        silent: Nanos,
    },
    /// The worker of a fenced unit has answered; the unit is back in the pool.
    Returned {
        /// Which unit.
        unit: UnitId,
    },
}

/// Why a tenant cannot join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum TenantRefusal {
    /// The box has as many tenants as its policy allows.
    #[error("the box has {max} tenants, which is the most it may have")]
    BoxFull {
        /// That many.
        max: u32,
    },
    /// The tenant has joined before.
    #[error("the tenant is here already")]
    Joined,
    /// The policy has no such class.
    #[error("the policy has no such class")]
    UnknownClass,
    /// The id is the one that means "nobody".
    #[error("the id is reserved")]
    ReservedId,
}

/// Why a demand cannot be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum DemandRefusal {
    /// The tenant is unknown.
    #[error("the tenant is unknown")]
    UnknownTenant,
    /// It is more than the tenant may hold.
    #[error("expected 0 to {ceiling} units, which is the tenant's ceiling, got {got}")]
    AboveCeiling {
        /// So many it may hold.
        ceiling: u32,
        /// So many were declared.
        got: u32,
    },
    /// It is for no time, or for longer than the class allows at a time.
    #[error("expected a span of {DECLARED_SPAN_MIN} to {max}, got {got}")]
    Span {
        /// The longest.
        max: Nanos,
        /// What was declared.
        got: Nanos,
    },
}

/// Why a unit changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The new owner wants more than before.
    Demand,
    /// The new owner has declared that it will want more.
    Declared,
    /// The new owner's measured demand has come to a peak.
    Measured,
    /// The unit came free: its owner finished, left, or found nothing to run.
    Release,
    /// The new owner's turn has come among tenants that want more than there is.
    Turn,
    /// The new owner had waited as long as its class may.
    Ageing,
    /// The new owner lost what it was promised on a unit that overran.
    Overrun,
}

/// One hand-over, complete: the five stamps and what they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reallocation {
    /// Which unit.
    pub unit: UnitId,
    /// The hand-over.
    pub epoch: Epoch,
    /// Whose work the worker ran last; `None` if it ran nobody's.
    pub from: Option<TenantId>,
    /// Whose work it runs now.
    pub to: TenantId,
    /// Why.
    pub cause: Cause,
    /// The demand's receive stamp, or the moment at which whatever else caused this arose.
    pub t0: Nanos,
    /// The arbiter took the event in.
    pub detected: Nanos,
    /// The arbiter had decided.
    pub decided: Nanos,
    /// The worker's last quantum for the owner before had ended and it saw the new epoch.
    pub drained: Nanos,
    /// Just before the new owner's first instruction, or at the first look at its empty queue.
    pub first: Nanos,
    /// Whether there was anything to run at that moment.
    pub found: Found,
    /// Whether `first - t0` is over the policy's bound.
    pub missed: bool,
}

impl Reallocation {
    /// From the demand to the first instruction.
    pub fn total(&self) -> Nanos {
        self.first.since(self.t0)
    }
}

/// What the arbiter has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Jobs that got a place.
    pub admitted: u64,
    /// Jobs that got none.
    pub refused: u64,
    /// Jobs that ended with a proof.
    pub proved: u64,
    /// Jobs that ended with an error.
    pub failed: u64,
    /// Jobs that were cancelled, or whose tenant left.
    pub cancelled: u64,
    /// Jobs that were let go, to be proved elsewhere.
    pub lent: u64,
    /// Demands declared, renewed and withdrawn.
    pub declared: u64,
    /// Peaks of measured demand.
    pub peaks: u64,
    /// Reallocations completed.
    pub reallocated: u64,
    /// Of those, to an owner that had nothing to run at the first look.
    pub found_nothing: u64,
    /// Reallocations that took longer than the bound, and promises that were broken by an
    /// overrun and could not be kept on another unit.
    pub missed: u64,
    /// Hand-overs that were overtaken by another before the worker saw them.
    pub superseded: u64,
    /// Units fenced off because their workers were silent.
    pub overruns: u64,
    /// Units that said that they were lost.
    pub lost: u64,
    /// Orders to make room on a device.
    pub evictions: u64,
    /// Of those, answered ones by which nothing went, for tables are whole.
    pub unmade: u64,
    /// Jobs that were looked at to say whether deadlines can be met and when others would be finished: what that has cost.
    pub foreseen: u64,
    /// Events that named a job, tenant, unit or epoch that is not (or no more) there. Some are
    /// in order: a job may be cancelled while its last quantum runs.
    pub stray: u64,
}

/// An answer to "when would it be finished?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// When, at the earliest, if nobody else's demand changes.
    pub finish: Nanos,
    /// How long it would run, from its first quantum to its last.
    pub run: Nanos,
    /// How many of the tenant's jobs stand before it.
    pub ahead: u32,
}

/// A tenant as a report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantView {
    /// Who.
    pub tenant: TenantId,
    /// Its class.
    pub class: ClassId,
    /// Jobs that wait to be prepared.
    pub queued: u32,
    /// Jobs being prepared.
    pub preparing: u32,
    /// Jobs that can run or are running.
    pub ready: u32,
    /// Cores that it wants now.
    pub want: u32,
    /// Cores that it holds now.
    pub held: u32,
    /// Devices that it wants now.
    pub devices_want: u32,
    /// Devices that it holds now.
    pub devices_held: u32,
    /// Bytes of its tables on all devices.
    pub device_memory: u64,
    /// Bytes of host memory that its prepared jobs hold.
    pub host_memory: u64,
    /// Bytes of host memory that it may hold by the last decision.
    pub host_memory_max: u64,
    /// Cores that it has declared that it will want.
    pub declared: u32,
    /// Whether its measured demand is at a peak.
    pub at_peak: bool,
    /// Whether it counts as wanting only what it keeps busy, and the rest is lent.
    pub lends: bool,
    /// What its class is guaranteed, as a part of the box.
    pub guarantee: Share,
    /// The first of its jobs that came with a deadline.
    pub first: Option<First>,
}

/// A job as a report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobView {
    /// Whose.
    pub tenant: TenantId,
    /// How far it has come.
    pub state: JobState,
    /// How many of its tenant's jobs stand before it.
    pub ahead: u32,
}

/// One box.
#[derive(Debug)]
pub struct Arbiter {
    pool: Pool,
    policy: Policy,
    queue: Queue,
    /// By slot.
    tenants: Vec<Option<Tenant>>,
    /// By slot.
    meters: Vec<Meter>,
    /// By unit.
    benches: Vec<Bench>,
    division: Division,
    demands: Demands,
    places: Places,
    tables: Tables,
    /// By slot: what stays to it of its tables on all devices together, by the last decision.
    keeps: Vec<u64>,
    /// By device.
    orders: Vec<Order>,
    /// Scratch: the order that a device would get now.
    question: Question,
    /// By kind: more is wanted than there is, before anything is lent.
    pressed: [bool; KINDS],
    now: Nanos,
    /// A moment, and what Unix time it was then.
    wall: Option<(Nanos, Nanos)>,
    counters: Counters,
}

/// What the arbiter knows of a tenant.
#[derive(Debug, Clone, Copy)]
struct Tenant {
    id: TenantId,
    class: ClassId,
    /// By kind of unit.
    parts: [Part; KINDS],
    /// Since when it has had a ready job and no core.
    waits_since: Option<Nanos>,
    /// The turn that it got by ageing.
    aged_turn: Option<AgedTurn>,
    /// Since when a job of it has waited for host memory while it has none.
    starves_since: Option<Nanos>,
    /// What it has declared, until that is over.
    declared: Option<Declared>,
    /// A declaration of it is why this decision is made.
    declares: bool,
    /// A peak of it has begun with this decision, by a crossing at that time.
    peaked: Option<Nanos>,
}

/// What the arbiter knows of a tenant and the units of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Units that it could use, whether they are lent or not, by the last decision: what is lent for a slice comes back
    /// to what its tenant has there, so that stays.
    demand: u32,
    /// Units that it wants, by the last decision.
    want: u32,
    /// Units that it owns.
    held: u32,
    /// Its rate by the last decision.
    rate: Rate,
    /// See [`Claim::debt`].
    debt: i64,
    /// What it keeps while the rest is lent.
    lent: Option<Lent>,
    /// Promises broken by overruns, until the next decision.
    broken: Option<Broken>,
    /// It wants more than at the decision before.
    grew: bool,
    /// Units of it that have been idle for longer than the policy's patience.
    idle: u32,
    /// How many of them a job that has become ready can use, until the next decision.
    due: u32,
}

#[derive(Debug, Clone, Copy)]
struct Declared {
    units: u32,
    until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct AgedTurn {
    bound: Nanos,
    until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Lent {
    keeps: u32,
    until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Broken {
    count: u32,
    t0: Nanos,
}

/// What the arbiter knows of a unit beside who owns it.
#[derive(Debug, Clone, Copy, Default)]
struct Bench {
    /// What the worker's answer will complete.
    promise: Option<Promise>,
    /// It changed hands by turn and stays until then.
    kept_until: Nanos,
    /// Since when its worker finds nothing to run for its owner.
    idle_since: Option<Nanos>,
}

#[derive(Debug, Clone, Copy)]
struct Promise {
    cause: Cause,
    t0: Nanos,
    detected: Nanos,
    decided: Option<Nanos>,
}

impl Arbiter {
    /// A box with nobody on it.
    pub fn new(pool: Pool, policy: Policy) -> Arbiter {
        let units = pool.units().len();
        let counts = Kind::ALL.map(|kind| pool.range(kind).len());
        let slots = policy.limits().tenants_max as usize;
        Arbiter {
            queue: Queue::new(slots, policy.limits().jobs_max),
            tenants: vec![None; slots],
            meters: vec![Meter::default(); slots],
            benches: vec![Bench::default(); units],
            division: Division::new(slots, counts),
            demands: Demands {
                units: [(); KINDS].map(|()| Vec::with_capacity(slots)),
                bytes: [(); BYTES].map(|()| vec![ByteClaim::default(); slots]),
                tables: vec![0; slots],
            },
            places: Places {
                seats: counts.map(Vec::with_capacity),
                nodes: Kind::ALL.map(|kind| {
                    let units = pool.units()[pool.range(kind)].iter();
                    units.map(|unit| unit.node()).collect()
                }),
            },
            tables: Tables::new(slots, &pool.units()[pool.range(Kind::Device)]),
            keeps: vec![0; slots],
            orders: (0..counts[Kind::Device.index()])
                .map(|_| Order::new(slots))
                .collect(),
            question: Question::new(slots),
            pressed: [false; KINDS],
            now: Nanos::ZERO,
            wall: None,
            counters: Counters::default(),
            pool,
            policy,
        }
    }

    /// Takes one event in and appends what is to be done to `actions`, which the caller empties.
    pub fn handle(&mut self, event: Event, now: Nanos, actions: &mut Vec<Action>) {
        let now = now.max(self.now);
        self.account(now);
        match event {
            Event::TenantJoined { tenant, class } => match self.join(tenant, class) {
                Ok(()) => {}
                Err(reason) => actions.push(Action::RefuseTenant { tenant, reason }),
            },
            Event::Bounded { tenant, running } => self.bound(tenant, running, actions),
            Event::Charged { tenant, core } => self.charge(tenant, core),
            Event::TenantLeft { tenant } => self.leave(tenant, actions),
            Event::Submitted {
                job,
                tenant,
                work,
                deadline,
                received,
            } => {
                let received = received.min(now);
                self.submit(
                    Submission {
                        job,
                        tenant,
                        work,
                        deadline,
                        received,
                        is_new: true,
                    },
                    actions,
                );
            }
            Event::Resubmitted {
                job,
                tenant,
                work,
                deadline,
                received,
            } => {
                let received = received.min(now);
                self.submit(
                    Submission {
                        job,
                        tenant,
                        work,
                        deadline,
                        received,
                        is_new: false,
                    },
                    actions,
                );
            }
            Event::Ready { job } => self.ready(job, actions),
            Event::Finished { job, outcome, at } => {
                if self.end(job, at.min(now), actions) {
                    self.counters.proved += u64::from(outcome == Outcome::Proved);
                    self.counters.failed += u64::from(outcome == Outcome::Failed);
                }
            }
            Event::Cancelled { job } => {
                if self.end(job, now, actions) {
                    self.counters.cancelled += 1;
                }
            }
            Event::Declared {
                ticket,
                tenant,
                units,
                span,
                received,
            } => {
                let received = received.min(now);
                let action = match self.declare(tenant, units, span, received) {
                    Ok(slot) => {
                        self.counters.declared += 1;
                        self.decide(received, actions);
                        self.set_declares(slot, false);
                        Action::Declare {
                            ticket,
                            tenant,
                            units,
                            span: if units > 0 { span } else { Nanos::ZERO },
                        }
                    }
                    Err(reason) => Action::RefuseDemand {
                        ticket,
                        tenant,
                        reason,
                    },
                };
                actions.push(action);
            }
            Event::Resident {
                tenant,
                unit,
                bytes,
            } => self.resident(tenant, unit, bytes, actions),
            Event::Evicted { unit, made } => self.evicted(unit, made, actions),
            Event::WallClock { unix } => {
                self.wall = Some((now, unix));
                self.decide(now, actions);
            }
            Event::Decided => self.stamp_decided(now),
            Event::Entered { unit, entry } => self.entered(unit, entry, actions),
            Event::Idle { unit, epoch, at } => self.idle(unit, epoch, at.min(now)),
            Event::Working { unit, epoch } => self.working(unit, epoch, actions),
            Event::Lost { unit } => self.lost(unit, actions),
            Event::Tick => {
                self.fence(actions);
                self.decide(now, actions);
            }
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// When [`Event::Tick`] is wanted next; `None` while nothing can happen by time alone. Ask
    /// after each batch of events. Extra ticks do no harm; a late one delays turns and the
    /// discovery of overruns by as much.
    pub fn wake_at(&self) -> Option<Nanos> {
        let limits = self.policy.limits();
        let pressed = self.pressed.contains(&true);
        let turn = pressed.then(|| self.now.plus(Nanos(limits.slice.0 / TICKS_A_SLICE)));
        let units = self.pool.units().iter().zip(&self.benches);
        let overrun = units
            .filter(|(unit, _)| !unit.is_answered() && !unit.is_fenced())
            .map(|(unit, _)| unit.since().plus(limits.overrun()));
        let over = self
            .present()
            .filter_map(|(_, tenant)| tenant.declared.map(|it| it.until));
        let room = self.orders.iter().filter_map(|order| order.retry_at);
        turn.into_iter()
            .chain(overrun)
            .chain(over)
            .chain(room)
            .min()
    }

    /// Puts another policy in the place of this one, which comes back; or refuses it, and nothing
    /// changes. No job is lost: those above a bound that is lower now stay, and no more come until
    /// they are below it. See [`Policy::check_successor`] for what must stay. Nothing is decided
    /// here: send an [`Event::Tick`] afterwards, or units change hands with the next event. Unlike
    /// [`Arbiter::handle`] this allocates, and [`Arbiter::actions_max`] may be another afterwards.
    pub fn adopt(&mut self, policy: Policy, now: Nanos) -> Result<Policy, PolicyError> {
        let in_use = |class| self.present().any(|(_, tenant)| tenant.class == class);
        self.policy.check_successor(&policy, in_use)?;
        self.account(now.max(self.now));
        let old = std::mem::replace(&mut self.policy, policy);
        for slot in 0..self.tenants.len() {
            let Some(tenant) = &mut self.tenants[slot] else {
                continue;
            };
            let name = old.class(tenant.class).map(|class| &class.name);
            let heir = name.and_then(|name| self.policy.find(name));
            // The check above has seen that there is one.
            tenant.class = heir.unwrap_or(tenant.class);
            if let Some(class) = self.policy.class(tenant.class) {
                self.queue.rebound(slot, class.queue_max);
                self.meters[slot].adopt(class.peak.as_ref());
            }
        }
        debug_assert_eq!(self.check(), Ok(()));
        Ok(old)
    }

    /// A tenant's runnable jobs, the most urgent first. Empty for an unknown tenant.
    pub fn run_order(&self, tenant: TenantId) -> &[JobId] {
        self.slot(tenant).map_or(&[], |slot| self.queue.order(slot))
    }

    /// Whose tables may go from a device by the newest [`Action::Evict`] of it, the first to go first.
    pub fn victims(&self, unit: UnitId) -> impl Iterator<Item = Victim> + '_ {
        let asked = self.device(unit).map(|device| &self.orders[device].asked);
        asked
            .into_iter()
            .flat_map(|asked| asked.victims.iter().map(|(_, victim)| *victim))
    }

    /// When a job of this tenant would be finished if it were submitted now. `None` for an
    /// unknown tenant. Takes the tenant's cores as a fluid at the rate that it would get if
    /// nobody else's demand changed. `&mut` because it uses the arbiter's scratch memory and
    /// carries its accounts forward to `now`; it decides nothing.
    pub fn estimate(
        &mut self,
        tenant: TenantId,
        work: Work,
        deadline: Option<Nanos>,
        now: Nanos,
    ) -> Option<Estimate> {
        let now = now.max(self.now);
        self.account(now);
        let slot = self.slot(tenant)?;
        let class = self.class_of(slot)?;
        let due = deadline.unwrap_or(now.plus(class.deadline_implied));
        let rate = self.rate_with(slot, work.parallelism);
        Some(self.estimate_at(slot, work, due, rate))
    }

    /// Lets a job go, to be proved elsewhere, if its tenant's own cores would not begin it within `after` or would finish it
    /// after its deadline; whether it did. A job whose witness is in memory, or on its way there, stays: what is begun here
    /// is ended here. One that comes back is submitted again, with the time at which it was received first, and so
    /// stands where it stood. Its tenant's rate is taken as in [`Arbiter::estimate`].
    pub fn lend(
        &mut self,
        job: JobId,
        after: Nanos,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) -> bool {
        let now = now.max(self.now);
        self.account(now);
        let Some(it) = self.queue.outlook(job) else {
            return false;
        };
        let rate = self.rate_with(it.slot, it.work.parallelism);
        let waits = rate.time_for(it.before);
        let run = rate.min(Rate::whole(it.work.parallelism));
        let finish = now.plus(waits).plus(run.time_for(it.work.core));
        let lent = waits > after || it.deadline.is_some_and(|deadline| finish > deadline);
        if lent && self.end(job, now, actions) {
            self.counters.lent += 1;
        }
        debug_assert_eq!(self.check(), Ok(()));
        lent
    }

    /// The units and who owns each.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// All tenants.
    pub fn tenants(&self) -> impl Iterator<Item = TenantView> + '_ {
        let units = self.pool.count(Kind::Core);
        self.present().map(move |(slot, tenant)| {
            let [core, device] = &tenant.parts;
            let lengths = self.queue.lengths(slot);
            let class = self.policy.class(tenant.class);
            let ceiling = class.map_or(units, |class| class.ceiling.of_whole(units));
            TenantView {
                tenant: tenant.id,
                class: tenant.class,
                queued: lengths.queued,
                preparing: lengths.preparing,
                ready: lengths.ready,
                want: core.want,
                held: core.held,
                devices_want: device.want,
                devices_held: device.held,
                device_memory: self.tables.held(slot),
                host_memory: self.queue.host_memory_held(slot),
                host_memory_max: self.host_memory_max(slot),
                declared: tenant.declared.map_or(0, |it| it.units),
                at_peak: self.meters[slot].at_peak(),
                lends: tenant.parts.iter().any(|part| part.lent.is_some()),
                guarantee: class.map_or(Share::NONE, |class| class.guarantee),
                first: self.queue.reading(slot, ceiling).first,
            }
        })
    }

    /// An unfinished job; `None` if there is none of that id.
    pub fn job(&self, job: JobId) -> Option<JobView> {
        let (slot, state, ahead) = self.queue.job(job)?;
        let tenant = self.tenants[slot].as_ref()?.id;
        Some(JobView {
            tenant,
            state,
            ahead,
        })
    }

    /// The counts since the start.
    pub fn counters(&self) -> Counters {
        Counters {
            foreseen: self.queue.looked(),
            ..self.counters
        }
    }

    /// The most actions that one call of [`Arbiter::handle`] appends: a tenant leaves, all its
    /// jobs are dropped and all units change hands; or all units overrun and come back; and room is made on
    /// each device.
    pub fn actions_max(&self) -> usize {
        let queue_max = self
            .policy
            .classes()
            .iter()
            .map(|class| class.queue_max)
            .max();
        let jobs = queue_max.unwrap_or(0) as usize + PREPARED_MAX as usize;
        let evictions = self.pool.range(Kind::Device).len();
        3 * self.pool.units().len() + jobs + evictions + 4
    }

    /// Checks every invariant; an error names one that is broken, which is a bug in this crate.
    /// Debug builds call this after each event.
    pub fn check(&self) -> Result<(), String> {
        self.queue.check()?;
        for kind in Kind::ALL {
            self.check_kind(kind)?;
        }
        self.tables.check()?;
        let held = |(slot, _)| u128::from(self.queue.host_memory_held(slot));
        let held: u128 = self.present().map(held).sum();
        let there = self.pool.host_memory();
        if held > u128::from(there) && there < u64::MAX {
            return Err(format!("{held} of {there} bytes of host memory are held"));
        }
        for (unit, bench) in self.pool.units().iter().zip(&self.benches) {
            let owner = unit
                .slot()
                .map(|slot| self.tenants[slot].map(|tenant| tenant.id));
            if owner.is_some_and(|present| present != unit.owner()) {
                return Err(format!(
                    "{} is owned by somebody who is not here",
                    unit.id()
                ));
            }
            if unit.is_fenced() && (unit.owner().is_some() || unit.is_answered()) {
                return Err(format!("{} is fenced and in use", unit.id()));
            }
            if unit.is_lost() && !unit.is_fenced() {
                return Err(format!("{} is lost and not fenced", unit.id()));
            }
            if bench.promise.is_some() && (unit.is_answered() || unit.owner().is_none()) {
                return Err(format!("{} is promised to nobody", unit.id()));
            }
        }
        Ok(())
    }

    fn check_kind(&self, kind: Kind) -> Result<(), String> {
        let (mut held, mut wanted) = (0, 0);
        for (slot, tenant) in self.present() {
            let part = &tenant.parts[kind.index()];
            let units = self.pool.units()[self.pool.range(kind)].iter();
            let owned = units.filter(|unit| unit.slot() == Some(slot)).count();
            if owned != part.held as usize {
                return Err(format!(
                    "{} owns {owned} {kind}s, counted {}",
                    tenant.id, part.held
                ));
            }
            if part.held > part.want {
                return Err(format!(
                    "{} owns {owned} {kind}s, wants {}",
                    tenant.id, part.want
                ));
            }
            held += part.held;
            wanted += u64::from(part.want);
        }
        let open = self.pool.open(kind);
        if u64::from(held) != wanted.min(u64::from(open)) {
            return Err(format!(
                "{held} of {open} {kind}s are owned, {wanted} are wanted"
            ));
        }
        Ok(())
    }

    /// Carries debts, and what jobs have had of their work, forward to `now`.
    fn account(&mut self, now: Nanos) {
        let span = now.since(self.now);
        self.now = now;
        if span == Nanos::ZERO {
            return;
        }
        for (device, unit) in self.pool.units()[self.pool.range(Kind::Device)]
            .iter()
            .enumerate()
        {
            if let Some(slot) = unit.slot() {
                self.tables.serve(slot, device, span);
            }
        }
        let bound = self.debt_max();
        for (slot, tenant) in self.tenants.iter_mut().enumerate() {
            let Some(tenant) = tenant else {
                continue;
            };
            for (kind, part) in Kind::ALL.into_iter().zip(&mut tenant.parts) {
                if part.want == 0 {
                    continue;
                }
                let had = Rate::whole(part.held).over(span);
                let owed = part.rate.over(span).saturating_sub(had);
                part.debt = part.debt.saturating_add(owed).clamp(-bound, bound);
                if kind == Kind::Core {
                    self.queue.serve(slot, part.held, span);
                }
            }
        }
    }

    fn join(&mut self, tenant: TenantId, class: ClassId) -> Result<(), TenantRefusal> {
        if tenant.0 == u32::MAX {
            return Err(TenantRefusal::ReservedId);
        }
        if self.slot(tenant).is_some() {
            return Err(TenantRefusal::Joined);
        }
        let Some(bounds) = self.policy.class(class) else {
            return Err(TenantRefusal::UnknownClass);
        };
        let Some(slot) = self.tenants.iter().position(Option::is_none) else {
            return Err(TenantRefusal::BoxFull {
                max: self.policy.limits().tenants_max,
            });
        };
        self.queue.open(slot, bounds.queue_max, bounds.prepared_max);
        self.meters[slot].open(bounds.peak.as_ref());
        self.tenants[slot] = Some(Tenant::new(tenant, class));
        Ok(())
    }

    fn bound(&mut self, tenant: TenantId, running: u32, actions: &mut Vec<Action>) {
        let Some(slot) = self.slot(tenant) else {
            self.counters.stray += 1;
            return;
        };
        self.queue.bound_running(slot, running);
        // There may be room for more now.
        self.prepare(slot, actions);
        self.decide(self.now, actions);
    }

    /// Takes core time that was had elsewhere into a tenant's debt.
    fn charge(&mut self, tenant: TenantId, core: Nanos) {
        let bound = self.debt_max();
        let Some(slot) = self.slot(tenant) else {
            self.counters.stray += 1;
            return;
        };
        if let Some(tenant) = &mut self.tenants[slot] {
            let debt = &mut tenant.parts[Kind::Core.index()].debt;
            let had = i64::try_from(core.0).unwrap_or(i64::MAX);
            *debt = debt.saturating_sub(had).max(-bound);
        }
    }

    /// What a tenant may be owed, or owe.
    fn debt_max(&self) -> i64 {
        i64::try_from(self.policy.limits().slice.0 * DEBT_SLICES).unwrap_or(i64::MAX)
    }

    fn leave(&mut self, tenant: TenantId, actions: &mut Vec<Action>) {
        let Some(slot) = self.slot(tenant) else {
            self.counters.stray += 1;
            return;
        };
        while let Some(job) = self.queue.remove_first(slot) {
            self.counters.cancelled += 1;
            actions.push(Action::Drop { job });
        }
        if let Some(tenant) = &mut self.tenants[slot] {
            tenant.declared = None;
        }
        self.prepare(slot, actions);
        // It wants nothing now, so the decision takes all its units away.
        self.decide(self.now, actions);
        self.tables.forget(slot);
        self.tenants[slot] = None;
    }

    fn submit(&mut self, submission: Submission, actions: &mut Vec<Action>) {
        let Submission {
            job,
            tenant,
            mut work,
            deadline,
            received,
            is_new,
        } = submission;
        if work.device_memory > self.pool.device_memory_min() {
            work.devices = 0;
        }
        let slot = self.slot(tenant);
        let implied = slot
            .and_then(|slot| self.class_of(slot))
            .map(|class| class.deadline_implied);
        let admitted = match slot.zip(implied) {
            Some((slot, implied)) => {
                let implied = Due::Implied(received.plus(implied));
                let due = deadline.map_or(implied, Due::Deadline);
                let place = self.queue.has_place(slot, job, work);
                let fit = place
                    .and_then(|()| self.has_memory(work))
                    .and_then(|()| match deadline.filter(|_| is_new) {
                        Some(deadline) => self.can_meet(slot, work, deadline),
                        None => Ok(()),
                    });
                fit.and_then(|()| self.queue.admit(slot, job, work, due))
                    .map(|()| slot)
            }
            None => Err(Refusal::UnknownTenant),
        };
        match admitted {
            Err(reason) => {
                self.counters.refused += 1;
                let retry_after = self.retry_after(slot, work, reason);
                actions.push(Action::Refuse {
                    job,
                    reason,
                    retry_after,
                });
            }
            Ok(slot) => {
                self.counters.admitted += 1;
                self.meters[slot].arrive(received);
                actions.push(Action::Admit { job });
                self.prepare(slot, actions);
                self.decide(received, actions);
            }
        }
    }

    /// Whether the box could ever hold what a job needs of the host's memory.
    fn has_memory(&self, work: Work) -> Result<(), Refusal> {
        let (max, got) = (self.pool.host_memory(), work.host_memory);
        if got > max {
            return Err(Refusal::HostMemory { max, got });
        }
        Ok(())
    }

    /// Whether a job that is due then can be finished by then with what its tenant can count on.
    fn can_meet(&mut self, slot: usize, work: Work, deadline: Nanos) -> Result<(), Refusal> {
        if work.core == Nanos::ZERO {
            return Ok(());
        }
        let as_it_is = Pace::Rate(self.rate_with(slot, work.parallelism));
        let promised = self.promised(slot);
        let mut best: Option<(Nanos, Pace)> = None;
        for pace in [Some(as_it_is)].into_iter().chain(promised).flatten() {
            let finish = self.finish(slot, work, deadline, pace);
            if finish <= deadline && self.harmed(slot, work, deadline, pace).is_none() {
                return Ok(());
            }
            if best.is_none_or(|(first, _)| finish < first) {
                best = Some((finish, pace));
            }
        }
        let earliest = best.map_or(Nanos::MAX, |(finish, pace)| {
            self.earliest(slot, work, (deadline, finish), pace)
        });
        Err(Refusal::DeadlineUnmeetable { earliest })
    }

    /// A deadline that a job can be given at that pace which is finished then if it is due at its own one: none earlier than
    /// that, and none that makes a job late which has been admitted with one. It is looked for behind the last one that
    /// would be late, and then behind all, which in a line that is long is looked for at once: there may be an earlier one.
    fn earliest(
        &mut self,
        slot: usize,
        work: Work,
        (deadline, finish): (Nanos, Nanos),
        pace: Pace,
    ) -> Nanos {
        let Some(harmed) = self.harmed(slot, work, deadline, pace) else {
            return finish;
        };
        if self.queue.length(slot) <= SEARCHED_MAX {
            let finish = self.finish(slot, work, harmed, pace);
            if self.harmed(slot, work, harmed, pace).is_none() {
                return finish.max(harmed);
            }
        }
        let due = self.queue.last_deadline(slot).unwrap_or(harmed);
        self.finish(slot, work, due, pace).max(due)
    }

    /// When a job would be finished at that pace, if it were due then.
    fn finish(&mut self, slot: usize, work: Work, due: Nanos, pace: Pace) -> Nanos {
        let took = self.queue.foresee(slot, work, due, pace.rate());
        self.now.plus(pace.time(took))
    }

    /// The last of the deadlines of jobs that a job which is due then would make late at that pace.
    fn harmed(&mut self, slot: usize, work: Work, due: Nanos, pace: Pace) -> Option<Nanos> {
        let now = self.now;
        let on_time = |took, due| now.plus(pace.time(took)) <= due;
        self.queue.harmed(slot, work, due, pace.rate(), on_time)
    }

    /// When a job would be finished at that rate, if it were due then.
    fn estimate_at(&mut self, slot: usize, work: Work, due: Nanos, rate: Rate) -> Estimate {
        let took = self.queue.foresee(slot, work, due, rate);
        Estimate {
            finish: self.now.plus(took),
            run: rate.min(Rate::whole(work.parallelism)).time_for(work.core),
            ahead: self.queue.ahead(slot, due),
        }
    }

    /// Notes what a tenant declares; its slot.
    fn declare(
        &mut self,
        tenant: TenantId,
        units: u32,
        span: Nanos,
        received: Nanos,
    ) -> Result<usize, DemandRefusal> {
        let slot = self.slot(tenant).ok_or(DemandRefusal::UnknownTenant)?;
        let class = self.class_of(slot).ok_or(DemandRefusal::UnknownTenant)?;
        let ceiling = class.ceiling.of_whole(self.pool.count(Kind::Core));
        let max = class.declared_span_max;
        if units > ceiling {
            return Err(DemandRefusal::AboveCeiling {
                ceiling,
                got: units,
            });
        }
        if units > 0 && !(DECLARED_SPAN_MIN..=max).contains(&span) {
            return Err(DemandRefusal::Span { max, got: span });
        }
        let until = received.plus(span);
        let live = (units > 0).then_some(Declared { units, until });
        let before = self.tenants[slot]
            .as_mut()
            .and_then(|it| std::mem::replace(&mut it.declared, live));
        // A renewal of what has been lent does not take it back: only more does, or work.
        if units > before.map_or(0, |before| before.units) {
            self.take_back_lent(slot, Kind::Core);
            self.set_declares(slot, true);
        }
        Ok(slot)
    }

    fn set_declares(&mut self, slot: usize, declares: bool) {
        if let Some(tenant) = &mut self.tenants[slot] {
            tenant.declares = declares;
        }
    }

    fn ready(&mut self, job: JobId, actions: &mut Vec<Action>) {
        let Some(slot) = self.queue.ready(job) else {
            self.counters.stray += 1;
            return;
        };
        self.order_changed(slot, actions);
        for kind in Kind::ALL {
            self.take_back_lent(slot, kind);
        }
        if let Some((tenant, work)) = self.tenants[slot].as_mut().zip(self.queue.work(job)) {
            for (kind, part) in Kind::ALL.into_iter().zip(&mut tenant.parts) {
                part.due = work.units(kind);
            }
        }
        self.decide(self.now, actions);
    }

    /// Frees a job's place; whether there was one.
    fn end(&mut self, job: JobId, at: Nanos, actions: &mut Vec<Action>) -> bool {
        let Some((slot, state)) = self.queue.remove(job) else {
            self.counters.stray += 1;
            return false;
        };
        if state == JobState::Ready {
            self.order_changed(slot, actions);
        }
        self.prepare(slot, actions);
        self.decide(at, actions);
        true
    }

    /// Has the jobs prepared that may be, of the tenant of a slot whose queue has changed. Where host
    /// memory is bounded that may be jobs of others, for whom it has made room.
    fn prepare(&mut self, slot: usize, actions: &mut Vec<Action>) {
        if self.pool.host_memory() == u64::MAX {
            self.prepare_within(slot, u64::MAX, actions);
        } else {
            self.prepare_all(actions);
        }
    }

    /// Has jobs of a tenant prepared until they hold so many bytes of host memory.
    fn prepare_within(&mut self, slot: usize, bytes: u64, actions: &mut Vec<Action>) {
        loop {
            let left = bytes.saturating_sub(self.queue.host_memory_held(slot));
            let Some(job) = self.queue.prepare(slot, left) else {
                return;
            };
            actions.push(Action::Prepare { job });
            for kind in Kind::ALL {
                self.take_back_lent(slot, kind);
            }
        }
    }

    /// Divides the host's memory anew and has prepared what fits. What a tenant holds is never taken
    /// away: whoever holds more than its part waits until jobs of it have ended. First come the jobs
    /// that fit into their tenants' parts. Jobs are whole and parts are not, so what is left goes to
    /// those that fit there, of the tenant that is furthest below its part; but not while somebody has
    /// aged, for then room must come together.
    fn prepare_all(&mut self, actions: &mut Vec<Action>) {
        self.fill_claims();
        let capacity = self.capacity();
        self.division
            .pour_bytes(Bytes::Host, &self.demands, &capacity);
        let mut free = self.pool.host_memory();
        let mut aged = false;
        for slot in 0..self.tenants.len() {
            free -= self.queue.host_memory_held(slot);
            aged |= self.demands.bytes[Bytes::Host.index()][slot].aged.is_some();
        }
        for slot in 0..self.tenants.len() {
            let before = self.queue.host_memory_held(slot);
            let part = self.division.bytes(Bytes::Host)[slot];
            self.prepare_within(slot, part.min(before.saturating_add(free)), actions);
            free -= self.queue.host_memory_held(slot) - before;
        }
        while let Some(slot) = self.next_to_fit(free).filter(|_| !aged) {
            let held = self.queue.host_memory_held(slot);
            let next = self.queue.host_memory(slot).next.unwrap_or(0);
            self.prepare_within(slot, held + next, actions);
            free -= self.queue.host_memory_held(slot) - held;
        }
        self.note_starving();
    }

    /// Of the tenants whose next witness fits into so many bytes the one that is furthest below its
    /// part of the host's memory, and of equals the most valuable.
    fn next_to_fit(&self, free: u64) -> Option<usize> {
        let fits = |slot: &usize| {
            let next = self.queue.host_memory(*slot).next;
            next.is_some_and(|next| next <= free)
        };
        let deserves = |&slot: &usize| {
            let part = i128::from(self.division.bytes(Bytes::Host)[slot]);
            let below = part - i128::from(self.queue.host_memory_held(slot));
            (below, self.demands.units[Kind::Core.index()][slot].value)
        };
        (0..self.tenants.len()).filter(fits).max_by_key(deserves)
    }

    /// Notes who waits for host memory and has none.
    fn note_starving(&mut self) {
        for (slot, tenant) in self.tenants.iter_mut().enumerate() {
            let Some(tenant) = tenant else {
                continue;
            };
            let memory = self.queue.host_memory(slot);
            let starves = memory.held == 0 && memory.next.is_some_and(|next| next > 0);
            tenant.starves_since = starves.then(|| tenant.starves_since.unwrap_or(self.now));
        }
    }

    /// How many bytes of host memory the tenant of a slot may hold by the last decision.
    fn host_memory_max(&self, slot: usize) -> u64 {
        let given = self.division.bytes(Bytes::Host).get(slot);
        match self.pool.host_memory() {
            u64::MAX => u64::MAX,
            _ => given.copied().unwrap_or(0),
        }
    }

    /// The number of a unit among the devices; `None` if it is none.
    fn device(&self, unit: UnitId) -> Option<usize> {
        let devices = self.pool.range(Kind::Device);
        let index = usize::from(unit.0);
        devices.contains(&index).then(|| index - devices.start)
    }

    /// Notes whose tables are where.
    fn resident(&mut self, tenant: TenantId, unit: UnitId, bytes: u64, actions: &mut Vec<Action>) {
        let Some((slot, device)) = self.slot(tenant).zip(self.device(unit)) else {
            self.counters.stray += 1;
            return;
        };
        // News of a device may have been under way when it was lost.
        let is_lost = self.pool.unit(unit).is_some_and(Unit::is_lost);
        let bytes = if is_lost { 0 } else { bytes };
        let limits = self.policy.limits();
        let patience = Nanos(limits.slice.0.saturating_mul(UNSERVED_SLICES));
        let until = self.now.plus(patience);
        self.tables
            .set(slot, device, bytes, (limits.quantum, until));
        self.make_room(actions);
    }

    /// Takes the answer to an order to make room.
    fn evicted(&mut self, unit: UnitId, made: bool, actions: &mut Vec<Action>) {
        let device = self.device(unit);
        let Some(device) = device.filter(|&device| self.orders[device].is_open) else {
            self.counters.stray += 1;
            return;
        };
        self.counters.unmade += u64::from(!made);
        let order = &mut self.orders[device];
        order.is_open = false;
        if std::mem::take(&mut order.is_stale) {
            order.asked.clear();
        }
        self.tables.release(device);
        self.make_room(actions);
    }

    /// Asks for room on devices whose owners have not enough of it for their tables: of tenants in
    /// inverse order of value, first what they have beyond their part of all device memory, then what
    /// they have beyond their guarantee. Below that nobody's tables go, and the owner does with less. Nothing is asked where
    /// all of that together is not enough, nor what has been asked before while nothing has changed in it.
    fn make_room(&mut self, actions: &mut Vec<Action>) {
        let range = self.pool.range(Kind::Device);
        for device in 0..range.len() {
            let unit = &self.pool.units()[range.start + device];
            let (unit, slot) = (unit.id(), unit.slot());
            let order = &mut self.orders[device];
            order.retry_at = None;
            if order.asked.owner != slot {
                // What was asked for somebody else is no news of this one.
                match order.is_open {
                    true => order.is_stale = true,
                    false => order.asked.clear(),
                }
            }
            let owner = slot.and_then(|slot| Some((slot, self.tenants[slot]?.id)));
            let Some((slot, owner)) = owner.filter(|_| !order.is_open) else {
                continue;
            };
            let retry_at = self.ask(device, slot);
            let Arbiter {
                orders,
                question,
                tables,
                counters,
                ..
            } = self;
            let order = &mut orders[device];
            order.retry_at = retry_at;
            if question.short == 0 {
                // What would go in vain is remembered: an order for another device may only have taken it for a while.
                if question.owner.is_none() {
                    order.asked.clear();
                }
                continue;
            }
            if *question == order.asked {
                continue;
            }
            std::mem::swap(question, &mut order.asked);
            order.is_open = true;
            for (slot, victim) in &order.asked.victims {
                tables.reserve(*slot, device, victim.spare);
            }
            counters.evictions += 1;
            let bytes = order.asked.short;
            actions.push(Action::Evict { unit, owner, bytes });
        }
    }

    /// Works out what a device would be asked for its owner now; for no bytes, if it lacks none or they cannot be had. What
    /// comes back is when there may be more to be had, if that is known.
    fn ask(&mut self, device: usize, owner: usize) -> Option<Nanos> {
        let now = self.now;
        let Arbiter {
            pool,
            queue,
            tenants,
            demands,
            division,
            tables,
            question,
            keeps,
            ..
        } = self;
        question.clear();
        let unit = &pool.units()[pool.range(Kind::Device)][device];
        let lacks = queue.tables(owner).saturating_sub(tables.on(owner, device));
        let short = lacks.saturating_sub(unit.memory().saturating_sub(tables.used(device)));
        if short == 0 {
            return None;
        }
        let parts = division.bytes(Bytes::Device);
        let value = |slot: usize| demands.units[Kind::Core.index()][slot].value;
        let mut all = 0u64;
        let mut retry_at = None;
        for (slot, tenant) in tenants.iter().enumerate() {
            let Some(tenant) = tenant.as_ref().filter(|_| slot != owner) else {
                continue;
            };
            // What has come and has not had its turn yet stays, or two would push each other off for ever.
            let waits = tenant.parts[Kind::Device.index()].demand > 0;
            let unserved = tables.unserved(slot, device).filter(|&until| until > now);
            if let Some(until) = unserved.filter(|_| waits && value(slot) >= value(owner)) {
                retry_at = Some(retry_at.map_or(until, |at: Nanos| at.min(until)));
                continue;
            }
            let keeps = keeps[slot];
            let part = parts.get(slot).map_or(keeps, |&part| part.max(keeps));
            let spare = tables.unasked(slot).saturating_sub(keeps);
            let spare = spare.min(tables.on(slot, device));
            if spare > 0 {
                let tenant = tenant.id;
                let victim = Victim {
                    tenant,
                    spare,
                    part,
                    keeps,
                };
                question.victims.push((slot, victim));
                all = all.saturating_add(spare);
            }
        }
        if all < short {
            // It would go in vain.
            question.clear();
            question.owner = Some(owner);
            return retry_at;
        }
        question
            .victims
            .sort_unstable_by_key(|&(slot, _)| (value(slot), slot));
        (question.owner, question.short) = (Some(owner), short);
        None
    }

    fn stamp_decided(&mut self, now: Nanos) {
        for promise in self
            .benches
            .iter_mut()
            .filter_map(|bench| bench.promise.as_mut())
        {
            promise.decided.get_or_insert(now);
        }
    }

    fn entered(&mut self, unit: UnitId, entry: Entry, actions: &mut Vec<Action>) {
        let index = usize::from(unit.0);
        let Some(answer) = self.pool.answer(index, entry.epoch) else {
            self.counters.stray += 1;
            return;
        };
        let bench = &mut self.benches[index];
        bench.idle_since = (entry.found == Found::Nothing).then_some(self.now);
        let to = self.pool.units()[index].owner();
        if let Some((promise, to)) = bench.promise.take().zip(to) {
            if answer.from == Some(to) {
                // It went to somebody else and came back before the worker saw either.
                self.counters.superseded += 1;
            } else {
                let mut record = Reallocation {
                    unit,
                    epoch: entry.epoch,
                    from: answer.from,
                    to,
                    cause: promise.cause,
                    t0: promise.t0,
                    detected: promise.detected,
                    decided: promise.decided.unwrap_or(promise.detected),
                    drained: entry.drained,
                    first: entry.first,
                    found: entry.found,
                    missed: false,
                };
                record.missed = record.total() > self.policy.limits().reallocation_max;
                self.counters.reallocated += 1;
                self.counters.found_nothing += u64::from(record.found == Found::Nothing);
                self.counters.missed += u64::from(record.missed);
                actions.push(Action::Reallocated(record));
            }
        }
        if answer.unfenced {
            actions.push(Action::Returned { unit });
            self.decide(self.now, actions);
        }
    }

    fn idle(&mut self, unit: UnitId, epoch: Epoch, at: Nanos) {
        match self.bench(unit, epoch) {
            Some((bench, _)) => bench.idle_since = bench.idle_since.or(Some(at)),
            None => self.counters.stray += 1,
        }
    }

    fn working(&mut self, unit: UnitId, epoch: Epoch, actions: &mut Vec<Action>) {
        let Some((bench, slot)) = self.bench(unit, epoch) else {
            self.counters.stray += 1;
            return;
        };
        bench.idle_since = None;
        let kind = self.pool.units()[usize::from(unit.0)].kind();
        if slot.is_some_and(|slot| self.take_back_lent(slot, kind)) {
            self.decide(self.now, actions);
        }
    }

    /// Takes units whose workers are silent for too long away from everybody.
    fn fence(&mut self, actions: &mut Vec<Action>) {
        for index in 0..self.benches.len() {
            let unit = &self.pool.units()[index];
            let silent = self.now.since(unit.since());
            let overdue = silent >= self.policy.limits().overrun();
            if unit.is_answered() || unit.is_fenced() || !overdue {
                continue;
            }
            let unit = unit.id();
            self.counters.overruns += 1;
            actions.push(Action::Overrun { unit, silent });
            self.fence_off(index, actions);
        }
    }

    /// Takes a unit that has said that it is lost away from everybody.
    fn lost(&mut self, unit: UnitId, actions: &mut Vec<Action>) {
        let Some(it) = self.pool.unit(unit).filter(|it| !it.is_lost()) else {
            self.counters.stray += 1;
            return;
        };
        let index = usize::from(unit.0);
        self.counters.lost += 1;
        // It may have been silent before.
        if !it.is_fenced() {
            self.fence_off(index, actions);
        }
        self.pool.lose(index);
        if let Some(device) = self.device(unit) {
            self.tables.lose(device);
        }
        self.decide(self.now, actions);
    }

    /// A unit counts for nobody until its worker answers; what its owner was promised there comes from
    /// elsewhere, or is a miss.
    fn fence_off(&mut self, index: usize, actions: &mut Vec<Action>) {
        let unit = &self.pool.units()[index];
        let (unit, kind, slot) = (unit.id(), unit.kind(), unit.slot());
        let promise = std::mem::take(&mut self.benches[index]).promise;
        if let Some(tenant) = slot.and_then(|slot| self.tenants[slot].as_mut()) {
            let part = &mut tenant.parts[kind.index()];
            part.held -= 1;
            if let Some(promise) = promise {
                let broken = part.broken.get_or_insert(Broken {
                    count: 0,
                    t0: promise.t0,
                });
                broken.count += 1;
                broken.t0 = broken.t0.min(promise.t0);
            }
        }
        let ownership = self.pool.fence(index, self.now);
        actions.push(Action::Own { unit, ownership });
    }

    /// Asks `matching` who should own what, and makes it so. `t0` is when the cause arose.
    fn decide(&mut self, t0: Nanos, actions: &mut Vec<Action>) {
        let changed = self.update_wants();
        self.read_meters(t0);
        self.fill_claims();
        self.fill_seats();
        let slice = self.policy.limits().slice;
        let bytes = self.bytes();
        self.division
            .decide(slice, &self.demands, &self.places, bytes);

        // Units are taken before any is given, so that no count goes above what is wanted.
        for index in 0..self.benches.len() {
            let (kind, from, to) = self.change(index);
            if let Some(tenant) = from
                .filter(|_| from != to)
                .and_then(|s| self.tenants[s].as_mut())
            {
                tenant.parts[kind.index()].held -= 1;
            }
        }
        for index in 0..self.benches.len() {
            let (_, from, to) = self.change(index);
            if from != to {
                self.hand_over(index, to, t0, changed, actions);
            }
        }
        self.make_room(actions);
        self.settle();
    }

    fn fill_seats(&mut self) {
        for kind in Kind::ALL {
            let range = self.pool.range(kind);
            let units = self.pool.units()[range.clone()].iter();
            let seats = &mut self.places.seats[kind.index()];
            seats.clear();
            seats.extend(units.zip(&self.benches[range]).map(|(unit, bench)| Seat {
                holder: unit.slot(),
                closed: unit.is_fenced(),
                kept: bench.kept_until > self.now,
                idle: bench.idle_since.is_some(),
            }));
        }
    }

    /// A unit's kind, its owner when the last decision was made, and by that decision.
    fn change(&self, index: usize) -> (Kind, Option<usize>, Option<usize>) {
        let kind = self.pool.units()[index].kind();
        let at = index - self.pool.range(kind).start;
        let from = self.places.seats[kind.index()][at].holder;
        (kind, from, self.division.owners(kind)[at])
    }

    /// What there is to divide.
    fn capacity(&self) -> Capacity {
        Capacity {
            units: Kind::ALL.map(|kind| self.pool.open(kind)),
            bytes: self.bytes(),
        }
    }

    /// The bytes that there are to divide.
    fn bytes(&self) -> [u64; BYTES] {
        let device_memory = self.pool.device_memory().unwrap_or(u64::MAX);
        [device_memory, self.pool.host_memory()]
    }

    /// Gives a unit to the tenant of a slot, or to nobody.
    fn hand_over(
        &mut self,
        index: usize,
        to: Option<usize>,
        t0: Nanos,
        changed: bool,
        actions: &mut Vec<Action>,
    ) {
        let now = self.now;
        let kept = now.plus(self.policy.limits().slice);
        let (kind, from, _) = self.change(index);
        let mut bench = Bench::default();
        let mut holder = None;
        if let Some((slot, tenant)) = to.and_then(|s| Some((s, self.tenants[s].as_mut()?))) {
            let claim = &self.demands.units[kind.index()][slot];
            let part = &mut tenant.parts[kind.index()];
            let aged = claim.aged.filter(|_| part.held == 0);
            let (cause, t0) = if let Some(broken) = part.broken.as_mut().filter(|b| b.count > 0) {
                broken.count -= 1;
                (Cause::Overrun, broken.t0)
            } else if let Some(bound) = aged {
                tenant.aged_turn = Some(AgedTurn { bound, until: kept });
                (Cause::Ageing, bound)
            } else if part.grew && tenant.declares && kind == Kind::Core {
                (Cause::Declared, t0)
            } else if part.grew {
                (Cause::Demand, t0)
            } else if let Some(crossing) = tenant.peaked {
                (Cause::Measured, crossing)
            } else if changed || from.is_none() {
                (Cause::Release, t0)
            } else {
                (Cause::Turn, now)
            };
            if matches!(cause, Cause::Ageing | Cause::Turn) {
                bench.kept_until = kept;
            }
            bench.promise = Some(Promise {
                cause,
                t0,
                detected: now,
                decided: None,
            });
            part.held += 1;
            holder = Some(Holder {
                tenant: tenant.id,
                slot,
            });
        }
        if std::mem::replace(&mut self.benches[index], bench)
            .promise
            .is_some()
        {
            self.counters.superseded += 1;
        }
        let ownership = self.pool.assign(index, holder, now);
        let unit = self.pool.units()[index].id();
        actions.push(Action::Own { unit, ownership });
    }

    /// Works out what each tenant wants now; whether that is something else than before.
    fn update_wants(&mut self) -> bool {
        let now = self.now;
        for tenant in self.tenants.iter_mut().flatten() {
            tenant.declared = tenant.declared.filter(|declared| declared.until > now);
        }
        let mut changed = false;
        for kind in Kind::ALL {
            if self.pool.count(kind) > 0 {
                changed |= self.update_wants_of(kind);
            }
        }
        changed
    }

    fn update_wants_of(&mut self, kind: Kind) -> bool {
        let Arbiter {
            tenants,
            queue,
            policy,
            pool,
            benches,
            pressed,
            ..
        } = self;
        let (now, limits) = (self.now, policy.limits());
        let units = pool.count(kind);
        let demand = |slot, tenant: &Tenant| {
            let ceiling = policy
                .class(tenant.class)
                .map_or(0, |class| class.ceiling.of_whole(units));
            let declared = tenant.declared.filter(|_| kind == Kind::Core);
            let declared = declared.map_or(0, |declared| declared.units);
            queue.demand(slot, kind).max(declared).min(ceiling)
        };
        let raw = tenants
            .iter()
            .enumerate()
            .filter_map(|(slot, tenant)| Some(u64::from(demand(slot, tenant.as_ref()?))));
        let pressed = &mut pressed[kind.index()];
        *pressed = raw.sum::<u64>() > u64::from(pool.open(kind));

        let range = pool.range(kind);
        for (unit, bench) in pool.units()[range.clone()].iter().zip(&benches[range]) {
            let idle = bench.idle_since.zip(unit.slot());
            let Some((since, tenant)) = idle.and_then(|(at, s)| Some((at, tenants[s].as_mut()?)))
            else {
                continue;
            };
            let patience = tenant.patience(kind, policy);
            tenant.parts[kind.index()].idle += u32::from(now.since(since) >= patience);
        }

        let mut changed = false;
        for (slot, tenant) in tenants.iter_mut().enumerate() {
            let Some(tenant) = tenant else {
                continue;
            };
            let demand = demand(slot, tenant);
            let part = &mut tenant.parts[kind.index()];
            part.demand = demand;
            // When all fits, nothing is lent: nobody would tick to end it.
            let lasts = |lent: &Lent| *pressed && lent.until > now && demand > 0;
            part.lent = part.lent.filter(lasts);
            // What a job that has just become ready is about to use is not lent in that decision.
            // In the next one it is, so that a stream of small jobs keeps no unit that it never fills.
            let due = std::mem::take(&mut part.due);
            let idle = std::mem::take(&mut part.idle).saturating_sub(due);
            if *pressed && idle > 0 {
                // A ready job always keeps a core: the node may be about to give it a quantum.
                let runnable = queue.lengths(slot).ready > 0;
                let keeps_one = runnable && kind == Kind::Core;
                let keeps = part.held.saturating_sub(idle).max(u32::from(keeps_one));
                let until = if runnable {
                    now.plus(limits.slice)
                } else {
                    Nanos::MAX
                };
                part.lent = Some(Lent { keeps, until });
            }
            let want = part.lent.map_or(demand, |lent| demand.min(lent.keeps));
            changed |= want != part.want;
            part.grew = want > part.want;
            part.want = want;
        }
        changed
    }

    /// Looks whether demand has come to a peak, or one is over.
    fn read_meters(&mut self, cause: Nanos) {
        let units = self.pool.count(Kind::Core);
        for (slot, tenant) in self.tenants.iter_mut().enumerate() {
            let Some(tenant) = tenant else {
                continue;
            };
            tenant.peaked = None;
            let class = self.policy.class(tenant.class);
            let Some((class, peak)) = class.and_then(|it| Some((it, it.peak.as_ref()?))) else {
                continue;
            };
            let reading = self.queue.reading(slot, class.ceiling.of_whole(units));
            tenant.peaked = self.meters[slot].read(peak, reading, cause, self.now);
            self.counters.peaks += u64::from(tenant.peaked.is_some());
        }
    }

    fn fill_claims(&mut self) {
        let time = self.time_of_day();
        let capacity = self.capacity();
        let Arbiter {
            pool,
            tenants,
            demands,
            policy,
            meters,
            queue,
            tables,
            keeps,
            ..
        } = self;
        let now = self.now;
        for kind in Kind::ALL {
            let (index, open) = (kind.index(), capacity.units[kind.index()]);
            let sharers = sharers(tenants, kind);
            let claims = &mut demands.units[index];
            claims.clear();
            if open == 0 && kind == Kind::Device {
                claims.resize(tenants.len(), Claim::default());
                continue;
            }
            claims.extend(tenants.iter().zip(meters.iter()).map(|(tenant, meter)| {
                let present = tenant.as_ref();
                let Some((tenant, class)) = present.and_then(|t| Some((t, policy.class(t.class)?)))
                else {
                    return Claim::default();
                };
                let part = &tenant.parts[index];
                // Bytes go by the value of the claim for cores, whether there is one or not.
                let value = class.value_at(time, meter.at_peak());
                if part.want == 0 {
                    return Claim {
                        value,
                        ..Claim::default()
                    };
                }
                let aged = tenant.aged(class, now).filter(|_| kind == Kind::Core);
                Claim {
                    want: part.want,
                    guarantee: Rate(class.guarantee.of(open).0 / sharers[tenant.class.index()]),
                    value,
                    debt: part.debt,
                    aged,
                }
            }));
        }
        for (slot, at) in demands.tables.iter_mut().enumerate() {
            *at = tables.devices(slot);
        }
        let [device_memory, host_memory] = capacity.bytes;
        // Neither changes while the box runs.
        if device_memory == u64::MAX && host_memory == u64::MAX {
            return;
        }
        let counted = pool.devices_counted();
        for (slot, tenant) in tenants.iter().enumerate() {
            let devices = tenant.map(|tenant| tenant.parts[Kind::Device.index()]);
            let devices = devices.unwrap_or_default();
            keeps[slot] = match devices.demand {
                0 => 0,
                _ => queue.device_memory(slot, counted).min(device_memory),
            };
            demands.bytes[Bytes::Device.index()][slot].want = match devices.want {
                0 => 0,
                _ => keeps[slot],
            };
            let memory = queue.host_memory(slot);
            let claim = &mut demands.bytes[Bytes::Host.index()][slot];
            claim.want = memory.want;
            claim.aged = tenant.as_ref().and_then(|tenant| {
                let class = policy.class(tenant.class)?;
                let bound = tenant.starves_since?.plus(class.ageing_max);
                (bound <= now).then_some((bound, memory.next?))
            });
        }
        for kind in [Bytes::Device, Bytes::Host] {
            let there = capacity.bytes[kind.index()];
            let claims = &mut demands.bytes[kind.index()];
            // A guarantee of tables is shared with those whose devices are lent.
            let uses = |slot: usize, claim: &ByteClaim| match kind {
                Bytes::Device => keeps[slot] > 0,
                Bytes::Host => claim.want > 0,
            };
            let mut sharers = [0; CLASSES_MAX];
            for (slot, (tenant, claim)) in tenants.iter().zip(&*claims).enumerate() {
                if let Some(tenant) = tenant.as_ref().filter(|_| uses(slot, claim)) {
                    sharers[tenant.class.index()] += 1;
                }
            }
            for (slot, (tenant, claim)) in tenants.iter().zip(claims).enumerate() {
                let class = tenant.as_ref().and_then(|it| policy.class(it.class));
                claim.guarantee = match (tenant, class) {
                    (Some(tenant), Some(class)) if uses(slot, claim) => {
                        class.guarantee.of_bytes(there) / sharers[tenant.class.index()]
                    }
                    _ => 0,
                };
            }
        }
        for (keeps, claim) in keeps.iter_mut().zip(&demands.bytes[Bytes::Device.index()]) {
            *keeps = claim.guarantee.min(*keeps);
        }
    }

    /// Takes the matcher's rates over, and notes who waits.
    fn settle(&mut self) {
        for (slot, tenant) in self.tenants.iter_mut().enumerate() {
            let Some(tenant) = tenant else {
                continue;
            };
            for (kind, part) in Kind::ALL.into_iter().zip(&mut tenant.parts) {
                part.rate = self.division.rates(kind)[slot];
                if let Some(broken) = part.broken.take() {
                    self.counters.missed += u64::from(broken.count);
                }
                if part.want == 0 {
                    part.debt = part.debt.min(0);
                }
            }
            let core = &tenant.parts[Kind::Core.index()];
            if core.want == 0 {
                tenant.aged_turn = None;
            }
            let waits = core.held == 0 && self.queue.lengths(slot).ready > 0;
            tenant.waits_since = waits.then(|| tenant.waits_since.unwrap_or(self.now));
        }
    }

    /// The rate that a tenant would have if it could use so many cores, or as many as any of its jobs can.
    fn rate_with(&mut self, slot: usize, parallelism: u32) -> Rate {
        let Some(mut tenant) = self.tenants[slot] else {
            return Rate::ZERO;
        };
        let real = tenant;
        let units = self.pool.count(Kind::Core);
        let ceiling = self
            .class_of(slot)
            .map_or(0, |class| class.ceiling.of_whole(units));
        let core = &mut tenant.parts[Kind::Core.index()];
        let parallelism = parallelism.max(self.queue.parallelism(slot));
        core.want = core.want.max(parallelism.min(ceiling));
        self.tenants[slot] = Some(tenant);
        self.fill_claims();
        self.tenants[slot] = Some(real);
        let capacity = self.capacity();
        self.division.pour(Kind::Core, &self.demands, &capacity)[slot]
    }

    /// At which paces a tenant is served whatever others want: by its part of its class's guarantee, and by the turns
    /// that it gets by ageing. A decision may give less for the moment, to tenants that have aged.
    fn promised(&self, slot: usize) -> [Option<Pace>; 2] {
        let Some((tenant, class)) = self.tenants[slot].as_ref().zip(self.class_of(slot)) else {
            return [None; 2];
        };
        let mut sharers = sharers(&self.tenants, Kind::Core)[tenant.class.index()];
        // It is about to want something.
        sharers += u64::from(tenant.parts[Kind::Core.index()].want == 0);
        let guarantee = Rate(class.guarantee.of(self.pool.open(Kind::Core)).0 / sharers);
        let slice = self.policy.limits().slice;
        let every = class.ageing_max.plus(slice);
        [
            Some(Pace::Rate(guarantee)),
            Some(Pace::Turns { slice, every }),
        ]
    }

    /// What time of day it is, if anybody has said.
    fn time_of_day(&self) -> Option<TimeOfDay> {
        let (at, unix) = self.wall?;
        Some(TimeOfDay::of_unix(unix.plus(self.now.since(at))))
    }

    fn retry_after(&mut self, slot: Option<usize>, work: Work, reason: Refusal) -> Option<Nanos> {
        match reason {
            Refusal::TenantFull { .. } => {
                let slot = slot?;
                let rate = self.rate_with(slot, work.parallelism);
                Some(self.queue.place_after(slot, rate))
            }
            Refusal::BoxFull { .. } => self
                .present()
                .map(|(slot, tenant)| (slot, tenant.parts[Kind::Core.index()].rate))
                .filter(|&(_, rate)| rate > Rate::ZERO)
                .map(|(slot, rate)| self.queue.place_after(slot, rate))
                .min(),
            Refusal::UnknownTenant
            | Refusal::DuplicateJob
            | Refusal::NoParallelism
            | Refusal::HostMemory { .. }
            | Refusal::DeadlineUnmeetable { .. } => None,
        }
    }

    fn order_changed(&self, slot: usize, actions: &mut Vec<Action>) {
        if let Some(tenant) = &self.tenants[slot] {
            actions.push(Action::RunOrder { tenant: tenant.id });
        }
    }

    /// Lets a tenant want all units of a kind that it can use again; whether it did not.
    fn take_back_lent(&mut self, slot: usize, kind: Kind) -> bool {
        self.tenants[slot]
            .as_mut()
            .is_some_and(|tenant| tenant.parts[kind.index()].lent.take().is_some())
    }

    /// A unit that has answered to this epoch, and its owner's slot.
    fn bench(&mut self, unit: UnitId, epoch: Epoch) -> Option<(&mut Bench, Option<usize>)> {
        let slot = self
            .pool
            .unit(unit)
            .filter(|u| u.is_answered() && u.epoch() == epoch)?
            .slot();
        Some((&mut self.benches[usize::from(unit.0)], slot))
    }

    fn slot(&self, tenant: TenantId) -> Option<usize> {
        self.present()
            .find(|(_, present)| present.id == tenant)
            .map(|(slot, _)| slot)
    }

    fn present(&self) -> impl Iterator<Item = (usize, &Tenant)> {
        self.tenants
            .iter()
            .enumerate()
            .filter_map(|(slot, t)| t.as_ref().map(|t| (slot, t)))
    }

    fn class_of(&self, slot: usize) -> Option<&Class> {
        self.tenants[slot]
            .as_ref()
            .and_then(|tenant| self.policy.class(tenant.class))
    }
}

impl Tenant {
    fn new(id: TenantId, class: ClassId) -> Tenant {
        Tenant {
            id,
            class,
            parts: [Part::default(); KINDS],
            waits_since: None,
            aged_turn: None,
            starves_since: None,
            declared: None,
            declares: false,
            peaked: None,
        }
    }

    /// How long a unit of it may find nothing to run before it is lent. What is declared is cores.
    fn patience(&self, kind: Kind, policy: &Policy) -> Nanos {
        let declared = self.declared.filter(|_| kind == Kind::Core);
        let class = declared.and_then(|_| policy.class(self.class));
        class.map_or(policy.limits().idle_patience, |class| {
            class.declared_patience
        })
    }

    /// When its wait reached its class's bound: of the turn that it has by that, or of the wait
    /// that it is in.
    fn aged(&self, class: &Class, now: Nanos) -> Option<Nanos> {
        let turn = self
            .aged_turn
            .filter(|turn| turn.until > now)
            .map(|turn| turn.bound);
        let wait = self.waits_since.map(|since| since.plus(class.ageing_max));
        turn.or(wait.filter(|&bound| bound <= now))
    }
}

/// How a tenant is served.
#[derive(Debug, Clone, Copy)]
enum Pace {
    /// All the time.
    Rate(Rate),
    /// On one core for a slice in each such span.
    Turns { slice: Nanos, every: Nanos },
}

impl Pace {
    /// The rate while it is served.
    fn rate(self) -> Rate {
        match self {
            Pace::Rate(rate) => rate,
            Pace::Turns { .. } => Rate::ONE,
        }
    }

    /// How long it takes until it has been served for so long.
    fn time(self, served: Nanos) -> Nanos {
        match self {
            Pace::Rate(_) => served,
            Pace::Turns { slice, every } => {
                Nanos(served.0.div_ceil(slice.0).saturating_mul(every.0))
            }
        }
    }
}

/// What is asked of a device: room for its owner.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    owner: Option<usize>,
    /// So many bytes it lacks; none, if nothing is asked.
    short: u64,
    /// By slot, the first to go first.
    victims: Vec<(usize, Victim)>,
}

impl Question {
    fn new(slots: usize) -> Question {
        Question {
            owner: None,
            short: 0,
            victims: Vec::with_capacity(slots),
        }
    }

    fn clear(&mut self) {
        (self.owner, self.short) = (None, 0);
        self.victims.clear();
    }
}

/// The newest order to make room on a device.
#[derive(Debug)]
struct Order {
    asked: Question,
    /// It has not been answered.
    is_open: bool,
    /// The device has had another owner since: whatever the answer, it may be asked again.
    is_stale: bool,
    /// When there may be more to be had than now, while that is too little.
    retry_at: Option<Nanos>,
}

impl Order {
    fn new(slots: usize) -> Order {
        Order {
            asked: Question::new(slots),
            is_open: false,
            is_stale: false,
            retry_at: None,
        }
    }
}

/// Whose tables are on which device: by device and tenant. Sums are kept, for each decision asks for them.
#[derive(Debug)]
struct Tables {
    slots: usize,
    devices: usize,
    /// The set of devices whose memory is counted. Of that a part is promised, and there it is kept.
    counted: u64,
    /// What is there.
    bytes: Vec<u64>,
    /// What of it may go by an order that is open.
    asked: Vec<u64>,
    /// For how long their tenant is still to have the device since some of them came, and until when they wait for it.
    unserved: Vec<(Nanos, Nanos)>,
    /// By slot.
    holdings: Vec<Holding>,
    /// By device: what all have there.
    used: Vec<u128>,
}

/// What a tenant has on devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Holding {
    /// On all of them.
    bytes: u128,
    /// On those whose memory is counted, even if all goes that has been asked.
    unasked: u128,
    /// The set of devices on which it has any.
    on: u64,
}

impl Tables {
    fn new(slots: usize, devices: &[Unit]) -> Tables {
        let (all, count) = (slots * devices.len(), devices.len());
        let counted = devices.iter().enumerate().filter(|(_, it)| it.is_counted());
        Tables {
            slots,
            devices: count,
            counted: counted.fold(0, |set, (device, _)| set | 1 << device),
            bytes: vec![0; all],
            asked: vec![0; all],
            unserved: vec![(Nanos::ZERO, Nanos::ZERO); all],
            holdings: vec![Holding::default(); slots],
            used: vec![0; count],
        }
    }

    fn at(&self, slot: usize, device: usize) -> usize {
        device * self.slots + slot
    }

    /// So much is there now, and so much of it may go.
    fn put(&mut self, slot: usize, device: usize, bytes: u64, asked: u64) {
        let at = self.at(slot, device);
        let stays = |bytes: u64, asked: u64| u128::from(bytes.saturating_sub(asked));
        let (before, stayed) = (self.bytes[at], stays(self.bytes[at], self.asked[at]));
        (self.bytes[at], self.asked[at]) = (bytes, asked);
        let holding = &mut self.holdings[slot];
        holding.bytes = holding.bytes - u128::from(before) + u128::from(bytes);
        if self.counted >> device & 1 == 1 {
            holding.unasked = holding.unasked - stayed + stays(bytes, asked);
        }
        holding.on = holding.on & !(1 << device) | u64::from(bytes > 0) << device;
        let used = &mut self.used[device];
        *used = *used - u128::from(before) + u128::from(bytes);
    }

    /// Takes note of what is there. What has come is to serve for so long, and waits for that until then.
    fn set(&mut self, slot: usize, device: usize, bytes: u64, unserved: (Nanos, Nanos)) {
        let at = self.at(slot, device);
        if bytes > self.bytes[at] {
            self.unserved[at] = unserved;
        }
        self.put(slot, device, bytes, self.asked[at]);
    }

    /// A tenant has had a device for so long.
    fn serve(&mut self, slot: usize, device: usize, span: Nanos) {
        let at = self.at(slot, device);
        self.unserved[at].0 = self.unserved[at].0.since(span);
    }

    /// Until when they wait to serve, if they have not.
    fn unserved(&self, slot: usize, device: usize) -> Option<Nanos> {
        let (left, until) = self.unserved[self.at(slot, device)];
        (left > Nanos::ZERO).then_some(until)
    }

    fn reserve(&mut self, slot: usize, device: usize, bytes: u64) {
        self.put(slot, device, self.on(slot, device), bytes);
    }

    /// An order is closed.
    fn release(&mut self, device: usize) {
        for slot in 0..self.slots {
            if self.asked[self.at(slot, device)] > 0 {
                self.reserve(slot, device, 0);
            }
        }
    }

    /// A device is lost, and all that was there.
    fn lose(&mut self, device: usize) {
        for slot in 0..self.slots {
            self.clear(slot, device);
        }
    }

    fn forget(&mut self, slot: usize) {
        for device in 0..self.devices {
            self.clear(slot, device);
        }
    }

    fn clear(&mut self, slot: usize, device: usize) {
        self.put(slot, device, 0, 0);
        let at = self.at(slot, device);
        self.unserved[at] = (Nanos::ZERO, Nanos::ZERO);
    }

    fn on(&self, slot: usize, device: usize) -> u64 {
        self.bytes[self.at(slot, device)]
    }

    /// What a tenant has on all devices.
    fn held(&self, slot: usize) -> u64 {
        clamped(self.holdings[slot].bytes)
    }

    /// What a tenant has on all devices whose memory is counted even if all goes that has been asked.
    fn unasked(&self, slot: usize) -> u64 {
        clamped(self.holdings[slot].unasked)
    }

    /// What all have on a device.
    fn used(&self, device: usize) -> u64 {
        clamped(self.used[device])
    }

    /// The set of devices that hold tables of a tenant.
    fn devices(&self, slot: usize) -> u64 {
        self.holdings[slot].on
    }

    /// Checks the sums; the text says which is wrong.
    fn check(&self) -> Result<(), String> {
        let row =
            |slot: usize| (0..self.devices).map(move |device| (device, self.at(slot, device)));
        for (slot, kept) in self.holdings.iter().enumerate() {
            let mut holding = Holding::default();
            for (device, at) in row(slot) {
                holding.bytes += u128::from(self.bytes[at]);
                if self.counted >> device & 1 == 1 {
                    holding.unasked += u128::from(self.bytes[at].saturating_sub(self.asked[at]));
                }
                holding.on |= u64::from(self.bytes[at] > 0) << device;
            }
            if holding != *kept {
                return Err(format!(
                    "slot {slot} has {holding:?} of tables, kept is {kept:?}"
                ));
            }
        }
        for (device, &kept) in self.used.iter().enumerate() {
            let all = (0..self.slots).map(|slot| u128::from(self.on(slot, device)));
            let used: u128 = all.sum();
            if used != kept {
                return Err(format!(
                    "{used} bytes are used on device {device}, kept is {kept}"
                ));
            }
        }
        Ok(())
    }
}

fn clamped(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// How many tenants of each class want units of a kind.
fn sharers(tenants: &[Option<Tenant>], kind: Kind) -> [u64; CLASSES_MAX] {
    let mut sharers = [0; CLASSES_MAX];
    let wants = |tenant: &&Tenant| tenant.parts[kind.index()].want > 0;
    for tenant in tenants.iter().flatten().filter(wants) {
        sharers[tenant.class.index()] += 1;
    }
    sharers
}

/// [`Event::Submitted`] or [`Event::Resubmitted`], taken apart.
struct Submission {
    job: JobId,
    tenant: TenantId,
    work: Work,
    deadline: Option<Nanos>,
    received: Nanos,
    is_new: bool,
}

/// The shortest span for which a demand can be declared.
pub const DECLARED_SPAN_MIN: Nanos = Nanos::from_millis(1);
/// Among so many jobs a deadline that makes none late is looked for before the last of all.
const SEARCHED_MAX: usize = 512;
/// How often in a slice it is looked whether somebody's turn has come: turns are late by an
/// eighth of a slice at most.
const TICKS_A_SLICE: u64 = 8;
/// How many slices of one core a tenant may be owed, or owe.
const DEBT_SLICES: u64 = 16;
/// For how many slices tables that have come to a device may wait there for their tenant's turn, if somebody of no
/// more value needs the room: by then a tenant with any debt has had one.
const UNSERVED_SLICES: u64 = DEBT_SLICES;
