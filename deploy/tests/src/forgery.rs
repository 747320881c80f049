//! Hostile files: for each kind of fault one or more forgeries that must be caught by the one
//! check that is named beside them.
//!
//! They start from a real key (Semaphore, depth 1) and a real witness and change one thing each.
//! The command line and the service are held to the same list, so that what has an exit code of
//! its own here has a reason of its own there.

use std::path::Path;
use std::sync::LazyLock;

use ark_bn254::{Fq, Fq2, G2Affine};
use ark_ff::BigInteger;
use ark_ff::PrimeField;

use crate::binfile::{Binfile, Section};
use crate::interop::{semaphore_witnesses, semaphore_zkey};

/// A file that must be refused.
pub struct Forgery {
    /// What was done to it.
    pub name: String,
    /// The exit code of the command line.
    pub code: i32,
    /// The class that the command line names.
    pub class: &'static str,
    /// The file.
    pub bytes: Vec<u8>,
}

impl Forgery {
    /// What the service gives as `data.reason`, if the file is a `"key"` or a `"witness"`.
    pub fn reason(&self, file: &str) -> String {
        let class = match self.class {
            "data" => "content",
            "witness-length" => "length",
            class => class,
        };
        let capitalised = class.split('-').map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + rest
        });
        file.to_owned() + &capitalised.collect::<String>()
    }
}

/// Witnesses for [`KEY`] that are none.
pub fn witnesses() -> Vec<Forgery> {
    let honest = || Binfile::parse(&WITNESS);
    [
        ("one element short", 87, "witness-length", {
            let mut file = honest();
            let elements = file.section(2).len() / 32 - 1;
            file.section(2).truncate(32 * elements);
            with_count(file, elements)
        }),
        ("one element too many", 87, "witness-length", {
            let mut file = honest();
            file.section(2).extend([0; 32]);
            let elements = file.section(2).len() / 32;
            with_count(file, elements)
        }),
        ("of another field", 86, "field", {
            let mut file = honest();
            file.section(1)[4..36].copy_from_slice(&little_endian(BLS12_381_R));
            file.bytes()
        }),
        ("of a field that nobody has", 86, "field", {
            let mut file = honest();
            file.section(1)[4] ^= 2;
            file.bytes()
        }),
        ("an element that is r", 88, "range", {
            let mut file = honest();
            file.section(2)[32 * 9..32 * 10].copy_from_slice(&little_endian(BN254_R));
            file.bytes()
        }),
        ("an element of all ones", 88, "range", {
            let mut file = honest();
            file.section(2)[32 * 9..32 * 10].fill(0xff);
            file.bytes()
        }),
        ("the constant is not one", 65, "data", {
            let mut file = honest();
            file.section(2)[0] = 2;
            file.bytes()
        }),
        (
            "fewer elements than its header says",
            85,
            "section-length",
            {
                let mut file = honest();
                file.section(2).truncate(64);
                file.bytes()
            },
        ),
        (
            "more elements than its header says",
            85,
            "section-length",
            {
                let mut file = honest();
                file.section(2).extend([0; 32]);
                file.bytes()
            },
        ),
        ("without its elements", 83, "section-missing", {
            let mut file = honest();
            file.sections.retain(|section| section.kind != 2);
            file.bytes()
        }),
        ("with its elements twice", 84, "section-twice", {
            let mut file = honest();
            let payload = file.section(2).clone();
            file.sections.push(Section { kind: 2, payload });
            file.bytes()
        }),
        (
            "cut",
            81,
            "truncated",
            WITNESS[..WITNESS.len() - 1].to_vec(),
        ),
        ("with a byte after its end", 82, "trailing", {
            let mut bytes = WITNESS.clone();
            bytes.push(0);
            bytes
        }),
        ("not a witness", 80, "format", b"a proof".to_vec()),
        ("empty", 80, "format", Vec::new()),
    ]
    .map(|(name, code, class, bytes)| Forgery {
        name: name.to_owned(),
        code,
        class,
        bytes,
    })
    .into()
}

/// Keys whose sections or header are not as they should be, or that nobody has contributed to.
pub fn key_containers() -> Vec<Forgery> {
    let honest = || Binfile::parse(&KEY);
    let mut cases = Vec::new();
    let mut case = |name: &str, code, class, bytes| {
        cases.push(Forgery {
            name: format!("a key {name}"),
            code,
            class,
            bytes,
        });
    };
    for (name, end) in [
        ("in its magic", 3),
        ("in its table", 30),
        ("in the middle", KEY.len() / 2),
    ] {
        let (code, class) = if end < 4 {
            (80, "format")
        } else {
            (81, "truncated")
        };
        case(&format!("cut {name}"), code, class, KEY[..end].to_vec());
    }
    case("cut at a section's boundary", 81, "truncated", {
        let mut file = honest();
        let last = file.sections.pop().unwrap();
        let mut bytes = file.bytes();
        // The count still speaks of the section that was cut off.
        bytes[8..12].copy_from_slice(&(file.sections.len() as u32 + 1).to_le_bytes());
        drop(last);
        bytes
    });
    case("with a byte after its end", 82, "trailing", {
        let mut bytes = KEY.clone();
        bytes.push(0);
        bytes
    });
    case("with a section of 2^64 - 1 bytes", 81, "truncated", {
        let mut bytes = KEY.clone();
        bytes[16..24].fill(0xff);
        bytes
    });
    case("of Plonk", 80, "format", {
        let mut file = honest();
        file.section(1)[0] = 2;
        file.bytes()
    });
    case("of version 9", 80, "format", {
        let mut file = honest();
        file.version = 9;
        file.bytes()
    });
    case("with another prime", 86, "field", {
        let mut file = honest();
        file.section(2)[4] ^= 2;
        file.bytes()
    });
    for kind in 1..=9 {
        case(&format!("without section {kind}"), 83, "section-missing", {
            let mut file = honest();
            file.sections.retain(|section| section.kind != kind);
            file.bytes()
        });
    }
    for kind in 1..=10 {
        case(
            &format!("with section {kind} twice"),
            84,
            "section-twice",
            {
                let mut file = honest();
                let payload = file.section(kind).clone();
                file.sections.push(Section { kind, payload });
                file.bytes()
            },
        );
        case(
            &format!("with section {kind} too long"),
            85,
            "section-length",
            {
                let mut file = honest();
                file.section(kind).push(0);
                file.bytes()
            },
        );
        case(
            &format!("with section {kind} too short"),
            85,
            "section-length",
            {
                let mut file = honest();
                file.section(kind).pop();
                file.bytes()
            },
        );
    }
    case("with a domain that is no power of two", 65, "data", {
        let mut file = honest();
        file.section(2)[HEADER_DOMAIN] ^= 1;
        file.bytes()
    });
    case(
        "that counts more coefficients than it has",
        85,
        "section-length",
        {
            let mut file = honest();
            file.section(4)[..4].fill(0xff);
            file.bytes()
        },
    );
    case("with no contribution", 91, "no-contribution", {
        let mut file = honest();
        file.section(10).truncate(64);
        file.section(10).extend([0; 4]);
        file.bytes()
    });
    case("with no record of contributions", 91, "no-contribution", {
        let mut file = honest();
        file.sections.retain(|section| section.kind != 10);
        file.bytes()
    });
    cases
}

/// Keys that are whole, and hold a number or a point that is none.
pub fn key_contents() -> Vec<Forgery> {
    let honest = || Binfile::parse(&KEY);
    let mut cases = Vec::new();
    let mut case = |name: String, code, class, bytes| {
        cases.push(Forgery {
            name,
            code,
            class,
            bytes,
        });
    };
    for (what, at) in [("matrix", 4), ("row", 8), ("column", 12)] {
        case(
            format!("coefficient of a {what} that is not there"),
            65,
            "data",
            {
                let mut file = honest();
                file.section(4)[at..at + 4].fill(0xff);
                file.bytes()
            },
        );
    }
    case("coefficient that is r".to_owned(), 88, "range", {
        let mut file = honest();
        file.section(4)[16..48].copy_from_slice(&little_endian(BN254_R));
        file.bytes()
    });
    for (kind, size) in [(3, 64), (5, 64), (6, 64), (7, 128), (8, 64), (9, 64)] {
        let point = |file: &mut Binfile| {
            let payload = file.section(kind);
            // The last point that is not infinity: the first ones are what everybody tests.
            (0..payload.len() / size)
                .rev()
                .find(|i| payload[i * size..(i + 1) * size].iter().any(|&b| b != 0))
                .unwrap()
                * size
        };
        case(format!("section {kind}, off the curve"), 89, "off-curve", {
            let mut file = honest();
            let at = point(&mut file);
            file.section(kind)[at] ^= 1;
            file.bytes()
        });
        case(
            format!("section {kind}, a coordinate that is q"),
            88,
            "range",
            {
                let mut file = honest();
                let at = point(&mut file);
                file.section(kind)[at..at + 32].copy_from_slice(&little_endian(BN254_Q));
                file.bytes()
            },
        );
    }
    case(
        "section 7, outside the subgroup".to_owned(),
        90,
        "outside-subgroup",
        {
            let mut file = honest();
            file.section(7)[..128].copy_from_slice(&outside_subgroup());
            file.bytes()
        },
    );
    // The header's points: alpha1, beta1, beta2, gamma2, delta1, delta2.
    let mut at = HEADER_POINTS;
    for (name, size) in [
        ("alpha1", 64),
        ("beta1", 64),
        ("beta2", 128),
        ("gamma2", 128),
        ("delta1", 64),
        ("delta2", 128),
    ] {
        case(format!("{name} off the curve"), 89, "off-curve", {
            let mut file = honest();
            file.section(2)[at] ^= 1;
            file.bytes()
        });
        if size == 128 {
            case(
                format!("{name} outside the subgroup"),
                90,
                "outside-subgroup",
                {
                    let mut file = honest();
                    file.section(2)[at..at + 128].copy_from_slice(&outside_subgroup());
                    file.bytes()
                },
            );
        }
        at += size;
    }
    cases
}

fn with_count(mut file: Binfile, elements: usize) -> Vec<u8> {
    file.section(1)[36..40].copy_from_slice(&(elements as u32).to_le_bytes());
    file.bytes()
}

/// A point of the twist that is on the curve and in no subgroup of order r, as a key has it.
fn outside_subgroup() -> [u8; 128] {
    let point = (1u64..)
        .filter_map(|x| G2Affine::get_point_from_x_unchecked(Fq2::from(x), false))
        .find(|point| !point.is_in_correct_subgroup_assuming_on_curve())
        .unwrap();
    assert!(point.is_on_curve());
    let mut bytes = [0; 128];
    let coordinates = [point.x.c0, point.x.c1, point.y.c0, point.y.c1];
    for (chunk, coordinate) in bytes.chunks_exact_mut(32).zip(coordinates) {
        chunk.copy_from_slice(&montgomery(coordinate));
    }
    bytes
}

/// x * 2^256 mod q, by ordinary multiplication.
fn montgomery(x: Fq) -> [u8; 32] {
    let two_to_256 = (0..256).fold(Fq::from(1u64), |product, _| product + product);
    let bytes = (x * two_to_256).into_bigint().to_bytes_le();
    bytes.try_into().unwrap()
}

fn little_endian(hexadecimal: &str) -> [u8; 32] {
    let mut bytes: [u8; 32] = hex::decode(hexadecimal).unwrap().try_into().unwrap();
    bytes.reverse();
    bytes
}

/// The key that all forgeries come from.
pub static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(semaphore_zkey(1)).unwrap());

/// A witness that fits it.
pub static WITNESS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path: &Path = &folder.path().join("w.wtns");
    semaphore_witnesses(1, &[path.to_owned()]);
    std::fs::read(path).unwrap()
});

/// Offset of the domain's size in section 2: two sizes, two primes, two counts.
const HEADER_DOMAIN: usize = 4 + 32 + 4 + 32 + 4 + 4;
/// Offset of the first point in section 2.
const HEADER_POINTS: usize = HEADER_DOMAIN + 4;

const BN254_Q: &str = "30644e72e131a029b85045b68181585d97816a916871ca8d3c208c16d87cfd47";
const BN254_R: &str = "30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
const BLS12_381_R: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000001";
