//! What a box tells its own fleet process, and takes from it: jobs that another box is to prove.
//!
//! A job is lent, with a number that a later lending exceeds, its fence; what comes of it names both. How the two processes agree is in
//! `docs/fleet.md`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{CurveName, Digest, JobName};
use crate::era::{Amount, EraId, NodeName, Signature};

/// So many jobs are lent in one answer.
pub const TAKE_MAX: u32 = 256;

/// Parameters of `fleet_takeV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetTake {
    /// How many jobs are wanted at most, up to [`TAKE_MAX`]; 0 to hear of withdrawals alone.
    pub max: u32,
    /// Of the answer before: withdrawals after it are told.
    pub cursor: u64,
    /// Wait for so many milliseconds if there is nothing to tell; at once by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
}

/// Result of `fleet_takeV1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetTaken {
    /// Jobs that are lent from now on.
    pub jobs: Vec<LentJob>,
    /// What is lent no more, for a reason that the fleet did not give.
    pub withdrawn: Vec<LentName>,
    /// For the next call.
    pub cursor: u64,
}

/// Parameters of `fleet_heldV1`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetHeldQuery {}

/// Result of `fleet_heldV1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetHeld {
    /// All that are lent.
    pub jobs: Vec<LentJob>,
    /// For `fleet_takeV1`: what is withdrawn from now on is after it.
    pub cursor: u64,
}

/// A job that another box is to prove.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LentJob {
    /// Its name.
    pub job: JobName,
    /// What its result is to name.
    pub fence: u64,
    /// The scenario of its tenant, who is not named.
    pub tenant_class: String,
    /// What is to be proved.
    pub circuit: LentCircuit,
    /// With what.
    pub witness: LentWitness,
    /// What a proof takes on one core of this box, if that was ever measured.
    pub work_ms: Option<f64>,
    /// What is left until its deadline, from the answer; 0 if that has passed.
    pub due_ms: Option<u64>,
    /// What may be paid for a second of a core, as the box's operator has said.
    pub price_max: u64,
}

/// The proving key of a job that is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LentCircuit {
    /// The digest of the key.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
    /// Its curve.
    pub curve: CurveName,
}

/// The witness of a job that is lent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LentWitness {
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    pub bytes: u64,
}

/// One lending of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LentName {
    /// Which job.
    pub job: JobName,
    /// Under which fence.
    pub fence: u64,
}

/// Parameters of `fleet_returnV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetReturn {
    /// Which job.
    pub job: JobName,
    /// Under which fence.
    pub fence: u64,
}

/// Parameters of `fleet_resultV1`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetResult {
    /// Which job.
    pub job: JobName,
    /// Under which fence.
    pub fence: u64,
    /// The proof as snarkjs writes it. Its public inputs are those of the job's witness.
    pub proof: Value,
    /// By what the ledger is to pay who has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metered: Option<Metered>,
}

/// Parameters of `fleet_billV1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetBillQuery {
    /// Which job.
    pub job: JobName,
    /// Under which fence.
    pub fence: u64,
    /// Who is to prove it.
    pub lender: NodeName,
}

/// Result of `fleet_billV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetBill {
    /// What the lender is to sign; nothing if the job costs nothing, or the lender is no node of the ledger.
    pub bill: Option<Bill>,
}

/// What a proof earns the node that makes it, in the ledger of the box whose job it is: with the digest of the proof and the time this
/// is a metering event (docs/ledger.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bill {
    /// Which party the lender is there.
    pub node: u32,
    /// The number of the event: that of the record which set aside what is held for the job.
    pub sequence: u64,
    /// What is held for the job.
    pub hold: EraId,
    /// The class of its scenario.
    pub class: u8,
    /// The developer who earns by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub developer: Option<u32>,
    /// What it costs.
    pub fee: Amount,
}

/// Parameters of `fleet_meterV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetMeter {
    /// A job that this box has proved for another.
    pub job: JobName,
    /// What it earns there.
    pub bill: Bill,
}

/// Result of `fleet_meterV1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetMetered {
    /// The event's signature; nothing if this box has no node key.
    pub metered: Option<Metered>,
}

/// What a metering event has beside a [`Bill`] and the digest of the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metered {
    /// Whose it is: its party in the ledger that pays.
    pub node: u32,
    /// When it was signed, in seconds of Unix time.
    pub observed: u64,
    /// The signature by that node's key.
    pub signature: Signature,
}

/// Result of `fleet_resultV1` and `fleet_returnV1`: it is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetDone {
    /// Which job.
    pub job: JobName,
}
