//! The cores of one box as units, and who owns each.
//!
//! A unit has exactly one owner field, so it cannot be owned twice; units are never made or
//! removed after the start, so none can be lost. What can go wrong is the count of what each
//! tenant holds, and [`crate::Arbiter::check`] counts anew. Every change of owner is a new epoch,
//! and until the worker has answered to the newest epoch the unit may still be running a quantum
//! for the owner before: `running` is the owner that the worker last answered to, `owner` is the
//! one that it has been told. A lease here is not an object that is dropped but a word that is
//! overwritten: the thread that holds a core cannot be made to give it back, only asked.

use thiserror::Error;

use crate::mailbox::Ownership;
use crate::{Epoch, Nanos, TenantId, UnitId};

/// Most units of one pool.
pub const UNITS_MAX: usize = 1_024;

/// The cores of one box.
#[derive(Debug, Clone)]
pub struct Pool {
    units: Vec<Unit>,
}

/// One core.
#[derive(Debug, Clone)]
pub struct Unit {
    id: UnitId,
    core: u32,
    holder: Option<Holder>,
    epoch: Epoch,
    since: Nanos,
    running: Option<TenantId>,
    answered: bool,
    fenced: bool,
}

/// An owner with the place where the arbiter keeps what it knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) tenant: TenantId,
    pub(crate) slot: usize,
}

/// Why a list of cores makes no pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PoolError {
    /// No core, or too many.
    #[error("expected 1 to {UNITS_MAX} cores, got {got}")]
    Size {
        /// How many.
        got: usize,
    },
    /// A core is there twice.
    #[error("core {core} is listed twice")]
    Twice {
        /// The core.
        core: u32,
    },
}

impl Pool {
    /// A pool of these cores (the operating system's numbers), all without an owner, all
    /// answered. The position of a core in the list is its [`UnitId`].
    pub fn new(cores: &[u32]) -> Result<Pool, PoolError> {
        if cores.is_empty() || cores.len() > UNITS_MAX {
            return Err(PoolError::Size { got: cores.len() });
        }
        let mut units = Vec::with_capacity(cores.len());
        for (id, &core) in (0..).map(UnitId).zip(cores) {
            if cores[..units.len()].contains(&core) {
                return Err(PoolError::Twice { core });
            }
            units.push(Unit {
                id,
                core,
                holder: None,
                epoch: Epoch(0),
                since: Nanos::ZERO,
                running: None,
                answered: true,
                fenced: false,
            });
        }
        Ok(Pool { units })
    }

    /// All units, in the order of their ids.
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// How many units may be given to somebody: all but the fenced ones.
    pub fn open(&self) -> u32 {
        self.units.iter().map(|unit| u32::from(!unit.fenced)).sum()
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

    /// The operating system's number of the core.
    pub fn core(&self) -> u32 {
        self.core
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

    pub(crate) fn slot(&self) -> Option<usize> {
        self.holder.map(|holder| holder.slot)
    }
}
