//! A box in place of `calderad`: it hands out all jobs that it has, and a proof is what only somebody makes who has all of the key and of the witness.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use caldera_fleet::calderad::{Calderad, CalderadError, Lent, Part, Taken, Verdict};
use caldera_fleet::lender::Foreign;
use caldera_fleet::{Answer, BoxId};
use caldera_rpc::era::{Amount, EraId};
use caldera_rpc::methods::Bill;
use caldera_scheduler::JobId;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

/// A piece of a file, as small as to make several of the files here.
const PIECE: usize = 40_000;

#[derive(Default)]
pub(crate) struct TestBox {
    state: Mutex<State>,
    changed: Notify,
    released: Notify,
}

#[derive(Default)]
pub(crate) struct State {
    jobs: BTreeMap<JobId, Row>,
    cursor: u64,
    withdrawn: Vec<(u64, JobId, u64)>,
    /// Keys for others' jobs.
    keys: HashMap<[u8; 32], Vec<u8>>,
    /// How often each key was taken in.
    pub(crate) keys_added: HashMap<[u8; 32], u32>,
    /// How often a proof was begun for others.
    pub(crate) begun: HashMap<Foreign, u32>,
    /// From which bytes on something was read.
    pub(crate) reads: Vec<(Part, u64)>,
    /// So many reads more are answered.
    pub(crate) reads_left: Option<usize>,
    /// What it calls a proof is none.
    pub(crate) wrong: bool,
    /// Proofs wait until this is off.
    pub(crate) held_up: bool,
    /// Verdicts that were given.
    pub(crate) verdicts: Vec<(JobId, Verdict)>,
}

struct Row {
    fence: u64,
    key: Arc<Vec<u8>>,
    witness: Vec<u8>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Lent,
    /// Proved by another box.
    Brought,
    /// Proved by this one.
    AtHome,
}

impl TestBox {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics")
    }

    /// Takes jobs in, with a key of so many bytes.
    pub(crate) fn submit(&self, jobs: std::ops::Range<u64>, key: &Arc<Vec<u8>>) {
        self.submit_small(jobs, key, 100_000);
    }

    /// The same, with witnesses of so many bytes.
    pub(crate) fn submit_small(&self, jobs: std::ops::Range<u64>, key: &Arc<Vec<u8>>, bytes: u64) {
        let mut state = self.state();
        for job in jobs {
            let witness: Vec<u8> = (0..bytes)
                .map(|n| (((n + 1) * (job + 7)) >> 3) as u8)
                .collect();
            let row = Row {
                fence: 0,
                key: Arc::clone(key),
                witness,
                stage: Stage::Queued,
            };
            state.jobs.insert(JobId(job), row);
        }
        self.changed.notify_waiters();
    }

    pub(crate) fn cancel(&self, job: JobId) {
        let mut state = self.state();
        let row = state.jobs.remove(&job).expect("it is there");
        state.cursor += 1;
        let at = state.cursor;
        state.withdrawn.push((at, job, row.fence));
        self.changed.notify_waiters();
    }

    /// Proofs wait no longer.
    pub(crate) fn release(&self) {
        self.state().held_up = false;
        self.released.notify_waiters();
    }

    /// How many jobs were brought by others, and how many it proved itself.
    pub(crate) fn ended(&self) -> (usize, usize) {
        let state = self.state();
        let count = |stage| state.jobs.values().filter(|row| row.stage == stage).count();
        (count(Stage::Brought), count(Stage::AtHome))
    }

    pub(crate) fn are_ended(&self) -> bool {
        let (brought, at_home) = self.ended();
        brought + at_home == self.state().jobs.len()
    }

    pub(crate) fn right_proof(&self, job: JobId) -> Vec<u8> {
        let state = self.state();
        let row = &state.jobs[&job];
        proof(&row.key, &row.witness)
    }
}

pub(crate) fn proof(key: &[u8], witness: &[u8]) -> Vec<u8> {
    let mut digest = Sha256::new();
    digest.update(key);
    digest.update(witness);
    digest.finalize().to_vec()
}

pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What a job earns, which is another thing for each.
fn bill_of(job: JobId) -> Bill {
    Bill {
        node: 5,
        sequence: job.0,
        hold: EraId(job.0.into()),
        class: 2,
        developer: None,
        fee: Amount(1_000 + u128::from(job.0)),
    }
}

fn away(what: &str) -> CalderadError {
    CalderadError::Away {
        path: "a test".into(),
        what: what.to_owned(),
    }
}

impl State {
    fn lent(&self) -> Vec<Lent> {
        let lent = self.jobs.iter().filter(|(_, row)| row.stage == Stage::Lent);
        lent.map(|(job, row)| row.told(*job)).collect()
    }
}

impl Row {
    fn told(&self, job: JobId) -> Lent {
        Lent {
            job,
            fence: self.fence,
            key: digest(&self.key),
            key_bytes: self.key.len() as u64,
            witness: digest(&self.witness),
            witness_bytes: self.witness.len() as u64,
            work: Some(Duration::from_secs(60)),
            left: None,
            price_max: 0,
        }
    }
}

impl Calderad for TestBox {
    async fn held(&self) -> Result<Taken, CalderadError> {
        let state = self.state();
        Ok(Taken {
            jobs: state.lent(),
            withdrawn: vec![],
            cursor: state.cursor,
        })
    }

    async fn take(&self, max: u32, wait: Duration, cursor: u64) -> Result<Taken, CalderadError> {
        let until = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                let mut taken = Taken {
                    cursor: state.cursor,
                    ..Taken::default()
                };
                let withdrawn = state.withdrawn.iter().filter(|(at, ..)| *at > cursor);
                taken.withdrawn = withdrawn.map(|(_, job, fence)| (*job, *fence)).collect();
                let queued = state
                    .jobs
                    .iter_mut()
                    .filter(|(_, row)| row.stage == Stage::Queued);
                for (job, row) in queued.take(max as usize) {
                    row.stage = Stage::Lent;
                    row.fence += 1;
                    taken.jobs.push(row.told(*job));
                }
                if !taken.jobs.is_empty() || !taken.withdrawn.is_empty() {
                    return Ok(taken);
                }
            }
            if tokio::time::timeout_at(until, changed).await.is_err() {
                return Ok(Taken {
                    cursor,
                    ..Taken::default()
                });
            }
        }
    }

    async fn result(
        &self,
        job: JobId,
        fence: u64,
        given: Arc<[u8]>,
    ) -> Result<Verdict, CalderadError> {
        let mut state = self.state();
        let verdict = match state.jobs.get_mut(&job) {
            Some(row) if row.stage == Stage::Lent && row.fence == fence => {
                if *given == proof(&row.key, &row.witness) {
                    row.stage = Stage::Brought;
                    Verdict::Committed
                } else {
                    Verdict::Wrong
                }
            }
            _ => Verdict::Gone,
        };
        state.verdicts.push((job, verdict));
        Ok(verdict)
    }

    async fn give_back(&self, job: JobId, fence: u64) -> Result<(), CalderadError> {
        if let Some(row) = self.state().jobs.get_mut(&job)
            && (row.stage, row.fence) == (Stage::Lent, fence)
        {
            row.fence += 1;
            row.stage = Stage::AtHome;
        }
        Ok(())
    }

    async fn bill(
        &self,
        job: JobId,
        _fence: u64,
        _lender: BoxId,
    ) -> Result<Option<Bill>, CalderadError> {
        Ok(Some(bill_of(job)))
    }

    async fn read(&self, job: JobId, part: Part, from: u64) -> Result<Bytes, CalderadError> {
        let mut state = self.state();
        state.reads.push((part, from));
        if let Some(left) = &mut state.reads_left {
            *left = left.checked_sub(1).ok_or_else(|| away("it is cut off"))?;
        }
        let row = state.jobs.get(&job).ok_or_else(|| away("no such job"))?;
        let all = match part {
            Part::Witness => &row.witness,
            Part::Key => &*row.key,
        };
        let rest = &all[from as usize..];
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(PIECE)]))
    }

    async fn keys(&self) -> Result<Vec<[u8; 32]>, CalderadError> {
        Ok(self.state().keys.keys().copied().collect())
    }

    async fn add_key(&self, key: [u8; 32], file: &Path) -> Result<(), CalderadError> {
        let bytes = std::fs::read(file).map_err(|error| away(&error.to_string()))?;
        assert_eq!(
            digest(&bytes),
            key,
            "what is taken in is what was asked for"
        );
        let mut state = self.state();
        *state.keys_added.entry(key).or_default() += 1;
        state.keys.insert(key, bytes);
        Ok(())
    }

    async fn prove(
        &self,
        of: Foreign,
        key: [u8; 32],
        witness: [u8; 32],
        file: &Path,
        bill: Option<Bill>,
    ) -> Result<Answer, CalderadError> {
        assert_eq!(bill, Some(bill_of(of.job)), "it takes along what it earns");
        *self.state().begun.entry(of).or_default() += 1;
        loop {
            let released = self.released.notified();
            if !self.state().held_up {
                break;
            }
            released.await;
        }
        let bytes = std::fs::read(file).map_err(|error| away(&error.to_string()))?;
        assert_eq!(
            digest(&bytes),
            witness,
            "what is proved is what was asked for"
        );
        let state = self.state();
        let mut proof = proof(&state.keys[&key], &bytes);
        if state.wrong {
            proof[0] ^= 1;
        }
        Ok(Answer::Proof(proof.into()))
    }

    async fn abort(&self, _of: Foreign) {}
}
