//! What tenants have given back of their storage, one row for each release.
//!
//! A row is a claim on whoever has had the use of those bytes since, so it is never changed and
//! never removed: the only thing that is written into it later, once, is when the tenant took
//! its storage again. Triggers in the file itself keep it so, whatever opens it. There is at most one
//! open row of a tenant at a time: who has given back gives again only after taking.
//!
//! The rows stand in the file of the circuits, so that a key that is given back and the row that says so
//! are in the same backup.

use rusqlite::{OptionalExtension, Row, named_params, params};

use crate::TenantName;
use crate::database::{Database, DatabaseError, Group, read_tenant, signed, unsigned};

/// One release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseRow {
    /// Its number, upwards from 1; chosen by [`Database::insert_release`].
    pub id: u64,
    /// Whose storage it was.
    pub tenant: TenantName,
    /// The tenant's scenario class.
    pub class: String,
    /// When the last of it was back, in milliseconds of Unix time as all times here.
    pub at_ms: u64,
    /// Since when the tenant's demand had been low.
    pub quiet_since_ms: u64,
    /// What the tenant held before.
    pub held: u64,
    /// Bytes of tables that are back.
    pub tables: u64,
    /// Bytes of keys.
    pub keys: u64,
    /// Bytes of other blobs.
    pub blobs: u64,
    /// How much less that is than it should be.
    pub short: u64,
    /// Why it is.
    pub short_reason: Option<String>,
    /// When the tenant's demand returned; `None` while it has not.
    pub taken_again_ms: Option<u64>,
}

impl Database {
    /// Adds a release; its number. The one in the row is not looked at.
    pub fn insert_release(&mut self, row: &ReleaseRow) -> Result<u64, DatabaseError> {
        self.connection.execute(
            "INSERT INTO releases (tenant, class, at_ms, quiet_since_ms, held, tables, keys, blobs,
                short, short_reason, taken_again_ms)
             VALUES (:tenant, :class, :at_ms, :quiet_since_ms, :held, :tables, :keys, :blobs,
                :short, :short_reason, :taken_again_ms)",
            named_params! {
                ":tenant": row.tenant.as_str(),
                ":class": row.class,
                ":at_ms": signed("at_ms", row.at_ms)?,
                ":quiet_since_ms": signed("quiet_since_ms", row.quiet_since_ms)?,
                ":held": signed("held", row.held)?,
                ":tables": signed("tables", row.tables)?,
                ":keys": signed("keys", row.keys)?,
                ":blobs": signed("blobs", row.blobs)?,
                ":short": signed("short", row.short)?,
                ":short_reason": row.short_reason,
                ":taken_again_ms": row
                    .taken_again_ms
                    .map(|at| signed("taken_again_ms", at))
                    .transpose()?,
            },
        )?;
        Ok(self.connection.last_insert_rowid().cast_unsigned())
    }

    /// Notes that a tenant has taken its storage again; `false` if none of its releases is open.
    pub fn close_release(
        &mut self,
        tenant: &TenantName,
        at_ms: u64,
    ) -> Result<bool, DatabaseError> {
        let group = self.group()?;
        let closed = group.close_release(tenant, at_ms)?;
        group.commit()?;
        Ok(closed.is_some())
    }

    /// The newest releases, the newest last: of one tenant, or of all.
    pub fn releases(
        &self,
        tenant: Option<&TenantName>,
        count_max: u32,
    ) -> Result<Vec<ReleaseRow>, DatabaseError> {
        let mut query = self.connection.prepare(
            "SELECT * FROM releases WHERE ?1 IS NULL OR tenant = ?1 ORDER BY id DESC LIMIT ?2",
        )?;
        let rows = query.query_map(params![tenant.map(TenantName::as_str), count_max], read)?;
        let mut rows: Vec<ReleaseRow> = rows.collect::<Result<_, _>>()?;
        rows.reverse();
        Ok(rows)
    }

    /// The tenants whose last release is open.
    pub fn open_releases(&self) -> Result<Vec<TenantName>, DatabaseError> {
        let mut query = self
            .connection
            .prepare("SELECT DISTINCT tenant FROM releases WHERE taken_again_ms IS NULL")?;
        let rows = query.query_map([], read_tenant)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Group<'_> {
    /// What was given back and was not taken again.
    pub fn open_releases(&self) -> Result<Vec<ReleaseRow>, DatabaseError> {
        let mut query = self
            .transaction
            .prepare_cached("SELECT * FROM releases WHERE taken_again_ms IS NULL ORDER BY id")?;
        let rows = query.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Notes that a tenant has taken its storage again, with the rest of the group; the release that was open.
    pub fn close_release(
        &self,
        tenant: &TenantName,
        at_ms: u64,
    ) -> Result<Option<ReleaseRow>, DatabaseError> {
        // A clock that was set back must not make a span of less than nothing.
        let mut query = self.transaction.prepare_cached(
            "UPDATE releases SET taken_again_ms = max(?2, at_ms)
             WHERE tenant = ?1 AND taken_again_ms IS NULL RETURNING *",
        )?;
        let at_ms = signed("taken_again_ms", at_ms)?;
        Ok(query
            .query_row(params![tenant.as_str(), at_ms], read)
            .optional()?)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<ReleaseRow> {
    Ok(ReleaseRow {
        id: unsigned(row, "id")?,
        tenant: read_tenant(row)?,
        class: row.get("class")?,
        at_ms: unsigned(row, "at_ms")?,
        quiet_since_ms: unsigned(row, "quiet_since_ms")?,
        held: unsigned(row, "held")?,
        tables: unsigned(row, "tables")?,
        keys: unsigned(row, "keys")?,
        blobs: unsigned(row, "blobs")?,
        short: unsigned(row, "short")?,
        short_reason: row.get("short_reason")?,
        taken_again_ms: row
            .get::<_, Option<i64>>("taken_again_ms")?
            .map(i64::cast_unsigned),
    })
}

/// What version 2 of the file has and version 1 had not.
pub(crate) const TABLE: &str = "
ALTER TABLE circuits ADD COLUMN source TEXT;
ALTER TABLE circuits ADD COLUMN released TEXT
    CHECK (released IS NULL OR (state = 'ready' AND source IS NOT NULL));
CREATE TABLE releases (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant         TEXT    NOT NULL CHECK (length(tenant) BETWEEN 1 AND 64),
    class          TEXT    NOT NULL,
    at_ms          INTEGER NOT NULL CHECK (at_ms >= 0),
    quiet_since_ms INTEGER NOT NULL CHECK (quiet_since_ms >= 0),
    held           INTEGER NOT NULL CHECK (held >= 0),
    tables         INTEGER NOT NULL CHECK (tables >= 0),
    keys           INTEGER NOT NULL CHECK (keys >= 0),
    blobs          INTEGER NOT NULL CHECK (blobs >= 0),
    short          INTEGER NOT NULL CHECK (short >= 0),
    short_reason   TEXT             CHECK ((short_reason IS NOT NULL) = (short > 0)),
    taken_again_ms INTEGER          CHECK (taken_again_ms >= at_ms),
    CHECK (tables + keys + blobs <= held)
) STRICT;
CREATE UNIQUE INDEX releases_open ON releases (tenant) WHERE taken_again_ms IS NULL;
CREATE TRIGGER releases_stay BEFORE DELETE ON releases BEGIN
    SELECT RAISE(ABORT, 'a release is never removed');
END;
CREATE TRIGGER releases_are_closed_once BEFORE UPDATE ON releases
WHEN OLD.taken_again_ms IS NOT NULL
  OR (NEW.id, NEW.tenant, NEW.class, NEW.at_ms, NEW.quiet_since_ms, NEW.held, NEW.tables, NEW.keys,
      NEW.blobs, NEW.short, NEW.short_reason)
  IS NOT
     (OLD.id, OLD.tenant, OLD.class, OLD.at_ms, OLD.quiet_since_ms, OLD.held, OLD.tables, OLD.keys,
      OLD.blobs, OLD.short, OLD.short_reason)
BEGIN
    SELECT RAISE(ABORT, 'a release is never changed');
END;
";
