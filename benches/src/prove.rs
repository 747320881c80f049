//! Whole proofs, key loaded and witness in memory. Ours include everything from the check of the
//! witness to the self-check of the proof; the peer's end when its proof is made, and its proofs
//! are verified outside the time.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use ark_groth16::Proof;
use bytes::Bytes;
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::format::{Wtns, Zkey};
use caldera_prover::groth16::{Blinding, Job, ProvingKey};

use crate::bench::{Bench, OURS};
use crate::drive::{self, Trace};
use crate::duel::{Answer, Contender};
use crate::peer::ark::{Bls12_381, Bn254, Curve, build, on_threads, runs_on};
use crate::peer::groth16::Prover;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};
use crate::synthetic::synthetic;
use crate::table::{figure, table};

/// Measures synthetic keys of each size, a share `dense` of whose witnesses is full-size. Returns
/// a table of kernels for each case.
pub(crate) fn prove(
    bench: &mut Bench,
    curve: CurveId,
    log2: &[u32],
    dense: f64,
) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for &log2 in log2 {
        let (zkey, witness) = synthetic(curve, log2, dense, most(&bench.threads))?;
        let name = format!("{} synthetic, dense {dense}", name(curve));
        tables.extend(key(bench, &name, &zkey, &witness)?);
    }
    Ok(tables)
}

/// Measures a key and a witness from files.
pub(crate) fn prove_files(bench: &mut Bench, zkey: &Path, witness: &Path) -> Result<Vec<String>> {
    let read = |path: &Path| {
        std::fs::read(path)
            .map(Bytes::from)
            .with_context(|| format!("reading {}", path.display()))
    };
    let name = zkey
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let zkey = Zkey::parse(read(zkey)?).context("the key")?;
    let witness = Wtns::parse(read(witness)?).context("the witness")?;
    key(bench, &name, &zkey, &witness)
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

/// "bn254" or "bls12-381".
pub(crate) fn name(curve: CurveId) -> &'static str {
    match curve {
        CurveId::Bn254 => Bn254::NAME,
        CurveId::Bls12_381 => Bls12_381::NAME,
    }
}

/// The largest of some thread counts.
pub(crate) fn most(threads: &[usize]) -> usize {
    threads.iter().copied().max().unwrap_or(1)
}

fn key(bench: &mut Bench, name: &str, zkey: &Zkey, witness: &Wtns) -> Result<Vec<String>> {
    match zkey.curve() {
        CurveId::Bn254 => of_curve::<Bn254>(bench, name, zkey, witness),
        CurveId::Bls12_381 => of_curve::<Bls12_381>(bench, name, zkey, witness),
    }
}

fn of_curve<C: Curve>(
    bench: &mut Bench,
    name: &str,
    zkey: &Zkey,
    witness: &Wtns,
) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for threads in bench.threads.clone() {
        let case = Case {
            bench: "prove",
            case: name.to_owned(),
            size: u64::from(zkey.header().domain),
            threads,
            unit: Unit::Milliseconds,
        };
        let device = CpuDevice::new(CpuConfig {
            quantum: QUANTUM,
            lanes: 2 * threads,
        });
        let key = ProvingKey::load(zkey, device).context("loading the key")?;
        let mut proved = Proved::default();
        let mut contenders = vec![Contender::ours(
            OURS,
            &mut proved,
            |proved| proved.run(&key, witness, threads),
            |proved| proved.answer(),
        )];
        if runs_on(threads) {
            contenders.push(peer::<C>(zkey, witness, threads)?);
        }
        bench.case(&case, contenders)?;
        let head = format!(
            "{name}, 2^{}, {threads} thread(s)",
            zkey.header().domain.ilog2()
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

fn peer<'a, C: Curve>(zkey: &Zkey, witness: &Wtns, threads: usize) -> Result<Contender<'a>> {
    let prover = Prover::<C>::new(zkey, witness).context("the key for ark-groth16")?;
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
