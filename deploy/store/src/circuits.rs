//! The list of registered circuits, in the [`Database`].
//!
//! A restart reads it and knows which keys there are, what they were called, and which of them
//! passed the full check: a key is named by its digest, so what was checked once need not be
//! checked again. Rows of one tenant are never read for another, not even to learn that the same
//! key was checked there.

use rusqlite::{OptionalExtension, Row, named_params, params};

use crate::TenantName;
use crate::database::{Database, DatabaseError, read_tenant, signed, stored_by_name, unsigned};

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
    /// The blob of the program that computes witnesses.
    pub program: Option<[u8; 32]>,
    /// The blob of the constraint system that computed witnesses are held against.
    pub r1cs: Option<[u8; 32]>,
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
        /// What becomes [`CircuitRow::program`].
        program: Option<[u8; 32]>,
        /// What becomes [`CircuitRow::r1cs`].
        r1cs: Option<[u8; 32]>,
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

impl Database {
    /// Adds a circuit; `false`, and nothing changed, if the tenant has it already.
    pub fn insert(&mut self, row: &CircuitRow) -> Result<bool, DatabaseError> {
        let added = self.connection.execute(
            "INSERT INTO circuits (tenant, digest, name, curve, domain_size, public_count, wires,
                bytes, development, check_level, checked_at, state, failure, source, released, program, r1cs)
             VALUES (:tenant, :digest, :name, :curve, :domain_size, :public_count, :wires,
                :bytes, :development, :check_level, :checked_at, :state, :failure, :source, :released,
                :program, :r1cs)
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
                ":program": row.program,
                ":r1cs": row.r1cs,
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
    ) -> Result<bool, DatabaseError> {
        let (state, time, failure, released) = match change {
            Change::Checking { .. } => (State::Checking, None, None, None),
            Change::Ready { checked_at } => (State::Ready, *checked_at, None, None),
            Change::Released { verification_key } => {
                (State::Ready, None, None, Some(verification_key.as_str()))
            }
            Change::Failed { failure } => (State::Failed, None, Some(failure.as_str()), None),
        };
        let registered = match change {
            Change::Checking {
                source,
                program,
                r1cs,
            } => Some((source.as_deref(), *program, *r1cs)),
            _ => None,
        };
        let time = checked_at(time)?;
        let changed = self.connection.execute(
            "UPDATE circuits SET state = ?3, checked_at = coalesce(?4, checked_at), failure = ?5,
                released = ?6, source = iif(?7, ?8, source), program = iif(?7, ?9, program),
                r1cs = iif(?7, ?10, r1cs)
             WHERE tenant = ?1 AND digest = ?2",
            params![
                tenant.as_str(),
                digest,
                state,
                time,
                failure,
                released,
                registered.is_some(),
                registered.and_then(|(source, ..)| source),
                registered.and_then(|(_, program, _)| program),
                registered.and_then(|(.., r1cs)| r1cs)
            ],
        )?;
        Ok(changed == 1)
    }

    /// Removes a circuit; `false` if the tenant has no such circuit.
    pub fn remove(&mut self, tenant: &TenantName, digest: [u8; 32]) -> Result<bool, DatabaseError> {
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
    ) -> Result<Option<CircuitRow>, DatabaseError> {
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
    pub fn list(&self, tenant: &TenantName) -> Result<Vec<CircuitRow>, DatabaseError> {
        let mut query = self
            .connection
            .prepare("SELECT * FROM circuits WHERE tenant = ?1 ORDER BY digest")?;
        let rows = query.query_map([tenant.as_str()], read_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The circuits of all tenants, as a start needs them.
    pub fn all(&self) -> Result<Vec<CircuitRow>, DatabaseError> {
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

stored_by_name!(Check, State);

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
        program: row.get("program")?,
        r1cs: row.get("r1cs")?,
    })
}

fn checked_at(time: Option<u64>) -> Result<Option<i64>, DatabaseError> {
    time.map(|time| signed("checked_at", time)).transpose()
}

pub(crate) const TABLE: &str = "
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

/// The step that lets circuits have a witness program.
pub(crate) const PROGRAMS: &str = "
ALTER TABLE circuits ADD COLUMN program BLOB CHECK (length(program) = 32);
";

/// The step that lets circuits have a constraint system.
pub(crate) const CONSTRAINTS: &str = "
ALTER TABLE circuits ADD COLUMN r1cs BLOB CHECK (length(r1cs) = 32);
";
