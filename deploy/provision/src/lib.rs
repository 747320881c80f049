//! Tuning a box for `calderad`, and taking it back.
//!
//! Three steps, each of which can be looked at: [`Machine::read`] reads what a box is from the
//! files of its kernel; [`Plan::of`] decides, as a pure function, which cores serve what and which files
//! say so; [`tree::apply`] writes those files and [`tree::undo`] restores the tree to the byte.
//!
//! All of them take a root, so that a chroot or the disk of another box can be provisioned. A root
//! that is not running has no `/sys`: the machine can then be read from another root than the one
//! that is written to.
//!
//! Only whole files are written, of names that nobody else uses (`50-caldera`), into folders that
//! Debian's programs read beside their own configuration. Nothing is edited in place and nothing is
//! run: what is to be run is said.
//!
//! | file | what |
//! |---|---|
//! | `machine` | cores, nodes, GPUs, interrupts, clocks, as the kernel's files say |
//! | `plan` | who is to run where, and the files that say so |
//! | `tree` | writing, undoing, and what an interruption leaves |
//! | `difference` | what a plan changes, for people |

#![forbid(unsafe_code)]

pub mod difference;
pub mod machine;
pub mod plan;
pub mod tree;

pub use machine::Machine;
pub use plan::{Choice, Plan};
