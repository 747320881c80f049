//! A journal that was flipped, cut, reordered or added to is found, and where.

use caldera_scheduler::ledger::journal::{Audit, Bad, Fault, audit, next, parts};
use caldera_scheduler::ledger::merkle;
use caldera_scheduler::ledger::statement::{Statement, explain};
use caldera_scheduler::ledger::{
    Answer, Command, Counted, Error, Head, Ledger, Outcome, Record, Signatures,
};
use sha2::{Digest, Sha256};

use crate::world::{World, ledger, verify};

const SIGNED: Signatures = Signatures::Verify(verify);

/// What a random world writes down, and the ledger that has written it.
fn history(seed: u64, operations: u64) -> (Vec<Record>, Ledger) {
    let (mut world, mut ledger, mut records) = (World::new(seed), ledger(), Vec::new());
    for _ in 0..operations {
        let (id, command) = world.next(&ledger);
        let answer = ledger.execute(id, command.clone(), world.now);
        world.learn(id, &command, &answer);
        if let Ok(Answer::New(record)) = answer {
            records.push(record);
        }
    }
    (records, ledger)
}

fn bytes(records: &[Record]) -> Vec<u8> {
    records
        .iter()
        .flat_map(|record| record.bytes.clone())
        .collect()
}

/// What an audit that must not succeed says.
fn bad(journal: &[u8], head: &Head, what: &str) -> Bad {
    match audit(journal, SIGNED, Some(head)) {
        Err(bad) => bad,
        Ok(_) => panic!("{what}: the audit found nothing"),
    }
}

#[test]
fn what_is_executed_again_is_the_same_to_the_last_bit() {
    for seed in 40..46 {
        let (records, mut ledger) = history(seed, 6_000);
        let closes = records
            .iter()
            .filter(|record| matches!(record.outcome, Outcome::Closed { .. }));
        assert!(closes.count() > 50, "seed {seed} closes epochs");
        let journal = bytes(&records);
        for signatures in [SIGNED, Signatures::Checked] {
            let again = audit(&journal, signatures, Some(&ledger.head()));
            let mut again = again.unwrap_or_else(|bad| panic!("seed {seed}: {bad}"));
            assert_eq!(again.state_hash(), ledger.state_hash(), "seed {seed}");
        }
    }
}

#[test]
fn a_refusal_leaves_nothing_behind() {
    let (mut world, mut ledger) = (World::new(50), ledger());
    let mut refused = 0;
    for step in 0..6_000 {
        let (id, command) = world.next(&ledger);
        let before = ledger.clone();
        let answer = ledger.execute(id, command.clone(), world.now);
        if answer.is_err() {
            refused += 1;
            assert_eq!(ledger.head(), before.head());
            let (mut now, mut then) = (ledger.clone(), before);
            assert_eq!(
                now.state_hash(),
                then.state_hash(),
                "step {step}: {command:?}"
            );
        }
        world.learn(id, &command, &answer);
    }
    assert!(refused > 1_000, "only {refused} were refused");
}

#[test]
fn every_flipped_bit_is_found_in_its_record() {
    let (records, ledger) = history(60, 240);
    let journal = bytes(&records);
    assert!(records.len() > 50, "only {} records", records.len());
    let mut damaged = journal.clone();
    let mut at = 0;
    for record in &records {
        for byte in 0..record.bytes.len() {
            // All bits of lengths, places and times, and of all other bytes one.
            let bits = if byte < 20 {
                0..8
            } else {
                byte as u32 % 8..byte as u32 % 8 + 1
            };
            for bit in bits {
                damaged[at + byte] ^= 1 << bit;
                let bad = bad(&damaged, &ledger.head(), "a flipped bit");
                assert_eq!(
                    (bad.record, bad.byte),
                    (record.sequence, at as u64),
                    "bit {bit} of byte {byte} of record {}: {bad}",
                    record.sequence
                );
                damaged[at + byte] ^= 1 << bit;
            }
        }
        at += record.bytes.len();
    }
    assert_eq!(damaged, journal);
}

#[test]
fn every_cut_is_found_where_it_is() {
    let (records, ledger) = history(61, 130);
    let journal = bytes(&records);
    let ends = records.iter().scan(0, |end, record| {
        *end += record.bytes.len();
        Some(*end)
    });
    let ends: Vec<_> = ends.collect();
    for cut in 0..journal.len() {
        let whole = ends.iter().filter(|&&end| end <= cut).count();
        let bad = bad(&journal[..cut], &ledger.head(), "a cut");
        assert_eq!(bad.record, whole as u64, "cut at {cut}: {bad}");
        // At the end of a record only the head shows that something is missing.
        let short = matches!(bad.fault, Fault::Short { .. });
        assert_eq!(
            short,
            cut == 0 || ends.contains(&cut),
            "cut at {cut}: {bad}"
        );
    }
}

#[test]
fn what_is_reordered_inserted_or_left_out_is_found_where_it_is() {
    let (records, ledger) = history(62, 260);
    let head = ledger.head();
    let check = |records: &[Record], at: usize, what: &str| {
        let bad = bad(&bytes(records), &head, what);
        assert_eq!(bad.record, at as u64, "{what} at {at}: {bad}");
    };
    for at in 0..records.len() - 1 {
        let mut swapped = records.to_vec();
        swapped.swap(at, at + 1);
        check(&swapped, at, "two that have changed places");
        let mut less = records.to_vec();
        less.remove(at);
        check(&less, at, "one that was left out");
        let mut twice = records.to_vec();
        twice.insert(at + 1, records[at].clone());
        check(&twice, at + 1, "one that stands there twice");
        let mut other = records.to_vec();
        other.insert(at, records[(at + 7) % records.len()].clone());
        check(&other, at, "one from elsewhere");
    }
}

#[test]
fn a_large_journal_hides_no_flipped_byte() {
    let (records, ledger) = history(63, 20_000);
    let journal = bytes(&records);
    let mut random = crate::world::Random(63);
    // Executing all of it for each would take minutes: each record's own check finds a flip, and what
    // comes before it is executed once.
    let mut sound = Audit::new(SIGNED);
    let (mut at, mut found) = (0, 0);
    for record in &records {
        for _ in 0..2 {
            let byte = random.below(record.bytes.len() as u64) as usize;
            let mut damaged = record.bytes.clone();
            damaged[byte] ^= 1 << random.below(8);
            let fault = match next(&damaged) {
                Ok(framed) => parts(framed).err(),
                Err(fault) => Some(fault),
            };
            // A length that is larger by chance still needs the digest of what it frames.
            assert!(fault.is_some(), "record {} at byte {byte}", record.sequence);
            found += 1;
        }
        sound
            .take(&record.bytes)
            .expect("what was not damaged is sound");
        at += record.bytes.len();
    }
    assert_eq!(at, journal.len());
    assert!(found > 10_000);
    sound
        .finish(Some(&ledger.head()))
        .expect("the whole of it is sound");
}

/// Someone who can compute digests writes a record anew, and all that follow.
fn forged(records: &[Record], at: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = bytes(&records[..at]);
    let mut previous = records[at].bytes[20..52].to_vec();
    let mut change = Some(change);
    for record in &records[at..] {
        let mut inner = record.bytes[..record.bytes.len() - 32].to_vec();
        if let Some(change) = change.take() {
            change(&mut inner);
            let length = inner.len() as u32 + 28;
            inner[..4].copy_from_slice(&length.to_be_bytes());
        }
        inner[20..52].copy_from_slice(&previous);
        previous = Sha256::digest(&inner).to_vec();
        out.extend([inner, previous.clone()].concat());
    }
    out
}

#[test]
fn what_is_written_anew_with_right_digests_must_follow_the_rules() {
    let (records, ledger) = history(64, 3_000);
    let honest = forged(&records, 5, |_| {});
    assert_eq!(honest, bytes(&records), "the forger's tool is right");
    let of = |wanted: fn(&Outcome) -> bool| {
        records
            .iter()
            .position(|record| wanted(&record.outcome))
            .expect("a long history")
    };
    let close = of(|outcome| matches!(outcome, Outcome::Closed { close } if close.payouts > 0));
    let claim = of(|outcome| matches!(outcome, Outcome::Moved { .. }));
    for (at, what) in [(close, "a close"), (claim, "a claim")] {
        // The last byte of the outcome: a sum, or a hash of the state.
        let journal = forged(&records, at, |inner| {
            *inner.last_mut().expect("not empty") ^= 1
        });
        let bad = bad(&journal, &ledger.head(), what);
        assert_eq!(bad.record, at as u64, "{what}: {bad}");
        assert!(matches!(bad.fault, Fault::Outcome { .. }), "{what}: {bad}");
    }
    // One that follows another record than the one before it.
    let mut journal = bytes(&records[..claim]);
    let mut inner = records[claim].bytes.clone();
    inner.truncate(inner.len() - 32);
    inner[30] ^= 1;
    let digest = Sha256::digest(&inner);
    journal.extend([inner, digest.to_vec()].concat());
    let found = bad(&journal, &ledger.head(), "a predecessor");
    assert_eq!((found.record, found.fault), (claim as u64, Fault::Chain));
    // A time in the past.
    let journal = forged(&records, claim, |inner| inner[12..20].fill(0));
    let found = bad(&journal, &ledger.head(), "a time");
    assert!(matches!(found.fault, Fault::Time { .. }), "{found}");
    // A signature that is not the node's.
    let signed = records.iter().position(|record| {
        let parts = parts(&record.bytes).expect("sound");
        matches!(parts.command, Command::Meter { .. })
    });
    let signed = signed.expect("a long history");
    let journal = forged(&records, signed, |inner| {
        // Before the outcome's length and its tag.
        let at = inner.len() - 6;
        inner[at] ^= 1;
    });
    let found = bad(&journal, &ledger.head(), "a signature");
    assert_eq!(found.record, signed as u64);
    assert!(
        matches!(found.fault, Fault::Refused(Error::Signature { .. })),
        "{found}"
    );
    // Another history that is right in itself: only its head is another.
    let (others, _) = history(65, 3_000);
    let found = bad(&bytes(&others), &ledger.head(), "another history");
    assert!(
        matches!(found.fault, Fault::OtherJournal | Fault::Short { .. }),
        "{found}"
    );
}

#[test]
fn a_statement_adds_up_and_a_payout_is_explained() {
    let (records, ledger) = history(66, 4_000);
    let journal = bytes(&records);
    let mut explained = 0;
    for party in [0, 9, 15, 20] {
        let statement = Statement::of(&journal, party).expect("a sound journal");
        let view = ledger.party(party).expect("is there");
        for (purse, is) in [
            ("free", view.free),
            ("held", view.held),
            ("staked", view.staked),
            ("payable", view.payable),
        ] {
            let mut lines = statement.lines.iter().filter(|line| line.purse == purse);
            let sum: i128 = lines.clone().map(|line| line.change).sum();
            assert_eq!(sum, is.cast_signed(), "{purse} of {party}");
            assert_eq!(lines.next_back().map_or(0, |line| line.balance), sum);
        }
        let paid = statement
            .lines
            .iter()
            .filter(|line| line.purse == "payable" && line.what == "close");
        for line in paid.take(3) {
            let record = &records[line.record as usize];
            let Outcome::Closed { close } = &record.outcome else {
                panic!("record {} is a close", line.record);
            };
            let why = explain(&journal, close.epoch, party).expect("was closed");
            assert_eq!(why.amount.cast_signed(), line.change);
            assert_eq!(why.policy, close.policy);
            assert!(!why.events.is_empty(), "nobody is paid for nothing");
            // And it is proved to be one of the payouts of which the close has the root.
            assert_eq!((why.closed_by, why.root), (close.last, close.root));
            let (leaf, path) = why.leaf.expect("was paid");
            assert_eq!(leaf.amount, why.amount);
            assert!(merkle::verify(&leaf, &path, &why.root));
            let within = |(record, _): &(u64, _)| (close.first..close.last).contains(record);
            assert!(why.events.iter().all(within));
            // What it is weighed with is what its policy makes of what is counted, and nothing else.
            let mut before = Audit::new(Signatures::Checked);
            for record in &records[..line.record as usize] {
                before.take(&record.bytes).expect("a sound journal");
            }
            let policy = before.ledger().policy().expect("is open");
            for (at, stream) in why.streams.iter().enumerate() {
                for own in &stream.parties {
                    let (of, factor) = match own.counted {
                        Counted::Jobs {
                            successes,
                            failures,
                        } => (0, policy.success_factor(successes, failures)),
                        Counted::Scenarios(scenarios) => (1, policy.tier(scenarios)),
                        Counted::Nothing => (at.max(2), 1),
                    };
                    assert_eq!((at, own.factor), (of, factor), "{own:?}");
                    assert_eq!(own.weight, own.work * u128::from(factor));
                    assert!(own.work > 0);
                }
            }
            explained += 1;
        }
    }
    assert!(explained > 5, "only {explained} were explained");
}
