//! Loading a key: from its file to where a proof can begin, with all of its points checked and
//! with none.
//!
//! Each loads what it can read. Ours and snarkrs read the `.zkey`; ark-groth16 reads its own
//! serialisation of the same key, for it has no reader of a `.zkey`. What is checked differs and
//! is said in the record: snarkrs asks of the large parts whether points are on the curve, which
//! is all there is to ask of BN254's G1, and does not ask whether those of G2 are in the subgroup.

use std::path::Path;

use anyhow::{Context, Result};
use ark_groth16::ProvingKey as ArkKey;
use ark_serialize::{CanonicalDeserialize, CanonicalSerialize};
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::Zkey;
use caldera_prover::groth16::{Checks, ProvingKey, check};

use crate::bench::{Bench, OURS};
use crate::duel::{Answer, Contender};
use crate::key::{Key, mapped};
use crate::peer::ark::{Bls12_381, Bn254, Curve, build, on_threads, runs_on};
use crate::peer::groth16::Prover;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};

/// Measures a key on each number of threads.
pub(crate) fn load(bench: &mut Bench, key: &Key) -> Result<()> {
    match key.zkey.curve() {
        CurveId::Bn254 => of_curve::<Bn254>(bench, key),
        CurveId::Bls12_381 => of_curve::<Bls12_381>(bench, key),
    }
}

fn of_curve<C: Curve>(bench: &mut Bench, key: &Key) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for keys")?;
    let zkey = folder.path().join("key.zkey");
    std::fs::write(&zkey, &key.file).context("writing the key")?;
    let ark_file = folder.path().join("key.ark");
    let ark_key = Prover::<C>::new(&key.zkey, &key.witness)?.into_key();
    let mut bytes = Vec::new();
    ark_key
        .serialize_uncompressed(&mut bytes)
        .context("the key for ark-groth16")?;
    std::fs::write(&ark_file, bytes).context("writing the key for ark-groth16")?;
    drop(ark_key);

    for (how, inside) in [(How::Trusted, TRUSTED), (How::Checked, CHECKED)] {
        for threads in bench.threads.clone() {
            let case = Case {
                bench: "load",
                case: format!("{}, {}", key.name, how.name()),
                size: key.domain(),
                threads,
                unit: Unit::Milliseconds,
                inside: Some(inside),
            };
            let mut contenders = vec![ours(&zkey, how, threads)];
            if runs_on(threads) {
                contenders.push(ark::<C>(&ark_file, how, threads));
            }
            #[cfg(feature = "snarkrs")]
            if C::ID == CurveId::Bn254 {
                contenders.push(snarkrs::contender(&zkey, how, threads));
            }
            bench.case(&case, contenders)?;
        }
    }
    Ok(())
}

/// Whether a key is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Trusted,
    Checked,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Trusted => "trusted",
            How::Checked => "checked",
        }
    }
}

/// Wires and domain: what shows that a key was read.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    wires: usize,
    domain: usize,
}

impl Shape {
    fn answer(self) -> Answer {
        let numbers = [self.wires, self.domain];
        Answer::Bytes(numbers.iter().flat_map(|n| n.to_le_bytes()).collect())
    }
}

fn ours<'a>(path: &'a Path, how: How, threads: usize) -> Contender<'a> {
    Contender::ours(
        OURS,
        Shape::default(),
        move |shape: &mut Shape| {
            let zkey = Zkey::parse(mapped(path)?).context("the key")?;
            if how == How::Checked {
                let checks = Checks {
                    development: true,
                    threads,
                };
                check(&zkey, &checks, &mut |_| ()).context("checking the key")?;
            }
            let device = CpuDevice::new(CpuConfig {
                quantum: QUANTUM,
                lanes: 2 * threads,
            });
            let key = ProvingKey::load(&zkey, device).context("loading the key")?;
            *shape = Shape {
                wires: key.wires(),
                domain: key.domain_size(),
            };
            Ok(())
        },
        |shape| Ok(shape.answer()),
    )
}

fn ark<'a, C: Curve>(path: &'a Path, how: How, threads: usize) -> Contender<'a> {
    Contender::peer(
        "ark-groth16",
        format!("{}, its own uncompressed form", build("ark-groth16")),
        Shape::default(),
        move |shape: &mut Shape| {
            let bytes = std::fs::read(path).context("reading the key")?;
            let key = on_threads(threads, || match how {
                How::Trusted => ArkKey::<C::Pairing>::deserialize_uncompressed_unchecked(&*bytes),
                How::Checked => ArkKey::<C::Pairing>::deserialize_uncompressed(&*bytes),
            })?
            .context("the key for ark-groth16")?;
            *shape = Shape {
                wires: key.a_query.len(),
                domain: key.h_query.len(),
            };
            Ok(())
        },
        |shape| Ok(shape.answer()),
    )
}

#[cfg(feature = "snarkrs")]
mod snarkrs {
    use std::path::Path;

    use snarkrs_lib::ProvingKey;

    use super::{Contender, How, Shape};
    use crate::peer::snarkrs::{build, load, on_threads};

    pub(super) fn contender<'a>(path: &'a Path, how: How, threads: usize) -> Contender<'a> {
        Contender::peer(
            "snarkrs",
            build(),
            Shape::default(),
            move |shape: &mut Shape| {
                let circuit = on_threads(threads, || {
                    load(match how {
                        How::Trusted => ProvingKey::load_unchecked(path),
                        How::Checked => ProvingKey::load(path),
                    })
                })??;
                *shape = Shape {
                    wires: circuit.key().n_vars,
                    domain: circuit.key().domain_size,
                };
                Ok(())
            },
            |shape| Ok(shape.answer()),
        )
    }
}

const TRUSTED: &str = "from the file (ours mapped) to where a proof can begin, no points of the \
                       large parts checked; no digest taken";

const CHECKED: &str = "the same with points checked: ours and ark-groth16 curve and subgroup, \
                       snarkrs the curve only; ours the coefficients too";
