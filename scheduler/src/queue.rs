//! Admission and order: which job has a place, which is prepared next, which runs first.
//!
//! A queue that is full refuses, and so does one whose tenant cannot count on finishing the job by
//! its deadline (the arbiter knows that); it never drops what it has accepted. The bounds are per tenant
//! (so that one cannot fill the box for the others) and for the box. Within a tenant the order is
//! the earliest deadline first, then arrival; a job without a deadline has the one that its class
//! implies, so a stream of urgent jobs cannot hold it back for ever. Between tenants there is no
//! order here: which tenant runs is a matter of cores, and `matching` decides that.
//!
//! A job is `Queued` (a place and nothing more), then `Preparing` (its witness is on its way into
//! memory), then `Ready`. The number of the last two is bounded for each tenant, because each
//! holds a witness in memory. A job is prepared in the order above, but an urgent late-comer
//! waits for a slot: what has been prepared is not thrown out for it.
//!
//! Estimates ([`Queue::foresee`]) treat a tenant's cores as one fluid that serves its prepared jobs in order, each with as
//! many cores as it can use at most, which is what the workers do (each takes its next quantum from the first job that has
//! one). What is prepared keeps its slot to its end, so an urgent late-comer waits for one in an estimate too. An estimate
//! stands between a demand and the next one's hand-over, so it must not cost much however long the line is:
//!
//! - Where each job can use all that flows, as on a box whose proofs run on all of its cores, they run one after the other, and
//!   their ends are sums along the line.
//! - Else a line of up to `PLAYED_MAX` jobs is played, end by end.
//! - A longer one is given the ends that it has at the latest, and whoever comes before one with a deadline is taken to
//!   make the last of these late. That refuses what might do, and admits nothing that would not.
//!
//! Memory is set aside when the queue is made and when a tenant joins; nothing allocates between.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use thiserror::Error;

use crate::demand::{First, Reading};
use crate::matching::Rate;
use crate::pool::Kind;
use crate::{JobId, Nanos};

/// What a job is expected to cost, and what it can use of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Work {
    /// Time on one core, all quanta together; zero if nobody knows yet, and then the job is not
    /// refused for its deadline.
    pub core: Nanos,
    /// How many cores it can use at once; at least one.
    pub parallelism: u32,
    /// How many devices it can use at once beside the cores; it runs without any too.
    pub devices: u32,
    /// Bytes that it needs on each device that it uses: the tables of its key. With more than the
    /// smallest device of the box has, it uses none.
    pub device_memory: u64,
    /// Bytes of host memory that it holds from the moment at which it is prepared until it ends.
    pub host_memory: u64,
}

/// When a job is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// By the deadline that it came with.
    Deadline(Nanos),
    /// By the one that its class implies, which does nothing but give it a place in the order.
    Implied(Nanos),
}

/// Why a job is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum Refusal {
    /// Its tenant has as many unfinished jobs as its class allows.
    #[error("the tenant has {max} unfinished jobs, which is the most it may have")]
    TenantFull {
        /// That many.
        max: u32,
    },
    /// The box has as many unfinished jobs as its policy allows.
    #[error("the box has {max} unfinished jobs, which is the most it may have")]
    BoxFull {
        /// That many.
        max: u32,
    },
    /// The tenant is unknown.
    #[error("the tenant is unknown")]
    UnknownTenant,
    /// A job of that id is unfinished.
    #[error("a job of that id is here already")]
    DuplicateJob,
    /// The job says that it can use no core at all.
    #[error("expected a job that can use at least one core, got 0")]
    NoParallelism,
    /// The job needs more host memory than the box divides.
    #[error("expected at most {max} bytes of host memory, got {got}")]
    HostMemory {
        /// So many there are.
        max: u64,
        /// So many the job needs.
        got: u64,
    },
    /// The job could not be finished by its deadline with what its tenant can count on.
    #[error("it could not be finished before {earliest} on the box's clock")]
    DeadlineUnmeetable {
        /// When it could be, at the earliest.
        earliest: Nanos,
    },
}

/// How far a job has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobState {
    /// It has a place.
    Queued,
    /// Its witness is being brought into memory.
    Preparing,
    /// It can run, or is running.
    Ready,
}

/// The unfinished jobs of one box. Tenants are named by slots, which the arbiter hands out.
#[derive(Debug)]
pub struct Queue {
    jobs_max: u32,
    // SipHash with fixed keys: the same events give the same run, and job ids are ours.
    index: HashMap<JobId, Place, BuildHasherDefault<DefaultHasher>>,
    lines: Vec<Line>,
    arrivals: u64,
    foresight: Foresight,
}

/// Scratch memory for estimates.
#[derive(Debug, Default)]
struct Foresight {
    /// Ascending by [`Rank`].
    running: Vec<Running>,
    /// By place in the line: when each job would end without the new one, and with it.
    without: Vec<Nanos>,
    with: Vec<Nanos>,
    /// How many jobs have been looked at for estimates since the start.
    looked: u64,
}

/// How a line is foreseen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// One job after the other, for each can use all that flows. Ends are in core time.
    InTurn,
    /// End by end.
    Played,
    /// All that there is to do, at a rate that is never fallen short of while there is any.
    AtLatest(Rate),
}

/// A job in an estimate that has a slot.
#[derive(Debug, Clone, Copy)]
struct Running {
    /// Its place in the line; `None` for the new one.
    at: Option<usize>,
    rank: Rank,
    left: Nanos,
    parallelism: u32,
    rate: Rate,
}

/// One tenant's jobs.
#[derive(Debug, Default)]
struct Line {
    /// Ascending by [`Rank`].
    jobs: Vec<Job>,
    /// Ids of those that are ready, in the same order.
    ready: Vec<JobId>,
    preparing: u32,
    /// Host memory of those that are ready or preparing.
    host_memory: u64,
    queue_max: u32,
    prepared_max: u32,
    /// A bound of the tenant's own below `prepared_max`. What is prepared already stays when it falls.
    running_max: u32,
    /// The first job with a deadline.
    urgent: Option<Rank>,
    /// As many jobs as there were when the bound was last set: if it was set below that, they stay.
    kept: usize,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    id: JobId,
    rank: Rank,
    has_deadline: bool,
    state: JobState,
    work: Work,
    /// Core time that its tenant's units have given it, by the arbiter's reckoning.
    served: Nanos,
}

/// Where a job is: enough to find it by binary search.
#[derive(Debug, Clone, Copy)]
struct Place {
    slot: usize,
    rank: Rank,
}

/// Earlier runs first; no two jobs have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    due: Nanos,
    arrival: u64,
}

impl Queue {
    /// A queue for so many tenants and jobs.
    pub fn new(tenants_max: usize, jobs_max: u32) -> Queue {
        let mut lines = Vec::new();
        lines.resize_with(tenants_max, Line::default);
        Queue {
            jobs_max,
            // Twice the bound: a table that is at most half full clears out its tombstones in
            // place and never grows.
            index: HashMap::with_capacity_and_hasher(2 * jobs_max as usize, Default::default()),
            lines,
            arrivals: 0,
            foresight: Foresight::default(),
        }
    }

    /// Lets the tenant of a slot submit, within these bounds. Allocates them.
    pub fn open(&mut self, slot: usize, queue_max: u32, prepared_max: u32) {
        self.lines[slot] = Line {
            jobs: Vec::with_capacity(queue_max as usize),
            ready: Vec::with_capacity(prepared_max as usize),
            preparing: 0,
            host_memory: 0,
            queue_max,
            prepared_max,
            running_max: u32::MAX,
            urgent: None,
            kept: 0,
        };
        self.foresight
            .reserve(queue_max as usize, prepared_max as usize + 1);
    }

    /// Bounds how many jobs of a tenant are prepared or run at once, at one at least and never above what
    /// [`Queue::open`] was told. Those beyond it wait in line.
    pub fn bound_running(&mut self, slot: usize, running_max: u32) {
        self.lines[slot].running_max = running_max.max(1);
    }

    /// Gives the tenant of a slot another bound. Jobs that are above it stay. Allocates.
    pub fn rebound(&mut self, slot: usize, queue_max: u32) {
        let line = &mut self.lines[slot];
        line.queue_max = queue_max;
        line.kept = line.jobs.len();
        let more = (queue_max as usize).saturating_sub(line.jobs.len());
        line.jobs.reserve_exact(more);
        self.foresight.reserve(line.kept + more, 0);
    }

    /// Whether a job would be taken in.
    pub fn has_place(&self, slot: usize, id: JobId, work: Work) -> Result<(), Refusal> {
        if work.parallelism == 0 {
            return Err(Refusal::NoParallelism);
        }
        if self.index.contains_key(&id) {
            return Err(Refusal::DuplicateJob);
        }
        let line = &self.lines[slot];
        if line.jobs.len() >= line.queue_max as usize {
            return Err(Refusal::TenantFull {
                max: line.queue_max,
            });
        }
        if self.index.len() >= self.jobs_max as usize {
            return Err(Refusal::BoxFull { max: self.jobs_max });
        }
        Ok(())
    }

    /// Takes a job in.
    pub fn admit(&mut self, slot: usize, id: JobId, work: Work, due: Due) -> Result<(), Refusal> {
        self.has_place(slot, id, work)?;
        let line = &mut self.lines[slot];
        let (due, has_deadline) = match due {
            Due::Deadline(due) => (due, true),
            Due::Implied(due) => (due, false),
        };
        let rank = Rank {
            due,
            arrival: self.arrivals,
        };
        self.arrivals += 1;
        if has_deadline {
            line.urgent = Some(line.urgent.map_or(rank, |urgent| urgent.min(rank)));
        }
        let at = line.before(rank);
        let job = Job {
            id,
            rank,
            has_deadline,
            state: JobState::Queued,
            work,
            served: Nanos::ZERO,
        };
        line.jobs.insert(at, job);
        self.index.insert(id, Place { slot, rank });
        Ok(())
    }

    /// The next job of a tenant whose witness should be brought into memory, now marked as being
    /// prepared; `None` if none waits, all slots for witnesses are taken, or the job needs more
    /// than so many bytes of host memory.
    pub fn prepare(&mut self, slot: usize, host_memory: u64) -> Option<JobId> {
        let line = &mut self.lines[slot];
        let at = line.next()?;
        let job = &mut line.jobs[at];
        if job.work.host_memory > host_memory {
            return None;
        }
        job.state = JobState::Preparing;
        line.preparing += 1;
        line.host_memory += job.work.host_memory;
        Some(job.id)
    }

    /// What a tenant's prepared jobs hold of the host's memory.
    pub fn host_memory_held(&self, slot: usize) -> u64 {
        self.lines[slot].host_memory
    }

    /// What a tenant's jobs hold of the host's memory and could hold of it.
    pub fn host_memory(&self, slot: usize) -> HostMemory {
        let line = &self.lines[slot];
        let mut more = line.slots_free();
        let mut want = line.host_memory;
        for job in &line.jobs {
            if more == 0 {
                break;
            }
            if job.state == JobState::Queued {
                want = want.saturating_add(job.work.host_memory);
                more -= 1;
            }
        }
        HostMemory {
            held: line.host_memory,
            want,
            next: line.next().map(|at| line.jobs[at].work.host_memory),
        }
    }

    /// Marks a job that was being prepared as ready; its tenant's slot. `None` if there is no
    /// such job or it was not being prepared.
    pub fn ready(&mut self, id: JobId) -> Option<usize> {
        let place = *self.index.get(&id)?;
        let line = &mut self.lines[place.slot];
        let at = line.before(place.rank);
        if line.jobs[at].state != JobState::Preparing {
            return None;
        }
        line.jobs[at].state = JobState::Ready;
        line.preparing -= 1;
        let before = line.jobs[..at]
            .iter()
            .filter(|job| job.state == JobState::Ready)
            .count();
        line.ready.insert(before, id);
        Some(place.slot)
    }

    /// Takes a job out, whatever its state; its tenant's slot and that state.
    pub fn remove(&mut self, id: JobId) -> Option<(usize, JobState)> {
        let place = self.index.remove(&id)?;
        let line = &mut self.lines[place.slot];
        let at = line.before(place.rank);
        let job = line.jobs.remove(at);
        if line.urgent == Some(job.rank) {
            let next = line.jobs[at..].iter().find(|job| job.has_deadline);
            line.urgent = next.map(|job| job.rank);
        }
        match job.state {
            JobState::Queued => {}
            JobState::Preparing => line.preparing -= 1,
            JobState::Ready => line.ready.retain(|&ready| ready != id),
        }
        if job.state != JobState::Queued {
            line.host_memory -= job.work.host_memory;
        }
        Some((place.slot, job.state))
    }

    /// Takes out the first job of a tenant, whatever its state.
    pub fn remove_first(&mut self, slot: usize) -> Option<JobId> {
        let id = self.lines[slot].jobs.first()?.id;
        self.remove(id)?;
        Some(id)
    }

    /// A tenant has had so many cores for a span: its ready jobs are served in order, each on as many as it can use.
    /// Only estimates depend on it.
    pub fn serve(&mut self, slot: usize, mut cores: u32, span: Nanos) {
        let jobs = self.lines[slot].jobs.iter_mut();
        for job in jobs.filter(|job| job.state == JobState::Ready) {
            if cores == 0 {
                return;
            }
            let own = job.work.parallelism.min(cores);
            cores -= own;
            let core = span.0.saturating_mul(u64::from(own));
            job.served = job.served.plus(Nanos(core));
        }
    }

    /// The ready jobs of a tenant, in order.
    pub fn order(&self, slot: usize) -> &[JobId] {
        &self.lines[slot].ready
    }

    /// How many jobs of a tenant are queued, preparing and ready.
    pub fn lengths(&self, slot: usize) -> Lengths {
        let line = &self.lines[slot];
        let (all, ready) = (line.jobs.len() as u32, line.ready.len() as u32);
        Lengths {
            queued: all - ready - line.preparing,
            preparing: line.preparing,
            ready,
        }
    }

    /// How many unfinished jobs a tenant has.
    pub fn length(&self, slot: usize) -> usize {
        self.lines[slot].jobs.len()
    }

    /// What the tenant's queue says of its demand: how many jobs there are, and of the first that has
    /// a deadline when it is due and how long it needs if it has at most so many cores.
    pub fn reading(&self, slot: usize, cores: u32) -> Reading {
        let line = &self.lines[slot];
        Reading {
            jobs: line.jobs.len() as u32,
            first: line.urgent.map(|urgent| First {
                due: urgent.due,
                needs: line.jobs[line.before(urgent)].time_at(Rate::whole(cores)),
            }),
        }
    }

    /// How many units of a kind a tenant's prepared jobs could use together. Jobs that are still being
    /// prepared count: their units should be there when they are ready.
    pub fn demand(&self, slot: usize, kind: Kind) -> u32 {
        let prepared = self.prepared(slot);
        prepared.fold(0, |sum, work| sum.saturating_add(work.units(kind)))
    }

    /// The device memory that a tenant's prepared jobs could use together: of each device that a job
    /// can use, what it needs there, where there are so many.
    pub fn device_memory(&self, slot: usize, devices: u32) -> u64 {
        self.prepared(slot).fold(0, |sum, work| {
            let devices = u64::from(work.devices.min(devices));
            sum.saturating_add(work.device_memory.saturating_mul(devices))
        })
    }

    /// The most that a prepared job of a tenant needs on one device.
    pub fn tables(&self, slot: usize) -> u64 {
        let users = self.prepared(slot).filter(|work| work.devices > 0);
        users.map(|work| work.device_memory).max().unwrap_or(0)
    }

    fn prepared(&self, slot: usize) -> impl Iterator<Item = &Work> {
        let line = &self.lines[slot];
        // Prepared jobs stand near the front, so this seldom walks far.
        line.jobs
            .iter()
            .filter(|job| job.state != JobState::Queued)
            .take(line.preparing as usize + line.ready.len())
            .map(|job| &job.work)
    }

    /// The job's state and its position in its tenant's order.
    pub fn job(&self, id: JobId) -> Option<(usize, JobState, u32)> {
        let place = self.index.get(&id)?;
        let line = &self.lines[place.slot];
        let at = line.before(place.rank);
        Some((place.slot, line.jobs[at].state, at as u32))
    }

    /// What a job asks of the box; `None`, if there is no such job.
    pub fn work(&self, id: JobId) -> Option<Work> {
        let place = self.index.get(&id)?;
        let line = &self.lines[place.slot];
        Some(line.jobs[line.before(place.rank)].work)
    }

    /// The most cores that one of a tenant's jobs can use.
    pub fn parallelism(&self, slot: usize) -> u32 {
        let jobs = self.lines[slot].jobs.iter();
        jobs.map(|job| job.work.parallelism).max().unwrap_or(0)
    }

    /// How many of a tenant's jobs are due no later than that.
    pub fn ahead(&self, slot: usize, due: Nanos) -> u32 {
        let jobs = &self.lines[slot].jobs;
        jobs.partition_point(|job| job.rank.due <= due) as u32
    }

    /// How long it would take until a new job has ended that is due then, if its tenant were served at that rate; never, at no
    /// rate. Of what that means for others see [`Queue::harmed`].
    pub fn foresee(&mut self, slot: usize, work: Work, due: Nanos, rate: Rate) -> Nanos {
        let new = self.late_comer(work, due);
        let line = &self.lines[slot];
        let Foresight {
            running, looked, ..
        } = &mut self.foresight;
        match line.manner(work, rate) {
            Manner::InTurn => in_time(line.take_turns(Some(new), looked, &mut []), rate),
            Manner::Played => line.play(Some(new), rate, running, looked, &mut []),
            Manner::AtLatest(least) => {
                *looked += line.jobs.len() as u64;
                let all = line.jobs.iter().map(Job::left);
                in_time(all.fold(work.core, Nanos::plus), least)
            }
        }
    }

    /// When the last job with a deadline is due that would be on time without a new job that is due then, and not with it, if
    /// their tenant were served at that rate. `on_time` says of a span from now whether it ends by then.
    pub fn harmed(
        &mut self,
        slot: usize,
        work: Work,
        due: Nanos,
        rate: Rate,
        on_time: impl Fn(Nanos, Nanos) -> bool,
    ) -> Option<Nanos> {
        let new = self.late_comer(work, due);
        let line = &self.lines[slot];
        let Foresight {
            running,
            without,
            with,
            looked,
        } = &mut self.foresight;
        // Those before it have a slot, and the cores, before it has.
        let mut behind = line.jobs[line.before(new.rank)..].iter().rev();
        let last = behind.find(|job| job.has_deadline)?;
        let manner = line.manner(work, rate);
        for (new, ends) in [(None, &mut *without), (Some(new), &mut *with)] {
            ends.clear();
            ends.resize(line.jobs.len(), Nanos::MAX);
            match manner {
                Manner::InTurn => line.take_turns(new, looked, ends),
                Manner::Played => line.play(new, rate, running, looked, ends),
                Manner::AtLatest(_) => return Some(last.rank.due),
            };
        }
        let time = |end| match manner {
            Manner::InTurn => in_time(end, rate),
            Manner::Played | Manner::AtLatest(_) => end,
        };
        let jobs = line.jobs.iter().zip(without.iter().zip(&*with)).rev();
        let mut later = jobs.filter(|(job, (without, with))| job.has_deadline && with > without);
        let harmed = later.find(|(job, (without, with))| {
            let due = job.rank.due;
            !on_time(time(**with), due) && on_time(time(**without), due)
        });
        harmed.map(|(job, _)| job.rank.due)
    }

    /// A job that comes now.
    fn late_comer(&self, work: Work, due: Nanos) -> Running {
        Running {
            at: None,
            rank: Rank {
                due,
                arrival: self.arrivals,
            },
            left: work.core,
            parallelism: work.parallelism,
            rate: Rate::ZERO,
        }
    }

    /// How many jobs have been looked at for estimates since the start: what those have cost.
    pub fn looked(&self) -> u64 {
        self.foresight.looked
    }

    /// When the last of a tenant's jobs that came with a deadline is due.
    pub fn last_deadline(&self, slot: usize) -> Option<Nanos> {
        let mut jobs = self.lines[slot].jobs.iter();
        let last = jobs.rfind(|job| job.has_deadline);
        last.map(|job| job.rank.due)
    }

    /// What stands between a job that has a place and nothing more, and its tenant's cores; `None` if there is no such
    /// job, or it has more than a place.
    pub fn outlook(&self, id: JobId) -> Option<Outlook> {
        let place = *self.index.get(&id)?;
        let line = &self.lines[place.slot];
        let at = line.before(place.rank);
        let job = &line.jobs[at];
        let before = &line.jobs[..at];
        (job.state == JobState::Queued).then(|| Outlook {
            slot: place.slot,
            work: job.work,
            deadline: job.has_deadline.then_some(job.rank.due),
            before: before
                .iter()
                .fold(Nanos::ZERO, |sum, job| sum.plus(job.left())),
        })
    }

    /// When a tenant that is served at `rate` will have a place again: when its first job ends.
    pub fn place_after(&self, slot: usize, rate: Rate) -> Nanos {
        let first = self.lines[slot].jobs.first();
        first
            .map_or(Nanos::ZERO, |job| job.time_at(rate))
            .clamp(RETRY_MIN, RETRY_MAX)
    }

    /// Checks what must always hold; the text says what does not.
    pub fn check(&self) -> Result<(), String> {
        let total: usize = self.lines.iter().map(|line| line.jobs.len()).sum();
        if total != self.index.len() || total > self.jobs_max as usize {
            let (indexed, max) = (self.index.len(), self.jobs_max);
            return Err(format!(
                "{total} jobs in line, {indexed} in the index, at most {max}"
            ));
        }
        for (slot, line) in self.lines.iter().enumerate() {
            line.check()
                .map_err(|what| format!("slot {slot}: {what}"))?;
            for job in &line.jobs {
                let place = self.index.get(&job.id);
                if place.is_none_or(|p| p.slot != slot || p.rank != job.rank) {
                    return Err(format!("slot {slot}: {} is indexed at {place:?}", job.id));
                }
            }
        }
        Ok(())
    }
}

/// How many jobs a tenant has in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// A place and nothing more.
    pub queued: u32,
    /// Being prepared.
    pub preparing: u32,
    /// Ready or running.
    pub ready: u32,
}

/// A job that waits for its tenant's cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Its tenant's slot.
    pub slot: usize,
    /// What it is expected to cost.
    pub work: Work,
    /// The deadline that it came with.
    pub deadline: Option<Nanos>,
    /// The core time that jobs before it in its line still need.
    pub before: Nanos,
}

/// What a tenant has and could have of the host's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// What its prepared jobs hold.
    pub held: u64,
    /// What it would hold with all its slots for witnesses in use.
    pub want: u64,
    /// What the next job needs that could be prepared; `None` if no slot is free or no job waits.
    pub next: Option<u64>,
}

impl Work {
    /// How many units of a kind it can use at once.
    pub fn units(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Core => self.parallelism,
            Kind::Device => self.devices,
        }
    }
}

impl Running {
    /// How long it takes to its end at its rate.
    fn lasts(&self) -> Nanos {
        match self.left {
            Nanos::ZERO => Nanos::ZERO,
            left => self.rate.time_for(left),
        }
    }

    /// Notes when it has ended.
    fn ended(&self, at: Nanos, own: &mut Nanos, ends: &mut [Nanos]) {
        match self.at {
            None => *own = at,
            Some(place) => {
                if let Some(end) = ends.get_mut(place) {
                    *end = at;
                }
            }
        }
    }
}

impl Foresight {
    /// Memory for lines of so many jobs, so many of them with a slot.
    fn reserve(&mut self, jobs: usize, slots: usize) {
        self.running.clear();
        self.running.reserve(slots);
        for ends in [&mut self.without, &mut self.with] {
            ends.clear();
            ends.reserve(jobs);
        }
    }
}

impl Job {
    /// The core time that it still needs. One that has had more than it was expected to cost is
    /// taken to be nearly done.
    fn left(&self) -> Nanos {
        self.work.core.since(self.served)
    }

    fn time_at(&self, rate: Rate) -> Nanos {
        rate.min(Rate::whole(self.work.parallelism))
            .time_for(self.left())
    }
}

impl Line {
    /// How many jobs stand before this rank.
    fn before(&self, rank: Rank) -> usize {
        self.jobs.partition_point(|job| job.rank < rank)
    }

    /// The job to be prepared next, if a slot for its witness is free.
    fn next(&self) -> Option<usize> {
        (self.slots_free() > 0).then(|| {
            self.jobs
                .iter()
                .position(|job| job.state == JobState::Queued)
        })?
    }

    /// How many more jobs may be prepared now.
    fn slots_free(&self) -> usize {
        let prepared = self.preparing as usize + self.ready.len();
        self.slots().saturating_sub(prepared)
    }

    /// How many jobs may be prepared at once.
    fn slots(&self) -> usize {
        self.prepared_max.min(self.running_max) as usize
    }

    /// How to foresee what becomes of these jobs and a new one at a rate.
    fn manner(&self, new: Work, rate: Rate) -> Manner {
        let jobs = self.jobs.iter().map(|job| job.work.parallelism);
        let least = jobs.fold(new.parallelism, u32::min);
        match Rate::whole(least) {
            least if least >= rate => Manner::InTurn,
            _ if self.jobs.len() <= PLAYED_MAX => Manner::Played,
            least => Manner::AtLatest(least),
        }
    }

    fn running(&self, at: usize) -> Running {
        Running {
            at: Some(at),
            rank: self.jobs[at].rank,
            left: self.jobs[at].left(),
            parallelism: self.jobs[at].work.parallelism,
            rate: Rate::ZERO,
        }
    }

    /// As [`Line::play`], where each job can use all that flows; all ends are in core time.
    ///
    /// Those that have a slot from the start are in order, and so are those that come to have one. The first of both is served
    /// until it ends, and then the next in line has its slot.
    fn take_turns(&self, new: Option<Running>, looked: &mut u64, ends: &mut [Nanos]) -> Nanos {
        let count = self.jobs.len();
        *looked += count as u64;
        let is_queued = |at: &usize| self.jobs[*at].state == JobState::Queued;
        let of = |at: usize| self.running(at);
        let needs = |it: &Running| it.left > Nanos::ZERO;
        let held = || (0..count).filter(move |at| !is_queued(at)).map(of);
        let place = new.map_or(count, |new| self.before(new.rank));
        let line = || {
            let before = (0..place).filter(is_queued).map(of);
            let behind = (place..count).filter(is_queued).map(of);
            before.chain(new).chain(behind)
        };
        let (mut served, mut own) = (Nanos::ZERO, Nanos::MAX);
        // What needs nothing more ends where it is, whoever is served.
        for it in held().filter(|it| !needs(it)) {
            it.ended(served, &mut own, ends);
        }
        let mut taken = held().filter(needs).count();
        let mut held = held().filter(needs).peekable();
        let mut waiting = 0;
        let (mut coming, mut come) = (line(), line().filter(needs).peekable());
        loop {
            while taken < self.slots() {
                let Some(it) = coming.next() else {
                    break;
                };
                if needs(&it) {
                    (taken, waiting) = (taken + 1, waiting + 1);
                } else {
                    it.ended(served, &mut own, ends);
                }
            }
            if own < Nanos::MAX && ends.is_empty() {
                return own;
            }
            let other = held.peek().map(|it| it.rank);
            let is_first = |it: &Running| other.is_none_or(|other| it.rank < other);
            let next = match waiting > 0 && come.peek().is_some_and(is_first) {
                true => {
                    waiting -= 1;
                    come.next()
                }
                false => held.next(),
            };
            let Some(next) = next else {
                return own;
            };
            taken -= 1;
            served = served.plus(next.left);
            next.ended(served, &mut own, ends);
        }
    }

    /// Lets all jobs run to their ends, and a new one among them, with cores that flow at a rate; how long that takes the new
    /// one. As far as `ends` goes it has the ends of the others too; without it this is over when the new one is.
    fn play(
        &self,
        new: Option<Running>,
        rate: Rate,
        running: &mut Vec<Running>,
        looked: &mut u64,
        ends: &mut [Nanos],
    ) -> Nanos {
        let of = |at: usize| self.running(at);
        let all = 0..self.jobs.len();
        let is_queued = |at: &usize| self.jobs[*at].state == JobState::Queued;
        running.clear();
        running.extend(all.clone().filter(|at| !is_queued(at)).map(of));
        let mut queued = all.filter(is_queued).map(of).peekable();
        let mut waiting = new;
        let (mut now, mut own) = (Nanos::ZERO, Nanos::MAX);
        loop {
            while running.len() < self.slots() {
                let first = |other: &Running| waiting.is_none_or(|new| other.rank < new.rank);
                let Some(next) = queued.next_if(first).or_else(|| waiting.take()) else {
                    break;
                };
                let at = running.partition_point(|it| it.rank < next.rank);
                running.insert(at, next);
            }
            let mut flow = rate;
            let mut step = Nanos::MAX;
            *looked += running.len() as u64;
            for it in running.iter_mut() {
                it.rate = flow.min(Rate::whole(it.parallelism));
                flow = Rate(flow.0 - it.rate.0);
                step = step.min(it.lasts());
            }
            if step == Nanos::MAX {
                // Nothing runs, or at no rate.
                return own;
            }
            now = now.plus(step);
            running.retain_mut(|it| {
                if it.lasts() > step {
                    let had = it.rate.over(step).unsigned_abs();
                    it.left = it.left.since(Nanos(had));
                    return true;
                }
                it.ended(now, &mut own, ends);
                false
            });
            if own < Nanos::MAX && ends.is_empty() {
                return own;
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        if !self.jobs.is_sorted_by(|a, b| a.rank < b.rank) {
            return Err("jobs are out of order".into());
        }
        let urgent = self.jobs.iter().find(|job| job.has_deadline);
        if urgent.map(|job| job.rank) != self.urgent {
            return Err("the urgent job is not the first with a deadline".into());
        }
        let is_ready = |job: &&Job| job.state == JobState::Ready;
        if !self
            .jobs
            .iter()
            .filter(is_ready)
            .map(|job| &job.id)
            .eq(&self.ready)
        {
            return Err("the run order is not that of the ready jobs".into());
        }
        let preparing = self
            .jobs
            .iter()
            .filter(|job| job.state == JobState::Preparing)
            .count();
        if preparing != self.preparing as usize {
            return Err(format!(
                "{preparing} jobs are preparing, {} counted",
                self.preparing
            ));
        }
        let prepared = self.jobs.iter().filter(|job| job.state != JobState::Queued);
        let held: u64 = prepared.map(|job| job.work.host_memory).sum();
        if held != self.host_memory {
            return Err(format!(
                "prepared jobs hold {held} bytes, {} counted",
                self.host_memory
            ));
        }
        if preparing + self.ready.len() > self.prepared_max as usize {
            return Err("more witnesses in memory than allowed".into());
        }
        if self.jobs.len() > self.kept.max(self.queue_max as usize) {
            return Err("more jobs than allowed".into());
        }
        Ok(())
    }
}

/// How long it takes to serve so much core time at a rate.
fn in_time(core: Nanos, rate: Rate) -> Nanos {
    match core {
        Nanos::ZERO | Nanos::MAX => core,
        _ => rate.time_for(core),
    }
}

/// The longest line that is played end by end.
const PLAYED_MAX: usize = 64;
/// The shortest retry time that is given: asking more often only adds load.
const RETRY_MIN: Nanos = Nanos::from_millis(10);
/// The longest: by then the estimate is worth nothing.
const RETRY_MAX: Nanos = Nanos::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        core: Nanos::from_millis(100),
        parallelism: 2,
        devices: 0,
        device_memory: 0,
        host_memory: 0,
    };

    fn queue() -> Queue {
        let mut queue = Queue::new(2, 5);
        queue.open(0, 3, 2);
        queue.open(1, 4, 1);
        queue
    }

    fn admit(queue: &mut Queue, slot: usize, id: u64, due: u64) -> Result<(), Refusal> {
        queue.admit(slot, JobId(id), WORK, Due::Deadline(Nanos(due)))
    }

    #[test]
    fn earliest_deadline_first_then_arrival() {
        let mut queue = queue();
        for (id, due) in [(1, 30), (2, 10), (3, 10)] {
            admit(&mut queue, 0, id, due).expect("a place");
        }
        assert_eq!(queue.prepare(0, 0), Some(JobId(2)));
        assert_eq!(queue.prepare(0, 0), Some(JobId(3)));
        assert_eq!(queue.prepare(0, 0), None, "two witnesses are the most");
        assert_eq!(queue.ready(JobId(3)), Some(0));
        assert_eq!(queue.ready(JobId(3)), None);
        assert_eq!(queue.ready(JobId(2)), Some(0));
        assert_eq!(queue.order(0), [JobId(2), JobId(3)]);
        assert_eq!(queue.remove(JobId(2)), Some((0, JobState::Ready)));
        assert_eq!(queue.remove(JobId(2)), None);
        assert_eq!(queue.prepare(0, 0), Some(JobId(1)));
        assert_eq!(queue.order(0), [JobId(3)]);
        queue.check().expect("in order");
    }

    #[test]
    fn a_tenants_own_bound_keeps_jobs_in_line_and_never_loosens_the_classs() {
        let mut queue = queue();
        for id in 1..=3 {
            admit(&mut queue, 0, id, id).expect("a place");
        }
        queue.bound_running(0, 1);
        assert_eq!(queue.prepare(0, 0), Some(JobId(1)));
        assert_eq!(queue.prepare(0, 0), None, "one at a time");
        queue.ready(JobId(1));
        assert_eq!(queue.prepare(0, 0), None, "it runs");
        queue.bound_running(0, 9);
        assert_eq!(queue.prepare(0, 0), Some(JobId(2)));
        assert_eq!(queue.prepare(0, 0), None, "the class allows two");
        // Falling, it takes nothing back.
        queue.bound_running(0, 0);
        queue.check().expect("in order");
        queue.remove(JobId(1));
        assert_eq!(queue.prepare(0, 0), None);
        queue.remove(JobId(2));
        assert_eq!(queue.prepare(0, 0), Some(JobId(3)), "none is one");
        queue.check().expect("in order");
    }

    #[test]
    fn each_bound_refuses_with_its_reason() {
        let mut queue = queue();
        for id in 1..=3 {
            admit(&mut queue, 0, id, 0).expect("a place");
        }
        assert_eq!(
            admit(&mut queue, 0, 4, 0),
            Err(Refusal::TenantFull { max: 3 })
        );
        admit(&mut queue, 1, 4, 0).expect("another tenant's place");
        assert_eq!(admit(&mut queue, 1, 4, 0), Err(Refusal::DuplicateJob));
        admit(&mut queue, 1, 5, 0).expect("the last place");
        assert_eq!(admit(&mut queue, 1, 6, 0), Err(Refusal::BoxFull { max: 5 }));
        let none = Work {
            parallelism: 0,
            ..WORK
        };
        assert_eq!(
            queue.admit(1, JobId(6), none, Due::Implied(Nanos(0))),
            Err(Refusal::NoParallelism)
        );
        queue.check().expect("in order");
    }

    #[test]
    fn demand_counts_what_is_prepared() {
        let mut queue = queue();
        for id in 1..=3 {
            admit(&mut queue, 0, id, 0).expect("a place");
        }
        assert_eq!(queue.demand(0, Kind::Core), 0);
        queue.prepare(0, 0);
        assert_eq!(queue.demand(0, Kind::Core), 2);
        queue.ready(JobId(1));
        queue.prepare(0, 0);
        assert_eq!(queue.demand(0, Kind::Core), 4);
        assert_eq!(
            queue.lengths(0),
            Lengths {
                queued: 1,
                preparing: 1,
                ready: 1
            }
        );
    }

    #[test]
    fn the_outlook_of_a_job_is_what_stands_before_it_and_ends_when_it_is_prepared() {
        let mut queue = queue();
        for (id, due) in [(1, 30), (2, 20), (3, 10)] {
            admit(&mut queue, 0, id, due).expect("a place");
        }
        let before = |queue: &Queue, id| queue.outlook(JobId(id)).map(|it| it.before);
        let first = queue.outlook(JobId(3)).expect("it waits");
        assert_eq!((first.slot, first.work), (0, WORK));
        assert_eq!(
            (first.deadline, first.before),
            (Some(Nanos(10)), Nanos::ZERO)
        );
        assert_eq!(before(&queue, 1), Some(Nanos::from_millis(200)));
        queue.prepare(0, 0);
        assert_eq!(before(&queue, 3), None, "its witness is on its way");
        queue.ready(JobId(3));
        assert_eq!(before(&queue, 3), None, "it runs");
        queue.serve(0, 1, Nanos::from_millis(70));
        assert_eq!(before(&queue, 1), Some(Nanos::from_millis(130)));
        queue
            .admit(1, JobId(4), WORK, Due::Implied(Nanos(5)))
            .expect("a place");
        let implied = queue.outlook(JobId(4)).expect("it waits");
        assert_eq!((implied.slot, implied.deadline), (1, None));
        assert_eq!(before(&queue, 9), None, "nobody knows it");
    }

    #[test]
    fn backlog_and_retry_follow_what_is_left() {
        let mut queue = queue();
        for (id, due) in [(1, 10), (2, 20), (3, 30)] {
            admit(&mut queue, 0, id, due).expect("a place");
        }
        queue.prepare(0, 0);
        queue.ready(JobId(1));
        queue.serve(0, 1, Nanos::from_millis(40));
        assert_eq!(queue.ahead(0, Nanos(20)), 2);
        // 60 of the first, 100 of the second, and its own.
        let end = queue.foresee(0, WORK, Nanos(20), Rate::ONE);
        assert_eq!(end, Nanos::from_millis(260));
        assert_eq!(queue.foresee(0, WORK, Nanos(20), Rate::ZERO), Nanos::MAX);
        assert_eq!(queue.place_after(0, Rate::ONE), Nanos::from_millis(60));
        assert_eq!(queue.place_after(0, Rate::whole(9)), Nanos::from_millis(30));
        assert_eq!(queue.place_after(0, Rate::ZERO), RETRY_MAX);
        queue.serve(0, 4, Nanos::from_millis(200));
        assert_eq!(queue.place_after(0, Rate::ONE), RETRY_MIN);
    }

    #[test]
    fn cores_serve_jobs_in_order_and_none_more_than_it_can_use() {
        let mut queue = queue();
        for (id, due) in [(1, 10), (2, 20)] {
            admit(&mut queue, 0, id, due).expect("a place");
            queue.prepare(0, 0);
            queue.ready(JobId(id));
        }
        queue.serve(0, 3, Nanos::from_millis(10));
        let served = queue.lines[0].jobs.iter().map(|job| job.served);
        let expected = [20, 10].map(Nanos::from_millis);
        assert_eq!(served.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_is_prepared_cannot_be_overtaken() {
        let mut queue = queue();
        for id in 1..=2 {
            admit(&mut queue, 0, id, 1_000_000_000).expect("a place");
            queue.prepare(0, 0);
            queue.ready(JobId(id));
        }
        // Both slots are taken: the first of the others ends at 100 ms on one core.
        let end = |queue: &mut Queue, rate| queue.foresee(0, WORK, Nanos(5), rate).as_millis();
        assert_eq!(end(&mut queue, Rate::ONE), 200);
        // Two of four cores each, and both at once.
        assert_eq!(end(&mut queue, Rate::whole(4)), 100);
        queue.bound_running(0, 1);
        assert_eq!(end(&mut queue, Rate::ONE), 300);
        queue.remove(JobId(1));
        assert_eq!(end(&mut queue, Rate::ONE), 200);
        queue.bound_running(0, 2);
        assert_eq!(end(&mut queue, Rate::ONE), 100);
    }

    #[test]
    fn a_late_comer_is_told_whom_it_would_make_late() {
        let mut queue = queue();
        for (id, due) in [(1, 100), (2, 250)] {
            admit(&mut queue, 0, id, due * 1_000_000).expect("a place");
        }
        let harmed = |queue: &mut Queue, due: u64| {
            let due = Nanos::from_millis(due);
            let on_time = |span: Nanos, due: Nanos| span <= due;
            let harmed = queue.harmed(0, WORK, due, Rate::ONE, on_time);
            harmed.map(Nanos::as_millis)
        };
        assert_eq!(harmed(&mut queue, 50), Some(250), "both are late then");
        assert_eq!(harmed(&mut queue, 200), Some(250));
        assert_eq!(harmed(&mut queue, 250), None, "it goes behind");
        assert_eq!(queue.last_deadline(0), Some(Nanos::from_millis(250)));
        queue.remove(JobId(2));
        assert_eq!(harmed(&mut queue, 50), Some(100));
        assert_eq!(harmed(&mut queue, 100), None);
    }

    /// In a line that is too long to be played whoever comes before one with a deadline is taken to do harm, and what it takes
    /// is what it takes at the latest.
    #[test]
    fn of_a_long_line_the_worst_is_taken() {
        let count = PLAYED_MAX as u64 + 1;
        let mut queue = Queue::new(1, 200);
        queue.open(0, 200, 2);
        for id in 0..count {
            let due = Due::Deadline(Nanos::from_secs(1_000 + id));
            queue.admit(0, JobId(id), WORK, due).expect("a place");
        }
        let never = |_: Nanos, _: Nanos| panic!("there is nothing to ask");
        let last = Nanos::from_secs(1_000 + count - 1);
        let rate = Rate::whole(4);
        assert_eq!(WORK.parallelism, 2);
        assert_eq!(queue.harmed(0, WORK, Nanos(1), rate, never), Some(last));
        assert_eq!(queue.harmed(0, WORK, last, rate, never), None);
        let all = Nanos::from_millis(50 * (count + 1));
        assert_eq!(queue.foresee(0, WORK, Nanos(1), rate), all);
        // Where each can use all that flows the line may be as long as it likes.
        let on_time = |span: Nanos, due: Nanos| span <= due;
        let rate = Rate::whole(2);
        assert_eq!(queue.harmed(0, WORK, Nanos(1), rate, on_time), None);
        let first = Nanos::from_millis(50);
        assert_eq!(queue.foresee(0, WORK, Nanos(1), rate), first);
    }

    /// The same in steps of so much, each of which asks anew who has a slot and who has a core.
    fn step_by_step(queue: &Queue, new: Job, rate: Rate, step: Nanos) -> Option<Nanos> {
        let line = &queue.lines[0];
        let mut jobs: Vec<(Job, Nanos)> = line.jobs.iter().map(|job| (*job, job.left())).collect();
        jobs.push((new, new.work.core));
        let mut now = Nanos::ZERO;
        for _ in 0..100_000 {
            jobs.sort_by_key(|(job, _)| job.rank);
            let has_slot = |it: &&mut (Job, Nanos)| it.0.state != JobState::Queued;
            let mut slots = line.slots();
            slots = slots.saturating_sub(jobs.iter_mut().filter(has_slot).count());
            for (job, _) in &mut jobs {
                if job.state == JobState::Queued && slots > 0 {
                    job.state = JobState::Ready;
                    slots -= 1;
                }
            }
            let mut flow = rate;
            for (job, left) in &mut jobs {
                if job.state != JobState::Queued {
                    let own = flow.min(Rate::whole(job.work.parallelism));
                    flow = Rate(flow.0 - own.0);
                    *left = left.since(Nanos(own.over(step).unsigned_abs()));
                }
            }
            now = now.plus(step);
            if jobs
                .iter()
                .any(|(job, left)| job.id == new.id && *left == Nanos::ZERO)
            {
                return Some(now);
            }
            jobs.retain(|(_, left)| *left > Nanos::ZERO);
        }
        None
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        proptest! {
            #![proptest_config(ProptestConfig::with_cases(400))]

            #[test]
            fn foresight_is_what_comes(
                jobs in prop::collection::vec((0u64..20, 1u32..4, 0u64..9, 0u8..3), 0..12),
                slots in 1u32..5,
                running in 1u32..6,
                quarters in 1u64..17,
                new in (1u64..20, 1u32..4, 0u64..9),
            ) {
                let mut queue = Queue::new(1, 20);
                queue.open(0, 20, slots);
                let work = |core, parallelism| Work {
                    core: Nanos::from_millis(core),
                    parallelism,
                    ..WORK
                };
                for (id, &(core, parallelism, due, _)) in (0..).zip(&jobs) {
                    let due = Due::Implied(Nanos::from_millis(due));
                    queue.admit(0, JobId(id), work(core, parallelism), due).expect("a place");
                    if jobs[id as usize].3 > 0
                        && let Some(prepared) = queue.prepare(0, 0)
                        && jobs[id as usize].3 > 1
                    {
                        queue.ready(prepared);
                    }
                }
                queue.bound_running(0, running);
                queue.serve(0, 1, Nanos::from_millis(3));
                let (core, parallelism, due) = new;
                let due = Nanos::from_millis(due);
                let work = work(core, parallelism);
                let rate = Rate(quarters << 30);
                let foreseen = queue.foresee(0, work, due, rate);
                let job = Job {
                    id: JobId(99),
                    rank: Rank { due, arrival: 99 },
                    has_deadline: true,
                    state: JobState::Queued,
                    work,
                    served: Nanos::ZERO,
                };
                let step = Nanos::from_micros(20);
                let seen = step_by_step(&queue, job, rate, step).expect("it ends");
                // Each end comes at the end of a step, and moves what comes after it.
                let most = Nanos(step.0 * (jobs.len() as u64 + 2));
                prop_assert!(foreseen <= seen.plus(step), "{foreseen} before {seen}");
                prop_assert!(seen <= foreseen.plus(most), "{seen} after {foreseen}");
                // Nothing comes later than a long line is told.
                let line = &queue.lines[0];
                let least = jobs.iter().map(|job| job.1).fold(parallelism, u32::min);
                let all = line.jobs.iter().map(Job::left).fold(work.core, Nanos::plus);
                let latest = in_time(all, rate.min(Rate::whole(least)));
                prop_assert!(foreseen <= latest.plus(Nanos(100)), "{foreseen} after {latest}");
            }

            /// Where each job can use all that flows, turns along the line are what is played.
            #[test]
            fn turns_are_what_is_played(
                jobs in prop::collection::vec((0u64..20, 0u64..9, 0u8..3), 0..12),
                slots in 1u32..5,
                running in 1u32..6,
                quarters in 1u64..17,
                new in prop::option::of((0u64..20, 0u64..9)),
            ) {
                let mut queue = Queue::new(1, 20);
                queue.open(0, 20, slots);
                let work = |core| Work {
                    core: Nanos::from_millis(core),
                    parallelism: 4,
                    ..WORK
                };
                for (id, &(core, due, prepared)) in (0..).zip(&jobs) {
                    let due = Due::Implied(Nanos::from_millis(due));
                    queue.admit(0, JobId(id), work(core), due).expect("a place");
                    if prepared > 0
                        && let Some(job) = queue.prepare(0, 0)
                        && prepared > 1
                    {
                        queue.ready(job);
                    }
                }
                queue.bound_running(0, running);
                queue.serve(0, 1, Nanos::from_millis(3));
                let rate = Rate(quarters << 30);
                let new = new.map(|(core, due)| {
                    queue.late_comer(work(core), Nanos::from_millis(due))
                });
                let line = &queue.lines[0];
                prop_assert_eq!(line.manner(work(1), rate), Manner::InTurn);
                let never = vec![Nanos::MAX; jobs.len()];
                let (mut turns, mut played) = (never.clone(), never);
                let own = [
                    in_time(line.take_turns(new, &mut 0, &mut turns), rate),
                    line.play(new, rate, &mut vec![], &mut 0, &mut played),
                ];
                let turns = turns.into_iter().map(|end| in_time(end, rate));
                // What is played is rounded at each end.
                let close = |a: Nanos, b: Nanos| a.since(b).max(b.since(a)) <= Nanos(100);
                prop_assert!(close(own[0], own[1]), "{own:?}");
                for (at, (turn, played)) in turns.zip(played).enumerate() {
                    prop_assert!(close(turn, played), "{at}: {turn}, played {played}");
                }
                // Who only asks for the own end is told the same.
                let alone = in_time(line.take_turns(new, &mut 0, &mut []), rate);
                prop_assert_eq!(alone, own[0]);
            }
        }
    }
}
