//! What a submitter remembers: how often it has started, and where its jobs were placed.
//!
//! A start is written down before anybody hears of it, and so is a placement: so no boot and no token is ever given
//! twice, whenever the process is killed. What it does not have is the jobs themselves: those are `calderad`'s, and what the
//! fleet holds of them is asked there at each start. A journal that is lost loses no job; but a box whose tokens begin
//! again would take an answer of before for one of now, so it is another box then and needs another name. The journal
//! keeps the name, and is refused to a box of another one.
//!
//! SQLite in WAL mode with `synchronous=FULL`, as the store of `calderad`; placements are written in groups.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use caldera_scheduler::JobId;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use thiserror::Error;

use crate::submitter::Placement;
use crate::{Boot, BoxId, Token};

/// The open file. Nobody else has it open.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    boot: Boot,
}

/// Why there is no journal.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file cannot be made or opened.
    #[error("journal {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("journal {}: expected one of calderad-fleet, of version {VERSION}, got application {application:#x}, version {version}: name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        application: i64,
        /// Of which version.
        version: i64,
    },
    /// It is another box's.
    #[error("journal {}: expected that of {expected}, got that of {got}: a box with another key needs a journal of its own", path.display())]
    OtherBox {
        /// The file.
        path: PathBuf,
        /// Which box this is.
        expected: BoxId,
        /// Which box's it is.
        got: BoxId,
    },
    /// Another process has it.
    #[error("journal {}: another process has it open: one calderad-fleet runs on a box", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// A number that SQLite cannot hold.
    #[error("journal: {column} is {got}, more than a table can hold")]
    Number {
        /// Which.
        column: &'static str,
        /// The number.
        got: u64,
    },
    /// SQLite refused something else.
    // SQLite's error says its cause in its own words, and is none here: it would be said twice.
    #[error("journal: {0}")]
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> JournalError {
        JournalError::Sqlite(error)
    }
}

impl Journal {
    /// Opens the journal of a box, which is made if it is not there, and begins another boot.
    pub fn open(path: &Path, me: BoxId) -> Result<Journal, JournalError> {
        Journal::open_free(path, me).map_err(|error| match error {
            JournalError::Sqlite(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy) =>
            {
                JournalError::Locked {
                    path: path.to_owned(),
                }
            }
            error => error,
        })
    }

    /// The same, of a file that nobody else has open.
    fn open_free(path: &Path, me: BoxId) -> Result<Journal, JournalError> {
        // SQLite makes files that all users may read.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|source| JournalError::Open {
                path: path.to_owned(),
                source,
            })?;
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(std::time::Duration::ZERO)?;
        // The lock is held for as long as the file is open.
        connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL")?;
        let number = |connection: &Connection, sql| -> Result<i64, rusqlite::Error> {
            connection.query_row(sql, [], |row| row.get(0))
        };
        let application = number(&connection, "PRAGMA application_id")?;
        let version = number(&connection, "PRAGMA user_version")?;
        let tables = number(&connection, "SELECT count(*) FROM sqlite_schema")?;
        let fresh = application == 0 && version == 0 && tables == 0;
        if !fresh && (application, version) != (APPLICATION_ID, VERSION) {
            return Err(JournalError::Foreign {
                path: path.to_owned(),
                application,
                version,
            });
        }
        let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if fresh {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            let name = me.0.to_be_bytes();
            transaction.execute("INSERT INTO box VALUES (1, ?1, 0, 1)", [name])?;
        }
        let name = transaction.query_row("SELECT name FROM box", [], |row| row.get(0))?;
        let got = BoxId(u128::from_be_bytes(name));
        if got != me {
            return Err(JournalError::OtherBox {
                path: path.to_owned(),
                expected: me,
                got,
            });
        }
        let boot =
            transaction.query_row("UPDATE box SET boot = boot + 1 RETURNING boot", [], |row| {
                row.get::<_, i64>(0)
            })?;
        transaction.commit()?;
        Ok(Journal {
            connection,
            boot: Boot(boot.cast_unsigned()),
        })
    }

    /// Which start of the box this is.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Above every token that was ever recorded.
    pub fn next_token(&self) -> Result<Token, JournalError> {
        let next: i64 = self
            .connection
            .query_row("SELECT next_token FROM box", [], |row| row.get(0))?;
        Ok(Token(next.cast_unsigned()))
    }

    /// Writes placements, each in place of the one that its job had if it is newer. When this returns they survive a power cut.
    pub fn record(&mut self, placements: &[Placement]) -> Result<(), JournalError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for at in placements {
            let token = signed("token", at.token.0)?;
            transaction
                .prepare_cached(
                    "INSERT INTO placements VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (job) DO UPDATE
                     SET token = excluded.token, lender = excluded.lender, boot = excluded.boot
                     WHERE excluded.token > token",
                )?
                .execute(params![
                    signed("job", at.job.0)?,
                    token,
                    at.lender.0.to_be_bytes(),
                    signed("boot", at.boot.0)?,
                ])?;
            transaction
                .prepare_cached("UPDATE box SET next_token = max(next_token, ?1 + 1)")?
                .execute([token])?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// Where a job was placed last.
    pub fn placement(&self, job: JobId) -> Result<Option<Placement>, JournalError> {
        let job = signed("job", job.0)?;
        let found = self
            .connection
            .prepare_cached("SELECT job, token, lender, boot FROM placements WHERE job = ?1")?
            .query_row([job], |row| {
                let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
                Ok(Placement {
                    job: JobId(number(0)?),
                    token: Token(number(1)?),
                    lender: BoxId(u128::from_be_bytes(row.get(2)?)),
                    boot: Boot(number(3)?),
                })
            })
            .optional()?;
        Ok(found)
    }

    /// Forgets where all other jobs were placed: what ended while nobody looked.
    pub fn keep(&mut self, jobs: &[JobId]) -> Result<(), JournalError> {
        let others: Vec<JobId> = self
            .connection
            .prepare("SELECT job FROM placements")?
            .query_map([], |row| row.get::<_, i64>(0))?
            .map(|job| job.map(|job| JobId(job.cast_unsigned())))
            .collect::<Result<_, _>>()?;
        let others: Vec<JobId> = others
            .into_iter()
            .filter(|job| !jobs.contains(job))
            .collect();
        self.forget(&others)
    }

    /// Forgets where jobs were placed that are not the fleet's any more. Their tokens are not given again.
    pub fn forget(&mut self, jobs: &[JobId]) -> Result<(), JournalError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            transaction
                .prepare_cached("DELETE FROM placements WHERE job = ?1")?
                .execute([signed("job", job.0)?])?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn signed(column: &'static str, got: u64) -> Result<i64, JournalError> {
    i64::try_from(got).map_err(|_| JournalError::Number { column, got })
}

/// "CALF" in ASCII.
const APPLICATION_ID: i64 = 0x4341_4c46;
const VERSION: i64 = 1;
const TABLES: &str = "
CREATE TABLE box (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    name       BLOB    NOT NULL CHECK (length(name) = 16),
    boot       INTEGER NOT NULL CHECK (boot >= 0),
    next_token INTEGER NOT NULL CHECK (next_token >= 1)
) STRICT;
CREATE TABLE placements (
    job    INTEGER PRIMARY KEY CHECK (job >= 0),
    token  INTEGER NOT NULL UNIQUE CHECK (token >= 1),
    lender BLOB    NOT NULL CHECK (length(lender) = 16),
    boot   INTEGER NOT NULL CHECK (boot >= 1)
) STRICT;
";

#[cfg(test)]
mod tests {
    use super::*;

    const ME: BoxId = BoxId(u128::MAX);

    fn placement(job: u64, token: u64) -> Placement {
        Placement {
            job: JobId(job),
            token: Token(token),
            lender: BoxId(u128::MAX - 1),
            boot: Boot(7),
        }
    }

    #[test]
    fn no_boot_and_no_token_is_given_twice() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet.db");
        let mut journal = Journal::open(&path, ME).expect("a journal");
        assert_eq!(
            (journal.boot(), journal.next_token().expect("a token")),
            (Boot(1), Token(1))
        );
        let placements = [placement(1, 1), placement(2, 2), placement(1, 3)];
        journal.record(&placements).expect("it is written");
        // What was given up is not in force again because its writing came late.
        journal.record(&[placement(2, 1)]).expect("it is written");
        journal.forget(&[JobId(1)]).expect("it is forgotten");
        journal.record(&[placement(3, 1)]).expect("it is written");
        journal.keep(&[JobId(2)]).expect("it is forgotten");
        assert_eq!(journal.placement(JobId(3)).expect("it is read"), None);
        drop(journal);

        let journal = Journal::open(&path, ME).expect("the same journal");
        assert_eq!(
            (journal.boot(), journal.next_token().expect("a token")),
            (Boot(2), Token(4))
        );
        assert_eq!(journal.placement(JobId(1)).expect("it is read"), None);
        let two = journal.placement(JobId(2)).expect("it is read");
        assert_eq!(two, Some(placement(2, 2)));
    }

    #[test]
    fn a_group_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet.db");
        let mut journal = Journal::open(&path, ME).expect("a journal");
        let group = [placement(1, 1), placement(2, u64::MAX)];
        let error = journal.record(&group).expect_err("it cannot be held");
        assert!(
            matches!(
                error,
                JournalError::Number {
                    column: "token",
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(journal.placement(JobId(1)).expect("it is read"), None);
        assert_eq!(journal.next_token().expect("a token"), Token(1));
    }

    #[test]
    fn a_journal_belongs_to_one_box_and_one_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet.db");
        let journal = Journal::open(&path, ME).expect("a journal");
        let error = Journal::open(&path, ME).expect_err("it is open");
        assert!(matches!(error, JournalError::Locked { .. }), "{error}");
        drop(journal);
        let error = Journal::open(&path, BoxId(1)).expect_err("it is another's");
        assert!(matches!(error, JournalError::OtherBox { .. }), "{error}");
        // Who was refused has begun no boot.
        assert_eq!(
            Journal::open(&path, ME).expect("it is there").boot(),
            Boot(2)
        );
    }

    #[test]
    fn what_is_no_journal_is_not_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("other.db");
        let other = Connection::open(&path).expect("a database");
        other
            .execute_batch("CREATE TABLE it (x); PRAGMA user_version = 3")
            .expect("a table");
        drop(other);
        let before = std::fs::read(&path).expect("it is there");
        let error = Journal::open(&path, ME).expect_err("it is another's");
        assert!(
            matches!(error, JournalError::Foreign { version: 3, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).expect("it is there"), before);
    }
}
