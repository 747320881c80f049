//! What all plans of this device share: which stage is open, which lanes run, which have ended.
//!
//! A [`Kernel`] knows the work; [`Staged`] makes it a [`Plan`] that holds its caller to the
//! contract. A lane's state stands behind a mutex that is tried and never waited for: it is the
//! lane's claim and its memory at once.
//!
//! What one stage writes, the next one reads, perhaps on another thread, through words that are
//! loaded and stored with no ordering of their own (`vector.rs`). The order comes from here: the
//! end of each lane is a Release on `left`, which `open` acquires; the opening is a Release on
//! `opened`, which `run` acquires.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::device::{DeviceError, Plan, Progress};

/// Work cut into stages and lanes, which [`Staged`] runs.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// What a lane keeps between its quanta, made with the plan and kept over all stages.
    type Lane: Send + 'static;

    fn stages(&self) -> usize;

    fn name(&self, stage: usize) -> &'static str;

    /// Bytes that it keeps for all stages, beside those of its lanes.
    fn bytes(&self) -> usize {
        0
    }

    /// Bytes that a lane's state keeps beside itself.
    fn lane_bytes(state: &Self::Lane) -> usize {
        let _ = state;
        0
    }

    /// Prepares a stage and says how many lanes it has, from one to as many as there are states.
    fn open(&self, stage: usize) -> usize;

    /// Readies a lane's state for a stage; called before its first quantum.
    fn begin(&self, stage: usize, lane: usize, state: &mut Self::Lane);

    /// One quantum. The error says why the kernel's own memory could not be used, which only
    /// happens after a panic.
    fn run(
        &self,
        stage: usize,
        lane: usize,
        state: &mut Self::Lane,
    ) -> Result<Progress, &'static str>;

    fn point(&self) -> Option<Vec<u8>> {
        None
    }

    /// Whether it is a sum that can be narrowed.
    fn is_sum(&self) -> bool {
        false
    }

    /// Leaves of a sum only these points; called before it is opened. Whether that is the first time.
    fn narrow(&self, points: Range<usize>) -> bool {
        let _ = points;
        false
    }
}

/// A kernel as a plan.
pub(crate) struct Staged<K: Kernel> {
    kernel: K,
    /// Stages opened so far.
    opened: AtomicUsize,
    /// Lanes of the open stage.
    lanes: AtomicUsize,
    /// Those of them that have not ended.
    left: AtomicUsize,
    opening: Mutex<()>,
    slots: Box<[Mutex<Slot<K::Lane>>]>,
    bytes: usize,
}

struct Slot<L> {
    /// Stages begun in this slot, counting those without this lane.
    begun: usize,
    ended: bool,
    state: L,
}

impl<K: Kernel> Staged<K> {
    /// A plan with a state for each of the most lanes that any stage has.
    pub(crate) fn new(kernel: K, states: impl IntoIterator<Item = K::Lane>) -> Arc<Self> {
        let mut bytes = kernel.bytes();
        let slots = states
            .into_iter()
            .map(|state| {
                bytes += size_of::<Mutex<Slot<K::Lane>>>() + K::lane_bytes(&state);
                Mutex::new(Slot {
                    begun: 0,
                    ended: false,
                    state,
                })
            })
            .collect();
        Arc::new(Self {
            kernel,
            opened: AtomicUsize::new(0),
            lanes: AtomicUsize::new(0),
            left: AtomicUsize::new(0),
            opening: Mutex::new(()),
            slots,
            bytes,
        })
    }
}

/// Bytes of a vector's room.
pub(crate) fn room<T>(of: &Vec<T>) -> usize {
    of.capacity() * size_of::<T>()
}

impl<K: Kernel> Plan for Staged<K> {
    fn stages(&self) -> usize {
        self.kernel.stages()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.kernel.name(stage)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        let refuse = |why| DeviceError::Lane {
            stage,
            lane: 0,
            why,
        };
        let Ok(_opening) = self.opening.try_lock() else {
            return Err(refuse("another thread is opening a stage"));
        };
        if stage >= self.kernel.stages() {
            return Err(refuse("there is no such stage"));
        }
        // Pairs with the Release in `run`: all that the lanes wrote is seen here.
        if self.left.load(Ordering::Acquire) != 0 {
            return Err(refuse("the stage before has lanes that have not ended"));
        }
        if self.opened.load(Ordering::Relaxed) != stage {
            return Err(refuse("stages are opened once each, in order"));
        }
        let lanes = self.kernel.open(stage);
        assert!(lanes >= 1);
        assert!(lanes <= self.slots.len());
        self.lanes.store(lanes, Ordering::Relaxed);
        self.left.store(lanes, Ordering::Relaxed);
        // Pairs with the Acquire in `run`.
        self.opened.store(stage + 1, Ordering::Release);
        Ok(lanes)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let refuse = |why| DeviceError::Lane { stage, lane, why };
        // Pairs with the Release in `open`.
        let opened = self.opened.load(Ordering::Acquire);
        if opened == 0 || opened - 1 != stage {
            return Err(refuse("the stage is not open"));
        }
        if lane >= self.lanes.load(Ordering::Relaxed) {
            return Err(refuse("there is no such lane"));
        }
        let Ok(mut slot) = self.slots[lane].try_lock() else {
            return Err(refuse("the lane is running on another thread"));
        };
        if slot.begun == opened && slot.ended {
            return Err(refuse("the lane has ended"));
        }
        if slot.begun != opened {
            slot.begun = opened;
            slot.ended = false;
            self.kernel.begin(stage, lane, &mut slot.state);
        }
        let progress = self
            .kernel
            .run(stage, lane, &mut slot.state)
            .map_err(refuse)?;
        if progress == Progress::Done {
            slot.ended = true;
            // Pairs with the Acquire in `open`.
            self.left.fetch_sub(1, Ordering::Release);
        }
        Ok(progress)
    }

    fn point(&self) -> Option<Vec<u8>> {
        let all = self.opened.load(Ordering::Acquire) == self.kernel.stages();
        // Pairs with the Release in `run`, as in `open`.
        if all && self.left.load(Ordering::Acquire) == 0 {
            self.kernel.point()
        } else {
            None
        }
    }

    fn grain(&self) -> Option<usize> {
        self.kernel.is_sum().then_some(1)
    }

    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        let is_new = self.opened.load(Ordering::Acquire) == 0;
        if is_new && self.kernel.narrow(points) {
            return Ok(());
        }
        let why = "only a sum that has not begun is narrowed, and once";
        Err(DeviceError::Lane {
            stage: 0,
            lane: 0,
            why,
        })
    }
}

/// The part of `0..total` that belongs to one of `lanes` lanes: as equal as possible.
pub(crate) fn share(total: usize, lanes: usize, lane: usize) -> Range<usize> {
    let bound = |i: usize| (total as u128 * i as u128 / lanes as u128) as usize;
    bound(lane)..bound(lane + 1)
}
