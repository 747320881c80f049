//! A large witness, through the socket onto the disk: against `cp` and an fsync of the copy.
//!
//! The client reads the file as it sends it, and the box hashes, writes and syncs it; `cp` copies the same file
//! within the same folder. Both are in this process but for `cp`, and so is what memory they take: the
//! anonymous pages that are resident, looked at every few milliseconds while bytes flow, against those
//! before. What is read and written passes through the page cache, which is the kernel's.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender, Spread};
use crate::live::{Setup, World};
use crate::record::{Case, Unit};
use crate::table::table;

/// What came out.
pub(crate) struct Uploaded {
    mib: u64,
    /// The time of `cp` and fsync over that of an upload: its speed, as a share of theirs.
    speed: Spread,
    /// By how much resident memory grew, at most.
    growth: u64,
}

impl Uploaded {
    /// Whether it is fast enough and takes little enough.
    pub(crate) fn holds(&self) -> bool {
        self.speed.median >= SPEED_MIN && self.growth <= GROWTH_MAX
    }
}

/// Measures a file of so many MiB.
pub(crate) fn upload(bench: &mut Bench, mib: u64) -> Result<Uploaded> {
    ensure!(mib > 0, "mib: expected 1 or more, got 0");
    let world = World::new(&Setup::usual(POLICY, &["only"]))?;
    let client = world.client("only")?;
    let folder = tempfile::tempdir().context("a folder")?;
    let source = folder.path().join("witness");
    write(&source, mib)?;
    let digest = client.digest_of(&source)?;
    let copy = folder.path().join("copy");
    let case = Case {
        bench: "upload",
        case: format!("{mib} MiB"),
        size: mib << 20,
        threads: bench.origin.cores,
        unit: Unit::WallMilliseconds,
        inside: Some(
            "from the file to the synced blob, with HTTP and SHA-256; the name known before",
        ),
    };
    let growth = AtomicU64::new(0);
    let contenders = vec![
        Contender::ours(
            OURS,
            (),
            |()| watched(&growth, || client.upload(&source, &digest)),
            // So that the next round stores it anew.
            |()| client.remove(&digest).map(|()| Answer::Verified),
        ),
        Contender::ours(
            "cp and fsync",
            RefCell::new(copy),
            |copy: &mut RefCell<PathBuf>| copied(&source, copy.get_mut()),
            |copy| {
                std::fs::remove_file(&*copy.borrow())?;
                Ok(Answer::Verified)
            },
        ),
    ];
    let runs = bench.case(&case, contenders)?;
    world.stop();
    Ok(Uploaded {
        mib,
        speed: runs[1].wall_ratio(&runs[0]),
        growth: growth.into_inner(),
    })
}

/// The figures as a table.
pub(crate) fn of_uploaded(uploaded: &Uploaded) -> String {
    let s = uploaded.speed;
    let rows = vec![vec![
        format!("{} MiB", uploaded.mib),
        format!("{:.2} ({:.2}..{:.2})", s.median, s.low, s.high),
        format!("{:.1} MiB", uploaded.growth as f64 / f64::from(1 << 20)),
    ]];
    table(
        &["upload", "speed, of that of cp and fsync", "memory grew by"],
        &rows,
    )
}

/// Writes a file of bytes that no file system makes shorter.
pub(crate) fn write(path: &Path, mib: u64) -> Result<()> {
    let mut file = File::create(path).context("a file")?;
    let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut piece = vec![0; 1 << 20];
    for _ in 0..mib {
        for bytes in piece.chunks_exact_mut(8) {
            // Marsaglia's xorshift.
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        file.write_all(&piece)?;
    }
    Ok(file.sync_all()?)
}

fn copied(source: &Path, copy: &Path) -> Result<()> {
    let status = Command::new("cp").arg(source).arg(copy).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(File::open(copy)?.sync_all()?)
}

/// Does something, and notes by how much memory grew meanwhile if it was more than before.
fn watched(growth: &AtomicU64, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = anonymous()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let now = anonymous()?;
                growth.fetch_max(now.saturating_sub(before), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
            Ok(())
        });
        let worked = work();
        done.store(true, Ordering::Relaxed);
        look.join()
            .unwrap_or_else(|_| anyhow::bail!("the look-out panicked"))?;
        worked
    })
}

/// Resident bytes that are no file's.
fn anonymous() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(number.context("/proc/self/status has no RssAnon")? << 10)
}

const POLICY: &str = "
[classes.only]
value = 1
guarantee_percent = 0
";
const SPEED_MIN: f64 = 0.5;
const GROWTH_MAX: u64 = 16 << 20;
const LOOK_EVERY: Duration = Duration::from_millis(5);
