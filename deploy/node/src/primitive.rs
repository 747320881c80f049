//! What workers, the board between them and the arbiter's thread wait and are woken with: std's, or
//! with the feature `shuttle` those of shuttle, which interleaves threads as it likes
//! (`tests/shuttle.rs`).

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    thread::{Thread, current, park, park_timeout, yield_now},
};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    thread::{Thread, current, park, park_timeout, yield_now},
};
