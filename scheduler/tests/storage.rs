//! Storage that quiet tenants give back, against brute force: what goes is the least that is enough,
//! in order, and never what a job needs; and it goes once in each quiet, at its time.

use caldera_scheduler::Nanos;
use caldera_scheduler::scenario::{GiveBack, Share};
use caldera_scheduler::storage::{Bound, Item, Kind, Watch, plan};
use proptest::prelude::*;

fn item() -> impl Strategy<Value = Item> {
    let kind = prop_oneof![
        Just(Kind::Tables),
        Just(Kind::Spent),
        Just(Kind::Key),
        Just(Kind::Blob),
    ];
    let bound = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Bound::Job)),
        1 => Just(Some(Bound::NoSource)),
    ];
    (kind, 0u64..40, bound).prop_map(|(kind, bytes, bound)| Item { kind, bytes, bound })
}

/// Whether a set may go: nothing bound, and nothing of a later kind while something of an earlier one
/// that may go stays.
fn lawful(items: &[Item], set: u32) -> bool {
    let inside = |at: usize| set & (1 << at) != 0;
    (0..items.len()).all(|at| {
        let earlier_stays = |kind| {
            let mut all = items.iter().enumerate();
            all.any(|(other, it)| {
                it.kind < kind && it.bound.is_none() && it.bytes > 0 && !inside(other)
            })
        };
        !inside(at)
            || (items[at].bound.is_none() && items[at].bytes > 0 && !earlier_stays(items[at].kind))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_goes_is_the_least_that_is_enough(
        items in prop::collection::vec(item(), 0..9),
        millionths in 0u32..=1_000_000,
    ) {
        let plan = plan(&items, Share::from_millionths(millionths));
        let bytes = |of: &mut dyn Iterator<Item = &Item>| of.map(|it| it.bytes).sum::<u64>();
        let held = bytes(&mut items.iter());
        prop_assert_eq!(plan.held, held);
        // The smallest number of bytes that is not less than the share.
        prop_assert!(u128::from(plan.aim) * 1_000_000 >= u128::from(held) * u128::from(millionths));
        prop_assert!(plan.aim == 0
            || u128::from(plan.aim - 1) * 1_000_000 < u128::from(held) * u128::from(millionths));

        let going: Vec<Item> = plan.going.iter().map(|&at| items[at]).collect();
        let mut set = 0u32;
        for &at in &plan.going {
            prop_assert_eq!(set & (1 << at), 0, "it goes once");
            set |= 1 << at;
        }
        prop_assert!(lawful(&items, set));
        prop_assert!(going.is_sorted_by_key(|it| it.kind));
        prop_assert_eq!(plan.back, bytes(&mut going.iter()));
        let kept = items.iter().enumerate().filter(|(at, _)| set & (1 << at) == 0);
        prop_assert_eq!(plan.back + bytes(&mut kept.map(|(_, it)| it)), held);
        if let Some((_, before)) = going.split_last() {
            prop_assert!(bytes(&mut before.iter()) < plan.aim, "the last one was needed");
        }
        let bound = |of| bytes(&mut items.iter().filter(|it| it.bound == Some(of)));
        prop_assert_eq!(plan.needed, bound(Bound::Job));
        prop_assert_eq!(plan.sourceless, bound(Bound::NoSource));

        // Of all sets that may go and are enough, none has fewer things; and if none is enough,
        // everything goes that may.
        let sum = |set: u32| -> u64 {
            let all = items.iter().enumerate();
            all.filter(|(at, _)| set & (1 << at) != 0).map(|(_, it)| it.bytes).sum()
        };
        let lawful = (0..1u32 << items.len()).filter(|&set| lawful(&items, set));
        let (enough, not): (Vec<u32>, Vec<u32>) = lawful.partition(|&set| sum(set) >= plan.aim);
        match enough.iter().map(|set| set.count_ones()).min() {
            Some(least) => {
                prop_assert!(plan.back >= plan.aim);
                prop_assert_eq!(plan.going.len() as u32, least);
            }
            None => {
                let most = not.iter().map(|&set| sum(set)).max();
                prop_assert_eq!(Some(plan.back), most);
                let free = items.iter().filter(|it| it.bound.is_none() && it.bytes > 0);
                prop_assert_eq!(plan.going.len(), free.count());
            }
        }
    }
}

/// What can happen to a tenant in a millisecond.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Nothing,
    Arrival,
    Begin,
    End,
}

/// The whole history, looked at anew at each moment: whether a release is due now. Demand is low at a
/// moment if no more jobs are unfinished than may be and no more arrivals lie in the time of a quiet
/// before it than may.
struct History {
    mark: GiveBack,
    arrivals: Vec<u64>,
    /// The last moment at which too many jobs were unfinished.
    over: Option<u64>,
    unfinished: u32,
    /// When the last release was ended by an arrival.
    resumed: Option<u64>,
    given: bool,
}

impl History {
    fn due(&self, now: u64) -> bool {
        let quiet = self.mark.quiet.as_millis();
        let Some(from) = now.checked_sub(quiet) else {
            return false;
        };
        let recent = self.arrivals.iter().filter(|&&at| at > from).count();
        recent <= self.mark.arrivals as usize
            && self.unfinished <= self.mark.jobs
            && self.over.is_none_or(|at| at <= from)
            && self.resumed.is_none_or(|at| at <= from)
            && !self.given
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_quiet_begins_as_the_whole_history_says_and_gives_once(
        happens in prop::collection::vec(
            prop_oneof![
                12 => Just(Happens::Nothing),
                2 => Just(Happens::Arrival),
                1 => Just(Happens::Begin),
                2 => Just(Happens::End),
            ],
            0..200,
        ),
        quiet in 1u64..12,
        jobs in 0u32..3,
        arrivals in 0u32..4,
    ) {
        let mark = GiveBack {
            share: Share::from_percent(80),
            quiet: Nanos::from_millis(quiet),
            jobs,
            arrivals,
        };
        let mut watch = Watch::new(Some(mark), Nanos::ZERO);
        let mut history = History {
            mark,
            arrivals: Vec::new(),
            over: None,
            unfinished: 0,
            resumed: None,
            given: false,
        };
        for (now, happens) in (0..).zip(happens) {
            let at = Nanos::from_millis(now);
            match happens {
                Happens::Nothing => {}
                Happens::Arrival => {
                    prop_assert_eq!(watch.arrive(at), history.given);
                    history.arrivals.push(now);
                    if history.given {
                        (history.given, history.resumed) = (false, Some(now));
                    }
                }
                Happens::Begin => {
                    watch.begin();
                    history.unfinished += 1;
                }
                Happens::End if history.unfinished > 0 => {
                    watch.end(at);
                    if history.unfinished > jobs {
                        history.over = Some(now);
                    }
                    history.unfinished -= 1;
                }
                Happens::End => {}
            }
            let due = history.due(now);
            prop_assert_eq!(watch.due().is_some_and(|due| due <= at), due);
            prop_assert_eq!(watch.give(at).is_some(), due);
            history.given |= due;
            prop_assert_eq!(watch.give(at), None, "once");
        }
    }
}

#[test]
fn without_a_mark_or_a_share_nothing_is_given() {
    let far = Nanos::from_secs(1_000_000);
    let off = GiveBack {
        share: Share::NONE,
        ..GiveBack::PLAIN
    };
    for mark in [None, Some(off)] {
        let mut watch = Watch::new(mark, Nanos::ZERO);
        assert_eq!(watch.due(), None);
        assert_eq!(watch.give(far), None);
        // Another policy may turn it on.
        watch.adopt(Some(GiveBack::PLAIN));
        assert_eq!(watch.due(), Some(GiveBack::PLAIN.quiet));
        watch.was_given();
        assert_eq!(watch.give(far), None, "it was, before a restart");
        assert!(watch.arrive(far));
        assert_eq!(watch.due(), Some(far.plus(GiveBack::PLAIN.quiet)));
    }
}
