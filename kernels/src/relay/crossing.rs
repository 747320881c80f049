//! A vector on its way to a member, in pieces, each brought by one of those who wait for it.
//!
//! Five sums and a product of one proof read the same witness, and begin at the same time. There is one copy of it under way to a
//! member, whoever wants it: who lacks the vector there takes the next piece that nobody has taken. So as many cores as wait fill what
//! the bus reads from, each piece is brought once, and charged and priced once. Nobody owns the copy: where a plan is dropped in the
//! midst of it, the next one that wants it goes on. Who finds all pieces taken and some not there yet sleeps for a moment and comes
//! again, at nobody's cost; that is the time of a piece at most, unless the device hangs.
//!
//! A device may take a piece over before that has arrived ([`Device::vector_fill`]). Who brings the last one waits for all of them
//! ([`Device::vector_settle`]), and only then the member's copy is up to date. If anything fails the copy begins anew. Pieces that
//! others are at meanwhile count for nothing then, and do no harm: they are of the same vector, for work that overwrites it has it for itself.
//!
//! [`Device::vector_fill`]: crate::Device::vector_fill
//! [`Device::vector_settle`]: crate::Device::vector_settle

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Failed, Kind, Vector, lock};
use crate::device::{DeviceError, Progress};
use crate::forfeit::forfeit;

/// See the top of this file.
#[derive(Default)]
pub(super) struct Crossing {
    /// Scalars that somebody has taken, from the first one on.
    taken: usize,
    /// Those of them that the device has taken over.
    brought: usize,
    /// How many are at a piece.
    hands: usize,
    /// Since when somebody is.
    since: Option<Instant>,
    /// For how long somebody was, before that.
    spent: Duration,
    /// How often it has begun anew.
    round: u64,
    /// Whether the device has taken over anything that may not have arrived.
    unsettled: bool,
}

impl Crossing {
    fn begin_anew(&mut self) {
        *self = Crossing {
            hands: self.hands,
            since: (self.hands > 0).then(Instant::now),
            round: self.round + 1,
            unsettled: self.unsettled,
            ..Crossing::default()
        };
    }
}

/// A piece that somebody is at.
struct Hand<'a> {
    vector: &'a Vector,
    member: usize,
    piece: Range<usize>,
    round: u64,
    is_brought: bool,
}

impl Vector {
    /// Brings a member the next piece of what it lacks; there is more to do as long as it lacks any.
    pub(super) fn bring(&self, member: usize) -> Result<Progress, Failed> {
        let Some(mut hand) = self.take_piece(member) else {
            return Ok(match self.is_current(member) {
                true => Progress::Done,
                false => others_are_at_it(),
            });
        };
        // What it had from before is overwritten.
        self.past.leaves(member);
        let device = &self.shared.members[member].device;
        let id = self.ids[member].expect("planned only where there is room");
        let bytes = hand.piece.len() * self.curve.scalar_bytes();
        let mut gone = None;
        let filled = device.vector_fill(id, hand.piece.start, bytes, &mut |at, scalars| {
            let read = self.read(at, scalars);
            read.inspect_err(|error| gone = Some(error.clone()))
        });
        if let Some(error) = gone {
            return Err(Failed::Gone(error));
        }
        filled.map_err(Failed::Member)?;
        if !hand.is_last() {
            return Ok(Progress::More);
        }
        let settled = device.vector_settle(id);
        hand.all_is_there(settled.is_ok());
        settled.map(|()| Progress::Done).map_err(Failed::Member)
    }

    /// The next piece that nobody has taken, if there is one and the member lacks the vector.
    fn take_piece(&self, member: usize) -> Option<Hand<'_>> {
        let mut crossing = lock(&self.crossings[member]);
        // One that has ended is made by the same lock to be one that has not begun.
        let is_left = crossing.taken < self.len || self.len == 0;
        if self.is_current(member) || !is_left {
            return None;
        }
        let piece = crossing.taken..self.len.min(crossing.taken + PIECE_SCALARS);
        crossing.taken = piece.end;
        crossing.unsettled = true;
        crossing.hands += 1;
        crossing.since.get_or_insert_with(Instant::now);
        Some(Hand {
            vector: self,
            member,
            piece,
            round: crossing.round,
            is_brought: false,
        })
    }

    /// A member is about to overwrite it: nothing may arrive there any more of a copy that was given up.
    pub(super) fn clear_way(&self, member: usize) -> Result<(), DeviceError> {
        let unsettled = std::mem::take(&mut lock(&self.crossings[member]).unsettled);
        match self.ids[member] {
            Some(id) if unsettled => self.shared.members[member].device.vector_settle(id),
            _ => Ok(()),
        }
    }

    /// It is another one now: what has been brought of the old one counts for nothing.
    pub(super) fn begin_crossings_anew(&self) {
        for crossing in &self.crossings {
            lock(crossing).begin_anew();
        }
    }
}

impl Hand<'_> {
    /// The device has taken the piece over: whether it has all now.
    fn is_last(&mut self) -> bool {
        self.is_brought = true;
        let mut crossing = lock(&self.vector.crossings[self.member]);
        if crossing.round != self.round {
            return false;
        }
        crossing.brought += self.piece.len();
        crossing.brought == self.vector.len
    }

    /// The last piece has arrived, and with it all, or never will.
    fn all_is_there(&self, is_there: bool) {
        let vector = self.vector;
        let mut crossing = lock(&vector.crossings[self.member]);
        if crossing.round != self.round {
            return;
        }
        if is_there {
            vector.current.fetch_or(1 << self.member, Ordering::AcqRel);
            let now = crossing.since.map_or(Duration::ZERO, |it| it.elapsed());
            let spent = u64::try_from((crossing.spent + now).as_nanos()).unwrap_or(u64::MAX);
            let prices = &vector.shared.members[self.member].prices;
            prices.learn(Kind::Copy, vector.curve, vector.len, spent);
            // Others may be at pieces from before it began anew.
            crossing.unsettled = crossing.hands > 1;
        }
        crossing.begin_anew();
    }
}

/// However a quantum ends, and if it panics: the piece is no longer somebody's.
impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let mut crossing = lock(&self.vector.crossings[self.member]);
        crossing.hands -= 1;
        if crossing.hands == 0 {
            let since = crossing.since.take();
            crossing.spent += since.map_or(Duration::ZERO, |it| it.elapsed());
        }
        if !self.is_brought && crossing.round == self.round {
            crossing.begin_anew();
        }
    }
}

/// Another thread is doing what this one waits for. Workers run what has more to do again at once: so that no core turns round and round
/// for that, it sleeps a moment, which is charged to nobody.
pub(super) fn others_are_at_it() -> Progress {
    let began = Instant::now();
    std::thread::sleep(MOMENT);
    forfeit(began.elapsed());
    Progress::More
}

/// Scalars in one piece, which is a quantum: 2 MiB, a quarter of a millisecond of one core's copying at 8 GB/s and 80 us of a bus of 25 GB/s.
const PIECE_SCALARS: usize = 1 << 16;

/// A fraction of what a piece takes, and of a quantum.
const MOMENT: Duration = Duration::from_micros(50);
