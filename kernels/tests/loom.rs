//! Every interleaving of a worker that begins a piece of work on a device with those who take its plan away from there, by the
//! model checker. `make test-models` runs it; without the flag `--cfg loom` this file is empty.
//!
//! Danger: a plan that is gone under the work, or taken by two; work that begins with none; a plan that nobody takes though it is
//! over. The word that decides is the relay's own source, with loom's atomics in the place of std's.

#![allow(unexpected_cfgs)]
#![cfg(loom)]

#[path = "../src/relay/standing.rs"]
mod standing;

mod primitive {
    pub(crate) use loom::sync::atomic::{AtomicU8, Ordering};
}

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::thread;

use standing::Standing;

/// A member's plan. Who touches the cell without having been first is found by the model.
struct Plan {
    standing: Standing,
    is_over: AtomicBool,
    is_there: UnsafeCell<bool>,
    taken: AtomicUsize,
}

impl Plan {
    fn new() -> Arc<Plan> {
        Arc::new(Plan {
            standing: Standing::new(true),
            is_over: AtomicBool::new(false),
            is_there: UnsafeCell::new(true),
            taken: AtomicUsize::new(0),
        })
    }

    /// As `let_go` does; whether it is this one who took it.
    fn take(&self) -> bool {
        let taken = self.standing.take(|| self.is_over.load(Ordering::Acquire));
        if taken {
            self.is_there.with_mut(set_gone);
            self.taken.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// As a worker does with the first quantum and the last; whether it could begin.
    fn work(&self) -> bool {
        let begun = self.standing.begin();
        if begun {
            assert!(self.is_there.with(is_there), "it is gone under the work");
        }
        begun
    }

    fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

#[allow(unsafe_code)]
fn set_gone(plan: *mut bool) {
    // SAFETY: loom's cell fails the test if anybody else is at it.
    unsafe { *plan = false }
}

#[allow(unsafe_code)]
fn is_there(plan: *const bool) -> bool {
    // SAFETY: as above.
    unsafe { *plan }
}

#[test]
fn it_is_begun_or_gone_and_stays_so_until_it_is_over() {
    loom::model(|| {
        let plan = Plan::new();
        assert!(plan.standing.is_there());
        assert!(plan.work() && plan.work());
        assert!(!plan.take());
        assert!(plan.standing.is_there() && plan.work());
        plan.end();
        assert!(plan.take());
        assert!(!plan.take(), "one takes it");
        assert!(!plan.standing.is_there() && !plan.work());
        let plan = Plan::new();
        assert!(plan.take(), "nothing has begun");
        assert!(!plan.work());
        assert!(!Standing::new(false).begin());
    });
}

#[test]
fn whoever_comes_first_has_it() {
    loom::model(|| {
        let plan = Plan::new();
        let takers = [(); 2].map(|()| {
            let plan = Arc::clone(&plan);
            thread::spawn(move || plan.take())
        });
        let begun = plan.work();
        if begun {
            plan.end();
        }
        for taker in takers {
            taker.join().unwrap();
        }
        // Whoever looks when it is over finds it, if nobody has before.
        plan.take();
        assert_eq!(plan.taken.load(Ordering::Relaxed), 1);
        assert!(!plan.work());
    });
}

/// Two workers that may both begin, as two lanes do, and the last of whom ends it.
#[test]
fn it_stays_until_all_who_have_begun_have_ended() {
    loom::model(|| {
        let plan = Plan::new();
        let left = Arc::new(AtomicUsize::new(2));
        let work = |plan: &Plan, left: &AtomicUsize| {
            let begun = plan.work();
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                plan.end();
            }
            begun
        };
        let other = {
            let (plan, left) = (Arc::clone(&plan), Arc::clone(&left));
            thread::spawn(move || work(&plan, &left))
        };
        let taker = {
            let plan = Arc::clone(&plan);
            thread::spawn(move || plan.take())
        };
        let own = work(&plan, &left);
        let (other, taken) = (other.join().unwrap(), taker.join().unwrap());
        assert!(
            taken || (own && other),
            "it was refused to one, and nobody has it"
        );
        plan.take();
        assert_eq!(plan.taken.load(Ordering::Relaxed), 1);
    });
}
