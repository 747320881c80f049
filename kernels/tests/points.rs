//! The gate for points: what is refused, and which point is blamed.

use caldera_kernels::curve::check::{Fault, PointsError, check_points};
use caldera_kernels::curve::fixed_base::FixedBase;
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve};
use caldera_kernels::field::{Field, FqBls12_381};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

fn check<F: Coordinate>(points: &[Affine<F>]) -> Result<(), PointsError> {
    check_bytes::<F>(&to_bytes(points))
}

fn check_bytes<F: Coordinate>(bytes: &[u8]) -> Result<(), PointsError> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    check_points(F::CURVE, F::GROUP, bytes, &mut |bytes| {
        random.fill_bytes(bytes);
    })
}

fn to_bytes<F: Coordinate>(points: &[Affine<F>]) -> Vec<u8> {
    let mut bytes = vec![0; points.len() * Affine::<F>::BYTES];
    for (point, bytes) in points.iter().zip(bytes.chunks_mut(Affine::<F>::BYTES)) {
        point.to_bytes(bytes);
    }
    bytes
}

fn members<C: Curve, F: Coordinate>(count: u64) -> Vec<Affine<F>> {
    let scalars: Vec<C::Fr> = (0..count).map(|i| C::Fr::from(i * i)).collect();
    FixedBase::new(&F::GENERATOR, scalars.len()).multiply(&scalars)
}

fn refused<F: Coordinate>(points: &[Affine<F>], index: usize, fault: Fault) {
    let expected = PointsError::Point {
        curve: F::CURVE,
        group: F::GROUP,
        index,
        fault,
    };
    assert_eq!(check(points), Err(expected));
}

/// Few points, which are asked one by one, and many, which are asked by random sums.
fn gate<C: Curve, F: Coordinate>(outside: Option<Affine<F>>) {
    for count in [1, 10, 1500] {
        let good = members::<C, F>(count);
        assert_eq!(check(&good), Ok(()));
        let last = count as usize - 1;
        for index in [0, last / 2, last] {
            let mut points = good.clone();
            points[index] = Affine {
                x: F::GENERATOR.y,
                y: F::GENERATOR.x,
            };
            refused(&points, index, Fault::OffCurve);
            if let Some(outside) = outside {
                points[index] = outside;
                refused(&points, index, Fault::OutsideSubgroup);
                // The sum of all is a member; the points are not.
                if index > 0 {
                    points[index - 1] = -outside;
                    refused(&points, index - 1, Fault::OutsideSubgroup);
                }
            }
        }
        let mut bytes = to_bytes(&good);
        let coordinate = bytes.len() - F::BYTES / 2;
        bytes[coordinate..].fill(0xff);
        match check_bytes::<F>(&bytes) {
            Err(PointsError::Point {
                index,
                fault: Fault::NotReduced,
                ..
            }) => {
                assert_eq!(index, last);
            }
            other => panic!("a coordinate of all ones: {other:?}"),
        }
        match check_bytes::<F>(&bytes[1..]) {
            Err(PointsError::Length { got, .. }) => assert_eq!(got, bytes.len() - 1),
            other => panic!("a part of a point: {other:?}"),
        }
    }
    assert_eq!(check::<F>(&[]), Ok(()));
}

/// The first point of the curve, by x, that is outside the subgroup.
fn outsider<F: Coordinate, A: ark_ec::AffineRepr>(at: impl Fn(u64) -> Option<A>) -> Affine<F> {
    use ark_ff::{BigInteger, Field as _, PrimeField as _};
    (1..)
        .filter_map(at)
        .map(|theirs| {
            let (x, y) = theirs.xy().expect("not infinity");
            let parts = [x, y].into_iter().flat_map(|coordinate| {
                coordinate
                    .to_base_prime_field_elements()
                    .collect::<Vec<_>>()
            });
            let bytes: Vec<u8> = parts
                .flat_map(|part| {
                    let bits = 64
                        * <A::BaseField as ark_ff::Field>::BasePrimeField::MODULUS_BIT_SIZE
                            .div_ceil(64);
                    let r = <A::BaseField as ark_ff::Field>::BasePrimeField::from(2u64)
                        .pow([u64::from(bits)]);
                    (part * r).into_bigint().to_bytes_le()
                })
                .collect();
            Affine::<F>::from_bytes(&bytes).expect("coordinates below q")
        })
        .find(|point| !point.is_in_subgroup())
        .expect("most points of a curve with a cofactor are outside")
}

#[test]
fn bn254_g1() {
    gate::<Bn254, <Bn254 as Curve>::Fq>(None);
}

#[test]
fn bn254_g2() {
    gate::<Bn254, <Bn254 as Curve>::Fq2>(Some(outsider(|x| {
        ark_bn254::G2Affine::get_point_from_x_unchecked(x.into(), true)
    })));
}

/// (0, 2) has order three, the smallest factor of any cofactor here: a random sum of small
/// multiples would miss it most easily.
#[test]
fn bls12_381_g1_with_a_point_of_order_three() {
    let point = Affine {
        x: FqBls12_381::ZERO,
        y: FqBls12_381::from(2),
    };
    assert!(point.mul_canonical(&[3]).is_infinity());
    gate::<Bls12_381, FqBls12_381>(Some(point));
}

#[test]
fn bls12_381_g1() {
    gate::<Bls12_381, FqBls12_381>(Some(outsider(|x| {
        ark_bls12_381::G1Affine::get_point_from_x_unchecked(x.into(), true)
    })));
}

#[test]
fn bls12_381_g2() {
    gate::<Bls12_381, <Bls12_381 as Curve>::Fq2>(Some(outsider(|x| {
        ark_bls12_381::G2Affine::get_point_from_x_unchecked(x.into(), true)
    })));
}
