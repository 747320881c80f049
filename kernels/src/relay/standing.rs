//! Whether work has begun on a member, or its plan there is gone.
//!
//! Two threads meet here: a worker that is about to begin a piece of work on a member, and whoever takes the plan away
//! from there because the copy that it uses was given up. One word decides between them, so that neither
//! waits: a plan that work has begun with stays until that has ended, and work never begins with one that is gone. A worker
//! only ever reads a plan after it has begun there, so it finds it without looking whether anybody is about to take it. The one
//! who comes later is a share of a lost member, which may begin where another share has ended: it looks.

use std::sync::atomic::{AtomicU8, Ordering};

/// See the top of this file.
pub(super) struct Standing(AtomicU8);

impl Standing {
    /// With a plan, or without.
    pub(super) fn new(is_there: bool) -> Standing {
        Standing(AtomicU8::new(if is_there { READY } else { GONE }))
    }

    /// Whether work may begin.
    pub(super) fn is_there(&self) -> bool {
        self.0.load(Ordering::Acquire) != GONE
    }

    /// Work begins, or goes on; false if the plan is gone.
    pub(super) fn begin(&self) -> bool {
        let begun = self
            .0
            .compare_exchange(READY, BEGUN, Ordering::AcqRel, Ordering::Acquire);
        begun != Err(GONE)
    }

    /// Takes the plan away, unless work has begun and is not over; true for the one caller who does, and who
    /// alone has it then.
    pub(super) fn take(&self, is_over: impl FnOnce() -> bool) -> bool {
        let taken = |from| {
            let gone = self
                .0
                .compare_exchange(from, GONE, Ordering::AcqRel, Ordering::Acquire);
            gone.is_ok()
        };
        // In this order: what has not begun cannot be over.
        taken(READY) || (is_over() && taken(BEGUN))
    }
}

const READY: u8 = 0;
const BEGUN: u8 = 1;
const GONE: u8 = 2;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[test]
    fn it_is_begun_or_gone_and_stays_so_until_it_is_over() {
        let standing = Standing::new(true);
        assert!(standing.is_there());
        assert!(standing.begin() && standing.begin());
        assert!(!standing.take(|| false));
        assert!(standing.is_there() && standing.begin());
        assert!(standing.take(|| true));
        assert!(!standing.take(|| true), "one takes it");
        assert!(!standing.is_there() && !standing.begin());
        let standing = Standing::new(true);
        assert!(standing.take(|| unreachable!("nothing has begun")));
        assert!(!standing.begin());
        assert!(!Standing::new(false).begin());
    }

    /// Of a worker that begins and two threads that take, whoever is first: work that has begun finds its plan.
    #[test]
    fn whoever_comes_first_has_it() {
        for _ in 0..2_000 {
            let (standing, over) = (Standing::new(true), AtomicBool::new(false));
            let (start, plan) = (Barrier::new(3), AtomicBool::new(true));
            let take = || {
                start.wait();
                for _ in 0..4 {
                    if standing.take(|| over.load(Ordering::Acquire)) {
                        assert!(plan.swap(false, Ordering::AcqRel), "it was taken twice");
                    }
                }
            };
            std::thread::scope(|scope| {
                scope.spawn(take);
                scope.spawn(take);
                start.wait();
                if standing.begin() {
                    for _ in 0..4 {
                        assert!(plan.load(Ordering::Acquire), "it is gone under the work");
                    }
                    over.store(true, Ordering::Release);
                }
            });
        }
    }
}
