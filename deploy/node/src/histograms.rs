//! How long things took, as histograms that lose nothing but the last digits.
//!
//! A [`Spans`] is an HDR histogram (G. Tene's; three significant digits from a nanosecond to a
//! minute) beside the fixed buckets that Prometheus wants. The buckets are counted as spans come:
//! reading them out of the histogram would mean a walk over all of it for each bucket of each
//! answer, on the thread that also reads submissions.
//!
//! [`Handovers`] holds one for each cause of a reallocation and each part of its path; there is one of
//! them for each kind of resource.
//!
//! [`Spans::hgrm`] writes HdrHistogram's percentile text, which its plotter draws:
//! <https://hdrhistogram.github.io/HdrHistogram/plotFiles.html>. The crate that counts has no
//! writer for it.

use std::fmt::Write;

use caldera_scheduler::Nanos;
use caldera_scheduler::arbiter::{Cause, Reallocation};
use hdrhistogram::Histogram;

/// Spans of one kind. Allocates as longer ones come, so it belongs on a thread that may.
pub struct Spans {
    histogram: Histogram<u64>,
    /// Spans up to each bound of [`BUCKETS_US`] that are above the bound before.
    buckets: [u64; BUCKETS_US.len()],
    sum_ns: u64,
}

/// Reallocations since the start, by cause and by part of the path.
pub struct Handovers {
    spans: [[Spans; PARTS.len()]; CAUSES.len()],
    missed: [u64; CAUSES.len()],
}

/// Reallocations of one cause.
pub struct OfCause<'a> {
    /// The cause.
    pub cause: Cause,
    /// How many of them took longer than their bound.
    pub missed: u64,
    spans: &'a [Spans; PARTS.len()],
}

impl Spans {
    /// None yet.
    pub fn new() -> Spans {
        let histogram = match Histogram::new(DIGITS) {
            Ok(histogram) => histogram,
            Err(error) => unreachable!("three digits are within what is allowed: {error}"),
        };
        Spans {
            histogram,
            buckets: [0; BUCKETS_US.len()],
            sum_ns: 0,
        }
    }

    /// Counts a span. One of more than a minute counts as that long, and in the sum as it is.
    pub fn record(&mut self, span: Nanos) {
        self.sum_ns += span.0;
        let kept = self.histogram.record(span.0.min(SPAN_NS_MAX));
        assert!(kept.is_ok(), "a histogram grows to hold what comes");
        let bucket = BUCKETS_US.partition_point(|bound| bound * 1_000 < span.0);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// So long at most did this part of them take, in microseconds.
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        micros(self.histogram.value_at_quantile(quantile))
    }

    /// The mean in microseconds.
    pub fn mean_us(&self) -> f64 {
        self.histogram.mean() / 1e3
    }

    /// The longest in microseconds.
    pub fn max_us(&self) -> f64 {
        micros(self.histogram.max())
    }

    /// All of them together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Upper bounds in seconds, with how many spans were not above each: Prometheus' buckets, but
    /// for the last, which has no bound and all spans.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let bounds = BUCKETS_US.iter().map(|bound| *bound as f64 / 1e6);
        bounds.zip(counts)
    }

    /// The percentile text of HdrHistogram, in microseconds: a line for each of some percentiles
    /// that lie closer together the nearer they come to 100, and three lines about the whole.
    pub fn hgrm(&self) -> String {
        let it = &self.histogram;
        let mut text = String::with_capacity(8 * 1024);
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:>12} {:>14} {:>10} {:>14}\n",
            "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
        );
        let mut total = 0;
        for step in it.iter_quantiles(TICKS) {
            total += step.count_since_last_iteration();
            let (value, quantile) = (
                micros(step.value_iterated_to()),
                step.quantile_iterated_to(),
            );
            let _ = write!(text, "{value:>12.3} {quantile:>14.12} {total:>10}");
            // The last line is that of all: nothing is left to be one in so many.
            let _ = if quantile < 1.0 {
                writeln!(text, " {:>14.2}", 1.0 / (1.0 - quantile))
            } else {
                writeln!(text)
            };
        }
        let (mean, deviation) = (self.mean_us(), it.stdev() / 1e3);
        let (max, count) = (self.max_us(), self.count());
        let (buckets, parts) = (it.buckets(), SUB_BUCKETS);
        let _ = write!(
            text,
            "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]\n\
             #[Max     = {max:>12.3}, Total count    = {count:>12}]\n\
             #[Buckets = {buckets:>12}, SubBuckets     = {parts:>12}]\n"
        );
        text
    }
}

impl Default for Spans {
    fn default() -> Spans {
        Spans::new()
    }
}

impl Handovers {
    /// None yet.
    pub fn new() -> Handovers {
        Handovers {
            spans: std::array::from_fn(|_| std::array::from_fn(|_| Spans::new())),
            missed: [0; CAUSES.len()],
        }
    }

    /// Counts a reallocation: once under its cause, the whole and each part.
    pub fn record(&mut self, it: &Reallocation) {
        let cause = place(it.cause);
        for (spans, span) in self.spans[cause].iter_mut().zip(split(it)) {
            spans.record(span);
        }
        self.missed[cause] += u64::from(it.missed);
    }

    /// By cause.
    pub fn causes(&self) -> impl Iterator<Item = OfCause<'_>> {
        let spans = self.spans.iter().zip(self.missed);
        CAUSES
            .iter()
            .zip(spans)
            .map(|(cause, (spans, missed))| OfCause {
                cause: *cause,
                missed,
                spans,
            })
    }
}

impl Default for Handovers {
    fn default() -> Handovers {
        Handovers::new()
    }
}

impl<'a> OfCause<'a> {
    /// From the demand to the new owner's first instruction.
    pub fn total(&self) -> &'a Spans {
        &self.spans[0]
    }

    /// The whole and then the parts that add up to it, each with its name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &'a Spans)> + use<'a> {
        PARTS.iter().copied().zip(self.spans)
    }
}

/// The word for a cause on the wire, in the log and in the names of files.
pub const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Demand => "demand",
        Cause::Declared => "declared",
        Cause::Measured => "measured",
        Cause::Release => "release",
        Cause::Turn => "turn",
        Cause::Ageing => "ageing",
        Cause::Overrun => "overrun",
    }
}

/// The whole of a reallocation and the parts that add up to it, as in [`PARTS`].
pub fn split(it: &Reallocation) -> [Nanos; PARTS.len()] {
    [
        it.total(),
        it.detected.since(it.t0),
        it.decided.since(it.detected),
        it.drained.since(it.decided),
        it.first.since(it.drained),
    ]
}

fn place(cause: Cause) -> usize {
    match cause {
        Cause::Demand => 0,
        Cause::Declared => 1,
        Cause::Measured => 2,
        Cause::Release => 3,
        Cause::Turn => 4,
        Cause::Ageing => 5,
        Cause::Overrun => 6,
    }
}

fn micros(ns: u64) -> f64 {
    ns as f64 / 1e3
}

/// Every cause, each at its `place`.
pub const CAUSES: [Cause; 7] = [
    Cause::Demand,
    Cause::Declared,
    Cause::Measured,
    Cause::Release,
    Cause::Turn,
    Cause::Ageing,
    Cause::Overrun,
];
/// The whole path of a reallocation and its parts.
pub const PARTS: [&str; 5] = ["total", "detect", "decide", "drain", "first"];
/// Upper bounds of the buckets in `/metrics`, around a quantum's 2 ms and a reallocation's 100 ms.
const BUCKETS_US: [u64; 12] = [
    50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000,
];
/// Longer spans count as this long.
const SPAN_NS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;
/// Three digits want steps of one in 1,000 within each doubling: of one in 1,024, from half a
/// bucket on.
const SUB_BUCKETS: u32 = 2_048;
/// Lines of a percentile text for each halving of what is left.
const TICKS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;
    use caldera_scheduler::mailbox::Found;
    use caldera_scheduler::{Epoch, TenantId, UnitId};

    fn spans() -> Spans {
        let mut spans = Spans::new();
        // Over six decades, with a long tail, and the same each time.
        let mut word = 1_u64;
        for _ in 0..20_000 {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let tail = 1 << ((word >> 40) % 28);
            spans.record(Nanos(1 + (word >> 33) % 1_000 * tail / 16));
        }
        spans
    }

    /// Every line of the text is read back, and says what the histogram itself says.
    #[test]
    fn a_percentile_text_says_what_its_histogram_says() {
        let spans = spans();
        let text = spans.hgrm();
        let mut lines = text.lines();
        let header: Vec<&str> = lines.next().unwrap_or("").split_whitespace().collect();
        assert_eq!(
            header,
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert_eq!(lines.next(), Some(""));
        let (notes, rows): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('#'));
        assert!(rows.len() > 20, "{text}");
        let mut before = (0.0, 0.0, 0);
        for (at, row) in rows.iter().enumerate() {
            let fields: Vec<f64> = row
                .split_whitespace()
                .map(|field| field.parse().expect("a number"))
                .collect();
            let last = at + 1 == rows.len();
            assert_eq!(fields.len(), if last { 3 } else { 4 }, "{row}");
            let (value, quantile, total) = (fields[0], fields[1], fields[2] as u64);
            assert!(before <= (value, quantile, total), "{row}");
            before = (value, quantile, total);
            let ns = (value * 1e3).round() as u64;
            assert_eq!(total, spans.histogram.count_between(0, ns), "{row}");
            // Of values on either side of a percentile that is met exactly, it takes the upper.
            let at = |quantile| spans.histogram.value_at_quantile(quantile);
            let within = at(quantile)..=at(quantile + 1.0 / 20_000.0);
            assert!(within.contains(&ns), "{row}: {within:?}");
            if let Some(odds) = fields.get(3) {
                let expected = 1.0 / (1.0 - quantile);
                assert!((odds / expected - 1.0).abs() < 0.01, "{row}");
            } else {
                assert_eq!((quantile, total), (1.0, 20_000), "{row}");
            }
        }
        let notes: Vec<Vec<f64>> = notes
            .iter()
            .map(|note| {
                let figures = note.trim_matches(['#', '[', ']']).split(',');
                let figure = |it: &str| it.split('=').next_back()?.trim().parse().ok();
                figures.filter_map(figure).collect()
            })
            .collect();
        let it = &spans.histogram;
        let near = |got: f64, expected: f64| (got - expected).abs() < 0.001;
        assert!(near(notes[0][0], it.mean() / 1e3), "{text}");
        assert!(near(notes[0][1], it.stdev() / 1e3), "{text}");
        assert!(near(notes[1][0], it.max() as f64 / 1e3), "{text}");
        assert_eq!(notes[1][1], 20_000.0);
        assert_eq!(notes[2], [f64::from(it.buckets()), 2_048.0]);
    }

    /// A span that is just a bound belongs to that bucket, and one of ages is not lost.
    #[test]
    fn buckets_are_exact_and_nothing_is_lost() {
        let mut spans = Spans::new();
        for ns in [1, 50_000, 50_001, 100_000_000, 100_000_001, u64::MAX / 4] {
            spans.record(Nanos(ns));
        }
        let buckets: Vec<(f64, u64)> = spans.buckets().collect();
        assert_eq!(buckets[0], (0.000_05, 2));
        assert_eq!(buckets[1], (0.000_1, 3));
        assert_eq!(buckets[10], (0.1, 4));
        assert_eq!(buckets[11], (1.0, 5));
        assert_eq!(spans.count(), 6);
        assert!(
            (60e6..60.1e6).contains(&spans.max_us()),
            "{}",
            spans.max_us()
        );
    }

    #[test]
    fn a_reallocation_counts_under_its_cause_and_its_parts_add_up() {
        let mut handovers = Handovers::new();
        let at = |us: u64| Nanos::from_micros(1_000 + us);
        for (number, cause) in (1..).zip(CAUSES) {
            let it = Reallocation {
                unit: UnitId(1),
                epoch: Epoch(1),
                from: Some(TenantId(0)),
                to: TenantId(1),
                cause,
                t0: at(0),
                detected: at(10),
                decided: at(30),
                drained: at(70),
                first: at(150),
                found: Found::Work,
                missed: cause == Cause::Turn,
            };
            for _ in 0..number {
                handovers.record(&it);
            }
            let [total, parts @ ..] = split(&it);
            assert_eq!(total, Nanos(parts.iter().map(|part| part.0).sum()));
        }
        for (number, of) in (1..).zip(handovers.causes()) {
            let name = cause_name(of.cause);
            for (part, spans) in of.parts() {
                assert_eq!(spans.count(), number, "{name} {part}");
            }
            let missed = if of.cause == Cause::Turn { number } else { 0 };
            assert_eq!(of.missed, missed, "{name}");
            let longest: Vec<f64> = of.parts().map(|(_, it)| it.max_us().round()).collect();
            assert_eq!(longest, [150.0, 10.0, 20.0, 40.0, 80.0], "{name}");
        }
    }
}
