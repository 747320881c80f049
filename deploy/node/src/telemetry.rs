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

mod metrics;
mod work;

use std::collections::VecDeque;
use std::time::Duration;

use caldera_devices::{OpenError as DeviceOpenError, Wanted};
use caldera_kernels::{DeviceInfo, Health, Site};
use caldera_rpc::chain::chain;
use caldera_rpc::methods;
use caldera_scheduler::arbiter::{Cause, Reallocation};
use caldera_scheduler::mailbox::Found;
use caldera_scheduler::pool::Kind;
use caldera_scheduler::{JobId, Nanos, TenantId, UnitId};

use crate::era::EraGauges;
use crate::histograms::{Handovers, OfCause, Spans, cause_name, split};
use crate::tls::Handshake;

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
                lost: Some(format!("not there at the start: {}", chain(why))),
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
