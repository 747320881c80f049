//! The table of circuits through restarts, between tenants, and with files that are not ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use caldera_store::TenantName;
use caldera_store::circuits::{Change, Check, CircuitRow, State};
use caldera_store::database::{Database, DatabaseError};
use rusqlite::Connection;
use tempfile::TempDir;

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn row(name: &str, digest: u8) -> CircuitRow {
    CircuitRow {
        tenant: tenant(name),
        digest: [digest; 32],
        name: Some("semaphore-32".to_owned()),
        curve: "bn128".to_owned(),
        domain_size: 16384,
        public_count: 4,
        wires: 12_000,
        bytes: 9_000_000_000,
        development: false,
        check: Check::Full,
        checked_at: None,
        state: State::Checking,
        failure: None,
        source: Some("/srv/keys/semaphore-32.zkey".to_owned()),
        released: None,
        program: None,
        r1cs: Some([9; 32]),
    }
}

fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("caldera.sqlite");
    (folder, path)
}

#[test]
fn a_restart_knows_the_circuits_and_their_checks() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    assert!(table.insert(&row("alice", 1)).unwrap());
    assert!(table.insert(&row("alice", 2)).unwrap());
    assert!(table.insert(&row("bob", 1)).unwrap());
    let passed = Change::Ready {
        checked_at: Some(1_800_000_000),
    };
    assert!(table.set_state(&tenant("alice"), [1; 32], &passed).unwrap());
    let failed = Change::Failed {
        failure: "point 3 is off its curve".to_owned(),
    };
    assert!(table.set_state(&tenant("bob"), [1; 32], &failed).unwrap());
    drop(table);

    let mut table = Database::open(&path).unwrap();
    let first = CircuitRow {
        state: State::Ready,
        checked_at: Some(1_800_000_000),
        ..row("alice", 1)
    };
    let of_bob = CircuitRow {
        state: State::Failed,
        failure: Some("point 3 is off its curve".to_owned()),
        ..row("bob", 1)
    };
    let listed = table.list(&tenant("alice")).unwrap();
    assert_eq!(listed, [first.clone(), row("alice", 2)]);
    assert_eq!(
        table.all().unwrap(),
        [first.clone(), row("alice", 2), of_bob]
    );
    // Getting ready again without a check keeps the time of the one that was made.
    let again = Change::Checking {
        source: first.source.clone(),
        program: first.program,
        r1cs: first.r1cs,
    };
    for change in [again, Change::Ready { checked_at: None }] {
        assert!(table.set_state(&tenant("alice"), [1; 32], &change).unwrap());
    }
    let found = table.find(&tenant("alice"), [1; 32]).unwrap();
    assert_eq!(found, Some(first.clone()));
    // Registered again, it has the source that was named then.
    let again = Change::Checking {
        source: None,
        program: None,
        r1cs: None,
    };
    assert!(table.set_state(&tenant("alice"), [1; 32], &again).unwrap());
    let found = table.find(&tenant("alice"), [1; 32]).unwrap();
    let elsewhere = CircuitRow {
        source: None,
        state: State::Checking,
        r1cs: None,
        ..first
    };
    assert_eq!(found, Some(elsewhere));
}

#[test]
fn a_tenant_reaches_its_own_rows_only() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    assert!(table.insert(&row("alice", 1)).unwrap());
    let bob = tenant("bob");
    assert_eq!(table.find(&bob, [1; 32]).unwrap(), None);
    assert_eq!(table.list(&bob).unwrap(), []);
    let again = Change::Checking {
        source: None,
        program: None,
        r1cs: None,
    };
    assert!(!table.set_state(&bob, [1; 32], &again).unwrap());
    assert!(!table.remove(&bob, [1; 32]).unwrap());
    assert!(table.remove(&tenant("alice"), [1; 32]).unwrap());
    assert!(!table.remove(&tenant("alice"), [1; 32]).unwrap());
    assert_eq!(table.all().unwrap(), []);
}

#[test]
fn inserting_again_changes_nothing() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    assert!(table.insert(&row("alice", 1)).unwrap());
    let other = CircuitRow {
        name: None,
        check: Check::Trusted,
        ..row("alice", 1)
    };
    assert!(!table.insert(&other).unwrap());
    assert_eq!(table.all().unwrap(), [row("alice", 1)]);
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    let large = CircuitRow {
        wires: u64::MAX,
        ..row("alice", 1)
    };
    let error = table.insert(&large).unwrap_err();
    assert!(matches!(
        error,
        DatabaseError::Number {
            column: "wires",
            got: u64::MAX
        }
    ));
    assert_eq!(table.all().unwrap(), []);
}

#[test]
fn the_file_is_private_and_durable() {
    let (folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    table.insert(&row("alice", 1)).unwrap();
    for entry in fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }
    let outside = Connection::open(&path).unwrap();
    let mode: String = outside
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
}

/// What `open` says of a file, which must be the same bytes afterwards.
fn refused(path: &Path) -> DatabaseError {
    let before = fs::read(path).unwrap();
    let error = Database::open(path).unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before);
    error
}

#[test]
fn a_newer_version_is_refused_and_left_alone() {
    let (_folder, path) = file();
    drop(Database::open(&path).unwrap());
    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 11).unwrap();
    drop(newer);
    let error = refused(&path);
    assert!(matches!(
        error,
        DatabaseError::TooNew {
            max: 10,
            got: 11,
            ..
        }
    ));
    assert!(error.to_string().contains("written by a newer one"));
}

#[test]
fn files_of_others_are_refused_and_left_alone() {
    let (folder, path) = file();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE circuits (x)").unwrap();
    drop(other);
    assert!(matches!(refused(&path), DatabaseError::Foreign { .. }));

    let text = folder.path().join("text");
    fs::write(
        &text,
        "no database, but long enough to be looked at".repeat(50),
    )
    .unwrap();
    assert!(matches!(refused(&text), DatabaseError::Sqlite(_)));

    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &link).unwrap();
    let error = Database::open(&link).unwrap_err();
    assert!(matches!(error, DatabaseError::Open { .. }));
    assert!(!folder.path().join("elsewhere").exists());
}
