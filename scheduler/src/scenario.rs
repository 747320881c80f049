//! The policy as data: what each class of tenant is worth, is promised, and may at most take.
//!
//! A *scenario class* is a kind of chain: a financial one that peaks, a social one that is quiet.
//! The classes are data and not code, so an operator may write others; four are given by
//! [`Policy::standard`]. A [`Policy`] can only be made by [`Policy::new`], which refuses what
//! could not be kept (guarantees above the box, an ageing bound shorter than a turn) and names
//! the key and the reason, so the rest of the crate never has to ask whether a policy makes sense.
//!
//! A guarantee belongs to a class, and the tenants of the class that have something to run share
//! it evenly: so the sum of guarantees is known before any tenant joins, and a tenant that joins
//! can never make the box promise more than it has.

use thiserror::Error;

use crate::Nanos;
use crate::matching::Rate;

/// Most classes that a policy may have.
pub const CLASSES_MAX: usize = 16;
/// Most tenants that a policy may allow on a box.
pub const TENANTS_MAX: u32 = 256;
/// Most unfinished jobs that a policy may allow on a box.
pub const JOBS_MAX: u32 = 65_536;
/// Most jobs that a class may have prepared for each tenant.
pub const PREPARED_MAX: u32 = 64;
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
    /// The part of the box that the class is promised, as core time, whenever it can use it.
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

/// Why a policy is refused. Each names the key as a policy file would write it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PolicyError {
    /// There are no classes, or too many.
    #[error("classes: expected 1 to {CLASSES_MAX} of them, got {got}")]
    Classes {
        /// How many there are.
        got: usize,
    },
    /// A class name is empty or is there twice.
    #[error("classes.{name}: expected names that are not empty and differ")]
    Name {
        /// The name.
        name: String,
    },
    /// A figure lies outside its range.
    #[error("{key}: expected {min} to {max}, got {got}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The least that is allowed.
        min: u64,
        /// The most that is allowed.
        max: u64,
        /// What was given. Spans are in nanoseconds, shares in millionths.
        got: u64,
    },
    /// A class is promised more than it may take.
    #[error(
        "classes.{name}.ceiling: expected at least the guarantee of {guarantee} millionths, got {got}"
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
    #[error("classes.*.guarantee: expected a sum of at most 1000000 millionths, got {got}")]
    GuaranteesExceedBox {
        /// Their sum in millionths.
        got: u64,
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
            if class.name.is_empty() || twice {
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

    /// The four classes of a box without configuration.
    ///
    /// The weights fall by four from class to class. On two cores a financial peak against a
    /// social tenant that also wants everything gets 0.8 + 64/65 of the 1.16 that is left after
    /// guarantees: 1.94 cores.
    pub fn standard() -> Policy {
        let class = |name: &str, value, guarantee, ageing_ms, implied_s| Class {
            name: name.to_owned(),
            value,
            guarantee: Share::from_percent(guarantee),
            ceiling: Share::WHOLE,
            ageing_max: Nanos::from_millis(ageing_ms),
            queue_max: 256,
            prepared_max: 4,
            deadline_implied: Nanos::from_secs(implied_s),
        };
        let classes = vec![
            class("financial", 64, 40, 200, 5),
            class("supply_chain", 16, 20, 500, 20),
            class("retail", 4, 10, 1_000, 60),
            class("social", 1, 2, 2_000, 120),
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
        within(
            "tenants_max",
            1,
            u64::from(TENANTS_MAX),
            u64::from(self.tenants_max),
        )?;
        within("jobs_max", 1, u64::from(JOBS_MAX), u64::from(self.jobs_max))?;
        within(
            "reallocation_max",
            ms(1),
            ms(60_000),
            self.reallocation_max.0,
        )?;
        within(
            "quantum",
            1_000,
            self.reallocation_max.0 / 4,
            self.quantum.0,
        )?;
        let quanta_max = self.reallocation_max.0 / 2 / self.quantum.0;
        within(
            "overrun_quanta",
            2,
            quanta_max,
            u64::from(self.overrun_quanta),
        )?;
        within("slice", self.quantum.0, ms(1_000), self.slice.0)?;
        within("idle_patience", 0, ms(1_000), self.idle_patience.0)
    }
}

impl Class {
    fn check(&self, limits: &Limits) -> Result<(), PolicyError> {
        let key = |name: &str| format!("classes.{}.{name}", self.name);
        let whole = u64::from(Share::WHOLE.0);
        let year = Nanos::from_secs(365 * 24 * 3_600).0;
        within(
            &key("value"),
            1,
            u64::from(VALUE_MAX),
            u64::from(self.value),
        )?;
        within(&key("guarantee"), 0, whole, u64::from(self.guarantee.0))?;
        within(&key("ceiling"), 1, whole, u64::from(self.ceiling.0))?;
        within(
            &key("ageing_max"),
            2 * limits.slice.0,
            year,
            self.ageing_max.0,
        )?;
        within(
            &key("queue_max"),
            1,
            u64::from(limits.jobs_max),
            u64::from(self.queue_max),
        )?;
        within(
            &key("prepared_max"),
            1,
            u64::from(PREPARED_MAX),
            u64::from(self.prepared_max),
        )?;
        within(&key("deadline_implied"), 1, year, self.deadline_implied.0)?;
        if self.ceiling < self.guarantee {
            return Err(PolicyError::CeilingBelowGuarantee {
                name: self.name.clone(),
                guarantee: self.guarantee.0,
                got: self.ceiling.0,
            });
        }
        Ok(())
    }
}

fn within(key: &str, min: u64, max: u64, got: u64) -> Result<(), PolicyError> {
    if (min..=max).contains(&got) {
        return Ok(());
    }
    Err(PolicyError::OutOfRange {
        key: key.to_owned(),
        min,
        max,
        got,
    })
}

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
                "classes.social.ageing_max: expected 50000000 to",
            ),
            (
                |c, _| c[2].deadline_implied = Nanos(0),
                "classes.retail.deadline_implied",
            ),
            (
                |c, _| c[2].ceiling = Share::from_percent(9),
                "classes.retail.ceiling: expected at least",
            ),
            (
                |c, _| c[2].guarantee = Share::from_percent(101),
                "classes.retail.guarantee: expected 0 to",
            ),
            (
                |c, _| c[2].guarantee = Share::from_percent(39),
                "sum of at most 1000000 millionths, got 1010000",
            ),
            (
                |_, l| l.tenants_max = 257,
                "tenants_max: expected 1 to 256, got 257",
            ),
            (
                |_, l| l.slice = Nanos(0),
                "slice: expected 2000000 to 1000000000, got 0",
            ),
            (
                |_, l| l.overrun_quanta = 26,
                "overrun_quanta: expected 2 to 25, got 26",
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
