//! Storage: when a tenant is quiet, and what it gives back then.
//!
//! Tables of keys, keys and blobs are bytes that a tenant has on lease. One whose demand has been
//! at its class's low mark, or below it, for as long as the class says ([`GiveBack`]) gives a part of
//! what it holds at that moment back, so that the box has it for others; when demand returns it is
//! taken again as it is needed. [`Watch`] says when, once for each time of quiet, and [`plan`] says
//! what. Both are told everything: what is held, and what time it is.
//!
//! **Order.** First goes what costs least to have again. Tables come again by themselves, after a
//! proof. Witnesses that have been proved are of no use any more. A key that can be read again from
//! its source costs the first proof that reading. Other blobs come last, for only their owner has
//! them elsewhere, and would have to send them again. What never goes is what an unfinished job
//! needs, its witness above all, and a key that could not be read again. Within a kind the largest goes
//! first, so that as little as possible is touched.
//!
//! **Hysteresis.** The first arrival ends the quiet, however low the mark is, and a new quiet counts
//! from it: between two releases of a tenant lies at least the time that a quiet takes to begin, so
//! nothing is read in order to be thrown away at once.

use std::collections::VecDeque;

use crate::Nanos;
use crate::scenario::{GiveBack, Share};

/// Knows whether one tenant is quiet.
#[derive(Debug, Clone)]
pub struct Watch {
    mark: Option<GiveBack>,
    /// The newest arrivals, oldest first: one more than may come in a quiet.
    arrivals: VecDeque<Nanos>,
    unfinished: u32,
    /// It was not quiet before this.
    since: Nanos,
    /// Whether the release of this quiet has been made.
    given: bool,
}

/// Something that is held. The order of kinds is the order in which they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The tables of a key.
    Tables,
    /// A witness that has been proved, and that no other job needs.
    Spent,
    /// A registered key: its file, mapped.
    Key,
    /// Any other blob.
    Blob,
}

/// Why something may not go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bound {
    /// An unfinished job needs it.
    Job,
    /// It could not be had again.
    NoSource,
}

/// One thing that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub kind: Kind,
    /// How much.
    pub bytes: u64,
    /// What keeps it.
    pub bound: Option<Bound>,
}

/// What is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// By their places in what was given, in the order in which they go.
    pub going: Vec<usize>,
    /// Bytes that are held.
    pub held: u64,
    /// Bytes that should go.
    pub aim: u64,
    /// Bytes that will: as many as that, and beyond it less than the last thing that goes.
    pub back: u64,
    /// Bytes that stay because unfinished jobs need them.
    pub needed: u64,
    /// Bytes that stay because they could not be had again.
    pub sourceless: u64,
}

impl Watch {
    /// A tenant of a class with this mark, which is not quiet before it has been so from now on.
    pub fn new(mark: Option<GiveBack>, now: Nanos) -> Watch {
        Watch {
            mark,
            arrivals: VecDeque::new(),
            unfinished: 0,
            since: now,
            given: false,
        }
    }

    /// Goes on with another mark.
    pub fn adopt(&mut self, mark: Option<GiveBack>) {
        self.mark = mark;
        self.forget();
    }

    /// The release of this quiet was made before: by a process of which this one is the heir.
    pub fn was_given(&mut self) {
        self.given = true;
    }

    /// Something came from the tenant. Whether that ends a quiet in which a release was made.
    pub fn arrive(&mut self, at: Nanos) -> bool {
        // Stamps come from several connections; one that goes back counts as the last one.
        let at = self.arrivals.back().map_or(at, |&last| at.max(last));
        self.arrivals.push_back(at);
        self.forget();
        let ended = std::mem::take(&mut self.given);
        if ended {
            self.since = self.since.max(at);
        }
        ended
    }

    /// A job of the tenant is under way.
    pub fn begin(&mut self) {
        self.unfinished += 1;
    }

    /// A job of the tenant has ended.
    ///
    /// # Panics
    /// If none was under way.
    pub fn end(&mut self, at: Nanos) {
        assert!(self.unfinished > 0, "more jobs ended than began");
        if self.unfinished > self.mark.map_or(0, |mark| mark.jobs) {
            self.since = self.since.max(at);
        }
        self.unfinished -= 1;
    }

    /// Whether the release of this quiet has been made.
    pub fn is_quiet(&self) -> bool {
        self.given
    }

    /// When a release falls due if nothing happens until then; `None` if none does.
    pub fn due(&self) -> Option<Nanos> {
        let mark = self.mark.filter(|mark| mark.share > Share::NONE)?;
        let low = self.unfinished <= mark.jobs && !self.given;
        low.then(|| self.low_since(&mark).plus(mark.quiet))
    }

    /// Whether a release is due, which this says once in each quiet: the share of what is held that
    /// goes, and since when demand has been low.
    pub fn give(&mut self, now: Nanos) -> Option<(Share, Nanos)> {
        let mark = self.mark?;
        if self.due()? > now {
            return None;
        }
        self.given = true;
        Some((mark.share, self.low_since(&mark)))
    }

    /// Since when demand is no more than the mark allows, unless it is now.
    fn low_since(&self, mark: &GiveBack) -> Nanos {
        let kept = self.arrivals.len();
        let too_many = kept.checked_sub(mark.arrivals as usize + 1);
        let crossing = too_many.map_or(Nanos::ZERO, |at| self.arrivals[at]);
        self.since.max(crossing)
    }

    /// Forgets arrivals beyond those that the mark asks about.
    fn forget(&mut self) {
        let kept = self.mark.map_or(0, |mark| mark.arrivals as usize + 1);
        while self.arrivals.len() > kept {
            self.arrivals.pop_front();
        }
    }
}

/// What goes so that a share of all that is held is back, rounded up to bytes, or else everything
/// that may.
pub fn plan(items: &[Item], share: Share) -> Plan {
    let sum = |of: &dyn Fn(&Item) -> bool| -> u64 {
        let bytes = items.iter().filter(|item| of(item)).map(|item| item.bytes);
        bytes.fold(0, u64::saturating_add)
    };
    let held = sum(&|_| true);
    let exact = u128::from(held) * u128::from(share.millionths());
    let aim = exact.div_ceil(u128::from(Share::WHOLE.millionths()));
    // A share is at most the whole.
    let aim = u64::try_from(aim).unwrap_or(held).min(held);
    let mut free: Vec<usize> = (0..items.len())
        .filter(|&at| items[at].bound.is_none() && items[at].bytes > 0)
        .collect();
    free.sort_by_key(|&at| (items[at].kind, std::cmp::Reverse(items[at].bytes)));
    let (mut going, mut back) = (Vec::new(), 0_u64);
    for at in free {
        if back >= aim {
            break;
        }
        back = back.saturating_add(items[at].bytes);
        going.push(at);
    }
    Plan {
        going,
        held,
        aim,
        back,
        needed: sum(&|item| item.bound == Some(Bound::Job)),
        sourceless: sum(&|item| item.bound == Some(Bound::NoSource)),
    }
}
