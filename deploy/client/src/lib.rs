//! A client of one `calderad`: signed JSON-RPC calls and uploads over HTTP, one at a time, on the thread that asks.
//!
//! [`Client::call`] calls any method of `docs/openrpc.json`, with the parameters and results that
//! `caldera_rpc::methods` has for it. What most programs want of it stands on top: [`Client::register`] a circuit,
//! [`Client::prove`] with it.
//!
//! No byte is sent twice: a short witness comes with its submission, and a long one goes up only if the service says
//! that it does not have it. No call is repeated here: the service says when trying again makes sense
//! ([`ClientError::retry_after_ms`]). A submission whose answer was lost may be sent again by its idempotency key, and is
//! the same job.
//!
//! ```no_run
//! use caldera_client::{Circuit, Client, Identity, Secret};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::parse(&std::fs::read_to_string("rollup.hex")?)?;
//! let client = Client::new("http://127.0.0.1:7420", &Identity::default(), "rollup", secret)?;
//! // Once: what is registered already is not sent again.
//! let circuit = client.register(&Circuit {
//!     zkey: &std::fs::read("transfer.zkey")?,
//!     witness_program: Some(&std::fs::read("transfer.wasm")?),
//!     r1cs: Some(&std::fs::read("transfer.r1cs")?),
//! })?;
//! // In the place of snarkjs's `groth16.fullProve`: inputs, or the bytes of a `.wtns`.
//! let result = client.prove(circuit.circuit, br#"{ "amount": "7", "path": ["1", "2"] }"#)?;
//! println!("{} {:?}", result.proof, result.public_inputs);
//! # Ok(())
//! # }
//! ```

mod error;
mod transport;

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caldera_rpc::auth;
use caldera_rpc::methods::{
    CheckLevel, CircuitInfo, CircuitState, Digest, IdempotencyKey, JobName, JobResult, JobState,
    JobStatus, JobWait, ListCircuits, Method, RegisterCircuit, Submit, WitnessData,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use ureq::http::Response;
use ureq::{Agent, Body, SendBody};

pub use crate::error::ClientError;
pub use crate::transport::Identity;
pub use caldera_rpc::auth::Secret;

/// One account's way to one service.
pub struct Client {
    agent: Agent,
    /// What the URLs of requests begin with.
    base: String,
    url: String,
    account: String,
    secret: Secret,
}

/// The files of a circuit.
#[derive(Debug, Clone, Copy)]
pub struct Circuit<'a> {
    /// The proving key, whose digest is the circuit's name.
    pub zkey: &'a [u8],
    /// circom's witness program (`.wasm`): with it inputs may be proved instead of a witness.
    pub witness_program: Option<&'a [u8]>,
    /// The constraints (`.r1cs`), against which witnesses are held that the program has computed.
    pub r1cs: Option<&'a [u8]>,
}

/// How a witness is to be proved, if not as soon as can be.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// When the proof is needed, in milliseconds from now.
    pub deadline_ms: Option<u64>,
    /// A word that makes a repeated submission the same job.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Client {
    /// A client for the service at `url` that signs as `account`: `http://HOST:PORT`, `https://HOST:PORT`, or
    /// `unix:/PATH` for the operator. Connects to nothing yet.
    pub fn new(
        url: &str,
        identity: &Identity,
        account: &str,
        secret: Secret,
    ) -> Result<Client, ClientError> {
        let (agent, base) = transport::agent(url, identity)?;
        Ok(Client {
            agent,
            base,
            url: url.to_owned(),
            account: account.to_owned(),
            secret,
        })
    }

    /// Uploads what the service does not have of a circuit, registers it, and waits until it can be proved with.
    pub fn register(&self, circuit: &Circuit<'_>) -> Result<CircuitInfo, ClientError> {
        let zkey = digest(circuit.zkey);
        if self.circuit(zkey)?.is_none() {
            let send = |what, bytes: &[u8]| {
                let name = digest(bytes);
                self.upload(what, name, bytes.len() as u64, &mut &*bytes)?;
                Ok::<Digest, ClientError>(name)
            };
            send("proving key", circuit.zkey)?;
            let program = circuit
                .witness_program
                .map(|it| send("witness program", it));
            let r1cs = circuit.r1cs.map(|it| send("constraints", it));
            self.begin_registration(&RegisterCircuit {
                zkey,
                name: None,
                check: CheckLevel::Full,
                source: None,
                witness_program: program.transpose()?,
                r1cs: r1cs.transpose()?,
            })?;
        }
        self.settled(zkey)
    }

    /// Registers what is uploaded. It is checked after this has returned: see [`Client::settled`].
    pub fn begin_registration(
        &self,
        request: &RegisterCircuit,
    ) -> Result<CircuitInfo, ClientError> {
        self.call(Method::RegisterCircuit, request)
    }

    /// A registered circuit, if the service has it.
    pub fn circuit(&self, circuit: Digest) -> Result<Option<CircuitInfo>, ClientError> {
        let circuits: Vec<CircuitInfo> = self.call(Method::ListCircuits, &ListCircuits {})?;
        Ok(circuits.into_iter().find(|info| info.circuit == circuit))
    }

    /// Waits until a registered circuit can be proved with.
    pub fn settled(&self, circuit: Digest) -> Result<CircuitInfo, ClientError> {
        let mut pause = PAUSE_MIN;
        loop {
            let info = self.circuit(circuit)?.ok_or(ClientError::Answer {
                method: Method::ListCircuits.name(),
                expected: "the circuit that was registered",
                got: "a list without it".to_owned(),
            })?;
            match (info.state, info.error) {
                (CircuitState::Ready, _) => {
                    return Ok(CircuitInfo {
                        error: None,
                        ..info
                    });
                }
                (CircuitState::Failed, error) => {
                    return Err(ClientError::Failed {
                        what: format!("circuit {circuit}"),
                        error,
                    });
                }
                (CircuitState::Checking, _) => {
                    // Small keys are met soon, and the checks of large ones are not disturbed.
                    std::thread::sleep(pause);
                    pause = (pause * 5 / 4).min(PAUSE_MAX);
                }
            }
        }
    }

    /// Has a witness proved, or inputs where the circuit has a witness program, and waits for the result.
    pub fn prove(&self, circuit: Digest, witness: &[u8]) -> Result<JobResult, ClientError> {
        let status = self.submit(circuit, witness, &Terms::default())?;
        self.wait(status.job, Duration::MAX, &mut |_| ())
    }

    /// Submits a witness, or inputs where the circuit has a witness program.
    pub fn submit(
        &self,
        circuit: Digest,
        witness: &[u8],
        terms: &Terms,
    ) -> Result<JobStatus, ClientError> {
        // A short one goes with the submission, a long one is uploaded if the service asks for it.
        let short = witness.len() <= WitnessData::BYTES_MAX;
        let name = digest(witness);
        let submission = Submit {
            circuit,
            witness: name,
            witness_data: short.then(|| witness.to_vec()).and_then(WitnessData::new),
            deadline_ms: terms.deadline_ms,
            idempotency_key: terms.idempotency_key.clone(),
        };
        match self.call(Method::Submit, &submission) {
            Err(error) if error.reason() == Some("blobUnknown") => {
                self.upload("witness", name, witness.len() as u64, &mut &*witness)?;
                self.call(Method::Submit, &submission)
            }
            answer => answer,
        }
    }

    /// Waits for the result of a job. `told` is called with each status on the way, after so much time at the latest;
    /// the service may answer sooner.
    pub fn wait(
        &self,
        job: JobName,
        every: Duration,
        told: &mut dyn FnMut(&JobStatus),
    ) -> Result<JobResult, ClientError> {
        let wait_ms = every.min(WAIT).as_millis() as u64;
        let query = JobWait {
            job,
            wait_ms: Some(wait_ms),
        };
        loop {
            let status: JobStatus = self.call(Method::Status, &query)?;
            told(&status);
            match status.state {
                JobState::Proved => return self.call(Method::Result, &query),
                JobState::Failed | JobState::Cancelled => {
                    return Err(ClientError::Failed {
                        what: format!("job {} is {}", status.job, status.state),
                        error: status.error,
                    });
                }
                JobState::Queued | JobState::Preparing | JobState::Running => {}
            }
        }
    }

    /// Calls a method.
    pub fn call<R: DeserializeOwned>(
        &self,
        method: Method,
        parameters: &impl Serialize,
    ) -> Result<R, ClientError> {
        let request = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": method.name(),
            "params": parameters,
        });
        let response = self
            .agent
            .post(format!("{}/", self.base))
            .header("Authorization", self.bearer())
            .header("Content-Type", "application/json")
            .send(request.to_string());
        let body = self.body(method.name(), response, &[200])?;
        let answer = |expected, got: &dyn std::fmt::Display| ClientError::Answer {
            method: method.name(),
            expected,
            got: beginning(&got.to_string()),
        };
        let mut body: Value =
            serde_json::from_str(&body).map_err(|error| answer("JSON", &error))?;
        if let Some(error) = body.get_mut("error") {
            let error = serde_json::from_value(error.take())
                .map_err(|error| answer("an error object", &error))?;
            return Err(ClientError::Refused {
                method: method.name(),
                error,
            });
        }
        let result = body
            .get_mut("result")
            .map(Value::take)
            .ok_or_else(|| answer("a result", &"none"))?;
        serde_json::from_value(result).map_err(|error| answer("the method's result", &error))
    }

    /// Gets a path of the service, whatever it answers. The body is for the caller to read.
    pub fn ask(&self, path: &str) -> Result<Response<Body>, ClientError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let sent = request.header("Authorization", self.bearer()).call();
        sent.map_err(|source| ClientError::Unreachable {
            url: self.url.clone(),
            source: Box::new(source),
        })
    }

    /// Gets a path of the service, which must be there for this account.
    pub fn get(&self, path: &str) -> Result<String, ClientError> {
        self.body(path, Ok(self.ask(path)?), &[200])
    }

    /// Uploads so many bytes under their digest; the service keeps them if it had them already. `what` names them in
    /// errors.
    pub fn upload(
        &self,
        what: &str,
        digest: Digest,
        length: u64,
        bytes: &mut dyn Read,
    ) -> Result<(), ClientError> {
        let response = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.base))
            .header("Authorization", self.bearer())
            .header("Content-Length", length.to_string())
            .send(SendBody::from_reader(bytes));
        self.body(what, response, &[200, 201]).map(drop)
    }

    fn body(
        &self,
        what: &str,
        response: Result<Response<Body>, ureq::Error>,
        good: &[u16],
    ) -> Result<String, ClientError> {
        let (status, body) = read(&self.url, response)?;
        if status == 401 {
            return Err(ClientError::Unauthorized {
                url: self.url.clone(),
                account: self.account.clone(),
            });
        }
        if !good.contains(&status) {
            return Err(ClientError::Status {
                what: what.to_owned(),
                status,
                body: beginning(&body),
            });
        }
        Ok(body)
    }

    /// A token is good for a minute, so each request signs its own.
    fn bearer(&self) -> String {
        // A clock before 1970 makes a token that the service refuses, which is the right end.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let token = auth::sign(&self.account, &self.secret, now);
        format!("Bearer {token}")
    }
}

/// What is served as JSON at a socket in the file system to whoever may open it, without a token: the answer to a `GET` of a
/// path, or to a `POST` of a body there.
pub fn ask_local(socket: &Path, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
    let url = format!("unix:{}", socket.display());
    let (agent, base) = transport::agent(&url, &Identity::default())?;
    let target = format!("{base}{path}");
    let sent = match body {
        None => agent.get(target).call(),
        Some(body) => agent
            .post(target)
            .header("Content-Type", "application/json")
            .send(body.to_string()),
    };
    let (status, text) = read(&url, sent)?;
    if status != 200 {
        return Err(ClientError::Status {
            what: path.to_owned(),
            status,
            body: beginning(&text),
        });
    }
    serde_json::from_str(&text).map_err(|error| ClientError::Status {
        what: format!("{path}: expected JSON, {error}"),
        status,
        body: beginning(&text),
    })
}

/// The status of an answer, and all of its body.
fn read(
    url: &str,
    response: Result<Response<Body>, ureq::Error>,
) -> Result<(u16, String), ClientError> {
    let unreachable = |source: ureq::Error| ClientError::Unreachable {
        url: url.to_owned(),
        source: Box::new(source),
    };
    let mut response = response.map_err(unreachable)?;
    let mut body = String::new();
    response
        .body_mut()
        .as_reader()
        .take(ANSWER_BYTES_MAX)
        .read_to_string(&mut body)
        .map_err(|error| unreachable(error.into()))?;
    Ok((response.status().as_u16(), body))
}

/// The SHA-256 digest of bytes, which is their name on the service.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Enough of a text to recognise it in an error message.
fn beginning(text: &str) -> String {
    const CHARACTERS: usize = 200;
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}..", &text[..end]),
        None => text.to_owned(),
    }
}

/// The largest answers are lists of circuits and of reallocations: far below this.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// How long one call waits for the end of a job; a box may answer sooner.
const WAIT: Duration = Duration::from_secs(20);
/// How soon it is looked again whether a circuit is checked, at first and at last.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
