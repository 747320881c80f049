//! The one encoding of everything that is written down: big-endian, each field as wide as its type.
//!
//! What is hashed and chained must have one form only, so there is no choice anywhere: no optional
//! field, no other width, no padding. A reader refuses what it would not write itself.

use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Malformed {
    /// They end too soon.
    #[error("{what} at byte {at}: expected {expected} bytes, got {got}")]
    Cut {
        /// What was read.
        what: &'static str,
        /// Where.
        at: usize,
        /// So many bytes are needed.
        expected: usize,
        /// So many are left.
        got: usize,
    },
    /// A tag or a text that has no meaning.
    #[error("{what} at byte {at}: {got} stands for nothing")]
    Meaning {
        /// What was read.
        what: &'static str,
        /// Where.
        at: usize,
        /// The tag.
        got: u8,
    },
    /// There is more than that.
    #[error("expected {expected} bytes, got {got}")]
    Trailing {
        /// So many were read.
        expected: usize,
        /// So many are there.
        got: usize,
    },
}

/// Something with an encoding.
pub(super) trait Coded: Sized {
    /// Appends it.
    fn write(&self, out: &mut Vec<u8>);
    /// Takes it from the front.
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed>;

    /// Its bytes.
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// Reads it where nothing else is.
    fn read_all(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { bytes, at: 0 };
        let value = Self::read(&mut reader)?;
        match reader.at == bytes.len() {
            true => Ok(value),
            false => Err(Malformed::Trailing {
                expected: reader.at,
                got: bytes.len(),
            }),
        }
    }
}

/// Bytes, and how far they have been read.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], Malformed> {
        let left = &self.bytes[self.at..];
        if left.len() < count {
            return Err(Malformed::Cut {
                what,
                at: self.at,
                expected: count,
                got: left.len(),
            });
        }
        self.at += count;
        Ok(&left[..count])
    }

    /// A tag that stands for nothing: the byte that was read last.
    pub(super) fn meaning(&self, what: &'static str) -> Malformed {
        let at = self.at - 1;
        Malformed::Meaning {
            what,
            at,
            got: self.bytes[at],
        }
    }
}

macro_rules! number {
    ($($name:ident)*) => {$(
        impl Coded for $name {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
                let bytes = from.take(stringify!($name), size_of::<$name>())?;
                // `take` gave as many bytes as were asked for.
                Ok($name::from_be_bytes(bytes.try_into().expect("as long as asked")))
            }
        }
    )*};
}

number!(u8 u16 u32 u64 u128);

impl<const N: usize> Coded for [u8; N] {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        let bytes = from.take("bytes", N)?;
        // `take` gave as many bytes as were asked for.
        Ok(bytes.try_into().expect("as long as asked"))
    }
}

impl Coded for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::read(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.meaning("yes or no")),
        }
    }
}

impl<T: Coded> Coded for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<T: Coded> Coded for Vec<T> {
    /// # Panics
    /// If there are more than 65,535: whoever makes such lists refuses longer ones before.
    fn write(&self, out: &mut Vec<u8>) {
        let count = u16::try_from(self.len()).expect("lists are kept short");
        count.write(out);
        self.iter().for_each(|value| value.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        // A number that lies costs nothing: memory is taken as elements are read.
        let count = u16::read(from)?;
        (0..count).map(|_| T::read(from)).collect()
    }
}

impl<T: Coded> Coded for Box<T> {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        T::read(from).map(Box::new)
    }
}

impl<A: Coded, B: Coded> Coded for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        self.0.write(out);
        self.1.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

/// The encoding of structs whose fields are written one after the other.
macro_rules! coded_struct {
    ($($name:ident { $($field:ident),* $(,)? })*) => {$(
        impl $crate::ledger::encoding::Coded for $name {
            fn write(&self, out: &mut Vec<u8>) {
                $($crate::ledger::encoding::Coded::write(&self.$field, out);)*
            }
            fn read(
                from: &mut $crate::ledger::encoding::Reader<'_>,
            ) -> Result<Self, $crate::ledger::encoding::Malformed> {
                $(let $field = $crate::ledger::encoding::Coded::read(from)?;)*
                Ok($name { $($field),* })
            }
        }
    )*};
}

/// The encoding of enums: a tag of one byte, and the variant's fields.
macro_rules! coded_enum {
    ($name:ident $(<$life:lifetime>)? ($what:literal) { $($tag:literal => $variant:ident { $($field:ident),* }),* $(,)? }) => {
        impl $crate::ledger::encoding::Coded for $name {
            fn write(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant { $($field),* } => {
                        out.push($tag);
                        $($crate::ledger::encoding::Coded::write($field, out);)*
                    })*
                }
            }
            fn read(
                from: &mut $crate::ledger::encoding::Reader<'_>,
            ) -> Result<Self, $crate::ledger::encoding::Malformed> {
                match <u8 as $crate::ledger::encoding::Coded>::read(from)? {
                    $($tag => {
                        $(let $field = $crate::ledger::encoding::Coded::read(from)?;)*
                        Ok($name::$variant { $($field),* })
                    })*
                    _ => Err(from.meaning($what)),
                }
            }
        }
    };
}

pub(super) use {coded_enum, coded_struct};
