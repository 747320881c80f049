//! Jobs, as they outlive a `calderad`: what was submitted, and what came of it.
//!
//! A row is written before a submission is acknowledged, and again before its outcome can be read: so what
//! a client has been told is still so after a power cut. Rows of many jobs are written together
//! ([`Database::write_jobs`]): one transaction, one fsync of the write-ahead log for all that came
//! while the one before was being synced. That is group commit, as databases have done it since IMS
//! Fast Path (Gawlick and Kinkade, 1985).
//!
//! ```text
//! accept ─ unfinished ── end ── ended ── forget
//!           │ ▲ └ attempt + 1 at each start of the box
//!      lend │ │ recall: attempt + 1 at each
//!           ▼ │
//!           lent ── end ── ended
//! ```
//!
//! **Fencing.** Each start begins a new attempt of every unfinished job, and an end counts only if it
//! names the attempt that is in the row and the job has not ended: whoever comes late, with an older
//! number, changes nothing ([`Written::Fenced`]). The idea is that of fencing tokens (Kleppmann, 2016).
//!
//! **Lending.** A job that another box is to prove is lent under an attempt of its own, which outlives starts: whoever has
//! it may not know that this box was down. It ends in that attempt, or is taken back, and then in a newer one.
//!
//! **Witnesses** are private. One that came with its submission stands in the row until the job ends; the
//! update that ends it clears the column, and `secure_delete` has SQLite overwrite what it frees. Older
//! copies of the page stand in the write-ahead log until [`Database::checkpoint`] cuts it to nothing.
//! One that is a blob is erased by the blob store; the row remembers that until it is done.
//!
//! The rows stand in the file of the circuits, so all that a box remembers is in one backup.

use std::fmt;
use std::sync::Arc;

use std::time::Duration;

use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};
use zeroize::Zeroizing;

use crate::TenantName;
use crate::database::{Database, DatabaseError, Group, read_tenant, signed, unsigned};

/// The longest witness that is kept in its row; a longer one is a blob.
pub const WITNESS_IN_ROW_MAX: usize = 64 * 1024;

/// Bytes of a witness, which are overwritten when the last holder lets go.
pub type WitnessBytes = Arc<Zeroizing<Vec<u8>>>;

/// One job.
#[derive(Clone, PartialEq, Eq)]
pub struct JobRow {
    /// Its number; upwards in the order of submission.
    pub job: u64,
    /// Whose it is.
    pub tenant: TenantName,
    /// The digest of the circuit's key.
    pub circuit: [u8; 32],
    /// The digest of the witness.
    pub witness: [u8; 32],
    /// The witness, if it came with the submission.
    pub in_row: Option<WitnessBytes>,
    /// Whether the witness is a blob that is to be erased with the job, and is not yet.
    pub blob_left: bool,
    /// When the proof is needed, in milliseconds from receipt.
    pub deadline_ms: Option<u64>,
    /// The tenant's word for the submission.
    pub key: Option<String>,
    /// When it was received, in milliseconds of Unix time.
    pub submitted_ms: u64,
    /// The attempt that may end it.
    pub attempt: u64,
    /// Whether another box is to prove it.
    pub lent: bool,
    /// What came of it.
    pub end: Option<JobEnd>,
}

/// What came of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// How it ended.
    pub state: EndState,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// All else that is told of it, as the caller writes it.
    pub outcome: String,
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndState {
    /// There is a proof.
    Proved,
    /// There is none.
    Failed,
    /// It was not wanted any more.
    Cancelled,
}

/// A change to the table.
#[derive(Debug, Clone)]
pub enum JobWrite {
    /// A job is taken.
    Accept(Box<JobRow>),
    /// A job has ended, in this attempt.
    End {
        /// Which.
        job: u64,
        /// In which attempt.
        attempt: u64,
        /// How.
        end: JobEnd,
    },
    /// From now on another box is to prove a job, in this attempt, which is one above that of the row.
    Lend {
        /// Which.
        job: u64,
        /// In which attempt.
        attempt: u64,
    },
    /// From now on this box is to prove again what was lent, in this attempt, which is one above that of the row.
    Recall {
        /// Which.
        job: u64,
        /// In which attempt.
        attempt: u64,
    },
    /// A job is not needed any more.
    Forget {
        /// Which.
        job: u64,
    },
    /// The blob that was the witness of a tenant's ended jobs is erased.
    Erased {
        /// Whose.
        tenant: TenantName,
        /// The digest of the witness.
        witness: [u8; 32],
    },
}

/// What became of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk.
    Done,
    /// It came too late, or twice, and changed nothing.
    Fenced,
}

impl Database {
    /// Writes changes, all or none, in their order. When this returns they survive a power cut.
    pub fn write_jobs(&mut self, writes: &[JobWrite]) -> Result<Vec<Written>, DatabaseError> {
        let group = self.group()?;
        let written = writes.iter().map(|write| group.job(write));
        let written = written.collect::<Result<_, _>>()?;
        group.commit()?;
        Ok(written)
    }

    /// Begins a new attempt of every unfinished job that is not lent and gives all jobs, in the order of their numbers.
    /// Called once, when a box starts.
    pub fn resume_jobs(&mut self) -> Result<Vec<JobRow>, DatabaseError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute(
            "UPDATE jobs SET attempt = attempt + 1 WHERE state IS NULL AND lent = 0",
            [],
        )?;
        transaction.commit()?;
        let mut query = self.connection.prepare("SELECT * FROM jobs ORDER BY job")?;
        let rows = query.query_map([], read)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One job of a tenant.
    pub fn find_job(&self, tenant: &TenantName, job: u64) -> Result<Option<JobRow>, DatabaseError> {
        Ok(self
            .connection
            .query_row(
                "SELECT * FROM jobs WHERE tenant = ?1 AND job = ?2",
                params![tenant.as_str(), signed("job", job)?],
                read,
            )
            .optional()?)
    }

    /// Moves what the write-ahead log holds into the file and cuts the log to nothing, so that no older
    /// copy of a page is left in it. Changes nothing that is stored. `false` if somebody was reading, so that it could not be
    /// done: nobody is waited for.
    pub fn checkpoint(&self) -> Result<bool, DatabaseError> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let busy: Result<i64, _> =
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.connection.busy_timeout(BUSY)?;
        Ok(busy? == 0)
    }

    /// Lets the file grow to so many bytes and no further, or keep the length that it has if that is more:
    /// beyond it writes fail as on a full disk. The write-ahead log is not counted.
    pub fn limit_bytes(&self, max: u64) -> Result<(), DatabaseError> {
        let page: u64 = self
            .connection
            .query_row("PRAGMA page_size", [], |row| unsigned(row, "page_size"))?;
        let pages = (max / page.max(1)).clamp(1, PAGES_MAX);
        self.connection
            .query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        Ok(())
    }

    /// Writes something that changes nothing: whether the disk takes writes.
    pub fn probe(&mut self) -> Result<(), DatabaseError> {
        let transaction = self
            .connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute("UPDATE probe SET writes = writes + 1", [])?;
        transaction.commit()?;
        Ok(())
    }
}

impl Group<'_> {
    /// Writes a change to a job, with the rest of the group.
    pub fn job(&self, write: &JobWrite) -> Result<Written, DatabaseError> {
        Ok(match apply(&self.transaction, write)? {
            0 => Written::Fenced,
            _ => Written::Done,
        })
    }

    /// The job of a tenant that was submitted under a word.
    pub fn job_of(&self, tenant: &TenantName, key: &str) -> Result<Option<u64>, DatabaseError> {
        Ok(self
            .transaction
            .prepare_cached("SELECT job FROM jobs WHERE tenant = ?1 AND key = ?2")?
            .query_row(params![tenant.as_str(), key], |row| unsigned(row, "job"))
            .optional()?)
    }
}

fn apply(transaction: &Transaction<'_>, write: &JobWrite) -> Result<usize, DatabaseError> {
    let changed = match write {
        JobWrite::Accept(row) => {
            let end = row.end.as_ref();
            transaction
                .prepare_cached(
                    "INSERT INTO jobs (job, tenant, circuit, witness, in_row, blob_left, deadline_ms,
                        key, submitted_ms, attempt, lent, state, ended_ms, outcome)
                     VALUES (:job, :tenant, :circuit, :witness, :in_row, :blob_left, :deadline_ms,
                        :key, :submitted_ms, :attempt, :lent, :state, :ended_ms, :outcome)
                     ON CONFLICT DO NOTHING",
                )?
                .execute(named_params! {
                    ":job": signed("job", row.job)?,
                    ":tenant": row.tenant.as_str(),
                    ":circuit": row.circuit,
                    ":witness": row.witness,
                    ":in_row": row.in_row.as_ref().map(|bytes| bytes.as_slice()),
                    ":blob_left": row.blob_left,
                    ":deadline_ms": optional("deadline_ms", row.deadline_ms)?,
                    ":key": row.key,
                    ":submitted_ms": signed("submitted_ms", row.submitted_ms)?,
                    ":attempt": signed("attempt", row.attempt)?,
                    ":lent": row.lent,
                    ":state": end.map(|end| end.state),
                    ":ended_ms": optional("ended_ms", end.map(|end| end.at_ms))?,
                    ":outcome": end.map(|end| end.outcome.as_str()),
                })?
        }
        JobWrite::End { job, attempt, end } => transaction
            .prepare_cached(
                "UPDATE jobs SET state = ?3, ended_ms = ?4, outcome = ?5, in_row = NULL, lent = 0
                 WHERE job = ?1 AND attempt = ?2 AND state IS NULL",
            )?
            .execute(params![
                signed("job", *job)?,
                signed("attempt", *attempt)?,
                end.state,
                signed("ended_ms", end.at_ms)?,
                end.outcome,
            ])?,
        JobWrite::Lend { job, attempt } => hand_over(transaction, *job, *attempt, true)?,
        JobWrite::Recall { job, attempt } => hand_over(transaction, *job, *attempt, false)?,
        JobWrite::Forget { job } => transaction
            .prepare_cached("DELETE FROM jobs WHERE job = ?1")?
            .execute([signed("job", *job)?])?,
        JobWrite::Erased { tenant, witness } => transaction
            .prepare_cached(
                "UPDATE jobs SET blob_left = 0
                 WHERE tenant = ?1 AND witness = ?2 AND state IS NOT NULL AND blob_left = 1",
            )?
            .execute(params![tenant.as_str(), witness])?,
    };
    Ok(changed)
}

/// Lends a job, or takes it back.
fn hand_over(
    transaction: &Transaction<'_>,
    job: u64,
    attempt: u64,
    lent: bool,
) -> Result<usize, DatabaseError> {
    let changed = transaction
        .prepare_cached(
            "UPDATE jobs SET attempt = ?2, lent = ?3
             WHERE job = ?1 AND attempt = ?2 - 1 AND lent <> ?3 AND state IS NULL",
        )?
        .execute(params![
            signed("job", job)?,
            signed("attempt", attempt)?,
            lent
        ])?;
    Ok(changed)
}

fn read(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    let state: Option<EndState> = row.get("state")?;
    let end = match state {
        Some(state) => Some(JobEnd {
            state,
            at_ms: unsigned(row, "ended_ms")?,
            outcome: row.get("outcome")?,
        }),
        None => None,
    };
    let in_row: Option<Vec<u8>> = row.get("in_row")?;
    Ok(JobRow {
        job: unsigned(row, "job")?,
        tenant: read_tenant(row)?,
        circuit: row.get("circuit")?,
        witness: row.get("witness")?,
        in_row: in_row.map(|bytes| Arc::new(Zeroizing::new(bytes))),
        blob_left: row.get("blob_left")?,
        deadline_ms: row
            .get::<_, Option<i64>>("deadline_ms")?
            .map(i64::cast_unsigned),
        key: row.get("key")?,
        submitted_ms: unsigned(row, "submitted_ms")?,
        attempt: unsigned(row, "attempt")?,
        lent: row.get("lent")?,
        end,
    })
}

fn optional(column: &'static str, number: Option<u64>) -> Result<Option<i64>, DatabaseError> {
    number.map(|number| signed(column, number)).transpose()
}

impl fmt::Debug for JobRow {
    /// Shows all but the witness and what was made of it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("JobRow")
            .field("job", &self.job)
            .field("tenant", &self.tenant)
            .field("attempt", &self.attempt)
            .field("lent", &self.lent)
            .field("in_row", &self.in_row.as_ref().map(|bytes| bytes.len()))
            .field("end", &self.end.as_ref().map(|end| end.state))
            .finish_non_exhaustive()
    }
}

impl EndState {
    const NAMES: [(EndState, &'static str); 3] = [
        (EndState::Proved, "proved"),
        (EndState::Failed, "failed"),
        (EndState::Cancelled, "cancelled"),
    ];
}

crate::database::stored_by_name!(EndState);

/// How long is waited for others that have the file open, as rusqlite does by itself.
const BUSY: Duration = Duration::from_secs(5);

/// SQLite's own limit.
const PAGES_MAX: u64 = 0xffff_fffe;

/// What version 3 of the file has and version 2 had not.
pub(crate) const TABLE: &str = "
CREATE TABLE jobs (
    job          INTEGER PRIMARY KEY CHECK (job >= 0),
    tenant       TEXT    NOT NULL CHECK (length(tenant) BETWEEN 1 AND 64),
    circuit      BLOB    NOT NULL CHECK (length(circuit) = 32),
    witness      BLOB    NOT NULL CHECK (length(witness) = 32),
    in_row       BLOB             CHECK (length(in_row) <= 65536),
    blob_left    INTEGER NOT NULL CHECK (blob_left IN (0, 1)),
    deadline_ms  INTEGER          CHECK (deadline_ms >= 0),
    key          TEXT,
    submitted_ms INTEGER NOT NULL CHECK (submitted_ms >= 0),
    attempt      INTEGER NOT NULL CHECK (attempt >= 1),
    state        TEXT             CHECK (state IN ('proved', 'failed', 'cancelled')),
    ended_ms     INTEGER          CHECK ((ended_ms IS NOT NULL) = (state IS NOT NULL)),
    outcome      TEXT             CHECK ((outcome IS NOT NULL) = (state IS NOT NULL)),
    CHECK (state IS NULL OR in_row IS NULL)
) STRICT;
CREATE UNIQUE INDEX jobs_keys ON jobs (tenant, key) WHERE key IS NOT NULL;
CREATE INDEX jobs_unfinished ON jobs (job) WHERE state IS NULL;
CREATE INDEX jobs_blobs ON jobs (tenant, witness) WHERE blob_left = 1;
CREATE TABLE probe (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    writes INTEGER NOT NULL
) STRICT;
INSERT INTO probe VALUES (1, 0);
";

/// What version 10 of the file has and version 9 had not.
pub(crate) const LENT: &str = "
ALTER TABLE jobs ADD COLUMN lent INTEGER NOT NULL DEFAULT 0
    CHECK (lent IN (0, 1) AND (lent = 0 OR state IS NULL));
";
