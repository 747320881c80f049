//! What the end-to-end tests stand on: the built programs, the outside programs, a client made
//! of nothing but HTTP, and a knife for binary files.
//!
//! The tests see Caldera as its users do: two executables, files, a socket. Nothing in this library links
//! a crate of Caldera, so nothing here can share its mistakes (`tests/units.rs` and `tests/scenarios.rs` do, for what no command gives out); where a format is needed it is
//! written down a second time, and where a proof is judged, snarkjs judges.
//!
//! | file | subject |
//! |---|---|
//! | `programs` | finds `caldera` and `calderad`, runs them, and says what to do if they are missing or old |
//! | `interop` | node, snarkjs, circom2, the Semaphore keys |
//! | `binfile` | sections of zkey, wtns and r1cs files, to cut and to forge them |
//! | `forgery` | keys and witnesses that must be refused, and how |
//! | `circuit` | a little circuit of our own, compiled for either curve |
//! | `era` | a `calderad` with a ledger |
//! | `service` | a `calderad` of one's own, and the client |
//! | `threats` | the threat table of state units, and the lines that are taken out for it |

pub mod binfile;
pub mod circuit;
pub mod era;
pub mod forgery;
pub mod interop;
pub mod programs;
pub mod service;
pub mod threats;
