//! Demand as a series: how many jobs each tenant asks for in each step of time.
//!
//! As text it is CSV with the header `t_s,tenant,scenario,arrivals,service_s`: the start of the
//! step in seconds, who, which class of the policy, how many jobs arrive within the step, and how
//! many core-seconds each takes. A sixth column, `device_s`, may say how many of these a device can do as
//! well. Rows go by time; all steps are equally long, and the first two
//! times say how long; a step may have several rows, of one tenant too. It is read strictly: a
//! series with a hole would be simulated as if nothing had been wanted there, and a figure that is
//! no number as if it were one, and neither would show in the result. So each refusal names line
//! and column, what was expected and what was got.
//!
//! A series that has no such form (a column of time stamps and columns of request counts) is put
//! into it by [`Trace::convert`], which is told what each column means.
//!
//! *Demand* of a step is its core time over its length, in cores: what would have to be there for
//! the work to be done as it comes.

use std::collections::HashMap;
use std::fmt::Write;

use thiserror::Error;

use crate::Nanos;
use crate::sim::random::Random;

/// A series, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    step: Nanos,
    steps: u32,
    tenants: Vec<Tenant>,
    /// Ascending by step.
    rows: Vec<Row>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// As the series calls it.
    pub name: String,
    /// Its class, as an index of the names that the series was read with.
    pub class: usize,
}

/// What one tenant asks for in one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which step, from 0.
    pub step: u32,
    /// An index of [`Trace::tenants`].
    pub tenant: u16,
    /// How many jobs.
    pub arrivals: u32,
    /// Core time of each.
    pub service: Nanos,
    /// The part of it that a device can do as well.
    pub for_devices: Nanos,
}

/// One job of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When it is asked for.
    pub at: Nanos,
    /// An index of [`Trace::tenants`].
    pub tenant: u16,
    /// Its core time.
    pub service: Nanos,
    /// The part of it that a device can do as well.
    pub for_devices: Nanos,
}

/// Why a text is no series.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: {fault}: expected {expected}, got {got}")]
pub struct TraceError {
    /// The line, from 1.
    pub line: usize,
    /// The name of the column.
    pub column: String,
    /// What is wrong.
    pub fault: TraceFault,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub got: String,
}

/// What may be wrong with a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum TraceFault {
    /// The first line is not the header.
    #[error("another header")]
    Header,
    /// A line has more or fewer fields than the header.
    #[error("another number of fields")]
    Fields,
    /// There is nothing but the header.
    #[error("no rows")]
    Empty,
    /// A field is not a plain decimal number.
    #[error("not a number")]
    NotANumber,
    /// A number is below nothing.
    #[error("negative")]
    Negative,
    /// A number, or the sum of them, is more than any box could have to do with.
    #[error("too large")]
    TooLarge,
    /// Jobs that take no time.
    #[error("no work")]
    NoWork,
    /// A step is missing.
    #[error("a hole in time")]
    Hole,
    /// A row is earlier than the one before.
    #[error("time goes back")]
    Back,
    /// A class that the policy does not have.
    #[error("unknown scenario")]
    UnknownScenario,
    /// A tenant that had another class before.
    #[error("a tenant of two scenarios")]
    TwoScenarios,
    /// A name that is empty, long, or has odd characters.
    #[error("not a name")]
    Name,
    /// More tenants than a box may have.
    #[error("too many tenants")]
    Tenants,
}

/// A column of request counts and what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header. It will be the tenant's.
    pub name: String,
    /// The class of its tenant.
    pub scenario: String,
    /// Core time of one request.
    pub service: Nanos,
}

/// The header of a series.
pub const HEADER: &str = "t_s,tenant,scenario,arrivals,service_s";
/// The header of a series with work that devices can do.
pub const DEVICE_HEADER: &str = "t_s,tenant,scenario,arrivals,service_s,device_s";
/// Most tenants of one series: as many as a box may have.
pub const TENANTS_MAX: usize = crate::scenario::TENANTS_MAX as usize;
/// Most jobs of one series.
pub const JOBS_MAX: u64 = 50_000_000;
/// Most jobs of one row.
pub const ARRIVALS_MAX: u64 = 1_000_000;
/// Longest core time of one job: twelve days.
pub const SERVICE_MAX: Nanos = Nanos::from_secs(1_000_000);
/// Latest time: thirty years.
pub const TIME_MAX: Nanos = Nanos::from_secs(1_000_000_000);

const COLUMNS: [&str; 6] = [
    "t_s",
    "tenant",
    "scenario",
    "arrivals",
    "service_s",
    "device_s",
];

impl Trace {
    /// Reads a series. `classes` are the names that a scenario may have.
    pub fn read(text: &str, classes: &[&str]) -> Result<Trace, TraceError> {
        let first = text.split('\n').next().unwrap_or_default();
        let with_devices = first.trim_end_matches('\r') == DEVICE_HEADER;
        let (header, columns) = match with_devices {
            true => (DEVICE_HEADER, COLUMNS.len()),
            false => (HEADER, COLUMNS.len() - 1),
        };
        let mut lines = Lines::of(text, header)?;
        let mut builder = Builder::default();
        while let Some((line, fields)) = lines.next(columns)? {
            let field = |at: usize| Field {
                line,
                column: COLUMNS[at],
                text: fields[at],
            };
            let step = builder.step_of(&field(0), field(0).time()?)?;
            let class = field(2).scenario(classes)?;
            let tenant = builder.tenant(&field(1), class, classes)?;
            let arrivals = field(3).whole(ARRIVALS_MAX)? as u32;
            let service = field(4).seconds(SERVICE_MAX)?;
            if arrivals > 0 && service == Nanos::ZERO {
                let expected = "more than 0 where jobs arrive";
                return Err(field(4).wrong(TraceFault::NoWork, expected));
            }
            let for_devices = match with_devices {
                true => field(5).seconds(service)?,
                false => Nanos::ZERO,
            };
            let row = Row {
                step,
                tenant,
                arrivals,
                service,
                for_devices,
            };
            builder.push(&field(3), row)?;
        }
        builder.finish(&lines)
    }

    /// Puts a series of time stamps and request counts into our form. `time` names the column of
    /// times, which may be negative and begin anywhere: the first one becomes 0. Columns that are
    /// not named are left out, unread.
    pub fn convert(
        text: &str,
        time: &str,
        columns: &[Column],
        classes: &[&str],
    ) -> Result<Trace, TraceError> {
        let header = text.lines().next().unwrap_or("").trim_end_matches('\r');
        let names: Vec<&str> = header.split(',').collect();
        let place = |name: &str| {
            names.iter().position(|&n| n == name).ok_or(TraceError {
                line: 1,
                column: name.to_owned(),
                fault: TraceFault::Header,
                expected: "a column of that name".to_owned(),
                got: shown(header),
            })
        };
        let time_at = place(time)?;
        let mut builder = Builder::default();
        let mut wanted = vec![];
        for column in columns {
            let field = |text| Field {
                line: 1,
                column: &column.name,
                text,
            };
            let class = field(&column.scenario).scenario(classes)?;
            let tenant = builder.tenant(&field(&column.name), class, classes)?;
            wanted.push((place(&column.name)?, tenant, column));
        }
        let mut lines = Lines::of(text, header)?;
        let mut origin = None;
        while let Some((line, fields)) = lines.next(names.len())? {
            let field = |at: usize| Field {
                line,
                column: names[at],
                text: fields[at],
            };
            let time = field(time_at);
            let at = time.signed_time()?;
            let since = at - *origin.get_or_insert(at);
            let Ok(since) = u64::try_from(since) else {
                return Err(time.wrong(TraceFault::Back, "no time before the first"));
            };
            let step = builder.step_of(&time, Nanos(since))?;
            for &(at, tenant, column) in &wanted {
                let row = Row {
                    step,
                    tenant,
                    arrivals: field(at).whole(ARRIVALS_MAX)? as u32,
                    service: column.service,
                    for_devices: Nanos::ZERO,
                };
                builder.push(&field(at), row)?;
            }
        }
        builder.finish(&lines)
    }

    /// A series of these rows. For generators, whose rows are right by construction.
    ///
    /// # Panics
    /// If they are not in order, or name a tenant that is not there.
    pub fn of(step: Nanos, steps: u32, tenants: Vec<Tenant>, rows: Vec<Row>) -> Trace {
        assert!(step > Nanos::ZERO, "a step takes time");
        assert!(rows.is_sorted_by_key(|row| row.step), "rows go by time");
        for row in &rows {
            assert!(row.step < steps, "a row after the end");
            assert!(usize::from(row.tenant) < tenants.len(), "a row of nobody");
        }
        Trace {
            step,
            steps,
            tenants,
            rows,
        }
    }

    /// The series as text, in the form that [`Trace::read`] reads.
    pub fn write(&self, classes: &[&str]) -> String {
        let with_devices = self.rows.iter().any(|row| row.for_devices > Nanos::ZERO);
        let header = if with_devices { DEVICE_HEADER } else { HEADER };
        let mut text = format!("{header}\n");
        let mut line = |step, tenant: &Tenant, arrivals, service, for_devices| {
            let at = decimal(Nanos(self.step.0 * u64::from(step)));
            let (name, class) = (&tenant.name, classes[tenant.class]);
            let last = match with_devices {
                true => format!(",{}", decimal(for_devices)),
                false => String::new(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{at},{name},{class},{arrivals},{}{last}",
                decimal(service)
            );
        };
        let mut rows = self.rows.iter().peekable();
        for step in 0..self.steps {
            if rows.peek().is_none_or(|row| row.step != step) {
                // A step in which nobody wants anything is a row, too, or there would be a hole.
                line(step, &self.tenants[0], 0, Nanos::ZERO, Nanos::ZERO);
            }
            while let Some(row) = rows.next_if(|row| row.step == step) {
                let tenant = &self.tenants[usize::from(row.tenant)];
                line(step, tenant, row.arrivals, row.service, row.for_devices);
            }
        }
        text
    }

    /// The same series with each job's core time multiplied: all demands grow alike, and no
    /// share or ratio of them changes.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Trace {
        for row in &mut self.rows {
            let scale = |span: Nanos| (span.0 as f64 * factor).round() as u64;
            row.service = Nanos(scale(row.service).max(1));
            row.for_devices = Nanos(scale(row.for_devices)).min(row.service);
        }
        self
    }

    /// The same series where devices can do this part of each job's work, from 0 to 1.
    #[must_use]
    pub fn for_devices(mut self, part: f64) -> Trace {
        for row in &mut self.rows {
            let nanos = (row.service.0 as f64 * part).round() as u64;
            row.for_devices = Nanos(nanos).min(row.service);
        }
        self
    }

    /// How long one step is.
    pub fn step(&self) -> Nanos {
        self.step
    }

    /// How many steps there are.
    pub fn steps(&self) -> u32 {
        self.steps
    }

    /// How long the series is.
    pub fn duration(&self) -> Nanos {
        Nanos(self.step.0 * u64::from(self.steps))
    }

    /// Who asks.
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// How many jobs there are.
    pub fn jobs(&self) -> u64 {
        self.rows.iter().map(|row| u64::from(row.arrivals)).sum()
    }

    /// The core time of all jobs.
    pub fn work(&self) -> u128 {
        let works = self.rows.iter().map(Row::work);
        works.sum()
    }

    /// The longest core time of a job.
    pub fn longest(&self) -> Nanos {
        let services = self.rows.iter().map(|row| row.service);
        services.max().unwrap_or(Nanos::ZERO)
    }

    /// The demand of these classes in each step, in cores.
    pub fn demand(&self, of: impl Fn(usize) -> bool) -> Vec<f64> {
        let mut demand = vec![0.0; self.steps as usize];
        for row in &self.rows {
            if of(self.tenants[usize::from(row.tenant)].class) {
                demand[row.step as usize] += row.work() as f64 / self.step.0 as f64;
            }
        }
        demand
    }

    /// The highest demand of these classes in any step, in cores.
    pub fn peak(&self, of: impl Fn(usize) -> bool) -> f64 {
        self.demand(of).into_iter().fold(0.0, f64::max)
    }

    /// All jobs in order of time. Within its step each comes at a random time that depends on the
    /// seed alone, so every policy meets the same jobs.
    pub fn arrivals(&self, seed: u64) -> impl Iterator<Item = Arrival> + '_ {
        let mut random = Random::new(seed);
        let mut rows = self.rows.iter().peekable();
        let mut step = vec![];
        std::iter::from_fn(move || {
            while step.is_empty() {
                let first = rows.peek()?.step;
                let start = self.step.0 * u64::from(first);
                while let Some(row) = rows.next_if(|row| row.step == first) {
                    for _ in 0..row.arrivals {
                        step.push(Arrival {
                            at: Nanos(random.between(start, start + self.step.0)),
                            tenant: row.tenant,
                            service: row.service,
                            for_devices: row.for_devices,
                        });
                    }
                }
                // Latest first, for they are taken from the end; the sort is stable, so what
                // comes at one instant keeps its order.
                step.sort_by_key(|arrival| std::cmp::Reverse(arrival.at));
            }
            step.pop()
        })
    }
}

impl Row {
    fn work(&self) -> u128 {
        u128::from(self.arrivals) * u128::from(self.service.0)
    }
}

/// A series while it is read.
#[derive(Debug, Default)]
struct Builder {
    first: Option<Nanos>,
    step: Option<Nanos>,
    steps: u32,
    last: Nanos,
    tenants: Vec<Tenant>,
    named: HashMap<String, u16>,
    rows: Vec<Row>,
    jobs: u64,
}

impl Builder {
    /// Which step a row of this time belongs to.
    fn step_of(&mut self, field: &Field<'_>, at: Nanos) -> Result<u32, TraceError> {
        let Some(first) = self.first else {
            self.first = Some(at);
            (self.last, self.steps) = (at, 1);
            return Ok(0);
        };
        if at < self.last {
            let expected = format!("{} or later", decimal(self.last));
            return Err(field.wrong(TraceFault::Back, expected));
        }
        if at > self.last {
            let step = *self.step.get_or_insert(at.since(first));
            if at != self.last.plus(step) {
                let expected = format!("{} or {}", decimal(self.last), {
                    decimal(self.last.plus(step))
                });
                return Err(field.wrong(TraceFault::Hole, expected));
            }
            self.last = at;
            self.steps += 1;
        }
        Ok(self.steps - 1)
    }

    fn tenant(
        &mut self,
        field: &Field<'_>,
        class: usize,
        classes: &[&str],
    ) -> Result<u16, TraceError> {
        let name = field.name()?;
        if let Some(&tenant) = self.named.get(name) {
            let before = self.tenants[usize::from(tenant)].class;
            if before != class {
                return Err(TraceError {
                    line: field.line,
                    column: "scenario".to_owned(),
                    fault: TraceFault::TwoScenarios,
                    expected: format!("{} for {name}, as before", classes[before]),
                    got: classes[class].to_owned(),
                });
            }
            return Ok(tenant);
        }
        if self.tenants.len() == TENANTS_MAX {
            return Err(field.wrong(TraceFault::Tenants, format!("at most {TENANTS_MAX} names")));
        }
        let tenant = self.tenants.len() as u16;
        self.named.insert(name.to_owned(), tenant);
        self.tenants.push(Tenant {
            name: name.to_owned(),
            class,
        });
        Ok(tenant)
    }

    fn push(&mut self, field: &Field<'_>, row: Row) -> Result<(), TraceError> {
        self.jobs += u64::from(row.arrivals);
        if self.jobs > JOBS_MAX {
            let expected = format!("at most {JOBS_MAX} jobs in all");
            return Err(field.wrong(TraceFault::TooLarge, expected));
        }
        if row.arrivals > 0 {
            self.rows.push(row);
        }
        Ok(())
    }

    fn finish(self, lines: &Lines<'_>) -> Result<Trace, TraceError> {
        if self.jobs == 0 {
            return Err(TraceError {
                line: lines.line,
                column: "arrivals".to_owned(),
                fault: TraceFault::Empty,
                expected: "at least one job".to_owned(),
                got: "none until the end".to_owned(),
            });
        }
        Ok(Trace {
            // One step alone does not say how long it is.
            step: self.step.unwrap_or(Nanos::from_secs(1)),
            steps: self.steps,
            tenants: self.tenants,
            rows: self.rows,
        })
    }
}

struct Lines<'a> {
    lines: std::str::Split<'a, char>,
    line: usize,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str, header: &str) -> Result<Lines<'a>, TraceError> {
        let mut lines = Lines {
            lines: text.split('\n'),
            line: 0,
        };
        let got = lines.one().unwrap_or_default();
        if got != header || header.is_empty() {
            return Err(TraceError {
                line: 1,
                column: COLUMNS[0].to_owned(),
                fault: TraceFault::Header,
                expected: HEADER.to_owned(),
                got: shown(got),
            });
        }
        Ok(lines)
    }

    /// The next line without its end; `None` after the last, which may end with its text.
    fn one(&mut self) -> Option<&'a str> {
        let line = self.lines.next()?;
        self.line += 1;
        let rest = self.lines.clone().next().is_some();
        self.line -= usize::from(!rest && line.is_empty());
        (rest || !line.is_empty()).then(|| line.strip_suffix('\r').unwrap_or(line))
    }

    fn next(&mut self, columns: usize) -> Result<Option<(usize, Vec<&'a str>)>, TraceError> {
        let Some(text) = self.one() else {
            return Ok(None);
        };
        let fields: Vec<&str> = text.split(',').collect();
        if fields.len() != columns {
            return Err(TraceError {
                line: self.line,
                column: fields.len().min(columns).to_string(),
                fault: TraceFault::Fields,
                expected: columns.to_string(),
                got: format!("{} in {}", fields.len(), shown(text)),
            });
        }
        Ok(Some((self.line, fields)))
    }
}

/// A field, with where it stands.
struct Field<'a> {
    line: usize,
    column: &'a str,
    text: &'a str,
}

impl<'a> Field<'a> {
    fn wrong(&self, fault: TraceFault, expected: impl Into<String>) -> TraceError {
        TraceError {
            line: self.line,
            column: self.column.to_owned(),
            fault,
            expected: expected.into(),
            got: shown(self.text),
        }
    }

    fn name(&self) -> Result<&'a str, TraceError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if self.text.is_empty() || self.text.len() > 64 || !self.text.chars().all(plain) {
            let expected = "1 to 64 letters, digits and _-.:/";
            return Err(self.wrong(TraceFault::Name, expected));
        }
        Ok(self.text)
    }

    fn scenario(&self, classes: &[&str]) -> Result<usize, TraceError> {
        let found = classes.iter().position(|&class| class == self.text);
        found.ok_or_else(|| {
            let expected = format!("one of {}", classes.join(", "));
            self.wrong(TraceFault::UnknownScenario, expected)
        })
    }

    fn whole(&self, max: u64) -> Result<u64, TraceError> {
        let expected = || format!("a whole number up to {max}");
        if self.is_negative() {
            return Err(self.wrong(TraceFault::Negative, expected()));
        }
        if self.text.is_empty() || !self.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong(TraceFault::NotANumber, expected()));
        }
        match self.text.parse() {
            Ok(value) if value <= max => Ok(value),
            _ => Err(self.wrong(TraceFault::TooLarge, expected())),
        }
    }

    fn time(&self) -> Result<Nanos, TraceError> {
        self.seconds(TIME_MAX)
    }

    /// Nanoseconds, which may be below nothing.
    fn signed_time(&self) -> Result<i64, TraceError> {
        let (sign, text) = match self.text.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, self.text),
        };
        let time = Field { text, ..*self }.time()?;
        Ok(sign * i64::try_from(time.0).unwrap_or(i64::MAX))
    }

    /// A decimal number of seconds, to the nanosecond. No exponent, no sign, no blanks.
    fn seconds(&self, max: Nanos) -> Result<Nanos, TraceError> {
        let expected = || format!("seconds from 0 to {}, as digits", decimal(max));
        if self.is_negative() {
            return Err(self.wrong(TraceFault::Negative, expected()));
        }
        let (whole, part) = self.text.split_once('.').unwrap_or((self.text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 9 {
            return Err(self.wrong(TraceFault::NotANumber, expected()));
        }
        let whole: Option<u64> = whole.parse().ok();
        let part: Option<u64> = format!("{part:0<9}").parse().ok();
        let nanos = whole.and_then(|whole| whole.checked_mul(1_000_000_000)?.checked_add(part?));
        match nanos.map(Nanos) {
            Some(value) if value <= max => Ok(value),
            _ => Err(self.wrong(TraceFault::TooLarge, expected())),
        }
    }

    fn is_negative(&self) -> bool {
        let number = self.text.strip_prefix('-');
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    }
}

/// Seconds, as few digits as say it exactly.
fn decimal(span: Nanos) -> String {
    let (whole, part) = (span.0 / 1_000_000_000, span.0 % 1_000_000_000);
    if part == 0 {
        return whole.to_string();
    }
    format!("{whole}.{part:09}")
        .trim_end_matches('0')
        .to_owned()
}

/// Somebody else's text, short enough for a line of ours.
fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLASSES: [&str; 2] = ["financial", "social"];

    fn read(rows: &str) -> Result<Trace, TraceError> {
        Trace::read(&format!("{HEADER}\n{rows}"), &CLASSES)
    }

    #[test]
    fn what_is_written_is_read() {
        let rows = "0,a,financial,3,1.5\n0,b,social,1,0.000000001\n0.25,a,financial,7,2\n";
        let trace = read(rows).expect("a series");
        assert_eq!(trace.step(), Nanos::from_millis(250));
        assert_eq!((trace.steps(), trace.jobs()), (2, 11));
        assert_eq!(trace.work(), 18_500_000_001);
        assert_eq!(trace.peak(|class| class == 0), 14.0 / 0.25);
        assert_eq!(trace.write(&CLASSES), format!("{HEADER}\n{rows}"));
        assert_eq!(
            read(&rows.replace('\n', "\r\n")).map_err(|e| e.line),
            Ok(trace.clone())
        );
        assert_eq!(read(rows.trim_end()), Ok(trace));
    }

    #[test]
    fn a_part_of_a_jobs_work_may_be_for_devices() {
        let text = format!("{DEVICE_HEADER}\n0,a,social,3,1.5,0.5\n1,a,social,1,1,0\n");
        let trace = Trace::read(&text, &CLASSES).expect("a series");
        let parts: Vec<_> = trace.arrivals(1).map(|it| it.for_devices).collect();
        let half = Nanos::from_millis(500);
        assert_eq!(parts, [half, half, half, Nanos::ZERO]);
        assert_eq!(trace.work(), 5_500_000_000);
        assert_eq!(trace.write(&CLASSES), text);
        let doubled = trace.scaled(2.0).write(&CLASSES);
        assert!(doubled.contains("0,a,social,3,3,1\n"), "{doubled}");
        for (rows, column, fault) in [
            ("0,a,social,1,1,1.5\n", "device_s", TraceFault::TooLarge),
            ("0,a,social,1,1,-1\n", "device_s", TraceFault::Negative),
            ("0,a,social,1,1\n", "5", TraceFault::Fields),
        ] {
            let text = format!("{DEVICE_HEADER}\n{rows}");
            let error = Trace::read(&text, &CLASSES).expect_err(rows);
            assert_eq!((error.column.as_str(), error.fault), (column, fault));
        }
    }

    #[test]
    fn each_refusal_names_line_and_column_and_reason() {
        use TraceFault::*;
        let huge = "9".repeat(40);
        let cases: [(&str, usize, &str, TraceFault); 24] = [
            ("", 1, "arrivals", Empty),
            ("0,a,social,0,1\n", 2, "arrivals", Empty),
            ("0,a,social,1\n", 2, "4", Fields),
            ("0,a,social,1,1,1\n", 2, "5", Fields),
            ("0,a,social,1,1\n\n1,a,social,1,1\n", 3, "1", Fields),
            ("NaN,a,social,1,1\n", 2, "t_s", NotANumber),
            ("-1,a,social,1,1\n", 2, "t_s", Negative),
            ("0,,social,1,1\n", 2, "tenant", Name),
            ("0,\"a\",social,1,1\n", 2, "tenant", Name),
            ("0,a,Social,1,1\n", 2, "scenario", UnknownScenario),
            ("0,a,,1,1\n", 2, "scenario", UnknownScenario),
            ("0,a,social,-1,1\n", 2, "arrivals", Negative),
            ("0,a,social,1.5,1\n", 2, "arrivals", NotANumber),
            ("0,a,social,,1\n", 2, "arrivals", NotANumber),
            ("0,a,social,1000001,1\n", 2, "arrivals", TooLarge),
            ("0,a,social,HUGE,1\n", 2, "arrivals", TooLarge),
            ("0,a,social,1,inf\n", 2, "service_s", NotANumber),
            ("0,a,social,1,1e3\n", 2, "service_s", NotANumber),
            ("0,a,social,1, 1\n", 2, "service_s", NotANumber),
            ("0,a,social,1,HUGE\n", 2, "service_s", TooLarge),
            ("0,a,social,1,0\n", 2, "service_s", NoWork),
            (
                "0,a,social,1,1\n1,a,social,1,1\n3,a,social,1,1\n",
                4,
                "t_s",
                Hole,
            ),
            (
                "0,a,social,1,1\n1,a,social,1,1\n0,a,social,1,1\n",
                4,
                "t_s",
                Back,
            ),
            (
                "0,a,social,1,1\n0,a,financial,1,1\n",
                3,
                "scenario",
                TwoScenarios,
            ),
        ];
        for (rows, line, column, fault) in cases {
            let error = read(&rows.replace("HUGE", &huge)).expect_err(rows);
            assert_eq!(
                (error.line, error.column.as_str(), error.fault),
                (line, column, fault),
                "{rows:?}: {error}"
            );
            assert!(!error.expected.is_empty() && !error.got.is_empty());
        }
        for text in ["", "\n", "t,x\n0,1\n", "\u{feff}t_s,tenant\n"] {
            let error = Trace::read(text, &CLASSES).expect_err(text);
            assert_eq!((error.line, error.fault), (1, Header));
        }
        let crowd: String = (0..=TENANTS_MAX)
            .map(|n| format!("0,t{n},social,1,1\n"))
            .collect();
        let error = read(&crowd).expect_err("a crowd");
        assert_eq!((error.line, error.fault), (TENANTS_MAX + 2, Tenants));
        let many = "0,a,social,1000000,1\n".repeat(51);
        let error = read(&many).expect_err("too many jobs");
        assert_eq!((error.line, error.fault), (52, TooLarge));
    }

    #[test]
    fn columns_of_requests_are_converted() {
        let text = "when,x,reqs,other\n-2,9,0,1\n-1,oops,3,0\n0,9,1,2\n1,9,0,0\n";
        let column = |name: &str, scenario: &str| Column {
            name: name.to_owned(),
            scenario: scenario.to_owned(),
            service: Nanos::from_millis(500),
        };
        let columns = [column("reqs", "financial"), column("other", "social")];
        let trace = Trace::convert(text, "when", &columns, &CLASSES).expect("a series");
        assert_eq!((trace.steps(), trace.jobs()), (4, 7));
        assert_eq!(trace.demand(|class| class == 0), [0.0, 1.5, 0.5, 0.0]);
        assert_eq!(
            Trace::read(&trace.write(&CLASSES), &CLASSES).map(|t| (t.steps(), t.jobs())),
            Ok((4, 7))
        );

        let error = |text: &str, columns: &[Column]| {
            let error = Trace::convert(text, "when", columns, &CLASSES).expect_err(text);
            (error.line, error.column, error.fault)
        };
        let refused = [
            (
                error(text, &[column("none", "social")]),
                (1, "none", TraceFault::Header),
            ),
            (
                error(text, &[column("x", "social")]),
                (3, "x", TraceFault::NotANumber),
            ),
            (
                error(text, &[column("reqs", "s")]),
                (1, "reqs", TraceFault::UnknownScenario),
            ),
            (
                error("when,reqs\n0,1\n1,1\n3,1\n", &columns[..1]),
                (4, "when", TraceFault::Hole),
            ),
            (
                error("when,reqs\n0,1\n-1,1\n", &columns[..1]),
                (3, "when", TraceFault::Back),
            ),
        ];
        for ((line, column, fault), expected) in refused {
            assert_eq!((line, column.as_str(), fault), expected);
        }
    }

    #[test]
    fn arrivals_fall_into_their_step_and_depend_on_the_seed_alone() {
        let trace = read("0,a,financial,100,1\n1,b,social,50,2\n").expect("a series");
        let all: Vec<Arrival> = trace.arrivals(3).collect();
        assert_eq!(all.len(), 150);
        assert!(all.is_sorted_by_key(|arrival| arrival.at));
        assert!(
            all[..100]
                .iter()
                .all(|a| a.tenant == 0 && a.at < Nanos::from_secs(1))
        );
        assert!(
            all[100..]
                .iter()
                .all(|a| a.tenant == 1 && a.at >= Nanos::from_secs(1))
        );
        assert!(all.iter().copied().eq(trace.arrivals(3)));
        assert!(!all.iter().copied().eq(trace.arrivals(4)));
    }
}
