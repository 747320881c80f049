//! The bucket in which a lender keeps what it has granted.
//!
//! A key-value bucket as NATS lays them out, so that the servers' own tools show it: stream [`LOANS`], a subject for each pair of a lender and a borrower, of
//! which the last message counts. A box may write and read below its own name alone; a borrower is told what it has by its lender.
//! Other than those that NATS makes itself it takes no roll-ups, by which one message may take the place of all others', whoever wrote them.
//!
//! Each write names the one before it, so none is lost to another that was on its way (compare-and-set). Each lives in the broker for what is left of the
//! term, and what was left of it at a start of the lender is told from when it was written: both by the broker's clock, which is asked for what time it
//! is. So a loan ends although its lender does not run, and no clock of a box counts but as one that runs.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::datetime::{DateTime, parse_rfc3339};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{
    Config as StreamConfig, DirectGetErrorKind, DiscardPolicy, StorageType,
};
use caldera_rpc::chain::chain;
use caldera_scheduler::Nanos;
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;
use tokio::time::timeout;

use super::{ANSWER_WITHIN, Broker};
use crate::BoxId;
use crate::loan::{Loan, LoanNumber};
use crate::messages::{BODY_MAX, decode_loan, encode_loan};

/// The stream of the bucket.
pub const LOANS: &str = "KV_caldera-loans";

/// Why a loan is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum KeepError {
    /// Perhaps it is.
    #[error("NATS has not confirmed it: see whether its servers are well, and try again")]
    Silent,
    /// Somebody else has written there.
    #[error(
        "NATS keeps a newer loan of this box there: one calderad-fleet runs with a box's name; try again if that was yourself"
    )]
    Changed,
    /// A bucket of another make.
    #[error(
        "NATS stream {LOANS}: expected one with {replicas} replicas in files, as this box would make it, got another: give all boxes of a fleet the same `replicas`, or delete the stream"
    )]
    Stream {
        /// How many servers are to keep a loan.
        replicas: usize,
    },
}

/// Below which a lender's loans stand.
pub fn loans_of(lender: BoxId) -> String {
    format!("$KV.caldera-loans.{:032x}", lender.0)
}

/// What is kept of a pair.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// After what the next one is written.
    last: u64,
    written: Option<DateTime>,
    /// None, or one that was deleted or is not understood.
    loan: Option<Loan>,
}

/// Of what a server says of a stream.
#[derive(Deserialize)]
struct BucketInfo {
    /// What time it is there.
    ts: String,
    state: BucketState,
}

#[derive(Deserialize)]
struct BucketState {
    #[serde(default)]
    subjects: BTreeMap<String, u64>,
}

impl Broker {
    /// What this box has granted, as far as the broker keeps it, with what is left of the terms now.
    pub async fn loans(&self) -> Result<Vec<(BoxId, Loan)>, KeepError> {
        let kept = timeout(4 * ANSWER_WITHIN, self.loans_kept()).await;
        kept.unwrap_or(Err(KeepError::Silent))
    }

    async fn loans_kept(&self) -> Result<Vec<(BoxId, Loan)>, KeepError> {
        self.make_bucket().await?;
        let own = loans_of(self.me);
        let asked = Instant::now();
        let filter = json!({ "subjects_filter": format!("{own}.*") });
        let info = self
            .jetstream
            .request(format!("STREAM.INFO.{LOANS}"), &filter);
        let Ok(Response::Ok(info)) = info.await else {
            return Err(KeepError::Silent);
        };
        let BucketInfo { ts, state } = info;
        let now = parse_rfc3339(&ts).map_err(|_| KeepError::Silent)?;
        let mut loans = Vec::new();
        for subject in state.subjects.keys() {
            let name = subject
                .strip_prefix(&own)
                .and_then(|it| it.strip_prefix('.'));
            let Some(Ok(borrower)) = name.map(|name| u128::from_str_radix(name, 16)) else {
                continue;
            };
            let borrower = BoxId(borrower);
            let entry = self.entry(borrower).await?;
            if let (Some(loan), Some(written)) = (entry.loan, entry.written) {
                // One that was written since then is as long as it says.
                let age = (now - written).whole_nanoseconds().max(0);
                let age = Nanos(u64::try_from(age).unwrap_or(u64::MAX));
                let left = loan.left.since(age);
                loans.push((borrower, Loan { left, ..loan }));
            }
        }
        // It took a while to ask.
        let passed = asked.elapsed().as_nanos();
        let passed = Nanos(u64::try_from(passed).unwrap_or(u64::MAX));
        for (_, loan) in &mut loans {
            loan.left = loan.left.since(passed);
        }
        loans.retain(|(_, loan)| loan.left > Nanos::ZERO);
        Ok(loans)
    }

    /// Has the broker keep a loan, in place of an earlier one of that borrower.
    pub async fn keep_loan(&self, borrower: BoxId, loan: &Loan) -> Result<(), KeepError> {
        let Entry {
            last, loan: kept, ..
        } = self.entry(borrower).await?;
        if kept.is_some_and(|kept| kept.number > loan.number) {
            return Err(KeepError::Changed);
        }
        let message = PublishMessage::build()
            .payload(encode_loan(loan).into())
            .ttl(crate::run::duration(loan.left).max(TTL_MIN))
            .expected_last_subject_sequence(last);
        self.write_loan(borrower, message).await
    }

    /// Has the broker forget a loan. Whether it has, this one or a newer one in its place.
    pub async fn forget_loan(&self, borrower: BoxId, number: LoanNumber) -> bool {
        match self.entry(borrower).await {
            Err(_) => false,
            Ok(Entry {
                last,
                loan: Some(kept),
                ..
            }) if kept.number == number => {
                // What says that it is deleted goes away by itself.
                let message = PublishMessage::build()
                    .header("KV-Operation", "DEL")
                    .ttl(TTL_MIN)
                    .expected_last_subject_sequence(last);
                self.write_loan(borrower, message).await.is_ok()
            }
            Ok(_) => true,
        }
    }

    async fn write_loan(&self, borrower: BoxId, message: PublishMessage) -> Result<(), KeepError> {
        let subject = self.loan_subject(borrower);
        let publish = async { self.jetstream.send_publish(subject, message).await?.await };
        match timeout(ANSWER_WITHIN, publish).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == PublishErrorKind::WrongLastSequence => {
                Err(KeepError::Changed)
            }
            Ok(Err(error)) => {
                tracing::warn!(%borrower, %error, "a loan is not written");
                Err(KeepError::Silent)
            }
            Err(_) => Err(KeepError::Silent),
        }
    }

    async fn entry(&self, borrower: BoxId) -> Result<Entry, KeepError> {
        if !self.is_connected() {
            return Err(KeepError::Silent);
        }
        let stream = self.jetstream.get_stream_no_info(LOANS).await;
        let stream = stream.map_err(|_| KeepError::Silent)?;
        for is_made in [false, true] {
            let read = stream.direct_get_last_for_subject(self.loan_subject(borrower));
            let read = timeout(ANSWER_WITHIN, read).await;
            match read.map_err(|_| KeepError::Silent)? {
                Ok(message) => {
                    let is_deleted = message.headers.get("KV-Operation").is_some();
                    let loan = (!is_deleted).then(|| decode_loan(&message.payload));
                    let loan = loan.transpose().unwrap_or_else(|error| {
                        tracing::warn!(%borrower, error = %chain(&error), "a loan is not understood");
                        None
                    });
                    return Ok(Entry {
                        last: message.sequence,
                        written: Some(message.time),
                        loan,
                    });
                }
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {
                    return Ok(Entry {
                        last: 0,
                        written: None,
                        loan: None,
                    });
                }
                // There may be no bucket.
                Err(_) if !is_made => self.make_bucket().await?,
                Err(_) => break,
            }
        }
        Err(KeepError::Silent)
    }

    /// Has the bucket be there.
    async fn make_bucket(&self) -> Result<(), KeepError> {
        if !self.is_connected() {
            return Err(KeepError::Silent);
        }
        let config = StreamConfig {
            name: LOANS.to_owned(),
            subjects: vec!["$KV.caldera-loans.>".to_owned()],
            storage: StorageType::File,
            num_replicas: self.replicas,
            max_messages_per_subject: 1,
            max_message_size: BODY_MAX as i32,
            discard: DiscardPolicy::New,
            deny_delete: true,
            allow_direct: true,
            allow_message_ttl: true,
            ..StreamConfig::default()
        };
        match timeout(ANSWER_WITHIN, self.jetstream.create_stream(config)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                if let CreateStreamErrorKind::JetStream(error) = error.kind()
                    && error.error_code() == ErrorCode::STREAM_NAME_EXIST
                {
                    let replicas = self.replicas;
                    return Err(KeepError::Stream { replicas });
                }
                tracing::debug!(%error, "the bucket of loans is not there yet");
                Err(KeepError::Silent)
            }
            Err(_) => Err(KeepError::Silent),
        }
    }

    fn loan_subject(&self, borrower: BoxId) -> String {
        format!("{}.{:032x}", loans_of(self.me), borrower.0)
    }
}

/// The shortest that a server takes.
const TTL_MIN: Duration = Duration::from_secs(1);
