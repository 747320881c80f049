//! Boxes over real NATS servers: jobs end once, whatever dies; what cannot be trusted has no effect; servers that forget are refused.
//!
//! Each box is the process that `calderad-fleet run` is, but for what stands in place of its `calderad` ([`r#box`]); in [`calderads`]
//! nothing stands in anybody's place. Nothing here is timed: a test waits for as long as it takes, and what it takes is for the benches.

mod r#box;
mod calderads;
mod faults;
mod loans;
mod relay;
mod servers;
mod transfers;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use caldera_fleet::calderad::Verdict;
use caldera_fleet::messages::{Subject, decode_answer, encode_answer};
use caldera_fleet::nats::{ANSWERS, BrokerError, JOBS};
use caldera_fleet::run::{Fleet, RunError};
use caldera_fleet::{Answer, Boot, BoxId, Token};
use caldera_scheduler::JobId;
use futures_util::StreamExt;

use r#box::TestBox;
use servers::{Servers, wait};

const A: BoxId = BoxId(0xa0a0_0000_0000_0000_0000_0000_0000_0001);
const B: BoxId = BoxId(0xb0b0_0000_0000_0000_0000_0000_0000_0002);
const C: BoxId = BoxId(0xc0c0_0000_0000_0000_0000_0000_0000_0003);
const ALWAYS: &str = "sync_interval: always";

fn a_key() -> Arc<Vec<u8>> {
    Arc::new((0..150_000u32).map(|n| (n >> 2) as u8).collect())
}

fn runtime() -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("a runtime")
}

/// No job of a box ended twice, and no proof was taken that is none.
fn nothing_twice(at: &TestBox) {
    let (brought, _) = at.ended();
    let state = at.state();
    let committed = state
        .verdicts
        .iter()
        .filter(|(_, it)| *it == Verdict::Committed);
    assert_eq!(committed.count(), brought);
    assert!(state.verdicts.iter().all(|(_, it)| *it != Verdict::Wrong));
}

#[test]
fn every_job_ends_once_whatever_dies() {
    let mut servers = Servers::new(3, ALWAYS, true);
    let (config_a, config_b) = (servers.admit(A, 0), servers.admit(B, 8));
    servers.start();
    let (a, b) = (Arc::new(TestBox::default()), Arc::new(TestBox::default()));
    let mut fleet_a = Fleet::start(config_a.clone(), Arc::clone(&a)).expect("it starts");
    let mut fleet_b = Fleet::start(config_b.clone(), Arc::clone(&b)).expect("it starts");
    let key = a_key();

    // Nothing dies.
    a.submit(0..20, &key);
    wait("jobs of calm times", || a.are_ended());
    let (brought, _) = a.ended();
    assert!(brought > 0, "nothing was lent");
    assert_eq!(
        b.state().keys_added.values().copied().collect::<Vec<_>>(),
        [1]
    );

    // Each server in turn, so the leader of each stream is among them.
    for n in 0..3 {
        let next = 20 + 20 * n as u64;
        a.submit(next..next + 10, &key);
        servers.kill(n);
        a.submit(next + 10..next + 20, &key);
        wait("jobs while a server is dead", || a.are_ended());
        servers.start_one(n);
        (0..3).for_each(|n| servers.wait_for(n));
    }

    // The submitter in the middle, then the lender.
    b.state().held_up = true;
    a.submit(80..90, &key);
    wait("proofs that are begun", || b.state().begun.len() > brought);
    let boot = fleet_a.boot();
    fleet_a.kill();
    fleet_a = Fleet::start(config_a, Arc::clone(&a)).expect("it starts again");
    assert_eq!(fleet_a.boot(), Boot(boot.0 + 1));
    b.release();
    wait("jobs of a submitter that died", || a.are_ended());
    b.state().held_up = true;
    let begun = b.state().begun.len();
    a.submit(90..100, &key);
    wait("proofs that are begun", || b.state().begun.len() > begun);
    fleet_b.kill();
    b.release();
    fleet_b = Fleet::start(config_b, Arc::clone(&b)).expect("it starts again");
    wait("jobs of a lender that died", || a.are_ended());

    // Both streams, with what is placed in them.
    b.state().held_up = true;
    let begun = b.state().begun.len();
    a.submit(100..110, &key);
    wait("proofs that are begun", || b.state().begun.len() > begun);
    let runtime = runtime();
    runtime.block_on(async {
        let operator = async_nats::jetstream::new(servers.operator(A).await);
        for stream in [JOBS, ANSWERS] {
            operator.delete_stream(stream).await.expect("it is deleted");
        }
    });
    b.release();
    a.submit(110..120, &key);
    wait("jobs of streams that are gone", || a.are_ended());

    let (brought, at_home) = a.ended();
    assert_eq!(brought + at_home, 120);
    nothing_twice(&a);
    assert!(fleet_a.failed().is_none());
    assert!(fleet_b.failed().is_none());
    let totals = fleet_a.totals();
    assert_eq!(totals.wrong_proofs.load(Ordering::Relaxed), 0);
    assert_eq!(totals.forged.load(Ordering::Relaxed), 0);
    // Nothing of others' witnesses is left, and no key twice.
    fleet_b.stop(servers::PATIENCE);
    let fetched = servers
        .folder
        .path()
        .join(format!("state-{:x}/fetched", B.0));
    let left = std::fs::read_dir(fetched).expect("a folder").count();
    assert_eq!(left, 0);
}

#[test]
fn what_cannot_be_trusted_has_no_effect() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let (config_a, config_b) = (servers.admit(A, 0), servers.admit(B, 4));
    servers.admit(C, 0);
    servers.start();
    let (a, b) = (Arc::new(TestBox::default()), Arc::new(TestBox::default()));
    let fleet_a = Fleet::start(config_a, Arc::clone(&a)).expect("it starts");
    let _fleet_b = Fleet::start(config_b, Arc::clone(&b)).expect("it starts");
    let runtime = runtime();
    let operator = runtime.block_on(servers.operator(C));
    let mut placed = runtime
        .block_on(operator.subscribe("caldera.job.>"))
        .expect("a subscription");
    let mut answered = runtime
        .block_on(operator.subscribe("caldera.answer.>"))
        .expect("a subscription");
    runtime.block_on(operator.flush()).expect("it is heard");
    let say = |subject: Subject, body: Vec<u8>| {
        runtime.block_on(async {
            let jetstream = async_nats::jetstream::new(operator.clone());
            let sent = jetstream.publish(subject.to_string(), body.into()).await;
            sent.expect("it is sent").await.expect("it is stored");
        });
    };
    let key = a_key();
    let forged = || fleet_a.totals().forged.load(Ordering::Relaxed);

    // The right proof, but from an earlier start of the lender; then under the name of one who was not asked; then for a placement that never was.
    b.state().held_up = true;
    a.submit(0..1, &key);
    let message = runtime.block_on(placed.next()).expect("it is placed");
    let subject = Subject::parse(&message.subject).expect("a job");
    let Subject::Job {
        lender,
        boot,
        job,
        token,
        ..
    } = subject
    else {
        panic!("{subject} is no job");
    };
    assert_eq!((lender, job), (B, JobId(0)));
    let right = Answer::Proof(a.right_proof(job).into());
    let answer = |lender, token| Subject::Answer {
        lender,
        submitter: A,
        job,
        token,
    };
    wait("a proof that is begun", || !b.state().begun.is_empty());
    say(answer(B, token), encode_answer(Boot(boot.0 - 1), &right));
    say(answer(C, token), encode_answer(boot, &right));
    say(answer(C, Token(token.0 + 100)), encode_answer(boot, &right));
    wait("reports", || forged() == 2);
    assert_eq!(a.state().verdicts, []);
    // What the broker has under this subject is not the lender's, so that one's publish is refused; its lease ends.
    b.release();
    wait("a job that was answered by others", || a.are_ended());

    // Once more, what ended long ago.
    a.submit(1..2, &key);
    let message = loop {
        let message = runtime.block_on(answered.next()).expect("an answer");
        let subject = Subject::parse(&message.subject).expect("an answer");
        if matches!(subject, Subject::Answer { job: JobId(1), .. }) {
            break message;
        }
    };
    wait("another job", || a.are_ended());
    decode_answer(&message.payload).expect("an answer");
    let subject = Subject::parse(&message.subject).expect("an answer");
    let verdicts = a.state().verdicts.len();
    say(subject, message.payload.to_vec());
    say(answer(C, Token(token.0 + 200)), encode_answer(boot, &right));
    wait("a report", || forged() == 3);
    assert_eq!(a.state().verdicts.len(), verdicts);
    nothing_twice(&a);

    // What is no proof.
    b.state().wrong = true;
    a.submit(2..3, &key);
    wait("a report", || {
        fleet_a.totals().wrong_proofs.load(Ordering::Relaxed) == 1
    });
    wait("a job that comes home", || a.are_ended());
    assert_eq!(a.state().verdicts.last(), Some(&(JobId(2), Verdict::Wrong)));
}

#[test]
fn a_box_says_nothing_in_the_name_of_another() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let config = servers.admit(A, 0);
    servers.admit(B, 0);
    servers.start();
    let _fleet = Fleet::start(config, Arc::new(TestBox::default())).expect("it starts");
    runtime().block_on(async {
        let broker = caldera_fleet::nats::Broker::connect(&servers.access(B), B).await;
        let broker = broker.expect("it connects");
        let watched = tokio::spawn(broker.clone().watch_over());
        let (job, token) = (JobId(1), Token(1));
        let answer = |lender| Subject::Answer {
            lender,
            submitter: A,
            job,
            token,
        };
        let body = || encode_answer(Boot(1), &Answer::Failed);
        // In its own, as soon as there is a stream.
        while !broker.publish_once(answer(B), body()).await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert!(
            broker.publish_once(answer(B), body()).await,
            "it is there already"
        );
        assert!(!broker.publish_once(answer(A), body()).await);
        watched.abort();
    });
}

#[test]
fn servers_that_may_forget_end_the_process_with_a_word_of_what_to_set() {
    for (jetstream, with_accounts, says) in [
        ("", true, "sync_interval: always"),
        ("sync_interval: 10s", true, "sync_interval: always"),
        (ALWAYS, false, "include the accounts"),
    ] {
        let mut servers = Servers::new(1, jetstream, with_accounts);
        let config = servers.admit(A, 1);
        servers.start();
        let mut fleet = Fleet::start(config, Arc::new(TestBox::default())).expect("it starts");
        let mut ended = None;
        wait("the end", || {
            ended = fleet.failed();
            ended.is_some()
        });
        let ended = ended.expect("an error");
        assert!(
            matches!(
                ended,
                RunError::Broker(BrokerError::Sync { .. } | BrokerError::Mute)
            ),
            "{ended}"
        );
        assert!(ended.to_string().contains(says), "{ended}");
    }
}

#[test]
fn what_is_cancelled_comes_back_from_nowhere() {
    let mut servers = Servers::new(1, ALWAYS, true);
    let (config_a, config_b) = (servers.admit(A, 0), servers.admit(B, 4));
    servers.start();
    let (a, b) = (Arc::new(TestBox::default()), Arc::new(TestBox::default()));
    let _fleet_a = Fleet::start(config_a, Arc::clone(&a)).expect("it starts");
    let fleet_b = Fleet::start(config_b, Arc::clone(&b)).expect("it starts");
    b.state().held_up = true;
    a.submit(0..1, &a_key());
    wait("a proof that is begun", || !b.state().begun.is_empty());
    a.cancel(JobId(0));
    // The lender hears it, and holds nothing any more, though its proof was never made.
    fleet_b.stop(servers::PATIENCE);
    assert_eq!(a.state().verdicts, []);
    assert!(b.state().held_up);
}
