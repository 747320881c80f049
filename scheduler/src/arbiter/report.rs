//! What an arbiter shows to whoever asks: counts, tenants, jobs, and when a job would be finished.

use crate::demand::First;
use crate::queue::JobState;
use crate::scenario::{ClassId, Share};
use crate::{Nanos, TenantId};

/// What the arbiter has counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Jobs that got a place.
    pub admitted: u64,
    /// Jobs that got none.
    pub refused: u64,
    /// Jobs that ended with a proof.
    pub proved: u64,
    /// Jobs that ended with an error.
    pub failed: u64,
    /// Jobs that were cancelled, or whose tenant left.
    pub cancelled: u64,
    /// Jobs that were let go, to be proved elsewhere.
    pub lent: u64,
    /// Demands declared, renewed and withdrawn.
    pub declared: u64,
    /// Peaks of measured demand.
    pub peaks: u64,
    /// Reallocations completed.
    pub reallocated: u64,
    /// Of those, to an owner that had nothing to run at the first look.
    pub found_nothing: u64,
    /// Reallocations that took longer than the bound, and promises that were broken by an
    /// overrun and could not be kept on another unit.
    pub missed: u64,
    /// Hand-overs that were overtaken by another before the worker saw them.
    pub superseded: u64,
    /// Units fenced off because their workers were silent.
    pub overruns: u64,
    /// Units that said that they were lost.
    pub lost: u64,
    /// Orders to make room on a device.
    pub evictions: u64,
    /// Of those, answered ones by which nothing went, for tables are whole.
    pub unmade: u64,
    /// Jobs that were looked at to say whether deadlines can be met and when others would be finished: what that has cost.
    pub foreseen: u64,
    /// Events that named a job, tenant, unit or epoch that is not (or no more) there. Some are
    /// in order: a job may be cancelled while its last quantum runs.
    pub stray: u64,
}

/// An answer to "when would it be finished?".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// When, at the earliest, if nobody else's demand changes.
    pub finish: Nanos,
    /// How long it would run, from its first quantum to its last.
    pub run: Nanos,
    /// How many of the tenant's jobs stand before it.
    pub ahead: u32,
}

/// A tenant as a report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TenantView {
    /// Who.
    pub tenant: TenantId,
    /// Its class.
    pub class: ClassId,
    /// Jobs that wait to be prepared.
    pub queued: u32,
    /// Jobs being prepared.
    pub preparing: u32,
    /// Jobs that can run or are running.
    pub ready: u32,
    /// Cores that it wants now.
    pub want: u32,
    /// Cores that it holds now.
    pub held: u32,
    /// Devices that it wants now.
    pub devices_want: u32,
    /// Devices that it holds now.
    pub devices_held: u32,
    /// Bytes of its tables on all devices.
    pub device_memory: u64,
    /// Bytes of host memory that its prepared jobs hold.
    pub host_memory: u64,
    /// Bytes of host memory that it may hold by the last decision.
    pub host_memory_max: u64,
    /// Cores that it has declared that it will want.
    pub declared: u32,
    /// Whether its measured demand is at a peak.
    pub at_peak: bool,
    /// Whether it counts as wanting only what it keeps busy, and the rest is lent.
    pub lends: bool,
    /// What its class is guaranteed, as a part of the box.
    pub guarantee: Share,
    /// The first of its jobs that came with a deadline.
    pub first: Option<First>,
}

/// A job as a report shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobView {
    /// Whose.
    pub tenant: TenantId,
    /// How far it has come.
    pub state: JobState,
    /// How many of its tenant's jobs stand before it.
    pub ahead: u32,
}
