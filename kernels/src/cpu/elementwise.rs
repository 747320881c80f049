//! Products of vectors, element by element.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use crate::device::{Plan, Progress};
use crate::field::PrimeField;

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
    a: Arc<Vector>,
    b: Arc<Vector>,
    third: Arc<Vector>,
    lanes: usize,
    /// Elements in a quantum.
    quantum: usize,
    field: PhantomData<F>,
}

impl<F: PrimeField<Words = [u64; 4]>> Elementwise<F> {
    pub(crate) fn plan(
        operation: Operation,
        a: Arc<Vector>,
        b: Arc<Vector>,
        third: Arc<Vector>,
        lanes: usize,
        rates: &CurveRates,
    ) -> Arc<dyn Plan> {
        let lanes = lanes.min(a.len().div_ceil(LANE_MIN)).max(1);
        let kernel = Self {
            operation,
            a,
            b,
            third,
            lanes,
            quantum: rates.units(rates.element_ns),
            field: PhantomData,
        };
        Staged::new(kernel, (0..lanes).map(|_| 0..0))
    }
}

impl<F: PrimeField<Words = [u64; 4]>> Kernel for Elementwise<F> {
    /// What is left of the lane's part.
    type Lane = Range<usize>;

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

    fn begin(&self, _: usize, lane: usize, left: &mut Self::Lane) {
        *left = share(self.a.len(), self.lanes, lane);
    }

    fn run(&self, _: usize, _: usize, left: &mut Self::Lane) -> Result<Progress, &'static str> {
        let end = left.end.min(left.start.saturating_add(self.quantum));
        for i in left.start..end {
            let product = self.a.element::<F>(i) * self.b.element(i);
            match self.operation {
                Operation::Multiply => self.third.set_element(i, product),
                Operation::MultiplySubtract => {
                    self.a.set_element(i, product - self.third.element(i));
                }
            }
        }
        left.start = end;
        Ok(if Range::is_empty(left) {
            Progress::Done
        } else {
            Progress::More
        })
    }
}

/// Elements below which another lane is not worth its opening.
const LANE_MIN: usize = 256;
