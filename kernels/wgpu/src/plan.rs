//! Plans: stages of one lane, a lane being a list of steps that the device takes slice by slice.
//!
//! A step is a kernel over a number of workgroups, which may be run in any number of slices: a
//! slice says at which workgroup it begins. A quantum is one submission of as many workgroups, of
//! one step or of several, as fit its time by what they have been seen to cost, and the wait for
//! its fence. So everything between two quanta is on the device; what is here is the number of a
//! step and of a workgroup, and of a sum how many workgroups have anything to do ([`Step::Look`]).
//!
//! What a kernel costs is learnt from every quantum (`pace.rs`), so workgroups should cost what is
//! said of them. The first slice of a kernel that has never run is small and teaches nothing, for
//! the driver may compile it then. The least that a slice can be is one workgroup of 64 threads,
//! none of which has more than some hundred multiplications of points to do.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use caldera_kernels::{DeviceError, Plan, Progress};

use crate::generate::Variant;
use crate::gpu::{
    CLEAR, Command, Computed, Dispatch, Gpu, JOB_WORDS, Memory, Part, Pipeline, lock,
};
use crate::pace::{self, Load, Share};
use crate::shaders::{Kernel, Over};

/// A list of steps under one name.
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) steps: Vec<Step>,
}

pub(crate) enum Step {
    Dispatch {
        pipeline: Arc<Pipeline>,
        bind: wgpu::BindGroup,
        /// Parameters; the first is where a slice begins and is filled in.
        job: [u32; JOB_WORDS],
        groups: u32,
        work: Amount,
        /// Of a sum: the points of which its threads have one each, where they do.
        points: Option<Range<usize>>,
    },
    Clear {
        buffer: wgpu::Buffer,
        bytes: u64,
    },
    /// A look at what was computed, from which it is known how much other steps have to do.
    Look(Look),
}

/// Reads from the device, and remembers how much there is to do.
type Look = Box<dyn Fn(&Gpu) -> Result<(), DeviceError> + Send + Sync>;

/// What a step's workgroups have to do.
pub(crate) enum Amount {
    /// This, and all of them have.
    Known(Load),
    /// What a look finds: how many workgroups at most, and what they have.
    Seen(Arc<OnceLock<(u32, Load)>>),
}

impl Step {
    /// The same, whose threads have one each of these points of a sum.
    pub(crate) fn of_points(mut self, of: Range<usize>) -> Self {
        if let Step::Dispatch { points, .. } = &mut self {
            *points = Some(of);
        }
        self
    }

    /// The same, of which a look finds how much there is to do.
    pub(crate) fn counted_by(mut self, seen: Arc<OnceLock<(u32, Load)>>) -> Self {
        if let Step::Dispatch { work, .. } = &mut self {
            *work = Amount::Seen(seen);
        }
        self
    }

    /// The workgroups to run where a sum is over `wanted`, if not over all.
    fn workgroups(&self, wanted: Option<&Range<usize>>) -> Range<u32> {
        let Step::Dispatch {
            groups,
            points,
            work,
            ..
        } = self
        else {
            return 0..0;
        };
        if let Amount::Seen(seen) = work {
            return 0..seen.get().map_or(*groups, |(some, _)| *groups.min(some));
        }
        let (Some(wanted), Some(own)) = (wanted, points) else {
            return 0..*groups;
        };
        let within = |point: usize| point.clamp(own.start, own.end) - own.start;
        // Both bounds are multiples of a workgroup's threads or the end: see `grain`.
        let bound = |point: usize| within(point).div_ceil(THREADS) as u32;
        bound(wanted.start)..bound(wanted.end)
    }
}

/// What makes the steps of one plan: the pipelines and buffers that they share.
pub(crate) struct Steps<'a> {
    pub(crate) gpu: &'a Arc<Gpu>,
    pub(crate) variant: Variant,
    pub(crate) jobs: Memory,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(gpu: &'a Arc<Gpu>, variant: Variant) -> Result<Self, DeviceError> {
        Ok(Self {
            gpu,
            variant,
            jobs: gpu.jobs(SUBMISSION)?,
        })
    }

    /// A kernel over so many threads; `job` is what follows the first parameter.
    pub(crate) fn threads(
        &self,
        kernel: Kernel,
        over: Over,
        parts: &[Part<'_>],
        job: &[u32],
        threads: usize,
        units: f64,
    ) -> Result<Step, DeviceError> {
        let groups = threads.div_ceil(THREADS);
        self.groups(kernel, over, parts, job, groups, Load::even(units))
    }

    /// The same over so many workgroups.
    pub(crate) fn groups(
        &self,
        kernel: Kernel,
        over: Over,
        parts: &[Part<'_>],
        job: &[u32],
        groups: usize,
        load: Load,
    ) -> Result<Step, DeviceError> {
        let pipeline = self.gpu.pipeline(kernel, over, self.variant)?;
        let bind = self.gpu.bind(&pipeline, &self.jobs, parts)?;
        let mut words = [0; JOB_WORDS];
        words[1..=job.len()].copy_from_slice(job);
        Ok(Step::Dispatch {
            pipeline,
            bind,
            job: words,
            groups: u32::try_from(groups).map_err(|_| DeviceError::Length {
                what: "workgroups of one kernel",
                expected: u32::MAX as usize,
                got: groups,
            })?,
            work: Amount::Known(load),
            points: None,
        })
    }
}

/// Threads of a workgroup.
pub(crate) const THREADS: usize = 64;
/// Kernels in one submission, at most.
const SUBMISSION: usize = 64;
/// Workgroups in the first dispatch of a kernel.
const COLD: u32 = 4;
/// How much of a quantum is planned for: what a kernel costs is not the same each time.
const MARGIN: f64 = 0.75;

/// What a plan comes to, once all has run.
type Finish = Box<dyn Fn(&Gpu) -> Result<Vec<u8>, DeviceError> + Send + Sync>;

pub(crate) struct Staged {
    gpu: Arc<Gpu>,
    stages: Vec<Stage>,
    jobs: Memory,
    /// What the steps use and what is dropped with the plan.
    _held: Box<dyn Send + Sync>,
    finish: Option<Finish>,
    point: OnceLock<Vec<u8>>,
    /// Those that are summed, if not all.
    points: OnceLock<Range<usize>>,
    /// Nanoseconds by the device's own clock, of all quanta.
    computed_ns: AtomicU64,
    /// When it computed in the last one.
    computed: Mutex<Option<Computed>>,
    /// Stages opened so far, to be looked at without a lock.
    opened: AtomicUsize,
    lane: Mutex<Lane>,
}

#[derive(Default)]
struct Lane {
    opened: usize,
    ended: bool,
    step: usize,
    /// The next workgroup, or piece of what is cleared.
    group: u32,
}

impl Staged {
    pub(crate) fn plan(
        steps: Steps<'_>,
        stages: Vec<Stage>,
        held: impl Send + Sync + 'static,
        finish: Option<Finish>,
    ) -> Arc<dyn Plan> {
        Arc::new(Self {
            gpu: steps.gpu.clone(),
            stages,
            jobs: steps.jobs,
            _held: Box::new(held),
            finish,
            point: OnceLock::new(),
            points: OnceLock::new(),
            computed_ns: AtomicU64::new(0),
            computed: Mutex::default(),
            opened: AtomicUsize::new(0),
            lane: Mutex::default(),
        })
    }

    /// One submission. Says whether that was the last of the stage.
    fn quantum(&self, steps: &[Step], lane: &mut Lane) -> Result<bool, DeviceError> {
        let whole = self.gpu.quantum.as_nanos() as f64 * MARGIN;
        let mut left = whole;
        let mut commands = Vec::new();
        let mut jobs = Vec::new();
        // What each kernel has to do here.
        let mut used: Vec<(&Pipeline, Share)> = Vec::new();
        let mut cold = false;
        let (mut step, mut group) = (lane.step, lane.group);
        while step < steps.len() && jobs.len() < SUBMISSION && !cold {
            let (pipeline, bind, job, work) = match &steps[step] {
                Step::Clear { buffer, bytes } => {
                    let from = u64::from(group) * CLEAR;
                    let end = (from + CLEAR).min(*bytes);
                    commands.push(Command::Clear(buffer, from..end));
                    if end < *bytes {
                        group += 1;
                        break;
                    }
                    (step, group) = (step + 1, 0);
                    continue;
                }
                Step::Look(look) => {
                    if commands.is_empty() {
                        look(&self.gpu)?;
                        step += 1;
                    }
                    break;
                }
                Step::Dispatch {
                    pipeline,
                    bind,
                    job,
                    work,
                    ..
                } => (pipeline, bind, job, work),
            };
            let groups = steps[step].workgroups(self.points.get());
            group = group.max(groups.start);
            if group >= groups.end {
                (step, group) = (step + 1, 0);
                continue;
            }
            let load = match work {
                Amount::Known(load) => Some(load),
                Amount::Seen(seen) => seen.get().map(|(_, load)| load),
            };
            let Some(load) = load else {
                // Each look stands before what it is for.
                return Err(DeviceError::Lane {
                    stage: lane.opened - 1,
                    lane: 0,
                    why: "nobody has looked how much there is to do",
                });
            };
            let pace = pipeline.pace();
            if jobs.is_empty() {
                left = pace.budget(left);
            }
            let mut count = pace.fitting(left, load, group..groups.end);
            if !pipeline.is_warm() {
                if !jobs.is_empty() {
                    break;
                }
                cold = true;
                count = COLD.min(groups.end - group);
            }
            if count == 0 {
                if !jobs.is_empty() {
                    break;
                }
                count = pace.least().min(groups.end - group);
            }
            let mut words = *job;
            words[0] = group;
            commands.push(Command::Dispatch(Dispatch {
                pipeline,
                bind,
                job: jobs.len() as u32,
                groups: count,
            }));
            jobs.push(words);
            let units = load.of(group..group + count);
            // A kernel that is there several times learns once.
            let same = |used: &&mut (&Pipeline, Share)| std::ptr::eq(used.0, &raw const **pipeline);
            match used.iter_mut().find(same) {
                Some((_, share)) => {
                    share.units += units;
                    share.times += 1;
                    share.groups += count;
                }
                None => used.push((
                    pipeline,
                    Share {
                        pace,
                        units,
                        times: 1,
                        groups: count,
                    },
                )),
            }
            left -= pace.expects(units);
            group += count;
            if group < groups.end {
                break;
            }
            step += 1;
            group = 0;
        }
        if !commands.is_empty() {
            let (took, computed) = self.gpu.time(&commands, Some((&self.jobs, &jobs)))?;
            if let Some(it) = computed {
                let span_ns = it.span.as_nanos() as u64;
                self.computed_ns.fetch_add(span_ns, Ordering::Relaxed);
                *lock(&self.computed) = Some(it);
            }
            if !cold {
                // Other plans may have taught it meanwhile.
                let share = |&(pipeline, share): &(&Pipeline, Share)| Share {
                    pace: pipeline.pace(),
                    ..share
                };
                let mut shares: Vec<Share> = used.iter().map(share).collect();
                pace::learn(&mut shares, took.as_nanos() as f64, whole);
                for ((pipeline, _), share) in used.iter().zip(shares) {
                    pipeline.set_pace(share.pace);
                }
            }
        }
        (lane.step, lane.group) = (step, group);
        Ok(step == steps.len())
    }
}

impl Plan for Staged {
    fn stages(&self) -> usize {
        self.stages.len()
    }

    fn kernel(&self, stage: usize) -> &'static str {
        self.stages[stage].name
    }

    fn open(&self, stage: usize) -> Result<usize, DeviceError> {
        let refuse = |why| DeviceError::Lane {
            stage,
            lane: 0,
            why,
        };
        let Ok(mut lane) = self.lane.try_lock() else {
            return Err(refuse("the stage before has lanes that have not ended"));
        };
        if stage >= self.stages.len() {
            return Err(refuse("there is no such stage"));
        }
        if lane.opened > 0 && !lane.ended {
            return Err(refuse("the stage before has lanes that have not ended"));
        }
        if lane.opened != stage {
            return Err(refuse("stages are opened once each, in order"));
        }
        *lane = Lane {
            opened: stage + 1,
            ..Lane::default()
        };
        self.opened.store(stage + 1, Ordering::Release);
        Ok(1)
    }

    fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
        let refuse = |why| DeviceError::Lane { stage, lane, why };
        let opened = self.opened.load(Ordering::Acquire);
        if opened == 0 || opened - 1 != stage {
            return Err(refuse("the stage is not open"));
        }
        if lane != 0 {
            return Err(refuse("there is no such lane"));
        }
        let Ok(mut state) = self.lane.try_lock() else {
            return Err(refuse("the lane is running on another thread"));
        };
        if state.opened - 1 != stage {
            return Err(refuse("the stage is not open"));
        }
        if state.ended {
            return Err(refuse("the lane has ended"));
        }
        if !self.quantum(&self.stages[stage].steps, &mut state)? {
            return Ok(Progress::More);
        }
        if stage + 1 == self.stages.len()
            && let Some(finish) = &self.finish
        {
            let point = finish(&self.gpu)?;
            self.point.get_or_init(|| point);
        }
        state.ended = true;
        Ok(Progress::Done)
    }

    fn point(&self) -> Option<Vec<u8>> {
        self.point.get().cloned()
    }

    fn device_time(&self) -> Option<Duration> {
        let computed = Duration::from_nanos(self.computed_ns.load(Ordering::Relaxed));
        self.gpu.has_clock().then_some(computed)
    }

    fn device_began(&self) -> Option<Instant> {
        lock(&self.computed).map(|it| it.begin)
    }

    /// A workgroup's threads, where each piece of the points begins with a whole one.
    fn grain(&self) -> Option<usize> {
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let starts = steps.filter_map(|step| match step {
            Step::Dispatch { points, .. } => points.as_ref().map(|points| points.start),
            Step::Clear { .. } | Step::Look(_) => None,
        });
        let mut starts = starts.peekable();
        starts.peek()?;
        starts.all(|start| start % THREADS == 0).then_some(THREADS)
    }

    fn narrow(&self, points: Range<usize>) -> Result<(), DeviceError> {
        let steps = self.stages.iter().flat_map(|stage| &stage.steps);
        let ends = steps.filter_map(|step| match step {
            Step::Dispatch { points, .. } => points.as_ref().map(|points| points.end),
            Step::Clear { .. } | Step::Look(_) => None,
        });
        let all = ends.max().unwrap_or(0);
        // Anything else would be a sum of other points, and nobody would see it.
        for bound in [points.start, points.end.max(points.start)] {
            let expected = (bound / THREADS * THREADS).min(all);
            if bound != expected && bound != all {
                return Err(DeviceError::Length {
                    what: "points before a bound of a sum's, in whole workgroups or all",
                    expected,
                    got: bound,
                });
            }
        }
        let is_new = self.opened.load(Ordering::Acquire) == 0 && self.grain().is_some();
        if is_new && self.points.set(points).is_ok() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Choice, WgpuConfig};

    #[test]
    fn large_buffers_are_cleared_in_several_quanta() {
        let config = WgpuConfig {
            adapter: Some("llvmpipe".to_owned()),
            choice: Choice::Fixed(Variant::Portable),
            ..WgpuConfig::default()
        };
        let gpu = Gpu::open(&config).expect("a Vulkan driver, as `.ci/tools vulkan` brings it");
        let bytes = 2 * CLEAR + 4096;
        let buffer = gpu.buffer("test", bytes).expect("room");
        let marks = [0, CLEAR - 8, CLEAR, 2 * CLEAR - 8, 2 * CLEAR, bytes - 8];
        for at in marks {
            gpu.write(&buffer, at, &[0xa5; 8]).expect("it fits");
        }
        let stages = vec![Stage {
            name: "test",
            steps: vec![Step::Clear {
                buffer: (*buffer).clone(),
                bytes,
            }],
        }];
        let steps = Steps::new(&gpu, Variant::Portable).expect("room");
        let plan = Staged::plan(steps, stages, (), None);
        plan.open(0).expect("the first stage");
        let mut quanta = 1;
        while plan.run(0, 0).expect("an open lane") == Progress::More {
            quanta += 1;
        }
        assert_eq!(quanta, 3);
        for at in marks {
            let mut read = [1; 8];
            gpu.read(&buffer, at, &mut read).expect("it fits");
            assert_eq!(read, [0; 8], "at {at}");
        }
    }
}
