//! Number-theoretic transforms: forward, inverse, and the shift to the odd coset that a proof
//! makes three of. Both sides transform in place what the round before left.

use std::sync::Arc;

use anyhow::{Context, Result};
use ark_ff::UniformRand;
use ark_poly::EvaluationDomain;
use caldera_kernels::cpu::CpuDevice;
use caldera_kernels::{Device, Transform, Work};

use crate::bench::{Bench, CurveName, OURS};
use crate::drive;
use crate::duel::{Answer, Contender};
use crate::peer::ark::{
    Bls12_381, Bn254, Curve, Layout, build, domain, on_threads, root_of_unity, runs_on, seeded,
};
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};

/// Measures each transform over the scalar field of each curve at each size.
pub(crate) fn ntt(bench: &mut Bench, log2: &[u32], curves: &[CurveName]) -> Result<()> {
    for &log2 in log2 {
        for curve in curves {
            match curve {
                CurveName::Bn254 => field::<Bn254>(bench, log2)?,
                CurveName::Bls12_381 => field::<Bls12_381>(bench, log2)?,
            }
        }
    }
    Ok(())
}

fn field<C: Curve>(bench: &mut Bench, log2: u32) -> Result<()> {
    let mut random = seeded();
    let input: Vec<C::Fr> = (0..1usize << log2)
        .map(|_| UniformRand::rand(&mut random))
        .collect();
    let transforms = [
        ("forward", Transform::Forward),
        ("inverse", Transform::Inverse),
        ("shift", Transform::Shift),
    ];
    for (name, transform) in transforms {
        for threads in bench.threads.clone() {
            let case = Case {
                bench: "ntt",
                case: bench.named(format!("{} {name}", C::NAME)),
                size: 1 << log2,
                threads,
                unit: Unit::Milliseconds,
                inside: None,
            };
            let mut contenders = vec![ours::<C>(
                bench.device(QUANTUM, 2 * threads)?,
                &input,
                transform,
                threads,
            )?];
            if runs_on(threads) {
                contenders.push(ark::<C>(&input, transform, threads)?);
            }
            #[cfg(feature = "halo2curves")]
            if transform == Transform::Forward {
                halo2curves::join(&mut contenders, &input, threads)?;
            }
            bench.case(&case, contenders)?;
        }
    }
    Ok(())
}

fn ours<'a, C: Curve>(
    device: Arc<CpuDevice>,
    input: &[C::Fr],
    transform: Transform,
    threads: usize,
) -> Result<Contender<'a>> {
    let vector = device.vector(C::ID, input.len()).context("a vector")?;
    let bytes = Layout::<C::Fr>::new().elements_bytes(input);
    device.vector_write(vector, 0, &bytes).context("a vector")?;
    let work = Work::Ntt { vector, transform };
    Ok(Contender::ours(
        OURS,
        (device, bytes.len()),
        move |(device, _): &mut (Arc<CpuDevice>, usize)| {
            let plan = device.plan(&work).context("planning")?;
            drive::plan(&*plan, threads).context("running")
        },
        move |(device, len)| {
            let mut bytes = vec![0; *len];
            device
                .vector_read(vector, 0, &mut bytes)
                .context("the result")?;
            Ok(Answer::Bytes(bytes))
        },
    ))
}

fn ark<'a, C: Curve>(
    input: &[C::Fr],
    transform: Transform,
    threads: usize,
) -> Result<Contender<'a>> {
    let log2 = input.len().ilog2();
    let domain = domain::<C::Fr>(log2)?;
    // The shift is asked for at sizes that have a root of twice the order.
    let odd = domain
        .get_coset(root_of_unity(log2 + 1)?)
        .context("the odd coset")?;
    Ok(Contender::peer(
        "ark-poly",
        build("ark-poly"),
        input.to_vec(),
        move |elements: &mut Vec<C::Fr>| {
            on_threads(threads, || match transform {
                Transform::Forward => domain.fft_in_place(elements),
                Transform::Inverse => domain.ifft_in_place(elements),
                Transform::Shift => {
                    domain.ifft_in_place(elements);
                    odd.fft_in_place(elements);
                }
            })
        },
        |elements| {
            Ok(Answer::Bytes(
                Layout::<C::Fr>::new().elements_bytes(elements),
            ))
        },
    ))
}

#[cfg(feature = "halo2curves")]
mod halo2curves {
    use std::any::Any;

    use anyhow::Result;
    use halo2curves::bn256::Fr;
    use halo2curves::fft::best_fft;

    use super::{Answer, Contender, Layout, root_of_unity};
    use crate::peer::halo2curves::{ark_scalar, build, on_threads, scalar};

    /// Adds halo2curves where it has the field.
    /// `input` is a vector of arkworks' elements.
    pub(super) fn join(
        contenders: &mut Vec<Contender<'_>>,
        input: &dyn Any,
        threads: usize,
    ) -> Result<()> {
        let Some(input) = input.downcast_ref::<Vec<ark_bn254::Fr>>() else {
            return Ok(());
        };
        let log2 = input.len().ilog2();
        let root = scalar(&root_of_unity(log2)?)?;
        let input: Vec<Fr> = input.iter().map(scalar).collect::<Result<_>>()?;
        contenders.push(Contender::peer(
            "halo2curves",
            build(),
            input,
            move |elements: &mut Vec<Fr>| {
                on_threads(threads, || best_fft(elements.as_mut_slice(), root, log2))
            },
            |elements| {
                let elements: Vec<_> = elements.iter().map(ark_scalar).collect::<Result<_>>()?;
                Ok(Answer::Bytes(
                    Layout::<ark_bn254::Fr>::new().elements_bytes(&elements),
                ))
            },
        ));
        Ok(())
    }
}
