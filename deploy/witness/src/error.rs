//! What can be wrong with a witness program, and with inputs.
//!
//! Names of signals and circom's own messages are shown, short and printable; values never are.

use thiserror::Error;

/// Why a file is not a witness program that is run here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramError {
    /// A file that is too long.
    #[error("the witness program: expected at most {expected_max} bytes, got {got}")]
    Length {
        /// The most.
        expected_max: usize,
        /// What it has.
        got: usize,
    },
    /// Not WebAssembly, or with more of something than is allowed.
    #[error("the witness program: {why}")]
    Module {
        /// What the reader met.
        why: String,
    },
    /// Code that would run before it is called.
    #[error("the witness program has a start function; circom makes none")]
    Start,
    /// An import that circom's runtime does not have.
    #[error(
        "the witness program imports {got}; circom's runtime has exceptionHandler, printErrorMessage, writeBufferMessage and showSharedRWMemory"
    )]
    Import {
        /// Module and name.
        got: String,
    },
    /// A function that is not exported, or with other parameters.
    #[error("the witness program: expected it to export {expected}")]
    Export {
        /// Name and parameters.
        expected: &'static str,
    },
    /// A program of another generation.
    #[error("the witness program: expected one of circom 2, got circom {got}")]
    Version {
        /// What it says that it is.
        got: i32,
    },
    /// A number about itself that cannot be true.
    #[error("the witness program: expected {what} of {expected}, got {got}")]
    Size {
        /// Which number.
        what: &'static str,
        /// What it can be.
        expected: String,
        /// What it said.
        got: i64,
    },
    /// It did not say what it is within its fuel, or trapped when it was asked.
    #[error("the witness program does not say what it is: {why}")]
    Silent {
        /// How it ended.
        why: &'static str,
    },
}

/// Why there is no witness.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WitnessError {
    /// A text that is too long.
    #[error("inputs: expected at most {expected_max} bytes, got {got}")]
    Length {
        /// The most.
        expected_max: usize,
        /// What it has.
        got: usize,
    },
    /// More values than are taken, by the commas in the text: told before any of them is read.
    #[error("inputs: expected at most {expected_max} values, got {got}")]
    Count {
        /// The most.
        expected_max: usize,
        /// So many there can be.
        got: usize,
    },
    /// Not a JSON object of signals.
    #[error("inputs: expected {expected} at byte {at}, got {got}")]
    Json {
        /// What should have been there.
        expected: &'static str,
        /// Where.
        at: usize,
        /// What was there.
        got: String,
    },
    /// Arrays inside each other.
    #[error("inputs: signal {signal}: expected at most {expected_max} dimensions, got more")]
    Depth {
        /// The signal.
        signal: String,
        /// The most.
        expected_max: usize,
    },
    /// Something in the place of a number.
    #[error("inputs: signal {signal}: expected a whole number at byte {at}, got {got}")]
    Number {
        /// The signal.
        signal: String,
        /// Where.
        at: usize,
        /// What was there: its kind, not its value.
        got: &'static str,
    },
    /// Rows of different lengths.
    #[error("inputs: signal {signal}: expected {expected} at byte {at}, as beside it, got {got}")]
    Shape {
        /// The signal.
        signal: String,
        /// Where the array ends that differs.
        at: usize,
        /// The shape of the first.
        expected: String,
        /// Its shape.
        got: String,
    },
    /// A signal that is given twice.
    #[error("inputs: signal {signal} is given twice")]
    Twice {
        /// The signal.
        signal: String,
    },
    /// A signal that the circuit does not have.
    #[error("inputs: the circuit has no input signal {signal}")]
    Unknown {
        /// The signal.
        signal: String,
    },
    /// More or fewer values than the signal has.
    #[error("inputs: signal {signal}: expected {expected} values, got {got}")]
    Values {
        /// The signal.
        signal: String,
        /// So many it has.
        expected: u64,
        /// So many were given.
        got: u64,
    },
    /// Signals are missing. The program knows them by hash only, so they cannot be named.
    #[error("inputs: expected {expected} values in all, got {got}, in {signals}")]
    Missing {
        /// So many the circuit has.
        expected: u64,
        /// So many were given.
        got: u64,
        /// The signals that were given.
        signals: String,
    },
    /// The circuit's own assertion, or another error of circom's runtime.
    #[error("the circuit: {kind}{}{message}", if .message.is_empty() { "" } else { ": " })]
    Circuit {
        /// Which of circom's errors.
        kind: CircuitFault,
        /// circom's message: template and line.
        message: String,
    },
    /// The program broke a rule of its machine.
    #[error("the witness program failed: {why}")]
    Trap {
        /// Which rule.
        why: &'static str,
    },
    /// The program says one thing now and said another before.
    #[error("the witness program failed: {what} lies outside of its memory")]
    Outside {
        /// What it named.
        what: &'static str,
    },
    /// An element of the witness that is not below the prime.
    #[error("the witness program failed: wire {wire} is not below the prime")]
    Range {
        /// Which.
        wire: u32,
    },
    /// There was more to compute than the caller allows.
    #[error("the witness program was stopped after {seconds} s of computing")]
    Time {
        /// The limit.
        seconds: u64,
    },
}

/// The errors of circom's runtime, by the number that a program gives to `exceptionHandler`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum CircuitFault {
    /// 1.
    #[error("signal not found")]
    SignalNotFound,
    /// 2.
    #[error("too many signals set")]
    TooManySignals,
    /// 3.
    #[error("signal already set")]
    SignalAlreadySet,
    /// 4.
    #[error("assert failed")]
    Assert,
    /// 5.
    #[error("not enough memory")]
    Memory,
    /// 6.
    #[error("input signal array access exceeds the size")]
    ArrayAccess,
    /// Any other.
    #[error("error {0} of circom's runtime")]
    Other(i32),
}

impl From<i32> for CircuitFault {
    fn from(code: i32) -> CircuitFault {
        match code {
            1 => CircuitFault::SignalNotFound,
            2 => CircuitFault::TooManySignals,
            3 => CircuitFault::SignalAlreadySet,
            4 => CircuitFault::Assert,
            5 => CircuitFault::Memory,
            6 => CircuitFault::ArrayAccess,
            other => CircuitFault::Other(other),
        }
    }
}
