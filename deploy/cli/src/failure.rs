//! Classes of failure: the one place where a typed error from below becomes an exit code.
//!
//! Scripts branch on exit codes, so each class that a caller could act upon has its own, and a
//! code keeps its meaning for ever. 2, 65 to 78 are those of `sysexits.h` where it has a fitting
//! one; 80 to 95 say what is wrong with a key, a witness or a proof. Shells use 126 and above.

use std::fmt::Write;

use caldera_client::ClientError;
use caldera_devices::{NameError, OpenError};
use caldera_prover::Defect;
use caldera_prover::format::FormatError;
use caldera_prover::groth16::solidity::SolidityError;
use caldera_prover::groth16::{CheckError, KeyError, ProveError, SetupError, VerifyError};
use caldera_prover::units::UnitError;
use caldera_rpc::chain::chain;
use caldera_rpc::error::{InputsFault, KeyFault, WitnessFault};
use caldera_store::backup::BackupError;
use caldera_units::{SchemaError, TermsError};
use caldera_witness::{ProgramError, WitnessError};
use serde_json::{Value, json};

use crate::receipt::ReceiptError;
use crate::state::Malformed;

/// Declares the classes once: variant, exit code, name, meaning.
macro_rules! classes {
    ($($variant:ident = $code:literal $name:literal $meaning:literal,)*) => {
        /// What kind of failure it was.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Class {
            $(#[doc = $meaning] $variant,)*
        }

        impl Class {
            const ALL: &[Class] = &[$(Class::$variant),*];

            /// The exit code.
            pub(crate) const fn code(self) -> u8 {
                match self { $(Class::$variant => $code),* }
            }

            /// The name on standard error and in JSON.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Class::$variant => $name),* }
            }

            const fn meaning(self) -> &'static str {
                match self { $(Class::$variant => $meaning),* }
            }
        }
    };
}

classes! {
    Data = 65 "data" "an input holds something that its format does not allow",
    Unavailable = 69 "unavailable" "no calderad answers there, or a device or a program is not there",
    Internal = 70 "internal" "a fault of Caldera or of the machine: please report it",
    Files = 74 "files" "a file cannot be read or written",
    TryLater = 75 "try-later" "calderad has no room now; its answer says when to try again",
    Protocol = 76 "protocol" "calderad answered with something that the protocol does not have",
    Unauthorized = 77 "unauthorized" "calderad does not know the tenant or its secret",
    Configuration = 78 "configuration" "a secret file, an address or the name of a device cannot be used",
    Refused = 79 "refused" "calderad refused or failed the job for another reason, which is in the message",
    Format = 80 "format" "not a file of the expected kind or version",
    Truncated = 81 "truncated" "a file ends too early",
    Trailing = 82 "trailing" "a file goes on after its end",
    SectionMissing = 83 "section-missing" "a section is missing",
    SectionTwice = 84 "section-twice" "a section occurs twice",
    SectionLength = 85 "section-length" "a section is longer or shorter than its content",
    Field = 86 "field" "a file is of another field or curve than what it is used with",
    WitnessLength = 87 "witness-length" "the witness has another number of elements than the circuit has wires",
    Range = 88 "range" "a number is not below the modulus of its field",
    OffCurve = 89 "off-curve" "a point is not on its curve",
    OutsideSubgroup = 90 "outside-subgroup" "a point is on its curve and outside the prime-order subgroup",
    NoContribution = 91 "no-contribution" "the key has had no contribution: anybody can forge proofs for it",
    DevelopmentKey = 92 "development-key" "a development key: whoever made it can forge proofs",
    SelfCheck = 93 "self-check" "the proof failed its own check: the witness does not satisfy the circuit",
    Inputs = 94 "inputs" "inputs are not JSON as circom's tools take it, or not the signals of the circuit",
    Assertion = 95 "assertion" "an assertion in the circuit failed: the message names template and line",
}

/// A configuration that cannot be used: what, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Misconfigured(pub(crate) String);

/// A program that is shipped beside this one and is not there.
#[derive(Debug, thiserror::Error)]
#[error("{} is not there: it is shipped beside this program", path.display())]
pub(crate) struct NotBeside {
    pub(crate) path: std::path::PathBuf,
}

/// The class of a failure, by the first error in its chain that has one.
pub(crate) fn classify(error: &anyhow::Error) -> Class {
    error
        .chain()
        .find_map(|cause| {
            if let Some(error) = cause.downcast_ref::<FormatError>() {
                Some(of_defect(error.defect()))
            } else if let Some(error) = cause.downcast_ref::<ProveError>() {
                Some(of_prove(error))
            } else if let Some(error) = cause.downcast_ref::<CheckError>() {
                Some(error.defect().map_or(Class::Internal, of_defect))
            } else if let Some(error) = cause.downcast_ref::<KeyError>() {
                Some(error.defect().map_or(Class::Internal, of_defect))
            } else if let Some(error) = cause.downcast_ref::<VerifyError>() {
                Some(of_defect(error.defect()))
            } else if let Some(error) = cause.downcast_ref::<SolidityError>() {
                Some(of_defect(error.defect()))
            } else if let Some(error) = cause.downcast_ref::<SetupError>() {
                of_setup(error)
            } else if let Some(error) = cause.downcast_ref::<ClientError>() {
                Some(of_client(error))
            } else if let Some(error) = cause.downcast_ref::<BackupError>() {
                Some(of_backup(error))
            } else if let Some(error) = cause.downcast_ref::<WitnessError>() {
                Some(of_witness(error))
            } else if cause.is::<Malformed>()
                || cause.is::<ProgramError>()
                || cause.is::<UnitError>()
                || cause.is::<TermsError>()
                || cause.is::<SchemaError>()
                || cause.is::<ReceiptError>()
            {
                Some(Class::Data)
            } else if cause.is::<NotBeside>() {
                Some(Class::Unavailable)
            } else if cause.is::<Misconfigured>() || cause.is::<NameError>() {
                Some(Class::Configuration)
            } else if cause.is::<OpenError>() {
                Some(Class::Unavailable)
            } else if cause.is::<std::io::Error>() {
                Some(Class::Files)
            } else {
                None
            }
        })
        .unwrap_or(Class::Internal)
}

fn of_backup(error: &BackupError) -> Class {
    match error {
        BackupError::Io { .. } | BackupError::Occupied { .. } | BackupError::Missing { .. } => {
            Class::Files
        }
        _ => Class::Data,
    }
}

/// What would help, where the message says only what is wrong.
pub(crate) fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(CheckError::Development | CheckError::NoContribution) = cause.downcast_ref() {
            return Some("for tests, --development takes such keys");
        }
        let client: &ClientError = cause.downcast_ref()?;
        let taken = matches!(client.reason()?, "developmentKey" | "keyNoContribution");
        taken.then_some("for tests, a calderad that is started with --development takes such keys")
    })
}

/// A failure as JSON.
pub(crate) fn document(error: &anyhow::Error) -> Value {
    let class = classify(error);
    let mut document = json!({
        "error": {
            "class": class.name(),
            "exitCode": class.code(),
            "message": chain(error.as_ref()).to_string(),
        }
    });
    if let Some(remedy) = remedy(error) {
        document["error"]["remedy"] = remedy.into();
    }
    let client = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<ClientError>());
    if let Some(client) = client {
        document["error"]["reason"] = client.reason().into();
        document["error"]["field"] = client.field().into();
        document["error"]["retryAfterMs"] = client.retry_after_ms().into();
        document["error"]["earliestMs"] = client.earliest_ms().into();
    }
    document
}

/// The list for `caldera --help`.
pub(crate) fn help() -> String {
    let mut text = "Exit codes:\n   0  done; verify: the proof is valid\n   1  verify: the proof is not valid\n   2  the command line cannot be understood\n".to_owned();
    for class in Class::ALL {
        let (code, name, meaning) = (class.code(), class.name(), class.meaning());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {code}  {name}: {meaning}");
    }
    text
}

fn of_defect(defect: Defect) -> Class {
    match defect {
        Defect::Format => Class::Format,
        Defect::Truncated => Class::Truncated,
        Defect::Trailing => Class::Trailing,
        Defect::SectionMissing => Class::SectionMissing,
        Defect::SectionTwice => Class::SectionTwice,
        Defect::SectionLength => Class::SectionLength,
        Defect::Field => Class::Field,
        Defect::WitnessLength => Class::WitnessLength,
        Defect::Range => Class::Range,
        Defect::OffCurve => Class::OffCurve,
        Defect::OutsideSubgroup => Class::OutsideSubgroup,
        Defect::NoContribution => Class::NoContribution,
        Defect::Development => Class::DevelopmentKey,
        Defect::Content => Class::Data,
    }
}

fn of_prove(error: &ProveError) -> Class {
    match error {
        ProveError::Job(error) => error.defect().map_or(Class::Internal, of_defect),
        ProveError::SelfCheck(_) => Class::SelfCheck,
        _ => Class::Internal,
    }
}

fn of_witness(error: &WitnessError) -> Class {
    match error {
        WitnessError::Length { .. }
        | WitnessError::Count { .. }
        | WitnessError::Json { .. }
        | WitnessError::Depth { .. }
        | WitnessError::Number { .. }
        | WitnessError::Shape { .. }
        | WitnessError::Twice { .. }
        | WitnessError::Unknown { .. }
        | WitnessError::Values { .. }
        | WitnessError::Missing { .. } => Class::Inputs,
        WitnessError::Circuit { .. } => Class::Assertion,
        WitnessError::Trap { .. } | WitnessError::Outside { .. } | WitnessError::Range { .. } => {
            Class::Data
        }
        WitnessError::Time { .. } => Class::Refused,
    }
}

/// None where the cause lies deeper: a full disk is not the circuit's fault.
fn of_setup(error: &SetupError) -> Option<Class> {
    match error {
        SetupError::Empty
        | SetupError::TooLarge { .. }
        | SetupError::Coefficients { .. }
        | SetupError::Wires { .. }
        | SetupError::TooSmall { .. }
        | SetupError::Constraints { .. }
        | SetupError::Dense { .. } => Some(Class::Data),
        SetupError::Threads => Some(Class::Internal),
        SetupError::Write(_) => None,
    }
}

fn of_client(error: &ClientError) -> Class {
    match error {
        ClientError::Configuration(_) => Class::Configuration,
        ClientError::File { .. } => Class::Files,
        ClientError::Unreachable { .. } => Class::Unavailable,
        ClientError::Unauthorized { .. } => Class::Unauthorized,
        ClientError::Refused { .. } if error.retry_after_ms().is_some() => Class::TryLater,
        ClientError::Refused { .. } | ClientError::Failed { .. } => {
            error.reason().map_or(Class::Refused, of_reason)
        }
        ClientError::Status {
            status: 429 | 503 | 507,
            ..
        } => Class::TryLater,
        ClientError::Status {
            status: 413 | 422, ..
        } => Class::Refused,
        ClientError::Status { .. } | ClientError::Answer { .. } => Class::Protocol,
    }
}

/// A key or witness that calderad refused has the code that it has on the command line.
fn of_reason(reason: &str) -> Class {
    if let Some(fault) = KeyFault::from_reason(reason) {
        return match fault {
            KeyFault::Format => Class::Format,
            KeyFault::Truncated => Class::Truncated,
            KeyFault::Trailing => Class::Trailing,
            KeyFault::SectionMissing => Class::SectionMissing,
            KeyFault::SectionTwice => Class::SectionTwice,
            KeyFault::SectionLength => Class::SectionLength,
            KeyFault::Field => Class::Field,
            KeyFault::Range => Class::Range,
            KeyFault::OffCurve => Class::OffCurve,
            KeyFault::OutsideSubgroup => Class::OutsideSubgroup,
            KeyFault::NoContribution => Class::NoContribution,
            KeyFault::Content => Class::Data,
        };
    }
    if let Some(fault) = WitnessFault::from_reason(reason) {
        return match fault {
            WitnessFault::Format => Class::Format,
            WitnessFault::Truncated => Class::Truncated,
            WitnessFault::Trailing => Class::Trailing,
            WitnessFault::SectionMissing => Class::SectionMissing,
            WitnessFault::SectionTwice => Class::SectionTwice,
            WitnessFault::SectionLength => Class::SectionLength,
            WitnessFault::Field => Class::Field,
            WitnessFault::Length => Class::WitnessLength,
            WitnessFault::Range => Class::Range,
            WitnessFault::Content => Class::Data,
        };
    }
    if let Some(fault) = InputsFault::from_reason(reason) {
        return match fault {
            InputsFault::Format | InputsFault::Signals => Class::Inputs,
            InputsFault::Assertion => Class::Assertion,
            InputsFault::Constraint => Class::SelfCheck,
            InputsFault::Program => Class::Data,
            InputsFault::Time => Class::Refused,
        };
    }
    match reason {
        "witnessProgram" | "r1cs" => Class::Data,
        "selfCheckFailed" => Class::SelfCheck,
        "developmentKey" => Class::DevelopmentKey,
        _ => Class::Refused,
    }
}
