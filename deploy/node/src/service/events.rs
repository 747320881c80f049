//! A job as it goes, for those who read along: server-sent events (the HTML standard, section 9.2).
//!
//! A stream begins with where the job stands, goes on with each change of its state and, ten times a second at
//! most, of its progress, and ends with its result or with the last status; or with an error, when its tenant is
//! not to be served any more. Nobody waits for a reader: what
//! one does not take is bounded by its connection, which is closed then.

use std::time::Duration;

use caldera_rpc::error::RpcError;
use caldera_rpc::jsonrpc::Json;
use caldera_rpc::methods::{JobName, JobState, Scope};
use caldera_scheduler::{JobId, Nanos, TenantId};

use super::jobs::Asked;
use super::{Answer, Outgoing, Service};

/// One who reads along.
pub(super) struct Watcher {
    job: JobId,
    /// What was sent last.
    shown: Option<(JobState, f64)>,
    /// When.
    at: Nanos,
}

impl Service {
    /// Begins to tell of a job: the first event is on its way when this returns. Or what to answer.
    pub fn watch(&mut self, exchange: u64, tenant: TenantId, job: JobName) -> Result<(), Answer> {
        self.enter(tenant, Scope::Read)?;
        let job = self
            .job_of(tenant, job)
            .map_err(|error| Answer::error(404, &error))?;
        if self.stopping {
            return Err(Answer::error(503, &RpcError::Stopping));
        }
        let watcher = Watcher {
            job,
            shown: None,
            at: Nanos::ZERO,
        };
        self.watchers.insert(exchange, watcher);
        self.begin_under_way(exchange, tenant);
        self.show_events(self.parts.clock.now());
        Ok(())
    }

    /// Tells what has changed.
    pub(super) fn show_events(&mut self, now: Nanos) {
        let mut ended = Vec::new();
        let mut watchers = std::mem::take(&mut self.watchers);
        for (&exchange, watcher) in &mut watchers {
            let Some(entry) = self.jobs.get(&watcher.job) else {
                ended.push(exchange);
                self.send_event(exchange, String::new(), true);
                continue;
            };
            let status = entry.status(watcher.job);
            let (last, told) = (watcher.shown, entry.is_told());
            let changed = last.is_none_or(|(state, _)| state != status.state);
            let moved = last.is_none_or(|(_, progress)| progress != status.progress);
            let due = now >= watcher.at.plus(PROGRESS_EVERY);
            let mut text = String::new();
            if changed || told || (moved && due) {
                text = self.event(STATUS, watcher.job, Asked::Status);
                watcher.shown = Some((status.state, status.progress));
            } else if now >= watcher.at.plus(BREATH_EVERY) {
                // A comment, by which both ends and all between know that the other is there.
                text.push_str(":\n\n");
            }
            if told {
                if status.state == JobState::Proved {
                    text += &self.event(RESULT, watcher.job, Asked::Result);
                }
                ended.push(exchange);
            }
            if !text.is_empty() {
                watcher.at = now;
                self.send_event(exchange, text, told);
            }
        }
        for exchange in ended {
            watchers.remove(&exchange);
        }
        self.watchers = watchers;
    }

    /// Ends a stream with an error; whether there was one.
    pub(super) fn break_stream(&mut self, exchange: u64, error: &RpcError) -> bool {
        if self.watchers.remove(&exchange).is_none() {
            return false;
        }
        let data = serde_json::to_string(&error.to_wire()).unwrap_or_default();
        self.send_event(exchange, format!("event: {ERROR}\ndata: {data}\n\n"), true);
        true
    }

    /// Ends all streams, for the box stops.
    pub(super) fn end_events(&mut self) {
        for exchange in std::mem::take(&mut self.watchers).into_keys() {
            self.send_event(exchange, String::new(), true);
        }
    }

    fn event(&self, name: &str, job: JobId, asked: Asked) -> String {
        // JSON has no line breaks of its own, so one line of data holds it.
        let shown = self.show(job, asked);
        let data = shown.as_ref().map_or(&b"null"[..], Json::as_bytes);
        let data = String::from_utf8_lossy(data);
        format!("event: {name}\ndata: {data}\n\n")
    }

    fn send_event(&mut self, exchange: u64, text: String, last: bool) {
        self.outgoing.push(Outgoing::Event {
            exchange,
            text,
            last,
        });
    }
}

const STATUS: &str = "status";
const RESULT: &str = "result";
const ERROR: &str = "error";
const PROGRESS_EVERY: Nanos = Nanos::from_millis(100);
/// Proxies give up on a connection that is silent for a minute, some for half of one.
const BREATH_EVERY: Nanos = Nanos::from_secs(15);
/// How often progress is looked at while somebody reads along.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
