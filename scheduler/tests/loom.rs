//! Every interleaving of the mailbox's words, by the model checker. `make test-models` runs it;
//! without the flag `--cfg loom` this file is empty.
//!
//! Danger: a worker that runs for an owner after it has seen a newer epoch; an answer whose stamps
//! belong to another epoch than its word; a newest answer that the arbiter never learns.

#![cfg(loom)]

use caldera_scheduler::mailbox::{Answer, Entry, Found, OwnerWord, Ownership};
use caldera_scheduler::{Epoch, Nanos, TenantId};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

fn own(epoch: u32) -> Ownership {
    // The owner is known from the epoch, so that a word made of two halves would be seen.
    Ownership {
        epoch: Epoch(epoch),
        owner: Some(TenantId(100 + epoch)),
    }
}

fn entry(epoch: u32) -> Entry {
    let stamp = u64::from(epoch) * 10;
    Entry {
        epoch: Epoch(epoch),
        drained: Nanos(stamp),
        first: Nanos(stamp + 1),
        found: Found::Work,
    }
}

#[test]
fn a_worker_never_goes_back_to_an_owner() {
    loom::model(|| {
        let word = Arc::new(OwnerWord::new());
        let arbiter = {
            let word = Arc::clone(&word);
            thread::spawn(move || (1..=3).for_each(|epoch| word.publish(own(epoch))))
        };
        let mut newest = 0;
        for _ in 0..3 {
            let seen = word.read();
            assert!(
                seen.epoch.0 >= newest,
                "epoch {} after {newest}",
                seen.epoch.0
            );
            assert!(
                seen.epoch.0 == 0 || seen == own(seen.epoch.0),
                "half a word: {seen:?}"
            );
            newest = seen.epoch.0;
        }
        arbiter.join().unwrap();
        assert_eq!(word.read(), own(3));
    });
}

#[test]
fn what_was_written_before_a_hand_over_is_there_after_it() {
    loom::model(|| {
        let word = Arc::new(OwnerWord::new());
        let order = Arc::new(AtomicUsize::new(0));
        let arbiter = {
            let (word, order) = (Arc::clone(&word), Arc::clone(&order));
            thread::spawn(move || {
                order.store(7, Ordering::Relaxed);
                word.publish(own(1));
            })
        };
        if word.read() == own(1) {
            assert_eq!(
                order.load(Ordering::Relaxed),
                7,
                "the run order of the new owner"
            );
        }
        arbiter.join().unwrap();
    });
}

#[test]
fn stamps_belong_to_their_epoch_and_the_newest_answer_is_learnt() {
    // Three switches against the scheduler's will reach every order of two entries and a look.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let answer = Arc::new(Answer::new());
        let worker = {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                answer.enter(entry(1));
                answer.enter(entry(2));
            })
        };
        if let Some(answered) = answer.read() {
            let epoch = answered.entry.epoch.0;
            assert!(
                epoch == 0 || answered.entry == entry(epoch),
                "mixed: {answered:?}"
            );
            let start = (Nanos(0), Nanos(0));
            assert!(epoch != 0 || (answered.entry.drained, answered.entry.first) == start);
        }
        worker.join().unwrap();
        assert_eq!(answer.read().expect("nobody writes").entry, entry(2));
    });
}

#[test]
fn a_change_is_told_with_the_stamps_of_its_entry() {
    loom::model(|| {
        let answer = Arc::new(Answer::new());
        let worker = {
            let answer = Arc::clone(&answer);
            thread::spawn(move || {
                answer.enter(entry(1));
                answer.change(entry(1), Found::Nothing);
            })
        };
        if let Some(answered) = answer
            .read()
            .filter(|answered| answered.entry.epoch == Epoch(1))
        {
            assert_eq!(answered.entry, entry(1));
        }
        worker.join().unwrap();
        assert_eq!(answer.read().expect("nobody writes").now, Found::Nothing);
    });
}

#[test]
fn the_arbiter_hears_of_the_answer_to_what_it_published() {
    loom::model(|| {
        let word = Arc::new(OwnerWord::new());
        let answer = Arc::new(Answer::new());
        let worker = {
            let (word, answer) = (Arc::clone(&word), Arc::clone(&answer));
            thread::spawn(move || {
                let mut entered = 0;
                for _ in 0..2 {
                    let seen = word.read();
                    if seen.epoch.0 != entered {
                        entered = seen.epoch.0;
                        answer.enter(entry(entered));
                    }
                }
                entered
            })
        };
        word.publish(own(1));
        // An answer is never ahead of what was published.
        let heard = answer.read().map_or(0, |answered| answered.entry.epoch.0);
        assert!(heard <= 1);
        word.publish(own(2));
        let entered = worker.join().unwrap();
        assert_eq!(answer.read().expect("nobody writes").entry.epoch.0, entered);
    });
}
