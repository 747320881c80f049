//! Vectors of scalars that several threads work on.
//!
//! A vector is a row of atomic words. Lanes write disjoint parts, so nothing is ever contended,
//! and words are loaded and stored with no ordering (the plan orders stages, `plan.rs`): on the
//! processors that we know such an access is a plain move. What that buys: a caller who breaks
//! the contract, and lets two plans work on one vector, gets wrong numbers, which the proof's
//! check finds, and no undefined behaviour, with no unsafe code and no locks.

use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroize;

use crate::device::{CurveId, DeviceError};
use crate::field::PrimeField;

/// A vector of scalars in one of the two forms; which one its user knows.
pub(crate) struct Vector {
    curve: CurveId,
    words: Box<[[AtomicU64; 4]]>,
}

impl Vector {
    pub(crate) fn new(curve: CurveId, len: usize) -> Result<Self, DeviceError> {
        let mut words = Vec::new();
        words
            .try_reserve_exact(len)
            .map_err(|_| DeviceError::Memory {
                what: "vector",
                bytes: len.saturating_mul(curve.scalar_bytes()),
            })?;
        words.resize_with(len, Default::default);
        Ok(Self {
            curve,
            words: words.into_boxed_slice(),
        })
    }

    pub(crate) fn curve(&self) -> CurveId {
        self.curve
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    #[inline(always)]
    pub(crate) fn words(&self, index: usize) -> [u64; 4] {
        self.words[index]
            .each_ref()
            .map(|word| word.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(crate) fn set_words(&self, index: usize, words: [u64; 4]) {
        for (place, word) in self.words[index].iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
    }

    /// An element that is in Montgomery form.
    #[inline(always)]
    pub(crate) fn element<F: PrimeField<Words = [u64; 4]>>(&self, index: usize) -> F {
        F::from_montgomery_words(self.words(index))
    }

    #[inline(always)]
    pub(crate) fn set_element<F: PrimeField<Words = [u64; 4]>>(&self, index: usize, element: F) {
        self.set_words(index, element.montgomery_words());
    }

    pub(crate) fn write(&self, at: usize, scalars: &[u8]) -> Result<(), DeviceError> {
        for (index, bytes) in self
            .range(at, scalars.len())?
            .zip(scalars.as_chunks::<32>().0)
        {
            let mut words = [0; 4];
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_le_bytes(*bytes);
            }
            self.set_words(index, words);
        }
        Ok(())
    }

    pub(crate) fn read(&self, at: usize, scalars: &mut [u8]) -> Result<(), DeviceError> {
        let range = self.range(at, scalars.len())?;
        for (index, bytes) in range.zip(scalars.as_chunks_mut::<32>().0) {
            for (word, bytes) in self.words(index).iter().zip(bytes.as_chunks_mut::<8>().0) {
                *bytes = word.to_le_bytes();
            }
        }
        Ok(())
    }

    /// The elements that so many bytes from `at` on are.
    fn range(&self, at: usize, bytes: usize) -> Result<std::ops::Range<usize>, DeviceError> {
        let size = self.curve.scalar_bytes();
        let count = bytes / size;
        if count * size != bytes {
            return Err(DeviceError::Length {
                what: "bytes of scalars",
                expected: count * size,
                got: bytes,
            });
        }
        let room = self.len().saturating_sub(at);
        if at > self.len() || count > room {
            return Err(DeviceError::Length {
                what: "scalars in the vector from there on",
                expected: count,
                got: room,
            });
        }
        Ok(at..at + count)
    }
}

/// Vectors hold witnesses.
impl Drop for Vector {
    fn drop(&mut self) {
        for word in self.words.as_flattened_mut() {
            word.get_mut().zeroize();
        }
    }
}
