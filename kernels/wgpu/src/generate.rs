//! Writes the parts of the shaders that depend on a field, a curve or a layout of limbs.
//!
//! WGSL has no generics, no 64-bit product of 32-bit words and, in its portable part, no 64-bit
//! integers at all. So what is the same for all fields is in `wgsl/`, and what is not is written
//! here, from one description: a modulus, its length in words, and the [`Variant`]. Constants are
//! computed from the modulus.
//!
//! In memory an element is always what the trait's byte layout says: 8 or 12 words of 32 bits,
//! Montgomery form with R = 2^256 or 2^384. The two variants differ in how they multiply:
//!
//! - [`Variant::Int64`]: word by word with 64-bit products in registers (CIOS).
//! - [`Variant::Portable`]: 20 or 30 limbs of 13 bits, so that all partial products of a column can
//!   be added up in 32 bits without a carry: 2 * 30 * (2^13 - 1)^2 + 2^19 < 2^32. Limbs of that
//!   size were quicker than 16-bit halves on lavapipe and, by the results of ZPrize 2023, on GPUs.
//!   20 limbs make R = 2^260, not 2^256: the second factor is unpacked with its bits moved up by
//!   those 4, which costs nothing and makes up for it. So both variants give the same result.

use std::fmt::Write;

use caldera_kernels::curve::{Bls12_381, Bn254, Curve};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, Group};
use num_bigint::BigUint;

use crate::formulas;

/// How the device multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// With 32-bit integers only: runs everywhere.
    Portable,
    /// With 64-bit integers, where the device has them.
    Int64,
}

/// What the generator has to know of a field.
struct Description {
    modulus: BigUint,
    /// Words of 32 bits; also where R lies.
    words: usize,
}

impl Description {
    fn of<F: PrimeField>() -> Self {
        let bytes: Vec<u8> = F::MODULUS
            .as_ref()
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        Self {
            modulus: BigUint::from_bytes_le(&bytes),
            words: bytes.len() / 4,
        }
    }

    /// So many digits of `bits` bits each.
    fn digits(value: &BigUint, bits: usize, count: usize) -> Vec<u32> {
        let mask = (BigUint::from(1u8) << bits) - 1u8;
        (0..count)
            .map(|i| {
                let digit: BigUint = (value >> (bits * i)) & &mask;
                digit.iter_u32_digits().next().unwrap_or(0)
            })
            .collect()
    }

    /// -1 / modulus mod 2^bits.
    fn negative_inverse(&self, bits: usize) -> u32 {
        let p = Self::digits(&self.modulus, 32, 1)[0];
        // Newton's iteration doubles the bits that are right; an odd number is its own inverse
        // mod 8.
        let mut inverse = p;
        for _ in 0..4 {
            inverse = inverse.wrapping_mul(2u32.wrapping_sub(p.wrapping_mul(inverse)));
        }
        inverse.wrapping_neg() & (u32::MAX >> (32 - bits))
    }

    fn r(&self) -> BigUint {
        BigUint::from(1u8) << (32 * self.words)
    }
}

/// Arithmetic in the scalar field of a curve, as WGSL.
pub(crate) fn scalar_field(curve: CurveId, variant: Variant) -> String {
    let description = match curve {
        CurveId::Bn254 => Description::of::<<Bn254 as Curve>::Fr>(),
        CurveId::Bls12_381 => Description::of::<<Bls12_381 as Curve>::Fr>(),
    };
    field(&description, variant)
}

/// Arithmetic in the base field of a curve, as WGSL.
pub(crate) fn base_field(curve: CurveId, variant: Variant) -> String {
    let description = match curve {
        CurveId::Bn254 => Description::of::<<Bn254 as Curve>::Fq>(),
        CurveId::Bls12_381 => Description::of::<<Bls12_381 as Curve>::Fq>(),
    };
    field(&description, variant)
}

/// The same with what `wgsl/curve.wgsl` has to know of a group.
pub(crate) fn points(curve: CurveId, group: Group, variant: Variant) -> String {
    base_field(curve, variant) + &formulas::constants(group)
}

fn field(description: &Description, variant: Variant) -> String {
    let words = description.words;
    let p = Description::digits(&description.modulus, 32, words);
    let one = Description::digits(&(description.r() % &description.modulus), 32, words);
    let mut text = format!(
        "alias F = array<u32, {words}>;\n\
         const WORDS = {words}u;\n\
         const QUADS = {}u;\n\
         const ONE = F({});\n\
         const PLAIN_ONE = F(1u{});\n",
        words / 4,
        list(&one),
        ", 0u".repeat(words - 1),
    );
    text += &load_and_store(words);
    text += &additions(&p);
    text += &match variant {
        Variant::Portable => multiply_portable(description),
        Variant::Int64 => multiply_int64(description),
    };
    text
}

fn list(words: &[u32]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word}u")).collect();
    words.join(", ")
}

/// Between an element and the vectors of four words in which memory is read.
fn load_and_store(words: usize) -> String {
    let quads = words / 4;
    let names: Vec<String> = (0..quads).map(|i| format!("q{i}: vec4<u32>")).collect();
    let parts: Vec<String> = (0..words)
        .map(|i| format!("q{}.{}", i / 4, ["x", "y", "z", "w"][i % 4]))
        .collect();
    let mut text = format!(
        "fn element({}) -> F {{ return F({}); }}\n",
        names.join(", "),
        parts.join(", ")
    );
    for i in 0..quads {
        let at = 4 * i;
        writeln!(
            text,
            "fn quad{i}(a: F) -> vec4<u32> {{ return vec4<u32>(a[{at}], a[{}], a[{}], a[{}]); }}",
            at + 1,
            at + 2,
            at + 3
        )
        .expect(STRING);
    }
    let any: Vec<String> = (0..words).map(|i| format!("a[{i}]")).collect();
    writeln!(
        text,
        "fn is_zero(a: F) -> bool {{ return ({}) == 0u; }}",
        any.join(" | ")
    )
    .expect(STRING);
    text
}

const STRING: &str = "writing to a string cannot fail";

/// Sums and differences of reduced elements, and the last step of a product.
fn additions(p: &[u32]) -> String {
    let words = p.len();
    let all: Vec<String> = (0..words).map(|i| format!("r{i}")).collect();
    let all = all.join(", ");

    // t - p, or t where that would be negative; t has so many words and no more.
    let mut reduce = String::from("fn reduce(t: F) -> F {\n  var b = 0u; var x = 0u;\n");
    for (i, p) in p.iter().enumerate() {
        writeln!(
            reduce,
            "  x = t[{i}] - {p}u; let d{i} = x - b; b = u32(t[{i}] < {p}u) | u32(x < b);"
        )
        .expect(STRING);
    }
    reduce += "  let keep = b != 0u;\n";
    for i in 0..words {
        writeln!(reduce, "  let r{i} = select(d{i}, t[{i}], keep);").expect(STRING);
    }
    writeln!(reduce, "  return F({all});\n}}").expect(STRING);

    // The moduli leave the top bit free, so that a sum has no carry.
    let mut add = String::from("fn add(a: F, b: F) -> F {\n  var c = 0u; var x = 0u;\n");
    for i in 0..words {
        writeln!(
            add,
            "  x = a[{i}] + b[{i}]; let r{i} = x + c; c = u32(x < a[{i}]) | u32(r{i} < x);"
        )
        .expect(STRING);
    }
    writeln!(add, "  return reduce(F({all}));\n}}").expect(STRING);

    let mut sub = String::from("fn sub(a: F, b: F) -> F {\n  var c = 0u; var x = 0u;\n");
    for i in 0..words {
        writeln!(
            sub,
            "  x = a[{i}] - b[{i}]; let d{i} = x - c; c = u32(a[{i}] < b[{i}]) | u32(x < c);"
        )
        .expect(STRING);
    }
    sub += "  let m = 0u - c; c = 0u; var q = 0u;\n";
    for (i, p) in p.iter().enumerate() {
        writeln!(
            sub,
            "  q = {p}u & m; x = d{i} + q; let r{i} = x + c; c = u32(x < q) | u32(r{i} < x);"
        )
        .expect(STRING);
    }
    writeln!(sub, "  return F({all});\n}}").expect(STRING);
    reduce + &add + &sub
}

/// The words of the first factor stand in variables that move down by one limb a turn: the outer
/// loop stays a loop, the inner one is written out, and nothing is addressed by an index that a
/// compiler would have to keep in memory.
fn multiply_int64(description: &Description) -> String {
    let words = description.words;
    let p = Description::digits(&description.modulus, 32, words);
    let mut text = String::from("fn mul(a: F, b: F) -> F {\n");
    for i in 0..words {
        writeln!(
            text,
            "  var x{i} = a[{i}]; let y{i} = u64(b[{i}]); var t{i} = 0u;"
        )
        .expect(STRING);
    }
    writeln!(
        text,
        "  for (var i = 0u; i < {words}u; i = i + 1u) {{\n\
         \x20   let x = u64(x0); var r = u64(t0) + x * y0; t0 = u32(r); var c = r >> 32u;"
    )
    .expect(STRING);
    for j in 1..words {
        writeln!(
            text,
            "    r = u64(t{j}) + x * y{j} + c; t{j} = u32(r); c = r >> 32u;"
        )
        .expect(STRING);
    }
    writeln!(
        text,
        "    let top = c; let m = u64(t0 * {}u);\n\
         \x20   r = u64(t0) + m * u64({}u); c = r >> 32u;",
        description.negative_inverse(32),
        p[0]
    )
    .expect(STRING);
    for (j, p) in p.iter().enumerate().skip(1) {
        writeln!(
            text,
            "    r = u64(t{j}) + m * u64({p}u) + c; t{} = u32(r); c = r >> 32u;",
            j - 1
        )
        .expect(STRING);
    }
    // t + x b + m p < 2p + 2^33 p, whose upper words fit: p leaves the top bit free.
    write!(text, "    t{} = u32(top + c);\n   ", words - 1).expect(STRING);
    for i in 1..words {
        write!(text, " x{} = x{i};", i - 1).expect(STRING);
    }
    let all: Vec<String> = (0..words).map(|i| format!("t{i}")).collect();
    writeln!(text, "\n  }}\n  return reduce(F({}));\n}}", all.join(", ")).expect(STRING);
    text
}

/// Bits of a portable limb.
const LIMB: usize = 13;

fn multiply_portable(description: &Description) -> String {
    let words = description.words;
    let limbs = (32 * words).div_ceil(LIMB);
    let up = LIMB * limbs - 32 * words;
    let mask = (1u32 << LIMB) - 1;
    let inverse = description.negative_inverse(LIMB);
    let p = Description::digits(&description.modulus, LIMB, limbs);
    assert!(2 * limbs as u64 * u64::from(mask).pow(2) + (1 << 19) < 1 << 32);

    let mut text = String::from("fn mul(a: F, b: F) -> F {\n");
    for i in 0..words {
        writeln!(text, "  var x{i} = a[{i}];").expect(STRING);
    }
    for i in 0..limbs {
        // The bits from LIMB * i - up on, of which the first limb has fewer.
        let low = (LIMB * i) as isize - up as isize;
        let expression = if low < 0 {
            format!("(b[0] << {}u)", -low)
        } else {
            let (word, bit) = (low as usize / 32, low as usize % 32);
            if bit + LIMB > 32 && word + 1 < words {
                format!(
                    "((b[{word}] >> {bit}u) | (b[{}] << {}u))",
                    word + 1,
                    32 - bit
                )
            } else {
                format!("(b[{word}] >> {bit}u)")
            }
        };
        writeln!(text, "  let y{i} = {expression} & {mask}u;").expect(STRING);
    }
    for i in 0..limbs - 1 {
        writeln!(text, "  var s{i} = 0u;").expect(STRING);
    }
    writeln!(
        text,
        "  for (var i = 0u; i < {limbs}u; i = i + 1u) {{\n\
         \x20   let x = x0 & {mask}u; let t = s0 + x * y0;\n\
         \x20   let q = (t * {inverse}u) & {mask}u;\n\
         \x20   s0 = s1 + x * y1 + q * {}u + ((t + q * {}u) >> {LIMB}u);",
        p[1], p[0]
    )
    .expect(STRING);
    for (j, p) in p.iter().enumerate().skip(2) {
        let before = if j + 1 < limbs {
            format!("s{j} + ")
        } else {
            String::new()
        };
        writeln!(text, "    s{} = {before}x * y{j} + q * {p}u;", j - 1).expect(STRING);
    }
    text += "   ";
    for i in 0..words {
        if i + 1 < words {
            write!(
                text,
                " x{i} = (x{i} >> {LIMB}u) | (x{} << {}u);",
                i + 1,
                32 - LIMB
            )
            .expect(STRING);
        } else {
            writeln!(text, " x{i} = x{i} >> {LIMB}u;\n  }}").expect(STRING);
        }
    }
    for j in 1..limbs {
        // The last limb only takes the carry.
        if j + 1 < limbs {
            writeln!(
                text,
                "  s{j} = s{j} + (s{} >> {LIMB}u); s{} = s{} & {mask}u;",
                j - 1,
                j - 1,
                j - 1
            )
            .expect(STRING);
        } else {
            writeln!(
                text,
                "  let s{j} = s{} >> {LIMB}u; s{} = s{} & {mask}u;",
                j - 1,
                j - 1,
                j - 1
            )
            .expect(STRING);
        }
    }
    let packed: Vec<String> = (0..words)
        .map(|word| {
            let parts: Vec<String> = (0..limbs)
                .filter(|i| LIMB * i < 32 * (word + 1) && LIMB * (i + 1) > 32 * word)
                .map(|i| {
                    if LIMB * i >= 32 * word {
                        format!("(s{i} << {}u)", LIMB * i - 32 * word)
                    } else {
                        format!("(s{i} >> {}u)", 32 * word - LIMB * i)
                    }
                })
                .collect();
            parts.join(" | ")
        })
        .collect();
    writeln!(text, "  return reduce(F({}));\n}}", packed.join(", ")).expect(STRING);
    text
}

/// Turns of the loop of a multiplication in the base field.
#[cfg(test)]
pub(crate) fn limbs(curve: CurveId, variant: Variant) -> usize {
    let words = curve.base_bytes() / 4;
    match variant {
        Variant::Portable => (32 * words).div_ceil(LIMB),
        Variant::Int64 => words,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use ark_ff::{BigInteger, PrimeField as ArkField};
    use caldera_kernels::Progress;

    use super::*;
    use crate::gpu::{Gpu, Part};
    use crate::plan::{Stage, Staged, Steps};
    use crate::shaders::{Kernel, Over};
    use crate::{Choice, WgpuConfig};

    fn gpu() -> &'static std::sync::Arc<Gpu> {
        static GPU: OnceLock<std::sync::Arc<Gpu>> = OnceLock::new();
        GPU.get_or_init(|| {
            let config = WgpuConfig {
                adapter: Some("llvmpipe".to_owned()),
                checked: true,
                choice: Choice::Fixed(Variant::Portable),
                ..WgpuConfig::default()
            };
            Gpu::open(&config).expect("a Vulkan driver, as `.ci/tools vulkan` brings it")
        })
    }

    /// Montgomery form, computed from what R is.
    fn bytes<F: ArkField>(values: &[F]) -> Vec<u8> {
        let bits = 64 * u64::from(F::MODULUS_BIT_SIZE.div_ceil(64));
        let r = F::from(2u64).pow([bits]);
        values
            .iter()
            .flat_map(|value| (*value * r).into_bigint().to_bytes_le())
            .collect()
    }

    /// Products and differences of all pairs of values at the edges and of some in between.
    fn arithmetic<F: ArkField>(over: Over) {
        let mut values = vec![
            F::zero(),
            F::one(),
            -F::one(),
            F::from(2u64),
            -F::from(2u64),
        ];
        for shift in [1, 13, 26, 31, 32, 33, 64, 130, 250] {
            let power = F::from(2u64).pow([shift]);
            values.extend([
                power,
                power - F::one(),
                -power,
                power.inverse().expect("not zero"),
            ]);
        }
        let mut random = F::from(0x9e37_79b9_7f4a_7c15u64);
        for _ in 0..20 {
            random = random.square() + F::one();
            values.push(random);
        }
        let pairs: Vec<(F, F)> = values
            .iter()
            .flat_map(|x| values.iter().map(|y| (*x, *y)))
            .collect();
        let (x, y): (Vec<F>, Vec<F>) = pairs.iter().copied().unzip();
        let z: Vec<F> = pairs.iter().rev().map(|(x, y)| *x + y).collect();
        let products: Vec<F> = pairs.iter().map(|(x, y)| *x * y).collect();
        let differences: Vec<F> = products.iter().zip(&z).map(|(p, z)| *p - z).collect();
        for variant in [Variant::Portable, Variant::Int64] {
            for (subtract, expected) in [(0, &products), (1, &differences)] {
                let gpu = gpu();
                let upload = |values: &[F]| {
                    let bytes = bytes(values);
                    let buffer = gpu.buffer("test", bytes.len() as u64).expect("room");
                    gpu.write(&buffer, 0, &bytes).expect("a device that stands");
                    buffer
                };
                let buffers = [upload(&x), upload(&y), upload(&z)];
                let steps = Steps::new(gpu, variant).expect("room");
                let step = steps
                    .threads(
                        Kernel::Multiply,
                        over,
                        &buffers.each_ref().map(|buffer| Part::all(buffer)),
                        &[pairs.len() as u32, subtract],
                        pairs.len(),
                        1.0,
                    )
                    .expect("a good shader");
                let stages = vec![Stage {
                    name: "test",
                    steps: vec![step],
                }];
                let plan = Staged::plan(steps, stages, (), None);
                plan.open(0).expect("the first stage");
                while plan.run(0, 0).expect("a device that stands") == Progress::More {}
                let expected = bytes(expected);
                let mut got = vec![0; expected.len()];
                let result = if subtract == 0 { 2 } else { 0 };
                gpu.read(&buffers[result], 0, &mut got)
                    .expect("a device that stands");
                let size = expected.len() / pairs.len();
                for (i, pair) in pairs.iter().enumerate() {
                    let at = i * size..(i + 1) * size;
                    assert_eq!(
                        expected[at.clone()],
                        got[at],
                        "{over:?} {variant:?} {pair:?}, subtract {subtract}"
                    );
                }
            }
        }
    }

    #[test]
    fn arithmetic_is_that_of_arkworks() {
        arithmetic::<ark_bn254::Fr>(Over::Scalars(CurveId::Bn254));
        arithmetic::<ark_bn254::Fq>(Over::Base(CurveId::Bn254));
        arithmetic::<ark_bls12_381::Fr>(Over::Scalars(CurveId::Bls12_381));
        arithmetic::<ark_bls12_381::Fq>(Over::Base(CurveId::Bls12_381));
    }
}
