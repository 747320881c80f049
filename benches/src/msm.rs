//! Sums of multiples of points, the larger part of a proof.
//!
//! Two kinds of scalars: uniform ones, on which published figures are, and bits as a circuit of
//! bitwise logic has them (58 in 100 are 0, the others 1, the shares of SHA-256).

use std::sync::Arc;

use anyhow::{Context, Result};
use ark_ec::short_weierstrass::{Affine, Projective, SWCurveConfig};
use ark_ec::{CurveGroup, VariableBaseMSM};
use ark_ff::{Field, PrimeField, UniformRand};
use ark_std::rand::Rng;
use bytes::Bytes;
use caldera_kernels::cpu::CpuDevice;
use caldera_kernels::{Device, Form, Group, Plan, Work};
use clap::ValueEnum;

use crate::bench::{Bench, CurveName, OURS};
use crate::drive;
use crate::duel::{Answer, Contender};
use crate::peer::ark::{
    Bls12_381, Bn254, Curve, Layout, build, canonical, on_threads, points, runs_on, seeded,
};
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};

/// Which sums to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Which {
    /// The curves.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = CurveName::ALL)]
    pub(crate) curve: Vec<CurveName>,
    /// The groups.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = GroupName::ALL)]
    pub(crate) group: Vec<GroupName>,
    /// The scalars.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scalars::ALL)]
    pub(crate) scalars: Vec<Scalars>,
}

impl Which {
    /// All of them.
    pub(crate) fn all() -> Which {
        Which {
            curve: CurveName::ALL.to_vec(),
            group: GroupName::ALL.to_vec(),
            scalars: Scalars::ALL.to_vec(),
        }
    }

    /// G1 of both curves with uniform scalars.
    pub(crate) fn uniform_g1() -> Which {
        Which {
            group: vec![GroupName::G1],
            scalars: vec![Scalars::Uniform],
            ..Which::all()
        }
    }
}

/// A group's name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupName {
    G1,
    G2,
}

impl GroupName {
    const ALL: [GroupName; 2] = [GroupName::G1, GroupName::G2];
}

/// What the scalars of a sum are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scalars {
    /// Anything below r.
    Uniform,
    /// 58 in 100 are 0, the others 1.
    Bits,
}

impl Scalars {
    const ALL: [Scalars; 2] = [Scalars::Uniform, Scalars::Bits];

    fn name(self) -> &'static str {
        match self {
            Scalars::Uniform => "uniform",
            Scalars::Bits => "bits",
        }
    }

    fn draw<F: UniformRand + From<bool>>(self, count: usize) -> Vec<F> {
        let mut random = seeded();
        (0..count)
            .map(|_| match self {
                Scalars::Uniform => F::rand(&mut random),
                Scalars::Bits => F::from(random.gen_bool(0.42)),
            })
            .collect()
    }
}

/// Measures those sums at each size.
pub(crate) fn msm(bench: &mut Bench, log2: &[u32], which: &Which) -> Result<()> {
    for &log2 in log2 {
        for &curve in &which.curve {
            for &name in &which.group {
                let scalars = &which.scalars;
                match (curve, name) {
                    (CurveName::Bn254, GroupName::G1) => {
                        group::<Bn254, ark_bn254::g1::Config>(bench, Group::G1, log2, scalars)?;
                    }
                    (CurveName::Bn254, GroupName::G2) => {
                        group::<Bn254, ark_bn254::g2::Config>(bench, Group::G2, log2, scalars)?;
                    }
                    (CurveName::Bls12_381, GroupName::G1) => {
                        group::<Bls12_381, ark_bls12_381::g1::Config>(
                            bench,
                            Group::G1,
                            log2,
                            scalars,
                        )?;
                    }
                    (CurveName::Bls12_381, GroupName::G2) => {
                        group::<Bls12_381, ark_bls12_381::g2::Config>(
                            bench,
                            Group::G2,
                            log2,
                            scalars,
                        )?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn group<C, P>(bench: &mut Bench, group: Group, log2: u32, kinds: &[Scalars]) -> Result<()>
where
    C: Curve,
    P: SWCurveConfig<BaseField: Field<BasePrimeField = C::Fq>, ScalarField = C::Fr>,
{
    let count = 1usize << log2;
    let layout = Layout::<C::Fq>::new();
    let points = points::<P>(count);
    let bytes = Bytes::from(layout.points_bytes(&points));
    for kind in kinds {
        let scalars: Vec<C::Fr> = kind.draw(count);
        for threads in bench.threads.clone() {
            let case = Case {
                bench: "msm",
                case: bench.named(format!(
                    "{} {} {}",
                    C::NAME,
                    format!("{group:?}").to_lowercase(),
                    kind.name()
                )),
                size: count as u64,
                threads,
                unit: Unit::Milliseconds,
                inside: None,
            };
            let device = bench.device(QUANTUM, 2 * threads)?;
            let mut contenders = vec![ours::<C>(device, group, &bytes, &scalars, threads)?];
            if runs_on(threads) {
                contenders.push(ark::<C, P>(&points, &scalars, threads));
            }
            #[cfg(feature = "halo2curves")]
            halo2curves::join(&mut contenders, &points, &scalars, threads)?;
            #[cfg(feature = "blst")]
            blst::join(&mut contenders, &points, &scalars, threads)?;
            bench.case(&case, contenders)?;
        }
    }
    Ok(())
}

fn ours<'a, C: Curve>(
    device: Arc<CpuDevice>,
    group: Group,
    points: &Bytes,
    scalars: &[C::Fr],
    threads: usize,
) -> Result<Contender<'a>> {
    let bases = device
        .bases(C::ID, group, points.clone())
        .context("bases")?;
    let vector = device
        .vector(C::ID, scalars.len())
        .context("a vector of scalars")?;
    let bytes: Vec<u8> = scalars.iter().flat_map(canonical).collect();
    device
        .vector_write(vector, 0, &bytes)
        .context("a vector of scalars")?;
    let work = Work::Msm {
        bases,
        scalars: vector,
        offset: 0,
        form: Form::Canonical,
    };
    // A plan is made anew each time, as a proof does, and its making is part of the time.
    Ok(Contender::ours(
        OURS,
        None,
        move |state: &mut Option<Arc<dyn Plan>>| {
            let plan = device.plan(&work).context("planning")?;
            drive::plan(&*plan, threads).context("running")?;
            *state = Some(plan);
            Ok(())
        },
        |plan| {
            let point = plan
                .as_ref()
                .and_then(|plan| plan.point())
                .context("no sum came out")?;
            Ok(Answer::Bytes(point))
        },
    ))
}

fn ark<'a, C, P>(points: &'a [Affine<P>], scalars: &[C::Fr], threads: usize) -> Contender<'a>
where
    C: Curve,
    P: SWCurveConfig<BaseField: Field<BasePrimeField = C::Fq>, ScalarField = C::Fr>,
{
    // Plain integers, as it wants them and as a witness has them.
    let scalars: Vec<_> = scalars.iter().map(|scalar| scalar.into_bigint()).collect();
    Contender::peer(
        "ark-ec",
        build("ark-ec"),
        Affine::<P>::identity(),
        move |sum: &mut Affine<P>| {
            let run = || Projective::<P>::msm_bigint(points, &scalars).into_affine();
            *sum = on_threads(threads, run)?;
            Ok(())
        },
        |sum| Ok(Answer::Bytes(Layout::<C::Fq>::new().point_bytes(sum))),
    )
}

#[cfg(feature = "blst")]
mod blst {
    use std::any::Any;

    use anyhow::Result;
    use ark_ec::short_weierstrass::Affine;
    use blst::{blst_p1_affine, blst_p2_affine};

    use super::{Answer, Contender};
    use crate::peer::blst::{Group, build, points, runs_on, scalars};

    /// Adds blst where it has the group.
    /// `points` and `scalars` are vectors in arkworks' types.
    pub(super) fn join(
        contenders: &mut Vec<Contender<'_>>,
        points: &dyn Any,
        scalars: &dyn Any,
        threads: usize,
    ) -> Result<()> {
        let Some(scalars) = scalars.downcast_ref::<Vec<ark_bls12_381::Fr>>() else {
            return Ok(());
        };
        if !runs_on(threads) {
            return Ok(());
        }
        if let Some(points) = points.downcast_ref::<Vec<Affine<ark_bls12_381::g1::Config>>>() {
            contenders.push(contender::<blst_p1_affine>(points, scalars, threads)?);
        } else if let Some(points) = points.downcast_ref::<Vec<Affine<ark_bls12_381::g2::Config>>>()
        {
            contenders.push(contender::<blst_p2_affine>(points, scalars, threads)?);
        }
        Ok(())
    }

    fn contender<'a, G: Group + 'a>(
        of: &[Affine<G::Ark>],
        with: &[ark_bls12_381::Fr],
        threads: usize,
    ) -> Result<Contender<'a>> {
        let (points, scalars) = (points::<G>(of)?, scalars(with));
        Ok(Contender::peer(
            "blst",
            build(),
            Vec::new(),
            move |sum: &mut Vec<u8>| {
                *sum = G::sum(&points, &scalars, threads);
                Ok(())
            },
            |sum| Ok(Answer::Bytes(sum.clone())),
        ))
    }
}

#[cfg(feature = "halo2curves")]
mod halo2curves {
    use std::any::Any;

    use anyhow::{Context, Result};
    use ark_ec::AffineRepr;
    use ark_ec::short_weierstrass::{Affine, SWCurveConfig};
    use halo2curves::bn256::{Fr, G1Affine, G2Affine};
    use halo2curves::group::Group as _;
    use halo2curves::msm::msm_best;

    use super::{Answer, Contender};
    use crate::peer::ark::Layout;
    use crate::peer::halo2curves::{Group, build, coordinates, on_threads, point, scalar};

    /// Adds halo2curves where it has the group.
    /// `points` and `scalars` are vectors in arkworks' types.
    pub(super) fn join(
        contenders: &mut Vec<Contender<'_>>,
        points: &dyn Any,
        scalars: &dyn Any,
        threads: usize,
    ) -> Result<()> {
        let Some(scalars) = scalars.downcast_ref::<Vec<ark_bn254::Fr>>() else {
            return Ok(());
        };
        if let Some(points) = points.downcast_ref::<Vec<Affine<ark_bn254::g1::Config>>>() {
            contenders.push(contender::<G1Affine, _>(points, scalars, threads)?);
        } else if let Some(points) = points.downcast_ref::<Vec<Affine<ark_bn254::g2::Config>>>() {
            contenders.push(contender::<G2Affine, _>(points, scalars, threads)?);
        }
        Ok(())
    }

    fn contender<'a, G, P>(
        points: &[Affine<P>],
        scalars: &[ark_bn254::Fr],
        threads: usize,
    ) -> Result<Contender<'a>>
    where
        G: Group + 'a,
        P: SWCurveConfig<BaseField = G::Ark>,
    {
        let points: Vec<G> = points
            .iter()
            .map(|p| {
                let (x, y) = p.xy().context("a point at infinity")?;
                point(&x, &y)
            })
            .collect::<Result<_>>()?;
        let scalars: Vec<Fr> = scalars.iter().map(scalar).collect::<Result<_>>()?;
        Ok(Contender::peer(
            "halo2curves",
            build(),
            G::CurveExt::identity(),
            move |sum: &mut G::CurveExt| {
                *sum = on_threads(threads, || msm_best(&scalars, &points))?;
                Ok(())
            },
            |sum| {
                let sum = coordinates::<G>(sum)?;
                let sum =
                    sum.map_or_else(Affine::identity, |(x, y)| Affine::<P>::new_unchecked(x, y));
                Ok(Answer::Bytes(
                    Layout::<ark_bn254::Fq>::new().point_bytes(&sum),
                ))
            },
        ))
    }
}
