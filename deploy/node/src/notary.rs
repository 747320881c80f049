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
use caldera_rpc::chain::chain;
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
    #[error("reading it")]
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
    #[error(transparent)]
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
    let key = verification_key(&zkey)
        .map_err(|error| refused(RpcError::misfit("", error.to_string())))?;
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
                tracing::error!(error = %chain(&error), "verifying presentations");
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use caldera_kernels::cpu::{CpuConfig, CpuDevice};
    use caldera_prover::format::Zkey;
    use caldera_prover::groth16::{ProvingKey, Synthetic, prove, setup_synthetic};

    use super::*;

    /// A key, and a proof by it.
    struct Material {
        key: PreparedKey,
        proof: Proof,
        inputs: PublicInputs,
    }

    impl Material {
        fn new() -> Material {
            let synthetic = Synthetic {
                curve: CurveId::Bn254,
                domain_log2: 5,
                dense: 0.5,
                seed: [1; 32],
            };
            let mut file = Vec::new();
            let witness =
                setup_synthetic(&synthetic, 1, &mut file, &mut |_| ()).expect("a small key");
            let zkey = Zkey::parse(Bytes::from(file)).expect("a well-formed key");
            let device = CpuDevice::new(CpuConfig {
                quantum: Duration::MAX,
                lanes: 1,
            });
            let key = ProvingKey::load(&zkey, device).expect("a good key");
            let (proof, inputs) = prove(&key, witness, 1, &mut |_, _| ()).expect("a good witness");
            Material {
                key: PreparedKey::new(key.verification_key()).expect("good points"),
                proof,
                inputs,
            }
        }

        fn verification(&self, ticket: u64, tenant: u32, good: bool) -> Verification {
            let mut proof = self.proof.clone();
            if !good {
                proof.a = proof.c.clone();
            }
            Verification {
                ticket,
                tenant: TenantId(tenant),
                proof,
                inputs: self.inputs.clone(),
            }
        }

        /// What the notary tells of presentations that have all come before it begins: by group, whether each
        /// holds.
        fn judged(self, verifications: Vec<Verification>) -> Vec<Vec<(u64, bool)>> {
            let (ask, requests) = mpsc::channel();
            let (tell, told) = mpsc::channel();
            for verification in verifications {
                ask.send(Question::Verify(verification))
                    .expect("the notary has not ended");
            }
            drop(ask);
            let notary = Notary {
                requests,
                key: Some(self.key),
                schemas: Arc::new(Schemas::standard()),
                service: Post::new(tell, Arc::new(|| ())),
            };
            notary.run();
            let groups = told.iter().map(|message| {
                let Message::Judged { judged } = message else {
                    panic!("a notary tells of presentations alone");
                };
                let verdict = |(ticket, verdict): (u64, Result<(), RpcError>)| match verdict {
                    Ok(()) => (ticket, true),
                    Err(RpcError::StateRefused { rule, .. }) => {
                        assert_eq!(rule, StateRule::ProofRefused);
                        (ticket, false)
                    }
                    Err(error) => panic!("{error}"),
                };
                judged.into_iter().map(verdict).collect()
            });
            groups.collect()
        }
    }

    /// Those of a tenant are judged together, in their order, and each has its own verdict: a bad proof spoils
    /// neither its tenant's others nor another tenant's.
    #[test]
    fn each_of_a_group_has_its_own_verdict() {
        let material = Material::new();
        let come = [
            (1, 7, true),
            (2, 5, false),
            (3, 7, false),
            (4, 7, true),
            (5, 5, true),
            (6, 9, true),
        ];
        let come = come.map(|(ticket, tenant, good)| material.verification(ticket, tenant, good));
        assert_eq!(
            material.judged(come.into()),
            [
                vec![(2, false), (5, true)],
                vec![(1, true), (3, false), (4, true)],
                vec![(6, true)],
            ]
        );
    }

    #[test]
    fn a_group_has_a_limit() {
        let material = Material::new();
        let all = GROUP_MAX as u64 + 3;
        let come = (0..all).map(|ticket| material.verification(ticket, 1, ticket != all - 1));
        let come = come.collect();
        let groups = material.judged(come);
        let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
        assert_eq!(sizes, [GROUP_MAX, 3]);
        let verdicts: Vec<_> = groups.into_iter().flatten().collect();
        let expected: Vec<_> = (0..all).map(|ticket| (ticket, ticket != all - 1)).collect();
        assert_eq!(verdicts, expected);
    }
}
