//! What each tenant wants now, and what of it is lent.
//!
//! A tenant could use what its prepared jobs can, or what it has declared if that is more, within its ceiling. While
//! all together could use more units of a kind than there are, the kind is *pressed*, and only then is anything lent:
//! of a tenant whose units have found nothing to run for its patience, what they are, for a slice or until it has a
//! ready job. What a tenant wants is therefore never more than what it could use, and less only in a pressed kind.

use super::floor::Floor;
use super::tenant::{Lent, Tenant, Tenants};
use crate::Nanos;
use crate::pool::{KINDS, Kind};
use crate::queue::Queue;
use crate::scenario::Policy;

/// Where more is wanted than there is.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// By kind, before anything is lent.
    pressed: [bool; KINDS],
}

impl Wants {
    /// Works out what each tenant wants now; whether that is something else than before.
    pub(super) fn update(
        &mut self,
        tenants: &mut Tenants,
        floor: &Floor,
        policy: &Policy,
        queue: &Queue,
        now: Nanos,
    ) -> bool {
        for (_, tenant) in tenants.present_mut() {
            tenant.declared = tenant.declared.filter(|declared| declared.until > now);
        }
        let mut changed = false;
        for kind in Kind::ALL {
            if floor.pool().count(kind) > 0 {
                changed |= self.update_kind(kind, tenants, floor, policy, queue, now);
            }
        }
        changed
    }

    fn update_kind(
        &mut self,
        kind: Kind,
        tenants: &mut Tenants,
        floor: &Floor,
        policy: &Policy,
        queue: &Queue,
        now: Nanos,
    ) -> bool {
        let units = floor.pool().count(kind);
        let demand = |slot, tenant: &Tenant| {
            let ceiling = policy
                .class(tenant.class)
                .map_or(0, |class| class.ceiling.of_whole(units));
            let declared = tenant.declared.filter(|_| kind == Kind::Core);
            let declared = declared.map_or(0, |declared| declared.units);
            queue.demand(slot, kind).max(declared).min(ceiling)
        };
        let raw = tenants.present();
        let raw: u64 = raw.map(|(slot, it)| u64::from(demand(slot, it))).sum();
        let pressed = raw > u64::from(floor.pool().open(kind));
        self.pressed[kind.index()] = pressed;

        for (slot, since) in floor.idlers(kind) {
            let Some(tenant) = tenants.get_mut(slot) else {
                continue;
            };
            let patience = tenant.patience(kind, policy);
            tenant.parts[kind.index()].idle += u32::from(now.since(since) >= patience);
        }

        let mut changed = false;
        for (slot, tenant) in tenants.present_mut() {
            let demand = demand(slot, tenant);
            let part = &mut tenant.parts[kind.index()];
            part.demand = demand;
            // When all fits, nothing is lent: nobody would tick to end it.
            let lasts = |lent: &Lent| pressed && lent.until > now && demand > 0;
            part.lent = part.lent.filter(lasts);
            // What a job that has just become ready is about to use is not lent in that decision.
            // In the next one it is, so that a stream of small jobs keeps no unit that it never fills.
            let due = std::mem::take(&mut part.due);
            let idle = std::mem::take(&mut part.idle).saturating_sub(due);
            if pressed && idle > 0 {
                // A ready job always keeps a core: the node may be about to give it a quantum.
                let runnable = queue.lengths(slot).ready > 0;
                let keeps_one = runnable && kind == Kind::Core;
                let keeps = part.held.saturating_sub(idle).max(u32::from(keeps_one));
                let until = if runnable {
                    now.plus(policy.limits().slice)
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

    /// Whether somebody's turn may come by time alone.
    pub(super) fn are_pressed(&self) -> bool {
        self.pressed.contains(&true)
    }
}
