//! A broker with two streams, as JetStream keeps them, and as it was seen to behave when its servers die.
//!
//! Jobs stand in a work queue: an acknowledgement deletes the message, whichever of its deliveries it names. Answers stand in
//! a stream that keeps them, one to a subject. What is not acknowledged is delivered again. While there is no leader nothing
//! is stored and nothing delivered; nobody is told so.

use std::collections::BTreeMap;

use caldera_fleet::submitter::Placement;
use caldera_fleet::{Answer, Boot, BoxId, Delivery, Demand, Token};
use caldera_scheduler::{JobId, Nanos};

/// A message, by its number, which no other message ever has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId(u64);

/// A placement on its way.
#[derive(Debug, Clone)]
pub(crate) struct JobMessage {
    pub(crate) submitter: BoxId,
    pub(crate) placement: Placement,
    pub(crate) demand: Demand,
}

/// An answer on its way.
#[derive(Debug, Clone)]
pub(crate) struct AnswerMessage {
    pub(crate) submitter: BoxId,
    pub(crate) from: BoxId,
    pub(crate) boot: Boot,
    pub(crate) job: JobId,
    pub(crate) token: Token,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone)]
pub(crate) enum Content {
    Job(JobMessage),
    Answer(AnswerMessage),
}

#[derive(Debug)]
struct Message {
    content: Content,
    acknowledged: bool,
    /// Not delivered again before.
    hidden: Nanos,
}

#[derive(Debug, Default)]
pub(crate) struct Broker {
    messages: BTreeMap<MessageId, Message>,
    subjects: BTreeMap<Subject, MessageId>,
    deliveries: Vec<MessageId>,
    next: u64,
    /// There is no leader until then.
    leaderless: Nanos,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Job(BoxId, Boot, BoxId, JobId, Token),
    Answer(BoxId, BoxId, JobId, Token),
}

impl Broker {
    /// Stores what has no message under its subject. `None` if there is one.
    pub(crate) fn publish(&mut self, content: Content) -> Option<MessageId> {
        let subject = subject(&content);
        if self.subjects.contains_key(&subject) {
            return None;
        }
        let id = MessageId(self.next);
        self.next += 1;
        self.subjects.insert(subject, id);
        let message = Message {
            content,
            acknowledged: false,
            hidden: Nanos::ZERO,
        };
        self.messages.insert(id, message);
        Some(id)
    }

    /// For whom a message is that is still to be delivered, and not before when.
    pub(crate) fn pending(&self, id: MessageId) -> Option<(BoxId, Nanos)> {
        let message = self.messages.get(&id).filter(|it| !it.acknowledged)?;
        let to = match &message.content {
            Content::Job(job) => job.placement.lender,
            Content::Answer(answer) => answer.submitter,
        };
        Some((to, message.hidden))
    }

    /// Delivers a message.
    pub(crate) fn deliver(&mut self, id: MessageId, now: Nanos) -> (Delivery, Content) {
        let message = self.messages.get_mut(&id).expect("it is pending");
        message.hidden = now.plus(ACKNOWLEDGE_WITHIN);
        let delivery = Delivery(self.deliveries.len() as u64);
        self.deliveries.push(id);
        (delivery, message.content.clone())
    }

    /// A delivery is acknowledged, the newest or an earlier one.
    pub(crate) fn acknowledge(&mut self, delivery: Delivery) {
        let id = self.deliveries[delivery.0 as usize];
        match self.messages.get_mut(&id) {
            Some(message) if matches!(message.content, Content::Answer(_)) => {
                message.acknowledged = true;
            }
            Some(_) => self.delete(id),
            None => {}
        }
    }

    /// Somebody still works on it.
    pub(crate) fn progress(&mut self, delivery: Delivery, now: Nanos) {
        let id = self.deliveries[delivery.0 as usize];
        if let Some(message) = self.messages.get_mut(&id) {
            message.hidden = now.plus(ACKNOWLEDGE_WITHIN);
        }
    }

    /// Deletes the message of a placement.
    pub(crate) fn withdraw(&mut self, submitter: BoxId, job: JobId, token: Token) {
        let found = self.messages.iter().find(|(_, it)| match &it.content {
            Content::Job(it) => {
                (it.submitter, it.placement.job, it.placement.token) == (submitter, job, token)
            }
            Content::Answer(_) => false,
        });
        if let Some((id, _)) = found {
            self.delete(*id);
        }
    }

    /// A stream is gone, with all that was in it, and is made anew.
    pub(crate) fn lose(&mut self, jobs: bool, answers: bool) {
        let lost = self.messages.iter().filter(|(_, it)| match it.content {
            Content::Job(_) => jobs,
            Content::Answer(_) => answers,
        });
        for id in lost.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.delete(id);
        }
    }

    /// A consumer is made anew: all answers that a box ever had are delivered again.
    pub(crate) fn replay(&mut self, submitter: BoxId) -> Vec<MessageId> {
        let mut again = Vec::new();
        for (id, message) in &mut self.messages {
            if let Content::Answer(answer) = &message.content
                && answer.submitter == submitter
                && message.acknowledged
            {
                message.acknowledged = false;
                again.push(*id);
            }
        }
        again
    }

    pub(crate) fn elect(&mut self, until: Nanos) {
        self.leaderless = self.leaderless.max(until);
    }

    pub(crate) fn has_leader(&self, now: Nanos) -> bool {
        now >= self.leaderless
    }

    /// Whether nobody has anything to wait for.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.values().all(|it| it.acknowledged)
    }

    fn delete(&mut self, id: MessageId) {
        if let Some(message) = self.messages.remove(&id) {
            self.subjects.remove(&subject(&message.content));
        }
    }
}

fn subject(content: &Content) -> Subject {
    match content {
        Content::Job(it) => Subject::Job(
            it.placement.lender,
            it.placement.boot,
            it.submitter,
            it.placement.job,
            it.placement.token,
        ),
        Content::Answer(it) => Subject::Answer(it.submitter, it.from, it.job, it.token),
    }
}

/// What is not acknowledged within this time is delivered again.
const ACKNOWLEDGE_WITHIN: Nanos = Nanos::from_secs(20);
