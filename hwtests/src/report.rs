//! What a check found, and what the whole run means.
//!
//! Four verdicts, as acceptance suites for GPU nodes have them: PASS, WARN (usable, but some
//! promise is weaker), FAIL (do not put this box to work), SKIP (could not be looked at here, with
//! the reason). The exit code follows the convention of monitoring plug-ins: 0 OK, 1 WARN,
//! 2 CRITICAL; a skipped check changes nothing, because what a box does not have cannot be broken.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Verdict {
    /// Could not be looked at on this machine.
    Skip,
    /// As it should be.
    Pass,
    /// Usable, with a weaker promise.
    Warn,
    /// Not to be put to work.
    Fail,
}

impl Verdict {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Skip => "SKIP",
            Verdict::Pass => "PASS",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        }
    }
}

/// What a check says: the verdict, a sentence for people, and the figures for machines.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) figures: BTreeMap<&'static str, Value>,
    /// What the written report draws.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) plots: Vec<Plot>,
    /// Of each device that was looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Part>,
}

/// What a check found of one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Part {
    /// As it is asked for: "cuda:0".
    pub(crate) device: String,
    pub(crate) verdict: Verdict,
    pub(crate) reason: String,
    pub(crate) figures: BTreeMap<String, Value>,
    /// What figures of these names were held against.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<String, f64>,
}

impl Part {
    pub(crate) fn new(device: impl ToString, verdict: Verdict, reason: impl Into<String>) -> Part {
        Part {
            device: device.to_string(),
            verdict,
            reason: reason.into(),
            figures: BTreeMap::new(),
            limits: BTreeMap::new(),
        }
    }

    /// The same with one more figure.
    pub(crate) fn figure(mut self, name: impl Into<String>, value: impl Into<Value>) -> Part {
        self.figures.insert(name.into(), value.into());
        self
    }

    /// Holds a figure, if there is one, against what it may be; what does not hold is the reason from then on.
    pub(crate) fn hold(&mut self, name: &str, limit: Limit, otherwise: Verdict) {
        let Some(got) = self.figures.get(name).and_then(Value::as_f64) else {
            return;
        };
        let (bound, word, holds) = match limit {
            Limit::AtLeast(least) => (least, "least", got >= least),
            Limit::AtMost(most) => (most, "most", got <= most),
        };
        self.limits.entry(name.to_owned()).or_insert(bound);
        if holds {
            return;
        }
        let why = format!(
            "{name}: expected at {word} {}, got {}",
            short(bound),
            short(got)
        );
        self.reason = match self.verdict {
            Verdict::Pass | Verdict::Skip => format!("{why} ({})", self.reason),
            Verdict::Warn | Verdict::Fail => format!("{why}; {}", self.reason),
        };
        self.verdict = self.verdict.max(otherwise);
    }

    /// One line of the table, below that of its check.
    pub(crate) fn line(&self) -> String {
        let Part {
            device,
            verdict,
            reason,
            ..
        } = self;
        format!("        {} {device}: {reason}", verdict.word())
    }
}

/// What a figure may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// A number in as many digits as tell it.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e5 => format!("{value:.2e}"),
        size if size >= 100.0 || size == value.trunc().abs() => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.2e}"),
    }
}

/// Lines over one pair of axes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Whether y is drawn by its logarithm.
    pub(crate) log: bool,
    /// What y should stay below.
    pub(crate) bound: Option<f64>,
    pub(crate) lines: Vec<Line>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Finding {
    pub(crate) fn pass(reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Pass, reason)
    }

    pub(crate) fn warn(reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Warn, reason)
    }

    pub(crate) fn fail(reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Fail, reason)
    }

    pub(crate) fn skip(reason: impl Into<String>) -> Finding {
        Finding::new(Verdict::Skip, reason)
    }

    pub(crate) fn new(verdict: Verdict, reason: impl Into<String>) -> Finding {
        Finding {
            verdict,
            reason: reason.into(),
            figures: BTreeMap::new(),
            plots: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// What was found of several devices: the worst is what was found of all, and why.
    pub(crate) fn of_parts(parts: Vec<Part>, good: impl Into<String>) -> Finding {
        let worst = parts.iter().map(|it| it.verdict).max();
        let verdict = worst.unwrap_or(Verdict::Skip);
        let bad = parts.iter().filter(|it| it.verdict > Verdict::Pass);
        let bad: Vec<String> = bad
            .map(|it| format!("{}: {}", it.device, it.reason))
            .collect();
        let reason = if bad.is_empty() {
            good.into()
        } else {
            bad.join("; ")
        };
        Finding {
            parts,
            ..Finding::new(verdict, reason)
        }
    }

    /// The same finding with a drawing.
    pub(crate) fn plot(mut self, plot: Plot) -> Finding {
        self.plots.push(plot);
        self
    }

    /// The same finding with one more figure.
    pub(crate) fn figure(mut self, name: &'static str, value: impl Into<Value>) -> Finding {
        self.figures.insert(name, value.into());
        self
    }
}

/// One check with its name and the time that it took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    #[serde(flatten)]
    pub(crate) finding: Finding,
    pub(crate) seconds: f64,
}

/// The whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) level: u8,
    /// Seconds since 1970 at the start.
    pub(crate) started: u64,
    /// What the firmware says of maker, model and serial number.
    pub(crate) machine: BTreeMap<&'static str, String>,
    pub(crate) verdict: Verdict,
    pub(crate) checks: Vec<Check>,
}

impl Report {
    pub(crate) fn new(level: u8) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            level,
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            machine: BTreeMap::new(),
            verdict: Verdict::Skip,
            checks: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, name: &'static str, finding: Finding, took: Duration) -> &Check {
        self.verdict = self.verdict.max(finding.verdict);
        self.checks.push(Check {
            name,
            finding,
            seconds: took.as_secs_f64(),
        });
        &self.checks[self.checks.len() - 1]
    }

    /// 0 OK, 1 WARN, 2 CRITICAL. A run in which nothing at all could be looked at is a warning:
    /// it has accepted nothing.
    pub(crate) fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Pass => 0,
            Verdict::Warn | Verdict::Skip => 1,
            Verdict::Fail => 2,
        }
    }

    /// The closing line under the table.
    pub(crate) fn summary(&self) -> String {
        let mut line = format!("level {}:", self.level);
        for verdict in [Verdict::Pass, Verdict::Warn, Verdict::Fail, Verdict::Skip] {
            let count = self
                .checks
                .iter()
                .filter(|c| c.finding.verdict == verdict)
                .count();
            // Writing to a String cannot fail.
            let _ = write!(line, " {count} {}", verdict.word());
        }
        let word = match self.exit_code() {
            0 => "OK",
            1 => "WARN",
            _ => "CRITICAL",
        };
        line + " -> " + word
    }
}

impl Check {
    /// One line of the table; colour only when a terminal is there.
    pub(crate) fn line(&self, colour: bool) -> String {
        let word = self.finding.verdict.word();
        let paint = match self.finding.verdict {
            Verdict::Pass => "32",
            Verdict::Warn => "33",
            Verdict::Fail => "31",
            Verdict::Skip => "90",
        };
        let word = if colour {
            format!("\x1b[{paint}m{word}\x1b[0m")
        } else {
            word.to_owned()
        };
        let mut line = format!(
            "{word}  {:<20} {:>7.2}s  {}",
            self.name, self.seconds, self.finding.reason
        );
        for part in &self.finding.parts {
            line.push('\n');
            line.push_str(&part.line());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let mut report = Report::new(1);
        for &verdict in verdicts {
            report.add(
                "some.check",
                Finding::new(verdict, "because"),
                Duration::ZERO,
            );
        }
        report
    }

    #[test]
    fn the_worst_verdict_decides_the_exit_code() {
        use Verdict::{Fail, Pass, Skip, Warn};
        assert_eq!(report(&[Pass, Pass]).exit_code(), 0);
        assert_eq!(report(&[Pass, Skip]).exit_code(), 0);
        assert_eq!(report(&[Warn, Pass, Skip]).exit_code(), 1);
        assert_eq!(report(&[Warn, Fail, Pass]).exit_code(), 2);
        assert_eq!(report(&[Fail]).exit_code(), 2);
    }

    #[test]
    fn a_run_that_looked_at_nothing_accepts_nothing() {
        assert_eq!(report(&[]).exit_code(), 1);
        assert_eq!(report(&[Verdict::Skip]).exit_code(), 1);
    }

    #[test]
    fn json_carries_name_verdict_reason_and_figures() {
        let mut report = Report::new(2);
        report.add(
            "memory.size",
            Finding::warn("small").figure("bytes", 5),
            Duration::from_millis(1500),
        );
        let json = serde_json::to_value(&report).expect("a report of plain data");
        assert_eq!(json["verdict"], "WARN");
        assert_eq!(json["checks"][0]["name"], "memory.size");
        assert_eq!(json["checks"][0]["verdict"], "WARN");
        assert_eq!(json["checks"][0]["reason"], "small");
        assert_eq!(json["checks"][0]["figures"]["bytes"], 5);
        assert_eq!(json["checks"][0]["seconds"], 1.5);
    }

    /// One device that fails says nothing of another, and everything of the check.
    #[test]
    fn the_worst_device_decides_and_says_why() {
        let part = |device, rate: f64| {
            let mut part = Part::new(device, Verdict::Pass, "all well").figure("rate", rate);
            part.hold("rate", Limit::AtLeast(5.0), Verdict::Fail);
            part.hold("rate", Limit::AtMost(1e6), Verdict::Warn);
            part.hold("latency", Limit::AtMost(1.0), Verdict::Fail);
            part
        };
        let good = Finding::of_parts(vec![part("cpu", 5.0), part("cuda:0", 6.0)], "both well");
        assert_eq!(
            (good.verdict, &good.reason[..]),
            (Verdict::Pass, "both well")
        );
        let bad = Finding::of_parts(vec![part("cpu", 5.0), part("cuda:0", 4.5)], "both well");
        let why = "cuda:0: rate: expected at least 5, got 4.50 (all well)";
        assert_eq!((bad.verdict, &bad.reason[..]), (Verdict::Fail, why));
        assert_eq!(bad.parts[0].verdict, Verdict::Pass);
        assert_eq!(part("cpu", 2e6).verdict, Verdict::Warn);
        assert_eq!(Finding::of_parts(Vec::new(), "").verdict, Verdict::Skip);

        let mut report = Report::new(1);
        let line = report
            .add("device.figures", bad, Duration::ZERO)
            .line(false);
        assert_eq!(line.lines().count(), 3, "{line}");
        let json = serde_json::to_value(&report).expect("a report of plain data");
        let part = &json["checks"][0]["parts"][1];
        assert_eq!(part["device"], "cuda:0");
        assert_eq!(part["verdict"], "FAIL");
        assert_eq!(part["figures"]["rate"], 4.5);
        assert_eq!(part["limits"]["rate"], 5.0);
    }

    #[test]
    fn the_summary_counts() {
        let line = report(&[Verdict::Pass, Verdict::Warn, Verdict::Pass]).summary();
        assert_eq!(line, "level 1: 2 PASS 1 WARN 0 FAIL 0 SKIP -> WARN");
    }
}
