//! Are these bytes points of the group? The gate through which every key goes once.
//!
//! Three questions for each point: are its coordinates below q, does it satisfy the curve's
//! equation, is it in the subgroup of order r. The first two cost a few multiplications. The
//! third, asked of each point alone, costs a scalar multiplication by the curve's parameter; asked
//! of many at once, some dozen additions a point:
//!
//! Let the points be P_1 .. P_n, and give each an independent random bit b_i. If some P_i is
//! outside the subgroup, then sum b_i P_i is outside with probability at least 1/2: whatever the
//! other bits are, of the two sums with b_i = 0 and b_i = 1 at most one is inside. This holds for
//! any cofactor, however small its factors (BLS12-381's G1 has a factor 3, BN254's twist one of
//! 10069). So 128 such sums that are all inside leave a chance of 2^-128 for a key
//! that is bad anyway, over the random bits alone, which the maker of the key cannot know.
//!
//! k sums are made together: each point goes into one of 2^k buckets that its k bits name, and
//! the folding of the buckets (`accumulate.rs`) gives, for each bit, the sum of those buckets
//! whose index has it. That is n + 2 * 2^k additions for k sums; k follows from n. Each sum is
//! then asked alone. If one is outside, the points are asked one by one, to name the first.

use crate::device::{CurveId, Group};

use crate::lanes::Engine;

use super::accumulate::{Accumulator, Adder, Buckets, Folding, Sources, fold, folded_bit};
use super::{Affine, Bls12_381, Bn254, Coordinate, Curve};

/// What is wrong with a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A coordinate is not below the base field's modulus.
    NotReduced,
    /// The coordinates do not satisfy the curve's equation.
    OffCurve,
    /// On the curve, but not in the subgroup of order r.
    OutsideSubgroup,
}

/// Why bytes are not points of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PointsError {
    /// Not a whole number of points.
    #[error("{group:?} points of {curve:?}: expected a multiple of {expected} bytes, got {got}")]
    Length {
        /// The curve asked for.
        curve: CurveId,
        /// The group asked for.
        group: Group,
        /// Bytes of one point.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// The first bad point.
    #[error("{group:?} point {index} of {curve:?}: {}", fault.describe())]
    Point {
        /// The curve asked for.
        curve: CurveId,
        /// The group asked for.
        group: Group,
        /// Its index among the points given.
        index: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

impl Fault {
    fn describe(self) -> &'static str {
        match self {
            Fault::NotReduced => "a coordinate is not below the field's modulus",
            Fault::OffCurve => "not on the curve",
            Fault::OutsideSubgroup => "outside the subgroup of order r",
        }
    }
}

/// Checks that bytes are points of a group: reduced, on the curve, in the subgroup. Infinity is a
/// point of every group.
///
/// Meant to be called on slices of some 2^14 to 2^16 points, by as many threads as there are:
/// long enough that buckets pay, short enough for a progress bar. `random` fills a slice with
/// unpredictable bytes; it is asked for about 16 bytes a point, and for none where all of the
/// curve is in the subgroup or the points are few. A point off the curve is reported before one
/// outside the subgroup, whatever their indices.
pub fn check_points(
    curve: CurveId,
    group: Group,
    points: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<(), PointsError> {
    match (curve, group) {
        (CurveId::Bn254, Group::G1) => check::<<Bn254 as Curve>::Fq>(points, random),
        (CurveId::Bn254, Group::G2) => check::<<Bn254 as Curve>::Fq2>(points, random),
        (CurveId::Bls12_381, Group::G1) => check::<<Bls12_381 as Curve>::Fq>(points, random),
        (CurveId::Bls12_381, Group::G2) => check::<<Bls12_381 as Curve>::Fq2>(points, random),
    }
}

fn check<F: Coordinate>(
    bytes: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<(), PointsError> {
    if !bytes.len().is_multiple_of(Affine::<F>::BYTES) {
        return Err(PointsError::Length {
            curve: F::CURVE,
            group: F::GROUP,
            expected: Affine::<F>::BYTES,
            got: bytes.len(),
        });
    }
    let bad = |index, fault| {
        Err(PointsError::Point {
            curve: F::CURVE,
            group: F::GROUP,
            index,
            fault,
        })
    };
    let count = bytes.len() / Affine::<F>::BYTES;
    for (index, bytes) in bytes.chunks_exact(Affine::<F>::BYTES).enumerate() {
        match Affine::<F>::from_bytes(bytes) {
            None => return bad(index, Fault::NotReduced),
            Some(point) if !point.is_on_curve() => return bad(index, Fault::OffCurve),
            Some(_) => {}
        }
    }
    let whole_curve = F::CURVE == CurveId::Bn254 && F::GROUP == Group::G1;
    if whole_curve {
        return Ok(());
    }
    let point =
        |index: usize| Affine::<F>::from_bytes_unchecked(&bytes[index * Affine::<F>::BYTES..]);
    if count >= FEW && sums_in_subgroup::<F>(bytes, random) {
        return Ok(());
    }
    match (0..count).find(|&index| !point(index).is_in_subgroup()) {
        Some(index) => bad(index, Fault::OutsideSubgroup),
        // Sums of members are members: had a sum been outside, a point would be.
        None => {
            assert!(count < FEW, "a sum is outside the subgroup, but no term is");
            Ok(())
        }
    }
}

/// Whether [`ROUNDS`] random sums of the points are in the subgroup.
fn sums_in_subgroup<F: Coordinate>(points: &[u8], random: &mut dyn FnMut(&mut [u8])) -> bool {
    let count = points.len() / Affine::<F>::BYTES;
    let engine = Engine::best();
    // ceil(128 / k) times n + 2 * 2^k additions.
    let bits = (4..=16u32)
        .min_by_key(|&k| ROUNDS.div_ceil(k) as usize * (count + (2 << k)))
        .expect("the range is not empty");
    let mut buckets = Buckets::<F>::new(engine, 1 << bits);
    let mut accumulator = Accumulator::new(engine, BATCH);
    let mut adder = Adder::new(engine, BATCH);
    let sources = Sources::File(points);
    let mut bytes = [0u8; 2 * BATCH];
    for _ in 0..ROUNDS.div_ceil(bits) {
        buckets.clear(1 << bits);
        for index in 0..count {
            let at = 2 * (index % BATCH);
            if at == 0 {
                random(&mut bytes);
            }
            let drawn = u32::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            let bucket = drawn & ((1 << bits) - 1);
            // Bucket 0 is in no sum.
            let at = index * Affine::<F>::BYTES;
            let point = &points[at..at + Affine::<F>::BYTES];
            if bucket != 0 && point.iter().any(|&byte| byte != 0) {
                accumulator.add(&mut buckets, bucket, index as u32, sources);
            }
        }
        accumulator.finish(&mut buckets, sources);
        let ended = fold(&mut Folding::new(bits), &mut adder, &mut buckets, u64::MAX);
        assert!(ended);
        if !(0..bits).all(|bit| folded_bit(&buckets, bit).is_in_subgroup()) {
            return false;
        }
    }
    true
}

/// Random sums that must all be in the subgroup.
const ROUNDS: u32 = 128;

/// Below this many points each is asked by itself: the sums, with 128 questions of their own,
/// would cost more.
const FEW: usize = 1024;

const BATCH: usize = 512;
