//! The journal of the registry: what is written comes back in its order, with the jobs of the same group or not at
//! all; and whoever alters, drops or adds a row with a tool of their own is found, by the row's number.

use caldera_store::database::{Database, DatabaseError};
use caldera_store::jobs::JobWrite;
use caldera_store::registry::{JournalError, RegistryRow};
use rusqlite::Connection;

fn row(sequence: u64) -> RegistryRow {
    RegistryRow {
        sequence,
        change: vec![sequence as u8; 9],
    }
}

/// Jobs and changes, all or none.
fn write(
    store: &mut Database,
    jobs: &[JobWrite],
    rows: &[RegistryRow],
) -> Result<(), DatabaseError> {
    let group = store.group()?;
    for job in jobs {
        group.job(job)?;
    }
    group.registry(rows)?;
    group.commit()
}

/// A journal of five changes.
fn written() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("caldera.sqlite");
    let mut store = Database::open(&path).expect("a store");
    write(&mut store, &[], &[row(1), row(2)]).expect("written");
    write(&mut store, &[], &[row(3)]).expect("written");
    write(&mut store, &[], &[row(4), row(5)]).expect("written");
    (folder, path)
}

#[test]
fn changes_come_back_in_their_order() {
    let (_folder, path) = written();
    let store = Database::open(&path).expect("a store");
    let expected: Vec<_> = (1..=5).map(|it| row(it).change).collect();
    assert_eq!(store.registry().expect("whole"), expected);
    let id = store.box_id().expect("an id");
    drop(store);
    let again = Database::open(&path).expect("a store");
    assert_eq!(again.box_id().expect("the same id"), id);
    let (_other, path) = written();
    let other = Database::open(&path).expect("a store");
    assert_ne!(other.box_id().expect("another id"), id);
}

#[test]
fn a_row_follows_the_last_one_or_nothing_of_its_group_is_written() {
    let (_folder, path) = written();
    let mut store = Database::open(&path).expect("a store");
    // What is tried again may be there already.
    write(&mut store, &[], &[row(5), row(6)]).expect("the same again");
    let other = RegistryRow {
        sequence: 6,
        change: vec![0],
    };
    for rows in [vec![row(8)], vec![row(7), row(9)], vec![other]] {
        let forget = JobWrite::Forget { job: 1 };
        let refused = write(&mut store, &[forget], &rows);
        assert!(
            matches!(refused, Err(DatabaseError::Sequence { .. })),
            "{rows:?}: {refused:?}"
        );
        assert_eq!(store.registry().expect("whole").len(), 6);
    }
}

#[test]
fn nobody_changes_a_row_without_being_found() {
    let triggers = "DROP TRIGGER registry_stays; DROP TRIGGER registry_is_not_changed;";
    let damages = [
        ("UPDATE registry SET change = x'00' WHERE sequence = 3", 3),
        (
            "UPDATE registry SET check_sum = zeroblob(32) WHERE sequence = 5",
            5,
        ),
        ("DELETE FROM registry WHERE sequence = 1", 1),
        ("DELETE FROM registry WHERE sequence = 4", 4),
        (
            "INSERT INTO registry SELECT 6, change, check_sum FROM registry WHERE sequence = 5",
            6,
        ),
    ];
    for (damage, expected) in damages {
        let (_folder, path) = written();
        let outside = Connection::open(&path).expect("a database");
        if !damage.starts_with("INSERT") {
            let refused = outside.execute(damage, []).expect_err("a trigger");
            assert!(refused.to_string().contains("never"), "{refused}");
        }
        outside.execute_batch(triggers).expect("dropped");
        outside.execute(damage, []).expect("done");
        drop(outside);
        let store = Database::open(&path).expect("a store");
        let found = match store.registry() {
            Err(JournalError::Gap { expected, .. }) => expected,
            Err(JournalError::Row { sequence }) => sequence,
            other => panic!("{damage}: {other:?}"),
        };
        assert_eq!(found, expected, "{damage}");
    }
}
