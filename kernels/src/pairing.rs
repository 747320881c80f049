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
//!
//! Nothing here is secret and nothing takes a constant time.

mod lines;
mod tower;

use crate::curve::Affine;
use crate::field::FqBn254;

pub use lines::{Lines, miller_loop};
pub use tower::{Fq12, Tower};

/// e(P, Q) of a point of the curve and a prepared point; one if either is infinity.
pub fn pairing(point: &Affine<FqBn254>, lines: &Lines) -> Fq12 {
    miller_loop(&[(*point, lines)])
        .final_exponentiation()
        .expect("lines have no zeros at points of the curve of order r")
}
