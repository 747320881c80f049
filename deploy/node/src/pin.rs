//! Which thread runs on which core, and under which policy.
//!
//! Threads are pinned one by one: several busy threads that are merely allowed on the same set of
//! cores can all end up on one of them, and on isolated cores nothing ever moves them apart. So
//! the placement is computed once, from the cores that this process may use, and every thread
//! then asks for exactly its own.
//!
//! | allowed cores | arbiter | rpc, background, devices' hosts | workers |
//! |---|---|---|---|
//! | 1 to 3 | the last | any | every core |
//! | 4 or more | the first | the second, and one more for each device where there are 8 cores for each | every other |
//!
//! A worker that never blocks and runs under SCHED_FIFO starves whatever shares its core: what is
//! left to the others is the kernel's fair server, 50 ms in each second. So workers ask for
//! SCHED_FIFO only where no thread that they depend on lives on their cores; elsewhere they stay
//! normal. The arbiter asks for it everywhere, since it sleeps unless there is something to
//! decide. `realtime` in the configuration says otherwise. What the kernel refuses (no CAP_SYS_NICE, a cgroup without a real-time budget) is said
//! in plain words in the log, in `/readyz` and as `policy` in `pool_statusV1`; the box works
//! without it and is slower to hand over.
//!
//! This file is the only one that calls `sched_setscheduler`, for which nix has no wrapper.

use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use serde::Deserialize;
use thiserror::Error;

/// Who runs where. See the table at the top of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// The arbiter's core.
    pub arbiter: usize,
    /// The cores of the RPC thread and of the threads that prepare, check and reap.
    pub background: Vec<usize>,
    /// One core a worker.
    pub workers: Vec<usize>,
    /// Whether workers share cores with threads that they depend on.
    pub shared: bool,
}

/// What one thread asked for and got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The kernel's number of the thread.
    pub thread: i32,
    /// The policy that the thread runs under now: "fifo 50" or "normal".
    pub policy: String,
    /// What was asked for and refused, in words; empty where all was granted.
    pub refused: Vec<String>,
}

/// Why threads could not be placed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PinError {
    /// More workers than cores: two workers on one core only take turns.
    #[error("{got} workers asked for; this process may use {expected} cores")]
    Workers {
        /// Cores that the process may use.
        expected: usize,
        /// Workers asked for.
        got: usize,
    },
    /// The kernel did not say which cores may be used.
    #[error("reading the affinity of this process: {0}")]
    Affinity(Errno),
    /// The kernel named no core at all.
    #[error("this process may use no core")]
    NoCore,
}

/// Which threads are to stand above other programs, under SCHED_FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Realtime {
    /// What has shown the smallest maximum: see the top of this file.
    #[default]
    Auto,
    /// None.
    None,
    /// The arbiter.
    Arbiter,
    /// The arbiter and, below it, the workers.
    Workers,
}

impl Realtime {
    /// The priorities of the arbiter and of a worker.
    pub fn priorities(self, placement: &Placement) -> [Option<i32>; 2] {
        let arbiter = Some(ARBITER_PRIORITY);
        match self {
            Realtime::None => [None, None],
            Realtime::Arbiter => [arbiter, None],
            Realtime::Auto if placement.shared => [arbiter, None],
            Realtime::Auto | Realtime::Workers => [arbiter, Some(WORKER_PRIORITY)],
        }
    }
}

/// SCHED_FIFO priority of the arbiter: above the workers, below the kernel's own threads that
/// people raise by hand (they start at 80 or so).
const ARBITER_PRIORITY: i32 = 60;
/// SCHED_FIFO priority of a worker.
const WORKER_PRIORITY: i32 = 50;

impl Placement {
    /// Places threads on `allowed` cores; `workers` is how many workers were asked for, all that
    /// the table at the top gives beside so many `devices` if `None`.
    pub fn plan(
        allowed: &[usize],
        workers: Option<usize>,
        devices: usize,
    ) -> Result<Placement, PinError> {
        let (Some(&first), Some(&last)) = (allowed.first(), allowed.last()) else {
            return Err(PinError::NoCore);
        };
        let spare = if allowed.len() >= OWN_CORES_MIN {
            2 + devices.min(allowed.len() / CORES_A_DEVICE)
        } else {
            0
        };
        let count = workers.unwrap_or(allowed.len() - spare);
        if count == 0 || count > allowed.len() {
            return Err(PinError::Workers {
                expected: allowed.len(),
                got: count,
            });
        }
        // Workers take the highest cores, so that the lowest stay free as long as possible:
        // interrupts and the kernel's own work tend to live there.
        let cut = allowed.len() - count;
        let workers = allowed[cut..].to_vec();
        Ok(match &allowed[..cut] {
            [] => Placement {
                arbiter: last,
                background: allowed.to_vec(),
                workers,
                shared: true,
            },
            [only] => Placement {
                arbiter: *only,
                background: vec![*only],
                workers,
                shared: false,
            },
            [_, rest @ ..] => Placement {
                arbiter: first,
                background: rest.to_vec(),
                workers,
                shared: false,
            },
        })
    }
}

/// The cores that this process may use, lowest first.
pub fn allowed_cores() -> Result<Vec<usize>, PinError> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(PinError::Affinity)?;
    Ok((0..CpuSet::count())
        .filter(|core| set.is_set(*core) == Ok(true))
        .collect())
}

/// Ties the calling thread to `cores` and, if `fifo` names a priority, asks for SCHED_FIFO.
/// Refusals are not errors: they are reported, and the thread goes on as it is.
pub fn settle(cores: &[usize], fifo: Option<i32>) -> Standing {
    let mut refused = Vec::new();
    if let Err(errno) = pin(cores) {
        refused.push(format!("affinity to cores {cores:?}: {}", errno.desc()));
    }
    let mut policy = String::from("normal");
    if let Some(priority) = fifo {
        match set_fifo(priority) {
            Ok(()) => policy = format!("fifo {priority}"),
            Err(errno) => refused.push(format!("SCHED_FIFO {priority}: {}", errno.desc())),
        }
    }
    Standing {
        thread: gettid().as_raw(),
        policy,
        refused,
    }
}

/// Locks what the process has mapped so far into memory, so that neither a stack nor a mailbox is
/// ever paged in while somebody waits for a core. Called once, when all threads stand and before
/// any key is loaded; never with MCL_FUTURE, which would pin whole mapped keys.
pub fn lock_memory() -> Result<(), String> {
    use nix::sys::mman::{MlockAllFlags, mlockall};
    mlockall(MlockAllFlags::MCL_CURRENT).map_err(|errno| format!("locked memory: {}", errno.desc()))
}

fn pin(cores: &[usize]) -> Result<(), Errno> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

#[allow(unsafe_code)]
fn set_fifo(priority: i32) -> Result<(), Errno> {
    let param = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: `param` lives across the call, which only reads it; 0 names the calling thread.
    Errno::result(unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const param) })
        .map(drop)
}

/// From this many cores on, arbiter and RPC have cores of their own.
const OWN_CORES_MIN: usize = 4;
/// A device's thread has a core of the background to itself where there are so many cores for each device: it copies
/// witnesses and waits for fences, and the RPC thread must not stand behind it when a peak begins.
const CORES_A_DEVICE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_cores_all_work_and_are_shared() {
        let two = Placement::plan(&[4, 9], None, 0).expect("two cores can be placed");
        assert_eq!(two.workers, [4, 9]);
        assert_eq!(two.arbiter, 9);
        assert_eq!(two.background, [4, 9]);
        assert!(two.shared);
    }

    #[test]
    fn many_cores_keep_arbiter_and_rpc_apart_from_workers() {
        let eight = Placement::plan(&[0, 1, 2, 3, 4, 5, 6, 7], None, 0).expect("placed");
        assert_eq!(eight.arbiter, 0);
        assert_eq!(eight.background, [1]);
        assert_eq!(eight.workers, [2, 3, 4, 5, 6, 7]);
        assert!(!eight.shared);
        let cores: Vec<_> = (0..16).collect();
        let background = |devices| {
            let placed = Placement::plan(&cores, None, devices).expect("placed");
            placed.background
        };
        assert_eq!(background(0), [1]);
        assert_eq!(background(1), [1, 2]);
        // Not most of a box for its devices.
        assert_eq!(background(8), [1, 2, 3]);
        let asked = Placement::plan(&[0, 1, 2, 3], Some(3), 0).expect("placed");
        assert_eq!(asked.arbiter, 0);
        assert_eq!(asked.background, [0]);
        assert_eq!(asked.workers, [1, 2, 3]);
    }

    #[test]
    fn more_workers_than_cores_and_no_worker_are_refused() {
        for got in [0, 3] {
            assert_eq!(
                Placement::plan(&[0, 1], Some(got), 0),
                Err(PinError::Workers { expected: 2, got })
            );
        }
        assert_eq!(Placement::plan(&[], None, 0), Err(PinError::NoCore));
    }

    #[test]
    fn workers_are_real_time_only_where_nothing_they_need_shares_their_cores() {
        let plan = |cores: &[usize], workers| Placement::plan(cores, workers, 0).expect("placed");
        let (shared, own) = (plan(&[0, 1], None), plan(&[0, 1], Some(1)));
        let [arbiter, worker] = [Some(ARBITER_PRIORITY), Some(WORKER_PRIORITY)];
        assert_eq!(Realtime::Auto.priorities(&shared), [arbiter, None]);
        assert_eq!(Realtime::Auto.priorities(&own), [arbiter, worker]);
        assert_eq!(Realtime::Workers.priorities(&shared), [arbiter, worker]);
        assert_eq!(Realtime::Arbiter.priorities(&own), [arbiter, None]);
        assert_eq!(Realtime::None.priorities(&own), [None, None]);
    }

    #[test]
    fn a_settled_thread_runs_on_its_core() {
        let allowed = allowed_cores().expect("the kernel answers");
        let core = *allowed.last().expect("at least one core");
        std::thread::spawn(move || {
            let standing = settle(&[core], None);
            assert_eq!(standing.refused, Vec::<String>::new());
            assert_eq!(standing.policy, "normal");
            assert_eq!(allowed_cores(), Ok(vec![core]));
        })
        .join()
        .expect("the thread's assertions hold");
    }
}
