//! blst with its assembly: BLS12-381 only. Its MSM is Pippenger's over projective buckets.
//!
//! One thread is the function of its C library, which computes on the caller's thread. Many
//! threads are its Rust wrapper, whose pool has one for each processor and cannot be told
//! otherwise; so there it is measured on one thread and on all, and not between.
//!
//! blst holds coordinates as devices do: little-endian Montgomery limbs with R = 2^384. Points
//! therefore go in and out as the bytes of [`Layout`], and are compared byte for byte.

use anyhow::{Result, ensure};
use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
use ark_ff::Field;
use blst::{MultiPoint, blst_fp, blst_fp2, blst_p1, blst_p1_affine, blst_p2, blst_p2_affine};

use crate::peer::ark::{Layout, canonical};
use crate::record::version;

/// What stands in a record beside a figure of this crate. The build script of blst turns ADX on
/// when the processor that builds has it.
pub(crate) fn build() -> String {
    let adx = if cfg!(target_arch = "x86_64") {
        ", adx as the building processor has it"
    } else {
        ""
    };
    format!("blst {}, assembly{adx}, Pippenger", version("blst"))
}

/// Whether it can be told to run on so many threads.
pub(crate) fn runs_on(threads: usize) -> bool {
    threads == 1 || std::thread::available_parallelism().is_ok_and(|all| all.get() == threads)
}

/// One of its groups.
pub(crate) trait Group: Sized {
    /// The same group in arkworks.
    type Ark: SWCurveConfig<
            BaseField: Field<BasePrimeField = ark_bls12_381::Fq>,
            ScalarField = ark_bls12_381::Fr,
        >;

    /// A point from the bytes that [`Layout`] writes.
    fn point(bytes: &[u8]) -> Result<Self>;

    /// The sum of multiples, as the bytes that [`Layout`] writes.
    fn sum(points: &[Self], scalars: &[u8], threads: usize) -> Vec<u8>;
}

/// The points of a case.
pub(crate) fn points<G: Group>(points: &[Affine<G::Ark>]) -> Result<Vec<G>> {
    let layout = Layout::<ark_bls12_381::Fq>::new();
    points
        .iter()
        .map(|point| G::point(&layout.point_bytes(point)))
        .collect()
}

/// Its scalars, as it takes them: plain little-endian integers, one after another.
pub(crate) fn scalars(scalars: &[ark_bls12_381::Fr]) -> Vec<u8> {
    scalars.iter().flat_map(canonical).collect()
}

impl Group for blst_p1_affine {
    type Ark = ark_bls12_381::g1::Config;

    fn point(bytes: &[u8]) -> Result<blst_p1_affine> {
        let [x, y] = elements(bytes)?;
        Ok(blst_p1_affine { x, y })
    }

    fn sum(points: &[blst_p1_affine], scalars: &[u8], threads: usize) -> Vec<u8> {
        check(points.len(), scalars);
        let sum = if threads == 1 {
            let mut sum = blst_p1::default();
            let mut scratch = scratch(points.len(), |count| {
                // SAFETY: a function of a number.
                unsafe { blst::blst_p1s_mult_pippenger_scratch_sizeof(count) }
            });
            // SAFETY: an array of pointers that ends with null says that all points, or all
            // scalars, follow the first. There are as many of each as we say, for `check` has
            // counted, and the scratch has the size that blst asked for.
            unsafe {
                blst::blst_p1s_mult_pippenger(
                    &mut sum,
                    [points.as_ptr(), std::ptr::null()].as_ptr(),
                    points.len(),
                    [scalars.as_ptr(), std::ptr::null()].as_ptr(),
                    SCALAR_BITS,
                    scratch.as_mut_ptr(),
                );
            }
            sum
        } else {
            points.mult(scalars, SCALAR_BITS)
        };
        if sum == blst_p1::default() {
            return vec![0; 2 * 48];
        }
        let affine = blst::p1_affines::from(&[sum]);
        [affine[0].x, affine[0].y].iter().flat_map(bytes).collect()
    }
}

impl Group for blst_p2_affine {
    type Ark = ark_bls12_381::g2::Config;

    fn point(bytes: &[u8]) -> Result<blst_p2_affine> {
        let [x0, x1, y0, y1] = elements(bytes)?;
        Ok(blst_p2_affine {
            x: blst_fp2 { fp: [x0, x1] },
            y: blst_fp2 { fp: [y0, y1] },
        })
    }

    fn sum(points: &[blst_p2_affine], scalars: &[u8], threads: usize) -> Vec<u8> {
        check(points.len(), scalars);
        let sum = if threads == 1 {
            let mut sum = blst_p2::default();
            let mut scratch = scratch(points.len(), |count| {
                // SAFETY: a function of a number.
                unsafe { blst::blst_p2s_mult_pippenger_scratch_sizeof(count) }
            });
            // SAFETY: as in G1.
            unsafe {
                blst::blst_p2s_mult_pippenger(
                    &mut sum,
                    [points.as_ptr(), std::ptr::null()].as_ptr(),
                    points.len(),
                    [scalars.as_ptr(), std::ptr::null()].as_ptr(),
                    SCALAR_BITS,
                    scratch.as_mut_ptr(),
                );
            }
            sum
        } else {
            points.mult(scalars, SCALAR_BITS)
        };
        if sum == blst_p2::default() {
            return vec![0; 4 * 48];
        }
        let affine = blst::p2_affines::from(&[sum]);
        let (x, y) = (affine[0].x.fp, affine[0].y.fp);
        [x[0], x[1], y[0], y[1]].iter().flat_map(bytes).collect()
    }
}

/// Base field elements from their limbs.
fn elements<const COUNT: usize>(bytes: &[u8]) -> Result<[blst_fp; COUNT]> {
    ensure!(
        bytes.len() == 48 * COUNT,
        "{} bytes are not {COUNT} coordinates",
        bytes.len()
    );
    let mut elements = [blst_fp::default(); COUNT];
    for (element, bytes) in elements.iter_mut().zip(bytes.chunks_exact(48)) {
        for (limb, bytes) in element.l.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *limb = u64::from_le_bytes(*bytes);
        }
    }
    Ok(elements)
}

fn bytes(element: &blst_fp) -> Vec<u8> {
    element.l.iter().flat_map(|l| l.to_le_bytes()).collect()
}

/// The C function is told one length and reads both arrays.
fn check(points: usize, scalars: &[u8]) {
    assert_ne!(points, 0);
    assert_eq!(scalars.len(), points * SCALAR_BITS.div_ceil(8));
}

fn scratch(points: usize, bytes: impl FnOnce(usize) -> usize) -> Vec<u64> {
    vec![0; bytes(points).div_ceil(8)]
}

/// r of BLS12-381 has 255 bits.
const SCALAR_BITS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::ark;

    fn points_survive<G: Group + Clone>() {
        let made = ark::points::<G::Ark>(40);
        let theirs = points::<G>(&made).expect("points of our own");
        let layout = Layout::<ark_bls12_381::Fq>::new();
        let one = |index: usize| {
            let mut scalars = vec![0; 40 * 32];
            scalars[32 * index] = 1;
            scalars
        };
        for threads in [1, 2] {
            // A sum with one scalar of 1 is that point; with none it is infinity.
            let sum = G::sum(&theirs, &one(7), threads);
            assert_eq!(sum, layout.point_bytes(&made[7]));
            let sum = G::sum(&theirs, &[0; 40 * 32], threads);
            assert_eq!(sum, layout.point_bytes(&Affine::<G::Ark>::identity()));
        }
    }

    #[test]
    fn sums_come_back_in_our_layout() {
        points_survive::<blst_p1_affine>();
        points_survive::<blst_p2_affine>();
    }
}
