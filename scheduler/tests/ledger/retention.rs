//! Who comes back is counted record by record, and must be what sets of whole months say.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use caldera_scheduler::ledger::command::{Deed, Party};
use caldera_scheduler::ledger::journal::{Audit, parts};
use caldera_scheduler::ledger::policy::MONTH;
use caldera_scheduler::ledger::retention::{Group, Kept, Month, Retention};
use caldera_scheduler::ledger::{Answer, Command, Ledger, Record, Signatures};

use crate::world::{Random, World, ledger};

/// A random history in which months pass.
fn history(seed: u64) -> Vec<Record> {
    let (mut world, mut ledger, mut records) = (World::new(seed), ledger(), Vec::new());
    let mut random = Random(seed ^ 0x5eed);
    for _ in 0..OPERATIONS {
        // Days in which nobody does anything, and now and then a whole month.
        if random.one_in(70) {
            world.now += random.below(3 * 86_400);
        }
        if random.one_in(2_000) {
            world.now += 40 * 86_400;
        }
        let (id, command) = world.next(&ledger);
        let answer = ledger.execute(id, command.clone(), world.now);
        world.learn(id, &command, &answer);
        if let Ok(Answer::New(record)) = answer {
            records.push(record);
        }
    }
    records
}

/// The same from sets of who was there in each month. Owners and the smallest fee are the ledger's own,
/// at each record, and holds are never forgotten.
fn brute_force(records: &[Record]) -> BTreeMap<Group, Kept> {
    let mut audit = Audit::new(Signatures::Checked);
    let mut holds = HashMap::new();
    let (mut active, mut rewarded) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        let found = parts(&record.bytes).expect("a record");
        let month = (record.at - records[0].at) / MONTH;
        match found.command {
            Command::Reserve { party, .. } => drop(holds.insert(found.id, party)),
            Command::Claim { party, .. } => drop(rewarded.insert((month, party))),
            Command::Meter { event, .. } => {
                if let Deed::Proof {
                    hold,
                    developer,
                    fee,
                    ..
                }
                | Deed::Reuse {
                    hold,
                    developer,
                    fee,
                    ..
                } = event.what
                {
                    let job = [Some(event.node), Some(holds[&hold]), developer];
                    let here = earning(audit.ledger(), job, fee);
                    active.extend(here.map(|party| (month, party)));
                }
            }
            _ => {}
        }
        audit.take(&record.bytes).expect("a sound record");
    }
    let mut groups: BTreeMap<Group, Kept> = BTreeMap::new();
    for &(month, party) in &active {
        let first = active.iter().find(|(_, other)| *other == party);
        let group = Group {
            cohort: first.map_or(0, |&(first, _)| first as Month),
            month: month as Month,
            rewarded: rewarded.contains(&(month, party)),
        };
        let kept = groups.entry(group).or_default();
        kept.active += 1;
        kept.kept += u64::from(active.contains(&(month + 1, party)));
    }
    groups
}

/// Of node, requester and developer those for whom a job of this fee counts.
fn earning(
    ledger: &Ledger,
    job: [Option<Party>; 3],
    fee: u128,
) -> impl Iterator<Item = Party> + use<> {
    let owner = |party: Party| ledger.party(party).expect("a party").owner;
    let [node, requester, developer] = job.map(|party| party.map(owner));
    let paid = fee >= ledger.policy().expect("open").fees.min && node != requester;
    let own = developer == requester;
    let counts = [paid, paid && !own, paid && !own];
    let parties = job.into_iter().zip(counts);
    parties.filter_map(|(party, counts)| party.filter(|_| counts))
}

#[test]
fn who_comes_back_is_counted_to_the_last_party() {
    let mut seen = (0, 0, 0, 0);
    for seed in 60..63 {
        let records = history(seed);
        let expected = brute_force(&records);
        let journal: Vec<u8> = records.iter().flat_map(|r| r.bytes.clone()).collect();
        let retention = Retention::of(&journal).expect("a sound journal");
        let found: BTreeMap<_, _> = retention.groups().collect();
        assert_eq!(found, expected, "seed {seed}");
        // It is the same at every point of the way, not at the end alone.
        let half = &records[..records.len() / 2];
        let mut retention = Retention::default();
        for record in half {
            let found = parts(&record.bytes).expect("a record");
            retention.take(found.at, found.id, &found.command);
        }
        let found: BTreeMap<_, _> = retention.groups().collect();
        assert_eq!(found, brute_force(half), "half of seed {seed}");
        for (group, kept) in &expected {
            seen.0 = seen.0.max(group.month);
            seen.1 += u64::from(kept.kept > 0 && group.rewarded);
            seen.2 += u64::from(kept.kept > 0 && !group.rewarded);
            seen.3 += u64::from(kept.kept < kept.active);
        }
    }
    let (months, rewarded, unrewarded, lost) = seen;
    assert!(months > 10, "{months} months are too few");
    assert!(rewarded > 10 && unrewarded > 10 && lost > 10, "{seen:?}");
}

const OPERATIONS: u32 = 12_000;
