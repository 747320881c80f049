//! A box in this process and tenants who speak to it over its socket: what the benches of the
//! scheduler have in common.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use caldera_kernels::relay::{Member, Price, Relay};
use caldera_kernels::{Around, CurveId, Device};
use caldera_node::Node;
use caldera_node::clock::unix_time;
use caldera_node::config::{Config, Overrides};
use caldera_prover::groth16::{Synthetic, setup_synthetic};
use caldera_rpc::auth::{OPERATOR, Secret, sign};
use caldera_rpc::methods::PoolStatus;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A box.
pub(crate) struct World {
    node: Node,
    folder: TempDir,
    /// The host and the device beside it, if there is one.
    relay: Option<Arc<Relay>>,
}

/// What a box is started with.
pub(crate) struct Setup<'a> {
    /// Its policy, in which each tenant has the class of its name.
    pub(crate) policy: &'a str,
    pub(crate) tenants: &'a [&'a str],
    /// Each quantum lasts that long at least, whatever it computes.
    pub(crate) padded: Option<Duration>,
    /// Which threads stand above other programs, as its configuration says it.
    pub(crate) realtime: Option<&'a str>,
    /// How many workers.
    pub(crate) workers: Option<usize>,
    /// A unit of its pool beside the cores; see [`World::prefer_device`].
    pub(crate) device: Option<Arc<dyn Device>>,
}

impl<'a> Setup<'a> {
    /// What a box is without being told otherwise.
    pub(crate) fn usual(policy: &'a str, tenants: &'a [&'a str]) -> Setup<'a> {
        Setup {
            policy,
            tenants,
            padded: None,
            realtime: None,
            workers: None,
            device: None,
        }
    }
}

impl World {
    /// Starts a box.
    pub(crate) fn new(setup: &Setup<'_>) -> Result<World> {
        let folder = tempfile::tempdir().context("a folder")?;
        let file = folder.path().join("calderad.toml");
        let realtime = setup.realtime.map(|it| format!("realtime = '{it}'\n"));
        let mut text = realtime.unwrap_or_default() + CONFIG;
        for name in setup.tenants {
            text += &format!("[[tenant]]\nname = '{name}'\nscenario = '{name}'\n");
        }
        std::fs::write(&file, text).context("the configuration")?;
        std::fs::write(folder.path().join("policy.toml"), setup.policy).context("the policy")?;
        let over = Overrides {
            workers: setup.workers,
            ..Overrides::default()
        };
        let config = Config::load(Some(&file), &over)?;
        let around = |inner: Arc<dyn Device>| match setup.padded {
            Some(span) => pad(inner, span),
            None => inner,
        };
        let mut relay = None;
        let device = |host: Arc<dyn Device>| match &setup.device {
            Some(device) => {
                let both = beside(around(host), around(Arc::clone(device)));
                let device: Arc<dyn Device> = relay.insert(both).clone();
                device
            }
            None => around(host),
        };
        let node = Node::start_on(config, device).context("starting a box")?;
        let world = World {
            node,
            folder,
            relay,
        };
        world.prefer_device();
        Ok(world)
    }

    /// Has it believe that its device does everything in next to no time, and the cores hardly anything ever: what both really take
    /// would decide who does what, and a device that is an emulation would do nothing. It learns better with all that the cores do,
    /// so this is said again.
    pub(crate) fn prefer_device(&self) {
        let Some(relay) = &self.relay else { return };
        let mut prices = Vec::new();
        for (member, nanoseconds) in [(0, 1 << 40), (1, 1)] {
            for kind in Price::KINDS {
                // Copies take their time either way.
                let nanoseconds = if kind == "copy" { 1 } else { nanoseconds };
                for curve in [CurveId::Bn254, CurveId::Bls12_381] {
                    prices.extend((0..=28).map(|log2| Price {
                        member,
                        kind,
                        curve,
                        log2,
                        nanoseconds,
                    }));
                }
            }
        }
        relay.believe(&prices);
    }

    /// Speaks as a tenant.
    pub(crate) fn client(&self, name: &str) -> Result<Client> {
        let path = self.folder.path().join(format!("data/secrets/{name}.hex"));
        let text = std::fs::read_to_string(path).context("a secret")?;
        let url = format!("http://{}", self.node.address());
        let secret = Secret::parse(&text).context("a secret")?;
        Ok(Client::new(url, name, secret))
    }

    /// Speaks as the operator.
    pub(crate) fn operator(&self) -> Result<Client> {
        self.client(OPERATOR)
    }

    pub(crate) fn stop(self) {
        self.node.stop();
    }
}

/// A synthetic BN254 key of that size and its witness, as files have them.
pub(crate) fn small_key(domain_log2: u32) -> Result<(Vec<u8>, Vec<u8>)> {
    let circuit = Synthetic {
        curve: CurveId::Bn254,
        domain_log2,
        dense: 0.9,
        seed: [0xca; 32],
    };
    let (mut zkey, mut witness) = (Vec::new(), Vec::new());
    setup_synthetic(&circuit, 1, &mut zkey, &mut |_| ())
        .context("a key")?
        .write(&mut witness)
        .context("a witness")?;
    Ok((zkey, witness))
}

/// A device beside the host, as one.
fn beside(host: Arc<dyn Device>, device: Arc<dyn Device>) -> Arc<Relay> {
    let width = host.info().lanes;
    let host = Member {
        device: host,
        width,
    };
    Relay::new(vec![host, Member { device, width: 1 }])
}

/// The device, each of whose quanta goes on computing nothing until `span` has passed.
fn pad(inner: Arc<dyn Device>, span: Duration) -> Arc<dyn Device> {
    Around::new(
        inner,
        Arc::new(move |_, quantum| {
            let end = Instant::now() + span;
            let progress = quantum();
            while Instant::now() < end {
                std::hint::spin_loop();
            }
            progress
        }),
    )
}

/// A tenant, or the operator, who talks to the box.
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    name: String,
    secret: Secret,
}

impl Client {
    /// Speaks to the box at `url`.
    pub(crate) fn new(url: String, name: &str, secret: Secret) -> Client {
        Client {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_connect(Some(WITHIN))
                .timeout_recv_response(Some(WITHIN))
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

    /// Declares a demand; none withdraws it.
    pub(crate) fn declare(&self, units: u32) -> Result<()> {
        let span = json!({ "units": units, "durationMs": 60_000 });
        let params = if units > 0 {
            span
        } else {
            json!({ "units": 0 })
        };
        self.call("pool_demandV1", params).map(|_| ())
    }

    pub(crate) fn pool(&self) -> Result<PoolStatus> {
        let status = self.call("pool_statusV1", json!({}))?;
        serde_json::from_value(status).context("the state of the pool")
    }

    /// One sample of `/metrics`, by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> Result<f64> {
        let text = self
            .agent
            .get(format!("{}/metrics", self.url))
            .header("Authorization", self.token())
            .call()?
            .body_mut()
            .read_to_string()?;
        let sample = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        sample.with_context(|| format!("no sample {name}"))
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

    /// The digest of a file, by which it is stored.
    pub(crate) fn digest_of(&self, path: &Path) -> Result<String> {
        let mut hasher = Sha256::new();
        std::io::copy(&mut File::open(path)?, &mut HashWriter(&mut hasher))?;
        Ok(hex(&hasher.finalize()))
    }

    /// Sends a file under its digest, as it is read.
    pub(crate) fn upload(&self, path: &Path, digest: &str) -> Result<()> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        let response = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.url))
            .header("Authorization", self.token())
            .header("Content-Length", bytes.to_string())
            .send(ureq::SendBody::from_owned_reader(file))?;
        ensure!(
            response.status() == 201,
            "storing a blob: {}",
            response.status()
        );
        Ok(())
    }

    /// Removes a blob.
    pub(crate) fn remove(&self, digest: &str) -> Result<()> {
        let response = self
            .agent
            .delete(format!("{}/v1/blobs/{digest}", self.url))
            .header("Authorization", self.token())
            .call()?;
        ensure!(
            response.status() == 200,
            "removing a blob: {}",
            response.status()
        );
        Ok(())
    }

    /// Registers a key and waits until it can be proved with.
    pub(crate) fn circuit(&self, zkey: &[u8]) -> Result<String> {
        let zkey = self.store(zkey)?;
        let params = json!({ "zkey": zkey, "check": "trusted" });
        self.call("prover_registerCircuitV1", params)?;
        let began = Instant::now();
        loop {
            let list = self.call("prover_listCircuitsV1", json!({}))?;
            let list = list.as_array().context("a list of circuits")?;
            let found = list.iter().find(|it| it["circuit"] == zkey.as_str());
            let circuit = found.context("the circuit that was registered")?;
            match circuit["state"].as_str() {
                Some("ready") => return Ok(zkey),
                Some("checking") if began.elapsed() < WITHIN => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Some("checking") => bail!("a key is not ready after {} s", WITHIN.as_secs()),
                _ => bail!("the key was refused: {circuit}"),
            }
        }
    }
}

/// Keeps a tenant's queue from running dry.
pub(crate) struct Feed<'a> {
    client: &'a Client,
    circuit: String,
    witness: String,
    jobs: VecDeque<String>,
    /// Proofs that have come out.
    pub(crate) proved: u64,
    /// From the first quantum to the checked proof of each, in milliseconds.
    pub(crate) spans: Vec<f64>,
}

impl<'a> Feed<'a> {
    /// A feed of proofs of one circuit.
    pub(crate) fn new(client: &'a Client, zkey: &[u8], witness: &[u8]) -> Result<Feed<'a>> {
        Ok(Feed {
            circuit: client.circuit(zkey)?,
            witness: client.store(witness)?,
            client,
            jobs: VecDeque::new(),
            proved: 0,
            spans: Vec::new(),
        })
    }

    /// Takes note of the jobs that have ended, in the order in which they were asked for.
    pub(crate) fn look(&mut self) -> Result<()> {
        while let Some(job) = self.jobs.front() {
            let status = self.client.call("prover_statusV1", json!({ "job": job }))?;
            match status["state"].as_str() {
                Some("proved") => {
                    self.proved += 1;
                    let at = |key: &str| status[key].as_f64();
                    let ended = at("finishedMs").context("when it was proved")?;
                    // Of a proof that another box has made nobody tells when it was begun.
                    self.spans
                        .extend(at("startedMs").map(|began| ended - began));
                }
                Some("failed" | "cancelled") | None => bail!("a proof did not come out: {status}"),
                Some(_) => break,
            }
            self.jobs.pop_front();
        }
        Ok(())
    }

    /// Asks for one more proof.
    pub(crate) fn submit(&mut self) -> Result<String> {
        let params = json!({ "circuit": self.circuit, "witness": self.witness });
        let status = self.client.call("prover_submitV1", params)?;
        let job = status["job"].as_str().context("a job's name")?;
        self.jobs.push_back(job.to_owned());
        Ok(job.to_owned())
    }

    /// Jobs that are not known to have ended.
    pub(crate) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Looks, and asks for proofs until so many are not ended.
    pub(crate) fn fill(&mut self, jobs: usize) -> Result<()> {
        self.look()?;
        while self.jobs.len() < jobs {
            self.submit()?;
        }
        Ok(())
    }
}

/// Bytes that are written go into a digest.
struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A box that does not answer for so long will not.
const WITHIN: Duration = Duration::from_secs(600);

/// Without tables of keys, which would make later proofs cheaper than earlier ones.
const CONFIG: &str = "
listen = '127.0.0.1:0'
data = 'data'
development = true
keep_witnesses = true
policy_file = 'policy.toml'
[limits]
table_bytes = 0
device_table_times = 0
";
