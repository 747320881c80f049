//! The copies that members have of one thing: each member its own, the host's for good.
//!
//! A copy beside the host's may be given up and brought again. Giving it up takes nothing away from
//! work that has begun with it: each plan laid out on a member holds what it uses there, so the
//! member frees a copy when the last of them is gone. Plans that are only ready are dropped at once, and the
//! copy of their member's with them; the others are dropped when they, or their member's share of them, have ended and
//! somebody asks again. Until then the bytes are counted, for they are there.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

use super::{HOST, RelayPlan, Shared, lock};
use crate::device::{CurveId, Device, DeviceError, Group, Thing};

/// See the top of this file.
pub(super) struct Copies<I: std::marker::Copy> {
    // In this order: a copy is gone when nothing holds the bytes any more that it was made of.
    on: Mutex<Vec<Place<I>>>,
    make: Box<Make<I>>,
    shared: Arc<Shared>,
    free: fn(&dyn Device, I),
    /// Plans that may use a copy.
    users: Mutex<Vec<Weak<RelayPlan>>>,
    /// What one copy was made of.
    bytes: usize,
    curve: CurveId,
    thing: Thing,
    /// Of matrices these two are not asked for.
    pub(super) group: Group,
    pub(super) count: usize,
}

/// Makes a copy on a device.
pub(super) type Make<I> = dyn Fn(&dyn Device) -> Result<I, DeviceError> + Send + Sync;

/// One member's copy. Whoever holds this keeps it there.
pub(super) struct Kept<I: std::marker::Copy> {
    pub(super) id: I,
    shared: Arc<Shared>,
    member: usize,
    free: fn(&dyn Device, I),
}

enum Place<I: std::marker::Copy> {
    Here(Arc<Kept<I>>),
    /// Given up; still there while plans hold it.
    Leaving(Weak<Kept<I>>),
    Empty,
}

/// What copies are made of, and what they are of.
pub(super) struct Source {
    pub(super) bytes: usize,
    pub(super) curve: CurveId,
    pub(super) thing: Thing,
    pub(super) group: Group,
    pub(super) count: usize,
}

impl<I: std::marker::Copy> Copies<I> {
    /// On the host, and on each other member that has room unless copies come [by order](Device::copies_by_order).
    pub(super) fn new(
        shared: &Arc<Shared>,
        of: Source,
        make: Box<Make<I>>,
        free: fn(&dyn Device, I),
    ) -> Result<Copies<I>, DeviceError> {
        let ids = match shared.copies_by_order.load(Ordering::Relaxed) {
            true => {
                let mut ids = vec![Some(make(&*shared.members[HOST].device)?)];
                ids.resize_with(shared.members.len(), || None);
                ids
            }
            false => shared.on_each(&*make)?,
        };
        let ids = ids.into_iter().enumerate();
        let place = |(member, id): (usize, Option<I>)| match id {
            Some(id) => Place::Here(Arc::new(Kept {
                id,
                shared: Arc::clone(shared),
                member,
                free,
            })),
            None => Place::Empty,
        };
        Ok(Copies {
            on: Mutex::new(ids.map(place).collect()),
            make,
            shared: Arc::clone(shared),
            free,
            users: Mutex::default(),
            bytes: of.bytes,
            curve: of.curve,
            thing: of.thing,
            group: of.group,
            count: of.count,
        })
    }

    /// A member's copy, if it has one that was not given up.
    pub(super) fn on(&self, member: usize) -> Option<Arc<Kept<I>>> {
        match lock(&self.on).get(member)? {
            Place::Here(kept) => Some(Arc::clone(kept)),
            _ => None,
        }
    }

    /// The host's.
    pub(super) fn host(&self) -> I {
        self.on(HOST).expect("the host has all").id
    }

    /// What a member's copy takes once it is there.
    pub(super) fn len_on(&self, member: usize) -> usize {
        usize::from(self.is_kept_by(member)) * self.bytes
    }

    fn is_kept_by(&self, member: usize) -> bool {
        let runner = self.shared.members.get(member);
        runner.is_some_and(|runner| runner.device.keeps(self.curve, self.thing))
    }

    /// What a member's copy takes, also if it was given up and is still there.
    pub(super) fn bytes_on(&self, member: usize) -> usize {
        let there = match lock(&self.on).get(member) {
            Some(Place::Here(_)) => true,
            Some(Place::Leaving(kept)) => kept.strong_count() > 0,
            Some(Place::Empty) | None => false,
        };
        usize::from(there) * self.bytes
    }

    /// Whether a plan holds a member's copy that was not given up.
    pub(super) fn is_used(&self, member: usize) -> bool {
        match lock(&self.on).get(member) {
            Some(Place::Here(kept)) => Arc::strong_count(kept) > 1,
            _ => false,
        }
    }

    /// Notes a plan that may use copies.
    pub(super) fn used_by(&self, plan: &Arc<RelayPlan>) {
        let mut users = lock(&self.users);
        users.retain(|user| user.strong_count() > 0);
        users.push(Arc::downgrade(plan));
    }

    /// Gives up a member's copy, unless it is the host's. Frees; called by whoever may take that time.
    pub(super) fn give_up(&self, member: usize) {
        if member == HOST {
            return;
        }
        let mut given_up = None;
        if let Some(place) = lock(&self.on).get_mut(member)
            && let Place::Here(kept) = place
        {
            let leaving = Place::Leaving(Arc::downgrade(kept));
            given_up = Some(std::mem::replace(place, leaving));
        }
        // None of this under a lock that a worker could wait for.
        drop(given_up);
        let users: Vec<_> = lock(&self.users).iter().filter_map(Weak::upgrade).collect();
        for plan in users {
            plan.let_go(member);
        }
    }

    /// Brings a copy to a member that has none and keeps such things.
    pub(super) fn bring(&self, member: usize) -> Result<(), DeviceError> {
        let Some(runner) = self.shared.members.get(member) else {
            return Ok(());
        };
        if !self.is_kept_by(member) {
            return Ok(());
        }
        if lock(&self.on)[member].take_back() {
            return Ok(());
        }
        if self.shared.is_lost(member) {
            return Err(self.shared.loss("a copy was to come to it"));
        }
        let made = (self.make)(&*runner.device);
        let id = made.inspect_err(|error| {
            self.shared.note(member, error);
        })?;
        let kept = Arc::new(Kept {
            id,
            shared: Arc::clone(&self.shared),
            member,
            free: self.free,
        });
        let mut on = lock(&self.on);
        // Somebody may have been quicker: then this one goes again, when the lock is free.
        if !on[member].take_back() {
            on[member] = Place::Here(kept);
        }
        Ok(())
    }
}

impl<I: std::marker::Copy> Place<I> {
    /// Keeps a copy that is there, given up or not; whether there is one.
    fn take_back(&mut self) -> bool {
        if let Place::Leaving(kept) = self {
            *self = match kept.upgrade() {
                Some(kept) => Place::Here(kept),
                None => Place::Empty,
            };
        }
        matches!(self, Place::Here(_))
    }
}

impl<I: std::marker::Copy> Drop for Kept<I> {
    fn drop(&mut self) {
        let member = &self.shared.members[self.member];
        (self.free)(&*member.device, self.id);
        member.freed();
    }
}
