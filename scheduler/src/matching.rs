//! Demand to units: a pure function, the heart of the crate.
//!
//! A [`Matcher`] divides the units of one kind; [`dominant`] has one for each kind and couples them.
//! What is said of cores here holds of devices as well. It works in two steps.
//!
//! **Rates.** First each tenant is given a *rate*: how many cores it should hold on average while
//! nothing changes, as a fraction in 2^-32 cores. If all wants fit, each tenant gets what it wants.
//! Otherwise: a tenant that has waited for as long as its class may (it has *aged*) gets one core,
//! the earliest bound first; then each tenant gets its guarantee, the most valuable first; what is
//! left is poured out in proportion to value until each tenant is full (weighted max-min fairness:
//! sort by how soon each is full, then one pass).
//!
//! **Seats.** Cores are whole, rates are not. Each tenant gets the whole part of its rate at once.
//! The cores that remain go to the tenants with a fraction over, at most one each, by the largest
//! `debt + fraction * slice`: the fraction decides while debts are small, so a change of demand
//! acts at once and not after a turn; the debt (core time that the rate promised and the tenant
//! did not get) decides in the long run, so on one core two tenants alternate and each gets its
//! rate. This is largest-remainder apportionment repeated over time with its errors carried; the
//! debts are those of deficit round robin (Shreedhar and Varghese, SIGCOMM 1995), and "whole part
//! or one more" is the quota rule.
//!
//! Movement is kept small: a tenant keeps the seats that it holds up to its number; a tie goes to
//! the tenant that holds the seat; and a seat that has changed hands by turn is `kept` for a slice.
//! Where movement does not decide, nearness does: see [`Ties`].
//!
//! What this buys, each a property in `tests/matching.rs`: no seat has two owners and no closed
//! seat has any; no seat is empty while somebody wants it; a tenant never has less than the whole
//! part of its guarantee while it wants it, unless an aged tenant takes its turn; raising a tenant's
//! value never costs it a seat; giving the result back in as the present state changes nothing.
//!
//! A [`Matcher`] is memory only: the result depends on the arguments alone. One decision sorts the
//! claims five times and passes over the seats five times, and allocates nothing.

use std::cmp::Reverse;

use crate::Nanos;

pub mod dominant;

/// A part of the pool's cores, in 2^-32 cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Rate(pub u64);

impl Rate {
    /// No core.
    pub const ZERO: Rate = Rate(0);
    /// One core.
    pub const ONE: Rate = Rate(1 << 32);

    /// So many whole cores.
    pub const fn whole(cores: u32) -> Rate {
        Rate((cores as u64) << 32)
    }

    /// The whole cores in it.
    pub const fn floor(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// What is over the whole cores, in 2^-32.
    pub const fn fraction(self) -> u64 {
        self.0 & (Rate::ONE.0 - 1)
    }

    /// The core time that this rate gives in a span.
    pub fn over(self, span: Nanos) -> i64 {
        // 2^43 for the rate times 2^64 for the span: only i128 holds the product.
        let time = (i128::from(self.0) * i128::from(span.0)) >> 32;
        i64::try_from(time).unwrap_or(i64::MAX)
    }

    /// How long so much core time takes at this rate; never, at no rate.
    pub fn time_for(self, core: Nanos) -> Nanos {
        if self.0 == 0 {
            return Nanos::MAX;
        }
        let time = (u128::from(core.0) << 32) / u128::from(self.0);
        Nanos(u64::try_from(time).unwrap_or(u64::MAX))
    }
}

/// What one tenant asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Claim {
    /// Cores that it could use now, already cut to its ceiling.
    pub want: u32,
    /// What it is promised.
    pub guarantee: Rate,
    /// Its value weight; at least 1 for a claim that wants something.
    pub value: u32,
    /// Core time in nanoseconds that its rates promised and it did not get; negative if it got more.
    pub debt: i64,
    /// When its wait reached its class's bound, if it has: the earliest is served first.
    pub aged: Option<Nanos>,
}

/// One core as the matcher sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seat {
    /// The index of the claim that holds it.
    pub holder: Option<usize>,
    /// Closed seats are given to nobody and are not part of the box.
    pub closed: bool,
    /// It changed hands by turn less than a slice ago.
    pub kept: bool,
    /// Its worker finds nothing to run: the first to go if its holder must give one up.
    pub idle: bool,
}

/// What other kinds and the place of things say of the claims and seats of one kind. Lists may be
/// empty: then all pulls are whole, and nothing is near to anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ties<'a> {
    /// By claim: the part of its value that counts in the surplus of this kind.
    pub pulls: &'a [Pull],
    /// By claim: the set of places that are near to it.
    pub homes: &'a [u64],
    /// By seat: its place, below 64; what is at no known place is near to nobody.
    pub places: &'a [Option<u8>],
}

/// A part of a value weight, in 2^-24: how much of its dominant share a claim wants of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pull(pub u32);

/// Scratch memory for decisions, and the result of the last one.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    amounts: Vec<u64>,
    rates: Vec<Rate>,
    counts: Vec<u32>,
    owners: Vec<Option<usize>>,
    tallies: Vec<Tally>,
    order: Vec<usize>,
}

/// What one claim may get of something that is divided. All amounts are in the same measure.
#[derive(Debug, Clone, Copy)]
struct Portion {
    want: u64,
    guarantee: u64,
    /// The bound that its wait has reached, and what it gets for that before anybody's guarantee.
    aged: Option<Nanos>,
    turn: u64,
    value: u32,
    pull: Pull,
}

/// The seats of one claim, counted.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    held: u32,
    kept: u32,
    missing: u32,
}

impl Matcher {
    /// Memory for so many claims and seats; with more, a decision allocates.
    pub fn new(claims: usize, seats: usize) -> Matcher {
        Matcher {
            amounts: Vec::with_capacity(claims),
            rates: Vec::with_capacity(claims),
            counts: Vec::with_capacity(claims),
            owners: Vec::with_capacity(seats),
            tallies: Vec::with_capacity(claims),
            order: Vec::with_capacity(claims),
        }
    }

    /// Who owns each seat, as indices of claims, in the order of the seats.
    ///
    /// Holders that are no index of a claim count as nobody.
    pub fn decide(&mut self, slice: Nanos, claims: &[Claim], seats: &[Seat]) -> &[Option<usize>] {
        self.decide_tied(slice, claims, seats, Ties::default())
    }

    /// The same for one kind of several, and for seats that have places.
    pub fn decide_tied(
        &mut self,
        slice: Nanos,
        claims: &[Claim],
        seats: &[Seat],
        ties: Ties<'_>,
    ) -> &[Option<usize>] {
        let open = seats.iter().map(|seat| u32::from(!seat.closed)).sum();
        self.pour_tied(open, claims, ties);
        self.tally(claims.len(), seats);
        self.count(open, slice, claims);
        self.keep(seats, ties);
        self.give(claims, seats, ties);
        &self.owners
    }

    /// The rates that these claims would get on so many cores. See [`Matcher::rates`].
    pub fn pour(&mut self, open: u32, claims: &[Claim]) -> &[Rate] {
        self.pour_tied(open, claims, Ties::default())
    }

    /// The same for one kind of several.
    pub fn pour_tied(&mut self, open: u32, claims: &[Claim], ties: Ties<'_>) -> &[Rate] {
        let portion = |i: usize| {
            let claim: &Claim = &claims[i];
            Portion {
                want: Rate::whole(claim.want).0,
                guarantee: claim.guarantee.0,
                aged: claim.aged,
                turn: Rate::ONE.0,
                value: claim.value,
                pull: ties.pulls.get(i).copied().unwrap_or(Pull::WHOLE),
            }
        };
        self.amounts.clear();
        self.amounts.resize(claims.len(), 0);
        let open = Rate::whole(open).0;
        divide(open, portion, &mut self.amounts, &mut self.order);
        self.rates.clear();
        self.rates.extend(self.amounts.iter().copied().map(Rate));
        &self.rates
    }

    /// The rate of each claim by the last decision: their sum is the smaller of the wants and the
    /// open seats, but for rounding.
    pub fn rates(&self) -> &[Rate] {
        &self.rates
    }

    /// Who owns each seat by the last decision, as [`Matcher::decide`] returned it.
    pub fn owners(&self) -> &[Option<usize>] {
        &self.owners
    }

    /// How many seats each claim got by the last decision.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    fn tally(&mut self, claims: usize, seats: &[Seat]) {
        self.tallies.clear();
        self.tallies.resize(claims, Tally::default());
        for seat in seats.iter().filter(|seat| !seat.closed) {
            if let Some(tally) = seat.holder.and_then(|holder| self.tallies.get_mut(holder)) {
                tally.held += 1;
                tally.kept += u32::from(seat.kept);
            }
        }
    }

    /// Whole parts, then one more each for the most deserving.
    fn count(&mut self, open: u32, slice: Nanos, claims: &[Claim]) {
        let Matcher {
            rates,
            counts,
            tallies,
            order,
            ..
        } = self;
        counts.clear();
        counts.extend(rates.iter().map(|rate| rate.floor()));
        let wanted: u64 = claims.iter().map(|claim| u64::from(claim.want)).sum();
        if wanted <= u64::from(open) {
            return;
        }
        let whole: u32 = counts.iter().sum();
        let rest = (open - whole) as usize;

        let over = |i: usize| Rate(rates[i].fraction()).over(slice);
        order.clear();
        order.extend((0..claims.len()).filter(|&i| rates[i].floor() < claims[i].want));
        order.sort_unstable_by_key(|&i| {
            (
                // A claim without a fraction gets a seat only if rounding has left one over.
                Reverse(rates[i].fraction() > 0),
                Reverse(tallies[i].kept > counts[i]),
                Reverse(claims[i].debt.saturating_add(over(i))),
                Reverse(tallies[i].held > counts[i]),
                Reverse(claims[i].value),
                i,
            )
        });
        for &i in order.iter().take(rest) {
            counts[i] += 1;
        }
    }

    /// What a tenant may keep it keeps: first what it has by turn, then what it works on; of those
    /// that are equal, first what is near to it.
    fn keep(&mut self, seats: &[Seat], ties: Ties<'_>) {
        let Matcher {
            counts,
            owners,
            tallies,
            ..
        } = self;
        for (tally, &count) in tallies.iter_mut().zip(counts.iter()) {
            tally.missing = count;
        }
        owners.clear();
        owners.resize(seats.len(), None);
        let ranks: [fn(&Seat) -> bool; 3] = [
            |seat| seat.kept,
            |seat| !seat.kept && !seat.idle,
            |seat| !seat.kept && seat.idle,
        ];
        let nearness = ties.nearness();
        for rank in ranks {
            for &near in nearness {
                for (index, (owner, seat)) in owners.iter_mut().zip(seats).enumerate() {
                    let Some(holder) = seat.holder.filter(|_| !seat.closed && rank(seat)) else {
                        continue;
                    };
                    if ties.near(holder, index) == near
                        && let Some(tally) = tallies.get_mut(holder)
                        && tally.missing > 0
                    {
                        tally.missing -= 1;
                        *owner = Some(holder);
                    }
                }
            }
        }
    }

    /// The seats that nobody keeps go to those that miss some, the most valuable first: first to whom
    /// they are near, then to anybody; seats that are free already before others, for nothing has to
    /// drain there.
    fn give(&mut self, claims: &[Claim], seats: &[Seat], ties: Ties<'_>) {
        let Matcher {
            owners,
            tallies,
            order,
            ..
        } = self;
        order.clear();
        order.extend((0..claims.len()).filter(|&i| tallies[i].missing > 0));
        order.sort_unstable_by_key(|&i| (Reverse(claims[i].value), i));
        if !ties.homes.is_empty() {
            for free in [true, false] {
                for (index, (owner, seat)) in owners.iter_mut().zip(seats).enumerate() {
                    if seat.closed || owner.is_some() || seat.holder.is_none() != free {
                        continue;
                    }
                    let near = |&&i: &&usize| tallies[i].missing > 0 && ties.near(i, index);
                    let Some(&claim) = order.iter().find(near) else {
                        continue;
                    };
                    *owner = Some(claim);
                    tallies[claim].missing -= 1;
                }
            }
        }
        let mut needy = order.iter().copied().peekable();
        for free in [true, false] {
            for (owner, seat) in owners.iter_mut().zip(seats) {
                if seat.closed || owner.is_some() || seat.holder.is_none() != free {
                    continue;
                }
                while needy
                    .next_if(|&claim| tallies[claim].missing == 0)
                    .is_some()
                {}
                let Some(&claim) = needy.peek() else {
                    return;
                };
                *owner = Some(claim);
                tallies[claim].missing -= 1;
            }
        }
    }
}

/// Divides so much among claims, as the head of this file says: `amounts` has as many as there are
/// claims, all zero, and is what each gets.
fn divide(
    open: u64,
    portion: impl Fn(usize) -> Portion,
    amounts: &mut [u64],
    order: &mut Vec<usize>,
) {
    let wanted: u128 = (0..amounts.len())
        .map(|i| u128::from(portion(i).want))
        .sum();
    if wanted <= u128::from(open) {
        for (i, amount) in amounts.iter_mut().enumerate() {
            *amount = portion(i).want;
        }
        return;
    }

    let mut left = open;
    let mut give = |amount: &mut u64, upto: u64| {
        let gift = upto.saturating_sub(*amount).min(left);
        *amount += gift;
        left -= gift;
    };
    order.clear();
    order.extend((0..amounts.len()).filter(|&i| portion(i).want > 0));
    order.sort_unstable_by_key(|&i| (portion(i).aged.unwrap_or(Nanos::MAX), i));
    for &i in order.iter().take_while(|&&i| portion(i).aged.is_some()) {
        let Portion { want, turn, .. } = portion(i);
        give(&mut amounts[i], turn.min(want));
    }
    order.sort_unstable_by_key(|&i| (Reverse(portion(i).value), i));
    for &i in order.iter() {
        let Portion {
            guarantee, want, ..
        } = portion(i);
        give(&mut amounts[i], guarantee.min(want));
    }

    // Ascending by room / weight, compared as a cross product: 2^64 * 2^56. The sum of 256 weights
    // stays below 2^64.
    let weight = |i: usize| u64::from(portion(i).value) * u64::from(portion(i).pull.0);
    let room = |amounts: &[u64], i: usize| portion(i).want - amounts[i];
    order.sort_unstable_by(|&i, &j| {
        let left = u128::from(room(amounts, i)) * u128::from(weight(j));
        let right = u128::from(room(amounts, j)) * u128::from(weight(i));
        left.cmp(&right).then(i.cmp(&j))
    });
    let mut weights: u64 = order.iter().map(|&i| weight(i)).sum();
    for &i in order.iter() {
        if weights == 0 {
            break;
        }
        let fair = u128::from(left) * u128::from(weight(i)) / u128::from(weights);
        let room = room(amounts, i);
        let gift = u64::try_from(fair).unwrap_or(u64::MAX).min(room);
        amounts[i] += gift;
        // Who is full leaves the rest to the others. From the first that is not, the level
        // stands, and each gets the floor of its exact share: what rounding leaves over is
        // nobody's, for as a fraction it would count, and who got it would depend on the order.
        if gift == room {
            left -= gift;
            weights -= weight(i);
        }
    }
}

impl Ties<'_> {
    /// Whether a seat is near to a claim.
    fn near(&self, claim: usize, seat: usize) -> bool {
        let home = self.homes.get(claim).copied().unwrap_or(0);
        let place = self.places.get(seat).copied().flatten();
        place.is_some_and(|place| home >> place & 1 == 1)
    }

    /// The values of nearness that there are, the best first.
    fn nearness(&self) -> &'static [bool] {
        if self.homes.is_empty() {
            &[false]
        } else {
            &[true, false]
        }
    }
}

impl Pull {
    /// All of it.
    pub const WHOLE: Pull = Pull(1 << 24);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE: Nanos = Nanos::from_millis(25);

    fn claim(want: u32, guarantee_percent: u64, value: u32) -> Claim {
        let guarantee = Rate(Rate::ONE.0 * guarantee_percent / 100);
        Claim {
            want,
            guarantee,
            value,
            debt: 0,
            aged: None,
        }
    }

    fn seats(holders: &[Option<usize>]) -> Vec<Seat> {
        holders
            .iter()
            .map(|&holder| Seat {
                holder,
                ..Seat::default()
            })
            .collect()
    }

    #[test]
    fn all_get_what_they_want_while_it_fits() {
        let mut matcher = Matcher::default();
        let claims = [claim(1, 0, 1), claim(2, 0, 64)];
        let owners = matcher.decide(SLICE, &claims, &seats(&[None; 4]));
        assert_eq!(owners, [Some(1), Some(1), Some(0), None]);
        assert_eq!(matcher.rates(), [Rate::whole(1), Rate::whole(2)]);
    }

    #[test]
    fn surplus_follows_value_after_guarantees() {
        let mut matcher = Matcher::default();
        // Ten cores, 3 promised: seven left over, poured out 5 : 1 and 1.
        let claims = [claim(10, 100, 5), claim(10, 200, 1), claim(10, 0, 1)];
        assert_eq!(
            matcher.pour(10, &claims),
            [Rate::whole(6), Rate::whole(3), Rate::whole(1)]
        );
    }

    #[test]
    fn a_full_tenant_leaves_its_part_to_the_others() {
        let mut matcher = Matcher::default();
        let claims = [claim(1, 0, 100), claim(10, 0, 1), claim(10, 0, 1)];
        assert_eq!(
            matcher.pour(5, &claims),
            [Rate::whole(1), Rate::whole(2), Rate::whole(2)]
        );
    }

    #[test]
    fn a_peak_takes_both_cores_at_once() {
        let mut matcher = Matcher::default();
        let claims = [claim(2, 80, 64), claim(2, 4, 1)];
        let owners = matcher.decide(SLICE, &claims, &seats(&[Some(1), Some(1)]));
        assert_eq!(owners, [Some(0), Some(0)]);
    }

    #[test]
    fn a_debt_of_a_slice_wins_a_turn() {
        let mut matcher = Matcher::default();
        let mut claims = [claim(2, 80, 64), claim(2, 4, 1)];
        claims[1].debt = SLICE.0 as i64;
        let owners = matcher.decide(SLICE, &claims, &seats(&[Some(0), Some(0)]));
        assert_eq!(owners, [Some(0), Some(1)]);
    }

    #[test]
    fn a_kept_seat_stays_for_its_slice() {
        let mut matcher = Matcher::default();
        let mut claims = [claim(1, 50, 1), claim(1, 50, 1)];
        claims[0].debt = SLICE.0 as i64;
        let mut seats = seats(&[Some(1)]);
        seats[0].kept = true;
        assert_eq!(matcher.decide(SLICE, &claims, &seats), [Some(1)]);
        seats[0].kept = false;
        assert_eq!(matcher.decide(SLICE, &claims, &seats), [Some(0)]);
    }

    #[test]
    fn the_aged_come_before_guarantees() {
        let mut matcher = Matcher::default();
        let mut claims = [claim(2, 200, 64), claim(1, 0, 1), claim(1, 0, 1)];
        claims[1].aged = Some(Nanos(9));
        claims[2].aged = Some(Nanos(7));
        let holders = seats(&[Some(0), Some(0)]);
        let owners = matcher.decide(SLICE, &claims, &holders);
        assert_eq!(owners, [Some(1), Some(2)]);
        let owners = matcher.decide(SLICE, &claims, &holders[..1]);
        assert_eq!(owners, [Some(2)], "the one whose bound was reached first");
    }

    #[test]
    fn an_idle_seat_is_the_first_to_go() {
        let mut matcher = Matcher::default();
        let claims = [claim(1, 0, 1), claim(1, 0, 1)];
        let mut seats = seats(&[Some(0), Some(0)]);
        seats[0].idle = true;
        assert_eq!(matcher.decide(SLICE, &claims, &seats), [Some(1), Some(0)]);
    }

    #[test]
    fn closed_seats_are_no_part_of_the_box() {
        let mut matcher = Matcher::default();
        let claims = [claim(2, 0, 1)];
        let mut seats = seats(&[Some(0), None]);
        seats[0].closed = true;
        assert_eq!(matcher.decide(SLICE, &claims, &seats), [None, Some(0)]);
    }
}
