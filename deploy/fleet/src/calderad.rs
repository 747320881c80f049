//! What a fleet wants of a box: jobs to lend, their bytes, a verdict; and proofs for others.
//!
//! The box is a `calderad` on the other side of a Unix socket ([`Socket`]); in tests it is a table. A box knows two callers: the `fleet`, which takes jobs out and
//! brings proofs back, and a tenant, as whom the jobs of other boxes are proved: to the box's scheduler the fleet is one more tenant, with a scenario and
//! a ceiling, so that nobody else waits for it longer than for any other.
//!
//! A job that is lent has a **fence**, which rises each time that it is lent or comes home. A call under another one changes nothing, so a call that was not answered is
//! made again without thinking, and what the box says that it has lent ([`Calderad::held`]) is the truth.
//!
//! **Who is paid.** A job takes along what it earns its lender in the ledger of the box whose it is ([`Calderad::bill`]). The lender's box
//! signs that with the digest of the proof, as it signs everything that it did, and the signature comes back with the proof; to all that is
//! between the two boxes both are one piece of bytes.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use caldera_rpc::auth::{FLEET, Secret, sign};
use caldera_rpc::chain::chain;
use caldera_rpc::era::NodeName;
use caldera_rpc::error::WireError;
use caldera_rpc::methods::{
    Bill, CheckLevel, CircuitInfo, CircuitState, Digest, FleetBill, FleetBillQuery, FleetDone,
    FleetHeld, FleetHeldQuery, FleetMeter, FleetMetered, FleetResult, FleetReturn, FleetTake,
    FleetTaken, IdempotencyKey, JobName, JobQuery, JobResult, JobState, JobStatus, JobWait,
    LentJob, ListCircuits, Metered, Method as RpcMethod, RegisterCircuit, Submit, TAKE_MAX,
};
use caldera_scheduler::JobId;
use futures_util::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::Frame;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::lender::Foreign;
use crate::submitter::TRIES_MAX;
use crate::{Answer, BoxId, KeyHint};

/// A job that the box has lent to the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lent {
    /// Which.
    pub job: JobId,
    /// Under which fence.
    pub fence: u64,
    /// Its proving key.
    pub key: [u8; 32],
    /// How long that is.
    pub key_bytes: u64,
    /// Its witness.
    pub witness: [u8; 32],
    /// How long that is.
    pub witness_bytes: u64,
    /// What it takes of one core, if that was ever measured.
    pub work: Option<Duration>,
    /// What is left until its deadline.
    pub left: Option<Duration>,
    /// What may be paid for a second of a core.
    pub price_max: u64,
}

/// What a box has lent or withdrawn since it was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Lent.
    pub jobs: Vec<Lent>,
    /// Withdrawn, with the fences under which they were lent.
    pub withdrawn: Vec<(JobId, u64)>,
    /// What to ask after the next time.
    pub cursor: u64,
}

/// What a box says of a proof that was brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is one, and on the disk.
    Committed,
    /// It is none; the job is still lent.
    Wrong,
    /// The job is not the fleet's any more.
    Gone,
}

/// What an answer has in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Made {
    /// As snarkjs writes it.
    proof: Value,
    /// By what it is to be paid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metered: Option<Metered>,
}

/// A part of what belongs to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Its witness.
    Witness,
    /// Its proving key.
    Key,
}

/// Why a box did not do what it was asked.
#[derive(Debug, Error)]
pub enum CalderadError {
    /// There is nobody at the socket, or it went away.
    #[error("calderad at {}: {what}", path.display())]
    Away {
        /// The socket.
        path: PathBuf,
        /// What happened.
        what: String,
    },
    /// It knows another secret.
    #[error(
        "calderad: expected the secret of {caller:?} that it has, got another: see [fleet] and [[tenant]] in its configuration, and its clock"
    )]
    Unauthorized {
        /// As whom it was asked.
        caller: String,
    },
    /// It says no, with a reason.
    #[error("calderad: {method} is refused: {reason}: {message}")]
    Refused {
        /// What it was asked.
        method: &'static str,
        /// For programs.
        reason: String,
        /// For people.
        message: String,
    },
    /// It answers what nobody expects.
    #[error("calderad: {method}: expected {expected}, got {got}")]
    Answer {
        /// What it was asked.
        method: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What there is.
        got: String,
    },
}

/// See the top of this file. Every call may be made again.
pub trait Calderad: Send + Sync + 'static {
    /// All that is lent now.
    fn held(&self) -> impl Future<Output = Result<Taken, CalderadError>> + Send;

    /// Lends at most so many jobs more. Waits so long if there is nothing to tell. Refused with the reason `fleetCursor` where the
    /// cursor is of no use.
    fn take(
        &self,
        max: u32,
        wait: Duration,
        cursor: u64,
    ) -> impl Future<Output = Result<Taken, CalderadError>> + Send;

    /// Brings a proof. When it is answered the end of the job is on the disk.
    fn result(
        &self,
        job: JobId,
        fence: u64,
        proof: Arc<[u8]>,
    ) -> impl Future<Output = Result<Verdict, CalderadError>> + Send;

    /// Gives a job back.
    fn give_back(
        &self,
        job: JobId,
        fence: u64,
    ) -> impl Future<Output = Result<(), CalderadError>> + Send;

    /// What a lent job earns the box that proves it; nothing where that is nothing.
    fn bill(
        &self,
        job: JobId,
        fence: u64,
        lender: BoxId,
    ) -> impl Future<Output = Result<Option<Bill>, CalderadError>> + Send;

    /// A piece of what belongs to a lent job, from a byte that is there.
    fn read(
        &self,
        job: JobId,
        part: Part,
        from: u64,
    ) -> impl Future<Output = Result<Bytes, CalderadError>> + Send;

    /// Keys that others' jobs can be proved with.
    fn keys(&self) -> impl Future<Output = Result<Vec<[u8; 32]>, CalderadError>> + Send;

    /// Takes a key in.
    fn add_key(
        &self,
        key: [u8; 32],
        file: &Path,
    ) -> impl Future<Output = Result<(), CalderadError>> + Send;

    /// Proves a job of another box, by a name that is the same each time, and signs what it earns.
    fn prove(
        &self,
        of: Foreign,
        key: [u8; 32],
        witness: [u8; 32],
        file: &Path,
        bill: Option<Bill>,
    ) -> impl Future<Output = Result<Answer, CalderadError>> + Send;

    /// A job of another box need not be proved any more.
    fn abort(&self, of: Foreign) -> impl Future<Output = ()> + Send;
}

impl CalderadError {
    /// For programs.
    pub fn reason(&self) -> Option<&str> {
        match self {
            CalderadError::Refused { reason, .. } => Some(reason),
            _ => None,
        }
    }
}

/// What a key's digest begins with.
pub fn hint(key: &[u8; 32]) -> KeyHint {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    KeyHint(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
}

/// A `calderad`, by its `[fleet]` socket.
pub struct Socket {
    path: PathBuf,
    fleet: Caller,
    /// As whom others' jobs are proved; nobody on a box that lends nothing.
    tenant: Option<Caller>,
    /// What it proves for others, by the names that it gave.
    begun: Mutex<HashMap<Foreign, JobName>>,
}

struct Caller {
    name: String,
    secret: Secret,
    /// The socket takes sixty-four connections, of both callers.
    connections: Semaphore,
}

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

impl Socket {
    /// Connects to nothing yet.
    pub fn new(path: &Path, fleet: Secret, tenant: Option<(String, Secret)>) -> Socket {
        let caller = |name: String, secret, connections| Caller {
            name,
            secret,
            connections: Semaphore::new(connections),
        };
        Socket {
            path: path.to_owned(),
            fleet: caller(FLEET.to_owned(), fleet, FLEET_CONNECTIONS),
            tenant: tenant.map(|(name, secret)| caller(name, secret, TENANT_CONNECTIONS)),
            begun: Mutex::new(HashMap::new()),
        }
    }

    fn begun(&self) -> MutexGuard<'_, HashMap<Foreign, JobName>> {
        // Nothing that holds it can panic half-way.
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenant(&self) -> Result<&Caller, CalderadError> {
        self.tenant.as_ref().ok_or(CalderadError::Refused {
            method: "the lender's side",
            reason: "notConfigured".to_owned(),
            message: "this box has no [lend]".to_owned(),
        })
    }

    /// One request over a connection of its own: what it costs is nothing beside a proof.
    async fn request(
        &self,
        caller: &Caller,
        what: &'static str,
        mut request: Request<Body>,
        bytes_max: usize,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), CalderadError> {
        let away = |what: String| CalderadError::Away {
            path: self.path.clone(),
            what,
        };
        let permit = caller.connections.acquire().await;
        let _permit = permit.map_err(|error| away(error.to_string()))?;
        // A token is good for a minute.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let token = format!("Bearer {}", sign(&caller.name, &caller.secret, now));
        let headers = request.headers_mut();
        let mut value =
            hyper::header::HeaderValue::try_from(token).map_err(|error| away(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        headers.insert(HOST, hyper::header::HeaderValue::from_static("calderad"));
        let call = async {
            let stream = UnixStream::connect(&self.path)
                .await
                .map_err(|error| away(error.to_string()))?;
            let connection = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = connection.map_err(|error| away(error.to_string()))?;
            // It ends with the sender, or with the socket.
            let driver = tokio::spawn(connection);
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|error| away(error.to_string()))?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), bytes_max).collect().await;
            let body = body.map_err(|error| away(error.to_string()))?.to_bytes();
            drop(sender);
            driver.abort();
            Ok((status, body))
        };
        let (status, body) = timeout(within, call)
            .await
            .map_err(|_| away(format!("{what}: no answer within {within:?}")))??;
        if status == StatusCode::UNAUTHORIZED {
            return Err(CalderadError::Unauthorized {
                caller: caller.name.clone(),
            });
        }
        Ok((status, body))
    }

    async fn call<R: DeserializeOwned>(
        &self,
        caller: &Caller,
        method: RpcMethod,
        params: &impl Serialize,
    ) -> Result<R, CalderadError> {
        let method = method.name();
        let wrong = |expected, got: String| CalderadError::Answer {
            method,
            expected,
            got: got.chars().take(200).collect(),
        };
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let request = Request::builder()
            .method(Method::POST)
            .uri("/")
            .header(CONTENT_TYPE, "application/json")
            .body(full(body.to_string().into()))
            .map_err(|error| wrong("a request", error.to_string()))?;
        let (status, body) = self
            .request(caller, method, request, ANSWER_MAX, CALL_WITHIN)
            .await?;
        // Some refusals have another status, and a reason all the same.
        if let Some(refused) = refusal(method, &body) {
            return Err(refused);
        }
        let mut body: Value =
            serde_json::from_slice(&body).map_err(|_| wrong("JSON", status.to_string()))?;
        serde_json::from_value(body["result"].take())
            .map_err(|error| wrong("the result of this method", error.to_string()))
    }

    async fn upload(&self, digest: [u8; 32], file: &Path) -> Result<(), CalderadError> {
        const WHAT: &str = "PUT /v1/blobs";
        let away = |error: std::io::Error| CalderadError::Away {
            path: file.to_owned(),
            what: error.to_string(),
        };
        let mut file = tokio::fs::File::open(file).await.map_err(away)?;
        let bytes = file.metadata().await.map_err(away)?.len();
        let (sender, receiver) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(2);
        tokio::spawn(async move {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut file).take(PIECE as u64).read_to_end(&mut piece).await;
                let piece = match read {
                    Ok(0) => return,
                    Ok(_) => Ok(Bytes::from(piece)),
                    Err(error) => Err(error),
                };
                let over = piece.is_err();
                if sender.send(piece).await.is_err() || over {
                    return;
                }
            }
        });
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|piece| (piece, receiver))
        });
        let body = StreamBody::new(frames.map_ok(Frame::data));
        let request = Request::builder()
            .method(Method::PUT)
            .uri(format!("/v1/blobs/{}", hex::encode(digest)))
            .header(CONTENT_LENGTH, bytes)
            .body(BodyExt::boxed_unsync(body))
            .map_err(|error| away(std::io::Error::other(error)))?;
        let tenant = self.tenant()?;
        let within = CALL_WITHIN + Duration::from_secs(bytes / UPLOAD_BYTES_A_SECOND);
        let (status, body) = self
            .request(tenant, WHAT, request, ANSWER_MAX, within)
            .await?;
        match status {
            StatusCode::OK | StatusCode::CREATED => Ok(()),
            status => Err(refusal(WHAT, &body).unwrap_or(CalderadError::Answer {
                method: WHAT,
                expected: "status 200 or 201, or a refusal",
                got: status.to_string(),
            })),
        }
    }

    async fn circuits(&self) -> Result<Vec<CircuitInfo>, CalderadError> {
        let tenant = self.tenant()?;
        self.call(tenant, RpcMethod::ListCircuits, &ListCircuits {})
            .await
    }

    async fn submit(&self, submission: &Submit) -> Result<JobStatus, CalderadError> {
        self.call(self.tenant()?, RpcMethod::Submit, submission)
            .await
    }

    /// Signs what a job of another box earns here. A box that cannot has proved it all the same.
    async fn metered(&self, job: JobName, bill: Bill) -> Result<Option<Metered>, CalderadError> {
        let params = FleetMeter { job, bill };
        let signed = self
            .call::<FleetMetered>(&self.fleet, RpcMethod::FleetMeter, &params)
            .await;
        match signed {
            Ok(signed) => Ok(signed.metered),
            Err(error @ CalderadError::Refused { .. }) => {
                tracing::warn!(%job, error = %chain(&error), "a proof for another box is not paid for");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Has a job proved under one of its names, and says how that ended.
    async fn ended(
        &self,
        of: Foreign,
        submission: &Submit,
        file: &Path,
    ) -> Result<(JobName, JobState), CalderadError> {
        let status = match self.submit(submission).await {
            Err(error) if error.reason() == Some("blobUnknown") => {
                self.upload(submission.witness.0, file).await?;
                self.submit(submission).await?
            }
            answer => answer?,
        };
        let job = status.job;
        self.begun().insert(of, job);
        let mut state = status.state;
        while !state.is_final() {
            let query = JobWait {
                job,
                wait_ms: Some(WAIT_MS),
            };
            let status: JobStatus = self.call(self.tenant()?, RpcMethod::Status, &query).await?;
            state = status.state;
        }
        self.begun().remove(&of);
        Ok((job, state))
    }
}

impl Calderad for Socket {
    async fn held(&self) -> Result<Taken, CalderadError> {
        let FleetHeld { jobs, cursor } = self
            .call(&self.fleet, RpcMethod::FleetHeld, &FleetHeldQuery {})
            .await?;
        Ok(Taken {
            jobs: jobs.into_iter().map(Lent::from).collect(),
            withdrawn: Vec::new(),
            cursor,
        })
    }

    async fn take(&self, max: u32, wait: Duration, cursor: u64) -> Result<Taken, CalderadError> {
        let params = FleetTake {
            max: max.min(TAKE_MAX),
            cursor,
            wait_ms: Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        };
        let taken: FleetTaken = self
            .call(&self.fleet, RpcMethod::FleetTake, &params)
            .await?;
        let withdrawn = taken.withdrawn.iter();
        Ok(Taken {
            jobs: taken.jobs.into_iter().map(Lent::from).collect(),
            withdrawn: withdrawn.map(|it| (JobId(it.job.0), it.fence)).collect(),
            cursor: taken.cursor,
        })
    }

    async fn result(
        &self,
        job: JobId,
        fence: u64,
        proof: Arc<[u8]>,
    ) -> Result<Verdict, CalderadError> {
        let Ok(Made { proof, metered }) = serde_json::from_slice(&proof) else {
            return Ok(Verdict::Wrong);
        };
        let params = FleetResult {
            job: JobName(job.0),
            fence,
            proof,
            metered,
        };
        let answer = self
            .call::<FleetDone>(&self.fleet, RpcMethod::FleetResult, &params)
            .await;
        match answer {
            Ok(_) => Ok(Verdict::Committed),
            Err(error) => match error.reason() {
                Some("lentProofWrong") => Ok(Verdict::Wrong),
                Some("jobNotLent" | "fenceStale") => Ok(Verdict::Gone),
                _ => Err(error),
            },
        }
    }

    async fn give_back(&self, job: JobId, fence: u64) -> Result<(), CalderadError> {
        let job = JobName(job.0);
        let params = FleetReturn { job, fence };
        let answer = self
            .call::<FleetDone>(&self.fleet, RpcMethod::FleetReturn, &params)
            .await;
        match answer {
            Err(error) if !matches!(error.reason(), Some("jobNotLent" | "fenceStale")) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    async fn bill(
        &self,
        job: JobId,
        fence: u64,
        lender: BoxId,
    ) -> Result<Option<Bill>, CalderadError> {
        let params = FleetBillQuery {
            job: JobName(job.0),
            fence,
            lender: NodeName(lender.0),
        };
        let answer: FleetBill = self
            .call(&self.fleet, RpcMethod::FleetBill, &params)
            .await?;
        Ok(answer.bill)
    }

    async fn read(&self, job: JobId, part: Part, from: u64) -> Result<Bytes, CalderadError> {
        const WHAT: &str = "GET /v1/fleet/jobs";
        let path = format!("/v1/fleet/jobs/{}/{}", JobName(job.0), part.name());
        let request = Request::builder()
            .uri(path)
            .header(RANGE, format!("bytes={from}-"))
            .body(full(Bytes::new()));
        let wrong = |expected, got| CalderadError::Answer {
            method: WHAT,
            expected,
            got,
        };
        let request = request.map_err(|error| wrong("a request", error.to_string()))?;
        let (status, body) = self
            .request(&self.fleet, WHAT, request, 2 * PIECE, CALL_WITHIN)
            .await?;
        match status {
            StatusCode::PARTIAL_CONTENT if !body.is_empty() => Ok(body),
            status => Err(refusal(WHAT, &body)
                .unwrap_or_else(|| wrong("status 206 and bytes", status.to_string()))),
        }
    }

    async fn keys(&self) -> Result<Vec<[u8; 32]>, CalderadError> {
        let circuits = self.circuits().await?;
        // One that is being checked, or read again after a start, need not be sent once more.
        let there = circuits
            .into_iter()
            .filter(|it| it.state != CircuitState::Failed);
        Ok(there.map(|it| it.circuit.0).collect())
    }

    async fn add_key(&self, key: [u8; 32], file: &Path) -> Result<(), CalderadError> {
        self.upload(key, file).await?;
        let registration = RegisterCircuit {
            zkey: Digest(key),
            name: None,
            check: CheckLevel::Full,
            source: None,
            witness_program: None,
            r1cs: None,
        };
        const METHOD: RpcMethod = RpcMethod::RegisterCircuit;
        let mut info: CircuitInfo = self.call(self.tenant()?, METHOD, &registration).await?;
        loop {
            match info.state {
                CircuitState::Ready => return Ok(()),
                CircuitState::Failed => {
                    return Err(CalderadError::Answer {
                        method: METHOD.name(),
                        expected: "a key that passes its check",
                        got: hex::encode(key),
                    });
                }
                CircuitState::Checking => sleep(LOOK_AGAIN).await,
            }
            let circuits = self.circuits().await?;
            let found = circuits.into_iter().find(|it| it.circuit.0 == key);
            info = found.ok_or(CalderadError::Answer {
                method: RpcMethod::ListCircuits.name(),
                expected: "the key that was registered",
                got: "a list without it".to_owned(),
            })?;
        }
    }

    async fn prove(
        &self,
        of: Foreign,
        key: [u8; 32],
        witness: [u8; 32],
        file: &Path,
        bill: Option<Bill>,
    ) -> Result<Answer, CalderadError> {
        // One that was withdrawn was cancelled under its name, and may be placed here once more.
        for nth in 0..NAMES_MAX {
            let submission = Submit {
                circuit: Digest(key),
                witness: Digest(witness),
                witness_data: None,
                // Its deadline is its submitter's matter, and the same submission is the same each time.
                deadline_ms: None,
                idempotency_key: name_of(of, nth),
            };
            let (job, state) = self.ended(of, &submission, file).await?;
            match state {
                JobState::Proved => {
                    let query = JobWait { job, wait_ms: None };
                    let result: JobResult =
                        self.call(self.tenant()?, RpcMethod::Result, &query).await?;
                    let proof = result.proof;
                    let metered = match bill {
                        Some(bill) => self.metered(job, bill).await?,
                        None => None,
                    };
                    let made = json!(Made { proof, metered }).to_string();
                    return Ok(Answer::Proof(made.into_bytes().into()));
                }
                JobState::Cancelled => {}
                _ => break,
            }
        }
        Ok(Answer::Failed)
    }

    async fn abort(&self, of: Foreign) {
        let begun = self.begun().remove(&of);
        let (Some(job), Ok(tenant)) = (begun, self.tenant()) else {
            return;
        };
        let query = JobQuery { job };
        let cancelled: Result<Value, _> = self.call(tenant, RpcMethod::Cancel, &query).await;
        if let Err(error) = cancelled {
            tracing::debug!(error = %chain(&error), "a job of another box goes on");
        }
    }
}

impl Part {
    /// As paths have it.
    pub fn name(self) -> &'static str {
        match self {
            Part::Witness => "witness",
            Part::Key => "key",
        }
    }
}

impl From<LentJob> for Lent {
    fn from(it: LentJob) -> Lent {
        Lent {
            job: JobId(it.job.0),
            fence: it.fence,
            key: it.circuit.digest.0,
            key_bytes: it.circuit.bytes,
            witness: it.witness.digest.0,
            witness_bytes: it.witness.bytes,
            work: it
                .work_ms
                .and_then(|ms| Duration::try_from_secs_f64(ms / 1_000.0).ok()),
            left: it.due_ms.map(Duration::from_millis),
            price_max: it.price_max,
        }
    }
}

/// What a box says in place of what was asked for.
fn refusal(method: &'static str, body: &[u8]) -> Option<CalderadError> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let error: WireError = serde_json::from_value(body.get_mut("error")?.take()).ok()?;
    Some(CalderadError::Refused {
        method,
        reason: error.data.map_or_else(String::new, |data| data.reason),
        message: error.message,
    })
}

fn name_of(of: Foreign, nth: u32) -> Option<IdempotencyKey> {
    let name = format!("{:032x}/{:016x}", of.submitter.0, of.job.0);
    let name = match nth {
        0 => name,
        nth => format!("{name}/{nth}"),
    };
    name.parse().ok()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

const FLEET_CONNECTIONS: usize = 16;
/// Each job of others that is proved here waits on one.
const TENANT_CONNECTIONS: usize = 40;
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// So fast a disk takes a file at least.
const UPLOAD_BYTES_A_SECOND: u64 = 10_000_000;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// As often as a submitter places a job before it takes it home, and once more.
const NAMES_MAX: u32 = TRIES_MAX + 1;
const ANSWER_MAX: usize = 4 * 1024 * 1024;
const PIECE: usize = 1024 * 1024;
const WAIT_MS: u64 = 2_000;
