//! The text of `/metrics`, subject by subject.
//!
//! [`Telemetry`] writes what it has counted itself, [`Text`] what is only told to it. The order of subjects is that of
//! the text.

use std::fmt::Write;

use caldera_scheduler::ledger::retention::Kept;

use super::work::OUTCOMES;
use super::{Doors, FleetGauges, Gauges, Silicon, Telemetry, TenantGauges, causes_of};
use crate::era::{COHORTS, EraGauges};
use crate::histograms::{Spans, cause_name};
use crate::tls::Handshake;

impl Telemetry {
    /// The text of `/metrics`.
    pub fn metrics(&self, now: &Gauges) -> String {
        let mut text = Text(String::with_capacity(8 * 1024));
        text.family("caldera_uptime_seconds", "gauge", "Time since the start.");
        text.sample("caldera_uptime_seconds", &[], now.uptime_s);
        self.jobs(now, &mut text);
        text.circuits(now);
        text.tenants(&now.tenants);
        text.tenants_devices(now);
        self.storage(now, &mut text);
        text.units(now);
        text.devices(&now.devices);
        self.work_done(&mut text);
        self.handovers(&mut text);
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
        self.requests(&now.doors, &mut text);
        text.0
    }

    fn jobs(&self, now: &Gauges, text: &mut Text) {
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
    }

    fn storage(&self, now: &Gauges, text: &mut Text) {
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
    }

    fn work_done(&self, text: &mut Text) {
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
    }

    fn handovers(&self, text: &mut Text) {
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
    }

    fn requests(&self, doors: &Doors, text: &mut Text) {
        text.family("caldera_connections", "gauge", "Open connections.");
        text.sample("caldera_connections", &[], doors.connections as f64);
        text.doors(doors);
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
    }
}

/// A text in Prometheus' format as it grows.
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", help);
        self.sample(name, &[], value as f64);
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
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

    fn circuits(&mut self, now: &Gauges) {
        self.family(
            "caldera_table_bytes",
            "gauge",
            "Memory that the tables of keys take.",
        );
        self.sample("caldera_table_bytes", &[], now.table_bytes as f64);
        self.family("caldera_circuits", "gauge", "Registered circuits.");
        for (state, count) in ["checking", "ready", "failed"].iter().zip(now.circuits) {
            self.sample("caldera_circuits", &[("state", state)], count as f64);
        }
    }

    fn tenants(&mut self, tenants: &[TenantGauges]) {
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
            self.family(name, "gauge", help);
            for tenant in tenants {
                self.sample(name, &[("tenant", &tenant.name)], of(tenant) as f64);
            }
        }
        let name = "caldera_tenant_core_seconds_total";
        self.family(name, "counter", "How long cores have worked for a tenant.");
        for tenant in tenants {
            let seconds = tenant.core_time.0 as f64 / 1e9;
            self.sample(name, &[("tenant", &tenant.name)], seconds);
        }
        let name = "caldera_tenant_job_bytes";
        let help = "Bytes of memory that a tenant's jobs under way hold.";
        self.family(name, "gauge", help);
        for tenant in tenants {
            self.sample(name, &[("tenant", &tenant.name)], tenant.job_bytes as f64);
        }
    }

    /// What tenants have on devices, where there are any.
    fn tenants_devices(&mut self, now: &Gauges) {
        let times = now.tenants.iter();
        let times = times.filter_map(|it| Some((it.name.as_str(), it.device_time?)));
        let mut times = times.peekable();
        if times.peek().is_some() {
            let name = "caldera_tenant_device_seconds_total";
            self.family(
                name,
                "counter",
                "How long devices have worked for a tenant.",
            );
            for (tenant, time) in times {
                self.sample(name, &[("tenant", tenant)], time.0 as f64 / 1e9);
            }
            let name = "caldera_tenant_device_bytes";
            self.family(name, "gauge", "Bytes of a tenant's keys on devices.");
            for tenant in &now.tenants {
                let bytes = tenant.device_bytes as f64;
                self.sample(name, &[("tenant", &tenant.name)], bytes);
            }
            let name = "caldera_device_evictions_total";
            self.family(
                name,
                "counter",
                "Orders to make room on a device, and those of them by which nothing went.",
            );
            let (ordered, unmade) = now.evictions;
            for (outcome, count) in [("ordered", ordered), ("unmade", unmade)] {
                self.sample(name, &[("outcome", outcome)], count as f64);
            }
        }
    }

    fn units(&mut self, now: &Gauges) {
        self.family(
            "caldera_unit_owner",
            "gauge",
            "1 for the tenant that holds a unit; an empty name is nobody.",
        );
        for (unit, core, owner) in &now.units {
            let (unit, core) = (unit.to_string(), core.to_string());
            let owner = owner.as_deref().unwrap_or("");
            let labels = [("unit", unit.as_str()), ("core", &core), ("tenant", owner)];
            self.sample("caldera_unit_owner", &labels, 1.0);
        }
        self.counter(
            "caldera_overruns_total",
            "Workers that were fenced off for not answering.",
            now.overruns,
        );
        self.family(
            "caldera_units_fenced",
            "gauge",
            "Units whose worker has not answered since it was fenced off.",
        );
        self.sample("caldera_units_fenced", &[], now.fenced as f64);
    }

    fn devices(&mut self, devices: &[Silicon]) {
        self.family(
            "caldera_device_lost",
            "gauge",
            "1 for a device that was given up, whose work the processor does.",
        );
        for (member, it) in devices.iter().enumerate() {
            let labels = [("kind", it.info.kind), ("member", &member.to_string())];
            let lost = f64::from(u8::from(it.health.lost.is_some()));
            self.sample("caldera_device_lost", &labels, lost);
        }
        self.family(
            "caldera_device_info",
            "gauge",
            "1; which device a member is: its name, its place on the PCI bus, and its maker's number of it.",
        );
        for (member, it) in devices.iter().enumerate() {
            let labels = [
                ("kind", it.info.kind),
                ("member", &member.to_string()),
                ("name", &it.info.name),
                ("pci", it.site.pci.as_deref().unwrap_or("")),
                ("uuid", it.site.uuid.as_deref().unwrap_or("")),
            ];
            self.sample("caldera_device_info", &labels, 1.0);
        }
        let family = "caldera_device_fallen_back_total";
        self.family(
            family,
            "counter",
            "Pieces of work that the processor or another device did in place of the device.",
        );
        for (member, it) in devices.iter().enumerate() {
            let labels = [("kind", it.info.kind), ("member", &member.to_string())];
            self.sample(family, &labels, it.health.fallen_back as f64);
        }
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

/// Kinds of storage.
const STORAGE: [&str; 3] = ["tables", "keys", "blobs"];
