//! The reaper: where finished jobs are freed.
//!
//! A job holds vectors of the domain's size and is overwritten with zeros when it goes: hundreds
//! of milliseconds for a large one. That must happen neither on a worker nor on the threads that
//! answer. So whoever is done with a job gives its reference to the reaper, which keeps it until
//! it is the only one left and frees it on a thread of its own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::board::RunningJob;

/// Where to hand jobs in. Handing in allocates; it is for threads that may.
pub type Grave = Sender<Arc<RunningJob>>;

/// The thread's side.
pub struct Reaper {
    jobs: Receiver<Arc<RunningJob>>,
}

/// A reaper and the way to it.
pub fn reaper() -> (Grave, Reaper) {
    let (grave, jobs) = channel();
    (grave, Reaper { jobs })
}

impl Reaper {
    /// Frees jobs until every [`Grave`] is gone.
    pub fn run(self) {
        let mut kept: Vec<Arc<RunningJob>> = Vec::new();
        loop {
            let next = if kept.is_empty() {
                self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                self.jobs.recv_timeout(LOOK_AGAIN)
            };
            match next {
                Ok(job) => kept.push(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Nobody makes a new reference to a job that is out of its slot, so one that is the
            // last stays the last.
            kept.retain(|job| Arc::strong_count(job) > 1);
        }
    }
}

/// A worker lets go of a job at the end of its quantum, a few milliseconds at most.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
