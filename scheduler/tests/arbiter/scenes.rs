//! Stories with a known end.

use caldera_scheduler::arbiter::{Cause, Outcome, TenantRefusal};
use caldera_scheduler::mailbox::{Entry, Found};
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::scenario::Share;
use caldera_scheduler::{
    Action, Arbiter, Epoch, Event, JobId, Nanos, Policy, Pool, TenantId, UnitId,
};

use crate::simulated::{QUANTUM, SimulatedBox, WIRE};
use crate::{FINANCIAL, SOCIAL, edited, ms, two_tenants};

#[test]
fn a_financial_peak_takes_both_units_and_gives_them_back() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.submit(1, SOCIAL, ms(10_000), 2);
    simulated.run(ms(1_000));
    assert_eq!(simulated.owners(), [Some(SOCIAL), Some(SOCIAL)]);

    simulated.submit(2, FINANCIAL, ms(400), 2);
    let peak = simulated.now;
    simulated.run(ms(100));
    assert_eq!(simulated.owners(), [Some(FINANCIAL), Some(FINANCIAL)]);
    let records: Vec<_> = simulated
        .reallocations
        .iter()
        .filter(|r| r.t0 > ms(500))
        .collect();
    assert_eq!(records.len(), 2);
    for record in records {
        assert_eq!(
            record.t0,
            Nanos(peak.0 - WIRE.0),
            "the time begins with the demand"
        );
        assert_eq!(
            (record.from, record.to),
            (Some(TenantId(SOCIAL)), TenantId(FINANCIAL))
        );
        assert_eq!(record.cause, Cause::Demand);
        assert!(record.total() <= QUANTUM.plus(WIRE), "{record:?}");
        assert!(!record.missed);
    }

    simulated.run(ms(110));
    assert_eq!(
        simulated.finished,
        [JobId(2)],
        "400 ms on both cores take 200 ms"
    );
    assert_eq!(simulated.owners(), [Some(SOCIAL), Some(SOCIAL)]);
    assert_eq!(
        simulated.reallocations.last().map(|r| r.cause),
        Some(Cause::Release)
    );
    assert_eq!(simulated.counters().missed, 0);
}

#[test]
fn one_core_is_shared_by_turns_as_the_rates_say() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit(1, SOCIAL, ms(100_000), 1);
    simulated.submit(2, FINANCIAL, ms(100_000), 1);
    simulated.run(ms(20_000));
    // Guarantees of 0.40 and 0.02, and 1/65 of the 0.58 over: 2.9 % of 20 s.
    let social = simulated.had[&TenantId(SOCIAL)];
    assert!((ms(540)..ms(620)).contains(&social), "social had {social}");
    // A turn is a slice at least, a tick and a quantum longer at most; and then one core.
    let turns: Vec<_> = simulated
        .reallocations
        .iter()
        .filter(|r| r.cause == Cause::Turn)
        .collect();
    assert!(turns.len() >= 20);
    for pair in turns.windows(2) {
        assert!(pair[1].decided.since(pair[0].decided) >= ms(25));
        assert_ne!(pair[0].to, pair[1].to);
    }
    assert!(simulated.waited[&TenantId(SOCIAL)] <= ms(2_000));
}

#[test]
fn equals_alternate() {
    let mut simulated = SimulatedBox::new(1, Policy::standard());
    for tenant in [1, 2, 3] {
        simulated.join(tenant, "retail");
        simulated.submit(u64::from(tenant), tenant, ms(100_000), 4);
    }
    simulated.run(ms(3_000));
    for tenant in [1, 2, 3] {
        let had = simulated.had[&TenantId(tenant)];
        assert!(
            (ms(930)..ms(1_070)).contains(&had),
            "tenant {tenant} had {had}"
        );
        let waited = simulated.waited[&TenantId(tenant)];
        assert!(waited <= ms(100), "tenant {tenant} waited {waited}");
    }
}

#[test]
fn the_lowest_class_waits_no_longer_than_its_bound_under_a_permanent_peak() {
    // Everything is promised to others, so only its age speaks for the social tenant.
    let policy = edited(|classes, _| {
        classes[0].guarantee = Share::from_percent(70);
        classes[3].guarantee = Share::NONE;
    });
    let bound = policy.classes()[3].ageing_max;
    let mut simulated = two_tenants(1, policy);
    simulated.join(3, "supply_chain");
    simulated.join(4, "retail");
    for tenant in [FINANCIAL, SOCIAL, 3, 4] {
        simulated.submit(u64::from(tenant), tenant, ms(100_000), 1);
    }
    simulated.run(ms(20_000));
    let waited = simulated.waited[&TenantId(SOCIAL)];
    assert!(waited <= bound.plus(ms(2 * 25)), "social waited {waited}");
    assert!(simulated.had[&TenantId(SOCIAL)] >= ms(200));
    assert!(
        simulated
            .reallocations
            .iter()
            .any(|r| r.cause == Cause::Ageing)
    );
}

#[test]
fn the_earliest_deadline_runs_first() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit_due(1, SOCIAL, ms(100), 1, Some(ms(9_000)));
    simulated.submit_due(2, SOCIAL, ms(100), 1, Some(ms(5_000)));
    simulated.run(ms(20));
    // A late-comer overtakes what runs; one without a deadline has its class's 120 s.
    simulated.submit(3, SOCIAL, ms(100), 1);
    simulated.submit_due(4, SOCIAL, ms(100), 1, Some(ms(1_000)));
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished, [4, 2, 1, 3].map(JobId));
}

#[test]
fn a_full_queue_refuses_and_its_retry_time_is_good() {
    let policy = edited(|classes, _| classes[3].queue_max = 2);
    let mut simulated = two_tenants(1, policy);
    simulated.submit(1, SOCIAL, ms(300), 1);
    simulated.submit(2, SOCIAL, ms(300), 1);
    simulated.run(ms(100));
    simulated.submit(3, SOCIAL, ms(300), 1);
    let [(JobId(3), Refusal::TenantFull { max: 2 }, Some(retry))] = simulated.refused[..] else {
        panic!("refused: {:?}", simulated.refused);
    };
    assert!(
        (ms(195)..ms(205)).contains(&retry),
        "200 ms of the first job are left: {retry}"
    );
    simulated.run(retry.plus(ms(10)));
    simulated.submit(3, SOCIAL, ms(300), 1);
    assert_eq!(simulated.refused.len(), 1);
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished, [1, 2, 3].map(JobId));
}

#[test]
fn a_full_box_refuses_with_its_own_reason() {
    let policy = edited(|classes, limits| {
        limits.jobs_max = 2;
        classes.iter_mut().for_each(|class| class.queue_max = 2);
    });
    let mut simulated = two_tenants(1, policy);
    simulated.submit(1, SOCIAL, ms(300), 1);
    simulated.submit(2, FINANCIAL, ms(300), 1);
    simulated.submit(3, FINANCIAL, ms(300), 1);
    simulated.submit(4, 77, ms(300), 1);
    simulated.submit(1, SOCIAL, ms(300), 1);
    simulated.submit(5, SOCIAL, ms(300), 0);
    let reasons: Vec<_> = simulated.refused.iter().map(|refused| refused.1).collect();
    let expected = [
        Refusal::BoxFull { max: 2 },
        Refusal::UnknownTenant,
        Refusal::DuplicateJob,
        Refusal::NoParallelism,
    ];
    assert_eq!(reasons, expected);
    assert!(simulated.refused[0].2.is_some());
    assert!(
        simulated.refused[1..]
            .iter()
            .all(|refused| refused.2.is_none())
    );
    assert_eq!(simulated.counters().refused, 4);
}

#[test]
fn an_estimate_is_what_happens() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.submit(1, SOCIAL, ms(400), 2);
    simulated.submit(2, SOCIAL, ms(400), 2);
    simulated.run(ms(101));
    let work = Work {
        core: ms(400),
        parallelism: 2,
        ..Work::default()
    };
    let now = simulated.now;
    let estimate = simulated
        .arbiter
        .estimate(TenantId(SOCIAL), work, None, now)
        .expect("known");
    assert_eq!(estimate.ahead, 2);
    assert_eq!(estimate.run, ms(200));
    simulated.submit(3, SOCIAL, ms(400), 2);
    let span = estimate.finish.since(now);
    simulated.run(Nanos(span.0 * 97 / 100));
    assert!(!simulated.finished.contains(&JobId(3)));
    simulated.run(Nanos(span.0 * 6 / 100));
    assert!(simulated.finished.contains(&JobId(3)));
    assert_eq!(
        simulated.arbiter.estimate(TenantId(9), work, None, now),
        None
    );
}

#[test]
fn no_more_witnesses_in_memory_than_allowed() {
    let mut simulated = two_tenants(1, edited(|classes, _| classes[3].prepared_max = 2));
    for job in 1..=5 {
        simulated.submit(job, SOCIAL, ms(50), 1);
    }
    let prepared = |simulated: &SimulatedBox| {
        simulated
            .log
            .iter()
            .filter(|(_, a)| matches!(a, Action::Prepare { .. }))
            .count()
    };
    assert_eq!(prepared(&simulated), 2);
    simulated.run(ms(60));
    assert_eq!(prepared(&simulated), 3);
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished.len(), 5);
}

#[test]
fn a_tenant_that_is_bounded_to_one_job_leaves_to_others_what_that_one_cannot_use() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.tell(Event::Bounded {
        tenant: TenantId(FINANCIAL),
        running: 1,
    });
    for job in 1..=3 {
        simulated.submit(job, FINANCIAL, ms(100), 1);
    }
    simulated.submit(4, SOCIAL, ms(100), 2);
    let at_once = |simulated: &SimulatedBox| {
        let mut tenants = simulated.arbiter.tenants();
        let it = tenants.find(|it| it.tenant == TenantId(FINANCIAL));
        it.map(|it| (it.queued, it.preparing + it.ready))
    };
    assert_eq!(at_once(&simulated), Some((2, 1)));
    simulated.run(ms(50));
    let mut owners = simulated.owners();
    owners.sort_unstable();
    // Unbounded, the financial tenant would have both.
    assert_eq!(owners, [Some(FINANCIAL), Some(SOCIAL)]);
    simulated.run(ms(100));
    assert_eq!(at_once(&simulated), Some((1, 1)));
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished.len(), 4);
}

#[test]
fn what_was_computed_outside_of_the_pool_counts_as_had() {
    let mut simulated = SimulatedBox::new(1, Policy::standard());
    for tenant in [1, 2, 3] {
        simulated.join(tenant, "retail");
        simulated.submit(u64::from(tenant), tenant, ms(100_000), 4);
    }
    for _ in 0..30 {
        simulated.tell(Event::Charged {
            tenant: TenantId(1),
            core: ms(10),
        });
        simulated.run(ms(100));
    }
    // 3,000 ms here and 300 elsewhere are 1,100 for each.
    for (tenant, expected) in [(1, 800), (2, 1_100), (3, 1_100)] {
        let had = simulated.had[&TenantId(tenant)];
        let about = ms(expected - 70)..ms(expected + 70);
        assert!(about.contains(&had), "tenant {tenant} had {had}");
    }
}

#[test]
fn a_unit_whose_owner_has_nothing_to_run_is_lent() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.submit(1, SOCIAL, ms(10_000), 2);
    simulated.run(ms(10));
    simulated.preparation = ms(500);
    simulated.submit(2, FINANCIAL, ms(100), 2);
    simulated.run(ms(1));
    assert_eq!(
        simulated.owners(),
        [Some(FINANCIAL); 2],
        "its cores are there before its witness"
    );
    simulated.run(ms(20));
    assert_eq!(
        simulated.owners(),
        [Some(SOCIAL); 2],
        "but they do not stand idle"
    );
    let had = simulated.had[&TenantId(SOCIAL)];
    simulated.run(ms(460));
    assert_eq!(simulated.owners(), [Some(SOCIAL); 2]);
    let social = simulated.had[&TenantId(SOCIAL)].since(had);
    assert!(social >= ms(900), "social had {social} of 920 ms");
    simulated.run(ms(40));
    assert_eq!(
        simulated.owners(),
        [Some(FINANCIAL); 2],
        "the witness has come"
    );
}

#[test]
fn a_witness_that_comes_late_finds_its_unit() {
    // Its unit had been idle for longer than the policy's patience when the witness came, and the
    // decision that was to put the unit to use lent it for a slice instead: to nobody, here.
    let mut simulated = two_tenants(3, Policy::standard());
    simulated.join(3, "supply_chain");
    simulated.submit(1, 3, ms(300), 1);
    simulated.submit(2, FINANCIAL, ms(300), 1);
    simulated.run(ms(10));
    simulated.preparation = ms(3);
    simulated.submit(3, 3, ms(10), 2);
    simulated.run(ms(14));
    assert_eq!(
        simulated.finished,
        [JobId(3)],
        "3 ms of waiting, 10 of work"
    );
}

#[test]
fn what_was_lent_comes_back_when_nobody_else_wants_it() {
    // The financial job ends, all wants fit, and no tick is asked for: the retail tenant's unit,
    // lent for a slice, stood idle until something else happened.
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.join(3, "retail");
    simulated.preparation = ms(6);
    simulated.submit(1, 3, ms(1), 1);
    simulated.submit_due(2, 3, ms(51), 1, Some(ms(0)));
    simulated.submit(3, FINANCIAL, ms(1), 2);
    simulated.run(ms(20));
    assert_eq!(simulated.finished, [JobId(3), JobId(1)]);
}

#[test]
fn a_silent_unit_is_fenced_and_the_promise_kept_elsewhere() {
    let mut simulated = two_tenants(3, Policy::standard());
    simulated.submit(1, SOCIAL, ms(10_000), 3);
    simulated.run(ms(10));
    simulated.stall(2, ms(400));
    simulated.run(ms(5));
    simulated.submit(2, FINANCIAL, ms(200), 1);
    let demand = Nanos(simulated.now.0 - WIRE.0);
    assert_eq!(
        simulated.owners()[2],
        Some(FINANCIAL),
        "the unit that will not answer"
    );
    simulated.run(ms(60));
    assert_eq!(simulated.overruns, [UnitId(2)]);
    assert_eq!(simulated.owners(), [Some(SOCIAL), Some(FINANCIAL), None]);
    let record = simulated.reallocations.last().expect("a hand-over");
    assert_eq!(
        (record.cause, record.t0, record.missed),
        (Cause::Overrun, demand, false)
    );
    assert!(
        record.total() > ms(50),
        "the time ran on from the first promise"
    );
    simulated.run(ms(400));
    assert!(
        !simulated.arbiter.pool().units()[2].is_fenced(),
        "it answered and is back"
    );
    assert_eq!(simulated.overruns.len(), 1);
    assert_eq!(simulated.counters().missed, 0);
    simulated.run(ms(10_000));
    assert_eq!(simulated.unfinished(), 0);
}

#[test]
fn a_promise_that_cannot_be_kept_is_a_miss() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit(1, SOCIAL, ms(1_000), 1);
    simulated.run(ms(10));
    simulated.stall(0, ms(400));
    simulated.run(ms(5));
    simulated.submit(2, FINANCIAL, ms(50), 1);
    simulated.run(ms(60));
    assert_eq!(simulated.owners(), [None]);
    assert_eq!(
        (simulated.counters().overruns, simulated.counters().missed),
        (1, 1)
    );
    simulated.run(ms(3_000));
    assert_eq!(
        simulated.unfinished(),
        0,
        "all runs when the worker is back"
    );
}

#[test]
fn a_slow_answer_below_the_fence_is_recorded_as_it_was() {
    // The bound is 20 ms, so a worker may be silent for 10 ms of it.
    let policy = edited(|_, limits| {
        limits.reallocation_max = ms(20);
        limits.overrun_quanta = 5;
    });
    let mut arbiter = Arbiter::new(Pool::new(&[0]).expect("a pool"), policy);
    let mut actions = vec![];
    let tenant = TenantId(1);
    let class = arbiter.policy().find("financial").expect("standard");
    let mut tell = |event, at| {
        actions.clear();
        arbiter.handle(event, at, &mut actions);
        actions.clone()
    };
    tell(Event::TenantJoined { tenant, class }, ms(0));
    let work = Work {
        core: ms(5),
        parallelism: 1,
        ..Work::default()
    };
    let job = JobId(1);
    tell(
        Event::Submitted {
            job,
            tenant,
            work,
            deadline: None,
            received: ms(1),
        },
        ms(2),
    );
    tell(Event::Decided, ms(3));
    let entry = Entry {
        epoch: Epoch(1),
        drained: ms(22),
        first: ms(23),
        found: Found::Nothing,
    };
    let actions = tell(
        Event::Entered {
            unit: UnitId(0),
            entry,
        },
        ms(24),
    );
    let [Action::Reallocated(record)] = actions[..] else {
        panic!("no record: {actions:?}");
    };
    let stamps = [
        record.t0,
        record.detected,
        record.decided,
        record.drained,
        record.first,
    ];
    assert_eq!(stamps, [1, 2, 3, 22, 23].map(ms));
    assert_eq!(
        (record.from, record.to, record.found),
        (None, tenant, Found::Nothing)
    );
    assert!(record.missed);
    assert_eq!(arbiter.counters().missed, 1);
}

#[test]
fn what_is_overtaken_before_it_is_seen_makes_no_record() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit(1, SOCIAL, ms(1_000), 1);
    simulated.run(ms(100));
    let before = simulated.reallocations.len();
    simulated.submit(2, FINANCIAL, ms(50), 1);
    simulated.cancel(2);
    assert_eq!(simulated.counters().superseded, 1);
    simulated.run(ms(10));
    assert_eq!(
        simulated.reallocations.len(),
        before,
        "the worker never left its owner"
    );
    assert_eq!(simulated.counters().superseded, 2);
}

#[test]
fn stray_events_change_nothing() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit(1, SOCIAL, ms(1_000), 1);
    simulated.run(ms(100));
    let owners = simulated.owners();
    let old = Entry {
        epoch: Epoch(0),
        drained: ms(1),
        first: ms(1),
        found: Found::Nothing,
    };
    let newest = Entry {
        epoch: Epoch(1),
        ..old
    };
    let (unit, nowhere, at) = (UnitId(0), UnitId(9), ms(1));
    let strays = [
        Event::Entered { unit, entry: old },
        Event::Entered {
            unit,
            entry: newest,
        },
        Event::Entered {
            unit: nowhere,
            entry: newest,
        },
        Event::Idle {
            unit,
            epoch: Epoch(7),
            at,
        },
        Event::Working {
            unit: nowhere,
            epoch: Epoch(1),
        },
        Event::Ready { job: JobId(1) },
        Event::Finished {
            job: JobId(9),
            outcome: Outcome::Proved,
            at,
        },
        Event::Cancelled { job: JobId(9) },
        Event::TenantLeft {
            tenant: TenantId(9),
        },
        Event::Bounded {
            tenant: TenantId(9),
            running: 1,
        },
        Event::Charged {
            tenant: TenantId(9),
            core: at,
        },
    ];
    let (actions, strays_before) = (simulated.log.len(), simulated.counters().stray);
    for stray in strays {
        simulated.tell(stray);
    }
    assert_eq!(
        simulated.counters().stray - strays_before,
        strays.len() as u64
    );
    assert_eq!(simulated.log.len(), actions);
    assert_eq!(simulated.owners(), owners);
    assert_eq!(simulated.counters().proved, 0);
}

#[test]
fn a_tenant_that_leaves_takes_its_jobs_along() {
    let mut simulated = two_tenants(2, Policy::standard());
    for job in 1..=6 {
        simulated.submit(job, SOCIAL, ms(100), 1);
    }
    simulated.submit(7, FINANCIAL, ms(100), 1);
    simulated.run(ms(10));
    simulated.leave(SOCIAL);
    assert!(!simulated.owners().contains(&Some(SOCIAL)));
    assert_eq!(simulated.counters().cancelled, 6);
    simulated.submit(8, SOCIAL, ms(100), 1);
    assert_eq!(
        simulated.refused.last().map(|r| r.1),
        Some(Refusal::UnknownTenant)
    );
    simulated.join(SOCIAL, "retail");
    simulated.submit(8, SOCIAL, ms(100), 1);
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished, [7, 8].map(JobId));
}

#[test]
fn tenants_are_refused_for_a_reason() {
    let mut arbiter = Arbiter::new(
        Pool::new(&[0]).expect("a pool"),
        edited(|_, limits| limits.tenants_max = 1),
    );
    let class = arbiter.policy().find("social").expect("standard");
    let mut join = |tenant| {
        let mut actions = vec![];
        let tenant = TenantId(tenant);
        arbiter.handle(
            Event::TenantJoined { tenant, class },
            Nanos(0),
            &mut actions,
        );
        match actions[..] {
            [] => Ok(()),
            [Action::RefuseTenant { reason, .. }] => Err(reason),
            _ => panic!("{actions:?}"),
        }
    };
    assert_eq!(join(u32::MAX), Err(TenantRefusal::ReservedId));
    assert_eq!(join(1), Ok(()));
    assert_eq!(join(1), Err(TenantRefusal::Joined));
    assert_eq!(join(2), Err(TenantRefusal::BoxFull { max: 1 }));
}

#[test]
fn a_quiet_box_asks_for_no_ticks() {
    let mut simulated = two_tenants(2, Policy::standard());
    assert_eq!(simulated.arbiter.wake_at(), None);
    simulated.submit(1, SOCIAL, ms(50), 1);
    simulated.run(ms(10));
    assert_eq!(
        simulated.arbiter.wake_at(),
        None,
        "one tenant alone takes no turns"
    );
    simulated.run(ms(100));
    assert_eq!(simulated.owners(), [None, None]);
    assert_eq!(simulated.arbiter.wake_at(), None);
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut simulated = two_tenants(1, Policy::standard());
    simulated.submit(1, SOCIAL, ms(200), 1);
    simulated.submit(2, FINANCIAL, ms(200), 1);
    simulated.run(ms(100));
    let mut actions = vec![];
    simulated.arbiter.handle(Event::Tick, ms(1), &mut actions);
    assert!(simulated.arbiter.wake_at() >= Some(ms(100)));
    simulated.run(ms(1_000));
    assert_eq!(simulated.finished.len(), 2);
}
