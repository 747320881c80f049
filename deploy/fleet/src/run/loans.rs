//! Carries out what an operator orders of loans: the broker keeps them, the lender's side counts by them.
//!
//! A grant is in force when the broker has confirmed it; one that is reclaimed is not from that moment on, and the broker is asked to forget it until it
//! says that it has. So it is of a grant that it has not confirmed, for it may have it all the same. Each loan is written again once in a while, for a
//! broker may lose what it has.
//!
//! One order is carried out at a time, and one task writes, one thing after another: so two orders never grant the same cores, and nothing that
//! is reclaimed comes back by a write that was on its way.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use caldera_rpc::chain::chain;
use caldera_scheduler::Nanos;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use crate::lender::{Event, Lender};
use crate::loan::{Granted, Loan, LoanError, LoanNumber};
use crate::nats::{Broker, KeepError};
use crate::{Boot, BoxId};

/// What an operator wants.
pub(super) struct Order {
    what: What,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum What {
    Grant {
        borrower: BoxId,
        rate: u32,
        term: Nanos,
        is_heard: bool,
    },
    Revoke {
        borrower: BoxId,
    },
}

pub(super) type Answer = oneshot::Sender<Result<(), OrderError>>;

/// Why it was not done.
#[derive(Debug, Error)]
pub(super) enum OrderError {
    #[error("this box lends nothing: give it [lend] in its configuration")]
    NoLend,
    #[error("what this box has granted is not read yet, for NATS is away: try again")]
    Unread,
    #[error(
        "{borrower}: expected a box that is heard, got one that is not: see its name in `caldera fleet status` there, and grant when it runs"
    )]
    Unheard { borrower: BoxId },
    #[error(transparent)]
    Loan(#[from] LoanError),
    #[error(transparent)]
    Keep(#[from] KeepError),
    #[error(
        "it is reclaimed, but NATS has not confirmed that: it is told on, and a start of this process before it has heard finds the loan again"
    )]
    Remembered,
}

/// As an operator's program says it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
enum Said {
    #[serde(rename_all = "camelCase")]
    Grant {
        r#box: String,
        rate: u32,
        seconds: u64,
    },
    Revoke {
        r#box: String,
    },
}

/// What the broker is to have of a borrower.
struct Write {
    borrower: BoxId,
    entry: Entry,
    /// Whom to tell, if somebody waits.
    answer: Option<Answer>,
}

#[derive(Clone, Copy)]
pub(super) enum Entry {
    Keep(Loan),
    Forget(LoanNumber),
}

/// What came of reading and writing.
pub(super) enum Outcome {
    Read(Vec<(BoxId, Loan)>),
    Ordered {
        borrower: BoxId,
        entry: Entry,
        done: Result<(), OrderError>,
        answer: Answer,
    },
}

/// The loans of a box that lends.
pub(super) struct Loans {
    lends: bool,
    boot: Boot,
    nth: u32,
    writes: mpsc::UnboundedSender<Write>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    /// What was granted before this start is known.
    is_read: bool,
    /// An order is under way.
    is_busy: bool,
    kept: Nanos,
}

/// Has an order carried out. A grant is for one of the boxes that are heard.
pub(super) async fn ordered(
    orders: &mpsc::Sender<Order>,
    body: Bytes,
    heard: &Value,
) -> Result<(), (StatusCode, String)> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let said = serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?;
    let a_box = |text: &str| {
        let number = u128::from_str_radix(text, 16).ok();
        let number = number.filter(|_| text.len() == 32);
        let expected = || {
            bad(format!(
                "box: expected 32 hexadecimal digits, as `caldera fleet status` shows them, got {text:?}"
            ))
        };
        number.map(BoxId).ok_or_else(expected)
    };
    let what = match said {
        Said::Grant {
            r#box,
            rate,
            seconds,
        } => {
            let borrower = a_box(&r#box)?;
            let name = format!("{:032x}", borrower.0);
            let heard = heard.as_array().map_or(&[][..], Vec::as_slice);
            What::Grant {
                borrower,
                rate,
                term: Nanos(seconds.saturating_mul(Nanos::from_secs(1).0)),
                is_heard: heard.iter().any(|it| it["box"] == name),
            }
        }
        Said::Revoke { r#box } => What::Revoke {
            borrower: a_box(&r#box)?,
        },
    };
    let (answer, done) = oneshot::channel();
    let away = || {
        let error = "expected that the lender's side answers, got that it does not, or that another order is under way: try again".to_owned();
        (StatusCode::SERVICE_UNAVAILABLE, error)
    };
    let sent = timeout(ORDER_WITHIN, orders.send(Order { what, answer })).await;
    sent.map_err(|_| away())?.map_err(|_| away())?;
    match done.await.map_err(|_| away())? {
        Ok(()) => Ok(()),
        Err(error) => {
            let status = match error {
                OrderError::Unread
                | OrderError::Keep(KeepError::Silent)
                | OrderError::Remembered => StatusCode::SERVICE_UNAVAILABLE,
                OrderError::NoLend
                | OrderError::Unheard { .. }
                | OrderError::Loan(_)
                | OrderError::Keep(_) => StatusCode::CONFLICT,
            };
            Err((status, error.to_string()))
        }
    }
}

impl Loans {
    /// Begins to read what was granted before, and to write; within a runtime. Of a box that does not lend nothing is read.
    pub(super) fn new(broker: Broker, boot: Boot, lends: bool) -> Loans {
        let (writes, orders) = mpsc::unbounded_channel();
        let (done, outcomes) = mpsc::unbounded_channel();
        if lends {
            tokio::spawn(read_and_write(broker, orders, done));
        }
        Loans {
            lends,
            boot,
            nth: 0,
            writes,
            outcomes,
            is_read: false,
            is_busy: false,
            kept: Nanos::ZERO,
        }
    }

    /// Whether an order is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// Does what an operator wants.
    pub(super) fn order(&mut self, order: Order, lender: &mut Lender, now: Nanos) {
        match self.decide(order.what, lender, now) {
            Ok((borrower, entry)) => {
                self.is_busy = true;
                self.write(borrower, entry, Some(order.answer));
            }
            Err(error) => {
                let _ = order.answer.send(Err(error));
            }
        }
    }

    fn decide(
        &mut self,
        what: What,
        lender: &mut Lender,
        now: Nanos,
    ) -> Result<(BoxId, Entry), OrderError> {
        if !self.lends {
            return Err(OrderError::NoLend);
        }
        if !self.is_read {
            return Err(OrderError::Unread);
        }
        match what {
            What::Grant {
                borrower,
                rate,
                term,
                is_heard,
            } => {
                lender.granted().check(borrower, rate, term, now)?;
                if !is_heard {
                    return Err(OrderError::Unheard { borrower });
                }
                self.nth += 1;
                let number = LoanNumber {
                    boot: self.boot,
                    nth: self.nth,
                };
                let left = term;
                Ok((borrower, Entry::Keep(Loan { number, rate, left })))
            }
            What::Revoke { borrower } => {
                let number = lender.reclaim(borrower)?;
                Ok((borrower, Entry::Forget(number)))
            }
        }
    }

    /// What comes of reading and writing; never, of a box that does not lend. May be given up at any point.
    pub(super) async fn outcome(&mut self) -> Outcome {
        match self.outcomes.recv().await {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }

    /// The loans that are in force because of it, and whoever waits is told.
    pub(super) fn settle(&mut self, outcome: Outcome, lender: &mut Lender, now: Nanos) {
        let mut grant = |borrower, loan| lender.handle(Event::Granted { borrower, loan }, now);
        match outcome {
            Outcome::Read(loans) => {
                self.is_read = true;
                self.kept = now;
                loans
                    .into_iter()
                    .for_each(|(borrower, loan)| grant(borrower, loan));
            }
            Outcome::Ordered {
                borrower,
                entry,
                done,
                answer,
            } => {
                self.is_busy = false;
                if let (Entry::Keep(loan), Ok(())) = (entry, &done) {
                    grant(borrower, loan);
                }
                let _ = answer.send(done);
            }
        }
    }

    /// Has the broker keep what is left of each loan, once in a while.
    pub(super) fn keep(&mut self, granted: &Granted, now: Nanos) {
        if self.is_read && now.since(self.kept) >= KEEP_EVERY {
            self.kept = now;
            for (borrower, loan) in granted.loans(now) {
                self.write(borrower, Entry::Keep(loan), None);
            }
        }
    }

    /// What an operator is told.
    pub(super) fn told(granted: &Granted, now: Nanos) -> Vec<Value> {
        let loans = granted.loans(now);
        let loans = loans.map(|(borrower, loan)| {
            json!({
                "box": format!("{:032x}", borrower.0),
                "rate": loan.rate,
                "leftMs": loan.left.as_millis(),
            })
        });
        loans.collect()
    }

    fn write(&self, borrower: BoxId, entry: Entry, answer: Option<Answer>) {
        // It runs for as long as this does.
        let _ = self.writes.send(Write {
            borrower,
            entry,
            answer,
        });
    }
}

/// Reads until it is read, then writes one thing after another.
async fn read_and_write(
    broker: Broker,
    mut writes: mpsc::UnboundedReceiver<Write>,
    outcomes: mpsc::UnboundedSender<Outcome>,
) {
    let mut says = true;
    let loans = loop {
        match broker.loans().await {
            Ok(loans) => break loans,
            Err(error @ KeepError::Stream { .. }) if says => {
                tracing::error!(error = %chain(&error), "no loans");
                says = false;
            }
            Err(_) => {}
        }
        sleep(AGAIN).await;
    };
    let _ = outcomes.send(Outcome::Read(loans));
    // What the broker has not said yet that it has forgotten.
    let mut remembered: BTreeMap<BoxId, LoanNumber> = BTreeMap::new();
    loop {
        let pause = async {
            match remembered.is_empty() {
                true => std::future::pending().await,
                false => sleep(AGAIN).await,
            }
        };
        let write = tokio::select! {
            write = writes.recv() => write,
            () = pause => {
                for (borrower, number) in remembered.clone() {
                    if broker.forget_loan(borrower, number).await {
                        remembered.remove(&borrower);
                    }
                }
                continue;
            }
        };
        let Some(Write {
            borrower,
            entry,
            answer,
        }) = write
        else {
            return;
        };
        if answer.is_none() && !broker.is_connected() {
            // It is written again in a while; nobody's order is to stand in line behind what waits for a server.
            continue;
        }
        let done = match entry {
            Entry::Keep(loan) => {
                let kept = timeout(WRITE_WITHIN, broker.keep_loan(borrower, &loan)).await;
                let kept = kept.unwrap_or(Err(KeepError::Silent));
                match kept {
                    // In the place of what was to be forgotten.
                    Ok(()) => {
                        remembered.remove(&borrower);
                    }
                    // Perhaps it is kept, and is not in force.
                    Err(_) if answer.is_some() => {
                        remembered.insert(borrower, loan.number);
                    }
                    Err(_) => {}
                }
                kept.map_err(OrderError::from)
            }
            Entry::Forget(number) => {
                let forgotten = timeout(WRITE_WITHIN, broker.forget_loan(borrower, number)).await;
                match forgotten.unwrap_or(false) {
                    true => Ok(()),
                    false => {
                        remembered.insert(borrower, number);
                        Err(OrderError::Remembered)
                    }
                }
            }
        };
        match answer {
            Some(answer) => {
                let _ = outcomes.send(Outcome::Ordered {
                    borrower,
                    entry,
                    done,
                    answer,
                });
            }
            None => {
                if let Err(error) = done {
                    tracing::warn!(%borrower, error = %chain(&error), "what is left of a loan is not written");
                }
            }
        }
    }
}

const AGAIN: Duration = Duration::from_secs(1);
const ORDER_WITHIN: Duration = Duration::from_secs(1);
/// Shorter than an operator's connection.
const WRITE_WITHIN: Duration = Duration::from_secs(2);
/// How long a loan may be missing that a broker has lost.
const KEEP_EVERY: Nanos = Nanos::from_secs(60);
