//! The units of the box with the bench of each: what its worker still owes and since when it finds nothing to run.
//!
//! A hand-over begins with [`Floor::give`], which makes a new epoch and writes down the promise that goes with it, and
//! ends with the worker's answer to that epoch ([`Floor::enter`]). So a promise stands only on a unit that has an owner
//! and has not answered. [`Floor::fence`] takes the unit from whoever owns it, with the promise, until the worker answers;
//! one that is lost is fenced too, and its memory counts for nothing meanwhile.
//!
//! Whose a unit is by slot is in the pool; that the owner is here, and how many units it counts, is for
//! [`super::Arbiter::check`] to see.

use super::{Cause, Decision, Reallocation};
use crate::mailbox::{Entry, Found, Ownership};
use crate::matching::Seat;
use crate::matching::dominant::{BYTES, Capacity};
use crate::pool::{Holder, KINDS, Kind, Pool, Unit};
use crate::{Epoch, Nanos, UnitId};

/// All units.
#[derive(Debug)]
pub(super) struct Floor {
    pool: Pool,
    /// By unit.
    benches: Vec<Bench>,
}

/// What the arbiter knows of a unit beside who owns it.
#[derive(Debug, Clone, Copy, Default)]
struct Bench {
    /// What the worker's answer will complete.
    promise: Option<Promise>,
    /// It changed hands by turn and stays until then.
    kept_until: Nanos,
    /// Since when its worker finds nothing to run for its owner.
    idle_since: Option<Nanos>,
}

#[derive(Debug, Clone, Copy)]
struct Promise {
    cause: Cause,
    t0: Nanos,
    detected: Nanos,
    decided: Option<Nanos>,
}

/// A worker's answer to the newest epoch of its unit.
#[derive(Debug)]
pub(super) struct Entered {
    /// What it completes.
    pub(super) handover: Option<Handover>,
    /// The unit was fenced off and is back in the pool.
    pub(super) returned: bool,
}

#[derive(Debug)]
pub(super) enum Handover {
    /// The unit went to somebody else and came back before the worker saw either.
    Superseded,
    /// It has changed hands.
    Complete(Reallocation),
}

impl Floor {
    pub(super) fn new(pool: Pool) -> Floor {
        Floor {
            benches: vec![Bench::default(); pool.units().len()],
            pool,
        }
    }

    /// Gives a unit to somebody, for that cause and since that t0, or to nobody. Whether a hand-over that had not been
    /// completed is overtaken by it.
    pub(super) fn give(
        &mut self,
        index: usize,
        to: Option<(Holder, (Cause, Nanos))>,
        decision: Decision,
    ) -> (Ownership, bool) {
        let mut bench = Bench::default();
        if let Some((_, (cause, t0))) = to {
            if matches!(cause, Cause::Ageing | Cause::Turn) {
                bench.kept_until = decision.turn_ends;
            }
            bench.promise = Some(Promise {
                cause,
                t0,
                detected: decision.now,
                decided: None,
            });
        }
        let before = std::mem::replace(&mut self.benches[index], bench);
        let holder = to.map(|(holder, _)| holder);
        let ownership = self.pool.assign(index, holder, decision.now);
        (ownership, before.promise.is_some())
    }

    /// The decisions before this are about to be carried out.
    pub(super) fn stamp_decided(&mut self, now: Nanos) {
        let promises = self.benches.iter_mut();
        for promise in promises.filter_map(|bench| bench.promise.as_mut()) {
            promise.decided.get_or_insert(now);
        }
    }

    /// Takes a worker's answer; `None` if it is not to the newest epoch. A reallocation that took longer than `bound`
    /// is a missed one.
    pub(super) fn enter(
        &mut self,
        unit: UnitId,
        entry: Entry,
        now: Nanos,
        bound: Nanos,
    ) -> Option<Entered> {
        let index = usize::from(unit.0);
        let answer = self.pool.answer(index, entry.epoch)?;
        let bench = &mut self.benches[index];
        bench.idle_since = (entry.found == Found::Nothing).then_some(now);
        let promised = bench.promise.take().zip(self.pool.units()[index].owner());
        let handover = promised.map(|(promise, to)| {
            if answer.from == Some(to) {
                return Handover::Superseded;
            }
            let mut record = Reallocation {
                unit,
                epoch: entry.epoch,
                from: answer.from,
                to,
                cause: promise.cause,
                t0: promise.t0,
                detected: promise.detected,
                decided: promise.decided.unwrap_or(promise.detected),
                drained: entry.drained,
                first: entry.first,
                found: entry.found,
                missed: false,
            };
            record.missed = record.total() > bound;
            Handover::Complete(record)
        });
        Some(Entered {
            handover,
            returned: answer.unfenced,
        })
    }

    /// A worker finds nothing to run; whether it is that of this epoch.
    pub(super) fn idle(&mut self, unit: UnitId, epoch: Epoch, at: Nanos) -> bool {
        let bench = self.bench(unit, epoch);
        bench.is_some_and(|bench| {
            bench.idle_since.get_or_insert(at);
            true
        })
    }

    /// A worker that had found nothing runs again; its unit, if it is that of this epoch.
    pub(super) fn working(&mut self, unit: UnitId, epoch: Epoch) -> Option<&Unit> {
        self.bench(unit, epoch)?.idle_since = None;
        self.pool.unit(unit)
    }

    /// Takes a unit away from everybody until its worker answers; since when it was promised to whoever owned it.
    pub(super) fn fence(&mut self, index: usize, now: Nanos) -> (Ownership, Option<Nanos>) {
        let promise = std::mem::take(&mut self.benches[index]).promise;
        let ownership = self.pool.fence(index, now);
        (ownership, promise.map(|promise| promise.t0))
    }

    /// What a fenced unit computes with is gone, until its worker answers.
    pub(super) fn lose(&mut self, index: usize) {
        self.pool.lose(index);
    }

    /// The bench of a unit that has answered to this epoch.
    fn bench(&mut self, unit: UnitId, epoch: Epoch) -> Option<&mut Bench> {
        let unit = self.pool.unit(unit);
        let unit = unit.filter(|it| it.is_answered() && it.epoch() == epoch)?;
        Some(&mut self.benches[usize::from(unit.id().0)])
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The devices.
    pub(super) fn devices(&self) -> &[Unit] {
        &self.pool.units()[self.pool.range(Kind::Device)]
    }

    /// The number of a unit among the devices; `None` if it is none.
    pub(super) fn device(&self, unit: UnitId) -> Option<usize> {
        let devices = self.pool.range(Kind::Device);
        let index = usize::from(unit.0);
        devices.contains(&index).then(|| index - devices.start)
    }

    /// What there is to divide.
    pub(super) fn capacity(&self) -> Capacity {
        Capacity {
            units: Kind::ALL.map(|kind| self.pool.open(kind)),
            bytes: self.bytes(),
        }
    }

    /// The bytes that there are to divide.
    pub(super) fn bytes(&self) -> [u64; BYTES] {
        let device_memory = self.pool.device_memory().unwrap_or(u64::MAX);
        [device_memory, self.pool.host_memory()]
    }

    /// Writes down the units as the matcher sees them.
    pub(super) fn fill_seats(&self, now: Nanos, seats: &mut [Vec<Seat>; KINDS]) {
        for kind in Kind::ALL {
            let range = self.pool.range(kind);
            let units = self.pool.units()[range.clone()].iter();
            let seats = &mut seats[kind.index()];
            seats.clear();
            seats.extend(units.zip(&self.benches[range]).map(|(unit, bench)| Seat {
                holder: unit.slot(),
                closed: unit.is_fenced(),
                kept: bench.kept_until > now,
                idle: bench.idle_since.is_some(),
            }));
        }
    }

    /// The slots of those whose units of a kind find nothing to run, and since when: once for each unit.
    pub(super) fn idlers(&self, kind: Kind) -> impl Iterator<Item = (usize, Nanos)> {
        let range = self.pool.range(kind);
        let units = self.pool.units()[range.clone()].iter();
        units
            .zip(&self.benches[range])
            .filter_map(|(unit, bench)| Some((unit.slot()?, bench.idle_since?)))
    }

    /// For how long a unit's worker has not answered, if that is as long as it may be and the unit is not fenced off yet.
    pub(super) fn silent(&self, index: usize, now: Nanos, overrun: Nanos) -> Option<Nanos> {
        let unit = &self.pool.units()[index];
        let silent = now.since(unit.since());
        (!unit.is_answered() && !unit.is_fenced() && silent >= overrun).then_some(silent)
    }

    /// When the first unit will have been silent for too long, if none answers.
    pub(super) fn silent_at(&self, overrun: Nanos) -> Option<Nanos> {
        let units = self.pool.units().iter();
        units
            .filter(|unit| !unit.is_answered() && !unit.is_fenced())
            .map(|unit| unit.since().plus(overrun))
            .min()
    }

    /// Checks what is said above of promises and fences; the text says which unit breaks it.
    pub(super) fn check(&self) -> Result<(), String> {
        for (unit, bench) in self.pool.units().iter().zip(&self.benches) {
            if unit.is_fenced() && (unit.owner().is_some() || unit.is_answered()) {
                return Err(format!("{} is fenced and in use", unit.id()));
            }
            if unit.is_lost() && !unit.is_fenced() {
                return Err(format!("{} is lost and not fenced", unit.id()));
            }
            if bench.promise.is_some() && (unit.is_answered() || unit.owner().is_none()) {
                return Err(format!("{} is promised to nobody", unit.id()));
            }
        }
        Ok(())
    }
}
