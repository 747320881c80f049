//! The report as one page that needs nothing beside it: what was looked at, what was found, and
//! drawings of what was measured, as SVG. It is meant to be sent to whoever supplied the box.
//!
//! It asks for nothing from any network and runs no script, so a page that is opened years later, or
//! by somebody who trusts nobody, shows the same. Colours follow the reader's scheme, and lines are told
//! apart by their dashes too.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use crate::report::{Check, Plot, Report, Verdict, short};

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut body = String::new();
    let title = format!("Caldera acceptance, level {}", report.level);
    let mut line = |text: String| {
        body.push_str(&text);
        body.push('\n');
    };
    line(format!(
        "<h1>{title}: <span class=\"{}\">{}</span></h1>",
        class(report.verdict),
        outcome(report)
    ));
    let mut facts = vec![
        ("started", date(report.started)),
        ("program", format!("caldera-hwtest {}", report.version)),
        ("result", report.summary()),
    ];
    facts.extend(
        report
            .machine
            .iter()
            .map(|(&name, value)| (name, value.clone())),
    );
    line("<table class=\"facts\">".to_owned());
    for (name, value) in facts {
        line(format!(
            "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
            text(name),
            text(&value)
        ));
    }
    line("</table>\n<table>\n<thead><tr><th>verdict</th><th>check</th><th>seconds</th><th>what was found</th></tr></thead>\n<tbody>".to_owned());
    for check in &report.checks {
        line(format!(
            "<tr><td class=\"{0}\">{1}</td><td>{2}</td><td class=\"number\">{3:.2}</td><td>{4}</td></tr>",
            class(check.finding.verdict),
            check.finding.verdict.word(),
            text(check.name),
            check.seconds,
            text(&check.finding.reason),
        ));
        for part in &check.finding.parts {
            line(format!(
                "<tr class=\"part\"><td class=\"{}\">{}</td><td>{}</td><td></td><td>{}</td></tr>",
                class(part.verdict),
                part.verdict.word(),
                text(&part.device),
                text(&part.reason),
            ));
        }
    }
    line("</tbody></table>".to_owned());
    for check in &report.checks {
        if check.finding.parts.iter().any(|it| !it.figures.is_empty()) {
            line(side_by_side(check));
        }
    }
    for check in &report.checks {
        for plot in &check.finding.plots {
            if plot.lines.iter().any(|line| line.points.len() > 1) {
                line(figure(check, plot));
            }
        }
    }
    line("<h2>Figures</h2>".to_owned());
    for check in &report.checks {
        if !check.finding.figures.is_empty() {
            let figures = serde_json::to_string(&check.finding.figures).unwrap_or_default();
            line(format!(
                "<p><b>{}</b> <code>{}</code></p>",
                text(check.name),
                text(&figures)
            ));
        }
    }
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )
}

/// The figures of a check's devices, a column each, with what they were held against.
fn side_by_side(check: &Check) -> String {
    let parts = &check.finding.parts;
    let names: BTreeSet<&String> = parts.iter().flat_map(|it| it.figures.keys()).collect();
    let mut table = format!(
        "<h2>{}</h2>\n<table class=\"figures\">\n<thead><tr><th>figure</th>",
        text(check.name)
    );
    for part in parts {
        // Writing to a String cannot fail.
        let _ = write!(table, "<th>{}</th>", text(&part.device));
    }
    table.push_str("</tr></thead>\n<tbody>\n");
    for name in names {
        let _ = write!(table, "<tr><th scope=\"row\">{}</th>", text(name));
        for part in parts {
            let value = part.figures.get(name).map(|value| match value {
                Value::Number(number) => number.as_f64().map_or_else(String::new, short),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            let limit = part.limits.get(name);
            let limit = limit.map_or_else(String::new, |it| format!(" (limit {})", short(*it)));
            let value = value.unwrap_or_default();
            let _ = write!(table, "<td>{}{}</td>", text(&value), text(&limit));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table>");
    table
}

/// "OK", "WARN" or "CRITICAL".
fn outcome(report: &Report) -> &'static str {
    match report.exit_code() {
        0 => "OK",
        1 => "WARN",
        _ => "CRITICAL",
    }
}

fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
        Verdict::Skip => "skip",
    }
}

/// One drawing with its caption.
fn figure(check: &Check, plot: &Plot) -> String {
    let points = || plot.lines.iter().flat_map(|line| &line.points);
    // Zero has no logarithm; below one unit there is nothing to tell apart.
    let scale = |y: f64| if plot.log { y.max(1.0).log10() } else { y };
    let x_max = points().fold(f64::MIN_POSITIVE, |max, point| max.max(point.0));
    let (mut low, mut high) = points().fold((f64::MAX, f64::MIN), |(low, high), point| {
        (low.min(scale(point.1)), high.max(scale(point.1)))
    });
    if let Some(bound) = plot.bound {
        high = high.max(scale(bound));
    }
    low = if plot.log { low.floor() } else { low.min(0.0) };
    high = if plot.log { high.ceil() } else { high * 1.05 };
    let span = (high - low).max(1e-9);
    let left = |x: f64| LEFT + x / x_max * (WIDTH - LEFT - MARGIN);
    let top = |y: f64| HEIGHT - BOTTOM - (scale(y) - low) / span * (HEIGHT - BOTTOM - MARGIN);
    let mut svg = format!(
        "<figure>\n<figcaption>{}: {}</figcaption>\n<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
        text(check.name),
        text(plot.title),
        text(plot.title),
    );
    // Writing to a String cannot fail.
    let ticks = if plot.log { span.round().max(1.0) } else { 4.0 };
    for tick in 0..=ticks as u32 {
        let value = low + span * f64::from(tick) / ticks;
        let shown = if plot.log { 10f64.powf(value) } else { value };
        let y = top(shown);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - MARGIN,
            LEFT - 6.0,
            y + 4.0,
            number(shown),
        );
    }
    for tick in 0..=4 {
        let value = x_max * f64::from(tick) / 4.0;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            left(value),
            HEIGHT - BOTTOM + 16.0,
            number(value),
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><text x=\"4\" y=\"11\">{}</text>",
        WIDTH - MARGIN,
        HEIGHT - 4.0,
        text(plot.x),
        text(plot.y),
    );
    if let Some(bound) = plot.bound {
        let y = top(bound);
        let _ = writeln!(
            svg,
            "<line class=\"bound\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"><title>bound: {}</title></line>",
            WIDTH - MARGIN,
            number(bound),
        );
    }
    for (index, line) in plot.lines.iter().enumerate() {
        let path: Vec<String> = line
            .points
            .iter()
            .map(|&(x, y)| format!("{:.1},{:.1}", left(x), top(y)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"line{}\" points=\"{}\"><title>{}</title></polyline>",
            index % COLOURS,
            path.join(" "),
            text(&line.name),
        );
    }
    svg.push_str("</svg>\n<p class=\"legend\">");
    for (index, line) in plot.lines.iter().enumerate().take(NAMED) {
        let _ = write!(
            svg,
            "<svg viewBox=\"0 0 24 8\" aria-hidden=\"true\"><line class=\"line{}\" x1=\"0\" y1=\"4\" x2=\"24\" y2=\"4\"/></svg> {} ",
            index % COLOURS,
            text(&line.name),
        );
    }
    if plot.lines.len() > NAMED {
        let _ = write!(svg, "and {} more", plot.lines.len() - NAMED);
    }
    svg.push_str("</p>\n</figure>");
    svg
}

/// As few digits as tell it.
fn number(value: f64) -> String {
    if value >= 100.0 || (value - value.round()).abs() < 0.05 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// Text that may stand in a page.
fn text(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Seconds since 1970 as a date of the common calendar and a time, both UTC. Years begin in March here,
/// so that the day that comes and goes is the last.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = (
        era * 400 + year,
        if month < 10 { month + 3 } else { month - 9 },
    );
    let year = year + u64::from(month <= 2);
    let (hour, minute) = (rest / 3_600, rest / 60 % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 34.0;
const MARGIN: f64 = 18.0;

/// Colours of the style below, and lines that are named under a drawing.
const COLOURS: usize = 6;
const NAMED: usize = 16;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --rule: #d0d0d0;
  --pass: #1a7f37; --warn: #9a6700; --fail: #cf222e; --skip: #656d76;
  --c0: #0969da; --c1: #bc4c00; --c2: #1a7f37; --c3: #8250df; --c4: #bf3989; --c5: #57606a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #14171a; --rule: #3a3f44;
  --pass: #3fb950; --warn: #d29922; --fail: #f85149; --skip: #8b949e;
  --c0: #58a6ff; --c1: #f0883e; --c2: #3fb950; --c3: #bc8cff; --c4: #f778ba; --c5: #9aa4ae; } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem; border-bottom: 1px solid var(--rule); }
td:last-child { overflow-wrap: anywhere; }
.figures th { font-weight: normal; } .part td:nth-child(2) { padding-left: 1.8rem; }
.facts th { width: 10rem; font-weight: normal; } .number { text-align: right; }
.pass { color: var(--pass); font-weight: 600; } .warn { color: var(--warn); font-weight: 600; }
.fail { color: var(--fail); font-weight: 600; } .skip { color: var(--skip); font-weight: 600; }
figure { margin: 2rem 0; } figcaption { font-weight: 600; } figure > svg { width: 100%; height: auto; }
svg text { font-size: 11px; fill: var(--ink); } .grid { stroke: var(--rule); stroke-width: 1; }
.bound { stroke: var(--fail); stroke-dasharray: 6 4; stroke-width: 1.5; }
polyline, .legend line { fill: none; stroke-width: 2; }
.line0 { stroke: var(--c0); } .line1 { stroke: var(--c1); stroke-dasharray: 7 3; }
.line2 { stroke: var(--c2); stroke-dasharray: 2 3; } .line3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3; }
.line4 { stroke: var(--c4); stroke-dasharray: 12 4; } .line5 { stroke: var(--c5); stroke-dasharray: 4 2; }
.legend { font-size: 13px; } .legend svg { width: 24px; height: 8px; }
code { overflow-wrap: anywhere; font-size: 12px; }
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Finding, Limit, Line, Part};
    use std::time::Duration;

    #[test]
    fn a_page_names_each_check_and_asks_for_nothing() {
        let mut report = Report::new(2);
        let plot = Plot {
            title: "lateness",
            x: "nines",
            y: "us",
            log: true,
            bound: Some(50_000.0),
            lines: vec![Line {
                name: "core <0>".to_owned(),
                points: vec![(0.0, 0.0), (1.0, 40.0), (3.0, 900.0)],
            }],
        };
        let finding = Finding::warn("a & b <script>").plot(plot);
        report.add("schedule.fifo", finding, Duration::from_millis(20));
        let part = |device, name: &str| {
            let mut part = Part::new(device, Verdict::Pass, "well").figure("name", name);
            part = part.figure("rate", 7.25e8);
            part.hold("rate", Limit::AtLeast(5e8), Verdict::Fail);
            part
        };
        let parts = vec![part("cpu", "A Processor"), part("cuda:0", "A Card <2>")];
        report.add(
            "device.figures",
            Finding::of_parts(parts, "well"),
            Duration::ZERO,
        );
        let page = page(&report);
        assert!(page.contains("a &amp; b &lt;script&gt;"));
        assert!(page.contains("core &lt;0&gt;"));
        assert!(page.contains("<polyline"));
        let row = "<th scope=\"row\">name</th><td>A Processor</td><td>A Card &lt;2&gt;</td>";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("<td>7.25e8 (limit 5.00e8)</td>"), "{page}");
        for part in [
            "<script", "http://", "https://", "url(", "src=", "NaN", "inf",
        ] {
            assert!(!page.contains(part), "{part}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_798_761_599), "2026-12-31 23:59 UTC");
    }
}
