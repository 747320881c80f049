//! The side of the box that has accepted jobs: it places them, and takes one result for each.
//!
//! ```text
//! Waiting ─ Recording ─ Publishing ─ Placed ─ Judging ─ Committing ─ gone
//!    │ ▲                    │           │         │
//!    │ └── given up: lease, refusal, death, no proof
//!    └ returned: its own box proves it
//! ```
//!
//! **The journal is the truth.** A placement is recorded, with its token, before anybody hears of it, and a proof is committed before the
//! broker hears that it arrived. So this side can be killed between any two commands and begins again from its
//! journal ([`Submitter::restore`]); whatever the broker has lost is placed again when its lease ends.
//!
//! **One result counts**: that of the placement in force, by the box it was placed with, in the boot it was placed with, once it is verified. All else is
//! acknowledged, so that it is not delivered again, and has no effect. What nobody could have sent in
//! good faith is reported, and its sender avoided.
//!
//! **A placement is given up** when its lease ends, when its lender has refused it or failed, when what came was no proof, and
//! when its lender has started anew and so has lost what it had. Never because a better place was found.
//!
//! **A job comes home** when nobody takes it, when the box is cut off, and when it went in vain [`TRIES_MAX`]
//! times: then it has a defect that the own box will find, or the fleet has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use caldera_scheduler::{JobId, Nanos};

use crate::lease::Leases;
use crate::loan::{Borrowed, Loan};
use crate::placement::{Advertisement, Candidate, choose};
use crate::{Answer, Boot, BoxId, Delivery, Demand, Refusal, Terms, Token};

/// After so many placements that led to nothing, the box that accepted a job proves it.
pub const TRIES_MAX: u32 = 4;

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The box hands a job over.
    Taken {
        /// Which.
        job: JobId,
        /// What it is.
        demand: Demand,
    },
    /// The box does not want it proved elsewhere any more: it is cancelled, or proved.
    Cancelled {
        /// Which.
        job: JobId,
    },
    /// A placement is in the journal.
    Recorded {
        /// Which.
        token: Token,
        /// Of which job.
        job: JobId,
    },
    /// What came of a publish.
    Published {
        /// Of which job.
        job: JobId,
        /// Of which placement.
        token: Token,
        /// Whether the broker has it. If it did not answer, it may.
        stored: bool,
    },
    /// A box has said what it offers; this one's own words come back too.
    Advertised {
        /// Who.
        from: BoxId,
        /// What.
        says: Advertisement,
    },
    /// A box has said which of this box's jobs it holds.
    Held {
        /// Who.
        from: BoxId,
        /// Which of its starts.
        boot: Boot,
        /// Which, under which tokens.
        jobs: Vec<(JobId, Token)>,
    },
    /// A box has said what it has granted to this one.
    Lent {
        /// Who.
        from: BoxId,
        /// What.
        loan: Loan,
    },
    /// An answer is delivered. Who sent it, and what for, stands in its subject, of which the broker lets each box write its own alone.
    Answered {
        /// What an acknowledgement names.
        delivery: Delivery,
        /// Who.
        from: BoxId,
        /// Which of its starts.
        boot: Boot,
        /// To which job.
        job: JobId,
        /// To which placement.
        token: Token,
        /// What.
        answer: Answer,
    },
    /// A proof was looked at.
    Judged {
        /// Of which job.
        job: JobId,
        /// Of which placement.
        token: Token,
        /// Whether it is one.
        right: bool,
    },
    /// The box has the end of this job on its disk, whether this proof or another end.
    Committed {
        /// Which.
        job: JobId,
    },
    /// Time has passed. Comes at least once in a beat, and when [`Submitter::due`] says.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Write a placement into the journal, in place of one of that job with a lower token; then [`Event::Recorded`].
    Record(Placement),
    /// Publish a placement under a subject of its own, once; then [`Event::Published`].
    Publish(Placement),
    /// Tell the lender that a placement is of no use, and delete its message, if that can be done. Nothing depends on it.
    Withdraw(Placement),
    /// Look whether the proof that this delivery brought is one; then [`Event::Judged`].
    Judge {
        /// Of which job.
        job: JobId,
        /// Of which placement.
        token: Token,
        /// What.
        proof: Arc<[u8]>,
    },
    /// Have the box write down that the proof which was judged last ends this job; then [`Event::Committed`].
    Commit {
        /// Which.
        job: JobId,
        /// By which placement.
        token: Token,
    },
    /// The broker need not deliver this again.
    Acknowledge(Delivery),
    /// The box is to prove it. The journal forgets its placement.
    Return(JobId),
    /// Tell the operator.
    Report(Report),
}

/// A job, where it is to be proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Which job.
    pub job: JobId,
    /// Which of its placements.
    pub token: Token,
    /// Where.
    pub lender: BoxId,
    /// In which of that box's starts.
    pub boot: Boot,
}

/// What nobody does in good faith.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Report {
    /// What was sent as a proof is none.
    WrongProof {
        /// By whom.
        lender: BoxId,
        /// For which job.
        job: JobId,
    },
    /// An answer to what its sender was never asked.
    Forged {
        /// By whom.
        from: BoxId,
        /// For which job.
        job: JobId,
    },
}

/// What the journal has of a job when a process begins.
#[derive(Debug, Clone, Copy)]
pub struct Journalled {
    /// Which.
    pub job: JobId,
    /// What it is.
    pub demand: Demand,
    /// Where it was placed last.
    pub placement: Option<Placement>,
}

/// See the top of this file.
#[derive(Debug)]
pub struct Submitter {
    me: BoxId,
    terms: Terms,
    next_token: u64,
    jobs: BTreeMap<JobId, Entry>,
    /// Jobs that wait, those with the earliest deadline first.
    waiting: BTreeSet<(Nanos, JobId)>,
    leases: Leases,
    /// When placements are published again of which the broker has not said that it has them.
    again: BTreeSet<(Nanos, JobId, Token)>,
    peers: BTreeMap<BoxId, Peer>,
    borrowed: Borrowed,
    /// How often a box has sent what nobody sends in good faith, and until when it is given nothing.
    strikes: BTreeMap<BoxId, (u32, Nanos)>,
    out: Vec<Command>,
}

#[derive(Debug)]
struct Entry {
    demand: Demand,
    phase: Phase,
    /// Who is not asked again until when.
    asked: Vec<(BoxId, Nanos)>,
    tries: u32,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waiting { since: Nanos },
    Recording(Placement),
    Publishing(Placement),
    Placed(Placement),
    Judging(Placement, Delivery),
    Committing(Placement, Delivery),
}

#[derive(Debug)]
struct Peer {
    says: Advertisement,
    heard: Nanos,
    given: u32,
    given_work: Nanos,
}

impl Submitter {
    /// Begins with what the journal has. `next_token` is above every token that it ever had.
    pub fn restore(
        me: BoxId,
        terms: Terms,
        next_token: Token,
        journal: impl IntoIterator<Item = Journalled>,
        now: Nanos,
    ) -> Submitter {
        let mut this = Submitter {
            me,
            terms,
            next_token: next_token.0,
            jobs: BTreeMap::new(),
            waiting: BTreeSet::new(),
            leases: Leases::new(terms, now),
            again: BTreeSet::new(),
            peers: BTreeMap::new(),
            borrowed: Borrowed::new(terms),
            strikes: BTreeMap::new(),
            out: Vec::new(),
        };
        for row in journal {
            this.insert(row.job, row.demand, now);
            if let Some(at) = row.placement {
                // It may have been published, and it may not.
                this.waiting.remove(&order(row.job, &row.demand));
                this.set(row.job, Phase::Publishing(at));
                this.leases.begin(row.job, row.demand.work, now);
                this.out.push(Command::Publish(at));
            }
        }
        this
    }

    /// Takes in what happened, and leaves what is to be done for [`Submitter::commands`].
    pub fn handle(&mut self, event: Event, now: Nanos) {
        self.leases.look(now);
        match event {
            Event::Taken { job, demand } => {
                if !self.jobs.contains_key(&job) {
                    self.insert(job, demand, now);
                }
            }
            Event::Cancelled { job } => self.cancelled(job),
            Event::Recorded { job, token } => self.recorded(job, token, now),
            Event::Published { job, token, stored } => self.published(job, token, stored, now),
            Event::Advertised { from, says } => self.advertised(from, says, now),
            Event::Held { from, boot, jobs } => self.held(from, boot, jobs, now),
            Event::Lent { from, loan } => self.borrowed.heard(from, loan, now),
            Event::Answered {
                delivery,
                from,
                boot,
                job,
                token,
                answer,
            } => self.answered(delivery, (from, boot), (job, token), answer, now),
            Event::Judged { job, token, right } => self.judged(job, token, right, now),
            Event::Committed { job } => {
                if let Some(Phase::Committing(_, delivery)) = self.forget(job) {
                    self.out.push(Command::Acknowledge(delivery));
                }
            }
            Event::Tick => {}
        }
        self.publish_again(now);
        while let Some(job) = self.leases.expired(now) {
            self.give_up(job, now);
        }
        self.place(now);
    }

    /// What is to be done, in this order.
    pub fn commands(&mut self) -> impl Iterator<Item = Command> {
        self.out.drain(..)
    }

    /// When a tick is due at the latest, if nothing happens before.
    pub fn due(&self, now: Nanos) -> Nanos {
        let again = self.again.first().map(|(due, ..)| *due);
        let soonest = self.leases.due().into_iter().chain(again).min();
        let beat = now.plus(self.terms.beat());
        soonest.map_or(beat, |due| due.min(beat))
    }

    /// How many jobs are not settled.
    pub fn unsettled(&self) -> usize {
        self.jobs.len()
    }

    /// How many of those have no placement.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many jobs more the other boxes say that they would take; on a loan of which something is left one at a time, for what it takes of it is
    /// known when it is placed.
    pub fn room(&self, now: Nanos) -> u32 {
        if !self.leases.hears(now) {
            return 0;
        }
        let fresh = self.peers.iter().filter(|it| self.is_fresh(*it, now));
        fresh
            .map(|(lender, peer)| {
                let on_loan = u32::from(self.borrowed.has_credit(*lender, now));
                peer.says.room.saturating_sub(peer.given).max(on_loan)
            })
            .fold(0, u32::saturating_add)
    }

    /// What was granted to this box, by whom, and whether something is left of it now.
    pub fn loans(&self, now: Nanos) -> impl Iterator<Item = (BoxId, Loan, bool)> {
        self.borrowed.loans(now)
    }

    /// The other boxes as they were heard last, with when that was and until when each is avoided.
    pub fn peers(&self) -> impl Iterator<Item = (BoxId, &Advertisement, Nanos, Option<Nanos>)> {
        self.peers.iter().map(|(lender, peer)| {
            let avoided = self.strikes.get(lender).map(|(_, until)| *until);
            (*lender, &peer.says, peer.heard, avoided)
        })
    }

    /// Whether a box was heard lately, and is not avoided.
    fn is_fresh(&self, (lender, peer): (&BoxId, &Peer), now: Nanos) -> bool {
        let avoided = self.strikes.get(lender);
        now.since(peer.heard) <= self.terms.gap() && avoided.is_none_or(|(_, until)| *until <= now)
    }

    fn insert(&mut self, job: JobId, demand: Demand, now: Nanos) {
        let entry = Entry {
            demand,
            phase: Phase::Waiting { since: now },
            asked: Vec::new(),
            tries: 0,
        };
        self.waiting.insert(order(job, &demand));
        self.jobs.insert(job, entry);
    }

    fn set(&mut self, job: JobId, phase: Phase) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.phase = phase;
        }
    }

    /// Takes a job out, and says how far it was.
    fn forget(&mut self, job: JobId) -> Option<Phase> {
        let entry = self.jobs.remove(&job)?;
        self.waiting.remove(&order(job, &entry.demand));
        self.leases.end(job);
        Some(entry.phase)
    }

    fn cancelled(&mut self, job: JobId) {
        match self.forget(job) {
            Some(Phase::Publishing(at) | Phase::Placed(at)) => {
                self.out.push(Command::Withdraw(at));
            }
            Some(Phase::Judging(_, delivery) | Phase::Committing(_, delivery)) => {
                self.out.push(Command::Acknowledge(delivery));
            }
            Some(Phase::Waiting { .. } | Phase::Recording(_)) | None => {}
        }
    }

    fn recorded(&mut self, job: JobId, token: Token, now: Nanos) {
        if let Some(Phase::Recording(at)) = self.phase(job)
            && at.token == token
        {
            self.set(job, Phase::Publishing(at));
            let work = self.jobs[&job].demand.work;
            self.leases.begin(job, work, now);
            self.out.push(Command::Publish(at));
        }
    }

    fn published(&mut self, job: JobId, token: Token, stored: bool, now: Nanos) {
        match self.phase(job) {
            Some(Phase::Publishing(at) | Phase::Placed(at)) if at.token == token && stored => {
                self.set(job, Phase::Placed(at));
                self.leases.renew(job, now);
            }
            Some(Phase::Publishing(at)) if at.token == token => {
                let again = now.plus(self.terms.again());
                self.again.insert((again, job, token));
            }
            _ => {}
        }
    }

    /// Publishes once more what the broker has not answered for.
    fn publish_again(&mut self, now: Nanos) {
        while let Some(&(due, job, token)) = self.again.first()
            && due <= now
        {
            self.again.pop_first();
            if let Some(Phase::Publishing(at)) = self.phase(job)
                && at.token == token
            {
                self.out.push(Command::Publish(at));
            }
        }
    }

    fn advertised(&mut self, from: BoxId, says: Advertisement, now: Nanos) {
        if from == self.me {
            return self.leases.echo(now);
        }
        let boot = says.boot;
        let before = self.peers.get(&from).map(|peer| &peer.says);
        if before.is_some_and(|it| (boot, says.sequence) < (it.boot, it.sequence)) {
            return;
        }
        let is_new = before.is_none_or(|it| boot > it.boot);
        let peer = Peer {
            says,
            heard: now,
            given: 0,
            given_work: Nanos::ZERO,
        };
        self.peers.insert(from, peer);
        if is_new {
            self.bury(from, boot, now);
        }
    }

    /// Gives up what was placed with earlier starts of a box: they have ended.
    fn bury(&mut self, lender: BoxId, boot: Boot, now: Nanos) {
        let lost = self.jobs.iter().filter_map(|(job, entry)| {
            let at = match entry.phase {
                Phase::Recording(at) | Phase::Publishing(at) | Phase::Placed(at) => at,
                Phase::Waiting { .. } | Phase::Judging(..) | Phase::Committing(..) => return None,
            };
            (at.lender == lender && at.boot < boot).then_some(*job)
        });
        for job in lost.collect::<Vec<_>>() {
            self.give_up(job, now);
        }
    }

    fn held(&mut self, from: BoxId, boot: Boot, jobs: Vec<(JobId, Token)>, now: Nanos) {
        for (job, token) in jobs {
            match self.phase(job) {
                Some(Phase::Publishing(at) | Phase::Placed(at))
                    if (at.lender, at.boot, at.token) == (from, boot, token) =>
                {
                    // Whoever holds it has it from the broker.
                    self.set(job, Phase::Placed(at));
                    self.leases.renew(job, now);
                }
                // Its answer is here already.
                Some(Phase::Judging(at, _) | Phase::Committing(at, _)) if at.token == token => {}
                _ => self.out.push(Command::Withdraw(Placement {
                    job,
                    token,
                    lender: from,
                    boot,
                })),
            }
        }
    }

    fn answered(
        &mut self,
        delivery: Delivery,
        from: (BoxId, Boot),
        of: (JobId, Token),
        answer: Answer,
        now: Nanos,
    ) {
        let (job, token) = of;
        let phase = self.phase(job);
        match phase {
            Some(Phase::Publishing(at) | Phase::Placed(at)) if at.token == token => {
                if at.lender != from.0 {
                    return self.forged(delivery, from.0, job, now);
                }
                if at.boot != from.1 {
                    return self.out.push(Command::Acknowledge(delivery));
                }
                self.leases.end(job);
                match answer {
                    Answer::Proof(proof) => {
                        self.set(job, Phase::Judging(at, delivery));
                        self.out.push(Command::Judge { job, token, proof });
                    }
                    Answer::Failed => {
                        self.out.push(Command::Acknowledge(delivery));
                        self.come_home(job);
                    }
                    Answer::Refused(refusal) => {
                        if refusal == Refusal::Loan {
                            self.borrowed.refused(at.lender);
                        }
                        self.out.push(Command::Acknowledge(delivery));
                        self.put_off(job, at.lender, now.plus(self.terms.again()));
                        self.wait(job, now);
                    }
                }
            }
            // The same answer once more: the newest delivery is the one that is acknowledged.
            Some(Phase::Judging(at, _)) if (at.lender, at.token) == (from.0, token) => {
                self.set(job, Phase::Judging(at, delivery));
            }
            Some(Phase::Committing(at, _)) if (at.lender, at.token) == (from.0, token) => {
                self.set(job, Phase::Committing(at, delivery));
            }
            // Nobody has heard of a token before it is in the journal.
            _ if token.0 >= self.next_token || self.is_unheard(job, token) => {
                self.forged(delivery, from.0, job, now);
            }
            _ => self.out.push(Command::Acknowledge(delivery)),
        }
    }

    fn is_unheard(&self, job: JobId, token: Token) -> bool {
        matches!(self.phase(job), Some(Phase::Recording(at)) if at.token == token)
    }

    fn forged(&mut self, delivery: Delivery, from: BoxId, job: JobId, now: Nanos) {
        self.out.push(Command::Acknowledge(delivery));
        self.out.push(Command::Report(Report::Forged { from, job }));
        self.avoid(from, now);
    }

    fn judged(&mut self, job: JobId, token: Token, right: bool, now: Nanos) {
        let Some(Phase::Judging(at, delivery)) = self.phase(job) else {
            return;
        };
        if at.token != token {
            return;
        }
        if right {
            self.set(job, Phase::Committing(at, delivery));
            self.out.push(Command::Commit { job, token });
            return;
        }
        let lender = at.lender;
        self.out.push(Command::Acknowledge(delivery));
        self.out
            .push(Command::Report(Report::WrongProof { lender, job }));
        self.avoid(lender, now);
        self.put_off(job, lender, Nanos::MAX);
        self.wait(job, now);
    }

    fn avoid(&mut self, lender: BoxId, now: Nanos) {
        let (count, until) = self.strikes.entry(lender).or_default();
        *count = count.saturating_add(1);
        *until = now.plus(self.terms.avoidance(*count));
    }

    /// Gives up the placement of a job.
    fn give_up(&mut self, job: JobId, now: Nanos) {
        let at = match self.phase(job) {
            Some(Phase::Publishing(at) | Phase::Placed(at)) => at,
            // Nobody has heard of it.
            Some(Phase::Recording(_)) => return self.wait(job, now),
            Some(Phase::Waiting { .. } | Phase::Judging(..) | Phase::Committing(..)) | None => {
                return;
            }
        };
        self.out.push(Command::Withdraw(at));
        self.wait(job, now);
    }

    fn put_off(&mut self, job: JobId, lender: BoxId, until: Nanos) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            entry.asked.push((lender, until));
        }
    }

    /// A job is without a placement.
    fn wait(&mut self, job: JobId, now: Nanos) {
        self.leases.end(job);
        let Some(entry) = self.jobs.get_mut(&job) else {
            return;
        };
        if entry.tries >= TRIES_MAX {
            return self.come_home(job);
        }
        entry.phase = Phase::Waiting { since: now };
        self.waiting.insert(order(job, &entry.demand));
    }

    fn come_home(&mut self, job: JobId) {
        self.forget(job);
        self.out.push(Command::Return(job));
    }

    /// Finds a place for each job that waits, or sends it home.
    fn place(&mut self, now: Nanos) {
        if self.waiting.is_empty() {
            return;
        }
        let hears = self.leases.hears(now);
        for at in std::mem::take(&mut self.waiting) {
            let (_, job) = at;
            let chosen = if hears { self.choose(job, now) } else { None };
            let Some(entry) = self.jobs.get_mut(&job) else {
                continue;
            };
            let Phase::Waiting { since } = entry.phase else {
                continue;
            };
            let patience = entry.demand.due.map_or(Nanos::MAX, |due| {
                // The rest is for its own box.
                Nanos(due.since(since).0 / 4)
            });
            let patience = patience.min(self.terms.patience());
            if let Some(lender) = chosen
                && let Some(peer) = self.peers.get_mut(&lender)
            {
                peer.given += 1;
                peer.given_work = peer.given_work.plus(entry.demand.work);
                self.borrowed.placed(lender, entry.demand.work, now);
                entry.tries += 1;
                let placement = Placement {
                    job,
                    token: Token(self.next_token),
                    lender,
                    boot: peer.says.boot,
                };
                self.next_token += 1;
                entry.phase = Phase::Recording(placement);
                self.out.push(Command::Record(placement));
            } else if now.since(since) >= patience {
                self.come_home(job);
            } else {
                self.waiting.insert(at);
            }
        }
    }

    fn choose(&self, job: JobId, now: Nanos) -> Option<BoxId> {
        let entry = self.jobs.get(&job)?;
        let fresh = self.peers.iter().filter(|it| {
            let (lender, _) = it;
            self.is_fresh(*it, now)
                && !entry
                    .asked
                    .iter()
                    .any(|(asked, until)| asked == *lender && *until > now)
        });
        let candidates = fresh.map(|(lender, peer)| Candidate {
            lender: *lender,
            says: &peer.says,
            given: peer.given,
            given_work: peer.given_work,
            on_loan: self.borrowed.has_credit(*lender, now),
        });
        choose(job, &entry.demand, candidates, now)
    }

    fn phase(&self, job: JobId) -> Option<Phase> {
        Some(self.jobs.get(&job)?.phase)
    }
}

/// Those that are due first, then those without a deadline, each in the order of their submission.
fn order(job: JobId, demand: &Demand) -> (Nanos, JobId) {
    (demand.due.unwrap_or(Nanos::MAX), job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyHint;
    use crate::loan::LoanNumber;

    const ME: BoxId = BoxId(1);
    const NEAR: BoxId = BoxId(2);
    const FAR: BoxId = BoxId(3);
    const JOB: JobId = JobId(9);
    const DEMAND: Demand = Demand {
        key: KeyHint(7),
        key_bytes: 0,
        witness_bytes: 0,
        work: Nanos::from_secs(4),
        due: None,
        price_max: 10,
    };

    /// A submitter, what it has asked for since that was looked at last, and the time.
    struct Scene {
        submitter: Submitter,
        now: Nanos,
        boots: BTreeMap<BoxId, u64>,
        beats: u64,
    }

    impl Scene {
        /// Two boxes may be chosen, and the second is the dearer one.
        fn new(journal: &[Journalled]) -> Scene {
            let rows = journal.iter().copied();
            let submitter = Submitter::restore(ME, Terms::standard(), Token(5), rows, Nanos::ZERO);
            let mut scene = Scene {
                submitter,
                now: Nanos::ZERO,
                boots: [(ME, 1), (NEAR, 1), (FAR, 1)].into(),
                beats: 0,
            };
            scene.beat();
            scene
        }

        fn handle(&mut self, event: Event) -> Vec<Command> {
            self.submitter.handle(event, self.now);
            self.submitter.commands().collect()
        }

        /// Every box that has a boot is heard.
        fn beat(&mut self) -> Vec<Command> {
            self.beats += 1;
            let mut commands = Vec::new();
            for (from, boot) in self.boots.clone() {
                let says = Advertisement {
                    boot: Boot(boot),
                    sequence: self.beats,
                    room: if from == ME { 0 } else { 4 },
                    backlog: Nanos::ZERO,
                    cores: 1,
                    speed: 1_000,
                    price: from.0 as u64,
                    keys: vec![],
                };
                commands.extend(self.handle(Event::Advertised { from, says }));
            }
            commands
        }

        /// Time passes, a second at a time, and whoever is there is heard.
        fn pass(&mut self, seconds: u64) -> Vec<Command> {
            let mut commands = Vec::new();
            for _ in 0..seconds {
                self.now = self.now.plus(Nanos::from_secs(1));
                commands.extend(self.beat());
                commands.extend(self.handle(Event::Tick));
            }
            commands
        }

        /// Takes a job and has it placed.
        fn place(&mut self, job: JobId) -> Placement {
            let taken = Event::Taken {
                job,
                demand: DEMAND,
            };
            let recorded = self.handle(taken);
            self.publish(&recorded)
        }

        /// Records, publishes and confirms what was chosen.
        fn publish(&mut self, commands: &[Command]) -> Placement {
            let chosen = commands.iter().find_map(|command| match command {
                Command::Record(placement) => Some(*placement),
                _ => None,
            });
            let at = chosen.expect("a box is chosen");
            let (job, token) = (at.job, at.token);
            let published = self.handle(Event::Recorded { job, token });
            assert_eq!(published, [Command::Publish(at)]);
            let stored = true;
            let confirmed = Event::Published { job, token, stored };
            assert_eq!(self.handle(confirmed), []);
            at
        }

        fn answer(&mut self, delivery: u64, at: Placement, answer: Answer) -> Vec<Command> {
            self.handle(Event::Answered {
                delivery: Delivery(delivery),
                from: at.lender,
                boot: at.boot,
                job: at.job,
                token: at.token,
                answer,
            })
        }
    }

    fn proof() -> Answer {
        Answer::Proof(vec![1, 2, 3].into())
    }

    fn acknowledged(delivery: u64) -> Vec<Command> {
        vec![Command::Acknowledge(Delivery(delivery))]
    }

    #[test]
    fn a_result_is_verified_then_committed_then_acknowledged() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        assert_eq!((at.lender, at.token), (NEAR, Token(5)));
        let (job, token) = (JOB, at.token);
        let judge = Command::Judge {
            job,
            token,
            proof: vec![1, 2, 3].into(),
        };
        assert_eq!(scene.answer(1, at, proof()), [judge]);
        // The broker delivers it again meanwhile.
        assert_eq!(scene.answer(2, at, proof()), []);
        let right = true;
        let commit = scene.handle(Event::Judged { job, token, right });
        assert_eq!(commit, [Command::Commit { job, token }]);
        assert_eq!(scene.answer(3, at, proof()), []);
        assert_eq!(scene.pass(60), []);
        assert_eq!(scene.handle(Event::Committed { job }), acknowledged(3));
        assert_eq!(scene.answer(4, at, proof()), acknowledged(4));
        assert_eq!(scene.submitter.unsettled(), 0);
    }

    #[test]
    fn a_box_that_is_silent_loses_its_jobs_within_the_lease_and_no_sooner() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        let held = |scene: &mut Scene| {
            let jobs = vec![(JOB, at.token)];
            let (from, boot) = (at.lender, at.boot);
            assert_eq!(scene.handle(Event::Held { from, boot, jobs }), []);
        };
        for _ in 0..20 {
            assert_eq!(scene.pass(1), []);
            held(&mut scene);
        }
        scene.boots.remove(&NEAR);
        assert_eq!(scene.pass(14), []);
        assert_eq!(
            scene.submitter.due(scene.now),
            scene.now.plus(Nanos::from_secs(1))
        );
        let given_up = scene.pass(1);
        let withdrawn = Command::Withdraw(at);
        assert_eq!(given_up[0], withdrawn);
        let next = scene.publish(&given_up);
        assert_eq!((next.lender, next.token), (FAR, Token(6)));
        // What it says when it is back has no effect but that it hears so.
        let jobs = vec![(JOB, at.token)];
        let (from, boot) = (NEAR, at.boot);
        let told = scene.handle(Event::Held { from, boot, jobs });
        assert_eq!(told, [withdrawn]);
        assert_eq!(scene.answer(1, at, proof()), acknowledged(1));
    }

    #[test]
    fn a_box_that_has_started_anew_has_lost_what_it_had() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        scene.boots.insert(NEAR, 2);
        let commands = scene.beat();
        let next = scene.publish(&commands);
        assert_eq!(
            (next.lender, next.boot, next.token),
            (NEAR, Boot(2), Token(6))
        );
        // The message of before is delivered to nobody who takes it; an answer of before changes nothing.
        assert_eq!(scene.answer(1, at, proof()), acknowledged(1));
        let older = Placement {
            token: next.token,
            ..at
        };
        assert_eq!(scene.answer(2, older, proof()), acknowledged(2));
        assert!(matches!(
            scene.answer(3, next, proof())[..],
            [Command::Judge {
                token: Token(6),
                ..
            }]
        ));
    }

    #[test]
    fn whoever_sends_what_is_no_proof_is_reported_and_avoided() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        let (job, token) = (JOB, at.token);
        scene.answer(1, at, proof());
        let right = false;
        let commands = scene.handle(Event::Judged { job, token, right });
        let lender = NEAR;
        assert_eq!(commands[0], Command::Acknowledge(Delivery(1)));
        let report = Command::Report(Report::WrongProof { lender, job });
        assert_eq!(commands[1], report);
        assert_eq!(scene.publish(&commands[2..]).lender, FAR);
        assert_eq!(scene.place(JobId(10)).lender, FAR);
        // In ten minutes it is asked again, for other jobs.
        scene.handle(Event::Cancelled { job: JobId(10) });
        scene.handle(Event::Cancelled { job });
        scene.pass(599);
        assert_eq!(scene.place(JobId(11)).lender, FAR);
        scene.handle(Event::Cancelled { job: JobId(11) });
        scene.pass(1);
        assert_eq!(scene.place(JobId(12)).lender, NEAR);
    }

    #[test]
    fn an_answer_of_whom_nobody_asked_is_reported_and_the_right_one_still_counts() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        let forged = Placement { lender: FAR, ..at };
        let ahead = Placement {
            token: Token(6),
            ..forged
        };
        for (delivery, forged) in [(1, forged), (2, ahead)] {
            let report = Report::Forged {
                from: FAR,
                job: JOB,
            };
            let expected = [
                Command::Acknowledge(Delivery(delivery)),
                Command::Report(report),
            ];
            assert_eq!(scene.answer(delivery, forged, proof()), expected);
        }
        assert!(matches!(
            scene.answer(3, at, proof())[..],
            [Command::Judge { .. }]
        ));
    }

    #[test]
    fn what_was_recorded_is_published_again_by_the_next_process_and_what_was_not_is_chosen_anew() {
        let at = Placement {
            job: JOB,
            token: Token(4),
            lender: FAR,
            boot: Boot(1),
        };
        let row = |job, placement| Journalled {
            job,
            demand: DEMAND,
            placement,
        };
        let mut scene = Scene::new(&[]);
        scene.submitter = Submitter::restore(
            ME,
            Terms::standard(),
            Token(5),
            [row(JOB, Some(at)), row(JobId(10), None)],
            scene.now,
        );
        let commands = scene.beat();
        assert_eq!(commands[0], Command::Publish(at));
        let chosen = scene.publish(&commands[1..]);
        assert_eq!((chosen.job, chosen.token), (JobId(10), Token(5)));
        assert!(matches!(
            scene.answer(1, at, proof())[..],
            [Command::Judge { .. }]
        ));
    }

    #[test]
    fn a_box_that_started_anew_while_nobody_listened_has_lost_what_it_had_too() {
        let at = Placement {
            job: JOB,
            token: Token(4),
            lender: NEAR,
            boot: Boot(1),
        };
        let row = Journalled {
            job: JOB,
            demand: DEMAND,
            placement: Some(at),
        };
        let rows = [row];
        let submitter = Submitter::restore(ME, Terms::standard(), Token(5), rows, Nanos::ZERO);
        let mut scene = Scene {
            submitter,
            now: Nanos::ZERO,
            boots: [(ME, 1), (NEAR, 2)].into(),
            beats: 0,
        };
        let commands = scene.beat();
        assert_eq!(commands[..2], [Command::Publish(at), Command::Withdraw(at)]);
        assert_eq!(scene.publish(&commands[2..]).boot, Boot(2));
    }

    #[test]
    fn a_publish_that_is_not_answered_is_repeated_under_the_same_token() {
        let mut scene = Scene::new(&[]);
        let taken = Event::Taken {
            job: JOB,
            demand: DEMAND,
        };
        let Some(Command::Record(at)) = scene.handle(taken).pop() else {
            panic!("it is not recorded");
        };
        let (job, token) = (JOB, at.token);
        scene.handle(Event::Recorded { job, token });
        for _ in 0..3 {
            let stored = false;
            let silence = Event::Published { job, token, stored };
            assert_eq!(scene.handle(silence), []);
            assert_eq!(scene.pass(1), [Command::Publish(at)]);
        }
    }

    #[test]
    fn nobody_waits_for_a_fleet_that_does_not_take_a_job() {
        let mut scene = Scene::new(&[]);
        let dear = Demand {
            price_max: 1,
            ..DEMAND
        };
        let pressed = Demand {
            due: Some(Nanos::from_secs(4)),
            ..dear
        };
        let job = JobId(10);
        let demand = pressed;
        assert_eq!(
            scene.handle(Event::Taken {
                job: JOB,
                demand: dear
            }),
            []
        );
        assert_eq!(scene.handle(Event::Taken { job, demand }), []);
        assert_eq!(scene.pass(1), [Command::Return(job)]);
        assert_eq!(scene.pass(3), []);
        assert_eq!(scene.pass(1), [Command::Return(JOB)]);
    }

    #[test]
    fn a_box_that_is_cut_off_takes_its_jobs_home() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        scene.boots.clear();
        let home = scene.pass(20);
        let withdrawn = Command::Withdraw(at);
        assert_eq!(home, [withdrawn, Command::Return(JOB)]);
        // And gets no answer to it any more that counts.
        assert_eq!(scene.answer(1, at, proof()), acknowledged(1));
    }

    #[test]
    fn a_job_that_goes_in_vain_again_and_again_comes_home() {
        let mut scene = Scene::new(&[]);
        let mut at = scene.place(JOB);
        for delivery in 1..u64::from(TRIES_MAX) {
            let refused = Answer::Refused(Refusal::Full);
            let commands = scene.answer(delivery, at, refused);
            at = scene.publish(&commands);
            scene.pass(2);
        }
        let commands = scene.answer(9, at, Answer::Refused(Refusal::Draining));
        assert_eq!(commands[1..], [Command::Return(JOB)]);
    }

    #[test]
    fn a_lender_that_says_that_its_loan_is_used_up_is_believed() {
        let mut scene = Scene::new(&[]);
        let number = LoanNumber {
            boot: Boot(1),
            nth: 1,
        };
        let loan = Loan {
            number,
            rate: 1_000,
            left: Nanos::from_secs(600),
        };
        assert_eq!(scene.handle(Event::Lent { from: FAR, loan }), []);
        let at = scene.place(JobId(1));
        assert_eq!(at.lender, FAR);
        let refused = scene.answer(1, at, Answer::Refused(Refusal::Loan));
        assert_eq!(scene.publish(&refused).lender, NEAR);
        // What it has believed would have been enough for many.
        assert_eq!(scene.place(JobId(2)).lender, NEAR);
    }

    #[test]
    fn only_its_own_box_says_that_a_job_cannot_be_proved() {
        let mut scene = Scene::new(&[]);
        let at = scene.place(JOB);
        let expected = [Command::Acknowledge(Delivery(1)), Command::Return(JOB)];
        assert_eq!(scene.answer(1, at, Answer::Failed), expected);
    }
}
