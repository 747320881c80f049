//! arkworks: points and scalars between its types and the layout of devices, its MSM and its NTT.
//!
//! Inputs are made by arkworks and handed to us in our layout, so that both compute on the same.
//! Points are multiples of the generator by random scalars: points in arithmetic progression
//! meet again in the buckets, and flatter or punish an MSM that adds in affine coordinates.

use anyhow::{Context, Result, ensure};
use ark_ec::pairing::Pairing;
use ark_ec::scalar_mul::ScalarMul;
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{AffineRepr, PrimeGroup};
use ark_ff::{BigInteger, Field, LegendreSymbol, PrimeField};
use ark_poly::{EvaluationDomain, Radix2EvaluationDomain};
use ark_std::rand::SeedableRng;
use ark_std::rand::rngs::StdRng;
use caldera_kernels::CurveId;

use crate::record::version;

/// A curve in arkworks' types.
pub(crate) trait Curve: 'static {
    /// Its name in tables and records.
    const NAME: &'static str;
    /// Which it is.
    const ID: CurveId;
    /// Scalars.
    type Fr: PrimeField;
    /// Coordinates of G1.
    type Fq: PrimeField;
    /// G1.
    type G1: SWCurveConfig<BaseField = Self::Fq, ScalarField = Self::Fr>;
    /// G2.
    type G2: SWCurveConfig<BaseField: Field<BasePrimeField = Self::Fq>, ScalarField = Self::Fr>;
    /// The pairing.
    type Pairing: Pairing<
            ScalarField = Self::Fr,
            BaseField = Self::Fq,
            G1Affine = Affine<Self::G1>,
            G2Affine = Affine<Self::G2>,
        >;
}

/// BN254.
pub(crate) struct Bn254;

impl Curve for Bn254 {
    const NAME: &'static str = "bn254";
    const ID: CurveId = CurveId::Bn254;
    type Fr = ark_bn254::Fr;
    type Fq = ark_bn254::Fq;
    type G1 = ark_bn254::g1::Config;
    type G2 = ark_bn254::g2::Config;
    type Pairing = ark_bn254::Bn254;
}

/// BLS12-381.
pub(crate) struct Bls12_381;

impl Curve for Bls12_381 {
    const NAME: &'static str = "bls12-381";
    const ID: CurveId = CurveId::Bls12_381;
    type Fr = ark_bls12_381::Fr;
    type Fq = ark_bls12_381::Fq;
    type G1 = ark_bls12_381::g1::Config;
    type G2 = ark_bls12_381::g2::Config;
    type Pairing = ark_bls12_381::Bls12_381;
}

/// What stands in a record beside a figure of an arkworks crate.
pub(crate) fn build(name: &str) -> String {
    let parallel = if cfg!(feature = "parallel") {
        "parallel"
    } else {
        "no parallel"
    };
    // The crates of 0.6 declare a feature "asm" whose list is empty: there is nothing to turn on.
    format!("{name} {}, {parallel}", version(name))
}

/// Whether this build can run arkworks as it is meant to run on so many threads.
pub(crate) fn runs_on(threads: usize) -> bool {
    cfg!(feature = "parallel") == (threads > 1)
}

/// Runs arkworks' code on so many threads, where it is built for more than one.
pub(crate) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    #[cfg(feature = "parallel")]
    {
        super::on_pool(threads, work)
    }
    #[cfg(not(feature = "parallel"))]
    {
        ensure!(threads == 1, "this build has arkworks on one thread only");
        Ok(work())
    }
}

/// Always the same random numbers: a bench is run again to be compared.
pub(crate) fn seeded() -> StdRng {
    StdRng::seed_from_u64(0x0043_414c_4445_5241)
}

/// The layout of devices, in terms of one curve's base field: little-endian Montgomery
/// coordinates with R a power of 2^64. arkworks computes with the same R but does not promise it,
/// so it is multiplied in and out here.
pub(crate) struct Layout<B> {
    r: B,
    r_inverse: B,
}

impl<B: PrimeField> Layout<B> {
    pub(crate) fn new() -> Layout<B> {
        let r = B::from(2u64).pow([64 * limbs::<B>() as u64]);
        // A power of two is not zero in a field of another characteristic.
        Layout {
            r,
            r_inverse: r.inverse().unwrap_or_default(),
        }
    }

    /// x || y; infinity is all zero.
    pub(crate) fn point_bytes<P>(&self, point: &Affine<P>) -> Vec<u8>
    where
        P: SWCurveConfig<BaseField: Field<BasePrimeField = B>>,
    {
        let mut bytes = Vec::new();
        let (x, y) = point.xy().unwrap_or_default();
        for coordinate in [x, y] {
            for element in coordinate.to_base_prime_field_elements() {
                bytes.extend_from_slice(&canonical(&(element * self.r)));
            }
        }
        bytes
    }

    /// Many points, one after another.
    pub(crate) fn points_bytes<P>(&self, points: &[Affine<P>]) -> Vec<u8>
    where
        P: SWCurveConfig<BaseField: Field<BasePrimeField = B>>,
    {
        points
            .iter()
            .flat_map(|point| self.point_bytes(point))
            .collect()
    }

    /// Reads what [`Layout::points_bytes`] writes. Whether points are on the curve is not looked
    /// at: a verified proof says that they were.
    pub(crate) fn points<P>(&self, bytes: &[u8]) -> Result<Vec<Affine<P>>>
    where
        P: SWCurveConfig<BaseField: Field<BasePrimeField = B>>,
    {
        let coordinate = 8 * limbs::<B>() * P::BaseField::extension_degree() as usize;
        ensure!(
            bytes.len().is_multiple_of(2 * coordinate),
            "{} bytes are no whole points",
            bytes.len()
        );
        bytes
            .chunks_exact(2 * coordinate)
            .map(|point| {
                if point.iter().all(|&byte| byte == 0) {
                    return Ok(Affine::identity());
                }
                let (x, y) = point.split_at(coordinate);
                Ok(Affine::new_unchecked(
                    self.coordinate(x)?,
                    self.coordinate(y)?,
                ))
            })
            .collect()
    }

    /// Elements in Montgomery form, one after another.
    pub(crate) fn elements_bytes(&self, elements: &[B]) -> Vec<u8> {
        elements
            .iter()
            .flat_map(|element| canonical(&(*element * self.r)))
            .collect()
    }

    /// An element of the prime field from its Montgomery form.
    pub(crate) fn element(&self, bytes: &[u8]) -> Result<B> {
        Ok(from_canonical::<B>(bytes)? * self.r_inverse)
    }

    fn coordinate<F: Field<BasePrimeField = B>>(&self, bytes: &[u8]) -> Result<F> {
        let elements: Vec<B> = bytes
            .chunks_exact(8 * limbs::<B>())
            .map(|bytes| self.element(bytes))
            .collect::<Result<_>>()?;
        F::from_base_prime_field_elems(elements).context("as many elements as the extension has")
    }
}

/// The plain integer, little-endian.
pub(crate) fn canonical<F: PrimeField>(element: &F) -> Vec<u8> {
    element.into_bigint().to_bytes_le()
}

/// The element of a plain little-endian integer below the modulus.
pub(crate) fn from_canonical<F: PrimeField>(bytes: &[u8]) -> Result<F> {
    let mut integer = F::BigInt::default();
    ensure!(
        bytes.len() == 8 * limbs::<F>(),
        "{} bytes are no field element",
        bytes.len()
    );
    for (limb, bytes) in integer.as_mut().iter_mut().zip(bytes.as_chunks::<8>().0) {
        *limb = u64::from_le_bytes(*bytes);
    }
    F::from_bigint(integer).context("an element that is not below the modulus")
}

/// Random multiples of a group's generator, all different.
pub(crate) fn points<P: SWCurveConfig>(count: usize) -> Vec<Affine<P>> {
    let mut random = seeded();
    let scalars: Vec<P::ScalarField> = (0..count)
        .map(|_| ark_std::UniformRand::rand(&mut random))
        .collect();
    Projective::<P>::generator().batch_mul(&scalars)
}

/// The domain of 2^log2 elements with the root of unity that snarkjs uses, the smallest
/// non-residue to the power of (r - 1) / 2^s. arkworks' own root for BLS12-381 is another one.
pub(crate) fn domain<F: PrimeField>(log2: u32) -> Result<Radix2EvaluationDomain<F>> {
    let mut domain =
        Radix2EvaluationDomain::<F>::new(1 << log2).context("a domain of this size")?;
    domain.group_gen = root_of_unity(log2)?;
    domain.group_gen_inv = domain
        .group_gen
        .inverse()
        .context("a root of unity is not zero")?;
    Ok(domain)
}

/// snarkjs's primitive root of unity of order 2^log2.
pub(crate) fn root_of_unity<F: PrimeField>(log2: u32) -> Result<F> {
    ensure!(
        log2 <= F::TWO_ADICITY,
        "the field has no root of unity of order 2^{log2}"
    );
    let mut non_residue = F::from(2u64);
    while non_residue.legendre() != LegendreSymbol::QuadraticNonResidue {
        non_residue += F::one();
    }
    let root = non_residue.pow(F::TRACE);
    Ok((log2..F::TWO_ADICITY).fold(root, |root, _| root.square()))
}

fn limbs<F: PrimeField>() -> usize {
    F::BigInt::default().as_ref().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout_round_trip<C: Curve>() {
        let layout = Layout::<C::Fq>::new();
        let mut g1 = points::<C::G1>(5);
        g1.push(Affine::identity());
        let bytes = layout.points_bytes(&g1);
        assert_eq!(
            bytes.len(),
            6 * C::ID.point_bytes(caldera_kernels::Group::G1)
        );
        assert_eq!(layout.points::<C::G1>(&bytes).expect("our own bytes"), g1);
        let g2 = points::<C::G2>(3);
        let bytes = layout.points_bytes(&g2);
        assert_eq!(
            bytes.len(),
            3 * C::ID.point_bytes(caldera_kernels::Group::G2)
        );
        assert_eq!(layout.points::<C::G2>(&bytes).expect("our own bytes"), g2);
        assert!(layout.points::<C::G2>(&bytes[1..]).is_err());
        assert!(layout.points::<C::G1>(&vec![0xff; bytes.len()]).is_err());
    }

    #[test]
    fn points_survive_the_layout() {
        layout_round_trip::<Bn254>();
        layout_round_trip::<Bls12_381>();
    }

    #[test]
    fn the_generator_lies_as_in_a_file_of_snarkjs() {
        // 1 and 2 times R = 2^256 mod q.
        let bytes = Layout::<ark_bn254::Fq>::new()
            .points_bytes(&[Affine::<ark_bn254::g1::Config>::generator()]);
        let r = ark_bn254::Fq::from(2u64).pow([256]);
        assert_eq!(bytes[..32], canonical(&r)[..]);
        assert_eq!(bytes[32..], canonical(&(r + r))[..]);
    }

    #[test]
    fn roots_of_unity_are_ours() {
        use caldera_kernels::field::{FrBls12_381, FrBn254, PrimeField as _};
        for log2 in [0, 1, 5, 20] {
            let mut bytes = [0; 32];
            FrBn254::root_of_unity(log2)
                .expect("within the field")
                .to_canonical_le(&mut bytes);
            let root = root_of_unity::<ark_bn254::Fr>(log2).expect("within the field");
            assert_eq!(canonical(&root)[..], bytes[..]);
            FrBls12_381::root_of_unity(log2)
                .expect("within the field")
                .to_canonical_le(&mut bytes);
            let root = root_of_unity::<ark_bls12_381::Fr>(log2).expect("within the field");
            assert_eq!(canonical(&root)[..], bytes[..]);
        }
        assert!(root_of_unity::<ark_bn254::Fr>(29).is_err());
    }
}
