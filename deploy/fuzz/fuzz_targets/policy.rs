#![no_main]
#[path = "../../../scheduler/fuzz/bodies/policy.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
