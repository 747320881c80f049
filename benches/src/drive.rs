//! Runs plans and proofs quantum by quantum and keeps an account of every quantum.
//!
//! The threads here are plain ones and the queue has a lock: what is measured is the kernels and
//! how they are cut, not a scheduler. Like a box's workers, threads that work together are pinned
//! one by one: where others compute too, Linux may leave all of them on one processor for longer
//! than a proof takes. A quantum is measured twice, on the wall, which is what a
//! tenant that waits for the core sees, and in the thread's CPU time, which is what the kernel's
//! cutting is answerable for; on a shared machine the two differ by what the neighbours took.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use caldera_kernels::{DeviceError, Plan, Progress};
use caldera_prover::groth16::{Job, Step, Task};
use hdrhistogram::Histogram;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::clock;

/// Runs a plan to its end on `threads` threads, the calling one among them.
pub(crate) fn plan(plan: &dyn Plan, threads: usize) -> Result<(), DeviceError> {
    if threads <= 1 {
        for stage in 0..plan.stages() {
            for lane in 0..plan.open(stage)? {
                while plan.run(stage, lane)? == Progress::More {}
            }
        }
        return Ok(());
    }
    let crew = PlanCrew {
        plan,
        lanes: AtomicUsize::new(0),
        next: AtomicUsize::new(0),
        gate: Barrier::new(threads),
        failed: OnceLock::new(),
    };
    together(threads, |_| crew.work());
    crew.failed.into_inner().map_or(Ok(()), Err)
}

/// Threads that go through the stages of a plan in step.
struct PlanCrew<'a> {
    plan: &'a dyn Plan,
    lanes: AtomicUsize,
    next: AtomicUsize,
    gate: Barrier,
    failed: OnceLock<DeviceError>,
}

impl PlanCrew<'_> {
    fn work(&self) {
        for stage in 0..self.plan.stages() {
            // All have left the stage before; one of them opens this one, then all go on. The
            // barrier orders what is stored here before what is read behind it.
            if self.gate.wait().is_leader() {
                let lanes = if self.failed.get().is_some() {
                    Ok(0)
                } else {
                    self.plan.open(stage)
                };
                self.lanes
                    .store(self.keep(lanes).unwrap_or(0), Ordering::Relaxed);
                self.next.store(0, Ordering::Relaxed);
            }
            self.gate.wait();
            let lanes = self.lanes.load(Ordering::Relaxed);
            while let Some(lane) =
                Some(self.next.fetch_add(1, Ordering::Relaxed)).filter(|&lane| lane < lanes)
            {
                while self.keep(self.plan.run(stage, lane)) == Some(Progress::More) {}
            }
        }
    }

    /// Keeps the first error of any thread.
    fn keep<T>(&self, result: Result<T, DeviceError>) -> Option<T> {
        result.map_err(|error| self.failed.set(error)).ok()
    }
}

struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Carries a new job to its end on `threads` threads, the calling one among them. Tasks that a
/// lane opens go to the front of the queue, so that the longest path is never behind.
pub(crate) fn job(job: &Job, threads: usize) -> Result<Trace> {
    carry(job, threads, false)
}

/// The same as in a box whose tenant holds a device and so many cores: the calling thread has what is begun on the device, as its
/// worker has, the others all else, and what the device can do begins there and nowhere else.
pub(crate) fn pooled(job: &Job, cores: usize) -> Result<Trace> {
    carry(job, cores + 1, true)
}

fn carry(job: &Job, threads: usize, by_place: bool) -> Result<Trace> {
    let mut queue = VecDeque::with_capacity(job.tasks_max());
    job.start(&mut |task| queue.push_back(task))
        .context("starting a proof")?;
    let crew = JobCrew {
        job,
        queue: Mutex::new(Queue {
            tasks: queue,
            ended: false,
        }),
        news: Condvar::new(),
        by_place,
    };
    let traces = together(threads, |thread| crew.work(thread));
    let mut all = Trace::default();
    for trace in traces {
        all.add(&trace?)?;
    }
    Ok(all)
}

/// Runs `work` on so many threads, the calling one among them, and tells each which it is. Each
/// has a processor of its own, as far as there are any.
pub(crate) fn together<T: Send>(threads: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    if threads <= 1 {
        return vec![work(0)];
    }
    let here = |thread| {
        // A thread that panics would leave the others waiting for ever.
        let _guard = AbortOnPanic;
        // Where there are fewer processors than threads, the others go where they may.
        let _pinned = Confined::to(thread..thread + 1);
        work(thread)
    };
    std::thread::scope(|scope| {
        let here = &here;
        let others: Vec<_> = (1..threads)
            .map(|thread| scope.spawn(move || here(thread)))
            .collect();
        let mut results = vec![here(0)];
        results.extend(others.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| unreachable!("the guard ends a process whose thread panics"))
        }));
        results
    })
}

/// The calling thread, and what it starts, may use only some processors until this is dropped.
pub(crate) struct Confined {
    before: CpuSet,
}

impl Confined {
    /// To those at these places among the processors that it may use.
    pub(crate) fn to(places: Range<usize>) -> Result<Confined> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread).context("reading the processors")?;
        let mut some = CpuSet::new();
        let allowed = (0..CpuSet::count()).filter(|&cpu| before.is_set(cpu).unwrap_or(false));
        for cpu in allowed.skip(places.start).take(places.len()) {
            some.set(cpu).context("choosing processors")?;
        }
        sched_setaffinity(this_thread, &some).context("choosing processors")?;
        Ok(Confined { before })
    }
}

impl Drop for Confined {
    fn drop(&mut self) {
        // They were ours before; a thread that stays confined computes the same.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.before);
    }
}

struct JobCrew<'a> {
    job: &'a Job,
    queue: Mutex<Queue>,
    news: Condvar,
    /// Whether the first thread has what is begun on a device, and the others all else.
    by_place: bool,
}

struct Queue {
    tasks: VecDeque<Task>,
    ended: bool,
}

impl JobCrew<'_> {
    fn work(&self, thread: usize) -> Result<Trace> {
        let mut trace = Trace::default();
        let result = self.lanes(thread, &mut trace);
        // Whoever ends, well or badly, ends it for all.
        self.lock().ended = true;
        self.news.notify_all();
        result.map(|()| trace)
    }

    fn lanes(&self, thread: usize, trace: &mut Trace) -> Result<()> {
        let mut opened = Vec::with_capacity(self.job.tasks_max());
        while let Some(task) = self.next(thread) {
            let kernel = self.job.kernel(task);
            loop {
                if self.by_place {
                    self.job.allow(task, !HOST);
                }
                let before = clock::thread()?;
                let step = self.job.run(task, &mut |task| opened.push(task));
                trace.record(kernel, clock::thread()? - before)?;
                match step.with_context(|| kernel.to_owned())? {
                    Step::Again => {}
                    Step::LaneEnded => break,
                    Step::Finished => return Ok(()),
                }
            }
            let mut queue = self.lock();
            for task in opened.drain(..).rev() {
                queue.tasks.push_front(task);
            }
            // It may be for one thread alone.
            self.news.notify_all();
        }
        Ok(())
    }

    /// A thread's next task, once there is one; `None` when the proof has ended.
    fn next(&self, thread: usize) -> Option<Task> {
        let is_its = |&task: &Task| !self.by_place || (self.job.member(task) > 0) == (thread == 0);
        let mut queue = self.lock();
        loop {
            if queue.ended {
                return None;
            }
            let first = queue.tasks.iter().position(is_its);
            if let Some(task) = first.and_then(|at| queue.tasks.remove(at)) {
                return Some(task);
            }
            queue = self
                .news
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The queue is whole between any two statements, so a poisoned lock is as good as another.
    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The host, of a device's members.
const HOST: u64 = 1;

/// An account of quanta.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    kernels: BTreeMap<&'static str, Quanta>,
}

/// The quanta of one kernel.
#[derive(Debug)]
pub(crate) struct Quanta {
    /// CPU time of all together.
    pub(crate) cpu: Duration,
    /// Lengths on the wall, in nanoseconds.
    pub(crate) wall_ns: Histogram<u64>,
    /// Lengths in CPU time, in nanoseconds.
    pub(crate) cpu_ns: Histogram<u64>,
}

impl Quanta {
    fn new() -> Result<Quanta> {
        let histogram = || Histogram::new(3).context("a histogram of quanta");
        Ok(Quanta {
            cpu: Duration::ZERO,
            wall_ns: histogram()?,
            cpu_ns: histogram()?,
        })
    }

    fn add(&mut self, other: &Quanta) -> Result<()> {
        self.cpu += other.cpu;
        self.wall_ns
            .add(&other.wall_ns)
            .context("adding histograms of quanta")?;
        self.cpu_ns
            .add(&other.cpu_ns)
            .context("adding histograms of quanta")
    }
}

impl Trace {
    fn record(&mut self, kernel: &'static str, took: clock::Times) -> Result<()> {
        let quanta = self.quanta(kernel)?;
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        quanta.cpu += took.cpu;
        quanta
            .wall_ns
            .record(ns(took.wall))
            .context("recording a quantum")?;
        quanta
            .cpu_ns
            .record(ns(took.cpu))
            .context("recording a quantum")
    }

    fn quanta(&mut self, kernel: &'static str) -> Result<&mut Quanta> {
        Ok(match self.kernels.entry(kernel) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(Quanta::new()?),
        })
    }

    /// Adds the quanta of another account to this one.
    pub(crate) fn add(&mut self, other: &Trace) -> Result<()> {
        other
            .kernels
            .iter()
            .try_for_each(|(kernel, quanta)| self.quanta(kernel)?.add(quanta))
    }

    /// Each kernel's quanta, the one that took the most time first.
    pub(crate) fn by_kernel(&self) -> Vec<(&'static str, &Quanta)> {
        let mut kernels: Vec<_> = self
            .kernels
            .iter()
            .map(|(&name, quanta)| (name, quanta))
            .collect();
        kernels.sort_by_key(|(_, quanta)| std::cmp::Reverse(quanta.cpu));
        kernels
    }

    /// All kernels together.
    pub(crate) fn total(&self) -> Result<Quanta> {
        let mut total = Quanta::new()?;
        for quanta in self.kernels.values() {
            total.add(quanta)?;
        }
        Ok(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(us: u64) -> clock::Times {
        clock::Times {
            wall: Duration::from_micros(2 * us),
            cpu: Duration::from_micros(us),
        }
    }

    #[test]
    fn accounts_add_up() {
        let (mut first, mut second) = (Trace::default(), Trace::default());
        first.record("ntt", took(100)).expect("small");
        second.record("ntt", took(300)).expect("small");
        second.record("msm", took(5000)).expect("small");
        first.add(&second).expect("equal histograms");
        let kernels = first.by_kernel();
        assert_eq!(
            kernels.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["msm", "ntt"]
        );
        assert_eq!(kernels[1].1.cpu, Duration::from_micros(400));
        let total = first.total().expect("equal histograms");
        assert_eq!((total.cpu_ns.len(), total.wall_ns.len()), (3, 3));
        assert_eq!(total.cpu, Duration::from_micros(5400));
        assert!(total.wall_ns.max() >= 10_000_000);
    }

    /// Stages of lanes of quanta that check the order in which they are run.
    struct Steps {
        left: Vec<Vec<AtomicUsize>>,
        opened: AtomicUsize,
        fail_at: Option<(usize, usize)>,
    }

    impl Steps {
        fn new(shape: &[&[usize]], fail_at: Option<(usize, usize)>) -> Steps {
            let lane = |&quanta: &usize| AtomicUsize::new(quanta);
            let left = shape
                .iter()
                .map(|stage| stage.iter().map(lane).collect())
                .collect();
            Steps {
                left,
                opened: AtomicUsize::new(0),
                fail_at,
            }
        }
    }

    impl Plan for Steps {
        fn stages(&self) -> usize {
            self.left.len()
        }

        fn kernel(&self, _: usize) -> &'static str {
            "steps"
        }

        fn open(&self, stage: usize) -> Result<usize, DeviceError> {
            assert_eq!(self.opened.fetch_add(1, Ordering::SeqCst), stage);
            for earlier in self.left[..stage].iter().flatten() {
                assert_eq!(
                    earlier.load(Ordering::SeqCst),
                    0,
                    "a stage opened too early"
                );
            }
            Ok(self.left[stage].len())
        }

        fn run(&self, stage: usize, lane: usize) -> Result<Progress, DeviceError> {
            if self.fail_at == Some((stage, lane)) {
                return Err(DeviceError::Lane {
                    stage,
                    lane,
                    why: "as the test asked",
                });
            }
            let before = self.left[stage][lane].fetch_sub(1, Ordering::SeqCst);
            assert_ne!(before, 0, "a lane ran beyond its end");
            Ok(if before == 1 {
                Progress::Done
            } else {
                Progress::More
            })
        }

        fn point(&self) -> Option<Vec<u8>> {
            None
        }
    }

    #[test]
    fn threads_that_work_together_have_a_processor_each_and_give_it_back() {
        let allowed = || sched_getaffinity(Pid::from_raw(0)).expect("our own processors");
        let count = |set: &CpuSet| {
            (0..CpuSet::count())
                .filter(|&cpu| set.is_set(cpu).expect("within the set"))
                .count()
        };
        let before = allowed();
        let threads = count(&before).max(2);
        let gate = Barrier::new(threads);
        let sets = together(threads, |thread| {
            gate.wait();
            (thread, allowed())
        });
        for (index, (thread, set)) in sets.iter().enumerate() {
            assert_eq!(index, *thread);
            assert_eq!(count(set), 1);
        }
        assert_eq!(sets[0].1 == sets[1].1, count(&before) == 1);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn every_lane_of_every_stage_runs_to_its_end() {
        for threads in [1, 2, 5] {
            let steps = Steps::new(&[&[3, 1, 4], &[1], &[5, 9]], None);
            plan(&steps, threads).expect("no stage fails");
            assert!(
                steps
                    .left
                    .iter()
                    .flatten()
                    .all(|left| left.load(Ordering::SeqCst) == 0)
            );
        }
    }

    #[test]
    fn an_error_ends_it_for_all() {
        for threads in [1, 2, 5] {
            let steps = Steps::new(&[&[3, 1], &[1, 1], &[1]], Some((1, 0)));
            let error = plan(&steps, threads).expect_err("a lane of stage 1 fails");
            assert!(matches!(
                error,
                DeviceError::Lane {
                    stage: 1,
                    lane: 0,
                    ..
                }
            ));
            assert_eq!(
                steps.left[2][0].load(Ordering::SeqCst),
                1,
                "stage 2 must not run"
            );
        }
    }
}
