//! What more cores buy: the same proof on many threads and on one, taking turns. The figure is of
//! the wall clock, for CPU time can only become more.

use std::sync::Arc;

use anyhow::{Context, Result};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::groth16::ProvingKey;

use crate::bench::Bench;
use crate::duel::Contender;
use crate::key::Key;
use crate::prove::Proved;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};

/// Measures a key on each number of threads above one against one.
pub(crate) fn cores(bench: &mut Bench, key: &Key) -> Result<()> {
    for threads in bench.threads.clone() {
        if threads == 1 {
            continue;
        }
        let case = Case {
            bench: "cores",
            case: key.name.clone(),
            size: key.domain(),
            threads,
            unit: Unit::WallMilliseconds,
            inside: None,
        };
        let contenders = vec![contender(key, threads)?, contender(key, 1)?];
        bench.case(&case, contenders)?;
    }
    Ok(())
}

fn contender(key: &Key, threads: usize) -> Result<Contender<'_>> {
    let device = CpuDevice::new(CpuConfig {
        quantum: QUANTUM,
        lanes: 2 * threads,
    });
    let proving: Arc<ProvingKey> =
        ProvingKey::load(&key.zkey, device).context("loading the key")?;
    Ok(Contender::ours(
        format!("caldera on {threads}"),
        Proved::default(),
        move |proved: &mut Proved| proved.run(&proving, &key.witness, threads),
        Proved::answer,
    ))
}
