//! `.wtns`: a witness, the value of every wire of a circuit.
//!
//! Section 1 names the scalar field and counts the elements, section 2 has them: plain
//! little-endian integers, wire after wire, the constant 1 first. Nobody else checks that an
//! element is below the modulus; here [`Wtns::check`] does, for two files whose elements differ
//! by r prove the same thing and have different digests.
//!
//! A witness is secret. Its `Debug` shows how many elements it has and nothing of them, and no
//! error carries a value. The bytes stay in the buffer that the caller handed in: whoever owns
//! that overwrites it.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;
use caldera_kernels::CurveId;

use super::prime::{is_below, scalar_field, scalar_modulus};
use super::section::Container;
use super::{File, FormatError};

/// A witness, as it lies in its file.
#[derive(Clone)]
pub struct Wtns {
    curve: CurveId,
    elements: Bytes,
    offset: u64,
}

impl Wtns {
    /// Reads a whole file. Lengths, the field and element 0 are checked; the range of the other
    /// elements is not, see [`Wtns::check`].
    pub fn parse(bytes: Bytes) -> Result<Wtns, FormatError> {
        let container = Container::parse(File::Wtns, bytes)?;
        let mut header = container.need(HEADER, "header")?;
        let curve = scalar_field(&mut header)?;
        let count = header.u32("the count of elements")?;
        header.end()?;
        let data = container.need(DATA, "elements")?;
        let offset = data.offset();
        let elements = data.exactly(u64::from(count) * curve.scalar_bytes() as u64)?;
        Wtns {
            curve,
            elements,
            offset,
        }
        .with_constant_one()
    }

    /// A witness from its elements: as many whole scalars as a file can count, the constant 1
    /// first. Errors are those of the file that [`Wtns::write`] would make of them.
    pub fn from_elements(curve: CurveId, elements: Bytes) -> Result<Wtns, FormatError> {
        let len = elements.len() as u64;
        let count = (len / curve.scalar_bytes() as u64).min(u32::MAX.into());
        let expected = count * curve.scalar_bytes() as u64;
        let offset = 12 + 12 + header_len(curve) + 12;
        if len != expected {
            let (file, section) = (File::Wtns, DATA);
            return Err(FormatError::SectionLength {
                file,
                section,
                offset,
                expected,
                got: len,
            });
        }
        Wtns {
            curve,
            elements,
            offset,
        }
        .with_constant_one()
    }

    fn with_constant_one(self) -> Result<Wtns, FormatError> {
        let Some((one, zeros)) = self.elements.get(..32).and_then(<[u8]>::split_first) else {
            let what = "the count of elements";
            return Err(FormatError::Count {
                file: File::Wtns,
                what,
                expected_min: 1,
                got: 0,
            });
        };
        if *one != 1 || zeros.iter().any(|&byte| byte != 0) {
            return Err(FormatError::WitnessOne {
                offset: self.offset,
            });
        }
        Ok(self)
    }

    /// Writes the file as snarkjs writes it, byte for byte.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut head = Vec::new();
        head.extend_from_slice(b"wtns");
        head.extend_from_slice(&2u32.to_le_bytes());
        head.extend_from_slice(&2u32.to_le_bytes());
        head.extend_from_slice(&HEADER.to_le_bytes());
        head.extend_from_slice(&header_len(self.curve).to_le_bytes());
        head.extend_from_slice(&(self.curve.scalar_bytes() as u32).to_le_bytes());
        head.extend_from_slice(scalar_modulus(self.curve));
        // Both constructors have held the count against u32.
        head.extend_from_slice(&(self.len() as u32).to_le_bytes());
        head.extend_from_slice(&DATA.to_le_bytes());
        head.extend_from_slice(&(self.elements.len() as u64).to_le_bytes());
        out.write_all(&head)?;
        out.write_all(&self.elements)
    }

    /// Checks that the elements in `range` are below the modulus. What of the range lies outside
    /// the witness is ignored, so a long witness can be checked in steps of any size.
    pub fn check(&self, range: Range<usize>) -> Result<(), FormatError> {
        let modulus = scalar_modulus(self.curve);
        let scalars = self.elements.chunks_exact(modulus.len()).enumerate();
        for (index, scalar) in scalars.take(range.end).skip(range.start) {
            if !is_below(scalar, modulus) {
                let index = index as u64;
                let offset = self.offset + index * modulus.len() as u64;
                return Err(FormatError::WitnessElement { index, offset });
            }
        }
        Ok(())
    }

    /// The curve whose scalars the elements are.
    pub fn curve(&self) -> CurveId {
        self.curve
    }

    /// How many elements there are, the constant 1 included; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a witness is never empty")]
    pub fn len(&self) -> usize {
        self.elements.len() / self.curve.scalar_bytes()
    }

    /// The elements: canonical little-endian scalars of 32 bytes, one after the other.
    pub fn elements(&self) -> &Bytes {
        &self.elements
    }
}

impl fmt::Debug for Wtns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wtns")
            .field("curve", &self.curve)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Field size, prime and count.
const fn header_len(curve: CurveId) -> u64 {
    4 + curve.scalar_bytes() as u64 + 4
}

const HEADER: u32 = 1;
const DATA: u32 = 2;
