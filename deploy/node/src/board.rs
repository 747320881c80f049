//! What workers look at between two quanta: running jobs, each tenant's order, and who rests.
//!
//! Everything here is made once, at start, or by a thread that may allocate (the preparer), so
//! that the way from a demand to its first quantum neither allocates nor waits:
//!
//! - a *slot* holds one running job. The arbiter alone fills and empties slots. Workers read
//!   them through `arc-swap`, whose readers never wait for its writers.
//! - a *run order* lists the slots of one tenant, the job that is due first in front. The arbiter
//!   alone writes it, one word after another. A worker that reads while it is written may miss a
//!   job or see one twice; it sees the next state on its next look, because after each change the
//!   arbiter wakes the resting workers of that tenant.
//! - a *seat* belongs to one worker: whether it rests, and how to wake it.
//!
//! A job's tasks lie in several queues, one for each *place*: place 0 is for the cores, and each device has
//! one of its own, whose worker is the thread on the host that waits for its fences. A task that a device has
//! begun while its tenant held that device stays in its place when the device goes to somebody else, or is
//! lost; then the tenant's cores run it when they have nothing else to do, and so does the device's worker when it has
//! nothing of the new owner's. So nothing that has begun waits for a device to come back, nor keeps a device from others
//! because its tenant has no cores.
//!
//! Resting and waking is the classic pair: a worker first says that it rests, then looks once
//! more, then parks; who brings work first makes it visible, then looks who rests. Both put a
//! sequentially consistent fence between their two steps, so at least one of the two sees the
//! other, and no work is left while a worker that could run it sleeps.
//!
//! Who drops the last reference to a job frees hundreds of megabytes, which takes milliseconds.
//! That is never a worker: the arbiter sends the reference that it takes out of a slot to the
//! reaper, which keeps it until nobody else holds one.

use std::sync::Arc;
use std::sync::OnceLock;

use arc_swap::ArcSwapOption;
use caldera_prover::groth16::{Job, ProveError, Task};
use caldera_scheduler::{JobId, Nanos, TenantId};
use crossbeam::queue::ArrayQueue;

use crate::primitive::{AtomicBool, AtomicU32, AtomicU64, Ordering, Thread, current, fence, park};

/// All that workers share. See the top of this file.
pub struct Board {
    slots: Box<[ArcSwapOption<RunningJob>]>,
    orders: Box<[RunOrder]>,
    seats: Box<[Seat]>,
    /// How many of the seats, the first of them, are those of cores.
    cores: usize,
    stopping: AtomicBool,
}

/// A job that workers may run.
pub struct RunningJob {
    id: JobId,
    tenant: TenantId,
    job: Arc<Job>,
    /// Tasks that nobody runs at the moment, by place. Each holds [`Job::tasks_max`], so none is ever
    /// full.
    ready: Box<[ArrayQueue<u64>]>,
    ended: AtomicBool,
    panicked: AtomicBool,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
    tallies: Box<[Tally]>,
}

/// What one worker did for one job. Only that worker writes it.
pub struct Tally {
    kernels: [KernelTally; KERNELS_MAX],
    /// Nanoseconds of that which nobody is charged for.
    void: AtomicU64,
}

/// What one worker did for one job in one kernel.
#[derive(Default)]
pub struct KernelTally {
    name: OnceLock<&'static str>,
    quanta: AtomicU64,
    ns: AtomicU64,
    ns_max: AtomicU64,
    core_ns: AtomicU64,
}

/// The same, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelCount {
    /// The kernel.
    pub kernel: &'static str,
    /// Its quanta.
    pub quanta: u64,
    /// From the start of each to its end, summed, in nanoseconds.
    pub ns: u64,
    /// The longest of them.
    pub ns_max: u64,
    /// What they cost of cores, in nanoseconds: all of it for a core's worker, for a device's only while its thread ran,
    /// for while that waits for a fence its cores are somebody else's.
    pub core_ns: u64,
}

/// A worker's place.
struct Seat {
    resting: AtomicBool,
    thread: OnceLock<Thread>,
    /// The job that its last quantum was of, [`NO_JOB`] while it has none.
    job: AtomicU64,
    /// A copy of the owner in its mailbox, for those who look for somebody to wake.
    owner: AtomicU32,
}

/// The slots of one tenant's jobs, [`NO_SLOT`] after the last.
struct RunOrder {
    slots: Box<[AtomicU32]>,
}

impl Board {
    /// A board for so many cores, devices and tenants, with so many slots for running jobs. Workers are
    /// numbered through, those of cores first.
    pub fn new(cores: usize, devices: usize, tenants: usize, slots: usize) -> Board {
        Board {
            cores,
            slots: (0..slots).map(|_| ArcSwapOption::empty()).collect(),
            orders: (0..tenants)
                .map(|_| RunOrder {
                    slots: (0..slots).map(|_| AtomicU32::new(NO_SLOT)).collect(),
                })
                .collect(),
            seats: (0..cores + devices)
                .map(|_| Seat {
                    resting: AtomicBool::new(false),
                    thread: OnceLock::new(),
                    job: AtomicU64::new(NO_JOB),
                    owner: AtomicU32::new(NOBODY),
                })
                .collect(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Puts a job into an empty slot, or takes the one that is there out. Arbiter only. What
    /// comes back must go to the reaper.
    pub fn fill(&self, slot: usize, job: Option<Arc<RunningJob>>) -> Option<Arc<RunningJob>> {
        self.slots[slot].swap(job)
    }

    /// Writes a tenant's run order. Arbiter only.
    pub fn publish(&self, tenant: TenantId, order: impl Iterator<Item = usize>) {
        let words = &self.orders[tenant.0 as usize].slots;
        let mut order = order.map(|slot| slot as u32);
        for word in words {
            let slot = order.next().unwrap_or(NO_SLOT);
            word.store(slot, Ordering::Release);
            if slot == NO_SLOT {
                break;
            }
        }
    }

    /// Calls `look` with the jobs of a tenant in their order, until it answers.
    pub fn each_job<T>(
        &self,
        tenant: TenantId,
        mut look: impl FnMut(&Arc<RunningJob>) -> Option<T>,
    ) -> Option<T> {
        for word in &self.orders.get(tenant.0 as usize)?.slots {
            let slot = word.load(Ordering::Acquire);
            if slot == NO_SLOT {
                return None;
            }
            let held = self.slots[slot as usize].load();
            // A slot may have passed to another tenant's job since the order was read.
            if let Some(job) = held.as_ref().filter(|job| job.tenant == tenant)
                && let Some(found) = look(job)
            {
                return Some(found);
            }
        }
        None
    }

    /// The same with the jobs of all tenants.
    pub fn each_job_of_all<T>(
        &self,
        mut look: impl FnMut(&Arc<RunningJob>) -> Option<T>,
    ) -> Option<T> {
        let mut tenants = (0..self.orders.len()).map(|tenant| TenantId(tenant as u32));
        tenants.find_map(|tenant| self.each_job(tenant, &mut look))
    }

    /// Makes a worker known to those who wake it. Called by the worker, once.
    pub fn sit(&self, worker: usize) {
        let first = self.seats[worker].thread.set(current());
        assert!(first.is_ok(), "a seat belongs to one worker");
        // The first use of arc-swap on a thread allocates; that must not happen with work in hand.
        for slot in &self.slots {
            drop(slot.load());
        }
    }

    /// Parks the calling worker unless `look`, tried after it has said that it rests, finds a
    /// reason not to.
    pub fn rest(&self, worker: usize, look: impl FnOnce() -> bool) {
        let seat = &self.seats[worker];
        seat.job.store(NO_JOB, Ordering::Relaxed);
        seat.resting.store(true, Ordering::SeqCst);
        // Pairs with the fence in `wake`.
        fence(Ordering::SeqCst);
        if !look() && !self.stopping() {
            park();
        }
        seat.resting.store(false, Ordering::SeqCst);
    }

    /// Says who holds a worker now and wakes it. Arbiter only; called after the mailbox has the
    /// new owner.
    pub fn reseat(&self, worker: usize, owner: Option<TenantId>) {
        let owner = owner.map_or(NOBODY, |tenant| tenant.0);
        let before = self.seats[worker].owner.load(Ordering::Relaxed);
        self.seats[worker].owner.store(owner, Ordering::Release);
        // Pairs with the fence in `rest`.
        fence(Ordering::SeqCst);
        self.seats[worker].wake();
        if worker >= self.cores && before != owner && before != NOBODY {
            // What lies in the device's place is for that tenant's cores now.
            self.wake(TenantId(before), self.cores);
        }
    }

    /// Wakes up to `count` resting workers of a tenant's cores. Called after there is work for them.
    pub fn wake(&self, tenant: TenantId, count: usize) {
        // Pairs with the fence in `rest`.
        fence(Ordering::SeqCst);
        let mut left = count;
        for seat in &self.seats[..self.cores] {
            if left == 0 {
                return;
            }
            if seat.owner.load(Ordering::Acquire) == tenant.0 && seat.wake() {
                left -= 1;
            }
        }
    }

    /// Wakes the resting workers of the devices that a tenant holds. Called after its run order has changed.
    pub fn wake_devices(&self, tenant: TenantId) {
        // Pairs with the fence in `rest`.
        fence(Ordering::SeqCst);
        for seat in &self.seats[self.cores..] {
            if seat.owner.load(Ordering::Acquire) == tenant.0 {
                seat.wake();
            }
        }
    }

    /// Wakes somebody for a task that has come to a place of a tenant's job.
    pub fn wake_place(&self, tenant: TenantId, place: usize) {
        if place == CORES {
            return self.wake(tenant, 1);
        }
        // Pairs with the fences in `rest` and `reseat`: either the owner that is read here is the newest,
        // or whoever is woken by `reseat` sees the task.
        fence(Ordering::SeqCst);
        let seat = &self.seats[self.cores + place - 1];
        let owner = seat.owner.load(Ordering::Acquire);
        if owner != NOBODY {
            // As its owner's, or as a guest's.
            seat.wake();
        }
        if owner != tenant.0 {
            self.wake(tenant, 1);
        }
    }

    /// The place whose tasks a worker runs first.
    pub fn place(&self, worker: usize) -> usize {
        (worker + 1).saturating_sub(self.cores)
    }

    /// Which places a tenant may begin work at: a bit each, always that of the cores, and those of the
    /// devices that it holds.
    pub fn places(&self, tenant: TenantId) -> u64 {
        let devices = self.seats[self.cores..].iter().zip(CORES + 1..);
        let held = devices.filter(|(seat, _)| seat.owner.load(Ordering::Acquire) == tenant.0);
        held.fold(1 << CORES, |places, (_, place)| places | 1 << place)
    }

    /// The tenant that holds a worker.
    pub fn holder(&self, worker: usize) -> Option<TenantId> {
        let owner = self.seats[worker].owner.load(Ordering::Acquire);
        (owner != NOBODY).then_some(TenantId(owner))
    }

    /// Whether a worker has said that it rests, and nobody has woken it since.
    pub fn is_resting(&self, worker: usize) -> bool {
        self.seats[worker].resting.load(Ordering::SeqCst)
    }

    /// Whether there are devices beside the cores.
    pub fn has_devices(&self) -> bool {
        self.seats.len() > self.cores
    }

    /// The places of a tenant's jobs that a worker takes tasks from, in that order: its own, and for a
    /// core those of the devices that somebody else holds.
    pub fn places_of(&self, worker: usize, tenant: TenantId) -> impl Iterator<Item = usize> {
        let own = self.place(worker);
        let held = match own {
            CORES => self.places(tenant),
            _ => u64::MAX,
        };
        let others =
            (CORES + 1..=self.seats.len() - self.cores).filter(move |place| held >> place & 1 == 0);
        std::iter::once(own).chain(others)
    }

    /// Notes which job a worker is busy with, for those who ask.
    pub fn note(&self, worker: usize, job: JobId) {
        self.seats[worker].job.store(job.0, Ordering::Relaxed);
    }

    /// The job that a worker was last seen busy with.
    pub fn busy_with(&self, worker: usize) -> Option<JobId> {
        let job = self.seats[worker].job.load(Ordering::Relaxed);
        (job != NO_JOB).then_some(JobId(job))
    }

    /// Tells all workers to end after the quantum that they are in.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        for seat in &self.seats {
            seat.wake();
        }
    }

    /// Whether the box is stopping.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

impl Seat {
    /// Wakes its worker if that rests; true if it did.
    fn wake(&self) -> bool {
        if !self.resting.load(Ordering::SeqCst) || !self.resting.swap(false, Ordering::SeqCst) {
            return false;
        }
        // A worker sits before it rests for the first time.
        self.thread
            .get()
            .inspect(|thread| thread.unpark())
            .is_some()
    }
}

impl RunningJob {
    /// Opens a job for workers: its first tasks are ready when this returns. Allocates; called by
    /// the preparer.
    pub fn new(
        id: JobId,
        tenant: TenantId,
        job: Arc<Job>,
        workers: usize,
    ) -> Result<RunningJob, ProveError> {
        let places = 1 + job.key().device().beside().len();
        let running = RunningJob {
            id,
            tenant,
            ready: (0..places)
                .map(|_| ArrayQueue::new(job.tasks_max()))
                .collect(),
            job,
            ended: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            first_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            tallies: (0..workers).map(|_| Tally::new()).collect(),
        };
        running.job.start(&mut |task| {
            running.offer(task);
        })?;
        Ok(running)
    }

    /// Its name.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The computation.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Leaves a task for whoever comes first; in which place.
    pub fn offer(&self, task: Task) -> usize {
        let place = self.job.member(task);
        let kept = self.ready[place].push(task.to_bits());
        assert!(kept.is_ok(), "the queue holds Job::tasks_max tasks");
        place
    }

    /// Takes a task from a place, if the job is still wanted.
    pub fn take(&self, place: usize) -> Option<Task> {
        if !self.wanted() {
            return None;
        }
        self.ready.get(place)?.pop().map(Task::from_bits)
    }

    /// Whether nobody has ended it yet.
    pub fn wanted(&self) -> bool {
        !self.ended.load(Ordering::Acquire)
    }

    /// Whether a task waits in a place that could be taken.
    pub fn has_ready(&self, place: usize) -> bool {
        self.wanted() && self.ready.get(place).is_some_and(|ready| !ready.is_empty())
    }

    /// Marks the job as ended; true for the one caller who did it, and who reports it.
    pub fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Marks that a quantum panicked.
    pub fn mark_panicked(&self) {
        self.panicked.store(true, Ordering::Release);
    }

    /// Whether a quantum panicked.
    pub fn panicked(&self) -> bool {
        self.panicked.load(Ordering::Acquire)
    }

    /// Counts a quantum of `worker`, what it cost of a core, and what of it and of those before was for nothing. Called
    /// by that worker only.
    pub fn count(
        &self,
        worker: usize,
        kernel: &'static str,
        [start, end]: [Nanos; 2],
        [core, void]: [Nanos; 2],
    ) {
        // Zero stands for never; the clock starts before the first thread, so it is past zero.
        let _ = self
            .first_ns
            .compare_exchange(0, start.0, Ordering::Relaxed, Ordering::Relaxed);
        self.last_ns.fetch_max(end.0, Ordering::Relaxed);
        self.tallies[worker].count(kernel, end.since(start).0, core.0);
        if void > Nanos::ZERO {
            self.tallies[worker].forfeit(void.0);
        }
    }

    /// When a worker first touched it.
    pub fn first_quantum(&self) -> Option<Nanos> {
        let first = self.first_ns.load(Ordering::Relaxed);
        (first != 0).then_some(Nanos(first))
    }

    /// When a worker last did.
    pub fn last_quantum(&self) -> Nanos {
        Nanos(self.last_ns.load(Ordering::Relaxed))
    }

    /// What each worker did for it.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }
}

impl Tally {
    fn new() -> Tally {
        Tally {
            kernels: std::array::from_fn(|_| KernelTally::default()),
            void: AtomicU64::new(0),
        }
    }

    /// One writer, so a load and a store are enough where an atomic addition would be needed.
    fn count(&self, kernel: &'static str, ns: u64, core_ns: u64) {
        let last = self.kernels.len() - 1;
        for (at, tally) in self.kernels.iter().enumerate() {
            let name = if at == last { OTHER } else { kernel };
            if *tally.name.get_or_init(|| name) != name {
                continue;
            }
            let add = |word: &AtomicU64, more: u64| {
                word.store(word.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            };
            add(&tally.quanta, 1);
            add(&tally.ns, ns);
            add(&tally.core_ns, core_ns);
            if ns > tally.ns_max.load(Ordering::Relaxed) {
                tally.ns_max.store(ns, Ordering::Relaxed);
            }
            return;
        }
    }

    fn forfeit(&self, ns: u64) {
        let before = self.void.load(Ordering::Relaxed);
        self.void.store(before + ns, Ordering::Relaxed);
    }

    /// What a tenant has been charged for by workers of one kind: all their quanta, without what is charged to nobody. That
    /// is noted by the worker that met the loss, and others may have spent it: so all are summed first.
    pub fn charged<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Nanos {
        let (mut all, mut void) = (0u64, 0u64);
        for tally in tallies {
            all += tally.kernels().map(|it| it.ns).sum::<u64>();
            void += tally.void.load(Ordering::Relaxed);
        }
        Nanos(all).since(Nanos(void))
    }

    /// What was counted, by kernel.
    pub fn kernels(&self) -> impl Iterator<Item = KernelCount> {
        self.kernels.iter().map_while(|tally| {
            let kernel = *tally.name.get()?;
            Some(KernelCount {
                kernel,
                quanta: tally.quanta.load(Ordering::Relaxed),
                ns: tally.ns.load(Ordering::Relaxed),
                ns_max: tally.ns_max.load(Ordering::Relaxed),
                core_ns: tally.core_ns.load(Ordering::Relaxed),
            })
        })
    }
}

/// The place of the cores: the host's, among a device's members.
pub const CORES: usize = 0;
const NO_SLOT: u32 = u32::MAX;
const NO_JOB: u64 = u64::MAX;
const NOBODY: u32 = u32::MAX;
/// A proof on the CPU has 20 kernels or so; what would not fit is counted under [`OTHER`].
const KERNELS_MAX: usize = 48;
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    /// One core meets the loss of what another one has spent.
    #[test]
    fn what_is_charged_to_nobody_is_taken_from_all_who_worked() {
        let tallies = [(); 3].map(|()| Tally::new());
        tallies[0].count("msm", 30, 30);
        tallies[0].forfeit(100);
        tallies[1].count("ntt", 150, 150);
        tallies[1].count("msm", 50, 50);
        assert_eq!(Tally::charged(&tallies), Nanos(130));
        assert_eq!(Tally::charged(&tallies[1..]), Nanos(200));
        // What is more than that is free later.
        assert_eq!(Tally::charged(&tallies[..1]), Nanos::ZERO);
    }
}
