//! halo2curves with its x86-64 assembly: BN254 only. Its MSM is measured on a pool of as many
//! threads as ours has.

use anyhow::{Context, Result};
use halo2curves::CurveAffine;
use halo2curves::bn256::{Fq, Fq2, Fr, G1Affine, G2Affine};
use halo2curves::ff::PrimeField as _;
use halo2curves::group::Curve as _;

use crate::peer::ark::{canonical, from_canonical};
use crate::record::version;

/// What stands in a record beside a figure of this crate.
pub(crate) fn build() -> String {
    format!("halo2curves {}, asm", version("halo2curves"))
}

/// Runs its code on so many threads.
pub(crate) fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> Result<T> {
    super::on_pool(threads, work)
}

/// One of its groups, beside arkworks' of the same name.
pub(crate) trait Group: CurveAffine<ScalarExt = Fr> {
    /// arkworks' coordinates.
    type Ark: ark_ff::Field<BasePrimeField = ark_bn254::Fq>;
    /// A coordinate from arkworks'.
    fn coordinate(from: &Self::Ark) -> Result<Self::Base>;
    /// And back.
    fn ark(from: &Self::Base) -> Result<Self::Ark>;
}

impl Group for G1Affine {
    type Ark = ark_bn254::Fq;

    fn coordinate(from: &ark_bn254::Fq) -> Result<Fq> {
        prime(&canonical(from))
    }

    fn ark(from: &Fq) -> Result<ark_bn254::Fq> {
        from_canonical(from.to_repr().as_ref())
    }
}

impl Group for G2Affine {
    type Ark = ark_bn254::Fq2;

    fn coordinate(from: &ark_bn254::Fq2) -> Result<Fq2> {
        Ok(Fq2::new(
            prime(&canonical(&from.c0))?,
            prime(&canonical(&from.c1))?,
        ))
    }

    fn ark(from: &Fq2) -> Result<ark_bn254::Fq2> {
        let part = |part: &Fq| from_canonical(part.to_repr().as_ref());
        Ok(ark_bn254::Fq2::new(part(from.c0())?, part(from.c1())?))
    }
}

/// A scalar from arkworks'.
pub(crate) fn scalar(from: &ark_bn254::Fr) -> Result<Fr> {
    prime(&canonical(from))
}

/// A scalar in arkworks' type.
pub(crate) fn ark_scalar(from: &Fr) -> Result<ark_bn254::Fr> {
    from_canonical(from.to_repr().as_ref())
}

/// An element from its plain little-endian bytes.
pub(crate) fn prime<F: halo2curves::ff::PrimeField>(bytes: &[u8]) -> Result<F> {
    let mut repr = F::Repr::default();
    repr.as_mut().copy_from_slice(bytes);
    Option::from(F::from_repr(repr)).context("an element that is not below the modulus")
}

/// A point from arkworks' coordinates.
pub(crate) fn point<G: Group>(x: &G::Ark, y: &G::Ark) -> Result<G> {
    let point = G::from_xy(G::coordinate(x)?, G::coordinate(y)?);
    Option::from(point).context("a point that is not on the curve")
}

/// A sum of multiples, in arkworks' coordinates; `None` for infinity.
pub(crate) fn coordinates<G: Group>(sum: &G::CurveExt) -> Result<Option<(G::Ark, G::Ark)>> {
    let Some(coordinates) =
        Option::<halo2curves::Coordinates<G>>::from(sum.to_affine().coordinates())
    else {
        return Ok(None);
    };
    Ok(Some((G::ark(coordinates.x())?, G::ark(coordinates.y())?)))
}
