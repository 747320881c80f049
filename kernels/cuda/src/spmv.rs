//! Products of sparse matrices and a witness: `cuda/spmv.cu`.
//!
//! Entries are sorted by matrix and row once, when the matrix is made known, and rows cut into
//! parts of at most [`PART`] entries, so that a row of a million entries keeps thousands of threads
//! busy. The parts are listed by length, the longest first.

use std::sync::Arc;

use bytes::Bytes;
use caldera_kernels::{CurveId, DeviceError};

use crate::driver::{Buffer, Driver, Kernel};
use crate::plan::{Steps, Sweep, Unit};
use crate::vector::Vector;

/// A pair of sparse matrices.
pub(crate) struct Matrix {
    curve: CurveId,
    rows: usize,
    columns: usize,
    /// Of each entry, by row.
    entry_columns: Buffer,
    coefficients: Buffer,
    /// Of each part, by length: where its entries start, how many there are, its number by row.
    starts: Buffer,
    lengths: Buffer,
    places: Buffer,
    /// Where the parts of each row begin: those of A's, of B's, and the end.
    row_parts: Buffer,
    parts: usize,
    /// How many parts have which length, the longest first.
    runs: Vec<(u64, u64)>,
}

impl Matrix {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: &Bytes,
    ) -> Result<Self, DeviceError> {
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Err(DeviceError::Length {
                what: "bytes of matrix entries",
                expected: entries.len() * ENTRY_BYTES,
                got: entries.len() * ENTRY_BYTES + rest.len(),
            });
        }
        if u32::try_from(entries.len()).is_err() {
            return Err(DeviceError::Length {
                what: "matrix entries",
                expected: u32::MAX as usize,
                got: entries.len(),
            });
        }
        let word = |entry: &[u8; ENTRY_BYTES], i: usize| {
            let [a, b, c, d] = [0, 1, 2, 3].map(|byte| entry[4 * i + byte]);
            u32::from_le_bytes([a, b, c, d]) as usize
        };
        // How many entries each row of both has; then where the next one of it goes.
        let mut ends = vec![0u32; 2 * rows + 1];
        for (index, entry) in entries.iter().enumerate() {
            for (i, (what, bound)) in [("matrix", 2), ("row", rows), ("column", columns)]
                .into_iter()
                .enumerate()
            {
                if word(entry, i) >= bound {
                    return Err(DeviceError::Entry {
                        entry: index,
                        what,
                        expected: bound,
                        got: word(entry, i),
                    });
                }
            }
            ends[word(entry, 0) * rows + word(entry, 1)] += 1;
        }
        let mut parts = Vec::new();
        let mut row_parts = Vec::with_capacity(ends.len());
        let mut start = 0;
        for place in &mut ends {
            row_parts.push(parts.len() as u32);
            let count = std::mem::replace(place, start);
            for at in (0..count).step_by(PART as usize) {
                parts.push((start + at, PART.min(count - at), parts.len() as u32));
            }
            start += count;
        }
        let mut entry_columns = vec![0u8; 4 * entries.len()];
        let mut coefficients = vec![0u8; SCALAR * entries.len()];
        for entry in entries {
            let place = &mut ends[word(entry, 0) * rows + word(entry, 1)];
            let at = *place as usize;
            *place += 1;
            entry_columns[4 * at..][..4].copy_from_slice(&entry[8..12]);
            coefficients[SCALAR * at..][..SCALAR].copy_from_slice(&entry[12..]);
        }
        parts.sort_by_key(|part| std::cmp::Reverse(part.1));
        let runs = parts
            .chunk_by(|a, b| a.1 == b.1)
            .map(|run| (run.len() as u64, u64::from(run[0].1)))
            .collect();
        let upload = |bytes: &[u8]| Buffer::of(driver, bytes, "matrix");
        let words = |words: &mut dyn Iterator<Item = u32>| -> Vec<u8> {
            words.flat_map(u32::to_le_bytes).collect()
        };
        Ok(Self {
            curve,
            rows,
            columns,
            entry_columns: upload(&entry_columns)?,
            coefficients: upload(&coefficients)?,
            starts: upload(&words(&mut parts.iter().map(|part| part.0)))?,
            lengths: upload(&words(&mut parts.iter().map(|part| part.1)))?,
            places: upload(&words(&mut parts.iter().map(|part| part.2)))?,
            row_parts: upload(&words(&mut row_parts.into_iter()))?,
            parts: parts.len(),
            runs,
        })
    }

    pub(crate) fn curve(&self) -> CurveId {
        self.curve
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }
}

/// A w and B w.
pub(crate) struct Product {
    pub(crate) matrix: Arc<Matrix>,
    pub(crate) witness: Arc<Vector>,
    pub(crate) results: [Arc<Vector>; 2],
    /// What each part comes to.
    pub(crate) sums: Buffer,
    /// Those of parts and of rows.
    pub(crate) kernels: [Kernel; 2],
}

impl Product {
    /// Room for what each part comes to.
    pub(crate) fn sums(driver: &Arc<dyn Driver>, matrix: &Matrix) -> Result<Buffer, DeviceError> {
        Buffer::secret(driver, matrix.parts * SCALAR, "parts of a sparse product")
    }
}

impl Steps for Product {
    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        "spmv.product"
    }

    fn open(&self, _: usize) -> Result<Vec<Sweep>, DeviceError> {
        let matrix = &*self.matrix;
        let mut sweeps = vec![Sweep {
            kernel: self.kernels[0],
            unit: Unit::Thread,
            first: 0,
            words: vec![
                matrix.starts.at(0),
                matrix.lengths.at(0),
                matrix.places.at(0),
                matrix.entry_columns.at(0),
                matrix.coefficients.at(0),
                self.witness.at(0),
                self.sums.at(0),
            ],
            runs: matrix.runs.clone(),
            most: u64::MAX,
        }];
        for (i, result) in self.results.iter().enumerate() {
            let words = vec![
                matrix.rows as u64,
                matrix.row_parts.at(4 * i * matrix.rows),
                self.sums.at(0),
                result.at(0),
            ];
            sweeps.push(Sweep::threads(self.kernels[1], result.len(), words));
        }
        Ok(sweeps)
    }
}

const SCALAR: usize = 32;
const ENTRY_BYTES: usize = 12 + SCALAR;

/// Entries of a part: what one thread does without a break.
const PART: u32 = 64;
