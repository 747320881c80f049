//! How units of one kind are divided, written down apart: the division of a box that has nothing but
//! cores on one node. What the matcher does with several kinds must come to this when there is one.
//! It allocates as it likes and knows no pulls and no places.

use std::cmp::Reverse;

use caldera_scheduler::Nanos;
use caldera_scheduler::matching::{Claim, Rate, Seat};

/// Rates, counts and owners.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) rates: Vec<Rate>,
    pub(crate) counts: Vec<u32>,
    pub(crate) owners: Vec<Option<usize>>,
}

pub(crate) fn decide(slice: Nanos, claims: &[Claim], seats: &[Seat]) -> Decision {
    let open = seats.iter().filter(|seat| !seat.closed).count() as u32;
    let rates = rates(open, claims);
    let counts = counts(open, slice, claims, seats, &rates);
    let owners = owners(claims, seats, &counts);
    Decision {
        rates,
        counts,
        owners,
    }
}

fn wanted(claims: &[Claim]) -> u64 {
    claims.iter().map(|claim| u64::from(claim.want)).sum()
}

fn rates(open: u32, claims: &[Claim]) -> Vec<Rate> {
    let wants: Vec<Rate> = claims.iter().map(|it| Rate::whole(it.want)).collect();
    if wanted(claims) <= u64::from(open) {
        return wants;
    }
    let mut rates = vec![Rate::ZERO; claims.len()];
    let mut left = Rate::whole(open).0;
    let mut order: Vec<usize> = (0..claims.len()).filter(|&i| claims[i].want > 0).collect();
    order.sort_by_key(|&i| claims[i].aged.unwrap_or(Nanos::MAX));
    for &i in order.iter().filter(|&&i| claims[i].aged.is_some()) {
        let gift = Rate::ONE.0.min(left);
        rates[i].0 += gift;
        left -= gift;
    }
    order.sort_by_key(|&i| (Reverse(claims[i].value), i));
    for &i in &order {
        let upto = claims[i].guarantee.min(wants[i]).0;
        let gift = upto.saturating_sub(rates[i].0).min(left);
        rates[i].0 += gift;
        left -= gift;
    }
    order.sort_by(|&i, &j| {
        let room = |i: usize| u128::from(wants[i].0 - rates[i].0);
        let value = |i: usize| u128::from(claims[i].value);
        (room(i) * value(j))
            .cmp(&(room(j) * value(i)))
            .then(i.cmp(&j))
    });
    let mut values: u64 = order.iter().map(|&i| u64::from(claims[i].value)).sum();
    for &i in &order {
        if values == 0 {
            break;
        }
        let value = u64::from(claims[i].value);
        let fair = u128::from(left) * u128::from(value) / u128::from(values);
        let room = wants[i].0 - rates[i].0;
        let gift = (fair as u64).min(room);
        rates[i].0 += gift;
        if gift == room {
            left -= gift;
            values -= value;
        }
    }
    rates
}

fn counts(open: u32, slice: Nanos, claims: &[Claim], seats: &[Seat], rates: &[Rate]) -> Vec<u32> {
    let mut counts: Vec<u32> = rates.iter().map(|rate| rate.floor()).collect();
    if wanted(claims) <= u64::from(open) {
        return counts;
    }
    let rest = (open - counts.iter().sum::<u32>()) as usize;
    let held = |i: usize, kept: bool| {
        let mine = seats.iter().filter(|s| !s.closed && s.holder == Some(i));
        mine.filter(|seat| seat.kept || !kept).count() as u32
    };
    let mut order: Vec<usize> = (0..claims.len())
        .filter(|&i| counts[i] < claims[i].want)
        .collect();
    order.sort_by_key(|&i| {
        let lead = Rate(rates[i].fraction()).over(slice);
        (
            Reverse(rates[i].fraction() > 0),
            Reverse(held(i, true) > counts[i]),
            Reverse(claims[i].debt.saturating_add(lead)),
            Reverse(held(i, false) > counts[i]),
            Reverse(claims[i].value),
            i,
        )
    });
    for &i in order.iter().take(rest) {
        counts[i] += 1;
    }
    counts
}

fn owners(claims: &[Claim], seats: &[Seat], counts: &[u32]) -> Vec<Option<usize>> {
    let mut missing = counts.to_vec();
    let mut owners = vec![None; seats.len()];
    let ranks: [fn(&Seat) -> bool; 3] = [
        |seat| seat.kept,
        |seat| !seat.kept && !seat.idle,
        |seat| !seat.kept && seat.idle,
    ];
    for rank in ranks {
        for (at, seat) in seats.iter().enumerate() {
            let holder = seat.holder.filter(|_| !seat.closed && rank(seat));
            if let Some(holder) =
                holder.filter(|&holder| missing.get(holder).is_some_and(|&n| n > 0))
            {
                missing[holder] -= 1;
                owners[at] = Some(holder);
            }
        }
    }
    let mut needy: Vec<usize> = (0..claims.len()).collect();
    needy.sort_by_key(|&i| (Reverse(claims[i].value), i));
    for free in [true, false] {
        for (at, seat) in seats.iter().enumerate() {
            if seat.closed || owners[at].is_some() || seat.holder.is_none() != free {
                continue;
            }
            if let Some(&claim) = needy.iter().find(|&&i| missing[i] > 0) {
                owners[at] = Some(claim);
                missing[claim] -= 1;
            }
        }
    }
    owners
}
