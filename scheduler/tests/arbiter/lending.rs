//! Jobs that are let go, to be proved elsewhere: which, and what is left of them.

use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::{Action, Arbiter, Event, JobId, Nanos, Policy, Pool, TenantId};

use crate::{edited, ms};

const TENANT: TenantId = TenantId(7);

/// One core, one tenant, and one witness in memory at a time.
struct OneCore {
    arbiter: Arbiter,
    now: Nanos,
    actions: Vec<Action>,
}

impl OneCore {
    fn new() -> OneCore {
        let policy = edited(|classes, _| classes.iter_mut().for_each(|it| it.prepared_max = 1));
        let mut this = OneCore {
            arbiter: Arbiter::new(Pool::new(&[0]).expect("a pool"), policy),
            now: ms(1_000),
            actions: Vec::new(),
        };
        let class = Policy::standard().find("financial").expect("standard");
        let tenant = TENANT;
        this.tell(Event::TenantJoined { tenant, class });
        this
    }

    fn tell(&mut self, event: Event) {
        self.arbiter.handle(event, self.now, &mut self.actions);
    }

    /// A job of a second of the core, received at a time.
    fn submit(&mut self, job: u64, deadline: Option<Nanos>, received: Nanos) {
        let work = Work {
            core: ms(1_000),
            parallelism: 1,
            ..Work::default()
        };
        self.tell(Event::Submitted {
            job: JobId(job),
            tenant: TENANT,
            work,
            deadline,
            received,
        });
        let admitted = Action::Admit { job: JobId(job) };
        assert!(self.actions.contains(&admitted), "{:?}", self.actions);
        self.actions.clear();
    }

    fn lend(&mut self, job: u64, after: Nanos) -> bool {
        let lent = self
            .arbiter
            .lend(JobId(job), after, self.now, &mut self.actions);
        assert!(!lent || self.arbiter.job(JobId(job)).is_none());
        self.arbiter.check().expect("the invariants");
        lent
    }
}

#[test]
fn what_the_own_cores_reach_in_time_is_kept() {
    let mut it = OneCore::new();
    for job in 1..=4 {
        it.submit(job, None, ms(1_000));
    }
    // The first is on its way into memory, and the others begin after one, two and three seconds.
    assert!(!it.lend(1, Nanos::ZERO), "it has been begun");
    assert!(!it.lend(3, ms(2_000)), "it begins after two seconds");
    assert!(it.lend(4, ms(2_000)));
    assert!(it.lend(3, ms(1_999)));
    assert!(!it.lend(3, Nanos::ZERO), "it is gone");
    it.tell(Event::Ready { job: JobId(1) });
    assert!(!it.lend(1, Nanos::ZERO), "it runs");
    let counters = it.arbiter.counters();
    assert_eq!(
        (counters.lent, counters.cancelled, counters.stray),
        (2, 0, 0)
    );
}

#[test]
fn what_would_miss_its_deadline_is_let_go_at_once() {
    let mut it = OneCore::new();
    it.submit(1, None, ms(1_000));
    // Nobody knows what they cost, so none is refused for its deadline.
    let work = Work {
        parallelism: 1,
        ..Work::default()
    };
    for (job, deadline) in [(2, ms(1_500)), (3, ms(60_000))] {
        it.tell(Event::Submitted {
            job: JobId(job),
            tenant: TENANT,
            work,
            deadline: Some(deadline),
            received: ms(1_000),
        });
    }
    it.actions.clear();
    let never = ms(1_000_000);
    it.now = ms(1_600);
    assert!(it.lend(2, never), "its deadline has passed");
    assert!(!it.lend(3, never));
}

/// A job that comes back is submitted with the time at which it was received first.
#[test]
fn what_comes_back_stands_where_it_stood() {
    let mut it = OneCore::new();
    for job in 1..=3 {
        it.submit(job, None, ms(100 * job));
    }
    assert_eq!(it.arbiter.job(JobId(2)).map(|job| job.ahead), Some(1));
    assert!(it.lend(2, Nanos::ZERO));
    assert_eq!(it.arbiter.job(JobId(3)).map(|job| job.ahead), Some(1));
    it.submit(4, None, ms(1_000));
    it.submit(2, None, ms(200));
    let ahead = [2, 3, 4].map(|job| it.arbiter.job(JobId(job)).map(|job| job.ahead));
    assert_eq!(ahead, [Some(1), Some(2), Some(3)]);
}

/// A job that was admitted before keeps its place and its cost, whether its deadline can still be met or not: whoever would
/// make it late is refused as before.
#[test]
fn what_was_admitted_before_is_not_refused_and_counts() {
    let mut it = OneCore::new();
    let work = |core| Work {
        core,
        parallelism: 1,
        ..Work::default()
    };
    let again = |it: &mut OneCore, job, core, deadline| {
        it.tell(Event::Resubmitted {
            job: JobId(job),
            tenant: TENANT,
            work: work(core),
            deadline,
            received: ms(500),
        });
        std::mem::take(&mut it.actions)
    };
    let new = |it: &mut OneCore, job, core, deadline| {
        it.tell(Event::Submitted {
            job: JobId(job),
            tenant: TENANT,
            work: work(core),
            deadline: Some(deadline),
            received: it.now,
        });
        std::mem::take(&mut it.actions)
    };
    let admitted = |job| Action::Admit { job: JobId(job) };
    let refused = |job, earliest| Action::Refuse {
        job: JobId(job),
        reason: Refusal::DeadlineUnmeetable { earliest },
        retry_after: None,
    };
    // It is late already, and needs a second.
    let actions = again(&mut it, 1, ms(1_000), Some(ms(900)));
    assert!(actions.contains(&admitted(1)), "{actions:?}");
    let actions = new(&mut it, 2, ms(200), ms(2_199));
    assert!(actions.contains(&refused(2, ms(2_200))), "{actions:?}");
    // One that comes home and will be on time, unless somebody is put before it.
    let actions = again(&mut it, 3, ms(1_000), Some(ms(3_100)));
    assert!(actions.contains(&admitted(3)), "{actions:?}");
    let actions = new(&mut it, 4, ms(200), ms(3_000));
    assert!(actions.contains(&refused(4, ms(3_200))), "{actions:?}");
    let actions = new(&mut it, 5, ms(100), ms(3_000));
    assert!(actions.contains(&admitted(5)), "{actions:?}");
    // The other refusals are as they were.
    let actions = again(&mut it, 3, ms(1), None);
    let reason = Refusal::DuplicateJob;
    let twice = |it: &Action| matches!(it, Action::Refuse { reason: got, .. } if *got == reason);
    assert!(actions.iter().any(twice), "{actions:?}");
}
