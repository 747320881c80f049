//! A w and B w, for the pair of sparse matrices of a key.
//!
//! On upload the entries of each matrix are sorted by row (a counting sort) and their rows cut
//! into runs of at most 256 entries, so that no thread works for long; a run of a row that has
//! several leaves its sum among partial sums, which a second kernel adds up. Runs are taken by length,
//! so that those of one workgroup take about as long. What does not fit a
//! binding is cut further: rows into ranges of the result, columns into ranges of the witness,
//! entries into pieces. As a row may then be met several times, sums are added to the result, which
//! is cleared first.

use std::cmp::Reverse;
use std::sync::Arc;

use caldera_kernels::{CurveId, DeviceError, Plan};

use crate::generate::Variant;
use crate::gpu::{Gpu, Memory, Part, Secret};
use crate::pace::Load;
use crate::plan::{Stage, Staged, Step, Steps, THREADS};
use crate::shaders::{Kernel, Over};
use crate::vector::{SCALAR, Vector, fitting};

/// A pair of matrices on the device.
pub(crate) struct Matrix {
    pub(crate) curve: CurveId,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pieces: Vec<Piece>,
    /// The most partial sums that any piece has.
    parts: usize,
}

/// Entries of one matrix within one range of rows and one of columns.
struct Piece {
    matrix: usize,
    row_from: usize,
    column_from: usize,
    runs: Memory,
    run_count: usize,
    /// The longest run of each workgroup.
    load: Load,
    columns: Memory,
    values: Memory,
    sums: Memory,
    sum_count: usize,
}

/// Bytes of an entry of a key: matrix, row, column, value.
const ENTRY: usize = 44;
/// Entries of a run, at most.
const RUN: usize = 256;
/// The mark of a run whose sum is a partial one.
const PARTIAL: u32 = 1 << 31;

struct Entry<'a> {
    matrix: u32,
    row: u32,
    column: u32,
    value: &'a [u8],
}

impl<'a> Entry<'a> {
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

impl Matrix {
    pub(crate) fn new(
        gpu: &Arc<Gpu>,
        curve: CurveId,
        rows: usize,
        columns: usize,
        entries: &[u8],
    ) -> Result<Self, DeviceError> {
        let count = entries.len() / ENTRY;
        if count * ENTRY != entries.len() {
            return Err(DeviceError::Length {
                what: "bytes of matrix entries",
                expected: count * ENTRY,
                got: entries.len(),
            });
        }
        if count >= PARTIAL as usize {
            return Err(DeviceError::Length {
                what: "matrix entries",
                expected: PARTIAL as usize - 1,
                got: count,
            });
        }
        let fitting = fitting(gpu);
        // Entries by matrix and block, each block's in the order of rows. The lists of indices
        // take the host 4 bytes an entry for the time of the upload.
        let row_blocks = rows.min(1 << 32).div_ceil(fitting).max(1);
        let column_blocks = columns.min(1 << 32).div_ceil(fitting).max(1);
        let mut blocks: Vec<Vec<u32>> = vec![Vec::new(); 2 * row_blocks * column_blocks];
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
            let block = (entry.matrix as usize * row_blocks + entry.row as usize / fitting)
                * column_blocks
                + entry.column as usize / fitting;
            blocks[block].push(index as u32);
        }
        let entry = |index: u32| {
            let at = index as usize * ENTRY;
            Entry::parse(&entries[at..at + ENTRY])
        };
        let mut pieces = Vec::new();
        let mut parts = 0;
        for (block, mut indices) in blocks.into_iter().enumerate() {
            if !indices.is_sorted_by_key(|&index| entry(index).row) {
                indices.sort_by_key(|&index| entry(index).row);
            }
            // Runs take twelve bytes each, fewer than their entries' values.
            for indices in indices.chunks(fitting) {
                let row_from = block / column_blocks % row_blocks * fitting;
                let column_from = block % column_blocks * fitting;
                let mut runs: Vec<[u32; 3]> = Vec::new();
                let mut sums: Vec<u32> = Vec::new();
                let mut at = 0;
                let mut partial = 0;
                for row in indices.chunk_by(|&a, &b| entry(a).row == entry(b).row) {
                    let number = entry(row[0]).row - row_from as u32;
                    let first = partial;
                    for run in row.chunks(RUN) {
                        let target = if row.len() > RUN {
                            partial += 1;
                            PARTIAL | (partial - 1)
                        } else {
                            number
                        };
                        runs.push([at, at + run.len() as u32, target]);
                        at += run.len() as u32;
                    }
                    if partial > first {
                        sums.extend([first, partial, number]);
                    }
                }
                let length = |run: &[u32; 3]| run[1] - run[0];
                runs.sort_by_key(|run| Reverse(length(run)));
                let longest = runs.iter().step_by(THREADS).map(|run| length(run).into());
                let load = Load::new((0..).zip(longest));
                let columns: Vec<u32> = indices
                    .iter()
                    .map(|&index| entry(index).column - column_from as u32)
                    .collect();
                let values = indices
                    .iter()
                    .flat_map(|&index| entry(index).value)
                    .copied()
                    .collect::<Vec<u8>>();
                parts = parts.max(partial as usize);
                let words = |what, words: &[u32]| -> Result<Memory, DeviceError> {
                    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                    let buffer = gpu.buffer(what, bytes.len() as u64)?;
                    gpu.write(&buffer, 0, &bytes)?;
                    Ok(buffer)
                };
                let value_buffer = gpu.buffer("matrix values", values.len() as u64)?;
                gpu.write(&value_buffer, 0, &values)?;
                pieces.push(Piece {
                    matrix: block / column_blocks / row_blocks,
                    row_from,
                    column_from,
                    runs: words("matrix rows", runs.as_flattened())?,
                    run_count: runs.len(),
                    load,
                    columns: words("matrix columns", &columns)?,
                    values: value_buffer,
                    sums: words("matrix rows", &sums)?,
                    sum_count: sums.len() / 3,
                });
            }
        }
        Ok(Self {
            curve,
            rows,
            columns,
            pieces,
            parts,
        })
    }
}

/// The kernels of a product.
pub(crate) fn kernels(curve: CurveId) -> [(Kernel, Over); 2] {
    [Kernel::SpmvProduct, Kernel::SpmvSum].map(|kernel| (kernel, Over::Scalars(curve)))
}

/// What a plan holds until it is dropped.
type Held = (Arc<Matrix>, Arc<Vector>, [Arc<Vector>; 2], Secret);

pub(crate) fn plan(
    gpu: &Arc<Gpu>,
    variant: Variant,
    matrix: Arc<Matrix>,
    witness: Arc<Vector>,
    results: [Arc<Vector>; 2],
) -> Result<Arc<dyn Plan>, DeviceError> {
    let fitting = fitting(gpu);
    let over = Over::Scalars(matrix.curve);
    let parts = gpu.secret("partial sums of rows", matrix.parts as u64 * SCALAR)?;
    let maker = Steps::new(gpu, variant)?;
    let mut steps: Vec<Step> = results
        .iter()
        .map(|result| Step::Clear {
            buffer: result.secret.buffer.clone(),
            bytes: result.secret.buffer.size(),
        })
        .collect();
    for piece in &matrix.pieces {
        let result = &results[piece.matrix];
        let rows = || result.part(piece.row_from, fitting.min(result.len - piece.row_from));
        let column_count = fitting.min(witness.len - piece.column_from);
        steps.push(maker.groups(
            Kernel::SpmvProduct,
            over,
            &[
                Part::all(&piece.runs),
                Part::all(&piece.columns),
                Part::all(&piece.values),
                witness.part(piece.column_from, column_count),
                rows(),
                Part::all(&parts.buffer),
            ],
            &[piece.run_count as u32],
            piece.run_count.div_ceil(THREADS),
            piece.load.clone(),
        )?);
        if piece.sum_count > 0 {
            steps.push(maker.threads(
                Kernel::SpmvSum,
                over,
                &[Part::all(&piece.sums), rows(), Part::all(&parts.buffer)],
                &[piece.sum_count as u32],
                piece.sum_count,
                1.0,
            )?);
        }
    }
    let stages = vec![Stage {
        name: "spmv.product",
        steps,
    }];
    let held: Held = (matrix, witness, results, parts);
    Ok(Staged::plan(maker, stages, held, None))
}
