//! How much of each kind a tenant gets: against the definition, and the promises one by one.

use caldera_scheduler::Nanos;
use caldera_scheduler::matching::dominant::{BYTES, ByteClaim, Bytes, Demands, Division, Places};
use caldera_scheduler::matching::{Claim, Matcher, Rate, Seat};
use caldera_scheduler::pool::{KINDS, Kind};
use proptest::prelude::*;

use crate::one_kind;

pub(crate) const SLICE: Nanos = Nanos::from_millis(25);

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) demands: Demands,
    pub(crate) places: Places,
    pub(crate) bytes: [u64; BYTES],
}

impl Case {
    pub(crate) fn decide(&self) -> Division {
        let mut division = Division::default();
        division.decide(SLICE, &self.demands, &self.places, self.bytes);
        division
    }

    fn tenants(&self) -> usize {
        self.demands.tables.len()
    }

    fn open(&self, kind: Kind) -> u32 {
        let seats = self.places.seats[kind.index()].iter();
        seats.filter(|seat| !seat.closed).count() as u32
    }

    fn claim(&self, kind: Kind, who: usize) -> &Claim {
        &self.demands.units[kind.index()][who]
    }

    fn value(&self, who: usize) -> u32 {
        self.claim(Kind::Core, who).value
    }

    fn nobody_aged(&self) -> bool {
        let cores = &self.demands.units[Kind::Core.index()];
        cores.iter().all(|claim| claim.aged.is_none())
    }

    /// A tenant's wants, each as a part of what there is.
    fn shares(&self, who: usize) -> [f64; KINDS + BYTES] {
        let of = |want: f64, there: f64| if there > 0.0 { want / there } else { 0.0 };
        let unit = |kind: Kind| {
            let want = self.claim(kind, who).want;
            of(f64::from(want), f64::from(self.open(kind)))
        };
        let byte = |kind: usize| match self.bytes[kind] {
            u64::MAX => 0.0,
            there => of(self.demands.bytes[kind][who].want as f64, there as f64),
        };
        [unit(Kind::Core), unit(Kind::Device), byte(0), byte(1)]
    }

    /// By definition: share wanted of a kind over the dominant share.
    fn pull(&self, who: usize, kind: usize) -> f64 {
        let shares = self.shares(who);
        let dominant = shares.iter().copied().fold(0.0, f64::max);
        if dominant > 0.0 {
            shares[kind] / dominant
        } else {
            1.0
        }
    }
}

/// Up to four tenants, five cores and three devices on three nodes, and some bytes.
pub(crate) fn cases(aged: bool) -> impl Strategy<Value = Case> {
    let unit = |most: u32| (0..=most, 0u64..=25, -2i64..=2);
    let byte = || (0u64..60, 0u64..=25);
    let ages = prop::option::weighted(0.2, 0u64..3).prop_map(move |it| it.filter(|_| aged));
    let tenant = (unit(6), unit(4), byte(), byte(), 1u32..=8, ages, 0u64..8);
    let seat = || {
        let holder = prop::option::of(0usize..4);
        let node = prop::option::weighted(0.8, 0u8..3);
        (holder, 0u8..8, any::<bool>(), any::<bool>(), node)
    };
    let there = || prop_oneof![1 => Just(u64::MAX), 4 => 1u64..100];
    (
        prop::collection::vec(tenant, 1..=4),
        prop::collection::vec(seat(), 1..=5),
        prop::collection::vec(seat(), 0..=3),
        there(),
        there(),
    )
        .prop_map(|(tenants, cores, devices, device_memory, host_memory)| {
            let count = tenants.len();
            let mut places = Places::default();
            for (kind, list) in [(Kind::Core, cores), (Kind::Device, devices)] {
                for (holder, closed, kept, idle, node) in list {
                    places.seats[kind.index()].push(Seat {
                        holder: holder.filter(|&holder| holder < count),
                        closed: closed == 0,
                        kept,
                        idle,
                    });
                    places.nodes[kind.index()].push(node);
                }
            }
            let bytes = [device_memory, host_memory];
            let open = |kind: Kind| {
                let seats = places.seats[kind.index()].iter();
                seats.filter(|seat| !seat.closed).count() as u64
            };
            let mut demands = Demands::default();
            for (core, device, device_bytes, host_bytes, value, aged, tables) in tenants {
                for (kind, (want, percent, debt)) in [(Kind::Core, core), (Kind::Device, device)] {
                    demands.units[kind.index()].push(Claim {
                        want,
                        guarantee: Rate(Rate::ONE.0 * open(kind) * percent / 100),
                        value,
                        debt: debt * SLICE.0 as i64 * 3 / 4,
                        aged: aged.map(Nanos).filter(|_| kind == Kind::Core),
                    });
                }
                for (kind, (want, percent)) in [device_bytes, host_bytes].into_iter().enumerate() {
                    let there = u128::from(bytes[kind]) * u128::from(percent) / 100;
                    demands.bytes[kind].push(ByteClaim {
                        want,
                        guarantee: there as u64,
                        aged: None,
                    });
                }
                demands.tables.push(tables);
            }
            Case {
                demands,
                places,
                bytes,
            }
        })
}

/// What each gets of a kind, from the definition: guarantees, and then a level that rises until all
/// is given, found by halving.
fn by_definition(
    case: &Case,
    kind: usize,
    there: f64,
    wants: &[f64],
    promised: &[f64],
) -> Vec<f64> {
    let given = |level: f64| -> Vec<f64> {
        (0..wants.len())
            .map(|i| {
                let base = promised[i].min(wants[i]);
                let grown = level * f64::from(case.value(i)) * case.pull(i, kind);
                base + grown.min(wants[i] - base)
            })
            .collect()
    };
    let (mut low, mut high) = (0.0, 1e12);
    for _ in 0..200 {
        let middle = (low + high) / 2.0;
        if given(middle).iter().sum::<f64>() > there {
            high = middle;
        } else {
            low = middle;
        }
    }
    given(low)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn cores_alone_are_divided_as_ever(mut case in cases(true)) {
        case.places.seats[1].clear();
        case.places.nodes[1].clear();
        case.bytes = [u64::MAX; BYTES];
        let division = case.decide();
        let (claims, seats) = (&case.demands.units[0], &case.places.seats[0]);
        let expected = one_kind::decide(SLICE, claims, seats);
        prop_assert_eq!(division.rates(Kind::Core), &expected.rates[..]);
        prop_assert_eq!(division.counts(Kind::Core), &expected.counts[..]);
        prop_assert_eq!(division.owners(Kind::Core), &expected.owners[..]);
        let mut matcher = Matcher::default();
        prop_assert_eq!(matcher.decide(SLICE, claims, seats), &expected.owners[..]);
    }

    #[test]
    fn rates_and_bytes_are_those_of_the_definition(case in cases(false)) {
        let division = case.decide();
        for kind in Kind::ALL {
            let claims = &case.demands.units[kind.index()];
            let wants: Vec<f64> = claims.iter().map(|it| f64::from(it.want)).collect();
            let whole = Rate::ONE.0 as f64;
            let promised: Vec<f64> = claims.iter().map(|it| it.guarantee.0 as f64 / whole).collect();
            let there = f64::from(case.open(kind));
            let expected = by_definition(&case, kind.index(), there, &wants, &promised);
            for (rate, expected) in division.rates(kind).iter().zip(expected) {
                let rate = rate.0 as f64 / whole;
                prop_assert!((rate - expected).abs() < 1e-3, "{kind}: {rate} for {expected}");
            }
        }
        for kind in [Bytes::Device, Bytes::Host] {
            let claims = &case.demands.bytes[kind.index()];
            let wants: Vec<f64> = claims.iter().map(|it| it.want as f64).collect();
            let promised: Vec<f64> = claims.iter().map(|it| it.guarantee as f64).collect();
            if case.bytes[kind.index()] == u64::MAX {
                prop_assert!(claims.iter().map(|it| it.want).eq(division.bytes(kind).iter().copied()));
                continue;
            }
            let there = case.bytes[kind.index()] as f64;
            let expected = by_definition(&case, KINDS + kind.index(), there, &wants, &promised);
            for (&got, expected) in division.bytes(kind).iter().zip(expected) {
                prop_assert!((got as f64 - expected).abs() < 2.0, "{got} for {expected}");
            }
        }
    }

    #[test]
    fn no_kind_waits_for_another(case in cases(true)) {
        let division = case.decide();
        for kind in Kind::ALL {
            let claims = &case.demands.units[kind.index()];
            let owners = division.owners(kind);
            let seats = &case.places.seats[kind.index()];
            prop_assert_eq!(owners.len(), seats.len());
            let wanted: u32 = claims.iter().map(|claim| claim.want).sum();
            prop_assert_eq!(owners.iter().flatten().count() as u32, wanted.min(case.open(kind)));
            for (owner, seat) in owners.iter().zip(seats) {
                prop_assert!(owner.is_none() || !seat.closed);
            }
            for (i, claim) in claims.iter().enumerate() {
                let got = owners.iter().filter(|&&owner| owner == Some(i)).count() as u32;
                prop_assert_eq!(got, division.counts(kind)[i]);
                prop_assert!(got <= claim.want);
                // Whole units of the guarantee at once; the rest by turns.
                let floor = claim.guarantee.min(Rate::whole(claim.want)).floor();
                prop_assert!(got >= floor || !case.nobody_aged());
            }
        }
        for (kind, claims) in case.demands.bytes.iter().enumerate() {
            let given = division.bytes([Bytes::Device, Bytes::Host][kind]);
            let wanted: u64 = claims.iter().map(|claim| claim.want).sum();
            let due = wanted.min(case.bytes[kind]);
            let sum: u64 = given.iter().sum();
            prop_assert!(sum <= due && due - sum <= case.tenants() as u64, "{sum} of {due}");
            for (&got, claim) in given.iter().zip(claims) {
                prop_assert!(got <= claim.want && got >= claim.guarantee.min(claim.want));
            }
        }
    }

    #[test]
    fn each_gets_its_part_of_the_surplus(case in cases(false)) {
        let division = case.decide();
        for kind in Kind::ALL {
            let claims = &case.demands.units[kind.index()];
            let base = |i: usize| claims[i].guarantee.min(Rate::whole(claims[i].want)).0 as f64;
            let promised: f64 = (0..claims.len()).map(base).sum();
            let surplus = Rate::whole(case.open(kind)).0 as f64 - promised;
            let wanting = (0..claims.len()).filter(|&i| claims[i].want > 0);
            let values: f64 = wanting.map(|i| f64::from(claims[i].value)).sum();
            for (i, claim) in claims.iter().enumerate().filter(|(_, claim)| claim.want > 0) {
                let part = surplus * case.pull(i, kind.index()) * f64::from(claim.value) / values;
                let room = Rate::whole(claim.want).0 as f64 - base(i);
                let least = base(i) + part.min(room);
                let got = division.rates(kind)[i].0 as f64;
                prop_assert!(got >= least - Rate::ONE.0 as f64 / 1e3, "{kind}: {got} of {least}");
            }
        }
    }

    #[test]
    fn asking_for_more_of_one_kind_gains_nothing_of_another(
        case in cases(true),
        who in 0usize..4,
        what in 0usize..KINDS + BYTES,
        more in 1u32..40,
    ) {
        let who = who % case.tenants();
        let before = case.decide();
        let mut greedy = case.clone();
        match what.checked_sub(KINDS) {
            None => greedy.demands.units[what][who].want += more,
            Some(kind) => greedy.demands.bytes[kind][who].want += u64::from(more),
        }
        let after = greedy.decide();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.index() != what) {
            let (was, is) = (before.rates(kind)[who], after.rates(kind)[who]);
            prop_assert!(is.0 <= was.0 + 16, "{kind}: a rate of {was:?} became {is:?}");
            let (was, is) = (before.counts(kind)[who], after.counts(kind)[who]);
            prop_assert!(is <= was, "{was} {kind}s became {is}");
        }
        for kind in [Bytes::Device, Bytes::Host] {
            if kind.index() + KINDS != what {
                let (was, is) = (before.bytes(kind)[who], after.bytes(kind)[who]);
                prop_assert!(is <= was + 4, "{was} bytes became {is}");
            }
        }
    }

    #[test]
    fn more_value_never_costs_anything(case in cases(true), who in 0usize..4, more in 1u32..50) {
        let who = who % case.tenants();
        let before = case.decide();
        let mut dearer = case.clone();
        for claims in &mut dearer.demands.units {
            claims[who].value += more;
        }
        let after = dearer.decide();
        for kind in Kind::ALL {
            let (was, is) = (before.counts(kind)[who], after.counts(kind)[who]);
            prop_assert!(is >= was, "{was} {kind}s became {is}");
        }
        for kind in [Bytes::Device, Bytes::Host] {
            let (was, is) = (before.bytes(kind)[who], after.bytes(kind)[who]);
            prop_assert!(is + 4 >= was, "{was} bytes became {is}");
        }
    }

    #[test]
    fn nothing_moves_when_nothing_changes(case in cases(true)) {
        let first = case.decide();
        let mut again = case.clone();
        for kind in Kind::ALL {
            let seats = &mut again.places.seats[kind.index()];
            for (seat, &owner) in seats.iter_mut().zip(first.owners(kind)) {
                // A seat that changes hands starts anew.
                let stays = seat.holder == owner;
                seat.kept &= stays;
                seat.idle &= stays;
                seat.holder = owner;
            }
        }
        let second = again.decide();
        for kind in Kind::ALL {
            prop_assert_eq!(first.owners(kind), second.owners(kind));
        }
    }

    /// Debts carried from slice to slice stay small, so whoever has a rate in a kind is served there.
    #[test]
    fn turns_come_in_every_kind(case in cases(false)) {
        let mut case = case;
        let bound = (case.tenants() as i64 + 2) * SLICE.0 as i64;
        for claims in &mut case.demands.units {
            for claim in claims {
                claim.debt = 0;
            }
        }
        for _ in 0..200 {
            let division = case.decide();
            for kind in Kind::ALL {
                let seats = &mut case.places.seats[kind.index()];
                for (seat, &owner) in seats.iter_mut().zip(division.owners(kind)) {
                    *seat = Seat { holder: owner, closed: seat.closed, ..Seat::default() };
                }
                let claims = case.demands.units[kind.index()].iter_mut();
                for (i, claim) in claims.enumerate() {
                    let owed = division.rates(kind)[i].over(SLICE);
                    claim.debt += owed - Rate::whole(division.counts(kind)[i]).over(SLICE);
                    prop_assert!(claim.debt.abs() <= bound, "{kind}: tenant {i} is owed {}", claim.debt);
                }
            }
        }
    }
}
