//! Field arithmetic: multiplications and squarings, as throughput over an array and as the
//! latency of a chain. A curve is about as fast as its base field's multiplication.

use std::ops::Mul;

use anyhow::Result;
use ark_ff::PrimeField as ArkField;
use caldera_kernels::cpu::{Laned, Row, row};
use caldera_kernels::field::{Field, FqBls12_381, FqBn254, FrBls12_381, FrBn254, PrimeField};

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender};
use crate::peer::ark::{build, canonical, runs_on, seeded};
use crate::record::{Case, Unit};

/// Measures the four prime fields, `operations` a run, on one thread.
pub(crate) fn field(bench: &mut Bench, operations: u64) -> Result<()> {
    prime::<FqBn254, ark_bn254::Fq>(bench, "bn254 fq", operations)?;
    prime::<FrBn254, ark_bn254::Fr>(bench, "bn254 fr", operations)?;
    prime::<FqBls12_381, ark_bls12_381::Fq>(bench, "bls12-381 fq", operations)?;
    prime::<FrBls12_381, ark_bls12_381::Fr>(bench, "bls12-381 fr", operations)
}

/// What is done to elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// a_i = a_i b_i over an array: independent of each other.
    Multiply,
    /// The same, ours with elements that are vectors already, as in batches of additions and levels
    /// of butterflies; where there are no vectors, it is left out.
    MultiplyOnVectors,
    /// a = a b, each waiting for the one before.
    MultiplyChained,
    /// a_i = a_i^2 over an array.
    Square,
}

impl Operation {
    const ALL: [Operation; 4] = [
        Operation::Multiply,
        Operation::MultiplyOnVectors,
        Operation::MultiplyChained,
        Operation::Square,
    ];

    fn name(self) -> &'static str {
        match self {
            Operation::Multiply => "multiply",
            Operation::MultiplyOnVectors => "multiply on vectors",
            Operation::MultiplyChained => "multiply chained",
            Operation::Square => "square",
        }
    }

    /// Does it so many times, rounded down to whole passes over the array. The operands are what
    /// the call before left, so that nothing can be computed in advance.
    #[inline(always)]
    fn run<F: Copy + Mul<Output = F>>(
        self,
        elements: &mut Pair<F>,
        operations: u64,
        square: impl Fn(&F) -> F,
    ) {
        let passes = operations / ELEMENTS as u64;
        for _ in 0..passes {
            match self {
                Operation::Multiply | Operation::MultiplyOnVectors => {
                    for (a, b) in elements.a.iter_mut().zip(&elements.b) {
                        *a = *a * *b;
                    }
                }
                Operation::MultiplyChained => {
                    let mut a = elements.a[0];
                    for b in &elements.b {
                        a = a * *b;
                    }
                    elements.a[0] = a;
                }
                Operation::Square => {
                    for a in &mut elements.a {
                        *a = square(a);
                    }
                }
            }
        }
    }
}

struct Pair<F> {
    a: Vec<F>,
    b: Vec<F>,
}

fn prime<O: PrimeField + Laned, A: ArkField>(
    bench: &mut Bench,
    name: &str,
    operations: u64,
) -> Result<()> {
    let mut random = seeded();
    let mut draw = || -> Vec<A> { (0..ELEMENTS).map(|_| A::rand(&mut random)).collect() };
    let (a, b) = (draw(), draw());
    let ours = |elements: &[A]| -> Vec<O> {
        elements
            .iter()
            .map(|x| O::from_le_bytes_reduced(&canonical(x)))
            .collect()
    };
    let vectors = bench.vectors.into();
    for operation in Operation::ALL {
        let case = Case {
            bench: "field",
            case: bench.named(format!("{name} {}", operation.name())),
            size: operations,
            threads: 1,
            unit: Unit::NanosecondsPerOperation {
                operations: operations / ELEMENTS as u64 * ELEMENTS as u64,
            },
            inside: None,
        };
        let (ours_a, ours_b) = (ours(&a), ours(&b));
        let first = if operation == Operation::MultiplyOnVectors {
            let Some(rows) = row(vectors, &ours_a).zip(row(vectors, &ours_b)) else {
                continue;
            };
            Contender::ours(
                OURS,
                rows,
                move |(a, b): &mut (Row<O>, Row<O>)| {
                    for _ in 0..operations / ELEMENTS as u64 {
                        a.multiply(b);
                    }
                    Ok(())
                },
                |(a, _)| Ok(answer(&a.elements())),
            )
        } else {
            Contender::ours(
                OURS,
                Pair {
                    a: ours_a,
                    b: ours_b,
                },
                move |pair: &mut Pair<O>| {
                    operation.run(pair, operations, Field::square);
                    Ok(())
                },
                |pair| Ok(answer(&pair.a)),
            )
        };
        let mut contenders = vec![first];
        // One thread is what a field is measured on; a build of arkworks for many has the same
        // field, but one build is one peer.
        if runs_on(1) {
            contenders.push(Contender::peer(
                "ark-ff",
                build("ark-ff"),
                Pair {
                    a: a.clone(),
                    b: b.clone(),
                },
                move |pair: &mut Pair<A>| {
                    operation.run(pair, operations, ark_ff::Field::square);
                    Ok(())
                },
                |pair| Ok(Answer::Bytes(pair.a.iter().flat_map(canonical).collect())),
            ));
        }
        #[cfg(feature = "halo2curves")]
        halo2curves::join::<A>(&mut contenders, operation, operations, (&a, &b))?;
        bench.case(&case, contenders)?;
    }
    Ok(())
}

/// Our elements, as all contenders say theirs.
fn answer<O: PrimeField>(elements: &[O]) -> Answer {
    let mut bytes = vec![0; elements.len() * O::BYTES];
    for (x, bytes) in elements.iter().zip(bytes.chunks_exact_mut(O::BYTES)) {
        x.to_canonical_le(bytes);
    }
    Answer::Bytes(bytes)
}

#[cfg(feature = "halo2curves")]
mod halo2curves {
    use std::any::Any;

    use anyhow::Result;
    use halo2curves::bn256::{Fq, Fr};
    use halo2curves::ff::{Field, PrimeField};

    use super::{Answer, ArkField, Contender, Operation, Pair};
    use crate::peer::ark::canonical;
    use crate::peer::halo2curves::{build, prime};

    /// Adds halo2curves where it has the field.
    pub(super) fn join<A: ArkField>(
        contenders: &mut Vec<Contender<'_>>,
        operation: Operation,
        operations: u64,
        (a, b): (&Vec<A>, &Vec<A>),
    ) -> Result<()> {
        if (a as &dyn Any).is::<Vec<ark_bn254::Fq>>() {
            contenders.push(contender::<Fq, A>(operation, operations, a, b)?);
        } else if (a as &dyn Any).is::<Vec<ark_bn254::Fr>>() {
            contenders.push(contender::<Fr, A>(operation, operations, a, b)?);
        }
        Ok(())
    }

    fn contender<'a, H: PrimeField, A: ArkField>(
        operation: Operation,
        operations: u64,
        a: &[A],
        b: &[A],
    ) -> Result<Contender<'a>> {
        let theirs = |elements: &[A]| -> Result<Vec<H>> {
            elements.iter().map(|x| prime(&canonical(x))).collect()
        };
        Ok(Contender::peer(
            "halo2curves",
            build(),
            Pair {
                a: theirs(a)?,
                b: theirs(b)?,
            },
            move |pair: &mut Pair<H>| {
                operation.run(pair, operations, Field::square);
                Ok(())
            },
            |pair| {
                let bytes = pair.a.iter().flat_map(|x| x.to_repr().as_ref().to_vec());
                Ok(Answer::Bytes(bytes.collect()))
            },
        ))
    }
}

/// Two arrays of 1024 elements of 48 bytes lie in the second-level cache of any CPU.
const ELEMENTS: usize = 1024;
