//! The side of the box that proves jobs of others: takes each once, answers each once.
//!
//! ```text
//! delivered ─ Working ─ Answering ─ acknowledged
//!     └ refused ───────────┘
//! ```
//!
//! A job is acknowledged only when its answer is published and the broker has confirmed that, so a job that is lost
//! with its box is delivered again, or placed again. Until then the broker may deliver it as often as it likes: a job that is held is not
//! begun anew, and one that was answered, refused or withdrawn is acknowledged again, even if there is room for it now: whoever was refused has asked
//! another box. The newest delivery of a job is the one that is acknowledged,
//! for an acknowledgement of an older one would delete the message under the newer.
//!
//! What was placed with an earlier start of this box is not taken: whoever placed it has heard, or will, that this
//! start has begun, and places it anew. A later placement of a job that is held takes over the work that is done for it.
//!
//! Where jobs are taken on loans alone, one that is beyond its submitter's is refused; and what is under way for a box whose loan is reclaimed is
//! given up at once. Borrowers are told at each beat what they have.
//!
//! Everything that this side knows may be lost at any time. It owes its box nothing but what it says in public: how many jobs it would
//! take, and which it holds.

use std::collections::{BTreeMap, VecDeque};

use caldera_scheduler::{JobId, Nanos};

use crate::loan::{Granted, Loan, LoanError, LoanNumber};
use crate::{Answer, Boot, BoxId, Delivery, Demand, Refusal, Terms, Token};

/// A job by who submitted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Foreign {
    /// Whose it is.
    pub submitter: BoxId,
    /// Which of that box's jobs.
    pub job: JobId,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A job is delivered.
    Delivered {
        /// What an acknowledgement names.
        delivery: Delivery,
        /// Which job.
        of: Foreign,
        /// Which placement.
        token: Token,
        /// With which start of this box it was placed.
        boot: Boot,
        /// What it is.
        demand: Demand,
    },
    /// The box has proved it, or cannot.
    Computed {
        /// Which job.
        of: Foreign,
        /// What came of it.
        answer: Answer,
    },
    /// What came of publishing an answer.
    Published {
        /// Which job.
        of: Foreign,
        /// Which placement.
        token: Token,
        /// Whether the broker has an answer to this placement now, this or an earlier one. If it said nothing, it may.
        stored: bool,
    },
    /// Who placed a job says that the placement is of no use.
    Withdrawn {
        /// Which job.
        of: Foreign,
        /// Which placement.
        token: Token,
    },
    /// Nothing more is to be taken, or things are again.
    Drain(bool),
    /// The broker keeps a loan, which is in force from now on.
    Granted {
        /// To whom.
        borrower: BoxId,
        /// What.
        loan: Loan,
    },
    /// Time has passed. Comes once in a beat.
    Beat,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Fetch what it needs and have the box prove it, under a name that is the same each time; then [`Event::Computed`].
    Start {
        /// Which job.
        of: Foreign,
    },
    /// It need not be proved any more.
    Abort {
        /// Which job.
        of: Foreign,
    },
    /// Publish an answer under a subject of its own, once; then [`Event::Published`].
    Publish {
        /// To which job.
        of: Foreign,
        /// To which placement.
        token: Token,
        /// What.
        answer: Answer,
    },
    /// The broker need not deliver it again.
    Acknowledge(Delivery),
    /// The broker is to go on waiting for an acknowledgement.
    Progress(Delivery),
    /// Tell all what this box offers: how much room it has, beside what the box itself knows.
    Advertise {
        /// How many more jobs it would take.
        room: u32,
    },
    /// Tell a submitter which of its jobs are held.
    Hold {
        /// Whom.
        submitter: BoxId,
        /// Which, under which tokens.
        jobs: Vec<(JobId, Token)>,
    },
    /// Tell a borrower what it has.
    Tell {
        /// Whom.
        borrower: BoxId,
        /// What.
        loan: Loan,
    },
}

/// See the top of this file.
#[derive(Debug)]
pub struct Lender {
    boot: Boot,
    terms: Terms,
    /// How many jobs are asked for.
    offered: u32,
    draining: bool,
    granted: Granted,
    held: BTreeMap<Foreign, Held>,
    /// The last placements that were answered, with a refusal or otherwise, or withdrawn.
    over: BTreeMap<Foreign, Token>,
    /// The same, oldest first.
    over_order: VecDeque<(Foreign, Token)>,
    out: Vec<Command>,
}

#[derive(Debug)]
struct Held {
    token: Token,
    delivery: Delivery,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Working,
    /// With when it is published again, if the broker has not answered.
    Answering(Answer, Option<Nanos>),
}

impl Lender {
    /// Holds nothing. It asks for so many jobs at once, and takes twice as many, for several boxes may answer at once to what it
    /// offers.
    pub fn new(boot: Boot, terms: Terms, offered: u32, granted: Granted) -> Lender {
        Lender {
            boot,
            terms,
            offered,
            draining: false,
            granted,
            held: BTreeMap::new(),
            over: BTreeMap::new(),
            over_order: VecDeque::new(),
            out: Vec::new(),
        }
    }

    /// Takes in what happened, and leaves what is to be done for [`Lender::commands`].
    pub fn handle(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Delivered {
                delivery,
                of,
                token,
                boot,
                demand,
            } => {
                if boot == self.boot {
                    self.delivered(delivery, of, token, &demand, now);
                } else {
                    self.out.push(Command::Acknowledge(delivery));
                }
            }
            Event::Computed { of, answer } => {
                if let Some(held) = self.held.get_mut(&of)
                    && let Stage::Working = held.stage
                {
                    held.stage = Stage::Answering(answer.clone(), None);
                    let token = held.token;
                    self.out.push(Command::Publish { of, token, answer });
                }
            }
            Event::Published { of, token, stored } => self.published(of, token, stored, now),
            Event::Withdrawn { of, token } => {
                // Its message may still be on its way, more than once.
                self.remember(of, token);
                if self.held.get(&of).is_some_and(|held| held.token == token) {
                    self.drop_held(of);
                }
            }
            Event::Drain(draining) => self.draining = draining,
            Event::Granted { borrower, loan } => self.granted.grant(borrower, loan, now),
            Event::Beat => self.beat(now),
        }
    }

    /// What is to be done, in this order.
    pub fn commands(&mut self) -> impl Iterator<Item = Command> {
        self.out.drain(..)
    }

    /// Ends a loan, and what is under way for the box that has it. Says which it was.
    pub fn reclaim(&mut self, borrower: BoxId) -> Result<LoanNumber, LoanError> {
        let number = self.granted.revoke(borrower)?;
        for (of, held) in &mut self.held {
            if of.submitter == borrower
                && let Stage::Working = held.stage
            {
                let answer = Answer::Refused(Refusal::Loan);
                held.stage = Stage::Answering(answer.clone(), None);
                let (of, token) = (*of, held.token);
                self.out.push(Command::Abort { of });
                self.out.push(Command::Publish { of, token, answer });
            }
        }
        let (rate, left) = (0, Nanos::ZERO);
        let loan = Loan { number, rate, left };
        self.out.push(Command::Tell { borrower, loan });
        Ok(number)
    }

    /// What is granted to whom.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// How many jobs it has.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Whether it has this one.
    pub fn holds(&self, of: Foreign) -> bool {
        self.held.contains_key(&of)
    }

    fn delivered(
        &mut self,
        delivery: Delivery,
        of: Foreign,
        token: Token,
        demand: &Demand,
        now: Nanos,
    ) {
        if self.over.get(&of).is_some_and(|it| *it >= token) {
            return self.out.push(Command::Acknowledge(delivery));
        }
        let refusal = self.refusal(demand, now);
        let Some(held) = self.held.get_mut(&of) else {
            let refusal = refusal.or_else(|| {
                let admitted = self.granted.admit(of.submitter, demand.work, now);
                (!admitted).then_some(Refusal::Loan)
            });
            let stage = match refusal {
                None => {
                    self.out.push(Command::Start { of });
                    Stage::Working
                }
                Some(refusal) => {
                    let answer = Answer::Refused(refusal);
                    self.out.push(Command::Publish {
                        of,
                        token,
                        answer: answer.clone(),
                    });
                    Stage::Answering(answer, None)
                }
            };
            let held = Held {
                token,
                delivery,
                stage,
            };
            self.held.insert(of, held);
            return;
        };
        if token < held.token {
            return self.out.push(Command::Acknowledge(delivery));
        }
        if token > held.token {
            // What was done for the placement before is done for this one.
            self.out.push(Command::Acknowledge(held.delivery));
            held.token = token;
            if let Stage::Answering(answer, again) = &mut held.stage {
                *again = None;
                let answer = answer.clone();
                self.out.push(Command::Publish { of, token, answer });
            }
        }
        held.delivery = delivery;
    }

    fn refusal(&self, demand: &Demand, now: Nanos) -> Option<Refusal> {
        if self.draining {
            Some(Refusal::Draining)
        } else if self.held.len() >= 2 * self.offered as usize {
            Some(Refusal::Full)
        } else if demand.due.is_some_and(|due| due <= now) {
            Some(Refusal::TooLate)
        } else {
            None
        }
    }

    fn published(&mut self, of: Foreign, token: Token, stored: bool, now: Nanos) {
        let Some(held) = self.held.get_mut(&of).filter(|held| held.token == token) else {
            return;
        };
        let Stage::Answering(_, again) = &mut held.stage else {
            return;
        };
        if !stored {
            *again = Some(now.plus(self.terms.again()));
            return;
        }
        self.out.push(Command::Acknowledge(held.delivery));
        self.held.remove(&of);
        self.remember(of, token);
    }

    /// There is nothing more to do for this placement of a job, or for an earlier one, whatever is delivered.
    fn remember(&mut self, of: Foreign, token: Token) {
        if self.over.get(&of).is_some_and(|it| *it >= token) {
            return;
        }
        self.over.insert(of, token);
        self.over_order.push_back((of, token));
        if self.over_order.len() > OVER_MAX
            && let Some((oldest, token)) = self.over_order.pop_front()
            && self.over.get(&oldest) == Some(&token)
        {
            self.over.remove(&oldest);
        }
    }

    fn drop_held(&mut self, of: Foreign) {
        if let Some(held) = self.held.remove(&of) {
            if let Stage::Working = held.stage {
                self.out.push(Command::Abort { of });
            }
            self.out.push(Command::Acknowledge(held.delivery));
        }
    }

    fn beat(&mut self, now: Nanos) {
        let mut by_submitter: BTreeMap<BoxId, Vec<(JobId, Token)>> = BTreeMap::new();
        for (of, held) in &mut self.held {
            let jobs = by_submitter.entry(of.submitter).or_default();
            jobs.push((of.job, held.token));
            self.out.push(Command::Progress(held.delivery));
            if let Stage::Answering(answer, again @ Some(_)) = &mut held.stage
                && again.is_some_and(|again| again <= now)
            {
                *again = None;
                self.out.push(Command::Publish {
                    of: *of,
                    token: held.token,
                    answer: answer.clone(),
                });
            }
        }
        let holds = by_submitter.into_iter();
        let holds = holds.map(|(submitter, jobs)| Command::Hold { submitter, jobs });
        self.out.extend(holds);
        self.granted.expire(now);
        // Who hears nothing of a loan for a while places nothing on it.
        let loans = self.granted.loans(now).filter(|_| !self.draining);
        let told = loans.map(|(borrower, loan)| Command::Tell { borrower, loan });
        self.out.extend(told);
        let taken = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let room = if self.draining || self.granted.is_all() {
            0
        } else {
            self.offered.saturating_sub(taken)
        };
        self.out.push(Command::Advertise { room });
    }
}

/// How many of them are remembered. A job that is delivered again after that is proved again, and its answer finds its place
/// taken.
const OVER_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyHint;

    const OF: Foreign = Foreign {
        submitter: BoxId(1),
        job: JobId(9),
    };
    const DEMAND: Demand = Demand {
        key: KeyHint(7),
        key_bytes: 0,
        witness_bytes: 0,
        work: Nanos::from_secs(4),
        due: None,
        price_max: 10,
    };

    fn a_lender() -> Lender {
        let granted = Granted::new(BoxId(7), 1_000, false);
        Lender::new(Boot(3), Terms::standard(), 1, granted)
    }

    fn handle(lender: &mut Lender, event: Event) -> Vec<Command> {
        lender.handle(event, Nanos::ZERO);
        lender.commands().collect()
    }

    fn deliver(lender: &mut Lender, delivery: u64, of: Foreign, token: u64) -> Vec<Command> {
        let event = Event::Delivered {
            delivery: Delivery(delivery),
            of,
            token: Token(token),
            boot: Boot(3),
            demand: DEMAND,
        };
        handle(lender, event)
    }

    fn computed(lender: &mut Lender) -> Vec<Command> {
        let answer = proof();
        handle(lender, Event::Computed { of: OF, answer })
    }

    fn confirmed(lender: &mut Lender, token: u64, stored: bool) -> Vec<Command> {
        let token = Token(token);
        handle(
            lender,
            Event::Published {
                of: OF,
                token,
                stored,
            },
        )
    }

    fn proof() -> Answer {
        Answer::Proof(vec![1].into())
    }

    fn publish(token: u64) -> Command {
        Command::Publish {
            of: OF,
            token: Token(token),
            answer: proof(),
        }
    }

    #[test]
    fn a_job_is_acknowledged_when_the_broker_has_its_answer_and_never_begun_twice() {
        let mut lender = a_lender();
        assert_eq!(deliver(&mut lender, 1, OF, 5), [Command::Start { of: OF }]);
        assert_eq!(deliver(&mut lender, 2, OF, 5), []);
        assert_eq!(computed(&mut lender), [publish(5)]);
        assert_eq!(deliver(&mut lender, 3, OF, 5), []);
        assert_eq!(computed(&mut lender), []);
        // Of the deliveries the newest.
        let acknowledged = Command::Acknowledge(Delivery(3));
        assert_eq!(confirmed(&mut lender, 5, true), [acknowledged]);
        assert_eq!(lender.held(), 0);
        // The acknowledgement was lost.
        let again = Command::Acknowledge(Delivery(4));
        assert_eq!(deliver(&mut lender, 4, OF, 5), [again]);
        // The answer was lost too, and the job placed anew.
        assert_eq!(deliver(&mut lender, 5, OF, 6), [Command::Start { of: OF }]);
    }

    #[test]
    fn what_was_placed_with_an_earlier_start_is_not_taken() {
        let mut lender = a_lender();
        for boot in [2, 4] {
            let event = Event::Delivered {
                delivery: Delivery(1),
                of: OF,
                token: Token(5),
                boot: Boot(boot),
                demand: DEMAND,
            };
            let dropped = Command::Acknowledge(Delivery(1));
            assert_eq!(handle(&mut lender, event), [dropped]);
        }
    }

    #[test]
    fn a_later_placement_takes_over_the_work_and_an_earlier_one_changes_nothing() {
        let mut lender = a_lender();
        deliver(&mut lender, 1, OF, 5);
        let over = Command::Acknowledge(Delivery(1));
        assert_eq!(deliver(&mut lender, 2, OF, 7), [over]);
        let stale = Command::Acknowledge(Delivery(3));
        assert_eq!(deliver(&mut lender, 3, OF, 6), [stale]);
        assert_eq!(computed(&mut lender), [publish(7)]);
        let over = Command::Acknowledge(Delivery(2));
        assert_eq!(deliver(&mut lender, 4, OF, 8), [over, publish(8)]);
        // The confirmation of the one before is not that of this one.
        assert_eq!(confirmed(&mut lender, 7, true), []);
        let done = Command::Acknowledge(Delivery(4));
        assert_eq!(confirmed(&mut lender, 8, true), [done]);
    }

    #[test]
    fn a_withdrawn_placement_is_dropped_if_it_is_the_one_that_is_held() {
        let mut lender = a_lender();
        deliver(&mut lender, 1, OF, 5);
        let withdraw = |lender: &mut Lender, token| {
            let token = Token(token);
            handle(lender, Event::Withdrawn { of: OF, token })
        };
        assert_eq!(withdraw(&mut lender, 4), []);
        let dropped = [Command::Abort { of: OF }, Command::Acknowledge(Delivery(1))];
        assert!(lender.holds(OF));
        assert_eq!(withdraw(&mut lender, 5), dropped);
        assert!(!lender.holds(OF));
        assert_eq!(computed(&mut lender), []);
        // A delivery that was late.
        let late = Command::Acknowledge(Delivery(2));
        assert_eq!(deliver(&mut lender, 2, OF, 5), [late]);
        assert_eq!(deliver(&mut lender, 3, OF, 6), [Command::Start { of: OF }]);
    }

    #[test]
    fn an_answer_that_is_not_confirmed_is_published_again() {
        let mut lender = a_lender();
        deliver(&mut lender, 1, OF, 5);
        computed(&mut lender);
        assert_eq!(confirmed(&mut lender, 5, false), []);
        let beat = |lender: &mut Lender, ms| {
            lender.handle(Event::Beat, Nanos::from_millis(ms));
            let commands: Vec<_> = lender.commands().collect();
            commands.contains(&publish(5))
        };
        assert!(!beat(&mut lender, 999));
        assert!(beat(&mut lender, 1_000));
        assert!(!beat(&mut lender, 3_000), "it is on its way");
    }

    #[test]
    fn a_full_box_and_one_that_is_emptied_refuse() {
        let mut lender = a_lender();
        let of = |job| Foreign {
            job: JobId(job),
            ..OF
        };
        let refused = |of, refusal| Command::Publish {
            of,
            token: Token(5),
            answer: Answer::Refused(refusal),
        };
        for job in [1, 2] {
            let begun = [Command::Start { of: of(job) }];
            assert_eq!(deliver(&mut lender, job, of(job), 5), begun);
        }
        let full = [refused(of(3), Refusal::Full)];
        assert_eq!(deliver(&mut lender, 3, of(3), 5), full);
        assert!(handle(&mut lender, Event::Beat).contains(&Command::Advertise { room: 0 }));

        let mut lender = a_lender();
        let room = |lender: &mut Lender| {
            let last = handle(lender, Event::Beat).pop();
            assert!(matches!(last, Some(Command::Advertise { .. })));
            last
        };
        assert_eq!(room(&mut lender), Some(Command::Advertise { room: 1 }));
        handle(&mut lender, Event::Drain(true));
        assert_eq!(room(&mut lender), Some(Command::Advertise { room: 0 }));
        let draining = [refused(of(4), Refusal::Draining)];
        assert_eq!(deliver(&mut lender, 4, of(4), 5), draining);
    }

    /// The simulator's weather of elections, seed 935: the confirmation of a refusal was lost, its submitter withdrew the placement and
    /// asked another box, and then a delivery of before arrived, when there was room.
    #[test]
    fn what_was_refused_is_not_begun_when_there_is_room() {
        let mut lender = a_lender();
        handle(&mut lender, Event::Drain(true));
        deliver(&mut lender, 1, OF, 5);
        let refused = Command::Acknowledge(Delivery(1));
        assert_eq!(confirmed(&mut lender, 5, true), [refused]);
        handle(&mut lender, Event::Drain(false));
        let late = Command::Acknowledge(Delivery(2));
        assert_eq!(deliver(&mut lender, 2, OF, 5), [late]);
    }

    #[test]
    fn what_is_held_is_told_to_whom_it_belongs() {
        let granted = Granted::new(BoxId(7), 1_000, false);
        let mut lender = Lender::new(Boot(3), Terms::standard(), 4, granted);
        let other = Foreign {
            submitter: BoxId(2),
            ..OF
        };
        deliver(&mut lender, 1, OF, 5);
        deliver(&mut lender, 2, other, 8);
        let expected = [
            Command::Progress(Delivery(1)),
            Command::Progress(Delivery(2)),
            Command::Hold {
                submitter: OF.submitter,
                jobs: vec![(OF.job, Token(5))],
            },
            Command::Hold {
                submitter: other.submitter,
                jobs: vec![(other.job, Token(8))],
            },
            Command::Advertise { room: 2 },
        ];
        assert_eq!(handle(&mut lender, Event::Beat), expected);
    }

    #[test]
    fn a_loan_is_counted_told_and_reclaimed_with_what_is_under_way() {
        let mut lender = Lender::new(
            Boot(3),
            Terms::standard(),
            4,
            Granted::new(BoxId(7), 1_000, true),
        );
        let refused = |of, token| Command::Publish {
            of,
            token: Token(token),
            answer: Answer::Refused(Refusal::Loan),
        };
        assert_eq!(deliver(&mut lender, 1, OF, 1), [refused(OF, 1)]);
        let number = LoanNumber {
            boot: Boot(3),
            nth: 1,
        };
        // A job takes four seconds: two are within a window, the second on debt.
        let loan = Loan {
            number,
            rate: 100,
            left: Nanos::from_secs(60),
        };
        let borrower = BoxId(1);
        handle(&mut lender, Event::Granted { borrower, loan });
        let tell = Command::Tell { borrower, loan };
        let advertise = Command::Advertise { room: 0 };
        assert!(handle(&mut lender, Event::Beat).ends_with(&[tell, advertise]));
        // Who is emptied is not to be asked.
        handle(&mut lender, Event::Drain(true));
        let beat = handle(&mut lender, Event::Beat);
        let is_told = beat.iter().any(|it| matches!(it, Command::Tell { .. }));
        assert!(!is_told, "{beat:?}");
        handle(&mut lender, Event::Drain(false));
        let of = |job| Foreign {
            submitter: borrower,
            job: JobId(job),
        };
        let start = |of| Command::Start { of };
        assert_eq!(deliver(&mut lender, 2, of(20), 2), [start(of(20))]);
        assert_eq!(deliver(&mut lender, 3, of(21), 3), [start(of(21))]);
        assert_eq!(deliver(&mut lender, 4, of(22), 4), [refused(of(22), 4)]);
        // What is held is not counted again.
        assert_eq!(deliver(&mut lender, 5, of(20), 2), []);

        assert_eq!(lender.reclaim(borrower), Ok(number));
        let nothing = Loan {
            number,
            rate: 0,
            left: Nanos::ZERO,
        };
        let told = Command::Tell {
            borrower,
            loan: nothing,
        };
        let abort = |of| Command::Abort { of };
        let commands: Vec<_> = lender.commands().collect();
        let expected = [
            abort(of(20)),
            refused(of(20), 2),
            abort(of(21)),
            refused(of(21), 3),
            told,
        ];
        assert_eq!(commands, expected);
        assert_eq!(deliver(&mut lender, 6, of(23), 5), [refused(of(23), 5)]);
        let nobody = lender.reclaim(borrower);
        assert_eq!(nobody, Err(LoanError::Nobody { borrower }));
    }
}
