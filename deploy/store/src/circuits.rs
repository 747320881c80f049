//! The list of registered circuits, in SQLite.
//!
//! A restart reads it and knows which keys there are, what they were called, and which of them
//! passed the full check: a key is named by its digest, so what was checked once need not be
//! checked again. Rows of one tenant are never read for another, not even to learn that the same
//! key was checked there.
//!
//! The file is in WAL mode with `synchronous=FULL`: what a call has returned survives a power cut.
//! The schema has a version (`user_version`), and the file an owner (`application_id`); a file of a
//! newer version or of another program is refused and not touched. One of an older version is brought up
//! to date when it is opened, in one transaction.
//!
//! Beside the circuits the file keeps what tenants have given back ([`crate::releases`]), jobs
//! ([`crate::jobs`]) and tenants ([`crate::tenants`]).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, named_params, params};
use thiserror::Error;

use crate::TenantName;

/// The table.
#[derive(Debug)]
pub struct Circuits {
    pub(crate) connection: Connection,
}

/// One registered circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitRow {
    /// Who registered it.
    pub tenant: TenantName,
    /// The digest of its proving key, and the name of the blob.
    pub digest: [u8; 32],
    /// A name for people.
    pub name: Option<String>,
    /// The curve, by the name that the caller gives it.
    pub curve: String,
    /// Points of the evaluation domain.
    pub domain_size: u64,
    /// Public inputs.
    pub public_count: u64,
    /// Wires.
    pub wires: u64,
    /// Bytes of the key.
    pub bytes: u64,
    /// Whether it is a development key.
    pub development: bool,
    /// How much of the key was to be checked.
    pub check: Check,
    /// When a full check was passed, in seconds of Unix time.
    pub checked_at: Option<u64>,
    /// Where it stands.
    pub state: State,
    /// Why it failed.
    pub failure: Option<String>,
    /// Where the key can be read again.
    pub source: Option<String>,
    /// While the key is given back: its verification key, as the caller writes it.
    pub released: Option<String>,
}

/// How much of a key was to be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Everything.
    Full,
    /// Its owner vouches for it.
    Trusted,
}

/// Where a circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The check was begun; after a restart it has to begin anew.
    Checking,
    /// Proofs can be made.
    Ready,
    /// The key is unfit.
    Failed,
}

/// A change of where a circuit stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The check was begun, again, as the circuit is registered now.
    Checking {
        /// What becomes [`CircuitRow::source`].
        source: Option<String>,
    },
    /// The key is given back, and will be read again.
    Released {
        /// What becomes [`CircuitRow::released`].
        verification_key: String,
    },
    /// Proofs can be made, and the key is there; with the time at which a full check was passed, if one
    /// was made now. A time that is already there is kept.
    Ready {
        /// Seconds of Unix time.
        checked_at: Option<u64>,
    },
    /// The key is unfit.
    Failed {
        /// Why.
        failure: String,
    },
}

/// Why the table cannot be used.
#[derive(Debug, Error)]
pub enum CircuitsError {
    /// The file cannot be made or opened.
    #[error("cannot open {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A database, and not one of these.
    #[error("{} is a database of another program", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A database of a newer calderad.
    #[error(
        "{} has schema version {got}, and this calderad reads versions up to {max}: it was written \
         by a newer one; run that, or use another data folder", .path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The newest version that is read.
        max: i64,
        /// Its version.
        got: i64,
    },
    /// The journal mode that everything here counts on could not be had.
    #[error("expected journal mode wal, got {got}")]
    Journal {
        /// What SQLite uses instead; a file system without shared memory is one reason.
        got: String,
    },
    /// The disk is full.
    #[error("no space left for the tables of circuits and jobs")]
    NoSpace,
    /// The disk takes no writes.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The disk gives back what was never written.
    #[error("the file of circuits and jobs is damaged")]
    Damaged(#[source] rusqlite::Error),
    /// A number that SQLite cannot hold.
    #[error("{column} is {got}, more than the table can hold")]
    Number {
        /// Which.
        column: &'static str,
        /// The number.
        got: u64,
    },
    /// SQLite refused something else.
    #[error("the tables of circuits and jobs cannot be used")]
    Sqlite(#[source] rusqlite::Error),
}

impl Circuits {
    /// Opens the table in the file `path`, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Circuits, CircuitsError> {
        // SQLite makes files that all users may read; its journals take over the mode of the file.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|source| CircuitsError::Open {
                path: path.to_owned(),
                source,
            })?;
        let mut connection = Connection::open(path)?;
        check_owner(&connection, path)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(CircuitsError::Journal { got: mode });
        }
        // What is freed is overwritten: rows of jobs hold witnesses.
        connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON")?;
        let transaction = connection.transaction()?;
        let old = version(&transaction)?;
        if old < VERSION {
            // No version is below zero: those are refused as foreign.
            let done = usize::try_from(old).unwrap_or(0);
            for step in &STEPS[done..] {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        transaction.commit()?;
        Ok(Circuits { connection })
    }

    /// Adds a circuit; `false`, and nothing changed, if the tenant has it already.
    pub fn insert(&mut self, row: &CircuitRow) -> Result<bool, CircuitsError> {
        let added = self.connection.execute(
            "INSERT INTO circuits (tenant, digest, name, curve, domain_size, public_count, wires,
                bytes, development, check_level, checked_at, state, failure, source, released)
             VALUES (:tenant, :digest, :name, :curve, :domain_size, :public_count, :wires,
                :bytes, :development, :check_level, :checked_at, :state, :failure, :source, :released)
             ON CONFLICT (tenant, digest) DO NOTHING",
            named_params! {
                ":tenant": row.tenant.as_str(),
                ":digest": row.digest,
                ":name": row.name,
                ":curve": row.curve,
                ":domain_size": signed("domain_size", row.domain_size)?,
                ":public_count": signed("public_count", row.public_count)?,
                ":wires": signed("wires", row.wires)?,
                ":bytes": signed("bytes", row.bytes)?,
                ":development": row.development,
                ":check_level": row.check,
                ":checked_at": checked_at(row.checked_at)?,
                ":state": row.state,
                ":failure": row.failure,
                ":source": row.source,
                ":released": row.released,
            },
        )?;
        Ok(added == 1)
    }

    /// Changes where a circuit stands; `false` if the tenant has no such circuit.
    pub fn set_state(
        &mut self,
        tenant: &TenantName,
        digest: [u8; 32],
        change: &Change,
    ) -> Result<bool, CircuitsError> {
        let (state, time, failure, released) = match change {
            Change::Checking { .. } => (State::Checking, None, None, None),
            Change::Ready { checked_at } => (State::Ready, *checked_at, None, None),
            Change::Released { verification_key } => {
                (State::Ready, None, None, Some(verification_key.as_str()))
            }
            Change::Failed { failure } => (State::Failed, None, Some(failure.as_str()), None),
        };
        let source = match change {
            Change::Checking { source } => Some(source.as_deref()),
            _ => None,
        };
        let time = checked_at(time)?;
        let changed = self.connection.execute(
            "UPDATE circuits SET state = ?3, checked_at = coalesce(?4, checked_at), failure = ?5,
                released = ?6, source = iif(?7, ?8, source)
             WHERE tenant = ?1 AND digest = ?2",
            params![
                tenant.as_str(),
                digest,
                state,
                time,
                failure,
                released,
                source.is_some(),
                source.flatten()
            ],
        )?;
        Ok(changed == 1)
    }

    /// Removes a circuit; `false` if the tenant has no such circuit.
    pub fn remove(&mut self, tenant: &TenantName, digest: [u8; 32]) -> Result<bool, CircuitsError> {
        let removed = self.connection.execute(
            "DELETE FROM circuits WHERE tenant = ?1 AND digest = ?2",
            params![tenant.as_str(), digest],
        )?;
        Ok(removed == 1)
    }

    /// One circuit of a tenant.
    pub fn find(
        &self,
        tenant: &TenantName,
        digest: [u8; 32],
    ) -> Result<Option<CircuitRow>, CircuitsError> {
        Ok(self
            .connection
            .query_row(
                "SELECT * FROM circuits WHERE tenant = ?1 AND digest = ?2",
                params![tenant.as_str(), digest],
                read_row,
            )
            .optional()?)
    }

    /// The circuits of a tenant, by digest.
    pub fn list(&self, tenant: &TenantName) -> Result<Vec<CircuitRow>, CircuitsError> {
        let mut query = self
            .connection
            .prepare("SELECT * FROM circuits WHERE tenant = ?1 ORDER BY digest")?;
        let rows = query.query_map([tenant.as_str()], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The circuits of all tenants, as a start needs them.
    pub fn all(&self) -> Result<Vec<CircuitRow>, CircuitsError> {
        let mut query = self
            .connection
            .prepare("SELECT * FROM circuits ORDER BY tenant, digest")?;
        let rows = query.query_map([], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Check {
    const NAMES: [(Check, &'static str); 2] = [(Check::Full, "full"), (Check::Trusted, "trusted")];
}

impl State {
    const NAMES: [(State, &'static str); 3] = [
        (State::Checking, "checking"),
        (State::Ready, "ready"),
        (State::Failed, "failed"),
    ];
}

/// Has an enum stored by the names in its `NAMES`.
macro_rules! stored_by_name {
    ($($type:ident),*) => {$(
        impl ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                let found = $type::NAMES.iter().find(|(value, _)| value == self);
                Ok(found.map_or("", |(_, name)| name).into())
            }
        }

        impl FromSql for $type {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<$type> {
                let text = value.as_str()?;
                let found = $type::NAMES.iter().find(|(_, name)| *name == text);
                found.map(|(value, _)| *value).ok_or(FromSqlError::InvalidType)
            }
        }
    )*};
}
pub(crate) use stored_by_name;
stored_by_name!(Check, State);

impl From<rusqlite::Error> for CircuitsError {
    fn from(error: rusqlite::Error) -> CircuitsError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => CircuitsError::NoSpace,
            Some(rusqlite::ErrorCode::ReadOnly) => CircuitsError::ReadOnly,
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => CircuitsError::Damaged(error),
            _ => CircuitsError::Sqlite(error),
        }
    }
}

fn check_owner(connection: &Connection, path: &Path) -> Result<(), CircuitsError> {
    let owner: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let got = version(connection)?;
    let fresh = owner == 0 && got == 0 && tables == 0;
    if !fresh && (owner != APPLICATION_ID || got < 1) {
        return Err(CircuitsError::Foreign {
            path: path.to_owned(),
        });
    }
    if got > VERSION {
        return Err(CircuitsError::TooNew {
            path: path.to_owned(),
            max: VERSION,
            got,
        });
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn read_row(row: &Row<'_>) -> rusqlite::Result<CircuitRow> {
    Ok(CircuitRow {
        tenant: read_tenant(row)?,
        digest: row.get("digest")?,
        name: row.get("name")?,
        curve: row.get("curve")?,
        domain_size: unsigned(row, "domain_size")?,
        public_count: unsigned(row, "public_count")?,
        wires: unsigned(row, "wires")?,
        bytes: unsigned(row, "bytes")?,
        development: row.get("development")?,
        check: row.get("check_level")?,
        checked_at: row
            .get::<_, Option<i64>>("checked_at")?
            .map(i64::cast_unsigned),
        state: row.get("state")?,
        failure: row.get("failure")?,
        source: row.get("source")?,
        released: row.get("released")?,
    })
}

pub(crate) fn read_tenant(row: &Row<'_>) -> rusqlite::Result<TenantName> {
    let column = row.as_ref().column_index("tenant")?;
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}

/// The table's checks keep these columns from being negative.
pub(crate) fn unsigned(row: &Row<'_>, column: &'static str) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

pub(crate) fn signed(column: &'static str, got: u64) -> Result<i64, CircuitsError> {
    i64::try_from(got).map_err(|_| CircuitsError::Number { column, got })
}

fn checked_at(time: Option<u64>) -> Result<Option<i64>, CircuitsError> {
    time.map(|time| signed("checked_at", time)).transpose()
}

/// The version that is written, and the newest that is read.
const VERSION: i64 = STEPS.len() as i64;

/// What makes each version of the one before.
const STEPS: [&str; 4] = [
    CIRCUITS,
    crate::releases::TABLE,
    crate::jobs::TABLE,
    crate::tenants::TABLE,
];

/// "CALD" in ASCII.
const APPLICATION_ID: i64 = 0x4341_4c44;

const CIRCUITS: &str = "
CREATE TABLE circuits (
    tenant       TEXT    NOT NULL CHECK (length(tenant) BETWEEN 1 AND 64),
    digest       BLOB    NOT NULL CHECK (length(digest) = 32),
    name         TEXT,
    curve        TEXT    NOT NULL,
    domain_size  INTEGER NOT NULL CHECK (domain_size >= 0),
    public_count INTEGER NOT NULL CHECK (public_count >= 0),
    wires        INTEGER NOT NULL CHECK (wires >= 0),
    bytes        INTEGER NOT NULL CHECK (bytes >= 0),
    development  INTEGER NOT NULL CHECK (development IN (0, 1)),
    check_level  TEXT    NOT NULL CHECK (check_level IN ('full', 'trusted')),
    checked_at   INTEGER          CHECK (checked_at >= 0),
    state        TEXT    NOT NULL CHECK (state IN ('checking', 'ready', 'failed')),
    failure      TEXT             CHECK ((failure IS NOT NULL) = (state = 'failed')),
    PRIMARY KEY (tenant, digest)
) STRICT, WITHOUT ROWID;
";
