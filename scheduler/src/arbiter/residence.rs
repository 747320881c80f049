//! Whose tables are on which device, and the orders to make room there.
//!
//! When the owner of a device lacks room for its tables, others are asked to let go of theirs ([`Action::Evict`]): of
//! tenants in inverse order of value, first what they have beyond their part of all device memory, then what
//! they have beyond their guarantee. Below that nobody's tables go, and the owner does with less. Nothing is asked where
//! all of that together is not enough.
//!
//! There is one order for a device at a time. What it may take is set aside until it is answered, so that no two
//! orders count on the same bytes, and the same order is not given twice while nothing has changed in it.

use super::claims::Claims;
use super::tables::Tables;
use super::tenant::DEBT_SLICES;
use super::{Action, Scene};
use crate::Nanos;
use crate::eviction::Victim;
use crate::matching::dominant::Bytes;
use crate::pool::{Kind, Unit};
use crate::scenario::Limits;

/// What is on the devices, and what has been asked of them.
#[derive(Debug)]
pub(super) struct Residence {
    tables: Tables,
    /// By device.
    orders: Vec<Order>,
    /// Scratch: the order that a device would get now.
    question: Question,
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

impl Residence {
    pub(super) fn new(slots: usize, devices: &[Unit]) -> Residence {
        Residence {
            tables: Tables::new(slots, devices),
            orders: devices.iter().map(|_| Order::new(slots)).collect(),
            question: Question::new(slots),
        }
    }

    /// So many bytes of a tenant are on a device now.
    pub(super) fn note(
        &mut self,
        slot: usize,
        device: usize,
        bytes: u64,
        now: Nanos,
        limits: &Limits,
    ) {
        let patience = Nanos(limits.slice.0.saturating_mul(UNSERVED_SLICES));
        let until = now.plus(patience);
        self.tables
            .set(slot, device, bytes, (limits.quantum, until));
    }

    /// The order for a device is answered; whether one was open.
    pub(super) fn close(&mut self, device: usize) -> bool {
        let order = &mut self.orders[device];
        if !std::mem::take(&mut order.is_open) {
            return false;
        }
        if std::mem::take(&mut order.is_stale) {
            order.asked.clear();
        }
        self.tables.release(device);
        true
    }

    /// Owners have had their devices for so long.
    pub(super) fn serve(&mut self, devices: &[Unit], span: Nanos) {
        for (device, unit) in devices.iter().enumerate() {
            if let Some(slot) = unit.slot() {
                self.tables.serve(slot, device, span);
            }
        }
    }

    /// A device is lost, and all that was there.
    pub(super) fn lose(&mut self, device: usize) {
        self.tables.lose(device);
    }

    /// A tenant is gone, and all that it had.
    pub(super) fn forget(&mut self, slot: usize) {
        self.tables.forget(slot);
    }

    /// Asks for room on devices whose owners have not enough of it for their tables; how many orders
    /// that makes.
    pub(super) fn make_room(
        &mut self,
        scene: Scene<'_>,
        claims: &Claims,
        actions: &mut Vec<Action>,
    ) -> u64 {
        let mut evictions = 0;
        for (device, unit) in scene.floor.devices().iter().enumerate() {
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
            let owner = slot.and_then(|slot| Some((slot, scene.tenants.get(slot)?.id)));
            let Some((slot, owner)) = owner.filter(|_| !order.is_open) else {
                continue;
            };
            let retry_at = self.ask(device, slot, scene, claims);
            let Residence {
                orders,
                question,
                tables,
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
            evictions += 1;
            let bytes = order.asked.short;
            actions.push(Action::Evict { unit, owner, bytes });
        }
        evictions
    }

    /// Works out what a device would be asked for its owner now; for no bytes, if it lacks none or they cannot be had. What
    /// comes back is when there may be more to be had, if that is known.
    fn ask(
        &mut self,
        device: usize,
        owner: usize,
        scene: Scene<'_>,
        claims: &Claims,
    ) -> Option<Nanos> {
        let Residence {
            tables, question, ..
        } = self;
        question.clear();
        let memory = scene.floor.devices()[device].memory();
        let lacks = scene.queue.tables(owner);
        let lacks = lacks.saturating_sub(tables.on(owner, device));
        let short = lacks.saturating_sub(memory.saturating_sub(tables.used(device)));
        if short == 0 {
            return None;
        }
        let parts = scene.division.bytes(Bytes::Device);
        let value = |slot| claims.value(slot);
        let mut all = 0u64;
        let mut retry_at = None;
        for (slot, tenant) in scene.tenants.present() {
            if slot == owner {
                continue;
            }
            // What has come and has not had its turn yet stays, or two would push each other off for ever.
            let waits = tenant.parts[Kind::Device.index()].demand > 0;
            let unserved = tables.unserved(slot, device);
            let unserved = unserved.filter(|&until| until > scene.now);
            if let Some(until) = unserved.filter(|_| waits && value(slot) >= value(owner)) {
                retry_at = Some(retry_at.map_or(until, |at: Nanos| at.min(until)));
                continue;
            }
            let keeps = claims.keeps(slot);
            let part = parts.get(slot).map_or(keeps, |&part| part.max(keeps));
            let spare = tables.unasked(slot).saturating_sub(keeps);
            let spare = spare.min(tables.on(slot, device));
            if spare > 0 {
                let victim = Victim {
                    tenant: tenant.id,
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

    pub(super) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Whose tables may go from a device by its newest order, the first to go first.
    pub(super) fn victims(&self, device: usize) -> impl Iterator<Item = Victim> {
        let victims = self.orders[device].asked.victims.iter();
        victims.map(|(_, victim)| *victim)
    }

    /// When there may be room to be had that is not there now.
    pub(super) fn retry_at(&self) -> Option<Nanos> {
        self.orders.iter().filter_map(|order| order.retry_at).min()
    }
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

/// For how many slices tables that have come to a device may wait there for their tenant's turn, if somebody of no
/// more value needs the room: by then a tenant with any debt has had one.
const UNSERVED_SLICES: u64 = DEBT_SLICES;
