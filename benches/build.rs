//! Hands the compiler's version and flags to the program, which writes them beside every figure:
//! a figure without the build that made it cannot be compared with another.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let compiler = Command::new(variable("RUSTC"))
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown compiler".to_owned());
    // Cargo separates the flags with the unit separator, which no flag contains.
    let flags = variable("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    println!(
        "cargo::rustc-env=CALDERA_BENCH_BUILD={}, {}, opt-level {}, flags [{flags}]",
        compiler.trim(),
        variable("PROFILE"),
        variable("OPT_LEVEL"),
    );
}
