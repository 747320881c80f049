//! Whether a job that comes with a deadline can be finished by then, and makes none late that came before it.
//!
//! A tenant can count on more than one pace: what it would have if nobody else's demand changed, its part of its class's
//! guarantee, and the turns that it gets by ageing. At any one of them it has to hold.
//!
//! Looking changes nothing in the line: [`Queue`] plays it through in scratch memory of its own.

use super::{Estimate, Scene};
use crate::Nanos;
use crate::matching::Rate;
use crate::pool::{Kind, Pool};
use crate::queue::{Queue, Refusal, Work};

/// A job that a tenant could be given now.
pub(super) struct Prospect<'a> {
    pub(super) queue: &'a mut Queue,
    pub(super) slot: usize,
    pub(super) work: Work,
    pub(super) now: Nanos,
}

/// How a tenant is served.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// All the time.
    Rate(Rate),
    /// On one core for a slice in each such span.
    Turns { slice: Nanos, every: Nanos },
}

impl Prospect<'_> {
    /// Whether the job can be finished by then at one of these paces.
    pub(super) fn can_meet(
        &mut self,
        deadline: Nanos,
        paces: impl IntoIterator<Item = Pace>,
    ) -> Result<(), Refusal> {
        let mut best: Option<(Nanos, Pace)> = None;
        for pace in paces {
            let finish = self.finish(deadline, pace);
            if finish <= deadline && self.harmed(deadline, pace).is_none() {
                return Ok(());
            }
            if best.is_none_or(|(first, _)| finish < first) {
                best = Some((finish, pace));
            }
        }
        let earliest = best.map_or(Nanos::MAX, |(finish, pace)| {
            self.earliest(deadline, finish, pace)
        });
        Err(Refusal::DeadlineUnmeetable { earliest })
    }

    /// When it would be finished at that rate, if it were due then.
    pub(super) fn estimate(&mut self, due: Nanos, rate: Rate) -> Estimate {
        let Work {
            core, parallelism, ..
        } = self.work;
        Estimate {
            finish: self.finish(due, Pace::Rate(rate)),
            run: rate.min(Rate::whole(parallelism)).time_for(core),
            ahead: self.queue.ahead(self.slot, due),
        }
    }

    /// A deadline that a job can be given at that pace which is finished then if it is due at its own one: none earlier than
    /// that, and none that makes a job late which has been admitted with one. It is looked for behind the last one that
    /// would be late, and then behind all, which in a line that is long is looked for at once: there may be an earlier one.
    fn earliest(&mut self, deadline: Nanos, finish: Nanos, pace: Pace) -> Nanos {
        let Some(harmed) = self.harmed(deadline, pace) else {
            return finish;
        };
        if self.queue.length(self.slot) <= SEARCHED_MAX {
            let finish = self.finish(harmed, pace);
            if self.harmed(harmed, pace).is_none() {
                return finish.max(harmed);
            }
        }
        let due = self.queue.last_deadline(self.slot).unwrap_or(harmed);
        self.finish(due, pace).max(due)
    }

    /// When it would be finished at that pace, if it were due then.
    fn finish(&mut self, due: Nanos, pace: Pace) -> Nanos {
        let took = self.queue.foresee(self.slot, self.work, due, pace.rate());
        self.now.plus(pace.time(took))
    }

    /// The last of the deadlines of jobs that it would make late at that pace, if it were due then.
    fn harmed(&mut self, due: Nanos, pace: Pace) -> Option<Nanos> {
        let now = self.now;
        let on_time = |took, due| now.plus(pace.time(took)) <= due;
        self.queue
            .harmed(self.slot, self.work, due, pace.rate(), on_time)
    }
}

impl Pace {
    /// At which paces a tenant is served whatever others want: by its part of its class's guarantee, and by the turns
    /// that it gets by ageing. A decision may give less for the moment, to tenants that have aged.
    pub(super) fn promised(slot: usize, scene: Scene<'_>) -> Option<[Pace; 2]> {
        let tenant = scene.tenants.get(slot)?;
        let class = scene.policy.class(tenant.class)?;
        let mut sharers = scene.tenants.sharers(Kind::Core)[tenant.class.index()];
        // It is about to want something.
        sharers += u64::from(tenant.parts[Kind::Core.index()].want == 0);
        let open = scene.floor.pool().open(Kind::Core);
        let guarantee = Rate(class.guarantee.of(open).0 / sharers);
        let slice = scene.policy.limits().slice;
        let every = class.ageing_max.plus(slice);
        Some([Pace::Rate(guarantee), Pace::Turns { slice, every }])
    }

    /// The rate while it is served.
    fn rate(self) -> Rate {
        match self {
            Pace::Rate(rate) => rate,
            Pace::Turns { .. } => Rate::ONE,
        }
    }

    /// How long it takes until it has been served for so long.
    fn time(self, served: Nanos) -> Nanos {
        match self {
            Pace::Rate(_) => served,
            Pace::Turns { slice, every } => {
                Nanos(served.0.div_ceil(slice.0).saturating_mul(every.0))
            }
        }
    }
}

/// Whether the box could ever hold what a job needs of the host's memory.
pub(super) fn has_memory(pool: &Pool, work: Work) -> Result<(), Refusal> {
    let (max, got) = (pool.host_memory(), work.host_memory);
    if got > max {
        return Err(Refusal::HostMemory { max, got });
    }
    Ok(())
}

/// Among so many jobs a deadline that makes none late is looked for before the last of all.
const SEARCHED_MAX: usize = 512;
