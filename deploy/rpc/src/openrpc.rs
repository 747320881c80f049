//! The description of all methods for programs, as the OpenRPC specification asks: a client
//! generator or a playground calls `rpc.discover` and knows every name and type.
//!
//! The document is `docs/openrpc.json`, which people read too. It is written by hand, and
//! `tests/openrpc_document.rs` holds each name, type and error in it against the code.

/// The name of the method that answers with the document, reserved by OpenRPC. It takes nothing.
pub const DISCOVER: &str = "rpc.discover";

/// The document, in JSON.
pub const DOCUMENT: &str = include_str!("../../../docs/openrpc.json");
