//! Which units a tenant gets: little movement first, and then what is near.

use caldera_scheduler::matching::dominant::{Demands, Division, Places};
use caldera_scheduler::matching::{Claim, Matcher, Rate, Seat, Ties};
use caldera_scheduler::pool::Kind;
use proptest::prelude::*;

use crate::shares::{SLICE, cases};

/// Every way to give seats to tenants in these numbers.
fn all_owners(seats: &[Seat], counts: &[u32]) -> Vec<Vec<Option<usize>>> {
    let mut all = vec![vec![]];
    for seat in seats {
        let choices = if seat.closed { 0 } else { counts.len() };
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
    all.retain(|owners| {
        let got = |i| owners.iter().filter(|&&owner| owner == Some(i)).count();
        (0..counts.len()).all(|i| got(i) == counts[i] as usize)
    });
    all
}

fn moved(owners: &[Option<usize>], seats: &[Seat]) -> usize {
    let pairs = owners.iter().zip(seats);
    pairs
        .filter(|(owner, seat)| owner.is_some() && **owner != seat.holder)
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn movement_is_the_least_in_each_kind(case in cases(true)) {
        let division = case.decide();
        for kind in Kind::ALL {
            let seats = &case.places.seats[kind.index()];
            let all = all_owners(seats, division.counts(kind));
            let least = all.iter().map(|owners| moved(owners, seats)).min();
            prop_assert_eq!(Some(moved(division.owners(kind), seats)), least);
        }
    }

    /// Nobody gets a far device while one that is near to it goes to somebody to whom it is not near, or
    /// to nobody; and of two that a tenant holds in the same way it keeps the near one.
    #[test]
    fn among_equals_the_near_one_is_kept_and_given(case in cases(true)) {
        let division = case.decide();
        let (seats, tables) = (&case.places.seats[1], &case.demands.tables);
        let owners = division.owners(Kind::Device);
        let near = |owner: Option<usize>, at: usize| owner.is_some_and(|i| tables[i] >> at & 1 == 1);
        for (a, b) in (0..owners.len()).flat_map(|a| (0..owners.len()).map(move |b| (a, b))) {
            let given = |at: usize| owners[at].is_none() || owners[at] != seats[at].holder;
            let gain = near(owners[a], b) && !near(owners[a], a) && !seats[b].closed;
            // Both change hands.
            if gain && given(a) && given(b) && owners[a].is_some() {
                prop_assert!(near(owners[b], b), "{owners:?}: {a} and {b} of {seats:?}");
            }
            // One is kept and the other given up, and both were held in the same way.
            let alike = |at: usize| (seats[at].holder, seats[at].kept, !seats[at].kept && seats[at].idle);
            if gain && !given(a) && owners[b] != owners[a] && owners[a].is_some() {
                prop_assert!(alike(a) != alike(b), "{owners:?}: {a} is kept, {b} not, of {seats:?}");
            }
        }
    }

    /// With places a seat has the owners' numbers and movement that it has without.
    #[test]
    fn places_change_no_numbers(case in cases(true)) {
        let (claims, seats) = (&case.demands.units[0], &case.places.seats[0]);
        let mut matcher = Matcher::default();
        let plain = matcher.decide(SLICE, claims, seats).to_vec();
        let counts = matcher.counts().to_vec();
        let ties = Ties { homes: &case.demands.tables, places: &case.places.nodes[0], ..Ties::default() };
        let placed = matcher.decide_tied(SLICE, claims, seats, ties).to_vec();
        prop_assert_eq!(matcher.counts(), &counts[..]);
        prop_assert_eq!(moved(&placed, seats), moved(&plain, seats));
    }
}

fn claim(want: u32, value: u32) -> Claim {
    Claim {
        want,
        value,
        guarantee: Rate::ZERO,
        ..Claim::default()
    }
}

/// Four cores and two devices, half of each on node 0 and half on node 1.
fn two_nodes(cores: [Claim; 2], devices: [Claim; 2], tables: [u64; 2]) -> (Demands, Places) {
    let seat = Seat::default();
    let demands = Demands {
        units: [cores.to_vec(), devices.to_vec()],
        bytes: [vec![Default::default(); 2], vec![Default::default(); 2]],
        tables: tables.to_vec(),
    };
    let places = Places {
        seats: [vec![seat; 4], vec![seat; 2]],
        nodes: [[0, 0, 1, 1].map(Some).to_vec(), [0, 1].map(Some).to_vec()],
    };
    (demands, places)
}

#[test]
fn a_tenant_gets_the_device_with_its_tables_and_cores_beside_it() {
    let cores = [claim(2, 8), claim(2, 1)];
    let devices = [claim(1, 8), claim(1, 1)];
    let (demands, places) = two_nodes(cores, devices, [0b10, 0b01]);
    let mut division = Division::default();
    division.decide(SLICE, &demands, &places, [u64::MAX; 2]);
    assert_eq!(division.owners(Kind::Device), [Some(1), Some(0)]);
    let cores = [Some(1), Some(1), Some(0), Some(0)];
    assert_eq!(division.owners(Kind::Core), cores);
}

#[test]
fn a_tenant_that_must_give_a_device_up_keeps_the_one_with_its_tables() {
    let (demands, mut places) = two_nodes(
        [claim(1, 1), claim(1, 8)],
        [claim(1, 1), claim(1, 8)],
        [0b10, 0b10],
    );
    for seat in &mut places.seats[1] {
        seat.holder = Some(0);
    }
    let mut division = Division::default();
    division.decide(SLICE, &demands, &places, [u64::MAX; 2]);
    assert_eq!(division.owners(Kind::Device), [Some(1), Some(0)]);
}

/// What a tenant has it keeps, however near something else is.
#[test]
fn nearness_moves_nothing() {
    let (demands, mut places) = two_nodes(
        [claim(2, 1), claim(0, 1)],
        [claim(1, 1), claim(0, 1)],
        [0b10, 0],
    );
    places.seats[1][0].holder = Some(0);
    places.seats[0][2].holder = Some(0);
    let mut division = Division::default();
    division.decide(SLICE, &demands, &places, [u64::MAX; 2]);
    assert_eq!(division.owners(Kind::Device), [Some(0), None]);
    let owners = division.owners(Kind::Core);
    assert_eq!(
        owners,
        [Some(0), None, Some(0), None],
        "one beside the device, one kept"
    );
}

/// Where nobody knows the node of a core, or of a device, nothing is near: the cores go in their order, to the most
/// valuable first.
#[test]
fn what_lies_on_no_known_node_is_near_to_nobody() {
    let cores = [claim(2, 8), claim(2, 1)];
    let devices = [claim(1, 8), claim(1, 1)];
    let in_order = [Some(0), Some(0), Some(1), Some(1)];
    for kind in Kind::ALL {
        let (demands, mut places) = two_nodes(cores, devices, [0b10, 0b01]);
        places.nodes[kind.index()].fill(None);
        let mut division = Division::default();
        division.decide(SLICE, &demands, &places, [u64::MAX; 2]);
        assert_eq!(division.owners(Kind::Device), [Some(1), Some(0)]);
        assert_eq!(division.owners(Kind::Core), in_order, "{kind}");
    }
    // Its only device lies nowhere: tables elsewhere do not stand for it.
    let (demands, mut places) = two_nodes([claim(2, 8), claim(2, 1)], devices, [0b11, 0b11]);
    places.nodes[1][0] = None;
    let mut division = Division::default();
    division.decide(SLICE, &demands, &places, [u64::MAX; 2]);
    assert_eq!(division.owners(Kind::Device), [Some(0), Some(1)]);
    assert_eq!(division.owners(Kind::Core), in_order);
}
