//! The child process of the tests: what `calderad --device-child` is on a box.

use std::process::ExitCode;

fn main() -> ExitCode {
    caldera_icicle::serve()
}
