//! `kill -9` at any moment, under load, again and again: no acknowledged job is lost, none has two results, and
//! every proof is right.
//!
//! Clients submit without pause, each submission under a word of its own, with witnesses in blobs and
//! witnesses in the submission; they read results, cancel, and note what they were told. When the service
//! dies they send again what was not answered, under the same word. In the end every job that was ever
//! acknowledged must have ended as it should, once, and snarkjs judges every proof.
//!
//! `CALDERA_KILLS` says how often; `make soak` says a thousand. How long the service takes to be ready again
//! is printed; it is not what is tested here.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, mpsc};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_tests::interop::{
    json, semaphore_verification_key, semaphore_witnesses, semaphore_zkey, snarkjs_verdicts,
};
use caldera_tests::service::{Client, Service};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const TENANTS: [(&str, &str); 2] = [("plaza", "social"), ("exchange", "financial")];
const DEPTHS: [u32; 2] = [1, 16];
/// Rows are kept for as long as the test looks at them.
const CONFIG: &str = "keep_witnesses = false\n[limits]\ntenant_results = 1000000\n";

/// What a client was told of one submission.
#[derive(Default, Clone)]
struct Told {
    parameters: Value,
    job: Option<Value>,
    cancelled: bool,
    result: Option<Value>,
}

/// What one tenant's clients know, by the word of each submission.
type Book = Mutex<BTreeMap<String, Told>>;

/// A witness of one of the circuits.
struct Witness {
    depth: u32,
    bytes: Vec<u8>,
}

static WITNESSES: LazyLock<Vec<Witness>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut witnesses = Vec::new();
    for depth in DEPTHS {
        let paths = [0, 1, 2].map(|at| folder.path().join(format!("{depth}-{at}.wtns")));
        semaphore_witnesses(depth, &paths);
        witnesses.extend(paths.map(|path| Witness {
            depth,
            bytes: std::fs::read(path).unwrap(),
        }));
    }
    witnesses
});

#[test]
fn nothing_acknowledged_is_lost_or_told_twice() {
    let kills = std::env::var("CALDERA_KILLS").map_or(50, |text| text.parse().unwrap());
    let wrong = run(kills, false);
    assert!(
        wrong.is_empty(),
        "{} things: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(9)]
    );
}

/// A disk that forgets at each kill what was written since the start must be noticed: else the test above
/// shows nothing.
#[test]
fn a_store_that_forgets_is_found_out() {
    let wrong = run(2, true);
    assert!(wrong.iter().any(|text| text.contains("lost")), "{wrong:#?}");
}

/// Kills the service so many times; what was found wrong.
fn run(kills: usize, forgetful: bool) -> Vec<String> {
    let mut service = Service::start(&TENANTS, CONFIG);
    let mut circuits = BTreeMap::new();
    for depth in DEPTHS {
        let zkey = std::fs::read(semaphore_zkey(depth)).unwrap();
        for (tenant, _) in TENANTS {
            circuits.insert(depth, service.client(tenant).register(&zkey, "trusted"));
        }
    }
    let before = forgetful.then(|| {
        let kept = tempfile::tempdir().unwrap();
        service.kill();
        copy(&service.folder().join("data"), &kept.path().join("data"));
        service.start_again();
        kept
    });

    let books: [Book; 2] = Default::default();
    let numbers = AtomicUsize::new(0);
    let mut chance = Chance(kills as u64);
    let mut ready = Vec::new();
    for _ in 0..kills {
        let alive = AtomicBool::new(true);
        let (told, hears) = mpsc::channel();
        std::thread::scope(|scope| {
            for (at, book) in books.iter().enumerate() {
                for thread in 0..2 {
                    let client = service.client(TENANTS[at].0);
                    let (told, alive, circuits, numbers) =
                        (told.clone(), &alive, &circuits, &numbers);
                    let seed = chance.next();
                    scope.spawn(move || {
                        let mut load = Load {
                            client,
                            book,
                            circuits,
                            numbers,
                            chance: Chance(seed),
                        };
                        // The first of each tenant sends what was not answered before.
                        let again = thread > 0 || load.send_again().is_some();
                        while again && alive.load(Ordering::Relaxed) && load.step().is_some() {
                            let _ = told.send(());
                        }
                    });
                }
            }
            drop(told);
            // Somewhere among the next answers, and somewhere between two of them.
            for _ in 0..chance.next() % 40 {
                let _ = hears.recv();
            }
            for _ in 0..chance.next() % 20_000 {
                std::hint::spin_loop();
            }
            service.kill();
            alive.store(false, Ordering::Relaxed);
        });
        if let Some(before) = &before {
            let data = service.folder().join("data");
            std::fs::remove_dir_all(&data).unwrap();
            copy(&before.path().join("data"), &data);
        }
        let began = Instant::now();
        service.start_again();
        let client = service.client(TENANTS[0].0);
        while client.get("/readyz").status != 200 {}
        ready.push(began.elapsed());
    }
    let wrong = settle(&service, &books);
    report(&books, &mut ready);
    wrong
}

/// One client under load.
struct Load<'a> {
    client: Client,
    book: &'a Book,
    circuits: &'a BTreeMap<u32, String>,
    numbers: &'a AtomicUsize,
    chance: Chance,
}

impl Load<'_> {
    /// Does one thing; `None` once the service is dead.
    fn step(&mut self) -> Option<()> {
        match self.chance.next() % 8 {
            0..5 => {
                let witness = &WITNESSES[self.chance.next() as usize % WITNESSES.len()];
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let word = format!("submission-{number}");
                let mut parameters = json!({
                    "circuit": self.circuits[&witness.depth],
                    "witness": hex::encode(Sha256::digest(&witness.bytes)),
                    "idempotencyKey": word,
                });
                if witness.bytes.len() <= 65_536 {
                    parameters["witnessData"] = STANDARD.encode(&witness.bytes).into();
                }
                let told = Told {
                    parameters,
                    ..Told::default()
                };
                self.book.lock().unwrap().insert(word.clone(), told);
                self.submit(&word)
            }
            5..7 => self.look(),
            _ => self.cancel(),
        }
    }

    fn submit(&mut self, word: &str) -> Option<()> {
        let parameters = self.book.lock().unwrap()[word].parameters.clone();
        loop {
            match self.client.attempt("prover_submitV1", &parameters)? {
                Ok(status) => {
                    let job = status["job"].clone();
                    let mut book = self.book.lock().unwrap();
                    let told = book.get_mut(word).unwrap();
                    let before = told.job.replace(job.clone());
                    // One word is one job, whoever has died meanwhile.
                    assert!(
                        before.is_none_or(|before| before == job),
                        "{word} is two jobs"
                    );
                    return Some(());
                }
                Err(error) if error["data"]["reason"] == "blobUnknown" => {
                    let witness = WITNESSES
                        .iter()
                        .find(|it| parameters["witness"] == hex::encode(Sha256::digest(&it.bytes)));
                    self.client.attempt_upload(&witness.unwrap().bytes)?;
                }
                Err(error) if error["data"]["retryAfterMs"].is_number() => self.look()?,
                // The circuits of before are still being loaded.
                Err(error) if error["data"]["reason"] == "circuitNotReady" => {}
                Err(error) => panic!("{word}: {error}"),
            }
        }
    }

    /// Waits a moment for the result of some job.
    fn look(&mut self) -> Option<()> {
        let Some((word, job)) = self.some(|told| told.result.is_none()) else {
            return Some(());
        };
        let parameters = json!({"job": job, "waitMs": 50});
        if let Ok(result) = self.client.attempt("prover_resultV1", &parameters)? {
            let mut book = self.book.lock().unwrap();
            let told = book.get_mut(&word).unwrap();
            let before = told.result.replace(result.clone());
            assert!(
                before.is_none_or(|before| before == result),
                "{word} has two results"
            );
        }
        Some(())
    }

    fn cancel(&mut self) -> Option<()> {
        // One in six or so; the others should be proved.
        let Some((word, job)) = self
            .some(|_| true)
            .filter(|_| self.chance.next().is_multiple_of(2))
        else {
            return Some(());
        };
        let status = self
            .client
            .attempt("prover_cancelV1", &json!({"job": job}))?;
        let cancelled = status.is_ok_and(|status| status["state"] == "cancelled");
        self.book.lock().unwrap().get_mut(&word).unwrap().cancelled |= cancelled;
        Some(())
    }

    /// Some job that was acknowledged.
    fn some(&mut self, fits: impl Fn(&Told) -> bool) -> Option<(String, Value)> {
        let book = self.book.lock().unwrap();
        let mut known: Vec<_> = book
            .iter()
            .filter(|(_, told)| told.job.is_some() && fits(told))
            .collect();
        // The newest are those that are under way.
        known.drain(..known.len().saturating_sub(20));
        let at = (self.chance.next() as usize).checked_rem(known.len())?;
        let (word, told) = known[at];
        Some((word.clone(), told.job.clone()?))
    }

    fn send_again(&mut self) -> Option<()> {
        let book = self.book.lock().unwrap();
        let open = book.iter().filter(|(_, told)| told.job.is_none());
        let open: Vec<String> = open.map(|(word, _)| word.clone()).collect();
        drop(book);
        open.iter().try_for_each(|word| self.submit(word))
    }
}

/// Holds all that was told against what the service says in the end.
fn settle(service: &Service, books: &[Book; 2]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut cases = Vec::new();
    let keys = DEPTHS.map(|depth| (depth, json(&semaphore_verification_key(depth))));
    let keys: BTreeMap<u32, Value> = keys.into_iter().collect();
    for ((tenant, _), book) in TENANTS.iter().zip(books) {
        let client = service.client(tenant);
        let mut jobs = BTreeMap::new();
        for (word, told) in book.lock().unwrap().iter() {
            let Some(job) = &told.job else { continue };
            if let Some(other) = jobs.insert(job.to_string(), word.clone()) {
                wrong.push(format!("{word} and {other} are one job"));
            }
            let answer = finished(&client, job);
            match (answer, told.cancelled) {
                (Ok(result), false) => {
                    if told.result.as_ref().is_some_and(|before| *before != result) {
                        wrong.push(format!("{word} has two results"));
                    }
                    let witness = WITNESSES.iter().find(|it| {
                        told.parameters["witness"] == hex::encode(Sha256::digest(&it.bytes))
                    });
                    cases.push(json!({
                        "verificationKey": keys[&witness.unwrap().depth],
                        "publicInputs": result["publicInputs"],
                        "proof": result["proof"],
                    }));
                }
                // A cancellation may have been carried out though its answer was cut off.
                (Err(reason), cancelled) if reason == "jobCancelled" => {
                    if !cancelled && told.result.is_some() {
                        wrong.push(format!("{word} had a result and is cancelled"));
                    }
                }
                (Ok(_), true) => wrong.push(format!("{word} was cancelled and is proved")),
                (Err(reason), _) => wrong.push(format!("{word} is lost: {reason}")),
            }
        }
    }
    let verdicts = snarkjs_verdicts(&cases);
    let refused = verdicts.iter().filter(|verdict| !**verdict).count();
    if refused > 0 {
        wrong.push(format!("{refused} wrong proofs"));
    }
    wrong
}

/// The result of a job once it has ended, or the reason why there is none.
fn finished(client: &Client, job: &Value) -> Result<Value, String> {
    loop {
        let parameters = json!({"job": job, "waitMs": 30_000});
        match client.try_call("prover_resultV1", parameters) {
            Ok(result) => return Ok(result),
            Err(error) if error["data"]["reason"] == "jobNotFinished" => {}
            Err(error) => return Err(error["data"]["reason"].as_str().unwrap().to_owned()),
        }
    }
}

fn report(books: &[Book; 2], ready: &mut [Duration]) {
    let count = |fits: fn(&Told) -> bool| -> usize {
        let of = |book: &Book| {
            book.lock()
                .unwrap()
                .values()
                .filter(|told| fits(told))
                .count()
        };
        books.iter().map(of).sum()
    };
    ready.sort_unstable();
    let at = |share: f64| ready[((ready.len() - 1) as f64 * share) as usize].as_millis();
    println!(
        "{} kills: {} jobs acknowledged, {} of them cancelled; ready again after p50 {} ms, p99 {} ms, \
         at most {} ms",
        ready.len(),
        count(|told| told.job.is_some()),
        count(|told| told.cancelled),
        at(0.5),
        at(0.99),
        at(1.0),
    );
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
