//! What is taken back has never been: a group that could not be written leaves no trace, and the same again comes to the same. And whom
//! an event has earned something is who has earned something by it.

use std::collections::BTreeSet;

use caldera_scheduler::ledger::command::{Deed, Party};
use caldera_scheduler::ledger::{Answer, Command, Ledger};

use crate::world::{World, ledger};

#[test]
fn what_is_taken_back_has_never_been() {
    for seed in 70..74 {
        let (mut world, mut ledger, mut undone) = (World::new(seed), ledger(), 0);
        for group in 0..400 {
            let mut kept = ledger.clone();
            let size = 1 + world.random.below(16);
            let mut commands = Vec::new();
            ledger.mark();
            for _ in 0..size {
                let (id, command) = world.next(&ledger);
                let answer = ledger.execute(id, &command, world.now);
                world.learn(id, &command, &answer);
                commands.push((id, command, world.now));
            }
            if world.random.one_in(2) {
                ledger.confirm();
                // What is confirmed is not taken back any more.
                let head = ledger.head();
                ledger.undo();
                assert_eq!(ledger.head(), head, "seed {seed}, group {group}");
                continue;
            }
            // A hash on the way is of no consequence.
            if world.random.one_in(2) {
                let _ = ledger.state_hash();
            }
            ledger.undo();
            undone += 1;
            assert_eq!(ledger.head(), kept.head(), "seed {seed}, group {group}");
            assert_eq!(
                ledger.state_hash(),
                kept.state_hash(),
                "seed {seed}, group {group}"
            );
            for (id, command, now) in &commands {
                assert_eq!(
                    ledger.execute(*id, command, *now),
                    kept.execute(*id, command, *now),
                    "seed {seed}, group {group}: {command:?}"
                );
            }
            assert_eq!(ledger.state_hash(), kept.state_hash());
        }
        assert!(undone > 100, "only {undone} were taken back");
        let (epoch, _) = ledger.epoch().expect("is open");
        assert!(epoch > 10, "seed {seed} closes epochs");
    }
}

/// Nothing is kept of what happens without a mark, and a mark takes the place of the one before.
#[test]
fn a_mark_is_one() {
    let (mut world, mut ledger) = (World::new(75), ledger());
    let step = |world: &mut World, ledger: &mut Ledger| {
        loop {
            let (id, command) = world.next(ledger);
            let answer = ledger.execute(id, &command, world.now);
            world.learn(id, &command, &answer);
            if matches!(answer, Ok(Answer::New(_))) {
                return;
            }
        }
    };
    step(&mut world, &mut ledger);
    ledger.undo();
    assert_eq!(ledger.head().records, 1);
    ledger.mark();
    step(&mut world, &mut ledger);
    ledger.mark();
    step(&mut world, &mut ledger);
    ledger.undo();
    assert_eq!(ledger.head().records, 2);
    ledger.undo();
    assert_eq!(ledger.head().records, 2);
    // Back to nothing at all.
    let mut new = crate::world::ledger();
    new.mark();
    let (mut world, mut old) = (World::new(76), new.clone());
    step(&mut world, &mut new);
    assert!(new.epoch().is_ok());
    new.undo();
    assert!(new.epoch().is_err());
    assert_eq!(new.state_hash(), old.state_hash());
}

/// Weights of developers, users and storage; those of nodes depend on how other jobs of their owners went.
fn weights(ledger: &Ledger, now: u64) -> [Vec<(Party, u128)>; 3] {
    let [_, developers, users, storage] = ledger.streams(now).expect("is open");
    [developers, users, storage].map(|stream| {
        let parties = stream.parties.iter();
        parties.map(|it| (it.party, it.weight)).collect()
    })
}

#[test]
fn whom_an_event_earns_something_is_who_has_earned_by_it() {
    let (mut jobs, mut nothing) = (0, 0);
    for seed in 77..80 {
        let (mut world, mut ledger) = (World::new(seed), ledger());
        for _ in 0..4_000 {
            let (id, command) = world.next(&ledger);
            let now = world.now;
            let Command::Meter { event, .. } = &command else {
                let answer = ledger.execute(id, &command, now);
                world.learn(id, &command, &answer);
                continue;
            };
            let before = weights(&ledger, now);
            let payer = event.hold().and_then(|hold| ledger.hold(hold));
            let payer = payer.map(|(party, ..)| party);
            let policy = ledger.policy().expect("is open").clone();
            let answer = ledger.execute(id, &command, now);
            world.learn(id, &command, &answer);
            if !matches!(answer, Ok(Answer::New(_))) {
                continue;
            }
            let after = weights(&ledger, now);
            let changed = |at: usize| {
                let (before, after) = (&before[at], &after[at]);
                let new = after.iter().filter(|it| !before.contains(it));
                new.map(|(party, _)| *party).collect::<BTreeSet<Party>>()
            };
            let earners = ledger.earners(event, payer, &policy);
            let earners: BTreeSet<Party> = earners.into_iter().collect();
            let seen: BTreeSet<Party> = (0..3).flat_map(changed).collect();
            match event.what {
                Deed::Proof { .. } | Deed::Reuse { .. } => {
                    let mut others = earners.clone();
                    let own = others.remove(&event.node);
                    // Backing may make room for what storage is due.
                    let by_job: BTreeSet<Party> = (0..2).flat_map(changed).collect();
                    assert_eq!(by_job, others, "seed {seed}: {event:?}");
                    let [nodes, ..] = ledger.streams(now).expect("is open");
                    let weighs = nodes.parties.iter().any(|it| it.party == event.node);
                    assert!(!own || weighs, "seed {seed}: {event:?}");
                    jobs += usize::from(own);
                    nothing += usize::from(!own);
                }
                // A due may be cut to nothing, or be below a unit.
                Deed::Release { .. } => assert!(seen.is_subset(&earners), "seed {seed}: {event:?}"),
                Deed::Failure { .. } => assert!(earners.is_empty() && seen.is_empty()),
            }
        }
    }
    assert!(jobs > 100 && nothing > 20, "{jobs} and {nothing}");
}
