//! What outlives a `calderad`: bytes in, bytes out, and a table of what they are.
//!
//! - [`blob`] keeps keys and witnesses as files, named by tenant and digest, and maps them;
//! - [`database`] is a file of SQLite's, in which all else is kept:
//! - [`circuits`] keeps the list of registered circuits;
//! - [`releases`] keeps what tenants have given back;
//! - [`jobs`] keeps what was submitted and what came of it;
//! - [`tenants`] keeps the tenants that were added while a box ran;
//! - [`registry`] keeps every change of the registry of state units;
//! - [`ledger`] keeps the ledger's journal, which nothing changes;
//! - [`backup`] copies all of it from a box that runs, and puts it back where there is nothing.
//!
//! None knows what a proof is. Calls block on the disk, so they are made from the store's own
//! thread and never from one that a deadline waits for. All of it assumes a local file system whose
//! `rename` is atomic and whose `fsync` reaches the disk, in a folder that one process owns.

#![deny(unsafe_code)]

pub mod backup;
pub mod blob;
pub mod circuits;
pub mod database;
pub mod jobs;
pub mod ledger;
pub mod registry;
pub mod releases;
pub mod tenants;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The name of a tenant: 1 to 64 of `a-z`, `0-9`, `_` and `-`. It is a file name as it stands: with
/// no dot, slash or upper case in it, no name can leave its folder, be hidden, or fall together
/// with another on a file system that ignores case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName(String);

/// A text that is no tenant's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("a tenant's name has 1 to 64 of a-z, 0-9, _ and -, got {got:?}")]
pub struct TenantNameError {
    /// What was there, cut to a length that a log can hold.
    pub got: String,
}

impl TenantName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<TenantName, TenantNameError> {
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            Ok(TenantName(text.to_owned()))
        } else {
            Err(TenantNameError {
                got: text.chars().take(80).collect(),
            })
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_none() {
        for name in ["a", "rollup-1", "_", "-", &"x".repeat(64)] {
            assert_eq!(name.parse::<TenantName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/b",
            "a\\b",
            "a.b",
            "A",
            "a b",
            "a\0",
            "a\n",
            "é",
            &"x".repeat(65),
        ] {
            assert!(name.parse::<TenantName>().is_err(), "{name:?}");
        }
    }
}
