#![no_main]
#[path = "../../node/fuzz/bodies/config.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
