//! Tenants that were added while a box ran.
//!
//! A row has no secret in it, only the salt from which the secret is made with a master key that is kept
//! elsewhere (`caldera_rpc::auth`): who reads this file, or a backup of it, can sign nothing.
//!
//! A tenant that was removed keeps its row until everything else that was its is gone: rows here, and blobs, which a start
//! erases ([`Database::forget_tenant`] comes last). So a box that dies between the two goes on where it was.

use rusqlite::{Row, params};

use crate::TenantName;
use crate::database::{Database, DatabaseError, read_tenant, signed, unsigned};

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its name.
    pub tenant: TenantName,
    /// Its scenario class, by name.
    pub scenario: String,
    /// Of its secret.
    pub salt: [u8; 16],
    /// Of the secret before, and until when that is taken, in seconds of Unix time.
    pub before: Option<([u8; 16], u64)>,
    /// Whether it is refused until it is resumed.
    pub suspended: bool,
    /// Whether it is refused for ever, and what it had is to be erased.
    pub removed: bool,
    /// Whether it may look.
    pub may_read: bool,
    /// Whether it may ask for work.
    pub may_submit: bool,
    /// Unfinished jobs, at most.
    pub queue: Option<u64>,
    /// Of those, jobs that are proved at once, at most.
    pub running: Option<u64>,
    /// Requests under way, at most.
    pub calls: Option<u64>,
    /// Bytes of blobs, at most.
    pub blob_bytes: Option<u64>,
    /// Requests a second, at most.
    pub requests: Option<u64>,
}

impl Database {
    /// Writes a tenant down, in the place of what was known of it. When this returns it survives a power cut.
    pub fn put_tenant(&mut self, row: &TenantRow) -> Result<(), DatabaseError> {
        let number = |name, value: Option<u64>| value.map(|it| signed(name, it)).transpose();
        self.connection.execute(
            "INSERT OR REPLACE INTO tenants (tenant, scenario, salt, old_salt, old_until, suspended, removed,
                may_read, may_submit, queue, calls, blob_bytes, requests, running)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
            params![
                row.tenant.as_str(),
                row.scenario,
                row.salt,
                row.before.map(|(salt, _)| salt),
                number("old_until", row.before.map(|(_, until)| until))?,
                row.suspended,
                row.removed,
                row.may_read,
                row.may_submit,
                number("queue", row.queue)?,
                number("calls", row.calls)?,
                number("blob_bytes", row.blob_bytes)?,
                number("requests", row.requests)?,
                number("running", row.running)?,
            ],
        )?;
        Ok(())
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> Result<Vec<TenantRow>, DatabaseError> {
        let mut query = self
            .connection
            .prepare("SELECT * FROM tenants ORDER BY tenant")?;
        let rows = query.query_map([], read_tenant_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Names of whom there are circuits, jobs or releases.
    pub fn tenants_with_rows(&self) -> Result<Vec<TenantName>, DatabaseError> {
        let mut query = self.connection.prepare(
            "SELECT tenant FROM circuits UNION SELECT tenant FROM jobs UNION SELECT tenant FROM releases",
        )?;
        let rows = query.query_map([], read_tenant)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The blobs of a tenant that are witnesses and not erased yet.
    pub fn witnesses_left(&self, tenant: &TenantName) -> Result<Vec<[u8; 32]>, DatabaseError> {
        let mut query = self
            .connection
            .prepare("SELECT DISTINCT witness FROM jobs WHERE tenant = ?1 AND blob_left")?;
        let rows = query.query_map([tenant.as_str()], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Removes a tenant's circuits, jobs and its own row, all or none.
    pub fn forget_tenant(&mut self, tenant: &TenantName) -> Result<(), DatabaseError> {
        let transaction = self.connection.transaction()?;
        // What was given back stays written. A party of the ledger that was the tenant's is nobody's from now on, and the
        // operator commands it.
        for table in ["circuits", "jobs", "ledger_parties", "tenants"] {
            transaction.execute(
                &format!("DELETE FROM {table} WHERE tenant = ?1"),
                [tenant.as_str()],
            )?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn read_tenant_row(row: &Row<'_>) -> rusqlite::Result<TenantRow> {
    let number = |name| -> rusqlite::Result<Option<u64>> {
        match row.get::<_, Option<i64>>(name)? {
            Some(_) => unsigned(row, name).map(Some),
            None => Ok(None),
        }
    };
    let old: Option<[u8; 16]> = row.get("old_salt")?;
    Ok(TenantRow {
        tenant: read_tenant(row)?,
        scenario: row.get("scenario")?,
        salt: row.get("salt")?,
        before: old.zip(number("old_until")?),
        suspended: row.get("suspended")?,
        removed: row.get("removed")?,
        may_read: row.get("may_read")?,
        may_submit: row.get("may_submit")?,
        queue: number("queue")?,
        running: number("running")?,
        calls: number("calls")?,
        blob_bytes: number("blob_bytes")?,
        requests: number("requests")?,
    })
}

pub(crate) const TABLE: &str = "
CREATE TABLE tenants (
    tenant     TEXT    NOT NULL PRIMARY KEY CHECK (length(tenant) BETWEEN 1 AND 64),
    scenario   TEXT    NOT NULL,
    salt       BLOB    NOT NULL CHECK (length(salt) = 16),
    old_salt   BLOB             CHECK (length(old_salt) = 16),
    old_until  INTEGER          CHECK (old_until >= 0),
    suspended  INTEGER NOT NULL CHECK (suspended IN (0, 1)),
    removed    INTEGER NOT NULL CHECK (removed IN (0, 1)),
    may_read   INTEGER NOT NULL CHECK (may_read IN (0, 1)),
    may_submit INTEGER NOT NULL CHECK (may_submit IN (0, 1)),
    queue      INTEGER          CHECK (queue >= 0),
    calls      INTEGER          CHECK (calls >= 0),
    blob_bytes INTEGER          CHECK (blob_bytes >= 0),
    requests   INTEGER          CHECK (requests >= 0),
    CHECK ((old_salt IS NULL) = (old_until IS NULL))
) STRICT, WITHOUT ROWID;
";

/// The step that lets tenants be bounded in how many of their jobs are proved at once.
pub(crate) const RUNNING: &str = "
ALTER TABLE tenants ADD COLUMN running INTEGER CHECK (running >= 0);
";
