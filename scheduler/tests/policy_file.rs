//! Policies as text: what is read is what was written, and what is refused is named.

use caldera_scheduler::scenario::file::{FileError, parse};
use caldera_scheduler::scenario::{
    Arrivals, Class, GiveBack, Limits, Marks, Peak, PolicyError, Share, SlackMarks, TimeOfDay,
    Window,
};
use caldera_scheduler::{Nanos, Policy};
use proptest::prelude::*;

/// The documented file is what a box without one has.
const STANDARD: &str = include_str!("../../deploy/policy.toml");

const SMALL: &str = "\
[classes.financial]
value = 64
guarantee_percent = 40.25

[classes.mine]
value = 1
guarantee_percent = 0
[classes.mine.peak]
value = 4
hold_ms = 500
queue = { high = 8, low = 2 }
[[classes.mine.off_peak]]
from = \"22:00\"
to = \"05:30\"
value = 100
";

#[test]
fn the_shipped_file_is_the_standard_policy() {
    assert_eq!(parse(STANDARD), Ok(Policy::standard()));
}

#[test]
fn the_example_in_the_shipped_file_is_read() {
    let text = STANDARD.replace("#: ", "");
    assert_ne!(text, STANDARD);
    let policy = parse(&text).expect("a policy");
    let social = policy
        .find("social")
        .and_then(|id| policy.class(id))
        .expect("a class");
    let night: TimeOfDay = "23:15".parse().expect("a time");
    let day: TimeOfDay = "12:00".parse().expect("a time");
    assert_eq!(social.value_at(Some(night), false), 512);
    assert_eq!(social.value_at(Some(day), false), 1);
    assert_eq!(social.value_at(None, false), 1);
    assert_eq!(social.value_at(Some(day), true), 1, "it has no peak");
    assert_eq!(social.value_at(Some(night), true), 512);
}

#[test]
fn what_is_left_out_is_plain() {
    let policy = parse(SMALL).expect("a policy");
    assert_eq!(policy.limits(), &Limits::STANDARD);
    let names: Vec<_> = policy.classes().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["financial", "mine"]);
    let first = Class {
        value: 64,
        guarantee: Share::from_millionths(402_500),
        ..Class::plain("financial")
    };
    assert_eq!(policy.classes()[0], first);
}

#[test]
fn classes_keep_the_order_of_the_text() {
    let text = "[classes.z]\nvalue = 1\nguarantee_percent = 0\n\
                [classes.a]\nvalue = 1\nguarantee_percent = 0\n";
    let policy = parse(text).expect("a policy");
    let names: Vec<_> = policy.classes().iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["z", "a"]);
}

/// A line is changed; the refusal names the key and the reason.
#[test]
fn each_refusal_names_key_and_reason() {
    let cases = [
        (
            "value = 64",
            "valeu = 64",
            "line 2: classes.financial.valeu: unknown field `valeu`",
        ),
        ("value = 64", "", "classes.financial: missing field `value`"),
        (
            "value = 64",
            "value = \"64\"",
            "line 2: classes.financial.value: invalid type: string \"64\", expected u32",
        ),
        (
            "value = 64",
            "value = -1",
            "line 2: classes.financial.value: invalid value: integer `-1`, expected u32",
        ),
        (
            "value = 64",
            "value = 99999999999999999999",
            "line 2: classes.financial.value: ",
        ),
        (
            "value = 64",
            "value = 0",
            "classes.financial.value: expected 1 to 1000, got 0",
        ),
        (
            "value = 64",
            "value = 64\nvalue = 64",
            "line 3: classes.financial.value: duplicate key",
        ),
        (
            "40.25",
            "40.00001",
            "line 3: classes.financial.guarantee_percent: invalid value: floating point `40.00001`, expected a number from 0 to 100",
        ),
        (
            "40.25",
            "nan",
            "line 3: classes.financial.guarantee_percent: invalid value",
        ),
        (
            "40.25",
            "-1",
            "line 3: classes.financial.guarantee_percent: invalid value: integer `-1`",
        ),
        (
            "40.25",
            "101",
            "classes.financial.guarantee_percent: expected 0 to 100, got 101",
        ),
        (
            "40.25",
            "1\nceiling_percent = 0.5",
            "classes.financial.ceiling_percent: expected at least the guarantee of 1, got 0.5",
        ),
        (
            "guarantee_percent = 0",
            "guarantee_percent = 60",
            "classes.*.guarantee_percent: expected a sum of at most 100, got 100.25",
        ),
        (
            "hold_ms = 500",
            "hold_ms = 3600001",
            "classes.mine.peak.hold_ms: expected 0 to 3600000",
        ),
        (
            "value = 4",
            "value = 0",
            "classes.mine.peak.value: expected 1 to 1000, got 0",
        ),
        (
            "queue = { high = 8, low = 2 }",
            "",
            "classes.mine.peak: expected one of queue, arrivals",
        ),
        (
            "low = 2",
            "low = 8",
            "classes.mine.peak.queue.low: expected 0 to 7, got 8",
        ),
        (
            "low = 2",
            "lo = 2",
            "line 11: classes.mine.peak.queue: unknown field `lo`",
        ),
        (
            "high = 8",
            "high = 65537",
            "classes.mine.peak.queue.high: expected 1 to 65536, got 65537",
        ),
        (
            "from = \"22:00\"",
            "from = \"24:00\"",
            "line 13: classes.mine.off_peak.from: expected a time of day from \"00:00\" to \"23:59\", got \"24:00\"",
        ),
        (
            "from = \"22:00\"",
            "from = 22:00",
            "line 13: classes.mine.off_peak.from: ",
        ),
        (
            "from = \"22:00\"",
            "from = \"05:30\"",
            "classes.mine.off_peak[0]: expected from and to to differ, got 05:30 twice",
        ),
        (
            "[classes.mine.peak]",
            "[classes.mine.give_back]\nheld_percent = 101\n[classes.mine.peak]",
            "classes.mine.give_back.held_percent: expected 0 to 100, got 101",
        ),
        (
            "[classes.mine.peak]",
            "[classes.mine.give_back]\nquiet_ms = 0\n[classes.mine.peak]",
            "classes.mine.give_back.quiet_ms: expected 1 to 31536000000, got 0",
        ),
        (
            "[classes.mine.peak]",
            "[classes.mine.give_back]\narrivals = 1025\n[classes.mine.peak]",
            "classes.mine.give_back.arrivals: expected 0 to 1024, got 1025",
        ),
        (
            "[classes.mine.peak]",
            "[classes.mine.give_back]\njobs = -1\n[classes.mine.peak]",
            "line 9: classes.mine.give_back.jobs: invalid value",
        ),
        (
            "[classes.mine.peak]",
            "[classes.mine.give_back]\nkeys = 1\n[classes.mine.peak]",
            "line 9: classes.mine.give_back.keys: unknown field `keys`",
        ),
        (
            "value = 100",
            "value = 1001",
            "classes.mine.off_peak[0].value: expected 1 to 1000",
        ),
        (
            "value = 100",
            "value = 100\n[[classes.mine.off_peak]]\nfrom = \"05:00\"\nto = \"06:00\"\nvalue = 2",
            "classes.mine.off_peak[1]: expected windows that do not overlap, and 05:00 is in off_peak[0] too",
        ),
        (
            "[classes.mine]",
            "[classes.\"m\\nine\"]\nvalue = 1\nguarantee_percent = 0\n[classes.mine]",
            "classes.m\\nine: expected names of",
        ),
        (
            "[classes.mine]",
            "[clases.mine]",
            "line 5: clases.mine: unknown field `clases`",
        ),
        ("[classes.mine]", "[classes.mine", "line 5: "),
        (
            "[classes.financial]",
            "[limits]\nslice_ms = 1\n[classes.financial]",
            "limits.slice_ms: expected 2 to 1000, got 1",
        ),
        (
            "[classes.financial]",
            "[limits]\nquantum_us = 2.5\n[classes.financial]",
            "line 2: limits.quantum_us: invalid type: floating point `2.5`, expected u64",
        ),
        (
            "value = 64",
            "value = 64\nstorage_max_bytes = -1",
            "line 3: classes.financial.storage_max_bytes: invalid value",
        ),
    ];
    for (from, to, reason) in cases {
        let text = SMALL.replacen(from, to, 1);
        assert_ne!(text, SMALL, "{from:?} is not there");
        let error = parse(&text).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
        assert!(
            !error.contains('\n'),
            "{error:?} is more than a line of a log"
        );
    }
    assert!(matches!(parse(""), Err(FileError::Form { line: 1, .. })));
    let none = PolicyError::Classes { got: 0 };
    assert_eq!(parse("[classes]"), Err(none.into()));
    let long = "#".repeat(1 << 20) + "#";
    assert_eq!(parse(&long), Err(FileError::TooLong { got: (1 << 20) + 1 }));
}

/// Writes a policy as a file says it, with every key.
fn write(policy: &Policy) -> String {
    use std::fmt::Write;
    let percent = |share: Share| f64::from(share.millionths()) / 10_000.0;
    let limits = policy.limits();
    let mut text = format!(
        "[limits]\ntenants_max = {}\njobs_max = {}\nslice_ms = {}\nquantum_us = {}\n\
         overrun_quanta = {}\nidle_patience_us = {}\nreallocation_max_ms = {}\n",
        limits.tenants_max,
        limits.jobs_max,
        limits.slice.as_millis(),
        limits.quantum.as_micros(),
        limits.overrun_quanta,
        limits.idle_patience.as_micros(),
        limits.reallocation_max.as_millis(),
    );
    for class in policy.classes() {
        write!(
            text,
            "[classes.{name}]\nvalue = {}\nguarantee_percent = {}\nceiling_percent = {}\n\
             ageing_max_ms = {}\nqueue_max = {}\nprepared_max = {}\ndeadline_implied_ms = {}\n\
             storage_max_bytes = {}\ndeclared_span_max_ms = {}\ndeclared_patience_ms = {}\n",
            class.value,
            percent(class.guarantee),
            percent(class.ceiling),
            class.ageing_max.as_millis(),
            class.queue_max,
            class.prepared_max,
            class.deadline_implied.as_millis(),
            class.storage_max,
            class.declared_span_max.as_millis(),
            class.declared_patience.as_millis(),
            name = class.name,
        )
        .expect("a String takes all");
        if let Some(peak) = class.peak {
            write!(
                text,
                "[classes.{}.peak]\nvalue = {}\nhold_ms = {}\n",
                class.name,
                peak.value,
                peak.hold.as_millis()
            )
            .expect("a String takes all");
            if let Some(Marks { high, low }) = peak.queue {
                text += &format!("queue = {{ high = {high}, low = {low} }}\n");
            }
            if let Some(Arrivals { marks, span }) = peak.arrivals {
                let (Marks { high, low }, ms) = (marks, span.as_millis());
                text += &format!("arrivals = {{ high = {high}, low = {low}, span_ms = {ms} }}\n");
            }
            if let Some(SlackMarks { high, low }) = peak.slack {
                let (high, low) = (high.as_millis(), low.as_millis());
                text += &format!("slack = {{ high_ms = {high}, low_ms = {low} }}\n");
            }
        }
        if let Some(it) = class.give_back {
            text += &format!(
                "[classes.{}.give_back]\nheld_percent = {}\nquiet_ms = {}\njobs = {}\narrivals = {}\n",
                class.name,
                percent(it.share),
                it.quiet.as_millis(),
                it.jobs,
                it.arrivals,
            );
        }
        for window in &class.off_peak {
            text += &format!(
                "[[classes.{}.off_peak]]\nfrom = \"{}\"\nto = \"{}\"\nvalue = {}\n",
                class.name, window.from, window.to, window.value
            );
        }
    }
    text
}

fn marks(max: u32) -> impl Strategy<Value = Marks> {
    (1..=max).prop_flat_map(|high| (0..high).prop_map(move |low| Marks { high, low }))
}

fn peaks() -> impl Strategy<Value = Peak> {
    let arrivals = (marks(1_024), 1u64..10_000).prop_map(|(marks, ms)| Arrivals {
        marks,
        span: Nanos::from_millis(ms),
    });
    let slack = marks(100_000).prop_map(|it| SlackMarks {
        high: Nanos::from_millis(it.high.into()),
        low: Nanos::from_millis(it.low.into()),
    });
    let hold = (0u64..10_000).prop_map(Nanos::from_millis);
    (
        500u32..=1_000,
        marks(100),
        prop::option::of(arrivals),
        prop::option::of(slack),
        hold,
    )
        .prop_map(|(value, queue, arrivals, slack, hold)| Peak {
            value,
            // One there must be.
            queue: (arrivals.is_none() || slack.is_none()).then_some(queue),
            arrivals,
            slack,
            hold,
        })
}

/// A time of day by its minute, as text and back.
fn time(minute: u32) -> TimeOfDay {
    let text = format!("{:02}:{:02}", minute / 60, minute % 60);
    text.parse().expect("a time")
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    // Bounds in order make windows that do not overlap; the last may go over midnight.
    prop::collection::btree_set(0u32..1_440, 0..8).prop_map(|minutes| {
        let minutes: Vec<u32> = minutes.into_iter().collect();
        let ends = minutes.iter().cycle().skip(1);
        let spans = minutes
            .iter()
            .zip(ends)
            .step_by(2)
            .filter(|(from, to)| from != to);
        spans
            .map(|(&from, &to)| Window {
                from: time(from),
                to: time(to),
                value: 1 + from % 1_000,
            })
            .collect()
    })
}

fn give_back() -> impl Strategy<Value = GiveBack> {
    (0u32..=1_000_000, 1u64..100_000, 0u32..100, 0u32..=1_024).prop_map(|it| GiveBack {
        share: Share::from_millionths(it.0),
        quiet: Nanos::from_millis(it.1),
        jobs: it.2,
        arrivals: it.3,
    })
}

fn classes() -> impl Strategy<Value = Vec<Class>> {
    let class = (
        (1u32..=500, 0u32..60_000, 0u32..=400_000, 50u64..10_000),
        (
            100u32..=4_096,
            1u32..=64,
            1u64..100_000,
            0..=i64::MAX.unsigned_abs(),
        ),
        prop::option::of(peaks()),
        windows(),
        prop::option::of(give_back()),
    );
    prop::collection::vec(class, 1..=16).prop_map(|classes| {
        let classes = classes.into_iter().enumerate();
        classes
            .map(
                |(index, (first, second, peak, off_peak, give_back))| Class {
                    // Backwards, so that the order of names is not that of the text.
                    name: format!("c{}", 99 - index),
                    value: first.0,
                    guarantee: Share::from_millionths(first.1),
                    ceiling: Share::from_millionths(600_000 + first.2),
                    ageing_max: Nanos::from_millis(first.3),
                    queue_max: second.0,
                    prepared_max: second.1,
                    deadline_implied: Nanos::from_millis(second.2),
                    storage_max: second.3,
                    declared_span_max: Nanos::from_millis(second.2),
                    declared_patience: Nanos::from_millis(second.2 / 2),
                    peak,
                    off_peak,
                    give_back,
                },
            )
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_read_is_what_was_written(classes in classes(), slice in 2u64..25) {
        let limits = Limits { slice: Nanos::from_millis(slice), ..Limits::STANDARD };
        let policy = Policy::new(classes, limits).expect("made to be one");
        prop_assert_eq!(parse(&write(&policy)), Ok(policy));
    }

    /// Damage is refused in a line, or read as a policy that is one; it never panics.
    #[test]
    fn a_damaged_file_is_no_disaster(
        at in 0usize..STANDARD.len(),
        cut in 0usize..40,
        put in "[\\PC\n]{0,12}",
    ) {
        let mut bytes = STANDARD.as_bytes().to_vec();
        let end = (at + cut).min(bytes.len());
        bytes.splice(at..end, put.bytes());
        match parse(&String::from_utf8_lossy(&bytes)) {
            Ok(policy) => {
                let same = Policy::new(policy.classes().to_vec(), *policy.limits());
                prop_assert_eq!(same, Ok(policy));
            }
            Err(error) => prop_assert!(!error.to_string().contains('\n'), "{}", error),
        }
    }

    /// A window holds a minute if walking from its start, minute by minute, comes past it before
    /// its end.
    #[test]
    fn windows_hold_what_a_walk_finds(from in 0u32..1_440, to in 0u32..1_440, at in 0u32..1_440) {
        let window = Window { from: time(from), to: time(to), value: 1 };
        prop_assume!(from != to);
        let mut minute = from;
        let mut found = false;
        while minute != to {
            found |= minute == at;
            minute = (minute + 1) % 1_440;
        }
        prop_assert_eq!(window.contains(time(at)), found);
    }

    /// Windows that share a minute are refused, and only those.
    #[test]
    fn overlaps_are_found(bounds in prop::collection::vec((0u32..48, 0u32..48, ), 1..4)) {
        let half_hours: Vec<_> = bounds.iter().filter(|(from, to)| from != to).collect();
        let off_peak: Vec<Window> = half_hours
            .iter()
            .map(|&&(from, to)| Window { from: time(from * 30), to: time(to * 30), value: 1 })
            .collect();
        let minutes = (0..1_440).map(time);
        let twice = minutes
            .filter(|&minute| off_peak.iter().filter(|it| it.contains(minute)).count() > 1)
            .count();
        let class = Class { off_peak, ..Class::plain("c") };
        let answer = Policy::new(vec![class], Limits::STANDARD);
        let refused = matches!(answer, Err(PolicyError::WindowsOverlap { .. }));
        prop_assert_eq!(refused, twice > 0);
    }
}

#[test]
fn a_successor_must_fit_what_runs() {
    let standard = Policy::standard();
    let text = |from: &str, to: &str| parse(&STANDARD.replacen(from, to, 1)).expect("a policy");
    let check = |next: &Policy| standard.check_successor(next, |class| class.index() == 3);
    assert_eq!(check(&standard), Ok(()));
    assert_eq!(check(&text("value = 64", "value = 100")), Ok(()));
    // Retail has no tenants, so it may go; social has.
    let without = |name: &str| STANDARD.replace(&format!("[classes.{name}"), "[classes.other");
    assert_eq!(check(&parse(&without("retail")).expect("a policy")), Ok(()));
    let last = STANDARD.rfind("prepared_max = 4").expect("of social");
    let prepared = STANDARD[..last].to_owned() + &STANDARD[last..].replace("max = 4", "max = 3");
    let cases = [
        (
            without("social"),
            "classes.social: expected to stay while tenants of it are on the box, got none",
        ),
        (
            prepared,
            "classes.social.prepared_max: expected 4 as when the box started, got 3; restart",
        ),
        (
            STANDARD.replace("quantum_us = 2000", "quantum_us = 1000"),
            "limits.quantum_us: expected 2000 as when the box started, got 1000; restart",
        ),
        (
            STANDARD.replace("tenants_max = 64", "tenants_max = 65"),
            "limits.tenants_max: expected 64 as",
        ),
        (
            STANDARD.replace("jobs_max = 4096", "jobs_max = 4097"),
            "limits.jobs_max: expected 4096 as",
        ),
    ];
    for (text, reason) in cases {
        let next = parse(&text).expect("a policy");
        let error = check(&next).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }
}
