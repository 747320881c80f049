//! The service: what each method does, and all that is known of tenants, circuits and jobs.
//!
//! Everything here belongs to the RPC thread, so there are no locks. Other threads send
//! [`Message`]s (the clerk, the registrar, the preparers) or notices (the arbiter); [`pump`]
//! takes them in. What takes longer than a look-up is handed to one of them, and the call waits
//! as an entry in a table until the answer comes; the shell learns of finished answers through
//! [`Service::outgoing`]. There is no socket here: a request is bytes, a caller and the time at
//! which the last of the bytes was read.
//!
//! Tenants. A caller sees its own circuits, blobs and jobs; for those of others every answer is
//! the one that would be given if they did not exist. The operator sees who holds which core and
//! owns nothing.
//!
//! Jobs live here and in the store, which has each before it is acknowledged and its outcome before it is told;
//! a start takes over what the store has.
//!
//! [`pump`]: Service::pump

mod circuits;
mod dashboard;
mod era;
mod events;
mod jobs;
mod pool;
mod profiles;
mod state;
mod storage;
mod tenants;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Duration;

use bytes::Bytes;
use caldera_kernels::{Device, DeviceInfo};
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::groth16::ProvingKey;
use caldera_rpc::auth::{FLEET, Keyring, OPERATOR, Secret};
use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::jsonrpc::{self, Id, Json, Params, Request, Response};
use caldera_rpc::methods::Scope;
use caldera_rpc::methods::{Digest, IdempotencyKey, Method, PoolQuery, StorageQuery, Word};
use caldera_rpc::openrpc::{self, DISCOVER, Discover};
use caldera_scheduler::arbiter::Cause;
use caldera_scheduler::scenario::Class;
use caldera_scheduler::storage::Watch;
use caldera_scheduler::{JobId, Nanos, Policy, TenantId};
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore, Finished};
use caldera_store::circuits::CircuitRow;
use caldera_store::jobs::JobRow;
use caldera_store::releases::ReleaseRow;
use caldera_store::tenants::TenantRow;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arbiter_thread::{Command, Inbox, Notice, Outbox, PoolView};
use crate::board::{Board, RunningJob};
use crate::clerk::{Recorded, Stored, TRY_AGAIN, Task};
use crate::clock::{Clock, unix_time};
use crate::config::Config;
use crate::era::EraGauges;
use crate::histograms::{cause_name, split};
use crate::lending::{self, NoPiece, Piece};
use crate::pin::Standing;
use crate::preparer::{Computing, Preparations};
use crate::profile::Profiles;
use crate::reaper::Grave;
use crate::registrar;
use crate::residence::Residence;
use crate::source::SourceError;
use crate::tables;
use crate::telemetry::{Doors, Gauges, Measurement, Silicon, Telemetry};
use crate::witness::Programs;

use circuits::Circuit;
use dashboard::Screens;
use events::{LOOK_EVERY, Watcher};
use jobs::{Asked, Entry, Lent};
pub use state::States;
use storage::Release;
use tenants::{Change, Terms};

/// Wakes the RPC thread. Neither waits nor allocates.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// The way in for threads that may allocate.
#[derive(Clone)]
pub struct Post {
    sender: Sender<Message>,
    wake: Wake,
}

/// What other threads tell the service.
pub enum Message {
    /// A job is laid out. To be handed to the reaper when it has ended.
    Prepared {
        /// The job.
        job: Arc<RunningJob>,
        /// When it was.
        at: Nanos,
        /// How long that took.
        span: Nanos,
        /// What its witness cost, where there were inputs.
        computed: Option<Computing>,
    },
    /// A preparer has computed for a tenant.
    Charged {
        /// Who.
        tenant: TenantId,
        /// For how long.
        core: Nanos,
    },
    /// A job could not be laid out.
    Unprepared {
        /// The job.
        job: JobId,
        /// Why.
        error: RpcError,
    },
    /// So many bytes of an upload are off our hands.
    Written {
        /// The upload.
        upload: u64,
        /// How many.
        bytes: usize,
    },
    /// An upload has ended.
    Stored {
        /// The upload.
        upload: u64,
        /// How.
        stored: Stored,
    },
    /// A blob was to be removed.
    BlobRemoved {
        /// Whose answer it is.
        exchange: u64,
        /// Whether it was there.
        removed: Result<bool, BlobError>,
    },
    /// A circuit is on the list, or is not.
    Registered {
        /// Of the question.
        ticket: u64,
        /// Whose circuit.
        tenant: TenantId,
        /// The digest of its key.
        circuit: Digest,
        /// Its row.
        registered: Box<Result<CircuitRow, RpcError>>,
    },
    /// A circuit is off the list.
    Unregistered {
        /// Of the question.
        ticket: u64,
        /// Whether it was on it.
        removed: Result<bool, RpcError>,
    },
    /// A key was checked and laid out.
    Examined {
        /// Whose.
        tenant: TenantId,
        /// Its digest.
        circuit: Digest,
        /// Whether its points were checked.
        checked: bool,
        /// The key, ready for proofs.
        result: Result<Arc<ProvingKey>, RpcError>,
    },
    /// A circuit's tables take so much now.
    Tables {
        /// Which.
        circuit: tables::CircuitId,
        /// How much; 0 if it has none.
        bytes: u64,
    },
    /// A key's source was looked at, because the key is to be given back.
    Confirmed {
        /// In which release.
        release: u64,
        /// The key.
        circuit: Digest,
        /// Whether it could be read again.
        result: Result<(), SourceError>,
    },
    /// Tables that are given back are freed.
    TablesReleased {
        /// In which release.
        release: u64,
        /// So many bytes.
        bytes: u64,
    },
    /// Files that are given back are removed.
    BlobsReleased {
        /// In which release.
        release: u64,
        /// So many bytes of keys.
        keys: u64,
        /// So many of other blobs.
        blobs: u64,
    },
    /// Nobody has a key mapped any more.
    Unmapped {
        /// Whose.
        tenant: TenantId,
        /// Its digest.
        circuit: Digest,
    },
    /// What was given back.
    Releases {
        /// Of the question.
        ticket: u64,
        /// The newest of it.
        releases: Result<Vec<ReleaseRow>, RpcError>,
    },
    /// Changes to jobs are written down.
    Recorded {
        /// What became of them.
        recorded: Vec<Recorded>,
    },
    /// A witness is erased, or will be when the box starts again.
    Erased {
        /// Whose.
        tenant: TenantId,
        /// Which.
        witness: Digest,
    },
    /// A tenant is written down, or is not.
    TenantWritten {
        /// Of the question.
        ticket: u64,
        /// Whether it is.
        written: Result<(), RpcError>,
    },
    /// What came of a question to the ledger.
    EraAnswered {
        /// Of the question.
        ticket: u64,
        /// The answer.
        answer: Result<Value, RpcError>,
    },
    /// The ledger stands like this.
    Era {
        /// How.
        era: Box<EraGauges>,
    },
    /// Jobs cannot be written down any more, or can be again.
    Storage {
        /// Why not.
        fault: Option<String>,
    },
    /// A piece of what is told to the fleet is read.
    FleetRead {
        /// Whose answer it is.
        exchange: u64,
        /// The piece.
        piece: Result<Piece, NoPiece>,
    },
    /// A proof from another box is held against its job.
    FleetJudged {
        /// Of the question.
        ticket: u64,
        /// The proof with what it is about, or why it is none.
        verdict: Box<Result<(Proof, PublicInputs), RpcError>>,
    },
    /// Presentations are verified.
    Judged {
        /// By ticket, whether each holds.
        judged: Vec<(u64, Result<(), RpcError>)>,
    },
    /// The element of a request of state units.
    Hashed {
        /// Of the question.
        ticket: u64,
        /// The element, unless the terms are refused.
        element: Result<Word, RpcError>,
    },
    /// The changes of the registry up to this one are written down.
    StateWritten {
        /// Its number.
        sequence: u64,
    },
    /// This policy was given to the arbiter, which will say whether it is in force.
    Offered {
        /// The policy.
        policy: Box<Policy>,
    },
}

/// What the shell is to do.
#[derive(Debug)]
pub enum Outgoing {
    /// Answer a request.
    Answer {
        /// Which request.
        exchange: u64,
        /// The answer.
        answer: Answer,
    },
    /// Send a piece of a stream.
    Event {
        /// Which request asked for it.
        exchange: u64,
        /// The piece.
        text: String,
        /// Whether it is the last.
        last: bool,
    },
    /// Send what is true now, unless what was true before has not been taken yet.
    Snapshot {
        /// Which request asked for it.
        exchange: u64,
        /// The piece, which others are sent too.
        text: Arc<str>,
    },
    /// So many more bytes of an upload may be read.
    Written {
        /// Which upload; it has the number of its request.
        upload: u64,
        /// How many.
        bytes: usize,
    },
}

/// An answer over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// What the body is; empty for no body.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
    /// When trying again makes sense, in seconds.
    pub retry_after_s: Option<u64>,
    /// Which part the body is of a whole, as its field has it.
    pub content_range: Option<String>,
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// Who runs the box.
    Operator,
    /// The box's own fleet process.
    Fleet,
    /// A tenant, by its number.
    Tenant(TenantId),
}

/// Everything that a service stands on.
pub struct Parts {
    /// Bytes of memory that jobs under way may hold.
    pub job_bytes: u64,
    /// The configuration.
    pub config: Arc<Config>,
    /// The clock.
    pub clock: Clock,
    /// The secrets of all callers.
    pub keyring: Keyring,
    /// From which the secrets of added tenants are made.
    pub master: Secret,
    /// Tenants that were added, after those of the configuration.
    pub added: Vec<TenantRow>,
    /// Tenants of whom the store has something and whom nobody has named.
    pub strangers: Vec<TenantName>,
    /// The core and the standing of each unit's thread.
    pub units: Vec<(usize, Standing)>,
    /// What the system refused of what was asked for, in words.
    pub refused: Vec<String>,
    /// To the arbiter.
    pub inbox: Arc<Inbox>,
    /// From the arbiter.
    pub outbox: Arc<Outbox>,
    /// To the preparers.
    pub preparations: Arc<Preparations>,
    /// To the reaper.
    pub grave: Grave,
    /// To the clerk.
    pub clerk: Sender<Task>,
    /// To the lender, where there is a fleet.
    pub lender: Option<SyncSender<lending::Task>>,
    /// To the registrar.
    pub registrar: Sender<registrar::Request>,
    /// To the table maker.
    pub tables: Sender<tables::Request>,
    /// What the tables of all keys take.
    pub tables_held: Arc<AtomicU64>,
    /// The witness programs of circuits.
    pub programs: Arc<Programs>,
    /// To look for blobs.
    pub blobs: BlobStore,
    /// To see who works on what.
    pub board: Arc<Board>,
    /// What computes.
    pub device: Arc<dyn Device>,
    /// Devices that were asked for and were not there at the start.
    pub missing: Vec<Silicon>,
    /// Which device holds whose keys.
    pub residence: Arc<Residence>,
    /// From all threads that may allocate.
    pub messages: Receiver<Message>,
    /// From the arbiter's thread.
    pub measurements: rtrb::Consumer<Measurement>,
    /// The list of circuits as the store has it.
    pub circuits: Vec<CircuitRow>,
    /// How the ledger stands, if there is one.
    pub ledger: Option<Box<EraGauges>>,
    /// The jobs as the store has them, oldest first.
    pub jobs: Vec<JobRow>,
    /// Tenants that have given back and not taken again.
    pub quiet: Vec<TenantName>,
}

/// See the top of this file.
pub struct Service {
    parts: Parts,
    tenants: Vec<Tenant>,
    circuits: HashMap<(TenantId, Digest), Circuit>,
    jobs: HashMap<JobId, Entry>,
    states: States,
    /// What tables take.
    tables: HashMap<tables::CircuitId, u64>,
    /// Blobs that are given back and may not be gone yet.
    removing: HashSet<(TenantId, Digest)>,
    /// Witnesses that are being erased.
    erasing: HashSet<(TenantId, Digest)>,
    /// Jobs of before that the arbiter has no place for yet, oldest first.
    parked: VecDeque<JobId>,
    /// When they are offered again.
    parked_until: Nanos,
    /// Of which members of the device it has been logged that they are lost, a bit each.
    losses_told: u64,
    /// Why jobs cannot be written down.
    fault: Option<String>,
    /// How the ledger stands, if there is one.
    ledger: Option<Box<EraGauges>>,
    /// Policies of which the arbiter has not said whether they are in force, oldest first.
    offered: VecDeque<Box<Policy>>,
    /// The policy in force.
    policy: Policy,
    /// A tenant that is being written down.
    change: Option<Change>,
    /// Whose each request is that is under way.
    under_way: HashMap<u64, TenantId>,
    /// Jobs by the keys under which they were submitted.
    keys: HashMap<(TenantId, IdempotencyKey), JobId>,
    next_job: u64,
    exchanges: HashMap<u64, Exchange>,
    waiting: HashMap<u64, Waiting>,
    /// Until when calls wait for the end of a job.
    due: BTreeSet<(Nanos, u64)>,
    /// Who reads of a job as it goes, by the request.
    watchers: HashMap<u64, Watcher>,
    /// Who looks at the dashboard.
    screens: Screens,
    /// What is with the fleet.
    lent: Lent,
    next_ticket: u64,
    outgoing: Vec<Outgoing>,
    telemetry: Telemetry,
    profiles: Profiles,
    over_budget: Muffler,
    /// What `rpc.discover` answers.
    description: Json,
    stopping: bool,
}

struct Tenant {
    name: TenantName,
    /// The name of its scenario class, which no other policy changes.
    scenario: String,
    /// Its ended jobs, oldest first.
    ended: VecDeque<JobId>,
    /// Whether it is quiet.
    watch: Watch,
    /// What it is giving back.
    release: Option<Release>,
    /// What it may do, and how much it may have.
    terms: Terms,
    /// If it was added while a box ran: as it is written down.
    member: Option<TenantRow>,
    /// Whether it proves for other boxes: it has come in at the fleet's socket.
    guest: bool,
}

/// A request over HTTP whose answers are being collected.
struct Exchange {
    batch: bool,
    answers: Vec<Option<Response>>,
    left: usize,
}

/// A call that waits for another thread.
struct Waiting {
    place: Option<Place>,
    caller: Caller,
    question: Question,
}

/// Where the answer to a call goes.
struct Place {
    exchange: u64,
    index: usize,
    id: Id,
}

/// What a call waits for, where the answer alone does not say what to do with it.
enum Question {
    /// A value that becomes the call's result.
    Call,
    /// When a proof that costs so much would be ready.
    Estimate { core: Nanos, measured: bool },
    /// The end of a job, or the time at which it is told how far it is.
    Job {
        job: JobId,
        asked: Asked,
        until: Option<Nanos>,
    },
    /// That it is written down how a job ended which was lent, by what was sent here or not.
    Lent { job: JobId, won: bool },
    /// A view of the pool, after which the histograms of a cause, or of all, are as new as it.
    Histograms { cause: Option<Cause> },
    /// A view of the pool, after which the quanta of a job are as new as it.
    Profile { job: JobId, from: Option<u64> },
    /// A view of the pool that becomes the text of `/metrics`.
    Metrics {
        exchange: u64,
        doors: Doors,
        named: bool,
    },
    /// A view of the pool that all who look at the dashboard are shown.
    Snapshot,
    /// A view of the pool, after which the quanta of a job are as new as it, for who looks at it there.
    Timeline {
        exchange: u64,
        job: JobId,
        from: Option<u64>,
    },
}

/// What becomes of a call.
enum Flow {
    Done(Json),
    /// It waits under this ticket.
    Wait(u64, Question),
}

impl Post {
    /// A way in that wakes the RPC thread by `wake`.
    pub fn new(sender: Sender<Message>, wake: Wake) -> Post {
        Post { sender, wake }
    }

    /// Sends, and wakes. A service that is gone needs no messages.
    pub fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            (self.wake)();
        }
    }
}

impl Service {
    /// A service that knows the circuits of the store and begins to load them.
    pub fn new(mut parts: Parts, states: States) -> Service {
        let (policy, now) = (&parts.config.policy, parts.clock.now());
        let tenant = |name: &TenantName, class: Option<&Class>, terms, member| {
            let mut watch = Watch::new(class.and_then(|class| class.give_back), now);
            if parts.quiet.contains(name) {
                watch.was_given();
            }
            Tenant {
                name: name.clone(),
                scenario: class.map_or_else(String::new, |class| class.name.clone()),
                ended: VecDeque::new(),
                watch,
                release: None,
                terms,
                member,
                guest: false,
            }
        };
        let configured = parts.config.tenants.iter();
        let configured = configured.map(|it| {
            let terms = Terms::new(it.scopes.clone(), it.quotas);
            tenant(&it.name, policy.class(it.class), terms, None)
        });
        let added = parts.added.iter().map(|row| {
            let class = policy.find(&row.scenario).and_then(|id| policy.class(id));
            tenant(&row.tenant, class, Terms::of(row), Some(row.clone()))
        });
        let tenants = configured.chain(added).collect();
        let policy = policy.clone();
        let limits = *policy.limits();
        let devices = parts.device.beside().len();
        let cores = parts.units.len() - devices;
        let telemetry = Telemetry::new(limits.quantum, cores, devices);
        let profiles = Profiles::new(parts.config.limits.profile_bytes);
        let rows = std::mem::take(&mut parts.circuits);
        let jobs = std::mem::take(&mut parts.jobs);
        let ledger = parts.ledger.take();
        let mut service = Service {
            policy,
            change: None,
            under_way: HashMap::new(),
            parts,
            tenants,
            circuits: HashMap::new(),
            jobs: HashMap::new(),
            states,
            keys: HashMap::new(),
            tables: HashMap::new(),
            removing: HashSet::new(),
            erasing: HashSet::new(),
            parked: VecDeque::new(),
            parked_until: Nanos::ZERO,
            losses_told: 0,
            fault: None,
            ledger,
            offered: VecDeque::new(),
            // Numbers go on upwards after a restart, so an old name cannot mean a new job: a
            // million for each millisecond that passes.
            next_job: (unix_time().as_millis() as u64) << 20,
            exchanges: HashMap::new(),
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            watchers: HashMap::new(),
            screens: Screens::default(),
            lent: Lent::new(now),
            next_ticket: 0,
            outgoing: Vec::new(),
            telemetry,
            profiles,
            over_budget: Muffler::default(),
            description: Json::from(&openrpc::document()),
            stopping: false,
        };
        service.limit_all_storage();
        service.restore(rows);
        service.resume(jobs);
        service
    }

    /// Who signed a request; `None` if nobody whom this box knows did.
    pub fn caller(&mut self, authorization: Option<&str>) -> Option<Caller> {
        let now = unix_time().as_secs();
        let named = self.parts.keyring.verify(authorization, now);
        match named {
            Ok(OPERATOR) => Some(Caller::Operator),
            // Without [fleet] the name is a tenant's like any other.
            Ok(FLEET) if self.parts.config.fleet.is_some() => Some(Caller::Fleet),
            Ok(name) => {
                let at = self.tenants.iter().position(|t| t.name.as_str() == name)?;
                u32::try_from(at)
                    .ok()
                    .map(|at| Caller::Tenant(TenantId(at)))
            }
            Err(error) => {
                self.telemetry.refused_tokens += 1;
                tracing::debug!(error = %chain(&error), "token refused");
                None
            }
        }
    }

    /// Somebody has come in at the fleet's socket. A tenant proves for other boxes there, and what they have lent is lent to
    /// nobody: two boxes that are full would send it to each other for ever.
    pub fn meet_at_fleets(&mut self, caller: Caller) {
        if let Caller::Tenant(tenant) = caller {
            self.tenants[tenant.0 as usize].guest = true;
        }
    }

    /// Takes the body of a `POST /`. Answers through [`Service::outgoing`].
    pub fn call(&mut self, exchange: u64, caller: Caller, body: &[u8], received: Nanos) {
        let message = match jsonrpc::parse(body) {
            Ok(message) => message,
            Err(error) => {
                self.telemetry.work.refused(error.reason());
                let response = Response::error(Id::Null, &error);
                self.answer_calls(exchange, jsonrpc::encode(false, [&response]));
                return;
            }
        };
        let mut collected = Exchange {
            batch: message.batch,
            answers: Vec::with_capacity(message.entries.len()),
            left: 0,
        };
        for entry in message.entries {
            match entry {
                Err(refusal) => collected.answers.push(Some(refusal.into_response())),
                Ok(request) => self.begin(exchange, &mut collected, caller, request, received),
            }
        }
        if collected.left == 0 {
            self.answer_exchange(exchange, collected);
        } else {
            if let Caller::Tenant(tenant) = caller {
                self.begin_under_way(exchange, tenant);
            }
            self.exchanges.insert(exchange, collected);
        }
    }

    /// Takes a `GET /metrics`, with the names of tenants or without. Answers through [`Service::outgoing`].
    pub fn metrics(&mut self, exchange: u64, doors: Doors, named: bool) {
        let ticket = self.ticket();
        let view = self.empty_view();
        if self
            .parts
            .inbox
            .send(Command::Look { ticket, view })
            .is_err()
        {
            self.answer(
                exchange,
                Answer {
                    retry_after_s: Some(1),
                    ..Answer::text(503, "the arbiter's queue is full\n".into())
                },
            );
            return;
        }
        let question = Question::Metrics {
            exchange,
            doors,
            named,
        };
        self.waiting.insert(
            ticket,
            Waiting {
                place: None,
                caller: Caller::Operator,
                question,
            },
        );
    }

    /// The answer to `GET /readyz`: whether work can be taken, and what the box lacks.
    pub fn ready(&self) -> Answer {
        let faults = self.faults();
        let mut text = if faults.is_empty() {
            String::from("ready\n")
        } else {
            format!("not ready: {}\n", faults.join("; "))
        };
        for (unit, (core, standing)) in self.parts.units.iter().enumerate() {
            let policy = &standing.policy;
            text += &match self.device_of(unit) {
                None => format!("worker {unit}: core {core}, policy {policy}\n"),
                Some(device) => format!("worker {unit}: {}, policy {policy}\n", device.name),
            };
        }
        for note in self.notes() {
            text += &note;
            text.push('\n');
        }
        Answer::text(if faults.is_empty() { 200 } else { 503 }, text)
    }

    /// Why no work can be taken.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let restoring = self.circuits.values().filter(|it| it.is_restoring());
        match restoring.count() {
            0 => {}
            count => faults.push(format!("{count} circuits of before are being loaded")),
        }
        if let Some(fault) = &self.fault {
            faults.push(format!("jobs cannot be written down: {fault}"));
        }
        if self.stopping {
            faults.push("stopping".into());
        }
        faults
    }

    /// What the box lacks though it takes work.
    fn notes(&self) -> Vec<String> {
        let damage = self.states.damage();
        let states = damage.map(|it| format!("state units are not served: journal damaged: {it}"));
        let damaged = self.ledger.as_ref().and_then(|it| it.damaged.as_ref());
        let ledger = damaged
            .map(|it| format!("the ledger is refused, and proving goes on without it: {it}"));
        let refused = self.parts.refused.iter();
        let refused = refused.map(|it| format!("refused by this system: {it}"));
        states.into_iter().chain(ledger).chain(refused).collect()
    }

    /// How many of the units are cores; those after them are devices.
    fn cores(&self) -> usize {
        self.parts.units.len() - self.parts.device.beside().len()
    }

    /// What a unit is, if it is a device.
    fn device_of(&self, unit: usize) -> Option<&DeviceInfo> {
        let device = unit.checked_sub(self.cores())?;
        self.parts.device.beside().get(device)
    }

    /// Begins an upload, which has the number of its request. `Some` is the answer that is
    /// already known: the body need not be kept.
    pub fn begin_upload(
        &mut self,
        upload: u64,
        tenant: TenantId,
        digest: Digest,
        length: Option<u64>,
    ) -> Option<Answer> {
        if self.stopping {
            return Some(Answer::error(503, &RpcError::Stopping));
        }
        if let Err(answer) = self.enter(tenant, Scope::Submit) {
            return Some(answer);
        }
        let leaves = self.leaves(tenant, digest);
        self.stir(tenant, self.parts.clock.now());
        let owner = tenant;
        let tenant = self.tenant(tenant).name.clone();
        match self.parts.blobs.length(&tenant, digest.0) {
            // The clerk stores it after it has removed it.
            Ok(Some(_)) if leaves => {}
            Ok(Some(_)) => return Some(stored_answer(Stored::Done(Finished::AlreadyThere))),
            Ok(None) => {}
            Err(error) => return Some(stored_answer(Stored::Failed(error))),
        }
        // One that is answered at once is not under way.
        self.begin_under_way(upload, owner);
        self.tell_clerk(Task::Begin {
            upload,
            tenant,
            digest,
            length,
        });
        None
    }

    /// A piece of an upload.
    pub fn upload(&mut self, upload: u64, bytes: Bytes) {
        self.telemetry.blob_bytes += bytes.len() as u64;
        self.tell_clerk(Task::Piece { upload, bytes });
    }

    /// The upload is complete. Answers through [`Service::outgoing`].
    pub fn finish_upload(&mut self, upload: u64) {
        self.tell_clerk(Task::Finish { upload });
    }

    /// The client of an upload has gone.
    pub fn abandon_upload(&mut self, upload: u64) {
        self.under_way.remove(&upload);
        self.tell_clerk(Task::Abandon { upload });
    }

    /// Takes a `DELETE` of a blob. Answers through [`Service::outgoing`].
    pub fn remove_blob(&mut self, exchange: u64, tenant: TenantId, digest: Digest) {
        if let Err(answer) = self.enter(tenant, Scope::Submit) {
            self.answer(exchange, answer);
            return;
        }
        if let Some(circuit) = self.circuit_of(tenant, digest) {
            let error = RpcError::CircuitInUse {
                circuit,
                jobs: self.unfinished(tenant, circuit),
            };
            self.answer(exchange, Answer::error(409, &error));
            return;
        }
        let jobs = self.unfinished_on(tenant, digest);
        if jobs > 0 {
            let message = format!("blob {digest} is the witness of {jobs} unfinished jobs");
            let answer = refusal(409, "blobInUse", &message);
            self.answer(exchange, answer);
            return;
        }
        let tenant = self.tenant(tenant).name.clone();
        self.tell_clerk(Task::RemoveBlob {
            exchange,
            tenant,
            digest,
        });
    }

    /// Takes in what other threads have sent.
    pub fn pump(&mut self) {
        while let Ok(message) = self.parts.messages.try_recv() {
            self.take_message(message);
        }
        while let Some(notice) = self.parts.outbox.take() {
            self.take_notice(notice);
        }
        if self.parts.outbox.is_short() {
            self.parts.inbox.wake();
        }
        self.take_measurements();
        let now = self.parts.clock.now();
        self.watch_storage(now);
        self.watch_jobs(now);
        self.watch_fleet(now);
        self.show_events(now);
        self.show_screens(now);
    }

    /// What the shell is to do since it last asked.
    pub fn outgoing(&mut self) -> Vec<Outgoing> {
        let outgoing = std::mem::take(&mut self.outgoing);
        if self.under_way.is_empty() {
            return outgoing;
        }
        for it in &outgoing {
            if let Outgoing::Answer { exchange, .. }
            | Outgoing::Event {
                exchange,
                last: true,
                ..
            } = it
            {
                self.under_way.remove(exchange);
            }
        }
        outgoing
    }

    /// Counts an answered request.
    pub fn count_request(&mut self, status: u16) {
        self.telemetry.requests += 1;
        self.telemetry.work.answered(status);
    }

    /// Takes no new work from now on.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.expire(Nanos::MAX);
        self.end_take();
        self.end_events();
        self.close_screens();
    }

    /// How long until something is due though nothing happens.
    pub fn due_in(&self) -> Option<Duration> {
        let now = self.parts.clock.now();
        let first = self.due.first();
        let due = first.map(|(at, _)| Duration::from_nanos(at.since(now).0));
        let look = (!self.watchers.is_empty()).then_some(LOOK_EVERY);
        let screens = self.screens.due_in(now);
        let all = due.into_iter().chain(self.quiet_in(now)).chain(look);
        all.chain(screens).chain(self.lent.due_in(now)).min()
    }

    fn begin(
        &mut self,
        exchange: u64,
        collected: &mut Exchange,
        caller: Caller,
        request: Request,
        received: Nanos,
    ) {
        let place = request.id.clone().map(|id| {
            collected.answers.push(None);
            let index = collected.answers.len() - 1;
            Place {
                exchange,
                index,
                id,
            }
        });
        match self.dispatch(caller, request, received) {
            Ok(Flow::Wait(ticket, question)) => {
                collected.left += usize::from(place.is_some());
                let waiting = Waiting {
                    place,
                    caller,
                    question,
                };
                self.waiting.insert(ticket, waiting);
            }
            Ok(Flow::Done(value)) => {
                if let Some(place) = place {
                    let outcome = Ok(value);
                    collected.answers[place.index] = Some(Response {
                        id: place.id,
                        outcome,
                    });
                }
            }
            Err(error) => {
                self.telemetry.work.refused(error.reason());
                if let Some(place) = place {
                    collected.answers[place.index] = Some(Response::error(place.id, &error));
                }
            }
        }
    }

    fn dispatch(
        &mut self,
        caller: Caller,
        request: Request,
        received: Nanos,
    ) -> Result<Flow, RpcError> {
        let params: Params = request.params;
        if let Caller::Tenant(tenant) = caller {
            self.pace(tenant)?;
        }
        if request.method == DISCOVER {
            let Discover {} = params.decode()?;
            return Ok(Flow::Done(self.description.clone()));
        }
        let method = Method::from_name(&request.method).ok_or(RpcError::MethodNotFound)?;
        if method.is_fleets() || caller == Caller::Fleet {
            return self.fleet(caller, method, params);
        }
        if method.is_eras() {
            return self.era(caller, method, params);
        }
        if method.is_operators() {
            return self.manage(caller, method, params);
        }
        if let Caller::Tenant(tenant) = caller {
            self.hold_scope(tenant, method.scope())?;
        }
        if method == Method::Pool {
            let PoolQuery {} = params.decode()?;
            return self.look_at_pool(Question::Call);
        }
        if method == Method::Histograms {
            return self.histograms(caller, params.decode()?);
        }
        if method == Method::Storage {
            let StorageQuery {} = params.decode()?;
            return Ok(self.look_at_storage(caller));
        }
        if method.is_of_states() {
            return self.state(caller, method, params, received);
        }
        let Caller::Tenant(tenant) = caller else {
            return Err(RpcError::InvalidRequest {
                detail: "the operator owns no circuits and no jobs; call as a tenant".into(),
            });
        };
        if let Method::RegisterCircuit | Method::Submit | Method::Demand = method {
            self.stir(tenant, received);
        }
        match method {
            Method::RegisterCircuit => self.register(tenant, params.decode()?),
            Method::ListCircuits => self.list_circuits(tenant, params.decode()?),
            Method::UnregisterCircuit => self.unregister(tenant, params.decode()?),
            Method::Estimate => self.estimate(tenant, params.decode()?),
            Method::Submit => self.submit(tenant, params.decode()?, received),
            Method::Status => self.ask(tenant, params.decode()?, Asked::Status),
            Method::Result => self.ask(tenant, params.decode()?, Asked::Result),
            Method::Cancel => self.cancel(tenant, params.decode()?),
            Method::Demand => self.declare(tenant, params.decode()?, received),
            Method::Profile => self.profile(tenant, params.decode()?),
            _ => Err(RpcError::MethodNotFound),
        }
    }

    fn take_message(&mut self, message: Message) {
        match message {
            Message::Prepared {
                job,
                at,
                span,
                computed,
            } => self.prepared(job, at, span, computed),
            Message::Unprepared { job, error } => self.unprepared(job, error),
            Message::Charged { tenant, core } => self.telemetry.computed(tenant, core),
            Message::Written { upload, bytes } => {
                self.outgoing.push(Outgoing::Written { upload, bytes });
            }
            Message::Stored { upload, stored } => self.answer(upload, stored_answer(stored)),
            Message::BlobRemoved { exchange, removed } => {
                let answer = match removed {
                    Ok(true) => Answer::json(200, &json!({ "removed": true })),
                    Ok(false) => stored_answer(Stored::Failed(BlobError::Unknown)),
                    Err(error) => stored_answer(Stored::Failed(error)),
                };
                self.answer(exchange, answer);
            }
            Message::Registered {
                ticket,
                tenant,
                circuit,
                registered,
            } => self.registered(ticket, tenant, circuit, *registered),
            Message::Unregistered { ticket, removed } => self.unregistered(ticket, removed),
            Message::Examined {
                tenant,
                circuit,
                checked,
                result,
            } => self.examined(tenant, circuit, checked, result),
            Message::Tables { circuit, bytes } => {
                self.tables.insert(circuit, bytes);
                self.tables.retain(|_, bytes| *bytes > 0);
            }
            Message::Confirmed {
                release,
                circuit,
                result,
            } => self.confirmed(release, circuit, result),
            Message::TablesReleased { release, bytes } => self.tables_released(release, bytes),
            Message::BlobsReleased {
                release,
                keys,
                blobs,
            } => self.blobs_released(release, keys, blobs),
            Message::Unmapped { tenant, circuit } => self.unmapped(tenant, circuit),
            Message::Releases { ticket, releases } => self.releases(ticket, releases),
            Message::Recorded { recorded } => self.recorded(recorded),
            Message::Erased { tenant, witness } => {
                self.erasing.remove(&(tenant, witness));
            }
            Message::TenantWritten { ticket, written } => self.tenant_written(ticket, written),
            Message::EraAnswered { ticket, answer } => self.era_answered(ticket, answer),
            Message::Era { era } => self.ledger = Some(era),
            Message::Storage { fault } => self.fault = fault,
            Message::FleetRead { exchange, piece } => self.fleet_read(exchange, piece),
            Message::FleetJudged { ticket, verdict } => self.fleet_judged(ticket, *verdict),
            Message::Judged { judged } => self.judged(judged),
            Message::Hashed { ticket, element } => self.hashed(ticket, element),
            Message::StateWritten { sequence } => self.state_written(sequence),
            Message::Offered { policy } => self.offered.push_back(policy),
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Admitted(job) => self.admitted(job),
            Notice::Refused {
                job,
                reason,
                retry_after,
            } => self.refused(job, reason, retry_after),
            Notice::Preparing(job) => self.preparing(job),
            Notice::Ended { job, outcome, at } => self.ended(job, outcome, at),
            Notice::Lent { job, lent } => self.let_go(job, lent),
            Notice::Estimated {
                ticket,
                estimate,
                at,
            } => self.estimated(ticket, estimate, at),
            Notice::Declared { ticket, answer } => self.declared(ticket, answer),
            Notice::Adopted(Ok(_)) => {
                tracing::info!("another policy is in force");
                if let Some(policy) = self.offered.pop_front() {
                    self.adopt_marks(&policy);
                    self.policy = *policy;
                    self.limit_all_storage();
                }
            }
            Notice::Adopted(Err(error)) => {
                self.offered.pop_front();
                tracing::error!(error = %chain(&error), "the policy is refused; the one in force stays");
            }
            Notice::Seen { ticket, view } => self.seen(ticket, &view),
            Notice::Overrun(unit, silent) => {
                tracing::warn!(%unit, %silent, "a worker does not answer and is fenced off");
            }
            Notice::Returned(unit) => tracing::info!(%unit, "a fenced worker has answered"),
            Notice::Lost(unit) => {
                tracing::warn!(%unit, "a device is lost and has left the pool");
                self.tell_losses();
            }
        }
    }

    fn take_measurements(&mut self) {
        while let Ok(measurement) = self.parts.measurements.pop() {
            match measurement {
                Measurement::Quantum(record) => {
                    self.profiles.quantum(&record);
                    if self.telemetry.quantum(&record)
                        && let Some(muffled) = self.over_budget.speak(self.parts.clock.now())
                    {
                        tracing::warn!(
                            unit = record.unit.0,
                            kernel = record.kernel,
                            us = record.span.as_micros(),
                            muffled,
                            "a quantum took longer than it may"
                        );
                    }
                }
                Measurement::Reallocation(it) => {
                    if it.missed {
                        let [us, detect, decide, drain, first] = split(&it).map(Nanos::as_micros);
                        tracing::warn!(
                            unit = it.unit.0,
                            cause = cause_name(it.cause),
                            us,
                            detect,
                            decide,
                            drain,
                            first,
                            "a reallocation was missed"
                        );
                    }
                    self.profiles.reallocation(it);
                    self.telemetry.reallocation(it);
                }
            }
        }
    }

    /// Gives a call its answer.
    fn settle(&mut self, waiting: Waiting, outcome: Result<Json, RpcError>) {
        if let Err(error) = &outcome {
            self.telemetry.work.refused(error.reason());
        }
        let Some(place) = waiting.place else {
            return;
        };
        // The client may have gone meanwhile.
        let Some(exchange) = self.exchanges.get_mut(&place.exchange) else {
            return;
        };
        exchange.answers[place.index] = Some(match outcome {
            Ok(value) => Response {
                id: place.id,
                outcome: Ok(value),
            },
            Err(error) => Response::error(place.id, &error),
        });
        exchange.left -= 1;
        if exchange.left == 0
            && let Some(complete) = self.exchanges.remove(&place.exchange)
        {
            self.answer_exchange(place.exchange, complete);
        }
    }

    /// The client of a request has gone: what is still to come for it is thrown away.
    pub fn forget(&mut self, exchange: u64) {
        self.under_way.remove(&exchange);
        self.watchers.remove(&exchange);
        self.screens.close(exchange);
        self.forget_take(exchange);
        if self.exchanges.remove(&exchange).is_some() {
            self.forget_waits(exchange);
        }
    }

    /// The client of a request will send nothing more, and may be gone: it is not kept waiting for the end of a
    /// job.
    pub fn hurry(&mut self, exchange: u64) {
        for (ticket, ..) in self.waits_of(exchange) {
            self.end_wait(ticket);
        }
        if self.is_take(exchange) {
            self.end_take();
        }
    }

    fn answer_exchange(&mut self, number: u64, exchange: Exchange) {
        let responses = exchange.answers.iter().flatten();
        self.answer_calls(number, jsonrpc::encode(exchange.batch, responses));
    }

    fn answer_calls(&mut self, exchange: u64, body: Option<Vec<u8>>) {
        let answer = match body {
            Some(body) => Answer {
                status: 200,
                content_type: JSON,
                body,
                retry_after_s: None,
                content_range: None,
            },
            None => Answer {
                status: 204,
                content_type: "",
                body: Vec::new(),
                retry_after_s: None,
                content_range: None,
            },
        };
        self.answer(exchange, answer);
    }

    fn answer(&mut self, exchange: u64, answer: Answer) {
        self.outgoing.push(Outgoing::Answer { exchange, answer });
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    fn tenant(&self, tenant: TenantId) -> &Tenant {
        &self.tenants[tenant.0 as usize]
    }

    fn tell_clerk(&self, task: Task) {
        if self.parts.clerk.send(task).is_err() {
            tracing::error!("the clerk has ended");
        }
    }

    fn command(&self, command: Command) -> Result<(), RpcError> {
        self.parts
            .inbox
            .send(command)
            .map_err(|_| RpcError::QueueFull {
                full: caldera_rpc::error::Full::Box,
                retry_after_ms: RETRY_MS,
            })
    }
}

impl Answer {
    /// Plain text.
    pub fn text(status: u16, text: String) -> Answer {
        Answer {
            status,
            content_type: TEXT,
            body: text.into_bytes(),
            retry_after_s: None,
            content_range: None,
        }
    }

    /// JSON.
    pub fn json(status: u16, value: &Value) -> Answer {
        Answer {
            status,
            content_type: JSON,
            body: value.to_string().into_bytes(),
            retry_after_s: None,
            content_range: None,
        }
    }

    /// A result, outside of a call.
    fn told(result: Json) -> Answer {
        Answer {
            body: result.into_bytes(),
            content_type: JSON,
            ..Answer::text(200, String::new())
        }
    }

    /// An error outside of a call, as `{code, message, data}`.
    pub fn error(status: u16, error: &RpcError) -> Answer {
        let wire = error.to_wire();
        let retry_after_ms = wire.data.as_ref().and_then(|data| data.retry_after_ms);
        let wire = serde_json::to_value(wire).unwrap_or(Value::Null);
        Answer {
            retry_after_s: retry_after_ms.map(|ms| ms.div_ceil(1000).max(1)),
            ..Answer::json(status, &json!({ "error": wire }))
        }
    }
}

/// Lets one of many equal complaints through in each second, and counts the others.
#[derive(Debug, Default)]
struct Muffler {
    next: Nanos,
    muffled: u64,
}

impl Muffler {
    /// How many were held back since the last that was let through; `None` if this one is held
    /// back too.
    fn speak(&mut self, now: Nanos) -> Option<u64> {
        if now < self.next {
            self.muffled += 1;
            return None;
        }
        self.next = now.plus(Nanos::from_secs(1));
        Some(std::mem::take(&mut self.muffled))
    }
}

fn refusal(status: u16, reason: &str, message: &str) -> Answer {
    Answer::json(
        status,
        &json!({ "error": { "message": message, "data": { "reason": reason } } }),
    )
}

fn stored_answer(stored: Stored) -> Answer {
    let error = match stored {
        Stored::Done(Finished::Created) => return Answer::json(201, &json!({ "created": true })),
        Stored::Done(Finished::AlreadyThere) => {
            return Answer::json(200, &json!({ "created": false }));
        }
        Stored::Failed(error) => error,
    };
    match &error {
        BlobError::TooLong { .. } => refusal(413, "blobTooLong", &error.to_string()),
        BlobError::Quota { .. } => refusal(507, "quotaExceeded", &error.to_string()),
        BlobError::NoSpace { .. } => Answer::error(507, &RpcError::StorageFull),
        BlobError::ReadOnly { .. } => {
            tracing::error!(error = %chain(&error), "blob");
            let retry_after_ms = TRY_AGAIN.as_millis() as u64;
            Answer::error(503, &RpcError::StorageUnavailable { retry_after_ms })
        }
        BlobError::Digest { .. } => refusal(422, "digestMismatch", &error.to_string()),
        BlobError::Length { .. } => refusal(422, "lengthMismatch", &error.to_string()),
        BlobError::Unknown => refusal(404, "blobUnknown", &error.to_string()),
        BlobError::Locked { .. } | BlobError::Foreign { .. } | BlobError::Io { .. } => {
            tracing::error!(error = %chain(&error), "blob");
            Answer::error(500, &RpcError::Internal)
        }
    }
}

/// A result as JSON. What JSON cannot hold is a fault of ours.
fn as_json(result: &impl Serialize) -> Result<Json, RpcError> {
    Json::of(result).map_err(unwritable)
}

/// The same as a part of what is kept.
fn value(result: &impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(result).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> RpcError {
    tracing::error!(error = %chain(&error), "a result that JSON cannot hold");
    RpcError::Internal
}

fn ms(span: Nanos) -> f64 {
    span.0 as f64 / 1e6
}

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
/// When to come back after the arbiter's inbox was full: it is emptied within microseconds.
const RETRY_MS: u64 = 100;
