//! Compiles the kernels for the processor that runs the tests, and lists them.
//!
//! A unit is a source, a curve and, for points, a group, as on the GPU; here the unit's name is part
//! of the names of its kernels, because all of them are linked into one program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("Cargo names the folder"));
    let out = PathBuf::from(env::var("OUT_DIR").expect("Cargo names the output"));
    let kernels = here.join("../cuda");
    println!("cargo::rerun-if-changed={}", kernels.display());
    for name in ["host.h", "host.cpp", "check.cu"] {
        println!("cargo::rerun-if-changed={}", here.join(name).display());
    }

    let mut build = cc::Build::new();
    build
        .cpp(true)
        .std("c++17")
        .opt_level(2)
        // With it the compiler takes many times as long.
        .debug(false)
        .include(&here)
        .include(&kernels)
        .warnings(true)
        .flag_if_supported("-Wno-unknown-pragmas")
        .flag_if_supported("-Wno-unused-function")
        .flag_if_supported("-Wno-unused-parameter")
        // A definition that is a constant and has C's linkage is meant.
        .flag_if_supported("-Wno-extern-initializer")
        .file(here.join("host.cpp"));
    let mut declarations = String::new();
    let mut table = String::from("static TABLE: &[(&str, &str, Entry, &[u32; 2])] = &[\n");
    for unit in units() {
        let path = if unit.source == "check" {
            here.join("check.cu")
        } else {
            kernels.join(unit.source).with_extension("cu")
        };
        let wrapper = out.join(format!("{}.cpp", unit.name));
        let mut text = String::new();
        for define in &unit.defines {
            let _ = writeln!(text, "#define {define}");
        }
        let _ = writeln!(text, "#define UNIT {}", unit.name);
        let _ = writeln!(text, "#include {:?}", path.display().to_string());
        write_if_changed(&wrapper, &text);
        build.file(wrapper);
        let source = fs::read_to_string(&path).expect("the kernel's source");
        for kernel in kernels_of(&source, &unit.defines) {
            let symbol = format!("{kernel}_{}", unit.name);
            let _ = writeln!(
                declarations,
                "    fn {symbol}(words: *const u64, blocks: u32);\n    \
                 static {symbol}_shape: [u32; 2];"
            );
            let _ = writeln!(
                table,
                "    // SAFETY: a constant of the C++ source.\n    \
                 ({:?}, {kernel:?}, {symbol}, unsafe {{ &{symbol}_shape }}),",
                unit.name
            );
        }
    }
    build.compile("caldera_cuda_emulation");
    let table = format!("unsafe extern \"C\" {{\n{declarations}}}\n{table}];\n");
    write_if_changed(&out.join("table.rs"), &table);
}

struct Unit {
    source: &'static str,
    name: String,
    defines: Vec<&'static str>,
}

fn units() -> Vec<Unit> {
    let mut units = vec![Unit {
        source: "sort",
        name: "sort".into(),
        defines: Vec::new(),
    }];
    for (curve, define) in [("bn254", "BN254"), ("bls12_381", "BLS12_381")] {
        for source in ["elementwise", "spmv", "ntt", "digits", "check"] {
            units.push(Unit {
                source,
                name: format!("{source}_{curve}"),
                defines: vec![define],
            });
        }
        units.push(Unit {
            source: "check",
            name: format!("check_{curve}_base"),
            defines: vec![define, "BASE"],
        });
        for (group, of) in [("g1", "G1"), ("g2", "G2")] {
            for source in ["msm", "tables"] {
                units.push(Unit {
                    source,
                    name: format!("{source}_{curve}_{group}"),
                    // Products as calls: the compiler would take minutes over them otherwise.
                    defines: vec![define, of, "OUTLINED"],
                });
            }
        }
    }
    units
}

/// The names of the kernels in a source; what stands behind `#ifdef BASE` is only in units that
/// define it.
fn kernels_of(source: &str, defines: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    let mut only_base = false;
    let mut lines = source.lines().peekable();
    while let Some(line) = lines.next() {
        match line {
            "#ifdef BASE" => {
                only_base = lines.peek().is_some_and(|next| next.starts_with("KERNEL"))
            }
            "#endif" => only_base = false,
            _ => {}
        }
        let Some(rest) = ["KERNEL(", "KERNEL_SHARED("]
            .iter()
            .find_map(|opening| line.strip_prefix(opening))
        else {
            continue;
        };
        let name = rest.split(',').next().expect("a split has a first part");
        if !only_base || defines.contains(&"BASE") {
            names.push(name.to_owned());
        }
    }
    names
}

fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    fs::write(path, text).expect("a file in the output folder");
}
