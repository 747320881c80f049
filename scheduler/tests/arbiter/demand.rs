//! Demand that is declared, demand that is measured, deadlines that can be met, and policies that
//! change while the box runs.

use std::collections::{BTreeMap, VecDeque};

use caldera_scheduler::arbiter::{Cause, DemandRefusal, Reallocation};
use caldera_scheduler::demand::{First, Meter, Reading};
use caldera_scheduler::mailbox::Found;
use caldera_scheduler::queue::{Refusal, Work};
use caldera_scheduler::scenario::{Arrivals, Marks, Peak, PolicyError, Share, SlackMarks, Window};
use caldera_scheduler::{Action, Event, JobId, Nanos, Policy, TenantId};
use proptest::prelude::*;

use crate::simulated::{QUANTUM, SimulatedBox, WIRE};
use crate::{FINANCIAL, SOCIAL, edited, ms, two_tenants};

/// Declares a demand that reached the box [`WIRE`] ago; how many units are declared and for how
/// long, or why none.
pub(crate) fn declare(
    simulated: &mut SimulatedBox,
    tenant: u32,
    units: u32,
    span: Nanos,
) -> Result<(u32, Nanos), DemandRefusal> {
    let begin = simulated.log.len();
    simulated.tell(Event::Declared {
        ticket: begin as u64,
        tenant: TenantId(tenant),
        units,
        span,
        received: Nanos(simulated.now.0.saturating_sub(WIRE.0)),
    });
    let answers = simulated.log[begin..].iter();
    let mut answers = answers.filter_map(|(_, action)| match *action {
        Action::Declare {
            ticket,
            units,
            span,
            ..
        } => Some((ticket, Ok((units, span)))),
        Action::RefuseDemand { ticket, reason, .. } => Some((ticket, Err(reason))),
        _ => None,
    });
    let (ticket, answer) = answers.next().expect("an answer");
    assert_eq!(ticket, begin as u64);
    assert_eq!(answers.next(), None, "one answer");
    answer
}

/// Puts another policy in the place of the present one.
pub(crate) fn adopt(simulated: &mut SimulatedBox, policy: Policy) -> Result<(), PolicyError> {
    let before = simulated.arbiter.policy().clone();
    let answer = simulated.adopt(policy);
    simulated.arbiter.check().expect("the invariants");
    match &answer {
        Ok(old) => assert_eq!(*old, before),
        Err(_) => assert_eq!(simulated.arbiter.policy(), &before, "nothing has changed"),
    }
    answer.map(drop)
}

fn since(simulated: &SimulatedBox, at: Nanos) -> Vec<Reallocation> {
    let records = simulated.reallocations.iter();
    records.filter(|it| it.detected >= at).copied().collect()
}

#[test]
fn declared_units_are_there_before_the_work() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.submit(1, SOCIAL, ms(10_000), 2);
    simulated.run(ms(100));
    let announced = simulated.now;
    let empty = simulated.counters().found_nothing;
    let answer = declare(&mut simulated, FINANCIAL, 2, ms(5_000));
    assert_eq!(answer, Ok((2, ms(5_000))));
    simulated.run(ms(10));
    assert_eq!(simulated.owners(), [Some(FINANCIAL); 2]);
    let records = since(&simulated, announced);
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in records {
        assert_eq!(record.cause, Cause::Declared);
        assert_eq!(record.t0, Nanos(announced.0 - WIRE.0));
        assert_eq!(record.found, Found::Nothing, "counted at its first look");
        assert!(record.total() <= QUANTUM.plus(WIRE), "{record:?}");
    }
    assert_eq!(simulated.counters().found_nothing - empty, 2);

    // They wait for as long as the class says, and then do not stand idle.
    simulated.run(ms(80));
    assert_eq!(simulated.owners(), [Some(FINANCIAL); 2]);
    simulated.run(ms(30));
    assert_eq!(simulated.owners(), [Some(SOCIAL); 2]);
    // A renewal that asks for no more changes only its end; the work itself takes them back.
    declare(&mut simulated, FINANCIAL, 2, ms(60_000)).expect("within its rights");
    simulated.run(ms(50));
    assert_eq!(simulated.owners(), [Some(SOCIAL); 2]);
    simulated.submit(2, FINANCIAL, ms(50), 2);
    let demand = simulated.now;
    simulated.run(ms(10));
    assert_eq!(simulated.owners(), [Some(FINANCIAL); 2]);
    let records = since(&simulated, demand);
    assert!(
        records.iter().all(|it| it.cause == Cause::Demand),
        "{records:?}"
    );
    assert_eq!(records.len(), 2);
}

#[test]
fn what_is_declared_expires_and_can_be_withdrawn() {
    let mut simulated = two_tenants(2, Policy::standard());
    declare(&mut simulated, FINANCIAL, 2, ms(1_000)).expect("within its rights");
    simulated.run(ms(500));
    assert_eq!(
        simulated.owners(),
        [Some(FINANCIAL); 2],
        "nobody else wants them"
    );
    simulated.run(ms(600));
    assert_eq!(simulated.owners(), [None; 2], "it has expired");
    assert_eq!(simulated.arbiter.wake_at(), None);

    declare(&mut simulated, FINANCIAL, 2, ms(1_000)).expect("within its rights");
    declare(&mut simulated, FINANCIAL, 1, ms(1_000)).expect("within its rights");
    assert_eq!(simulated.owners().iter().flatten().count(), 1);
    let answer = declare(&mut simulated, FINANCIAL, 0, ms(7));
    assert_eq!(answer, Ok((0, Nanos::ZERO)));
    assert_eq!(simulated.owners(), [None; 2], "it is withdrawn");
    simulated.run(ms(1));
    assert_eq!(simulated.arbiter.wake_at(), None);
}

#[test]
fn a_declaration_of_one_that_leaves_goes_with_it() {
    let mut simulated = two_tenants(2, Policy::standard());
    declare(&mut simulated, FINANCIAL, 2, ms(1_000)).expect("within its rights");
    simulated.leave(FINANCIAL);
    assert_eq!(simulated.owners(), [None; 2]);
    simulated.join(FINANCIAL, "financial");
    assert_eq!(simulated.owners(), [None; 2]);
}

#[test]
fn what_cannot_be_declared_is_refused_and_changes_nothing() {
    let policy = edited(|classes, _| classes[0].ceiling = Share::from_percent(50));
    let mut simulated = two_tenants(4, policy);
    declare(&mut simulated, FINANCIAL, 2, ms(1_000)).expect("within its rights");
    let owners = simulated.owners();
    let above = |got| Err(DemandRefusal::AboveCeiling { ceiling: 2, got });
    let max = Nanos::from_secs(3_600);
    let span = |got| Err(DemandRefusal::Span { max, got });
    let cases = [
        (FINANCIAL, 3, ms(1), above(3)),
        (FINANCIAL, u32::MAX, ms(1), above(u32::MAX)),
        (FINANCIAL, 1, Nanos::ZERO, span(Nanos::ZERO)),
        (FINANCIAL, 1, Nanos(1), span(Nanos(1))),
        (FINANCIAL, 1, max.plus(Nanos(1)), span(max.plus(Nanos(1)))),
        (FINANCIAL, 1, Nanos::MAX, span(Nanos::MAX)),
        (77, 0, Nanos::ZERO, Err(DemandRefusal::UnknownTenant)),
        (u32::MAX, 1, ms(1), Err(DemandRefusal::UnknownTenant)),
    ];
    for (tenant, units, span, refusal) in cases {
        assert_eq!(declare(&mut simulated, tenant, units, span), refusal);
        assert_eq!(simulated.owners(), owners);
    }
    let views: Vec<_> = simulated.arbiter.tenants().map(|it| it.declared).collect();
    assert_eq!(views, [2, 0]);
    assert_eq!(simulated.counters().declared, 1);
}

/// Two equals on four units; one of them has many jobs.
fn equals(policy: Policy) -> SimulatedBox {
    let mut simulated = SimulatedBox::new(4, policy);
    for tenant in [1, 2] {
        simulated.join(tenant, "retail");
        simulated.submit(u64::from(tenant), tenant, ms(100_000), 4);
    }
    simulated.run(ms(200));
    assert_eq!(
        simulated
            .owners()
            .iter()
            .filter(|it| **it == Some(1))
            .count(),
        2
    );
    simulated
}

#[test]
fn many_jobs_are_a_peak_that_moves_a_unit() {
    let mut simulated = equals(edited(|classes, _| {
        let peak = classes[2].peak.as_mut().expect("a peak");
        (peak.arrivals, peak.slack) = (None, None);
    }));
    for job in 10..24 {
        simulated.submit(job, 1, ms(10), 4);
    }
    simulated.run(ms(50));
    assert_eq!(simulated.counters().peaks, 0, "15 jobs are not 16");
    let moved = simulated.reallocations.len();
    simulated.submit(24, 1, ms(10), 4);
    let crossing = Nanos(simulated.now.0 - WIRE.0);
    simulated.run(ms(20));
    assert_eq!(simulated.counters().peaks, 1);
    let records = &simulated.reallocations[moved..];
    assert_eq!(records.len(), 1, "{records:?}");
    let record = records[0];
    assert_eq!((record.cause, record.t0), (Cause::Measured, crossing));
    assert_eq!(record.to, TenantId(1));
    assert!(record.total() <= QUANTUM.plus(WIRE), "{record:?}");
    // Guarantees of 0.2 each, and 4/5 of the 3.6 that are left.
    assert_eq!(
        simulated
            .owners()
            .iter()
            .filter(|it| **it == Some(1))
            .count(),
        3
    );
    let at_peak: Vec<_> = simulated.arbiter.tenants().map(|it| it.at_peak).collect();
    assert_eq!(at_peak, [true, false]);

    // The short jobs go, the peak has lasted, and the two are equals again.
    for job in 12..25 {
        simulated.cancel(job);
    }
    simulated.run(ms(500));
    let at_peak = |simulated: &SimulatedBox| simulated.arbiter.tenants().any(|it| it.at_peak);
    assert!(at_peak(&simulated), "it has not lasted a second");
    simulated.run(ms(700));
    assert!(!at_peak(&simulated));
    simulated.run(ms(100));
    assert_eq!(
        simulated
            .owners()
            .iter()
            .filter(|it| **it == Some(1))
            .count(),
        2
    );
}

#[test]
fn many_arrivals_are_a_peak_and_one_who_comes_again_has_none() {
    let mut simulated = equals(edited(|classes, _| {
        let peak = classes[2].peak.as_mut().expect("a peak");
        (peak.queue, peak.slack) = (None, None);
    }));
    // What is cancelled has come nevertheless.
    for job in 10..40 {
        simulated.submit(job, 1, ms(10), 4);
        simulated.cancel(job);
        simulated.run(ms(1));
    }
    assert_eq!(simulated.counters().peaks, 0, "31 jobs are not 32");
    simulated.submit(40, 1, ms(10), 4);
    assert_eq!(simulated.counters().peaks, 1);
    let at_peak = |simulated: &SimulatedBox| simulated.arbiter.tenants().any(|it| it.at_peak);
    assert!(at_peak(&simulated));
    simulated.leave(1);
    simulated.join(1, "retail");
    assert!(!at_peak(&simulated));
    simulated.submit(42, 1, ms(10), 4);
    assert!(!at_peak(&simulated), "nor has it sent anything");
}

#[test]
fn marks_that_are_taken_away_end_a_peak_and_others_begin_one() {
    let marked = |high: Option<u32>| {
        edited(|classes, _| {
            let peak = classes[2].peak.expect("a peak");
            classes[2].peak = high.map(|high| Peak {
                queue: None,
                slack: None,
                arrivals: Some(Arrivals {
                    marks: Marks { high, low: 0 },
                    span: ms(1_000),
                }),
                ..peak
            });
        })
    };
    let mut simulated = equals(marked(Some(2)));
    let at_peak = |simulated: &SimulatedBox| simulated.arbiter.tenants().any(|it| it.at_peak);
    simulated.submit(10, 1, ms(10), 4);
    assert!(at_peak(&simulated));
    adopt(&mut simulated, marked(None)).expect("it fits");
    assert!(!at_peak(&simulated));
    adopt(&mut simulated, marked(Some(40))).expect("it fits");
    for job in 11..50 {
        simulated.submit(job, 2, ms(1), 4);
        assert!(!at_peak(&simulated), "{job}");
    }
    simulated.submit(50, 2, ms(1), 4);
    assert!(at_peak(&simulated));
}

#[test]
fn little_slack_is_a_peak_from_the_moment_at_which_it_is_little() {
    let mut simulated = equals(edited(|classes, _| {
        let peak = classes[2].peak.as_mut().expect("a peak");
        (peak.arrivals, peak.queue) = (None, None);
    }));
    // 400 ms on all four units, of which it has two: after t ms there are 1000 - t until it is due
    // and it needs 400 - t/2, so 250 are left after 700.
    let now = simulated.now;
    simulated.submit_due(3, 1, ms(1_600), 4, Some(now.plus(ms(1_000))));
    let moved = simulated.reallocations.len();
    simulated.run(ms(690));
    assert_eq!(simulated.counters().peaks, 0);
    simulated.run(ms(30));
    assert_eq!(simulated.counters().peaks, 1);
    let record = simulated.reallocations[moved..]
        .iter()
        .find(|it| it.cause == Cause::Measured)
        .expect("a hand-over");
    assert!(
        (ms(695)..ms(710)).contains(&record.t0.since(now)),
        "{record:?}"
    );
    assert!(record.detected.since(record.t0) <= ms(4), "{record:?}");
    assert!(!record.missed);
}

#[test]
fn at_night_another_value_holds() {
    let policy = edited(|classes, _| {
        classes[3].off_peak = vec![Window {
            from: "22:00".parse().expect("a time"),
            to: "05:00".parse().expect("a time"),
            value: 1_000,
        }];
    });
    let mut simulated = two_tenants(4, policy);
    for tenant in [FINANCIAL, SOCIAL] {
        simulated.submit(u64::from(tenant), tenant, ms(1_000_000), 4);
    }
    let share = |simulated: &mut SimulatedBox| {
        let before = simulated.had[&TenantId(SOCIAL)];
        simulated.run(ms(2_000));
        simulated.had[&TenantId(SOCIAL)].since(before).as_millis()
    };
    simulated.run(ms(1_000));
    // 0.08 and 1/65 of the 2.32 that are left; of 2 s.
    assert!(
        (190..280).contains(&share(&mut simulated)),
        "nobody knows the time"
    );
    let evening = Nanos::from_secs(21 * 3_600 + 59 * 60 + 58);
    simulated.tell(Event::WallClock { unix: evening });
    assert!((190..280).contains(&share(&mut simulated)), "it is 21:59");
    // Now it is 22:00, and financial keeps its 1.6: 2.4 less its 64/1064 of what is left.
    simulated.run(ms(500));
    let night = share(&mut simulated);
    assert!(
        (4_400..4_700).contains(&night),
        "social had {night} of 8000 ms"
    );
    let morning = Nanos::from_secs(5 * 3_600);
    simulated.tell(Event::WallClock { unix: morning });
    simulated.run(ms(500));
    assert!((150..300).contains(&share(&mut simulated)), "it is 05:00");
}

#[test]
fn a_deadline_that_cannot_be_met_is_refused_with_the_one_that_can() {
    let mut simulated = two_tenants(2, Policy::standard());
    simulated.submit(1, SOCIAL, ms(400), 2);
    simulated.run(ms(1));
    let now = simulated.now;
    // 400 ms of the first and 600 ms of its own, on two units: the first is due later.
    simulated.submit_due(2, SOCIAL, ms(600), 2, Some(now.plus(ms(290))));
    let [(JobId(2), Refusal::DeadlineUnmeetable { earliest }, None)] = simulated.refused[..] else {
        panic!("refused: {:?}", simulated.refused);
    };
    assert_eq!(earliest, now.plus(ms(300)));
    simulated.submit_due(2, SOCIAL, ms(600), 2, Some(earliest));
    assert_eq!(simulated.refused.len(), 1);
    simulated.run(ms(305));
    assert_eq!(
        simulated.finished,
        [JobId(2)],
        "and it goes before the first"
    );

    // One whose cost nobody knows is not refused.
    simulated.submit_due(3, SOCIAL, Nanos::ZERO, 2, Some(now));
    assert_eq!(simulated.refused.len(), 1);
    // Other reasons come first: they say what to mend.
    simulated.submit_due(1, SOCIAL, ms(600), 2, Some(now));
    simulated.submit_due(4, SOCIAL, ms(600), 0, Some(now));
    let reasons: Vec<_> = simulated.refused[1..].iter().map(|it| it.1).collect();
    assert_eq!(reasons, [Refusal::DuplicateJob, Refusal::NoParallelism]);
}

/// A deadline that cannot be met is refused between a demand and the next hand-over, so it must not cost more where a tenant has
/// many jobs than looking at each of them a few times.
#[test]
fn a_hopeless_deadline_costs_little_however_long_the_line() {
    for count in [10, 200, 600] {
        let policy = edited(|classes, _| {
            classes[3].queue_max = 1_000;
            classes[3].prepared_max = 64;
            classes[3].peak = None;
        });
        let mut simulated = SimulatedBox::new(2, policy);
        simulated.join(SOCIAL, "social");
        let now = simulated.now;
        for job in 0..count {
            // Each second one is due before all that are there.
            let due = if job % 2 == 0 {
                10_001_000 - job
            } else {
                20_000_000 + job
            };
            let met = simulated.submit_due(job, SOCIAL, ms(1_000), 2, Some(now.plus(ms(due))));
            assert!(met, "{job}");
        }
        let before = simulated.counters();
        assert!(before.foreseen > 0);
        // The first cannot be done by then, and the second would make others late.
        let cases = [(1_000, 1), (19_999_600, 10_000_000)];
        let cases = cases.map(|(core, due)| (ms(core), now.plus(ms(due))));
        for (number, (core, due)) in (1..).zip(cases) {
            let due = Some(due);
            assert!(!simulated.submit_due(1_000 + number, SOCIAL, core, 2, due));
            let looked = simulated.counters().foreseen - before.foreseen;
            let most = 16 * number * (count + 1);
            assert!(looked <= most, "{looked} of {count}, {most} at most");
        }
        let refused = &simulated.refused[simulated.refused.len() - 2..];
        for (_, refusal, _) in refused {
            assert!(
                matches!(refusal, Refusal::DeadlineUnmeetable { .. }),
                "{refusal:?}"
            );
        }
    }
}

/// While another has its turn by ageing, a tenant has nothing at the moment, and its guarantee still.
#[test]
fn a_guarantee_counts_while_another_has_its_turn() {
    let policy = edited(|classes, _| {
        classes[0].guarantee = Share::from_percent(80);
        classes[1].guarantee = Share::NONE;
        classes[3].guarantee = Share::NONE;
        classes[3].ageing_max = ms(200);
        classes[0].value = 1_000;
        classes[0].peak = None;
    });
    let mut simulated = two_tenants(1, policy);
    simulated.submit(1, FINANCIAL, ms(100_000), 1);
    simulated.submit(2, SOCIAL, ms(100_000), 1);
    while simulated.reallocations.last().map(|it| it.cause) != Some(Cause::Ageing) {
        simulated.run(ms(1));
    }
    assert_eq!(simulated.owners(), [Some(SOCIAL)]);
    let due = simulated.now.plus(ms(100));
    simulated.submit_due(3, FINANCIAL, ms(40), 1, Some(due));
    assert_eq!(simulated.refused, []);
    simulated.run(ms(100));
    assert_eq!(simulated.finished, [JobId(3)]);
    // 40 ms of four fifths of a core.
    while simulated.owners() != [Some(SOCIAL)] {
        simulated.run(ms(1));
    }
    let late = simulated.now.plus(ms(49));
    simulated.submit_due(4, FINANCIAL, ms(40), 1, Some(late));
    let Some(&(JobId(4), Refusal::DeadlineUnmeetable { earliest }, None)) =
        simulated.refused.last()
    else {
        panic!("refused: {:?}", simulated.refused);
    };
    assert_eq!(earliest, simulated.now.plus(ms(50)));
}

/// A tenant with no guarantee and next to no value has a turn after each of its ageing bounds.
#[test]
fn a_turn_by_ageing_counts() {
    let policy = edited(|classes, _| {
        classes[0].value = 1_000;
        classes[0].peak = None;
        classes[3].guarantee = Share::NONE;
        classes[3].ageing_max = ms(500);
    });
    let mut simulated = two_tenants(1, policy);
    simulated.submit(1, FINANCIAL, ms(100_000), 1);
    simulated.run(ms(10));
    let now = simulated.now;
    // Two turns of 25 ms, each after 500.
    simulated.submit_due(2, SOCIAL, ms(50), 1, Some(now.plus(ms(1_049))));
    let [(JobId(2), Refusal::DeadlineUnmeetable { earliest }, None)] = simulated.refused[..] else {
        panic!("refused: {:?}", simulated.refused);
    };
    assert_eq!(earliest, now.plus(ms(1_050)));
    simulated.submit_due(3, SOCIAL, ms(20), 1, Some(now.plus(ms(525))));
    assert_eq!(simulated.refused.len(), 1);
    simulated.run(ms(525));
    assert_eq!(simulated.finished, [JobId(3)]);
}

#[test]
fn another_policy_loses_no_job() {
    let mut simulated = two_tenants(2, Policy::standard());
    for job in 0..10 {
        simulated.submit(2 * job, SOCIAL, ms(100), 1);
        simulated.submit(2 * job + 1, FINANCIAL, ms(100), 2);
    }
    simulated.run(ms(30));
    let next = edited(|classes, _| {
        classes.rotate_left(2);
        classes.iter_mut().for_each(|class| class.queue_max = 5);
    });
    assert_eq!(adopt(&mut simulated, next), Ok(()));
    let names: Vec<_> = simulated
        .arbiter
        .tenants()
        .map(|it| {
            simulated
                .arbiter
                .policy()
                .class(it.class)
                .expect("its class")
        })
        .map(|class| class.name.clone())
        .collect();
    assert_eq!(names, ["financial", "social"]);
    simulated.submit(100, SOCIAL, ms(100), 1);
    let full = Refusal::TenantFull { max: 5 };
    assert_eq!(simulated.refused.last().map(|it| it.1), Some(full));
    simulated.run(ms(10_000));
    assert_eq!(simulated.finished.len(), 20);
    for job in 100..106 {
        simulated.submit(job, SOCIAL, ms(100), 1);
    }
    assert_eq!(simulated.refused.len(), 2, "five have a place");
    // And back: there is room for as many as before.
    assert_eq!(adopt(&mut simulated, Policy::standard()), Ok(()));
    for job in 200..240 {
        simulated.submit(job, SOCIAL, ms(1), 1);
    }
    assert_eq!(simulated.refused.len(), 2);
}

#[test]
fn another_policy_moves_units_at_once() {
    let mut simulated = two_tenants(
        2,
        edited(|classes, _| classes[0].ceiling = Share::from_percent(50)),
    );
    simulated.submit(1, SOCIAL, ms(10_000), 2);
    simulated.submit(2, FINANCIAL, ms(10_000), 2);
    simulated.run(ms(100));
    assert!(simulated.owners().contains(&Some(SOCIAL)));
    assert_eq!(adopt(&mut simulated, Policy::standard()), Ok(()));
    assert_eq!(simulated.owners(), [Some(FINANCIAL); 2]);
}

#[test]
fn a_policy_that_does_not_fit_is_refused() {
    let mut simulated = two_tenants(2, Policy::standard());
    let gone = edited(|classes, _| drop(classes.pop()));
    let name = "social".to_owned();
    assert_eq!(
        adopt(&mut simulated, gone),
        Err(PolicyError::ClassInUse { name })
    );
    simulated.leave(SOCIAL);
    let gone = edited(|classes, _| drop(classes.pop()));
    assert_eq!(adopt(&mut simulated, gone), Ok(()));
}

/// What [`Meter`] says, told from the whole history.
fn brute_force(peak: &Peak, history: &[(Nanos, bool, Reading)]) -> Vec<bool> {
    let mut arrivals: VecDeque<Nanos> = VecDeque::new();
    let mut since: Option<Nanos> = None;
    let mut answers = Vec::new();
    for &(now, arrives, reading) in history {
        if arrives {
            arrivals.push_back(now);
        }
        let recent = |span| arrivals.iter().filter(|&&at| now.since(at) < span).count() as u32;
        let slack =
            |first: First| i128::from(first.due.0) - i128::from(now.0) - i128::from(first.needs.0);
        let left = reading.first.map_or(i128::MAX, slack);
        let reached = peak.queue.is_some_and(|it| reading.jobs >= it.high)
            || peak
                .arrivals
                .is_some_and(|it| recent(it.span) >= it.marks.high)
            || peak.slack.is_some_and(|it| left <= i128::from(it.low.0));
        let back = peak.queue.is_none_or(|it| reading.jobs <= it.low)
            && peak
                .arrivals
                .is_none_or(|it| recent(it.span) <= it.marks.low)
            && peak.slack.is_none_or(|it| left >= i128::from(it.high.0));
        since = match since {
            None => reached.then_some(now),
            Some(begun) if back && now.since(begun) >= peak.hold => None,
            begun => begun,
        };
        answers.push(since.is_some());
    }
    answers
}

fn peaks() -> impl Strategy<Value = Peak> {
    let marks =
        || (1u32..6).prop_flat_map(|high| (0..high).prop_map(move |low| Marks { high, low }));
    let arrivals = (marks(), 1u64..50).prop_map(|(marks, span)| Arrivals {
        marks,
        span: ms(span),
    });
    let slack = marks().prop_map(|it| SlackMarks {
        high: ms(10 * u64::from(it.high)),
        low: ms(10 * u64::from(it.low)),
    });
    let of = (
        prop::option::of(marks()),
        prop::option::of(arrivals),
        prop::option::of(slack),
    );
    (of, 0u64..50).prop_map(|((queue, arrivals, slack), hold)| Peak {
        value: 2,
        queue,
        arrivals,
        slack,
        hold: ms(hold),
    })
}

fn histories() -> impl Strategy<Value = Vec<(Nanos, bool, Reading)>> {
    let first = prop::option::of((0u64..1_000, 0u64..60));
    let step = (0u64..30, any::<bool>(), 0u32..8, first);
    prop::collection::vec(step, 1..80).prop_map(|steps| {
        let mut now = ms(1);
        let steps = steps.into_iter();
        steps
            .map(|(pass, arrives, jobs, first)| {
                now = now.plus(ms(pass));
                let first = first.map(|(due, needs)| First {
                    due: ms(due),
                    needs: ms(needs),
                });
                (now, arrives, Reading { jobs, first })
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_meter_says_what_the_whole_history_says(peak in peaks(), history in histories()) {
        let mut meter = Meter::default();
        meter.open(Some(&peak));
        let mut answers = Vec::new();
        let mut last = Nanos::ZERO;
        for &(now, arrives, reading) in &history {
            if arrives {
                meter.arrive(now);
            }
            let before = meter.at_peak();
            let crossing = meter.read(&peak, reading, now, now);
            prop_assert_eq!(crossing.is_some(), !before && meter.at_peak());
            // Between this reading and the last.
            prop_assert!(crossing.is_none_or(|at| last <= at && at <= now));
            answers.push(meter.at_peak());
            last = now;
        }
        prop_assert_eq!(answers, brute_force(&peak, &history));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A tenant alone, whose jobs are due in the order in which they come: each is admitted just
    /// when a sum over those before it says that it can be met, and what is admitted is met.
    #[test]
    fn admission_is_the_sum_of_what_is_before(
        units in 1u32..4,
        jobs in prop::collection::vec((1u64..80, 0u64..120, 0u64..40), 1..30),
    ) {
        let policy = edited(|classes, _| classes[3].prepared_max = 64);
        let mut simulated = SimulatedBox::new(units, policy);
        simulated.preparation = Nanos::ZERO;
        simulated.join(SOCIAL, "social");
        // When the units would be done with all that was admitted, in nanoseconds.
        let mut busy_until = 0u64;
        let mut due = 0;
        let mut admitted = vec![];
        for (job, (core, more, pass)) in (0..).zip(jobs) {
            due = (simulated.now.as_millis()).max(due) + more;
            let deadline = ms(due);
            let now = simulated.now.0;
            let run = ms(core).0 / u64::from(units);
            let finish = busy_until.max(now) + run;
            let refused = simulated.refused.len();
            simulated.submit_due(job, SOCIAL, ms(core), units, Some(deadline));
            let met = simulated.refused.len() == refused;
            // What the arbiter thinks is left is as exact as quanta and wake-ups let it be.
            let slack = QUANTUM.0 + 10 * WIRE.0 * (job + 1);
            if met {
                prop_assert!(finish <= deadline.0 + slack, "admitted: {finish} {deadline}");
                busy_until = finish;
                admitted.push((JobId(job), deadline));
            } else {
                prop_assert!(finish + slack > deadline.0, "refused: {finish} {deadline}");
            }
            simulated.run(ms(pass));
        }
        for (job, deadline) in admitted {
            let late = deadline.plus(QUANTUM).plus(Nanos(10 * WIRE.0 * (job.0 + 1)));
            if simulated.now < late {
                simulated.run(late.since(simulated.now));
                prop_assert!(simulated.finished.contains(&job), "{job} is late");
            }
        }
        simulated.run(ms(10_000));
        prop_assert_eq!(simulated.unfinished(), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A tenant alone with few slots for witnesses, or a bound of its own, and deadlines in any order: none of its jobs that
    /// was admitted with one is late, whatever comes after it.
    #[test]
    fn what_is_admitted_is_not_late(
        units in 1u32..4,
        prepared in 1u32..4,
        running in 1u32..5,
        jobs in prop::collection::vec(
            (20u64..400, 1u32..5, prop::option::of(1u64..1_500), 0u64..150),
            1..25,
        ),
    ) {
        let policy = edited(|classes, _| classes[3].prepared_max = prepared);
        let mut simulated = SimulatedBox::new(units, policy);
        simulated.preparation = Nanos::ZERO;
        simulated.join(SOCIAL, "social");
        let tenant = TenantId(SOCIAL);
        simulated.tell(Event::Bounded { tenant, running });
        let count = jobs.len() as u64;
        // Whoever waits for a slot waits for a quantum of whoever is there besides.
        let slack = Nanos((QUANTUM.0 + 10 * WIRE.0) * (count + 2));
        let mut due = BTreeMap::new();
        let mut jobs = (0..).zip(jobs);
        let mut next = jobs.next();
        let mut pause = 0;
        while next.is_some() || simulated.unfinished() > 0 {
            if pause == 0
                && let Some((job, (core, parallelism, deadline, pass))) = next
            {
                let deadline = deadline.map(|more| simulated.now.plus(ms(more)));
                let met = simulated.submit_due(job, SOCIAL, ms(core), parallelism, deadline);
                due.extend(deadline.filter(|_| met).map(|deadline| (JobId(job), deadline)));
                (next, pause) = (jobs.next(), pass);
                continue;
            }
            pause = pause.saturating_sub(1);
            simulated.run(ms(1));
            for job in simulated.finished.drain(..) {
                if let Some(deadline) = due.remove(&job) {
                    let at = simulated.now;
                    prop_assert!(at <= deadline.plus(slack), "{job}: {at}, due {deadline}");
                }
            }
        }
        prop_assert!(due.is_empty());
    }
}

/// A job of no known cost is not refused and is asked about like any other.
#[test]
fn an_unknown_cost_is_no_cost() {
    let mut simulated = two_tenants(1, Policy::standard());
    let work = Work {
        core: Nanos::ZERO,
        parallelism: 1,
        ..Work::default()
    };
    let now = simulated.now;
    let estimate = simulated
        .arbiter
        .estimate(TenantId(SOCIAL), work, None, now);
    assert_eq!(estimate.expect("known").finish, now);
}

/// The rates of tenants that want so much, poured out by brute force: guarantees first, and then in
/// proportion to value, again and again until nobody has room.
fn poured(units: f64, wants: &[(f64, f64, f64)]) -> Vec<f64> {
    let mut rates: Vec<f64> = wants.iter().map(|&(want, g, _)| g.min(want)).collect();
    loop {
        let left = units - rates.iter().sum::<f64>();
        let room = |at: usize| wants[at].0 - rates[at];
        let open: Vec<usize> = (0..wants.len()).filter(|&at| room(at) > 1e-9).collect();
        if left < 1e-9 || open.is_empty() {
            return rates;
        }
        let values: f64 = open.iter().map(|&at| wants[at].2).sum();
        let gifts: Vec<(usize, f64)> = open
            .iter()
            .map(|&at| (at, (left * wants[at].2 / values).min(room(at))))
            .collect();
        for (at, gift) in gifts {
            rates[at] += gift;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Who only declares gets what one with as many jobs would: the whole part of its rate, or one
    /// more, and all that is declared where there is enough.
    #[test]
    fn what_is_declared_is_given_as_the_rates_say(
        units in 1u32..7,
        declared in prop::collection::vec((0usize..4, 0u32..7), 1..6),
    ) {
        let policy = Policy::standard();
        let mut simulated = SimulatedBox::new(units, policy.clone());
        let mut wants = Vec::new();
        for (tenant, &(class, want)) in (0..).zip(&declared) {
            let want = want.min(units);
            simulated.join(tenant, &policy.classes()[class].name);
            declare(&mut simulated, tenant, want, ms(10_000)).expect("within its rights");
            let class = &policy.classes()[class];
            let sharers = declared.iter().filter(|&&(other, want)| {
                want > 0 && policy.classes()[other].name == class.name
            });
            let share = f64::from(class.guarantee.millionths()) / 1e6 * f64::from(units);
            let guarantee = share / sharers.count().max(1) as f64;
            wants.push((f64::from(want), guarantee, f64::from(class.value)));
        }
        simulated.run(ms(5));
        let views: Vec<_> = simulated.arbiter.tenants().collect();
        let rates = poured(f64::from(units), &wants);
        let all: f64 = wants.iter().map(|it| it.0).sum();
        let held: u32 = views.iter().map(|it| it.held).sum();
        prop_assert_eq!(f64::from(held), all.min(f64::from(units)));
        for (view, rate) in views.iter().zip(rates) {
            let held = f64::from(view.held);
            prop_assert!(held >= (rate - 1e-6).floor(), "{:?} has a rate of {}", view, rate);
            prop_assert!(held <= (rate + 1e-6).floor() + 1.0, "{:?} has a rate of {}", view, rate);
        }
    }
}
