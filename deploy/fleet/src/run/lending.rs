//! Carries out the lender's commands, and beats.
//!
//! What a box offers is what its operator has written down, less what is held; which keys it has is asked of it. A box that is away offers no
//! room, and one without `[lend]` never does: it beats all the same, for a box listens for its own beats.
//!
//! A witness lies here in the clear until its proof is made, and is overwritten then; what a killed process left is overwritten at the next start.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::AckKind;
use caldera_rpc::chain::chain;
use caldera_scheduler::Nanos;
use futures_util::StreamExt;
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::control::Question;
use super::loans::{Loans, Order};
use super::{FETCHED, RunError, Shared, Totals, duration};
use crate::calderad::{Calderad, CalderadError, Part, hint};
use crate::lender::{Command, Event, Foreign};
use crate::loan::Granted;
use crate::messages::{
    JobBody, Subject, decode_withdrawn, encode_answer, encode_beat, encode_held, encode_loan,
};
use crate::nats::{Broker, Delivered, Deliveries, Kept};
use crate::transfer::{TransferError, Wanted, erase, fetch};
use crate::{Advertisement, Answer, KeyHint, Lender, Token};

struct Lending<C> {
    shared: Arc<Shared<C>>,
    broker: Broker,
    machine: Lender,
    /// What is held, or was delivered just now.
    foreign: BTreeMap<Foreign, Job>,
    deliveries: Deliveries,
    /// Without a bound: each is of one command.
    events: mpsc::UnboundedSender<Event>,
    sequence: u64,
    /// How much room was told last.
    room: u32,
    /// Keys of the box; nothing while it is away.
    keys: watch::Receiver<Option<Vec<KeyHint>>>,
    fetching: Arc<Fetching>,
}

struct Job {
    body: JobBody,
    /// The placement under which its bytes are asked for: the newest.
    token: Arc<AtomicU64>,
    work: Option<AbortHandle>,
}

/// Keys that are on their way: each is fetched once, whoever waits for it.
#[derive(Default)]
struct Fetching(Mutex<HashMap<[u8; 32], Arc<tokio::sync::Mutex<()>>>>);

/// Why a job is not proved here.
enum Failure {
    /// It will not be, either.
    Lasting(String),
    /// It may be, in a while.
    Passing(String),
}

pub(super) async fn run<C: Calderad>(
    shared: Arc<Shared<C>>,
    holds: watch::Sender<usize>,
    mut asked: mpsc::Receiver<Question>,
    mut orders: mpsc::Receiver<Order>,
) -> Result<(), RunError> {
    let me = shared.config.me;
    let broker = Broker::connect(&shared.config.nats, me).await?;
    let mut withdrawn = broker
        .hear(format!("caldera.withdrawn.*.{:032x}", me.0))
        .await?;
    let offered = shared.config.lend.as_ref().map_or(0, |lend| lend.jobs);
    let (events, mut outcomes) = mpsc::unbounded_channel();
    let (know, keys) = watch::channel(None);
    let lend = shared.config.lend.as_ref();
    let (capacity, only_loans) = lend.map_or((0, false), |lend| {
        (lend.cores.saturating_mul(lend.speed), lend.only_loans)
    });
    let granted = Granted::new(me, capacity, only_loans);
    let mut loans = Loans::new(broker.clone(), shared.boot, offered > 0);
    if offered > 0 {
        tokio::spawn(ask_keys(Arc::clone(&shared), know));
    }
    let mut this = Lending {
        broker,
        machine: Lender::new(shared.boot, shared.terms, offered, granted),
        foreign: BTreeMap::new(),
        deliveries: Deliveries::default(),
        events,
        sequence: 0,
        room: 0,
        keys,
        fetching: Arc::default(),
        shared,
    };
    let refused = this.broker.clone().watch_over();
    tokio::pin!(refused);
    let (to, mut jobs) = mpsc::channel(JOBS_AHEAD);
    let brought = this.broker.clone().bring(Kept::Jobs, to);
    tokio::pin!(brought);
    let mut beat = interval(duration(this.shared.terms.beat()));
    // After a pause there is no use in several at once.
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stage = this.shared.stage.clone();
    loop {
        tokio::select! {
            error = &mut refused => return Err(error.into()),
            ended = &mut brought => {
                ended?;
                return Err(RunError::Ended { thread: "lender" });
            }
            _ = beat.tick() => {
                this.handle(Event::Beat);
                loans.keep(this.machine.granted(), this.shared.now());
            }
            Ok(()) = stage.changed() => {
                let draining = this.shared.is_draining();
                this.handle(Event::Drain(draining));
                // Nobody is to wait for a beat to hear it.
                this.handle(Event::Beat);
            }
            Some(event) = outcomes.recv() => this.handle(event),
            Some(delivered) = jobs.recv() => this.delivered(delivered),
            Some(message) = withdrawn.next() => this.heard(&message),
            outcome = loans.outcome() => {
                let now = this.shared.now();
                loans.settle(outcome, &mut this.machine, now);
                this.carry_out_all();
            }
            Some(order) = orders.recv(), if !loans.is_busy() => {
                let now = this.shared.now();
                loans.order(order, &mut this.machine, now);
                this.carry_out_all();
            }
            Some(question) = asked.recv() => {
                let status = json!({
                    "offered": offered,
                    "room": this.room,
                    "held": this.machine.held(),
                    "loans": Loans::told(this.machine.granted(), this.shared.now()),
                });
                let _ = question.send(status);
            }
        }
        holds.send_replace(this.machine.held());
    }
}

/// Which keys the box has, asked once in a beat.
async fn ask_keys<C: Calderad>(shared: Arc<Shared<C>>, know: watch::Sender<Option<Vec<KeyHint>>>) {
    loop {
        let keys = match shared.calderad.keys().await {
            Ok(keys) => Some(keys.iter().map(hint).collect()),
            Err(error) => {
                if know.borrow().is_some() {
                    tracing::warn!(error = %chain(&error), "nothing is lent");
                }
                None
            }
        };
        know.send_replace(keys);
        sleep(duration(shared.terms.beat())).await;
    }
}

impl<C: Calderad> Lending<C> {
    fn handle(&mut self, event: Event) {
        self.machine.handle(event, self.shared.now());
        self.carry_out_all();
    }

    fn carry_out_all(&mut self) {
        let commands: Vec<Command> = self.machine.commands().collect();
        for command in commands {
            self.carry_out(command);
        }
        let machine = &self.machine;
        self.foreign.retain(|of, job| {
            let held = machine.holds(*of);
            if !held && let Some(work) = job.work.take() {
                work.abort();
            }
            held
        });
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { of } => self.start(of),
            Command::Abort { of } => {
                let shared = Arc::clone(&self.shared);
                let file = witness_file(&shared, of);
                if let Some(work) = self.foreign.get_mut(&of).and_then(|job| job.work.take()) {
                    work.abort();
                }
                tokio::spawn(async move {
                    shared.calderad.abort(of).await;
                    forget(file).await;
                });
            }
            Command::Publish { of, token, answer } => {
                match answer {
                    Answer::Proof(_) => Totals::count(&self.shared.totals.lent),
                    Answer::Refused(_) => Totals::count(&self.shared.totals.refused),
                    Answer::Failed => {}
                }
                let subject = Subject::Answer {
                    lender: self.shared.config.me,
                    submitter: of.submitter,
                    job: of.job,
                    token,
                };
                let body = encode_answer(self.shared.boot, &answer);
                let (broker, events) = (self.broker.clone(), self.events.clone());
                tokio::spawn(async move {
                    let stored = broker.publish_once(subject, body).await;
                    let _ = events.send(Event::Published { of, token, stored });
                });
            }
            Command::Acknowledge(delivery) => {
                if let Some(acker) = self.deliveries.take(delivery) {
                    tokio::spawn(async move { timeout(SAY_WITHIN, acker.ack()).await });
                }
            }
            Command::Progress(delivery) => {
                if let Some(acker) = self.deliveries.progress(delivery) {
                    let progress =
                        async move { timeout(SAY_WITHIN, acker.ack_with(AckKind::Progress)).await };
                    tokio::spawn(progress);
                }
            }
            Command::Advertise { room } => self.advertise(room),
            // Of a box that cannot prove nothing can be had; what is reclaimed is told all the same.
            Command::Tell { loan, .. } if loan.rate > 0 && self.keys.borrow().is_none() => {}
            Command::Tell { borrower, loan } => {
                let lender = self.shared.config.me;
                let subject = Subject::Loan { lender, borrower };
                let broker = self.broker.clone();
                tokio::spawn(async move { broker.hint(subject, encode_loan(&loan)).await });
            }
            Command::Hold { submitter, jobs } => {
                let lender = self.shared.config.me;
                let subject = Subject::Held { lender, submitter };
                let broker = self.broker.clone();
                let bodies = encode_held(self.shared.boot, &jobs);
                tokio::spawn(async move {
                    for body in bodies {
                        broker.hint(subject, body).await;
                    }
                });
            }
        }
    }

    fn advertise(&mut self, room: u32) {
        self.sequence += 1;
        let keys = self.keys.borrow().clone();
        self.room = if keys.is_some() { room } else { 0 };
        let lend = self.shared.config.lend.as_ref();
        let cores = lend.map_or(0, |lend| lend.cores);
        let speed = lend.map_or(0, |lend| lend.speed);
        let rate = u64::from(cores) * u64::from(speed) / 1_000;
        let before: u64 = self.foreign.values().map(|job| job.body.work.0).sum();
        let says = Advertisement {
            boot: self.shared.boot,
            sequence: self.sequence,
            room: self.room,
            backlog: Nanos(before / rate.max(1)),
            cores,
            speed,
            price: lend.map_or(0, |lend| lend.price),
            keys: keys.unwrap_or_default(),
        };
        let subject = Subject::Beat {
            from: self.shared.config.me,
        };
        let broker = self.broker.clone();
        tokio::spawn(async move { broker.hint(subject, encode_beat(&says)).await });
    }

    fn delivered(&mut self, delivered: Delivered) {
        let Delivered {
            subject,
            body,
            acker,
        } = delivered;
        let (
            Subject::Job {
                submitter,
                boot,
                job,
                token,
                ..
            },
            Ok(body),
        ) = (subject, JobBody::decode(&body))
        else {
            // Whose lease ends.
            tracing::warn!(%subject, "a job is not understood");
            let term = async move { timeout(SAY_WITHIN, acker.ack_with(AckKind::Term)).await };
            tokio::spawn(term);
            return;
        };
        let of = Foreign { submitter, job };
        let known = self.foreign.entry(of).or_insert_with(|| Job {
            body,
            token: Arc::new(AtomicU64::new(token.0)),
            work: None,
        });
        // It may be somewhere else by now.
        known.body = body;
        known.token.fetch_max(token.0, Ordering::Relaxed);
        let delivery = self.deliveries.number(subject, acker);
        let demand = body.demand(self.shared.now());
        self.handle(Event::Delivered {
            delivery,
            of,
            token,
            boot,
            demand,
        });
    }

    fn heard(&mut self, message: &async_nats::Message) {
        let Ok(Subject::Withdrawn { submitter, .. }) = Subject::parse(&message.subject) else {
            return;
        };
        match decode_withdrawn(&message.payload) {
            Ok((job, token)) => {
                let of = Foreign { submitter, job };
                self.handle(Event::Withdrawn { of, token });
            }
            Err(error) => tracing::warn!(error = %chain(&error), "a hint is not understood"),
        }
    }

    fn start(&mut self, of: Foreign) {
        let Some(job) = self.foreign.get_mut(&of) else {
            return;
        };
        Totals::count(&self.shared.totals.begun);
        let (body, token) = (job.body, Arc::clone(&job.token));
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let fetching = Arc::clone(&self.fetching);
        let task = tokio::spawn(async move {
            let bound = duration(shared.terms.bound(body.work));
            let file = witness_file(&shared, of);
            let proving = async {
                loop {
                    match prove(&shared, &fetching, of, &body, &token, &file).await {
                        Ok(answer) => return answer,
                        Err(Failure::Lasting(error)) => {
                            tracing::warn!(submitter = %of.submitter, job = %of.job, error, "not proved");
                            return Answer::Failed;
                        }
                        Err(Failure::Passing(error)) => {
                            tracing::warn!(submitter = %of.submitter, job = %of.job, error, "not proved yet");
                            sleep(PROVE_AGAIN).await;
                        }
                    }
                }
            };
            let answer = match timeout(bound, proving).await {
                Ok(answer) => answer,
                // Its submitter has asked another by now, whether it can say so or not.
                Err(_) => {
                    let shared = Arc::clone(&shared);
                    tokio::spawn(async move { shared.calderad.abort(of).await });
                    Answer::Failed
                }
            };
            forget(file).await;
            let _ = events.send(Event::Computed { of, answer });
        });
        job.work = Some(task.abort_handle());
    }
}

/// Fetches what a job needs, and has the box prove it.
async fn prove<C: Calderad>(
    shared: &Shared<C>,
    fetching: &Fetching,
    of: Foreign,
    body: &JobBody,
    token: &AtomicU64,
    file: &Path,
) -> Result<Answer, Failure> {
    let wanted = |part, digest, bytes| Wanted {
        who: of.submitter,
        address: body.from,
        job: of.job,
        token: Token(token.load(Ordering::Relaxed)),
        part,
        digest,
        bytes,
    };
    let calderad = &shared.calderad;
    {
        let turn = fetching.turn(body.key);
        let _turn = turn.lock().await;
        if !calderad.keys().await?.contains(&body.key) {
            let name = format!("{}.zkey", hex::encode(body.key));
            let key = shared.config.state.join(FETCHED).join(name);
            let wanted = wanted(Part::Key, body.key, body.key_bytes);
            fetch(&shared.identity, &wanted, &key).await?;
            calderad.add_key(body.key, &key).await?;
            // The box has it now.
            std::fs::remove_file(&key).map_err(|error| Failure::Passing(error.to_string()))?;
        }
    }
    let wanted = wanted(Part::Witness, body.witness, body.witness_bytes);
    fetch(&shared.identity, &wanted, file).await?;
    let proved = calderad.prove(of, body.key, body.witness, file, body.bill);
    Ok(proved.await?)
}

impl Fetching {
    fn turn(&self, key: [u8; 32]) -> Arc<tokio::sync::Mutex<()>> {
        // Nothing that holds it can panic half-way.
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(key).or_default())
    }
}

impl From<TransferError> for Failure {
    fn from(error: TransferError) -> Failure {
        match error {
            TransferError::Away { .. } | TransferError::File { .. } => {
                Failure::Passing(chain(&error).to_string())
            }
            // What is not given is not placed here any more; what is something else stays that.
            error => Failure::Lasting(chain(&error).to_string()),
        }
    }
}

impl From<CalderadError> for Failure {
    fn from(error: CalderadError) -> Failure {
        match &error {
            CalderadError::Away { .. } | CalderadError::Unauthorized { .. } => {
                Failure::Passing(error.to_string())
            }
            CalderadError::Refused { reason, .. } if PASSING.contains(&reason.as_str()) => {
                Failure::Passing(error.to_string())
            }
            _ => Failure::Lasting(error.to_string()),
        }
    }
}

fn witness_file<C>(shared: &Shared<C>, of: Foreign) -> PathBuf {
    let name = format!("{:032x}-{:016x}.{WITNESS}", of.submitter.0, of.job.0);
    shared.config.state.join(FETCHED).join(name)
}

/// Overwrites a witness, and what came of one that did not come whole.
async fn forget(file: PathBuf) {
    let erased = tokio::task::spawn_blocking(move || {
        erase(&file)?;
        erase(&file.with_extension(PARTIAL))
    });
    if let Ok(Err(error)) = erased.await {
        tracing::error!(error = %chain(&error), "a witness of another box is not erased");
    }
}

/// Overwrites all witnesses that are in a folder. Keys that did not come whole go on where they were cut off.
pub(super) fn forget_witnesses(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        // A key's name has no `-`.
        let of_witness = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.contains('-'));
        if of_witness {
            erase(&path)?;
        }
    }
    Ok(())
}

const WITNESS: &str = "wtns";
const PARTIAL: &str = "part";
const JOBS_AHEAD: usize = 64;
const SAY_WITHIN: Duration = Duration::from_secs(2);
const PROVE_AGAIN: Duration = Duration::from_secs(1);
/// Reasons of a box that is busy. A blob that was there a moment ago was the witness of another job too, with which it went.
const PASSING: [&str; 8] = [
    "tenantQueueFull",
    "boxQueueFull",
    "tenantCallsFull",
    "tenantRateFull",
    "storageUnavailable",
    "stopping",
    "circuitNotReady",
    "blobUnknown",
];
