//! A witness from inputs: circom's witness program, run where it can do no harm.
//!
//! `circom --wasm` compiles a circuit into a program that computes the value of every wire from
//! the inputs. The program comes from a stranger and is code, so it is run by an interpreter
//! (wasmi), without any import but the four of circom's runtime, within bounds for everything that it can
//! ask for ([`Limits`]), and in slices: [`Calculation::step`] burns so much fuel and comes back,
//! with the program stopped between two instructions. Who calls may do something else meanwhile, go on
//! later on another thread, or never. There is no clock here, no thread and no socket: how long is too long
//! is the caller's to say, in slices.
//!
//! ```text
//! Program::load(bytes, limits)   once for a circuit: translates and asks for its prime and sizes
//! Inputs::parse(text, limits)    JSON, as circom's tools take it
//! Calculation::begin(..)         an instance of its own, with a memory of its own
//! calculation.step(fuel)         until it is `Done` with the bytes of a `.wtns` file
//! ```
//!
//! What crosses the border is what snarkjs's calculator and the one that circom generates
//! beside a program use: `setInputSignal` by the FNV-1a hash of a signal's name, `getWitness` wire by wire,
//! and one number at a time in a shared piece of the program's memory. Programs of circom 1, which work
//! otherwise, and those before `getInputSignalSize` are refused by name.
//!
//! Inputs and witness are secret. The memory of the program is overwritten when a calculation is
//! dropped, and so are the inputs; what a circuit logs is thrown away; no error carries a value.
//! The interpreter's own stack, where numbers stand for a while, is not overwritten.

mod calculation;
mod error;
mod inputs;
mod number;
mod program;

pub use self::calculation::{Calculation, Progress};
pub use self::error::{CircuitFault, ProgramError, WitnessError};
pub use self::inputs::Inputs;
pub use self::program::Program;

/// What a stranger's program and inputs may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the program's file.
    pub program_bytes: usize,
    /// Bytes of memory that a running program may have.
    pub memory_bytes: usize,
    /// Bytes of the elements of a witness.
    pub witness_bytes: usize,
    /// Bytes of the text of the inputs.
    pub inputs_bytes: usize,
    /// Values of all input signals.
    pub inputs: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            program_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            witness_bytes: 256 << 20,
            inputs_bytes: 16 << 20,
            inputs: 1 << 20,
        }
    }
}

/// Fuel for a slice of at most about two milliseconds. An instruction costs one and takes half a
/// nanosecond to three in the programs that circom makes (see `docs/dependencies.md`), and up to
/// ten where each waits for memory: 200,000 of those are two milliseconds.
pub const SLICE_FUEL: u64 = 200_000;
