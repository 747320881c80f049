//! What is told to an arbiter.
//!
//! A receive stamp, or the end of a job or of work, comes from another thread: one that lies after `now` counts as `now`.

use crate::mailbox::Entry;
use crate::queue::Work;
use crate::scenario::ClassId;
use crate::{Epoch, JobId, Nanos, TenantId, UnitId};

/// Something that happened outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A tenant may submit from now on.
    TenantJoined {
        /// Who. Refused with [`super::Action::RefuseTenant`] if it is there already.
        tenant: TenantId,
        /// Its scenario class.
        class: ClassId,
    },
    /// From now on no more than so many jobs of a tenant are prepared or run at once, and never more than
    /// its class allows. Those beyond it wait in its queue, and whoever wants its units has them.
    Bounded {
        /// Who.
        tenant: TenantId,
        /// So many; none is taken for one.
        running: u32,
    },
    /// So much core time has gone to a tenant on cores that are not of the pool: it counts as had, so that who
    /// has much computed there gets as much less here while others want it.
    Charged {
        /// Who.
        tenant: TenantId,
        /// How much.
        core: Nanos,
    },
    /// A tenant is gone; its unfinished jobs are dropped, each with [`super::Action::Drop`].
    TenantLeft {
        /// Who.
        tenant: TenantId,
    },
    /// A job has been asked for. Answered at once by [`super::Action::Admit`] or [`super::Action::Refuse`].
    Submitted {
        /// The job.
        job: JobId,
        /// Whose.
        tenant: TenantId,
        /// What it is expected to cost.
        work: Work,
        /// When it should be finished; `None` lets the class's implied deadline order it.
        deadline: Option<Nanos>,
        /// When the demand reached the box (the kernel's receive stamp): where the time of a
        /// reallocation begins.
        received: Nanos,
    },
    /// A job is asked for that was admitted before: the box has been started again, or it was elsewhere, or it is begun
    /// anew. As [`Event::Submitted`], but it is not refused for its deadline, which was far enough away when it was
    /// admitted. What it costs counts for those that come after it.
    Resubmitted {
        /// The job.
        job: JobId,
        /// Whose.
        tenant: TenantId,
        /// What it is expected to cost.
        work: Work,
        /// When it should be finished.
        deadline: Option<Nanos>,
        /// When it reached the box first: it stands where it stood.
        received: Nanos,
    },
    /// A job that was to be prepared can run.
    Ready {
        /// The job.
        job: JobId,
    },
    /// A job has ended, well or badly, from whatever state. Frees its place.
    Finished {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// When its last quantum ended.
        at: Nanos,
    },
    /// A job is no longer wanted, from whatever state. Quanta of it that are under way end as
    /// they will; the node starts no new ones.
    Cancelled {
        /// The job.
        job: JobId,
    },
    /// A tenant announces that it will want so many units for so long, whatever jobs it has. Takes
    /// the place of what it announced before; none withdraws that. Answered at once by
    /// [`super::Action::Declare`] or [`super::Action::RefuseDemand`].
    Declared {
        /// Comes back with the answer.
        ticket: u64,
        /// Who.
        tenant: TenantId,
        /// How many cores.
        units: u32,
        /// For how long, from receipt.
        span: Nanos,
        /// When the announcement reached the box: where the time of a reallocation begins.
        received: Nanos,
    },
    /// So many bytes of a tenant's keys, with their tables, are on a device now; none, if they are gone. A tenant
    /// that leaves is taken to have none.
    Resident {
        /// Whose tables.
        tenant: TenantId,
        /// On which device.
        unit: UnitId,
        /// How many bytes.
        bytes: u64,
    },
    /// The answer to [`super::Action::Evict`], when all that has changed by it has been told.
    Evicted {
        /// On which device.
        unit: UnitId,
        /// Whether there was room made. If not, nothing has gone.
        made: bool,
    },
    /// It is this time of day, and date: the Unix time at `now`. Off-peak windows apply from the
    /// first of these on; another is needed only when the clock of the day is set.
    WallClock {
        /// Since 1970 in UTC.
        unix: Nanos,
    },
    /// The actions of the calls before this one are about to be carried out: `now` is the time
    /// at which the decision was made. Send it after `handle` returns and before the owner words
    /// are published; without it a decision is taken to cost no time.
    Decided,
    /// A worker has answered to a hand-over. [`crate::mailbox::ArbiterSide::poll`] makes these.
    Entered {
        /// Which unit.
        unit: UnitId,
        /// Its answer.
        entry: Entry,
    },
    /// A worker that had something to run finds nothing more.
    Idle {
        /// Which unit.
        unit: UnitId,
        /// In which epoch.
        epoch: Epoch,
        /// Since when.
        at: Nanos,
    },
    /// A worker that had found nothing runs again, in the same epoch.
    Working {
        /// Which unit.
        unit: UnitId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// What a unit computes with is gone, and its worker answers nothing until it is back: a device
    /// whose driver has given it up. The unit is fenced off at once, whoever owns it.
    Lost {
        /// Which unit.
        unit: UnitId,
    },
    /// Time has passed: see [`super::Arbiter::wake_at`].
    Tick,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a proof.
    Proved,
    /// With an error.
    Failed,
}
