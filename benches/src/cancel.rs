//! From the call that cancels a job to the moment at which another tenant's proofs have its cores.
//!
//! On a real `calderad` one tenant is promised the whole box and has one proof under way; another, worth next to
//! nothing, always has proofs that wait. The first is cancelled at a moment drawn from a seed, anywhere
//! between its submission and the end that it would have had. Meanwhile the operator asks for the state of the
//! pool again and again: the resources are free when the tenant has no job any more, in no state, and
//! every unit works on a job of the other one. That is seen a call later than it is, so what is shown is an
//! upper bound. The answer to the cancellation comes when it is on the disk, and is shown beside.
//!
//! A job that ended before it could be cancelled is no sample. A sample over the bar is exempt if the machine took
//! the time, as in `reallocate`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use caldera_rpc::methods::{Method, PoolStatus};
use hdrhistogram::Histogram;
use serde_json::json;

use crate::bench::Bench;
use crate::daemon::Daemon;
use crate::live::{Client, Feed, small_key};
use crate::reallocate::{Taken, histogram, path};
use crate::record::Record;
use crate::table::{figure, table};

/// What came out.
pub(crate) struct Cancelled {
    /// Until the cores worked for another, and until the call was answered, in nanoseconds.
    free: Histogram<u64>,
    answered: Histogram<u64>,
    /// Samples over the bar, and those of them for which the machine answers.
    late: u64,
    exempt: u64,
    /// Jobs that had ended before.
    ended: u64,
    /// How long a proof takes that is not cancelled, in milliseconds.
    whole_ms: f64,
}

impl Cancelled {
    /// Whether all were free in time, but for those that the machine answers for.
    pub(crate) fn holds(&self) -> bool {
        self.late == self.exempt
    }
}

/// Cancels so many jobs of keys of that size.
pub(crate) fn cancel(bench: &mut Bench, cancels: u64, log2: u32) -> Result<Cancelled> {
    ensure!(cancels > 0, "cancels: expected 1 or more, got 0");
    let daemon = Daemon::start(CONFIG, Some(POLICY), &[(FIRST, FIRST), (NEXT, NEXT)])?;
    let (first, next) = (daemon.client(FIRST)?, daemon.client(NEXT)?);
    let operator = daemon.client(caldera_rpc::auth::OPERATOR)?;
    let (zkey, witness) = small_key(log2)?;
    let (circuit, witness) = (first.circuit(&zkey)?, first.store(&witness)?);
    let submission = json!({ "circuit": circuit, "witness": witness });
    let (zkey, witness) = small_key(log2)?;
    let mut feed = Feed::new(&next, &zkey, &witness)?;
    feed.fill(WAITING)?;
    let process = daemon.server()?.process().as_raw().cast_unsigned();
    let path = path(&operator.pool()?, process)?;
    // The first proof warms caches.
    let mut whole = Duration::ZERO;
    for _ in 0..2 {
        let began = Instant::now();
        let job = first.call(Method::Submit.name(), submission.clone())?["job"].take();
        let wait = json!({ "job": job, "waitMs": 60_000 });
        let status = first.call(Method::Status.name(), wait)?;
        ensure!(status["state"] == "proved", "a job was to end: {status}");
        whole = began.elapsed();
    }

    let mut cancelled = Cancelled {
        free: histogram(),
        answered: histogram(),
        late: 0,
        exempt: 0,
        ended: 0,
        whole_ms: whole.as_secs_f64() * 1e3,
    };
    let begun = Instant::now();
    let mut random = SEED;
    while cancelled.free.len() < cancels {
        feed.fill(WAITING)?;
        // Xorshift: the same moments each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let moment = Duration::from_micros(random % (whole.as_micros() as u64).max(1));
        let due = Instant::now() + moment;
        let job = first.call(Method::Submit.name(), submission.clone())?["job"].take();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let before = Taken::by(&path)?;
        let began = Instant::now();
        let (answer, free) = std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let status = first.call(Method::Cancel.name(), json!({ "job": job }))?;
                Ok::<_, anyhow::Error>((status, began.elapsed()))
            });
            let free = await_free(&operator, began);
            let answer = call.join();
            (
                answer.unwrap_or_else(|_| anyhow::bail!("a cancellation panicked")),
                free,
            )
        });
        let ((status, answered), free) = (answer?, free?);
        match status["state"].as_str() {
            Some("cancelled") => {}
            Some("proved") => {
                cancelled.ended += 1;
                // So much time it has not had.
                whole = whole * 9 / 10;
                continue;
            }
            _ => anyhow::bail!("a job was to be cancelled: {status}"),
        }
        if free > BAR {
            cancelled.late += 1;
            let taken = Taken::by(&path)?;
            cancelled.exempt += u64::from(taken.covers(&before, free - BAR));
        }
        let ns = |span: Duration| span.as_nanos() as u64;
        cancelled.free.saturating_record(ns(free));
        cancelled.answered.saturating_record(ns(answered));
        if cancelled.free.len().is_multiple_of(100) {
            bench.say(&format!("cancel: {} of {cancels}", cancelled.free.len()));
        }
    }
    let units = operator.pool()?.units.len();
    let line = record(bench, &cancelled, log2, units, begun.elapsed());
    bench.keep(line)?;
    daemon.stop()?;
    Ok(cancelled)
}

/// How long it took until everything worked for the other tenant.
fn await_free(operator: &Client, began: Instant) -> Result<Duration> {
    loop {
        let pool = operator.pool()?;
        let seen = began.elapsed();
        if is_free(&pool)? {
            return Ok(seen);
        }
        ensure!(seen < PATIENCE, "cores were to change hands: {pool:?}");
    }
}

fn is_free(pool: &PoolStatus) -> Result<bool> {
    let named = |name: &str| {
        let mut tenants = pool.tenants.iter();
        tenants.find(|it| it.tenant.as_deref() == Some(name))
    };
    let jobs = |name: &str| {
        let it = named(name).context("a tenant of the pool")?;
        Ok::<_, anyhow::Error>(it.queued + it.running)
    };
    // Another who has nothing left to do needs no cores.
    let (gone, done) = (jobs(FIRST)? == 0, jobs(NEXT)? == 0);
    let mut units = pool.units.iter();
    Ok(gone
        && units.all(|unit| match unit.owner.as_deref() {
            Some(FIRST) => false,
            owner => done || owner == Some(NEXT) && unit.job.is_some(),
        }))
}

fn record(bench: &Bench, it: &Cancelled, log2: u32, units: usize, wall: Duration) -> Record {
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e6;
    Record {
        size: 1 << log2,
        threads: units,
        wall_s: wall.as_secs_f64(),
        inside: Some(format!(
            "from the call to the pool's state with every core at another tenant's proof; p99 {:.3} ms, longest {:.3} ms; {} over 100 ms, {} of them exempt; answered, on the disk, after {:.3} ms, p99 {:.3} ms",
            ms(&it.free, 0.99),
            it.free.max() as f64 / 1e6,
            it.late,
            it.exempt,
            ms(&it.answered, 0.5),
            ms(&it.answered, 0.99),
        )),
        ..bench.times(
            "cancel",
            format!("a proof of 2^{log2} at any moment"),
            &it.free,
        )
    }
}

/// The figures as a table.
pub(crate) fn of_cancelled(it: &Cancelled) -> String {
    let row = |name: &str, of: &Histogram<u64>| {
        let ms = |quantile| figure(of.value_at_quantile(quantile) as f64 / 1e6);
        let longest = figure(of.max() as f64 / 1e6);
        vec![name.to_owned(), ms(0.5), ms(0.99), ms(0.999), longest]
    };
    let rows = [
        row("every core at another's proof", &it.free),
        row("the call is answered, and on the disk", &it.answered),
    ];
    let head = [
        "from the call until",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
    ];
    format!(
        "{} cancellations of a proof that takes {:.0} ms, {} over 100 ms, {} of them exempt; {} had ended before\n{}",
        it.free.len(),
        it.whole_ms,
        it.late,
        it.exempt,
        it.ended,
        table(&head, &rows)
    )
}

const FIRST: &str = "first";
const NEXT: &str = "next";
/// Jobs of the other tenant that are not ended.
const WAITING: usize = 6;
/// The moments are drawn from it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
/// What is asked for.
const BAR: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

const POLICY: &str = "
[classes.first]
value = 1000
guarantee_percent = 100
[classes.next]
value = 1
guarantee_percent = 0
ageing_max_ms = 60000
";

const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
policy_file = 'policy.toml'
[limits]
table_bytes = 0
";
