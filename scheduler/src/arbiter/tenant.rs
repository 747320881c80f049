//! The tenants of a box, each in its slot, and what is kept of each from decision to decision.
//!
//! A slot is taken by [`Tenants::seat`] and free again after [`Tenants::remove`]. It names the tenant in all lists of
//! this crate, so that no event has to search more than once. What is known of a tenant and the units of one kind
//! is its [`Part`]: what it wants, holds, lends and is owed there. The debt is the only thing in it that grows with time;
//! it is kept within [`DEBT_SLICES`] either way, and nothing is owed to a tenant that wants nothing.

use std::ops::Range;

use super::Cause;
use crate::demand::Meter;
use crate::matching::Rate;
use crate::matching::dominant::Division;
use crate::pool::{KINDS, Kind};
use crate::queue::Queue;
use crate::scenario::{CLASSES_MAX, Class, ClassId, Policy};
use crate::{Nanos, TenantId};

/// All of them, and the meters of their demand.
#[derive(Debug)]
pub(super) struct Tenants {
    slots: Vec<Option<Tenant>>,
    /// By slot. One stays when its tenant goes, with its memory.
    meters: Vec<Meter>,
}

/// What the arbiter knows of a tenant.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) class: ClassId,
    /// By kind of unit.
    pub(super) parts: [Part; KINDS],
    /// Since when it has had a ready job and no core.
    waits_since: Option<Nanos>,
    /// The turn that it got by ageing.
    aged_turn: Option<AgedTurn>,
    /// Since when a job of it has waited for host memory while it has none.
    pub(super) starves_since: Option<Nanos>,
    /// What it has declared, until that is over.
    pub(super) declared: Option<Declared>,
    /// A declaration of it is why this decision is made.
    pub(super) declares: bool,
    /// A peak of it has begun with this decision, by a crossing at that time.
    peaked: Option<Nanos>,
}

/// What the arbiter knows of a tenant and the units of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// Units that it could use, whether they are lent or not, by the last decision: what is lent for a slice comes back
    /// to what its tenant has there, so that stays.
    pub(super) demand: u32,
    /// Units that it wants, by the last decision.
    pub(super) want: u32,
    /// Units that it owns.
    pub(super) held: u32,
    /// Its rate by the last decision.
    pub(super) rate: Rate,
    /// See [`crate::matching::Claim::debt`].
    pub(super) debt: i64,
    /// What it keeps while the rest is lent.
    pub(super) lent: Option<Lent>,
    /// Promises broken by overruns, until the next decision.
    broken: Option<Broken>,
    /// It wants more than at the decision before.
    pub(super) grew: bool,
    /// Units of it that have been idle for longer than the policy's patience.
    pub(super) idle: u32,
    /// How many of them a job that has become ready can use, until the next decision.
    pub(super) due: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Declared {
    pub(super) units: u32,
    pub(super) until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct AgedTurn {
    bound: Nanos,
    until: Nanos,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Lent {
    pub(super) keeps: u32,
    pub(super) until: Nanos,
}

#[derive(Debug, Clone, Copy)]
struct Broken {
    count: u32,
    t0: Nanos,
}

/// A decision by which units change hands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision {
    /// When it is made.
    pub(super) now: Nanos,
    /// When its cause arose.
    pub(super) t0: Nanos,
    /// Somebody wants something else than before.
    pub(super) changed: bool,
    /// Until then whoever gets a unit by turn keeps it.
    pub(super) turn_ends: Nanos,
}

impl Tenants {
    pub(super) fn new(slots: usize) -> Tenants {
        Tenants {
            slots: vec![None; slots],
            meters: vec![Meter::default(); slots],
        }
    }

    /// Puts a tenant into a free slot, which comes back; `None` if there is none.
    pub(super) fn seat(&mut self, id: TenantId, class: ClassId) -> Option<usize> {
        let slot = self.slots.iter().position(Option::is_none)?;
        self.slots[slot] = Some(Tenant::new(id, class));
        Some(slot)
    }

    /// Frees a slot.
    pub(super) fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Tenant> {
        self.slots[slot].as_mut()
    }

    /// Those that are here.
    pub(super) fn present_mut(&mut self) -> impl Iterator<Item = (usize, &mut Tenant)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(slot, tenant)| Some((slot, tenant.as_mut()?)))
    }

    pub(super) fn meter_mut(&mut self, slot: usize) -> &mut Meter {
        &mut self.meters[slot]
    }

    /// Has a tenant want so many units of a kind, until the next decision.
    pub(super) fn set_want(&mut self, slot: usize, kind: Kind, want: u32) {
        if let Some(tenant) = &mut self.slots[slot] {
            tenant.parts[kind.index()].want = want;
        }
    }

    /// Lets a tenant want all units of a kind that it can use again; whether it did not.
    pub(super) fn take_back_lent(&mut self, slot: usize, kind: Kind) -> bool {
        self.slots[slot]
            .as_mut()
            .is_some_and(|tenant| tenant.parts[kind.index()].lent.take().is_some())
    }

    /// Carries debts, and what jobs have had of their work, forward by a span. A debt stays within a bound either way.
    pub(super) fn carry(&mut self, span: Nanos, debt_max: i64, queue: &mut Queue) {
        for (slot, tenant) in self.present_mut() {
            for (kind, part) in Kind::ALL.into_iter().zip(&mut tenant.parts) {
                if part.want == 0 {
                    continue;
                }
                let had = Rate::whole(part.held).over(span);
                let owed = part.rate.over(span).saturating_sub(had);
                part.debt = part.debt.saturating_add(owed).clamp(-debt_max, debt_max);
                if kind == Kind::Core {
                    queue.serve(slot, part.held, span);
                }
            }
        }
    }

    /// Looks whether demand has come to a peak, or one is over; how many peaks have begun.
    pub(super) fn read_meters(
        &mut self,
        policy: &Policy,
        queue: &Queue,
        cores: u32,
        cause: Nanos,
        now: Nanos,
    ) -> u64 {
        let mut peaks = 0;
        for ((slot, tenant), meter) in self.slots.iter_mut().enumerate().zip(&mut self.meters) {
            let Some(tenant) = tenant else {
                continue;
            };
            tenant.peaked = None;
            let class = policy.class(tenant.class);
            let Some((class, peak)) = class.and_then(|it| Some((it, it.peak.as_ref()?))) else {
                continue;
            };
            let reading = queue.reading(slot, class.ceiling.of_whole(cores));
            tenant.peaked = meter.read(peak, reading, cause, now);
            peaks += u64::from(tenant.peaked.is_some());
        }
        peaks
    }

    /// Takes the matcher's rates over, and notes who waits; how many promises stay broken.
    pub(super) fn settle(&mut self, division: &Division, queue: &Queue, now: Nanos) -> u64 {
        let mut missed = 0;
        for (slot, tenant) in self.present_mut() {
            for (kind, part) in Kind::ALL.into_iter().zip(&mut tenant.parts) {
                part.rate = division.rates(kind)[slot];
                if let Some(broken) = part.broken.take() {
                    missed += u64::from(broken.count);
                }
                if part.want == 0 {
                    part.debt = part.debt.min(0);
                }
            }
            let core = &tenant.parts[Kind::Core.index()];
            if core.want == 0 {
                tenant.aged_turn = None;
            }
            let waits = core.held == 0 && queue.lengths(slot).ready > 0;
            tenant.waits_since = waits.then(|| tenant.waits_since.unwrap_or(now));
        }
        missed
    }

    /// All slots.
    pub(super) fn slots(&self) -> Range<usize> {
        0..self.slots.len()
    }

    /// Who is in each slot, with its meter.
    pub(super) fn by_slot(&self) -> impl Iterator<Item = (Option<&Tenant>, &Meter)> {
        self.slots.iter().map(Option::as_ref).zip(&self.meters)
    }

    /// Those that are here.
    pub(super) fn present(&self) -> impl Iterator<Item = (usize, &Tenant)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(slot, tenant)| Some((slot, tenant.as_ref()?)))
    }

    pub(super) fn get(&self, slot: usize) -> Option<&Tenant> {
        self.slots[slot].as_ref()
    }

    pub(super) fn meter(&self, slot: usize) -> &Meter {
        &self.meters[slot]
    }

    /// Where a tenant is.
    pub(super) fn slot(&self, id: TenantId) -> Option<usize> {
        self.present()
            .find(|(_, present)| present.id == id)
            .map(|(slot, _)| slot)
    }

    /// The class of the tenant in a slot.
    pub(super) fn class<'a>(&self, slot: usize, policy: &'a Policy) -> Option<&'a Class> {
        self.get(slot).and_then(|tenant| policy.class(tenant.class))
    }

    /// How many tenants of each class want units of a kind.
    pub(super) fn sharers(&self, kind: Kind) -> [u64; CLASSES_MAX] {
        let mut sharers = [0; CLASSES_MAX];
        let wants = |tenant: &&Tenant| tenant.parts[kind.index()].want > 0;
        for tenant in self.slots.iter().flatten().filter(wants) {
            sharers[tenant.class.index()] += 1;
        }
        sharers
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

    /// Takes a unit by a decision, which was `free` or another's; `aged` is the bound that its claim for units of that
    /// kind has passed. Says why the unit comes, and since when it was to come.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        free: bool,
        aged: Option<Nanos>,
        decision: Decision,
    ) -> (Cause, Nanos) {
        let Decision { t0, .. } = decision;
        let part = &mut self.parts[kind.index()];
        let aged = aged.filter(|_| part.held == 0);
        part.held += 1;
        if let Some(broken) = part.broken.as_mut().filter(|it| it.count > 0) {
            broken.count -= 1;
            (Cause::Overrun, broken.t0)
        } else if let Some(bound) = aged {
            let until = decision.turn_ends;
            self.aged_turn = Some(AgedTurn { bound, until });
            (Cause::Ageing, bound)
        } else if part.grew && self.declares && kind == Kind::Core {
            (Cause::Declared, t0)
        } else if part.grew {
            (Cause::Demand, t0)
        } else if let Some(crossing) = self.peaked {
            (Cause::Measured, crossing)
        } else if decision.changed || free {
            (Cause::Release, t0)
        } else {
            (Cause::Turn, decision.now)
        }
    }

    /// How long a unit of it may find nothing to run before it is lent. What is declared is cores.
    pub(super) fn patience(&self, kind: Kind, policy: &Policy) -> Nanos {
        let declared = self.declared.filter(|_| kind == Kind::Core);
        let class = declared.and_then(|_| policy.class(self.class));
        class.map_or(policy.limits().idle_patience, |class| {
            class.declared_patience
        })
    }

    /// When its wait reached its class's bound: of the turn that it has by that, or of the wait
    /// that it is in.
    pub(super) fn aged(&self, class: &Class, now: Nanos) -> Option<Nanos> {
        let turn = self
            .aged_turn
            .filter(|turn| turn.until > now)
            .map(|turn| turn.bound);
        let wait = self.waits_since.map(|since| since.plus(class.ageing_max));
        turn.or(wait.filter(|&bound| bound <= now))
    }
}

impl Part {
    /// A unit that it held is fenced off; since when it was promised, if its worker had not begun for it.
    pub(super) fn lose(&mut self, promised: Option<Nanos>) {
        self.held -= 1;
        if let Some(t0) = promised {
            let broken = self.broken.get_or_insert(Broken { count: 0, t0 });
            broken.count += 1;
            broken.t0 = broken.t0.min(t0);
        }
    }
}

/// How many slices of one core a tenant may be owed, or owe.
pub(super) const DEBT_SLICES: u64 = 16;
