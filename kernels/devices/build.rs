//! Tells the program which build of what computes it is: what was measured by another counts for nothing.
//!
//! A digest of the sources that computing depends on, of the versions of all crates, of the compiler and of what it compiled for. The version alone would not do, for between two releases kernels change with every commit; nor would the time of
//! the build, for the same sources measure the same.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let kernels = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    let sources = SOURCES.map(|name| kernels.join(name));
    let sources: Vec<PathBuf> = sources.into_iter().filter(|path| path.exists()).collect();
    for path in &sources {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let compiler = Command::new(variable("RUSTC")).arg("--version").output();
    let compiler = compiler.map(|output| output.stdout).unwrap_or_default();
    let how = ["PROFILE", "OPT_LEVEL", "TARGET", "CARGO_CFG_TARGET_FEATURE"];
    let how = format!("{compiler:?} {:?}", how.map(variable));
    let digest = fingerprint(&sources, &how).expect("the sources are there");
    println!("cargo::rustc-env=CALDERA_KERNELS_BUILD={digest:016x}");
}

/// Of files, those in folders with their names from there on, and of how they are compiled. It tells builds apart, and
/// withstands nobody.
pub(crate) fn fingerprint(sources: &[PathBuf], how: &str) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    how.hash(&mut hasher);
    for source in sources {
        let mut files = Vec::new();
        list(source, &mut files)?;
        files.sort();
        files.len().hash(&mut hasher);
        for file in files {
            file.strip_prefix(source).unwrap_or(&file).hash(&mut hasher);
            fs::read(&file)?.hash(&mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    fs::read_dir(path)?.try_for_each(|entry| list(&entry?.path(), files))
}

/// From the folder of all kernels on. A crate that is packed by itself has its own only.
const SOURCES: [&str; 10] = [
    "src",
    "cuda/src",
    "cuda/cuda",
    "wgpu/src",
    "wgpu/wgsl",
    "icicle/src",
    "devices/src",
    "Cargo.toml",
    "../Cargo.toml",
    "../Cargo.lock",
];
