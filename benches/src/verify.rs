//! Verifying other people's proofs: one by one and many at once, beside `ark-groth16` with a prepared
//! key.
//!
//! Each contender checks the same proofs of the same key, no two of which are equal, and is to say
//! that all hold. Ours begins with a proof's bytes; the peer has its points in memory and is asked
//! what a verifier has to ask, that points are on their curves and in their subgroups, before its
//! equation. BN254 only, on one thread.
//!
//! Proofs are made by knowing the key's secrets: a and b at random, and c such that the equation
//! holds. Nothing in a verifier's time depends on where a proof comes from.

use anyhow::{Context, Result, ensure};
use ark_bn254::{Bn254, Fr, G1Affine, G1Projective, G2Affine, G2Projective};
use ark_ec::{AffineRepr, CurveGroup, PrimeGroup};
use ark_ff::{Field, UniformRand};
use ark_groth16::{Groth16, PreparedVerifyingKey, VerifyingKey, prepare_verifying_key};
use caldera_kernels::{CurveId, Group};
use caldera_prover::format::json::{Point, Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::PreparedKey;

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender};
use crate::peer::ark::{build, canonical, runs_on, seeded};
use crate::record::{Case, Unit};

/// Verifies batches of these sizes and as many proofs one by one, with so many public inputs each.
pub(crate) fn verify(bench: &mut Bench, batches: &[usize], inputs: usize) -> Result<()> {
    for &count in batches {
        let work = Work::new(count, inputs)?;
        let case = |what: &str| Case {
            bench: "verify",
            case: bench.named(format!("bn254, {inputs} public inputs, {what}")),
            size: count as u64,
            threads: 1,
            unit: Unit::NanosecondsPerOperation {
                operations: count as u64,
            },
            inside: Some("checks of points and subgroups"),
        };
        let key = PreparedKey::with_vectors(&work.key, bench.vectors.into())?;
        let single = case("one by one");
        let batch = case("a batch");
        let mut contenders = vec![one_by_one(OURS, &work, &key)];
        contenders.extend(theirs(&work));
        bench.case(&single, contenders)?;
        let mut contenders = vec![at_once(&work, &key), one_by_one(ONE_BY_ONE, &work, &key)];
        contenders.extend(theirs(&work));
        bench.case(&batch, contenders)?;
    }
    Ok(())
}

/// Proofs for one key, as each contender has them.
struct Work {
    key: VerificationKey,
    proofs: Vec<(Proof, PublicInputs)>,
    ark_key: PreparedVerifyingKey<Bn254>,
    ark_proofs: Vec<(ark_groth16::Proof<Bn254>, Vec<Fr>)>,
}

impl Work {
    fn new(count: usize, inputs: usize) -> Result<Work> {
        let random = &mut seeded();
        let mut draw = || Fr::rand(random);
        let [alpha, beta, gamma, delta] = std::array::from_fn(|_| draw());
        let ic: Vec<Fr> = (0..=inputs).map(|_| draw()).collect();
        let key = VerifyingKey::<Bn254> {
            alpha_g1: g1(alpha),
            beta_g2: g2(beta),
            gamma_g2: g2(gamma),
            delta_g2: g2(delta),
            gamma_abc_g1: ic.iter().map(|x| g1(*x)).collect(),
        };
        let inverse = delta.inverse().context("a delta that is not zero")?;
        let ark_proofs: Vec<_> = (0..count)
            .map(|_| {
                let statement: Vec<Fr> = (0..inputs).map(|_| draw()).collect();
                let terms = statement.iter().zip(&ic[1..]);
                let public = ic[0] + terms.map(|(x, ic)| *x * ic).sum::<Fr>();
                let (a, b) = (draw(), draw());
                let c = (a * b - alpha * beta - public * gamma) * inverse;
                let proof = ark_groth16::Proof {
                    a: g1(a),
                    b: g2(b),
                    c: g1(c),
                };
                (proof, statement)
            })
            .collect();
        let proof = |(proof, statement): &(ark_groth16::Proof<Bn254>, Vec<Fr>)| {
            let values = statement.iter().map(|x| {
                let bytes = canonical(x);
                bytes.try_into().expect("a scalar has 32 bytes")
            });
            let inputs = PublicInputs::new(CurveId::Bn254, values.collect());
            let proof = Proof {
                curve: CurveId::Bn254,
                a: point(Group::G1, &proof.a)?,
                b: point(Group::G2, &proof.b)?,
                c: point(Group::G1, &proof.c)?,
            };
            Ok((proof, inputs.context("scalars below r")?))
        };
        Ok(Work {
            key: VerificationKey {
                curve: CurveId::Bn254,
                alpha_1: point(Group::G1, &key.alpha_g1)?,
                beta_2: point(Group::G2, &key.beta_g2)?,
                gamma_2: point(Group::G2, &key.gamma_g2)?,
                delta_2: point(Group::G2, &key.delta_g2)?,
                alpha_beta_12: None,
                ic: key
                    .gamma_abc_g1
                    .iter()
                    .map(|x| point(Group::G1, x))
                    .collect::<Result<_>>()?,
            },
            proofs: ark_proofs.iter().map(proof).collect::<Result<_>>()?,
            ark_key: prepare_verifying_key(&key),
            ark_proofs,
        })
    }
}

fn one_by_one<'a>(name: &str, work: &'a Work, key: &'a PreparedKey) -> Contender<'a> {
    Contender::ours(
        name,
        (),
        |()| {
            for (proof, inputs) in &work.proofs {
                key.verify(proof, inputs)?;
            }
            Ok(())
        },
        |()| Ok(Answer::Verified),
    )
}

fn at_once<'a>(work: &'a Work, key: &'a PreparedKey) -> Contender<'a> {
    let statements: Vec<_> = work.proofs.iter().map(|(p, x)| (p, x)).collect();
    Contender::ours(
        OURS,
        statements,
        |statements| {
            for verdict in key.verify_batch(statements)? {
                verdict?;
            }
            Ok(())
        },
        |_| Ok(Answer::Verified),
    )
}

/// The peer, where this build has it as it is meant to run on one thread.
fn theirs(work: &Work) -> Option<Contender<'_>> {
    runs_on(1).then(|| {
        Contender::peer(
            "ark-groth16",
            build("ark-groth16"),
            (),
            |()| {
                for (proof, statement) in &work.ark_proofs {
                    let (a, b, c) = (&proof.a, &proof.b, &proof.c);
                    ensure!(a.is_on_curve() && b.is_on_curve() && c.is_on_curve());
                    ensure!(a.is_in_correct_subgroup_assuming_on_curve());
                    ensure!(b.is_in_correct_subgroup_assuming_on_curve());
                    ensure!(c.is_in_correct_subgroup_assuming_on_curve());
                    ensure!(Groth16::<Bn254>::verify_proof(
                        &work.ark_key,
                        proof,
                        statement
                    )?);
                }
                Ok(())
            },
            |()| Ok(Answer::Verified),
        )
    })
}

fn g1(x: Fr) -> G1Affine {
    (G1Projective::generator() * x).into_affine()
}

fn g2(x: Fr) -> G2Affine {
    (G2Projective::generator() * x).into_affine()
}

/// A finite point of theirs as bytes.
fn point<P: AffineRepr>(group: Group, point: &P) -> Result<Point> {
    let (x, y) = point.xy().context("a point that is not infinity")?;
    let bytes: Vec<u8> = [x, y]
        .iter()
        .flat_map(|x| x.to_base_prime_field_elements())
        .flat_map(|x| canonical(&x))
        .collect();
    Point::from_bytes(CurveId::Bn254, group, &bytes).context("coordinates below q")
}

/// The name of ours where a batch is ours too.
const ONE_BY_ONE: &str = "caldera one by one";
