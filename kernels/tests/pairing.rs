//! The pairing against arkworks: the same values, coordinate by coordinate, the same laws, and the
//! same opinion of what is in the subgroup.

use ark_bn254::{
    Bn254 as Ark, Fq as ArkFq, Fq2 as ArkFq2, G1Affine, G1Projective, G2Affine, G2Projective,
};
use ark_ec::pairing::{MillerLoopOutput, Pairing};
use ark_ec::short_weierstrass::SWCurveConfig;
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{AdditiveGroup, BigInteger, Field as _, PrimeField as _, Zero};
use caldera_kernels::cpu::Vectors;
use caldera_kernels::curve::{Affine, Bn254, Curve};
use caldera_kernels::field::PrimeField;
use caldera_kernels::pairing::{Batch, Fq12, Lines, Tower, miller_loop, pairing};
use proptest::prelude::*;

type Fq = <Bn254 as Curve>::Fq;
type Fq2 = <Bn254 as Curve>::Fq2;

fn fq(x: &ArkFq) -> Fq {
    Fq::from_canonical_le(&x.into_bigint().to_bytes_le()).expect("below q")
}

fn fq2(x: &ArkFq2) -> Fq2 {
    Fq2::new(fq(&x.c0), fq(&x.c1))
}

fn g1(point: &G1Affine) -> Affine<Fq> {
    match point.xy() {
        Some((x, y)) => Affine {
            x: fq(&x),
            y: fq(&y),
        },
        None => Affine::INFINITY,
    }
}

fn g2(point: &G2Affine) -> Affine<Fq2> {
    match point.xy() {
        Some((x, y)) => Affine {
            x: fq2(&x),
            y: fq2(&y),
        },
        None => Affine::INFINITY,
    }
}

fn fq12(x: &ark_bn254::Fq12) -> Fq12 {
    let part = |part: &ark_bn254::Fq6| [fq2(&part.c0), fq2(&part.c1), fq2(&part.c2)];
    Tower {
        c0: part(&x.c0),
        c1: part(&x.c1),
    }
}

fn lines(point: &G2Affine) -> Lines {
    Lines::of(&g2(point)).expect("a point of the subgroup")
}

fn multiple_g1(k: u64) -> G1Affine {
    (G1Projective::generator() * ark_bn254::Fr::from(k).square()).into_affine()
}

fn multiple_g2(k: u64) -> G2Affine {
    (G2Projective::generator() * ark_bn254::Fr::from(k).square()).into_affine()
}

/// A point of the twist, most likely outside the subgroup.
fn on_the_twist(seed: u64) -> G2Affine {
    (0..)
        .find_map(|step| {
            let x = ArkFq2::new(ArkFq::from(seed), ArkFq::from(step));
            G2Affine::get_point_from_x_unchecked(x, step % 2 == 0)
        })
        .expect("every second x has a y")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn values_are_those_of_arkworks(p in 1u64.., q in 1u64.., s in 1u64.., t in 1u64..) {
        let (p, q, s, t) = (multiple_g1(p), multiple_g2(q), multiple_g1(s), multiple_g2(t));
        prop_assert_eq!(pairing(&g1(&p), &lines(&q)), fq12(&Ark::pairing(p, q).0));
        let product = miller_loop(&[(g1(&p), &lines(&q)), (g1(&s), &lines(&t))]);
        prop_assert_eq!(
            product.final_exponentiation(),
            Some(fq12(&Ark::multi_pairing([p, s], [q, t]).0))
        );
    }

    #[test]
    fn pairing_is_bilinear(a in 1u64.., b in 1u64..) {
        let (p, q) = (Bn254::g1(), Bn254::g2());
        let of = |x: u64, y: u64| {
            pairing(
                &p.mul_canonical(&[x]).to_affine(),
                &Lines::of(&q.mul_canonical(&[y]).to_affine()).expect("a multiple of the generator"),
            )
        };
        let value = of(a, b);
        prop_assert_eq!(value, of(b, a));
        prop_assert_ne!(value, Fq12::ONE);
        prop_assert_eq!(of(1, a).multiply(&of(1, b)), pairing(
            &p,
            &Lines::of(&(q.mul_canonical(&[a]) + q.mul_canonical(&[b])).to_affine()).expect("a sum"),
        ));
        // The inverse in the target group.
        let negative = pairing(&-p, &Lines::of(&q).expect("the generator"));
        prop_assert_eq!(negative.multiply(&of(1, 1)), Fq12::ONE);
        prop_assert_eq!(negative, of(1, 1).conjugate());
    }

    #[test]
    fn membership_is_that_of_arkworks(seed: u64, factor in 1u64..) {
        let point = on_the_twist(seed);
        prop_assert!(!point.is_in_correct_subgroup_assuming_on_curve());
        prop_assert!(Lines::of(&g2(&point)).is_none());
        // A multiple of r leaves what the cofactor holds.
        let torsion = ark_bn254::g2::Config::mul_affine(&point, &ark_bn254::Fr::MODULUS.0).into_affine();
        prop_assert!(Lines::of(&g2(&torsion)).is_none());
        let member = point.mul_by_cofactor();
        prop_assert!(Lines::of(&g2(&member)).is_some());
        // A member and a little more, as a forger would try.
        let shifted = (member * ark_bn254::Fr::from(factor) + torsion).into_affine();
        prop_assert!(shifted.is_on_curve());
        prop_assert!(Lines::of(&g2(&shifted)).is_none());
    }
}

/// The twist has 2 q - r points for each of G2, and 10069 divides that number: points of so small an
/// order run into the formulas' exceptions.
#[test]
fn points_of_small_order_are_outside() {
    let cofactor = quotient(&cofactor_of_the_twist(), 10069);
    let mut found = 0;
    for seed in 0..4 {
        let point =
            ark_bn254::g2::Config::mul_affine(&on_the_twist(seed), &ark_bn254::Fr::MODULUS.0);
        let small = (point.into_affine().mul_bigint(&cofactor)).into_affine();
        if small.is_zero() {
            continue;
        }
        assert!(small.mul_bigint([10069u64]).is_zero());
        assert!(small.is_on_curve());
        assert!(Lines::of(&g2(&small)).is_none());
        found += 1;
        let shifted = (small + G2Affine::generator()).into_affine();
        assert!(Lines::of(&g2(&shifted)).is_none());
    }
    assert!(found > 0);
}

/// 2 q - r.
fn cofactor_of_the_twist() -> Vec<u64> {
    let mut twice = ArkFq::MODULUS;
    twice.mul2();
    twice.sub_with_borrow(&ark_bn254::Fr::MODULUS);
    twice.0.to_vec()
}

/// The quotient by a divisor, which must divide.
fn quotient(words: &[u64], divisor: u64) -> Vec<u64> {
    let mut rest = 0u128;
    let mut quotient = vec![0; words.len()];
    for (quotient, word) in quotient.iter_mut().zip(words).rev() {
        let dividend = rest << 64 | u128::from(*word);
        *quotient = (dividend / u128::from(divisor)) as u64;
        rest = dividend % u128::from(divisor);
    }
    assert_eq!(rest, 0);
    quotient
}

/// Fewer pairs than lanes, and more.
#[test]
fn batches_are_products_of_pairings() {
    for count in [1, 5, 11] {
        let points: Vec<_> = (1..=count)
            .map(|k| (multiple_g1(k), multiple_g2(k + 20)))
            .collect();
        let (left, right): (Vec<_>, Vec<_>) = points.iter().copied().unzip();
        let expected = Some(fq12(&Ark::multi_pairing(left, right).0));
        let pairs: Vec<_> = points.iter().map(|(p, q)| (g1(p), g2(q))).collect();
        for vectors in [Vectors::Best, Vectors::Avx2, Vectors::None] {
            let Some(batch) = Batch::new(vectors) else {
                continue;
            };
            let product = batch.miller_loop(&pairs).expect("all are members");
            assert_eq!(product.final_exponentiation(), expected, "{vectors:?}");
        }
    }
}

#[test]
fn infinity_counts_as_one() {
    let (p, q) = (Bn254::g1(), Lines::of(&Bn254::g2()).expect("the generator"));
    let infinity = Lines::of(&Affine::INFINITY).expect("infinity is in every subgroup");
    assert_eq!(pairing(&Affine::INFINITY, &q), Fq12::ONE);
    assert_eq!(pairing(&p, &infinity), Fq12::ONE);
    assert_eq!(miller_loop(&[]), Fq12::ONE);
    assert_eq!(
        miller_loop(&[(Affine::INFINITY, &q), (p, &q), (p, &infinity)]),
        miller_loop(&[(p, &q)])
    );
    assert_eq!(Fq12::ZERO.final_exponentiation(), None);
}

#[test]
fn arithmetic_of_the_tower_is_that_of_arkworks() {
    let mut x = Ark::miller_loop(G1Affine::generator(), multiple_g2(3)).0;
    for _ in 0..50 {
        let y = x * x + ark_bn254::Fq12::ONE;
        assert_eq!(fq12(&x).multiply(&fq12(&y)), fq12(&(x * y)));
        assert_eq!(fq12(&y).square(), fq12(&y.square()));
        assert_eq!(fq12(&y).inverse(), y.inverse().map(|y| fq12(&y)));
        assert_eq!(fq12(&y).frobenius(), fq12(&y.frobenius_map(1)));
        assert_eq!(
            fq12(&y).final_exponentiation(),
            Ark::final_exponentiation(MillerLoopOutput(y)).map(|value| fq12(&value.0))
        );
        x = y;
    }
    // Coordinates at the modulus's edges.
    let edge = -ArkFq2::new(ArkFq::ONE, ArkFq::ONE);
    let full = ark_bn254::Fq6::new(edge, edge, edge);
    let full = ark_bn254::Fq12::new(full, full);
    assert_eq!(fq12(&full).square(), fq12(&full.square()));
    assert_eq!(fq12(&full).multiply(&fq12(&full)), fq12(&full.square()));
    assert_eq!(
        fq12(&full).multiply(&Fq12::ZERO),
        fq12(&ark_bn254::Fq12::ZERO)
    );
}
