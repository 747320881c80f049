//! Tables of multiples of bases, by the bytes that there are for them. The kernels are
//! `cuda/tables.cu`'s.
//!
//! With points for l levels a scalar's digits fall into a l-th of the sets of buckets: fewer sets
//! are fewer buckets to fold, and allow wider windows, which are fewer additions. The endomorphism
//! gives every second level for one product a point; where points have to be kept anyway, this is all
//! that it is good for here: multiplied in flight it would cost an addition's eleventh product.

use std::sync::{Arc, Mutex, PoisonError};

use caldera_kernels::DeviceError;

use crate::driver::{Buffer, Driver, Kernel};
use crate::msm::{Bases, Cut, Tables};
use crate::plan::{Steps, Sweep};

/// The kernels of one group of one curve.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    begin: Kernel,
    double: Kernel,
    end: Kernel,
    endomorphism: Kernel,
}

impl Kernels {
    pub(crate) fn find(driver: &dyn Driver, unit: &str) -> Result<Self, DeviceError> {
        let kernel = |name| driver.kernel(&format!("tables_{unit}"), name);
        Ok(Self {
            begin: kernel("table_begin")?,
            double: kernel("table_double")?,
            end: kernel("table_end")?,
            endomorphism: kernel("table_endomorphism")?,
        })
    }

    /// Those whose threads spill.
    pub(crate) fn spilling(&self) -> [Kernel; 4] {
        [self.begin, self.double, self.end, self.endomorphism]
    }
}

/// One set of bases, its kernels, and where its group's cube root of one lies.
pub(crate) struct Wanted {
    pub(crate) bases: Arc<Bases>,
    pub(crate) kernels: Kernels,
    pub(crate) beta: u64,
}

/// Makes tables of several sets of bases.
pub(crate) struct Build {
    driver: Arc<dyn Driver>,
    wanted: Vec<Wanted>,
    bytes: usize,
    /// What is being made, in the order of `wanted`, and what it takes to make it.
    made: Mutex<Vec<Option<Making>>>,
}

struct Making {
    tables: Arc<Tables>,
    /// Points in XYZZ, kept until the last launch has ended.
    _scratch: Buffer,
}

impl Build {
    pub(crate) fn new(
        driver: &Arc<dyn Driver>,
        wanted: Vec<Wanted>,
        bytes: usize,
    ) -> Result<Self, DeviceError> {
        if wanted.is_empty() {
            return Err(DeviceError::Length {
                what: "sets of bases to make tables of",
                expected: 1,
                got: 0,
            });
        }
        Ok(Self {
            driver: driver.clone(),
            wanted,
            bytes,
            made: Mutex::default(),
        })
    }

    /// Levels for each set: step by step those that save most additions for a byte.
    fn levels(&self) -> Vec<u32> {
        let mut levels = vec![1; self.wanted.len()];
        let mut left = self.bytes;
        let level_bytes = |bases: &Bases| bases.count() * bases.curve.point_bytes(bases.group);
        loop {
            let mut best: Option<(f64, usize, u32)> = None;
            for (i, wanted) in self.wanted.iter().enumerate() {
                let bases = &*wanted.bases;
                let each = level_bytes(bases);
                if bases.count() == 0 || wanted.is_again(&self.wanted[..i]) {
                    continue;
                }
                let cost = |levels| {
                    let full = bases.full();
                    // Coordinates of more words make dearer products, by the square of it.
                    let product = (bases.curve.point_bytes(bases.group) as f64).powi(2);
                    Cut::best(bases.curve, full, levels).cost(full) * product
                };
                // One level more may save nothing where several do: digits are whole.
                for more in 1..=LEVELS_MAX - levels[i] {
                    let levels = levels[i] + more;
                    if each * more as usize > left {
                        break;
                    }
                    let saved = cost(levels - more) - cost(levels);
                    let worth = saved / (each * more as usize) as f64;
                    if saved > 0.0 && best.is_none_or(|(most, ..)| worth > most) {
                        best = Some((worth, i, more));
                    }
                }
            }
            let Some((_, i, more)) = best else {
                return levels;
            };
            levels[i] += more;
            left -= level_bytes(&self.wanted[i].bases) * more as usize;
        }
    }
}

impl Wanted {
    fn is_again(&self, before: &[Wanted]) -> bool {
        before
            .iter()
            .any(|other| Arc::ptr_eq(&other.bases, &self.bases))
    }

    /// The sweeps that make the levels behind the first one.
    fn sweeps(&self, tables: &Tables, scratch: &Buffer) -> Vec<Sweep> {
        let bases = &*self.bases;
        let (count, size) = (bases.count(), bases.curve.point_bytes(bases.group));
        let level = |level: u32| match level {
            0 => bases.points(),
            _ => tables.points.at((level as usize - 1) * count * size),
        };
        let cut = &tables.cut;
        let mut sweeps = Vec::new();
        for to in 1..cut.levels {
            for first in (0..count).step_by(CHUNK) {
                let chunk = CHUNK.min(count - first);
                let at = (first * size) as u64;
                let mut push = |kernel, doublings: u32| {
                    let words = vec![
                        level(to - 1) + at,
                        scratch.at(0),
                        level(to) + at,
                        u64::from(doublings),
                        self.beta,
                    ];
                    sweeps.push(Sweep::threads(kernel, chunk, words));
                };
                push(self.kernels.begin, 0);
                let mut left = cut.level_bits();
                while left > 0 {
                    let doublings = left.min(DOUBLINGS);
                    push(self.kernels.double, doublings);
                    left -= doublings;
                }
                push(self.kernels.end, 0);
            }
        }
        if cut.halves {
            for from in 0..cut.levels {
                let words = vec![
                    level(from),
                    scratch.at(0),
                    level(from + cut.levels),
                    0,
                    self.beta,
                ];
                sweeps.push(Sweep::threads(self.kernels.endomorphism, count, words));
            }
        }
        sweeps
    }
}

impl Steps for Build {
    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        "msm.tables"
    }

    fn open(&self, _: usize) -> Result<Vec<Sweep>, DeviceError> {
        // Their memory may be needed.
        for wanted in &self.wanted {
            wanted.bases.set_tables(None);
        }
        let mut sweeps = Vec::new();
        let mut all = Vec::new();
        for (wanted, levels) in self.wanted.iter().zip(self.levels()) {
            let bases = &*wanted.bases;
            if levels == 1 {
                all.push(None);
                continue;
            }
            let size = bases.curve.point_bytes(bases.group);
            let bytes = (levels as usize - 1) * bases.count() * size;
            let tables = Arc::new(Tables {
                cut: Cut::best(bases.curve, bases.full(), levels),
                points: Buffer::uninitialised(&self.driver, bytes, "tables")?,
            });
            assert_eq!(tables.cut.all_levels(), levels);
            // XYZZ is twice as large.
            let scratch = 2 * size * CHUNK.min(bases.count());
            let scratch = Buffer::uninitialised(&self.driver, scratch, "making of tables")?;
            sweeps.extend(wanted.sweeps(&tables, &scratch));
            all.push(Some(Making {
                tables,
                _scratch: scratch,
            }));
        }
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(sweeps)
    }

    fn close(&self, _: usize) -> Result<(), DeviceError> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for (wanted, made) in self.wanted.iter().zip(made) {
            if let Some(making) = made {
                wanted.bases.set_tables(Some(making.tables));
            }
        }
        Ok(())
    }
}

/// Points in XYZZ at a time.
const CHUNK: usize = 1 << 16;

/// Doublings of one launch: 16 take 0.6 ms in G2 of BLS12-381 where nothing else runs (computed).
const DOUBLINGS: u32 = 16;

/// More levels than this save next to nothing, and entries number points in 31 bits.
const LEVELS_MAX: u32 = 32;
