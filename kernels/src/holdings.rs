//! What a device holds, by the ids that it has given out.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::DeviceError;

/// Things by id. Plans hold their own reference, so that freeing an id never waits for them.
pub struct Registry<I, T> {
    what: &'static str,
    things: Mutex<HashMap<I, Arc<T>>>,
}

impl<I: Eq + Hash + Copy, T> Registry<I, T> {
    /// Empty; `what` is for errors: "vector".
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            things: Mutex::default(),
        }
    }

    /// Adds a thing.
    pub fn insert(&self, id: I, thing: T) {
        self.lock().insert(id, Arc::new(thing));
    }

    /// The thing, or [`DeviceError::Unknown`].
    pub fn find(&self, id: I, number: u64) -> Result<Arc<T>, DeviceError> {
        let unknown = DeviceError::Unknown {
            what: self.what,
            id: number,
        };
        self.lock().get(&id).cloned().ok_or(unknown)
    }

    /// Forgets a thing, if it is there; it is dropped when nobody else holds it.
    pub fn remove(&self, id: I) {
        // Dropped after the lock is released: overwriting a large vector takes a while.
        let removed = self.lock().remove(&id);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<I, Arc<T>>> {
        // Each critical section is one call of the map's, which leaves it whole.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
