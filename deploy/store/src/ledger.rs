//! The ledger's journal: records as the ledger wrote them, one row each, in their order.
//!
//! A row is never changed and never removed, and a new one has the number after the last: triggers in the
//! file itself keep it so, whatever opens it. What a record says is nothing to this table; who reads the journal
//! holds each against the one before (docs/ledger.md).
//!
//! A chain cannot show that its end is missing. So the **head** stands beside it: how many records there are, the
//! digest of the last, and the hash of the state that they make, written in the commit that wrote them. Its number never
//! falls.
//!
//! Records are written in the groups of jobs ([`Group`]): a job's end and the record that pays for it are in one
//! commit, so neither can be there without the other.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::TenantName;
use crate::database::{
    Database, DatabaseError, Group, read_tenant, refuse_others, signed, unsigned, written_once,
};

/// How far the journal goes, as it was written with its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LedgerHead {
    /// How many records there are.
    pub records: u64,
    /// The digest of the last; zeros if there is none.
    pub digest: [u8; 32],
    /// The hash of the state that they make; zeros if there is none.
    pub state: [u8; 32],
}

/// A row of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Its place, from 0.
    pub sequence: u64,
    /// The digest by which the record is known.
    pub digest: [u8; 32],
    /// The record.
    pub bytes: Vec<u8>,
}

/// Which party of the ledger a tenant is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerParty {
    /// Whose.
    pub tenant: TenantName,
    /// Whether it is the developer of the tenant's jobs, and not the one who pays for them.
    pub developer: bool,
    /// The party's number.
    pub party: u32,
}

impl Database {
    /// Opens a file that is there to read it and no more, beside whoever writes it.
    pub fn open_to_read(path: &Path) -> Result<Database, DatabaseError> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        refuse_others(&connection, path)?;
        Ok(Database { connection })
    }

    /// How far the journal goes.
    pub fn ledger_head(&self) -> Result<LedgerHead, DatabaseError> {
        let query = "SELECT records, digest, state FROM ledger_head";
        Ok(self.connection.query_row(query, [], |row| {
            Ok(LedgerHead {
                records: unsigned(row, "records")?,
                digest: row.get("digest")?,
                state: row.get("state")?,
            })
        })?)
    }

    /// Reads the journal from its beginning, row by row, until `each` has had enough. A page of rows is read at a time,
    /// and between two of them nothing of the file is held: an audit may take minutes, and the log could not be cut meanwhile.
    pub fn ledger_rows(
        &self,
        mut each: impl FnMut(LedgerRow) -> bool,
    ) -> Result<(), DatabaseError> {
        let query = "SELECT sequence, digest, record FROM ledger WHERE sequence > ?1
                     ORDER BY sequence LIMIT ?2";
        let mut query = self.connection.prepare(query)?;
        // Below every number, for a damaged file may have some that are negative.
        let mut after = i64::MIN;
        loop {
            let page = query.query_map(params![after, PAGE], |row| {
                let number: i64 = row.get("sequence")?;
                let row = LedgerRow {
                    sequence: unsigned(row, "sequence")?,
                    digest: row.get("digest")?,
                    bytes: row.get("record")?,
                };
                Ok((number, row))
            })?;
            let page: Vec<_> = page.collect::<Result<_, _>>()?;
            let last = page.len() < PAGE as usize;
            for (number, row) in page {
                after = number;
                if !each(row) {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Which parties tenants are.
    pub fn ledger_parties(&self) -> Result<Vec<LedgerParty>, DatabaseError> {
        let query = "SELECT tenant, developer, party FROM ledger_parties ORDER BY party";
        let mut query = self.connection.prepare(query)?;
        let rows = query.query_map([], |row| {
            Ok(LedgerParty {
                tenant: read_tenant(row)?,
                developer: row.get("developer")?,
                party: row.get("party")?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Group<'_> {
    /// Appends a record.
    pub fn record(
        &self,
        sequence: u64,
        digest: &[u8; 32],
        record: &[u8],
    ) -> Result<(), DatabaseError> {
        self.transaction
            .prepare_cached("INSERT INTO ledger (sequence, digest, record) VALUES (?1, ?2, ?3)")?
            .execute(params![signed("sequence", sequence)?, digest, record])?;
        Ok(())
    }

    /// The record of this number, if there is one.
    pub fn ledger_record(&self, sequence: u64) -> Result<Option<Vec<u8>>, DatabaseError> {
        Ok(self
            .transaction
            .prepare_cached("SELECT record FROM ledger WHERE sequence = ?1")?
            .query_row([signed("sequence", sequence)?], |row| row.get("record"))
            .optional()?)
    }

    /// Writes down how far the journal goes with the records of this group.
    pub fn ledger_head(&self, head: &LedgerHead) -> Result<(), DatabaseError> {
        self.transaction
            .prepare_cached("UPDATE ledger_head SET records = ?1, digest = ?2, state = ?3")?
            .execute(params![
                signed("records", head.records)?,
                head.digest,
                head.state
            ])?;
        Ok(())
    }

    /// Writes down which party a tenant is.
    pub fn ledger_party(&self, row: &LedgerParty) -> Result<(), DatabaseError> {
        self.transaction
            .prepare_cached(
                "INSERT INTO ledger_parties (tenant, developer, party) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![row.tenant.as_str(), row.developer, row.party])?;
        Ok(())
    }
}

/// Rows of a page: some hundred kilobytes.
const PAGE: u32 = 1_000;

pub(crate) const TABLE: &str = concat!(
    "
CREATE TABLE ledger (
    sequence INTEGER PRIMARY KEY CHECK (sequence >= 0),
    digest   BLOB NOT NULL CHECK (length(digest) = 32),
    record   BLOB NOT NULL CHECK (length(record) BETWEEN 1 AND 65536)
) STRICT;
CREATE TRIGGER ledger_records_follow BEFORE INSERT ON ledger
WHEN NEW.sequence IS NOT coalesce((SELECT max(sequence) + 1 FROM ledger), 0) BEGIN
    SELECT RAISE(ABORT, 'a record has the number after the last');
END;
",
    written_once!(
        "ledger",
        "ledger_records_stay",
        "ledger_records_stand",
        "a record"
    ),
    "
CREATE TABLE ledger_head (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    records INTEGER NOT NULL CHECK (records >= 0),
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    state   BLOB    NOT NULL CHECK (length(state) = 32)
) STRICT;
INSERT INTO ledger_head VALUES (1, 0, zeroblob(32), zeroblob(32));
CREATE TRIGGER ledger_head_stays BEFORE DELETE ON ledger_head BEGIN
    SELECT RAISE(ABORT, 'the head of the ledger is never removed');
END;
CREATE TRIGGER ledger_head_rises BEFORE UPDATE ON ledger_head WHEN NEW.records < OLD.records BEGIN
    SELECT RAISE(ABORT, 'the head of the ledger never falls');
END;
CREATE TABLE ledger_parties (
    party     INTEGER PRIMARY KEY CHECK (party BETWEEN 0 AND 4294967295),
    tenant    TEXT    NOT NULL CHECK (length(tenant) BETWEEN 1 AND 64),
    developer INTEGER NOT NULL CHECK (developer IN (0, 1)),
    UNIQUE (tenant, developer)
) STRICT;
"
);
