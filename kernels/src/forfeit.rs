//! Time that was spent for nothing: on a piece of work whose device was lost, so that it begins again elsewhere.
//!
//! Whoever runs quanta for somebody asks after each one what of the time should be charged to nobody: that of this quantum
//! and of those before it on the same piece of work. It is noted on the thread that meets the loss, so
//! noting and asking neither wait nor allocate.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static FORFEITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Notes time as spent for nothing. Called by devices.
pub fn forfeit(span: Duration) {
    FORFEITED.set(FORFEITED.get().saturating_add(span));
}

/// What this thread has noted since it was asked last.
pub fn forfeited() -> Duration {
    FORFEITED.take()
}
