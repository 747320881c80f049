//! Standing loans: so much of a box's time every second, granted to another box for a term.
//!
//! A loan is a rate, in core-milliseconds a second of the core that work is measured in, and a term. Both sides keep the same account
//! of it, each by its own monotonic clock: a credit that grows with time up to what a [`WINDOW`] brings, from which a job takes its
//! work when it is placed, or taken. A job is given while there is any credit, and may leave a debt: so jobs of every size pass, and
//! over time not more than the rate does. (A token bucket, Turner, 1986, with debt.)
//!
//! **The lender decides.** It counts what it takes by the account of its own ([`Granted`]) and refuses the rest, and it may reclaim a loan at
//! any time: it asks nobody. What the borrower believes ([`Borrowed`]) decides where it places jobs, and nothing else; it is
//! told at each beat, is believed for as long as any hint, and ends a while before the term does. So a clock that was
//! frozen, a hint that comes late and a process that begins anew cost a refusal at most.
//!
//! A loan has a number, which rises with each grant of its lender: a hint of an earlier one changes nothing, and one of the same
//! never lengthens it.

use std::collections::BTreeMap;

use caldera_scheduler::Nanos;
use thiserror::Error;

use crate::{Boot, BoxId, Terms};

/// What a loan brings in this time may be used at once.
pub const WINDOW: Nanos = Nanos::from_secs(60);
/// How many loans a box grants.
pub const LOANS_MAX: usize = 256;

/// Names a grant of a lender: the start that made it, and which of its grants it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoanNumber {
    /// Which start.
    pub boot: Boot,
    /// Which of its grants.
    pub nth: u32,
}

/// A loan, as somebody is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loan {
    /// Which grant.
    pub number: LoanNumber,
    /// Core-milliseconds a second; 0 of a loan that is reclaimed.
    pub rate: u32,
    /// What is left of its term.
    pub left: Nanos,
}

/// Why a loan is not granted, or not reclaimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LoanError {
    /// To itself.
    #[error("{borrower}: expected another box, got this one")]
    Myself {
        /// Who.
        borrower: BoxId,
    },
    /// Too little or too much.
    #[error(
        "rate: expected from 1 to {max} core-milliseconds a second, which is what `cores` and `speed` of [lend] have and no other box was granted, got {got}"
    )]
    Rate {
        /// What can be granted.
        max: u32,
        /// What was asked for.
        got: u32,
    },
    /// Too short or too long.
    #[error("term: expected from {TERM_MIN} to {TERM_MAX}, got {got}")]
    Term {
        /// What was asked for.
        got: Nanos,
    },
    /// There are many.
    #[error("expected at most {LOANS_MAX} loans, got another: revoke one")]
    Many,
    /// There is none.
    #[error("{borrower}: expected a box with a loan, got one without")]
    Nobody {
        /// Who.
        borrower: BoxId,
    },
}

/// What a lender has granted.
#[derive(Debug)]
pub struct Granted {
    me: BoxId,
    /// Core-milliseconds a second that there are to grant.
    capacity: u32,
    /// Nothing is taken but on loans.
    all: bool,
    loans: BTreeMap<BoxId, Account>,
}

/// What a borrower was told that it has.
#[derive(Debug)]
pub struct Borrowed {
    terms: Terms,
    loans: BTreeMap<BoxId, Told>,
}

#[derive(Debug, Clone, Copy)]
struct Account {
    number: LoanNumber,
    rate: u32,
    end: Nanos,
    /// Core-nanoseconds; a debt if it is negative.
    credit: i64,
    /// When that was so.
    at: Nanos,
}

#[derive(Debug)]
struct Told {
    account: Account,
    heard: Nanos,
}

impl Granted {
    /// Nothing yet, by a box that can grant so many core-milliseconds a second. Either it takes all jobs on loans, or others beside them.
    pub fn new(me: BoxId, capacity: u32, all: bool) -> Granted {
        Granted {
            me,
            capacity,
            all,
            loans: BTreeMap::new(),
        }
    }

    /// Whether a loan can be granted, in place of one that the borrower has.
    pub fn check(
        &self,
        borrower: BoxId,
        rate: u32,
        term: Nanos,
        now: Nanos,
    ) -> Result<(), LoanError> {
        if borrower == self.me {
            return Err(LoanError::Myself { borrower });
        }
        let others = self.loans.iter();
        let others = others.filter(|(who, it)| **who != borrower && now < it.end);
        let (count, granted) = others.fold((0, 0u32), |(count, sum), (_, it)| {
            (count + 1, sum.saturating_add(it.rate))
        });
        let max = self.capacity.saturating_sub(granted);
        if !(1..=max).contains(&rate) {
            return Err(LoanError::Rate { max, got: rate });
        }
        if !(TERM_MIN..=TERM_MAX).contains(&term) {
            return Err(LoanError::Term { got: term });
        }
        if count >= LOANS_MAX {
            return Err(LoanError::Many);
        }
        Ok(())
    }

    /// A loan is in force from now on, in place of an earlier one. What was used of that counts.
    pub fn grant(&mut self, borrower: BoxId, loan: Loan, now: Nanos) {
        let before = self.loans.get(&borrower);
        if before.is_none_or(|it| it.number < loan.number) {
            let account = Account::new(loan, loan.left, before.copied(), now);
            self.loans.insert(borrower, account);
        }
    }

    /// A loan is not in force any more.
    pub fn revoke(&mut self, borrower: BoxId) -> Result<LoanNumber, LoanError> {
        let loan = self.loans.remove(&borrower);
        loan.map(|it| it.number)
            .ok_or(LoanError::Nobody { borrower })
    }

    /// Whether a job is taken, as far as it is for loans to say. Within the borrower's loan its work is counted.
    pub fn admit(&mut self, borrower: BoxId, work: Nanos, now: Nanos) -> bool {
        let account = self.loans.get_mut(&borrower);
        let within = account.is_some_and(|account| account.take(work, now));
        within || !self.all
    }

    /// Whether nothing is taken but on loans.
    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Forgets loans whose term is over.
    pub fn expire(&mut self, now: Nanos) {
        self.loans.retain(|_, account| now < account.end);
    }

    /// Those that are in force.
    pub fn loans(&self, now: Nanos) -> impl Iterator<Item = (BoxId, Loan)> {
        let loans = self.loans.iter();
        let loans = loans.filter(move |(_, it)| now < it.end);
        loans.map(move |(borrower, it)| (*borrower, it.told(now)))
    }
}

impl Borrowed {
    /// Nothing yet.
    pub fn new(terms: Terms) -> Borrowed {
        Borrowed {
            terms,
            loans: BTreeMap::new(),
        }
    }

    /// A lender has said what it has granted.
    pub fn heard(&mut self, lender: BoxId, loan: Loan, now: Nanos) {
        // The lender has been counting for as long as this was on its way, and its clock may be quicker.
        let left = Nanos(loan.left.0.saturating_sub(self.terms.gap().0));
        let before = self.loans.get(&lender).map(|told| told.account);
        let mut account = match before {
            Some(before) if loan.number < before.number => return,
            Some(before) if loan.number == before.number => Account {
                rate: before.rate.min(loan.rate),
                end: before.end.min(now.plus(left)),
                ..before
            },
            _ => Account::new(loan, left, before, now),
        };
        account.refill(now);
        let told = Told {
            account,
            heard: now,
        };
        self.loans.insert(lender, told);
        if self.loans.len() > LOANS_MAX {
            // The one that is over first.
            let first = self.loans.iter().min_by_key(|(_, told)| told.account.end);
            if let Some(first) = first.map(|(lender, _)| *lender) {
                self.loans.remove(&first);
            }
        }
    }

    /// Whether a job may be placed on a loan of this lender.
    pub fn has_credit(&self, lender: BoxId, now: Nanos) -> bool {
        let told = self.loans.get(&lender);
        told.is_some_and(|told| {
            let is_fresh = now.since(told.heard) <= self.terms.gap();
            is_fresh && told.account.has_credit(now)
        })
    }

    /// A job is placed with a lender, on its loan if there is one.
    pub fn placed(&mut self, lender: BoxId, work: Nanos, now: Nanos) {
        if let Some(told) = self.loans.get_mut(&lender) {
            told.account.take(work, now);
        }
    }

    /// A lender has refused a job as beyond its loan. It is right: whatever this side believed, all is used up.
    pub fn refused(&mut self, lender: BoxId) {
        if let Some(told) = self.loans.get_mut(&lender) {
            told.account.credit = told.account.credit.min(0);
        }
    }

    /// Who has granted what, and whether it can be used now.
    pub fn loans(&self, now: Nanos) -> impl Iterator<Item = (BoxId, Loan, bool)> {
        let loans = self.loans.iter();
        let loans = loans.filter(move |(_, it)| it.account.rate > 0 && now < it.account.end);
        loans
            .map(move |(lender, it)| (*lender, it.account.told(now), self.has_credit(*lender, now)))
    }
}

impl Account {
    /// With all that a window brings, or with what is left of an account before.
    fn new(loan: Loan, left: Nanos, before: Option<Account>, now: Nanos) -> Account {
        let full = full(loan.rate);
        let credit = before.map_or(full, |mut before| {
            before.refill(now);
            before.credit.min(full)
        });
        Account {
            number: loan.number,
            rate: loan.rate,
            end: now.plus(left),
            credit,
            at: now,
        }
    }

    fn refill(&mut self, now: Nanos) {
        let brought = u128::from(now.since(self.at).0) * u128::from(self.rate) / 1_000;
        let brought = i64::try_from(brought).unwrap_or(i64::MAX);
        self.credit = self.credit.saturating_add(brought).min(full(self.rate));
        self.at = self.at.max(now);
    }

    fn has_credit(mut self, now: Nanos) -> bool {
        self.refill(now);
        self.rate > 0 && now < self.end && self.credit > 0
    }

    /// Whether there was credit; if there was, the work is taken from it.
    fn take(&mut self, work: Nanos, now: Nanos) -> bool {
        self.refill(now);
        let has = self.has_credit(now);
        if has {
            let work = i64::try_from(work.0).unwrap_or(i64::MAX);
            self.credit = self.credit.saturating_sub(work);
        }
        has
    }

    fn told(&self, now: Nanos) -> Loan {
        Loan {
            number: self.number,
            rate: self.rate,
            left: self.end.since(now),
        }
    }
}

/// What a window brings, in core-nanoseconds.
fn full(rate: u32) -> i64 {
    let full = WINDOW.0 / 1_000 * u64::from(rate);
    i64::try_from(full).unwrap_or(i64::MAX)
}

/// Shorter than that it is not worth the asking.
const TERM_MIN: Nanos = Nanos::from_secs(60);
/// A year. The broker keeps a loan for as long as it is in force.
const TERM_MAX: Nanos = Nanos::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use caldera_scheduler::sim::random::Random;

    use super::*;

    const LENDER: BoxId = BoxId(1);
    const BORROWER: BoxId = BoxId(2);
    const OTHER: BoxId = BoxId(3);

    fn seconds(count: u64) -> Nanos {
        Nanos::from_secs(count)
    }

    fn loan(nth: u32, rate: u32, left: Nanos) -> Loan {
        let boot = Boot(1);
        let number = LoanNumber { boot, nth };
        Loan { number, rate, left }
    }

    #[test]
    fn what_cannot_be_granted_is_named() {
        let mut granted = Granted::new(LENDER, 4_000, true);
        let now = seconds(0);
        let mut check = |borrower, rate, term| {
            let checked = granted.check(borrower, rate, term, now);
            if checked.is_ok() {
                granted.grant(borrower, loan(1, rate, term), now);
            }
            checked.map_err(|error| error.to_string())
        };
        let says = |error: Result<(), String>, what: &str| {
            let error = error.expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        says(check(LENDER, 1, seconds(60)), "expected another box");
        says(check(BORROWER, 0, seconds(60)), "from 1 to 4000");
        says(check(BORROWER, 4_001, seconds(60)), "from 1 to 4000");
        says(
            check(BORROWER, 1, seconds(59)),
            "term: expected from 60000 ms",
        );
        says(
            check(BORROWER, 1, TERM_MAX.plus(Nanos(1))),
            "term: expected",
        );
        check(BORROWER, 3_000, seconds(60)).expect("it is granted");
        says(check(OTHER, 1_001, seconds(60)), "from 1 to 1000");
        check(OTHER, 1_000, seconds(60)).expect("the rest is");
        // In place of one's own.
        check(OTHER, 900, seconds(60)).expect("it is less");
        let after = seconds(60);
        assert_eq!(granted.check(OTHER, 4_000, after, after), Ok(()));
        assert_eq!(granted.loans(after).count(), 0);
        let nobody = granted.revoke(BoxId(9)).expect_err("it has none");
        assert_eq!(nobody, LoanError::Nobody { borrower: BoxId(9) });
    }

    #[test]
    fn a_loan_brings_its_rate_and_a_debt_is_paid_first() {
        let mut granted = Granted::new(LENDER, 1_000, true);
        granted.grant(BORROWER, loan(1, 1_000, seconds(3_600)), seconds(0));
        // A window at once, and the last job may be a large one.
        assert!(granted.admit(BORROWER, seconds(59), seconds(0)));
        assert!(granted.admit(BORROWER, seconds(31), seconds(0)));
        assert!(!granted.admit(BORROWER, seconds(1), seconds(0)));
        assert!(!granted.admit(BORROWER, seconds(1), seconds(30)));
        assert!(granted.admit(BORROWER, seconds(1), seconds(31)));
        assert!(!granted.admit(OTHER, seconds(1), seconds(31)));
        // Another grant forgets no debt.
        granted.grant(BORROWER, loan(2, 500, seconds(3_600)), seconds(31));
        assert!(granted.admit(BORROWER, seconds(31), seconds(32)));
        assert!(!granted.admit(BORROWER, seconds(1), seconds(60)));
        // What is reclaimed is reclaimed at once, and what is over is over.
        assert_eq!(granted.revoke(BORROWER).map(|it| it.nth), Ok(2));
        assert!(!granted.admit(BORROWER, seconds(1), seconds(600)));
        granted.grant(BORROWER, loan(3, 500, seconds(60)), seconds(600));
        assert!(granted.admit(BORROWER, seconds(1), seconds(659)));
        assert!(!granted.admit(BORROWER, seconds(1), seconds(660)));
        // Where others are served too, nobody is turned away for want of a loan.
        let mut granted = Granted::new(LENDER, 1_000, false);
        assert!(granted.admit(OTHER, seconds(1), seconds(0)));
    }

    #[test]
    fn a_borrower_believes_what_it_hears_for_as_long_as_it_hears_it() {
        let mut borrowed = Borrowed::new(Terms::standard());
        let has = |it: &Borrowed, at: u64| it.has_credit(LENDER, seconds(at));
        borrowed.heard(LENDER, loan(2, 100, seconds(100)), seconds(0));
        assert!(has(&borrowed, 5));
        assert!(!has(&borrowed, 6));
        // An earlier one changes nothing, and the same does not become longer.
        borrowed.heard(LENDER, loan(1, 0, seconds(100)), seconds(6));
        borrowed.heard(LENDER, loan(2, 100, seconds(100)), seconds(93));
        assert!(has(&borrowed, 94));
        assert!(!has(&borrowed, 95));
        // A later one does; and what is reclaimed does not come back by an old hint.
        borrowed.heard(LENDER, loan(3, 100, seconds(100)), seconds(94));
        assert!(has(&borrowed, 96));
        borrowed.heard(LENDER, loan(3, 0, Nanos::ZERO), seconds(96));
        borrowed.heard(LENDER, loan(3, 100, seconds(98)), seconds(96));
        assert!(!has(&borrowed, 96));
        assert_eq!(borrowed.loans(seconds(96)).count(), 0);
        // What is used up is used up until time brings more.
        borrowed.heard(LENDER, loan(4, 100, seconds(900)), seconds(100));
        borrowed.heard(LENDER, loan(4, 100, seconds(900)), seconds(160));
        borrowed.placed(LENDER, seconds(7), seconds(160));
        assert!(!has(&borrowed, 160));
        borrowed.heard(LENDER, loan(4, 100, seconds(890)), seconds(171));
        assert!(has(&borrowed, 171));
        // Its lender knows better what is used up; and what was placed in vain is counted.
        borrowed.heard(LENDER, loan(5, 1_000, seconds(900)), seconds(240));
        borrowed.placed(LENDER, seconds(2), seconds(240));
        assert!(has(&borrowed, 240));
        borrowed.refused(LENDER);
        assert!(!has(&borrowed, 240));
        assert!(has(&borrowed, 241));
    }

    /// Two clocks, of which either may be slow or stand still; hints that are late, lost and doubled; jobs that are on their way.
    #[test]
    fn a_lender_gives_no_more_than_it_granted_whatever_a_borrower_believes() {
        let (mut admitted, mut refused) = (0, 0);
        for seed in 0..2_000 {
            let mut random = Random::new(seed);
            let mut random = |from, to| random.between(from, to);
            let mut granted = Granted::new(LENDER, 10_000, true);
            let mut borrowed = Borrowed::new(Terms::standard());
            let (mut here, mut there) = (Nanos::ZERO, seconds(1_000));
            let rate = random(1, 10_001) as u32;
            let term = seconds(random(60, 600));
            let reclaimed = seconds(random(0, 900));
            let is_steady = random(0, 2) == 0;
            granted.grant(BORROWER, loan(1, rate, term), here);
            let mut hints: VecDeque<(Nanos, Loan)> = VecDeque::new();
            let mut jobs: VecDeque<(Nanos, Nanos)> = VecDeque::new();
            let mut used = Nanos::ZERO;
            while here < seconds(1_000) {
                let step = Nanos::from_millis(random(1, 1_000));
                here = here.plus(step);
                match random(0, 10) {
                    0 if !is_steady => {}
                    1 if !is_steady => there = there.plus(Nanos(step.0 / 2)),
                    _ => there = there.plus(step),
                }
                if here >= reclaimed {
                    let _ = granted.revoke(BORROWER);
                }
                for (_, told) in granted.loans(here) {
                    for _ in 0..random(0, 3) {
                        hints.push_back((here.plus(Nanos::from_millis(random(0, 4_000))), told));
                    }
                }
                while let Some((_, told)) = hints.pop_front_if(|(at, _)| *at <= here) {
                    borrowed.heard(LENDER, told, there);
                }
                if borrowed.has_credit(LENDER, there) {
                    // A clock that stands still alone makes it believe longer than the term.
                    assert!(!is_steady || here < term, "seed {seed}");
                    let work = Nanos::from_millis(random(1, 20_000));
                    borrowed.placed(LENDER, work, there);
                    jobs.push_back((here.plus(Nanos::from_millis(random(0, 2_000))), work));
                }
                while let Some((_, work)) = jobs.pop_front_if(|(at, _)| *at <= here) {
                    if granted.admit(BORROWER, work, here) {
                        assert!(here < term, "seed {seed}");
                        assert!(here < reclaimed, "seed {seed}");
                        used = used.plus(work);
                        admitted += 1;
                    } else {
                        refused += 1;
                    }
                }
                let brought = WINDOW.plus(here).0 / 1_000 * u64::from(rate);
                assert!(used.0 <= brought + seconds(20).0, "seed {seed}");
            }
        }
        assert!(admitted > 10_000, "{admitted}");
        assert!(refused > 100, "{refused}");
    }
}
