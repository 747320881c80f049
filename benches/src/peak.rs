//! What a financial peak brings a tenant that has held half of the box until then.
//!
//! Two tenants of equal value have proofs under way all the time, so each holds half of the cores.
//! Then one asks for more proofs than its class's mark, which makes a peak. Compared are the second
//! before, and the second that begins 100 ms after the proof that crosses the mark was asked for: core time
//! of that tenant's quanta, by the box's own count, proofs that came out, and how long a proof took
//! from its first quantum to the checked result.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::Bench;
use crate::duel::Spread;
use crate::live::{Client, Feed, Setup, World, small_key};
use crate::record::Record;
use crate::table::{met, table};

/// What came of it: the second after over the second before, peak by peak.
pub(crate) struct Risen {
    cores: u32,
    /// Core seconds of the tenant in the second before, and in the one after.
    before: Vec<f64>,
    after: Vec<f64>,
    core_time: Spread,
    proofs: Spread,
    proof_time: Spread,
}

/// Brings about so many peaks.
pub(crate) fn peak(bench: &mut Bench, peaks: usize) -> Result<Risen> {
    ensure!(peaks > 0, "no peaks to measure");
    let world = World::new(&Setup::usual(POLICY, &["financial", "other"]))?;
    let (tenant, other, operator) = (
        world.client("financial")?,
        world.client("other")?,
        world.operator()?,
    );
    let (zkey, witness) = small_key(12)?;
    let mut feed = Feed::new(&tenant, &zkey, &witness)?;
    let mut others = Feed::new(&other, &zkey, &witness)?;
    let cores = tenant.pool()?.units.len() as u32;

    let (mut before, mut after) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    for peak in 0..peaks {
        bench.say(&format!("peak: {peak} of {peaks}"));
        calm(&tenant, &mut feed, &mut others)?;
        let window =
            |feed: &mut Feed, others: &mut Feed, jobs| Window::of(&operator, feed, others, jobs);
        before.push(window(&mut feed, &mut others, CALM)?);
        // Now, or a little later: the mark lies below what is asked for.
        let asked = Instant::now();
        while feed.waiting() < PEAK {
            feed.submit()?;
        }
        keep_until(
            asked + Duration::from_millis(100),
            &mut feed,
            &mut others,
            PEAK,
        )?;
        after.push(window(&mut feed, &mut others, PEAK)?);
    }
    let wall = begun.elapsed();
    world.stop();

    let ratio =
        |of: fn(&Window) -> f64| Spread::of(after.iter().zip(&before).map(|(a, b)| of(a) / of(b)));
    let risen = Risen {
        cores,
        core_time: ratio(|it| it.core_s),
        proofs: ratio(|it| it.proofs),
        proof_time: ratio(|it| it.proof_ms),
        before: before.iter().map(|it| it.core_s).collect(),
        after: after.iter().map(|it| it.core_s).collect(),
    };
    for (what, spread) in risen.figures() {
        bench.keep(Record {
            size: u64::from(cores),
            threads: cores as usize,
            value: spread.median,
            unit: "after/before".to_owned(),
            spread: [spread.low, spread.high],
            wall_s: wall.as_secs_f64(),
            rounds: peaks,
            inside: Some(
                "the second from 100 ms after the peak over the second before it, of a tenant that held half"
                    .to_owned(),
            ),
            ..bench.ours("peak", what.to_owned())
        })?;
    }
    Ok(risen)
}

impl Risen {
    /// Whether what is promised of a peak holds.
    pub(crate) fn holds(&self) -> bool {
        self.bars().iter().all(|(_, held)| *held)
    }

    fn bars(&self) -> Vec<(String, bool)> {
        let told = |what: &str, held| (what.to_owned(), held);
        vec![
            told("core time at least 1.9", self.core_time.median >= 1.9),
            told("finished proofs at least 1.8", self.proofs.median >= 1.8),
            told("time of a proof at most 1", self.proof_time.median <= 1.0),
        ]
    }

    fn figures(&self) -> [(&'static str, Spread); 3] {
        [
            ("core time", self.core_time),
            ("finished proofs", self.proofs),
            ("time of a proof", self.proof_time),
        ]
    }
}

/// The figures as a table.
pub(crate) fn of_risen(risen: &Risen) -> String {
    let rows: Vec<Vec<String>> = risen
        .figures()
        .map(|(what, it)| {
            vec![
                what.to_owned(),
                format!("{:.3} ({:.3}..{:.3})", it.median, it.low, it.high),
            ]
        })
        .into();
    let core_s = |seconds: &[f64]| Spread::of(seconds.iter().copied()).median;
    format!(
        "at its peak a tenant had {:.3} core seconds a second of {}, before {:.3}\n{}",
        core_s(&risen.after),
        risen.cores,
        core_s(&risen.before),
        table(&["in the second after, over before", "ratio"], &rows)
    ) + &met(&risen.bars())
}

/// What the tenant had in a second.
struct Window {
    core_s: f64,
    proofs: f64,
    proof_ms: f64,
}

impl Window {
    /// Looks on for a second, in which the tenant has so many proofs under way.
    fn of(operator: &Client, feed: &mut Feed, others: &mut Feed, jobs: usize) -> Result<Window> {
        let core_time = || operator.metric(CORE_TIME);
        feed.look()?;
        feed.spans.clear();
        let (begin, first, proved) = (Instant::now(), core_time()?, feed.proved);
        keep_until(begin + Duration::from_secs(1), feed, others, jobs)?;
        let (last, span) = (core_time()?, begin.elapsed().as_secs_f64());
        feed.look()?;
        ensure!(!feed.spans.is_empty(), "no proof within a second");
        Ok(Window {
            core_s: (last - first) / span,
            proofs: (feed.proved - proved) as f64 / span,
            proof_ms: Spread::of(feed.spans.iter().copied()).median,
        })
    }
}

/// Keeps both tenants in work until then.
fn keep_until(end: Instant, feed: &mut Feed, others: &mut Feed, jobs: usize) -> Result<()> {
    while Instant::now() < end {
        feed.fill(jobs)?;
        others.fill(CALM)?;
        std::thread::sleep(STEP.min(end.saturating_duration_since(Instant::now())));
    }
    Ok(())
}

/// Waits until the tenant is at no peak, and some time longer.
fn calm(tenant: &Client, feed: &mut Feed, others: &mut Feed) -> Result<()> {
    loop {
        keep_until(Instant::now() + SETTLE, feed, others, CALM)?;
        let name = Some("financial".to_owned());
        let tenants = tenant.pool()?.tenants;
        if tenants.iter().any(|it| it.tenant == name && !it.peak) {
            return keep_until(Instant::now() + SETTLE, feed, others, CALM);
        }
    }
}

/// Equal, but for a peak.
const POLICY: &str = "
[classes.financial]
value = 10
guarantee_percent = 0
[classes.financial.peak]
value = 1000
queue = { high = 8, low = 5 }
hold_ms = 1000
[classes.other]
value = 10
guarantee_percent = 0
";

/// Proofs under way while nothing happens: below the low mark.
const CALM: usize = 4;
/// And at a peak: above the high one.
const PEAK: usize = 12;

/// Between two looks at what has come out.
const STEP: Duration = Duration::from_millis(4);
/// For turns to even out.
const SETTLE: Duration = Duration::from_millis(500);

const CORE_TIME: &str = "caldera_tenant_core_seconds_total{tenant=\"financial\"}";
