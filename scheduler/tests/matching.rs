//! The matcher against a brute-force oracle on small pools, and its promises as properties.
//!
//! The oracle shares nothing with the matcher but its rates: it lists every assignment of the
//! open seats, keeps those that obey the rules, and takes the best by the order that the matcher's
//! file promises. The rates have properties of their own.

use caldera_scheduler::Nanos;
use caldera_scheduler::matching::{Claim, Matcher, Rate, Seat};
use proptest::prelude::*;

const SLICE: Nanos = Nanos::from_millis(25);

#[derive(Debug, Clone)]
struct Case {
    claims: Vec<Claim>,
    seats: Vec<Seat>,
}

/// Up to three tenants on up to four seats: debts of up to two slices, guarantees within the box.
fn cases() -> impl Strategy<Value = Case> {
    let claim = (
        0u32..=5,
        0u64..=33,
        1u32..=8,
        -2i64..=2,
        prop::option::weighted(0.2, 0u64..3),
    );
    let seat = (
        prop::option::of(0usize..3),
        0u8..8,
        any::<bool>(),
        any::<bool>(),
    );
    (
        prop::collection::vec(claim, 1..=3),
        prop::collection::vec(seat, 1..=4),
    )
        .prop_map(|(claims, seats)| {
            let open = seats.iter().filter(|seat| seat.1 > 0).count() as u64;
            let seats: Vec<Seat> = seats
                .into_iter()
                .map(|(holder, closed, kept, idle)| Seat {
                    holder: holder.filter(|&holder| holder < claims.len()),
                    closed: closed == 0,
                    kept,
                    idle,
                })
                .collect();
            let claims = claims
                .into_iter()
                .map(|(want, percent, value, debt, aged)| Claim {
                    want,
                    guarantee: Rate(Rate::ONE.0 * open * percent / 100),
                    value,
                    debt: debt * SLICE.0 as i64 * 3 / 4,
                    aged: aged.map(Nanos),
                })
                .collect();
            Case { claims, seats }
        })
}

fn open(seats: &[Seat]) -> usize {
    seats.iter().filter(|seat| !seat.closed).count()
}

fn seats_of(owners: &[Option<usize>], claim: usize) -> u32 {
    owners.iter().filter(|&&owner| owner == Some(claim)).count() as u32
}

/// Seats that change hands: a seat given to a claim that did not hold it.
fn moved(owners: &[Option<usize>], seats: &[Seat]) -> usize {
    owners
        .iter()
        .zip(seats)
        .filter(|(owner, seat)| owner.is_some() && **owner != seat.holder)
        .count()
}

/// Every way to give open seats to claims or to nobody.
fn all_assignments(claims: usize, seats: &[Seat]) -> Vec<Vec<Option<usize>>> {
    let mut all = vec![vec![]];
    for seat in seats {
        let choices = if seat.closed { 0 } else { claims };
        all = all
            .into_iter()
            .flat_map(|start: Vec<Option<usize>>| {
                (0..=choices).map(move |choice| {
                    let mut next = start.clone();
                    next.push(choice.checked_sub(1));
                    next
                })
            })
            .collect();
    }
    all
}

/// The seat counts that the rules single out, found by trying all assignments.
fn oracle(case: &Case, rates: &[Rate]) -> (Vec<u32>, usize) {
    let Case { claims, seats } = case;
    let wanted: u32 = claims.iter().map(|claim| claim.want).sum();
    let due = wanted.min(open(seats) as u32);
    let held = |i: usize, kept: bool| {
        let mine = seats
            .iter()
            .filter(|s| !s.closed && s.holder == Some(i) && (s.kept || !kept));
        mine.count() as u32
    };
    let lawful = all_assignments(claims.len(), seats)
        .into_iter()
        .filter(|owners| {
            let counts: Vec<u32> = (0..claims.len()).map(|i| seats_of(owners, i)).collect();
            counts.iter().sum::<u32>() == due
                && (0..claims.len()).all(|i| {
                    let floor = rates[i].floor();
                    counts[i] >= floor && counts[i] <= claims[i].want && counts[i] <= floor + 1
                })
        });
    // The extra seats as a list of merits, the best first: the best list is the one that no
    // other list beats at the first place where they differ.
    let merit = |owners: &Vec<Option<usize>>| {
        let mut extras: Vec<_> = (0..claims.len())
            .filter(|&i| wanted > due && seats_of(owners, i) > rates[i].floor())
            .map(|i| {
                let floor = rates[i].floor();
                let lead = (u128::from(rates[i].fraction()) * u128::from(SLICE.0)) >> 32;
                (
                    rates[i].fraction() > 0,
                    held(i, true) > floor,
                    claims[i].debt + lead as i64,
                    held(i, false) > floor,
                    claims[i].value,
                    std::cmp::Reverse(i),
                )
            })
            .collect();
        extras.sort_by(|a, b| b.cmp(a));
        extras
    };
    let mut best: Vec<Vec<Option<usize>>> = Vec::new();
    for owners in lawful {
        match best.first().map(|b| merit(&owners).cmp(&merit(b))) {
            None | Some(std::cmp::Ordering::Greater) => best = vec![owners],
            Some(std::cmp::Ordering::Equal) => best.push(owners),
            Some(std::cmp::Ordering::Less) => {}
        }
    }
    let first = best.first().expect("some assignment obeys the rules");
    let counts = (0..claims.len()).map(|i| seats_of(first, i)).collect();
    (
        counts,
        best.iter()
            .map(|owners| moved(owners, seats))
            .min()
            .expect("as above"),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn counts_and_movement_are_the_oracles(case in cases()) {
        let mut matcher = Matcher::default();
        let owners = matcher.decide(SLICE, &case.claims, &case.seats).to_vec();
        let (counts, least) = oracle(&case, matcher.rates());
        prop_assert_eq!(matcher.counts(), &counts[..]);
        let given: Vec<u32> = (0..counts.len()).map(|i| seats_of(&owners, i)).collect();
        prop_assert_eq!(&given, &counts);
        prop_assert_eq!(moved(&owners, &case.seats), least);
    }

    #[test]
    fn no_closed_seat_is_given_and_no_wanted_seat_is_empty(case in cases()) {
        let mut matcher = Matcher::default();
        let owners = matcher.decide(SLICE, &case.claims, &case.seats);
        prop_assert_eq!(owners.len(), case.seats.len());
        for (owner, seat) in owners.iter().zip(&case.seats) {
            prop_assert!(!seat.closed || owner.is_none());
        }
        let wanted: u32 = case.claims.iter().map(|claim| claim.want).sum();
        let given = owners.iter().flatten().count();
        prop_assert_eq!(given, open(&case.seats).min(wanted as usize));
        for (i, claim) in case.claims.iter().enumerate() {
            prop_assert!(seats_of(owners, i) <= claim.want);
        }
    }

    #[test]
    fn rates_keep_guarantees_and_fill_the_box(case in cases()) {
        let mut matcher = Matcher::default();
        let open = open(&case.seats) as u32;
        let rates = matcher.pour(open, &case.claims).to_vec();
        let wanted: u32 = case.claims.iter().map(|claim| claim.want).sum();
        let sum: u64 = rates.iter().map(|rate| rate.0).sum();
        let whole = Rate::whole(open.min(wanted)).0;
        prop_assert!(sum <= whole && whole - sum < 16, "{sum} of {whole}");
        let nobody_aged = case.claims.iter().all(|claim| claim.aged.is_none());
        for (rate, claim) in rates.iter().zip(&case.claims) {
            let want = Rate::whole(claim.want);
            prop_assert!(*rate <= want);
            prop_assert!(!nobody_aged || *rate >= claim.guarantee.min(want));
            // Nobody who wants something is left without a share, as long as any surplus is.
            let promised: u64 = case.claims.iter().map(|c| c.guarantee.0).sum();
            let surplus = nobody_aged && promised + Rate::ONE.0 / 100 < Rate::whole(open).0;
            prop_assert!(claim.want == 0 || !surplus || rate.0 > 0);
        }
    }

    #[test]
    fn the_aged_get_a_seat_the_earliest_first(case in cases()) {
        let mut matcher = Matcher::default();
        let owners = matcher.decide(SLICE, &case.claims, &case.seats);
        let mut aged: Vec<usize> = (0..case.claims.len())
            .filter(|&i| case.claims[i].want > 0 && case.claims[i].aged.is_some())
            .collect();
        aged.sort_by_key(|&i| (case.claims[i].aged, i));
        for &i in aged.iter().take(open(&case.seats)) {
            prop_assert!(seats_of(owners, i) > 0, "claim {i} has aged and got nothing");
        }
    }

    #[test]
    fn more_value_never_costs_a_seat(case in cases(), who in 0usize..3, more in 1u32..50) {
        let mut matcher = Matcher::default();
        let who = who % case.claims.len();
        let before = seats_of(matcher.decide(SLICE, &case.claims, &case.seats), who);
        let mut claims = case.claims.clone();
        claims[who].value += more;
        let after = seats_of(matcher.decide(SLICE, &claims, &case.seats), who);
        prop_assert!(after >= before, "{before} seats became {after}");
    }

    #[test]
    fn nothing_moves_when_nothing_changes(case in cases()) {
        let mut matcher = Matcher::default();
        let first = matcher.decide(SLICE, &case.claims, &case.seats).to_vec();
        let mut seats = case.seats.clone();
        for (seat, &owner) in seats.iter_mut().zip(&first) {
            // A seat that changes hands starts anew.
            let stays = seat.holder == owner;
            seat.kept &= stays;
            seat.idle &= stays;
            seat.holder = owner;
        }
        prop_assert_eq!(matcher.decide(SLICE, &case.claims, &seats), &first[..]);
    }
}

/// Guarantees that leave 2^-32 of a core over. That remainder used to go whole to whoever came last
/// in the order of filling, as a fraction that counted: it made claim 1 a contender for the second
/// core, where its debt won. With a larger value it came earlier, had no fraction any more, and
/// lost the core. A remainder of rounding is now nobody's.
#[test]
fn the_remainder_of_rounding_decides_nothing() {
    let claim = |want, guarantee| Claim {
        want,
        guarantee: Rate(guarantee),
        value: 1,
        ..Claim::default()
    };
    let mut claims = [
        claim(1, 1_546_188_226),
        Claim {
            debt: 18_750_000,
            aged: Some(Nanos(0)),
            ..claim(3, 0)
        },
        claim(1, 2_748_779_069),
    ];
    let promised: u64 = claims.iter().map(|claim| claim.guarantee.0).sum();
    assert_eq!(promised, Rate::ONE.0 - 1);
    let mut matcher = Matcher::default();
    for value in [1, 4] {
        claims[1].value = value;
        matcher.decide(SLICE, &claims, &[Seat::default(); 2]);
        assert_eq!(matcher.counts(), [0, 1, 1], "with a value of {value}");
    }
}

/// The whole machine at its bounds: 1,024 seats, 256 tenants that all want everything.
#[test]
fn a_full_box_is_shared_out_whole() {
    let claims: Vec<Claim> = (0..256)
        .map(|i| Claim {
            want: 1_024,
            guarantee: Rate(Rate::ONE.0 * (i % 4)),
            value: [64, 16, 4, 1][i as usize % 4],
            debt: 0,
            aged: None,
        })
        .collect();
    let mut matcher = Matcher::new(256, 1_024);
    let owners = matcher.decide(SLICE, &claims, &[Seat::default(); 1_024]);
    assert!(owners.iter().all(Option::is_some));
    for class in 0..4 {
        let counts: Vec<u32> = (class..256)
            .step_by(4)
            .map(|i| matcher.counts()[i])
            .collect();
        let (min, max) = (counts.iter().min(), counts.iter().max());
        assert!(
            max.zip(min).is_some_and(|(max, min)| max - min <= 1),
            "class {class}: {counts:?}"
        );
    }
}
