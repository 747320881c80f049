//! `.zkey`: a Groth16 proving key, as snarkjs makes it.
//!
//! | section | holds |
//! |---|---|
//! | 1 | the protocol: 1 is Groth16 |
//! | 2 | both primes, counts, and six points: see [`ZkeyHeader`] |
//! | 3 | IC, one point for the constant 1 and each public wire |
//! | 4 | the coefficients of A and B; C is left out, for its rows are A w * B w |
//! | 5, 6, 7 | A, B1, B2: a point for each wire |
//! | 8 | C: a point for each private wire |
//! | 9 | H: a point for each element of the domain |
//! | 10 | the ceremony: a hash of the circuit and each contribution |
//!
//! The comment at the top of snarkjs's `zkey_utils.js`, and the readers that were written from
//! it, have the points of section 2 in another order than the code; files follow the code.
//!
//! A coefficient is stored times R^2 (R = 2^256), so that one Montgomery product with a plain
//! witness element gives a Montgomery result. That is what devices take, so it stays as it is.
//!
//! Section 10 may be absent: snarkjs proves without it, and keys brought in from JSON have none.
//! A key without any contribution has a delta that everybody knows, so anybody can forge proofs
//! for it: [`Zkey::contribution_count`] is there for whoever must refuse such a key.
//!
//! A key that our own set-up made carries its mark in a section of a private type
//! ([`DEVELOPMENT_SECTION`]), which other readers skip.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use caldera_kernels::{CurveId, Group};

use super::prime::{
    base_field, base_modulus, hexadecimal, is_below, scalar_field, scalar_modulus, two_adicity,
};
use super::section::{Container, Fields};
use super::{ContributionFault, File, FormatError};

/// A proving key, as it lies in its file. Points are not checked here.
#[derive(Clone)]
pub struct Zkey {
    header: ZkeyHeader,
    parts: [Bytes; Part::ALL.len()],
    coefficients_offset: u64,
    contributions: Option<Contributions>,
    development: Option<Bytes>,
}

/// What a key says of itself in section 2. Points are in the layout of the whole file:
/// little-endian Montgomery coordinates, x before y, c0 before c1, infinity all zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZkeyHeader {
    /// The curve of both fields.
    pub curve: CurveId,
    /// How many wires the circuit has, the constant 1 included.
    pub wires: u32,
    /// How many of them after the constant 1 are public.
    pub public: u32,
    /// The size of the domain: a power of two, more than constraints and public wires together.
    pub domain: u32,
    /// alpha in G1.
    pub alpha_g1: Bytes,
    /// beta in G1.
    pub beta_g1: Bytes,
    /// beta in G2.
    pub beta_g2: Bytes,
    /// gamma in G2; snarkjs always has the generator here.
    pub gamma_g2: Bytes,
    /// delta in G1.
    pub delta_g1: Bytes,
    /// delta in G2.
    pub delta_g2: Bytes,
}

/// The large sections of a key, in the order in which they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Section 3: points in G1 for the constant 1 and each public wire.
    Ic,
    /// Section 4 without its count: entries of u32 matrix (0 = A, 1 = B), u32 constraint,
    /// u32 wire, and a coefficient times R^2 mod r.
    Coefficients,
    /// Section 5: a point in G1 for each wire.
    A,
    /// Section 6: a point in G1 for each wire.
    B1,
    /// Section 7: a point in G2 for each wire.
    B2,
    /// Section 8: a point in G1 for each private wire.
    C,
    /// Section 9: a point in G1 for each element of the domain.
    H,
}

impl Part {
    /// All parts, in order.
    pub const ALL: [Part; 7] = [
        Part::Ic,
        Part::Coefficients,
        Part::A,
        Part::B1,
        Part::B2,
        Part::C,
        Part::H,
    ];

    /// The group of a part's points; `None` for the coefficients.
    pub const fn group(self) -> Option<Group> {
        match self {
            Part::Coefficients => None,
            Part::B2 => Some(Group::G2),
            Part::Ic | Part::A | Part::B1 | Part::C | Part::H => Some(Group::G1),
        }
    }

    const fn section(self) -> u32 {
        3 + self as u32
    }

    const fn name(self) -> &'static str {
        match self {
            Part::Ic => "IC",
            Part::Coefficients => "coefficients",
            Part::A => "A",
            Part::B1 => "B1",
            Part::B2 => "B2",
            Part::C => "C",
            Part::H => "H",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The ceremony that a key went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contributions {
    /// BLAKE2b-512 of the circuit's key before the first contribution.
    pub circuit_hash: [u8; 64],
    /// Who contributed, in order.
    pub list: Vec<Contribution>,
}

/// One contribution to a ceremony.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contribution {
    /// What kind it is.
    pub kind: ContributionKind,
    /// The name that the contributor chose, if any: a stranger's text, not fit for a terminal
    /// before control characters are taken out.
    pub name: Option<String>,
}

/// What kind a contribution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContributionKind {
    /// Somebody's own randomness.
    Contribution,
    /// Public randomness, hashed many times.
    Beacon,
}

/// The section type of the mark that a development key carries: "CALD".
pub const DEVELOPMENT_SECTION: u32 = u32::from_be_bytes(*b"CALD");

impl Zkey {
    /// Reads a whole file. Every length, count and prime is checked; the entries of section 4
    /// are not, see [`Zkey::check_coefficients`], and no point is.
    pub fn parse(bytes: Bytes) -> Result<Zkey, FormatError> {
        let container = Container::parse(File::Zkey, bytes)?;
        let mut protocol = container.need(PROTOCOL, "protocol")?;
        let id = protocol.u32("the protocol")?;
        protocol.end()?;
        if id != GROTH16 {
            let got = match id {
                PLONK => "plonk".to_owned(),
                FFLONK => "fflonk".to_owned(),
                other => format!("{other}"),
            };
            return Err(FormatError::Protocol {
                file: File::Zkey,
                got,
            });
        }
        let header = ZkeyHeader::parse(container.need(HEADER, "header")?)?;
        let mut parts = [const { Bytes::new() }; Part::ALL.len()];
        let mut coefficients_offset = 0;
        for part in Part::ALL {
            let mut fields = container.need(part.section(), part.name())?;
            let mut coefficients = 0;
            if part == Part::Coefficients {
                coefficients = fields.u32("the count of coefficients")?;
                coefficients_offset = fields.offset();
            }
            parts[part as usize] = fields.exactly(header.part_len(part, coefficients))?;
        }
        let contributions = match container.find(CONTRIBUTIONS) {
            Some(fields) => Some(Contributions::parse(fields, header.curve)?),
            None => None,
        };
        let development = match container.find(DEVELOPMENT_SECTION) {
            Some(fields) => Some(development_mark(fields)?),
            None => None,
        };
        Ok(Zkey {
            header,
            parts,
            coefficients_offset,
            contributions,
            development,
        })
    }

    /// Checks that the entries of section 4 in `range` lie within the matrices and that their
    /// values are below r. What of the range lies beyond the last entry is ignored, so a large
    /// key can be checked in steps of any size.
    pub fn check_coefficients(&self, range: Range<usize>) -> Result<(), FormatError> {
        let entry_len = coefficient_len(self.curve());
        let modulus = scalar_modulus(self.curve());
        let bounds = [
            ("matrix", 2),
            ("constraint", self.header.domain),
            ("signal", self.header.wires),
        ];
        let entries = self
            .part(Part::Coefficients)
            .chunks_exact(entry_len)
            .enumerate();
        for (index, entry) in entries.take(range.end).skip(range.start) {
            let offset = self.coefficients_offset + (index * entry_len) as u64;
            let index = index as u64;
            let (place, value) = entry.split_at(12);
            for ((what, expected), got) in bounds.into_iter().zip(place.chunks_exact(4)) {
                let got = u32::from_le_bytes([got[0], got[1], got[2], got[3]]);
                if got >= expected {
                    return Err(FormatError::Coefficient {
                        index,
                        offset,
                        what,
                        expected,
                        got,
                    });
                }
            }
            if !is_below(value, modulus) {
                return Err(FormatError::CoefficientValue {
                    index,
                    offset: offset + 12,
                });
            }
        }
        Ok(())
    }

    /// What the key says of itself.
    pub fn header(&self) -> &ZkeyHeader {
        &self.header
    }

    /// The curve of the key.
    pub fn curve(&self) -> CurveId {
        self.header.curve
    }

    /// One of the large sections, as it lies in the file.
    pub fn part(&self, part: Part) -> &Bytes {
        &self.parts[part as usize]
    }

    /// How many entries section 4 has.
    pub fn coefficient_count(&self) -> usize {
        self.part(Part::Coefficients).len() / coefficient_len(self.curve())
    }

    /// The ceremony, if the key carries a record of one.
    pub fn contributions(&self) -> Option<&Contributions> {
        self.contributions.as_ref()
    }

    /// How many contributions the key says that it has had. With none, anybody can forge proofs.
    pub fn contribution_count(&self) -> usize {
        self.contributions
            .as_ref()
            .map_or(0, |ceremony| ceremony.list.len())
    }

    /// What our own set-up wrote on the key; `None` for keys made elsewhere.
    pub fn development(&self) -> Option<&str> {
        // The mark was found to be UTF-8 when the file was read.
        self.development
            .as_deref()
            .and_then(|text| std::str::from_utf8(text).ok())
    }
}

impl fmt::Debug for Zkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zkey")
            .field("header", &self.header)
            .field("coefficients", &self.coefficient_count())
            .field("contributions", &self.contribution_count())
            .field("development", &self.development())
            .finish_non_exhaustive()
    }
}

impl ZkeyHeader {
    fn parse(mut fields: Fields) -> Result<ZkeyHeader, FormatError> {
        let curve = base_field(&mut fields)?;
        let (section, offset) = (fields.section(), fields.offset() + 4);
        let scalar_curve = scalar_field(&mut fields)?;
        if scalar_curve != curve {
            return Err(FormatError::Prime {
                file: File::Zkey,
                section,
                offset,
                field: 'r',
                expected: "the curve that q is of",
                got: hexadecimal(scalar_modulus(scalar_curve)),
            });
        }
        let wires = fields.u32("the count of wires")?;
        let public = fields.u32("the count of public wires")?;
        let domain = fields.u32("the size of the domain")?;
        let mut point = |group, what| fields.take(curve.point_bytes(group) as u64, what);
        let header = ZkeyHeader {
            curve,
            wires,
            public,
            domain,
            alpha_g1: point(Group::G1, "alpha in G1")?,
            beta_g1: point(Group::G1, "beta in G1")?,
            beta_g2: point(Group::G2, "beta in G2")?,
            gamma_g2: point(Group::G2, "gamma in G2")?,
            delta_g1: point(Group::G1, "delta in G1")?,
            delta_g2: point(Group::G2, "delta in G2")?,
        };
        fields.end()?;
        header.check_counts()?;
        Ok(header)
    }

    /// Checks what the counts say about each other. How many constraints there are is not in
    /// the file, so the domain is only held against the rows of the public wires.
    fn check_counts(&self) -> Result<(), FormatError> {
        let public_rows = u64::from(self.public) + 1;
        if u64::from(self.wires) < public_rows {
            return Err(FormatError::Count {
                file: File::Zkey,
                what: "the count of wires",
                expected_min: public_rows,
                got: self.wires.into(),
            });
        }
        let expected_min = public_rows.next_power_of_two().max(2);
        let expected_max = 1 << two_adicity(self.curve);
        let domain = u64::from(self.domain);
        if !self.domain.is_power_of_two() || domain < expected_min || domain > expected_max {
            return Err(FormatError::Domain {
                expected_min,
                expected_max,
                got: self.domain,
            });
        }
        Ok(())
    }

    /// How many bytes a part has in a key with this header. Counts are below 2^32 and an entry
    /// has at most 192 bytes, so nothing wraps.
    fn part_len(&self, part: Part, coefficients: u32) -> u64 {
        let (wires, public) = (u64::from(self.wires), u64::from(self.public));
        let count = match part {
            Part::Ic => public + 1,
            Part::Coefficients => coefficients.into(),
            Part::A | Part::B1 | Part::B2 => wires,
            Part::C => wires - public - 1,
            Part::H => self.domain.into(),
        };
        let len = match part.group() {
            Some(group) => self.curve.point_bytes(group),
            None => coefficient_len(self.curve),
        };
        count * len as u64
    }
}

impl Contributions {
    fn parse(mut fields: Fields, curve: CurveId) -> Result<Contributions, FormatError> {
        let mut circuit_hash = [0; 64];
        circuit_hash.copy_from_slice(&fields.take(64, "the hash of the circuit")?);
        let count = fields.u32("the count of contributions")?;
        let mut list = Vec::new();
        for index in 0..count {
            list.push(Contribution::parse(&mut fields, index, curve)?);
        }
        fields.end()?;
        Ok(Contributions { circuit_hash, list })
    }
}

impl Contribution {
    fn parse(fields: &mut Fields, index: u32, curve: CurveId) -> Result<Self, FormatError> {
        // Three points in G1, one in G2 and the transcript: what `snarkjs zkey verify` judges.
        let points = 3 * curve.point_bytes(Group::G1) + curve.point_bytes(Group::G2);
        fields.take(points as u64 + 64, "a contribution")?;
        let at = fields.offset();
        let kind = match fields.u32("the type of a contribution")? {
            0 => ContributionKind::Contribution,
            1 => ContributionKind::Beacon,
            got => {
                let fault = ContributionFault::Kind { got };
                return Err(FormatError::Contribution {
                    index,
                    offset: at,
                    fault,
                });
            }
        };
        let len = fields.u32("the length of a contribution's parameters")?;
        let offset = fields.offset();
        let parameters = fields.take(len.into(), "the parameters of a contribution")?;
        let name =
            contribution_name(&parameters).map_err(|(at, fault)| FormatError::Contribution {
                index,
                offset: offset + at as u64,
                fault,
            })?;
        Ok(Contribution { kind, name })
    }
}

/// Reads a contribution's parameters: a tag, and then for 1 (name) and 3 (beacon's hash) a
/// length and bytes, for 2 (log2 of the beacon's iterations) one byte. A fault comes with its
/// place.
fn contribution_name(parameters: &[u8]) -> Result<Option<String>, (usize, ContributionFault)> {
    let mut name = None;
    let mut last = 0;
    let mut at = 0;
    while let Some(&tag) = parameters.get(at) {
        if tag <= last {
            return Err((at, ContributionFault::ParameterOrder { last, got: tag }));
        }
        let after = &parameters[at + 1..];
        let len = match tag {
            1 | 3 => 1 + after.first().map_or(0, |&len| usize::from(len)),
            2 => 1,
            got => return Err((at, ContributionFault::Parameter { got })),
        };
        let Some(value) = after.get(..len) else {
            let (expected, got) = (len as u64, after.len() as u64);
            return Err((at + 1, ContributionFault::ParameterShort { expected, got }));
        };
        if tag == 1 {
            // Not every writer cuts names between characters; snarkjs reads them leniently too.
            name = Some(String::from_utf8_lossy(&value[1..]).into_owned());
        }
        last = tag;
        at += 1 + len;
    }
    Ok(name)
}

fn development_mark(mut fields: Fields) -> Result<Bytes, FormatError> {
    let text = fields.take(fields.left(), "the development mark")?;
    if text.len() > DEVELOPMENT_LEN_MAX || std::str::from_utf8(&text).is_err() {
        return Err(FormatError::DevelopmentMark {
            expected_max: DEVELOPMENT_LEN_MAX,
        });
    }
    Ok(text)
}

/// Writes a key piece by piece, so that a large one need never be whole in memory.
///
/// The parts are handed in in the order of [`Part::ALL`], each in one or more pieces. The header
/// and the count of coefficients fix every length in advance, so the file is written from front
/// to back without seeking. The key has a ceremony without contributions.
#[derive(Debug)]
pub struct ZkeyWriter<W: Write> {
    out: W,
    header: ZkeyHeader,
    coefficients: u32,
    development: Option<String>,
    /// The part being written, and how much of it is still to come; `None` after the last.
    current: Option<(Part, u64)>,
}

impl<W: Write> ZkeyWriter<W> {
    /// Begins a file. `development` is the mark that the key will carry.
    pub fn new(
        mut out: W,
        header: ZkeyHeader,
        coefficients: u32,
        development: Option<&str>,
    ) -> Result<ZkeyWriter<W>, ZkeyWriteError> {
        header.check_counts()?;
        let points = [
            (&header.alpha_g1, Group::G1),
            (&header.beta_g1, Group::G1),
            (&header.beta_g2, Group::G2),
            (&header.gamma_g2, Group::G2),
            (&header.delta_g1, Group::G1),
            (&header.delta_g2, Group::G2),
        ];
        let q = base_modulus(header.curve);
        let r = scalar_modulus(header.curve);
        let mut fields = Vec::new();
        fields.extend_from_slice(&(q.len() as u32).to_le_bytes());
        fields.extend_from_slice(q);
        fields.extend_from_slice(&(r.len() as u32).to_le_bytes());
        fields.extend_from_slice(r);
        for count in [header.wires, header.public, header.domain] {
            fields.extend_from_slice(&count.to_le_bytes());
        }
        for (point, group) in points {
            let expected = header.curve.point_bytes(group);
            if point.len() != expected {
                return Err(ZkeyWriteError::Point {
                    expected,
                    got: point.len(),
                });
            }
            fields.extend_from_slice(point);
        }
        if development.is_some_and(|text| text.len() > DEVELOPMENT_LEN_MAX) {
            return Err(FormatError::DevelopmentMark {
                expected_max: DEVELOPMENT_LEN_MAX,
            }
            .into());
        }
        let count = 10 + u32::from(development.is_some());
        out.write_all(b"zkey")?;
        out.write_all(&1u32.to_le_bytes())?;
        out.write_all(&count.to_le_bytes())?;
        write_section(&mut out, PROTOCOL, &GROTH16.to_le_bytes())?;
        write_section(&mut out, HEADER, &fields)?;
        let development = development.map(str::to_owned);
        let mut writer = ZkeyWriter {
            out,
            header,
            coefficients,
            development,
            current: None,
        };
        writer.open(&Part::ALL)?;
        Ok(writer)
    }

    /// Writes the next piece of a part. An empty piece is nothing, whatever part it is of.
    pub fn write(&mut self, part: Part, piece: &[u8]) -> Result<(), ZkeyWriteError> {
        if piece.is_empty() {
            return Ok(());
        }
        let got = piece.len() as u64;
        let left = match &mut self.current {
            Some((current, left)) if *current == part && got <= *left => left,
            Some((current, left)) if *current == part => {
                return Err(ZkeyWriteError::Length {
                    part,
                    expected_max: *left,
                    got,
                });
            }
            current => {
                let expected = current.map(|(part, _)| part);
                return Err(ZkeyWriteError::Order {
                    expected,
                    got: part,
                });
            }
        };
        self.out.write_all(piece)?;
        *left -= got;
        if *left == 0 {
            self.open(&Part::ALL[part as usize + 1..])?;
        }
        Ok(())
    }

    /// Writes the last sections, flushes, and gives the writer back. A key with a part that is
    /// not whole is refused; what has been written until then is no key.
    pub fn finish(mut self) -> Result<W, ZkeyWriteError> {
        if let Some((part, left)) = self.current {
            return Err(ZkeyWriteError::Unfinished { part, left });
        }
        // The hash of the circuit and a count of zero: nobody has contributed to this key.
        write_section(&mut self.out, CONTRIBUTIONS, &[0; 64 + 4])?;
        if let Some(text) = self.development.take() {
            write_section(&mut self.out, DEVELOPMENT_SECTION, text.as_bytes())?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes the heads of parts until one is not empty.
    fn open(&mut self, parts: &[Part]) -> io::Result<()> {
        self.current = None;
        for &part in parts {
            let len = self.header.part_len(part, self.coefficients);
            if part == Part::Coefficients {
                write_head(&mut self.out, part.section(), 4 + len)?;
                self.out.write_all(&self.coefficients.to_le_bytes())?;
            } else {
                write_head(&mut self.out, part.section(), len)?;
            }
            if len > 0 {
                self.current = Some((part, len));
                break;
            }
        }
        Ok(())
    }
}

/// Why a key could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ZkeyWriteError {
    /// A header or mark that no reader would take back.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A header's point of another length than its curve's.
    #[error("expected a point of {expected} bytes in the header, got {got}")]
    Point {
        /// The length of a point.
        expected: usize,
        /// The length given.
        got: usize,
    },
    /// A part out of order.
    #[error("expected a piece of {}, got one of {got}", expected.map_or("no part", Part::name))]
    Order {
        /// The part that is being written; `None` when all are whole.
        expected: Option<Part>,
        /// The part given.
        got: Part,
    },
    /// A part longer than the header says.
    #[error("expected at most {expected_max} more bytes of {part}, got {got}")]
    Length {
        /// The part.
        part: Part,
        /// How much of it was still to come.
        expected_max: u64,
        /// The length of the piece.
        got: u64,
    },
    /// An end before the parts were whole.
    #[error("{left} bytes of {part} are not written")]
    Unfinished {
        /// The part.
        part: Part,
        /// How much of it is still to come.
        left: u64,
    },
    /// The output failed.
    #[error("cannot write the key")]
    Output(#[from] io::Error),
}

fn write_head(out: &mut impl Write, kind: u32, len: u64) -> io::Result<()> {
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&len.to_le_bytes())
}

fn write_section(out: &mut impl Write, kind: u32, content: &[u8]) -> io::Result<()> {
    write_head(out, kind, content.len() as u64)?;
    out.write_all(content)
}

/// Matrix, constraint and signal, then the value.
const fn coefficient_len(curve: CurveId) -> usize {
    12 + curve.scalar_bytes()
}

const PROTOCOL: u32 = 1;
const HEADER: u32 = 2;
const CONTRIBUTIONS: u32 = 10;

const GROTH16: u32 = 1;
const PLONK: u32 = 2;
const FFLONK: u32 = 10;

/// A line of text, not a document.
const DEVELOPMENT_LEN_MAX: usize = 1024;
