//! The atomics of what is tried in every interleaving: std's. `tests/loom.rs` has the model checker's in their place.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
