//! A backup is one state, whatever goes on beside it, and comes back as it was or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use caldera_store::TenantName;
use caldera_store::backup::{BackupError, Contents, restore, save};
use caldera_store::blob::{BlobLimits, BlobStore};
use caldera_store::database::Database;
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

const LIMITS: BlobLimits = BlobLimits {
    blob_bytes_max: 1 << 20,
    tenant_bytes_max: 1 << 24,
};

/// The data folder of a box, with what keeps it open.
struct World {
    folder: tempfile::TempDir,
    blobs: BlobStore,
    _database: Database,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        fs::create_dir(&data).expect("made");
        let database = Database::open(&data.join("caldera.sqlite")).expect("opened");
        fs::create_dir(data.join("secrets")).expect("made");
        fs::write(data.join("secrets/operator.hex"), "11".repeat(32)).expect("written");
        World {
            blobs: BlobStore::open(&data.join("blobs"), LIMITS).expect("opened"),
            _database: database,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, tenant: &str, bytes: &[u8]) -> [u8; 32] {
        put(&self.blobs, tenant, bytes)
    }

    /// The database as another process has it open.
    fn rows(&self) -> Connection {
        Connection::open(self.path("data/caldera.sqlite")).expect("opened")
    }
}

fn put(blobs: &BlobStore, tenant: &str, bytes: &[u8]) -> [u8; 32] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let tenant: TenantName = tenant.parse().expect("a name");
    let length = Some(bytes.len() as u64);
    let mut writer = blobs.begin(&tenant, digest, length).expect("begun");
    writer.write(bytes).expect("written");
    writer.finish().expect("finished");
    digest
}

/// An unfinished job whose witness is that blob.
fn job(rows: &Connection, job: i64, tenant: &str, witness: &[u8; 32]) {
    let insert =
        "INSERT INTO jobs (job, tenant, circuit, witness, blob_left, submitted_ms, attempt)
        VALUES (?1, ?2, zeroblob(32), ?3, 1, 0, 1)";
    rows.execute(insert, params![job, tenant, witness])
        .expect("inserted");
}

/// All files below a folder, with what is in them.
fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(root).expect("below").display();
                all.insert(name.to_string(), fs::read(&path).expect("read"));
            }
        }
    }
    all
}

#[test]
fn what_was_saved_comes_back() {
    let world = World::new();
    let key = world.put("bank", b"a key");
    let witness = world.put("shop", b"a witness");
    job(&world.rows(), 7, "shop", &witness);
    let backup = world.path("backup");
    let contents = save(&world.path("data"), &backup, false).expect("saved");
    let expected = Contents {
        blobs: 2,
        absent: 0,
        secrets: 0,
        bytes: contents.bytes,
    };
    assert_eq!(contents, expected);
    assert!(!backup.join("secrets").exists());
    let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&backup), 0o700);
    assert_eq!(mode(&backup.join("caldera.sqlite")), 0o600);

    // Into nothing, and into an empty folder.
    fs::create_dir(world.path("empty")).expect("made");
    for name in ["nothing", "empty"] {
        let data = world.path(name);
        assert_eq!(restore(&backup, &data).expect("restored"), expected);
        assert_eq!(mode(&data), 0o700);
        let blob = data.join(format!("blobs/tenants/bank/{}", hex::encode(key)));
        assert_eq!(fs::read(&blob).expect("there"), b"a key");
        assert_eq!(mode(&blob), 0o400);
        // A box can go on with it.
        let blobs = BlobStore::open(&data.join("blobs"), LIMITS).expect("opened");
        let shop = "shop".parse().expect("a name");
        assert_eq!(blobs.length(&shop, witness).expect("looked at"), Some(9));
        Database::open(&data.join("caldera.sqlite")).expect("opened");
        let rows = Connection::open(data.join("caldera.sqlite")).expect("opened");
        let count: i64 = rows
            .query_row("SELECT count(*) FROM jobs WHERE job = 7", [], |row| {
                row.get(0)
            })
            .expect("counted");
        assert_eq!(count, 1);
        assert!(!world.path(&format!("{name}.unfinished")).exists());
    }

    let contents = save(&world.path("data"), &world.path("whole"), true).expect("saved");
    assert_eq!(contents.secrets, 1);
    restore(&world.path("whole"), &world.path("again")).expect("restored");
    let secret = world.path("again/secrets/operator.hex");
    assert_eq!(fs::read_to_string(&secret).expect("there"), "11".repeat(32));
    assert_eq!(mode(&secret), 0o600);
}

/// The list is one that the system's own tool checks.
#[test]
fn the_list_is_of_every_file() {
    let world = World::new();
    world.put("bank", b"a key");
    let backup = world.path("backup");
    save(&world.path("data"), &backup, true).expect("saved");
    let all = files(&backup);
    let list = String::from_utf8(all["SHA256SUMS"].clone()).expect("text");
    let listed: BTreeMap<&str, &str> = list
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(digest, path)| (path, digest))
        .collect();
    assert_eq!(listed.len(), all.len() - 1);
    for (path, bytes) in all.iter().filter(|(path, _)| *path != "SHA256SUMS") {
        let digest = hex::encode(Sha256::digest(bytes));
        assert_eq!(listed[path.as_str()], digest, "{path}");
    }
}

/// Whatever is wrong with a backup, nothing is restored, and nothing is left half-done.
#[test]
fn a_backup_that_is_damaged_is_refused_whole() {
    let world = World::new();
    let key = hex::encode(world.put("bank", b"a key"));
    let backup = world.path("backup");
    save(&world.path("data"), &backup, false).expect("saved");
    let blob = backup.join(format!("blobs/tenants/bank/{key}"));
    let list = backup.join("SHA256SUMS");
    let text = fs::read_to_string(&list).expect("read");
    let refused = |what: &str| -> BackupError {
        let data = world.path("refused");
        let error = restore(&backup, &data).expect_err(what);
        assert!(!data.exists(), "{what}");
        assert!(!world.path("refused.unfinished").exists(), "{what}");
        error
    };
    let change = |path: &Path, bytes: &[u8]| {
        let _ = fs::remove_file(path);
        fs::write(path, bytes).expect("written");
    };

    change(&blob, b"a kez");
    assert!(matches!(refused("a blob"), BackupError::Digest { .. }));
    fs::remove_file(&blob).expect("removed");
    assert!(matches!(refused("no blob"), BackupError::Io { .. }));
    change(&blob, b"a key");
    let stranger = backup.join("blobs/tenants/bank/stranger");
    change(&stranger, b"who?");
    assert!(matches!(refused("one more"), BackupError::Unlisted { .. }));
    fs::remove_file(&stranger).expect("removed");

    let digest = "0".repeat(64);
    for line in [
        "no digest".to_owned(),
        format!("{digest}  ../outside"),
        format!("{digest}  blobs/tenants/../../outside"),
        format!("{digest}  blobs/tenants/Bank/{digest}"),
        format!("{digest}  secrets/.ssh"),
        format!("{digest}  /etc/passwd"),
        format!("{digest} caldera.sqlite"),
    ] {
        change(&list, format!("{text}{line}\n").as_bytes());
        let error = refused(&line);
        assert!(
            matches!(error, BackupError::Line { line: 3, .. }),
            "{error}"
        );
    }
    // A database that is damaged where no digest tells: both were changed.
    let database = backup.join("caldera.sqlite");
    let whole = fs::read(&database).expect("read");
    let mut bytes = whole.clone();
    let half = bytes.len() / 2;
    bytes[half..half + 4096].fill(0xa5);
    change(&database, &bytes);
    let [before, after] = [&whole, &bytes].map(|it| hex::encode(Sha256::digest(it)));
    change(&list, text.replace(&before, &after).as_bytes());
    let error = refused("a database");
    assert!(
        matches!(
            error,
            BackupError::Unsound { .. } | BackupError::Database { .. }
        ),
        "{error}"
    );
    change(&database, &whole);
    change(&list, text.as_bytes());
    restore(&backup, &world.path("sound")).expect("restored");
}

/// Neither takes the place of anything.
#[test]
fn nothing_is_overwritten() {
    let world = World::new();
    let data = world.path("data");
    let backup = world.path("backup");
    save(&data, &backup, false).expect("saved");
    let before = files(&backup);
    let occupied =
        |answer: Result<Contents, BackupError>| matches!(answer, Err(BackupError::Occupied { .. }));
    assert!(occupied(save(&data, &backup, false)));
    assert!(occupied(restore(&backup, &data)));
    fs::write(world.path("file"), "mine").expect("written");
    assert!(occupied(save(&data, &world.path("file"), false)));
    fs::create_dir(world.path("new.unfinished")).expect("made");
    assert!(occupied(save(&data, &world.path("new"), false)));
    assert_eq!(files(&backup), before);
    let nothing = save(&world.path("elsewhere"), &world.path("new"), false);
    assert!(matches!(nothing, Err(BackupError::Missing { .. })));
    let nothing = restore(&world.path("data"), &world.path("elsewhere"));
    assert!(matches!(nothing, Err(BackupError::Missing { .. })));
}

/// A key that was given back is named by the database and is not on the box.
#[test]
fn what_the_box_does_not_have_is_counted() {
    let world = World::new();
    job(&world.rows(), 1, "bank", &[7; 32]);
    let backup = world.path("backup");
    assert_eq!(
        save(&world.path("data"), &backup, false)
            .expect("saved")
            .absent,
        1
    );
    assert_eq!(
        restore(&backup, &world.path("new"))
            .expect("restored")
            .absent,
        1
    );
}

/// Witnesses come and go while it is copied: what a backup's database names is in it, and what is in it is whole.
#[test]
fn it_is_one_state_while_the_box_works() {
    let world = World::new();
    let over = &AtomicBool::new(false);
    let (blobs, database) = (world.blobs.clone(), world.path("data/caldera.sqlite"));
    let kept = world.put("bank", b"a key that stays");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let rows = Connection::open(database).expect("opened");
            let bank: TenantName = "bank".parse().expect("a name");
            let mut number = 0;
            while !over.load(Ordering::Acquire) {
                number += 1;
                let bytes = number.to_string().repeat(4096);
                let witness = put(&blobs, "bank", bytes.as_bytes());
                job(&rows, number, "bank", &witness);
                // As the clerk does: the end is written down, then the witness is erased.
                let end = "UPDATE jobs SET state = 'proved', ended_ms = 1, outcome = '{}', blob_left = 0 WHERE job = ?1";
                rows.execute(end, params![number]).expect("updated");
                let erased = blobs.erase(&[(bank.clone(), witness)]);
                erased.expect("erased");
            }
        });
        // The writer ends too if something here fails.
        let _over = Over(over);
        for round in 0..12 {
            let backup = world.path(&format!("backup-{round}"));
            let contents = save(&world.path("data"), &backup, false).expect("saved");
            assert!(
                backup
                    .join(format!("blobs/tenants/bank/{}", hex::encode(kept)))
                    .is_file()
            );
            let restored = restore(&backup, &world.path(&format!("data-{round}")));
            assert_eq!(restored.expect("restored"), contents);
        }
    });
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
