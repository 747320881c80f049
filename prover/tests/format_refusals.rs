//! Files that must be read, and files that must be refused, each for its own reason.
//!
//! Every refusal is compared with the whole error that it should be: kind, section, offset,
//! expected and got. So two reasons cannot fall together, and an error cannot point elsewhere.

mod format_builder;

use bytes::Bytes;
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs, TargetElement, VerificationKey};
use caldera_prover::format::{
    ContributionFault, ContributionKind, DEVELOPMENT_SECTION, File, FormatError, Part, R1cs, Wtns,
    Zkey, ZkeyHeader, ZkeyWriteError, ZkeyWriter, sections,
};
use num_bigint::BigUint;

use format_builder::{
    COEFFICIENTS, CURVES, Curve, DOMAIN, PUBLIC, Parts, WIRES, little_endian, proof, public, r1cs,
    verification_key, wtns, zkey,
};

const BN254: Curve = Curve::Bn254;

fn id(curve: Curve) -> CurveId {
    match curve {
        Curve::Bn254 => CurveId::Bn254,
        Curve::Bls12381 => CurveId::Bls12_381,
    }
}

fn read_zkey(parts: &Parts) -> Result<Zkey, FormatError> {
    Zkey::parse(Bytes::from(parts.bytes()))
}

fn zkey_error(parts: &Parts) -> FormatError {
    read_zkey(parts).expect_err("the key must be refused")
}

fn wtns_error(parts: &Parts) -> FormatError {
    Wtns::parse(Bytes::from(parts.bytes())).expect_err("the witness must be refused")
}

fn r1cs_error(parts: &Parts) -> FormatError {
    R1cs::parse(Bytes::from(parts.bytes())).expect_err("the constraints must be refused")
}

/// Reads a file that must be refused.
type Refuse = fn(&Parts) -> FormatError;

// ---- the container ----

#[test]
fn sections_may_lie_in_any_order_among_unknown_ones() {
    let mut parts = zkey(BN254).with(77, b"unknown").with(u32::MAX, b"");
    for turn in 0..parts.sections.len() {
        parts.sections.rotate_left(1);
        if turn % 2 == 0 {
            parts.sections.reverse();
        }
        read_zkey(&parts).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
    }
}

#[test]
fn versions_are_accepted_as_snarkjs_accepts_them() {
    let cases = [(zkey(BN254), 2), (wtns(BN254), 2), (r1cs(BN254), 1)];
    let files = [File::Zkey, File::Wtns, File::R1cs];
    for ((mut parts, expected_max), file) in cases.into_iter().zip(files) {
        for version in 0..=expected_max {
            parts.version = version;
            sections(file, &parts.bytes()).expect("a version that snarkjs accepts");
        }
        let got = expected_max + 1;
        parts.version = got;
        assert_eq!(
            sections(file, &parts.bytes()),
            Err(FormatError::Version {
                file,
                expected_max,
                got
            })
        );
    }
}

#[test]
fn another_magic_is_refused() {
    let (file, expected) = (File::Zkey, *b"zkey");
    for got in [&b"wtns\x02\0\0\0"[..], b"zke", b""] {
        let error = Zkey::parse(Bytes::from_static(got)).expect_err("not a key");
        let got = got[..got.len().min(4)].to_vec();
        assert_eq!(
            error,
            FormatError::Magic {
                file,
                expected,
                got
            }
        );
    }
    assert_eq!(File::of_magic(b"wtns\x02\0\0\0"), Some(File::Wtns));
    assert_eq!(File::of_magic(b"ptau\x01\0\0\0"), None);
}

#[test]
fn a_file_that_ends_within_the_table_is_refused() {
    let bytes = wtns(BN254).bytes();
    let second = 12 + 12 + 40;
    let cases = [
        (6, "the version", 4, 2),
        (8, "the count of sections", 8, 0),
        (second + 3, "the type of a section", second, 3),
        (second + 4, "the length of a section", second + 4, 0),
        (second + 9, "the length of a section", second + 8, 1),
    ];
    for (cut, what, offset, got) in cases {
        let error = Wtns::parse(Bytes::copy_from_slice(&bytes[..cut])).expect_err("cut");
        let (file, offset, expected) = (File::Wtns, offset as u64, 4);
        assert_eq!(
            error,
            FormatError::FileShort {
                file,
                what,
                offset,
                expected,
                got
            }
        );
    }
}

#[test]
fn a_section_that_reaches_beyond_the_end_is_refused() {
    let parts = wtns(BN254);
    let (file, offset) = (File::Wtns, parts.offset(2));
    let whole = parts.bytes();
    let mut cut = whole.clone();
    cut.pop();
    assert_eq!(
        Wtns::parse(Bytes::from(cut)).err(),
        Some(FormatError::SectionBeyondEnd {
            file,
            section: 2,
            offset,
            expected_max: 159,
            got: 160
        })
    );
    // Lengths at which sums of 32 or 64 bits would wrap around to something that fits.
    for got in [
        1 << 32,
        u64::MAX,
        u64::MAX - 11,
        u64::MAX - offset + 1,
        1 << 63,
    ] {
        let mut wrapped = whole.clone();
        wrapped[offset as usize - 8..offset as usize].copy_from_slice(&got.to_le_bytes());
        let expected_max = 160;
        assert_eq!(
            Wtns::parse(Bytes::from(wrapped)).err(),
            Some(FormatError::SectionBeyondEnd {
                file,
                section: 2,
                offset,
                expected_max,
                got
            })
        );
    }
}

#[test]
fn bytes_after_the_last_section_are_refused() {
    let mut bytes = zkey(BN254).bytes();
    let offset = bytes.len() as u64;
    bytes.extend(b"abc");
    assert_eq!(
        Zkey::parse(Bytes::from(bytes)).err(),
        Some(FormatError::TrailingBytes {
            file: File::Zkey,
            offset,
            got: 3
        })
    );
}

#[test]
fn a_section_that_occurs_twice_is_refused() {
    for section in [1, 2, 5, 10, 77] {
        let parts = zkey(BN254).with(77, b"unknown");
        let first = parts.offset(section);
        let twice = parts
            .clone()
            .with(section, &parts.clone().section(section).clone());
        let second = twice.bytes().len() as u64 - twice.sections.last().unwrap().1.len() as u64;
        assert_eq!(
            zkey_error(&twice),
            FormatError::SectionTwice {
                file: File::Zkey,
                section,
                first,
                second
            }
        );
    }
}

#[test]
fn more_sections_than_any_file_has_are_refused() {
    let mut bytes = zkey(BN254).bytes();
    for got in [65, u32::MAX] {
        bytes[8..12].copy_from_slice(&got.to_le_bytes());
        assert_eq!(
            Zkey::parse(Bytes::from(bytes.clone())).err(),
            Some(FormatError::SectionCount {
                file: File::Zkey,
                expected_max: 64,
                got
            })
        );
    }
}

#[test]
fn each_section_is_needed() {
    let names = [
        (1, "protocol"),
        (2, "header"),
        (3, "IC"),
        (4, "coefficients"),
        (5, "A"),
        (6, "B1"),
        (7, "B2"),
        (8, "C"),
        (9, "H"),
    ];
    for (section, name) in names {
        assert_eq!(
            zkey_error(&zkey(BN254).without(section)),
            FormatError::SectionMissing {
                file: File::Zkey,
                section,
                name
            }
        );
    }
    let cases = [(1, "header"), (2, "elements")];
    for (section, name) in cases {
        assert_eq!(
            wtns_error(&wtns(BN254).without(section)),
            FormatError::SectionMissing {
                file: File::Wtns,
                section,
                name
            }
        );
    }
    let cases = [(1, "header"), (2, "constraints")];
    for (section, name) in cases {
        assert_eq!(
            r1cs_error(&r1cs(BN254).without(section)),
            FormatError::SectionMissing {
                file: File::R1cs,
                section,
                name
            }
        );
    }
}

#[test]
fn headers_end_with_their_last_field() {
    let cases: [(File, Parts, Refuse, u64); 3] = [
        (File::Zkey, zkey(BN254), zkey_error, 4),
        (File::Wtns, wtns(BN254), wtns_error, 40),
        (File::R1cs, r1cs(BN254), r1cs_error, 64),
    ];
    for (file, mut parts, error, expected) in cases {
        parts.section(1).push(0);
        let (section, offset, got) = (1, parts.offset(1), expected + 1);
        assert_eq!(
            error(&parts),
            FormatError::SectionLength {
                file,
                section,
                offset,
                expected,
                got
            }
        );
    }
}

/// A key whose coefficients alone pass 4 GiB. The pages between the ends of its sections are
/// never touched, neither by this test nor by the reader, so they never exist.
#[test]
#[cfg(target_pointer_width = "64")]
fn offsets_beyond_four_gibibytes_hold() {
    let count = 100_000_000u32;
    let mut parts = zkey(BN254);
    let at = parts
        .sections
        .iter()
        .position(|(kind, _)| *kind == 4)
        .expect("section 4");
    let tail = Parts {
        sections: parts.sections.split_off(at + 1),
        ..parts.clone()
    };
    parts.sections.pop();
    let head = parts.bytes();
    let len = 4 + u64::from(count) * 44;
    let tail = &tail.bytes()[12..];

    let start = head.len() + 12;
    let mut bytes = vec![0; start + len as usize + tail.len()];
    bytes[..head.len()].copy_from_slice(&head);
    bytes[8..12].copy_from_slice(&10u32.to_le_bytes());
    bytes[head.len()..start - 8].copy_from_slice(&4u32.to_le_bytes());
    bytes[start - 8..start].copy_from_slice(&len.to_le_bytes());
    bytes[start..start + 4].copy_from_slice(&count.to_le_bytes());
    bytes[start + len as usize..].copy_from_slice(tail);
    let last = start + len as usize - 44;
    bytes[last + 8..last + 12].copy_from_slice(&WIRES.to_le_bytes());

    let key = Zkey::parse(Bytes::from(bytes)).expect("a large key");
    assert_eq!(key.coefficient_count(), count as usize);
    assert_eq!(key.part(Part::B2)[..], [17; 5 * 128]);
    assert_eq!(
        key.check_coefficients(count as usize - 1..usize::MAX),
        Err(FormatError::Coefficient {
            index: u64::from(count) - 1,
            offset: last as u64,
            what: "signal",
            expected: WIRES,
            got: WIRES
        })
    );
    assert!(last as u64 > 1 << 32);
}

// ---- keys ----

#[test]
fn a_key_is_read_as_it_lies() {
    for curve in CURVES {
        let key = read_zkey(&zkey(curve)).expect("a whole key");
        let (g1, g2) = (2 * curve.n8q(), 4 * curve.n8q());
        let header = key.header();
        assert_eq!(key.curve(), id(curve));
        assert_eq!(
            (header.wires, header.public, header.domain),
            (WIRES, PUBLIC, DOMAIN)
        );
        assert_eq!(header.alpha_g1, vec![1; g1]);
        assert_eq!(header.beta_g1, vec![2; g1]);
        assert_eq!(header.beta_g2, vec![3; g2]);
        assert_eq!(header.gamma_g2, vec![4; g2]);
        assert_eq!(header.delta_g1, vec![5; g1]);
        assert_eq!(header.delta_g2, vec![6; g2]);
        assert_eq!(key.part(Part::Ic)[..], vec![13; 2 * g1]);
        assert_eq!(key.part(Part::A)[..], vec![15; 5 * g1]);
        assert_eq!(key.part(Part::B1)[..], vec![16; 5 * g1]);
        assert_eq!(key.part(Part::B2)[..], vec![17; 5 * g2]);
        assert_eq!(key.part(Part::C)[..], vec![18; 3 * g1]);
        assert_eq!(key.part(Part::H)[..], vec![19; 4 * g1]);
        assert_eq!(key.part(Part::Coefficients).len(), 3 * 44);
        assert_eq!(key.coefficient_count(), COEFFICIENTS as usize);
        key.check_coefficients(0..usize::MAX)
            .expect("good coefficients");
        assert_eq!(key.development(), None);

        let ceremony = key.contributions().expect("a ceremony");
        assert_eq!(ceremony.circuit_hash, [7; 64]);
        let list: Vec<_> = ceremony
            .list
            .iter()
            .map(|it| (it.kind, it.name.as_deref()))
            .collect();
        let expected = [
            (ContributionKind::Contribution, Some("Alice")),
            (ContributionKind::Beacon, Some("end")),
        ];
        assert_eq!(list, expected);
        assert_eq!(key.contribution_count(), 2);
    }
}

#[test]
fn a_key_without_contributions_says_so() {
    let none = read_zkey(&zkey(BN254).without(10)).expect("section 10 may be absent");
    assert_eq!(none.contribution_count(), 0);
    assert!(none.contributions().is_none());
    let mut empty = zkey(BN254);
    *empty.section(10) = vec![0; 68];
    let empty = read_zkey(&empty).expect("a ceremony may be empty");
    assert_eq!(empty.contribution_count(), 0);
    assert!(empty.contributions().is_some());
}

#[test]
fn other_protocols_are_refused_by_name() {
    for (protocol, name) in [(2u32, "plonk"), (10, "fflonk"), (0, "0"), (7, "7")] {
        let (file, got) = (File::Zkey, name.to_owned());
        assert_eq!(
            zkey_error(&zkey(BN254).set(1, 0, &protocol.to_le_bytes())),
            FormatError::Protocol { file, got }
        );
    }
}

#[test]
fn primes_must_be_those_of_one_known_curve() {
    let file = File::Zkey;
    let parts = zkey(BN254);
    let offset = parts.offset(2);
    let refused = |at: usize, bytes: &[u8]| zkey_error(&zkey(BN254).set(2, at, bytes));
    for got in [0, 31, 33, u32::MAX] {
        let (section, field, bytes) = (2, 'q', got.to_le_bytes());
        let expected = "32 or 48";
        assert_eq!(
            refused(0, &bytes),
            FormatError::FieldSize {
                file,
                section,
                offset,
                field,
                expected,
                got
            }
        );
        let (field, expected, offset) = ('r', "32", offset + 36);
        assert_eq!(
            refused(36, &bytes),
            FormatError::FieldSize {
                file,
                section,
                offset,
                field,
                expected,
                got
            }
        );
    }
    let expected = "BN254 or BLS12-381";
    for (field, at, prime) in [('q', 4, BN254.q()), ('r', 40, BN254.r())] {
        let other: BigUint = prime + 2u32;
        let (section, offset, got) = (2, offset + at as u64, format!("{other:064x}"));
        assert_eq!(
            refused(at, &little_endian(&other, 32)),
            FormatError::Prime {
                file,
                section,
                offset,
                field,
                expected,
                got
            }
        );
    }
    let r = Curve::Bls12381.r();
    assert_eq!(
        refused(40, &little_endian(&r, 32)),
        FormatError::Prime {
            file,
            section: 2,
            offset: offset + 40,
            field: 'r',
            expected: "the curve that q is of",
            got: format!("{r:064x}"),
        }
    );
}

#[test]
fn counts_must_agree() {
    let set = |at: usize, count: u32| zkey_error(&zkey(BN254).set(2, at, &count.to_le_bytes()));
    let (wires, public, domain) = (72, 76, 80);
    let (file, what) = (File::Zkey, "the count of wires");
    assert_eq!(
        set(wires, 1),
        FormatError::Count {
            file,
            what,
            expected_min: 2,
            got: 1
        }
    );
    assert_eq!(
        set(public, u32::MAX),
        FormatError::Count {
            file,
            what,
            expected_min: 1 << 32,
            got: 5
        }
    );
    let (expected_min, expected_max) = (2, 1 << 28);
    for got in [0, 1, 3, 6, 1 << 29, u32::MAX] {
        assert_eq!(
            set(domain, got),
            FormatError::Domain {
                expected_min,
                expected_max,
                got
            }
        );
    }
    // Rows for five public wires and the constant do not fit into a domain of four.
    let mut parts = zkey(BN254).set(2, wires, &9u32.to_le_bytes());
    parts = parts.set(2, public, &5u32.to_le_bytes());
    assert_eq!(
        zkey_error(&parts),
        FormatError::Domain {
            expected_min: 8,
            expected_max,
            got: 4
        }
    );
}

#[test]
fn a_header_of_another_length_is_refused() {
    let file = File::Zkey;
    let mut short = zkey(BN254);
    short.section(2).pop();
    let offset = short.offset(2) + 660 - 128;
    let (section, what, expected, got) = (2, "delta in G2", 128, 127);
    assert_eq!(
        zkey_error(&short),
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );
    let mut long = zkey(BN254);
    long.section(2).push(0);
    let (offset, expected, got) = (long.offset(2), 660, 661);
    assert_eq!(
        zkey_error(&long),
        FormatError::SectionLength {
            file,
            section,
            offset,
            expected,
            got
        }
    );
}

#[test]
fn each_part_must_be_as_long_as_the_header_says() {
    let file = File::Zkey;
    for section in 3..=9 {
        for (longer, difference) in [(true, 1), (true, 64), (false, 1), (false, 64)] {
            let mut parts = zkey(BN254);
            let content = parts.section(section);
            let expected = content.len() as u64;
            let len = if longer {
                content.len() + difference
            } else {
                content.len() - difference
            };
            content.resize(len, 0);
            let (offset, got) = (parts.offset(section), len as u64);
            assert_eq!(
                zkey_error(&parts),
                FormatError::SectionLength {
                    file,
                    section,
                    offset,
                    expected,
                    got
                }
            );
        }
    }
    // rapidsnark divides and rounds; here the count and the length must agree.
    let counted = zkey(BN254).set(4, 0, &u32::MAX.to_le_bytes());
    let (section, offset) = (4, counted.offset(4));
    let (expected, got) = (4 + u64::from(u32::MAX) * 44, 4 + 3 * 44);
    assert_eq!(
        zkey_error(&counted),
        FormatError::SectionLength {
            file,
            section,
            offset,
            expected,
            got
        }
    );
}

#[test]
fn coefficients_must_lie_within_the_matrices() {
    let entry = 4 + 44;
    let cases = [
        (0, "matrix", 2),
        (4, "constraint", DOMAIN),
        (8, "signal", WIRES),
    ];
    for (at, what, expected) in cases {
        for got in [expected, u32::MAX] {
            let parts = zkey(BN254).set(4, entry + at, &got.to_le_bytes());
            let key = read_zkey(&parts).expect("entries are not looked at yet");
            let offset = parts.offset(4) + entry as u64;
            let error = FormatError::Coefficient {
                index: 1,
                offset,
                what,
                expected,
                got,
            };
            assert_eq!(key.check_coefficients(0..3), Err(error.clone()));
            assert_eq!(key.check_coefficients(1..2), Err(error));
            assert_eq!(key.check_coefficients(0..1), Ok(()));
            assert_eq!(key.check_coefficients(2..3), Ok(()));
        }
    }
}

#[test]
fn coefficients_must_be_below_the_modulus() {
    for curve in CURVES {
        for above in [0u32, 1] {
            let value = little_endian(&(curve.r() + above), 32);
            let parts = zkey(curve).set(4, 4 + 2 * 44 + 12, &value);
            let offset = parts.offset(4) + 4 + 2 * 44 + 12;
            let key = read_zkey(&parts).expect("entries are not looked at yet");
            assert_eq!(
                key.check_coefficients(0..3),
                Err(FormatError::CoefficientValue { index: 2, offset })
            );
        }
    }
}

#[test]
fn contributions_that_cannot_be_read_are_refused() {
    let points = 3 * 64 + 128 + 64;
    let first = 68 + points;
    let parts = zkey(BN254);
    let start = parts.offset(10);
    let refused = |at: usize, bytes: &[u8], fault_at: usize, fault: ContributionFault| {
        let offset = start + fault_at as u64;
        let error = zkey_error(&zkey(BN254).set(10, at, bytes));
        assert_eq!(
            error,
            FormatError::Contribution {
                index: 0,
                offset,
                fault
            }
        );
    };
    refused(first, &[2], first, ContributionFault::Kind { got: 2 });
    let parameters = first + 8;
    refused(
        parameters,
        &[4],
        parameters,
        ContributionFault::Parameter { got: 4 },
    );
    let order = ContributionFault::ParameterOrder { last: 0, got: 0 };
    refused(parameters, &[0], parameters, order);
    let order = ContributionFault::ParameterOrder { last: 1, got: 1 };
    refused(parameters + 1, &[1, b'A', 1], parameters + 3, order);
    let short = ContributionFault::ParameterShort {
        expected: 7,
        got: 6,
    };
    refused(parameters + 1, &[6], parameters + 1, short);

    let file = File::Zkey;
    let (section, what, got) = (10, "the parameters of a contribution", 7 + points + 8 + 13);
    let error = zkey_error(&zkey(BN254).set(10, first + 4, &u32::MAX.to_le_bytes()));
    let (offset, expected, got) = (start + parameters as u64, u32::MAX.into(), got as u64);
    assert_eq!(
        error,
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );

    let (what, expected, got) = ("a contribution", points as u64, 0);
    let error = zkey_error(&zkey(BN254).set(10, 64, &u32::MAX.to_le_bytes()));
    let offset = start + parts.clone().section(10).len() as u64;
    assert_eq!(
        error,
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );

    let error = zkey_error(&zkey(BN254).set(10, 64, &1u32.to_le_bytes()));
    let (expected, got) = (
        (parameters + 7) as u64,
        parts.clone().section(10).len() as u64,
    );
    let offset = start;
    assert_eq!(
        error,
        FormatError::SectionLength {
            file,
            section,
            offset,
            expected,
            got
        }
    );
}

#[test]
fn a_development_mark_is_a_short_text() {
    let marked = zkey(BN254).with(DEVELOPMENT_SECTION, "made by hand".as_bytes());
    let key = read_zkey(&marked).expect("a marked key");
    assert_eq!(key.development(), Some("made by hand"));
    for mark in [&[b'a'; 1025][..], b"\xff"] {
        assert_eq!(
            zkey_error(&zkey(BN254).with(DEVELOPMENT_SECTION, mark)),
            FormatError::DevelopmentMark { expected_max: 1024 }
        );
    }
}

// ---- writing keys ----

fn header(curve: Curve) -> ZkeyHeader {
    read_zkey(&zkey(curve))
        .expect("a whole key")
        .header()
        .clone()
}

#[test]
fn a_written_key_is_what_was_read() {
    for curve in CURVES {
        // What a writer makes: sections in rising order, no contribution, the mark.
        let mut expected = zkey(curve).with(DEVELOPMENT_SECTION, b"a mark");
        *expected.section(10) = vec![0; 68];
        expected.sections.sort_by_key(|(kind, _)| *kind);
        let key = read_zkey(&expected).expect("a whole key");
        for piece_len in [1, 7, 64, usize::MAX] {
            let mut writer = ZkeyWriter::new(
                Vec::new(),
                key.header().clone(),
                COEFFICIENTS,
                key.development(),
            )
            .expect("a good header");
            for part in Part::ALL {
                for piece in key.part(part).chunks(piece_len) {
                    writer.write(part, piece).expect("a piece in its place");
                }
            }
            let bytes = writer.finish().expect("a whole key");
            assert!(
                bytes == expected.bytes(),
                "{curve:?} in pieces of {piece_len}"
            );
        }
    }
}

#[test]
fn parts_may_be_empty() {
    let header = ZkeyHeader {
        wires: PUBLIC + 1,
        ..header(BN254)
    };
    let mut writer = ZkeyWriter::new(Vec::new(), header, 0, None).expect("a good header");
    let lens = [
        (Part::Ic, 128),
        (Part::A, 128),
        (Part::B1, 128),
        (Part::B2, 256),
        (Part::H, 256),
    ];
    for (part, len) in lens {
        writer
            .write(part, &vec![0; len])
            .expect("a part in its place");
    }
    let key = Zkey::parse(writer.finish().expect("a whole key").into()).expect("a whole key");
    assert_eq!(key.coefficient_count(), 0);
    assert!(key.part(Part::C).is_empty());
    assert_eq!(key.contribution_count(), 0);
    assert_eq!(key.development(), None);
}

#[test]
fn a_writer_holds_parts_to_their_order_and_length() {
    let begin = || ZkeyWriter::new(Vec::new(), header(BN254), 1, None).expect("a good header");
    let mut writer = begin();
    writer.write(Part::H, &[]).expect("nothing is nothing");
    assert!(matches!(
        writer.write(Part::A, &[0]),
        Err(ZkeyWriteError::Order {
            expected: Some(Part::Ic),
            got: Part::A
        })
    ));
    assert!(matches!(
        writer.write(Part::Ic, &[0; 129]),
        Err(ZkeyWriteError::Length {
            part: Part::Ic,
            expected_max: 128,
            got: 129
        })
    ));
    writer.write(Part::Ic, &[0; 128]).expect("a whole part");
    assert!(matches!(
        writer.write(Part::Ic, &[0]),
        Err(ZkeyWriteError::Order {
            expected: Some(Part::Coefficients),
            got: Part::Ic
        })
    ));
    writer
        .write(Part::Coefficients, &[0; 40])
        .expect("most of a part");
    assert!(matches!(
        writer.finish(),
        Err(ZkeyWriteError::Unfinished {
            part: Part::Coefficients,
            left: 4
        })
    ));

    let point = ZkeyHeader {
        delta_g2: Bytes::from_static(&[0; 64]),
        ..header(BN254)
    };
    assert!(matches!(
        ZkeyWriter::new(Vec::new(), point, 1, None),
        Err(ZkeyWriteError::Point {
            expected: 128,
            got: 64
        })
    ));
    let domain = ZkeyHeader {
        domain: 6,
        ..header(BN254)
    };
    assert!(matches!(
        ZkeyWriter::new(Vec::new(), domain, 1, None),
        Err(ZkeyWriteError::Format(FormatError::Domain { got: 6, .. }))
    ));
    assert!(matches!(
        ZkeyWriter::new(Vec::new(), header(BN254), 1, Some(&"a".repeat(1025))),
        Err(ZkeyWriteError::Format(FormatError::DevelopmentMark { .. }))
    ));
}

// ---- witnesses ----

#[test]
fn a_witness_is_read_and_written_as_it_lies() {
    for curve in CURVES {
        let bytes = Bytes::from(wtns(curve).bytes());
        let witness = Wtns::parse(bytes.clone()).expect("a whole witness");
        assert_eq!(witness.curve(), id(curve));
        assert_eq!(witness.len(), 5);
        assert_eq!(witness.elements()[..], bytes[76..]);
        witness.check(0..usize::MAX).expect("good elements");
        let mut written = Vec::new();
        witness.write(&mut written).expect("a vector takes all");
        assert_eq!(written, bytes);
        let made = Wtns::from_elements(id(curve), witness.elements().clone()).expect("the same");
        let mut written = Vec::new();
        made.write(&mut written).expect("a vector takes all");
        assert_eq!(written, bytes);
    }
}

#[test]
fn a_witness_shows_nothing_of_itself() {
    let witness = Wtns::parse(wtns(BN254).bytes().into()).expect("a whole witness");
    assert_eq!(format!("{witness:?}"), "Wtns { curve: Bn254, len: 5, .. }");
}

#[test]
fn a_witness_of_another_field_is_refused() {
    let file = File::Wtns;
    let (section, field, expected, offset) = (1, 'r', "32", 24);
    for got in [8u32, 48] {
        let error = wtns_error(&wtns(BN254).set(1, 0, &got.to_le_bytes()));
        assert_eq!(
            error,
            FormatError::FieldSize {
                file,
                section,
                offset,
                field,
                expected,
                got
            }
        );
    }
    let (expected, offset) = ("BN254 or BLS12-381", 28);
    let got = format!("{:064x}", BN254.q());
    let error = wtns_error(&wtns(BN254).set(1, 4, &little_endian(&BN254.q(), 32)));
    assert_eq!(
        error,
        FormatError::Prime {
            file,
            section,
            offset,
            field,
            expected,
            got
        }
    );
}

#[test]
fn a_witness_of_another_length_than_it_says_is_refused() {
    let (file, section, offset, got) = (File::Wtns, 2, 76, 160);
    for count in [0, 4, 6, u32::MAX] {
        let expected = u64::from(count) * 32;
        assert_eq!(
            wtns_error(&wtns(BN254).set(1, 36, &count.to_le_bytes())),
            FormatError::SectionLength {
                file,
                section,
                offset,
                expected,
                got
            }
        );
    }
    let mut empty = wtns(BN254).set(1, 36, &[0; 4]);
    empty.section(2).clear();
    let count = FormatError::Count {
        file,
        what: "the count of elements",
        expected_min: 1,
        got: 0,
    };
    assert_eq!(wtns_error(&empty), count);
    assert_eq!(
        Wtns::from_elements(CurveId::Bn254, Bytes::new()).err(),
        Some(count)
    );
    assert_eq!(
        Wtns::from_elements(CurveId::Bn254, Bytes::from_static(&[1; 33])).err(),
        Some(FormatError::SectionLength {
            file,
            section,
            offset,
            expected: 32,
            got: 33
        })
    );
}

#[test]
fn the_first_element_must_be_one() {
    for (at, value) in [(0, 2), (0, 0), (31, 1), (1, 1)] {
        let error = wtns_error(&wtns(BN254).set(2, at, &[value]));
        assert_eq!(error, FormatError::WitnessOne { offset: 76 });
    }
}

#[test]
fn elements_must_be_below_the_modulus() {
    for curve in CURVES {
        for value in [
            curve.r(),
            curve.r() + 1u32,
            (BigUint::from(1u32) << 256) - 1u32,
        ] {
            let parts = wtns(curve).set(2, 3 * 32, &little_endian(&value, 32));
            let witness =
                Wtns::parse(parts.bytes().into()).expect("elements are not looked at yet");
            let error = FormatError::WitnessElement {
                index: 3,
                offset: 76 + 96,
            };
            assert_eq!(witness.check(0..5), Err(error.clone()));
            assert_eq!(witness.check(3..4), Err(error));
            assert_eq!(witness.check(0..3), Ok(()));
            assert_eq!(witness.check(4..5), Ok(()));
        }
    }
}

// ---- constraint systems ----

#[test]
fn constraints_are_read_as_they_lie() {
    for curve in CURVES {
        let system = R1cs::parse(r1cs(curve).bytes().into()).expect("a whole system");
        assert_eq!(system.curve(), id(curve));
        assert_eq!((system.wires(), system.public_count()), (5, 1));
        assert_eq!((system.public_outputs(), system.public_inputs()), (1, 0));
        assert_eq!((system.private_inputs(), system.constraint_count()), (2, 2));
        let read: Vec<[Vec<(u32, BigUint)>; 3]> = system
            .constraints()
            .map(|it| {
                [it.a, it.b, it.c].map(|combination| {
                    let terms = combination.terms();
                    let terms: Vec<_> = terms
                        .map(|(wire, it)| (wire, BigUint::from_bytes_le(it)))
                        .collect();
                    assert_eq!(terms.len(), combination.len());
                    assert_eq!(terms.is_empty(), combination.is_empty());
                    terms
                })
            })
            .collect();
        let (one, minus_one) = (BigUint::from(1u32), curve.r() - 1u32);
        let expected = [
            [
                vec![(2, minus_one.clone())],
                vec![(3, one.clone())],
                vec![(4, minus_one)],
            ],
            [
                vec![(0, one.clone()), (4, one.clone())],
                vec![],
                vec![(1, one)],
            ],
        ];
        assert_eq!(read, expected);
    }
}

#[test]
fn terms_must_be_on_wires_that_exist() {
    for got in [WIRES, u32::MAX] {
        let parts = r1cs(BN254).set(2, 4, &got.to_le_bytes());
        let (constraint, offset, expected) = (0, parts.offset(2) + 4, WIRES);
        assert_eq!(
            r1cs_error(&parts),
            FormatError::ConstraintWire {
                constraint,
                offset,
                expected,
                got
            }
        );
    }
}

#[test]
fn terms_must_be_below_the_modulus() {
    // Constraint 0 has three combinations of one term; then a count and two terms of 36 bytes.
    let at = 3 * 40 + 4 + 36 + 4;
    let parts = r1cs(BN254).set(2, at, &little_endian(&BN254.r(), 32));
    let (constraint, offset) = (1, parts.offset(2) + at as u64);
    assert_eq!(
        r1cs_error(&parts),
        FormatError::ConstraintValue { constraint, offset }
    );
}

#[test]
fn constraints_must_fill_their_section() {
    let file = File::R1cs;
    let (section, what) = (2, "the terms of C");
    let mut short = r1cs(BN254);
    short.section(2).pop();
    let offset = short.offset(2) + short.clone().section(2).len() as u64 - 35;
    let (expected, got) = (36, 35);
    assert_eq!(
        r1cs_error(&short),
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );
    let mut long = r1cs(BN254);
    long.section(2).push(0);
    let (offset, got) = (long.offset(2), long.section(2).len() as u64);
    let expected = got - 1;
    assert_eq!(
        r1cs_error(&long),
        FormatError::SectionLength {
            file,
            section,
            offset,
            expected,
            got
        }
    );
    let counted = r1cs(BN254).set(2, 0, &u32::MAX.to_le_bytes());
    let (what, offset, expected) = (
        "the terms of A",
        counted.offset(2) + 4,
        u64::from(u32::MAX) * 36,
    );
    let got = counted.clone().section(2).len() as u64 - 4;
    assert_eq!(
        r1cs_error(&counted),
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );
    // A count of constraints that nothing backs must cost nothing.
    let many = r1cs(BN254).set(1, 60, &u32::MAX.to_le_bytes());
    let offset = many.offset(2) + many.clone().section(2).len() as u64;
    let (expected, got) = (4, 0);
    assert_eq!(
        r1cs_error(&many),
        FormatError::SectionShort {
            file,
            section,
            what,
            offset,
            expected,
            got
        }
    );
}

#[test]
fn public_wires_must_fit_among_the_wires() {
    let (file, what, got) = (File::R1cs, "the count of wires", 5);
    // Four outputs beside the constant fit into five wires.
    R1cs::parse(r1cs(BN254).set(1, 40, &4u32.to_le_bytes()).bytes().into()).expect("they fit");
    let cases = [(40, 5, 6), (44, 4, 6), (40, u32::MAX, 1 << 32)];
    for (at, count, expected_min) in cases {
        assert_eq!(
            r1cs_error(&r1cs(BN254).set(1, at, &count.to_le_bytes())),
            FormatError::Count {
                file,
                what,
                expected_min,
                got
            }
        );
    }
    let none = r1cs(BN254).set(1, 36, &0u32.to_le_bytes());
    assert_eq!(
        r1cs_error(&none),
        FormatError::Count {
            file,
            what,
            expected_min: 2,
            got: 0
        }
    );
}

#[test]
fn custom_gates_are_refused_and_their_absence_is_not() {
    for section in [4, 5] {
        for nothing in [&[][..], &[0; 4]] {
            let parts = r1cs(BN254).with(section, nothing);
            R1cs::parse(parts.bytes().into()).expect("no gates");
        }
        for gates in [&[1, 0, 0, 0][..], &[0; 5], &[0; 3]] {
            let parts = r1cs(BN254).with(section, gates);
            let offset = parts.offset(section);
            assert_eq!(
                r1cs_error(&parts),
                FormatError::CustomGates { section, offset }
            );
        }
    }
}

// ---- JSON ----

#[test]
fn json_is_printed_as_it_was_read() {
    for curve in CURVES {
        let text = verification_key(curve);
        let key = VerificationKey::parse(text.as_bytes()).expect("a whole key");
        assert_eq!(key.print(), text);
        assert_eq!((key.curve, key.public_count()), (id(curve), 2));
        assert!(key.ic[1].is_infinity());
        let q = little_endian(&(curve.q() - 1u32), curve.n8q());
        let two = little_endian(&2u32.into(), curve.n8q());
        assert_eq!(key.alpha_1.bytes(), [q, two].concat());

        let text = proof(curve);
        let read = Proof::parse(text.as_bytes(), None).expect("a whole proof");
        assert_eq!(read.print(), text);
        assert_eq!(Proof::parse(text.as_bytes(), Some(id(curve))), Ok(read));

        let text = public(curve);
        let inputs = PublicInputs::parse(text.as_bytes(), id(curve)).expect("whole inputs");
        assert_eq!(inputs.print(), text);
        let values: Vec<_> = inputs.iter().map(|it| BigUint::from_bytes_le(it)).collect();
        assert_eq!(values, [BigUint::ZERO, 1092u32.into(), curve.r() - 1u32]);
        assert_eq!(inputs.len(), 3);
    }
    let none = PublicInputs::parse(b"[]", CurveId::Bn254).expect("no inputs are inputs");
    assert!(none.is_empty());
    assert_eq!(none.print(), "[\n]");
    assert_eq!(PublicInputs::parse(b"[\n]", CurveId::Bn254), Ok(none));
}

#[test]
fn points_and_inputs_are_held_to_their_fields() {
    for curve in CURVES {
        let (len, id) = (curve.n8q(), id(curve));
        for at in 0..4 {
            let mut bytes = vec![0; 4 * len];
            bytes[at * len..][..len].copy_from_slice(&little_endian(&curve.q(), len));
            assert_eq!(Point::from_bytes(id, Group::G2, &bytes), None);
            bytes[at * len] -= 1;
            let point = Point::from_bytes(id, Group::G2, &bytes).expect("below q");
            assert_eq!((point.curve(), point.group()), (id, Group::G2));
            assert_eq!(point.bytes(), bytes);
            assert!(!point.is_infinity());
        }
        assert_eq!(Point::from_bytes(id, Group::G1, &vec![0; 4 * len]), None);
        assert!(
            Point::from_bytes(id, Group::G1, &vec![0; 2 * len])
                .expect("infinity")
                .is_infinity()
        );

        let r: [u8; 32] = little_endian(&curve.r(), 32).try_into().expect("32 bytes");
        assert_eq!(PublicInputs::new(id, vec![[0; 32], r]), None);
        assert_eq!(
            PublicInputs::new(id, vec![[0; 32], [1; 32]])
                .expect("below r")
                .len(),
            2
        );
    }
}

#[test]
fn the_pairing_of_alpha_and_beta_is_printed_and_not_read() {
    let mut key = VerificationKey::parse(verification_key(BN254).as_bytes()).expect("a whole key");
    let mut bytes = vec![0; 12 * 32];
    for i in 0..12 {
        bytes[32 * i] = i as u8;
    }
    key.alpha_beta_12 = TargetElement::from_bytes(CurveId::Bn254, &bytes);
    let text = key.print();
    let tree: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let expected = serde_json::json!([
        [["0", "1"], ["2", "3"], ["4", "5"]],
        [["6", "7"], ["8", "9"], ["10", "11"]]
    ]);
    assert_eq!(tree["vk_alphabeta_12"], expected);
    let keys: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix(" \""))
        .collect();
    assert!(
        keys[7].starts_with("vk_alphabeta_12") && keys[8].starts_with("IC"),
        "{keys:?}"
    );
    let read = VerificationKey::parse(text.as_bytes()).expect("a whole key");
    assert_eq!(
        read,
        VerificationKey {
            alpha_beta_12: None,
            ..key
        }
    );
    bytes[12 * 32 - 1] = 0xff;
    assert_eq!(TargetElement::from_bytes(CurveId::Bn254, &bytes), None);
    assert_eq!(
        TargetElement::from_bytes(CurveId::Bn254, &bytes[..11 * 32]),
        None
    );
}

#[test]
fn curves_are_named_as_snarkjs_names_them() {
    let text = verification_key(BN254);
    for name in ["bn128", "BN254", "alt_bn128", "Alt-BN-128", "bn_254"] {
        let text = text.replace("\"bn128\"", &format!("\"{name}\""));
        let key = VerificationKey::parse(text.as_bytes()).expect("a name that snarkjs knows");
        assert_eq!(key.curve, CurveId::Bn254, "{name}");
    }
    let text = verification_key(Curve::Bls12381).replace("bls12381", "BLS12-381");
    assert_eq!(
        VerificationKey::parse(text.as_bytes()).map(|it| it.curve),
        Ok(CurveId::Bls12_381)
    );
    for name in ["", "bn", "secp256k1", "бн128"] {
        let text = verification_key(BN254).replace("\"bn128\"", &format!("\"{name}\""));
        let (file, got) = (File::VerificationKey, name.to_owned());
        assert_eq!(
            VerificationKey::parse(text.as_bytes()).err(),
            Some(FormatError::CurveName { file, got })
        );
    }
}

#[test]
fn a_proof_may_leave_its_curve_to_the_key() {
    let text = proof(BN254);
    let (file, path) = (File::Proof, "curve".to_owned());
    let bare = text.replace(",\n \"curve\": \"bn128\"", "");
    assert_ne!(bare, text);
    assert_eq!(
        Proof::parse(bare.as_bytes(), Some(CurveId::Bn254)),
        Proof::parse(text.as_bytes(), None)
    );
    assert_eq!(
        Proof::parse(bare.as_bytes(), None),
        Err(FormatError::JsonKeyMissing { file, path })
    );
    let (expected, got) = (CurveId::Bls12_381, CurveId::Bn254);
    assert_eq!(
        Proof::parse(text.as_bytes(), Some(expected)),
        Err(FormatError::Curve {
            file,
            expected,
            got
        })
    );
}

#[test]
fn a_proof_of_another_protocol_is_refused() {
    let text = proof(BN254);
    let (file, got) = (File::Proof, "fflonk".to_owned());
    assert_eq!(
        Proof::parse(text.replace("groth16", "fflonk").as_bytes(), None),
        Err(FormatError::Protocol { file, got })
    );
    let bare = text.replace(" \"protocol\": \"groth16\",\n", "");
    assert_ne!(bare, text);
    assert_eq!(
        Proof::parse(bare.as_bytes(), None),
        Proof::parse(text.as_bytes(), None)
    );
}

#[test]
fn json_of_another_shape_is_refused() {
    let file = File::VerificationKey;
    let whole = verification_key(BN254);
    let refused = |from: &str, to: &str| {
        let text = whole.replacen(from, to, 1);
        assert_ne!(text, whole, "{from} is not in the text");
        VerificationKey::parse(text.as_bytes()).expect_err("it must be refused")
    };
    let kind = |path: &str, expected, got| FormatError::JsonKind {
        file,
        path: path.to_owned(),
        expected,
        got,
    };
    let length = |path: &str, expected, got| FormatError::JsonLength {
        file,
        path: path.to_owned(),
        expected,
        got,
    };
    for key in [
        "protocol",
        "curve",
        "nPublic",
        "vk_alpha_1",
        "vk_beta_2",
        "vk_gamma_2",
        "IC",
    ] {
        let path = key.to_owned();
        assert_eq!(
            refused(&format!("\"{key}\""), "\"other\""),
            FormatError::JsonKeyMissing { file, path }
        );
    }
    let path = "vk_alpha_1".to_owned();
    assert_eq!(
        refused("\"vk_delta_2\"", "\"vk_alpha_1\""),
        FormatError::JsonKeyTwice { file, path }
    );
    let path = "a.b[1].c".to_owned();
    assert_eq!(
        refused("{", "{\"a\": {\"b\": [1, {\"c\": 1, \"c\": 2}]},"),
        FormatError::JsonKeyTwice { file, path }
    );
    let got = "plonk".to_owned();
    assert_eq!(
        refused("groth16", "plonk"),
        FormatError::Protocol { file, got }
    );
    assert_eq!(
        refused("\"groth16\"", "16"),
        kind("protocol", "a string", "a number")
    );
    assert_eq!(
        refused(": 2,", ": \"2\","),
        kind("nPublic", "a count", "a string")
    );
    assert_eq!(
        refused(": 2,", ": 2.5,"),
        kind("nPublic", "a count", "a number")
    );
    assert_eq!(
        refused(": 2,", ": -2,"),
        kind("nPublic", "a count", "a number")
    );
    assert_eq!(
        refused(": 2,", ": null,"),
        kind("nPublic", "a count", "null")
    );
    assert_eq!(refused(": 2,", ": 3,"), length("IC", 4, 3));
    assert_eq!(
        refused(": 2,", ": 18446744073709551615,"),
        length("IC", u64::MAX, 3)
    );
    assert_eq!(
        refused("\"IC\": [", "\"IC\": [[\"0\"],"),
        length("IC", 3, 4)
    );
    assert_eq!(refused("\"2\",", ""), length("vk_alpha_1", 3, 2));
    assert_eq!(
        refused("\"2\"", "2"),
        kind("vk_alpha_1[1]", "a string", "a number")
    );
    assert_eq!(
        refused("\"2\"", "[\"2\"]"),
        kind("vk_alpha_1[1]", "a string", "an array")
    );
    assert_eq!(
        refused("\"0\"\n", "\"0\", \"0\"\n"),
        length("vk_beta_2[0]", 2, 3)
    );
    assert_eq!(
        refused("\"2\"", "true"),
        kind("vk_alpha_1[1]", "a string", "a truth value")
    );
    assert_eq!(
        refused("\"2\"", "{}"),
        kind("vk_alpha_1[1]", "a string", "an object")
    );
    let whole_text = "the whole text";
    assert_eq!(
        VerificationKey::parse(b"[]"),
        Err(kind(whole_text, "an object", "an array"))
    );
    assert_eq!(
        PublicInputs::parse(b"{}", CurveId::Bn254),
        Err(FormatError::JsonKind {
            file: File::Public,
            path: whole_text.to_owned(),
            expected: "an array",
            got: "an object"
        })
    );
}

#[test]
fn texts_that_are_not_json_are_refused() {
    let deep = "[".repeat(100_000);
    let texts = [
        "",
        "[",
        "[\"1\"",
        "[\"1\"] x",
        "[NaN]",
        "[\"1\",]",
        "['1']",
        "[1e999]",
        "\u{feff}[]",
    ];
    for text in texts.into_iter().chain([deep.as_str()]) {
        let error = PublicInputs::parse(text.as_bytes(), CurveId::Bn254).expect_err("not JSON");
        assert!(
            matches!(
                error,
                FormatError::Json {
                    file: File::Public,
                    ..
                }
            ),
            "{error}"
        );
    }
    let error = PublicInputs::parse(b"[\"\xff\"]", CurveId::Bn254).expect_err("not UTF-8");
    assert!(matches!(error, FormatError::Json { .. }), "{error}");
}

#[test]
fn texts_that_are_too_long_are_refused() {
    let spaces = |len: usize| format!("{}{}", proof(BN254), " ".repeat(len - proof(BN254).len()));
    let (file, expected_max) = (File::Proof, 64 << 10);
    Proof::parse(spaces(expected_max).as_bytes(), None).expect("long enough");
    let got = expected_max + 1;
    assert_eq!(
        Proof::parse(spaces(got).as_bytes(), None),
        Err(FormatError::JsonSize {
            file,
            expected_max,
            got
        })
    );
    let (file, expected_max, got) = (File::Public, 8 << 20, (8 << 20) + 1);
    assert_eq!(
        PublicInputs::parse(&vec![b' '; got], CurveId::Bn254),
        Err(FormatError::JsonSize {
            file,
            expected_max,
            got
        })
    );
}

#[test]
fn numbers_are_plain_decimal_digits() {
    let file = File::Public;
    let read = |number: &str| {
        PublicInputs::parse(format!("[\"1\", \"{number}\"]").as_bytes(), CurveId::Bn254)
    };
    let path = || "[1]".to_owned();
    for number in [
        "", "+1", "-1", " 1", "1 ", "01", "00", "0x10", "1_000", "1.0", "1e3", "١",
    ] {
        let got = number.to_owned();
        assert_eq!(
            read(number),
            Err(FormatError::Decimal {
                file,
                path: path(),
                got
            })
        );
    }
    let got = "x".repeat(40);
    assert_eq!(
        read(&"x".repeat(1000)),
        Err(FormatError::Decimal {
            file,
            path: path(),
            got
        })
    );
    read(&(BN254.r() - 1u32).to_string()).expect("below r");
    for number in [
        BN254.r(),
        BN254.r() + 1u32,
        BigUint::from(1u32) << 256,
        BigUint::from(1u32) << 5000,
    ] {
        let field = 'r';
        assert_eq!(
            read(&number.to_string()),
            Err(FormatError::Modulus {
                file,
                path: path(),
                field
            })
        );
    }
    // BLS12-381's scalar field is larger.
    let text = format!("[\"{}\"]", BN254.r());
    PublicInputs::parse(text.as_bytes(), CurveId::Bls12_381).expect("below the other r");
}

#[test]
fn coordinates_must_be_below_q() {
    for curve in CURVES {
        let (file, path, field) = (File::Proof, "pi_b[1][1]".to_owned(), 'q');
        let (below, at) = ((curve.q() - 1u32).to_string(), curve.q().to_string());
        let text = proof(curve).replace(
            &format!("\"7\",\n   \"{below}\""),
            &format!("\"7\", \"{at}\""),
        );
        assert_eq!(
            Proof::parse(text.as_bytes(), None),
            Err(FormatError::Modulus { file, path, field })
        );
    }
}

#[test]
fn points_are_affine_or_infinity() {
    let read = |point: &str| {
        let start = proof(BN254).find("[").expect("pi_a");
        let end = proof(BN254).find("]").expect("pi_a");
        let text = format!(
            "{}{point}{}",
            &proof(BN254)[..start],
            &proof(BN254)[end + 1..]
        );
        Proof::parse(text.as_bytes(), None).map(|it| it.a)
    };
    let (file, path) = (File::Proof, "pi_a".to_owned());
    for point in [
        "[\"1\", \"2\", \"2\"]",
        "[\"1\", \"2\", \"0\"]",
        "[\"0\", \"0\", \"0\"]",
        "[\"0\", \"0\", \"1\"]",
        "[\"1\", \"1\", \"0\"]",
    ] {
        let path = path.clone();
        assert_eq!(
            read(point),
            Err(FormatError::Point { file, path }),
            "{point}"
        );
    }
    let infinity = read("[\"0\", \"1\", \"0\"]").expect("infinity");
    assert!(infinity.is_infinity());
    assert_eq!(infinity.bytes(), [0; 64]);
    assert!(!read("[\"0\", \"1\", \"1\"]").expect("affine").is_infinity());
}
