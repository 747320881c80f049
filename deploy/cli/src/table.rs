//! Plain tables for people: columns as wide as their widest cell, numbers to the right, two
//! spaces between, nothing that a terminal or a log file could not show.

use std::fmt::{self, Display};

/// A table that prints itself.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names. A name that begins with `>` is of a column of numbers,
    /// which is set to the right; the mark itself is not printed.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(|name| (*name).to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; short rows are filled up with empty cells.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self
            .header
            .iter()
            .map(|name| name.strip_prefix('>').unwrap_or(name))
            .collect();
        let widths: Vec<usize> = (0..names.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
                widest.max(names[column].chars().count())
            })
            .collect();
        let mut line = |cells: &[&str]| -> fmt::Result {
            let mut text = String::new();
            for (column, width) in widths.iter().enumerate() {
                let cell = cells.get(column).copied().unwrap_or("");
                if self.header[column].starts_with('>') {
                    text.push_str(&format!("{cell:>width$}  "));
                } else {
                    text.push_str(&format!("{cell:<width$}  "));
                }
            }
            writeln!(f, "  {}", text.trim_end())
        };
        line(&names)?;
        for row in &self.rows {
            line(&row.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

/// Bytes as people read them, in powers of 1024.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

/// Microseconds as milliseconds with as many digits as matter.
pub(crate) fn milliseconds(micros: f64) -> String {
    let ms = micros / 1000.0;
    if ms < 10.0 {
        format!("{ms:.2} ms")
    } else if ms < 1000.0 {
        format!("{ms:.1} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["kernel", ">ms"]);
        table.row(["ntt".to_owned(), "5".to_owned()]);
        table.row(["msm.accumulate".to_owned(), "120".to_owned()]);
        assert_eq!(
            table.to_string(),
            "  kernel           ms\n  ntt               5\n  msm.accumulate  120\n"
        );
    }
}
