//! A policy that makes no sense is refused, and the refusal shows the sum.

use caldera_scheduler::ledger::command::{Deed, close_id};
use caldera_scheduler::ledger::journal::audit;
use caldera_scheduler::ledger::{Account, Answer, Command, Outcome, Policy, Record, Signatures};
use sha2::{Digest, Sha256};

use crate::money::Bench;
use crate::world::{ledger, policy, register, text, verify};

/// The policy that is shipped.
const SHIPPED: &str = include_str!("../../../deploy/era.toml");

#[test]
fn the_policy_that_is_shipped_is_one() {
    let policy = Policy::parse(SHIPPED).expect("deploy/era.toml is a policy");
    let class = |name: &str| {
        policy
            .classes
            .iter()
            .find(|class| class.name == name)
            .expect(name)
    };
    let (financial, light) = (class("financial"), class("light"));
    assert_eq!(financial.proof * 4, light.proof * 5);
    assert_eq!(financial.user * 2, light.user * 3);
    // Its hash depends on what it says, and not on how.
    let spaced = SHIPPED.replace(
        "100_000_000_000_000_000_000\"",
        "100000000000000000000\" # the same",
    );
    assert_ne!(spaced, SHIPPED);
    assert_eq!(
        Policy::parse(&spaced).expect("the same").hash(),
        policy.hash()
    );
    let other = SHIPPED.replace("rate = 500", "rate = 499");
    assert_ne!(
        Policy::parse(&other).expect("a policy").hash(),
        policy.hash()
    );
}

/// Prices are part of the policy: its name changes with them.
#[test]
fn a_job_costs_what_the_policy_says() {
    let policy = Policy::parse(&text(&[])).expect("a policy");
    let (price, class) = policy.price("market").expect("has a price");
    assert_eq!((price.proof, price.reuse, class.id), (100_000, 40_001, 1));
    assert_eq!(policy.price("play").expect("has a price").0.reuse, 0);
    assert!(policy.price("financial").is_none(), "that is a class");
    let dearer = text(&[("reuse = \"40_001\"", "reuse = \"40_002\"")]);
    let dearer = Policy::parse(&dearer).expect("a policy");
    assert_ne!(dearer.hash(), policy.hash());
    let long = "s".repeat(65);
    let long = text(&[("[prices.play]", &format!("[prices.{long}]"))]);
    assert!(Policy::parse(&long).is_err());
}

/// The shipped policy without prices and without a format: as it was before there were any.
fn first_format() -> String {
    let (before, _) = SHIPPED.split_once("[prices.").expect("has prices");
    let lines = before.lines().filter(|line| !line.starts_with("format"));
    lines.map(|line| line.to_owned() + "\n").collect()
}

#[test]
fn a_text_of_another_format_is_refused_with_what_to_write() {
    let old = first_format();
    let edit = "format: expected 3, got 1: write `format = 3` in its first line and `[prices]` in its last; without a price in it \
                jobs cost nothing, as before";
    for text in [old.clone(), format!("format = 1\n{old}")] {
        let refused = Policy::parse(&text).expect_err("is of the first format");
        assert_eq!(refused.to_string(), edit);
    }
    // What it says is what has to be done.
    let edited = format!("format = 3\n{old}[prices]\n");
    let policy = Policy::parse(&edited).expect("is of the third");
    assert!(policy.price("financial").is_none());
    // One with prices is of the second if it says nothing.
    for text in [
        SHIPPED.replace("format = 3", ""),
        SHIPPED.replace("format = 3", "format = 2"),
    ] {
        let refused = Policy::parse(&text).expect_err("is of the second format");
        let says = "format: expected 3, got 2: write `format = 3` in its first line; ";
        assert!(refused.to_string().starts_with(says), "{refused}");
    }
    for format in ["0", "-1", "4", "4294967299"] {
        let text = SHIPPED.replace("format = 3", &format!("format = {format}"));
        let refused = Policy::parse(&text).expect_err("is of no known format");
        let says = format!("format: expected 3, got {format}: ");
        assert!(refused.to_string().starts_with(&says), "{refused}");
    }
    let words = SHIPPED.replace("format = 3", "format = \"3\"");
    let refused = Policy::parse(&words).expect_err("is no number").to_string();
    assert!(refused.contains("format"), "{refused}");
}

/// The record with which a journal began when the format of its policy was this one, and the canonical bytes of that policy.
/// `record` opens with the same policy in today's bytes, whose last six are a number of prices, which is 0, and the format.
fn opened_with(format: u32, record: &Record) -> (Vec<u8>, Vec<u8>) {
    let left = [6, 4][format as usize - 1];
    let (head, rest) = record.bytes.split_at(52);
    let length = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
    let (body, outcome) = (&rest[4..4 + length - left], &rest[4 + length..]);
    let mut first = (head.len() + 4 + body.len() + outcome.len() - 4).to_be_bytes()[4..].to_vec();
    first.extend_from_slice(&head[4..]);
    first.extend_from_slice(&(body.len() as u32).to_be_bytes());
    first.extend_from_slice(body);
    first.extend_from_slice(&outcome[..outcome.len() - 32]);
    first.extend_from_slice(&Sha256::digest(&first));
    // Before the policy are the command's id and its tag.
    (first, body[17..].to_vec())
}

/// A journal that began with a policy of an earlier format is executed by it, and goes on with one of the newest.
#[test]
fn a_journal_with_a_policy_of_an_earlier_format_has_a_way_up() {
    let edited = format!("format = 3\n{}[prices]\n", first_format());
    let (newest, shipped) = (Policy::parse(&edited), Policy::parse(SHIPPED));
    let (newest, shipped) = (newest.expect("a policy"), shipped.expect("a policy"));
    let open = Command::Open {
        policy: newest.clone(),
    };
    let Ok(Answer::New(record)) = ledger().execute(1, open, 5) else {
        panic!("a ledger opens once");
    };
    for format in [1, 2] {
        let (first, policy) = opened_with(format, &record);
        let signatures = Signatures::Verify(verify);
        let mut ledger = audit(&first, signatures, None).expect("is sound");
        let old = ledger.policy().expect("is open");
        let named = Sha256::new()
            .chain_update(format!("caldera policy v{format}"))
            .chain_update(&policy);
        let named: [u8; 32] = named.finalize().into();
        assert_eq!((old.format, old.hash()), (format, named));
        assert_ne!(old.hash(), newest.hash());
        assert!(old.prices.is_empty());
        // From the next epoch on jobs cost something.
        let mut journal = first.clone();
        for command in [
            Command::Adopt {
                epoch: 1,
                policy: shipped.clone(),
            },
            Command::Close { epoch: 0 },
        ] {
            let Ok(Answer::New(record)) = ledger.execute(2, &command, 5_000) else {
                panic!("{command:?}");
            };
            if let Outcome::Closed { close } = &record.outcome {
                assert_eq!(close.policy, named);
            }
            journal.extend_from_slice(&record.bytes);
        }
        assert!(ledger.knows(close_id(0)));
        assert_eq!(ledger.policy(), Ok(&shipped));
        let head = ledger.head();
        let again = audit(&journal, signatures, Some(&head)).expect("is sound");
        assert_eq!(again.policy(), Ok(&shipped));
        // Bytes that end anywhere else are of no format.
        for cut in [1, 3, 5, 20] {
            let body = 17 + policy.len();
            let end = first.len() - 32;
            let mut short = first[..56 + body - cut].to_vec();
            short.extend_from_slice(&first[56 + body..end]);
            let length = (short.len() + 32 - 4) as u32;
            short[..4].copy_from_slice(&length.to_be_bytes());
            short[52..56].copy_from_slice(&((body - cut) as u32).to_be_bytes());
            let digest = Sha256::digest(&short);
            short.extend_from_slice(&digest);
            assert!(audit(&short, signatures, None).is_err(), "{format}, {cut}");
        }
    }
}

/// What the third format has mended is not mended afterwards in a journal of before: whoever executes it again finds what was paid
/// then. A stake of the last second earns for its epoch, and a fee backs storage in its own.
#[test]
fn a_journal_of_before_pays_by_the_rules_of_before() {
    let policy = policy(&[]);
    let open = Command::Open {
        policy: policy.clone(),
    };
    let Ok(Answer::New(record)) = ledger().execute(1, open, 5) else {
        panic!("a ledger opens once");
    };
    let mut bytes = record.bytes.clone();
    // Prices stay where they are: only the number of the format goes.
    let length = u32::from_be_bytes(bytes[52..56].try_into().expect("four bytes")) as usize;
    bytes.drain(56 + length - 4..56 + length);
    let shorter = |of: u32| (of - 4).to_be_bytes();
    let whole = u32::from_be_bytes(bytes[..4].try_into().expect("four bytes"));
    bytes[..4].copy_from_slice(&shorter(whole));
    bytes[52..56].copy_from_slice(&shorter(length as u32));
    let end = bytes.len() - 32;
    let digest = Sha256::digest(&bytes[..end]);
    bytes[end..].copy_from_slice(&digest);
    let before = audit(&bytes, Signatures::Verify(verify), None).expect("is sound");
    assert_eq!(before.policy().expect("is open").format, 2);

    let mut after = ledger();
    let opened = after.execute(1, Command::Open { policy }, 5);
    opened.expect("is new");
    let [before, after] = [before, after].map(|ledger| {
        let mut bench = Bench::of(ledger, 5);
        for (party, owner) in [(0, 0), (14, 14), (15, 15)] {
            bench.done(register(party, owner));
        }
        bench.give(Account::StakingPool, 1 << 50);
        bench.give(Account::StorageFund, 1 << 50);
        bench.give(Account::Free { party: 15 }, 1 << 40);
        bench.job(0, 14, None, 0, 1_000_000);
        // The last second of the epoch.
        let (_, closes) = bench.ledger.epoch().expect("is open");
        bench.now = closes - 1;
        bench.done(Command::Stake {
            party: 15,
            amount: 1 << 40,
        });
        let staking = bench.close().staking;
        bench.event(
            0,
            Deed::Release {
                party: 14,
                bytes: 1 << 40,
                held_s: 100_000,
                returned_s: 3_600,
            },
        );
        (staking, bench.close().storage)
    });
    // 2^40 at 7 % for an hour, and for a second; 5 % of the fee.
    assert_eq!(before, (8_786_051, 0));
    assert_eq!(after, (2_440, 50_000));
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    for (from, to, reason) in [
        (
            "nodes = 5000 # share",
            "nodes = 5002",
            "shares: 5002 + 2500 + 2499 = 10001, expected at most 10000 basis points of the budget",
        ),
        (
            "treasury = 1497",
            "treasury = 1498",
            "fees: 7001 + 999 + 503 + 1498 = 10001, expected 10000 basis points",
        ),
        (
            "nodes = 5000 # ceiling",
            "nodes = 6000",
            "ceilings: a job of 1000 units could bring 6000 + 1500 + 2000 + 500 = 10000 basis points of its \
             fee and 3 units of rounding: 1003.000, expected at most the fee",
        ),
        (
            "min = \"1_000\"",
            "min = \"29\"",
            "ceilings: a job of 29 units could bring 5000 + 1500 + 2000 + 500 = 9000 basis points of its fee \
             and 3 units of rounding: 29.100, expected at most the fee",
        ),
        (
            "per_epoch = \"100_003\"",
            "per_epoch = \"50_000_001\"",
            "issuance: 50000001 units in one epoch, expected at most the total of 50000000",
        ),
        (
            "pool_per_year = \"70_000_000_000_000_000\"",
            "pool_per_year = \"69_999_999_999_999\"",
            "staking: 1000000000000000 staked at 700 basis points earn 70000000000000 units a year, expected \
             at most pool_per_year of 69999999999999",
        ),
        (
            "lock_s = 7200\nunbonding_s = 3600",
            "lock_s = 599\nunbonding_s = 3000",
            "staking: lock_s of 599 + unbonding_s of 3000 = 3599 seconds, expected at least the 3600 of an epoch",
        ),
        (
            "storage = 500 # ceiling",
            "storage = 504",
            "storage: ceilings.storage promises 504 basis points of a fee, expected at most the 503 that fees.storage brings",
        ),
        (
            "[9000, 9001]",
            "[9000, 2499]",
            "success.curve[2]: expected a weight of 2500 or more, got 2499",
        ),
        (
            "[5000, 2500]",
            "[0, 2500]",
            "success.curve[1]: expected more than 0, got 0",
        ),
        (
            "[10000, 10000]",
            "[10000, 10001]",
            "success.curve[3]: expected a weight of at most 10000, got 10001",
        ),
        (
            "scenarios_min = 0",
            "scenarios_min = 1",
            "tiers[0]: expected to begin at 0, got 1",
        ),
        (
            "id = 9",
            "id = 1",
            "classes.reused.id: expected a number that no other class has, got 1",
        ),
        (
            "length_s = 3600",
            "length_s = 0",
            "epoch.length_s: expected 1 to 315360000, got 0",
        ),
        (
            "wei = \"1\"",
            "wei = \"0\"",
            "offset.wei: expected 1 to 79228162514264337593543950336, got 0",
        ),
        (
            "split = 5000",
            "split = 10001",
            "reinvest.split: expected 0 to 10000, got 10001",
        ),
        (
            "class = \"light\"",
            "class = \"lite\"",
            "prices.play.class: expected the name of one of the classes, got 4",
        ),
        (
            "proof = \"2_000\"",
            "proof = \"0\"",
            "prices.play.proof: expected 1 to 79228162514264337593543950336, got 0",
        ),
    ] {
        match Policy::parse(&text(&[(from, to)])) {
            Err(error) => assert_eq!(error.to_string(), reason),
            Ok(_) => panic!("{to} was taken"),
        }
    }
    // The form: a number without quotes, an unknown key, a missing one, one that is no number.
    for (from, to, says) in [
        ("per_epoch = \"100_003\"", "per_epoch = 100003", "per_epoch"),
        ("split = 5000", "split = 5000\nspilt = 3", "spilt"),
        ("split = 5000", "", "split"),
        ("era = \"2000\"", "era = \"2 000\"", "2 000"),
        ("era = \"2000\"", "era = \"-1\"", "-1"),
        ("era = \"2000\"", "era = \"\"", "whole number"),
    ] {
        let error = Policy::parse(&text(&[(from, to)]))
            .expect_err(to)
            .to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
    let long = "#".repeat(2 << 20);
    assert!(Policy::parse(&long).is_err());
}
