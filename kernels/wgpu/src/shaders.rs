//! The kernels: which part of which shader each is, and what it binds.
//!
//! A shader's text is put together from the arithmetic of a field (`generate.rs`), declarations of
//! the bindings with their loads and stores, and sections of the files in `wgsl/`. A section
//! begins with a line `// # name`.

use caldera_kernels::{CurveId, Group};

use crate::generate::{self, Variant};

/// What a kernel computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Over {
    /// Words only.
    Words,
    /// Elements of the scalar field.
    Scalars(CurveId),
    /// Elements of the base field.
    Base(CurveId),
    /// Points.
    Points(CurveId, Group),
}

#[derive(Clone, Copy)]
enum Kind {
    /// Elements, four words at a time.
    Elements,
    Words,
    Pairs,
    Atomics,
}

use Kind::{Atomics, Elements, Pairs, Words};

/// A kernel. Its name is that of its section, after its file's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kernel {
    Multiply,
    Chain,
    NttPowers,
    NttExtend,
    NttPass,
    NttSplit,
    NttScale,
    NttReverse,
    SpmvProduct,
    SpmvSum,
    MsmDigits,
    MsmScanBlocks,
    MsmScanStarts,
    MsmScanPlaces,
    MsmScatter,
    MsmAccumulate,
    MsmCombine,
    MsmCollect,
    MsmReduce,
}

impl Kernel {
    fn sections(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Kernel::Multiply => &[(ELEMENTWISE, "multiply")],
            Kernel::Chain => &[(ELEMENTWISE, "chain")],
            Kernel::NttPowers => &[(NTT, "powers")],
            Kernel::NttExtend => &[(NTT, "extend")],
            Kernel::NttPass => &[(NTT, "pass")],
            Kernel::NttSplit => &[(NTT, "split")],
            Kernel::NttScale => &[(NTT, "scale")],
            Kernel::NttReverse => &[(NTT, "reverse")],
            Kernel::SpmvProduct => &[(SPMV, "product")],
            Kernel::SpmvSum => &[(SPMV, "sum")],
            Kernel::MsmDigits => &[(MSM, "digits")],
            Kernel::MsmScanBlocks => &[(MSM, "scan"), (MSM, "scan_blocks")],
            Kernel::MsmScanStarts => &[(MSM, "scan_starts")],
            Kernel::MsmScanPlaces => &[(MSM, "scan"), (MSM, "scan_places")],
            Kernel::MsmScatter => &[(MSM, "scatter")],
            Kernel::MsmAccumulate => &[(MSM, "search"), (MSM, "accumulate")],
            Kernel::MsmCombine => &[(MSM, "search"), (MSM, "combine")],
            Kernel::MsmCollect => &[(MSM, "collect")],
            Kernel::MsmReduce => &[(MSM, "reduce")],
        }
    }

    fn declarations(self) -> &'static [(&'static str, Kind)] {
        match self {
            Kernel::Multiply => &[("x", Elements), ("y", Elements), ("z", Elements)],
            Kernel::Chain => &[("x", Elements), ("z", Elements)],
            Kernel::NttPowers => &[("table", Elements), ("constants", Elements)],
            Kernel::NttExtend => &[("x", Elements), ("y", Elements), ("constants", Elements)],
            Kernel::NttPass => &[("x", Elements), ("table", Elements)],
            Kernel::NttSplit => &[("x", Elements), ("y", Elements), ("table", Elements)],
            Kernel::NttScale => &[
                ("x", Elements),
                ("table", Elements),
                ("constants", Elements),
            ],
            Kernel::NttReverse => &[("x", Elements), ("y", Elements)],
            Kernel::SpmvProduct => &[
                ("runs", Words),
                ("columns", Words),
                ("values", Elements),
                ("witness", Elements),
                ("rows", Elements),
                ("parts", Elements),
            ],
            Kernel::SpmvSum => &[("runs", Words), ("rows", Elements), ("parts", Elements)],
            Kernel::MsmDigits => &[
                ("scalars", Elements),
                ("digits", Words),
                ("counts", Atomics),
            ],
            Kernel::MsmScanBlocks => &[("counts", Words), ("blocks", Pairs)],
            Kernel::MsmScanStarts => &[("blocks", Pairs)],
            Kernel::MsmScanPlaces => &[("counts", Words), ("blocks", Pairs), ("places", Pairs)],
            Kernel::MsmScatter => &[
                ("digits", Words),
                ("places", Pairs),
                ("counts", Atomics),
                ("sorted", Words),
            ],
            Kernel::MsmAccumulate => &[
                ("program", Words),
                ("places", Pairs),
                ("sorted", Words),
                ("bases", Elements),
                ("parts", Elements),
            ],
            Kernel::MsmCombine => &[("program", Words), ("places", Pairs), ("parts", Elements)],
            Kernel::MsmCollect => &[
                ("program", Words),
                ("places", Pairs),
                ("parts", Elements),
                ("buckets", Elements),
            ],
            Kernel::MsmReduce => &[
                ("program", Words),
                ("buckets", Elements),
                ("levels", Elements),
            ],
        }
    }

    /// The name of what is its own of its shader.
    pub(crate) fn section(self) -> &'static str {
        self.sections().last().map_or("", |&(_, name)| name)
    }

    /// How many buffers it binds beside its job.
    pub(crate) fn bindings(self) -> usize {
        self.declarations().len()
    }

    /// The whole shader.
    pub(crate) fn text(self, over: Over, variant: Variant) -> String {
        let quads = match over {
            Over::Base(CurveId::Bls12_381) | Over::Points(CurveId::Bls12_381, _) => 3,
            _ => 2,
        };
        let mut text = match over {
            Over::Words => String::new(),
            Over::Scalars(curve) => generate::scalar_field(curve, variant),
            Over::Base(curve) => generate::base_field(curve, variant),
            Over::Points(curve, group) => {
                let mut text = generate::points(curve, group, variant);
                text += include_str!("../wgsl/curve.wgsl");
                text
            }
        };
        text += include_str!("../wgsl/field.wgsl");
        text += "@group(0) @binding(0) var<uniform> job: Job;\n";
        for (i, &(name, kind)) in self.declarations().iter().enumerate() {
            let element = match kind {
                Elements => "vec4<u32>",
                Words => "u32",
                Pairs => "vec2<u32>",
                Atomics => "atomic<u32>",
            };
            text += &format!(
                "@group(0) @binding({}) var<storage, read_write> {name}: array<{element}>;\n",
                i + 1
            );
            if matches!(kind, Elements) {
                let parts: Vec<String> = (0..quads)
                    .map(|q| format!("{name}[{quads}u * i + {q}u]"))
                    .collect();
                text += &format!(
                    "fn load_{name}(i: u32) -> F {{ return element({}); }}\n",
                    parts.join(", ")
                );
                text += &format!("fn store_{name}(i: u32, a: F) {{");
                for (q, part) in parts.iter().enumerate() {
                    text += &format!(" {part} = quad{q}(a);");
                }
                text += " }\n";
            }
        }
        for &(file, name) in self.sections() {
            text += section(file, name);
        }
        text
    }
}

const ELEMENTWISE: &str = include_str!("../wgsl/elementwise.wgsl");
const NTT: &str = include_str!("../wgsl/ntt.wgsl");
const SPMV: &str = include_str!("../wgsl/spmv.wgsl");
const MSM: &str = include_str!("../wgsl/msm.wgsl");

/// The lines between `// # name` and the next such line.
fn section<'a>(file: &'a str, name: &str) -> &'a str {
    let head = format!("// # {name}\n");
    let from = file.find(&head).expect("each section is in its file") + head.len();
    let length = file[from..].find("// # ").unwrap_or(file.len() - from);
    &file[from..from + length]
}
