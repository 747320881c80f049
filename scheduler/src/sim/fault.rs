//! What goes wrong on a box, and when, from a seed.

use crate::scenario::PolicyError;
use crate::sim::random::Random;
use crate::{Nanos, Policy};

/// Something that goes wrong, or is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The unit is gone until it is mended.
    Lose {
        /// Which.
        unit: usize,
    },
    /// The unit is back.
    Mend {
        /// Which.
        unit: usize,
    },
    /// The unit's worker does nothing for so long, then goes on.
    Stall {
        /// Which.
        unit: usize,
        /// How long.
        span: Nanos,
    },
    /// The clock that the box reads jumps so many nanoseconds ahead, or back.
    JumpClock {
        /// By how much.
        by: i64,
    },
    /// A tenant asks for many jobs at one instant.
    Burst {
        /// An index of the series' tenants.
        tenant: u16,
        /// How many.
        jobs: u32,
        /// Core time of each.
        service: Nanos,
    },
    /// The operator has another policy read: the same classes, promises and bounds of waiting, with
    /// other values and other lengths of queues.
    Reload {
        /// The figures are drawn from it.
        seed: u64,
    },
}

/// The policy that takes the place of `policy` then.
pub fn reloaded(policy: &Policy, seed: u64) -> Result<Policy, PolicyError> {
    let mut random = Random::new(seed);
    let mut classes = policy.classes().to_vec();
    for class in &mut classes {
        class.value = random.between(1, 100) as u32;
        class.queue_max = random.between(2, 40) as u32;
        if let Some(peak) = &mut class.peak {
            peak.value = peak.value.max(class.value);
        }
    }
    Policy::new(classes, *policy.limits())
}

/// A fault at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When.
    pub at: Nanos,
    /// What.
    pub fault: Fault,
}

/// So many faults on a box of so many units within this time. What is lost is mended by its end.
pub fn plan(seed: u64, count: u32, duration: Nanos, units: u32, tenants: u16) -> Vec<Planned> {
    let mut random = Random::new(seed);
    let mut planned = vec![];
    for _ in 0..count {
        let at = Nanos(random.between(0, duration.0));
        let unit = random.between(0, u64::from(units)) as usize;
        let fault = match random.between(0, 5) {
            0 => {
                let mended = Nanos(random.between(at.0, duration.0));
                planned.push(Planned {
                    at: mended,
                    fault: Fault::Mend { unit },
                });
                Fault::Lose { unit }
            }
            1 => {
                // Below the fence, about it, and far above.
                let span = Nanos::from_micros(random.between(1, 400_000));
                Fault::Stall { unit, span }
            }
            2 => {
                let by = random.between(1, 2_000_000_000) as i64;
                let by = if random.chance(0.5) { by } else { -by };
                Fault::JumpClock { by }
            }
            3 => Fault::Reload {
                seed: random.bits(),
            },
            _ => Fault::Burst {
                tenant: random.between(0, u64::from(tenants)) as u16,
                jobs: random.between(1, 40) as u32,
                service: Nanos::from_millis(random.between(1, 60)),
            },
        };
        planned.push(Planned { at, fault });
    }
    planned.sort_by_key(|planned| planned.at);
    planned
}
