//! The notary: the thread that verifies presentations of state units, and hashes what is asked of them.
//!
//! A request over a set of values is a tree of hashes, up to ten milliseconds of them; an answer to a status call
//! does not wait for that. How many of a tenant may be here at a time is bounded by who sends them.
//!
//! A verification takes about a millisecond, which the thread that answers does not have. What has gathered while one
//! was made is verified together, for a third of that each (`caldera_prover::groth16::PreparedKey`); but those of each
//! tenant by themselves, so that nobody's bad proofs cost another time beyond their own.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::groth16::{PreparedKey, VerifyError, verification_key};
use caldera_prover::units::{PUBLIC, WIRES};
use caldera_rpc::error::{RpcError, StateRule};
use caldera_rpc::methods::{Address, RequestTerms, Word};
use caldera_scheduler::TenantId;
use caldera_units::Schemas;
use thiserror::Error;

use crate::clerk::{acceptable, read_key};
use crate::service::{Message, Post};

/// A presentation to be verified.
pub struct Verification {
    /// Comes back with the verdict.
    pub ticket: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// The proof.
    pub proof: Proof,
    /// Its public inputs.
    pub inputs: PublicInputs,
}

/// A request whose field element is to be found.
pub struct Hashing {
    /// Comes back with the element.
    pub ticket: u64,
    /// What is asked for.
    pub terms: RequestTerms,
    /// Who asks.
    pub verifier: Address,
}

/// What the notary is asked to do.
pub enum Question {
    /// Answered by [`Message::Judged`].
    Verify(Verification),
    /// Answered by [`Message::Hashed`].
    Hash(Hashing),
}

/// The notary before its thread starts.
pub struct Notary {
    /// What is to be done.
    pub requests: Receiver<Question>,
    /// The key of presentations, without which none are verified.
    pub key: Option<PreparedKey>,
    /// What requests may be about.
    pub schemas: Arc<Schemas>,
    /// Where verdicts go.
    pub service: Post,
}

/// Why a file is no key of presentations.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("reading it: {0}")]
    File(#[from] std::io::Error),
    /// It is no key, or one that this box does not take.
    #[error("{0}")]
    Refused(RpcError),
    /// It is a key of something else.
    #[error(
        "expected a key of bn128 with {expected_public} public inputs and {expected_wires} wires, got {curve} with {public} and {wires}"
    )]
    Other {
        /// Of a presentation.
        expected_public: u32,
        /// Of a presentation.
        expected_wires: usize,
        /// The key's curve.
        curve: String,
        /// The key's public inputs.
        public: u32,
        /// The key's wires.
        wires: u32,
    },
    /// Its points are none.
    #[error("{0}")]
    Points(#[from] VerifyError),
}

/// Reads the key of presentations from a proving key.
pub fn open_key(path: &Path, development: bool) -> Result<PreparedKey, KeyFileError> {
    let refused = KeyFileError::Refused;
    let zkey = read_key(Bytes::from(std::fs::read(path)?)).map_err(refused)?;
    acceptable(&zkey, development).map_err(refused)?;
    let header = zkey.header();
    if header.curve != CurveId::Bn254 || header.public != PUBLIC || header.wires as usize != WIRES {
        return Err(KeyFileError::Other {
            expected_public: PUBLIC,
            expected_wires: WIRES,
            curve: crate::clerk::curve_name(header.curve).to_string(),
            public: header.public,
            wires: header.wires,
        });
    }
    let key = verification_key(&zkey).map_err(|error| {
        refused(RpcError::InvalidParams {
            detail: error.to_string(),
        })
    })?;
    Ok(PreparedKey::new(&key)?)
}

impl Notary {
    /// Works until nobody is left who could ask. Called once, on the notary's own thread.
    pub fn run(self) {
        while let Ok(first) = self.requests.recv() {
            let rest = self.requests.try_iter().take(GROUP_MAX - 1);
            let (mut group, mut hashings) = (Vec::new(), Vec::new());
            for question in std::iter::once(first).chain(rest) {
                match question {
                    Question::Verify(it) => group.push(it),
                    Question::Hash(it) => hashings.push(it),
                }
            }
            group.sort_by_key(|it| it.tenant);
            for of_tenant in group.chunk_by(|a, b| a.tenant == b.tenant) {
                self.verify(of_tenant);
            }
            for it in hashings {
                let element = self.hash(&it);
                let ticket = it.ticket;
                self.service.send(Message::Hashed { ticket, element });
            }
        }
    }

    fn verify(&self, of_tenant: &[Verification]) {
        let Some(key) = &self.key else {
            // Without a key nobody is told to send any.
            return;
        };
        let statements: Vec<_> = of_tenant.iter().map(|it| (&it.proof, &it.inputs)).collect();
        let verdicts: Vec<_> = match key.verify_batch(&statements) {
            Ok(verdicts) => verdicts.into_iter().map(|it| it.map_err(refusal)).collect(),
            Err(error) => {
                tracing::error!(%error, "verifying presentations");
                of_tenant.iter().map(|_| Err(RpcError::Internal)).collect()
            }
        };
        let judged = of_tenant.iter().map(|it| it.ticket).zip(verdicts).collect();
        self.service.send(Message::Judged { judged });
    }

    fn hash(&self, it: &Hashing) -> Result<Word, RpcError> {
        let request = caldera_units::request(&it.terms, &it.verifier, &self.schemas)?;
        let element = request.element().map_err(caldera_units::TermsError::Unit)?;
        Ok(caldera_units::word(&element))
    }
}

fn refusal(error: VerifyError) -> RpcError {
    let rule = match error {
        VerifyError::Refused => StateRule::ProofRefused,
        _ => StateRule::ProofMalformed,
    };
    RpcError::StateRefused {
        rule,
        detail: error.to_string(),
    }
}

/// More are verified in the next group: an answer waits for its whole group.
const GROUP_MAX: usize = 64;
