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
        format!(
            "{word}  {:<20} {:>7.2}s  {}",
            self.name, self.seconds, self.finding.reason
        )
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

    #[test]
    fn the_summary_counts() {
        let line = report(&[Verdict::Pass, Verdict::Warn, Verdict::Pass]).summary();
        assert_eq!(line, "level 1: 2 PASS 1 WARN 0 FAIL 0 SKIP -> WARN");
    }
}
