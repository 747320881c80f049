//! The power fails, ten thousand times, and the store keeps what it has promised.
//!
//! A story is a run of the real store in a real folder: blobs are put, erased and removed, circuits registered,
//! groups of jobs accepted, ended and forgotten, records of a real ledger ([`life`]) appended with them, the log is cut, the box
//! starts again. What it asks
//! of the file system is recorded ([`recorder`]). Then the tape is cut anywhere, what a disk may have kept of
//! it ([`disk`]) is written out, and the store is opened there for real. At each step of a story one thing is
//! under way at most, so the jobs and the records must be exactly those before the step or those after it, both of the same, and the records executed again make the state that their head has; each blob that
//! is there in both must be there, and what is erased in both must be found in no file.
//!
//! Everything comes from the number of the story: one that fails can be told again.

mod disk;
mod life;
mod recorder;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use caldera_store::TenantName;
use caldera_store::blob::{BlobLimits, BlobStore};
use caldera_store::circuits::{Check, CircuitRow, State};
use caldera_store::database::Database;
use caldera_store::jobs::{EndState, JobEnd, JobRow, JobWrite, Written};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zeroize::Zeroizing;

use disk::{Chance, Disk, Syncs};
use life::{Found, LIFE};
use recorder::{Op, be_hasty, mark, record};

type Name = [u8; 32];

/// What has been promised.
#[derive(Clone, Default)]
struct Promised {
    jobs: BTreeMap<u64, JobRow>,
    circuits: BTreeSet<Name>,
    /// How many records of the ledger's there are.
    records: u64,
    /// Blobs by their digest, with what they were made of.
    blobs: BTreeMap<Name, u64>,
    /// What was erased, by what it was made of.
    erased: BTreeSet<u64>,
}

struct Story {
    tape: Vec<Op>,
    /// What holds before the first step, and after each. Mark 2n stands before step n, and 2n + 1 after it.
    promised: Vec<Promised>,
}

struct Store {
    blobs: BlobStore,
    tables: Database,
}

impl Store {
    fn open(folder: &Path) -> Result<Store, String> {
        let limits = BlobLimits {
            blob_bytes_max: 1 << 20,
            tenant_bytes_max: 1 << 30,
        };
        let blobs = BlobStore::open(&folder.join("blobs"), limits).map_err(|e| e.to_string())?;
        let tables = Database::open(&folder.join("caldera.sqlite")).map_err(|e| e.to_string())?;
        Ok(Store { blobs, tables })
    }
}

fn tenant() -> TenantName {
    "alice".parse().expect("a name")
}

/// Bytes that are like those of no other number, in each piece of 64.
fn content(number: u64) -> Vec<u8> {
    let piece = Sha256::digest(number.to_le_bytes());
    piece.repeat(30 + (number % 97) as usize)
}

fn name_of(bytes: &[u8]) -> Name {
    Sha256::digest(bytes).into()
}

fn circuit(digest: Name) -> CircuitRow {
    CircuitRow {
        tenant: tenant(),
        digest,
        name: None,
        curve: "bn128".to_owned(),
        domain_size: 8,
        public_count: 1,
        wires: 9,
        bytes: 1000,
        development: false,
        check: Check::Full,
        checked_at: None,
        state: State::Checking,
        failure: None,
        source: None,
        released: None,
        program: None,
        r1cs: None,
    }
}

/// Lives a story through and records it.
fn tell(folder: &Path, seed: u64, steps: usize, manner: Manner) -> Story {
    let mut promised = vec![Promised::default()];
    let tape = record(folder, || {
        let mut chance = Chance(seed);
        mark(0);
        let mut store = Some(Store::open(folder).expect("an empty folder"));
        let mut now = Promised::default();
        promised.push(now.clone());
        mark(1);
        for step in 1..=steps {
            mark(2 * step);
            step_on(
                &mut store,
                folder,
                &mut now,
                &mut chance,
                seed << 32 | (step as u64) << 8,
                manner,
            );
            promised.push(now.clone());
            mark(2 * step + 1);
        }
    });
    Story { tape, promised }
}

fn step_on(
    it: &mut Option<Store>,
    folder: &Path,
    now: &mut Promised,
    chance: &mut Chance,
    fresh: u64,
    manner: Manner,
) {
    let store = it.as_mut().expect("open between steps");
    match chance.below(20) {
        0..5 => {
            let bytes = content(fresh);
            let mut writer = store
                .blobs
                .begin(&tenant(), name_of(&bytes), None)
                .expect("room");
            for piece in bytes.chunks(1000) {
                writer.write(piece).expect("room");
            }
            writer.finish().expect("stored");
            now.blobs.insert(name_of(&bytes), fresh);
        }
        5..14 => {
            let (writes, expected) = group(now, chance, fresh);
            let records = now.records..now.records + chance.below(4) as u64;
            let written = write(&mut store.tables, &writes, records.clone(), manner);
            assert_eq!(written, expected);
            now.records = records.end;
        }
        14..17 => {
            let left: BTreeSet<Name> = now
                .jobs
                .values()
                .filter(|row| row.blob_left && row.end.is_some())
                .map(|row| row.witness)
                .filter(|witness| !in_use(now, *witness))
                .take(3)
                .collect();
            let names: Vec<_> = left.iter().map(|name| (tenant(), *name)).collect();
            store.blobs.erase(&names).expect("erased");
            // That the rows know of it is a step of its own.
            for name in left {
                now.erased.extend(now.blobs.remove(&name));
            }
        }
        17 => {
            let digest = name_of(&fresh.to_le_bytes());
            store.tables.insert(&circuit(digest)).expect("written");
            now.circuits.insert(digest);
        }
        18 => assert!(store.tables.checkpoint().expect("cut"), "nobody reads"),
        _ => {
            // The lock of the blobs is one holder's, so the old one has to go first.
            *it = None;
            let store = it.insert(Store::open(folder).expect("opened"));
            let rows = store.tables.resume_jobs().expect("read");
            for row in now.jobs.values_mut().filter(|row| row.end.is_none()) {
                row.attempt += 1;
            }
            assert!(rows.iter().eq(now.jobs.values()));
        }
    }
}

/// Whether records are written in the commit of the jobs that they are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    OneCommit,
    /// As it must not be.
    TwoCommits,
}

/// Writes jobs and records.
fn write(
    tables: &mut Database,
    writes: &[JobWrite],
    records: std::ops::Range<u64>,
    manner: Manner,
) -> Vec<Written> {
    let mut group = tables.group().expect("a group");
    let written = writes
        .iter()
        .map(|write| group.job(write).expect("written"));
    let written = written.collect();
    if manner == Manner::TwoCommits {
        group.commit().expect("written");
        group = tables.group().expect("a group");
    }
    for number in records.clone() {
        let (record, _) = &LIFE[number as usize];
        group
            .record(number, &record.digest, &record.bytes)
            .expect("the next");
    }
    group
        .ledger_head(&life::head(records.end))
        .expect("it rises");
    group.commit().expect("written");
    written
}

fn in_use(now: &Promised, witness: Name) -> bool {
    let needs = |row: &JobRow| row.end.is_none() && row.in_row.is_none() && row.witness == witness;
    now.jobs.values().any(needs)
}

/// A group of changes, and what becomes of each.
fn group(now: &mut Promised, chance: &mut Chance, fresh: u64) -> (Vec<JobWrite>, Vec<Written>) {
    let mut writes = Vec::new();
    let mut expected = Vec::new();
    for at in 0..1 + chance.below(8) as u64 {
        let unfinished: Vec<u64> = now
            .jobs
            .values()
            .filter(|row| row.end.is_none())
            .map(|row| row.job)
            .collect();
        let some = |jobs: &[u64], chance: &mut Chance| jobs[chance.below(jobs.len())];
        match chance.below(10) {
            0..5 => {
                let job = fresh + at;
                let bytes = content(job);
                let blobs: Vec<Name> = now.blobs.keys().copied().collect();
                let blob = (!blobs.is_empty() && chance.below(2) == 0)
                    .then(|| blobs[chance.below(blobs.len())]);
                let row = JobRow {
                    job,
                    tenant: tenant(),
                    circuit: [1; 32],
                    witness: blob.unwrap_or_else(|| name_of(&bytes)),
                    in_row: blob.is_none().then(|| Arc::new(Zeroizing::new(bytes))),
                    blob_left: blob.is_some(),
                    deadline_ms: None,
                    key: Some(job.to_string()),
                    submitted_ms: fresh,
                    attempt: 1,
                    lent: false,
                    end: None,
                };
                writes.push(JobWrite::Accept(Box::new(row.clone())));
                expected.push(Written::Done);
                now.jobs.insert(job, row);
            }
            5..8 if !unfinished.is_empty() => {
                let row = now.jobs.get_mut(&some(&unfinished, chance)).expect("a job");
                // Now and then somebody comes late.
                let late = row.attempt > 1 && chance.below(4) == 0;
                let end = JobEnd {
                    state: EndState::Proved,
                    at_ms: fresh,
                    outcome: format!("the proof of {}", row.job),
                };
                writes.push(JobWrite::End {
                    job: row.job,
                    attempt: row.attempt - u64::from(late),
                    end: end.clone(),
                });
                expected.push(if late { Written::Fenced } else { Written::Done });
                if !late {
                    (row.end, row.in_row) = (Some(end), None);
                }
            }
            8 => {
                let gone = now
                    .jobs
                    .values()
                    .find(|row| row.end.is_some() && !row.blob_left);
                if let Some(job) = gone.map(|row| row.job) {
                    writes.push(JobWrite::Forget { job });
                    expected.push(Written::Done);
                    now.jobs.remove(&job);
                }
            }
            9 => {
                let erased = now.jobs.values().find(|row| {
                    let ended = row.blob_left && row.end.is_some();
                    ended && !now.blobs.contains_key(&row.witness)
                });
                if let Some(witness) = erased.map(|row| row.witness) {
                    let tenant = tenant();
                    writes.push(JobWrite::Erased { tenant, witness });
                    expected.push(Written::Done);
                    for row in now.jobs.values_mut() {
                        row.blob_left &= row.witness != witness || row.end.is_none();
                    }
                }
            }
            _ => {}
        }
    }
    (writes, expected)
}

/// Opens what is left after a cut, and holds it against what was promised before the step that was under way
/// and after it.
fn check(folder: &Path, before: &Promised, after: &Promised) -> Result<(), String> {
    // What is erased is gone before anybody looks after it.
    for number in before.erased.intersection(&after.erased) {
        let bytes = content(*number);
        if holds(&folder.join("blobs"), &bytes[..64]) {
            return Err(format!("the blob of {number} was erased and is there"));
        }
    }
    let mut store = Store::open(folder)?;
    for (name, number) in &before.blobs {
        if after.blobs.contains_key(name) {
            let blob = store.blobs.open_blob(&tenant(), *name);
            let blob = blob.map_err(|error| format!("the blob of {number}: {error}"))?;
            if blob[..] != content(*number) {
                return Err(format!("the blob of {number} is another"));
            }
        }
    }
    for (name, _) in store.blobs.list(&tenant()) {
        let blob = store.blobs.open_blob(&tenant(), name);
        let blob = blob.map_err(|error| error.to_string())?;
        if name_of(&blob) != name {
            return Err(format!("{} is not what its name says", hex::encode(name)));
        }
        if !before.blobs.contains_key(&name) && !after.blobs.contains_key(&name) {
            return Err(format!("{} is back", hex::encode(name)));
        }
    }
    let circuits = store.tables.all().map_err(|error| error.to_string())?;
    let circuits: BTreeSet<Name> = circuits.into_iter().map(|row| row.digest).collect();
    if circuits != before.circuits && circuits != after.circuits {
        return Err(format!("circuits: {circuits:?}"));
    }
    let mut found = Found::new();
    let read = store
        .tables
        .ledger_rows(|row| found.take(row.sequence, &row.digest, &row.bytes));
    read.map_err(|error| error.to_string())?;
    let known = store.tables.ledger_head().map_err(|e| e.to_string())?;
    let records = found.state(&known)?;
    let mut rows = store.tables.resume_jobs().map_err(|e| e.to_string())?;
    let mut late = None;
    for row in rows.iter_mut().filter(|row| row.end.is_none()) {
        row.attempt -= 1;
        late = Some((row.job, row.attempt));
        if row.in_row.is_none() {
            let blob = store.blobs.open_blob(&tenant(), row.witness);
            blob.map_err(|error| format!("the witness of job {}: {error}", row.job))?;
        }
    }
    let as_in = |then: &Promised| rows.iter().eq(then.jobs.values()) && records == then.records;
    if !as_in(before) && !as_in(after) {
        let of = |then: &Promised| format!("{:?}, {} records", then.jobs.values(), then.records);
        let (before, after) = (of(before), of(after));
        return Err(format!(
            "jobs: {rows:?}, {records} records\nbefore: {before}\nafter: {after}"
        ));
    }
    if let Some((job, attempt)) = late {
        let end = JobEnd {
            state: EndState::Failed,
            at_ms: 0,
            outcome: String::new(),
        };
        let late = store
            .tables
            .write_jobs(&[JobWrite::End { job, attempt, end }]);
        if late.as_deref().ok() != Some(&[Written::Fenced]) {
            return Err(format!("a late end of job {job}: {late:?}"));
        }
    }
    Ok(())
}

fn holds(folder: &Path, needle: &[u8]) -> bool {
    let Ok(entries) = fs::read_dir(folder) else {
        return false;
    };
    entries
        .map(|entry| entry.expect("an entry").path())
        .any(|path| {
            if path.is_dir() {
                return holds(&path, needle);
            }
            let bytes = fs::read(path).expect("a file");
            bytes.windows(needle.len()).any(|window| window == needle)
        })
}

/// Cuts one story so many times; what was found wrong.
fn cut(seed: u64, cuts: usize, syncs: Syncs, manner: Manner) -> Vec<String> {
    be_hasty();
    let scratch = scratch();
    let folder = scratch.path().join("story");
    fs::create_dir(&folder).expect("a folder");
    let story = tell(&folder, seed, STEPS, manner);
    let mut chance = Chance(seed ^ 0x5eed);
    let mut places: Vec<usize> = (0..cuts)
        .map(|_| chance.below(story.tape.len() + 1))
        .collect();
    places.sort_unstable();
    let mut disk = Disk::new(syncs);
    let mut taken = 0;
    let mut last = 0;
    let mut wrong = Vec::new();
    for place in places {
        for op in &story.tape[taken..place] {
            if let Op::Mark(number) = op {
                last = *number;
            }
            disk.take(op);
        }
        taken = place;
        let left = scratch.path().join("left");
        fs::create_dir(&left).expect("a folder");
        disk.cut(&left, &mut chance);
        // Before the first mark nothing has happened.
        let step = last / 2;
        let (before, after) = match last % 2 {
            0 => (&story.promised[step], &story.promised[step + 1]),
            _ => (&story.promised[step + 1], &story.promised[step + 1]),
        };
        if let Err(error) = check(&left, before, after) {
            let of = story.tape.len();
            wrong.push(format!("story {seed}, cut at {place} of {of}: {error}"));
        }
        fs::remove_dir_all(&left).expect("removed");
    }
    wrong
}

/// In memory where that can be had: what is written here need not survive anything.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.expect("a folder")
}

/// Ten thousand cuts, on as many threads as there are cores.
#[test]
fn what_was_promised_survives_every_cut() {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            loop {
                let story = next.fetch_add(1, Ordering::Relaxed);
                if story >= STORIES {
                    return wrong;
                }
                wrong.extend(cut(
                    story as u64,
                    CUTS / STORIES,
                    Syncs::All,
                    Manner::OneCommit,
                ));
            }
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let wrong = threads
            .into_iter()
            .flat_map(|it| it.join().expect("no panic"));
        wrong.collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {CUTS}; the first: {}",
        wrong.len(),
        wrong[0]
    );
    assert!(life::counts() > 40, "{} states", life::counts());
}

/// The same with syncs that do nothing must be noticed, each kind by itself: else the cuts above show nothing.
#[test]
fn a_store_that_does_not_sync_is_found_out() {
    for syncs in [
        Syncs::WithoutTables,
        Syncs::WithoutBlobs,
        Syncs::WithoutFolders,
    ] {
        let wrong: usize = (0..4)
            .map(|story| cut(story, 50, syncs, Manner::OneCommit).len())
            .sum();
        assert!(wrong > 0, "{syncs:?}");
    }
}

/// A record that is written after the commit of its job can be missing: that must be noticed, too.
#[test]
fn a_record_apart_from_its_job_is_found_out() {
    let wrong = (0..4).flat_map(|story| cut(story, 200, Syncs::All, Manner::TwoCommits));
    let wrong: Vec<String> = wrong.collect();
    assert!(
        wrong.iter().any(|text| text.contains("records\nbefore")),
        "{wrong:?}"
    );
}

const CUTS: usize = 10_000;
const STORIES: usize = 100;
const STEPS: usize = 60;
