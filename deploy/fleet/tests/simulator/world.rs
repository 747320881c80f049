//! Boxes, a network, and time; and what must hold at each step.
//!
//! A box has a journal, which outlives its process; a `calderad` that proves what it is told to; and the two sides that are tested. Its
//! commands take effect one by one, each some milliseconds later, and its process may die between any two. Of what went wrong the
//! two sides hear what a program would: nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;

use caldera_fleet::lender::{self, Foreign};
use caldera_fleet::loan::{Granted, Loan, LoanNumber, WINDOW};
use caldera_fleet::submitter::{self, Journalled, Placement, Report};
use caldera_fleet::{
    Advertisement, Answer, Boot, BoxId, Demand, Lender, Refusal, Submitter, Terms, Token,
};
use caldera_scheduler::sim::random::Random;
use caldera_scheduler::{JobId, Nanos};

use crate::broker::{AnswerMessage, Broker, Content, JobMessage, MessageId};
use crate::scene::{BoxScene, Fault, Manners, Scene, Weather};

/// A property does not hold.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) at: Nanos,
    pub(crate) what: String,
}

/// What a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Jobs that were submitted.
    pub(crate) submitted: u64,
    /// Of those, proved by another box.
    pub(crate) lent: u64,
    /// Proved by their own.
    pub(crate) at_home: u64,
    /// Proofs that boxes began for others.
    pub(crate) executions: u64,
    /// Placements that were given up because their lease ended.
    pub(crate) expired: u64,
    /// Placements that were given up because their box was dead, and back.
    pub(crate) buried: u64,
    /// What was no proof, found out.
    pub(crate) wrong: u64,
    /// Answers of whom nobody had asked, found out.
    pub(crate) forged: u64,
    /// Jobs that were taken on loans alone.
    pub(crate) on_loan: u64,
    /// Proofs that were broken off because their loan was reclaimed.
    pub(crate) reclaimed: u64,
    /// Jobs that were refused for want of a loan.
    pub(crate) beyond: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Outcome) {
        self.submitted += other.submitted;
        self.lent += other.lent;
        self.at_home += other.at_home;
        self.executions += other.executions;
        self.expired += other.expired;
        self.buried += other.buried;
        self.wrong += other.wrong;
        self.forged += other.forged;
        self.on_loan += other.on_loan;
        self.reclaimed += other.reclaimed;
        self.beyond += other.beyond;
    }
}

struct Machine {
    scene: BoxScene,
    /// The process, while it runs.
    process: Option<Process>,
    boot: u64,
    journal: BTreeMap<JobId, Row>,
    next_token: u64,
    /// What its `calderad` does for others.
    runs: BTreeMap<Foreign, Nanos>,
    cut: Nanos,
    frozen: Nanos,
    /// For how long it was frozen in all. What it hears then is as old when it hears it.
    late: Nanos,
    /// By how much its clock is behind that of the world.
    behind: Nanos,
    /// What it has granted, as a broker keeps it.
    kept: BTreeMap<BoxId, Kept>,
    /// Counts its grants.
    grants: u32,
    /// It dies after so many commands, for so long, with its `calderad` or without.
    doomed: Option<(u64, Nanos, bool)>,
}

/// A loan, and what was taken on it.
#[derive(Debug, Clone, Copy)]
struct Kept {
    number: LoanNumber,
    rate: u32,
    /// When it is over by the broker's clock, which is that of the world.
    end: Nanos,
    begun: Nanos,
    /// Work, in core-nanoseconds, and how often the count of it began anew.
    used: u64,
    counts: u64,
}

struct Process {
    submitter: Submitter,
    lender: Lender,
    sequence: u64,
}

struct Row {
    demand: Demand,
    placement: Option<Placement>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the hands of the fleet.
    Out,
    /// Its own box proves it.
    Home,
    Done,
    Cancelled,
}

/// What the world knows of the placement of a job that is in force.
struct Known {
    placement: Placement,
    /// When its lease was begun, and when it was renewed last.
    begun: Nanos,
    renewed: Nanos,
    /// Its lender has answered, or it is given up.
    over: bool,
}

#[derive(Debug, Clone)]
enum Happening {
    Fault(Fault),
    Start(BoxId),
    /// A process hears what the broker keeps of its loans.
    ReadLoans(BoxId, u64),
    Submit(usize),
    Cancel(BoxId, JobId),
    /// The own box has proved a job.
    Proved(BoxId, JobId),
    /// The own box hands a job out again.
    HandOut(BoxId, JobId),
    Tick(BoxId, u64),
    Beat(BoxId, u64),
    Forge(BoxId),
    /// In the process that runs under this boot, if it still does.
    Submitter(BoxId, u64, submitter::Event),
    Lender(BoxId, u64, lender::Event),
    Record(BoxId, u64, Placement),
    Commit(BoxId, u64, JobId),
    /// At the broker.
    PublishJob(BoxId, u64, JobMessage),
    PublishAnswer(BoxId, u64, AnswerMessage),
    Offer(MessageId, bool),
    Acknowledge(caldera_fleet::Delivery),
    Progress(caldera_fleet::Delivery),
    Delete(BoxId, JobId, Token),
    /// From box to box, without a promise.
    Hint(BoxId, Hint),
}

#[derive(Debug, Clone)]
enum Hint {
    Advertised(BoxId, Advertisement),
    Held(BoxId, Boot, Vec<(JobId, Token)>),
    Withdrawn(Foreign, Token),
    Lent(BoxId, Loan),
}

pub(crate) struct World {
    scene: Scene,
    terms: Terms,
    random: Random,
    now: Nanos,
    order: u64,
    queue: BinaryHeap<Reverse<(Nanos, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    machines: BTreeMap<BoxId, Machine>,
    broker: Broker,
    known: BTreeMap<(BoxId, JobId), Known>,
    /// What was brought for a placement and is a proof.
    proofs: BTreeSet<(BoxId, JobId, Token)>,
    to_submit: usize,
    faults_left: usize,
    outcome: Outcome,
    told: bool,
}

impl World {
    pub(crate) fn new(weather: Weather, seed: u64, told: bool) -> World {
        let mut random = Random::new(seed);
        let scene = Scene::new(weather, &mut random.fork());
        let machines = scene.boxes.iter().map(|scene| {
            let machine = Machine {
                scene: scene.clone(),
                process: None,
                boot: 0,
                journal: BTreeMap::new(),
                next_token: 1,
                runs: BTreeMap::new(),
                cut: Nanos::ZERO,
                frozen: Nanos::ZERO,
                late: Nanos::ZERO,
                behind: Nanos::ZERO,
                kept: BTreeMap::new(),
                grants: 0,
                doomed: None,
            };
            (scene.id, machine)
        });
        let machines = machines.collect();
        World {
            terms: Terms::standard(),
            random,
            now: Nanos::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            machines,
            broker: Broker::default(),
            known: BTreeMap::new(),
            proofs: BTreeSet::new(),
            to_submit: scene.submissions.len(),
            faults_left: scene.faults.len(),
            outcome: Outcome::default(),
            told,
            scene,
        }
    }

    /// Runs until all is settled, and says what came of it.
    pub(crate) fn run(mut self) -> Result<Outcome, Violation> {
        let boxes: Vec<BoxId> = self.machines.keys().copied().collect();
        for id in boxes {
            self.later(0, 2_000, Happening::Start(id));
            if self.machines[&id].scene.manners == Manners::Forger {
                self.later(1_000, 10_000, Happening::Forge(id));
            }
        }
        for (at, fault) in self.scene.faults.clone() {
            self.at(at, Happening::Fault(fault));
        }
        for n in 0..self.scene.submissions.len() {
            let it = self.scene.submissions[n];
            self.at(it.at, Happening::Submit(n));
            if let Some(at) = it.cancelled {
                self.at(at, Happening::Cancel(it.to, it.job));
            }
        }
        while let Some(Reverse((at, order))) = self.queue.pop() {
            self.now = at;
            let happening = self.happenings.remove(&order);
            let happening = happening.expect("what is in the queue is in the table");
            self.tell(&happening);
            self.happen(happening)?;
            if self.is_settled() {
                return self.settled();
            }
            if self.now > self.scene.calm.plus(SETTLED_WITHIN) {
                return self.broken(format!("not settled: {}", self.unsettled()));
            }
        }
        self.broken("nothing happens any more".into())
    }

    fn settled(&self) -> Result<Outcome, Violation> {
        let outcome = self.outcome;
        let fair = matches!(self.scene.weather, Weather::Calm | Weather::Elections);
        if fair && outcome.executions != outcome.lent {
            return self.broken(format!("a proof was begun in vain: {outcome:?}"));
        }
        Ok(outcome)
    }

    fn is_settled(&self) -> bool {
        self.to_submit == 0
            && self.faults_left == 0
            && self.broker.is_empty()
            && self.machines.values().all(|machine| {
                let settled = machine
                    .journal
                    .values()
                    .all(|row| matches!(row.state, State::Done | State::Cancelled));
                let process = machine.process.as_ref();
                settled
                    && process.is_some_and(|it| it.submitter.unsettled() + it.lender.held() == 0)
            })
    }

    fn unsettled(&self) -> String {
        let mut text = String::new();
        for (id, machine) in &self.machines {
            for (job, row) in &machine.journal {
                if !matches!(row.state, State::Done | State::Cancelled) {
                    text.push_str(&format!("{id} {job} {:?} {:?}; ", row.state, row.placement));
                }
            }
            if let Some(process) = &machine.process {
                let (unsettled, held) = (process.submitter.unsettled(), process.lender.held());
                text.push_str(&format!("{id}: {unsettled} unsettled, {held} held; "));
            }
        }
        text
    }

    fn broken<T>(&self, what: String) -> Result<T, Violation> {
        Err(Violation { at: self.now, what })
    }

    fn happen(&mut self, happening: Happening) -> Result<(), Violation> {
        match happening {
            Happening::Fault(fault) => return self.fault(fault),
            Happening::Start(id) => self.start(id),
            Happening::ReadLoans(id, boot) => return self.read_loans(id, boot),
            Happening::Submit(n) => self.submit(n),
            Happening::Cancel(id, job) => self.cancel(id, job),
            Happening::Proved(id, job) => return self.proved_at_home(id, job),
            Happening::HandOut(id, job) => self.hand_out(id, job),
            Happening::Tick(id, boot) => {
                let frozen = self.machines[&id].frozen;
                if self.is_running(id, boot) && frozen > self.now {
                    self.at(frozen, Happening::Tick(id, boot));
                } else if self.is_running(id, boot) {
                    self.submitter(id, boot, submitter::Event::Tick)?;
                    if let Some(process) = &self.machines[&id].process {
                        let due = process
                            .submitter
                            .due(self.clock(id))
                            .plus(self.machines[&id].behind)
                            .max(self.now.plus(Nanos::from_micros(100)));
                        self.at(due, Happening::Tick(id, boot));
                    }
                }
            }
            Happening::Beat(id, boot) => {
                let frozen = self.machines[&id].frozen;
                if self.is_running(id, boot) && frozen > self.now {
                    self.at(frozen, Happening::Beat(id, boot));
                } else if self.is_running(id, boot) {
                    self.at(self.now.plus(self.terms.beat()), Happening::Beat(id, boot));
                    self.lender(id, boot, lender::Event::Beat)?;
                }
            }
            Happening::Forge(id) => self.forge(id),
            Happening::Submitter(id, boot, event) => self.submitter(id, boot, event)?,
            Happening::Lender(id, boot, event) => self.lender(id, boot, event)?,
            Happening::Record(id, boot, placement) => self.record(id, boot, placement),
            Happening::Commit(id, boot, job) => return self.commit(id, boot, job),
            Happening::PublishJob(id, boot, message) => {
                let (job, token) = (message.placement.job, message.placement.token);
                let stored = self.publish(id, Content::Job(message));
                let event = submitter::Event::Published { job, token, stored };
                self.answer_publish(stored, Happening::Submitter(id, boot, event));
            }
            Happening::PublishAnswer(id, boot, message) => {
                let (submitter, job, token) = (message.submitter, message.job, message.token);
                let of = Foreign { submitter, job };
                let stored = self.publish(id, Content::Answer(message));
                let event = lender::Event::Published { of, token, stored };
                self.answer_publish(stored, Happening::Lender(id, boot, event));
            }
            Happening::Offer(message, again) => self.offer(message, again),
            Happening::Acknowledge(delivery) => {
                if self.broker.has_leader(self.now) {
                    self.broker.acknowledge(delivery);
                }
            }
            Happening::Progress(delivery) => self.broker.progress(delivery, self.now),
            Happening::Delete(submitter, job, token) => {
                if self.broker.has_leader(self.now) {
                    self.broker.withdraw(submitter, job, token);
                }
            }
            Happening::Hint(to, hint) => return self.hint(to, hint),
        }
        Ok(())
    }

    fn is_running(&self, id: BoxId, boot: u64) -> bool {
        let machine = &self.machines[&id];
        machine.process.is_some() && machine.boot == boot
    }

    // What goes wrong.

    fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        self.faults_left -= 1;
        let now = self.now;
        match fault {
            Fault::Kill {
                who,
                commands,
                down,
                both,
            } => self.machine(who).doomed = Some((commands, down, both)),
            Fault::Freeze { who, span } => {
                let machine = self.machine(who);
                let before = machine.frozen.max(now);
                machine.frozen = before.max(now.plus(span));
                machine.late = machine.late.plus(machine.frozen.since(before));
            }
            Fault::Cut { who, span } => {
                let machine = self.machine(who);
                machine.cut = machine.cut.max(now.plus(span));
            }
            Fault::Election { span } => self.broker.elect(now.plus(span)),
            Fault::Lose { jobs, answers } => self.broker.lose(jobs, answers),
            Fault::Replay { who } => {
                for message in self.broker.replay(who) {
                    self.later(1, 1_000, Happening::Offer(message, true));
                }
            }
            Fault::Drain { who, span } => {
                let boot = self.machines[&who].boot;
                let drain = |on| Happening::Lender(who, boot, lender::Event::Drain(on));
                self.at(now, drain(true));
                self.at(now.plus(span), drain(false));
            }
            Fault::Stop { who, span } => {
                let machine = self.machine(who);
                let from = machine.frozen.max(now);
                machine.frozen = from.plus(span);
                machine.behind = machine.behind.plus(span);
            }
            Fault::Grant {
                lender,
                borrower,
                rate,
                term,
            } => self.grant(lender, borrower, rate, term),
            Fault::Reclaim { lender, borrower } => return self.reclaim(lender, borrower),
        }
        Ok(())
    }

    /// What an operator orders, if the process is there to hear it.
    fn grant(&mut self, lender: BoxId, borrower: BoxId, rate: u32, term: Nanos) {
        let (now, clock) = (self.now, self.clock(lender));
        let machine = self.machine(lender);
        let boot = machine.boot;
        let Some(process) = machine.process.as_ref().filter(|_| machine.frozen <= now) else {
            return;
        };
        // Terms are shorter here than anywhere else.
        let asked = term.max(WINDOW);
        let granted = process.lender.granted();
        if granted.check(borrower, rate, asked, clock).is_err() {
            return;
        }
        machine.grants += 1;
        let number = LoanNumber {
            boot: Boot(boot),
            nth: machine.grants,
        };
        let before = machine.kept.get(&borrower).copied();
        let kept = Kept {
            number,
            rate: before.map_or(rate, |it| it.rate.max(rate)),
            end: now.plus(term),
            begun: before.map_or(now, |it| it.begun),
            used: before.map_or(0, |it| it.used),
            counts: before.map_or(1, |it| it.counts + 1),
        };
        machine.kept.insert(borrower, kept);
        let left = term;
        let loan = Loan { number, rate, left };
        let event = lender::Event::Granted { borrower, loan };
        self.at(now, Happening::Lender(lender, boot, event));
    }

    fn reclaim(&mut self, lender: BoxId, borrower: BoxId) -> Result<(), Violation> {
        let now = self.now;
        let machine = self.machine(lender);
        let boot = machine.boot;
        let Some(process) = machine.process.as_mut().filter(|_| machine.frozen <= now) else {
            return Ok(());
        };
        // Rather what is being used.
        let used = machine.runs.iter().find(|(_, end)| **end > now);
        let borrower = used.map_or(borrower, |(of, _)| of.submitter);
        if process.lender.reclaim(borrower).is_err() {
            return Ok(());
        }
        if let Some(kept) = machine.kept.get_mut(&borrower) {
            kept.end = now;
        }
        let commands: Vec<_> = process.lender.commands().collect();
        for command in commands {
            if let lender::Command::Abort { .. } = command {
                self.outcome.reclaimed += 1;
            }
            if self.dies(lender) {
                return Ok(());
            }
            self.carry_out_lenders(lender, boot, command)?;
        }
        let runs = &self.machines[&lender].runs;
        let left = runs
            .iter()
            .any(|(of, end)| of.submitter == borrower && *end > now);
        match left {
            true => self.broken(format!(
                "{lender} proves for {borrower}, whose loan is reclaimed"
            )),
            false => Ok(()),
        }
    }

    fn read_loans(&mut self, id: BoxId, boot: u64) -> Result<(), Violation> {
        let now = self.now;
        if !self.is_running(id, boot) {
            return Ok(());
        }
        let machine = self.machine(id);
        if machine.frozen > now {
            let then = machine.frozen;
            self.at(then, Happening::ReadLoans(id, boot));
            return Ok(());
        }
        let mut loans = Vec::new();
        for (borrower, kept) in &mut machine.kept {
            if now < kept.end {
                kept.counts += 1;
                let left = kept.end.since(now);
                let (number, rate) = (kept.number, kept.rate);
                loans.push((*borrower, Loan { number, rate, left }));
            }
        }
        for (borrower, loan) in loans {
            self.lender(id, boot, lender::Event::Granted { borrower, loan })?;
        }
        Ok(())
    }

    fn start(&mut self, id: BoxId) {
        let (terms, now, clock) = (self.terms, self.now, self.clock(id));
        let machine = self.machine(id);
        machine.boot += 1;
        let behind = machine.behind;
        let out = machine.journal.iter();
        let out = out.filter(|(_, row)| row.state == State::Out);
        let journal: Vec<_> = out
            .map(|(job, row)| Journalled {
                job: *job,
                demand: by_clock(row.demand, behind),
                placement: row.placement,
            })
            .collect();
        let next = Token(machine.next_token);
        let rows = journal.iter().copied();
        let process = Process {
            submitter: Submitter::restore(id, terms, next, rows, clock),
            lender: Lender::new(
                Boot(machine.boot),
                terms,
                machine.scene.offered,
                Granted::new(id, 1_000 * machine.scene.cores, machine.scene.only_loans),
            ),
            sequence: 0,
        };
        machine.process = Some(process);
        let boot = machine.boot;
        if !machine.kept.is_empty() {
            self.later(1, 3_000, Happening::ReadLoans(id, boot));
        }
        for row in journal {
            if let Some(known) = self.known.get_mut(&(id, row.job)) {
                // The process counts from now.
                (known.begun, known.renewed) = (now, now);
                known.over = false;
            }
        }
        self.at(now, Happening::Tick(id, boot));
        self.at(now, Happening::Beat(id, boot));
    }

    fn kill(&mut self, id: BoxId, down: Nanos, both: bool) {
        let now = self.now;
        let machine = self.machine(id);
        machine.process = None;
        machine.doomed = None;
        if both {
            machine.runs.clear();
        }
        self.at(now.plus(down), Happening::Start(id));
    }

    /// Answers to somebody else's placement, under the name of the one who sends it.
    fn forge(&mut self, id: BoxId) {
        let boot = Boot(self.machines[&id].boot);
        let known: Vec<_> = self.known.iter().collect();
        let count = known.len() as u64;
        let at = self.random.between(0, count.max(1)) as usize;
        if let Some(((submitter, job), known)) = known.get(at) {
            let ahead = if self.random.chance(0.2) { 1_000 } else { 0 };
            let message = AnswerMessage {
                submitter: *submitter,
                from: id,
                boot,
                job: *job,
                token: Token(known.placement.token.0 + ahead),
                answer: Answer::Proof(vec![0].into()),
            };
            let message = self.broker.publish(Content::Answer(message));
            if let Some(message) = message {
                self.later(1, 50, Happening::Offer(message, true));
            }
        }
        if self.now < self.scene.calm {
            self.later(1_000, 10_000, Happening::Forge(id));
        }
    }

    // A box and its `calderad`.

    fn submit(&mut self, n: usize) {
        self.to_submit -= 1;
        self.outcome.submitted += 1;
        let it = self.scene.submissions[n];
        let machine = self.machine(it.to);
        let row = Row {
            demand: it.demand,
            placement: None,
            state: State::Out,
        };
        machine.journal.insert(it.job, row);
        self.taken(it.to, it.job);
    }

    fn taken(&mut self, id: BoxId, job: JobId) {
        let (boot, demand) = (
            self.machines[&id].boot,
            self.machines[&id].journal[&job].demand,
        );
        let demand = by_clock(demand, self.machines[&id].behind);
        let event = submitter::Event::Taken { job, demand };
        if self.machines[&id].process.is_some() {
            self.later(0, 5, Happening::Submitter(id, boot, event));
        }
    }

    fn cancel(&mut self, id: BoxId, job: JobId) {
        let machine = self.machine(id);
        let boot = machine.boot;
        if let Some(row) = machine.journal.get_mut(&job)
            && matches!(row.state, State::Out | State::Home)
        {
            row.state = State::Cancelled;
            self.known.remove(&(id, job));
            let event = submitter::Event::Cancelled { job };
            self.later(0, 5, Happening::Submitter(id, boot, event));
        }
    }

    fn come_home(&mut self, id: BoxId, job: JobId) -> Result<(), Violation> {
        self.given_up(id, job)?;
        self.known.remove(&(id, job));
        let again = self.random.chance(0.3) && self.now < self.scene.calm;
        let row = self.machine(id).journal.get_mut(&job).expect("it is known");
        if row.state != State::Out {
            return Ok(());
        }
        row.state = State::Home;
        row.placement = None;
        let work = row.demand.work.as_millis();
        if again {
            self.later(0, 10_000, Happening::HandOut(id, job));
        } else {
            self.later(work, work + 1, Happening::Proved(id, job));
        }
        Ok(())
    }

    fn hand_out(&mut self, id: BoxId, job: JobId) {
        let row = self.machine(id).journal.get_mut(&job).expect("it is known");
        if row.state == State::Home {
            row.state = State::Out;
            self.taken(id, job);
        }
    }

    fn proved_at_home(&mut self, id: BoxId, job: JobId) -> Result<(), Violation> {
        let row = self.machine(id).journal.get_mut(&job).expect("it is known");
        match row.state {
            State::Home => {
                row.state = State::Done;
                self.outcome.at_home += 1;
                Ok(())
            }
            State::Cancelled => Ok(()),
            state => self.broken(format!("{job} of {id} was proved at home and is {state:?}")),
        }
    }

    fn record(&mut self, id: BoxId, boot: u64, placement: Placement) {
        if !self.is_running(id, boot) {
            return;
        }
        let machine = self.machine(id);
        machine.next_token = machine.next_token.max(placement.token.0 + 1);
        let row = machine.journal.get_mut(&placement.job);
        let row = row.expect("only what was taken is placed");
        // They may be written in any order.
        let newest = row.placement.is_none_or(|it| it.token < placement.token);
        if newest {
            row.placement = Some(placement);
        }
        if newest && row.state == State::Out {
            let known = Known {
                placement,
                begun: self.now,
                renewed: self.now,
                over: false,
            };
            self.known.insert((id, placement.job), known);
        }
        let (job, token) = (placement.job, placement.token);
        let event = submitter::Event::Recorded { job, token };
        self.later(0, 3, Happening::Submitter(id, boot, event));
    }

    fn commit(&mut self, id: BoxId, boot: u64, job: JobId) -> Result<(), Violation> {
        if !self.is_running(id, boot) {
            return Ok(());
        }
        let row = self.machine(id).journal.get_mut(&job);
        let row = row.expect("only what was taken is committed");
        match row.state {
            State::Out => {
                row.state = State::Done;
                self.known.remove(&(id, job));
                self.outcome.lent += 1;
            }
            State::Cancelled => {}
            state => return self.broken(format!("{job} of {id} is committed and was {state:?}")),
        }
        let event = submitter::Event::Committed { job };
        self.later(0, 3, Happening::Submitter(id, boot, event));
        Ok(())
    }

    /// Whether the placement in force may be given up now.
    fn given_up(&mut self, id: BoxId, job: JobId) -> Result<(), Violation> {
        let work = self.machines[&id].journal[&job].demand.work;
        let Some(known) = self.known.get_mut(&(id, job)).filter(|it| !it.over) else {
            return Ok(());
        };
        known.over = true;
        let at = known.placement;
        if self.machines[&at.lender].boot > at.boot.0 {
            self.outcome.buried += 1;
            return Ok(());
        }
        let heard = self.now.since(known.renewed);
        let held = self.now.since(known.begun);
        if heard < self.terms.lease() && held < self.terms.bound(work) {
            let lender = at.lender;
            return self.broken(format!(
                "{job} of {id} was taken from {lender}, which was heard {heard} ago"
            ));
        }
        if matches!(self.scene.weather, Weather::Calm | Weather::Elections) {
            return self.broken(format!("{job} of {id} was given up though nobody is dead"));
        }
        self.outcome.expired += 1;
        Ok(())
    }

    // The two sides, and what they want done.

    fn submitter(
        &mut self,
        id: BoxId,
        boot: u64,
        event: submitter::Event,
    ) -> Result<(), Violation> {
        if !self.is_running(id, boot) {
            return Ok(());
        }
        if self.machines[&id].frozen > self.now {
            self.at(
                self.machines[&id].frozen,
                Happening::Submitter(id, boot, event),
            );
            return Ok(());
        }
        self.note(id, &event);
        let now = self.clock(id);
        let process = self.machine(id).process.as_mut().expect("it runs");
        process.submitter.handle(event, now);
        let commands: Vec<_> = process.submitter.commands().collect();
        for command in commands {
            if self.dies(id) {
                return Ok(());
            }
            self.carry_out(id, boot, command)?;
        }
        Ok(())
    }

    /// Keeps what the submitter has heard.
    fn note(&mut self, id: BoxId, event: &submitter::Event) {
        let now = self.now;
        let mut renew = |job: JobId, token: Token| {
            if let Some(known) = self.known.get_mut(&(id, job))
                && known.placement.token == token
            {
                known.renewed = now;
            }
        };
        match event {
            submitter::Event::Recorded { job, token } => renew(*job, *token),
            submitter::Event::Published {
                job,
                token,
                stored: true,
            } => renew(*job, *token),
            submitter::Event::Held { jobs, .. } => {
                jobs.iter().for_each(|(job, token)| renew(*job, *token));
            }
            submitter::Event::Answered {
                from, job, token, ..
            } => {
                if let Some(known) = self.known.get_mut(&(id, *job)) {
                    let at = known.placement;
                    known.over |= (at.lender, at.token) == (*from, *token);
                }
            }
            _ => {}
        }
    }

    fn carry_out(
        &mut self,
        id: BoxId,
        boot: u64,
        command: submitter::Command,
    ) -> Result<(), Violation> {
        match command {
            submitter::Command::Record(placement) => {
                self.given_up(id, placement.job)?;
                self.placed_on_loan(id, placement.lender)?;
                self.later(1, 20, Happening::Record(id, boot, placement));
            }
            submitter::Command::Publish(placement) => {
                let row = &self.machines[&id].journal[&placement.job];
                if row.placement.is_none_or(|it| it.token < placement.token) {
                    return self
                        .broken(format!("{placement:?} is published before it is recorded"));
                }
                let demand = row.demand;
                let message = JobMessage {
                    submitter: id,
                    placement,
                    demand,
                };
                self.send(id, Happening::PublishJob(id, boot, message));
            }
            submitter::Command::Withdraw(Placement {
                job, token, lender, ..
            }) => {
                if self
                    .known
                    .get(&(id, job))
                    .is_some_and(|it| it.placement.token == token)
                {
                    self.given_up(id, job)?;
                }
                let of = Foreign { submitter: id, job };
                self.tell_box(id, lender, Hint::Withdrawn(of, token));
                self.send(id, Happening::Delete(id, job, token));
            }
            submitter::Command::Judge { job, token, proof } => {
                let right = *proof == right_proof(id, job);
                if right {
                    self.proofs.insert((id, job, token));
                }
                let event = submitter::Event::Judged { job, token, right };
                self.later(1, 30, Happening::Submitter(id, boot, event));
            }
            submitter::Command::Commit { job, token } => {
                if !self.proofs.contains(&(id, job, token)) {
                    return self.broken(format!("{job} of {id} is committed without a proof"));
                }
                self.later(1, 20, Happening::Commit(id, boot, job));
            }
            submitter::Command::Acknowledge(delivery) => {
                self.send(id, Happening::Acknowledge(delivery));
            }
            submitter::Command::Return(job) => return self.come_home(id, job),
            submitter::Command::Report(report) => return self.report(id, report),
        }
        Ok(())
    }

    fn report(&mut self, id: BoxId, report: Report) -> Result<(), Violation> {
        let (who, allowed) = match report {
            Report::WrongProof { lender, .. } => {
                self.outcome.wrong += 1;
                (lender, [Manners::Wrong, Manners::Forger])
            }
            Report::Forged { from, .. } => {
                self.outcome.forged += 1;
                (from, [Manners::Forger, Manners::Forger])
            }
        };
        if !allowed.contains(&self.machines[&who].scene.manners) {
            return self.broken(format!("{id} reports {report:?}, who is honest"));
        }
        Ok(())
    }

    fn lender(&mut self, id: BoxId, boot: u64, event: lender::Event) -> Result<(), Violation> {
        if !self.is_running(id, boot) {
            return Ok(());
        }
        if self.machines[&id].frozen > self.now {
            self.at(
                self.machines[&id].frozen,
                Happening::Lender(id, boot, event),
            );
            return Ok(());
        }
        // Nothing comes of a run that was broken off, though the same job was begun again.
        if let lender::Event::Computed { of, .. } = &event
            && self.machines[&id]
                .runs
                .get(of)
                .is_none_or(|end| *end > self.now)
        {
            return Ok(());
        }
        let now = self.clock(id);
        let process = self.machine(id).process.as_mut().expect("it runs");
        process.lender.handle(event, now);
        let commands: Vec<_> = process.lender.commands().collect();
        for command in commands {
            if self.dies(id) {
                return Ok(());
            }
            self.carry_out_lenders(id, boot, command)?;
        }
        Ok(())
    }

    fn carry_out_lenders(
        &mut self,
        id: BoxId,
        boot: u64,
        command: lender::Command,
    ) -> Result<(), Violation> {
        match command {
            lender::Command::Start { of } => {
                self.taken_on_loan(id, of)?;
                self.begin(id, boot, of);
            }
            lender::Command::Abort { of } => {
                let now = self.now;
                self.machine(id)
                    .runs
                    .retain(|run, end| *run != of || *end <= now);
            }
            lender::Command::Publish { of, token, answer } => {
                if answer == Answer::Refused(Refusal::Loan) {
                    self.outcome.beyond += 1;
                }
                let message = AnswerMessage {
                    submitter: of.submitter,
                    from: id,
                    boot: Boot(boot),
                    job: of.job,
                    token,
                    answer,
                };
                self.send(id, Happening::PublishAnswer(id, boot, message));
            }
            lender::Command::Acknowledge(delivery) => {
                self.send(id, Happening::Acknowledge(delivery));
            }
            lender::Command::Progress(delivery) => {
                self.send(id, Happening::Progress(delivery));
            }
            lender::Command::Advertise { room } => self.advertise(id, boot, room),
            lender::Command::Hold { submitter, jobs } => {
                self.tell_box(id, submitter, Hint::Held(id, Boot(boot), jobs));
            }
            lender::Command::Tell { borrower, loan } => {
                self.tell_box(id, borrower, Hint::Lent(id, loan));
            }
        }
        Ok(())
    }

    /// A box that takes jobs on loans alone begins one: within the term, and not beyond what was granted.
    fn taken_on_loan(&mut self, id: BoxId, of: Foreign) -> Result<(), Violation> {
        let work = self.machines[&of.submitter].journal[&of.job].demand.work;
        let (now, largest) = (self.now, 10 * Nanos::from_secs(1).0);
        let machine = self.machine(id);
        if !machine.scene.only_loans {
            return Ok(());
        }
        let behind = machine.behind;
        let Some(kept) = machine.kept.get_mut(&of.submitter) else {
            return self.broken(format!("{id} begins {of:?} without a loan"));
        };
        kept.used += work.0;
        let windows = WINDOW.0 * kept.counts + now.since(kept.begun).0;
        let brought = u128::from(windows) * u128::from(kept.rate) / 1_000;
        let most = brought + u128::from(largest * kept.counts);
        // By its own clock, which may have stood still.
        let over = now >= kept.end.plus(behind);
        let beyond = u128::from(kept.used) > most;
        self.outcome.on_loan += 1;
        match (over, beyond) {
            (true, _) => self.broken(format!("{id} begins {of:?} after the term of its loan")),
            (_, true) => self.broken(format!("{id} begins {of:?} beyond its loan")),
            _ => Ok(()),
        }
    }

    /// Jobs are placed on a loan while it is in force, as far as clocks go.
    fn placed_on_loan(&self, id: BoxId, lender: BoxId) -> Result<(), Violation> {
        let machine = &self.machines[&lender];
        if !machine.scene.only_loans {
            return Ok(());
        }
        let borrower = &self.machines[&id];
        let clocks = machine.behind.plus(borrower.behind).plus(borrower.late);
        // What is reclaimed is heard of a while later.
        let heard = self.terms.gap().plus(Nanos::from_secs(1));
        match machine.kept.get(&id) {
            Some(kept) if self.now < kept.end.plus(clocks).plus(heard) => Ok(()),
            kept => self.broken(format!("{id} places a job with {lender} on {kept:?}")),
        }
    }

    fn begin(&mut self, id: BoxId, boot: u64, of: Foreign) {
        let demand = self.machines[&of.submitter].journal[&of.job].demand;
        let scene = self.machines[&id].scene.clone();
        let now = self.now;
        let rate = u64::from(scene.cores) * u64::from(scene.speed);
        let span = Nanos(demand.work.0 / rate * 1_000);
        let fails = self.scene.weather == Weather::Strangers && self.random.chance(0.05);
        let answer = match scene.manners {
            Manners::Hangs => return,
            Manners::Refuses => Answer::Refused(Refusal::Full),
            Manners::Wrong | Manners::Forger => Answer::Proof(vec![0].into()),
            Manners::Honest if fails => Answer::Failed,
            Manners::Honest => Answer::Proof(right_proof(of.submitter, of.job).into()),
        };
        let end = match self.machines[&id].runs.get(&of) {
            // Its `calderad` knows the job by its name, and has it, or has had it.
            Some(end) => now.max(*end),
            None => {
                self.outcome.executions += 1;
                self.machine(id).runs.insert(of, now.plus(span));
                now.plus(span)
            }
        };
        let event = lender::Event::Computed { of, answer };
        self.at(end, Happening::Lender(id, boot, event));
    }

    fn advertise(&mut self, id: BoxId, boot: u64, room: u32) {
        let now = self.now;
        let machine = self.machine(id);
        let Some(process) = &mut machine.process else {
            return;
        };
        process.sequence += 1;
        let busy = machine.runs.values().map(|end| end.since(now)).max();
        let says = Advertisement {
            boot: Boot(boot),
            sequence: process.sequence,
            room,
            backlog: busy.unwrap_or(Nanos::ZERO),
            cores: machine.scene.cores,
            speed: machine.scene.speed,
            price: machine.scene.price,
            keys: machine.scene.keys.clone(),
        };
        for to in self.machines.keys().copied().collect::<Vec<_>>() {
            self.tell_box(id, to, Hint::Advertised(id, says.clone()));
        }
    }

    /// Whether a process that is to die dies before its next command.
    fn dies(&mut self, id: BoxId) -> bool {
        match self.machine(id).doomed {
            Some((0, down, both)) => {
                self.kill(id, down, both);
                true
            }
            Some((commands, down, both)) => {
                self.machine(id).doomed = Some((commands - 1, down, both));
                false
            }
            None => false,
        }
    }

    // The network.

    fn is_cut(&self, id: BoxId) -> bool {
        self.machines[&id].cut > self.now
    }

    fn is_stormy(&self) -> bool {
        self.now < self.scene.calm
    }

    fn is_slow(&mut self) -> bool {
        self.is_stormy() && self.scene.weather != Weather::Calm && self.random.chance(0.02)
    }

    /// Sends to the broker.
    fn send(&mut self, from: BoxId, what: Happening) {
        let slow = self.is_slow();
        let lost = self.is_cut(from) || (self.is_stormy() && self.random.chance(self.scene.loss));
        match (what, lost) {
            (what, false) => self.later(1, if slow { 3_000 } else { 20 }, what),
            // Whoever publishes gives up waiting.
            (Happening::PublishJob(id, boot, it), true) => {
                let event = submitter::Event::Published {
                    job: it.placement.job,
                    token: it.placement.token,
                    stored: false,
                };
                self.answer_publish(false, Happening::Submitter(id, boot, event));
            }
            (Happening::PublishAnswer(id, boot, it), true) => {
                let of = Foreign {
                    submitter: it.submitter,
                    job: it.job,
                };
                let event = lender::Event::Published {
                    of,
                    token: it.token,
                    stored: false,
                };
                self.answer_publish(false, Happening::Lender(id, boot, event));
            }
            (_, true) => {}
        }
    }

    /// Whether it is stored when this returns, as far as its sender hears.
    fn publish(&mut self, from: BoxId, content: Content) -> bool {
        if !self.broker.has_leader(self.now) {
            return false;
        }
        if let Some(message) = self.broker.publish(content) {
            self.later(1, 20, Happening::Offer(message, true));
        }
        let silent = self.is_stormy() && self.random.chance(self.scene.doubling);
        !silent && !self.is_cut(from)
    }

    fn answer_publish(&mut self, heard: bool, what: Happening) {
        if heard {
            self.later(1, 20, what);
        } else {
            self.later(PUBLISH_WITHIN_MS, PUBLISH_WITHIN_MS + 1, what);
        }
    }

    fn offer(&mut self, message: MessageId, again: bool) {
        let Some((to, hidden)) = self.broker.pending(message) else {
            return;
        };
        if again && hidden > self.now {
            return self.at(hidden, Happening::Offer(message, true));
        }
        let machine = &self.machines[&to];
        if machine.process.is_none() || self.is_cut(to) || !self.broker.has_leader(self.now) {
            if again {
                self.later(500, 1_000, Happening::Offer(message, true));
            }
            return;
        }
        let boot = machine.boot;
        let (delivery, content) = self.broker.deliver(message, self.now);
        if again {
            self.later(1_000, 1_001, Happening::Offer(message, true));
            if self.is_stormy() && self.random.chance(self.scene.doubling) {
                self.later(1, 5_000, Happening::Offer(message, false));
            }
        }
        let what = match content {
            Content::Job(it) => {
                let of = Foreign {
                    submitter: it.submitter,
                    job: it.placement.job,
                };
                let event = lender::Event::Delivered {
                    delivery,
                    of,
                    token: it.placement.token,
                    boot: it.placement.boot,
                    demand: by_clock(it.demand, self.machines[&to].behind),
                };
                Happening::Lender(to, boot, event)
            }
            Content::Answer(it) => {
                let event = submitter::Event::Answered {
                    delivery,
                    from: it.from,
                    boot: it.boot,
                    job: it.job,
                    token: it.token,
                    answer: it.answer,
                };
                Happening::Submitter(to, boot, event)
            }
        };
        let slow = self.is_slow();
        self.later(1, if slow { 3_000 } else { 20 }, what);
    }

    fn tell_box(&mut self, from: BoxId, to: BoxId, hint: Hint) {
        let lost = self.is_cut(from) || (self.is_stormy() && self.random.chance(self.scene.loss));
        if !lost {
            self.later(1, 20, Happening::Hint(to, hint));
        }
    }

    fn hint(&mut self, to: BoxId, hint: Hint) -> Result<(), Violation> {
        if self.is_cut(to) {
            return Ok(());
        }
        let boot = self.machines[&to].boot;
        match hint {
            Hint::Advertised(from, says) => {
                self.submitter(to, boot, submitter::Event::Advertised { from, says })
            }
            Hint::Held(from, its_boot, jobs) => {
                let event = submitter::Event::Held {
                    from,
                    boot: its_boot,
                    jobs,
                };
                self.submitter(to, boot, event)
            }
            Hint::Withdrawn(of, token) => {
                self.lender(to, boot, lender::Event::Withdrawn { of, token })
            }
            Hint::Lent(from, loan) => {
                self.submitter(to, boot, submitter::Event::Lent { from, loan })
            }
        }
    }

    // Time.

    fn at(&mut self, at: Nanos, what: Happening) {
        self.queue.push(Reverse((at.max(self.now), self.order)));
        self.happenings.insert(self.order, what);
        self.order += 1;
    }

    /// In at least `from` and less than `to` milliseconds.
    fn later(&mut self, from: u64, to: u64, what: Happening) {
        let span = self.random.between(from * 1_000, to * 1_000);
        self.at(self.now.plus(Nanos::from_micros(span)), what);
    }

    /// What the clock of a box says.
    fn clock(&self, id: BoxId) -> Nanos {
        self.now.since(self.machines[&id].behind)
    }

    fn machine(&mut self, id: BoxId) -> &mut Machine {
        self.machines.get_mut(&id).expect("the scene names it")
    }

    fn tell(&self, happening: &Happening) {
        if self.told {
            eprintln!("{:>9} {happening:?}", self.now.as_millis());
        }
    }
}

/// What is known of a job, by a clock that is behind that of the world.
fn by_clock(demand: Demand, behind: Nanos) -> Demand {
    let due = demand.due.map(|due| due.since(behind));
    Demand { due, ..demand }
}

/// What stands for the proof of a job.
fn right_proof(submitter: BoxId, job: JobId) -> Vec<u8> {
    let mut proof = vec![1];
    proof.extend(submitter.0.to_be_bytes());
    proof.extend(job.0.to_be_bytes());
    proof
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "after {} ms: {}", self.at.as_millis(), self.what)
    }
}

/// How long a publish waits for an answer.
const PUBLISH_WITHIN_MS: u64 = 2_000;
/// Long enough for a lease, its bound, and a few tries more.
const SETTLED_WITHIN: Nanos = Nanos::from_secs(600);
