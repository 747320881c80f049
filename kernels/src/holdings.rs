//! What a device holds, by the ids that it has given out, and whether work fits it.
//!
//! Every device keeps vectors, bases and matrices in forms of its own, and owes its callers the same
//! answers: an id that it does not know, curves that differ, lengths that do not fit. They are given
//! here once, so that no device is laxer than another.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::device::{BasesId, CurveId, DeviceError, Form, MatrixId, Transform, VectorId, Work};

/// Things by id. Plans hold their own reference, so that freeing an id never waits for them.
pub struct Registry<I, T> {
    what: &'static str,
    things: Mutex<HashMap<I, Arc<T>>>,
}

impl<I: Eq + Hash + Copy, T> Registry<I, T> {
    /// Empty; `what` is for errors: "vector".
    pub fn new(what: &'static str) -> Self {
        Self {
            what,
            things: Mutex::default(),
        }
    }

    /// Adds a thing.
    pub fn insert(&self, id: I, thing: T) {
        self.lock().insert(id, Arc::new(thing));
    }

    /// The thing, or [`DeviceError::Unknown`].
    pub fn find(&self, id: I, number: u64) -> Result<Arc<T>, DeviceError> {
        let unknown = DeviceError::Unknown {
            what: self.what,
            id: number,
        };
        self.lock().get(&id).cloned().ok_or(unknown)
    }

    /// Forgets a thing, if it is there; it is dropped when nobody else holds it.
    pub fn remove(&self, id: I) {
        // Dropped after the lock is released: overwriting a large vector takes a while.
        let removed = self.lock().remove(&id);
        drop(removed);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<I, Arc<T>>> {
        // Each critical section is one call of the map's, which leaves it whole.
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shape of something that a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Over which curve.
    pub curve: CurveId,
    /// Elements of a vector, points of bases, rows of a matrix.
    pub len: usize,
    /// Columns of a matrix; one for what has none.
    pub columns: usize,
}

impl Shape {
    /// Of a vector, or of bases.
    pub fn row(curve: CurveId, len: usize) -> Shape {
        Shape {
            curve,
            len,
            columns: 1,
        }
    }
}

/// Has a shape.
pub trait Shaped {
    /// The shape.
    fn shape(&self) -> Shape;
}

/// All that one device holds: vectors, bases and matrices in its own forms.
pub struct Holdings<V, B, M> {
    next_id: AtomicU64,
    vectors: Registry<VectorId, V>,
    bases: Registry<BasesId, B>,
    matrices: Registry<MatrixId, M>,
}

/// Work with what it works on, which is known and fits.
pub enum Fitted<V, B, M> {
    /// See [`Work::Product`].
    Product {
        /// The pair of matrices.
        matrix: Arc<M>,
        /// The vector that they are multiplied by.
        witness: Arc<V>,
        /// Where A w and B w go, both of one length.
        results: [Arc<V>; 2],
    },
    /// See [`Work::Multiply`]: a, b and where the product goes.
    Multiply([Arc<V>; 3]),
    /// See [`Work::MultiplySubtract`]: a, b, c.
    MultiplySubtract([Arc<V>; 3]),
    /// See [`Work::Ntt`]; whether the device has a domain of that size it must see itself.
    Ntt {
        /// The vector.
        vector: Arc<V>,
        /// How.
        transform: Transform,
    },
    /// See [`Work::Msm`].
    Msm {
        /// The points.
        bases: Arc<B>,
        /// The vector that the scalars are in.
        scalars: Arc<V>,
        /// Where they begin.
        offset: usize,
        /// In which form they are.
        form: Form,
    },
    /// See [`Work::Tables`].
    Tables {
        /// The sets of points that share the bytes.
        bases: Vec<Arc<B>>,
        /// The bytes.
        bytes: usize,
    },
}

impl<V, B, M> Default for Holdings<V, B, M> {
    fn default() -> Self {
        Self {
            next_id: AtomicU64::new(1),
            vectors: Registry::new("vector"),
            bases: Registry::new("bases"),
            matrices: Registry::new("matrix"),
        }
    }
}

impl<V, B, M> Holdings<V, B, M> {
    /// Holds a vector.
    pub fn add_vector(&self, vector: V) -> VectorId {
        let id = VectorId(self.id());
        self.vectors.insert(id, vector);
        id
    }

    /// Holds bases.
    pub fn add_bases(&self, bases: B) -> BasesId {
        let id = BasesId(self.id());
        self.bases.insert(id, bases);
        id
    }

    /// Holds a matrix.
    pub fn add_matrix(&self, matrix: M) -> MatrixId {
        let id = MatrixId(self.id());
        self.matrices.insert(id, matrix);
        id
    }

    /// A vector that is held.
    pub fn vector(&self, id: VectorId) -> Result<Arc<V>, DeviceError> {
        self.vectors.find(id, id.0)
    }

    /// Bases that are held.
    pub fn bases(&self, id: BasesId) -> Result<Arc<B>, DeviceError> {
        self.bases.find(id, id.0)
    }

    /// A matrix that is held.
    pub fn matrix(&self, id: MatrixId) -> Result<Arc<M>, DeviceError> {
        self.matrices.find(id, id.0)
    }

    /// Forgets a vector, if it is there.
    pub fn remove_vector(&self, id: VectorId) {
        self.vectors.remove(id);
    }

    /// Forgets bases, if they are there.
    pub fn remove_bases(&self, id: BasesId) {
        self.bases.remove(id);
    }

    /// Forgets a matrix, if it is there.
    pub fn remove_matrix(&self, id: MatrixId) {
        self.matrices.remove(id);
    }

    fn id(&self) -> u64 {
        // Only uniqueness matters.
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }
}

impl<V: Shaped, B: Shaped, M: Shaped> Holdings<V, B, M> {
    /// Finds what work names, and checks that its parts fit each other.
    pub fn fit(&self, work: &Work) -> Result<Fitted<V, B, M>, DeviceError> {
        Ok(match *work {
            Work::Product {
                matrix,
                witness,
                a,
                b,
            } => {
                let matrix = self.matrix(matrix)?;
                let witness = self.vector(witness)?;
                let results = [self.vector(a)?, self.vector(b)?];
                let (of_matrix, of_witness) = (matrix.shape(), witness.shape());
                let [of_a, of_b] = [results[0].shape(), results[1].shape()];
                same_curve("witness", of_matrix, of_witness)?;
                same_curve("product A w", of_matrix, of_a)?;
                same_curve("product B w", of_matrix, of_b)?;
                same_length("witness", of_matrix.columns, of_witness.len)?;
                if of_a.len < of_matrix.len {
                    return Err(DeviceError::Length {
                        what: "product A w",
                        expected: of_matrix.len,
                        got: of_a.len,
                    });
                }
                same_length("product B w", of_a.len, of_b.len)?;
                Fitted::Product {
                    matrix,
                    witness,
                    results,
                }
            }
            Work::Multiply { a, b, out } => Fitted::Multiply(self.three([a, b, out])?),
            Work::MultiplySubtract { a, b, c } => Fitted::MultiplySubtract(self.three([a, b, c])?),
            Work::Ntt { vector, transform } => Fitted::Ntt {
                vector: self.vector(vector)?,
                transform,
            },
            Work::Msm {
                bases,
                scalars,
                offset,
                form,
            } => {
                let bases = self.bases(bases)?;
                let scalars = self.vector(scalars)?;
                scalars_fit(bases.shape(), scalars.shape(), offset)?;
                Fitted::Msm {
                    bases,
                    scalars,
                    offset,
                    form,
                }
            }
            Work::Tables { ref bases, bytes } => Fitted::Tables {
                bases: bases
                    .iter()
                    .map(|&id| self.bases(id))
                    .collect::<Result<_, _>>()?,
                bytes,
            },
        })
    }

    /// Three vectors of one shape.
    fn three(&self, ids: [VectorId; 3]) -> Result<[Arc<V>; 3], DeviceError> {
        let [first, second, third] = ids.map(|id| self.vector(id));
        let vectors = [first?, second?, third?];
        let shape = vectors[0].shape();
        for (what, other) in [
            ("second vector", &vectors[1]),
            ("third vector", &vectors[2]),
        ] {
            same_curve(what, shape, other.shape())?;
            same_length(what, shape.len, other.shape().len)?;
        }
        Ok(vectors)
    }
}

/// Whether a vector has a scalar for each point from the offset on.
pub fn scalars_fit(bases: Shape, scalars: Shape, offset: usize) -> Result<(), DeviceError> {
    same_curve("scalars", bases, scalars)?;
    // The offset comes from outside: it may be anything.
    let available = scalars.len.saturating_sub(offset);
    if available < bases.len {
        return Err(DeviceError::Length {
            what: "scalars from the offset on",
            expected: bases.len,
            got: available,
        });
    }
    Ok(())
}

fn same_curve(what: &'static str, expected: Shape, got: Shape) -> Result<(), DeviceError> {
    if expected.curve == got.curve {
        Ok(())
    } else {
        Err(DeviceError::Curve {
            what,
            expected: expected.curve,
            got: got.curve,
        })
    }
}

/// Whether a length is the one that is needed.
pub fn same_length(what: &'static str, expected: usize, got: usize) -> Result<(), DeviceError> {
    if expected == got {
        Ok(())
    } else {
        Err(DeviceError::Length {
            what,
            expected,
            got,
        })
    }
}
