//! Why the service gave no result.

use std::io;
use std::path::PathBuf;

use caldera_rpc::error::WireError;
use caldera_rpc::methods::JobError;

/// Why the service gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// An address or an identity that cannot be used. Nothing was sent.
    #[error("{0}")]
    Configuration(String),
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers there, or the connection broke.
    #[error("cannot reach calderad at {url}")]
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
        error: Box<WireError>,
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
    pub fn reason(&self) -> Option<&str> {
        match self {
            ClientError::Refused { error, .. } => {
                error.data.as_ref().map(|data| data.reason.as_str())
            }
            ClientError::Failed { error, .. } => error.as_ref().map(|error| error.reason.as_str()),
            _ => None,
        }
    }

    /// The path of the parameter that does not fit, where the service names one.
    pub fn field(&self) -> Option<&str> {
        match self {
            ClientError::Refused { error, .. } => error.data.as_ref()?.field.as_deref(),
            _ => None,
        }
    }

    /// When the service says that trying again makes sense, in milliseconds.
    pub fn retry_after_ms(&self) -> Option<u64> {
        match self {
            ClientError::Refused { error, .. } => error.data.as_ref()?.retry_after_ms,
            _ => None,
        }
    }

    /// The earliest deadline that the service says it could meet, in milliseconds from receipt.
    pub fn earliest_ms(&self) -> Option<u64> {
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
