//! A box that is used for minutes by tenants of all scenarios while things go wrong: every job that it accepted
//! ends once, every proof is right, and what it takes of memory and disk does not grow.
//!
//! A real `calderad` with one tenant of each class of the standard policy. Each tenant has a few jobs under way
//! all the time, of several circuits, with witnesses in the submission and in blobs, reads results, cancels
//! some, declares demand, and remembers what it was told; what was not answered it sends again under the same
//! word. Faults come at moments and in an order drawn from a seed, which is printed:
//!
//! | fault | how |
//! |---|---|
//! | kill | SIGKILL, and a start on the same data |
//! | stop | SIGTERM, which must end well, and a start |
//! | jump | as kill; before the start all times of jobs in the tables are moved by hours, as they are for a box whose clock was set meanwhile |
//! | skew | the tenants' clocks are an hour off for a while: every call must be refused, and none after |
//! | full | the kernel lets no file of the box grow (RLIMIT_FSIZE by `prlimit`), as on a full disk, and lets it again |
//! | device | the process that holds the box's device is killed; only where the box has one: ICICLE's double, if it was built beside this program |
//!
//! The box starts anew in the first half only. A process that has just started has no leak yet, so memory is
//! looked at in the last life, which has the second half for itself: after a quarter of it for warming up, the
//! median of the last third against that of the first. Files and rows are looked at over the same time.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_kernels::CurveId;
use caldera_node::clock::unix_time;
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{verification_key, verify};
use caldera_rpc::auth::{Secret, sign};
use caldera_rpc::methods::Method;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::bench::Bench;
use crate::daemon::{Daemon, Server, beside};
use crate::duel::Spread;
use crate::key::Key;
use crate::table::table;

/// What is to be done.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Plan {
    /// For how long.
    #[arg(long, default_value_t = MINUTES)]
    pub(crate) minutes: f64,
    /// What faults and loads are drawn from; another one each time by default.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Key files to prove with, in place of synthetic ones.
    #[arg(long, value_delimiter = ',', requires = "witness")]
    pub(crate) zkey: Vec<PathBuf>,
    /// Their witnesses, in the same order.
    #[arg(long, value_delimiter = ',', requires = "zkey")]
    pub(crate) witness: Vec<PathBuf>,
}

impl Plan {
    /// Some seconds from one seed, for a trial.
    pub(crate) fn short() -> Plan {
        Plan {
            minutes: 0.1,
            seed: Some(1),
            zkey: Vec::new(),
            witness: Vec::new(),
        }
    }
}

/// What came of it.
pub(crate) struct Soaked {
    seed: u64,
    span: Duration,
    told: Told,
    faults: Vec<(Fault, usize)>,
    /// Blobs that were to be erased, and were at the next start only.
    left_for_start: usize,
    /// Why there was no device to lose.
    no_device: Option<String>,
    memory: Trend,
    rows: Trend,
    files: Trend,
}

impl Soaked {
    /// Nothing that was told or seen is wrong.
    pub(crate) fn wrong(&self) -> &[String] {
        &self.told.wrong
    }

    /// Whether that is so and nothing grew.
    pub(crate) fn holds(&self) -> bool {
        self.wrong().is_empty()
            && self.told.unanswered == 0
            && self.memory.grew() <= (self.memory.first / 20.0).max(MEMORY_SLACK)
            && self.rows.grew() <= COUNT_SLACK
            && self.files.grew() <= COUNT_SLACK
    }
}

/// What can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
    Jump,
    Skew,
    Full,
    Device,
}

impl Fault {
    const ALL: [Fault; 6] = [
        Fault::Kill,
        Fault::Stop,
        Fault::Jump,
        Fault::Skew,
        Fault::Full,
        Fault::Device,
    ];

    /// Whether the box starts anew.
    fn restarts(self) -> bool {
        matches!(self, Fault::Kill | Fault::Stop | Fault::Jump)
    }

    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::Jump => "jump",
            Fault::Skew => "skew",
            Fault::Full => "full",
            Fault::Device => "device",
        }
    }
}

/// What tenants were told.
#[derive(Default)]
struct Told {
    accepted: u64,
    proved: u64,
    cancelled: u64,
    /// Calls that came back with the word that they can be made later.
    later: u64,
    /// Calls that had no answer though the box was up.
    unanswered: u64,
    wrong: Vec<String>,
}

/// What a box takes, at one moment of its last life.
#[derive(Debug, Clone, Copy)]
struct Sample {
    age: Duration,
    /// Resident bytes that are no file's.
    memory: f64,
    rows: f64,
    files: f64,
}

/// How that went on: the medians of the first and of the last third, and what a line through all says of a
/// minute.
#[derive(Debug, Clone, Copy, Default)]
struct Trend {
    first: f64,
    last: f64,
    a_minute: f64,
}

/// Uses a box.
pub(crate) fn soak(bench: &Bench, plan: &Plan) -> Result<Soaked> {
    let [keys, witnesses] = [&plan.zkey, &plan.witness].map(Vec::len);
    ensure!(keys == witnesses, "{keys} keys and {witnesses} witnesses");
    let span = Duration::from_secs_f64(plan.minutes * 60.0);
    let from_clock = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |it| it.as_nanos() as u64)
    };
    let seed = plan.seed.unwrap_or_else(from_clock);
    eprintln!("caldera-bench: soak --seed {seed} for {} s", span.as_secs());
    let circuits = circuits(plan, bench.origin.cores)?;
    let folder = tempfile::tempdir().context("a folder")?;
    let device = device(folder.path())?;
    let lines = device.as_deref().unwrap_or_default();
    let daemon = Daemon::start(&format!("{lines}{CONFIG}"), None, &TENANTS)?;
    for (name, _) in TENANTS {
        let client = daemon.client(name)?;
        for circuit in &circuits {
            client.circuit(&circuit.key.file)?;
        }
    }

    let world = World {
        url: RwLock::new(daemon.url()?),
        lives: AtomicU64::new(0),
        skew_s: AtomicI64::new(0),
        stop: AtomicBool::new(false),
    };
    let mut field = Field {
        daemon,
        world: &world,
        chance: Chance(seed),
        born: Instant::now(),
        injected: Vec::new(),
        samples: Vec::new(),
        device_left: device.is_some(),
        has_device: device.is_some(),
        left_for_start: 0,
        wrong: Vec::new(),
    };
    let mut tenants = Vec::new();
    for (name, _) in TENANTS {
        let speaker = Speaker::new(name, field.daemon.secret(name)?, &world);
        tenants.push(Tenant::new(speaker, &circuits, field.chance.next()));
    }
    let told = std::thread::scope(|scope| {
        let at_work = tenants.into_iter().map(|mut tenant| {
            scope.spawn(move || {
                tenant.work();
                tenant.settle();
                tenant.told
            })
        });
        let at_work: Vec<_> = at_work.collect();
        let faults = field.inject(bench, span);
        world.stop.store(true, Ordering::Release);
        let mut told = Told::default();
        for tenant in at_work {
            match tenant.join() {
                Ok(more) => told.add(more),
                Err(_) => told.wrong.push("a tenant panicked".to_owned()),
            }
        }
        faults.map(|()| told)
    });
    let mut told = told?;
    let samples = std::mem::take(&mut field.samples);
    field.look_at_the_end(circuits.len() * TENANTS.len())?;
    told.wrong.append(&mut field.wrong);
    let trend = |of: fn(&Sample) -> f64| Trend::of(&samples, of);
    let soaked = Soaked {
        seed,
        span,
        told,
        faults: Fault::ALL.map(|it| (it, field.count(it))).to_vec(),
        left_for_start: field.left_for_start,
        no_device: device
            .is_none()
            .then(|| format!("no {DOUBLE} beside this program")),
        memory: trend(|it| it.memory),
        rows: trend(|it| it.rows),
        files: trend(|it| it.files),
    };
    field.daemon.stop()?;
    Ok(soaked)
}

/// The figures as text.
pub(crate) fn of_soaked(soaked: &Soaked) -> String {
    let told = &soaked.told;
    let faults: Vec<String> = soaked
        .faults
        .iter()
        .map(|(fault, count)| format!("{} {}", fault.name(), count))
        .collect();
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    let row = |name: &str, it: Trend, of: fn(f64) -> f64| {
        let cells = [it.first, it.last, it.a_minute].map(|value| format!("{:.2}", of(value)));
        [vec![name.to_owned()], cells.to_vec()].concat()
    };
    let rows = [
        row(
            "resident memory that is no file's, MiB",
            soaked.memory,
            |it| it / f64::from(1 << 20),
        ),
        row("rows of jobs", soaked.rows, |it| it),
        row("files", soaked.files, |it| it),
    ];
    let head = ["of the last life", "first third", "last third", "a minute"];
    let device = soaked.no_device.as_deref().map(|why| format!(" ({why})"));
    let wrong: String = told
        .wrong
        .iter()
        .map(|it| format!("wrong: {it}\n"))
        .collect();
    format!(
        "seed {}, {} s: {} jobs accepted, {} proved and verified, {} cancelled, {} wrong; {} calls told to come later, {} unanswered; {} blobs erased by the next start only\n\
         faults: {}{}; memory may grow by {:.0} MiB or a twentieth\n{}{wrong}",
        soaked.seed,
        soaked.span.as_secs(),
        told.accepted,
        told.proved,
        told.cancelled,
        told.wrong.len(),
        told.later,
        told.unanswered,
        soaked.left_for_start,
        faults.join(", "),
        device.unwrap_or_default(),
        mib(MEMORY_SLACK),
        table(&head, &rows)
    )
}

impl Told {
    fn add(&mut self, more: Told) {
        self.accepted += more.accepted;
        self.proved += more.proved;
        self.cancelled += more.cancelled;
        self.later += more.later;
        self.unanswered += more.unanswered;
        self.wrong.extend(more.wrong);
    }
}

impl Trend {
    /// After a quarter of the life, in which it warms up.
    fn of(samples: &[Sample], of: fn(&Sample) -> f64) -> Trend {
        let end = samples.last().map_or(Duration::ZERO, |it| it.age);
        let warm: Vec<&Sample> = samples.iter().filter(|it| it.age >= end / 4).collect();
        let third = warm.len().div_ceil(3);
        let median = |of_them: &[&Sample]| Spread::of(of_them.iter().map(|it| of(it))).median;
        let minutes = |it: &Sample| it.age.as_secs_f64() / 60.0;
        let mean = |of: &dyn Fn(&Sample) -> f64| {
            warm.iter().map(|it| of(it)).sum::<f64>() / (warm.len().max(1) as f64)
        };
        let (x, y) = (mean(&minutes), mean(&of));
        // Least squares.
        let above = mean(&|it| (minutes(it) - x) * (of(it) - y));
        let below = mean(&|it| (minutes(it) - x).powi(2));
        Trend {
            first: median(&warm[..third]),
            last: median(&warm[warm.len() - third..]),
            a_minute: if below > 0.0 { above / below } else { 0.0 },
        }
    }

    fn grew(&self) -> f64 {
        self.last - self.first
    }
}

/// What tenants and faults have in common.
struct World {
    url: RwLock<String>,
    /// Odd while the box is down; another number in each life.
    lives: AtomicU64,
    /// By how many seconds the tenants' clocks are off.
    skew_s: AtomicI64,
    /// Whether there is to be no more work.
    stop: AtomicBool,
}

impl World {
    fn life(&self) -> u64 {
        self.lives.load(Ordering::Acquire)
    }
}

/// What came back of a call.
enum Heard {
    Result(Value),
    /// Refused: the reason, and whether it is said when to come again.
    Refused {
        reason: String,
        later: bool,
    },
    /// The token was not taken, as it should not have been.
    Stranger,
    /// No answer.
    Nothing,
    /// What must not be.
    Wrong(String),
}

/// A tenant's way to a box that may die at any moment.
struct Speaker<'a> {
    agent: ureq::Agent,
    name: &'static str,
    secret: Secret,
    world: &'a World,
}

impl<'a> Speaker<'a> {
    fn new(name: &'static str, secret: Secret, world: &'a World) -> Speaker<'a> {
        Speaker {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(PATIENCE))
                .build()
                .into(),
            name,
            secret,
            world,
        }
    }

    /// Calls a method.
    fn call(&self, method: Method, params: &Value) -> Heard {
        let request =
            json!({ "jsonrpc": "2.0", "id": 1, "method": method.name(), "params": params });
        let skew = self.world.skew_s.load(Ordering::Acquire);
        let sent = self
            .agent
            .post(self.url())
            .header("Authorization", self.token(skew))
            .header("Content-Type", "application/json")
            .send(request.to_string());
        let text = sent.and_then(|mut response| {
            let status = response.status().as_u16();
            response
                .body_mut()
                .read_to_string()
                .map(|text| (status, text))
        });
        let Ok((status, text)) = text else {
            return Heard::Nothing;
        };
        if let Some(heard) = judge_token(skew, status) {
            return heard;
        }
        let Ok(mut answer) = serde_json::from_str::<Value>(&text) else {
            return Heard::Wrong(format!("{}: {status} {text}", method.name()));
        };
        if answer.get("result").is_some() {
            return Heard::Result(answer["result"].take());
        }
        let data = &answer["error"]["data"];
        match data["reason"].as_str() {
            Some(reason) => Heard::Refused {
                reason: reason.to_owned(),
                later: data["retryAfterMs"].is_u64() || reason == "stopping",
            },
            None => Heard::Wrong(format!("{}: {text}", method.name())),
        }
    }

    /// Stores a blob.
    fn store(&self, bytes: &[u8], digest: &str) -> Heard {
        let skew = self.world.skew_s.load(Ordering::Acquire);
        let sent = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.url()))
            .header("Authorization", self.token(skew))
            .send(bytes);
        let Ok(response) = sent else {
            return Heard::Nothing;
        };
        let status = response.status().as_u16();
        judge_token(skew, status).unwrap_or(match status {
            200 | 201 => Heard::Result(Value::Null),
            // No room at the moment.
            503 | 507 => Heard::Refused {
                reason: "storageUnavailable".to_owned(),
                later: true,
            },
            _ => Heard::Wrong(format!("storing a blob: {status}")),
        })
    }

    fn url(&self) -> String {
        let url = self.world.url.read();
        url.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn token(&self, skew_s: i64) -> String {
        let now = unix_time().as_secs().saturating_add_signed(skew_s);
        format!("Bearer {}", sign(self.name, &self.secret, now))
    }
}

/// What a status says of a token that was made by a clock that is so far off; nothing if it was taken and
/// should have been.
fn judge_token(skew_s: i64, status: u16) -> Option<Heard> {
    match (skew_s, status) {
        (0, 401) => Some(Heard::Wrong("a good token was refused".to_owned())),
        (0, _) => None,
        (_, 401) => Some(Heard::Stranger),
        (skew, status) => Some(Heard::Wrong(format!(
            "a token that is {skew} s off was answered with {status}"
        ))),
    }
}

/// A key, a witness, and what judges its proofs.
struct Circuit {
    key: Key,
    /// The digest of the key, by which it is called.
    name: String,
    witness: Vec<u8>,
    digest: String,
    judge: VerificationKey,
    public: PublicInputs,
}

impl Circuit {
    fn new(key: Key) -> Result<Circuit> {
        let mut witness = Vec::new();
        key.witness.write(&mut witness).context("a witness")?;
        let curve = key.zkey.curve();
        Ok(Circuit {
            name: hex(&key.file),
            digest: hex(&witness),
            judge: verification_key(&key.zkey).context("a verification key")?,
            public: PublicInputs::new(curve, key.public()).context("public inputs")?,
            witness,
            key,
        })
    }

    /// Why a result is none of this circuit and witness.
    fn refuses(&self, result: &Value) -> Option<String> {
        let judge = || {
            let proof = Proof::parse(
                result["proof"].to_string().as_bytes(),
                Some(self.judge.curve),
            )?;
            let public = result["publicInputs"].to_string();
            let public = PublicInputs::parse(public.as_bytes(), self.judge.curve)?;
            ensure!(public == self.public, "its public inputs are others");
            Ok(verify(&self.judge, &proof, &public)?)
        };
        judge()
            .err()
            .map(|error: anyhow::Error| format!("{error:#}"))
    }
}

fn circuits(plan: &Plan, threads: usize) -> Result<Vec<Circuit>> {
    if plan.zkey.is_empty() {
        let key = |log2| Circuit::new(Key::synthetic(CurveId::Bn254, log2, 0.9, threads)?);
        return SIZES.into_iter().map(key).collect();
    }
    let files = plan.zkey.iter().zip(&plan.witness);
    files
        .map(|(zkey, witness)| Circuit::new(Key::read(zkey, witness)?))
        .collect()
}

/// A tenant and what it knows of its jobs.
struct Tenant<'a> {
    speaker: Speaker<'a>,
    circuits: &'a [Circuit],
    chance: Chance,
    /// Jobs that it has not seen end, the one that was looked at last at the end.
    open: VecDeque<Open>,
    /// Jobs that it was ever told of.
    jobs: BTreeSet<String>,
    words: u64,
    told: Told,
}

/// A submission of which the end is not known.
struct Open {
    word: String,
    circuit: usize,
    params: Value,
    job: Option<String>,
    /// Whether it was ever asked to be cancelled, and whether it was told to be.
    asked: bool,
    cancelled: bool,
}

impl<'a> Tenant<'a> {
    fn new(speaker: Speaker<'a>, circuits: &'a [Circuit], seed: u64) -> Tenant<'a> {
        Tenant {
            speaker,
            circuits,
            chance: Chance(seed),
            open: VecDeque::new(),
            jobs: BTreeSet::new(),
            words: 0,
            told: Told::default(),
        }
    }

    /// Uses the box until there is to be no more work.
    fn work(&mut self) {
        while !self.speaker.world.stop.load(Ordering::Acquire) {
            match self.chance.next() % 16 {
                0 => self.cancel(),
                1 => self.declare(),
                2..9 if self.open.len() < OPEN => self.begin(),
                _ => self.look(20),
            }
        }
    }

    /// Waits for the end of all that it has begun.
    fn settle(&mut self) {
        let begun = Instant::now();
        while !self.open.is_empty() {
            self.look(1_000);
            if begun.elapsed() > PATIENCE {
                let left = self.open.iter();
                let left =
                    left.map(|it| format!("{} of {} has not ended", it.word, self.speaker.name));
                self.told.wrong.extend(left);
                return;
            }
        }
    }

    fn begin(&mut self) {
        let circuit = self.chance.next() as usize % self.circuits.len();
        let it = &self.circuits[circuit];
        self.words += 1;
        let word = format!("word-{}", self.words);
        let mut params = json!({
            "circuit": it.name,
            "witness": it.digest,
            "idempotencyKey": word,
        });
        if it.witness.len() <= IN_ROW_MAX && self.chance.next().is_multiple_of(2) {
            params["witnessData"] = STANDARD.encode(&it.witness).into();
        }
        if self.chance.next().is_multiple_of(2) {
            params["deadlineMs"] = (500 + self.chance.next() % 5_000).into();
        }
        self.open.push_back(Open {
            word,
            circuit,
            params,
            job: None,
            asked: false,
            cancelled: false,
        });
        let last = self.open.len() - 1;
        self.submit(last);
    }

    /// Sends a submission, for the first time or again.
    fn submit(&mut self, at: usize) {
        let open = &self.open[at];
        let heard = hear(&self.speaker, &mut self.told, |it| {
            it.call(Method::Submit, &open.params)
        });
        let status = match heard {
            Some(Heard::Result(status)) => status,
            Some(Heard::Refused { reason, .. }) if reason == "blobUnknown" => {
                let circuit = &self.circuits[open.circuit];
                // It is sent again when it is looked at.
                hear(&self.speaker, &mut self.told, |it| {
                    it.store(&circuit.witness, &circuit.digest)
                });
                return;
            }
            // The circuits of before are still being loaded.
            Some(Heard::Refused { reason, .. }) if reason == "circuitNotReady" => return,
            // Said before it is accepted: there is no job. It is sent again without a deadline, as a tenant
            // does who wants its proof however late; else a witness that is stored for it would stay for ever.
            Some(Heard::Refused { reason, .. }) if reason == "deadlineUnmeetable" => {
                self.told.later += 1;
                if let Some(params) = self.open[at].params.as_object_mut() {
                    params.remove("deadlineMs");
                }
                return;
            }
            Some(Heard::Refused { reason, .. }) => {
                self.told.wrong.push(format!("{}: {reason}", open.word));
                self.open.remove(at);
                return;
            }
            _ => return,
        };
        let job = status["job"].as_str().unwrap_or_default().to_owned();
        if !self.jobs.insert(job.clone()) {
            let word = &self.open[at].word;
            self.told
                .wrong
                .push(format!("{word} got the job of another word: {job}"));
        }
        self.told.accepted += 1;
        self.open[at].job = Some(job);
    }

    /// Looks at the job that was not looked at for longest, and waits a moment for its end.
    fn look(&mut self, wait_ms: u64) {
        let Some(open) = self.open.pop_front() else {
            return;
        };
        self.open.push_back(open);
        let last = self.open.len() - 1;
        let Some(job) = self.open[last].job.clone() else {
            return self.submit(last);
        };
        let params = json!({ "job": job, "waitMs": wait_ms });
        let heard = hear(&self.speaker, &mut self.told, |it| {
            it.call(Method::Result, &params)
        });
        let open = &self.open[last];
        let name = format!("{} of {}", open.word, self.speaker.name);
        let wrong = match heard {
            Some(Heard::Result(result)) => {
                self.told.proved += 1;
                let refused = self.circuits[open.circuit].refuses(&result);
                let params = json!({ "job": job });
                let again = hear(&self.speaker, &mut self.told, |it| {
                    it.call(Method::Result, &params)
                });
                match (open.cancelled, refused, again) {
                    (true, ..) => Some(format!("{name} was cancelled and is proved")),
                    (_, Some(why), _) => Some(format!("{name} has a wrong proof: {why}")),
                    (_, _, Some(Heard::Result(again))) if again != result => {
                        Some(format!("{name} has two results"))
                    }
                    (_, _, Some(Heard::Refused { reason, .. })) => {
                        Some(format!("{name} had a result, and then: {reason}"))
                    }
                    _ => None,
                }
            }
            Some(Heard::Refused { reason, .. }) if reason == "jobNotFinished" => return,
            Some(Heard::Refused { reason, .. }) if reason == "jobCancelled" => {
                self.told.cancelled += 1;
                (!open.asked).then(|| format!("{name} was cancelled by nobody"))
            }
            Some(Heard::Refused { reason, .. }) => Some(format!("{name} is lost: {reason}")),
            _ => return,
        };
        self.told.wrong.extend(wrong);
        self.open.pop_back();
    }

    fn cancel(&mut self) {
        let Some(at) = (self.chance.next() as usize).checked_rem(self.open.len()) else {
            return;
        };
        let Some(job) = self.open[at].job.clone() else {
            return;
        };
        self.open[at].asked = true;
        let params = json!({ "job": job });
        let heard = hear(&self.speaker, &mut self.told, |it| {
            it.call(Method::Cancel, &params)
        });
        if let Some(Heard::Result(status)) = heard {
            self.open[at].cancelled |= status["state"] == "cancelled";
        }
    }

    fn declare(&mut self) {
        let units = self.chance.next() % 2;
        let params = match units {
            0 => json!({ "units": 0 }),
            _ => json!({ "units": 1, "durationMs": 1_000 }),
        };
        hear(&self.speaker, &mut self.told, |it| {
            it.call(Method::Demand, &params)
        });
    }
}

/// Makes a call and sees to what has nothing to do with it; what it came to, if it came to something.
fn hear(
    speaker: &Speaker<'_>,
    told: &mut Told,
    call: impl FnOnce(&Speaker<'_>) -> Heard,
) -> Option<Heard> {
    let life = speaker.world.life();
    let heard = call(speaker);
    match heard {
        Heard::Result(_) | Heard::Refused { later: false, .. } => return Some(heard),
        Heard::Refused { .. } => told.later += 1,
        Heard::Stranger => {}
        Heard::Nothing => {
            let was_up = life.is_multiple_of(2) && life == speaker.world.life();
            told.unanswered += u64::from(was_up);
        }
        Heard::Wrong(text) => told.wrong.push(text),
    }
    std::thread::sleep(PAUSE);
    None
}

/// The box and what befalls it.
struct Field<'a> {
    daemon: Daemon,
    world: &'a World,
    chance: Chance,
    /// When this life of the box began.
    born: Instant,
    injected: Vec<Fault>,
    /// Of this life.
    samples: Vec<Sample>,
    has_device: bool,
    /// Whether there is one that can still be lost.
    device_left: bool,
    /// Blobs at the end that only another start has swept.
    left_for_start: usize,
    wrong: Vec<String>,
}

impl Field<'_> {
    /// Lets things go wrong for so long.
    fn inject(&mut self, bench: &Bench, span: Duration) -> Result<()> {
        let begun = Instant::now();
        let gap = (span / 60).clamp(FAULT_GAP_MIN, FAULT_GAP_MAX);
        let look = (span / 300).clamp(LOOK_MIN, LOOK_MAX);
        // Each of them once, and then any.
        let mut first = Fault::ALL.to_vec();
        for at in (1..first.len()).rev() {
            first.swap(at, self.chance.next() as usize % (at + 1));
        }
        let (mut fault_due, mut look_due) = (self.chance.span(gap), Duration::ZERO);
        while begun.elapsed() < span || !first.is_empty() {
            let due = fault_due.min(look_due);
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            if begun.elapsed() >= fault_due {
                let early = begun.elapsed() < span / 2;
                let at = self.chance.next() as usize % Fault::ALL.len();
                let fault = first.pop().unwrap_or(Fault::ALL[at]);
                let may = early || !fault.restarts() || !first.is_empty() || !self.has_had(fault);
                if may && (fault != Fault::Device || self.device_left) {
                    bench.say(&format!(
                        "soak: {} s: {}",
                        begun.elapsed().as_secs(),
                        fault.name()
                    ));
                    self.strike(fault, gap).with_context(|| fault.name())?;
                    self.injected.push(fault);
                }
                fault_due = begun.elapsed() + self.chance.span(gap);
            }
            if begun.elapsed() >= look_due {
                self.look()?;
                look_due = begun.elapsed() + look;
            }
        }
        Ok(())
    }

    fn has_had(&self, fault: Fault) -> bool {
        self.injected.contains(&fault)
    }

    fn count(&self, fault: Fault) -> usize {
        self.injected.iter().filter(|it| **it == fault).count()
    }

    fn strike(&mut self, fault: Fault, gap: Duration) -> Result<()> {
        let moment = self.chance.span(gap.min(Duration::from_secs(2)));
        match fault {
            Fault::Kill => self.restart(Server::kill, |_| Ok(())),
            Fault::Stop => self.restart(Server::stop, |_| Ok(())),
            Fault::Jump => {
                let hours = (self.chance.next() % 11) as i64 - 5;
                self.restart(Server::kill, |data| move_times(data, hours * 3_600_000))
            }
            Fault::Skew => self.skew(moment),
            Fault::Full => {
                let process = self.daemon.server()?.process();
                limit(process, &FULL_BYTES.to_string())?;
                std::thread::sleep(moment);
                limit(process, "unlimited")?;
                self.await_ready()
            }
            Fault::Device => {
                self.device_left = false;
                let process = self.daemon.server()?.process();
                // One that answered too late on a busy machine is lost already.
                match child_of(process)? {
                    Some(device) => kill(device, Signal::SIGKILL).context("killing a device"),
                    None => Ok(()),
                }
            }
        }
    }

    /// Ends the box, does something to its data, and starts it.
    fn restart(
        &mut self,
        end: fn(Server) -> Result<()>,
        between: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        self.world.lives.fetch_add(1, Ordering::AcqRel);
        self.daemon.end(end)?;
        between(&self.daemon.data())?;
        self.daemon.start_again()?;
        let mut url = self
            .world
            .url
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *url = self.daemon.url()?;
        drop(url);
        self.world.lives.fetch_add(1, Ordering::AcqRel);
        self.samples.clear();
        self.born = Instant::now();
        self.device_left = self.has_device;
        Ok(())
    }

    /// The tenants' clocks go wrong for a while.
    fn skew(&mut self, moment: Duration) -> Result<()> {
        let name = TENANTS[0].0;
        let speaker = Speaker::new(name, self.daemon.secret(name)?, self.world);
        let hour = if self.chance.next().is_multiple_of(2) {
            3_600
        } else {
            -3_600
        };
        self.world.skew_s.store(hour, Ordering::Release);
        let refused = speaker.call(Method::ListCircuits, &json!({}));
        std::thread::sleep(moment);
        self.world.skew_s.store(0, Ordering::Release);
        let taken = speaker.call(Method::ListCircuits, &json!({}));
        for heard in [refused, taken] {
            match heard {
                Heard::Wrong(text) => self.wrong.push(text),
                Heard::Nothing => self
                    .wrong
                    .push("no answer to a call about clocks".to_owned()),
                _ => {}
            }
        }
        Ok(())
    }

    /// Waits until a box that had no room says that it has some.
    fn await_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        let url = format!("{}/readyz", self.daemon.url()?);
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        while agent.get(&url).call()?.status() != 200 {
            if begun.elapsed() > PATIENCE {
                self.wrong
                    .push("a disk has room again, and the box is not ready".to_owned());
                break;
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Looks at what the box takes.
    fn look(&mut self) -> Result<()> {
        let process = self.daemon.server()?.process();
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let anonymous = status.lines().find_map(|line| {
            let number = line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?;
            number.parse::<f64>().ok()
        });
        self.samples.push(Sample {
            age: self.born.elapsed(),
            memory: anonymous.context("no RssAnon")? * 1024.0,
            rows: self.count_rows("1")? as f64,
            files: files(&self.daemon.data())? as f64,
        });
        Ok(())
    }

    /// Rows of jobs for which something holds.
    fn count_rows(&self, holds: &str) -> Result<u64> {
        let path = self.daemon.data().join(DATABASE);
        let tables = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        tables.busy_timeout(PATIENCE)?;
        let query = format!("SELECT count(*) FROM jobs WHERE {holds}");
        let count: i64 = tables.query_row(&query, [], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Every job has ended, so no witness is left, and of blobs only keys are.
    fn look_at_the_end(&mut self, keys: usize) -> Result<()> {
        let mut begun = Instant::now();
        let blobs = self.daemon.data().join("blobs");
        loop {
            let unfinished = self.count_rows("state IS NULL")?;
            let witnesses = self.count_rows("in_row IS NOT NULL")?;
            let held = files(&blobs.join("tenants"))?;
            let half = files(&blobs.join("erasing"))? + files(&blobs.join("incoming"))?;
            if (unfinished, witnesses, held, half) == (0, 0, keys, 0) {
                return Ok(());
            }
            // A disk that takes nothing lets nothing be overwritten: the next start does it.
            if half > 0 && self.left_for_start == 0 && begun.elapsed() > SWEPT_BY {
                self.left_for_start = half;
                self.restart(Server::stop, |_| Ok(()))?;
                begun = Instant::now();
            }
            if begun.elapsed() > PATIENCE {
                self.wrong.push(format!(
                    "left at the end: {unfinished} unfinished jobs, {witnesses} witnesses in rows, {held} blobs where {keys} keys are, {half} blobs that come or go"
                ));
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

/// Moves the times of all jobs: to the box it is as if its clock had been set by as much to the other side.
fn move_times(data: &Path, by_ms: i64) -> Result<()> {
    let tables = Connection::open(data.join(DATABASE))?;
    let change = "UPDATE jobs SET submitted_ms = submitted_ms + ?1, ended_ms = ended_ms + ?1";
    tables.execute(change, [by_ms])?;
    Ok(())
}

/// How long the files of a process may become.
fn limit(process: Pid, bytes: &str) -> Result<()> {
    let status = Command::new("prlimit")
        .args(["--pid", &process.to_string(), &format!("--fsize={bytes}:")])
        .status()
        .context("prlimit, which is part of every Debian")?;
    ensure!(status.success(), "prlimit: {status}");
    Ok(())
}

/// A process that another has started.
fn child_of(process: Pid) -> Result<Option<Pid>> {
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(number) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile is nobody's child.
        let Ok(text) = std::fs::read_to_string(format!("/proc/{number}/stat")) else {
            continue;
        };
        // "number (name) state parent": a name may have anything in it.
        let parent = text
            .rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1));
        if parent.and_then(|it| it.parse().ok()) == Some(process.as_raw()) {
            return Ok(Some(Pid::from_raw(number)));
        }
    }
    Ok(None)
}

/// Files below a folder, which may change meanwhile.
fn files(folder: &Path) -> Result<usize> {
    let mut count = 0;
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error).with_context(|| folder.display().to_string()),
    };
    for entry in entries {
        let entry = entry?;
        count += match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&entry.path())?,
            _ => 1,
        };
    }
    Ok(count)
}

/// What a configuration says of a device that can be lost; nothing where the double was not built.
fn device(folder: &Path) -> Result<Option<String>> {
    let places = [beside(DOUBLE)?, beside("deps")?.join(DOUBLE)];
    let Some(double) = places.into_iter().find(|path| path.is_file()) else {
        return Ok(None);
    };
    for file in ["device", "field_bn254", "curve_bn254"] {
        std::fs::copy(&double, folder.join(format!("libicicle_{file}.so")))?;
    }
    Ok(Some(format!(
        "devices = ['icicle:CPU:0']\nicicle_folder = '{}'\n",
        folder.display()
    )))
}

fn hex(bytes: &[u8]) -> String {
    crate::live::hex(&Sha256::digest(bytes))
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

    /// From half of it to one and a half.
    fn span(&mut self, of: Duration) -> Duration {
        of / 2 + of.mul_f64(self.next() as f64 / u64::MAX as f64)
    }
}

/// One of each class of the standard policy.
const TENANTS: [(&str, &str); 4] = [
    ("exchange", "financial"),
    ("harbour", "supply_chain"),
    ("market", "retail"),
    ("plaza", "social"),
];
/// log2 of the domains of the keys: the witness of the last one is too long for a row.
const SIZES: [u32; 3] = [6, 10, 12];
const MINUTES: f64 = 10.0;
/// Jobs of a tenant of which it does not know the end.
const OPEN: usize = 6;
/// A witness of so many bytes may come with its submission.
const IN_ROW_MAX: usize = 64 << 10;
const FAULT_GAP_MIN: Duration = Duration::from_millis(100);
const FAULT_GAP_MAX: Duration = Duration::from_secs(10);
const LOOK_MIN: Duration = Duration::from_millis(50);
const LOOK_MAX: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);
/// A box that takes longer to answer, or to end what it has, has failed.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is erased when a job ends is gone soon after.
const SWEPT_BY: Duration = Duration::from_secs(15);
/// A full disk still takes what begins a file.
const FULL_BYTES: u64 = 4096;
/// Growth that is the allocator's.
const MEMORY_SLACK: f64 = 8.0 * 1024.0 * 1024.0;
/// Jobs under way, and their witnesses, come and go.
const COUNT_SLACK: f64 = (TENANTS.len() * OPEN) as f64;
const DOUBLE: &str = "libcaldera_icicle_double.so";
const DATABASE: &str = "caldera.sqlite";

/// So few results that the box soon has as many as it keeps.
const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
[limits]
tenant_results = 64
table_bytes = 33554432
";

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(u64) -> f64) -> Vec<Sample> {
        let sample = |second| Sample {
            age: Duration::from_secs(second),
            memory: memory(second),
            rows: 7.0,
            files: 3.0,
        };
        (0..240).map(sample).collect()
    }

    #[test]
    fn growth_is_seen_behind_the_time_of_warming_up() {
        let flat = Trend::of(
            &samples(|second| if second < 50 { 1.0 } else { 9.0 }),
            |it| it.memory,
        );
        assert_eq!((flat.first, flat.last, flat.grew()), (9.0, 9.0, 0.0));
        assert!(flat.a_minute.abs() < 1e-9);
        let leak = Trend::of(&samples(|second| second as f64), |it| it.memory);
        assert!((leak.a_minute - 60.0).abs() < 1e-6, "{leak:?}");
        // Two thirds of three quarters of four minutes lie between them.
        assert!((leak.grew() - 120.0).abs() < 2.0, "{leak:?}");
        assert_eq!(Trend::of(&[], |it| it.rows).grew(), 0.0);
    }

    #[test]
    fn clocks_that_are_off_must_be_refused_and_others_not() {
        let is = |skew, status, what: fn(&Heard) -> bool| {
            judge_token(skew, status).as_ref().is_some_and(what)
        };
        assert!(judge_token(0, 200).is_none());
        assert!(is(0, 401, |it| matches!(it, Heard::Wrong(_))));
        assert!(is(3600, 401, |it| matches!(it, Heard::Stranger)));
        assert!(is(3600, 200, |it| matches!(it, Heard::Wrong(_))));
    }
}
