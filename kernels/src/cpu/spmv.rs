//! A w and B w, for the pair of sparse matrices of a key.
//!
//! The entries stay the bytes of the file. Beside them stands, for each row, where its entries
//! begin (4 bytes a row); and if the file's entries are not in the order of rows, also the order
//! in which to take them (4 bytes an entry), made by a counting sort. An entry's value is the
//! coefficient times R^2, so that one Montgomery product with the plain witness gives the term in
//! Montgomery form. Terms are multiplied a block at a time, on an engine where that pays, and
//! then added up row by row. A quantum may end within a row: the row's two sums are the lane's
//! state.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroize;

use crate::device::{CurveId, DeviceError, Plan, Progress};
use crate::field::PrimeField;
use crate::lanes::{Engine, Laned};

use super::Staged;
use super::calibration::CurveRates;
use super::elementwise::products;
use super::plan::{Kernel, share};
use super::vector::Vector;

/// A pair of matrices, by rows.
pub(crate) struct Matrix {
    curve: CurveId,
    rows: usize,
    columns: usize,
    entries: Bytes,
    /// Entries of row i are at starts[i]..starts[i + 1] in the order of rows.
    starts: Vec<u32>,
    /// The order of rows, where it is not the entries' own.
    order: Option<Vec<u32>>,
}

impl Matrix {
    pub(crate) fn new(
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: Bytes,
    ) -> Result<Self, DeviceError> {
        let count = entries.len() / ENTRY;
        if count * ENTRY != entries.len() {
            return Err(DeviceError::Length {
                what: "bytes of matrix entries",
                expected: count * ENTRY,
                got: entries.len(),
            });
        }
        if u32::try_from(count).is_err() {
            return Err(DeviceError::Length {
                what: "matrix entries",
                expected: u32::MAX as usize,
                got: count,
            });
        }
        // Rows beyond a u32 cannot have entries.
        let rows_indexed = rows.min(1 << 32);
        let no_memory = |count: usize| DeviceError::Memory {
            what: "index of matrix rows",
            bytes: count.saturating_mul(4),
        };
        let mut starts: Vec<u32> = Vec::new();
        starts
            .try_reserve_exact(rows_indexed + 1)
            .map_err(|_| no_memory(rows_indexed + 1))?;
        starts.resize(rows_indexed + 1, 0);

        let mut sorted = true;
        let mut row_before = 0;
        for (index, bytes) in entries.chunks_exact(ENTRY).enumerate() {
            let entry = Entry::parse(bytes);
            let outside = |what, expected, got: u32| DeviceError::Entry {
                entry: index,
                what,
                expected,
                got: got as usize,
            };
            if entry.matrix > 1 {
                return Err(outside("matrix", 2, entry.matrix));
            }
            if entry.row as usize >= rows {
                return Err(outside("row", rows, entry.row));
            }
            if entry.column as usize >= columns {
                return Err(outside("column", columns, entry.column));
            }
            sorted &= entry.row >= row_before;
            row_before = entry.row;
            starts[entry.row as usize + 1] += 1;
        }
        for i in 0..rows_indexed {
            starts[i + 1] += starts[i];
        }

        let mut order = None;
        if !sorted {
            let mut places: Vec<u32> = Vec::new();
            places
                .try_reserve_exact(count)
                .map_err(|_| no_memory(count))?;
            places.resize(count, 0);
            // Each row's start moves along as its entries are placed, to where the next row's
            // starts were; so afterwards all are one row too far.
            for (index, bytes) in entries.chunks_exact(ENTRY).enumerate() {
                let start = &mut starts[Entry::parse(bytes).row as usize];
                places[*start as usize] = index as u32;
                *start += 1;
            }
            starts.copy_within(0..rows_indexed, 1);
            starts[0] = 0;
            order = Some(places);
        }
        Ok(Self {
            curve,
            rows,
            columns,
            entries,
            starts,
            order,
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

    fn count(&self) -> usize {
        self.entries.len() / ENTRY
    }

    /// Where the entries of a row begin; those beyond the matrix have none.
    fn start(&self, row: usize) -> usize {
        self.starts[row.min(self.starts.len() - 1)] as usize
    }

    /// The entry at a place in the order of rows.
    #[inline(always)]
    fn entry(&self, place: usize) -> Entry<'_> {
        let index = match &self.order {
            None => place,
            Some(order) => order[place] as usize,
        };
        Entry::parse(&self.entries[index * ENTRY..(index + 1) * ENTRY])
    }
}

/// Bytes of an entry: matrix, row, column, value.
const ENTRY: usize = 44;

struct Entry<'a> {
    matrix: u32,
    row: u32,
    column: u32,
    value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads an entry from its [`ENTRY`] bytes.
    #[inline(always)]
    fn parse(bytes: &'a [u8]) -> Self {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Self {
            matrix: word(0),
            row: word(4),
            column: word(8),
            value: &bytes[12..ENTRY],
        }
    }
}

/// The product, one stage; lanes are runs of rows of about equal cost.
pub(crate) struct Product<F> {
    matrix: Arc<Matrix>,
    witness: Arc<Vector>,
    a: Arc<Vector>,
    b: Arc<Vector>,
    lanes: usize,
    engine: Option<Engine>,
    /// Entries in a quantum, a row counting as one more.
    quantum: usize,
    field: PhantomData<F>,
}

/// What a lane keeps between quanta.
pub(crate) struct Rows<F: Zeroize> {
    /// Rows not yet written.
    rows: Range<usize>,
    /// The next entry, in the order of rows.
    place: usize,
    /// Sums of the first row so far: A, B.
    sums: [F; 2],
    /// Room for a block of witness elements, whose terms take their place, and of values. They
    /// hold nothing of value between quanta.
    terms: [F; BLOCK],
    values: [F; BLOCK],
}

impl<F: PrimeField> Default for Rows<F> {
    fn default() -> Self {
        Self {
            rows: 0..0,
            place: 0,
            sums: [F::ZERO; 2],
            terms: [F::ZERO; BLOCK],
            values: [F::ZERO; BLOCK],
        }
    }
}

/// Terms are parts of a witness.
impl<F: Zeroize> Drop for Rows<F> {
    fn drop(&mut self) {
        self.sums.zeroize();
        self.terms.zeroize();
    }
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Product<F> {
    pub(crate) fn plan(
        matrix: Arc<Matrix>,
        witness: Arc<Vector>,
        [a, b]: [Arc<Vector>; 2],
        lanes: usize,
        engine: Option<Engine>,
        rates: &CurveRates,
    ) -> Arc<dyn Plan> {
        let lanes = lanes
            .min((a.len() + matrix.count()).div_ceil(LANE_MIN))
            .max(1);
        let kernel = Self {
            matrix,
            witness,
            a,
            b,
            lanes,
            engine,
            quantum: rates.units(rates.entry_ns),
            field: PhantomData,
        };
        Staged::new(kernel, (0..lanes).map(|_| Rows::default()))
    }

    /// Computes the terms of the next entries, no more than a block.
    fn multiply(&self, count: usize, state: &mut Rows<F>) {
        let terms = &mut state.terms[..count];
        for (i, (term, value)) in terms.iter_mut().zip(&mut state.values).enumerate() {
            let entry = self.matrix.entry(state.place + i);
            // The plain integer w taken for a Montgomery form: w (k R^2) / R = k w R. The value,
            // whose range nobody has checked, stands second, where any is allowed.
            *term = F::from_montgomery_words(self.witness.words(entry.column as usize));
            *value = F::from_montgomery_le_unchecked(entry.value);
        }
        products(self.engine, terms, &state.values, None);
    }

    /// Writes the sums of those rows whose entries have all been added, until the quantum ends.
    fn write(&self, state: &mut Rows<F>, left: &mut usize) {
        while *left > 0
            && !Range::is_empty(&state.rows)
            && self.matrix.start(state.rows.start + 1) <= state.place
        {
            *left -= 1;
            self.a.set_element(state.rows.start, state.sums[0]);
            self.b.set_element(state.rows.start, state.sums[1]);
            state.sums = [F::ZERO; 2];
            state.rows.start += 1;
        }
    }

    /// The first row of a lane: the cost of all rows before a row, its entries and one for
    /// itself, grows with the row, so the bound is found by bisection.
    fn lane_start(&self, lane: usize) -> usize {
        let rows = self.a.len();
        let cost = |row: usize| row + self.matrix.start(row);
        let bound = share(cost(rows), self.lanes, lane).start;
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if cost(middle) < bound {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Kernel for Product<F> {
    type Lane = Rows<F>;

    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        "spmv.product"
    }

    fn open(&self, _: usize) -> usize {
        self.lanes
    }

    fn begin(&self, _: usize, lane: usize, state: &mut Rows<F>) {
        let end = if lane + 1 == self.lanes {
            self.a.len()
        } else {
            self.lane_start(lane + 1)
        };
        let start = self.lane_start(lane);
        state.rows = start..end;
        state.place = self.matrix.start(start);
    }

    fn run(&self, _: usize, _: usize, state: &mut Rows<F>) -> Result<Progress, &'static str> {
        let mut left = self.quantum;
        loop {
            self.write(state, &mut left);
            if Range::is_empty(&state.rows) {
                return Ok(Progress::Done);
            }
            if left == 0 {
                return Ok(Progress::More);
            }
            // The first row has entries left, so there is at least one.
            let entries = self.matrix.start(state.rows.end) - state.place;
            let count = entries.min(BLOCK).min(left);
            left -= count;
            self.multiply(count, state);
            for i in 0..count {
                if self.matrix.start(state.rows.start + 1) <= state.place {
                    self.write(state, &mut left);
                    if left == 0 {
                        // The rest of the block comes again.
                        return Ok(Progress::More);
                    }
                }
                let matrix = self.matrix.entry(state.place).matrix;
                state.sums[matrix as usize] += state.terms[i];
                state.place += 1;
            }
        }
    }
}

/// Cost below which another lane is not worth its opening.
const LANE_MIN: usize = 256;

/// Entries of a block.
const BLOCK: usize = 64;
