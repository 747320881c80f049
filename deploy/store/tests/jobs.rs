//! Rows of jobs through restarts: what is accepted, who may end it, and what is left of a witness.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use caldera_store::database::{Database, DatabaseError};
use caldera_store::jobs::{EndState, JobEnd, JobRow, JobWrite, Written};
use rusqlite::Connection;
use tempfile::TempDir;
use zeroize::Zeroizing;

fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("caldera.sqlite");
    (folder, path)
}

fn row(job: u64) -> JobRow {
    JobRow {
        job,
        tenant: "alice".parse().unwrap(),
        circuit: [1; 32],
        witness: [2; 32],
        in_row: None,
        blob_left: true,
        deadline_ms: Some(5000),
        key: Some(format!("batch-{job}")),
        submitted_ms: 1_800_000_000_000,
        attempt: 1,
        lent: false,
        end: None,
    }
}

fn accept(row: &JobRow) -> JobWrite {
    JobWrite::Accept(Box::new(row.clone()))
}

fn proved() -> JobEnd {
    JobEnd {
        state: EndState::Proved,
        at_ms: 1_800_000_000_500,
        outcome: "{\"proof\":1}".to_owned(),
    }
}

fn end(job: u64, attempt: u64) -> JobWrite {
    let end = proved();
    JobWrite::End { job, attempt, end }
}

#[test]
fn a_restart_knows_jobs_in_their_order_and_begins_a_new_attempt_of_the_unfinished() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    let in_row = JobRow {
        in_row: Some(Arc::new(Zeroizing::new(vec![9; 65_536]))),
        blob_left: false,
        deadline_ms: None,
        key: None,
        ..row(7)
    };
    let writes = [accept(&row(9)), accept(&in_row), accept(&row(8)), end(8, 1)];
    assert_eq!(table.write_jobs(&writes).unwrap(), [Written::Done; 4]);
    drop(table);

    let mut table = Database::open(&path).unwrap();
    let ended = JobRow {
        end: Some(proved()),
        ..row(8)
    };
    let again = |row: JobRow| JobRow { attempt: 2, ..row };
    let expected = [again(in_row.clone()), ended.clone(), again(row(9))];
    assert_eq!(table.resume_jobs().unwrap(), expected);

    let bob = "bob".parse().unwrap();
    assert_eq!(table.find_job(&bob, 8).unwrap(), None);
    let forget = JobWrite::Forget { job: 8 };
    let forgot = table.write_jobs(&[forget.clone(), forget]).unwrap();
    assert_eq!(forgot, [Written::Done, Written::Fenced]);
    assert_eq!(table.find_job(&ended.tenant, 8).unwrap(), None);
}

/// Every old holder of a job is late, however it ended and whoever ended it.
#[test]
fn an_older_attempt_cannot_touch_a_jobs_new_life() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    table.write_jobs(&[accept(&row(1))]).unwrap();
    for attempt in 2..5 {
        let resumed = table.resume_jobs().unwrap();
        assert_eq!(resumed[0].attempt, attempt);
        for old in 1..attempt {
            assert_eq!(table.write_jobs(&[end(1, old)]).unwrap(), [Written::Fenced]);
        }
        // Nor one that is yet to come.
        let early = table.write_jobs(&[end(1, attempt + 1)]).unwrap();
        assert_eq!(early, [Written::Fenced]);
    }
    assert_eq!(table.write_jobs(&[end(1, 4)]).unwrap(), [Written::Done]);
    // It ends once.
    assert_eq!(table.write_jobs(&[end(1, 4)]).unwrap(), [Written::Fenced]);
    let twice = table.write_jobs(&[accept(&row(1))]).unwrap();
    assert_eq!(twice, [Written::Fenced]);
    // Nor does one key become two jobs.
    let other = JobRow {
        key: row(1).key,
        ..row(2)
    };
    assert_eq!(
        table.write_jobs(&[accept(&other)]).unwrap(),
        [Written::Fenced]
    );
}

/// A job that is lent keeps its attempt through starts, and ends in that attempt alone; taken back, it has a newer one, and whoever
/// had it is late.
#[test]
fn what_is_lent_stays_lent_until_it_ends_or_is_taken_back() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    let lend = |job, attempt| JobWrite::Lend { job, attempt };
    let recall = |job, attempt| JobWrite::Recall { job, attempt };
    table
        .write_jobs(&[accept(&row(1)), accept(&row(2)), accept(&row(3))])
        .unwrap();
    let wrote = |table: &mut Database, write: JobWrite| table.write_jobs(&[write]).unwrap()[0];
    for early in [1, 3] {
        assert_eq!(wrote(&mut table, lend(1, early)), Written::Fenced);
    }
    assert_eq!(wrote(&mut table, lend(1, 2)), Written::Done);
    assert_eq!(wrote(&mut table, lend(2, 2)), Written::Done);
    // It is lent once, and what is at home is not taken back.
    assert_eq!(wrote(&mut table, lend(1, 3)), Written::Fenced);
    assert_eq!(wrote(&mut table, recall(3, 2)), Written::Fenced);
    drop(table);

    let mut table = Database::open(&path).unwrap();
    let resumed = table.resume_jobs().unwrap();
    let stands: Vec<_> = resumed.iter().map(|it| (it.attempt, it.lent)).collect();
    assert_eq!(stands, [(2, true), (2, true), (2, false)]);
    assert_eq!(wrote(&mut table, end(1, 1)), Written::Fenced);
    assert_eq!(wrote(&mut table, end(1, 2)), Written::Done);
    // What has ended is at home.
    assert_eq!(wrote(&mut table, recall(1, 3)), Written::Fenced);
    let ended = table.find_job(&row(1).tenant, 1).unwrap().unwrap();
    assert_eq!((ended.lent, ended.end), (false, Some(proved())));

    assert_eq!(wrote(&mut table, recall(2, 3)), Written::Done);
    assert_eq!(wrote(&mut table, end(2, 2)), Written::Fenced);
    assert_eq!(table.resume_jobs().unwrap()[1].attempt, 4);
    assert_eq!(wrote(&mut table, end(2, 4)), Written::Done);
}

/// A file as version 9 made it, with jobs in it: all of them are at home.
#[test]
fn jobs_of_the_version_before_are_at_home() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    table
        .write_jobs(&[accept(&row(1)), accept(&row(2)), end(1, 1)])
        .unwrap();
    drop(table);
    let old = Connection::open(&path).unwrap();
    old.execute_batch("ALTER TABLE jobs DROP COLUMN lent; PRAGMA user_version = 9")
        .unwrap();
    drop(old);
    let mut table = Database::open(&path).unwrap();
    let resumed = table.resume_jobs().unwrap();
    let stands: Vec<_> = resumed.iter().map(|it| (it.attempt, it.lent)).collect();
    assert_eq!(stands, [(1, false), (2, false)]);
    // What has ended is never lent, whoever writes the row.
    drop(table);
    let outside = Connection::open(&path).unwrap();
    assert!(
        outside
            .execute("UPDATE jobs SET lent = 1 WHERE job = 1", [])
            .is_err()
    );
    assert_eq!(
        outside.execute("UPDATE jobs SET lent = 1 WHERE job = 2", []),
        Ok(1)
    );
}

/// Looks for a witness in every byte of every file.
#[test]
fn nothing_of_a_witness_is_left_once_its_job_has_ended() {
    let (folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    // Long enough to fill pages of their own, and recognisable anywhere.
    let secret = b"a witness that nobody may ever read again. ".repeat(1000);
    let needle = &secret[..40];
    let held = |folder: &Path| {
        let found = |file: &Path| {
            let bytes = fs::read(file).unwrap();
            bytes.windows(needle.len()).any(|window| window == needle)
        };
        let files = fs::read_dir(folder).unwrap();
        files
            .filter(|file| found(&file.as_ref().unwrap().path()))
            .count()
    };
    for job in 0..20 {
        let row = JobRow {
            in_row: Some(Arc::new(Zeroizing::new(secret.clone()))),
            blob_left: false,
            ..row(job)
        };
        table.write_jobs(&[accept(&row)]).unwrap();
    }
    assert!(held(folder.path()) > 0);
    for job in 0..20 {
        table.write_jobs(&[end(job, 1)]).unwrap();
    }
    table.checkpoint().unwrap();
    assert_eq!(held(folder.path()), 0);
    assert_eq!(table.resume_jobs().unwrap().len(), 20);
}

/// The limit is SQLite's own, so what it says is what a full disk makes it say.
#[test]
fn a_full_file_refuses_all_of_a_group_and_keeps_what_it_has() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    table.write_jobs(&[accept(&row(1))]).unwrap();
    table.limit_bytes(0).unwrap();
    let large = JobRow {
        in_row: Some(Arc::new(Zeroizing::new(vec![1; 60_000]))),
        ..row(3)
    };
    let group = [accept(&row(2)), accept(&large)];
    let error = table.write_jobs(&group).unwrap_err();
    assert!(matches!(error, DatabaseError::NoSpace), "{error}");
    let tenant = row(1).tenant;
    assert_eq!(table.find_job(&tenant, 1).unwrap(), Some(row(1)));
    assert_eq!(table.find_job(&tenant, 2).unwrap(), None);
    // What needs no room is written; and with room again, all is.
    assert_eq!(table.write_jobs(&[end(1, 1)]).unwrap(), [Written::Done]);
    table.limit_bytes(u64::MAX).unwrap();
    assert_eq!(table.write_jobs(&group).unwrap(), [Written::Done; 2]);
}

#[test]
fn a_damaged_page_is_told_and_the_rest_is_served() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    for job in 0..200 {
        let row = JobRow {
            in_row: Some(Arc::new(Zeroizing::new(vec![1; 3000]))),
            ..row(job)
        };
        table.write_jobs(&[accept(&row)]).unwrap();
    }
    table.checkpoint().unwrap();
    drop(table);
    let page = 4096;
    let mut bytes = fs::read(&path).unwrap();
    // The root of the table stays; a page below it is overwritten.
    let leaf = bytes.len() / page / 2 * page;
    bytes[leaf..leaf + page].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let mut table = Database::open(&path).unwrap();
    let error = table.resume_jobs().unwrap_err();
    assert!(matches!(error, DatabaseError::Damaged(_)), "{error}");
    assert_eq!(table.all().unwrap(), []);
}

#[test]
fn a_file_without_jobs_is_brought_up_to_date() {
    let (_folder, path) = file();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("version_1.sql")).unwrap();
    drop(old);
    let mut table = Database::open(&path).unwrap();
    assert_eq!(table.resume_jobs().unwrap(), []);
    assert_eq!(
        table.write_jobs(&[accept(&row(1))]).unwrap(),
        [Written::Done]
    );
    assert_eq!(table.all().unwrap().len(), 1);
}
