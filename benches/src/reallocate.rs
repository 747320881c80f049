//! How long cores take to change hands on a box that proves: a whole node in this process, spoken
//! to over its socket, two tenants, real proofs.
//!
//! One tenant has proofs under way all the time and holds every core when nobody else wants any.
//! The other declares that it wants them all (`pool_demandV1`) and withdraws, in turn, at moments
//! drawn beforehand from a seed: the next demand does not wait for the last one to be met. Every
//! core that changes hands is a sample, from the kernel's receive stamp of the demand to the first
//! look of the core's worker at the new owner's work, as the arbiter's own records have it. Going
//! to the one who declares they find nothing to run yet; going back they find a proof.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caldera_kernels::CurveId;
use caldera_node::Node;
use caldera_node::clock::unix_time;
use caldera_node::config::{Config, Overrides};
use caldera_prover::groth16::{Synthetic, setup_synthetic};
use caldera_rpc::auth::{Secret, sign};
use caldera_rpc::methods::{PoolStatus, Reallocation};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::bench::{Bench, OURS};
use crate::record::Record;
use crate::table::{figure, table};

/// What came of it.
pub(crate) struct Moved {
    /// How often demand flipped.
    flips: u64,
    /// By cause.
    samples: BTreeMap<String, Samples>,
    /// By the box's own count.
    counted: u64,
    missed: u64,
    /// Proofs of the tenant that always works.
    proofs: u64,
}

struct Samples {
    ns: Histogram<u64>,
    longest: Option<Reallocation>,
}

impl Moved {
    /// Whether no core took longer than it may.
    pub(crate) fn holds(&self) -> bool {
        self.missed == 0
    }
}

/// Flips demand so many times on a box of its own.
pub(crate) fn reallocate(bench: &mut Bench, flips: u64) -> Result<Moved> {
    let world = World::new()?;
    let (busy, other) = (world.client("busy")?, world.client("bursty")?);
    let circuit = busy.circuit(&world.zkey)?;
    let witness = busy.store(&world.witness)?;
    let mut feed = Feed::new(&busy, circuit, witness);
    feed.fill()?;
    let units = busy.pool()?.units.len() as u32;

    let mut moved = Moved {
        flips,
        samples: BTreeMap::new(),
        counted: 0,
        missed: 0,
        proofs: 0,
    };
    let mut seen = Seen::default();
    let mut random = SEED;
    let begun = Instant::now();
    let mut due = begun;
    for flip in 0..flips {
        // Xorshift: the same moments each time.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        due += GAP_MIN + Duration::from_micros(random % (GAP_SPREAD.as_micros() as u64));
        if flip % LOOK == 0 {
            seen.look(&other.pool()?, &mut moved)?;
            feed.fill()?;
            if flip % (64 * LOOK) == 0 {
                bench.say(&format!("reallocate: {flip} of {flips}"));
            }
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        other.declare(if flip % 2 == 0 { units } else { 0 })?;
    }
    std::thread::sleep(GAP_MIN + GAP_SPREAD);
    seen.look(&other.pool()?, &mut moved)?;
    ensure!(
        seen.lost == 0,
        "{} hand-overs were not seen: looked at too seldom",
        seen.lost
    );
    moved.proofs = feed.proved;
    let wall = begun.elapsed();
    for (cause, samples) in &moved.samples {
        bench.keep(record(bench, cause, samples, units, wall))?;
    }
    world.node.stop();
    Ok(moved)
}

/// The samples of one cause as a line.
fn record(bench: &Bench, cause: &str, samples: &Samples, units: u32, wall: Duration) -> Record {
    let ms = |quantile| samples.ns.value_at_quantile(quantile) as f64 / 1e6;
    Record {
        bench: "reallocate".to_owned(),
        case: format!("live, {cause}"),
        size: u64::from(units),
        threads: units as usize,
        who: OURS.to_owned(),
        ours: true,
        value: ms(0.5),
        unit: "wall ms".to_owned(),
        spread: [ms(0.25), ms(0.75)],
        cpu_s: 0.0,
        wall_s: wall.as_secs_f64(),
        rounds: samples.ns.len() as usize,
        ratio: None,
        peer_build: None,
        inside: Some(format!(
            "from the receipt of the demand to the worker's first look; p99 {:.3} ms, p99.9 {:.3} ms, longest {:.3} ms",
            ms(0.99),
            ms(0.999),
            samples.ns.max() as f64 / 1e6,
        )),
        origin: bench.origin.clone(),
    }
}

/// The samples as a table, with what the longest were made of.
pub(crate) fn of_moved(moved: &Moved) -> String {
    let rows: Vec<Vec<String>> = moved
        .samples
        .iter()
        .map(|(cause, samples)| {
            let ms = |quantile| figure(samples.ns.value_at_quantile(quantile) as f64 / 1e6);
            let longest = samples.longest.as_ref().map_or(String::new(), |it| {
                let parts = [it.detect_us, it.decide_us, it.drain_us, it.first_us];
                parts.map(|us| figure(us / 1e3)).join(" + ")
            });
            vec![
                cause.clone(),
                samples.ns.len().to_string(),
                ms(0.5),
                ms(0.99),
                ms(0.999),
                figure(samples.ns.max() as f64 / 1e6),
                longest,
            ]
        })
        .collect();
    let head = [
        "cause, and what was found",
        "cores",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "longest ms",
        "detect + decide + drain + first",
    ];
    format!(
        "{} flips, {} hand-overs by the box's count, {} over its limit, {} proofs meanwhile\n{}",
        moved.flips,
        moved.counted,
        moved.missed,
        moved.proofs,
        table(&head, &rows)
    )
}

/// What has been seen of the box's newest hand-overs.
#[derive(Default)]
struct Seen {
    count: u64,
    lost: u64,
}

impl Seen {
    fn look(&mut self, pool: &PoolStatus, moved: &mut Moved) -> Result<()> {
        let all = &pool.reallocations;
        let new = all.count - self.count;
        let recent = &all.recent;
        let at = recent.len().saturating_sub(usize::try_from(new)?);
        self.lost += new - (recent.len() - at) as u64;
        self.count = all.count;
        for it in &recent[at..] {
            let found = if it.empty { "nothing" } else { "a proof" };
            let samples = moved
                .samples
                .entry(format!("{}, {found}", it.cause))
                .or_insert_with(|| Samples {
                    ns: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds in order"),
                    longest: None,
                });
            samples.ns.saturating_record((it.total_us * 1e3) as u64);
            if samples
                .longest
                .as_ref()
                .is_none_or(|longest| it.total_us > longest.total_us)
            {
                samples.longest = Some(it.clone());
            }
        }
        (moved.counted, moved.missed) = (all.count, all.missed);
        Ok(())
    }
}

/// Keeps a tenant's queue from running dry.
struct Feed<'a> {
    client: &'a Client,
    circuit: String,
    witness: String,
    jobs: Vec<String>,
    proved: u64,
}

impl<'a> Feed<'a> {
    fn new(client: &'a Client, circuit: String, witness: String) -> Feed<'a> {
        Feed {
            client,
            circuit,
            witness,
            jobs: Vec::new(),
            proved: 0,
        }
    }

    fn fill(&mut self) -> Result<()> {
        while let Some(job) = self.jobs.first() {
            let status = self.client.call("prover_statusV1", json!({ "job": job }))?;
            match status["state"].as_str() {
                Some("proved") => self.proved += 1,
                Some("failed" | "cancelled") | None => bail!("a proof did not come out: {status}"),
                Some(_) => break,
            }
            self.jobs.remove(0);
        }
        while self.jobs.len() < WAITING {
            let params = json!({ "circuit": self.circuit, "witness": self.witness });
            let status = self.client.call("prover_submitV1", params)?;
            let job = status["job"].as_str().context("a job's name")?;
            self.jobs.push(job.to_owned());
        }
        Ok(())
    }
}

/// A box and what it is given.
struct World {
    node: Node,
    folder: TempDir,
    zkey: Vec<u8>,
    witness: Vec<u8>,
}

impl World {
    fn new() -> Result<World> {
        let folder = tempfile::tempdir().context("a folder")?;
        let file = folder.path().join("calderad.toml");
        let policy = folder.path().join("policy.toml");
        std::fs::write(&file, CONFIG).context("the configuration")?;
        std::fs::write(&policy, POLICY).context("the policy")?;
        let config = Config::load(Some(&file), &Overrides::default())?;
        let node = Node::start(config).context("starting a box")?;
        let circuit = Synthetic {
            curve: CurveId::Bn254,
            domain_log2: 13,
            dense: 0.9,
            seed: [0xca; 32],
        };
        let (mut zkey, mut witness) = (Vec::new(), Vec::new());
        setup_synthetic(&circuit, 1, &mut zkey, &mut |_| ())
            .context("a key")?
            .write(&mut witness)
            .context("a witness")?;
        Ok(World {
            node,
            folder,
            zkey,
            witness,
        })
    }

    fn client(&self, name: &str) -> Result<Client> {
        let path = self.folder.path().join(format!("data/secrets/{name}.hex"));
        let text = std::fs::read_to_string(path).context("a secret")?;
        let url = format!("http://{}", self.node.address());
        Ok(Client::new(
            url,
            name,
            Secret::parse(&text).context("a secret")?,
        ))
    }
}

/// A tenant who talks to the box.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    name: String,
    secret: Secret,
}

impl Client {
    pub(crate) fn new(url: String, name: &str, secret: Secret) -> Client {
        Client {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .build()
                .into(),
            url,
            name: name.to_owned(),
            secret,
        }
    }

    fn token(&self) -> String {
        let now = unix_time().as_secs();
        format!("Bearer {}", sign(&self.name, &self.secret, now))
    }

    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value> {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let mut response = self
            .agent
            .post(&self.url)
            .header("Authorization", self.token())
            .header("Content-Type", "application/json")
            .send(request.to_string())
            .with_context(|| method.to_owned())?;
        let text = response.body_mut().read_to_string()?;
        let mut answer: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(answer.get("result").is_some(), "{method}: {text}");
        Ok(answer["result"].take())
    }

    fn declare(&self, units: u32) -> Result<()> {
        let span = json!({ "units": units, "durationMs": 60_000 });
        let params = if units > 0 {
            span
        } else {
            json!({ "units": 0 })
        };
        self.call("pool_demandV1", params).map(|_| ())
    }

    fn pool(&self) -> Result<PoolStatus> {
        let status = self.call("pool_statusV1", json!({}))?;
        serde_json::from_value(status).context("the state of the pool")
    }

    /// Stores a blob; its name.
    pub(crate) fn store(&self, bytes: &[u8]) -> Result<String> {
        let name = hex(&Sha256::digest(bytes));
        let response = self
            .agent
            .put(format!("{}/v1/blobs/{name}", self.url))
            .header("Authorization", self.token())
            .send(bytes)?;
        ensure!(response.status().is_success(), "storing a blob");
        Ok(name)
    }

    /// Registers a key and waits until it can be proved with.
    fn circuit(&self, zkey: &[u8]) -> Result<String> {
        let zkey = self.store(zkey)?;
        let params = json!({ "zkey": zkey, "check": "trusted" });
        self.call("prover_registerCircuitV1", params)?;
        loop {
            let list = self.call("prover_listCircuitsV1", json!({}))?;
            match list[0]["state"].as_str() {
                Some("ready") => return Ok(zkey),
                Some("checking") => std::thread::sleep(Duration::from_millis(20)),
                _ => bail!("the key was refused: {list}"),
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
policy_file = 'policy.toml'
[[tenant]]
name = 'bursty'
scenario = 'burst'
[[tenant]]
name = 'busy'
scenario = 'steady'
";

/// Whoever declares is promised the whole box, so that each flip moves every core.
const POLICY: &str = "
[classes.burst]
value = 1000
guarantee_percent = 100
[classes.steady]
value = 1
guarantee_percent = 0
ageing_max_ms = 60000
";

/// The moments of the flips are drawn from it.
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Between two flips: longer than a hand-over usually takes, and not by a fixed time, which could
/// fall into step with quanta.
const GAP_MIN: Duration = Duration::from_millis(4);
const GAP_SPREAD: Duration = Duration::from_millis(4);

/// Flips between two looks. The box keeps its newest 64 hand-overs.
const LOOK: u64 = 10;

/// Jobs of the busy tenant that are not ended.
const WAITING: usize = 6;
