//! Products of vectors, element by element: on an engine where that pays.
//!
//! A block of elements is copied from the vectors into the lane's own memory, multiplied there,
//! and copied back. An engine takes one factor in its own form and the other as it lies in memory,
//! which makes their product one in the form of the vectors.

use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroize;

use crate::device::{Plan, Progress};
use crate::field::PrimeField;
use crate::lanes::{Engine, Laned, Lanes, Task};

use super::Staged;
use super::calibration::CurveRates;
use super::plan::{Kernel, share};
use super::vector::Vector;

/// What is done with each triple of elements.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    /// third = a b.
    Multiply,
    /// a = a b - third.
    MultiplySubtract,
}

/// One stage, its lanes equal parts of the vectors.
pub(crate) struct Elementwise<F> {
    operation: Operation,
    engine: Option<Engine>,
    a: Arc<Vector>,
    b: Arc<Vector>,
    third: Arc<Vector>,
    lanes: usize,
    /// Elements in a quantum.
    quantum: usize,
    field: std::marker::PhantomData<F>,
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Elementwise<F> {
    pub(crate) fn plan(
        operation: Operation,
        [a, b, third]: [Arc<Vector>; 3],
        lanes: usize,
        engine: Option<Engine>,
        rates: &CurveRates,
    ) -> Arc<dyn Plan> {
        let lanes = lanes.min(a.len().div_ceil(LANE_MIN)).max(1);
        let kernel = Self {
            operation,
            engine,
            a,
            b,
            third,
            lanes,
            quantum: rates.units(rates.element_ns),
            field: std::marker::PhantomData,
        };
        Staged::new(kernel, (0..lanes).map(|_| Part::default()))
    }

    /// Does the elements at `range`, no more than a block.
    fn block(&self, range: Range<usize>, blocks: &mut [[F; BLOCK]; 3]) {
        let [a, b, third] = blocks.each_mut().map(|block| &mut block[..range.len()]);
        for (i, (a, b)) in range.clone().zip(a.iter_mut().zip(&mut *b)) {
            (*a, *b) = (self.a.element(i), self.b.element(i));
        }
        let (less, out) = match self.operation {
            Operation::Multiply => (None, &self.third),
            Operation::MultiplySubtract => {
                for (i, third) in range.clone().zip(&mut *third) {
                    *third = self.third.element(i);
                }
                (Some(&*third), &self.a)
            }
        };
        products(self.engine, a, b, less);
        for (i, product) in range.zip(a) {
            out.set_element(i, *product);
        }
    }
}

/// What a lane keeps between quanta.
pub(crate) struct Part<F: Zeroize> {
    /// What is left to do.
    left: Range<usize>,
    /// Room for a block of each vector; holds nothing of value between quanta.
    blocks: [[F; BLOCK]; 3],
}

impl<F: PrimeField> Default for Part<F> {
    fn default() -> Self {
        Self {
            left: 0..0,
            blocks: [[F::ZERO; BLOCK]; 3],
        }
    }
}

/// The blocks hold parts of a witness's polynomials.
impl<F: Zeroize> Drop for Part<F> {
    fn drop(&mut self) {
        self.blocks.zeroize();
    }
}

impl<F: PrimeField<Words = [u64; 4]> + Laned> Kernel for Elementwise<F> {
    type Lane = Part<F>;

    fn stages(&self) -> usize {
        1
    }

    fn name(&self, _: usize) -> &'static str {
        match self.operation {
            Operation::Multiply => "vector.multiply",
            Operation::MultiplySubtract => "vector.multiply_subtract",
        }
    }

    fn open(&self, _: usize) -> usize {
        self.lanes
    }

    fn begin(&self, _: usize, lane: usize, part: &mut Part<F>) {
        part.left = share(self.a.len(), self.lanes, lane);
    }

    fn run(&self, _: usize, _: usize, part: &mut Part<F>) -> Result<Progress, &'static str> {
        let end = part
            .left
            .end
            .min(part.left.start.saturating_add(self.quantum));
        while part.left.start < end {
            let block = part.left.start..end.min(part.left.start + BLOCK);
            part.left.start = block.end;
            self.block(block, &mut part.blocks);
        }
        Ok(if Range::is_empty(&part.left) {
            Progress::Done
        } else {
            Progress::More
        })
    }
}

/// a_i = a_i b_i, or a_i b_i - c_i, for elements in Montgomery form, on an engine where that pays.
///
/// # Panics
/// If there are fewer of others than of a.
pub(super) fn products<F: PrimeField + Laned>(
    engine: Option<Engine>,
    a: &mut [F],
    b: &[F],
    less: Option<&[F]>,
) {
    let b = &b[..a.len()];
    let less = less.map(|less| &less[..a.len()]);
    let done = match engine.filter(|engine| engine.pays_for_one_product()) {
        None => 0,
        Some(engine) => engine.run(Products {
            a: &mut *a,
            b,
            less,
        }),
    };
    for i in done..a.len() {
        a[i] *= b[i];
        if let Some(less) = less {
            a[i] -= less[i];
        }
    }
}

/// The same for as many elements as fill vectors; the output says how many they are.
struct Products<'a, F> {
    a: &'a mut [F],
    b: &'a [F],
    less: Option<&'a [F]>,
}

impl<F: PrimeField> Task<F> for Products<'_, F> {
    type Output = usize;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) -> usize {
        let count = self.a.len() / L::WIDTH * L::WIDTH;
        match self.less {
            None => {
                let pairs = self
                    .a
                    .chunks_exact_mut(L::WIDTH)
                    .zip(self.b.chunks_exact(L::WIDTH));
                for (a, b) in pairs {
                    let product = lanes.mul(lanes.form(a), lanes.take(b));
                    lanes.put(product, a);
                }
            }
            Some(less) => {
                let pairs = self
                    .a
                    .chunks_exact_mut(L::WIDTH)
                    .zip(self.b.chunks_exact(L::WIDTH));
                for ((a, b), c) in pairs.zip(less.chunks_exact(L::WIDTH)) {
                    let product = lanes.mul(lanes.form(a), lanes.take(b));
                    lanes.put(lanes.minus(product, lanes.take(c)), a);
                }
            }
        }
        count
    }
}

/// Elements below which another lane is not worth its opening.
const LANE_MIN: usize = 256;

/// Elements of a block: 2 KiB of each vector, in the first-level cache.
const BLOCK: usize = 64;
