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
//!
//! Each of these is a thing of its own, with what it keeps and what always holds of it; what only passes between them
//! is here.
//!
//! | file | subject |
//! |---|---|
//! | `event`, `action`, `report` | what is told, what is answered, what is shown |
//! | `tenant` | who is here, and what each wants, holds and is owed |
//! | `floor` | the units, the promises on them, and their fences |
//! | `wants` | what each wants now, and what is lent |
//! | `claims` | what all ask of the matcher |
//! | `admission` | whether a deadline can be met |
//! | `preparing` | who is brought into the host's memory |
//! | `residence`, `tables` | whose tables are on which device, and orders to make room |

mod action;
mod admission;
mod claims;
mod event;
mod floor;
mod preparing;
mod report;
mod residence;
mod tables;
mod tenant;
mod wants;

use crate::eviction::Victim;
use crate::mailbox::{Entry, Found};
use crate::matching::Rate;
use crate::matching::dominant::{Bytes, Division, Places};
use crate::pool::{Holder, Kind, Pool, Unit};
use crate::queue::{Due, JobState, Queue, Refusal, Work};
use crate::scenario::{Class, ClassId, PREPARED_MAX, Policy, PolicyError, Share};
use crate::{Epoch, JobId, Nanos, TenantId, UnitId};

pub use action::{Action, Cause, DECLARED_SPAN_MIN, DemandRefusal, Reallocation, TenantRefusal};
pub use event::{Event, Outcome};
pub use report::{Counters, Estimate, JobView, TenantView};

use admission::{Pace, Prospect};
use claims::Claims;
use floor::{Floor, Handover};
use preparing::Preparing;
use residence::Residence;
use tenant::{DEBT_SLICES, Decision, Declared, Tenants};
use wants::Wants;

/// One box.
#[derive(Debug)]
pub struct Arbiter {
    floor: Floor,
    policy: Policy,
    queue: Queue,
    tenants: Tenants,
    wants: Wants,
    claims: Claims,
    division: Division,
    places: Places,
    residence: Residence,
    now: Nanos,
    counters: Counters,
}

/// The box as it is, for whoever looks at it and changes something else.
#[derive(Debug, Clone, Copy)]
struct Scene<'a> {
    floor: &'a Floor,
    policy: &'a Policy,
    queue: &'a Queue,
    tenants: &'a Tenants,
    division: &'a Division,
    now: Nanos,
}

impl Arbiter {
    /// A box with nobody on it.
    pub fn new(pool: Pool, policy: Policy) -> Arbiter {
        let counts = Kind::ALL.map(|kind| pool.range(kind).len());
        let slots = policy.limits().tenants_max as usize;
        let floor = Floor::new(pool);
        let pool = floor.pool();
        Arbiter {
            queue: Queue::new(slots, policy.limits().jobs_max),
            tenants: Tenants::new(slots),
            wants: Wants::default(),
            claims: Claims::new(slots),
            division: Division::new(slots, counts),
            places: Places {
                seats: counts.map(Vec::with_capacity),
                nodes: Kind::ALL.map(|kind| {
                    let units = pool.units()[pool.range(kind)].iter();
                    units.map(|unit| unit.node()).collect()
                }),
            },
            residence: Residence::new(slots, floor.devices()),
            now: Nanos::ZERO,
            counters: Counters::default(),
            floor,
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
            }
            | Event::Resubmitted {
                job,
                tenant,
                work,
                deadline,
                received,
            } => {
                let submission = Submission {
                    job,
                    tenant,
                    work,
                    deadline,
                    received: received.min(now),
                    is_new: matches!(event, Event::Submitted { .. }),
                };
                self.submit(submission, actions);
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
                self.claims.set_clock(now, unix);
                self.decide(now, actions);
            }
            Event::Decided => self.floor.stamp_decided(now),
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
        let pressed = self.wants.are_pressed();
        let turn = pressed.then(|| self.now.plus(Nanos(limits.slice.0 / TICKS_A_SLICE)));
        let declared = self.tenants.present();
        let over = declared.filter_map(|(_, tenant)| tenant.declared.map(|it| it.until));
        let silent = self.floor.silent_at(limits.overrun());
        let room = self.residence.retry_at();
        over.chain(turn).chain(silent).chain(room).min()
    }

    /// Puts another policy in the place of this one, which comes back; or refuses it, and nothing
    /// changes. No job is lost: those above a bound that is lower now stay, and no more come until
    /// they are below it. See [`Policy::check_successor`] for what must stay. Nothing is decided
    /// here: send an [`Event::Tick`] afterwards, or units change hands with the next event. Unlike
    /// [`Arbiter::handle`] this allocates, and [`Arbiter::actions_max`] may be another afterwards.
    pub fn adopt(&mut self, policy: Policy, now: Nanos) -> Result<Policy, PolicyError> {
        let in_use = |class| {
            self.tenants
                .present()
                .any(|(_, tenant)| tenant.class == class)
        };
        self.policy.check_successor(&policy, in_use)?;
        self.account(now.max(self.now));
        let old = std::mem::replace(&mut self.policy, policy);
        for slot in self.tenants.slots() {
            let Some(tenant) = self.tenants.get_mut(slot) else {
                continue;
            };
            let name = old.class(tenant.class).map(|class| &class.name);
            let heir = name.and_then(|name| self.policy.find(name));
            // The check above has seen that there is one.
            tenant.class = heir.unwrap_or(tenant.class);
            if let Some(class) = self.policy.class(tenant.class) {
                self.queue.rebound(slot, class.queue_max);
                self.tenants.meter_mut(slot).adopt(class.peak.as_ref());
            }
        }
        debug_assert_eq!(self.check(), Ok(()));
        Ok(old)
    }

    /// A tenant's runnable jobs, the most urgent first. Empty for an unknown tenant.
    pub fn run_order(&self, tenant: TenantId) -> &[JobId] {
        let slot = self.tenants.slot(tenant);
        slot.map_or(&[], |slot| self.queue.order(slot))
    }

    /// Whose tables may go from a device by the newest [`Action::Evict`] of it, the first to go first.
    pub fn victims(&self, unit: UnitId) -> impl Iterator<Item = Victim> + '_ {
        let device = self.floor.device(unit);
        device
            .into_iter()
            .flat_map(|device| self.residence.victims(device))
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
        let slot = self.tenants.slot(tenant)?;
        let class = self.tenants.class(slot, &self.policy)?;
        let due = deadline.unwrap_or(now.plus(class.deadline_implied));
        let rate = self.rate_with(slot, work.parallelism);
        Some(self.prospect(slot, work).estimate(due, rate))
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
        self.floor.pool()
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// All tenants.
    pub fn tenants(&self) -> impl Iterator<Item = TenantView> + '_ {
        let units = self.pool().count(Kind::Core);
        self.tenants.present().map(move |(slot, tenant)| {
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
                device_memory: self.residence.tables().held(slot),
                host_memory: self.queue.host_memory_held(slot),
                host_memory_max: self.host_memory_max(slot),
                declared: tenant.declared.map_or(0, |it| it.units),
                at_peak: self.tenants.meter(slot).at_peak(),
                lends: tenant.parts.iter().any(|part| part.lent.is_some()),
                guarantee: class.map_or(Share::NONE, |class| class.guarantee),
                first: self.queue.reading(slot, ceiling).first,
            }
        })
    }

    /// An unfinished job; `None` if there is none of that id.
    pub fn job(&self, job: JobId) -> Option<JobView> {
        let (slot, state, ahead) = self.queue.job(job)?;
        let tenant = self.tenants.get(slot)?.id;
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
        let evictions = self.pool().range(Kind::Device).len();
        3 * self.pool().units().len() + jobs + evictions + 4
    }

    /// Checks every invariant; an error names one that is broken, which is a bug in this crate.
    /// Debug builds call this after each event.
    pub fn check(&self) -> Result<(), String> {
        self.queue.check()?;
        for kind in Kind::ALL {
            self.check_kind(kind)?;
        }
        self.residence.tables().check()?;
        let held = |(slot, _)| u128::from(self.queue.host_memory_held(slot));
        let held: u128 = self.tenants.present().map(held).sum();
        let there = self.pool().host_memory();
        if held > u128::from(there) && there < u64::MAX {
            return Err(format!("{held} of {there} bytes of host memory are held"));
        }
        for unit in self.pool().units() {
            let owner = unit.slot().map(|slot| self.tenants.get(slot));
            if owner.is_some_and(|owner| owner.map(|it| it.id) != unit.owner()) {
                return Err(format!(
                    "{} is owned by somebody who is not here",
                    unit.id()
                ));
            }
        }
        self.floor.check()
    }

    fn check_kind(&self, kind: Kind) -> Result<(), String> {
        let (mut held, mut wanted) = (0, 0);
        for (slot, tenant) in self.tenants.present() {
            let part = &tenant.parts[kind.index()];
            let units = self.pool().units()[self.pool().range(kind)].iter();
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
        let open = self.pool().open(kind);
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
        self.residence.serve(self.floor.devices(), span);
        let debt_max = self.debt_max();
        self.tenants.carry(span, debt_max, &mut self.queue);
    }

    fn join(&mut self, tenant: TenantId, class: ClassId) -> Result<(), TenantRefusal> {
        if tenant.0 == u32::MAX {
            return Err(TenantRefusal::ReservedId);
        }
        if self.tenants.slot(tenant).is_some() {
            return Err(TenantRefusal::Joined);
        }
        let Some(bounds) = self.policy.class(class) else {
            return Err(TenantRefusal::UnknownClass);
        };
        let Some(slot) = self.tenants.seat(tenant, class) else {
            return Err(TenantRefusal::BoxFull {
                max: self.policy.limits().tenants_max,
            });
        };
        self.queue.open(slot, bounds.queue_max, bounds.prepared_max);
        self.tenants.meter_mut(slot).open(bounds.peak.as_ref());
        Ok(())
    }

    fn bound(&mut self, tenant: TenantId, running: u32, actions: &mut Vec<Action>) {
        let Some(slot) = self.tenants.slot(tenant) else {
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
        let Some(slot) = self.tenants.slot(tenant) else {
            self.counters.stray += 1;
            return;
        };
        if let Some(tenant) = self.tenants.get_mut(slot) {
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
        let Some(slot) = self.tenants.slot(tenant) else {
            self.counters.stray += 1;
            return;
        };
        while let Some(job) = self.queue.remove_first(slot) {
            self.counters.cancelled += 1;
            actions.push(Action::Drop { job });
        }
        if let Some(tenant) = self.tenants.get_mut(slot) {
            tenant.declared = None;
        }
        self.prepare(slot, actions);
        // It wants nothing now, so the decision takes all its units away.
        self.decide(self.now, actions);
        self.residence.forget(slot);
        self.tenants.remove(slot);
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
        if work.device_memory > self.pool().device_memory_min() {
            work.devices = 0;
        }
        let slot = self.tenants.slot(tenant);
        let implied = slot
            .and_then(|slot| self.class(slot))
            .map(|class| class.deadline_implied);
        let admitted = match slot.zip(implied) {
            Some((slot, implied)) => {
                let implied = Due::Implied(received.plus(implied));
                let due = deadline.map_or(implied, Due::Deadline);
                let place = self.queue.has_place(slot, job, work);
                let fit = place
                    .and_then(|()| admission::has_memory(self.pool(), work))
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
                self.tenants.meter_mut(slot).arrive(received);
                actions.push(Action::Admit { job });
                self.prepare(slot, actions);
                self.decide(received, actions);
            }
        }
    }

    /// Whether a job that is due then can be finished by then with what its tenant can count on.
    fn can_meet(&mut self, slot: usize, work: Work, deadline: Nanos) -> Result<(), Refusal> {
        if work.core == Nanos::ZERO {
            return Ok(());
        }
        let as_it_is = Pace::Rate(self.rate_with(slot, work.parallelism));
        let promised = Pace::promised(slot, self.split().0).into_iter().flatten();
        let paces = std::iter::once(as_it_is).chain(promised);
        self.prospect(slot, work).can_meet(deadline, paces)
    }

    fn prospect(&mut self, slot: usize, work: Work) -> Prospect<'_> {
        Prospect {
            queue: &mut self.queue,
            slot,
            work,
            now: self.now,
        }
    }

    fn retry_after(&mut self, slot: Option<usize>, work: Work, reason: Refusal) -> Option<Nanos> {
        match reason {
            Refusal::TenantFull { .. } => {
                let slot = slot?;
                let rate = self.rate_with(slot, work.parallelism);
                Some(self.queue.place_after(slot, rate))
            }
            Refusal::BoxFull { .. } => self
                .tenants
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

    /// Notes what a tenant declares; its slot.
    fn declare(
        &mut self,
        tenant: TenantId,
        units: u32,
        span: Nanos,
        received: Nanos,
    ) -> Result<usize, DemandRefusal> {
        let slot = self
            .tenants
            .slot(tenant)
            .ok_or(DemandRefusal::UnknownTenant)?;
        let class = self.class(slot).ok_or(DemandRefusal::UnknownTenant)?;
        let ceiling = class.ceiling.of_whole(self.pool().count(Kind::Core));
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
        let before = self.tenants.get_mut(slot);
        let before = before.and_then(|it| std::mem::replace(&mut it.declared, live));
        // A renewal of what has been lent does not take it back: only more does, or work.
        if units > before.map_or(0, |before| before.units) {
            self.tenants.take_back_lent(slot, Kind::Core);
            self.set_declares(slot, true);
        }
        Ok(slot)
    }

    fn set_declares(&mut self, slot: usize, declares: bool) {
        if let Some(tenant) = self.tenants.get_mut(slot) {
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
            self.tenants.take_back_lent(slot, kind);
        }
        if let Some((tenant, work)) = self.tenants.get_mut(slot).zip(self.queue.work(job)) {
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

    fn order_changed(&self, slot: usize, actions: &mut Vec<Action>) {
        if let Some(tenant) = self.tenants.get(slot) {
            actions.push(Action::RunOrder { tenant: tenant.id });
        }
    }

    /// Has the jobs prepared that may be, of the tenant of a slot whose queue has changed. Where host
    /// memory is bounded that may be jobs of others, for whom it has made room: then it is divided anew.
    fn prepare(&mut self, slot: usize, actions: &mut Vec<Action>) {
        let there = self.pool().host_memory();
        if there < u64::MAX {
            self.fill_claims();
        }
        let capacity = self.floor.capacity();
        let mut preparing = Preparing {
            queue: &mut self.queue,
            tenants: &mut self.tenants,
            actions,
        };
        if there == u64::MAX {
            preparing.within(slot, u64::MAX);
            return;
        }
        let demands = self.claims.demands();
        let parts = self.division.pour_bytes(Bytes::Host, demands, &capacity);
        preparing.all(there, parts, &self.claims, self.now);
    }

    /// How many bytes of host memory the tenant of a slot may hold by the last decision.
    fn host_memory_max(&self, slot: usize) -> u64 {
        let given = self.division.bytes(Bytes::Host).get(slot);
        match self.pool().host_memory() {
            u64::MAX => u64::MAX,
            _ => given.copied().unwrap_or(0),
        }
    }

    /// Notes whose tables are where.
    fn resident(&mut self, tenant: TenantId, unit: UnitId, bytes: u64, actions: &mut Vec<Action>) {
        let device = self.floor.device(unit);
        let Some((slot, device)) = self.tenants.slot(tenant).zip(device) else {
            self.counters.stray += 1;
            return;
        };
        // News of a device may have been under way when it was lost.
        let is_lost = self.pool().unit(unit).is_some_and(Unit::is_lost);
        let bytes = if is_lost { 0 } else { bytes };
        let (now, limits) = (self.now, self.policy.limits());
        self.residence.note(slot, device, bytes, now, limits);
        self.make_room(actions);
    }

    /// Takes the answer to an order to make room.
    fn evicted(&mut self, unit: UnitId, made: bool, actions: &mut Vec<Action>) {
        let device = self.floor.device(unit);
        if !device.is_some_and(|device| self.residence.close(device)) {
            self.counters.stray += 1;
            return;
        }
        self.counters.unmade += u64::from(!made);
        self.make_room(actions);
    }

    fn make_room(&mut self, actions: &mut Vec<Action>) {
        let (scene, claims, residence) = self.split();
        let evictions = residence.make_room(scene, claims, actions);
        self.counters.evictions += evictions;
    }

    fn entered(&mut self, unit: UnitId, entry: Entry, actions: &mut Vec<Action>) {
        let bound = self.policy.limits().reallocation_max;
        let Some(entered) = self.floor.enter(unit, entry, self.now, bound) else {
            self.counters.stray += 1;
            return;
        };
        match entered.handover {
            Some(Handover::Superseded) => self.counters.superseded += 1,
            Some(Handover::Complete(record)) => {
                self.counters.reallocated += 1;
                self.counters.found_nothing += u64::from(record.found == Found::Nothing);
                self.counters.missed += u64::from(record.missed);
                actions.push(Action::Reallocated(record));
            }
            None => {}
        }
        if entered.returned {
            actions.push(Action::Returned { unit });
            self.decide(self.now, actions);
        }
    }

    fn idle(&mut self, unit: UnitId, epoch: Epoch, at: Nanos) {
        if !self.floor.idle(unit, epoch, at) {
            self.counters.stray += 1;
        }
    }

    fn working(&mut self, unit: UnitId, epoch: Epoch, actions: &mut Vec<Action>) {
        let Some(unit) = self.floor.working(unit, epoch) else {
            self.counters.stray += 1;
            return;
        };
        let (kind, slot) = (unit.kind(), unit.slot());
        if slot.is_some_and(|slot| self.tenants.take_back_lent(slot, kind)) {
            self.decide(self.now, actions);
        }
    }

    /// Takes units whose workers are silent for too long away from everybody.
    fn fence(&mut self, actions: &mut Vec<Action>) {
        let overrun = self.policy.limits().overrun();
        for index in 0..self.pool().units().len() {
            if let Some(silent) = self.floor.silent(index, self.now, overrun) {
                let unit = self.pool().units()[index].id();
                self.counters.overruns += 1;
                actions.push(Action::Overrun { unit, silent });
                self.fence_off(index, actions);
            }
        }
    }

    /// Takes a unit that has said that it is lost away from everybody.
    fn lost(&mut self, unit: UnitId, actions: &mut Vec<Action>) {
        let Some(it) = self.pool().unit(unit).filter(|it| !it.is_lost()) else {
            self.counters.stray += 1;
            return;
        };
        // It may have been silent before.
        let is_fenced = it.is_fenced();
        let index = usize::from(unit.0);
        self.counters.lost += 1;
        if !is_fenced {
            self.fence_off(index, actions);
        }
        self.floor.lose(index);
        if let Some(device) = self.floor.device(unit) {
            self.residence.lose(device);
        }
        self.decide(self.now, actions);
    }

    /// A unit counts for nobody until its worker answers; what its owner was promised there comes from
    /// elsewhere, or is a miss.
    fn fence_off(&mut self, index: usize, actions: &mut Vec<Action>) {
        let unit = &self.pool().units()[index];
        let (unit, kind, slot) = (unit.id(), unit.kind(), unit.slot());
        let (ownership, promised) = self.floor.fence(index, self.now);
        if let Some(tenant) = slot.and_then(|slot| self.tenants.get_mut(slot)) {
            tenant.parts[kind.index()].lose(promised);
        }
        actions.push(Action::Own { unit, ownership });
    }

    /// Asks `matching` who should own what, and makes it so. `t0` is when the cause arose.
    fn decide(&mut self, t0: Nanos, actions: &mut Vec<Action>) {
        let now = self.now;
        let changed = self.wants.update(
            &mut self.tenants,
            &self.floor,
            &self.policy,
            &self.queue,
            now,
        );
        let cores = self.pool().count(Kind::Core);
        let peaks = self
            .tenants
            .read_meters(&self.policy, &self.queue, cores, t0, now);
        self.counters.peaks += peaks;
        self.fill_claims();
        self.floor.fill_seats(now, &mut self.places.seats);
        let slice = self.policy.limits().slice;
        let bytes = self.floor.bytes();
        self.division
            .decide(slice, self.claims.demands(), &self.places, bytes);

        // Units are taken before any is given, so that no count goes above what is wanted.
        let units = 0..self.pool().units().len();
        for index in units.clone() {
            let (kind, from, to) = self.change(index);
            let from = from.filter(|_| from != to);
            if let Some(tenant) = from.and_then(|slot| self.tenants.get_mut(slot)) {
                tenant.parts[kind.index()].held -= 1;
            }
        }
        let decision = Decision {
            now,
            t0,
            changed,
            turn_ends: now.plus(slice),
        };
        for index in units {
            let (_, from, to) = self.change(index);
            if from != to {
                self.hand_over(index, decision, actions);
            }
        }
        self.make_room(actions);
        let missed = self.tenants.settle(&self.division, &self.queue, now);
        self.counters.missed += missed;
    }

    /// A unit's kind, its owner when the last decision was made, and by that decision.
    fn change(&self, index: usize) -> (Kind, Option<usize>, Option<usize>) {
        let kind = self.pool().units()[index].kind();
        let at = index - self.pool().range(kind).start;
        let from = self.places.seats[kind.index()][at].holder;
        (kind, from, self.division.owners(kind)[at])
    }

    /// Gives a unit to whom it is to go by the last decision.
    fn hand_over(&mut self, index: usize, decision: Decision, actions: &mut Vec<Action>) {
        let (kind, from, to) = self.change(index);
        let to = to.and_then(|slot| {
            let tenant = self.tenants.get_mut(slot)?;
            let aged = self.claims.units(kind, slot).aged;
            let cause = tenant.take(kind, from.is_none(), aged, decision);
            let tenant = tenant.id;
            Some((Holder { tenant, slot }, cause))
        });
        let (ownership, overtakes) = self.floor.give(index, to, decision);
        self.counters.superseded += u64::from(overtakes);
        let unit = self.pool().units()[index].id();
        actions.push(Action::Own { unit, ownership });
    }

    fn fill_claims(&mut self) {
        let (scene, claims, residence) = self.split();
        claims.fill(scene, residence.tables());
    }

    /// The rate that a tenant would have if it could use so many cores, or as many as any of its jobs can.
    fn rate_with(&mut self, slot: usize, parallelism: u32) -> Rate {
        let Some(tenant) = self.tenants.get(slot) else {
            return Rate::ZERO;
        };
        let want = tenant.parts[Kind::Core.index()].want;
        let units = self.pool().count(Kind::Core);
        let class = self.class(slot);
        let ceiling = class.map_or(0, |class| class.ceiling.of_whole(units));
        let parallelism = parallelism.max(self.queue.parallelism(slot));
        let imagined = want.max(parallelism.min(ceiling));
        self.tenants.set_want(slot, Kind::Core, imagined);
        self.fill_claims();
        self.tenants.set_want(slot, Kind::Core, want);
        let (demands, capacity) = (self.claims.demands(), self.floor.capacity());
        self.division.pour(Kind::Core, demands, &capacity)[slot]
    }

    /// The class of the tenant in a slot.
    fn class(&self, slot: usize) -> Option<&Class> {
        self.tenants.class(slot, &self.policy)
    }

    /// The box as it is, beside what is worked out from it.
    fn split(&mut self) -> (Scene<'_>, &mut Claims, &mut Residence) {
        let scene = Scene {
            floor: &self.floor,
            policy: &self.policy,
            queue: &self.queue,
            tenants: &self.tenants,
            division: &self.division,
            now: self.now,
        };
        (scene, &mut self.claims, &mut self.residence)
    }
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

/// How often in a slice it is looked whether somebody's turn has come: turns are late by an
/// eighth of a slice at most.
const TICKS_A_SLICE: u64 = 8;
