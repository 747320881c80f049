//! Tenants that were added while a box ran: what is written is there after the file is opened again, in full, and what is
//! forgotten is gone from every table.

use caldera_store::TenantName;
use caldera_store::circuits::{Check, CircuitRow, State};
use caldera_store::database::Database;
use caldera_store::ledger::LedgerParty;
use caldera_store::releases::ReleaseRow;
use caldera_store::tenants::TenantRow;

fn name(text: &str) -> TenantName {
    text.parse().expect("a name")
}

fn row(tenant: &str) -> TenantRow {
    TenantRow {
        tenant: name(tenant),
        scenario: "financial".into(),
        salt: [1; 16],
        before: Some(([2; 16], 1_800_000_000)),
        suspended: true,
        removed: false,
        may_read: true,
        may_submit: false,
        queue: Some(3),
        running: Some(2),
        calls: None,
        blob_bytes: Some(1 << 40),
        requests: Some(0),
    }
}

fn circuit(tenant: &str) -> CircuitRow {
    CircuitRow {
        tenant: name(tenant),
        digest: [7; 32],
        name: None,
        curve: "bn128".into(),
        domain_size: 8,
        public_count: 1,
        wires: 4,
        bytes: 100,
        development: false,
        check: Check::Full,
        checked_at: None,
        state: State::Ready,
        failure: None,
        source: None,
        released: None,
        program: None,
        r1cs: None,
    }
}

#[test]
fn what_is_written_is_there_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("caldera.sqlite");
    let mut store = Database::open(&path).expect("a store");
    let (one, mut other) = (row("a"), row("b"));
    store.put_tenant(&other).expect("written");
    store.put_tenant(&one).expect("written");
    other.before = None;
    other.removed = true;
    store.put_tenant(&other).expect("written over");
    drop(store);
    let store = Database::open(&path).expect("a store");
    assert_eq!(store.tenants().expect("read"), [one, other]);
}

#[test]
fn what_is_forgotten_is_gone_and_others_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Database::open(&folder.path().join("caldera.sqlite")).expect("a store");
    for tenant in ["a", "b"] {
        store.put_tenant(&row(tenant)).expect("written");
        store.insert(&circuit(tenant)).expect("written");
    }
    store.insert(&circuit("c")).expect("written");
    assert_eq!(
        store.tenants_with_rows().expect("read"),
        ["a", "b", "c"].map(name)
    );
    store.forget_tenant(&name("a")).expect("forgotten");
    assert_eq!(store.tenants().expect("read"), [row("b")]);
    assert_eq!(
        store.tenants_with_rows().expect("read"),
        ["b", "c"].map(name)
    );
    assert!(store.witnesses_left(&name("b")).expect("read").is_empty());

    // What a tenant gave back stays written, and its name is nobody else's for it; what it was in the ledger it is no more.
    let release = ReleaseRow {
        id: 0,
        tenant: name("b"),
        class: "social".to_owned(),
        at_ms: 2,
        quiet_since_ms: 1,
        held: 100,
        tables: 80,
        keys: 0,
        blobs: 0,
        short: 0,
        short_reason: None,
        taken_again_ms: None,
    };
    store.insert_release(&release).expect("written");
    let party = LedgerParty {
        tenant: name("b"),
        developer: false,
        party: 7,
    };
    let group = store.group().expect("begun");
    group.ledger_party(&party).expect("written");
    group.commit().expect("written");
    store.forget_tenant(&name("b")).expect("forgotten");
    assert!(store.tenants().expect("read").is_empty());
    assert!(store.ledger_parties().expect("read").is_empty());
    let left = store.tenants_with_rows().expect("read");
    assert_eq!(left, ["b", "c"].map(name));
}
