//! Measured demand: when what a tenant sends is a peak, though it has announced none.
//!
//! A tenant that is at a peak counts with a larger value (see `scenario`), so cores move to it
//! before its jobs are late. Three things are measured, each with two marks: unfinished jobs, jobs
//! received within a span, and the slack of the first job that came with a deadline, which is what
//! remains until it is due when the time that it still needs is taken off. Any of them at its mark begins a peak; the peak
//! ends when all of them are back behind their other mark and it has lasted for `hold`. Between the
//! marks nothing changes, so a demand that wavers about one of them moves no core: a Schmitt
//! trigger (O. H. Schmitt, "A thermionic trigger", 1938), with a monostable's least width.
//!
//! The time of a reallocation that a peak causes begins with the crossing. A count crosses its mark
//! when a job comes, which has a stamp. A slack crosses because time goes by, and nobody is told;
//! the moment is found afterwards, from the job's own figures, if the last reading foresaw it.
//!
//! Arrivals are counted exactly and in bounded memory: of the last `high` stamps, those within the
//! span. There are `high` of them just when the oldest is.

use std::collections::VecDeque;

use crate::Nanos;
use crate::scenario::Peak;

/// What is measured for one tenant. Memory for the marks of a class is set aside by
/// [`Meter::open`]; nothing else allocates.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Receive stamps, oldest first, never descending; at most as many as the high mark.
    arrivals: VecDeque<Nanos>,
    kept_max: usize,
    /// While at a peak: when it may end.
    ends_at: Option<Nanos>,
    /// The last reading, and whether the slack was above its low mark then.
    read: Option<(Nanos, bool)>,
}

/// What a tenant's queue says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Unfinished jobs.
    pub jobs: u32,
    /// The first of them that came with a deadline.
    pub first: Option<First>,
}

/// The first job of a tenant that came with a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct First {
    /// When it is due.
    pub due: Nanos,
    /// How long it still needs on all the cores that it can have.
    pub needs: Nanos,
}

impl Meter {
    /// Starts anew with the marks of a class, if it has any. Allocates what they need.
    pub fn open(&mut self, peak: Option<&Peak>) {
        self.arrivals.clear();
        self.ends_at = None;
        self.read = None;
        self.adopt(peak);
    }

    /// Goes on with other marks. Allocates what they need.
    pub fn adopt(&mut self, peak: Option<&Peak>) {
        let arrivals = peak.and_then(|peak| peak.arrivals);
        self.kept_max = arrivals.map_or(0, |arrivals| arrivals.marks.high as usize);
        while self.arrivals.len() > self.kept_max {
            self.arrivals.pop_front();
        }
        self.arrivals
            .reserve_exact(self.kept_max - self.arrivals.len());
        if peak.is_none() {
            self.ends_at = None;
        }
    }

    /// A job was received then.
    pub fn arrive(&mut self, at: Nanos) {
        if self.kept_max == 0 {
            return;
        }
        if self.arrivals.len() == self.kept_max {
            self.arrivals.pop_front();
        }
        // Stamps come from several connections; one that goes back counts as the last one.
        let at = self.arrivals.back().map_or(at, |&last| at.max(last));
        self.arrivals.push_back(at);
    }

    /// Whether the tenant was at a peak at the last reading.
    pub fn at_peak(&self) -> bool {
        self.ends_at.is_some()
    }

    /// Takes a reading at `now`; the crossing, if a peak begins with it. `cause` is the stamp of
    /// what made this reading necessary: of the job that came, or `now`.
    pub fn read(
        &mut self,
        peak: &Peak,
        reading: Reading,
        cause: Nanos,
        now: Nanos,
    ) -> Option<Nanos> {
        let (mut high, mut low) = (false, true);
        if let Some(marks) = peak.queue {
            high |= reading.jobs >= marks.high;
            low &= reading.jobs <= marks.low;
        }
        if let Some(arrivals) = peak.arrivals {
            while let Some(&oldest) = self.arrivals.front()
                && now.since(oldest) >= arrivals.span
            {
                self.arrivals.pop_front();
            }
            let count = self.arrivals.len();
            high |= count >= arrivals.marks.high as usize;
            low &= count <= arrivals.marks.low as usize;
        }
        let before = self.read;
        let mut crossing = cause;
        let mut slack_above = true;
        if let Some((marks, first)) = peak.slack.zip(reading.first) {
            let due = now.plus(first.needs);
            slack_above = due.plus(marks.low) < first.due;
            low &= due.plus(marks.high) <= first.due;
            if let (Some((at, true)), false, false) = (before, slack_above, high) {
                // It was above at the last reading. If the figures put the crossing after that
                // reading, it is time alone that has brought it there.
                let crossed = first.due.since(first.needs.plus(marks.low));
                if crossed > at && crossed <= now {
                    crossing = crossed;
                }
            }
            high |= !slack_above;
        }
        self.read = Some((now, slack_above));
        match self.ends_at {
            None if high => {
                self.ends_at = Some(now.plus(peak.hold));
                Some(crossing)
            }
            Some(ends_at) if low && now >= ends_at => {
                self.ends_at = None;
                None
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Arrivals, Marks, SlackMarks};

    const NOTHING: Reading = Reading {
        jobs: 0,
        first: None,
    };

    fn ms(millis: u64) -> Nanos {
        Nanos::from_millis(millis)
    }

    fn peak() -> Peak {
        Peak {
            value: 2,
            queue: None,
            arrivals: None,
            slack: None,
            hold: ms(10),
        }
    }

    fn opened(peak: &Peak) -> Meter {
        let mut meter = Meter::default();
        meter.open(Some(peak));
        meter
    }

    #[test]
    fn between_the_marks_nothing_changes() {
        let marks = Marks { high: 4, low: 1 };
        let peak = Peak {
            queue: Some(marks),
            ..peak()
        };
        let mut meter = opened(&peak);
        let mut read = |jobs, now| {
            let reading = Reading { jobs, ..NOTHING };
            let crossing = meter.read(&peak, reading, ms(now - 1), ms(now));
            (crossing, meter.at_peak())
        };
        assert_eq!(read(3, 1), (None, false));
        assert_eq!(read(4, 2), (Some(ms(1)), true), "the stamp of the cause");
        assert_eq!(read(1, 11), (None, true), "it has not lasted");
        assert_eq!(read(2, 30), (None, true), "above the low mark");
        assert_eq!(read(1, 31), (None, false));
        assert_eq!(read(3, 32), (None, false));
    }

    #[test]
    fn a_slack_crosses_by_time_alone() {
        let slack = SlackMarks {
            high: ms(50),
            low: ms(20),
        };
        let peak = Peak {
            slack: Some(slack),
            ..peak()
        };
        let mut meter = opened(&peak);
        let due = |due, needs| Reading {
            jobs: 1,
            first: Some(First {
                due: ms(due),
                needs: ms(needs),
            }),
        };
        assert_eq!(meter.read(&peak, due(200, 30), ms(100), ms(100)), None);
        // 200 less 30 less 20.
        assert_eq!(
            meter.read(&peak, due(200, 30), ms(160), ms(160)),
            Some(ms(150))
        );
        assert_eq!(meter.read(&peak, NOTHING, ms(170), ms(170)), None);
        assert!(!meter.at_peak());
        // One that is late when it comes crosses when it comes.
        assert_eq!(
            meter.read(&peak, due(180, 30), ms(171), ms(172)),
            Some(ms(171))
        );
    }

    #[test]
    fn arrivals_count_within_their_span() {
        let arrivals = Arrivals {
            marks: Marks { high: 3, low: 1 },
            span: ms(10),
        };
        let peak = Peak {
            arrivals: Some(arrivals),
            ..peak()
        };
        let mut meter = opened(&peak);
        for at in [0, 5, 10] {
            meter.arrive(ms(at));
            assert_eq!(meter.read(&peak, NOTHING, ms(at), ms(at)), None);
        }
        meter.arrive(ms(12));
        let crossing = meter.read(&peak, NOTHING, ms(12), ms(13));
        assert_eq!(crossing, Some(ms(12)), "5, 10 and 12 are within 10 ms");
        assert_eq!(meter.read(&peak, NOTHING, ms(23), ms(23)), None);
        assert!(!meter.at_peak());
    }
}
