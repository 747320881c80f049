//! What was given back stays written as it was, through restarts and in a file of the version before.

use std::path::PathBuf;

use caldera_store::TenantName;
use caldera_store::circuits::{Change, Check, CircuitRow, State};
use caldera_store::database::Database;
use caldera_store::releases::ReleaseRow;
use rusqlite::Connection;
use tempfile::TempDir;

fn tenant(name: &str) -> TenantName {
    name.parse().unwrap()
}

fn row(name: &str) -> ReleaseRow {
    ReleaseRow {
        id: 0,
        tenant: tenant(name),
        class: "social".to_owned(),
        at_ms: 1_800_000_000_000,
        quiet_since_ms: 1_799_999_400_000,
        held: 100,
        tables: 40,
        keys: 30,
        blobs: 5,
        short: 5,
        short_reason: Some("a key has no source".to_owned()),
        taken_again_ms: None,
    }
}

fn file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("caldera.sqlite");
    (folder, path)
}

#[test]
fn a_release_is_open_until_it_is_taken_again() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    assert_eq!(table.insert_release(&row("alice")).unwrap(), 1);
    assert_eq!(table.insert_release(&row("bob")).unwrap(), 2);
    assert!(table.insert_release(&row("bob")).is_err(), "one is open");
    assert_eq!(table.open_releases().unwrap(), ["alice", "bob"].map(tenant));
    assert!(
        table
            .close_release(&tenant("bob"), 1_800_000_000_500)
            .unwrap()
    );
    let open = ReleaseRow {
        id: 1,
        ..row("alice")
    };
    assert_eq!(table.group().unwrap().open_releases().unwrap(), [open]);
    assert!(
        !table
            .close_release(&tenant("bob"), 1_800_000_000_900)
            .unwrap()
    );
    let whole = ReleaseRow {
        short: 0,
        short_reason: None,
        ..row("bob")
    };
    assert_eq!(table.insert_release(&whole).unwrap(), 3);
    drop(table);

    let table = Database::open(&path).unwrap();
    let closed = ReleaseRow {
        id: 2,
        taken_again_ms: Some(1_800_000_000_500),
        ..row("bob")
    };
    let newest = ReleaseRow { id: 3, ..whole };
    let of_bob = table.releases(Some(&tenant("bob")), 10).unwrap();
    assert_eq!(of_bob, [closed.clone(), newest.clone()]);
    let first = ReleaseRow {
        id: 1,
        ..row("alice")
    };
    let all = table.releases(None, 10).unwrap();
    assert_eq!(all, [first, closed.clone(), newest.clone()]);
    assert_eq!(table.releases(None, 2).unwrap(), [closed, newest]);
    assert_eq!(table.open_releases().unwrap(), ["alice", "bob"].map(tenant));
}

#[test]
fn nothing_that_was_written_changes() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    table.insert_release(&row("alice")).unwrap();
    let too_much = ReleaseRow {
        keys: 61,
        ..row("bob")
    };
    assert!(table.insert_release(&too_much).is_err());
    // A clock that goes back makes no negative span.
    assert!(table.close_release(&tenant("alice"), 5).unwrap());
    let outside = Connection::open(&path).unwrap();
    for change in [
        "DELETE FROM releases",
        "UPDATE releases SET tables = 41",
        "UPDATE releases SET tenant = 'bob'",
        "UPDATE releases SET taken_again_ms = NULL",
        "UPDATE releases SET taken_again_ms = 1900000000000",
        "UPDATE releases SET short_reason = 'another'",
    ] {
        assert!(outside.execute(change, []).is_err(), "{change}");
    }
    let kept = ReleaseRow {
        id: 1,
        taken_again_ms: Some(1_800_000_000_000),
        ..row("alice")
    };
    assert_eq!(table.releases(None, 10).unwrap(), [kept]);
}

/// A file as version 1 made it, with a circuit in it.
#[test]
fn a_file_of_the_version_before_is_brought_up_to_date() {
    let (_folder, path) = file();
    let old = Connection::open(&path).unwrap();
    old.execute_batch(include_str!("version_1.sql")).unwrap();
    drop(old);
    for _ in 0..2 {
        let mut table = Database::open(&path).unwrap();
        let rows = table.all().unwrap();
        assert_eq!(rows.len(), 1);
        let row = &rows[0];
        assert_eq!(row.name.as_deref(), Some("semaphore-32"));
        assert_eq!((row.state, row.checked_at), (State::Ready, Some(7)));
        assert_eq!((&row.source, &row.released), (&None, &None));
        // One without a source is never given back.
        let away = Change::Released {
            verification_key: "{}".to_owned(),
        };
        assert!(table.set_state(&row.tenant, row.digest, &away).is_err());
    }
    let newer = Connection::open(&path).unwrap();
    let version: i64 = newer
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 10);
}

#[test]
fn a_key_that_is_given_back_is_known_after_a_restart() {
    let (_folder, path) = file();
    let mut table = Database::open(&path).unwrap();
    let circuit = CircuitRow {
        tenant: tenant("alice"),
        digest: [1; 32],
        name: None,
        curve: "bn128".to_owned(),
        domain_size: 16384,
        public_count: 4,
        wires: 12_000,
        bytes: 9_000_000_000,
        development: false,
        check: Check::Full,
        checked_at: Some(7),
        state: State::Ready,
        failure: None,
        source: Some("/srv/keys/a.zkey".to_owned()),
        released: None,
        program: None,
        r1cs: None,
    };
    assert!(table.insert(&circuit).unwrap());
    let away = Change::Released {
        verification_key: "{}".to_owned(),
    };
    let of = (&circuit.tenant, circuit.digest);
    assert!(table.set_state(of.0, of.1, &away).unwrap());
    drop(table);
    let mut table = Database::open(&path).unwrap();
    let given_back = CircuitRow {
        released: Some("{}".to_owned()),
        ..circuit.clone()
    };
    assert_eq!(table.find(of.0, of.1).unwrap(), Some(given_back));
    let back = Change::Ready { checked_at: None };
    assert!(table.set_state(of.0, of.1, &back).unwrap());
    assert_eq!(table.find(of.0, of.1).unwrap(), Some(circuit));
}
