//! Which box is to prove a job: a pure function of the job and of what boxes say of themselves.
//!
//! What a box says is a hint. It is some seconds old, it may be wrong, and others read it too: so a box that is chosen may
//! refuse, and choosing badly costs time and never a proof.
//!
//! Who can be in time comes before who cannot; then who has granted a loan that is not used up, whatever it asks of others; then who is cheaper; then who is done first. Boxes that are equal in all of that
//! are put in an order that is another one for each job (rendezvous hashing, Thaler and Ravishankar, 1998), so that many boxes that choose
//! at once do not all choose the same.

use caldera_scheduler::{JobId, Nanos};

use crate::{Boot, BoxId, Demand, KeyHint};

/// What a box says of itself at each beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Which of its starts says this.
    pub boot: Boot,
    /// Counts what that start has said.
    pub sequence: u64,
    /// How many more jobs it would take. 0 of a box that only submits, or that is being emptied.
    pub room: u32,
    /// How long a job that came now would wait.
    pub backlog: Nanos,
    /// How many cores it lends, devices counted as the cores that they are worth.
    pub cores: u32,
    /// How fast one of them is, in thousandths of the core that work is measured in.
    pub speed: u32,
    /// What it asks for a second of such a core.
    pub price: u64,
    /// Keys that it has.
    pub keys: Vec<KeyHint>,
}

/// A box that may be chosen, as who chooses sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Which.
    pub lender: BoxId,
    /// What it said last.
    pub says: &'a Advertisement,
    /// How many jobs it was given since it said that.
    pub given: u32,
    /// How much work that was, as in [`Demand::work`].
    pub given_work: Nanos,
    /// Whether it has granted a loan of which something is left.
    pub on_loan: bool,
}

/// The box that is to prove a job, if there is one that takes it.
pub fn choose<'a>(
    job: JobId,
    demand: &Demand,
    candidates: impl Iterator<Item = Candidate<'a>>,
    now: Nanos,
) -> Option<BoxId> {
    let able = candidates.filter(|it| {
        let is_open = it.given < it.says.room && it.says.price <= demand.price_max;
        (it.on_loan || is_open) && it.says.cores > 0 && it.says.speed > 0
    });
    let best = able.min_by_key(|it| {
        let finish = now.plus(finish(demand, it));
        let late = demand.due.is_some_and(|due| finish > due);
        let price = (!it.on_loan).then_some(it.says.price);
        (late, price, finish, scatter(job, it.lender))
    })?;
    Some(best.lender)
}

/// How long it would take there: what must be sent, what is before it, and the work on all cores.
fn finish(demand: &Demand, it: &Candidate<'_>) -> Nanos {
    let has_key = it.says.keys.contains(&demand.key);
    let key_bytes = if has_key { 0 } else { demand.key_bytes };
    let bytes = demand.witness_bytes.saturating_add(key_bytes);
    let sending = Nanos(bytes.saturating_mul(NANOS_PER_BYTE));
    let work = u128::from(demand.work.0) + u128::from(it.given_work.0);
    let rate = u128::from(it.says.cores) * u128::from(it.says.speed);
    let working = u64::try_from(work * 1_000 / rate).unwrap_or(u64::MAX);
    sending.plus(it.says.backlog).plus(Nanos(working))
}

/// Another order of the boxes for each job. (SplitMix64's mixing.)
fn scatter(job: JobId, lender: BoxId) -> u64 {
    let mut mixed = job.0 ^ (lender.0 as u64) ^ ((lender.0 >> 64) as u64).rotate_left(32);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// 500 MB/s, which plain TCP, SHA-256 and fsync reached between two boxes.
const NANOS_PER_BYTE: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Demand = Demand {
        key: KeyHint(7),
        key_bytes: 500_000_000,
        witness_bytes: 1_000_000,
        work: Nanos::from_secs(4),
        due: None,
        price_max: 10,
    };

    fn says(change: impl FnOnce(&mut Advertisement)) -> Advertisement {
        let mut says = Advertisement {
            boot: Boot(1),
            sequence: 1,
            room: 2,
            backlog: Nanos::ZERO,
            cores: 2,
            speed: 1_000,
            price: 5,
            keys: vec![],
        };
        change(&mut says);
        says
    }

    /// The first box is as above, the second as it is made here, the third offers nothing.
    fn chosen(demand: &Demand, change: impl FnOnce(&mut Advertisement)) -> Option<u128> {
        let boxes = [says(|_| {}), says(change), says(|it| it.room = 0)];
        let candidates = boxes.iter().zip(1..).map(|(says, lender)| Candidate {
            lender: BoxId(lender),
            says,
            given: 0,
            given_work: Nanos::ZERO,
            on_loan: false,
        });
        // A job for which boxes that are equal would stand in the order of their numbers.
        let in_order = |job: &JobId| scatter(*job, BoxId(1)) < scatter(*job, BoxId(2));
        let job = (0..).map(JobId).find(in_order)?;
        choose(job, demand, candidates, Nanos::ZERO).map(|lender| lender.0)
    }

    #[test]
    fn the_cheaper_and_then_the_sooner_box_is_chosen() {
        assert_eq!(chosen(&DEMAND, |_| {}), Some(1));
        assert_eq!(chosen(&DEMAND, |it| it.price = 4), Some(2));
        assert_eq!(chosen(&DEMAND, |it| it.price = 6), Some(1));
        assert_eq!(chosen(&DEMAND, |it| it.speed = 1_100), Some(2));
        assert_eq!(chosen(&DEMAND, |it| it.cores = 3), Some(2));
        assert_eq!(chosen(&DEMAND, |it| it.keys = vec![KeyHint(7)]), Some(2));
        let busy = |it: &mut Advertisement| {
            it.keys = vec![KeyHint(7)];
            it.backlog = Nanos::from_secs(2);
        };
        assert_eq!(chosen(&DEMAND, busy), Some(1));
    }

    #[test]
    fn a_deadline_comes_before_the_price() {
        let due = Demand {
            due: Some(Nanos::from_millis(2_500)),
            ..DEMAND
        };
        // The first box would take a second for the key and two for the proof.
        let dear = |it: &mut Advertisement| {
            it.price = 10;
            it.keys = vec![KeyHint(7)];
        };
        assert_eq!(chosen(&DEMAND, dear), Some(1));
        assert_eq!(chosen(&due, dear), Some(2));
    }

    #[test]
    fn nobody_is_chosen_who_has_no_room_or_asks_for_too_much() {
        let poor = Demand {
            price_max: 4,
            ..DEMAND
        };
        assert_eq!(chosen(&poor, |_| {}), None);
        assert_eq!(chosen(&poor, |it| it.price = 4), Some(2));
        let worthless = |it: &mut Advertisement| {
            it.price = 0;
            it.speed = 0;
        };
        assert_eq!(chosen(&DEMAND, worthless), Some(1));
    }

    #[test]
    fn what_a_box_was_given_since_it_spoke_is_counted() {
        let says = says(|_| {});
        let with = |given, seconds| {
            let candidate = |lender, given, seconds| Candidate {
                lender: BoxId(lender),
                says: &says,
                given,
                given_work: Nanos::from_secs(seconds),
                on_loan: false,
            };
            let candidates = [candidate(1, given, seconds), candidate(2, 1, 2)];
            choose(JobId(1), &DEMAND, candidates.into_iter(), Nanos::ZERO)
        };
        assert_eq!(with(1, 1), Some(BoxId(1)));
        assert_eq!(with(1, 3), Some(BoxId(2)));
        assert_eq!(with(2, 0), Some(BoxId(2)));
    }

    #[test]
    fn a_box_that_has_granted_a_loan_comes_first_unless_it_is_late() {
        let open = says(|_| {});
        let lends = says(|it| {
            it.room = 0;
            it.price = 100;
            it.cores = 1;
        });
        let with = |demand: &Demand, loan| {
            let candidate = |lender, says, on_loan| Candidate {
                lender: BoxId(lender),
                says,
                given: 0,
                given_work: Nanos::ZERO,
                on_loan,
            };
            let candidates = [candidate(1, &open, false), candidate(2, &lends, loan)];
            choose(JobId(1), demand, candidates.into_iter(), Nanos::ZERO)
        };
        assert_eq!(with(&DEMAND, true), Some(BoxId(2)));
        assert_eq!(with(&DEMAND, false), Some(BoxId(1)));
        // A second for the key, and two on two cores or four on one.
        let due = Demand {
            due: Some(Nanos::from_secs(4)),
            ..DEMAND
        };
        assert_eq!(with(&due, true), Some(BoxId(1)));
    }

    #[test]
    fn boxes_that_are_equal_share_the_jobs() {
        let says = says(|_| {});
        let mut given = [0; 4];
        for job in 0..400 {
            let candidates = (0..4).map(|lender| Candidate {
                lender: BoxId(lender),
                says: &says,
                given: 0,
                given_work: Nanos::ZERO,
                on_loan: false,
            });
            let chosen = choose(JobId(job), &DEMAND, candidates, Nanos::ZERO);
            given[chosen.map_or(0, |lender| lender.0 as usize)] += 1;
        }
        assert!(
            given.iter().all(|jobs| (60..140).contains(jobs)),
            "{given:?}"
        );
    }
}
