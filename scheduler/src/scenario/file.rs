//! A policy as an operator writes it: a text in TOML that becomes a checked [`Policy`], or is refused.
//!
//! [`parse`] is a function of the text alone; who opened the file, and when it is read again, is
//! not its business. What the text may say is what [`super`] knows, by the same names, each with
//! its unit at the end (`ageing_max_ms`). Nothing is guessed: an unknown key is refused, for a
//! misspelt bound that is silently ignored is found on the day it was needed, and so is a number
//! that is a string. `value` and `guarantee_percent` must be said of every class; what else is left
//! out is as in [`Class::plain`] and [`GiveBack::PLAIN`], and limits that are left out are [`Limits::STANDARD`].
//!
//! A refusal names the key and the reason. What is wrong with the form has a line too; what is
//! wrong with the sense (guarantees that sum to more than the box) need not have one.
//!
//! Classes keep the order in which they stand in the text.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};
use thiserror::Error;
use toml::Spanned;

use super::{
    Arrivals, Class, GiveBack, Limits, Marks, Peak, Policy, PolicyError, Share, SlackMarks,
    TimeOfDay, Window,
};
use crate::Nanos;

/// The longest text that is read: a hundred times what sixteen classes need.
pub const TEXT_MAX: usize = 1 << 20;

/// Why a text is no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It is too long to be one.
    #[error("expected at most {TEXT_MAX} bytes, got {got}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// It is not TOML, or a key is unknown, missing or of another type.
    #[error("line {line}: {key}: {reason}")]
    Form {
        /// The line, from 1.
        line: usize,
        /// The key, as far as the text shows it.
        key: String,
        /// What was expected and what was got.
        reason: String,
    },
    /// It says what no policy can be.
    #[error(transparent)]
    Sense(#[from] PolicyError),
}

/// Reads a policy.
pub fn parse(text: &str) -> Result<Policy, FileError> {
    if text.len() > TEXT_MAX {
        return Err(FileError::TooLong { got: text.len() });
    }
    let raw: Raw = toml::from_str(text).map_err(|error| form(text, &error))?;
    let mut classes: Vec<_> = raw.classes.into_iter().collect();
    classes.sort_by_key(|(_, class)| class.span().start);
    let class = |(name, raw): (String, Spanned<RawClass>)| raw.into_inner().class(&name);
    let classes = classes.into_iter().map(class).collect();
    Ok(Policy::new(classes, raw.limits.limits())?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(default)]
    limits: RawLimits,
    classes: BTreeMap<String, Spanned<RawClass>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawLimits {
    tenants_max: Option<u32>,
    jobs_max: Option<u32>,
    slice_ms: Option<u64>,
    quantum_us: Option<u64>,
    overrun_quanta: Option<u32>,
    idle_patience_us: Option<u64>,
    reallocation_max_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClass {
    value: u32,
    guarantee_percent: Percent,
    ceiling_percent: Option<Percent>,
    ageing_max_ms: Option<u64>,
    queue_max: Option<u32>,
    prepared_max: Option<u32>,
    deadline_implied_ms: Option<u64>,
    storage_max_bytes: Option<u64>,
    declared_span_max_ms: Option<u64>,
    declared_patience_ms: Option<u64>,
    peak: Option<RawPeak>,
    #[serde(default)]
    off_peak: Vec<RawWindow>,
    give_back: Option<RawGiveBack>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGiveBack {
    held_percent: Option<Percent>,
    quiet_ms: Option<u64>,
    jobs: Option<u32>,
    arrivals: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPeak {
    value: u32,
    queue: Option<RawMarks>,
    arrivals: Option<RawArrivals>,
    slack: Option<RawSlack>,
    hold_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMarks {
    high: u32,
    low: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawArrivals {
    high: u32,
    low: u32,
    span_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSlack {
    high_ms: u64,
    low_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    #[serde(deserialize_with = "time_of_day")]
    from: TimeOfDay,
    #[serde(deserialize_with = "time_of_day")]
    to: TimeOfDay,
    value: u32,
}

/// Hundredths of the box, or of what is held, with at most four digits after the point.
struct Percent(Share);

impl RawLimits {
    fn limits(self) -> Limits {
        let standard = Limits::STANDARD;
        let millis = |given: Option<u64>, or| given.map_or(or, Nanos::from_millis);
        let micros = |given: Option<u64>, or| given.map_or(or, Nanos::from_micros);
        Limits {
            tenants_max: self.tenants_max.unwrap_or(standard.tenants_max),
            jobs_max: self.jobs_max.unwrap_or(standard.jobs_max),
            slice: millis(self.slice_ms, standard.slice),
            quantum: micros(self.quantum_us, standard.quantum),
            overrun_quanta: self.overrun_quanta.unwrap_or(standard.overrun_quanta),
            idle_patience: micros(self.idle_patience_us, standard.idle_patience),
            reallocation_max: millis(self.reallocation_max_ms, standard.reallocation_max),
        }
    }
}

impl RawClass {
    fn class(self, name: &str) -> Class {
        let plain = Class::plain(name);
        let millis = |given: Option<u64>, or| given.map_or(or, Nanos::from_millis);
        Class {
            value: self.value,
            guarantee: self.guarantee_percent.0,
            ceiling: self.ceiling_percent.map_or(plain.ceiling, |it| it.0),
            ageing_max: millis(self.ageing_max_ms, plain.ageing_max),
            queue_max: self.queue_max.unwrap_or(plain.queue_max),
            prepared_max: self.prepared_max.unwrap_or(plain.prepared_max),
            deadline_implied: millis(self.deadline_implied_ms, plain.deadline_implied),
            storage_max: self.storage_max_bytes.unwrap_or(plain.storage_max),
            declared_span_max: millis(self.declared_span_max_ms, plain.declared_span_max),
            declared_patience: millis(self.declared_patience_ms, plain.declared_patience),
            peak: self.peak.map(RawPeak::peak),
            off_peak: self.off_peak.into_iter().map(RawWindow::window).collect(),
            give_back: self.give_back.map(RawGiveBack::give_back),
            name: plain.name,
        }
    }
}

impl RawPeak {
    fn peak(self) -> Peak {
        Peak {
            value: self.value,
            queue: self.queue.map(|RawMarks { high, low }| Marks { high, low }),
            arrivals: self.arrivals.map(|it| Arrivals {
                marks: Marks {
                    high: it.high,
                    low: it.low,
                },
                span: Nanos::from_millis(it.span_ms),
            }),
            slack: self.slack.map(|it| SlackMarks {
                high: Nanos::from_millis(it.high_ms),
                low: Nanos::from_millis(it.low_ms),
            }),
            hold: Nanos::from_millis(self.hold_ms),
        }
    }
}

impl RawGiveBack {
    fn give_back(self) -> GiveBack {
        let plain = GiveBack::PLAIN;
        GiveBack {
            share: self.held_percent.map_or(plain.share, |it| it.0),
            quiet: self.quiet_ms.map_or(plain.quiet, Nanos::from_millis),
            jobs: self.jobs.unwrap_or(plain.jobs),
            arrivals: self.arrivals.unwrap_or(plain.arrivals),
        }
    }
}

impl RawWindow {
    fn window(self) -> Window {
        Window {
            from: self.from,
            to: self.to,
            value: self.value,
        }
    }
}

fn time_of_day<'de, D: Deserializer<'de>>(text: D) -> Result<TimeOfDay, D::Error> {
    String::deserialize(text)?
        .parse()
        .map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(number: D) -> Result<Percent, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = Percent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 100 with at most 4 digits after the point")
            }

            fn visit_i64<E: de::Error>(self, percent: i64) -> Result<Percent, E> {
                // Whether so much may be promised is the policy's business; whether it can be
                // held is ours.
                match u32::try_from(percent) {
                    Ok(small) if small <= 400_000 => Ok(Percent(Share::from_percent(small))),
                    _ => Err(self.refuse(Unexpected::Signed(percent))),
                }
            }

            fn visit_f64<E: de::Error>(self, percent: f64) -> Result<Percent, E> {
                let millionths = percent * 10_000.0;
                let whole = millionths.round();
                // A decimal fraction is not exact in binary; a ten-thousandth of the last digit is
                // far above what that costs and far below the next digit.
                let exact = (millionths - whole).abs() < 1e-4;
                if !exact || !(0.0..=1_000_000.0).contains(&whole) {
                    return Err(self.refuse(Unexpected::Float(percent)));
                }
                Ok(Percent(Share::from_millionths(whole as u32)))
            }
        }

        impl Number {
            fn refuse<E: de::Error>(&self, got: Unexpected<'_>) -> E {
                E::invalid_value(got, self)
            }
        }

        number.deserialize_any(Number)
    }
}

/// Where in the text an error is, and what it says.
fn form(text: &str, error: &toml::de::Error) -> FileError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let bytes = &text.as_bytes()[..at];
    let line = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    FileError::Form {
        line,
        key: key(text, line),
        // The first line: others repeat the text.
        reason: error
            .message()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    }
}

/// The key that a line is about: that of its table, and its own. Enough for tables whose values
/// stand in one line, as those of policies do; what is not a key is shown as it stands.
fn key(text: &str, line: usize) -> String {
    let mut table = "";
    let mut own = "";
    for line in text.lines().take(line) {
        let line = line.trim();
        own = "";
        if let Some(header) = line.strip_prefix('[') {
            table = header.trim_matches(|c| "[] ".contains(c));
        } else {
            own = line.split(['=', '#']).next().unwrap_or_default().trim();
        }
    }
    let shown = match (table, own) {
        ("", "") => "the text".to_owned(),
        (one, "") | ("", one) => one.to_owned(),
        (table, own) => format!("{table}.{own}"),
    };
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    shown.chars().take(KEY_SHOWN_MAX).map(plain).collect()
}

const KEY_SHOWN_MAX: usize = 120;
