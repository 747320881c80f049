//! Blobs through kills, races, wrong content, full quotas, foreign tenants and tampered folders.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Barrier;

use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobLimits, BlobStore, Finished};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

const LIMITS: BlobLimits = BlobLimits {
    blob_bytes_max: 1000,
    tenant_bytes_max: 1500,
};

struct World {
    folder: TempDir,
    store: BlobStore,
    alice: TenantName,
    bob: TenantName,
}

fn world() -> World {
    let folder = TempDir::new().unwrap();
    World {
        store: BlobStore::open(folder.path(), LIMITS).unwrap(),
        folder,
        alice: "alice".parse().unwrap(),
        bob: "bob".parse().unwrap(),
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn put(store: &BlobStore, tenant: &TenantName, bytes: &[u8]) -> Result<Finished, BlobError> {
    let mut writer = store.begin(tenant, digest(bytes), Some(bytes.len() as u64))?;
    writer.write(bytes)?;
    writer.finish()
}

impl World {
    fn path(&self, tenant: &TenantName, bytes: &[u8]) -> PathBuf {
        let folder = self.folder.path().join("tenants").join(tenant.as_str());
        folder.join(hex::encode(digest(bytes)))
    }

    /// Every file of the store but its lock.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else if !path.ends_with("lock") {
                    files.push(path);
                }
            }
        }
        let mut files = Vec::new();
        walk(self.folder.path(), &mut files);
        files
    }
}

#[test]
fn what_was_written_is_read() {
    let world = world();
    let bytes = b"a key".as_slice();
    assert_eq!(
        put(&world.store, &world.alice, bytes).unwrap(),
        Finished::Created
    );
    assert_eq!(
        world.store.length(&world.alice, digest(bytes)).unwrap(),
        Some(5)
    );
    let blob = world.store.open_blob(&world.alice, digest(bytes)).unwrap();
    assert_eq!(&*blob, bytes);
    let shared = blob.into_bytes();
    let part = shared.slice(2..);
    drop(shared);
    assert_eq!(part, b"key".as_slice());

    let metadata = fs::metadata(world.path(&world.alice, bytes)).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o400);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(world.folder.path()), 0o700);
    assert_eq!(mode(&world.folder.path().join("tenants/alice")), 0o700);
}

#[test]
fn an_empty_blob_is_a_blob() {
    let world = world();
    assert_eq!(
        put(&world.store, &world.alice, b"").unwrap(),
        Finished::Created
    );
    let blob = world.store.open_blob(&world.alice, digest(b"")).unwrap();
    assert!(blob.into_bytes().is_empty());
}

#[test]
fn another_tenant_has_nothing_of_it() {
    let world = world();
    let bytes = b"a witness".as_slice();
    put(&world.store, &world.alice, bytes).unwrap();
    let unknown = world.store.open_blob(&world.bob, digest(bytes));
    assert!(matches!(unknown, Err(BlobError::Unknown)));
    assert_eq!(world.store.length(&world.bob, digest(bytes)).unwrap(), None);
    assert!(!world.store.remove(&world.bob, digest(bytes)).unwrap());
    assert_eq!(world.store.usage(&world.bob), 0);
    assert_eq!(world.store.list(&world.bob), []);
    // Storing the same content tells nothing either: for this tenant it is new.
    assert_eq!(
        put(&world.store, &world.bob, bytes).unwrap(),
        Finished::Created
    );
    assert!(world.store.remove(&world.bob, digest(bytes)).unwrap());
    assert!(world.store.open_blob(&world.alice, digest(bytes)).is_ok());
}

#[test]
fn wrong_content_leaves_nothing() {
    let world = world();
    let mut writer = world
        .store
        .begin(&world.alice, digest(b"right"), None)
        .unwrap();
    writer.write(b"wrong").unwrap();
    assert_eq!(world.store.usage(&world.alice), 5);
    match writer.finish() {
        Err(BlobError::Digest { expected, got }) => {
            assert_eq!((expected, got), (digest(b"right"), digest(b"wrong")));
        }
        other => panic!("{other:?}"),
    }
    for (length, bytes) in [(6, b"right".as_slice()), (4, b"righ")] {
        let mut writer = world
            .store
            .begin(&world.alice, digest(b"right"), Some(length))
            .unwrap();
        writer.write(bytes).unwrap();
        assert!(writer.finish().is_err());
    }
    let mut writer = world
        .store
        .begin(&world.alice, digest(b"right"), Some(4))
        .unwrap();
    let error = writer.write(b"right").unwrap_err();
    assert!(matches!(
        error,
        BlobError::Length {
            expected: 4,
            got: 5
        }
    ));
    drop(writer);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    assert_eq!(world.store.usage(&world.alice), 0);
}

#[test]
fn a_dropped_writer_leaves_nothing() {
    let world = world();
    let mut writer = world
        .store
        .begin(&world.alice, digest(b"x"), Some(900))
        .unwrap();
    writer.write(&[0; 500]).unwrap();
    assert_eq!(world.files().len(), 1);
    assert_eq!(world.store.usage(&world.alice), 900);
    drop(writer);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
    assert_eq!(world.store.usage(&world.alice), 0);
}

#[test]
fn limits_hold_for_what_is_announced_and_for_what_comes() {
    let world = world();
    let begin = |length| world.store.begin(&world.alice, [0; 32], length);
    let too_long = begin(Some(1001)).unwrap_err();
    assert!(matches!(
        too_long,
        BlobError::TooLong {
            max: 1000,
            got: 1001
        }
    ));
    let mut writer = begin(None).unwrap();
    writer.write(&[0; 1000]).unwrap();
    assert!(matches!(writer.write(&[0]), Err(BlobError::TooLong { .. })));

    // Together they may have 1,500, whether announced or not, whether stored or not.
    let quota = begin(Some(501)).unwrap_err();
    assert!(matches!(
        quota,
        BlobError::Quota {
            max: 1500,
            used: 1000,
            wanted: 501
        }
    ));
    let mut second = begin(None).unwrap();
    second.write(&[0; 500]).unwrap();
    assert!(matches!(second.write(&[0]), Err(BlobError::Quota { .. })));
    drop((writer, second));
    put(&world.store, &world.alice, &[1; 1000]).unwrap();
    assert!(put(&world.store, &world.alice, &[2; 501]).is_err());
    put(&world.store, &world.alice, &[2; 500]).unwrap();
    // Another tenant has its own, and what is removed is free again.
    put(&world.store, &world.bob, &[1; 1000]).unwrap();
    assert!(
        world
            .store
            .remove(&world.alice, digest(&[1; 1000]))
            .unwrap()
    );
    assert_eq!(world.store.usage(&world.alice), 500);
    put(&world.store, &world.alice, &[3; 1000]).unwrap();
}

#[test]
fn storing_again_costs_nothing() {
    let world = world();
    put(&world.store, &world.alice, &[1; 700]).unwrap();
    for _ in 0..3 {
        assert_eq!(
            put(&world.store, &world.alice, &[1; 700]).unwrap(),
            Finished::AlreadyThere
        );
    }
    assert_eq!(world.store.usage(&world.alice), 700);
    let listed = world.store.list(&world.alice);
    assert_eq!(listed, [(digest(&[1; 700]), 700)]);
    assert_eq!(world.files().len(), 1);
}

/// A kill leaves files in `incoming`, and a store that was filled before.
#[test]
fn a_restart_sweeps_what_was_not_finished_and_counts_what_was() {
    let World {
        folder,
        store,
        alice,
        ..
    } = world();
    put(&store, &alice, b"kept").unwrap();
    let mut writer = store.begin(&alice, digest(b"lost"), None).unwrap();
    writer.write(b"los").unwrap();
    // As after a kill: nothing is dropped in order, but the kernel frees the lock.
    let left_over = folder.path().join("incoming/7");
    fs::write(&left_over, b"from an earlier life").unwrap();
    fs::set_permissions(&left_over, Permissions::from_mode(0o400)).unwrap();
    drop((writer, store));

    let store = BlobStore::open(folder.path(), LIMITS).unwrap();
    assert_eq!(
        fs::read_dir(folder.path().join("incoming"))
            .unwrap()
            .count(),
        0
    );
    assert_eq!(store.usage(&alice), 4);
    assert_eq!(store.list(&alice), [(digest(b"kept"), 4)]);
    assert_eq!(&*store.open_blob(&alice, digest(b"kept")).unwrap(), b"kept");
    assert_eq!(store.length(&alice, digest(b"lost")).unwrap(), None);
}

#[test]
fn one_process_has_the_folder() {
    let world = world();
    let second = BlobStore::open(world.folder.path(), LIMITS);
    assert!(matches!(second, Err(BlobError::Locked { .. })));
    let clone = world.store.clone();
    drop(world.store);
    assert!(BlobStore::open(world.folder.path(), LIMITS).is_err());
    drop(clone);
    assert!(BlobStore::open(world.folder.path(), LIMITS).is_ok());
}

#[test]
fn writers_of_the_same_content_race_without_harm() {
    let world = world();
    let bytes = &[5; 100];
    let barrier = Barrier::new(8);
    let created = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut writer = world
                        .store
                        .begin(&world.alice, digest(bytes), None)
                        .unwrap();
                    writer.write(bytes).unwrap();
                    barrier.wait();
                    writer.finish().unwrap() == Finished::Created
                })
            })
            .collect();
        let created = writers.into_iter().map(|writer| writer.join().unwrap());
        created.filter(|created| *created).count()
    });
    assert_eq!(created, 1);
    assert_eq!(world.store.usage(&world.alice), 100);
    assert_eq!(world.files().len(), 1);
}

#[test]
fn what_is_mapped_outlives_its_removal() {
    let world = world();
    put(&world.store, &world.alice, &[7; 900]).unwrap();
    let blob = world
        .store
        .open_blob(&world.alice, digest(&[7; 900]))
        .unwrap();
    assert!(world.store.remove(&world.alice, digest(&[7; 900])).unwrap());
    assert!(!world.store.remove(&world.alice, digest(&[7; 900])).unwrap());
    assert!(blob.iter().all(|byte| *byte == 7));
    assert_eq!(world.store.list(&world.alice), []);
    assert_eq!(world.files(), Vec::<PathBuf>::new());
}

/// Links and other files in the place of ours are refused, never followed.
#[test]
fn tampered_folders_are_refused() {
    let world = world();
    let secret = b"of bob".as_slice();
    put(&world.store, &world.bob, secret).unwrap();
    put(&world.store, &world.alice, b"own").unwrap();

    let foreign = |outcome: Result<(), BlobError>| {
        assert!(
            matches!(outcome, Err(BlobError::Foreign { .. })),
            "{outcome:?}"
        );
    };
    let open =
        |store: &BlobStore, bytes: &[u8]| store.open_blob(&world.alice, digest(bytes)).map(|_| ());
    // A link to a blob of another tenant.
    let link = world.path(&world.alice, secret);
    symlink(world.path(&world.bob, secret), &link).unwrap();
    foreign(open(&world.store, secret));
    foreign(put(&world.store, &world.alice, secret).map(|_| ()));
    foreign(world.store.remove(&world.alice, digest(secret)).map(|_| ()));
    fs::remove_file(&link).unwrap();
    // A folder under the name of a blob.
    fs::create_dir(&link).unwrap();
    foreign(open(&world.store, secret));
    fs::remove_dir(&link).unwrap();

    // A link to the folder of another tenant.
    let folder = world.folder.path().join("tenants/alice");
    fs::rename(&folder, world.folder.path().join("moved")).unwrap();
    symlink(world.folder.path().join("tenants/bob"), &folder).unwrap();
    foreign(open(&world.store, secret));
    foreign(put(&world.store, &world.alice, b"new").map(|_| ()));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);

    let World {
        folder: root,
        store,
        ..
    } = world;
    drop(store);
    let reopen = || BlobStore::open(root.path(), LIMITS).map(|_| ());
    foreign(reopen());
    fs::remove_file(&folder).unwrap();
    assert!(reopen().is_ok());
    // Names that are no tenant's.
    let odd = root.path().join("tenants/Alice");
    fs::create_dir(&odd).unwrap();
    foreign(reopen());
    fs::remove_dir(&odd).unwrap();
    // A link in the place of the whole.
    let elsewhere = TempDir::new().unwrap();
    let incoming = root.path().join("incoming");
    fs::remove_dir(&incoming).unwrap();
    fs::write(elsewhere.path().join("precious"), b"x").unwrap();
    symlink(elsewhere.path(), &incoming).unwrap();
    foreign(reopen());
    assert!(elsewhere.path().join("precious").exists());
}

proptest! {
    // Each case waits for the disk a few times.
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However it is cut, what is announced is what is stored.
    #[test]
    fn pieces(
        pieces in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..60), 0..16),
        announced: bool,
    ) {
        let world = world();
        let bytes = pieces.concat();
        let length = announced.then_some(bytes.len() as u64);
        let mut writer = world.store.begin(&world.alice, digest(&bytes), length).unwrap();
        for piece in &pieces {
            writer.write(piece).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap(), Finished::Created);
        let blob = world.store.open_blob(&world.alice, digest(&bytes)).unwrap();
        prop_assert_eq!(&*blob, &bytes[..]);
        prop_assert_eq!(world.store.usage(&world.alice), bytes.len() as u64);
    }
}

/// A second name for its file shows what stands in it after it has lost the first.
#[test]
fn what_is_erased_is_overwritten_and_what_is_mapped_only_afterwards() {
    let folder = TempDir::new().unwrap();
    let limits = BlobLimits {
        blob_bytes_max: 4 << 20,
        tenant_bytes_max: 4 << 20,
    };
    let store = BlobStore::open(folder.path(), limits).unwrap();
    // More than one piece of zeros, and not a whole number of them.
    let content = vec![7; (1 << 20) + 5];
    let alice: TenantName = "alice".parse().unwrap();
    let digest = digest(&content);
    let put = || put(&store, &alice, &content).unwrap();
    let path = folder
        .path()
        .join("tenants/alice")
        .join(hex::encode(digest));
    let witness = |name: &str| {
        let other = folder.path().join(name);
        fs::hard_link(&path, &other).unwrap();
        move || fs::read(&other).unwrap()
    };
    let erase = || store.erase(&[(alice.clone(), digest)]).unwrap();

    assert_eq!(put(), Finished::Created);
    let bytes = witness("first");
    erase();
    assert!(bytes() == vec![0; content.len()]);
    assert!(matches!(
        store.open_blob(&alice, digest),
        Err(BlobError::Unknown)
    ));
    assert_eq!(store.usage(&alice), 0);
    assert_eq!(store.list(&alice), []);
    assert_eq!(
        fs::read_dir(folder.path().join("erasing")).unwrap().count(),
        0
    );
    // Nothing is there to be erased.
    erase();

    // Two have it mapped: it stays as it is until both have let go, and can be stored anew meanwhile.
    assert_eq!(put(), Finished::Created);
    let bytes = witness("second");
    let held = [0, 1].map(|_| store.open_blob(&alice, digest).unwrap().into_bytes());
    erase();
    assert_eq!(put(), Finished::Created);
    let [one, two] = held;
    drop(one);
    assert!(two[..] == content[..] && bytes() == content);
    drop(two);
    assert!(bytes() == vec![0; content.len()]);
    assert!(store.open_blob(&alice, digest).unwrap()[..] == content[..]);

    // A start sweeps what a kill has left.
    let bytes = witness("third");
    let held = store.open_blob(&alice, digest).unwrap();
    erase();
    std::mem::forget(held);
    assert!(bytes() == content);
    drop(store);
    let store = BlobStore::open(folder.path(), limits).unwrap();
    assert!(bytes() == vec![0; content.len()]);
    assert_eq!(store.usage(&alice), 0);
}
