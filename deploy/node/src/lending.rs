//! What is done for the box's fleet process off the thread that answers: pieces of witnesses and keys are read, and what other boxes
//! have made is held against what was asked.
//!
//! Reading waits for the disk, and a verification takes a millisecond or two, neither of which the thread that answers
//! has. Few may wait for it at a time: who is refused asks again.
//!
//! A proof says for which public inputs it holds, and a lender could send a good one for others. So nobody's word is taken
//! for them: they are the first elements of the witness that the job came with.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use bytes::Bytes;
use caldera_prover::format::Wtns;
use caldera_prover::format::json::{Proof, PublicInputs};
use caldera_prover::groth16::{ProvingKey, verify};
use caldera_rpc::chain::chain;
use caldera_rpc::error::RpcError;
use caldera_rpc::methods::Digest;
use caldera_store::TenantName;
use caldera_store::blob::{BlobError, BlobStore};
use caldera_store::jobs::WitnessBytes;
use serde_json::Value;

use crate::service::{Message, Post};

/// What is to be done.
pub enum Task {
    /// Answered by [`Message::FleetRead`].
    Read(Reading),
    /// Answered by [`Message::FleetJudged`].
    Judge(Box<Judging>),
}

/// A piece of a blob that is to be read.
pub struct Reading {
    /// Comes back with the piece.
    pub exchange: u64,
    /// Whose blob.
    pub tenant: TenantName,
    /// Which.
    pub digest: Digest,
    /// From where to where, if that is said; less is read of what is long.
    pub from: u64,
    /// The last byte that is wanted.
    pub to: Option<u64>,
}

/// A proof that came from another box.
pub struct Judging {
    /// Comes back with the verdict.
    pub ticket: u64,
    /// Whose job.
    pub tenant: TenantName,
    /// The key that it is to be proved with.
    pub key: Arc<ProvingKey>,
    /// Its witness: a blob, unless it is here.
    pub witness: Digest,
    /// The witness that came with the submission.
    pub witness_bytes: Option<WitnessBytes>,
    /// What came.
    pub proof: Value,
}

/// A piece of a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// It begins with this byte.
    pub from: u64,
    /// The bytes, of which there is at least one.
    pub bytes: Vec<u8>,
    /// How long the blob is.
    pub all: u64,
}

/// Why there is no piece.
#[derive(Debug)]
pub enum NoPiece {
    /// It ends before. This long it is.
    Beyond(u64),
    /// It cannot be read.
    Blob(BlobError),
}

/// The lender before its thread starts.
pub struct Lender {
    /// What is to be done.
    pub tasks: Receiver<Task>,
    /// Where witnesses and keys are.
    pub blobs: BlobStore,
    /// Where answers go.
    pub service: Post,
}

impl Lender {
    /// Works until nobody is left who could ask. Called once, on the lender's own thread.
    pub fn run(self) {
        while let Ok(task) = self.tasks.recv() {
            let message = match task {
                Task::Read(it) => Message::FleetRead {
                    exchange: it.exchange,
                    piece: self.read(&it),
                },
                Task::Judge(it) => Message::FleetJudged {
                    ticket: it.ticket,
                    verdict: Box::new(self.judge(&it)),
                },
            };
            self.service.send(message);
        }
    }

    fn read(&self, it: &Reading) -> Result<Piece, NoPiece> {
        let blob = self.blobs.open_blob(&it.tenant, it.digest.0);
        cut(blob.map_err(NoPiece::Blob)?.as_ref(), it.from, it.to)
    }

    fn judge(&self, it: &Judging) -> Result<(Proof, PublicInputs), RpcError> {
        let wrong = |error: &dyn std::fmt::Display| RpcError::LentProofWrong {
            detail: error.to_string(),
        };
        let curve = it.key.curve();
        let proof = Proof::parse(it.proof.to_string().as_bytes(), Some(curve));
        let proof = proof.map_err(|error| wrong(&error))?;
        let inputs = self.public_inputs(it)?;
        verify(it.key.verification_key(), &proof, &inputs).map_err(|error| wrong(&error))?;
        Ok((proof, inputs))
    }

    /// What the witness of a job makes public.
    fn public_inputs(&self, it: &Judging) -> Result<PublicInputs, RpcError> {
        // Of a witness that is none there is no proof.
        let none = |detail: String| RpcError::LentProofWrong { detail };
        let bytes = match &it.witness_bytes {
            Some(bytes) => Bytes::from_owner(Held(Arc::clone(bytes))),
            None => {
                let blob = self.blobs.open_blob(&it.tenant, it.witness.0);
                let blob = blob.map_err(|error| {
                    tracing::error!(error = %chain(&error), witness = %it.witness, "the witness of a job that is lent");
                    RpcError::Internal
                });
                blob?.into_bytes()
            }
        };
        let witness = Wtns::parse(bytes).map_err(|error| none(error.to_string()))?;
        if (witness.curve(), witness.len()) != (it.key.curve(), it.key.wires()) {
            let (expected, got) = (it.key.wires(), witness.len());
            return Err(none(format!(
                "its witness: expected {expected} elements of the circuit's field, got {got}"
            )));
        }
        // The first is the constant one.
        let public = witness.elements().chunks_exact(ELEMENT_BYTES).skip(1);
        let public = public.take(it.key.public_count()).map(|element| {
            let mut value = [0; ELEMENT_BYTES];
            value.copy_from_slice(element);
            value
        });
        PublicInputs::new(it.key.curve(), public.collect())
            .ok_or_else(|| none("its witness has an element that is not below the modulus".into()))
    }
}

/// So much of some bytes as one answer holds.
pub fn cut(bytes: &[u8], from: u64, to: Option<u64>) -> Result<Piece, NoPiece> {
    let all = bytes.len() as u64;
    if from >= all {
        return Err(NoPiece::Beyond(all));
    }
    let end = to.map_or(all, |to| to.max(from).saturating_add(1).min(all));
    let end = end.min(from + PIECE_MAX);
    Ok(Piece {
        from,
        bytes: bytes[from as usize..end as usize].to_vec(),
        all,
    })
}

/// A witness that its row holds too.
struct Held(WitnessBytes);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Copying it takes the thread that answers no longer than one turn of reading does.
pub const PIECE_MAX: u64 = 1 << 20;
/// So many may wait.
pub const TASKS_MAX: usize = 64;
const ELEMENT_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_what_was_asked_for_and_no_longer_than_an_answer() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        let of = |from, to| {
            let piece = cut(&bytes, from, to).expect("within it");
            assert_eq!((piece.from, piece.all), (from, 3 << 20));
            let from = from as usize;
            assert_eq!(piece.bytes, bytes[from..from + piece.bytes.len()]);
            piece.bytes.len() as u64
        };
        assert_eq!(of(0, None), PIECE_MAX);
        assert_eq!(of(5, Some(5)), 1);
        assert_eq!(of(5, Some(u64::MAX)), PIECE_MAX);
        assert_eq!(of((3 << 20) - 2, None), 2);
        assert_eq!(of((3 << 20) - 2, Some(3 << 20)), 2);
        assert!(matches!(
            cut(&bytes, 3 << 20, None),
            Err(NoPiece::Beyond(all)) if all == 3 << 20
        ));
        assert!(matches!(cut(b"", 0, None), Err(NoPiece::Beyond(0))));
    }
}
