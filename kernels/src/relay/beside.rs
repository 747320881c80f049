//! Shares of one sum that members do beside each other.
//!
//! The relay's plan of a sum has a part for each member beside the host ([`Plan::beside`]). When the first quantum of any of
//! them runs it is decided whether the sum is shared (`share.rs`) and who has which points; parts of members that
//! have none end at once. A member's plan for the whole sum is narrowed to its share, in the memory that it has set aside.
//! The host's share is done by the lanes of the relay's own plan, each other one by the single lane of its part: so no member
//! waits for another between stages, and each part is left and taken up at its own quanta. What a share lacks on its member is
//! brought there in the first stage, which is for the host's threads: the member's own has its launches to make.
//!
//! **Loss.** What a lost member was to sum, or one that found no room in the midst of it, is summed by another: planned there
//! anew, which is the one time that memory is taken while work runs. If there is none, the sum ends as lost and the proof is
//! made again on the host.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::{Failed, HOST, RelayPlan, Run, refusal};
use crate::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use crate::device::{CurveId, DeviceError, Group, Plan, Progress};
use crate::forfeit::forfeit;

/// A share of a sum, or the place of one.
pub(super) struct Share {
    /// Whose it is, unless that one is lost.
    member: usize,
    /// Which points, if any; set when it is decided.
    pub(super) points: OnceLock<Range<usize>>,
    run: Mutex<Option<Run>>,
    /// Whether its member was lost before it had ended, or had no room for it.
    is_moved: AtomicBool,
    /// For whom its lane is to be run.
    place: AtomicUsize,
    /// What runs: a member's number times [`STAGES_MAX`], and the stage of its plan from 1 on.
    kernel: AtomicUsize,
    ended: AtomicBool,
    pub(super) sum: OnceLock<Vec<u8>>,
}

impl Share {
    pub(super) fn of(member: usize) -> Share {
        Share {
            member,
            points: OnceLock::new(),
            run: Mutex::default(),
            is_moved: AtomicBool::new(false),
            place: AtomicUsize::new(member),
            kernel: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            sum: OnceLock::new(),
        }
    }

    pub(super) fn member(&self) -> usize {
        self.member
    }

    /// Whether it had points, and nothing of them is left to do: nobody reads its member's plan for it any more.
    pub(super) fn has_ended(&self) -> bool {
        // Pairs with the Release in `quantum`.
        self.points.get().is_some() && self.ended.load(Ordering::Acquire)
    }

    /// The lane's next quantum: in the first stage until all that the share reads is on its member. `whole` is the sum that it is of.
    fn quantum(&self, whole: &RelayPlan, stage: usize) -> Result<Progress, DeviceError> {
        let Ok(mut guard) = self.run.try_lock() else {
            let why = "the lane is running on another thread";
            return Err(refusal(stage, 0, why));
        };
        if self.ended.load(Ordering::Acquire) {
            return Err(refusal(stage, 0, "the lane has ended"));
        }
        let Some(points) = self.points.get() else {
            self.ended.store(stage > 0, Ordering::Release);
            return Ok(Progress::Done);
        };
        let run = match &mut *guard {
            Some(run) => run,
            none => none.insert(self.begin(whole, points)?),
        };
        let member = run.member;
        self.names(run);
        match run.quantum(&whole.part) {
            Err(Failed::Member(error)) if whole.gave_up(member, points.len(), &error) => {
                // It will be done again: nobody is charged twice.
                forfeit(Duration::from_nanos(run.spent));
                *guard = None;
                self.move_away();
                Ok(Progress::More)
            }
            Ok(Progress::Done) => {
                if let Some(sum) = run.laid.plan.point() {
                    let _ = self.sum.set(sum);
                }
                if !self.is_moved.load(Ordering::Relaxed) {
                    whole.learn(member, points.len(), run.spent);
                }
                // What it holds on the member may go.
                *guard = None;
                self.ended.store(true, Ordering::Release);
                whole.piece_ended();
                Ok(Progress::Done)
            }
            Ok(Progress::More) if stage == 0 && run.arrival.ended => {
                self.names(run);
                Ok(Progress::Done)
            }
            other => other.map_err(Failed::into_error),
        }
    }

    /// Takes note of what runs.
    fn names(&self, run: &Run) {
        let at = if run.arrival.ended { run.stage + 1 } else { 0 };
        self.kernel
            .store(run.member * STAGES_MAX + at, Ordering::Relaxed);
    }

    fn move_away(&self) {
        self.is_moved.store(true, Ordering::Relaxed);
        // As whatever begins again after a loss.
        self.place.store(HOST, Ordering::Release);
    }

    fn begin(&self, whole: &RelayPlan, points: &Range<usize>) -> Result<Run, DeviceError> {
        if !self.is_moved.load(Ordering::Relaxed) {
            if !whole.shared.is_lost(self.member) {
                let laid = whole.laid(self.member).expect("it has begun there");
                return Ok(Run::of(self.member, laid));
            }
            self.move_away();
        }
        whole.lay_out_again(self.member, points)
    }
}

/// The plan of a [`Share`].
pub(super) struct SharePlan {
    whole: Arc<RelayPlan>,
    index: usize,
    opening: Mutex<()>,
    /// Stages opened, and those that have ended.
    opened: AtomicUsize,
    ended: AtomicUsize,
}

impl SharePlan {
    pub(super) fn of(whole: &Arc<RelayPlan>, index: usize) -> Arc<dyn Plan> {
        Arc::new(SharePlan {
            whole: Arc::clone(whole),
            index,
            opening: Mutex::new(()),
            opened: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
        })
    }

    fn share(&self) -> &Share {
        &self.whole.shares()[self.index]
    }
}

impl Plan for SharePlan {
    fn stages(&self) -> usize {
        2
    }

    fn kernel(&self, stage: usize) -> &'static str {
        let share = self.share();
        match (share.points.get(), stage) {
            (None, 0) => return "relay.share",
            (None, _) => return "relay.nothing",
            (Some(_), 0) => return "relay.copy",
            (Some(_), _) => {}
        }
        let kernel = share.kernel.load(Ordering::Relaxed);
        let (member, stage) = (kernel / STAGES_MAX, kernel % STAGES_MAX);
        let name = stage
            .checked_sub(1)
            .and_then(|at| self.whole.names[member].get(at));
        name.copied().unwrap_or("relay.copy")
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened.load(Ordering::Relaxed);
        // Pairs with the Release in `run`.
        let ended = self.ended.load(Ordering::Acquire);
        if stage >= self.stages() {
            return Err(refusal(stage, 0, "there is no such stage"));
        }
        if ended != opened {
            let why = "the stage before has lanes that have not ended";
            return Err(refusal(stage, 0, why));
        }
        if opened != stage {
            return Err(refusal(stage, 0, "stages are opened once each, in order"));
        }
        // Pairs with the Acquire in `run`.
        self.opened.store(stage + 1, Ordering::Release);
        Ok(1)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let opened = self.opened.load(Ordering::Acquire);
        if opened == 0 || opened - 1 != stage {
            return Err(refusal(stage, lane, "the stage is not open"));
        }
        if lane != 0 {
            return Err(refusal(stage, lane, "there is no such lane"));
        }
        if self.ended.load(Ordering::Acquire) == opened {
            return Err(refusal(stage, lane, "the lane has ended"));
        }
        let progress = match stage {
            0 if self.whole.decide()?.is_none() => Progress::More,
            _ => self.share().quantum(&self.whole, stage)?,
        };
        if progress == Progress::Done {
            self.ended.store(opened, Ordering::Release);
        }
        Ok(progress)
    }

    fn point(&self) -> Option<Vec<u8>> {
        None
    }

    fn allow(&self, members: u64) {
        self.whole.allow(members);
    }

    fn member(&self, stage: usize) -> usize {
        let share = self.share();
        match stage {
            0 => HOST,
            _ if share.points.get().is_none() => HOST,
            _ => share.place.load(Ordering::Acquire),
        }
    }
}

/// What points add up to, each in the layout of [`crate::Device`].
pub(super) fn add<'a>(
    curve: CurveId,
    group: Group,
    points: impl Iterator<Item = &'a [u8]>,
) -> Vec<u8> {
    fn of<'a, F: Coordinate>(points: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
        let add =
            |sum: Projective<F>, point: &[u8]| sum.add_affine(&Affine::from_bytes_unchecked(point));
        let sum = points.fold(Projective::INFINITY, add);
        let mut bytes = vec![0; Affine::<F>::BYTES];
        sum.to_affine().to_bytes(&mut bytes);
        bytes
    }
    match (curve, group) {
        (CurveId::Bn254, Group::G1) => of::<<Bn254 as Curve>::Fq>(points),
        (CurveId::Bn254, Group::G2) => of::<<Bn254 as Curve>::Fq2>(points),
        (CurveId::Bls12_381, Group::G1) => of::<<Bls12_381 as Curve>::Fq>(points),
        (CurveId::Bls12_381, Group::G2) => of::<<Bls12_381 as Curve>::Fq2>(points),
    }
}

/// More than any plan has.
const STAGES_MAX: usize = 1 << 16;
