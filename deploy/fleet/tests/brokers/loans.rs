//! Loans on a real broker: ordered at the control socket, kept there, counted by both sides, taken back at once, known to the next start, over when they are over,
//! and nobody's to write but their lender's.
//!
//! Each job is said to take a minute of one core. So a loan of a tenth of a core has room for one, on debt, and for the next one nine minutes later.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config as StreamConfig;
use async_nats::{ConnectOptions, Event, HeaderMap};
use caldera_fleet::config::Config;
use caldera_fleet::loan::{Loan, LoanNumber};
use caldera_fleet::messages::{JobBody, Subject, decode_answer, encode_loan};
use caldera_fleet::nats::{Access, Broker, BrokerError, JOBS, KeepError, LOANS, inbox, loans_of};
use caldera_fleet::run::Fleet;
use caldera_fleet::{Answer, Boot, BoxId, Refusal, Token};
use caldera_scheduler::{JobId, Nanos};
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::r#box::TestBox;
use crate::servers::{PATIENCE, Servers, wait};
use crate::{A, ALWAYS, B, C, a_key, nothing_twice, runtime};

/// Asks the process that runs at its control socket, and gives the status and the body of the answer.
fn ask(at: &Config, request: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(&at.control_socket).expect("somebody listens");
    let body = body.to_string();
    let length = body.len();
    let head = format!("{request} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream
        .write_all((head + &body).as_bytes())
        .expect("it is asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (
        status.expect("a status"),
        serde_json::from_str(body).expect("JSON"),
    )
}

fn grant(to: BoxId, rate: u32, seconds: u64) -> Value {
    json!({ "grant": { "box": name(to), "rate": rate, "seconds": seconds } })
}

fn revoke(of: BoxId) -> Value {
    json!({ "revoke": { "box": name(of) } })
}

/// The loans of one side of a box, when it says how it is.
fn loans(at: &Config, side: &str) -> Vec<Value> {
    let mut loans = None;
    wait("a side that answers", || {
        let (status, body) = ask(at, "GET /status", &Value::Null);
        assert_eq!(status, 200, "{body}");
        loans = body[side]["loans"].as_array().cloned();
        loans.is_some()
    });
    loans.expect("they are there")
}

/// How many milliseconds are left of the loan that a box has granted to another.
fn left(at: &Config, to: BoxId) -> Option<u64> {
    let loans = loans(at, "lender");
    let loan = loans.iter().find(|it| it["box"] == name(to))?;
    loan["leftMs"].as_u64()
}

/// What a box was told that another has granted to it.
fn had(at: &Config, from: BoxId) -> Option<Value> {
    let mut loans = loans(at, "submitter").into_iter();
    loans.find(|it| it["box"] == name(from))
}

/// Whether it is done.
fn is_done(at: &Config, order: &Value) -> bool {
    ask(at, "POST /loans", order).0 == 200
}

/// What is said when it is refused.
fn refused(at: &Config, order: &Value) -> String {
    let (status, body) = ask(at, "POST /loans", order);
    assert!([400, 409, 503].contains(&status), "{status} {body}");
    body["error"].as_str().expect("why").to_owned()
}

fn name(of: BoxId) -> String {
    format!("{:032x}", of.0)
}

fn a_loan(boot: u64, nth: u32, left: u64) -> Loan {
    let boot = Boot(boot);
    Loan {
        number: LoanNumber { boot, nth },
        rate: 100,
        left: Nanos::from_secs(left),
    }
}

/// The bucket as a box reaches it, while it is watched over.
async fn bucket(servers: &Servers, of: BoxId) -> (Broker, JoinHandle<BrokerError>) {
    let broker = Broker::connect(&servers.access(of), of).await;
    let broker = broker.expect("it connects");
    let watched = tokio::spawn(broker.clone().watch_over());
    (broker, watched)
}

/// As soon as there is a broker.
async fn keep(broker: &Broker, borrower: BoxId, loan: &Loan) {
    let began = Instant::now();
    while let Err(error) = broker.keep_loan(borrower, loan).await {
        assert!(began.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Connected as a box is, and in its name; what servers forbid is sent there.
async fn as_box(
    access: Access,
    who: BoxId,
) -> (async_nats::Client, mpsc::UnboundedReceiver<String>) {
    let (forbidden, heard) = mpsc::unbounded_channel();
    let seed = std::fs::read_to_string(access.nkey_seed_file).expect("a seed");
    let client = ConnectOptions::with_nkey(seed.trim().to_owned())
        .custom_inbox_prefix(inbox(who))
        .require_tls(true)
        .ignore_discovered_servers()
        .add_root_certificates(access.ca)
        .add_client_certificate(access.certificate, access.key)
        .event_callback(move |event| {
            if let Event::ServerError(error) = event {
                let _ = forbidden.send(error.to_string());
            }
            async {}
        })
        .connect(access.urls)
        .await;
    (client.expect("it is let in"), heard)
}

#[test]
fn loans_are_kept_counted_and_taken_back() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let (config_a, mut config_b) = (servers.admit(A, 0), servers.admit(B, 8));
    let config_c = servers.admit(C, 0);
    config_b.lend.as_mut().expect("it lends").only_loans = true;
    servers.start();
    let [a, b, c] = [(); 3].map(|()| Arc::new(TestBox::default()));
    let start = |config: &Config, at: &Arc<TestBox>| {
        Fleet::start(config.clone(), Arc::clone(at)).expect("it starts")
    };
    let (mut fleet_a, mut fleet_b) = (start(&config_a, &a), start(&config_b, &b));
    let _fleet_c = start(&config_c, &c);
    let begun = || b.state().begun.values().sum::<u32>();
    let key = a_key();

    // Nobody has a loan, so nothing is taken from anybody: this box proves nothing by itself, and keeps its jobs.
    a.submit(0..5, &key);
    c.submit(0..2, &key);

    // When what was granted before is read, and the other is heard, a loan is granted.
    wait("a loan", || is_done(&config_b, &grant(A, 100, 3_600)));
    wait("the other box", || {
        !refused(&config_b, &grant(C, 901, 60)).contains("is heard")
    });
    for (order, says) in [
        (grant(C, 901, 60), "from 1 to 900"),
        (grant(A, 1_001, 60), "from 1 to 1000"),
        (grant(A, 1_000, 59), "term: expected"),
        (grant(B, 900, 60), "another box"),
        (grant(BoxId(9), 1, 60), "a box that is heard"),
        (revoke(C), "a box with a loan"),
        (json!({ "revoke": { "box": "a" } }), "32 hexadecimal digits"),
        (json!({ "grant": { "box": name(A) } }), "missing field"),
        (json!("all"), "all"),
    ] {
        let error = refused(&config_b, &order);
        assert!(error.contains(says), "{error}");
    }
    let lends_nothing = refused(&config_a, &grant(B, 1, 60));
    assert!(lends_nothing.contains("give it [lend]"), "{lends_nothing}");

    // As much is proved on it as it brings, and for nobody else.
    wait("a loan that is heard of", || had(&config_a, B).is_some());
    wait("a job on a loan", || a.ended().0 == 1);
    let had = had(&config_a, B).expect("a loan");
    assert_eq!(
        (&had["rate"], &had["hasCredit"]),
        (&json!(100), &json!(false))
    );
    assert_eq!((begun(), a.ended(), c.ended()), (1, (1, 0), (0, 0)));

    // The next start of the lender knows it. What is under way is taken back with it, and its submitter proves it.
    fleet_b.kill();
    fleet_b = start(&config_b, &b);
    wait("a loan of before", || left(&config_b, A).is_some());
    b.state().held_up = true;
    fleet_a.kill();
    fleet_a = start(&config_a, &a);
    wait("a proof on a loan", || begun() == 2);
    assert!(is_done(&config_b, &revoke(A)));
    wait("a job that was taken back", || a.ended().1 > 0);
    assert_eq!(a.ended().0, 1);
    assert_eq!(left(&config_b, A), None);
    // And the next start knows that, too.
    fleet_b.kill();
    fleet_b = start(&config_b, &b);
    wait("that nothing is granted", || {
        refused(&config_b, &revoke(A)).contains("a box with a loan")
    });

    // A newer loan of the same box is not overwritten.
    let subject = format!("{}.{}", loans_of(B), name(A));
    runtime().block_on(async {
        let operator = async_nats::jetstream::new(servers.operator(C).await);
        let newer = encode_loan(&a_loan(1_000, 1, 600));
        let sent = operator.publish(subject, newer.into()).await;
        sent.expect("it is sent").await.expect("it is stored");
    });
    let mut changed = String::new();
    wait("a refusal", || {
        changed = refused(&config_b, &grant(A, 100, 60));
        !changed.contains("is heard")
    });
    assert!(changed.contains("a newer loan"), "{changed}");
    assert_eq!(left(&config_b, A), None);
    nothing_twice(&a);
    fleet_a.kill();
    fleet_b.kill();
}

/// A borrower whose clock stands still believes in a loan that is over; the lender does not, and no start of it makes a term longer.
#[test]
fn a_loan_ends_whoever_stands_still_or_begins_anew() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(A, 0);
    let mut config = servers.admit(B, 8);
    config.lend.as_mut().expect("it lends").only_loans = true;
    servers.admit(C, 0);
    servers.start();
    let runtime = runtime();
    runtime.block_on(async {
        let (broker, watched) = bucket(&servers, B).await;
        keep(&broker, A, &a_loan(0, 1, 600)).await;
        keep(&broker, C, &a_loan(0, 1, 10)).await;
        watched.abort();
    });
    let at = Arc::new(TestBox::default());
    let start = || Fleet::start(config.clone(), Arc::clone(&at)).expect("it starts");
    let fleet = start();
    wait("a loan of before", || left(&config, A).is_some());
    wait("a term that is over", || left(&config, C).is_none());

    // What such a borrower does, under its name.
    let operator = runtime.block_on(servers.operator(A));
    let place = async |submitter| {
        let subject = Subject::Job {
            lender: B,
            boot: fleet.boot(),
            submitter,
            job: JobId(1),
            token: Token(1),
        };
        let body = JobBody {
            from: servers.address(30),
            key: [1; 32],
            key_bytes: 1,
            witness: [2; 32],
            witness_bytes: 1,
            work: Nanos::from_secs(1),
            left: None,
            price_max: 0,
            bill: None,
        };
        let jetstream = async_nats::jetstream::new(operator.clone());
        while jetstream.get_stream(JOBS).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let sent = jetstream.publish(subject.to_string(), body.encode().into());
        sent.await.expect("it is sent").await.expect("it is stored");
    };
    let begun = || fleet.totals().begun.load(Ordering::Relaxed);
    runtime.block_on(async {
        let answers = format!("caldera.answer.{}.>", name(B));
        let mut answers = operator.subscribe(answers).await.expect("it listens");
        place(C).await;
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await;
        let answer = answer.expect("in time").expect("an answer");
        let (_, answer) = decode_answer(&answer.payload).expect("an answer");
        assert_eq!(answer, Answer::Refused(Refusal::Loan));
        assert_eq!(begun(), 0);
        // Who has one is served.
        place(A).await;
    });
    wait("a proof that is begun", || begun() == 1);

    // The next start goes on where this one ends.
    let before = left(&config, A).expect("a loan");
    assert!(before < 600_000, "{before} ms of 600 s");
    wait("some of a term", || left(&config, A) < Some(before - 3_000));
    fleet.kill();
    let _fleet = start();
    let mut known = None;
    wait("a loan of before", || {
        known = left(&config, A);
        known.is_some()
    });
    assert!(known < Some(before - 3_000), "{known:?} ms after {before}");
}

/// It is taken back at once, and the next start finds nothing, when the broker has heard of it.
#[test]
fn a_loan_is_taken_back_while_a_server_hangs() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(A, 0);
    let config = servers.admit(B, 8);
    servers.start();
    let runtime = runtime();
    let (broker, watched) = runtime.block_on(async {
        let (broker, watched) = bucket(&servers, B).await;
        keep(&broker, A, &a_loan(0, 1, 600)).await;
        (broker, watched)
    });
    let at = Arc::new(TestBox::default());
    let fleet = Fleet::start(config.clone(), Arc::clone(&at)).expect("it starts");
    wait("a loan of before", || left(&config, A).is_some());
    servers.signal(0, Signal::SIGSTOP);
    let error = refused(&config, &revoke(A));
    assert!(error.contains("it is reclaimed"), "{error}");
    assert_eq!(left(&config, A), None);
    servers.signal(0, Signal::SIGCONT);
    wait("that it is forgotten", || {
        let kept = runtime.block_on(broker.loans());
        kept.is_ok_and(|kept| kept.is_empty())
    });
    watched.abort();
    fleet.kill();
}

/// Within a minute, for so often a lender writes what is left of its loans.
#[test]
fn a_bucket_that_is_lost_is_written_again() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(A, 0);
    let config = servers.admit(B, 8);
    servers.start();
    let runtime = runtime();
    let (broker, watched) = runtime.block_on(async {
        let (broker, watched) = bucket(&servers, B).await;
        keep(&broker, A, &a_loan(0, 1, 600)).await;
        (broker, watched)
    });
    let fleet = Fleet::start(config.clone(), Arc::new(TestBox::default())).expect("it starts");
    wait("a loan of before", || left(&config, A).is_some());
    runtime.block_on(async {
        let operator = async_nats::jetstream::new(servers.operator(A).await);
        operator.delete_stream(LOANS).await.expect("it is deleted");
        let kept = broker.loans().await.expect("it is made again");
        assert_eq!(kept, []);
    });
    let mut kept = Vec::new();
    wait("a loan that is written again", || {
        kept = runtime.block_on(broker.loans()).unwrap_or_default();
        !kept.is_empty()
    });
    let [(borrower, kept)] = kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!((borrower, kept.number), (A, a_loan(0, 1, 0).number));
    assert!(kept.left < Nanos::from_secs(600), "{kept:?}");
    assert!(left(&config, A).is_some());
    watched.abort();
    fleet.kill();
}

/// Whatever is sent under another box's own credentials, by hand.
#[test]
fn nobody_writes_what_another_box_has_granted() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(B, 8);
    servers.admit(C, 0);
    servers.start();
    runtime().block_on(async {
        let (broker, watched) = bucket(&servers, B).await;
        keep(&broker, A, &a_loan(1, 1, 600)).await;
        let (other, mut forbidden) = as_box(servers.access(C), C).await;
        let jetstream = async_nats::jetstream::new(other.clone());
        let subject = |of: BoxId| format!("{}.{}", loans_of(of), name(A));
        let body = || encode_loan(&a_loan(9, 9, 600)).into();
        // What is its own it may write.
        let own = jetstream.publish(subject(C), body()).await;
        own.expect("it is sent").await.expect("it is stored");
        for forged in [
            subject(B),
            format!("$JS.API.DIRECT.GET.{LOANS}.{}", subject(B)),
            format!("$JS.API.STREAM.PURGE.{LOANS}"),
            format!("$JS.API.STREAM.DELETE.{LOANS}"),
            format!("$JS.API.STREAM.UPDATE.{LOANS}"),
            format!("$JS.API.STREAM.MSG.DELETE.{LOANS}"),
            format!("$JS.API.STREAM.MSG.GET.{LOANS}"),
            // Nor does it say what another has granted.
            format!("caldera.loan.{}.{}", name(B), name(A)),
        ] {
            other
                .publish(forged.clone(), body())
                .await
                .expect("it is sent");
            let error = tokio::time::timeout(PATIENCE, forbidden.recv()).await;
            let error = error.expect("in time").expect("a refusal");
            // Servers say it in their own case.
            assert!(
                error.contains(&format!("Publish to \"{forged}\"")),
                "{error}"
            );
        }
        // Its own write does not take the place of all others'.
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "all");
        let rolled = jetstream.publish_with_headers(subject(C), headers, body());
        let rolled = rolled.await.expect("it is sent").await;
        assert!(rolled.is_err(), "{rolled:?}");
        let kept = broker.loans().await.expect("they are read");
        let [(borrower, kept)] = kept[..] else {
            panic!("{kept:?}");
        };
        assert_eq!((borrower, kept.number), (A, a_loan(1, 1, 0).number));
        watched.abort();
    });
}

/// Of two writers at once, none undoes what the other was told is kept.
#[test]
fn no_loan_takes_the_place_of_a_newer_one() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(B, 8);
    servers.start();
    runtime().block_on(async {
        let (broker, watched) = bucket(&servers, B).await;
        keep(&broker, A, &a_loan(1, 1, 600)).await;
        let (mut changed, mut both) = (0, 0);
        for round in 1..200 {
            let [older, newer] = [2 * round, 2 * round + 1].map(|nth| {
                let broker = broker.clone();
                tokio::spawn(async move { broker.keep_loan(A, &a_loan(1, nth, 600)).await })
            });
            let [older, newer] = [older.await, newer.await].map(|it| it.expect("it ends"));
            for it in [older, newer] {
                assert!(matches!(it, Ok(()) | Err(KeepError::Changed)), "{it:?}");
            }
            changed += u32::from(older.is_err()) + u32::from(newer.is_err());
            both += u32::from(older.is_ok() && newer.is_ok());
            let kept = broker.loans().await.expect("it is read")[0].1.number.nth;
            let least = 2 * round + u32::from(newer.is_ok());
            assert!(
                kept >= least,
                "round {round}: {kept} is kept, {older:?}, {newer:?}"
            );
        }
        assert!(
            changed > 0,
            "they never met, and {both} times both were written"
        );
        watched.abort();
    });
}

#[test]
fn a_bucket_of_another_make_is_named() {
    let mut servers = Servers::new(1, ALWAYS, true);
    servers.admit(B, 8);
    servers.start();
    runtime().block_on(async {
        let operator = async_nats::jetstream::new(servers.operator(B).await);
        let other = StreamConfig {
            name: LOANS.to_owned(),
            subjects: vec!["elsewhere".to_owned()],
            ..StreamConfig::default()
        };
        operator.create_stream(other).await.expect("it is made");
        let (broker, watched) = bucket(&servers, B).await;
        let began = Instant::now();
        let error = loop {
            match broker.loans().await {
                Err(KeepError::Silent) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => break other.expect_err("it is of another make"),
            }
        };
        assert_eq!(error, KeepError::Stream { replicas: 1 });
        watched.abort();
    });
}
