//! Two boxes with nothing in anybody's place: a `calderad` and a `calderad-fleet` each, joined at the `[fleet]` socket, with real keys and
//! witnesses. Jobs are submitted to one of them, which lends what it would not begin at once. Whatever dies, each ends once, by a
//! proof that snarkjs accepts.
//!
//! Before something dies in the middle the lender's `calderad` is stopped (SIGSTOP), so that what its fleet holds cannot end before.
//! Both keep ledgers, and the box that lends jobs has the other as a node: who proved is who earns.
//!
//! Who proved a job its result says: of one that was proved elsewhere no core of this box is told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use caldera_fleet::BoxId;
use caldera_fleet::nats::{ANSWERS, JOBS};
use caldera_tests::era;
use caldera_tests::interop::{
    json, semaphore_verification_key, semaphore_witnesses, semaphore_zkey, snarkjs_verdicts,
};
use caldera_tests::programs::run_caldera;
use caldera_tests::service::{Client, Service};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::servers::{Servers, wait};
use crate::{ALWAYS, runtime};

/// The witness of the smaller circuit is short and lies in the row of its job, that of the larger is a blob.
const DEPTHS: [u32; 2] = [1, 16];
/// Beyond what a tenant may have prepared, so that some wait.
const JOBS_A_ROUND: usize = 12;
/// What a proof costs a social tenant by the policy that is shipped.
const FEE: u128 = 250_000_000_000;
const EPOCH_S: u32 = 2;
const FUNDS: u128 = 1 << 60;

/// A box: both of its processes, of which either may be dead.
struct RealBox {
    who: BoxId,
    service: Service,
    operator: Client,
    /// The folder of its policy and its node's key.
    ledger: TempDir,
    fleet: Option<Child>,
    /// The folder of its fleet process.
    own: PathBuf,
}

/// What is proved.
struct Statement {
    depth: u32,
    circuit: String,
    digest: String,
    bytes: Vec<u8>,
}

/// A rollup, who talks to one box alone.
struct Rollup {
    client: Client,
    statements: Vec<Statement>,
    /// Each with the statement that it is of.
    jobs: Vec<(Value, usize)>,
    /// Of the jobs that have ended, in the same order.
    results: Vec<Value>,
}

#[test]
fn real_boxes_prove_each_others_jobs_and_each_ends_once_whatever_dies() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let mut a = RealBox::new(&servers, 0);
    let mut b = RealBox::new(&servers, 1);
    servers.start();
    a.begin();
    b.begin();
    let [payer, node] = a.opens_accounts(&b);
    let mut rollup = Rollup::new(&a);

    // Nothing dies.
    wait("the other box", || a.hears(&b));
    rollup.until_proved_elsewhere();
    // Each proof is an event of the box that has made it, and an epoch pays that box.
    let elsewhere = rollup.results.iter().filter(|it| is_from_elsewhere(it));
    let elsewhere = elsewhere.count();
    let here = rollup.results.len() - elsewhere;
    assert_eq!(
        [a.events("proof"), a.events("others_proof")],
        [here as u64, elsewhere as u64]
    );
    wait("what the other box has earned", || {
        a.account(&node)["payable"] != "0"
    });
    // Both lend, and what one of them has lent is lent to nobody.
    assert_eq!(b.status()["totals"]["taken"], 0);

    // The lender, both of its processes.
    rollup.until_held(&a, &b);
    b.kill();
    rollup.all_end();
    b.start_again();
    wait("a lender that died", || a.hears(&b));
    rollup.until_proved_elsewhere();

    // The submitter, both of its processes.
    rollup.until_held(&a, &b);
    a.kill();
    a.start_again();
    rollup.client = rollup.client.moved(&a.service);
    b.service.signal(Signal::SIGCONT);
    rollup.all_end();

    // Both streams, with what is placed in them.
    rollup.until_held(&a, &b);
    runtime().block_on(async {
        let operator = async_nats::jetstream::new(servers.operator(a.who).await);
        for stream in [JOBS, ANSWERS] {
            operator.delete_stream(stream).await.expect("it is deleted");
        }
    });
    b.service.signal(Signal::SIGCONT);
    rollup.all_end();

    // The broker.
    servers.kill(0);
    let before = rollup.results.len();
    rollup.submit();
    rollup.all_end();
    assert!(!rollup.results[before..].iter().any(is_from_elsewhere));
    servers.start_one(0);
    servers.wait_for(0);
    wait("a broker that is back", || a.hears(&b));
    rollup.until_proved_elsewhere();

    assert_eq!(b.status()["totals"]["taken"], 0);
    let totals = a.status()["totals"].take();
    assert_eq!(
        (&totals["wrongProofs"], &totals["forged"]),
        (&json!(0), &json!(0))
    );
    // Nothing of others' witnesses is left, and no key twice.
    b.stop();
    let left = std::fs::read_dir(b.own.join("fetched")).expect("a folder");
    assert_eq!(left.count(), 0);
    a.stop();
    a.start_again();
    rollup.client = rollup.client.moved(&a.service);
    rollup.judge();
    // Whatever has died, each proof was charged once, and nothing is held for what has ended.
    let account = a.account(&payer);
    assert_eq!(account["held"], "0");
    let free: u128 = account["free"]
        .as_str()
        .expect("units")
        .parse()
        .expect("digits");
    assert_eq!(FUNDS - free, rollup.results.len() as u128 * FEE);
}

impl RealBox {
    /// A box whose `calderad` runs, and which is admitted. Its fleet process does not run yet.
    fn new(servers: &Servers, nth: u16) -> RealBox {
        let ledger = tempfile::tempdir().expect("a folder");
        let era = era::section(ledger.path(), EPOCH_S, 0);
        let node_key = era::node_key(ledger.path());
        let who = BoxId::of_node_key(&node_key).expect("a key");
        let fleet = servers.fleet();
        let admit = ["fleet", "admit"].map(OsString::from);
        let admit = admit.into_iter().chain([fleet.clone().into()]);
        let admit = admit.chain(["--node-key", &node_key].map(OsString::from));
        run_caldera(admit).expect_success();
        let own = fleet.join(format!("box-{:032x}", who.0));
        // Below 108 bytes, which is all that the path of a socket may have.
        let socket = own.join("box.sock");
        let config = format!(
            "keep_witnesses = false\n[fleet]\nsocket = {socket:?}\nlend = ['*']\nafter_ms = 0\n{era}"
        );
        let tenants = [("plaza", "social"), ("guests", "social")];
        let service = Service::start(&tenants, &config);
        let operator = service.client("operator");
        let address = servers.address(nth);
        let text = format!(
            "node_key = '{node_key}'\nstate = '.'\ncontrol_socket = 'control.sock'\n\
             certificate = 'box.crt'\nkey = 'box.key'\nca = 'ca.crt'\n\
             [nats]\nurls = {:?}\nnkey_seed_file = 'box.nk'\nreplicas = 1\n\
             [transfer]\nlisten = '{address}'\nadvertise = '{address}'\n\
             [calderad]\nsocket = 'box.sock'\nsecret_file = {:?}\n\
             [lend]\ntenant = 'guests'\nsecret_file = {:?}\njobs = 4\ncores = 1\n",
            servers.urls(),
            service.folder().join("data/secrets/fleet.hex"),
            service.folder().join("guests.secret"),
        );
        std::fs::write(own.join("fleet.toml"), text).expect("a configuration");
        RealBox {
            who,
            service,
            operator,
            ledger,
            fleet: None,
            own,
        }
    }

    /// In the ledger of this box: its tenant as one that pays, and another box as a node. The parties that they are.
    fn opens_accounts(&self, other: &RealBox) -> [Value; 2] {
        let register = |number: u64, who: Value| {
            let mut register = json!({
                "id": era::id(number), "owner": number, "address": format!("0x{number:040x}"),
            });
            let who = who.as_object().expect("members").clone();
            register.as_object_mut().expect("members").extend(who);
            self.operator.call("era_registerV1", register)["party"].clone()
        };
        let payer = register(10, json!({"role": "user", "tenant": "plaza"}));
        let key = era::node_key(other.ledger.path());
        let node = register(11, json!({"role": "node", "key": key}));
        let funds = era::deposit(12, &payer, FUNDS);
        self.operator.call("era_transferV1", funds);
        [payer, node]
    }

    fn account(&self, party: &Value) -> Value {
        let query = json!({ "party": party });
        self.operator.call("era_accountV1", query)[0].clone()
    }

    /// How many events there were of a kind, since the box started.
    fn events(&self, what: &str) -> u64 {
        let metrics = self.operator.get("/metrics").body;
        let name = format!("caldera_era_events_total{{what=\"{what}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("the metric").parse().expect("a number")
    }

    /// Starts the fleet process.
    fn begin(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.own.join("log"));
        let fleet = Command::new(env!("CARGO_BIN_EXE_calderad-fleet"))
            .args(["run", "--config"])
            .arg(self.own.join("fleet.toml"))
            .env_remove("CALDERA_LOG")
            .stdin(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        self.fleet = Some(fleet.expect("it runs"));
    }

    fn kill(&mut self) {
        self.kill_fleet();
        self.service.kill();
    }

    fn kill_fleet(&mut self) {
        if let Some(mut fleet) = self.fleet.take() {
            let _ = fleet.kill();
            fleet.wait().expect("it ends");
        }
    }

    fn start_again(&mut self) {
        self.service.start_again();
        self.operator = self.operator.moved(&self.service);
        self.begin();
        let client = self.service.client("plaza");
        wait("a box that starts", || client.get("/readyz").status == 200);
    }

    /// Stops the fleet process, which must end well, and kills the other.
    fn stop(&mut self) {
        let mut fleet = self.fleet.take().expect("it runs");
        let process = Pid::from_raw(fleet.id().cast_signed());
        kill(process, Signal::SIGTERM).expect("it is told");
        assert_eq!(fleet.wait().expect("it ends").code(), Some(0));
        self.service.kill();
    }

    /// What an operator is told of the fleet process; nothing while it does not answer.
    fn status(&self) -> Value {
        let socket = self.own.join("control.sock");
        let status = ["fleet", "status", "--json", "--socket"].map(OsString::from);
        let run = run_caldera(status.into_iter().chain([socket.into()]));
        match run.code {
            Some(0) => serde_json::from_str(&run.stdout).expect("JSON"),
            _ => Value::Null,
        }
    }

    /// Whether another box, as it runs now, was heard of late, and has room.
    fn hears(&self, other: &RealBox) -> bool {
        let it = other.status();
        let heard = self.status();
        let boxes = heard["boxes"].as_array().map_or(&[][..], Vec::as_slice);
        boxes.iter().any(|heard| {
            (&heard["box"], &heard["boot"]) == (&it["box"], &it["boot"])
                && heard["room"].as_u64() > Some(0)
                && heard["heardMs"].as_u64() < Some(5_000)
        })
    }
}

impl Drop for RealBox {
    fn drop(&mut self) {
        self.kill_fleet();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.own.join("log")).unwrap_or_default();
            eprintln!("--- log of calderad-fleet of {}\n{log}", self.who);
        }
    }
}

impl Rollup {
    fn new(at: &RealBox) -> Rollup {
        let folder = tempfile::tempdir().expect("a folder");
        let client = at.service.client("plaza");
        let mut statements = Vec::new();
        for depth in DEPTHS {
            let zkey = std::fs::read(semaphore_zkey(depth)).expect("it is shipped");
            let circuit = client.register(&zkey, "trusted");
            let paths = [0, 1].map(|at| folder.path().join(format!("{depth}-{at}.wtns")));
            semaphore_witnesses(depth, &paths);
            for path in paths {
                let bytes = std::fs::read(path).expect("it was made");
                statements.push(Statement {
                    depth,
                    circuit: circuit.clone(),
                    digest: hex::encode(Sha256::digest(&bytes)),
                    bytes,
                });
            }
        }
        Rollup {
            client,
            statements,
            jobs: Vec::new(),
            results: Vec::new(),
        }
    }

    /// A round of jobs.
    fn submit(&mut self) {
        for _ in 0..JOBS_A_ROUND {
            let at = self.jobs.len() % self.statements.len();
            let statement = &self.statements[at];
            let mut params = json!({ "circuit": statement.circuit, "witness": statement.digest });
            if statement.bytes.len() <= 65_536 {
                params["witnessData"] = STANDARD.encode(&statement.bytes).into();
            }
            let status = loop {
                match self.client.try_call("prover_submitV1", params.clone()) {
                    Ok(status) => break status,
                    // It went with the last job of before.
                    Err(error) if error["data"]["reason"] == "blobUnknown" => {
                        self.client.upload(&statement.bytes);
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            self.jobs.push((status["job"].clone(), at));
        }
    }

    /// Waits until all jobs have ended.
    fn all_end(&mut self) {
        for (job, _) in &self.jobs[self.results.len()..] {
            wait("the end of a job", || {
                let parameters = json!({ "job": job, "waitMs": 10_000 });
                let status = self.client.call("prover_statusV1", parameters);
                let wrong = status["state"] == "failed" || status["state"] == "cancelled";
                assert!(!wrong, "{status}");
                status["state"] == "proved"
            });
            let result = self.client.call("prover_resultV1", json!({ "job": job }));
            self.results.push(result);
        }
    }

    /// Submits jobs until the other box has proved some.
    fn until_proved_elsewhere(&mut self) {
        wait("proofs of the other box", || {
            let before = self.results.len();
            self.submit();
            self.all_end();
            self.results[before..].iter().any(is_from_elsewhere)
        });
    }

    /// Submits jobs until the other box holds some, which it cannot end: its `calderad` is stopped from here on.
    fn until_held(&mut self, at: &RealBox, other: &RealBox) {
        self.all_end();
        wait("jobs that the other box holds", || {
            wait("the other box", || at.hears(other));
            other.service.signal(Signal::SIGSTOP);
            self.submit();
            let (last, _) = self.jobs.last().expect("some were submitted");
            let query = json!({ "job": last, "waitMs": 100 });
            // Or until this box has proved all of them by itself.
            while self.client.call("prover_statusV1", query.clone())["state"] != "proved" {
                if other.status()["lender"]["held"].as_u64() > Some(0) {
                    return true;
                }
            }
            other.service.signal(Signal::SIGCONT);
            self.all_end();
            false
        });
    }

    /// Each job has the one result that was told, and snarkjs accepts it for what was to be proved.
    fn judge(&self) {
        assert_eq!(self.results.len(), self.jobs.len());
        let keys = DEPTHS.map(|depth| json(&semaphore_verification_key(depth)));
        let mut inputs = vec![None; self.statements.len()];
        let mut cases = Vec::new();
        for ((job, at), result) in self.jobs.iter().zip(&self.results) {
            let again = self.client.call("prover_resultV1", json!({ "job": job }));
            assert_eq!(again, *result, "{job} has two results");
            let public = inputs[*at].get_or_insert_with(|| result["publicInputs"].clone());
            assert_eq!(result["publicInputs"], *public, "{job} is another's");
            let depth = self.statements[*at].depth;
            let key = DEPTHS.iter().position(|it| *it == depth).expect("ours");
            cases.push(json!({
                "verificationKey": keys[key],
                "publicInputs": public,
                "proof": result["proof"],
            }));
        }
        for (nth, public) in inputs.iter().enumerate() {
            assert!(!inputs[..nth].contains(public), "two statements are one");
        }
        let verdicts = snarkjs_verdicts(&cases);
        assert_eq!(verdicts, vec![true; self.jobs.len()]);
        let elsewhere = self.results.iter().filter(|it| is_from_elsewhere(it));
        println!(
            "{} jobs, {} proved elsewhere",
            self.jobs.len(),
            elsewhere.count()
        );
    }
}

fn is_from_elsewhere(result: &Value) -> bool {
    result["timings"]["cores"] == json!([])
}
