//! The words that a Caldera box and its clients speak, and the machines that read them.
//!
//! Everything here is sans-IO: bytes and the time are handed in, events and bytes come out. There
//! is no socket, no thread, no clock and no file, so fuzzers and tests of the whole protocol build
//! in seconds and run without a network. The node owns the sockets and drives these machines.
//!
//! From the wire inwards:
//!
//! 1. [`http`] cuts a byte stream into requests, and refuses whatever two implementations could
//!    read in two ways;
//! 2. [`auth`] says which tenant a request comes from,
//!    and [`rate`] whether it sends too fast;
//! 3. [`jsonrpc`] reads the body as JSON-RPC 2.0;
//! 4. [`methods`] gives the parameters and results of each method their types;
//! 5. [`error`] is the one list of what can be answered instead of a result.
//!
//! [`era`] has the types of the ledger's methods; [`node_key`] signs what a node says that it did. [`openrpc`] describes
//! 4 and 5 to programs.

#![forbid(unsafe_code)]

pub mod auth;
pub mod chain;
pub mod era;
pub mod error;
pub mod http;
pub mod jsonrpc;
pub mod methods;
pub mod node_key;
pub mod openrpc;
pub mod rate;
