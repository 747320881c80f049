//! From what the prover found wrong with a file to what its sender is told.
//!
//! The prover knows no wire names and the wire knows no prover; here is the one place where they
//! meet. The detail that goes along names offsets and indices and no value of a witness.

use std::error::Error;

use caldera_prover::Defect;
use caldera_rpc::chain::chain;
use caldera_rpc::error::{KeyFault, RpcError, WitnessFault};

/// The error for a key with a defect.
pub fn key(defect: Defect, error: &dyn Error) -> RpcError {
    let fault = match defect {
        Defect::Format => KeyFault::Format,
        Defect::Truncated => KeyFault::Truncated,
        Defect::Trailing => KeyFault::Trailing,
        Defect::SectionMissing => KeyFault::SectionMissing,
        Defect::SectionTwice => KeyFault::SectionTwice,
        Defect::SectionLength => KeyFault::SectionLength,
        Defect::Field => KeyFault::Field,
        Defect::Range => KeyFault::Range,
        Defect::OffCurve => KeyFault::OffCurve,
        Defect::OutsideSubgroup => KeyFault::OutsideSubgroup,
        Defect::NoContribution => KeyFault::NoContribution,
        Defect::Development => return RpcError::DevelopmentKey,
        // A key has no witness whose length could be wrong.
        Defect::WitnessLength | Defect::Content => KeyFault::Content,
    };
    RpcError::KeyRefused {
        fault,
        detail: chain(error).to_string(),
    }
}

/// The error for a witness with a defect.
pub fn witness(defect: Defect, error: &dyn Error) -> RpcError {
    let fault = match defect {
        Defect::Format => WitnessFault::Format,
        Defect::Truncated => WitnessFault::Truncated,
        Defect::Trailing => WitnessFault::Trailing,
        Defect::SectionMissing => WitnessFault::SectionMissing,
        Defect::SectionTwice => WitnessFault::SectionTwice,
        Defect::SectionLength => WitnessFault::SectionLength,
        Defect::Field => WitnessFault::Field,
        Defect::WitnessLength => WitnessFault::Length,
        Defect::Range => WitnessFault::Range,
        // A witness has neither points nor a ceremony.
        Defect::OffCurve
        | Defect::OutsideSubgroup
        | Defect::NoContribution
        | Defect::Development
        | Defect::Content => WitnessFault::Content,
    };
    RpcError::WitnessRefused {
        fault,
        detail: chain(error).to_string(),
    }
}
