//! The arithmetic of the kernels, line of PTX by line, against arkworks.
//!
//! Both fields of both curves and the quadratic extensions: products, squares, sums, differences,
//! inverses, negatives and the way out of Montgomery form, in the fields of coordinates differences of
//! products too, of random values and of those at the edges, each with each.

use ark_ff::{BigInteger, Field, PrimeField};
use caldera_cuda::Driver;
use caldera_cuda_emulation::Emulation;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// Elements by the coordinates that they have in the prime field.
trait Element: Field {
    fn of(parts: &[Self::BasePrimeField]) -> Self {
        Self::from_base_prime_field_elems(parts.iter().copied()).expect("as many as there are")
    }
}

impl<F: Field> Element for F {}

/// What the kernels of `check.cu` do, by number.
type Operation<F> = (u64, &'static str, Of<F>);

enum Of<F> {
    /// Tried with each pair of values.
    Two(fn(F, F) -> F),
    /// Tried with each value.
    One(fn(F) -> F),
}

fn check<F: Field>(unit: &str, kernel: &str, operations: &[Operation<F>])
where
    F::BasePrimeField: PrimeField,
{
    let emulation = Emulation::new();
    let kernel = emulation.kernel(unit, kernel).expect("the kernel");
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let degree = F::extension_degree() as usize;
    let mut values: Vec<F> = Vec::new();
    let edges = edges::<F::BasePrimeField>();
    for (i, &edge) in edges.iter().enumerate() {
        let parts: Vec<_> = (0..degree)
            .map(|part| edges[(i * (1 + 6 * part)) % edges.len()])
            .collect();
        values.push(F::of(&parts));
        values.push(F::of(&vec![edge; degree]));
    }
    for _ in 0..100 {
        let parts: Vec<_> = (0..degree)
            .map(|_| {
                let mut bytes = [0; 64];
                random.fill_bytes(&mut bytes);
                F::BasePrimeField::from_le_bytes_mod_order(&bytes)
            })
            .collect();
        values.push(F::of(&parts));
    }
    let pairs: Vec<(F, F)> = values
        .iter()
        .flat_map(|&x| values.iter().map(move |&y| (x, y)))
        .collect();
    let (left, right): (Vec<F>, Vec<F>) = pairs.iter().copied().unzip();
    let alone: Vec<F> = values;
    for (number, name, expected) in operations {
        let (x, y, expected): (&[F], &[F], Vec<F>) = match expected {
            Of::Two(expected) => {
                let expected = pairs.iter().map(|&(x, y)| expected(x, y)).collect();
                (&left, &right, expected)
            }
            Of::One(expected) => {
                let expected = alone.iter().map(|&x| expected(x)).collect();
                (&alone, &alone, expected)
            }
        };
        let operand = |values: &[F]| {
            let bytes = montgomery(values);
            let address = emulation.allocate(bytes.len(), "operands").expect("room");
            emulation.upload(address, &bytes).expect("it fits");
            address
        };
        let expected = montgomery(&expected);
        let addresses = [operand(x), operand(y), operand(x)];
        let words = [0, x.len() as u64, *number]
            .into_iter()
            .chain(addresses)
            .collect::<Vec<u64>>();
        let blocks = x.len().div_ceil(kernel.threads as usize) as u32;
        let fence = emulation.launch(kernel, blocks, &words).expect("a launch");
        emulation.wait(&fence).expect("its end");
        let mut bytes = vec![0; expected.len()];
        emulation
            .download(addresses[2], &mut bytes)
            .expect("results");
        let size = bytes.len() / x.len();
        for (i, (expected, got)) in expected.chunks(size).zip(bytes.chunks(size)).enumerate() {
            assert_eq!(got, expected, "{unit}: {name} of {} and {}", x[i], y[i]);
        }
        for address in addresses {
            emulation.free(address, bytes.len());
        }
    }
}

/// Values whose Montgomery form, or own words, are all zeros or ones somewhere.
fn edges<P: PrimeField>() -> Vec<P> {
    let one = P::one();
    let two = one + one;
    let r = two.pow([32 * u64::from(P::MODULUS_BIT_SIZE.div_ceil(32))]);
    let from_montgomery = r.inverse().expect("R is not zero");
    let half = two.inverse().expect("two is not zero");
    let mut edges = vec![P::zero(), one, two, -one, -two, half, -half, r, -r];
    for word in [
        1, 31, 32, 33, 63, 64, 95, 96, 127, 128, 160, 191, 192, 224, 250,
    ] {
        let power = two.pow([word]);
        edges.extend([power, power - one, -power]);
        edges.extend([power * from_montgomery, (power - one) * from_montgomery]);
        edges.push(-power * from_montgomery);
    }
    edges
}

/// R is 2^(64 N), computed from what it is.
fn montgomery<F: Field>(values: &[F]) -> Vec<u8>
where
    F::BasePrimeField: PrimeField,
{
    let bits = 64 * u64::from(F::BasePrimeField::MODULUS_BIT_SIZE.div_ceil(64));
    let r = F::BasePrimeField::from(2u64).pow([bits]);
    let mut bytes = Vec::new();
    for value in values {
        for part in value.to_base_prime_field_elements() {
            bytes.extend((part * r).into_bigint().to_bytes_le());
        }
    }
    bytes
}

fn prime<F: PrimeField>(unit: &str) {
    check::<F>(
        unit,
        "check_field",
        &[
            (0, "product", Of::Two(|x, y| x * y)),
            (1, "sum", Of::Two(|x, y| x + y)),
            (2, "difference", Of::Two(|x, y| x - y)),
            (3, "inverse", Of::One(|x| x.inverse().unwrap_or_default())),
            (
                4,
                "plain form",
                Of::One(|x| {
                    let bits = 64 * u64::from(F::MODULUS_BIT_SIZE.div_ceil(64));
                    x * F::from(2u64).pow([bits]).inverse().expect("not zero")
                }),
            ),
            (5, "negative", Of::One(|x| -x)),
            (6, "square", Of::One(|x| x.square())),
        ],
    );
}

/// What there is of coordinates only.
fn coordinate<F: Field>(unit: &str, kernel: &str)
where
    F::BasePrimeField: PrimeField,
{
    check::<F>(
        unit,
        kernel,
        &[(
            7,
            "difference of products",
            Of::Two(|x, y| x * y - (x + y) * (x - y)),
        )],
    );
}

fn quadratic<F: Field>(unit: &str)
where
    F::BasePrimeField: PrimeField,
{
    check::<F>(
        unit,
        "check_quadratic",
        &[
            (0, "product", Of::Two(|x, y| x * y)),
            (1, "sum", Of::Two(|x, y| x + y)),
            (2, "difference", Of::Two(|x, y| x - y)),
            (3, "inverse", Of::One(|x| x.inverse().unwrap_or_default())),
            (4, "square", Of::One(|x| x.square())),
            (5, "negative", Of::One(|x| -x)),
        ],
    );
}

#[test]
fn bn254() {
    prime::<ark_bn254::Fr>("check_bn254");
    prime::<ark_bn254::Fq>("check_bn254_base");
    quadratic::<ark_bn254::Fq2>("check_bn254_base");
    coordinate::<ark_bn254::Fq>("check_bn254_base", "check_field");
    coordinate::<ark_bn254::Fq2>("check_bn254_base", "check_quadratic");
}

#[test]
fn bls12_381() {
    prime::<ark_bls12_381::Fr>("check_bls12_381");
    prime::<ark_bls12_381::Fq>("check_bls12_381_base");
    quadratic::<ark_bls12_381::Fq2>("check_bls12_381_base");
    coordinate::<ark_bls12_381::Fq>("check_bls12_381_base", "check_field");
    coordinate::<ark_bls12_381::Fq2>("check_bls12_381_base", "check_quadratic");
}
