//! A drawing of a report: the curve over capacity, what was unmet, and the hand-overs.
//!
//! SVG is text, and what is drawn here is lines, circles and words, so it is written as such.

use std::fmt::Write;

use crate::sim::report::{Line, Point, Report};

/// The drawing, as a file of SVG.
pub fn plot(report: &Report) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = draw(&mut body, report);
    document(&body)
}

/// A file of SVG with this in it.
pub(super) fn document(body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// A panel with an axis of capacity, or of time, to the right and something upwards.
pub(super) struct Panel {
    pub(super) top: f64,
    pub(super) x: (f64, f64),
    pub(super) y: (f64, f64),
}

fn draw(out: &mut String, report: &Report) -> std::fmt::Result {
    let points = &report.points;
    let ratios = points.iter().map(|point| point.ratio);
    let (low, high) = ratios.fold((f64::MAX, f64::MIN), |(l, h), r| (l.min(r), h.max(r)));
    // One point has an axis, too.
    let x = (low - 0.02, high + 0.02);

    let used = Panel {
        top: 60.0,
        x,
        y: (0.0, 1.0),
    };
    text(
        out,
        LEFT,
        28.0,
        "font-size=\"17\" font-weight=\"bold\"",
        TITLE,
    )?;
    text(out, LEFT, 50.0, "", "Part of the cores used")?;
    used.frame(out, &[0.2, 0.4, 0.6, 0.8, 1.0])?;
    used.curve(out, points, COLOURS[0], |point| point.ours.utilisation)?;
    used.curve(out, points, COLOURS[1], |point| point.fifo.utilisation)?;
    used.level(out, report.partition.utilisation, COLOURS[2])?;
    for bar in &report.bars {
        used.level(out, bar.utilisation, "#999")?;
    }

    let most = points.iter().flat_map(|p| [p.ours.unmet, p.fifo.unmet]);
    let most = most.fold(0.02, f64::max).min(1.0);
    let unmet = Panel {
        top: 330.0,
        x,
        y: (0.0, most.sqrt()),
    };
    let what = format!(
        "Part of the work of {} that began too late (root scale)",
        report.valuable.join(", ")
    );
    text(out, LEFT, 320.0, "", &what)?;
    let ticks = [0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];
    let ticks: Vec<f64> = ticks.into_iter().filter(|&t| t <= most).collect();
    let roots: Vec<f64> = ticks.iter().map(|tick| tick.sqrt()).collect();
    unmet.frame_labelled(out, &roots, &ticks)?;
    unmet.capacities(out)?;
    unmet.curve(out, points, COLOURS[0], |point| point.ours.unmet.sqrt())?;
    unmet.curve(out, points, COLOURS[1], |point| point.fifo.unmet.sqrt())?;
    unmet.curve(out, points, COLOURS[3], |point| point.floor.sqrt())?;
    let across = (RIGHT + LEFT) / 2.0;
    text(
        out,
        across,
        560.0,
        "text-anchor=\"middle\" fill=\"#666\"",
        "capacity over the joint peak",
    )?;

    let mut at = LEFT;
    let legend = [
        "the arbiter",
        "first come, first served",
        "fixed partition",
        "floor",
    ];
    for (name, colour) in legend.iter().zip(COLOURS) {
        circle(out, at, 580.0, colour)?;
        text(out, at + 10.0, 584.0, "", name)?;
        at += 40.0 + 6.5 * name.len() as f64;
    }
    histogram(out, points.iter().map(|point| &point.ours))
}

/// All hand-overs of all points, by how long they took, on a scale of powers of two.
fn histogram<'a>(out: &mut String, lines: impl Iterator<Item = &'a Line>) -> std::fmt::Result {
    let mut buckets = std::collections::BTreeMap::new();
    let mut bound = 100_000;
    for moved in lines.filter_map(|line| line.reallocations.as_ref()) {
        bound = moved.bound_us;
        for &(upto, count) in &moved.buckets {
            *buckets.entry(upto).or_insert(0) += count;
        }
    }
    let longest = buckets.keys().max().copied().unwrap_or(0).max(bound) as f64;
    let most = buckets.values().max().copied().unwrap_or(1).max(1) as f64;
    let panel = Panel {
        top: 630.0,
        x: (5.0, longest.log2() + 1.0),
        y: (0.0, (1.0 + most).log10() * 1.05),
    };
    text(
        out,
        LEFT,
        620.0,
        "",
        "Reallocations by how long they took (log scales)",
    )?;
    let decades: Vec<f64> = (0..=most.log10() as i32).map(|d| 10f64.powi(d)).collect();
    let heights: Vec<f64> = decades.iter().map(|count| (1.0 + count).log10()).collect();
    panel.frame_labelled(out, &heights, &decades)?;
    for (upto, count) in buckets {
        let end = (upto as f64).log2();
        let (x, right) = (panel.at_x(end - 1.0) + 1.0, panel.at_x(end) - 1.0);
        let y = panel.at_y((1.0 + count as f64).log10());
        let (width, height) = (right - x, panel.at_y(0.0) - y);
        writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"/>",
            COLOURS[0]
        )?;
        text(
            out,
            (x + right) / 2.0,
            panel.at_y(0.0) + 15.0,
            "text-anchor=\"middle\" fill=\"#666\" font-size=\"10\"",
            &time(upto),
        )?;
    }
    let x = panel.at_x((bound as f64).log2());
    line(out, [x, panel.top], [x, panel.at_y(0.0)], "#d00", 2.0)?;
    let words = format!("the bound: {}", time(bound));
    text(
        out,
        x - 6.0,
        panel.top + 14.0,
        "text-anchor=\"end\" fill=\"#d00\"",
        &words,
    )
}

fn time(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        _ => format!("{:.0} ms", micros as f64 / 1e3),
    }
}

impl Panel {
    pub(super) fn at_x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (RIGHT - LEFT)
    }

    pub(super) fn at_y(&self, value: f64) -> f64 {
        self.top + TALL - (value - self.y.0) / (self.y.1 - self.y.0) * TALL
    }

    /// The frame with ticks of capacity below and these to the left.
    fn frame(&self, out: &mut String, ticks: &[f64]) -> std::fmt::Result {
        self.frame_labelled(out, ticks, ticks)?;
        self.capacities(out)
    }

    fn capacities(&self, out: &mut String) -> std::fmt::Result {
        for tenth in 0..=30 {
            let tick = f64::from(tenth) / 10.0;
            if (self.x.0..=self.x.1).contains(&tick) {
                let x = self.at_x(tick);
                line(out, [x, self.top], [x, self.top + TALL], "#eee", 1.0)?;
                let words = "text-anchor=\"middle\" fill=\"#666\"";
                text(out, x, self.top + TALL + 16.0, words, &tick.to_string())?;
            }
        }
        Ok(())
    }

    pub(super) fn frame_labelled(
        &self,
        out: &mut String,
        ticks: &[f64],
        labels: &[f64],
    ) -> std::fmt::Result {
        for (&tick, label) in ticks.iter().zip(labels) {
            let y = self.at_y(tick);
            line(out, [LEFT, y], [RIGHT, y], "#ddd", 1.0)?;
            let words = "text-anchor=\"end\" fill=\"#666\"";
            text(out, LEFT - 8.0, y + 4.0, words, &label.to_string())?;
        }
        let bottom = self.top + TALL;
        line(out, [LEFT, bottom], [RIGHT, bottom], "#222", 1.0)
    }

    fn level(&self, out: &mut String, value: f64, colour: &str) -> std::fmt::Result {
        let y = self.at_y(value);
        line(out, [LEFT, y], [RIGHT, y], colour, 1.5)
    }

    fn curve(
        &self,
        out: &mut String,
        points: &[Point],
        colour: &str,
        of: impl Fn(&Point) -> f64,
    ) -> std::fmt::Result {
        let places: Vec<[f64; 2]> = points
            .iter()
            .map(|point| [self.at_x(point.ratio), self.at_y(of(point).min(self.y.1))])
            .collect();
        for pair in places.windows(2) {
            line(out, pair[0], pair[1], colour, 2.0)?;
        }
        for [x, y] in places {
            circle(out, x, y, colour)?;
        }
        Ok(())
    }
}

pub(super) fn circle(out: &mut String, x: f64, y: f64, colour: &str) -> std::fmt::Result {
    writeln!(
        out,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
    )
}

fn line(
    out: &mut String,
    from: [f64; 2],
    to: [f64; 2],
    colour: &str,
    width: f64,
) -> std::fmt::Result {
    let ([x1, y1], [x2, y2]) = (from, to);
    writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>"
    )
}

pub(super) fn text(out: &mut String, x: f64, y: f64, how: &str, words: &str) -> std::fmt::Result {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>")
}

const TITLE: &str = "The same jobs on boxes of different sizes";

/// Told apart by those who see few colours, too (Okabe and Ito's).
pub(super) const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 880.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 830.0;
/// The height of a panel.
const TALL: f64 = 200.0;
