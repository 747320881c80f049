//! `verification_key.json`, `proof.json` and `public.json`, as snarkjs reads and prints them.
//!
//! Numbers are strings of decimal digits; a point is [x, y, "1"], with a pair for each coordinate
//! in G2, and infinity is ["0", "1", "0"]. Printing is byte for byte what snarkjs 0.7 prints: one
//! space of indentation, the same order of keys, no newline at the end.
//!
//! Reading is stricter than snarkjs: no hexadecimal, no leading zeros, no number at or above its
//! modulus, no third coordinate but 1 and 0, no key twice. Keys that are not known are ignored,
//! and so is `vk_alphabeta_12`, which says nothing that alpha and beta do not.
//!
//! Whether a point is on its curve is not asked here; the verifier asks.

mod tree;

use std::fmt;

use caldera_kernels::{CurveId, Group};
use num_bigint::BigUint;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use self::tree::At;
use super::prime::{base_modulus, is_below, scalar_modulus};
use super::{File, FormatError};

/// A point of G1 or G2, affine or infinity; its coordinates are below q, and nothing else is
/// known of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Point {
    curve: CurveId,
    group: Group,
    bytes: Box<[u8]>,
}

impl Point {
    /// A point from its coordinates in canonical little-endian form, x before y, c0 before c1;
    /// all zero is infinity. `None` if the length is not the group's or a coordinate is not
    /// below q.
    pub fn from_bytes(curve: CurveId, group: Group, bytes: &[u8]) -> Option<Point> {
        let modulus = base_modulus(curve);
        let fits = bytes.len() == curve.point_bytes(group);
        let below = || {
            bytes
                .chunks_exact(modulus.len())
                .all(|number| is_below(number, modulus))
        };
        (fits && below()).then(|| Point {
            curve,
            group,
            bytes: bytes.into(),
        })
    }

    /// The coordinates, as [`Point::from_bytes`] takes them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The point's curve.
    pub fn curve(&self) -> CurveId {
        self.curve
    }

    /// The point's group.
    pub fn group(&self) -> Group {
        self.group
    }

    /// Whether this is the point at infinity.
    pub fn is_infinity(&self) -> bool {
        is_zero(&self.bytes)
    }

    fn read(at: &At<'_>, curve: CurveId, group: Group) -> Result<Point, FormatError> {
        let mut numbers = Vec::with_capacity(curve.point_bytes(group) / 2 * 3);
        for coordinate in at.array::<3>()? {
            match group {
                Group::G1 => numbers.extend(read_coordinate(&coordinate, curve)?),
                Group::G2 => {
                    for number in coordinate.array::<2>()? {
                        numbers.extend(read_coordinate(&number, curve)?);
                    }
                }
            }
        }
        let (bytes, z) = numbers.split_at(curve.point_bytes(group));
        let (x, y) = bytes.split_at(z.len());
        // (0, 0, 1) is neither: its bytes would be those of infinity, which is (0, 1, 0).
        if is_one(z) && !(is_zero(x) && is_zero(y)) {
            Ok(Point {
                curve,
                group,
                bytes: bytes.into(),
            })
        } else if is_zero(z) && is_zero(x) && is_one(y) {
            Ok(Point {
                curve,
                group,
                bytes: vec![0; bytes.len()].into(),
            })
        } else {
            Err(at.fault(|file, path| FormatError::Point { file, path }))
        }
    }
}

impl fmt::Debug for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self
            .bytes
            .chunks_exact(self.curve.base_bytes())
            .map(BigUint::from_bytes_le);
        f.debug_tuple("Point")
            .field(&self.group)
            .field(&numbers.collect::<Vec<_>>())
            .finish()
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (x, y) = self.bytes.split_at(self.bytes.len() / 2);
        let zero = &vec![0; x.len()][..];
        let mut one = zero.to_vec();
        one[0] = 1;
        let coordinates = if self.is_infinity() {
            [zero, &one, zero]
        } else {
            [x, y, &one]
        };
        let mut list = serializer.serialize_seq(Some(coordinates.len()))?;
        for coordinate in coordinates {
            let numbers = decimals(coordinate, self.curve.base_bytes());
            match self.group {
                Group::G1 => list.serialize_element(&numbers[0])?,
                Group::G2 => list.serialize_element(&numbers)?,
            }
        }
        list.end()
    }
}

/// An element of the pairing's target group; only ever printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetElement {
    curve: CurveId,
    bytes: Box<[u8]>,
}

impl TargetElement {
    /// An element from its twelve coordinates in canonical little-endian form: over the base
    /// field two, then three, then two, the lowest first. `None` if there are not twelve or
    /// one is not below q.
    pub fn from_bytes(curve: CurveId, bytes: &[u8]) -> Option<TargetElement> {
        let modulus = base_modulus(curve);
        let fits = bytes.len() == 12 * modulus.len();
        let below = || {
            bytes
                .chunks_exact(modulus.len())
                .all(|number| is_below(number, modulus))
        };
        (fits && below()).then(|| TargetElement {
            curve,
            bytes: bytes.into(),
        })
    }
}

impl Serialize for TargetElement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numbers = decimals(&self.bytes, self.curve.base_bytes());
        let pairs: Vec<_> = numbers.chunks_exact(2).collect();
        serializer.collect_seq(pairs.chunks_exact(3))
    }
}

/// What a verifier needs to know of a circuit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationKey {
    /// The curve of all its points.
    pub curve: CurveId,
    /// alpha, in G1.
    pub alpha_1: Point,
    /// beta, in G2.
    pub beta_2: Point,
    /// gamma, in G2.
    pub gamma_2: Point,
    /// delta, in G2.
    pub delta_2: Point,
    /// The pairing of alpha and beta: printed if it is there, never read.
    pub alpha_beta_12: Option<TargetElement>,
    /// A point in G1 for the constant 1 and for each public input: never empty when read.
    pub ic: Vec<Point>,
}

impl VerificationKey {
    /// Reads `verification_key.json`.
    pub fn parse(text: &[u8]) -> Result<VerificationKey, FormatError> {
        let tree = tree::read(File::VerificationKey, text, LEN_MAX)?;
        let root = tree.root();
        groth16(&root.key("protocol")?)?;
        let curve = curve_by_name(&root.key("curve")?)?;
        let expected = root.key("nPublic")?.count()?.saturating_add(1);
        let ic = root.key("IC")?;
        let got = ic.elements()?.len() as u64;
        if got != expected {
            return Err(ic.fault(|file, path| FormatError::JsonLength {
                file,
                path,
                expected,
                got,
            }));
        }
        Ok(VerificationKey {
            curve,
            alpha_1: Point::read(&root.key("vk_alpha_1")?, curve, Group::G1)?,
            beta_2: Point::read(&root.key("vk_beta_2")?, curve, Group::G2)?,
            gamma_2: Point::read(&root.key("vk_gamma_2")?, curve, Group::G2)?,
            delta_2: Point::read(&root.key("vk_delta_2")?, curve, Group::G2)?,
            alpha_beta_12: None,
            ic: ic
                .elements()?
                .iter()
                .map(|point| Point::read(point, curve, Group::G1))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Prints it.
    pub fn print(&self) -> String {
        print(self)
    }

    /// How many public inputs a proof for this key has.
    pub fn public_count(&self) -> usize {
        self.ic.len().saturating_sub(1)
    }
}

impl Serialize for VerificationKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("protocol", PROTOCOL)?;
        map.serialize_entry("curve", curve_name(self.curve))?;
        map.serialize_entry("nPublic", &self.public_count())?;
        map.serialize_entry("vk_alpha_1", &self.alpha_1)?;
        map.serialize_entry("vk_beta_2", &self.beta_2)?;
        map.serialize_entry("vk_gamma_2", &self.gamma_2)?;
        map.serialize_entry("vk_delta_2", &self.delta_2)?;
        if let Some(element) = &self.alpha_beta_12 {
            map.serialize_entry("vk_alphabeta_12", element)?;
        }
        map.serialize_entry("IC", &self.ic)?;
        map.end()
    }
}

/// A proof: three points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The curve of its points.
    pub curve: CurveId,
    /// A, in G1.
    pub a: Point,
    /// B, in G2.
    pub b: Point,
    /// C, in G1.
    pub c: Point,
}

impl Proof {
    /// Reads `proof.json`. `expected` is the curve of the key that it is to be verified with; a
    /// file of another is refused, and one that names none (rapidsnark's do not) is taken to be
    /// of that curve. Without it, the file must name its curve.
    pub fn parse(text: &[u8], expected: Option<CurveId>) -> Result<Proof, FormatError> {
        let tree = tree::read(File::Proof, text, PROOF_LEN_MAX)?;
        let root = tree.root();
        if let Some(protocol) = root.find("protocol")? {
            groth16(&protocol)?;
        }
        let curve = match (root.find("curve")?, expected) {
            (None, Some(curve)) => curve,
            (_, expected) => {
                let got = curve_by_name(&root.key("curve")?)?;
                match expected {
                    Some(expected) if expected != got => {
                        return Err(FormatError::Curve {
                            file: File::Proof,
                            expected,
                            got,
                        });
                    }
                    _ => got,
                }
            }
        };
        Ok(Proof {
            curve,
            a: Point::read(&root.key("pi_a")?, curve, Group::G1)?,
            b: Point::read(&root.key("pi_b")?, curve, Group::G2)?,
            c: Point::read(&root.key("pi_c")?, curve, Group::G1)?,
        })
    }

    /// Prints it.
    pub fn print(&self) -> String {
        print(self)
    }
}

impl Serialize for Proof {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("pi_a", &self.a)?;
        map.serialize_entry("pi_b", &self.b)?;
        map.serialize_entry("pi_c", &self.c)?;
        map.serialize_entry("protocol", PROTOCOL)?;
        map.serialize_entry("curve", curve_name(self.curve))?;
        map.end()
    }
}

/// The values that a proof is about: the circuit's outputs, then its public inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicInputs {
    curve: CurveId,
    values: Vec<[u8; 32]>,
}

impl PublicInputs {
    /// Inputs from canonical little-endian scalars; `None` if one is not below r.
    pub fn new(curve: CurveId, values: Vec<[u8; 32]>) -> Option<PublicInputs> {
        let modulus = scalar_modulus(curve);
        let below = values.iter().all(|value| is_below(value, modulus));
        below.then_some(PublicInputs { curve, values })
    }

    /// Reads `public.json`, whose numbers must be below the modulus r of `curve`.
    pub fn parse(text: &[u8], curve: CurveId) -> Result<PublicInputs, FormatError> {
        let tree = tree::read(File::Public, text, LEN_MAX)?;
        let mut values = Vec::new();
        for number in tree.root().elements()? {
            let mut value = [0; 32];
            value.copy_from_slice(&number.decimal('r', scalar_modulus(curve))?);
            values.push(value);
        }
        Ok(PublicInputs { curve, values })
    }

    /// Prints them.
    pub fn print(&self) -> String {
        match self.is_empty() {
            // The one place where snarkjs's printer (bfj) and everybody else's differ.
            true => "[\n]".to_owned(),
            false => print(self),
        }
    }

    /// The curve whose scalars they are.
    pub fn curve(&self) -> CurveId {
        self.curve
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the circuit makes nothing public.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The inputs as canonical little-endian scalars.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.values.iter()
    }
}

impl Serialize for PublicInputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.values.iter().map(|value| decimal(value)))
    }
}

fn print(value: &impl Serialize) -> String {
    let mut text = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b" ");
    value
        .serialize(&mut serde_json::Serializer::with_formatter(
            &mut text, layout,
        ))
        .expect("a vector takes all that is written to it, and all keys are strings");
    String::from_utf8(text).expect("serde_json writes UTF-8")
}

fn decimals(bytes: &[u8], len: usize) -> Vec<String> {
    bytes.chunks_exact(len).map(decimal).collect()
}

fn decimal(number: &[u8]) -> String {
    BigUint::from_bytes_le(number).to_string()
}

fn read_coordinate(at: &At<'_>, curve: CurveId) -> Result<Vec<u8>, FormatError> {
    at.decimal('q', base_modulus(curve))
}

fn is_zero(number: &[u8]) -> bool {
    number.iter().all(|&byte| byte == 0)
}

fn is_one(number: &[u8]) -> bool {
    number
        .split_first()
        .is_some_and(|(&first, rest)| first == 1 && is_zero(rest))
}

fn groth16(at: &At<'_>) -> Result<(), FormatError> {
    match at.text()? {
        PROTOCOL => Ok(()),
        other => Err(at.fault(|file, _| FormatError::Protocol {
            file,
            got: tree::start_of(other),
        })),
    }
}

/// Names a curve as snarkjs does, which looks at letters and digits only and in any case.
fn curve_by_name(at: &At<'_>) -> Result<CurveId, FormatError> {
    let name = at.text()?;
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    match letters.collect::<String>().to_ascii_uppercase().as_str() {
        "BN128" | "BN254" | "ALTBN128" => Ok(CurveId::Bn254),
        "BLS12381" => Ok(CurveId::Bls12_381),
        _ => Err(at.fault(|file, _| FormatError::CurveName {
            file,
            got: tree::start_of(name),
        })),
    }
}

const fn curve_name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => "bn128",
        CurveId::Bls12_381 => "bls12381",
    }
}

const PROTOCOL: &str = "groth16";

/// A proof has under 2 KiB; the rest is room for keys that others add.
const PROOF_LEN_MAX: usize = 64 << 10;

/// Room for the verification key of forty thousand public inputs.
const LEN_MAX: usize = 8 << 20;
