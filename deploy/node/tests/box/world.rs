//! A box of its own for each test: its own folder, port and tenants, one development key for all.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use caldera_kernels::{CurveId, Device};
use caldera_node::config::{Config, Overrides};
use caldera_node::{Node, StartError};
use caldera_prover::format::json::{Proof, PublicInputs, VerificationKey};
use caldera_prover::groth16::{Synthetic, setup_synthetic, verify};
use caldera_rpc::auth::{self, Secret};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A key with a witness that fits and one that does not.
pub(crate) struct Material {
    pub(crate) zkey: Vec<u8>,
    pub(crate) witness: Vec<u8>,
    /// One element changed: right in form, and it does not satisfy the circuit.
    pub(crate) wrong: Vec<u8>,
}

/// A box that runs, and everything to talk to it.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) node: Node,
}

/// Somebody who talks to a box.
pub(crate) struct Client {
    agent: ureq::Agent,
    pub(crate) url: String,
    name: String,
    secret: Secret,
}

pub(crate) fn material() -> &'static Material {
    sized(10)
}

/// A key whose proofs take many quanta.
pub(crate) fn larger() -> &'static Material {
    sized(13)
}

/// A key of that size, at most 2^13.
pub(crate) fn sized(domain_log2: u32) -> &'static Material {
    static KEYS: [OnceLock<Material>; 14] = [const { OnceLock::new() }; 14];
    KEYS[domain_log2 as usize].get_or_init(|| made(CurveId::Bn254, domain_log2))
}

pub(crate) fn made(curve: CurveId, domain_log2: u32) -> Material {
    let synthetic = Synthetic {
        curve,
        domain_log2,
        dense: 0.5,
        seed: [7; 32],
    };
    let mut zkey = Vec::new();
    let wtns = setup_synthetic(&synthetic, 2, &mut zkey, &mut |_| ()).expect("a key");
    let mut witness = Vec::new();
    wtns.write(&mut witness).expect("a witness");
    let mut wrong = witness.clone();
    // The last element is an inner wire; its lowest byte stays below the modulus.
    let at = wrong.len() - 32;
    wrong[at] ^= 1;
    Material {
        zkey,
        witness,
        wrong,
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl World {
    /// A development box with a financial and a social tenant.
    pub(crate) fn new() -> World {
        World::with("development = true\n")
    }

    /// A box with more lines in its configuration.
    pub(crate) fn with(lines: &str) -> World {
        let folder = tempfile::tempdir().expect("a folder");
        World::start(folder, lines).expect("the box starts")
    }

    /// A box in a folder that may have been used before.
    pub(crate) fn start(folder: TempDir, lines: &str) -> Result<World, StartError> {
        World::start_on(folder, lines, |device| device)
    }

    /// A box on a device around the processor's.
    pub(crate) fn start_on(
        folder: TempDir,
        lines: &str,
        device: impl FnOnce(Arc<dyn Device>) -> Arc<dyn Device>,
    ) -> Result<World, StartError> {
        let path = configured(folder.path(), lines);
        let config = Config::load(Some(&path), &Overrides::default())?;
        let node = Node::start_on(config, device)?;
        Ok(World { folder, node })
    }

    /// Stops the box and gives its folder back.
    pub(crate) fn stop(self) -> TempDir {
        self.node.stop();
        self.folder
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        let url = format!("http://{}", self.node.address());
        Client::of_box(url, self.folder.path(), name)
    }

    /// Somebody whose secret is no file.
    pub(crate) fn client_with(&self, name: &str, secret: &str) -> Client {
        Client::new(format!("http://{}", self.node.address()), name, secret)
    }
}

/// Writes the configuration of a box with these lines, and two tenants; where it is.
pub(crate) fn configured(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("calderad.toml");
    // Most tests prove one witness many times.
    let keep = match lines.contains("keep_witnesses") {
        true => "",
        false => "keep_witnesses = true\n",
    };
    let text = format!(
        "listen = '127.0.0.1:0'\ndata = 'data'\n{keep}{lines}\n\
         [[tenant]]\nname = 'bank'\nscenario = 'financial'\n\
         [[tenant]]\nname = 'chat'\nscenario = 'social'\n"
    );
    std::fs::write(&path, text).expect("written");
    path
}

impl Client {
    fn new(url: String, name: &str, secret: &str) -> Client {
        Client {
            agent: ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(PATIENCE))
                .build()
                .into(),
            url,
            name: name.to_owned(),
            secret: Secret::parse(secret).expect("64 digits"),
        }
    }

    /// Somebody whose secret the box in this folder has made.
    pub(crate) fn of_box(url: String, folder: &Path, name: &str) -> Client {
        let path = folder.join("data/secrets").join(format!("{name}.hex"));
        let text = std::fs::read_to_string(path).expect("a secret");
        Client::new(url, name, &text)
    }

    pub(crate) fn token(&self) -> String {
        let now = caldera_node::clock::unix_time().as_secs();
        format!("Bearer {}", auth::sign(&self.name, &self.secret, now))
    }

    /// Calls a method; the whole answer.
    pub(crate) fn ask(&self, method: &str, params: Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (status, text) = self.post(&request.to_string(), &self.token());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Calls a method that must have a result.
    pub(crate) fn call(&self, method: &str, params: Value) -> Value {
        let mut answer = self.ask(method, params);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Calls a method that must fail; the reason.
    pub(crate) fn refusal(&self, method: &str, params: Value) -> String {
        let answer = self.ask(method, params);
        let reason = answer["error"]["data"]["reason"].as_str();
        reason
            .unwrap_or_else(|| panic!("{method}: {answer}"))
            .to_owned()
    }

    pub(crate) fn post(&self, body: &str, token: &str) -> (u16, String) {
        let mut response = self
            .agent
            .post(&self.url)
            .header("Authorization", token)
            .header("Content-Type", "application/json")
            .send(body)
            .expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), text)
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.url);
        let mut response = self.agent.get(&url).call().expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        (response.status().as_u16(), text)
    }

    /// A sample of `/metrics`, for who may see them.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let mut response = self
            .agent
            .get(format!("{}/metrics", self.url))
            .header("Authorization", self.token())
            .call()
            .expect("an answer");
        let text = response.body_mut().read_to_string().expect("text");
        let sample = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        sample.unwrap_or_else(|| panic!("no sample {name} in\n{text}"))
    }

    /// Stores bytes under a name; the status.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> u16 {
        let response = self
            .agent
            .put(format!("{}/v1/blobs/{name}", self.url))
            .header("Authorization", self.token())
            .send(bytes)
            .expect("an answer");
        response.status().as_u16()
    }

    pub(crate) fn delete(&self, name: &str) -> u16 {
        let response = self
            .agent
            .delete(format!("{}/v1/blobs/{name}", self.url))
            .header("Authorization", self.token())
            .call()
            .expect("an answer");
        response.status().as_u16()
    }

    /// Stores bytes under their digest.
    pub(crate) fn store(&self, bytes: &[u8]) -> String {
        let name = digest(bytes);
        let status = self.put(&name, bytes);
        assert!(status == 200 || status == 201, "{status}");
        name
    }

    /// Registers a key and waits until it is ready.
    pub(crate) fn register(&self, zkey: &[u8]) -> String {
        let circuit = self.store(zkey);
        self.call("prover_registerCircuitV1", json!({ "zkey": circuit }));
        let info = self.settled_circuit();
        assert_eq!(info["state"], "ready", "{info}");
        circuit
    }

    /// The only circuit of this tenant, once it is no longer being checked.
    pub(crate) fn settled_circuit(&self) -> Value {
        until(|| {
            let list = self.call("prover_listCircuitsV1", json!({}));
            let info = list[0].clone();
            (info["state"] != "checking").then_some(info)
        })
    }

    pub(crate) fn submit(&self, circuit: &str, witness: &str) -> String {
        let params = json!({ "circuit": circuit, "witness": witness, "deadlineMs": 60_000 });
        let status = self.call("prover_submitV1", params);
        status["job"].as_str().expect("a job").to_owned()
    }

    pub(crate) fn status(&self, job: &str) -> Value {
        self.call("prover_statusV1", json!({ "job": job }))
    }

    /// The status of a job once it has ended.
    pub(crate) fn ended(&self, job: &str) -> Value {
        until(|| {
            let params = json!({ "job": job, "waitMs": 10_000 });
            let status = self.call("prover_statusV1", params);
            let ended = ["proved", "failed", "cancelled"];
            ended
                .iter()
                .any(|state| status["state"] == *state)
                .then_some(status)
        })
    }

    /// The result of a job, whose proof the verifier has accepted here too.
    pub(crate) fn proved(&self, job: &str) -> Value {
        let status = self.ended(job);
        assert_eq!(status["state"], "proved", "{status}");
        let result = self.call("prover_resultV1", json!({ "job": job }));
        let key = &self.call("prover_listCircuitsV1", json!({}))[0]["verificationKey"];
        let key = VerificationKey::parse(key.to_string().as_bytes()).expect("a key");
        let proof = result["proof"].to_string();
        let proof = Proof::parse(proof.as_bytes(), Some(key.curve)).expect("a proof");
        let inputs = result["publicInputs"].to_string();
        let inputs = PublicInputs::parse(inputs.as_bytes(), key.curve).expect("inputs");
        verify(&key, &proof, &inputs).expect("the proof verifies");
        result
    }
}

/// Asks until there is an answer; gives up after [`PATIENCE`].
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "nothing came of it");
        std::thread::yield_now();
    }
}

/// Far above anything that should happen, so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(120);
