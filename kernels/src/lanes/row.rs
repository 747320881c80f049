//! A row of elements as an engine's vectors, to be measured: what batches of additions and levels
//! of butterflies multiply, without the steps around it.

use crate::field::PrimeField;

use super::{Engine, Laned, Lanes, Line, Task, WIDTH_MAX};

/// Elements side by side, known up to a multiple of the modulus.
pub struct Row<F> {
    engine: Engine,
    lines: Vec<Line>,
    len: usize,
    field: std::marker::PhantomData<F>,
}

impl<F: PrimeField + Laned> Row<F> {
    /// From as many elements as fill vectors of any engine.
    ///
    /// # Panics
    /// If there are others.
    pub(crate) fn new(engine: Engine, elements: &[F]) -> Self {
        assert_eq!(elements.len() % WIDTH_MAX, 0);
        Self {
            engine,
            lines: engine.run(Pack(elements)),
            len: elements.len(),
            field: std::marker::PhantomData,
        }
    }

    /// a_i = a_i b_i.
    ///
    /// # Panics
    /// If the other row has another length or is of another engine.
    pub fn multiply(&mut self, other: &Self) {
        assert_eq!(self.len, other.len);
        assert_eq!(self.lines.len(), other.lines.len());
        self.engine.run::<F, _>(Multiply {
            a: &mut self.lines,
            b: &other.lines,
        });
    }

    /// The elements.
    pub fn elements(&self) -> Vec<F> {
        let mut elements = vec![F::ZERO; self.len];
        self.engine.run(Unpack {
            lines: &self.lines,
            elements: &mut elements,
        });
        elements
    }
}

struct Pack<'a, F>(&'a [F]);

impl<F: PrimeField> Task<F> for Pack<'_, F> {
    type Output = Vec<Line>;

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) -> Vec<Line> {
        let mut lines = vec![Line::EMPTY; L::lines(self.0.len() / L::WIDTH)];
        let vectors = L::vectors_mut(&mut lines).iter_mut();
        let mut padded = [F::ZERO; WIDTH_MAX];
        for (vector, elements) in vectors.zip(self.0.chunks_exact(L::WIDTH)) {
            padded[..L::WIDTH].copy_from_slice(elements);
            *vector = lanes.pack(&padded);
        }
        lines
    }
}

struct Multiply<'a> {
    a: &'a mut [Line],
    b: &'a [Line],
}

impl<F: PrimeField> Task<F> for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) {
        for (a, b) in L::vectors_mut(self.a).iter_mut().zip(L::vectors(self.b)) {
            *a = lanes.mul(*a, *b);
        }
    }
}

struct Unpack<'a, F> {
    lines: &'a [Line],
    elements: &'a mut [F],
}

impl<F: PrimeField> Task<F> for Unpack<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes<F>>(self, lanes: L) {
        let mut padded = [F::ZERO; WIDTH_MAX];
        let vectors = L::vectors(self.lines);
        for (vector, elements) in vectors.iter().zip(self.elements.chunks_exact_mut(L::WIDTH)) {
            lanes.unpack(lanes.reduced(*vector), &mut padded);
            elements.copy_from_slice(&padded[..L::WIDTH]);
        }
    }
}
