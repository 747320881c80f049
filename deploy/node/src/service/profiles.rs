//! `prover_profileV1`: which quanta a job had, when and where, as far as they are still kept.

use caldera_rpc::error::RpcError;
use caldera_rpc::jsonrpc::Json;
use caldera_rpc::methods::{
    JobName, JobProfile, ProfileQuery, ProfiledQuantum, ProfiledReallocation, ProfiledStage,
    ProfiledUnit,
};
use caldera_scheduler::arbiter::Reallocation;
use caldera_scheduler::{JobId, Nanos, TenantId};

use super::{Caller, Flow, Question, Service, as_json};
use crate::profile::Quantum;
use crate::telemetry::show_reallocation;

impl Service {
    /// Answered after the arbiter has passed on what workers have left until then.
    pub(super) fn profile(
        &mut self,
        tenant: TenantId,
        query: ProfileQuery,
    ) -> Result<Flow, RpcError> {
        let job = self.job_of(tenant, query.job)?;
        if !self.profiles.is_on() {
            return Err(RpcError::ProfileUnavailable {
                job: query.job,
                detail: "this box keeps none (limits.profile_bytes is 0)",
            });
        }
        let from = query.from;
        self.look_at_pool(Question::Profile { job, from })
    }

    pub(super) fn profiled(
        &self,
        caller: Caller,
        job: JobId,
        from: Option<u64>,
    ) -> Result<Json, RpcError> {
        let name = JobName(job.0);
        // It may have gone while the arbiter was asked.
        let entry = self
            .jobs
            .get(&job)
            .ok_or(RpcError::JobUnknown { job: name })?;
        let status = entry.status(job);
        let profile = self.profiles.job(job);
        let (kept, total) = profile.map_or((0, 0), |it| (it.kept, it.total()));
        if kept == 0 && (total > 0 || status.started_ms.is_some()) {
            return Err(RpcError::ProfileUnavailable {
                job: name,
                detail: "its quanta have been overwritten by newer ones",
            });
        }
        let received = entry.received();
        let since = |at: Nanos| at.0.saturating_sub(received.0) as f64 / 1e3;
        let micros = |ns: u32| f64::from(ns) / 1e3;
        let page = self.profiles.page(job, from.unwrap_or(0), PAGE_MAX);
        let quantum = |it: &Quantum| ProfiledQuantum {
            unit: it.unit,
            stage: u32::from(it.stage),
            lane: it.lane,
            start_us: since(it.start),
            span_us: micros(it.span_ns),
            cpu_us: micros(it.cpu_ns),
        };
        let stages = profile.map(|it| it.stages.as_slice()).unwrap_or_default();
        let (preparing, prepared) = entry.laid_out().unzip();
        let end = entry.finished().unwrap_or(self.parts.clock.now());
        let touches = |it: &&Reallocation| {
            let own = |tenant| entry.tenant() == tenant;
            (own(it.to) || it.from.is_some_and(own)) && (received..=end).contains(&it.first)
        };
        let moves = self.profiles.moves().filter(touches).map(|it| {
            let (from, from_foreign) = self.shown(caller, it.from);
            let (to, to_foreign) = self.shown(caller, Some(it.to));
            ProfiledReallocation {
                at_us: since(it.first),
                reallocation: show_reallocation(it, from, to, from_foreign | to_foreign),
            }
        });
        let units = self.parts.units.iter().zip(0..);
        as_json(&JobProfile {
            status,
            preparing_us: preparing.map(since),
            prepared_us: prepared.map(since),
            units: units
                .map(|((core, _), unit)| ProfiledUnit {
                    unit,
                    core: u32::try_from(*core).unwrap_or(u32::MAX),
                    device: self
                        .device_of(usize::from(unit))
                        .map(|device| device.name.clone()),
                })
                .collect(),
            stages: stages
                .iter()
                .map(|it| ProfiledStage {
                    part: it.part.to_owned(),
                    kernel: it.kernel.to_owned(),
                    size: it.size as u64,
                    bytes: it.bytes as u64,
                    table_bytes: it.table_bytes.map(|bytes| bytes as u64),
                })
                .collect(),
            total,
            lost: total - kept,
            quanta: page.quanta.iter().map(quantum).collect(),
            next: page.next,
            // Once, with the first quanta.
            reallocations: if from.is_none() {
                moves.take(MOVES_MAX).collect()
            } else {
                Vec::new()
            },
        })
    }
}

/// Quanta of one answer: some three milliseconds of this thread, which also reads submissions.
const PAGE_MAX: usize = 1_024;
/// Reallocations of one answer.
const MOVES_MAX: usize = 1_024;
