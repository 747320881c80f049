//! The arbiter on simulated boxes: invented time, modelled workers, no threads.
//!
//! The model of a box is `caldera_scheduler::sim::machine`; `scenes` are stories with a known end,
//! `random` throws whatever may happen at it and checks the invariants after every event, `demand`
//! is about demand that is declared and measured, deadlines, and policies that change while the box
//! runs, `lending` about jobs that are let go to be proved elsewhere.

mod demand;
mod lending;
mod random;
mod scenes;

use caldera_scheduler::scenario::{Class, Limits};
use caldera_scheduler::sim::machine as simulated;
use caldera_scheduler::{Nanos, Policy};
use simulated::SimulatedBox;

const FINANCIAL: u32 = 1;
const SOCIAL: u32 = 2;

const fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn two_tenants(units: u32, policy: Policy) -> SimulatedBox {
    let mut simulated = SimulatedBox::new(units, policy);
    simulated.join(FINANCIAL, "financial");
    simulated.join(SOCIAL, "social");
    simulated
}

fn edited(edit: impl FnOnce(&mut Vec<Class>, &mut Limits)) -> Policy {
    let mut classes = Policy::standard().classes().to_vec();
    let mut limits = *Policy::standard().limits();
    edit(&mut classes, &mut limits);
    Policy::new(classes, limits).expect("a policy that can be kept")
}
