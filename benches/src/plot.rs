//! A drawing of a file of results: for each case our ratio to each peer, a dot at the median and
//! a bar from quartile to quartile.
//!
//! The axis is logarithmic, so that half and double lie equally far from 1; left of 1 ours takes
//! less. Each bench has an axis of its own, for a key that is mapped is a thousand times ahead of
//! one that is parsed and would press all else together. SVG is text, and what is drawn here is
//! lines, circles and words, so it is written as such.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use anyhow::{Result, ensure};

use crate::compare::last;
use crate::record::Record;
use crate::table::{figure, size};

/// The drawing, as a file of SVG. Of each case the last line counts, as in `compare`.
pub(crate) fn plot(records: &[Record]) -> Result<String> {
    let points: Vec<Point> = last(records)
        .into_values()
        .filter(|record| !record.ours)
        .filter_map(Point::of)
        .collect();
    ensure!(!points.is_empty(), "no line with a peer to draw");
    let peers: BTreeSet<&str> = points.iter().map(Point::peer).collect();
    let colours: BTreeMap<&str, &str> = peers
        .iter()
        .copied()
        .zip(COLOURS.into_iter().cycle())
        .collect();

    let mut body = String::new();
    let mut y = head(&mut body, records, &colours)?;
    let benches: BTreeSet<usize> = points.iter().map(Point::rank).collect();
    for rank in benches {
        let of_bench: Vec<&Point> = points.iter().filter(|p| p.rank() == rank).collect();
        y = panel(&mut body, y, &of_bench, &colours)?;
    }
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" \
         viewBox=\"0 0 {WIDTH} {y}\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{WIDTH}\" height=\"{y}\" fill=\"#fff\"/>\n{body}</svg>\n"
    ))
}

/// A peer's line, and what is drawn of it.
struct Point<'a> {
    record: &'a Record,
    ratio: f64,
    spread: [f64; 2],
}

impl<'a> Point<'a> {
    /// Nothing that a logarithm is not of.
    fn of(record: &'a Record) -> Option<Point<'a>> {
        let (ratio, spread) = record.ratio_and_spread()?;
        let drawable = [ratio, spread[0], spread[1]]
            .iter()
            .all(|value| value.is_finite() && *value > 0.0);
        drawable.then_some(Point {
            record,
            ratio,
            spread,
        })
    }

    /// Whose it is: the crates of arkworks are one peer.
    fn peer(&self) -> &'a str {
        match self.record.who.as_str() {
            who if who.starts_with("ark-") => "arkworks",
            who => who,
        }
    }

    /// Where its bench stands in the drawing.
    fn rank(&self) -> usize {
        ORDER
            .iter()
            .position(|(bench, _)| *bench == self.record.bench)
            .unwrap_or(ORDER.len())
    }
}

/// Title, origin and legend; returns where to go on.
fn head(out: &mut String, records: &[Record], colours: &BTreeMap<&str, &str>) -> Result<f64> {
    text(
        out,
        MARGIN,
        28.0,
        "font-size=\"17\" font-weight=\"bold\"",
        TITLE,
    )?;
    if let Some(record) = records.last() {
        let origin = &record.origin;
        let line = format!(
            "{}, {} processors; commit {}; {}",
            origin.cpu, origin.cores, origin.commit, origin.date
        );
        text(out, MARGIN, 47.0, "fill=\"#666\"", &line)?;
    }
    let mut x = MARGIN;
    for (peer, colour) in colours {
        writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"64\" r=\"4\" fill=\"{colour}\"/>",
            x + 4.0
        )?;
        text(out, x + 13.0, 68.0, "", peer)?;
        x += 34.0 + 7.0 * peer.chars().count() as f64;
    }
    Ok(84.0)
}

/// The cases of one bench over one axis; returns where to go on.
fn panel(
    out: &mut String,
    top: f64,
    points: &[&Point<'_>],
    colours: &BTreeMap<&str, &str>,
) -> Result<f64> {
    // Rows as compare orders them: by case, size and threads.
    let mut rows: BTreeMap<(&str, u64, usize), Vec<&Point<'_>>> = BTreeMap::new();
    for point in points {
        let r = point.record;
        rows.entry((&r.case, r.size, r.threads))
            .or_default()
            .push(point);
    }
    let axis = Axis::over(
        points
            .iter()
            .flat_map(|p| [p.ratio, p.spread[0], p.spread[1]]),
    );
    let bench = points.first().map_or("", |p| p.record.bench.as_str());
    let title = ORDER.iter().find(|(name, _)| *name == bench);
    let title = title.map_or(bench, |(_, title)| title);
    text(
        out,
        MARGIN,
        top + 16.0,
        "font-size=\"14\" font-weight=\"bold\"",
        title,
    )?;

    let first = top + 28.0;
    let heights: Vec<f64> = rows
        .values()
        .map(|row| LANE * row.len().max(2) as f64 + 6.0)
        .collect();
    let bottom = first + heights.iter().sum::<f64>();
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let (colour, width) = if tick == 1.0 {
            ("#222", 1.5)
        } else {
            ("#ddd", 1.0)
        };
        line(out, [x, first], [x, bottom], colour, width)?;
        let label = format!("{tick}");
        text(
            out,
            x,
            bottom + 14.0,
            "text-anchor=\"middle\" fill=\"#666\"",
            &label,
        )?;
    }

    let mut y = first;
    for (((case, of, threads), row), height) in rows.iter().zip(heights) {
        let middle = y + height / 2.0;
        let label = format!("{case}, {}", of_threads(*of, *threads));
        text(
            out,
            PLOT_LEFT - 10.0,
            middle + 4.0,
            "text-anchor=\"end\"",
            &label,
        )?;
        for (lane, point) in row.iter().enumerate() {
            let colour = colours[point.peer()];
            let y = middle + LANE * (lane as f64 - (row.len() as f64 - 1.0) / 2.0);
            let [low, high] = point.spread.map(|ratio| axis.x(ratio));
            line(out, [low, y], [high, y], colour, 3.0)?;
            let x = axis.x(point.ratio);
            writeln!(
                out,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
            )?;
            let words = format!("fill=\"{colour}\" font-size=\"11\"");
            text(
                out,
                PLOT_RIGHT + 12.0,
                y + 4.0,
                &words,
                &figure(point.ratio),
            )?;
        }
        y += height;
    }
    Ok(bottom + 32.0)
}

fn of_threads(of: u64, threads: usize) -> String {
    match threads {
        1 => format!("{}, 1 thread", size(of)),
        _ => format!("{}, {threads} threads", size(of)),
    }
}

/// A logarithmic axis from one tick to another, 1 among them.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = values.fold((1.0, 1.0), |(low, high): (f64, f64), value| {
            (low.min(value), high.max(value))
        });
        // A tenth of air at either end, so that no dot lies on the frame.
        Axis {
            low: low / 1.1,
            high: high * 1.1,
        }
    }

    fn x(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        PLOT_LEFT + share * (PLOT_RIGHT - PLOT_LEFT)
    }

    /// Few for a long axis, more for a short one.
    fn ticks(&self) -> Vec<f64> {
        let steps: &[u32] = match self.high / self.low {
            span if span < 8.0 => &[10, 15, 20, 30, 40, 50, 60, 70, 80, 90],
            span if span < 1000.0 => &[10, 20, 50],
            _ => &[10],
        };
        let decades = self.low.log10().floor() as i32..=self.high.log10().ceil() as i32;
        decades
            .flat_map(|decade| steps.iter().map(move |step| (decade, step)))
            // Read as a decimal, so that a label says 0.3 and not 0.30000000000000004.
            .filter_map(|(decade, step)| format!("{step}e{}", decade - 1).parse().ok())
            .filter(|tick| (self.low..=self.high).contains(tick))
            .collect()
    }
}

pub(crate) fn line(
    out: &mut String,
    from: [f64; 2],
    to: [f64; 2],
    colour: &str,
    width: f64,
) -> Result<()> {
    let ([x1, y1], [x2, y2]) = (from, to);
    writeln!(
        out,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\" \
         stroke-width=\"{width}\"/>"
    )?;
    Ok(())
}

pub(crate) fn text(out: &mut String, x: f64, y: f64, how: &str, words: &str) -> Result<()> {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" {how}>{words}</text>")?;
    Ok(())
}

/// The benches that have peers, from the smallest part to the whole.
const ORDER: [(&str, &str); 6] = [
    ("field", "Field operations"),
    ("msm", "Sums of multiples of points (MSM)"),
    ("ntt", "Transforms (NTT)"),
    ("prove", "Proofs, key loaded"),
    ("process", "Proofs, whole processes"),
    ("load", "Loading a key"),
];

const TITLE: &str = "CPU time of Caldera over that of its peers: left of 1 is less";

/// Told apart by those who see few colours, too (Okabe and Ito's).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

const WIDTH: f64 = 960.0;
const MARGIN: f64 = 24.0;
const PLOT_LEFT: f64 = 370.0;
const PLOT_RIGHT: f64 = 890.0;
const LANE: f64 = 11.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::{ours, peer};

    #[test]
    fn each_peer_of_each_case_has_a_dot_and_a_bar() {
        let other = Record {
            who: "an<other>".to_owned(),
            ..peer(0.25, [0.2, 0.3])
        };
        let records = [ours(1.0, [1.0, 1.0]), peer(0.5, [0.4, 0.6]), other];
        let drawing = plot(&records).expect("two points");
        // A dot for each in the legend and in the panel.
        assert_eq!(drawing.matches("<circle").count(), 4);
        assert_eq!(drawing.matches("stroke-width=\"3\"").count(), 2);
        assert!(drawing.contains(">0.250</text>"), "{drawing}");
        assert!(drawing.contains("an&lt;other&gt;"), "{drawing}");
        assert!(plot(&records[..1]).is_err());
        assert!(plot(&[peer(0.0, [0.0, 0.0])]).is_err());
    }

    #[test]
    fn half_and_double_are_equally_far_from_one() {
        let axis = Axis::over([0.1, 7.0].into_iter());
        let one = axis.x(1.0);
        assert!((one - axis.x(0.5) - (axis.x(2.0) - one)).abs() < 1e-9);
        assert!(PLOT_LEFT < axis.x(0.1) && axis.x(7.0) < PLOT_RIGHT);
    }

    #[test]
    fn ticks_are_round_and_one_is_among_them() {
        let ticks = |low, high| Axis::over([low, high].into_iter()).ticks();
        assert_eq!(ticks(0.3, 0.9), [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);
        assert_eq!(ticks(0.01, 1.0), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]);
        assert_eq!(ticks(0.0005, 1.0), [0.001, 0.01, 0.1, 1.0]);
    }
}
