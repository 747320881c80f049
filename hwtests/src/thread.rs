//! Threads that sit on one processor each, and the one system call that `nix` does not wrap.

use std::sync::Barrier;
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// How a thread is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// SCHED_OTHER.
    Normal,
    /// SCHED_FIFO at the priority that cyclictest uses for its own threads.
    Fifo,
}

/// Gives the calling thread, and all that it starts, every processor that the control group allows, whatever affinity it
/// was started with. On a box that is provisioned a shell has the system's processors alone, and those to be tried are the
/// workers'. What is refused shows in [`allowed`].
pub(crate) fn take_all() {
    let mut set = CpuSet::new();
    for cpu in 0..CpuSet::count() {
        // In range by the bound above.
        let _ = set.set(cpu);
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// The processors that this process may use.
pub(crate) fn allowed() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("affinity of this process")?;
    Ok((0..CpuSet::count())
        .filter(|&cpu| set.is_set(cpu).unwrap_or(false))
        .collect())
}

/// Moves the calling thread to one processor.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .with_context(|| format!("processor {cpu} in an affinity mask"))?;
    sched_setaffinity(Pid::from_raw(0), &set)
        .with_context(|| format!("moving a thread to processor {cpu}"))
}

/// Sets the calling thread's policy.
pub(crate) fn schedule(policy: Policy) -> Result<(), nix::Error> {
    let (number, priority) = match policy {
        Policy::Normal => (libc::SCHED_OTHER, 0),
        Policy::Fifo => (libc::SCHED_FIFO, FIFO_PRIORITY),
    };
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: 0 names the calling thread, and the pointer is to a live sched_param that the call
    // only reads.
    let answer = unsafe { libc::sched_setscheduler(0, number, &parameters) };
    nix::errno::Errno::result(answer).map(drop)
}

/// Whether a thread of this process may run as SCHED_FIFO; tried on a thread that ends at once.
pub(crate) fn fifo_allowed() -> Result<(), String> {
    thread::spawn(|| schedule(Policy::Fifo).map_err(|errno| errno.to_string()))
        .join()
        .unwrap_or_else(|_| Err("the trial thread ended badly".to_owned()))
}

/// Runs `work` on each of `cpus` at once, each on a thread of its own, and returns what they
/// return, in that order. All start together. A thread that cannot be placed ends the whole.
pub(crate) fn on_each<T: Send>(
    cpus: &[usize],
    policy: Policy,
    work: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let start = Barrier::new(cpus.len());
    thread::scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .map(|&cpu| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    let placed = pin(cpu)
                        .and_then(|()| schedule(policy).context("setting the scheduling policy"));
                    // Reached on failure too: the others wait for all.
                    start.wait();
                    placed.and_then(|()| work(cpu))
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
            })
            .collect()
    })
}

/// Below the kernel's own threads at 99, above everything that a user starts.
const FIFO_PRIORITY: i32 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_sits_where_it_was_put() {
        let cpus = allowed().expect("our own affinity");
        assert!(!cpus.is_empty());
        let seen = on_each(&cpus, Policy::Normal, |cpu| {
            Ok((
                cpu,
                nix::sched::sched_getcpu().context("asking where we are")?,
            ))
        })
        .expect("pinning to processors that are allowed");
        assert_eq!(seen.len(), cpus.len());
        for (asked, got) in seen {
            assert_eq!(asked, got);
        }
    }

    #[test]
    fn a_processor_that_is_not_there_is_an_error() {
        let absent = CpuSet::count() - 1;
        assert!(on_each(&[absent], Policy::Normal, |_| Ok(())).is_err());
    }
}
