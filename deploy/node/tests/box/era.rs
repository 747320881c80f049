//! A box with a ledger: what a submission sets aside, and each way in which that ends. Workers are held, or made to fail, so that no
//! test depends on how fast anything is. What a box says is held against the journal on its disk, where holds have
//! the ids that docs/ledger.md gives them, and an epoch lasts for a year, so that none is closed meanwhile.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::SeqCst};

use caldera_kernels::{Around, DeviceError};
use caldera_node::clock::unix_time;
use caldera_rpc::auth::{self, Secret};
use caldera_scheduler::ledger::Command;
use caldera_scheduler::ledger::command::{Cause, Deed, Id};
use caldera_scheduler::ledger::journal::{Parts, parts};
use caldera_store::database::Database;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::world::{Client, World, larger, material, until};

/// What a proof of a financial tenant's costs by the policy that is shipped, and which class it is of.
const FEE: u128 = 1_000_000_000_000;
const FINANCIAL: u8 = 1;

/// What the workers do with a quantum: run it, hold it, fail it.
const RUN: u8 = 0;
const HOLD: u8 = 1;
const FAIL: u8 = 2;
/// The next one alone.
const FAIL_ONCE: u8 = 3;

/// A box with a ledger, and the hand that its workers are in.
struct Bank {
    world: World,
    hand: Arc<AtomicU8>,
}

/// Lets the workers go, also when a test fails: the box waits for them.
struct LetGo<'a>(&'a AtomicU8);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.store(RUN, SeqCst);
    }
}

impl Bank {
    fn new() -> Bank {
        let folder = tempfile::tempdir().expect("a folder");
        let shipped = include_str!("../../../era.toml");
        let (from, to) = ("length_s = 3600", "length_s = 31536000");
        // A stake's lock and unbonding are no shorter than an epoch.
        let (lock, longer) = ("lock_s = 2592000", "lock_s = 31536000");
        assert!(shipped.contains(from) && shipped.contains(lock));
        let policy = shipped.replace(from, to).replace(lock, longer);
        std::fs::write(folder.path().join("era.toml"), policy).expect("written");
        write_private(&folder.path().join("node.key"), &"07".repeat(32));
        Bank::start(folder)
    }

    /// The box of a folder that may have been used before.
    fn start(folder: TempDir) -> Bank {
        let hand = Arc::new(AtomicU8::new(RUN));
        let of_device = Arc::clone(&hand);
        let quantum = move |_: &'static str, quantum: &mut dyn FnMut() -> _| {
            while of_device.load(SeqCst) == HOLD {
                std::thread::yield_now();
            }
            let once = of_device.compare_exchange(FAIL_ONCE, RUN, SeqCst, SeqCst);
            match once.unwrap_or_else(|other| other) {
                FAIL | FAIL_ONCE => Err(DeviceError::Lost {
                    device: "the processor".to_owned(),
                    why: "a test says so".to_owned(),
                }),
                _ => quantum(),
            }
        };
        let lines = format!(
            "development = true\nworkers = 2\n\
             [[tenant]]\nname = 'reader'\nscenario = 'financial'\nscopes = ['read']\n\
             [[tenant]]\nname = 'narrow'\nscenario = 'financial'\nquotas = {{ running = 1 }}\n\
             [fleet]\nsocket = 'fleet.sock'\nlend = ['narrow']\nafter_ms = 0\nprice_max = 5\n\
             [era]\npolicy_file = 'era.toml'\nnode_key_file = 'node.key'\nnode_owner = 1\nnode_address = '0x{}'\n",
            "01".repeat(20)
        );
        let world = World::start_on(folder, &lines, |inner| {
            Around::new(inner, Arc::new(quantum))
        });
        Bank {
            world: world.expect("the box starts"),
            hand,
        }
    }

    fn hold(&self) -> LetGo<'_> {
        self.hand.store(HOLD, SeqCst);
        LetGo(&self.hand)
    }

    fn restart(self) -> Bank {
        Bank::start(self.world.stop())
    }

    /// Makes a tenant a party of an owner of its own, which has so much.
    fn party(&self, tenant: &str, owner: u32, units: u128) -> u64 {
        let register = json!({
            "id": id(100 + owner), "tenant": tenant, "role": "user", "owner": owner,
            "address": format!("0x{owner:040x}"),
        });
        let operator = self.world.client("operator");
        let party = operator.call("era_registerV1", register)["party"].as_u64();
        let party = party.expect("a number");
        self.deposit(200 + owner, party, units);
        party
    }

    fn deposit(&self, number: u32, party: u64, units: u128) {
        let leg = json!({
            "asset": "era", "from": "outside", "to": party.to_string(), "amount": units.to_string(),
        });
        let transfer = json!({ "id": id(number), "legs": [leg] });
        self.world
            .client("operator")
            .call("era_transferV1", transfer);
    }

    /// What is free and what is held, in units.
    fn purses(&self, party: u64) -> (u128, u128) {
        let query = json!({ "party": party });
        let account = self.world.client("operator").call("era_accountV1", query)[0].clone();
        (units(&account["free"]), units(&account["held"]))
    }

    /// What was charged in the open epoch.
    fn fees(&self) -> u128 {
        let epochs = self.world.client("operator").call("era_epochV1", json!({}));
        units(&epochs["fees"])
    }

    /// What the fleet process asks of the box, at its own socket.
    fn fleet(&self, method: &str, params: &Value) -> Value {
        let folder = self.world.folder.path();
        let secret = std::fs::read_to_string(folder.join("data/secrets/fleet.hex"));
        let secret = Secret::parse(&secret.expect("a secret")).expect("64 digits");
        let token = auth::sign("fleet", &secret, unix_time().as_secs());
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = body.to_string();
        let mut stream = UnixStream::connect(folder.join("fleet.sock")).expect("it listens");
        let request = format!(
            "POST / HTTP/1.1\r\nHost: box\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        let mut answer: Value = serde_json::from_str(body).expect("JSON");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// All records on the disk.
    fn journal(&self) -> Vec<Parts> {
        let file = self.world.folder.path().join("data/caldera.sqlite");
        let database = Database::open_to_read(&file).expect("a store");
        let mut records = Vec::new();
        let read = database.ledger_rows(|row| {
            records.push(parts(&row.bytes).expect("a record"));
            true
        });
        read.expect("is read");
        records
    }

    /// How often anything was set aside.
    fn reserved(&self) -> usize {
        let reserves = |it: &&Parts| matches!(it.command, Command::Reserve { .. });
        self.journal().iter().filter(reserves).count()
    }

    /// What was done with the hold that pays for a job, in order.
    fn of_job(&self, job: &str) -> Vec<Done> {
        let number = u64::from_str_radix(&job[2..], 16).expect("a job's number");
        let hash = Sha256::new()
            .chain_update(b"caldera job")
            .chain_update(number.to_be_bytes())
            .finalize();
        let of = Id::from_be_bytes(*hash.first_chunk().expect("32 bytes have 16"));
        let done = |it: Parts| match it.command {
            Command::Reserve { amount, .. } if it.id == of => Some(Done::Reserved(amount)),
            Command::Charge { hold, amount } if hold == of => Some(Done::Charged(amount)),
            Command::Refund { hold } if hold == of => Some(Done::Refunded),
            Command::Meter { event, .. } => match event.what {
                Deed::Proof {
                    hold,
                    class,
                    fee,
                    proof,
                    ..
                } if hold == of => Some(Done::Proved(class, fee, proof)),
                Deed::Failure { hold, cause } if hold == of => Some(Done::Failed(cause)),
                _ => None,
            },
            _ => None,
        };
        self.journal().into_iter().filter_map(done).collect()
    }
}

/// What can be done with a hold.
#[derive(Debug, PartialEq, Eq)]
enum Done {
    Reserved(u128),
    Proved(u8, u128, [u8; 32]),
    Failed(Cause),
    Refunded,
    Charged(u128),
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.expect("a new file");
    file.write_all(text.as_bytes()).expect("written");
}

fn id(number: u32) -> String {
    format!("0x{number:032x}")
}

fn units(value: &Value) -> u128 {
    let digits = value.as_str().expect("a string");
    digits.parse().expect("digits")
}

/// How many jobs of the tenant are under way, in whatever state.
fn under_way(client: &Client, name: &str) -> u64 {
    let pool = client.call("pool_statusV1", json!({}));
    let tenants = pool["tenants"].as_array().expect("tenants");
    let own = tenants.iter().find(|it| it["tenant"] == name);
    let own = own.expect("who asks is shown");
    let number = |key: &str| own[key].as_u64().expect("a number");
    number("queued") + number("running")
}

#[test]
fn a_fee_is_set_aside_with_a_submission_and_is_charged_by_its_proof_or_given_back() {
    let it = Bank::new();
    let bank = it.world.client("bank");
    let party = it.party("bank", 10, 9 * FEE);
    let circuit = bank.register(&larger().zkey);
    let witness = bank.store(&larger().witness);
    let letting_go = it.hold();
    let jobs = [(); 4].map(|()| bank.submit(&circuit, &witness));
    // All of it is aside when the submissions are acknowledged, and nothing is charged.
    assert_eq!(it.purses(party), (5 * FEE, 4 * FEE));
    assert_eq!(it.fees(), 0);
    // One that runs and one that waits are cancelled; each gives back what was aside for it, once.
    for (left, job) in [(3, &jobs[0]), (2, &jobs[3])] {
        for _ in 0..2 {
            let status = bank.call("prover_cancelV1", json!({ "job": job }));
            assert_eq!(status["state"], "cancelled", "{status}");
            assert_eq!(it.purses(party), ((9 - left) * FEE, left * FEE));
        }
    }
    drop(letting_go);
    let proved = [&jobs[1], &jobs[2]].map(|job| (job, bank.proved(job)));
    assert_eq!(it.purses(party), (7 * FEE, 0));
    assert_eq!(it.fees(), 2 * FEE);

    for job in [&jobs[0], &jobs[3]] {
        assert_eq!(it.of_job(job), [Done::Reserved(FEE), Done::Refunded]);
    }
    for (job, result) in proved {
        let calldata = result["calldata"].as_str().expect("text");
        let digest = Sha256::digest(calldata).into();
        let expected = [Done::Reserved(FEE), Done::Proved(FINANCIAL, FEE, digest)];
        assert_eq!(it.of_job(job), expected);
    }
    // Nothing else was ever set aside.
    assert_eq!(it.reserved(), 4);
    it.world.stop();
}

/// Both are given back. Who is to blame stands in the event, for the one is counted against the node's owner and the other is not.
#[test]
fn a_failure_is_the_nodes_or_its_inputs_and_costs_nothing() {
    let it = Bank::new();
    let bank = it.world.client("bank");
    let party = it.party("bank", 10, 5 * FEE);
    let circuit = bank.register(&material().zkey);
    let [witness, wrong, cut] = [
        &material().witness[..],
        &material().wrong,
        &material().witness[..100],
    ]
    .map(|bytes| bank.store(bytes));
    // Of the silicon's, there is no proof for a good witness.
    it.hand.store(FAIL, SeqCst);
    let letting_go = LetGo(&it.hand);
    let lost = bank.submit(&circuit, &witness);
    let status = bank.ended(&lost);
    assert_eq!(status["error"]["reason"], "internal", "{status}");
    drop(letting_go);
    // What fails once is made again, and is no failure.
    it.hand.store(FAIL_ONCE, SeqCst);
    let again = bank.submit(&circuit, &witness);
    bank.proved(&again);
    assert_eq!(it.hand.load(SeqCst), RUN);
    assert_eq!(bank.metric("caldera_proofs_disagreed_total"), 0.0);
    // Of the witness', one is in form and does not satisfy the circuit, and one is no witness.
    let unsatisfied = bank.submit(&circuit, &wrong);
    let status = bank.ended(&unsatisfied);
    assert_eq!(status["error"]["reason"], "selfCheckFailed", "{status}");
    let truncated = bank.submit(&circuit, &cut);
    let status = bank.ended(&truncated);
    assert_eq!(status["error"]["reason"], "witnessTruncated", "{status}");
    assert_eq!((it.purses(party), it.fees()), ((4 * FEE, 0), FEE));
    for (job, cause) in [
        (&lost, Cause::Node),
        (&unsatisfied, Cause::Input),
        (&truncated, Cause::Input),
    ] {
        let expected = [Done::Reserved(FEE), Done::Failed(cause)];
        assert_eq!(it.of_job(job), expected, "{cause:?}");
    }
    // The box is none the worse for it, and neither is its ledger.
    bank.proved(&bank.submit(&circuit, &witness));
    assert_eq!((it.purses(party), it.fees()), ((3 * FEE, 0), 2 * FEE));
    let events = |what| format!("caldera_era_events_total{{what=\"{what}\"}}");
    assert_eq!(bank.metric(&events("failure")), 3.0);
    assert_eq!(bank.metric(&events("proof")), 2.0);
    assert_eq!(bank.metric("caldera_proofs_disagreed_total"), 0.0);
    it.world.stop();
}

/// Lending does not make proofs free, and what another box has done is no work of this one's.
#[test]
fn a_proof_that_another_box_has_made_is_charged_and_is_no_event() {
    let it = Bank::new();
    let narrow = it.world.client("narrow");
    let party = it.party("narrow", 10, 9 * FEE);
    let circuit = narrow.register(&material().zkey);
    let witness = narrow.store(&material().witness);
    // What another box would send was made before.
    let before = narrow.submit(&circuit, &witness);
    let proof = narrow.proved(&before)["proof"].clone();
    let letting_go = it.hold();
    // One is begun. The last is lent because another waits before it, however much of the first is thought to be done.
    let [here, next, lent] = [(); 3].map(|()| {
        let status = narrow.call(
            "prover_submitV1",
            json!({ "circuit": circuit, "witness": witness }),
        );
        status["job"].as_str().expect("a job").to_owned()
    });
    assert_eq!(it.purses(party), (5 * FEE, 3 * FEE));
    let taken = until(|| {
        let cursor = it.fleet("fleet_heldV1", &json!({}))["cursor"].clone();
        let taken = it.fleet(
            "fleet_takeV1",
            &json!({ "max": 1, "cursor": cursor, "waitMs": 60_000 }),
        );
        taken["jobs"].get(0).cloned()
    });
    assert_eq!(taken["job"], json!(lent));
    let result = json!({ "job": lent, "fence": taken["fence"], "proof": proof });
    it.fleet("fleet_resultV1", &result);
    assert_eq!(narrow.proved(&lent)["proof"], proof);
    assert_eq!((it.purses(party), it.fees()), ((5 * FEE, 2 * FEE), 2 * FEE));
    assert_eq!(it.of_job(&lent), [Done::Reserved(FEE), Done::Charged(FEE)]);
    drop(letting_go);
    for job in [&here, &next] {
        narrow.proved(job);
    }
    assert_eq!((it.purses(party), it.fees()), ((5 * FEE, 0), 4 * FEE));
    for job in [&before, &here, &next] {
        let of_job = it.of_job(job);
        assert!(
            matches!(
                of_job[..],
                [Done::Reserved(FEE), Done::Proved(FINANCIAL, FEE, _)]
            ),
            "{of_job:?}"
        );
    }
    let events = "caldera_era_events_total{what=\"proof\"}";
    assert_eq!(narrow.metric(events), 3.0);
    it.world.stop();
}

/// A job may run before it is known whether it can be paid for. One that cannot is no job, and its word is free.
#[test]
fn who_cannot_pay_is_refused_and_nothing_is_left_of_the_job() {
    let it = Bank::new();
    let bank = it.world.client("bank");
    let party = it.party("bank", 10, 2 * FEE - 1);
    let circuit = bank.register(&larger().zkey);
    let witness = bank.store(&larger().witness);
    let letting_go = it.hold();
    let first = bank.submit(&circuit, &witness);
    assert_eq!(it.purses(party), (FEE - 1, FEE));
    let before = it.journal();
    let submission = json!({ "circuit": circuit, "witness": witness, "idempotencyKey": "block-2" });
    for _ in 0..3 {
        let refused = bank.refusal("prover_submitV1", submission.clone());
        assert_eq!(refused, "eraInsufficient");
    }
    until(|| (under_way(&bank, "bank") == 1).then_some(()));
    assert_eq!(it.purses(party), (FEE - 1, FEE));
    assert_eq!(it.journal(), before);
    assert_eq!(
        bank.metric("caldera_era_refused_total{what=\"submission\"}"),
        3.0
    );
    // Those numbers are no jobs, now and after a start.
    let number = |job: &str| u64::from_str_radix(&job[2..], 16).expect("a job's number");
    let none = |bank: &Client| {
        for more in 1..=3 {
            let job = format!("0x{:016x}", number(&first) + more);
            let asked = bank.refusal("prover_statusV1", json!({ "job": job }));
            assert_eq!(asked, "jobUnknown");
        }
    };
    none(&bank);
    drop(letting_go);
    bank.proved(&first);
    let it = it.restart();
    let bank = it.world.client("bank");
    none(&bank);
    assert_eq!(under_way(&bank, "bank"), 0);
    assert_eq!((it.purses(party), it.fees()), ((FEE - 1, 0), FEE));
    // The unit that was wanting, and the same word.
    it.deposit(1, party, 1);
    let status = bank.call("prover_submitV1", submission);
    bank.proved(status["job"].as_str().expect("a job"));
    assert_eq!((it.purses(party), it.fees()), ((0, 0), 2 * FEE));
    it.world.stop();
}

/// A client that has heard nothing sends the same again: at once, when it is proved, and after a start.
#[test]
fn a_submission_that_is_sent_again_is_paid_for_once() {
    let it = Bank::new();
    let bank = it.world.client("bank");
    let party = it.party("bank", 10, 9 * FEE);
    let circuit = bank.register(&material().zkey);
    let [witness, wrong] = [&material().witness, &material().wrong].map(|it| bank.store(it));
    let submit =
        |witness: &str| json!({ "circuit": circuit, "witness": witness, "idempotencyKey": "a" });
    let job_of = |status: Value| status["job"].as_str().expect("a job").to_owned();
    let letting_go = it.hold();
    // Four at a time, of which none has heard of the others.
    let jobs = std::thread::scope(|scope| {
        let sends = [(); 4].map(|()| {
            let (client, submission) = (it.world.client("bank"), submit(&witness));
            scope.spawn(move || client.call("prover_submitV1", submission))
        });
        sends.map(|send| job_of(send.join().expect("an answer")))
    });
    let [job, ..] = &jobs;
    assert!(jobs.iter().all(|it| it == job), "{jobs:?}");
    assert_eq!(it.purses(party), (8 * FEE, FEE));
    // The same word for something else is refused, and holds nothing.
    let refused = bank.refusal("prover_submitV1", submit(&wrong));
    assert_eq!(refused, "idempotencyConflict");
    assert_eq!(it.purses(party), (8 * FEE, FEE));
    drop(letting_go);
    bank.proved(job);
    assert_eq!(&job_of(bank.call("prover_submitV1", submit(&witness))), job);
    let it = it.restart();
    let bank = it.world.client("bank");
    assert_eq!(&job_of(bank.call("prover_submitV1", submit(&witness))), job);
    let refused = bank.refusal("prover_submitV1", submit(&wrong));
    assert_eq!(refused, "idempotencyConflict");
    assert_eq!((it.purses(party), it.fees()), ((8 * FEE, 0), FEE));
    assert_eq!(it.reserved(), 1);
    it.world.stop();
}

/// A party that may only read sees what it has and moves nothing of it; and no tenant does what is the operator's.
#[test]
fn what_moves_money_is_asked_of_whoever_may() {
    let it = Bank::new();
    let parties = [it.party("bank", 10, FEE), it.party("reader", 11, FEE)];
    let before = it.journal();
    let stake = id(1);
    for (name, party) in ["bank", "reader"].into_iter().zip(parties) {
        let client = it.world.client(name);
        let own = client.call("era_accountV1", json!({}));
        assert_eq!(own[0]["free"], FEE.to_string());
        let lines = client.call("era_statementV1", json!({ "party": party }));
        assert_eq!(lines["lines"][0]["balance"], FEE.to_string());
        let leg =
            json!({ "asset": "era", "from": "outside", "to": party.to_string(), "amount": "1" });
        let claw = json!({
            "id": id(2), "party": party, "epoch": 0, "node": 1, "sequence": 0, "reason": "None.",
        });
        let offset = json!({
            "id": id(2), "party": party, "eraMax": "9", "receipt": "ab".repeat(32), "gasUsed": 1,
            "gasPrice": "1",
        });
        let register = json!({
            "id": id(2), "tenant": name, "role": "developer", "owner": 12, "verified": true,
            "address": format!("0x{}", "02".repeat(20)),
        });
        let adopt = json!({ "id": id(2), "epoch": 9, "policy": include_str!("../../../era.toml") });
        for (method, params) in [
            ("era_transferV1", json!({ "id": id(2), "legs": [leg] })),
            ("era_offsetV1", offset),
            ("era_registerV1", register),
            (
                "era_verifyV1",
                json!({ "id": id(2), "owner": 11, "verified": true }),
            ),
            ("era_adoptV1", adopt),
            ("era_clawBackV1", claw),
            ("era_closeV1", json!({ "epoch": 0 })),
            ("era_settleV1", json!({ "id": id(2), "epoch": 0 })),
        ] {
            assert_eq!(client.refusal(method, params), "invalidRequest", "{method}");
        }
    }
    let (reader, party) = (it.world.client("reader"), parties[1]);
    for (method, params) in [
        ("era_claimV1", json!({ "id": id(3), "party": party })),
        (
            "era_claimV1",
            json!({ "id": id(3), "party": party, "stake": stake }),
        ),
        (
            "era_stakeV1",
            json!({ "id": id(3), "party": party, "amount": "1" }),
        ),
        (
            "era_stakeV1",
            json!({ "id": id(3), "party": party, "standing": true }),
        ),
        (
            "era_unstakeV1",
            json!({ "id": id(3), "party": party, "stake": stake, "amount": "1" }),
        ),
    ] {
        assert_eq!(reader.refusal(method, params), "outOfScope", "{method}");
    }
    assert_eq!(it.journal(), before);
    it.world.stop();
}
