//! Work on the child, by quanta, and on the host once the child is lost.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use caldera_kernels::{Device, DeviceError, Form, Plan, Progress, Transform, Work, forfeit};
use zeroize::Zeroize;

use super::{Bases, Child, Vector};
use crate::link::Trouble;
use crate::total::Total;
use crate::wire::{Request, Step};

/// Work of one stage and one lane.
pub(super) struct Solo {
    pub(super) kernel: &'static str,
    pub(super) host: Arc<dyn Device>,
    pub(super) child: Arc<Child>,
    pub(super) work: Work,
    pub(super) bytes: usize,
    /// Those that are summed, if not all.
    pub(super) points: OnceLock<Range<usize>>,
    pub(super) opened: AtomicBool,
    pub(super) task: Mutex<Task>,
}

pub(super) enum Task {
    Sum(Sum),
    Transform(Moving),
    /// The host does it after all. What the work needs is kept alive.
    Host(HostRun, #[expect(dead_code)] Kept),
    Ended(Option<Vec<u8>>),
}

pub(super) struct Sum {
    pub(super) bases: Arc<Bases>,
    pub(super) scalars: Arc<Vector>,
    pub(super) offset: usize,
    pub(super) form: Form,
    /// Where the next slice begins.
    pub(super) done: usize,
    /// Where the last one ends.
    pub(super) end: usize,
    /// How long that took.
    pub(super) spent: Duration,
    pub(super) total: Box<dyn Total>,
}

/// A transform: over to the device by pieces, there in whole steps, and back by pieces.
///
/// What comes back is collected here first. The host's vector is written only when all of it is here:
/// until then it is what it was, and the transform can begin again elsewhere.
pub(super) struct Moving {
    vector: Arc<Vector>,
    /// Those that are still to be done.
    steps: &'static [Step],
    phase: Phase,
    /// Scalars that the phase has moved.
    done: usize,
    /// How long all that took.
    spent: Duration,
    theirs: Option<Theirs>,
    result: Collected,
}

enum Phase {
    /// Memory on the device, and what a transform of this size needs.
    Begin,
    Over,
    Steps,
    Collect,
    Back,
}

impl Moving {
    pub(super) fn new(vector: Arc<Vector>, transform: Transform) -> Moving {
        let bytes = vector.len * vector.curve.scalar_bytes();
        Moving {
            vector,
            steps: match transform {
                Transform::Forward => &[Step::Forward],
                Transform::Inverse => &[Step::Inverse],
                Transform::Shift => &[Step::Inverse, Step::Onto],
            },
            phase: Phase::Begin,
            done: 0,
            spent: Duration::ZERO,
            theirs: None,
            result: Collected {
                bytes: vec![0; bytes],
                secret: 0..0,
            },
        }
    }

    /// Bytes of what comes back.
    pub(super) fn bytes(&self) -> usize {
        self.result.bytes.len()
    }

    /// The next piece: where it begins and how many scalars it has.
    fn piece(&self) -> Range<usize> {
        self.done..self.vector.len.min(self.done + PIECE)
    }

    /// Takes note of a piece; after the last one another phase follows.
    fn moved(&mut self, piece: Range<usize>, next: Phase) {
        self.done = piece.end;
        if self.done == self.vector.len {
            self.done = 0;
            self.phase = next;
        }
    }
}

/// Memory that is overwritten where it held anything.
struct Collected {
    bytes: Vec<u8>,
    secret: Range<usize>,
}

impl Drop for Collected {
    fn drop(&mut self) {
        self.bytes[self.secret.clone()].zeroize();
    }
}

/// A vector on the device.
struct Theirs {
    child: Arc<Child>,
    id: u64,
}

impl Drop for Theirs {
    fn drop(&mut self) {
        let dropped = self.child.dropped.lock();
        let mut dropped = dropped.unwrap_or_else(PoisonError::into_inner);
        dropped.push(self.id);
    }
}

pub(super) enum Kept {
    Sum {
        _bases: Arc<Bases>,
        _scalars: Arc<Vector>,
    },
    Transform {
        _vector: Arc<Vector>,
    },
}

/// A plan of the host's, run by one thread, a quantum at a time.
pub(super) struct HostRun {
    plan: Arc<dyn Plan>,
    stage: usize,
    lanes: usize,
    lane: usize,
}

impl HostRun {
    fn quantum(&mut self) -> Result<Progress, DeviceError> {
        if self.lane == self.lanes {
            self.lanes = self.plan.open(self.stage)?;
            self.lane = 0;
        }
        if self.plan.run(self.stage, self.lane)? == Progress::Done {
            self.lane += 1;
            if self.lane == self.lanes {
                self.stage += 1;
                if self.stage == self.plan.stages() {
                    return Ok(Progress::Done);
                }
            }
        }
        Ok(Progress::More)
    }
}

impl Solo {
    /// The next slice: whether that was the last one, or why there is none.
    fn slice(&self, sum: &mut Sum) -> Result<Progress, Trouble> {
        let slices = self.child.slices(&sum.bases);
        let count = slices.size().min(sum.end - sum.done);
        let request = Request::Sum {
            bases: sum.bases.theirs.expect("planned only if they are there"),
            at: sum.done as u64,
            count: count as u64,
            form: sum.form,
        };
        let start = Instant::now();
        let point = self.child.with(|link| {
            let patience = self.child.patience();
            let memory = link.memory(count * 32)?;
            self.host
                .vector_read(sum.scalars.id, sum.offset + sum.done, memory)
                .map_err(|error| Trouble::Lost(error.to_string()))?;
            let answer = link.ask(&request, patience);
            link.memory(count * 32)?.zeroize();
            let point = answer?;
            if !sum.total.add(&point) {
                return Err(Trouble::Lost("a sum is no point of the curve".into()));
            }
            Ok(())
        });
        point?;
        slices.took(count, start.elapsed(), self.child.quantum);
        self.child.done_slices.fetch_add(1, Ordering::Relaxed);
        sum.done += count;
        Ok(if sum.done == sum.end {
            Progress::Done
        } else {
            Progress::More
        })
    }

    /// The next quantum of a transform, up to when its result is here. A small one takes two: the first of
    /// its size may take its time to prepare it.
    fn transform(&self, moving: &mut Moving) -> Result<(), Trouble> {
        loop {
            let is_begun = !matches!(moving.phase, Phase::Begin);
            self.transform_phase(moving)?;
            let is_here = matches!(moving.phase, Phase::Back);
            if is_here || !is_begun || moving.vector.len > SMALL {
                return Ok(());
            }
        }
    }

    fn transform_phase(&self, moving: &mut Moving) -> Result<(), Trouble> {
        let child = &self.child;
        let lost = |error: DeviceError| Trouble::Lost(error.to_string());
        let Vector { id, curve, len, .. } = *moving.vector;
        let size = curve.scalar_bytes();
        let theirs = moving.theirs.as_ref().map_or(0, |theirs| theirs.id);
        let piece = moving.piece();
        let (at, count) = (piece.start as u64, piece.len() as u64);
        let bytes = piece.start * size..piece.end * size;
        let ask = |request| child.with(|link| link.ask(&request, child.patience()));
        match moving.phase {
            Phase::Begin => {
                child.sweep()?;
                let log2 = len.ilog2();
                child.prepare(curve, log2)?;
                let log2 = log2.into();
                let answer = ask(Request::Vector { curve, log2 })?;
                let number = answer.try_into().map(u64::from_le_bytes);
                let id = number.map_err(|_| Trouble::Lost("a vector has no number".into()))?;
                let child = Arc::clone(child);
                moving.theirs = Some(Theirs { child, id });
                moving.phase = Phase::Over;
            }
            Phase::Over => {
                let vector = theirs;
                let request = Request::Put { vector, at, count };
                child.with(|link| {
                    let memory = link.memory(bytes.len())?;
                    self.host
                        .vector_read(id, piece.start, memory)
                        .map_err(lost)?;
                    let answer = link.ask(&request, child.patience());
                    link.memory(bytes.len())?.zeroize();
                    answer
                })?;
                moving.moved(piece, Phase::Steps);
            }
            Phase::Steps => {
                let (&step, rest) = moving.steps.split_first().expect("one is left");
                let vector = theirs;
                ask(Request::Transform { vector, step })?;
                moving.steps = rest;
                if rest.is_empty() {
                    moving.phase = Phase::Collect;
                }
            }
            Phase::Collect => {
                let vector = theirs;
                let request = Request::Get { vector, at, count };
                let result = &mut moving.result;
                child.with(|link| {
                    link.ask(&request, child.patience())?;
                    let memory = link.memory(bytes.len())?;
                    result.secret.end = bytes.end;
                    result.bytes[bytes].copy_from_slice(memory);
                    memory.zeroize();
                    Ok(())
                })?;
                moving.moved(piece, Phase::Back);
                if matches!(moving.phase, Phase::Back) {
                    moving.theirs = None;
                    // A loss comes too late now.
                    let _ = child.sweep();
                }
            }
            Phase::Back => unreachable!("taken over by the host alone"),
        }
        Ok(())
    }

    /// The next piece of a result that is here. The child has no part in that any more.
    fn take_over(&self, moving: &mut Moving) -> Result<Progress, DeviceError> {
        let size = moving.vector.curve.scalar_bytes();
        let piece = moving.piece();
        let bytes = piece.start * size..piece.end * size;
        let result = &mut moving.result;
        let scalars = &mut result.bytes[bytes.clone()];
        self.host
            .vector_write(moving.vector.id, piece.start, scalars)?;
        scalars.zeroize();
        result.secret.start = bytes.end;
        moving.done = piece.end;
        if moving.done < moving.vector.len {
            return Ok(Progress::More);
        }
        self.child.done_transforms.fetch_add(1, Ordering::Relaxed);
        Ok(Progress::Done)
    }

    /// A unit leaves what it cannot do to others, who charge nobody for what was in vain.
    fn leave(&self, trouble: Trouble, bytes: usize) -> Result<(), DeviceError> {
        if !self.child.is_unit {
            return Ok(());
        }
        Err(match trouble {
            Trouble::NoRoom(_) => DeviceError::Memory {
                what: "work on ICICLE's device",
                bytes,
            },
            Trouble::Lost(why) => {
                // Of two reasons the first one counts.
                let _ = self.child.lost.set(why);
                self.child.loss()
            }
        })
    }

    /// The same work from its start on the host.
    fn fall_back(&self, kept: Kept) -> Result<Task, DeviceError> {
        self.child.note_fall();
        let plan = self.host.plan(&self.work)?;
        if let Some(points) = self.points.get() {
            plan.narrow(points.clone())?;
        }
        let run = HostRun {
            plan,
            stage: 0,
            lanes: 0,
            lane: 0,
        };
        Ok(Task::Host(run, kept))
    }
}

impl Plan for Solo {
    fn stages(&self) -> usize {
        1
    }

    fn kernel(&self, _stage: usize) -> &'static str {
        self.kernel
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        if stage != 0 {
            return Err(refusal(stage, 0, "there is no such stage"));
        }
        if self.opened.swap(true, Ordering::AcqRel) {
            return Err(refusal(stage, 0, "stages are opened once each, in order"));
        }
        Ok(1)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        if stage != 0 || !self.opened.load(Ordering::Acquire) {
            return Err(refusal(stage, lane, "the stage is not open"));
        }
        if lane != 0 {
            return Err(refusal(stage, lane, "there is no such lane"));
        }
        let Ok(mut task) = self.task.try_lock() else {
            return Err(refusal(
                stage,
                lane,
                "the lane is running on another thread",
            ));
        };
        let begin = Instant::now();
        let (next, progress) = match &mut *task {
            Task::Sum(sum) => match self.slice(sum) {
                Ok(Progress::More) => {
                    sum.spent += begin.elapsed();
                    return Ok(Progress::More);
                }
                Ok(Progress::Done) => (Task::Ended(Some(sum.total.bytes())), Progress::Done),
                Err(trouble) => {
                    self.leave(trouble, (sum.end - sum.done) * 32)?;
                    // All of it is done again.
                    forfeit(sum.spent + begin.elapsed());
                    let kept = Kept::Sum {
                        _bases: Arc::clone(&sum.bases),
                        _scalars: Arc::clone(&sum.scalars),
                    };
                    (self.fall_back(kept)?, Progress::More)
                }
            },
            Task::Transform(moving) if matches!(moving.phase, Phase::Back) => {
                match self.take_over(moving)? {
                    Progress::More => return Ok(Progress::More),
                    Progress::Done => (Task::Ended(None), Progress::Done),
                }
            }
            Task::Transform(moving) => match self.transform(moving) {
                Ok(()) => {
                    moving.spent += begin.elapsed();
                    return Ok(Progress::More);
                }
                Err(trouble) => {
                    self.leave(trouble, moving.bytes())?;
                    forfeit(moving.spent + begin.elapsed());
                    let kept = Kept::Transform {
                        _vector: Arc::clone(&moving.vector),
                    };
                    (self.fall_back(kept)?, Progress::More)
                }
            },
            Task::Host(run, _) => match run.quantum()? {
                Progress::More => return Ok(Progress::More),
                Progress::Done => (Task::Ended(run.plan.point()), Progress::Done),
            },
            Task::Ended(_) => return Err(refusal(stage, lane, "the lane has ended")),
        };
        *task = next;
        Ok(progress)
    }

    /// What a transform comes back to.
    fn bytes(&self) -> usize {
        self.bytes
    }

    fn grain(&self) -> Option<usize> {
        matches!(self.work, Work::Msm { .. }).then_some(1)
    }

    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        let why = "only a sum that has not begun is narrowed, and once";
        match self.task.try_lock().as_deref_mut() {
            Ok(Task::Sum(sum))
                if !self.opened.load(Ordering::Acquire)
                    && points.end <= sum.end
                    && self.points.set(points.clone()).is_ok() =>
            {
                (sum.done, sum.end) = (points.start, points.end);
                Ok(())
            }
            _ => Err(refusal(0, 0, why)),
        }
    }

    fn point(&self) -> Option<Vec<u8>> {
        match &*self.task.try_lock().ok()? {
            Task::Ended(point) => point.clone(),
            _ => None,
        }
    }
}

fn refusal(stage: usize, lane: usize, why: &'static str) -> DeviceError {
    DeviceError::Lane { stage, lane, why }
}

/// Scalars that are copied in one quantum: 2 MiB.
const PIECE: usize = 1 << 16;

/// Transforms of so many scalars or fewer are not cut.
const SMALL: usize = 1 << 12;
