//! What makes the witnesses of circuits: their programs, and the constraints that what those compute is held against.
//!
//! The registrar translates a program once, beside the key that its witnesses are for, and asks whether
//! it is one of that circuit: the same field and as many wires. The preparers run it, a slice at a time,
//! see [`crate::preparer`].
//!
//! Circuits of one tenant that have the same program, by its digest, share one translation. Those of different
//! tenants do not: how fast a registration is would tell one what another has, and a translation learns how
//! long its slices may be from whoever runs it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use caldera_prover::format::{R1cs, Zkey, scalar_modulus};
use caldera_rpc::error::{InputsFault, RpcError};
use caldera_rpc::methods::Digest;
use caldera_scheduler::TenantId;
use caldera_store::TenantName;
use caldera_store::blob::BlobStore;
use caldera_witness::{Limits, Program, WitnessError};

use crate::clerk;

/// What makes a circuit's witnesses. Cheap to clone.
#[derive(Clone)]
pub struct Maker {
    /// The blob of the program.
    pub digest: Digest,
    /// Its translation.
    pub program: Program,
    /// What a computed witness is held against, where it is registered.
    pub r1cs: Option<R1cs>,
}

/// The makers of all circuits that have one.
#[derive(Default)]
pub struct Programs(Mutex<HashMap<(TenantId, Digest), Maker>>);

/// Where the parts of a maker are, and the key that its witnesses are to be proved with.
pub struct Source<'a> {
    /// All blobs.
    pub blobs: &'a BlobStore,
    /// Whose.
    pub tenant: &'a TenantName,
    /// The key.
    pub zkey: &'a Zkey,
}

impl Programs {
    /// Keeps the maker of a circuit, or notes that it has none.
    pub fn put(&self, circuit: (TenantId, Digest), maker: Option<Maker>) {
        match maker {
            Some(maker) => drop(self.programs().insert(circuit, maker)),
            None => self.remove(circuit),
        }
    }

    /// Forgets the maker of a circuit that is off the list.
    pub fn remove(&self, circuit: (TenantId, Digest)) {
        self.programs().remove(&circuit);
    }

    /// The maker of a circuit.
    pub fn find(&self, circuit: (TenantId, Digest)) -> Result<Maker, RpcError> {
        let found = self.programs().get(&circuit).cloned();
        let (_, circuit) = circuit;
        found.ok_or(RpcError::ProgramMissing { circuit })
    }

    /// A program that another circuit of the tenant has had translated.
    pub fn translated(&self, tenant: TenantId, digest: Digest) -> Option<Program> {
        let programs = self.programs();
        let mut own = programs.iter().filter(|((of, _), _)| *of == tenant);
        let found = own.find(|(_, maker)| maker.digest == digest);
        found.map(|(_, maker)| maker.program.clone())
    }

    fn programs(&self) -> MutexGuard<'_, HashMap<(TenantId, Digest), Maker>> {
        // Single insertions and removals leave the table whole even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source<'_> {
    /// Reads a program, if it is not known already, and its constraints, and holds both against the key.
    pub fn read(
        &self,
        digest: Digest,
        known: Option<Program>,
        r1cs: Option<Digest>,
        limits: &Limits,
    ) -> Result<Maker, RpcError> {
        let refused = |detail: String| RpcError::ProgramRefused { detail };
        let program = match known {
            Some(program) => program,
            None => {
                let bytes = clerk::map_key(self.blobs, self.tenant, digest)?;
                let program = Program::load(&bytes, limits);
                let program = program.map_err(|error| refused(error.to_string()))?;
                let (tenant, bytes) = (self.tenant, bytes.len());
                tracing::info!(%tenant, program = %digest, bytes, "witness program translated");
                program
            }
        };
        let header = self.zkey.header();
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
        let r1cs = r1cs.map(|digest| self.read_constraints(digest));
        Ok(Maker {
            digest,
            program,
            r1cs: r1cs.transpose()?,
        })
    }

    fn read_constraints(&self, digest: Digest) -> Result<R1cs, RpcError> {
        let refused = |detail: String| RpcError::ConstraintsRefused { detail };
        let bytes = clerk::map_key(self.blobs, self.tenant, digest)?;
        let r1cs = R1cs::parse(bytes).map_err(|error| refused(error.to_string()))?;
        let header = self.zkey.header();
        if r1cs.curve() != header.curve {
            let (expected, got) = (header.curve, r1cs.curve());
            return Err(refused(format!(
                "expected the key's curve, {expected:?}, got {got:?}"
            )));
        }
        let public = r1cs.public_count();
        for (what, expected, got) in [
            ("wires", header.wires, r1cs.wires()),
            ("public inputs", header.public, public),
        ] {
            if expected != got {
                return Err(refused(format!(
                    "expected as many {what} as the key has, {expected}, got {got}"
                )));
            }
        }
        // Each constraint and each public wire has a point of the domain.
        let (max, got) = (u64::from(header.domain), u64::from(r1cs.constraint_count()));
        if got + u64::from(public) + 1 > max {
            return Err(refused(format!(
                "expected constraints for a domain of {max} points, got {got} with {public} public inputs"
            )));
        }
        Ok(r1cs)
    }
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
        | WitnessError::Count { .. }
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
