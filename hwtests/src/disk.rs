//! The disk of the data folder: room, and how long a write takes until it is there to stay.
//!
//! A submission is acknowledged when it is on the disk, so this is part of every answer; one sync
//! serves all submissions that came while the one before was under way, so it bounds the delay, not the
//! number. What is written is what a journal writes: a page at a time, in a file that is there already.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use crate::report::{Finding, Line, Plot};

/// Room for keys, witnesses and the store.
pub(crate) fn space(folder: &Path) -> Result<Finding> {
    let folder = nearest(folder);
    let found = statvfs(folder).with_context(|| format!("room at {}", folder.display()))?;
    let (block, free) = (found.fragment_size(), found.blocks_available());
    let bytes = free.saturating_mul(block);
    let text = format!(
        "{:.1} GiB free at {}",
        bytes as f64 / f64::from(1u32 << 30),
        folder.display()
    );
    let finding = if bytes < FREE_MIN {
        Finding::fail(format!("{text}: no room for a key and its store"))
    } else if bytes < FREE_GOOD {
        Finding::warn(format!(
            "{text}: keys of 2^20 constraints take 0.6 GiB each"
        ))
    } else {
        Finding::pass(text)
    };
    Ok(finding.figure("free_bytes", bytes))
}

/// Writes and syncs of one page each, for the time `lasting`.
pub(crate) fn sync(folder: &Path, lasting: Duration, p99_us_max: Option<u64>) -> Result<Finding> {
    if !folder.is_dir() {
        let folder = folder.display();
        return Ok(Finding::skip(format!(
            "{folder} is not there yet; --data names another folder"
        )));
    }
    let kind =
        statfs(folder).with_context(|| format!("the file system of {}", folder.display()))?;
    if kind.filesystem_type() == TMPFS_MAGIC {
        return Ok(Finding::fail(format!(
            "{} is memory (tmpfs): nothing there outlives the machine's end",
            folder.display()
        )));
    }
    let mut file =
        tempfile::tempfile_in(folder).with_context(|| format!("a file in {}", folder.display()))?;
    let page = [0xa5; PAGE];
    file.write_all(&page.repeat(PAGES as usize))
        .and_then(|()| file.sync_all())
        .context("filling the file")?;
    let mut took = Histogram::new(3).context("a histogram of syncs")?;
    let start = Instant::now();
    while start.elapsed() < lasting || took.len() < WRITES_MIN {
        let begin = Instant::now();
        file.seek(SeekFrom::Start((took.len() % PAGES) * PAGE as u64))
            .and_then(|_| file.write_all(&page))
            .and_then(|()| file.sync_data())
            .context("a write and its sync")?;
        let us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        took.record(us).context("recording a sync")?;
    }
    Ok(judge(&took, p99_us_max))
}

fn judge(took: &Histogram<u64>, p99_us_max: Option<u64>) -> Finding {
    let (p50, p99, max) = (
        took.value_at_quantile(0.5),
        took.value_at_quantile(0.99),
        took.max(),
    );
    let text = format!(
        "{} writes with their sync, us: p50 {p50}, p99 {p99}, max {max}",
        took.len()
    );
    let finding = if p99 > SYNC_US_MAX {
        Finding::fail(format!(
            "{text}: an acknowledgement waits longer than {} ms",
            SYNC_US_MAX / 1000
        ))
    } else if p99_us_max.is_some_and(|bound| p99 > bound) {
        let bound = p99_us_max.unwrap_or_default();
        Finding::warn(format!("{text}: the expected file allows a p99 of {bound}"))
    } else if p99 > SYNC_US_GOOD {
        Finding::warn(format!("{text}: slow for a disk that is its own"))
    } else {
        Finding::pass(text)
    };
    finding
        .figure("writes", took.len())
        .figure("p50_us", p50)
        .figure("p99_us", p99)
        .figure("max_us", max)
        .plot(Plot {
            title: "write and sync",
            x: "nines (2: 99 % are quicker)",
            y: "us",
            log: true,
            bound: Some(SYNC_US_MAX as f64),
            lines: vec![Line {
                name: "4 KiB".to_owned(),
                points: nines(took),
            }],
        })
}

/// A histogram by quantiles, ever closer to the end: (nines, value).
pub(crate) fn nines(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let last = (histogram.len().max(1) as f64).log10();
    (0..=60)
        .map(|step| f64::from(step) / 10.0)
        .take_while(|&nines| nines <= last + 0.1)
        .map(|nines| {
            let quantile = 1.0 - 10f64.powf(-nines);
            let value = histogram.value_at_quantile(quantile);
            (nines, value as f64)
        })
        .collect()
}

/// The folder, or the closest above it that is there: where it would be made.
fn nearest(folder: &Path) -> &Path {
    folder
        .ancestors()
        .find(|path| path.is_dir())
        .unwrap_or(Path::new("."))
}

const PAGE: usize = 4096;

/// 4 MiB, as SQLite's log is at its usual checkpoint.
const PAGES: u64 = 1024;

/// Fewer writes than this have no 99th percentile to speak of, more take too long on a slow disk.
const WRITES_MIN: u64 = 10;

/// A store and a key of 2^16; and a few keys of 2^20.
const FREE_MIN: u64 = 1 << 30;
const FREE_GOOD: u64 = 16 << 30;

/// A core is with its new owner within 100 ms; an answer should not wait longer for the disk.
const SYNC_US_MAX: u64 = 100_000;

/// What a single hard disk takes for a rotation or two; a solid state disk takes a tenth of it.
const SYNC_US_GOOD: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Verdict;

    #[test]
    fn bounds_of_syncs() {
        let verdict = |us: u64, expected| {
            let mut took = Histogram::new(3).expect("three digits");
            for _ in 0..100 {
                took.record(us).expect("a small value");
            }
            judge(&took, expected).verdict
        };
        assert_eq!(verdict(900, None), Verdict::Pass);
        assert_eq!(verdict(900, Some(500)), Verdict::Warn);
        assert_eq!(verdict(30_000, None), Verdict::Warn);
        assert_eq!(verdict(150_000, None), Verdict::Fail);
        assert_eq!(verdict(150_000, Some(500)), Verdict::Fail);
    }

    #[test]
    fn a_folder_that_is_not_there_is_skipped_and_its_room_is_that_above() {
        let root = tempfile::tempdir().expect("a folder of our own");
        let absent = root.path().join("a/b");
        let finding = sync(&absent, Duration::ZERO, None).expect("nothing is written");
        assert_eq!(finding.verdict, Verdict::Skip);
        let here = space(root.path()).expect("a folder that is there");
        let above = space(&absent).expect("the folder above");
        assert_ne!(here.verdict, Verdict::Skip);
        assert_eq!(above.verdict, here.verdict);
        assert_eq!(nearest(&absent), root.path());
    }
}
