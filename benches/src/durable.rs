//! Submissions a second that are on the disk before they are acknowledged: the clerk, which writes all that
//! wait in one commit, against one commit and one fsync each.
//!
//! Sixty-four clients each wait for the answer to one submission, of a witness of 1 KiB in its row, before they
//! send the next. The clerk is the one that a box has, on a thread of its own; whoever goes alone writes
//! the same rows into the same kind of file through the same store. Both files lie in one folder, of which
//! the disk is what is measured: name it with TMPDIR. A single `write` and `fsync` of as many bytes
//! stands beside them, for what the disk itself takes.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use caldera_node::clerk::{Clerk, Recorded, Task};
use caldera_node::service::{Message, Post};
use caldera_node::source::Sources;
use caldera_store::blob::{BlobLimits, BlobStore};
use caldera_store::database::Database;
use caldera_store::jobs::{JobRow, JobWrite};
use hdrhistogram::Histogram;

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender, Spread};
use crate::record::{Case, Unit};
use crate::table::table;

/// What came out.
pub(crate) struct Written {
    /// Submissions a second of the clerk, over those of one fsync each.
    against: Spread,
    /// The same over a bare write and fsync each.
    bare: Spread,
    /// From sending to acknowledgement, in microseconds: median, p99, the longest.
    ack_us: [u64; 3],
    submissions: u64,
}

impl Written {
    /// Whether group commit is worth ten times.
    pub(crate) fn holds(&self) -> bool {
        self.against.median >= GATE
    }
}

/// Measures `submissions` of each, in each round.
pub(crate) fn durable(bench: &mut Bench, submissions: u64) -> Result<Written> {
    ensure!(submissions > 0, "submissions: expected 1 or more, got 0");
    let folder = tempfile::tempdir().context("a folder")?;
    let acks = Mutex::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?);
    let case = Case {
        bench: "durable",
        case: format!("{submissions} submissions of 1 KiB, {CLIENTS} clients"),
        size: submissions,
        threads: CLIENTS,
        unit: Unit::WallMilliseconds,
        inside: Some("rows with their witness, written and synced; no HTTP, no proof"),
    };
    let group = Office::open(&folder.path().join("group"))?;
    let alone = open_tables(&folder.path().join("alone"))?;
    let bare = File::create(folder.path().join("bare")).context("a file")?;
    let contenders = vec![
        Contender::ours(
            OURS,
            group,
            |office: &mut Office| office.submit(submissions, &acks),
            |_| Ok(Answer::Verified),
        ),
        Contender::ours(
            "one fsync each",
            (alone, 0),
            |(tables, next): &mut (Database, u64)| {
                for _ in 0..submissions {
                    *next += 1;
                    tables.write_jobs(&[accept(*next)])?;
                }
                Ok(())
            },
            |_| Ok(Answer::Verified),
        ),
        Contender::ours(
            "a bare write and fsync each",
            bare,
            |file: &mut File| {
                for _ in 0..submissions {
                    file.write_all(&[7; WITNESS_BYTES])?;
                    file.sync_data()?;
                }
                Ok(())
            },
            |_| Ok(Answer::Verified),
        ),
    ];
    let runs = bench.case(&case, contenders)?;
    let acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Written {
        against: runs[1].wall_ratio(&runs[0]),
        bare: runs[2].wall_ratio(&runs[0]),
        ack_us: [
            acks.value_at_quantile(0.5),
            acks.value_at_quantile(0.99),
            acks.max(),
        ],
        submissions,
    })
}

/// The figures as a table.
pub(crate) fn of_written(written: &Written) -> String {
    let ratio = |r: Spread| format!("{:.1} ({:.1}..{:.1})", r.median, r.low, r.high);
    let [p50, p99, max] = written.ack_us;
    let rows = vec![
        vec!["one fsync each".to_owned(), ratio(written.against)],
        vec![
            "a bare write and fsync each".to_owned(),
            ratio(written.bare),
        ],
    ];
    let head = ["against", "durable submissions, group commit over it"];
    format!(
        "{} submissions of 1 KiB by {CLIENTS} clients; acknowledged after p50 {p50} us, p99 {p99} us, at most \
         {max} us\n{}",
        written.submissions,
        table(&head, &rows)
    )
}

/// A clerk at work, and those who wait for it.
struct Office {
    tasks: Option<Sender<Task>>,
    messages: Arc<Mutex<Receiver<Message>>>,
    clerk: Option<JoinHandle<()>>,
    next: u64,
}

impl Office {
    fn open(folder: &Path) -> Result<Office> {
        let database = open_tables(folder)?;
        let limits = BlobLimits {
            blob_bytes_max: 0,
            tenant_bytes_max: 0,
        };
        let blobs = BlobStore::open(&folder.join("blobs"), limits)?;
        let (tasks, work) = channel();
        let (sender, messages) = channel();
        let clerk = Clerk {
            tasks: work,
            blobs,
            database,
            sources: Sources::new(Vec::new()),
            development: false,
            service: Post::new(sender, Arc::new(|| ())),
            era: None,
        };
        let clerk = std::thread::Builder::new()
            .name("clerk".into())
            .spawn(move || clerk.run())?;
        Ok(Office {
            tasks: Some(tasks),
            messages: Arc::new(Mutex::new(messages)),
            clerk: Some(clerk),
            next: 0,
        })
    }

    /// Has so many jobs accepted. Each client sends its next one when its last one is acknowledged; all clients
    /// are one thread here, for what is measured is the clerk.
    fn submit(&mut self, submissions: u64, acks: &Mutex<Histogram<u64>>) -> Result<()> {
        let tasks = self.tasks.as_ref().context("an open office")?;
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let mut acks = acks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = HashMap::new();
        let (mut left, mut open) = (submissions, 0);
        loop {
            while left > 0 && open < CLIENTS {
                self.next += 1;
                sent.insert(self.next, Instant::now());
                tasks.send(Task::Job(accept(self.next)))?;
                (left, open) = (left - 1, open + 1);
            }
            if open == 0 {
                return Ok(());
            }
            let Message::Recorded { recorded } = messages.recv()? else {
                continue;
            };
            for it in recorded {
                let Recorded::Accepted(job, Ok(())) = it else {
                    bail!("a submission was not taken: {it:?}");
                };
                let began = sent.remove(&job.0).context("a job that was sent")?;
                acks.saturating_record(began.elapsed().as_micros() as u64);
                open -= 1;
            }
        }
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        // It works until nobody is left who could ask.
        self.tasks = None;
        if let Some(clerk) = self.clerk.take() {
            let _ = clerk.join();
        }
    }
}

fn open_tables(folder: &Path) -> Result<Database> {
    std::fs::create_dir(folder).context("a folder")?;
    Ok(Database::open(&folder.join("caldera.sqlite"))?)
}

fn accept(job: u64) -> JobWrite {
    let tenant = "bench".parse();
    JobWrite::Accept(Box::new(JobRow {
        job,
        tenant: tenant.expect("five letters are a name"),
        circuit: [1; 32],
        witness: [2; 32],
        in_row: Some(Arc::new(vec![7; WITNESS_BYTES].into())),
        blob_left: false,
        deadline_ms: Some(5_000),
        key: Some(format!("submission-{job}")),
        submitted_ms: 1_800_000_000_000,
        attempt: 1,
        lent: false,
        end: None,
    }))
}

/// What is asked for, as a multiple of one fsync each.
const GATE: f64 = 10.0;
const CLIENTS: usize = 64;
const WITNESS_BYTES: usize = 1024;
