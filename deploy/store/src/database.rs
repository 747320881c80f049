//! The file in which all tables stand, in SQLite.
//!
//! It is in WAL mode with `synchronous=FULL`: what a call has returned survives a power cut.
//! The schema has a version (`user_version`), and the file an owner (`application_id`); a file of a
//! newer version or of another program is refused and not touched. One of an older version is brought up
//! to date when it is opened, in one transaction.
//!
//! What it keeps: circuits ([`crate::circuits`]), what tenants have given back ([`crate::releases`]), jobs
//! ([`crate::jobs`]), tenants ([`crate::tenants`]), the changes of the registry of state units
//! ([`crate::registry`]) and the ledger's journal ([`crate::ledger`]).

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use thiserror::Error;

use crate::TenantName;

/// The open file.
#[derive(Debug)]
pub struct Database {
    pub(crate) connection: Connection,
}

/// Why it cannot be used.
#[derive(Debug, Error)]
pub enum DatabaseError {
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
    /// A database of an older calderad, which is to be read and not changed.
    #[error(
        "{} has schema version {got}, expected {expected}: start calderad on it once", .path.display()
    )]
    TooOld {
        /// The file.
        path: PathBuf,
        /// The version that is read.
        expected: i64,
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
    #[error("no space left for the database")]
    NoSpace,
    /// The disk takes no writes.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The disk fails at reading or writing, or is read-only since the file was opened.
    #[error("the disk does not do what the database asks of it")]
    Disk(#[source] rusqlite::Error),
    /// The disk gives back what was never written.
    #[error("the database is damaged")]
    Damaged(#[source] rusqlite::Error),
    /// A number that SQLite cannot hold.
    #[error("{column} is {got}, more than the table can hold")]
    Number {
        /// Which.
        column: &'static str,
        /// The number.
        got: u64,
    },
    /// A row of a journal that does not follow the last one.
    #[error("a journal's next row: expected number {expected}, got {got}")]
    Sequence {
        /// The number that was to come.
        expected: u64,
        /// The number that came.
        got: u64,
    },
    /// SQLite refused something else.
    #[error("the database cannot be used")]
    Sqlite(#[source] rusqlite::Error),
}

impl Database {
    /// Opens the file `path`, which is made if it is not there.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        // SQLite makes files that all users may read; its journals take over the mode of the file.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(|source| DatabaseError::Open {
                path: path.to_owned(),
                source,
            })?;
        let mut connection = Connection::open(path)?;
        check_owner(&connection, path)?;
        let mode: String =
            connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(DatabaseError::Journal { got: mode });
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
        Ok(Database { connection })
    }
}

/// Changes that are written together, all or none. Dropped, it has changed nothing.
pub struct Group<'a> {
    pub(crate) transaction: Transaction<'a>,
}

impl Database {
    /// Begins to write together.
    pub fn group(&mut self) -> Result<Group<'_>, DatabaseError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Group { transaction })
    }
}

impl Group<'_> {
    /// When this returns, all of it survives a power cut.
    pub fn commit(self) -> Result<(), DatabaseError> {
        Ok(self.transaction.commit()?)
    }
}

/// Has an enum stored by the names in its `NAMES`.
macro_rules! stored_by_name {
    ($($type:ident),*) => {$(
        impl rusqlite::types::ToSql for $type {
            fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
                let found = $type::NAMES.iter().find(|(value, _)| value == self);
                Ok(found.map_or("", |(_, name)| name).into())
            }
        }

        impl rusqlite::types::FromSql for $type {
            fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<$type> {
                let text = value.as_str()?;
                let found = $type::NAMES.iter().find(|(_, name)| *name == text);
                found.map(|(value, _)| *value).ok_or(rusqlite::types::FromSqlError::InvalidType)
            }
        }
    )*};
}
pub(crate) use stored_by_name;

/// Triggers that keep the rows of a table as they were written, whatever opens the file: the table, the names of the two, and
/// what a row is. A journal's chain says that something was changed; these say no before it is.
macro_rules! written_once {
    ($table:literal, $stays:literal, $stands:literal, $row:literal) => {
        concat!(
            "CREATE TRIGGER ",
            $stays,
            " BEFORE DELETE ON ",
            $table,
            " BEGIN SELECT RAISE(ABORT, '",
            $row,
            " is never removed'); END;\nCREATE TRIGGER ",
            $stands,
            " BEFORE UPDATE ON ",
            $table,
            " BEGIN SELECT RAISE(ABORT, '",
            $row,
            " is never changed'); END;\n",
        )
    };
}
pub(crate) use written_once;

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> DatabaseError {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => DatabaseError::NoSpace,
            Some(rusqlite::ErrorCode::ReadOnly) => DatabaseError::ReadOnly,
            Some(rusqlite::ErrorCode::DatabaseCorrupt) => DatabaseError::Damaged(error),
            Some(rusqlite::ErrorCode::SystemIoFailure) => DatabaseError::Disk(error),
            _ => DatabaseError::Sqlite(error),
        }
    }
}

fn check_owner(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let owner: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let got = version(connection)?;
    let fresh = owner == 0 && got == 0 && tables == 0;
    if !fresh && (owner != APPLICATION_ID || got < 1) {
        return Err(DatabaseError::Foreign {
            path: path.to_owned(),
        });
    }
    if got > VERSION {
        return Err(DatabaseError::TooNew {
            path: path.to_owned(),
            max: VERSION,
            got,
        });
    }
    Ok(())
}

/// Refuses a file that this version would have to make or change before it could read it.
pub(crate) fn refuse_others(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    check_owner(connection, path)?;
    let got = version(connection)?;
    match got == VERSION {
        true => Ok(()),
        false => Err(DatabaseError::TooOld {
            path: path.to_owned(),
            expected: VERSION,
            got,
        }),
    }
}

fn version(connection: &Connection) -> Result<i64, rusqlite::Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
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

pub(crate) fn signed(column: &'static str, got: u64) -> Result<i64, DatabaseError> {
    i64::try_from(got).map_err(|_| DatabaseError::Number { column, got })
}

/// The version that is written, and the newest that is read.
const VERSION: i64 = STEPS.len() as i64;

/// What makes each version of the one before.
const STEPS: [&str; 10] = [
    crate::circuits::TABLE,
    crate::releases::TABLE,
    crate::jobs::TABLE,
    crate::tenants::TABLE,
    crate::circuits::PROGRAMS,
    crate::registry::TABLE,
    crate::ledger::TABLE,
    crate::tenants::RUNNING,
    crate::circuits::CONSTRAINTS,
    crate::jobs::LENT,
];

/// "CALD" in ASCII.
const APPLICATION_ID: i64 = 0x4341_4c44;
