#![no_main]
#[path = "../../../prover/fuzz/bodies/zkey.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
