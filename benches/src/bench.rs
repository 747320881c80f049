//! What every bench needs: how long to go on, on how many threads, and where results go.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use caldera_kernels::CurveId;
use caldera_kernels::cpu::{CpuConfig, CpuDevice, Vectors};
use clap::ValueEnum;
use hdrhistogram::Histogram;

use crate::duel::{Contender, Rounds, Runs, duel};
use crate::record::{Case, Origin, Record, Results, records};

/// A run of the program.
pub(crate) struct Bench {
    /// How often each contender runs.
    pub(crate) rounds: Rounds,
    /// The thread counts to measure at.
    pub(crate) threads: Vec<usize>,
    /// Which vector instructions ours uses.
    pub(crate) vectors: VectorsName,
    /// Machine, source and build.
    pub(crate) origin: Origin,
    /// Where lines go; nowhere for a trial.
    pub(crate) results: Option<Results>,
    /// Whether to say on stderr what is under way.
    pub(crate) tell: bool,
    /// All lines of this run.
    pub(crate) records: Vec<Record>,
}

impl Bench {
    /// Lets the contenders of one case take turns, and records how they did.
    pub(crate) fn case(
        &mut self,
        case: &Case,
        contenders: Vec<Contender<'_>>,
    ) -> Result<Vec<Runs>> {
        self.say(&format!(
            "{} {}, size {}, {} thread(s): {}",
            case.bench,
            case.case,
            case.size,
            case.threads,
            contenders
                .iter()
                .map(|c| c.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        ));
        let runs = duel(contenders, self.rounds)?;
        for record in records(case, &runs, &self.origin) {
            self.keep(record)?;
        }
        Ok(runs)
    }

    /// Records a line.
    pub(crate) fn keep(&mut self, record: Record) -> Result<()> {
        if let Some(results) = &mut self.results {
            results.append(&record)?;
        }
        self.records.push(record);
        Ok(())
    }

    /// A line of ours that says nothing yet, of a bench that takes no turns with others.
    pub(crate) fn ours(&self, bench: &str, case: String) -> Record {
        Record {
            bench: bench.to_owned(),
            case,
            size: 0,
            threads: 0,
            who: OURS.to_owned(),
            ours: true,
            value: 0.0,
            unit: String::new(),
            spread: [0.0; 2],
            cpu_s: 0.0,
            wall_s: 0.0,
            rounds: 0,
            ratio: None,
            peer_build: None,
            inside: None,
            silicon: None,
            origin: self.origin.clone(),
        }
    }

    /// A line of ours about how long something took, from samples in nanoseconds.
    pub(crate) fn times(&self, bench: &str, case: String, ns: &Histogram<u64>) -> Record {
        let ms = |quantile| ns.value_at_quantile(quantile) as f64 / 1e6;
        Record {
            value: ms(0.5),
            unit: "wall ms".to_owned(),
            spread: [ms(0.25), ms(0.75)],
            rounds: usize::try_from(ns.len()).unwrap_or(usize::MAX),
            ..self.ours(bench, case)
        }
    }

    /// A case's name, with the vector instructions where they are not the best here: a line of
    /// theirs is another case.
    pub(crate) fn named(&self, case: String) -> String {
        match self.vectors {
            VectorsName::Best => case,
            VectorsName::Avx2 => format!("{case}, on avx2"),
            VectorsName::None => format!("{case}, no vectors"),
        }
    }

    /// A device with those instructions.
    pub(crate) fn device(&self, quantum: Duration, lanes: usize) -> Result<Arc<CpuDevice>> {
        self.vectors.device(CpuConfig { quantum, lanes })
    }

    /// A line for whoever waits.
    pub(crate) fn say(&self, line: &str) {
        if self.tell {
            eprintln!("{line}");
        }
    }
}

/// Vector instructions on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VectorsName {
    /// The best that this processor has.
    Best,
    Avx2,
    None,
}

impl VectorsName {
    /// A device with them.
    pub(crate) fn device(self, config: CpuConfig) -> Result<Arc<CpuDevice>> {
        CpuDevice::with_vectors(config, self.into())
            .context("this processor lacks those vector instructions")
    }
}

impl From<VectorsName> for Vectors {
    fn from(name: VectorsName) -> Vectors {
        match name {
            VectorsName::Best => Vectors::Best,
            VectorsName::Avx2 => Vectors::Avx2,
            VectorsName::None => Vectors::None,
        }
    }
}

/// A curve's name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CurveName {
    Bn254,
    #[value(name = "bls12-381")]
    Bls12_381,
}

impl CurveName {
    pub(crate) const ALL: [CurveName; 2] = [CurveName::Bn254, CurveName::Bls12_381];
}

impl From<CurveName> for CurveId {
    fn from(name: CurveName) -> CurveId {
        match name {
            CurveName::Bn254 => CurveId::Bn254,
            CurveName::Bls12_381 => CurveId::Bls12_381,
        }
    }
}

/// The name of ours in records.
pub(crate) const OURS: &str = "caldera";
