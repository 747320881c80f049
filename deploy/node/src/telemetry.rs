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

use std::collections::VecDeque;
use std::fmt::Write;

use caldera_rpc::methods;
use caldera_scheduler::arbiter::{Cause, Reallocation};
use caldera_scheduler::mailbox::Found;
use caldera_scheduler::{JobId, Nanos, TenantId, UnitId};
use hdrhistogram::Histogram;

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
    /// When it began.
    pub start: Nanos,
    /// How long it took.
    pub span: Nanos,
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
    quanta: Histogram<u64>,
    quanta_ns: u64,
    over_budget: u64,
    handovers: Histogram<u64>,
    handovers_ns: u64,
    /// Those of them whose new owner had nothing to run at the first look.
    empty: Histogram<u64>,
    empty_ns: u64,
    missed: u64,
    recent: VecDeque<Reallocation>,
    /// Jobs that ended, by how: proved, failed, cancelled.
    pub ended: [u64; 3],
    /// Proofs that came after their deadline.
    pub late: u64,
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
    /// Open connections.
    pub connections: u64,
    /// Seconds since the start.
    pub uptime_s: f64,
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
    /// Bytes that it holds: tables, keys, other blobs.
    pub storage: [u64; 3],
}

impl Telemetry {
    /// Nothing measured yet. A quantum above `quantum_max` is over its budget.
    pub fn new(quantum_max: Nanos) -> Telemetry {
        Telemetry {
            quantum_max,
            quanta: histogram(),
            quanta_ns: 0,
            over_budget: 0,
            handovers: histogram(),
            handovers_ns: 0,
            empty: histogram(),
            empty_ns: 0,
            missed: 0,
            recent: VecDeque::with_capacity(RECENT_MAX),
            ended: [0; 3],
            late: 0,
            requests: 0,
            refused_tokens: 0,
            blob_bytes: 0,
            records_lost: 0,
            given_back: [0; 3],
        }
    }

    /// Counts a quantum; true if it was over its budget.
    pub fn quantum(&mut self, record: &QuantumRecord) -> bool {
        self.quanta.saturating_record(record.span.0);
        self.quanta_ns += record.span.0;
        let over = record.span > self.quantum_max;
        self.over_budget += u64::from(over);
        over
    }

    /// Counts a hand-over.
    pub fn reallocation(&mut self, handover: Reallocation) {
        self.handovers.saturating_record(handover.total().0);
        self.handovers_ns += handover.total().0;
        if handover.found == Found::Nothing {
            self.empty.saturating_record(handover.total().0);
            self.empty_ns += handover.total().0;
        }
        self.missed += u64::from(handover.missed);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(handover);
    }

    /// All hand-overs, with the newest as `show` writes them.
    pub fn reallocations(
        &self,
        show: impl FnMut(&Reallocation) -> methods::Reallocation,
    ) -> methods::Reallocations {
        methods::Reallocations {
            count: self.handovers.len(),
            missed: self.missed,
            p50_us: micros(self.handovers.value_at_quantile(0.5)),
            p99_us: micros(self.handovers.value_at_quantile(0.99)),
            max_us: micros(self.handovers.max()),
            empty: methods::EmptyReallocations {
                count: self.empty.len(),
                p50_us: micros(self.empty.value_at_quantile(0.5)),
                p99_us: micros(self.empty.value_at_quantile(0.99)),
                max_us: micros(self.empty.max()),
            },
            recent: self.recent.iter().map(show).collect(),
        }
    }

    /// All quanta.
    pub fn quanta(&self) -> methods::Quanta {
        methods::Quanta {
            count: self.quanta.len(),
            p50_us: micros(self.quanta.value_at_quantile(0.5)),
            p99_us: micros(self.quanta.value_at_quantile(0.99)),
            max_us: micros(self.quanta.max()),
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
        for (outcome, count) in ["proved", "failed", "cancelled"].iter().zip(self.ended) {
            let labels = [("outcome", *outcome)];
            text.sample("caldera_jobs_ended_total", &labels, count as f64);
        }
        text.counter(
            "caldera_proofs_late_total",
            "Proofs after their deadline.",
            self.late,
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
        text.family(
            "caldera_quantum_seconds",
            "histogram",
            "How long quanta took.",
        );
        text.histogram("caldera_quantum_seconds", &self.quanta, self.quanta_ns);
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
            "From a demand to the new owner's first quantum on a core.",
        );
        text.histogram(
            "caldera_reallocation_seconds",
            &self.handovers,
            self.handovers_ns,
        );
        text.family(
            "caldera_reallocation_empty_seconds",
            "histogram",
            "Those of them whose new owner had nothing to run at the first look.",
        );
        text.histogram(
            "caldera_reallocation_empty_seconds",
            &self.empty,
            self.empty_ns,
        );
        text.counter(
            "caldera_reallocations_missed_total",
            "Reallocations that took longer than their bound.",
            self.missed,
        );
        text.family("caldera_connections", "gauge", "Open connections.");
        text.sample("caldera_connections", &[], now.connections as f64);
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
    let span = |a: Nanos, b: Nanos| micros(b.since(a).0);
    methods::Reallocation {
        unit: it.unit.0,
        from,
        to,
        foreign,
        cause: cause_name(it.cause).to_owned(),
        empty: it.found == Found::Nothing,
        detect_us: span(it.t0, it.detected),
        decide_us: span(it.detected, it.decided),
        drain_us: span(it.decided, it.drained),
        first_us: span(it.drained, it.first),
        total_us: span(it.t0, it.first),
    }
}

/// The word for a cause on the wire and in the log.
pub fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Demand => "demand",
        Cause::Declared => "declared",
        Cause::Measured => "measured",
        Cause::Release => "release",
        Cause::Turn => "turn",
        Cause::Ageing => "ageing",
        Cause::Overrun => "overrun",
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

    fn histogram(&mut self, name: &str, histogram: &Histogram<u64>, sum_ns: u64) {
        let bucket = format!("{name}_bucket");
        for bound in BUCKETS_US {
            let seconds = (bound as f64 / 1e6).to_string();
            // What hdrhistogram counts up to a value includes that value's own bin, which is
            // less than a thousandth wide.
            let count = histogram.count_between(0, bound * 1_000);
            self.sample(&bucket, &[("le", &seconds)], count as f64);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.len() as f64);
        self.sample(&format!("{name}_sum"), &[], sum_ns as f64 / 1e9);
        self.sample(&format!("{name}_count"), &[], histogram.len() as f64);
    }
}

fn histogram() -> Histogram<u64> {
    match Histogram::new_with_bounds(1, SPAN_NS_MAX, 3) {
        Ok(histogram) => histogram,
        Err(error) => unreachable!("the bounds are constants that fit: {error}"),
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Kinds of storage.
const STORAGE: [&str; 3] = ["tables", "keys", "blobs"];
/// Hand-overs that are kept one by one.
const RECENT_MAX: usize = 64;
/// Longer spans count as this long.
const SPAN_NS_MAX: u64 = 60_000_000_000;
/// Upper bounds of the buckets in `/metrics`, around a quantum's 2 ms and a hand-over's 100 ms.
const BUCKETS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];

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
        let mut telemetry = Telemetry::new(Nanos::from_millis(2));
        telemetry.reallocation(handover(100));
        telemetry.reallocation(handover(101));
        let shown = telemetry.reallocations(|it| show_reallocation(it, None, None, true));
        assert_eq!((shown.count, shown.missed), (2, 1));
        let last = shown.recent.last().expect("two were kept");
        assert_eq!(last.total_us, 101_000.0);
        let parts = last.detect_us + last.decide_us + last.drain_us + last.first_us;
        assert_eq!(parts, last.total_us);

        let mut record = QuantumRecord {
            unit: UnitId(0),
            tenant: TenantId(0),
            job: JobId(1),
            kernel: "msm",
            start: Nanos(5),
            span: Nanos::from_millis(2),
        };
        assert!(!telemetry.quantum(&record));
        record.span = Nanos(record.span.0 + 1);
        assert!(telemetry.quantum(&record));
        assert_eq!(telemetry.quanta().over_budget, 1);
    }

    #[test]
    fn only_the_newest_handovers_are_kept() {
        let mut telemetry = Telemetry::new(Nanos(1));
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
        let mut telemetry = Telemetry::new(Nanos::from_millis(2));
        telemetry.reallocation(handover(4));
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
                storage: [4096, 512, 7],
            }],
            units: vec![(0, 4, Some("a".into())), (1, 5, None)],
            ..Gauges::default()
        };
        let text = telemetry.metrics(&gauges);
        for line in [
            "caldera_table_bytes 4096",
            "caldera_jobs{tenant=\"a\",state=\"running\"} 3",
            "caldera_storage_bytes{tenant=\"a\",kind=\"keys\"} 512",
            "caldera_storage_given_back_bytes_total{kind=\"tables\"} 0",
            "caldera_unit_owner{unit=\"1\",core=\"5\",tenant=\"\"} 1",
            "caldera_reallocation_seconds_bucket{le=\"0.002\"} 0",
            "caldera_reallocation_seconds_bucket{le=\"0.005\"} 1",
            "caldera_reallocation_seconds_bucket{le=\"0.05\"} 2",
            "caldera_reallocation_seconds_bucket{le=\"+Inf\"} 2",
            "caldera_reallocation_seconds_sum 0.044",
            "caldera_reallocation_empty_seconds_sum 0.04",
            "caldera_tenant_cores{tenant=\"a\"} 2",
            "caldera_tenant_declared_cores{tenant=\"a\"} 3",
            "caldera_tenant_peak{tenant=\"a\"} 1",
            "# TYPE caldera_reallocation_seconds histogram",
        ] {
            assert!(
                text.lines().any(|l| l == line),
                "no line {line:?} in\n{text}"
            );
        }
    }
}
