//! What stands between the arbiter and one worker: two words and a ring, none of which can wait.
//!
//! * The **owner word** holds {epoch | owner}. The arbiter is its only writer; the worker reads
//!   it between two quanta, and so a hand-over costs the worker one load.
//! * The **answer** holds {epoch | what the worker found there} and two stamps. The worker is its
//!   only writer. It always tells the newest state, so an ownership report can be neither lost
//!   nor held up by a full ring: what is overwritten is what has been overtaken.
//! * The **ring** (rtrb: single producer, single consumer, wait-free) carries everything that is
//!   nice to know: which quantum ran how long. When it is full the record is dropped and counted.
//!
//! Nothing here wakes anybody. A worker that parks must look at its owner word once more after it
//! has said that it will park, and the arbiter must publish before it unparks; that is the
//! business of the threads, not of the words.
//!
//! The answer's stamps do not fit into its word, so they are guarded as in a sequence lock: the
//! word is marked as being written, the stamps are stored, the word is stored. The reader does not
//! spin: if it meets the mark, or if the word has changed under it, it has seen nothing, and the
//! worker's next wake-up makes it look again. (H.-J. Boehm, "Can seqlocks get along with
//! programming language memory models?", MSPC 2012, for the fences.)
//!
//! Under `cfg(loom)` the atomics are loom's, and `tests/loom.rs` tries every interleaving; under
//! the feature `shuttle` they are shuttle's, and whole threads of a box are interleaved at random
//! (`deploy/node/tests/shuttle.rs`).

use std::fmt;

use primitive::{Arc, AtomicU64, Ordering, fence};

use crate::arbiter::Event;
use crate::{Epoch, Nanos, TenantId, UnitId};

/// Who owns a unit, and since which hand-over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Ownership {
    /// The hand-over.
    pub epoch: Epoch,
    /// The owner; `None` when the worker should run nothing.
    pub owner: Option<TenantId>,
}

/// What a worker finds when it looks for something to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// A quantum of the owner's work, which it runs.
    Work,
    /// An owner whose queue is empty.
    Nothing,
    /// No owner.
    NoOwner,
}

/// A worker's answer to a hand-over, given once for each epoch that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The epoch that it has entered.
    pub epoch: Epoch,
    /// When it saw the new epoch: its last quantum for an earlier owner had ended.
    pub drained: Nanos,
    /// Just before the first instruction of the new owner's first quantum; or just after the
    /// first look at the new owner's empty queue, or at a word without an owner.
    pub first: Nanos,
    /// What it found at that first look.
    pub found: Found,
}

/// The word by which the arbiter tells a worker whose work to run. Single writer.
pub struct OwnerWord(AtomicU64);

/// The word and stamps by which a worker answers. Single writer.
pub struct Answer {
    word: AtomicU64,
    drained: AtomicU64,
    first: AtomicU64,
}

/// What an [`Answer`] says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answered {
    /// The newest entry.
    pub entry: Entry,
    /// What the worker has found since then, in the same epoch.
    pub now: Found,
}

impl OwnerWord {
    /// Epoch 0, no owner.
    #[allow(clippy::new_without_default)]
    pub fn new() -> OwnerWord {
        OwnerWord(AtomicU64::new(pack_ownership(Ownership::default())))
    }

    /// Stores a new owner. Only the arbiter's side may call this.
    pub fn publish(&self, ownership: Ownership) {
        // Pairs with the Acquire in `read`: whatever the arbiter's thread wrote for the new
        // owner before (its run order) is there for the worker that sees the new epoch.
        self.0.store(pack_ownership(ownership), Ordering::Release);
    }

    /// The owner now.
    pub fn read(&self) -> Ownership {
        unpack_ownership(self.0.load(Ordering::Acquire))
    }
}

impl Answer {
    /// Epoch 0, entered at time 0, no owner found: the state of a worker that has never run.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Answer {
        Answer {
            word: AtomicU64::new(pack_answer(Epoch(0), Found::NoOwner, Found::NoOwner)),
            drained: AtomicU64::new(0),
            first: AtomicU64::new(0),
        }
    }

    /// Answers to a new epoch. Only the worker's side may call this.
    pub fn enter(&self, entry: Entry) {
        // Relaxed is enough for the mark: the fence keeps the stamps from being seen before it.
        self.word.store(WRITING, Ordering::Relaxed);
        fence(Ordering::Release);
        self.drained.store(entry.drained.0, Ordering::Relaxed);
        self.first.store(entry.first.0, Ordering::Relaxed);
        let word = pack_answer(entry.epoch, entry.found, entry.found);
        // Pairs with the first Acquire in `read`.
        self.word.store(word, Ordering::Release);
    }

    /// Says that the worker now finds something else than before, in the epoch that it entered
    /// last. Only the worker's side may call this.
    pub fn change(&self, entry: Entry, now: Found) {
        // Keeps the order with the stamps of `enter` for a reader that sees only this store.
        self.word.store(
            pack_answer(entry.epoch, entry.found, now),
            Ordering::Release,
        );
    }

    /// The newest answer; `None` if one is being written at this moment.
    pub fn read(&self) -> Option<Answered> {
        let word = self.word.load(Ordering::Acquire);
        if word & WRITING != 0 {
            return None;
        }
        let drained = Nanos(self.drained.load(Ordering::Relaxed));
        let first = Nanos(self.first.load(Ordering::Relaxed));
        // Pairs with the Release fence in `enter`: had a stamp above come from a later entry,
        // the load below would see at least that entry's mark.
        fence(Ordering::Acquire);
        if self.word.load(Ordering::Relaxed) != word {
            return None;
        }
        let (epoch, found, now) = unpack_answer(word);
        Some(Answered {
            entry: Entry {
                epoch,
                drained,
                first,
                found,
            },
            now,
        })
    }
}

/// A mailbox for one unit: its two ends. `capacity` is that of the ring, in records.
///
/// Set up once for each worker, before it starts; nothing here allocates afterwards.
pub fn mailbox<R: Copy + Send>(unit: UnitId, capacity: usize) -> (ArbiterSide<R>, WorkerSide<R>) {
    let (producer, consumer) = rtrb::RingBuffer::new(capacity);
    let shared = Arc::new(Shared {
        owner: Line(OwnerWord::new()),
        answer: Line(Answer::new()),
        lost: AtomicU64::new(0),
    });
    let initial = Entry {
        epoch: Epoch(0),
        drained: Nanos::ZERO,
        first: Nanos::ZERO,
        found: Found::NoOwner,
    };
    let arbiter = ArbiterSide {
        unit,
        shared: Arc::clone(&shared),
        records: consumer,
        known: Answered {
            entry: initial,
            now: Found::NoOwner,
        },
    };
    let worker = WorkerSide {
        shared,
        records: producer,
        seen: Ownership::default(),
        entry: initial,
        now: Found::NoOwner,
    };
    (arbiter, worker)
}

/// The arbiter's end of a mailbox.
pub struct ArbiterSide<R> {
    unit: UnitId,
    shared: Arc<Shared>,
    records: rtrb::Consumer<R>,
    known: Answered,
}

impl<R: Copy + Send> ArbiterSide<R> {
    /// Carries out an [`crate::Action::Own`]. One store; does not wake the worker.
    pub fn publish(&mut self, ownership: Ownership) {
        self.shared.owner.0.publish(ownership);
    }

    /// What has changed in the worker's answer since the last call, as an event for
    /// [`crate::Arbiter::handle`]; `now` is the time of this call. Call until it says `None`,
    /// which is after at most two events. A change that was overtaken by another is not told.
    pub fn poll(&mut self, now: Nanos) -> Option<Event> {
        let answered = self.shared.answer.0.read()?;
        let Answered { entry, now: found } = answered;
        if entry.epoch != self.known.entry.epoch {
            self.known = Answered {
                entry,
                now: entry.found,
            };
            return Some(Event::Entered {
                unit: self.unit,
                entry,
            });
        }
        if found == self.known.now {
            return None;
        }
        self.known.now = found;
        let (unit, epoch) = (self.unit, entry.epoch);
        match found {
            Found::Work => Some(Event::Working { unit, epoch }),
            Found::Nothing => Some(Event::Idle {
                unit,
                epoch,
                at: now,
            }),
            Found::NoOwner => None,
        }
    }

    /// The oldest record in the ring.
    pub fn record(&mut self) -> Option<R> {
        self.records.pop().ok()
    }

    /// How many records the worker has had to drop since the start.
    pub fn lost(&self) -> u64 {
        // A count that nothing else is read after: no order is needed.
        self.shared.lost.load(Ordering::Relaxed)
    }
}

/// The worker's end of a mailbox. See `docs/scheduling.md` for the loop that uses it.
pub struct WorkerSide<R> {
    shared: Arc<Shared>,
    records: rtrb::Producer<R>,
    seen: Ownership,
    entry: Entry,
    now: Found,
}

impl<R: Copy + Send> WorkerSide<R> {
    /// Whose work to run now: one load, to be done before each quantum. Epochs that this
    /// returns never go back.
    pub fn owner(&mut self) -> Ownership {
        self.seen = self.shared.owner.0.read();
        self.seen
    }

    /// Whether the epoch that [`WorkerSide::owner`] returned last still awaits its
    /// [`WorkerSide::enter`].
    pub fn is_new(&self) -> bool {
        self.seen.epoch != self.entry.epoch
    }

    /// Answers to the epoch that [`WorkerSide::owner`] returned last: to be called once for each
    /// new epoch, after the first look at the new owner's queue and before the first quantum is
    /// run. Does nothing if that epoch has been answered. The arbiter should be woken after it.
    pub fn enter(&mut self, drained: Nanos, first: Nanos, found: Found) {
        if !self.is_new() {
            return;
        }
        self.entry = Entry {
            epoch: self.seen.epoch,
            drained,
            first,
            found,
        };
        self.now = found;
        self.shared.answer.0.enter(self.entry);
    }

    /// Says what the worker finds now; true if that is a change, which the arbiter should be
    /// woken for. Says nothing while a new epoch awaits its answer.
    pub fn find(&mut self, found: Found) -> bool {
        if self.is_new() || found == self.now {
            return false;
        }
        self.now = found;
        self.shared.answer.0.change(self.entry, found);
        true
    }

    /// Puts a record into the ring; false if it was full and the record is lost and counted.
    pub fn record(&mut self, record: R) -> bool {
        if self.records.push(record).is_ok() {
            return true;
        }
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
        false
    }
}

struct Shared {
    owner: Line<OwnerWord>,
    answer: Line<Answer>,
    lost: AtomicU64,
}

/// Two cache lines to itself: processors fetch them in pairs, and the two words have different
/// writers.
#[repr(align(128))]
struct Line<T>(T);

impl fmt::Debug for OwnerWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnerWord").field(&self.read()).finish()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Answer").field(&self.read()).finish()
    }
}

impl<R> fmt::Debug for ArbiterSide<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArbiterSide")
            .field("unit", &self.unit)
            .field("known", &self.known)
            .finish_non_exhaustive()
    }
}

impl<R> fmt::Debug for WorkerSide<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerSide")
            .field("seen", &self.seen)
            .field("entry", &self.entry)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

fn pack_ownership(ownership: Ownership) -> u64 {
    let owner = ownership.owner.map_or(NOBODY, |tenant| tenant.0);
    u64::from(ownership.epoch.0) << 32 | u64::from(owner)
}

fn unpack_ownership(word: u64) -> Ownership {
    let owner = (word & u64::from(u32::MAX)) as u32;
    Ownership {
        epoch: Epoch((word >> 32) as u32),
        owner: (owner != NOBODY).then_some(TenantId(owner)),
    }
}

fn pack_answer(epoch: Epoch, found: Found, now: Found) -> u64 {
    let code = |found| match found {
        Found::Work => 0,
        Found::Nothing => 1,
        Found::NoOwner => 2,
    };
    u64::from(epoch.0) << 32 | code(found) << 2 | code(now)
}

fn unpack_answer(word: u64) -> (Epoch, Found, Found) {
    let found = |code| match code & 3 {
        0 => Found::Work,
        1 => Found::Nothing,
        _ => Found::NoOwner,
    };
    (Epoch((word >> 32) as u32), found(word >> 2), found(word))
}

/// The owner field of a word that names no tenant.
const NOBODY: u32 = u32::MAX;
/// The mark of an answer that is being written.
const WRITING: u64 = 1 << 31;

/// std's atomics, or the model checker's.
mod primitive {
    #[cfg(loom)]
    pub(super) use loom::sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    };
    #[cfg(feature = "shuttle")]
    pub(super) use shuttle::sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    };
    #[cfg(not(any(loom, feature = "shuttle")))]
    pub(super) use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering, fence},
    };
}

// Under the model checker the words only exist inside a model; tests/loom.rs has those.
#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;

    const UNIT: UnitId = UnitId(3);

    fn own(epoch: u32, owner: Option<u32>) -> Ownership {
        Ownership {
            epoch: Epoch(epoch),
            owner: owner.map(TenantId),
        }
    }

    #[test]
    fn words_hold_what_was_put_in() {
        for ownership in [
            own(0, None),
            own(1, Some(0)),
            own(u32::MAX, Some(u32::MAX - 1)),
        ] {
            assert_eq!(unpack_ownership(pack_ownership(ownership)), ownership);
        }
        for found in [Found::Work, Found::Nothing, Found::NoOwner] {
            for now in [Found::Work, Found::Nothing, Found::NoOwner] {
                let word = pack_answer(Epoch(u32::MAX), found, now);
                assert_eq!(word & WRITING, 0);
                assert_eq!(unpack_answer(word), (Epoch(u32::MAX), found, now));
            }
        }
    }

    #[test]
    fn an_entry_is_told_once_and_changes_after_it() {
        let (mut arbiter, mut worker) = mailbox::<u8>(UNIT, 2);
        assert_eq!(arbiter.poll(Nanos(1)), None);
        arbiter.publish(own(1, Some(7)));
        assert_eq!(worker.owner(), own(1, Some(7)));
        assert!(worker.is_new());
        assert!(!worker.find(Found::Nothing), "the answer must come first");
        worker.enter(Nanos(10), Nanos(11), Found::Work);
        assert!(!worker.is_new());
        let entry = Entry {
            epoch: Epoch(1),
            drained: Nanos(10),
            first: Nanos(11),
            found: Found::Work,
        };
        assert!(worker.find(Found::Nothing));
        assert!(!worker.find(Found::Nothing));
        assert_eq!(
            arbiter.poll(Nanos(12)),
            Some(Event::Entered { unit: UNIT, entry })
        );
        let idle = Event::Idle {
            unit: UNIT,
            epoch: Epoch(1),
            at: Nanos(12),
        };
        assert_eq!(arbiter.poll(Nanos(12)), Some(idle));
        assert_eq!(arbiter.poll(Nanos(13)), None);
        assert!(worker.find(Found::Work));
        let working = Event::Working {
            unit: UNIT,
            epoch: Epoch(1),
        };
        assert_eq!(arbiter.poll(Nanos(14)), Some(working));
    }

    #[test]
    fn an_answer_is_given_once_for_each_epoch() {
        let (mut arbiter, mut worker) = mailbox::<u8>(UNIT, 2);
        arbiter.publish(own(1, Some(7)));
        worker.owner();
        worker.enter(Nanos(10), Nanos(11), Found::Work);
        worker.enter(Nanos(20), Nanos(21), Found::Nothing);
        let Some(Event::Entered { entry, .. }) = arbiter.poll(Nanos(22)) else {
            panic!("no entry was told");
        };
        assert_eq!(entry.drained, Nanos(10));
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let (mut arbiter, mut worker) = mailbox::<u8>(UNIT, 2);
        assert!(worker.record(1) && worker.record(2));
        assert!(!worker.record(3));
        assert_eq!(arbiter.lost(), 1);
        assert_eq!(
            [arbiter.record(), arbiter.record(), arbiter.record()],
            [Some(1), Some(2), None]
        );
        assert!(worker.record(4));
        assert_eq!(arbiter.lost(), 1);
    }
}
