//! The file formats of circom and snarkjs, read strictly and written exactly.
//!
//! Everything here takes bytes that somebody else made and either says what they are or says
//! why not. Three rules hold in every file of this folder:
//!
//! - *Nothing is believed.* A length, a count or an index is compared with what is there before
//!   it is used, in 64-bit arithmetic that cannot wrap. No allocation is proportional to a number
//!   that a file merely claims, and no input makes a reader panic.
//! - *Nothing is copied.* A key can be larger than memory is patient with, so the readers keep
//!   slices ([`bytes::Bytes`]) of the file as it lies, mapped or not, at any alignment.
//! - *Nothing is guessed.* snarkjs, rapidsnark and ark-circom each leave some checks out; where
//!   they differ, the stricter reading is taken, and each refusal has its own error.
//!
//! Points are not decoded here: whether they are on the curve is the business of
//! `groth16::check`. What is read and written, with each check and its error, is listed in
//! `docs/formats.md`.
//!
//! The layouts come from the sources of iden3's snarkjs, binfileutils and r1csfile: the code,
//! not the comments, which differ from it in the order of the key's header points.

pub mod json;
mod prime;
mod r1cs;
mod section;
mod wtns;
mod zkey;

use std::fmt;

use caldera_kernels::CurveId;

pub use prime::{base_modulus, scalar_modulus};
pub use r1cs::{Constraint, LinearCombination, R1cs, R1csBuilder, Satisfaction, Unsatisfied};
pub use section::{Section, sections};
pub use wtns::Wtns;
pub use zkey::{
    Contribution, ContributionKind, Contributions, DEVELOPMENT_SECTION, Part, Zkey, ZkeyHeader,
    ZkeyWriteError, ZkeyWriter,
};

/// A kind of file that is read here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum File {
    /// A proving key: magic "zkey".
    Zkey,
    /// A witness: magic "wtns".
    Wtns,
    /// A constraint system: magic "r1cs".
    R1cs,
    /// `verification_key.json`.
    VerificationKey,
    /// `proof.json`.
    Proof,
    /// `public.json`.
    Public,
}

impl File {
    /// Which of the three binary kinds a file says that it is, by its first four bytes.
    pub fn of_magic(bytes: &[u8]) -> Option<File> {
        [File::Zkey, File::Wtns, File::R1cs]
            .into_iter()
            .find(|file| file.magic().is_some_and(|magic| bytes.starts_with(&magic)))
    }

    /// The first four bytes of a binary kind; JSON has none.
    pub(crate) const fn magic(self) -> Option<[u8; 4]> {
        match self {
            File::Zkey => Some(*b"zkey"),
            File::Wtns => Some(*b"wtns"),
            File::R1cs => Some(*b"r1cs"),
            File::VerificationKey | File::Proof | File::Public => None,
        }
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            File::Zkey => "zkey",
            File::Wtns => "wtns",
            File::R1cs => "r1cs",
            File::VerificationKey => "verification key",
            File::Proof => "proof",
            File::Public => "public inputs",
        })
    }
}

/// Why a file was refused: which file, where in it, what was expected and what was got.
///
/// Offsets count bytes from the start of the file. No variant carries a value of a witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The first bytes are not those of the format.
    #[error(
        "{file}: expected the file to begin with {:?}, got {}",
        ascii(expected),
        ascii(got)
    )]
    Magic {
        /// The format that was asked for.
        file: File,
        /// Its magic.
        expected: [u8; 4],
        /// What the file begins with; short when the file is.
        got: Vec<u8>,
    },
    /// A version newer than those that are known.
    #[error("{file}: expected a version of at most {expected_max}, got {got}")]
    Version {
        /// The format.
        file: File,
        /// The newest version that snarkjs reads.
        expected_max: u32,
        /// The version in the file.
        got: u32,
    },
    /// The file ends inside its own table of sections.
    #[error("{file}: the file ends at {offset} within {what}: needs {expected} bytes, has {got}")]
    FileShort {
        /// The format.
        file: File,
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How many bytes it has.
        expected: u64,
        /// How many are left.
        got: u64,
    },
    /// More sections than any known file has.
    #[error("{file}: expected at most {expected_max} sections, got {got}")]
    SectionCount {
        /// The format.
        file: File,
        /// The limit.
        expected_max: u32,
        /// The count in the file.
        got: u32,
    },
    /// A section claims to reach beyond the end of the file.
    #[error("{file}: section {section} at {offset} claims {got} bytes, {expected_max} are left")]
    SectionBeyondEnd {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// Where its content begins.
        offset: u64,
        /// How many bytes are left there.
        expected_max: u64,
        /// How many it claims.
        got: u64,
    },
    /// Bytes after the last section.
    #[error("{file}: the last section ends at {offset}, but {got} more bytes follow")]
    TrailingBytes {
        /// The format.
        file: File,
        /// Where the last section ends.
        offset: u64,
        /// How many bytes follow.
        got: u64,
    },
    /// A section that must be there is not.
    #[error("{file}: section {section} ({name}) is missing")]
    SectionMissing {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// What it holds.
        name: &'static str,
    },
    /// A section type that occurs twice, so that readers could differ about which one counts.
    #[error("{file}: section {section} occurs twice, at {first} and at {second}")]
    SectionTwice {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// Where the first content begins.
        first: u64,
        /// Where the second content begins.
        second: u64,
    },
    /// A section ends within one of its own fields.
    #[error(
        "{file}: section {section} ends within {what} at {offset}: needs {expected} bytes, has {got}"
    )]
    SectionShort {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// What was being read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How many bytes it has.
        expected: u64,
        /// How many are left in the section.
        got: u64,
    },
    /// A section whose length is not what the header calls for.
    #[error("{file}: section {section} at {offset}: expected {expected} bytes, got {got}")]
    SectionLength {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// Where its content begins.
        offset: u64,
        /// How long it must be.
        expected: u64,
        /// How long it is.
        got: u64,
    },
    /// A proof system other than Groth16.
    #[error("{file}: expected protocol groth16, got {got}")]
    Protocol {
        /// The format.
        file: File,
        /// The protocol's name, or its number where it has none that is known.
        got: String,
    },
    /// A field's size in bytes that no known curve has.
    #[error(
        "{file}: section {section} at {offset}: expected a field {field} of {expected} bytes, got {got}"
    )]
    FieldSize {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// Where the size stands.
        offset: u64,
        /// "q" is the base field, "r" the scalar field.
        field: char,
        /// The sizes that are known.
        expected: &'static str,
        /// The size in the file.
        got: u32,
    },
    /// A prime that is not that of a known curve, or not the curve's whose other prime it is with.
    #[error("{file}: section {section} at {offset}: expected {field} of {expected}, got 0x{got}")]
    Prime {
        /// The format.
        file: File,
        /// The section's type.
        section: u32,
        /// Where the prime stands.
        offset: u64,
        /// "q" is the base field, "r" the scalar field.
        field: char,
        /// Whose prime it should be.
        expected: &'static str,
        /// The prime in hexadecimal digits.
        got: String,
    },
    /// Counts of a header that contradict each other.
    #[error("{file}: {what}: expected at least {expected_min}, got {got}")]
    Count {
        /// The format.
        file: File,
        /// Which count.
        what: &'static str,
        /// The least that the other counts allow.
        expected_min: u64,
        /// The count in the file.
        got: u64,
    },
    /// A domain that no transform has, or that is too small for the circuit.
    #[error(
        "zkey: expected a domain of a power of two from {expected_min} to {expected_max}, got {got}"
    )]
    Domain {
        /// The smallest that the public inputs allow.
        expected_min: u64,
        /// The largest of the scalar field.
        expected_max: u64,
        /// The domain in the file.
        got: u32,
    },
    /// A coefficient outside the matrices.
    #[error("zkey: coefficient {index} at {offset}: expected a {what} below {expected}, got {got}")]
    Coefficient {
        /// Which coefficient.
        index: u64,
        /// Where it begins.
        offset: u64,
        /// "matrix", "constraint" or "signal".
        what: &'static str,
        /// The exclusive bound.
        expected: u32,
        /// The value found.
        got: u32,
    },
    /// A coefficient that is not below the scalar field's modulus.
    #[error("zkey: coefficient {index} at {offset} is not below r")]
    CoefficientValue {
        /// Which coefficient.
        index: u64,
        /// Where its value begins.
        offset: u64,
    },
    /// A contribution to the key's ceremony that cannot be read.
    #[error("zkey: contribution {index} at {offset}: {fault}")]
    Contribution {
        /// Which contribution, from 0.
        index: u32,
        /// Where the fault is.
        offset: u64,
        /// What is wrong with it.
        fault: ContributionFault,
    },
    /// A development mark that is not a short text.
    #[error("zkey: the development mark is not a text of at most {expected_max} bytes")]
    DevelopmentMark {
        /// The limit.
        expected_max: usize,
    },
    /// Element 0 of a witness is not the constant one.
    #[error("wtns: element 0 at {offset} is not 1")]
    WitnessOne {
        /// Where it begins.
        offset: u64,
    },
    /// An element of a witness that is not below the scalar field's modulus.
    #[error("wtns: element {index} at {offset} is not below r")]
    WitnessElement {
        /// Which element.
        index: u64,
        /// Where it begins.
        offset: u64,
    },
    /// A term of a constraint on a wire that does not exist.
    #[error(
        "r1cs: constraint {constraint} at {offset}: expected a wire below {expected}, got {got}"
    )]
    ConstraintWire {
        /// Which constraint.
        constraint: u32,
        /// Where the term begins.
        offset: u64,
        /// How many wires there are.
        expected: u32,
        /// The wire found.
        got: u32,
    },
    /// A term of a constraint whose coefficient is not below the scalar field's modulus.
    #[error("r1cs: constraint {constraint}: the coefficient at {offset} is not below r")]
    ConstraintValue {
        /// Which constraint.
        constraint: u32,
        /// Where the coefficient begins.
        offset: u64,
    },
    /// Custom gates, which Groth16 cannot prove.
    #[error("r1cs: section {section} at {offset} holds custom gates, which Groth16 does not have")]
    CustomGates {
        /// The section's type.
        section: u32,
        /// Where its content begins.
        offset: u64,
    },
    /// A text longer than any honest one.
    #[error("{file}: expected at most {expected_max} bytes, got {got}")]
    JsonSize {
        /// The format.
        file: File,
        /// The limit.
        expected_max: usize,
        /// The text's length.
        got: usize,
    },
    /// A text that is not JSON.
    #[error("{file}: not JSON: {why}")]
    Json {
        /// The format.
        file: File,
        /// What the parser said, with line and column.
        why: String,
    },
    /// A key that occurs twice in one object, so that readers could differ about which one counts.
    #[error("{file}: {path} occurs twice")]
    JsonKeyTwice {
        /// The format.
        file: File,
        /// The key, with the way to it.
        path: String,
    },
    /// A key that must be there is not.
    #[error("{file}: {path} is missing")]
    JsonKeyMissing {
        /// The format.
        file: File,
        /// The key, with the way to it.
        path: String,
    },
    /// A value of another kind.
    #[error("{file}: {path}: expected {expected}, got {got}")]
    JsonKind {
        /// The format.
        file: File,
        /// The way to the value.
        path: String,
        /// The kind that belongs there.
        expected: &'static str,
        /// The kind that is there.
        got: &'static str,
    },
    /// An array of another length.
    #[error("{file}: {path}: expected {expected} elements, got {got}")]
    JsonLength {
        /// The format.
        file: File,
        /// The way to the array.
        path: String,
        /// How many belong there.
        expected: u64,
        /// How many are there.
        got: u64,
    },
    /// A string that is not a plain decimal number: digits only, no leading zero.
    #[error("{file}: {path}: expected a decimal number, got {got:?}")]
    Decimal {
        /// The format.
        file: File,
        /// The way to the string.
        path: String,
        /// How the string begins.
        got: String,
    },
    /// A number that is not below the modulus of its field.
    #[error("{file}: {path}: the number is not below {field}")]
    Modulus {
        /// The format.
        file: File,
        /// The way to the number.
        path: String,
        /// "q" is the base field, "r" the scalar field.
        field: char,
    },
    /// A point that is neither affine (third coordinate 1) nor infinity as snarkjs writes it.
    #[error("{file}: {path}: expected an affine point (third coordinate 1) or infinity (0, 1, 0)")]
    Point {
        /// The format.
        file: File,
        /// The way to the point.
        path: String,
    },
    /// A curve's name that is not known.
    #[error("{file}: expected a curve of bn128 and bls12381, got {got:?}")]
    CurveName {
        /// The format.
        file: File,
        /// The name in the file.
        got: String,
    },
    /// A file of another curve than what it is used with.
    #[error("{file}: expected curve {expected:?}, got {got:?}")]
    Curve {
        /// The format.
        file: File,
        /// The curve of what it is used with.
        expected: CurveId,
        /// The curve in the file.
        got: CurveId,
    },
}

/// What can be wrong with a contribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ContributionFault {
    /// Neither a contribution (0) nor a beacon (1).
    #[error("expected a type of 0 or 1, got {got}")]
    Kind {
        /// The type found.
        got: u32,
    },
    /// A parameter that is not known.
    #[error("expected a parameter of 1 to 3, got {got}")]
    Parameter {
        /// The parameter found.
        got: u8,
    },
    /// Parameters that are not in rising order, or that repeat.
    #[error("parameter {got} follows parameter {last}")]
    ParameterOrder {
        /// The parameter before.
        last: u8,
        /// The parameter found.
        got: u8,
    },
    /// A parameter that reaches beyond the length of them all.
    #[error("a parameter of {expected} bytes where {got} are left")]
    ParameterShort {
        /// How many bytes it has.
        expected: u64,
        /// How many are left.
        got: u64,
    },
}

/// Bytes as ASCII where they are, for error messages.
fn ascii(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}
