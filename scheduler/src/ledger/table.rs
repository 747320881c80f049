//! A table whose hash is kept as it changes.
//!
//! The hash of a table is the sum, modulo 2^256, of the hashes of its rows (Bellare and Micciancio,
//! "A New Paradigm for Collision-Free Hashing", 1997, their AdHash). A row that changes is taken out
//! of the sum at its first change and put back when the hash is asked for, so an epoch's close
//! hashes what has changed in it and nothing else. Such a sum finds divergence; it does not bind
//! an adversary who can choose rows, and need not: the chain of records does that.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::encoding::Coded;
use super::undo::Log;

/// A key and what stands there.
pub(super) trait Row: Coded + Clone {
    /// Names the table in the hashes of its rows.
    const TABLE: u8;
    /// Whether rows stay as they were put in until they go. Then they are hashed where they are at hand, and not looked up
    /// once more for it.
    const FINAL: bool;
    /// What rows are found by.
    type Key: Coded + Copy + Ord;
}

/// Rows by key.
#[derive(Debug, Clone)]
pub(super) struct Table<R: Row> {
    rows: BTreeMap<R::Key, Slot<R>>,
    /// Of the rows that are not in `changed`.
    sum: Sum,
    /// Keys of rows that are not in the sum; some may have gone.
    changed: Vec<R::Key>,
    /// Of rows, not of their hashes: the sum follows from what stands there.
    log: Log<R::Key, R>,
}

#[derive(Debug, Clone)]
struct Slot<R> {
    row: R,
    /// What it adds to the sum, if it is in the sum.
    hash: Option<[u8; 32]>,
}

impl<R: Row> Table<R> {
    pub(super) fn new() -> Table<R> {
        Table {
            rows: BTreeMap::new(),
            sum: Sum::default(),
            changed: Vec::new(),
            log: None,
        }
    }

    /// Puts a new row in.
    ///
    /// # Panics
    /// If there is one: whoever inserts has looked.
    pub(super) fn insert(&mut self, key: R::Key, row: R) {
        let hash = R::FINAL.then(|| row_hash(key, &row));
        match &hash {
            Some(hash) => self.sum.add(hash),
            None => self.changed.push(key),
        }
        let slot = Slot { row, hash };
        assert!(self.rows.insert(key, slot).is_none(), "a row is there");
        if let Some(log) = &mut self.log {
            log.push((key, None));
        }
    }

    /// The row, to be looked at and then changed or not.
    pub(super) fn entry(&mut self, key: R::Key) -> Option<Entry<'_, R>> {
        let slot = self.rows.get_mut(&key)?;
        let (sum, changed, log) = (&mut self.sum, &mut self.changed, &mut self.log);
        Some(Entry {
            key,
            slot,
            sum,
            changed,
            log,
        })
    }

    /// The row, to be changed.
    pub(super) fn edit(&mut self, key: R::Key) -> Option<&mut R> {
        Some(self.entry(key)?.edit())
    }

    pub(super) fn remove(&mut self, key: R::Key) -> Option<R> {
        let slot = self.rows.remove(&key)?;
        if let Some(hash) = slot.hash {
            self.sum.subtract(&hash);
        }
        if let Some(log) = &mut self.log {
            log.push((key, Some(slot.row.clone())));
        }
        Some(slot.row)
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
            self.remove(key);
            if let Some(row) = before {
                self.insert(key, row);
            }
        }
    }

    pub(super) fn find(&self, key: R::Key) -> Option<&R> {
        self.rows.get(&key).map(|slot| &slot.row)
    }

    /// By key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (R::Key, &R)> {
        self.rows.iter().map(|(&key, slot)| (key, &slot.row))
    }

    /// Rows with keys from this one on.
    pub(super) fn from(&self, key: R::Key) -> impl Iterator<Item = (R::Key, &R)> {
        let rows = self.rows.range(key..);
        rows.map(|(&key, slot)| (key, &slot.row))
    }

    /// Appends the number of rows and their sum.
    pub(super) fn hash_into(&mut self, out: &mut Vec<u8>) {
        // In the order in which they lie, which spares most of the way from one to the next.
        self.changed.sort_unstable();
        for key in self.changed.drain(..) {
            // Some have gone since, and some have gone and come again.
            if let Some(slot) = self.rows.get_mut(&key)
                && slot.hash.is_none()
            {
                let hash = row_hash(key, &slot.row);
                self.sum.add(&hash);
                slot.hash = Some(hash);
            }
        }
        (self.rows.len() as u64).write(out);
        out.extend_from_slice(&self.sum.bytes());
    }
}

/// A row that was found.
pub(super) struct Entry<'a, R: Row> {
    key: R::Key,
    slot: &'a mut Slot<R>,
    sum: &'a mut Sum,
    changed: &'a mut Vec<R::Key>,
    log: &'a mut Log<R::Key, R>,
}

impl<'a, R: Row> Entry<'a, R> {
    pub(super) fn row(&self) -> &R {
        &self.slot.row
    }

    /// The row, to be changed.
    pub(super) fn edit(self) -> &'a mut R {
        if let Some(hash) = self.slot.hash.take() {
            self.sum.subtract(&hash);
            self.changed.push(self.key);
        }
        if let Some(log) = self.log {
            log.push((self.key, Some(self.slot.row.clone())));
        }
        &mut self.slot.row
    }
}

fn row_hash<R: Row>(key: R::Key, row: &R) -> [u8; 32] {
    // The longest row, a party's, has less.
    let mut bytes = Vec::with_capacity(256);
    bytes.push(R::TABLE);
    key.write(&mut bytes);
    row.write(&mut bytes);
    Sha256::digest(&bytes).into()
}

/// A number modulo 2^256.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    high: u128,
    low: u128,
}

impl Sum {
    fn of(bytes: &[u8; 32]) -> Sum {
        let half = |from: usize| {
            let half = bytes[from..from + 16].try_into();
            u128::from_be_bytes(half.expect("sixteen bytes"))
        };
        Sum {
            high: half(0),
            low: half(16),
        }
    }

    fn add(&mut self, hash: &[u8; 32]) {
        let other = Sum::of(hash);
        let (low, carry) = self.low.overflowing_add(other.low);
        self.low = low;
        let high = self.high.wrapping_add(other.high);
        self.high = high.wrapping_add(u128::from(carry));
    }

    fn subtract(&mut self, hash: &[u8; 32]) {
        let other = Sum::of(hash);
        let (low, borrow) = self.low.overflowing_sub(other.low);
        self.low = low;
        let high = self.high.wrapping_sub(other.high);
        self.high = high.wrapping_sub(u128::from(borrow));
    }

    fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.high.to_be_bytes());
        bytes[16..].copy_from_slice(&self.low.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Word(u64);
    impl Coded for Word {
        fn write(&self, out: &mut Vec<u8>) {
            self.0.write(out);
        }
        fn read(
            from: &mut super::super::encoding::Reader<'_>,
        ) -> Result<Word, super::super::encoding::Malformed> {
            Ok(Word(u64::read(from)?))
        }
    }
    impl Row for Word {
        const TABLE: u8 = 7;
        const FINAL: bool = false;
        type Key = u32;
    }

    fn hash(table: &mut Table<Word>) -> Vec<u8> {
        let mut out = Vec::new();
        table.hash_into(&mut out);
        out
    }

    #[test]
    fn the_hash_depends_on_what_is_there_and_not_on_how_it_came() {
        let mut state = 1_u64;
        let mut table = Table::new();
        for round in 0..2_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695);
            let key = (state >> 33) as u32 % 50;
            match (state >> 20) % 3 {
                0 => drop(table.remove(key)),
                1 if table.find(key).is_none() => table.insert(key, Word(state)),
                _ => drop(table.edit(key).map(|row| row.0 ^= state)),
            }
            // Asked for at odd times, so that changes gather.
            if round % 7 == 0 {
                let mut anew = Table::new();
                let rows: Vec<_> = table.iter().map(|(key, row)| (key, row.clone())).collect();
                rows.into_iter()
                    .rev()
                    .for_each(|(key, row)| anew.insert(key, row));
                assert_eq!(hash(&mut table), hash(&mut anew), "round {round}");
            }
        }
    }
}
