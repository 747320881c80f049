//! The reaper: where finished jobs are freed.
//!
//! A job holds vectors of the domain's size and is overwritten with zeros when it goes: hundreds
//! of milliseconds for a large one. That must happen neither on a worker nor on the threads that
//! answer. So whoever is done with a job gives its reference to the reaper, which keeps one of each
//! job until it is the only one left and frees it on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::board::RunningJob;

/// Where to hand jobs in. Handing in allocates; it is for threads that may.
pub type Grave = Sender<Arc<RunningJob>>;

/// The thread's side.
pub struct Reaper<T = RunningJob> {
    jobs: Receiver<Arc<T>>,
}

/// A reaper and the way to it.
pub fn reaper<T>() -> (Sender<Arc<T>>, Reaper<T>) {
    let (grave, jobs) = channel();
    (grave, Reaper { jobs })
}

impl<T> Reaper<T> {
    /// Frees jobs until nobody is left who could hand one in.
    pub fn run(self) {
        let mut kept = Kept(Vec::new());
        loop {
            let next = if kept.0.is_empty() {
                self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.jobs.recv_timeout(LOOK_AGAIN)
            };
            match next {
                Ok(job) => kept.take(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            kept.free();
        }
    }
}

/// Jobs that others may still hold, one reference of each.
struct Kept<T>(Vec<Arc<T>>);

impl<T> Kept<T> {
    /// Two references here to one job would keep each other for ever.
    fn take(&mut self, job: Arc<T>) {
        if !self.0.iter().any(|other| Arc::ptr_eq(other, &job)) {
            self.0.push(job);
        }
    }

    /// Frees what nobody else holds. Nobody makes a new reference to a job that is out of its slot,
    /// so one that is the last stays the last.
    fn free(&mut self) {
        self.0.retain(|job| Arc::strong_count(job) > 1);
    }
}

/// A worker lets go of a job at the end of its quantum, a few milliseconds at most.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_freed_with_its_last_holder_however_many_hand_it_in() {
        let mut kept = Kept(Vec::new());
        let job = Arc::new("a job");
        let watched = Arc::downgrade(&job);
        let worker = Arc::clone(&job);
        kept.take(Arc::clone(&job));
        kept.take(job);
        kept.free();
        assert!(watched.strong_count() > 0, "a worker has it");
        drop(worker);
        kept.free();
        assert_eq!(watched.strong_count(), 0);
    }
}
