//! The one list of what can be answered instead of a result.
//!
//! Inner layers know nothing of wire codes: the prover says that a witness is too short, the
//! store says that a disk is full, and the node translates here, at the edge. What the peer reads
//! ([`WireError`]) and what the log reads are two things: a detail that could tell one tenant
//! about another, or anybody about the machine, stays out of the wire form.
//!
//! Codes. -32700 and -32600 to -32603 are JSON-RPC 2.0's own. -32005 is what rollup hosts already
//! know as "limit exceeded" from Ethereum nodes: back off and send again. -32010 and below are
//! ours. A program should look at `data.reason`, a stable name; codes and reasons are never
//! given a second meaning, and the message is for people and may change. A code may have several
//! reasons: -32012 says that a key is to blame, and the reason says for what.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::methods::{CircuitState, Digest, JobName, JobState};

/// Why a demand for work was not taken, though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Full {
    /// The queue of this tenant holds as many jobs as it may.
    Tenant,
    /// The queue of the whole box holds as many jobs as it may.
    Box,
    /// This tenant has as many requests under way as it may.
    Calls,
    /// This tenant has sent as many requests in this second as it may.
    Rate,
}

/// Declares kinds of fault once: variant, name on the wire, meaning.
macro_rules! faults {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $reason:literal $meaning:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $meaning] $variant,)*
        }

        impl $name {
            /// Every kind.
            pub const ALL: &[$name] = &[$($name::$variant),*];

            /// The stable name for `data.reason`.
            pub const fn reason(self) -> &'static str {
                match self { $($name::$variant => $reason),* }
            }

            /// The kind of that name, if there is one.
            pub fn from_reason(reason: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|fault| fault.reason() == reason)
            }
        }
    };
}

faults! {
    /// What is wrong with a proving key. A development key is an error of its own.
    KeyFault {
        Format = "keyFormat" "not a key of circom's Groth16, or of a version that is not read",
        Truncated = "keyTruncated" "the file ends too early",
        Trailing = "keyTrailing" "the file goes on after its end",
        SectionMissing = "keySectionMissing" "a section is missing",
        SectionTwice = "keySectionTwice" "a section occurs twice",
        SectionLength = "keySectionLength" "a section is longer or shorter than its content",
        Field = "keyField" "of a field or curve that is not known",
        Range = "keyRange" "a number is not below the modulus of its field",
        OffCurve = "keyOffCurve" "a point is not on its curve",
        OutsideSubgroup = "keyOutsideSubgroup" "a point is on its curve and outside the prime-order subgroup",
        NoContribution = "keyNoContribution" "no contribution to its ceremony: anybody can forge proofs for it",
        Content = "keyContent" "something else that the format does not allow",
    }
}

faults! {
    /// What is wrong with a witness. One that does not satisfy the circuit is an error of its own.
    WitnessFault {
        Format = "witnessFormat" "not a witness, or of a version that is not read",
        Truncated = "witnessTruncated" "the file ends too early",
        Trailing = "witnessTrailing" "the file goes on after its end",
        SectionMissing = "witnessSectionMissing" "a section is missing",
        SectionTwice = "witnessSectionTwice" "a section occurs twice",
        SectionLength = "witnessSectionLength" "a section is longer or shorter than its content",
        Field = "witnessField" "of another field than the circuit",
        Length = "witnessLength" "another number of elements than the circuit has wires",
        Range = "witnessRange" "an element is not below the modulus of its field",
        Content = "witnessContent" "something else that the format does not allow",
    }
}

faults! {
    /// Why inputs make no witness.
    InputsFault {
        Format = "inputsFormat" "not a JSON object of signals and whole numbers",
        Signals = "inputsSignals" "a signal is missing, unknown, or has more or fewer values than the circuit's",
        Assertion = "circuitAssertion" "an assertion in the circuit failed; the message names it",
        Program = "witnessProgramFailed" "the circuit's witness program broke a rule of its machine",
        Constraint = "constraintUnsatisfied" "a constraint of the circuit does not hold for the witness that was computed; the message has its number",
        Time = "witnessTime" "the circuit's witness program computed for too long",
    }
}

faults! {
    /// Which rule of state units was broken (`docs/state-units.md`).
    StateRule {
        SchemaUnknown = "schemaUnknown" "a schema that this box does not know",
        ClaimUnknown = "claimUnknown" "a claim that the schema does not have",
        ClaimRange = "claimRange" "a value of a claim that is no number of 64 bits",
        RequestTerms = "requestTerms" "a request that asks for what cannot be",
        RequestEnd = "requestEnd" "a request that would be over when it begins, or be open when what answers it may be over",
        RequestUnknown = "requestUnknown" "the verifier has no such request, or has closed it",
        RequestOver = "requestOver" "the request is over",
        RequestMismatch = "requestMismatch" "the proof answers another request than the grant",
        GrantMismatch = "grantMismatch" "the proof binds another grant",
        GrantSender = "grantSender" "the grant is for another sender",
        GrantExpired = "grantExpired" "the grant is over",
        GrantOutlives = "grantOutlives" "the grant lasts longer than the request",
        GrantPresented = "grantPresented" "the grant has been presented",
        RootUnknown = "rootUnknown" "a root that was never published",
        RootStale = "rootStale" "a root that was replaced longer ago than the window",
        RootsFull = "rootsFull" "a tree has had as many roots as can be counted",
        NullifierSpent = "nullifierSpent" "the nullifier has been spent",
        PresentationUnknown = "presentationUnknown" "no presentation of that grant, for this caller",
        UsesSpent = "usesSpent" "all uses of the grant have been made",
        LinkMismatch = "linkMismatch" "the link does not lead to the one that is kept",
        ProofMalformed = "proofMalformed" "not a proof, or a point that is off its curve or outside its subgroup",
        ProofRefused = "proofRefused" "the proof does not hold for these public inputs",
        InputsMalformed = "inputsMalformed" "not five public inputs, each below the modulus",
        OpeningMalformed = "openingMalformed" "not the opening of a presentation",
    }
}

faults! {
    /// Why the box serves no state units, or not this of them.
    StateLack {
        Journal = "stateJournalDamaged" "the journal of the registry is damaged",
        Key = "stateKeyMissing" "no key of presentations is configured",
    }
}

faults! {
    /// Why the ledger does not do what is asked. Whatever it refuses, nothing has changed.
    EraFault {
        Off = "eraOff" "this box keeps no ledger",
        Damaged = "eraDamaged" "the journal is damaged: nothing is done until the operator has seen to it",
        Insufficient = "eraInsufficient" "an account has less than is needed",
        Conflict = "eraConflict" "the id was used for something else",
        ClosedEpoch = "eraClosedEpoch" "the epoch is closed, or open, and a later one is expected",
        EpochNotOver = "eraEpochNotOver" "the epoch is not over",
        Locked = "eraLocked" "it is locked, or not due yet",
        UnknownParty = "eraUnknownParty" "there is no such party, or it is not the caller's",
        Unknown = "eraUnknown" "there is no such stake, unbonding or epoch any more, or there never was",
        Overflow = "eraOverflow" "a sum is more than can be counted",
        NothingDue = "eraNothingDue" "there is nothing to move",
        Policy = "eraPolicy" "the policy is refused",
        NotEarned = "eraNotEarned" "the event has earned that party nothing in that epoch",
        Forbidden = "eraForbidden" "it is not done, whoever asks",
    }
}

/// An answer that is not a result.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum RpcError {
    /// The body is not JSON, or JSON that two readers could take differently.
    #[error("not JSON: {detail}")]
    Parse {
        /// What was met, and where.
        detail: String,
    },
    /// The body is JSON and not a JSON-RPC 2.0 request.
    #[error("not a JSON-RPC 2.0 request: {detail}")]
    InvalidRequest {
        /// What was expected and what was there.
        detail: String,
    },
    /// Nobody here answers to that name.
    #[error("no such method")]
    MethodNotFound,
    /// The parameters do not fit the method.
    #[error("parameters do not fit: {}{detail}", Before(.field))]
    InvalidParams {
        /// The path of the field, as `legs[0].amount`; empty where no one field is to blame.
        field: String,
        /// What was expected of it, and what was there.
        detail: String,
    },
    /// A fault of ours; the log has the rest.
    #[error("internal error")]
    Internal,
    /// A bounded queue is full; the same request may succeed later.
    #[error("queue is full: {}", .full.reason())]
    QueueFull {
        /// Which queue.
        full: Full,
        /// When to try again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// This tenant has registered no such circuit.
    #[error("circuit {circuit} is not registered")]
    CircuitUnknown {
        /// The digest that was asked for.
        circuit: Digest,
    },
    /// The circuit is registered and cannot be proved with now.
    #[error("circuit {circuit} is {state}, not ready")]
    CircuitNotReady {
        /// The digest that was asked for.
        circuit: Digest,
        /// The state that it is in.
        state: CircuitState,
    },
    /// The key is damaged, unsafe, or of a kind that is not read here.
    #[error("key refused: {detail}")]
    KeyRefused {
        /// Which kind of fault it has.
        fault: KeyFault,
        /// What is wrong with it.
        detail: String,
    },
    /// The key is a development key and this box does not run in development mode.
    #[error("this is a development key: anybody who made it can forge proofs")]
    DevelopmentKey,
    /// The circuit has jobs that wait or run, or it is registered and its key was to be deleted.
    #[error("circuit {circuit} is in use by its registration and {jobs} unfinished jobs")]
    CircuitInUse {
        /// The digest that was asked for.
        circuit: Digest,
        /// How many jobs hold it.
        jobs: u64,
    },
    /// This tenant has uploaded no such blob.
    #[error("blob {digest} was not uploaded")]
    BlobUnknown {
        /// The digest that was asked for.
        digest: Digest,
    },
    /// The witness is damaged, or belongs to another circuit or field.
    #[error("witness refused: {detail}")]
    WitnessRefused {
        /// Which kind of fault it has.
        fault: WitnessFault,
        /// What is wrong with it.
        detail: String,
    },
    /// The blob is not a program that is run here, or not one of this circuit.
    #[error("witness program refused: {detail}")]
    ProgramRefused {
        /// What is wrong with it.
        detail: String,
    },
    /// The blob is not a constraint system, or not that of this circuit.
    #[error("constraints refused: {detail}")]
    ConstraintsRefused {
        /// What is wrong with it.
        detail: String,
    },
    /// Inputs came for a circuit without a witness program.
    #[error(
        "circuit {circuit} was registered without a witness program: it takes witnesses, not inputs"
    )]
    ProgramMissing {
        /// The digest of the circuit.
        circuit: Digest,
    },
    /// Inputs that make no witness.
    #[error("inputs refused: {detail}")]
    InputsRefused {
        /// Which kind of fault it is.
        fault: InputsFault,
        /// What is wrong, without a value.
        detail: String,
    },
    /// The witness does not satisfy the circuit: the proof made from it failed its own check.
    #[error("the proof failed its self-check: the witness does not satisfy the circuit")]
    SelfCheckFailed,
    /// This tenant has no such job.
    #[error("job {job} is not known")]
    JobUnknown {
        /// The job that was asked for.
        job: JobName,
    },
    /// There is no result yet.
    #[error("job {job} is {state}, not proved")]
    JobNotFinished {
        /// The job that was asked for.
        job: JobName,
        /// The state that it is in.
        state: JobState,
    },
    /// The job ended without a proof because it was cancelled.
    #[error("job {job} was cancelled")]
    JobCancelled {
        /// The job that was asked for.
        job: JobName,
    },
    /// The idempotency key was used before with another submission.
    #[error("this idempotency key belongs to another submission, job {job}")]
    IdempotencyConflict {
        /// The job that holds the key.
        job: JobName,
    },
    /// The tenant has stored, or registered, as much as it may.
    #[error("quota reached: {detail}")]
    QuotaExceeded {
        /// What is limited and to how much.
        detail: String,
    },
    /// The disk of the box is full.
    #[error("no space left in the box's storage")]
    StorageFull,
    /// The box cannot write down what it takes: its disk is full, read-only or damaged. The same request may
    /// succeed later.
    #[error("the box cannot write to its storage now")]
    StorageUnavailable {
        /// When to try again, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The box is stopping and takes nothing new.
    #[error("the box is stopping")]
    Stopping,
    /// The tenant cannot count on a proof by the deadline.
    #[error("the deadline cannot be met: expected {earliest_ms} ms from receipt or more")]
    DeadlineUnmeetable {
        /// The earliest that could be, in milliseconds from receipt.
        earliest_ms: u64,
    },
    /// More cores are declared than the tenant may hold.
    #[error("units: expected 0 to {ceiling}, which is the tenant's ceiling, got {got}")]
    DemandAboveCeiling {
        /// So many it may hold.
        ceiling: u32,
        /// So many were declared.
        got: u32,
    },
    /// A demand is declared for no time, or for too long.
    #[error("durationMs: expected 1 to {max_ms}, got {got_ms}")]
    DemandDuration {
        /// The longest.
        max_ms: u64,
        /// What was declared.
        got_ms: u64,
    },
    /// A key cannot be read again from where its owner said.
    #[error("source: {detail}")]
    KeySource {
        /// The file, what was expected of it and what was got.
        detail: String,
    },
    /// The tenant is not one that may do this.
    #[error("this tenant has no scope {scope}")]
    OutOfScope {
        /// What it would need.
        scope: &'static str,
    },
    /// The tenant was suspended or removed while a request of it was under way.
    #[error("this tenant is not served any more")]
    AccessEnded,
    /// The box has no such tenant. Only the operator is told so.
    #[error("tenant {tenant} is not known")]
    TenantUnknown {
        /// The name.
        tenant: String,
    },
    /// The tenant is not in a state in which that can be done. Only the operator is told so.
    #[error("tenant {tenant}: {detail}")]
    TenantState {
        /// The name.
        tenant: String,
        /// What stands against it.
        detail: &'static str,
    },
    /// The job is not with the fleet. Only the fleet is told so.
    #[error("job {job} is not with the fleet: it has ended or come home")]
    JobNotLent {
        /// The job.
        job: JobName,
    },
    /// The job is with the fleet, under another fence. Only the fleet is told so.
    #[error("job {job}: expected fence {expected}, got {got}")]
    FenceStale {
        /// The job.
        job: JobName,
        /// Under which it is lent.
        expected: u64,
        /// Which was named.
        got: u64,
    },
    /// What came as a proof of a job that is lent is none.
    #[error("not a proof of that job: {detail}")]
    LentProofWrong {
        /// What is wrong with it.
        detail: String,
    },
    /// The box does not know any more what was withdrawn after that.
    #[error("cursor: expected {oldest} to {newest}, got {got}: ask fleet_heldV1")]
    FleetCursor {
        /// The oldest after which all is known.
        oldest: u64,
        /// The newest.
        newest: u64,
        /// What was named.
        got: u64,
    },
    /// A rule of state units is broken. Nothing is recorded.
    #[error("state units: {detail}")]
    StateRefused {
        /// Which rule.
        rule: StateRule,
        /// What was expected and what was got.
        detail: String,
    },
    /// The box does not serve state units, or not this of them.
    #[error("state units are not served: {detail}")]
    StateUnserved {
        /// What it lacks.
        lack: StateLack,
        /// More of it.
        detail: String,
    },
    /// The ledger does not do it.
    #[error("era: {detail}")]
    Era {
        /// Which kind of refusal.
        fault: EraFault,
        /// What was expected and what was there.
        detail: String,
    },
    /// There is no profile of a job.
    #[error("no profile of job {job}: {detail}")]
    ProfileUnavailable {
        /// The job.
        job: JobName,
        /// Why not.
        detail: &'static str,
    },
}

impl Full {
    /// The stable name for `data.reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Full::Tenant => "tenantQueueFull",
            Full::Box => "boxQueueFull",
            Full::Calls => "tenantCallsFull",
            Full::Rate => "tenantRateFull",
        }
    }
}

/// A path before what is said of it.
struct Before<'a>(&'a str);

impl fmt::Display for Before<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            field => write!(out, "{field}: "),
        }
    }
}

impl RpcError {
    /// Parameters of which one field does not fit. `field` is its path; empty where no one field is to blame.
    pub fn misfit(field: impl Into<String>, detail: impl Into<String>) -> RpcError {
        RpcError::InvalidParams {
            field: field.into(),
            detail: detail.into(),
        }
    }

    /// The JSON-RPC error code.
    pub const fn code(&self) -> i32 {
        match self {
            RpcError::Parse { .. } => -32700,
            RpcError::InvalidRequest { .. } => -32600,
            RpcError::MethodNotFound => -32601,
            RpcError::InvalidParams { .. } => -32602,
            RpcError::Internal => -32603,
            RpcError::QueueFull { .. } => -32005,
            RpcError::CircuitUnknown { .. } => -32010,
            RpcError::CircuitNotReady { .. } => -32011,
            RpcError::KeyRefused { .. } => -32012,
            RpcError::DevelopmentKey => -32013,
            RpcError::CircuitInUse { .. } => -32014,
            RpcError::BlobUnknown { .. } => -32015,
            RpcError::WitnessRefused { .. } => -32016,
            RpcError::SelfCheckFailed => -32017,
            RpcError::JobUnknown { .. } => -32018,
            RpcError::JobNotFinished { .. } => -32019,
            RpcError::JobCancelled { .. } => -32020,
            RpcError::IdempotencyConflict { .. } => -32021,
            RpcError::QuotaExceeded { .. } => -32022,
            RpcError::StorageFull => -32023,
            RpcError::Stopping => -32024,
            RpcError::DeadlineUnmeetable { .. } => -32025,
            RpcError::DemandAboveCeiling { .. } => -32026,
            RpcError::DemandDuration { .. } => -32027,
            RpcError::KeySource { .. } => -32028,
            RpcError::ProfileUnavailable { .. } => -32030,
            RpcError::StorageUnavailable { .. } => -32031,
            RpcError::OutOfScope { .. } => -32032,
            RpcError::StateRefused { .. } => -32050,
            RpcError::StateUnserved { .. } => -32051,
            RpcError::TenantUnknown { .. } => -32033,
            RpcError::TenantState { .. } => -32034,
            RpcError::AccessEnded => -32035,
            RpcError::JobNotLent { .. } => -32036,
            RpcError::FenceStale { .. } => -32037,
            RpcError::LentProofWrong { .. } => -32038,
            RpcError::FleetCursor { .. } => -32039,
            RpcError::ProgramRefused { .. } => -32045,
            RpcError::ProgramMissing { .. } => -32046,
            RpcError::InputsRefused { .. } => -32047,
            RpcError::ConstraintsRefused { .. } => -32048,
            RpcError::Era { .. } => -32040,
        }
    }

    /// The stable name that programs match on, sent as `data.reason`.
    pub const fn reason(&self) -> &'static str {
        match self {
            RpcError::Parse { .. } => "parse",
            RpcError::InvalidRequest { .. } => "invalidRequest",
            RpcError::MethodNotFound => "methodNotFound",
            RpcError::InvalidParams { .. } => "invalidParams",
            RpcError::Internal => "internal",
            RpcError::QueueFull { full, .. } => full.reason(),
            RpcError::CircuitUnknown { .. } => "circuitUnknown",
            RpcError::CircuitNotReady { .. } => "circuitNotReady",
            RpcError::KeyRefused { fault, .. } => fault.reason(),
            RpcError::DevelopmentKey => "developmentKey",
            RpcError::CircuitInUse { .. } => "circuitInUse",
            RpcError::BlobUnknown { .. } => "blobUnknown",
            RpcError::WitnessRefused { fault, .. } => fault.reason(),
            RpcError::SelfCheckFailed => "selfCheckFailed",
            RpcError::JobUnknown { .. } => "jobUnknown",
            RpcError::JobNotFinished { .. } => "jobNotFinished",
            RpcError::JobCancelled { .. } => "jobCancelled",
            RpcError::IdempotencyConflict { .. } => "idempotencyConflict",
            RpcError::QuotaExceeded { .. } => "quotaExceeded",
            RpcError::StorageFull => "storageFull",
            RpcError::Stopping => "stopping",
            RpcError::DeadlineUnmeetable { .. } => "deadlineUnmeetable",
            RpcError::DemandAboveCeiling { .. } => "demandAboveCeiling",
            RpcError::DemandDuration { .. } => "demandDuration",
            RpcError::KeySource { .. } => "keySource",
            RpcError::ProfileUnavailable { .. } => "profileUnavailable",
            RpcError::StorageUnavailable { .. } => "storageUnavailable",
            RpcError::OutOfScope { .. } => "outOfScope",
            RpcError::StateRefused { rule, .. } => rule.reason(),
            RpcError::StateUnserved { lack, .. } => lack.reason(),
            RpcError::TenantUnknown { .. } => "tenantUnknown",
            RpcError::TenantState { .. } => "tenantState",
            RpcError::AccessEnded => "accessEnded",
            RpcError::JobNotLent { .. } => "jobNotLent",
            RpcError::FenceStale { .. } => "fenceStale",
            RpcError::LentProofWrong { .. } => "lentProofWrong",
            RpcError::FleetCursor { .. } => "fleetCursor",
            RpcError::ProgramRefused { .. } => "witnessProgram",
            RpcError::ProgramMissing { .. } => "witnessProgramMissing",
            RpcError::InputsRefused { fault, .. } => fault.reason(),
            RpcError::ConstraintsRefused { .. } => "r1cs",
            RpcError::Era { fault, .. } => fault.reason(),
        }
    }

    /// What goes over the wire.
    pub fn to_wire(&self) -> WireError {
        let retry_after_ms = match *self {
            RpcError::QueueFull { retry_after_ms, .. }
            | RpcError::StorageUnavailable { retry_after_ms } => Some(retry_after_ms),
            _ => None,
        };
        let earliest_ms = match *self {
            RpcError::DeadlineUnmeetable { earliest_ms } => Some(earliest_ms),
            _ => None,
        };
        let field = match self {
            RpcError::InvalidParams { field, .. } if !field.is_empty() => Some(field.clone()),
            _ => None,
        };
        WireError {
            code: self.code(),
            message: self.to_string(),
            data: Some(ErrorData {
                reason: self.reason().to_owned(),
                field,
                retry_after_ms,
                earliest_ms,
            }),
        }
    }
}

/// The `error` member of a JSON-RPC response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// See [`RpcError::code`].
    pub code: i32,
    /// For people.
    pub message: String,
    /// For programs. Always sent by this crate; absent from some other servers' answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<ErrorData>,
}

/// The `data` member of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorData {
    /// See [`RpcError::reason`].
    pub reason: String,
    /// Of [`RpcError::InvalidParams`]: the path of the field that does not fit, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again, in milliseconds from the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// The earliest deadline that could be met, in milliseconds from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earliest_ms: Option<u64>,
}
