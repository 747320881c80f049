//! The units of one box, and who owns each; and the bytes that it divides.
//!
//! A unit has one worker, one mailbox and one owner. There are two kinds: a core, whose worker is a thread
//! pinned to it, and a device (a GPU), whose worker is the thread on the host that feeds it. Both
//! change hands in the same way, at the end of a quantum. Each lies on a NUMA node, known or not. Cores come
//! first in the order of ids and devices after them, so the units of a kind are a range. Bytes are
//! of two kinds as well: those of the devices' memory, and what the host has for witnesses.
//!
//! A unit has exactly one owner field, so it cannot be owned twice; units are never made or
//! removed after the start, so none can be lost. What can go wrong is the count of what each
//! tenant holds, and [`crate::Arbiter::check`] counts anew. Every change of owner is a new epoch,
//! and until the worker has answered to the newest epoch the unit may still be running a quantum
//! for the owner before: `running` is the owner that the worker last answered to, `owner` is the
//! one that it has been told. A lease here is not an object that is dropped but a word that is
//! overwritten: the thread that holds a core cannot be made to give it back, only asked.

use std::fmt;
use std::ops::Range;

use thiserror::Error;

use crate::mailbox::Ownership;
use crate::{Epoch, Nanos, TenantId, UnitId};

/// Most units of one pool.
pub const UNITS_MAX: usize = 1_024;
/// Most devices of one pool: a set of them is a word.
pub const DEVICES_MAX: usize = 64;
/// Most NUMA nodes: a set of them is a word.
pub const NODES_MAX: u8 = 64;

/// What a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A processor core.
    Core,
    /// A GPU, fed by a thread of its own on the host.
    Device,
}

/// A core, as the box's inventory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Core {
    /// The operating system's number.
    pub number: u32,
    /// Its NUMA node, below [`NODES_MAX`]; `None` if it is not known.
    pub node: Option<u8>,
}

/// A device, as the box's inventory has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The driver's number.
    pub number: u32,
    /// The NUMA node that it is attached to, below [`NODES_MAX`]; `None` if it is not known.
    pub node: Option<u8>,
    /// Bytes of its memory that may be divided; `u64::MAX` where nobody counts them.
    pub memory: u64,
}

/// The units of one box, and its bytes.
#[derive(Debug, Clone)]
pub struct Pool {
    units: Vec<Unit>,
    cores: usize,
    host_memory: u64,
}

/// One core or one device.
#[derive(Debug, Clone)]
pub struct Unit {
    id: UnitId,
    kind: Kind,
    number: u32,
    node: Option<u8>,
    memory: u64,
    holder: Option<Holder>,
    epoch: Epoch,
    since: Nanos,
    running: Option<TenantId>,
    answered: bool,
    fenced: bool,
    lost: bool,
}

/// An owner with the place where the arbiter keeps what it knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) tenant: TenantId,
    pub(crate) slot: usize,
}

/// Why an inventory makes no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PoolError {
    /// No core, or too many.
    #[error("expected 1 to {UNITS_MAX} cores, got {got}")]
    Size {
        /// How many.
        got: usize,
    },
    /// More devices than fit beside the cores, or into a set.
    #[error("expected at most {max} devices, got {got}")]
    Devices {
        /// So many would do.
        max: usize,
        /// How many.
        got: usize,
    },
    /// A core or device is there twice.
    #[error("{kind} {number} is listed twice")]
    Twice {
        /// Of which kind.
        kind: Kind,
        /// Its number.
        number: u32,
    },
    /// A NUMA node beyond the last.
    #[error("{kind} {number}: expected a NUMA node below {NODES_MAX}, got {got}")]
    Node {
        /// Of which kind.
        kind: Kind,
        /// Its number.
        number: u32,
        /// The node.
        got: u8,
    },
}

impl Kind {
    /// All kinds, in the order of their units' ids.
    pub const ALL: [Kind; KINDS] = [Kind::Core, Kind::Device];

    /// Its place in [`Kind::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How many kinds of units there are.
pub const KINDS: usize = 2;

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Core => "core",
            Kind::Device => "device",
        })
    }
}

impl Pool {
    /// A pool of these cores (the operating system's numbers) on one NUMA node, without a device and
    /// without a bound on bytes. The position of a core in the list is its [`UnitId`].
    pub fn new(cores: &[u32]) -> Result<Pool, PoolError> {
        let plain = |&number: &u32| Core {
            number,
            node: Some(0),
        };
        let cores: Vec<Core> = cores.iter().map(plain).collect();
        Pool::of(&cores, &[], u64::MAX)
    }

    /// A pool of these cores and devices, all without an owner, all answered, and of so many bytes
    /// of host memory. A core's [`UnitId`] is its position in its list; devices are counted on from there.
    pub fn of(cores: &[Core], devices: &[Device], host_memory: u64) -> Result<Pool, PoolError> {
        if cores.is_empty() || cores.len() > UNITS_MAX {
            return Err(PoolError::Size { got: cores.len() });
        }
        let max = DEVICES_MAX.min(UNITS_MAX - cores.len());
        if devices.len() > max {
            let got = devices.len();
            return Err(PoolError::Devices { max, got });
        }
        let cores_listed = cores.iter().map(|it| (Kind::Core, it.number, it.node, 0));
        let devices_listed = devices
            .iter()
            .map(|it| (Kind::Device, it.number, it.node, it.memory));
        let mut units: Vec<Unit> = Vec::with_capacity(cores.len() + devices.len());
        for (id, (kind, number, node, memory)) in
            (0..).map(UnitId).zip(cores_listed.chain(devices_listed))
        {
            let same = |unit: &Unit| unit.kind == kind && unit.number == number;
            if units.iter().any(same) {
                return Err(PoolError::Twice { kind, number });
            }
            if let Some(got) = node.filter(|&node| node >= NODES_MAX) {
                return Err(PoolError::Node { kind, number, got });
            }
            units.push(Unit {
                id,
                kind,
                number,
                node,
                memory,
                holder: None,
                epoch: Epoch(0),
                since: Nanos::ZERO,
                running: None,
                answered: true,
                fenced: false,
                lost: false,
            });
        }
        Ok(Pool {
            units,
            cores: cores.len(),
            host_memory,
        })
    }

    /// All units, in the order of their ids.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Where the units of a kind are among all.
    pub fn range(&self, kind: Kind) -> Range<usize> {
        match kind {
            Kind::Core => 0..self.cores,
            Kind::Device => self.cores..self.units.len(),
        }
    }

    /// How many units of a kind there are.
    pub fn count(&self, kind: Kind) -> u32 {
        self.range(kind).len() as u32
    }

    /// How many units of a kind may be given to somebody: all but the fenced ones.
    pub fn open(&self, kind: Kind) -> u32 {
        let units = self.units[self.range(kind)].iter();
        units.map(|unit| u32::from(!unit.fenced)).sum()
    }

    /// Bytes of host memory that may be divided.
    pub fn host_memory(&self) -> u64 {
        self.host_memory
    }

    /// Bytes that every device has at least; none without devices. One that is lost counts, for it may come back.
    pub fn device_memory_min(&self) -> u64 {
        let devices = self.units[self.range(Kind::Device)].iter();
        devices.map(|unit| unit.memory).min().unwrap_or(0)
    }

    /// Bytes of all devices that may be divided; `None` where nobody counts those of any. What one has that nobody
    /// counts is no part of it, and neither is what a lost one had.
    pub fn device_memory(&self) -> Option<u64> {
        let devices = self.units[self.range(Kind::Device)].iter();
        let mut counted = devices.filter(|unit| unit.is_counted()).peekable();
        counted.peek()?;
        let there = counted.filter(|unit| !unit.lost);
        let sum = there.fold(0, |sum: u64, unit| sum.saturating_add(unit.memory));
        // All of it together is still not what nobody counts.
        Some(sum.min(u64::MAX - 1))
    }

    /// How many devices have a part in [`Pool::device_memory`].
    pub(crate) fn devices_counted(&self) -> u32 {
        let devices = self.units[self.range(Kind::Device)].iter();
        let there = devices.filter(|unit| unit.is_counted() && !unit.lost);
        there.map(|_| 1).sum()
    }

    /// A unit; `None` for an id that this pool does not have.
    pub fn unit(&self, id: UnitId) -> Option<&Unit> {
        self.units.get(usize::from(id.0))
    }

    /// Gives a unit a new owner in a new epoch.
    ///
    /// # Panics
    /// If the unit is fenced and the owner is somebody.
    pub(crate) fn assign(&mut self, index: usize, holder: Option<Holder>, now: Nanos) -> Ownership {
        let unit = &mut self.units[index];
        assert!(
            holder.is_none() || !unit.fenced,
            "{} is fenced off",
            unit.id
        );
        unit.holder = holder;
        unit.epoch = unit.epoch.next();
        unit.since = now;
        unit.answered = false;
        Ownership {
            epoch: unit.epoch,
            owner: unit.owner(),
        }
    }

    /// Takes a unit away from everybody until its worker answers.
    pub(crate) fn fence(&mut self, index: usize, now: Nanos) -> Ownership {
        let ownership = self.assign(index, None, now);
        self.units[index].fenced = true;
        ownership
    }

    /// What a fenced unit computes with is gone, with all that was there, until its worker answers.
    pub(crate) fn lose(&mut self, index: usize) {
        self.units[index].lost = true;
    }

    /// Takes the worker's answer to an epoch. `None` if there is no such unit, or that epoch is
    /// not its newest, or answered already; otherwise whose work it ran before, and whether this
    /// ends a fence.
    pub(crate) fn answer(&mut self, index: usize, epoch: Epoch) -> Option<Answer> {
        let unit = self.units.get_mut(index)?;
        if unit.answered || unit.epoch != epoch {
            return None;
        }
        let answer = Answer {
            from: unit.running,
            unfenced: unit.fenced,
        };
        unit.answered = true;
        unit.fenced = false;
        unit.lost = false;
        unit.running = unit.owner();
        Some(answer)
    }
}

/// What a worker's answer changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) from: Option<TenantId>,
    pub(crate) unfenced: bool,
}

impl Unit {
    /// Its id.
    pub fn id(&self) -> UnitId {
        self.id
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of the core or device in its inventory.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The NUMA node that it lies on, if that is known.
    pub fn node(&self) -> Option<u8> {
        self.node
    }

    /// Bytes of its own memory that may be divided, `u64::MAX` where nobody counts them; a core has none.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    /// Who owns it by the newest decision.
    pub fn owner(&self) -> Option<TenantId> {
        self.holder.map(|holder| holder.tenant)
    }

    /// The newest hand-over.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When the newest hand-over was decided.
    pub fn since(&self) -> Nanos {
        self.since
    }

    /// Whose work the worker runs as far as it has answered. Differs from the owner while a
    /// hand-over is under way.
    pub fn running(&self) -> Option<TenantId> {
        self.running
    }

    /// Whether the worker has answered to the newest hand-over.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether it is fenced off because its worker has not answered in time.
    pub fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Whether it is fenced off because it has said that it is lost, and its memory with it.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether somebody counts its memory.
    pub(crate) fn is_counted(&self) -> bool {
        self.memory < u64::MAX
    }

    pub(crate) fn slot(&self) -> Option<usize> {
        self.holder.map(|holder| holder.slot)
    }
}
