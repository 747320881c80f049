//! What scheduling costs: proofs by a whole box, asked for over its socket, against the same proofs by
//! the prover alone, on the same cores.
//!
//! The prover alone proves in two ways, and the better one counts: one proof after another, each on
//! all cores, and a proof on each core at once. All take turns. The figure is of the wall clock, for
//! a core that waits costs as much as one that is busy; process CPU time stands beside it. The box does
//! more: it reads requests, checks witnesses and keeps its books on the same cores.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use caldera_kernels::CurveId;
use caldera_prover::groth16::ProvingKey;

use crate::bench::{Bench, OURS};
use crate::drive;
use crate::duel::{Answer, Contender, Runs, Spread};
use crate::key::Key;
use crate::live::{Feed, Setup, World};
use crate::prove::Proved;
use crate::quanta::QUANTUM;
use crate::record::{Case, Unit};
use crate::table::{met, table};

/// Proofs in the same time, of the box over the prover alone.
pub(crate) struct Kept {
    name: String,
    /// Against one proof after another, and against one on each core.
    against: [Spread; 2],
    /// Process CPU time of the box over those of the two.
    cpu: [Spread; 2],
}

/// Rounds of so many proofs, by the box and without.
pub(crate) fn throughput(bench: &mut Bench, log2: u32, proofs: usize) -> Result<Kept> {
    let cores = bench.origin.cores;
    let key = Key::synthetic(CurveId::Bn254, log2, 0.9, cores)?;
    let world = World::new(&Setup::usual(POLICY, &["only"]))?;
    let client = world.client("only")?;
    let mut witness = Vec::new();
    key.witness.write(&mut witness).context("the witness")?;
    let feed = Feed::new(&client, &key.file, &witness)?;
    let case = Case {
        bench: "throughput",
        case: format!("{}, {proofs} proofs", key.name),
        size: key.domain(),
        threads: cores,
        unit: Unit::WallMilliseconds,
        inside: Some(
            "all proofs of a round; by the box with requests, witnesses' checks and books",
        ),
    };
    let contenders = vec![
        Contender::ours(
            OURS,
            feed,
            move |feed: &mut Feed| by_the_box(feed, proofs),
            |_| Ok(Answer::Verified),
        ),
        alone(
            bench,
            &key,
            format!("one after another on {cores}"),
            1,
            proofs,
        )?,
        alone(bench, &key, format!("{cores} at once on 1"), cores, proofs)?,
    ];
    let runs = bench.case(&case, contenders)?;
    world.stop();
    Ok(Kept::of(format!("{}, 2^{log2}", case.case), &runs))
}

impl Kept {
    /// Whether the box proves as much as is promised, against either way of proving without it.
    pub(crate) fn holds(&self) -> bool {
        self.against.iter().all(|it| it.median >= KEPT)
    }

    fn of(name: String, runs: &[Runs]) -> Kept {
        let [by_box, after, at_once] = runs else {
            unreachable!("three contenders, three accounts");
        };
        Kept {
            name,
            against: [after.wall_ratio(by_box), at_once.wall_ratio(by_box)],
            cpu: [by_box.cpu_ratio(after), by_box.cpu_ratio(at_once)],
        }
    }
}

/// The ratios as a table.
pub(crate) fn of_kept(kept: &Kept) -> String {
    let ratio = |r: Spread| format!("{:.3} ({:.3}..{:.3})", r.median, r.low, r.high);
    let rows: Vec<Vec<String>> = ["one after another", "one on each core"]
        .iter()
        .zip(kept.against.iter().zip(kept.cpu))
        .map(|(way, (wall, cpu))| vec![(*way).to_owned(), ratio(*wall), ratio(cpu)])
        .collect();
    let head = [
        "the prover alone proves",
        "proofs, box/alone",
        "CPU time, box/alone",
    ];
    let bar = (
        format!("proofs at least {KEPT} of the prover alone"),
        kept.holds(),
    );
    format!("{}\n{}{}", kept.name, table(&head, &rows), met(&[bar]))
}

/// As many proofs through the socket, with a few under way all the time.
fn by_the_box(feed: &mut Feed, proofs: usize) -> Result<()> {
    let end = feed.proved + proofs as u64;
    while feed.proved < end {
        let left = usize::try_from(end - feed.proved)?;
        feed.fill(left.min(UNDER_WAY))?;
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// So many proofs by `at_once` crews that share all cores evenly.
fn alone<'a>(
    bench: &Bench,
    key: &'a Key,
    name: String,
    at_once: usize,
    proofs: usize,
) -> Result<Contender<'a>> {
    let threads = (bench.origin.cores / at_once).max(1);
    let device = bench.device(QUANTUM, 2 * threads)?;
    let proving = ProvingKey::load(&key.zkey, device).context("loading the key")?;
    let crews: Vec<Mutex<Proved>> = (0..at_once).map(|_| Mutex::default()).collect();
    Ok(Contender::ours(
        name,
        crews,
        move |crews: &mut Vec<Mutex<Proved>>| {
            let done = drive::together(at_once, |crew| {
                let mut proved = crews[crew].lock().unwrap_or_else(PoisonError::into_inner);
                (crew..proofs)
                    .step_by(at_once)
                    .try_for_each(|_| proved.run(&proving, &key.witness, threads))
            });
            done.into_iter().collect()
        },
        |crews| {
            let last = |crew: &Mutex<Proved>| {
                let proved = crew.lock().unwrap_or_else(PoisonError::into_inner);
                proved.answer()
            };
            crews
                .iter()
                .try_fold(Answer::Verified, |_, crew| last(crew))
        },
    ))
}

/// What a box keeps of the prover's throughput.
const KEPT: f64 = 0.97;

const POLICY: &str = "
[classes.only]
value = 1
guarantee_percent = 0
";

/// Proofs that are not ended: one that runs, one that is next, and one that is being prepared.
const UNDER_WAY: usize = 4;

/// Between two looks at what has come out.
const STEP: Duration = Duration::from_millis(4);
