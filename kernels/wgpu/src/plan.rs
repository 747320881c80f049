//! Plans: stages of one lane, a lane being a list of steps that the device takes slice by slice.
//!
//! A step is a kernel over a number of workgroups, all of about the same cost, which may be run
//! in any number of slices: a slice says at which workgroup it begins. A quantum is one
//! submission of as many workgroups, of one step or of several, as fit its time by what they have
//! been seen to cost, and the wait for its fence. So everything between two quanta is on the
//! device; what is here is the number of a step and of a workgroup.
//!
//! What a kernel costs is learnt from every quantum: if it took longer than thought, that is
//! believed at once, if it took less, half of it. The first slice of a kernel that has never run
//! is small and teaches nothing, for the driver may compile it then. The least that a slice can be
//! is one workgroup of 64 threads, none of which has more than some hundred multiplications
//! of points to do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use caldera_kernels::{DeviceError, Plan, Progress};

use crate::generate::Variant;
use crate::gpu::{Command, Dispatch, Gpu, JOB_WORDS, Part, Pipeline};
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
        /// What one workgroup costs, in units of the kernel's own.
        units: f64,
    },
    Clear {
        buffer: wgpu::Buffer,
        bytes: u64,
    },
}

/// What makes the steps of one plan: the pipelines and buffers that they share.
pub(crate) struct Steps<'a> {
    pub(crate) gpu: &'a Arc<Gpu>,
    pub(crate) variant: Variant,
    pub(crate) jobs: wgpu::Buffer,
}

impl<'a> Steps<'a> {
    pub(crate) fn new(gpu: &'a Arc<Gpu>, variant: Variant) -> Self {
        Self {
            gpu,
            variant,
            jobs: gpu.jobs(SUBMISSION),
        }
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
        self.groups(kernel, over, parts, job, threads.div_ceil(64), units)
    }

    /// The same over so many workgroups.
    pub(crate) fn groups(
        &self,
        kernel: Kernel,
        over: Over,
        parts: &[Part<'_>],
        job: &[u32],
        groups: usize,
        units: f64,
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
            units,
        })
    }
}

/// Kernels in one submission, at most.
const SUBMISSION: usize = 64;
/// Workgroups in one dispatch, at most: the least that any adapter takes.
const DISPATCH: u32 = 65_535;
/// Workgroups in the first dispatch of a kernel.
const COLD: u32 = 4;
/// How much of a quantum is planned for: what a kernel costs is not the same each time.
const MARGIN: f64 = 0.75;

/// What a plan comes to, once all has run.
type Finish = Box<dyn Fn(&Gpu) -> Result<Vec<u8>, DeviceError> + Send + Sync>;

pub(crate) struct Staged {
    gpu: Arc<Gpu>,
    stages: Vec<Stage>,
    jobs: wgpu::Buffer,
    /// What the steps use and what is dropped with the plan.
    _held: Box<dyn Send + Sync>,
    finish: Option<Finish>,
    point: OnceLock<Vec<u8>>,
    /// Stages opened so far, to be looked at without a lock.
    opened: AtomicUsize,
    lane: Mutex<Lane>,
}

#[derive(Default)]
struct Lane {
    opened: usize,
    ended: bool,
    step: usize,
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
            opened: AtomicUsize::new(0),
            lane: Mutex::default(),
        })
    }

    /// One submission. Says whether that was the last of the stage.
    fn quantum(&self, steps: &[Step], lane: &mut Lane) -> Result<bool, DeviceError> {
        let mut left = self.gpu.quantum.as_nanos() as f64 * MARGIN;
        let mut commands = Vec::new();
        let mut jobs = Vec::new();
        // What each kernel is thought to take.
        let mut thought: Vec<(&Pipeline, f64)> = Vec::new();
        let mut cold = false;
        let (mut step, mut group) = (lane.step, lane.group);
        while step < steps.len() && jobs.len() < SUBMISSION && !cold {
            let (pipeline, bind, job, groups, units) = match &steps[step] {
                Step::Clear { buffer, bytes } => {
                    commands.push(Command::Clear(buffer, 0..*bytes));
                    step += 1;
                    continue;
                }
                Step::Dispatch {
                    pipeline,
                    bind,
                    job,
                    groups,
                    units,
                } => (pipeline, bind, job, *groups, *units),
            };
            if groups == 0 {
                step += 1;
                continue;
            }
            let each_ns = pipeline.rate_ns() * units;
            let mut count = (left / each_ns) as u32;
            if !pipeline.is_warm() {
                if !jobs.is_empty() {
                    break;
                }
                cold = true;
                pipeline.set_warm();
                count = COLD;
            }
            if count == 0 {
                if !jobs.is_empty() {
                    break;
                }
                count = 1;
            }
            let count = count.min(groups - group).min(DISPATCH);
            let mut words = *job;
            words[0] = group;
            commands.push(Command::Dispatch(Dispatch {
                pipeline,
                bind,
                job: jobs.len() as u32,
                groups: count,
            }));
            jobs.push(words);
            thought.push((pipeline, each_ns * f64::from(count)));
            left -= each_ns * f64::from(count);
            group += count;
            if group < groups {
                break;
            }
            step += 1;
            group = 0;
        }
        let took = self.gpu.submit(&commands, Some((&self.jobs, &jobs)))?;
        let sum: f64 = thought.iter().map(|(_, ns)| ns).sum();
        if !cold && sum > 0.0 {
            let ratio = (took.as_nanos() as f64 / sum).clamp(0.125, 8.0);
            let believed = if ratio < 1.0 {
                (1.0 + ratio) / 2.0
            } else {
                ratio
            };
            // A kernel that is there several times learns once.
            let place = |(pipeline, _): &(&Pipeline, f64)| std::ptr::from_ref(*pipeline);
            thought.sort_by_key(place);
            thought.dedup_by_key(|thought| place(thought));
            for (pipeline, _) in thought {
                pipeline.set_rate_ns((pipeline.rate_ns() * believed).max(1.0));
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
}
