//! The optimal ate pairing of BN254, for verifying what others have proved.
//!
//! e(P, Q) is the Miller loop of the optimal ate pairing (Vercauteren, 2008) to the power of a
//! multiple of (q^12 - 1) / r, the same that `ark-ec` takes: its values are equal to arkworks's,
//! coordinate by coordinate. One final exponentiation serves a product of any number of loops.
//!
//! | file | subject |
//! |---|---|
//! | `tower` | the target field and the final exponentiation |
//! | `lines` | a point of G2 as prepared lines, membership of the subgroup, the loop over prepared points |
//! | `many` | the loops of many pairs that nobody has prepared, on vectors |
//! | `multiples` | many points of G1 times random coefficients, on vectors |
//! | `window` | sums of multiples of a few fixed points, one scalar each |
//!
//! Nothing here is secret and nothing takes a constant time.

mod lines;
mod many;
mod multiples;
mod tower;
mod window;

use crate::cpu::Vectors;
use crate::curve::{Affine, Projective};
use crate::field::FqBn254;
use crate::lanes::Engine;

pub use lines::{Lines, miller_loop};
pub use many::Pair;
pub use multiples::Coefficient;
pub use tower::{Fq12, Tower};
pub use window::Windows;

/// e(P, Q) of a point of the curve and a prepared point; one if either is infinity.
pub fn pairing(point: &Affine<FqBn254>, lines: &Lines) -> Fq12 {
    miller_loop(&[(*point, lines)])
        .final_exponentiation()
        .expect("lines have no zeros at points of the curve of order r")
}

/// Work on many points by those vector instructions.
#[derive(Clone, Copy, Debug)]
pub struct Batch(Option<Engine>);

impl Batch {
    /// `None` where the processor lacks the instructions.
    pub fn new(vectors: Vectors) -> Option<Self> {
        vectors.engine().map(Self)
    }

    /// The product of the Miller loops of points of the curve and of the twist, or the indices of
    /// the pairs whose second point is outside the subgroup. A pair with infinity counts as one.
    /// A point that is not on its curve must not be given: what it gives means nothing.
    pub fn miller_loop(self, pairs: &[Pair]) -> Result<Fq12, Vec<usize>> {
        many::miller_loop_of_many(self.0, pairs)
    }

    /// Each point of the curve times its coefficient.
    ///
    /// # Panics
    /// If there are not as many coefficients as points.
    pub fn multiples(
        self,
        points: &[Affine<FqBn254>],
        coefficients: &[Coefficient],
    ) -> Vec<Projective<FqBn254>> {
        multiples::multiples(self.0, points, coefficients)
    }
}
