//! What a vector was before it was last overwritten, as long as some member still has that.
//!
//! When a piece of work begins on a member, the copies that others have of what it overwrites become old and stay where they
//! are, until something else is copied over them. Should that member be lost, they are all that is left: work in place begins
//! again from them. And a transform that has ended there, and whose result nobody has fetched, is done again in the same way,
//! on a member that has the old copy, by whoever lacks the result first; that one carries it forward a quantum at a time, and
//! whoever else lacks it waits for nobody and comes again.
//!
//! One step back is kept and no more. It is lost while a result is fetched: the copy overwrites what it was made from, and if the
//! device dies in the midst of that, neither is whole.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::crossing::others_are_at_it;
use super::{HOST, Kind, Run, Vector, lock, nanoseconds};
use crate::device::{DeviceError, Progress, Transform, Work};
use crate::forfeit::forfeit;

/// See the top of this file.
#[derive(Default)]
pub(super) struct Past {
    /// A bit for each member that has the vector as it was before.
    before: AtomicU64,
    again: Mutex<Again>,
}

/// How to make the vector from what it was before.
#[derive(Default)]
struct Again {
    transform: Option<Transform>,
    run: Option<Run>,
}

impl Past {
    /// A member's copy is overwritten.
    pub(super) fn leaves(&self, member: usize) {
        self.before.fetch_and(!(1 << member), Ordering::AcqRel);
    }
}

impl Vector {
    /// From now on only this member has it, which makes it, by this transform or otherwise.
    pub(super) fn made_by(&self, member: usize, transform: Option<Transform>) {
        // Nobody else is at it: work that writes a vector has it for itself.
        lock(&self.past.again).transform = transform;
        let had = self.current.swap(1 << member, Ordering::AcqRel);
        let before = had & !(1 << member);
        self.past.before.store(before, Ordering::Release);
        self.begin_crossings_anew();
    }

    /// Members that still have it as it was before, a bit each.
    pub(super) fn had_before(&self) -> u64 {
        self.living(self.past.before.load(Ordering::Acquire))
    }

    /// Whether no member has it that is not lost.
    pub(super) fn is_gone(&self) -> bool {
        self.living(self.current.load(Ordering::Acquire)) == 0
    }

    /// Makes it again, if nobody has it.
    pub(super) fn regain(&self) -> Result<(), DeviceError> {
        while self.is_gone() {
            self.redo()?;
        }
        Ok(())
    }

    /// A quantum of making it again; there is more to do as long as nobody has it.
    pub(super) fn redo(&self) -> Result<Progress, DeviceError> {
        let Ok(mut again) = self.past.again.try_lock() else {
            return Ok(others_are_at_it());
        };
        if !self.is_gone() {
            return Ok(Progress::More);
        }
        let began = Instant::now();
        let done = self.redo_some(&mut again);
        // It was paid for when it was done first.
        forfeit(Duration::from_nanos(nanoseconds(began)));
        done.map(|()| Progress::More)
    }

    fn redo_some(&self, again: &mut Again) -> Result<(), DeviceError> {
        let run = match &mut again.run {
            Some(run) => run,
            none => none.insert(self.redo_begins(again.transform)?),
        };
        let member = run.member;
        match run.run() {
            Ok(Progress::More) => {}
            Ok(Progress::Done) => {
                again.run = None;
                self.current.fetch_or(1 << member, Ordering::AcqRel);
            }
            // From another copy, if there is one.
            Err(error) if self.shared.gave_up(member, Kind::Ntt, self.len, &error) => {
                again.run = None;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The transform, planned on a member that has what it was made from. The other time that memory is taken while work runs.
    fn redo_begins(&self, transform: Option<Transform>) -> Result<Run, DeviceError> {
        loop {
            let before = self.had_before();
            let (Some(transform), true) = (transform, before != 0) else {
                return Err(self.shared.loss("it had the only copy"));
            };
            let member = before.trailing_zeros() as usize;
            let vector = self.ids[member].expect("it has a copy");
            self.past.leaves(member);
            let work = Work::Ntt { vector, transform };
            match self.shared.members[member].device.plan(&work) {
                Ok(plan) => {
                    let lost = self.current.load(Ordering::Relaxed).trailing_zeros();
                    self.shared.fell_back(lost as usize);
                    return Ok(Run::arrived(member, plan, work));
                }
                // From another copy, if there is one.
                Err(error) if member != HOST => {
                    self.shared.gave_up(member, Kind::Ntt, self.len, &error);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
