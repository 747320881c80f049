//! The description of all methods for programs, as the OpenRPC specification asks: a client
//! generator or a playground calls `rpc.discover` and knows every name and type.
//!
//! The document is `docs/openrpc.json`, which people read too. It is written by hand, and
//! `tests/openrpc_document.rs` holds each name, type and error in it against the code.

use serde::Deserialize;
use serde_json::Value;

/// The name of the method that answers with the document, reserved by OpenRPC. It is not in the
/// document itself, and any caller may use it.
pub const DISCOVER: &str = "rpc.discover";

/// Parameters of [`DISCOVER`]: none.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discover {}

/// The document, parsed. A few tens of kilobytes: to be kept by whoever answers with it.
pub fn document() -> Value {
    serde_json::from_str(DOCUMENT).expect("a test has read it")
}

/// The document, in JSON.
pub const DOCUMENT: &str = include_str!("../../../docs/openrpc.json");
