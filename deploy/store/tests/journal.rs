//! The ledger's journal: what is written is there in its order, and nothing that opens the file can change it.

use std::path::PathBuf;

use caldera_store::database::{Database, DatabaseError};
use caldera_store::jobs::{JobWrite, Written};
use caldera_store::ledger::{LedgerHead, LedgerParty, LedgerRow};
use rusqlite::Connection;
use tempfile::TempDir;

fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("caldera.sqlite");
    (folder, path)
}

fn row(sequence: u64) -> LedgerRow {
    LedgerRow {
        sequence,
        digest: [sequence as u8; 32],
        bytes: format!("record {sequence}").into_bytes(),
    }
}

fn append(database: &mut Database, rows: &[LedgerRow]) -> Result<(), DatabaseError> {
    let group = database.group()?;
    for row in rows {
        group.record(row.sequence, &row.digest, &row.bytes)?;
    }
    group.ledger_head(&head(rows.last().map_or(0, |last| last.sequence + 1)))?;
    group.commit()
}

fn head(records: u64) -> LedgerHead {
    LedgerHead {
        records,
        digest: [1; 32],
        state: [2; 32],
    }
}

fn rows(database: &Database) -> Vec<LedgerRow> {
    let mut rows = Vec::new();
    database
        .ledger_rows(|row| {
            rows.push(row);
            true
        })
        .unwrap();
    rows
}

#[test]
fn records_are_there_in_their_order_and_for_readers_too() {
    let (_folder, path) = file();
    let mut database = Database::open(&path).unwrap();
    assert_eq!(database.ledger_head().unwrap(), LedgerHead::default());
    append(&mut database, &[row(0), row(1)]).unwrap();
    append(&mut database, &[row(2)]).unwrap();
    let all = [row(0), row(1), row(2)];
    let reader = Database::open_to_read(&path).unwrap();
    assert_eq!(rows(&reader), all);
    assert_eq!(reader.ledger_head().unwrap(), head(3));
    let mut first = Vec::new();
    let one = |row| {
        first.push(row);
        false
    };
    reader.ledger_rows(one).unwrap();
    assert_eq!(first, all[..1]);
    drop((database, reader));
    // Nobody has it open.
    let reader = Database::open_to_read(&path).unwrap();
    assert_eq!(rows(&reader), all);
}

/// An audit of a long journal took minutes, and for as long the log could not be cut and grew.
#[test]
fn a_long_journal_is_read_without_holding_the_log() {
    let (_folder, path) = file();
    let mut database = Database::open(&path).unwrap();
    let all: Vec<_> = (0..2_500).map(row).collect();
    append(&mut database, &all).unwrap();
    let reader = Database::open_to_read(&path).unwrap();
    let mut read = Vec::new();
    let mut cut = true;
    reader
        .ledger_rows(|row| {
            read.push(row);
            if read.len() % 700 == 0 {
                append(
                    &mut database,
                    &[self::row(all.len() as u64 + read.len() as u64 / 700 - 1)],
                )
                .unwrap();
                cut &= database.checkpoint().unwrap();
            }
            true
        })
        .unwrap();
    assert!(cut, "a reader held the log");
    assert_eq!(read[..all.len()], all);
    // Of those that came meanwhile, the two that came before the last page.
    assert_eq!(read.len(), 2_502);
}

#[test]
fn a_record_has_the_number_after_the_last() {
    let (_folder, path) = file();
    let mut database = Database::open(&path).unwrap();
    append(&mut database, &[row(1)]).unwrap_err();
    append(&mut database, &[row(0)]).unwrap();
    for wrong in [0, 2] {
        append(&mut database, &[row(wrong)]).unwrap_err();
    }
    // All or none.
    append(&mut database, &[row(1), row(3)]).unwrap_err();
    assert_eq!(rows(&database), [row(0)]);
    assert_eq!(database.ledger_head().unwrap(), head(1));
    // The head does not fall.
    let group = database.group().unwrap();
    group.ledger_head(&head(0)).unwrap_err();
}

#[test]
fn nothing_changes_a_record() {
    let (_folder, path) = file();
    let mut database = Database::open(&path).unwrap();
    append(&mut database, &[row(0), row(1)]).unwrap();
    drop(database);
    let other = Connection::open(&path).unwrap();
    for change in [
        "UPDATE ledger SET record = x'00' WHERE sequence = 1",
        "UPDATE ledger SET sequence = 5 WHERE sequence = 1",
        "DELETE FROM ledger WHERE sequence = 1",
        "INSERT OR REPLACE INTO ledger VALUES (1, zeroblob(32), x'00')",
        "UPDATE ledger_head SET records = 1",
        "DELETE FROM ledger_head",
    ] {
        let refused = other.execute(change, []).unwrap_err().to_string();
        assert!(
            refused.contains("never") || refused.contains("after the last"),
            "{change}: {refused}"
        );
    }
    assert_eq!(rows(&Database::open(&path).unwrap()), [row(0), row(1)]);
}

#[test]
fn a_tenant_is_one_party_that_pays_and_one_that_develops() {
    let (_folder, path) = file();
    let mut database = Database::open(&path).unwrap();
    let party = |party, developer| LedgerParty {
        tenant: "alice".parse().unwrap(),
        developer,
        party,
    };
    let group = database.group().unwrap();
    group.ledger_party(&party(7, false)).unwrap();
    group.ledger_party(&party(9, true)).unwrap();
    group.ledger_party(&party(8, true)).unwrap_err();
    // It is one group with jobs.
    let gone = group.job(&JobWrite::Forget { job: 1 }).unwrap();
    assert_eq!(gone, Written::Fenced);
    group.commit().unwrap();
    let parties = database.ledger_parties().unwrap();
    assert_eq!(parties, [party(7, false), party(9, true)]);
}

/// A reader makes nothing and changes nothing.
#[test]
fn a_reader_does_not_make_a_file() {
    let (_folder, path) = file();
    Database::open_to_read(&path).unwrap_err();
    assert!(!path.exists());
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("version_1.sql")).unwrap();
    drop(old);
    let refused = Database::open_to_read(&path).unwrap_err();
    assert!(
        matches!(refused, DatabaseError::TooOld { got: 1, .. }),
        "{refused}"
    );
}
