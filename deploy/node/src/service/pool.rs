//! The pool as `pool_statusV1` and `/metrics` show it, and demand that tenants declare of it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::{Answer, Caller, Flow, Gauges, PoolView, Question, Service, as_json, ms};
use crate::arbiter_thread::Command;
use crate::histograms::{CAUSES, cause_name};
use crate::telemetry::{Doors, ScenarioGauges, Silicon, TenantGauges, show_reallocation};
use caldera_kernels::Software;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::{
    CircuitState, DeclareDemand, Demand, DeviceSoftware, DeviceStatus, HistogramsQuery, JobName,
    PoolStatus, TenantDetail, TenantStatus, UnitStatus,
};
use caldera_scheduler::arbiter::{Cause, DemandRefusal, TenantView};
use caldera_scheduler::demand::First;
use caldera_scheduler::{Nanos, TenantId};

impl Service {
    /// Asks the arbiter what there is; the question is answered when it has told.
    pub(super) fn look_at_pool(&mut self, question: Question) -> Result<Flow, RpcError> {
        let ticket = self.ticket();
        let view = self.empty_view();
        self.command(Command::Look { ticket, view })?;
        Ok(Flow::Wait(ticket, question))
    }

    pub(super) fn histograms(
        &mut self,
        caller: Caller,
        query: HistogramsQuery,
    ) -> Result<Flow, RpcError> {
        let find = |name: String| {
            let named = |cause: &&Cause| cause_name(**cause) == name;
            let found = CAUSES.iter().find(named).copied();
            found.ok_or_else(|| {
                let known = CAUSES.map(cause_name).join(", ");
                RpcError::misfit("cause", format!("expected one of {known}, got {name:?}"))
            })
        };
        let cause = query.cause.map(find).transpose()?;
        if caller != Caller::Operator {
            return Err(RpcError::InvalidRequest {
                detail: "how cores go from one tenant to another is told to the operator".into(),
            });
        }
        self.look_at_pool(Question::Histograms { cause })
    }

    pub(super) fn declare(
        &mut self,
        tenant: TenantId,
        request: DeclareDemand,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        if self.stopping {
            return Err(RpcError::Stopping);
        }
        let ticket = self.ticket();
        self.command(Command::Declare {
            ticket,
            tenant,
            units: request.units,
            span: Nanos::from_millis(request.duration_ms.unwrap_or(0)),
            received,
        })?;
        Ok(Flow::Wait(ticket, Question::Call))
    }

    pub(super) fn declared(&mut self, ticket: u64, answer: Result<(u32, Nanos), DemandRefusal>) {
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        let outcome = match answer {
            Ok((units, span)) => as_json(&Demand {
                units,
                expires_ms: ms(span),
            }),
            Err(DemandRefusal::AboveCeiling { ceiling, got }) => {
                Err(RpcError::DemandAboveCeiling { ceiling, got })
            }
            Err(DemandRefusal::Span { max, got }) => Err(RpcError::DemandDuration {
                max_ms: max.as_millis(),
                got_ms: got.as_millis(),
            }),
            Err(DemandRefusal::UnknownTenant) => {
                tracing::error!("the arbiter does not know a tenant");
                Err(RpcError::Internal)
            }
        };
        self.settle(waiting, outcome);
    }

    /// Memory for an answer, so that the arbiter need not allocate it.
    pub(super) fn empty_view(&self) -> Box<PoolView> {
        Box::new(PoolView {
            units: Vec::with_capacity(self.parts.units.len()),
            tenants: Vec::with_capacity(self.tenants.len()),
            ..PoolView::default()
        })
    }

    pub(super) fn seen(&mut self, ticket: u64, view: &PoolView) {
        self.take_measurements();
        self.telemetry.records_lost = view.records_lost;
        let Some(waiting) = self.waiting.remove(&ticket) else {
            return;
        };
        let outcome = match waiting.question {
            Question::Metrics {
                exchange,
                doors,
                named,
            } => {
                let mut gauges = self.gauges(view, doors);
                if !named {
                    gauges.withhold_names();
                }
                let text = self.telemetry.metrics(&gauges);
                let answer = Answer {
                    status: 200,
                    content_type: METRICS,
                    body: text.into_bytes(),
                    retry_after_s: None,
                    content_range: None,
                };
                self.answer(exchange, answer);
                return;
            }
            Question::Snapshot => {
                self.show_snapshot(view);
                return;
            }
            Question::Timeline {
                exchange,
                job,
                from,
            } => {
                self.answer_timeline(exchange, job, from);
                return;
            }
            Question::Histograms { cause } => as_json(&self.telemetry.histograms(cause)),
            Question::Profile { job, from } => self.profiled(waiting.caller, job, from),
            // The end of a job is told by the clerk, and what a proof would take by another notice.
            Question::Job { .. } | Question::Lent { .. } | Question::Estimate { .. } => return,
            Question::Call => as_json(&self.pool(waiting.caller, view)),
        };
        self.settle(waiting, outcome);
    }

    pub(super) fn pool(&self, caller: Caller, view: &PoolView) -> PoolStatus {
        let units = view
            .units
            .iter()
            .zip(&self.parts.units)
            .map(|(unit, (core, standing))| {
                let (owner, foreign) = self.shown(caller, unit.owner());
                let works = self.parts.board.busy_with(usize::from(unit.id().0));
                let busy = owner.is_some().then_some(works.is_some());
                let job = works
                    .filter(|_| owner.is_some())
                    .filter(|job| self.may_see(caller, *job));
                let number = usize::from(unit.id().0).checked_sub(self.cores());
                let device = self.device_of(usize::from(unit.id().0));
                UnitStatus {
                    unit: unit.id().0,
                    device: device.map(|device| device.name.clone()),
                    core: u32::try_from(*core).unwrap_or(u32::MAX),
                    thread_id: i64::from(standing.thread),
                    owner,
                    foreign,
                    epoch: u64::from(unit.epoch().0),
                    job: job.map(|job| JobName(job.0)),
                    since_ms: ms(view.at.since(unit.since())),
                    busy,
                    policy: standing.policy.clone(),
                    numa_node: unit.node(),
                    memory_bytes: device.map(|_| unit.memory()).filter(|it| *it < u64::MAX),
                    // Less its own that is what others have.
                    key_bytes: number
                        .filter(|_| caller == Caller::Operator)
                        .and_then(|number| self.parts.residence.held(number)),
                    table_bytes: number
                        .filter(|_| caller == Caller::Operator)
                        .and_then(|number| self.parts.residence.tables(number)),
                }
            })
            .collect();
        let tenants = view
            .tenants
            .iter()
            .map(|it| {
                let (tenant, foreign) = self.shown(caller, Some(it.tenant));
                let scenario = self.tenant(it.tenant).scenario.clone();
                TenantStatus {
                    scenario: Some(scenario).filter(|_| !foreign),
                    tenant,
                    foreign,
                    queued: u64::from(it.queued + it.preparing),
                    running: u64::from(it.ready),
                    cores: u64::from(it.held),
                    declared: u64::from(it.declared),
                    peak: it.at_peak,
                    detail: (!foreign).then(|| self.detail(it, view.at)),
                }
            })
            .collect();
        let mut reallocations = self.telemetry.reallocations(|it| {
            let (from, from_foreign) = self.shown(caller, it.from);
            let (to, to_foreign) = self.shown(caller, Some(it.to));
            show_reallocation(it, from, to, from_foreign | to_foreign)
        });
        if caller == Caller::Operator {
            reallocations.causes = self.telemetry.causes();
        }
        PoolStatus {
            units,
            tenants,
            devices: self.device_statuses(caller),
            reallocations,
            quanta: self.telemetry.quanta(),
            up_ms: self.parts.clock.elapsed().as_secs_f64() * 1e3,
        }
    }

    /// The processor first, then each unit that is a device, then those that were not there at the start.
    fn silicon(&self) -> Vec<Silicon> {
        let device = &self.parts.device;
        let members = device.members().into_iter().enumerate();
        let members = members.map(|(member, (info, health))| Silicon {
            info,
            health,
            site: device.site(member),
        });
        members.chain(self.parts.missing.iter().cloned()).collect()
    }

    fn device_statuses(&self, caller: Caller) -> Vec<DeviceStatus> {
        let shown = |it: Software| DeviceSoftware {
            name: it.name,
            version: it.version,
        };
        // Paths of the box, and which card it is, are the operator's business.
        let is_operator = caller == Caller::Operator;
        let status = |it: Silicon| DeviceStatus {
            kind: it.info.kind.to_owned(),
            name: it.info.name,
            pci: it.site.pci.filter(|_| is_operator),
            uuid: it.site.uuid.filter(|_| is_operator),
            lost: it.health.lost,
            fallen_back: it.health.fallen_back,
            software: it
                .health
                .software
                .into_iter()
                .map(shown)
                .filter(|_| is_operator)
                .collect(),
        };
        self.silicon().into_iter().map(status).collect()
    }

    fn detail(&self, it: &TenantView, now: Nanos) -> TenantDetail {
        let slack = |first: First| {
            let needed_at = now.plus(first.needs);
            ms(first.due.since(needed_at)) - ms(needed_at.since(first.due))
        };
        TenantDetail {
            preparing: u64::from(it.preparing),
            wants: u64::from(it.want),
            lends: it.lends,
            guarantee_percent: f64::from(it.guarantee.millionths()) / 1e4,
            core_ms: ms(self.telemetry.core_time(it.tenant)),
            device_bytes: it.device_memory,
            job_bytes: it.host_memory,
            slack_ms: it.first.map(slack),
        }
    }

    /// A tenant's name, if the caller may see it, and whether it is one that it may not.
    pub(super) fn shown(&self, caller: Caller, tenant: Option<TenantId>) -> (Option<String>, bool) {
        let Some(tenant) = tenant else {
            return (None, false);
        };
        if caller == Caller::Operator || caller == Caller::Tenant(tenant) {
            (Some(self.tenant(tenant).name.to_string()), false)
        } else {
            (None, true)
        }
    }

    /// Those that have tenants, by name.
    fn scenarios(&self, view: &PoolView) -> Vec<ScenarioGauges> {
        let mut all: BTreeMap<&str, ScenarioGauges> = BTreeMap::new();
        for it in &view.tenants {
            let name = &self.tenant(it.tenant).scenario;
            let of = all.entry(name).or_insert_with(|| ScenarioGauges {
                name: name.clone(),
                tenants: 0,
                cores: 0,
                guarantee: f64::from(it.guarantee.millionths()) / 1e6,
            });
            of.tenants += 1;
            of.cores += u64::from(it.held);
        }
        all.into_values().collect()
    }

    fn gauges(&self, view: &PoolView, doors: Doors) -> Gauges {
        let name = |tenant| self.tenant(tenant).name.to_string();
        let mut circuits = [0; 3];
        for circuit in self.circuits.values() {
            circuits[match circuit.state() {
                CircuitState::Checking => 0,
                CircuitState::Ready => 1,
                CircuitState::Failed => 2,
            }] += 1;
        }
        Gauges {
            devices: self.silicon(),
            table_bytes: self.parts.tables_held.load(Ordering::Relaxed),
            tenants: view
                .tenants
                .iter()
                .map(|it| TenantGauges {
                    name: name(it.tenant),
                    jobs: [it.queued, it.preparing, it.ready].map(u64::from),
                    cores: u64::from(it.held),
                    declared: u64::from(it.declared),
                    peak: it.at_peak,
                    core_time: self.telemetry.core_time(it.tenant),
                    device_time: self.telemetry.device_time(it.tenant),
                    device_bytes: it.device_memory,
                    job_bytes: it.host_memory,
                    storage: self.held(it.tenant),
                })
                .collect(),
            units: view
                .units
                .iter()
                .zip(&self.parts.units)
                .map(|(unit, (core, _))| (unit.id().0, *core, unit.owner().map(name)))
                .collect(),
            scenarios: self.scenarios(view),
            storage_fault: self.fault.is_some(),
            fleet: self
                .parts
                .config
                .fleet
                .is_some()
                .then(|| self.lent.gauges()),
            circuits,
            overruns: view.counters.overruns,
            evictions: (view.counters.evictions, view.counters.unmade),
            fenced: view.units.iter().filter(|unit| unit.is_fenced()).count() as u64,
            doors,
            ledger: self.ledger.as_deref().cloned(),
            uptime_s: self.parts.clock.elapsed().as_secs_f64(),
        }
    }
}

/// The type that Prometheus asks for.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
