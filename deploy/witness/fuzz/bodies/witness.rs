//! No program and no inputs panic, take more memory than they may, or keep a slice from coming
//! back; and a witness that comes out is one.
//!
//! A case is the inputs, a byte of 0, and the module.

use caldera_witness::{Calculation, Inputs, Limits, Program, Progress};

pub(crate) fn run(data: &[u8]) {
    let limits = Limits {
        program_bytes: 1 << 16,
        memory_bytes: 1 << 20,
        witness_bytes: 1 << 16,
        inputs_bytes: 1 << 12,
        inputs: 1 << 10,
    };
    let end = data.iter().position(|byte| *byte == 0);
    let (text, module) = data.split_at(end.unwrap_or(data.len()));
    let inputs = Inputs::parse(text.to_vec(), &limits);
    let program = Program::load(module.get(1..).unwrap_or_default(), &limits);
    let (Ok(inputs), Ok(program)) = (inputs, program) else {
        return;
    };
    let Ok(mut calculation) = Calculation::begin(&program, inputs) else {
        return;
    };
    for _ in 0..SLICES {
        match calculation.step(FUEL) {
            Ok(Progress::More) => {}
            Ok(Progress::Done(file)) => {
                let element = program.prime().len();
                let head = 12 + 12 + (4 + element + 4) + 12;
                assert_eq!(file.len(), head + element * program.wires() as usize);
                return;
            }
            Err(_) => return,
        }
    }
}

const SLICES: usize = 16;
const FUEL: u64 = 10_000;
