//! What the dashboard shows: a snapshot of the box in each second, for as long as somebody looks.
//!
//! A snapshot is what `pool_statusV1` tells the operator, with what else the service knows of itself: bytes that tenants hold, the
//! newest jobs, the ledger's totals, what is out of order. It is made once and sent to all who look, so a second one who
//! looks costs a copy; without one nothing is made. It stands where an answer to `/metrics` stands: the arbiter is asked for
//! its view, which it gives between two decisions, and the rest is put together by the thread that answers requests.
//!
//! Who is too slow to have taken the last snapshot is not sent the next: the shell drops it, and nothing piles up.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::{JobName, JobStatus, PoolStatus, TenantStorage};
use caldera_scheduler::{JobId, Nanos};
use serde::Serialize;

use super::{Answer, Caller, Outgoing, PoolView, Question, Service, Waiting, ms};
use crate::arbiter_thread::Command;
use crate::clock::unix_time;
use crate::era::EraGauges;

/// Those who look, and what they were shown.
#[derive(Default)]
pub(super) struct Screens {
    /// By the requests that asked for it.
    open: BTreeSet<u64>,
    /// When the next snapshot is to be made.
    due: Nanos,
    /// Whether the arbiter has been asked for it.
    asked: bool,
    /// The newest, while somebody looks.
    last: Option<Arc<str>>,
}

/// All that the page shows.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Snapshot {
    /// Unix time in milliseconds.
    at_ms: u64,
    version: &'static str,
    /// Whether `/readyz` says so, and what it says beside.
    ready: bool,
    notes: Vec<String>,
    /// As `pool_statusV1` gives it to the operator, with fewer of the newest reallocations.
    pool: PoolStatus,
    /// Longer than that a reallocation counts as missed.
    bound_ms: f64,
    /// Units whose workers do not answer.
    fenced: Vec<u16>,
    /// What tenants hold.
    storage: Vec<TenantStorage>,
    /// What tables take and may take.
    tables_bytes: u64,
    tables_bytes_max: u64,
    /// What jobs under way may hold, if that is bounded.
    job_bytes_max: Option<u64>,
    /// The newest first.
    jobs: Vec<Recent>,
    ended: Ended,
    /// Left out where no ledger is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    era: Option<Era>,
}

/// A job, and whose it is.
#[derive(Serialize)]
struct Recent {
    tenant: String,
    #[serde(flatten)]
    status: JobStatus,
}

/// Jobs that have ended since the start.
#[derive(Serialize)]
struct Ended {
    proved: u64,
    failed: u64,
    cancelled: u64,
    late: u64,
}

/// The ledger's totals. Amounts are decimal strings, for they may be beyond what a number of JavaScript holds.
#[derive(Serialize)]
struct Era {
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<String>,
    records: u64,
    parties: u64,
    epoch: u32,
    house: Vec<Holding>,
    proofs: u64,
    failures: u64,
    releases: u64,
    reuses: u64,
    refused: u64,
}

#[derive(Serialize)]
struct Holding {
    account: &'static str,
    units: String,
}

impl Screens {
    /// How long until a snapshot is due; `None` while nobody looks, or while one is being made.
    pub(super) fn due_in(&self, now: Nanos) -> Option<Duration> {
        let waits = !self.open.is_empty() && !self.asked;
        waits.then(|| Duration::from_nanos(self.due.since(now).0))
    }

    /// Who asked has gone.
    pub(super) fn close(&mut self, exchange: u64) {
        self.open.remove(&exchange);
        if self.open.is_empty() {
            // The next to come is shown what is true then.
            self.last = None;
        }
    }
}

impl Service {
    /// Begins to show the box to an operator. Or what to answer.
    pub fn open_screen(&mut self, exchange: u64) -> Result<(), Answer> {
        if self.stopping {
            return Err(Answer::error(503, &RpcError::Stopping));
        }
        if self.screens.open.len() >= SCREENS_MAX {
            let text = format!("{SCREENS_MAX} dashboards are open, and no more are served\n");
            return Err(Answer {
                retry_after_s: Some(10),
                ..Answer::text(503, text)
            });
        }
        self.screens.open.insert(exchange);
        match &self.screens.last {
            Some(text) => self.outgoing.push(Outgoing::Snapshot {
                exchange,
                text: Arc::clone(text),
            }),
            None => self.show_screens(self.parts.clock.now()),
        }
        Ok(())
    }

    /// Takes an operator's question for the profile of a job, from this quantum on. Answers through
    /// [`Service::outgoing`], with what `prover_profileV1` answers the job's tenant.
    pub fn timeline(
        &mut self,
        exchange: u64,
        job: JobName,
        from: Option<u64>,
    ) -> Result<(), Answer> {
        let id = JobId(job.0);
        if !self.jobs.contains_key(&id) {
            return Err(Answer::error(404, &RpcError::JobUnknown { job }));
        }
        if !self.profiles.is_on() {
            let detail = "this box keeps none (limits.profile_bytes is 0)";
            return Err(Answer::error(
                404,
                &RpcError::ProfileUnavailable { job, detail },
            ));
        }
        let question = Question::Timeline {
            exchange,
            job: id,
            from,
        };
        self.look_for(question)
            .map_err(|error| Answer::error(503, &error))
    }

    /// The arbiter has told what it had to, for a profile.
    pub(super) fn answer_timeline(&mut self, exchange: u64, job: JobId, from: Option<u64>) {
        let answer = match self.profiled(Caller::Operator, job, from) {
            Ok(profile) => Answer::told(profile),
            Err(error) => Answer::error(404, &error),
        };
        self.answer(exchange, answer);
    }

    /// Asks for what the next snapshot is made of, if it is time.
    pub(super) fn show_screens(&mut self, now: Nanos) {
        let screens = &mut self.screens;
        if screens.open.is_empty() || screens.asked || now < screens.due {
            return;
        }
        screens.due = now.plus(SNAPSHOT_EVERY);
        // If the arbiter's inbox is full there is no snapshot in this second.
        self.screens.asked = self.look_for(Question::Snapshot).is_ok();
    }

    /// Sends all who look what is true now.
    pub(super) fn show_snapshot(&mut self, view: &PoolView) {
        self.screens.asked = false;
        if self.screens.open.is_empty() {
            return;
        }
        let snapshot = self.snapshot(view);
        let data = match serde_json::to_string(&snapshot) {
            Ok(data) => data,
            Err(error) => {
                tracing::error!(error = %chain(&error), "a snapshot that JSON cannot hold");
                return;
            }
        };
        // JSON has no line breaks of its own, so one line of data holds it.
        let text: Arc<str> = format!("event: snapshot\ndata: {data}\n\n").into();
        for &exchange in &self.screens.open {
            let text = Arc::clone(&text);
            self.outgoing.push(Outgoing::Snapshot { exchange, text });
        }
        self.screens.last = Some(text);
        // Counted from when it was made, so that a second lies between two of them however late the arbiter told.
        self.screens.due = self.parts.clock.now().plus(SNAPSHOT_EVERY);
    }

    /// Ends all streams, for the box stops.
    pub(super) fn close_screens(&mut self) {
        for exchange in std::mem::take(&mut self.screens).open {
            self.outgoing.push(Outgoing::Event {
                exchange,
                text: String::new(),
                last: true,
            });
        }
    }

    /// Asks the arbiter for its view, for something that is no call.
    fn look_for(&mut self, question: Question) -> Result<(), RpcError> {
        let ticket = self.ticket();
        let view = self.empty_view();
        self.command(Command::Look { ticket, view })?;
        let waiting = Waiting {
            place: None,
            caller: Caller::Operator,
            question,
        };
        self.waiting.insert(ticket, waiting);
        Ok(())
    }

    fn snapshot(&self, view: &PoolView) -> Snapshot {
        let mut pool = self.pool(Caller::Operator, view);
        let recent = &mut pool.reallocations.recent;
        recent.drain(..recent.len().saturating_sub(RECENT_MAX));
        let fenced = view.units.iter().filter(|unit| unit.is_fenced());
        let [proved, failed, cancelled] = self.telemetry.ended;
        Snapshot {
            at_ms: u64::try_from(unix_time().as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION"),
            ready: self.faults().is_empty(),
            notes: self.faults().into_iter().chain(self.notes()).collect(),
            pool,
            bound_ms: ms(self.policy.limits().reallocation_max),
            fenced: fenced.map(|unit| unit.id().0).collect(),
            storage: view
                .tenants
                .iter()
                .map(|it| self.storage_of(it.tenant))
                .collect(),
            tables_bytes: self.parts.tables_held.load(Ordering::Relaxed),
            tables_bytes_max: self.parts.config.limits.table_bytes,
            job_bytes_max: Some(self.parts.job_bytes).filter(|bytes| *bytes < u64::MAX),
            jobs: self.newest_jobs(),
            ended: Ended {
                proved,
                failed,
                cancelled,
                late: self.telemetry.late,
            },
            era: self.ledger.as_deref().map(Era::of),
        }
    }

    /// The jobs of the highest numbers, which are the newest.
    fn newest_jobs(&self) -> Vec<Recent> {
        let mut newest = BinaryHeap::with_capacity(JOBS_MAX + 1);
        for &job in self.jobs.keys() {
            newest.push(Reverse(job));
            if newest.len() > JOBS_MAX {
                newest.pop();
            }
        }
        let mut jobs: Vec<JobId> = newest.into_iter().map(|Reverse(job)| job).collect();
        jobs.sort_unstable_by(|a, b| b.cmp(a));
        let entries = jobs
            .into_iter()
            .filter_map(|job| Some((job, self.jobs.get(&job)?)));
        entries
            .map(|(job, entry)| Recent {
                tenant: self.tenant(entry.tenant()).name.to_string(),
                status: entry.status(job),
            })
            .collect()
    }
}

impl Era {
    fn of(it: &EraGauges) -> Era {
        let [own, failures, releases, reuses, others] = it.events;
        Era {
            damaged: it.damaged.clone(),
            records: it.records,
            parties: it.parties,
            epoch: it.epoch,
            house: it
                .house
                .iter()
                .map(|(account, units)| Holding {
                    account,
                    units: units.to_string(),
                })
                .collect(),
            proofs: own + others,
            failures,
            releases,
            reuses,
            refused: it.refused.iter().sum(),
        }
    }
}

/// A second: what a person can follow, and what a scraper of `/metrics` asks for at most.
const SNAPSHOT_EVERY: Nanos = Nanos::from_secs(1);
/// As many as there may be connections at the operator's socket.
const SCREENS_MAX: usize = 16;
/// Jobs in a snapshot.
const JOBS_MAX: usize = 24;
/// Of the newest reallocations; the page shows the misses and the percentiles.
const RECENT_MAX: usize = 8;
