//! What an arbiter answers: what is to be done, why it refuses, and the record of each hand-over.

use thiserror::Error;

use crate::mailbox::{Found, Ownership};
use crate::queue::Refusal;
use crate::{Epoch, JobId, Nanos, TenantId, UnitId};

/// Something to be done outside, in the order given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The job has a place.
    Admit {
        /// The job.
        job: JobId,
    },
    /// The job has no place; nothing is kept of it.
    Refuse {
        /// The job.
        job: JobId,
        /// Why.
        reason: Refusal,
        /// When it is worth trying again, from now; `None` when trying again cannot help.
        retry_after: Option<Nanos>,
    },
    /// The tenant cannot join.
    RefuseTenant {
        /// Who.
        tenant: TenantId,
        /// Why.
        reason: TenantRefusal,
    },
    /// A demand is declared, or withdrawn.
    Declare {
        /// Of the event.
        ticket: u64,
        /// Whose demand.
        tenant: TenantId,
        /// How many units; none if it is withdrawn.
        units: u32,
        /// For how long, from receipt; for no time if it is withdrawn.
        span: Nanos,
    },
    /// A demand cannot be declared; what was declared before stays.
    RefuseDemand {
        /// Of the event.
        ticket: u64,
        /// Whose demand.
        tenant: TenantId,
        /// Why.
        reason: DemandRefusal,
    },
    /// A job of a tenant that left is gone.
    Drop {
        /// The job.
        job: JobId,
    },
    /// Bring the job's witness into memory and answer with [`super::Event::Ready`], or with
    /// [`super::Event::Finished`] if that fails.
    Prepare {
        /// The job.
        job: JobId,
    },
    /// The order of a tenant's runnable jobs has changed: read [`super::Arbiter::run_order`]. A worker
    /// takes its next quantum from the first job in it that has one.
    RunOrder {
        /// Whose.
        tenant: TenantId,
    },
    /// Publish a new owner in the unit's mailbox and wake its worker.
    Own {
        /// Which unit.
        unit: UnitId,
        /// What to publish.
        ownership: Ownership,
    },
    /// Make room for the tables of a device's owner: read [`super::Arbiter::victims`] for whose tables may go there, and
    /// how much of them. Enough is to go for what the owner lacks, or nothing: see [`crate::eviction`]. Answer with
    /// [`super::Event::Evicted`], after what has gone and come was told; until then nothing more is asked on that device.
    Evict {
        /// On which device.
        unit: UnitId,
        /// For whom.
        owner: TenantId,
        /// So many bytes it lacks, as far as the arbiter knows.
        bytes: u64,
    },
    /// A reallocation is complete: for the record, nothing needs to be done.
    Reallocated(Reallocation),
    /// The unit's worker has not answered in time. The unit is fenced off: it counts for nobody
    /// until it answers. An [`Action::Own`] without an owner goes with this.
    Overrun {
        /// Which unit.
        unit: UnitId,
        /// For how long it has not answered.
        silent: Nanos,
    },
    /// The worker of a fenced unit has answered; the unit is back in the pool.
    Returned {
        /// Which unit.
        unit: UnitId,
    },
}

/// Why a tenant cannot join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum TenantRefusal {
    /// The box has as many tenants as its policy allows.
    #[error("the box has {max} tenants, which is the most it may have")]
    BoxFull {
        /// That many.
        max: u32,
    },
    /// The tenant has joined before.
    #[error("the tenant is here already")]
    Joined,
    /// The policy has no such class.
    #[error("the policy has no such class")]
    UnknownClass,
    /// The id is the one that means "nobody".
    #[error("the id is reserved")]
    ReservedId,
}

/// Why a demand cannot be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum DemandRefusal {
    /// The tenant is unknown.
    #[error("the tenant is unknown")]
    UnknownTenant,
    /// It is more than the tenant may hold.
    #[error("expected 0 to {ceiling} units, which is the tenant's ceiling, got {got}")]
    AboveCeiling {
        /// So many it may hold.
        ceiling: u32,
        /// So many were declared.
        got: u32,
    },
    /// It is for no time, or for longer than the class allows at a time.
    #[error("expected a span of {DECLARED_SPAN_MIN} to {max}, got {got}")]
    Span {
        /// The longest.
        max: Nanos,
        /// What was declared.
        got: Nanos,
    },
}

/// Why a unit changed hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The new owner wants more than before.
    Demand,
    /// The new owner has declared that it will want more.
    Declared,
    /// The new owner's measured demand has come to a peak.
    Measured,
    /// The unit came free: its owner finished, left, or found nothing to run.
    Release,
    /// The new owner's turn has come among tenants that want more than there is.
    Turn,
    /// The new owner had waited as long as its class may.
    Ageing,
    /// The new owner lost what it was promised on a unit that overran.
    Overrun,
}

/// One hand-over, complete: the five stamps and what they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reallocation {
    /// Which unit.
    pub unit: UnitId,
    /// The hand-over.
    pub epoch: Epoch,
    /// Whose work the worker ran last; `None` if it ran nobody's.
    pub from: Option<TenantId>,
    /// Whose work it runs now.
    pub to: TenantId,
    /// Why.
    pub cause: Cause,
    /// The demand's receive stamp, or the moment at which whatever else caused this arose.
    pub t0: Nanos,
    /// The arbiter took the event in.
    pub detected: Nanos,
    /// The arbiter had decided.
    pub decided: Nanos,
    /// The worker's last quantum for the owner before had ended and it saw the new epoch.
    pub drained: Nanos,
    /// Just before the new owner's first instruction, or at the first look at its empty queue.
    pub first: Nanos,
    /// Whether there was anything to run at that moment.
    pub found: Found,
    /// Whether `first - t0` is over the policy's bound.
    pub missed: bool,
}

impl Reallocation {
    /// From the demand to the first instruction.
    pub fn total(&self) -> Nanos {
        self.first.since(self.t0)
    }
}

/// The shortest span for which a demand can be declared.
pub const DECLARED_SPAN_MIN: Nanos = Nanos::from_millis(1);
