//! The methods: their names, and the types of their parameters and results.
//!
//! One definition serves the node, the command line and the tests, so that no field can be
//! spelled in two ways. Names carry a version (`V1`) as in Ethereum's Engine API: a method that
//! must change gets a new name, and the old one stays as it was. JSON names are camelCase with the
//! unit last. Parameters refuse fields that they do not know, because a misspelt `deadlineMs` that
//! is silently dropped costs its sender a deadline; results do not, so that an old client can read
//! a newer box.
//!
//! Times. `submittedMs` of a job and the times of a release are Unix time in milliseconds. Every other `...Ms` is a duration:
//! of a submission and its job, counted from receipt; of an estimate, from the answer.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use fleet::*;
pub use state::*;

mod fleet;
mod state;

/// A method that a box answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// [`RegisterCircuit`] -> [`CircuitInfo`].
    RegisterCircuit,
    /// [`ListCircuits`] -> `Vec<CircuitInfo>`.
    ListCircuits,
    /// [`UnregisterCircuit`] -> [`Unregistered`].
    UnregisterCircuit,
    /// [`EstimateProof`] -> [`Estimate`].
    Estimate,
    /// [`Submit`] -> [`JobStatus`].
    Submit,
    /// [`JobWait`] -> [`JobStatus`].
    Status,
    /// [`JobWait`] -> [`JobResult`].
    Result,
    /// [`JobQuery`] -> [`JobStatus`].
    Cancel,
    /// [`ProfileQuery`] -> [`JobProfile`].
    Profile,
    /// [`PoolQuery`] -> [`PoolStatus`].
    Pool,
    /// [`DeclareDemand`] -> [`Demand`].
    Demand,
    /// [`HistogramsQuery`] -> `Vec<SpanHistogram>`. For the operator.
    Histograms,
    /// [`StorageQuery`] -> [`StorageStatus`].
    Storage,
    /// [`AccountQuery`](crate::era::AccountQuery) -> `Vec<EraAccount>`.
    EraAccount,
    /// [`Adopt`](crate::era::Adopt) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraAdopt,
    /// [`Claim`](crate::era::Claim) -> [`EraReceipt`](crate::era::EraReceipt).
    EraClaim,
    /// [`ClawBack`](crate::era::ClawBack) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraClawBack,
    /// [`CloseEpoch`](crate::era::CloseEpoch) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraClose,
    /// [`EpochQuery`](crate::era::EpochQuery) -> [`EraEpochs`](crate::era::EraEpochs).
    EraEpoch,
    /// [`ExplainQuery`](crate::era::ExplainQuery) -> [`EraExplanation`](crate::era::EraExplanation).
    EraExplain,
    /// [`Offset`](crate::era::Offset) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraOffset,
    /// [`PolicyQuery`](crate::era::PolicyQuery) -> [`EraPolicy`](crate::era::EraPolicy).
    EraPolicy,
    /// [`RegisterParty`](crate::era::RegisterParty) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraRegister,
    /// [`RetentionQuery`](crate::era::RetentionQuery) -> [`EraRetention`](crate::era::EraRetention).
    EraRetention,
    /// [`Settle`](crate::era::Settle) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraSettle,
    /// [`Stake`](crate::era::Stake) -> [`EraReceipt`](crate::era::EraReceipt).
    EraStake,
    /// [`StatementQuery`](crate::era::StatementQuery) -> [`EraStatement`](crate::era::EraStatement).
    EraStatement,
    /// [`Transfer`](crate::era::Transfer) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraTransfer,
    /// [`Unstake`](crate::era::Unstake) -> [`EraReceipt`](crate::era::EraReceipt).
    EraUnstake,
    /// [`VerifyOwner`](crate::era::VerifyOwner) -> [`EraReceipt`](crate::era::EraReceipt). For the operator.
    EraVerify,
    /// [`PublishIssuers`] -> [`StateInfo`]. For the operator.
    StateIssue,
    /// [`OpenRequest`] -> [`StateInfo`].
    StateGrant,
    /// [`Present`] -> [`JobStatus`].
    StatePresent,
    /// [`VerifyPresentation`] -> [`PresentationInfo`].
    StateVerify,
    /// [`Reuse`] -> [`PresentationInfo`].
    StateReuse,
    /// [`Revoke`] -> [`StateInfo`].
    StateRevoke,
    /// [`StateQuery`] -> [`StateInfo`].
    StateGet,
    /// [`AddTenant`] -> [`TenantSecret`]. For the operator.
    AddTenant,
    /// [`RotateTenant`] -> [`TenantSecret`]. For the operator.
    RotateTenant,
    /// [`TenantQuery`] -> [`TenantInfo`]. For the operator.
    SuspendTenant,
    /// [`TenantQuery`] -> [`TenantInfo`]. For the operator.
    ResumeTenant,
    /// [`TenantQuery`] -> [`TenantInfo`]. For the operator.
    RemoveTenant,
    /// [`ListTenants`] -> `Vec<TenantInfo>`. For the operator.
    ListTenants,
    /// [`FleetTake`] -> [`FleetTaken`]. For the fleet.
    FleetTake,
    /// [`FleetHeldQuery`] -> [`FleetHeld`]. For the fleet.
    FleetHeld,
    /// [`FleetResult`] -> [`FleetDone`]. For the fleet.
    FleetResult,
    /// [`FleetReturn`] -> [`FleetDone`]. For the fleet.
    FleetReturn,
    /// [`FleetBillQuery`] -> [`FleetBill`]. For the fleet.
    FleetBill,
    /// [`FleetMeter`] -> [`FleetMetered`]. For the fleet.
    FleetMeter,
}

impl Method {
    /// Every method.
    pub const ALL: [Method; 49] = [
        Method::RegisterCircuit,
        Method::ListCircuits,
        Method::UnregisterCircuit,
        Method::Estimate,
        Method::Submit,
        Method::Status,
        Method::Result,
        Method::Cancel,
        Method::Profile,
        Method::Pool,
        Method::Demand,
        Method::Histograms,
        Method::Storage,
        Method::EraAccount,
        Method::EraAdopt,
        Method::EraClaim,
        Method::EraClawBack,
        Method::EraClose,
        Method::EraEpoch,
        Method::EraExplain,
        Method::EraOffset,
        Method::EraPolicy,
        Method::EraRegister,
        Method::EraRetention,
        Method::EraSettle,
        Method::EraStake,
        Method::EraStatement,
        Method::EraTransfer,
        Method::EraUnstake,
        Method::EraVerify,
        Method::StateIssue,
        Method::StateGrant,
        Method::StatePresent,
        Method::StateVerify,
        Method::StateReuse,
        Method::StateRevoke,
        Method::StateGet,
        Method::AddTenant,
        Method::RotateTenant,
        Method::SuspendTenant,
        Method::ResumeTenant,
        Method::RemoveTenant,
        Method::ListTenants,
        Method::FleetTake,
        Method::FleetHeld,
        Method::FleetResult,
        Method::FleetReturn,
        Method::FleetBill,
        Method::FleetMeter,
    ];

    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Method::RegisterCircuit => "prover_registerCircuitV1",
            Method::ListCircuits => "prover_listCircuitsV1",
            Method::UnregisterCircuit => "prover_unregisterCircuitV1",
            Method::Estimate => "prover_estimateV1",
            Method::Submit => "prover_submitV1",
            Method::Status => "prover_statusV1",
            Method::Result => "prover_resultV1",
            Method::Cancel => "prover_cancelV1",
            Method::Profile => "prover_profileV1",
            Method::Pool => "pool_statusV1",
            Method::Demand => "pool_demandV1",
            Method::Histograms => "pool_histogramsV1",
            Method::Storage => "pool_storageV1",
            Method::EraAccount => "era_accountV1",
            Method::EraAdopt => "era_adoptV1",
            Method::EraClaim => "era_claimV1",
            Method::EraClawBack => "era_clawBackV1",
            Method::EraClose => "era_closeV1",
            Method::EraEpoch => "era_epochV1",
            Method::EraExplain => "era_explainV1",
            Method::EraOffset => "era_offsetV1",
            Method::EraPolicy => "era_policyV1",
            Method::EraRegister => "era_registerV1",
            Method::EraRetention => "era_retentionV1",
            Method::EraSettle => "era_settleV1",
            Method::EraStake => "era_stakeV1",
            Method::EraStatement => "era_statementV1",
            Method::EraTransfer => "era_transferV1",
            Method::EraUnstake => "era_unstakeV1",
            Method::EraVerify => "era_verifyV1",
            Method::StateIssue => "state_issueV1",
            Method::StateGrant => "state_grantV1",
            Method::StatePresent => "state_presentV1",
            Method::StateVerify => "state_verifyV1",
            Method::StateReuse => "state_reuseV1",
            Method::StateRevoke => "state_revokeV1",
            Method::StateGet => "state_getV1",
            Method::AddTenant => "tenant_addV1",
            Method::RotateTenant => "tenant_rotateV1",
            Method::SuspendTenant => "tenant_suspendV1",
            Method::ResumeTenant => "tenant_resumeV1",
            Method::RemoveTenant => "tenant_removeV1",
            Method::ListTenants => "tenant_listV1",
            Method::FleetTake => "fleet_takeV1",
            Method::FleetHeld => "fleet_heldV1",
            Method::FleetResult => "fleet_resultV1",
            Method::FleetReturn => "fleet_returnV1",
            Method::FleetBill => "fleet_billV1",
            Method::FleetMeter => "fleet_meterV1",
        }
    }

    /// What a tenant needs to call it.
    pub const fn scope(self) -> Scope {
        match self {
            Method::RegisterCircuit
            | Method::UnregisterCircuit
            | Method::Submit
            | Method::Cancel
            | Method::Demand
            | Method::StateIssue
            | Method::StateGrant
            | Method::StatePresent
            | Method::StateVerify
            | Method::StateReuse
            | Method::StateRevoke => Scope::Submit,
            Method::EraClaim | Method::EraStake | Method::EraUnstake => Scope::Submit,
            _ => Scope::Read,
        }
    }

    /// Whether it is one of state units.
    pub const fn is_of_states(self) -> bool {
        matches!(
            self,
            Method::StateIssue
                | Method::StateGrant
                | Method::StatePresent
                | Method::StateVerify
                | Method::StateReuse
                | Method::StateRevoke
                | Method::StateGet
        )
    }

    /// Whether only the operator may call it.
    pub const fn is_operators(self) -> bool {
        matches!(
            self,
            Method::AddTenant
                | Method::RotateTenant
                | Method::SuspendTenant
                | Method::ResumeTenant
                | Method::RemoveTenant
                | Method::ListTenants
                | Method::EraAdopt
                | Method::EraClawBack
                | Method::EraClose
                | Method::EraOffset
                | Method::EraRegister
                | Method::EraSettle
                | Method::EraTransfer
                | Method::EraVerify
        )
    }

    /// Whether only the box's own fleet process may call it.
    pub const fn is_fleets(self) -> bool {
        matches!(
            self,
            Method::FleetTake
                | Method::FleetHeld
                | Method::FleetResult
                | Method::FleetReturn
                | Method::FleetBill
                | Method::FleetMeter
        )
    }

    /// Whether it is one of the ledger's.
    pub fn is_eras(self) -> bool {
        self.name().starts_with("era_")
    }

    /// The method of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Method> {
        Method::ALL.into_iter().find(|method| method.name() == name)
    }
}

/// The SHA-256 digest that names a blob; 64 lower-case hexadecimal digits on the wire.
///
/// Only that one spelling is read, so that one blob has one name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(pub [u8; 32]);

/// The number of a job; `0x` and 16 lower-case hexadecimal digits on the wire, because JSON
/// numbers lose precision above 2^53 in JavaScript.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct JobName(pub u64);

/// A name that a tenant gives to a circuit: 1 to 64 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct CircuitName(String);

/// A word by which a tenant recognises its own submission: 1 to 128 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct IdempotencyKey(String);

/// The bytes of a witness; base64 with padding on the wire. They are overwritten when they are dropped, and
/// never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WitnessData(Zeroizing<Vec<u8>>);

/// A string that is not what its field holds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not a digest.
    #[error("expected 64 lower-case hexadecimal digits without 0x, got other text of length {got}")]
    Digest {
        /// Characters that were there.
        got: usize,
    },
    /// Not a job.
    #[error("expected 0x and 16 lower-case hexadecimal digits, got other text of length {got}")]
    Job {
        /// Characters that were there.
        got: usize,
    },
    /// Not a name for a circuit.
    #[error("expected 1 to 64 characters without control characters, got {got} characters")]
    Circuit {
        /// Characters that were there.
        got: usize,
    },
    /// Not an idempotency key.
    #[error("expected 1 to 128 visible ASCII characters, got {got} characters")]
    Idempotency {
        /// Characters that were there.
        got: usize,
    },
    /// Not a number of so many digits.
    #[error(
        "expected 0x and {expected} lower-case hexadecimal digits, got other text of length {got}"
    )]
    Hexadecimal {
        /// Digits that it has.
        expected: usize,
        /// Characters that were there.
        got: usize,
    },
    /// Not the bytes of a witness.
    #[error("expected base64 of at most {max} bytes, got other text of length {got}")]
    Witness {
        /// The longest.
        max: usize,
        /// Characters that were there.
        got: usize,
    },
}

/// How much of a key is checked before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckLevel {
    /// Every point is shown to be on its curve and in its subgroup.
    #[default]
    Full,
    /// The points are taken as they are: the caller vouches for the digest.
    Trusted,
}

/// A curve, by the name that snarkjs writes into its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CurveName {
    /// BN254.
    #[serde(rename = "bn128")]
    Bn128,
    /// BLS12-381.
    #[serde(rename = "bls12381")]
    Bls12381,
}

/// Where a registered circuit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CircuitState {
    /// Its points are being checked and prepared.
    Checking,
    /// Proofs can be made with it.
    Ready,
    /// The check found it unfit.
    Failed,
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JobState {
    /// Admitted; no core has touched it.
    Queued,
    /// Its witness is being read.
    Preparing,
    /// Cores work on it.
    Running,
    /// The proof is made and has passed its self-check.
    Proved,
    /// It ended without a proof.
    Failed,
    /// It was cancelled before it ended.
    Cancelled,
}

impl JobState {
    /// Whether nothing will change any more.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            JobState::Proved | JobState::Failed | JobState::Cancelled
        )
    }
}

/// Parameters of `prover_registerCircuitV1`. Registering again what is registered is no error and
/// answers with what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterCircuit {
    /// The blob that holds the proving key, uploaded before.
    pub zkey: Digest,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<CircuitName>,
    /// How much to check; everything by default.
    #[serde(default)]
    pub check: CheckLevel,
    /// A file on the box from which the key can be read again, below a folder that its operator
    /// lists for that. With one the key can be given back while the tenant is quiet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The blob that holds circom's witness program (`.wasm`), uploaded before. With one a job may
    /// bring inputs instead of a witness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_program: Option<Digest>,
    /// The blob that holds the circuit's constraints (`.r1cs`), uploaded before; only beside a witness program. Each
    /// witness that the program computes is held against them, and a constraint that does not hold is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r1cs: Option<Digest>,
}

/// Parameters of `prover_listCircuitsV1`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListCircuits {}

/// Parameters of `prover_unregisterCircuitV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnregisterCircuit {
    /// The digest of its proving key.
    pub circuit: Digest,
}

/// Parameters of `prover_estimateV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EstimateProof {
    /// The digest of its proving key.
    pub circuit: Digest,
}

/// Parameters of `prover_submitV1`.
///
/// Where a circuit has a witness program, inputs may stand wherever a witness may: a JSON object
/// instead of a `.wtns` file. As `inputs` they are read into `witness_data`, and are named by the digest
/// of the text that they become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "SubmitMembers")]
pub struct Submit {
    /// The digest of the circuit's proving key.
    pub circuit: Digest,
    /// The digest of the witness: of a blob, uploaded before, or of `witness_data`.
    pub witness: Digest,
    /// The witness itself, if it is short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_data: Option<WitnessData>,
    /// When the proof is needed, in milliseconds from receipt. A proof that comes after it is
    /// kept and marked late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Sending the same submission again with the same key answers with the same job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<IdempotencyKey>,
}

/// The members of a submission as they are sent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SubmitMembers {
    circuit: Digest,
    witness: Option<Digest>,
    witness_data: Option<WitnessData>,
    inputs: Option<serde_json::Map<String, Value>>,
    deadline_ms: Option<u64>,
    idempotency_key: Option<IdempotencyKey>,
}

impl TryFrom<SubmitMembers> for Submit {
    type Error = String;

    fn try_from(members: SubmitMembers) -> Result<Submit, String> {
        let (witness, witness_data) = match (members.witness, members.witness_data, members.inputs)
        {
            (Some(witness), data, None) => (witness, data),
            (None, None, Some(inputs)) => {
                let text = Value::Object(inputs).to_string().into_bytes();
                let digest = Digest(Sha256::digest(&text).into());
                let got = text.len();
                let data = WitnessData::new(text).ok_or_else(|| {
                    let max = WitnessData::BYTES_MAX;
                    format!("inputs: expected at most {max} bytes, got {got}; longer ones are uploaded as a blob, which `witness` names")
                })?;
                (digest, Some(data))
            }
            _ => {
                return Err(
                    "expected `witness`, or `inputs` and neither `witness` nor `witnessData`"
                        .to_owned(),
                );
            }
        };
        Ok(Submit {
            circuit: members.circuit,
            witness,
            witness_data,
            deadline_ms: members.deadline_ms,
            idempotency_key: members.idempotency_key,
        })
    }
}

/// Parameters of `prover_cancelV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobQuery {
    /// The job, as `prover_submitV1` named it.
    pub job: JobName,
}

/// Parameters of `prover_statusV1` and `prover_resultV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobWait {
    /// The job, as `prover_submitV1` named it.
    pub job: JobName,
    /// Answer when the job has ended, or after so many milliseconds; at once by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Parameters of `prover_profileV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileQuery {
    /// The job, as `prover_submitV1` named it.
    pub job: JobName,
    /// Where to go on: `next` of the answer before; at the beginning by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
}

/// Parameters of `pool_statusV1`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolQuery {}

/// Parameters of `pool_demandV1`. What is declared takes the place of what was declared before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeclareDemand {
    /// How many cores the tenant will want; 0 withdraws what it declared.
    pub units: u32,
    /// For how long, in milliseconds from receipt. Needed for all but 0 units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// Parameters of `pool_histogramsV1`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistogramsQuery {
    /// Only reallocations of this cause, as `pool_statusV1` names causes; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}
/// Parameters of `pool_storageV1`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageQuery {}

/// What a tenant may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// See its circuits, its jobs and their results, and the pool.
    Read,
    /// Upload, register, submit, cancel, declare, and remove again.
    Submit,
}

impl Scope {
    /// Its name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Submit => "submit",
        }
    }
}

/// How much a tenant may have; what is left out is bounded by its class and the box alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Quotas {
    /// Unfinished jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// Of those, jobs that are prepared or proved at once; the others wait in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running: Option<u32>,
    /// Requests that are under way: calls that wait, uploads, streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Bytes of all its blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_bytes: Option<u64>,
    /// Requests a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
}

/// Parameters of `tenant_addV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddTenant {
    /// Its name: 1 to 64 of `a-z`, `0-9`, `_` and `-`.
    pub tenant: String,
    /// Its scenario class.
    pub scenario: String,
    /// What it may do; both by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<Scope>>,
    /// How much it may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
}

/// Parameters of `tenant_rotateV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RotateTenant {
    /// Whose secret.
    pub tenant: String,
    /// For how long the old one is taken too; an hour by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_ms: Option<u64>,
}

/// Parameters of what is done to a tenant by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantQuery {
    /// Its name.
    pub tenant: String,
}

/// Parameters of `tenant_listV1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListTenants {}

/// A secret, told once: the box does not tell it again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(rename_all = "camelCase")]
pub struct TenantSecret {
    /// Whose.
    pub tenant: String,
    /// 64 hexadecimal digits.
    pub secret: String,
    /// Until when the one before is taken too, in Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until_ms: Option<u64>,
}

impl fmt::Debug for TenantSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "TenantSecret({}, ..)", self.tenant)
    }
}

/// Where a tenant stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TenantState {
    /// It stands in the configuration, which alone can change it.
    Configured,
    /// It was added.
    Active,
    /// It was added, and its tokens are refused.
    Suspended,
    /// It was removed; what it had is erased at the next start.
    Removed,
    /// The store has something of it, and nobody has named it since the start.
    Unconfigured,
}

/// One tenant, as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantInfo {
    /// Its name.
    pub tenant: String,
    /// Where it stands.
    pub state: TenantState,
    /// Its scenario class, if the box knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// What it may do.
    pub scopes: Vec<Scope>,
    /// How much it may have.
    pub quotas: Quotas,
    /// Until when its secret before is taken too, in Unix time in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_until_ms: Option<u64>,
}

/// A registered circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CircuitInfo {
    /// The digest of its proving key, which is its name everywhere.
    pub circuit: Digest,
    /// The name that its tenant gave it.
    pub name: Option<CircuitName>,
    /// The curve of its key.
    pub curve: CurveName,
    /// Points of the evaluation domain, a power of two.
    pub domain_size: u64,
    /// Public inputs, the constant one not counted.
    pub public_count: u64,
    /// Wires, the constant one counted: the length of a witness.
    pub wires: u64,
    /// Size of the key.
    pub bytes: u64,
    /// Where it stands.
    pub state: CircuitState,
    /// Whether its key is on the box. One that was given back is read again when a job for it comes.
    #[serde(default = "on_the_box")]
    pub resident: bool,
    /// Where the key can be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The blob of its witness program, if it has one: then jobs may bring inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_program: Option<Digest>,
    /// The blob of its constraints, if it has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r1cs: Option<Digest>,
    /// Why it failed, or why its key could not be read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
    /// Whether the key is a development key, with which proofs can be forged.
    pub development: bool,
    /// The verification key as snarkjs writes it; present when the circuit is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_key: Option<Value>,
}

/// Result of `prover_unregisterCircuitV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unregistered {
    /// Whether it had been registered.
    pub removed: bool,
}

/// Result of `prover_estimateV1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// How long one proof takes on the cores that the tenant would get.
    pub proof_ms: f64,
    /// When a proof that is submitted now would be ready at the earliest, from now.
    pub earliest_finish_ms: f64,
    /// Jobs of this tenant that wait.
    pub queue_length: u64,
    /// What one proof takes on one core, all its quanta together.
    pub core_ms: f64,
    /// Whether that is known from proofs; until there was one it is guessed from the size.
    pub measured: bool,
}

/// A job and where it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Its name.
    pub job: JobName,
    /// The circuit that it proves.
    pub circuit: Digest,
    /// Where it stands.
    pub state: JobState,
    /// The part of its work that is done, from 0 to 1.
    pub progress: f64,
    /// When it was received: Unix time in milliseconds.
    pub submitted_ms: u64,
    /// The deadline that was asked for, from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// When a core first worked on it, from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<f64>,
    /// When it ended, from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_ms: Option<f64>,
    /// Whether it ended after its deadline; absent until it has ended and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<bool>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// Why a circuit or a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobError {
    /// The code that the same error has as an answer.
    pub code: i32,
    /// The stable name that programs match on.
    pub reason: String,
    /// For people.
    pub message: String,
}

/// Result of `prover_resultV1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobResult {
    /// The job.
    pub job: JobName,
    /// The proof as snarkjs writes it.
    pub proof: Value,
    /// The public inputs as decimal strings, as snarkjs writes them.
    pub public_inputs: Vec<String>,
    /// Arguments for a Solidity verifier, as `snarkjs zkey export soliditycalldata` prints them.
    pub calldata: String,
    /// Where the time went.
    pub timings: Timings,
    /// Whether it came after its deadline.
    pub late: bool,
}

/// Where the time of a job went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// From receipt to the first touch.
    pub queued_ms: f64,
    /// Reading the witness and laying out the work.
    pub prepared_ms: f64,
    /// From the first quantum to the checked proof.
    pub proved_ms: f64,
    /// Computing the witness from inputs, all slices summed; part of `prepared_ms`. Absent where a witness was
    /// brought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_ms: Option<f64>,
    /// What each kernel cost.
    pub stages: Vec<StageTiming>,
    /// Which cores worked.
    pub cores: Vec<CoreShare>,
}

/// What one kernel of a proof cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTiming {
    /// The kernel.
    pub kernel: String,
    /// Quanta that it was cut into.
    pub quanta: u64,
    /// Their time on cores, summed; of quanta on a device, while the thread on the host that serves it ran.
    pub cpu_ms: f64,
    /// Their time on devices, summed, if any ran there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_ms: Option<f64>,
    /// The longest of them.
    pub max_quantum_us: f64,
}

/// What one core did for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreShare {
    /// The core, by the kernel's number.
    pub core: u32,
    /// Quanta that it ran.
    pub quanta: u64,
    /// Their time, summed.
    pub cpu_ms: f64,
}

/// Result of `prover_profileV1`: the quanta of a job, one by one, as far as they are still kept.
/// Times are counted from the job's receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobProfile {
    /// The job.
    pub status: JobStatus,
    /// When a thread began to lay it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparing_us: Option<f64>,
    /// When it was laid out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepared_us: Option<f64>,
    /// All workers of the box.
    pub units: Vec<ProfiledUnit>,
    /// What its quanta are of.
    pub stages: Vec<ProfiledStage>,
    /// How many quanta it has had.
    pub total: u64,
    /// How many of them are not kept any more.
    pub lost: u64,
    /// The others, or about a thousand of them from `from` on; those of one worker in order.
    pub quanta: Vec<ProfiledQuantum>,
    /// Where to go on, if there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Cores that came to its tenant, or left it, while it was there; only without `from`.
    pub reallocations: Vec<ProfiledReallocation>,
}

/// A worker of a profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledUnit {
    /// Its number in the pool.
    pub unit: u16,
    /// The core that it is pinned to; of a device, the first one of its thread on the host.
    pub core: u32,
    /// The device's name, if the unit is one and not a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What some quanta of a profile are of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledStage {
    /// The part of the proof: `msm-a`, `shift-c`. Its stages follow one another.
    pub part: String,
    /// What runs: `msm.accumulate`, `ntt.forward`.
    pub kernel: String,
    /// Elements that the part goes over: points, entries of a matrix, elements of a vector; 0 where
    /// there is nothing to count.
    pub size: u64,
    /// Bytes of the vectors, points and entries that the part reads or writes.
    pub bytes: u64,
    /// Of a sum: bytes of the tables of its points, 0 if it was laid out without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_bytes: Option<u64>,
}

/// One quantum of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledQuantum {
    /// The worker that ran it.
    pub unit: u16,
    /// Its place in `stages`.
    pub stage: u32,
    /// The lane of the stage.
    pub lane: u32,
    /// When it began.
    pub start_us: f64,
    /// How long it took.
    pub span_us: f64,
    /// How long its thread ran meanwhile; the rest went to other threads of that core.
    pub cpu_us: f64,
}

/// A core that came to a job's tenant, or left it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfiledReallocation {
    /// When the new owner's first instruction came.
    pub at_us: f64,
    /// The rest of it.
    pub reallocation: Reallocation,
}

/// Result of `pool_statusV1`. A tenant reads its own name, and `null` beside `foreign: true` in
/// the place of any other's; the operator reads all names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolStatus {
    /// One a worker.
    pub units: Vec<UnitStatus>,
    /// One a tenant.
    pub tenants: Vec<TenantStatus>,
    /// What computes: the processor, and then each unit that is a device, in their order.
    #[serde(default)]
    pub devices: Vec<DeviceStatus>,
    /// How cores changed hands.
    pub reallocations: Reallocations,
    /// How long quanta took.
    pub quanta: Quanta,
    /// How long the box has been up.
    #[serde(default)]
    pub up_ms: f64,
}

/// One unit of the pool: a pinned worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitStatus {
    /// Its number in the pool.
    pub unit: u16,
    /// The core that it is pinned to; of a device, the first one of its thread on the host.
    pub core: u32,
    /// The device's name, if the unit is one and not a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The kernel's number of its thread, to be found under `/proc/self/task`.
    pub thread_id: i64,
    /// Who holds it; `null` for nobody and for a tenant that the caller may not see.
    pub owner: Option<String>,
    /// Whether a tenant holds it that the caller may not see.
    #[serde(default)]
    pub foreign: bool,
    /// Counts the changes of its owner.
    pub epoch: u64,
    /// The job that it works on, if the caller may see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobName>,
    /// How long this owner has held it.
    pub since_ms: f64,
    /// Whether its worker had something to run at its last look, if the caller may see the owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<bool>,
    /// The scheduling policy of its thread.
    pub policy: String,
    /// The NUMA node that it lies on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u8>,
    /// Of a device: bytes of its memory that keys may have, where its driver says how much there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Of a device, for the operator: bytes of keys that are on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_bytes: Option<u64>,
    /// The same of the tables of those keys, in what the keys leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_bytes: Option<u64>,
}

/// What computes: the processor, or a device beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceStatus {
    /// `cpu`, or what drives a GPU.
    pub kind: String,
    /// The silicon's own name; of a device that was not there at the start, the one in the configuration.
    pub name: String,
    /// For the operator: its address on the PCI bus, as `lspci -D` shows it, where its driver says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<String>,
    /// For the operator: what its maker's tools call this one, such as `GPU-8a2c...`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Why it was given up, or is not there, if so; others do its work since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<String>,
    /// Pieces of work that the processor or another device did in its place.
    pub fallen_back: u64,
    /// Drivers and libraries that it runs on, for the operator.
    pub software: Vec<DeviceSoftware>,
}

/// A driver or a library that a device runs on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceSoftware {
    /// Its name, or where it lies.
    pub name: String,
    /// Its version, or its SHA-256 if it knows none.
    pub version: String,
}

/// One tenant of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStatus {
    /// Its name; `null` for a tenant that the caller may not see.
    pub tenant: Option<String>,
    /// Whether it is one that the caller may not see.
    #[serde(default)]
    pub foreign: bool,
    /// Its scenario class; `null` for a tenant that the caller may not see.
    pub scenario: Option<String>,
    /// Jobs that wait.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Cores that it holds.
    pub cores: u64,
    /// Cores that it has declared that it will want.
    #[serde(default)]
    pub declared: u64,
    /// Whether its measured demand is at a peak.
    #[serde(default)]
    pub peak: bool,
    /// More, if the caller may see the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<TenantDetail>,
}

/// What a tenant and the operator are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantDetail {
    /// Those of its waiting jobs whose witness is being read.
    pub preparing: u64,
    /// Cores that it wants now.
    pub wants: u64,
    /// Whether it lends what it does not keep busy, because others want more than there is.
    pub lends: bool,
    /// What its class is guaranteed, in percent of the box.
    pub guarantee_percent: f64,
    /// How long cores have worked for it since the start of the box.
    pub core_ms: f64,
    /// Bytes of its keys on devices.
    #[serde(default)]
    pub device_bytes: u64,
    /// Bytes of memory that its jobs under way hold: witnesses and vectors.
    #[serde(default)]
    pub job_bytes: u64,
    /// Of its first job with a deadline: what is left until then, less the time that it still needs on
    /// all the cores that the tenant may have. Below zero it will be late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slack_ms: Option<f64>,
}

/// How cores changed hands since the start of the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reallocations {
    /// How many.
    pub count: u64,
    /// How many took longer than their limit.
    pub missed: u64,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
    /// Those of them that went to a tenant that had nothing to run at the first look, as with
    /// demand that was only declared.
    #[serde(default)]
    pub empty: EmptyReallocations,
    /// The newest, last one last.
    pub recent: Vec<Reallocation>,
    /// The newest of those that took longer than their limit, last one last.
    #[serde(default)]
    pub misses: Vec<Reallocation>,
    /// By cause; for the operator, and empty for tenants.
    #[serde(default)]
    pub causes: Vec<CauseSpans>,
}

/// How long reallocations of one cause took since the start of the box.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CauseSpans {
    /// What changed hands: `core`.
    pub resource: String,
    /// What caused it.
    pub cause: String,
    /// How many.
    pub count: u64,
    /// How many took longer than their limit.
    pub missed: u64,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
    /// 999 in 1,000 took at most so long.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// Cores that changed hands, to somebody who had nothing to run at the first look.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EmptyReallocations {
    /// How many.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
}

/// One core that changed hands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reallocation {
    /// The unit.
    pub unit: u16,
    /// Who held it; `null` for nobody and for a tenant that the caller may not see.
    pub from: Option<String>,
    /// Who holds it now; `null` as in `from`.
    pub to: Option<String>,
    /// Whether one of the two is a tenant that the caller may not see.
    #[serde(default)]
    pub foreign: bool,
    /// What caused it.
    pub cause: String,
    /// Whether the new owner had nothing to run at the first look.
    #[serde(default)]
    pub empty: bool,
    /// From the demand to the arbiter's knowledge of it.
    pub detect_us: f64,
    /// From there to the decision.
    pub decide_us: f64,
    /// From there to the end of the quantum that was running.
    pub drain_us: f64,
    /// From there to the new owner's first instruction.
    pub first_us: f64,
    /// All of it.
    pub total_us: f64,
}

/// How long reallocations of one cause took since the start of the box, as a whole or in one part.
/// `pool_histogramsV1` has one for each of which there were any.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpanHistogram {
    /// What changed hands: `core`.
    pub resource: String,
    /// What caused it.
    pub cause: String,
    /// `total`, or the part of it: `detect`, `decide`, `drain`, `first`, as in [`Reallocation`].
    pub part: String,
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
    /// 999 in 1,000 took at most so long.
    pub p999_us: f64,
    /// The longest.
    pub max_us: f64,
    /// All of it, as the percentile text of HdrHistogram, in microseconds.
    pub hgrm: String,
}

/// Result of `pool_demandV1`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Demand {
    /// How many cores are declared now.
    pub units: u32,
    /// For how long, from receipt; 0 if none are.
    pub expires_ms: f64,
}

/// Result of `pool_storageV1`. A tenant reads of itself, the operator of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageStatus {
    /// What each holds.
    pub tenants: Vec<TenantStorage>,
    /// What was given back: the newest, last one last.
    pub releases: Vec<StorageRelease>,
}

/// What one tenant holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantStorage {
    /// Its name.
    pub tenant: String,
    /// Its scenario class.
    pub scenario: String,
    /// Tables of its keys, in memory.
    pub tables_bytes: u64,
    /// Keys of its circuits: files, mapped.
    pub keys_bytes: u64,
    /// Its other blobs.
    pub blobs_bytes: u64,
    /// Whether it is quiet and has given back.
    pub quiet: bool,
    /// When it will give back if nothing comes from it, from now; absent if it will not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<f64>,
}

/// What one tenant has given back at a time. Times are Unix time in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageRelease {
    /// Its number on this box.
    pub release: u64,
    /// Whose storage it was.
    pub tenant: String,
    /// Its scenario class.
    pub scenario: String,
    /// When the last of it was back.
    pub at_ms: u64,
    /// Since when demand had been low.
    pub quiet_since_ms: u64,
    /// What the tenant held before.
    pub held_bytes: u64,
    /// Tables that are back.
    pub tables_bytes: u64,
    /// Keys that are back.
    pub keys_bytes: u64,
    /// Other blobs that are back.
    pub blobs_bytes: u64,
    /// How much less that is than it should be.
    pub short_bytes: u64,
    /// Why it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_reason: Option<String>,
    /// When the tenant's demand returned; absent while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_again_ms: Option<u64>,
}

/// How long quanta took since the start of the box.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Quanta {
    /// How many.
    pub count: u64,
    /// Half of them took at most so long.
    pub p50_us: f64,
    /// 99 in 100 took at most so long.
    pub p99_us: f64,
    /// The longest.
    pub max_us: f64,
    /// How many took longer than they may.
    pub over_budget: u64,
}

impl CircuitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IdempotencyKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl WitnessData {
    /// The longest witness that a submission can bring.
    pub const BYTES_MAX: usize = 64 * 1024;

    /// The bytes of a witness; `None` if it is too long to be sent so.
    pub fn new(bytes: Vec<u8>) -> Option<WitnessData> {
        (bytes.len() <= WitnessData::BYTES_MAX).then_some(WitnessData(Zeroizing::new(bytes)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, for a holder who overwrites them in turn.
    pub fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for WitnessData {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WitnessData({} bytes)", self.0.len())
    }
}

impl TryFrom<String> for WitnessData {
    type Error = NameError;

    fn try_from(text: String) -> Result<WitnessData, NameError> {
        let text = Zeroizing::new(text);
        let refused = || NameError::Witness {
            max: WitnessData::BYTES_MAX,
            got: text.chars().count(),
        };
        if text.len() > WitnessData::BYTES_MAX.div_ceil(3) * 4 {
            return Err(refused());
        }
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| refused())?;
        WitnessData::new(bytes).ok_or_else(refused)
    }
}

impl From<WitnessData> for String {
    fn from(data: WitnessData) -> String {
        STANDARD.encode(&*data.0)
    }
}

impl FromStr for Digest {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Digest, NameError> {
        lower_hex::<32>(text).map(Digest).ok_or(NameError::Digest {
            got: text.chars().count(),
        })
    }
}

impl FromStr for JobName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<JobName, NameError> {
        text.strip_prefix("0x")
            .and_then(lower_hex::<8>)
            .map(|bytes| JobName(u64::from_be_bytes(bytes)))
            .ok_or(NameError::Job {
                got: text.chars().count(),
            })
    }
}

impl FromStr for CircuitName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<CircuitName, NameError> {
        let got = text.chars().count();
        if (1..=64).contains(&got) && !text.chars().any(char::is_control) {
            Ok(CircuitName(text.to_owned()))
        } else {
            Err(NameError::Circuit { got })
        }
    }
}

impl FromStr for IdempotencyKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<IdempotencyKey, NameError> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(IdempotencyKey(text.to_owned()))
        } else {
            Err(NameError::Idempotency {
                got: text.chars().count(),
            })
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        out.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#018x}", self.0)
    }
}

impl fmt::Display for CircuitName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Digest({self})")
    }
}

impl fmt::Debug for JobName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "JobName({self})")
    }
}

impl fmt::Display for CircuitState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            CircuitState::Checking => "checking",
            CircuitState::Ready => "ready",
            CircuitState::Failed => "failed",
        })
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            JobState::Queued => "queued",
            JobState::Preparing => "preparing",
            JobState::Running => "running",
            JobState::Proved => "proved",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        })
    }
}

impl fmt::Display for CurveName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            CurveName::Bn128 => "bn128",
            CurveName::Bls12381 => "bls12381",
        })
    }
}

macro_rules! strings {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<$name, NameError> {
                text.parse()
            }
        }

        /// Written where it goes: most answers hold some.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }
    )*};
}
strings!(Digest, JobName, CircuitName, IdempotencyKey);

/// What a box says that does not say: before keys could be given back all were there.
fn on_the_box() -> bool {
    true
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_base64_of_bounded_length_and_is_not_printed() {
        let read = |text: &str| serde_json::from_value::<WitnessData>(Value::from(text));
        let data = read("d3RucwIAAAA=").expect("base64");
        assert_eq!(data.bytes(), b"wtns\x02\0\0\0");
        assert_eq!(String::from(data.clone()), "d3RucwIAAAA=");
        assert_eq!(format!("{data:?}"), "WitnessData(8 bytes)");
        let longest = STANDARD.encode(vec![7; WitnessData::BYTES_MAX]);
        assert!(read(&longest).is_ok());
        let longer = STANDARD.encode(vec![7; WitnessData::BYTES_MAX + 1]);
        for bad in [longer.as_str(), "d3RucwIAAAA", "d3Ruc-I=", "d3Ru cw==", "é"] {
            let error = read(bad).expect_err("not the bytes of a witness");
            assert!(!error.to_string().contains("d3Ru"), "{error}");
        }
    }
}
