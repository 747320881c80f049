//! Maps and sets that can be taken back to where they were.
//!
//! Commands that are executed together are written to a disk together, and a disk can refuse. Then none of them may
//! have been. A copy of everything would have to be made before each group, or after each refusal, and grows with the
//! ledger; what a group has changed does not. So who keeps the ledger sets a mark, and from then on each change leaves behind what
//! was there before it. It is the undo log of every database (Gray, "Notes on Data Base Operating
//! Systems", 1978), in memory.
//!
//! Without a mark nothing is kept, so a replay and a simulation pay nothing for it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What stood at each key before it was changed, the oldest change first; `None` while there is no mark.
pub(super) type Log<K, V> = Option<Vec<(K, Option<V>)>>;

/// A map that leaves behind what it was.
#[derive(Debug, Clone)]
pub(super) struct Undoable<K, V> {
    rows: BTreeMap<K, V>,
    log: Log<K, V>,
}

/// A set that leaves behind what it was.
pub(super) type UndoableSet<K> = Undoable<K, ()>;

impl<K: Ord + Copy, V: Clone> Undoable<K, V> {
    pub(super) fn new() -> Undoable<K, V> {
        Undoable {
            rows: BTreeMap::new(),
            log: None,
        }
    }

    pub(super) fn find(&self, key: K) -> Option<&V> {
        self.rows.get(&key)
    }

    /// Puts a value in the place of what was there.
    pub(super) fn put(&mut self, key: K, value: V) {
        let before = self.rows.insert(key, value);
        self.note(key, before);
    }

    pub(super) fn remove(&mut self, key: K) {
        if let Some(before) = self.rows.remove(&key) {
            self.note(key, Some(before));
        }
    }

    /// Takes all keys out.
    pub(super) fn drain(&mut self) -> Vec<K> {
        let rows = std::mem::take(&mut self.rows);
        let keys = rows.keys().copied().collect();
        if let Some(log) = &mut self.log {
            log.extend(rows.into_iter().map(|(key, before)| (key, Some(before))));
        }
        keys
    }

    pub(super) fn first(&self) -> Option<&K> {
        self.rows.first_key_value().map(|(key, _)| key)
    }

    /// In order.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.rows.keys()
    }

    pub(super) fn range(&self, keys: RangeInclusive<K>) -> impl Iterator<Item = &K> {
        self.rows.range(keys).map(|(key, _)| key)
    }

    /// What changes from now on can be taken back; what has changed before stays.
    pub(super) fn mark(&mut self) {
        self.log = Some(Vec::new());
    }

    /// What has changed stays.
    pub(super) fn confirm(&mut self) {
        self.log = None;
    }

    /// What has changed since the mark has not.
    pub(super) fn undo(&mut self) {
        for (key, before) in self.log.take().into_iter().flatten().rev() {
            match before {
                Some(value) => drop(self.rows.insert(key, value)),
                None => drop(self.rows.remove(&key)),
            }
        }
    }

    fn note(&mut self, key: K, before: Option<V>) {
        if let Some(log) = &mut self.log {
            log.push((key, before));
        }
    }
}

impl<K: Ord + Copy> UndoableSet<K> {
    /// Puts a key in; nothing if it is there.
    pub(super) fn insert(&mut self, key: K) {
        if self.rows.insert(key, ()).is_none() {
            self.note(key, None);
        }
    }
}
