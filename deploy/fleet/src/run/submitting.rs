//! Carries out the submitter's commands.
//!
//! The box's own word is the truth about which jobs are the fleet's, the journal's about where they are. A call to the box that was not answered is
//! made again under the same fence; a proof that is brought is judged and committed by one call, so [`Command::Judge`] is that call, and
//! [`Command::Commit`] has nothing left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use std::time::Duration;

use async_nats::jetstream::AckKind;
use caldera_rpc::chain::chain;
use caldera_scheduler::{JobId, Nanos};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::control::Question;
use super::{RunError, Shared, Totals, duration, nanos, until_answered};
use crate::calderad::{Calderad, Lent, Taken, Verdict, hint};
use crate::journal::{Journal, JournalError};
use crate::messages::{
    JobBody, Subject, decode_answer, decode_beat, decode_held, decode_loan, encode_withdrawn,
};
use crate::nats::{Broker, Delivered, Deliveries, Kept};
use crate::submitter::{Command, Event, Journalled, Placement, Report};
use crate::{Demand, Submitter};

struct Submitting<C> {
    shared: Arc<Shared<C>>,
    broker: Broker,
    machine: Submitter,
    journal: Writing,
    /// What the box has handed out, with when it is needed.
    lent: BTreeMap<JobId, (Lent, Option<Nanos>)>,
    /// Those of them that were placed.
    placed: BTreeSet<JobId>,
    /// The fences under which jobs were the fleet's last: what the box says of these is older than what it was told.
    over: BTreeMap<JobId, u64>,
    deliveries: Deliveries,
    /// Outcomes of what was begun. Without a bound: each is of one command, or of one of the few tasks beside.
    events: mpsc::UnboundedSender<Event>,
}

/// What the box is to be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Want {
    /// So many of its answers were looked at.
    looked_at: u64,
    /// So many jobs more, after those.
    more: u32,
}

/// What a box has told.
enum Told {
    /// All that is lent.
    All(Taken),
    /// What has changed.
    More(Taken),
}

/// The thread that writes the journal. It has ended, and the file is closed, when this is dropped.
struct Writing {
    entries: Option<blocking::Sender<Entry>>,
    thread: Option<JoinHandle<()>>,
}

enum Entry {
    Record(Placement),
    Forget(JobId),
}

pub(super) async fn run<C: Calderad>(
    shared: Arc<Shared<C>>,
    mut journal: Journal,
    mut asked: mpsc::Receiver<Question>,
) -> Result<(), RunError> {
    let me = shared.config.me;
    let broker = Broker::connect(&shared.config.nats, me).await?;
    let mut beats = broker.hear("caldera.beat.*".to_owned()).await?;
    let mut held = broker.hear(format!("caldera.held.*.{:032x}", me.0)).await?;
    let mut loans = broker.hear(format!("caldera.loan.*.{:032x}", me.0)).await?;
    // One at a time, and the next is asked for when it was looked at: what it brought counts in what is wanted.
    let (to, mut told) = mpsc::channel(1);
    let (want, wants) = watch::channel(Want::default());
    tokio::spawn(ask(Arc::clone(&shared), wants, to));
    // Without its box there is nothing to place.
    let first = loop {
        tokio::select! {
            told = told.recv() => match told {
                Some(Told::All(taken)) => break taken,
                Some(Told::More(_)) => {}
                None => return Err(RunError::Ended { thread: "submitter" }),
            },
            Some(question) = asked.recv() => {
                let _ = question.send(status(None, &broker, shared.now()));
            }
        }
    };
    let now = shared.now();
    let names: Vec<JobId> = first.jobs.iter().map(|lent| lent.job).collect();
    journal.keep(&names)?;
    let mut rows = Vec::new();
    let mut lent = BTreeMap::new();
    let mut placed = BTreeSet::new();
    for it in first.jobs {
        let placement = journal.placement(it.job)?;
        placed.extend(placement.map(|it| it.job));
        let (job, demand) = (it.job, demand(&it, now));
        rows.push(Journalled {
            job,
            demand,
            placement,
        });
        lent.insert(job, (it, demand.due));
    }
    let next = journal.next_token()?;
    let machine = Submitter::restore(me, shared.terms, next, rows, now);

    let (events, mut outcomes) = mpsc::unbounded_channel();
    let (written, mut unwritten) = mpsc::channel(1);
    let journal = write_down(journal, events.clone(), written)?;
    let mut this = Submitting {
        shared,
        broker,
        machine,
        journal,
        lent,
        placed,
        over: BTreeMap::new(),
        deliveries: Deliveries::default(),
        events,
    };
    let refused = this.broker.clone().watch_over();
    tokio::pin!(refused);
    let (to, mut answers) = mpsc::channel(ANSWERS_AHEAD);
    let brought = this.broker.clone().bring(Kept::Answers, to);
    tokio::pin!(brought);
    this.handle(Event::Tick);
    let mut looked_at = 1;
    loop {
        let now = this.shared.now();
        let room = this.machine.room(now);
        let waiting = u32::try_from(this.machine.waiting()).unwrap_or(u32::MAX);
        let more = if this.shared.is_draining() {
            0
        } else {
            room.saturating_sub(waiting)
        };
        let wanted = Want { looked_at, more };
        want.send_if_modified(|want| std::mem::replace(want, wanted) != wanted);
        let tick = duration(Nanos(this.machine.due(now).since(now).0)).max(TICK_MIN);
        tokio::select! {
            error = &mut refused => return Err(error.into()),
            ended = &mut brought => {
                ended?;
                return Err(RunError::Ended { thread: "submitter" });
            }
            Some(error) = unwritten.recv() => return Err(error.into()),
            Some(event) = outcomes.recv() => this.handle(event),
            Some(told) = told.recv() => {
                this.told(told);
                looked_at += 1;
            }
            Some(delivered) = answers.recv() => this.delivered(delivered),
            Some(message) = beats.next() => this.heard(&message),
            Some(message) = held.next() => this.heard(&message),
            Some(message) = loans.next() => this.heard(&message),
            Some(question) = asked.recv() => {
                let _ = question.send(status(Some(&this.machine), &this.broker, now));
            }
            () = sleep(tick) => this.handle(Event::Tick),
        }
    }
}

/// Asks the box for jobs, and for what it wants back. A call that was not answered may have handed jobs out: then all is asked for.
async fn ask<C: Calderad>(
    shared: Arc<Shared<C>>,
    mut wants: watch::Receiver<Want>,
    to: mpsc::Sender<Told>,
) {
    let held = || async {
        if shared.config.lend.is_some() {
            // The box lends nothing of who has proved for others since it started, and it may have started anew.
            let _ = shared.calderad.keys().await;
        }
        let held = shared.calderad.held().await;
        shared.calderad_is(|is| *is = held.as_ref().err().map(ToString::to_string));
        held
    };
    let mut cursor = None;
    let mut sent = 0;
    loop {
        // What is wanted is what the answers before have left.
        let more = wants.wait_for(|want| want.looked_at >= sent).await;
        let Ok(more) = more.map(|want| want.more) else {
            return;
        };
        let told = match cursor {
            None => Told::All(until_answered("what is lent", held).await),
            Some(cursor) => {
                let take = shared.calderad.take(more, TAKE_WAIT, cursor);
                // Nothing is handed out to who wants nothing, so that call may be broken off.
                let wanted = async {
                    let wanted = wants.wait_for(|want| more == 0 && want.more > 0).await;
                    wanted.map(drop)
                };
                let taken = tokio::select! {
                    taken = take => taken,
                    Ok(()) = wanted => continue,
                };
                match taken {
                    Ok(taken) => Told::More(taken),
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "taking jobs");
                        sleep(super::ASK_AGAIN_MIN).await;
                        Told::All(until_answered("what is lent", held).await)
                    }
                }
            }
        };
        let (Told::All(taken) | Told::More(taken)) = &told;
        cursor = Some(taken.cursor);
        sent += 1;
        if to.send(told).await.is_err() {
            return;
        }
    }
}

/// Writes placements down, as many at once as have come.
fn write_down(
    mut journal: Journal,
    events: mpsc::UnboundedSender<Event>,
    failed: mpsc::Sender<JournalError>,
) -> Result<Writing, RunError> {
    let (sender, entries) = blocking::channel::<Entry>();
    let mut write = move |entries: &[Entry]| -> Result<(), JournalError> {
        let is_record = |entry: &Entry| matches!(entry, Entry::Record(_));
        for group in entries.chunk_by(|a, b| is_record(a) == is_record(b)) {
            let mut placements = Vec::new();
            let mut forgotten = Vec::new();
            for entry in group {
                match entry {
                    Entry::Record(placement) => placements.push(*placement),
                    Entry::Forget(job) => forgotten.push(*job),
                }
            }
            if !placements.is_empty() {
                journal.record(&placements)?;
            }
            if !forgotten.is_empty() {
                journal.forget(&forgotten)?;
            }
            for Placement { job, token, .. } in placements {
                let _ = events.send(Event::Recorded { job, token });
            }
        }
        Ok(())
    };
    let thread = std::thread::Builder::new().name("journal".to_owned());
    let spawned = thread.spawn(move || {
        while let Ok(first) = entries.recv() {
            let mut group = vec![first];
            group.extend(entries.try_iter());
            if let Err(error) = write(&group) {
                let _ = failed.blocking_send(error);
                return;
            }
        }
    });
    let thread = spawned.map_err(|source| RunError::System {
        what: "thread journal".to_owned(),
        source,
    })?;
    Ok(Writing {
        entries: Some(sender),
        thread: Some(thread),
    })
}

impl Writing {
    fn write(&self, entry: Entry) {
        if let Some(entries) = &self.entries {
            // A thread that is gone has said why.
            let _ = entries.send(entry);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl<C: Calderad> Submitting<C> {
    fn handle(&mut self, event: Event) {
        self.machine.handle(event, self.shared.now());
        let commands: Vec<Command> = self.machine.commands().collect();
        for command in commands {
            self.carry_out(command);
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Record(placement) => {
                if !self.placed.insert(placement.job) {
                    Totals::count(&self.shared.totals.replaced);
                }
                self.journal.write(Entry::Record(placement));
            }
            Command::Publish(placement) => self.publish(placement),
            Command::Withdraw(at) => {
                self.shared.grants.end(at.job, at.token);
                let subject = Subject::Withdrawn {
                    submitter: self.shared.config.me,
                    lender: at.lender,
                };
                let broker = self.broker.clone();
                let body = encode_withdrawn(at.job, at.token);
                tokio::spawn(async move { broker.hint(subject, body).await });
            }
            Command::Judge { job, token, proof } => {
                let Some((lent, _)) = self.lent.get(&job) else {
                    return;
                };
                let (fence, shared) = (lent.fence, Arc::clone(&self.shared));
                let events = self.events.clone();
                tokio::spawn(async move {
                    let result = || shared.calderad.result(job, fence, Arc::clone(&proof));
                    let verdict = until_answered("bringing a proof", result).await;
                    // What is not the fleet's any more has another end, which is on the disk too.
                    let right = verdict != Verdict::Wrong;
                    if verdict == Verdict::Committed {
                        Totals::count(&shared.totals.committed);
                    }
                    let _ = events.send(Event::Judged { job, token, right });
                });
            }
            Command::Commit { job, .. } => {
                self.settled(job);
                let _ = self.events.send(Event::Committed { job });
            }
            Command::Acknowledge(delivery) => {
                if let Some(acker) = self.deliveries.take(delivery) {
                    tokio::spawn(async move { timeout(SAY_WITHIN, acker.ack()).await });
                }
            }
            Command::Return(job) => {
                let Some(fence) = self.settled(job) else {
                    return;
                };
                Totals::count(&self.shared.totals.returned);
                tracing::info!(%job, "comes home");
                let shared = Arc::clone(&self.shared);
                tokio::spawn(async move {
                    let give_back = || shared.calderad.give_back(job, fence);
                    until_answered("giving a job back", give_back).await;
                });
            }
            Command::Report(report) => match report {
                Report::WrongProof { lender, job } => {
                    Totals::count(&self.shared.totals.wrong_proofs);
                    tracing::error!(%lender, %job, "sent what is no proof; it is avoided");
                }
                Report::Forged { from, job } => {
                    Totals::count(&self.shared.totals.forged);
                    tracing::error!(lender = %from, %job, "answers what it was not asked; it is avoided");
                }
            },
        }
    }

    fn publish(&mut self, at: Placement) {
        let Some((lent, due)) = self.lent.get(&at.job) else {
            return;
        };
        let Placement {
            job,
            token,
            lender,
            boot,
        } = at;
        let bytes = (lent.witness_bytes, lent.key_bytes);
        self.shared.grants.give(job, token, lender, bytes);
        let now = self.shared.now();
        let body = JobBody {
            from: self.shared.config.advertise,
            key: lent.key,
            key_bytes: lent.key_bytes,
            witness: lent.witness,
            witness_bytes: lent.witness_bytes,
            work: work(lent),
            left: due.map(|due| due.since(now)),
            price_max: lent.price_max,
            bill: None,
        };
        let fence = lent.fence;
        let subject = Subject::Job {
            submitter: self.shared.config.me,
            lender,
            boot,
            job,
            token,
        };
        let (broker, events) = (self.broker.clone(), self.events.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let bill = timeout(BILL_WITHIN, shared.calderad.bill(job, fence, lender)).await;
            // It is to be proved whoever pays for it.
            let bill = match bill {
                Ok(Ok(bill)) => bill,
                Ok(Err(error)) => {
                    tracing::warn!(%job, error = %chain(&error), "what a job earns is not known");
                    None
                }
                Err(_) => {
                    tracing::warn!(%job, "what a job earns was not said in time");
                    None
                }
            };
            let body = JobBody { bill, ..body };
            let stored = broker.publish_once(subject, body.encode()).await;
            if stored {
                Totals::count(&shared.totals.placed);
            }
            let _ = events.send(Event::Published { job, token, stored });
        });
    }

    /// A job is not the fleet's any more. Says under which fence it was.
    fn settled(&mut self, job: JobId) -> Option<u64> {
        let (lent, _) = self.lent.remove(&job)?;
        self.placed.remove(&job);
        self.shared.grants.end_all(job);
        self.journal.write(Entry::Forget(job));
        self.over.insert(job, lent.fence);
        if self.over.len() > OVER_MAX {
            // Numbers of jobs rise.
            self.over.pop_first();
        }
        Some(lent.fence)
    }

    fn cancelled(&mut self, job: JobId) {
        if self.settled(job).is_some() {
            self.handle(Event::Cancelled { job });
        }
    }

    fn told(&mut self, told: Told) {
        let taken = match told {
            Told::All(taken) => {
                let there: Vec<JobId> = taken.jobs.iter().map(|lent| lent.job).collect();
                let gone = self.lent.keys().filter(|job| !there.contains(job));
                for job in gone.copied().collect::<Vec<_>>() {
                    self.cancelled(job);
                }
                taken
            }
            Told::More(taken) => taken,
        };
        for (job, fence) in taken.withdrawn {
            if self
                .lent
                .get(&job)
                .is_some_and(|(lent, _)| lent.fence <= fence)
            {
                self.cancelled(job);
            }
        }
        for lent in taken.jobs {
            self.taken(lent);
        }
    }

    fn taken(&mut self, lent: Lent) {
        let job = lent.job;
        if self.over.get(&job).is_some_and(|over| *over >= lent.fence) {
            return;
        }
        match self.lent.get(&job).map(|(known, _)| known.fence) {
            Some(fence) if fence >= lent.fence => return,
            Some(_) => self.cancelled(job),
            None => {}
        }
        Totals::count(&self.shared.totals.taken);
        let demand = demand(&lent, self.shared.now());
        self.lent.insert(job, (lent, demand.due));
        self.handle(Event::Taken { job, demand });
    }

    fn heard(&mut self, message: &async_nats::Message) {
        let event = match Subject::parse(&message.subject) {
            Ok(Subject::Beat { from }) => {
                decode_beat(&message.payload).map(|says| Event::Advertised { from, says })
            }
            Ok(Subject::Held { lender: from, .. }) => {
                decode_held(&message.payload).map(|(boot, jobs)| Event::Held { from, boot, jobs })
            }
            Ok(Subject::Loan { lender: from, .. }) => {
                decode_loan(&message.payload).map(|loan| Event::Lent { from, loan })
            }
            Ok(_) => return,
            Err(error) => Err(error),
        };
        match event {
            Ok(event) => self.handle(event),
            Err(error) => tracing::warn!(error = %chain(&error), "a hint is not understood"),
        }
    }

    fn delivered(&mut self, delivered: Delivered) {
        let Delivered {
            subject,
            body,
            acker,
        } = delivered;
        let answer = decode_answer(&body);
        let (
            Subject::Answer {
                lender: from,
                job,
                token,
                ..
            },
            Ok((boot, answer)),
        ) = (subject, answer)
        else {
            // Whose lease ends; nobody is told again.
            tracing::warn!(%subject, "an answer is not understood");
            let term = async move { timeout(SAY_WITHIN, acker.ack_with(AckKind::Term)).await };
            tokio::spawn(term);
            return;
        };
        let delivery = self.deliveries.number(subject, acker);
        self.handle(Event::Answered {
            delivery,
            from,
            boot,
            job,
            token,
            answer,
        });
    }
}

/// What an operator is told of this side.
fn status(machine: Option<&Submitter>, broker: &Broker, now: Nanos) -> Value {
    let jobs = machine.map_or(0, Submitter::unsettled);
    let waiting = machine.map_or(0, Submitter::waiting);
    let peers = machine.into_iter().flat_map(Submitter::peers);
    let loans = machine.into_iter().flat_map(|it| it.loans(now));
    let loans = loans.map(|(lender, loan, has_credit)| {
        json!({
            "box": format!("{:032x}", lender.0),
            "rate": loan.rate,
            "leftMs": loan.left.as_millis(),
            "hasCredit": has_credit,
        })
    });
    let boxes = peers.map(|(lender, says, heard, avoided)| {
        let avoided = avoided.filter(|until| *until > now);
        json!({
            "box": format!("{:032x}", lender.0),
            "boot": says.boot.0,
            "heardMs": now.since(heard).as_millis(),
            "room": says.room,
            "cores": says.cores,
            "speed": says.speed,
            "price": says.price,
            "avoidedMs": avoided.map(|until| until.since(now).as_millis()),
        })
    });
    let server = broker.server();
    let (name, version) = server.clone().unzip();
    let error = server
        .is_none()
        .then_some("no server was found good yet, or all are away");
    json!({
        "submitter": {"jobs": jobs, "waiting": waiting, "placed": jobs - waiting, "loans": loans.collect::<Vec<_>>()},
        "boxes": boxes.collect::<Vec<_>>(),
        "broker": {
            "connected": server.is_some(),
            "server": name,
            "version": version,
            "error": error,
        },
    })
}

fn demand(lent: &Lent, now: Nanos) -> Demand {
    Demand {
        key: hint(&lent.key),
        key_bytes: lent.key_bytes,
        witness_bytes: lent.witness_bytes,
        work: work(lent),
        due: lent.left.map(|left| now.plus(nanos(left))),
        price_max: lent.price_max,
    }
}

/// What a job takes of one core; where nobody has measured it, a guess that is rather long, for a placement is given up by it.
fn work(lent: &Lent) -> Nanos {
    let guess = GUESS_MIN.plus(Nanos(lent.key_bytes.saturating_mul(GUESS_NANOS_PER_BYTE)));
    lent.work.map_or(guess, nanos)
}

const ANSWERS_AHEAD: usize = 64;
/// A beat: so often the box hears that the fleet is there, and how much room there is.
const TAKE_WAIT: Duration = Duration::from_secs(2);
const TICK_MIN: Duration = Duration::from_millis(1);
const SAY_WITHIN: Duration = Duration::from_secs(2);
/// Below the shortest lease.
const BILL_WITHIN: Duration = Duration::from_secs(10);
const OVER_MAX: usize = 65_536;
const GUESS_MIN: Nanos = Nanos::from_secs(1);
const GUESS_NANOS_PER_BYTE: u64 = 20;
