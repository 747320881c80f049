//! A small executor: some threads and one queue carry one proof to its end.
//!
//! For the command line and for tests. A box that serves tenants has workers of its own, pinned
//! and reallocated between quanta; here the threads live as long as the proof, and a lock around
//! the queue is fine because it is taken once a lane, not once a quantum.
//!
//! Tasks that a finished lane opens go to the front, those of the start to the back: the longest
//! path, product to H, is then never behind the sums that only wait to fill the threads.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::blinding::Blinding;
use super::job::{Job, ProveError, Step, Task};
use super::key::ProvingKey;
use crate::format::Wtns;
use crate::format::json::{Proof, PublicInputs};

/// Proves on `threads` new threads and waits. `progress` is told, on the calling thread, how
/// many of the proof's stages have ended and how many there are; it is called at each change
/// that it is not too slow to see, and at the end.
///
/// On a device with silicon beside the host's, a proof that came out wrong, or was lost with some of it, is made once more on
/// the host alone. If one that was wrong is right then, the device is told ([`Device::distrust`]).
///
/// [`Device::distrust`]: caldera_kernels::Device::distrust
pub fn prove(
    key: &Arc<ProvingKey>,
    witness: Wtns,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Proof, PublicInputs), ProveError> {
    if threads == 0 {
        return Err(ProveError::Threads);
    }
    let device = key.device();
    let was_mixed = device.is_mixed();
    let job = Job::new(key, witness.clone(), Blinding::random(key.curve())?)?;
    // One more for each device, which waits for its fences most of the time.
    let first = match run(&job, threads + device.beside().len(), progress) {
        Err(error) if was_mixed && error.may_be_silicon() => error,
        result => return result,
    };
    // The witness is to blame, or silicon beside the host's: the host alone can tell.
    drop(job);
    let job = Job::new_on_host(key, witness, Blinding::random(key.curve())?)?;
    let proof = run(&job, threads, progress)?;
    if first.is_wrong_result() {
        device.distrust(&first.to_string());
    }
    Ok(proof)
}

/// Carries a job that has not been started to its end.
pub(super) fn run(
    job: &Job,
    threads: usize,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Proof, PublicInputs), ProveError> {
    let mut queue = VecDeque::with_capacity(job.tasks_max());
    job.start(&mut |task| queue.push_back(task))?;
    let crew = Crew {
        job,
        state: Mutex::new(State {
            queue,
            result: None,
            stages_seen: 0,
        }),
        work: Condvar::new(),
        news: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| crew.work());
        }
        crew.watch(progress)
    })
    .and_then(|()| job.proof().ok_or(ProveError::Cancelled))
}

struct Crew<'a> {
    job: &'a Job,
    state: Mutex<State>,
    /// There is a task in the queue, or a result.
    work: Condvar,
    /// A stage has ended, or there is a result.
    news: Condvar,
}

struct State {
    queue: VecDeque<Task>,
    result: Option<Result<(), ProveError>>,
    stages_seen: usize,
}

impl Crew<'_> {
    /// One thread: a task from the queue, its quanta to the end of its lane, the tasks that this
    /// opened into the queue.
    fn work(&self) {
        // A panic in a kernel must not leave the others waiting for tasks that never come.
        let _guard = EndOnPanic(self);
        let mut opened = Vec::with_capacity(self.job.tasks_max());
        while let Some(task) = self.next() {
            let result = loop {
                match self.job.run(task, &mut |task| opened.push(task)) {
                    Ok(Step::Again) => {}
                    Ok(Step::LaneEnded) => break None,
                    Ok(Step::Finished) => break Some(Ok(())),
                    Err(error) => break Some(Err(error)),
                }
            };
            let mut state = self.lock();
            for task in opened.drain(..).rev() {
                state.queue.push_front(task);
                self.work.notify_one();
            }
            if let Some(result) = result {
                self.end(&mut state, result);
            }
            let stages = self.job.nodes_done();
            if stages != state.stages_seen {
                state.stages_seen = stages;
                self.news.notify_all();
            }
        }
    }

    /// The next task, or `None` when there is a result.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if state.result.is_some() {
                return None;
            }
            if let Some(task) = state.queue.pop_front() {
                return Some(task);
            }
            state = self
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the result and tells of progress. The lock is not held while it is told.
    fn watch(&self, progress: &mut dyn FnMut(usize, usize)) -> Result<(), ProveError> {
        let mut told = 0;
        loop {
            let mut state = self.lock();
            while state.result.is_none() && state.stages_seen == told {
                state = self
                    .news
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let result = state.result.clone();
            told = state.stages_seen.max(told);
            drop(state);
            progress(self.job.nodes_done(), self.job.nodes());
            if let Some(result) = result {
                return result;
            }
        }
    }

    /// Records the first result and wakes everybody.
    fn end(&self, state: &mut State, result: Result<(), ProveError>) {
        state.result.get_or_insert(result);
        self.work.notify_all();
        self.news.notify_all();
    }

    /// The state is plain data that is whole between any two statements, so a poisoned lock is
    /// as good as another.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct EndOnPanic<'a, 'b>(&'a Crew<'b>);

impl Drop for EndOnPanic<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.job.cancel();
            let mut state = self.0.lock();
            self.0.end(&mut state, Err(ProveError::Cancelled));
        }
    }
}
