//! Tells the compiler that `cfg(loom)` is ours and not a misspelling.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rerun-if-changed=build.rs");
}
