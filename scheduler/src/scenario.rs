//! The policy as data: what each class of tenant is worth, is promised, and may at most take.
//!
//! A *scenario class* is a kind of chain: a financial one that peaks, a social one that is quiet.
//! The classes are data and not code, so an operator may write others; four are given by
//! [`Policy::standard`], and an operator's are read from a text by [`file::parse`]. A [`Policy`]
//! can only be made by [`Policy::new`], which refuses what could not be kept (guarantees above the
//! box, an ageing bound shorter than a turn) and names the key and the reason, so the rest of the
//! crate never has to ask whether a policy makes sense.
//!
//! **Value** is a weight and nothing else: it divides what is left when guarantees are served, and
//! it orders those. Two things change it while the box runs. In an *off-peak window*, a span of the
//! day in UTC, the window's value takes its place; a low class with a high value there runs first
//! at night, and what others are guaranteed stays theirs. And a tenant whose measured demand is at
//! a *peak* (many jobs, many arrivals, little time) counts with the peak's value, if that is the
//! larger one. A peak begins at a high mark and ends below a low one, and not before it has lasted
//! for a while, as a Schmitt trigger does, so that a demand that sits at a mark moves nothing.
//!
//! A tenant that is *quiet* gives storage back: see [`GiveBack`] here and what is done with it in
//! [`crate::storage`].
//!
//! A guarantee belongs to a class, and the tenants of the class that have something to run share
//! it evenly: so the sum of guarantees is known before any tenant joins, and a tenant that joins
//! can never make the box promise more than it has.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::Nanos;
use crate::matching::Rate;

pub mod file;

/// Most classes that a policy may have.
pub const CLASSES_MAX: usize = 16;
/// Most tenants that a policy may allow on a box.
pub const TENANTS_MAX: u32 = 256;
/// Most unfinished jobs that a policy may allow on a box.
pub const JOBS_MAX: u32 = 65_536;
/// Most jobs that a class may have prepared for each tenant.
pub const PREPARED_MAX: u32 = 64;
/// Most arrivals that a peak may count, and so remember.
pub const ARRIVALS_MAX: u32 = 1_024;
/// Most off-peak windows of a class.
pub const WINDOWS_MAX: usize = 8;
/// Most characters of a class's name.
pub const NAME_MAX: usize = 32;
/// The largest value weight. With 256 tenants at this weight, one of weight 1 still gets a share
/// of the surplus that does not round to nothing.
pub const VALUE_MAX: u32 = 1_000;

/// A part of the box, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// Nothing.
    pub const NONE: Share = Share(0);
    /// The whole box.
    pub const WHOLE: Share = Share(1_000_000);

    /// A share in millionths. More than a million can be written; [`Policy::new`] refuses it.
    pub const fn from_millionths(millionths: u32) -> Share {
        Share(millionths)
    }

    /// A share in hundredths.
    pub const fn from_percent(percent: u32) -> Share {
        Share(percent.saturating_mul(10_000))
    }

    /// The share in millionths.
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// This share of so many units.
    pub fn of(self, units: u32) -> Rate {
        Rate(u64::from(self.0) * u64::from(units) * Rate::ONE.0 / u64::from(Share::WHOLE.0))
    }

    /// This share of so many bytes, rounded down.
    pub fn of_bytes(self, bytes: u64) -> u64 {
        let part = u128::from(self.0) * u128::from(bytes) / u128::from(Share::WHOLE.0);
        u64::try_from(part).unwrap_or(u64::MAX)
    }

    /// This share of so many units in whole units, rounded up; at least one.
    pub fn of_whole(self, units: u32) -> u32 {
        let millionths = u64::from(self.0) * u64::from(units);
        let whole = millionths.div_ceil(u64::from(Share::WHOLE.0));
        u32::try_from(whole).unwrap_or(u32::MAX).max(1)
    }
}

/// What one scenario class is worth, is promised and may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name, as configurations and reports write it.
    pub name: String,
    /// Weight in the division of what is left when all guarantees are served: 1 to 1000.
    pub value: u32,
    /// The part of the box that the class is promised whenever it can use it: of cores and devices
    /// as time, and of the bytes that are divided.
    pub guarantee: Share,
    /// The part of the box that one tenant of the class may hold at most, rounded up to cores.
    pub ceiling: Share,
    /// The longest that a tenant of the class with a runnable job is left without any core while
    /// others run. Kept as long as the sum of slice / bound over all waiting tenants is below
    /// the number of cores; beyond that the most overdue tenant goes first.
    pub ageing_max: Nanos,
    /// Most unfinished jobs of one tenant; one more is refused.
    pub queue_max: u32,
    /// Most jobs of one tenant whose witness is in memory, or on its way there.
    pub prepared_max: u32,
    /// A job without a deadline takes its place in its tenant's order as if it were due so long
    /// after its receipt, so that a stream of jobs with deadlines cannot hold it back for ever.
    pub deadline_implied: Nanos,
    /// Bytes that one tenant of the class may keep on the box.
    pub storage_max: u64,
    /// The longest span for which a tenant of the class may declare a demand at a time.
    pub declared_span_max: Nanos,
    /// How long a unit may find nothing to run for a tenant with a declared demand before it is
    /// lent to others: declared units wait so long for the work that was announced.
    pub declared_patience: Nanos,
    /// When measured demand is a peak; `None` if it never is.
    pub peak: Option<Peak>,
    /// Spans of the day in which the class has another value. They do not overlap.
    pub off_peak: Vec<Window>,
    /// When a tenant of the class is quiet and what it gives back then; `None` if it keeps all.
    pub give_back: Option<GiveBack>,
}

/// When a tenant is quiet, and what part of its storage it gives back then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GiveBack {
    /// The part of what it holds at that moment; nothing turns it off.
    pub share: Share,
    /// It is quiet when its demand has been at its low mark or below it for so long.
    pub quiet: Nanos,
    /// The low mark of its unfinished jobs.
    pub jobs: u32,
    /// The low mark of what comes from it within that time: submissions, announcements,
    /// registrations and uploads.
    pub arrivals: u32,
}

/// When a tenant's measured demand is a peak, and what the tenant is worth then. It begins when
/// any of the three that are given passes its mark, and ends when all are back and it has lasted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peak {
    /// The value weight during a peak, if it is above the one that the class has then.
    pub value: u32,
    /// Unfinished jobs: a peak begins at `high` and can end at `low`.
    pub queue: Option<Marks>,
    /// Jobs received within the span: as with the queue.
    pub arrivals: Option<Arrivals>,
    /// Of the first job that came with a deadline, what is left until it is due when the time that it
    /// still needs, on all the cores that it can have, is taken off: a peak begins at `low` and can end at `high`.
    pub slack: Option<SlackMarks>,
    /// The shortest peak.
    pub hold: Nanos,
}

/// Two marks of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    /// At this a peak begins.
    pub high: u32,
    /// At this, or below it, a peak can end.
    pub low: u32,
}

/// Marks of how many jobs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrivals {
    /// Marks of the number of jobs.
    pub marks: Marks,
    /// Within so long.
    pub span: Nanos,
}

/// Two marks of a slack. It is the low one at which a peak begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlackMarks {
    /// With so much, or more, a peak can end.
    pub high: Nanos,
    /// With so little a peak begins.
    pub low: Nanos,
}

/// A span of the day in which a class has another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first minute.
    pub from: TimeOfDay,
    /// The minute after the last. If it is before `from`, the window goes over midnight.
    pub to: TimeOfDay,
    /// The value weight within.
    pub value: u32,
}

/// A minute of the day, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(u16);

/// A text that is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected a time of day from \"00:00\" to \"23:59\", got {got:?}")]
pub struct TimeOfDayError {
    /// The text.
    pub got: String,
}

/// In which unit a key of a policy file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A number of something.
    Count,
    /// Bytes.
    Bytes,
    /// Microseconds; held in nanoseconds.
    Micros,
    /// Milliseconds; held in nanoseconds.
    Millis,
    /// Hundredths of the box; held in millionths.
    Percent,
}

/// The figures that hold for the whole box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most tenants at a time.
    pub tenants_max: u32,
    /// Most unfinished jobs of all tenants together.
    pub jobs_max: u32,
    /// The shortest turn when tenants take turns on a core. Long against the cost of a hand-over
    /// (a quantum to drain, caches to warm), short against what a person or a chain notices.
    pub slice: Nanos,
    /// The longest that one quantum should hold a core.
    pub quantum: Nanos,
    /// A worker that has not answered after so many quanta is fenced off.
    pub overrun_quanta: u32,
    /// How long a core may find nothing to run for its owner before it is lent to others.
    pub idle_patience: Nanos,
    /// The hard bound of a reallocation, from the stamp of the demand to the first instruction.
    /// A longer one is counted as missed.
    pub reallocation_max: Nanos,
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    classes: Vec<Class>,
    limits: Limits,
}

/// Names a class of one policy: its index in [`Policy::classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClassId(u8);

/// Why a policy is refused. Each names the key as a policy file writes it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// There are no classes, or too many.
    #[error("classes: expected 1 to {CLASSES_MAX} of them, got {got}")]
    Classes {
        /// How many there are.
        got: usize,
    },
    /// A class name is no name, or is there twice.
    #[error(
        "classes.{}: expected names of 1 to {NAME_MAX} of a-z, 0-9, _ and - that differ",
        name.escape_debug()
    )]
    Name {
        /// The name.
        name: String,
    },
    /// A figure lies outside its range.
    #[error(
        "{key}: expected {} to {}, got {}",
        unit.show(*min),
        unit.show(*max),
        unit.show(*got)
    )]
    OutOfRange {
        /// The key.
        key: String,
        /// In which unit a file writes it.
        unit: Unit,
        /// The least that is allowed, as it is held.
        min: u64,
        /// The most that is allowed.
        max: u64,
        /// What was given.
        got: u64,
    },
    /// A class is promised more than it may take.
    #[error(
        "classes.{name}.ceiling_percent: expected at least the guarantee of {}, got {}",
        Unit::Percent.show(u64::from(*guarantee)),
        Unit::Percent.show(u64::from(*got))
    )]
    CeilingBelowGuarantee {
        /// The class.
        name: String,
        /// Its guarantee in millionths.
        guarantee: u32,
        /// Its ceiling in millionths.
        got: u32,
    },
    /// The guarantees together are more than the box.
    #[error(
        "classes.*.guarantee_percent: expected a sum of at most 100, got {}",
        Unit::Percent.show(*got)
    )]
    GuaranteesExceedBox {
        /// Their sum in millionths.
        got: u64,
    },
    /// A peak that nothing could begin.
    #[error("classes.{name}.peak: expected one of queue, arrivals and slack at least, got none")]
    PeakWithoutMarks {
        /// The class.
        name: String,
    },
    /// A window that is empty.
    #[error("classes.{name}.off_peak[{index}]: expected from and to to differ, got {at} twice")]
    WindowEmpty {
        /// The class.
        name: String,
        /// Which of its windows, from 0.
        index: usize,
        /// Both of its ends.
        at: TimeOfDay,
    },
    /// Two windows of a class share a minute.
    #[error(
        "classes.{name}.off_peak[{index}]: expected windows that do not overlap, and {at} is in \
         off_peak[{other}] too"
    )]
    WindowsOverlap {
        /// The class.
        name: String,
        /// The later of the two, from 0.
        index: usize,
        /// The earlier.
        other: usize,
        /// The first minute of the later that is in both.
        at: TimeOfDay,
    },
    /// A figure for which memory was set aside when the box started is another one now.
    #[error(
        "{key}: expected {} as when the box started, got {}; restart it to change this",
        unit.show(*running),
        unit.show(*got)
    )]
    Fixed {
        /// The key.
        key: String,
        /// In which unit a file writes it.
        unit: Unit,
        /// What the box runs with.
        running: u64,
        /// What was given.
        got: u64,
    },
    /// A class is gone while tenants of it are on the box.
    #[error("classes.{name}: expected to stay while tenants of it are on the box, got none")]
    ClassInUse {
        /// The class.
        name: String,
    },
}

impl Policy {
    /// Checks classes and limits. The first thing found wrong is the one reported.
    pub fn new(classes: Vec<Class>, limits: Limits) -> Result<Policy, PolicyError> {
        limits.check()?;
        if classes.is_empty() || classes.len() > CLASSES_MAX {
            return Err(PolicyError::Classes { got: classes.len() });
        }
        for (index, class) in classes.iter().enumerate() {
            let twice = classes[..index].iter().any(|c| c.name == class.name);
            if !is_name(&class.name) || twice {
                return Err(PolicyError::Name {
                    name: class.name.clone(),
                });
            }
            class.check(&limits)?;
        }
        let promised = classes.iter().map(|c| u64::from(c.guarantee.0)).sum();
        if promised > u64::from(Share::WHOLE.0) {
            return Err(PolicyError::GuaranteesExceedBox { got: promised });
        }
        Ok(Policy { classes, limits })
    }

    /// The four classes of a box without configuration. The two light ones give storage back.
    ///
    /// The weights fall by four from class to class. On two cores a financial tenant against a
    /// social one that also wants everything gets 0.8 + 64/65 of the 1.16 that is left after
    /// guarantees: 1.94 cores. At a measured peak a tenant counts as the class above its own, but for
    /// a social one: a deep queue is what the lowest class has whenever others come first.
    pub fn standard() -> Policy {
        let class = |name: &str, value, guarantee, ageing_ms, implied_s| Class {
            value,
            guarantee: Share::from_percent(guarantee),
            ageing_max: Nanos::from_millis(ageing_ms),
            deadline_implied: Nanos::from_secs(implied_s),
            peak: Some(Peak {
                value: 4 * value,
                queue: Some(Marks { high: 16, low: 4 }),
                arrivals: Some(Arrivals {
                    marks: Marks { high: 32, low: 8 },
                    span: Nanos::from_secs(1),
                }),
                slack: Some(SlackMarks {
                    high: Nanos::from_millis(1_000),
                    low: Nanos::from_millis(250),
                }),
                hold: Nanos::from_secs(1),
            }),
            ..Class::plain(name)
        };
        let give_back = |minutes: u64| {
            Some(GiveBack {
                quiet: Nanos::from_secs(60 * minutes),
                ..GiveBack::PLAIN
            })
        };
        let classes = vec![
            class("financial", 64, 40, 200, 5),
            class("supply_chain", 16, 20, 500, 20),
            Class {
                give_back: give_back(30),
                ..class("retail", 4, 10, 1_000, 60)
            },
            Class {
                peak: None,
                give_back: give_back(10),
                ..class("social", 1, 2, 2_000, 120)
            },
        ];
        match Policy::new(classes, Limits::STANDARD) {
            Ok(policy) => policy,
            Err(error) => unreachable!("the standard policy is refused: {error}"),
        }
    }

    /// All classes, in the order of their ids.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class with this name.
    pub fn find(&self, name: &str) -> Option<ClassId> {
        let index = self.classes.iter().position(|c| c.name == name)?;
        u8::try_from(index).ok().map(ClassId)
    }

    /// A class; `None` if the id comes from a longer policy.
    pub fn class(&self, id: ClassId) -> Option<&Class> {
        self.classes.get(usize::from(id.0))
    }

    /// The figures for the whole box.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Whether `next` can take this policy's place on a box that runs, with tenants in the classes
    /// for which `in_use` says so. Those classes must stay, by name, and what memory was set aside
    /// for must stay as it was.
    pub fn check_successor(
        &self,
        next: &Policy,
        in_use: impl Fn(ClassId) -> bool,
    ) -> Result<(), PolicyError> {
        let same = |key: String, unit: Unit, running: u64, got: u64| {
            let key = key + unit.suffix();
            let fixed = PolicyError::Fixed {
                key,
                unit,
                running,
                got,
            };
            (running == got).then_some(()).ok_or(fixed)
        };
        let (old, new) = (&self.limits, &next.limits);
        let key = |name: &str| format!("limits.{name}");
        let count = |running, got| (Unit::Count, u64::from(running), u64::from(got));
        let (unit, running, got) = count(old.tenants_max, new.tenants_max);
        same(key("tenants_max"), unit, running, got)?;
        let (unit, running, got) = count(old.jobs_max, new.jobs_max);
        same(key("jobs_max"), unit, running, got)?;
        same(key("quantum"), Unit::Micros, old.quantum.0, new.quantum.0)?;
        for (id, class) in (0..).map(ClassId).zip(&self.classes) {
            if !in_use(id) {
                continue;
            }
            let name = &class.name;
            let heir = next.find(name).and_then(|id| next.class(id));
            let heir = heir.ok_or_else(|| PolicyError::ClassInUse { name: name.clone() })?;
            let (unit, running, got) = count(class.prepared_max, heir.prepared_max);
            same(format!("classes.{name}.prepared_max"), unit, running, got)?;
        }
        Ok(())
    }
}

impl ClassId {
    /// The index of the class in [`Policy::classes`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Limits {
    /// The figures of a box without configuration.
    ///
    /// Fencing after 25 quanta of 2 ms leaves half of the 100 ms for finding another core.
    pub const STANDARD: Limits = Limits {
        tenants_max: 64,
        jobs_max: 4_096,
        slice: Nanos::from_millis(25),
        quantum: Nanos::from_millis(2),
        overrun_quanta: 25,
        idle_patience: Nanos::from_millis(2),
        reallocation_max: Nanos::from_millis(100),
    };

    /// The longest that a worker may take to answer before it is fenced off.
    pub fn overrun(&self) -> Nanos {
        Nanos(
            self.quantum
                .0
                .saturating_mul(u64::from(self.overrun_quanta)),
        )
    }

    fn check(&self) -> Result<(), PolicyError> {
        let ms = |millis| Nanos::from_millis(millis).0;
        let check =
            |name: &str, unit, range, got| within(format!("limits.{name}"), unit, range, got);
        let (count, micros, millis) = (Unit::Count, Unit::Micros, Unit::Millis);
        let tenants = u64::from(TENANTS_MAX);
        check("tenants_max", count, (1, tenants), self.tenants_max.into())?;
        let jobs = u64::from(JOBS_MAX);
        check("jobs_max", count, (1, jobs), self.jobs_max.into())?;
        let reallocation = self.reallocation_max.0;
        check(
            "reallocation_max",
            millis,
            (ms(1), ms(60_000)),
            reallocation,
        )?;
        let quantum = self.quantum.0;
        check("quantum", micros, (1_000, reallocation / 4), quantum)?;
        let quanta = (2, reallocation / 2 / quantum);
        check("overrun_quanta", count, quanta, self.overrun_quanta.into())?;
        check("slice", millis, (quantum, ms(1_000)), self.slice.0)?;
        check(
            "idle_patience",
            micros,
            (0, ms(1_000)),
            self.idle_patience.0,
        )
    }
}

impl Class {
    /// A class that takes part in nothing but the division of time, with a value of 1 and no
    /// guarantee: what a policy file's class has where it says nothing else.
    pub fn plain(name: &str) -> Class {
        Class {
            name: name.to_owned(),
            value: 1,
            guarantee: Share::NONE,
            ceiling: Share::WHOLE,
            ageing_max: Nanos::from_millis(1_000),
            queue_max: 256,
            prepared_max: 4,
            deadline_implied: Nanos::from_secs(60),
            storage_max: 32 << 30,
            declared_span_max: Nanos::from_secs(3_600),
            declared_patience: Nanos::from_millis(100),
            peak: None,
            off_peak: Vec::new(),
            give_back: None,
        }
    }

    /// The value at a time of day (`None` if nobody has said what time it is), for a tenant that
    /// is at a peak or is not.
    pub fn value_at(&self, time: Option<TimeOfDay>, at_peak: bool) -> u32 {
        let window = time.and_then(|time| self.off_peak.iter().find(|it| it.contains(time)));
        let value = window.map_or(self.value, |window| window.value);
        match self.peak {
            Some(peak) if at_peak => value.max(peak.value),
            _ => value,
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), PolicyError> {
        let check = |name: &str, unit, range, got| {
            within(format!("classes.{}.{name}", self.name), unit, range, got)
        };
        let (count, millis, percent) = (Unit::Count, Unit::Millis, Unit::Percent);
        let whole = u64::from(Share::WHOLE.0);
        let year = Nanos::from_secs(365 * 24 * 3_600).0;
        let values = (1, u64::from(VALUE_MAX));
        check("value", count, values, self.value.into())?;
        check("guarantee", percent, (0, whole), self.guarantee.0.into())?;
        check("ceiling", percent, (1, whole), self.ceiling.0.into())?;
        let turns = 2 * limits.slice.0;
        check("ageing_max", millis, (turns, year), self.ageing_max.0)?;
        let jobs = (1, u64::from(limits.jobs_max));
        check("queue_max", count, jobs, self.queue_max.into())?;
        let prepared = (1, u64::from(PREPARED_MAX));
        check("prepared_max", count, prepared, self.prepared_max.into())?;
        let implied = self.deadline_implied.0;
        check("deadline_implied", millis, (1_000_000, year), implied)?;
        // What a signed 64-bit number holds, which is what TOML has.
        let storage = (0, i64::MAX.unsigned_abs());
        check("storage_max", Unit::Bytes, storage, self.storage_max)?;
        let day = (1_000_000, Nanos::from_secs(24 * 3_600).0);
        let span = self.declared_span_max.0;
        check("declared_span_max", millis, day, span)?;
        let patience = self.declared_patience.0;
        check("declared_patience", millis, (0, span), patience)?;
        if self.ceiling < self.guarantee {
            return Err(PolicyError::CeilingBelowGuarantee {
                name: self.name.clone(),
                guarantee: self.guarantee.0,
                got: self.ceiling.0,
            });
        }
        if let Some(peak) = &self.peak {
            self.check_peak(peak)?;
        }
        if let Some(give_back) = &self.give_back {
            self.check_give_back(give_back)?;
        }
        self.check_windows()
    }

    fn check_peak(&self, peak: &Peak) -> Result<(), PolicyError> {
        let check = |name: &str, unit, range, got| {
            within(
                format!("classes.{}.peak.{name}", self.name),
                unit,
                range,
                got,
            )
        };
        let (count, millis) = (Unit::Count, Unit::Millis);
        let hour = Nanos::from_secs(3_600).0;
        let values = (u64::from(self.value), u64::from(VALUE_MAX));
        check("value", count, values, peak.value.into())?;
        if let Some(Marks { high, low }) = peak.queue {
            let jobs = (1, u64::from(JOBS_MAX));
            check("queue.high", count, jobs, high.into())?;
            check("queue.low", count, (0, u64::from(high) - 1), low.into())?;
        }
        if let Some(Arrivals { marks, span }) = peak.arrivals {
            let jobs = (1, u64::from(ARRIVALS_MAX));
            check("arrivals.high", count, jobs, marks.high.into())?;
            let below = (0, u64::from(marks.high) - 1);
            check("arrivals.low", count, below, marks.low.into())?;
            check("arrivals.span", millis, (1_000_000, hour), span.0)?;
        }
        if let Some(SlackMarks { high, low }) = peak.slack {
            check("slack.high", millis, (1_000_000, hour), high.0)?;
            check("slack.low", millis, (0, high.0 - 1), low.0)?;
        }
        check("hold", millis, (0, hour), peak.hold.0)?;
        if peak.queue.is_none() && peak.arrivals.is_none() && peak.slack.is_none() {
            return Err(PolicyError::PeakWithoutMarks {
                name: self.name.clone(),
            });
        }
        Ok(())
    }

    fn check_give_back(&self, it: &GiveBack) -> Result<(), PolicyError> {
        let check = |name: &str, unit, range, got| {
            let key = format!("classes.{}.give_back.{name}", self.name);
            within(key, unit, range, got)
        };
        let whole = u64::from(Share::WHOLE.0);
        check("held", Unit::Percent, (0, whole), it.share.0.into())?;
        let year = Nanos::from_secs(365 * 24 * 3_600).0;
        check("quiet", Unit::Millis, (1_000_000, year), it.quiet.0)?;
        let jobs = (0, u64::from(JOBS_MAX));
        check("jobs", Unit::Count, jobs, it.jobs.into())?;
        let arrivals = (0, u64::from(ARRIVALS_MAX));
        check("arrivals", Unit::Count, arrivals, it.arrivals.into())
    }

    fn check_windows(&self) -> Result<(), PolicyError> {
        let name = || self.name.clone();
        let windows = (0, WINDOWS_MAX as u64);
        let key = format!("classes.{}.off_peak", self.name);
        within(
            key.clone(),
            Unit::Count,
            windows,
            self.off_peak.len() as u64,
        )?;
        for (index, window) in self.off_peak.iter().enumerate() {
            if window.from == window.to {
                return Err(PolicyError::WindowEmpty {
                    name: name(),
                    index,
                    at: window.from,
                });
            }
            let values = (1, u64::from(VALUE_MAX));
            let key = format!("{key}[{index}].value");
            within(key, Unit::Count, values, window.value.into())?;
            for (other, earlier) in self.off_peak[..index].iter().enumerate() {
                // Two spans of a circle share a point only if one of them begins within the other.
                let shared = [window.from, earlier.from]
                    .into_iter()
                    .find(|&at| window.contains(at) && earlier.contains(at));
                if let Some(at) = shared {
                    return Err(PolicyError::WindowsOverlap {
                        name: name(),
                        index,
                        other,
                        at,
                    });
                }
            }
        }
        Ok(())
    }
}

impl GiveBack {
    /// What a policy file's table has where it says nothing else: four fifths of what is held, of a
    /// tenant that has asked for nothing and had nothing to do for ten minutes.
    pub const PLAIN: GiveBack = GiveBack {
        share: Share::from_percent(80),
        quiet: Nanos::from_secs(600),
        jobs: 0,
        arrivals: 0,
    };
}

impl Window {
    /// Whether a minute is in it.
    pub fn contains(&self, time: TimeOfDay) -> bool {
        if self.from < self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

impl TimeOfDay {
    /// The time of day at so many nanoseconds since midnight of some day, as Unix time counts.
    pub fn of_unix(unix: Nanos) -> TimeOfDay {
        let minutes = unix.0 / Nanos::from_secs(60).0;
        TimeOfDay((minutes % MINUTES_A_DAY) as u16)
    }
}

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    /// Two digits, a colon, two digits.
    fn from_str(text: &str) -> Result<TimeOfDay, TimeOfDayError> {
        let digits = |part: &str| match part.as_bytes() {
            &[tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => {
                Some(u16::from(tens - b'0') * 10 + u16::from(ones - b'0'))
            }
            _ => None,
        };
        let parts = text.split_once(':');
        parts
            .and_then(|(hours, minutes)| Some((digits(hours)?, digits(minutes)?)))
            .filter(|&(hours, minutes)| hours < 24 && minutes < 60)
            .map(|(hours, minutes)| TimeOfDay(hours * 60 + minutes))
            .ok_or_else(|| TimeOfDayError {
                // What a stranger wrote may be long.
                got: text.chars().take(NAME_MAX).collect(),
            })
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Unit {
    /// What a key of this unit ends with.
    pub const fn suffix(self) -> &'static str {
        match self {
            Unit::Count => "",
            Unit::Bytes => "_bytes",
            Unit::Micros => "_us",
            Unit::Millis => "_ms",
            Unit::Percent => "_percent",
        }
    }

    /// How many of what is held are one of what is written, as a power of ten.
    const fn digits(self) -> u32 {
        match self {
            Unit::Count | Unit::Bytes => 0,
            Unit::Micros => 3,
            Unit::Millis => 6,
            Unit::Percent => 4,
        }
    }

    /// A figure as a file writes it, exactly.
    fn show(self, held: u64) -> String {
        let one = 10u64.pow(self.digits());
        let (whole, rest) = (held / one, held % one);
        if rest == 0 {
            return whole.to_string();
        }
        let digits = self.digits() as usize;
        format!(
            "{whole}.{}",
            format!("{rest:0digits$}").trim_end_matches('0')
        )
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

fn within(key: String, unit: Unit, (min, max): (u64, u64), got: u64) -> Result<(), PolicyError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(PolicyError::OutOfRange {
        key: key + unit.suffix(),
        unit,
        min,
        max,
        got,
    })
}

const MINUTES_A_DAY: u64 = 24 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(edit: impl FnOnce(&mut Vec<Class>, &mut Limits)) -> Result<Policy, PolicyError> {
        let mut classes = Policy::standard().classes;
        let mut limits = Limits::STANDARD;
        edit(&mut classes, &mut limits);
        Policy::new(classes, limits)
    }

    #[test]
    fn standard_classes_are_found_by_name() {
        let policy = Policy::standard();
        for name in ["financial", "supply_chain", "retail", "social"] {
            let id = policy.find(name).expect("a standard class");
            assert_eq!(policy.class(id).expect("its own id").name, name);
        }
        assert_eq!(policy.find("Financial"), None);
    }

    #[test]
    fn each_refusal_names_key_and_reason() {
        type Edit = fn(&mut Vec<Class>, &mut Limits);
        let cases: [(Edit, &str); 15] = [
            (|c, _| c.clear(), "classes: expected 1 to 16 of them, got 0"),
            (
                |c, _| c[1].name = "financial".into(),
                "classes.financial: expected names",
            ),
            (|c, _| c[1].name = String::new(), "classes.: expected names"),
            (
                |c, _| c[0].value = 0,
                "classes.financial.value: expected 1 to 1000, got 0",
            ),
            (
                |c, _| c[0].value = 1_001,
                "classes.financial.value: expected 1 to 1000, got 1001",
            ),
            (
                |c, _| c[3].queue_max = 0,
                "classes.social.queue_max: expected 1 to 4096, got 0",
            ),
            (
                |c, _| c[3].prepared_max = 65,
                "classes.social.prepared_max: expected 1 to 64",
            ),
            (
                |c, _| c[3].ageing_max = Nanos(1),
                "classes.social.ageing_max_ms: expected 50 to 31536000000, got 0.000001",
            ),
            (
                |c, _| c[2].deadline_implied = Nanos(0),
                "classes.retail.deadline_implied_ms",
            ),
            (
                |c, _| c[2].ceiling = Share::from_percent(9),
                "classes.retail.ceiling_percent: expected at least the guarantee of 10, got 9",
            ),
            (
                |c, _| c[2].guarantee = Share::from_percent(101),
                "classes.retail.guarantee_percent: expected 0 to 100, got 101",
            ),
            (
                |c, _| c[2].guarantee = Share::from_percent(39),
                "guarantee_percent: expected a sum of at most 100, got 101",
            ),
            (
                |_, l| l.tenants_max = 257,
                "limits.tenants_max: expected 1 to 256, got 257",
            ),
            (
                |_, l| l.slice = Nanos(0),
                "limits.slice_ms: expected 2 to 1000, got 0",
            ),
            (
                |_, l| l.overrun_quanta = 26,
                "limits.overrun_quanta: expected 2 to 25, got 26",
            ),
        ];
        for (edit, reason) in cases {
            let text = edited(edit).expect_err(reason).to_string();
            assert!(text.contains(reason), "{text:?} does not say {reason:?}");
        }
    }

    #[test]
    fn guarantees_may_take_the_whole_box() {
        assert!(edited(|c, _| c[2].guarantee = Share::from_percent(38)).is_ok());
    }

    #[test]
    fn shares_of_units() {
        assert_eq!(Share::from_percent(50).of(2), Rate::ONE);
        assert_eq!(Share::from_percent(10).of_whole(2), 1);
        assert_eq!(Share::from_percent(51).of_whole(2), 2);
        assert_eq!(Share::WHOLE.of_whole(1024), 1024);
    }
}
