//! The arbiter on simulated boxes: invented time, modelled workers, no threads.
//!
//! The model of a box is `caldera_scheduler::sim::machine`; `scenes` are stories with a known end,
//! `random` throws whatever may happen at it and checks the invariants after every event, `demand`
//! is about demand that is declared and measured, deadlines, and policies that change while the box
//! runs.

mod demand;
mod random;
mod scenes;

use caldera_scheduler::sim::machine as simulated;
