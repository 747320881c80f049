//! The container that zkey, wtns and r1cs files share ("binfile" in iden3's sources).
//!
//! A magic of four bytes, a version, a count of sections; then each section as its type (u32),
//! its length (u64) and its content. No index, no alignment, no checksum: a section is found by
//! walking over those before it. Writers put sections in any order, and readers skip types that
//! they do not know.
//!
//! The walk must end exactly where the file does: a key cut at a section's boundary, and a key
//! that somebody appended to, have both been seen in the wild and read as if all were well.
//! A type may occur once: of two equal ones snarkjs refuses to choose, rapidsnark takes the first.

use bytes::{Buf, Bytes};

use super::{File, FormatError};

/// One section, as the walk found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    /// Its type.
    pub kind: u32,
    /// Where its content begins in the file.
    pub offset: u64,
    /// How many bytes its content has.
    pub len: u64,
}

/// Walks over the sections of a binary file and lists them in the order in which they lie.
/// Their contents are not looked at. A kind of file that has no sections is an empty list.
pub fn sections(file: File, bytes: &[u8]) -> Result<Vec<Section>, FormatError> {
    let Some(expected) = file.magic() else {
        return Ok(Vec::new());
    };
    let got = &bytes[..bytes.len().min(4)];
    if got != expected {
        return Err(FormatError::Magic {
            file,
            expected,
            got: got.to_vec(),
        });
    }
    let mut walk = Walk { file, bytes, at: 4 };
    let version = walk.u32("the version")?;
    let expected_max = version_max(file);
    if version > expected_max {
        return Err(FormatError::Version {
            file,
            expected_max,
            got: version,
        });
    }
    let count = walk.u32("the count of sections")?;
    if count > SECTIONS_MAX {
        return Err(FormatError::SectionCount {
            file,
            expected_max: SECTIONS_MAX,
            got: count,
        });
    }
    let mut table: Vec<Section> = Vec::new();
    for _ in 0..count {
        let section = walk.section()?;
        if let Some(first) = table.iter().find(|earlier| earlier.kind == section.kind) {
            return Err(FormatError::SectionTwice {
                file,
                section: section.kind,
                first: first.offset,
                second: section.offset,
            });
        }
        table.push(section);
    }
    match walk.left() {
        0 => Ok(table),
        got => Err(FormatError::TrailingBytes {
            file,
            offset: walk.at as u64,
            got,
        }),
    }
}

/// A whole file of sections, and the table of them.
#[derive(Debug)]
pub(super) struct Container {
    file: File,
    bytes: Bytes,
    table: Vec<Section>,
}

impl Container {
    pub(super) fn parse(file: File, bytes: Bytes) -> Result<Container, FormatError> {
        let table = sections(file, &bytes)?;
        Ok(Container { file, bytes, table })
    }

    /// A section that may be absent.
    pub(super) fn find(&self, kind: u32) -> Option<Fields> {
        let section = *self.table.iter().find(|section| section.kind == kind)?;
        // The walk has shown that the section lies within `bytes`, whose length is a usize.
        let (start, end) = (
            section.offset as usize,
            (section.offset + section.len) as usize,
        );
        Some(Fields {
            file: self.file,
            section,
            rest: self.bytes.slice(start..end),
        })
    }

    /// A section that must be there.
    pub(super) fn need(&self, kind: u32, name: &'static str) -> Result<Fields, FormatError> {
        let missing = FormatError::SectionMissing {
            file: self.file,
            section: kind,
            name,
        };
        self.find(kind).ok_or(missing)
    }
}

/// The content of a section, read field by field from the front.
#[derive(Debug, Clone)]
pub(super) struct Fields {
    file: File,
    section: Section,
    rest: Bytes,
}

impl Fields {
    /// The next `len` bytes, which are `what`.
    pub(super) fn take(&mut self, len: u64, what: &'static str) -> Result<Bytes, FormatError> {
        if len > self.left() {
            return Err(FormatError::SectionShort {
                file: self.file,
                section: self.section.kind,
                what,
                offset: self.offset(),
                expected: len,
                got: self.left(),
            });
        }
        Ok(self.rest.split_to(len as usize))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        match self.rest.first_chunk() {
            Some(&bytes) => {
                self.rest.advance(4);
                Ok(u32::from_le_bytes(bytes))
            }
            None => self.take(4, what).map(|_| 0),
        }
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, FormatError> {
        let low = self.u32(what)?;
        let high = self.u32(what)?;
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    /// The whole rest, if it is exactly `expected` bytes long.
    pub(super) fn exactly(self, expected: u64) -> Result<Bytes, FormatError> {
        if self.left() != expected {
            // The section's own length is what a reader can see with `inspect`, so that is
            // what the error compares.
            let read = self.section.len - self.left();
            return Err(FormatError::SectionLength {
                file: self.file,
                section: self.section.kind,
                offset: self.section.offset,
                expected: read.saturating_add(expected),
                got: self.section.len,
            });
        }
        Ok(self.rest)
    }

    /// Ends reading: nothing may be left.
    pub(super) fn end(self) -> Result<(), FormatError> {
        self.exactly(0).map(|_| ())
    }

    /// Where in the file the next field begins.
    pub(super) fn offset(&self) -> u64 {
        self.section.offset + (self.section.len - self.left())
    }

    pub(super) fn left(&self) -> u64 {
        self.rest.len() as u64
    }

    pub(super) fn file(&self) -> File {
        self.file
    }

    pub(super) fn section(&self) -> u32 {
        self.section.kind
    }
}

/// Reads the table of sections.
struct Walk<'a> {
    file: File,
    bytes: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    fn section(&mut self) -> Result<Section, FormatError> {
        let kind = self.u32("the type of a section")?;
        let low = self.u32("the length of a section")?;
        let high = self.u32("the length of a section")?;
        let len = u64::from(high) << 32 | u64::from(low);
        let offset = self.at as u64;
        if len > self.left() {
            return Err(FormatError::SectionBeyondEnd {
                file: self.file,
                section: kind,
                offset,
                expected_max: self.left(),
                got: len,
            });
        }
        self.at += len as usize;
        Ok(Section { kind, offset, len })
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, FormatError> {
        let Some(bytes) = self.bytes[self.at..].first_chunk() else {
            return Err(FormatError::FileShort {
                file: self.file,
                what,
                offset: self.at as u64,
                expected: 4,
                got: self.left(),
            });
        };
        self.at += 4;
        Ok(u32::from_le_bytes(*bytes))
    }

    fn left(&self) -> u64 {
        (self.bytes.len() - self.at) as u64
    }
}

/// The newest version that snarkjs accepts; versions 1, 2 and 1 are the ones written.
const fn version_max(file: File) -> u32 {
    match file {
        File::Zkey | File::Wtns => 2,
        _ => 1,
    }
}

/// A Groth16 key has ten sections and no known file has more than fourteen (Plonk's key).
const SECTIONS_MAX: u32 = 64;
