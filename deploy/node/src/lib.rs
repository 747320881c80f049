//! The node: everything of a Caldera box that touches the world, as threads around machines that
//! know none of it.
//!
//! | file | thread | what |
//! |---|---|---|
//! | `shell`, `service` | rpc | sockets; methods, tenants, circuits, jobs |
//! | `arbiter_thread` | arbiter | who owns which core |
//! | `worker`, `board` | one a core | quanta of proofs |
//! | `preparer` | two | witnesses into memory |
//! | `registrar` | one | new keys checked and laid out |
//! | `clerk`, `era` | one | everything that is written to the store; the ledger |
//! | `notary` | one | presentations of state units verified |
//! | `reader` | one | statements, read from the ledger's journal |
//! | `lending` | one, where there is a fleet | witnesses and keys read for it, its proofs verified |
//! | `reaper` | one | finished jobs freed |
//! | `telemetry`, `histograms`, `profile` | rpc | what was measured |
//! | `residence` | one | which device holds whose keys, and the arbiter's orders about that |
//! | `pin`, `numa` | | cores, policies and NUMA nodes |
//! | `refusal` | | what is told of a bad key or witness |
//! | `witness` | | the programs that make witnesses of inputs |
//!
//! [`Node::start`] puts them together. `calderad` is that with a configuration and signals.

#![deny(unsafe_code)]

pub mod arbiter_thread;
pub mod board;
pub mod clerk;
pub mod clock;
pub mod config;
pub mod dashboard;
pub mod era;
pub mod histograms;
pub mod lending;
pub mod local_socket;
pub mod memory;
pub mod node;
pub mod notary;
pub mod notify;
pub mod numa;
pub mod pin;
pub mod preparer;
mod primitive;
pub mod profile;
pub mod reader;
pub mod reaper;
pub mod refusal;
pub mod registrar;
pub mod residence;
pub mod service;
pub mod shell;
pub mod source;
pub mod tables;
pub mod telemetry;
pub mod tls;
pub mod witness;
pub mod worker;

pub use config::Config;
pub use node::{Node, StartError};
