//! Witness programs of circuits: read when their circuit is, kept while it is registered.
//!
//! The registrar translates a program once, beside the key that its witnesses are for, and asks whether
//! it is one of that circuit: the same field and as many wires. The preparers run it, a slice at a time,
//! see [`crate::preparer`].

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use caldera_prover::format::{Zkey, scalar_modulus};
use caldera_rpc::error::{InputsFault, RpcError};
use caldera_rpc::methods::Digest;
use caldera_scheduler::TenantId;
use caldera_store::TenantName;
use caldera_store::blob::BlobStore;
use caldera_witness::{Limits, Program, WitnessError};

use crate::clerk;

/// The programs of all circuits that have one.
#[derive(Default)]
pub struct Programs(Mutex<HashMap<(TenantId, Digest), Program>>);

impl Programs {
    /// Keeps the program of a circuit, or notes that it has none.
    pub fn put(&self, circuit: (TenantId, Digest), program: Option<Program>) {
        match program {
            Some(program) => drop(self.programs().insert(circuit, program)),
            None => self.remove(circuit),
        }
    }

    /// Forgets the program of a circuit that is off the list.
    pub fn remove(&self, circuit: (TenantId, Digest)) {
        self.programs().remove(&circuit);
    }

    /// The program of a circuit.
    pub fn find(&self, circuit: (TenantId, Digest)) -> Result<Program, RpcError> {
        let found = self.programs().get(&circuit).cloned();
        let (_, circuit) = circuit;
        found.ok_or(RpcError::ProgramMissing { circuit })
    }

    fn programs(&self) -> MutexGuard<'_, HashMap<(TenantId, Digest), Program>> {
        // Single insertions and removals leave the table whole even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads a program and holds it against the key that its witnesses are to be proved with.
pub fn read(
    blobs: &BlobStore,
    tenant: &TenantName,
    digest: Digest,
    zkey: &Zkey,
    limits: &Limits,
) -> Result<Program, RpcError> {
    let bytes = clerk::map_key(blobs, tenant, digest)?;
    let refused = |detail: String| RpcError::ProgramRefused { detail };
    let program = Program::load(&bytes, limits).map_err(|error| refused(error.to_string()))?;
    let header = zkey.header();
    if program.prime() != scalar_modulus(header.curve) {
        return Err(refused(
            "expected the field of the key, got another prime".to_owned(),
        ));
    }
    let (expected, got) = (header.wires, program.wires());
    if expected != got {
        return Err(refused(format!(
            "expected as many wires as the key has, {expected}, got {got}"
        )));
    }
    Ok(program)
}

/// Whether bytes that came as a witness are inputs: a JSON object, and not a `.wtns` file.
pub fn are_inputs(bytes: &[u8]) -> bool {
    // Of a long blob no more than its beginning is looked at.
    let mut begin = bytes.iter().take(4096);
    let first = begin.find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'{')
}

/// The error for inputs that make no witness.
pub fn refusal(error: &WitnessError) -> RpcError {
    let fault = match error {
        WitnessError::Length { .. }
        | WitnessError::Json { .. }
        | WitnessError::Depth { .. }
        | WitnessError::Number { .. }
        | WitnessError::Shape { .. }
        | WitnessError::Twice { .. } => InputsFault::Format,
        WitnessError::Unknown { .. }
        | WitnessError::Values { .. }
        | WitnessError::Missing { .. } => InputsFault::Signals,
        WitnessError::Circuit { .. } => InputsFault::Assertion,
        WitnessError::Trap { .. } | WitnessError::Outside { .. } | WitnessError::Range { .. } => {
            InputsFault::Program
        }
        WitnessError::Time { .. } => InputsFault::Time,
    };
    RpcError::InputsRefused {
        fault,
        detail: error.to_string(),
    }
}
