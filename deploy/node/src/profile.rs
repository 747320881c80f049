//! The newest quanta, one by one, for `prover_profileV1`.
//!
//! Histograms say how long quanta take; a performance engineer wants to see which ran when and
//! where. So the records that workers leave anyway are kept for a while: in a ring of a fixed
//! number of bytes ([`Limits::profile_bytes`]), in which the newest take the place of the oldest,
//! whosever they are. What a job has lost that way is counted, so that a profile with holes says
//! that it has them. What the quanta of a job have in common, the names and sizes of its stages,
//! is kept once for each job and charged to the same bytes; an eighth of them holds the newest
//! reallocations.
//!
//! This belongs to the RPC thread, which takes the records in and answers from here. Workers write
//! 16 bytes more into each record than without, and read their thread's own clock twice, which
//! costs less than a microsecond in two milliseconds; with 0 bytes they do not read it.
//!
//! [`Limits::profile_bytes`]: crate::config::Limits::profile_bytes

use std::collections::{HashMap, VecDeque};

use caldera_prover::groth16::Stage;
use caldera_scheduler::arbiter::Reallocation;
use caldera_scheduler::{JobId, Nanos};

use crate::telemetry::QuantumRecord;

/// See the top of this file.
pub struct Profiles {
    bytes_max: usize,
    quanta: VecDeque<Quantum>,
    /// How many quanta have left the ring: the number of the first one in it.
    gone: u64,
    jobs: HashMap<JobId, Profile>,
    /// Charged for what is in `jobs`.
    jobs_bytes: usize,
    moves: VecDeque<Reallocation>,
    moves_max: usize,
}

/// A quantum as the ring keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantum {
    /// Whose it is.
    pub job: JobId,
    /// When it began.
    pub start: Nanos,
    /// How long it took, in nanoseconds; four seconds and longer ones are cut to that.
    pub span_ns: u32,
    /// How long its thread ran meanwhile, cut as well.
    pub cpu_ns: u32,
    /// The lane that it is of.
    pub lane: u32,
    /// The worker.
    pub unit: u16,
    /// The stage that it is of, by its place among the job's stages.
    pub stage: u16,
}

/// What is known of a job.
#[derive(Debug, Default)]
pub struct Profile {
    /// Its stages, which its quanta name by their place; empty until they are told.
    pub stages: Vec<Stage>,
    /// Quanta of it in the ring.
    pub kept: u64,
    /// Quanta of it that came here.
    seen: u64,
    /// Quanta that its workers counted, once it has ended.
    ran: u64,
    ended: bool,
    /// The numbers of its first and last quantum that came here.
    first: u64,
    last: u64,
}

/// Some quanta of a job.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// The quanta, in the order in which they came here.
    pub quanta: Vec<Quantum>,
    /// Where the next page begins, if there is one.
    pub next: Option<u64>,
}

impl Profiles {
    /// Keeps what fits into so many bytes.
    pub fn new(bytes: u64) -> Profiles {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let moves_max = bytes / MOVES_PART / size_of::<Reallocation>();
        let bytes_max = bytes - bytes / MOVES_PART;
        Profiles {
            bytes_max,
            quanta: VecDeque::with_capacity(bytes_max / size_of::<Quantum>()),
            gone: 0,
            jobs: HashMap::new(),
            jobs_bytes: 0,
            moves: VecDeque::with_capacity(moves_max),
            moves_max,
        }
    }

    /// Whether anything is kept at all.
    pub fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    /// Tells the stages of a job, once; later calls change nothing.
    pub fn open(&mut self, job: JobId, stages: impl Iterator<Item = Stage>) {
        if !self.is_on() {
            return;
        }
        let profile = known(&mut self.jobs, &mut self.jobs_bytes, job);
        if profile.stages.is_empty() {
            profile.stages = stages.collect();
            self.jobs_bytes += stage_bytes(profile);
            self.make_room();
        }
    }

    /// Keeps a quantum.
    pub fn quantum(&mut self, record: &QuantumRecord) {
        if !self.is_on() {
            return;
        }
        let number = self.gone + self.quanta.len() as u64;
        let profile = known(&mut self.jobs, &mut self.jobs_bytes, record.job);
        if profile.seen == 0 {
            profile.first = number;
        }
        profile.last = number;
        profile.seen += 1;
        profile.kept += 1;
        let cut = |span: Nanos| u32::try_from(span.0).unwrap_or(u32::MAX);
        if self.quanta.len() == self.quanta.capacity() {
            self.pop();
        }
        self.quanta.push_back(Quantum {
            job: record.job,
            start: record.start,
            span_ns: cut(record.span),
            cpu_ns: cut(record.cpu),
            lane: record.lane,
            unit: record.unit.0,
            stage: record.stage,
        });
        self.make_room();
    }

    /// Keeps a reallocation.
    pub fn reallocation(&mut self, it: Reallocation) {
        if self.moves_max == 0 {
            return;
        }
        if self.moves.len() == self.moves_max {
            self.moves.pop_front();
        }
        self.moves.push_back(it);
    }

    /// A job has ended, and its workers counted so many quanta.
    pub fn end(&mut self, job: JobId, ran: u64) {
        if let Some(profile) = self.jobs.get_mut(&job) {
            profile.ended = true;
            profile.ran = ran;
            // Of a short job the records may come after its end.
            if profile.kept == 0 && profile.seen >= ran {
                self.forget(job);
            }
        }
    }

    /// Nobody will ask for this job any more.
    pub fn forget(&mut self, job: JobId) {
        if let Some(profile) = self.jobs.remove(&job) {
            self.jobs_bytes -= job_bytes(&profile);
        }
    }

    /// What is known of a job.
    pub fn job(&self, job: JobId) -> Option<&Profile> {
        self.jobs.get(&job)
    }

    /// Quanta of a job from a place on, at most so many.
    pub fn page(&self, job: JobId, from: u64, max: usize) -> Page {
        let mut page = Page {
            quanta: Vec::new(),
            next: None,
        };
        let Some(profile) = self.jobs.get(&job).filter(|profile| profile.kept > 0) else {
            return page;
        };
        let first = profile.first.max(from).max(self.gone);
        for number in first..=profile.last {
            let Some(quantum) = self.quanta.get((number - self.gone) as usize) else {
                break;
            };
            if quantum.job != job {
                continue;
            }
            if page.quanta.len() == max {
                page.next = Some(number);
                break;
            }
            page.quanta.push(*quantum);
        }
        page
    }

    /// The reallocations that are kept, oldest first.
    pub fn moves(&self) -> impl DoubleEndedIterator<Item = &Reallocation> {
        self.moves.iter()
    }

    fn make_room(&mut self) {
        while self.quanta.len() * size_of::<Quantum>() + self.jobs_bytes > self.bytes_max
            && !self.quanta.is_empty()
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(oldest) = self.quanta.pop_front() else {
            return;
        };
        self.gone += 1;
        // A job that was forgotten has left its quanta behind.
        if let Some(profile) = self.jobs.get_mut(&oldest.job) {
            profile.kept -= 1;
            // One without stages has ended too: its last quantum came after all else of it.
            if profile.kept == 0 && (profile.ended || profile.stages.is_empty()) {
                self.forget(oldest.job);
            }
        }
    }
}

impl Profile {
    /// How many quanta the job has had: what its workers counted once it has ended, what came here
    /// until then.
    pub fn total(&self) -> u64 {
        self.ran.max(self.seen)
    }
}

fn known<'a>(
    jobs: &'a mut HashMap<JobId, Profile>,
    bytes: &mut usize,
    job: JobId,
) -> &'a mut Profile {
    jobs.entry(job).or_insert_with(|| {
        *bytes += size_of::<(JobId, Profile)>();
        Profile::default()
    })
}

fn stage_bytes(profile: &Profile) -> usize {
    profile.stages.len() * size_of::<Stage>()
}

fn job_bytes(profile: &Profile) -> usize {
    size_of::<(JobId, Profile)>() + stage_bytes(profile)
}

/// One in so many bytes is for reallocations.
const MOVES_PART: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_scheduler::{TenantId, UnitId};

    const STAGES: usize = 4;

    fn stages() -> impl Iterator<Item = Stage> {
        (0..STAGES).map(|size| Stage {
            part: "msm-a",
            kernel: "msm.recode",
            size,
            bytes: 0,
            table_bytes: None,
        })
    }

    fn record(job: u64, start: u64) -> QuantumRecord {
        QuantumRecord {
            void: Nanos::ZERO,
            unit: UnitId(0),
            tenant: TenantId(0),
            job: JobId(job),
            kernel: "msm.recode",
            stage: 1,
            lane: 2,
            start: Nanos(start),
            span: Nanos(u64::MAX),
            cpu: Nanos(7),
        }
    }

    fn bytes_held(profiles: &Profiles) -> usize {
        let jobs = profiles.jobs.values().map(job_bytes).sum::<usize>();
        assert_eq!(jobs, profiles.jobs_bytes);
        profiles.quanta.len() * size_of::<Quantum>() + jobs
    }

    /// Whatever comes and goes, the bytes are kept to, and each job's quanta are in the ring or
    /// counted as lost, by a count of the ring itself.
    #[test]
    fn the_newest_are_kept_within_the_bytes_and_the_others_counted() {
        let mut profiles = Profiles::new(64 * 1024);
        let mut ran: HashMap<JobId, u64> = HashMap::new();
        for round in 0..20_000_u64 {
            let job = 1 + round / 1_500 + round % 3;
            if !ran.contains_key(&JobId(job)) {
                profiles.open(JobId(job), stages());
            }
            profiles.quantum(&record(job, round));
            *ran.entry(JobId(job)).or_default() += 1;
            if round % 1_500 == 1_499 {
                let ended = JobId(1 + round / 1_500);
                profiles.end(ended, ran[&ended]);
            }
            assert!(bytes_held(&profiles) <= profiles.bytes_max, "{round}");
        }
        let capacity = profiles.quanta.capacity();
        assert!(profiles.quanta.len() > 1_000 && profiles.quanta.len() <= capacity);
        let mut shown = 0;
        for (&job, &ran) in &ran {
            let mut starts = Vec::new();
            let mut from = 0;
            loop {
                let page = profiles.page(job, from, 100);
                starts.extend(page.quanta.iter().map(|it| it.start.0));
                assert!(page.quanta.iter().all(|it| it.job == job && it.lane == 2));
                assert!(page.quanta.iter().all(|it| it.span_ns == u32::MAX));
                let Some(next) = page.next else {
                    break;
                };
                from = next;
            }
            assert!(starts.is_sorted());
            shown += starts.len();
            match profiles.job(job) {
                Some(profile) => {
                    assert_eq!(profile.kept, starts.len() as u64);
                    assert_eq!(profile.total(), ran);
                    assert_eq!(profile.stages.len(), STAGES);
                }
                None => assert!(starts.is_empty()),
            }
        }
        assert_eq!(shown, profiles.quanta.len());
        // The oldest are gone with all that was kept of them.
        assert!(profiles.job(JobId(1)).is_none());
    }

    #[test]
    fn nothing_is_left_of_a_job_that_is_forgotten_and_nothing_kept_of_no_bytes() {
        let mut profiles = Profiles::new(64 * 1024);
        profiles.open(JobId(1), stages());
        profiles.quantum(&record(1, 5));
        profiles.forget(JobId(1));
        assert!(profiles.job(JobId(1)).is_none());
        assert_eq!(profiles.page(JobId(1), 0, 9).quanta, []);
        assert_eq!(profiles.jobs_bytes, 0);
        // A job of which no quantum ever ran.
        profiles.open(JobId(2), stages());
        profiles.end(JobId(2), 0);
        assert_eq!(profiles.jobs_bytes, 0);

        let mut off = Profiles::new(0);
        off.open(JobId(1), stages());
        off.quantum(&record(1, 5));
        assert!(!off.is_on() && off.job(JobId(1)).is_none());
        assert_eq!(off.quanta.len(), 0);
    }
}
