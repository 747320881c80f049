//! The peak of memory while proving, against what it is made of.
//!
//! A process of our own maps a key, believes it, proves once and says what the most was that it
//! ever had resident (VmHWM in /proc/self/status: file pages and its own together). That is held
//! against 1.3 times the key file and the vectors that a proof works on, which are counted here one
//! by one from the sizes in the key's header. The three tenths are for everything else: the program
//! itself, of which the pages of its file count as well, the lanes of transforms, the allocator's
//! slack.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use caldera_kernels::Group;
use caldera_kernels::cpu::row;
use caldera_kernels::curve::{Bn254, Curve};
use caldera_kernels::field::Field;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, VectorsName};
use crate::duel::Spread;
use crate::key::Key;
use crate::process;
use crate::record::Record;
use crate::table::{figure, table};

/// What a process says of itself at its end, in bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Resident {
    /// The most that was ever resident at once.
    peak: u64,
    /// File pages that are resident now; those of a mapped key stay where they were touched.
    file: u64,
}

impl Resident {
    /// This process, now.
    pub(crate) fn here() -> Result<Resident> {
        let status =
            std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            let number = number.with_context(|| format!("/proc/self/status has no {name}"))?;
            Ok::<u64, anyhow::Error>(number << 10)
        };
        Ok(Resident {
            peak: field("VmHWM:")?,
            // A file on tmpfs counts as shared memory.
            file: field("RssFile:")? + field("RssShmem:")?,
        })
    }
}

/// The peaks of one key on one number of threads.
pub(crate) struct Peak {
    /// What was proved, for a heading.
    name: String,
    /// Bytes of the key's file.
    key: u64,
    /// The vectors that a proof works on, and their bytes.
    vectors: Vec<(&'static str, u64)>,
    /// The median of the processes.
    resident: Resident,
}

impl Peak {
    fn allowed(&self) -> f64 {
        let vectors: u64 = self.vectors.iter().map(|(_, bytes)| bytes).sum();
        KEY_SHARE * self.key as f64 + vectors as f64
    }

    /// The peak over what is allowed.
    fn ratio(&self) -> f64 {
        self.resident.peak as f64 / self.allowed()
    }

    /// Whether the peak is within what is allowed.
    pub(crate) fn holds(&self) -> bool {
        self.ratio() <= 1.0
    }
}

/// Proves in processes of their own. `at` is where the key and the witness lie, if they are files
/// already.
pub(crate) fn memory(
    bench: &mut Bench,
    key: &Key,
    at: Option<(&Path, &Path)>,
) -> Result<Vec<Peak>> {
    let folder = tempfile::tempdir().context("a folder for a key")?;
    let (zkey, witness) = match at {
        Some((zkey, witness)) => (zkey.to_owned(), witness.to_owned()),
        None => process::written_to(folder.path(), key)?,
    };
    let mut peaks = Vec::new();
    for threads in bench.threads.clone() {
        bench.say(&format!(
            "memory {}, size {}, {threads} thread(s)",
            key.name,
            key.domain()
        ));
        let mut all = Vec::new();
        for _ in 0..bench.rounds.min.min(PROCESSES) {
            all.push(prove(
                bench.vectors,
                threads,
                folder.path(),
                &zkey,
                &witness,
            )?);
        }
        all.sort_by_key(|resident| resident.peak);
        let spread = Spread::of(all.iter().map(|resident| resident.peak as f64));
        let peak = Peak {
            name: format!(
                "{}, 2^{}, {threads} thread(s)",
                key.name,
                key.domain().ilog2()
            ),
            key: key.file.len() as u64,
            vectors: vectors(key, bench.vectors, threads),
            resident: all[all.len() / 2],
        };
        let record = record(bench, key, threads, &peak, spread, all.len());
        bench.keep(record)?;
        peaks.push(peak);
    }
    Ok(peaks)
}

/// One process.
fn prove(
    vectors: VectorsName,
    threads: usize,
    folder: &Path,
    zkey: &Path,
    witness: &Path,
) -> Result<Resident> {
    let vectors = vectors
        .to_possible_value()
        .context("vectors without a name")?;
    let output = Command::new(std::env::current_exe().context("this program's path")?)
        .args([process::WHOLE, "--resident"])
        .args(["--threads", &threads.to_string()])
        .args(["--vectors", vectors.get_name()])
        .args([zkey, witness])
        .args([folder.join("proof.json"), folder.join("public.json")])
        .output()
        .context("starting a process")?;
    ensure!(
        output.status.success(),
        "a process that proves ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("what a process says of itself")
}

/// What a proof works on beside the key, as docs/kernels.md lists it.
fn vectors(key: &Key, vectors: VectorsName, threads: usize) -> Vec<(&'static str, u64)> {
    let header = key.zkey.header();
    let domain = u64::from(header.domain);
    let wires = u64::from(header.wires);
    let private = wires - u64::from(header.public) - 1;
    let ones = [<Bn254 as Curve>::Fr::ONE; 8];
    let engine = row(vectors.into(), &ones).is_some();
    // A, B1, C and H in G1, B2 in G2.
    let sums = [
        (Group::G1, wires),
        (Group::G1, wires),
        (Group::G1, private),
        (Group::G1, domain),
        (Group::G2, wires),
    ];
    let scalars: u64 = sums.iter().map(|(_, count)| count).sum();
    let lanes = process::lanes(threads) as u64;
    let buckets = |(group, count): (Group, u64)| {
        let buckets = (count.next_power_of_two() / 2).min(1 << 15);
        // A point, aligned to a line of the cache, and a word.
        let point = key.zkey.curve().point_bytes(group) as u64;
        lanes * buckets * (point.next_multiple_of(64) + 4)
    };
    vec![
        ("witness as read", 32 * wires),
        ("witness on the device", 32 * wires),
        ("a, b and c", 3 * 32 * domain),
        (
            "factors of transforms",
            if engine { 3 * 40 } else { 2 * 32 } * domain,
        ),
        ("scalars, sorted out", 40 * scalars),
        ("buckets of lanes", sums.into_iter().map(buckets).sum()),
        ("batches of lanes", lanes * sums.len() as u64 * (1 << 19)),
        ("bits of bases", scalars / 4),
        ("index of the matrix", 4 * domain),
    ]
}

fn record(
    bench: &Bench,
    key: &Key,
    threads: usize,
    peak: &Peak,
    spread: Spread,
    processes: usize,
) -> Record {
    let mut inside = format!(
        "VmHWM of a process that proves; of it in file pages {:.1} MiB; the key's file {:.1} MiB",
        mib(peak.resident.file),
        mib(peak.key)
    );
    for (what, bytes) in &peak.vectors {
        // Writing to a string does not fail.
        let _ = write!(inside, ", {what} {:.1} MiB", mib(*bytes));
    }
    let _ = write!(
        inside,
        "; over {KEY_SHARE} of the file and the others {:.3}",
        peak.ratio()
    );
    Record {
        size: key.domain(),
        threads,
        value: spread.median / MIB,
        unit: "MiB".to_owned(),
        spread: [spread.low / MIB, spread.high / MIB],
        rounds: processes,
        inside: Some(inside),
        ..bench.ours("memory", bench.named(key.name.clone()))
    }
}

/// The peaks as a table, and below it what each is made of.
pub(crate) fn of_peaks(peaks: &[Peak]) -> String {
    let rows: Vec<Vec<String>> = peaks
        .iter()
        .map(|peak| {
            let resident = peak.resident;
            vec![
                peak.name.clone(),
                figure(mib(resident.peak)),
                figure(mib(resident.file)),
                figure(mib(resident.peak - resident.file)),
                figure(mib(peak.key)),
                figure(peak.allowed() / MIB),
                format!("{:.3}", peak.ratio()),
            ]
        })
        .collect();
    let head = [
        "case",
        "peak MiB",
        "of files",
        "other",
        "key MiB",
        "allowed MiB",
        "peak/allowed",
    ];
    let mut text = table(&head, &rows);
    for peak in peaks {
        let _ = write!(text, "\n{}\n", peak.name);
        let rows: Vec<Vec<String>> = peak
            .vectors
            .iter()
            .map(|(what, bytes)| vec![(*what).to_owned(), figure(mib(*bytes))])
            .collect();
        text.push_str(&table(&["vectors", "MiB"], &rows));
    }
    text
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

const MIB: f64 = (1u64 << 20) as f64;

/// What the peak may be of the key's file, beside the vectors.
const KEY_SHARE: f64 = 1.3;

/// Processes that are started at most: the peak hardly differs from one to the next.
const PROCESSES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_the_share_of_the_key_and_the_vectors() {
        let peak = |bytes| Peak {
            name: "a case".to_owned(),
            key: 1000,
            vectors: vec![("these", 200), ("those", 500)],
            resident: Resident {
                peak: bytes,
                file: 1000,
            },
        };
        assert!(peak(2000).holds());
        assert!(!peak(2001).holds());
    }

    #[test]
    fn this_process_says_what_it_has() {
        let resident = Resident::here().expect("a system with /proc");
        assert!(resident.peak >= resident.file);
        assert!(resident.file > 0);
    }
}
