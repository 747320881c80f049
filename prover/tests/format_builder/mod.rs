//! Small files of every kind, built from the description of the formats and from nothing else:
//! no writer and no constant of the crate under test is used here, so that the two can be wrong
//! only in different ways.

#![allow(dead_code, reason = "each test file uses its own part of the builder")]

use num_bigint::BigUint;

/// The curves, as the builder knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    Bn254,
    Bls12381,
}

pub(crate) const CURVES: [Curve; 2] = [Curve::Bn254, Curve::Bls12381];

impl Curve {
    pub(crate) fn q(self) -> BigUint {
        number(match self {
            Curve::Bn254 => {
                "21888242871839275222246405745257275088696311157297823662689037894645226208583"
            }
            Curve::Bls12381 => {
                "40024095552216673934177898257359041565568828199390078853320581361240316504908\
                 37864442687629129015664037894272559787"
            }
        })
    }

    pub(crate) fn r(self) -> BigUint {
        number(match self {
            Curve::Bn254 => {
                "21888242871839275222246405745257275088548364400416034343698204186575808495617"
            }
            Curve::Bls12381 => {
                "52435875175126190479447740508185965837690552500527637822603658699938581184513"
            }
        })
    }

    /// Bytes of a coordinate.
    pub(crate) fn n8q(self) -> usize {
        match self {
            Curve::Bn254 => 32,
            Curve::Bls12381 => 48,
        }
    }

    fn json_name(self) -> &'static str {
        match self {
            Curve::Bn254 => "bn128",
            Curve::Bls12381 => "bls12381",
        }
    }
}

/// A binary file that is not yet put together.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    pub(crate) sections: Vec<(u32, Vec<u8>)>,
}

impl Parts {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend((self.sections.len() as u32).to_le_bytes());
        for (kind, content) in &self.sections {
            bytes.extend(kind.to_le_bytes());
            bytes.extend((content.len() as u64).to_le_bytes());
            bytes.extend(content);
        }
        bytes
    }

    /// The content of a section, to be changed.
    pub(crate) fn section(&mut self, kind: u32) -> &mut Vec<u8> {
        let found = self.sections.iter_mut().find(|(it, _)| *it == kind);
        &mut found.expect("the section is in the file").1
    }

    pub(crate) fn without(mut self, kind: u32) -> Parts {
        self.sections.retain(|(it, _)| *it != kind);
        self
    }

    pub(crate) fn with(mut self, kind: u32, content: &[u8]) -> Parts {
        self.sections.push((kind, content.to_vec()));
        self
    }

    /// Overwrites bytes of a section.
    pub(crate) fn set(mut self, kind: u32, at: usize, bytes: &[u8]) -> Parts {
        self.section(kind)[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Where the content of a section begins in the file.
    pub(crate) fn offset(&self, kind: u32) -> u64 {
        let mut at = 12;
        for (it, content) in &self.sections {
            at += 12;
            if *it == kind {
                return at;
            }
            at += content.len() as u64;
        }
        panic!("section {kind} is not in the file");
    }
}

/// Wires of the small key: the constant, one public, three private.
pub(crate) const WIRES: u32 = 5;
pub(crate) const PUBLIC: u32 = 1;
pub(crate) const DOMAIN: u32 = 4;
pub(crate) const COEFFICIENTS: u32 = 3;

/// A key in the order in which `snarkjs groth16 setup` writes it, with two contributions.
pub(crate) fn zkey(curve: Curve) -> Parts {
    let g1 = 2 * curve.n8q();
    let g2 = 4 * curve.n8q();
    let mut header = Vec::new();
    header.extend((curve.n8q() as u32).to_le_bytes());
    header.extend(little_endian(&curve.q(), curve.n8q()));
    header.extend(32u32.to_le_bytes());
    header.extend(little_endian(&curve.r(), 32));
    for count in [WIRES, PUBLIC, DOMAIN] {
        header.extend(count.to_le_bytes());
    }
    // alpha, beta in G1; beta, gamma in G2; delta in G1; delta in G2.
    for (len, fill) in [(g1, 1), (g1, 2), (g2, 3), (g2, 4), (g1, 5), (g2, 6)] {
        header.extend(vec![fill; len]);
    }

    let mut coefficients = COEFFICIENTS.to_le_bytes().to_vec();
    for (matrix, constraint, signal) in [(0u32, 0u32, 2u32), (1, 0, 3), (0, 1, 0)] {
        for place in [matrix, constraint, signal] {
            coefficients.extend(place.to_le_bytes());
        }
        coefficients.extend(little_endian(&(curve.r() - 1u32 - signal), 32));
    }

    let mut ceremony = vec![7; 64];
    ceremony.extend(2u32.to_le_bytes());
    let points = 3 * g1 + g2 + 64;
    ceremony.extend(vec![8; points]);
    ceremony.extend(0u32.to_le_bytes());
    ceremony.extend(7u32.to_le_bytes());
    ceremony.extend(b"\x01\x05Alice");
    ceremony.extend(vec![9; points]);
    ceremony.extend(1u32.to_le_bytes());
    ceremony.extend(13u32.to_le_bytes());
    ceremony.extend(b"\x01\x03end\x02\x0a\x03\x04abcd");

    let filled = |fill: u8, len: usize, count: u32| vec![fill; len * count as usize];
    Parts {
        magic: *b"zkey",
        version: 1,
        sections: vec![
            (1, 1u32.to_le_bytes().to_vec()),
            (2, header),
            (4, coefficients),
            (3, filled(13, g1, PUBLIC + 1)),
            (9, filled(19, g1, DOMAIN)),
            (8, filled(18, g1, WIRES - PUBLIC - 1)),
            (5, filled(15, g1, WIRES)),
            (6, filled(16, g1, WIRES)),
            (7, filled(17, g2, WIRES)),
            (10, ceremony),
        ],
    }
}

/// A witness of five elements, the last as large as can be.
pub(crate) fn wtns(curve: Curve) -> Parts {
    let mut header = 32u32.to_le_bytes().to_vec();
    header.extend(little_endian(&curve.r(), 32));
    header.extend(WIRES.to_le_bytes());
    let mut elements = Vec::new();
    for element in [
        BigUint::from(1u32),
        1092u32.into(),
        0u32.into(),
        3u32.into(),
        curve.r() - 1u32,
    ] {
        elements.extend(little_endian(&element, 32));
    }
    Parts {
        magic: *b"wtns",
        version: 2,
        sections: vec![(1, header), (2, elements)],
    }
}

/// Two constraints over five wires, with the header second as circom writes it.
pub(crate) fn r1cs(curve: Curve) -> Parts {
    let mut header = 32u32.to_le_bytes().to_vec();
    header.extend(little_endian(&curve.r(), 32));
    // Wires, public outputs, public inputs, private inputs.
    for count in [WIRES, 1, 0, 2] {
        header.extend(u32::to_le_bytes(count));
    }
    header.extend(9u64.to_le_bytes());
    header.extend(2u32.to_le_bytes());

    let minus_one = curve.r() - 1u32;
    let one = BigUint::from(1u32);
    let combinations: [&[(u32, &BigUint)]; 6] = [
        &[(2, &minus_one)],
        &[(3, &one)],
        &[(4, &minus_one)],
        &[(0, &one), (4, &one)],
        &[],
        &[(1, &one)],
    ];
    let mut constraints = Vec::new();
    for terms in combinations {
        constraints.extend((terms.len() as u32).to_le_bytes());
        for (wire, coefficient) in terms {
            constraints.extend(wire.to_le_bytes());
            constraints.extend(little_endian(coefficient, 32));
        }
    }
    let labels = (0..u64::from(WIRES)).flat_map(u64::to_le_bytes).collect();
    let sections = vec![(2, constraints), (1, header), (3, labels)];
    Parts {
        magic: *b"r1cs",
        version: 1,
        sections,
    }
}

/// A verification key of two public inputs, as snarkjs prints one, infinity among its points.
pub(crate) fn verification_key(curve: Curve) -> String {
    let name = curve.json_name();
    let (g1, g2) = (g1(curve), g2(curve));
    let infinity = " [\n  \"0\",\n  \"1\",\n  \"0\"\n ]".replace('\n', "\n ");
    format!(
        "{{\n \"protocol\": \"groth16\",\n \"curve\": \"{name}\",\n \"nPublic\": 2,\n \
         \"vk_alpha_1\": {g1},\n \"vk_beta_2\": {g2},\n \"vk_gamma_2\": {g2},\n \
         \"vk_delta_2\": {g2},\n \"IC\": [\n  {ic},\n {infinity},\n  {ic}\n ]\n}}",
        ic = g1.replace('\n', "\n "),
    )
}

/// A proof, as snarkjs prints one.
pub(crate) fn proof(curve: Curve) -> String {
    let name = curve.json_name();
    let (g1, g2) = (g1(curve), g2(curve));
    format!(
        "{{\n \"pi_a\": {g1},\n \"pi_b\": {g2},\n \"pi_c\": {g1},\n \
         \"protocol\": \"groth16\",\n \"curve\": \"{name}\"\n}}"
    )
}

/// Three public inputs, the last as large as can be, as snarkjs prints them.
pub(crate) fn public(curve: Curve) -> String {
    format!("[\n \"0\",\n \"1092\",\n \"{}\"\n]", curve.r() - 1u32)
}

/// A point of G1 as it is printed as the value of a key of the outermost object.
fn g1(curve: Curve) -> String {
    format!("[\n  \"{}\",\n  \"2\",\n  \"1\"\n ]", curve.q() - 1u32)
}

fn g2(curve: Curve) -> String {
    let q = curve.q() - 1u32;
    format!(
        "[\n  [\n   \"{q}\",\n   \"0\"\n  ],\n  [\n   \"7\",\n   \"{q}\"\n  ],\n  [\n   \"1\",\n   \
         \"0\"\n  ]\n ]"
    )
}

pub(crate) fn little_endian(number: &BigUint, len: usize) -> Vec<u8> {
    let mut bytes = number.to_bytes_le();
    bytes.resize(len, 0);
    bytes
}

fn number(digits: &str) -> BigUint {
    digits.parse().expect("the digits are decimal")
}
