//! What became of requests and jobs, for `/metrics`.
//!
//! Every label here has few values, whatever clients send: scenarios are the policy's, reasons are the names that
//! `caldera_rpc::error` has, and statuses are counted by their first digit. What is counted is kept from the
//! start of the box on; jobs of before are not counted again.

use std::collections::BTreeMap;

use caldera_scheduler::Nanos;

use super::metrics::Text;

/// Requests and jobs since the start.
#[derive(Debug, Default)]
pub struct Work {
    /// Answers by the first digit of their status.
    statuses: [u64; 5],
    /// Calls that were answered with an error, by its reason.
    errors: BTreeMap<&'static str, u64>,
    scenarios: BTreeMap<String, OfScenario>,
}

/// Jobs of one scenario class.
#[derive(Debug, Default)]
struct OfScenario {
    /// By how they ended, as [`OUTCOMES`] has it.
    ended: [u64; OUTCOMES.len()],
    /// From receipt to the first quantum, and from there to the end, of those that were proved.
    spans: [Spans; PARTS.len()],
}

/// Spans in a few buckets.
#[derive(Debug, Default)]
struct Spans {
    /// Those above the bound before and not above this one.
    counts: [u64; BOUNDS_MS.len()],
    count: u64,
    sum: Nanos,
}

/// A scenario as it is at the moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ScenarioGauges {
    /// Its name.
    pub name: String,
    /// Tenants of it.
    pub tenants: u64,
    /// Cores that they hold.
    pub cores: u64,
    /// What part of the box it is promised.
    pub guarantee: f64,
}

impl Work {
    /// Counts an answer over HTTP.
    pub fn answered(&mut self, status: u16) {
        let class = usize::from(status / 100).clamp(1, self.statuses.len()) - 1;
        self.statuses[class] += 1;
    }

    /// Counts a call that was answered with an error.
    pub fn refused(&mut self, reason: &'static str) {
        *self.errors.entry(reason).or_default() += 1;
    }

    /// Counts a job that ended: how, by its place in `OUTCOMES`, and how long it waited and ran, if it was proved.
    pub fn ended(&mut self, scenario: &str, outcome: usize, spans: Option<[Nanos; PARTS.len()]>) {
        if !self.scenarios.contains_key(scenario) {
            self.scenarios
                .insert(scenario.to_owned(), OfScenario::default());
        }
        let Some(of) = self.scenarios.get_mut(scenario) else {
            return;
        };
        of.ended[outcome] += 1;
        for (kept, span) in of.spans.iter_mut().zip(spans.into_iter().flatten()) {
            kept.record(span);
        }
    }

    /// Writes all of it.
    pub(super) fn write(&self, text: &mut Text, scenarios: &[ScenarioGauges]) {
        let name = "caldera_http_responses_total";
        text.family(name, "counter", "Requests answered, by kind of status.");
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        for (class, count) in classes.iter().zip(self.statuses) {
            text.sample(name, &[("class", class)], count as f64);
        }
        let name = "caldera_rpc_errors_total";
        text.family(name, "counter", "Calls answered with an error.");
        for (reason, count) in &self.errors {
            text.sample(name, &[("reason", reason)], *count as f64);
        }
        let name = "caldera_scenario_jobs_ended_total";
        text.family(name, "counter", "Jobs that ended.");
        for (scenario, of) in &self.scenarios {
            for (outcome, count) in OUTCOMES.iter().zip(of.ended) {
                let labels = [("scenario", scenario.as_str()), ("outcome", outcome)];
                text.sample(name, &labels, count as f64);
            }
        }
        let name = "caldera_job_seconds";
        text.family(
            name,
            "histogram",
            "Proved jobs: from receipt to the first quantum, and from there to the end.",
        );
        for (scenario, of) in &self.scenarios {
            for (part, spans) in PARTS.iter().zip(&of.spans) {
                spans.write(text, name, [("scenario", scenario), ("part", part)]);
            }
        }
        type Family = (&'static str, &'static str, fn(&ScenarioGauges) -> f64);
        let families: [Family; 3] = [
            ("caldera_scenario_tenants", "Tenants of a scenario.", |it| {
                it.tenants as f64
            }),
            (
                "caldera_scenario_cores",
                "Cores that tenants of a scenario hold.",
                |it| it.cores as f64,
            ),
            (
                "caldera_scenario_guarantee_ratio",
                "What part of the box a scenario is promised.",
                |it| it.guarantee,
            ),
        ];
        for (name, help, of) in families {
            text.family(name, "gauge", help);
            for scenario in scenarios {
                text.sample(name, &[("scenario", &scenario.name)], of(scenario));
            }
        }
    }
}

impl Spans {
    fn record(&mut self, span: Nanos) {
        let bucket = BOUNDS_MS.partition_point(|bound| Nanos::from_millis(*bound) < span);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.count += 1;
        self.sum = self.sum.plus(span);
    }

    fn write(&self, text: &mut Text, name: &str, labels: [(&str, &str); 2]) {
        let [one, other] = labels;
        let bucket = format!("{name}_bucket");
        let mut sum = 0;
        for (bound, count) in BOUNDS_MS.iter().zip(self.counts) {
            sum += count;
            let bound = (*bound as f64 / 1e3).to_string();
            text.sample(&bucket, &[one, other, ("le", &bound)], sum as f64);
        }
        text.sample(&bucket, &[one, other, ("le", "+Inf")], self.count as f64);
        let seconds = self.sum.0 as f64 / 1e9;
        text.sample(&format!("{name}_sum"), &labels, seconds);
        text.sample(&format!("{name}_count"), &labels, self.count as f64);
    }
}

/// How jobs end, in the order of their numbers.
pub(super) const OUTCOMES: [&str; 3] = ["proved", "failed", "cancelled"];
const PARTS: [&str; 2] = ["waited", "proved"];
/// From a small circuit on many cores to a large one on few.
const BOUNDS_MS: [u64; 12] = [
    10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn text(work: &Work, scenarios: &[ScenarioGauges]) -> String {
        let mut text = Text(String::new());
        work.write(&mut text, scenarios);
        text.0
    }

    #[test]
    fn what_ended_is_told_by_scenario_and_reason() {
        let mut work = Work::default();
        for status in [200, 204, 429, 503, 42, 999] {
            work.answered(status);
        }
        work.refused("tenantQueueFull");
        work.refused("tenantQueueFull");
        let spans = [Nanos::from_millis(50), Nanos::from_millis(400_000)];
        work.ended("retail", 0, Some(spans));
        work.ended("retail", 2, None);
        let gauges = ScenarioGauges {
            name: "retail".into(),
            tenants: 2,
            cores: 3,
            guarantee: 0.25,
        };
        let text = text(&work, &[gauges]);
        for line in [
            "caldera_http_responses_total{class=\"1xx\"} 1",
            "caldera_http_responses_total{class=\"2xx\"} 2",
            "caldera_http_responses_total{class=\"5xx\"} 2",
            "caldera_rpc_errors_total{reason=\"tenantQueueFull\"} 2",
            "caldera_scenario_jobs_ended_total{scenario=\"retail\",outcome=\"cancelled\"} 1",
            "caldera_job_seconds_bucket{scenario=\"retail\",part=\"waited\",le=\"0.01\"} 0",
            "caldera_job_seconds_bucket{scenario=\"retail\",part=\"waited\",le=\"0.05\"} 1",
            "caldera_job_seconds_bucket{scenario=\"retail\",part=\"proved\",le=\"300\"} 0",
            "caldera_job_seconds_bucket{scenario=\"retail\",part=\"proved\",le=\"+Inf\"} 1",
            "caldera_job_seconds_sum{scenario=\"retail\",part=\"proved\"} 400",
            "caldera_scenario_tenants{scenario=\"retail\"} 2",
            "caldera_scenario_guarantee_ratio{scenario=\"retail\"} 0.25",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
        }
    }

    /// However much happens, there are as many samples.
    #[test]
    fn the_number_of_samples_does_not_grow() {
        let mut work = Work::default();
        work.ended("retail", 0, Some([Nanos(1); 2]));
        work.refused("parse");
        work.answered(200);
        let lines = text(&work, &[]).lines().count();
        for number in 0..1_000 {
            work.ended("retail", number % 3, Some([Nanos(number as u64); 2]));
            work.refused("parse");
            work.answered(number as u16);
        }
        assert_eq!(text(&work, &[]).lines().count(), lines);
    }
}
