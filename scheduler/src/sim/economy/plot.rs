//! A drawing of a year: who has what, what was paid and from what, and what came back.

use std::fmt::Write;

use super::report::{Amount, MonthLine, Report, Week};
use crate::sim::plot::{COLOURS, Panel, circle, document, text};

/// The drawing, as a file of SVG.
pub fn plot(report: &Report) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let _ = draw(&mut body, report);
    document(&body)
}

/// One curve of a panel.
type Curve<T> = (&'static str, fn(&T) -> Amount);

fn draw(out: &mut String, report: &Report) -> std::fmt::Result {
    let title = format!("A year of epochs, seed {}; people as assumed", report.seed);
    text(
        out,
        70.0,
        28.0,
        "font-size=\"17\" font-weight=\"bold\"",
        &title,
    )?;
    let roles: [Curve<Week>; 4] = [
        ("nodes", |week| week.nodes),
        ("developers", |week| week.developers),
        ("users", |week| week.users),
        ("staked by all", |week| week.staked),
    ];
    let weeks: Vec<_> = report
        .weeks
        .iter()
        .map(|week| (f64::from(week.week), week))
        .collect();
    panel(out, 70.0, "ERA that each role has, by week", &weeks, &roles)?;
    let paid: [Curve<MonthLine>; 4] = [
        ("fees", |line| line.fees),
        ("paid from the same epoch's fees", |line| line.from_fees),
        ("paid from what was carried over or issued", |line| {
            line.from_budget
        }),
        ("earned by stakes", |line| line.stakes),
    ];
    // The last days of a year are no month.
    let whole = report.months.iter().take(report.epochs as usize / 720);
    let months: Vec<_> = whole.map(|line| (f64::from(line.month), line)).collect();
    panel(out, 350.0, "ERA paid, by month", &months, &paid)?;
    let storage: [Curve<MonthLine>; 1] = [("paid for storage", |line| line.storage)];
    panel(
        out,
        630.0,
        "ERA paid for storage, by month",
        &months,
        &storage,
    )?;
    let back = &report.reinvestment;
    let words = format!(
        "{:.1} % of claims staked or spent on fees and gas; {:.3} ERA at most came back of a job's fee of 1",
        back.share * 100.0,
        report.figures.job_most
    );
    text(out, 70.0, 876.0, "fill=\"#666\"", &words)
}

fn panel<T>(
    out: &mut String,
    top: f64,
    what: &str,
    points: &[(f64, &T)],
    curves: &[Curve<T>],
) -> std::fmt::Result {
    let values = points
        .iter()
        .flat_map(|(_, point)| curves.iter().map(|(_, of)| of(point).era()));
    let most = values.fold(1e-9, f64::max) * 1.05;
    let last = points.last().map_or(1.0, |&(at, _)| at.max(1.0));
    let panel = Panel {
        top,
        x: (0.0, last),
        y: (0.0, most),
    };
    text(out, 70.0, top - 10.0, "", what)?;
    let step = 10f64.powf((most / 2.0).log10().floor());
    let step = if most / step > 6.0 { 5.0 * step } else { step };
    let ticks: Vec<f64> = (0..=(most / step) as u32)
        .map(|n| f64::from(n) * step)
        .collect();
    panel.frame_labelled(out, &ticks, &ticks)?;
    let mut x = 70.0;
    for ((name, of), colour) in curves.iter().zip(COLOURS) {
        let path: String = points.iter().fold(String::new(), |mut path, &(at, point)| {
            let word = if path.is_empty() { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{word}{:.1} {:.1}",
                panel.at_x(at),
                panel.at_y(of(point).era())
            );
            path
        });
        writeln!(
            out,
            "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        )?;
        circle(out, x, top + 222.0, colour)?;
        text(out, x + 10.0, top + 226.0, "", name)?;
        x += 40.0 + 6.5 * name.len() as f64;
    }
    Ok(())
}
