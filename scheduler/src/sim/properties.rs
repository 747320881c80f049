//! What must hold at each step of a simulated box, whatever happens to it.
//!
//! The arbiter checks itself ([`crate::Arbiter::check`]); here it is checked from outside, by what
//! it told the workers and by what the workers then did. Promises of time are not looked at while
//! something goes on that no arbiter could help: from a stall or a loss until the unit is fenced
//! off, while no unit is open, while the clock stands still after a jump back, and for a turn after
//! each.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::arbiter::{Cause, Reallocation, TenantView};
use crate::matching::Rate;
use crate::pool::{KINDS, Kind};
use crate::sim::machine::{QUANTUM, SimulatedBox, WIRE};
use crate::{Nanos, Policy, TenantId};

/// What was found broken, and when.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{property} is broken at {at}: {detail}")]
pub struct Violation {
    /// Which property.
    pub property: Property,
    /// When, in true time.
    pub at: Nanos,
    /// What was seen.
    pub detail: String,
}

/// The properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Error)]
pub enum Property {
    /// No unit has two owners, none is lost: what each worker was told last is what the pool says.
    #[error("one owner a unit")]
    OneOwner,
    /// A tenant that wants its guarantee has had it, but for the turns that were due to others.
    #[error("guarantees over time")]
    Guarantee,
    /// No tenant with a ready job is without any unit beyond its class's bound and one turn of
    /// each tenant.
    #[error("the ageing bound")]
    Ageing,
    /// No worker of a core or device is without work, while a job could use it, for longer than a turn and what the
    /// arbiter's patience with one tenant after the other may take: each whose witnesses are on
    /// their way may have the unit until that is over.
    #[error("work conservation")]
    WorkConserving,
    /// Every admitted job ends, once.
    #[error("every admitted job ends")]
    EveryJobEnds,
    /// No more host memory is given to witnesses than there is.
    #[error("no byte given twice")]
    Bytes,
    /// From demand to first instruction within the policy's bound.
    #[error("the bound of a reallocation")]
    Reallocation,
}

/// Looks at a box after each event.
#[derive(Debug)]
pub(super) struct Watch {
    /// The longest turn that one tenant may take, with the tick and the quantum that end it.
    turn: Nanos,
    /// How far a guarantee may lag: the arbiter carries debts up to 16 slices, and gives what is
    /// owed one core at a time.
    lag: i128,
    /// How long a tenant may have a unit and nothing to run: the patience, and a tick.
    patience: Nanos,
    reallocation_max: Nanos,
    last: Nanos,
    disturbed_until: Nanos,
    accounts: BTreeMap<TenantId, Account>,
    /// By unit.
    idle_since: Vec<Option<(Nanos, Nanos)>>,
    violation: Option<Violation>,
}

/// What is watched of a tenant.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    of: [KindAccount; KINDS],
    waits_since: Option<Nanos>,
}

/// What is watched of a tenant's units of one kind.
#[derive(Debug, Clone, Copy, Default)]
struct KindAccount {
    /// What it was entitled to and what it held since the last look, as rates.
    entitled: u64,
    held: u64,
    /// Entitled less held, over time; never below nothing: what it had above its guarantee was
    /// surplus and is not counted against it.
    lacks: i128,
    /// What others were due by their age since it last lacked nothing.
    excused: i128,
}

impl Watch {
    pub(super) fn new(policy: &Policy) -> Watch {
        let mut watch = Watch {
            turn: Nanos::ZERO,
            lag: 0,
            patience: Nanos::ZERO,
            reallocation_max: Nanos::ZERO,
            last: Nanos::ZERO,
            disturbed_until: Nanos::ZERO,
            accounts: BTreeMap::new(),
            idle_since: vec![],
            violation: None,
        };
        watch.take_bounds(policy);
        watch
    }

    /// What the present policy promises.
    fn take_bounds(&mut self, policy: &Policy) {
        let limits = policy.limits();
        self.turn = Nanos(limits.slice.0 * 9 / 8 + QUANTUM.0 + 2 * WIRE.0);
        self.lag = 20 * area(Rate::ONE, limits.slice);
        self.patience = Nanos(limits.idle_patience.0 + limits.slice.0 / 8 + 4 * WIRE.0);
        self.reallocation_max = limits.reallocation_max;
    }

    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    pub(super) fn disturb(&mut self, until: Nanos) {
        self.disturbed_until = self.disturbed_until.max(until);
    }

    pub(super) fn report(&mut self, property: Property, at: Nanos, detail: String) {
        self.violation.get_or_insert(Violation {
            property,
            at,
            detail,
        });
    }

    /// A hand-over is complete; its `t0` is also given in true time.
    pub(super) fn reallocated(&mut self, record: &Reallocation, t0: Nanos, now: Nanos) {
        if record.cause == Cause::Ageing {
            let turn = area(Rate::ONE, self.turn);
            for (tenant, account) in &mut self.accounts {
                if *tenant != record.to {
                    // Ages are counted of cores alone.
                    account.of[Kind::Core.index()].excused += turn;
                }
            }
        }
        let stamps = [
            record.t0,
            record.detected,
            record.decided,
            record.drained,
            record.first,
        ];
        if self.is_disturbed(t0) || self.is_disturbed(now) {
            return;
        }
        if !stamps.is_sorted() {
            self.report(
                Property::Reallocation,
                now,
                format!("stamps go back: {record:?}"),
            );
        }
        if record.total() > self.reallocation_max {
            let total = record.total();
            self.report(
                Property::Reallocation,
                now,
                format!("{} took {total}", record.unit),
            );
        }
    }

    /// After each event.
    pub(super) fn look(&mut self, simulated: &SimulatedBox) {
        let now = simulated.now;
        self.take_bounds(simulated.arbiter.policy());
        if let Err(what) = simulated.arbiter.check() {
            self.report(Property::OneOwner, now, what);
        }
        self.look_at_words(simulated);
        let span = now.since(self.last);
        self.last = now;
        let pool = simulated.arbiter.pool();
        let unseen = pool.units().iter().zip(&simulated.workers);
        let unseen = unseen.filter(|(unit, worker)| worker.frozen && !unit.is_fenced());
        if pool.open(Kind::Core) == 0 || unseen.count() > 0 {
            self.disturb(now.plus(self.turn));
        }
        let disturbed = self.is_disturbed(now);
        self.look_at_tenants(simulated, if disturbed { Nanos::ZERO } else { span });
        self.look_at_idleness(simulated, disturbed);
    }

    fn is_disturbed(&self, now: Nanos) -> bool {
        now <= self.disturbed_until
    }

    fn look_at_words(&mut self, simulated: &SimulatedBox) {
        for (unit, worker) in simulated
            .arbiter
            .pool()
            .units()
            .iter()
            .zip(&simulated.workers)
        {
            if unit.owner() != worker.word.owner || unit.epoch() != worker.word.epoch {
                let detail = format!(
                    "{} is {:?} for the pool, its worker was told {:?}",
                    unit.id(),
                    unit.owner(),
                    worker.word
                );
                self.report(Property::OneOwner, simulated.now, detail);
            }
        }
    }

    fn look_at_tenants(&mut self, simulated: &SimulatedBox, span: Nanos) {
        let (now, arbiter) = (simulated.now, &simulated.arbiter);
        let (policy, open) = (arbiter.policy(), arbiter.pool().open(Kind::Core));
        let slice = policy.limits().slice;
        let (mut tenants, mut overdue) = (0, 0);
        let mut sharers = BTreeMap::new();
        for view in arbiter.tenants() {
            tenants += 1;
            for (kind, want, _) in units_of(&view) {
                if want > 0 {
                    *sharers.entry((kind, view.class)).or_insert(0u64) += 1;
                }
            }
            if let Some(class) = policy.class(view.class).filter(|_| view.ready > 0) {
                overdue += area(Rate::ONE, slice) / i128::from(class.ageing_max.0.max(1));
            }
        }
        // With more turns due than there is time, the most overdue goes first and all are late.
        let feasible = overdue < i128::from(Rate::whole(open).0);
        let slack = Nanos(self.turn.plus(simulated.tick_gap).0 * tenants);

        let disturbed = self.is_disturbed(now);
        let mut broken = None;
        self.accounts
            .retain(|tenant, _| arbiter.tenants().any(|view| view.tenant == *tenant));
        for view in arbiter.tenants() {
            let Some(class) = policy.class(view.class) else {
                continue;
            };
            let account = self.accounts.entry(view.tenant).or_default();
            for (kind, want, held) in units_of(&view) {
                let open = arbiter.pool().open(kind);
                let of = &mut account.of[kind.index()];
                of.lacks += area(Rate(of.entitled), span) - area(Rate(of.held), span);
                if of.lacks <= 0 || want == 0 {
                    (of.lacks, of.excused) = (0, 0);
                }
                let sharers = sharers.get(&(kind, view.class)).unwrap_or(&1);
                let guarantee = class.guarantee.of(open).0 / sharers;
                of.entitled = guarantee.min(Rate::whole(want).0);
                of.held = Rate::whole(held).0;
                let gap = area(Rate::ONE, simulated.tick_gap) * i128::from(tenants);
                if of.lacks > self.lag + gap + of.excused {
                    let ms = (of.lacks >> 32) / 1_000_000;
                    broken.get_or_insert((
                        Property::Guarantee,
                        format!("{} lacks {ms} ms of a {kind}", view.tenant),
                    ));
                    of.lacks = 0;
                }
            }

            if view.ready == 0 || view.held > 0 || disturbed || !feasible {
                account.waits_since = None;
                continue;
            }
            let waited = now.since(*account.waits_since.get_or_insert(now));
            if waited > class.ageing_max.plus(slack) {
                let (tenant, bound) = (view.tenant, class.ageing_max);
                broken.get_or_insert((
                    Property::Ageing,
                    format!("{tenant} waits {waited}, its bound is {bound} and {slack}"),
                ));
            }
        }
        if let Some((property, detail)) = broken {
            self.report(property, now, detail);
        }
    }

    fn look_at_idleness(&mut self, simulated: &SimulatedBox, disturbed: bool) {
        let arbiter = &simulated.arbiter;
        // A ready job keeps a unit for its tenant, and one whose last quantum is on a silent
        // worker is ready without being able to use it. The arbiter cannot know.
        let stuck = |tenant| {
            let mut order = arbiter.run_order(tenant).iter();
            order.any(|id| simulated.jobs.get(id).is_some_and(|job| job.is_stuck()))
        };
        let unserved = Kind::ALL.map(|kind| {
            let units = arbiter.pool().count(kind);
            if disturbed || units == 0 {
                return None;
            }
            arbiter.tenants().find_map(|view| {
                let ceiling = arbiter.policy().class(view.class)?.ceiling;
                let (_, _, held) = units_of(&view)[kind.index()];
                let mut order = arbiter.run_order(view.tenant).iter();
                order
                    .find(|id| {
                        let job = simulated.jobs.get(id);
                        job.is_some_and(|job| job.has_room(kind))
                    })
                    .filter(|_| held < ceiling.of_whole(units))
            })
        });
        // Whoever has declared a demand may keep units that wait for it for as long as its class says.
        let bound = arbiter.tenants().fold(self.turn, |bound, view| {
            let class = arbiter.policy().class(view.class);
            let declared = class.filter(|_| view.declared > 0);
            let patience = declared.map_or(Nanos::ZERO, |class| class.declared_patience);
            bound
                .plus(self.patience.plus(patience))
                .plus(simulated.tick_gap)
        });
        let units = arbiter.pool().units();
        self.idle_since.resize(units.len(), None);
        let mut broken = None;
        for ((unit, worker), since) in units
            .iter()
            .zip(&simulated.workers)
            .zip(&mut self.idle_since)
        {
            let excused = worker.running.is_some()
                || worker.frozen
                || unit.is_fenced()
                || unit.owner().is_some_and(stuck);
            let unserved = unserved[unit.kind().index()];
            let Some(job) = unserved.filter(|_| !excused) else {
                *since = None;
                continue;
            };
            // A declaration may end while the unit waits for it.
            let (begun, longest) = since.get_or_insert((simulated.now, bound));
            *longest = bound.max(*longest);
            let idle = simulated.now.since(*begun);
            if idle > *longest {
                let unit = unit.id();
                broken = Some(format!(
                    "{unit} runs nothing for {idle}, {job} could use it"
                ));
            }
        }
        if let Some(detail) = broken {
            self.report(Property::WorkConserving, simulated.now, detail);
        }
    }
}

/// Of each kind how many units a tenant wants and holds.
fn units_of(view: &TenantView) -> [(Kind, u32, u32); KINDS] {
    [
        (Kind::Core, view.want, view.held),
        (Kind::Device, view.devices_want, view.devices_held),
    ]
}

/// A rate over a span, exactly.
fn area(rate: Rate, span: Nanos) -> i128 {
    i128::from(rate.0) * i128::from(span.0)
}
