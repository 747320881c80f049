//! What is wrong with a file, as coarsely as its sender can act upon it.
//!
//! The errors of `format` and `groth16` say what was expected where and what was got. Whoever
//! answers a program needs less and needs it stable: one word for a key that was cut off in
//! transit, another for one whose point lies outside its subgroup. The command line makes exit
//! codes of these words and the service makes reasons of them, so both agree about every file;
//! neither number nor name is known here.
//!
//! Each match below is exhaustive, so a new error cannot be forgotten.

use caldera_kernels::DeviceError;
use caldera_kernels::curve::check::{Fault, PointsError};

use crate::format::FormatError;
use crate::groth16::solidity::SolidityError;
use crate::groth16::{CheckError, JobError, KeyError, PointFault, VerifyError};

/// One kind of fault of a key, a witness or another file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Defect {
    /// Not a file of the expected kind, version or protocol.
    Format,
    /// The file ends too early.
    Truncated,
    /// The file goes on after its end.
    Trailing,
    /// A section is missing.
    SectionMissing,
    /// A section occurs twice.
    SectionTwice,
    /// A section is longer or shorter than its content.
    SectionLength,
    /// Of another field or curve than is known, or than what it is used with.
    Field,
    /// A witness with another number of elements than the circuit has wires.
    WitnessLength,
    /// A number that is not below the modulus of its field.
    Range,
    /// A point that is not on its curve.
    OffCurve,
    /// A point on its curve and outside the subgroup of prime order.
    OutsideSubgroup,
    /// A key that no ceremony has contributed to: anybody can forge proofs for it.
    NoContribution,
    /// A development key: whoever made it can forge proofs.
    Development,
    /// Anything else that the format does not allow.
    Content,
}

impl FormatError {
    /// What is wrong with the file.
    pub fn defect(&self) -> Defect {
        match self {
            FormatError::Magic { .. }
            | FormatError::Version { .. }
            | FormatError::Protocol { .. }
            | FormatError::CustomGates { .. }
            | FormatError::Json { .. } => Defect::Format,
            FormatError::FileShort { .. } | FormatError::SectionBeyondEnd { .. } => {
                Defect::Truncated
            }
            FormatError::TrailingBytes { .. } => Defect::Trailing,
            FormatError::SectionMissing { .. } => Defect::SectionMissing,
            FormatError::SectionTwice { .. } => Defect::SectionTwice,
            FormatError::SectionShort { .. } | FormatError::SectionLength { .. } => {
                Defect::SectionLength
            }
            FormatError::FieldSize { .. }
            | FormatError::Prime { .. }
            | FormatError::CurveName { .. }
            | FormatError::Curve { .. } => Defect::Field,
            FormatError::CoefficientValue { .. }
            | FormatError::WitnessElement { .. }
            | FormatError::ConstraintValue { .. }
            | FormatError::Modulus { .. } => Defect::Range,
            FormatError::SectionCount { .. }
            | FormatError::Count { .. }
            | FormatError::Domain { .. }
            | FormatError::Coefficient { .. }
            | FormatError::Contribution { .. }
            | FormatError::DevelopmentMark { .. }
            | FormatError::WitnessOne { .. }
            | FormatError::ConstraintWire { .. }
            | FormatError::JsonSize { .. }
            | FormatError::JsonKeyTwice { .. }
            | FormatError::JsonKeyMissing { .. }
            | FormatError::JsonKind { .. }
            | FormatError::JsonLength { .. }
            | FormatError::Decimal { .. }
            | FormatError::Point { .. } => Defect::Content,
        }
    }
}

impl CheckError {
    /// What is wrong with the key; `None` where the fault is not the key's.
    pub fn defect(&self) -> Option<Defect> {
        Some(match self {
            CheckError::Development => Defect::Development,
            CheckError::NoContribution => Defect::NoContribution,
            CheckError::Point { fault, .. }
            | CheckError::HeaderPoint {
                error: PointsError::Point { fault, .. },
                ..
            } => match fault {
                Fault::NotReduced => Defect::Range,
                Fault::OffCurve => Defect::OffCurve,
                Fault::OutsideSubgroup => Defect::OutsideSubgroup,
            },
            CheckError::HeaderPoint { .. }
            | CheckError::HeaderInfinity { .. }
            | CheckError::Gamma => Defect::Content,
            CheckError::Coefficient(error) => error.defect(),
            CheckError::Entropy(_) | CheckError::Threads => return None,
        })
    }
}

impl KeyError {
    /// What is wrong with the key; `None` where the fault is not the key's.
    pub fn defect(&self) -> Option<Defect> {
        match self {
            KeyError::VerificationKey(error) => Some(error.defect()),
            KeyError::Device(DeviceError::Entry { .. }) => Some(Defect::Content),
            KeyError::Device(_) => None,
        }
    }
}

impl JobError {
    /// What is wrong with the witness; `None` where the fault is not the witness's.
    pub fn defect(&self) -> Option<Defect> {
        Some(match self {
            JobError::Curve { .. } => Defect::Field,
            JobError::Length { .. } => Defect::WitnessLength,
            JobError::Witness(error) => error.defect(),
            JobError::Verifier(_) | JobError::Device(_) => return None,
        })
    }
}

impl VerifyError {
    /// What is wrong with the key, the inputs or the proof.
    pub fn defect(&self) -> Defect {
        match self {
            VerifyError::Point { fault, .. } => match fault {
                PointFault::Range => Defect::Range,
                PointFault::Curve => Defect::OffCurve,
                PointFault::Subgroup => Defect::OutsideSubgroup,
                PointFault::Infinity => Defect::Content,
            },
            VerifyError::Curve { .. } => Defect::Field,
            VerifyError::Inputs { .. } | VerifyError::Refused => Defect::Content,
        }
    }
}

impl SolidityError {
    /// What is wrong with the key or the proofs.
    pub fn defect(&self) -> Defect {
        match self {
            SolidityError::Curve { .. } => Defect::Field,
            SolidityError::Key(error) => error.defect(),
            SolidityError::NoInputs
            | SolidityError::TooManyInputs { .. }
            | SolidityError::Unbound { .. }
            | SolidityError::EmptyBatch
            | SolidityError::BatchInputs { .. } => Defect::Content,
        }
    }
}
