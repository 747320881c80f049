//! Whole proofs, key loaded and witness in memory. Ours include everything from the check of the
//! witness to the self-check of the proof, and so do those of snarkrs; those of ark-groth16 end
//! when the proof is made. All proofs of peers are verified outside the time.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ark_groth16::Proof;
use caldera_kernels::CurveId;
use caldera_prover::format::Wtns;
use caldera_prover::groth16::{Blinding, Job, ProvingKey};

use crate::bench::{Bench, OURS};
use crate::drive::{self, Trace};
use crate::duel::{Answer, Contender};
use crate::key::Key;
use crate::peer::ark::{Bls12_381, Bn254, Curve, build, on_threads, runs_on};
use crate::peer::groth16::Prover;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};
use crate::table::{figure, table};

/// Measures a key. Returns a table of kernels for each number of threads.
pub(crate) fn prove(bench: &mut Bench, key: &Key) -> Result<Vec<String>> {
    match key.zkey.curve() {
        CurveId::Bn254 => of_curve::<Bn254>(bench, key),
        CurveId::Bls12_381 => of_curve::<Bls12_381>(bench, key),
    }
}

/// A proof of ours under way or ended, and where its time went.
#[derive(Default)]
pub(crate) struct Proved {
    job: Option<Arc<Job>>,
    trace: Trace,
}

impl Proved {
    /// Proves anew on `threads` threads.
    pub(crate) fn run(
        &mut self,
        key: &Arc<ProvingKey>,
        witness: &Wtns,
        threads: usize,
    ) -> Result<()> {
        let blinding = Blinding::random(key.curve()).context("blinding")?;
        let job = Job::new(key, witness.clone(), blinding).context("a new proof")?;
        let trace = drive::job(&job, threads)?;
        *self = Proved {
            job: Some(job),
            trace,
        };
        Ok(())
    }

    /// The proof has passed the self-check of the job, or it is not there.
    pub(crate) fn answer(&self) -> Result<Answer> {
        let proof = self.job.as_ref().and_then(|job| job.proof());
        ensure!(proof.is_some(), "no proof came out");
        Ok(Answer::Verified)
    }

    /// The account of the last proof's quanta.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }
}

fn of_curve<C: Curve>(bench: &mut Bench, key: &Key) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for threads in bench.threads.clone() {
        let case = Case {
            bench: "prove",
            case: bench.named(key.name.clone()),
            size: key.domain(),
            threads,
            unit: Unit::Milliseconds,
            inside: None,
        };
        let device = bench.device(QUANTUM, 2 * threads)?;
        let proving = ProvingKey::load(&key.zkey, device).context("loading the key")?;
        let mut proved = Proved::default();
        let mut contenders = vec![Contender::ours(
            OURS,
            &mut proved,
            |proved| proved.run(&proving, &key.witness, threads),
            |proved| proved.answer(),
        )];
        if runs_on(threads) {
            contenders.push(peer::<C>(key, threads)?);
        }
        #[cfg(feature = "snarkrs")]
        if C::ID == CurveId::Bn254 {
            contenders.push(snarkrs::contender(key, threads)?);
        }
        bench.case(&case, contenders)?;
        let head = format!(
            "{}, 2^{}, {threads} thread(s)",
            case.case,
            key.domain().ilog2()
        );
        tables.push(format!(
            "{head}: the last proof by kernel\n{}",
            kernels(proved.trace())
        ));
    }
    Ok(tables)
}

struct Peer<C: Curve> {
    prover: Prover<C>,
    proof: Option<Proof<C::Pairing>>,
}

fn peer<'a, C: Curve>(key: &Key, threads: usize) -> Result<Contender<'a>> {
    let prover = Prover::<C>::new(&key.zkey, &key.witness).context("the key for ark-groth16")?;
    Ok(Contender::peer(
        "ark-groth16",
        format!("{}, reduction for snarkjs keys", build("ark-groth16")),
        Peer {
            prover,
            proof: None,
        },
        move |peer: &mut Peer<C>| {
            peer.proof = Some(on_threads(threads, || peer.prover.prove())??);
            Ok(())
        },
        |peer| {
            let proof = peer.proof.as_ref().context("no proof came out")?;
            ensure!(peer.prover.verify(proof)?, "its proof does not verify");
            Ok(Answer::Verified)
        },
    ))
}

#[cfg(feature = "snarkrs")]
mod snarkrs {
    use anyhow::{Context, Result};

    use super::{Answer, Contender, Key};
    use crate::peer::snarkrs::{Prover, build, on_threads};

    pub(super) fn contender<'a>(key: &Key, threads: usize) -> Result<Contender<'a>> {
        let prover = Prover::new(key)?;
        Ok(Contender::peer(
            "snarkrs",
            build(),
            (prover, None),
            move |(prover, proof)| {
                *proof = Some(on_threads(threads, || prover.prove())??);
                Ok(())
            },
            |(prover, proof)| {
                prover.verify(proof.as_ref().context("no proof came out")?)?;
                Ok(Answer::Verified)
            },
        ))
    }
}

fn kernels(trace: &Trace) -> String {
    let all: f64 = trace
        .by_kernel()
        .iter()
        .map(|(_, quanta)| quanta.cpu.as_secs_f64())
        .sum();
    let rows: Vec<Vec<String>> = trace
        .by_kernel()
        .iter()
        .map(|(kernel, quanta)| {
            let cpu = quanta.cpu.as_secs_f64();
            vec![
                (*kernel).to_owned(),
                figure(cpu * 1e3),
                format!("{:.1} %", cpu / all.max(1e-12) * 100.0),
                quanta.cpu_ns.len().to_string(),
                figure(quanta.cpu_ns.value_at_quantile(0.5) as f64 / 1e3),
                figure(quanta.cpu_ns.max() as f64 / 1e3),
            ]
        })
        .collect();
    table(
        &["kernel", "cpu ms", "share", "quanta", "p50 us", "max us"],
        &rows,
    )
}
