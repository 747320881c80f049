//! Whether work has begun on a member, or its plan there is gone.
//!
//! Two threads meet here: a worker that is about to begin a piece of work on a member, and whoever takes the plan away
//! from there because the copy that it uses was given up. One word decides between them, so that neither
//! waits: a plan that work has begun with stays until that has ended, and work never begins with one that is gone. A worker
//! only ever reads a plan after it has begun there, so it finds it without looking whether anybody is about to take it. The one
//! who comes later is a share of a lost member, which may begin where another share has ended: it looks.

use crate::primitive::{AtomicU8, Ordering};

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
