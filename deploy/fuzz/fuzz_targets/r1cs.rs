#![no_main]
#[path = "../../../prover/fuzz/bodies/r1cs.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
