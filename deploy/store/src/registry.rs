//! The journal of the registry of state units: every change of it, in order.
//!
//! A row is never changed and never removed; triggers in the file itself keep it so, whatever opens it. Each
//! carries a check, the SHA-256 of the check before it, of its number and of its change, and the first stands on the
//! box's id: so a row that was altered, dropped or put elsewhere is found and named when the journal is read, and
//! nothing after it is believed. That the last rows are missing cannot be seen here: a file that is put back from
//! an old backup is whole.
//!
//! What a change means is for the registry to say; here it is bytes. The rows say nothing of a tenant but digests, and
//! stay when one is removed: what was spent stays spent.

use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::database::{Database, DatabaseError, Group, signed, unsigned, written_once};

/// A change of the registry, to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRow {
    /// Its number: one more than that of the row before, from 1.
    pub sequence: u64,
    /// The change.
    pub change: Vec<u8>,
}

/// Why the journal is not believed.
#[derive(Debug, Error)]
pub enum JournalError {
    /// A row is missing.
    #[error("row {expected} is missing: row {got} stands in its place")]
    Gap {
        /// The number that was to come.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// A row is not what was written.
    #[error("row {sequence} is not what was written")]
    Row {
        /// Its number.
        sequence: u64,
    },
    /// The file cannot be read.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Database {
    /// What tells this box from all others; drawn when the file was made.
    pub fn box_id(&self) -> Result<[u8; 32], DatabaseError> {
        Ok(self
            .connection
            .query_row("SELECT id FROM registry_box", [], |row| row.get(0))?)
    }

    /// All changes, in their order.
    pub fn registry(&self) -> Result<Vec<Vec<u8>>, JournalError> {
        let mut check = self.box_id()?;
        let failed = |error: rusqlite::Error| JournalError::Database(error.into());
        let mut query = self
            .connection
            .prepare("SELECT * FROM registry ORDER BY sequence")
            .map_err(failed)?;
        let rows = query
            .query_map([], |row| {
                let change: Vec<u8> = row.get("change")?;
                let check: [u8; 32] = row.get("check_sum")?;
                Ok((unsigned(row, "sequence")?, change, check))
            })
            .map_err(failed)?;
        let mut changes = Vec::new();
        for row in rows {
            let (sequence, change, written) = row.map_err(failed)?;
            let expected = changes.len() as u64 + 1;
            if sequence != expected {
                let got = sequence;
                return Err(JournalError::Gap { expected, got });
            }
            check = next_check(&check, sequence, &change);
            if check != written {
                return Err(JournalError::Row { sequence });
            }
            changes.push(change);
        }
        Ok(changes)
    }
}

impl Group<'_> {
    /// Adds rows, which must follow those that are there, or be the same.
    pub fn registry(&self, rows: &[RegistryRow]) -> Result<(), DatabaseError> {
        append(&self.transaction, rows)
    }
}

fn append(transaction: &Transaction<'_>, rows: &[RegistryRow]) -> Result<(), DatabaseError> {
    if rows.is_empty() {
        return Ok(());
    }
    let last = transaction
        .query_row(
            "SELECT sequence, check_sum FROM registry ORDER BY sequence DESC LIMIT 1",
            [],
            |row| Ok((unsigned(row, "sequence")?, row.get("check_sum")?)),
        )
        .optional()?;
    let (mut sequence, mut check): (u64, [u8; 32]) = match last {
        Some(last) => last,
        None => {
            let id = "SELECT id FROM registry_box";
            (0, transaction.query_row(id, [], |row| row.get(0))?)
        }
    };
    let mut find = transaction.prepare_cached("SELECT change FROM registry WHERE sequence = ?1")?;
    let mut insert = transaction
        .prepare_cached("INSERT INTO registry (sequence, change, check_sum) VALUES (?1, ?2, ?3)")?;
    for row in rows {
        let number = signed("sequence", row.sequence)?;
        if row.sequence <= sequence {
            // A commit that was reported as failed may have reached the disk. Another history must not.
            let there: Option<Vec<u8>> = find.query_row([number], |it| it.get(0)).optional()?;
            if there.as_ref() == Some(&row.change) {
                continue;
            }
        }
        if row.sequence != sequence + 1 {
            return Err(DatabaseError::Sequence {
                expected: sequence + 1,
                got: row.sequence,
            });
        }
        sequence = row.sequence;
        check = next_check(&check, sequence, &row.change);
        insert.execute(params![number, row.change, check])?;
    }
    Ok(())
}

fn next_check(before: &[u8; 32], sequence: u64, change: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(before)
        .chain_update(sequence.to_be_bytes())
        .chain_update(change)
        .finalize()
        .into()
}

pub(crate) const TABLE: &str = concat!(
    "
CREATE TABLE registry (
    sequence  INTEGER PRIMARY KEY CHECK (sequence >= 1),
    change    BLOB NOT NULL CHECK (length(change) BETWEEN 1 AND 1024),
    check_sum BLOB NOT NULL CHECK (length(check_sum) = 32)
) STRICT;
",
    written_once!(
        "registry",
        "registry_stays",
        "registry_is_not_changed",
        "a change of the registry"
    ),
    "
CREATE TABLE registry_box (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id  BLOB NOT NULL CHECK (length(id) = 32)
) STRICT;
INSERT INTO registry_box VALUES (1, randomblob(32));
",
    written_once!(
        "registry_box",
        "registry_box_stays",
        "registry_box_is_not_changed",
        "the id of a box"
    ),
);
