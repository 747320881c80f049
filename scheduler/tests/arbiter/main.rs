//! The arbiter on simulated boxes: invented time, modelled workers, no threads.
//!
//! `simulated` is the model of a box, `scenes` are stories with a known end, `random` throws
//! whatever may happen at it and checks the invariants after every event, `demand` is about demand
//! that is declared and measured, deadlines, and policies that change while the box runs.

mod demand;
mod random;
mod scenes;
mod simulated;
