//! Several kinds of units and bytes: the promises of `matching/dominant.rs` as properties, on pools
//! that are small enough for brute force, and the arbiter that lives by them.

mod arbiter;
mod evictions;
mod one_kind;
mod places;
mod shares;
