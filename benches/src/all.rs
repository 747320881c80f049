//! All benches in one run: at their usual sizes, or at sizes that take no time.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::bench::{Bench, CurveName, VectorsName};
use crate::command::compute::{
    BATCHES, FIELD_OPERATIONS, PUBLIC_INPUTS, TABLES, TOGETHER, USERS, USES, gains_of, peaks_of,
    proofs, quanta_of,
};
use crate::command::schedule::{EVENTS, PEAKS, PROOFS, RELEASES, TENANTS, UNITS};
use crate::command::serve::{CANCELS, SUBMISSIONS, UPLOAD_MIB};
use crate::command::{Keys, Peers};
use crate::cores::of_gains;
use crate::duel::Rounds;
use crate::memory::Peak;
use crate::quanta::{Cut, of_cuts};
use crate::reallocate::{FLIPS, Trigger};
use crate::record::Origin;
use crate::tables::of_bought;
use crate::{
    cancel, cores, crowd, decide, durable, field, fleet, gpu, ledger, load, memory, msm, ntt, peak,
    present, prove, quanta, reallocate, release, rpc, soak, states, tables, throughput, upload,
    verify,
};

/// How far a whole run goes.
#[derive(Debug, Args)]
pub(crate) struct Bounds {
    /// log2 of the largest size, which is taken for all that would be larger.
    #[arg(long, default_value_t = 20)]
    max_log2: u32,
    /// How often demand flips in `reallocate`.
    #[arg(long, default_value_t = FLIPS)]
    flips: u64,
}

/// What all benches came to, beside their records.
pub(crate) struct All {
    pub(crate) tables: Vec<String>,
    /// What state units save: an SVG.
    pub(crate) states: String,
    pub(crate) cuts: Vec<Cut>,
    /// Whether what is promised of memory, decisions, hand-overs and storage holds.
    pub(crate) holds: bool,
}

/// Every bench at its usual sizes, up to a bound: the smaller ones completely, of the larger ones
/// what the figures of docs/measurements.md are.
pub(crate) fn all(bench: &mut Bench, bounds: &Bounds, peers: &Peers) -> Result<All> {
    let mut tables = Vec::new();
    let sizes = |log2: &[u32]| -> Vec<u32> {
        let mut sizes: Vec<u32> = log2.iter().map(|&log2| log2.min(bounds.max_log2)).collect();
        sizes.dedup();
        sizes
    };
    let keys = |curve, log2: &[u32], dense| Keys::synthetic(curve, &sizes(log2), dense);
    step("field: multiplications of each prime field");
    field::field(bench, FIELD_OPERATIONS)?;
    step("msm: sums of multiples of points");
    msm::msm(bench, &sizes(&[16]), &msm::Which::all())?;
    msm::msm(bench, &sizes(&[18, 20]), &msm::Which::uniform_g1())?;
    step("ntt: number-theoretic transforms");
    ntt::ntt(bench, &sizes(&[16, 18, 20]), &CurveName::ALL)?;
    verify::verify(bench, &BATCHES, PUBLIC_INPUTS)?;
    step("states: what trusted state units save");
    let costs = states::costs(bench, &USES, &TOGETHER)?;
    let drawing = states::draw(&costs, &bench.origin)?;
    tables.push(states::of_costs(&costs));
    tables.push(states::of_flow(&states::workflow(bench, USERS)?));
    step("present: a presentation, whole");
    let presented = present::present(bench, &peers.peers)?;
    tables.push(present::of_presented(&presented));
    step("prove: whole proofs, without tables");
    for keys in [
        keys(CurveName::Bn254, &[10, 12, 14, 16, 18, 20], 0.9),
        keys(CurveName::Bn254, &[18], 0.0),
        keys(CurveName::Bls12_381, &[16], 0.9),
    ] {
        proofs(bench, &keys, peers, &mut tables)?;
    }
    step("load: keys from their files");
    for curve in CurveName::ALL {
        keys(curve, &[18], 0.9).each(bench, load::load)?;
    }
    step("tables: proofs with tables of 1, 2 and 4 times the key");
    let mut bought = Vec::new();
    for keys in [
        keys(CurveName::Bn254, &[14, 16, 18], 0.9),
        keys(CurveName::Bn254, &[18], 0.0),
    ] {
        keys.each(bench, |bench, key| {
            bought.extend(tables::tables(bench, key, &TABLES)?);
            Ok(())
        })?;
    }
    tables.push(of_bought(&bought));
    step("memory: the peak while proving");
    let mut peaks = Vec::new();
    // Beside a smaller key the program itself counts.
    let largest = bounds.max_log2.clamp(16, 18);
    for (log2, dense) in [(16, 0.85), (largest, 0.0)] {
        let keys = Keys::synthetic(CurveName::Bn254, &[log2], dense);
        peaks_of(bench, &keys, &mut peaks)?;
    }
    tables.push(memory::of_peaks(&peaks));
    step("decide: the arbiter alone");
    let decided = decide::decide(bench, UNITS, TENANTS, EVENTS)?;
    tables.push(decide::of_decided(&decided));
    step("durable: submissions in groups and one by one");
    let written = durable::durable(bench, SUBMISSIONS)?;
    tables.push(durable::of_written(&written));
    step("upload: a large witness onto the disk");
    let uploaded = upload::upload(bench, UPLOAD_MIB)?;
    tables.push(upload::of_uploaded(&uploaded));
    step("throughput: a box against the prover alone");
    let kept = throughput::throughput(bench, 14, PROOFS)?;
    tables.push(throughput::of_kept(&kept));
    step("peak: a tenant that held half");
    let risen = peak::peak(bench, PEAKS)?;
    tables.push(peak::of_risen(&risen));
    step("reallocate: cores that change hands");
    let mut holds = peaks.iter().all(Peak::holds)
        && decide::holds(&decided)
        && written.holds()
        && uploaded.holds();
    holds &= kept.holds() && risen.holds();
    for trigger in [Trigger::Declared, Trigger::Measured] {
        let moved = reallocate::reallocate(bench, reallocate::Plan::usual(trigger, bounds.flips))?;
        tables.push(reallocate::of_moved(&moved));
        holds &= moved.holds();
    }
    step("rpc: what a status call costs");
    let called = rpc::rpc(bench, rpc::Plan::of(rpc::CALLS))?;
    tables.push(rpc::of_called(&called));
    step("crowd: cores that change hands beside strangers");
    let crowded = crowd::crowd(bench, crowd::Plan::usual(bounds.flips))?;
    tables.push(crowd::of_crowded(&crowded));
    step("cancel: cores that a cancelled job gives back");
    let cancelled = cancel::cancel(bench, CANCELS, 13)?;
    tables.push(cancel::of_cancelled(&cancelled));
    holds &= called.holds() && crowded.holds() && cancelled.holds();
    step("release: storage that is given back");
    let released = release::release(bench, 16, RELEASES)?;
    holds &= released.holds();
    tables.push(release::of_released(&released));
    step("fleet: two boxes against one");
    let measured = fleet::fleet(bench, &fleet::Plan::usual())?;
    holds &= measured.holds();
    tables.push(fleet::of_fleet(&measured));
    let keys = keys(CurveName::Bn254, &[14, 16], 0.9);
    step("cores: a proof on many threads and on one");
    let mut gains = Vec::new();
    gains_of(bench, &keys, &mut gains)?;
    tables.push(of_gains(&gains));
    step("quanta: a proof cut into quanta and uncut");
    let mut cuts = Vec::new();
    quanta_of(bench, &keys, &mut cuts)?;
    tables.push(of_cuts(&cuts));
    Ok(All {
        tables,
        states: drawing,
        cuts,
        holds,
    })
}

/// Says what begins: a whole run takes long.
fn step(what: &str) {
    eprintln!("caldera-bench: {what}");
}

/// A run of which nothing is kept, one round of each.
pub(crate) fn trial() -> Bench {
    Bench {
        rounds: Rounds {
            min: 1,
            max: 1,
            budget: Duration::ZERO,
        },
        threads: vec![1, 2],
        vectors: VectorsName::Best,
        origin: Origin::here(),
        results: None,
        tell: false,
        records: Vec::new(),
    }
}

/// Every body, at sizes that take no time.
pub(crate) fn once() -> Result<Bench> {
    let mut bench = trial();
    field::field(&mut bench, 2048)?;
    msm::msm(&mut bench, &[0, 5], &msm::Which::all())?;
    ntt::ntt(&mut bench, &[1, 5], &CurveName::ALL)?;
    verify::verify(&mut bench, &[1, 3], 2)?;
    gpu::gpu(&mut bench, &gpu::Plan::trial())?;
    let costs = states::costs(&mut bench, &[1, 2], &[2])?;
    states::draw(&costs, &bench.origin)?;
    states::of_costs(&costs);
    states::of_flow(&states::workflow(&mut bench, 4)?);
    decide::decide(&mut bench, 8, 6, 500)?;
    durable::durable(&mut bench, 100)?;
    ledger::ledger(&mut bench, 100)?;
    upload::upload(&mut bench, 1)?;
    throughput::throughput(&mut bench, 5, 2)?;
    for trigger in [Trigger::Declared, Trigger::Measured] {
        reallocate::reallocate(&mut bench, reallocate::Plan::usual(trigger, 20))?;
    }
    rpc::rpc(
        &mut bench,
        rpc::Plan {
            connections: 4,
            rate: Some(200.0),
            ..rpc::Plan::of(40)
        },
    )?;
    crowd::crowd(
        &mut bench,
        crowd::Plan {
            clients: 40,
            flood: 40,
            flips: 20,
            workers: None,
        },
    )?;
    cancel::cancel(&mut bench, 3, 10)?;
    fleet::fleet(&mut bench, &fleet::Plan::short())?;
    let soaked = soak::soak(&bench, &soak::Plan::short())?;
    let wrong = soaked.wrong();
    ensure!(wrong.is_empty(), "soak: {wrong:#?}");
    for curve in CurveName::ALL {
        Keys::synthetic(curve, &[5], 0.5).each(&mut bench, |bench, key| {
            prove::prove(bench, key)?;
            load::load(bench, key)?;
            cores::cores(bench, key)?;
            quanta::quanta(bench, key)?;
            tables::tables(bench, key, &[8.0])?;
            Ok(())
        })?;
    }
    Ok(bench)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bench_body_runs_and_its_contenders_agree() {
        let bench = once().expect("every body");
        for name in [
            "field",
            "msm",
            "ntt",
            "decide",
            "throughput",
            "reallocate",
            "rpc",
            "crowd",
            "cancel",
            "fleet",
            "prove",
            "load",
            "cores",
            "quanta",
            "tables",
        ] {
            assert!(
                bench.records.iter().any(|record| record.bench == name),
                "{name}"
            );
        }
        let peers = bench.records.iter().filter(|record| !record.ours).count();
        assert!(peers > 0, "no peer took part");
    }
}
