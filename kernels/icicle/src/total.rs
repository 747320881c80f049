//! The sum of the points that a child has answered with, each looked at before it is taken.

use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::PrimeField;
use caldera_kernels::{CurveId, Group};

/// A running sum in one of the four groups.
pub(crate) trait Total: Send {
    /// Adds a point given by plain integers; `false`, and nothing added, if that is no point of
    /// the curve.
    fn add(&mut self, point: &[u8]) -> bool;

    /// The sum in the layout of `caldera_kernels::Device`.
    fn bytes(&self) -> Vec<u8>;
}

/// Nothing yet.
pub(crate) fn zero(curve: CurveId, group: Group) -> Box<dyn Total> {
    match (curve, group) {
        (CurveId::Bn254, Group::G1) => Sum::<<Bn254 as Curve>::Fq, _>::zero(convert::<Bn254>),
        (CurveId::Bn254, Group::G2) => Sum::<<Bn254 as Curve>::Fq2, _>::zero(convert::<Bn254>),
        (CurveId::Bls12_381, Group::G1) => {
            Sum::<<Bls12_381 as Curve>::Fq, _>::zero(convert::<Bls12_381>)
        }
        (CurveId::Bls12_381, Group::G2) => {
            Sum::<<Bls12_381 as Curve>::Fq2, _>::zero(convert::<Bls12_381>)
        }
    }
}

struct Sum<F, C> {
    sum: Projective<F>,
    convert: C,
}

impl<F: Coordinate, C: Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static> Sum<F, C> {
    fn zero(convert: C) -> Box<dyn Total> {
        Box::new(Sum {
            sum: Projective::<F>::INFINITY,
            convert,
        })
    }
}

impl<F: Coordinate, C: Fn(&[u8]) -> Option<Vec<u8>> + Send> Total for Sum<F, C> {
    fn add(&mut self, point: &[u8]) -> bool {
        let point = (self.convert)(point)
            .and_then(|bytes| Affine::<F>::from_bytes(&bytes))
            .filter(Affine::is_on_curve);
        if let Some(point) = &point {
            self.sum = self.sum.add_affine(point);
        }
        point.is_some()
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; Affine::<F>::BYTES];
        self.sum.to_affine().to_bytes(&mut bytes);
        bytes
    }
}

/// Integers below q as the device's own layout has them, in Montgomery form.
fn convert<C: Curve>(point: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = vec![0; point.len()];
    let size = C::ID.base_bytes();
    for (integer, element) in point.chunks(size).zip(bytes.chunks_mut(size)) {
        let coordinate = <C::Fq as PrimeField>::from_canonical_le(integer)?;
        caldera_kernels::field::Field::to_montgomery_le(&coordinate, element);
    }
    Some(bytes)
}
