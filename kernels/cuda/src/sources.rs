//! The kernels' sources, and the units that are compiled of them: a source for a curve and, where it
//! is about points, a group.

use sha2::{Digest as _, Sha256};

/// What every source may include.
pub const HEADERS: &[(&str, &str)] = &[
    ("machine.cuh", include_str!("../cuda/machine.cuh")),
    ("gpu.cuh", include_str!("../cuda/gpu.cuh")),
    ("field.cuh", include_str!("../cuda/field.cuh")),
    ("curve.cuh", include_str!("../cuda/curve.cuh")),
];

const SOURCES: &[(&str, &str)] = &[
    ("sort", include_str!("../cuda/sort.cu")),
    ("elementwise", include_str!("../cuda/elementwise.cu")),
    ("spmv", include_str!("../cuda/spmv.cu")),
    ("ntt", include_str!("../cuda/ntt.cu")),
    ("digits", include_str!("../cuda/digits.cu")),
    ("msm", include_str!("../cuda/msm.cu")),
    ("tables", include_str!("../cuda/tables.cu")),
];

/// One compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name, as [`crate::Driver::kernel`] takes it.
    pub name: String,
    /// The text.
    pub text: &'static str,
    /// Names that it is compiled with.
    pub defines: Vec<&'static str>,
    /// Whether its kernels must do with the registers that there are.
    pub spills_forbidden: bool,
}

/// All units.
pub fn units() -> Vec<Unit> {
    let mut units = Vec::new();
    for &(source, text) in SOURCES {
        let mut unit = |name: String, defines: &[&'static str], spills_forbidden| {
            units.push(Unit {
                name,
                text,
                defines: defines.to_vec(),
                spills_forbidden,
            });
        };
        if source == "sort" {
            unit(source.to_owned(), &[], true);
            continue;
        }
        for (curve, of_curve) in [("bn254", "BN254"), ("bls12_381", "BLS12_381")] {
            if !["msm", "tables"].contains(&source) {
                unit(
                    format!("{source}_{curve}"),
                    &[of_curve],
                    of_curve == "BN254",
                );
                continue;
            }
            for (group, of_group) in [("g1", "G1"), ("g2", "G2")] {
                // Products in place in BN254's G1, which fit the instruction cache; calls elsewhere.
                let small = of_curve == "BN254" && of_group == "G1";
                let mut defines = vec![of_curve, of_group];
                if !(small && source == "msm") {
                    defines.push("OUTLINED");
                }
                unit(format!("{source}_{curve}_{group}"), &defines, small);
            }
        }
    }
    units
}

/// What is compiled only to count its instructions, and is not in the bundle.
pub fn counted() -> Vec<Unit> {
    [
        ("counted_bn254", "BN254"),
        ("counted_bls12_381", "BLS12_381"),
    ]
    .map(|(name, curve)| Unit {
        name: name.to_owned(),
        text: include_str!("../cuda/counted.cu"),
        defines: vec![curve],
        spills_forbidden: false,
    })
    .into()
}

/// What tells kernels of these sources from others.
pub fn digest() -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    for (name, text) in HEADERS {
        add(name);
        add(text);
    }
    for unit in units() {
        add(&unit.name);
        add(unit.text);
        unit.defines.iter().for_each(|define| add(define));
    }
    hash.finalize().into()
}
