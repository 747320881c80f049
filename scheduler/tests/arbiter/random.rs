//! Whatever may happen, in any order: the invariants hold after every event.
//!
//! The model checks after each event what [`caldera_scheduler::Arbiter::check`] knows, that epochs
//! go up by one, that the stamps of each record are in order and that no job ends twice. Here it is
//! checked besides that no job is lost, that a wait is bounded, and that a run can be repeated.

use caldera_scheduler::scenario::{Marks, Peak, Window};
use caldera_scheduler::{Action, Event, JobId, Nanos, Policy, TenantId};
use proptest::prelude::*;

use crate::demand::{adopt, declare};
use crate::simulated::SimulatedBox;

/// What may happen, and how long before the next thing happens.
#[derive(Debug, Clone)]
enum Step {
    Submit {
        tenant: u32,
        core_ms: u64,
        parallelism: u32,
        due_ms: Option<u64>,
    },
    Cancel {
        back: u64,
    },
    Leave {
        tenant: u32,
    },
    Join {
        tenant: u32,
        class: usize,
    },
    Stall {
        unit: usize,
        ms: u64,
    },
    SlowWitness {
        ms: u64,
    },
    Pass {
        us: u64,
    },
    Declare {
        tenant: u32,
        units: u32,
        ms: u64,
    },
    Adopt {
        values: u32,
        queue_max: u32,
    },
    SetClock {
        hour: u64,
    },
}

const TENANTS: u32 = 4;
const CLASSES: [&str; 4] = ["financial", "supply_chain", "retail", "social"];

fn steps(faults: bool) -> impl Strategy<Value = Vec<Step>> {
    let due = prop::option::of(0u64..500);
    let submit =
        (0..TENANTS, 1u64..60, 1u32..5, due).prop_map(|(tenant, core_ms, parallelism, due_ms)| {
            Step::Submit {
                tenant,
                core_ms,
                parallelism,
                due_ms,
            }
        });
    let fault = u32::from(faults);
    let step = prop_oneof![
        12 => submit,
        12 => (0u64..40_000).prop_map(|us| Step::Pass { us }),
        2 => (0u64..8).prop_map(|back| Step::Cancel { back }),
        1 => (0u64..50).prop_map(|ms| Step::SlowWitness { ms }),
        3 => (0..TENANTS, 0u32..5, 0u64..300)
            .prop_map(|(tenant, units, ms)| Step::Declare { tenant, units, ms }),
        1 => (1u32..100, 1u32..30).prop_map(|(values, queue_max)| Step::Adopt { values, queue_max }),
        1 => (0u64..24).prop_map(|hour| Step::SetClock { hour }),
        fault => (0..TENANTS).prop_map(|tenant| Step::Leave { tenant }),
        fault => (0..TENANTS, 0..4usize).prop_map(|(tenant, class)| Step::Join { tenant, class }),
        2 * fault => (0..4usize, 0u64..300).prop_map(|(unit, ms)| Step::Stall { unit, ms }),
    ];
    prop::collection::vec(step, 1..80)
}

fn play(units: u32, steps: &[Step]) -> SimulatedBox {
    let mut simulated = SimulatedBox::new(units, Policy::standard());
    for (tenant, class) in (0..TENANTS).zip(CLASSES) {
        simulated.join(tenant, class);
    }
    let mut jobs = 0;
    for step in steps {
        match *step {
            Step::Submit {
                tenant,
                core_ms,
                parallelism,
                due_ms,
            } => {
                jobs += 1;
                let due = due_ms.map(|due| simulated.now.plus(Nanos::from_millis(due)));
                let core = Nanos::from_millis(core_ms);
                simulated.submit_due(jobs, tenant, core, parallelism, due);
            }
            Step::Cancel { back } => simulated.cancel(jobs.saturating_sub(back)),
            Step::Leave { tenant } => simulated.leave(tenant),
            Step::Join { tenant, class } => simulated.join(tenant, CLASSES[class]),
            Step::Stall { unit, ms } => {
                simulated.stall(unit % units as usize, Nanos::from_millis(ms));
            }
            Step::SlowWitness { ms } => simulated.preparation = Nanos::from_millis(ms),
            Step::Pass { us } => simulated.run(Nanos::from_micros(us)),
            Step::Declare { tenant, units, ms } => {
                // Some are refused; that is checked elsewhere.
                let _ = declare(&mut simulated, tenant, units, Nanos::from_millis(ms));
            }
            Step::Adopt { values, queue_max } => {
                let adopted = adopt(&mut simulated, another(values, queue_max));
                assert_eq!(adopted, Ok(()));
            }
            Step::SetClock { hour } => {
                let unix = Nanos::from_secs(hour * 3_600);
                simulated.tell(Event::WallClock { unix });
            }
        }
    }
    simulated
}

/// A policy with the standard one's classes in another order, and other figures.
fn another(values: u32, queue_max: u32) -> Policy {
    let mut classes = Policy::standard().classes().to_vec();
    classes.rotate_left(values as usize % 4);
    for (class, value) in classes.iter_mut().zip(values..) {
        class.value = value;
        class.queue_max = queue_max;
        class.peak = class.peak.filter(|_| value % 3 > 0).map(|peak| Peak {
            value: 2 * value,
            queue: Some(Marks { high: 1, low: 0 }),
            hold: Nanos::from_millis(10),
            ..peak
        });
        class.off_peak = vec![Window {
            from: "22:00".parse().expect("a time"),
            to: "04:00".parse().expect("a time"),
            value: 200 - value,
        }];
    }
    Policy::new(classes, *Policy::standard().limits()).expect("a policy that can be kept")
}

fn admitted(simulated: &SimulatedBox) -> Vec<JobId> {
    let actions = simulated.log.iter();
    actions
        .filter_map(|(_, a)| {
            if let Action::Admit { job } = a {
                Some(*job)
            } else {
                None
            }
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_job_is_lost_whatever_happens(units in 1u32..5, steps in steps(true)) {
        let mut simulated = play(units, &steps);
        simulated.run(Nanos::from_secs(60));
        let counters = simulated.counters();
        prop_assert_eq!(simulated.unfinished(), 0, "jobs that never ran");
        let admitted = admitted(&simulated);
        prop_assert_eq!(counters.admitted as usize, admitted.len());
        prop_assert_eq!(counters.admitted, counters.proved + counters.failed + counters.cancelled);
        prop_assert_eq!(counters.proved as usize, simulated.finished.len());
        // All is quiet: nobody owns anything and every worker has answered.
        prop_assert!(simulated.owners().iter().all(Option::is_none));
        prop_assert!(simulated.arbiter.pool().units().iter().all(|unit| unit.is_answered()));
        prop_assert_eq!(simulated.arbiter.wake_at(), None);
    }

    #[test]
    fn waits_are_bounded_and_nothing_is_missed_while_workers_behave(
        units in 1u32..4,
        steps in steps(false),
    ) {
        let mut simulated = play(units, &steps);
        simulated.run(Nanos::from_secs(60));
        prop_assert_eq!(simulated.unfinished(), 0);
        prop_assert_eq!(simulated.counters().missed, 0);
        prop_assert_eq!(simulated.counters().overruns, 0);
        let policy = Policy::standard();
        // Behind each bound there may be one turn of each other tenant, with the tick that ends it.
        let slack = Nanos(u64::from(TENANTS) * policy.limits().slice.0 * 9 / 8);
        for (tenant, class) in (0..TENANTS).zip(policy.classes()) {
            let waited = simulated.waited.get(&TenantId(tenant)).copied().unwrap_or_default();
            prop_assert!(waited <= class.ageing_max.plus(slack), "{} waited {waited}", class.name);
        }
        // A worker is at most one quantum away from the next look at its word.
        for record in &simulated.reallocations {
            prop_assert!(record.first.since(record.decided) <= Nanos::from_micros(2_020));
        }
    }

    #[test]
    fn the_same_events_give_the_same_actions(units in 1u32..5, steps in steps(true)) {
        prop_assert_eq!(play(units, &steps).log, play(units, &steps).log);
    }
}
