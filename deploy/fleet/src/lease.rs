//! When a placement is given up, and when silence proves nothing.
//!
//! A placement is a lease of a job to one boot of one box: it lives on while that boot says that it holds the job, and ends
//! when nothing was heard of it for the time to live. That one rule finds a dead box, a lost message and a lost
//! stream, without knowing which it was. A box that says that it holds a job and never proves it is found by a second bound, some
//! multiples of what the job should take, beyond which no lease goes on.
//!
//! Silence has two sides. A box that was cut off itself, or frozen, has heard nobody, and nobody is dead for that. So a
//! box listens for its own beats, which go through the broker like all others: when they come back
//! after a gap, or when the process finds that it was not run for a while, all leases begin anew. While it is cut off
//! leases end as they would, and jobs come home: the box that accepted them has nobody else to ask.

use std::collections::{BTreeMap, BTreeSet};

use caldera_scheduler::{JobId, Nanos};

use crate::Terms;

/// See the top of this file.
#[derive(Debug)]
pub struct Leases {
    terms: Terms,
    /// When a beat of this box's own came back last.
    echo: Nanos,
    /// When this was looked at last.
    looked: Nanos,
    leases: BTreeMap<JobId, Lease>,
    /// When each ends, soonest first.
    order: BTreeSet<(Nanos, JobId)>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    end: Nanos,
    /// It goes on no longer than this.
    bound: Nanos,
}

impl Leases {
    /// No leases. That the box hears itself is assumed until it does not.
    pub fn new(terms: Terms, now: Nanos) -> Leases {
        Leases {
            terms,
            echo: now,
            looked: now,
            leases: BTreeMap::new(),
            order: BTreeSet::new(),
        }
    }

    /// To be called before anything else is done at a time, and at least once in a beat: a longer pause means
    /// that the process was stopped.
    pub fn look(&mut self, now: Nanos) {
        if now.since(self.looked) > self.terms.gap() {
            // Its own beats could not come back either.
            self.echo = now;
            self.begin_anew(now);
        }
        self.looked = now;
    }

    /// A beat of this box's own has come back.
    pub fn echo(&mut self, now: Nanos) {
        if !self.hears(now) {
            self.begin_anew(now);
        }
        self.echo = now;
    }

    /// Whether the box hears itself.
    pub fn hears(&self, now: Nanos) -> bool {
        now.since(self.echo) <= self.terms.gap()
    }

    /// A lease of a job that should take so long of one core begins now.
    pub fn begin(&mut self, job: JobId, work: Nanos, now: Nanos) {
        let end = now.plus(self.terms.lease());
        let bound = now.plus(self.terms.bound(work));
        self.set(job, Lease { end, bound });
    }

    /// Somebody says that he holds the job.
    pub fn renew(&mut self, job: JobId, now: Nanos) {
        if let Some(Lease { bound, .. }) = self.leases.get(&job).copied() {
            let end = now.plus(self.terms.lease()).min(bound);
            self.set(job, Lease { end, bound });
        }
    }

    /// There is no lease of this job any more.
    pub fn end(&mut self, job: JobId) {
        if let Some(lease) = self.leases.remove(&job) {
            self.order.remove(&(lease.end, job));
        }
    }

    /// A job whose lease has run out, which ends it.
    pub fn expired(&mut self, now: Nanos) -> Option<JobId> {
        let &(end, job) = self.order.first()?;
        if now < end {
            return None;
        }
        self.end(job);
        Some(job)
    }

    /// When the first lease runs out, if nothing is heard.
    pub fn due(&self) -> Option<Nanos> {
        self.order.first().map(|(end, _)| *end)
    }

    fn set(&mut self, job: JobId, lease: Lease) {
        self.end(job);
        self.leases.insert(job, lease);
        self.order.insert((lease.end, job));
    }

    fn begin_anew(&mut self, now: Nanos) {
        let end = now.plus(self.terms.lease());
        for lease in self.leases.values_mut() {
            let bound = lease.bound.max(end);
            *lease = Lease { end, bound };
        }
        self.order = self.leases.keys().map(|job| (end, *job)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: JobId = JobId(1);

    fn at(ms: u64) -> Nanos {
        Nanos::from_millis(ms)
    }

    /// Beats of its own from one time to another.
    fn listen(leases: &mut Leases, from_s: u64, to_s: u64) {
        for second in from_s..=to_s {
            leases.look(at(second * 1_000));
            leases.echo(at(second * 1_000));
        }
    }

    #[test]
    fn a_lease_ends_when_nothing_was_heard_of_it_for_its_time() {
        let mut leases = Leases::new(Terms::standard(), at(0));
        leases.begin(JOB, at(10_000), at(0));
        listen(&mut leases, 0, 10);
        leases.renew(JOB, at(10_000));
        listen(&mut leases, 11, 24);
        assert_eq!(leases.due(), Some(at(25_000)));
        assert_eq!(leases.expired(at(24_999)), None);
        assert_eq!(leases.expired(at(25_000)), Some(JOB));
        assert_eq!((leases.expired(at(60_000)), leases.due()), (None, None));
    }

    #[test]
    fn who_holds_a_job_and_never_proves_it_loses_it() {
        let mut leases = Leases::new(Terms::standard(), at(0));
        leases.begin(JOB, at(1_000), at(0));
        for second in 0..23 {
            listen(&mut leases, second, second);
            leases.renew(JOB, at(second * 1_000));
        }
        // The time to live, and eight times what it should take.
        assert_eq!(leases.due(), Some(at(23_000)));
    }

    #[test]
    fn what_a_box_did_not_hear_while_it_was_cut_off_proves_nothing() {
        let mut leases = Leases::new(Terms::standard(), at(0));
        leases.begin(JOB, at(1_000), at(0));
        listen(&mut leases, 0, 1);
        (2..14).for_each(|second| leases.look(at(second * 1_000)));
        assert!(!leases.hears(at(13_000)));
        leases.echo(at(14_000));
        assert_eq!(leases.due(), Some(at(29_000)));
    }

    #[test]
    fn a_process_that_was_frozen_takes_nobody_for_dead() {
        let mut leases = Leases::new(Terms::standard(), at(0));
        leases.begin(JOB, at(1_000), at(0));
        listen(&mut leases, 0, 1);
        leases.look(at(60_000));
        assert_eq!(leases.expired(at(60_000)), None);
        assert!(leases.hears(at(60_000)));
        assert_eq!(leases.due(), Some(at(75_000)));
    }

    #[test]
    fn who_stays_cut_off_gets_its_jobs_back() {
        let mut leases = Leases::new(Terms::standard(), at(0));
        leases.begin(JOB, at(1_000), at(0));
        (0..=15).for_each(|second| leases.look(at(second * 1_000)));
        assert_eq!(leases.expired(at(15_000)), Some(JOB));
    }
}
