//! Our fields and curves against arkworks', which they share no code with.

use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{BigInteger, Field as _, PrimeField as ArkPrimeField};
use caldera_kernels::curve::{Affine, Bls12_381, Bn254, Coordinate, Curve, Projective};
use caldera_kernels::field::{Field, Fq2, Modulus, PrimeField, on_path, paths};
use proptest::prelude::*;

type FqBn = <Bn254 as Curve>::Fq;
type FqBls = <Bls12_381 as Curve>::Fq;
type Fq2Bn = <Bn254 as Curve>::Fq2;
type Fq2Bls = <Bls12_381 as Curve>::Fq2;
type FrBn = <Bn254 as Curve>::Fr;
type FrBls = <Bls12_381 as Curve>::Fr;

/// Our element from theirs.
fn ours<F: PrimeField, A: ArkPrimeField>(x: A) -> F {
    F::from_canonical_le(&x.into_bigint().to_bytes_le()).expect("the same modulus")
}

/// An element near the edges half of the time: all words that are not random are 0 or all ones.
fn wide() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![any::<u64>(), Just(0), Just(u64::MAX), Just(1)];
    prop::collection::vec(word, 6)
        .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

fn prime_field<F: PrimeField, A: ArkPrimeField>(x: &[u8], y: &[u8]) -> Result<(), TestCaseError> {
    let (a, b) = (A::from_le_bytes_mod_order(x), A::from_le_bytes_mod_order(y));
    let (x, y) = (F::from_le_bytes_reduced(x), F::from_le_bytes_reduced(y));
    prop_assert_eq!(x, ours(a));
    prop_assert_eq!(x + y, ours(a + b));
    prop_assert_eq!(x - y, ours(a - b));
    prop_assert_eq!(x * y, ours(a * b));
    prop_assert_eq!(-x, ours(-a));
    prop_assert_eq!(x.square(), ours(a.square()));
    prop_assert_eq!(x.double(), ours(a.double()));
    prop_assert_eq!(x.inverse(), a.inverse().map(ours));
    prop_assert_eq!(F::product_sum(&x, &x, &y, &y), ours(a * a + b * b));
    let (z, c) = (x - y, a - b);
    prop_assert_eq!(F::product_sum(&x, &y, &z, &-y), ours(a * b - c * b));
    prop_assert_eq!(F::product_difference(&x, &y, &z, &y), ours(a * b - c * b));
    prop_assert_eq!(F::product_difference(&z, &z, &x, &y), ours(c * c - a * b));
    let exponent = y.to_canonical();
    prop_assert_eq!(x.pow(exponent.as_ref()), ours(a.pow(exponent)));
    let mut bytes = vec![0; F::BYTES];
    x.to_canonical_le(&mut bytes);
    prop_assert_eq!(&bytes, &a.into_bigint().to_bytes_le());
    x.to_montgomery_le(&mut bytes);
    prop_assert_eq!(F::from_montgomery_le(&bytes), Some(x));
    prop_assert_eq!(F::from_canonical(x.to_canonical()), x);
    prop_assert_eq!(F::from_montgomery_words(x.montgomery_words()), x);
    Ok(())
}

fn quadratic<M: Modulus<N>, const N: usize, A: ark_ff::Field>(
    x: &[u8],
    y: &[u8],
) -> Result<(), TestCaseError>
where
    [u64; N]: Default + AsRef<[u64]> + AsMut<[u64]>,
{
    type Of<M, const N: usize> = caldera_kernels::field::Fp<M, N>;
    let theirs = |bytes: &[u8]| {
        let c0 = A::BasePrimeField::from_le_bytes_mod_order(bytes);
        let c1 = A::BasePrimeField::from_le_bytes_mod_order(&bytes[8..]);
        A::from_base_prime_field_elems([c0, c1]).expect("two coordinates")
    };
    let convert = |x: A| {
        let mut parts = x.to_base_prime_field_elements().map(ours::<Of<M, N>, _>);
        let c0 = parts.next().expect("two coordinates");
        Fq2::new(c0, parts.next().expect("two coordinates"))
    };
    let (a, b) = (theirs(x), theirs(y));
    let (x, y) = (convert(a), convert(b));
    prop_assert_eq!(x + y, convert(a + b));
    prop_assert_eq!(x - y, convert(a - b));
    prop_assert_eq!(x * y, convert(a * b));
    prop_assert_eq!(x.square(), convert(a.square()));
    prop_assert_eq!(-x.double(), convert(-a.double()));
    prop_assert_eq!(x.inverse(), a.inverse().map(convert));
    let sum = Fq2::product_sum(&x, &y, &y, &y);
    prop_assert_eq!(sum, convert(a * b + b * b));
    let difference = Fq2::product_difference(&x, &y, &y, &y);
    prop_assert_eq!(difference, convert(a * b - b * b));
    let mut bytes = vec![0; Fq2::<M, N>::BYTES];
    x.to_montgomery_le(&mut bytes);
    prop_assert_eq!(Fq2::from_montgomery_le(&bytes), Some(x));
    Ok(())
}

fn prime_fields(x: &[u8], y: &[u8]) -> Result<(), TestCaseError> {
    prime_field::<FrBn, ark_bn254::Fr>(x, y)?;
    prime_field::<FqBn, ark_bn254::Fq>(x, y)?;
    prime_field::<FrBls, ark_bls12_381::Fr>(x, y)?;
    prime_field::<FqBls, ark_bls12_381::Fq>(x, y)
}

fn quadratic_fields(x: &[u8], y: &[u8]) -> Result<(), TestCaseError> {
    quadratic::<caldera_kernels::field::ModulusFqBn254, 4, ark_bn254::Fq2>(x, y)?;
    quadratic::<caldera_kernels::field::ModulusFqBls12_381, 6, ark_bls12_381::Fq2>(x, y)
}

/// By portable Rust and, where the processor can, by assembly: one test run covers both.
fn on_all_paths(check: impl Fn() -> Result<(), TestCaseError>) -> Result<(), TestCaseError> {
    for &path in paths() {
        on_path(path, &check)
            .map_err(|error| TestCaseError::fail(format!("on {path:?}: {error}")))?;
    }
    Ok(())
}

proptest! {
    #[test]
    fn prime_fields_agree(x in wide(), y in wide()) {
        on_all_paths(|| prime_fields(&x, &y))?;
    }

    #[test]
    fn quadratic_fields_agree(x in wide(), y in wide()) {
        on_all_paths(|| quadratic_fields(&x, &y))?;
    }
}

/// Elements whose words are all ones or zeros, in all combinations: where carries go wrong.
#[test]
fn every_pattern_of_full_words_agrees() {
    let pattern = |bits: usize| -> Vec<u8> {
        (0..48)
            .map(|i| if bits >> (i / 8) & 1 == 1 { 0xff } else { 0 })
            .collect()
    };
    for i in 0..64 {
        for j in 0..64 {
            let (x, y) = (pattern(i), pattern(j));
            on_all_paths(|| prime_fields(&x, &y)).expect("agreement");
            on_all_paths(|| quadratic_fields(&x, &y)).expect("agreement");
        }
    }
}

/// Our point from theirs.
fn point<F: Coordinate, A: AffineRepr>(theirs: &A) -> Affine<F> {
    let mut bytes = Vec::new();
    let (x, y) = theirs.xy().unwrap_or_default();
    let bits = 8 * F::BYTES / x.to_base_prime_field_elements().count();
    for coordinate in [x, y] {
        for part in coordinate.to_base_prime_field_elements() {
            let r = <A::BaseField as ark_ff::Field>::BasePrimeField::from(2u64).pow([bits as u64]);
            bytes.extend((part * r).into_bigint().to_bytes_le());
        }
    }
    Affine::from_bytes(&bytes).expect("coordinates below q")
}

/// Scalar multiples, and whether points that need not be in the subgroup are, which the order
/// decides.
fn group<C, F, A>(off_subgroup: impl Fn(u64) -> Option<A>)
where
    C: Curve,
    F: Coordinate,
    A: AffineRepr,
{
    assert_eq!(point::<F, _>(&A::generator()), F::GENERATOR);
    assert_eq!(point::<F, _>(&A::zero()), Affine::INFINITY);
    let mut scalar = A::ScalarField::from(3u64);
    for _ in 0..20 {
        scalar = scalar.square() + A::ScalarField::from(1u64);
        let theirs = (A::generator() * scalar).into_affine();
        let ours = F::GENERATOR.mul_canonical(scalar.into_bigint().as_ref());
        assert_eq!(ours.to_affine(), point(&theirs));
        assert!(ours.to_affine().is_in_subgroup());
        let sum = (theirs + A::generator()).into_affine();
        assert_eq!((ours + F::GENERATOR).to_affine(), point(&sum));
        let doubled = (theirs + theirs).into_affine();
        assert_eq!(ours.double().to_affine(), point(&doubled));
    }
    let mut outside = 0;
    for theirs in (1..200).filter_map(off_subgroup) {
        let ours = point::<F, A>(&theirs);
        assert!(ours.is_on_curve());
        let by_order = ours.mul_canonical(C::Fr::MODULUS.as_ref());
        assert_eq!(ours.is_in_subgroup(), by_order.is_infinity());
        outside += usize::from(!by_order.is_infinity());
        // Cleared of its part of order r it is as bad as can be.
        let rest = by_order.to_affine();
        assert_eq!(rest.is_in_subgroup(), rest.is_infinity());
        let member = F::GENERATOR.mul_canonical(&[77]);
        let moved = (Projective::from(rest) + member).to_affine();
        assert_eq!(moved.is_in_subgroup(), rest.is_infinity());
    }
    if (F::CURVE, F::GROUP) != (caldera_kernels::CurveId::Bn254, caldera_kernels::Group::G1) {
        assert!(
            outside > 20,
            "{outside} points outside the subgroup are too few"
        );
    }
}

#[test]
fn groups_agree() {
    group::<Bn254, FqBn, ark_bn254::G1Affine>(|x| {
        ark_bn254::G1Affine::get_point_from_x_unchecked(x.into(), x % 2 == 0)
    });
    group::<Bls12_381, FqBls, ark_bls12_381::G1Affine>(|x| {
        ark_bls12_381::G1Affine::get_point_from_x_unchecked(x.into(), x % 2 == 0)
    });
    group::<Bn254, Fq2Bn, ark_bn254::G2Affine>(|x| {
        ark_bn254::G2Affine::get_point_from_x_unchecked(x.into(), x % 2 == 0)
    });
    group::<Bls12_381, Fq2Bls, ark_bls12_381::G2Affine>(|x| {
        ark_bls12_381::G2Affine::get_point_from_x_unchecked(x.into(), x % 2 == 0)
    });
}
