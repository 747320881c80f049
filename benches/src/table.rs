//! Tables for people: columns as wide as they must be, numbers to the right.

use crate::record::Record;

/// Rows under a head, aligned. Cells that begin with a digit stand to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
    let mut text = String::new();
    for row in [&head, &rule].into_iter().chain(rows) {
        let cells: Vec<String> = widths
            .iter()
            .zip(row)
            .map(|(&width, cell)| {
                if cell.starts_with(|c: char| c.is_ascii_digit()) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// The records of one run.
pub(crate) fn of_records(records: &[Record]) -> String {
    let rows: Vec<Vec<String>> = records
        .iter()
        .map(|r| {
            vec![
                r.bench.clone(),
                r.case.clone(),
                size(r.size),
                r.threads.to_string(),
                r.who.clone(),
                figure(r.value),
                r.unit.clone(),
                format!("{}..{}", figure(r.spread[0]), figure(r.spread[1])),
                figure(r.wall_s * 1e3),
                r.ratio_and_spread()
                    .map_or_else(String::new, |(ratio, [low, high])| {
                        format!("{ratio:.3} ({low:.3}..{high:.3})")
                    }),
            ]
        })
        .collect();
    let head = [
        "bench",
        "case",
        "size",
        "threads",
        "who",
        "median",
        "unit",
        "quartiles",
        "wall ms",
        "ours/it",
    ];
    table(&head, &rows)
}

/// Four significant digits, as people read them.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 100.0 => format!("{value:.1}"),
        v if v >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// 65536 as 2^16.
pub(crate) fn size(size: u64) -> String {
    if size.is_power_of_two() {
        format!("2^{}", size.ilog2())
    } else {
        size.to_string()
    }
}

/// A line for each promise: whether it holds.
pub(crate) fn met(bars: &[(String, bool)]) -> String {
    let line = |(what, held): &(String, bool)| match held {
        true => format!("{what}: met\n"),
        false => format!("{what}: not met\n"),
    };
    bars.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_to_the_left_numbers_to_the_right() {
        let rows = [
            vec!["a".to_owned(), "1.5".to_owned()],
            vec!["long".to_owned(), "10.25".to_owned()],
        ];
        assert_eq!(
            table(&["who", "ms"], &rows),
            "who   ms\n----  -----\na       1.5\nlong  10.25\n"
        );
    }

    #[test]
    fn figures() {
        assert_eq!(figure(0.12345), "0.123");
        assert_eq!(figure(12.345), "12.35");
        assert_eq!(figure(1234.5), "1234");
        assert_eq!(size(1 << 16), "2^16");
        assert_eq!(size(100), "100");
    }
}
