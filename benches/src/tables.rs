//! What tables of a key buy: the same proof with tables of so many times the key's bytes and with
//! none, taking turns. Tables are made after a first proof, as a node makes them, outside the time
//! of the others; what the making takes stands in a table of its own.

use anyhow::{Context, Result};
use caldera_kernels::cpu::{CpuConfig, CpuDevice};
use caldera_prover::groth16::ProvingKey;

use crate::bench::Bench;
use crate::clock::timed;
use crate::drive;
use crate::duel::{Contender, Spread};
use crate::key::Key;
use crate::prove::Proved;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};
use crate::table::{figure, table};

/// One budget on one number of threads.
pub(crate) struct Bought {
    /// What was proved, for a heading.
    name: String,
    /// The budget, as a multiple of the key.
    times: f64,
    /// What the tables take.
    bytes: usize,
    /// CPU seconds that making them took.
    made_s: f64,
    /// CPU time with them over CPU time without.
    ratio: Spread,
}

/// Measures a key with each budget.
pub(crate) fn tables(bench: &mut Bench, key: &Key, budgets: &[f64]) -> Result<Vec<Bought>> {
    let mut all = Vec::new();
    for threads in bench.threads.clone() {
        for &times in budgets {
            let device = CpuDevice::new(CpuConfig {
                quantum: QUANTUM,
                lanes: 2 * threads,
            });
            let load = || ProvingKey::load(&key.zkey, device.clone()).context("loading the key");
            let (with, without) = (load()?, load()?);
            Proved::default().run(&with, &key.witness, threads)?;
            let plan = with
                .tables((key.file.len() as f64 * times) as usize)
                .context("room for tables")?;
            let (made, ()) = timed(|| drive::plan(&*plan, threads).context("making tables"))?;
            drop(plan);

            let case = Case {
                bench: "tables",
                case: key.name.clone(),
                size: key.domain(),
                threads,
                unit: Unit::Milliseconds,
                inside: None,
            };
            let contender = |name: String, proving| {
                Contender::ours(
                    name,
                    Proved::default(),
                    move |proved: &mut Proved| proved.run(proving, &key.witness, threads),
                    Proved::answer,
                )
            };
            let runs = bench.case(
                &case,
                vec![
                    contender(format!("caldera, tables {times}x"), &with),
                    contender("caldera, no tables".to_owned(), &without),
                ],
            )?;
            all.push(Bought {
                name: format!(
                    "{}, 2^{}, {threads} thread(s)",
                    key.name,
                    key.domain().ilog2()
                ),
                times,
                bytes: with.tables_bytes(),
                made_s: made.cpu.as_secs_f64(),
                ratio: runs[0].cpu_ratio(&runs[1]),
            });
        }
    }
    Ok(all)
}

/// What was bought, as a table.
pub(crate) fn of_bought(bought: &[Bought]) -> String {
    let rows: Vec<Vec<String>> = bought
        .iter()
        .map(|bought| {
            let ratio = bought.ratio;
            vec![
                bought.name.clone(),
                format!("{}x", bought.times),
                figure(bought.bytes as f64 / f64::from(1 << 20)),
                figure(bought.made_s),
                format!("{:.3} ({:.3}..{:.3})", ratio.median, ratio.low, ratio.high),
            ]
        })
        .collect();
    let head = ["case", "budget", "MiB", "made in cpu s", "with/without"];
    table(&head, &rows)
}
