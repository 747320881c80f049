#![no_main]
#[path = "../../witness/fuzz/bodies/witness.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
