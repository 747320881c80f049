//! What the box has measured of itself: quanta, hand-overs, requests.
//!
//! Workers and the arbiter only push fixed-size records into rings that were made at start. The
//! RPC thread, which has the time, drains the rings a few times in a second and before every
//! answer that shows them; it alone owns what is here, so there are no locks and no atomics. A
//! full ring loses the record and counts the loss (`caldera_quantum_records_lost_total`): a
//! worker never waits for its observer.
//!
//! `GET /metrics` gives it in Prometheus' text format, in base units (seconds, bytes), as
//! cumulative counters and histograms: rates and quantiles are for who reads them.

mod work;

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use caldera_devices::{OpenError as DeviceOpenError, Wanted};
use caldera_kernels::{DeviceInfo, Health, Site};
use caldera_rpc::methods;
use caldera_scheduler::arbiter::{Cause, Reallocation};
use caldera_scheduler::ledger::retention::Kept;
use caldera_scheduler::mailbox::Found;
use caldera_scheduler::pool::Kind;
use caldera_scheduler::{JobId, Nanos, TenantId, UnitId};

use crate::era::{COHORTS, EraGauges};
use crate::histograms::{Handovers, OfCause, Spans, cause_name, split};
use crate::tls::Handshake;

use work::OUTCOMES;
pub use work::{ScenarioGauges, Work};

/// One quantum that a worker ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuantumRecord {
    /// The worker.
    pub unit: UnitId,
    /// Whose job.
    pub tenant: TenantId,
    /// The job.
    pub job: JobId,
    /// What ran.
    pub kernel: &'static str,
    /// The stage that it is of, by its place among the job's stages.
    pub stage: u16,
    /// The lane that it is of.
    pub lane: u32,
    /// When it began.
    pub start: Nanos,
    /// How long it took.
    pub span: Nanos,
    /// How long its thread ran meanwhile; nothing where that is not measured.
    pub cpu: Nanos,
    /// What of this quantum and of those before it is charged to nobody: a device was lost, and what it had done of a
    /// piece of work is done again.
    pub void: Nanos,
}

/// What travels from the arbiter's thread to here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measurement {
    /// A quantum ended.
    Quantum(QuantumRecord),
    /// A core changed hands.
    Reallocation(Reallocation),
}

/// Everything measured since the start.
pub struct Telemetry {
    quantum_max: Nanos,
    quanta: Spans,
    over_budget: u64,
    /// All reallocations.
    all: Spans,
    /// Those of them whose new owner had nothing to run at the first look.
    empty: Spans,
    /// How many units are cores; those after them are devices.
    cores: usize,
    /// Of each kind of which there are units, with its name.
    handovers: Vec<(String, Handovers)>,
    recent: VecDeque<Reallocation>,
    /// The newest that were missed.
    misses: VecDeque<Reallocation>,
    /// What cores and devices have worked for each tenant.
    tenants: Vec<[Account; 2]>,
    /// What preparers have worked for all of them; part of what cores have.
    witnesses: Nanos,
    /// Jobs that ended, by how: proved, failed, cancelled.
    pub ended: [u64; 3],
    /// Proofs that came after their deadline.
    pub late: u64,
    /// Jobs that failed their first try and were proved when they were tried again.
    pub disagreed: u64,
    /// Requests and jobs, by how they ended.
    pub work: Work,
    /// Requests that were answered over HTTP, refusals included.
    pub requests: u64,
    /// Requests that were refused for their token.
    pub refused_tokens: u64,
    /// Bytes of blobs received.
    pub blob_bytes: u64,
    /// Quantum records that found their ring full.
    pub records_lost: u64,
    /// Bytes that quiet tenants have given back: tables, keys, other blobs.
    pub given_back: [u64; 3],
}

/// The processor, or a device beside it.
#[derive(Debug, Clone, PartialEq)]
pub struct Silicon {
    /// What it is.
    pub info: DeviceInfo,
    /// How it is.
    pub health: Health,
    /// Which one it is.
    pub site: Site,
}

impl Silicon {
    /// One that was asked for and is not there.
    pub fn missing(wanted: &Wanted, why: &DeviceOpenError) -> Silicon {
        Silicon {
            info: DeviceInfo {
                kind: wanted.kind(),
                name: wanted.to_string(),
                quantum: Duration::ZERO,
                lanes: 0,
            },
            health: Health {
                lost: Some(format!("not there at the start: {why}")),
                ..Health::default()
            },
            site: Site::default(),
        }
    }
}

/// What is true at the moment, for `/metrics`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges {
    /// All tenants.
    pub tenants: Vec<TenantGauges>,
    /// Each unit's number, core, and owner's name.
    pub units: Vec<(u16, usize, Option<String>)>,
    /// Circuits that are being checked, ready, failed.
    pub circuits: [u64; 3],
    /// Bytes of the tables of all keys.
    pub table_bytes: u64,
    /// Workers that have been fenced off since the start.
    pub overruns: u64,
    /// Orders to make room on a device, and those of them by which nothing went.
    pub evictions: (u64, u64),
    /// Units that are fenced off.
    pub fenced: u64,
    /// The processor, each device beside it that is a unit, and those that were not there at the start.
    pub devices: Vec<Silicon>,
    /// The scenarios that have tenants.
    pub scenarios: Vec<ScenarioGauges>,
    /// Whether nothing can be written down now.
    pub storage_fault: bool,
    /// The ledger, if there is one.
    pub ledger: Option<EraGauges>,
    /// What is lent to other boxes, if there is a fleet.
    pub fleet: Option<FleetGauges>,
    /// At the sockets.
    pub doors: Doors,
    /// Seconds since the start.
    pub uptime_s: f64,
}

/// Jobs that other boxes are to prove.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FleetGauges {
    /// That are lent.
    pub out: u64,
    /// That were, since the start.
    pub lent: u64,
    /// Whose proof was taken.
    pub proved: u64,
    /// That came home, by why.
    pub home: [(&'static str, u64); 3],
    /// Results and returns that were refused, by why.
    pub refused: [(&'static str, u64); 3],
}

/// What the shell has seen at its sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doors {
    /// Open connections.
    pub connections: u64,
    /// Connections that were closed as they came: too many in all, too many from one address.
    pub turned_away: [u64; 2],
    /// Where TLS is spoken.
    pub tls: Option<TlsDoors>,
}

/// What the shell has seen of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TlsDoors {
    /// How handshakes ended, in the order of [`Handshake::ALL`].
    pub handshakes: [u64; Handshake::ALL.len()],
    /// Whether files that should have come into force could not be used.
    pub reload_failed: bool,
}

impl Doors {
    /// Counts the end of a handshake.
    pub fn handshake(&mut self, ended: Handshake) {
        let place = Handshake::ALL.iter().position(|it| *it == ended);
        if let (Some(tls), Some(place)) = (&mut self.tls, place) {
            tls.handshakes[place] += 1;
        }
    }
}

/// What is true of a tenant at the moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantGauges {
    /// Its name.
    pub name: String,
    /// Its jobs that wait, are prepared, and run.
    pub jobs: [u64; 3],
    /// Cores that it holds.
    pub cores: u64,
    /// Cores that it has declared that it will want.
    pub declared: u64,
    /// Whether its measured demand is at a peak.
    pub peak: bool,
    /// How long cores have worked for it.
    pub core_time: Nanos,
    /// How long devices have, where there are any.
    pub device_time: Option<Nanos>,
    /// Bytes of its keys on devices.
    pub device_bytes: u64,
    /// Bytes of memory that its jobs under way hold.
    pub job_bytes: u64,
    /// Bytes that it holds: tables, keys, other blobs.
    pub storage: [u64; 3],
}

impl Gauges {
    /// Sums all tenants under one label that is nobody's name, for who may know how busy the box is and not with whom.
    pub fn withhold_names(&mut self) {
        let sum = |of: fn(&TenantGauges) -> u64| self.tenants.iter().map(of).sum::<u64>();
        let time = self.tenants.iter().map(|it| it.core_time);
        let device_time = self.tenants.iter().filter_map(|it| it.device_time);
        self.tenants = vec![TenantGauges {
            name: ANYBODY.to_owned(),
            jobs: [
                sum(|it| it.jobs[0]),
                sum(|it| it.jobs[1]),
                sum(|it| it.jobs[2]),
            ],
            cores: sum(|it| it.cores),
            declared: sum(|it| it.declared),
            peak: self.tenants.iter().any(|it| it.peak),
            core_time: time.fold(Nanos::ZERO, Nanos::plus),
            device_time: device_time
                .fold(None, |sum, it| Some(sum.unwrap_or(Nanos::ZERO).plus(it))),
            device_bytes: sum(|it| it.device_bytes),
            job_bytes: sum(|it| it.job_bytes),
            storage: [
                sum(|it| it.storage[0]),
                sum(|it| it.storage[1]),
                sum(|it| it.storage[2]),
            ],
        }];
        let owners = self
            .units
            .iter_mut()
            .filter_map(|(.., owner)| owner.as_mut());
        owners.for_each(|owner| ANYBODY.clone_into(owner));
    }
}

/// What one tenant is charged of one kind of units.
#[derive(Debug, Clone, Copy, Default)]
struct Account {
    charged: Nanos,
    /// So much of what comes is not charged.
    credit: Nanos,
}

impl Account {
    fn charge(&mut self, time: Nanos) {
        let free = self.credit.min(time);
        self.credit = self.credit.since(free);
        self.charged = self.charged.plus(time.since(free));
    }

    fn forgive(&mut self, time: Nanos) {
        self.credit = self.credit.plus(time);
    }
}

impl Telemetry {
    /// Nothing measured yet, on so many cores and devices. A quantum above `quantum_max` is over its budget.
    pub fn new(quantum_max: Nanos, cores: usize, devices: usize) -> Telemetry {
        let there = Kind::ALL.into_iter().zip([cores, devices]);
        let there = there.filter(|(_, count)| *count > 0);
        Telemetry {
            cores,
            quantum_max,
            quanta: Spans::new(),
            over_budget: 0,
            all: Spans::new(),
            empty: Spans::new(),
            handovers: there
                .map(|(kind, _)| (kind.to_string(), Handovers::new()))
                .collect(),
            recent: VecDeque::with_capacity(RECENT_MAX),
            misses: VecDeque::with_capacity(MISSES_MAX),
            tenants: Vec::new(),
            witnesses: Nanos::ZERO,
            ended: [0; 3],
            late: 0,
            disagreed: 0,
            work: Work::default(),
            requests: 0,
            refused_tokens: 0,
            blob_bytes: 0,
            records_lost: 0,
            given_back: [0; 3],
        }
    }

    /// Counts a quantum; true if it was over its budget.
    pub fn quantum(&mut self, record: &QuantumRecord) -> bool {
        self.quanta.record(record.span);
        let kind = usize::from(self.is_device(record.unit));
        let account = &mut self.account_of(record.tenant)[kind];
        account.forgive(record.void);
        account.charge(record.span);
        let over = record.span > self.quantum_max;
        self.over_budget += u64::from(over);
        over
    }

    /// Counts what a preparer has computed for a tenant, on a core that is not of the pool.
    pub fn computed(&mut self, tenant: TenantId, core: Nanos) {
        let [cores, _] = self.account_of(tenant);
        cores.charge(core);
        self.witnesses = self.witnesses.plus(core);
    }

    /// So much time on cores and on devices was for nothing, and its tenant was charged for it: as much of what comes
    /// is not, for what has been told never becomes less.
    pub fn forgive(&mut self, tenant: TenantId, times: [Nanos; 2]) {
        for (account, time) in self.account_of(tenant).iter_mut().zip(times) {
            account.forgive(time);
        }
    }

    fn account_of(&mut self, tenant: TenantId) -> &mut [Account; 2] {
        let tenant = tenant.0 as usize;
        if self.tenants.len() <= tenant {
            self.tenants.resize(tenant + 1, <[Account; 2]>::default());
        }
        &mut self.tenants[tenant]
    }

    /// Counts a hand-over.
    pub fn reallocation(&mut self, handover: Reallocation) {
        self.all.record(handover.total());
        if handover.found == Found::Nothing {
            self.empty.record(handover.total());
        }
        // Cores come first among the kinds.
        let kind = usize::from(self.is_device(handover.unit));
        if let Some((_, of)) = self.handovers.get_mut(kind) {
            of.record(&handover);
        }
        if handover.missed {
            keep(&mut self.misses, handover, MISSES_MAX);
        }
        keep(&mut self.recent, handover, RECENT_MAX);
    }

    /// How long cores have worked for a tenant.
    pub fn core_time(&self, tenant: TenantId) -> Nanos {
        let time = self.tenants.get(tenant.0 as usize);
        time.map_or(Nanos::ZERO, |[cores, _]| cores.charged)
    }

    /// How long devices have; `None` where there are none.
    pub fn device_time(&self, tenant: TenantId) -> Option<Nanos> {
        let time = self.tenants.get(tenant.0 as usize);
        let time = time.map_or(Nanos::ZERO, |[_, devices]| devices.charged);
        (self.handovers.len() > 1).then_some(time)
    }

    fn is_device(&self, unit: UnitId) -> bool {
        usize::from(unit.0) >= self.cores
    }

    /// How long hand-overs took, by cause; those of which there were none are left out.
    pub fn causes(&self) -> Vec<methods::CauseSpans> {
        let causes = self.handovers.iter().flat_map(causes_of);
        causes
            .filter(|(_, of)| of.total().count() > 0)
            .map(|(resource, of)| methods::CauseSpans {
                resource: resource.to_owned(),
                cause: cause_name(of.cause).to_owned(),
                count: of.total().count(),
                missed: of.missed,
                p50_us: of.total().quantile_us(0.5),
                p99_us: of.total().quantile_us(0.99),
                p999_us: of.total().quantile_us(0.999),
                max_us: of.total().max_us(),
            })
            .collect()
    }

    /// Every histogram of hand-overs, or those of one cause; empty ones are left out.
    pub fn histograms(&self, cause: Option<Cause>) -> Vec<methods::SpanHistogram> {
        let causes = self.handovers.iter().flat_map(causes_of);
        let wanted = causes.filter(|(_, of)| cause.is_none_or(|cause| cause == of.cause));
        let parts = wanted.flat_map(|(resource, of)| {
            let parts = of.parts();
            parts.map(move |(part, it)| (resource, of.cause, part, it))
        });
        parts
            .filter(|(_, _, _, spans)| spans.count() > 0)
            .map(|(resource, cause, part, spans)| methods::SpanHistogram {
                resource: resource.to_owned(),
                cause: cause_name(cause).to_owned(),
                part: part.to_owned(),
                count: spans.count(),
                mean_us: spans.mean_us(),
                p50_us: spans.quantile_us(0.5),
                p99_us: spans.quantile_us(0.99),
                p999_us: spans.quantile_us(0.999),
                max_us: spans.max_us(),
                hgrm: spans.hgrm(),
            })
            .collect()
    }

    /// All hand-overs, with the newest as `show` writes them.
    pub fn reallocations(
        &self,
        mut show: impl FnMut(&Reallocation) -> methods::Reallocation,
    ) -> methods::Reallocations {
        methods::Reallocations {
            count: self.all.count(),
            missed: self
                .handovers
                .iter()
                .flat_map(causes_of)
                .map(|(_, of)| of.missed)
                .sum(),
            p50_us: self.all.quantile_us(0.5),
            p99_us: self.all.quantile_us(0.99),
            max_us: self.all.max_us(),
            empty: methods::EmptyReallocations {
                count: self.empty.count(),
                p50_us: self.empty.quantile_us(0.5),
                p99_us: self.empty.quantile_us(0.99),
                max_us: self.empty.max_us(),
            },
            recent: self.recent.iter().map(&mut show).collect(),
            misses: self.misses.iter().map(&mut show).collect(),
            causes: Vec::new(),
        }
    }

    /// All quanta.
    pub fn quanta(&self) -> methods::Quanta {
        methods::Quanta {
            count: self.quanta.count(),
            p50_us: self.quanta.quantile_us(0.5),
            p99_us: self.quanta.quantile_us(0.99),
            max_us: self.quanta.max_us(),
            over_budget: self.over_budget,
        }
    }

    /// The text of `/metrics`.
    pub fn metrics(&self, now: &Gauges) -> String {
        let mut text = Text(String::with_capacity(8 * 1024));
        text.family("caldera_uptime_seconds", "gauge", "Time since the start.");
        text.sample("caldera_uptime_seconds", &[], now.uptime_s);
        text.family("caldera_jobs", "gauge", "Unfinished jobs.");
        for tenant in &now.tenants {
            for (state, count) in ["queued", "preparing", "running"].iter().zip(tenant.jobs) {
                let labels = [("tenant", tenant.name.as_str()), ("state", state)];
                text.sample("caldera_jobs", &labels, count as f64);
            }
        }
        text.family("caldera_jobs_ended_total", "counter", "Jobs that ended.");
        for (outcome, count) in OUTCOMES.iter().zip(self.ended) {
            let labels = [("outcome", *outcome)];
            text.sample("caldera_jobs_ended_total", &labels, count as f64);
        }
        text.counter(
            "caldera_proofs_late_total",
            "Proofs after their deadline.",
            self.late,
        );
        text.counter(
            "caldera_proofs_disagreed_total",
            "Jobs whose first try failed and whose second, by the processor alone, gave a proof.",
            self.disagreed,
        );
        text.family(
            "caldera_table_bytes",
            "gauge",
            "Memory that the tables of keys take.",
        );
        text.sample("caldera_table_bytes", &[], now.table_bytes as f64);
        text.family("caldera_circuits", "gauge", "Registered circuits.");
        for (state, count) in ["checking", "ready", "failed"].iter().zip(now.circuits) {
            text.sample("caldera_circuits", &[("state", state)], count as f64);
        }
        type Family = (&'static str, &'static str, fn(&TenantGauges) -> u64);
        let families: [Family; 3] = [
            ("caldera_tenant_cores", "Cores that a tenant holds.", |it| {
                it.cores
            }),
            (
                "caldera_tenant_declared_cores",
                "Cores that a tenant has declared that it will want.",
                |it| it.declared,
            ),
            (
                "caldera_tenant_peak",
                "1 while a tenant's measured demand is at a peak.",
                |it| u64::from(it.peak),
            ),
        ];
        for (name, help, of) in families {
            text.family(name, "gauge", help);
            for tenant in &now.tenants {
                text.sample(name, &[("tenant", &tenant.name)], of(tenant) as f64);
            }
        }
        let name = "caldera_tenant_core_seconds_total";
        text.family(name, "counter", "How long cores have worked for a tenant.");
        for tenant in &now.tenants {
            let seconds = tenant.core_time.0 as f64 / 1e9;
            text.sample(name, &[("tenant", &tenant.name)], seconds);
        }
        let name = "caldera_tenant_job_bytes";
        let help = "Bytes of memory that a tenant's jobs under way hold.";
        text.family(name, "gauge", help);
        for tenant in &now.tenants {
            text.sample(name, &[("tenant", &tenant.name)], tenant.job_bytes as f64);
        }
        let times = now.tenants.iter();
        let times = times.filter_map(|it| Some((it.name.as_str(), it.device_time?)));
        let mut times = times.peekable();
        if times.peek().is_some() {
            let name = "caldera_tenant_device_seconds_total";
            text.family(
                name,
                "counter",
                "How long devices have worked for a tenant.",
            );
            for (tenant, time) in times {
                text.sample(name, &[("tenant", tenant)], time.0 as f64 / 1e9);
            }
            let name = "caldera_tenant_device_bytes";
            text.family(name, "gauge", "Bytes of a tenant's keys on devices.");
            for tenant in &now.tenants {
                let bytes = tenant.device_bytes as f64;
                text.sample(name, &[("tenant", &tenant.name)], bytes);
            }
            let name = "caldera_device_evictions_total";
            text.family(
                name,
                "counter",
                "Orders to make room on a device, and those of them by which nothing went.",
            );
            let (ordered, unmade) = now.evictions;
            for (outcome, count) in [("ordered", ordered), ("unmade", unmade)] {
                text.sample(name, &[("outcome", outcome)], count as f64);
            }
        }
        text.family(
            "caldera_storage_bytes",
            "gauge",
            "Bytes that a tenant holds.",
        );
        for tenant in &now.tenants {
            for (kind, bytes) in STORAGE.iter().zip(tenant.storage) {
                let labels = [("tenant", tenant.name.as_str()), ("kind", kind)];
                text.sample("caldera_storage_bytes", &labels, bytes as f64);
            }
        }
        let given_back = "caldera_storage_given_back_bytes_total";
        text.family(given_back, "counter", "Bytes that quiet tenants gave back.");
        for (kind, bytes) in STORAGE.iter().zip(self.given_back) {
            text.sample(given_back, &[("kind", kind)], bytes as f64);
        }
        text.family(
            "caldera_unit_owner",
            "gauge",
            "1 for the tenant that holds a unit; an empty name is nobody.",
        );
        for (unit, core, owner) in &now.units {
            let (unit, core) = (unit.to_string(), core.to_string());
            let owner = owner.as_deref().unwrap_or("");
            let labels = [("unit", unit.as_str()), ("core", &core), ("tenant", owner)];
            text.sample("caldera_unit_owner", &labels, 1.0);
        }
        text.counter(
            "caldera_overruns_total",
            "Workers that were fenced off for not answering.",
            now.overruns,
        );
        text.family(
            "caldera_units_fenced",
            "gauge",
            "Units whose worker has not answered since it was fenced off.",
        );
        text.sample("caldera_units_fenced", &[], now.fenced as f64);
        text.family(
            "caldera_device_lost",
            "gauge",
            "1 for a device that was given up, whose work the processor does.",
        );
        for (member, it) in now.devices.iter().enumerate() {
            let labels = [("kind", it.info.kind), ("member", &member.to_string())];
            let lost = f64::from(u8::from(it.health.lost.is_some()));
            text.sample("caldera_device_lost", &labels, lost);
        }
        text.family(
            "caldera_device_info",
            "gauge",
            "1; which device a member is: its name, its place on the PCI bus, and its maker's number of it.",
        );
        for (member, it) in now.devices.iter().enumerate() {
            let labels = [
                ("kind", it.info.kind),
                ("member", &member.to_string()),
                ("name", &it.info.name),
                ("pci", it.site.pci.as_deref().unwrap_or("")),
                ("uuid", it.site.uuid.as_deref().unwrap_or("")),
            ];
            text.sample("caldera_device_info", &labels, 1.0);
        }
        let family = "caldera_device_fallen_back_total";
        text.family(
            family,
            "counter",
            "Pieces of work that the processor or another device did in place of the device.",
        );
        for (member, it) in now.devices.iter().enumerate() {
            let labels = [("kind", it.info.kind), ("member", &member.to_string())];
            text.sample(family, &labels, it.health.fallen_back as f64);
        }
        text.family(
            "caldera_quantum_seconds",
            "histogram",
            "How long quanta took.",
        );
        text.histogram("caldera_quantum_seconds", &[], &self.quanta);
        text.counter(
            "caldera_quanta_over_budget_total",
            "Quanta that took longer than they may.",
            self.over_budget,
        );
        text.counter(
            "caldera_quantum_records_lost_total",
            "Quanta that are missing from the histogram because a ring was full.",
            self.records_lost,
        );
        text.family(
            "caldera_reallocation_seconds",
            "histogram",
            "From a demand to the new owner's first quantum on a core or device.",
        );
        for (resource, of) in self.handovers.iter().flat_map(causes_of) {
            let labels = [("resource", resource), ("cause", cause_name(of.cause))];
            text.histogram("caldera_reallocation_seconds", &labels, of.total());
        }
        text.family(
            "caldera_reallocation_part_seconds",
            "histogram",
            "Where the time of reallocations went.",
        );
        for (resource, of) in self.handovers.iter().flat_map(causes_of) {
            for (part, spans) in of.parts().skip(1) {
                let cause = cause_name(of.cause);
                let labels = [("resource", resource), ("cause", cause), ("part", part)];
                text.histogram("caldera_reallocation_part_seconds", &labels, spans);
            }
        }
        text.family(
            "caldera_reallocation_empty_seconds",
            "histogram",
            "Those of them whose new owner had nothing to run at the first look.",
        );
        text.histogram("caldera_reallocation_empty_seconds", &[], &self.empty);
        text.family(
            "caldera_reallocations_missed_total",
            "counter",
            "Reallocations that took longer than their bound.",
        );
        for (resource, of) in self.handovers.iter().flat_map(causes_of) {
            let labels = [("resource", resource), ("cause", cause_name(of.cause))];
            let missed = of.missed as f64;
            text.sample("caldera_reallocations_missed_total", &labels, missed);
        }
        let name = "caldera_witness_seconds_total";
        text.family(
            name,
            "counter",
            "How long cores outside of the pool have computed witnesses; part of what tenants are charged.",
        );
        text.sample(name, &[], self.witnesses.0 as f64 / 1e9);
        let name = "caldera_storage_fault";
        text.family(name, "gauge", "1 while the disk takes no writes.");
        text.sample(name, &[], f64::from(u8::from(now.storage_fault)));
        self.work.write(&mut text, &now.scenarios);
        if let Some(ledger) = &now.ledger {
            text.ledger(ledger);
        }
        if let Some(fleet) = &now.fleet {
            text.fleet(fleet);
        }
        text.family("caldera_connections", "gauge", "Open connections.");
        text.sample("caldera_connections", &[], now.doors.connections as f64);
        text.doors(&now.doors);
        text.counter(
            "caldera_http_requests_total",
            "Requests answered.",
            self.requests,
        );
        text.counter(
            "caldera_http_tokens_refused_total",
            "Requests refused for their token.",
            self.refused_tokens,
        );
        text.counter(
            "caldera_blob_received_bytes_total",
            "Blob bytes received.",
            self.blob_bytes,
        );
        text.0
    }
}

/// A hand-over as `pool_statusV1` gives it, with the names that the caller may see.
pub fn show_reallocation(
    it: &Reallocation,
    from: Option<String>,
    to: Option<String>,
    foreign: bool,
) -> methods::Reallocation {
    let [total_us, detect_us, decide_us, drain_us, first_us] =
        split(it).map(|span| span.0 as f64 / 1e3);
    methods::Reallocation {
        unit: it.unit.0,
        from,
        to,
        foreign,
        cause: cause_name(it.cause).to_owned(),
        empty: it.found == Found::Nothing,
        detect_us,
        decide_us,
        drain_us,
        first_us,
        total_us,
    }
}

/// A text in Prometheus' format as it grows.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value as f64);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            // Debug escapes quotes, backslashes and newlines as the format wants it; names of
            // tenants hold none of them.
            let _ = write!(self.0, "{open}{label}={text:?}");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn doors(&mut self, doors: &Doors) {
        let name = "caldera_connections_refused_total";
        let help = "Connections that were closed as they came, for there were too many.";
        self.family(name, "counter", help);
        for (limit, count) in ["connections", "address_connections"]
            .iter()
            .zip(doors.turned_away)
        {
            self.sample(name, &[("limit", limit)], count as f64);
        }
        let Some(tls) = &doors.tls else {
            return;
        };
        let name = "caldera_tls_handshakes_total";
        self.family(name, "counter", "TLS handshakes, by how they ended.");
        for (ended, count) in Handshake::ALL.iter().zip(tls.handshakes) {
            self.sample(name, &[("outcome", ended.name())], count as f64);
        }
        let name = "caldera_tls_reload_failed";
        let help = "1 while certificates that should be in force could not be used.";
        self.family(name, "gauge", help);
        self.sample(name, &[], f64::from(u8::from(tls.reload_failed)));
    }

    fn fleet(&mut self, it: &FleetGauges) {
        let name = "caldera_fleet_jobs";
        self.family(name, "gauge", "Jobs that are lent to other boxes.");
        self.sample(name, &[], it.out as f64);
        self.counter(
            "caldera_fleet_lent_total",
            "Jobs that were lent to other boxes.",
            it.lent,
        );
        self.counter(
            "caldera_fleet_proved_total",
            "Jobs that other boxes have proved.",
            it.proved,
        );
        let name = "caldera_fleet_home_total";
        let help = "Jobs that came home from the fleet without a proof.";
        self.family(name, "counter", help);
        for (reason, count) in it.home {
            self.sample(name, &[("reason", reason)], count as f64);
        }
        let name = "caldera_fleet_refused_total";
        let help = "Results and returns of the fleet's that were refused.";
        self.family(name, "counter", help);
        for (reason, count) in it.refused {
            self.sample(name, &[("reason", reason)], count as f64);
        }
    }

    /// What the ledger says. How many samples there are does not depend on how many parties there are.
    fn ledger(&mut self, it: &EraGauges) {
        const OLDER: usize = COHORTS - 1;
        let damaged = u64::from(it.damaged.is_some());
        for (name, help, value) in [
            (
                "caldera_era_damaged",
                "1 if the ledger's journal is refused; then the rest is 0.",
                damaged,
            ),
            ("caldera_era_parties", "Parties of the ledger.", it.parties),
            ("caldera_era_epoch", "The open epoch.", it.epoch.into()),
        ] {
            self.family(name, "gauge", help);
            self.sample(name, &[], value as f64);
        }
        self.counter(
            "caldera_era_records_total",
            "Records of the ledger.",
            it.records,
        );
        let name = "caldera_era_house_units";
        self.family(name, "gauge", "What accounts hold that are nobody's.");
        for (account, units) in &it.house {
            self.sample(name, &[("account", account)], *units as f64);
        }
        let name = "caldera_era_events_total";
        self.family(
            name,
            "counter",
            "What this node did and was written down, and proofs of other nodes.",
        );
        let kinds = ["proof", "failure", "release", "reuse", "others_proof"];
        for (what, count) in kinds.iter().zip(it.events) {
            self.sample(name, &[("what", what)], count as f64);
        }
        let name = "caldera_era_refused_total";
        self.family(name, "counter", "What the ledger has refused.");
        for (what, count) in ["submission", "event", "reuse"].iter().zip(it.refused) {
            self.sample(name, &[("what", what)], count as f64);
        }
        for (name, help, of) in [
            (
                "caldera_era_retention_active",
                "Parties that were active in the newest month that is over: n. A cohort is how many months before they were first.",
                (|kept| kept.active) as fn(&Kept) -> u64,
            ),
            (
                "caldera_era_retention_kept",
                "Those of them that have been active since.",
                |kept| kept.kept,
            ),
        ] {
            self.family(name, "gauge", help);
            for (rewarded, cohorts) in ["true", "false"].iter().zip(&it.retention) {
                for (age, kept) in cohorts.iter().enumerate() {
                    let cohort = match age {
                        OLDER => "older".to_owned(),
                        age => age.to_string(),
                    };
                    let labels = [("rewarded", *rewarded), ("cohort", cohort.as_str())];
                    self.sample(name, &labels, of(kept) as f64);
                }
            }
        }
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], spans: &Spans) {
        let bucket = format!("{name}_bucket");
        let buckets = spans.buckets();
        let buckets = buckets.map(|(bound, count)| (bound.to_string(), count));
        for (bound, count) in buckets.chain([("+Inf".to_owned(), spans.count())]) {
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample(&bucket, &labels, count as f64);
        }
        self.sample(&format!("{name}_sum"), labels, spans.sum_s());
        self.sample(&format!("{name}_count"), labels, spans.count() as f64);
    }
}

fn causes_of((resource, of): &(String, Handovers)) -> impl Iterator<Item = (&str, OfCause<'_>)> {
    of.causes().map(move |it| (resource.as_str(), it))
}

fn keep(list: &mut VecDeque<Reallocation>, newest: Reallocation, max: usize) {
    if list.len() == max {
        list.pop_front();
    }
    list.push_back(newest);
}

/// In place of a tenant's name; none has a star.
const ANYBODY: &str = "*";
/// Kinds of storage.
const STORAGE: [&str; 3] = ["tables", "keys", "blobs"];
/// Hand-overs that are kept one by one.
const RECENT_MAX: usize = 64;
/// Of those that were missed, as many.
const MISSES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_scheduler::Epoch;

    fn handover(total_ms: u64) -> Reallocation {
        let at = |ms| Nanos::from_millis(1_000 + ms);
        Reallocation {
            unit: UnitId(1),
            epoch: Epoch(1),
            from: Some(TenantId(0)),
            to: TenantId(1),
            cause: Cause::Demand,
            t0: at(0),
            detected: at(1),
            decided: at(1),
            drained: at(total_ms - 1),
            first: at(total_ms),
            found: Found::Work,
            missed: total_ms > 100,
        }
    }

    #[test]
    fn what_takes_too_long_is_counted() {
        let mut telemetry = Telemetry::new(Nanos::from_millis(2), 2, 0);
        telemetry.reallocation(handover(100));
        telemetry.reallocation(handover(101));
        let shown = telemetry.reallocations(|it| show_reallocation(it, None, None, true));
        assert_eq!((shown.count, shown.missed), (2, 1));
        assert_eq!(shown.misses.len(), 1);
        assert_eq!(shown.misses[0].total_us, 101_000.0);
        let last = shown.recent.last().expect("two were kept");
        assert_eq!(last.total_us, 101_000.0);
        let parts = last.detect_us + last.decide_us + last.drain_us + last.first_us;
        assert_eq!(parts, last.total_us);

        let mut record = QuantumRecord {
            unit: UnitId(0),
            tenant: TenantId(0),
            job: JobId(1),
            kernel: "msm",
            stage: 0,
            lane: 0,
            cpu: Nanos::ZERO,
            void: Nanos::ZERO,
            start: Nanos(5),
            span: Nanos::from_millis(2),
        };
        assert!(!telemetry.quantum(&record));
        record.span = Nanos(record.span.0 + 1);
        assert!(telemetry.quantum(&record));
        assert_eq!(telemetry.quanta().over_budget, 1);
        record.tenant = TenantId(2);
        telemetry.quantum(&record);
        let core = [0, 1, 2, 3].map(|tenant| telemetry.core_time(TenantId(tenant)).0);
        assert_eq!(core, [4_000_001, 0, 2_000_001, 0]);
    }

    #[test]
    fn what_was_for_nothing_is_charged_once_and_nothing_told_becomes_less() {
        let mut telemetry = Telemetry::new(Nanos::from_millis(2), 1, 1);
        let tenant = TenantId(0);
        let mut run = |unit, span, void| {
            telemetry.quantum(&QuantumRecord {
                unit: UnitId(unit),
                tenant,
                job: JobId(1),
                kernel: "msm",
                stage: 0,
                lane: 0,
                cpu: Nanos::ZERO,
                void: Nanos(void),
                start: Nanos(5),
                span: Nanos(span),
            });
            let devices = telemetry.device_time(tenant).map(|it| it.0);
            (telemetry.core_time(tenant).0, devices)
        };
        assert_eq!(run(1, 100, 0), (0, Some(100)));
        // The second quantum of a piece of work finds the device lost: both are done again on a core.
        assert_eq!(run(1, 50, 150), (0, Some(100)));
        assert_eq!(run(0, 70, 0), (70, Some(100)));
        // What was charged before is made good for by what comes.
        assert_eq!(run(1, 60, 0), (70, Some(100)));
        assert_eq!(run(1, 60, 0), (70, Some(120)));
        telemetry.forgive(tenant, [Nanos(30), Nanos(10)]);
        telemetry.computed(tenant, Nanos(20));
        assert_eq!(telemetry.core_time(tenant), Nanos(70));
        telemetry.computed(tenant, Nanos(20));
        assert_eq!(telemetry.core_time(tenant), Nanos(80));
        assert_eq!(telemetry.device_time(tenant), Some(Nanos(120)));
    }

    #[test]
    fn only_the_newest_handovers_are_kept() {
        let mut telemetry = Telemetry::new(Nanos(1), 2, 0);
        for ms in 2..200 {
            telemetry.reallocation(handover(ms));
        }
        let shown = telemetry.reallocations(|it| show_reallocation(it, None, None, true));
        assert_eq!(shown.recent.len(), RECENT_MAX);
        let newest = shown.recent.last().map(|it| it.total_us);
        assert_eq!(newest, Some(199_000.0));
    }

    #[test]
    fn metrics_are_cumulative_and_in_base_units() {
        let mut telemetry = Telemetry::new(Nanos::from_millis(2), 2, 1);
        telemetry.reallocation(handover(4));
        telemetry.reallocation(Reallocation {
            unit: UnitId(2),
            ..handover(1)
        });
        telemetry.reallocation(Reallocation {
            found: Found::Nothing,
            ..handover(40)
        });
        let gauges = Gauges {
            table_bytes: 4096,
            tenants: vec![TenantGauges {
                name: "a".into(),
                jobs: [1, 2, 3],
                cores: 2,
                declared: 3,
                peak: true,
                core_time: Nanos::from_millis(1_500),
                device_time: Some(Nanos::from_millis(250)),
                device_bytes: 77,
                job_bytes: 78,
                storage: [4096, 512, 7],
            }],
            units: vec![(0, 4, Some("a".into())), (1, 5, None)],
            evictions: (5, 2),
            ..Gauges::default()
        };
        let text = telemetry.metrics(&gauges);
        for line in [
            "caldera_table_bytes 4096",
            "caldera_jobs{tenant=\"a\",state=\"running\"} 3",
            "caldera_storage_bytes{tenant=\"a\",kind=\"keys\"} 512",
            "caldera_storage_given_back_bytes_total{kind=\"tables\"} 0",
            "caldera_unit_owner{unit=\"1\",core=\"5\",tenant=\"\"} 1",
            "caldera_reallocation_seconds_bucket{resource=\"core\",cause=\"demand\",le=\"0.002\"} 0",
            "caldera_reallocation_seconds_bucket{resource=\"core\",cause=\"demand\",le=\"0.005\"} 1",
            "caldera_reallocation_seconds_bucket{resource=\"core\",cause=\"demand\",le=\"0.05\"} 2",
            "caldera_reallocation_seconds_bucket{resource=\"core\",cause=\"demand\",le=\"+Inf\"} 2",
            "caldera_reallocation_seconds_sum{resource=\"core\",cause=\"demand\"} 0.044",
            "caldera_reallocation_seconds_count{resource=\"core\",cause=\"turn\"} 0",
            "caldera_reallocation_part_seconds_sum{resource=\"core\",cause=\"demand\",part=\"detect\"} 0.002",
            "caldera_reallocation_part_seconds_sum{resource=\"core\",cause=\"demand\",part=\"drain\"} 0.04",
            "caldera_reallocations_missed_total{resource=\"core\",cause=\"demand\"} 0",
            "caldera_reallocation_empty_seconds_sum 0.04",
            "caldera_tenant_cores{tenant=\"a\"} 2",
            "caldera_tenant_declared_cores{tenant=\"a\"} 3",
            "caldera_tenant_peak{tenant=\"a\"} 1",
            "caldera_tenant_core_seconds_total{tenant=\"a\"} 1.5",
            "caldera_tenant_device_seconds_total{tenant=\"a\"} 0.25",
            "caldera_tenant_device_bytes{tenant=\"a\"} 77",
            "caldera_tenant_job_bytes{tenant=\"a\"} 78",
            "caldera_device_evictions_total{outcome=\"ordered\"} 5",
            "caldera_device_evictions_total{outcome=\"unmade\"} 2",
            "caldera_reallocation_seconds_count{resource=\"device\",cause=\"demand\"} 1",
            "# TYPE caldera_reallocation_seconds histogram",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "no line {line:?} in\n{text}"
            );
        }
    }
}
