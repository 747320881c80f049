//! Hostile files through the real program. For each there is one exit code and one name; there
//! is never a panic, never a proof, and never a file left behind.
//!
//! The forgeries start from a real key (Semaphore, depth 1) and a real witness, and change one
//! thing each, so that each must be caught by the one check that is named beside it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use ark_bn254::{Fq, Fq2, G2Affine};
use ark_ff::BigInteger;
use ark_ff::PrimeField;
use caldera_tests::binfile::{Binfile, Section};
use caldera_tests::interop::{semaphore_witnesses, semaphore_zkey};
use caldera_tests::programs::{Run, run_caldera};

#[test]
fn witnesses() {
    let honest = || Binfile::parse(&WITNESS);
    let cases: [(&str, i32, &str, Vec<u8>); 12] = [
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
        ("not a witness", 80, "format", b"{\"proof\": 1}".to_vec()),
        ("empty", 80, "format", Vec::new()),
    ];
    for (name, code, class, witness) in cases {
        refused(name, &KEY, &witness, code, class);
    }
}

#[test]
fn the_container_of_a_key() {
    let honest = || Binfile::parse(&KEY);
    let mut cases: Vec<(String, i32, &str, Vec<u8>)> = Vec::new();
    let mut case = |name: &str, code, class, bytes| {
        cases.push((name.to_owned(), code, class, bytes));
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
    for (name, code, class, key) in cases {
        refused(&format!("a key {name}"), &key, &WITNESS, code, class);
    }
}

#[test]
fn the_content_of_a_key() {
    let honest = || Binfile::parse(&KEY);
    let mut cases: Vec<(String, i32, &str, Vec<u8>)> = Vec::new();
    let mut case = |name: String, code, class, bytes| {
        cases.push((name, code, class, bytes));
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
    for (name, code, class, key) in cases {
        refused(&name, &key, &WITNESS, code, class);
    }
}

/// A key whose points somebody vouched for wrongly still gives no proof: the self-check stands.
#[test]
fn trusted_points() {
    for kind in [3, 5, 6, 7, 8, 9] {
        let mut file = Binfile::parse(&KEY);
        let payload = file.section(kind);
        for byte in payload.iter_mut().skip(64).step_by(128) {
            *byte ^= 1;
        }
        let outcome = Attempt::new(&file.bytes(), &WITNESS, &["--check", "trusted"]);
        // IC is part of the verification key, which is always checked.
        let expected = if kind == 3 { 89 } else { 93 };
        assert_eq!(outcome.run.code, Some(expected), "{kind}: {}", outcome.run);
        outcome.left_nothing("a key that is trusted wrongly");
    }
}

/// Whatever byte is changed: no panic, and what still proves still proves the same.
#[test]
fn flipped_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (zkey, witness, vk) = (file("s.zkey"), file("s.wtns"), file("vk.json"));
    run_caldera([
        "setup".as_ref(),
        "--synthetic".as_ref(),
        "2^4".as_ref(),
        "-o".as_ref(),
        zkey.as_os_str(),
        "--vk".as_ref(),
        vk.as_os_str(),
    ])
    .expect_success();
    let inputs = [
        std::fs::read(&zkey).unwrap(),
        std::fs::read(&witness).unwrap(),
    ];

    // A fixed sequence (Knuth's MMIX constants): a failure here can be repeated.
    let mut state: u64 = 2;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for round in 0..160 {
        let mut changed = inputs.clone();
        // Half of the changes fall into the first bytes, where the tables and headers are.
        let bytes = &mut changed[round % 2];
        let at = random(if round % 4 < 2 { 400 } else { bytes.len() });
        let bit = 1 << random(8);
        bytes[at] ^= bit;
        let outcome = Attempt::new(&changed[0], &changed[1], &["--development"]);
        let what = format!("file {}, byte {at}, bit {bit}", round % 2);
        match outcome.run.code {
            Some(0) => {
                run_caldera([
                    "verify".as_ref(),
                    &*vk,
                    &*outcome.public(),
                    &*outcome.proof(),
                ])
                .expect_success();
            }
            Some(65 | 79..=93) => outcome.left_nothing(&what),
            _ => panic!("{what}: {}", outcome.run),
        }
    }
}

#[test]
fn files_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let (zkey, witness) = (folder.path().join("k.zkey"), folder.path().join("w.wtns"));
    std::fs::write(&zkey, &*KEY).unwrap();
    std::fs::write(&witness, &*WITNESS).unwrap();
    let public = folder.path().join("public.json");
    let nowhere = folder.path().join("no/such/folder/proof.json");
    let missing = folder.path().join("missing");
    for (zkey, witness, proof) in [
        (&missing, &witness, &folder.path().join("proof.json")),
        (&zkey, &missing, &folder.path().join("proof.json")),
        (&zkey, &witness, &nowhere),
        (&zkey, &witness, &folder.path().to_owned()),
    ] {
        let run = run_caldera(["prove".as_ref(), &**zkey, &**witness, &**proof, &*public])
            .expect_code(74);
        assert!(run.stderr.contains("[files]"), "{run}");
        assert!(!public.exists());
        assert!(!proof.is_file());
    }
    run_caldera(["prove"]).expect_code(2);
}

/// Failures are JSON too, where JSON is asked for.
#[test]
fn failures_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.zkey");
    std::fs::write(&path, &KEY[..1000]).unwrap();
    let run =
        run_caldera(["--json".as_ref(), "inspect".as_ref(), path.as_os_str()]).expect_code(81);
    let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["error"]["class"], "truncated");
    assert_eq!(document["error"]["exitCode"], 81);
    let message = document["error"]["message"].as_str().unwrap();
    assert!(message.contains("cut.zkey"), "{message}");
}

fn refused(name: &str, zkey: &[u8], witness: &[u8], code: i32, class: &str) {
    let outcome = Attempt::new(zkey, witness, &[]);
    let run = &outcome.run;
    assert_eq!(run.code, Some(code), "{name}: expected {class}: {run}");
    assert!(run.stderr.contains(&format!("[{class}]")), "{name}: {run}");
    outcome.left_nothing(name);
}

/// One run of `caldera prove` on bytes, in a folder of its own.
struct Attempt {
    folder: tempfile::TempDir,
    run: Run,
}

impl Attempt {
    fn new(zkey: &[u8], witness: &[u8], options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        std::fs::write(file("k.zkey"), zkey).unwrap();
        std::fs::write(file("w.wtns"), witness).unwrap();
        std::fs::create_dir(file("out")).unwrap();
        let mut arguments = vec![PathBuf::from("prove")];
        arguments.extend(["k.zkey", "w.wtns", "out/proof.json", "out/public.json"].map(file));
        arguments.extend(options.iter().map(PathBuf::from));
        let run = run_caldera(arguments);
        assert!(!run.stderr.contains("panicked"), "{run}");
        Self { folder, run }
    }

    fn proof(&self) -> PathBuf {
        self.folder.path().join("out/proof.json")
    }

    fn public(&self) -> PathBuf {
        self.folder.path().join("out/public.json")
    }

    fn left_nothing(&self, name: &str) {
        let left = std::fs::read_dir(self.folder.path().join("out")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{name}: left {left:?}");
    }
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

static KEY: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(semaphore_zkey(1)).unwrap());

static WITNESS: LazyLock<Vec<u8>> = LazyLock::new(|| {
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
