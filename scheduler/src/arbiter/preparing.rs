//! Which jobs are brought into the host's memory, and when.
//!
//! What a tenant holds there is never taken away: whoever holds more than its part waits until jobs of it have
//! ended. So all together hold no more than there is, whatever the parts become.

use super::Action;
use super::claims::Claims;
use super::tenant::Tenants;
use crate::Nanos;
use crate::matching::dominant::Bytes;
use crate::pool::Kind;
use crate::queue::Queue;

/// A round of it.
pub(super) struct Preparing<'a> {
    pub(super) queue: &'a mut Queue,
    pub(super) tenants: &'a mut Tenants,
    pub(super) actions: &'a mut Vec<Action>,
}

impl Preparing<'_> {
    /// Has jobs of a tenant prepared until they hold so many bytes.
    pub(super) fn within(&mut self, slot: usize, bytes: u64) {
        loop {
            let left = bytes.saturating_sub(self.queue.host_memory_held(slot));
            let Some(job) = self.queue.prepare(slot, left) else {
                return;
            };
            self.actions.push(Action::Prepare { job });
            for kind in Kind::ALL {
                self.tenants.take_back_lent(slot, kind);
            }
        }
    }

    /// Has prepared what fits of all tenants' jobs, given their parts of `there` bytes. First come the jobs
    /// that fit into their tenants' parts. Jobs are whole and parts are not, so what is left goes to
    /// those that fit there, of the tenant that is furthest below its part; but not while somebody has
    /// aged, for then room must come together.
    pub(super) fn all(&mut self, there: u64, parts: &[u64], claims: &Claims, now: Nanos) {
        let mut free = there;
        let mut aged = false;
        for slot in self.tenants.slots() {
            free -= self.queue.host_memory_held(slot);
            aged |= claims.bytes(Bytes::Host, slot).aged.is_some();
        }
        for slot in self.tenants.slots() {
            let before = self.queue.host_memory_held(slot);
            self.within(slot, parts[slot].min(before.saturating_add(free)));
            free -= self.queue.host_memory_held(slot) - before;
        }
        while let Some(slot) = self.next_to_fit(free, parts, claims).filter(|_| !aged) {
            let held = self.queue.host_memory_held(slot);
            let next = self.queue.host_memory(slot).next.unwrap_or(0);
            self.within(slot, held + next);
            free -= self.queue.host_memory_held(slot) - held;
        }
        self.note_starving(now);
    }

    /// Of the tenants whose next witness fits into so many bytes the one that is furthest below its
    /// part, and of equals the most valuable.
    fn next_to_fit(&self, free: u64, parts: &[u64], claims: &Claims) -> Option<usize> {
        let fits = |slot: &usize| {
            let next = self.queue.host_memory(*slot).next;
            next.is_some_and(|next| next <= free)
        };
        let deserves = |&slot: &usize| {
            let below = i128::from(parts[slot]) - i128::from(self.queue.host_memory_held(slot));
            (below, claims.value(slot))
        };
        self.tenants.slots().filter(fits).max_by_key(deserves)
    }

    /// Notes who waits for host memory and has none.
    fn note_starving(&mut self, now: Nanos) {
        for (slot, tenant) in self.tenants.present_mut() {
            let memory = self.queue.host_memory(slot);
            let starves = memory.held == 0 && memory.next.is_some_and(|next| next > 0);
            tenant.starves_since = starves.then(|| tenant.starves_since.unwrap_or(now));
        }
    }
}
