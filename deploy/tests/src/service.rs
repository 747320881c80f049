//! A `calderad` of one's own, on a free port, with its own data and its own tenants; and a
//! client that is made of an HTTP library, HMAC and JSON: what a rollup's engineer would write
//! on the first morning.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use ureq::tls::TlsConfig;

use crate::programs;

/// A running `calderad`; killed when dropped.
pub struct Service {
    child: Child,
    address: String,
    folder: TempDir,
    accounts: Vec<Account>,
}

/// Somebody whom the service knows: a tenant, or the operator.
#[derive(Clone)]
pub struct Account {
    /// The name in a token's `kid`.
    pub name: String,
    /// The shared secret.
    pub secret: [u8; 32],
}

impl Service {
    /// Starts a service with these tenants, each a name and a scenario, and an operator. `extra`
    /// is further configuration at the top level.
    pub fn start(tenants: &[(&str, &str)], extra: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut accounts = Vec::new();
        let mut account = |name: &str| -> PathBuf {
            let secret: [u8; 32] = Sha256::digest(format!("secret of {name}")).into();
            let path = folder.path().join(format!("{name}.secret"));
            write_private(&path, &hex::encode(secret));
            accounts.push(Account {
                name: name.to_owned(),
                secret,
            });
            path
        };
        // Most tests prove one witness many times.
        let keep = match extra.contains("keep_witnesses") {
            true => "",
            false => "keep_witnesses = true\n",
        };
        let mut config = format!(
            "listen = \"127.0.0.1:0\"\ndata = {:?}\noperator_secret_file = {:?}\n{keep}{extra}\n",
            folder.path().join("data"),
            account("operator"),
        );
        for (name, scenario) in tenants {
            config.push_str(&format!(
                "[[tenant]]\nname = {name:?}\nscenario = {scenario:?}\nsecret_file = {:?}\n",
                account(name),
            ));
        }
        std::fs::write(folder.path().join("calderad.toml"), config)
            .expect("the configuration can be written");
        let (child, address) = run(&folder);
        Self {
            child,
            address,
            folder,
            accounts,
        }
    }

    /// Stops the service, which must end well, and starts it again with the same configuration
    /// and data.
    pub fn restart(mut self) -> Self {
        assert_eq!(self.terminate(), Some(0), "{}", self.log());
        (self.child, self.address) = run(&self.folder);
        self
    }

    /// Kills the service (SIGKILL), as a machine does that has no memory left.
    pub fn kill(&mut self) {
        self.child
            .kill()
            .expect("the process has not been waited for");
        self.child.wait().expect("calderad ends");
    }

    /// Starts a service that was killed, with the same configuration and data.
    pub fn start_again(&mut self) {
        (self.child, self.address) = run(&self.folder);
    }

    /// A client that speaks for one of the tenants, or for `operator`.
    pub fn client(&self, name: &str) -> Client {
        Client::new(&self.address, self.account(name).clone())
    }

    /// Somebody whom the service knew when it started.
    pub fn account(&self, name: &str) -> &Account {
        let account = self.accounts.iter().find(|account| account.name == name);
        account.expect("the account was made at the start")
    }

    /// HOST:PORT of the service.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The service's process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// A folder for the test's own files, gone when the service is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All that the service has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Sends the service a signal.
    pub fn signal(&self, signal: Signal) {
        // Not the program `kill`: a bare Debian does not have it.
        let process = Pid::from_raw(self.child.id().cast_signed());
        kill(process, signal).expect("the process has not been waited for");
    }

    /// Asks the service to stop (SIGTERM) and waits for its exit code.
    pub fn stop(mut self) -> Option<i32> {
        self.terminate()
    }

    fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().expect("calderad ends").code()
    }
}

/// Starts the program with the configuration in a folder; its process, and where it listens.
fn run(folder: &TempDir) -> (Child, String) {
    let path = |name: &str| folder.path().join(name);
    let log = std::fs::File::create(path("log")).expect("a log file");
    let mut child = Command::new(programs::calderad())
        .arg("--config")
        .arg(path("calderad.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .expect("calderad can be started");
    let stdout = child.stdout.take().expect("standard output is a pipe");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("calderad says where it listens");
    let Some(address) = line.trim().strip_prefix("calderad listening on ") else {
        let _ = child.wait();
        let log = std::fs::read_to_string(path("log")).unwrap_or_default();
        panic!("calderad did not start; it said {line:?} and logged:\n{log}");
    };
    (child, address.to_owned())
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of calderad\n{}", self.log());
        }
    }
}

/// One account's way to the service.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    /// What the URLs of requests begin with.
    base: String,
    account: Account,
}

/// An HTTP answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Client {
    /// A client for a service at HOST:PORT.
    pub fn new(address: &str, account: Account) -> Self {
        Self::over(&format!("http://{address}"), TlsConfig::default(), account)
    }

    /// A client for a service at a URL.
    pub fn over(base: &str, tls: TlsConfig, account: Account) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(60)))
            .tls_config(tls)
            .build()
            .new_agent();
        Self {
            agent,
            base: base.to_owned(),
            account,
        }
    }

    /// The same account at another address: a service has another port after a restart.
    pub fn moved(&self, service: &Service) -> Self {
        Self::new(service.address(), self.account.clone())
    }

    /// A token as the Engine API has them, plus the `kid` that names the account.
    pub fn token(&self) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        self.sign(
            &json!({"alg": "HS256", "typ": "JWT", "kid": self.account.name}),
            &json!({"iat": now.as_secs()}),
        )
    }

    /// A token of any header and claims, signed with the account's secret.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        token(header, claims, &self.account.secret)
    }

    /// Calls a method and gives its result; panics if the service answers with an error.
    pub fn call(&self, method: &str, parameters: Value) -> Value {
        match self.try_call(method, parameters) {
            Ok(result) => result,
            Err(error) => panic!("{method}: {error}"),
        }
    }

    /// Calls a method: its result, or the `error` object of the answer.
    pub fn try_call(&self, method: &str, parameters: Value) -> Result<Value, Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
        let answer = self.post(&self.token(), &request.to_string());
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        let mut body: Value = serde_json::from_str(&answer.body).expect("the answer is JSON");
        assert_eq!(body["id"], 1, "{body}");
        match body.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(body["result"].take()),
        }
    }

    /// Calls a method of a service that may die meanwhile: then there is no answer.
    pub fn attempt(&self, method: &str, parameters: &Value) -> Option<Result<Value, Value>> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
        let sent = self
            .agent
            .post(format!("{}/", self.base))
            .header("Authorization", format!("Bearer {}", self.token()))
            .header("Content-Type", "application/json")
            .send(request.to_string());
        let text = sent.ok()?.body_mut().read_to_string().ok()?;
        let mut body: Value = serde_json::from_str(&text).ok()?;
        match body.get_mut("error") {
            Some(error) => Some(Err(error.take())),
            None => Some(Ok(body["result"].take())),
        }
    }

    /// Uploads a blob to a service that may die meanwhile.
    pub fn attempt_upload(&self, bytes: &[u8]) -> Option<()> {
        let digest = hex::encode(Sha256::digest(bytes));
        let sent = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.base))
            .header("Authorization", format!("Bearer {}", self.token()))
            .send(bytes);
        sent.ok().map(drop)
    }

    /// Calls a method once for each of the parameters, in one request; the results in their order.
    pub fn batch(&self, method: &str, parameters: Vec<Value>) -> Vec<Value> {
        let calls = parameters.into_iter().enumerate().map(|(id, parameters)| {
            json!({"jsonrpc": "2.0", "id": id, "method": method, "params": parameters})
        });
        let calls: Vec<Value> = calls.collect();
        let count = calls.len();
        let answer = self.post(&self.token(), &Value::from(calls).to_string());
        assert_eq!(answer.status, 200, "{method}: {answer:?}");
        let answers: Vec<Value> = serde_json::from_str(&answer.body).expect("an array of answers");
        assert_eq!(answers.len(), count);
        let result = |(id, mut answer): (usize, Value)| {
            assert_eq!(answer["id"], id, "{answer}");
            assert!(answer.get("error").is_none(), "{method}: {answer}");
            answer["result"].take()
        };
        answers.into_iter().enumerate().map(result).collect()
    }

    /// Posts a body with a token, whatever they are.
    pub fn post(&self, token: &str, body: &str) -> Answer {
        let request = self
            .agent
            .post(format!("{}/", self.base))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", "application/json");
        answer(request.send(body))
    }

    /// Gets a path, without a token.
    pub fn get(&self, path: &str) -> Answer {
        answer(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// Gets a path of a service that may not answer.
    pub fn try_get(&self, path: &str) -> Result<Answer, ureq::Error> {
        let sent = self.agent.get(format!("{}{path}", self.base)).call();
        sent.map(|response| answer(Ok(response)))
    }

    /// Sends whatever request with whatever token.
    pub fn send(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let well_formed = "a request that is well formed";
        answer(match body {
            [] => self.agent.run(request.body(()).expect(well_formed)),
            body => self
                .agent
                .run(request.body(body.to_vec()).expect(well_formed)),
        })
    }

    /// Uploads a blob under its own digest; gives the digest. Panics unless it is taken.
    pub fn upload(&self, bytes: &[u8]) -> String {
        let digest = hex::encode(Sha256::digest(bytes));
        let answer = self.put(&digest, bytes);
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        digest
    }

    /// Uploads bytes under whatever digest.
    pub fn put(&self, digest: &str, bytes: &[u8]) -> Answer {
        let request = self
            .agent
            .put(format!("{}/v1/blobs/{digest}", self.base))
            .header("Authorization", format!("Bearer {}", self.token()));
        answer(request.send(bytes))
    }

    /// Asks for something again and again until it is as wanted; panics after two minutes,
    /// which is far beyond all that these tests wait for.
    pub fn wait(
        &self,
        method: &str,
        parameters: Value,
        mut done: impl FnMut(&Value) -> bool,
    ) -> Value {
        let begin = Instant::now();
        loop {
            let result = self.call(method, parameters.clone());
            if done(&result) {
                return result;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(120),
                "{method} {parameters} still answers {result}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The status of a job once it has ended: the service answers when it has.
    pub fn ended(&self, job: &Value) -> Value {
        loop {
            let parameters = json!({"job": job, "waitMs": 30_000});
            let status = self.call("prover_statusV1", parameters);
            if ["proved", "failed", "cancelled"]
                .iter()
                .any(|it| status["state"] == *it)
            {
                return status;
            }
        }
    }

    /// Uploads a key, registers it, and waits until it may be used; gives the circuit's name.
    pub fn register(&self, zkey: &[u8], check: &str) -> String {
        let digest = self.upload(zkey);
        let info = self.call(
            "prover_registerCircuitV1",
            json!({"zkey": digest, "check": check}),
        );
        let circuit = info["circuit"].as_str().expect("a circuit").to_owned();
        let found = self.settled(&circuit);
        assert_eq!(found["state"], "ready", "{found}");
        circuit
    }

    /// A circuit that was registered, once its check is over.
    pub fn settled(&self, circuit: &str) -> Value {
        let find = |circuits: &Value| {
            let circuits = circuits.as_array().expect("a list of circuits");
            let found = circuits.iter().find(|info| info["circuit"] == circuit);
            found.expect("the circuit that was registered").clone()
        };
        let circuits = self.wait("prover_listCircuitsV1", json!({}), |circuits| {
            find(circuits)["state"] != "checking"
        });
        find(&circuits)
    }
}

/// A JWT of any header and claims.
pub fn token(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any key");
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = result.expect("the service answers");
    let mut body = String::new();
    response
        .body_mut()
        .as_reader()
        .read_to_string(&mut body)
        .expect("the body is text");
    Answer {
        status: response.status().as_u16(),
        body,
    }
}

fn write_private(path: &Path, text: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .expect("a new file");
    file.write_all(text.as_bytes()).expect("room for 64 bytes");
}
