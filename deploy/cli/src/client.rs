//! A client of one `calderad`: signed JSON-RPC calls and uploads over HTTP.
//!
//! One account, one service, one call at a time. A call is not repeated here: the service says
//! when trying again makes sense, and the exit code hands that on to whoever scripts us. How its
//! bytes get there is the subject of `transport`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use caldera_rpc::auth::{self, Secret};
use caldera_rpc::error::WireError;
use caldera_rpc::methods::{Digest, JobError, Method};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::{Agent, Body, SendBody};

use crate::progress;
use crate::transport::{self, Identity};

/// One account's way to one service.
pub(crate) struct Client {
    agent: Agent,
    /// What the URLs of requests begin with.
    base: String,
    url: String,
    account: String,
    secret: Secret,
}

/// Why the service gave no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// Nobody answers there, or the connection broke.
    #[error("cannot reach calderad at {url}: {source}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What went wrong on the way.
        source: Box<ureq::Error>,
    },
    /// The account is unknown there, or its secret is another.
    #[error("calderad at {url} does not accept the token of {account}")]
    Unauthorized {
        /// The service.
        url: String,
        /// The account that signed.
        account: String,
    },
    /// An HTTP status where a result was expected.
    #[error("{what}: HTTP status {status}: {body}")]
    Status {
        /// What was asked.
        what: String,
        /// The status.
        status: u16,
        /// The beginning of the answer.
        body: String,
    },
    /// The service answered with an error of its own.
    #[error("{method}: {} ({})", .error.message, reason(.error))]
    Refused {
        /// The method.
        method: &'static str,
        /// What it answered.
        error: WireError,
    },
    /// What was asked for was taken, and came to nothing.
    #[error("{what}: {}", .error.as_ref().map_or("no reason given", |error| &error.message))]
    Failed {
        /// The circuit or job.
        what: String,
        /// Why, if the service says.
        error: Option<JobError>,
    },
    /// The answer is not what the method promises.
    #[error("{method}: expected {expected}, got {got}")]
    Answer {
        /// The method.
        method: &'static str,
        /// What was expected.
        expected: &'static str,
        /// What came.
        got: String,
    },
}

impl ClientError {
    /// The stable name of a refusal, where the service gave one.
    pub(crate) fn reason(&self) -> Option<&str> {
        match self {
            ClientError::Refused { error, .. } => {
                error.data.as_ref().map(|data| data.reason.as_str())
            }
            ClientError::Failed { error, .. } => error.as_ref().map(|error| error.reason.as_str()),
            _ => None,
        }
    }

    /// When the service says that trying again makes sense, in milliseconds.
    pub(crate) fn retry_after_ms(&self) -> Option<u64> {
        match self {
            ClientError::Refused { error, .. } => error.data.as_ref()?.retry_after_ms,
            _ => None,
        }
    }

    /// The earliest deadline that the service says it could meet, in milliseconds from receipt.
    pub(crate) fn earliest_ms(&self) -> Option<u64> {
        match self {
            ClientError::Refused { error, .. } => error.data.as_ref()?.earliest_ms,
            _ => None,
        }
    }
}

fn reason(error: &WireError) -> &str {
    error
        .data
        .as_ref()
        .map_or("no reason given", |data| &data.reason)
}

impl Client {
    /// A client for the service at `url` that signs as `account`.
    pub(crate) fn new(
        url: &str,
        identity: &Identity,
        account: &str,
        secret: Secret,
    ) -> anyhow::Result<Self> {
        let (agent, base) = transport::agent(url, identity)?;
        Ok(Self {
            agent,
            base,
            url: url.to_owned(),
            account: account.to_owned(),
            secret,
        })
    }

    /// Calls a method.
    pub(crate) fn call<R: DeserializeOwned>(
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

    /// Gets a path of the box, whatever it answers. The body is for the caller to read.
    pub(crate) fn ask(&self, path: &str) -> Result<Response<Body>, ClientError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let sent = request.header("Authorization", self.bearer()).call();
        sent.map_err(|source| ClientError::Unreachable {
            url: self.url.clone(),
            source: Box::new(source),
        })
    }

    /// Gets a path of the box, which must be there for this account.
    pub(crate) fn get(&self, path: &str) -> Result<String, ClientError> {
        self.body(path, Ok(self.ask(path)?), &[200])
    }

    /// Uploads a file under its digest; the service keeps it if it had it already.
    pub(crate) fn upload(
        &self,
        label: &'static str,
        path: &Path,
        digest: Digest,
    ) -> anyhow::Result<()> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = file.metadata()?.len();
        let bar = progress::bar(label, bytes);
        let mut reader = bar.wrap_read(file);
        let response = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.base))
            .header("Authorization", self.bearer())
            .header("Content-Length", bytes.to_string())
            .send(SendBody::from_reader(&mut reader));
        self.body(label, response, &[200, 201])?;
        bar.finish_and_clear();
        Ok(())
    }

    fn body(
        &self,
        what: &str,
        response: Result<Response<Body>, ureq::Error>,
        good: &[u16],
    ) -> Result<String, ClientError> {
        let unreachable = |source: ureq::Error| ClientError::Unreachable {
            url: self.url.clone(),
            source: Box::new(source),
        };
        let mut response = response.map_err(unreachable)?;
        let status = response.status().as_u16();
        let mut body = String::new();
        response
            .body_mut()
            .as_reader()
            .take(ANSWER_BYTES_MAX)
            .read_to_string(&mut body)
            .map_err(|error| unreachable(error.into()))?;
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
